"""The report of `cnnscope stages`: blocks by resolution."""

from collections.abc import Iterable, Iterator
from math import log2

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA, Geometry
from cnnscope.records.trace import Shape, Source, TensorSpec


class StageLayer(msgspec.Struct, frozen=True, tag="layer", tag_field="type"):
    """A line in a cell of the architecture table: a weight layer, a pool, an attention.

    `times_in` is the width as a multiple of the channels that enter the block ("6", "1/4"), where
    that and not the width itself is what the repeated blocks have in common.
    `role` is "" on the main path, "shortcut" for a projection beside it, "gate" for what is made
    of the whole image and multiplied in (squeeze-and-excite), "side" for what sees no data.
    `weights` counts the weights that are met here for the first time.
    """

    path: str
    kind: str  # "conv", "transposed conv", "linear", "max pool", "average pool", "attention", ...
    output: Shape = ()  # positions: without batch and channels
    geometry: Geometry | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    times_in: str = ""
    role: str = ""
    weights: int = 0
    heads: int | None = None  # of an attention
    keys: int | None = None  # that each query of an attention meets

    @property
    def depthwise(self) -> bool:
        """True for a depthwise convolution."""
        return self.geometry is not None and 1 < self.geometry.groups == self.in_channels


class StageFork(msgspec.Struct, frozen=True, tag="fork", tag_field="type"):
    """Parallel branches of a block, joined again behind them."""

    branches: tuple[tuple["StageLayer | StageFork", ...], ...]


StagePart = StageLayer | StageFork


def flat(parts: Iterable[StagePart]) -> Iterator[StageLayer]:
    """The layers of a structure, branch by branch."""
    for part in parts:
        if isinstance(part, StageFork):
            for branch in part.branches:
                yield from flat(branch)
        else:
            yield part


class StageItem(msgspec.Struct, frozen=True):
    """Equal blocks (or layers) in a row: `parts` is what one of them does, in order.

    `shortcuts` are the projections of all of them together. `stride` is that of the first.
    """

    kind: str  # class of the module
    block: bool  # or a single layer
    paths: tuple[str, ...]  # one for each repetition
    parts: tuple[StagePart, ...]
    shortcuts: tuple[StageLayer, ...] = ()
    in_channels: int | None = None
    stride: tuple[int, ...] = ()

    @property
    def times(self) -> int:
        """Number of repetitions."""
        return len(self.paths)


class Stage(msgspec.Struct, frozen=True):
    """Blocks that run one after the other at one resolution; () once positions are gone."""

    output: Shape
    items: tuple[StageItem, ...]


class ModelStages(msgspec.Struct, frozen=True):
    """A column of the architecture table."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    stages: tuple[Stage, ...]
    params: int
    unused_params: int
    macs: int
    flops: int
    conv_layers: int
    linear_layers: int
    shortcut_layers: int  # of the two above: projections beside a residual path
    side_layers: int  # of the two above: those that see no data (a position bias)
    reruns: int  # weight layers that ran again with the same weights, and are not listed again
    resized: int  # resamplings to further sizes (of detections, one by one), not listed
    unknown_ops: int
    notes: tuple[str, ...] = ()
    recurrent_layers: int = 0
    decided_by: tuple[str, ...] = ()

    def reduction(self, output: Shape) -> tuple[int, ...] | None:
        """Number of times that each axis of the input was halved, rounded; () without positions.

        None for tokens in a row, which have no axes of the input.
        """
        shape = self.inputs[0].shape
        if len(output) == 1 and len(shape) > 3:
            return None
        given = shape[-len(output) :] if output else ()
        return tuple(round(log2(size / left)) for size, left in zip(given, output, strict=True))


class StagesReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope stages`: models side by side, `rows` their stages by resolution.

    A row has for each model the index of its stage, or None.
    """

    models: tuple[ModelStages, ...]
    rows: tuple[tuple[int | None, ...], ...]
    schema_version: int = REPORT_SCHEMA
