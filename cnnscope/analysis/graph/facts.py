"""What stands in the boxes of a graph: operation, kernel, name, family, shapes, costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnscope.analysis import weights
from cnnscope.analysis.graph.items import Item
from cnnscope.ops import table
from cnnscope.records import graph as g
from cnnscope.records.summary import Geometry, LayerRow
from cnnscope.records.trace import Shape, Trace
from cnnscope.text import operation, visible

_NAMED = 3  # operations that are named in one box
_ACTIVATIONS = ("tanh", "sigmoid")  # arithmetic to the table of operations, as exp is
_MOVES = frozenset((table.Kind.REARRANGE, table.Kind.CREATE))


class Facts:
    """What is known of the items of one trace."""

    def __init__(self, trace: Trace, rows: Sequence[LayerRow]) -> None:
        self.trace, self.rows = trace, rows
        found = weights.weight_ops(trace)
        self.linear = {op.op for op in found if op.kind is weights.Layer.LINEAR}
        self._names: dict[int, str] = {}

    def row(self, item: Item) -> LayerRow | None:
        """The row of an item in the table of layers."""
        return self.rows[item.row] if item.row >= 0 else None

    # -- labels

    def label(self, item: Item) -> str:
        """Class or operation, with what tells it from others of its kind."""
        if item.kind == g.REPEAT:
            return self.label(item.children[0])
        if item.group:
            return _some([self.label(child) for child in item.children])
        if item.tensor >= 0:
            return "" if item.kind == g.PARAMETER else self.trace.tensors[item.tensor].dtype
        if item.kind in (g.OPERATION, g.CONSTANT) and item.ops:
            return self._of_operations(item)
        row = self.row(item)
        return _of_row(row, leaf=not item.children) if row else ""

    def _of_operations(self, item: Item) -> str:
        """The operation that an item is named after, else the names of all, each once."""
        row = self.row(item)
        if row is not None and row.geometry is not None:
            return _of_row(row, leaf=True)
        if item.main < 0:
            return _some([self._named(op) for op in item.ops])
        record = self.trace.ops[item.main]
        weight = record.inputs.get("mat2")
        if item.main not in self.linear or not isinstance(weight, int):
            return self._named(item.main)
        return f"linear {' -> '.join(map(str, self.trace.tensors[weight].shape))}"

    def _named(self, op: int) -> str:
        """Name of an operation; a view that leaves two dimensions of more is a flatten."""
        if op not in self._names:
            self._names[op] = self._name_of(op)
        return self._names[op]

    def _name_of(self, op: int) -> str:
        record = self.trace.ops[op]
        if op in self.linear and table.lookup(record.name).family is table.Family.MATMUL:
            return "linear"
        if table.lookup(record.name).family is table.Family.VIEW:
            shapes = [self.trace.tensors[t].shape for t in (record.tensors[0], record.outputs[0])]
            if len(shapes[1]) == 2 < len(shapes[0]) and shapes[0][0] == shapes[1][0]:
                return "flatten"
        if not record.name.startswith("aten."):
            return table.base_name(record.name).rpartition(".")[2]
        return operation(record.name).removeprefix("unsafe_").rstrip("_")

    # -- names

    def name(self, item: Item) -> str:
        """Last part of a path; of an operation with weights of its own the part that they share."""
        if item.group:
            ends = self.name(item.children[0]), self.name(item.children[-1])
            return " \N{HORIZONTAL ELLIPSIS} ".join(ends)
        stems = {name.rpartition(".")[0] for name in item.held}
        row = self.row(item)
        return (stems.pop() if len(stems) == 1 else "") or (row.name if row else "")

    def path(self, item: Item) -> str:
        """Path of an item; of a group that of its first child."""
        if item.group:
            return self.path(item.children[0])
        row = self.row(item)
        return row.path if row else ""

    # -- families

    def family(self, item: Item) -> str:
        """Family of what it computes: of several operations the first product, else the first."""
        if item.kind == g.REPEAT:
            return self.family(item.children[0])
        if item.children:
            return g.BLOCK
        if item.tensor >= 0:
            return item.kind
        return str(self._family(item).value)

    def _family(self, item: Item) -> table.Family:
        ops = [item.main] if item.main >= 0 else item.ops
        entries = [(op, table.lookup(self.trace.ops[op].name)) for op in ops]
        best = next((one for one in entries if one[1].multiplies), None)
        best = best or next((one for one in entries if one[1].kind not in _MOVES), None)
        best = best or (entries[0] if entries else None)
        if best is None:  # it passes on what it gets
            drops = any(dropped.call == item.call for dropped in self.trace.dropouts)
            return table.Family.DROPOUT if drops else table.Family.COPY
        if best[0] in self.linear and best[1].family is table.Family.MATMUL:
            return table.Family.LINEAR
        activates = table.base_name(self.trace.ops[best[0]].name) in _ACTIVATIONS
        return table.Family.ACTIVATION if activates else best[1].family

    # -- shapes and costs

    def shapes(self, tensors: Iterable[int]) -> tuple[Shape, ...]:
        """Shapes of tensors."""
        return tuple(self.trace.tensors[tensor].shape for tensor in tensors)

    def outputs(self, item: Item) -> tuple[Shape, ...]:
        """Shape of each output; also of one that nothing reads."""
        if item.outs:
            return self.shapes(item.outs)
        if item.tensor >= 0:
            return self.shapes([item.tensor])
        row = self.row(item)
        return row.output_shapes if row else ()

    def costs(self, item: Item) -> g.Costs:
        """Costs of an item: those of its rows; of a repeat those of its members."""
        if item.kind == g.REPEAT:
            parts = [self.costs(child) for child in item.children]
        else:
            parts = [_of(self.rows[row]) for row in (item.row, *item.merged) if row >= 0]
        if len(parts) == 1:
            return parts[0]
        last = parts[0 if item.main >= 0 else -1].field if parts else None
        return g.Costs(
            params=sum(part.params for part in parts),
            macs=sum(part.macs for part in parts),
            element_ops=sum(part.element_ops for part in parts),
            activation_bytes=sum(part.activation_bytes for part in parts),
            field=last,
        )


def _of(row: LayerRow) -> g.Costs:
    sizes = None if row.field is None else tuple(axis.local_size for axis in row.field)
    return g.Costs(row.params, row.macs, row.element_ops, row.activation_bytes, sizes)


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    more = ", ..." if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _of_row(row: LayerRow, *, leaf: bool) -> str:
    if row.geometry is not None and row.geometry.kernel_size:
        return f"{visible(row.operation)} {_kernel(row.geometry)}"
    if row.features is not None and leaf:
        return f"{visible(row.operation)} {row.features[0]} -> {row.features[1]}"
    return visible(row.operation)


def _kernel(geometry: Geometry) -> str:
    """3x3, stride 2, dilation 2, groups 32: each where it says something."""
    parts = ["x".join(map(str, geometry.kernel_size))]
    if any(size != 1 for size in geometry.stride):
        parts.append(f"stride {_one(geometry.stride)}")
    if any(size != 1 for size in geometry.dilation):
        parts.append(f"dilation {_one(geometry.dilation)}")
    if geometry.groups != 1:
        parts.append(f"groups {geometry.groups}")
    return ", ".join(parts)


def _one(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))
