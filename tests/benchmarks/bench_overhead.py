"""Overhead of the timing loop for each iteration: an empty program, timed as a model is."""

import time

import torch

from cnnscope.timing.loop import Program, measure, warm_up
from cnnscope.timing.timers import CudaTimer, HostTimer

LIMIT_US = 20
SECONDS = 2.0


def overhead(timer):
    """Microseconds per iteration: inside of a sample, and all in all."""
    program = Program("nothing", lambda: None)
    warm_up(program, timer, SECONDS)
    begin = time.perf_counter_ns()
    measure([program], timer, SECONDS)
    spent = time.perf_counter_ns() - begin
    samples = sorted(sample for samples in program.rounds for sample in samples)
    return samples[len(samples) // 2] / 1e3, spent / len(samples) / 1e3


def main():
    timers = {"cpu": HostTimer()}
    if torch.cuda.is_available():
        timers["cuda"] = CudaTimer(torch.cuda)
    worst = 0.0
    for name, timer in timers.items():
        inside, total = overhead(timer)
        worst = max(worst, total)
        print(f"{name:<5} {inside:6.3f} us inside of a sample, {total:6.3f} us per iteration")
    raise SystemExit(worst > LIMIT_US)


if __name__ == "__main__":
    main()
