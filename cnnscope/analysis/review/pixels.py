"""Findings about positions: those of maps that no layer reads, and taps that read none."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from cnnscope.analysis import shapes
from cnnscope.analysis.review import words
from cnnscope.analysis.review.net import Net, Remark
from cnnscope.ops.table import Family
from cnnscope.records.summary import Geometry

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("frame", "row", "column")}
_SAME_POSITIONS = frozenset((Family.ACTIVATION, Family.ADD, Family.MULTIPLY, Family.COPY,
                             Family.ELEMENTWISE, Family.DROPOUT))  # fmt: skip
_LARGEST = 1 << 20  # positions along an axis that are looked at one by one


class Axis(NamedTuple):
    """A window that slides along one axis: over `size` positions, to `units` of them."""

    size: int
    units: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    def tap(self, unit: int, tap: int) -> int:
        """The position that a tap of a unit's window falls on, in the padding or not."""
        return unit * self.stride - self.padding + tap * self.dilation

    def read(self) -> int:
        """Positions that are read by some unit, one bit each."""
        if self.dilation == 1 and self.stride <= self.kernel:
            first, last = max(self.tap(0, 0), 0), self.tap(self.units - 1, self.kernel - 1)
            return _ones(min(last, self.size - 1) + 1) & ~_ones(first)
        every = {self.tap(u, k) for u in range(self.units) for k in range(self.kernel)}
        found = 0
        for position in every:
            found |= 1 << position if 0 <= position < self.size else 0
        return found

    def useful_taps(self) -> int:
        """Taps that fall on a position of the map for some unit."""

        def falls(tap: int) -> bool:
            """Return True if some unit's tap is at 0 or behind, and before the end."""
            first = self.padding - tap * self.dilation
            unit = max(-(-first // self.stride), 0)
            return unit < self.units and self.tap(unit, tap) < self.size

        return sum(map(falls, range(self.kernel)))


def _ones(count: int) -> int:
    return (1 << max(count, 0)) - 1


def _axes(net: Net, place: int, slide: shapes.Slide) -> tuple[Axis, ...]:
    """The axes of a convolution or pool, () where they are too long to be gone through."""
    record, geometry = net.ops[place], slide.geometry
    size = net.shape(record.tensors[0])[-slide.axes :]
    units = net.shape(record.outputs[0])[-slide.axes :]
    axes = tuple(
        Axis(size[i], units[i], *_of_axis(geometry, i)) for i in range(len(geometry.kernel_size))
    )
    return axes if max((a.size for a in axes), default=0) <= _LARGEST and min(units) > 0 else ()


def _of_axis(geometry: Geometry, axis: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation along one axis."""
    padding = geometry.padding
    return (
        geometry.kernel_size[axis],
        geometry.stride[axis],
        padding[axis] if isinstance(padding, tuple) else 0,
        geometry.dilation[axis],
    )


class Unread(NamedTuple):
    """A map of which some positions are read by no layer, and the first layer that reads it."""

    tensor: int
    place: int
    read: tuple[int, ...]  # positions read along each axis, one bit each
    size: tuple[int, ...]

    @property
    def share(self) -> float:
        """Part of the map that is never read."""
        return 1 - prod(m.bit_count() for m in self.read) / prod(self.size)

    @property
    def gaps(self) -> bool:
        """True if positions are missing between others, not at the borders alone."""
        return any(bool(m) and (_between(m) & ~m) != 0 for m in self.read)


def _between(mask: int) -> int:
    """All positions from the first to the last of a mask."""
    return _ones(mask.bit_length()) & ~_ones((mask & -mask).bit_length() - 1)


def _unread(net: Net) -> list[Unread]:
    """Maps that convolutions and pools alone read, and of which they leave something out.

    What several layers read is put together along each axis: what one of them skips another may
    read, as the main path of a residual block what a strided projection skips.
    """
    if net.unread is None:
        net.unread = list(_search_unread(net))
    return net.unread


def _search_unread(net: Net) -> Iterator[Unread]:
    seen: set[int] = set()
    reads = _reads(net) if net.slides else {}
    for place, slide in net.slides.items():
        root = _root(net, net.ops[place].tensors[0])
        if root in seen or _shifts(net, root):
            continue
        seen.add(root)
        masks = reads.get(root)
        if not masks or len(masks) != slide.axes:
            continue
        size = net.shape(root)[-slide.axes :]
        masks = tuple(m | p for m, p in zip(masks, _padded(net, root, size), strict=True))
        if any(m != _ones(n) for m, n in zip(masks, size, strict=True)):
            yield Unread(root, place, masks, size)


def _shifts(net: Net, tensor: int) -> bool:
    """Return True for a padded map whose original others read, who may read what is skipped.

    So a factorised reduction reads even positions, and odd ones of a shifted copy (NASNet).
    """
    place = net.maker(tensor)
    if place < 0 or net.family(place) not in (Family.PAD, Family.SLICE):
        return False
    source = net.ops[place].tensors[0]
    while len(net.index.readers.get(source, ())) == 1:
        place = net.maker(source)
        if place < 0 or not _keeps_positions(net, place) or len(net.seen(place)) != 1:
            return False
        source = net.seen(place)[0]
    return True


def _root(net: Net, tensor: int) -> int:
    """The map that a map is computed of position by position, as by a norm and an activation."""
    while (place := net.maker(tensor)) >= 0 and _keeps_positions(net, place):
        seen = net.seen(place)
        if len(seen) != 1:
            break
        tensor = seen[0]
    return tensor


def _keeps_positions(net: Net, place: int) -> bool:
    """Return True if a position of the first result comes from that position of the operands."""
    record, family = net.ops[place], net.family(place)
    if family not in _SAME_POSITIONS and family is not Family.BATCH_NORM:
        return False
    shape = net.shape(record.outputs[0]) if record.outputs else ()
    return bool(shape) and all(net.shape(t) == shape for t in net.seen(place))


def _reads(net: Net) -> dict[int, tuple[int, ...] | None]:
    """Positions of each value that something reads, along each axis; None for all of them.

    Values are gone through from the last on, so that each of a long chain is looked at once.
    """
    found: dict[int, tuple[int, ...] | None] = {}
    for record in reversed(net.ops):
        for tensor in record.outputs:
            found[tensor] = _read_of(net, tensor, found)
    for tensor in net.trace.inputs:
        found[tensor] = _read_of(net, tensor, found)
    return found


def _read_of(
    net: Net, tensor: int, known: Mapping[int, tuple[int, ...] | None]
) -> tuple[int, ...] | None:
    """Positions of a value that something reads; () where nothing does."""
    found: tuple[int, ...] = ()
    if tensor in net.outputs:
        return None
    for reader in net.index.readers.get(tensor, ()):
        if reader not in net.slides and _keeps_positions(net, reader):
            masks = known.get(net.ops[reader].outputs[0], ())
        else:
            masks = _read_by(net, tensor, reader)
        if masks is None or (found and masks and len(found) != len(masks)):
            return None
        found = tuple(map(operator.or_, found, masks)) if found and masks else found or masks
    return found


def _read_by(net: Net, tensor: int, reader: int) -> tuple[int, ...] | None:
    """Positions of a map that one operation reads, along each axis; None for all of them."""
    slide = net.slides.get(reader)
    axes = _axes(net, reader, slide) if slide is not None else ()
    once = axes and net.ops[reader].tensors.count(tensor) == 1
    return tuple(axis.read() for axis in axes) if once else None


def _padded(net: Net, tensor: int, size: Sequence[int]) -> tuple[int, ...]:
    """Positions that a padding has added to a map, which are no loss where they are not read."""
    place = net.maker(tensor)
    if place < 0 or net.family(place) is not Family.PAD:
        return (0,) * len(size)
    given = net.ops[place].attributes
    pads = given.get("pad", given.get("padding"))
    if not isinstance(pads, tuple) or len(pads) < 2 * len(size):
        return tuple(map(_ones, size))
    return tuple(
        _ones(int(pads[2 * i])) | (_ones(n) & ~_ones(n - int(pads[2 * i + 1])))  # type: ignore[arg-type]
        for i, n in zip(range(len(size) - 1, -1, -1), size, strict=True)
    )


def skipped(net: Net) -> Remark | None:
    """Positions between the windows of a layer whose stride is larger than its kernel."""
    found = [one for one in _unread(net) if one.gaps]
    if not found:
        return None
    listed = [
        f"{net.layer(o.place)} ({_window(net, o)}, {_percent(o.share)} of {_map(net, o)})"
        for o in found
    ]
    return Remark(
        f"positions between the windows are never read: {words.names(listed)}",
        net.layers(one.place for one in found),
        found[0].place,
    )


def floored(net: Net) -> Remark | None:
    """Rows and columns at the border of a map that no window reaches: its size is rounded down."""
    found = [one for one in _unread(net) if not one.gaps]
    if not found:
        return None
    listed = [
        f"{net.layer(o.place)} ({_window(net, o)}) never reads {_missing(o)} of {_map(net, o)}"
        for o in found
    ]
    maps = "a map" if len(found) == 1 else f"{len(found)} maps"
    image = _image(net, found)
    return Remark(
        f"the last window does not reach the end of {maps}: {words.names(listed)}"
        + (f"; no layer sees {image}" if image else ""),
        net.layers(one.place for one in found),
        found[0].place,
    )


def _window(net: Net, one: Unread) -> str:
    """`2x2/2`."""
    g = net.slides[one.place].geometry
    stride = (
        words.sizes(dict.fromkeys(g.stride)) if len(set(g.stride)) == 1 else words.sizes(g.stride)
    )
    dilated = (
        f", dilation {words.sizes(dict.fromkeys(g.dilation))}" if set(g.dilation) != {1} else ""
    )
    return f"{words.sizes(g.kernel_size)}/{stride}{dilated}"


def _map(net: Net, one: Unread) -> str:
    """`the 224x224 image`, `its 13x13 map`."""
    if one.tensor in net.trace.inputs:
        return f"the {words.sizes(one.size)} input"
    return f"its {words.sizes(one.size)} map"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


def _missing(one: Unread) -> str:
    return words.together(list(_lines(one.read, one.size)))


def _lines(read: Sequence[int], size: Sequence[int]) -> Iterator[str]:
    """`row 12`, `columns 222-223`: what is not read along each axis."""
    for mask, length, name in zip(read, size, _AXES[len(size)], strict=True):
        left = _ones(length) & ~mask
        if left:
            positions = [i for i in range(length) if left >> i & 1]
            plural = "s" if len(positions) > 1 else ""
            yield f"{name}{plural} {words.ranges(positions)}"


# ------------------------------------------------------------------------ pixels of the input


def _image(net: Net, found: Sequence[Unread]) -> str:
    """`row 223 and column 223 of the input`: pixels that nothing depends on, for a map's sake."""
    if any(one.tensor in net.trace.inputs for one in found):
        return ""
    for tensor, masks in unseen(net).items():
        size = net.shape(tensor)[-len(masks) :]
        lines = list(_lines(masks, size))
        if lines:
            return f"{words.together(lines)} of the {words.sizes(size)} input"
    return ""


def unseen(net: Net) -> dict[int, tuple[int, ...]]:
    """Positions of each input that something may depend on, a bit each; unread ones have none.

    Exact in training as well: from the last layers back, a convolution or pool needs what the units
    read that are needed themselves. Whatever is not a convolution, a pool or arithmetic position by
    position needs everything, batch norms with their statistics included.
    """
    needed: dict[int, tuple[int, ...] | None] = dict.fromkeys(net.outputs)
    for place in range(len(net.ops) - 1, -1, -1):
        record = net.ops[place]
        if any(t in needed for t in record.outputs):
            own = needed.get(record.outputs[0])
            for tensor in record.tensors:
                _need(needed, tensor, _wanted(net, place, tensor, own))
    return {t: masks for t in net.trace.inputs if (masks := needed.get(t)) is not None}


def _need(
    needed: dict[int, tuple[int, ...] | None], tensor: int, masks: tuple[int, ...] | None
) -> None:
    """Add positions to those that are needed of a value; None are all."""
    if tensor not in needed:
        needed[tensor] = masks
        return
    old = needed[tensor]
    both = old is not None and masks is not None and len(old) == len(masks)
    needed[tensor] = (
        tuple(a | b for a, b in zip(old or (), masks or (), strict=True)) if both else None
    )


def _wanted(
    net: Net, place: int, tensor: int, own: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Positions of an operand that the needed positions of the result depend on; None are all."""
    record = net.ops[place]
    if place in net.slides:
        axes = _axes(net, place, net.slides[place])
        if not axes or record.tensors.index(tensor) > 0:
            return None
        if own is None or len(own) != len(axes):
            return tuple(axis.read() for axis in axes)
        return tuple(_read_for(axis, mask) for axis, mask in zip(axes, own, strict=True))
    same = net.family(place) in _SAME_POSITIONS and own is not None and len(record.outputs) == 1
    return own if same and net.shape(tensor) == net.shape(record.outputs[0]) else None


def _read_for(axis: Axis, units: int) -> int:
    """Positions that the units of a mask read."""
    if units == _ones(axis.units):
        return axis.read()
    found = 0
    for unit in range(axis.units):
        if units >> unit & 1:
            for tap in range(axis.kernel):
                position = axis.tap(unit, tap)
                found |= 1 << position if 0 <= position < axis.size else 0
    return found


# ---------------------------------------------------------------------------- taps in padding


def idle_taps(net: Net) -> Remark | None:
    """Weights of a convolution that only ever meet padding, for its map is too small."""
    found: dict[str, tuple[int, str]] = {}
    for place in net.slides:
        if place not in net.weighted:
            continue
        axes = _axes(net, place, net.slides[place])
        useful, taps = (prod(f(a) for a in axes) for f in (Axis.useful_taps, lambda a: a.kernel))
        if axes and useful < taps:
            size = words.sizes(a.size for a in axes)
            said = f"{net.layer(place)} ({taps - useful} of {taps} taps on {size})"
            found.setdefault(net.layer(place), (place, said))
    if not found:
        return None
    listed = [said for _, said in found.values()]
    which = words.these(len(found), "convolution") + (" have" if len(found) > 1 else " has")
    return Remark(
        f"{which} weights that only ever meet padding, the map being so small: "
        f"{words.names(listed)}",
        tuple(found),
        next(iter(found.values()))[0],
    )


def unproductive(net: Net) -> Remark | None:
    """Layers that slide over units whose shortest path has seen the whole input already."""
    rows = {row.path: row for row in net.rows if row.unproductive}
    if not rows:
        return None
    layers = tuple(rows)
    verb = "slides" if len(layers) == 1 else "slide"
    return Remark(
        f"{words.these(len(layers), 'layer')} {verb} over units that have seen the whole input "
        f"already: {words.names(layers)} (unproductive, Richter et al. 2021)",
        layers,
        net.maker(next(iter(rows.values())).tensor),
    )
