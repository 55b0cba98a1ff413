"""What `cnnscope bench` is made of: statistics, the loop, the timers, bytes and the roofline."""

import gc
import os
from collections import deque
from itertools import chain, count, pairwise, repeat

import numpy as np
import pytest
import torch
from torch import nn

import cnnscope
from cnnscope import parallel
from cnnscope.bench import compare, devices, loop, machine, stats, work
from cnnscope.bench.layers import time_layers
from cnnscope.bench.loop import Block, Program
from cnnscope.bench.timers import CudaTimer, HostTimer
from cnnscope.errors import RequestError
from cnnscope.models import build
from cnnscope.records import BenchSettings, Ceilings

SECOND = 1_000_000_000
SETTINGS, TRAINING = BenchSettings("cpu"), BenchSettings("cpu", mode="train")


def noise(size, phi, spread, seed):
    """Autocorrelated noise (AR(1) with factor phi): a machine that is slow for a while."""
    random = np.random.default_rng(seed)
    shocks = random.normal(0, spread * np.sqrt(1 - phi**2), size)
    values = [random.normal(0, spread)]
    for shock in shocks[1:]:
        values.append(phi * values[-1] + shock)
    return np.array(values)


# ------------------------------------------------------------------------------ statistics


def test_median_and_quartiles_interpolate_between_samples():
    # of 1..10, type 7: position 9 * q, so q1 = 3.25, median 5.5, q3 = 7.75
    s = stats.describe(range(10, 0, -1))
    assert (s.count, s.median_ns, s.q1_ns, s.q3_ns) == (10, 5.5, 3.25, 7.75)
    assert (s.min_ns, s.max_ns, s.mean_ns) == (1, 10, 5.5)


@pytest.mark.parametrize(("quantile", "least"), [(0.90, 36), (0.95, 72), (0.99, 368)])
def test_percentiles_need_samples(quantile, least):
    # ln(0.025)/ln(0.9) = 35.01, ln(0.025)/ln(0.95) = 71.9, ln(0.025)/ln(0.99) = 367.04
    assert stats.supported(least, quantile)
    assert not stats.supported(least - 1, quantile)


def test_p99_is_left_out_where_samples_are_few():
    assert stats.describe(range(1, 368)).p99_ns is None
    # of 1..368: position 367 * 0.99 = 363.33, the values begin at 1
    assert stats.describe(range(1, 369)).p99_ns == pytest.approx(364.33)


def test_interval_of_the_median_holds_the_median_nineteen_times_in_twenty():
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        interval = stats.describe(random.exponential(1e6, 50).astype(int) + 1_000_000).interval
        inside += interval.low <= 1_000_000 + 1e6 * np.log(2) <= interval.high
    assert inside >= 180


def test_autocorrelated_samples_have_wider_intervals_than_independent_ones():
    slow = 1e7 * np.exp(noise(400, 0.95, 0.05, seed=1))
    shuffled = np.random.default_rng(2).permutation(slow)
    one, other = (stats.describe(x.astype(int)).interval for x in (slow, shuffled))
    assert one.high - one.low > 1.5 * (other.high - other.low)


def test_blocks_are_as_long_as_the_memory_of_the_samples():
    # AR(1) with factor 0.9: the integrated time of the values is (1 + 0.9)/(1 - 0.9) = 19
    free, bound = noise(1000, 0, 1, seed=4), noise(1000, 0.9, 1, seed=4)
    assert stats.block_length(free > 0) == 10  # the cube root of 1000
    assert 15 <= stats.block_length(bound > 0) <= 60


def test_too_few_samples_have_no_interval():
    # 5 samples hold the median between them with probability 1 - 2/32 = 93.75 %
    assert stats.describe([5, 4, 3, 2, 1]).interval is None
    assert stats.describe([6, 5, 4, 3, 2, 1]).interval is not None
    assert stats.describe([7]).median_ns == 7


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_very_many_samples_have_the_interval_that_drawing_gives(monkeypatch, phi):
    samples = (1e5 * np.exp(noise(30_000, phi, 0.1, seed=6))).astype(int)
    block = stats.block_length(samples > np.median(samples))
    told = stats.median_interval(samples, block)
    monkeypatch.setattr(stats, "_MANY", len(samples))
    drawn = stats.median_interval(samples, block)
    assert told.high - told.low == pytest.approx(drawn.high - drawn.low, rel=0.15)
    assert told.low == pytest.approx(drawn.low, rel=0.001)
    assert told.high == pytest.approx(drawn.high, rel=0.001)


