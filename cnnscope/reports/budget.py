"""Limits that a model has to keep: what is over, by how much, and where most of it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records.summary import Excess, LayerRow, ModelReport
from cnnscope.reports.quantity import QUANTITY, parse_memory, parse_quantity
from cnnscope.text import printable

if TYPE_CHECKING:
    from cnnscope.records.diff import DiffReport, Overrun
    from cnnscope.records.memory import MemoryReport

TRAINING = "max_train_memory"
LIMITS = ("max_params", "max_macs", "max_activation", "min_rf")
_ROUNDING = 1e-12  # of a product with a percentage


def parse_limits(given: Mapping[str, float | str | None]) -> dict[str, float]:
    """The limits that were given: `{"--max-params": "10M"}` is `{"max_params": 10e6}`.

    Raises:
        RequestError: one is no number, or memory of a device without a unit.
    """
    return {
        _plain(option): _limit(limit, option)
        for option, limit in given.items()
        if limit is not None
    }


def _plain(option: str) -> str:
    return option.strip("-").replace("-", "_")


def _limit(limit: float | str, option: str) -> float:
    if not isinstance(limit, str):
        return float(limit)
    return (parse_memory if _plain(option) == TRAINING else parse_quantity)(limit, option)


class Allowance(NamedTuple):
    """A budget on a change: what is allowed, for what there was before.

    Attributes:
        text: as it was written: "+5%", "-10%", "+1M" or "12M".
        share: of what there was that may be added (below 0: has to go).
        more: elements or bytes that may be added; None where it is a share or a limit.
        limit: of the second model alone; None where it is a change.
    """

    text: str
    share: float = 0.0
    more: float | None = None
    limit: float | None = None

    def allowed(self, before: int) -> float:
        """The most that the second model may have."""
        if self.limit is not None:
            return self.limit
        return before + self.more if self.more is not None else before * (1 + self.share)


def parse_change(text: str, option: str) -> tuple[Allowance, ...]:
    """`+5%`, `-10%` (it has to shrink), `+1M`, `12M` (of the second model), `+5%,+1M` (both).

    Raises:
        RequestError: it is no such budget.
    """
    parts = text.split(",") if len(text) < 200 else [text]
    found = [_allowance(part.strip(), option) for part in parts]
    if None in found:
        raise RequestError(
            f"{option} {printable(text)!r}: expected a change such as +5%, -10% or +1M, or a "
            "number such as 12M for the second model"
        )
    return tuple(one for one in found if one is not None)


def _allowance(text: str, option: str) -> Allowance | None:
    """One budget; None of a text that is none."""
    sign = {"+": 1, "-": -1}.get(text[:1], 0)
    rest = text[1:].strip() if sign else text
    if sign and re.fullmatch(r"(\d{1,9}(\.\d+)?|\.\d+) ?%", rest, re.ASCII):
        return Allowance(text, share=sign * float(rest[:-1]) / 100)
    if not QUANTITY.fullmatch(rest):
        return None
    number = parse_quantity(rest, option)
    return Allowance(text, more=sign * number) if sign else Allowance(text, limit=number)


def overruns(report: DiffReport, budgets: Mapping[str, Sequence[Allowance]]) -> tuple[Overrun, ...]:
    """The budgets on a change that are not kept. What is not known is not kept.

    Args:
        report: of the two models; with `training` for `max_train_memory`.
        budgets: by name: "max_params", "max_macs", "max_activation", `TRAINING`.
    """
    from cnnscope.records.diff import Overrun

    found = []
    for name, allowances in budgets.items():
        before, after = _of_change(report, name)
        for one in allowances:
            allowed = one.allowed(before)
            if after is None or after > allowed + _ROUNDING * allowed:
                where, share = _largest(report, name)
                found.append(Overrun(name, one.text, allowed, before, after, where, share))
    return tuple(found)


def _of_change(report: DiffReport, name: str) -> tuple[int, int | None]:
    """What a budget is about, before and after; None after where it is not known."""
    first, second = report.before.totals, report.after.totals
    if name == "max_params":
        return first.params, second.params
    if name == "max_activation":
        return first.peak_activation_bytes, second.peak_activation_bytes
    if name == "max_macs":
        unknown = report.before.unknown or report.after.unknown
        return first.macs, None if unknown else second.macs
    return report.training or (0, None)


def _largest(report: DiffReport, name: str) -> tuple[str, int]:
    """The layer with the largest increase of parameters or MACs."""
    what = {"max_params": "params", "max_macs": "macs"}.get(name)
    leaves = [row for row in report.rows if row.row.leaf] if what else []
    if not what or not leaves:
        return "", 0
    most = max(leaves, key=lambda row: int(getattr(row, what)))
    return (most.row.path, int(getattr(most, what))) if getattr(most, what) > 0 else ("", 0)


def broken(
    report: ModelReport, limits: Mapping[str, float], training: MemoryReport | None = None
) -> tuple[Excess, ...]:
    """The limits that a model does not keep. What is not known is not kept.

    Args:
        report: of the model.
        limits: by name: `LIMITS`, and `max_train_memory` in bytes of a device.
        training: a step of it, for the last one.
    """
    checks = {"max_params": _params, "max_macs": _macs, "max_activation": _activation}
    found = []
    for name, limit in limits.items():
        if name == "min_rf":
            field = _field(report)
            if field is None or field < limit:
                found.append(Excess(name, limit, None if field is None else int(field)))
        elif name == TRAINING:
            if training is None or training.device_bytes[1] > limit:
                found.append(_training(training, limit))
        elif (excess := checks[name](report, name, limit)).value is None or excess.value > limit:
            found.append(excess)
    return tuple(found)


def _params(report: ModelReport, name: str, limit: float) -> Excess:
    row = max(_parts(report), key=lambda row: row.params, default=report.layers[0])
    return Excess(name, limit, report.totals.params, row.path, row.params)


def _macs(report: ModelReport, name: str, limit: float) -> Excess:
    if report.unknown:
        return Excess(name, limit, None, report.unknown[0].name)
    row = max(_parts(report), key=lambda row: row.macs, default=report.layers[0])
    return Excess(name, limit, report.totals.macs, row.path, row.macs)


def _activation(report: ModelReport, name: str, limit: float) -> Excess:
    totals = report.totals
    peak = totals.peak_activation_bytes
    return Excess(name, limit, peak, totals.peak_layer, peak)


def _training(training: MemoryReport | None, limit: float) -> Excess:
    if training is None:
        return Excess(TRAINING, limit, None)
    first = training.layers[0]
    return Excess(TRAINING, limit, training.device_bytes[1], first.path, first.total)


def _field(report: ModelReport) -> float | None:
    """The smallest axis of the model's field; None where the output's is not known.

    All of an axis is enough for any limit.
    """
    if report.layers[0].field_unknown or not report.totals.field:
        return None
    return min(inf if a.local_size is None else a.local_size for a in report.totals.field)


def _parts(report: ModelReport) -> list[LayerRow]:
    """The deepest rows: each unit of cost is in one of them."""
    return [row for row in report.layers if row.leaf]
