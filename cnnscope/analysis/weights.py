"""Weight layers: the operations that multiply their input by learned weights.

They are counted as papers count them. A product that only makes a weight (a spectral norm, an
orthogonal matrix, a sum of low rank) is no layer, and a layer whose weight is computed is one; a
recurrent layer is one for each layer and direction, whatever it multiplies at each step;
convolutions over chosen channels that are laid end to end (LeNet-5's connection table, a grouped
convolution written by hand) are one. A weight that runs again is the same layer.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from enum import Enum
from functools import cached_property
from math import prod
from typing import NamedTuple

from cnnscope.analysis import attention, shapes
from cnnscope.analysis.memo import per_trace
from cnnscope.analysis.precision import NARROW
from cnnscope.ops import table
from cnnscope.ops.operation import Op
from cnnscope.ops.table import Family
from cnnscope.records.trace import OpRecord, Trace

RECURRENT = frozenset(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"))
# weight_hh_l0_reverse: the second layer of a number has a direction of its own.
_OF_RECURRENT = r"weight_(?:ih|hh|hr)(?:_(l\d+(?:_reverse)?))?"
_LAYERS = ("Linear", "Conv", "Bilinear", "NonDynamicallyQuantizableLinear")
_CHOOSES = frozenset(  # or rearranges channels
    (
        Family.SLICE,
        Family.SELECT,
        Family.SPLIT,
        Family.LOOKUP,
        Family.CONCATENATE,
        Family.STACK,
        Family.SQUEEZE,
        Family.COPY,
    )
)
_CONVOLUTIONS = (Family.CONVOLUTION, Family.DEFORMABLE_CONVOLUTION)
# Operands that are added to a product.
_ADDED = {"bias": (), "self": ("mat1", "batch1", "mat", "vec1"), "attn_bias": (), "attn_mask": ()}


class Layer(Enum):
    """Kind of a weight layer."""

    CONVOLUTION = "conv"
    LINEAR = "linear"
    RECURRENT = "recurrent"


_PACKED = {
    Family.QUANTISED_CONVOLUTION: Layer.CONVOLUTION,
    Family.QUANTISED_LINEAR: Layer.LINEAR,
    Family.QUANTISED_RECURRENT: Layer.RECURRENT,
}


class WeightOp(NamedTuple):
    """An operation that is a weight layer, or the first of those that are one together.

    `weights` are one key for each layer that runs in it (several where a kernel runs a whole
    recurrent network). `channels` (in, out) and `others` (places in the trace) are those of the
    whole layer where it is made of several convolutions.
    """

    op: int  # its place in the trace
    kind: Layer
    weights: tuple[Hashable, ...]
    others: tuple[int, ...] = ()
    channels: tuple[int, int] | None = None

    @property
    def convolution(self) -> bool:
        """True if it slides."""
        return self.kind is Layer.CONVOLUTION


class Count(NamedTuple):
    """Count the weight layers that ran, each weight once."""

    convolutions: int
    linear: int
    recurrent: int = 0


def weight_layers(trace: Trace) -> Count:
    """Count the convolutions, linear and recurrent layers that ran, each weight once.

    Returns:
        VGG-11 has 8 convolutions and 3 linear layers (Simonyan and Zisserman 2014, table 1).
    """
    found = weight_ops(trace)
    return Count(
        *(len({w for op in found if op.kind is kind for w in op.weights}) for kind in Layer)
    )


@per_trace
def weight_ops(trace: Trace) -> tuple[WeightOp, ...]:
    """The weight layers in the order in which they ran, those that ran again among them."""
    return tuple(_joined(trace, list(_Weights(trace).layers())))


class _Weights:
    """Follows weights from the parameters to the products that they meet data in."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        held = {
            p.tensor: p.path
            for p in (*trace.params, *trace.strays)
            if not p.buffer or trace.tensors[p.tensor].dtype in NARROW  # quantised weights
        }
        self.storages = {trace.tensors[t].storage: path for t, path in held.items()}
        self.state = {trace.tensors[p.tensor].storage for p in trace.params}
        self.data = trace.index.from_input
        # Of which parameters a tensor is a weight, as it is or computed.
        self.made_of = {t: frozenset((path,)) for t, path in held.items()}
        self.learned = set(held)  # follows from parameters
        self.looked_up: set[int] = set()  # picked from a table: an embedding, and no weight matrix

    def layers(self) -> Iterator[WeightOp]:
        """The operations that are weight layers, in order."""
        for index, record in enumerate(self.trace.ops):
            found = self._layer(index, record) if _multiplies(record) else None
            if found is not None:
                yield found
            elif not _multiplies(record) or record.outputs[0] in self._only_weights:
                self._pass_on(record)
            if any(t in self.learned for t in record.tensors):
                self.learned.update(record.outputs)

    def _layer(self, index: int, record: OpRecord) -> WeightOp | None:
        packed = _PACKED.get(table.lookup(record.name).family)  # with a weight that is no tensor
        if packed is not None:
            return WeightOp(index, packed, self._packed_keys(index, record))
        weights = self._weights(record)
        if not weights or not self._meets_data(record):
            return None
        paths = frozenset(path for tensor in weights for path in self._paths(tensor, record))
        if any(map(self._recurrent, paths)):
            return WeightOp(index, Layer.RECURRENT, self._recurrent_keys(paths))
        kind = Layer.CONVOLUTION if _convolves(record) else Layer.LINEAR
        return WeightOp(index, kind, (paths,))

    def _packed_keys(self, index: int, record: OpRecord) -> tuple[Hashable, ...]:
        """One key for a layer, and for each layer and direction of a recurrent network."""
        own = self._module(record)
        key = "packed", own if own > 0 else -index
        states = Op(self.trace, record).shapes("hx")
        several = states[0][0] if states and len(states[0]) == 3 else 1
        return tuple((*key, number) for number in range(several))

    def _weights(self, record: OpRecord) -> list[int]:
        """The operands of a product that are weights: one, or those of a whole recurrent layer."""
        factors = [(n, t) for n, t in record.arguments() if not _is_added(n, record)]
        inside = self._in_layer(record)
        if _convolves(record):
            kernels = [t for n, t in factors if n == "weight"]
            return kernels if inside or any(map(self._is_made, kernels)) else []
        fixed = [t for _, t in factors if t not in self.data]
        found = [t for t in fixed if self._is_made(t) and t not in self.looked_up]
        if inside:
            found = found or fixed or [t for _, t in factors if t in self.made_of]
            own = [t for t in found if self._owned(t, record)]
            return (own or found)[-1:]
        fused = any(n.startswith("weight") for n, _ in factors)
        if record.outputs[0] in self._attention and not fused:
            tensors = self.trace.tensors  # not scores of computed queries, nor of positions
            found = [t for t in found if tensors[t].storage in self.storages]
        return found if fused else found[-1:]

    def _is_made(self, tensor: int) -> bool:
        return tensor in self.made_of or self.trace.tensors[tensor].storage in self.storages

    def _paths(self, tensor: int, record: OpRecord) -> frozenset[str]:
        """The parameters that a weight is made of; its module where there are none."""
        if tensor in self.made_of:
            return self.made_of[tensor]
        storage = self.storages.get(self.trace.tensors[tensor].storage)
        return frozenset((f"module {self._module(record)}" if storage is None else storage,))

    def _module(self, record: OpRecord) -> int:
        return self.trace.calls[record.call].module if record.call >= 0 else -1

    def _owned(self, tensor: int, record: OpRecord) -> bool:
        """Return True if a weight belongs to the module that runs the product."""
        path = self.trace.modules[self._module(record)].path
        return any(_owner(name) == path for name in self.made_of.get(tensor, ()))

    def _meets_data(self, record: OpRecord) -> bool:
        """Return True if weights are multiplied with data, or with what a module was given as such.

        Of products that see no input (a bias made of positions) those are layers whose result is
        added to data, if their other operand is no parameter or if a layer of torch.nn runs them.
        """
        out = record.outputs[0]
        if out in self._only_weights:
            return self._in_layer(record) and out in self.data and self._is_output(record)
        if out in self.data or self._in_layer(record):
            return True
        factors = [t for n, t in record.arguments() if not _is_added(n, record)]
        return sum(t in self.learned for t in factors) < 2

    def _in_layer(self, record: OpRecord) -> bool:
        """True if a convolution or linear layer of torch.nn runs it, or a class made from one."""
        base = self.trace.modules[self._module(record)].base if record.call >= 0 else ""
        return base.startswith(_LAYERS)

    def _is_output(self, record: OpRecord) -> bool:
        """Return True if what a layer of torch.nn gives back has the size of the product."""
        outputs = self.trace.calls[record.call].outputs
        size = prod(self.trace.tensors[record.outputs[0]].shape)
        return any(prod(self.trace.tensors[t].shape) == size for t in outputs)

    # -- what is made of weights

    def _pass_on(self, record: OpRecord) -> None:
        """Follow what is computed from weights as a weight; data that it is added to is none."""
        read = record.tensors
        paths = [self.made_of[t] for t in read if t in self.made_of]
        if not paths or not record.outputs:
            return
        if record.outputs[0] in self.data and not self._outweighs(read):
            return
        family, index = table.lookup(record.name).family, record.attributes.get("index")
        if family is Family.SELECT and record.attributes.get("dim") == 0:  # one of several, stacked
            paths = [frozenset(f"{path}[{index}]" for path in made) for made in paths]
        if family is Family.LOOKUP or not self.looked_up.isdisjoint(read):
            self.looked_up.update(record.outputs)
        for tensor in record.outputs:
            self.made_of[tensor] = paths[0].union(*paths)

    def _outweighs(self, read: Iterable[int]) -> bool:
        """True if the weight is larger than the data that changes it, as a modulated one is."""
        sizes: dict[bool, int] = {True: 0, False: 0}
        for tensor in read:
            of_weights = tensor in self.made_of
            size = prod(self.trace.tensors[tensor].shape)
            sizes[of_weights] = max(sizes[of_weights], size)
        return sizes[True] > sizes[False]

    @cached_property
    def _attention(self) -> frozenset[int]:
        """Results of products of queries, keys and values, also where these are computed."""
        found = attention.find(self.trace)
        places = found.scores | found.sums.keys() | found.fused
        return frozenset(self.trace.ops[place].outputs[0] for place in places)

    @cached_property
    def _only_weights(self) -> set[int]:
        """The tensors that end in weights of other products, or in single numbers, alone."""
        valued = set(self.trace.outputs)
        read: set[int] = set()
        for record in reversed(self.trace.ops):
            alive = self._is_valued(record, valued, read)
            changes = not _rearranges(record)
            for name, tensor in record.arguments():
                read.add(tensor)
                used = alive or (changes and tensor in self.data)
                if used and not self._is_weight(name, tensor, record):
                    valued.add(tensor)
        made = {t for record in self.trace.ops for t in record.outputs[:1]}
        return {t for t in made & read if t not in valued}

    def _is_valued(self, record: OpRecord, valued: set[int], read: set[int]) -> bool:
        """Return True if what an operation makes is used as data, or by no recorded operation."""
        if any(t in valued for t in record.outputs):
            return True
        tensors = self.trace.tensors
        unread = [t for t in record.outputs[:1] if t not in read]
        return any(tensors[t].storage not in self.state for t in unread)

    def _is_weight(self, name: str, tensor: int, record: OpRecord) -> bool:
        """True if an operation reads a tensor as the weight of a product, or as one number."""
        if not record.outputs:
            return False
        out = record.outputs[0]
        shape = self.trace.tensors[out].shape
        if out not in self.data and prod(shape) == 1:
            return True
        if _convolves(record):
            return name in ("weight", "bias")
        of_data = out in self.data and tensor not in self.data
        return _multiplies(record) and out not in self._attention and of_data

    # -- recurrent layers

    def _recurrent(self, path: str) -> bool:
        return self._owner_base(path) in RECURRENT and bool(re.search(_OF_RECURRENT, path))

    def _recurrent_keys(self, paths: Iterable[str]) -> tuple[Hashable, ...]:
        """One key for each layer and direction."""
        found = ((_owner(path), re.search(_OF_RECURRENT, path)) for path in sorted(paths))
        return tuple(dict.fromkeys((o, match.group(1)) for o, match in found if match))

    def _owner_base(self, path: str) -> str:
        return self._bases.get(_owner(path), "")

    @cached_property
    def _bases(self) -> dict[str, str]:
        return {module.path: module.base for module in self.trace.modules}


