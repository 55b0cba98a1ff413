"""Exceptions of this package, each with its exit code."""

from collections.abc import Sequence
from typing import Any, Self


class CnnscopeError(Exception):
    """A failure with a message for the user: the request, the fault, the remedy.

    Attributes:
        lines: of Python that the user may write, shown below the message.
    """

    exit_code = 2
    lines: tuple[str, ...] = ()

    def with_lines(self, lines: Sequence[str]) -> Self:
        """The same error with lines to write, which a traceback in Python shows as well."""
        self.lines = tuple(lines)
        self.__notes__ = ["\n".join(f"    {line}" for line in lines)] if lines else []
        return self


class RequestError(CnnscopeError):
    """The request is wrong: an unknown model, a malformed input, an unusable option."""

    exit_code = 2


class UnknownModelError(RequestError):
    """No library has a model of that name."""


class NoBlocksError(RequestError):
    """Blocks that repeat were asked for, and the network has none."""


class ModelError(CnnscopeError):
    """The model failed to build or to run.

    Attributes:
        trace: what ran before the forward raised, a `cnnscope.Trace`; None where no forward began.
        report: the summary of it, a `cnnscope.Report`; None where `trace` is.
    """

    exit_code = 3
    trace: Any = None
    report: Any = None
