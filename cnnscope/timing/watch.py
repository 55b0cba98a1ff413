"""Watch a call: the multiply-accumulates that it computes, and the memory that it keeps.

A model may remember its answers, or return early from its second call on. Its times are then those
of less work than the trace has, and figures that divide the one by the other are false. A model
that keeps what it makes needs more memory with every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch.utils.flop_counter import flop_registry

from cnnscope.timing.loop import Step
from cnnscope.tracing.dispatching import DispatchMode
from cnnscope.tracing.plain import tensors_in

# Weak references to storages, by address: while one is held the address is not used again.
_expired: Callable[[int], bool] = cast("Any", torch.UntypedStorage._expired)
_free: Callable[[int], None] = cast("Any", torch.UntypedStorage._free_weak_ref)
# Operations that compute products and are not counted by torch.
_OPAQUE = ("rnn", "lstm", "gru", "transformer", "multi_head", "mkldnn", "onednn", "quantized")


class Watched(NamedTuple):
    """Work and memory of one call.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products, a backward pass included.
        whole: whether these are all: no operation ran that computes products unseen.
        kept: bytes of what a call makes and the model then keeps, however often it is called.
    """

    macs: int
    whole: bool
    kept: int


def watch(step: Step) -> Watched:
    """Call a step once, and once more if it has left anything behind."""
    first = _Watch()
    second: _Watch | None = None
    try:
        first.call(step)
        if first.left():
            second = _Watch()
            second.call(step)
        grows = second is not None and min(first.left(), second.left())
        return Watched(first.macs, first.whole, int(grows))
    finally:
        first.release()
        if second is not None:
            second.release()


class _Watch(DispatchMode):
    """Count what runs, and hold weak references to what is made."""

    def __init__(self) -> None:
        super().__init__()
        self.macs, self.whole = 0, True
        self._made: dict[int, tuple[int, int]] = {}  # storage: its weak reference and its bytes

    def call(self, step: Step) -> None:
        """One call, whose result is dropped."""
        with self:
            step()

    def left(self) -> int:
        """Bytes of what was made and is alive."""
        return sum(nbytes for address, nbytes in self._made.values() if not _expired(address))

    def release(self) -> None:
        """Let go of the addresses."""
        for address, _ in self._made.values():
            _free(address)
        self._made.clear()

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, counted = str(func), flop_registry.get(getattr(func, "_overloadpacket", None))
        if counted is None and hasattr(func, "decompose"):
            with self:  # in inference mode composite operations arrive whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        made = tuple(tensors_in(result))
        if counted is not None:
            self.macs += int(counted(*args, **kwargs, out_val=result)) // 2
        elif made and (not name.startswith("aten.") or any(part in name for part in _OPAQUE)):
            self.whole = False
        given = {t.untyped_storage()._cdata for t in tensors_in((args, kwargs))}
        for tensor in made:
            raw = tensor.untyped_storage()
            if raw._cdata not in given and raw._cdata not in self._made:
                self._made[raw._cdata] = cast("int", raw._weak_ref()), raw.nbytes()
        return result
