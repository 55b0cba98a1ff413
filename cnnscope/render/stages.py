"""The report of `cnnscope stages`.

Cells are written as in Table 1 of He et al. 2015: `[3x3, 64; 3x3, 64] x 2` is a block of two 3x3
convolutions of 64 channels, twice. A squeeze-and-excite is `fc, [16, 256]`, as in Table 1 of Hu
et al. 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from cnnscope.records.stages import (
    ModelStages,
    Stage,
    StageFork,
    StageItem,
    StageLayer,
    StagePart,
    StagesReport,
    flat,
)
from cnnscope.records.summary import Geometry
from cnnscope.records.trace import Shape
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import DIFFERENT, Box, Boxes, Cell, Heading, Page, Table


class _Row(NamedTuple):
    """One row of cells below a stage's label, or one cell that reaches over all columns."""

    label: str
    cells: tuple[Boxes, ...]
    opens: bool  # the first row of a stage


def page(report: StagesReport, *, projections: bool = False) -> Page:
    """Models side by side; a terminal that is too narrow gets them below each other.

    Args:
        report: of the models.
        projections: show those of shortcuts, and layers that see no data.
    """
    rows = _rows(report, projections=projections)
    width = len(report.models)
    body = [(r.label, *r.cells, *[None] * (width - len(r.cells))) for r in rows]
    totals = [(title, *cells) for title, cells in _totals(report)]
    gaps = frozenset((*(i for i, row in enumerate(rows) if row.opens and i), len(body)))
    headings = (Heading("output", left=True), *_columns(report))
    styles = [_differing(row) for row in body] + [("bold", *[""] * width)] * len(totals)
    table = Table(headings, (*body, *totals), tuple(styles), repeat=1, gaps=gaps)
    names = ", ".join(dict.fromkeys(m.source.name for m in report.models))
    below = tuple(_below(report, rows, projections=projections))
    return Page(names, _header(report), (table,), below)


def _differing(row: Sequence[Cell]) -> tuple[str, ...]:
    """Styles of a row: what is not as in the first model stands out."""
    first = row[1]
    return ("bold", *(DIFFERENT if one not in (None, first) else "" for one in row[1:]))


def _below(
    report: StagesReport, rows: Sequence[_Row], *, projections: bool
) -> Iterator[tuple[str, str]]:
    yield "read as", _legend(rows)
    if not projections and (hidden := _hidden(report)):
        yield "not shown", f"{hidden} (--projections)"
    yield "note", "1 MAC = 2 FLOPs; the FLOPs of most papers are MACs"
    yield from _findings(report)


# ------------------------------------------------------------------------------- the cells


def line(layer: StageLayer, *, block: bool) -> str:
    """`3x3, 64`, `3x3 max pool, stride 2`, `1000-d fc`."""
    g, width = layer.geometry, _width(layer)
    if layer.kind == "linear":
        return f"linear, {width}" if block or layer.output else f"{width}-d fc"
    if layer.kind == "attention":
        heads = f", {units.plural(layer.heads, 'head')}" if layer.heads else ""
        return f"attention{heads}, {layer.keys} keys"
    if layer.out_channels is None:
        return _unweighted(layer)
    name = layer.kind.removesuffix("conv").strip()
    mark = " dw" if layer.depthwise else f" {name}" if name else ""
    text = f"{units.shape(g.kernel_size)}{mark}, {width}" if g else f"{layer.kind}, {width}"
    return text + _slide(layer, g, block=block)


def _slide(layer: StageLayer, g: Geometry | None, *, block: bool) -> str:
    """Groups, dilation and stride; not the stride inside a block, whose stage says it."""
    if g is None:
        return ""
    text = f", g{g.groups}" if g.groups > 1 and not layer.depthwise else ""
    if any(d != 1 for d in g.dilation):
        text += f", d{units.one(g.dilation)}"
    strides = any(s != 1 for s in g.stride) and (not block or layer.kind != "conv")
    return text + (f", stride {units.one(g.stride)}" if strides else "")


def _unweighted(layer: StageLayer) -> str:
    if layer.geometry is not None:
        stride = layer.geometry.stride
        text = f"{units.shape(layer.geometry.kernel_size)} {layer.kind}"
        return text + (f", stride {units.one(stride)}" if any(s != 1 for s in stride) else "")
    if "pool" not in layer.kind:
        return layer.kind
    return (
        f"{layer.kind} to {units.shape(layer.output)}" if layer.output else f"global {layer.kind}"
    )


def _width(layer: StageLayer) -> str:
    """96, or 6C and C/4 for a multiple of the channels that come in."""
    if not layer.times_in:
        return str(layer.out_channels)
    top, _, bottom = layer.times_in.partition("/")
    return ("" if top == "1" else top) + "C" + (f"/{bottom}" if bottom else "")


