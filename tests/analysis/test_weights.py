"""Weight layers, what is not registered, and paths that another run may not take.

Depths are counted by hand, as papers count them; MACs carry their arithmetic.
"""

from __future__ import annotations

import functools
import os
import random
import secrets

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

import cnnscope
from cnnscope.analysis import weights
from cnnscope.records.summary import ModelReport
from cnnscope.records.trace import Trace
from cnnscope.render import facts
from cnnscope.reports import stages
from cnnscope.reports import summary as report
from cnnscope.tracing import strays


def traced(model: nn.Module, *sizes: tuple[int, ...]) -> Trace:
    """A forward without data."""
    return cnnscope.trace(model, [torch.empty(size, device="meta") for size in sizes])


def depth(model: nn.Module, *sizes: tuple[int, ...]) -> tuple[int, int, int]:
    """Convolutions, linear and recurrent layers."""
    return tuple(weights.weight_layers(traced(model, *sizes)))


def summary(model: nn.Module, *sizes: tuple[int, ...]) -> ModelReport:
    return report.report(traced(model, *sizes))


IMAGE = (1, 3, 8, 8)


# -------------------------------------------------------------------------- computed weights


def normalised(norm) -> nn.Module:
    """Two convolutions and a linear layer, all normalised."""
    return nn.Sequential(
        norm(nn.Conv2d(3, 8, 3, padding=1)),
        norm(nn.ConvTranspose2d(8, 4, 2, 2)),
        nn.Flatten(),
        norm(nn.Linear(4 * 16 * 16, 2)),
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.spectral_norm,
        parametrizations.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.weight_norm,
        lambda layer: parametrizations.spectral_norm(parametrizations.weight_norm(layer)),
    ],
    ids=["spectral", "weight", "old spectral", "old weight", "both"],
)
def test_a_normalised_weight_adds_no_layer(norm):
    assert depth(normalised(norm), IMAGE) == (2, 1, 0)


def test_a_parametrized_layer_is_a_row_with_its_parameters():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 16, 3, 2, 1)))
    row = summary(model, (1, 3, 32, 32)).layers[1]
    # The norm is u^T (W v) of the 16 x 27 matrix: 16*27 + 16.
    assert (row.operation, row.leaf, row.features) == ("Conv2d", True, (3, 16))
    assert (row.params, row.macs) == (3 * 16 * 9 + 16, 16 * 16 * 16 * 27 + 16 * 27 + 16)
    assert (
        traced(model, (1, 3, 32, 32)).modules[1].hyper["parametrized"] == "weight by _SpectralNorm"
    )


@pytest.mark.parametrize("map_", ["matrix_exp", "cayley", "householder"])
def test_an_orthogonal_layer_is_built_without_data(map_):
    with torch.device("meta"):
        from cnnscope.tracing.modules import orthogonal_without_data

        with orthogonal_without_data():
            layers = [
                parametrizations.orthogonal(nn.Linear(16, 16), orthogonal_map=map_),
                parametrizations.orthogonal(nn.Linear(16, 4), orthogonal_map=map_),
            ]
    assert depth(nn.Sequential(*layers), (1, 16)) == (0, 2, 0)
    assert layers[1].parametrizations.weight[0].base.shape == (16, 16)


