"""A trace with what its explanations read again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cnnscope.analysis import layers, params, receptive_field, shapes, weights
from cnnscope.ops import table as ops
from cnnscope.records.summary import Field, LayerRow
from cnnscope.records.trace import ParamRecord, Shape, Trace

AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Part(NamedTuple):
    """Place of a row in the trace: its call (-1 for an operation) and its own operations."""

    call: int
    ops: tuple[int, ...]


class View:
    """A trace with what its explanations read again and again."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.fields = receptive_field.fields(trace)
        self.rows = layers.with_fields(trace)
        self.owned = params.owners(trace)
        self.named: dict[str, list[ParamRecord]] = {}  # parameters and buffers of each module
        for param in trace.params:
            self.named.setdefault(param.path.rpartition(".")[0], []).append(param)
        self.weight_ops = {op.op for op in weights.weight_ops(trace)}
        self.times = Counter(path for path, _ in trace.index.keys)  # calls of each path
        self.life: dict[int, tuple[int, int]] = {}  # storage: first and last operation on it
        for index, record in enumerate(trace.ops):
            for tensor in (*record.tensors, *record.outputs):
                storage = trace.tensors[tensor].storage
                self.life[storage] = (self.life.get(storage, (index,))[0], index)

    def part(self, row: LayerRow) -> Part:
        """Place of the row in the trace."""
        if row.kind == "module":
            call = self.trace.index.calls[row.path, row.call]
            return Part(call, tuple(self.trace.index.own_ops.get(call, ())))
        made_by = self.trace.index.maker.get(row.tensor)
        return Part(-1, () if made_by is None else (made_by,))

    def sources(self, part: Part) -> list[Field]:
        """Fields of what goes in, of those inputs that see the image."""
        if part.call >= 0:
            tensors: Iterable[int] = self.trace.calls[part.call].inputs
        else:
            tensors = [t for i in part.ops for t in self.trace.ops[i].tensors]
        fields = [self.fields[t] for t in tensors]
        return [f for f in fields if f is not None and not f.unknown]

    def slide(self, row: LayerRow, part: Part) -> tuple[shapes.Slide, Shape] | None:
        """The window of a row and the shape that it slides over; None if it does not slide."""
        trace = self.trace
        slides = [
            (slide, ops.Op(trace, trace.ops[i]).first)
            for i in part.ops
            if (slide := shapes.of_op(trace, trace.ops[i]))
        ]
        slide = slides[0][0] if slides else None
        if part.call >= 0:
            slide = shapes.of_call(trace, trace.modules[trace.calls[part.call].module], part.ops)
        given = slides[0][1] if slides else next(iter(row.input_shapes), ())
        return None if slide is None or len(given) <= slide.axes else (slide, given)
