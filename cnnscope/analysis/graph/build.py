"""The graph of a trace: boxes, data flow, repeats and layout, joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from cnnscope.analysis.graph import opening, placement
from cnnscope.analysis.graph.facts import Facts
from cnnscope.analysis.graph.flow import connect
from cnnscope.analysis.graph.items import Item, Tree
from cnnscope.analysis.graph.repeats import fold
from cnnscope.analysis.graph.tidy import tidy
from cnnscope.parallel import no_collection
from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace


@no_collection()
def graph(trace: Trace, rows: tuple[LayerRow, ...]) -> g.Graph:
    """The graph of a model, laid out.

    Args:
        trace: of the model.
        rows: of its summary (`ModelReport.layers`), whose costs the boxes carry.
    """
    root = connected(trace, rows)
    fold(root, (Facts(trace, rows),))
    nodes = Nodes((Facts(trace, rows),), root).nodes()
    return g.Graph(trace.source.name, nodes, opening.opened(nodes))


def connected(trace: Trace, rows: tuple[LayerRow, ...]) -> Item:
    """The boxes of a model with their edges."""
    root = Tree(trace, rows).root()
    tidy(trace, rows, root)
    connect(trace, root)
    return root


def _alone(_: Item) -> None:
    """The counterpart of a box where there is one model."""


class Nodes:
    """Makes the records of items, numbered outer before inner."""

    def __init__(
        self,
        facts: Sequence[Facts],
        root: Item,
        counterpart: Callable[[Item], g.Counterpart | None] = _alone,
    ) -> None:
        """Take a tree of boxes.

        Args:
            facts: of each model that has items in the tree (`Item.side`).
            root: of the tree.
            counterpart: of an item.
        """
        self.facts, self.counterpart = facts, counterpart
        self.items: list[Item] = []
        self._number(root)
        self.place = {item: n for n, item in enumerate(self.items)}
        self.layouts: dict[Item, g.Layout] = {}
        self.costs: dict[Item, g.Costs] = {}
        self.laid: dict[placement.Block, g.Layout] = {}

    def nodes(self) -> tuple[g.GraphNode, ...]:
        """The nodes of all items."""
        for item in reversed(self.items):
            self.costs[item] = self.facts[item.side].costs(item)
            if item.children:
                self.layouts[item] = self._layout(item)
        return tuple(map(self._node, self.items))

    def _number(self, item: Item) -> None:
        self.items.append(item)
        for child in item.children:
            self._number(child)

    def _node(self, item: Item) -> g.GraphNode:
        facts = self.facts[item.side]
        row = facts.row(item)
        members = item.children if item.kind == g.REPEAT else []
        return g.GraphNode(
            kind=item.kind,
            parent=self.place[item.parent] if item.parent else -1,
            path=facts.path(item),
            name=self._name(item),
            label=facts.label(item),
            family=facts.family(item),
            call=row.call if row else 1,
            row=item.row,
            merged=tuple(item.merged),
            inputs=facts.shapes(item.ins),
            outputs=facts.outputs(item),
            costs=self.costs[item],
            repeat=max(len(members), 1),
            paths=tuple(map(facts.path, members)),
            children=tuple(self.place[child] for child in item.children),
            edges=tuple(self._edges(item)),
            layout=self.layouts.get(item),
            fails=row.fails if row else False,
            counterpart=self.counterpart(item),
        )

    def _edges(self, item: Item) -> list[g.GraphEdge]:
        place = self.place
        return [
            g.GraphEdge(place[a] if a else g.BORDER, i, place[b] if b else g.BORDER, j)
            for a, i, b, j in item.edges
        ]

    def _name(self, item: Item) -> str:
        facts = self.facts[item.side]
        if item.kind not in (g.INPUT, g.OUTPUT):
            return facts.name(item)
        alike = [one for one in self.items if (one.kind, one.side) == (item.kind, item.side)]
        at = alike.index(item)
        names = [spec.name or "" for spec in facts.trace.input_specs]
        own = names[at] if item.kind == g.INPUT and at < len(names) else ""
        return own or (f"{item.kind} {at + 1}" if len(alike) > 1 else item.kind)

    def _border(self, item: Item) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Slots of a repeat's ports: those of its members, which one of them stands for."""
        if item.kind != g.REPEAT or item.children[0] not in self.layouts:
            return None
        slots = [0] * len(item.ins), [0] * len(item.outs)
        for source, out, target, into in item.edges:
            if source is None and target is not None:
                slots[0][out] = self.layouts[target].inputs[into]
            if target is None and source is not None:
                slots[1][into] = self.layouts[source].outputs[out]
        return tuple(slots[0]), tuple(slots[1])

    def _layout(self, item: Item) -> g.Layout:
        """The layout of a block; equal blocks are laid out once."""
        place: dict[Item | None, int] = {child: n for n, child in enumerate(item.children)}
        place[None] = g.BORDER
        layouts = [self.layouts.get(child) for child in item.children]
        block = placement.Block(
            size=len(item.children),
            edges=tuple(g.GraphEdge(place[a], i, place[b], j) for a, i, b, j in item.edges),
            inputs=len(item.ins),
            outputs=len(item.outs),
            slots=tuple((own.inputs, own.outputs) if own else None for own in layouts),
            weight=tuple(self.costs[child].macs for child in item.children),
            aside=tuple(child.kind != g.INPUT and not child.ins for child in item.children),
            border=self._border(item),
        )
        laid = self.laid.get(block)
        if laid is None:
            laid = self.laid[block] = placement.place(block)
        places = [g.Place(self.place[item.children[p.node]], p.row, p.rail) for p in laid.places]
        return replace(laid, places=tuple(places))
