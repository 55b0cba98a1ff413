"""The classic networks, against the figures of their papers, sums by hand, and real forwards."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Collection
from typing import Any

import pytest
import torch
from command_line import run_cli
from paths import ROOT
from torch import nn

from cnnscope.models import find
from cnnscope.models.inputs import make_inputs
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.models.sources import classic
from cnnscope.models.sources.classic import networks
from cnnscope.records.catalogue import About
from cnnscope.records.summary import LayerRow, ModelReport
from cnnscope.records.trace import Inputs, Shape, TensorSpec, Trace
from cnnscope.reports.summary import report

torch.set_num_threads(1)

MILLION, GIGA = 10**6, 10**9

# Hundreds of layers: seconds each.
DEEP = {
    "resnet1202_cifar10", "preact_resnet1001", "densenet_bc_250_24", "densenet_bc_190_40",
    "densenet264",
}  # fmt: skip

# Networks that take pictures of any size are run for real on small ones, and by hand on theirs.
SMALL = {
    **dict.fromkeys(("plain34", "resnet34_v1", "resnet50_v1", "resnet101_v1", "resnet152_v1"), 65),
    **dict.fromkeys(("se_resnet50", "densenet264", "darknet19", "darknet53", "xception"), 64),
    **dict.fromkeys(("wide_resnet28_10", "resnext29_8x64d"), 17),
    "unet": 188,  # the smallest tile: 188 - 2*2 = 184, 92, 88, 44, 40, 20, 16, 8, 4
}
BIG = {
    "fcn32s_vgg16",  # pads by 100: no picture is small
    "resnet101_cifar",  # these have a smaller one of their kind
    "resnet152_cifar",
    "densenet100_12",
    "densenet100_24",
}


@functools.cache
def traced(name: str, *inputs: str, **arguments: Any) -> Trace:
    return trace_spec(Request.of(f"classic:{name}", inputs=inputs, arguments=arguments))


@functools.cache
def summary(name: str, *inputs: str, **arguments: Any) -> ModelReport:
    return report(traced(name, *inputs, **arguments))


def params(name: str, **arguments: Any) -> int:
    return summary(name, **arguments).totals.params


def macs(name: str, *inputs: str, **arguments: Any) -> int:
    return summary(name, *inputs, **arguments).totals.macs


def rows(name: str, **arguments: Any) -> dict[str, LayerRow]:
    return {row.path: row for row in summary(name, **arguments).layers if row.call == 1}


def output(row: LayerRow) -> Shape:
    """Without the batch."""
    return row.output_shapes[0][1:]


def on_meta(name: str, **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return classic.build(name, arguments).eval()


def swept(slow: Collection[str]) -> list[Any]:
    """All names, those that take seconds marked slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in slow else ())
        for name in classic.names()
    ]


# --------------------------------------------------------------------------------- the source


def test_what_was_promised_is_there():
    promised = """
        lenet1989 lenet5 alexnet_paper alexnet_one_gpu zfnet network_in_network all_cnn_c vgg11_lrn
        vgg16_c vgg11_bn_cifar vgg13_bn_cifar vgg16_bn_cifar vgg19_bn_cifar googlenet_paper
        inception_naive inception_reduced plain18 plain34 resnet18_v1 resnet34_v1 resnet50_v1
        resnet101_v1 resnet152_v1 resnet18_cifar resnet34_cifar resnet50_cifar resnet101_cifar
        resnet152_cifar resnet20_cifar10 resnet32_cifar10 resnet44_cifar10 resnet56_cifar10
        resnet110_cifar10 densenet_bc_100_12 densenet40_12 mobilenet_v1 se_resnet50
    """
    assert set(promised.split()) <= set(classic.names())


def test_networks_are_of_the_family_of_their_file():
    assert classic.about("resnet50_v1", (1, 3, 224, 224)) == About("resnet", "classification")
    assert classic.about("unet", (1, 1, 572, 572)) == About("unet", "segmentation")
    assert classic.about("inception_naive", (1, 192, 28, 28)) == About("inception", "module")


def expanded(pattern: str) -> list[str]:
    """`plain{18,34}` is plain18 and plain34."""
    before, brace, rest = pattern.partition("{")
    inside, _, after = rest.partition("}")
    return [before + one + after for one in inside.split(",")] if brace else [pattern]


def test_the_docs_list_every_name_and_argument():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    table = text.partition("| `--arg` | paper")[2].partition("\n\n")[0]
    listed = []
    for names, arguments in re.findall(r"(?m)^\| (`.*?) \| (.*?) ?\| .* \|$", table):
        row = [name for p in re.findall(r"`(.+?)`", names) for name in expanded(p)]
        listed += row
        for argument in re.findall(r"`(.+?)`", arguments):
            assert argument in constructor(row[-1]).parameters
    assert sorted(listed) == sorted(classic.names())


def constructor(name: str) -> inspect.Signature:
    model = networks._MODELS[name]
    module = importlib.import_module(f"cnnscope.models.sources.classic.{model.file}")
    return inspect.signature(getattr(module, model.factory))


def test_no_classic_name_hides_behind_one_of_torchvision():
    from cnnscope.models.sources import torchvision

    assert find.SOURCES.index("torchvision") < find.SOURCES.index("classic")
    assert set(classic.names()) & set(torchvision.names()) == set()


def test_a_classic_name_needs_no_source():
    assert summary("lenet5").source.source == "classic"
    assert trace_spec(Request.of("lenet5")).source.source == "classic"


def test_the_answer_depends_on_the_version_of_cnnscope():
    from cnnscope import __version__

    assert classic.versions() == {"cnnscope": __version__, "torch": torch.__version__}


