"""The report of `cnnscope rf --verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from cnnscope.records.rf import AxisCheck, LayerCheck, VerifyReport
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.field import none_means
from cnnscope.render.page import BAD, DIFFERENT, Heading, Page, Table

_COLUMNS = (
    Heading("layer", left=True, least=12),
    Heading("computed"),
    Heading("measured"),
    Heading("padding", drop=1),
    Heading("canvas", drop=2),
    Heading("", left=True),
)
_STYLES = {"differs": BAD, "not measured": DIFFERENT}
_DIFFERENCES = 5  # told in full


def page(report: VerifyReport) -> Page:
    """Computed beside measured, and what came of it."""
    rows = tuple(map(_cells, report.layers))
    styles = tuple(_STYLES.get(check.verdict, "") for check in report.layers)
    tables = (Table(_COLUMNS, rows, styles if any(styles) else ()),) if rows else ()
    return Page(report.source.name, facts.header(report), tables, tuple(_sentences(report)))


def _cells(check: LayerCheck) -> tuple[str, ...]:
    path = units.called(check)
    verdict = {"equal": "=", "differs": "differs", "not measured": "not measured"}[check.verdict]
    return (
        path,
        units.field(check.field) if check.field else "?",
        measured(check) if check.verdict != "not measured" else "",
        _paddings(check),
        units.same(_once(str(c.canvas) for c in check.checks if c.how != "whole") or [""]),
        verdict,
    )


def measured(check: LayerCheck) -> str:
    """The measured field, in the form of a computed one."""
    return _told(check, lambda c: c.measured, lambda c: units.span_of(c.measured[0]))


def computed(check: LayerCheck) -> str:
    """The computed field of the same units, in the same form."""
    return _told(check, lambda c: c.computed, lambda c: units.span(c.computed[0]))


def _told(
    check: LayerCheck,
    intervals: Callable[[AxisCheck], Sequence[tuple[int, int]]],
    extent: Callable[[AxisCheck], str],
) -> str:
    """Receptive field of units: their `intervals`, and the `extent` of the whole image."""
    local = [c for c in check.checks if c.how != "whole"]
    text = units.same([_size(c, intervals(c)) for c in local]) if local else ""
    steps = [_stride(c, intervals(c)) for c in local]
    within = bool(local) and all(c.how == "input" for c in local)
    whole = {c.axis: extent(c) for c in check.checks if c.how == "whole"}
    if whole and not within:
        beside = {c.axis: _size(c, intervals(c)) for c in local}
        seen = units.same([text for _, text in sorted((beside | whole).items())])
        return f"{seen} px (local {text})" if whole.keys() & beside.keys() else f"{seen} px"
    return f"{text} /{units.same(steps)}" if set(steps) - {"1"} and all(steps) else text


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _size(check: AxisCheck, intervals: Sequence[tuple[int, int]]) -> str:
    sizes = [b - a + 1 for a, b in intervals]
    text = units.span((min(sizes), max(sizes)))
    return text if check.how == "interior" else f"{text} of {check.canvas}"


def _stride(check: AxisCheck, intervals: Sequence[tuple[int, int]]) -> str:
    """Distance of the centres of neighbouring units, if it is always the same."""
    if check.how != "interior":
        return ""
    steps = {b[0] + b[1] - a[0] - a[1] for a, b in pairwise(intervals)}
    return f"{steps.pop() / 2:.4g}" if len(steps) == 1 else ""


def _paddings(check: LayerCheck) -> str:
    """Padding along each axis."""
    found = dict.fromkeys(sorted(c.axis for c in check.checks), "")
    found |= {c.axis: _padding(c) for c in check.checks if c.how == "interior"}
    return units.along_axes(list(found.values()))


def _padding(check: AxisCheck) -> str:
    """Padding of unit 0 before the input, if all units are alike."""
    starts = [a for a, _ in check.measured]
    steps = {b - a for a, b in pairwise(starts)}
    sizes = {b - a for a, b in check.measured}
    if len(steps) != 1 or len(sizes) != 1:
        return ""
    return str(check.units[0] * steps.pop() - starts[0])


def _sentences(report: VerifyReport) -> list[tuple[str, str]]:
    verdicts = Counter(check.verdict for check in report.layers)
    count = verdicts["equal"] + verdicts["differs"]
    lines = [("verdict", _verdict(report, verdicts["equal"], count))]
    lines += [("!", text) for text in differences(report.layers)]
    if len(report.layers) < report.total:
        lines.append(
            (
                "chosen",
                f"{len(report.layers)} of {units.plural(report.total, 'layer')}, each with another "
                f"field, of {report.fields} different ones (--all measures every layer)",
            )
        )
    reasons: dict[str, list[str]] = {}
    for check in report.layers:
        if check.verdict == "not measured":
            reasons.setdefault(check.reason or "it could not be reached", []).append(
                units.called(check)
            )
    for reason, paths in reasons.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        lines.append(("not measured", f"{paths[0]}{more}: {reason}"))
    lines += none_means(map(_paddings, report.layers))
    if count:
        lines.append(("how", "gradient of a positive linear stand-in in float64"))
    return lines + [("note", note) for note in report.notes]


def _verdict(report: VerifyReport, equal: int, count: int) -> str:
    if count:
        return f"{equal} of {count} measured fields equal the computed ones"
    if not report.layers:
        return "nothing to measure: no layer of this model has a receptive field"
    if all(check.unknown for check in report.layers):
        return "nothing to measure: no field is known"
    return "nothing could be measured"


def differences(checks: Sequence[LayerCheck]) -> list[str]:
    """The first few: a layer, an axis, a unit of it, and what it sees."""
    found: list[str] = []
    for check in checks:
        for axis in check.checks:
            if not axis.equal and len(found) < _DIFFERENCES:
                found.append(f"{units.called(check)}, axis {axis.axis}: {_difference(axis)}")
    return found


def _difference(check: AxisCheck) -> str:
    if check.how == "whole":
        seen = units.span(check.computed[0])
        return f"computed {seen} px, measured {units.interval(check.measured[0])}"
    pairs = zip(check.units, check.computed, check.measured, strict=True)
    unit, computed, measured = next((p for p in pairs if p[1] != p[2]), (0, (0, -1), (0, -1)))
    return (
        f"unit {unit} of a canvas of {check.canvas} px: computed {units.interval(computed)}, "
        f"measured {units.interval(measured)}"
    )


_CSV = (
    "path", "call", "verdict", "axis", "how", "canvas", "unit", "computed_first", "computed_last",
    "measured_first", "measured_last", "reason",
)  # fmt: skip


def sheet(report: VerifyReport) -> Sheet:
    """One line per layer, axis and unit, raw numbers."""
    return _CSV, (row for check in report.layers for row in _raw(check))


def _raw(check: LayerCheck) -> Iterator[Row]:
    if not check.checks:
        yield (check,)
    for axis in check.checks:
        known = axis.units if len(axis.units) == len(axis.computed) else ("",)
        for unit, computed, measured in zip(known, axis.computed, axis.measured, strict=True):
            seen = dict(zip(_CSV[6:11], (unit, *computed, *measured), strict=True))
            yield (seen, axis, check)
