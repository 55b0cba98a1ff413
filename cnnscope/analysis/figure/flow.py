"""From a trace to the steps of a figure and the edges between them.

Data is followed operation by operation. A layer that an architecture table shows
(`analysis/blocks.py`) is a step; an operation that reads maps of several steps is a join, and every
other one passes on what it reads: its result belongs to the step before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from msgspec.structs import replace

from cnnscope.analysis import blocks
from cnnscope.analysis.figure.selections import selections
from cnnscope.analysis.graph.tidy import operands
from cnnscope.analysis.weights import RECURRENT, weight_ops
from cnnscope.ops import table
from cnnscope.ops.table import Family
from cnnscope.records import figure as f
from cnnscope.records.stages import StageLayer
from cnnscope.records.trace import OpRecord, Shape, Trace
from cnnscope.text import operation

_ACTIVATIONS = ("tanh", "sigmoid")  # arithmetic to the table of operations, as exp is
_EMBEDDING, _SELECTION = "embedding", "selection"
_ALIKE = 1.2  # times as many positions: a class token more is no other resolution
Ends = tuple[int, int]  # of an edge


@dataclass(eq=False, slots=True)
class Made:
    """A step in the making: the operation that makes it (-1: none), and what is known of it."""

    kind: str
    family: str
    op: int = -1
    channels: int | None = None
    positions: Shape = ()
    label: str = ""
    path: str = ""
    layer: StageLayer | None = None
    inside: tuple[StageLayer, ...] = ()
    after: dict[str, None] = field(default_factory=dict)

    def step(self) -> f.Step:
        """The step itself."""
        return f.Step(
            kind=self.kind,
            family=self.family,
            channels=self.channels,
            positions=self.positions,
            label=self.label,
            path=self.path,
            layer=self.layer,
            inside=self.inside,
            after=tuple(self.after),
        )


class Read(NamedTuple):
    """A map as a step reads it."""

    shape: Shape
    projection: StageLayer | None = None


def flow(trace: Trace, *, whole: bool, apart: bool = False) -> f.Flow:
    """The steps of a network and how data flows between them.

    Args:
        trace: of the network.
        whole: draw a block whose paths join inside as one step; but no block that joins maps of
            different resolutions, as the decoder of a U does.
        apart: nor one that reads more than one map.
    """
    found = _Flow(trace)
    found.follow()
    found.read_inputs()
    found.absorb_scores()
    found.leave_out_projections()
    found.gather_selections()
    if whole:
        found.contract(apart=apart)
    return found.flow()


class _Flow:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.layers = blocks.shown_layers(trace)
        self.units = [unit for unit in blocks.find(trace).units if unit.call >= 0]
        self.same = {other: op.op for op in weight_ops(trace) for other in op.others}
        self.steps: dict[int, Made] = {}  # by number, in the order in which they ran
        self.edges: dict[Ends, Read] = {}
        self.of: dict[int, int] = {}  # the step of each tensor
        self.of_op: dict[int, int] = {}
        self.recurrent: dict[int, int] = {}  # the step of a call of a recurrent layer
        self.first: StageLayer | None = None  # the first convolution
        self.unbatched = self._is_unbatched()

    def follow(self) -> None:
        """Find all steps and edges."""
        for number, tensor in enumerate(dict.fromkeys(self.trace.inputs)):
            self._add_input(number, tensor)
        for place, record in enumerate(self.trace.ops):
            read = [t for t in operands(self.trace)[place] if t in self.of]
            if read:
                self._pass(place, record, read)

    def _add_input(self, number: int, tensor: int) -> None:
        specs = self.trace.input_specs
        channels, positions = self._input_sizes(self.trace.tensors[tensor].shape)
        label = f"input {number + 1}" if len(specs) > 1 else "input"
        name = specs[number].name if number < len(specs) else ""
        made = Made(f.INPUT, f.INPUT, -1, channels, positions, name or label)
        self.of[tensor] = self._add(made)

    def _input_sizes(self, shape: Shape) -> tuple[int | None, Shape]:
        """Channels and positions of an input; a detector reads images without a batch axis."""
        first = self.first
        if first is not None and first.geometry is not None:
            axes = len(first.geometry.kernel_size)
            if 1 < axes == len(shape) - 1 and shape[0] == first.in_channels:
                return shape[0], shape[1:]
        return self._sizes(shape, None)

    def _add(self, made: Made) -> int:
        number = len(self.steps)
        self.steps[number] = made
        return number

    def _pass(self, place: int, record: OpRecord, read: Sequence[int]) -> None:
        """Follow the data through one operation."""
        sources = list(dict.fromkeys(self.of[t] for t in read))
        entry = table.lookup(record.name)
        call = self._recurrent(record.call)
        if call >= 0:
            if call not in self.recurrent:
                self.recurrent[call] = self._add(self._recurrence(place, call))
            step = self.recurrent[call]
        elif place in self.layers:
            step = self._add(self._layer(place, record, sources[0]))
        elif self.same.get(place) in self.of_op:
            step = self.of_op[self.same[place]]  # one of several that are one layer
        elif entry.multiplies and (attention := self._attention(sources)) is not None:
            step = attention  # whose weights are multiplied with the values
            self._attend(self.steps[step], record)
        elif table.base_name(record.name) == _EMBEDDING:
            step = self._add(self._embedding(place, record))
        elif len(sources) > 1 and record.outputs:
            step = self._add(self._join(place, record, sources))
        else:
            step = sources[0]
            self._note(step, record, entry)
        self.of_op[place] = step
        for tensor in read:
            if self.of[tensor] != step:
                shape = self.trace.tensors[tensor].shape
                self.edges.setdefault((self.of[tensor], step), Read(shape))
        self.of.update(dict.fromkeys(record.outputs, step))

    def _recurrent(self, call: int) -> int:
        """The call of a recurrent layer that an operation runs in, -1 for none."""
        calls, modules = self.trace.calls, self.trace.modules
        while call >= 0 and modules[calls[call].module].base not in RECURRENT:
            call = calls[call].parent
        return call

    def _recurrence(self, place: int, call: int) -> Made:
        """A recurrent layer with all of its time steps, directions and layers."""
        record = self.trace.calls[call]
        module = self.trace.modules[record.module]
        out = self.trace.tensors[record.outputs[0]].shape if record.outputs else ()
        steps = out[1:-1] if module.hyper.get("batch_first") else out[:1]
        positions = steps if len(out) > 2 else ()
        layer = next((self.layers[op][0] for op in self.trace.index.all_ops.get(call, ())
                      if op in self.layers), None)  # fmt: skip
        return Made(
            f.LAYER, Family.RECURRENT.value, place, out[-1] if out else None, positions,
            module.base, module.path, layer,
        )  # fmt: skip

    def _attention(self, sources: Sequence[int]) -> int | None:
        """The attention among the steps that an operation reads."""
        named = Family.ATTENTION.value
        return next((n for n in sources if self.steps[n].family == named), None)

    def _attend(self, made: Made, record: OpRecord) -> None:
        """Set the channels of an attention, those of all of its heads."""
        heads = made.layer.heads if made.layer is not None else None
        module = self.trace.index.module(record)
        whole = module.hyper.get("embed_dim") if module is not None else None
        if heads is not None and record.outputs:
            made.channels = heads * self.trace.tensors[record.outputs[0]].shape[-1]
        elif isinstance(whole, int):
            made.channels = whole

    def _note(self, step: int, record: OpRecord, entry: table.Entry) -> None:
        """Note an activation behind a step."""
        name = table.base_name(record.name)
        if entry.family in (Family.ACTIVATION, Family.SOFTMAX) or name in _ACTIVATIONS:
            self.steps[step].after[operation(record.name).rstrip("_")] = None

    # -- what a step is

    def _embedding(self, place: int, record: OpRecord) -> Made:
        """A table with a vector for each number that it reads."""
        out = self.trace.tensors[record.outputs[0]].shape
        path = self.trace.index.path(record)
        return Made(f.LAYER, _EMBEDDING, place, out[-1], out[1:-1], _EMBEDDING, path)

    def _layer(self, place: int, record: OpRecord, source: int) -> Made:
        layer, family = self.layers[place]
        out = self.trace.tensors[record.outputs[0]].shape
        channels, _ = self._sizes(out, self.steps[source], layer.output)
        if layer.out_channels is not None:
            channels = layer.out_channels
        before = self.steps[source]
        layer = _of_sequence(layer, before)
        positions = layer.output
        if family is Family.ATTENTION:
            made = Made(f.LAYER, family.value, place, None, before.positions, "", layer.path, layer)
            if table.lookup(record.name).family is Family.ATTENTION:  # in one operation
                self._attend(made, record)
            return made
        if layer.kind == "linear" and not positions and before.positions:
            positions = self._rows(out, before)
        return Made(f.LAYER, family.value, place, channels, positions, "", layer.path, layer)

    def _rows(self, out: Shape, before: Made) -> Shape:
        """Positions of a linear layer that has those of all samples in one row, as attention."""
        batch = 1
        if self.trace.inputs and not self.unbatched:
            batch = self.trace.tensors[self.trace.inputs[0]].shape[0]
        rows = out[0] // batch if len(out) == 2 and batch else 0
        if rows == prod(before.positions):
            return before.positions
        return (rows,) if rows > 1 else ()

    def _join(self, place: int, record: OpRecord, sources: Sequence[int]) -> Made:
        out = self.trace.tensors[record.outputs[0]].shape
        known = max(
            (self.steps[s] for s in sources),
            key=lambda one: (len(one.positions), one.kind != f.INPUT),  # which nothing is known of
        )
        channels, positions = self._sizes(out, known)
        entry = table.lookup(record.name)
        return Made(
            f.JOIN, str(entry.family.value), place, channels, positions,
            operation(record.name).rstrip("_"), self.trace.index.path(record),
        )  # fmt: skip

    def _is_unbatched(self) -> bool:
        """Return True if the first convolution reads a map without a dimension of samples."""
        for place, (layer, _) in self.layers.items():
            if layer.geometry is not None:
                out = self.trace.tensors[self.trace.ops[place].outputs[0]].shape
                self.first = layer
                return len(out) == len(layer.geometry.kernel_size) + 1
        return False

    def _sizes(
        self, shape: Shape, source: Made | None, known: Shape = ()
    ) -> tuple[int | None, Shape]:
        """Channels and positions of a map; channels are first but in rows of tokens.

        Args:
            shape: of the tensor.
            source: the step before.
            known: positions, where the layer knows them.
        """
        body = shape if self.unbatched else shape[1:]
        if len(body) < 2:
            return (body[0] if body else None), ()
        last = known == body[:-1] and known != body[1:]
        if not known and source is not None:
            same = body[-1] == source.channels != body[0]
            last = same and body[1:] != source.positions
        channels, positions = (body[-1], body[:-1]) if last else (body[0], body[1:])
        return channels, () if set(positions) == {1} else positions

    # -- what is known afterwards

    def read_inputs(self) -> None:
        """Set the sizes of inputs whose channels are last, as the layers that read them say."""
        for tensor in dict.fromkeys(self.trace.inputs):
            shape, number = self.trace.tensors[tensor].shape, self.of[tensor]
            for (source, target), read in self.edges.items():
                if source == number and _are_rows(shape, read.shape):
                    self._read_rows(self.steps[number], self.steps[target], shape)

    def _read_rows(self, made: Made, reader: Made, shape: Shape) -> None:
        if reader.family == _EMBEDDING:
            made.channels, made.positions = 1, reader.positions
        elif reader.family == Family.RECURRENT.value and len(shape) > 1:
            made.channels, made.positions = shape[-1], reader.positions
        elif reader.family == Family.LINEAR.value and len(shape) > 2:
            made.channels, made.positions = shape[-1], shape[1:-1]

    def absorb_scores(self) -> None:
        """Draw products of queries and keys as a part of the attention that they are made for."""
        into, out_of = _ends(self.edges)
        home = {}
        for number, made in self.steps.items():
            if made.kind != f.JOIN or len(out_of[number]) != 1:
                continue
            (reader,) = out_of[number]
            attends = self.steps[reader].family == Family.ATTENTION.value
            if attends and table.lookup(self.trace.ops[made.op].name).multiplies:
                queries, *_ = into[number]
                self.steps[reader].positions = self.steps[queries].positions
                home[number] = reader
        self._become(home)

    def gather_selections(self) -> None:
        """Draw operations that select among results as one join."""
        joins = {n: self.trace.ops[made.op].name for n, made in self.steps.items()
                 if made.kind == f.JOIN}  # fmt: skip
        families = {n: made.family for n, made in self.steps.items()}
        for label, groups in selections(joins, families, self.edges).items():
            for group in groups:
                last = self.steps[group[-1]]
                last.label, last.family = label, _SELECTION
                self._become(dict.fromkeys(group[:-1], group[-1]))
        self.steps = {n: self.steps[n] for n in _ordered(self.steps, self.edges)}

    def _become(self, home: Mapping[int, int]) -> None:
        """Draw steps as a part of others."""
        self.steps = {n: made for n, made in self.steps.items() if n not in home}
        self.edges = _mapped(self.edges, home)
        self.of = {t: home.get(step, step) for t, step in self.of.items()}

    # -- shortcuts and blocks

    def leave_out_projections(self) -> None:
        """Make an edge of each projection beside a residual path."""
        for unit in self.units:
            inside = self._inside(unit.call)
            wanted = {layer.path for layer in unit.shortcuts}
            for number in inside:
                layer = self.steps[number].layer
                if layer is not None and layer.path in wanted:
                    self._bypass(number)

    def _bypass(self, number: int) -> None:
        into = [ends for ends in self.edges if ends[1] == number]
        out_of = [ends for ends in self.edges if ends[0] == number]
        if len(into) != 1 or len(out_of) != 1:
            return
        before, after = into[0][0], out_of[0][1]
        if (before, after) in self.edges:
            return
        layer = self.edges[into[0]].projection or self.steps[number].layer
        read = self.edges[out_of[0]]
        del self.edges[into[0]], self.edges[out_of[0]], self.steps[number]
        self.edges[before, after] = Read(read.shape, layer)
        self.of = {t: before if step == number else step for t, step in self.of.items()}

    def _inside(self, call: int) -> list[int]:
        """Steps that ran inside a call, in order."""
        ops = self.trace.index.all_ops.get(call, ())
        found = dict.fromkeys(self.of_op[op] for op in ops if op in self.of_op)
        return [n for n in found if n in self.steps and self.steps[n].op in self._ops(call)]

    def _ops(self, call: int) -> frozenset[int]:
        return frozenset(self.trace.index.all_ops.get(call, ()))

    def contract(self, *, apart: bool) -> None:
        """Draw each block whose paths join inside as one step."""
        units = [unit for unit in self.units if self.trace.calls[unit.call].parent >= 0]
        kinds = {unit.kind for unit in units if self._joins(unit)}
        for unit in units:  # of a class some of whose blocks join paths, the others as well
            inside = self._inside(unit.call)
            if unit.kind in kinds and len(inside) > 1 and self._is_one(inside, apart=apart):
                self._contract(unit, inside)

    def _joins(self, unit: blocks.Unit) -> bool:
        return any(self.steps[n].kind == f.JOIN for n in self._inside(unit.call))

    def _is_one(self, inside: Sequence[int], *, apart: bool) -> bool:
        """Return True if all that enters from outside has one resolution (or is one map)."""
        ends = set(inside)
        enter = {a for a, b in self.edges if b in ends and a not in ends}
        return len(enter if apart else {self.steps[n].positions for n in enter}) <= 1

    def _contract(self, unit: blocks.Unit, inside: Sequence[int]) -> None:
        outputs = self.trace.calls[unit.call].outputs
        keep = max(inside)  # its place in the order of running
        shape = self.trace.tensors[outputs[0]].shape if outputs else ()
        source = self.steps[inside[-1]]
        channels, positions = self._sizes(shape, source) if shape else (source.channels, ())
        layers = [self.steps[n].layer for n in inside]
        block = Made(
            f.BLOCK, f.BLOCK, self.steps[keep].op, channels, unit.output or positions,
            unit.kind, unit.path, None, tuple(x for x in layers if x is not None),
        )  # fmt: skip
        block.after.update(self.steps[inside[-1]].after)
        self.steps[keep] = block
        self._become({n: keep for n in inside if n != keep})

    # -- the result

    def flow(self) -> f.Flow:
        """Steps that an output depends on, numbered anew."""
        ends = dict.fromkeys(self.of[t] for t in self.trace.outputs if t in self.of)
        kept = _reaching(self.edges, ends) | {
            n for n, step in self.steps.items() if step.kind == f.INPUT
        }
        order = [n for n in self.steps if n in kept]
        place = {n: at for at, n in enumerate(order)}
        gone = [s for n, s in self.steps.items() if n not in kept and s.kind != f.JOIN]
        edges = [
            self._edge((place[a], place[b]), self.steps[a], self.steps[b], read)
            for (a, b), read in self.edges.items()
            if a in place and b in place
        ]
        return f.Flow(
            name=self.trace.source.name,
            steps=tuple(self.steps[n].step() for n in order),
            edges=tuple(sorted(edges, key=lambda edge: (edge.target, edge.source))),
            ends=tuple(sorted(place[n] for n in ends if n in place)),
            left_out=len(gone),
        )

    def _edge(self, ends: Ends, source: Made, target: Made, read: Read) -> f.FlowEdge:
        channels, positions = self._sizes(read.shape, source)
        adds = target.family == Family.ADD.value
        given, made = prod(source.positions), prod(positions)
        same = channels == source.channels and given < _ALIKE * made and made < _ALIKE * given
        grows = adds and (read.projection is not None or not same)
        return f.FlowEdge(*ends, channels, positions, read.projection, grows)


def _are_rows(shape: Shape, read: Shape) -> bool:
    """Return True if what is read of a tensor are its rows, in any order."""
    return shape[-1:] == read[-1:] and prod(shape) == prod(read)


def _of_sequence(layer: StageLayer, before: Made) -> StageLayer:
    """A layer without the axis of one position that torch gives a sequence to pool it."""
    slide = layer.geometry
    if slide is None or len(before.positions) != 1 or len(slide.kernel_size) != 2:
        return layer
    if slide.kernel_size[0] != 1 or layer.output[:1] not in ((), (1,)):
        return layer
    last = {
        name: getattr(slide, name)[-1:]
        for name in ("kernel_size", "stride", "padding", "dilation", "output_padding")
    }
    return replace(layer, output=layer.output[1:], geometry=replace(slide, **last))


def _ends(edges: Iterable[Ends]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """What each step reads, and what reads each step."""
    into: dict[int, list[int]] = defaultdict(list)
    out_of: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        into[target].append(source)
        out_of[source].append(target)
    return into, out_of


def _ordered(steps: Iterable[int], edges: Iterable[Ends]) -> list[int]:
    """Steps in an order in which none reads a later one, else as they ran."""
    before, _ = _ends(edges)
    found: dict[int, None] = {}
    for step in steps:
        waiting = [step]
        while waiting:
            at = waiting[-1]
            left = [source for source in before[at] if source not in found]
            if at in found or not left:
                found[waiting.pop()] = None
            else:
                waiting += left
    return list(found)


def _mapped(edges: Mapping[Ends, Read], home: Mapping[int, int]) -> dict[Ends, Read]:
    """Edges with other ends; none from a step to itself."""
    found: dict[Ends, Read] = {}
    for (source, target), read in edges.items():
        ends = home.get(source, source), home.get(target, target)
        if ends[0] != ends[1]:
            found.setdefault(ends, read)
    return found


def _reaching(edges: Iterable[Ends], ends: Iterable[int]) -> set[int]:
    """Steps from which edges lead to one of these, and these."""
    before, _ = _ends(edges)
    found, waiting = set(), list(ends)
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting += before[step]
    return found