def makers() -> list[str]:
    """One name for each constructor."""
    by_maker: dict[tuple[str, str], str] = {}
    for name, model in networks._MODELS.items():
        by_maker.setdefault((model.file, model.factory), name)
    return [name for name in by_maker.values() if not name.startswith("inception_")]


@pytest.mark.parametrize("name", makers())
def test_every_classifier_takes_num_classes(name):
    model = on_meta(name, num_classes=7)
    with torch.no_grad():
        result = make_inputs(classic.default_inputs(name, model)).call(model)
    assert result.shape[1] == 7


def test_what_the_name_fixes_cannot_be_changed():
    result = run_cli("summary", "classic:resnet18_v1", "--arg", "depth=34")
    assert result.code == 2
    assert "multiple values for keyword argument 'depth'" in result.err


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("inception_naive", "block='9z'", "there is 3a, 3b, 4a, 4b, 4c, 4d, 4e, 5a, 5b"),
        ("resnet34_v1", "shortcut='D'", "the options A, B and C"),
        ("wide_resnet28_10", "depth=27", "must be 6n + 4"),
    ],
)
def test_an_argument_that_the_paper_does_not_have(name, argument, message):
    result = run_cli("summary", f"classic:{name}", "--arg", argument)
    assert result.code == 2
    assert message in result.err


# ---------------------------------------------------------------------------------- all of them


@pytest.mark.zoo
@pytest.mark.parametrize("name", swept(DEEP))
def test_everything_is_known_of(name):
    result = summary(name)
    assert result.unknown == ()
    assert result.mismatches == ()
    assert result.unused == {}
    assert result.notes == ()
    assert [row.path for row in result.layers if row.field_unknown] == []


@pytest.mark.zoo
@pytest.mark.parametrize("name", swept(DEEP))
def test_parameters_are_those_that_torch_counts(name):
    assert params(name) == sum(p.numel() for p in on_meta(name).parameters())


def shapes_of_a_real_forward(name: str, inputs: Inputs) -> list[tuple[str, Shape]]:
    """Path and output shape of every module call of a forward on the CPU, as calls end.

    The weights are whatever memory held: shapes do not depend on them.
    """
    model = on_meta(name).to_empty(device="cpu")
    found: list[tuple[str, Shape]] = []
    for path, module in model.named_modules():
        module.register_forward_hook(
            lambda _module, _inputs, result, path=path: found.append((path, tuple(result.shape)))
        )
    with torch.no_grad():
        make_inputs(inputs, "cpu").call(model)
    return found


def shapes_of_the_trace(trace: Trace) -> list[tuple[str, Shape]]:
    return [
        (trace.modules[call.module].path, trace.tensors[call.outputs[0]].shape)
        for call in trace.calls
    ]


def assert_real(name: str, *inputs: str) -> None:
    trace = traced(name, *inputs)
    real = shapes_of_a_real_forward(name, Inputs(trace.input_specs))
    assert len(real) > 1
    assert sorted(shapes_of_the_trace(trace)) == sorted(real)


@pytest.mark.zoo
@pytest.mark.parametrize("name", swept({*DEEP, *BIG}))
def test_shapes_are_those_of_a_real_forward(name):
    assert_real(name, *([str(SMALL[name])] if name in SMALL else []))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_shapes_are_those_of_a_real_forward_at_the_published_size(name):
    assert_real(name)


def same_function(ours: nn.Module, theirs: nn.Module, *shape: int) -> bool:
    """Return True if two networks compute the same with the same weights, in one order."""
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    data = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.eval()(data)
        found = ours.eval()(data)
    return bool(expected.std() > 0) and torch.allclose(found, expected, atol=1e-5)


@pytest.mark.zoo
def test_what_torchvision_has_as_well_computes_the_same():
    from torchvision import models

    from cnnscope.models.sources.classic import densenet, resnet, vgg

    one = resnet.resnet_v1(18, shortcut="B", num_classes=10)
    assert same_function(one, models.resnet18(num_classes=10), 1, 3, 64, 64)
    assert not same_function(
        resnet.resnet_v1(50, num_classes=10), models.resnet50(num_classes=10), 1, 3, 64, 64
    )  # its stride is elsewhere
    layers = (1, 2)
    ours = densenet.DenseNet(
        layers, 8, 16, bottleneck=True, compression=0.5, small=False, num_classes=10
    )
    assert same_function(ours, models.DenseNet(8, layers, 16, num_classes=10), 1, 3, 64, 64)
    small = vgg.VGG(vgg.D, base_dim=64, hidden=8, batch_norm=True)
    theirs = models.vgg.make_layers(models.vgg.cfgs["D"], batch_norm=True)
    assert same_function(small.features, theirs, 1, 3, 64, 64)


# ------------------------------------------------------------------------- figures of the papers


def prints_as(value: float, printed: str) -> bool:
    """Return True if a paper may print a value so, rounded or cut: "3.8G" is 3.75e9 to 3.9e9."""
    number, unit = printed[:-1], {"M": MILLION, "G": GIGA}[printed[-1]]
    last_digit = 10.0 ** -len(number.partition(".")[2])
    return -last_digit / 2 <= value / unit - float(number) < last_digit


def test_prints_as_tells_figures_apart():
    assert prints_as(269_722, "0.27M")
    assert prints_as(3_857_973_248, "3.8G")  # cut
    assert not prints_as(280_100, "0.27M")
    assert not prints_as(3_857_973_248, "3.9M")
    assert not prints_as(3_740_000_000, "3.8G")


