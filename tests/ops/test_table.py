"""The operation table: its formulas against arithmetic by hand and against torch's counter."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d, deform_conv2d, nms, roi_align

from cnnscope.ops import entry, products, table
from cnnscope.records.summary import UnknownOp
from cnnscope.records.trace import OpRecord, Source, TensorRecord, Trace
from cnnscope.reports.summary import report
from cnnscope.tracing.tracer import trace


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, device="meta", dtype=dtype)


class Function(nn.Module):
    """A module that runs a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def totals(module, *inputs):
    """Totals of a module (or function) in which every operation is known."""
    module = module if isinstance(module, nn.Module) else Function(module)
    answer = report(trace(module, inputs))
    assert answer.unknown == ()
    return answer.totals


def macs(module, *inputs):
    return totals(module, *inputs).macs


def element_ops(module, *inputs):
    found = totals(module, *inputs)
    assert found.macs == 0
    return found.element_ops


# --------------------------------------------------------------------------- convolutions

CONVOLUTIONS = {
    # 12 - 3 + 1 = 10 positions; 10 * 6 out * 4 in * 3
    "conv1d": (nn.Conv1d(4, 6, 3), (1, 4, 12), 10 * 6 * 4 * 3),
    # 10x10 positions; 100 * 8 * 3 * 3*3
    "conv2d": (nn.Conv2d(3, 8, 3), (1, 3, 12, 12), 100 * 8 * 3 * 9),
    # 4x5x6 positions; 120 * 5 * 2 * 27
    "conv3d": (nn.Conv3d(2, 5, 3), (1, 2, 6, 7, 8), 120 * 5 * 2 * 27),
    # as conv2d, for each of 7 images
    "batch": (nn.Conv2d(3, 8, 3), (7, 3, 12, 12), 7 * 100 * 8 * 3 * 9),
    # the same 21600 without a batch axis
    "unbatched": (nn.Conv2d(3, 8, 3), (3, 12, 12), 21_600),
    # without a batch axis, one axis: 10 * 6 * 4 * 3
    "unbatched 1d": (nn.Conv1d(4, 6, 3), (4, 12), 720),
    # ResNet's first layer: (224 + 6 - 7)//2 + 1 = 112; 112*112 * 64 * 3 * 49 = 118 013 952
    "stride": (nn.Conv2d(3, 64, 7, stride=2, padding=3), (1, 3, 224, 224), 118_013_952),
    # (11 - 1)//3 + 1 = 4 by (11 - 1)//2 + 1 = 6; 24 * 5 * 2 * 1
    "strides": (nn.Conv2d(2, 5, 1, stride=(3, 2)), (1, 2, 11, 11), 24 * 5 * 2),
    # spans 1 + 2*(3 - 1) = 5: 12 - 5 + 1 = 8; 64 * 8 * 3 * 9 (a dilated kernel has no more weights)
    "dilation": (nn.Conv2d(3, 8, 3, dilation=2), (1, 3, 12, 12), 64 * 8 * 3 * 9),
    # 12 - 3 + 1 = 10 by 12 - 5 + 1 = 8; 80 * 8 * 3 * 15
    "not square": (nn.Conv2d(3, 8, (3, 5)), (1, 3, 12, 12), 80 * 8 * 3 * 15),
    # the output is as large as the input: 12*12 * 8 * 3 * 25
    "same": (nn.Conv2d(3, 8, 5, padding="same"), (1, 3, 12, 12), 144 * 8 * 3 * 25),
    # an even kernel too: 12*12 * 8 * 3 * 16
    "same, even": (nn.Conv2d(3, 8, 4, padding="same"), (1, 3, 12, 12), 144 * 8 * 3 * 16),
    # even and dilated: 12 * 6 * 4 * 2
    "same, even, dilated": (
        nn.Conv1d(4, 6, 2, padding="same", dilation=3),
        (1, 4, 12),
        12 * 6 * 4 * 2,
    ),
    # 10*10 * 8 * 3 * 9
    "valid": (nn.Conv2d(3, 8, 3, padding="valid"), (1, 3, 12, 12), 100 * 8 * 3 * 9),
    # each output channel sees 6/3 = 2 channels: 100 * 9 * 2 * 9
    "groups": (nn.Conv2d(6, 9, 3, groups=3), (1, 6, 12, 12), 100 * 9 * 2 * 9),
    # each output channel sees one: 144 * 6 * 1 * 9
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 12, 12), 144 * 6 * 9),
    # two outputs per channel: 144 * 12 * 1 * 9
    "depthwise x2": (nn.Conv2d(6, 12, 3, padding=1, groups=6), (1, 6, 12, 12), 144 * 12 * 9),
    # the bias is where a sum begins and costs nothing: 100 * 8 * 3 * 9 without it as well
    "no bias": (nn.Conv2d(3, 8, 3, bias=False), (1, 3, 12, 12), 100 * 8 * 3 * 9),
    # padded by copies first: 12*12 * 8 * 3 * 9
    "circular": (
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"),
        (1, 3, 12, 12),
        144 * 8 * 3 * 9,
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_counts_one_window_per_output(case):
    module, shape, expected = CONVOLUTIONS[case]
    assert macs(module, meta(*shape)) == expected


TRANSPOSED = {
    # every input position meets the kernel once, whatever the output size: 5*6 * 8*16 * 9
    "stride 2": (
        nn.ConvTranspose2d(8, 16, 3, stride=2, padding=1, output_padding=1),
        (1, 8, 5, 6),
        5 * 6 * 8 * 16 * 9,
    ),
    # 10 * 4*6 * 3
    "1d": (nn.ConvTranspose1d(4, 6, 3, stride=3), (1, 4, 10), 10 * 4 * 6 * 3),
    # 2*3*4 * 4*6 * 8
    "3d": (nn.ConvTranspose3d(4, 6, 2, stride=2), (1, 4, 2, 3, 4), 24 * 24 * 8),
    # 3 * 5*6 * 8*16 * 4
    "batch": (nn.ConvTranspose2d(8, 16, 2, stride=2), (3, 8, 5, 6), 3 * 30 * 128 * 4),
    # no batch axis
    "unbatched": (nn.ConvTranspose2d(8, 16, 2, stride=2), (8, 5, 6), 30 * 128 * 4),
    # each input channel scatters into 16/4 = 4 channels: 30 * 8*4 * 9
    "groups": (nn.ConvTranspose2d(8, 16, 3, stride=2, groups=4), (1, 8, 5, 6), 30 * 32 * 9),
    # into one: 30 * 8*1 * 16
    "depthwise": (nn.ConvTranspose2d(8, 8, 4, stride=2, groups=8), (1, 8, 5, 6), 30 * 8 * 16),
    # 30 * 8*16 * 9
    "dilation": (nn.ConvTranspose2d(8, 16, 3, dilation=2), (1, 8, 5, 6), 30 * 128 * 9),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_is_counted_from_its_input(case):
    module, shape, expected = TRANSPOSED[case]
    assert macs(module, meta(*shape)) == expected


def test_convolution_costs_the_same_on_cpu_and_meta():
    # 4*5 outputs * 8 * 2 * 9 (groups); 4*5 inputs * 8*4 * 4 (transposed, groups)
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)
    )
    expected = 20 * 8 * 2 * 9 + 20 * 8 * 4 * 4
    assert macs(model, meta(1, 4, 6, 7)) == expected
    assert macs(model, torch.zeros(1, 4, 6, 7)) == expected


