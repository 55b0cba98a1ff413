"""The smallest square input that a model works on, told from its trace alone.

The shapes of a trace are propagated for another input, operation by operation; operations that
share a receptive-field rule share a shape rule too. What a trace does not tell is where a size
written into an operation came from: views that split a size that depends on the input, slices,
and tensors made in the forward are sizes that are not known, and where one of them matters the
answer is that it cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, prod
from typing import Any

from cnnscope import ops
from cnnscope.analyses import shapes
from cnnscope.analyses.cost import op_path
from cnnscope.reach import rules
from cnnscope.records import ModuleRecord, OpRecord, Shape, SmallestInput, Trace

Size = int | None  # None: not known
Sizes = tuple[Size, ...]
_END = 2**31  # a slice that ends here or later ends where the tensor does


class BreaksError(Exception):
    """The operation raises on such shapes; the message says why."""


class UnclearError(Exception):
    """The trace does not tell; the message says what is missing."""


def smallest_input(trace: Trace) -> SmallestInput | None:
    """The smallest square input, other dimensions kept; None where the input is no image.

    Every side from 1 on is tried, up to the side that was traced.
    """
    given = [trace.tensors[t].shape for t in trace.inputs]
    if not given or any(len(shape) < 3 for shape in given):
        return None
    layer = reason = ""
    for side in range(1, max(given[0][-2:]) + 1):
        index, error = _first_problem(trace, side)
        if error is None:
            return SmallestInput(side, side, layer, reason)
        layer = _where(trace, trace.ops[index])
        if isinstance(error, UnclearError):
            return SmallestInput(None, side, layer, "", str(error))
        reason = str(error)
    return SmallestInput(None, max(given[0][-2:]) + 1, layer, reason, "no square input works")


def _first_problem(trace: Trace, side: int) -> tuple[int, Exception | None]:
    """The first operation that does not take an input of that side, or whose shape is unclear."""
    now: list[Sizes] = [t.shape for t in trace.tensors]
    for tensor in trace.inputs:
        now[tensor] = (*trace.tensors[tensor].shape[:-2], side, side)
    merged: dict[Shape, Sizes] = {}
    for index, record in enumerate(trace.ops):
        try:
            results = _Step(trace, record, now, merged).run()
        except (BreaksError, UnclearError) as error:
            return index, error
        for tensor, sizes in zip(record.outputs, results, strict=False):
            now[tensor] = sizes
    return -1, None


def _where(trace: Trace, record: OpRecord) -> str:
    entry = ops.lookup(record.name)
    path = op_path(trace, record)
    module = trace.modules[trace.calls[record.call].module] if record.call >= 0 else None
    if module is not None and module.library:
        return path
    label = entry.label if entry is not None else ops.base_name(record.name)
    return f"{path}.{label.replace(' ', '_')}" if path else label.replace(" ", "_")


class _Step:
    """One operation on other shapes than those that were traced.

    `merged` has what views merged before: sizes as traced, and as they are now.
    """

    def __init__(
        self, trace: Trace, record: OpRecord, now: list[Sizes], merged: dict[Shape, Sizes]
    ) -> None:
        self.trace, self.record, self.now, self.merged = trace, record, now, merged
        self.op = ops.Op(trace, record)

    def run(self) -> list[Sizes]:
        """The shapes that come out."""
        recorded: list[Sizes] = [self.trace.tensors[t].shape for t in self.record.outputs]
        entry = ops.lookup(self.record.name)
        rule = entry.field if entry is not None else None
        changed = any(self.now[t] != self.trace.tensors[t].shape for t in self._inputs())
        if rule in _OWN_SIZES:
            return [_OWN_SIZES[rule](self)] + [_unknown(len(r)) for r in recorded[1:]]
        if not changed:
            return recorded
        if entry is not None and entry.kind is ops.Kind.CREATE:
            return [_unknown(len(r)) for r in recorded]
        if rule in _MANY:
            return _MANY[rule](self)
        if rule is None or rule not in _RULES:
            label = entry.label if entry is not None else ops.base_name(self.record.name)
            raise UnclearError(f"the shape that {label} gives is not followed")
        first = _RULES[rule](self)
        return [first, *(first if len(r) == len(first) else _unknown(len(r)) for r in recorded[1:])]

    # -- what rules read

    def _inputs(self) -> list[int]:
        flat: list[int] = []
        for value in self.record.inputs.values():
            flat += [t for t in (value if isinstance(value, tuple) else (value,)) if t is not None]
        return flat

    @property
    def all(self) -> list[Sizes]:
        """Shapes of all inputs."""
        return [self.now[t] for t in self._inputs()]

    @property
    def first(self) -> Sizes:
        """The shape of the first input."""
        return self.now[self._inputs()[0]]

    def shape(self, name: str) -> Sizes:
        """The shape of one input."""
        value = self.record.inputs[name]
        assert isinstance(value, int)  # noqa: S101  for the type checker
        return self.now[value]

    def dim(self, name: str = "dim", default: int = 0, rank: int | None = None) -> int:
        """A dimension counted from the left."""
        return int(self.op.get(name, default)) % (rank or max(len(self.op.first), 1))

    def module(self) -> ModuleRecord | None:
        """The module of torch.nn whose own operation this is."""
        if self.record.call < 0:
            return None
        module = self.trace.modules[self.trace.calls[self.record.call].module]
        return module if module.library else None


def _unknown(rank: int) -> Sizes:
    return (None,) * rank


def _known(sizes: Sequence[Size]) -> Shape:
    if None in sizes:
        raise UnclearError("it depends on a size that the trace does not tell")
    return tuple(s for s in sizes if s is not None)


# ---------------------------------------------------------------------------- shape by shape


def _same(step: _Step) -> Sizes:
    return step.first


def _broadcast(step: _Step) -> Sizes:
    """Operands of one shape, or of size 1. A size that is not known may be any."""
    olds = [step.trace.tensors[t].shape for t in step._inputs()]  # noqa: SLF001
    rank = max(map(len, olds))
    out: list[Size] = []
    for d in range(rank):
        sizes = [s[d - rank + len(s)] for s in step.all if d - rank + len(s) >= 0]
        before = {o[d - rank + len(o)] for o in olds if d - rank + len(o) >= 0} - {1}
        out.append(_agreed(sizes, before))
    return tuple(out)


def _agreed(sizes: list[Size], before: set[int]) -> Size:
    large = {s for s in sizes if s is not None and s != 1}
    if len(large) > 1:
        raise BreaksError(f"sizes {' and '.join(map(str, sorted(large)))} do not agree")
    if None in sizes and large and large != before:
        raise UnclearError("it meets a size that the trace does not tell")
    if None in sizes and not large:
        return None
    return large.pop() if large else 1


def _reduced(step: _Step) -> Sizes:
    if step.op.has("other"):
        return _broadcast(step)
    rank = len(step.first)
    wanted = step.op.get("dim")
    listed = wanted if isinstance(wanted, tuple) else (wanted,) if wanted is not None else ()
    dims = {int(d) % rank for d in listed} or set(range(rank))
    if len(step.op.out) == rank:
        return tuple(1 if d in dims else s for d, s in enumerate(step.first))
    return tuple(s for d, s in enumerate(step.first) if d not in dims)


def _normalised(step: _Step) -> Sizes:
    """A norm over trailing dimensions has weights of their sizes."""
    wanted = tuple(step.op.get("normalized_shape", ()))
    given = step.first[len(step.first) - len(wanted) :]
    if None not in given and given != wanted:
        raise BreaksError(f"normalises {_shown(wanted)} and is given {_shown(given)}")
    return step.first


def _batch_norm(step: _Step) -> Sizes:
    """Statistics of its own, as instance norm takes, need more than one value for a channel."""
    values = (*step.first[:1], *step.first[2:])
    own = step.op.get("training") or step.op.get("use_input_stats")
    if own and None not in values and prod(_known(values)) == 1:
        raise BreaksError("takes statistics of a single value")
    return step.first


def _slide(step: _Step) -> Sizes:
    """By the floor formula; sizes below 1 cannot be."""
    slide = shapes.of_op(step.trace, step.record)
    if slide is None:
        raise UnclearError("how it slides is not known")
    if None in step.first[-slide.axes :]:
        return _slide_anywhere(step, slide)
    given = _known(step.first)
    _check_channels(step, given, slide)
    _check_global(step, slide)
    out = slide.predict(given)
    for axis, size in enumerate(out[-slide.axes :]):
        if size < 1:
            raise BreaksError(shapes.formula(slide, given, axis))
    return out


def _slide_anywhere(step: _Step, slide: shapes.Slide) -> Sizes:
    """Sizes that are not known stay so, where the kernel fits into its padding on any."""
    least = slide.predict((1,) * (slide.axes + 1))
    if min(least) < 1:
        raise UnclearError("whether its kernel fits depends on a size that the trace does not tell")
    lead, out = step.first[: -slide.axes], step.op.out
    return (*lead[:-1], out[-slide.axes - 1], *_unknown(slide.axes))


def _check_channels(step: _Step, given: Shape, slide: shapes.Slide) -> None:
    if not step.op.has("weight"):
        return
    channels = given[-slide.axes - 1]
    old = step.op.first[-slide.axes - 1]
    if channels != old:
        raise BreaksError(f"takes {old} channels and is given {channels}")


def _check_global(step: _Step, slide: shapes.Slide) -> None:
    """A functional pool over everything may have been told the size of what it was given."""
    if slide.form != "pool" or step.module() is not None:
        return
    spatial = step.op.first[-slide.axes :]
    if slide.geometry.kernel_size == spatial and step.first[-slide.axes :] != spatial:
        raise UnclearError("its window is as large as what it was given, perhaps because of it")


def _adaptive(step: _Step) -> Sizes:
    module = step.module()
    slide = shapes.of_module(module) if module is not None else None
    if slide is not None and slide.form == "adaptive":
        lead, spatial = step.first[: -slide.axes], step.first[-slide.axes :]
        wanted = zip(slide.output_size, spatial, strict=True)
        return (*lead, *(size if w is None else w for w, size in wanted))
    axes = len(step.op.get("output_size", (0, 0)))
    return (*step.first[:-axes], *step.op.out[-axes:])


def _resampled(step: _Step) -> Sizes:
    """By its factor; an output size of its own is known for a module only."""
    axes = len(step.first) - 2
    factors = step.op.get("scale_factors") or [
        step.op.get(f"scales_{a}" if axes > 1 else "scales") for a in "dhw"[3 - axes :]
    ]
    lead, spatial = step.first[:2], step.first[2:]
    if all(factors):
        scaled = zip(spatial, factors, strict=True)
        return (*lead, *(None if s is None else floor(s * float(f)) for s, f in scaled))
    module = step.module()
    fixed = module is not None and module.hyper.get("size") is not None
    return (*lead, *(step.op.out[2:] if fixed else _unknown(axes)))


def _created(step: _Step) -> Sizes:
    """As large as what it is modelled after, else as large as somebody said."""
    name = ops.base_name(step.record.name)
    if name.endswith("_like") or name in ("fill", "zero"):
        return step.first
    return tuple(s if s <= 1 else None for s in step.op.out)


def _expanded(step: _Step) -> Sizes:
    """Sizes that are kept follow the input; ones are stretched to what somebody said."""
    out, old = step.op.out, step.op.first
    added = len(out) - len(old)
    sizes: list[Size] = []
    for d, size in enumerate(out):
        if d < added or old[d - added] != size:
            sizes.append(None if size > 1 else size)
        else:
            sizes.append(step.first[d - added])
    return tuple(sizes)


def _viewed(step: _Step) -> Sizes:
    """Dimensions that are merged are merged again, and those split that were merged before.

    Linear layers merge the positions of a map, and split them again.
    """
    old, new, out = step.op.first, step.first, step.op.out
    sizes: list[Size] = []
    for ins, outs in shapes.regrouped(old, out):
        given = tuple(new[d] for d in ins)
        before, after = tuple(old[d] for d in ins), tuple(out[d] for d in outs)
        if given == before:
            sizes += after
        elif sum(size != 1 for size in after) <= 1:
            sizes += _merged(given, after)
            step.merged[before] = given
        else:
            sizes += _split_again(step, given, before, after)
    return tuple(sizes)


def _merged(given: Sizes, after: Shape) -> Sizes:
    """All in one dimension, the one that held more than one before."""
    whole = None if None in given else prod(_known(given))
    at = next((d for d, size in enumerate(after) if size != 1), 0)
    if not after and whole != 1:
        raise UnclearError("a view drops a dimension that is no longer of one")
    return tuple(whole if d == at else 1 for d in range(len(after)))


def _split_again(step: _Step, given: Sizes, before: Shape, after: Shape) -> Sizes:
    found = step.merged.get(after)
    same = found is not None and None not in (*found, *given)
    if same and prod(_known(found or ())) == prod(_known(given)):
        return found or ()
    parts = " and ".join(str(size) for size in after if size != 1)
    raise UnclearError(f"a view splits {prod(before)}, which depends on the input, into {parts}")


def _permuted(step: _Step) -> Sizes:
    rank = len(step.first)
    return tuple(step.first[int(d) % rank] for d in step.op.get("dims", ()))


def _transposed(step: _Step) -> Sizes:
    sizes = list(step.first)
    if len(sizes) > 1:
        a, b = step.dim("dim0", 0 if len(sizes) == 2 else -2), step.dim("dim1", -1)
        sizes[a], sizes[b] = sizes[b], sizes[a]
    return tuple(sizes)


def _unsqueezed(step: _Step) -> Sizes:
    at = step.dim(rank=len(step.first) + 1)
    return (*step.first[:at], 1, *step.first[at:])


def _squeezed(step: _Step) -> Sizes:
    """Those that were dropped must still be one; others must not have become so."""
    wanted = step.op.get("dim")
    rank = len(step.first)
    listed = wanted if isinstance(wanted, tuple) else (wanted,) if wanted is not None else ()
    dims = {int(d) % rank for d in listed} if listed else set(range(rank))
    gone = {d for d in dims if step.op.first[d] == 1}
    if any((step.first[d] == 1) != (d in gone) for d in dims):
        raise UnclearError("a squeeze drops other dimensions at other sizes")
    return tuple(s for d, s in enumerate(step.first) if d not in gone)


def _sliced(step: _Step) -> Sizes:
    at = step.dim()
    size, old = step.first[at], step.op.first[at]
    if size == old:
        return (*step.first[:at], step.op.out[at], *step.first[at + 1 :])
    start, end = step.op.get("start") or 0, step.op.get("end")
    every = int(step.op.get("step", 1) or 1)
    if size is None:
        return (*step.first[:at], None, *step.first[at + 1 :])
    if end is not None and 0 <= end < _END:
        raise UnclearError(f"a slice ends at {end}, perhaps because of the input")
    first = max(size + start, 0) if start < 0 else min(start, size)
    last = size if end is None or end >= _END else size + end
    length = max(0, -((first - last) // every))
    return (*step.first[:at], length, *step.first[at + 1 :])


def _selected(step: _Step) -> Sizes:
    at, index = step.dim(), step.op.get("index", 0)
    size = step.first[at]
    if size is not None and not -size <= index < size:
        raise BreaksError(f"selects {index} of {size}")
    return (*step.first[:at], *step.first[at + 1 :])


def _concatenated(step: _Step) -> Sizes:
    at = step.dim(rank=len(step.op.out))
    kept = [(t, s) for t in step._inputs() if (s := step.now[t]) != (0,)]  # noqa: SLF001
    out: list[Size] = []
    for d in range(len(step.op.out)):
        sizes = [s[d] for _, s in kept]
        if d == at:
            out.append(None if None in sizes else sum(_known(sizes)))
        else:
            if len({s for s in sizes if s is not None}) > 1:
                shown = " and ".join(str(s) for s in sorted({s for s in sizes if s is not None}))
                raise BreaksError(f"cannot concatenate sizes {shown}")
            before = {step.trace.tensors[t].shape[d] for t, _ in kept} - {1}
            out.append(_agreed(sizes, before))
    return tuple(out)


def _stacked(step: _Step) -> Sizes:
    at = step.dim(rank=len(step.op.out))
    if len(set(step.all)) > 1:
        raise UnclearError("it stacks tensors of different shapes")
    return (*step.first[:at], len(step.all), *step.first[at:])


def _padded(step: _Step) -> Sizes:
    """Fixed in a module; elsewhere the widths may have been computed from the input."""
    widths = tuple(step.op.get("pad") or step.op.get("padding") or ())
    if step.module() is None and not any(widths):
        raise UnclearError("a pad of nothing was computed, perhaps from the input")
    return _bordered(step, widths, "constant" in step.record.name)


def _bordered(step: _Step, widths: Sequence[int], constant: bool) -> Sizes:
    sizes = list(step.first)
    for position in range(len(widths) // 2):
        pads = widths[2 * position : 2 * position + 2]
        at = len(sizes) - 1 - position
        size = sizes[at]
        changed = size != step.op.first[at]
        if changed and step.module() is None and pads[0] != pads[1]:
            raise UnclearError("a pad is uneven, perhaps because of the input")
        if size is None or not changed:
            sizes[at] = None if size is None else size + sum(pads)
            continue
        sizes[at] = size + sum(pads)
        least = 1 if constant else max(pads) + ("reflection" in step.record.name)
        if size + min(sum(pads), 0) < 1 or size < least:
            raise BreaksError(f"cannot pad {size} by {pads[0]} and {pads[1]}")
    return tuple(sizes)


def _shuffled(step: _Step) -> Sizes:
    factor = int(step.op.get("upscale_factor", 1))
    *lead, channels, height, width = step.first
    if channels is None or height is None or width is None:
        return (*lead, channels, None, None)
    return (*lead, channels // factor**2, height * factor, width * factor)


def _multiplied(step: _Step) -> Sizes:
    """(..., rows, inner) by (..., inner, columns)."""
    left = next(n for n in ("mat1", "batch1", "self") if step.op.has(n))
    right = next((n for n in ("mat2", "batch2") if step.op.has(n)), None)
    if right is None:
        raise UnclearError("a product of a matrix and a vector is not followed")
    a, b = step.shape(left), step.shape(right)
    _check_features(a[-1], b[-2])
    return (*a[:-1], b[-1])


def _check_features(given: Size, taken: Size) -> None:
    if given is None or taken is None:
        raise UnclearError("how many features it is given is not known")
    if given != taken:
        raise BreaksError(f"takes {taken} features and is given {given}")


def _linear(step: _Step) -> Sizes:
    given, weight = step.shape("input"), step.shape("weight")
    _check_features(given[-1], weight[-1])
    return (*given[:-1], weight[-2])


def _attended(step: _Step) -> Sizes:
    return (*step.shape("query")[:-1], step.shape("value")[-1])


# ------------------------------------------------------------------- several shapes come out


def _split(step: _Step) -> list[Sizes]:
    at = step.dim()
    if step.first[at] != step.op.first[at]:
        raise UnclearError("it splits a size that depends on the input")
    return [
        (*step.first[:at], step.trace.tensors[t].shape[at], *step.first[at + 1 :])
        for t in step.record.outputs
    ]


def _unbound(step: _Step) -> list[Sizes]:
    at = step.dim()
    if step.first[at] != step.op.first[at]:
        raise UnclearError("it takes apart a size that depends on the input")
    return [(*step.first[:at], *step.first[at + 1 :])] * len(step.record.outputs)


def _shown(sizes: Sequence[Any]) -> str:
    return "x".join(map(str, sizes))


_Rule = Callable[[_Step], Sizes]
_OWN_SIZES: dict[rules.Rule | None, _Rule] = {  # sizes that may come from the input unseen
    rules.constant: _created,
    rules.expand: _expanded,
    rules.nearest: _resampled,
    rules.nearest_exact: _resampled,
    rules.linear: _resampled,
    rules.cubic: _resampled,
}
_MANY: dict[rules.Rule | None, Callable[[_Step], list[Sizes]]] = {
    rules.split: _split,
    rules.unbind: _unbound,
}
_RULES: dict[rules.Rule, _Rule] = {
    rules.elementwise: _broadcast,
    rules.same: _same,
    rules.along: _same,
    rules.cumulative: _same,
    rules.flip: _same,
    rules.roll: _same,
    rules.copied: _same,
    rules.batch_norm: _batch_norm,
    rules.group_norm: _same,
    rules.layer_norm: _normalised,
    rules.reduction: _reduced,
    rules.convolution: _slide,
    rules.pool: _slide,
    rules.adaptive_pool: _adaptive,
    rules.view: _viewed,
    rules.permute: _permuted,
    rules.transpose: _transposed,
    rules.unsqueeze: _unsqueezed,
    rules.squeeze: _squeezed,
    rules.slice_: _sliced,
    rules.select: _selected,
    rules.concatenate: _concatenated,
    rules.stack: _stacked,
    rules.pad: _padded,
    rules.border: _padded,
    rules.pixel_shuffle: _shuffled,
    rules.matmul: _multiplied,
    rules.linear_layer: _linear,
    rules.attention: _attended,
}