def _owner(path: str) -> str:
    """The module that a parameter belongs to, also where it is parametrized."""
    before, parametrized, _ = f".{path}".partition(".parametrizations.")
    return (before if parametrized else before.rpartition(".")[0]).removeprefix(".")


def _is_added(name: str, record: OpRecord) -> bool:
    """Return True if an operand is added to the product, and not a factor of it."""
    beside = _ADDED.get(name)
    return beside is not None and (not beside or any(other in record.inputs for other in beside))


def _multiplies(record: OpRecord) -> bool:
    return table.lookup(record.name).multiplies and bool(record.outputs)


def _convolves(record: OpRecord) -> bool:
    return table.lookup(record.name).family in _CONVOLUTIONS


def _rearranges(record: OpRecord) -> bool:
    return table.lookup(record.name).kind is table.Kind.REARRANGE


# ------------------------------------------------------------------- several that are one layer


def _joined(trace: Trace, found: list[WeightOp]) -> list[WeightOp]:
    """Convolutions that are one layer together, as one."""
    by_op = {op.op: op for op in found if op.convolution and "weight" in trace.ops[op.op].inputs}
    left = {op.op: op for op in found}
    for group in (*_complex(trace, by_op), *_tables(trace, by_op)):
        first, *others = (left.pop(i) for i in group.places)
        left[first.op] = first._replace(
            weights=(frozenset((first.weights, *(op.weights for op in others))),),
            others=tuple(op.op for op in others),
            channels=group.channels,
        )
    return [left[i] for i in sorted(left)]


