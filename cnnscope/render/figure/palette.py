"""Colours of a figure: a hue and a grey of its own for each kind of operation.

Hues are of Okabe and Ito (2008), lightened; each is darker than the one before, so that a print in
greys tells them apart as well. No colour is the only sign of anything: everything has a caption.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnscope.records import figure as f
from cnnscope.records.figure import Step


class Tint(NamedTuple):
    """A colour of areas and one of lines."""

    name: str
    fill: str
    line: str


PLAIN = Tint("input, output", "#ffffff", "#52606d")
CONVOLUTION = Tint("convolution", "#dcebf7", "#2f6f9f")
BLOCK = Tint("block of layers", "#eadff0", "#7d5699")
NORM = Tint("other layer", "#d9d9d4", "#6b6b63")
POOL = Tint("pooling", "#f3b98a", "#b3591a")
UP = Tint("upsampling", "#8ccbb3", "#1f7a5c")
ONE = Tint("1x1 convolution", "#dcebf7", "#4aa8e0")  # of an arrow
LINEAR = Tint("fully connected", "#86aee0", "#23528f")
ATTENTION = Tint("attention", "#d98cb3", "#8f2d63")
RECURRENT = Tint("recurrent", "#a99a4f", "#5c5215")

TINTS = (CONVOLUTION, BLOCK, NORM, POOL, UP, LINEAR, ATTENTION, RECURRENT)
_OF_FAMILY = {
    **dict.fromkeys(
        ("convolution", "deformable convolution", "quantised convolution"), CONVOLUTION
    ),
    **dict.fromkeys(("max pool", "average pool", "mean", "region pool"), POOL),
    **dict.fromkeys(("resample", "pixel shuffle"), UP),
    **dict.fromkeys(
        ("linear", "quantised linear", "matrix product", "bilinear", "other product"), LINEAR
    ),
    "attention": ATTENTION,
    **dict.fromkeys(("recurrent", "quantised recurrent"), RECURRENT),
    f.BLOCK: BLOCK,
    f.INPUT: PLAIN,
}


def of(step: Step) -> Tint:
    """Colour of a step."""
    if step.layer is not None and step.layer.kind.startswith("transposed"):
        return UP
    return _OF_FAMILY.get(step.family, NORM)