class LowRank(nn.Module):
    """W + AB, and a linear layer on the weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))
        self.mix = nn.Linear(8, 8)

    def forward(self, w: Tensor) -> Tensor:
        return self.mix(w + self.a @ self.b)


def test_layers_inside_a_parametrization_are_none_of_the_network():
    layer = nn.Linear(8, 8)
    parametrize.register_parametrization(layer, "weight", LowRank())
    assert depth(layer, (1, 8)) == (0, 1, 0)
    assert summary(layer, (1, 8)).totals.params == 2 * (64 + 8) + 2 * 16


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def test_weight_standardisation_by_hand_is_one_layer_and_one_row():
    model = nn.Sequential(Standardised(3, 8, 3, padding=1), nn.ReLU(), Standardised(8, 4, 3, 2, 1))
    assert depth(model, IMAGE) == (2, 0, 0)
    rows = [row for row in summary(model, IMAGE).layers if row.operation == "Standardised"]
    assert [(row.leaf, row.features) for row in rows] == [(True, (3, 8)), (True, (8, 4))]
    assert rows[1].geometry.stride == (2, 2)


class Functional(nn.Module):
    """A layer whose weight is made in the forward in one of several ways."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.w = nn.Parameter(torch.randn(8, 8))
        self.a, self.b = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))
        self.register_buffer("u", torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.how)(x)

    def spectral(self, x):
        v = F.normalize(self.w.t() @ self.u, dim=0)
        self.u.copy_(F.normalize(self.w @ v, dim=0))
        return F.linear(x, self.w / (self.u @ (self.w @ v)))

    def divided_after(self, x):
        v = F.normalize(self.w.t() @ self.u, dim=0)
        return F.linear(x, self.w) / (self.w @ v).norm()

    def low_rank(self, x):
        return F.linear(x, self.w + self.a @ self.b)

    def twice(self, x):
        return F.linear(F.linear(x, self.w), self.w)

    def tied(self, x):
        return F.linear(F.linear(x, self.w).relu(), self.w.t())

    def two(self, x):
        return x @ self.a @ self.b


@pytest.mark.parametrize(
    ("how", "linear"),
    [("spectral", 1), ("divided_after", 1), ("low_rank", 1), ("twice", 1), ("tied", 1), ("two", 2)],
)
def test_functional_layers_count_each_weight_once(how, linear):
    assert depth(Functional(how), (2, 8)) == (0, linear, 0)


class Conditional(nn.Module):
    """Kernels mixed by a linear layer (Yang et al. 2019, CondConv): one linear, one convolution."""

    def __init__(self):
        super().__init__()
        self.route = nn.Linear(3, 4)
        self.kernels = nn.Parameter(torch.randn(4, 8 * 3 * 9))

    def forward(self, x):
        mixed = self.route(x.mean((2, 3))).sigmoid() @ self.kernels
        return F.conv2d(x, mixed.view(8, 3, 3, 3))


class Modulated(nn.Module):
    """A kernel scaled by a style (Karras et al. 2020, StyleGAN2): one linear, one convolution."""

    def __init__(self):
        super().__init__()
        self.style = nn.Linear(3, 3)
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x):
        style = self.style(x.mean((2, 3)))
        return F.conv2d(x, (self.kernel * style[0, :, None, None]))


class Correlation(nn.Module):
    """Features slid over features (Bertinetto et al. 2016, SiamFC): one convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return F.conv2d(self.conv(x), self.conv(x[..., :5, :5]))


class Blurred(nn.Module):
    """A fixed filter behind a convolution: it is not learned."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.register_buffer("blur", torch.ones(8, 1, 3, 3) / 9)

    def forward(self, x):
        return F.conv2d(self.conv(x), self.blur, groups=8)


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (Conditional, (1, 1, 0)),
        (Modulated, (1, 1, 0)),
        (Correlation, (1, 0, 0)),
        (Blurred, (1, 0, 0)),
    ],
)
def test_convolutions_count_where_their_kernel_is_learned(model, layers):
    assert depth(model(), IMAGE) == layers


def forwarding(forward, **held) -> nn.Module:
    """A module that holds attributes and runs a function of itself and the input."""
    model = type("Held", (nn.Module,), {"forward": forward})()
    for name, value in held.items():
        setattr(model, name, value)
    return model


FILTER = torch.ones(3, 1, 3, 3)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: F.conv2d(x, m.k, groups=3),
        lambda m, x: F.conv_transpose2d(x, m.k, groups=3),
        lambda m, x: F.conv2d(x, m.ks[0] * 2, groups=3),
        lambda _, x: F.conv2d(x, FILTER, groups=3),
        lambda _, x: F.conv2d(x, torch.ones(3, 1, 3, 3, device=x.device), groups=3),
        lambda _, x: F.conv2d(x, torch.from_numpy(np.ones((3, 1, 3, 3), "f")), groups=3),
        lambda m, x: F.linear(x, m.k.view(3, 9)[:, :8]),
        lambda m, x: x @ m.k.view(9, 3)[:8],
        lambda m, x: m.k.view(3, 9)[:, :8] @ x,
    ],
    ids=["own", "transposed", "listed", "global", "made", "numpy", "linear", "matmul", "left"],
)
def test_a_constant_is_no_weight(forward, device):
    model = forwarding(forward, k=FILTER.clone(), ks=[FILTER.clone()])
    made = report.report(cnnscope.trace(model, [torch.ones(IMAGE, device=device)]))
    totals = made.totals
    assert (totals.conv_layers, totals.linear_layers, made.unregistered) == (0, 0, {})


