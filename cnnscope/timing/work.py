"""Work of a forward by its trace: MACs, bytes moved, memory needed; and the roofline.

Bytes are those that the operations of the trace read and write, one by one, as an eager forward
runs them: fused code, and what stays in a cache, moves less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from cnnscope.analysis import memory, params
from cnnscope.analysis.cost import tensor_bytes
from cnnscope.ops import table
from cnnscope.records.bench import BenchRun, BenchSettings, Ceilings, Work
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import OpRecord, Trace

_MOMENTUM = 1  # tensors that the optimizer keeps for each parameter
_ROWS = ("embedding", "index_select", "gather")  # read as much as they write, not their source


def work(trace: Trace, settings: BenchSettings) -> Work:
    """MACs, bytes moved and memory needed by one iteration on this trace.

    Under autocast or a compiler the trace's operations are not the ones that run, so their bytes
    are not known.
    """
    return Work(
        macs=sum(table.macs(trace, record) for record in trace.ops),
        nbytes=None if settings.amp or settings.compile else sum_bytes(trace, trace.ops),
        params=params.total(trace),
        param_bytes=params.nbytes(trace),
        needed_bytes=needed_bytes(trace, settings),
    )


def needed_bytes(trace: Trace, settings: BenchSettings) -> int:
    """Memory that an iteration cannot do without; a lower bound, for it leaves out scratch space.

    Inference: weights and the peak of the activations. Training: gradients and momentum beside
    the weights, and the inputs of all convolutions and matrix products, which backward multiplies
    with the gradients of their outputs. Autocast halves activations at the most; a compiler may
    do without any.
    """
    return needed_together([trace], 0, settings)


def needed_together(traces: Sequence[Trace], built: int, settings: BenchSettings) -> int:
    """The same for models that are all in memory and run in turns.

    All keep their weights, gradients and momentum, and their input; only one at a time has
    activations.

    Args:
        traces: of all of them.
        built: of how many, from the first on, the weights are in memory already.
        settings: whether a backward pass and a step follow, and what changes the operations.
    """
    train = settings.mode == "train"
    weights = sum(map(_weight_bytes, traces[built:]))
    trained = (1 + _MOMENTUM) * sum(map(_trainable_bytes, traces)) if train else 0
    inputs = list(map(memory.input_bytes, traces))
    running = [_running_bytes(trace, train=train) for trace in traces]
    most = max(n - own for n, own in zip(running, inputs, strict=True))
    if settings.amp:
        most //= 2
    if settings.compile:
        most = 0
    return weights + trained + sum(inputs) + most


def _weight_bytes(trace: Trace) -> int:
    return params.nbytes(trace) + params.nbytes(trace, buffers=True)


def _trainable_bytes(trace: Trace) -> int:
    return sum(tensor_bytes(trace, p.tensor) for p in trace.params if p.trainable and not p.buffer)


def _running_bytes(trace: Trace, *, train: bool) -> int:
    """Peak bytes while it runs, its input included."""
    peak = memory.peak(trace).nbytes
    return max(peak, memory.product_inputs(trace)) if train else peak


def sum_bytes(trace: Trace, records: tuple[OpRecord, ...] | list[OpRecord]) -> int:
    """Bytes that operations read and write."""
    return sum(op_bytes(trace, record) for record in records)


def op_bytes(trace: Trace, record: OpRecord) -> int:
    """Bytes that one operation reads and writes; a view moves none, and no tensor counts twice."""
    entry = table.lookup(record.name)
    read = record.tensors
    if entry.kind is table.Kind.CREATE:
        return 0 if entry.family is table.Family.EMPTY else _written(trace, record)
    if entry.kind is table.Kind.REARRANGE:
        kept = {trace.tensors[t].storage for t in read}
        if all(trace.tensors[t].storage in kept for t in record.outputs):
            return 0
        if table.base_name(record.name) in _ROWS:
            return 2 * _written(trace, record)
    return _written(trace, record) + sum(_moved(trace, t) for t in set(read))


def _written(trace: Trace, record: OpRecord) -> int:
    return sum(_moved(trace, t) for t in record.outputs)


def _moved(trace: Trace, tensor: int) -> int:
    """Bytes of a tensor, none where it is inside a kernel and never in memory."""
    kept = trace.storages[trace.tensors[tensor].storage].nbytes
    return tensor_bytes(trace, tensor) if kept else 0


def layer_bytes(trace: Trace) -> dict[tuple[str, int], int]:
    """Bytes moved by the operations that each module call ran itself, by (path, which call)."""
    found: Counter[tuple[str, int]] = Counter()
    for record in trace.ops:
        if record.call >= 0:
            found[trace.index.keys[record.call]] += op_bytes(trace, record)
    return dict(found)


def leaves(rows: tuple[LayerRow, ...]) -> dict[tuple[str, int], LayerRow]:
    """The rows of leaf modules that compute something, by (path, which call)."""
    return {
        (row.path, row.call): row
        for row in rows
        if row.leaf and row.kind == "module" and not row.minor
    }


def is_other(run: BenchRun) -> bool:
    """Return True if a call was seen to compute less than half of what was traced.

    It remembers its answers, or returns early. Half, as counters differ by a few percent and some
    kernels compute a product another way.
    """
    return run.computed is not None and run.computed < run.work.macs / 2


def above(run: BenchRun, ceilings: Ceilings) -> tuple[str, ...]:
    """The warnings of a forward that is faster than the roofline: of arithmetic, of traffic."""
    if run.settings.mode != "forward":
        return ()
    seconds = max(run.statistics.median_ns, 1) / 1e9
    flops, nbytes = 2 * run.work.macs / seconds, (run.work.nbytes or 0) / seconds
    shares = {
        "above-arithmetic": flops / ceilings.flops,
        "above-traffic": nbytes / ceilings.bandwidth,
    }
    return tuple(name for name, share in shares.items() if share > 1)


def higher(one: Ceilings, other: Ceilings) -> Ceilings:
    """The better of two measurements, arithmetic and traffic each: a ceiling is a maximum."""
    faster = max(one, other, key=lambda c: c.flops)
    wider = max(one, other, key=lambda c: c.bandwidth)
    return replace(faster, bandwidth=wider.bandwidth, copy_bytes=wider.copy_bytes)


def attainable_ns(macs: int, nbytes: int, ceilings: Ceilings) -> tuple[float, str]:
    """The least time that the roofline allows, and which of its sides that is.

    2 x MACs at the ceiling of arithmetic or the bytes at that of memory, whichever takes longer
    (Williams, Waterman and Patterson 2009, section 3). Element operations are not counted.
    """
    compute, moving = 2e9 * macs / ceilings.flops, 1e9 * nbytes / ceilings.bandwidth
    return (compute, "compute") if compute >= moving else (moving, "memory")
