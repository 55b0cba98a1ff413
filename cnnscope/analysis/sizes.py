"""Input sizes that a network works on: the search, and the rule that its answers follow.

Nothing is derived: a size works if a forward at that size has run, and nothing is said of sizes
that were not tried. No torch: whether a size works is asked of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from cnnscope.records.explain import Run, SizeFailure, SmallestInput

WINDOW = 64  # sizes above the smallest that are tried: a U-Net of six levels needs multiples of 64
_LADDER = (32, 64, 96, 128, 224, 256, 384, 512)  # to begin with, where none is known to work
_LONGEST = 256  # step of a rule that is looked for
_ENOUGH = 3  # sizes that work before a rule is believed
_STEPS = (1, 2, 4, 8, 16, 32, 64, 3, 6, 12, 7, 14, 28, 56, 5, 10, 20)  # between sizes that work
_FIRST = (1, 2, 4, 8, 16, 32, 64, 3, 5, 6, 7)  # above the smallest size
_LITTLE = 0.3  # of the allowance, for what lies above where nothing has failed there
_LATE = 1.2  # what may be spent with the test of a rule
_LATEST = 4.0  # and until where sizes begin to work is found, which comes first of all
_HALF = 0.6  # of the allowance, for what lies below the smallest
_COUNTED = ("samples", "positions", "frames")  # axes of which a size is so many
_MANY = 6  # runs of sizes that a sentence lists

Works = Callable[[int], bool]


class Rule(NamedTuple):
    """From `start` on, a size n works if n = offset (mod step); with step 0 none works."""

    start: int
    step: int
    offset: int


class Search:
    """Sizes from 1 on, asked once each.

    Args:
        works: whether a forward at a size runs.
        spent: share of what may be spent on forwards; from 1 on the search ends.
        thorough: try all of the window above the smallest size, even if what comes first works,
            and end a little later where that finds the rule.
    """

    def __init__(self, works: Works, spent: Callable[[], float], *, thorough: bool = True) -> None:
        self._works, self._spent, self._thorough = works, spent, thorough
        self._late = _LATE if thorough else 1.0
        self.tried: dict[int, bool] = {}

    def works(self, size: int) -> bool:
        """Return True if a size works."""
        if size not in self.tried:
            self.tried[size] = self._works(size)
        return self.tried[size]

    @property
    def smallest(self) -> int | None:
        """The smallest of the sizes tried that works."""
        return min((n for n, ok in self.tried.items() if ok), default=None)

    def run(self, seeds: Sequence[int]) -> None:
        """Find the smallest size and what follows it.

        Args:
            seeds: sizes that are likely to work, the likeliest first.
        """
        top = self._any(seeds)
        if top is None:
            return
        self._begin(top)
        self._below()
        self._above()
        self._beyond(top)

    def _any(self, seeds: Sequence[int]) -> int | None:
        """A size that works: of the seeds, usual sides, one more than these, and 1 to WINDOW."""
        usual: Sequence[int] = (*_LADDER, *(n + 1 for n in _LADDER), *range(1, WINDOW + 1))
        for size in (*seeds, *usual):
            if self.works(size):
                return size
            if self._spent() >= 1:
                break
        return None

    def _begin(self, top: int) -> None:
        """Size from which every `step`th works, if all below it fail.

        It gallops up from the smallest, as what fails costs little, and bisects the last leap.
        """
        step = next((n for n in _STEPS if n < top and self.works(top - n)), 0)
        if not step:
            return
        base = (top - 1) % step + 1
        low, high = -1, (top - base) // step  # in steps above `base`: fails, works
        leap = 0
        while leap < high and self._spent() < _LATEST:
            if self.works(base + leap * step):
                high = leap
                break
            low, leap = leap, 2 * leap + 1
        while high - low > 1 and self._spent() < _LATEST:
            middle = (low + high) // 2
            if self.works(base + middle * step):
                high = middle
            else:
                low = middle

    def _below(self) -> None:
        """Ask those below the smallest, the likeliest first, until all are known to fail."""
        smallest = self.smallest or 1
        for size in _likely_first(smallest):
            if self._spent() >= _HALF:
                return
            if size < (self.smallest or 1):
                self.works(size)

    def _above(self) -> None:
        """Ask a window above the smallest, spread over it as long as it is not full.

        Where all that is asked works, little is spent on more of it.
        """
        smallest = self.smallest or 1
        for asked, more in enumerate((*_FIRST, *_spread(WINDOW))):
            regular = asked >= len(_FIRST) and not self._fails_above(smallest)
            if self._spent() >= (_LITTLE if regular else 1) or (regular and not self._thorough):
                return
            self.works(smallest + more)

    def _fails_above(self, size: int) -> bool:
        return any(n > size and not works for n, works in self.tried.items())

    def _beyond(self, top: int) -> None:
        """Try multiples of the smallest size where few have worked; test the rule once more."""
        n, found = self.smallest or 1, rule(self.tried, certain=False)
        beyond: Sequence[int] = ()
        if sum(self.tried.values()) < _ENOUGH:
            beyond = (2 * n, 3 * n, 2 * n - 1, 3 * n - 2, 2 * top)
        elif found is not None and found.step > 1:
            last = max(size for size, works in self.tried.items() if works)
            beyond = (last + 1, last - 1, last + found.step, last + 2 * found.step)
        for size in beyond:
            if self._spent() < self._late:
                self.works(size)


def _likely_first(end: int) -> Iterator[int]:
    """1 to end - 1: what halves often, then that plus one, then all from 1 on."""
    halving = [n for k in (32, 16, 8, 4) for n in range(k, end, k)]
    powers = [2**k for k in range(end.bit_length()) if 2**k < end]
    yield from dict.fromkeys((*powers, *halving[:16], *(n + 1 for n in powers), *range(1, end)))


def _spread(end: int) -> Iterator[int]:
    """1 to `end`, a power of 2, so that any beginning is spread evenly: 64, 32, 16, 48, ..."""
    bits = end.bit_length() - 1
    for n in range(end):
        turned = int(f"{n:0{bits}b}"[::-1], 2)
        yield turned or end


# ----------------------------------------------------------------------------------- the rule


def rule(tried: dict[int, bool], *, certain: bool = True) -> Rule | None:
    """The rule with the earliest start that all sizes tried from there on follow.

    It needs three sizes that work. It is certain where those next to them have failed (a network
    that rounds sizes down works on 16 to 19, 32 to 35 and so on), and, for a step less than a gap
    seen elsewhere, as many in a row were tried as lie in that. None where there is no such rule.
    """
    sizes = sorted(tried)
    working = [n for n in sizes if tried[n]]
    if not working:
        return None
    rules = [
        found
        for step in range(1, _LONGEST + 1)
        for offset in sorted({n % step for n in working[-_ENOUGH:]})
        if (found := _followed(tried, sizes, step, offset)) is not None
        and not (certain and _open(tried, found))
    ]
    ends = [n for n in sizes if n > working[-1]]
    if len(ends) > _ENOUGH:
        rules.append(Rule(working[-1] + 1, 0, 0))
    return min(rules, key=lambda r: (r.start, r.step), default=None)


def _followed(tried: dict[int, bool], sizes: Sequence[int], step: int, offset: int) -> Rule | None:
    start, works = None, 0
    for size in reversed(sizes):
        if tried[size] != (size % step == offset):
            break
        start, works = size, works + tried[size]
    if start is None or works < _ENOUGH:
        return None
    return Rule(start, step, offset)


def _open(tried: dict[int, bool], found: Rule) -> bool:
    """True if too little was tried for a rule: next to its sizes, or in a row for wider gaps."""
    asked = [size for size in tried if size >= found.start]
    gap = max((last - first + 2 for first, last in _gaps(tried)), default=0)
    if found.step < gap and max(last - first + 1 for first, last in runs(asked)) < gap:
        return True
    residues = {size % found.step for size in asked}
    return not {(found.offset + side) % found.step for side in (-1, 0, 1)} <= residues


def _gaps(tried: dict[int, bool]) -> Iterator[Run]:
    """First and last of the sizes that fail between two that work, where all were tried."""
    for first, last in runs(size for size, works in tried.items() if not works):
        if tried.get(first - 1) and tried.get(last + 1):
            yield first, last


def runs(sizes: Iterable[int]) -> tuple[Run, ...]:
    """Consecutive sizes as (first, last)."""
    found: list[Run] = []
    for size in sorted(sizes):
        if found and found[-1][1] == size - 1:
            found[-1] = found[-1][0], size
        else:
            found.append((size, size))
    return tuple(found)


# ------------------------------------------------------------------------------- as a sentence


def shown(axes: Sequence[str], size: int) -> str:
    """16x16 for axes that are varied together; 16 samples, width 16."""
    if len(axes) > 1:
        return "x".join([str(size)] * len(axes))
    (axis,) = axes
    if size == 1 and axis in _COUNTED:
        return f"1 {axis[:-1]}"
    return f"{size} {axis}" if axis in _COUNTED else f"{axis} {size}"


def sentence(found: SmallestInput) -> str:
    """Describe the sizes that work: "16x16, and only multiples of 16; at 15x15 add breaks: ..."."""
    if found.unclear:
        return f"not known: {found.unclear}"
    if found.side is None:
        return f"no size works of those tried ({tried(found)})"
    text = what_works(found)
    below = found.layer or found.reason
    if below:
        text += _breaks(found, SizeFailure(found.side - 1, found.layer, found.reason))
    if found.above is not None and not (below and found.step == 0):
        text += _breaks(found, found.above)
    return f"{text} (tried: {tried(found)})"


def what_works(found: SmallestInput) -> str:
    """63x63; 16x16, and only multiples of 16; 1x1, from 5x5 on only multiples of 4."""
    smallest = found.side or 1
    text = shown(found.axes, smallest)
    if found.above is None:
        larger = any(last > smallest for _, last in found.works)
        return (
            f"{text} and every larger size tried" if larger else f"{text}; no larger one was tried"
        )
    if found.step == 1:
        return f"{text}; from {shown(found.axes, found.start)} on every size tried works"
    only = "only " if found.step == 0 else ""
    if not found.step and found.works == ((smallest, smallest),):
        return f"{only}{text}"
    begin = max(found.start, found.above.size)
    others = any(smallest < last and first < begin for first, last in found.works)
    if not found.step or (others and smallest < found.start):
        return f"{only}{_listed(found.works, found.axes)}"
    if smallest >= found.start:
        return f"{text}, and only {pattern(found)}"
    return f"{text}; from {shown(found.axes, begin)} on only {pattern(found)}"


def pattern(found: SmallestInput) -> str:
    """Multiples of 16; 32k + 1 (33, 65, 97)."""
    step = found.step or 1
    if found.offset == 0:
        return f"multiples of {step}"
    begin = max(found.start, found.side or 1)
    first = begin + (found.offset - begin) % step
    examples = ", ".join(str(first + k * step) for k in range(3))
    return f"{step}k + {found.offset} ({examples})"


def nearest(found: SmallestInput, size: int) -> tuple[int, ...]:
    """Sizes tried that work: the one next below a size, and the one next above."""
    every = [n for low, high in found.works for n in range(low, high + 1)]
    below, above = [n for n in every if n < size], [n for n in every if n > size]
    return (*below[-1:], *above[:1])


def tried(found: SmallestInput) -> str:
    """1 to 127, 224."""
    every = [n for low, high in (*found.works, *found.fails) for n in range(low, high + 1)]
    return _listed(runs(every))


def _breaks(found: SmallestInput, failure: SizeFailure) -> str:
    reason = f": {failure.reason}" if failure.reason else ""
    size = shown(found.axes, failure.size) if len(found.axes) > 1 else str(failure.size)
    return f"; at {size} {failure.layer or 'it'} breaks{reason}"


def _listed(found: Sequence[Run], axes: Sequence[str] = ("",)) -> str:
    """1 to 127, 224; 7x7 to 8x8 for two axes."""
    if len(found) > _MANY:
        every = sum(high - low + 1 for low, high in found)
        return f"{every} sizes from {found[0][0]} to {found[-1][1]}"
    ends = [[shown(axes, n).strip() for n in dict.fromkeys(run)] for run in found]
    return ", ".join(" to ".join(texts) for texts in ends)
