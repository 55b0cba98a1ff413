"""The blocks of a model, found in its call tree, and what the layers inside one do to the data.

Nothing here knows a model or the name of a class beyond torch's containers. A *block* is a module
with several weight layers that either joins paths (a residual addition, a concatenation of
branches) or occurs more than once; whatever holds blocks is opened, and so is the model, unless all
of it is branches that are joined once. Inside a block, the data is followed from its input to its
output: layers in a row, branches, a projection beside a residual path (He et al. 2015, section
3.3), a gate made of the whole image (Hu et al. 2017, section 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from msgspec.structs import replace

from cnnscope.analysis import attention, shapes
from cnnscope.analysis.weights import Layer, WeightOp, weight_ops
from cnnscope.ops import table
from cnnscope.ops.table import Family
from cnnscope.records.stages import StageFork, StageLayer, StagePart, flat
from cnnscope.records.summary import CONTAINERS, Geometry
from cnnscope.records.trace import OpRecord, Shape, Trace

_POOLS = {Family.MAX_POOL: "max pool", Family.AVERAGE_POOL: "average pool"}
_SHOWN = (Family.REGION_POOL, Family.PIXEL_SHUFFLE, Family.RESAMPLE, Family.SOFTMAX)
_JOINS = (Family.ADD, Family.CONCATENATE)


class Unit(NamedTuple):
    """A block or a single layer, where it ran."""

    path: str
    kind: str  # class of the module that ran it
    block: bool
    output: Shape  # positions, () where there is one
    parts: tuple[StagePart, ...]
    shortcuts: tuple[StageLayer, ...] = ()
    call: int = -1  # of a block


class Found(NamedTuple):
    """The units of a model in the order in which they ran."""

    units: tuple[Unit, ...]
    reruns: int  # weight layers left out, because their weights had run before
    resized: int  # resamplings left out, because the same module resampled to another size before


def find(trace: Trace) -> Found:
    """The blocks of a model, and the layers outside of blocks."""
    walk = _Walk(trace)
    units = tuple(walk.opened(-1))
    listed = sum(layer.weights for unit in units for layer in every_layer(unit))
    ran = sum(layer.weighted for layer in walk.layers.values())
    return Found(units, ran - listed, walk.resized)


def every_layer(unit: Unit) -> Iterator[StageLayer]:
    """All layers of a unit, projections last."""
    yield from flat(unit.parts)
    yield from unit.shortcuts


_RECURRENT = {
    "LSTM": "lstm", "GRU": "gru", "RNN": "rnn",
    "LSTMCell": "lstm", "GRUCell": "gru", "RNNCell": "rnn",
}  # fmt: skip


class _Layer(NamedTuple):
    """A layer as a table shows it, what it is, and whether it is a weight layer."""

    shown: StageLayer
    family: Family
    weighted: bool = False


# ------------------------------------------------------------------------------ the layers


def shown_layers(trace: Trace) -> dict[int, tuple[StageLayer, Family]]:
    """Every operation that a table shows, by its place in the trace, and its family."""
    return {
        place: (layer.shown, Family.LINEAR if layer.shown.kind == "linear" else layer.family)
        for place, layer in _layers(trace).items()
    }


def _layers(trace: Trace) -> dict[int, _Layer]:
    """Every operation that a table shows, by its place in the trace."""
    found: dict[int, _Layer] = {}
    weighted = {op.op: op for op in weight_ops(trace)}
    within = {place for op in weighted.values() for place in op.others}
    data, sums = trace.index.from_input, attention.find(trace).sums
    scored = {i for place in sums.keys() - within - weighted.keys() for i in sums[place]}
    seen: set[object] = set()
    for index, record in enumerate(trace.ops):
        weights, family = weighted.get(index), table.lookup(record.name).family
        if weights is not None:
            new = set(weights.weights) - seen
            seen |= new
            if new or weights.kind is not Layer.RECURRENT:  # which runs at every time step
                shown = replace(_weighted_layer(trace, weights), weights=len(new))
                found[index] = _Layer(shown, family, weighted=True)
        elif any(t in data for t in record.outputs) and (layer := _other(trace, record)):
            if family is Family.SOFTMAX and index in scored:
                layer, family = _attention(trace, record), Family.ATTENTION
            found[index] = _Layer(layer, family)
    return found


def _weighted_layer(trace: Trace, weights: WeightOp) -> StageLayer:
    record = trace.ops[weights.op]
    if weights.kind is Layer.RECURRENT:
        return _recurrent(trace, record)
    if weights.kind is Layer.LINEAR:
        return _linear(trace, record)
    layer = _convolution(trace, record)
    if weights.channels is None:
        return layer
    given, made = weights.channels
    return replace(layer, in_channels=given, out_channels=made)


def _recurrent(trace: Trace, record: OpRecord) -> StageLayer:
    """A recurrent layer of torch.nn; its width is that of the hidden state."""
    module = trace.index.module(record)
    hidden = module.hyper.get("hidden_size") if module else None
    given = module.hyper.get("input_size") if module else None
    return StageLayer(
        path=trace.index.path(record),
        kind=_RECURRENT.get(module.base if module else "", "recurrent layer"),
        in_channels=given if isinstance(given, int) else None,
        out_channels=hidden if isinstance(hidden, int) else None,
    )


def _convolution(trace: Trace, record: OpRecord) -> StageLayer:
    op, slide = table.Op(trace, record), shapes.of_op(trace, record)
    if not op.has("weight"):
        return StageLayer(
            path=trace.index.path(record),
            kind=table.lookup(record.name).label,
            output=_trimmed(op.out[2:]),
            in_channels=op.first[1],
            out_channels=op.out[1],
        )
    weight = op.shape("weight")
    kind = "conv" if slide is None or slide.form == "convolution" else slide.form + " conv"
    return StageLayer(
        path=trace.index.path(record),
        kind="deformable conv" if slide is None else kind,
        output=_trimmed(op.out[-(len(weight) - 2) :]),
        geometry=slide.geometry if slide else _deformed(op),
        in_channels=op.shape("input")[-(len(weight) - 1)],
        out_channels=op.out[-(len(weight) - 1)],
    )


def _deformed(op: table.Op) -> Geometry:
    """Kernel and stride of torchvision's deformable convolution."""
    pairs = {
        name: (int(op.get(f"{name}_h", default)), int(op.get(f"{name}_w", default)))
        for name, default in (("stride", 1), ("pad", 0), ("dilation", 1))
    }
    kernel, groups = op.shape("weight")[2:], op.shape("input")[1] // op.shape("weight")[1]
    return Geometry(kernel, pairs["stride"], pairs["pad"], pairs["dilation"], groups)


