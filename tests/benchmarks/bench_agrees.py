"""Medians of `cnnscope bench` against `torch.utils.benchmark`, in turns in one process.

On a CUDA device also against Triton's `do_bench` and events around many calls. All time the same
model object on the same input, with the same number of threads, under `inference_mode`. A turn is a
short stretch of each, every other turn in the opposite order. What counts is the median over the
turns of the ratio of two medians: a spell in which the machine is slow, and which lasts longer than
a turn, hits both sides of it. The medians of all samples, over whatever spells each tool met, are
shown beside it.
"""

import argparse
from statistics import median, quantiles

import torch
from msgspec.structs import replace
from torch.utils.benchmark import Timer

from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.bench import BenchSettings
from cnnscope.timing import runner
from cnnscope.timing.loop import MIN_ROUNDS, measure
from cnnscope.timing.programs import RealModel

MODELS = ("resnet18", "mobilenet_v2", "densenet121", "vgg11")
LIMIT = 0.02
WARM_UP = 5.0  # seconds, of which a fifth is used


def witnesses(program, timer, seconds, options):
    """Functions that return samples in seconds, ours first."""

    def cnnscope():
        program.rounds.clear()
        measure([program], timer, seconds)
        return [sample / 1e9 for samples in program.rounds for sample in samples]

    def torchs():
        found = Timer("step()", globals={"step": program.step}, num_threads=options.threads)
        return list(found.blocked_autorange(min_run_time=seconds).times)

    found = {"cnnscope": cnnscope, "torch": torchs}
    if options.device != "cpu":
        found["events"] = lambda: events(program, seconds)
        found["triton"] = lambda: triton(program.step, 1e3 * seconds)
    return found


def events(program, seconds):
    """Two events around as many calls as fill the seconds: their mean."""
    count = max(10, int(seconds * 1e9 / program.per_call))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    program.step()
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        program.step()
    end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / count / 1e3]


def triton(step, milliseconds):
    """Every sample of `do_bench`, which empties the cache before each."""
    from triton.testing import do_bench

    return [ms / 1e3 for ms in do_bench(step, warmup=10, rep=milliseconds, return_mode="all")]


def stretches(name, options):
    """Samples in seconds of each witness, a list for each turn."""
    device = torch.device(options.device)
    request = replace(Request.of(name), batch_size=options.batch_size)
    timer, settings = runner._timer(device), BenchSettings(str(device), threads=options.threads)
    model = RealModel(request, settings, device)
    program = model.program(name, trace_spec(request), timer, WARM_UP).program
    # what ours takes at least
    seconds = max(options.seconds, MIN_ROUNDS * program.per_call / 1e9)
    who = witnesses(program, timer, seconds, options)
    found = {tool: [] for tool in who}
    with torch.inference_mode():
        for turn in range(options.turns):
            for tool in who if turn % 2 == 0 else reversed(who):
                found[tool].append(who[tool]())
    return found


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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    worst = 0.0
    for name in options.models:
        mine, *others = (found := stretches(name, options))
        for tool in others:
            low, ratio, high = paired(found[mine], found[tool])
            worst = max(worst, abs(ratio - 1))
            one, other = pooled(found[mine]), pooled(found[tool])
            print(
                f"{name:<12} batch {options.batch_size}   {mine} / {tool} {percent(ratio)} "
                f"(middle half of {options.turns} turns {percent(low)} to {percent(high)})   all "
                f"samples {1e3 * one:.3f} and {1e3 * other:.3f} ms, {percent(one / other)}",
                flush=True,
            )
    print(f"largest difference {100 * worst:.2f} %, wanted at most {100 * LIMIT:.0f} %")
    raise SystemExit(worst > LIMIT)


if __name__ == "__main__":
    main()
