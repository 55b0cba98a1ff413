"""Memory of training steps and of forwards on a CUDA device, operation by operation.

What the caching allocator says before, within and after every operation of a step is what a
prediction of training memory is held against: results kept, workspace of kernels, peaks. Each
case is built anew on an empty allocator; the second step, whose optimizer state is there, is
measured whole, and the third one operation by operation.

Writes JSON: for each case the peaks (tensors requested, allocated in blocks of 512 bytes, reserved
from the driver) and the list of operations as [phase, name, shapes, bytes before, after, most].
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TRAINED = (
    "resnet18", "resnet50", "mobilenet_v2", "densenet121", "vgg11", "alexnet",
    "convnext_tiny", "vit_b_16", "swin_t", "efficientnet_b0",
)  # fmt: skip
FORWARDS = (
    "resnet18", "resnet50", "resnet152", "resnext50_32x4d", "wide_resnet50_2", "vgg11", "vgg16_bn",
    "alexnet", "squeezenet1_0", "squeezenet1_1", "densenet121", "densenet201", "mobilenet_v2",
    "mobilenet_v3_small", "mobilenet_v3_large", "shufflenet_v2_x1_0", "mnasnet1_0",
    "regnet_y_400mf", "regnet_x_8gf", "efficientnet_b0",
    "efficientnet_b4", "efficientnet_v2_s", "convnext_tiny",
    "convnext_base", "vit_b_16", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t",
    "segmentation/fcn_resnet50", "segmentation/deeplabv3_resnet50", "video/r3d_18",
)  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda p, **k: torch.optim.SGD(p, lr=0.0, **k),
    "momentum": lambda p, **k: torch.optim.SGD(p, lr=0.0, momentum=0.9, **k),
    "adam": lambda p, **k: torch.optim.Adam(p, lr=0.0, **k),
    "adamw": lambda p, **k: torch.optim.AdamW(p, lr=0.0, **k),
}
AMP = {"": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Meter:
    """The allocator's own counts; zeros without CUDA, for a dry run."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")

    def clean(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            self.reset()

    def reset(self) -> None:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()

    def now(self) -> tuple[int, int]:
        """Bytes allocated now, and the most since the last reset."""
        if not self.cuda:
            return 0, 0
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()

    def peaks(self) -> dict[str, int]:
        if not self.cuda:
            return {}
        stats = torch.cuda.memory_stats()
        free, total = torch.cuda.mem_get_info()
        return {
            "requested": stats["requested_bytes.all.peak"],
            "allocated": stats["allocated_bytes.all.peak"],
            "reserved": stats["reserved_bytes.all.peak"],
            "device": total - free,
        }


class Recorder(TorchDispatchMode):
    """Every operation with the allocated bytes before it, after it, and the most within it."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.meter, self.phase = meter, "forward"
        self.seen: list[list[object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.meter.reset()
        before, _ = self.meter.now()
        out = func(*args, **(kwargs or {}))
        after, most = self.meter.now()
        self.seen.append([self.phase, str(func), described(args), before, after, most])
        return out


def described(args) -> str:
    """Shapes of an operation's tensors, a dozen at most, with dtypes that are not float32."""
    tensors = [a for a in tree_leaves(args) if isinstance(a, torch.Tensor)]
    parts = []
    for tensor in tensors[:12]:
        dtype = str(tensor.dtype).removeprefix("torch.")
        size = "x".join(map(str, tensor.shape))
        parts.append(size + ("" if dtype == "float32" else f":{dtype}"))
    return " ".join(parts) + (f" +{len(tensors) - 12}" if len(tensors) > 12 else "")


def built(name: str, device: str):
    """The model on the device, and an input of one image."""
    kind, _, short = name.rpartition("/")
    torch.manual_seed(0)
    more = {"weights": None} | ({"weights_backbone": None} if kind == "segmentation" else {})
    model = torchvision.models.get_model(short, **more).to(device)
    size = (3, 16, 112, 112) if kind == "video" else (3, 224, 224)
    return model, size


def loss_of(out):
    tensors = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor) and t.requires_grad]
    return sum(t.float().mean() for t in tensors)