def test_functional_convolution_is_counted():
    # 10*10 * 8 * 3 * 9
    assert macs(F.conv2d, meta(1, 3, 12, 12), meta(8, 3, 3, 3)) == 21_600


def test_deformable_convolution_counts_like_a_convolution():
    # the offsets are given: 2 images * 6*6 * 8 * 4 * 9
    expected = 2 * 36 * 8 * 4 * 9
    given = ((2, 4, 6, 6), (2, 18, 6, 6), (8, 4, 3, 3))

    def run(data, offset, weight):
        return deform_conv2d(data, offset, weight, padding=1)

    assert macs(run, *(meta(*shape) for shape in given)) == expected
    assert macs(run, *(torch.zeros(shape) for shape in given)) == expected


def test_grouped_deformable_convolution_sees_one_group():
    # 6*6 positions * 8 out channels * 4/2 in channels * 9
    module = DeformConv2d(4, 8, 3, padding=1, groups=2)
    assert macs(module, meta(1, 4, 6, 6), meta(1, 18, 6, 6)) == 36 * 8 * 2 * 9


# ------------------------------------------------------------------------ matrix products


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "positions"), [((16,), 1), ((5, 16), 5), ((2, 7, 16), 14), ((2, 3, 4, 16), 24)]
)
def test_linear_counts_every_leading_position(shape, positions, bias):
    # positions * 16 in * 10 out
    assert macs(nn.Linear(16, 10, bias=bias), meta(*shape)) == positions * 160


