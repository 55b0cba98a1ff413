"""Fold equal neighbours of a graph: blocks one after the other that are alike all the way down."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from cnnscope.analysis.graph.items import Edge, Item
from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace

_LEAST = {g.BLOCK: 2, g.LAYER: 3}  # so many equal ones are folded


def fold(trace: Trace, rows: Sequence[LayerRow], root: Item) -> None:
    """Put runs of equal children into repeats, everywhere."""
    alike = Likeness(trace, rows)
    for block in list(root.blocks()):
        _Folder(block, alike).fold()


class Likeness:
    """Numbers that are equal for items that are the same but for where they stand."""

    def __init__(self, trace: Trace, rows: Sequence[LayerRow]) -> None:
        self.trace, self.rows = trace, rows
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[Item, int] = {}

    def of(self, item: Item) -> int:
        """The number of an item."""
        known = self._known.get(item)
        if known is None:
            key = self._own(item), self._inside(item)
            known = self._known[item] = self._numbers.setdefault(key, len(self._numbers))
        return known

    def _own(self, item: Item) -> Hashable:
        row = self.rows[item.row] if item.row >= 0 else None
        shapes = [self.trace.tensors[t].shape for t in (*item.reads, *item.gives)]
        module = self.trace.modules[self.trace.calls[item.call].module] if item.call >= 0 else None
        leaf = not item.children
        facts = (row.operation, row.params, row.trainable_params, row.macs) if row else ()
        made = tuple(
            (record.name, str(sorted(record.attributes.items())))
            for record in (self.trace.ops[op] for op in (item.ops if leaf else ()))
        )
        hyper = str(sorted(module.hyper.items())) if module and leaf else ""
        return item.kind, facts, tuple(shapes), len(item.reads), made, hyper

    def _inside(self, item: Item) -> Hashable:
        place: dict[Item | None, int] = {child: n for n, child in enumerate(item.children)}
        place[None] = -1
        names = [self.rows[c.row].name if c.row >= 0 else "" for c in item.children]
        inner = [] if item.kind == g.REPEAT else names
        edges = tuple((place[a], i, place[b], j) for a, i, b, j in item.edges)
        return tuple(inner), tuple(map(self.of, item.children)), edges


class _Folder:
    """Folds the children of one block."""

    def __init__(self, block: Item, alike: Likeness) -> None:
        self.block, self.alike = block, alike
        self.sources: dict[Item, dict[int, tuple[Item | None, int]]] = {}
        self.targets: dict[Item, set[Item | None]] = {}
        for source, out, target, into in block.edges:
            if target is not None:
                self.sources.setdefault(target, {})[into] = (source, out)
            if source is not None:
                self.targets.setdefault(source, set()).add(target)

    def fold(self) -> None:
        """Replace runs of equal children that make a chain."""
        runs = [run for run in self._runs() if len(run) >= _LEAST.get(run[0].kind, len(run) + 1)]
        home = {member: repeat for run in runs for repeat in [_repeat(run)] for member in run}
        if not home:
            return
        edges: list[Edge] = []
        for edge in self.block.edges:
            source, out, target, into = edge
            inner = home.get(source) if source else None
            outer = home.get(target) if target else None
            if inner is not None and inner is outer:
                inner.edges.append(edge)
            elif outer is not None and target is not outer.children[0]:
                outer.edges.append((None, into, target, into))
            else:
                if outer is not None:
                    outer.edges.append((None, into, target, into))
                edges.append((inner or source, out, outer or target, into))
        self.block.edges = edges
        children = dict.fromkeys(home.get(child, child) for child in self.block.children)
        self.block.children = list(children)
        for repeat in set(home.values()):
            repeat.parent = self.block
            last = repeat.children[-1]
            repeat.edges += [(last, port, None, port) for port in last.gives.values()]

    def _runs(self) -> Iterator[list[Item]]:
        run: list[Item] = []
        for child in self.block.children:
            if run and self._continues(run, child):
                run.append(child)
                continue
            if run:
                yield run
            run = [child]
        if run:
            yield run

    def _continues(self, run: Sequence[Item], child: Item) -> bool:
        """Return True for a child that does with the last one's output what that has done."""
        last = run[-1]
        if child.kind not in _LEAST or self.alike.of(child) != self.alike.of(last):
            return False
        if self.targets.get(last, set()) != {child}:
            return False
        own, other = self._chained(last, child), self._chained(run[0], run[1]) if run[1:] else None
        return own is not None and other in (None, own)

    def _chained(self, last: Item, child: Item) -> tuple[tuple[int, int], ...] | None:
        """Outputs and inputs by which one follows the other; None if it also reads other things."""
        found = []
        before = self.sources.get(last, {})
        for into, (source, out) in self.sources.get(child, {}).items():
            if source is last:
                found.append((out, into))
            elif before.get(into) != (source, out):
                return None
        return tuple(found) or None


def _repeat(run: Sequence[Item]) -> Item:
    first, last = run[0], run[-1]
    repeat = Item(g.REPEAT, row=first.row, merged=[item.row for item in run[1:]])
    for item in run:
        repeat.adopt(item)
    repeat.reads, repeat.gives = dict(first.reads), dict(last.gives)
    return repeat
