"""Memory that no operation makes or frees, so that a dispatch mode does not see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cnnscope.tracing.storages import Storages
from cnnscope.tracing.swaps import swap

_FORWARD_MODE = (
    "forward-mode differentiation frees parts of its formulas inside of operations: the memory "
    "that it needs is not exact"
)


@contextmanager
def watching(current: Callable[[], Storages | None]) -> Iterator[None]:
    """Write down such memory while this lasts.

    The state of the CPU's random numbers is a tensor of 5,056 bytes: `torch.utils.checkpoint` keeps
    one of each call until its backward pass, unless it is told `preserve_rng_state=False`, and
    another while the forward runs again. Storages change their size by `resize_` of their own. In
    forward-mode differentiation what the formulas of derivatives make in between is freed inside of
    an operation, which is not seen: such memory is said not to be exact.

    Args:
        current: who records in this thread, if anybody does.
    """

    def state(original: Callable[[], Tensor]) -> Tensor:
        made, book = original(), current()
        if book is not None:
            book.note_unmade(made)
        return made

    def dual(original: Callable[[], int]) -> int:
        book = current()
        if book is not None:
            book.doubts[_FORWARD_MODE] = "unknown"
        return original()

    with ExitStack() as undo:
        swap(undo, torch.get_rng_state, state)
        swap(undo, torch.random.fork_rng, _forked)
        swap(undo, forward_ad.enter_dual_level, dual)
        undo.enter_context(_resizing(current))
        yield


@contextmanager
def _resizing(current: Callable[[], Storages | None]) -> Iterator[None]:
    """Have storages tell that they are given another size; they inherit the method."""
    kind: Any = torch.UntypedStorage
    if "resize_" in vars(kind):  # of a recorder around this one
        yield
        return
    original = kind.resize_

    def resize_(self: torch.UntypedStorage, *args: Any) -> Any:
        book = current()
        if book is None:
            return original(self, *args)
        return book.resize(self, lambda: original(self, *args))

    kind.resize_ = resize_
    try:
        yield
    finally:
        del kind.resize_


@contextmanager
def _forked(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Fork random numbers on meta too, where torch keeps no state."""
    kept = kwargs.get("device_type") == "meta" and kwargs.get("enabled", True)
    state = torch.get_rng_state() if kept else None
    with original(*args, **kwargs):
        yield
    del state
