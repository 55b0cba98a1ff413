"""From a trace to explanations: every number of a layer as a formula with its numbers put in.

Arithmetic is text that is true: what it comes to is what the analyses say, by their own formulas
(the named factors of `ops.py`, the floor formula of `analyses/shapes.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from math import prod
from typing import NamedTuple

from cnnscope.analysis import layers, params, receptive_field, shapes, weights
from cnnscope.analysis.cost import item_size
from cnnscope.analysis.cost import notes as notes_of
from cnnscope.analysis.sizes import sentence
from cnnscope.ops import table as ops
from cnnscope.records import (
    AxisField,
    ExplainReport,
    Explanation,
    Field,
    KindShare,
    LayerRow,
    ModelExplanation,
    OpRecord,
    ParamRecord,
    ResolutionChange,
    Shape,
    SmallestInput,
    Step,
    Totals,
    Trace,
)
from cnnscope.text import operation

_KEEP_DIMENSIONS = (ops.NORMS - {ops.Family.WEIGHT_NORM}) | {ops.Family.COPY, ops.Family.DROPOUT}
_TOP = 5  # layers that the account of a model names
_AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_FORMULAS = {
    "convolution": "floor((in + 2*padding - dilation*(kernel - 1) - 1)/stride + 1)",
    "ceil": "ceil((in + 2*padding - dilation*(kernel - 1) - 1)/stride + 1)",
    "transposed": "(in - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1",
    "adaptive": "output_size",
}


def explain_layers(trace: Trace, pattern: str) -> ExplainReport:
    """Every formula of the layers that a path or a glob names.

    A glob means layers and not what only moves data or the blocks around them, unless it names
    nothing else.

    Raises:
        RequestError: there is no such layer.
    """
    view = _View(trace)
    return ExplainReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=tuple(
            Explanation(view.rows[i], tuple(view.steps(i))) for i in _chosen(view.rows, pattern)
        ),
    )


def _chosen(rows: Sequence[LayerRow], pattern: str) -> list[int]:
    exact = [i for i, row in enumerate(rows) if row.path == pattern and row.depth]
    if exact:
        return exact
    if any(c in pattern for c in "*?["):
        found = [i for i, row in enumerate(rows) if row.depth and fnmatchcase(row.path, pattern)]
        single = [i for i in found if rows[i].leaf and not rows[i].minor]
        if found:
            return single or found
    return [rows.index(layers.find(rows[1:], pattern))]


class _Part(NamedTuple):
    """Place of a row in the trace: its call (-1 for an operation) and its own operations."""

    call: int
    ops: tuple[int, ...]


class _View:
    """A trace with what its explanations read again and again."""

    def __init__(self, trace: Trace, fields: layers.Fields | None = None) -> None:
        self.trace = trace
        self.fields = receptive_field.fields(trace) if fields is None else fields
        self.rows = layers.rows(trace, self.fields)
        self.owned = params.owners(trace)
        self.producer = {t: i for i, record in enumerate(trace.ops) for t in record.outputs}
        self.weight_ops = {op.op for op in weights.weight_ops(trace)}
        self.calls: dict[tuple[str, int], int] = {}
        self.times: Counter[str] = Counter()
        self.numbers: list[int] = []  # of each call: how manieth of its module
        for index, call in enumerate(trace.calls):
            path = trace.modules[call.module].path
            self.times[path] += 1
            self.numbers.append(self.times[path])
            self.calls[path, self.times[path]] = index
        self.own: dict[int, list[int]] = {}
        self.life: dict[int, tuple[int, int]] = {}  # storage: first and last operation on it
        for index, record in enumerate(trace.ops):
            for tensor in (*record.tensors, *record.outputs):
                storage = trace.tensors[tensor].storage
                self.life[storage] = (self.life.get(storage, (index,))[0], index)

    def part(self, row: LayerRow) -> _Part:
        """Place of the row in the trace."""
        if row.kind == "module":
            call = self.trace.index.calls[row.path, row.call]
            return _Part(call, tuple(self.trace.index.own_ops.get(call, ())))
        made_by = self.trace.index.maker.get(row.tensor)
        return _Part(-1, () if made_by is None else (made_by,))

    def steps(self, index: int) -> Iterable[Step]:
        """All steps of a row, in the order in which a person asks."""
        row = self.rows[index]
        if row.kind == "parameter":
            yield _product_step("parameters", row.name, row.output_shapes[0])
            return
        part = self.part(row)
        if not row.leaf:
            yield from _block_steps(self, index)
        else:
            yield from _shape_steps(self, row, part)
            yield from _origin_steps(self, row, part)
            yield from _parameter_steps(self, row, part)
            yield from _cost_steps(self, row, part)
        yield from _field_steps(self, row, part)
        yield from _memory_steps(self, row)


# --------------------------------------------------------------------------- writing it down


def _times(factors: Iterable[int | Shape]) -> str:
    """64*3*7*7: a shape is the product of its sizes."""
    flat = [n for f in factors for n in (f if isinstance(f, tuple) else (f,))]
    return "*".join(map(str, flat)) or "1"


def _product_step(topic: str, formula: str, sizes: Shape) -> Step:
    return Step(topic, formula, _times(sizes), prod(sizes))


def _sum(terms: Sequence[int]) -> str:
    """3*64 + 128: terms that repeat are counted."""
    groups = [(value, len(list(same))) for value, same in groupby(t for t in terms if t)]
    return " + ".join(f"{n}*{value}" if n > 1 else str(value) for value, n in groups) or "0"


def _factor_terms(factors: Sequence[ops.Factors]) -> tuple[str, str, int]:
    """Formula, arithmetic and value of a sum of products; equal products are counted.

    A batch of one goes without saying, and so does one step.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for named in factors:
        kept = {k: _whole(k, v) for k, v in named.items() if not _silent(k, v)}
        counts[" * ".join(kept) or "1", _times(kept.values())] += 1
    formulas = dict.fromkeys(formula for formula, _ in counts)
    terms = _counted((product, count) for (_, product), count in counts.items())
    return " + ".join(formulas), terms, sum(map(ops.product, factors))


