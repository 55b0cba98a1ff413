"""Warnings of a run: measured times that are doubtful or impossible."""

from __future__ import annotations

from msgspec.structs import replace

from cnnscope.records.bench import BenchRun, Ceilings, Environment
from cnnscope.timing import stats, work

BUSY = 0.05  # of the time spent waiting for a core


def of_run(run: BenchRun, environment: Environment) -> BenchRun:
    """The run, with a warning for each sign that its times are not those of the model alone."""
    found = []
    s = run.statistics
    if run.settings.device == "cpu" and run.settings.threads > environment.capacity:
        found.append("threads")
    elif run.waited is not None and run.waited > BUSY:
        found.append("busy")
    if abs(s.drift) > stats.UNSTABLE_DRIFT:
        found.append("drift")
    if s.outliers > stats.UNSTABLE_OUTLIERS * s.count:
        found.append("outliers")
    if run.launch is not None and run.launch.enqueue_ns > run.launch.device_ns:
        found.append("launch-bound")
    if work.is_other(run):
        found.append("other-work")
    if run.kept:
        found.append("grows")
    return replace(run, warnings=tuple(found))


def of_ceilings(run: BenchRun, ceilings: Ceilings | None) -> BenchRun:
    """The run, with a warning for each ceiling that it is above."""
    if ceilings is None or work.is_other(run):
        return run
    return replace(run, warnings=(*run.warnings, *work.above(run, ceilings)))
