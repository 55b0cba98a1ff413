"""The graph of a network and its layout."""

from cnnscope.analysis.graph.build import graph

__all__ = ["graph"]
