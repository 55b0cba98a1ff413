"""The layout of a figure's steps in rows, as the graph of `report` has it."""

from __future__ import annotations

from math import log2

from msgspec.structs import replace

from cnnscope.analysis.graph import placement
from cnnscope.records import figure as f
from cnnscope.records.graph import GraphEdge, Layout
from cnnscope.records.trace import Shape

_JOIN_WEIGHT, _WEIGHT = 0, 1
_STEP = 0.4  # of a halving: convolutions without padding take off less


def laid_out(flow: f.Flow) -> f.Flow:
    """The same with rows, rails and lanes, and bands of rows at one resolution.

    The longest path runs straight down.
    """
    layout = _layout(flow)
    return replace(flow, layout=layout, bands=tuple(_bands(flow, layout)))


def _bands(flow: f.Flow, layout: Layout) -> list[f.Band]:
    """Rows in which the trunk has about one resolution; rows without a step of it go on."""
    trunk = sorted((p.row, p.node) for p in layout.places if p.rail == layout.trunk)
    last = max((row for row, node in trunk if flow.steps[node].positions), default=-1)
    found: list[f.Band] = []
    for row, node in trunk:
        size = flow.steps[node].positions
        if not size and found and row < last:
            size = found[-1].sizes[1]  # a gate, which one number for a channel is made for
        if found and _alike(found[-1].sizes[0], size):
            found[-1] = f.Band(found[-1].first, row, (found[-1].sizes[0], size))
        else:
            found.append(f.Band(row, row, (size, size)))
    ends = [band.first - 1 for band in found[1:]] + [layout.rows - 1]
    begins = [0, *(end + 1 for end in ends[:-1])]
    return [
        f.Band(begin, end, band.sizes) for begin, end, band in zip(begins, ends, found, strict=True)
    ]


def _alike(one: Shape, other: Shape) -> bool:
    if len(one) != len(other):
        return False
    return all(abs(log2(a / b)) < _STEP for a, b in zip(one, other, strict=True))


def _layout(flow: f.Flow) -> Layout:
    ports: dict[int, int] = {}
    edges = []
    for edge in flow.edges:
        into = ports.get(edge.target, 0)
        ports[edge.target] = into + 1
        edges.append(GraphEdge(edge.source, 0, edge.target, into))
    return placement.place(
        placement.Block(
            size=len(flow.steps),
            edges=tuple(edges),
            inputs=0,
            outputs=0,
            slots=(None,) * len(flow.steps),
            weight=tuple(_JOIN_WEIGHT if s.kind == f.JOIN else _WEIGHT for s in flow.steps),
            aside=(False,) * len(flow.steps),
        )
    )
