"""Memory that no operation makes or frees, so that a dispatch mode does not see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from cnnscope.tracing.storages import Storages
from cnnscope.tracing.swaps import swap


@contextmanager
def watching(current: Callable[[], Storages | None]) -> Iterator[None]:
    """Write down such memory while this lasts.

    The state of the CPU's random numbers is a tensor of 5,056 bytes: `torch.utils.checkpoint` keeps
    one of each call until its backward pass, unless it is told `preserve_rng_state=False`, and
    another while the forward runs again.

    Args:
        current: who records in this thread, if anybody does.
    """

    def state(original: Callable[[], Tensor]) -> Tensor:
        made, book = original(), current()
        if book is not None:
            book.note_unmade(made)
        return made

    with ExitStack() as undo:
        swap(undo, torch.get_rng_state, state)
        swap(undo, torch.random.fork_rng, _forked)
        yield


@contextmanager
def _forked(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Fork random numbers on meta too, where torch keeps no state."""
    kept = kwargs.get("device_type") == "meta" and kwargs.get("enabled", True)
    state = torch.get_rng_state() if kept else None
    with original(*args, **kwargs):
        yield
    del state
