"""A model in words and numbers: where its weights, its work and its resolution are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from cnnscope.analysis.notes import notes as notes_of
from cnnscope.analysis.sizes import sentence
from cnnscope.records.explain import (
    Explanation,
    KindShare,
    ModelExplanation,
    ResolutionChange,
    SmallestInput,
)
from cnnscope.records.summary import LayerRow, Totals
from cnnscope.records.trace import Shape, Trace
from cnnscope.reports.explain.layer import steps
from cnnscope.reports.explain.view import View

_TOP = 5  # layers that the account of a model names


def explain_model(
    trace: Trace,
    totals: Totals,
    sizes: Sequence[SmallestInput] = (),
) -> ModelExplanation:
    """A model in words and numbers: where its weights, its work and its resolution are.

    Args:
        trace: of the model.
        totals: of its report.
        sizes: which sizes of its input work, as `cnnscope.models.run.examine_spec` tells.
    """
    view = View(trace)
    single = [i for i, row in enumerate(view.rows) if row.leaf and row.kind != "parameter"]
    bare = [i for i, row in enumerate(view.rows) if row.kind == "parameter"]
    return ModelExplanation(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        totals=totals,
        kinds=_kinds([view.rows[i] for i in (*single, *bare)]),
        params=_dearest(view, [*single, *bare], "params", "parameters"),
        macs=_dearest(view, single, "macs", "MACs"),
        resolution=_resolution(view, single),
        smallest=sizes[0] if sizes else None,
        along=tuple(sizes[1:]),
        notes=notes_of(trace),
        sizes=tuple(map(sentence, sizes)),
    )


def _kinds(rows: Sequence[LayerRow]) -> tuple[KindShare, ...]:
    """Kinds of layers that hold parameters or do products, the one with most MACs first."""
    found: dict[str, list[LayerRow]] = {}
    for row in rows:
        if row.params or row.macs:
            found.setdefault(row.operation, []).append(row)
    shares = [
        KindShare(name, len(same), sum(r.params for r in same), sum(r.macs for r in same))
        for name, same in found.items()
    ]
    return tuple(sorted(shares, key=lambda s: (-s.macs, -s.params)))


def _dearest(view: View, indices: Sequence[int], name: str, topic: str) -> tuple[Explanation, ...]:
    ranked = sorted(indices, key=lambda i: -getattr(view.rows[i], name))[:_TOP]
    return tuple(
        Explanation(view.rows[i], tuple(s for s in steps(view, i) if s.topic == topic))
        for i in ranked
        if getattr(view.rows[i], name)
    )


class _Change(NamedTuple):
    """Sizes of maps before and after a row."""

    before: Shape
    after: Shape
    row: LayerRow


def _resolution(view: View, indices: Sequence[int]) -> tuple[ResolutionChange, ...]:
    """Layers whose units are fewer or more than those of what they read, in order.

    Operations that only move data (a window attention's views, the slices of a patch merging) are
    one change of the module that they are in, or none where that gives back the size it was given.
    """
    changes = [change for i in indices if (change := _change(view, view.rows[i])) is not None]
    found: dict[tuple[Shape, Shape], list[LayerRow]] = {}
    for before, after, row in _folded(view, changes):
        found.setdefault((before, after), []).append(row)
    return tuple(
        ResolutionChange(before, after, tuple(same)) for (before, after), same in found.items()
    )


def _change(view: View, row: LayerRow) -> _Change | None:
    """Change of resolution by a row; None if there is none."""
    after = view.fields[row.tensor] if row.tensor >= 0 else None
    sources = view.sources(view.part(row))
    if after is None or after.unknown or not sources:
        return None
    before = max((tuple(a.units for a in f.axes) for f in sources), key=prod)
    now = tuple(a.units for a in after.axes)
    if before == now or not any(before):
        return None
    if not any(now):
        return _Change(before, (), row)
    # An axis whose positions are not distinguished has one.
    return _Change(tuple(n or 1 for n in before), tuple(n or 1 for n in now), row)


def _folded(view: View, changes: Sequence[_Change]) -> Iterable[_Change]:
    """Changes of layers as they are; those of one module by operations that move data as one."""
    moved: dict[int, list[_Change]] = {}  # by the row of the module
    for change in changes:
        if _inside(view, change.row):
            moved.setdefault(change.row.parent, []).append(change)
    for change in changes:
        if not _inside(view, change.row):
            yield change
            continue
        same = moved.pop(change.row.parent, ())
        if same and same[0].before != same[-1].after:
            yield _together(view, same)


def _together(view: View, same: Sequence[_Change]) -> _Change:
    """Several changes as one: the module's where that is what it does to its input."""
    before, after = same[0].before, same[-1].after
    module = view.rows[same[0].row.parent]
    whole = _change(view, module)
    is_all = whole is not None and (whole.before, whole.after) == (before, after)
    return _Change(before, after, module if is_all else same[-1].row)


def _inside(view: View, row: LayerRow) -> bool:
    """True if a row only moves data for the module around it, which is not the model itself."""
    if not row.minor or row.parent <= 0:
        return False
    module = view.trace.calls[view.part(row).call].module if row.kind == "module" else None
    return module is None or not view.trace.modules[module].library
