"""The architecture table: on data against the papers' tables, and rendered."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re

import msgspec
import pytest
import torch
import torchvision
from command_line import run_cli, without_versions
from torch import nn

import cnnscope
from cnnscope.analysis import blocks, weights
from cnnscope.models import run
from cnnscope.models.request import Request
from cnnscope.records.stages import StageFork, StagesReport, flat
from cnnscope.render import drawing, page
from cnnscope.render.page import Heading, Page, Table
from cnnscope.reports import stages


@functools.cache
def traced(name, **arguments):
    return run.trace_spec(Request.of(name, arguments=arguments))


def table(name, **arguments):
    return stages.stages_report([traced(name, **arguments)]).models[0]


def table_of(module, *size):
    with torch.device("meta"):
        trace = cnnscope.trace(module.eval(), torch.empty(1, *size))
    return stages.stages_report([trace]).models[0]


def sizes(model):
    """One number for each stage: all of these have square outputs, or none."""
    return [stage.output[0] if stage.output else 1 for stage in model.stages]


def pairs(parts):
    """(kernel, channels) of each layer of a row; the kind of what has no channels."""
    return [
        (layer.geometry.kernel_size[0] if layer.geometry else None, layer.out_channels)
        if layer.out_channels
        else layer.kind
        for layer in blocks.flat(parts)
    ]


def cells(stage):
    """Layers of one repetition of a stage, and the number of repetitions."""
    return [(pairs(item.parts), item.times) for item in stage.items]


# ------------------------------------------------------------------------------- the papers

# He et al. 2015, Table 1: widths of the convolutions of a block in conv2_x, and the repetitions.
RESNETS = {
    "resnet18": ([(3, 64), (3, 64)], (2, 2, 2, 2), 1.8),
    "resnet34": ([(3, 64), (3, 64)], (3, 4, 6, 3), 3.6),
    "resnet50": ([(1, 64), (3, 64), (1, 256)], (3, 4, 6, 3), 3.8),
    "resnet101": ([(1, 64), (3, 64), (1, 256)], (3, 4, 23, 3), 7.6),
    "resnet152": ([(1, 64), (3, 64), (1, 256)], (3, 8, 36, 3), 11.3),
}


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_are_table_1_of_their_paper(name):
    block, times, _ = RESNETS[name]
    model = table(name)
    assert sizes(model) == [112, 56, 28, 14, 7, 1]
    conv1, *middle, last = model.stages
    assert cells(conv1) == [([(7, 64)], 1)]
    assert conv1.items[0].stride == (2, 2)
    # the 3x3 max pool of stride 2 belongs to conv2_x
    pool = middle[0].items[0]
    assert (pairs(pool.parts), pool.stride) == (["max pool"], (2, 2))
    assert pool.parts[0].geometry.kernel_size == (3, 3)
    for i, (stage, n) in enumerate(zip(middle, times, strict=True)):
        # widths double from stage to stage
        assert cells(stage)[-1] == ([(k, c * 2**i) for k, c in block], n)
        assert len(stage.items) == (2 if i == 0 else 1)
    assert cells(last) == [(["average pool"], 1), ([(None, 1000)], 1)]


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_without_its_projections_has_the_layers_of_its_name(name):
    # the paper's depth counts weighted layers on the main path: 2*(2+2+2+2) + 2 = 18
    model = table(name)
    depth = model.conv_layers + model.linear_layers - model.shortcut_layers
    assert depth == int(name.removeprefix("resnet"))
    # a projection wherever a stage changes the width: not in conv2_x of basic blocks (64 -> 64)
    assert model.shortcut_layers == (3 if depth < 50 else 4)


@pytest.mark.parametrize("name", RESNETS)
def test_macs_are_the_flops_of_the_paper(name):
    """Which are of version 1: the first 1x1 convolution of a stage strides, and not its 3x3.

    torchvision's strides in the 3x3. The paper cuts 3.86 to 3.8.
    """
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    for block in model.modules():
        if hasattr(block, "conv3"):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    macs = table_of(model, 3, 224, 224).macs / 1e9
    assert abs(macs - RESNETS[name][2]) < 0.1


# Simonyan and Zisserman 2014, Table 1 (columns A, B, D, E) and Table 2 (millions of parameters).
VGGS = {
    "vgg11": ((1, 1, 2, 2, 2), 133),
    "vgg13": ((2, 2, 2, 2, 2), 133),
    "vgg16": ((2, 2, 3, 3, 3), 138),
    "vgg19": ((2, 2, 4, 4, 4), 144),
    "vgg16_bn": ((2, 2, 3, 3, 3), 138),
}
WIDTHS = (64, 128, 256, 512, 512)
HEAD = [([(None, 4096)], 2), ([(None, 1000)], 1)]


def assert_is_vgg(model, columns, millions):
    assert sizes(model) == [224, 112, 56, 28, 14, 7, 1]
    *features, last_pool, head = model.stages
    assert [cells(stage)[i > 0 :] for i, stage in enumerate(features)] == columns
    for stage in (*features[1:], last_pool):
        assert pairs(stage.items[0].parts) == ["max pool"]
        assert stage.items[0].parts[0].geometry.kernel_size == (2, 2)
        assert stage.items[0].stride == (2, 2)
    assert len(last_pool.items) == 1  # the adaptive pool from 7x7 to 7x7 does nothing
    assert cells(head) == HEAD
    assert round(model.params / 1e6) == millions


@pytest.mark.parametrize("name", VGGS)
def test_vggs_are_table_1_of_their_paper(name):
    times, millions = VGGS[name]
    columns = [[([(3, c)], n)] for c, n in zip(WIDTHS, times, strict=True)]
    assert_is_vgg(table(name), columns, millions)


def test_vgg_c_has_1x1_convolutions():
    # column C: as B, and a conv1 at the end of the last three stages; 134 M parameters
    layers, channels = [], 3
    for width, kernels in zip(
        WIDTHS, ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)), strict=True
    ):
        for k in kernels:
            layers += [nn.Conv2d(channels, width, k, padding=k // 2), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    with torch.device("meta"):
        model = torchvision.models.VGG(nn.Sequential(*layers))
    columns = [[([(3, c)], 2)] + [([(1, c)], 1)] * (c > 128) for c in WIDTHS]
    assert_is_vgg(table_of(model, 3, 224, 224), columns, 134)


# Huang et al. 2017, Table 1: layers of the four dense blocks (growth rate 32).
DENSENETS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
    "densenet264": (6, 12, 64, 48),
}


@pytest.mark.broad
@pytest.mark.parametrize("name", DENSENETS)
def test_densenets_are_table_1_of_their_paper(name):
    times = DENSENETS[name]
    if name == "densenet264":  # which torchvision has no name for
        with torch.device("meta"):
            module = torchvision.models.DenseNet(32, times, 64)
        model = table_of(module, 3, 224, 224)
    else:
        model = table(name)
    assert sizes(model) == [112, 56, 28, 14, 7, 1]
    assert cells(model.stages[0]) == [([(7, 64)], 1)]
    channels = 64
    for i, (stage, n) in enumerate(zip(model.stages[1:5], times, strict=True)):
        pool = stage.items[0].parts[0]
        kernel = (3, 3) if i == 0 else (2, 2)
        assert (pool.kind, pool.geometry.kernel_size) == (
            ("max pool", kernel) if i == 0 else ("average pool", kernel)
        )
        assert pool.geometry.stride == (2, 2)
        # every layer: 1x1 to 4k = 128, 3x3 to k = 32 (section 3, bottleneck layers)
        assert cells(stage)[1] == ([(1, 128), (3, 32)], n)
        channels += 32 * n
        if i < 3:  # the transition halves the channels (compression 0.5)
            channels //= 2
            assert cells(stage)[2:] == [([(1, channels)], 1)]
    assert cells(model.stages[5]) == [(["average pool"], 1), ([(None, 1000)], 1)]


# Szegedy et al. 2014, Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
INCEPTIONS = {
    28: [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    14: [
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ],
    7: [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
}


def test_googlenet_is_table_1_of_its_paper():
    model = table("googlenet")
    assert sizes(model) == [112, 56, 28, 14, 7, 1]
    assert cells(model.stages[1]) == [(["max pool"], 1), ([(1, 64)], 1), ([(3, 192)], 1)]
    for stage in model.stages[2:5]:
        pool, *inceptions = stage.items
        assert pairs(pool.parts) == ["max pool"]
        for item, row in zip(inceptions, INCEPTIONS[stage.output[0]], strict=True):
            (fork,) = item.parts
            one, reduced3, three, reduced5, five, pool_projection = row
            # torchvision's has a 3x3 where the paper has the 5x5, as it is documented there
            assert [pairs(branch) for branch in fork.branches] == [
                [(1, one)],
                [(1, reduced3), (3, three)],
                [(1, reduced5), (3, five)],
                ["max pool", (1, pool_projection)],
            ]


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        # Szegedy et al. 2014, figures 2a and 2b, with the widths of 3a in table 1
        ("naive", [[(1, 64)], [(3, 128)], [(5, 32)], ["max pool"]]),
        ("reduced", [[(1, 64)], [(1, 96), (3, 128)], [(1, 16), (5, 32)], ["max pool", (1, 32)]]),
    ],
)
def test_an_inception_module_by_itself_has_its_branches(name, branches):
    (item,) = only(table(f"classic:inception_{name}", block="3a"))
    (fork,) = item.parts
    assert [pairs(branch) for branch in fork.branches] == branches


# Sandler et al. 2018, Table 2: t, c, n, s.
BOTTLENECKS = [
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
]  # fmt: skip


def test_mobilenet_v2_is_table_2_of_its_paper():
    model = table("mobilenet_v2")
    items = [item for stage in model.stages for item in stage.items if item.block]
    found = []
    for item in items:
        *_, depthwise, project = item.parts
        assert depthwise.depthwise
        found.append((int(depthwise.times_in), project.out_channels, item.times, item.stride[0]))
    assert found == BOTTLENECKS


# --------------------------------------------------------------------------- other structures


def only(model, block=True):
    return [item for stage in model.stages for item in stage.items if item.block is block]


def roles(item):
    return [(layer.role, layer.out_channels) for layer in blocks.flat(item.parts)]


def test_squeeze_and_excite_is_a_gate():
    # Howard et al. 2019, Table 2, first bneck: 3x3, exp 16, out 16, SE; squeezed to 16/4 = 4,
    # rounded to a multiple of 8
    first = only(table("mobilenet_v3_small"))[0]
    assert roles(first) == [("", 16), ("gate", None), ("gate", 8), ("gate", 16), ("", 16)]


@pytest.mark.broad
def test_a_position_bias_network_sees_no_data():
    # swin v2: two linear layers that make the bias, in each of 2 + 2 + 6 + 2 blocks
    model = table("swin_v2_t")
    assert model.side_layers == 2 * 12
    assert [item.times for item in only(model)] == [2, 2, 6, 2]


@pytest.mark.parametrize(("name", "heads"), [("vit_b_16", [12]), ("swin_t", [3, 6, 12, 24])])
def test_attention_stands_between_its_layers(name, heads):
    items = only(table(name))
    assert [item.parts[1].heads for item in items] == heads
    assert [layer.kind for layer in blocks.flat(items[0].parts)] == [
        "linear", "attention", "linear", "linear", "linear",
    ]  # fmt: skip


def test_branches_of_branches():
    # Szegedy et al. 2015, figure 7: 1x1 | 1x1 > (1x3 | 3x1) | 1x1 > 3x3 > (1x3 | 3x1) | pool > 1x1
    last = only(table("inception_v3"))[-1]
    branches = last.parts[0].branches
    assert [len(branch) for branch in branches] == [1, 2, 3, 2]
    assert isinstance(branches[1][1], StageFork)
    assert [pairs(b) for b in branches[1][1].branches] == [[(1, 384)], [(3, 384)]]


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.LocalResponseNorm(5)
        self.pool = nn.AvgPool2d((3, 1), 1, (1, 0))

    def forward(self, x):
        x = nn.functional.local_response_norm(self.conv1(self.norm(x)), 3)
        return self.conv2(self.pool(x))


def test_a_norm_that_averages_over_channels_is_no_pool():
    # both norms pool their squares along an axis of channels; the pool along H is one
    (stage,) = table_of(Normalised(), 3, 8, 8).stages
    assert stage.output == (8, 8)
    assert cells(stage) == [([(3, 6)], 1), (["average pool"], 1), ([(3, 6)], 1)]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.relu(self.conv(x)))


def test_weights_that_run_again_stand_once():
    model = table_of(Twice(), 3, 8, 8)
    assert [cells(stage) for stage in model.stages] == [[([(3, 3)], 1)]]
    assert model.reruns == 1


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.conv = nn.Sequential(nn.Conv2d(2 * c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down1 = nn.Conv2d(8, 16, 3, 2, 1)
        self.down2 = nn.Conv2d(16, 32, 3, 2, 1)
        self.up1, self.up2 = Up(16), Up(8)

    def forward(self, x):
        a = self.first(x)
        b = self.down1(a)
        return self.up2(self.up1(self.down2(b), b), a)


def test_resolution_that_rises_again_has_rows_of_its_own():
    model = table_of(UNet(), 3, 32, 32)
    assert sizes(model) == [32, 16, 8, 16, 32]
    assert cells(model.stages[3]) == [([(2, 16), (3, 16), (3, 16)], 1)]


class Plain(nn.Module):
    """A residual path whose shortcut is as long as the other path: no projection."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_two_equal_paths_are_branches():
    model = table_of(nn.Sequential(Plain(), Plain()), 4, 8, 8)
    (item,) = only(model)
    assert isinstance(item.parts[0], StageFork)
    assert (item.times, model.shortcut_layers) == (2, 0)


