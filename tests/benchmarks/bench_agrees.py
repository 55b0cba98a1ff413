"""Medians of `cnnscope bench` against `torch.utils.benchmark`, in turns in one process.

Both time the same model object on the same input, with the same number of threads, under
`inference_mode`. Every turn is a stretch of one and then a stretch of the other, every other turn
in the opposite order.
"""

import argparse
import statistics

import torch
from torch.utils.benchmark import Timer

from cnnscope.bench import stats
from cnnscope.bench.loop import measure
from cnnscope.bench.programs import RealModel
from cnnscope.bench.timers import HostTimer
from cnnscope.records import BenchSettings
from cnnscope.run import trace_spec

MODELS = ("resnet18", "mobilenet_v2", "densenet121", "vgg11")
LIMIT = 0.02


def ours(program, timer, seconds):
    program.rounds.clear()
    measure([program], timer, seconds)
    return [sample / 1e9 for samples in program.rounds for sample in samples]


def theirs(program, seconds, threads):
    found = Timer("step()", globals={"step": program.step}, num_threads=threads)
    return list(found.blocked_autorange(min_run_time=seconds).times)


def compare(name, turns, seconds, threads):
    """Both medians in seconds, and how far apart the halves of one tool's samples are."""
    timer, trace = HostTimer(), trace_spec(name)
    model = RealModel(name, BenchSettings("cpu", threads=threads), torch.device("cpu"))
    program = model.program(name, trace, timer, seconds).program
    mine, others = [], []
    with torch.inference_mode():
        for turn in range(turns):
            for who in (0, 1) if turn % 2 == 0 else (1, 0):
                if who == 0:
                    mine += ours(program, timer, seconds)
                else:
                    others += theirs(program, seconds, threads)
    one, other = statistics.median(mine), statistics.median(others)
    return one, other, max(abs(stats.drift(mine)), abs(stats.drift(others)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    worst = 0.0
    for name in options.models:
        one, other, unsteady = compare(name, options.turns, options.seconds, options.threads)
        worst = max(worst, abs(one / other - 1))
        print(
            f"{name:<14} cnnscope {1e3 * one:8.3f} ms   torch {1e3 * other:8.3f} ms   "
            f"{100 * (one / other - 1):+.2f} %   (drift {100 * unsteady:.1f} %)",
            flush=True,
        )
    print(f"largest difference {100 * worst:.2f} %, wanted at most {100 * LIMIT:.0f} %")
    raise SystemExit(worst > LIMIT)


if __name__ == "__main__":
    main()
