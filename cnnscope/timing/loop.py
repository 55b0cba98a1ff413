"""The timing loop: rounds of blocks, several programs in turns, until time and samples suffice.

Knows nothing of torch: a program is a callable, and a `Timer` says how a block of its calls is
timed on a device (see `timers.py`).
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Protocol

Step = Callable[[], object]

MIN_ROUNDS = 10
MIN_WARMUP_CALLS = 3
_BLOCK_NS = 25_000_000  # long beside a timer's own cost, short beside a slow spell of the machine
_MAX_BLOCK = 1000
_ROUNDS_WANTED = 40
_WARMUP_SHARE = 0.2
_SEED = 20240229


class Block(NamedTuple):
    """Times of successive calls: each in ns, and the wall clock of all (0: they are wall clock)."""

    samples: list[int]
    wall: int = 0


class Timer(Protocol):
    """Interface of a timer of calls on a device."""

    def first(self, step: Step) -> int:
        """The wall clock of one call, waited for, in ns."""
        ...

    def block(self, step: Step, count: int, *, prime: bool) -> Block:
        """Time `count` successive calls; `prime` makes one call before them that does not count."""
        ...


@dataclass
class Program:
    """A program that is timed, and its times so far (ns)."""

    name: str
    step: Step
    rounds: list[list[int]] = field(default_factory=list)
    walls: list[int] = field(default_factory=list)
    first_ns: int = 0
    warmup_ns: int = 0
    warmup_calls: int = 0
    per_call: float = 0.0


class Progress(NamedTuple):
    """Progress of a measurement."""

    what: str
    samples: int
    seconds_left: float


Report = Callable[[Progress], None]


def first_call(program: Program, timer: Timer) -> None:
    """The call that initialises, chooses algorithms and compiles: distinguished from the others."""
    program.first_ns = timer.first(program.step)


def warm_up(
    program: Program, timer: Timer, seconds: float, clock: Callable[[], int] = time.perf_counter_ns
) -> None:
    """Call for a fifth of the time budget, at least 3 times: clocks rise, caches fill."""
    begin, budget = clock(), int(seconds * _WARMUP_SHARE * 1e9)
    recent: list[int] = []
    count = 1
    while program.warmup_calls < MIN_WARMUP_CALLS or clock() - begin < budget:
        block = timer.block(program.step, count, prime=False)
        recent = block.samples
        program.warmup_calls += count
        count = max(1, min(_MAX_BLOCK, round(_BLOCK_NS / max(median(recent), 1))))
        if clock() - begin >= budget:
            count = 1
    program.warmup_ns = clock() - begin
    program.per_call = median(recent)


def measure(
    programs: Sequence[Program],
    timer: Timer,
    seconds: float,
    report: Report = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> None:
    """Rounds until `seconds` for each program have passed and there are `MIN_ROUNDS` of them.

    In every round each program runs one block. Of two rounds, the second goes through them
    backwards (A B, B A), so that what drifts linearly hits all of them alike. The first program of
    each pair of rounds is drawn at random, so that a disturbance at the pace of the rounds does as
    well (randomised blocks: Fisher 1926, The Arrangement of Field Experiments). With several, the
    first call of a block finds the caches full of another program's data and is not counted. A
    round that is interrupted is left out.
    """
    with no_garbage_collection():
        rounds(programs, timer, seconds, report, clock)


def rounds(
    programs: Sequence[Program],
    timer: Timer,
    seconds: float,
    report: Report = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> None:
    """Measure with garbage collection off, which the caller has seen to."""
    budget = int(seconds * 1e9) * len(programs)
    counts = [_count(p, seconds) for p in programs]
    order = list(range(len(programs)))
    lot = random.Random(_SEED)  # noqa: S311  for chance, not for secrets
    prime = len(programs) > 1
    begin = clock()
    done = 0
    while done < MIN_ROUNDS or clock() - begin < budget:
        if done % 2:
            order.reverse()
        else:
            lot.shuffle(order)
        blocks: dict[int, Block] = {}
        for i in order:
            blocks[i] = timer.block(programs[i].step, counts[i], prime=prime)
        for i, block in blocks.items():
            programs[i].rounds.append(block.samples)
            programs[i].walls.append(block.wall)
        done += 1
        report(_progress(programs, done, clock() - begin, budget))


def _count(program: Program, seconds: float) -> int:
    """Calls in a block: about 25 ms of them, less where a short run needs enough rounds."""
    block = min(_BLOCK_NS, seconds * 1e9 / _ROUNDS_WANTED)
    return max(1, min(_MAX_BLOCK, round(block / max(program.per_call, 1))))


def _progress(programs: Sequence[Program], done: int, spent: int, budget: int) -> Progress:
    left = max(budget - spent, spent * (MIN_ROUNDS - done) // done, 0)
    samples = min(sum(map(len, p.rounds)) for p in programs)
    return Progress(", ".join(p.name for p in programs), samples, left / 1e9)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """As `timeit` does: a collection in the middle of a call is not the model's time."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
