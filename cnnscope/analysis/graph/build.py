"""The graph of a trace: boxes, data flow, repeats and layout, joined."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from cnnscope.analysis.graph import opening, placement
from cnnscope.analysis.graph.flow import connect
from cnnscope.analysis.graph.items import Item, Tree
from cnnscope.analysis.graph.labels import Labels
from cnnscope.analysis.graph.repeats import fold
from cnnscope.analysis.graph.tidy import tidy
from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Shape, Trace


def graph(trace: Trace, rows: tuple[LayerRow, ...]) -> g.Graph:
    """The graph of a model, laid out.

    Args:
        trace: of the model.
        rows: of its summary (`ModelReport.layers`), whose costs the boxes carry.
    """
    root = Tree(trace, rows).root()
    tidy(trace, rows, root)
    connect(trace, root)
    fold(trace, rows, root)
    nodes = _Nodes(trace, rows, root).nodes()
    return g.Graph(trace.source.name, nodes, opening.opened(nodes))


class _Nodes:
    """Makes the records of items, numbered outer before inner."""

    def __init__(self, trace: Trace, rows: Sequence[LayerRow], root: Item) -> None:
        self.trace, self.rows = trace, rows
        self.labels = Labels(trace, rows)
        self.items: list[Item] = []
        self._number(root)
        self.place = {item: n for n, item in enumerate(self.items)}
        self.layouts: dict[Item, g.Layout] = {}
        self.costs: dict[Item, g.Costs] = {}

    def nodes(self) -> tuple[g.GraphNode, ...]:
        """The nodes of all items."""
        for item in reversed(self.items):
            self.costs[item] = self._costs(item)
            if item.children:
                self.layouts[item] = self._layout(item)
        return tuple(map(self._node, self.items))

    def _number(self, item: Item) -> None:
        self.items.append(item)
        for child in item.children:
            self._number(child)

    def _node(self, item: Item) -> g.GraphNode:
        row = self.labels.row(item)
        members = item.children if item.kind == g.REPEAT else []
        return g.GraphNode(
            kind=item.kind,
            parent=self.place[item.parent] if item.parent else -1,
            path=self.labels.path(item),
            name=self._name(item),
            label=self.labels.label(item),
            family=self.labels.family(item),
            call=row.call if row else 1,
            row=item.row,
            merged=tuple(item.merged),
            inputs=self._shapes(item.ins),
            outputs=self._outputs(item),
            costs=self.costs[item],
            repeat=max(len(members), 1),
            paths=tuple(map(self.labels.path, members)),
            children=tuple(self.place[child] for child in item.children),
            edges=tuple(self._edges(item)),
            layout=self.layouts.get(item),
            fails=row.fails if row else False,
        )

    def _edges(self, item: Item) -> list[g.GraphEdge]:
        place = self.place
        return [
            g.GraphEdge(place[a] if a else g.BORDER, i, place[b] if b else g.BORDER, j)
            for a, i, b, j in item.edges
        ]

    def _name(self, item: Item) -> str:
        if item.kind in (g.INPUT, g.OUTPUT):
            tensors = self.trace.inputs if item.kind == g.INPUT else self.trace.outputs
            at = [child for child in self.items if child.kind == item.kind].index(item)
            names = [spec.name or "" for spec in self.trace.input_specs]
            own = names[at] if item.kind == g.INPUT and at < len(names) else ""
            return own or (f"{item.kind} {at + 1}" if len(tensors) > 1 else item.kind)
        return self.labels.name(item)

    def _shapes(self, tensors: Sequence[int]) -> tuple[Shape, ...]:
        return tuple(self.trace.tensors[t].shape for t in tensors)

    def _outputs(self, item: Item) -> tuple[Shape, ...]:
        if item.outs:
            return self._shapes(item.outs)
        if item.tensor >= 0:
            return self._shapes([item.tensor])
        return self.rows[item.row].output_shapes if item.row >= 0 else ()

    def _costs(self, item: Item) -> g.Costs:
        if item.kind == g.REPEAT:
            parts = [self.costs[child] for child in item.children]
            return _total(parts, parts[-1].field)
        rows = [self.rows[r] for r in (item.row, *item.merged) if r >= 0]
        return (
            _total([_of_row(row) for row in rows], _of_row(rows[-1]).field) if rows else g.Costs()
        )

    def _border(self, item: Item) -> tuple[list[int], list[int]] | None:
        """Slots of a repeat's ports: those of its members, which one of them stands for."""
        if item.kind != g.REPEAT or item.children[0] not in self.layouts:
            return None
        slots = [0] * len(item.ins), [0] * len(item.outs)
        for source, out, target, into in item.edges:
            if source is None and target is not None:
                slots[0][out] = self.layouts[target].inputs[into]
            if target is None and source is not None:
                slots[1][into] = self.layouts[source].outputs[out]
        return slots

    def _layout(self, item: Item) -> g.Layout:
        place: dict[Item | None, int] = {child: n for n, child in enumerate(item.children)}
        place[None] = g.BORDER
        layouts = [self.layouts.get(child) for child in item.children]
        slots = [(own.inputs, own.outputs) if own else None for own in layouts]
        laid = placement.place(
            placement.Block(
                size=len(item.children),
                edges=[g.GraphEdge(place[a], i, place[b], j) for a, i, b, j in item.edges],
                inputs=len(item.ins),
                outputs=len(item.outs),
                slots=slots,
                weight=[self.costs[child].macs for child in item.children],
                aside=[child.kind in (g.PARAMETER, g.CONSTANT) for child in item.children],
                border=self._border(item),
            )
        )
        places = [g.Place(self.place[item.children[p.node]], p.row, p.rail) for p in laid.places]
        return replace(laid, places=tuple(places))


def _of_row(row: LayerRow) -> g.Costs:
    sizes = None if row.field is None else tuple(axis.local_size for axis in row.field)
    return g.Costs(row.params, row.macs, row.element_ops, row.activation_bytes, sizes)


def _total(parts: Sequence[g.Costs], field: tuple[int | None, ...] | None) -> g.Costs:
    return g.Costs(
        params=sum(part.params for part in parts),
        macs=sum(part.macs for part in parts),
        element_ops=sum(part.element_ops for part in parts),
        activation_bytes=sum(part.activation_bytes for part in parts),
        field=field,
    )
