"""What is written in the boxes of a graph, and how large they are."""

from __future__ import annotations

import re
from typing import NamedTuple

from cnnscope.records import graph as g
from cnnscope.records.graph import GraphNode
from cnnscope.records.summary import CONTAINERS
from cnnscope.render import units
from cnnscope.render.diff import said_of
from cnnscope.text import printable

_NAME, _LABEL, _CHANGES = 32, 44, 60  # characters of a name, of an operation, of what changed
MARKS = {"same": "=", "resized": "=", "changed": "~", "added": "+", "removed": "\N{MINUS SIGN}"}
_EDGE = 10.0  # between text and the border of a box
SMALL = 10.0  # sizes of text
BOLD = 11.8  # of 11, with the width of bold letters
_LOW, _HIGH = 22.0, 36.0  # of boxes with one line, with two
_LEAST = {g.BLOCK: 120.0, g.REPEAT: 120.0, g.LAYER: 110.0}

# Widths of Arial and Helvetica in thousandths of the size; what is not here is 556 wide.
_WIDTHS = {
    letter: size
    for letters, size in (
        ("ijl'", 222), ("ft,.:;/ |!I[]\\", 278), ("r()-", 333), ("ckszvxyJ", 500),
        ("+<>=~\N{MULTIPLICATION SIGN}", 584), ("FTZ", 611), ("ABEKPSVXY&", 667),
        ("CDHNRUw", 722), ("GOQ", 778), ("mM", 833), ("%", 889), ("W", 944), ("@", 1015),
    )
    for letter in letters
}  # fmt: skip
_WIDE = 0x2E80  # from here on characters are as wide as high


class Text(NamedTuple):
    """What a box says: `title` in bold and `note` behind it, `below` in the second line."""

    title: str
    note: str = ""
    below: str = ""


def text(node: GraphNode) -> Text:
    """What the closed box of a node says; of two models with a mark, and with what changed."""
    said = _alone(node)
    status = node.counterpart.status if node.counterpart else ""
    if status not in ("changed", "added", "removed"):
        return said
    below = printable(changes(node), _CHANGES) or said.below
    return said._replace(title=f"{MARKS[status]} {said.title}", below=below)


def changes(node: GraphNode) -> str:
    """Hyper-parameters that are not the same, as `diff` writes them: groups 1 -> 32."""
    return "; ".join(map(said_of, node.counterpart.changes if node.counterpart else ()))


def _alone(node: GraphNode) -> Text:
    shape, own = _shape(node), _own(node)
    if node.kind in (g.INPUT, g.OUTPUT, g.PARAMETER):
        return Text(printable(node.name, _NAME), shape)
    if node.kind in (g.OPERATION, g.CONSTANT):
        return Text(own.title, shape)
    if node.kind == g.LAYER and _passes(node):
        return own
    return Text(own.title, "", f"{own.note}   {shape}".strip())


def head(node: GraphNode) -> Text:
    """What stands above an open block."""
    return _own(node)


def _own(node: GraphNode) -> Text:
    """Operation or class, and the name; of a container the name comes first."""
    label, name = printable(node.label, _LABEL), members(node)
    if node.call > 1:
        name = f"{name} #{node.call}"
    if node.label in CONTAINERS and name:
        label, name = name, label
    return Text(label + times(node), name)


def times(node: GraphNode) -> str:
    """The number of members of a repeat."""
    return f" \N{MULTIPLICATION SIGN} {node.repeat}" if node.repeat > 1 else ""


def members(node: GraphNode) -> str:
    """Name of a block; of a repeat those of the first and the last member."""
    if node.repeat <= 1 or not node.paths:
        return printable(node.name, _NAME)
    first, last = (path.rpartition(".")[2] for path in (node.paths[0], node.paths[-1]))
    stem = re.split(r"\d+$", first)[0]
    ending = last.removeprefix(stem) if stem != first else last
    return printable(f"{first} \N{HORIZONTAL ELLIPSIS} {ending}", _NAME)


def size(node: GraphNode, opened: bool) -> tuple[float, float]:
    """Least width of a box and its height; of an open block those of its head."""
    said = head(node) if opened else text(node)
    first = width(said.title, BOLD) + (8 + width(said.note, SMALL) if said.note else 0)
    broad = max(first, width(said.below, SMALL)) + 2 * _EDGE
    least = 0.0 if opened else _LEAST.get(node.kind, 56.0)
    return float(round(max(broad, least))), _HIGH if said.below else _LOW


def width(shown: str, font: float) -> float:
    """Width of a text in pixels, by the metrics of Helvetica."""
    thousandths = sum(1000 if ord(c) >= _WIDE else _WIDTHS.get(c, 556) for c in shown)
    return thousandths * font / 1000


def _passes(node: GraphNode) -> bool:
    """Return True for a layer that gives what has the shape of what it gets, without a product."""
    same = node.inputs[:1] == node.outputs[:1]
    return same and not node.costs.macs and not node.fails


def _shape(node: GraphNode) -> str:
    if not node.outputs:
        return ""
    more = f" +{len(node.outputs) - 1}" if len(node.outputs) > 1 else ""
    return units.per_sample(node.outputs[0]) + more
