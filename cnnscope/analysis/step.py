"""Memory and multiply-accumulates of a training step: pure functions of its trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
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
    return StepTrace(trace, Step(), end, end, end, {}, {}, accuracy=trace.accuracy)


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

    Weights, their gradients and state belong to the module that holds them, what an operation made
    to the module that ran it, or whose backward pass did.
    """
    trace, where = made.trace, peak(made).operation
    owners = _owners(made)
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for number, (kind, storage) in enumerate(zip(made.kinds(), trace.storages, strict=True)):
        if not storage.born <= where < storage.died:
            continue
        path = owners.get(number)
        if path is None and storage.born >= 0:
            path = made.path(storage.born)
        if path is not None:
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


def unregistered(made: StepTrace, *, viewed: bool = True) -> dict[int, int]:
    """Storages that a model reads and has not registered, which are older than a step: bytes.

    Args:
        made: the step.
        viewed: with those of which an operation up to the peak returns a view.
    """
    trace, where = made.trace, peak(made).operation
    held = {trace.tensors[t].storage for t in (*trace.inputs, *made.targets)}
    held |= {trace.tensors[param.tensor].storage for param in trace.params}
    if not viewed:
        seen = (t for record in trace.ops[: where + 1] for t in record.outputs)
        held |= {trace.tensors[t].storage for t in seen}
    return {
        number: storage.nbytes
        for number, (kind, storage) in enumerate(zip(made.kinds(), trace.storages, strict=True))
        if storage.born < 0 and number not in held and kind in ("input", "weight", "buffer")
    }


def events(made: StepTrace) -> tuple[StepEvent, ...]:
    """Every operation of the step, with the bytes that are alive after it."""
    trace = made.trace
    sums = live(trace)[1:]
    return tuple(
        StepEvent(record.name, made.phase(number), made.path(number), live)
        for number, (record, live) in enumerate(zip(trace.ops, sums, strict=True))
    )


def macs(made: StepTrace) -> StepMacs:
    """Multiply-accumulates of each phase, by the operations that ran."""
    each = [table.macs(made.trace, record) for record in made.trace.ops]
    counted = {"forward": 0, "backward": 0, "step": 0}
    for number, those in enumerate(each):
        counted[made.phase(number)] += those
    return StepMacs(**counted, recomputed=sum(sum(each[a:b]) for a, b in made.again))


def unknown(made: StepTrace) -> tuple[str, ...]:
    """Operations that multiply matrices for all that is known: no formula of them is there.

    Backward operations of element-wise functions, norms and pools have no products, nor has what
    an optimizer does.
    """
    found = {}
    for number, record in enumerate(made.trace.ops[: made.update]):
        if table.lookup(record.name).kind is table.Kind.UNKNOWN:
            may = number < made.backward or _may_multiply(record.name)
            found[record.name] = may
    return tuple(sorted(name for name, may in found.items() if may))


def _may_multiply(name: str) -> bool:
    """Return True unless an operation of the backward pass is known to have no products."""
    forward = table.lookup(name.replace("_backward", "").replace("._", "."))
    if forward.kind is not table.Kind.UNKNOWN:
        return forward.multiplies
    return not name.startswith("aten.") or any(
        word in name for word in ("convolution", "attention", "rnn")
    )


# ------------------------------------------------------------------------ caching allocator


class Reserved(NamedTuple):
    """What the caching allocator makes of the steps: most in blocks, and all in segments."""

    allocated: int
    reserved: int


class Course(NamedTuple):
    """What two steps ask the allocator for.

    Attributes:
        kinds: of each storage.
        sizes: bytes that CUDA's kernels keep in each.
        lives: the operation that makes each (-1: there before), and that before which it is freed.
        update: the first operation of the optimizer.
        end: the number of operations.
    """

    kinds: tuple[Kind, ...]
    sizes: tuple[int, ...]
    lives: tuple[tuple[int, int], ...]
    update: int
    end: int


def course(made: StepTrace, *, workspace: bool = True) -> Course:
    """The course of a step on CUDA.

    Args:
        made: the step.
        workspace: with what kernels ask for and give back.
    """
    trace, kinds = made.trace, made.kinds()
    storages = cuda.storages(trace)
    if workspace:
        ends = cuda.workspaces(trace)
        storages += [StorageRecord(nbytes, number, number + 1) for number, nbytes in ends]
    temporary: Kind = "temporary"
    added = (temporary,) * (len(storages) - len(kinds))
    sizes = tuple(storage.nbytes for storage in storages)
    lives = tuple((storage.born, storage.died) for storage in storages)
    return Course((*kinds, *added), sizes, lives, made.update, len(trace.ops))


def replayed(made: StepTrace, *, workspace: bool = True) -> Reserved:
    """What the allocator makes of a step: see `replay`."""
    return replay(course(made, workspace=workspace))


def replay(steps: Course) -> Reserved:
    """Two steps one after the other on the allocator: the first one makes the optimizer's state.

    Requests are made in the order in which storages are born; what dies before an operation is
    freed before it. `allocated` is of the second step.
    """
    allocator, sizes = Allocator(), steps.sizes
    for number, kind in enumerate(steps.kinds):
        if kind in _LASTING:
            allocator.allocate(number, sizes[number])
    for number, (born, _) in enumerate(steps.lives):
        if born < 0 and steps.kinds[number] not in ("optimizer state", *_LASTING):
            allocator.allocate(number, sizes[number])
    for first in (True, False):
        allocator.peak = allocator.allocated
        _replay(allocator, steps, first=first)
    return Reserved(allocator.peak, allocator.reserved)


def _replay(allocator: Allocator, steps: Course, *, first: bool) -> None:
    """One step; afterwards all that it made is freed, as a loop that goes on does."""
    for operation, born, died in _turns(steps.lives, steps.update, steps.end):
        for number in died:
            allocator.free(number)
        if first and operation == steps.update:
            for number, kind in enumerate(steps.kinds):
                if kind == "optimizer state":
                    allocator.allocate(number, steps.sizes[number])
        for number in born:
            allocator.allocate(number, steps.sizes[number])
    for number, (begin, _) in enumerate(steps.lives):
        if begin >= 0:
            allocator.free(number)


@lru_cache(maxsize=4)  # of one step many batches are asked for
def _turns(
    lives: tuple[tuple[int, int], ...], update: int, end: int
) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
    """Operations with the storages that they make, and those that die before them."""
    born: dict[int, list[int]] = defaultdict(list)
    died: dict[int, list[int]] = defaultdict(list)
    for number, (begin, until) in enumerate(lives):
        if begin >= 0:
            born[begin].append(number)
            died[until].append(number)
    turns = sorted({*born, *died, update})
    return tuple((one, tuple(born[one]), tuple(died[one])) for one in turns if one < end)
