"""The architecture figure: what is drawn where, and what each file format says."""

import re
import shutil
import subprocess
from functools import cache
from itertools import combinations, pairwise
from math import dist
from xml.etree import ElementTree as ET

import pytest
import torch
from command_line import OVERWRITE, run_cli
from figures import covered_texts, crossed_texts, outside, overlapping_parts, overlapping_texts
from paths import ROOT
from torch import nn
from torchvision.models import list_models

import cnnscope
from cnnscope.analysis.figure.fold import _repeated, folded
from cnnscope.analysis.figure.selections import selections
from cnnscope.errors import RequestError
from cnnscope.records.figure import JOIN, LAYER, Flow, FlowEdge, Step
from cnnscope.render.figure import font, palette
from cnnscope.render.figure.graph import _beside
from cnnscope.render.figure.scene import Box, Polygon, Polyline, box_of
from cnnscope.render.figure.tex import escaped
from cnnscope.reports.figure import _check_size, _of_chain

PICTURES = {
    "lenet": ["alexnet"],
    "blocks": ["vgg16"],
    "graph": ["resnet18", "classic:plain18"],
    "unet": ["classic:unet"],
}
TIMES = "\N{MULTIPLICATION SIGN}"
COLUMN, PAGE = 234.0, 486.0  # points: widths of a column and of a page


@cache
def traced(name):
    return cnnscope.trace(cnnscope.Request.of(name))


@cache
def figure(*names, style=None, max_width=PAGE, font="sans"):
    return cnnscope.figure(
        [traced(name) for name in names], style=style, max_width=max_width, font=font
    )


def scene(made):
    return made.drawn()


def of(net, *sizes, style=None, max_width=PAGE, max_height="9in"):
    inputs = [torch.empty(size, device="meta") for size in sizes]
    return cnnscope.figure(
        cnnscope.trace(net, inputs), style=style, max_width=max_width, max_height=max_height
    )


def written(made):
    return [text.text for text in scene(made).texts()]


def holds(made):
    """Check what holds for every figure."""
    drawn = scene(made)
    assert not overlapping_texts(drawn)
    assert not outside(drawn)
    assert not crossed_texts(drawn)
    assert drawn.width <= made.max_width + 0.01
    assert drawn.height <= made.max_height + 0.01
    if made.style != "blocks":  # where a box in perspective hides a part of the one behind
        assert not overlapping_parts(drawn)
        assert not covered_texts(drawn)


# ------------------------------------------------------------------------------ the drawings


@pytest.mark.parametrize("style", PICTURES)
def test_pictures_of_the_docs_are_what_the_program_draws(style):
    made = figure(*PICTURES[style], style=style).svg()
    path = ROOT / "docs" / "pictures" / f"figure-{style}.svg"
    if OVERWRITE:
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("max_width", [COLUMN, PAGE])
@pytest.mark.parametrize("typeface", ["sans", "serif"])
@pytest.mark.parametrize("style", PICTURES)
def test_nothing_overlaps_and_all_text_is_inside(style, typeface, max_width):
    holds(figure(*PICTURES[style], style=style, max_width=max_width, font=typeface))


@pytest.mark.parametrize("style", ["lenet", "blocks"])
def test_chains_of_several_models_stand_below_each_other(style):
    made = figure("classic:lenet5", "classic:lenet1989", style=style)
    holds(made)
    names = [text for text in scene(made).texts() if text.text in ("lenet5", "lenet1989")]
    assert [text.text for text in names] == ["lenet5", "lenet1989"]
    assert names[0].y < names[1].y


def test_lenet_has_the_captions_of_its_paper():
    # LeCun et al. 1998, figure 2: C1 6@28x28, S2 6@14x14, C3 16@10x10, S4 16@5x5, then 120, 84, 10
    texts = written(figure("classic:lenet5", style="lenet"))
    captions = "1@32x32 6@28x28 6@14x14 16@10x10 16@5x5 120 84 10".replace("x", TIMES).split()
    assert [text for text in texts if text in captions] == captions
    assert {"input", "C1", "S2", "C3", "S4", "F5", "F6", "output"} <= set(texts)


def test_sheets_are_the_channels_up_to_twelve():
    items = scene(figure("classic:lenet5", style="lenet")).items
    fills = [item.fill for item in items if hasattr(item, "fill")]
    # C1 has 6 sheets; C3, of 16 channels, 12 and ceil(1.6 * log2(16/12)) = 1 more
    legend = 1
    assert fills.count(palette.CONVOLUTION.fill) == 6 + 13 + legend


