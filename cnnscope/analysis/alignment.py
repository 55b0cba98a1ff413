"""Align two call trees: blocks first, then the layers inside them.

A recursive sequence alignment (Needleman and Wunsch 1970, section "the maximum match"): the
children of two nodes that belong together are aligned by dynamic programming; equal ones match
free, similar ones pay for what differs, the others are added or removed for their weight. What two
blocks would cost is estimated from how often each layer is in them (without order), so that only
blocks that were matched are opened.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from cnnscope.analysis import nesting
from cnnscope.analysis.nesting import Pair, alone
from cnnscope.analysis.nodes import BLOCK, Forest, Node, differing

_WORTH = 0.5  # of the cost that is left where blocks that were matched are opened
_STEPS = 6  # levels that are opened before it is known whether that was worth it
_REDUCES = 6
_GRAM = 6  # layers that are compared together where a table would be large
_CELLS = 200_000  # larger tables are first cut at runs of equal layers
_CHANGED = 12  # a layer of the same kind with other hyper-parameters, in the estimate of a block
_PENALTY = {
    "kernel_size": 8, "stride": 5, "padding": 2, "dilation": 4, "groups": 5, "bias": 2,
    "out_channels": 8, "out_features": 8, "in_channels": 4, "in_features": 4,
}  # fmt: skip
_OTHER_PENALTY = 3
_OTHER_KIND = 14
_BY_NAME = ("parameter", "unused", "idle", "other")  # roles of rows of no kind but their own
_LIMIT = 24  # a layer that differs more is another layer,
_LIMIT_NAMED = 30  # unless it has the same name
_ALIKE = 0.3  # of a block's weight: children of less are no block like it
_UNLIKE = 0.4  # blocks that differ in more than this part of the smaller one are others,
_UNLIKE_NAMED = 0.9  # unless they have the same name and kind


class _Levels(NamedTuple):
    """Children of two blocks, some replaced by what is in them, and which belong together."""

    before: tuple[_Path, ...]
    after: tuple[_Path, ...]
    matched: tuple[tuple[int, int], ...] = ()


def align(forest: Forest, before: Node, after: Node) -> Pair:
    """Pair the nodes of two trees of a forest, roots included."""
    return _Aligner(forest).pair(before, after)


class _Aligner:
    """Remembers costs and alignments by fingerprint: repeated blocks are compared once."""

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.costs: dict[tuple[int, int], int | None] = {}
        self.estimates: dict[tuple[int, int], int] = {}
        self.known: dict[tuple[int, int], _Levels] = {}

    def pair(self, a: Node, b: Node) -> Pair:
        if a.leaf or b.leaf:
            return Pair(a, b)
        if a.core == b.core:  # the same layers, however they are nested
            return Pair(a, b, tuple(nesting.Same(self.forest, a, b).pairs()))
        key = (a.inner, b.inner)
        if key not in self.known:
            self.known[key] = self._levels(a, b)
        found = self.known[key]
        ones, others = _at(a, found.before), _at(b, found.after)
        return Pair(a, b, tuple(self._merged(ones, others, found.matched)))

    def _levels(self, a: Node, b: Node) -> _Levels:
        """Align the children of two blocks; what stands on another level on one side is opened.

        Blocks that were matched are opened if what is left to change is half of it afterwards:
        where two divide the same layers into blocks at other places.
        """
        ones, others = (tuple((i,) for i in range(len(node.children))) for node in (a, b))
        found = self._settled(a, b, _Levels(ones, others))
        while (other := self._worthwhile(a, b, found)) is not None:
            found = other
        return found

    def _worthwhile(self, a: Node, b: Node, found: _Levels) -> _Levels | None:
        """Levels with blocks opened that were matched; None if that would not be worth it.

        Several levels may have to be opened, one after the other, until it is.
        """
        limit = _WORTH * self._total(a, b, found)
        for partners in (False, True):
            state = found
            for _ in range(_STEPS):
                other = self._opened(a, b, state, matched=True, partners=partners)
                if other is None:
                    break
                state = self._settled(a, b, other)
                if self._total(a, b, state) <= limit:
                    return state
        return None

    def _settled(self, a: Node, b: Node, levels: _Levels) -> _Levels:
        """Align, and open blocks without a partner until no more have to be."""
        while True:
            sides = _at(a, levels.before), _at(b, levels.after)
            levels = levels._replace(matched=tuple(_matches(*sides, self._cost)))
            other = self._opened(a, b, levels, matched=False)
            if other is None:
                return levels
            levels = other

    def _opened(
        self, a: Node, b: Node, levels: _Levels, *, matched: bool, partners: bool = False
    ) -> _Levels | None:
        """Levels with some blocks opened, and their partners; None if none has to be."""
        sides = _at(a, levels.before), _at(b, levels.after)
        opened = nesting.to_open(self.forest, sides, levels.matched, matched=matched)
        if not any(opened):
            return None
        if partners:
            both = [(i, j) for i, j in levels.matched if i in opened[0] or j in opened[1]]
            opened = opened[0] | {i for i, _ in both}, opened[1] | {j for _, j in both}
        ones = _below(levels.before, sides[0], opened[0])
        return _Levels(tuple(ones), tuple(_below(levels.after, sides[1], opened[1])))

    def _total(self, a: Node, b: Node, levels: _Levels) -> int:
        """Cost of an alignment."""
        ones, others = _at(a, levels.before), _at(b, levels.after)
        pairs = dict(levels.matched)
        cost = sum(self._cost(ones[i], others[j]) or 0 for i, j in pairs.items())
        cost += sum(node.weight for i, node in enumerate(ones) if i not in pairs)
        taken = set(pairs.values())
        return cost + sum(node.weight for j, node in enumerate(others) if j not in taken)

    def _merged(
        self, a: Sequence[Node], b: Sequence[Node], matched: Sequence[tuple[int, int]]
    ) -> list[Pair]:
        """Every child, in order: what was removed stands before what was added in its place."""
        pairs: list[Pair] = []
        i = j = 0
        for x, y in [*matched, (len(a), len(b))]:
            pairs += [alone(node, removed=True) for node in a[i:x]]
            pairs += [alone(node, removed=False) for node in b[j:y]]
            if x < len(a):
                pairs.append(self.pair(a[x], b[y]))
            i, j = x + 1, y + 1
        return pairs

    # -- costs

    def _cost(self, a: Node, b: Node) -> int | None:
        """Cost of matching two nodes; None if they cannot be matched."""
        if a.leaf != b.leaf or (
            a.row.operation != b.row.operation and (a.role != b.role or a.role in _BY_NAME)
        ):
            return None
        key = (a.uid, b.uid)
        if key not in self.costs:
            cost = self._differs(a, b)
            self.costs[key] = None if cost is None else cost + _apart(a, b)
        return self.costs[key]

    def _differs(self, a: Node, b: Node) -> int | None:
        if a.core == b.core:
            return 0
        if a.role in _BY_NAME:
            return self._same_place(a, b)
        return self._layer(a, b) if a.leaf else self._block(a, b)

    def _same_place(self, a: Node, b: Node) -> int | None:
        """For parameters and operations that only move data: the same name is the same thing."""
        if a.row.kind != b.row.kind:
            return None
        if a.row.kind in ("parameter", "unused"):
            return _CHANGED if a.row.name == b.row.name else None
        return 1 + a.weight // 2

    def _layer(self, a: Node, b: Node) -> int | None:
        named = bool(a.name) and a.name == b.name
        limit = _LIMIT_NAMED if named else _LIMIT
        cost = sum(_PENALTY.get(name, _OTHER_PENALTY) for name in differing(a, b))
        if a.row.operation != b.row.operation:
            if a.row.kind == b.row.kind == "operation":
                return None
            cost += _OTHER_KIND
        return min(max(cost, 1), limit) if cost <= limit or named else None

    def _block(self, a: Node, b: Node) -> int | None:
        same_kind = a.row.operation == b.row.operation
        if not (same_kind and a.name == b.name) and (_repeats(a, b) or _repeats(b, a)):
            return None
        estimate = self._estimate(a, b)
        if not same_kind:
            estimate += BLOCK + min(a.weight, b.weight) // 4
        excess = estimate - abs(a.weight - b.weight)  # a longer stage is still that stage
        named = same_kind and bool(a.name) and a.name == b.name
        limit = _UNLIKE_NAMED if named else _UNLIKE
        return estimate if excess <= limit * 2 * min(a.weight, b.weight) else None

    def _estimate(self, a: Node, b: Node) -> int:
        """Estimate the difference of two blocks by counts of layers: equal ones cost nothing."""
        key = (a.core, b.core)
        if key not in self.estimates:
            mine, other = self.forest.profile(a), self.forest.profile(b)
            self.estimates[key] = self._rest(mine - other, other - mine)
        return self.estimates[key]

    def _rest(self, removed: Counter[int], added: Counter[int]) -> int:
        """Cost of layers without equals: pairs of one kind, then of one role, then the others."""
        sides = self._kinds(removed), self._kinds(added)
        cost, sides = _paired(sides, attrgetter("operation"), _CHANGED)
        more, sides = _paired(sides, attrgetter("role"), _OTHER_KIND)
        return cost + more + sum(kind.weight * n for side in sides for kind, n in side.items())

    def _kinds(self, cores: Counter[int]) -> _Kinds:
        """Number of layers of each kind."""
        found: _Kinds = {}
        for core, count in cores.items():
            layer = self.forest.layers[core]
            kind = _Kind(layer.row.operation, layer.role, layer.weight)
            found[kind] = found.get(kind, 0) + count
        return found


class _Kind(NamedTuple):
    """What the estimate of a block distinguishes."""

    operation: str
    role: str
    weight: int


_Kinds = dict[_Kind, int]


def _paired(
    sides: tuple[_Kinds, _Kinds], group: Callable[[_Kind], str], price: int
) -> tuple[int, tuple[_Kinds, _Kinds]]:
    """Pair what is in one group at a price; the cost, and what found no partner."""
    totals = Counter[str](), Counter[str]()
    for side, total in zip(sides, totals, strict=True):
        for kind, count in side.items():
            total[group(kind)] += count
    pairs = totals[0] & totals[1]
    cost = 0
    rest: tuple[_Kinds, _Kinds] = ({}, {})
    for number, left in enumerate((pairs, pairs.copy())):
        for kind, count in sides[number].items():
            taken = min(count, left[group(kind)])
            left[group(kind)] -= taken
            if count > taken:
                rest[number][kind] = count - taken
            if number == 0:
                cost += taken * min(price, kind.weight)
    return cost, rest


def _at(node: Node, paths: Sequence[_Path]) -> list[Node]:
    """The nodes at places below a node: (1, 0) is the first child of its second."""
    found = []
    for path in paths:
        inner = node
        for place in path:
            inner = inner.children[place]
        found.append(inner)
    return found


def _below(
    paths: Sequence[_Path], nodes: Sequence[Node], opened: Collection[int]
) -> Iterator[_Path]:
    """Places, those of opened nodes replaced by the places of their children."""
    for place, (path, node) in enumerate(zip(paths, nodes, strict=True)):
        if place in opened:
            yield from ((*path, i) for i in range(len(node.children)))
        else:
            yield path


def _apart(a: Node, b: Node) -> int:
    """A tie between equal layers goes to those of one name and one output size.

    A block that makes its map smaller is nearly never one that does not.
    """
    other_map = a.row.output_shapes != b.row.output_shapes
    return (a.name != b.name) + other_map + _REDUCES * (_reduction(a) != _reduction(b))


def _repeats(many: Node, one: Node) -> bool:
    """Return True if a block is a run of blocks of which each may be the other one."""
    alike = [
        child
        for child in many.children
        if _ALIKE * one.weight <= child.weight <= one.weight / _ALIKE and not child.leaf
    ]
    return len(alike) > 1 and _height(many) > _height(one)


def _height(node: Node) -> int:
    """Levels of blocks below a node."""
    return 0 if node.leaf else 1 + max(map(_height, node.children), default=0)


def _reduction(node: Node) -> tuple[float, ...]:
    """By how much a block makes its map smaller, for each axis."""
    row = node.row
    if node.leaf or not (row.input_shapes and row.output_shapes):
        return ()
    sizes = zip(row.input_shapes[0][2:], row.output_shapes[0][2:], strict=False)
    return tuple(round(before / after, 1) if after else 0.0 for before, after in sizes)


# ------------------------------------------------------------------------------- sequences

_Path = tuple[int, ...]
_Cost = Callable[[Node, Node], "int | None"]


def _matches(a: Sequence[Node], b: Sequence[Node], cost: _Cost) -> list[tuple[int, int]]:
    """Align two sequences: pairs of positions, in order.

    Equal beginnings are taken as they are. Equal ends are not (unless the table would be large):
    of `conv relu` against `conv relu conv relu` it is the second pair that was added.
    """
    start = 0
    while start < min(len(a), len(b)) and cost(a[start], b[start]) == 0:
        start += 1
    end = 0
    large = (len(a) - start) * (len(b) - start) > _CELLS
    while large and end < min(len(a), len(b)) - start and cost(a[-1 - end], b[-1 - end]) == 0:
        end += 1
    middle_a, middle_b = a[start : len(a) - end], b[start : len(b) - end]
    inner = _cut(middle_a, middle_b, cost)
    return [
        *((i, i) for i in range(start)),
        *((start + i, start + j) for i, j in inner),
        *((len(a) - end + i, len(b) - end + i) for i in range(end)),
    ]


def _cut(a: Sequence[Node], b: Sequence[Node], cost: _Cost) -> list[tuple[int, int]]:
    """As `_align`; where the table would be large, runs of equal layers are taken as they are.

    What is between two runs is cut along its diagonal where it is still large.
    """
    if len(a) * len(b) <= _CELLS:
        return _align(a, b, cost)
    pairs: list[tuple[int, int]] = []
    i = j = 0
    for x, y, size in [*_runs([n.core for n in a], [n.core for n in b]), (len(a), len(b), 0)]:
        parts = max(math.ceil(math.sqrt((x - i) * (y - j) / _CELLS)), 1)
        rows, columns = (
            [k + (end - k) * n // parts for n in range(parts + 1)] for k, end in ((i, x), (j, y))
        )
        for (p, p_end), (q, q_end) in zip(pairwise(rows), pairwise(columns), strict=True):
            inner = _align(a[p:p_end], b[q:q_end], cost)
            pairs += ((p + m, q + n) for m, n in inner)
        pairs += ((x + n, y + n) for n in range(size))
        i, j = x + size, y + size
    return pairs


def _runs(a: Sequence[int], b: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Where two sequences are equal for a while, and how long.

    Several layers together are compared, which are rarer than one: the search takes as long as
    there are places for each.
    """
    first, second = ([tuple(one[i : i + _GRAM]) for i in range(len(one))] for one in (a, b))
    i = j = 0
    for x, y, size in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
        late = max(i - x, j - y, 0)
        length = min(size + _GRAM - 1, len(a) - x, len(b) - y) if size else 0
        while length > late and a[x : x + length] != b[y : y + length]:
            length -= 1
        if length > late:
            yield x + late, y + late, length - late
            i, j = x + length, y + length


