"""Explanations: every printed formula, evaluated as arithmetic, is the number of the report."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from command_line import run_cli, without_versions
from torch import nn
from torch.nn import functional as F

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.models.sources import torchvision as zoo_torchvision
from cnnscope.records.explain import SizeFailure, SmallestInput
from cnnscope.records.trace import (
    CallRecord,
    ModuleRecord,
    OpRecord,
    Source,
    StorageRecord,
    TensorRecord,
    Trace,
)
from cnnscope.render import explain as render
from cnnscope.render import page as pages
from cnnscope.reports.explain import explain_layers, explain_model
from cnnscope.reports.summary import report
from cnnscope.tracing.tracer import trace

TORCHVISION = zoo_torchvision.names()
_NAMES = {"floor": math.floor, "ceil": math.ceil, "max": max, "__builtins__": {}}
_COMMAS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def evaluated(text: str) -> int:
    """Value of printed arithmetic."""
    return eval(_COMMAS.sub("", text), dict(_NAMES))


def equations(explained) -> dict[str, int]:
    """Every printed line `a*b = c` of a layer, checked, by the number that it is about."""
    found = {}
    topic = ""
    for name, line in render._table(explained).rows:
        topic = name or topic
        left, equals, right = line.partition(" = ")
        if equals and name and re.fullmatch(r"[\d,.]+( \(.*\))?", right):
            value = evaluated(right.partition(" (")[0])
            assert evaluated(left) == value, line
            found[topic] = value
        elif name and re.fullmatch(r"[\d,]+", line):
            found[topic] = evaluated(line)
    return found


def check(explained) -> None:
    """Check that the printed steps of a row end in the numbers of the report."""
    row, numbers = explained.layer, equations(explained)
    assert numbers.get("parameters", 0) == row.params, row.path
    assert numbers.get("buffers", 0) == row.buffers, row.path
    assert numbers.get("MACs", 0) == row.macs, row.path
    assert numbers.get("FLOPs", 0) == 2 * row.macs, row.path
    assert numbers.get("element ops", 0) == row.element_ops, row.path
    if row.kind != "parameter" and row.tensor >= 0:
        assert numbers["memory"] == row.activation_bytes, row.path
    for field, name in (("height", 0), ("width", 1)):
        for topic, value in numbers.items():
            if topic.startswith("output ") and field in topic:
                assert value in {shape[-2:][name] for shape in row.output_shapes}, row.path
    for axis in row.field or ():
        if "receptive field" in numbers and axis.local_size is not None:
            assert numbers["receptive field"] == row.field[0].local_size, row.path
        if "jump" in numbers:
            assert (numbers["jump"], numbers["field padding"]) == (axis.stride, axis.padding)


@pytest.mark.zoo
@pytest.mark.parametrize(
    "model", ["vgg11_bn", "resnet18", "googlenet", "efficientnet_b0", "vit_b_16", "densenet121"]
)
def test_every_printed_formula_is_true_and_gives_the_number_of_the_report(model):
    found = trace_spec(Request.of(model))
    explained = explain_layers(found, "*").layers
    rows = [row for row in report(found).layers if row.leaf and not row.minor and row.depth]
    assert [e.layer for e in explained] == rows
    for one in explained:
        check(one)


@pytest.mark.slow
@pytest.mark.parametrize("model", TORCHVISION)
def test_every_formula_of_the_zoo_is_true(model):
    found = trace_spec(Request.of(model))
    for pattern in ("*", *{row.path for row in report(found).layers if not row.leaf} - {""}):
        for one in explain_layers(found, pattern).layers:
            check(one)


class Twice(nn.Module):
    """A module that runs twice, functional upsampling and padding, a gate and a residual."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, dilation=1)
        self.up = nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, output_padding=(1, 0), groups=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.GroupNorm(2, 6)
        self.adaptive = nn.AdaptiveAvgPool2d((3, 2))
        self.head = nn.Linear(36, 5)

    def forward(self, x):
        y = self.conv(self.conv(x)) + x
        y = self.norm(self.up(self.pool(y)))
        y = F.interpolate(y, scale_factor=2) * y.mean((2, 3), keepdim=True).sigmoid()
        return self.head(torch.flatten(F.gelu(self.adaptive(y)), 1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, num_layers=2, bidirectional=True)
        self.attention = nn.MultiheadAttention(10, 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.attention(y, y, y)[0]


HAND = {"twice": (Twice, (2, 4, 15, 12)), "recurrent": (Recurrent, (7, 3, 6))}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", HAND)
def test_formulas_of_unusual_layers_are_true(name, device):
    make, shape = HAND[name]
    found = trace(make().to(device), (torch.zeros(shape, device=device),))
    for one in explain_layers(found, "*").layers:
        check(one)


def steps(model, pattern, *shape):
    found = trace(model.to("meta"), (torch.empty(shape, device="meta"),))
    return [
        {s.topic: (s.arithmetic, s.value, s.note) for s in one.steps}
        for one in explain_layers(found, pattern).layers
    ]


def layer(name, path):
    (one,) = explain_layers(trace_spec(Request.of(name)), path).layers
    return {step.topic: step for step in one.steps}


def test_a_convolution_by_hand():
    found = layer("resnet18", "conv1")
    # floor((224 + 6 - 6 - 1)/2 + 1) = floor(112.5) = 112
    assert found["output height and width"].arithmetic == (
        "floor((224 + 2*3 - 1*(7 - 1) - 1)/2 + 1)"
    )
    assert found["output height and width"].value == 112
    assert (found["parameters"].arithmetic, found["parameters"].value) == ("64*3*7*7", 9408)
    assert found["MACs"].arithmetic == "112*112*64*3*7*7"
    # the input's pixels see themselves: 1 + 6*1 = 7, one unit every 2 pixels, from -3 on
    assert (found["receptive field"].arithmetic, found["receptive field"].value) == (
        "1 + 1*(7 - 1)*1",
        7,
    )
    assert (found["jump"].value, found["field padding"].value) == (2, 3)
    assert found["memory"].value == 64 * 112 * 112 * 4


def test_features_of_a_linear_layer_come_from_what_was_flattened():
    found = layer("vgg11", "classifier.0")["in features"]
    assert (found.arithmetic, found.value) == ("512*7*7", 25_088)
    assert "avgpool" in found.formula
    found = layer("resnet18", "fc")["in features"]
    assert (found.arithmetic, found.value) == ("512*1*1", 512)
    assert layer("vgg11", "classifier.3")["in features"].arithmetic == "4096"
    # patches: channels of the projection, moved last by a permute
    (one,) = steps(
        nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Linear(4, 6)), "2", 1, 3, 8, 8
    )
    assert one["in features"][:2] == ("2*2", 4)


@pytest.mark.broad
def test_channels_of_a_dense_layer_come_from_what_was_concatenated():
    found = layer("densenet121", "features.denseblock1.denselayer3.conv1")["in channels"]
    assert (found.arithmetic, found.value) == ("64 + 32 + 32", 128)


def test_a_residual_sum_joins_the_fields_of_its_paths():
    # 67 px from -33 on and 43 px from -21 on: the first pixel is -33, the last max(33, 21) = 33
    found = layer("resnet18", "layer2.0.add")["receptive field"]
    assert found.arithmetic == "max(67 - 33, 43 - 21) + max(33, 21)"
    assert found.value == 67


def test_a_module_called_twice_counts_its_parameters_once():
    first, second = steps(Twice(), "conv", 2, 4, 15, 12)
    assert first["parameters"][:2] == ("4*2*3*3 + 4", 76)
    assert second["parameters"][1] == 0
    assert first["MACs"][1] == second["MACs"][1] == 2 * 15 * 12 * 4 * 2 * 9


def test_a_block_is_the_sum_of_its_children():
    found = layer("resnet18", "layer2.0")
    assert found["parameters"].formula == "conv1 + bn1 + conv2 + bn2 + downsample"
    # 128*64*9 + 256 + 128*128*9 + 256 + 64*128 + 256
    assert found["parameters"].value == 73_728 + 256 + 147_456 + 256 + 8_192 + 256
    assert found["MACs"].arithmetic == "57802752 + 115605504 + 6422528"


def test_attention_has_both_of_its_products():
    (one,) = steps(Recurrent(), "attention", 7, 3, 6)
    macs = {topic: value[1] for topic, value in one.items() if topic.startswith("MACs")}
    # QK^T and AV: 3 samples x 2 heads x 7 x 7 x 5; projections 21 x 10 x 30 and 21 x 10 x 10
    assert macs["MACs, QK^T"] == macs["MACs, attention * V"] == 6 * 49 * 5
    assert macs["MACs"] == 2 * 6 * 49 * 5 + 21 * 10 * 40


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_fused_and_decomposed_attention_name_the_same_products(device):
    model = nn.MultiheadAttention(8, 2).to(device)
    data = torch.zeros(5, 1, 8, device=device)
    found = trace(nn.Sequential(Wrapped(model)), (data,))
    (one,) = explain_layers(found, "0.module").layers
    # 2 heads x 5 x 5 x 4
    values = {s.topic: s.value for s in one.steps}
    assert values["MACs, QK^T"] == values["MACs, attention * V"] == 2 * 5 * 5 * 4


class Wrapped(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x, x, x)[0]


@pytest.mark.broad
def test_equal_steps_of_a_recurrent_layer_are_counted():
    (one,) = steps(nn.Sequential(nn.LSTM(16, 32, 2)), "0", 12, 1, 16)
    # at each of 12 steps the input to 4*32 gates from 16 and 32, and the state to them, twice
    assert one["MACs"][:2] == ("36*1*32*128 + 12*1*16*128", 12 * 128 * (16 + 32 + 32 + 32))
    deep = nn.Sequential(nn.GRU(16, 32, 3, bidirectional=True))
    (one,) = steps(deep, "0", 20, 1, 16)
    # 6 layers and directions of 3*32 gates: 2 read 16 features, 4 read 64; all a state of 32
    assert one["MACs"][1] == 20 * 96 * (2 * 16 + 4 * 64 + 6 * 32)
    assert max(len(text) for text, _, _ in one.values()) < 80


@pytest.mark.parametrize("wrap", ["spectral_norm", "weight_norm", "orthogonal"])
def test_features_of_a_parametrized_layer_are_not_those_of_its_weight(wrap):
    wrap = getattr(nn.utils.parametrizations, wrap)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), wrap(nn.Linear(288, 10)),
                        nn.Linear(10, 2))  # fmt: skip
    found = trace(net.to("meta"), (torch.empty(1, 3, 8, 8, device="meta"),))
    (first,), (last,) = (explain_layers(found, path).layers for path in ("2", "3"))
    origin = next(step for step in first.steps if step.topic == "in features")
    assert (origin.arithmetic, origin.formula) == ("8*6*6", "output of 0, flattened")
    assert any(step.formula == "output of 2, its features" for step in last.steps)