PRODUCTS = {
    # 3 rows * 4 inner * 5 columns
    "mm": (torch.mm, ((3, 4), (4, 5)), 60),
    "matmul 2-D": (torch.matmul, ((3, 4), (4, 5)), 60),
    # broadcast to 2*6 products of 60
    "matmul 4-D by 3-D": (torch.matmul, ((2, 1, 3, 4), (6, 4, 5)), 720),
    # (2*3) * 4 * 5: the batch folds into the rows
    "matmul 3-D by 2-D": (torch.matmul, ((2, 3, 4), (4, 5)), 120),
    # 3 * 4
    "matmul matrix by vector": (torch.matmul, ((3, 4), (4,)), 12),
    # 4 * 5
    "matmul vector by matrix": (torch.matmul, ((4,), (4, 5)), 20),
    # 4
    "matmul vector by vector": (torch.matmul, ((4,), (4,)), 4),
    # 2 * 3 * 4 * 5
    "bmm": (torch.bmm, ((2, 3, 4), (2, 4, 5)), 120),
    "baddbmm": (torch.baddbmm, ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 120),
    "addbmm": (torch.addbmm, ((3, 5), (2, 3, 4), (2, 4, 5)), 120),
    # 3 * 4 * 5: the sums begin at the first argument
    "addmm": (torch.addmm, ((5,), (3, 4), (4, 5)), 60),
    # 3 * 4
    "mv": (torch.mv, ((3, 4), (4,)), 12),
    "addmv": (torch.addmv, ((3,), (3, 4), (4,)), 12),
    # 7
    "dot": (torch.dot, ((7,), (7,)), 7),
    "vdot": (torch.vdot, ((7,), (7,)), 7),
    # 2*3 products of 7 * 8 * 9
    "einsum": (
        lambda q, k: torch.einsum("bhqd,bhkd->bhqk", q, k),
        ((2, 3, 7, 8), (2, 3, 9, 8)),
        6 * 7 * 8 * 9,
    ),
    # 3 rows * (4*5) inner * 6 columns
    "tensordot": (lambda a, b: torch.tensordot(a, b, 2), ((3, 4, 5), (4, 5, 6)), 360),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_matrix_product_counts_rows_inner_columns(case):
    function, shapes, expected = PRODUCTS[case]
    assert macs(function, *(meta(*shape) for shape in shapes)) == expected


def test_outer_product_is_element_operations():
    # nothing is summed: 3 * 4 multiplications
    assert element_ops(lambda a, b: torch.einsum("i,j->ij", a, b), meta(3), meta(4)) == 12


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_bilinear_multiplies_every_pair_twice(device):
    # 3 rows * 6 outputs * (4 * 5) pairs, each x1 * A * x2: two products
    left, right = torch.zeros(3, 4, device=device), torch.zeros(3, 5, device=device)
    assert macs(nn.Bilinear(4, 5, 6), left, right) == 3 * 6 * 20 * 2


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_counts_scores_and_values(device):
    # 2*3 heads: scores 7 queries * 9 keys * 8 features, values 7 * 9 * 5
    query = torch.zeros(2, 3, 7, 8, device=device)
    key = torch.zeros(2, 3, 9, 8, device=device)
    value = torch.zeros(2, 3, 9, 5, device=device)
    found = macs(F.scaled_dot_product_attention, query, key, value)
    assert found == 6 * (7 * 9 * 8 + 7 * 9 * 5)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_fused_attention_counts_as_much_as_its_products(device):
    # one head size takes the fused kernel on a CPU: 6 heads * 2 products * 7 * 7 * 8
    given = [torch.zeros(2, 3, 7, 8, device=device) for _ in range(3)]
    assert macs(F.scaled_dot_product_attention, *given) == 6 * 2 * 7 * 7 * 8


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_grouped_query_attention_counts_every_query_head(device):
    # 2*4 query heads share 2*2 key heads: 8 * 2 products * 7 * 9 * 8
    query = torch.zeros(2, 4, 7, 8, device=device)
    key = torch.zeros(2, 2, 9, 8, device=device)

    def run(query, key):
        return F.scaled_dot_product_attention(query, key, key, enable_gqa=True)

    assert macs(run, query, key) == 8 * 2 * 7 * 9 * 8


def test_multihead_attention_counts_projections_and_products():
    # 2 sequences of 5, width 8: four projections 10 * 8 * 8, two products 2*2 heads * 5 * 5 * 4
    data = meta(2, 5, 8)
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    assert macs(module, data, data, data) == 4 * 10 * 64 + 2 * 4 * 25 * 4


RECURRENT = {
    # per step and sequence: 4 gates * (4*3 + 4*4) = 112; 5 steps * 2 sequences
    "lstm": (nn.LSTM(3, 4), 10 * 112),
    # 3 gates * (12 + 16) = 84
    "gru": (nn.GRU(3, 4), 10 * 84),
    # one gate of 12 + 16 = 28
    "rnn": (nn.RNN(3, 4), 10 * 28),
    # two directions of 112, then two of 4 * (4*8 + 4*4) = 192
    "deep, both directions": (
        nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        10 * (2 * 112 + 2 * 192),
    ),
    # 4 * (4*3 + 4*2) = 80, and the projection 2*4
    "projected": (nn.LSTM(3, 4, proj_size=2), 10 * 88),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("case", RECURRENT)
def test_recurrent_network_counts_every_time_step(case, device):
    module, expected = RECURRENT[case]
    assert macs(module, torch.zeros(5, 2, 3, device=device)) == expected


@pytest.mark.parametrize(
    ("module", "expected"), [(nn.LSTMCell(3, 4), 2 * 112), (nn.GRUCell(3, 4), 2 * 84)]
)
def test_recurrent_cell_counts_one_step(module, expected):
    # 2 sequences * 4 gates * (12 + 16); 2 * 3 gates * 28
    assert macs(module, meta(2, 3)) == expected


def test_flops_are_twice_the_macs():
    # 60 MACs
    assert totals(torch.mm, meta(3, 4), meta(4, 5)).flops == 120


# ---------------------------------------------------------------------- element operations

N = 2 * 4 * 6 * 6  # elements of the input below
STEPS = {
    # y = a x + b with constant statistics
    "batch norm": (nn.BatchNorm2d(4), 2 * N),
    # mean 1, variance 3, scale 1, weight 1, bias 1
    "layer norm": (nn.LayerNorm(6), 7 * N),
    "layer norm, weight only": (nn.LayerNorm(6, bias=False), 6 * N),
    "layer norm, plain": (nn.LayerNorm(6, elementwise_affine=False), 5 * N),
    "group norm": (nn.GroupNorm(2, 4), 7 * N),
    # one comparison
    "relu": (nn.ReLU(), N),
    # two comparisons
    "relu6": (nn.ReLU6(), 2 * N),
    # compare, multiply
    "leaky relu": (nn.LeakyReLU(), 2 * N),
    # negate, exp, add, reciprocal
    "sigmoid": (nn.Sigmoid(), 4 * N),
    # sigmoid, multiply
    "silu": (nn.SiLU(), 5 * N),
    # divide, erf, add, multiply, halve
    "gelu": (nn.GELU(), 5 * N),
    # add, two comparisons, divide; and multiply
    "hard sigmoid": (nn.Hardsigmoid(), 4 * N),
    "hard swish": (nn.Hardswish(), 5 * N),
    "tanh": (nn.Tanh(), N),
    # max, subtract, exp, sum, divide
    "softmax": (nn.Softmax(1), 5 * N),
    # the sigmoid of one half times the other: half as many outputs, 5 each
    "glu": (nn.GLU(1), 5 * N // 2),
    # 3x3 outputs per channel, 4 elements each
    "max pool": (nn.MaxPool2d(2), 2 * 4 * 9 * 4),
    # 2x3 outputs, 6 elements each
    "avg pool": (nn.AvgPool2d((3, 2)), 2 * 4 * 6 * 6),
    # 3x3 outputs, 9 elements each (windows overlap)
    "max pool, overlapping": (nn.MaxPool2d(3, 2, 1), 2 * 4 * 9 * 9),
    # every input element once
    "adaptive avg pool": (nn.AdaptiveAvgPool2d(3), N),
    "adaptive avg pool to 1": (nn.AdaptiveAvgPool2d(1), N),
    "adaptive max pool": (nn.AdaptiveMaxPool2d(3), N),
    # 4 N outputs, 4 taps of 2; 16 taps of 2; copies
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), 4 * N * 8),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), 4 * N * 32),
    "nearest": (nn.Upsample(scale_factor=2), 0),
    # nothing is computed
    "flatten": (nn.Flatten(), 0),
    "dropout": (nn.Dropout(), 0),
    "reflection pad": (nn.ReflectionPad2d(1), 0),
    "pixel shuffle": (nn.PixelShuffle(2), 0),
    "unfold": (nn.Unfold(2), 0),
}


