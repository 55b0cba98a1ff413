"""Origin of the features of a linear layer and of the channels of a convolution."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from cnnscope.analysis import shapes
from cnnscope.ops import table as ops
from cnnscope.records.explain import Step
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import OpRecord
from cnnscope.reports.explain.output import joined
from cnnscope.reports.explain.view import Part, View
from cnnscope.reports.explain.writing import times

_KEEP_DIMENSIONS = (ops.NORMS - {ops.Family.WEIGHT_NORM}) | {ops.Family.COPY, ops.Family.DROPOUT}


def steps(view: View, row: LayerRow, part: Part) -> Iterable[Step]:
    """Origin of the features of a linear layer, or of the channels of a convolution.

    Products that make a weight (of a spectral norm, of an orthogonal matrix) read no features.
    """
    trace = view.trace
    layer = [index for index in part.ops if index in view.weight_ops]
    candidates = layer or shapes.without_weights(trace, part.ops)
    product = next((i for i in candidates if ops.lookup(trace.ops[i].name).multiplies), None)
    step = None if product is None else _origin(view, row, trace.ops[product])
    return () if step is None else (step,)


def _origin(view: View, row: LayerRow, record: OpRecord) -> Step | None:
    """Origin of what a product reads, None where the layer before says it."""
    if ops.lookup(record.name).family is ops.Family.CONVOLUTION:
        return _channel_origin(view, record)
    op = ops.Op(view.trace, record)
    name = next((n for n in ("mat1", "input", "self") if op.has(n)), "")
    source = record.inputs.get(name)
    if row.features is None or not isinstance(source, int):
        return None
    features = row.features[0]
    return _feature_origin(view, source, features) if op.shape(name)[-1] == features else None


def _channel_origin(view: View, record: OpRecord) -> Step | None:
    """Of a convolution that reads a concatenation."""
    source = record.inputs.get("input")
    if not isinstance(source, int):
        return None
    found, dims = _back(view, source, (1,))
    made_by = view.trace.index.maker.get(found)
    if made_by is None or dims != (1,):
        return None
    step = joined(view, view.trace.ops[made_by], "in channels")
    return step if step is not None and "channels" in step.formula else None


def _feature_origin(view: View, source: int, features: int) -> Step | None:
    """The sizes that were flattened into the features of a linear layer."""
    trace = view.trace
    rank = len(trace.tensors[source].shape)
    found, dims = _back(view, source, (rank - 1,))
    sizes = tuple(trace.tensors[found].shape[d] for d in dims)
    if prod(sizes) != features:
        return None
    where = _maker(view, found)
    what = "flattened" if len(sizes) > 1 else "its features"
    return Step("in features", f"output of {where}, {what}", times(sizes), features)


def _back(view: View, tensor: int, dims: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The tensor that these dimensions come from, unchanged but for their order and grouping."""
    trace = view.trace
    while (index := view.trace.index.maker.get(tensor)) is not None:
        record = trace.ops[index]
        entry, op = ops.lookup(record.name), ops.Op(trace, record)
        sources = [t for t in record.inputs.values() if isinstance(t, int)]
        moved = _before(entry, op, dims)
        if moved is None or record.outputs[0] != tensor or not sources:
            return tensor, dims
        tensor, dims = sources[0], moved
    return tensor, dims


def _before(entry: ops.Entry, op: ops.Op, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """The same dimensions before an operation; None where the operation makes them."""
    if entry.family in _KEEP_DIMENSIONS:
        return dims
    if entry.elementwise:
        alone = len(op.record.inputs) == 1
        return dims if alone and op.first == op.out else None
    if entry.family is ops.Family.VIEW:
        return _before_view(op, set(dims))
    if entry.family is ops.Family.PERMUTE:
        order = [int(d) % len(op.out) for d in op.get("dims", ())]
        return tuple(order[d] for d in dims)
    return None


def _before_view(op: ops.Op, dims: set[int]) -> tuple[int, ...] | None:
    """The dimensions that a view made these of; None where they were parts of others."""
    found: list[int] = []
    inside = False
    for before, after in shapes.regrouped(op.first, op.out):
        whole = set(after) <= dims
        inside = (inside and not after) or (bool(after) and whole)
        if dims.intersection(after) and not whole:
            return None
        found += before if inside else []
    return tuple(found)


def _maker(view: View, tensor: int) -> str:
    index = view.trace.index.maker.get(tensor)
    if index is None:
        return "the model's input"
    record = view.trace.ops[index]
    module = view.trace.index.module(record)
    if module is not None and (
        module.library or len(view.trace.index.own_ops.get(record.call, ())) == 1
    ):
        return module.path or "the model"
    label = ops.lookup(record.name).label
    path = view.trace.index.path(record)
    return f"{label} in {path}" if path else label
