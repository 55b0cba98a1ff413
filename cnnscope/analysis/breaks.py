"""Describe where a forward broke off: the row, its operands, and the layers that made these."""

from __future__ import annotations

from collections.abc import Sequence

from cnnscope.ops import table
from cnnscope.records.summary import Failed, LayerRow
from cnnscope.records.trace import Trace
from cnnscope.text import printable


def failed(trace: Trace, rows: Sequence[LayerRow]) -> Failed | None:
    """Where and why the forward raised; None for one that returned.

    Args:
        trace: of the forward.
        rows: of the trace.
    """
    broken = trace.broken
    if broken is None:
        return None
    row = next((row for row in rows if row.fails), rows[0])
    given = operands(trace)
    return Failed(
        path=row.path,
        operation=row.operation,
        call=row.call,
        inputs=tuple(trace.tensors[t].shape for t in given),
        made_by=tuple(made_by(trace, t) for t in given),
        error=broken.error,
        message=broken.message,
        line=broken.line,
        expression=broken.expression,
        cause=broken.cause,
        remedy=broken.remedy,
    )


def operands(trace: Trace) -> tuple[int, ...]:
    """The tensors that were refused: the operands of an operation, or what a layer was given."""
    broken = trace.broken
    if broken is None:
        return ()
    inside = broken.call >= 0 and trace.modules[trace.calls[broken.call].module].library
    if broken.operation is not None and not inside:
        return broken.operation.tensors
    return trace.calls[broken.call].inputs if broken.call >= 0 else trace.inputs


def made_by(trace: Trace, tensor: int) -> str:
    """Name what made a tensor: a layer, an operation, a parameter or the input.

    The outermost layer that gave it back, among those that had ended: what the code around the
    break has called.
    """
    if tensor in trace.inputs:
        number = trace.inputs.index(tensor)
        name = trace.input_specs[number].name or str(number + 1)
        return f"input {printable(name)}" if len(trace.inputs) > 1 else "input"
    for param in (*trace.params, *trace.strays):
        if param.tensor == tensor:
            return param.path
    for call in trace.calls:  # the outermost began first
        if tensor in call.outputs:
            path = trace.modules[call.module].path
            if path and tensor not in call.inputs:
                return path
    return _operation(trace, tensor)


def _operation(trace: Trace, tensor: int) -> str:
    """Name the operation that made a tensor, by what it was given where it only moves data."""
    index = trace.index.maker.get(tensor)
    if index is None:
        return "a constant"
    record = trace.ops[index]
    label = table.lookup(record.name).label.replace(" ", "_")
    path = trace.index.path(record)
    name = f"{path}.{label}" if path else label
    if table.lookup(record.name).computes or not record.tensors:
        return name
    inner = made_by(trace, record.tensors[0])
    same = inner == "a constant" or inner.startswith(f"{label} of ")
    return inner if same else f"{label} of {inner}"
