"""The graph of a network: boxes, data flow, repeats."""

from functools import cache

import pytest
import torch
from graphs import drawn_flow, leaves, operations, traced_flow, without_relays
from torch import nn

import cnnscope
from cnnscope.analysis import layers
from cnnscope.analysis.graph import graph
from cnnscope.analysis.graph.tidy import operands
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.ops import table
from cnnscope.tracing.recorder import ForwardError

SAMPLE = (
    "classic:lenet5_paper classic:unet classic:googlenet_paper classic:densenet40_12 resnet18 "
    "squeezenet1_0 vit_b_16 swin_t"
).split()


@cache
def zoo(name):
    trace = trace_spec(Request.of(name))
    rows = layers.rows(trace)
    return trace, rows, graph(trace, rows)


def of(model, *sizes):
    trace = cnnscope.trace(model, [torch.empty(size, device="meta") for size in sizes])
    rows = layers.rows(trace)
    return trace, rows, graph(trace, rows)


def named(made, name):
    return next(n for n, node in enumerate(made.nodes) if node.name == name)


def inner(made, path):
    node = next(n for n in made.nodes if n.path == path and n.kind == "block")
    return node, {made.nodes[n].label: n for n in node.children}


class Gated(nn.Module):
    """A gate, a skip over three layers, two inputs, a constant and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.drop = nn.Dropout()
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))
        self.weight = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x, mask):
        y = self.drop(torch.relu(self.conv(x)))
        gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
        grid = torch.arange(8.0).add(1).view(1, 1, 1, 8)
        z = torch.cat([y * gate + self.bias, x[:, :2] + grid], 1) * mask
        return nn.functional.linear(z[:, :4].permute(0, 2, 3, 1), self.weight), gate


GATED = ((1, 3, 8, 8), (1, 1, 8, 8))


def check(trace, rows, made):
    """Every edge of the trace is in the graph, and no other; nothing that costs is left out."""
    flow, dropped = traced_flow(trace, rows, made)
    ops = operations(trace, rows, made)
    relays = [n for n in leaves(made) if made.nodes[n].kind == "layer" and not ops[n]]
    assert without_relays(drawn_flow(made), relays) == flow
    kept = set(range(len(trace.ops))) - dropped
    read = {t for op in kept for t in operands(trace)[op]} | set(trace.outputs)
    for op in dropped:
        assert not table.lookup(trace.ops[op].name).computes
        assert read.isdisjoint(trace.ops[op].outputs)
    shown = [node.costs for node in made.nodes if not node.children]
    for cost in ("params", "macs", "element_ops"):
        assert sum(getattr(c, cost) for c in shown) == getattr(rows[0], cost)


@pytest.mark.parametrize("name", SAMPLE)
def test_every_edge_of_the_trace_is_in_the_graph(name):
    check(*zoo(name))


def test_every_edge_of_a_forward_with_gates_and_constants_is_in_the_graph():
    check(*of(Gated(), *GATED))


def test_a_weight_is_drawn_with_the_operation_that_reads_it_and_a_bias_by_itself():
    made = of(Gated(), *GATED)[2]
    linear = next(node for node in made.nodes if node.label == "linear 4 -> 4")
    assert linear.costs.params == 16
    assert made.nodes[named(made, "bias")].kind == "parameter"


def test_operations_that_no_input_reaches_are_one_box():
    made = of(Gated(), *GATED)[2]
    constants = [node for node in made.nodes if node.kind == "constant"]
    assert [node.label for node in constants] == ["arange, add, view"]


def test_dropout_stands_in_the_way_of_its_only_reader_and_is_left_out_before_two():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.fc = nn.Dropout(), nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.drop(x)) + x if self.fc.in_features == 4 else x

    made = of(nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.ReLU()), (1, 4))[2]
    names = [made.nodes[n].label for n in made.nodes[0].children]
    assert names == ["float32", "Linear 4 -> 4", "Dropout", "ReLU", "float32"]
    # fc and add read the same tensor: which of them has it from the dropout is not in the trace
    assert "Dropout" not in [node.label for node in of(Twice(), (1, 4))[2].nodes]


def test_equal_blocks_in_a_row_are_one_box():
    repeat = next(node for node in zoo("resnet18")[2].nodes if node.kind == "repeat")
    assert repeat.paths == ("layer1.0", "layer1.1")
    assert repeat.costs.params == 2 * 2 * (64 * 64 * 9 + 2 * 64)  # two blocks of two convolutions


def test_neighbours_that_repeat_together_are_a_box_of_their_own():
    pairs = [one for _ in range(3) for one in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    made = of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), *pairs), (1, 3, 8, 8))[2]
    repeat = next(node for node in made.nodes if node.kind == "repeat")
    assert (repeat.label, repeat.repeat) == ("Conv2d 3x3, ReLU", 3)
    assert [made.nodes[n].name for n in repeat.children] == ["2 … 3", "4 … 5", "6 … 7"]


def test_blocks_on_other_sizes_are_not_equal():
    pairs = [one for _ in range(3) for one in (nn.Conv2d(4, 4, 2, stride=2), nn.ReLU())]
    made = of(nn.Sequential(*pairs), (1, 4, 8, 8))[2]
    assert not [node for node in made.nodes if node.kind == "repeat"]


def test_a_residual_block_has_an_add_that_joins_two_flows():
    made = zoo("resnet18")[2]
    block, labels = inner(made, "layer2.0")
    sources = {edge.source for edge in block.edges if edge.target == labels["add"]}
    assert {made.nodes[n].name for n in sources} == {"bn2", "downsample"}


def test_the_skip_of_a_residual_block_has_a_lane_beside_a_straight_trunk():
    made = zoo("resnet18")[2]
    layout = inner(made, "layer1.0")[0].layout
    assert {place.rail for place in layout.places} == {layout.trunk}
    (lane,) = layout.lanes
    assert layout.rails[lane].column == 1
    # conv1, bn1, relu, conv2, bn2 are passed; add and relu follow
    assert (layout.rails[lane].first, layout.rails[lane].last, layout.rows) == (0, 4, 7)


class Dense(nn.Module):
    """Every layer reads the outputs of all before it."""

    def __init__(self, count):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(2 + 2 * n, 2, 1) for n in range(count))

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(torch.relu(layer(torch.cat(found, 1))))
        return torch.cat(found, 1)


def test_a_dense_block_has_one_lane_that_all_its_layers_share():
    block = of(Dense(12), (1, 2, 4, 4))[2].nodes[0]
    # each of 13 outputs (the input among them) is read by all concatenations after it: 13 of them
    # with more than the input itself (12 x 13 / 2 pairs of layers, and 13 by the last one)
    assert sum(edge.source in (1, *block.children) for edge in block.edges) > 13 * 14 / 2
    assert len(block.layout.lanes) == 1


def test_a_graph_starts_with_what_fits_a_screen():
    for name in SAMPLE:
        made = zoo(name)[2]
        opened = set(made.opened)
        seen = [n for n, node in enumerate(made.nodes) if node.parent in opened]
        assert 0 in opened
        assert len(set(seen) - opened) <= 45


def test_a_model_of_one_layer_has_a_graph():
    made = of(nn.Conv2d(3, 4, 3), (1, 3, 8, 8))[2]
    assert [node.kind for node in made.nodes] == ["block", "input", "layer", "output"]


@pytest.mark.parametrize(
    ("last", "label"),
    [
        (nn.Conv2d(3, 4, 1), "Conv2d 1x1"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1))), "Conv2d 1x1"),
        (nn.Flatten(1, 9), "Flatten"),
    ],
)
def test_the_layer_in_which_a_forward_raises_ends_its_graph(last, label):
    with pytest.raises(ForwardError) as caught:
        of(nn.Sequential(nn.Conv2d(3, 4, 1), last), (1, 3, 8, 8))
    trace = caught.value.trace
    made = graph(trace, layers.rows(trace))
    (failed,) = [n for n, node in enumerate(made.nodes) if node.fails]
    assert made.nodes[failed].label == label
    assert {made.nodes[a].path for a, b in drawn_flow(made) if b == failed} == {"0"}


def test_the_operations_of_a_crowded_block_have_boxes_of_their_own():
    class Crowded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = self.first(x)
            for n in range(40):
                x = x * (n + 2) if n % 2 else x + n + 1 if n % 3 else x / (n + 1)
            x = self.last(x)
            for n in range(40):
                x = x - n if n % 2 else x / (n + 2) if n % 3 else x * (n + 3)
            return x

    root = of(Crowded(), (1, 3, 4, 4))[2].nodes[0]
    # input, a convolution, 40 operations, a convolution, 40 operations, output
    assert len(root.children) == 6


@pytest.mark.slow
def test_every_edge_of_every_model_is_in_its_graph():
    from cnnscope.models.sources import classic, torchvision

    for name in (*torchvision.names(), *(f"classic:{one}" for one in classic.names())):
        trace = trace_spec(Request.of(name))
        rows = layers.rows(trace)
        check(trace, rows, graph(trace, rows))
