"""One row of the table of layers: a module call, an operation or a bare parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

from cnnscope.analysis import growth, shapes, weights
from cnnscope.analysis import params as parameters
from cnnscope.analysis.cost import tensor_bytes
from cnnscope.ops import table
from cnnscope.records.summary import Field, LayerRow
from cnnscope.records.trace import CallRecord, ModuleRecord, OpRecord, ParamRecord, Shape, Trace

Fields = tuple[Field | None, ...]


class Cost(NamedTuple):
    """Costs that one row or operation adds to the rows around it."""

    params: int = 0
    trainable_params: int = 0
    buffers: int = 0
    macs: int = 0
    element_ops: int = 0
    unknown_ops: int = 0

    def plus(self, other: Cost) -> Cost:
        """The sum, field by field."""
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs, field by field."""
    return reduce(Cost.plus, costs, Cost())


def of_op(trace: Trace, record: OpRecord) -> Cost:
    """Cost of one operation."""
    if table.lookup(record.name).kind is table.Kind.UNKNOWN:
        return Cost(unknown_ops=1)
    return Cost(macs=table.macs(trace, record), element_ops=table.element_ops(trace, record))


def of_param(trace: Trace, param: ParamRecord) -> Cost:
    """Cost of one parameter or buffer."""
    size = parameters.numel(trace, param)
    if param.buffer:
        return Cost(buffers=size)
    return Cost(params=size, trainable_params=size if param.trainable else 0)


class Place(NamedTuple):
    """Place of a row in the tree of rows."""

    parent: int
    depth: int


class RowMaker:
    """Makes rows of a trace, given what they cost and where they stand."""

    def __init__(self, trace: Trace, fields: Fields) -> None:
        self.trace, self.fields = trace, fields
        found = weights.weight_ops(trace)
        self.linear = {op.op for op in found if op.kind is not weights.Layer.CONVOLUTION}
        self.read = {*trace.outputs, *trace.index.readers}
        for call in trace.calls:
            self.read.update(call.inputs, call.outputs)

    def module(self, index: int, place: Place, cost: Cost, *, leaf: bool) -> LayerRow:
        """The row of a module call.

        Args:
            index: of the call.
            place: of the row.
            cost: of everything inside.
            leaf: no rows are inside.
        """
        trace, call = self.trace, self.trace.calls[index]
        module = trace.modules[call.module]
        own_ops = trace.index.own_ops.get(index, [])
        slide = shapes.of_call(trace, module, own_ops) if leaf else None
        computes = any(table.lookup(trace.ops[i].name).computes for i in own_ops)
        return LayerRow(
            path=module.path,
            name=_local_name(trace, call),
            kind="module",
            operation=module.kind,
            call=trace.index.keys[index][1],
            geometry=slide.geometry if slide and slide.geometry.kernel_size else None,
            input_shapes=_shapes(trace, call.inputs),
            output_shapes=_shapes(trace, call.outputs),
            expected_output=_expected_of_call(trace, index, slide),
            features=_features(module),
            activation_bytes=sum(tensor_bytes(trace, t) for t in call.outputs),
            unproductive=self._unproductive(slide, call.inputs),
            leaf=leaf,
            fails=self._fails(index, leaf=leaf),
            minor=leaf and not cost.params and not computes and not self._fails(index, leaf=leaf),
            **self._field(call.outputs),
            **place._asdict(),
            **cost._asdict(),
        )

    def operation(self, index: int, prefix: str, name: str, place: Place, cost: Cost) -> LayerRow:
        """The row of a functional operation.

        Args:
            index: of the operation.
            prefix: path of the module that ran it.
            name: of the row in this module.
            place: of the row.
            cost: of the operation.
        """
        trace, record = self.trace, self.trace.ops[index]
        entry, slide = table.lookup(record.name), shapes.of_op(trace, record)
        inputs, outputs = _shapes(trace, record.tensors), self._outputs(record)
        known = entry.kind is not table.Kind.UNKNOWN
        return LayerRow(
            path=f"{prefix}.{name}" if prefix else name,
            name=name,
            kind="operation",
            operation=self.label(index),
            geometry=slide.geometry if slide else None,
            input_shapes=inputs,
            output_shapes=_shapes(trace, outputs),
            expected_output=_expected(slide, inputs),
            activation_bytes=sum(tensor_bytes(trace, t) for t in outputs),
            minor=known and (not entry.computes or _keeps_books(trace, record)),
            **self._field(outputs),
            **place._asdict(),
            **cost._asdict(),
        )

    def broken_operation(self, record: OpRecord, prefix: str, name: str, place: Place) -> LayerRow:
        """The row of an operation that refused its operands.

        Args:
            record: of the operation, which has no outputs.
            prefix: path of the module that ran it.
            name: of the row in this module.
            place: of the row.
        """
        return LayerRow(
            path=f"{prefix}.{name}" if prefix else name,
            name=name,
            kind="operation",
            operation=self.name(record.name),
            input_shapes=_shapes(self.trace, record.tensors),
            fails=True,
            **place._asdict(),
        )

    def name(self, operation: str) -> str:
        """Label of an operation; a function that code calls in Python has its own name."""
        return table.lookup(operation).label if "." in operation else operation

    def _fails(self, index: int, *, leaf: bool) -> bool:
        """Return True if the forward raised in this call, and no row inside stands for that."""
        broken = self.trace.broken
        return broken is not None and broken.call == index and (leaf or broken.operation is None)

    def parameter(self, param: ParamRecord, prefix: str, place: Place, cost: Cost) -> LayerRow:
        """The row of a parameter that a module holds beside its children.

        Args:
            param: the parameter.
            prefix: path of the module.
            place: of the row.
            cost: of the parameter.
        """
        return LayerRow(
            path=param.path,
            name=param.path.removeprefix(f"{prefix}." if prefix else ""),
            kind="parameter",
            operation="Parameter",
            output_shapes=(self.trace.tensors[param.tensor].shape,),
            **place._asdict(),
            **cost._asdict(),
        )

    def label(self, index: int) -> str:
        """Name of an operation: a matrix product with a weight is linear."""
        entry = table.lookup(self.trace.ops[index].name)
        linear = entry.family is table.Family.MATMUL and index in self.linear
        return "linear" if linear else entry.label

    def _field(self, outputs: tuple[int, ...]) -> dict[str, Any]:
        """The receptive field of the first output."""
        tensor = outputs[0] if outputs else -1
        field = self.fields[tensor] if self.fields and outputs else None
        if field is None:
            return {"tensor": tensor}
        axes = None if field.unknown else field.axes
        return {"tensor": tensor, "field": axes, "field_unknown": field.unknown}

    def _unproductive(self, slide: shapes.Slide | None, inputs: tuple[int, ...]) -> bool:
        """Return True if it slides a kernel over units that have seen the whole image already."""
        if slide is None or not inputs or not self.fields:
            return False
        field = self.fields[inputs[0]]
        slides = any(k > 1 for k in slide.geometry.kernel_size)
        return slides and field is not None and growth.unproductive(field.axes)

    def _outputs(self, record: OpRecord) -> tuple[int, ...]:
        """Outputs but the last ones that nothing reads: indices of a pool, statistics of a norm."""
        read = [i for i, tensor in enumerate(record.outputs) if tensor in self.read]
        return record.outputs[: max(read, default=0) + 1]


