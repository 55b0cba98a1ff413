"""Find the matrix products of attention: those around a softmax, written out or fused."""

from __future__ import annotations

from collections.abc import Container

from cnnscope.ops import table
from cnnscope.records.trace import OpRecord, Trace


def products(trace: Trace, data: Container[int]) -> frozenset[int]:
    """First outputs of the operations that are products of attention (Vaswani et al. 2017, 3.2.1).

    Scores are a product that reaches a softmax through arithmetic and views; what they weigh is
    summed by the product that reads this softmax, itself or a view of it.

    Args:
        trace: of the model.
        data: tensors that depend on the input; a softmax of others only makes a weight.
    """
    factors = _reaching(trace, set(), table.Kind.PRODUCT)
    weights = {r.outputs[0] for r in trace.ops if _is_softmax(r)} & factors
    weights = {t for t in weights if t in data}
    softmaxes = (r for r in trace.ops if not weights.isdisjoint(r.outputs))
    scores = _reaching(trace, {t for r in softmaxes for t in r.tensors}, None)
    found: set[int] = set()
    for record in trace.ops:
        kind = _kind(record)
        read, made = record.tensors, record.outputs[:1]
        if kind is table.Kind.REARRANGE and not weights.isdisjoint(read):
            weights.update(made)
        fused = "query" in record.inputs
        if kind is table.Kind.PRODUCT and (
            fused or not scores.isdisjoint(made) or not weights.isdisjoint(read)
        ):
            found.update(made)
    return frozenset(found)


def _reaching(trace: Trace, ends: set[int], kind: table.Kind | None) -> set[int]:
    """Tensors that reach one of `ends` through anything but products.

    Args:
        trace: of the model.
        ends: ids of tensors.
        kind: where given, operands of operations of this kind are ends as well, and the way to
            them leads through views and copies alone.
    """
    found = set(ends)
    for record in reversed(trace.ops):
        own = _kind(record)
        passes = own is not table.Kind.PRODUCT if kind is None else own is table.Kind.REARRANGE
        reaches = passes and not found.isdisjoint(record.outputs)
        if reaches or (kind is not None and own is kind):
            found.update(record.tensors)
    return found


def _kind(record: OpRecord) -> table.Kind | None:
    return table.lookup(record.name).kind if record.outputs else None


def _is_softmax(record: OpRecord) -> bool:
    return table.lookup(record.name).family is table.Family.SOFTMAX and bool(record.outputs)
