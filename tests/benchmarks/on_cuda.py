"""`cnnscope bench` on a CUDA device: what it says, held against other witnesses.

Run by `cuda.sh`, a section at a time, each writing one file of JSON and a few lines. What is
wanted: verdicts of launch-bound models as the profiler sees the gaps; ceilings below the data
sheet's, and nothing above a ceiling; one clear message for whatever the machine lacks. Agreement
with other timers and the power to see a slowdown are `bench_agrees.py` and `bench_power.py`.

With `--device cpu` the sections run without a GPU, to find mistakes in this file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import msgspec
import torch
import torchvision
from torch import nn

from cnnscope.errors import CnnscopeError
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.bench import BenchSettings
from cnnscope.timing import machine, programs, runner, work

MODELS = ("resnet18", "densenet121", "vit_b_16", "convnext_tiny")
BATCHES = (1, 8, 64)
SETTINGS = {
    "float32 (TF32 convolutions)": {},
    "bfloat16": {"dtype": "bfloat16"},
    "amp": {"amp": True},
    "amp channels-last": {"amp": True, "channels_last": True},
    "train": {"mode": "train"},
    "train amp": {"mode": "train", "amp": True},
}
# Dense rates of the data sheets in TFLOP/s, and TB/s: NVIDIA H100 and H200 Tensor Core GPU, SXM.
SHEET = {
    "H100": {"tf32": 494.7, "bfloat16": 989.4, "float16": 989.4, "float32": 66.9, "bytes": 3.35},
    "H200": {"tf32": 494.7, "bfloat16": 989.4, "float16": 989.4, "float32": 66.9, "bytes": 4.8},
}


class Context:
    """The device, how long things may take, and what the sections share."""

    def __init__(self, device: str, scale: float, *, quick: bool) -> None:
        self.device = torch.device(device)
        self.models = ("squeezenet1_1",) if quick else MODELS
        self.batches = (1, 2) if quick else BATCHES
        self.cuda = self.device.type == "cuda"
        self.scale = scale
        self.timer = runner._timer(self.device)

    def program(self, name, batch, seconds=0.5, **settings):
        """A warm program of `bench`, and what it belongs to."""
        settings = BenchSettings(str(self.device), seconds=seconds, **settings)
        model = programs.RealModel(Request.of(name), settings, self.device)
        trace = trace_spec(msgspec.structs.replace(Request.of(name), batch_size=batch))
        return model, model.program(name, trace, self.timer, seconds).program

    def synchronize(self):
        if self.cuda:
            torch.cuda.synchronize()


# ------------------------------------------------------------------ (b) the matrix of settings


def matrix(context):
    """Every model, batch and setting; a fast machine needs no more than short runs."""
    found = []
    for title, options in SETTINGS.items():
        for name in context.models:
            plan = runner.Plan(
                (Request.of(name),),
                device=str(context.device),
                batches=context.batches,
                seconds=0.3 * context.scale,
                ceilings=False,
                per_layer=title.startswith("bf") and name == context.models[0],
                **options,
            )
            found.append(bench(plan, f"{title}: {name}"))
    return found


def compiled(context):
    """With torch.compile, and its mode that replays graphs."""
    found = []
    for name in context.models[::2]:
        for mode in ("default", "reduce-overhead"):
            plan = runner.Plan(
                (Request.of(name),),
                device=str(context.device),
                batches=(8,),
                seconds=0.5 * context.scale,
                compile=mode,
                ceilings=False,
            )
            found.append(bench(plan, f"compile {mode}: {name}"))
    return found


def bench(plan, title):
    """One report, with a line for each run."""
    begin = time.monotonic()
    try:
        report = runner.bench(plan)
    except CnnscopeError as error:
        print(f"{title}: {type(error).__name__}: {error}", flush=True)
        return {"title": title, "error": str(error)}
    took = time.monotonic() - begin
    for run in report.runs:
        launch = run.launch
        print(
            f"{title} b{run.batch}: {run.statistics.median_ns / 1e6:.3f} ms, "
            f"{2 * run.work.macs / run.statistics.median_ns:.1f} GFLOP/s, "
            f"enqueue/device {launch.enqueue_ns / 1e6:.3f}/{launch.device_ns / 1e6:.3f} ms, "
            if launch
            else f"{title} b{run.batch}: {run.statistics.median_ns / 1e6:.3f} ms, no launch, ",
            f"{run.warnings} {run.memory.allocated} needed {run.work.needed_bytes}",
            flush=True,
        )
    for note in report.notes:
        print(f"  note: {note}", flush=True)
    layers = [msgspec.to_builtins(layer) for run in report.runs for layer in run.layers]
    slim = msgspec.structs.replace(
        report,
        runs=tuple(
            msgspec.structs.replace(r, samples_ns=(), walls_ns=(), layers=()) for r in report.runs
        ),
    )
    return {"title": title, "took": took, "report": msgspec.to_builtins(slim), "layers": layers}


# --------------------------------------------------------------- (d) launches, (e) ceilings


def launches(context):
    """The verdict about launches beside the share of time in which no kernel ran."""
    found = {}
    for name in context.models:
        for batch in context.batches:
            model, program = context.program(name, batch)
            with model.grad_mode():
                launch = context.timer.launch(program.step)
                gap = idle(context, program.step)
                took = context.timer.block(program.step, 20, prime=True)
            found[f"{name} b{batch}"] = {
                "launch": msgspec.to_builtins(launch),
                "idle": gap,
                "median": median(took.samples),
            }
            print(f"{name} b{batch}: {found[f'{name} b{batch}']}", flush=True)
            del model, program
    return found


def idle(context, step):
    """Share of the time, from the first kernel of five calls to the last, without a kernel."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if context.cuda else ProfilerActivity.CPU
    with profile(activities=[kind]) as seen:
        for _ in range(5):
            step()
        context.synchronize()
    spans = sorted(
        (e.time_range.start, e.time_range.end)
        for e in seen.events()
        if not context.cuda or e.device_type == torch.autograd.DeviceType.CUDA
    )
    if not spans:
        return None
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1 - busy / (until - spans[0][0])