@pytest.mark.parametrize("case", STEPS)
def test_element_operations_count_steps_per_element(case):
    module, expected = STEPS[case]
    assert element_ops(module, meta(2, 4, 6, 6)) == expected


OTHER_AXES = {
    # 2*4 channels * 3 windows * 2 elements
    "max pool 1d": (nn.MaxPool1d(2), (2, 4, 6), 8 * 3 * 2),
    "avg pool 1d": (nn.AvgPool1d(2), (2, 4, 6), 8 * 3 * 2),
    # 8 * 27 windows * 8 elements
    "max pool 3d": (nn.MaxPool3d(2), (2, 4, 6, 6, 6), 8 * 27 * 8),
    "avg pool 3d": (nn.AvgPool3d(2), (2, 4, 6, 6, 6), 8 * 27 * 8),
    # 8 * 12 outputs * 2 taps * 2
    "linear upsampling": (nn.Upsample(scale_factor=2, mode="linear"), (2, 4, 6), 8 * 12 * 4),
    # 8 * 4*4*4 outputs * 8 taps * 2
    "trilinear upsampling": (
        nn.Upsample(scale_factor=2, mode="trilinear"),
        (2, 4, 2, 2, 2),
        8 * 64 * 16,
    ),
    "batch norm 1d": (nn.BatchNorm1d(4), (2, 4, 6), 2 * 48),
    "batch norm 3d": (nn.BatchNorm3d(4), (2, 4, 2, 2, 2), 2 * 64),
}


