"""Does `cnnscope bench` see a difference where there is one, and none where there is none?

Many short runs of the whole of `bench`, each building its models anew: the same model twice, and
the same model beside itself with one convolution added that makes it slower by a tenth at most. How
much slower it really is, is measured in long runs first. The convolution keeps its 128 channels and
runs on so many rows of 8 pixels, by which its time grows evenly: by channels it would not, as
kernels work on 16 of them at a time, nor with outputs so large that each is new memory.
"""

import argparse
from collections import Counter

import torch
from msgspec.structs import replace
from torch import nn

from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.bench import BenchSettings
from cnnscope.timing import machine, programs, runner
from cnnscope.timing.loop import measure
from cnnscope.timing.stats import compare_rounds

MODEL = "resnet18"
SLOWDOWN = 0.10
CHANNELS, COLUMNS = 128, 8
TRIES = 8
SAME, SLOWER = "no difference visible", "slower"


class Longer(nn.Module):
    """A model, and beside it one convolution of an image of its own."""

    def __init__(self, model, rows, device):
        super().__init__()
        self.model, self.image = model, torch.rand(1, CHANNELS, rows, COLUMNS, device=device)
        self.added = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(device).eval()

    def forward(self, x):
        self.added(self.image)
        return self.model(x)


def slower_second(rows):
    """A RealModel of which every second one has the convolution added."""
    made = Counter()

    class Model(programs.RealModel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made["models"] += 1
            if rows and made["models"] % 2 == 0:
                self.called = Longer(self.called, rows, self.device)

    return Model


def true_slowdown(request, device, rows, seconds):
    """One long run of both in turns: the ratio of times, with its interval."""
    timer, trace = runner._timer(device), trace_spec(request)
    settings, model = BenchSettings(str(device)), slower_second(rows)
    models = [model(request, settings, device) for _ in range(2)]
    both = [one.program("", trace, timer, 1).program for one in models]
    with torch.inference_mode():
        measure(both, timer, seconds)
    return compare_rounds(both[0].rounds, both[1].rounds)


def calibrated(request, device, seconds):
    """Rows that make the model slower by 9 to 10 %, and by how much they do.

    The time added is nearly proportional to the rows. Where no try comes to as much, the one is
    taken that comes nearest from below: never one that is above.
    """
    tried = {}
    rows = 32
    while rows not in tried and len(tried) < TRIES:
        tried[rows] = true_slowdown(request, device, rows, seconds)
        slower = tried[rows].ratio - 1
        print(f"  {rows} rows: x {1 + slower:.3f}", flush=True)
        if 0.9 * SLOWDOWN <= slower <= SLOWDOWN:
            return rows, tried[rows]
        rows = round(rows * min(0.95 * SLOWDOWN / max(slower, 0.01), 4))
    below = [rows for rows in tried if tried[rows].ratio - 1 <= SLOWDOWN]
    if not below:
        raise SystemExit(f"no number of rows found that makes it slower by {SLOWDOWN:.0%} at most")
    best = max(below, key=lambda rows: tried[rows].ratio)
    return best, tried[best]


def verdicts(request, runs, rows, right):
    """Count the verdicts of repeated runs; print each wrong one with its interval."""
    found = Counter()
    for run in range(runs):
        programs.RealModel = slower_second(rows)
        (comparison,) = runner.bench(request).comparisons
        r = comparison.ratio
        found[r.verdict] += 1
        if r.verdict != right:
            print(
                f"  run {run}: {r.verdict}, x {r.ratio:.3f} "
                f"({r.interval.low:.3f}-{r.interval.high:.3f}), noise floor {r.noise_floor:.3f}",
                flush=True,
            )
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.5, help="per model and run")
    parser.add_argument("--calibrate", type=float, default=20.0, help="seconds per model and size")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--input", default="64", help="size of an image")
    parser.add_argument("--batch-size", type=int, default=1, help="on a GPU enough to be its limit")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine.ceilings = lambda *_: None  # not asked here
    model = replace(Request.of(MODEL, [options.input]), batch_size=options.batch_size)
    request = runner.Plan((model, model), device=options.device, seconds=options.seconds)
    same = verdicts(request, options.runs, 0, SAME)
    print(f"the same model twice: {dict(same)}", flush=True)
    rows, r = calibrated(model, torch.device(options.device), options.calibrate)
    print(
        f"a convolution of {CHANNELS} channels on {rows}x{COLUMNS} pixels added: x {r.ratio:.3f} "
        f"({r.interval.low:.3f}-{r.interval.high:.3f})",
        flush=True,
    )
    longer = verdicts(request, options.runs, rows, SLOWER)
    print(f"with it and without: {dict(longer)}")
    right, seen = same[SAME], longer[SLOWER]
    print(f"no difference in {right} of {options.runs} (wanted 95 %), ", end="")
    print(f"seen in {seen} of {options.runs} (wanted 90 %)")
    raise SystemExit(right < 0.95 * options.runs or seen < 0.9 * options.runs)


if __name__ == "__main__":
    main()