def _shapes(trace: Trace, tensors: Iterable[int]) -> tuple[Shape, ...]:
    return tuple(trace.tensors[t].shape for t in tensors)


def _keeps_books(trace: Trace, record: OpRecord) -> bool:
    """Return True if an operation makes integers alone, or a single number of single numbers."""
    outputs = [trace.tensors[t] for t in record.outputs]
    read = [trace.tensors[t] for t in record.inputs.values() if isinstance(t, int)]
    single = all(prod(t.shape) <= 1 for t in (*outputs, *read))
    return single or not any("float" in t.dtype or "complex" in t.dtype for t in outputs)


# ------------------------------------------------------------------- the floor formula's shape


def _expected(slide: shapes.Slide | None, inputs: tuple[Shape, ...]) -> Shape | None:
    if slide is None or not inputs or len(inputs[0]) <= slide.axes:
        return None
    return slide.predict(inputs[0])


def _expected_of_call(trace: Trace, index: int, slide: shapes.Slide | None) -> Shape | None:
    """Output shape of a layer by its formula, None where the formula is not about the output.

    A hook may have changed what the layer was given or gave: then its formula holds inside.
    """
    call, own_ops = trace.calls[index], trace.index.own_ops.get(index, [])
    module, outputs = trace.modules[call.module], _shapes(trace, call.outputs)
    if not outputs:  # it raised, or gives no tensor back
        return None
    if slide is not None and not module.library:
        return _expected_of_op(trace, own_ops, outputs, module)
    expected = _expected(slide, _shapes(trace, call.inputs))
    hooked = expected not in (None, *outputs) and _holds_inside(trace, own_ops)
    return None if hooked else expected


def _expected_of_op(
    trace: Trace, own_ops: Sequence[int], outputs: tuple[Shape, ...], module: ModuleRecord
) -> Shape | None:
    """Output shape by the floor formula of the one operation that slides.

    None where its result is reshaped on the way out, by a module that does not claim to be a
    convolution or pool.
    """
    record = next(r for i in own_ops if shapes.of_op(trace, r := trace.ops[i]))
    as_is = trace.tensors[record.outputs[0]].shape in outputs
    if not as_is and shapes.of_module(module) is None:
        return None
    return _expected(shapes.of_op(trace, record), _shapes(trace, record.tensors))


def _holds_inside(trace: Trace, own_ops: Sequence[int]) -> bool:
    """Return True if the first operation that slides has the shape of its own formula."""
    for record in (trace.ops[i] for i in own_ops):
        slide = shapes.of_op(trace, record)
        if slide is not None:
            made = trace.tensors[record.outputs[0]].shape
            return _expected(slide, _shapes(trace, record.tensors)) == made
    return False


# ------------------------------------------------------------------------------------- names


def _features(module: ModuleRecord) -> tuple[int, int] | None:
    """Channels or features in and out, for a layer that has both."""
    for kind in ("channels", "features"):
        pair = (module.hyper.get(f"in_{kind}"), module.hyper.get(f"out_{kind}"))
        if all(isinstance(n, int) for n in pair):
            return pair  # type: ignore[return-value]
    return None


def _local_name(trace: Trace, call: CallRecord) -> str:
    """The path below the module that made the call: a child's child may be called directly."""
    path = trace.modules[call.module].path
    if call.parent < 0:
        return path
    outer = trace.modules[trace.calls[call.parent].module].path
    if not path:  # the model, called by itself
        return trace.modules[call.module].kind
    return path.removeprefix(f"{outer}.") if outer else path
