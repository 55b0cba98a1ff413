"""The graph of a network, or of two, and its layout."""

from cnnscope.analysis.graph.build import graph
from cnnscope.analysis.graph.two import graph_of_two

__all__ = ["graph", "graph_of_two"]
