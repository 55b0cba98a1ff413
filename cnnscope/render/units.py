"""All formatting of numbers, shapes and layers: one fact is written in one way everywhere."""

from collections.abc import Sequence

from cnnscope.records import AxisField, Geometry, LayerRow, Shape

_SI = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def integer(value: int) -> str:
    """11,689,512."""
    return f"{value:,}"


def si(value: int, digits: int = 3) -> str:
    """1.814 G; below a thousand the number itself."""
    for scale, prefix in _SI:
        if value >= scale - scale // 2 // 10 ** (digits + 3):  # what rounds up to the scale
            return f"{value / scale:.{digits}f} {prefix}"
    return str(value)


def si_short(value: int) -> str:
    """118.0 M, 1.03 G: for a column."""
    return si(value, digits=2 if value >= 10**9 else 1)


def nbytes(value: int) -> str:
    """44.6 MiB."""
    for scale, unit in _BINARY:
        if value >= scale - scale // 20480:  # what rounds up to the scale
            return f"{value / scale:.1f} {unit}"
    return f"{value} B"


def percent(part: int, whole: int) -> str:
    """25.5 %; nothing of nothing is nothing."""
    return f"{100 * part / whole:.1f} %" if whole and part else ""


def bar(part: int, whole: int, width: int, *, ascii_only: bool = False) -> str:
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


def geometry(g: Geometry) -> str:
    """3x3/2, p1, g32: kernel, stride, padding, dilation, groups, each where it says something."""
    text = shape(g.kernel_size)
    if any(s != 1 for s in g.stride):
        text += f"/{_one(g.stride)}"
    if isinstance(g.padding, str):
        text += f", {g.padding}" if g.padding != "valid" else ""
    elif any(g.padding):
        text += f", p{_one(g.padding)}"
    if any(d != 1 for d in g.dilation):
        text += f", d{_one(g.dilation)}"
    if any(g.output_padding):
        text += f", op{_one(g.output_padding)}"
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
    """43 /4, 7x15 /2x1, 3-5 (units differ), all, all (851): extent and effective stride."""
    if all(a.size is None and a.local_size is None for a in axes):
        return "all"
    local = same(["all" if a.local_size is None else _extent(a) for a in axes])
    if any(a.size is None and a.local_size is not None for a in axes):
        return f"all ({local})"  # the local field beside the whole image's context
    steps = ["1" if a.stride is None else f"{a.stride:.4g}" for a in axes]
    return f"{local} /{same(steps)}" if set(steps) != {"1"} else local


def field_size(axes: Sequence[AxisField]) -> str:
    """The extent alone: 43, all, all (851)."""
    return field(axes).partition(" /")[0]


def span(sizes: tuple[int, int]) -> str:
    """7, or 4-7 for the smallest and largest."""
    return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]}-{sizes[1]}"


def span_of(ends: tuple[int, int]) -> str:
    """How many pixels lie in [first, last]."""
    return str(max(ends[1] - ends[0] + 1, 0))


def interval(ends: tuple[int, int]) -> str:
    """[-3, 3]; nothing where it ends before it begins."""
    return f"[{ends[0]}, {ends[1]}]" if ends[0] <= ends[1] else "nothing"


def _extent(axis: AxisField) -> str:
    return f"{axis.sizes[0]}-{axis.sizes[-1]}" if axis.sizes else str(axis.local_size)


def same(texts: list[str]) -> str:
    """One text where all axes have the same."""
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def plural(count: int, noun: str) -> str:
    """1 layer, 2 layers."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _one(sizes: tuple[int, ...]) -> str:
    """One number where all axes have the same."""
    return str(sizes[0]) if len(set(sizes)) == 1 else shape(sizes)
