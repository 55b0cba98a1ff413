"""Sizes of the output, by the floor formula or as what is laid end to end."""

from __future__ import annotations

from collections.abc import Iterable

from cnnscope.analysis import shapes
from cnnscope.ops import table as ops
from cnnscope.records.explain import Step
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import OpRecord
from cnnscope.reports.explain.view import AXIS_NAMES, Part, View

_FORMULAS = {
    "convolution": "floor((in + 2*padding - dilation*(kernel - 1) - 1)/stride + 1)",
    "ceil": "ceil((in + 2*padding - dilation*(kernel - 1) - 1)/stride + 1)",
    "transposed": "(in - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1",
    "adaptive": "output_size",
}


def steps(view: View, row: LayerRow, part: Part) -> Iterable[Step]:
    """The sizes that come out, by the floor formula where the layer slides."""
    found = view.slide(row, part)
    if found is None:
        yield from _joined_channels(view, part)
        return
    slide, given = found
    form = "ceil" if slide.geometry.ceil_mode and slide.form == "pool" else slide.form
    formula = _FORMULAS.get(form, _FORMULAS["convolution"])
    names = AXIS_NAMES[slide.axes]
    texts = [shapes.formula(slide, given, axis) for axis in range(slide.axes)]
    for text in dict.fromkeys(texts):
        same = [name for name, other in zip(names, texts, strict=True) if other == text]
        arithmetic, _, value = text.rpartition(" = ")
        if slide.form == "adaptive":
            arithmetic = value
        yield Step(f"output {' and '.join(same)}", formula, arithmetic, int(value))


def _joined_channels(view: View, part: Part) -> Iterable[Step]:
    """Parts that a concatenation lays end to end, as layers of a recurrent network do."""
    steps = (joined(view, view.trace.ops[index], "output size") for index in part.ops)
    yield from dict.fromkeys(step for step in steps if step is not None)


def joined(view: View, record: OpRecord, topic: str) -> Step | None:
    """Sizes that a concatenation lays end to end; None for another operation."""
    entry = ops.lookup(record.name)
    if entry.family is not ops.Family.CONCATENATE:
        return None
    op = ops.Op(view.trace, record)
    dim = int(op.get("dim", 0)) % len(op.out)
    sizes = [shape[dim] for shape in op.shapes("tensors") if shape != (0,)]
    named = "channels" if dim == 1 else f"dimension {dim}"
    return Step(topic, f"{named} laid end to end", " + ".join(map(str, sizes)), op.out[dim])
