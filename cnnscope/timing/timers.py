"""Time a block of calls: by the host's clock on the CPU, by events on CUDA.

The CUDA timer is given what it needs of `torch.cuda`, so that its logic is tested against a
simulated device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, Protocol

from cnnscope.records.bench import Launch
from cnnscope.timing.loop import Block, Step

_now = time.perf_counter_ns
_PROBES = 5
_ALONE = 3
_SPINS = 2  # the second is twice as long
_CYCLES_PER_NS = 2  # GPUs clock their cores at 1 to 3 GHz
_LAUNCHES_AHEAD_NS = 1_000_000


class HostTimer:
    """The host's clock; `synchronize` waits for a device that works on its own (MPS)."""

    def __init__(self, synchronize: Callable[[], object] | None = None) -> None:
        self.synchronize = synchronize

    def first(self, step: Step) -> int:
        """One call, waited for."""
        return self.block(step, 1, prime=False).samples[0]

    def launch(self, step: Step) -> Launch | None:  # noqa: ARG002
        """Host and device are one, or cannot be distinguished."""
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
        is idle, and the first call would be charged for the launch of its first kernel. The wall
        clock knows of no call but all of them, so its share of that one is taken off.
        """
        marks = [self._mark() for _ in range(count + 1)]
        self.cuda.synchronize()
        begin = self.clock()
        step()
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        self.cuda.synchronize()
        wall = (self.clock() - begin) * count // (count + 1)
        return Block([round(1e6 * a.elapsed_time(b)) for a, b in pairwise(marks)], wall)

    def first(self, step: Step) -> int:
        """Wall clock of one call, waited for."""
        self.cuda.synchronize()
        begin = self.clock()
        step()
        self.cuda.synchronize()
        return self.clock() - begin

    def launch(self, step: Step) -> Launch | None:
        """Time the host's enqueueing of a call, and the device's execution of it.

        The device is kept spinning while the host enqueues, so that all kernels wait in the queue
        and run back to back: the method of nvbench's blocking kernel. A probe counts only if the
        spin had not ended when the host was done.

        None where the host waits for the device within a call, as for a number that it reads or
        for room in the queue (about a thousand launches): then no spin is long enough.
        """
        alone = min(self._probe(step, 0)[0] for _ in range(_ALONE))
        spin = 2 * alone + _LAUNCHES_AHEAD_NS
        found: list[Launch] = []
        for _ in range(_SPINS):
            while len(found) < _PROBES:
                enqueue, device, spinning = self._probe(step, spin)
                if not spinning:
                    break
                found.append(Launch(enqueue, device))
            spin *= 2
        if not found:
            return None
        return Launch(median(p.enqueue_ns for p in found), median(p.device_ns for p in found))

    def _probe(self, step: Step, spin: int) -> tuple[int, float, bool]:
        """Enqueue a call behind a spin: host's and device's ns, and whether it spun throughout."""
        start, end = self._mark(), self._mark()
        self.cuda.synchronize()
        if spin:
            self.cuda._sleep(_CYCLES_PER_NS * spin)  # noqa: SLF001
        start.record()
        begin = self.clock()
        step()
        enqueue = self.clock() - begin
        spinning = not start.query()
        end.record()
        self.cuda.synchronize()
        return enqueue, 1e6 * start.elapsed_time(end), spinning

    def _mark(self) -> Any:
        return self.cuda.Event(enable_timing=True)
