"""Medians of `cnnscope bench` against `torch.utils.benchmark`, in turns in one process.

Both time the same model object on the same input, with the same number of threads, under
`inference_mode`. A turn is a short stretch of one and then of the other, every other turn in the
opposite order. What counts is the median over the turns of the ratio of their two medians: a spell
in which the machine is slow, and which lasts longer than a turn, hits both sides of it. The medians
of all samples, over whatever spells each tool met, are shown beside it.
"""

import argparse
from statistics import median, quantiles

import torch
from torch.utils.benchmark import Timer

from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.bench import BenchSettings
from cnnscope.timing.loop import MIN_ROUNDS, measure
from cnnscope.timing.programs import RealModel
from cnnscope.timing.timers import HostTimer

MODELS = ("resnet18", "mobilenet_v2", "densenet121", "vgg11")
LIMIT = 0.02
WARM_UP = 5.0  # seconds, of which a fifth is used


def ours(program, seconds, _):
    program.rounds.clear()
    measure([program], HostTimer(), seconds)
    return [sample / 1e9 for samples in program.rounds for sample in samples]


def theirs(program, seconds, threads):
    found = Timer("step()", globals={"step": program.step}, num_threads=threads)
    return list(found.blocked_autorange(min_run_time=seconds).times)


def stretches(name, turns, seconds, threads):
    """Samples in seconds of ours and of theirs, a list for each turn."""
    model = RealModel(Request.of(name), BenchSettings("cpu", threads=threads), torch.device("cpu"))
    program = model.program(name, trace_spec(Request.of(name)), HostTimer(), WARM_UP).program
    seconds = max(seconds, MIN_ROUNDS * program.per_call / 1e9)  # what ours takes at least
    found = {ours: [], theirs: []}
    with torch.inference_mode():
        for turn in range(turns):
            for who in (ours, theirs) if turn % 2 == 0 else (theirs, ours):
                found[who].append(who(program, seconds, threads))
    return found[ours], found[theirs]


def paired(mine, others):
    """The median of the turns' ratios, and the middle half of these."""
    ratios = [median(a) / median(b) for a, b in zip(mine, others, strict=True)]
    return quantiles(ratios, n=4, method="inclusive")


def pooled(turns):
    return median([sample for samples in turns for sample in samples])


def percent(ratio):
    return f"{100 * (ratio - 1):+.2f} %"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each tool in a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    worst = 0.0
    for name in options.models:
        mine, others = stretches(name, options.turns, options.seconds, options.threads)
        low, ratio, high = paired(mine, others)
        worst = max(worst, abs(ratio - 1))
        one, other = pooled(mine), pooled(others)
        print(
            f"{name:<12} threads {options.threads}   cnnscope / torch {percent(ratio)} "
            f"(middle half of {options.turns} turns {percent(low)} to {percent(high)})   "
            f"all samples {1e3 * one:.3f} and {1e3 * other:.3f} ms, {percent(one / other)}",
            flush=True,
        )
    print(f"largest difference {100 * worst:.2f} %, wanted at most {100 * LIMIT:.0f} %")
    raise SystemExit(worst > LIMIT)


if __name__ == "__main__":
    main()