def test_a_module_that_is_one_layer():
    assert cells(table_of(nn.Conv2d(3, 4, 3), 3, 8, 8).stages[0]) == [([(3, 4)], 1)]


def test_a_module_without_layers_has_no_stages():
    with torch.device("meta"):
        trace = cnnscope.trace(nn.ReLU(), torch.empty(1, 3, 8, 8))
    report = stages.stages_report([trace])
    assert report.models[0].stages == ()
    assert "parameters" in page.text(drawing.page(report), 80).plain


# ------------------------------------------------------------------------- models together


def test_models_share_rows_by_resolution():
    report = stages.stages_report([traced("resnet18"), traced("vgg11")])
    # vgg11 begins at 224, where resnet18 has nothing
    assert report.rows == ((None, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6))


@pytest.mark.broad
def test_models_with_other_inputs_share_rows_by_reduction():
    # 224 and 240 are halved five times
    report = stages.stages_report([traced("efficientnet_b0"), traced("efficientnet_b1")])
    assert report.rows == tuple((i, i) for i in range(6))
    text = page.text(drawing.page(report), 120).plain
    assert "/32 " in text
    assert "8x8:" in text


@pytest.mark.broad
def test_tokens_of_other_inputs_share_a_row():
    # patches of 16: 14*14 + 1 = 197 tokens and 16*16 + 1 = 257
    small = run.trace_spec(Request.of("vit_b_16", inputs=["224"], arguments={"image_size": 224}))
    large = run.trace_spec(Request.of("vit_b_16", inputs=["256"], arguments={"image_size": 256}))
    report = stages.stages_report([small, large])
    assert report.rows == ((0, 0), (1, 1), (2, 2))
    text = page.text(drawing.page(report), 120).plain
    assert "tokens " in text
    assert "197:" in text
    assert "257:" in text


