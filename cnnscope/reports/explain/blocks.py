"""Sums over what a block holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnscope.records.explain import Step
from cnnscope.reports.explain.view import View
from cnnscope.reports.explain.writing import total


def steps(view: View, index: int) -> Iterable[Step]:
    """Sums over what a block holds."""
    row = view.rows[index]
    inside = [child for child in view.rows if child.parent == index]
    topics = (
        ("parameters", "params"),
        ("buffers", "buffers"),
        ("MACs", "macs"),
        ("element ops", "element_ops"),
    )
    for topic, name in topics:
        whole = getattr(row, name)
        parts = [(child.name, getattr(child, name)) for child in inside]
        rest = whole - sum(value for _, value in parts)
        parts = [(n, v) for n, v in (*parts, ("its own", rest)) if v]
        if parts:
            yield Step(topic, _names(parts), total([v for _, v in parts]), whole)
        if name == "macs" and whole:
            yield Step("FLOPs", "2 * MACs", f"2*{whole}", 2 * whole)
    if row.unknown_ops:
        yield Step("no formula", note=f"for {row.unknown_ops} of its operations")


def _names(parts: Sequence[tuple[str, int]]) -> str:
    if len(parts) <= 8:
        return " + ".join(name for name, _ in parts)
    return f"sum over {len(parts)} parts, from {parts[0][0]} to {parts[-1][0]}"
