"""Find the matrix products of attention: those around a softmax, written out or fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cnnscope.analysis.memo import per_trace
from cnnscope.ops import table
from cnnscope.records.trace import OpRecord, Trace


class Attention(NamedTuple):
    """Products of attention (Vaswani et al. 2017, section 3.2.1), by their places in the trace.

    Attributes:
        scores: QK^T: products that reach a softmax through anything but another product.
        sums: products that read such a softmax, itself or a view of it, with the softmaxes.
        fused: kernels that compute both.
    """

    scores: frozenset[int]
    sums: Mapping[int, frozenset[int]]
    fused: frozenset[int]


@per_trace
def find(trace: Trace) -> Attention:
    """Find the products of attention; a softmax that sees no input only makes a weight."""
    sums, kinds = _sums(trace), [_kind(record) for record in trace.ops]
    ends = frozenset[int]().union(*sums.values())
    reached = {tensor for place in ends for tensor in trace.ops[place].tensors}
    scores = set()
    for place in reversed(range(len(trace.ops))):
        record = trace.ops[place]
        if kinds[place] is table.Kind.PRODUCT:
            scores |= {place} if record.outputs[0] in reached else set()
        elif not reached.isdisjoint(record.outputs):
            reached.update(record.tensors)
    fused = frozenset(
        place
        for place, kind in enumerate(kinds)
        if kind is table.Kind.PRODUCT and "query" in trace.ops[place].inputs
    )
    return Attention(frozenset(scores), sums, fused)


def _sums(trace: Trace) -> dict[int, frozenset[int]]:
    """The products that read a softmax of data, with the softmaxes that each of them reads."""
    found: dict[int, frozenset[int]] = {}
    made_of: dict[int, frozenset[int]] = {}  # softmaxes that a tensor is, or is a view of
    for place, record in enumerate(trace.ops):
        kind = _kind(record)
        read = frozenset[int]().union(*(made_of.get(tensor, ()) for tensor in record.tensors))
        if read and kind is table.Kind.PRODUCT:
            found[place] = read
        elif read and kind is table.Kind.REARRANGE:
            made_of |= dict.fromkeys(record.outputs, read)
        elif _is_softmax(record) and record.outputs[0] in trace.index.from_input:
            made_of[record.outputs[0]] = frozenset((place,))
    return found


def _kind(record: OpRecord) -> table.Kind | None:
    return table.lookup(record.name).kind if record.outputs else None


def _is_softmax(record: OpRecord) -> bool:
    return table.lookup(record.name).family is table.Family.SOFTMAX and bool(record.outputs)
