"""From traces to what an architecture figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cnnscope.analysis.figure import NoUshapeError, flow, folded, laid_out, merged, ushape
from cnnscope.errors import RequestError
from cnnscope.records import figure as f
from cnnscope.records.trace import Trace
from cnnscope.reports.stages import side_by_side
from cnnscope.text import printable

_SHEETS = 12  # stacks of sheets that a row has room for
_SHORT = 24  # boxes of a column that fits on a page
_BOXES = 64  # of a column that is drawn without folding what repeats
_MOST = 1_000  # of one that can be read on a poster
_LONG = 120  # beyond which blocks are drawn whole


def contents(
    traces: Sequence[Trace], style: str | None = None, *, unfold: bool = False
) -> f.FigureContents:
    """Everything that a figure shows.

    Args:
        traces: of one model, or of several that are drawn together.
        style: one of `STYLES`; left out, the one that suits the networks.
        unfold: draw every repetition, however many there are.

    Raises:
        RequestError: an unknown style, or one that cannot show these networks.
    """
    if style is not None and style not in f.STYLES:
        known = ", ".join(f.STYLES)
        raise RequestError(f"unknown style {printable(str(style))!r}; use one of {known}")
    reason = ""
    if style is None:
        style, reason = _chosen(traces)
    if style == f.GRAPH:
        return _graph(traces, reason, unfold=unfold)
    if style == f.UNET:
        return _unet(traces, reason, unfold=unfold)
    flows = tuple(_flow(trace, style) for trace in traces)
    short = flows if unfold else tuple(map(merged, flows))
    return f.FigureContents(style, flows, short, reason, notes=_notes(flows))


def _chosen(traces: Sequence[Trace]) -> tuple[str, str]:
    """The style that suits, and why."""
    if len(traces) > 1:
        return f.GRAPH, "several models"
    if isinstance(_ushape(traces[0]), _Ushaped):
        return f.UNET, "an encoder-decoder with skips"
    whole = merged(flow(traces[0], whole=True))
    if not _is_chain(whole):
        return f.GRAPH, "paths that join outside of blocks"
    return _of_chain(whole)


def _of_chain(whole: f.Flow) -> tuple[str, str]:
    """The style that suits a chain, and why."""
    if sum(len(step.positions) > 1 for step in whole.steps) < 2:
        return f.GRAPH, "a chain without feature maps"
    if len(whole.steps) > _LONG:
        return f.GRAPH, "a chain too long for a row"
    if any(step.kind == f.BLOCK for step in whole.steps):
        return f.BLOCKS, "a chain of blocks"
    if len(whole.steps) <= _SHEETS:
        return f.LENET, "a short chain of feature maps"
    return f.BLOCKS, "a long chain of feature maps"


def _is_chain(shown: f.Flow) -> bool:
    """Return True if every step reads the one before and nothing else."""
    ends = [(edge.source, edge.target) for edge in shown.edges]
    return ends == [(n, n + 1) for n in range(len(shown.steps) - 1)]


def _flow(trace: Trace, style: str) -> f.Flow:
    shown = flow(trace, whole=style != f.GRAPH)
    name = printable(trace.source.name)
    if all(step.kind == f.INPUT for step in shown.steps):
        raise RequestError(
            f"{name}: its outputs depend on no layer that reads its input, so there is nothing to "
            "draw"
        )
    if style == f.LENET and not _is_chain(shown):
        raise RequestError(
            f"{name}: its paths part and join again, which stacks of sheets do not show; "
            "--style blocks and --style graph do"
        )
    return shown


def _unet(traces: Sequence[Trace], reason: str, *, unfold: bool) -> f.FigureContents:
    found = []
    for trace in traces:
        shaped = _ushape(trace)
        if isinstance(shaped, str):
            raise RequestError(
                f"{printable(trace.source.name)} is no encoder-decoder with skips, which style "
                f"unet draws: {shaped}; --style graph draws every network, and blocks most"
            )
        found.append(shaped)
    flows = tuple(one.flow for one in found)
    short = tuple(one.flow if unfold else one.merged for one in found)
    shapes = tuple((ushape(a), ushape(b)) for a, b in zip(flows, short, strict=True))
    return f.FigureContents(f.UNET, flows, short, reason, shapes=shapes, notes=_notes(flows))


class _Ushaped(NamedTuple):
    """An encoder-decoder with skips, also with equal steps in a row as one."""

    flow: f.Flow
    merged: f.Flow


def _ushape(trace: Trace) -> _Ushaped | str:
    """A network as a U, or why it is none."""
    reason = ""
    for apart in (True, False):  # blocks that read several maps as their layers, then as one
        whole = flow(trace, whole=True, apart=apart)
        short = merged(whole)
        try:
            ushape(whole)
            ushape(short)
        except NoUshapeError as error:
            reason = reason or printable(str(error), 200)
            continue
        return _Ushaped(whole, short)
    return reason


def _graph(traces: Sequence[Trace], reason: str, *, unfold: bool) -> f.FigureContents:
    """Models as graphs of operations, and with less detail for where they do not fit."""
    made: f.FigureContents | None = None
    for flows in reversed(_details(traces, unfold=unfold)):
        _check_size(flows, unfold=unfold)
        made = _laid(traces, flows, reason, made)
    if made is None:
        raise AssertionError("a figure has at least one amount of detail")
    return made


def _check_size(flows: Sequence[f.Flow], *, unfold: bool) -> None:
    """Refuse so many boxes that nobody could read them.

    Raises:
        RequestError: the message.
    """
    for one in flows:
        if len(one.steps) > _MOST:
            remedy = "leave out --unfold" if unfold else "cnnscope report draws it as a page"
            raise RequestError(
                f"{printable(one.name)}: {len(one.steps):,} boxes are more than a figure shows "
                f"({_MOST:,}): {remedy}"
            )


def _details(traces: Sequence[Trace], *, unfold: bool) -> Sequence[Sequence[f.Flow]]:
    """Models in less and less detail: each step, what repeats once, blocks whole."""
    flows = [_flow(trace, f.GRAPH) for trace in traces]
    if unfold or _longest(flows) <= _SHORT:
        return [flows]
    short = [folded(one) for one in flows]
    whole = [folded(_flow(trace, f.BLOCKS)) for trace in traces]
    levels = [flows] if _longest(flows) <= _BOXES else []
    if _longest(short) <= _LONG and (not levels or short != flows):
        levels.append(short)
    if not levels or _longest(whole) < _longest(levels[-1]):
        levels.append(whole)
    return levels


def _longest(flows: Sequence[f.Flow]) -> int:
    return max(len(one.steps) for one in flows)


def _laid(
    traces: Sequence[Trace],
    flows: Sequence[f.Flow],
    reason: str,
    coarser: f.FigureContents | None,
) -> f.FigureContents:
    laid = tuple(map(laid_out, flows))
    alike = len({trace.input_specs for trace in traces}) == 1
    rows = side_by_side(
        [band.sizes[0] if alike else _halvings(one, band) for band in one.bands] for one in laid
    )
    return f.FigureContents(
        f.GRAPH, laid, chosen=reason, rows=rows, notes=_notes(laid), coarser=coarser
    )


def _halvings(shown: f.Flow, band: f.Band) -> object:
    """How often the resolution was halved, by which models of other inputs are aligned."""
    whole, size = shown.bands[0].sizes[0], band.sizes[0]
    if len(whole) != len(size):
        return size
    return tuple(round(a / b, 1) for a, b in zip(whole, size, strict=True))


def _notes(flows: Sequence[f.Flow]) -> tuple[str, ...]:
    return tuple(
        f"{printable(one.name)}: {one.left_out} layers are not drawn, as no output depends on them"
        for one in flows
        if one.left_out
    )
