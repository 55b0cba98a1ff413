"""Wall time of whole commands, as ratios to what python and the imports alone take.

Each command and its yardstick run in turn, so that a busy moment hits both; the ratios are
those of the medians and of the fastest runs.

Usage: python tests/benchmarks/startup.py [ROUNDS] [--fill]

--fill also empties a store of its own and fills it with all models of torchvision.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = sys.executable
CNNSCOPE = str(Path(PYTHON).with_name("cnnscope"))
LIGHT = (PYTHON, "-c", "import typer, rich.console, rich.table")
LIBRARIES = (PYTHON, "-c", "import torch, torchvision")
TORCH = (PYTHON, "-c", "import torch")
NET = "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n"
NET += "        super().__init__(nn.Conv2d(3, 64, 7), nn.ReLU(), nn.Conv2d(64, 64, 3))\n"


def seconds(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Wall time of a command whose output goes nowhere."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def compare(title: str, limit: float, command: tuple[str, ...], yardstick: tuple[str, ...],
            rounds: int, environment: dict[str, str]) -> None:  # fmt: skip
    """Print the ratio of a command's time to that of a yardstick."""
    times = [(seconds(command, environment), seconds(yardstick, environment))
             for _ in range(rounds)]  # fmt: skip
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    fastest = min(a for a, _ in times) / min(b for _, b in times)
    spread = sorted(a / b for a, b in times)
    print(
        f"{title:<32} {ours:7.3f} s  {theirs:7.3f} s  {ours / theirs:5.2f}x of at most "
        f"{limit:.2f}x  (fastest {fastest:.2f}x, single rounds {spread[0]:.2f} to {spread[-1]:.2f})"
    )


def main() -> None:
    """Warm commands, then cold ones, then the filling of a store."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    rounds = numbers[0] if numbers else 15
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CNNSCOPE_CACHE_DIR": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if "--fill" in sys.argv:
            fill = (CNNSCOPE, "list", "--source", "torchvision")
            print(f"filling the store with torchvision: {seconds(fill, environment):.1f} s")
            compare("list, warm", 3, fill, LIGHT, rounds, environment)
        for model, limit in (("resnet18", 1.5), ("densenet201", 3.0)):
            command = (CNNSCOPE, "summary", model)
            seconds(command, environment)
            compare(f"summary {model}, warm", limit, command, LIGHT, rounds, environment)
        diff = (CNNSCOPE, "diff", "vgg11", "vgg13")
        seconds(diff, environment)
        compare("diff vgg11 vgg13, warm", 3, diff, LIGHT, rounds, environment)
        compare("--help", 1.0, (CNNSCOPE, "--help"), LIGHT, rounds, environment)
        cold = (CNNSCOPE, "summary", "resnet18", "--no-cache")
        compare("summary resnet18, cold", 1.08, cold, LIBRARIES, rounds, environment)
        own = Path(folder) / "net.py"
        own.write_text(NET)
        command = (CNNSCOPE, "summary", f"{own}:Net", "--input", "3x224x224")
        compare("summary net.py:Net", 1.15, command, TORCH, rounds, environment)


if __name__ == "__main__":
    main()
