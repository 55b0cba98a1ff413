"""The report of `cnnscope fit`."""

from __future__ import annotations

from collections.abc import Iterator

from cnnscope.records.fit import FitReport, Fitting
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.memory import OPTIMIZERS, asked, owners
from cnnscope.render.page import Heading, Page, Table, dear

_HEADINGS = (
    Heading("optimizer", left=True),
    Heading("precision", left=True),
    Heading("checkpoints", left=True, least=12, keep="start"),
    Heading("batch"),
    Heading("at best", drop=1),
    Heading("per sample", drop=2),
    Heading("recomputed", drop=3),
    Heading("found by", left=True, drop=4),
)
_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
_LAYERS = 6


def page(report: FitReport) -> Page:
    """The largest batch, those of other ways to train, and who owns the peak at the first."""
    where = units.nbytes(report.memory) + (f" ({report.gpu})" if report.gpu else "")
    return Page(
        report.source.name,
        f"{facts.header(report)} · {asked(report.step)} · {where}",
        (_ways(report), *_layers(report)),
        tuple(_below(report)),
        tuple(_above(report)),
    )


def _ways(report: FitReport) -> Table:
    rows = tuple(_way(row, _precision(report)) for row in report.rows)
    styles = tuple("bold" if row == report.found else "" for row in report.rows)
    return Table(_HEADINGS, rows, styles).filled()


def _precision(report: FitReport) -> str:
    """What the step computes in without autocast."""
    return _SHORT.get(report.dtype, report.dtype or "its own")


def _way(row: Fitting, precision: str) -> tuple[str, ...]:
    return (
        OPTIMIZERS[row.optimizer],
        f"amp {row.amp}" if row.amp else precision,
        ", ".join(row.checkpoint) or "none",
        units.integer(row.safe) if row.safe else "none",
        units.integer(row.optimistic) if row.optimistic else "none",
        units.nbytes(row.per_sample) if row.per_sample else "",
        f"{100 * row.recomputed:.0f} %" if row.recomputed else "",
        "traces" if row.confirmed else "estimate",
    )


def _layers(report: FitReport) -> Iterator[Table]:
    """The layers that own the most at the peak of the largest batch."""
    shown = report.layers[:_LAYERS]
    whole = sum(kind.at_peak for kind in report.kinds)
    rows = tuple(
        (one.path or "the model", units.nbytes(one.total), units.percent(one.total, whole))
        for one in shown
    )
    headings = (
        Heading("layer", left=True, least=16, keep="end"),
        Heading("bytes"),
        Heading("share"),
    )
    styles = tuple(dear(one.total, whole) for one in shown)
    if rows:
        caption = f"layers that own the most at the peak of a batch of {_batch(report)}"
        yield Table(headings, rows, styles, caption=caption)


def _batch(report: FitReport) -> str:
    """The batch whose peak is shown: the largest one, or below it the largest that was traced."""
    shapes = [one.shape for one in report.inputs if one.shape]
    return units.integer(shapes[0][0] if shapes else 1)


def _above(report: FitReport) -> Iterator[tuple[str, str]]:
    """The answer: which batch, what the next one lacks, and who owns the peak."""
    found, power = report.found, report.power
    yield "fits", lacking(report) or _fits(report)
    if found.optimistic > found.safe:
        best = units.integer(found.optimistic)
        yield "at best", f"{best}, at the lower end of such a range"
    if found.safe and power is not None:
        size, lacks = units.integer(power.batch), units.nbytes(power.most - report.memory)
        takes = units.nbytes(power.most)
        yield "next", f"{size} (a power of two) lacks {lacks}: it takes up to {takes}"
    whole = units.nbytes(sum(kind.at_peak for kind in report.kinds))
    those = owners((kind.kind, kind.at_peak) for kind in report.kinds)
    yield "peak", f"{whole} of tensors at a batch of {_batch(report)}: {those}"


def _below(report: FitReport) -> Iterator[tuple[str, str]]:
    if report.found.safe and not report.fixed:
        yield "confirmed", _confirmed(report)
    if not all(row.confirmed for row in report.rows):
        yield (
            "estimate",
            "from traces of two batches (those in --format json) on a line through them",
        )
    yield from (("!", note) for note in report.notes)


def _fits(report: FitReport) -> str:
    at = report.at
    many = " (none larger is tried: indices have 32 bits)" if report.capped else ""
    return (
        f"a batch of {units.integer(at.batch)}{many}, which takes {units.nbytes(at.least)} to "
        f"{units.nbytes(at.most)} in all (the range: what steps on one {report.measured} held "
        "beside their tensors)"
    )


def _confirmed(report: FitReport) -> str:
    batch = units.integer(report.found.safe)
    if not report.found.confirmed:
        return f"by no trace: {batch} is extrapolated"
    after = "" if report.capped else f", and {units.integer(report.found.safe + 1)} does not"
    return f"by traces: {batch} fits{after}"


def lacking(report: FitReport) -> str:
    """What the smallest batch lacks; "" where one fits."""
    if report.found.safe:
        return ""
    at = report.at
    lacks = units.nbytes(at.most - report.memory)
    possible = "; at best it may fit" if report.found.optimistic else ""
    what = "its only batch" if report.fixed else "the smallest batch that trains"
    return (
        f"none: a batch of {units.integer(at.batch)}, {what}, takes {units.nbytes(at.least)} to "
        f"{units.nbytes(at.most)} of the device and lacks {lacks}{possible}"
    )


# ----------------------------------------------------------------------------------- CSV

_CSV = (
    "optimizer", "amp", "checkpoint", "safe", "optimistic", "per_sample", "recomputed", "traced",
    "confirmed",
)  # fmt: skip


def sheet(report: FitReport) -> Sheet:
    """One line for each way to train."""
    return _CSV, (_line(row) for row in report.rows)


def _line(row: Fitting) -> Row:
    own = {
        "amp": row.amp or "",
        "checkpoint": ",".join(row.checkpoint),
        "traced": ";".join(map(str, row.traced)),
    }
    return (own, row)
