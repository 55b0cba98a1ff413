"""All formatting of numbers, shapes and layers: one fact is written in one way everywhere."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from cnnscope.records.summary import AxisField, Geometry, LayerRow
from cnnscope.records.trace import Shape

Writer = Callable[[int], str]
NONE = "none"  # the number of an axis that has no such number

_SI = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_BINARY = (
    (2**60, "EiB"), (2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"),
)  # fmt: skip


def integer(value: int) -> str:
    """11,689,512."""
    return f"{value:,}"


def arithmetic(text: str) -> str:
    """64*3*7*7 with large numbers as 9,408."""
    return re.sub(r"\d{4,}", lambda found: integer(int(found[0])), text)


def si(value: int, digits: int = 3) -> str:
    """1.814 G; below a thousand the number itself."""
    for scale, prefix in _SI:
        if value >= scale - scale // 2 // 10 ** (digits + 3):  # what rounds up to the scale
            return f"{value / scale:.{digits}f} {prefix}"
    return str(value)


def giga(value: int) -> str:
    """1.814 G, 0.057 G: three decimals, as libraries publish."""
    return f"{value / 10**9:.3f} G"


def si_short(value: int) -> str:
    """118.0 M, 1.03 G: for a column."""
    return si(value, digits=2 if value >= 10**9 else 1)


def signed(value: int, written: Writer = integer) -> str:
    """+184,512 or -513,000; "" for no difference."""
    return f"{'-' if value < 0 else '+'}{written(abs(value))}" if value else ""


def relative(before: int, after: int) -> str:
    """+2.0 %; x1,024 where it is many times as much; "" for no difference, and beside 0."""
    if not before or before == after:
        return ""
    return (
        f"x{after / before:,.1f}"
        if after >= 10 * before
        else f"{100 * (after / before - 1):+.1f} %"
    )


def nbytes(value: int) -> str:
    """44.6 MiB."""
    for scale, unit in _BINARY:
        if value >= scale - scale // 20480:  # what rounds up to the scale
            return f"{value / scale:.1f} {unit}"
    return f"{value} B"


def percent(part: int, whole: int) -> str:
    """25.5 %; "" where the part or the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole and part else ""


def part(value: float) -> str:
    """+0.742 %, -96.3 %: a signed part of a whole, in three digits."""
    return f"{100 * value:+.3g} %"


def bar(part: float, whole: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of eighths of a character, `width` characters for the whole."""
    eighths = round(8 * width * part / whole) if whole else 0
    if ascii_only:
        return "#" * round(eighths / 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def shape(sizes: Shape) -> str:
    """64x56x56; a scalar has no sizes."""
    return "x".join(map(str, sizes)) or "scalar"


def per_sample(sizes: Shape) -> str:
    """A shape without a batch of one."""
    return shape(sizes[1:] if len(sizes) > 1 and sizes[0] == 1 else sizes)


def output(row: LayerRow) -> str:
    """The output shape of a row, and how many outputs more it has."""
    if not row.output_shapes:
        return ""
    more = len(row.output_shapes) - 1
    return per_sample(row.output_shapes[0]) + (f" +{more}" if more else "")


class _Called(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def call(self) -> int: ...


def called(row: _Called, name: str = "") -> str:
    """layer1.0, layer1.0 #2 for a module's second run; or another name in place of the path."""
    shown = name or row.path or "the model"
    return f"{shown} #{row.call}" if row.call > 1 else shown


def geometry(g: Geometry) -> str:
    """3x3/2, p1, g32: kernel, stride, padding, dilation, groups, each where it says something."""
    text = shape(g.kernel_size)
    if any(s != 1 for s in g.stride):
        text += f"/{one(g.stride)}"
    if isinstance(g.padding, str):
        text += f", {g.padding}" if g.padding != "valid" else ""
    elif any(g.padding):
        text += f", p{one(g.padding)}"
    if any(d != 1 for d in g.dilation):
        text += f", d{one(g.dilation)}"
    if any(g.output_padding):
        text += f", op{one(g.output_padding)}"
    if g.groups != 1:
        text += f", g{g.groups}"
    return text + (", ceil" if g.ceil_mode else "")


def operation(row: LayerRow) -> str:
    """Conv2d 7x7/2, p3 or Linear 512 -> 1000."""
    if row.geometry is not None:
        return f"{row.operation} {geometry(row.geometry)}"
    if row.features is not None and row.leaf:
        return f"{row.operation} {row.features[0]} -> {row.features[1]}"
    return row.operation


def field(axes: Sequence[AxisField]) -> str:
    """43 /4, 7x15 /2x1, 3-5 (units differ), all, all (851), 3xall (3): extent, effective stride."""
    if all(a.size is None and a.local_size is None for a in axes):
        return "all"
    local = same(["all" if a.local_size is None else _extent(a) for a in axes])
    if any(a.size is None and a.local_size is not None for a in axes):
        strict = same(["all" if a.size is None else _extent(a) for a in axes])
        return f"{strict} ({local})"  # the local field beside the whole image's context
    steps = ["1" if a.stride is None else f"{a.stride:.4g}" for a in axes]
    return f"{local} /{same(steps)}" if set(steps) != {"1"} else local


def axis_names(count: int) -> tuple[str, ...]:
    """Names of the axes of positions: L of a sequence, H and W of an image, D, H and W."""
    names = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
    return names.get(count, tuple(map(str, range(count))))


def field_size(axes: Sequence[AxisField]) -> str:
    """The extent alone: 43, all, all (851)."""
    return field(axes).partition(" /")[0]


def seen(axes: Sequence[AxisField]) -> str:
    """7x7, 7x7 /2, 3-5x7: extent along each axis, and the effective stride where it is not 1."""
    sizes = "x".join("all" if a.local_size is None else _extent(a) for a in axes)
    steps = ["1" if a.stride is None else f"{a.stride:.4g}" for a in axes]
    return f"{sizes} /{same(steps)}" if set(steps) != {"1"} else sizes


def channel_units(square: float | None, linear: float | None) -> str:
    """27 C^2, C^2 + 49 C: weights for C channels."""
    terms = [
        f"{'' if factor == 1 else f'{factor:.6g} '}{name}"
        for factor, name in ((square, "C^2"), (linear, "C"))
        if factor
    ]
    return " + ".join(terms)


def span(sizes: tuple[int, int]) -> str:
    """7, or 4-7 for the smallest and largest."""
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]}-{sizes[1]}"