class Itself(nn.Module):
    """Calls itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x, more=2):
        x = self.conv(x)
        return self(x, more - 1) if more else x


def test_a_call_that_reads_is_told_from_others_of_the_same_module():
    notes = [one["memory"][2] for one in steps(Itself(), "conv", 1, 4, 8, 8)]
    assert notes == ["needed until conv #2", "needed until conv #3", "returned by the model"]


def test_upsampling_says_what_was_done_where_no_recurrence_holds():
    (up,) = steps(nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Upsample(scale_factor=2)), "1",
                  1, 1, 8, 8)  # fmt: skip
    assert up["receptive field"][:2] == ("", 3)
    assert "one unit every 1 pixels" in up["receptive field"][2]


def test_an_operation_without_a_formula_says_so():
    record = OpRecord("mine.magic.default", {"self": 0}, (1,), call=-1)
    tensors = (TensorRecord((1, 2, 3, 3), "float32", 0), TensorRecord((1, 2, 3, 3), "float32", 1))
    given = Trace(
        Source("hand", "hand", "hand"), (0,), (1,),
        (ModuleRecord("", "Net"), ModuleRecord("m", "M")),
        (CallRecord(0, -1, 0, (0,), (1,)), CallRecord(1, 0, 0, (0,), (1,))), (), tensors,
        (StorageRecord(72, -1, 1), StorageRecord(72, 0, 1)),
        (OpRecord(record.name, record.inputs, record.outputs, call=1),),
    )  # fmt: skip
    (one,) = explain_layers(given, "m").layers
    notes = {step.topic: step.note for step in one.steps}
    assert "mine.magic.default" in notes["no formula"]
    assert "not known" in notes["receptive field"]


def test_a_call_of_a_layer_is_named_as_the_table_shows_it():
    conv = nn.Conv2d(3, 3, 3)
    made = cnnscope.trace(nn.Sequential(conv, conv), (1, 3, 9, 9))
    assert [cnnscope.explain(made, path).record.layers[0].layer.call for path in ("0", "0 #2")] == [
        1, 2,
    ]  # fmt: skip
    # 3 + 2 rows and columns
    shown = str(cnnscope.rf(made, "0 #2"))
    assert "layer       0 #2 (Conv2d 3x3)" in shown
    assert "[2, 6]" in shown
    with pytest.raises(cnnscope.RequestError, match=r"no layer '0 #3'; did you mean 0\?"):
        cnnscope.explain(made, "0 #3")


def test_a_glob_names_layers_and_a_wrong_path_the_nearest():
    paths = [
        e.layer.path for e in explain_layers(trace_spec(Request.of("alexnet")), "features.*").layers
    ]
    assert paths == [f"features.{i}" for i in range(13)]
    with pytest.raises(RequestError, match=r"did you mean features\.1"):
        explain_layers(trace_spec(Request.of("alexnet")), "feature.1")


# ------------------------------------------------------------------------------- the model


def test_a_model_in_words_and_numbers():
    found = trace_spec(Request.of("vgg11"))
    story = explain_model(found, report(found).totals)
    assert (story.totals.conv_layers, story.totals.linear_layers) == (8, 3)
    # 512*7*7*4096 + 4096 of 132,863,336
    assert [e.layer.path for e in story.params[:2]] == ["classifier.0", "classifier.3"]
    assert [(c.before, c.after, c.layers[0].path) for c in story.resolution[:5]] == [
        ((224, 224), (112, 112), "features.2"),
        ((112, 112), (56, 56), "features.5"),
        ((56, 56), (28, 28), "features.10"),
        ((28, 28), (14, 14), "features.15"),
        ((14, 14), (7, 7), "features.20"),
    ]
    assert sum(k.params for k in story.kinds) == story.totals.params
    assert sum(k.macs for k in story.kinds) == story.totals.macs


class Windows(nn.Module):
    """Attention's views of windows, which give back the size that they were given."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x):  # N, 4, 8, 8
        x = x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 3, 5, 1)
        x = self.mix(x.reshape(-1, 16, 4)).view(-1, 2, 2, 4, 4, 4)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, 4, 8, 8)


