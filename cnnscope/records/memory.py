"""The report of `cnnscope memory`: who owns the memory of a training step, or of a forward."""

import msgspec

from cnnscope.records.step import Kind, Phase, Step
from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import Accuracy, Source, TensorSpec


class KindMemory(msgspec.Struct, frozen=True):
    """Bytes of one kind of tensors: at the peak, the most at any time, and after each operation.

    `timeline` begins with what was there before the first operation.
    """

    kind: Kind
    at_peak: int
    most: int
    timeline: tuple[int, ...]


class LayerMemory(msgspec.Struct, frozen=True):
    """Bytes of a layer that are alive at the peak: of its weights, and of what its calls made.

    `saved` is what its forward keeps for the backward pass. `other` is alive at the peak and none
    of these: outputs and temporaries.
    """

    path: str
    weights: int = 0
    gradients: int = 0
    state: int = 0
    saved: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.state + self.saved + self.other


class StepEvent(msgspec.Struct, frozen=True):
    """An operation of the step: its phase, the layer that ran it, and the bytes alive after it."""

    operation: str
    phase: Phase
    path: str
    live: int


class StepMacs(msgspec.Struct, frozen=True):
    """Multiply-accumulates of each phase; `recomputed` are those of forwards in the backward."""

    forward: int
    backward: int
    step: int
    recomputed: int = 0


class GpuMemory(msgspec.Struct, frozen=True):
    """Bytes that a GPU would need by what measured runs had beside their predictions.

    `allocated` and `reserved` are the least and the most, with the workspace of kernels and what
    cuBLAS keeps; `context` was taken beside the allocator. All are of one `device`, `torch` and
    float32.
    """

    device: str
    torch: str
    allocated: tuple[int, int]
    reserved: tuple[int, int]
    context: int

    @property
    def whole(self) -> tuple[int, int]:
        """The least and the most bytes of the device: segments with workspace, and the context."""
        least, most = self.reserved
        return least + self.context, most + self.context


class CheckpointChoice(msgspec.Struct, frozen=True):
    """A choice of modules whose forward runs again in the backward pass, and what that gives.

    `tensors` and `allocated` are as in `MemoryReport`, `recomputed` the MACs that run again.
    """

    modules: tuple[str, ...]
    tensors: int
    allocated: int
    recomputed: int


class MemoryReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope memory`: three peaks, their owners, and every operation.

    `tensors` is the largest sum of the bytes of living tensors, exact for the operations recorded;
    `allocated` that of the blocks that PyTorch's caching allocator gives to them; `reserved` all
    that it takes from the device for those, in two steps one after the other; `gpu` has
    their range on a GPU. `step` is None for inference. `peak` is the number of the operation after
    which `tensors` is reached, -1 before the first; `checkpointed` has the modules whose forward
    ran again in the backward pass. `frontier` has choices of the blocks that repeat, where these
    were asked for: none of them first, all of them last, and between these some that save memory.
    `accuracy` is that of all bytes; notes say why they are not exact.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    step: Step | None
    tensors: int
    allocated: int
    reserved: int
    gpu: GpuMemory
    peak: int
    kinds: tuple[KindMemory, ...]
    layers: tuple[LayerMemory, ...]
    macs: StepMacs
    events: tuple[StepEvent, ...]
    notes: tuple[str, ...] = ()
    accuracy: Accuracy = "exact"
    checkpointed: tuple[str, ...] = ()
    frontier: tuple[CheckpointChoice, ...] = ()
    schema_version: int = REPORT_SCHEMA

    @property
    def device_bytes(self) -> tuple[int, int]:
        """The least and the most bytes of a device: see `GpuMemory.whole`."""
        return self.gpu.whole
