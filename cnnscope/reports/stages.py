"""From traces to the report of `cnnscope stages`: the architecture table that papers print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from msgspec.structs import replace

from cnnscope.analysis import blocks, cost, params, weights
from cnnscope.analysis.blocks import Unit
from cnnscope.analysis.notes import notes
from cnnscope.ops import table
from cnnscope.records.stages import (
    ModelStages,
    Stage,
    StageFork,
    StageItem,
    StagePart,
    StagesReport,
    flat,
)
from cnnscope.records.trace import Shape, Trace


def stages_report(traces: Sequence[Trace]) -> StagesReport:
    """The stages of several models, by resolution and side by side.

    Stages of the same resolution share a row; where the inputs differ, those of the same
    reduction do.
    """
    models = tuple(map(_model, traces))
    return StagesReport(models, _aligned(models))


def _model(trace: Trace) -> ModelStages:
    found = blocks.find(trace)
    depth = weights.weight_layers(trace)
    macs = sum(table.macs(trace, record) for record in trace.ops)
    stages = _stages(found.units)
    items = [item for stage in stages for item in stage.items]
    return ModelStages(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        stages=stages,
        params=params.total(trace),
        unused_params=sum(params.unused(trace).values()),
        macs=macs,
        flops=2 * macs,
        conv_layers=depth.convolutions,
        linear_layers=depth.linear,
        recurrent_layers=depth.recurrent,
        shortcut_layers=sum(x.weights for item in items for x in item.shortcuts),
        side_layers=sum(
            item.times * x.weights for item in items for x in flat(item.parts) if x.role == "side"
        ),
        reruns=found.reruns,
        resized=found.resized,
        unknown_ops=sum(op.count for op in cost.unknown_ops(trace)),
        notes=notes(trace),
        decided_by=params.decided_by(trace),
    )


# ------------------------------------------------------------------------------- one model


def _stages(units: Iterable[Unit]) -> tuple[Stage, ...]:
    """Units in a row at one resolution are a stage, equal ones in a row an item of it."""
    grouped: list[tuple[Shape, list[_Run]]] = []
    for unit in units:
        if not grouped or grouped[-1][0] != unit.output:
            grouped.append((unit.output, []))
        runs = grouped[-1][1]
        longer = runs[-1].with_(unit) if runs else None
        if longer is None:
            runs.append(_Run.of(unit))
        else:
            runs[-1] = longer
    relative = any(run.must_be_relative for _, runs in grouped for run in runs)
    return tuple(
        Stage(output, tuple(run.item(relative=relative) for run in runs))
        for output, runs in grouped
    )


class _Slot(NamedTuple):
    """The width of one layer in repeated blocks."""

    width: int | None
    times_in: str  # the width as a multiple of what enters the block, "" where it is not one
    same: bool  # all repetitions have this width


class _Run(NamedTuple):
    """Equal units in a row. Widths are equal, or the same multiple of what enters each block."""

    units: tuple[Unit, ...]
    slots: tuple[_Slot, ...]

    @classmethod
    def of(cls, unit: Unit) -> _Run:
        return cls((unit,), _slots(unit))

    @property
    def must_be_relative(self) -> bool:
        return not all(slot.same for slot in self.slots)

    def with_(self, unit: Unit) -> _Run | None:
        """One unit longer; None where it is of another form."""
        first = self.units[0]
        if unit.block != first.block or _form(unit) != _form(first):
            return None
        slots = tuple(map(_merged, self.slots, _slots(unit)))
        if not all(slot.same or slot.times_in for slot in slots):
            return None
        return _Run((*self.units, unit), slots)

    def item(self, *, relative: bool) -> StageItem:
        """As a record; in a `relative` model every block is written so that can be."""
        first = self.units[0]
        inner = [slot for slot in self.slots[:-1] if slot.width is not None]
        every = relative and first.block and bool(inner) and all(s.times_in for s in inner)
        written = iter([s.times_in if every or not s.same else "" for s in self.slots])
        return StageItem(
            kind=first.kind,
            block=first.block,
            paths=tuple(unit.path for unit in self.units),
            parts=tuple(_written(first.parts, written)),
            shortcuts=tuple(layer for unit in self.units for layer in unit.shortcuts),
            in_channels=_entering(first),
            stride=_stride(first.parts),
        )


def _form(unit: Unit) -> tuple[object, ...]:
    """Key of units that are written as one: all but widths, and a block's stride."""
    return tuple(_part_form(part, block=unit.block) for part in unit.parts)


