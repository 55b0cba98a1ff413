"""Which blocks of a graph are open at first: as many as fit a screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cnnscope.records.graph import REPEAT, ROOT, GraphNode
from cnnscope.records.summary import CONTAINERS

ROWS, BOXES = 24, 40  # that a screen has room for, and that a reader takes in
_MORE = 4  # rows for one block of a kind
_COMPARED = 60  # boxes of two models, most of them grey


def opened(nodes: Sequence[GraphNode]) -> tuple[int, ...]:
    """Blocks to open: whole levels while there is room, then one of each kind, the dearest first.

    Args:
        nodes: of a graph.
    """
    found = {ROOT}
    while level := [n for n in _closed(nodes, found) if _parts(nodes, n)]:
        wider = found | set(level)
        if not _fits(nodes, wider):
            break
        found = wider
    return tuple(sorted(_singly(nodes, found)))


def opened_at_differences(nodes: Sequence[GraphNode]) -> tuple[int, ...]:
    """Blocks to open in a graph of two models: those in which something differs, level by level."""
    found = {ROOT}
    while level := [n for n in _closed(nodes, found) if _differs(nodes, n)]:
        wider = found | set(level)
        if len(_closed(nodes, wider)) > _COMPARED and len(found) > 1:
            return tuple(sorted(_examples(nodes, found)))
        found = wider
    return tuple(sorted(found))


def _examples(nodes: Sequence[GraphNode], found: set[int]) -> set[int]:
    """Open one block of each kind in which something differs, as far as there is room."""
    kinds = {_kind(nodes, n) for n in found if n != ROOT}
    while True:
        closed = [n for n in _closed(nodes, found) if _differs(nodes, n)]
        node = next((n for n in closed if _kind(nodes, n) not in kinds), None)
        if node is None:
            return found
        kinds.add(_kind(nodes, node))
        if len(_closed(nodes, found | {node})) <= _COMPARED:
            found = found | {node}


def _differs(nodes: Sequence[GraphNode], node: int) -> bool:
    """Return True for a block that is in both models, with other parts."""
    counterpart = nodes[node].counterpart
    return bool(_parts(nodes, node)) and counterpart is not None and counterpart.status == "changed"


def _singly(nodes: Sequence[GraphNode], found: set[int]) -> set[int]:
    """Open one block of each kind, as far as there is room."""
    tried: set[int] = set()
    kinds = {_kind(nodes, n) for n in found if n != ROOT}
    costs: Counter[tuple[str, ...]] = Counter()
    for n in _closed(nodes, found):
        costs[_kind(nodes, n)] += nodes[n].costs.macs
    while True:
        choices = [
            n
            for n in _closed(nodes, found)
            if n not in tried and _parts(nodes, n) and _kind(nodes, n) not in kinds
        ]
        if not choices:
            return found
        best = max(choices, key=lambda n: (costs[_kind(nodes, n)], nodes[n].costs.macs, -n))
        tried.add(best)
        if _fits(nodes, found | {best}, _MORE):
            found = found | {best}
            kinds.add(_kind(nodes, best))


def _parts(nodes: Sequence[GraphNode], node: int) -> tuple[int, ...]:
    """What is seen when a node is opened: of a repeat the inside of its first member."""
    if nodes[node].kind == REPEAT:
        return _parts(nodes, nodes[node].children[0])
    return nodes[node].children


def _closed(nodes: Sequence[GraphNode], found: Iterable[int]) -> list[int]:
    """Visible boxes that are not open."""
    seen = set(found)
    boxes = []
    waiting = [ROOT]
    while waiting:
        node = waiting.pop()
        if node in seen:
            waiting += reversed(_parts(nodes, node))
        else:
            boxes.append(node)
    return boxes


def _fits(nodes: Sequence[GraphNode], found: Iterable[int], more: int = 0) -> bool:
    opened_ = set(found)
    return len(_closed(nodes, opened_)) <= BOXES and _rows(nodes, ROOT, opened_) <= ROWS + more


def _kind(nodes: Sequence[GraphNode], node: int) -> tuple[str, ...]:
    """Class of a block; of a container that and the classes of its parts."""
    if nodes[node].label not in CONTAINERS:
        return (nodes[node].label,)
    return nodes[node].label, *sorted({nodes[n].label for n in _parts(nodes, node)})


def _rows(nodes: Sequence[GraphNode], node: int, found: set[int]) -> int:
    """Boxes above each other in a node."""
    if node not in found:
        return 1
    record = nodes[node]
    while record.kind == REPEAT:
        record = nodes[record.children[0]]
    if record.layout is None:
        return 1
    heights = [0] * record.layout.rows
    for place in record.layout.places:
        heights[place.row] = max(heights[place.row], _rows(nodes, place.node, found))
    return sum(heights)
