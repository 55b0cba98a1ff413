"""Colours of a graph: by kind of operation, by cost, by difference. Safe for the colour-blind.

No colour is the only sign of anything: boxes have text, differences a mark, costs a number.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnscope.records import graph as g
from cnnscope.records.graph import GraphNode


class Colour(NamedTuple):
    """Of a box: its area, its border, its text."""

    fill: str
    line: str
    text: str = "#1f2933"


PLAIN = Colour("#ffffff", "#9aa5b1")
BLOCK = Colour("#ffffff", "#829ab1", "#243b53")
FAILS = Colour("#fde8e4", "#b3261e")

# Of the tints of Okabe and Ito (2008), lightened; what is learned stands out.
GROUPS: dict[str, Colour] = {
    "convolution": Colour("#d6e8f5", "#3d7ea6"),
    "linear, product": Colour("#e7def0", "#8a63a8"),
    "recurrent": Colour("#f6dcea", "#b3578a"),
    "pool, resample": Colour("#d8efe4", "#3a9472"),
    "norm": Colour("#f1f4f6", "#a9b6c2"),
    "activation": Colour("#fbf3d5", "#c5a54b"),
    "join": Colour("#fbe1cc", "#c8702a"),
    "other arithmetic": Colour("#f0ebe6", "#a3978a"),
    "moves data": PLAIN,
    "parameter, constant": Colour("#ffffff", "#8a63a8"),
    "input, output": Colour("#52606d", "#323f4b", "#ffffff"),
}
_OF_FAMILY = {
    **dict.fromkeys(
        ("convolution", "deformable convolution", "quantised convolution"), "convolution"
    ),
    **dict.fromkeys(
        ("linear", "quantised linear", "matrix product", "bilinear", "attention", "other product"),
        "linear, product",
    ),
    **dict.fromkeys(("recurrent", "quantised recurrent"), "recurrent"),
    **dict.fromkeys(
        ("max pool", "average pool", "mean", "resample", "region pool", "pixel shuffle"),
        "pool, resample",
    ),
    **dict.fromkeys(("batch norm", "layer norm", "group norm", "rms norm", "weight norm"), "norm"),
    **dict.fromkeys(("activation", "softmax"), "activation"),
    **dict.fromkeys(("add", "multiply", "concatenate", "stack"), "join"),
    **dict.fromkeys(("elementwise", "reduction", "cumulative"), "other arithmetic"),
}
_OF_KIND = {
    g.PARAMETER: "parameter, constant",
    g.CONSTANT: "parameter, constant",
    g.INPUT: "input, output",
    g.OUTPUT: "input, output",
}

STATUS: dict[str, Colour] = {
    "same": Colour("#f5f7fa", "#b8c2cc", "#52606d"),
    "resized": Colour("#eef2f6", "#8fa1b3", "#3e4c59"),
    "changed": Colour("#fdedc4", "#c58a00"),
    "added": Colour("#cdeee0", "#1d8a5f"),
    "removed": Colour("#f9d7d2", "#b3412f"),
}

# ColorBrewer's YlOrBr: light to dark in print and for every eye.
_HEAT = ((255, 255, 229), (254, 227, 145), (254, 153, 41), (204, 76, 2), (102, 37, 6))
_TINTS = ("#f4f7fa", "#e9eff5", "#dee7ef", "#d4dfe9")


def group(node: GraphNode) -> str:
    """The group of a closed box, "" for a block."""
    if node.kind in (g.BLOCK, g.REPEAT) and node.family == g.BLOCK:
        return ""
    return _OF_KIND.get(node.kind) or _OF_FAMILY.get(node.family, "moves data")


def of(node: GraphNode) -> Colour:
    """Colour of a closed box by its kind of operation."""
    if node.fails:
        return FAILS
    return GROUPS.get(group(node), BLOCK)


def tint(depth: int) -> str:
    """Area of an open block: darker the deeper it lies."""
    return _TINTS[min(depth, len(_TINTS)) - 1]


def heat(share: float) -> Colour:
    """Colour of a cost between nothing (0) and the largest (1)."""
    at = min(max(share, 0.0), 1.0) * (len(_HEAT) - 1)
    low = min(int(at), len(_HEAT) - 2)
    mixed = tuple(
        round(a + (b - a) * (at - low)) for a, b in zip(_HEAT[low], _HEAT[low + 1], strict=True)
    )
    dark = sum(w * c for w, c in zip((0.299, 0.587, 0.114), mixed, strict=True)) < 140
    return Colour("#{:02x}{:02x}{:02x}".format(*mixed), "#8c6d4f", "#ffffff" if dark else "#1f2933")