@pytest.mark.parametrize("case", OTHER_AXES)
def test_steps_in_one_and_three_axes(case):
    module, shape, expected = OTHER_AXES[case]
    assert element_ops(module, meta(*shape)) == expected


def test_norms_that_measure_their_input_cost_more_than_constant_ones():
    # instance norm without running statistics: mean 1, variance 3, scale 1 at the least
    found = element_ops(nn.InstanceNorm2d(4), meta(2, 4, 6, 6))
    assert found >= 5 * N


def test_prelu_takes_the_steps_of_leaky_relu():
    # compare, multiply
    assert element_ops(nn.PReLU(), meta(2, 4, 6, 6)) == 2 * N


def test_residual_add_in_place_is_one_step_per_element():
    # 3 * 4
    assert element_ops(lambda a, b: a.clone().add_(b), meta(3, 4), meta(3, 4)) == 12


def test_reduction_counts_what_goes_in():
    # 3 * 4 elements each
    assert element_ops(lambda a: a.sum(), meta(3, 4)) == 12
    assert element_ops(lambda a: a.mean(1), meta(3, 4)) == 12


def test_grid_sample_mixes_four_neighbours():
    # 2*4 channels * 3*3 points * 4 taps * 2 steps
    found = element_ops(
        lambda data, grid: F.grid_sample(data, grid, align_corners=False),
        meta(2, 4, 6, 6),
        meta(2, 3, 3, 2),
    )
    assert found == 8 * 9 * 8


def test_roi_align_mixes_four_neighbours_per_sampling_point():
    # 3 boxes * 4 channels * 7*7 bins * 2*2 points * 4 taps * 2 steps
    found = element_ops(
        lambda data, boxes: roi_align(data, boxes, (7, 7), sampling_ratio=2),
        meta(1, 4, 16, 16),
        meta(3, 5),
    )
    assert found == 3 * 4 * 49 * 4 * 8


def test_nms_compares_every_pair_of_boxes():
    # 10*9/2 pairs * 9 steps
    boxes, scores = torch.rand(10, 4), torch.rand(10)
    assert element_ops(lambda b, s: nms(b, s, 0.5), boxes, scores) == 45 * 9


# ------------------------------------------------------------- beside torch's own counter


