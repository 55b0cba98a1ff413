"""The report of `cnnscope list`: a line per model."""

from __future__ import annotations

from math import isfinite

from cnnscope.records.catalogue import Card, Listed, ListReport
from cnnscope.render import units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, GOOD, Heading, Page, Table

_BAR = 8
_CSV = (
    "source", "name", "family", "task", "params", "macs", "flops", "element_ops",
    "peak_activation_bytes", "field", "weight_layers", "input", "top1", "best", "failed",
)  # fmt: skip


def page(report: ListReport) -> Page:
    """Models by family, or in the order they were sorted into, with a bar for that."""
    headings = [
        Heading("model", left=True, least=48, keep="start"),  # which of two is not cut off
        Heading("params"),
        Heading("MACs"),
        Heading("peak act.", drop=2),
        Heading("field", drop=3),
        Heading("layers", drop=4),
        Heading("input", drop=5),
        Heading("top-1"),
    ]
    if report.sort:
        headings.append(Heading(report.sort, left=True, drop=1))
    else:
        headings.insert(0, Heading("family", left=True, drop=6))
    count = units.plural(len(report.models), "model")
    order = f"largest {report.sort} first" if report.sort else "by family"
    table = Table(tuple(headings), tuple(_rows(report)), tuple(map(_style, report.models)))
    return Page(count, order, (table.filled(),), tuple(_below(report)))


def _rows(report: ListReport) -> list[tuple[str, ...]]:
    whole = max((_bar_value(one) for one in report.models), default=0)
    rows, before = [], None
    for one in report.models:
        cells = _cells(one)
        if report.sort:
            rows.append((*cells, units.bar(_bar_value(one), whole, _BAR)))
            continue
        about = one.card.about if one.card else None
        family = (one.source, about.task, about.family) if about else (one.source, "", "failed")
        rows.append((family[-1] if family != before else "", *cells))
        before = family
    return rows


def _sizes(card: Card) -> list[str]:
    """Pixels along each axis of the field."""
    return ["all" if size is None else str(size) for size in card.field or ()]


def _cells(one: Listed) -> tuple[str, ...]:
    name = one.name if one.source == "torchvision" else f"{one.source}:{one.name}"
    name += " *" if one.best else ""
    card = one.card
    if card is None:
        return (name, *[""] * 7)
    return (
        name,
        units.si_short(card.params),
        units.si_short(card.macs),
        units.nbytes(card.peak_activation_bytes),
        units.same(_sizes(card)) if card.field else "",
        str(card.weight_layers),
        _input(card),
        "" if card.about.top1 is None else units.tenths(card.about.top1),
    )


def _input(card: Card) -> str:
    first = units.per_sample(card.inputs[0].shape)
    return f"{len(card.inputs)} x {first}" if len(card.inputs) > 1 else first


def _bar_value(one: Listed) -> float:
    """Length of a bar; 0 for what is unknown or has no end."""
    return one.value if one.value is not None and isfinite(one.value) else 0


def _style(one: Listed) -> str:
    return BAD if one.card is None else GOOD if one.best else ""


def _below(report: ListReport) -> list[tuple[str, str]]:
    lines = []
    if report.pareto:
        first, second = report.pareto
        lines.append(("*", f"no other model is as good in {first} and {second} and better in one"))
    lines += [
        ("!", f"{one.source}:{one.name}: {one.failed}") for one in report.models if one.failed
    ]
    return lines


def sheet(report: ListReport) -> Sheet:
    """One line per model, raw numbers."""
    return _CSV, map(_raw, report.models)


def _raw(one: Listed) -> Row:
    card = one.card
    if card is None:
        return (one,)
    computed = {
        "flops": 2 * card.macs,
        "field": "x".join(_sizes(card)),
        "input": ";".join(units.shape(spec.shape) for spec in card.inputs),
    }
    return (computed, one, card, card.about)
