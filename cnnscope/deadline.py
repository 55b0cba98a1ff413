"""How long a command may take, as the user asked for it: one limit, handed to all that keep it."""

from __future__ import annotations

import time
from math import inf


class Deadline:
    """When nothing more is begun.

    Args:
        seconds: from now on; None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.end = inf if seconds is None else time.monotonic() + seconds  # by `time.monotonic`

    @property
    def over(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() > self.end

    @property
    def reason(self) -> str:
        """Why something was not done: the limit, in the words of the command line."""
        if self.seconds is None:
            return ""
        return f"the limit of --seconds {self.seconds:g} was reached; give more"
