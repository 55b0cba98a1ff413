"""Limits that a model has to keep: what is over, by how much, and where most of it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf

from cnnscope.errors import RequestError
from cnnscope.records.memory import MemoryReport
from cnnscope.records.summary import Excess, LayerRow, ModelReport
from cnnscope.text import printable

TRAINING = "max_train_memory"
LIMITS = ("max_params", "max_macs", "max_activation", "min_rf")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?(?:([kKMGTP])(i?)(B?)|B)?", re.ASCII)


def parse_quantity(text: str, option: str) -> float:
    """`10M`, `1.5G`, `50MiB`, `75`: k, M, G, T, P are powers of 1000, and with an i of 1024.

    Raises:
        RequestError: it is no such number.
    """
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or len(text) > 30:
        raise RequestError(f"{option} {printable(text)!r}: expected a number such as 10M or 50MiB")
    number, prefix, binary, _ = found.groups()
    power = " KMGTP".index((prefix or " ").upper())
    scale: int = (1024 if binary else 1000) ** power
    return float(number) * scale


def parse_limits(given: Mapping[str, float | str | None]) -> dict[str, float]:
    """The limits that were given: `{"--max-params": "10M"}` is `{"max_params": 10e6}`.

    Raises:
        RequestError: one is no number.
    """
    return {
        option.strip("-").replace("-", "_"): (
            parse_quantity(text, option) if isinstance(text, str) else float(text)
        )
        for option, text in given.items()
        if text is not None
    }


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
