"""Find the module that calls itself without end, in the stack of a `RecursionError`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

from torch import nn

_OF_OTHERS = ("torch", "cnnscope")  # whose frames stand between two calls of the user's code
_AGAIN = 3  # a function that stands so often in the stack, with one module, calls itself


class Loop(NamedTuple):
    """Function that calls itself.

    Attributes:
        module: the module whose method it is, or that called the function; None outside of all.
        name: of the method or function.
        through: the other modules on the way back to it.
    """

    module: nn.Module | None
    name: str
    through: tuple[nn.Module, ...]


def loop(error: BaseException) -> Loop | None:
    """Return what called itself until the stack was full; None where nothing did."""
    frames = list(_frames(error))
    counts = Counter((id(owner), code) for owner, code in frames)
    most = max(counts.values(), default=0)
    if most < _AGAIN:
        return None
    # Functions that call each other are there equally often, or once more: the first is meant.
    places = [i for i, (owner, code) in enumerate(frames) if counts[id(owner), code] >= most - 1]
    first, code = frames[places[0]]
    again = next(i for i in places[1:] if frames[i][0] is first and frames[i][1] is code)
    between = {id(owner): owner for owner, _ in frames[places[0] : again] if owner is not None}
    between.pop(id(first), None)
    callers = [owner for owner, _ in frames[: places[0] + 1] if owner is not None]
    return Loop(callers[-1] if callers else None, code.co_name, tuple(between.values()))


def _frames(error: BaseException) -> Iterator[tuple[nn.Module | None, CodeType]]:
    """Functions that were running, the outermost first, each with the module it is a method of."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in _OF_OTHERS:
            yield _owner(frame), frame.f_code
        trace = trace.tb_next


def _owner(frame: FrameType) -> nn.Module | None:
    """The first argument of a method, if it is a module."""
    code = frame.f_code
    first: Any = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return first if isinstance(first, nn.Module) else None
