"""What CUDA keeps and makes where a trace has what a CPU does: bytes and lives of storages.

Measured with cuDNN 9.19 on an H100 (`cnnscope.analysis.measured`). Workspace is memory that a
kernel asks for and gives back before its operation ends:

- Convolutions with kernels larger than 1x1 read channels last, so that cuDNN copies what lies
  channels first: the input and the weight, in the backward pass the gradient of the output as well.
  Whether it copies the output too depends on the algorithm that it chooses. A kernel of 1x1 is a
  matrix, which is mostly read as it lies.
- A sum over the first axes is made in parts by several blocks of threads, whose results lie in
  memory in between (`setReduceConfig` in PyTorch's `ATen/native/cuda/Reduce.cuh`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from typing import Any, NamedTuple

from cnnscope.records.trace import OpRecord, StorageRecord, TensorRecord, Trace

# On a CPU dropout draws a mask of its input's type by these; CUDA's `native_dropout` keeps one of
# bytes (`aten/src/ATen/native/Dropout.cpp`). Dropout of whole channels and alpha dropout are the
# same on both, and begin with other operations.
_DROPOUT = ("aten.empty_like.default", "aten.bernoulli_.float", "aten.div_.Scalar")
_ATTENTION = "aten._scaled_dot_product_flash_attention_for_cpu.default"
_QUERIES = 32  # of which memory-efficient attention makes blocks, as its log-sum-exp has
_PROCESSORS, _RESIDENT = 132, 2048  # multiprocessors of an H100, and threads that each has at once
_THREADS, _WARP = 512, 32
_FEW, _MANY = 16, 256  # values for each thread, in `setReduceConfig`
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


def storages(trace: Trace) -> list[StorageRecord]:
    """The storages of a trace with CUDA's bytes and lives, and after them those that CUDA adds."""
    found = list(trace.storages)
    for storage in trace.host:
        found[storage] = _replaced(found[storage], nbytes=0)
    for storage, nbytes in _masks(trace):
        found[storage] = _replaced(found[storage], nbytes=nbytes)
    for number, record in enumerate(trace.ops):
        if record.name == _ATTENTION and _of(trace, record.outputs[0]).dtype == "float32":
            _Attention(trace, number).correct(found)
    return found


def workspaces(trace: Trace) -> Iterator[tuple[int, int]]:
    """Operations whose kernels may ask for memory of their own, with its bytes.

    Which these are is the same at every batch.
    """
    for number, record in enumerate(trace.ops):
        if record.name.startswith("aten.convolution"):
            yield number, _copied(trace, record)
        elif record.name == "aten.sum.dim_IntList":
            yield number, _parts(trace, record)


def _of(trace: Trace, tensor: Any) -> TensorRecord:
    found: TensorRecord = trace.tensors[tensor]
    return found


def _replaced(
    storage: StorageRecord, *, nbytes: int | None = None, died: int | None = None
) -> StorageRecord:
    return StorageRecord(
        storage.nbytes if nbytes is None else nbytes,
        storage.born,
        storage.died if died is None else died,
    )


def _masks(trace: Trace) -> Iterator[tuple[int, int]]:
    """Masks of dropout, with a byte for each element."""
    seconds, thirds = islice(trace.ops, 1, None), islice(trace.ops, 2, None)
    for three in zip(trace.ops, seconds, thirds, strict=False):
        if tuple(record.name for record in three) != _DROPOUT:
            continue
        masks = [trace.tensors[record.outputs[0]] for record in three]
        if len({mask.storage for mask in masks}) == 1:
            yield masks[0].storage, prod(masks[0].shape)


# ------------------------------------------------------------------------------- attention


