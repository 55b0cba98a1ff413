"""Name what a model runs and does not register: layers and weights in lists, dicts, closures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ref

from torch import Tensor, nn

_DEPTH = 4  # levels of lists, dicts and closures that are looked into
_MOST = 10_000  # things that are looked at in all


class Names:
    """Paths, by identity, of what the modules of a model hold without registering it.

    `ls.0` is the first of a plain list `ls`, `d.h` what a dict `d` has under "h"; what a function
    remembers is named after its variable.
    """

    def __init__(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        # Weak, so that nothing lives longer for it; a thing that died may have lent another its id.
        self._found: dict[int, tuple[ref[Any], str]] = {}
        self._left = _MOST
        self._files: set[int] = set()
        for path, module in modules:
            for name, value in vars(module).items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    self._look(value, f"{path}.{name}".lstrip("."), _DEPTH)
            forward = getattr(module.forward, "__func__", module.forward)
            self._look(forward, path, 1)
            self._look_around(forward)

    def of(self, thing: Any) -> str:
        """The path of a module or tensor, "" where nothing that was looked into holds it."""
        known = self._found.get(id(thing))
        return known[1] if known is not None and known[0]() is thing else ""

    def _name(self, thing: nn.Module | Tensor, path: str) -> None:
        """Keep the first name of a thing."""
        if not self.of(thing):
            self._found[id(thing)] = ref(thing), path

    def _look_around(self, forward: Any) -> None:
        """At what the file of a forward holds under a name of its own."""
        around = getattr(forward, "__globals__", {})
        if id(around) in self._files:
            return
        self._files.add(id(around))
        for name, value in around.items():
            if isinstance(value, (nn.Module, Tensor, list, dict)) and not name.startswith("__"):
                self._look(value, name, 2)

    def _look(self, value: Any, path: str, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            return
        if isinstance(value, (nn.Module, Tensor)):
            self._name(value, path)
        if isinstance(value, nn.Module):
            for name, child in value.named_modules():
                self._name(child, f"{path}.{name}".rstrip("."))
        elif depth:
            for name, item in _held(value):
                if self._left < 0:  # not all of a list that has no end
                    return
                self._look(item, f"{path}.{name}".strip("."), depth - 1)


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """Items of a container, a function or a small object."""
    if isinstance(value, (list, tuple)):
        yield from ((str(i), item) for i, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, FunctionType):
        yield from _remembered(value)
    elif isinstance(value, partial):
        yield "", value.func
        yield from ((str(i), item) for i, item in enumerate(value.args))
        yield from value.keywords.items()
    elif isinstance(value, MethodType):
        yield "", value.__self__
    elif not isinstance(value, (type, ModuleType)):
        yield from getattr(value, "__dict__", {}).items()


def _remembered(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Closure and defaults of a function, and the function that it wraps."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet filled
            continue
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from zip(names[len(names) - len(defaults) :], defaults, strict=True)
    if hasattr(function, "__wrapped__"):
        yield "", function.__wrapped__