class Merging(nn.Module):
    """Four slices of every second pixel, side by side."""

    def forward(self, x):
        rows = x[..., ::2, :], x[..., 1::2, :]
        return torch.cat([part[..., start::2] for part in rows for start in (0, 1)], 1)


def resolution(model, *shape):
    found = trace(model.to("meta"), (torch.empty(shape, device="meta"),))
    story = explain_model(found, report(found).totals)
    return [(c.before, c.after, [row.path for row in c.layers]) for c in story.resolution]


def test_what_only_moves_data_changes_the_resolution_as_its_module_does():
    net = nn.Sequential(nn.Conv2d(3, 4, 2, 2), Windows(), Merging(), nn.PixelShuffle(2))
    assert resolution(net, 1, 3, 16, 16) == [
        ((16, 16), (8, 8), ["0"]),
        ((8, 8), (4, 4), ["2"]),
        ((4, 4), (8, 8), ["3"]),
    ]


# ---------------------------------------------------------------------------------- output


# how many sizes are tried depends on the machine where a forward takes long
SIZES = {
    "vgg11": [SmallestInput(32, 32, "features.20", "floor((1 + 2*0 - 1*(2 - 1) - 1)/2 + 1) = 0",
                            start=32, step=1, works=((32, 96), (224, 224)), fails=((1, 31),))],
    "inception_v3": [
        SmallestInput(75, 75, "Mixed_7a.branch3x3_2.conv", "floor(1/2) = 0", start=75, step=1,
                      works=((75, 80), (299, 299)), fails=((1, 74),)),
        SmallestInput(80, 3, "conv", "", axes=("width",), start=65, step=16,
                      above=SizeFailure(81, "cat", "17 is not 16"),
                      works=((80, 80), (96, 96), (112, 112)), fails=((1, 2), (81, 95), (97, 97))),
    ],
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("name", "pattern"),
    [("vgg11", None), ("vgg11", "classifier.0"), ("resnet18", "layer2.0"),
     ("googlenet", "maxpool1"), ("inception_v3", None)],
)  # fmt: skip
def test_the_page_of_an_explanation_is_as_it_was(name, pattern, width, golden):
    found = trace_spec(Request.of(name))
    story = (
        explain_layers(found, pattern)
        if pattern
        else explain_model(found, report(found).totals, SIZES[name])
    )
    text = pages.text(render.page(story), width).plain
    assert max(map(len, text.splitlines())) <= width
    golden(without_versions(text), f"explain-{name}-{pattern or 'model'}-{width}.txt")


def test_formats_hold_the_same_numbers():
    data = json.loads(run_cli("explain", "alexnet", "features.0", "-f", "json").out)
    (explained,) = data["layers"]
    lines = run_cli("explain", "alexnet", "features.0", "-f", "csv").out.splitlines()
    assert len(lines) == 1 + len(explained["steps"])
    assert any("64*3*11*11 + 64" in line and "23296" in line for line in lines)
    assert "64\\*3\\*11\\*11 + 64 = 23,296" in (
        run_cli("explain", "alexnet", "features.0", "-f", "markdown").out
    )
    story = json.loads(run_cli("explain", "alexnet", "-f", "json").out)
    assert story["smallest"]["side"] == 63
    assert "smallest input,features.12" in run_cli("explain", "alexnet", "-f", "csv").out


def test_a_layer_that_is_not_there_is_one_message():
    result = run_cli("explain", "alexnet", "features.99")
    assert result.code == 2
    assert result.err.count("\n") == 1


def test_a_glob_on_a_model_of_one_layer_explains_that_layer():
    x = torch.empty(1, 3, 8, 8, device="meta")
    (found,) = cnnscope.explain(nn.Conv2d(3, 4, 3), "*", (x,)).record.layers
    assert found.layer.operation == "Conv2d"
