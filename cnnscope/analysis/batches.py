"""The largest batch that fits: what a step takes at any batch, from traces of a few.

Nearly every tensor of a step has a fixed size, or one that is proportional to the batch: two traces
with the same operations tell those of every other batch, and the allocator is replayed with these.
The batches found so are traced then, so that the answer holds where sizes grow otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from cnnscope.analysis.step import Course, Reserved, replay
from cnnscope.errors import CnnscopeError

TOP = 2**31 - 1  # sizes of cuDNN and indices of most kernels have 32 bits
_ROUNDS = 12  # in which interpolation has to arrive
_NEAR = 9  # below a batch that does not run
_PER_BATCH = ("input", "saved", "output", "temporary")  # kinds that grow with it

Needs = Callable[[Reserved], int]  # bytes of a device
Trace = Callable[[int], Course]


class Batches:
    """What a step takes at each batch.

    Attributes:
        known: courses of the batches that were traced.
        refused: why others do not run.
        top: above which none runs, as far as it is known.

    Args:
        trace: the course of a batch; raises CnnscopeError where it does not run.
        smallest: the smallest batch that trains; any below takes as much.
        last: the largest batch that is traced; others are interpolated.
    """

    def __init__(self, trace: Trace, smallest: int = 1, last: int = TOP) -> None:
        self.known: dict[int, Course] = {}
        self.refused: dict[int, str] = {}
        self.smallest, self.last, self.top = smallest, last, TOP
        self._trace = trace
        self._exact = cache(lambda batch: replay(self.known[batch]))
        self._guessed: dict[int, Reserved] = {}
        self._lines: dict[tuple[int, int], tuple[int, int, int, int]] = {}  # with their tensors

    def add(self, batch: int, course: Course) -> None:
        """Take the course of a batch; if it is what was expected, so is what was guessed."""
        if self._expected(batch) != course:
            self._guessed.clear()
        self.known[batch] = course

    def at(self, batch: int) -> bool:
        """Trace a batch, unless it is known; whether it runs."""
        if batch not in self.known and batch not in self.refused:
            try:
                self.add(batch, self._trace(batch))
            except CnnscopeError as error:
                self.refused[batch] = str(error)
        return batch in self.known

    def takes(self, batch: int) -> Reserved:
        """What a batch takes: exactly if it was traced, else interpolated or extrapolated."""
        batch = max(batch, self.smallest)
        if batch in self.known:
            return self._exact(batch)
        if batch not in self._guessed:
            self._guessed[batch] = self._guess(batch)
        return self._guessed[batch]

    def _guess(self, batch: int) -> Reserved:
        expected = self._expected(batch)
        if expected is not None:
            return replay(expected)
        (a, b), *_ = self._pairs(batch)
        ends = zip(self._exact(a), self._exact(b), strict=True)
        return Reserved(*(between(a, low, b, high, batch) for low, high in ends))

    def _expected(self, batch: int) -> Course | None:
        """The course on the line through the nearest two that are alike, or by the only one."""
        pair = self._pair(batch)
        if pair is not None:
            return on_line(self.known, *pair, batch)
        if len(self.known) == 1:
            ((only, course),) = self.known.items()
            return scaled(course, batch / only)
        return None

    def _pairs(self, batch: int) -> Iterator[tuple[int, int]]:
        """Pairs of batches that were traced, the nearest first."""
        near = sorted(self.known, key=lambda one: (abs(one - batch), one))
        yield from itertools.combinations(near, 2)

    def largest(self, limit: int, needs: Needs) -> int:
        """The largest batch that fits, 0 where none does; it and the next one are traced.

        A batch is what the limit makes of it by bisection: where what is taken does not grow
        evenly, a larger one may fit as well.

        Args:
            limit: bytes of the device.
            needs: those that a step takes.
        """
        batch = 0
        for _ in range(_ROUNDS):
            batch = self.expected(limit, needs)
            ends = [one for one in (batch, batch + 1) if self.smallest <= one <= self.last]
            new = [one for one in ends if one not in self.known and one not in self.refused]
            for one in new:
                self.at(one)
            if batch in self.refused:
                self._descend(batch)
            if not new:
                return batch
        return batch

    def _descend(self, refused: int) -> None:
        """Find the batch below that runs: a near one, or the largest of all there are."""
        if any(self.at(one) for one in range(refused - 1, max(refused - _NEAR, 0), -1)):
            return
        low, high = max((k for k in self.known if k < refused), default=0), refused
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle) else (low, middle)
        self.top = low

    def confirmed(self, batch: int) -> bool:
        """Return True if a batch and the next one were traced; the next one may not run."""
        more = batch + 1
        last = batch == TOP or max(more, self.smallest) in self.known or more in self.refused
        return last and (batch < self.smallest or batch in self.known)

    def expected(self, limit: int, needs: Needs) -> int:
        """The largest batch that fits by what was traced so far, 0 where none does."""
        return lifted(lambda one: self._fits(one, limit, needs))

    def _fits(self, batch: int, limit: int, needs: Needs) -> bool:
        if batch in self.refused or batch > self.top:
            return False
        pair = self._pair(batch)
        if pair is not None and batch not in self.known:
            least = self._alive(pair, batch)  # which is cheaper than to replay
            if needs(Reserved(least, least)) > limit:
                return False
        return needs(self.takes(batch)) <= limit

    def estimate(self, limit: int, needs: Needs) -> int:
        """About the largest batch that fits, from the one that is known."""
        ((only, course),) = self.known.items()
        twice = scaled(course, 2)
        when = _fullest(twice)
        low, high = _alive(course, when), _alive(twice, when)
        share = self.takes(only).reserved / max(low, 1)

        def fits(batch: int) -> bool:
            segments = round(between(only, low, 2 * only, high, batch) * share)
            return needs(Reserved(segments, segments)) <= limit

        return lifted(fits)

    def _pair(self, batch: int) -> tuple[int, int] | None:
        """The nearest two that are alike but for their sizes."""
        pairs = self._pairs(batch)
        return next((p for p in pairs if alike(*(self.known[one] for one in p))), None)

    def _alive(self, pair: tuple[int, int], batch: int) -> int:
        """The tensors that are alive at one time."""
        if pair not in self._lines:
            a, b = pair
            when = _fullest(self.known[max(pair)])
            self._lines[pair] = a, _alive(self.known[a], when), b, _alive(self.known[b], when)
        return between(*self._lines[pair], max(batch, self.smallest))


def lifted(fits: Callable[[int], bool]) -> int:
    """The largest number up to `TOP` that fits, by bisection from its highest bit down.

    Which numbers are tried depends on no limit but through the answers, so that a larger limit
    never gives a smaller number, even where what is taken does not grow evenly.
    """
    found = 0
    for bit in reversed(range(TOP.bit_length())):
        if found | 1 << bit <= TOP and fits(found | 1 << bit):
            found |= 1 << bit
    return found


def alike(one: Course, other: Course) -> bool:
    """Return True if two courses differ in nothing but sizes."""
    return one.lives == other.lives and one._replace(sizes=()) == other._replace(sizes=())


def on_line(known: Mapping[int, Course], a: int, b: int, batch: int) -> Course:
    """The course of a batch on the line through those of two others."""
    pairs = zip(known[a].sizes, known[b].sizes, strict=True)
    sizes = tuple(between(a, low, b, high, batch) for low, high in pairs)
    return known[a]._replace(sizes=sizes)


def scaled(course: Course, times: float) -> Course:
    """A course with so many times the batch, for a first estimate."""
    grows = [
        kind in _PER_BATCH and born < course.update
        for kind, (born, _) in zip(course.kinds, course.lives, strict=True)
    ]
    pairs = zip(course.sizes, grows, strict=True)
    return course._replace(sizes=tuple(round(size * times) if g else size for size, g in pairs))


def _fullest(course: Course) -> int:
    """The operation at which most is alive."""
    changes = [0] * (course.end + 2)
    for size, (born, died) in zip(course.sizes, course.lives, strict=True):
        changes[max(born, 0)] += size
        changes[died] -= size
    sums = list(itertools.accumulate(changes))
    return sums.index(max(sums))


def _alive(course: Course, when: int) -> int:
    """Bytes that are alive at an operation."""
    pairs = zip(course.sizes, course.lives, strict=True)
    return sum(size for size, (born, died) in pairs if born <= when < died)


def between(a: int, low: int, b: int, high: int, batch: int) -> int:
    """The value at a batch, on the line through the values at two others; at least 0."""
    return max(0, low + (high - low) * (batch - a) // (b - a))


def with_update(course: Course, other: Course) -> Course:
    """A course with the optimizer of another step of the same network, which no batch changes."""
    shift = course.update - other.update
    end = other.end + shift
    mine = [
        (kind, size, (born, end if died >= course.end else died))
        for kind, size, (born, died) in zip(course.kinds, course.sizes, course.lives, strict=True)
        if kind != "optimizer state" and born < course.update
    ]
    theirs = [
        (kind, size, (born if born < 0 else born + shift, died + shift))
        for kind, size, (born, died) in zip(other.kinds, other.sizes, other.lives, strict=True)
        if kind == "optimizer state" or born >= other.update
    ]
    kinds, sizes, lives = zip(*mine, *theirs, strict=True)
    return Course(kinds, sizes, lives, course.update, end)
