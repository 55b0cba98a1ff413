"""The call tree as rows: modules where they were called, operations where they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from math import prod
from typing import Any, NamedTuple

from cnnscope.analysis import growth, shapes, weights
from cnnscope.analysis import params as parameters
from cnnscope.analysis.cost import tensor_bytes
from cnnscope.errors import RequestError
from cnnscope.ops import table
from cnnscope.records import (
    CallRecord,
    Field,
    LayerRow,
    ModuleRecord,
    OpRecord,
    ParamRecord,
    Shape,
    Trace,
)


class Cost(NamedTuple):
    """What one row or operation adds to the sums of the rows around it."""

    params: int = 0
    trainable: int = 0
    buffers: int = 0
    macs: int = 0
    element_ops: int = 0
    unknown: int = 0

    def plus(self, other: Cost) -> Cost:
        """The sum, field by field."""
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


Fields = tuple[Field | None, ...]


def rows(trace: Trace, fields: Fields = ()) -> tuple[LayerRow, ...]:
    """One row per module call, functional operation and bare parameter, in execution order.

    The first row is the model itself. Every row's costs include the rows inside it, so the rows
    of one depth, with the bare ones above, add up to the whole: parameters and buffers that no
    operation read excepted, which belong to no row.
    `fields` are the receptive fields of all tensors, where they are wanted.
    """
    return tuple(_Builder(trace, fields).build())


class _Builder:
    """Walks the call tree once, depth first, and sums costs on the way back."""

    def __init__(self, trace: Trace, fields: Fields) -> None:
        self.trace, self.fields = trace, fields
        self.rows: list[LayerRow | None] = []
        self.owned = parameters.owners(trace)
        found = weights.weight_ops(trace)
        self.linear = {op.op for op in found if op.kind is not weights.Layer.CONVOLUTION}
        self.index = trace.index
        self.read = {*trace.outputs, *self.index.readers}
        for call in trace.calls:
            self.read.update(call.inputs, call.outputs)

    def build(self) -> list[LayerRow]:
        for call in self.index.children.get(-1, ()):
            self._call(call, parent=-1, depth=0)
        return [row for row in self.rows if row is not None]

    # -- rows

    def _call(self, index: int, parent: int, depth: int) -> Cost:
        """Add the row of a module call and the rows inside it."""
        call = self.trace.calls[index]
        module = self.trace.modules[call.module]
        at = len(self.rows)
        self.rows.append(None)  # known when everything inside is
        owned, own_ops = self.owned.get(index, []), self.index.own_ops.get(index, [])
        if self._is_leaf(index, module):
            cost = _sum([*map(self._param_cost, owned), *map(self._op_cost, own_ops)])
        else:
            inside = [self._parameter(param, module, at, depth + 1) for param in owned]
            cost = _sum(inside).plus(self._inside(index, at, depth + 1))
        leaf = len(self.rows) == at + 1
        self.rows[at] = self._module_row(index, parent, depth, cost, leaf=leaf)
        return cost

    def _inside(self, index: int, at: int, depth: int) -> Cost:
        """Add the calls and operations inside a call, in the order in which they ran."""
        names: Counter[str] = Counter()
        total = Cost()
        for is_op, item in self.index.events(index):
            if is_op:
                total = total.plus(self._operation(item, index, at, depth, names))
            else:
                total = total.plus(self._call(item, at, depth))
        return total

    def _is_leaf(self, index: int, module: ModuleRecord) -> bool:
        """A module of torch.nn without children, or one that does a single thing."""
        if index in self.index.children:
            return False
        if module.library:
            return True
        own = shapes.without_weights(self.trace, self.index.own_ops.get(index, ()))
        return sum(map(self._computes, own)) <= 1

    def _module_row(
        self, index: int, parent: int, depth: int, cost: Cost, *, leaf: bool
    ) -> LayerRow:
        trace = self.trace
        call = trace.calls[index]
        module = trace.modules[call.module]
        own_ops = self.index.own_ops.get(index, [])
        slide = shapes.of_call(trace, module, own_ops) if leaf else None
        inputs = self._shapes(call.inputs)
        outputs = self._shapes(call.outputs)
        expected = _expected(slide, inputs)
        if expected not in (None, *outputs) and self._hooked(own_ops):
            expected = None
        if slide is not None and not module.library:
            expected = self._expected_of_op(own_ops, outputs, module)
        return LayerRow(
            path=module.path,
            name=_local_name(trace, call),
            depth=depth,
            kind="module",
            operation=module.kind,
            parent=parent,
            call=self.index.keys[index][1],
            geometry=slide.geometry if slide and slide.geometry.kernel_size else None,
            input_shapes=inputs,
            output_shapes=outputs,
            expected_output=expected,
            features=_features(module),
            activation_bytes=sum(tensor_bytes(trace, t) for t in call.outputs),
            **self._field(call.outputs),
            unproductive=self._unproductive(slide, call.inputs),
            leaf=leaf,
            minor=leaf and not cost.params and not any(map(self._computes, own_ops)),
            **_costs(cost),
        )

    def _operation(
        self, index: int, call: int, parent: int, depth: int, names: Counter[str]
    ) -> Cost:
        trace, record = self.trace, self.trace.ops[index]
        entry = table.lookup(record.name)
        label = self._label(index, entry)
        name = label.replace(" ", "_")
        names[name] += 1
        if names[name] > 1:
            name = f"{name}_{names[name] - 1}"
        prefix = trace.modules[trace.calls[call].module].path
        slide = shapes.of_op(trace, record)
        inputs, outputs = self._op_inputs(record), self._op_outputs(record)
        cost = self._op_cost(index)
        self.rows.append(
            LayerRow(
                path=f"{prefix}.{name}" if prefix else name,
                name=name,
                depth=depth,
                kind="operation",
                operation=label,
                parent=parent,
                geometry=slide.geometry if slide else None,
                input_shapes=inputs,
                output_shapes=self._shapes(outputs),
                expected_output=_expected(slide, inputs),
                activation_bytes=sum(tensor_bytes(trace, t) for t in outputs),
                **self._field(outputs),
                minor=entry.kind is not table.Kind.UNKNOWN
                and (not entry.computes or self._keeps_books(record)),
                **_costs(cost),
            )
        )
        return cost

    def _parameter(self, param: ParamRecord, module: ModuleRecord, parent: int, depth: int) -> Cost:
        """Add the row of a parameter that a module holds beside its children."""
        cost = self._param_cost(param)
        if param.buffer:
            return cost
        prefix = f"{module.path}." if module.path else ""
        self.rows.append(
            LayerRow(
                path=param.path,
                name=param.path.removeprefix(prefix),
                depth=depth,
                kind="parameter",
                operation="Parameter",
                parent=parent,
                output_shapes=(self.trace.tensors[param.tensor].shape,),
                **_costs(cost),
            )
        )
        return cost

    # -- facts

    def _field(self, outputs: tuple[int, ...]) -> dict[str, Any]:
        """The receptive field of the first output."""
        tensor = outputs[0] if outputs else -1
        field = self.fields[tensor] if self.fields and outputs else None
        if field is None:
            return {"tensor": tensor}
        axes = None if field.unknown else field.axes
        return {"tensor": tensor, "field": axes, "field_unknown": field.unknown}

    def _unproductive(self, slide: shapes.Slide | None, inputs: tuple[int, ...]) -> bool:
        """Whether it slides a kernel over units that have seen the whole image already."""
        if slide is None or not inputs or not self.fields:
            return False
        field = self.fields[inputs[0]]
        slides = any(k > 1 for k in slide.geometry.kernel_size)
        return slides and field is not None and growth.unproductive(field.axes)

    def _op_cost(self, index: int) -> Cost:
        trace, record = self.trace, self.trace.ops[index]
        if table.lookup(record.name).kind is table.Kind.UNKNOWN:
            return Cost(unknown=1)
        return Cost(macs=table.macs(trace, record), element_ops=table.element_ops(trace, record))

    def _param_cost(self, param: ParamRecord) -> Cost:
        size = parameters.numel(self.trace, param)
        if param.buffer:
            return Cost(buffers=size)
        return Cost(params=size, trainable=size if param.trainable else 0)

    def _computes(self, index: int) -> bool:
        return table.lookup(self.trace.ops[index].name).computes

    def _keeps_books(self, record: OpRecord) -> bool:
        """Whether only integers come out, or single numbers go in and come out."""
        outputs = [self.trace.tensors[t] for t in record.outputs]
        read = [self.trace.tensors[t] for t in record.inputs.values() if isinstance(t, int)]
        single = all(prod(t.shape) <= 1 for t in (*outputs, *read))
        return single or not any("float" in t.dtype or "complex" in t.dtype for t in outputs)

    def _label(self, index: int, entry: table.Entry) -> str:
        linear = entry.family is table.Family.MATMUL and index in self.linear
        return "linear" if linear else entry.label

    def _expected_of_op(
        self, own_ops: list[int], outputs: tuple[Shape, ...], module: ModuleRecord
    ) -> Shape | None:
        """By the formula of the one operation that slides.

        None where its result is reshaped on the way out, by a module that does not claim to be a
        convolution or pool.
        """
        record = next(r for i in own_ops if shapes.of_op(self.trace, r := self.trace.ops[i]))
        as_is = self.trace.tensors[record.outputs[0]].shape in outputs
        if not as_is and shapes.of_module(module) is None:
            return None
        return _expected(shapes.of_op(self.trace, record), self._op_inputs(record))

    def _hooked(self, own_ops: list[int]) -> bool:
        """Whether a hook changed what a layer was given or gave: its formula holds inside."""
        for record in (self.trace.ops[i] for i in own_ops):
            slide = shapes.of_op(self.trace, record)
            if slide is not None:
                made = self.trace.tensors[record.outputs[0]].shape
                return _expected(slide, self._op_inputs(record)) == made
        return False

    def _op_inputs(self, record: OpRecord) -> tuple[Shape, ...]:
        return self._shapes(record.tensors)

    def _op_outputs(self, record: OpRecord) -> tuple[int, ...]:
        """Without what comes last and nobody reads: a pool's indices, a norm's statistics."""
        read = [i for i, tensor in enumerate(record.outputs) if tensor in self.read]
        return record.outputs[: max(read, default=0) + 1]

    def _shapes(self, tensors: tuple[int, ...]) -> tuple[Shape, ...]:
        return tuple(self.trace.tensors[t].shape for t in tensors)


def _sum(costs: list[Cost]) -> Cost:
    total = Cost()
    for cost in costs:
        total = total.plus(cost)
    return total


def _costs(cost: Cost) -> dict[str, Any]:
    return {
        "params": cost.params,
        "trainable_params": cost.trainable,
        "buffers": cost.buffers,
        "macs": cost.macs,
        "element_ops": cost.element_ops,
        "unknown_ops": cost.unknown,
    }


def _expected(slide: shapes.Slide | None, inputs: tuple[Shape, ...]) -> Shape | None:
    if slide is None or not inputs or len(inputs[0]) <= slide.axes:
        return None
    return slide.predict(inputs[0])


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


def find(rows: Sequence[LayerRow], path: str) -> LayerRow:
    """The row of a layer.

    Raises:
        RequestError: there is none; it names the nearest.
    """
    found = next((row for row in rows if row.path == path), None)
    if found is None:
        near = get_close_matches(path, [row.path for row in rows], 3, 0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise RequestError(f"there is no layer {path[:80]!r}{hint}")
    return found