def _align(a: Sequence[Node], b: Sequence[Node], cost: _Cost) -> list[tuple[int, int]]:
    """The cheapest alignment; of those that cost the same, the one that matches earliest."""
    if not a or not b:
        return []
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]  # cost of aligning a[i:] with b[j:]
    for j in range(len(b) - 1, -1, -1):
        rows[len(a)][j] = rows[len(a)][j + 1] + b[j].weight
    for i in range(len(a) - 1, -1, -1):
        row, below, node = rows[i], rows[i + 1], a[i]
        row[len(b)] = below[len(b)] + node.weight
        for j in range(len(b) - 1, -1, -1):
            best = min(below[j] + node.weight, row[j + 1] + b[j].weight)
            match = cost(node, b[j])
            if match is not None and below[j + 1] + match < best:
                best = below[j + 1] + match
            row[j] = best
    return _walk(rows, a, b, cost)


def _walk(
    rows: list[list[int]], a: Sequence[Node], b: Sequence[Node], cost: _Cost
) -> list[tuple[int, int]]:
    """Back through the table from its beginning, matching wherever that is among the cheapest."""
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        match = cost(a[i], b[j])
        if match is not None and rows[i][j] == rows[i + 1][j + 1] + match:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif rows[i][j] == rows[i + 1][j] + a[i].weight:
            i += 1
        else:
            j += 1
    return pairs