def _counted(terms: Iterable[tuple[str, int]]) -> str:
    """96*16 + 12*4*32: products with how many there are of each."""
    return " + ".join(f"{count}*{product}" if count > 1 else product for product, count in terms)


def _silent(name: str, value: int | Shape) -> bool:
    return value in (1, (1,)) and (name == "batch" or name.startswith("steps"))


def _whole(name: str, value: int | Shape) -> int | Shape:
    return _unbatched(value) if isinstance(value, tuple) and "elements" in name else value


def _unbatched(sizes: Shape) -> Shape:
    return sizes[1:] if len(sizes) > 1 and sizes[0] == 1 else sizes


# ------------------------------------------------------------------------------- the output


def _shape_steps(view: _View, row: LayerRow, part: _Part) -> Iterable[Step]:
    """The sizes that come out, by the floor formula where the layer slides."""
    found = _slide(view, row, part)
    if found is None:
        yield from _joined_channels(view, part)
        return
    slide, given = found
    form = "ceil" if slide.geometry.ceil_mode and slide.form == "pool" else slide.form
    formula = _FORMULAS.get(form, _FORMULAS["convolution"])
    names = _AXIS_NAMES[slide.axes]
    texts = [shapes.formula(slide, given, axis) for axis in range(slide.axes)]
    for text in dict.fromkeys(texts):
        same = [name for name, other in zip(names, texts, strict=True) if other == text]
        arithmetic, _, value = text.rpartition(" = ")
        if slide.form == "adaptive":
            arithmetic = value
        yield Step(f"output {' and '.join(same)}", formula, arithmetic, int(value))


