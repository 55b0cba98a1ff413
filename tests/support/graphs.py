"""The data flow of a graph against that of its trace, and the geometry of its drawing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from cnnscope.analysis.graph.tidy import operands
from cnnscope.records.graph import BORDER, Graph
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace
from cnnscope.render.graph.restack import Drawing


def leaves(graph: Graph) -> list[int]:
    return [n for n, node in enumerate(graph.nodes) if not node.children]


def drawn_flow(graph: Graph) -> set[tuple[int, int]]:
    """Leaves joined by an edge, through all borders on the way."""

    def sources(block: int, node: int, port: int) -> Iterator[int]:
        if not graph.nodes[node].children:
            yield node
        for edge in graph.nodes[node].edges:
            if edge.target == BORDER and edge.into == port and edge.source != BORDER:
                yield from sources(node, edge.source, edge.out)

    def targets(node: int, port: int) -> Iterator[int]:
        if not graph.nodes[node].children:
            yield node
        for edge in graph.nodes[node].edges:
            if edge.source == BORDER and edge.out == port and edge.target != BORDER:
                yield from targets(edge.target, edge.into)

    return {
        (source, target)
        for block, node in enumerate(graph.nodes)
        for edge in node.edges
        if BORDER not in (edge.source, edge.target)
        for source in sources(block, edge.source, edge.out)
        for target in targets(edge.target, edge.into)
    }


def operations(trace: Trace, rows: tuple[LayerRow, ...], graph: Graph) -> dict[int, set[int]]:
    """The operations of each leaf, by its rows."""
    found = {}
    for leaf in leaves(graph):
        node = graph.nodes[leaf]
        ops: set[int] = set()
        for row in (rows[n] for n in (node.row, *node.merged) if n >= 0):
            if row.kind == "module":
                ops.update(trace.index.all_ops.get(trace.index.calls[row.path, row.call], ()))
            elif row.kind == "operation" and row.tensor >= 0:
                ops.add(trace.index.maker[row.tensor])
        found[leaf] = ops
    return found


def traced_flow(
    trace: Trace, rows: tuple[LayerRow, ...], graph: Graph
) -> tuple[set[tuple[int, int]], set[int]]:
    """Leaves of which one reads what the other makes, and operations that no leaf has."""
    ops = operations(trace, rows, graph)
    home = {op: leaf for leaf, found in ops.items() for op in found}
    made = {t: leaf for op, leaf in home.items() for t in trace.ops[op].outputs}
    params = {param.path: param.tensor for param in trace.params}
    ends: dict[str, list[int]] = {"input": [], "output": []}
    for leaf in leaves(graph):
        node = graph.nodes[leaf]
        if node.kind in ends:
            ends[node.kind].append(leaf)
        if node.kind == "parameter":
            made[params[node.path]] = leaf
    made.update(zip(dict.fromkeys(trace.inputs), ends["input"], strict=True))
    read = [(leaf, t) for op, leaf in home.items() for t in operands(trace)[op]]
    read += zip(ends["output"], trace.outputs, strict=True)
    flow = {(made[t], leaf) for leaf, t in read if t in made and made[t] != leaf}
    return flow, set(range(len(trace.ops))) - home.keys()


def without_relays(flow: set[tuple[int, int]], relays: Iterable[int]) -> set[tuple[int, int]]:
    """The same flow without leaves that pass on what they get."""
    found = set(flow)
    for relay in relays:
        before = {a for a, b in found if b == relay}
        after = {b for a, b in found if a == relay}
        found = {edge for edge in found if relay not in edge}
        found |= {(a, b) for a in before for b in after}
    return found


# -------------------------------------------------------------------------------- geometry


def overlapping(drawing: Drawing, graph: Graph) -> list[tuple[int, int]]:
    """Boxes that overlap, and neither is around the other."""
    parents = [node.parent for node in graph.nodes]

    def around(node: int) -> set[int]:
        found = set()
        while node >= 0:
            found.add(node)
            node = parents[node]
        return found

    boxes = sorted(drawing.boxes, key=lambda box: box.y)
    found = []
    for n, a in enumerate(boxes):
        for b in boxes[n + 1 :]:
            if b.y >= a.y + a.height:
                break
            apart = a.x + a.width <= b.x or b.x + b.width <= a.x
            if not apart and a.node not in around(b.node) and b.node not in around(a.node):
                found.append((a.node, b.node))
    return found


def through_boxes(drawing: Drawing) -> list[tuple[int, int]]:
    """Lines that run through a closed box: its block and number, and the box."""
    closed = [box for box in drawing.boxes if box.inside < 0]
    found = []
    for line in drawing.lines:
        for (x0, y0), (x1, y1) in pairwise(line.points):
            left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
            found += [
                (line.block, box.node)
                for box in closed
                if right > box.x + 0.01
                and left < box.x + box.width - 0.01
                and bottom > box.y + 0.01
                and top < box.y + box.height - 0.01
            ]
    return found
