"""CUDA events, on a device that is simulated, and on a real one where there is one."""

from collections import deque
from itertools import chain, repeat

import pytest
import torch

from cnnscope.timing.timers import CudaTimer

SECOND = 1_000_000_000


class FakeCuda:
    """One stream: the device runs kernels in order, while the host goes on enqueueing."""

    def __init__(self, depth=1024):
        self.host = 0  # the host's clock, ns
        self.idle = 0  # when the device will have done everything
        self.pending = deque(maxlen=depth)  # when each kernel of the queue ends
        self.synchronizations = 0

    def clock(self):
        return self.host

    def kernel(self, enqueue, duration):
        if len(self.pending) == self.pending.maxlen:
            self.host = max(self.host, self.pending[0])
        self.host += enqueue
        self.idle = max(self.idle, self.host) + duration
        self.pending.append(self.idle)

    def synchronize(self):
        self.synchronizations += 1
        self.host = max(self.host, self.idle) + 5_000

    def _sleep(self, cycles):
        self.kernel(5_000, cycles / 1.5)  # a clock of 1.5 GHz

    def Event(self, *, enable_timing):  # noqa: N802
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, cuda):
        self.cuda, self.at = cuda, None

    def record(self):
        self.at = max(self.cuda.host, self.cuda.idle)

    def query(self):
        return self.at <= self.cuda.host

    def elapsed_time(self, end):
        return (end.at - self.at) / 1e6


def model_on(cuda, kernels, enqueue, duration):
    def step():
        for _ in range(kernels):
            cuda.kernel(enqueue, duration)

    return step


def test_events_time_the_device_where_it_is_the_slower():
    # 10 kernels of 100 us, enqueued in 10 us each: the device needs 1 ms, the host 0.1 ms
    cuda = FakeCuda()
    step = model_on(cuda, 10, 10_000, 100_000)
    for count_ in (1, 2, 20):
        block = CudaTimer(cuda, cuda.clock).block(step, count_, prime=False)
        assert block.samples == [1_000_000] * count_
        assert block.wall / count_ == pytest.approx(1_000_000, rel=0.01)


def test_the_first_call_after_a_synchronisation_is_not_charged_for_the_launch():
    cuda = FakeCuda()
    step = model_on(cuda, 1, 50_000, 60_000)
    cuda.host = 10**9
    assert CudaTimer(cuda, cuda.clock).block(step, 3, prime=False).samples == [60_000] * 3


def test_a_block_synchronises_before_and_after_and_never_between():
    cuda = FakeCuda()
    CudaTimer(cuda, cuda.clock).block(model_on(cuda, 2, 1, 1), 50, prime=False)
    assert cuda.synchronizations == 2


def test_a_launch_bound_model_takes_what_the_host_takes():
    # 100 kernels of 2 us, enqueued in 10 us each: 1 ms on the host, 0.2 ms on the device
    cuda = FakeCuda()
    timer = CudaTimer(cuda, cuda.clock)
    step = model_on(cuda, 100, 10_000, 2_000)
    assert timer.block(step, 5, prime=False).samples == [1_000_000] * 5
    launch = timer.launch(step)
    assert (launch.enqueue_ns, launch.device_ns) == (1_000_000, 200_000)


def test_the_spin_is_as_long_as_the_host_needs():
    # 30 ms to enqueue
    cuda = FakeCuda()
    launch = CudaTimer(cuda, cuda.clock).launch(model_on(cuda, 1000, 30_000, 1_000))
    assert (launch.enqueue_ns, launch.device_ns) == (30_000_000, 1_000_000)


def test_the_spin_grows_where_the_host_is_slower_than_it_was():
    cuda = FakeCuda()
    slowness = chain([1, 1, 1, 9], repeat(4))

    def step():
        cuda.kernel(1_000_000 * next(slowness), 1_000)

    # alone 1 ms, so a spin of (2 + 1) * 2 / 1.5 = 4 ms; then 9 ms to enqueue, and 4 from then on
    launch = CudaTimer(cuda, cuda.clock).launch(step)
    assert (launch.enqueue_ns, launch.device_ns) == (4_000_000, 1_000)


def test_a_host_that_waits_for_the_device_has_no_time_to_enqueue():
    # a number that is read, as a GradScaler does: 1 s each
    cuda = FakeCuda()

    def step():
        cuda.kernel(10_000, SECOND)
        cuda.synchronize()

    assert CudaTimer(cuda, cuda.clock).launch(step) is None
    assert cuda.host < 20 * SECOND  # and it is soon clear


def test_a_full_queue_is_a_host_that_waits():
    cuda = FakeCuda()
    assert CudaTimer(cuda, cuda.clock).launch(model_on(cuda, 3000, 10_000, 2_000)) is None


def test_a_device_bound_model_is_not_launch_bound():
    cuda = FakeCuda()
    launch = CudaTimer(cuda, cuda.clock).launch(model_on(cuda, 10, 10_000, 100_000))
    assert launch.enqueue_ns == 100_000
    assert launch.device_ns == 1_000_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_events_agree_with_the_wall_clock():
    a = torch.randn(4096, 4096, device="cuda")
    timer = CudaTimer(torch.cuda)
    timer.first(lambda: a @ a)
    block = timer.block(lambda: a @ a, 50, prime=True)
    assert sum(block.samples) == pytest.approx(block.wall, rel=0.1)
    launch = timer.launch(lambda: a @ a)
    assert launch.enqueue_ns < launch.device_ns
