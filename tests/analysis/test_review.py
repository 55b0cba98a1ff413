"""Findings: each by a network that has it, by near misses, and by oracles outside of this project.

The oracles are real forwards and backwards on the CPU: a gradient that is None or zero, and an
output that does not change with a bias.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import cnnscope
from cnnscope.analysis import layers
from cnnscope.analysis.review import pixels, words
from cnnscope.analysis.review.net import Net
from cnnscope.analysis.review.pixels import unseen
from cnnscope.analysis.review.table import CHECKS
from cnnscope.records.findings import FindingKind as Kind
from cnnscope.records.findings import Severity

IMAGE = (2, 3, 16, 16)


class Do(nn.Module):
    """A forward with its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def findings(model, *shapes):
    return cnnscope.summary(model, list(shapes or (IMAGE,))).findings


def kinds(model, *shapes):
    return [finding.kind for finding in findings(model, *shapes)]


def one(kind, model, *shapes):
    """The finding of a kind, None if there is none."""
    return next((f for f in findings(model, *shapes) if f.kind is kind), None)


def conv(inputs=3, outputs=4, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, **{"padding": size // 2, **options})


# ------------------------------------------------------------------------------ the whole list


def test_a_sound_network_has_nothing_said_of_it():
    model = nn.Sequential(
        conv(bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 10),
    )  # fmt: skip
    assert findings(model) == ()


def test_every_kind_is_looked_for_and_severe_ones_come_first():
    assert set(CHECKS) == set(Kind)
    levels = [level for level, _ in CHECKS.values()]
    assert levels == sorted(levels, key=list(Severity).index)


def test_order_is_by_severity_and_then_by_place():
    runs = nn.Sequential(conv(), nn.BatchNorm2d(4), conv(4, 4, 1, stride=2, padding=0), nn.ReLU())
    model = Do(lambda s, x: s.runs(x), runs=runs, idle=nn.Linear(2, 2))
    assert kinds(model) == [Kind.UNUSED, Kind.SKIPPED, Kind.CANCELLED_BIAS]


@pytest.mark.parametrize("kind", [Kind.UNUSED, Kind.CANCELLED_BIAS, Kind.SKIPPED])
def test_explain_knows_the_layer_that_a_finding_links_to(kind):
    model = nn.Sequential(conv(), nn.BatchNorm2d(4), conv(4, 4, 1, stride=2, padding=0))
    model[0].idle = nn.Parameter(torch.zeros(3))
    finding = one(kind, model)
    assert cnnscope.explain(model, finding.explain, [IMAGE]).layers


# -------------------------------------------------------------------------------- parameters


def test_siblings_that_never_run_are_one_line():
    unused = {f"experts.{i}.linear": 72 for i in range(64) if i != 5} | {
        "head": 9,
        "experts.5.b": 1,
    }
    # 63 experts of 72
    assert words.siblings(unused) == {
        "experts.0-4,6-63.linear": 4536, "head": 9, "experts.5.b": 1,
    }  # fmt: skip


def test_many_unused_experts_are_one_sentence():
    experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(64))
    (finding,) = findings(Do(lambda s, x: s.used(x), used=nn.Linear(4, 4), experts=experts), (2, 4))
    assert finding.kind is Kind.UNUSED
    assert "experts (1,280 parameters)" in finding.sentence  # 64 * (4*4 + 4)


def test_what_only_training_uses_is_not_called_unused():
    class Auxiliary(nn.Module):
        def __init__(self, ask):
            super().__init__()
            self.main, self.aux, self.ask = nn.Linear(4, 4), nn.Linear(4, 4), ask

        def forward(self, x):
            y = self.main(x)
            if self.training:
                return y, self.aux(x)
            return y

    class HandsOn(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.aux = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.main(F.dropout(x, 0.5, self.training))

    assert kinds(Auxiliary(ask=True), (2, 4)) == [Kind.TRAINING_ONLY]
    assert kinds(HandsOn(), (2, 4)) == [Kind.UNUSED]


class Rounds(torch.autograd.Function):
    """A gradient of its own: that of the identity (Bengio et al. 2013)."""

    @staticmethod
    def forward(_, x):
        return x.round()

    @staticmethod
    def backward(_, gradient):
        return gradient


def under_no_grad(self, x):
    with torch.no_grad():
        x = self.a(x)
    return self.b(x)


def kept_for_a_log(self, x):
    x = self.a(x)
    self.log = x.detach()
    return self.b(x.relu())


def straight_through(self, x):
    x = self.a(x)
    return self.b(x + (x.round() - x).detach())


def not_returned(self, x):
    self.a(x)
    return self.b(x)


LOST = {
    "no_grad": under_no_grad,
    "decorated": torch.no_grad()(lambda s, x: s.b(s.a(x))),
    "inference": torch.inference_mode()(lambda s, x: s.b(s.a(x).clone())),
    "detach": lambda s, x: s.b(s.a(x).detach()),
    "data": lambda s, x: F.linear(s.b(x), s.a.weight.data, s.a.bias),
    "cast": lambda s, x: s.b(s.a(x).long().float()),
    "argmax": lambda s, x: s.b(x)[s.a(x).argmax(1) % 2],
    "comparison": lambda s, x: s.b(x * (s.a(x) > 0)),
    "rounded": lambda s, x: s.b(s.a(x).round()),
    "sign": lambda s, x: s.b(torch.sign(s.a(x))),
    "unread": not_returned,
    "ones": lambda s, x: s.b(torch.ones_like(s.a(x)) * x),
    "integers": lambda s, x: s.b(s.a(x).relu()).argmax(1),
}
LEARNED = {
    "plain": lambda s, x: s.b(s.a(x).relu()),
    "log": kept_for_a_log,
    "straight": straight_through,
    "function": lambda s, x: s.b(Rounds.apply(s.a(x))),
    "frozen": lambda s, x: s.b(s.a(x).relu().detach() + s.a(x)),
    "masked": lambda s, x: s.b(torch.where(s.a(x) > 0, s.a(x), 0.1)),
    "indexed": lambda s, x: s.b(s.a(x))[torch.tensor([1, 0])],
    "checkpoint": lambda s, x: checkpoint(lambda y: s.b(y.relu()), s.a(x), use_reentrant=True),
    "gate": lambda s, x: s.b(x) * s.a(x).sigmoid(),
    "straight_softmax": lambda s, x: s.b(F.gumbel_softmax(s.a(x), hard=True)),
}


def without_gradient(model, *inputs):
    """The parameters that a real backward leaves with no gradient, or with nothing but zeros."""
    model = copy.deepcopy(model).eval()
    output = model(*inputs)
    if output.requires_grad:
        (output * torch.randn_like(output)).sum().backward()
    return {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}


@pytest.mark.parametrize("name", [*LOST, *LEARNED])
def test_parameters_that_no_gradient_reaches_are_those_of_a_real_backward(name):
    torch.manual_seed(0)
    function = {**LOST, **LEARNED}[name]
    model = Do(function, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    finding = one(Kind.NO_GRADIENT, model, (2, 4))
    lost = set(finding.layers) if finding else set()
    assert lost == without_gradient(model, 3 * torch.randn(2, 4))
    assert bool(lost) == (name in LOST)


def test_frozen_parameters_may_well_be_detached():
    model = Do(under_no_grad, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    model.a.requires_grad_(False)
    assert Kind.NO_GRADIENT not in kinds(model, (2, 4))


def test_what_keeps_a_gradient_back_is_named():
    def why(name):
        model = Do(LOST[name], a=nn.Linear(4, 4), b=nn.Linear(4, 4))
        return one(Kind.NO_GRADIENT, model, (2, 4)).sentence

    assert "20 parameters of a: what they compute passes torch.no_grad()" in why("no_grad")
    assert "detach()" in why("detach")
    assert "a cast to int64" in why("cast")
    assert "no output depends on what they compute" in why("unread")


def test_a_loss_of_its_own_in_training_is_no_lost_gradient():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores, self.boxes = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            proposals = self.scores(x)
            loss = proposals.square().sum() if self.training else None
            boxes = self.boxes(proposals.detach())
            return boxes if loss is None else (boxes, loss)

    assert Kind.NO_GRADIENT not in kinds(Detector(), (2, 4))


def test_a_weight_of_two_names_is_named_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    assert kinds(model, (2, 4)) == [Kind.TIED]
    assert "0.weight = 2.weight" in one(Kind.TIED, model, (2, 4)).sentence


# ------------------------------------------------------------------------ biases without effect


CANCELLED = {
    "conv": (nn.Sequential(conv(), nn.BatchNorm2d(4)), IMAGE),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d(4)), IMAGE),
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (5, 3)),
    "pool": (nn.Sequential(conv(), nn.MaxPool2d(2), nn.BatchNorm2d(4)), IMAGE),
    "instance": (nn.Sequential(conv(), nn.InstanceNorm2d(4)), IMAGE),
    "instance_affine": (nn.Sequential(conv(), nn.InstanceNorm2d(4, affine=True)), IMAGE),
    "one_group_each": (nn.Sequential(conv(), nn.GroupNorm(4, 4)), IMAGE),
    "transpose": (
        Do(lambda s, x: s.n(s.a(x).transpose(1, 2)), a=nn.Linear(3, 4), n=nn.BatchNorm1d(4)),
        (5, 7, 3),
    ),
    "conv1d": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 16)),
}
KEPT = {
    "activation": (nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4)), IMAGE),
    "groups": (nn.Sequential(conv(), nn.GroupNorm(2, 4)), IMAGE),
    "layer_norm": (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), (5, 3)),
    "other_axis": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(7)), (5, 7, 3)),
    "added": (Do(lambda s, x: (y := s.a(x)) + s.n(y), a=conv(), n=nn.BatchNorm2d(4)), IMAGE),
    "padded": (nn.Sequential(conv(), nn.ZeroPad2d(1), nn.BatchNorm2d(4)), IMAGE),
    "dropped": (nn.Sequential(conv(), nn.Dropout2d(), nn.BatchNorm2d(4)), IMAGE),
    "dropped_by_hand": (
        Do(lambda s, x: s.n(F.dropout(s.a(x), 0.5, s.training)), a=conv(), n=nn.BatchNorm2d(4)),
        IMAGE,
    ),
}


