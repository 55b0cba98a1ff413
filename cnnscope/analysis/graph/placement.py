"""Place the children of a block on a grid and find a way for each edge through it.

A layered drawing (Sugiyama, Tagawa, Toda 1981): rows by longest path; but columns are those of
chains, in the manner of a railway map: the longest path is the trunk and runs straight down, every
other chain of nodes has a column of its own beside it, and an edge that passes rows has a lane.
Horizontal pieces are given tracks as in channel routing (Hashimoto and Stevens 1971, the left-edge
algorithm, with vertical constraints).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypeVar

from cnnscope.records.graph import BORDER, GraphEdge, Layout, Place, Rail, Route

_BUS = 3  # readers of a lane that several sources may share
_LEAF, _BORDER = 2, 4  # the outermost slot of a leaf, and of a block: boxes are that wide
Column = tuple[int, int]  # a column of chains, and the number of a lane beside it (0: the column)
Spot = tuple[Column, int]  # a column and a slot: an order from left to right
Slots = tuple[tuple[int, ...], tuple[int, ...]]  # of inputs and of outputs
_Key = TypeVar("_Key")


class Block(NamedTuple):
    """What is placed: `edges` number children from 0, in an order in which they can run.

    `slots` are those of the ports of children that have fixed ones, inputs and outputs; None for a
    leaf; `border` are those of the block itself, if they are fixed. `weight` says which of two
    equally long paths is the trunk, `aside` which children are drawn beside what reads them.
    """

    size: int
    edges: tuple[GraphEdge, ...]
    inputs: int
    outputs: int
    slots: tuple[Slots | None, ...]
    weight: tuple[int, ...]
    aside: tuple[bool, ...]
    border: Slots | None = None


def place(block: Block) -> Layout:
    """Place the children of a block."""
    return _Placement(block).layout()


@dataclass(slots=True)
class _Lane:
    column: Column
    first: int  # gap in which it begins
    last: int  # gap in which it ends
    taps: dict[int, int] = field(default_factory=dict)  # reader -> its row


class _Placement:
    def __init__(self, block: Block) -> None:
        self.block = block
        self.into: list[list[int]] = [[] for _ in range(block.size)]
        self.out_of: list[list[int]] = [[] for _ in range(block.size)]
        for edge in block.edges:
            if edge.source >= 0 and edge.target >= 0:
                self.into[edge.target].append(edge.source)
                self.out_of[edge.source].append(edge.target)
        self.nets = _nets(block.edges)
        self.fed = self._fed()
        self.rows = self._rows()
        self.height = max(self.rows, default=-1) + 1
        self.taken: dict[Column, int] = {}  # a bit for each row
        self.columns: list[Column] = [(0, 0)] * block.size

    def layout(self) -> Layout:
        """Rows, columns, lanes, slots and tracks, in this order."""
        self._set_columns()
        lanes = _Lanes(self)
        return _Router(self, lanes).layout()

    # -- rows

    def _fed(self) -> list[bool]:
        """Children that the border or an input reaches; all, if nothing does."""
        fed = [not aside and not self.into[n] for n, aside in enumerate(self.block.aside)]
        for edge in self.block.edges:
            if edge.source == BORDER and edge.target >= 0:
                fed[edge.target] = True
        for node in range(self.block.size):
            fed[node] = fed[node] or any(fed[source] for source in self.into[node])
        return fed if any(fed) else [True] * self.block.size

    def _rows(self) -> list[int]:
        """Row of each child by the longest path to it; what is aside is just above its reader."""
        rows = [0] * self.block.size
        for node in range(self.block.size):
            rows[node] = max((rows[source] + 1 for source in self.into[node]), default=0)
        for node in reversed(range(self.block.size)):
            if not self.fed[node] and self.out_of[node]:
                rows[node] = min(rows[target] for target in self.out_of[node]) - 1
        return rows

    # -- columns

    def _set_columns(self) -> None:
        trunk = self._trunk()
        left = set(trunk)
        for node in trunk:
            self.take((0, 0), self.rows[node], self.rows[node])
        chains = self._chains(left)
        before: list[list[int]] = []
        after: list[list[int]] = []
        for chain in chains:
            (before if self._on_the_left(chain, trunk) else after).append(chain)
        for sign, side in ((-1, reversed(before)), (1, iter(after))):
            for chain in side:
                self._set_chain(chain, sign)

    def _trunk(self) -> list[int]:
        """The longest path from a child that is fed to one that leads out."""
        best = [(0, 0)] * self.block.size
        back = [-1] * self.block.size
        for node in range(self.block.size):
            if not self.fed[node]:
                continue
            sources = [s for s in self.into[node] if self.fed[s]]
            back[node] = max(sources, key=lambda s: best[s], default=-1)
            length, weight = best[back[node]] if sources else (0, 0)
            best[node] = length + 1, weight + self.block.weight[node]
        ends = {e.source for e in self.block.edges if e.target == BORDER and e.source >= 0}
        ends = ends or {n for n in range(self.block.size) if not self.out_of[n]}
        at = max(sorted(ends), key=lambda n: best[n], default=-1)
        path = []
        while at >= 0:
            path.append(at)
            at = back[at]
        return path[::-1]

    def _chains(self, seen: set[int]) -> list[list[int]]:
        """The other children as paths, in the order in which they begin."""
        depth = [0] * self.block.size
        for node in reversed(range(self.block.size)):
            depth[node] = max((depth[t] + 1 for t in self.out_of[node]), default=0)
        found = []
        for node in range(self.block.size):
            chain, at = [], node
            while at not in seen:
                seen.add(at)
                chain.append(at)
                free = [t for t in self.out_of[at] if t not in seen]
                at = max(free, key=lambda t: (depth[t], -t), default=at)
            if chain:
                found.append(chain)
        return found

    def _on_the_left(self, chain: Sequence[int], trunk: Sequence[int]) -> bool:
        """Return True for a chain that runs before the part of the trunk that is beside it."""
        if not self.fed[chain[0]]:
            return True
        beside = next((n for n in trunk if self.rows[n] >= self.rows[chain[0]]), None)
        return beside is not None and chain[0] < beside

    def _set_chain(self, chain: Sequence[int], sign: int) -> None:
        """Put a chain in the nearest column that is free along its way."""
        before = [self.rows[s] for s in self.into[chain[0]]]
        after = [self.rows[t] for t in self.out_of[chain[-1]]]
        first, last = self.rows[chain[0]], self.rows[chain[-1]]
        begin = min(max(before, default=-1) + 1 if self.fed[chain[0]] else first, first)
        end = max(min(after, default=last + 1) - 1, last)
        column = (sign, 0)
        while not self.free(column, begin, end):
            column = (column[0] + sign, 0)
        for node in chain:
            self.columns[node] = column
        self.take(column, first, last)

    def free(self, column: Column, first: int, last: int) -> bool:
        """Return True if nothing stands in these rows of a column."""
        return not self.taken.get(column, 0) & _bits(first, last)

    def take(self, column: Column, first: int, last: int) -> None:
        """Mark these rows of a column as taken."""
        self.taken[column] = self.taken.get(column, 0) | _bits(first, last)

    def row_of(self, node: int, *, target: bool) -> int:
        """Row of the end of an edge."""
        return (self.height if target else -1) if node == BORDER else self.rows[node]

    def column_of(self, node: int) -> Column:
        """Column of the end of an edge."""
        return (0, 0) if node == BORDER else self.columns[node]


def _bits(first: int, last: int) -> int:
    return ((1 << (last + 1 - first)) - 1) << first


def _nets(edges: Sequence[GraphEdge]) -> dict[tuple[int, int], tuple[int, int]]:
    """The first port of a source for all of its ports that lead to the same children."""
    targets: dict[tuple[int, int], set[int]] = {}
    for edge in edges:
        targets.setdefault((edge.source, edge.out), set()).add(edge.target)
    first: dict[tuple[int, frozenset[int]], tuple[int, int]] = {}
    return {
        port: first.setdefault((port[0], frozenset(found)), port)
        for port, found in sorted(targets.items())
    }


class _Lanes:
    """Lanes of the edges that pass a row."""

    def __init__(self, placed: _Placement) -> None:
        self.placed = placed
        self.lanes: list[_Lane] = []
        self.of: dict[tuple[int, int], int] = {}  # source and its port -> lane
        self.shared: list[int] = []  # lanes that other sources may join
        nets: dict[tuple[int, int], dict[int, int]] = {}
        for edge in placed.block.edges:
            row = placed.row_of(edge.target, target=True)
            net = placed.nets[edge.source, edge.out]
            nets.setdefault(net, {})[edge.target] = row
        order = []
        for net, readers in nets.items():
            row = placed.row_of(net[0], target=False)
            far = {n: r for n, r in readers.items() if r > row + 1}
            if far:
                order.append((row, net, readers, far))
        self._set_lanes(order)

    def _set_lanes(
        self, order: list[tuple[int, tuple[int, int], dict[int, int], dict[int, int]]]
    ) -> None:
        waiting = []
        for row, net, readers, far in sorted(order, key=lambda one: one[0]):
            shared = self._bus(row, readers)
            if shared is None:
                shared = len(self.lanes)
                self.lanes.append(_Lane((0, 0), row + 1, max(far.values()), dict(far)))
                waiting.append((max(far.values()) - row, shared, net, far))
                self.shared += [shared] if len(far) >= _BUS else []
            self.shared = [n for n in self.shared if self.lanes[n].last > row + 1]
            self.of[net] = shared
        for _, lane, net, far in sorted(waiting):
            self._set_column(self.lanes[lane], net[0], far)

    def _bus(self, row: int, readers: dict[int, int]) -> int | None:
        """A lane all of whose further readers read this source as well, and no other does."""
        for number in self.shared:
            ahead = {node for node, at in self.lanes[number].taps.items() if at > row}
            if ahead == readers.keys():
                return number
        return None

    def _set_column(self, lane: _Lane, source: int, far: dict[int, int]) -> None:
        """Prefer the source's own column, then the only reader's, then one beside both."""
        placed = self.placed
        mine, theirs = placed.column_of(source), [placed.column_of(n) for n in far]
        choices = [mine, *(theirs if len(theirs) == 1 else ())]
        first, last = lane.first, lane.last - 1
        column = next((c for c in choices if placed.free(c, first, last)), None)
        if column is None:
            ends = [mine[0], *(c[0] for c in theirs)]
            sign, base = (-1, min(ends)) if max(ends) < 0 else (1, max(ends))
            number = sign
            while not placed.free((base, number), first, last):
                number += sign
            column = (base, number)
        lane.column = column
        placed.take(column, first, last)


class _Rails:
    """Rails: what stands in one column and is joined by a straight line hangs on one of them."""

    def __init__(
        self, placed: _Placement, lanes: _Lanes, pieces: Iterable[tuple[int, int, int]]
    ) -> None:
        nodes = placed.block.size
        self.size = nodes
        self.columns = [*placed.columns, *(lane.column for lane in lanes.lanes)]
        self.spans = [(row, row) for row in placed.rows]
        self.spans += [(lane.first, lane.last - 1) for lane in lanes.lanes]
        self.head = list(range(len(self.columns)))
        self.height = placed.height
        for source, lane, target in pieces:
            way = [source, nodes + lane if lane >= 0 else target, target]
            for one, other in pairwise(way):
                if one >= 0 <= other and self.columns[one] == self.columns[other]:
                    self.head[self._find(other)] = self._find(one)

    def _find(self, item: int) -> int:
        while self.head[item] != item:
            item = self.head[item]
        return item

    def numbered(self) -> tuple[tuple[Rail, ...], list[int], list[int]]:
        """The rails, and those of the children and of the lanes."""
        spans: dict[tuple[Column, int], tuple[int, int]] = {((0, 0), -1): (0, self.height - 1)}
        keys = []
        for item, column in enumerate(self.columns):
            keys.append((column, -1 if column == (0, 0) else self._find(item)))
            first, last = spans.get(keys[-1], self.spans[item])
            mine = self.spans[item]
            spans[keys[-1]] = min(first, mine[0]), max(last, mine[1])
        order = sorted(spans, key=lambda key: (key[0], spans[key]))
        columns = sorted({column for column, _ in order})
        middle = columns.index((0, 0))
        rails = tuple(Rail(columns.index(key[0]) - middle, *spans[key]) for key in order)
        number = {key: n for n, key in enumerate(order)}
        found = [number[key] for key in keys]
        return rails, found[: self.size], found[self.size :]


class _Segment(NamedTuple):
    """A horizontal line of a net in a gap, and the vertical ones that hang on it."""

    net: tuple[int, ...]
    spots: list[Spot]
    above: list[Spot]  # where it comes from above the gap
    below: list[Spot]


class _Router:
    """Slots and tracks."""

    def __init__(self, placed: _Placement, lanes: _Lanes) -> None:
        self.placed, self.lanes, self.block = placed, lanes, placed.block
        self.exits: dict[tuple[int, int], int] = {}
        self.entries: dict[tuple[int, int], int] = {}
        self._set_border()
        self._set_exits()
        self._set_entries()

    # -- slots

    def _set_border(self) -> None:
        """Slots of the block's own ports: the trunk's in the middle, others at their side."""
        if self.block.border is not None:
            self.inputs, self.outputs = map(list, self.block.border)
            return
        above: dict[int, list[tuple[Column, int]]] = {}
        below: dict[int, list[tuple[Column, int]]] = {}
        for edge in self.block.edges:
            lane = self._lane(edge)
            beside = [self.lanes.lanes[lane].column] if lane >= 0 else []
            if edge.source == BORDER:
                way = beside or [self.placed.column_of(edge.target)]
                above.setdefault(edge.out, []).append((way[0], edge.target))
            if edge.target == BORDER:
                way = beside or [self.placed.column_of(edge.source)]
                below.setdefault(edge.into, []).append((way[0], edge.source))
        self.inputs = _bundled(above, self.block.inputs)
        self.outputs = _bundled(below, self.block.outputs, apart=True)

    def _set_exits(self) -> None:
        ports: dict[int, set[int]] = {}
        for edge in self.block.edges:
            if edge.source != BORDER:
                ports.setdefault(edge.source, set()).add(edge.out)
        for node, outs in ports.items():
            fixed = self.block.slots[node]
            ways = sorted({self.placed.nets[node, port] for port in outs})
            for port in outs:
                own = ways.index(self.placed.nets[node, port]) - (len(ways) - 1) // 2
                self.exits[node, port] = fixed[1][port] if fixed else _within(own, _LEAF)
        for port, slot in enumerate(self.inputs):
            self.exits[BORDER, port] = slot

    def _set_entries(self) -> None:
        """Slots at which edges come into leaves: one for each way that they come by."""
        ways: dict[int, dict[tuple[Column, tuple[int, int, int]], list[int]]] = {}
        for edge in self.block.edges:
            if edge.target == BORDER:
                continue
            fixed = self.block.slots[edge.target]
            if fixed:
                self.entries[edge.target, edge.into] = fixed[0][edge.into]
                continue
            lane = self._lane(edge)
            way = self.placed.column_of(edge.source), (-1, *self.placed.nets[edge.source, edge.out])
            if lane >= 0:
                way = self.lanes.lanes[lane].column, (lane, 0, 0)
            ways.setdefault(edge.target, {}).setdefault(way, []).append(edge.into)
        for node, found in ways.items():
            home = self.placed.column_of(node)
            spread = _spread([(way[0], home, way) for way in found])
            for way, slot in spread:
                for port in found[way]:
                    self.entries[node, port] = _within(slot, _LEAF)
        for port, slot in enumerate(self.outputs):
            self.entries[BORDER, port] = slot

    def _lane(self, edge: GraphEdge) -> int:
        """Lane of an edge, -1 for one to the next row."""
        row = self.placed.row_of(edge.source, target=False)
        if self.placed.row_of(edge.target, target=True) <= row + 1:
            return -1
        return self.lanes.of[self.placed.nets[edge.source, edge.out]]

    # -- tracks

    def layout(self) -> Layout:
        """The layout of the block."""
        rails, of_node, of_lane = _Rails(self.placed, self.lanes, self._pieces()).numbered()
        tracks, given = self._tracks()
        return Layout(
            places=tuple(
                Place(node, self.placed.rows[node], of_node[node])
                for node in range(self.block.size)
            ),
            rows=self.placed.height,
            rails=rails,
            trunk=next(n for n, rail in enumerate(rails) if not rail.column),
            tracks=tuple(tracks),
            lanes=tuple(of_lane),
            routes=tuple(self._route(edge, given) for edge in self.block.edges),
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
        )

    def _pieces(self) -> Iterator[tuple[int, int, int]]:
        """Source, lane and target of every edge."""
        return ((edge.source, self._lane(edge), edge.target) for edge in self.block.edges)

    def _nets(self, edge: GraphEdge) -> tuple[int, tuple[int, ...], int, tuple[int, ...]]:
        """Gap and net of the horizontal piece at the source, and at the target."""
        above = self.placed.row_of(edge.source, target=False) + 1
        below = self.placed.row_of(edge.target, target=True)
        lane = self._lane(edge)
        source = (0, *self.placed.nets[edge.source, edge.out])
        return above, source, below, source if lane < 0 else (1, lane)

    def _spots(self, edge: GraphEdge) -> tuple[Spot, Spot | None, Spot]:
        lane = self._lane(edge)
        leaves = self.placed.column_of(edge.source), self.exits[edge.source, edge.out]
        enters = self.placed.column_of(edge.target), self.entries[edge.target, edge.into]
        return leaves, (self.lanes.lanes[lane].column, 0) if lane >= 0 else None, enters

    def _tracks(self) -> tuple[list[int], dict[tuple[int, tuple[int, ...]], int]]:
        """Number of tracks in each gap, and the one of each net in it."""
        gaps: list[dict[tuple[int, ...], _Segment]] = [{} for _ in range(self.placed.height + 1)]
        for edge in self.block.edges:
            above, source, below, target = self._nets(edge)
            leaves, lane, enters = self._spots(edge)
            _extend(gaps[above], source, leaves, lane or enters)
            if lane is not None:
                _extend(gaps[below], target, lane, enters)
        counts, given = [], {}
        for gap, segments in enumerate(gaps):
            found = _assign([s for s in segments.values() if len(set(s.spots)) > 1])
            counts.append(max(found.values(), default=-1) + 1)
            given.update({(gap, net): track for net, track in found.items()})
        return counts, given

    def _route(self, edge: GraphEdge, given: dict[tuple[int, tuple[int, ...]], int]) -> Route:
        above, source, below, target = self._nets(edge)
        leaves, lane, enters = self._spots(edge)
        leave = given.get((above, source), -1) if leaves != (lane or enters) else -1
        if lane is None:
            return Route(leaves[1], leave, -1, leave, enters[1])
        arrive = given.get((below, target), -1) if lane != enters else -1
        return Route(leaves[1], leave, self._lane(edge), arrive, enters[1])


def _bundled(
    ways: dict[int, list[tuple[Column, int]]], size: int, *, apart: bool = False
) -> list[int]:
    """Slots of ports on the border, those that are read by the same children together."""
    groups: dict[tuple[tuple[Column, int], ...], list[int]] = {}
    nearest: dict[tuple[tuple[Column, int], ...], Column] = {}
    for port in range(size):
        found = tuple(sorted(ways.get(port, ())))
        key = (*found, ((0, 0), port)) if apart else found
        groups.setdefault(key, []).append(port)
        nearest[key] = min((column for column, _ in found), key=_far, default=(0, 0))
    slots = [0] * size
    for key, slot in _spread([(nearest[key], (0, 0), key) for key in groups]):
        for port in groups[key]:
            slots[port] = _within(slot, _BORDER)
    return slots


def _within(slot: int, outermost: int) -> int:
    return max(-outermost, min(outermost, slot))


def _far(column: Column) -> tuple[int, int]:
    return abs(column[0]), abs(column[1])


def _spread(found: Iterable[tuple[Column, Column, _Key]]) -> list[tuple[_Key, int]]:
    """Slots from left to right: what comes straight down has the middle one."""
    ordered = sorted(found, key=lambda one: (one[0], str(one[2])))
    straight = [n for n, (column, home, _) in enumerate(ordered) if column == home]
    middle = straight[0] if straight else (len(ordered) - 1) // 2
    return [(key, n - middle) for n, (_, _, key) in enumerate(ordered)]


def _extend(
    gap: dict[tuple[int, ...], _Segment], net: tuple[int, ...], above: Spot, below: Spot
) -> None:
    segment = gap.setdefault(net, _Segment(net, [], [], []))
    segment.spots.extend((above, below))
    segment.above.append(above)
    segment.below.append(below)


def _assign(segments: Sequence[_Segment]) -> dict[tuple[int, ...], int]:
    """Tracks of the horizontal lines of one gap, from the top.

    Lines that overlap have different ones, and where one net ends above the place where another
    begins it has the higher track; but for a circle of such wishes.
    """
    falling: dict[Spot, list[tuple[int, ...]]] = {}
    for segment in segments:
        for spot in set(segment.above):
            falling.setdefault(spot, []).append(segment.net)
    waits = {
        s.net: {net for spot in s.below for net in falling.get(spot, ()) if net != s.net}
        for s in segments
    }
    left = sorted(segments, key=lambda s: (min(s.spots), max(s.spots)))
    found: dict[tuple[int, ...], int] = {}
    track = 0
    while left:
        ready = [s for s in left if waits[s.net] <= found.keys()] or left[:1]
        end: Spot | None = None
        placed = {}
        for segment in ready:
            if end is None or min(segment.spots) > end:
                placed[segment.net] = track
                end = max(segment.spots)
        found.update(placed)
        left = [s for s in left if s.net not in found]
        track += 1
    return found
