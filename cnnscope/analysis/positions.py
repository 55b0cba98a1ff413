"""Find the input, and its dimensions, whose positions receptive fields are about.

The first operation that slides tells: the dimensions that it slides over are followed back through
permutes and views to those of an input. A channels-last image, a raw waveform and a batch of
frames need no convention, and a vector that is broadcast over a map has no positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.analysis import follow, shapes
from cnnscope.analysis.memo import per_trace
from cnnscope.ops import table
from cnnscope.ops.fields import layout, maps, rules
from cnnscope.ops.fields.layout import Atom, State
from cnnscope.ops.table import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnnscope.records.trace import OpRecord, Shape, Trace

_SLIDES = (
    Family.CONVOLUTION,
    Family.DEFORMABLE_CONVOLUTION,
    Family.QUANTISED_CONVOLUTION,
    Family.MAX_POOL,
    Family.AVERAGE_POOL,
    Family.RESAMPLE,
)
_MOVES = (Family.SLICE, Family.ROLL, Family.FLIP, Family.CUMULATIVE, Family.PAD)
_ATTENDS = (Family.ATTENTION, Family.MATMUL)
_IMAGE, _VIDEO = 4, 5  # ranks whose last dimensions are positions, where nothing tells


class Positions(NamedTuple):
    """The input (its place among the trace's) and those of its dimensions that are positions."""

    input: int
    dims: tuple[int, ...]

    def size(self, shape: Shape) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(shape[d] for d in self.dims)


@per_trace
def positions(trace: Trace) -> Positions | None:
    """The first input that a layer slides over, None where nothing has positions.

    Without a sliding operation, an image of rank 4 has two axes and one of rank 5 three; of other
    inputs they are the dimensions that are sliced, padded, flipped or summed up, or over which
    there is attention.
    """
    first = next((r for r in trace.ops if _slides(trace, r)), None)
    lost = False
    for number, tensor in enumerate(trace.inputs):
        shape = trace.tensors[tensor].shape
        if first is None and len(shape) in (_IMAGE, _VIDEO):
            return Positions(number, tuple(range(2, len(shape))))
        found = _Search(trace, tensor).dims(first)
        if found:
            return Positions(number, found)
        if found is None:
            lost = True
    return _by_rank(trace, first) if first is not None and lost else None


def _by_rank(trace: Trace, record: OpRecord) -> Positions | None:
    """The last dimensions, where the operations before the first sliding one are not known."""
    count = _slides_over(trace, record)
    for number, tensor in enumerate(trace.inputs):
        rank = len(trace.tensors[tensor].shape)
        if rank > count:
            return Positions(number, tuple(range(rank - count, rank)))
    return None


class _Search:
    """One input followed, each of its dimensions an axis of its own."""

    def __init__(self, trace: Trace, tensor: int) -> None:
        self.trace = trace
        shape = trace.tensors[tensor].shape
        dims = tuple((Atom(size, d, 1),) for d, size in enumerate(shape))
        self.states: list[rules.Seen] = [None] * len(trace.tensors)
        self.states[tensor] = State(dims, tuple(map(maps.identity, shape)))
        self.memo: dict[Any, Any] = {}

    def dims(self, first: OpRecord | None) -> tuple[int, ...] | None:
        """Its positions; () where it has none, None where they are lost on the way.

        Args:
            first: the first sliding operation of the trace, None if there is none.
        """
        moved: set[int] = set()
        lost = False
        for record in self.trace.ops:
            main = _main(record, self.states)
            if main is not None and first is not None and _slides(self.trace, record):
                lost = lost or isinstance(main, rules.Unknown)
                if isinstance(main, State):
                    if found := self._under(record, main):
                        return found
                    lost = lost or any(axis.lost for axis in main.axes)
            if first is None and isinstance(main, State):
                moved |= self._moved(record, main)
            follow.step(self.trace, record, self.states, self.memo)
        return None if lost else tuple(sorted(moved))

    def _under(self, record: OpRecord, state: State) -> tuple[int, ...]:
        """The axes that a sliding operation slides over."""
        count = _slides_over(self.trace, record)
        dims = state.layout[len(state.layout) - count :]
        axes = {a.axis for dim in dims for a in dim} - {-1}
        if len(axes) > count:  # digits of channels among them (pixel shuffle): the outer ones
            axes = {dim[0].axis for dim in dims if dim}
        return tuple(sorted(axes)) if axes and min(axes) >= 0 else ()

    def _moved(self, record: OpRecord, state: State) -> set[int]:
        """The axes that a slice, a pad, a flip, a roll or a running sum moves positions of."""
        entry, op = table.lookup(record.name), table.Op(self.trace, record)
        if entry.family in _ATTENDS and entry.field is not None:
            return self._attended(record, state)
        if entry.family not in _MOVES or len(op.first) != len(op.out):
            return set()
        if op.first != op.out:
            dims = [d for d, (a, b) in enumerate(zip(op.first, op.out, strict=True))
                    if a != b and b > 1]  # fmt: skip
        elif entry.family is Family.SLICE:
            dims = []
        else:
            given = op.get("dims", op.get("dim", ()))
            given = given if isinstance(given, tuple) else (given,)
            dims = [d % len(op.first) for d in given]
        return {axis for d in dims if (axis := layout.alone(state, d)) is not None}

    def _attended(self, record: OpRecord, main: State) -> set[int]:
        """The axis of the queries, where they are multiplied by keys of the same one."""
        key = next(iter(list(record.inputs.values())[1:]), None)
        other = self.states[key] if isinstance(key, int) else None
        rank = len(main.layout)
        if not isinstance(other, State) or min(rank, len(other.layout)) < 2:
            return set()
        keys = (
            -2 if table.lookup(record.name).family is Family.ATTENTION else -1
        )  # products have them transposed already
        axis = layout.alone(main, rank - 2)
        same = axis is not None and axis == layout.alone(other, len(other.layout) + keys)
        return {axis} if same and axis is not None else set()


def _main(record: OpRecord, states: Sequence[rules.Seen]) -> rules.Seen:
    value = next(iter(record.inputs.values()), None)
    return states[value] if isinstance(value, int) else None


def _slides(trace: Trace, record: OpRecord) -> bool:
    """True if an operation slides over positions, and not over channels as a local norm does."""
    entry = table.lookup(record.name)
    slides = entry.family in _SLIDES and entry.field is not None
    return slides and not shapes.over_channels(trace, record)


def _slides_over(trace: Trace, record: OpRecord) -> int:
    """Axes that an operation slides over; one where torch lends a 1d operation a second of one."""
    op = table.Op(trace, record)
    if op.has("weight"):
        return len(op.shape("weight")) - 2
    named = op.axes or 2
    return 1 if named == 2 and op.first[-2:-1] == op.out[-2:-1] == (1,) else named


def _masked(trace: Trace) -> Iterator[OpRecord]:
    """Convolutions whose weight is a product with a buffer that has a number for each tap."""
    buffers = {one.tensor for one in trace.params if one.buffer}
    for record in trace.ops if buffers else ():
        weight = record.inputs.get("weight")
        if isinstance(weight, int) and table.lookup(record.name).family is Family.CONVOLUTION:
            taps = trace.tensors[weight].shape[2:]
            shapes = (trace.tensors[t].shape for t in _factors(trace, weight) & buffers)
            if max(taps) > 1 and any(shape[-len(taps) :] == taps for shape in shapes):
                yield record


def _factors(trace: Trace, product: int) -> set[int]:
    """The tensors whose product a tensor is, as far as it is one."""
    found, waiting = set[int](), [product]
    while waiting:
        tensor = waiting.pop()
        made = trace.index.maker.get(tensor)
        if made is not None and table.lookup(trace.ops[made].name).family is Family.MULTIPLY:
            waiting += set(trace.ops[made].tensors) - found
        found.add(tensor)
    return found


def notes(trace: Trace, found: Positions | None) -> tuple[str, ...]:
    """Notes on how receptive fields were found."""
    if found is None:
        return ()
    said = []
    given = [trace.tensors[t].shape for t in trace.inputs]
    own = given[found.input]
    count = len(found.dims)
    if found.dims != tuple(range(len(own) - count, len(own))):
        where = " and ".join(map(str, found.dims))
        plural = "s" if count > 1 else ""
        said.append(f"receptive fields: positions are dimension{plural} {where} of the input "
                    f"{_sizes(own)}, counted from 0")  # fmt: skip
    others = [i for i, shape in enumerate(given)
              if i != found.input and len(shape) > count and min(shape[-count:]) > 1]  # fmt: skip
    if others:
        names = [spec.name or "" for spec in trace.input_specs]
        left_out = ", ".join(f"{names[i] or i + 1} ({_sizes(given[i])})" for i in others)
        unnamed = not names[others[0]]
        mine = names[found.input] or f"input {found.input + 1}"
        said.append(f"receptive fields are those of {mine} ({_sizes(own)}); what is seen of "
                    f"{'input ' if unnamed else ''}{left_out} is left out")  # fmt: skip
    families = {table.lookup(record.name).family for record in trace.ops}
    if Family.DEFORMABLE_CONVOLUTION in families:
        said.append("receptive fields: a deformable convolution is taken at its regular grid; "
                    "where its offsets lead is not known")  # fmt: skip
    masked = next(_masked(trace), None)
    if masked is not None:
        where = trace.index.path(masked) or "the model"
        said.append(f"receptive fields: the kernel of {where} is multiplied by a buffer; taps that "
                    "it leaves out, as a mask does, count as seen")  # fmt: skip
    return tuple(said)


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape))