def _boxes(item: StageItem, *, projections: bool) -> Boxes:
    """Text of an item."""
    parts = [p for p in item.parts if isinstance(p, StageFork) or p.role != "side"]
    beside = [p for p in item.parts if not isinstance(p, StageFork) and p.role == "side"]
    lines = tuple(_lines(parts, block=item.block))
    box = Box(lines, item.times, bracket=item.block or item.times > 1)
    if not projections:
        return (box,)
    extra = [f"shortcut {line(layer, block=True)}" for layer in item.shortcuts]
    extra += [f"beside {line(layer, block=True)}" for layer in beside]
    return (box, *(Box((text,)) for text in extra))


def _lines(parts: Sequence[StagePart], *, block: bool) -> Iterator[str]:
    """A line for each layer in a row, and for each branch; gates of several layers on one."""
    for is_gate, group in groupby(parts, key=_is_gate):
        if is_gate:
            yield _gate(flat(group))
            continue
        for part in group:
            if isinstance(part, StageFork):
                yield from (f"| {_inline(branch)}" for branch in part.branches)
            else:
                yield line(part, block=block)


def _is_gate(part: StagePart) -> bool:
    return not isinstance(part, StageFork) and part.role == "gate"


def _gate(layers: Iterable[StageLayer]) -> str:
    return f"fc, [{', '.join(_width(x) for x in layers if x.out_channels)}]"


def _inline(branch: Sequence[StagePart]) -> str:
    """A branch on one line: layers in a row joined by >, branches of branches in brackets."""
    texts: list[str] = []
    for is_gate, group in groupby(branch, key=_is_gate):
        if is_gate:
            texts.append(_gate(flat(group)))
            continue
        texts += [
            f"({' | '.join(map(_inline, part.branches))})"
            if isinstance(part, StageFork)
            else line(part, block=True)
            for part in group
        ]
    return " > ".join(texts)


# -------------------------------------------------------------------------------- the rows


def _columns(report: StagesReport) -> tuple[Heading, ...]:
    return tuple(Heading(m.source.name, left=True, least=12, keep="start") for m in report.models)


def _rows(report: StagesReport, *, projections: bool) -> list[_Row]:
    """Stages, what all models begin and end one with in rows of its own.

    In the last stage these are repeated for each model: a classifier over all columns looks like
    one of the first model alone.
    """
    rows: list[_Row] = []
    for number, indices in enumerate(report.rows, start=1):
        found = [
            None if index is None else model.stages[index]
            for model, index in zip(report.models, indices, strict=True)
        ]
        label, sized = _label(report, found)
        cells = [() if stage is None else _cell(stage, projections) for stage in found]
        if sized:
            cells = [
                (Box((f"{_size(stage.output)}:",)), *cell) if stage else cell
                for stage, cell in zip(found, cells, strict=True)
            ]
        rows += _stage_rows(label, cells, repeated=number == len(report.rows))
    return rows


def _cell(stage: Stage, projections: bool) -> Boxes:
    return tuple(box for item in stage.items for box in _boxes(item, projections=projections))


def _label(report: StagesReport, found: Sequence[Stage | None]) -> tuple[str, bool]:
    """The output size of a row, or by how much it is reduced where the sizes differ."""
    sizes = {stage.output for stage in found if stage is not None}
    if len(sizes) == 1:
        return _size(sizes.pop()), False
    model, stage = next((m, s) for m, s in zip(report.models, found, strict=True) if s)
    halvings = model.reduction(stage.output)
    if halvings is None:
        return "tokens", True
    return "/" + units.same([units.decimal(2**h) for h in halvings]), True


def _size(output: Shape) -> str:
    return units.shape(output) if output else "1x1"


def _stage_rows(label: str, cells: Sequence[Boxes], *, repeated: bool) -> Iterator[_Row]:
    """The boxes with which all cells begin, the cells, the boxes with which all end.

    Boxes that all cells share stand in each of them (`repeated`), or once over all columns.
    """
    shortest = min(map(len, cells))
    several = len(cells) > 1
    head = _equal(cells, range(shortest)) if several else 0
    tail = _equal([cell[head:][::-1] for cell in cells], range(shortest - head)) if several else 0
    count = len(cells) if repeated else 1
    rows: list[tuple[Boxes, ...]] = [(cells[0][i : i + 1],) * count for i in range(head)]
    rest = tuple(cell[head : len(cell) - tail] for cell in cells)
    if any(rest):
        rows.append(rest)
    last = cells[0]
    rows += [(last[i : i + 1],) * count for i in range(len(last) - tail, len(last))]
    for number, row in enumerate(rows):
        yield _Row("" if number else label, row, not number)


def _equal(cells: Sequence[Boxes], places: Iterable[int]) -> int:
    """At how many places, from the first on, all cells have the same box."""
    count = 0
    for i in places:
        if len({cell[i] for cell in cells}) > 1:
            break
        count += 1
    return count


