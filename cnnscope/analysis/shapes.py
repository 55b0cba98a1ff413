"""The floor formula: a layer's output shape from its hyper-parameters alone.

Nothing here looks at what the trace says came out. The traced shape must agree, for every
convolution and pool, and a report lists where it does not.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor, prod
from typing import Any, NamedTuple

from cnnscope.ops import table
from cnnscope.records.summary import Geometry
from cnnscope.records.trace import ModuleRecord, OpRecord, Shape, Trace


class Slide(NamedTuple):
    """A layer that slides over its input, as far as shapes go."""

    form: str  # "convolution", "transposed", "pool" or "adaptive"
    geometry: Geometry
    axes: int
    channels: int | None  # out channels; a pool keeps those that it is given
    output_size: tuple[int | None, ...] = ()  # of an adaptive pool

    def predict(self, shape: Shape) -> Shape:
        """The output shape for an input shape (N, C, ...) or (C, ...); sizes may come out < 1."""
        lead, spatial = shape[: -self.axes], shape[-self.axes :]
        sizes = tuple(self._size(axis, size) for axis, size in enumerate(spatial))
        return (*lead[:-1], self.channels or lead[-1], *sizes)

    def _size(self, axis: int, size: int) -> int:
        g = self.geometry
        if self.form == "adaptive":
            wanted = self.output_size[axis]
            return size if wanted is None else wanted
        kernel, stride, dilation = g.kernel_size[axis], g.stride[axis], g.dilation[axis]
        padding = _pixels(g, axis)
        if self.form == "transposed":
            return transposed_size(
                size, kernel, stride, padding // 2, dilation, g.output_padding[axis]
            )
        return output_size(size, kernel, stride, padding, dilation, ceil_mode=g.ceil_mode)


def output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil_mode: bool = False
) -> int:
    """floor((size + padding - dilation*(kernel - 1) - 1) / stride + 1), `padding` on both sides.

    With `ceil_mode` the division is rounded up, and a last window that would begin in the right
    padding is dropped (torch.nn.MaxPool2d, "Shape" and "Note").
    """
    steps = (size + padding - dilation * (kernel - 1) - 1) / stride
    if not ceil_mode:
        return floor(steps + 1)
    windows = ceil(steps) + 1
    return windows - 1 if (windows - 1) * stride >= size + padding // 2 else windows


def transposed_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, output_padding: int
) -> int:
    """(size - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def formula(slide: Slide, shape: Shape, axis: int) -> str:
    """The floor formula of one axis: "floor((8 + 2*1 - 1*(3 - 1) - 1)/2 + 1) = 4"."""
    g, size = slide.geometry, shape[-slide.axes :][axis]
    result = slide.predict(shape)[-slide.axes :][axis]
    if slide.form == "adaptive":
        return f"{'size' if slide.output_size[axis] is None else 'output_size'} = {result}"
    kernel, stride, dilation = g.kernel_size[axis], g.stride[axis], g.dilation[axis]
    padding = _pixels(g, axis)
    pads = f"2*{padding // 2}" if padding % 2 == 0 else str(padding)
    if slide.form == "transposed":
        extra = g.output_padding[axis]
        return (
            f"({size} - 1)*{stride} - {pads} + {dilation}*({kernel} - 1) + {extra} + 1 = {result}"
        )
    inside = f"({size} + {pads} - {dilation}*({kernel} - 1) - 1)/{stride} + 1"
    if not g.ceil_mode:
        return f"floor({inside}) = {result}"
    steps = (size + padding - dilation * (kernel - 1) - 1) / stride
    dropped = " - 1" if result < ceil(steps + 1) else ""  # a window that begins in the padding
    return f"ceil({inside}){dropped} = {result}"


def of_module(module: ModuleRecord) -> Slide | None:
    """Geometry of a convolution or pool of torch.nn, from its constructor's arguments."""
    kind, axes = module.base[:-2], _AXES.get(module.base[-2:])
    if axes is None or kind not in _FORMS:
        return None
    hyper: Mapping[str, Any] = module.hyper
    form = _FORMS[kind]
    if ("output_size" if form == "adaptive" else "kernel_size") not in hyper:
        return None  # of an exported program, which does not tell
    if form == "adaptive":
        wanted = _tuple(hyper.get("output_size"), axes)
        return Slide(form, Geometry(), axes, None, wanted)
    kernel = _tuple(hyper["kernel_size"], axes)
    stride = hyper.get("stride")
    padding = hyper.get("padding", 0)
    geometry = Geometry(
        kernel_size=kernel,
        stride=kernel if stride is None else _tuple(stride, axes),
        padding=padding if isinstance(padding, str) else _tuple(padding, axes),
        dilation=_tuple(hyper.get("dilation", 1), axes),
        groups=hyper.get("groups", 1),
        output_padding=_tuple(hyper.get("output_padding", 0), axes),
        ceil_mode=bool(hyper.get("ceil_mode", False)),
    )
    return Slide(form, geometry, axes, hyper.get("out_channels"))


def of_op(trace: Trace, record: OpRecord) -> Slide | None:
    """Geometry of a convolution or pool operation, from its own arguments."""
    op, family = table.Op(trace, record), table.lookup(record.name).family
    if family is table.Family.CONVOLUTION and op.has("weight"):
        return _of_convolution(op, op.shape("weight"), len(op.shape("weight")) - 2)
    if family is table.Family.QUANTISED_CONVOLUTION and op.packed:
        return _of_convolution(op, op.packed, len(op.out) - 2)
    axes, kernel_size = op.axes, op.get("kernel_size")
    fixed = kernel_size is not None and op.get("output_size") is None  # else windows differ
    if family not in table.POOLS or axes is None or not fixed:
        return None
    kernel = _tuple(kernel_size, axes)
    geometry = Geometry(
        kernel_size=kernel,
        stride=_tuple(op.get("stride") or kernel, axes),
        padding=_tuple(op.get("padding", 0), axes),
        dilation=_tuple(op.get("dilation", 1), axes),
        ceil_mode=bool(op.get("ceil_mode", False)),
        output_padding=(0,) * axes,
    )
    return Slide("pool", geometry, axes, None)


def over_channels(trace: Trace, record: OpRecord) -> bool:
    """Return True if a pool slides over channels and not over positions.

    So torch computes local response normalisation (Krizhevsky et al. 2012, section 3.3): the
    channels become the first axis of a map of one channel, and an average pool slides along it.
    """
    slide, first = of_op(trace, record), table.Op(trace, record).first
    if slide is None or slide.form != "pool" or slide.axes < 2:
        return False
    g = slide.geometry
    first_axis = {*g.kernel_size[1:], *g.stride} == {1} and not any(g.padding)
    made = len(first) > max((len(trace.tensors[t].shape) for t in trace.inputs), default=0)
    return made and first_axis and first[-slide.axes - 1] == 1


def _of_convolution(op: table.Op, weight: Shape, axes: int) -> Slide:
    """A packed weight, and its geometry, of a 1-D convolution have an axis of one before."""
    transposed, groups = bool(op.get("transposed", False)), int(op.get("groups", 1))
    geometry = Geometry(
        kernel_size=weight[-axes:],
        stride=_tuple(op.get("stride", 1), axes)[-axes:],
        padding=_tuple(op.get("padding", 0), axes)[-axes:],
        dilation=_tuple(op.get("dilation", 1), axes)[-axes:],
        groups=groups,
        output_padding=_tuple(op.get("output_padding", 0), axes)[-axes:],
    )
    channels = weight[1] * groups if transposed else weight[0]
    return Slide("transposed" if transposed else "convolution", geometry, axes, channels)


def of_call(trace: Trace, module: ModuleRecord, own_ops: Sequence[int]) -> Slide | None:
    """Geometry of a leaf: by its constructor's arguments, or by its one operation's.

    A transposed convolution may be given its output size when it is called, so its output
    padding is not the constructor's to say. What does several things (a local response norm
    pools over channels) is no layer that slides.
    """
    slide = of_module(module) if module.library else None
    if slide is not None and slide.form != "transposed":
        return slide
    own_ops = without_weights(trace, own_ops)
    if sum(table.lookup(trace.ops[i].name).computes for i in own_ops) > 1:
        return slide
    slides = (of_op(trace, trace.ops[i]) for i in own_ops)
    return next((s for s in slides if s), slide)


def without_weights(trace: Trace, own_ops: Sequence[int]) -> list[int]:
    """The operations of a layer without those that make its weight, as a standardised one is."""
    wanted: set[int] = set()
    left: list[int] = []
    for index in reversed(own_ops):
        record = trace.ops[index]
        if not wanted.isdisjoint(record.outputs):
            wanted.update(t for t in record.inputs.values() if isinstance(t, int))
            continue
        left.append(index)
        if table.lookup(record.name).multiplies:
            weight = record.inputs.get("weight", record.inputs.get("mat2"))
            wanted.update((weight,) if isinstance(weight, int) else ())
    return left[::-1]


def regrouped(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Dimensions of a view that hold the same elements, from the left: (before, after).

    Raises:
        ValueError: the shapes have different numbers of elements.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        ins, outs = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        i, j = i + len(ins), j + len(outs)
        while (a := prod(old[d] for d in ins)) != (b := prod(new[d] for d in outs)):
            if a < b and i < len(old):
                ins.append(i)
                i += 1
            elif j < len(new):
                outs.append(j)
                j += 1
            else:
                raise ValueError(f"{old} and {new} have different numbers of elements")
        groups.append((ins, outs))
    return groups


_AXES = {"1d": 1, "2d": 2, "3d": 3}
_FORMS = {
    "Conv": "convolution",
    "ConvTranspose": "transposed",
    "MaxPool": "pool",
    "AvgPool": "pool",
    "LPPool": "pool",
    "AdaptiveAvgPool": "adaptive",
    "AdaptiveMaxPool": "adaptive",
}


def _tuple(value: Any, axes: int) -> tuple[Any, ...]:
    """One number for all axes, or one each."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == axes else tuple(value) * axes
    return (value,) * axes


def _pixels(geometry: Geometry, axis: int) -> int:
    """Padding of one axis, both sides together. `same` pads what the kernel takes away."""
    if geometry.padding == "same":
        return int(geometry.dilation[axis] * (geometry.kernel_size[axis] - 1))
    if isinstance(geometry.padding, str):
        return 0
    return 2 * geometry.padding[axis]
