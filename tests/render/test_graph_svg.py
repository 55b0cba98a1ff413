"""The graph of a network as a picture: coordinates, text, colours."""

from functools import cache
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
import torch
from graphs import overlapping, through_boxes
from torch import nn

import cnnscope
from cnnscope.analysis import layers
from cnnscope.analysis.graph import graph
from cnnscope.errors import RequestError
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.graph import BORDER
from cnnscope.render.graph import View, svg
from cnnscope.render.graph.boxes import size
from cnnscope.render.graph.restack import restack
from cnnscope.render.graph.svg import states

SAMPLE = "classic:unet classic:googlenet_paper resnet18 densenet121 vit_b_16 swin_t".split()
VIEWS = (View(), View(depth=1), View(depth=0), View(depth=0, unfold=True))


@cache
def zoo(name):
    trace = trace_spec(Request.of(name))
    return graph(trace, layers.rows(trace))


def of(model, *sizes):
    trace = cnnscope.trace(model, [torch.empty(size, device="meta") for size in sizes])
    return graph(trace, layers.rows(trace))


def stacked(made, view):
    return restack(made, states(made, view), size)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x) + x)


def test_a_residual_block_at_its_coordinates():
    made = of(Residual(), (1, 4, 8, 8))
    drawing = restack(made, {0: 1}, lambda node, opened: (60.0, 20.0))
    # The head is 24 high, a gap 16 (one track in each needs no more), a box 20: rows begin at
    # 24 + 16 = 40 and every 36 further. The axis is 8 + 30 + 9 from the left border.
    boxes = [(made.nodes[b.node].name, b.x, b.y) for b in drawing.boxes[1:]]
    axis = drawing.boxes[1].x + 30
    assert boxes == [
        ("input", axis - 30, 40), ("conv", axis - 30, 76), ("add", axis - 30, 112),
        ("relu", axis - 30, 148), ("output", axis - 30, 184),
    ]  # fmt: skip
    assert drawing.height == 184 + 20 + 16
    nodes = made.nodes[0]
    skip = next(
        line.points
        for line, edge in ((one, nodes.edges[one.edge]) for one in drawing.lines)
        if (made.nodes[edge.source].name, made.nodes[edge.target].name) == ("input", "add")
    )
    # Out of the input at y 60, along the middle of the gap (60 + 8), down a lane that is 30 + 9
    # beside the axis and 7 more, along the middle of the gap above the add (96 + 8), and into it
    # one slot (12) beside the axis.
    lane = axis + 30 + 9 + 7
    assert skip == (
        (axis, 60), (axis, 68), (lane, 68), (lane, 104), (axis + 12, 104), (axis + 12, 112),
    )  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_boxes_do_not_overlap_and_no_line_runs_through_one(name):
    made = zoo(name)
    for view in VIEWS:
        drawing = stacked(made, view)
        assert not overlapping(drawing, made)
        assert not through_boxes(drawing)


class Branches(nn.Module):
    """Blocks and operations with a dozen inputs and outputs each."""

    class Halves(nn.Module):
        def forward(self, *inputs):
            return [x.relu() if n % 2 else x.tanh() for n, x in enumerate(inputs)]

    def __init__(self):
        super().__init__()
        self.halves = self.Halves()

    def forward(self, x):
        parts = self.halves(*(part.exp() for part in x.unbind(1)))
        return torch.cat([part + part.flatten(1).mean() for part in parts[::-1]], 1)


@cache
def branches():
    return of(Branches(), (1, 12, 4, 4))


@pytest.mark.parametrize("name", [*SAMPLE, "branches"])
@pytest.mark.parametrize("depth", [1, 0])
def test_every_edge_between_visible_boxes_is_a_line_from_one_to_the_other(name, depth):
    made = branches() if name == "branches" else zoo(name)
    drawing = stacked(made, View(depth=depth, unfold=True))
    boxes = {box.node: box for box in drawing.boxes}
    within = {box.inside: box for box in drawing.boxes if box.inside >= 0}
    assert len(drawing.lines) == sum(len(made.nodes[n].edges) for n in within)
    for line in drawing.lines:
        edge, around = made.nodes[line.block].edges[line.edge], within[line.block]
        x0, (x1, y1) = line.points[0][0], line.points[-1]
        first = around if edge.source == BORDER else boxes[edge.source]
        last = around if edge.target == BORDER else boxes[edge.target]
        assert first.x <= x0 <= first.x + first.width
        assert last.x <= x1 <= last.x + last.width
        assert y1 == (last.y + last.height if edge.target == BORDER else last.y)
        assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(line.points))


def test_height_grows_linearly_with_the_rows():
    heights = []
    for count in (10, 20, 40):
        blocks = [nn.Conv2d(3, 3, 2 * n % 5 + 1) for n in range(count)]
        made = of(nn.Sequential(*blocks), (1, 3, 400, 400))
        heights.append(stacked(made, View(depth=0)).height)
    assert heights[2] - heights[1] == pytest.approx(2 * (heights[1] - heights[0]), rel=0.1)


def test_what_edges_of_a_dense_block_share_is_drawn_once():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(2 + 2 * n, 2, 1) for n in range(20))

        def forward(self, x):
            found = [x]
            for layer in self.layers:
                found.append(layer(torch.cat(found, 1)))
            return torch.cat(found, 1)

    made = of(Dense(), (1, 2, 4, 4))
    assert len(made.nodes[0].edges) > 20 * 21 / 2
    # boxes: 20 layers, 20 concatenations and their like; two pieces and a tip for each at most
    assert svg(made).count("<path") < 5 * len(made.nodes)


def test_names_of_a_model_are_text_in_the_picture():
    model = nn.Sequential()
    model.add_module('<script>alert("x")&', nn.Conv2d(3, 4, 3))
    kind = type("<b>Evil</b>", (nn.Module,), {"forward": lambda self, x: x.relu() + x.tanh()})
    model.add_module("kind", kind())
    text = svg(of(model, (1, 3, 8, 8)), View(depth=0))
    root = ET.fromstring(text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "rect", "path", "text", "tspan", "title"}
    assert "<script>" in "".join(root.itertext())


def test_a_picture_stands_alone():
    text = svg(zoo("resnet18"))
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "BasicBlock \N{MULTIPLICATION SIGN} 2" in text


@pytest.mark.parametrize("heat", ["macs", "params", "activations", "element-ops", "field"])
def test_every_cost_has_a_scale(heat):
    assert " to " in svg(zoo("resnet18"), View(heat=heat))


def test_an_unknown_cost_is_refused():
    with pytest.raises(RequestError, match="macs"):
        svg(zoo("resnet18"), View(heat="price"))
