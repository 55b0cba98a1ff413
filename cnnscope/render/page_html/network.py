"""The graph as JSON: nodes outer before inner, and the grid of every block.

A grid names children by their order in the block and not by their node, so that equal blocks have
one grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnscope.records.graph import BORDER, REPEAT, Graph, GraphNode
from cnnscope.render.graph import boxes, colours
from cnnscope.render.page_html.listed import Listed
from cnnscope.text import visible

Json = dict[str, Any]
_COSTS = ("params", "macs", "element_ops", "activation_bytes")


def network(graph: Graph) -> Json:
    """The graph with its layouts.

    Args:
        graph: of one model, or of two.
    """
    grids = Listed()
    return {
        "nodes": [_node(node, grids) for node in graph.nodes],
        "grids": grids.items,
        "opened": graph.opened,
    }


def _node(node: GraphNode, grids: Listed) -> Json:
    """What is drawn of a box; what has no value is left out."""
    grid = _grid(node)
    shown: Json = {
        "kind": node.kind,
        "parent": node.parent,
        "label": visible(node.label),
        "group": colours.group(node),
        "row": node.row,
        "name": visible(node.name),
        "call": node.call if node.call > 1 else 0,
        "merged": node.merged,
        "outputs": node.outputs[:1],
        "more": max(len(node.outputs) - 1, 0),
        "repeat": node.repeat if node.kind == REPEAT else 0,
        "members": _ends(node),
        "costs": _costs(node),
        "status": node.counterpart.status if node.counterpart else "",
        "fails": node.fails,
        "changes": visible(boxes.changes(node)),
    }
    found = {name: value for name, value in shown.items() if value or name in ("parent", "row")}
    return found | ({"grid": grids.place(repr(grid), grid)} if grid else {})


def _ends(node: GraphNode) -> list[str]:
    """Names of the first and the last member of a repeat."""
    paths = node.paths[:1] + node.paths[-1:] if node.kind == REPEAT else ()
    return [visible(path.rpartition(".")[2]) for path in paths]


def _costs(node: GraphNode) -> dict[str, int]:
    """Costs that there are; `field` is the largest extent, -1 where it is all of an axis."""
    found = {name: value for name in _COSTS if (value := getattr(node.costs, name))}
    sizes = node.costs.field
    if sizes:
        found["field"] = -1 if None in sizes else max(size or 0 for size in sizes)
    return found


def _grid(node: GraphNode) -> Json:
    """The layout of a block's children, which are numbered in their order."""
    layout = node.layout
    if layout is None:
        return {}
    order: Mapping[int, int] = {child: n for n, child in enumerate(node.children)}
    order = {**order, BORDER: BORDER}
    places = {place.node: (place.row, place.rail) for place in layout.places}
    return {
        "places": [places[child] for child in node.children],
        "rows": layout.rows,
        "rails": [(rail.column, rail.first, rail.last) for rail in layout.rails],
        "trunk": layout.trunk,
        "tracks": layout.tracks,
        "lanes": layout.lanes,
        "edges": [(order[e.source], e.out, order[e.target], e.into) for e in node.edges],
        "routes": [(r.exit, r.leave, r.lane, r.arrive, r.entry) for r in layout.routes],
        "inputs": layout.inputs,
        "outputs": layout.outputs,
    }
