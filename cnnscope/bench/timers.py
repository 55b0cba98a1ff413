"""How a block of calls is timed: by the host's clock on the CPU, by events on CUDA.

The CUDA timer is given what it needs of `torch.cuda`, so that its logic is tested against a
simulated device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, Protocol

from cnnscope.bench.loop import Block, Step
from cnnscope.records import Launch

_now = time.perf_counter_ns
_PROBES = 5
_TRIES = 12
_CYCLES_PER_NS = 2  # no GPU of today clocks its cores much above 2 GHz: the spin is long enough
_LAUNCHES_AHEAD_NS = 1_000_000


class HostTimer:
    """The host's clock; `synchronize` waits for a device that works on its own (MPS)."""

    def __init__(self, synchronize: Callable[[], object] | None = None) -> None:
        self.synchronize = synchronize

    def first(self, step: Step) -> int:
        """One call, waited for."""
        return self.block(step, 1, prime=False).samples[0]

    def launch(self, step: Step) -> Launch | None:  # noqa: ARG002
        """Host and device are one, or cannot be told apart."""
        return None

    def block(self, step: Step, count: int, *, prime: bool) -> Block:
        """Each call from start to end, where it matters to the end on the device."""
        if prime:
            step()
        if self.synchronize is not None:
            return _synchronized(step, count, self.synchronize)
        samples: list[int] = []
        for _ in range(count):
            begin = _now()
            step()
            samples.append(_now() - begin)
        return Block(samples)


def _synchronized(step: Step, count: int, synchronize: Callable[[], object]) -> Block:
    synchronize()
    samples: list[int] = []
    for _ in range(count):
        begin = _now()
        step()
        synchronize()
        samples.append(_now() - begin)
    return Block(samples)


class Cuda(Protocol):
    """The part of `torch.cuda` that timing needs."""

    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    def Event(self, *, enable_timing: bool) -> Any:  # noqa: N802  torch's name
        """A mark in the stream."""

    def _sleep(self, cycles: int) -> None:
        """Keep the device busy for so many cycles of its clock."""


class CudaTimer:
    """An event before and after every call; the wall clock of the whole block beside them."""

    def __init__(self, cuda: Cuda, clock: Callable[[], int] = _now) -> None:
        self.cuda, self.clock = cuda, clock

    def block(self, step: Step, count: int, *, prime: bool) -> Block:  # noqa: ARG002
        """Enqueue `count` calls and read the events when all are done.

        One call that does not count always goes before them: after a synchronisation the device
        is idle, and the first call would be charged for the launch of its first kernel.
        """
        marks = [self._mark() for _ in range(count + 1)]
        self.cuda.synchronize()
        step()
        marks[0].record()
        begin = self.clock()
        for mark in marks[1:]:
            step()
            mark.record()
        self.cuda.synchronize()
        wall = self.clock() - begin
        return Block([round(1e6 * a.elapsed_time(b)) for a, b in pairwise(marks)], wall)

    def first(self, step: Step) -> int:
        """Wall clock of one call, waited for."""
        self.cuda.synchronize()
        begin = self.clock()
        step()
        self.cuda.synchronize()
        return self.clock() - begin

    def launch(self, step: Step) -> Launch | None:
        """How long the host takes to enqueue a call, and the device to carry it out.

        The device is kept spinning while the host enqueues, so that all kernels wait in the queue
        and run back to back: the method of nvbench's blocking kernel. A probe counts only if the
        spin had not ended when the host was done.
        """
        enqueues: list[int] = []
        devices: list[float] = []
        spin = _LAUNCHES_AHEAD_NS
        for _ in range(_TRIES):
            start, end = self._mark(), self._mark()
            self.cuda.synchronize()
            self.cuda._sleep(_CYCLES_PER_NS * spin)  # noqa: SLF001
            start.record()
            begin = self.clock()
            step()
            enqueue = self.clock() - begin
            waited = not start.query()
            end.record()
            self.cuda.synchronize()
            if not waited:
                spin = max(2 * spin, 2 * enqueue)
                continue
            enqueues.append(enqueue)
            devices.append(1e6 * start.elapsed_time(end))
            if len(enqueues) == _PROBES:
                break
        return Launch(median(enqueues), median(devices)) if enqueues else None

    def _mark(self) -> Any:
        return self.cuda.Event(enable_timing=True)