def _random_convolution(rng):
    axes, groups = rng.randint(1, 3), rng.choice([1, 1, 2, 3])
    options = {
        "kernel_size": tuple(rng.randint(1, 4) for _ in range(axes)),
        "stride": tuple(rng.randint(1, 3) for _ in range(axes)),
        "padding": tuple(rng.randint(0, 2) for _ in range(axes)),
        "dilation": tuple(rng.randint(1, 2) for _ in range(axes)),
        "groups": groups,
        "bias": rng.random() < 0.5,
    }
    kinds = [(nn.Conv1d, nn.Conv2d, nn.Conv3d)]
    kinds.append((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    channels = groups * rng.randint(1, 4)
    kind = rng.choice(kinds)[axes - 1]
    batch = (rng.randint(1, 3),) if rng.random() < 0.8 else ()
    sizes = (rng.randint(8, 12) for _ in range(axes))
    module = kind(channels, groups * rng.randint(1, 4), **options)
    return module, [(*batch, channels, *sizes)]


def _random_linear(rng):
    features = rng.randint(1, 9)
    lead = (rng.randint(1, 5) for _ in range(rng.randint(1, 3)))
    return nn.Linear(features, rng.randint(1, 9), bias=rng.random() < 0.5), [(*lead, features)]


def _random_product(rng):
    rows, inner, columns, batch = (rng.randint(1, 6) for _ in range(4))
    lead = (batch,) * rng.randint(0, 2)
    return Function(torch.matmul), [(*lead, rows, inner), (*lead, inner, columns)]


def _random_attention(rng):
    batch, heads, queries, keys, width = (rng.randint(1, 5) for _ in range(5))
    key = (batch, heads, keys, width)
    shapes = [(batch, heads, queries, width), key, key]
    return Function(F.scaled_dot_product_attention), shapes


def _random_recurrent(rng):
    kind, size = rng.choice([nn.LSTM, nn.GRU, nn.RNN]), rng.randint(1, 5)
    module = kind(
        size, rng.randint(2, 5), num_layers=rng.randint(1, 2), bidirectional=rng.random() < 0.5
    )
    return module, [(rng.randint(1, 4), rng.randint(1, 3), size)]


def _random_transformer(rng):
    heads = rng.randint(1, 3)
    width = heads * rng.randint(1, 4)
    module = nn.TransformerEncoderLayer(width, heads, rng.randint(1, 9), 0.0, batch_first=True)
    return module, [(rng.randint(1, 3), rng.randint(2, 5), width)]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    "make",
    [
        _random_convolution,
        _random_linear,
        _random_product,
        _random_attention,
        _random_recurrent,
        _random_transformer,
    ],
)
def test_macs_are_half_of_what_torch_counts(make, seed):
    module, shapes = make(random.Random(f"{make.__name__} {seed}"))
    inputs = [meta(*shape) for shape in shapes]
    with FlopCounterMode(display=False) as counter:
        module.to("meta")(*inputs)
    assert counter.get_total_flops() > 0
    assert 2 * macs(module, *inputs) == counter.get_total_flops(), (module, shapes)


# --------------------------------------------------------------------------------- the table

# Names of the table that the newest torch does not have, and why they stay.
NOT_IN_NEWEST_TORCH: dict[str, str] = {}
NEWEST_TORCH = (2, 15)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < NEWEST_TORCH,
    reason="the table may name what this torch does not have yet",
)
def test_table_names_operations_of_torch():
    plain = {name for name in table.TABLE if "." not in name}
    assert len(plain) > 300
    assert {name for name in plain if not hasattr(torch.ops.aten, name)} == set(NOT_IN_NEWEST_TORCH)


def test_table_names_operations_of_torchvision():
    names = {name for name in table.TABLE if name.startswith("torchvision.")}
    assert "torchvision.nms" in names
    for name in names:
        assert hasattr(torch.ops.torchvision, name.removeprefix("torchvision.")), name


def test_dotted_names_belong_to_other_libraries_of_torch_or_to_the_tracer():
    spaces = {name.partition(".")[0] for name in table.TABLE if "." in name}
    known = "torchvision profiler quantized quantized_decomposed torchao cnnscope"
    assert spaces == set(known.split())


def test_only_products_have_macs_and_rearrangements_have_no_steps():
    given = trace(Function(torch.mm), (meta(3, 4), meta(4, 5)))
    op = table.Op(given, given.ops[0])
    for name, found in table.TABLE.items():
        if found.kind is not table.Kind.PRODUCT:
            assert found.macs(op) == (), name
        if found.kind in (table.Kind.REARRANGE, table.Kind.CREATE):
            assert found.steps(op) == (), name


def test_factors_multiply_to_the_macs():
    # 1 image * 10*10 positions * 8 out * 3 in * 9
    given = trace(nn.Conv2d(3, 8, 3), (meta(1, 3, 12, 12),))
    (factors,) = products.convolution(table.Op(given, given.ops[0]))
    assert factors == {
        "batch": 1,
        "output positions": (10, 10),
        "out channels": 8,
        "in channels per group": 3,
        "kernel": (3, 3),
    }
    assert table.product(factors) == table.macs(given, given.ops[0]) == 21_600


