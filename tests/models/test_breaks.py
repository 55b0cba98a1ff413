"""Forwards that raise: what ran is shown, with the layer that breaks, the cause and the remedy."""

import csv
import json
import re

import pytest
import torch
from support.command_line import run_cli
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.ops import deform_conv2d

import cnnscope
from cnnscope.errors import ModelError, RequestError


class Net(nn.Module):
    """Layers by name, and a forward that is a function of the network and its input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


class Block(nn.Module):
    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.a = nn.Conv2d(channels, out, 3, stride, 1)
        self.b = nn.Conv2d(out, out, 3, 1, 1)

    def forward(self, x):
        return self.b(self.a(x)) + x


class Empty(nn.Module):
    """Its forward forgets to return."""

    def forward(self, x):
        x.relu()


def head(features=400):
    return Net(
        lambda net, x: net.fc(net.b(net.a(x)).flatten(1)),
        a=nn.Conv2d(3, 8, 3),
        b=nn.Conv2d(8, 16, 3, 2),
        fc=nn.Linear(features, 10),
        out=nn.Linear(10, 2),
    )


def broken(model, *inputs):
    """The error of `summary`, after a real forward has raised as well."""
    sizes = [tuple(map(int, text.split("x"))) for text in inputs]
    with pytest.raises(Exception):  # noqa: B017  whatever it is
        model.eval()(*(torch.zeros(size) for size in sizes))
    with pytest.raises(ModelError) as caught:
        cnnscope.summary(model, list(inputs))
    return caught.value


# a 30x30 map, then 14x14 of 16 channels: 3,136 features. Of 13x13: 11x11, 5x5: 400.
def test_rows_up_to_the_break_are_those_of_the_network_without_the_rest():
    error = broken(head(), "1x3x32x32")
    report, failed = error.report, error.report.failed
    whole = cnnscope.summary(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, 2)), "1x3x32x32")
    assert [row.path for row in report.layers] == ["", "a", "b", "view", "fc"]
    for mine, same in zip(report.layers[1:3], whole.layers[1:], strict=True):
        assert (mine.macs, mine.params, mine.output_shapes) == (
            same.macs, same.params, same.output_shapes,
        )  # fmt: skip
        assert [a.size for a in mine.field] == [a.size for a in same.field]
    totals = report.totals
    assert totals.macs == whole.totals.macs
    assert totals.peak_activation_bytes == whole.totals.peak_activation_bytes
    assert totals.params == sum(p.numel() for p in head().parameters())
    assert report.unused == {"out": 22}  # 10 * 2 + 2
    assert [finding.sentence for finding in report.findings] == [
        "not reached before the forward raised: out (22 parameters)"
    ]
    assert [row.fails for row in report.layers] == [False, False, False, False, True]
    assert (failed.path, failed.operation, failed.inputs) == ("fc", "Linear", ((1, 3136),))
    assert failed.made_by == ("view of b",)
    assert (failed.error, failed.line.partition(":")[0]) == ("RuntimeError", "test_breaks.py")
    assert failed.remedy == (
        "in_features must be 3136 for this input, or feed 3x13x13, the smallest square that works"
    )
    head(3136)(torch.zeros(1, 3, 32, 32))
    head()(torch.zeros(1, 3, 13, 13))


def attention(net, x):
    tokens = net.c(x).flatten(2).transpose(1, 2)
    return net.attn(tokens, tokens, tokens)[0]


C = nn.Conv2d(3, 8, 3)
CASES = {
    "channels": (
        Net(lambda net, x: net.d(net.c(x)), c=C, d=nn.Conv2d(9, 4, 1)),
        "d", "takes 9 channels and was given 8", "in_channels must be 8 for this input",
    ),
    "transposed": (
        Net(lambda net, x: net.d(net.c(x)), c=C, d=nn.ConvTranspose2d(9, 4, 2)),
        "d", "takes 9 channels and was given 8", "in_channels must be 8 for this input",
    ),
    "batch norm": (
        nn.Sequential(C, nn.BatchNorm2d(4), nn.ReLU()),
        "1", "takes 4 channels and was given 8", "num_features must be 8 for this input",
    ),
    "group norm": (
        nn.Sequential(C, nn.GroupNorm(2, 4)),
        "1", "takes 4 channels and was given 8", "num_channels must be 8 for this input",
    ),
    "layer norm": (
        Net(lambda net, x: net.n(net.c(x)), c=C, n=nn.LayerNorm((6, 7))),
        "n", "takes 6x7 features and was given 6x6", "normalized_shape must be 6x6",
    ),
    "attention": (
        Net(attention, c=C, attn=nn.MultiheadAttention(16, 4, batch_first=True)),
        "attn", "takes 16 features and was given 8", "embed_dim must be 8 for this input",
    ),
    "by keyword": (
        Net(lambda net, x: net.d(input=net.c(x)), c=C, d=nn.Conv2d(9, 4, 1)),
        "d", "takes 9 channels and was given 8", "in_channels must be 8 for this input",
    ),
    "a gate": (
        Net(lambda net, x: net.c(x) * net.g(x.mean((2, 3)))[..., None, None], c=C,
            g=nn.Linear(3, 4)),
        "mul", "they differ in channels (8 and 4)", "",
    ),
    "indices": (
        Net(lambda net, x: net.e(net.c(x)), c=C, e=nn.Embedding(4, 2)),
        "e", "argument #1 'indices'", "indices are integers",
    ),
    "recurrent": (
        Net(lambda net, x: net.r(net.c(x).flatten(2)), c=C, r=nn.GRU(9, 4)),
        "r", "takes 9 features and was given 36", "input_size must be 36 for this input",
    ),
    "a rank": (
        Net(lambda net, x: net.d(net.c(x).flatten(1)), c=C, d=nn.Conv2d(8, 8, 1)),
        "d", "takes N x C x H x W or C x H x W and was given 1x288", "",
    ),
    "a later call": (
        Net(lambda net, x: net.d(net.c(net.d(x))), c=C, d=nn.Conv2d(3, 3, 1)),
        "d", "takes 3 channels and was given 8", "",
    ),
    "add": (
        nn.Sequential(nn.Conv2d(3, 4, 1), Block(4, 4), nn.Sequential(Block(4, 8, 2))),
        "2.0.add",
        "2.0: add of 1x8x4x4 from 2.0.b and 1x4x8x8 from 1: they differ in channels (8 and 4), "
        "height (4 and 8) and width (4 and 8)",
        "a 1x1 convolution of stride 2 from 4 to 8 channels gives 1 the shape 1x8x4x4",
    ),
    "cat": (
        Net(lambda net, x: torch.cat([x, net.c(x)], 1), c=C),
        "cat", "cat of 1x3x8x8 from input and 1x8x6x6 from c along channels: they differ in "
        "height (8 and 6) and width (8 and 6)", "",
    ),
    "reshape": (
        Net(lambda net, x: net.c(x).reshape(-1, 50), c=C),
        "view", "its 288 elements are not a multiple of 50", "50 must be 288 for this input",
    ),
    "a product": (
        Net(lambda net, x: F.linear(net.c(x).flatten(1), net.w), c=C,
            w=nn.Parameter(torch.zeros(2, 9))),
        "matmul", "the inner sizes are 288 and 9", "",
    ),
    "a large kernel": (
        Net(lambda net, x: F.avg_pool2d(net.c(x), 7), c=C),
        "avg_pool", "the input is too small, floor((6 + 2*0 - 1*(7 - 1) - 1)/7 + 1) = 0",
        "the smallest square input that works is 9x9",
    ),
    "None": (
        Net(lambda net, x: net.c(net.e(x)), c=C, e=Empty()),
        "c", "c (Conv2d) was given None; e returned None", "",
    ),
    "an attribute of None": (
        Net(lambda net, x: net.e(x).shape, c=C, e=Empty()),
        "", "'NoneType' object has no attribute 'shape'; e returned None", "",
    ),
    "an attribute": (
        Net(lambda net, x: net.conv(net.c(x)), c=C, conv1=nn.ReLU()),
        "", "no attribute 'conv'", "did you mean conv1?",
    ),
    "a key": (Net(lambda net, x: {"c": net.c(x)}["d"], c=C), "", "KeyError: 'd'", ""),
    "an index": (Net(lambda net, x: list(net.c(x))[8], c=C), "", "list index out of range", ""),
    "after all": (
        Net(lambda net, x: net.c(x) if net.c(x).dim() == 3 else int("x"), c=C),
        "", "ValueError: invalid literal", "",
    ),
    "einsum": (
        Net(lambda net, x: torch.einsum("bchw,bdhw->bcd", x, net.c(x)), c=C),
        "einsum", "einsum", "the smallest square input that works is 3x3",
    ),
    # Causes that are not sizes which do not broadcast, as these operations do not broadcast.
    "grid": (
        Net(lambda net, x: F.grid_sample(net.c(x), x.new_zeros(2, 4, 4, 2), align_corners=False),
            c=C),
        "grid_sample", "a grid of 2x4x4x2 is not one for each image of 1x8x6x6", "",
    ),
    "coordinates": (
        Net(lambda net, x: F.grid_sample(net.c(x), x.new_zeros(1, 4, 4, 3), align_corners=False),
            c=C),
        "grid_sample", "one coordinate for each axis: it is 1x4x4x3", "",
    ),
    "offsets": (
        Net(lambda net, x: deform_conv2d(x, x.new_zeros(1, 18, 5, 6), net.c.weight), c=C),
        "", "offset is 1x18x5x6, and must be 1x18x6x6", "",
    ),
    "a matrix of indices": (
        Net(lambda net, x: net.c(x).index_select(1, x.new_zeros(2, 2).long()), c=C),
        "index_select", "index is 2x2, not a vector", "",
    ),
    "a dimension": (
        Net(lambda net, x: net.c(x).index_select(5, x.new_zeros(2).long()), c=C),
        "index_select", "dimension 5 of 1x8x6x6", "",
    ),
    "indices that differ": (
        Net(lambda net, x: net.c(x)[x.new_zeros(3).long(), x.new_zeros(4).long()], c=C),
        "index", "they differ in dimension 0 (3 and 4)", "",
    ),
    "indices of floats": (
        Net(lambda net, x: net.c(x).gather(1, x.new_zeros(1, 8, 6, 6)), c=C),
        "gather", "gather(): Expected dtype int32/int64 for index", "indices are integers",
    ),
    "memory": (
        Net(lambda net, x: net.c(x).transpose(1, 2).view(1, -1), c=C),
        "view", "view size is not compatible with input tensor's size and stride", "",
    ),
    "in place": (
        Net(lambda net, x: torch.zeros_like(x, dtype=torch.int64).add_(x), c=C),
        "", "add_ of int64 from zeros_like of input and float32 from input, in place: the "
        "result does not fit int64", "not in place (x = x + y) it makes a tensor",
    ),
    "out": (
        Net(lambda net, x: torch.mul(x, x, out=torch.zeros_like(x, dtype=torch.int64)), c=C),
        "", "a result of float32 does not fit int64", "leave out= out",
    ),
    "one dtype": (
        Net(lambda net, x: net.c(x).long().softmax(1), c=C),
        "softmax", "softmax does not take self int64", "convert it first, as x.float() does",
    ),
    "booleans": (  # a sum of one shape needs no 1x1 convolution
        Net(lambda net, x: (net.c(x) > 0) - (net.c(x) > 1), c=C),
        "sub", "Subtraction, the `-` operator, with two bool tensors is not supported", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_layer_the_cause_and_the_remedy(case):
    model, path, cause, remedy = CASES[case]
    failed = broken(model, "1x3x8x8").report.failed
    assert failed.path == path
    assert cause in failed.cause
    assert failed.remedy.startswith(remedy)
    assert bool(failed.remedy) == bool(remedy)


FILE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(100, 2)

    def forward(self, x):
        return self.fc(self.stem(x).flatten(1))


class First(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(4, 4, 3), nn.ReLU())


class Sized(Net):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3600, 2)


class Data(Net):
    def forward(self, x):
        y = self.stem(x)
        return self.fc(y) if y.sum() > 1 else self.fc(y)


class Checked(Net):
    def forward(self, x):
        x = self.stem(x)
        assert x.shape[-1] == 5
        return x


class Endless(Net):
    def forward(self, x):
        self.stem(x)
        return self(x)
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FILE)
    return "net.py"


def run(*arguments):
    result = run_cli(*arguments)
    assert result.code == 3, result
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    return result


# 6x6 of 4 channels: 144 features, and 5x5 of 7x7: 100
REMEDY = "in_features must be 144 for this input, or feed 3x7x7 (the only one of those tried)"


def test_every_format_has_what_ran(net):
    request = ("summary", f"{net}:Net", "-i", "3x8x8")
    table = run(*request).out
    assert re.search(r"^fc +Linear 100 -> 2 +fails on 1x144 +202$", table, re.MULTILINE)
    assert re.search(rf"^remedy +{re.escape(REMEDY)}$", table, re.MULTILINE)
    assert "up to the break at fc" in table
    assert "not reached" not in table  # fc's weights belong to the row that fails
    assert "314 in the whole network" in table  # 3*4*9 + 4 + 100*2 + 2
    for format_ in ("markdown", "latex", "html"):
        assert "fails on 1" in run(*request, "-f", format_).out
    report = json.loads(run(*request, "-f", "json").out)
    assert report["failed"]["path"] == "fc"
    assert report["failed"]["inputs"] == [[1, 144]]
    assert (report["failed"]["error"], report["failed"]["remedy"]) == ("RuntimeError", REMEDY)
    assert report["failed"]["line"] == "net.py:12"
    assert report["totals"]["macs"] == 6 * 6 * 4 * 3 * 9
    rows = list(csv.DictReader(run(*request, "-f", "csv").out.splitlines()))
    assert [row["path"] for row in rows if row["fails"] == "1"] == ["fc"]
    assert run(*request).err.endswith(f"{REMEDY}\n")


def test_a_break_in_the_first_layer_has_no_table(net):
    out = run("summary", f"{net}:First", "-i", "3x8x8").out
    assert "layer " not in out
    assert "takes 4 channels and was given 3" in out
    assert "or use --input 4x8x8" in out


@pytest.mark.broad
def test_an_endless_forward_has_no_table(net):
    out = run("summary", f"{net}:Endless", "-i", "3x8x8").out
    assert "layer " not in out
    assert "calls itself" in out


def test_a_failed_assert_is_told_with_the_shapes_that_it_names(net):
    message = run("summary", f"{net}:Checked", "-i", "3x8x8").err
    assert "net.py:35: Checked: AssertionError: assert x.shape[-1] == 5 (x is 1x4x6x6)" in message
    assert message.endswith("the smallest square input that works is 7x7 (the only one of those "
                            "tried)\n")  # fmt: skip


def test_a_forward_that_looks_at_data_breaks_on_the_last_rung(net):
    report = json.loads(run("summary", f"{net}:Data", "-i", "3x8x8", "-f", "json").out)
    assert (report["device"], report["failed"]["path"]) == ("cpu", "fc")
    assert report["failed"]["inputs"] == [[1, 4, 6, 6]]


# 32x32 leaves 30x30 of 4 channels: 3600 features
def test_a_guess_says_which_usual_sizes_fail(net):
    report = json.loads(run_cli("summary", f"{net}:Sized", "-f", "json").out)
    assert report["inputs"][0]["shape"] == [1, 3, 32, 32]
    assert (  # 222 * 222 * 4 = 197136
        "1x3x224x224 does not run: fc (Linear) takes 3600 features and was given 197136"
        in report["notes"]
    )


def test_other_commands_exit_with_the_message_and_answer_for_what_ran(net):
    request = (f"{net}:Net", "-i", "3x8x8")
    assert re.search(r"^field +3$", run("rf", request[0], "stem", *request[1:]).out, re.MULTILINE)
    explained = run("explain", request[0], "stem", *request[1:]).out
    assert "= 112" in explained  # 4*3*3*3 + 4 parameters
    for command in (
        ("rf", *request),
        ("rf", request[0], "fc", *request[1:]),
        ("explain", *request),
        ("explain", request[0], "fc", *request[1:]),
        ("stages", *request),
        ("diff", "classic:lenet5", f"{net}:Net", "--input-b", "3x8x8"),
    ):
        result = run(*command)
        assert "up to the break at fc" in result.out.splitlines()[0]
        assert re.search(r"^fc +Linear 100 -> 2 +fails on 1x144", result.out, re.MULTILINE)
        assert result.err.endswith(f"{REMEDY}\n")
    assert "B: net.py:Net at 1x3x8x8" in result.err


def test_a_trace_without_an_end_is_no_model_to_compare():
    error = broken(head(), "1x3x32x32")
    assert cnnscope.summary(error.trace).failed == error.report.failed
    assert cnnscope.rf(error.trace, "b").axes[0].unclipped == (14, 18)  # 3 + 2 pixels
    for answer in (
        lambda: cnnscope.diff(error.trace, error.trace),
        lambda: cnnscope.rf(error.trace),
        lambda: cnnscope.explain(error.trace, "fc"),
        lambda: cnnscope.explain(error.trace, "out"),
    ):
        with pytest.raises(ModelError, match="takes 400 features"):
            answer()
    with pytest.raises(RequestError, match="no layer 'none'"):
        cnnscope.rf(error.trace, "none")


def test_a_filter_that_nothing_matches_does_not_hide_the_break(net):
    result = run("summary", f"{net}:Net", "-i", "3x8x8", "--filter", "later*")
    assert (result.out, "takes 100 features" in result.err) == ("", True)


def test_a_break_on_real_tensors_has_a_report():
    with pytest.raises(ModelError) as caught:
        cnnscope.summary(head(), torch.zeros(1, 3, 32, 32))
    report = caught.value.report
    assert (report.device, report.failed.path) == ("cpu", "fc")
    assert report.failed.cause == "fc (Linear) takes 400 features and was given 3136"
    assert "<b>cause</b>" in report._repr_html_()


def test_the_model_is_left_as_it_was():
    model = head()
    before = list(model.named_modules()), list(model.state_dict().items())
    broken(model, "1x3x32x32")
    assert list(model.named_modules()) == before[0]
    assert all(a is b or torch.equal(a, b) for (_, a), (_, b) in zip(
        model.state_dict().items(), before[1], strict=True
    ))  # fmt: skip


MODELS = [
    "resnet18",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("vgg11_bn", "shufflenet_v2_x0_5", "swin_t", "densenet121", "vit_b_16")
    ),
]
SHARES = [0.6, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.05, 0.3, 0.95))]


@pytest.mark.broad
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", SHARES)
def test_a_break_anywhere_leaves_a_report_of_what_ran(name, share):
    whole = cnnscope.trace(name)
    with torch.device("meta"):
        module = models.get_model(name)
    modules = [whole.modules[call.module].path for call in whole.calls]
    leaf = modules[int(len(modules) * share)]

    def fail(*_):
        raise RuntimeError("here")

    handle = module.get_submodule(leaf).register_forward_pre_hook(fail)
    with pytest.raises(ModelError) as caught:
        cnnscope.summary(module, "1x3x224x224")
    handle.remove()
    report = caught.value.report
    assert report.failed.path == leaf
    every = cnnscope.summary(whole)
    same = {(row.path, row.call): row for row in every.layers}
    ended = [
        row for row in report.layers if row.leaf and row.output_shapes and row.kind == "module"
    ]
    for row in ended:
        other = same[row.path, row.call]
        assert (row.macs, row.output_shapes) == (other.macs, other.output_shapes)
        assert row.field == other.field
    assert report.table()
    assert report.totals.params == every.totals.params


# ------------------------------------------------------------------- what is given to a first layer


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, words):
        found = self.table(words)
        assert found.ndim == 3
        return self.last(found)


def remedy_of(model, given):
    with pytest.raises(ModelError) as caught:
        cnnscope.trace(model, given)
    broken = caught.value.trace.broken
    assert str(caught.value).endswith(broken.remedy)
    return broken.remedy


@pytest.mark.parametrize(
    ("model", "given", "remedy"),
    [
        (nn.Conv2d(3, 8, 3), "224x200x3", "PyTorch has channels first: use --input 3x224x200"),
        (nn.Conv2d(3, 8, 3), "2x9x8x3", "PyTorch has channels first: use --input 3x9x8"),
        (nn.Conv1d(2, 8, 3), "100x2", "PyTorch has channels first: use --input 1x2x100"),
        (Words(), "3x8x8", "indices are integers: --input 1x16:int64 runs"),
        (
            nn.Conv2d(3, 8, 3),
            torch.zeros(1, 3, 8, 8, dtype=torch.int64),
            "its weights are float32: give the input as x.to(torch.float32)",
        ),
        (Words(), torch.zeros(1, 16), "indices are integers, as x.long() makes them"),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(10, 2)),
            torch.zeros(1, 3, 8, 8),
            "in_features must be 288 for this input",  # 8 x 6 x 6
        ),
    ],
)
def test_what_the_first_layer_takes_is_advised(model, given, remedy):
    assert remedy_of(model, given).startswith(remedy)


def test_one_channel_is_singular():
    with pytest.raises(ModelError, match="takes 1 channel and was given 3"):
        cnnscope.trace(nn.Conv2d(1, 8, 3), "3x8x8")


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 16, 5), nn.Linear(400, 10)

    def forward(self, x):
        return self.fc(F.max_pool2d(self.conv(x), 2).view(-1, 400))


def test_a_view_that_must_change_names_the_linear_layer_behind_it():
    # 16 channels of (16 - 4) / 2 = 6 pixels a side: 16 x 6 x 6 = 576
    said = "400 must be 576 for this input, and in_features of fc"
    assert remedy_of(Viewed(), "1x16x16").startswith(said)