def _linear(trace: Trace, record: OpRecord) -> StageLayer:
    """A linear layer; its positions are those of the output of its module, if it has one."""
    op = table.Op(trace, record)
    call = trace.calls[record.call] if record.call >= 0 else None
    out = op.out
    if call is not None and call.outputs and trace.modules[call.module].base == "Linear":
        out = trace.tensors[call.outputs[0]].shape
    return StageLayer(
        path=trace.index.path(record),
        kind="linear",
        output=_trimmed(out[1:-1]),
        in_channels=(op.shape("mat1") if op.has("mat1") else op.first)[-1],
        out_channels=out[-1],
    )


def _other(trace: Trace, record: OpRecord) -> StageLayer | None:
    """A layer without weights that a table shows: a pool, an upsampling, an attention."""
    entry = table.lookup(record.name)
    op, path = table.Op(trace, record), trace.index.path(record)
    if not op.out:
        return None
    if entry.family in _POOLS:
        return _pool(trace, record, _POOLS[entry.family])
    if entry.family is Family.MEAN:
        return StageLayer(path, "average pool") if _over_positions(op) else None
    if entry.family is Family.ATTENTION:
        heads, keys = op.shape("query")[-3], op.shape("key")[-2]
        return StageLayer(path, entry.label, heads=heads, keys=keys)
    if entry.family not in _SHOWN:
        return None
    positions = () if entry.family is Family.SOFTMAX else op.out[2:]
    return StageLayer(path, entry.label.rstrip("123d"), _trimmed(positions))


def _pool(trace: Trace, record: OpRecord, kind: str) -> StageLayer | None:
    """A pool; None for an adaptive pool that keeps every position, and for one over channels."""
    op, slide = table.Op(trace, record), shapes.of_op(trace, record)
    axes = slide.axes if slide else op.axes or 2
    if slide is None and op.first[-axes:] == op.out[-axes:]:
        return None
    if shapes.over_channels(trace, record):
        return None
    geometry = slide.geometry if slide else None
    return StageLayer(trace.index.path(record), kind, _trimmed(op.out[-axes:]), geometry)