@pytest.mark.parametrize(
    ("forward", "size", "linear"),
    [
        (lambda m, x: (m.g * m.v) @ x, (8, 5), 1),
        (lambda m, x: (m.g * m.v) @ x, (2, 8, 5), 1),
        (lambda m, x: (m.g * m.v).mT @ x, (2, 3, 8, 5), 1),
        (lambda m, x: torch.tril(m.v) @ x, (2, 8, 5), 1),
        (lambda m, x: m.v.softmax(-1) @ x, (2, 8, 5), 1),
        (lambda m, x: torch.bmm((m.g * m.v).expand(2, 8, 8), x), (2, 8, 5), 1),
        (lambda m, x: torch.einsum("oi,bil->bol", m.g * m.v, x), (2, 8, 5), 1),
        (lambda m, x: torch.einsum("bihw,oi->bohw", x, m.g * m.v), (2, 8, 3, 3), 1),
        (lambda m, x: torch.tensordot(m.g * m.v, x, ([1], [1])), (2, 8, 5), 1),
        (lambda m, x: (m.g @ m.g.mT) @ x, (2, 8, 5), 1),
        (lambda m, x: (m.g @ m.g.mT).relu().softmax(-1) @ x, (2, 8, 5), 1),  # a learned graph
        (lambda m, x: (F.normalize(m.v) @ x).log_softmax(1), (2, 8, 5), 1),
        (lambda m, x: ((m.g * m.v) @ x).relu() @ m.v[:5], (2, 8, 5), 2),
        # queries that are computed from parameters: their scores are no layer
        (lambda m, x: ((m.g * m.v) @ x).softmax(-1) @ x.mT, (2, 8, 5), 0),
        (lambda m, x: F.scaled_dot_product_attention(m.g * m.v, x.mT, x.mT), (2, 8, 5), 0),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_computed_weight_counts_on_either_side_of_a_product(forward, size, linear, device):
    g, v = nn.Parameter(torch.rand(8, 1)), nn.Parameter(torch.randn(8, 8))
    trace = cnnscope.trace(forwarding(forward, g=g, v=v), [torch.ones(size, device=device)])
    assert tuple(weights.weight_layers(trace)) == (0, linear, 0)


class Latents(nn.Module):
    """Learned queries (Jaegle et al. 2021, Perceiver): queries, keys and values, no scores."""

    def __init__(self):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(4, 8))
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        scores = self.q(self.latents)[None] @ self.k(x).transpose(1, 2)
        return scores.softmax(-1) @ self.v(x)


def test_learned_queries_are_projected_and_their_scores_are_no_layer():
    assert depth(Latents(), (2, 5, 8)) == (0, 3, 0)


# ------------------------------------------------------------------- several that are one layer


class Groups(nn.Module):
    """Convolutions over halves of the channels, or over all, laid end to end."""

    def __init__(self, *, halves: bool):
        super().__init__()
        self.halves = halves
        self.a, self.b = (nn.Conv2d(2 if halves else 4, 4, 3) for _ in range(2))

    def forward(self, x):
        a, b = x.chunk(2, 1) if self.halves else (x, x)
        return torch.cat((self.a(a), self.b(b)), 1)


def test_a_grouped_convolution_by_hand_is_one_layer_and_branches_are_two():
    assert depth(Groups(halves=True), (1, 4, 8, 8)) == (1, 0, 0)
    assert depth(Groups(halves=False), (1, 4, 8, 8)) == (2, 0, 0)


# LeCun et al. 1998: C1, C3 (table I), C5, F6; the output compares with fixed prototypes. LeCun et
# al. 1989: H1, H2, H3, output.
@pytest.mark.parametrize(
    ("name", "layers"), [("lenet5_paper", (3, 1, 0)), ("lenet1989", (2, 2, 0))]
)
def test_a_connection_table_is_one_layer(name, layers):
    trace = cnnscope.trace(f"classic:{name}")
    assert weights.weight_layers(trace) == layers
    model = stages.stages_report([trace]).models[0]
    assert model.reruns == 0


def test_stages_show_a_connection_table_with_all_its_channels():
    model = stages.stages_report([cnnscope.trace("classic:lenet5_paper")]).models[0]
    layers = [part for stage in model.stages for item in stage.items for part in item.parts]
    assert [(x.in_channels, x.out_channels) for x in layers if x.kind == "conv"] == [
        (1, 6), (6, 16), (16, 120),
    ]  # fmt: skip


# ---------------------------------------------------------------------------- recurrent layers


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.run = kind(8, 16, batch_first=True, **options)
        self.fc = nn.LazyLinear(4)

    def forward(self, x):
        return self.fc(self.run(x)[0][:, -1])


@pytest.mark.parametrize(
    ("kind", "options", "layers"),
    [
        (nn.LSTM, {"num_layers": 2, "bidirectional": True}, 4),
        (nn.LSTM, {"bidirectional": True, "proj_size": 8}, 2),
        (nn.GRU, {}, 1),
        (nn.RNN, {"num_layers": 3}, 3),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_recurrent_layer_counts_once_for_each_direction(kind, options, layers, device):
    model = Recurrent(kind, **options)
    model(torch.zeros(1, 2, 8))
    given = torch.zeros(2, 7, 8, device=device)
    made = report.report(cnnscope.trace(model, [given]))
    totals = made.totals
    assert (totals.conv_layers, totals.linear_layers, totals.recurrent_layers) == (0, 1, layers)
    assert facts.weight_layers(totals).startswith(f"0 conv + {layers} recurrent + 1 linear = ")


class Cells(nn.Module):
    """Two cells at every step, with states made on the CPU."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fc = nn.LSTMCell(8, 16), nn.GRUCell(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        h, c, g = (torch.zeros(len(x), 16) for _ in range(3))
        for step in range(x.shape[1]):
            h, c = self.first(x[:, step], (h, c))
            g = self.second(h, g)
        return self.fc(g)


class States(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.lstm = nn.GRU(8, 16, 2), nn.LSTM(16, 8)

    def forward(self, x):
        y, _ = self.gru(x, torch.zeros(2, x.shape[1], 16))
        state = torch.zeros(1, x.shape[1], 8)
        return self.lstm(y, hx=(state, state))[0]


@pytest.mark.parametrize(("model", "layers"), [(Cells, (0, 1, 2)), (States, (0, 0, 3))])
def test_states_made_on_the_cpu_leave_the_run_on_meta(model, layers):
    trace = traced(model(), (2, 7, 8))
    assert (trace.device, *weights.weight_layers(trace)) == ("meta", *layers)


def test_a_weight_that_is_normalised_inside_a_recurrent_layer_is_its_own():
    layer = parametrizations.weight_norm(nn.LSTM(8, 16), "weight_hh_l0")
    assert depth(layer, (2, 7, 8)) == (0, 0, 1)


def test_stages_name_recurrent_layers():
    trace = traced(nn.LSTM(8, 16, 2, bidirectional=True), (7, 2, 8))
    model = stages.stages_report([trace]).models[0]
    layers = [part for stage in model.stages for item in stage.items for part in item.parts]
    assert [(x.kind, x.out_channels, x.weights) for x in layers] == [("lstm", 16, 1)]
    assert [item.times for stage in model.stages for item in stage.items] == [4]
    assert (model.recurrent_layers, model.reruns) == (4, 0)


# ---------------------------------------------------------------------------- complex numbers


def test_a_complex_convolution_is_one_layer_of_four_real_products():
    layer = nn.Conv2d(1, 4, 3, padding=1, dtype=torch.complex64)
    trace = cnnscope.trace(layer, [torch.empty(1, 1, 8, 8, dtype=torch.complex64, device="meta")])
    made = report.report(trace)
    assert made.totals.macs == 4 * (4 * 9 * 64) == 9_216
    assert (made.totals.conv_layers, made.totals.params) == (1, 40)
    assert any("complex" in note for note in facts.doubts(made))
    assert len(stages.stages_report([trace]).models[0].stages[0].items) == 1


class ComplexParts(nn.Module):
    """A transposed convolution by real parts, a linear layer and a matrix product."""

    def __init__(self):
        super().__init__()
        self.real, self.imag = (nn.Parameter(torch.randn(3, 4, 3, 3)) for _ in range(2))
        self.fc = nn.Linear(8, 2, dtype=torch.complex64)
        self.w = nn.Parameter(torch.randn(2, 5, dtype=torch.complex64))

    def forward(self, x):
        x = x.to(torch.complex64)
        x = F.conv_transpose2d(x, torch.complex(self.real, self.imag), padding=1)
        return (self.fc(x) @ self.w).abs()


def test_complex_layers_of_every_kind():
    made = summary(ComplexParts(), IMAGE)
    products = 3 * 4 * 9 * 64 + 4 * 8 * 8 * 2 + 4 * 8 * 2 * 5
    assert made.totals.macs == 4 * products
    assert (made.totals.conv_layers, made.totals.linear_layers) == (1, 2)


def test_real_numbers_are_not_said_to_be_complex():
    assert not any("complex" in f for f in facts.doubts(summary(nn.Conv2d(3, 4, 3), IMAGE)))


# --------------------------------------------------------------------------- quantised layers


def packed(pack: str, weight: Tensor, *options) -> object:
    """A weight of 8-bit numbers, as quantised layers hold it."""
    quantised = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    return getattr(torch.ops.quantized, f"{pack}_prepack")(quantised, None, *options)


class Quantised(nn.Module):
    """A grouped convolution, a transposed one and a linear layer."""

    def __init__(self):
        super().__init__()
        one = [1, 1]
        self.conv = packed("conv2d", torch.randn(6, 2, 3, 3), [2, 2], one, one, 2)
        options = ([2, 2], [0, 0], [0, 0], one, 1)
        self.up = packed("conv_transpose2d", torch.randn(6, 4, 2, 2), *options)
        self.fc = packed("linear", torch.randn(8, 8))

    def forward(self, x):
        ops = torch.ops.quantized
        x = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
        x = ops.conv2d_relu(x, self.conv, 0.1, 0)
        x = ops.conv_transpose2d(x, self.up, 0.1, 0)
        return ops.linear(x, self.fc, 0.1, 0).dequantize()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_layers_have_costs_and_are_weight_layers():
    if not {"fbgemm", "x86", "qnnpack"} & set(torch.backends.quantized.supported_engines):
        pytest.skip("this torch has no kernels for them")
    trace = cnnscope.trace(Quantised(), [torch.rand(1, 4, 8, 8)])
    made = report.report(trace)
    # 8x8 halved is 4x4, of 6 channels that see 2 of 4; doubled again, 6 -> 4; 4*8 rows of 8 numbers
    products = (6 * 4 * 4 * 2 * 9, 6 * 4 * 4 * 4 * 4, 4 * 8 * 8 * 8)
    assert [row.macs for row in made.layers if row.macs][1:] == list(products)
    assert made.totals.macs == sum(products)
    assert (made.unknown, tuple(weights.weight_layers(trace))) == ((), (2, 1, 0))
    assert not any("0x" in str(op.attributes) for op in trace.ops)  # of an object in memory
    model = stages.stages_report([trace]).models[0]
    assert (model.conv_layers, model.reruns) == (2, 0)


# ---------------------------------------------------------------------------- not registered


class Hidden(nn.Module):
    """Layers and weights in lists, dicts, tuples and closures."""

    def __init__(self):
        super().__init__()
        self.ls = [nn.Conv2d(3, 8, 3), nn.ReLU()]
        self.d = {"h": (nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)),)}
        learned = torch.randn(2, 4, 1, 1, requires_grad=True)  # and no nn.Parameter
        self.ws = [nn.Parameter(torch.randn(4, 8, 1, 1)), learned]
        inner = nn.Conv2d(2, 2, 1)
        self.fn = lambda x: inner(x) + 0
        self.f = nn.Conv2d(2, 3, 1, bias=False)

    def forward(self, x):
        for layer in self.ls:
            x = layer(x)
        x = self.d["h"][0](x)
        return self.f(self.fn(F.conv2d(F.conv2d(x, self.ws[0]), self.ws[1])))


def test_a_name_is_not_that_of_something_that_died():
    holder = nn.Module()
    holder.cache = torch.ones(3)
    names = strays.Names([("m", holder)])
    assert names.of(holder.cache) == "m.cache"
    other = names._found[id(holder.cache)]
    holder.cache = None
    one = torch.ones(3)
    names._found[id(one)] = other  # as where it was given the id of the dead
    assert names.of(one) == ""


def test_a_list_without_an_end_is_left():
    looked = []

    class Endless(dict):
        def items(self):
            for number in range(10**9):
                looked.append(number)
                yield number, None

    holder = nn.Module()
    holder.held = Endless(a=1)
    strays.Names([("m", holder)])
    assert len(looked) <= 10_001


def test_what_runs_and_is_not_registered_is_named_with_its_elements():
    made = summary(Hidden(), IMAGE)
    assert made.totals.params == 6
    assert made.totals.conv_layers == 6
    assert made.unregistered == {
        "ls.0.weight": 216, "ls.0.bias": 8,
        "d.h.0.0.weight": 64, "d.h.0.0.bias": 8, "d.h.0.1.weight": 8, "d.h.0.1.bias": 8,
        "ws.0": 32, "ws.1": 8, "fn.inner.weight": 4, "fn.inner.bias": 2,
    }  # fmt: skip
    finding, *_ = made.findings
    assert "ls.0 (Conv2d) 224" in finding.sentence
    assert "d.h.0.1 (BatchNorm2d) 16" in finding.sentence
    assert [row.path for row in made.layers if row.operation == "Conv2d"] == [
        "ls.0", "d.h.0.0", "fn.inner", "f",
    ]  # fmt: skip


class Helper:
    """No module, and holds layers all the same."""

    def __init__(self):
        self.conv, self.more = nn.Conv2d(3, 4, 1), {"w": nn.Parameter(torch.randn(2, 4, 1, 1))}

    def __call__(self, x):
        return F.conv2d(self.conv(x), self.more["w"])


GLOBAL = nn.Conv2d(2, 2, 1)


class HeldElsewhere(nn.Module):
    """Layers in an object, as a default, in a partial and in the file."""

    def __init__(self):
        super().__init__()
        self.helper = Helper()
        conv = nn.Conv2d(2, 2, 1)
        self.default = lambda x, conv=conv: conv(x)
        self.part = functools.partial(lambda conv, x: conv(x), nn.Conv2d(2, 2, 1))

    def forward(self, x):
        return GLOBAL(self.part(self.default(self.helper(x))))


def test_names_of_what_objects_functions_and_files_hold():
    made = summary(HeldElsewhere(), IMAGE)
    assert [name for name in made.unregistered if not name.endswith("bias")] == [
        "helper.conv.weight", "helper.more.w", "default.conv.weight", "part.0.weight",
        "GLOBAL.weight",
    ]  # fmt: skip


class MadeInside(nn.Module):
    def forward(self, x):
        return nn.Conv2d(4, 5, 1)(nn.ReLU()(nn.Conv2d(3, 4, 1)(x)))


def test_layers_made_by_a_forward_are_told_apart():
    made = summary(MadeInside(), IMAGE)
    called = [row.path for row in made.layers[1:] if row.kind == "module"]
    assert called == ["Conv2d", "ReLU", "Conv2d_1"]
    assert made.unregistered["Conv2d_1.weight"] == 20


class GrowsLate(nn.Module):
    """A head and a table that are there only after the first forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 1), None

    def forward(self, x):
        y = self.conv(x)
        if self.head is None:
            self.head = nn.Conv2d(4, 5, 1)
            self.register_buffer("table", torch.randn(5, 1, 1, device=x.device))
        return self.head(y) + self.table


def test_what_a_forward_registers_itself_is_said_and_not_taken_for_forgotten():
    made = summary(GrowsLate(), IMAGE)
    (note,) = made.notes
    assert note.startswith("its forward registers table (5), head.weight (20), head.bias (5): not")
    assert made.totals.params == 16  # 3 * 4 + 4: those that an optimizer is given
    # neither "missing from its state_dict" nor "two runs on one input differ"
    assert {finding.kind.value for finding in made.findings} <= {"linear pair"}


def test_constants_and_registered_weights_are_not_named():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.tensor([0.5, 0.4, 0.3])
            self.conv = nn.Conv2d(3, 4, 1)
            self.again = [self.conv]

        def forward(self, x):
            return self.again[0](x - self.mean.to(x.device)[:, None, None])

    made = summary(Plain(), IMAGE)
    assert (made.unregistered, made.notes) == ({}, ())


# ------------------------------------------------------------------------------ paths by chance


class Chosen(nn.Module):
    """One or some of four layers."""

    def __init__(self):
        super().__init__()
        self.ls = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.rng = np.random.default_rng(0)
        self.own = random.Random(0)


def chosen(pick) -> nn.Module:
    class Chooses(Chosen):
        def forward(self, x):
            for index in pick(self):
                x = self.ls[index](x)
            return x

    return Chooses()


@pytest.mark.parametrize(
    ("pick", "source"),
    [
        (lambda _: [int(torch.rand(1).item() < 0.5)], "torch"),
        (lambda _: [int(torch.randint(4, (1,)))], "torch"),
        (lambda _: torch.randperm(4).tolist()[:2], "torch"),
        (lambda _: [bool(torch.bernoulli(torch.tensor(0.5)))], "torch"),
        (lambda _: [random.randrange(4)], "Python's random"),
        (lambda _: [np.random.randint(4)], "numpy.random"),  # noqa: NPY002  as people write
        (lambda self: [int(self.rng.integers(4))], "a generator of its own"),
        (lambda self: [self.own.randrange(4)], "a generator of its own"),
        (lambda _: [random.SystemRandom().randrange(4)], "the operating system's"),
        (lambda _: [secrets.choice(range(4))], "the operating system's"),
        (lambda _: [os.urandom(1)[0] % 4], "the operating system's"),
        (lambda _: [int(np.random.default_rng().integers(4))], "the operating system's"),
    ],
)
def test_a_random_choice_is_said(pick, source):
    made = summary(chosen(pick), IMAGE)
    assert made.decided_by == ("random",)
    assert any(f"random numbers ({source})" in f.sentence for f in made.findings)
    assert any(f.startswith("not used in this run: ls.") for f in facts.findings(made))


def test_a_checkpoint_draws_the_name_of_its_graph_and_chooses_nothing():
    class Repeats(nn.Conv2d):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    assert summary(Repeats(3, 4, 1), IMAGE).decided_by == ()


def test_what_notices_random_numbers_of_the_system_is_taken_back():
    before = os.urandom, vars(random)["_urandom"]
    summary(chosen(lambda _: [secrets.randbelow(4)]), IMAGE)
    assert (os.urandom, vars(random)["_urandom"]) == before


def test_a_generator_without_a_state_is_no_obstacle():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model.rng = random.SystemRandom()
    assert summary(model, IMAGE).decided_by == ()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_random_numbers_that_nobody_looks_at_choose_nothing(device):
    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return F.dropout(self.used(x) + torch.randn_like(x), training=True)

    made = report.report(cnnscope.trace(Noise(), [torch.zeros(IMAGE, device=device)]))
    assert (made.decided_by, made.notes) == ((), ())
    assert any(f.startswith("defined but never used: idle") for f in facts.findings(made))


class Routed(nn.Module):
    """Tokens by the largest of two scores (Shazeer et al. 2017)."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        chosen = self.gate(x).argmax(-1)
        made = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            mask = chosen == index
            if mask.any():
                made[mask] = expert(x[mask])
        return made


def test_routing_by_data_is_said():
    made = report.report(cnnscope.trace(Routed(), [torch.ones(3, 4)]))
    assert made.decided_by == ("data",)
    (unused,) = [f for f in facts.findings(made) if "experts" in f]
    assert unused.startswith("not used in this run")
    by_name = cnnscope.summary(Routed(), ["3x4"])
    assert by_name.decided_by == ("data",)
    assert "looks at its data" in by_name.notes[0]


class Tries(nn.Module):
    """A layer that refuses the input, and one in its place."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.scale = (
            nn.Linear(5, 4),
            nn.Linear(8, 4),
            nn.Parameter(torch.ones(4)),
        )

    def forward(self, x):
        self.scale.view(2, 2)  # that nothing reads
        try:
            return self.one(x)
        except RuntimeError:
            return self.other(x)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_of_a_layer_that_raised_are_unused(device):
    made = report.report(cnnscope.trace(Tries(), [torch.ones((2, 8), device=device)]))
    assert made.unused == {"scale": 4, "one.weight": 20, "one.bias": 4}


# ------------------------------------------------------------------------------- rows of calls


class CallsItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 3, 1)

    def forward(self, x, n=2):
        return self(self.c(x), n - 1) if n else x


