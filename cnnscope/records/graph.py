"""The graph of a network: nested blocks, the data flow between them, and a layout to draw it by.

A `Graph` is a tree of nodes. Node 0 is the model; a block's children are what ran inside it, and
each block has the edges between its own children. A value that crosses the border of a block does
so through a *port*, so that an edge between two layers deep inside different blocks is a chain of
edges, one for each block on the way. Whichever blocks are open, the visible edges are thus those
of the open blocks, and nothing has to be searched.

A `Layout` places the children of one block in rows and on vertical rails, and does not depend on
what is open inside them. `cnnscope/render/graph/restack.py` turns it into coordinates: a row is as
high as its highest child, rails stand as near to the trunk as their boxes let them, and data flows
down.
"""

import msgspec

from cnnscope.records.diff import Change
from cnnscope.records.trace import Shape

GRAPH_SCHEMA = 1
ROOT = 0  # the node of the model itself
BORDER = -1  # as the end of an edge: the border of the block that has the edge

# Kinds of nodes.
BLOCK = "block"  # a module with parts that are shown
REPEAT = "repeat"  # equal blocks or layers, one after the other
LAYER = "layer"  # a module without parts
OPERATION = "operation"  # functional; or several that only move data, one after the other
PARAMETER = "parameter"  # that a block reads itself: a class token, a position embedding
CONSTANT = "constant"  # operations that no input reaches: masks, anchors, position tables
INPUT = "input"
OUTPUT = "output"


class GraphEdge(msgspec.Struct, frozen=True, array_like=True):
    """A value that flows from one child of a block to another.

    `source` and `target` are nodes; `BORDER` as the source is the block's input port number `out`,
    as the target its output port number `into`. Otherwise `out` is an output port of the source
    and `into` an input port of the target.
    """

    source: int
    out: int
    target: int
    into: int


class Rail(msgspec.Struct, frozen=True, array_like=True):
    """A vertical line on which boxes and lanes of a block hang.

    `column` orders rails from left to right: that of the trunk is 0, those at its left are
    negative. It reaches from row `first` to row `last`. Two rails of one column share no row.
    """

    column: int
    first: int
    last: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a child stands: its row, from 0 downward, and the number of its rail."""

    node: int
    row: int
    rail: int


class Route(msgspec.Struct, frozen=True, array_like=True):
    """The way of one edge.

    Down from the source at slot `exit`, along track `leave` of the gap below it, down lane `lane`,
    along track `arrive` of the gap above the target, and down into it at slot `entry`. Without a
    lane (-1) the target is in the next row, and there is one track (`leave` = `arrive`). A track
    of -1 says that this piece of the way is straight. Slots count from the axis of a box, negative
    to the left; lanes run along their rail.
    """

    exit: int
    leave: int
    lane: int
    arrive: int
    entry: int


class Layout(msgspec.Struct, frozen=True):
    """Rows and rails of one block.

    There is a gap above each row and one below the last, `rows` + 1 in all, each with room for
    `tracks[gap]` horizontal lines beside each other. The border of the block is above the first
    gap and below the last one: a source of `BORDER` is row -1, a target of `BORDER` row `rows`, and
    both are on the rail `trunk`, which is the axis of the whole block (so that a trunk runs
    straight through all blocks). Edges that share a lane are drawn over each other: all of one
    output, of outputs of one source that have the same readers, and of several sources where every
    reader of the lane reads all that joined it above.

    A drawing keeps rails in the order of their columns wherever they share a row or a gap (a rail
    has the gaps above its first and below its last row), and may move them together as far as the
    boxes of the rows that they share have room.

    Attributes:
        places: of the children.
        rows: number of rows.
        rails: in the order of their columns.
        trunk: the rail of the longest path.
        tracks: lines in each gap.
        lanes: the rail of each lane.
        routes: one for each edge of the block, in the same order.
        inputs: slot of each input port of the block, on its upper border.
        outputs: slot of each output port, on its lower border.
    """

    places: tuple[Place, ...] = ()
    rows: int = 0
    rails: tuple[Rail, ...] = (Rail(0, 0, -1),)
    trunk: int = 0
    tracks: tuple[int, ...] = (0,)
    lanes: tuple[int, ...] = ()
    routes: tuple[Route, ...] = ()
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


class Costs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node costs, everything inside it included; of a repeat all of its members together.

    `field` is the receptive field in input pixels for each axis (None: the whole axis), None where
    nothing is known or no input is seen.
    """

    params: int = 0
    macs: int = 0
    element_ops: int = 0
    activation_bytes: int = 0  # of what it gives, not of what is inside
    field: tuple[int | None, ...] | None = None


class Counterpart(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a graph of two models: how a node of the second compares with one of the first.

    `status` is that of a row of `cnnscope diff`: "same", "resized", "changed", "added" or
    "removed". A removed node is itself one of the first model and has no counterpart.
    """

    status: str
    label: str = ""
    outputs: tuple[Shape, ...] = ()
    costs: Costs | None = None
    changes: tuple[Change, ...] = ()


class GraphNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A box of the graph.

    Attributes:
        kind: one of the kinds above.
        parent: the node around it, -1 for the model.
        path: dotted path of the module; of an operation that of its row in the summary.
        name: its last part; "" for the model.
        label: class or operation with what tells it from others: "Conv2d 3x3, stride 2".
        family: of the operation: the value of `ops.entry.Family` ("convolution", "batch norm");
            "block" for what has parts.
        call: 2 when the same module runs for the second time.
        row: index in `ModelReport.layers`, -1 where there is none. Of a graph of two models: of
            the second one, for a removed node of the first. Of a repeat: of its first member.
        merged: the other rows that it stands for: of operations drawn as one, of a repeat's
            members.
        inputs: shape of each input port.
        outputs: shape of each output port.
        costs: everything inside included.
        repeat: number of equal members (of a repeat; 1 otherwise).
        paths: of the members of a repeat, in order.
        children: nodes inside, in the order in which they ran; of a repeat its members.
        edges: data flow between the children.
        layout: of the children, None where there are none.
        fails: the forward raised here.
        counterpart: in a graph of two models.

    A repeat has three states: closed, a box with "x 12"; open, the inside of its first member
    (`children[0]`, a box if that has no parts) with "x 12"; unfolded, all members by its own
    layout. Its members follow each other in the order in which they ran; most often each reads what
    the one before gives, but they may also stand side by side. Slots of its ports are those of the
    members' ports, so that lines meet the inside of the first one as well.

    Where several neighbours repeat together (convolution, activation, convolution, activation),
    each member is a block that no module is: its name is "24 ... 25", its path that of the first
    part, its row -1.
    """

    kind: str
    parent: int
    path: str
    name: str
    label: str
    family: str
    call: int = 1
    row: int = -1
    merged: tuple[int, ...] = ()
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    costs: Costs = Costs()
    repeat: int = 1
    paths: tuple[str, ...] = ()
    children: tuple[int, ...] = ()
    edges: tuple[GraphEdge, ...] = ()
    layout: Layout | None = None
    fails: bool = False
    counterpart: Counterpart | None = None


class Graph(msgspec.Struct, frozen=True):
    """The graph of one model, or of two.

    Attributes:
        name: of the model; of two: "vgg11 -> vgg13".
        nodes: outer before inner; a node is named by its place here.
        opened: nodes that are open at first (a repeat: its first member), so that the picture fits
            a screen; the model is always among them.
        schema_version: changes when a field changes its meaning or goes.
    """

    name: str
    nodes: tuple[GraphNode, ...]
    opened: tuple[int, ...] = (ROOT,)
    schema_version: int = GRAPH_SCHEMA
