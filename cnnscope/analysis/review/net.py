"""The network under review: its trace, its rows, and the lookups that findings share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from cnnscope.analysis import shapes, weights
from cnnscope.ops import table
from cnnscope.ops.table import Family
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import ModuleRecord, Shape, Trace

_SLIDES = frozenset((Family.CONVOLUTION, Family.MAX_POOL, Family.AVERAGE_POOL))
_SAME = frozenset((Family.COPY,))
_RESHAPES = frozenset((Family.COPY, Family.VIEW, Family.SQUEEZE))


class Remark(NamedTuple):
    """What is said of some layers: a sentence, their paths, and where the first of them stands."""

    sentence: str
    layers: tuple[str, ...] = ()
    place: int = -1  # an operation


class Weighted(NamedTuple):
    """A convolution or linear layer as an operation: its place, channels in and out, its bias."""

    place: int
    inputs: int
    outputs: int
    data: int  # the tensor that it is given
    result: int
    kernel: Shape = ()
    groups: int = 1
    transposed: bool = False
    bias: int = -1  # the tensor, -1 without one


class Net:
    """A trace with its rows, each lookup made on first use."""

    def __init__(self, trace: Trace, rows: Sequence[LayerRow]) -> None:
        self.trace, self.rows = trace, rows
        self.ops, self.index = trace.ops, trace.index
        self.outputs = frozenset(trace.outputs)
        self.unread: list[Any] | None = None  # of `pixels`, once it has looked

    # -- operations and values

    def family(self, place: int) -> Family:
        """Family of an operation."""
        return table.lookup(self.ops[place].name).family

    def name(self, place: int) -> str:
        """Base name of an operation, without its namespace, overload and in-place underscore."""
        return table.base_name(self.ops[place].name)

    def shape(self, tensor: int) -> Shape:
        """Shape of a value."""
        return self.trace.tensors[tensor].shape

    def maker(self, tensor: int) -> int:
        """The operation that made a value, -1 for an input or a parameter."""
        return self.index.maker.get(tensor, -1)

    def only_reader(self, tensor: int) -> int:
        """The operation that alone reads a value, -1 where there are others or it is returned."""
        readers = self.index.readers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else -1

    def forward(self, tensor: int, through: frozenset[Family] = _SAME) -> int:
        """The value behind operations that change nothing of it, as long as nothing else reads it.

        A value that is dropped from in training ends the way.
        """
        while tensor not in self.dropped:
            reader = self.only_reader(tensor)
            if reader < 0 or self.family(reader) not in through or len(self._data(reader)) != 1:
                break
            tensor = self.ops[reader].outputs[0]
        return tensor

    def back(self, tensor: int) -> Iterator[int]:
        """A value, and those before it that were only copied or given another shape."""
        yield tensor
        while (place := self.maker(tensor)) >= 0 and self.family(place) in _RESHAPES:
            tensor = self.ops[place].tensors[0]
            yield tensor

    def _data(self, place: int) -> tuple[int, ...]:
        return self.ops[place].tensors

    def seen(self, place: int) -> list[int]:
        """The operands of an operation that depend on an input."""
        return [t for t in self._data(place) if t in self.index.from_input]

    @cached_property
    def dropped(self) -> frozenset[int]:
        """Values that dropout is called on."""
        return frozenset(drop.tensor for drop in self.trace.dropouts)

    @cached_property
    def needed(self) -> frozenset[int]:
        """Values that an output depends on."""
        found = set(self.trace.outputs)
        for record in reversed(self.ops):
            if not found.isdisjoint(record.outputs):
                found.update(record.tensors)
        return frozenset(found)

    # -- layers

    @cached_property
    def _named(self) -> dict[int, str]:
        """Paths of rows that are operations, by what they made."""
        return {row.tensor: row.path for row in self.rows if row.kind == "operation"}

    def layer(self, place: int) -> str:
        """Path of the layer that an operation is, or is a part of; the class of a single layer."""
        record = self.ops[place]
        made = record.outputs[0] if record.outputs else -1
        return self._named.get(made) or self.index.path(record) or self.rows[0].operation

    def layers(self, places: Iterable[int]) -> tuple[str, ...]:
        """Paths of several, each once."""
        return tuple(dict.fromkeys(map(self.layer, places)))

    def module(self, place: int) -> ModuleRecord | None:
        """The module that ran an operation, None outside of the model."""
        return self.index.module(self.ops[place])

    def asks_training(self, path: str) -> bool:
        """Return True if a module, or one around it, takes another path in training."""
        around = [path.rsplit(".", n)[0] for n in range(path.count(".") + 1)]
        return not self._asking.isdisjoint(("", *around))

    @cached_property
    def _asking(self) -> frozenset[str]:
        return frozenset(self.trace.asks_training)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Paths of all rows."""
        return frozenset(row.path for row in self.rows)

    def explained(self, path: str) -> str:
        """The row of a path, or of the nearest module around it; "" for the model."""
        while path and path not in self.paths:
            path = path.rpartition(".")[0]
        return path

    @cached_property
    def parameters(self) -> frozenset[int]:
        """Values that are parameters."""
        return frozenset(p.tensor for p in self.trace.params if not p.buffer)

    # -- what slides, and what has weights

    @cached_property
    def slides(self) -> dict[int, shapes.Slide]:
        """Convolutions and pools with windows of one size, by place; no transposed ones."""
        found = {}
        for place, record in enumerate(self.ops):
            if self.family(place) not in _SLIDES:
                continue
            slide = shapes.of_op(self.trace, record)
            if slide is not None and slide.form in ("convolution", "pool"):
                found[place] = slide
        return {p: s for p, s in found.items() if not shapes.over_channels(self.trace, self.ops[p])}

    @cached_property
    def weighted(self) -> dict[int, Weighted]:
        """Convolutions and linear layers with parameters for weights, by place."""
        places = (op.op for op in weights.weight_ops(self.trace) if not op.others)
        found = (self._weighted(place) for place in places)
        return {one.place: one for one in found if one is not None}

    def _weighted(self, place: int) -> Weighted | None:
        op = table.Op(self.trace, self.ops[place])
        family, result = self.family(place), op.record.outputs[0]
        if family is Family.CONVOLUTION and op.has("weight"):
            return self._convolution(op, place)
        if self.name(place) not in ("mm", "addmm"):
            return None
        data, weight = ("mat1", "mat2") if op.has("mat1") else ("self", "mat2")
        rows, columns = op.shape(weight)
        given = op.record.inputs[data]
        if not isinstance(given, int) or given not in self.index.from_input:
            return None
        return Weighted(place, rows, columns, given, result, bias=self._bias(op, "self"))

    def _convolution(self, op: table.Op, place: int) -> Weighted | None:
        weight, groups = op.shape("weight"), int(op.get("groups", 1))
        transposed, given = bool(op.get("transposed", False)), op.record.inputs["input"]
        if not isinstance(given, int):
            return None
        inputs, outputs = weight[1] * groups, weight[0]
        if transposed:
            inputs, outputs = outputs, inputs
        return Weighted(
            place,
            inputs,
            outputs,
            given,
            op.record.outputs[0],
            weight[2:],
            groups,
            transposed=transposed,
            bias=self._bias(op, "bias"),
        )

    def _bias(self, op: table.Op, name: str) -> int:
        """The parameter that is added to a product, -1 where there is none."""
        given = op.record.inputs.get(name)
        return given if isinstance(given, int) and given in self.parameters else -1