@pytest.mark.parametrize(
    ("full", "base"),
    [
        ("aten.add.Tensor", "add"),
        ("aten.add_.Tensor", "add"),
        ("aten.relu_.default", "relu"),
        ("aten.native_batch_norm.default", "native_batch_norm"),
        ("aten._softmax.default", "_softmax"),
        ("aten.__and__.Tensor", "__and__"),
        ("aten.max_pool2d_with_indices.default", "max_pool2d_with_indices"),
        ("torchvision.nms.default", "torchvision.nms"),
        ("cnnscope.window", "cnnscope.window"),
    ],
)
def test_base_name_drops_namespace_overload_and_in_place_mark(full, base):
    assert table.base_name(full) == base


def test_lookup_finds_in_place_forms_and_not_the_unknown():
    assert table.lookup("aten.relu_.default") is table.TABLE["relu"]
    assert table.lookup("aten.no_such_operation.default").kind is table.Kind.UNKNOWN
    assert table.lookup("elsewhere.relu.default").kind is table.Kind.UNKNOWN


def test_an_operation_cannot_be_entered_twice():
    with pytest.raises(ValueError, match="relu has two entries"):
        entry.enter("relu", table.TABLE["relu"])


# ------------------------------------------- operations as some device or version shows them


def hand_written(name, out, shapes, **attributes):
    """MACs and element operations of one operation that is only written down."""
    tensors = [TensorRecord(shape, "float32", n) for n, shape in enumerate((out, *shapes.values()))]
    inputs = {argument: n for n, argument in enumerate(shapes, 1)}
    record = OpRecord(name, inputs, (0,), attributes)
    given = Trace(Source("", "", ""), (), (), (), (), (), tuple(tensors), (), (record,))
    return table.macs(given, record), table.element_ops(given, record)


def test_convolution_without_a_batch_axis_is_one_image():
    # 10*10 * 8 * 3 * 9; transposed 5*6 * 8*16 * 9
    plain = {"input": (3, 12, 12), "weight": (8, 3, 3, 3)}
    assert hand_written("aten.conv2d.default", (8, 10, 10), plain) == (21_600, 0)
    turned = {"input": (8, 5, 6), "weight": (8, 16, 3, 3)}
    found = hand_written("aten.convolution.default", (16, 10, 12), turned, transposed=True)
    assert found == (30 * 128 * 9, 0)


def test_fused_attention_with_wide_values_counts_each_product_by_its_own_width():
    # 2*3 heads, 7 queries, 9 keys: 8 features in the scores, 5 in the values
    # 6 steps per score: scale, and 5 of softmax
    shapes = {"query": (2, 3, 7, 8), "key": (2, 3, 9, 8), "value": (2, 3, 9, 5)}
    found = hand_written(
        "aten._scaled_dot_product_efficient_attention.default", (2, 3, 7, 5), shapes
    )
    assert found == (6 * 63 * (8 + 5), 6 * 63 * 6)


def test_linear_as_one_operation_counts_every_position():
    # 2*7 positions * 16 * 10
    shapes = {"input": (2, 7, 16), "weight": (10, 16)}
    assert hand_written("aten.linear.default", (2, 7, 10), shapes) == (14 * 160, 0)


# ------------------------------------------------------------------------ unknown operations


@torch.library.custom_op("cnnscope_tests::mystery", mutates_args=())
def mystery(data: torch.Tensor) -> torch.Tensor:
    return data.clone()


@mystery.register_fake
def _(data):
    return torch.empty_like(data)


@pytest.fixture
def with_unknown():
    """A linear layer, then a block that runs an operation without a formula twice."""
    model = nn.Sequential(nn.Linear(4, 5), Function(lambda data: mystery(mystery(data))))
    return report(trace(model, (meta(3, 4),)))


def test_unknown_operation_is_reported_with_its_count_and_layer(with_unknown):
    assert with_unknown.unknown == (UnknownOp("cnnscope_tests.mystery.default", 2, "1"),)


def test_unknown_operation_adds_nothing_to_the_totals(with_unknown):
    # the linear layer alone: 3 * 4 * 5
    assert with_unknown.totals.macs == 60
    assert with_unknown.totals.element_ops == 0


def test_unknown_operation_is_marked_on_every_row_around_it(with_unknown):
    marked = {row.path: row.unknown_ops for row in with_unknown.layers}
    assert marked[""] == 2
    assert marked["0"] == 0
    assert marked["1"] == 2


def test_formula_of_an_unknown_operation_is_zero():
    given = trace(Function(mystery), (meta(3, 4),))
    (record,) = (op for op in given.ops if "mystery" in op.name)
    assert (table.macs(given, record), table.element_ops(given, record)) == (0, 0)


