"""Fold equal neighbours of a graph: parts one after the other that are alike all the way down."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from cnnscope.analysis.graph.facts import Facts
from cnnscope.analysis.graph.items import Edge, Item
from cnnscope.records import graph as g
from cnnscope.records.trace import OpRecord

_LONGEST = 80  # children that may repeat together
_MANY = 300  # children of a block of which also parts that differ in sizes alone are alike
_CROWDED, _FEW = 50, 8  # of more children, so many operations and more have a box of their own
_POSITIONS = frozenset("index start end".split())  # of a slice: which part it is


def _nothing(_: Item) -> Hashable:
    return None


def fold(root: Item, facts: Sequence[Facts], also: Callable[[Item], Hashable] = _nothing) -> None:
    """Put runs of equal children into repeats, everywhere.

    Args:
        root: of the tree.
        facts: of each model that has items in it.
        also: what has to be equal beside the items themselves.
    """
    alike = Likeness(facts, also)
    for block in list(root.blocks()):
        _Folder(block, alike).fold()


class Likeness:
    """Numbers that are equal for items that are the same but for where they stand."""

    def __init__(self, facts: Sequence[Facts], also: Callable[[Item], Hashable]) -> None:
        self.facts, self.also = facts, also
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[Item, int] = {}
        self._weighs: dict[Item, bool] = {}

    def of(self, item: Item) -> int:
        """The number of an item."""
        known = self._known.get(item)
        if known is None:
            key = self._own(item), self._inside(item)
            known = self._known[item] = self._numbers.setdefault(key, len(self._numbers))
        return known

    def roughly(self, item: Item) -> int:
        """A number that is also equal for operations on other sizes."""
        if item.children or item.kind not in (g.OPERATION, g.CONSTANT):
            return self.of(item)
        ops = self.facts[item.side].trace.ops
        key = item.kind, tuple(ops[op].name for op in item.ops), len(item.ins), self.also(item)
        return self._numbers.setdefault(key, len(self._numbers))

    def weighs(self, item: Item) -> bool:
        """Return True if an item has parameters."""
        if item not in self._weighs:
            known = self.facts[item.side].rows
            rows = (known[row] for row in (item.row, *item.merged) if row >= 0)
            self._weighs[item] = any(row.params for row in rows)
        return self._weighs[item]

    def _own(self, item: Item) -> Hashable:
        facts = self.facts[item.side]
        trace, row = facts.trace, facts.row(item)
        leaf = not item.children
        module = trace.modules[trace.calls[item.call].module] if item.call >= 0 else None
        costs = (row.operation, row.params, row.trainable_params, row.macs) if row else ()
        made = tuple(_made(trace.ops[op]) for op in (item.ops if leaf else ()))
        hyper = str(sorted(module.hyper.items())) if module and leaf else ""
        ports = facts.shapes((*item.ins, *item.outs)), len(item.ins)
        return item.kind, item.side, self.also(item), costs, ports, made, hyper

    def _inside(self, item: Item) -> Hashable:
        place: dict[Item | None, int] = {child: n for n, child in enumerate(item.children)}
        place[None] = -1
        inner = item.children if item.kind == g.BLOCK and not item.group else ()
        rows = [self.facts[child.side].row(child) for child in inner]
        names = tuple(row.name if row else "" for row in rows)
        edges = tuple((place[a], i, place[b], j) for a, i, b, j in item.edges)
        return names, tuple(map(self.of, item.children)), edges


def _made(record: OpRecord) -> Hashable:
    """An operation with its arguments, but for positions."""
    given = sorted((n, v) for n, v in record.attributes.items() if n not in _POSITIONS)
    return record.name, str(given)


class _Run(NamedTuple):
    """So many equal parts of so many children each."""

    first: int
    length: int
    times: int

    def parts(self, children: Sequence[Item]) -> list[list[Item]]:
        """The children of each part."""
        begins = (self.first + n * self.length for n in range(self.times))
        return [list(children[begin : begin + self.length]) for begin in begins]


class _Folder:
    """Folds the children of one block."""

    def __init__(self, block: Item, alike: Likeness) -> None:
        self.block, self.alike = block, alike
        self.children = block.children
        self.like = alike.roughly if len(block.children) > _MANY else alike.of
        self.place = {child: n for n, child in enumerate(self.children)}
        self.sources: dict[Item, list[tuple[int, int, Item | None]]] = {}
        for source, out, target, into in block.edges:
            if target is not None:
                self.sources.setdefault(target, []).append((into, out, source))

    def fold(self) -> None:
        """Replace runs of equal parts, each part of several children by a box of its own."""
        runs = list(self._runs())
        groups: dict[Item, Item] = {}
        for run in runs:
            for part in run.parts(self.children) if run.length > 1 else ():
                groups.update(dict.fromkeys(part, _box(g.BLOCK, part)))
        members = [[groups.get(part[0], part[0]) for part in r.parts(self.children)] for r in runs]
        contract(self.block, groups)
        for group in dict.fromkeys(groups.values()):
            _Folder(group, self.alike).fold()
        homes = {m: box for run in members for box in [_box(g.REPEAT, run)] for m in run}
        contract(self.block, homes)
        if len(self.block.children) > _CROWDED:
            self._gather()

    def _gather(self) -> None:
        """Put the operations between two modules of a crowded block into a box."""
        runs = [list(run) for (loose, _), run in groupby(self.block.children, key=_loose) if loose]
        many = [run for run in runs if _FEW <= len(run) < len(self.block.children) - 2]
        contract(self.block, {item: box for r in many for box in [_box(g.BLOCK, r)] for item in r})

    def _runs(self) -> Iterator[_Run]:
        """Runs from left to right, at each place the one that covers most."""
        likes = [self.like(child) for child in self.children]
        at = 0
        while at < len(likes):
            best = max(self._starting(likes, at), key=_covers, default=None)
            if best is not None:
                yield best
            at += _covers(best) if best else 1

    def _starting(self, likes: Sequence[int], at: int) -> Iterator[_Run]:
        """Runs that begin at a place."""
        longest = min(_LONGEST, (len(likes) - at) // 2)
        for length in range(1, longest + 1):
            if likes[at] != likes[at + length]:
                continue
            times = 1
            while self._again(likes, at, length, times):
                times += 1
            run = _Run(at, length, times)
            if times > 1 and times >= self._least(run):
                yield run

    def _again(self, likes: Sequence[int], at: int, length: int, times: int) -> bool:
        """Return True if one more part follows that is like the first and wired as the others."""
        begin = at + times * length
        if likes[begin : begin + length] != likes[at : at + length]:
            return False
        own = self._wiring(at, begin, length)
        if own is None:
            return False
        if times > 1:
            return own == self._wiring(at, begin - length, length)
        first = self._wiring(at, at, length) or ()
        return first == tuple(edge for edge in own if edge[-1] >= 0)

    def _wiring(self, at: int, begin: int, length: int) -> tuple[tuple[int, ...], ...] | None:
        """What a part of a run reads of itself and of the part before; None if of earlier ones."""
        found = []
        for place in range(begin, begin + length):
            for into, out, source in self.sources.get(self.children[place], ()):
                where = self.place[source] if source else -1
                if where >= max(begin - length, at):
                    found.append((place - begin, into, out, where - begin))
                elif where >= at:
                    return None
        return tuple(found)

    def _least(self, run: _Run) -> int:
        """Times that such parts have to be there: two with weights, three others."""
        part = self.children[run.first : run.first + run.length]
        if run.length == 1:
            return {g.BLOCK: 2, g.LAYER: 3}.get(part[0].kind, 4)
        if len({item.side for item in part}) > 1:
            return len(self.children)
        if self.alike.weighs(part[0]):
            return 2
        return len(self.children) if any(map(self.alike.weighs, part)) else 3


def _loose(item: Item) -> tuple[bool, int]:
    """Whether an item is of operations alone, and the model that it is of."""
    return _without_modules(item), item.side


def _without_modules(item: Item) -> bool:
    """Return True for operations, and for a box of nothing else."""
    if item.kind in (g.OPERATION, g.CONSTANT):
        return True
    return item.call < 0 and bool(item.children) and all(map(_without_modules, item.children))


def _covers(run: _Run) -> int:
    return run.length * run.times


def _box(kind: str, children: Sequence[Item]) -> Item:
    """A box around some of a block's children; only a repeat has the row of the first."""
    rows = [row for child in children for row in (child.row, *child.merged)]
    if kind == g.REPEAT:
        box = Item(kind, row=children[0].row, merged=rows[1:])
    else:
        box = Item(kind, merged=rows)
    box.parent, box.side = children[0].parent, children[0].side
    for child in children:
        box.adopt(child)
    return box


def contract(block: Item, home: Mapping[Item, Item]) -> None:
    """Draw children of a block inside the boxes that they are to be in.

    Args:
        block: whose children and edges are changed.
        home: the box of each child that gets one; its children follow each other in the block.
    """
    edges: dict[Edge, None] = {}
    ports: dict[tuple[Item, bool, Item | None, int], int] = {}
    for edge in block.edges:
        source, out, target, into = edge
        mine, theirs = home.get(source) if source else None, home.get(target) if target else None
        if mine is not None and mine is theirs:
            mine.edges.append(edge)
            continue
        if theirs is not None and target is not None:
            port = ports.setdefault((theirs, True, source, out), len(theirs.ins))
            theirs.ins += target.ins[into : into + 1] if port == len(theirs.ins) else []
            theirs.edges.append((None, port, target, into))
            target, into = theirs, port
        if mine is not None and source is not None:
            port = ports.setdefault((mine, False, source, out), len(mine.outs))
            if port == len(mine.outs):
                mine.outs.append(source.outs[out])
                mine.edges.append((source, out, None, port))
            source, out = mine, port
        edges[source, out, target, into] = None
    block.edges = list(edges)
    block.children = list(dict.fromkeys(home.get(child, child) for child in block.children))
