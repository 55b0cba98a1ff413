"""Receptive fields along one axis: periodic affine maps, with exact intervals at the real size.

A *map* says for each unit u of a tensor which input pixels it sees. The regular part,

    unit q*p + j  ->  [q*step + lo[j], q*step + hi[j]]        (p = period = len(lo))

ignores borders: it is what a unit of an arbitrarily large image sees. Its effective stride is
step/p. Convolution, pooling, transposed convolution, interpolation, slicing, padding and joins
preserve the form (Araujo, Norris, Sim, Distill 2019, extended by a period for fractional
strides). Beside it stand the *spans*, one interval per unit of the real tensor, in which taps
that fall in padding are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import reduce
from itertools import accumulate
from math import gcd, inf, lcm
from typing import NamedTuple

MAX_PERIOD = 4096
MAX_UNITS = 2**22  # along an axis: one interval is kept for each of them
Number = float  # integers, or an infinity for a unit that sees nothing
Taps = Callable[[int], Iterable[int]]
Interval = tuple[Number, Number]


class Lines(NamedTuple):
    """The regular part of a map: one period of it, and how far the next period lies."""

    step: int
    lo: tuple[Number, ...]
    hi: tuple[Number, ...]

    @property
    def period(self) -> int:
        """Units after which the map repeats."""
        return len(self.lo)

    def at(self, unit: int) -> tuple[Number, Number]:
        """First and last input pixel that a unit sees."""
        turns, phase = divmod(unit, len(self.lo))
        return turns * self.step + self.lo[phase], turns * self.step + self.hi[phase]

    def sizes(self) -> tuple[int, ...]:
        """The different extents among the units, in pixels, ascending."""
        return tuple(sorted({int(b - a) + 1 for a, b in zip(self.lo, self.hi, strict=True)
                             if a <= b}))  # fmt: skip


class Spans(NamedTuple):
    """First and last pixel that each unit of the real tensor sees (inf, -inf for nothing)."""

    lo: tuple[Number, ...]
    hi: tuple[Number, ...]


class Axis:
    """Receptive fields of the units of one tensor along one axis of the input.

    `lines` is None where the map has no regular form, `spans` is None where only the whole is
    seen. `least` is the map of the shortest path. `whole`: something in it depends on the whole
    image, in fact on this interval of it (a crop or a stride may leave a rim unseen). `lost`:
    positions are no longer distinguished; together they see the interval `together`. `endless`: the
    units see all that lies on one side of them (a running sum), however large the image. `mixed`:
    bit i says that units in different places of axis i see differently along this one, which is
    the hull of them. `wraps`: units were rolled round the end, so that blocks of them are others
    in an image of another size.
    """

    __slots__ = (
        "derived",
        "endless",
        "least",
        "lines",
        "lost",
        "mixed",
        "spans",
        "together",
        "whole",
        "wraps",
    )

    def __init__(
        self,
        lines: Lines | None = None,
        spans: Spans | None = None,
        least: Lines | None = None,
        *,
        whole: Interval | None = None,
        lost: bool = False,
        together: Interval | None = None,
        endless: bool = False,
        mixed: int = 0,
        wraps: bool = False,
    ) -> None:
        self.lines, self.spans, self.least = lines, spans, least
        self.whole, self.lost, self.together = whole, lost, together
        self.endless, self.mixed, self.wraps = endless, mixed, wraps
        self.derived: dict[Hashable, Axis] = {}  # what was read from it before

    @property
    def units(self) -> int:
        """Units along the axis (0 where they are not distinguished)."""
        return len(self.spans.lo) if self.spans else 0

    def but_mixed(self, axis: int) -> Axis:
        """The same, as a hull over the places of another axis."""
        if self.mixed >> axis & 1:
            return self
        return Axis(self.lines, self.spans, self.least, whole=self.whole, lost=self.lost,
                    together=self.together, endless=self.endless,
                    mixed=self.mixed | 1 << axis, wraps=self.wraps)  # fmt: skip

    def alike(self, other: Axis) -> bool:
        """Return True if units see the same."""
        return self is other or (self.spans == other.spans and self.whole == other.whole)

    def all_seen(self) -> Interval | None:
        """Union of the receptive fields of all units."""
        if self.spans is None or not self.spans.lo:
            return _outer(self.whole, self.together)
        return _outer(self.whole, (min(self.spans.lo), max(self.spans.hi)))

    def summed(self) -> Axis:
        """A function of all units."""
        return Axis(whole=self.all_seen())

    def forgotten(self) -> Axis:
        """The same without telling positions apart."""
        if self.whole:
            return Axis(whole=self.all_seen())
        return Axis(lost=True, together=self.all_seen())


def identity(size: int) -> Axis:
    """The input itself: every pixel sees itself."""
    if size > MAX_UNITS:
        return Axis(lost=True, together=(0, size - 1))
    pixels = tuple(range(size))
    lines = Lines(1, (0,), (0,))
    return Axis(lines, Spans(pixels, pixels), lines)


def _outer(a: Interval | None, b: Interval | None) -> Interval | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


class Reading(NamedTuple):
    """Input units that an output unit reads: `of(u + turn)` is `of(u)` moved by `move`.

    `turn` 0 says that it does not repeat; `real` is what is read of a tensor with borders, where
    that is more than leaving out what does not exist. `wraps`: units come round from the end.
    """

    of: Taps
    turn: int
    move: int
    real: Taps | None = None
    wraps: bool = False


def compose(axis: Axis, reading: Reading, units: int) -> Axis:
    """The axis as seen by `units` units that read it through taps."""
    if axis.spans is None:
        return axis
    if units > MAX_UNITS:
        return axis.forgotten()
    if not units:
        return Axis(None, Spans((), ()), axis.least)
    lines = _compose_lines(axis.lines, reading)
    if axis.least is axis.lines:
        least = lines or axis.least
    else:
        least = _compose_lines(axis.least, reading) or axis.least
    spans = _compose_spans(axis.spans, reading, units)
    return Axis(lines, spans, least, whole=axis.whole, lost=axis.lost, endless=axis.endless,
                mixed=axis.mixed, wraps=axis.wraps or reading.wraps)  # fmt: skip


def _compose_lines(lines: Lines | None, reading: Reading) -> Lines | None:
    if lines is None or not reading.turn:
        return None
    if reading.turn == 1 and lines.period == 1:
        seen = reading.of(0)
        first, last = min(seen), max(seen)
        lo0, hi0 = lines.lo[0] + first * lines.step, lines.hi[0] + last * lines.step
        return Lines(lines.step * reading.move, (lo0,), (hi0,))
    turns = lines.period // gcd(lines.period, reading.move) if reading.move else 1
    period = reading.turn * turns
    if period > MAX_PERIOD:
        return None
    step = lines.step * (reading.move * turns) // lines.period
    lo: list[Number] = []
    hi: list[Number] = []
    for unit in range(period):
        ends = [lines.at(tap) for tap in reading.of(unit)]
        lo.append(min((a for a, _ in ends), default=inf))
        hi.append(max((b for _, b in ends), default=-inf))
    return _shortest(Lines(step, tuple(lo), tuple(hi)))


def _shortest(lines: Lines) -> Lines:
    """The same map with its least period."""
    period = lines.period
    for part in range(1, period):
        if period % part or lines.step * part % period:
            continue
        shorter = Lines(lines.step * part // period, lines.lo[:part], lines.hi[:part])
        if all(shorter.at(u) == (lines.lo[u], lines.hi[u]) for u in range(part, period)):
            return shorter
    return lines


def _compose_spans(spans: Spans, reading: Reading, units: int) -> Spans:
    taps = reading.real or reading.of
    ascending = _ascending(spans.lo) and _ascending(spans.hi)
    first, last = 0, 0  # the units all of whose taps exist
    lo: tuple[Number, ...] = ()
    hi: tuple[Number, ...] = ()
    tap = taps(0)
    if ascending and isinstance(tap, range) and reading.turn == 1 and reading.move > 0:
        step = reading.move
        first = min(max(-(tap[0] // step), 0), units)
        last = max(min((len(spans.lo) - 1 - tap[-1]) // step + 1, units), first)
        lo = spans.lo[tap[0] + first * step : tap[0] + last * step : step]
        hi = spans.hi[tap[-1] + first * step : tap[-1] + last * step : step]
    before = _one_by_one(spans, taps, range(first), ascending=ascending)
    after = _one_by_one(spans, taps, range(last, units), ascending=ascending)
    return Spans((*before.lo, *lo, *after.lo), (*before.hi, *hi, *after.hi))


def _ascending(values: tuple[Number, ...]) -> bool:
    return list(values) == sorted(values)


def _one_by_one(spans: Spans, taps: Taps, units: range, *, ascending: bool) -> Spans:
    los, his = spans
    size = len(los)
    lo: list[Number] = []
    hi: list[Number] = []
    for unit in units:
        read = taps(unit)
        if ascending and isinstance(read, range):
            first, stop, step = read.start, min(read.stop, size), read.step
            first = first if first >= 0 else first % step
            lo.append(los[first] if first < stop else inf)
            hi.append(his[stop - 1 - (stop - 1 - first) % step] if first < stop else -inf)
        else:
            inside = [tap for tap in read if 0 <= tap < size]
            lo.append(min([los[tap] for tap in inside], default=inf))
            hi.append(max([his[tap] for tap in inside], default=-inf))
    return Spans(tuple(lo), tuple(hi))


def join(a: Axis, b: Axis) -> Axis:
    """Both together: the hull of what either sees."""
    if a is b:
        return a
    whole, lost, endless = _outer(a.whole, b.whole), a.lost or b.lost, a.endless or b.endless
    if a.spans is None or b.spans is None:
        local = a if b.spans is None else b
        if local.whole == whole and local.lost == lost:
            return local
        together = _outer(a.together, b.together)
        return Axis(local.lines, _filled(local.spans, whole), local.least, whole=whole, lost=lost,
                    together=together, endless=local.endless, mixed=local.mixed,
                    wraps=local.wraps)  # fmt: skip
    if a.units != b.units:
        if 1 not in (a.units, b.units):
            return join(a.forgotten(), b.forgotten())
        one, many = (a, b) if a.units == 1 else (b, a)
        if _sees_all(one, many):
            return join(one.summed(), many)
        a, b = held(one, many.units), many
    assert a.spans is not None  # noqa: S101  for the type checker
    assert b.spans is not None  # noqa: S101
    lines = a.lines if a.lines == b.lines else _join_lines(a.lines, b.lines)
    spans = a.spans if a.spans == b.spans else _hull(a.spans, b.spans)
    least = _smaller(a.least, b.least)
    return Axis(lines, spans, least, whole=whole, lost=lost, endless=endless,
                mixed=a.mixed | b.mixed, wraps=a.wraps or b.wraps)  # fmt: skip


def _sees_all(one: Axis, many: Axis) -> bool:
    """Return True if a single unit sees all that many units do: a function of the whole image.

    It is one of a pool whose window is the whole map, and is given back to every unit of it.
    """
    assert one.spans is not None  # noqa: S101  for the type checker
    assert many.spans is not None  # noqa: S101
    return one.spans.lo[0] <= min(many.spans.lo) and one.spans.hi[0] >= max(many.spans.hi)


def _filled(spans: Spans | None, whole: Interval | None) -> Spans | None:
    """Units that see nothing by themselves see the whole that is joined to them."""
    if spans is None or whole is None or inf not in spans.lo:
        return spans
    return Spans(
        tuple(whole[0] if value == inf else value for value in spans.lo),
        tuple(whole[1] if value == -inf else value for value in spans.hi),
    )


def _join_lines(a: Lines | None, b: Lines | None) -> Lines | None:
    if a is None or b is None or a.step * b.period != b.step * a.period:
        return None
    period = lcm(a.period, b.period)
    if period > MAX_PERIOD:
        return None
    both = [(a.at(u), b.at(u)) for u in range(period)]
    lo = tuple(min(x[0], y[0]) for x, y in both)
    hi = tuple(max(x[1], y[1]) for x, y in both)
    return _shortest(Lines(a.step * (period // a.period), lo, hi))


def _hull(a: Spans, b: Spans) -> Spans:
    return Spans(tuple(map(min, a.lo, b.lo)), tuple(map(max, a.hi, b.hi)))


def _smaller(a: Lines | None, b: Lines | None) -> Lines | None:
    """The shorter path."""
    if a is None or b is None or a is b:
        return a or b
    return a if max(a.sizes(), default=0) <= max(b.sizes(), default=0) else b


Part = tuple[Axis | None, int]  # a piece and its units; None sees nothing


def concatenate(parts: Sequence[Part]) -> Axis:
    """Pieces laid end to end along the axis; None for a piece that sees nothing, with its size.

    The regular form is that of most of the units: what a seam or a wrapped border sees stands in
    the spans alone. Where no form holds for most, there is none.
    """
    seeing = [(axis, size) for axis, size in parts if axis is not None]
    if any(axis.lost for axis, _ in seeing):
        joined = seeing[0][0].forgotten()
        for other, _ in seeing[1:]:
            joined = join(joined, other.forgotten())
        return Axis(lost=True, together=joined.all_seen())
    if all(axis.spans is None for axis, _ in seeing):
        return reduce(join, (axis for axis, _ in seeing))
    if len(seeing) == 1 and seeing[0][0].spans is not None:
        before = 0
        for axis, size in parts:
            if axis is not None:
                return compose(axis, shift(before), sum(s for _, s in parts))
            before += size
    spans = _laid(parts)
    least, whole = None, None
    for axis, _ in seeing:
        least = _smaller(least, axis.least)
        whole = _outer(whole, axis.whole) if axis.spans is not None else whole
    endless = any(axis.endless for axis, _ in seeing)
    lines = None if endless else _main_lines(parts, spans)
    endless = endless or (lines is None and _one_sided(spans))
    return Axis(lines, spans, least, whole=whole, endless=endless)


def _laid(parts: Sequence[Part]) -> Spans:
    lo: list[Number] = []
    hi: list[Number] = []
    for axis, size in parts:
        if axis is None:
            first, last = inf, -inf
        elif axis.spans is not None:
            lo += axis.spans.lo
            hi += axis.spans.hi
            continue
        else:
            first, last = axis.whole or (inf, -inf)
        lo += [first] * size
        hi += [last] * size
    return Spans(tuple(lo), tuple(hi))


def _main_lines(parts: Sequence[Part], spans: Spans) -> Lines | None:
    """The regular form that most of the units that see something have, None if there is none."""
    count: dict[Lines, int] = {}
    start = total = 0
    for axis, size in parts:
        if axis is not None:
            total += size
            lines = _compose_lines(axis.lines, shift(start)) if axis.spans is not None else None
            if lines is not None:
                count[lines] = count.get(lines, 0) + size
        start += size
    main = max(count, key=lambda lines: count[lines], default=None)
    if main is None or 2 * count[main] <= total or not _holds(main, spans):
        return None
    return main


def _holds(lines: Lines, spans: Spans) -> bool:
    """Return True if most units that could have the regular form have it."""
    first, last = min(spans.lo), max(spans.hi)
    inside = agree = 0
    for unit, pair in enumerate(zip(*spans, strict=True)):
        seen = lines.at(unit)
        if first <= seen[0] and seen[1] <= last:
            inside += 1
            agree += seen == pair
    return 2 * agree > inside or not inside


def _one_sided(spans: Spans) -> bool:
    """True if every unit of a map without a regular form sees all that lies on one side of it.

    That is what a recurrence leaves that was written out, step by step. Near the other side some
    see no more than their neighbours.
    """
    (lo, hi), first, last = spans, min(spans.lo), max(spans.hi)
    units = len(lo)
    if units < 3 or not first < last:
        return False
    left = all(a == first for a in lo) and list(hi) == sorted(hi)
    right = all(b == last for b in hi) and list(lo) == sorted(lo)
    distinct = max(len(set(lo)), len(set(hi)))
    return (left or right) and (4 * distinct >= 3 * units or distinct == 1)


def running(axis: Axis) -> Axis:
    """Every unit sees all units before it, and itself."""
    if axis.spans is None:
        return axis
    lo, hi = accumulate(axis.spans.lo, min), accumulate(axis.spans.hi, max)
    endless = axis.units > 1
    return Axis(None, Spans(tuple(lo), tuple(hi)), axis.least, whole=axis.whole, endless=endless)


def cut(axis: Axis, start: int, stop: int) -> Part | None:
    """A piece for `concatenate`, None where it is empty."""
    if stop <= start:
        return None
    return compose(axis, pick(start, 1), stop - start), stop - start


# ---------------------------------------------------------------------- how operations read


def window(kernel: int, stride: int, padding: int, dilation: int = 1) -> Reading:
    """Unit u reads u*stride - padding + k*dilation for every k of the kernel."""
    reach = dilation * (kernel - 1) + 1

    def taps(unit: int) -> range:
        first = unit * stride - padding
        return range(first, first + reach, dilation)

    return Reading(taps, 1, stride)


def transposed(kernel: int, stride: int, padding: int, dilation: int = 1) -> Reading:
    """Unit u reads i where i*stride - padding + k*dilation = u for a k of the kernel."""

    def taps(unit: int) -> list[int]:
        places = (unit + padding - k * dilation for k in range(kernel))
        return [place // stride for place in places if place % stride == 0]

    return Reading(taps, stride, 1)


def pick(start: int, step: int) -> Reading:
    """Unit u reads start + u*step: a slice."""
    return Reading(lambda unit: (start + unit * step,), 1, step)


def shift(before: int) -> Reading:
    """`before` units of padding (or, negative, of cropping) in front."""
    return Reading(lambda unit: (unit - before,), 1, 1)


def repeat(times: int) -> Reading:
    """Every unit `times` times."""
    return Reading(lambda unit: (unit // times,), times, 1)


def _smear(count: int, weight: int, units: int) -> Reading:
    """Every unit reads all of its block: `count` units that lie `weight` apart."""
    block = count * weight

    def taps(unit: int) -> range:
        first = unit - (unit // weight % count) * weight
        return range(first, first + block, weight)

    return Reading(taps, 0 if block == units else block, block)


def explicit(units: Sequence[int | Sequence[int]]) -> Reading:
    """Map of what each unit of this very size reads, which does not repeat."""
    read = [(u,) if isinstance(u, int) else u for u in units]
    return Reading(lambda unit: read[unit], 0, 0)


def listed(units: Sequence[int | Sequence[int]]) -> Reading:
    """Map of what each unit reads, with a regular form where the list repeats, moved on."""
    read = [(u,) if isinstance(u, int) else tuple(u) for u in units]
    found = _repetition(read)
    if found is None:
        return Reading(lambda unit: read[unit], 0, 0)
    turn, move = found

    def taps(unit: int) -> Sequence[int]:
        turns, phase = divmod(unit, turn)
        return [tap + turns * move for tap in read[phase]]

    return Reading(taps, turn, move, real=lambda unit: read[unit])


def rearranged(axis: Axis, places: Sequence[int]) -> Axis:
    """The axis with the units at these places."""
    if axis.units == len(places) and places[0] == 0 and list(places) == list(range(len(places))):
        return axis
    key = tuple(places)
    if key not in axis.derived:
        axis.derived[key] = compose(axis, listed(places), len(places))
    return axis.derived[key]


def smeared(axis: Axis, count: int, weight: int) -> Axis:
    """Every unit sees all of its block: `count` units that lie `weight` apart."""
    key = (count, weight, "block")
    if key not in axis.derived:
        how = _smear(count, weight, axis.units)
        axis.derived[key] = compose(axis, how._replace(turn=0) if axis.wraps else how, axis.units)
    return axis.derived[key]


def _repetition(read: Sequence[Sequence[int]]) -> tuple[int, int] | None:
    """(turn, move): `turn` units on the same is read, moved by `move`; seen at least twice."""
    size = len(read)
    for turn in range(1, min(size // 2, MAX_PERIOD) + 1):
        if not read[0] or len(read[turn]) != len(read[0]):
            continue
        move = read[turn][0] - read[0][0]
        if move > 0 and all(
            len(read[u]) == len(read[u - turn])
            and all(a - b == move for a, b in zip(read[u], read[u - turn], strict=True))
            for u in range(turn, size)
        ):
            return turn, move
    return None


def rolled(by: int, size: int) -> Reading:
    """Units moved on by `by`, the last ones to the front: regular but where they wrap around."""
    by = by % size if by % size <= size // 2 else by % size - size
    places = [(unit - by) % size for unit in range(size)]
    if 2 * abs(by) >= size:
        return explicit(places)
    return bordered(by, places)._replace(wraps=True)


def scattered(start: int, step: int) -> Reading:
    """Unit start + k*step reads k, the units between read nothing: a write into a slice."""

    def taps(unit: int) -> Sequence[int]:
        place, rest = divmod(unit - start, step)
        return () if rest else (place,)

    return Reading(taps, step, 1)


def besides(start: int, step: int) -> Reading:
    """Every unit but start + k*step reads itself: what such a write leaves."""
    return Reading(lambda unit: () if (unit - start) % step == 0 else (unit,), step, step)


def every(count: int, place: int) -> Reading:
    """Unit u*count + place reads u, the others nothing: one of `count` maps, interleaved."""

    def taps(unit: int) -> Sequence[int]:
        turn, rest = divmod(unit, count)
        return (turn,) if rest == place else ()

    return Reading(taps, count, 1)


def windows(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """Unit l*kernel + k reads l*stride - padding + k*dilation: windows written out (unfold)."""

    def taps(unit: int) -> tuple[int]:
        window, tap = divmod(unit, kernel)
        return (window * stride - padding + tap * dilation,)

    return Reading(taps, kernel, stride)


def overlapped(kernel: int, stride: int, padding: int, dilation: int) -> Reading:
    """Windows that were written out, added up in their places again (fold)."""

    def taps(unit: int) -> list[int]:
        places = ((unit + padding - k * dilation, k) for k in range(kernel))
        return [p // stride * kernel + k for p, k in places if p % stride == 0]

    return Reading(taps, stride, kernel)


def bordered(before: int, places: Sequence[int]) -> Reading:
    """Padding that reflects, repeats or wraps: `places[u]` is what is read in its stead."""
    return Reading(lambda unit: (unit - before,), 1, 1, real=lambda unit: (places[unit],))


def held(axis: Axis, units: int) -> Axis:
    """One unit broadcast to many: all of them see what it sees."""
    return compose(axis, Reading(lambda _: (0,), 1, 0), units)