def test_an_interval_of_times_is_never_below_zero():
    # nine fast samples, and six that stalled in one spell
    interval = stats.describe([10] * 5 + [10_000] * 6 + [10] * 4).interval
    assert 0 < interval.low <= 10.001
    assert interval.high >= 9.999


def test_drift_is_the_second_half_over_the_first():
    assert stats.drift([100, 100, 100, 110, 110, 110]) == pytest.approx(0.1)
    assert stats.drift([100]) == 0


def test_outliers_lie_three_interquartile_ranges_above():
    # q1 100, q3 104, IQR 4: the fence is 116
    assert stats.outliers([100, 101, 104, 116, 117, 500], 100, 104) == 2
    # without an IQR, 3 times one percent: 103
    assert stats.outliers([100, 100, 102, 104], 100, 100) == 1


def test_histogram_counts_every_sample_once():
    samples = [100] * 10 + [101] * 5 + [107] * 5 + [10_000]
    h = stats.describe(samples).histogram
    assert sum(h.counts) == len(samples)
    assert len(h.counts) == stats.BINS
    assert h.counts[-1] == 1  # far out, and in the last bin nevertheless
    assert h.low_ns == 100


def test_the_same_samples_give_the_same_answer():
    samples = [int(v) for v in np.random.default_rng(5).integers(100, 200, 300)]
    assert stats.describe(samples) == stats.describe(samples)


def rounds_of(logs, own, size, seed):
    """Samples of a program in rounds, of which each has a machine as slow as `logs` says."""
    random = np.random.default_rng(seed)
    return [(1e7 * np.exp(x + random.normal(0, own, size))).astype(int).tolist() for x in logs]


def verdicts(factor, turns=60, spells=0.1):
    found = []
    for seed in range(turns):
        machine_state = noise(60, 0.9, spells, seed)
        base = rounds_of(machine_state[::2], 0.02, 4, 2 * seed)
        other = rounds_of(machine_state[1::2] + np.log(factor), 0.02, 4, 2 * seed + 1)
        found.append(stats.compare_rounds(base, other).verdict)
    return found


def test_a_program_does_not_differ_from_itself_on_an_unsteady_machine():
    # at least 95 in 100: of 60, at most 3 may be wrong
    assert verdicts(1.0).count("no difference visible") >= 57


def test_a_tenth_more_is_seen_on_an_unsteady_machine():
    # at least 90 in 100: of 60, at least 54
    assert verdicts(1.1).count("slower") >= 54
    assert verdicts(1 / 1.1).count("faster") >= 54


def test_ratio_and_interval_of_rounds():
    # each round's ratio is exactly 1.25, whatever the machine did
    base = [[100 * n, 100 * n] for n in range(1, 21)]
    other = [[125 * n, 125 * n] for n in range(1, 21)]
    r = stats.compare_rounds(base, other)
    assert r.ratio == pytest.approx(1.25)
    assert (r.interval.low, r.interval.high) == (pytest.approx(1.25), pytest.approx(1.25))


def test_less_than_the_noise_floor_is_no_difference():
    base = [[10_000]] * 20
    assert stats.compare_rounds(base, [[10_050]] * 20).verdict == "no difference visible"
    assert stats.compare_rounds(base, [[10_200]] * 20).verdict == "slower"
    assert stats.compare_rounds(base, [[9_800]] * 20).verdict == "faster"


def test_a_program_that_differs_from_itself_raises_the_noise_floor():
    # every second round of the base takes a fifth longer than the one before it
    base = [[100_000], [120_000]] * 10
    other = [[115_000], [138_000]] * 10
    r = stats.compare_rounds(base, other)
    assert r.noise_floor == pytest.approx(0.2)
    assert r.verdict == "no difference visible"


def test_few_rounds_have_no_verdict():
    assert stats.compare_rounds([[10]] * 5, [[20]] * 5).verdict == "too few samples"


