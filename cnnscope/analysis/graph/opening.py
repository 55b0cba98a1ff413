"""Which blocks of a graph are open at first: as many as fit a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnscope.records.graph import REPEAT, ROOT, GraphNode

BOXES = 25  # that a reader takes in at once


def opened(nodes: Sequence[GraphNode], room: int = BOXES) -> tuple[int, ...]:
    """Blocks to open: whole levels while there is room, then one of each kind, the dearest first.

    Args:
        nodes: of a graph.
        room: number of boxes to be shown.
    """
    found = {ROOT}
    while level := [n for n in _closed(nodes, found) if _parts(nodes, n)]:
        wider = found | set(level)
        if _count(nodes, wider) > room:
            break
        found = wider
    return tuple(sorted(_singly(nodes, found, room)))


def _singly(nodes: Sequence[GraphNode], found: set[int], room: int) -> set[int]:
    """Open one block of each kind, as far as there is room."""
    tried: set[int] = set()
    kinds = {nodes[n].label for n in found if n != ROOT}
    while True:
        choices = [
            n
            for n in _closed(nodes, found)
            if n not in tried and _parts(nodes, n) and nodes[n].label not in kinds
        ]
        if not choices:
            return found
        best = max(choices, key=lambda n: (nodes[n].costs.macs, -n))
        tried.add(best)
        if _count(nodes, found | {best}) <= room:
            found = found | {best}
            kinds.add(nodes[best].label)


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


def _count(nodes: Sequence[GraphNode], found: Iterable[int]) -> int:
    return len(_closed(nodes, found))
