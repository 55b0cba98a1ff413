"""The answer to `cnnscope check`: other counters' numbers beside ours, and why they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cnnscope import parallel
from cnnscope.analysis.notes import notes
from cnnscope.analysis.step import peak
from cnnscope.cache import libraries
from cnnscope.cache.store import Store
from cnnscope.deadline import Deadline
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.installed import version
from cnnscope.models.request import Request
from cnnscope.models.spelling import parse_input
from cnnscope.ops import table
from cnnscope.records.check import (
    Cause,
    CheckAllReport,
    Checked,
    CheckReport,
    Count,
    Published,
    Tally,
    Verdict,
)
from cnnscope.records.step import Step
from cnnscope.records.trace import Trace
from cnnscope.reports import referee

if TYPE_CHECKING:
    from cnnscope.models.build import Built
    from cnnscope.models.ladder import Rung

_ROOM = 8 * 2**30  # bytes for each process: enough for most models, which look for themselves
_LONG = 2 * 10**10  # MACs of a forward that are announced
_MOST = 12  # models that a process checks before another takes its place
_FIGURES = ("parameters", "MACs", "shapes", "field", "step MACs", "step bytes")  # in order
_PACKAGES = ("torch", "torchinfo", "fvcore")

Made = tuple[str, CheckReport | str]  # a model's name, and its report or why there is none


def check(
    request: Request,
    memory_share: float = 1.0,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    step: Step | None = None,
) -> CheckReport:
    """Trace a model, run all counters, and judge what they say.

    Args:
        request: which model, on which input.
        memory_share: how much of the free memory may be used.
        seconds: after which no further counter is begun.
        tell: is given a sentence beforehand about what may take long.
        step: a training step to be checked as well.

    Raises:
        RequestError, ModelError: see `cnnscope.models.run.trace_spec`.
    """
    from cnnscope.models import run
    from cnnscope.reports.subject import Subject

    trace = run.trace_spec(request)
    deadline = Deadline(seconds)
    if expected := _expected(trace):
        tell(expected + ("" if seconds else "; a limit of seconds begins nothing after it"))
    with run.building(request, trace) as build:
        counts = list(Subject(trace, build, memory_share).counts(deadline))
        field = _field(trace, build, deadline)
    verdicts = [referee.verdict(trace, count) for count in counts]
    verdicts += [*_published(trace, request), field]
    if step is not None:
        verdicts += trained(request, step, memory_share, deadline)
    verdicts.sort(key=lambda one: _FIGURES.index(one.figure))
    return CheckReport(trace.source, trace.input_specs, trace.device, tuple(verdicts), notes(trace))


def _expected(trace: Trace) -> str:
    """Sentence that announces work of a minute or more; "" for less."""
    macs = sum(table.macs(trace, record) for record in trace.ops)
    if macs < _LONG:
        return ""
    return (
        f"check: a real forward of {macs / 1e9:,.0f} GMACs for fvcore and for the shapes, and the "
        "gradient of the largest field: this may take minutes"
    )


def differs(report: CheckReport) -> bool:
    """Return True if something differs without a known reason."""
    return any(verdict.status == referee.UNEXPLAINED for verdict in report.verdicts)


# -------------------------------------------------------------------------- a training step


def trained(
    request: Request, step: Step, memory_share: float = 1.0, deadline: Deadline | None = None
) -> list[Verdict]:
    """Verdicts of what measures a real training step on the CPU; the loss is the sum of outputs.

    Args:
        request: which model, on which input.
        step: the optimizer.
        memory_share: how much of the free memory may be used.
        deadline: after which nothing more is measured.
    """
    from cnnscope.models import run
    from cnnscope.reports.subject import STEP, Trained

    try:
        with run.stepping(request) as traced:
            made = traced(step, None)
            watched = peak(traced(step, None, watched=True)).nbytes
    except CnnscopeError as error:
        return [Verdict(name, "", what, referee.ABSENT, note=str(error)) for name, what, _ in STEP]
    with run.building(request, made.trace) as build:
        counts = list(Trained(made, build, memory_share).counts(deadline))
    return [referee.of_step(made, watched, count) for count in counts]


# ---------------------------------------------------------------------- the receptive field


def _field(
    trace: Trace, build: Callable[[Rung], Built], deadline: Deadline | None = None
) -> Verdict:
    """The verdict of the gradient on the largest receptive field."""
    from cnnscope.models.failures import out_of_memory
    from cnnscope.models.ladder import Rung
    from cnnscope.reports import verify

    if deadline and deadline.over:
        return Verdict("gradient", "", "field", referee.ABSENT, note=deadline.reason)
    if "random" in trace.decided_by:
        note = "random numbers decide what runs: its forward would take another path"
        return Verdict("gradient", "", "field", referee.ABSENT, note=note)
    try:
        layer = verify.verify_largest(trace, build(Rung.META).model.to("meta"), deadline)
    except CnnscopeError as error:
        return Verdict("gradient", "", "field", referee.ABSENT, note=str(error))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        note = "there is not enough memory for it; use a smaller --batch-size"
        return Verdict("gradient", "", "field", referee.ABSENT, note=note)
    found = [axis for axis in layer.checks if axis.how != "whole"]
    statuses = {"equal": referee.EQUAL, "differs": referee.UNEXPLAINED}
    return Verdict(
        "gradient",
        "",
        "field",
        statuses.get(layer.verdict, referee.ABSENT),
        theirs=max((_extent(axis.measured) for axis in found), default=0),
        ours=max((_extent(axis.computed) for axis in found), default=0),
        unexplained=sum(not axis.equal for axis in layer.checks),
        note=layer.reason,
        layer=layer,
    )


def _extent(intervals: Sequence[tuple[int, int]]) -> int:
    return max((last - first + 1 for first, last in intervals), default=0)


# ------------------------------------------------------------------------ what is published


def _published(trace: Trace, request: Request) -> Iterator[Verdict]:
    """Verdicts on what the model's library publishes."""
    from cnnscope.models import find

    found = find.published(trace.source)
    if found and trace.source.arguments:
        name = f"{trace.source.source} publishes the model without arguments"
        yield referee.verdict(trace, Count("published", "MACs", failed=name))
        return
    for one in _distinct(found, trace):
        params = Count("published", "parameters", one.weights, one.params)
        macs = Count("published", "MACs", one.weights, one.macs, one.resolution)
        yield referee.verdict(trace, params)
        if _same_input(one, trace):
            yield referee.verdict(trace, macs)
        else:
            yield _elsewhere(trace, request, one, macs)


