"""The limit of `seconds`: one deadline, handed to all that keep it."""

from __future__ import annotations

import time
from math import inf

from cnnscope.errors import RequestError

_DAY = 86400  # seconds


def checked(seconds: float | None) -> float | None:
    """Seconds that something may take; None for no limit.

    Raises:
        RequestError: they are none, or more than a day.
    """
    if seconds is not None and not 0 < seconds <= _DAY:
        raise RequestError(f"seconds {seconds:g}: must be above 0, and at most a day")
    return seconds


class Deadline:
    """A time after which nothing more is begun.

    Args:
        seconds: from now on; None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.end = inf if seconds is None else time.monotonic() + seconds  # by `time.monotonic`

    @property
    def over(self) -> bool:
        """True if there is no time left."""
        return time.monotonic() > self.end

    @property
    def reason(self) -> str:
        """Sentence that names the limit; "" if there is none."""
        if self.seconds is None:
            return ""
        return f"the limit of {self.seconds:g} seconds was reached; give more"