def test_bars_of_vectors_are_as_long_as_they_have_channels():
    bars = [item.points for item in scene(figure("alexnet", style="lenet")).items
            if isinstance(item, Polygon) and item.fill == palette.LINEAR.fill]  # fmt: skip
    long, short = (max(y for _, y in bar) - min(y for _, y in bar) for bar in bars[:2])
    # 4096 and 1000 channels: the logarithms of one more are 12.0 and 10.0
    assert short / long == pytest.approx(10.0 / 12.0, abs=0.01)


def test_lines_above_boxes_begin_and_end_on_them():
    drawn = scene(of(U(), (1, 3, 92, 92), style="blocks"))
    lids = [item.points for item in drawn.items if isinstance(item, Polygon)
            and len(item.points) == 4 and item.points[0][1] > item.points[1][1]
            and item.points[1][1] == item.points[2][1]]  # fmt: skip
    ways = [item.points for item in drawn.items if isinstance(item, Polyline)
            and len(item.points) > 9]  # fmt: skip
    assert len(ways) == 2
    for (x, y), *_ in ways:
        assert any(within(x, y, lid) for lid in lids)


def within(x, y, lid):
    """Return True if a point is inside the upper face of a box, whose sides lean."""
    (left, bottom), (shifted, top), _, (right, _) = lid
    lean = (shifted - left) * (bottom - y) / (bottom - top)
    return top < y < bottom and left + lean < x < right + lean


def test_vgg_and_resnet_are_those_of_the_paper():
    made = figure("vgg19", "classic:plain34", "resnet34", style="graph")
    vgg, plain, residual = made.contents.flows
    # He et al. 2015, figure 3: 16 + 3 weight layers, 34, and 34 with 16 shortcuts, 3 of them dashed
    counts = [sum(step.family in ("convolution", "linear") for step in one.steps)
              for one in (vgg, plain, residual)]  # fmt: skip
    assert counts == [19, 34, 34]
    assert sum(step.family == "add" for step in residual.steps) == 16
    assert sum(edge.grows for edge in residual.edges) == 3
    sizes = [band.sizes[0][:1] for band in residual.bands]
    assert sizes == [(224,), (112,), (56,), (28,), (14,), (7,), ()]
    assert all(None not in row for row in made.contents.rows)
    holds(made)


def test_a_row_says_the_sizes_of_all_models_in_it():
    texts = written(figure("classic:lenet5", "alexnet", style="graph"))
    assert "size: 32\N{EN DASH}28, 224" in texts