def ceilings(context):
    """The machine's ceilings beside the data sheet, and single kernels beside the ceilings."""
    name = torch.cuda.get_device_name() if context.cuda else "cpu"
    sheet = next((rates for gpu, rates in SHEET.items() if gpu in name), {})
    found = {"device": name}
    for dtype in ("float32", "bfloat16", "float16", "float64") if context.cuda else ("float32",):
        one = machine.ceilings(context.device, dtype)
        wanted = sheet.get(one.fp32 if one.fp32 == "tf32" else dtype)
        of_sheet = f", {one.flops / 1e12 / wanted:.1%} of the data sheet" if wanted else ""
        print(f"{one}{of_sheet}", flush=True)
        found[dtype] = msgspec.to_builtins(one)
    for options in ({}, {"dtype": "bfloat16"}):
        for name in context.models:
            plan = runner.Plan(
                (Request.of(name),),
                device=str(context.device),
                batches=context.batches,
                seconds=0.3,
                **options,
            )
            report = runner.bench(plan)
            for run in report.runs:
                seconds = run.statistics.median_ns / 1e9
                share = 2 * run.work.macs / seconds / report.ceilings.flops
                traffic = (run.work.nbytes or 0) / seconds / report.ceilings.bandwidth
                print(
                    f"{name} {options} b{run.batch}: {share:.1%} of arithmetic, {traffic:.1%} of "
                    f"traffic, {run.warnings} {work.above(run, report.ceilings)}",
                    flush=True,
                )
    return found


def context(shared):
    """Bytes on the device that no tensor has: after the first tensor, libraries, many kernels."""
    if not shared.cuda:
        return {}
    free, total = torch.cuda.mem_get_info()
    found = {"total": total, "at import": total - free}

    def note(what):
        torch.cuda.synchronize()
        free, _ = torch.cuda.mem_get_info()
        found[what] = {"beside": total - free - torch.cuda.memory_reserved()}
        found[what]["allocated"] = torch.cuda.memory_allocated()

    x = torch.zeros(8, 3, 224, 224, device=shared.device)
    note("a tensor")
    torch.mm(x[0, 0], x[0, 1])
    note("a product")
    nn.functional.conv2d(x, x[:1, :, :3, :3].contiguous())
    note("a convolution")
    for name in ("resnet18", "densenet121", "vit_b_16", "convnext_tiny"):
        model = torchvision.models.get_model(name, weights=None).to(shared.device).train()
        model(x).sum().backward()
        note(f"a training step of {name}")
        del model
    print(found, flush=True)
    return found