def _slide(view: _View, row: LayerRow, part: _Part) -> tuple[shapes.Slide, Shape] | None:
    """Geometry of a row that slides, and its input."""
    trace = view.trace
    slides = [
        (slide, ops.Op(trace, trace.ops[i]).first)
        for i in part.ops
        if (slide := shapes.of_op(trace, trace.ops[i]))
    ]
    slide = slides[0][0] if slides else None
    if part.call >= 0:
        slide = shapes.of_call(trace, trace.modules[trace.calls[part.call].module], part.ops)
    given = slides[0][1] if slides else next(iter(row.input_shapes), ())
    return None if slide is None or len(given) <= slide.axes else (slide, given)


def _joined_channels(view: _View, part: _Part) -> Iterable[Step]:
    """Parts that a concatenation lays end to end, as layers of a recurrent network do."""
    steps = (_joined(view, view.trace.ops[index], "output size") for index in part.ops)
    yield from dict.fromkeys(step for step in steps if step is not None)


def _joined(view: _View, record: OpRecord, topic: str) -> Step | None:
    entry = ops.lookup(record.name)
    if entry.family is not ops.Family.CONCATENATE:
        return None
    op = ops.Op(view.trace, record)
    dim = int(op.get("dim", 0)) % len(op.out)
    sizes = [shape[dim] for shape in op.shapes("tensors") if shape != (0,)]
    named = "channels" if dim == 1 else f"dimension {dim}"
    return Step(topic, f"{named} laid end to end", " + ".join(map(str, sizes)), op.out[dim])


# ------------------------------------------------------------------- where features come from


def _origin_steps(view: _View, row: LayerRow, part: _Part) -> Iterable[Step]:
    """Origin of the features of a linear layer, or of the channels of a convolution.

    Products that make a weight (of a spectral norm, of an orthogonal matrix) read no features.
    """
    trace = view.trace
    layer = [index for index in part.ops if index in view.weight_ops]
    for index in layer or shapes.without_weights(trace, part.ops):
        record = trace.ops[index]
        entry, op = ops.lookup(record.name), ops.Op(trace, record)
        if not entry.multiplies:
            continue
        if entry.family is ops.Family.CONVOLUTION:
            step = _channel_origin(view, record)
        elif row.features is not None:
            name = next((n for n in ("mat1", "input", "self") if op.has(n)), "")
            source = record.inputs.get(name)
            step = None
            if isinstance(source, int) and op.shape(name)[-1] == row.features[0]:
                step = _feature_origin(view, source, row.features[0])
        else:
            step = None
        if step is not None:
            yield step
        return


def _channel_origin(view: _View, record: OpRecord) -> Step | None:
    """Of a convolution that reads a concatenation."""
    source = record.inputs["input"]
    assert isinstance(source, int)  # noqa: S101  for the type checker
    found, dims = _back(view, source, (1,))
    made_by = view.trace.index.maker.get(found)
    if made_by is None or dims != (1,):
        return None
    step = _joined(view, view.trace.ops[made_by], "in channels")
    return step if step is not None and "channels" in step.formula else None


def _feature_origin(view: _View, source: int, features: int) -> Step | None:
    """The sizes that were flattened into the features of a linear layer."""
    trace = view.trace
    rank = len(trace.tensors[source].shape)
    found, dims = _back(view, source, (rank - 1,))
    sizes = tuple(trace.tensors[found].shape[d] for d in dims)
    if prod(sizes) != features:
        return None
    where = _maker(view, found)
    what = "flattened" if len(sizes) > 1 else "its features"
    return Step("in features", f"output of {where}, {what}", _times(sizes), features)


