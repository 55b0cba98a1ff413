"""The graph of a network as a picture."""

from cnnscope.render.graph.svg import HEATS, View, svg

__all__ = ["HEATS", "View", "svg"]