# ------------------------------------------------------------------ (f) what machines lack


LACKING = (
    ("no GPU visible", "bench resnet18 --device cuda", {"CUDA_VISIBLE_DEVICES": ""}),
    ("no such GPU visible", "bench resnet18 --device cuda", {"CUDA_VISIBLE_DEVICES": "7"}),
    ("another GPU", "bench resnet18 --device cuda:3", {}),
    ("auto", "bench squeezenet1_1 --seconds 0.3", {}),
    ("auto without a GPU", "bench squeezenet1_1 --seconds 0.3", {"CUDA_VISIBLE_DEVICES": ""}),
    ("no nvidia-smi", "bench resnet18 --seconds 0.3 --device DEVICE", {"PATH": "/nowhere"}),
    (
        "TF32 off by the driver",
        "bench vgg11 -b 32 --seconds 0.3 --device DEVICE",
        {"NVIDIA_TF32_OVERRIDE": "0"},
    ),
    ("two models", "bench densenet121 resnet18 -b 1,32 --seconds 1 --device DEVICE", {}),
    ("layers", "bench resnet18 --per-layer -b 32 --seconds 0.3 --device DEVICE", {}),
    ("stack", "stack --time --device DEVICE", {}),
    ("beyond the memory", "bench vgg16 -b 64,16384,32768 --seconds 0.3 --device DEVICE", {}),
)


def lacks(context):
    """Commands on a machine that lacks something, and what they say."""
    return {
        title: run(title, arguments.replace("DEVICE", str(context.device)).split(), env)
        for title, arguments, env in LACKING
    }


def disturbed(context):
    """Memory that ends in the middle of a sweep, Ctrl-C, two processes on one GPU."""
    device = str(context.device)
    beyond = f"bench resnet18 --mode train -b 64,4096 --seconds 0.3 --device {device}"
    return {
        "training beyond the memory": run("beyond", beyond.split(), {}),
        "interrupted": interrupted(device),
        "two at once": together(device),
    }


def command(arguments):
    return [sys.executable, "-m", "cnnscope", *arguments]


def run(title, arguments, env):
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command(arguments), capture_output=True, text=True, env={**os.environ, **env},
            timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        print(f"--- {title}: {error}", flush=True)
        return {"error": str(error), "stdout": str(error.stdout), "stderr": str(error.stderr)}
    print(f"--- {title}: {' '.join(arguments)} {env}: exit {done.returncode}", flush=True)
    print(done.stdout[-6000:], done.stderr[-2000:], sep="\n", flush=True)
    return {
        "exit": done.returncode,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "seconds": time.monotonic() - begin,
    }


def interrupted(device):
    """Ctrl-C in the middle of a sweep."""
    arguments = command(
        ("bench", "resnet18", "-b", "1,2,4,8", "--seconds", "4", "--device", device)
    )
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    print(f"--- interrupted: exit {process.returncode}\n{out[-2500:]}\n{err[-800:]}", flush=True)
    return {"exit": process.returncode, "stdout": out, "stderr": err}


def together(device):
    """Two processes on one GPU."""
    arguments = command(("bench", "resnet18", "-b", "32", "--seconds", "3", "--device", device))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(arguments, **pipes) for _ in range(2)]
    found = [process.communicate(timeout=90) for process in both]
    print("--- two at once", *(out[-2500:] for out, _ in found), sep="\n", flush=True)
    return [{"stdout": out, "stderr": err} for out, err in found]


SECTIONS = {
    f.__name__: f for f in (matrix, compiled, launches, ceilings, lacks, disturbed, context)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--scale", type=float, default=1.0, help="of times and numbers of runs")
    parser.add_argument("--quick", action="store_true", help="one small model, for a dry run")
    options = parser.parse_args()
    context = Context(options.device, options.scale, quick=options.quick)
    begin = time.monotonic()
    with torch.cuda.device(context.device) if context.cuda else nullcontext():
        found = SECTIONS[options.section](context)
    took = time.monotonic() - begin
    print(f"{options.section}: {took:.0f} s", flush=True)
    options.out.write_text(json.dumps({"seconds": took, "found": found}))


if __name__ == "__main__":
    main()
