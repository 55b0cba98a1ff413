"""The chart of `cnnscope memory`: what is alive over a training step, or a forward."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from cnnscope.records.memory import MemoryReport
from cnnscope.records.step import KINDS
from cnnscope.render import memory, units
from cnnscope.render.plot.chart import Axis, Band, Chart, Level, Panel, Series

_MOMENTS = 1000  # of a step, as many as can be told apart
_PHASES = {"forward": "forward", "backward": "backward", "step": "optimizer"}


def chart(report: MemoryReport) -> Chart:
    """Bytes of each kind of tensors after every operation, on top of each other."""
    kinds = [one for one in report.kinds if any(one.timeline)]
    shown = _moments(report)
    panel = Panel(
        Axis("operation", unit="whole", ends=(0, max(len(report.events), 1))),
        Axis("living tensors", unit="bytes", zero=True),
        tuple(
            Series(
                memory.KINDS.get(one.kind, one.kind),
                tuple((float(n), float(one.timeline[n])) for n in shown),
                "area",
                look=KINDS.index(one.kind),  # the same for every model
            )
            for one in kinds
        ),
        (Level(report.tensors, f"peak {units.nbytes(report.tensors)}"),),
        tuple(_phases(report)),
    )
    page = memory.page(report)
    kept = [one for one in (*page.above, *page.below) if one[0] in ("!", "peak")]
    return Chart(page.name, page.header, (panel,), tuple(kept))


def _moments(report: MemoryReport) -> list[int]:
    """Operations that are drawn: of many, those after which the most is alive among neighbours."""
    totals = [sum(at) for at in zip(*(one.timeline for one in report.kinds), strict=True)]
    width = -(-len(totals) // _MOMENTS)
    starts = range(0, len(totals), width)
    found = {max(range(a, min(a + width, len(totals))), key=totals.__getitem__) for a in starts}
    return sorted(found | {0, len(totals) - 1})


def _phases(report: MemoryReport) -> Iterator[Band]:
    """Forward, backward pass, step of the optimizer; a phase may come back."""
    for phase, inside in groupby(range(len(report.events)), lambda n: report.events[n].phase):
        places = list(inside)
        yield Band(places[0], places[-1] + 1, _PHASES[phase])