def _distinct(found: Sequence[Published], trace: Trace) -> list[Published]:
    """The figures for the trace's own input if there are any, each different one once."""
    chosen = [one for one in found if _same_input(one, trace)] or found
    return list({(one.params, one.macs, one.inputs): one for one in reversed(chosen)}.values())[
        ::-1
    ]


def _same_input(one: Published, trace: Trace) -> bool:
    return [spec.shape for spec in one.inputs.tensors] == [spec.shape for spec in trace.input_specs]


def _elsewhere(trace: Trace, request: Request, one: Published, macs: Count) -> Verdict:
    """The verdict on a figure for another input, which the model is traced at for it."""
    from cnnscope.models import run

    shapes = tuple("x".join(map(str, spec.shape)) for spec in one.inputs.tensors)
    inputs = tuple(map(parse_input, shapes))
    try:
        elsewhere = msgspec.structs.replace(request, inputs=inputs, form=None, batch_size=None)
        there = run.trace_spec(elsewhere)
    except CnnscopeError as error:
        failed = f"published for {', '.join(shapes)}: {error}"
        return referee.verdict(trace, msgspec.structs.replace(macs, failed=failed))
    return referee.at_another_input(trace, there, macs)


# ---------------------------------------------------------------------------- all models


def check_all(source: str, store: Store | None) -> tuple[int, Iterator[Made]]:
    """Count the models of a source and yield each one's report: stored ones first.

    The others are checked in as many processes as memory allows, and kept; an interruption loses
    nothing that was done.

    Raises:
        RequestError: a process was killed.
    """
    names = libraries.names(source, store)
    return len(names), _each(source, names, store)


