"""Memory of a real run on the CPU, by the allocation events of torch's profiler.

The profiler writes down every allocation, and the operation inside which it was made. One that is
freed before its operation ends was the kernel's own workspace; the others are tensors, alive from
the end of that operation on. A dispatch mode changes what it measures: where one watches, some
functions (a linear layer on strided memory, attention with a mask, max_pool1d) run other kernels,
and gradients are added up out of place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Event = tuple[int, int, int, float]  # when, address, bytes (< 0: freed), end of the operation
_NUMBER = 16  # bytes of the largest Python number, a complex one
_QUIET = "99"  # a level of Kineto's log above all of its messages


class Live(NamedTuple):
    """Bytes of one run.

    Attributes:
        peak: the largest sum of tensors alive after an operation, what was held among them.
        allocated: of all tensors that it made.
        workspace: the largest sum of all that was allocated at once, what was held included.
    """

    peak: int
    allocated: int
    workspace: int


def live(run: Callable[[], Any], held: Iterable[Tensor]) -> Live:
    """Run something on the CPU, and return what was alive.

    Args:
        run: it returns what its caller keeps.
        held: tensors that are there before and afterwards.
    """
    before = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = run()
    profiler: Any = seen.profiler
    events: list[Event] = []
    for root in profiler.kineto_results.experimental_event_tree():
        events += _allocations(root, None, inside=False)
    del kept
    return _sums(sorted(events), sum(before.values()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Kineto from writing to the standard streams, which nothing in Python can redirect."""
    before = os.environ.get("KINETO_LOG_LEVEL")
    os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
    try:
        yield
    finally:
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]


def _allocations(event: Any, until: int | None, *, inside: bool) -> Iterator[Event]:
    """Yield the allocations inside an event.

    A few bytes that are allocated outside of every function are a Python number wrapped as a
    tensor; many are a tensor that no operation makes, as the state of random numbers.

    Args:
        event: of the profiler.
        until: when the operation around it ends, in ns; None outside of one.
        inside: True within a function of torch.
    """
    fields = event.extra_fields
    if isinstance(fields, torch._C._profiler._ExtraFields_Allocation):
        if inside or fields.alloc_size < 0 or fields.alloc_size > _NUMBER:
            ends = event.start_time_ns if until is None else until
            yield event.start_time_ns, fields.ptr, fields.alloc_size, ends
        return
    function = "::" in event.name
    if until is None and function and not _is_composite(event.name):
        until = event.end_time_ns
    for child in event.children:
        yield from _allocations(child, until, inside=inside or function)


@cache
def _is_composite(name: str) -> bool:
    """Return True for a function that torch makes of others: tensors between these are tensors.

    A node of the backward pass is one ("autograd::engine::evaluate_function: ...", and
    "torch::autograd::AccumulateGrad" inside it).
    """
    if name.startswith(("autograd::", "torch::")):
        return True
    packet = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
    if packet is None or not name.startswith("aten::"):
        return False
    names = [n for n in packet.overloads() if "out" not in n and "name" not in n]
    full = [name if n == "default" else f"{name}.{n}" for n in names]
    full = [n for n in full if torch._C._dispatch_has_kernel(n)]  # not those of TorchScript alone
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(full) and all(has(n, "CompositeImplicitAutograd") for n in full)


def _sums(events: list[Event], inputs: int) -> Live:
    """The sums over time; events are in order."""
    held: dict[int, tuple[int, float]] = {}  # address -> bytes, when it is a tensor for certain
    changes: list[tuple[float, int, int]] = []  # when, order at one time, bytes
    total = most = inputs
    allocated = 0
    for when, address, nbytes, ends in events:
        if nbytes > 0:
            held[address] = nbytes, ends
            total += nbytes
            most = max(most, total)
            continue
        size, tensor_from = held.pop(address, (0, float("inf")))
        total -= size
        if when > tensor_from:
            changes += [(tensor_from, 1, size), (when, 0, -size)]
            allocated += size
    changes += [(start, 1, size) for size, start in held.values()]
    allocated += sum(size for size, _ in held.values())
    alive = peak = inputs
    for _, _, nbytes in sorted(changes):
        alive += nbytes
        peak = max(peak, alive)
    return Live(peak, allocated, most)