class Repeats(nn.Module):
    """Many residual blocks of one width."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return x + self.two(self.one(x).relu())

    def __init__(self, times):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(self.Block() for _ in range(times)))

    def forward(self, x):
        return self.blocks(self.first(x))


def test_what_repeats_is_drawn_once_where_there_are_too_many_boxes():
    # 3 steps a block: two convolutions and the addition
    assert len(of(Repeats(20), (1, 3, 8, 8), style="graph").contents.flows[0].steps) == 62
    made = of(Repeats(30), (1, 3, 8, 8), style="graph")
    (flow,) = made.contents.flows
    assert [step.repeats for step in flow.steps] == [1, 1, 30, 30, 30]
    assert f"{TIMES} 30" in written(made)
    narrow = of(Repeats(30), (1, 3, 8, 8), style="blocks", max_width=COLUMN)
    assert f"{TIMES} 30" in written(narrow)


def test_a_figure_is_no_higher_than_a_page():
    net = Repeats(20)  # 62 boxes
    whole = of(net, (1, 3, 8, 8), style="graph", max_height=2000)
    assert written(whole).count(f"3{TIMES}3 conv, 8") == 1 + 2 * 20
    page = of(net, (1, 3, 8, 8), style="graph", max_height=300)
    holds(page)
    assert written(page).count(f"3{TIMES}3 conv, 8") == 1 + 2
    assert f"{TIMES} 20" in written(page)
    assert page.smallest_text > 5
    low = of(net, (1, 3, 8, 8), style="graph", max_height=72)
    holds(low)
    assert low.size[1] == pytest.approx(72)


def test_what_repeats_is_framed_with_its_shortcut():
    drawn = scene(of(Repeats(30), (1, 3, 8, 8), style="graph"))
    frame = next(item for item in drawn.items if getattr(item, "fill", "") == "#f1f4f7")
    lanes = [item for item in drawn.items if isinstance(item, Polyline) and len(item.points) > 9]
    assert lanes
    assert max(x for x, _ in frame.points) > max(x for lane in lanes for x, _ in lane.points)


def test_the_number_of_times_stands_where_no_box_is():
    area = Box(100.0, 0.0, 50.0, 40.0)
    at = [_beside("x 3", area, boxes, font("sans")) for boxes in (
        [], [Box(80.0, 0.0, 18.0, 40.0)], [Box(80.0, 15.0, 90.0, 8.0)],
    )]  # fmt: skip
    assert [(text.x, text.anchor) for text in at] == [(97, "end"), (153, "start"), (97, "end")]
    assert at[0].y == at[1].y
    assert not box_of(at[2], font("sans")).meets(Box(80.0, 15.0, 90.0, 8.0))


def test_runs_are_found_in_time_linear_in_the_steps():
    # 4000 equal steps in pairs: without a limit 2000 runs begin in the first one
    keys = [0, 1] * 2000
    runs = list(_repeated(keys, 2))
    assert runs[0] == (0, 2, 2000)
    assert len(runs) == 3 * 2  # at both places of a part
    assert list(_repeated([5, 0, 0, 0, 7], 1)) == [(1, 1, 3), (2, 1, 2)]
    assert list(_repeated([0, 1, 2], 1)) == []


class Branches(nn.Module):
    """Equal convolutions that read one map and are concatenated."""

    def __init__(self, times):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.branches = nn.ModuleList(nn.Conv2d(8, 2, 3, padding=1) for _ in range(times))

    def forward(self, x):
        x = self.first(x)
        return torch.cat([branch(x) for branch in self.branches], 1)


def test_equal_branches_are_drawn_once_where_there_are_too_many():
    made = of(Branches(70), (1, 3, 8, 8), style="graph")
    holds(made)
    boxes = [f"1{TIMES}1 conv, 8", f"3{TIMES}3 conv, 2, 70 in parallel", "concat"]
    assert [text for text in written(made) if text in boxes] == boxes
    masks = [Step(LAYER, "resample", 1, (n, n), "upsample") for n in (4, 5, 6)]
    first, last = Step(LAYER, "convolution", 1, (3, 3)), Step(JOIN, "stack", 3, (9, 9))
    edges = [FlowEdge(*ends) for ends in [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]]
    flow = folded(Flow("masks", (first, *masks, last), tuple(edges)))
    assert [step.parallel for step in flow.steps] == [1, 3, 1]
    few = of(Branches(5), (1, 3, 8, 8), style="graph")
    assert written(few).count(f"3{TIMES}3 conv, 2") == 5


class Padded(nn.Module):
    """A shortcut that pads channels with zeros, and one without."""

    def __init__(self):
        super().__init__()
        self.same, self.more = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        x = x + self.same(x)
        return nn.functional.pad(x, (0, 0, 0, 0, 0, 2)) + self.more(x)


def test_a_shortcut_is_dashed_where_its_shape_changes():
    (flow,) = of(Padded(), (1, 4, 8, 8), style="graph").contents.flows
    into = {edge.target: edge.grows for edge in flow.edges if edge.source != edge.target - 1}
    # input, same, add, more, add: the first shortcut is as it is, the second has 2 channels more
    assert into == {2: False, 4: True}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv2d(3, 8, 3), nn.LSTM(8, 16, 2, bidirectional=True)
        self.last = nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.lstm(self.conv(x).mean(2).permute(2, 0, 1))[0][-1])


@pytest.mark.parametrize(
    ("names", "style", "reason"),
    [
        (["classic:lenet5"], "lenet", "a short chain of feature maps"),
        (["vgg16"], "blocks", "a long chain of feature maps"),
        (["resnet18"], "blocks", "a chain of blocks"),
        (["classic:unet"], "unet", "an encoder-decoder with skips"),
        (["classic:lenet5", "classic:lenet1989"], "graph", "several models"),
    ],
)
def test_the_style_that_suits_is_taken_for_a_reason(names, style, reason):
    made = figure(*names)
    assert (made.style, made.contents.chosen) == (style, reason)


def test_a_chain_too_long_for_a_row_is_a_graph():
    flow = Flow("net", (Step(LAYER, "convolution", 1, (2, 2)),) * 121, ())
    assert _of_chain(flow) == ("graph", "a chain too long for a row")
    assert _of_chain(Flow("net", flow.steps[:120], ()))[0] == "blocks"


def test_a_recurrent_layer_is_one_box_whatever_it_is_made_of():
    # 3x3 on 6x10: 4x8; the mean leaves a sequence of 8, and two directions give 2 * 16 channels
    (flow,) = of(Recurrent(), (1, 3, 6, 10), style="graph").contents.flows
    assert [step.path for step in flow.steps] == ["", "conv", "lstm", "last"]
    assert (flow.steps[2].channels, flow.steps[2].positions) == (32, (8,))


def test_pools_of_sequences_have_one_axis():
    net = nn.Sequential(
        nn.Conv1d(1, 4, 5), nn.MaxPool1d(4), nn.Conv1d(4, 8, 3), nn.AvgPool1d(3, 2), nn.Flatten(),
        nn.Linear(8 * 6, 2),
    )  # fmt: skip
    made = of(net, (1, 1, 68), style="graph")
    # 68 - 4 = 64, / 4 = 16, - 2 = 14, (14 - 3) // 2 + 1 = 6
    assert [step.positions for step in made.contents.flows[0].steps] == [
        (68,), (64,), (16,), (14,), (6,), (),
    ]  # fmt: skip
    assert {"max pool 4, /4", "avg pool 3, /2"} <= set(written(made))


class Cross(nn.Module):
    """Attention of one sequence to another, whose weights are computed apart from it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x, y):
        return self.attention(x, y, y, need_weights=True)[0]


