"""The chart of `cnnscope memory`: what is alive over a training step, or a forward."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from cnnscope.records.memory import MemoryReport
from cnnscope.render import memory, units
from cnnscope.render.plot.chart import Axis, Band, Chart, Level, Panel, Series

_PHASES = {"forward": "forward", "backward": "backward", "step": "optimizer"}


def chart(report: MemoryReport) -> Chart:
    """Bytes of each kind of tensors after every operation, on top of each other."""
    kinds = [one for one in report.kinds if any(one.timeline)]
    panel = Panel(
        Axis("operation", unit="whole", ends=(0, max(len(report.events), 1))),
        Axis("living tensors", unit="bytes", zero=True),
        tuple(
            Series(
                one.kind, tuple((float(n), float(b)) for n, b in enumerate(one.timeline)), "area"
            )
            for one in kinds
        ),
        (Level(report.tensors, f"peak {units.nbytes(report.tensors)}"),),
        tuple(_phases(report)),
    )
    page = memory.page(report)
    kept = [one for one in page.below if one[0] in ("!", "tensors")]
    return Chart(page.name, page.header, (panel,), tuple(kept))


def _phases(report: MemoryReport) -> Iterator[Band]:
    """Forward, backward pass, step of the optimizer; a phase may come back."""
    for phase, inside in groupby(range(len(report.events)), lambda n: report.events[n].phase):
        places = list(inside)
        yield Band(places[0], places[-1] + 1, _PHASES[phase])
