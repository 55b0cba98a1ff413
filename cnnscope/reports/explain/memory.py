"""Memory of an output: its bytes, and how long they are there."""

from __future__ import annotations

from collections.abc import Iterable

from cnnscope.analysis.cost import item_size
from cnnscope.ops import table as ops
from cnnscope.records.explain import Step
from cnnscope.records.summary import LayerRow
from cnnscope.reports.explain.view import View
from cnnscope.reports.explain.writing import times, unbatched


def steps(view: View, row: LayerRow) -> Iterable[Step]:
    """Bytes of what comes out, and from when to when they are there."""
    trace = view.trace
    if row.tensor < 0:
        return
    part = view.part(row)
    outputs = trace.calls[part.call].outputs if part.call >= 0 else trace.ops[part.ops[0]].outputs
    records = [trace.tensors[t] for t in outputs[: len(row.output_shapes)]]
    terms = [f"{times(unbatched(r.shape))}*{item_size(r.dtype)}" for r in records]
    types = ", ".join(dict.fromkeys(r.dtype for r in records))
    formula = f"elements of the output * bytes of {types}"
    note = _life(view, row)
    yield Step("memory", formula, " + ".join(terms), row.activation_bytes, note)


def _life(view: View, row: LayerRow) -> str:
    """The operation that made the memory of an output, and the last one that reads it."""
    trace = view.trace
    index = trace.tensors[row.tensor].storage
    if trace.storages[index].born < 0:
        return "memory of the model's input or weights: none of its own"
    first, last = view.life[index]
    returned = any(trace.tensors[t].storage == index for t in trace.outputs)
    until = "returned by the model" if returned else f"needed until {_named(view, last)}"
    if trace.broken is not None and trace.storages[index].died == len(trace.ops):
        until = "in memory when the forward raised"
    record = trace.ops[first]
    maker = trace.index.path(record) or ops.base_name(record.name)
    own = first == view.trace.index.maker.get(row.tensor) or f"{maker}.".startswith(f"{row.path}.")
    return until if own else f"shared with what {_named(view, first)} made; {until}"


def _named(view: View, op: int) -> str:
    """The layer that ran an operation, with the number of the call where it ran several times."""
    record = view.trace.ops[op]
    path = view.trace.index.path(record)
    if not path:
        return ops.base_name(record.name)
    number = view.trace.index.keys[record.call][1]
    return f"{path} #{number}" if view.times[path] > 1 else path