def test_runs_of_different_times_are_compared_by_their_medians():
    base = [1000 + i % 7 for i in range(100)]
    assert stats.compare_runs(base, base).verdict == "no difference visible"
    r = stats.compare_runs(base, [2 * v for v in base])
    assert (r.verdict, r.ratio) == ("slower", pytest.approx(2))


def test_drift_within_a_saved_run_raises_the_noise_floor():
    # the second half of the base is a quarter slower than the first
    drifting = [1000] * 50 + [1250] * 50
    r = stats.compare_runs(drifting, [1300] * 100)
    assert r.noise_floor == pytest.approx(0.25)
    assert r.verdict == "no difference visible"


# -------------------------------------------------------------------------------- the loop


class FakeTimer:
    """Blocks that take as long as their program says, on a clock of their own."""

    def __init__(self):
        self.now, self.log = 0, []

    def clock(self):
        return self.now

    def first(self, step):
        return self.block(step, 1, prime=False).samples[0]

    def block(self, step, count, *, prime):
        took = step()
        self.log.append((took, count, prime))
        self.now += took * (count + prime)
        return Block([took] * count)


def programs_of(timer, *times):
    programs = [Program(str(t), lambda t=t: t) for t in times]
    for program in programs:
        loop.warm_up(program, timer, 1.0, timer.clock)
    timer.log.clear()
    return programs


def test_programs_run_in_turns_and_every_other_round_backwards():
    timer = FakeTimer()
    programs = programs_of(timer, 25_000_001, 25_000_002, 25_000_003)
    loop.measure(programs, timer, 0.3, clock=timer.clock)
    order = [took % 10 for took, _, _ in timer.log]
    rounds = [tuple(order[at : at + 3]) for at in range(0, len(order), 3)]
    assert all(sorted(each) == [1, 2, 3] for each in rounds)
    assert all(back == there[::-1] for there, back in zip(rounds[::2], rounds[1::2], strict=False))
    assert len(set(rounds[::2])) > 1  # it is not always the same one that begins
    assert all(prime for _, _, prime in timer.log)


def test_a_machine_that_is_slow_at_the_pace_of_the_rounds_makes_no_difference():
    # every second and third of four blocks: in A B, B A those of B
    timer, blocks = FakeTimer(), count()

    def block(step, number, *, prime):
        slow = 1.05 if next(blocks) % 4 in (1, 2) else 1
        return FakeTimer.block(timer, lambda: round(step() * slow), number, prime=prime)

    timer.block = block
    programs = [Program(name, lambda: 10_000_000, per_call=10_000_000) for name in "AB"]
    loop.measure(programs, timer, 1.0, clock=timer.clock)
    one, other = (program.rounds for program in programs)
    assert stats.compare_rounds(one, other).verdict == "no difference visible"


def test_a_single_program_has_no_uncounted_calls():
    timer = FakeTimer()
    loop.measure(programs_of(timer, 1_000_000), timer, 0.3, clock=timer.clock)
    assert not any(prime for _, _, prime in timer.log)


def test_rounds_go_on_until_the_time_is_spent():
    timer = FakeTimer()
    (program,) = programs_of(timer, 1_000_000)
    begin = timer.now
    loop.measure([program], timer, 2.0, clock=timer.clock)
    assert 2 * SECOND <= timer.now - begin < 2.1 * SECOND
    assert sum(map(len, program.rounds)) == 2000


def test_slow_programs_have_enough_rounds_whatever_they_take():
    timer = FakeTimer()
    (program,) = programs_of(timer, SECOND)
    loop.measure([program], timer, 0.5, clock=timer.clock)
    assert len(program.rounds) == loop.MIN_ROUNDS


def test_blocks_are_long_beside_the_clock_and_short_beside_the_run():
    timer = FakeTimer()
    (program,) = programs_of(timer, 100_000)
    loop.measure([program], timer, 10.0, clock=timer.clock)
    assert timer.log[0][1] == 250  # 25 ms of 0.1 ms each
    timer = FakeTimer()
    (program,) = programs_of(timer, 100_000)
    loop.measure([program], timer, 0.4, clock=timer.clock)
    assert timer.log[0][1] == 100  # 0.4 s / 40 rounds = 10 ms


