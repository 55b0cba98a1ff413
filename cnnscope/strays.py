"""Name what a model runs and does not register: layers and weights in lists, dicts, closures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

_DEPTH = 4  # levels of lists, dicts and closures that are looked into
_MOST = 10_000  # things that are looked at in all


class Names:
    """Where the modules of a model hold what they do not register: paths by identity.

    `ls.0` is the first of a plain list `ls`, `d.h` what a dict `d` has under "h"; what a function
    remembers is named after its variable.
    """

    def __init__(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        self._found: dict[int, str] = {}
        self._left = _MOST
        for path, module in modules:
            for name, value in vars(module).items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    self._look(value, f"{path}.{name}".lstrip("."), _DEPTH)
            forward = getattr(module.forward, "__func__", module.forward)
            self._look(forward, path, 1)

    def of(self, thing: Any) -> str:
        """The path of a module or tensor, "" where nothing that was looked into holds it."""
        return self._found.get(id(thing), "")

    def _look(self, value: Any, path: str, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            return
        if isinstance(value, (nn.Module, Tensor)):
            self._found.setdefault(id(value), path)
        if isinstance(value, nn.Module):
            for name, child in value.named_modules():
                self._found.setdefault(id(child), f"{path}.{name}".rstrip("."))
        elif depth:
            for name, item in _held(value):
                self._look(item, f"{path}.{name}".strip("."), depth - 1)


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container, a function or a small object holds."""
    if isinstance(value, (list, tuple)):
        yield from ((str(i), item) for i, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__, strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not yet filled
                continue
    elif hasattr(value, "__wrapped__"):
        yield "", value.__wrapped__
    elif hasattr(value, "func") and hasattr(value, "args"):  # a partial
        yield "", value.func
        yield from ((str(i), item) for i, item in enumerate(value.args))
