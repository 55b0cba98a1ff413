"""Multiply-accumulates, FLOPs and element operations of a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cnnscope.analysis import attention
from cnnscope.ops import table as ops
from cnnscope.records.explain import Step
from cnnscope.records.summary import LayerRow
from cnnscope.reports.explain.view import Part, View
from cnnscope.reports.explain.writing import factor_terms
from cnnscope.text import operation

_Groups = dict[tuple[str, str], list[ops.Factors]]  # what and how: the products of each operation


def steps(view: View, row: LayerRow, part: Part) -> Iterable[Step]:
    """MACs, FLOPs and element operations of each operation that has any, and their sums."""
    trace = view.trace
    roles = _roles(view)
    products: _Groups = {}
    elements: _Groups = {}
    for index in part.ops:
        entry, op = ops.lookup(trace.ops[index].name), ops.Op(trace, trace.ops[index])
        for number, factors in enumerate(entry.macs(op)):
            name = roles.get(index) or (entry.parts[number] if entry.parts else entry.label)
            products.setdefault((name, ""), []).append(factors)
        for factors in entry.steps(op):
            if ops.product(factors):
                elements.setdefault((entry.label, entry.how), []).append(factors)
    yield from _costs_of(products, "MACs", row.macs)
    if row.macs:
        yield Step("FLOPs", "2 * MACs", f"2*{row.macs}", 2 * row.macs)
    yield from _costs_of(elements, "element ops", row.element_ops)
    yield from _unknown_steps(view, part)
    if not row.macs and not row.element_ops and not row.unknown_ops:
        yield Step("cost", note="no arithmetic: it moves, selects or makes data")


def _costs_of(groups: _Groups, topic: str, total: int) -> Iterable[Step]:
    single = len(groups) == 1
    for (name, how), same in groups.items():
        formula, arithmetic, value = factor_terms(same)
        yield Step(topic if single else f"{topic}, {name}", formula, arithmetic, value, how)
    if len(groups) > 1:
        values = [sum(map(ops.product, same)) for same in groups.values()]
        yield Step(topic, "sum", " + ".join(map(str, values)), total)


def _unknown_steps(view: View, part: Part) -> Iterable[Step]:
    names = Counter(view.trace.ops[i].name for i in part.ops)
    for name, count in names.items():
        if ops.lookup(name).kind is ops.Kind.UNKNOWN:
            times = f" (x{count})" if count > 1 else ""
            yield Step("no formula", note=f"for {operation(name)}{times}: its cost is not known")


def _roles(view: View) -> dict[int, str]:
    """Roles of products without weights in attention, by their places in the trace."""
    found = attention.find(view.trace)
    roles = dict.fromkeys(found.sums, "attention * V") | dict.fromkeys(found.scores, "QK^T")
    return {place: role for place, role in roles.items() if place not in view.weight_ops}
