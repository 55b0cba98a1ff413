"""The figure of a network: its layers and how data flows between them, before it is drawn.

A `Flow` is a graph of *steps*: inputs, layers, joins of data paths, and blocks that are drawn as
one. Operations that leave the network's structure as it is (norms, activations, dropout, views)
are no steps; the step before has the names of those that change values (`after`). Steps are in the
order in which they ran.
"""

import msgspec

from cnnscope.records.graph import Layout
from cnnscope.records.stages import StageLayer
from cnnscope.records.trace import Shape

LENET, BLOCKS, GRAPH, UNET = STYLES = ("lenet", "blocks", "graph", "unet")

# Kinds of steps.
INPUT = "input"
LAYER = "layer"
JOIN = "join"  # several paths become one: an addition, a concatenation
BLOCK = "block"  # a module whose paths join inside


class Step(msgspec.Struct, frozen=True):
    """What makes a feature map.

    Attributes:
        kind: one of the kinds above.
        family: of the operation: the value of `ops.entry.Family` ("convolution", "max pool",
            "add"); "block" of a block, "input" of an input.
        channels: of the map that it makes; None where it is not known.
        positions: of that map, () where there is a single one.
        label: the class of a block, the name of an input, the operation of a join.
        path: dotted path of its module.
        layer: of a layer.
        inside: layers of a block in the order in which they ran.
        after: activations behind it, each once.
        times: equal steps in a row that it stands for.
        parallel: equal steps that read and are read alike that it stands for.
        group: steps with the same number repeat together (`repeats` of them); -1 alone.
        repeats: of its group.
    """

    kind: str
    family: str
    channels: int | None
    positions: Shape
    label: str = ""
    path: str = ""
    layer: StageLayer | None = None
    inside: tuple[StageLayer, ...] = ()
    after: tuple[str, ...] = ()
    times: int = 1
    parallel: int = 1
    group: int = -1
    repeats: int = 1


class FlowEdge(msgspec.Struct, frozen=True):
    """A map that one step reads of another.

    Attributes:
        source: number of a step.
        target: number of a later step.
        channels: of the map as it is read (a part of the channels, padded ones).
        positions: likewise: a cropped map is smaller than the source's.
        projection: a layer on the way that has no step of its own: a residual block's 1x1.
        grows: a shortcut whose shape is not that of what it is added to, or that is projected.
    """

    source: int
    target: int
    channels: int | None = None
    positions: Shape = ()
    projection: StageLayer | None = None
    grows: bool = False


class Band(msgspec.Struct, frozen=True):
    """Rows of a layout at about one resolution: `sizes` are those of the first and the last map."""

    first: int
    last: int
    sizes: tuple[Shape, Shape]


class Flow(msgspec.Struct, frozen=True):
    """A network as steps and edges.

    Attributes:
        name: of the model.
        steps: in the order in which they ran.
        edges: by target, then by source.
        ends: steps whose maps are the network's outputs.
        layout: of the steps, for the style "graph".
        bands: of the layout's rows, from the top.
        left_out: layers whose result no output depends on.
    """

    name: str
    steps: tuple[Step, ...]
    edges: tuple[FlowEdge, ...]
    ends: tuple[int, ...] = ()
    layout: Layout | None = None
    bands: tuple[Band, ...] = ()
    left_out: int = 0


class Skip(msgspec.Struct, frozen=True):
    """A shortcut of a U: from a step of the encoder to the join in the decoder that reads it.

    `gated` says that it is multiplied on its way by what is computed of the decoder (Oktay et al.
    2018), `through` counts layers on the way.
    """

    source: int
    target: int
    gated: bool = False
    through: int = 0
    cropped: bool = False


class Ushape(msgspec.Struct, frozen=True):
    """An encoder-decoder with skips.

    Attributes:
        trunk: steps of the longest path, in order.
        levels: of each of them, 0 for the highest resolution.
        bottom: place in `trunk` of the first step at the lowest level.
        skips: of the decoder, in order.
    """

    trunk: tuple[int, ...]
    levels: tuple[int, ...]
    bottom: int
    skips: tuple[Skip, ...]


class FigureContents(msgspec.Struct, frozen=True):
    """All that a figure shows.

    Attributes:
        style: one of `STYLES`.
        chosen: the style was chosen here, for this reason; "" where it was asked for.
        flows: one for each model.
        merged: likewise, with equal steps in a row as one, for where all do not fit.
        rows: for "graph": alignment of the models' resolutions; for each row the number of a band
            of each model, None where it has none.
        shapes: for "unet": of each model, and of it with equal steps in a row as one.
        notes: what the figure leaves out.
        coarser: for "graph": the same with less detail, for where it does not fit.
    """

    style: str
    flows: tuple[Flow, ...]
    merged: tuple[Flow, ...] = ()
    chosen: str = ""
    rows: tuple[tuple[int | None, ...], ...] = ()
    shapes: tuple[tuple[Ushape, Ushape], ...] = ()
    notes: tuple[str, ...] = ()
    coarser: "FigureContents | None" = None
