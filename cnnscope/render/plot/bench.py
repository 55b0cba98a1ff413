"""The charts of `cnnscope bench`: how times are distributed, and the roofline of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnscope.errors import RequestError
from cnnscope.records.bench import BenchReport, BenchRun, Ceilings
from cnnscope.render import bench, units
from cnnscope.render.plot.chart import Axis, Chart, Panel, Point, Series

_STEPS = 200  # of a distribution that is drawn
_TAIL = 0.99  # of the times of each run are in the picture
_WIDE = 10.0  # times this far apart are drawn by their ratio
_ABOVE = (
    "the roofline was measured on one size, and a layer of another size, or one whose data lie in "
    "the caches, may be faster"
)
_NAMED = 12  # layers of a roofline that may have names


def chart(report: BenchReport) -> Chart:
    """Distributions, and where layers were timed between known ceilings, the roofline.

    Raises:
        RequestError: no time was measured.
    """
    timed = [(run, times) for run in report.runs if (times := _times(run))]
    if not timed:
        raise RequestError("bench: the run holds no times, so that there is nothing to plot")
    panels = [_distributions(timed, report)]
    if report.ceilings is not None and any(_layers(run) for run in report.runs):
        panels.append(_roofline(report, report.ceilings))
    page = bench.page(report)
    beyond = max(times[-1] for _, times in timed)
    cut = panels[0].x.ends is not None
    note = f"the longest 1 % of the times of each run, up to {units.duration(beyond)}"
    kept = [one for one in page.below if one[0] in ("!", "machine", "ceilings")]
    above = sum((x.roofline or 0) > 1 for run in report.runs for x in run.layers if x.macs)
    if above and len(panels) > 1:
        kept.append(("above", f"{units.plural(above, 'call')} of layers: {_ABOVE}"))
    return Chart(
        page.name, page.header, tuple(panels), (*([("not drawn", note)] * cut), *kept), columns=2
    )


def _times(run: BenchRun) -> list[int]:
    return sorted(ns for samples in run.samples_ns for ns in samples)


def _distributions(timed: Sequence[tuple[BenchRun, list[int]]], report: BenchReport) -> Panel:
    """The share of calls that took no longer than a time, for each run."""
    ends = [times[round(_TAIL * (len(times) - 1))] for _, times in timed]
    low, high = min(times[0] for _, times in timed), max(ends)
    cut = high < max(times[-1] for _, times in timed)
    log = low > 0 and high / low >= _WIDE
    return Panel(
        Axis("time of a call", unit="time", log=log, ends=_ends(low, high, log) if cut else None),
        Axis("share of calls (%)", ends=(0, 104)),
        tuple(Series(_named(run, report), tuple(_ecdf(times)), "steps") for run, times in timed),
        title="distribution of times (eCDF)",
    )


def _ends(low: float, high: float, log: bool) -> tuple[float, float]:
    """Both, with a margin."""
    if log:
        return low / 1.05, high * 1.05
    margin = (high - low) / 20 or high / 2
    return low - margin, high + margin


def _ecdf(times: Sequence[int]) -> Iterator[Point]:
    """Points of the empirical distribution function, no more than can be told apart."""
    count = len(times)
    yield float(times[0]), 0.0
    last = -1
    for step in range(1, min(count, _STEPS) + 1):
        index = count * step // min(count, _STEPS) - 1
        if index != last:
            yield float(times[index]), 100 * (index + 1) / count
        last = index


def _named(run: BenchRun, report: BenchReport) -> str:
    """Its model, its batch where several were measured, and its median."""
    return f"{_called(run, report)} (median {units.duration(run.statistics.median_ns)})"


def _called(run: BenchRun, report: BenchReport) -> str:
    several = len({one.batch for one in report.runs}) > 1
    return f"{run.label}, batch {run.batch}" if several else run.label


# --------------------------------------------------------------------------------- roofline


def _roofline(report: BenchReport, top: Ceilings) -> Panel:
    """Attained arithmetic over arithmetic intensity, below what the machine reached."""
    found = [(run, _layers(run)) for run in report.runs]
    series = tuple(_series(run, points, report) for run, points in found if points)
    whole = [(_called(run, report), p) for run in report.runs if (p := _whole(run)) is not None]
    if whole:
        names, points = zip(*whole, strict=True)
        series += (Series("the whole model", tuple(points), labels=tuple(names), first=True),)
    xs = [x for one in series for x, _ in one.points]
    ridge = top.flops / top.bandwidth
    low, high = min(*xs, ridge / 4), max(*xs, ridge * 4)
    roof = ((low, low * top.bandwidth), (ridge, top.flops), (high, top.flops))
    return Panel(
        Axis("arithmetic intensity (FLOP/byte)", unit="count", log=True),
        Axis("FLOP/s", unit="count", log=True),
        (*series, Series("roofline of this machine", roof, "line", faint=True)),
        title="roofline: layers, measured one at a time",
    )


def _layers(run: BenchRun) -> list[tuple[str, Point, float]]:
    """Layers that compute: name, place and time, the slowest first."""
    found = [
        (
            units.called(x),
            (2 * x.macs / x.nbytes, 2e9 * x.macs / x.median_ns),
            x.median_ns,
        )
        for x in run.layers
        if x.macs and x.nbytes and x.median_ns
    ]
    return sorted(found, key=lambda one: -one[2])


def _series(
    run: BenchRun, layers: Sequence[tuple[str, Point, float]], report: BenchReport
) -> Series:
    name = f"layers of {_called(run, report)}"
    labels = [label if n < _NAMED else "" for n, (label, *_) in enumerate(layers)]
    return Series(name, tuple(point for _, point, _ in layers), labels=tuple(labels))


def _whole(run: BenchRun) -> Point | None:
    """The run itself, where what it computes and moves is known."""
    flops = bench.flops_per_second(run)
    if not flops or not run.work.nbytes or not run.work.macs:
        return None
    return 2 * run.work.macs / run.work.nbytes, flops