def test_warm_up_takes_a_fifth_of_the_time_and_three_calls_at_least():
    timer = FakeTimer()
    program = Program("slow", lambda: SECOND)
    loop.warm_up(program, timer, 1.0, timer.clock)
    assert program.warmup_calls == 3
    timer = FakeTimer()
    program = Program("fast", lambda: 1_000_000)
    loop.warm_up(program, timer, 1.0, timer.clock)
    assert 0.2 * SECOND <= program.warmup_ns < 0.25 * SECOND


def test_an_interrupted_round_is_left_out():
    timer = FakeTimer()
    programs = programs_of(timer, 25_000_001, 25_000_002)
    calls = count()

    def block(step, number, *, prime):
        if next(calls) == 7:  # the second half of the fourth round
            raise KeyboardInterrupt
        return FakeTimer.block(timer, step, number, prime=prime)

    timer.block = block
    with pytest.raises(KeyboardInterrupt):
        loop.measure(programs, timer, 1.0, clock=timer.clock)
    assert [len(p.rounds) for p in programs] == [3, 3]


def test_garbage_is_not_collected_meanwhile_and_is_afterwards():
    seen = []

    def step():
        seen.append(gc.isenabled())
        return 1_000_000

    program = Program("x", step, per_call=1_000_000)
    timer = FakeTimer()
    loop.measure([program], timer, 0.1, clock=timer.clock)
    assert not any(seen)
    assert gc.isenabled()


def test_progress_tells_what_is_left():
    timer, told = FakeTimer(), []
    (program,) = programs_of(timer, 25_000_000)
    loop.measure([program], timer, 1.0, told.append, timer.clock)
    assert told[0].samples == 1
    assert told[0].seconds_left == pytest.approx(0.975)
    assert told[-1].seconds_left == 0
    assert all(a.seconds_left > b.seconds_left for a, b in pairwise(told))


def test_the_host_timer_times_every_call():
    calls = []
    block = HostTimer().block(lambda: calls.append(0), 5, prime=True)
    assert len(calls) == 6
    assert len(block.samples) == 5
    assert all(ns >= 0 for ns in block.samples)
    assert block.wall == 0


def test_the_host_timer_waits_for_a_device_inside_every_sample():
    events = []
    timer = HostTimer(lambda: events.append("wait"))
    timer.block(lambda: events.append("call"), 2, prime=False)
    assert events == ["wait", "call", "wait", "call", "wait"]


# ----------------------------------------------------------------------------- CUDA events


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


# -------------------------------------------------------------------- what there is to do


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x):
        return self.head(self.act(self.act(self.conv(x))).flatten(1))


@pytest.fixture(scope="module")
def small():
    return cnnscope.trace(Small(), torch.empty(1, 3, 8, 8, device="meta"))


# conv: reads 3*8*8 + 8*3*3*3 + 8 and writes 8*8*8 numbers of 4 bytes: (192 + 216 + 8 + 512) * 4
CONV = 3712
RELU = 2 * 512 * 4  # in place: reads and writes
# linear: 512 + 512*10 + 10 read, 10 written
HEAD = (512 + 5120 + 10 + 10) * 4


def test_bytes_are_what_operations_read_and_write(small):
    assert work.layer_bytes(small) == {
        ("", 1): 0,  # flatten is a view
        ("conv", 1): CONV,
        ("act", 1): RELU,
        ("act", 2): RELU,
        ("head", 1): HEAD,
    }
    assert work.work(small, SETTINGS).nbytes == CONV + 2 * RELU + HEAD


def test_work_has_macs_of_one_forward(small):
    # 8*8 positions x 8 channels x 27 + 512 x 10
    assert work.work(small, SETTINGS).macs == 8 * 8 * 8 * 27 + 5120


def test_bytes_of_fused_code_are_not_known(small):
    assert work.work(small, BenchSettings("cpu", compile="default")).nbytes is None
    assert work.work(small, BenchSettings("cpu", amp="bfloat16")).nbytes is None


