"""Memory and multiply-accumulates of a training step: pure functions of its trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cnnscope.analysis import cuda, memory
from cnnscope.analysis.allocator import Allocator
from cnnscope.analysis.memo import per_trace
from cnnscope.ops import table
from cnnscope.records.memory import KindMemory, LayerMemory, StepEvent, StepMacs
from cnnscope.records.step import KINDS, Kind, Step, StepTrace
from cnnscope.records.trace import StorageRecord, Trace

_LASTING = ("weight", "buffer")  # there before the first of all steps
_PARTS: Mapping[Kind, str] = {  # fields of `LayerMemory`
    "weight": "weights",
    "buffer": "weights",
    "gradient": "gradients",
    "optimizer state": "state",
    "saved": "saved",
}


class Peak(NamedTuple):
    """The largest sum of living tensors, and the operation after which it is reached (-1: none)."""

    nbytes: int
    operation: int


@per_trace
def live(trace: Trace) -> tuple[int, ...]:
    """Bytes of all tensors that are alive, before the step and after each operation."""
    return memory.alive(trace.storages, len(trace.ops))


def peak(made: StepTrace) -> Peak:
    """The peak of tensors; of several equal ones the first."""
    sums = live(made.trace)
    most = max(sums)
    return Peak(most, sums.index(most) - 1)


def inference(trace: Trace) -> StepTrace:
    """A forward as a step without a backward pass."""
    end = len(trace.ops)
    return StepTrace(trace, Step(), end, end, end, {}, {})


def by_kind(made: StepTrace) -> tuple[KindMemory, ...]:
    """The bytes of each kind of tensors over the step, of the kinds that there are."""
    trace, where = made.trace, peak(made).operation
    storages: dict[Kind, list[StorageRecord]] = {kind: [] for kind in KINDS}
    for kind, storage in zip(made.kinds(), trace.storages, strict=True):
        storages[kind].append(storage)
    found = []
    for kind, those in storages.items():
        timeline = memory.alive(those, len(trace.ops))
        if any(timeline):
            found.append(KindMemory(kind, timeline[where + 1], max(timeline), timeline))
    return tuple(found)


def by_layer(made: StepTrace) -> tuple[LayerMemory, ...]:
    """The bytes that each layer owns at the peak, the most first.

    Weights, their gradients and state belong to the module that holds them, what a forward made to
    the module that ran the operation.
    """
    trace, where = made.trace, peak(made).operation
    owners = _owners(made)
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for number, (kind, storage) in enumerate(zip(made.kinds(), trace.storages, strict=True)):
        path = owners.get(number)
        if path is None and 0 <= storage.born < made.backward:
            path = trace.index.path(trace.ops[storage.born])
        if path is not None and storage.born <= where < storage.died:
            found[path][_PARTS.get(kind, "other")] += storage.nbytes
    layers = (LayerMemory(path, **parts) for path, parts in found.items() if any(parts.values()))
    return tuple(sorted(layers, key=lambda layer: -layer.total))


def _owners(made: StepTrace) -> dict[int, str]:
    """The module that holds what lies in a storage: a weight, its gradient or state."""
    trace = made.trace
    held = [(param.path, param.tensor) for param in (*trace.params, *trace.strays)]
    held += made.gradients.items()
    held += [(path, tensor) for path, kept in made.state.items() for tensor in kept]
    return {trace.tensors[tensor].storage: path.rpartition(".")[0] for path, tensor in held}


def events(made: StepTrace) -> tuple[StepEvent, ...]:
    """Every operation of the step, with the bytes that are alive after it."""
    trace = made.trace
    sums = live(trace)[1:]
    return tuple(
        StepEvent(record.name, made.phase(number), trace.index.path(record), live)
        for number, (record, live) in enumerate(zip(trace.ops, sums, strict=True))
    )


def macs(made: StepTrace) -> StepMacs:
    """Multiply-accumulates of each phase, by the operations that ran."""
    counted = {"forward": 0, "backward": 0, "step": 0, "recomputed": 0}
    for number, record in enumerate(made.trace.ops):
        phase, those = made.phase(number), table.macs(made.trace, record)
        counted[phase] += those
        if phase == "backward" and record.call >= 0:  # autograd's own belong to no call
            counted["recomputed"] += those
    return StepMacs(**counted)


def unknown(made: StepTrace) -> tuple[str, ...]:
    """Operations that multiply matrices for all that is known: no formula of them is there.

    Backward operations of element-wise functions, norms and pools have no products.
    """
    names = {record.name for record in made.trace.ops[made.backward :]}
    suspects = (n for n in names if any(word in n for word in ("convolution", "attention", "rnn")))
    return tuple(sorted(n for n in suspects if not table.lookup(n).multiplies))


# ------------------------------------------------------------------------ caching allocator


class Reserved(NamedTuple):
    """What the caching allocator makes of the steps: most in blocks, and all in segments."""

    allocated: int
    reserved: int


def replayed(made: StepTrace) -> Reserved:
    """Two steps one after the other on the allocator: the first one makes the optimizer's state.

    Requests are made in the order in which storages are born; what dies before an operation is
    freed before it. `allocated` is of the second step. Storages have the bytes that CUDA's kernels
    keep.
    """
    allocator, trace = Allocator(), made.trace
    kinds, sizes = made.kinds(), cuda.sizes(made.trace)
    for number, kind in enumerate(kinds):
        if kind in _LASTING:
            allocator.allocate(number, sizes[number])
    for number, storage in enumerate(trace.storages):
        if storage.born < 0 and kinds[number] not in ("optimizer state", *_LASTING):
            allocator.allocate(number, sizes[number])
    for first in (True, False):
        allocator.peak = allocator.allocated
        _replay(allocator, made, kinds, sizes, first=first)
    return Reserved(allocator.peak, allocator.reserved)


def _replay(
    allocator: Allocator,
    made: StepTrace,
    kinds: tuple[Kind, ...],
    sizes: Sequence[int],
    *,
    first: bool,
) -> None:
    """One step; afterwards all that it made is freed, as a loop that goes on does."""
    for operation, born, died in _turns(made.trace.storages, len(made.trace.ops)):
        for number in died:
            allocator.free(number)
        if first and operation == made.update:
            for number, kind in enumerate(kinds):
                if kind == "optimizer state":
                    allocator.allocate(number, sizes[number])
        for number in born:
            allocator.allocate(number, sizes[number])
    for number, storage in enumerate(made.trace.storages):
        if storage.born >= 0:
            allocator.free(number)


def _turns(
    storages: tuple[StorageRecord, ...], operations: int
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Each operation with the storages that it makes, and those that die before it."""
    born: dict[int, list[int]] = defaultdict(list)
    died: dict[int, list[int]] = defaultdict(list)
    for number, storage in enumerate(storages):
        if storage.born >= 0:
            born[storage.born].append(number)
            died[storage.died].append(number)
    for operation in range(operations):
        yield operation, born[operation], died[operation]