def test_a_model_that_calls_itself_has_names_and_numbers():
    rows = summary(CallsItself(), IMAGE).layers
    assert [(row.name, row.call) for row in rows[1:]] == [
        ("c", 1), ("CallsItself", 2), ("c", 2), ("CallsItself", 3),
    ]  # fmt: skip
    assert rows[0].call == 1


class Hooked(nn.Module):
    """Hooks that halve the channels of one layer, and crop and flatten those of another."""

    def __init__(self):
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 8, 3)
        self.c.register_forward_hook(lambda _m, _i, out: out[:, :4])
        self.d.register_forward_pre_hook(lambda _m, given: (given[0][..., :4],))
        self.d.register_forward_hook(lambda _m, _i, out: out.flatten(1))

    def forward(self, x):
        return self.d(self.c(x))


def test_a_row_has_what_the_call_gave_back_after_all_hooks():
    model = Hooked()
    hooks = [dict(m._forward_hooks) for m in model.modules()]
    made = summary(model, IMAGE)
    assert [row.output_shapes for row in made.layers[1:]] == [((1, 4, 8, 8),), ((1, 8 * 6 * 2),)]
    assert made.mismatches == ()
    assert [dict(m._forward_hooks) for m in model.modules()] == hooks


class Shares(nn.Module):
    """Buffers that share the storage of weights, whole and in part."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 1)
        self.register_buffer("whole", self.c.weight.detach())
        self.register_buffer("part", self.c.weight.detach()[:2])

    def forward(self, x):
        return self.c(x)


def test_a_buffer_that_shares_a_weight_leaves_it_a_parameter():
    made = summary(Shares(), IMAGE)
    assert (made.totals.params, made.totals.buffers) == (16, 12 + 6)
    assert (made.layers[-1].path, made.layers[-1].params, made.shared) == ("c", 16, {})


# --------------------------------------------------------------------------------- on meta


class Variational(nn.Module):
    """A latent of a normal distribution (Kingma and Welling 2014)."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 4), nn.Linear(2, 6)

    def forward(self, x):
        mean, spread = self.encode(x).chunk(2, -1)
        latent = torch.distributions.Normal(mean, spread.exp())
        return self.decode(latent.rsample()), torch.distributions.Categorical(logits=mean)


def test_distributions_of_what_a_network_answers_stay_on_meta():
    checks = torch.distributions.Distribution._validate_args
    trace = traced(Variational(), (3, 6))
    made = report.report(trace)
    assert (trace.device, made.totals.macs) == ("meta", 3 * (6 * 4 + 2 * 6))
    assert made.unknown == ()
    assert torch.distributions.Distribution._validate_args == checks


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(16, 32, batch_first=True, bidirectional=True)

    def forward(self, x):
        lengths = torch.tensor([7, 5, 2])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


def test_packed_sequences_stay_on_meta_and_count_the_steps_that_there_are():
    trace = traced(Packed(), (3, 7, 16))
    # 14 steps in all, 4 gates of 32 units on 16 inputs and 32 states, in 2 directions
    assert (trace.device, report.report(trace).totals.macs) == ("meta", 14 * 4 * 32 * 48 * 2)
