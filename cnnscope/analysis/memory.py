"""Activation memory of an inference forward, from when storages were born and freed."""

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from cnnscope.ops import table
from cnnscope.records.trace import StorageRecord, Trace


class Peak(NamedTuple):
    """The largest sum of activations alive at once, and where it is reached."""

    nbytes: int
    layer: str


def input_bytes(trace: Trace) -> int:
    """Bytes of the inputs, which their caller holds throughout."""
    return sum(trace.storages[s].nbytes for s in _input_storages(trace))


def allocated(trace: Trace) -> int:
    """Bytes of everything that the forward allocates, whether freed or not."""
    return sum(s.nbytes for s in trace.storages if s.born >= 0)


def alive(storages: Iterable[StorageRecord], operations: int) -> tuple[int, ...]:
    """Bytes of the storages that are alive before the first operation and after each of them."""
    changes = [0] * (operations + 2)
    for storage in storages:
        changes[storage.born + 1] += storage.nbytes
        changes[storage.died + 1] -= storage.nbytes
    return tuple(accumulate(changes[:-1]))


def peak(trace: Trace) -> Peak:
    """The inputs, and every storage between its birth and its death; aliases are one storage.

    Parameters, buffers and the scratch space inside a kernel are not activations. The operation
    of the peak holds its inputs and its outputs at once.
    """
    sums = alive((one for one in trace.storages if one.born >= 0), len(trace.ops))
    most = max(sums)
    where = sums.index(most) - 1
    layer = trace.index.path(trace.ops[where]) if where >= 0 else ""
    return Peak(input_bytes(trace) + most, layer)


def product_inputs(trace: Trace) -> int:
    """Bytes of the storages, weights left out, that multiply-accumulates read.

    A backward pass multiplies them with the gradients of the products, so it keeps them all.
    """
    weights = {trace.tensors[p.tensor].storage for p in trace.params}
    read: set[int] = set()
    for record in trace.ops:
        if table.lookup(record.name).multiplies:
            read.update(trace.tensors[t].storage for t in record.tensors)
    return sum(trace.storages[s].nbytes for s in read - weights)


def _input_storages(trace: Trace) -> set[int]:
    return {trace.tensors[tensor].storage for tensor in trace.inputs}