def _back(view: _View, tensor: int, dims: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The tensor that these dimensions come from, unchanged but for their order and grouping."""
    trace = view.trace
    while (index := view.trace.index.maker.get(tensor)) is not None:
        record = trace.ops[index]
        entry, op = ops.lookup(record.name), ops.Op(trace, record)
        sources = [t for t in record.inputs.values() if isinstance(t, int)]
        moved = _before(entry, op, dims)
        if moved is None or record.outputs[0] != tensor or not sources:
            return tensor, dims
        tensor, dims = sources[0], moved
    return tensor, dims


def _before(entry: ops.Entry, op: ops.Op, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """The same dimensions before an operation; None where they come to be."""
    if entry.family in _KEEP_DIMENSIONS:
        return dims
    if entry.elementwise:
        alone = len(op.record.inputs) == 1
        return dims if alone and op.first == op.out else None
    if entry.family is ops.Family.VIEW:
        groups = shapes.regrouped(op.first, op.out)
        found: list[int] = []
        inside = False
        for before, after in groups:
            whole = set(after) <= set(dims)
            inside = (inside and not after) or (bool(after) and whole)
            if set(after) & set(dims) and not whole:
                return None
            found += before if inside else []
        return tuple(found)
    rank = len(op.out)
    if entry.family is ops.Family.PERMUTE:
        order = [int(d) % rank for d in op.get("dims", ())]
        return tuple(order[d] for d in dims)
    return None


def _maker(view: _View, tensor: int) -> str:
    index = view.trace.index.maker.get(tensor)
    if index is None:
        return "the model's input"
    record = view.trace.ops[index]
    module = view.trace.index.module(record)
    if module is not None and (
        module.library or len(view.trace.index.own_ops.get(record.call, ())) == 1
    ):
        return module.path or "the model"
    label = ops.lookup(record.name).label
    path = view.trace.index.path(record)
    return f"{label} in {path}" if path else label


# ------------------------------------------------------------------------------- parameters


def _parameter_steps(view: _View, row: LayerRow, part: _Part) -> Iterable[Step]:
    owned = view.owned.get(part.call, [])
    named = [p for p in view.trace.params if _holder(p.path) == row.path and part.call >= 0]
    weights = [p for p in owned if not p.buffer]
    if weights:
        yield _sizes_step(view, "parameters", weights, row)
    elif row.call > 1 and any(not p.buffer for p in named):
        yield Step("parameters", value=0, arithmetic="0", note="counted where it was called first")
    buffers = [p for p in owned if p.buffer]
    if buffers:
        yield _sizes_step(view, "buffers", buffers, row)
    idle = [p.path.rpartition(".")[2] for p in named if not p.used]
    if idle and row.call == 1:
        yield Step("not read", note=f"{', '.join(idle)}: counted in no layer")
    for param in weights:
        if param.aliases:
            yield Step("tied", note=f"{param.path} is also {', '.join(param.aliases)}")


def _holder(path: str) -> str:
    return path.rpartition(".")[0]


def _sizes_step(view: _View, topic: str, held: Sequence[ParamRecord], row: LayerRow) -> Step:
    """64*3*7*7 + 64, or 2*64 for two of one shape."""
    named = [
        (p.path.removeprefix(f"{row.path}."), view.trace.tensors[p.tensor].shape) for p in held
    ]
    counts = Counter(sizes for _, sizes in named)
    terms = _counted((_times(sizes), count) for sizes, count in counts.items())
    formula = " + ".join(_described(view, row, name, sizes) for name, sizes in named)
    return Step(topic, formula, terms, sum(prod(sizes) for _, sizes in named))


def _described(view: _View, row: LayerRow, name: str, sizes: Shape) -> str:
    """Names of the sizes of a weight, as torch.nn documents them."""
    call = view.trace.index.calls.get((row.path, row.call))
    if call is None or name != "weight" or len(sizes) < 2:
        return name
    base = view.trace.modules[view.trace.calls[call].module].base
    if base.startswith("ConvTranspose"):
        return "in channels * out channels per group * kernel"
    if base.startswith("Conv"):
        return "out channels * in channels per group * kernel"
    return "out features * in features" if base == "Linear" else name


# ------------------------------------------------------------------------------------ costs


def _cost_steps(view: _View, row: LayerRow, part: _Part) -> Iterable[Step]:
    """MACs, FLOPs and element operations of each operation that has any, and their sums."""
    trace = view.trace
    roles = _roles(view, part.ops)
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


_Groups = dict[tuple[str, str], list[ops.Factors]]  # what and how: the products of each operation


def _costs_of(groups: _Groups, topic: str, total: int) -> Iterable[Step]:
    single = len(groups) == 1
    for (name, how), same in groups.items():
        formula, arithmetic, value = _factor_terms(same)
        yield Step(topic if single else f"{topic}, {name}", formula, arithmetic, value, how)
    if len(groups) > 1:
        values = [sum(map(ops.product, same)) for same in groups.values()]
        yield Step(topic, "sum", " + ".join(map(str, values)), total)


def _unknown_steps(view: _View, part: _Part) -> Iterable[Step]:
    names = Counter(view.trace.ops[i].name for i in part.ops)
    for name, count in names.items():
        if ops.lookup(name).kind is ops.Kind.UNKNOWN:
            times = f" (x{count})" if count > 1 else ""
            yield Step("no formula", note=f"for {operation(name)}{times}: its cost is not known")


def _roles(view: _View, own: Sequence[int]) -> dict[int, str]:
    """Products of attention: those that a softmax reads, and those that read one."""
    trace = view.trace
    roles: dict[int, str] = {}
    for index in own:
        record = trace.ops[index]
        entry = ops.lookup(record.name)
        sources = [t for t in record.inputs.values() if isinstance(t, int)]
        if entry.family is ops.Family.SOFTMAX:
            scores = _reached(view, sources[0], ops.Kind.PRODUCT)
            if scores is not None:
                roles[scores] = "QK^T"
        elif entry.multiplies and any(
            _reached(view, t, ops.Family.SOFTMAX) is not None for t in sources
        ):
            roles[index] = "attention * V"
    return roles


def _reached(view: _View, tensor: int, wanted: ops.Kind | ops.Family) -> int | None:
    """The first operation of a kind or family that a tensor comes from.

    Through what rearranges; to a product also through what scales or masks.
    """
    while (index := view.trace.index.maker.get(tensor)) is not None:
        record = view.trace.ops[index]
        entry = ops.lookup(record.name)
        if wanted in (entry.kind, entry.family):
            return index
        through = (
            (ops.Kind.REARRANGE, ops.Kind.ELEMENT)
            if wanted is ops.Kind.PRODUCT
            else (ops.Kind.REARRANGE,)
        )
        sources = [t for t in record.inputs.values() if isinstance(t, int)]
        if entry.kind not in through or not sources:
            return None
        tensor = sources[0]
    return None


# ----------------------------------------------------------------------------------- blocks


def _block_steps(view: _View, index: int) -> Iterable[Step]:
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
            yield Step(topic, _names(parts), _sum([v for _, v in parts]), whole)
        if name == "macs" and whole:
            yield Step("FLOPs", "2 * MACs", f"2*{whole}", 2 * whole)
    if row.unknown_ops:
        yield Step("no formula", note=f"for {row.unknown_ops} of its operations")


def _names(parts: Sequence[tuple[str, int]]) -> str:
    if len(parts) <= 8:
        return " + ".join(name for name, _ in parts)
    return f"sum over {len(parts)} parts, from {parts[0][0]} to {parts[-1][0]}"


# --------------------------------------------------------------------------- receptive field


_ALL = "all of the input: a function of every position"


def _field_steps(view: _View, row: LayerRow, part: _Part) -> Iterable[Step]:
    """The recurrence where it holds, the hull where paths join; else what is done instead."""
    field = view.fields[row.tensor] if row.tensor >= 0 else None
    if field is None:
        return
    if field.unknown:
        yield Step("receptive field", note=f"not known: {field.reason}")
        return
    if all(axis.local_size is None for axis in field.axes):
        yield Step("receptive field", note=_ALL)
        return
    sources = _sources(view, part)
    names = _AXIS_NAMES[len(field.axes)]
    found = [_axis_steps(view, row, part, sources, i, a) for i, a in enumerate(field.axes)]
    for steps in dict.fromkeys(found):
        same = [name for name, other in zip(names, found, strict=True) if other == steps]
        suffix = "" if len(same) == len(names) else f", {' and '.join(same)}"
        for step in steps:
            yield Step(
                f"{step.topic}{suffix}", step.formula, step.arithmetic, step.value, step.note
            )
    whole = [n for n, a in zip(names, field.axes, strict=True)
             if a.size is None and a.local_size is not None]  # fmt: skip
    if whole and len(whole) < len(names):
        note = f"along {' and '.join(whole)} it also depends on every position"
        yield Step("context", note=note)
    elif field.global_context:
        yield Step("context", note="it also depends on a function of the whole image")


def _sources(view: _View, part: _Part) -> list[Field]:
    """Fields of what goes in, of those inputs that see the image."""
    trace = view.trace
    if part.call >= 0:
        tensors: Iterable[int] = trace.calls[part.call].inputs
    else:
        tensors = [t for i in part.ops for t in trace.ops[i].tensors]
    fields = [view.fields[t] for t in tensors]
    return [f for f in fields if f is not None and not f.unknown]


def _axis_steps(
    view: _View, row: LayerRow, part: _Part, sources: list[Field], index: int, after: AxisField
) -> tuple[Step, ...]:
    if after.local_size is None:
        return (Step("receptive field", note=_ALL),)
    before = [f.axes[index] for f in sources]
    local = [a for a in before if a.local_size is not None]
    slid = _slide(view, row, part) if row.leaf else None
    steps: tuple[Step, ...] = ()
    if len(before) == 1 and slid is not None and slid[0].form in ("convolution", "pool"):
        offset = slid[0].axes - len(sources[0].axes)
        if index + offset >= 0:
            steps = _recurrence(slid[0], index + offset, before[0])
    elif len(before) > 1 and len(local) == len(before) and row.leaf:
        steps = _hull(local)
    elif len(local) == 1 and row.leaf and _numbers(local[0]) == _numbers(after):
        steps = (_unchanged(after),)
    if (
        _regular(after)
        and steps
        and tuple(s.value for s in steps[:3]) == _numbers(after)[: len(steps)]
    ):
        return steps
    return (_instead(row, local, after),)


def _regular(axis: AxisField) -> bool:
    return axis.local_size is not None and not axis.sizes and not axis.explicit


def _numbers(axis: AxisField) -> tuple[int | float | None, ...]:
    return axis.local_size, axis.stride, axis.padding


def _unchanged(axis: AxisField) -> Step:
    size = axis.local_size
    return Step("receptive field", "r, unchanged: a unit reads one unit", str(size), size)


def _recurrence(slide: shapes.Slide, axis: int, before: AxisField) -> tuple[Step, ...]:
    """Size r + dilation*(kernel - 1)*jump, then jump*stride (Araujo, Norris, Sim 2019)."""
    g = slide.geometry
    kernel, stride, dilation = g.kernel_size[axis], g.stride[axis], g.dilation[axis]
    size, jump, pad = before.local_size, before.stride, before.padding
    if size is None or not isinstance(jump, int) or pad is None or before.sizes:
        return ()
    if isinstance(g.padding, str):
        padding = dilation * (kernel - 1) // 2 if g.padding == "same" else 0
    else:
        padding = g.padding[axis]
    return (
        Step(
            "receptive field",
            "r + dilation*(kernel - 1)*jump",
            f"{size} + {dilation}*({kernel} - 1)*{jump}",
            size + dilation * (kernel - 1) * jump,
        ),
        Step("jump", "jump*stride", f"{jump}*{stride}", jump * stride),
        Step(
            "field padding", "P + padding*jump", f"{pad} + {padding}*{jump}", pad + padding * jump
        ),
    )


def _hull(paths: Sequence[AxisField]) -> tuple[Step, ...]:
    """Paths of one jump: from the first pixel that any sees to the last."""
    if len({a.stride for a in paths}) > 1 or not all(map(_regular, paths)):
        return ()
    pairs = dict.fromkeys((a.local_size, a.padding) for a in paths if a.local_size is not None)
    known = [(r, p) for r, p in pairs if p is not None]
    if len(known) < len(pairs):
        return ()
    value = max(r - p for r, p in known) + max(p for _, p in known)
    if len(known) == 1:
        return (Step("receptive field", "both paths see the same", str(value), value),)
    after = ", ".join(f"{r} - {p}" for r, p in known)
    arithmetic = f"max({after}) + max({', '.join(str(p) for _, p in known)})"
    return (Step("receptive field", "paths join: max(r - P) + max(P)", arithmetic, value),)


def _instead(row: LayerRow, before: Sequence[AxisField], after: AxisField) -> Step:
    """No recurrence: what the analysis found, and how."""
    sizes = after.sizes or (after.local_size,)
    shown = " to ".join(map(str, (sizes[0], sizes[-1]) if len(sizes) > 1 else sizes))
    if not row.leaf:
        was = before[0].local_size if len(before) == 1 else None
        came = f"from {was} to {shown}" if was is not None else shown
        return Step(
            "receptive field", value=after.local_size, note=f"{came}, layer by layer inside"
        )
    how = (
        "exact intervals at this input size" if after.explicit else "every unit's interval followed"
    )
    stride = f", one unit every {after.stride:g} pixels" if after.stride is not None else ""
    return Step("receptive field", value=after.local_size, note=f"{shown}{stride}: {how}")


# ----------------------------------------------------------------------------------- memory


def _memory_steps(view: _View, row: LayerRow) -> Iterable[Step]:
    """Bytes of what comes out, and from when to when they are there."""
    trace = view.trace
    if row.tensor < 0:
        return
    part = view.part(row)
    outputs = trace.calls[part.call].outputs if part.call >= 0 else trace.ops[part.ops[0]].outputs
    records = [trace.tensors[t] for t in outputs[: len(row.output_shapes)]]
    terms = [f"{_times(_unbatched(r.shape))}*{item_size(r.dtype)}" for r in records]
    types = ", ".join(dict.fromkeys(r.dtype for r in records))
    formula = f"elements of the output * bytes of {types}"
    note = _life(view, row)
    yield Step("memory", formula, " + ".join(terms), row.activation_bytes, note)


def _life(view: _View, row: LayerRow) -> str:
    """The operation that made the memory of an output, and the last one that reads it."""
    trace = view.trace
    index = trace.tensors[row.tensor].storage
    if trace.storages[index].born < 0:
        return "memory of the model's input or weights: none of its own"
    first, last = view.life[index]
    returned = any(trace.tensors[t].storage == index for t in trace.outputs)
    until = "returned by the model" if returned else f"needed until {_named(view, last)}"
    record = trace.ops[first]
    maker = trace.index.path(record) or ops.base_name(record.name)
    own = first == view.trace.index.maker.get(row.tensor) or f"{maker}.".startswith(f"{row.path}.")
    return until if own else f"shared with what {_named(view, first)} made; {until}"


def _named(view: _View, op: int) -> str:
    """The layer that ran an operation, with the number of the call where it ran several times."""
    record = view.trace.ops[op]
    path = view.trace.index.path(record)
    if not path:
        return ops.base_name(record.name)
    number = view.numbers[record.call]
    return f"{path} #{number}" if view.times[path] > 1 else path


# -------------------------------------------------------------------------- the whole model


def explain_model(
    trace: Trace,
    totals: Totals,
    sizes: Sequence[SmallestInput] = (),
    fields: layers.Fields | None = None,
) -> ModelExplanation:
    """A model in words and numbers: where its weights, its work and its resolution are.

    Args:
        trace: of the model.
        totals: of its report.
        sizes: which sizes of its input work, as `cnnscope.models.run.examine_spec` tells.
        fields: the receptive field of every tensor, where they are known already.
    """
    view = _View(trace, fields)
    single = [i for i, row in enumerate(view.rows) if row.leaf and row.kind != "parameter"]
    bare = [i for i, row in enumerate(view.rows) if row.kind == "parameter"]
    return ModelExplanation(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        totals=totals,
        kinds=_kinds([view.rows[i] for i in (*single, *bare)]),
        params=_dearest(view, [*single, *bare], "params", "parameters"),
        macs=_dearest(view, single, "macs", "MACs"),
        resolution=_resolution(view, single),
        smallest=sizes[0] if sizes else None,
        along=tuple(sizes[1:]),
        notes=notes_of(trace),
        sizes=tuple(map(sentence, sizes)),
    )


def _kinds(rows: Sequence[LayerRow]) -> tuple[KindShare, ...]:
    """Kinds of layers that hold parameters or do products, the one with most MACs first."""
    found: dict[str, list[LayerRow]] = {}
    for row in rows:
        if row.params or row.macs:
            found.setdefault(row.operation, []).append(row)
    shares = [
        KindShare(name, len(same), sum(r.params for r in same), sum(r.macs for r in same))
        for name, same in found.items()
    ]
    return tuple(sorted(shares, key=lambda s: (-s.macs, -s.params)))


def _dearest(view: _View, indices: Sequence[int], name: str, topic: str) -> tuple[Explanation, ...]:
    ranked = sorted(indices, key=lambda i: -getattr(view.rows[i], name))[:_TOP]
    return tuple(
        Explanation(view.rows[i], tuple(s for s in view.steps(i) if s.topic == topic))
        for i in ranked
        if getattr(view.rows[i], name)
    )


class _Change(NamedTuple):
    """Sizes of maps before and after a row."""

    before: Shape
    after: Shape
    row: LayerRow


def _resolution(view: _View, indices: Sequence[int]) -> tuple[ResolutionChange, ...]:
    """Layers whose units are fewer or more than those of what they read, in order.

    Operations that only move data (a window attention's views, the slices of a patch merging) are
    one change of the module that they are in, or none where that gives back the size it was given.
    """
    changes = [change for i in indices if (change := _change(view, view.rows[i])) is not None]
    found: dict[tuple[Shape, Shape], list[LayerRow]] = {}
    for before, after, row in _folded(view, changes):
        found.setdefault((before, after), []).append(row)
    return tuple(
        ResolutionChange(before, after, tuple(same)) for (before, after), same in found.items()
    )


def _change(view: _View, row: LayerRow) -> _Change | None:
    """Change of resolution by a row; None if there is none."""
    after = view.fields[row.tensor] if row.tensor >= 0 else None
    sources = _sources(view, view.part(row))
    if after is None or after.unknown or not sources:
        return None
    before = max((tuple(a.units for a in f.axes) for f in sources), key=prod)
    now = tuple(a.units for a in after.axes)
    if before == now or not any(before):
        return None
    if not any(now):
        return _Change(before, (), row)
    # An axis whose positions are not told apart has one.
    return _Change(tuple(n or 1 for n in before), tuple(n or 1 for n in now), row)


def _folded(view: _View, changes: Sequence[_Change]) -> Iterable[_Change]:
    """Changes of layers as they are; those of one module by operations that move data as one."""
    moved: dict[int, list[_Change]] = {}  # by the row of the module
    for change in changes:
        if _inside(view, change.row):
            moved.setdefault(change.row.parent, []).append(change)
    for change in changes:
        if not _inside(view, change.row):
            yield change
            continue
        same = moved.pop(change.row.parent, ())
        if same and same[0].before != same[-1].after:
            yield _together(view, same)


def _together(view: _View, same: Sequence[_Change]) -> _Change:
    """Several changes as one: the module's where that is what it does to its input."""
    before, after = same[0].before, same[-1].after
    module = view.rows[same[0].row.parent]
    whole = _change(view, module)
    is_all = whole is not None and (whole.before, whole.after) == (before, after)
    return _Change(before, after, module if is_all else same[-1].row)


def _inside(view: _View, row: LayerRow) -> bool:
    """True if a row only moves data for the module around it, which is not the model itself."""
    if not row.minor or row.parent <= 0:
        return False
    module = view.trace.calls[view.part(row).call].module if row.kind == "module" else None
    return module is None or not view.trace.modules[module].library