def _totals(report: StagesReport) -> Iterator[tuple[str, list[str]]]:
    models = report.models
    yield "parameters", [units.si(m.params, 2) for m in models]
    yield "MACs", [units.si(m.macs, 2) for m in models]
    yield "FLOPs", [units.si(m.flops, 2) for m in models]
    yield "layers", [_depth(m) for m in models]


def _depth(model: ModelStages) -> str:
    """18 + 3: weight layers in the cells, and projections."""
    beside = model.shortcut_layers + model.side_layers
    every = model.conv_layers + model.linear_layers + model.recurrent_layers
    return f"{every - beside} + {beside}" if beside else str(every)


# --------------------------------------------------------------------------- the sentences


def _header(report: StagesReport) -> str:
    headers = list(dict.fromkeys(map(facts.header, report.models)))
    return headers[0] if len(headers) == 1 else ""


def _legend(rows: Sequence[_Row]) -> str:
    lines = [t for row in rows for cell in row.cells for box in cell for t in box.lines]
    text = "kernel, output channels"
    if any(re.search(r"\dC|, C|\[C", t) for t in lines):
        text += "; C: channels that come into the block"
    if any(" dw" in t for t in lines):
        text += "; dw: depthwise"
    if any(re.search(r", g\d", t) for t in lines):
        text += "; g: groups"
    if any(re.search(r", d\d", t) for t in lines):
        text += "; d: dilation"
    if any("fc, [" in t for t in lines):
        text += "; fc, [..]: a gate made of the whole image (squeeze-and-excite)"
    if any(t.startswith("| ") for t in lines):
        text += "; |: parallel branches"
    return text


def _hidden(report: StagesReport) -> str:
    shortcuts = [m.shortcut_layers for m in report.models]
    side = [m.side_layers for m in report.models]
    parts = []
    if any(shortcuts):
        parts.append(f"{_each(shortcuts)} {_noun(shortcuts, 'projection')} beside residual paths")
    if any(side):
        parts.append(f"{_each(side)} {_noun(side, 'layer')} that see no data")
    return ", ".join(parts)


def _each(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts)) if len(set(counts)) > 1 else str(counts[0])


def _noun(counts: Sequence[int], noun: str) -> str:
    return noun if set(counts) == {1} else f"{noun}s"


def _findings(report: StagesReport) -> Iterator[tuple[str, str]]:
    """Notes to know before trusting a column."""
    several = len({facts.header(m) for m in report.models}) > 1
    for model in report.models:
        name = model.source.name
        if several:
            yield name, facts.header(model)
        if model.unused_params:
            when = "not used in this run" if model.decided_by else "never used"
            yield "!", f"{name}: {units.integer(model.unused_params)} parameters are {when}"
        if model.reruns:
            yield (
                "!",
                f"{name}: {units.plural(model.reruns, 'weight layer')} ran again with the same "
                "weights, and stand only where they ran first",
            )
        if model.resized:
            count = units.plural(model.resized, "resampling")
            yield "!", f"{name}: {count} to other sizes are left out"
        if model.unknown_ops:
            count = units.plural(model.unknown_ops, "operation")
            yield "!", f"{name}: no formula for {count}, whose cost is missing"
        yield from (("!", f"{name}: {note}") for note in model.notes)


# ----------------------------------------------------------------------------------- CSV

_CSV = (
    "model", "stage", "output", "item", "kind", "block", "times", "branch", "role", "layer", "path",
    "kernel_size", "stride", "dilation", "groups", "in_channels", "out_channels", "times_in",
    "weights",
)  # fmt: skip


def sheet(report: StagesReport) -> Sheet:
    """One line for each layer of each item, projections included."""
    return _CSV, (row for model in report.models for row in _raw(model))


def _raw(model: ModelStages) -> Iterator[Row]:
    for number, stage in enumerate(model.stages):
        for place, item in enumerate(stage.items):
            start = (model.source.name, number, _size(stage.output), place, item.kind, item.block)
            own = dict(zip(_CSV, start, strict=False))
            for branch, layer, times in _listed(item):
                listed = {"times": times, "branch": branch, "layer": layer.kind}
                yield ({**own, **listed}, layer, layer.geometry)


def _listed(item: StageItem) -> Iterator[tuple[str, StageLayer, int]]:
    """Every layer with its branch ("1.0": the first of the second), projections last."""
    yield from ((branch, layer, item.times) for branch, layer in _branched(item.parts, ""))
    yield from (("", layer, 1) for layer in item.shortcuts)


def _branched(parts: Sequence[StagePart], prefix: str) -> Iterator[tuple[str, StageLayer]]:
    for part in parts:
        if not isinstance(part, StageFork):
            yield prefix, part
            continue
        for number, branch in enumerate(part.branches):
            yield from _branched(branch, f"{prefix}.{number}".lstrip("."))
