"""Let forwards under torch.autocast run on tensors without data, where it has no effect."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

NOTE = (
    "it runs under torch.autocast, which does nothing without data: data types and memory are "
    "those without it"
)
_ASKED = ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_enabled", "set_autocast_dtype")


@contextmanager
def autocast_on_meta() -> Iterator[list[str]]:
    """Take the meta device for the CPU in what concerns autocast: `torch.autocast(x.device.type)`.

    Yields:
        A list that has `NOTE` once an autocast was entered that is not switched off.
    """
    kind: Any = torch.autocast
    notes: list[str] = []
    init, enter = kind.__init__, kind.__enter__
    functions = {name: getattr(torch, name) for name in _ASKED}

    def created(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, _real(device_type), *args, **kwargs)
        self.is_wanted = kwargs.get("enabled", (*args, True, True)[1])

    def entered(self: Any) -> Any:
        if getattr(self, "is_wanted", self._enabled) and NOTE not in notes:
            notes.append(NOTE)
        return enter(self)

    try:
        kind.__init__, kind.__enter__ = created, entered
        for name, function in functions.items():
            setattr(torch, name, functools.partial(_asked, function))
        yield notes
    finally:
        kind.__init__, kind.__enter__ = init, enter
        for name, function in functions.items():
            setattr(torch, name, function)


def _asked(function: Callable[..., Any], *args: Any) -> Any:
    return function(*map(_real, args))


def _real(device: Any) -> Any:
    return "cpu" if device == "meta" else device
