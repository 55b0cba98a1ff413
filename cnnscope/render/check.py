"""The reports of `cnnscope check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnscope.records.check import Cause, CheckAllReport, CheckReport, Reason, Tally, Verdict
from cnnscope.records.rf import LayerCheck
from cnnscope.render import facts, units, verify
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, DIFFERENT, Heading, Page, Table

_COUNTERS = {
    "numel": "sum of numel()",
    "flop counter": "FlopCounterMode",
    "forward": "forward on the CPU",
    "gradient": "input gradient",
    "allocations": "profiler's allocations",
}
_STATUSES = {
    "equal": "equal",
    "explained": "known reasons",
    "incomparable": "depends on data",
    "unexplained": "unexplained",
    "absent": "not run",
}
_STYLES = {"unexplained": BAD, "absent": DIFFERENT}
_REASONS = {
    "biases": "biases counted, once per output",
    "norms": "weights of norms counted, once per sample",
    "lookups": "embeddings counted, once per sample",
    "other weights": "other weights counted, once per sample",
    "positions": "weights counted per sample, not per position",
    "transposed": "transposed convolutions counted from output",
    "no layer": "products that no layer runs left out",
    "own layer": "own layers counted by weights, not products",
    "tied": "tied weights counted in each of their layers",
    "containers": "containers that no forward calls counted beside what they hold",
    "computed weights": "computed weights counted by what they are made of",
    "pruned": "pruned weights counted without what is masked",
    "complex": "complex products counted as if they were real",
    "norm flops": "norms counted",
    "pools": "adaptive average pools counted",
    "upsampling": "upsampling counted",
    "grid sampling": "grid sampling counted",
    "attention": "scaled_dot_product_attention has no formula",
    "no formula": "no formula for {where}",
    "einsum": "einsum counted to four digits",
    "matmul": "matmul counted without broadcasting",
    "input": "published for {where}",
    "not selected": "counted where nothing is detected",
    "unused": "without what never runs: {where}",
    "grouped": "gradients of weights in groups counted as if there were one",
    "watched": "its dispatch mode has gradients and biases added out of place",
    "strays": "tensors that are not registered left out",
    "operators": "operators without products counted: {where}",
    "gates": "gates of recurrent layers counted",
    "zero points": "zero points counted as if they were biases",
    "third axis": "third axis of quantised kernels left out",
    "shapes": "sizes that its own shape inference gets wrong",
}
_NAMED = (
    "no formula",
    "einsum",
    "matmul",
    "input",
    "unused",
    "watched",
    "operators",
)  # `where` has no layers

_ONE = (
    Heading("counter", left=True, least=14, keep="start"),
    Heading("counts", left=True),
    Heading("theirs"),
    Heading("ours", drop=1),
    Heading("verdict", left=True),
)
_WHY = (
    Heading("counter", left=True),
    Heading("difference"),
    Heading("because", left=True),
    Heading("layers", drop=1),
)
_ALL = (
    Heading("counter", left=True),
    Heading("counts", left=True),
    Heading("equal"),
    Heading("known reasons"),
    Heading("depends on data", drop=1),
    Heading("unexplained"),
    Heading("not run", drop=2),
)
_CAUSES = (
    Heading("counter", left=True),
    Heading("because", left=True),
    Heading("models"),
    Heading("largest", drop=1),
    Heading("in", left=True, drop=2),
)


def page(report: CheckReport | CheckAllReport) -> Page:
    """Either report as a page."""
    return _all(report) if isinstance(report, CheckAllReport) else _one(report)


# ------------------------------------------------------------------------------- one model


def _one(report: CheckReport) -> Page:
    verdicts = report.verdicts
    table = Table(
        _ONE,
        tuple(map(_cells, verdicts)),
        tuple(_STYLES.get(one.status, "") for one in verdicts),
    )
    why = tuple(row for one in verdicts for row in _why(one))
    tables = (table, Table(_WHY, why, caption="why they differ")) if why else (table,)
    below = [("summary", _summary(verdicts)), *_remarks(verdicts)]
    below += [("!", text) for text in _absences(verdicts)]
    below += [("!", note) for note in report.notes]
    return Page(report.source.name, facts.header(report), tables, tuple(below))


def _cells(one: Verdict) -> tuple[str, ...]:
    status = _STATUSES[one.status]
    if one.status == "absent":
        return (_name(one), one.figure, "", "", status)
    if one.layer is not None:
        fields = verify.measured(one.layer), verify.computed(one.layer)
        return (_name(one), one.figure, *fields, status)
    if one.figure == "shapes":
        return (_name(one), one.figure, _calls(one.theirs), _calls(one.ours), status)
    return (_name(one), one.figure, _figure(one), units.integer(one.ours), status)


def _name(one: Verdict) -> str:
    if one.counter == "published":
        return f"published {one.version}".strip()
    named = _COUNTERS.get(one.counter)
    version = one.version.partition(".post")[0]
    return f"{one.counter} {version}".strip() if named is None else named


def _figure(one: Verdict) -> str:
    """Number of a counter, with the digits that it gave."""
    return units.giga(one.theirs) if one.resolution > 1 else units.integer(one.theirs)


def _calls(count: int) -> str:
    return units.plural(count, "call")


def _why(one: Verdict) -> Iterator[tuple[str, ...]]:
    counter = _COUNTERS.get(one.counter, one.counter)
    for reason in one.reasons if one.status in ("explained", "unexplained") else ():
        layers = "" if reason.about in _NAMED else units.integer(reason.count)
        yield (counter, units.signed(reason.amount), _because(reason), layers)
    if one.status == "unexplained" and one.figure not in ("shapes", "field"):
        yield (counter, units.signed(one.unexplained), "unexplained", "")


def _because(reason: Reason) -> str:
    """A reason in words, with what it is about where that is no layer."""
    return _REASONS[reason.about].format(where=", ".join(reason.where))


def _summary(verdicts: tuple[Verdict, ...]) -> str:
    count = {status: sum(one.status == status for one in verdicts) for status in _STATUSES}
    return _sentence(count, "counter")


def _sentence(count: dict[str, int], noun: str) -> str:
    """9 counters agree, 2 differ for known reasons, 0 without; 1 could not be run."""
    shown = {status: units.integer(n) for status, n in count.items()}
    text = (
        f"{units.plural(count['equal'], noun)} {'agrees' if count['equal'] == 1 else 'agree'}, "
        f"{shown['explained']} {'differs' if count['explained'] == 1 else 'differ'} for known "
        f"reasons, {shown['unexplained']} without"
    )
    if count["incomparable"]:
        text += f"; {shown['incomparable']} within what data decides"
    if count["absent"]:
        text += f"; {shown['absent']} could not be run"
    return text


def _remarks(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, str]]:
    for one in verdicts:
        what = f"{_name(one)}, {one.figure}"
        if one.status == "unexplained" and one.figure == "shapes":
            yield ("!", f"{what}: {units.plural(one.unexplained, 'call')} differ: {one.note}")
        elif one.status == "unexplained" and one.layer is not None:
            yield from (("!", f"{what}: {text}") for text in verify.differences([one.layer]))
        elif one.status == "unexplained":
            yield ("!", f"{what}: {units.signed(one.unexplained)} has no known reason")
        elif one.layer is not None:
            yield ("field", _which(one.layer))
        elif one.range is not None:
            yield ("data", f"{what}: {_between(one)}")
        elif one.left_out:
            left = units.plural(one.left_out, "call")
            yield ("data", f"{what}: {left} whose sizes depend on data are not compared")


def _which(layer: LayerCheck) -> str:
    text = f"of {units.called(layer)}, the largest that does not depend on the input's size"
    within = all(axis.how != "interior" for axis in layer.checks)
    return f"{text}; measured within the input" if within else text


def _absences(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Counters that did not run, with reasons; those with one reason are named together."""
    found: dict[str, list[str]] = {}
    for one in verdicts:
        if one.status == "absent":
            found.setdefault(_absence(one), []).append(f"{_name(one)} ({one.figure})")
    for reason, names in found.items():
        yield f"not run ({reason}): {', '.join(names)}"