def _each(source: str, names: Sequence[str], store: Store | None) -> Iterator[Made]:
    missing = []
    for name in names:
        known = store and store.read(_key(source, name), CheckReport)
        if known:
            yield name, known
        else:
            missing.append(name)
    if missing:
        yield from _in_processes(source, missing, store.root if store else None)


def _in_processes(source: str, names: Sequence[str], root: Path | None) -> Iterator[Made]:
    from concurrent.futures.process import BrokenProcessPool

    free = parallel.free_memory()
    room = parallel.cores() if free is None else max(1, free // _ROOM)
    processes = min(parallel.cores(), room, len(names))
    items = [(source, name, root, 1 / processes) for name in names]
    threads = max(1, parallel.cores() // processes)
    try:
        yield from parallel.each(_make, items, processes, threads=threads, most=_MOST)
    except BrokenProcessPool:
        raise RequestError(
            "check --all: a process was killed, perhaps for lack of memory; what was checked is "
            "kept, and the same command goes on from there"
        ) from None


def _make(source: str, name: str, root: Path | None, memory_share: float) -> Made:
    """Check a model and keep the report; one that fails is an answer as well."""
    try:
        made = check(Request.of(f"{source}:{name}"), memory_share)
    except CnnscopeError as error:
        return name, str(error)
    if root:
        Store(root).write(_key(source, name), made)
    return name, made


def _key(source: str, name: str) -> dict[str, Any]:
    versions = {package: version(package) for package in _PACKAGES}
    return libraries.key("check", source, name=name, **versions)


def summary(source: str, made: Sequence[Made]) -> CheckAllReport:
    """Sum up the reports of all models."""
    versions = {name: version(name) or "" for name in (*_PACKAGES, libraries.LIBRARIES[source])}
    reports = [(name, report) for name, report in sorted(made) if isinstance(report, CheckReport)]
    return CheckAllReport(
        versions=versions,
        tallies=tuple(_tallies([report for _, report in reports])),
        causes=tuple(_causes(reports)),
        models=tuple(_checked(source, name, report) for name, report in sorted(made)),
    )


def _tallies(reports: Sequence[CheckReport]) -> Iterator[Tally]:
    """One for each counter and figure, in the order of a report."""
    statuses: dict[tuple[str, str], Counter[str]] = {}
    for report in reports:
        for one in report.verdicts:
            statuses.setdefault((one.counter, one.figure), Counter())[one.status] += 1
    for (counter, figure), found in statuses.items():
        yield Tally(counter, figure, **found)


def _causes(reports: Sequence[tuple[str, CheckReport]]) -> list[Cause]:
    """Every reason of every counter, the most frequent first."""
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for name, report in reports:
        for one in report.verdicts:
            for reason in one.reasons if one.status == referee.EXPLAINED else ():
                found = shares.setdefault((one.counter, reason.about), {})
                share = reason.amount / one.ours
                found[name] = max(found.get(name, 0.0), share, key=abs)
    causes = []
    for (counter, about), found in shares.items():
        model = max(found, key=lambda name: abs(found[name]))
        causes.append(Cause(counter, about, len(found), found[model], model))
    order = list(dict.fromkeys(counter for counter, _ in shares))
    return sorted(causes, key=lambda cause: (order.index(cause.counter), -cause.models))


def _checked(source: str, name: str, report: CheckReport | str) -> Checked:
    if isinstance(report, str):
        return Checked(source, name, failed=report)
    found: Any = Counter(one.status for one in report.verdicts)
    trouble = tuple(
        one for one in report.verdicts if one.status in (referee.UNEXPLAINED, referee.ABSENT)
    )
    return Checked(source, name, **found, trouble=trouble)
