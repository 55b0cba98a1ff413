"""What steps and forwards held on a GPU beside their predictions: figures that were measured once.

Of float32 models of torchvision at 224x224, as `tests/benchmarks/cuda_memory.py` measures them;
`cnnscope/README.md` has the table. Another GPU, another cuDNN or mixed precision may differ.
"""

from __future__ import annotations

from typing import NamedTuple

from cnnscope.analysis.step import Reserved
from cnnscope.records.memory import GpuMemory

DEVICE = "NVIDIA H100 80GB HBM3"
TORCH = "2.11.0+cu130"
CONTEXT = 808_255_488  # beside the allocator after training steps; 552 MB before the first tensor


class Beside(NamedTuple):
    """What is added to a prediction.

    Attributes:
        kept: bytes that stay allocated for good: 32 MiB of cuBLAS from the first product on, as
            much again from the first backward pass on, and 1 MiB whose owner is not known.
        allocated: the least and the most that was measured in blocks above these, as shares of the
            blocks predicted: workspace of algorithms that cuDNN chooses.
        reserved: the same of segments.
    """

    kept: int
    allocated: tuple[float, float]
    reserved: tuple[float, float]


# 25 steps of 8 models, with the workspace of `cuda.workspaces` predicted
TRAINING = Beside(68_157_440, (-0.002, 0.044), (-0.104, 0.222))
INFERENCE = Beside(34_603_008, (0.0, 0.269), (-0.099, 0.352))  # 29 models, batch 8, without


def on_gpu(predicted: Reserved, beside: Beside) -> GpuMemory:
    """The range that measured runs would have of these predictions."""

    def between(nbytes: int, shares: tuple[float, float]) -> tuple[int, int]:
        least, most = (nbytes + beside.kept + round(nbytes * share) for share in shares)
        return least, most

    return GpuMemory(
        DEVICE,
        TORCH,
        between(predicted.allocated, beside.allocated),
        between(predicted.reserved, beside.reserved),
        CONTEXT,
    )