def bias_matters(model, shape):
    """Whether the output of a real forward in training changes with the biases of its layers."""
    model = copy.deepcopy(model).double().train()
    x = torch.randn(*shape, dtype=torch.double)

    def run():
        torch.manual_seed(1)
        return model(x)

    before = run()
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            module.bias.data += torch.arange(1.0, 1 + len(module.bias))
    return not torch.allclose(before, run(), atol=1e-9)


@pytest.mark.parametrize("name", [*CANCELLED, *KEPT])
def test_a_bias_is_cancelled_where_the_output_in_training_is_the_same_without(name):
    model, shape = {**CANCELLED, **KEPT}[name]
    assert bias_matters(model, shape) == (name in KEPT)
    finding = one(Kind.CANCELLED_BIAS, model, shape)
    assert bool(finding) == (name in CANCELLED)
    assert finding is None or "bias=False saves 4 parameters" in finding.sentence


# ---------------------------------------------------------------------------------- positions


def strided(*sizes, **options):
    """Convolutions of (kernel, stride, padding) with ReLUs between."""
    found = []
    for kernel, stride, padding in sizes:
        found += [nn.Conv2d(3, 3, kernel, stride, padding, **options), nn.Softplus()]
    return nn.Sequential(*found)


UNREAD = {  # a network, its input, share or lines that it never reads
    "stride_3_of_2": (strided((2, 3, 0)), (1, 3, 17, 17)),
    "dilated": (strided((3, 2, 0), dilation=2), (1, 3, 17, 17)),
    "odd_by_2": (strided((2, 2, 0)), (1, 3, 17, 15)),
    "alexnet_like": (strided((7, 2, 0)), (1, 3, 24, 24)),
    "deep": (nn.Sequential(*strided((3, 1, 0)), nn.AvgPool2d(4)), (1, 3, 21, 21)),
    "deeper": (nn.Sequential(*strided((2, 2, 0), (2, 2, 0))), (1, 3, 23, 22)),
    "one_axis": (strided(((2, 3), (2, 3), 0)), (1, 3, 16, 16)),
    "whole": (strided((3, 2, 1), (3, 2, 1)), (1, 3, 16, 16)),
    "ceil": (nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)), (1, 3, 17, 17)),
    "padding_left_over": (strided((11, 4, 2)), (1, 3, 64, 64)),
}