class _Group(NamedTuple):
    """Convolutions that are one layer: their places, and the channels of the whole."""

    places: tuple[int, ...]
    channels: tuple[int, int] | None = None


def _complex(trace: Trace, by_op: dict[int, WeightOp]) -> Iterator[_Group]:
    """The three real convolutions that torch computes a complex one by (see `ops/entry.py`)."""
    for index, record in enumerate(trace.ops):
        parts = record.attributes.get(table.COMPLEX_PARTS)
        if isinstance(parts, tuple) and all(part in by_op for part in (*parts, index)):
            yield _Group((*map(int, parts), index))  # type: ignore[arg-type]


def _tables(trace: Trace, by_op: dict[int, WeightOp]) -> Iterator[_Group]:
    """Convolutions over chosen channels of one map, laid end to end.

    So is LeNet-5's connection table (LeCun et al. 1998, table I).
    """
    for record in trace.ops:
        joins = table.lookup(record.name).family is Family.CONCATENATE
        if not joins or Op(trace, record).get("dim", 0) in (0, -1):
            continue
        places = tuple(trace.index.maker.get(t, -1) for t in record.tensors)
        if len(places) < 2 or len(set(places)) < len(places) or any(i not in by_op for i in places):
            continue
        slides = [shapes.of_op(trace, trace.ops[i]) for i in places]
        alike = {s and s.geometry for s in slides}
        roots = {root for i in places for root in _roots(trace, trace.ops[i])}
        if len(alike) > 1 or len(roots) > 1 or None in slides:
            continue
        axis = -len(Op(trace, trace.ops[places[0]]).shape("weight")) + 1
        whole = trace.tensors[next(iter(roots))].shape[axis]
        given = [Op(trace, trace.ops[i]).shape("input")[axis] for i in places]
        if min(given) < whole:
            yield _Group(places, (whole, Op(trace, record).out[axis]))


def _roots(trace: Trace, record: OpRecord) -> set[int]:
    """The maps that the channels of a convolution's input were chosen from."""
    maker = trace.index.maker
    waiting, found = [t for n, t in record.arguments() if n == "input"], set()
    while waiting:
        tensor = waiting.pop()
        made_by = trace.ops[maker[tensor]] if tensor in maker else None
        if made_by is not None and table.lookup(made_by.name).family in _CHOOSES:
            waiting += [t for n, t in made_by.arguments() if n in ("self", "tensors")]
        else:
            found.add(tensor)
    return found
