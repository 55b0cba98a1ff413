"""The call tree as rows: modules where they were called, operations where they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from cnnscope.analysis import params as parameters
from cnnscope.analysis import receptive_field, shapes
from cnnscope.analysis.memo import per_trace
from cnnscope.analysis.rows import Cost, Place, RowMaker, of_op, of_param, total
from cnnscope.analysis.rows import Fields as Fields  # noqa: PLC0414  of the rows, for their callers
from cnnscope.errors import RequestError
from cnnscope.ops import table
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import ParamRecord, Trace


def rows(trace: Trace, fields: Fields = ()) -> tuple[LayerRow, ...]:
    """One row per module call, functional operation and bare parameter, in execution order.

    The first row is the model itself. Every row's costs include the rows inside it, so the rows
    of one depth, with the bare ones above, add up to the whole: parameters and buffers that no
    operation read excepted, which belong to no row.

    Args:
        trace: of the model.
        fields: receptive field of every tensor; left out, rows have none.
    """
    return tuple(_Tree(trace, fields).rows_in_order())


@per_trace
def with_fields(trace: Trace) -> tuple[LayerRow, ...]:
    """The rows of a model with the receptive field of each."""
    return rows(trace, receptive_field.fields(trace))


class _Tree:
    """Walks the call tree once, depth first, and sums costs on the way back."""

    def __init__(self, trace: Trace, fields: Fields) -> None:
        self.trace, self.index = trace, trace.index
        self.make = RowMaker(trace, fields)
        self.owned = parameters.owners(trace)
        self.rows: list[LayerRow | None] = []

    def rows_in_order(self) -> list[LayerRow]:
        for call in self.index.children.get(-1, ()):
            self._call(call, Place(-1, 0))
        return [row for row in self.rows if row is not None]

    def _call(self, index: int, place: Place) -> Cost:
        """Add the row of a module call and the rows inside it."""
        at = len(self.rows)
        self.rows.append(None)  # known when everything inside is
        owned = self.owned.get(index, [])
        if self._is_leaf(index):
            own_ops = (self.trace.ops[i] for i in self.index.own_ops.get(index, ()))
            own = [of_op(self.trace, record) for record in own_ops]
            cost = total([*(of_param(self.trace, param) for param in owned), *own])
        else:
            below = Place(at, place.depth + 1)
            inside = [self._parameter(index, param, below) for param in owned]
            cost = total([*inside, self._inside(index, below)])
        leaf = len(self.rows) == at + 1
        self.rows[at] = self.make.module(index, place, cost, leaf=leaf)
        return cost

    def _inside(self, index: int, place: Place) -> Cost:
        """Add the calls and operations inside a call, in the order in which they ran."""
        names: Counter[str] = Counter()
        costs = []
        for is_op, item in self.index.events(index):
            if is_op:
                costs.append(self._operation(item, place, names))
            else:
                costs.append(self._call(item, place))
        self._broken_operation(index, place, names)
        return total(costs)

    def _broken_operation(self, index: int, place: Place, names: Counter[str]) -> None:
        """Add the row of the operation that a call broke off at."""
        broken = self.trace.broken
        if broken is None or broken.call != index or broken.operation is None:
            return
        path = self.index.keys[index][0]
        label = self.make.name(broken.operation.name).replace(" ", "_")
        name = f"{label}_{names[label]}" if names[label] else label
        self.rows.append(self.make.broken_operation(broken.operation, path, name, place))

    def _operation(self, index: int, place: Place, names: Counter[str]) -> Cost:
        """Add the row of an operation; its name is numbered where it is there already."""
        record = self.trace.ops[index]
        cost = of_op(self.trace, record)
        name = self.make.label(index).replace(" ", "_")
        names[name] += 1
        if names[name] > 1:
            name = f"{name}_{names[name] - 1}"
        self.rows.append(self.make.operation(index, self.index.path(record), name, place, cost))
        return cost

    def _parameter(self, index: int, param: ParamRecord, place: Place) -> Cost:
        """Add the row of a parameter that a call owns; buffers have none."""
        cost = of_param(self.trace, param)
        if not param.buffer:
            path = self.index.keys[index][0]
            self.rows.append(self.make.parameter(param, path, place, cost))
        return cost

    def _is_leaf(self, index: int) -> bool:
        """A module of torch.nn without children, or one that does a single thing."""
        if index in self.index.children:
            return False
        if self.trace.modules[self.trace.calls[index].module].library:
            return True
        own = shapes.without_weights(self.trace, self.index.own_ops.get(index, ()))
        count = sum(table.lookup(self.trace.ops[i].name).computes for i in own)
        broken = self.trace.broken
        refused = broken is not None and broken.call == index and broken.operation is not None
        return count + refused <= 1


def find(rows: Sequence[LayerRow], path: str) -> LayerRow:
    """The row of a layer: of its first call, or of the one that is meant by "conv #2".

    Raises:
        RequestError: there is none; it names the nearest.
    """
    name, _, number = path.rpartition(" #")
    wanted = (name, int(number)) if number.isascii() and number.isdecimal() else (path, 1)
    found = next((row for row in rows if row.path == path), None)
    found = found or next((row for row in rows if (row.path, row.call) == wanted), None)
    if found is None:
        near = get_close_matches(path, list({row.path: None for row in rows}), 3, 0.4)
        hint = "cnnscope summary --depth all lists them"
        if near:
            hint = f"did you mean {', '.join(near)}?"
        elif not any(row.path for row in rows):
            hint = "the model is a single layer: leave the name out"
        if path.isdecimal():
            hint += f"; an input of that size is --input {path[:80]}"
        raise RequestError(f"there is no layer {path[:80]!r}; {hint}")
    return found