def train(name, device, meter, *, batch, optimizer="sgd", amp="", channels_last=False, **options):
    """Three steps; what is described at the top of the file."""
    meter.clean()
    model, size = built(name, device)
    model.train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    x = torch.rand(batch, *size, device=device)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    steps = OPTIMIZERS[optimizer](model.parameters(), **options)
    kind = device.partition(":")[0]
    scaler = torch.amp.GradScaler(kind) if amp == "fp16" else None

    def step(mark=lambda _: None):
        steps.zero_grad(set_to_none=True)
        mark("forward")
        with torch.autocast(kind, dtype=AMP[amp]) if amp else nullcontext():
            loss = loss_of(model(x))
        mark("backward")
        (scaler.scale(loss) if scaler else loss).backward()
        del loss
        mark("step")
        if scaler:
            scaler.step(steps)
            scaler.update()
        else:
            steps.step()

    started = meter.now()[0]
    step()
    meter.reset()
    step()
    peaks = meter.peaks()
    recorder = Recorder(meter)
    with recorder:
        step(lambda phase: setattr(recorder, "phase", phase))
    return {"before": started, "peaks": peaks, "ops": recorder.seen}


def forward(name, device, meter, *, batch, dtype="float32"):
    """A forward without gradients: whole, then operation by operation."""
    meter.clean()
    model, size = built(name, device)
    model = model.eval().to(getattr(torch, dtype))
    x = torch.rand(batch, *size, device=device).to(getattr(torch, dtype))
    with torch.inference_mode():
        model(x)
        gc.collect()
        before = meter.now()[0]
        meter.reset()
        out = model(x)
        peaks = meter.peaks()
        del out
        recorder = Recorder(meter)
        with recorder:
            model(x)
    return {"before": before, "peaks": peaks, "ops": recorder.seen}


def traced(name, batch):
    """Bytes by cnnscope's trace: weights and buffers, input, peak of the activations."""
    from msgspec.structs import replace

    from cnnscope.analysis import memory, params
    from cnnscope.models.request import Request
    from cnnscope.models.run import trace_spec

    kind, _, short = name.rpartition("/")
    size = "3x16x112x112" if kind == "video" else "3x224x224"
    trace = trace_spec(replace(Request.of(short, [size]), batch_size=batch))
    weights = params.nbytes(trace) + params.nbytes(trace, buffers=True)
    return {
        "weights": weights,
        "input": memory.input_bytes(trace),
        "peak": memory.peak(trace).nbytes,
    }


def cases(*, quick: bool):
    """Name of each case, the function that measures it, its options; forwards first."""
    few = 1 if quick else None
    for name in FORWARDS[:few]:
        yield name, forward, {"batch": 8}
    for name in ("resnet50", "vit_b_16", "convnext_tiny")[:few]:
        yield name, forward, {"batch": 8, "dtype": "bfloat16"}
        yield name, train, {"batch": 16, "optimizer": "adam", "foreach": False}
        yield name, train, {"batch": 16, "optimizer": "adam", "fused": True}
        yield name, train, {"batch": 16, "amp": "bf16", "channels_last": True}
    for name in reversed(TRAINED[:few]):
        for batch, how in (
            (8, {"optimizer": "momentum"}),
            (32, {"optimizer": "momentum"}),
            (8, {"optimizer": "adam"}),
            (16, {"optimizer": "adamw", "amp": "bf16"}),
            (16, {"optimizer": "momentum", "amp": "fp16"}),
        ):
            yield name, train, {"batch": batch, **how}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=150, help="no case begins after these")
    parser.add_argument("--quick", action="store_true", help="few cases, for a dry run")
    options = parser.parse_args()
    meter, found = Meter(options.device), []
    begin = time.monotonic()
    for name, measure, how in cases(quick=options.quick):
        if time.monotonic() - begin > options.seconds:
            break
        case = {"model": name, "what": measure.__name__, **how}
        try:
            case |= measure(name, options.device, meter, **how)
            if measure is forward and case.get("dtype", "float32") == "float32":
                case["trace"] = traced(name, how["batch"])
        except Exception as error:  # noqa: BLE001  one case must not cost the others
            case["error"] = f"{type(error).__name__}: {error}"[:500]
        found.append(case)
        print(line(case), flush=True)
    with ExitStack() as stack:
        stack.callback(gc.collect)
        options.out.write_text(
            json.dumps(
                {
                    "torch": torch.__version__,
                    "device": torch.cuda.get_device_name() if meter.cuda else "cpu",
                    "seconds": time.monotonic() - begin,
                    "cases": found,
                }
            )
        )


def line(case) -> str:
    how = {k: v for k, v in case.items() if k not in ("ops", "peaks", "before", "trace", "error")}
    head = " ".join(map(str, how.values()))
    if "error" in case:
        return f"{head}: {case['error']}"
    text = f"{head}: {case['peaks']}, {len(case['ops'])} operations"
    if case["peaks"] and "trace" in case:
        trace = case["trace"]
        activations = case["peaks"]["allocated"] - case["before"] + trace["input"]
        text += f", peak of activations {activations:,} (trace {trace['peak']:,}, "
        text += f"{activations / trace['peak'] - 1:+.2%})"
    return text


if __name__ == "__main__":
    main()
