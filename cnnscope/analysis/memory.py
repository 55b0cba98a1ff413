"""Activation memory of an inference forward, from when storages were born and freed."""

from typing import NamedTuple

from cnnscope.ops import table
from cnnscope.records.trace import Trace


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


def peak(trace: Trace) -> Peak:
    """The inputs, and every storage between its birth and its death; aliases are one storage.

    Parameters, buffers and the scratch space inside a kernel are not activations. The operation
    of the peak holds its inputs and its outputs at once.
    """
    changes = [0] * (len(trace.ops) + 1)
    for storage in trace.storages:
        if storage.born >= 0:
            changes[storage.born] += storage.nbytes
            changes[storage.died] -= storage.nbytes
    alive = best = input_bytes(trace)
    where = -1
    for index, change in enumerate(changes[:-1]):
        alive += change
        if alive > best:
            best, where = alive, index
    return Peak(best, trace.index.path(trace.ops[where]) if where >= 0 else "")


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