def _over_positions(op: table.Op) -> bool:
    """True if a mean is over all positions, of any axes, and not over samples or channels."""
    rank, given = len(op.first), op.get("dim")
    axes = {a % rank for a in (given if isinstance(given, tuple) else (given,)) if a is not None}
    return rank > 2 and axes in (set(range(2, rank)), set(range(1, rank - 1)))


def _attention(trace: Trace, record: OpRecord) -> StageLayer:
    """The softmax over keys: scores are (..., heads, queries, keys)."""
    out = table.Op(trace, record).out
    heads = out[-3] if len(out) > 3 else None
    return StageLayer(trace.index.path(record), "attention", heads=heads, keys=out[-1])


def _trimmed(sizes: Shape) -> Shape:
    """Return `()` where there is a single position."""
    return sizes if prod(sizes) != 1 else ()


# ---------------------------------------------------------------------------- the call tree


class _Walk:
    """Walks the call tree, and decides what is a block."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.layers = _layers(trace)
        self.data = trace.index.from_input
        self.children, self.own = trace.index.children, trace.index.own_ops
        self.ops = trace.index.all_ops
        self.weights = {call: self._count(inside) for call, inside in self.ops.items()}
        self.joins = {call: self._joins_of(call) for call in self.ops if self.weights[call] > 1}
        modules = {c.module for i, c in enumerate(trace.calls) if self.weights.get(i, 0) > 1}
        self.kinds = Counter(trace.modules[m].kind for m in modules)
        self.resized = 0

    def _count(self, inside: Iterable[int]) -> int:
        return sum(i in self.layers and self.layers[i].weighted for i in inside)

    def _kind(self, call: int) -> str:
        return self.trace.modules[self.trace.calls[call].module].kind

    def _plain(self, call: int) -> bool:
        """Return True if it is only a list of other modules."""
        return self._kind(call) in CONTAINERS

    def _joins_of(self, call: int) -> dict[Family, set[Shape]]:
        """Joins of data paths outside of weight layers: family to positions."""
        found: dict[Family, set[Shape]] = {}
        pending = [call]
        while pending:
            at = pending.pop()
            pending += [c for c in self.children.get(at, ()) if not self.weights.get(c)]
            for index in self.own.get(at, ()):
                record = self.trace.ops[index]
                family = table.lookup(record.name).family
                if family in _JOINS and len(self.data & set(record.tensors)) > 1:
                    out = self.trace.tensors[record.outputs[0]]
                    if len(out.shape) > 2 and "float" in out.dtype:  # and no list of boxes
                        found.setdefault(family, set()).add(out.shape[2:])
        return found

    # -- what is a block

    def _is_block(self, call: int) -> bool:
        if self.weights[call] < 2 or self._plain(call):
            return False
        if self.trace.calls[call].parent < 0:
            return self._is_one_block(call)
        repeated = self.kinds[self._kind(call)] > 1
        joining = list(self._joined_inside(call))
        if repeated and self._joined(call, Family.ADD) and not self._any_adds(joining):
            joining = []  # a residual block of layers that concatenate: GhostNet's
        inner = Counter(map(self._kind, joining))
        if any(times > 1 or self._more(kind, call) for kind, times in inner.items()):
            mixed = len(inner) > 1 and min(inner.values()) == 1
            return repeated and mixed  # a stage repeats what it is made of
        if self._joined(call, Family.ADD) or self._joined(call, Family.CONCATENATE):
            return True
        kinds = {self._kind(c) for c in self._descendants(call) if self._has_layers(c)}
        if any(self._more(kind, call) for kind in kinds):
            return False
        return repeated and not self._pools(call)

    def _any_adds(self, calls: Iterable[int]) -> bool:
        return any(Family.ADD in self.joins[call] for call in calls)

    def _is_one_block(self, call: int) -> bool:
        """True if a model is no more than a block: branches at one resolution, joined once."""
        if not self._joined(call, Family.CONCATENATE) or any(self._joined_inside(call)):
            return False
        families = [table.lookup(self.trace.ops[i].name).family for i in self.ops[call]]
        sizes = {self.layers[i].shown.output for i in self.ops[call] if i in self.layers}
        return families.count(Family.CONCATENATE) == 1 and len(sizes) == 1

    def _has_layers(self, call: int) -> bool:
        return self.weights.get(call, 0) > 1 and not self._plain(call)

    def _joined_inside(self, call: int) -> Iterator[int]:
        """The outermost calls inside that join paths."""
        for child in self.children.get(call, ()):
            if self._has_layers(child) and self.joins[child]:
                yield child
            else:
                yield from self._joined_inside(child)

    def _joined(self, call: int, family: Family) -> bool:
        """Return True if paths are joined in this way, and everywhere at one resolution."""
        return len(self.joins[call].get(family, ())) == 1

    def _more(self, kind: str, call: int) -> bool:
        return self.kinds[kind] > self.kinds[self._kind(call)]

    def _pools(self, call: int) -> bool:
        """True if it halves the resolution by a pool: then it is a stage, or a part of one."""
        layers = (self.layers[i] for i in self.ops[call] if i in self.layers)
        pools = (x.shown.geometry for x in layers if x.family in table.POOLS)
        return any(geometry and max(geometry.stride) > 1 for geometry in pools)

    def _descendants(self, call: int) -> Iterator[int]:
        for child in self.children.get(call, ()):
            yield child
            yield from self._descendants(child)

    # -- units

    def opened(self, call: int) -> Iterator[Unit]:
        """Contents of a call, in order of execution."""
        last = None
        for is_op, item in self.trace.index.events(call):
            if not is_op:
                yield from self._unit(item)
                last = None if self.weights.get(item) else last
                continue
            layer = self.layers.get(item)
            if layer is None:
                continue
            resized = last is not None and _is_resized(last, layer)
            self.resized += resized
            last = layer
            if not resized and (layer.shown.weights or not layer.weighted):
                kind = self._kind(call) if call >= 0 else ""
                yield Unit(layer.shown.path, kind, False, layer.shown.output, (layer.shown,))

    def _unit(self, call: int) -> Iterator[Unit]:
        inside = [i for i in self.ops.get(call, ()) if i in self.layers]
        ran_before = self.weights.get(call, 0) and not any(
            self.layers[i].shown.weights for i in inside
        )
        if not inside or ran_before:
            return
        if not self._is_block(call):
            yield from self.opened(call)
            return
        parts = self._parts(call)
        main, shortcuts = _without_shortcuts(parts)
        record = self.trace.calls[call]
        yield Unit(
            path=self.trace.modules[record.module].path,
            kind=self._kind(call),
            block=True,
            output=self._positions(call, [self.layers[i].shown for i in inside]),
            parts=main,
            shortcuts=shortcuts,
            call=call,
        )

    def _parts(self, call: int) -> tuple[StagePart, ...]:
        """Row of a block: every layer in it exactly once."""
        inside = self.ops[call]
        every = [i for i in inside if i in self.layers]
        parts = _Flow(self.trace, self.layers, self.data).through(
            inside, self.trace.calls[call].outputs
        )
        counts = Counter((x.path, x.kind, x.weights, x.output) for x in flat(parts))
        wanted = [self.layers[i].shown for i in every]
        if not parts or counts - Counter((x.path, x.kind, x.weights, x.output) for x in wanted):
            return tuple(wanted)  # not a structure of rows and branches: in the order of running
        missing = Counter((x.path, x.kind, x.weights, x.output) for x in wanted) - counts
        side = [x for x in wanted if x.weights and missing[x.path, x.kind, x.weights, x.output]]
        return (*parts, *(replace(x, role="side") for x in side))

    def _positions(self, call: int, inside: Sequence[StageLayer]) -> Shape:
        """The positions of a block's output: those of a layer in it that the shape agrees with."""
        outputs = self.trace.calls[call].outputs
        shape = self.trace.tensors[outputs[0]].shape if outputs else ()
        for layer in reversed(inside):
            size = layer.output
            if size and (shape[2:] == size or shape[1:-1] == size):
                return size
        return _trimmed(shape[2:] if len(shape) > 3 else shape[1:-1])