WRN = "wide_resnet28_10"


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        # Krizhevsky et al. 2012, abstract: "60 million parameters"
        ("alexnet_paper", {}, "60M"),
        # Simonyan and Zisserman 2014, table 2 (in millions)
        ("vgg11_lrn", {}, "133M"),
        ("vgg16_c", {}, "134M"),
        # Springenberg et al. 2015, table 3
        ("all_cnn_c", {}, "1.4M"),
        # He et al. 2015, table 6
        ("resnet20_cifar10", {}, "0.27M"),
        ("resnet32_cifar10", {}, "0.46M"),
        ("resnet44_cifar10", {}, "0.66M"),
        ("resnet56_cifar10", {}, "0.85M"),
        ("resnet110_cifar10", {}, "1.7M"),
        pytest.param("resnet1202_cifar10", {}, "19.4M", marks=pytest.mark.slow),
        # He et al. 2016, table 4
        ("preact_resnet110", {}, "1.7M"),
        ("preact_resnet164", {}, "1.7M"),
        # Zagoruyko and Komodakis 2016, table 4 and 5
        (WRN, {}, "36.5M"),
        (WRN, {"depth": 40, "widen_factor": 1}, "0.6M"),
        (WRN, {"depth": 40, "widen_factor": 2}, "2.2M"),
        (WRN, {"depth": 40, "widen_factor": 4}, "8.9M"),
        (WRN, {"depth": 40, "widen_factor": 8}, "35.7M"),
        (WRN, {"depth": 28, "widen_factor": 12}, "52.5M"),
        (WRN, {"depth": 22, "widen_factor": 8}, "17.2M"),
        (WRN, {"depth": 22, "widen_factor": 10}, "26.8M"),
        (WRN, {"depth": 16, "widen_factor": 8}, "11.0M"),
        (WRN, {"depth": 16, "widen_factor": 10}, "17.1M"),
        # Xie et al. 2017, table 7
        ("resnext29_8x64d", {}, "34.4M"),
        ("resnext29_8x64d", {"cardinality": 16}, "68.1M"),
        # Huang et al. 2017, table 2
        ("densenet40_12", {}, "1.0M"),
        ("densenet100_12", {}, "7.0M"),
        ("densenet100_24", {}, "27.2M"),
        ("densenet_bc_100_12", {}, "0.8M"),
        pytest.param("densenet_bc_250_24", {}, "15.3M", marks=pytest.mark.slow),
        pytest.param("densenet_bc_190_40", {}, "25.6M", marks=pytest.mark.slow),
        # Howard et al. 2017, tables 4, 5, 6
        ("mobilenet_v1", {}, "4.2M"),
        ("mobilenet_v1", {"separable": False}, "29.3M"),
        ("mobilenet_v1", {"shallow": True}, "2.9M"),
        ("mobilenet_v1", {"width_mult": 0.75}, "2.6M"),
        ("mobilenet_v1", {"width_mult": 0.5}, "1.3M"),
        ("mobilenet_v1", {"width_mult": 0.25}, "0.5M"),
    ],
)
def test_parameters_are_printed(name, arguments, printed):
    on_paper = sum(p.numel() for p in on_meta(name, **arguments).parameters())
    assert prints_as(on_paper, printed)


@pytest.mark.parametrize(
    ("name", "inputs", "arguments", "printed"),
    [
        # Szegedy et al. 2014, section 1: "1.5 billion multiply-adds"
        ("googlenet_paper", (), {}, "1.5G"),
        # He et al. 2015, table 1 and section 3.3: "3.6 billion FLOPs (multiply-adds)"
        ("plain18", (), {}, "1.8G"),
        ("plain34", (), {}, "3.6G"),
        ("resnet18_v1", (), {}, "1.8G"),
        ("resnet34_v1", (), {}, "3.6G"),
        ("resnet50_v1", (), {}, "3.8G"),
        ("resnet101_v1", (), {}, "7.6G"),
        ("resnet152_v1", (), {}, "11.3G"),
        # Hu et al. 2018, table 2
        ("resnet50_v1", (), {}, "3.86G"),
        # Howard et al. 2017, tables 4, 5, 6, 7
        ("mobilenet_v1", (), {}, "569M"),
        ("mobilenet_v1", (), {"shallow": True}, "307M"),
        ("mobilenet_v1", (), {"width_mult": 0.75}, "325M"),
        ("mobilenet_v1", (), {"width_mult": 0.5}, "149M"),
        ("mobilenet_v1", (), {"width_mult": 0.25}, "41M"),
        ("mobilenet_v1", ("192",), {}, "418M"),
        ("mobilenet_v1", ("160",), {}, "290M"),
        ("mobilenet_v1", ("128",), {}, "186M"),
    ],
)
def test_multiply_adds_are_printed(name, inputs, arguments, printed):
    assert prints_as(macs(name, *inputs, **arguments), printed)


# Redmon and Farhadi 2017, section 3 (5.58 at 224), and 2018, table 2 (7.29 at 256): two operations
# for each multiply-add
def test_darknet19_has_the_printed_operations():
    assert prints_as(2 * macs("darknet19"), "5.58G")
    assert prints_as(2 * macs("darknet19", "256"), "7.29G")


# ---------------------------------------------------------------------------- exact, by hand


def conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> int:
    """Weights of a convolution; of a linear layer with kernel 1."""
    return outputs * (inputs * kernel * kernel + bias)


def linear(inputs: int, outputs: int) -> int:
    return conv(inputs, outputs, 1)


