"""Runs beside each other: in turns within one report, or with one that was saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cnnscope.errors import RequestError
from cnnscope.records.bench import BenchReport, BenchRun, BenchSettings, Comparison, Environment
from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.text import printable, visible
from cnnscope.timing import stats

_SETTINGS = ("device", "mode", "dtype", "amp", "channels_last", "compile", "threads")
_MACHINE = ("cpu", "cores", "quota", "gpu", "driver", "torch", "torch_cuda", "cudnn")
_FLAGS = ("matmul_fp32", "conv_fp32", "cudnn_benchmark", "cudnn_deterministic", "mkldnn")


def interleaved(runs: Sequence[BenchRun]) -> tuple[Comparison, ...]:
    """Each run against the first of the same batch, with which it was measured in turns."""
    found: list[Comparison] = []
    for index, run in enumerate(runs):
        base = next(r for r in runs if r.batch == run.batch)
        if base is not run:
            ratio = stats.compare_rounds(base.samples_ns, run.samples_ns)
            found.append(Comparison(base.label, run.label, index, interleaved=True, ratio=ratio))
    return tuple(found)


def against(report: BenchReport, saved: BenchReport, name: str) -> tuple[Comparison, ...]:
    """Each run against the saved one of the same model and batch.

    Where both have a single run, these are compared, whatever they are.

    Raises:
        RequestError: no run has its like.
    """
    found: list[Comparison] = []
    for index, run in enumerate(report.runs):
        base = _like(run, report.runs, saved.runs)
        if base is not None:
            ratio = stats.compare_runs(_flat(base), _flat(run))
            differences = _differences(base, run, saved.environment, report.environment)
            label = f"{name}: {base.label}"
            found.append(Comparison(label, run.label, index, False, ratio, differences))
    if not found:
        raise _strangers(saved, name)
    return tuple(found)


def expect(labels: Sequence[str], batches: Sequence[int], saved: BenchReport, name: str) -> None:
    """Refuse what `against` would, as far as that is known before anything is measured.

    Args:
        labels: of the models that are to be measured.
        batches: at which; none where they follow from the input.
        saved: with what.
        name: of its file.

    Raises:
        RequestError: no run will have its like.
    """
    alone = len(labels) == len(saved.runs) == 1 and len(batches) < 2
    if not alone and not any(
        run.label in labels and (not batches or run.batch in batches) for run in saved.runs
    ):
        raise _strangers(saved, name)


def _strangers(saved: BenchReport, name: str) -> RequestError:
    there = ", ".join(f"{r.label} at batch {r.batch}" for r in saved.runs) or "nothing"
    return RequestError(f"--against {name}: none of these runs is in it; it has {there}")


def read(data: bytes, name: str, option: str = "--against") -> BenchReport:
    """A report that `--save` wrote.

    Args:
        data: of the file.
        name: of the file, for errors.
        option: that named it, for errors.

    Raises:
        RequestError: it is none.
    """
    try:
        report = msgspec.convert(_without_control(msgspec.json.decode(data)), BenchReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = printable(str(error), 120)
        raise RequestError(
            f"{option} {name}: not a run that cnnscope bench --save wrote ({reason}); name one"
        ) from error
    if report.schema_version != REPORT_SCHEMA:
        raise RequestError(
            f"{option} {name}: written by another version of cnnscope (schema "
            f"{report.schema_version}, not {REPORT_SCHEMA}); save it anew"
        )
    if not all(ns > 0 for run in report.runs for ns in _flat(run) or (0,)):
        raise RequestError(
            f"{option} {name}: has a run without samples, or one of 0 ns; save it anew"
        )
    return report


def _without_control(value: Any) -> Any:
    """Decoded JSON with the control characters in its text written out, line feeds as well."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return list(map(_without_control, value))
    if isinstance(value, dict):
        return {key: _without_control(one) for key, one in value.items()}
    return value


def too_slow(comparisons: Sequence[Comparison], limit: float) -> bool:
    """Return True if a run is slower than its base beyond doubt, by a ratio above 1 + `limit`.

    Where there are comparisons with a saved run, these alone count: two models differ anyway.
    """
    saved = [c for c in comparisons if not c.interleaved]
    return any(
        c.ratio.verdict == "slower" and c.ratio.ratio > 1 + limit for c in saved or comparisons
    )


def _like(run: BenchRun, runs: Sequence[BenchRun], saved: Sequence[BenchRun]) -> BenchRun | None:
    if len(runs) == len(saved) == 1:
        return saved[0]
    same = (s for s in saved if (s.label, s.batch) == (run.label, run.batch))
    return next(same, None)


def _flat(run: BenchRun) -> list[int]:
    return [sample for samples in run.samples_ns for sample in samples]


def _differences(
    base: BenchRun, run: BenchRun, before: Environment, now: Environment
) -> tuple[str, ...]:
    """List the differences of two environments, as "name: before -> now"."""
    found: list[str] = []
    if base.inputs != run.inputs:
        pairs = (", ".join(map(str, r.inputs)) for r in (base, run))
        found.append(f"input: {' -> '.join(pairs)}")
    names: list[tuple[BenchSettings | Environment, BenchSettings | Environment, tuple[str, ...]]]
    names = [(base.settings, run.settings, _SETTINGS), (before, now, _MACHINE + _FLAGS)]
    for old, new, fields in names:
        for field in fields:
            a, b = getattr(old, field), getattr(new, field)
            if a != b:
                found.append(f"{field}: {_shown(a)} -> {_shown(b)}")
    return tuple(found)


def _shown(value: object) -> str:
    return "none" if value in ("", None) else str(value)
