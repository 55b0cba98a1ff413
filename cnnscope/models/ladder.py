"""The ladder of fallbacks: without data, without data but with known values, with real tensors.

A model is built and run on the first rung. Where its constructor or its forward asks for data that
the rung does not have, the next rung is tried; how that is done is in `build.py` and `run.py`.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnnscope.tracing.values import KnownValues


class Rung(Enum):
    """One way to build and run a model."""

    META = "tensors without data"
    VALUES = "tensors without data, beside the values that are known"
    REAL = "real tensors: random weights and inputs of a fixed seed"

    @property
    def device(self) -> str:
        """The device of weights and inputs."""
        return "cpu" if self is Rung.REAL else "meta"


class Ladder(NamedTuple):
    """The rungs of a kind of model, in the order in which they are tried.

    Attributes:
        rungs: a library's model is never run for real: at its own limits a detector needs no data.
        own: whether the code is the user's. Nothing is assumed then about what a network answers
            (`constants_only` of `KnownValues`), and code that checks a device asks for data.
        computes: names of the operations that may run on known values; None for all.
    """

    rungs: tuple[Rung, ...] = (Rung.META, Rung.VALUES)
    own: bool = False
    computes: frozenset[str] | None = None

    def below(self, rung: Rung) -> tuple[Rung, ...]:
        """The rungs that are tried after this one."""
        after = self.rungs.index(rung) + 1 if rung in self.rungs else len(self.rungs)
        return self.rungs[after:]

    def known_values(self) -> KnownValues:
        """The values that are followed on `Rung.VALUES`."""
        from cnnscope.tracing.values import KnownValues

        return KnownValues(constants_only=self.own, computes=self.computes)

    @contextmanager
    def building(self, rung: Rung) -> Iterator[KnownValues | None]:
        """Have a constructor make its tensors on a rung; gives the values that it may ask for."""
        import torch

        from cnnscope.tracing import devices
        from cnnscope.tracing.values import same_device

        with ExitStack() as stack:
            stack.enter_context(devices.at(rung.device))
            values = self.known_values() if rung is Rung.VALUES else None
            if rung is not Rung.REAL:
                stack.enter_context(torch.device(rung.device))
                if values is not None:
                    stack.enter_context(values)
                stack.enter_context(same_device())
            yield values


LIBRARY = Ladder()
OWN = Ladder((Rung.META, Rung.VALUES, Rung.REAL), own=True)