# ------------------------------------------------------------------------------ every model


def weight_layers(model):
    items = [item for stage in model.stages for item in stage.items]
    once = [(item.times, sum(layer.weights for layer in flat(item.parts))) for item in items]
    shortcuts = sum(layer.weights for item in items for layer in item.shortcuts)
    return sum(times * count for times, count in once) + shortcuts


@pytest.mark.parametrize("name", ["alexnet", "resnet50", "shufflenet_v2_x0_5", "swin_v2_t"])
def test_no_layer_is_lost(name):
    assert weight_layers(table(name)) == sum(weights.weight_layers(traced(name)))


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("name", torchvision.models.list_models())
def test_no_layer_of_any_model_is_lost(name):
    trace = run.trace_spec(Request.of(name))
    report = stages.stages_report([trace])
    model = report.models[0]
    assert weight_layers(model) == sum(weights.weight_layers(trace))
    assert model.conv_layers + model.linear_layers == weight_layers(model)
    assert 2 <= len(model.stages) <= 17
    for projections in (False, True):
        laid_out = drawing.page(report, projections=projections)
        assert max(map(len, page.text(laid_out, 80).plain.splitlines())) <= 80
        assert_is_latex(drawing.write(report, "latex", projections=projections), 1)


# --------------------------------------------------------------------------------- rendered