class _Attention:
    """Memory-efficient attention, which CUDA selects in single precision.

    Its result (B, H, L, E) lies as B x L x H x E, where a CPU's lies as the query does: the copy
    that brings it in the order that is asked for may be on one side only. Its log-sum-exp has
    whole blocks of queries.

    Args:
        trace: of a step.
        number: of the operation.
    """

    def __init__(self, trace: Trace, number: int) -> None:
        self._trace, self._number = trace, number
        self._result, self._statistics = trace.ops[number].outputs

    def correct(self, found: list[StorageRecord]) -> None:
        """Correct its storages, and add a copy where there is one."""
        trace = self._trace
        statistics = _of(trace, self._statistics)
        *outer, length = statistics.shape
        nbytes = prod(outer) * -(-length // _QUERIES) * _QUERIES * 4
        kept = statistics.storage
        if found[kept].nbytes:
            found[kept] = _replaced(found[kept], nbytes=nbytes)
        asked = self._asked()
        if asked is None:
            return
        number, in_order = asked
        made = _of(trace, trace.ops[number].outputs[0]).storage
        own = _of(trace, self._result).storage
        if not trace.ops[number].name.startswith("aten.clone"):
            if not in_order:
                found.append(StorageRecord(found[own].nbytes, number, self._last(number) + 1))
        elif in_order:  # a view is enough
            found[own] = _replaced(found[own], died=max(found[own].died, found[made].died))
            found[made] = _replaced(found[made], nbytes=0)

    def _asked(self) -> tuple[int, bool] | None:
        """The operation that needs the result in order, and whether it is; None where none does."""
        trace = self._trace
        shape = trace.tensors[self._result].shape
        lies: Sequence[int] = (0, 2, 1, 3)  # axes, the slowest first
        readers = trace.index.readers.get(self._result)
        while readers:
            number = readers[0]
            record = trace.ops[number]
            if record.name.startswith(("aten.clone", "aten.view", "aten._unsafe_view")):
                wide = [axis for axis in lies if shape[axis] > 1]
                return number, wide == sorted(wide)
            order = _order(record, len(shape))
            if order is None:
                return None
            lies = [order.index(axis) for axis in lies]
            shape = tuple(shape[axis] for axis in order)
            readers = trace.index.readers.get(record.outputs[0])
        return None

    def _last(self, number: int) -> int:
        """The last operation that reads the result of another, or a view of that."""
        trace, views, last = self._trace, set(self._trace.ops[number].outputs), number
        storage = _of(trace, trace.ops[number].outputs[0]).storage
        for later in range(number + 1, len(trace.ops)):
            record = trace.ops[later]
            if views.isdisjoint(record.tensors):
                continue
            last = later
            views.update(t for t in record.outputs if trace.tensors[t].storage == storage)
        return last


def _order(record: OpRecord, rank: int) -> Sequence[int] | None:
    """The axes of the result of a permutation, by those of what is permuted; None for others."""
    attributes: Mapping[str, Any] = record.attributes
    kind, order = record.name.split(".")[1], list(range(rank))
    if kind == "detach":
        return order
    if kind == "permute":
        return [axis % rank for axis in attributes["dims"]]
    if kind != "transpose":
        return None
    one, other = (attributes[name] % rank for name in ("dim0", "dim1"))
    order[one], order[other] = other, one
    return order


# ------------------------------------------------------------------------------- workspace


def _copied(trace: Trace, record: OpRecord) -> int:
    """Bytes of what cuDNN copies of a convolution (N, C, H, W) or (N, C, D, H, W).

    Grouped convolutions and those of a few channels have kernels of their own.
    """
    weight, x = (_of(trace, record.inputs[name]) for name in ("weight", "input"))
    attributes = record.attributes
    alone = attributes.get("groups") == 1 and not attributes.get("transposed")
    if not alone or len(weight.shape) < 4 or prod(weight.shape[2:]) == 1 or x.shape[1] < 8:
        return 0
    read = [weight, x]
    if "grad_output" in record.inputs:
        read.append(_of(trace, record.inputs["grad_output"]))
    return sum(prod(one.shape) * _BYTES.get(one.dtype, 0) for one in read)


class _Blocks(NamedTuple):
    """Threads of a block of a reduction: along the outputs, and along the inputs."""

    width: int
    height: int

    @classmethod
    def of(cls, outputs: int, inputs: int, threads: int) -> _Blocks:
        """As many as fit, in powers of two."""
        most = [min(_power(n), threads) for n in (outputs, inputs)]
        height = min(most[1], threads // min(most[0], _WARP))
        return cls(min(most[0], threads // height), height)


def _power(number: int) -> int:
    """The largest power of two up to a number."""
    return 1 << (max(number, 1).bit_length() - 1)


def _parts(trace: Trace, record: OpRecord) -> int:
    """Bytes of the parts of a sum over the first axes, whose inputs lie in order."""
    given = _of(trace, record.inputs["self"])
    dims: Any = record.attributes.get("dim") or ()
    axes = sorted(axis % len(given.shape) for axis in dims)
    if axes != list(range(len(axes))) or len(axes) in (0, len(given.shape)):
        return 0
    outputs, inputs = prod(given.shape[len(axes) :]), prod(given.shape[: len(axes)])
    vector = next(n for n in (4, 2, 1) if given.shape[-1] % n == 0)
    blocks = _Blocks.of(outputs // vector, inputs, _THREADS // vector)
    values = -(-inputs // blocks.height)
    grid = -(-outputs // vector // blocks.width)
    target = _PROCESSORS * (_RESIDENT // (blocks.width * blocks.height))
    if inputs < min(blocks.height * _FEW, _MANY) or values < _MANY or grid > target:
        return 0
    parts = max(min(-(-target // grid), -(-values // _FEW)), -(-values // _MANY))
    return 4 * outputs * parts * blocks.width * vector if parts > 1 else 0
