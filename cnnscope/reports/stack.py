"""Cost of stacks of small kernels beside one large kernel that sees as much.

Stacks are drawn (`cnnscope.reports.sketch`) and counted by the analyses that count traced models.
Every convolution has no bias, as papers count them, and a ReLU behind it; pools have none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod

import msgspec

from cnnscope.analysis import layers, memory, params, weights
from cnnscope.errors import RequestError
from cnnscope.models.sources.classic.inception_table import BLOCKS
from cnnscope.records.stack import StackReport, StackRow
from cnnscope.records.summary import Geometry, LayerRow
from cnnscope.records.trace import Shape, TensorSpec, Trace
from cnnscope.reports.sketch import Layer, Sketch
from cnnscope.text import printable

_COUNT = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_POOLS = ("max", "avg")
_LARGEST = 101  # of the kernels that are compared
_BESIDE = " | "  # between the branches of an Inception block
_MOST_LAYERS = 200
_LARGEST_SIDE = 8192  # of the input: what every unit sees is computed

# ------------------------------------------------------------------------------ the grammar

_SIZES = r"\d{1,4}(?:x\d{1,4})?"
_LAYER = re.compile(
    rf"(?P<form>max|avg|dw)?(?P<kernel>{_SIZES})"
    rf"(?P<rest>(?:/{_SIZES}|[dgp]{_SIZES}|@(?:\d{{0,4}}C(?:/\d{{1,4}})?|\d{{1,6}}))*)",
    re.ASCII,
)
_SUFFIX = re.compile(rf"(?P<key>[/dgp])(?P<sizes>{_SIZES})|@(?P<channels>\d*C(?:/\d+)?|\d+)")


def parse(text: str, channels: int) -> tuple[Layer, ...]:
    """The layers of a stack such as "3x3,3x3/2,1x1@2C" on `channels` channels.

    Raises:
        RequestError: it cannot be read, or a layer cannot have such channels or groups.
    """
    found: list[Layer] = []
    current = channels
    if text.count(",") >= _MOST_LAYERS:
        raise RequestError(f"stack {printable(text)!r}: at most {_MOST_LAYERS} layers")
    for item in text.split(","):
        try:
            layer = _layer(item.strip(), channels, current)
        except ValueError as error:
            shown = printable(item.strip(), 30)
            raise RequestError(f"stack {printable(text)!r}: {shown!r} {error}") from None
        current = layer.channels
        found.append(layer)
    return tuple(found)


def _layer(item: str, base: int, given: int) -> Layer:
    """One layer on `given` channels.

    Raises:
        ValueError: what is wrong with it.
    """
    match = _LAYER.fullmatch(item)
    if match is None:
        raise ValueError(
            "is no layer; write such as 3x3, 3x3/2, 3x3d2, dw7x7, 1x7, 1x1@2C or max3x3/2"
        )
    form = match["form"] or "conv"
    keys = _suffixes(match["rest"])
    if form != "conv" and "g" in keys:
        raise ValueError("takes no groups")
    if form in _POOLS and keys.keys() & {"d", "@"}:
        raise ValueError("is a pool: it takes a stride and padding only")
    geometry = _geometry(match["kernel"], keys, pool=form in _POOLS)
    out = _channels(keys.get("@"), base, given)
    groups = given if form == "dw" else _pair(keys.get("g", "1"))[0]
    if groups < 1 or given % groups or out % groups:
        raise ValueError(f"cannot split {given} and {out} channels into {groups} groups")
    return Layer(
        "conv" if form == "dw" else form, msgspec.structs.replace(geometry, groups=groups), out
    )


def _suffixes(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for suffix in _SUFFIX.finditer(text):
        key = suffix["key"] or "@"
        if key in keys:
            raise ValueError(f"has {key} twice")
        keys[key] = suffix["sizes"] or suffix["channels"]
    return keys


def _geometry(kernel: str, keys: Mapping[str, str], *, pool: bool) -> Geometry:
    sizes, stride, dilation = _pair(kernel), _pair(keys.get("/", "1")), _pair(keys.get("d", "1"))
    if min(*sizes, *stride, *dilation) < 1:
        raise ValueError("has a size of 0")
    kept = tuple(d * (k - 1) // 2 for d, k in zip(dilation, sizes, strict=True))
    padding = _pair(keys["p"]) if "p" in keys else kept
    if pool and any(2 * p > k for p, k in zip(padding, sizes, strict=True)):
        raise ValueError("pads more than half of its kernel")
    return Geometry(sizes, stride, padding, dilation, output_padding=(0, 0))


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    return int(first), int(second or first)


def _channels(text: str | None, base: int, given: int) -> int:
    """As many as `text` asks for."""
    if text is None:
        return given
    times, relative, divisor = text.partition("C")
    whole = base * int(times or 1) if relative else int(text)
    parts = int(divisor[1:] or 1)
    if not parts or not whole or whole % parts:
        raise ValueError(f"asks for channels that are no whole part of {base}")
    return whole // parts


# ----------------------------------------------------------------------------- the candidates


def candidates(kernel: int) -> tuple[tuple[str, str], ...]:
    """Names and layers of the usual ways to see `kernel` x `kernel` pixels, the one kernel first.

    3x3s (Simonyan and Zisserman 2014, 2.3), 5x5s, an asymmetric pair (Szegedy et al. 2016, 3.2),
    dilation (Yu and Koltun 2016), depthwise separable convolutions (Howard et al. 2017).

    Raises:
        RequestError: an even kernel, or one that nothing can replace.
    """
    if kernel % 2 == 0 or not 3 <= kernel <= _LARGEST:
        raise RequestError(f"--kernel {kernel}: give an odd size from 3 to {_LARGEST}")
    whole, half, fives = f"{kernel}x{kernel}", (kernel - 1) // 2, (kernel - 1) // 4
    threes = half - 2 * fives
    dilations = _doubling(kernel)
    every = [
        (f"one {whole}", [whole]),
        (f"{count(half)} 3x3", ["3x3"] * half),
        (_fives(fives, threes), ["5x5"] * fives + ["3x3"] * threes),
        (f"{kernel}x1 + 1x{kernel}", [f"{kernel}x1", f"1x{kernel}"]),
        (f"3x3, dilation {half}", [f"3x3d{half}"]),
        (f"3x3, dilation {', '.join(map(str, dilations))}", [f"3x3d{d}" for d in dilations]),
        (f"dw {whole} + 1x1", [f"dw{whole}", "1x1"]),
        (f"{count(half)} dw 3x3 + 1x1", ["dw3x3", "1x1"] * half),
    ]
    if kernel == 3:  # it is the smallest there is to stack
        every = [every[0], every[3], every[6]]
    kept: dict[str, str] = {}
    for name, items in every:
        if items:
            kept.setdefault(",".join(items), name)
    return tuple((name, text) for text, name in kept.items())


def bottlenecks(kernel: int, reduction: int) -> tuple[tuple[str, str], ...]:
    """1x1 - 3x3 - 1x1 (He et al. 2016, 4.1), once with the large kernel and stacked."""
    half = (kernel - 1) // 2
    narrow = f"1x1@C/{reduction}"
    once = f"{narrow},{kernel}x{kernel},1x1@C"
    stacked = ",".join([f"{narrow},3x3,1x1@C"] * half)
    found = [(f"bottleneck {kernel}x{kernel}", once), (f"{count(half)} bottleneck 3x3", stacked)]
    return tuple(found[: 1 if kernel == 3 else 2])


def count(number: int) -> str:
    """Three, or 13."""
    return _COUNT[number] if number < len(_COUNT) else str(number)


def _fives(fives: int, threes: int) -> str:
    """5x5 + 3x3, or two 5x5."""
    named = f"{count(fives)} 5x5" if fives > 1 or not threes else "5x5"
    return f"{named} + 3x3" if threes else named


def _doubling(kernel: int) -> list[int]:
    """1, 2, 4, ... of which 3x3s see every pixel, where they reach exactly so far."""
    dilations = [1]
    while 1 + 2 * sum(dilations) < kernel:
        dilations.append(2 * dilations[-1])
    return dilations if 1 + 2 * sum(dilations) == kernel else []


# --------------------------------------------------------------------------------- the report


def stack_report(
    kernel: int,
    channels: int,
    size: tuple[int, int],
    custom: Sequence[str] = (),
    bottleneck: int | None = None,
) -> StackReport:
    """The usual ways to see `kernel` x `kernel` pixels, and any others, side by side.

    Args:
        kernel: of the one convolution that everything is compared with; odd.
        channels: C, in and out of every stack that does not say otherwise.
        size: H and W of the input.
        custom: more stacks, in the grammar that `cnnscope stack --help` explains.
        bottleneck: how many times fewer channels a bottleneck has; left out, there is none.

    Raises:
        RequestError: a stack that cannot be.
    """
    if max(size) > _LARGEST_SIDE:
        raise RequestError(f"--input {size[0]}x{size[1]}: at most {_LARGEST_SIDE} along an axis")
    if channels < 1:
        raise RequestError(f"--channels {channels}: must be at least 1")
    if bottleneck is not None and (bottleneck < 1 or channels % bottleneck):
        raise RequestError(
            f"--bottleneck {bottleneck}: does not divide {channels} channels; give a divisor"
        )
    wanted = list(candidates(kernel))
    wanted += bottlenecks(kernel, bottleneck) if bottleneck is not None else ()
    wanted += [(text.strip(), text.strip()) for text in custom]
    shape = (1, channels, *size)
    rows = [_row(name, text, shape) for name, text in wanted]
    return StackReport(
        kernel=kernel,
        channels=channels,
        input=TensorSpec(shape),
        rows=tuple(rows),
        asked=tuple(text.strip() for text in custom),
    )


def draw(text: str, shape: Shape, name: str = "stack") -> Trace:
    """The trace of one stack on an input of (N, C, H, W)."""
    sketch = Sketch(name, shape)
    return sketch.trace(_draw_layers(sketch, sketch.input, parse(text, shape[1]), text))


def _draw_layers(sketch: Sketch, source: int, items: Sequence[Layer], text: str) -> int:
    names = map(str, itertools.count())
    for layer in items:
        source = sketch.slide(next(names), source, layer)
        if min(sketch.shape(source)) < 1:
            raise RequestError(
                f"stack {printable(text)!r}: the input is too small for it; give a larger --input"
            )
        if layer.form == "conv":
            source = sketch.relu(next(names), source)
    return source


def _row(name: str, text: str, shape: Shape) -> StackRow:
    trace = draw(text, shape, name)
    items = parse(text, shape[1])
    square, linear = _units(items, shape[1])
    return _counted(name, text, trace, square, linear, _read(items))


def _counted(
    name: str,
    text: str,
    trace: Trace,
    square: Fraction | None,
    linear: Fraction | None,
    read: tuple[int, int] | None,
) -> StackRow:
    rows = layers.with_fields(trace)
    model = rows[0]
    return StackRow(
        name=name,
        layers=text,
        output=model.output_shapes[0],
        field=model.field or (),
        read=read,
        weights=params.total(trace),
        square=None if square is None else float(square),
        linear=None if linear is None else float(linear),
        macs=model.macs,
        flops=2 * model.macs,
        element_ops=model.element_ops,
        activation_bytes=memory.allocated(trace),
        peak_activation_bytes=memory.peak(trace).nbytes,
        nonlinearities=sum(row.operation == "ReLU" for row in rows),
        convolutions=weights.weight_layers(trace).convolutions,
    )


def _units(items: Sequence[Layer], channels: int) -> tuple[Fraction, Fraction]:
    """The weights as a * C^2 + b * C: depthwise ones grow with C only."""
    square = linear = Fraction(0)
    given = channels
    for layer in items:
        g = layer.geometry
        if layer.form == "conv" and g.groups == given > 1:
            linear += Fraction(layer.channels * prod(g.kernel_size), channels)
        elif layer.form == "conv":
            weights = layer.channels * given * prod(g.kernel_size)
            square += Fraction(weights, g.groups * channels**2)
        given = layer.channels
    return square, linear


def _read(items: Sequence[Layer]) -> tuple[int, int]:
    """Count the positions of its field that a unit reads along H and W: dilation leaves holes."""
    taps: list[set[int]] = [{0}, {0}]
    jump = [1, 1]
    for layer in items:
        g = layer.geometry
        for axis in (0, 1):
            reach = range(0, g.kernel_size[axis] * g.dilation[axis] * jump[axis],
                          g.dilation[axis] * jump[axis])  # fmt: skip
            taps[axis] = {a + b for a in taps[axis] for b in reach}
            jump[axis] *= g.stride[axis]
    return len(taps[0]), len(taps[1])


# ------------------------------------------------------------------------------- Inception

BRANCHES = ("1x1", "3x3", "5x5", "pool")


def inception(block: str, *, naive: bool) -> tuple[str, ...]:
    """The branches of a block of GoogLeNet: naive (Szegedy et al. 2015, Figure 2a) or reduced."""
    row = BLOCKS[block]
    if naive:
        return f"1x1@{row.ch1}", f"3x3@{row.ch3}", f"5x5@{row.ch5}", "max3x3"
    return (
        f"1x1@{row.ch1}",
        f"1x1@{row.reduce3},3x3@{row.ch3}",
        f"1x1@{row.reduce5},5x5@{row.ch5}",
        f"max3x3,1x1@{row.project}",
    )


def inception_report(block: str) -> StackReport:
    """An Inception block, naive against reduced by 1x1 convolutions.

    Raises:
        RequestError: GoogLeNet has no such block.
    """
    if block not in BLOCKS:
        raise RequestError(f"--block {printable(block)!r}: use one of {', '.join(BLOCKS)}")
    channels, side = BLOCKS[block][:2]
    shape = (1, channels, side, side)
    rows, parts = [], []
    for name in ("naive", "reduced"):
        texts = inception(block, naive=name == "naive")
        trace = draw_branches(texts, shape, name)
        rows.append(_counted(name, _BESIDE.join(texts), trace, None, None, None))
        parts.append(_branches(trace))
    return StackReport(
        kernel=None,
        channels=channels,
        input=TensorSpec(shape),
        rows=tuple(rows),
        block=block,
        branches=tuple(
            (name, before.params, after.params, before.macs, after.macs)
            for name, before, after in zip(BRANCHES, *parts, strict=True)
        ),
    )


def draw_branches(texts: Sequence[str], shape: Shape, name: str = "stack") -> Trace:
    """The trace of stacks side by side, their outputs concatenated."""
    sketch = Sketch(name, shape)
    outputs = []
    for index, text in enumerate(texts):
        with sketch.block(f"branch{index + 1}"):
            outputs.append(_draw_layers(sketch, sketch.input, parse(text, shape[1]), text))
    return sketch.trace(sketch.cat(tuple(outputs)))


def side_by_side(text: str) -> list[str]:
    """The branches of a row's layers; of a plain stack the one that it is."""
    return text.split(_BESIDE)


def row_trace(row: StackRow, shape: Shape) -> Trace:
    """The trace that a row of a report was counted from, on an input of (N, C, H, W)."""
    texts = side_by_side(row.layers)
    if len(texts) == 1:
        return draw(row.layers, shape, row.name)
    return draw_branches(texts, shape, row.name)


def _branches(trace: Trace) -> list[LayerRow]:
    return [row for row in layers.rows(trace) if row.depth == 1 and row.kind == "module"]