FAMILIES = {
    "resnet": tuple(RESNETS),
    "vgg": ("vgg11", "vgg13", "vgg16", "vgg19"),
    "densenet": ("densenet121", "densenet169", "densenet201"),
    "googlenet": ("googlenet",),
    "mobilenet": ("mobilenet_v2", "mobilenet_v3_small"),
}


def family(name):
    return stages.stages_report([traced(model) for model in FAMILIES[name]])


@pytest.mark.broad
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_of_stages_is_as_it_was(name, width, golden):
    text = page.text(drawing.page(family(name)), width).plain
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    golden(without_versions(text), f"stages-{name}-{width}.txt")


@pytest.mark.broad
def test_five_resnets_stand_below_each_other_in_80_columns():
    text = page.text(drawing.page(family("resnet")), 80).plain
    titles = [line.split() for line in text.splitlines() if line.startswith("output")]
    assert titles == [
        ["output", "resnet18", "resnet34", "resnet50"],
        ["output", "resnet101", "resnet152"],
    ]
    assert text.count("7x7, 64, stride 2") == 2


def test_the_markdown_of_stages_is_as_it_was(golden):
    out = run_cli("stages", "resnet18", "resnet50", "--projections", "-f", "markdown").out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in rows}) == 1
    golden(without_versions(out), "stages-resnet.md")


