"""The receptive field: a recurrence where it holds, the hull where paths join."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnscope.analysis import shapes
from cnnscope.records.explain import Step
from cnnscope.records.summary import AxisField, Field, LayerRow
from cnnscope.reports.explain.view import AXIS_NAMES, Part, View

_ALL = "all of the input: a function of every position"


def steps(view: View, row: LayerRow, part: Part) -> Iterable[Step]:
    """The recurrence where it holds, the hull where paths join; else what is done instead."""
    field = view.fields[row.tensor] if row.tensor >= 0 else None
    if field is None:
        return
    if field.unknown:
        yield Step("receptive field", note=f"not known: {field.reason}")
        return
    if all(axis.local_size is None for axis in field.axes):
        yield Step("receptive field", note=_ALL)
        return
    before = view.sources(part)
    names = AXIS_NAMES[len(field.axes)]
    found = [_axis_steps(view, row, part, before, i, a) for i, a in enumerate(field.axes)]
    for alike in dict.fromkeys(found):
        same = [name for name, other in zip(names, found, strict=True) if other == alike]
        suffix = "" if len(same) == len(names) else f", {' and '.join(same)}"
        for step in alike:
            yield Step(
                f"{step.topic}{suffix}", step.formula, step.arithmetic, step.value, step.note
            )
    whole = [n for n, a in zip(names, field.axes, strict=True)
             if a.size is None and a.local_size is not None]  # fmt: skip
    if whole and len(whole) < len(names):
        note = f"along {' and '.join(whole)} it also depends on every position"
        yield Step("context", note=note)
    elif field.global_context:
        yield Step("context", note="it also depends on a function of the whole image")


def _axis_steps(
    view: View, row: LayerRow, part: Part, before: list[Field], index: int, after: AxisField
) -> tuple[Step, ...]:
    """Steps of one axis: those of a formula where they give the field, else what was found."""
    if after.local_size is None:
        return (Step("receptive field", note=_ALL),)
    read = [f.axes[index] for f in before]
    formula = _formula(view, row, part, read, index, after) if row.leaf else ()
    given = tuple(step.value for step in formula[:3])
    if formula and _regular(after) and given == _numbers(after)[: len(formula)]:
        return formula
    return (_instead(row, [a for a in read if a.local_size is not None], after),)


def _formula(
    view: View, row: LayerRow, part: Part, read: Sequence[AxisField], index: int, after: AxisField
) -> tuple[Step, ...]:
    """The recurrence, the hull, or that nothing changes; () where none of them applies."""
    local = [a for a in read if a.local_size is not None]
    slid = view.slide(row, part)
    if len(read) == 1 and slid is not None and slid[0].form in ("convolution", "pool"):
        axis = index + slid[0].axes - len(view.sources(part)[0].axes)
        return _recurrence(slid[0], axis, read[0]) if axis >= 0 else ()
    if len(read) > 1 and len(local) == len(read):
        return _hull(local)
    if len(local) == 1 and _numbers(local[0]) == _numbers(after):
        return (_unchanged(after),)
    return ()


def _regular(axis: AxisField) -> bool:
    return axis.local_size is not None and not axis.sizes and not axis.explicit


def _numbers(axis: AxisField) -> tuple[int | float | None, ...]:
    return axis.local_size, axis.stride, axis.padding


def _unchanged(axis: AxisField) -> Step:
    size = axis.local_size
    return Step("receptive field", "r, unchanged: a unit reads one unit", str(size), size)


def _recurrence(slide: shapes.Slide, axis: int, before: AxisField) -> tuple[Step, ...]:
    """Size r + dilation*(kernel - 1)*jump, then jump*stride (Araujo, Norris, Sim 2019)."""
    g = slide.geometry
    kernel, stride, dilation = g.kernel_size[axis], g.stride[axis], g.dilation[axis]
    size, jump, pad = before.local_size, before.stride, before.padding
    if size is None or not isinstance(jump, int) or pad is None or before.sizes:
        return ()
    if isinstance(g.padding, str):
        padding = dilation * (kernel - 1) // 2 if g.padding == "same" else 0
    else:
        padding = g.padding[axis]
    return (
        Step(
            "receptive field",
            "r + dilation*(kernel - 1)*jump",
            f"{size} + {dilation}*({kernel} - 1)*{jump}",
            size + dilation * (kernel - 1) * jump,
        ),
        Step("jump", "jump*stride", f"{jump}*{stride}", jump * stride),
        Step(
            "field padding", "P + padding*jump", f"{pad} + {padding}*{jump}", pad + padding * jump
        ),
    )


def _hull(paths: Sequence[AxisField]) -> tuple[Step, ...]:
    """Paths of one jump: from the first pixel that any sees to the last."""
    if len({a.stride for a in paths}) > 1 or not all(map(_regular, paths)):
        return ()
    pairs = dict.fromkeys((a.local_size, a.padding) for a in paths if a.local_size is not None)
    known = [(r, p) for r, p in pairs if p is not None]
    if len(known) < len(pairs):
        return ()
    value = max(r - p for r, p in known) + max(p for _, p in known)
    if len(known) == 1:
        return (Step("receptive field", "both paths see the same", str(value), value),)
    after = ", ".join(f"{r} - {p}" for r, p in known)
    arithmetic = f"max({after}) + max({', '.join(str(p) for _, p in known)})"
    return (Step("receptive field", "paths join: max(r - P) + max(P)", arithmetic, value),)


def _instead(row: LayerRow, before: Sequence[AxisField], after: AxisField) -> Step:
    """No recurrence: what the analysis found, and how."""
    sizes = after.sizes or (after.local_size,)
    shown = " to ".join(map(str, (sizes[0], sizes[-1]) if len(sizes) > 1 else sizes))
    if not row.leaf:
        was = before[0].local_size if len(before) == 1 else None
        came = f"from {was} to {shown}" if was is not None else shown
        return Step(
            "receptive field", value=after.local_size, note=f"{came}, layer by layer inside"
        )
    how = (
        "exact intervals at this input size" if after.explicit else "every unit's interval followed"
    )
    stride = f", one unit every {after.stride:g} pixels" if after.stride is not None else ""
    return Step("receptive field", value=after.local_size, note=f"{shown}{stride}: {how}")
