"""The memory of a real forward on the CPU, measured by torch's allocator and without cnnscope.

torch's profiler writes down every allocation, and the operation inside which it was made. One that
is freed before its operation ends was the kernel's own workspace; the others are tensors, alive
from the end of that operation on. A dispatch mode would not do: where one watches, some functions
(a linear layer on strided memory, attention with a mask, max_pool1d) run other kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves


class Live(NamedTuple):
    """Bytes of one forward; parameters and buffers are in none of them."""

    peak: int  # the largest sum of tensors alive after an operation, the inputs among them
    allocated: int  # of all tensors that it made
    workspace: int  # the largest sum of all that was allocated at once, the inputs included


def live(model: nn.Module, *inputs: Any) -> Live:
    """Run a model on the CPU in eval mode without gradients, and tell what was alive."""
    given = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors(inputs)}
    model.eval()
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with torch.no_grad(), profiler as seen:
        result = model(*inputs)
    roots = seen.profiler.kineto_results.experimental_event_tree()
    events: list[tuple[int, int, int, float]] = []  # when, address, bytes, end of the operation
    for root in roots:
        events += _allocations(root, None, inside=False)
    del result
    return _sums(sorted(events), sum(given.values()))


def live_step(
    model: nn.Module,
    inputs: Any,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Any], Tensor],
    *,
    accumulates: bool = False,
) -> int:
    """The peak of tensors alive in a training step on the CPU, the second of two.

    Parameters, buffers, inputs and what the optimizer keeps are among them.
    """

    def step() -> tuple[Any, Tensor]:
        result = model(*inputs)
        number = loss(result)
        number.backward()
        optimizer.step()
        return result, number

    step()
    if not accumulates:
        optimizer.zero_grad()
    held = [*model.parameters(), *model.buffers(), *inputs]
    held += tensors([dict(state) for state in optimizer.state.values()])
    held += [p.grad for p in model.parameters() if p.grad is not None]
    before = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = step()
    roots = seen.profiler.kineto_results.experimental_event_tree()
    events: list[tuple[int, int, int, float]] = []
    for root in roots:
        events += _allocations(root, None, inside=False)
    del kept
    return _sums(sorted(events), sum(before.values())).peak


def _allocations(
    event: Any, until: int | None, *, inside: bool
) -> Iterator[tuple[int, int, int, float]]:
    """Yield the allocations inside an event: time, address, bytes (negative: freed), end of life.

    Memory that is allocated outside of every function is a Python number wrapped as a tensor.

    Args:
        event: of the profiler.
        until: when the operation around it ends, in ns; None outside of one.
        inside: True within a function of torch.
    """
    fields = event.extra_fields
    if isinstance(fields, torch._C._profiler._ExtraFields_Allocation):
        if inside or fields.alloc_size < 0:
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


def _sums(events: list[tuple[int, int, int, float]], inputs: int) -> Live:
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


def tensors(value: Any) -> Iterator[Tensor]:
    """Every dense tensor in nested containers."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            yield leaf