def test_lenet5_as_it_is_taught_has_61706_parameters():
    # 156 + 2416 + 48120 + 10164 + 850
    expected = conv(1, 6, 5) + conv(6, 16, 5) + linear(400, 120) + linear(120, 84) + linear(84, 10)
    assert params("lenet5") == expected == 61_706


def test_lenet5_takes_the_28x28_digits_of_mnist():
    # a border of 2 is what padding C1 by 2 does: the same sizes, costs and fields from C1 on
    small, full = summary("lenet5", "1x28x28"), summary("lenet5")
    assert small.inputs == (TensorSpec((1, 1, 28, 28)),)
    assert full.inputs == (TensorSpec((1, 1, 32, 32)),)
    assert (small.totals.params, small.totals.macs) == (61_706, full.totals.macs)
    padded = [row.output_shapes for row in small.layers if row.path in ("c1", "s2", "c3", "s4")]
    assert padded == [((1, 6, 28, 28),), ((1, 6, 14, 14),), ((1, 16, 10, 10),), ((1, 16, 5, 5),)]


# LeCun et al. 1998, section II.B: trainable parameters of C1, S2, C3, S4, C5, F6; the prototypes
# of the output are fixed
def test_lenet5_as_published_has_60000_parameters_and_340908_connections():
    counted = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    model = on_meta("lenet5_paper")
    for name, count in counted.items():
        assert sum(p.numel() for p in model.get_submodule(name).parameters()) == count
    assert params("lenet5_paper") == sum(counted.values()) == 60_000
    # "122,304 ... 5,880 ... 151,600 ... 2,000 ... 48,120 ... 10,164", and 84 for each of 10 outputs
    connections = 122_304 + 5_880 + 151_600 + 2_000 + 48_120 + 10_164 + 840
    biases = 6 * 28 * 28 + 16 * 10 * 10 + 120 + 84
    subsampling = 5 * (6 * 14 * 14 + 16 * 5 * 5)
    assert macs("lenet5_paper") + biases + subsampling + 840 == connections == 340_908


# LeCun et al. 1989, section 3: H1 1068, H2 2592, H3 5790, output 310
def test_lenet1989_has_the_units_connections_and_parameters_of_the_paper():
    assert params("lenet1989") == 1_068 + 2_592 + 5_790 + 310 == 9_760
    units = 12 * 8 * 8 + 12 * 4 * 4 + 30 + 10
    assert macs("lenet1989") + units == 64_660  # "connections": each unit's inputs and bias
    assert 16 * 16 + units == 1_256


def test_alexnet_has_the_weights_of_two_groups():
    # 34944 + 307456 + 885120 + 663936 + 442624 + 37752832 + 16781312 + 4097000
    outer = conv(3, 96, 11) + conv(256, 384, 3)
    head = linear(9216, 4096) + linear(4096, 4096) + linear(4096, 1000)
    two = conv(48, 256, 5) + conv(192, 384, 3) + conv(192, 256, 3)
    one = conv(96, 256, 5) + conv(384, 384, 3) + conv(384, 256, 3)
    assert params("alexnet_paper") == outer + two + head == 60_965_224
    assert params("alexnet_one_gpu") == outer + one + head == 62_378_344


def test_zfnet_is_alexnet_on_one_gpu_but_for_its_first_kernels():
    # (11*11 - 7*7) * 3 * 96
    assert params("alexnet_one_gpu") - params("zfnet") == 72 * 3 * 96 == 62_378_344 - 62_357_608


def test_vgg_c_is_d_with_1x1_in_three_places():
    # D, which torchvision has, is 138,357,544; 256^2 + 2 * 512^2 weights are 1 and not 9 each
    assert params("vgg16_c") == 138_357_544 - 8 * (256**2 + 2 * 512**2) == 133_638_952


def test_local_response_norm_adds_no_parameters():
    assert params("vgg11_lrn") == 132_863_336  # A


# The convolutions of A, B, D and E, and two numbers of each batch norm, a head of
# 512 -> 4096 -> 4096 -> 10
@pytest.mark.parametrize(
    ("depth", "kernels"),
    [
        (11, (1, 1, 2, 2, 2)),
        (13, (2, 2, 2, 2, 2)),
        (16, (2, 2, 3, 3, 3)),
        (19, (2, 2, 4, 4, 4)),
    ],
)
def test_vgg_for_cifar(depth, kernels):
    expected = linear(512, 4096) + linear(4096, 4096) + linear(4096, 10)
    channels = 3
    for width, count in zip((64, 128, 256, 512, 512), kernels, strict=True):
        for _ in range(count):
            expected += conv(channels, width, 3) + 2 * width
            channels = width
    assert params(f"vgg{depth}_bn_cifar") == expected
    totals = summary(f"vgg{depth}_bn_cifar").totals
    assert (totals.conv_layers, totals.linear_layers) == (depth - 3, 3)


@pytest.mark.parametrize("base", [16, 32, 64])
def test_small_vgg_scales_with_base_dim(base):
    # 2, 2, 3, 3, 3 convolutions of 3x3; 1x1 behind the last three blocks
    expected = conv(3, base, 3) + conv(base, base, 3)
    expected += conv(base, 2 * base, 3) + conv(2 * base, 2 * base, 3)
    for before, width in ((2, 4), (4, 8), (8, 8)):
        expected += conv(before * base, width * base, 3) + 2 * conv(width * base, width * base, 3)
        expected += conv(width * base, width * base, 1)
    hidden = 64 * base
    expected += linear(8 * base, hidden) + linear(hidden, hidden) + linear(hidden, 10)
    assert params("vgg_1x1_cifar", base_dim=base) == expected