def test_attention_has_the_rows_of_its_queries_and_the_channels_of_its_heads():
    (flow,) = of(Cross(), (1, 7, 16), (1, 9, 16), style="graph").contents.flows
    sizes = [(step.family, step.channels, step.positions) for step in flow.steps]
    # queries of the first sequence, keys and values of the second; 2 heads of 8 channels
    assert sizes == [
        ("input", 16, (7,)), ("input", 16, (9,)), ("linear", 16, (7,)), ("linear", 32, (9,)),
        ("attention", 16, (7,)), ("linear", 16, (7,)),
    ]  # fmt: skip


def test_an_embedding_is_a_layer_that_reads_a_row_of_numbers():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.gru = nn.Embedding(50, 12), nn.GRU(12, 6)
            self.last = nn.Linear(6, 2)

        def forward(self, numbers):
            return self.last(self.gru(self.table(numbers).transpose(0, 1))[0][-1])

    numbers = torch.zeros(1, 9, dtype=torch.int64)
    made = cnnscope.figure(cnnscope.trace(Text(), [numbers]), style="graph")
    assert written(made)[3:6] == ["input 1@9", "embedding, 12", "GRU, 6"]


def test_an_image_without_a_batch_has_its_channels_first():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, image):
            return self.conv(image[None])

    assert f"input 3@9{TIMES}8" in written(of(Detector(), (3, 9, 8), style="graph"))


def test_operations_that_select_are_one_join():
    # 0: boxes, 1: their concatenation, 2 to 4: selections, 5: a layer, 6: a sum with what it reads
    names = {1: "aten.cat.default", 2: "aten.index.Tensor", 3: "aten.index.Tensor",
             4: "torchvision.nms.default", 6: "aten.add.Tensor"}  # fmt: skip
    families = ["linear", "concatenate", "lookup", "lookup", "other", "linear", "add"]
    edges = [(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (4, 5), (4, 6), (5, 6)]
    found = selections(names, dict(enumerate(families)), edges)
    assert found == {"box selection (nms)": [[2, 3, 4]]}


def test_results_written_into_one_tensor_are_one_join():
    names = dict.fromkeys(range(1, 7), "cnnscope.write_window")
    families = {0: "convolution", **dict.fromkeys(names, "other")}
    edges = [(n, n + 1) for n in range(6)] + [(0, n) for n in range(2, 7)]
    assert selections(names, families, edges) == {"writes": [[1, 2, 3, 4, 5, 6]]}


def test_additions_in_a_row_are_no_selection():
    names = dict.fromkeys(range(1, 9), "aten.add.Tensor")
    families = {0: "convolution", **dict.fromkeys(names, "add")}
    edges = [(n, n + 1) for n in range(8)] + [(0, n) for n in range(2, 9)]
    assert selections(names, families, edges) == {}


def test_attention_is_one_box_between_linear_layers():
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    (flow,) = of(encoder, (1, 7, 16), style="graph").contents.flows
    # queries, keys and values; attention; its output; the addition; the two layers; the addition
    families = "input linear attention linear add linear linear add".split()
    assert [step.family for step in flow.steps] == families
    assert [step.positions for step in flow.steps[1:]] == [(7,)] * 7


def test_two_inputs_have_numbers():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x, y):
            return self.conv(x) - self.conv(y)

    made = of(Twins(), (1, 3, 8, 8), (1, 3, 8, 8))
    assert made.style == "graph"
    boxes = [text for text in written(made) if "@" in text]
    assert boxes == [f"input 1: 3@8{TIMES}8", f"input 2: 3@8{TIMES}8"]


# --------------------------------------------------------------------------------------- the U


def double(given, made, padding=1):
    return nn.Sequential(
        nn.Conv2d(given, made, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(made, made, 3, padding=padding), nn.ReLU(),
    )  # fmt: skip


class Gate(nn.Module):
    """Attention gate (Oktay et al. 2018, figure 2)."""

    def __init__(self, channels):
        super().__init__()
        self.lower, self.skip = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 4, 1)
        self.psi = nn.Conv2d(4, 1, 1)

    def forward(self, lower, skip):
        return skip * self.psi((self.lower(lower) + self.skip(skip)).relu()).sigmoid()


