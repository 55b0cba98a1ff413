"""Overhead of recording a trace: `trace(model, x)` against `model(x)`, interleaved, on meta."""

import statistics
import time

import torch
import torchvision

from cnnscope.tracing.tracer import trace

MODELS = {
    "resnet18": 224,
    "densenet201": 224,
    "convnext_large": 224,
    "swin_v2_b": 256,
    "vit_b_16": 224,
}
ROUNDS = 31


def seconds(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main():
    for name, size in MODELS.items():
        with torch.device("meta"):
            model = torchvision.models.get_model(name).eval()
            x = torch.empty(1, 3, size, size)
        with torch.no_grad():
            model(x)
            trace(model, (x,))
            pairs = [
                (seconds(lambda m=model, x=x: m(x)), seconds(lambda m=model, x=x: trace(m, (x,))))
                for _ in range(ROUNDS)
            ]
        bare, recorded = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:<16} bare {1e3 * bare:6.1f} ms   recorded {1e3 * recorded:6.1f} ms   "
            f"{recorded / bare:.2f}x"
        )


if __name__ == "__main__":
    main()