def _absence(one: Verdict) -> str:
    if one.needs:
        return f"it needs about {units.nbytes(one.needs)} of memory, which are not free"
    return one.note


def _between(one: Verdict) -> str:
    least, most = one.range or (0, 0)
    return (
        f"how much runs depends on data: between {units.integer(least)} and {units.integer(most)} "
        "by its rule"
    )


# ------------------------------------------------------------------------------ all models


def _all(report: CheckAllReport) -> Page:
    styles = tuple(BAD if tally.unexplained else "" for tally in report.tallies)
    tallies = Table(_ALL, tuple(map(_tally, report.tallies)), styles)
    causes = tuple(
        (
            _COUNTERS.get(cause.counter, cause.counter),
            _general(cause),
            units.integer(cause.models),
            units.part(cause.largest),
            cause.model,
        )
        for cause in report.causes
    )
    tables = (tallies, Table(_CAUSES, causes, caption="why they differ")) if causes else (tallies,)
    versions = ", ".join(f"{name} {found}" for name, found in report.versions.items())
    name = units.plural(len(report.models), "model")
    return Page(name, versions, tables, tuple(_below(report)))


def _general(cause: Cause) -> str:
    """A reason in words, of many models."""
    text = _REASONS[cause.about]
    return text.replace("{where}", "another input" if cause.about == "input" else "").strip(": ")


def _tally(tally: Tally) -> tuple[str, ...]:
    counts = (tally.equal, tally.explained, tally.incomparable, tally.unexplained, tally.absent)
    name = _COUNTERS.get(tally.counter, tally.counter)
    return (name, tally.figure, *map(units.integer, counts))


def _below(report: CheckAllReport) -> Iterator[tuple[str, str]]:
    count = {
        status: sum(getattr(tally, status) for tally in report.tallies) for status in _STATUSES
    }
    models = units.plural(len(report.models), "model")
    yield ("summary", f"{models}: {_sentence(count, 'figure')}")
    for model in report.models:
        if model.failed:
            yield ("!", f"{model.name}: {model.failed}")
        for title, sentence in _remarks(model.trouble):
            yield (title, f"{model.name}: {sentence}")
        for sentence in _absences(model.trouble):
            yield ("!", f"{model.name}: {sentence}")


# ------------------------------------------------------------------------------- raw numbers

_CSV = (
    "counter", "version", "counts", "theirs", "ours", "status", "reason", "amount", "places",
    "note",
)  # fmt: skip
_CSV_ALL = (
    "source", "name", "equal", "explained", "incomparable", "unexplained", "absent", "failed",
)  # fmt: skip


def sheet(report: CheckReport | CheckAllReport) -> Sheet:
    """One line per verdict and one for each of its reasons; or one per model."""
    if isinstance(report, CheckAllReport):
        return _CSV_ALL, ((model,) for model in report.models)
    return _CSV, (row for one in report.verdicts for row in _raw(one))


def _raw(one: Verdict) -> Iterator[Row]:
    own: dict[str, object] = {"counts": one.figure}
    note = one.note
    if one.status == "absent":
        own |= {"theirs": "", "ours": ""}
        note = _absence(one)
    yield ({**own, "amount": one.unexplained or "", "note": note}, one)
    for r in one.reasons:
        reason = {"reason": r.about, "amount": r.amount, "places": r.count, "note": ""}
        yield ({**own, **reason}, one)
