"""Options of commands that time models beside their costs.

Annotations are evaluated here, as in `options`.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from cnnscope.cli import options


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Timed(options.Options):
    """A command that can time what its rows describe."""

    time: Annotated[
        bool, options.MEASUREMENT("--time", "Measure each on this machine as well, in turns.")
    ] = False
    device: Annotated[
        str | None,
        options.MEASUREMENT(
            "--device cpu|cuda[:N]|mps|auto",
            "Measure on this device, as in --device cuda. Left out, cpu.",
        ),
    ] = None
    seconds: Annotated[
        float | None,
        options.MEASUREMENT(
            "--seconds S", "Measure each for S seconds, as in --seconds 5. Left out, 1."
        ),
    ] = None

    def measured(self) -> dict[str, Any]:
        """These options as arguments of a function of the interface.

        Raises:
            RequestError: one was given without --time.
        """
        if not self.time:
            options.refuse({"--device": self.device, "--seconds": self.seconds}, "it needs --time")
        given = {"device": self.device, "seconds": self.seconds}
        return {"time": self.time} | {n: one for n, one in given.items() if one is not None}
