"""What CUDA keeps where a trace has what a CPU keeps: bytes of storages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import prod

from cnnscope.records.trace import Trace

# On a CPU dropout draws a mask of its input's type by these; CUDA's `native_dropout` keeps one of
# bytes (`aten/src/ATen/native/Dropout.cpp`). Dropout of whole channels and alpha dropout are the
# same on both, and begin with other operations.
_DROPOUT = ("aten.empty_like.default", "aten.bernoulli_.float", "aten.div_.Scalar")


def sizes(trace: Trace) -> list[int]:
    """The bytes of each storage on CUDA."""
    found = [storage.nbytes for storage in trace.storages]
    for storage, nbytes in _masks(trace):
        found[storage] = nbytes
    return found


def _masks(trace: Trace) -> Iterator[tuple[int, int]]:
    """Masks of dropout, with a byte for each element."""
    seconds, thirds = islice(trace.ops, 1, None), islice(trace.ops, 2, None)
    for three in zip(trace.ops, seconds, thirds, strict=False):
        if tuple(record.name for record in three) != _DROPOUT:
            continue
        masks = [trace.tensors[record.outputs[0]] for record in three]
        if len({mask.storage for mask in masks}) == 1:
            yield masks[0].storage, prod(masks[0].shape)
