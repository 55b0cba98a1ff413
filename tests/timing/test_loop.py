"""The timing loop: rounds, turns, blocks, warm-up, and the host's clock."""

import gc
from itertools import count, pairwise

import pytest

from cnnscope.timing import loop, stats
from cnnscope.timing.loop import Block, Program
from cnnscope.timing.timers import HostTimer

SECOND = 1_000_000_000


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


@pytest.mark.broad
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