def lit(model, shape):
    """Rows and columns of the input with a gradient that is not zero, as one bit each."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    copy.deepcopy(model).double()(x).square().sum().backward()
    seen = x.grad.abs().sum((0, 1)) > 0
    return tuple(sum(1 << i for i in range(len(v)) if v[i]) for v in (seen.any(1), seen.any(0)))


@pytest.mark.parametrize("name", UNREAD)
def test_pixels_that_nothing_reads_are_those_without_a_gradient(name):
    model, shape = UNREAD[name]
    trace = cnnscope.trace(model, shape)
    net = Net(trace, layers.rows(trace))
    assert list(unseen(net).values()) == [lit(model, shape)]
    whole = lit(model, shape) == tuple((1 << n) - 1 for n in shape[2:])
    assert whole == (name in ("whole", "ceil", "padding_left_over"))
    assert whole == (not {Kind.SKIPPED, Kind.FLOORED} & set(kinds(model, shape)))


def test_lines_that_are_left_are_counted_from_0():
    floored = one(Kind.FLOORED, strided((2, 2, 0)), (1, 3, 17, 15)).sentence
    assert "0 (2x2/2) never reads row 16 and column 14 of the 17x15 input" in floored
    # 3x3 makes 19 of 21, pools of 4 read 16 of those, which see 18 rows: 18, 19 and 20 are left
    deep = one(Kind.FLOORED, *UNREAD["deep"]).sentence
    assert "2 (4x4/4) never reads rows 16-18 and columns 16-18 of its 19x19 map" in deep
    assert "no layer sees rows 18-20 and columns 18-20 of the 21x21 input" in deep
    video = nn.Sequential(nn.Conv3d(3, 4, 2, 2))
    assert "reads frame 4, row 6 and column 8 of the 5x7x9 input" in one(
        Kind.FLOORED, video, (1, 3, 5, 7, 9)
    ).sentence  # fmt: skip


def test_the_share_of_skipped_positions():
    # 1x1 with a stride of 2 reads one of four
    finding = one(Kind.SKIPPED, strided((1, 2, 0)), (1, 3, 16, 16))
    assert "0 (1x1/2, 75 % of the 16x16 input)" in finding.sentence


def test_what_a_shortcut_skips_the_main_path_may_read():
    def block(main):
        return Do(
            lambda s, x: s.main(x := s.stem(x).relu()) + s.short(x),
            stem=conv(3, 4), main=main, short=conv(4, 4, 1, stride=2),
        )  # fmt: skip

    assert Kind.SKIPPED not in kinds(block(conv(4, 4, 3, stride=2)))
    assert Kind.SKIPPED in kinds(block(conv(4, 4, 1, stride=2)))  # as in the first ResNets


def test_a_shortcut_with_a_norm_of_its_own_is_a_shortcut_too():
    model = Do(
        lambda s, x: s.main((y := s.stem(x)).relu()) + s.short(s.norm(y).relu()),
        stem=conv(3, 4), main=conv(4, 4, 3, stride=2), norm=nn.BatchNorm2d(4),
        short=conv(4, 4, 1, stride=2),
    )  # fmt: skip
    assert Kind.SKIPPED not in kinds(model)


def test_rows_that_a_padding_has_made_are_no_loss():
    assert kinds(nn.Sequential(nn.ReflectionPad2d(1), nn.AvgPool2d(3, 2))) == []  # 18 rows, 17 read
    assert kinds(nn.Sequential(nn.ZeroPad2d((0, 3, 0, 3)), nn.AvgPool2d(3, 3, 0))) == []
    left = one(Kind.FLOORED, nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.AvgPool2d(3, 3)))
    assert "never reads rows 15-16 and columns 15-16 of its 17x17 map" in left.sentence


def test_weights_that_only_meet_padding_have_no_gradient():
    def idle(size, kernel, dilation):
        layer = nn.Conv2d(2, 2, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        finding = one(Kind.IDLE_TAPS, nn.Sequential(layer), (1, 2, size, size))
        layer(torch.randn(1, 2, size, size)).square().sum().backward()
        dead = int((layer.weight.grad == 0).sum()) // 4  # of 2*2 pairs of channels
        assert bool(finding) == bool(dead)
        assert not finding or f"({dead} of {kernel**2} taps" in finding.sentence
        return dead

    assert idle(1, 3, 1) == 8  # the centre is left
    assert idle(6, 3, 6) == 8
    assert idle(7, 3, 6) == 0
    assert idle(2, 5, 1) == 16  # 3x3 of 5x5 are left
    assert idle(2, 3, 1) == 0


def test_unproductive_layers_are_one_sentence():
    deep = nn.Sequential(*(nn.Sequential(conv(3, 3), nn.ReLU()) for _ in range(6)))
    # 3, 5, 7: the fourth reads units that have seen 7 of 7 pixels
    finding = one(Kind.UNPRODUCTIVE, deep, (1, 3, 7, 7))
    assert finding.layers == ("3.0", "4.0", "5.0")
    assert one(Kind.UNPRODUCTIVE, deep, (1, 3, 16, 16)) is None


# ------------------------------------------------------------------------------ layers in a row


GROUPS = {
    "grouped": (nn.Sequential(conv(4, 8, groups=2), nn.ReLU(), conv(8, 4, groups=2)), True),
    "through_depthwise": (
        nn.Sequential(conv(4, 8, 1, groups=2), conv(8, 8, groups=8), conv(8, 4, 1, groups=2)),
        True,
    ),
    "depthwise": (nn.Sequential(conv(4, 4, groups=4), nn.ReLU(), conv(4, 4, groups=4)), True),
    "mixed": (
        nn.Sequential(conv(4, 4, groups=4), nn.ReLU(), conv(4, 4, 1), conv(4, 4, groups=4)),
        False,
    ),
    "shuffled": (
        nn.Sequential(conv(4, 8, groups=2), nn.ChannelShuffle(2), conv(8, 4, groups=2)),
        False,
    ),
    "coprime": (nn.Sequential(conv(6, 6, groups=2), nn.ReLU(), conv(6, 6, groups=3)), False),
    "separable": (
        nn.Sequential(
            nn.Conv2d(4, 4, (1, 5), groups=4), nn.ReLU(), nn.Conv2d(4, 4, (5, 1), groups=4)
        ),
        False,
    ),
    "depthwise_then_grouped": (nn.Sequential(conv(4, 4, groups=4), conv(4, 8, groups=2)), False),
}


def exchange(model, shape):
    """Whether some channel of the output depends on every channel of the input."""
    x = torch.randn(shape, requires_grad=True)
    y = copy.deepcopy(model)(x)
    parts = []
    for channel in range(y.shape[1]):
        (gradient,) = torch.autograd.grad(y[:, channel].sum(), x, retain_graph=True)
        parts.append(bool(gradient.abs().sum((0, 2, 3)).all()))
    return any(parts)


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_never_mix(name):
    model, unmixed = GROUPS[name]
    shape = (1, model[0].in_channels, 8, 8)
    assert (Kind.UNMIXED_GROUPS in kinds(model, shape)) == unmixed
    if unmixed:
        assert not exchange(nn.Sequential(*(m for m in model if not isinstance(m, nn.ReLU))), shape)


PAIRS = {
    "convolutions": (nn.Sequential(conv(), conv(4, 4)), True),
    "pointwise": (nn.Sequential(conv(3, 8), conv(8, 4, 1)), True),
    "activation": (nn.Sequential(conv(), nn.ReLU(), conv(4, 4)), False),
    "norm": (nn.Sequential(conv(bias=False), nn.BatchNorm2d(4), conv(4, 4)), False),
    "depthwise_separable": (nn.Sequential(conv(3, 3, groups=3), conv(3, 8, 1)), False),
    "low_rank": (nn.Sequential(conv(3, 2, 1), conv(2, 8)), False),
    "one_axis_each": (nn.Sequential(nn.Conv2d(3, 3, (1, 3)), nn.Conv2d(3, 3, (3, 1))), False),
    "dropout": (nn.Sequential(conv(), nn.Dropout(), conv(4, 4)), False),
    "read_twice": (Do(lambda s, x: s.b(y := s.a(x)) + y, a=conv(), b=conv(4, 4)), False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_layers_that_are_one_linear_map(name):
    model, linear = PAIRS[name]
    assert (Kind.LINEAR_PAIR in kinds(model)) == linear


@pytest.mark.parametrize("shape", [(2, 8), (2, 5, 8)])
def test_two_linear_layers_are_one_whatever_their_rank(shape):
    assert Kind.LINEAR_PAIR in kinds(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4)), shape)
    between = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    assert Kind.LINEAR_PAIR not in kinds(between, shape)
    low_rank = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))
    assert Kind.LINEAR_PAIR not in kinds(low_rank, shape)


IDLE = {
    "twice": (nn.Sequential(conv(), nn.ReLU(), nn.ReLU()), True),
    "pooled": (nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(inplace=True)), True),
    "leaky": (nn.Sequential(conv(), nn.Sigmoid(), nn.LeakyReLU()), True),
    "six": (nn.Sequential(conv(), nn.ReLU6(), nn.ReLU()), True),
    "cat": (Do(lambda s, x: torch.cat([s.a(x).relu(), x.abs()], 1).relu(), a=conv()), True),
    "clipped": (nn.Sequential(conv(), nn.ReLU(), nn.ReLU6()), False),
    "norm": (nn.Sequential(conv(bias=False), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()), False),
    "added": (Do(lambda s, x: (x.relu() + s.a(x)).relu(), a=conv(3, 3)), False),
    "less": (Do(lambda s, x: (s.a(x).relu() - 1).relu(), a=conv()), False),
    "minus": (Do(lambda s, x: torch.add(s.a(x).relu(), 1, alpha=-1).relu(), a=conv()), False),
    "scaled": (Do(lambda s, x: (s.a(x).relu() * -1).relu(), a=conv()), False),
    "bicubic": (
        Do(lambda s, x: F.interpolate(s.a(x).relu(), 20, mode="bicubic").relu(), a=conv()),
        False,
    ),
}


@pytest.mark.parametrize("name", IDLE)
def test_an_activation_that_changes_nothing(name):
    model, idle = IDLE[name]
    assert (Kind.IDLE_ACTIVATION in kinds(model)) == idle


NARROW = {
    "convolutions": (nn.Sequential(conv(3, 64), nn.ReLU(), conv(64, 8, 1), nn.ReLU(), conv(8, 64))),
    "classifier": nn.Sequential(
        conv(3, 64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 100),
    ),
}  # fmt: skip
WIDE = {
    "seven": nn.Sequential(conv(3, 56), nn.ReLU(), conv(56, 8, 1), nn.ReLU(), conv(8, 64)),
    "head": nn.Sequential(conv(3, 64), nn.ReLU(), conv(64, 2, 1)),
    "transfer": nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 8),
        nn.ReLU(), nn.Linear(8, 10),
    ),
    "residual": Do(
        lambda s, x: (y := s.stem(x)) + s.up(s.down(y).relu()),
        stem=conv(3, 64), down=conv(64, 8, 1), up=conv(8, 64),
    ),
    "squeeze": Do(
        lambda s, x: (y := s.stem(x)) * s.up(s.down(y.mean((2, 3), True)).relu()).sigmoid(),
        stem=conv(3, 64), down=conv(64, 4, 1), up=conv(4, 64, 1),
    ),
    "flattened": nn.Sequential(
        conv(3, 8), nn.Flatten(), nn.Linear(2048, 16), nn.ReLU(), nn.Linear(16, 100)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*NARROW, *WIDE])
def test_a_place_through_which_everything_passes(name):
    model = {**NARROW, **WIDE}[name]
    assert (Kind.BOTTLENECK in kinds(model)) == (name in NARROW)


# ------------------------------------------------------------------------------------ the end


def flat(width, *, size=3, after=lambda x: x, view=lambda x, width: x.view(-1, width)):
    """A map of 4x14x14 (784 elements), flattened by a width, and a linear layer."""
    return Do(
        lambda s, x: after(s.fc(view(s.conv(x), width))),
        conv=conv(3, 4, size, padding=0), fc=nn.Linear(width, 5),
    )  # fmt: skip


def windows(x, width):
    n, c, h, w = x.shape
    cut = x.view(n, c, h // 7, 7, w // 7, 7).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(-1, width)


MIXED = {
    "of_another_width": (flat(56), True),
    "behind_dropout_and_relu": (
        flat(56, view=lambda x, w: F.dropout(x.view(-1, w).relu(), 0.5, training=False)), True
    ),
    "reshape": (flat(112, view=lambda x, w: x.permute(0, 1, 3, 2).reshape(-1, w)), True),
    "groups_of_channels": (flat(392), True),  # 2 of 4 channels: 2 x 14 x 14
    "its_own": (flat(784), False),
    "channels": (flat(196), False),  # one map of 14 x 14 each
    "rows": (flat(14), False),
    "pixels": (flat(4, view=lambda x, w: x.permute(0, 2, 3, 1).reshape(-1, w)), False),
    "part_of_a_row": (flat(7), False),
    "windows": (flat(196, view=windows), False),  # 7 x 7 x 4
    "windows_and_back": (flat(196, view=windows, after=lambda x: x.view(2, -1, 5)), False),
    "back": (flat(56, after=lambda x: x.view(2, -1)), False),
    "averaged": (flat(56, after=lambda x: x.view(2, 14, 5).mean(1)), False),
    "whole_samples": (flat(1568, after=lambda x: x), False),  # 2 x 784: pairs
    "no_layer_behind": (Do(lambda s, x: s.c(x).view(-1, 56), c=conv(3, 4, padding=0)), False),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_a_map_flattened_by_a_width_that_is_not_its_own(name):
    model, told = MIXED[name]
    finding = one(Kind.MIXED_SAMPLES, model)
    assert (finding is not None) == told
    if told:
        out = model(torch.zeros(IMAGE))
        assert len(out) != 2
        said = (
            f"the batch of 2 becomes {len(out)} rows where 2x4x14x14 is flattened for fc: a sample"
        )
        assert said in finding.sentence
        assert finding.explain == "fc"


def head(*after):
    return nn.Sequential(nn.Linear(8, 5), *after)


ENDS = {
    "relu": (head(nn.ReLU()), [Kind.RELU_OUTPUT]),
    "relu6": (head(nn.ReLU6(inplace=True)), [Kind.RELU_OUTPUT]),
    "softmax": (head(nn.Softmax(1)), [Kind.SOFTMAX_OUTPUT]),
    "softmax_last": (head(nn.Softmax(-1)), [Kind.SOFTMAX_OUTPUT]),
    "over_samples": (head(nn.Softmax(0)), [Kind.SOFTMAX_AXIS]),
    "of_one": (nn.Sequential(nn.Linear(8, 1), nn.Softmax(1)), [Kind.SOFTMAX_AXIS]),
    "dropout": (head(nn.Dropout(0.3)), [Kind.FINAL_DROPOUT]),
    "dropout_and_view": (head(nn.Dropout(0.3), nn.Unflatten(1, (5, 1))), [Kind.FINAL_DROPOUT]),
    "dropped_by_hand": (
        Do(lambda s, x: F.dropout(s.a(x), 0.5, s.training), a=nn.Linear(8, 5)),
        [Kind.FINAL_DROPOUT],
    ),
    "logits": (head(), []),
    "log_softmax": (head(nn.LogSoftmax(1)), []),
    "sigmoid": (head(nn.Sigmoid()), []),
    "no_dropout": (head(nn.Dropout(0.0)), []),
    "dropout_before": (nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5)), []),
    "norm": (nn.Sequential(nn.Linear(8, 5), nn.LayerNorm(5), nn.ReLU()), []),
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), []),
    "both": (Do(lambda s, x: ((y := s.a(x)), y.softmax(1)), a=nn.Linear(8, 5)), []),
    "before_norm": (
        nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(5)),
        [Kind.DROPOUT_BEFORE_NORM],
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_stands_directly_before_the_output(name):
    model, expected = ENDS[name]
    given = [(1, 4, 8)] * 3 if name == "attention" else [(4, 8)]
    assert kinds(model, *given) == expected


def test_a_block_of_a_transformer_may_end_in_dropout():
    block = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), nn.Dropout(0.1))
    assert kinds(block, (2, 5, 8)) == []


def test_a_norm_that_is_kept_in_eval_mode_leaves_the_bias_alone():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    layers = conv(), nn.BatchNorm2d(4)
    assert bias_matters(Frozen(*layers), IMAGE)
    assert kinds(Frozen(*layers)) == []
    assert kinds(nn.Sequential(Frozen(*layers), nn.ReLU())) == []


def test_weights_of_attention_are_no_classes():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    both = Do(lambda s, x: s.a(x, x, x, average_attn_weights=False), a=attention)
    weights = Do(lambda s, x: s.a(x, x, x, average_attn_weights=False)[1], a=attention)
    assert not {Kind.SOFTMAX_OUTPUT, Kind.SOFTMAX_AXIS} & {*kinds(both, (1, 4, 8))}
    assert Kind.SOFTMAX_OUTPUT not in kinds(weights, (1, 4, 8))


def test_an_output_that_is_none():
    def forgets(self, x):
        self.a(x)

    assert kinds(Do(forgets, a=nn.Linear(4, 4)), (2, 4)) == [Kind.NO_OUTPUT]
    second = one(Kind.NONE_OUTPUT, Do(lambda s, x: (s.a(x), None), a=nn.Linear(4, 4)), (2, 4))
    assert second.sentence == "output 2 of forward is None"
    named = Do(lambda s, x: {"y": s.a(x), "loss": None}, a=nn.Linear(4, 4))
    assert "output 'loss'" in one(Kind.NONE_OUTPUT, named, (2, 4)).sentence


# ----------------------------------------------------------------------------- random numbers


def test_dropout_that_does_not_ask_for_the_mode():
    wrong = Do(
        lambda s, x: s.b(F.dropout(s.a(x).relu(), 0.5)), a=nn.Linear(4, 4), b=nn.Linear(4, 4)
    )
    assert kinds(wrong, (2, 4)) == [Kind.ALWAYS_DROPOUT]
    attends = Do(lambda _, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1))
    assert Kind.ALWAYS_DROPOUT in kinds(attends, (1, 2, 4, 8))
    made = Do(lambda s, x: nn.Dropout()(s.a(x)).relu(), a=nn.Linear(4, 4))
    assert Kind.ALWAYS_DROPOUT in kinds(made, (2, 4))
    right = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4))
    assert kinds(right, (2, 4)) == []
    attention = nn.TransformerEncoderLayer(8, 2, dropout=0.1)
    assert Kind.ALWAYS_DROPOUT not in kinds(attention, (1, 4, 8))


def test_random_numbers_in_inference():
    noisy = Do(lambda s, x: s.a(x) + torch.randn_like(x), a=nn.Linear(4, 4))
    assert kinds(noisy, (2, 4)) == [Kind.RANDOM]
    unread = Do(lambda s, x: (torch.randn_like(x) + 1, s.a(x))[1], a=nn.Linear(4, 4))
    assert kinds(unread, (2, 4)) == []


class Chain(nn.Module):
    """Residual blocks whose sums are read by all sums after them, in a chain."""

    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(count))

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return x


def test_unread_positions_take_time_that_is_linear_in_a_residual_chain(monkeypatch):
    asked = []
    keeps = pixels._keeps_positions
    monkeypatch.setattr(
        pixels, "_keeps_positions", lambda net, place: asked.append(place) or keeps(net, place)
    )
    trace = cnnscope.trace(Chain(60), torch.empty(1, 2, 6, 6))
    pixels._unread(Net(trace, layers.rows(trace)))
    # 180 operations: a relu has one reader and a sum two, each asked about once and by its root
    assert 0 < len(asked) < 5 * len(trace.ops)
