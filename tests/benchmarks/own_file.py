"""Memory and time of a network of 600 M parameters in a file, above `import torch`."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import torch  # noqa: F401

# VGG-16 with all widths doubled: 4 x 14.7 M in its convolutions, and a head of
# 50,176 x 10,240 + 10,240 x 4,096 + 4,096 x 1,000 (and biases) = 559.9 M.
NETWORK = """
from torch import nn


class WideVGG(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width, times in ((128, 2), (256, 2), (512, 3), (1024, 3), (1024, 3)):
            for _ in range(times):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(50_176, 10_240), nn.ReLU(), nn.Linear(10_240, 4_096),
            nn.ReLU(), nn.Linear(4_096, 1_000),
        )

    def forward(self, x):
        return self.head(self.features(x))
"""


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.py"
        path.write_text(NETWORK)
        before, begin = peak_mb(), time.perf_counter()
        import cnnscope

        report = cnnscope.summary(str(path), *sys.argv[1:])
        print(report.table(depth=1), end="")
        took, above = time.perf_counter() - begin, peak_mb() - before
    loaded = "imported" if "torchvision" in sys.modules else "not imported"
    print(f"\n{report.totals.params:,} parameters: {above:.1f} MB and {took:.2f} s above")
    print(f"import torch; torchvision {loaded}")


if __name__ == "__main__":
    main()
