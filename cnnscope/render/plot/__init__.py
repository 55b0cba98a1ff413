"""Reports as charts: which file of this folder makes one, and what draws it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cnnscope.errors import RequestError
from cnnscope.render.plot.chart import Chart

_FILES = {  # in this folder, by the name of a record; each has `chart`
    "BenchReport": "bench",
    "FieldReport": "rf",
    "ListReport": "catalogue",
    "MemoryReport": "memory",
    "ModelReport": "summary",
    "SweepReport": "sweep",
}


def chart(report: Any) -> Chart:
    """A report as a chart.

    Args:
        report: one of those that are answers to a command.

    Raises:
        RequestError: there is no chart of such a report, or nothing to draw in this one.
    """
    name = type(report).__name__
    if name not in _FILES:
        known = ", ".join(sorted(_FILES))
        raise RequestError(f"there is no chart of a {name}; there is one of {known}")
    made: Chart = import_module(f"cnnscope.render.plot.{_FILES[name]}").chart(report)
    return made