def test_complex_numbers_are_known_and_keep_their_places():
    """A rotation: polar takes a sine, a cosine and two products for each of its 4x6x6 elements."""

    def rotation(x):
        turned = torch.view_as_real(torch.polar(x.abs(), x))
        return torch.view_as_complex(turned.contiguous()).imag

    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Function(rotation))
    answer = report(trace(model, (meta(1, 3, 6, 6),)))
    polar = next(row for row in answer.layers if row.operation == "polar")
    assert polar.element_ops == 4 * 4 * 6 * 6
    assert not answer.unknown
    assert [axis.size for axis in answer.layers[0].field] == [3, 3]


def test_glu_over_channels_has_a_field():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU(1))
    answer = report(trace(model, (meta(1, 3, 6, 6),)))
    assert [axis.size for axis in answer.layers[0].field] == [3, 3]


# The operations of dense linear algebra, by hand: n = 6, and m = 8 by n = 3.
DECOMPOSITIONS = {
    "LU": (torch.linalg.lu_factor, (2, 6, 6), 2 * 2 * 6**3 // 3),
    # 2mnk - (m+n)k^2 + 2/3 k^3 with k = 3: 2*8*3*3 - 11*9 + 18 = 63
    "LU of a tall matrix": (torch.linalg.lu_factor, (8, 3), 63),
    "determinant": (torch.linalg.det, (2, 6, 6), 2 * 2 * 6**3 // 3),
    "Cholesky": (torch.linalg.cholesky_ex, (2, 6, 6), 2 * 6**3 // 3),
    "inverse": (torch.linalg.inv_ex, (2, 6, 6), 2 * 2 * 6**3),
    # 2 * 9 * (8 - 1) = 126, as many for Q
    "QR": (torch.linalg.qr, (8, 3), 252),
    "R alone": (lambda x: torch.linalg.qr(x, "r"), (8, 3), 126),
    # 14 * 8 * 9 + 8 * 27
    "SVD": (torch.linalg.svd, (8, 3), 1224),
    # 4 * 8 * 9 - 4 * 27 / 3
    "singular values": (torch.linalg.svdvals, (8, 3), 252),
    "symmetric eigenvalues": (torch.linalg.eigh, (6, 6), 9 * 6**3),
    "symmetric eigenvalues alone": (torch.linalg.eigvalsh, (6, 6), 4 * 6**3 // 3),
    "eigenvalues": (torch.linalg.eig, (6, 6), 25 * 6**3),
    # LU 144, and 2 * 36 for each of 6 right-hand sides
    "solve": (lambda x: torch.linalg.solve_ex(x, x)[0], (6, 6), 144 + 2 * 36 * 6),
    "triangular solve": (
        lambda x: torch.linalg.solve_triangular(x, x, upper=True),
        (6, 6),
        36 * 6,
    ),
    # 5 n log2 n of n = 64 complex numbers
    "fft": (lambda x: torch.fft.fft2(torch.view_as_complex(x)), (3, 8, 8, 2), 3 * 5 * 64 * 6),
    # half of it for real numbers, forth and back
    "rfft": (lambda x: torch.fft.irfft(torch.fft.rfft(x)), (3, 64), 2 * 3 * 5 * 64 * 6 // 2),
    # log2 of 8 for 7 boundaries
    "bucketize": (lambda x: torch.bucketize(x, x[0]), (5, 7), 35 * 3),
    # subtract, square, add up
    "mean squared error": (lambda x: F.mse_loss(x, x), (5, 7), 3 * 35),
    "squared error": (lambda x: F.mse_loss(x, x, reduction="none"), (5, 7), 2 * 35),
}


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_linear_algebra_and_transforms_count_as_textbooks_do(name):
    function, shape, expected = DECOMPOSITIONS[name]
    known = Function(function)
    assert totals(known, meta(*shape)).element_ops == expected


def test_an_affine_grid_is_a_product_for_every_position():
    # 2 images, 5 x 7 positions in 3 homogeneous coordinates, 2 coordinates each
    assert (
        macs(lambda t: F.affine_grid(t, [2, 1, 5, 7], align_corners=False), meta(2, 2, 3))
        == 2 * 35 * 3 * 2
    )


def test_a_matrix_exponential_is_five_products_and_what_depends_on_values_is_left_out():
    assert macs(torch.linalg.matrix_exp, meta(2, 6, 6)) == 2 * 5 * 6**3
