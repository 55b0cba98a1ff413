"""Keeps torch from importing its compiler for a run on the meta device.

The meta kernel of a matrix product imports `torch._dynamo` on first use, for `disable`, which is
nothing where nothing is compiled: 110 MB and seconds. While `light()` lasts, a stand-in offers
that one function; whoever asks it for anything else is given the real module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"


class _StandIn(ModuleType):
    def __init__(self) -> None:
        super().__init__(_NAME)
        self.disabled: list[Any] = []

    def disable(self, fn: Any, *_: Any, **__: Any) -> Any:
        """What `torch._disable_dynamo` asks for, and remembers in the function itself."""
        self.disabled.append(fn)
        return fn

    def __getattr__(self, name: str) -> Any:
        # Any module is asked for its `__file__` and the like; `import torch._dynamo.config` for
        # its `__path__`.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)


@contextmanager
def light() -> Iterator[None]:
    """Stand in for `torch._dynamo`, unless it is there already."""
    if _NAME in sys.modules:
        yield
        return
    module = sys.modules[_NAME] = _StandIn()
    try:
        yield
    finally:
        if sys.modules.get(_NAME) is module:
            del sys.modules[_NAME]
        for function in module.disabled:  # the real one is to be asked the next time
            vars(function).pop("__dynamo_disable", None)