class U(nn.Module):
    """Two levels down and up, whose skips are joined in several ways."""

    def __init__(self, way="concatenate", padding=1):
        super().__init__()
        self.way, wide = way, 1 if way == "add" else 2
        self.one, self.two = double(3, 8, padding), double(8, 16, padding)
        self.bottom = double(16, 32, padding)
        self.raise_two, self.raise_one = (
            nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2),
        )  # fmt: skip
        self.after_two, self.after_one = (
            double(16 * wide, 16, padding),
            double(8 * wide, 8, padding),
        )
        self.gates = nn.ModuleList([Gate(16), Gate(8)] if way == "gate" else [])
        self.beside = nn.Conv2d(16, 16, 1) if way == "layer" else nn.Identity()

    def joined(self, skip, x, number):
        begin = (skip.shape[2] - x.shape[2]) // 2
        skip = skip[:, :, begin : begin + x.shape[2], begin : begin + x.shape[3]]
        if self.gates:
            skip = self.gates[number](x, skip)
        return skip + x if self.way == "add" else torch.cat([skip, x], 1)

    def forward(self, x):
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        x = self.raise_two(self.bottom(nn.functional.max_pool2d(two, 2)))
        x = self.after_two(self.joined(self.beside(two), x, 0))
        return self.after_one(self.joined(one, self.raise_one(x), 1))


@pytest.mark.parametrize("way", ["concatenate", "add", "gate", "layer", "crop"])
def test_an_encoder_decoder_is_a_u(way):
    made = of(U(way, padding=0 if way == "crop" else 1), (1, 3, 92, 92))
    assert (made.style, made.contents.chosen) == ("unet", "an encoder-decoder with skips")
    holds(made)
    (shape, _), (flow,) = made.contents.shapes[0], made.contents.flows
    # input, two convolutions, pool, two, pool, two, up, join, two, up, join, two
    assert shape.levels == (0, 0, 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0)
    ends = [(flow.steps[skip.source].path, flow.steps[skip.target].channels)
            for skip in shape.skips]  # fmt: skip
    wide = 1 if way == "add" else 2
    assert ends == [("two.2", 16 * wide), ("one.2", 8 * wide)]
    assert [skip.gated for skip in shape.skips] == [way == "gate"] * 2
    assert [skip.cropped for skip in shape.skips] == [way == "crop"] * 2
    assert shape.skips[0].through == {"layer": 1, "gate": 3}.get(way, 0)


def test_the_u_net_has_the_sizes_of_its_paper():
    # Ronneberger et al. 2015, figure 1, from the input to the bottom and up to the output
    sizes = "572 570 568 284 282 280 140 138 136 68 66 64 32 30 28 56 54 52 104 102 100 200 198 196"
    sizes += " 392 390 388"
    shown = [t.removesuffix("\N{SUPERSCRIPT TWO}") for t in written(figure("classic:unet"))
             if t.endswith("\N{SUPERSCRIPT TWO}")]  # fmt: skip
    assert shown == sizes.split()


def test_repeats_stand_below_the_channels_in_a_u():
    made = of(U(), (1, 3, 92, 92), style="unet", max_width=110)
    texts = {(round(t.x, 1), t.text): t for t in scene(made).texts()}
    (x, _), times = next(item for item in texts.items() if item[0][1] == f"{TIMES} 2")
    assert texts[x, "8"].y < times.y
    assert texts[x, "8"].size > times.size


def test_arrows_of_a_u_have_a_colour_for_each_operation():
    lines = [bytes.fromhex(tint.line[1:]) for tint in (*palette.TINTS, palette.ONE)]
    assert min(dist(a, b) for a, b in combinations(lines, 2)) > 32  # of 442