def test_small_vgg_has_a_1x1_at_the_end_of_each_block_of_three():
    kernels = {path: row.geometry for path, row in rows("vgg_1x1_cifar").items() if row.geometry}
    for stage in (3, 4, 5):
        sizes = [kernels[f"features.conv{stage}_{n}"].kernel_size for n in (1, 2, 3, 4)]
        assert sizes == [(3, 3), (3, 3), (3, 3), (1, 1)]


def test_network_in_network():
    # 5x5 192, 160, 96; 5x5 192, 192, 192; 3x3 192, 192, 10
    first = conv(3, 192, 5) + conv(192, 160, 1) + conv(160, 96, 1)
    second = conv(96, 192, 5) + 2 * conv(192, 192, 1)
    third = conv(192, 192, 3) + conv(192, 192, 1) + conv(192, 10, 1)
    assert params("network_in_network") == first + second + third


def test_all_cnn_c():
    # table 2: 96 three times, 192 three times, 192, 192 of 1x1, 10 of 1x1
    expected = conv(3, 96, 3) + 2 * conv(96, 96, 3) + conv(96, 192, 3) + 3 * conv(192, 192, 3)
    assert params("all_cnn_c") == expected + conv(192, 192, 1) + conv(192, 10, 1)


# Chollet 2017, table 3
def test_xception_has_the_printed_parameters():
    assert params("xception") == 22_855_952
    # "36 convolutional layers": a separable one is two here, and 4 projections stand beside them
    separable = 2 * 3 + 3 * 8 + 2 + 2
    assert summary("xception").totals.conv_layers == 2 + 2 * separable + 4
    assert 2 + separable == 36


@pytest.mark.broad
# A plain network has the layers of its residual one. Option A adds no parameters, B a projection
# with a norm in each of three stages, C one in every block (He et al. 2015, section 4.1).
def test_shortcuts_of_option_a_are_free_and_b_and_c_are_projections():
    assert params("resnet34_v1") == params("plain34")
    assert macs("resnet34_v1") == macs("plain34")
    assert params("resnet18_v1") == params("plain18")
    b = sum(conv(n, 2 * n, 1, bias=False) + 2 * 2 * n for n in (64, 128, 256))
    assert params("resnet34_v1", shortcut="B") - params("plain34") == b
    others = ((64, 3), (128, 3), (256, 5), (512, 2))
    c = b + sum(count * (conv(n, n, 1, bias=False) + 2 * n) for n, count in others)
    assert params("resnet34_v1", shortcut="C") - params("plain34") == c


# Where the stride stands changes no parameter: torchvision's published numbers
@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("resnet18_v1", {"shortcut": "B"}, 11_689_512),
        ("resnet34_v1", {"shortcut": "B"}, 21_797_672),
        ("resnet50_v1", {}, 25_557_032),
        ("resnet101_v1", {}, 44_549_160),
        ("resnet152_v1", {}, 60_192_808),
    ],
)
def test_parameters_of_v1_are_those_of_torchvision(name, arguments, count):
    assert params(name, **arguments) == count


def test_v1_strides_in_the_first_1x1():
    first = rows("resnet50_v1")
    assert first["layer2.0.conv1"].geometry.stride == (2, 2)
    assert first["layer2.0.conv2"].geometry.stride == (1, 1)


# torchvision's ResNets with a stem of 3x3 for 7x7, and 10 classes for 1000
@pytest.mark.parametrize(
    ("depth", "published", "features"),
    [
        (18, 11_689_512, 512),
        (34, 21_797_672, 512),
        (50, 25_557_032, 2048),
        (101, 44_549_160, 2048),
        (152, 60_192_808, 2048),
    ],
)
def test_resnet_for_cifar_has_a_small_stem_and_head(depth, published, features):
    stem = conv(3, 64, 7, bias=False) - conv(3, 64, 3, bias=False)
    head = linear(features, 1000) - linear(features, 10)
    assert params(f"resnet{depth}_cifar") == published - stem - head


# weiaicunzai/pytorch-cifar100, models/resnet.py, with 100 classes. The field of 50 layers, whose
# bottlenecks stride in the 3x3: 1 + 2, then 3 blocks of 2, 2 + 3 * 4, 4 + 5 * 8 and 8 + 2 * 16; of
# 101 and 152 layers, 17 more blocks of 8, and 4 of 4 and 30 of 8.
@pytest.mark.parametrize(
    ("depth", "weights", "millions", "field"),
    [
        (50, 23_705_252, 1298, 107),
        (101, 42_697_380, 2510, 107 + 17 * 8),
        (152, 58_341_028, 3722, 107 + 4 * 4 + 30 * 8),
    ],
)
def test_bottlenecks_for_cifar_stride_in_the_3x3(depth, weights, millions, field):
    totals = summary(f"resnet{depth}_cifar", num_classes=100).totals
    assert (totals.params, round(totals.macs / 1e6)) == (weights, millions)
    assert {axis.local_size for axis in totals.field} == {field}


# He et al. 2016, table 4, prints 10.2 million: without the norms, two numbers for each channel
@pytest.mark.slow
def test_preact_resnet1001_has_the_printed_weights():
    model = on_meta("preact_resnet1001")
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    assert prints_as(weights, "10.2M")
    assert prints_as(params("preact_resnet1001"), "10.3M")


# Hu et al. 2018, equation 5: 2/r * sum over stages of blocks * channels^2
@pytest.mark.parametrize("reduction", [8, 16])
def test_squeeze_and_excitation_adds_what_equation_5_says(reduction):
    blocks = ((3, 256), (4, 512), (6, 1024), (3, 2048))
    added = 2 * sum(n * channels**2 for n, channels in blocks) // reduction
    assert params("se_resnet50", reduction=reduction) - params("resnet50_v1") == added
    if reduction == 16:
        assert prints_as(added, "2.5M")


# Hu et al. 2018, table 2: 3.87 billion, where each pixel that a squeeze sums up counts as well
def test_se_resnet50_has_the_printed_operations_with_those_of_its_pools():
    sums = sum(
        n * c * side**2 for n, c, side in ((3, 256, 56), (4, 512, 28), (6, 1024, 14), (3, 2048, 7))
    )
    assert prints_as(macs("se_resnet50") + sums, "3.87G")
    assert not prints_as(macs("se_resnet50"), "3.87G")


def test_unet_has_the_layers_of_its_figure():
    # five pairs of 3x3 down, four up-convolutions of 2x2 and pairs up, 1x1 to two classes
    expected = conv(64, 2, 1)
    for before, width in ((1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)):
        expected += conv(before, width, 3) + conv(width, width, 3)
    for width in (512, 256, 128, 64):
        expected += conv(2 * width, width, 2) + conv(2 * width, width, 3) + conv(width, width, 3)
    assert params("unet") == expected
    # "In total the network has 23 convolutional layers"
    assert summary("unet").totals.conv_layers == 23


# Long et al. 2015, table 1, FCN-VGG16: 134M parameters, 16 convolutions, before the upsampling
def test_fcn32s_has_the_parameters_of_its_paper():
    totals = summary("fcn32s_vgg16").totals
    assert prints_as(totals.trainable_params, "134M")
    assert totals.frozen_params == 21 * 21 * 64 * 64  # bilinear, fixed
    assert totals.conv_layers == 16 + 1
    # VGG-16's convolutions, and its linear layers as convolutions of 7x7, 1x1, 1x1
    expected = 14_714_688 + conv(512, 4096, 7) + conv(4096, 4096, 1) + conv(4096, 21, 1)
    assert totals.trainable_params == expected


# Redmon and Farhadi 2018, table 1: a convolution of 3x3/2 and n pairs of 1x1 and 3x3 per stage
def test_darknet53_has_the_layers_of_its_table():
    def normed(inputs: int, outputs: int, kernel: int) -> int:
        return conv(inputs, outputs, kernel, bias=False) + 2 * outputs

    expected = normed(3, 32, 3) + linear(1024, 1000)
    operations = 256**2 * conv(3, 32, 3, bias=False) + 1024 * 1000
    for stage, blocks in enumerate((1, 2, 8, 8, 4), 1):
        half = 16 * 2**stage
        pairs = normed(2 * half, half, 1) + normed(half, 2 * half, 3)
        expected += normed(half, 2 * half, 3) + blocks * pairs
        weights = half * 2 * half * (9 + blocks * (1 + 9))
        operations += (256 >> stage) ** 2 * weights
    assert params("darknet53") == expected
    assert macs("darknet53") == operations
    # table 2 prints 18.7 billion, two for each multiply-add: 0.7 % more than its layers have
    assert prints_as(2 * operations, "18.6G")
    assert 2 * operations == pytest.approx(18.7 * GIGA, rel=0.008)


# Howard et al. 2017, table 4: the 4866 million of the network without depthwise convolutions leave
# its linear layer out, which the 569 million of the other do not
def test_conv_mobilenet_has_the_printed_multiply_adds_without_its_linear_layer():
    assert prints_as(macs("mobilenet_v1", separable=False) - 1024 * 1000, "4866M")
    assert not prints_as(macs("mobilenet_v1") - 1024 * 1000, "569M")


# -------------------------------------------------------------------------------- GoogLeNet

# Szegedy et al. 2014, table 1: K of parameters and M of operations, where widths give them. K is
# 1024: conv2 has 64*64 + 64*192*9 = 114688 = 112 K weights, the linear layer 1024*1000 = 1000 K.
OPERATIONS = {
    "inception3a": 128,
    "inception3b": 304,
    "inception4a": 73,
    "inception4b": 88,
    "inception4c": 100,
    "inception4d": 119,
    "inception4e": 170,
    "inception5b": 71,
    "fc": 1,
}


@pytest.mark.parametrize("row", OPERATIONS)
def test_googlenet_has_the_operations_of_table_1(row):
    assert prints_as(rows("googlenet_paper")[row].macs, f"{OPERATIONS[row]}M")


def test_googlenet_conv2_is_printed_as_one_row():
    found = rows("googlenet_paper")
    assert prints_as(found["conv2_reduce"].macs + found["conv2"].macs, "360M")


# The rows of table 1 that its own widths do not give: conv1 (2.7K, 34M) has 7*7*3*64 weights at
# 112x112; 5a (1072K, 54M) has 832*(256+160+32+128) + 160*320*9 + 32*128*25 at 7x7.
def test_googlenet_differs_from_table_1_where_the_table_differs_from_itself():
    found = rows("googlenet_paper")
    assert found["conv1"].macs == 112 * 112 * 9_408 == 118_013_952
    weights = 832 * (256 + 160 + 32 + 128) + 160 * 320 * 9 + 32 * 128 * 25
    assert found["inception5a"].macs == 49 * weights == 51_079_168
    printed = 2.7 + 112 + 159 + 380 + 364 + 437 + 463 + 580 + 840 + 1072 + 1388 + 1000
    assert round(printed / 1000, 1) == 6.8  # what the literature says GoogLeNet has
    assert params("googlenet_paper") == 6_998_552


def test_googlenet_heads_run_where_they_are_asked_for():
    heads = summary("googlenet_paper", aux_heads=True)
    # 1x1 to 128, 4*4*128 -> 1024 -> 1000 (section 5)
    one = [conv(c, 128, 1) + linear(2048, 1024) + linear(1024, 1000) for c in (512, 528)]
    assert heads.totals.params - params("googlenet_paper") == sum(one)
    assert heads.unused == {}
    found = rows("googlenet_paper", aux_heads=True)
    assert output(found["aux1.pool"]) == (512, 4, 4)
    assert output(found["aux2.pool"]) == (528, 4, 4)


def test_inception_modules_are_those_of_the_network():
    found = rows("googlenet_paper")
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        module = summary("inception_reduced", block=block)
        row = found[f"inception{block}"]
        assert module.inputs[0].shape == row.input_shapes[0]
        assert (module.totals.params, module.totals.macs) == (row.params, row.macs)


# 3a: 28*28 times 192*(64 + 128*9 + 32*25), against
# 192*(64 + 96 + 16 + 32) + 96*128*9 + 16*32*25; the naive one hands 192 channels of the pool on
def test_reduction_makes_an_inception_module_cheaper():
    assert macs("inception_naive", block="3a") == 784 * 192 * (64 + 1152 + 800) == 303_464_448
    reduced = 192 * (64 + 96 + 16 + 32) + 96 * 128 * 9 + 16 * 32 * 25
    assert macs("inception_reduced", block="3a") == 784 * reduced == 128_049_152
    assert output(summary("inception_naive").layers[0]) == (64 + 128 + 32 + 192, 28, 28)
    assert output(summary("inception_reduced").layers[0]) == (64 + 128 + 32 + 32, 28, 28)


# -------------------------------------------------------------------------------- DenseNets


@pytest.mark.parametrize(
    ("name", "growth", "layers", "begins"),
    [
        # k0 = 16; 16 + 12*12 = 160; 160 + 144 = 304
        ("densenet40_12", 12, 12, (16, 160, 304)),
        # k0 = 24; (24 + 16*12)/2 = 108; (108 + 192)/2 = 150
        ("densenet_bc_100_12", 12, 16, (24, 108, 150)),
    ],
)
def test_layer_l_is_given_k0_and_k_for_each_layer_before_it(name, growth, layers, begins):
    found = rows(name)
    for block, k0 in enumerate(begins, 1):
        maps = [found[f"features.block{block}.{n}"].input_shapes[0][1] for n in range(layers)]
        assert maps == [k0 + (number - 1) * growth for number in range(1, layers + 1)]
        assert output(found[f"features.block{block}"])[0] == k0 + layers * growth


@pytest.mark.broad
def test_densenet264_has_the_layers_of_its_table():
    # table 1: blocks of 6, 12, 64, 48 layers of 1x1 to 128 and 3x3 to 32, from 64 maps on
    expected = conv(3, 64, 7, bias=False) + 2 * 64
    maps = 64
    for block, layers in enumerate((6, 12, 64, 48), 1):
        for _ in range(layers):
            expected += 2 * maps + conv(maps, 128, 1, bias=False)
            expected += 2 * 128 + conv(128, 32, 3, bias=False)
            maps += 32
        if block < 4:
            expected += 2 * maps + conv(maps, maps // 2, 1, bias=False)
            maps //= 2
    assert maps == 2688
    assert params("densenet264") == expected + 2 * maps + linear(maps, 1000)


# ------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("alexnet_paper", (5, 3)),
        ("vgg11_lrn", (8, 3)),
        ("vgg16_c", (13, 3)),
        ("plain34", (33, 1)),
        ("resnet34_v1", (33, 1)),
        ("resnet50_v1", (49 + 4, 1)),  # four projections
        ("resnet110_cifar10", (109, 1)),
        ("preact_resnet164", (163 + 3, 1)),  # three projections
        ("wide_resnet28_10", (28, 1)),  # three projections among them
        ("densenet40_12", (39, 1)),
        ("densenet_bc_100_12", (99, 1)),
        ("densenet264", (264, 1)),  # one more than its name says: see its file
        ("googlenet_paper", (3 + 9 * 6, 1)),
        ("network_in_network", (9, 0)),
        ("all_cnn_c", (9, 0)),
        ("mobilenet_v1", (27, 1)),  # "28 layers" (section 3.1)
        ("darknet19", (19, 0)),
        ("darknet53", (52, 1)),
    ],
)
def test_weight_layers_are_those_that_papers_count(name, layers):
    totals = summary(name).totals
    assert (totals.conv_layers, totals.linear_layers) == layers


# --------------------------------------------------------------------- sizes, stage by stage

SIZES = {
    # 1989, figure 3
    "lenet1989": {"h1": (12, 8, 8), "h3": (30,)},
    # 1998, figure 2
    "lenet5_paper": {"c1": (6, 28, 28), "s2": (6, 14, 14), "s4": (16, 5, 5), "c5": (120, 1, 1)},
    "lenet5": {"c1": (6, 28, 28), "s2": (6, 14, 14), "c3": (16, 10, 10), "s4": (16, 5, 5)},
    # 2012, figure 2 and section 3.5
    "alexnet_paper": {
        "conv1": (96, 55, 55),
        "conv2": (256, 27, 27),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
    },
    # 2014, figure 3
    "zfnet": {
        "conv1": (96, 110, 110),
        "pool1": (96, 55, 55),
        "conv2": (256, 26, 26),
        "pool2": (256, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
    },
    "vgg16_c": {
        "features.pool1": (64, 112, 112),
        "features.pool2": (128, 56, 56),
        "features.pool3": (256, 28, 28),
        "features.pool4": (512, 14, 14),
        "features.pool5": (512, 7, 7),
    },
    "vgg16_bn_cifar": {"features.pool5": (512, 1, 1)},
    "vgg_1x1_cifar": {"features.pool1": (16, 16, 16), "features.pool5": (128, 1, 1)},
    # Springenberg et al., table 2: "global averaging over 6x6 spatial dimensions"
    "all_cnn_c": {"features": (10, 6, 6)},
    "network_in_network": {"pool1": (96, 16, 16), "pool2": (192, 8, 8), "block3": (10, 8, 8)},
    # table 1
    "googlenet_paper": {
        "conv1": (64, 112, 112),
        "pool1": (64, 56, 56),
        "conv2": (192, 56, 56),
        "pool2": (192, 28, 28),
        "inception3a": (256, 28, 28),
        "inception3b": (480, 28, 28),
        "pool3": (480, 14, 14),
        "inception4a": (512, 14, 14),
        "inception4b": (512, 14, 14),
        "inception4c": (512, 14, 14),
        "inception4d": (528, 14, 14),
        "inception4e": (832, 14, 14),
        "pool4": (832, 7, 7),
        "inception5a": (832, 7, 7),
        "inception5b": (1024, 7, 7),
        "pool5": (1024, 1, 1),
    },
    # figure 5: 19x19x728 into and out of the middle flow, 2048 maps at the end
    "xception": {
        "entry": (728, 19, 19),
        "middle": (728, 19, 19),
        "sep2": (2048, 10, 10),
    },
    # table 1
    "resnet50_v1": {
        "conv1": (64, 112, 112),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
    },
    "plain34": {"layer1": (64, 56, 56), "layer2": (128, 28, 28), "layer4": (512, 7, 7)},
    # section 4.2
    "resnet20_cifar10": {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8)},
    "preact_resnet164": {"layer1": (64, 32, 32), "layer2": (128, 16, 16), "layer3": (256, 8, 8)},
    "resnet18_cifar": {"layer1": (64, 32, 32), "layer4": (512, 4, 4)},
    # table 1
    "wide_resnet28_10": {"layer1": (160, 32, 32), "layer2": (320, 16, 16), "layer3": (640, 8, 8)},
    # section 5.2
    "resnext29_8x64d": {"layer1": (256, 32, 32), "layer3": (1024, 8, 8)},
    # table 1
    "densenet264": {
        "stem": (64, 56, 56),
        "features.transition1": (128, 28, 28),
        "features.transition2": (256, 14, 14),
        "features.transition3": (1152, 7, 7),
        "features.block4": (2688, 7, 7),
    },
    # table 1
    "mobilenet_v1": {
        "conv1": (32, 112, 112),
        "features.conv3": (128, 56, 56),
        "features.conv5": (256, 28, 28),
        "features.conv7": (512, 14, 14),
        "features.conv13": (1024, 7, 7),
        "features.conv14": (1024, 7, 7),
    },
    # 2017, table 6
    "darknet19": {
        "features.stage1": (32, 224, 224),
        "features.stage2": (64, 112, 112),
        "features.stage3": (128, 56, 56),
        "features.stage4": (256, 28, 28),
        "features.stage5": (512, 14, 14),
        "features.stage6": (1024, 7, 7),
        "conv": (1000, 7, 7),
    },
    # 2018, table 1
    "darknet53": {
        "stem": (32, 256, 256),
        "features.stage1": (64, 128, 128),
        "features.stage2": (128, 64, 64),
        "features.stage3": (256, 32, 32),
        "features.stage4": (512, 16, 16),
        "features.stage5": (1024, 8, 8),
    },
    # figure 1
    "unet": {
        "down.0": (64, 568, 568),
        "down.1": (128, 280, 280),
        "down.2": (256, 136, 136),
        "down.3": (512, 64, 64),
        "bottom": (1024, 28, 28),
        "up.0": (512, 52, 52),
        "up.1": (256, 100, 100),
        "up.2": (128, 196, 196),
        "up.3": (64, 388, 388),
        "output": (2, 388, 388),
    },
    "fcn32s_vgg16": {"": (21, 500, 500)},
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_paper(name):
    found = rows(name)
    assert {path: output(found[path]) for path in SIZES[name]} == SIZES[name]


# ------------------------------------------------------------------------- receptive fields


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride"),
    [
        # Araujo, Norris, Sim 2019, "Computing Receptive Fields of CNNs", table 2
        ("alexnet_paper", "pool5", 195, 32),
        ("resnet50_v1", "layer4", 483, 32),
        ("resnet101_v1", "layer4", 1027, 32),
        ("resnet152_v1", "layer4", 1507, 32),
        ("mobilenet_v1", "features", 315, 32),
        # Long et al. 2015, table 1: FCN-VGG16, and FCN-GoogLeNet with its 7x7 mean
        ("fcn32s_vgg16", "fc7", 404, 32),
        ("googlenet_paper", "pool5", 907, 32),
    ],
)
def test_receptive_fields_are_printed(name, layer, size, stride):
    field = rows(name)[layer].field
    assert [(axis.size, axis.stride) for axis in field] == [(size, stride)] * 2


# 11; pool 3/2 at stride 4: 19; 5: 19 + 4*8 = 51; 67; 3x3 at 16: 99, 131, 163
def test_groups_and_norms_over_channels_do_not_change_the_field():
    for layer, size in (("conv1", 11), ("norm1", 11), ("pool1", 19), ("conv2", 51), ("conv5", 163)):
        for name in ("alexnet_paper", "alexnet_one_gpu"):
            assert {axis.size for axis in rows(name)[layer].field} == {size}