def test_memory_needed_for_inference_and_for_training(small):
    weights = (216 + 8 + 5120 + 10) * 4
    # inference: input, the output of conv (relu works in place) and that of head at once
    assert work.needed_bytes(small, SETTINGS) == weights + (192 + 512 + 10) * 4
    # training: weights, gradients and momentum; the peak is more than what backward reads
    assert work.needed_bytes(small, TRAINING) == 3 * weights + (192 + 512 + 10) * 4


def test_autocast_may_halve_activations_and_a_compiler_do_without_them(small):
    weights, image, rest = (216 + 8 + 5120 + 10) * 4, 192 * 4, (512 + 10) * 4
    half = BenchSettings("cpu", amp="bfloat16")
    assert work.needed_bytes(small, half) == weights + image + rest // 2
    assert work.needed_bytes(small, BenchSettings("cpu", compile="default")) == weights + image


def test_training_keeps_what_backward_reads():
    deep = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(4)))
    trace = cnnscope.trace(deep, torch.empty(2, 16, device="meta"))
    weights = 4 * 16 * 16 * 4
    # at the peak of inference the input, one layer's input and its output are alive; for backward
    # the inputs of all four layers are kept: 4 * 2 * 16 numbers
    assert work.needed_bytes(trace, SETTINGS) == weights + 3 * 2 * 16 * 4
    assert work.needed_bytes(trace, TRAINING) == 3 * weights + 4 * 2 * 16 * 4


def test_models_that_run_in_turns_do_not_need_their_activations_at_once(small):
    deep = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(4)))
    other = cnnscope.trace(deep, torch.empty(2, 16, device="meta"))
    one_weights, other_weights = (216 + 8 + 5120 + 10) * 4, 4 * 16 * 16 * 4
    inputs = (192 + 2 * 16) * 4
    # beside its input, small holds 512 + 10 numbers at its peak, and the other one 2 * 2 * 16
    both = one_weights + other_weights + inputs + (512 + 10) * 4
    assert work.needed_together([small, other], 0, SETTINGS) == both
    assert work.needed_together([other, small], 0, SETTINGS) == both
    # built already: the weights of the first, then of both
    assert work.needed_together([small, other], 1, SETTINGS) == both - one_weights
    assert work.needed_together([small, other], 2, SETTINGS) == inputs + (512 + 10) * 4
    # gradients and momentum of both stay from turn to turn
    trained = both + 2 * (one_weights + other_weights)
    assert work.needed_together([small, other], 0, TRAINING) == trained


def test_roofline_takes_the_longer_side():
    top = Ceilings("float32", flops=1e11, bandwidth=1e10, matmul_size=1, copy_bytes=1)
    # 1e6 MACs are 2e6 FLOPs: 20 us at 1e11 per second; 1e5 bytes: 10 us
    assert work.attainable_ns(1_000_000, 100_000, top) == (pytest.approx(20_000), "compute")
    # 1e6 bytes: 100 us
    assert work.attainable_ns(1_000_000, 1_000_000, top) == (pytest.approx(100_000), "memory")


def test_every_call_of_a_layer_is_timed_on_its_own_input_and_hooks_are_gone():
    model = Small().eval()
    shapes = []
    handle = model.head.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    wanted = frozenset({("conv", 1), ("act", 1), ("act", 2), ("head", 1)})
    with torch.inference_mode():
        found = time_layers(model, (torch.rand(2, 3, 8, 8),), wanted, HostTimer(), 0.01)
    handle.remove()
    assert set(found) == wanted
    assert set(shapes) == {(2, 512)}
    assert all(timed.median > 0 and timed.count >= loop.MIN_ROUNDS for timed in found.values())
    assert not any(m._forward_pre_hooks for m in model.modules())


# ----------------------------------------------------------------------------- the machine


def test_cores_are_those_of_the_affinity():
    if hasattr(os, "sched_getaffinity"):
        assert machine.usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 1.5), ("max 100000", None)])
