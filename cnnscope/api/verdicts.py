"""Decide exit codes: limits, differences, slowness; and reports of one stored record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cnnscope.api.reports import Report

if TYPE_CHECKING:
    from cnnscope.records.bench import BenchReport
    from cnnscope.records.catalogue import ListReport
    from cnnscope.records.check import CheckAllReport, CheckReport
    from cnnscope.records.diff import DiffReport
    from cnnscope.records.fit import FitReport
    from cnnscope.records.memory import MemoryReport
    from cnnscope.records.summary import ModelReport
    from cnnscope.reports.budget import Allowance


def limits(given: Mapping[str, float | str | None]) -> dict[str, float]:
    """Parse limits of a model: `{"--max-params": "5M"}` is `{"max_params": 5e6}`.

    Args:
        given: numbers, or texts such as "1.5G" and "50MiB", by option; None for no limit.

    Raises:
        RequestError: one is no number.
    """
    if all(one is None for one in given.values()):
        return {}
    from cnnscope.reports.budget import parse_limits

    return parse_limits(given)


def over_budget(
    report: Report[ModelReport],
    limits: Mapping[str, float],
    training: Report[MemoryReport] | None = None,
) -> tuple[str, ...]:
    """A sentence for each limit that a model does not keep.

    Args:
        report: of the model.
        limits: `max_params`, `max_macs`, `max_activation` (bytes), `min_rf` (pixels) and
            `max_train_memory` (bytes).
        training: of a step of it, for the last one: all that a device holds, by the most that was
            measured.
    """
    from cnnscope.render import facts
    from cnnscope.reports.budget import broken

    record = None if training is None else training.record
    return tuple(map(facts.excess, broken(report.record, limits, record)))


def budgets(given: Mapping[str, str | None]) -> dict[str, tuple[Allowance, ...]]:
    """Parse budgets on a change: `{"--max-params": "+5%"}`.

    Args:
        given: texts such as "+5%", "-10%", "+1M", "12M" and "+5%,+1M" by option; None for none.

    Raises:
        RequestError: one is no budget; a percentage without a sign is none.
    """
    if all(one is None for one in given.values()):
        return {}
    from cnnscope.reports.budget import parse_change

    return {
        option.strip("-").replace("-", "_"): parse_change(text, option)
        for option, text in given.items()
        if text is not None
    }


def held_to(
    report: Report[DiffReport],
    budgets: Mapping[str, tuple[Allowance, ...]],
    training: tuple[Report[MemoryReport], Report[MemoryReport]] | None = None,
) -> Report[DiffReport]:
    """A difference with the budgets on it that are not kept.

    Args:
        report: of the two models.
        budgets: see `budgets`.
        training: a step of each; its memory is in the report then.
    """
    from msgspec.structs import replace

    from cnnscope.reports.budget import overruns

    record = report.record
    if training is not None:
        first, second = (one.record.device_bytes[1] for one in training)
        record = replace(record, training=(first, second))
    return replace(report, record=replace(record, over=overruns(record, budgets)))


def overrun(report: Report[DiffReport]) -> tuple[str, ...]:
    """A sentence for each budget on the change that is not kept."""
    from cnnscope.render import diff

    return tuple(map(diff.overrun, report.record.over))


def does_not_fit(report: Report[FitReport]) -> str:
    """A sentence on what the smallest batch of a model lacks; "" where one fits."""
    from cnnscope.render.fit import lacking

    return lacking(report.record)


def unexplained(report: Report[CheckReport]) -> bool:
    """Return True if a counter differs without a known reason."""
    from cnnscope.reports.check import differs

    return differs(report.record)


def too_slow(report: Report[BenchReport], limit: float) -> bool:
    """Return True if a model is slower beyond doubt, by more than `limit` (0.05 for 5 %)."""
    from cnnscope.timing import runner

    return runner.too_slow(report.record, limit)


def is_checkpoint(name: str) -> bool:
    """Return True if a model's name is that of a file of weights alone.

    `hf:folder/config.json` is a model of a library, whatever its name ends in.
    """
    from cnnscope.files import names_file

    if not names_file(name):
        return False
    from cnnscope.models.files import archive  # the readers of files, for a file alone
    from cnnscope.models.find import ONLY_NAMED, SOURCES

    source, colon, _ = name.strip().partition(":")
    if colon and source in (*SOURCES, *ONLY_NAMED):
        return False
    return archive.is_weights(name)


def alone(record: object) -> Iterator[Report[ListReport] | Report[CheckAllReport]]:
    """The reports that are made of one stored record among others, to find one that is nonsense."""
    from cnnscope.records.catalogue import Card
    from cnnscope.records.check import CheckReport

    if isinstance(record, Card):
        from cnnscope.reports import catalogue

        yield from map(Report, catalogue.alone(record))
    elif isinstance(record, CheckReport):
        from cnnscope.reports import check

        source = record.source
        yield Report(check.summary(source.source, [(source.name, record)]))