def assert_is_latex(text, models):
    """Braces and environments that close, as many cells in each row as there are columns."""
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert text.count(r"\left[") == text.count(r"\right]")
    assert text.count("$") % 2 == 0
    rules = (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{l", r"\end{tabular}", "%")
    for line in text.splitlines():
        if line.startswith(rules):
            continue
        assert line.endswith(r" \\")
        bare = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", line.replace(r"\&", ""))
        columns = int(m[1]) if (m := re.search(r"\\multicolumn\{(\d+)\}", bare)) else models
        assert bare.count("&") == 1 if m else bare.count("&") == columns


def test_the_latex_of_stages_is_as_it_was(golden):
    text = run_cli("stages", "resnet18", "mobilenet_v3_small", "-f", "latex").out
    assert_is_latex(text, 2)
    assert r"mobilenet\_v3\_small" in text
    golden(text, "stages.tex")


def test_ascii_only_is_ascii():
    assert page.text(drawing.page(family("resnet")), 80, ascii_only=True).plain.isascii()


def test_json_can_be_read_back():
    text = run_cli("stages", "googlenet", "-f", "json").out
    report = msgspec.json.decode(text.encode(), type=StagesReport)
    assert report == stages.stages_report([traced("googlenet")])


def test_csv_has_every_weight_layer():
    rows = list(csv.DictReader(io.StringIO(run_cli("stages", "resnet50", "-f", "csv").out)))
    assert sum(int(row["times"]) * int(row["weights"]) for row in rows) == 53 + 1
    assert sum(row["role"] == "shortcut" for row in rows) == 4


def test_projections_are_shown_on_request():
    assert "shortcut" not in run_cli("stages", "resnet18").out
    out = run_cli("stages", "resnet18", "--projections").out
    assert [width for width in ("128", "256", "512") if f"shortcut 1x1, {width}" in out] == [
        "128", "256", "512",
    ]  # fmt: skip
    assert "not shown" not in out


def test_unknown_model_is_one_message():
    result = run_cli("stages", "resnet18", "resnt34")
    assert (result.code, result.out) == (2, "")
    assert "did you mean resnet34" in result.err


# ----------------------------------------------------------------------- what a page can do

WIDE = Table(
    (Heading("key", left=True), *(Heading(f"title{i}", left=True) for i in range(4))),
    (("a", "one\ntwo", "x", "y", "z"), ("b", "over all of them", None, None, None)),
    repeat=1,
    gaps=frozenset({1}),
)


def lines_of(table, width):
    return page.text(Page("name", "", (table,)), width).plain.splitlines()[2:]


def test_a_cell_of_several_lines_and_one_over_all_columns():
    assert lines_of(WIDE, None) == [
        "key  title0  title1  title2  title3",
        "a    one     x       y       z",
        "     two",
        "",
        "b    over all of them",
    ]


def test_a_table_that_is_too_wide_goes_on_below_with_its_first_column():
    # 3 + 2 + 6 + 2 + 6 = 19 for two of four columns, and 21 for the cell over both
    assert lines_of(WIDE, 21) == [
        "key  title0  title1",
        "a    one     x",
        "     two",
        "",
        "b    over all of them",
        "",
        "key  title2  title3",
        "a    y       z",
        "",
        "b    over all of them",
    ]


@pytest.mark.parametrize("width", [10, 15, 20, 25, 30])
def test_no_part_is_wider_than_the_terminal(width):
    assert max(map(len, lines_of(WIDE, width))) <= width


def test_markdown_repeats_a_cell_over_several_columns():
    text = page.markdown(Page("name", "", (WIDE,)))
    assert "| a | one<br>two | x | y | z |" in text
    assert "| b |" + " over all of them |" * 4 in text


def test_columns_are_shared_out_evenly():
    many = Table(
        (Heading("k"), *itertools.repeat(Heading("12345"), 5)), (("r", *["x"] * 5),), repeat=1
    )
    # 1 + 4*(2 + 5) = 29 would hold four and one: three and two are easier to read
    heads = [line for line in lines_of(many, 29) if "12345" in line]
    assert [head.count("12345") for head in heads] == [3, 2]


class Ghost(nn.Module):
    """A convolution, and a cheap depthwise one of what it gives (Han et al. 2020, figure 1b)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        half = outputs // 2
        self.primary = nn.Conv2d(inputs, half, 1)
        self.cheap = nn.Conv2d(half, half, 3, padding=1, groups=half)

    def forward(self, x):
        x = self.primary(x).relu()
        return torch.cat((x, self.cheap(x)), 1)


class GhostBottleneck(nn.Module):
    """Figure 3 of the paper; its shortcut is a depthwise convolution and a 1x1."""

    def __init__(self, inputs, inside, outputs, stride):
        super().__init__()
        self.first, self.last = Ghost(inputs, inside), Ghost(inside, outputs)
        self.down = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs), nn.Conv2d(inputs, outputs, 1)
        )

    def forward(self, x):
        return self.last(self.down(self.first(x))) + self.shortcut(x)


def test_a_separable_shortcut_is_a_projection():
    model = nn.Sequential(GhostBottleneck(8, 16, 24, 2), GhostBottleneck(24, 48, 32, 2))
    (one,) = stages.stages_report([cnnscope.trace(model, [torch.empty(1, 8, 32, 32)])]).models
    assert [stage.output for stage in one.stages] == [(16, 16), (8, 8)]
    for item, width in zip((s.items[0] for s in one.stages), (24, 32), strict=True):
        assert item.block
        assert [(x.geometry.kernel_size, x.out_channels) for x in item.shortcuts] == [
            ((3, 3), 8 if width == 24 else 24), ((1, 1), width),
        ]  # fmt: skip
        assert len(list(blocks.flat(item.parts))) == 5
    assert (one.shortcut_layers, one.conv_layers) == (4, 14)


def test_upsamplings_with_layers_between_them_are_all_listed():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)

        def forward(self, x):
            x = self.a(nn.functional.interpolate(x, scale_factor=2))
            return self.b(nn.functional.interpolate(x, scale_factor=2))

    (one,) = stages.stages_report([cnnscope.trace(Grows(), [torch.empty(1, 3, 8, 8)])]).models
    kinds = [[x.kind for item in s.items for x in item.parts] for s in one.stages]
    assert kinds == [["upsample nearest", "conv"]] * 2
    assert one.resized == 0


def test_both_directions_of_a_recurrent_layer_are_shown():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(16, 32, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(64, 4)

        def forward(self, x):
            return self.fc(self.lstm(x)[0][:, -1])

    made = stages.stages_report([cnnscope.trace(Reader(), "1x20x16")])
    shown = page.text(drawing.page(made)).plain
    assert shown.count("lstm, 32") == 2
    assert "4-d fc" in shown


class Recurrence(nn.Module):
    """A gated recurrence, written out: what a step adds up holds the step before it three times."""

    def __init__(self, steps):
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(4, 4) for _ in range(steps))
        self.kept = nn.ModuleList(nn.Linear(4, 4) for _ in range(steps))
        self.new = nn.ModuleList(nn.Linear(4, 4) for _ in range(steps))

    def forward(self, x):
        h = x[:, 0] * 0 + 1
        for gates, kept, new in zip(self.gates, self.kept, self.new, strict=True):
            gate = torch.sigmoid(gates(x[:, 1]) + kept(h))
            h = gate * h + (1 - gate) * torch.tanh(new(h))
        return h


class Recurrences(nn.Module):
    def __init__(self):
        super().__init__()
        self.long, self.short = Recurrence(60), Recurrence(2)  # of a class that repeats: blocks

    def forward(self, x):
        return self.long(x) + self.short(x)


def test_paths_that_double_with_every_step_are_layers_in_the_order_of_running():
    (stage,) = table_of(Recurrences(), 4, 4).stages
    assert [layer.path for layer in blocks.flat(stage.items[0].parts)] == [
        f"long.{which}.{step}" for step in range(60) for which in ("gates", "kept", "new")
    ]