def test_quota_of_a_container(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert machine.cpu_quota(tmp_path) == cores


def test_waiting_for_a_core_is_summed_over_threads(tmp_path):
    for thread, line in (("7", "900 300 12\n"), ("8", "100 45 3\n")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(line)
    assert machine.waited_ns(tmp_path) == 345
    assert machine.waited_ns(tmp_path / "none") is None


def test_quota_of_an_older_container(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(tmp_path) == 2
    assert machine.cpu_quota(tmp_path / "none") is None


def test_free_memory_of_a_container_leaves_the_page_cache_out(tmp_path):
    (tmp_path / "memory.max").write_text("1000000")
    (tmp_path / "memory.current").write_text("700000")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    # 1,000,000 - (700,000 - 300,000)
    assert parallel._cgroup_free(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max")
    assert parallel._cgroup_free(tmp_path) is None


class Gpu:
    name, total_memory, uuid = "Big GPU", 2**35, "12ab-34cd"

    def __init__(self, major=9):
        self.major = major


SMI = """#!/bin/sh
echo "$@" > "$0.asked"
sleep 0.05
echo "1980 MHz, 2100 MHz, [N/A], 700.00 W"
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    path = tmp_path / "nvidia-smi"
    path.write_text(SMI)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    return path


def test_clocks_of_a_gpu_are_read_while_it_works(smi):
    steps = []
    clocks = machine.gpu_clocks(torch.device("cuda:1"), lambda: steps.append(0))
    assert clocks == {
        "clocks.sm": "1980 MHz",
        "clocks.max.sm": "2100 MHz",
        "power.limit": "700.00 W",
    }
    assert steps
    # its number may be another one than torch's
    assert "--id=GPU-12ab-34cd" in smi.with_name("nvidia-smi.asked").read_text()
    assert machine.gpu_clocks(torch.device("cpu"), lambda: None) == {}


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\n", None])
def test_a_driver_that_tells_nothing_is_no_failure(smi, script):
    smi.unlink() if script is None else smi.write_text(script)
    assert machine._nvidia_smi(Gpu(), "driver_version") == {}


def test_a_gpu_without_tf32_computes_in_full_precision():
    conv = torch.backends.cudnn.conv
    assert conv.fp32_precision == "tf32"  # torch's default
    assert machine._fp32(conv, Gpu(major=8)) == "tf32"
    assert machine._fp32(conv, Gpu(major=7)) == "ieee"


def test_running_out_of_memory_inside_of_a_library_is_out_of_memory():
    for text in ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED when ..."):
        assert build.out_of_memory(RuntimeError(text))
    assert not build.out_of_memory(RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"))


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:0", ""])
def test_unknown_devices_are_refused(text):
    with pytest.raises(RequestError, match="use cpu, cuda, cuda:1, mps or auto"):
        devices.check(text)


def without_cuda(monkeypatch, built):
    def fails():
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that ...")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fails)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)


def test_missing_cuda_says_what_was_built_and_what_was_found(monkeypatch):
    without_cuda(monkeypatch, "13.2")
    with pytest.raises(RequestError) as error:
        devices.resolve("cuda")
    text = str(error.value)
    assert f"torch {torch.__version__} was built with CUDA 13.2" in text
    assert "found no GPU (Found no NVIDIA driver on your system)" in text
    assert text.endswith("use --device cpu")


def test_a_build_without_cuda_says_so(monkeypatch):
    without_cuda(monkeypatch, None)
    with pytest.raises(RequestError, match="was built without CUDA"):
        devices.resolve("cuda:1")


def test_auto_without_cuda_is_the_cpu(monkeypatch):
    without_cuda(monkeypatch, "13.2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve("auto") == torch.device("cpu")


def test_a_cuda_device_beyond_the_last_names_those_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Big GPU")
    with pytest.raises(RequestError, match=r"there is cuda:0 \(Big GPU\)"):
        devices.resolve("cuda:3")
    assert devices.resolve("cuda") == torch.device("cuda", 0)


def test_a_dtype_that_the_device_cannot_is_refused(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", fails)
    with pytest.raises(RequestError, match="--dtype float16: not supported on cpu"):
        devices.check_dtype(torch.device("cpu"), "float16")


# ------------------------------------------------------------------------------ comparisons


def test_a_file_that_is_no_run_is_refused():
    for data in (b"", b"[]", b"{}", b'{"runs": 3}', b"\xff"):
        with pytest.raises(RequestError, match="not a run that"):
            compare.read(data, "x.json")