def _part_form(part: StagePart, *, block: bool) -> tuple[object, ...]:
    if isinstance(part, StageFork):
        return tuple(
            tuple(_part_form(inner, block=block) for inner in branch) for branch in part.branches
        )
    g = part.geometry
    shape = (g.kernel_size, g.dilation, "depthwise" if part.depthwise else g.groups) if g else ()
    stride = g.stride if g and not block else ()
    return (part.kind, part.role, bool(part.weights), part.heads, part.keys, shape, stride)


def _slots(unit: Unit) -> tuple[_Slot, ...]:
    """One for every layer; the last weight layer, and branches, have their width and no multiple.

    What a block puts out is its width, and no multiple of another.
    """
    entering = _entering(unit)
    layers = list(flat(unit.parts))
    row = not any(isinstance(part, StageFork) for part in unit.parts)
    last = max((i for i, x in enumerate(layers) if x.out_channels and not x.role), default=-1)
    return tuple(
        _Slot(
            x.out_channels,
            _multiple(x.out_channels, entering) if row and unit.block and i != last else "",
            same=True,
        )
        for i, x in enumerate(layers)
    )


def _merged(slot: _Slot, other: _Slot) -> _Slot:
    times_in = slot.times_in if slot.times_in == other.times_in else ""
    return _Slot(slot.width, times_in, slot.same and slot.width == other.width)


def _multiple(width: int | None, entering: int | None) -> str:
    if not width or not entering:
        return ""
    ratio = Fraction(width, entering)
    return str(ratio) if 1 in (ratio.numerator, ratio.denominator) else ""


def _entering(unit: Unit) -> int | None:
    """Channels that come into the unit."""
    return next((x.in_channels for x in flat(unit.parts) if x.in_channels and not x.role), None)


def _written(parts: Iterable[StagePart], times_in: Iterator[str]) -> Iterator[StagePart]:
    for part in parts:
        if isinstance(part, StageFork):
            yield StageFork(tuple(tuple(_written(b, times_in)) for b in part.branches))
        else:
            yield replace(part, times_in=next(times_in))


def _stride(parts: Sequence[StagePart]) -> tuple[int, ...]:
    """By how much the main path shrinks its input: of branches, by the first."""
    found: tuple[int, ...] = ()
    for part in parts:
        if isinstance(part, StageFork):
            step = _stride(part.branches[0])
        elif part.role or part.geometry is None or part.kind == "transposed conv":
            continue
        else:
            step = part.geometry.stride
        found = tuple(a * b for a, b in zip(found, step, strict=False)) if found else step
    return found


# --------------------------------------------------------------------------- several models


def _aligned(models: Sequence[ModelStages]) -> tuple[tuple[int | None, ...], ...]:
    """Rows in which stages of one key stand side by side, none crossing another."""
    alike = len({model.inputs for model in models}) == 1
    return side_by_side(
        [s.output if alike else model.reduction(s.output) for s in model.stages] for model in models
    )


def side_by_side(columns: Iterable[Sequence[object]]) -> tuple[tuple[int | None, ...], ...]:
    """Rows in which equal keys of several columns stand side by side, in the order of each.

    Returns:
        the place of the key in each column, None where a column has none in this row.
    """
    rows: list[tuple[object, list[int | None]]] = []
    for column, keys in enumerate(columns):
        rows = _with_column(rows, keys, column)
    return tuple(tuple(cells) for _, cells in rows)


def _with_column(
    rows: list[tuple[object, list[int | None]]], keys: Sequence[object], column: int
) -> list[tuple[object, list[int | None]]]:
    """Rows and a further column: a shortest common supersequence of both."""
    shared = _longest([key for key, _ in rows], keys)
    merged: list[tuple[object, list[int | None]]] = []
    at = stage = 0
    for row, index in (*shared, (len(rows), len(keys))):
        merged += [(key, [*cells, None]) for key, cells in rows[at:row]]
        merged += [(keys[i], [*[None] * column, i]) for i in range(stage, index)]
        if row < len(rows):
            merged.append((rows[row][0], [*rows[row][1], index]))
        at, stage = row + 1, index + 1
    return merged


def _longest(left: Sequence[object], right: Sequence[object]) -> list[tuple[int, int]]:
    """Pairs of a longest common subsequence."""
    best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            best[i][j] = (
                best[i + 1][j + 1] + 1
                if left[i] == right[j]
                else max(best[i + 1][j], best[i][j + 1])
            )
    pairs, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs
