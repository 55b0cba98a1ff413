"""`cnnscope check`: small networks under the real counters, verdicts, and the command."""

from __future__ import annotations

import csv
import io
import json
import random
import sys

import msgspec
import pytest
import torch
import torch.nn.functional as F
import torchinfo
from command_line import run_cli
from torch import nn
from torch.nn.utils import prune

import cnnscope
from cnnscope import parallel
from cnnscope.cache import libraries
from cnnscope.deadline import Deadline
from cnnscope.measure import counters
from cnnscope.models import find
from cnnscope.models.build import Built
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.ops import table
from cnnscope.ops.fields import maps
from cnnscope.records.check import CheckReport, Count, Published, Verdict
from cnnscope.records.trace import Inputs, Source, TensorSpec
from cnnscope.render import check as renderer
from cnnscope.render import page
from cnnscope.reports import check, listing, referee, verify
from cnnscope.reports.subject import Subject
from cnnscope.tracing import isolation


def subject_of(make, *shapes):
    """A subject that is made by a function and not by its name."""
    inputs = Inputs(tuple(TensorSpec(shape) for shape in shapes))
    source = Source("net", "python", "net")

    def build(rung):
        with torch.device(rung.device):
            model = make().eval()
        return Built(model, inputs, source, rung)

    given = tuple(torch.empty(shape, device="meta") for shape in shapes)
    return Subject(cnnscope.trace(make(), given), build)


def judged(make, *shapes):
    """The verdict of each counter on each figure."""
    subject = subject_of(make, *shapes)
    found = [referee.verdict(subject.trace, count) for count in subject.counts()]
    return {(one.counter, one.figure): one for one in found}


def reasons(verdict):
    return {reason.about: reason.amount for reason in verdict.reasons}


def layer(make, *shape):
    """Terms that torchinfo and fvcore add to the MACs of one layer."""
    verdicts = judged(make, shape)
    statuses = {key: one.status for key, one in verdicts.items()}
    info, fvcore = verdicts["torchinfo", "MACs"], verdicts["fvcore", "MACs"]
    known = {"equal", "explained"}
    assert {statuses.pop(("torchinfo", "MACs")), statuses.pop(("fvcore", "MACs"))} <= known
    assert set(statuses.values()) == {"equal"}, verdicts
    return info.ours, reasons(info), reasons(fvcore)


class Of(nn.Module):
    """A function of the input as a module."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *inputs):
        return self.function(self, *inputs)


# ---------------------------------------------------------------- torchinfo's own multiplications


def test_a_bias_is_counted_at_every_position():
    # 2 samples x 6x6 positions x 3*3*3*4 weights = 7776; bias 4 x 72 positions = 288
    assert layer(lambda: nn.Conv2d(3, 4, 3), 2, 3, 8, 8) == (7776, {"biases": 288}, {})


def test_grouped_and_dilated_convolutions_are_equal():
    # 4 channels each of 4/4 = 1: weight 4*1*3*3 = 36 x 6*6 positions
    make = lambda: nn.Conv2d(4, 4, 3, groups=4, dilation=1, bias=False)  # noqa: E731
    assert layer(make, 1, 4, 8, 8) == (36 * 36, {}, {})


def test_a_transposed_convolution_is_counted_from_its_output():
    # 3*2*2*2 = 24 weights x 4*4 input positions = 384, or x 8*8 output positions = 1536
    make = lambda: nn.ConvTranspose2d(3, 2, 2, stride=2, bias=False)  # noqa: E731
    assert layer(make, 1, 3, 4, 4) == (384, {"transposed": 1536 - 384}, {})


def test_a_grouped_transposed_convolution_is_counted_from_its_output():
    # weight (4, 6/2, 2, 2): 48 x 5*5 = 1200, or x 10*10 = 4800; bias 6 x 100
    make = lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)  # noqa: E731
    assert layer(make, 1, 4, 5, 5) == (1200, {"transposed": 3600, "biases": 600}, {})


def test_a_linear_layer_counts_once_for_each_sample():
    # 2*7 positions x 5*3 = 210; torchinfo 2 samples x 15 = 30, and 2 x 3 of the bias
    expected = (210, {"positions": 30 - 210, "biases": 6}, {})
    assert layer(lambda: nn.Linear(5, 3), 2, 7, 5) == expected


def test_weights_of_a_norm_are_counted_and_fvcore_counts_its_elements():
    # torchinfo: 2 samples x (4 + 4) weights; fvcore: 2 for each of 2*4*3*3 elements
    assert layer(lambda: nn.BatchNorm2d(4), 2, 4, 3, 3) == (0, {"norms": 16}, {"norm flops": 144})


@pytest.mark.parametrize(
    ("make", "each"),
    [  # fvcore: 5 of a norm over the data with weights and 4 without; 2 and 1 with statistics
        (lambda: nn.BatchNorm2d(4, affine=False), 1),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), 5),
        (lambda: nn.InstanceNorm2d(4), 4),
        (lambda: nn.InstanceNorm2d(4, affine=True), 5),
        (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), 5),
        (lambda: nn.GroupNorm(2, 4), 5),
        (lambda: nn.GroupNorm(2, 4, affine=False), 4),
        (lambda: nn.LayerNorm(3), 5),
        (lambda: nn.LayerNorm(3, elementwise_affine=False), 4),
    ],
)
def test_fvcore_counts_flops_of_norms(make, each):
    _, _, fvcore = layer(make, 2, 4, 3, 3)
    assert fvcore == {"norm flops": each * 2 * 4 * 3 * 3}


@pytest.mark.parametrize(
    ("make", "shape", "added"),
    [
        (lambda: nn.AdaptiveAvgPool2d(1), (1, 4, 6, 6), {"pools": 4 * 36}),  # of what goes in
        (lambda: nn.AdaptiveAvgPool2d(3), (1, 4, 6, 6), {"pools": 4 * 36}),
        (lambda: Of(lambda _, x: F.adaptive_avg_pool2d(x, 1)), (1, 4, 6, 6), {"pools": 144}),
        (lambda: Of(lambda _, x: x.mean((2, 3), keepdim=True)), (1, 4, 6, 6), {}),
        (lambda: nn.AdaptiveAvgPool1d(1), (1, 4, 6), {}),  # no formula
        (lambda: nn.AdaptiveAvgPool1d(2), (1, 4, 6), {}),
        (lambda: nn.AdaptiveAvgPool3d(2), (1, 4, 6, 6, 6), {}),
        (lambda: nn.AvgPool2d(2), (1, 4, 6, 6), {}),
        (lambda: nn.Upsample(scale_factor=2), (1, 4, 6, 6), {"upsampling": 4 * 144}),
        (
            lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
            (1, 4, 6, 6),
            {"upsampling": 4 * 4 * 144},  # 4 for each element that comes out
        ),
        (
            lambda: Of(
                lambda _, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)
            ),
            (1, 4, 6, 6),
            {"grid sampling": 4 * 4 * 36},
        ),
    ],
)
def test_fvcore_counts_flops_of_pools_and_sampling(make, shape, added):
    assert layer(make, *shape) == (0, {}, added)


def test_attention_is_no_layer_to_torchinfo_and_has_no_formula_in_fvcore():
    # 7 tokens of 8 features, 2 heads: projections 7*8*24 + 7*8*8, scores and sums 2*2*7*7*4
    make = lambda: nn.MultiheadAttention(8, 2, batch_first=True)  # noqa: E731
    attend = lambda m, x: m.attention(x, x, x, need_weights=False)[0]  # noqa: E731
    macs, info, fvcore = layer(lambda: Of(attend, attention=make()), 1, 7, 8)
    assert macs == 7 * 8 * 24 + 7 * 8 * 8 + 784
    assert (info, fvcore) == ({"no layer": -macs}, {"attention": -784})


def test_attention_with_its_weights_is_known_to_fvcore():
    make = lambda: nn.MultiheadAttention(8, 2, batch_first=True)  # noqa: E731
    attend = lambda m, x: m.attention(x, x, x)[0]  # noqa: E731
    assert layer(lambda: Of(attend, attention=make()), 1, 7, 8)[2] == {}


def test_masked_attention_is_found_around_its_softmax():
    def attend(_, x):
        mask = x.new_zeros(5, 5)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask) @ x.transpose(-1, -2)

    # 3 heads: 2 products of 5*5*4, and one more of the same size that is not attention
    macs, _, fvcore = layer(lambda: Of(attend), 2, 3, 5, 4)
    assert (macs, fvcore) == (3 * 6 * 100, {"attention": -2 * 6 * 100})


def test_functional_products_are_no_layer():
    make = lambda: Of(lambda m, x: F.linear(x, m.inner.weight), inner=nn.Linear(4, 6, bias=False))  # noqa: E731
    assert layer(make, 3, 4) == (72, {"no layer": -72}, {})


def test_an_embedding_is_counted():
    def look_up(m, x):
        return m.table((x > 0).long())

    # 2 samples x 2*3 elements
    assert layer(lambda: Of(look_up, table=nn.Embedding(2, 3)), 2, 5) == (0, {"lookups": 12}, {})


def test_weights_of_an_activation_are_counted():
    # the output's first size x 4 slopes
    assert layer(lambda: nn.PReLU(4), 2, 4, 3) == (0, {"other weights": 8}, {})


def test_a_layer_of_ones_own_counts_by_its_weights():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, x):
            return x @ self.weight @ self.weight.t()

    # 2*3 positions x 16 x 2 products = 192; torchinfo: 2 samples x 16 elements
    assert layer(Mixed, 2, 3, 4) == (192, {"own layer": 32 - 192}, {})


def test_einsum_is_rounded_by_fvcore():
    # 3*17*4*19*101 = 391,476 MACs; numpy prints their double as 7.830e+05
    make = lambda: Of(lambda _, a, b: torch.einsum("bhid,bhjd->bhij", a, b))  # noqa: E731
    verdict = judged(make, (3, 17, 19, 4), (3, 17, 101, 4))["fvcore", "MACs"]
    macs = 3 * 17 * 19 * 101 * 4
    assert verdict.ours == macs
    assert reasons(verdict) == {"einsum": 783_000 // 2 - macs}
    assert verdict.status == "explained"


def test_a_broadcast_matmul_is_counted_once_by_fvcore():
    # (4, 4) by (3, 4, 4): 3*64; fvcore 64
    make = lambda: Of(lambda _, x: x[0] @ x)  # noqa: E731
    assert layer(make, 3, 4, 4)[::2] == (192, {"matmul": 64 - 192})


def test_padding_by_name_has_no_formula_in_fvcore():
    # 4*3*3*3 weights x 64 positions; the second convolution is counted
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3, padding="same", bias=False), nn.Conv2d(4, 2, 1, bias=False)
    )
    assert layer(make, 1, 3, 8, 8) == (108 * 64 + 8 * 64, {}, {"no formula": -108 * 64})


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
def test_recurrent_networks_are_explained(kind, options):
    make = lambda: Of(lambda m, x: m.net(x)[0], net=kind(5, 4, **options))  # noqa: E731
    verdicts = judged(make, (7, 2, 5))
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    weights = gates * 4 * (5 + 4)  # of one layer and direction
    if options:
        weights = 2 * weights + 2 * gates * 4 * (8 + 4)  # the second reads both directions
    assert {one.ours for key, one in verdicts.items() if key[1] == "MACs"} == {14 * weights}
    # torchinfo counts 7 steps x 2 samples of each weight, as we do, and of each bias
    biases = 0 if options else 14 * 2 * gates * 4
    assert reasons(verdicts["torchinfo", "MACs"]) == ({"biases": biases} if biases else {})
    assert reasons(verdicts["fvcore", "MACs"]) == {"no formula": -14 * weights}
    assert {one.status for one in verdicts.values()} == {"equal", "explained"}


def test_bilinear_layers_are_explained():
    make = lambda: Of(lambda m, a, b: m.pair(a, b), pair=nn.Bilinear(3, 4, 5))  # noqa: E731
    verdicts = judged(make, (2, 3), (2, 4))
    assert {one.status for one in verdicts.values()} == {"equal", "explained"}


def test_a_deformable_convolution_has_no_formula_anywhere():
    from torchvision.ops import DeformConv2d

    def sample(m, x):
        return m.conv(x, x.new_zeros(x.shape[0], 18, 6, 6))

    make = lambda: Of(sample, conv=DeformConv2d(4, 2, 3))  # noqa: E731
    verdicts = judged(make, (1, 4, 8, 8))
    macs = 4 * 2 * 9 * 36
    assert reasons(verdicts["flop counter", "MACs"]) == {"no formula": -macs}
    assert reasons(verdicts["fvcore", "MACs"]) == {"no formula": -macs}
    assert verdicts["flop counter", "MACs"].reasons[0].where == ("torchvision.deform_conv2d",)
    assert {one.status for one in verdicts.values()} == {"equal", "explained"}


def test_a_module_that_runs_twice_is_counted_twice_by_all():
    make = lambda: Of(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(4, 4, 1))  # noqa: E731
    # 2 x 16 weights x 9 positions, 2 x 4 biases x 9; its parameters once
    assert layer(make, 1, 4, 3, 3) == (288, {"biases": 72}, {})


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


def test_tied_weights_are_counted_twice_by_torchinfo():
    verdicts = judged(tied, (2, 4))
    # one weight of 16 and two biases of 4; torchinfo 2 x 16 + 2 x 4
    assert verdicts["torchinfo", "parameters"].theirs == 40
    assert reasons(verdicts["torchinfo", "parameters"]) == {"tied": 16}
    assert verdicts["torchinfo", "parameters"].ours == 24
    assert {one.status for one in verdicts.values()} == {"equal", "explained"}


def test_modules_that_never_run_and_bare_parameters_are_counted_by_all():
    def make():
        net = Of(lambda m, x: m.used(x) * m.scale, used=nn.Conv2d(3, 4, 1), idle=nn.Linear(9, 9))
        net.scale = nn.Parameter(torch.ones(4, 1, 1))
        return net

    verdicts = judged(make, (1, 3, 5, 5))
    parameters = [one for key, one in verdicts.items() if key[1] == "parameters"]
    assert {one.theirs for one in parameters} == {3 * 4 + 4 + 90 + 4}
    assert {one.status for one in parameters} == {"equal"}


def test_modules_made_inside_a_forward_are_no_mismatch():
    make = lambda: Of(lambda m, x: nn.ReLU()(m.conv(x)), conv=nn.Conv2d(3, 4, 1))  # noqa: E731
    assert layer(make, 1, 3, 5, 5) == (300, {"biases": 100}, {})


# ------------------------------------------------------------------------------- wrong numbers


@pytest.fixture
def conv():
    """The counts of a small network, and its trace."""
    subject = subject_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (1, 3, 8, 8))
    return subject.trace, list(subject.counts())


def test_a_wrong_number_of_ours_is_found_by_every_counter(conv, monkeypatch):
    trace, counts = conv
    right = table.TABLE["convolution"]

    def doubled(op):
        return tuple({**factors, "wrong": 2} for factors in right.macs(op))

    monkeypatch.setitem(table.TABLE, "convolution", msgspec.structs.replace(right, macs=doubled))
    found = {
        count.counter: referee.verdict(trace, count) for count in counts if count.figure == "MACs"
    }
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(
        ("torchinfo", "fvcore", "flop counter"), "unexplained"
    )
    # 36 positions x 108 weights too many in ours
    assert found["flop counter"].unexplained == -36 * 108


def test_a_difference_of_one_is_not_explained(conv):
    trace, counts = conv
    for count in counts:
        off = msgspec.structs.replace(count, value=count.value + 1)
        verdict = referee.verdict(trace, off)
        if count.figure != "shapes":
            assert (verdict.status, verdict.unexplained) == ("unexplained", 1)


def test_a_shape_that_differs_is_named(conv):
    trace, counts = conv
    (forward,) = (count for count in counts if count.figure == "shapes")
    (root, _), *rest = forward.calls
    off = msgspec.structs.replace(forward, calls=((root, ((1, 4, 6, 7),)), *rest))
    verdict = referee.verdict(trace, off)
    assert (verdict.status, verdict.unexplained) == ("unexplained", 1)
    assert verdict.note == "the model 1x4x6x7, traced the model 1x4x6x6"
    less = msgspec.structs.replace(forward, calls=forward.calls[:-1])
    assert referee.verdict(trace, less).note == "1 1x4x6x6 only in the trace"


def test_attention_that_fvcore_did_not_meet_is_no_reason():
    attend = lambda _, x: F.scaled_dot_product_attention(x, x, x)  # noqa: E731
    subject = subject_of(lambda: Of(attend), (1, 2, 5, 4))
    (count,) = (c for c in subject.counts() if (c.counter, c.figure) == ("fvcore", "MACs"))
    assert referee.verdict(subject.trace, count).status == "explained"
    unmet = msgspec.structs.replace(count, evidence={})
    assert referee.verdict(subject.trace, unmet).status == "unexplained"


# ------------------------------------------------------------------------------ data decides


@pytest.fixture(scope="module")
def selecting():
    """A trace in which a linear layer of 4x4 runs on rows that data selects (all 10 of them)."""

    class Selecting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.first(x)
            return self.second(x[x.sum(1) > -100])

    return cnnscope.trace(Selecting(), torch.ones(10, 4))


def test_what_depends_on_data_bounds_what_a_counter_may_say(selecting):
    known = referee.Known(selecting)
    assert (known.macs, known.dependent_macs) == (320, 160)

    def verdict(macs):
        return referee.verdict(selecting, Count("published", "MACs", "w", macs))

    assert [verdict(macs).status for macs in (159, 161, 319, 320, 321)] == [
        "unexplained", "incomparable", "incomparable", "equal", "unexplained"]  # fmt: skip
    assert verdict(200).range == (160, 320)
    assert reasons(verdict(160)) == {"not selected": -160}  # no row was selected


def test_a_model_that_selects_nothing_has_no_range(conv):
    trace, _ = conv
    verdict = referee.verdict(trace, Count("published", "MACs", "w", 1))
    assert (verdict.status, verdict.range) == ("unexplained", None)


def test_shapes_that_depend_on_data_are_left_out(selecting):
    calls = (("", ((3, 4),)), ("first", ((10, 4),)), ("second", ((3, 4),)))
    verdict = referee.verdict(selecting, Count("forward", "shapes", calls=calls))
    assert (verdict.status, verdict.theirs, verdict.left_out) == ("equal", 1, 2)


# ------------------------------------------------------------------------- what is published


def published(monkeypatch, *figures):
    monkeypatch.setattr(find, "published", lambda _: figures)


def inputs(*shape):
    return Inputs((TensorSpec(shape),))


@pytest.fixture(scope="module")
def squeezenet():
    request = Request.of("squeezenet1_1", ("3x64x64",))
    return request, trace_spec(request)


def test_published_figures_for_the_same_input_are_compared(squeezenet, monkeypatch):
    request, trace = squeezenet
    macs = referee.Known(trace).macs
    rounded = round(macs, -6)
    published(
        monkeypatch,
        Published("A", 1_235_496, rounded, 10**6, inputs(1, 3, 64, 64)),
        Published("B", 1_235_496, rounded, 10**6, inputs(1, 3, 64, 64)),
        Published("C", 1_235_497, rounded + 10**6, 10**6, inputs(1, 3, 64, 64)),
        Published("D", 9, 9, 10**6, inputs(1, 3, 32, 32)),
    )
    found = {(v.version, v.figure): v.status for v in check._published(trace, request)}
    assert found == {
        ("A", "parameters"): "equal",
        ("A", "MACs"): "equal",
        ("C", "parameters"): "unexplained",
        ("C", "MACs"): "unexplained",
    }


def test_a_figure_for_another_input_is_compared_there(squeezenet):
    request, trace = squeezenet
    elements, macs = check._published(trace, request)
    assert (elements.status, macs.status) == ("equal", "explained")
    (reason,) = macs.reasons
    there = trace_spec(Request.of("squeezenet1_1"))
    assert (reason.about, reason.where) == ("input", ("1x3x224x224",))
    assert reason.amount == referee.Known(there).macs - referee.Known(trace).macs
    assert macs.theirs == 349_000_000


def test_a_wrong_figure_for_another_input_is_not_explained(squeezenet, monkeypatch):
    request, trace = squeezenet
    published(monkeypatch, Published("W", 1_235_496, 340 * 10**6, 10**6, inputs(1, 3, 224, 224)))
    _, macs = check._published(trace, request)
    assert macs.status == "unexplained"


def test_an_input_that_the_model_does_not_take_is_told(squeezenet, monkeypatch):
    request, trace = squeezenet
    published(monkeypatch, Published("W", 1_235_496, 340 * 10**6, 10**6, inputs(1, 3, 4, 4)))
    _, macs = check._published(trace, request)
    assert macs.status == "absent"
    assert macs.note.startswith("published for 1x3x4x4: ")


def test_parameters_that_never_run_may_be_left_out_of_what_is_published():
    trace = trace_spec(Request.of("googlenet", ("3x64x64",)))
    verdict = referee.verdict(trace, Count("published", "parameters", "V1", 6_624_904))
    assert verdict.status == "explained"
    assert reasons(verdict) == {"unused": -6_379_984}
    assert verdict.reasons[0].where == ("aux1", "aux2")


def test_nothing_is_published_of_a_model_with_arguments():
    request = Request.of("squeezenet1_1", ("3x64x64",), {"num_classes": 10})
    (only,) = check._published(trace_spec(request), request)
    assert (only.status, only.note) == (
        "absent",
        "torchvision publishes the model without arguments",
    )


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet18", [(1, 3, 224, 224)]),
        ("deeplabv3_resnet50", [(1, 3, 520, 520)]),
        ("r3d_18", [(1, 3, 16, 112, 112)]),
        ("raft_small", [(1, 3, 512, 512)] * 2),
        ("retinanet_resnet50_fpn", [(3, 512, 512)]),
    ],
)
def test_torchvision_counted_on_images_of_512_after_the_transforms(name, shapes):
    for one in find.published(Source(name, "torchvision", name)):
        assert [spec.shape for spec in one.inputs.tensors] == shapes


# ----------------------------------------------------------------------- the receptive field


def field_of(make, *shape):
    """The gradient's verdict on a network."""
    subject = subject_of(make, shape)
    return check._field(subject.trace, subject.build)


def test_the_last_of_the_largest_fields_is_measured():
    # 3 + 2 * 1 * (5 - 1) = 11 pixels, a unit every 2 * 2; a mean of everything is none of them
    found = field_of(
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 5, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2),
        ),
        1, 1, 40, 40,
    )  # fmt: skip
    assert (found.status, found.theirs, found.ours) == ("equal", 11, 11)
    assert found.layer.path == "2"
    assert [(axis.how, axis.equal) for axis in found.layer.checks] == [("interior", True)] * 2


def test_a_shorter_axis_sees_its_own_pixels():
    found = field_of(lambda: nn.Conv2d(1, 1, (3, 5), stride=(1, 2)), 1, 1, 20, 30)
    assert found.theirs == found.ours == 5
    assert [axis.size for axis in found.layer.field] == [3, 5]


def test_what_is_true_of_one_size_alone_is_left_out():
    class Resizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return F.interpolate(self.conv(x), size=(50, 50), mode="bilinear")

    found = field_of(Resizes, 1, 1, 40, 40)
    assert (found.status, found.layer.path, found.ours) == ("equal", "conv", 3)


def test_tokens_in_one_row_are_left_out():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 8, 4, stride=4), nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(self.conv(x).flatten(2).transpose(1, 2))

    assert field_of(Patches, 1, 1, 32, 32).layer.path == "conv"


def test_a_wrong_field_has_no_reason(monkeypatch):
    window = maps.window
    monkeypatch.setattr(maps, "window", lambda k, s, p, d=1: window(k + (k == 5), s, p, d))
    found = field_of(lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5)), 1, 1, 40, 40)
    assert (found.status, found.theirs, found.ours) == ("unexplained", 7, 8)
    assert found.unexplained == 2  # axes
    report = CheckReport(Source("net", "python", "net"), (TensorSpec((1,)),), "meta", (found,))
    assert check.differs(report)
    shown = page.text(renderer.page(report)).plain
    assert "input gradient  field        7     8  unexplained" in shown
    assert "! input gradient, field: 1, axis 0: unit " in shown


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: nn.Linear(4, 2), (1, 4), "no layer has a receptive field"),
        (lambda: nn.AdaptiveAvgPool2d(1), (1, 1, 4, 4), "no layer has a receptive field"),
        (lambda: nn.Sequential(Of(lambda _, x: torch.special.entr(x)), nn.Conv2d(1, 1, 3)),
         (1, 1, 9, 9), "aten.special_entr.default has no linear stand-in"),
    ],
)  # fmt: skip
def test_without_a_field_there_is_a_reason(make, shape, reason):
    found = field_of(make, *shape)
    assert found.status == "absent"
    assert found.note.startswith(reason)


# --------------------------------------------------------------------------- what cannot run


def test_a_gradient_that_memory_is_too_small_for_is_not_run(monkeypatch):
    def verify_largest(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(verify, "verify_largest", verify_largest)
    found = field_of(lambda: nn.Conv2d(1, 1, 3), 1, 1, 8, 8)
    assert found.status == "absent"
    assert "smaller --batch-size" in found.note


def test_a_model_too_large_for_memory_is_not_run(monkeypatch):
    monkeypatch.setattr(parallel, "free_memory", lambda: 2**20)
    report = check.check(Request.of("squeezenet1_1", ("3x64x64",)))
    absent = {(one.counter, one.figure) for one in report.verdicts if one.status == "absent"}
    assert absent == {
        ("numel", "parameters"),
        ("fvcore", "parameters"),
        ("fvcore", "MACs"),
        ("forward", "shapes"),
        ("gradient", "field"),
    }
    (gradient,) = (one for one in report.verdicts if one.counter == "gradient")
    assert "needs about" in gradient.note
    needed = [one.needs for one in report.verdicts if one.status == "absent" and one != gradient]
    assert min(needed) > 2**29
    assert not check.differs(report)


def test_a_counter_that_raises_is_told_and_the_others_run():
    def fails_when_traced(_, x):
        if torch.jit.is_tracing():
            raise ValueError("not while tracing\nat all")
        return x * 2

    verdicts = judged(lambda: Of(fails_when_traced), (2, 3))
    absent = {key: one.note for key, one in verdicts.items() if one.status == "absent"}
    assert absent == {("fvcore", "MACs"): "ValueError: not while tracing at all"}
    assert verdicts["forward", "shapes"].status == "equal"


def test_a_package_that_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchinfo", None)
    verdicts = judged(lambda: nn.Linear(2, 2), (2, 2))
    assert verdicts["torchinfo", "MACs"].note == "torchinfo is not installed"


def test_free_memory_is_what_the_system_says():
    free = parallel.free_memory()
    assert free is None or 2**20 < free < 2**50


@pytest.mark.broad
def test_counting_leaves_torch_as_it_was():
    torch.manual_seed(3)
    before = (torch.get_rng_state().tolist(), torch.backends.mha.get_fastpath_enabled())
    check.check(Request.of("squeezenet1_1", ("3x64x64",)))
    after = (torch.get_rng_state().tolist(), torch.backends.mha.get_fastpath_enabled())
    assert after == before
    assert torch.is_grad_enabled()


# -------------------------------------------------------------------------------- the command

SMALL = ("check", "squeezenet1_1", "--input", "3x64x64")


@pytest.fixture(scope="module")
def printed():
    result = run_cli(*SMALL)
    assert result.code == 0, result.err
    return result.out


def test_every_counter_has_a_line(printed):
    names = ("sum of numel()", "torchinfo", "fvcore", "FlopCounterMode", "published", "forward on",
             "input gradient")  # fmt: skip
    for name in names:
        assert any(line.startswith(name) for line in printed.splitlines()), name
    assert "differ for known reasons, 0 without" in printed


@pytest.mark.broad
def test_formats_hold_the_same_numbers():
    report = msgspec.json.decode(run_cli(*SMALL, "--format", "json").out, type=CheckReport)
    rows = list(csv.DictReader(io.StringIO(run_cli(*SMALL, "--format", "csv").out)))
    verdicts = [row for row in rows if not row["reason"]]
    assert [(one.counter, str(one.theirs)) for one in report.verdicts] == [
        (row["counter"], row["theirs"]) for row in verdicts
    ]
    amounts = [reason.amount for one in report.verdicts for reason in one.reasons]
    assert [int(row["amount"]) for row in rows if row["reason"]] == amounts
    markdown = run_cli(*SMALL, "--format", "markdown").out
    assert markdown.count("| equal |") == sum(one.status == "equal" for one in report.verdicts)


def test_a_difference_without_a_reason_exits_with_1(monkeypatch):
    def wrong(*_, **_kwargs):
        return CheckReport(
            Source("net", "torchvision", "net"),
            (TensorSpec((1, 3)),),
            "meta",
            (
                Verdict("fvcore", "1.0", "MACs", "unexplained", theirs=9, ours=7, unexplained=2),
                Verdict(
                    "forward", "2.9", "shapes", "unexplained", 3, 3, unexplained=1, note="a, b"
                ),
            ),
        )

    monkeypatch.setattr(check, "check", wrong)
    result = run_cli("check", "net")
    assert result.code == 1
    assert "! fvcore 1.0, MACs: +2 has no known reason" in result.out
    assert "! forward on the CPU, shapes: 1 call differ: a, b" in result.out
    assert "0 counters agree, 0 differ for known reasons, 2 without" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check",), "name a model"),
        (("check", "resnet18", "--all"), "MODEL has no effect here"),
        (("check", "--all", "--input", "64"), "--input has no effect here"),
        (("check", "--all", "--seconds", "5"), "--seconds has no effect here"),
        (("check", "resnet18", "--seconds", "0"), "must be above 0"),
        (("check", "alexnet", "--seconds", "1e308"), "at most a day"),
        (("explain", "alexnet", "--seconds", "1e308"), "at most a day"),
        (("rf", "alexnet", "--verify", "--seconds", "inf"), "at most a day"),
        (("check", "resnet19"), "no model called"),
    ],
)
def test_requests_that_cannot_be(arguments, message):
    result = run_cli(*arguments)
    assert result.code == 2
    assert message in result.err


# --------------------------------------------------------------------------------- all models


@pytest.fixture
def three(monkeypatch, tmp_path):
    """A zoo of three models, checked in this process; what was checked is counted."""
    done = []
    real = check._make

    def each(work, items, processes, **_):
        assert processes >= 1
        for item in items:
            done.append(item[1])
            yield work(*item)

    def make(source, name, root, share):
        if name == "broken":
            return name, "it does not build"
        return real(source, name, root, share)

    monkeypatch.setattr(parallel, "each", each)
    monkeypatch.setattr(check, "_make", make)
    names = ("squeezenet1_1", "shufflenet_v2_x0_5", "broken")
    monkeypatch.setattr(libraries, "names", lambda *_: names)
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    return done


@pytest.mark.broad
def test_all_models_are_checked_once_and_summed_up(three):
    result = run_cli("check", "--all", "--format", "json")
    assert result.code == 1  # one of them is broken
    report = json.loads(result.out)
    assert {tally["equal"] + tally["explained"] for tally in report["tallies"]} == {2}
    assert {tally["unexplained"] for tally in report["tallies"]} == {0}
    assert [m["name"] for m in report["models"]] == [
        "broken", "shufflenet_v2_x0_5", "squeezenet1_1"]  # fmt: skip
    norms = [c for c in report["causes"] if c["about"] == "norm flops"]
    assert [(c["counter"], c["models"], c["model"]) for c in norms] == [
        ("fvcore", 1, "shufflenet_v2_x0_5")
    ]
    assert sorted(three) == ["broken", "shufflenet_v2_x0_5", "squeezenet1_1"]

    again = run_cli("check", "--all")
    assert three[3:] == ["broken"]  # the others are kept
    assert again.out.startswith("3 models")
    assert "! broken: it does not build" in again.out
    assert run_cli("check", "--all", "--format", "csv").out.count("\n") == 4


@pytest.mark.broad
def test_an_interruption_says_how_to_go_on(three, monkeypatch):
    each = parallel.each

    def interrupted(work, items, processes, **options):
        yield from each(work, items[:1], processes, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "each", interrupted)
        result = run_cli("check", "--all")
    assert (result.code, result.out) == (130, "")
    assert "1 of 3 models are checked and kept; the same command goes on from there" in result.err
    run_cli("check", "--all")
    assert sorted(three) == ["broken", "shufflenet_v2_x0_5", "squeezenet1_1"]  # each once


def test_a_killed_process_is_told(three, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    def each(*_, **__):
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(parallel, "each", each)
    result = run_cli("check", "--all")
    assert result.code == 2
    assert "the same command goes on from there" in result.err


def test_processes_share_the_memory(three, monkeypatch):
    seen = []

    def each(work, items, processes, **options):
        seen.append((processes, options["threads"], {item[3] for item in items}))
        return iter(())

    monkeypatch.setattr(parallel, "each", each)
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    for free in (2**40, 17 * 2**30, 2**30, None):
        monkeypatch.setattr(parallel, "free_memory", lambda free=free: free)
        run_cli("check", "--all")
    # 3 models, 4 cores: memory for all; for two of 8 GiB; for one; not known
    assert seen == [(3, 1, {1 / 3}), (2, 2, {1 / 2}), (1, 4, {1.0}), (3, 1, {1 / 3})]


# ------------------------------------------------------- what torchinfo makes of unusual models


def explained(make, *shapes):
    """The reasons of every counter; nothing may be without one, and nothing may fail to run."""
    verdicts = judged(make, *shapes)
    assert {one.status for one in verdicts.values()} <= {"equal", "explained"}, verdicts
    return {key: reasons(one) for key, one in verdicts.items() if one.status == "explained"}


class Aliased(nn.Module):
    """One convolution under three names; two of them run."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(8, 8, 3, padding=1)
        self.enc, self.dec = nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv)
        self.third = conv

    def forward(self, x):
        return self.dec(self.enc(x))


def test_a_module_under_several_names_is_counted_by_torchinfo_in_each():
    # 8*8*9 + 8 = 584, listed at the depth of `third`, and left over in `enc` and in `dec`
    found = explained(Aliased, (1, 8, 16, 16))
    assert found["torchinfo", "parameters"] == {"tied": 2 * 584}


def random_tree(rng: random.Random, depth: int = 3) -> nn.Module:
    """Modules in modules, some under several names, called or walked."""
    pool = [nn.Conv2d(2, 2, 1) for _ in range(4)]

    def made(level: int) -> nn.Module:
        if level == 0 or rng.random() < 0.3:
            return rng.choice(pool) if rng.random() < 0.4 else nn.Conv2d(2, 2, 1)
        inside = [made(level - 1) for _ in range(rng.randint(1, 3))]
        return rng.choice((nn.Sequential, lambda *x: nn.ModuleList(x)))(*inside)

    return nn.Sequential(*(made(depth) for _ in range(rng.randint(1, 3))))


class Walked(nn.Module):
    """Calls some of the containers of a tree, and walks through the others."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed, self.tree = seed, random_tree(random.Random(seed))

    def forward(self, x):
        rng = random.Random(self.seed)

        def through(module, x):
            walks = isinstance(module, nn.ModuleList) or rng.random() < 0.5
            if not list(module.children()) or not walks:
                return module(x) if plain(module) else x
            for child in module:
                if rng.random() < 0.9:
                    x = through(child, x)
            return x

        def plain(module):
            return not any(isinstance(m, nn.ModuleList) for m in module.modules())

        for _ in range(rng.randint(1, 2)):
            x = through(self.tree, x)
        return x


@pytest.mark.parametrize("seed", range(60))
def test_what_torchinfo_lists_of_random_trees(seed):
    model = Walked(seed)
    trace = cnnscope.trace(model, [torch.empty(1, 2, 4, 4, device="meta")])
    found = torchinfo.summary(model, input_data=[torch.empty(1, 2, 4, 4)], verbose=0)
    listed = listing.lines(trace, dict(counters.names_of(model)))
    assert sum(line.counted for line in listed) == found.total_params
    assert [(x.name.module, x.recursive) for x in listed] == [
        (index_of(model, x.module), x.is_recursive) for x in found.summary_list
    ]


def index_of(model, module):
    return [id(m) for m in model.modules()].index(id(module))


def test_modules_in_a_circle_are_not_listed_for_ever():
    class Circle(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.child = nn.Conv2d(3, 4, 1), nn.Module()
            self.child.parent = self

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(counters.CircleError, match=r"child\.parent holds the module"):
        dict(counters.names_of(Circle()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.orthogonal,
    ],
)
def test_normalised_weights_are_explained(norm):
    explained(
        lambda: nn.Sequential(norm(nn.Conv2d(3, 8, 3)), norm(nn.Conv2d(8, 4, 1))), (2, 3, 8, 8)
    )


def test_old_weight_norm_counts_by_names():
    # weight_v 2*3 and weight_g 2, each times 2*2 (the first two sizes of the output): 32; the
    # product has 2 samples x 6 = 12; the bias 2 samples x 2
    found = explained(lambda: nn.utils.weight_norm(nn.Linear(3, 2)), (2, 3))
    assert found["torchinfo", "MACs"] == {"computed weights": 32 - 12, "biases": 4}


def test_pruned_weights_are_counted_without_what_is_masked():
    # half of 4*3 weights are masked
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))
        with torch.device("cpu"):
            model.to_empty(device="cpu")
            nn.init.normal_(model[0].weight)
            prune.l1_unstructured(model[0], "weight", 0.5)
        return model

    found = explained(make, (1, 3, 2, 2))
    assert found["torchinfo", "parameters"] == {"pruned": -6}
    assert found["torchinfo", "MACs"] == {"computed weights": 6 * 4 - 12 * 4}


def test_two_parameters_on_one_memory_are_one_weight():
    def make():
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        model[1].weight = nn.Parameter(model[0].weight)
        return model

    found = explained(make, (1, 4))
    assert found["numel", "parameters"] == found["fvcore", "parameters"] == {"tied": 16}


def test_complex_products_are_counted_as_real_ones_by_others():
    # 1*4*9 weights x 64 positions = 2304 complex MACs: 4 of each are 9216, 3 are 6912
    def make():
        return Of(
            lambda self, x: self.conv(x.to(torch.complex64)).abs(),
            conv=nn.Conv2d(1, 4, 3, padding=1, bias=False, dtype=torch.complex64),
        )

    found = explained(make, (1, 1, 8, 8))
    assert found["fvcore", "MACs"] == found["flop counter", "MACs"] == {"complex": 6912 - 9216}
    assert found["torchinfo", "MACs"] == {"complex": 2304 - 9216}


def test_constants_on_the_cpu_are_counted_on_real_tensors():
    def make():
        return Of(
            lambda self, x: self.rnn((self.conv(x) + torch.ones(4, 1, 1)).flatten(2).mT)[0],
            conv=nn.Conv2d(3, 4, 1),
            rnn=nn.LSTM(4, 4, batch_first=True),
        )

    with torch.device("cpu"):  # constants are made where the model runs, and it runs on meta
        found = explained(make, (1, 3, 2, 2))
    assert set(found) <= {(c, "MACs") for c in ("torchinfo", "fvcore", "flop counter")}


def test_what_is_not_registered_is_no_call_of_the_model():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.ls, self.conv = [nn.ReLU()], nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(self.ls[0](x))

    explained(Hidden, (1, 3, 4, 4))


def test_a_random_path_is_run_with_the_same_seed_by_all():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.ls = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(8))

        def forward(self, x):
            for conv in self.ls:
                if torch.rand(1, device="cpu").item() < 0.5:
                    x = conv(x)
            return x

    model = Chooses()
    with isolation.seeded():
        trace = cnnscope.trace(model, [torch.empty(1, 3, 8, 8, device="meta")])
    subject = subject_of(Chooses, (1, 3, 8, 8))
    subject.trace = trace
    assert {referee.verdict(trace, c).status for c in subject.counts()} == {"equal", "explained"}
    field = check._field(trace, subject.build)
    assert (field.status, field.note.partition(":")[0]) == (
        "absent", "random numbers decide what runs",
    )  # fmt: skip


def test_nothing_is_begun_when_the_time_is_over():
    subject = subject_of(lambda: nn.Conv2d(3, 4, 1), (1, 3, 4, 4))
    over = Deadline(-1)
    assert {count.failed for count in subject.counts(over)} == {over.reason}
    assert over.reason.startswith("the limit of -1 seconds was reached")
    assert check._field(subject.trace, subject.build, over).note == over.reason


def test_counters_that_the_same_reason_stopped_are_named_together():
    reason = "the limit of 2 seconds was reached; give more"
    absent = [Verdict(name, "", "MACs", "absent", note=reason) for name in ("fvcore", "forward")]
    other = Verdict("torchinfo", "1.8.0", "parameters", "absent", note="it is not installed")
    assert list(renderer._absences([absent[0], other, absent[1]])) == [
        f"not run ({reason}): fvcore (MACs), forward on the CPU (MACs)",
        "not run (it is not installed): torchinfo 1.8.0 (parameters)",
    ]


def test_counters_know_the_constants_that_a_forward_looks_at(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.c = torch.nn.Conv2d(3, 4, 3, bias=False)\n"
        "    def forward(self, x):\n"
        "        return self.c(x)[:, : int(torch.arange(3, device=x.device).sum())]\n"
    )
    made = check.check(Request.of(f"{path}:Net", ("3x8x8",)))
    assert made.device == "meta"
    macs = {one.counter: (one.status, one.theirs) for one in made.verdicts if one.figure == "MACs"}
    # 3 * 4 * 3*3 weights at 6*6 positions = 3,888, which no counter has where the forward fails
    assert macs == dict.fromkeys(("torchinfo", "fvcore", "flop counter"), ("equal", 3888))


def test_a_model_that_is_one_layer_is_named(tmp_path):
    """The path of the outermost module is empty; a message must not say `of , the largest`."""
    (tmp_path / "one.py").write_text("from torch import nn\nnet = lambda: nn.Conv2d(3, 4, 3)\n")
    result = run_cli("check", f"{tmp_path / 'one.py'}:net", "--input", "3x8x8")
    assert result.code == 0
    assert "of the model, the largest that does not depend on the input's size" in result.out
