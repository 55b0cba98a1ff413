"""What stands in the boxes of a graph: operation, kernel, family."""

from __future__ import annotations

from collections.abc import Sequence

from cnnscope.analysis.graph.items import Item
from cnnscope.ops import table
from cnnscope.records import graph as g
from cnnscope.records.summary import Geometry, LayerRow
from cnnscope.records.trace import Trace
from cnnscope.text import operation, visible

_MOVES = 3  # operations that are named in one box
_PLAIN = frozenset((table.Kind.REARRANGE, table.Kind.CREATE))


def label(trace: Trace, rows: Sequence[LayerRow], item: Item) -> str:
    """Class or operation, with what tells it from others of its kind."""
    if item.tensor >= 0:
        return "" if item.kind == g.PARAMETER else trace.tensors[item.tensor].dtype
    if item.kind == g.REPEAT:
        return label(trace, rows, item.children[0])
    row = rows[item.row] if item.row >= 0 else None
    if item.kind in (g.OPERATION, g.CONSTANT) and item.ops and (row is None or _plain(row, item)):
        return _several(trace, item)
    return _of_row(row, item) if row else ""


def _plain(row: LayerRow, item: Item) -> bool:
    """Return True for several operations, and for one that its row says no more of."""
    return len(item.ops) > 1 or (row.geometry is None and row.operation != "linear")


def _of_row(row: LayerRow, item: Item) -> str:
    if row.geometry is not None and row.geometry.kernel_size:
        return f"{visible(row.operation)} {_kernel(row.geometry)}"
    if row.features is not None and not item.children:
        return f"{visible(row.operation)} {row.features[0]} -> {row.features[1]}"
    return visible(row.operation)


def _several(trace: Trace, item: Item) -> str:
    """Names of operations in one box, each once."""
    names = list(dict.fromkeys(_named(trace, op) for op in item.ops))
    more = ", ..." if len(names) > _MOVES else ""
    return ", ".join(names[:_MOVES]) + more


def _named(trace: Trace, op: int) -> str:
    """Label of an operation; a view that makes one dimension of all but the first is a flatten."""
    record = trace.ops[op]
    entry = table.lookup(record.name)
    if entry.family is table.Family.VIEW:
        before, after = (trace.tensors[t].shape for t in (record.tensors[0], record.outputs[0]))
        if len(after) == 2 < len(before) and after[0] == before[0]:
            return "flatten"
    return operation(record.name).rpartition(".")[2].rstrip("_") or entry.label


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


def family(trace: Trace, item: Item) -> str:
    """The family of what it computes: of several operations the first product's, else the first."""
    if item.kind == g.REPEAT:
        return family(trace, item.children[0])
    if item.children:
        return g.BLOCK
    if item.tensor >= 0:
        return item.kind
    entries = [table.lookup(trace.ops[op].name) for op in item.ops]
    best = next((e for e in entries if e.multiplies), None)
    best = best or next((e for e in entries if e.kind not in _PLAIN), None)
    best = best or (entries[0] if entries else None)
    if best is None:  # it passes on what it gets
        drops = any(dropped.call == item.call for dropped in trace.dropouts)
        return str((table.Family.DROPOUT if drops else table.Family.COPY).value)
    return str(best.family.value)