def _is_resized(layer: _Layer, other: _Layer) -> bool:
    """True if one resampling follows another of another size, as of detections one by one."""
    one, two = layer.shown, other.shown
    alike = one.kind == two.kind and not two.geometry and not other.weighted
    return alike and one.output != two.output


def _without_shortcuts(
    parts: tuple[StagePart, ...],
) -> tuple[tuple[StagePart, ...], tuple[StageLayer, ...]]:
    """The main path, and the projections beside it."""
    main: list[StagePart] = []
    found: list[StageLayer] = []
    for part in parts:
        if isinstance(part, StageFork):
            split = [_without_shortcuts(branch) for branch in part.branches]
            main.append(StageFork(tuple(branch for branch, _ in split)))
            found += [x for _, shortcuts in split for x in shortcuts]
        elif part.role == "shortcut":
            found.append(part)
        else:
            main.append(part)
    return tuple(main), tuple(found)


# ---------------------------------------------------------------------------- inside a block


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """Data that enters a block."""


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A layer of the block."""

    layer: _Layer


class _Fork:
    """Branches; compared by identity, as steps are: a path is a short tuple, however it came.

    Branches may share forks, so that a row of n forks can stand for 2^n rows of layers: `layers`
    and `weights`, the layers in it and those with weights, are counted once, when it is made.
    """

    __slots__ = ("branches", "layers", "weights")

    def __init__(self, branches: tuple[_Path, ...]) -> None:
        self.branches = branches
        self.layers = sum(map(_count, branches))
        self.weights = sum(map(_weights, branches))


_Path = tuple[_Start | _Step | _Fork, ...]


class _Flow:
    """Layers that led to each tensor of a block: a row of layers, and branches in it."""

    def __init__(self, trace: Trace, layers: dict[int, _Layer], data: Container[int]) -> None:
        self.trace, self.layers, self.data = trace, layers, data
        self.paths: dict[int, _Path] = {}

    def through(self, inside: Sequence[int], outputs: Sequence[int]) -> tuple[StagePart, ...]:
        """Layers and branches from the inputs of a block to its outputs; () if a layer is twice."""
        for index in inside:
            record = self.trace.ops[index]
            came = self._distinct(t for t in record.tensors if t in self.data)
            if not came:
                continue
            path = came[0] if len(came) == 1 else self._joined(record, came)
            if index in self.layers:
                path = (*path, _Step(self.layers[index]))
            self.paths.update(dict.fromkeys(record.outputs, path))
        ends = self._distinct(t for t in outputs if t in self.paths)
        path = _fork(ends) if ends else ()
        twice = _count(path) > sum(index in self.layers for index in inside)
        return () if twice else _parts(path)

    def _distinct(self, tensors: Iterable[int]) -> list[_Path]:
        for tensor in (found := list(tensors)):
            self.paths.setdefault(tensor, (_Start(),))
        return list(dict.fromkeys(self.paths[t] for t in found))

    def _joined(self, record: OpRecord, came: list[_Path]) -> _Path:
        """Join the paths that meet at an operation: what they share, then what differs."""
        entry = table.lookup(record.name)
        meeting = _Meeting(came)
        joined: _Path | None = None
        if entry.family is Family.MULTIPLY:
            joined = _gated(meeting, self.trace.tensors[record.outputs[0]].shape)
        elif entry.multiplies:
            joined = _attended(meeting)
        elif entry.family is Family.ADD:
            joined = _projected(meeting)
        return joined or _fork(came)


class _Meeting:
    """Paths that meet: their common beginning, and those of the rests that have layers."""

    def __init__(self, paths: Sequence[_Path]) -> None:
        self.paths, self.common = paths, _common(paths)
        rests = [path[len(self.common) :] for path in paths]
        self.layered = [rest for rest in rests if any(not isinstance(x, _Start) for x in rest)]


def _gated(meeting: _Meeting, shape: Shape) -> _Path | None:
    """A map that is multiplied by gates (Hu et al. 2017, section 3); None where there are none.

    Args:
        meeting: the paths of the factors.
        shape: of the product.
    """
    gates = [rest for rest in meeting.layered if _is_gate(rest, shape)]
    others = [rest for rest in meeting.layered if rest not in gates]
    if not gates or len(others) > 1:
        return None
    before = meeting.common or meeting.paths[0][:1]
    gated = (x for gate in gates for x in _marked(gate, "gate"))
    return (*before, *(x for rest in others for x in rest), *gated)


def _attended(meeting: _Meeting) -> _Path | None:
    """Queries, keys and values as branches, and the attention behind them."""
    last = next((rest[-1] for rest in meeting.layered if _attends(rest)), None)
    if last is None:
        return None
    return (*_fork([p[:-1] if _attends(p) else p for p in meeting.paths]), last)


def _projected(meeting: _Meeting) -> _Path | None:
    """A residual path with a projection beside it (He et al. 2015, section 3.3)."""
    if not meeting.common or len(meeting.layered) != 2:
        return None
    short, long = sorted(meeting.layered, key=_weights)
    single = _weights(short) < 2 <= _weights(long) and _is_row(short)
    if single or (_is_separable(short) and _weights(long) > 2):
        return (*meeting.common, *_marked(short, "shortcut"), *long)
    return None


def _common(paths: Sequence[_Path]) -> _Path:
    length = 0
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        length += 1
    return paths[0][:length]


def _fork(paths: Sequence[_Path]) -> _Path:
    """Several paths as one: their common beginning, then branches."""
    meeting = _Meeting(paths)
    common = meeting.common
    if not meeting.layered:
        return common or paths[0][:1]
    groups: dict[object, list[_Path]] = {}
    for rest in meeting.layered:
        groups.setdefault(next(x for x in rest if not isinstance(x, _Start)), []).append(rest)
    branches = [g[0] if len(g) == 1 else _fork(list(map(_bare, g))) for g in groups.values()]
    if len(branches) == 1:
        return (*common, *branches[0])
    return (*(common or paths[0][:1]), _Fork(tuple(_spliced(branches))))


def _bare(path: _Path) -> _Path:
    return tuple(x for x in path if not isinstance(x, _Start))


def _spliced(branches: Iterable[_Path]) -> Iterator[_Path]:
    """Branches, without forks in which nothing but a fork stands."""
    for branch in branches:
        bare = _bare(branch)
        if len(bare) == 1 and isinstance(bare[0], _Fork):
            yield from bare[0].branches
        else:
            yield bare


def _is_gate(path: _Path, shape: Shape) -> bool:
    """Return True if its last layer gives one number per channel to a map with positions."""
    last = path[-1]
    one = isinstance(last, _Step) and last.layer.weighted and not last.layer.shown.output
    return one and prod(shape[2:]) > 1


def _attends(path: _Path) -> bool:
    """True if it ends in the weights of an attention, which come behind queries, keys, values."""
    return isinstance(path[-1], _Step) and path[-1].layer.family is Family.ATTENTION


def _is_separable(path: _Path) -> bool:
    """True if it is a depthwise convolution and a 1x1, GhostNet's projection (Han et al. 2019)."""
    layers = [x.layer for x in path if isinstance(x, _Step)]
    convolutions = all(x.family is Family.CONVOLUTION and x.weighted for x in layers)
    if not _is_row(path) or len(layers) != 2 or not convolutions:
        return False
    first, second = (x.shown.geometry for x in layers)
    if first is None or second is None:
        return False
    return 1 < first.groups == layers[0].shown.in_channels and set(second.kernel_size) == {1}


def _is_row(path: _Path) -> bool:
    return not any(isinstance(x, _Fork) for x in path)


def _weights(path: _Path) -> int:
    return sum(x.weights if isinstance(x, _Fork) else _weighted(x) for x in path)


def _count(path: _Path) -> int:
    return sum(x.layers if isinstance(x, _Fork) else isinstance(x, _Step) for x in path)


def _weighted(step: _Start | _Step) -> bool:
    return isinstance(step, _Step) and step.layer.weighted


def _marked(path: _Path, role: str) -> _Path:
    return tuple(
        _Step(x.layer._replace(shown=replace(x.layer.shown, role=role)))
        if isinstance(x, _Step)
        else x
        for x in path
    )


def _parts(path: _Path) -> tuple[StagePart, ...]:
    found: list[StagePart] = []
    for step in path:
        if isinstance(step, _Step):
            found.append(step.layer.shown)
        elif isinstance(step, _Fork):
            found.append(StageFork(tuple(map(_parts, step.branches))))
    return tuple(found)
