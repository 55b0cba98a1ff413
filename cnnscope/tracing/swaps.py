"""Replace functions of other packages for a while, in one thread.

The *code* of a function is exchanged and not its name, so that modules which have imported it
(`from torch.hub import load_state_dict_from_url`) call the stand-in too, and none keeps it for
longer than it lasts. What is made in C is exchanged by name.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import CodeType, FunctionType
from typing import Any

from cnnscope.files import PACKAGE

_MARK = "what is called instead"
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")

StandIn = Callable[..., Any]  # called with the original function and its arguments


def swap(undo: ExitStack, function: Any, stand_in: StandIn) -> None:
    """Have a function of Python call `stand_in(original, ...)` in this thread until `undo` closes.

    Raises:
        TypeError: it is no function of Python.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"{function!r} has no code")
    code, given = function.__code__, (function.__defaults__, function.__kwdefaults__)
    original = FunctionType(
        code, function.__globals__, function.__name__, given[0], function.__closure__
    )
    original.__kwdefaults__ = given[1]
    undo.callback(_put_back, function, code, given)
    function.__defaults__ = function.__kwdefaults__ = None
    function.__code__ = _calling(_Chosen(original, stand_in), code.co_freevars)


def swap_all(undo: ExitStack, place: Any, stand_ins: Mapping[str, StandIn]) -> None:
    """Swap functions of a module, or methods of a class, as far as this release has them."""
    for name, stand_in in stand_ins.items():
        function = getattr(place, name, None)
        if isinstance(function, FunctionType):
            swap(undo, function, stand_in)
        elif function is not None:
            swap_name(undo, place, name, stand_in)


def swap_name(undo: ExitStack, place: Any, name: str, stand_in: StandIn) -> None:
    """The same for what is made in C, or remembers its answers: by name.

    Whoever keeps the stand-in for longer, as a module of torch's that is imported meanwhile, has
    the original by it.
    """
    before = getattr(place, name)
    chosen = _Chosen(before, stand_in)
    undo.callback(chosen.end)
    made = _class_of(before, chosen) if isinstance(before, type) else chosen
    undo.callback(_put_name_back, place, name, made, before)
    setattr(place, name, made)


class _Chosen:
    """Calls a stand-in in one thread, and the original in others and afterwards."""

    def __init__(self, original: Callable[..., Any], stand_in: StandIn) -> None:
        self._original, self._stand_in = original, stand_in
        self._thread: int | None = threading.get_ident()
        self.__wrapped__ = original

    def end(self) -> None:
        """Call the original from now on."""
        self._thread = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._original(*args, **kwargs)
        return self._stand_in(self._original, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _class_of(original: Any, chosen: _Chosen) -> type:
    """A class in the place of another, whose instances, children and attributes are its own."""

    class Kind(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return chosen(*args, **kwargs)

        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, original)

        def __subclasscheck__(cls, kind: type) -> bool:
            return kind is cls or issubclass(kind, original)

        def __getattr__(cls, name: str) -> Any:
            return getattr(original, name)

    return Kind(original.__name__, (), {"__module__": original.__module__})


def imports_a_library() -> bool:
    """Return True if an installed package is being imported, which may keep what it is told."""
    at: Any = sys._getframe(1)
    while at is not None and at.f_code.co_filename.startswith(PACKAGE):  # the stand-in
        at = at.f_back
    while at is not None and not at.f_code.co_filename.startswith(PACKAGE):
        code, at = at.f_code, at.f_back
        if code.co_name == "<module>" and at is not None and "importlib" in at.f_code.co_filename:
            return any(folder in code.co_filename for folder in _LIBRARY_FOLDERS)
    return False


def _template(*args: Any, **kwargs: Any) -> Any:
    instead: Any = "what is called instead"
    return instead(*args, **kwargs)


def _calling(target: Callable[..., Any], free: tuple[str, ...]) -> CodeType:
    """Code that calls a function, which it holds as a constant, for a function of a closure."""
    code = _template.__code__
    consts = tuple(target if const == _MARK else const for const in code.co_consts)
    return code.replace(co_consts=consts, co_freevars=free)


def _put_name_back(place: Any, name: str, made: Any, before: Any) -> None:
    """Give an attribute its value back, unless somebody else has given it another."""
    if getattr(place, name) is made:
        setattr(place, name, before)


def _put_back(function: Any, code: CodeType, given: tuple[Any, Any]) -> None:
    function.__code__ = code
    function.__defaults__, function.__kwdefaults__ = given
