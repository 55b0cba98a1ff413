"""Does `cnnscope bench` see a difference where there is one, and none where there is none?

Many short runs of the whole of `bench`, each building its models anew: the same model twice, and
the same model beside itself with one convolution added that makes it a tenth slower. How much
slower it really is, is measured in one long run first.
"""

import argparse
from collections import Counter

import torch
from torch import nn

from cnnscope import bench
from cnnscope.bench import machine, programs
from cnnscope.bench.loop import measure
from cnnscope.bench.stats import compare_rounds
from cnnscope.bench.timers import HostTimer
from cnnscope.records import BenchSettings
from cnnscope.run import trace_spec

MODEL, SIDE = "resnet18", 64
SLOWDOWN = 0.10


class Longer(nn.Module):
    """A model and one convolution of its input beside it."""

    def __init__(self, model, width):
        super().__init__()
        self.model, self.added = model, nn.Conv2d(3, width, 7, padding=3).eval()

    def forward(self, x):
        self.added(x)
        return self.model(x)


def slower_second(width):
    """A RealModel of which every second one has the convolution added."""
    made = Counter()

    class Model(programs.RealModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made["models"] += 1
            if width and made["models"] % 2 == 0:
                self.called = Longer(self.called, width)

    return Model


def true_slowdown(width, seconds):
    """One long run of both in turns: the ratio of times, with its interval."""
    timer, trace, device = HostTimer(), trace_spec(MODEL, inputs=[str(SIDE)]), torch.device("cpu")
    settings, model = BenchSettings("cpu"), slower_second(width)
    both = [model(MODEL, settings, device).program("", trace, timer, 1).program for _ in range(2)]
    with torch.inference_mode():
        measure(both, timer, seconds)
    return compare_rounds(both[0].rounds, both[1].rounds)


def calibrated(seconds):
    """The width of a convolution that makes the model a tenth slower."""
    low, high = 1, 1024
    while high - low > max(1, low // 20):
        width = (low + high) // 2
        if true_slowdown(width, seconds).ratio - 1 < SLOWDOWN:
            low = width
        else:
            high = width
    return high


def verdicts(request, runs, width):
    found = Counter()
    for _ in range(runs):
        programs.RealModel = slower_second(width)
        (comparison,) = bench.bench(request).comparisons
        found[comparison.ratio.verdict] += 1
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.5, help="per model and run")
    parser.add_argument("--calibrate", type=float, default=4.0, help="seconds per width tried")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine.ceilings = lambda *_: None  # not asked here
    request = bench.Request(
        (MODEL, MODEL), device="cpu", inputs=(str(SIDE),), seconds=options.seconds
    )
    same = verdicts(request, options.runs, 0)
    print(f"the same model twice: {dict(same)}", flush=True)
    width = calibrated(options.calibrate)
    r = true_slowdown(width, 5 * options.calibrate)
    print(
        f"a convolution of {width} channels added: x {r.ratio:.3f} "
        f"({r.interval.low:.3f}-{r.interval.high:.3f})",
        flush=True,
    )
    longer = verdicts(request, options.runs, width)
    print(f"with it and without: {dict(longer)}")
    right, seen = same["no difference visible"], longer["slower"]
    print(f"no difference in {right} of {options.runs} (wanted 95 %), ", end="")
    print(f"seen in {seen} of {options.runs} (wanted 90 %)")
    raise SystemExit(right < 0.95 * options.runs or seen < 0.9 * options.runs)


if __name__ == "__main__":
    main()
