"""What the figure of a network shows: its steps, what repeats, and the shape of a U."""

from cnnscope.analysis.figure.flow import flow
from cnnscope.analysis.figure.fold import folded, merged
from cnnscope.analysis.figure.layout import laid_out
from cnnscope.analysis.figure.unet import NoUshapeError, ushape

__all__ = ["NoUshapeError", "flow", "folded", "laid_out", "merged", "ushape"]