class Nested(nn.Module):
    """A map between encoder and decoder, as UNet++ has (Zhou et al. 2018)."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.between = double(3, 8), double(8, 16), double(24, 8)
        self.last = double(8 + 8 + 8, 8)
        self.up, self.other = nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)

    def forward(self, x):
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        between = self.between(torch.cat([one, self.up(two)], 1))
        return self.last(torch.cat([one, between, self.other(two)], 1))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Nested(), "joins paths that are no skips of a U"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2)), "no map of its enc"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 3)), "never grows again"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, 2, 2)), "never grows again"),
    ],
)
def test_what_is_no_u_is_refused_with_a_reason_and_a_remedy(net, reason):
    with pytest.raises(RequestError, match=f"{reason}.*--style graph"):
        of(net, (1, 3, 16, 16), style="unet")
    assert of(net, (1, 3, 16, 16)).style != "unet"


# ---------------------------------------------------------------------------------- refusals


def test_sheets_are_refused_for_paths_that_join():
    with pytest.raises(
        RequestError, match=r"part and join again.*--style blocks and --style graph"
    ):
        of(Padded(), (1, 4, 8, 8), style="lenet")


@pytest.mark.parametrize("style", ["lenet", "blocks"])
def test_text_that_nobody_can_read_is_refused(style):
    net = nn.Sequential(*(nn.Conv2d(n, n + 1, 1) for n in range(1, 60)))
    with pytest.raises(RequestError, match=r"no room for text.*--max-width, or --style graph"):
        of(net, (1, 1, 4, 4), style=style, max_width="1in", max_height="1in")


def test_a_graph_of_too_many_boxes_is_refused_with_a_remedy():
    step = Step(LAYER, "convolution", 1, (1,))
    flows = [Flow("net", (step,) * 1001, ())]
    with pytest.raises(RequestError, match=r"net: 1,001 boxes .*: cnnscope report draws it"):
        _check_size(flows, unfold=False)
    with pytest.raises(RequestError, match="leave out --unfold"):
        _check_size(flows, unfold=True)


def test_a_network_without_layers_is_refused():
    with pytest.raises(RequestError, match="nothing to draw"):
        of(nn.ReLU(), (1, 4, 8, 8))


@pytest.mark.parametrize("style", ["lenet", "blocks", "graph"])
def test_layers_that_no_output_depends_on_are_named_and_not_drawn(style):
    class Aside(nn.Sequential):
        def forward(self, x):
            self[1](x)
            return self[0](x)

    made = of(Aside(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 9, 5)), (1, 3, 8, 8), style=style)
    assert made.contents.notes == ("Aside: 1 layers are not drawn, as no output depends on them",)
    assert not any(f"5{TIMES}5" in text for text in written(made))


@pytest.mark.parametrize("given", ["0", "wide", "3furlong", "1e9in", "0.1in", "-5cm", ""])
def test_a_width_that_is_none_is_refused(given):
    with pytest.raises(RequestError, match="--max-width"):
        cnnscope.figure(traced("classic:lenet5"), max_width=given)
    with pytest.raises(RequestError, match="--max-height"):
        cnnscope.figure(traced("classic:lenet5"), max_height=given)


def test_widths_have_units():
    made = {w: cnnscope.figure(traced("classic:lenet5"), max_width=w).max_width
            for w in ("10cm", "100mm", "5in", "480px", 360)}  # fmt: skip
    # 10 cm = 10/2.54*72 points; 480 px of 1/96 inch = 360
    assert made == {
        "10cm": pytest.approx(283.46, abs=0.01), "100mm": pytest.approx(283.46, abs=0.01),
        "5in": 360, "480px": 360, 360: 360,
    }  # fmt: skip


def test_a_font_that_is_not_there_is_refused():
    with pytest.raises(RequestError, match=r"no font 'Comic'.*sans or serif"):
        cnnscope.figure(traced("classic:lenet5"), font="Comic")
    with pytest.raises(RequestError, match="no font '3'"):
        cnnscope.figure(traced("classic:lenet5"), font=3)
    with pytest.raises(RequestError, match="unknown style '3'"):
        cnnscope.figure(traced("classic:lenet5"), style=3)


# ----------------------------------------------------------------------------- many networks

MANY = {
    "lenet": """classic:lenet5 classic:lenet5_paper classic:lenet1989 alexnet classic:alexnet_paper
        classic:zfnet vgg11 vgg16 classic:network_in_network classic:all_cnn_c classic:darknet19
        classic:vgg13_bn_cifar resnet18 mobilenet_v2""",
    "blocks": """vgg16 vgg19_bn alexnet resnet18 resnet50 mobilenet_v2 googlenet inception_v3
        efficientnet_b0 densenet121 convnext_tiny vit_b_16 classic:unet classic:fcn32s_vgg16""",
    "graph": """resnet18 vgg19+classic:plain34+resnet34 googlenet densenet121 squeezenet1_0
        classic:unet inception_v3 mobilenet_v3_small shufflenet_v2_x1_0 vit_b_16 swin_t
        convnext_tiny deeplabv3_resnet50 vgg11+vgg13+vgg16+vgg19""",
}


class Double(nn.Module):
    """Two convolutions, the second of which may be residual."""

    def __init__(self, conv, given, made, *, residual):
        super().__init__()
        self.enter, self.same = conv(given, made, 3, padding=1), conv(made, made, 3, padding=1)
        self.residual = residual

    def forward(self, x):
        x = self.enter(x).relu()
        return (x + self.same(x) if self.residual else self.same(x)).relu()


class Us(nn.Module):
    """An encoder-decoder of any depth and number of axes."""

    def __init__(self, widths, axes=2, *, pools=True, resamples=False, adds=False, residual=False):
        super().__init__()
        conv, up = getattr(nn, f"Conv{axes}d"), getattr(nn, f"ConvTranspose{axes}d")
        pool = getattr(nn, f"MaxPool{axes}d")
        pairs, share = list(pairwise(widths)), 1 if adds else 2
        self.adds = adds
        self.first = Double(conv, 3, widths[0], residual=residual)
        self.downs = nn.ModuleList(pool(2) if pools else conv(a, a, 3, 2, 1) for a, _ in pairs)
        self.enters = nn.ModuleList(Double(conv, a, b, residual=residual) for a, b in pairs)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), conv(b, a, 1)) if resamples
            else up(b, a, 2, 2) for a, b in pairs
        )  # fmt: skip
        self.after = nn.ModuleList(Double(conv, share * a, a, residual=residual) for a, _ in pairs)
        self.last = conv(widths[0], 2, 1)

    def forward(self, x):
        kept = [self.first(x)]
        for down, enter in zip(self.downs, self.enters, strict=True):
            kept.append(enter(down(kept[-1])))
        x = kept.pop()
        for up, after in zip(self.ups[::-1], self.after[::-1], strict=True):
            skip, x = kept.pop(), up(x)
            x = after(skip + x if self.adds else torch.cat([skip, x], 1))
        return self.last(x)


MANY_US = {
    "two": (lambda: Us([8, 16]), 2), "three": (lambda: Us([8, 16, 32]), 2),
    "deep": (lambda: Us([8, 16, 32, 64, 128, 256]), 2),
    "strided": (lambda: Us([8, 16, 32], pools=False), 2),
    "resampled": (lambda: Us([8, 16, 32], resamples=True), 2),
    "added": (lambda: Us([8, 16, 32], adds=True), 2),
    "residual": (lambda: Us([8, 16, 32], residual=True), 2),
    "residual and added": (lambda: Us([16, 32, 64, 128], residual=True, adds=True), 2),
    "sequence": (lambda: Us([16, 32, 64, 128], 1), 1), "volume": (lambda: Us([8, 16, 32], 3), 3),
    "wide": (lambda: Us([512, 1024, 2048]), 2), "flat": (lambda: Us([24] * 5), 2),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY_US)
def test_many_encoder_decoders_are_us_without_overlaps(name):
    build, axes = MANY_US[name]
    trace = cnnscope.trace(build(), [torch.empty(1, 3, *[64] * axes, device="meta")])
    for max_width in (COLUMN, PAGE):
        for typeface in ("sans", "serif"):
            made = cnnscope.figure(trace, max_width=max_width, font=typeface)
            assert made.style == "unet"
            holds(made)


EVERY = [(style, names) for style, several in MANY.items() for names in several.split()]


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize(("style", "names"), EVERY)
def test_published_networks_are_drawn_without_overlaps(style, names):
    for max_width in (COLUMN, PAGE):
        for typeface in ("sans", "serif"):
            holds(figure(*names.split("+"), style=style, max_width=max_width, font=typeface))


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("name", [n for n in list_models() if not n.startswith("quantized")])
def test_every_model_of_torchvision_is_drawn_or_refused_with_a_remedy(name):
    trace, refused = cnnscope.trace(cnnscope.Request.of(name)), {}
    for style in PICTURES:
        for max_width in (COLUMN, PAGE):
            try:
                made = cnnscope.figure(trace, style=style, max_width=max_width)
            except RequestError as error:
                refused[style] = str(error)
            else:
                holds(made)
    assert "graph" not in refused
    assert all("--style" in message for message in refused.values())


# ------------------------------------------------------------------------------ file formats

HOSTILE = "</text><script>\\input{/etc/passwd}$^%_#&~{}\x1b[31m☃é"


@cache
def hostile():
    class Net(nn.Sequential):
        pass

    Net.__name__ = Net.__qualname__ = HOSTILE
    block = type(HOSTILE, (Repeats.Block,), {})
    net = Net(nn.Conv2d(3, 8, 1), block(), block())
    return of(net, (1, 3, 8, 8), style="blocks")


def test_names_are_text_in_svg():
    svg = hostile().svg()
    assert "<script" not in svg
    assert "\x1b" not in svg
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("</text><script>") for text in texts)


def test_names_are_text_in_latex():
    tex = hostile().tex()
    body = tex.partition(r"\begin{document}")[2]
    assert r"\input" not in tex
    assert r"\textbackslash{}input\{" in body
    assert "\x1b" not in tex
    assert tex.isascii()


def test_letters_in_latex():
    assert escaped(f"6@28{TIMES}28") == r"6@28$\times$28"
    assert escaped("a_b é ☃") == r"a\_b \'{e} U+2603"


def balanced(tex):
    depth = 0
    for mark in re.findall(r"\\.|[{}]", tex):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    return depth == 0


@pytest.mark.parametrize("style", [*PICTURES, "hostile"])
def test_latex_is_one_tikz_picture(style):
    made = hostile() if style == "hostile" else figure(*PICTURES[style], style=style)
    tex = made.tex()
    assert balanced(tex)
    opened = re.findall(r"\\begin\{(\w+)\}", tex)
    assert opened == ["document", "tikzpicture"]
    assert re.findall(r"\\end\{(\w+)\}", tex) == opened[::-1]
    drawn = tex.partition("{tikzpicture}")[2].count(";\n")
    assert drawn == len(scene(made).items) + 1  # and the bounding box
    named = set(re.findall(r"(?:fill|draw|text)=(\w+)", tex))
    assert named == set(re.findall(r"\\definecolor\{(\w+)\}", tex))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("style", [*PICTURES, "hostile"])
def test_latex_compiles(style, tmp_path):
    made = hostile() if style == "hostile" else figure(*PICTURES[style], style=style)
    made.save(tmp_path / "figure.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "figure.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]


def test_png_has_the_size_of_the_figure():
    from io import BytesIO

    from PIL import Image

    made = figure("classic:lenet5", style="lenet")
    image = Image.open(BytesIO(made.png()))
    # 300 pixels an inch of 72 points
    assert image.size == tuple(round(side / 72 * 300) for side in made.size)
    colours = image.getcolors(2**20)
    assert {(255, 255, 255), tuple(bytes.fromhex(palette.CONVOLUTION.fill[1:]))} <= {
        colour for _, colour in colours
    }


def test_pdf_is_a_page_of_the_size_with_text():
    pytest.importorskip("fpdf")
    made = figure("classic:lenet5", style="lenet")
    pdf = made.pdf()
    assert pdf.startswith(b"%PDF-")
    width, height = made.size
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert [float(n) for n in box.groups()] == pytest.approx([width, height], abs=0.01)


def test_a_pdf_without_its_library_has_a_remedy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(RequestError, match=r"pip install 'cnnscope\[figure\]'"):
        figure("classic:lenet5").pdf()


def test_a_pdf_without_its_library_is_refused_before_the_model_is_built(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fpdf", None)
    result = run_cli("figure", "no_file.py:Net", "--output", "net.pdf")
    assert result.code == 2
    assert "pip install 'cnnscope[figure]'" in result.err
    assert "no_file" not in result.err


# ------------------------------------------------------------------------- the command line


def test_the_ending_chooses_the_format_and_the_style_is_said(tmp_path):
    for ending, begins in (("svg", b"<svg "), ("tex", b"% "), ("png", b"\x89PNG")):
        path = tmp_path / f"net.{ending}"
        result = run_cli("figure", "classic:lenet5", "--output", str(path))
        assert result.code == 0
        assert result.err.endswith(
            f"net.{ending}: style lenet (a short chain of feature maps), 6.19 x 1.74 in\n"
        )
        assert path.read_bytes().startswith(begins)


def test_a_figure_on_stdout_is_its_file():
    result = run_cli("figure", "classic:lenet5", "-o", "-", "--format", "tex")
    assert result.out == figure("classic:lenet5").tex()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "net.gif"), ".svg, .pdf, .tex, .png"),
        (("-o", "net.pdf", "-f", "svg"), "ends in .pdf, and --format is svg"),
        (("-o", "-", "--format", "png"), "name a file, as in --output figure.png"),
        (("--style", "cubist", "-o", "-"), "'cubist' is not one of 'lenet'"),
        (("--max-width", "2", "-o", "-"), "expected a length"),
    ],
)
def test_requests_that_cannot_be_carried_out(arguments, said):
    result = run_cli("figure", "classic:lenet5", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.mark.slow
def test_a_model_that_fails_has_no_figure(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))\n"
    )
    result = run_cli("figure", f"{tmp_path}/net.py:Net", "--input", "3x8x8", "-o", "-")
    assert result.code == 3
    assert "<svg" not in result.out
    assert "takes 5 channels and was given 4" in result.err


def test_joins_have_a_legend_in_perspective():
    texts = written(of(U(), (1, 3, 92, 92), style="blocks"))
    assert texts.count("c") == 2 + 1  # two joins, and the legend
    assert "concat" in texts


def test_signs_of_joins_are_below_a_legend_of_several_rows():
    holds(of(U("add"), (1, 3, 92, 92), style="blocks", max_width=100))


def test_text_too_small_for_print_is_said():
    result = run_cli("figure", "googlenet", "--style", "blocks", "--max-width", "2in", "-o", "-")
    assert "its smallest text is" in result.err
