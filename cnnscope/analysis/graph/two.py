"""One graph of two models: the second one, with what is only in the first put where it was."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from cnnscope.analysis.graph import opening
from cnnscope.analysis.graph.build import Nodes, connected
from cnnscope.analysis.graph.facts import Facts
from cnnscope.analysis.graph.items import Edge, Item
from cnnscope.analysis.graph.repeats import fold
from cnnscope.parallel import no_collection
from cnnscope.records import graph as g
from cnnscope.records.diff import DiffRow
from cnnscope.records.summary import LayerRow, RowKey
from cnnscope.records.trace import Trace

Rows = tuple[LayerRow, ...]
_ENDS = (g.INPUT, g.OUTPUT)


@no_collection()
def graph_of_two(
    traces: tuple[Trace, Trace], rows: tuple[Rows, Rows], differences: Sequence[DiffRow]
) -> g.Graph:
    """The graph of two models that are compared.

    Args:
        traces: of the models, before and after.
        rows: of their summaries (`ModelReport.layers`).
        differences: the rows of their diff (`DiffReport.rows`).
    """
    before, after = map(connected, traces, rows)
    for item in (before, *_all(before)):
        item.side = 1
    facts = Facts(traces[1], rows[1]), Facts(traces[0], rows[0])
    pairs = _Pairs(facts, before, after, differences)
    pairs.insert(before)
    fold(after, facts, pairs.key)
    nodes = Nodes(facts, after, pairs.counterpart).nodes()
    names = " -> ".join(trace.source.name for trace in traces)
    return g.Graph(names, nodes, opening.opened_at_differences(nodes))


class _Pairs:
    """Items that belong together, and how they compare."""

    def __init__(
        self, facts: tuple[Facts, Facts], before: Item, after: Item, rows: Sequence[DiffRow]
    ) -> None:
        self.facts = facts
        self.mates = {before: after, after: before}  # of each model in the other
        self.found: dict[Item, list[DiffRow]] = {}
        self.shown: set[Item] = set()  # of the first model, where the second has a box for it
        places = [self._places(facts[side].rows, root) for side, root in ((0, after), (1, before))]
        for row in rows:
            items = [
                places[side].get(own.key) if own is not None else None
                for side, own in ((0, row.after), (1, row.before))
            ]
            if items[0] and items[1]:
                self.shown.add(items[1])
            for item in filter(None, items):
                self.found.setdefault(item, []).append(row)
            self._mate(items[1], items[0])
        for kind in _ENDS:
            ends = [[c for c in root.children if c.kind == kind] for root in (before, after)]
            for one, other in zip(*ends, strict=False):
                self._mate(one, other)

    def _places(self, rows: Sequence[LayerRow], root: Item) -> dict[RowKey, Item]:
        """The item of every row."""
        found = {}
        for item in (root, *_all(root)):
            for row in (item.row, *item.merged):
                if row >= 0:
                    found[rows[row].key] = item
        return found

    def _mate(self, before: Item | None, after: Item | None) -> None:
        if before and after and before not in self.mates and after not in self.mates:
            self.mates[before], self.mates[after] = after, before

    # -- statuses

    def status(self, item: Item) -> str:
        """Status of an item: of a diff's rows, or of what is inside a box that is no row."""
        if item.kind == g.REPEAT or item.group:
            return _common({self.status(child) for child in item.children})
        if item.side:
            return "removed"
        if item.kind in _ENDS:
            return self._of_end(item)
        if item not in self.found:  # a block that stands on one level only has no row
            return _common(
                {self.status(child) for child in item.children if child.kind not in _ENDS}
            )
        return _common({row.status for row in self.found[item]})

    def _of_end(self, item: Item) -> str:
        mate = self.mates.get(item)
        if mate is None:
            return "added"
        shapes = [self.facts[one.side].outputs(one) for one in (item, mate)]
        return "same" if shapes[0] == shapes[1] else "resized"

    def key(self, item: Item) -> Hashable:
        """What has to be equal for two items to be folded, beside themselves."""
        found = self.counterpart(item)
        if found is None:
            return None
        return found.status, found.label, found.outputs, str(found.changes), str(found.costs)

    def counterpart(self, item: Item) -> g.Counterpart | None:
        """How an item compares with the other model."""
        status = self.status(item)
        first = item.children[0] if item.kind == g.REPEAT else item
        mate = self.mates.get(first)
        if status not in ("changed", "resized") or mate is None or first.group:
            return g.Counterpart(status)
        facts = self.facts[mate.side]
        return g.Counterpart(
            status=status,
            label=facts.label(mate),
            outputs=facts.outputs(mate),
            costs=facts.costs(mate),
            changes=tuple(one for row in self.found.get(first, ()) for one in row.changes),
        )

    # -- what is only in the first model

    def insert(self, before: Item) -> None:
        """Put items that are only in the first model into the blocks that they were in."""
        gone_with = {part for item in _all(before) if self._removed(item) for part in _all(item)}
        for block in (before, *_all(before)):
            mate = self._around(block)
            if block in gone_with or mate is None or not mate.children or not block.children:
                continue
            gone = [child for child in block.children if self._removed(child)]
            if gone:
                edges = [edge for edge in block.edges if edge[0] in gone or edge[2] in gone]
                self._place(block, mate)
                self._join(edges, mate)

    def _around(self, block: Item) -> Item | None:
        """The counterpart of a block; of one without a row, that of the block around it."""
        at: Item | None = block
        while at is not None and at not in self.mates and at not in self.found:
            at = at.parent
        return None if at is None else self.mates.get(at)

    def _removed(self, item: Item) -> bool:
        """Return True if the second model has nothing that an item of the first could stand for.

        A block whose counterpart has no parts (`Identity` for a convolution) is gone as well.
        """
        mate = self.mates.get(item)
        if item.kind in _ENDS:
            return mate is None
        rows = self.found.get(item, ())
        if not rows or all(row.status == "removed" for row in rows):
            return bool(rows)
        alone = mate is None and item not in self.shown
        hollow = bool(item.children) and mate is not None and not mate.children
        return hollow or (alone and any(row.status == "changed" for row in rows))

    def _place(self, block: Item, mate: Item) -> None:
        """Each after the one that it followed."""
        at = 0
        for child in block.children:
            other = self.mates.get(child)
            if other is not None and other.parent is mate:
                at = max(at, mate.children.index(other) + 1)
            if self._removed(child):
                child.parent = mate
                mate.children.insert(at, child)
                at += 1

    def _join(self, edges: Sequence[Edge], mate: Item) -> None:
        """Edges of what was put in: to the same items, else to their counterparts."""
        order = {item: n for n, item in enumerate(mate.children)}
        for source, out, target, into in edges:
            start = self._end(source, mate)
            end = self._end(target, mate)
            first = mate.ins if start is None else start.outs
            last = mate.outs if end is None else end.ins
            known = (start is None or start in order) and (end is None or end in order)
            if not known or not first or not last:
                continue
            if start is None or end is None or order[start] < order[end]:
                ports = min(out, len(first) - 1), min(into, len(last) - 1)
                mate.edges.append((start, ports[0], end, ports[1]))

    def _end(self, item: Item | None, mate: Item) -> Item | None:
        if item is None or item.parent is mate:
            return item
        return self.mates.get(item, item)


def _common(statuses: set[str]) -> str:
    """Status of what has parts of these."""
    if len(statuses) <= 1:
        return next(iter(statuses), "same")
    return "resized" if statuses == {"same", "resized"} else "changed"


def _all(item: Item) -> Iterator[Item]:
    for child in item.children:
        yield child
        yield from _all(child)