def span_of(ends: tuple[int, int]) -> str:
    """Number of pixels in [first, last]."""
    return str(max(ends[1] - ends[0] + 1, 0))


def interval(ends: tuple[int, int]) -> str:
    """[-3, 3]; "nothing" where it ends before it begins."""
    return f"[{ends[0]}, {ends[1]}]" if ends[0] <= ends[1] else "nothing"


def _extent(axis: AxisField) -> str:
    return f"{axis.sizes[0]}-{axis.sizes[-1]}" if axis.sizes else str(axis.local_size)


def same(texts: list[str]) -> str:
    """One text where all axes have the same, else one each."""
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def along_axes(texts: Sequence[str]) -> str:
    """3, 7x15, 3 x none: a number for each axis, `none` without one; "" if none has one."""
    if not all(texts):
        return " x ".join(text or NONE for text in texts) if any(texts) else ""
    return same(list(texts))


def plural(count: int, noun: str, nouns: str = "") -> str:
    """1 layer, 2 layers, 3 entries."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def duration(ns: float) -> str:
    """23.41 ms: four digits."""
    scale, unit = _time_unit(ns)
    return f"{_four_digits(ns / scale)} {unit}"


def durations(low: float, high: float) -> str:
    """23.30-23.52 ms: both in one unit."""
    scale, unit = _time_unit(high)
    return f"{_four_digits(low / scale)}-{_four_digits(high / scale)} {unit}"


def _time_unit(ns: float) -> tuple[float, str]:
    return next((t for t in _TIMES if ns >= 0.99995 * t[0]), _TIMES[-1])


def _four_digits(value: float) -> str:
    """1.234, 12.34, 123.4, 1234."""
    whole = len(str(int(value * 1.00005)))
    return f"{value:.{max(4 - whole, 0)}f}"


def rate(per_second: float, unit: str) -> str:
    """102.0 GFLOP/s."""
    number, _, prefix = si(round(per_second), 1).partition(" ")
    return f"{number} {prefix}{unit}"


def number(value: float) -> str:
    """Four digits, or all of them before the point: 42.71, 1,234."""
    return f"{value:,.0f}" if value >= 1000 else _four_digits(value)


def decimal(value: float) -> str:
    """3, 2.5, 0.125: no more digits than it has, six at most."""
    return f"{value:g}"


def tenths(value: float) -> str:
    """69.8: one digit behind the point."""
    return f"{value:.1f}"


def share(fraction: float) -> str:
    """25.5 %; a signed change is `change`."""
    return f"{100 * fraction:.1f} %"


def change(fraction: float) -> str:
    """+3.2 %."""
    return f"{100 * fraction:+.1f} %"


def ratio(value: float) -> str:
    """1.103; from 10 on four digits: 40.15."""
    whole = len(str(int(value)))
    return f"{value:.{max(4 - whole, 0)}f}"


def sparkline(counts: Sequence[int]) -> str:
    """A histogram on one line; whatever is not empty can be seen."""
    top = max(counts, default=0)
    return "".join("▁▂▃▄▅▆▇█"[max(-(-7 * c // top), 0)] if c else " " for c in counts).rstrip()


def one(sizes: tuple[int, ...]) -> str:
    """One number where all axes have the same."""
    return str(sizes[0]) if len(set(sizes)) == 1 else shape(sizes)
