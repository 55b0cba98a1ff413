"""The floor formula against the shapes that torch itself produces."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnscope.analysis import shapes
from cnnscope.records.trace import ModuleRecord
from cnnscope.reports.summary import report
from cnnscope.tracing.plain import module_record
from cnnscope.tracing.tracer import trace

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def slide_of(module):
    slide = shapes.of_module(module_record("layer", module))
    assert slide is not None
    return slide


def predicted(module, shape):
    return slide_of(module).predict(shape)


def actual(module, shape):
    with torch.no_grad():
        return tuple(module(torch.zeros(shape)).shape)


# ---------------------------------------------------------------------------- by hand

BY_HAND = {
    # floor((224 + 2*3 - 1*(7 - 1) - 1)/2 + 1) = floor(111.5 + 1) = 112
    "resnet": (nn.Conv2d(3, 64, 7, 2, 3), (1, 3, 224, 224), (1, 64, 112, 112)),
    # floor((224 + 2*2 - 10 - 1)/4 + 1) = floor(54.25 + 1) = 55
    "alexnet": (nn.Conv2d(3, 64, 11, 4, 2), (1, 3, 224, 224), (1, 64, 55, 55)),
    # dilation 2 spans 5: 12 - 4 - 1 + 1 = 8
    "dilated": (nn.Conv2d(1, 1, 3, dilation=2), (1, 1, 12, 12), (1, 1, 8, 8)),
    # floor((112 - 2 - 1)/2 + 1) = floor(55.5) = 55
    "pool": (nn.MaxPool2d(3, 2), (1, 8, 112, 112), (1, 8, 55, 55)),
    # ceil(109/2) + 1 = 56
    "pool, ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 8, 112, 112), (1, 8, 56, 56)),
    # ceil((5 + 2 - 1 - 1)/3) + 1 = 3, and the third would begin at 6 = 5 + 1, in the right padding
    "pool, dropped": (nn.MaxPool1d(2, 3, 1, ceil_mode=True), (1, 8, 5), (1, 8, 2)),
    # (5 - 1)*2 - 2*1 + 1*(3 - 1) + 1 + 1 = 10
    "transposed": (nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), (1, 8, 5, 5), (1, 4, 10, 10)),
    # as large as the input, 3*(4 - 1) = 9 pixels shared by both sides
    "same": (nn.Conv1d(2, 3, 4, padding="same", dilation=3), (1, 2, 20), (1, 3, 20)),
    # None keeps the size
    "adaptive": (nn.AdaptiveAvgPool2d((None, 7)), (1, 8, 9, 9), (1, 8, 9, 7)),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_formula_gives_the_size_worked_out_by_hand(case):
    module, shape, expected = BY_HAND[case]
    assert predicted(module, shape) == expected
    assert actual(module, shape) == expected


# ------------------------------------------------------------------------------- a grid


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_the_floor_formula_of_convolutions_is_that_of_torch(kernel, stride, padding, size):
    for dilation in (1, 2):
        module = nn.Conv2d(2, 3, kernel, stride, padding, dilation)
        if size + 2 * padding > dilation * (kernel - 1):
            assert predicted(module, (1, 2, size, size)) == actual(module, (1, 2, size, size))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("stride", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_the_floor_formula_of_pools_is_that_of_torch(kernel, stride, ceil_mode):
    for size in range(4, 10):
        for padding in range(kernel // 2 + 1):
            shape = (2, size, size + 1)
            pools = (
                nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
                nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
            )
            for module in pools:
                assert predicted(module, shape) == actual(module, shape), (module, shape)


# ------------------------------------------------------------------------------- at random


def _each(rng, axes, low, high):
    """One number for all axes, or one each."""
    if rng.random() < 0.4:
        return rng.randint(low, high)
    return tuple(rng.randint(low, high) for _ in range(axes))


def _per_axis(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


def _convolution(rng, axes):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    groups = rng.choice([1, 2])
    padding = rng.choice(["same", "valid", _each(rng, axes, 0, 3), _each(rng, axes, 0, 3)])
    return kind(
        2,
        2 * rng.randint(1, 2),
        _each(rng, axes, 1, 5),
        stride=1 if padding == "same" else _each(rng, axes, 1, 4),
        padding=padding,
        dilation=_each(rng, axes, 1, 3),
        groups=groups,
        padding_mode=rng.choice(["zeros", "zeros", "replicate"]),
    )


def _transposed(rng, axes):
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    stride, dilation = _each(rng, axes, 1, 4), _each(rng, axes, 1, 3)
    both = zip(_per_axis(stride, axes), _per_axis(dilation, axes), strict=True)
    return kind(
        2,
        2 * rng.randint(1, 2),
        _each(rng, axes, 1, 4),
        stride=stride,
        padding=_each(rng, axes, 0, 2),
        output_padding=tuple(rng.randint(0, max(pair) - 1) for pair in both),
        dilation=dilation,
        groups=rng.choice([1, 2]),
    )


def _window(rng, axes):
    kernel = _each(rng, axes, 1, 5)
    stride = rng.choice([None, _each(rng, axes, 1, 4)])
    return kernel, stride


def _max_pool(rng, axes):
    kernel, stride = _window(rng, axes)
    return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[axes - 1](
        kernel,
        stride,
        padding=tuple(rng.randint(0, k // 2) for k in _per_axis(kernel, axes)),
        dilation=_each(rng, axes, 1, 2),
        ceil_mode=rng.random() < 0.5,
    )


def _avg_pool(rng, axes):
    kernel, stride = _window(rng, axes)
    return (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[axes - 1](
        kernel,
        stride,
        padding=tuple(rng.randint(0, k // 2) for k in _per_axis(kernel, axes)),
        ceil_mode=rng.random() < 0.5,
        count_include_pad=rng.random() < 0.5,
    )


def _lp_pool(rng, axes):
    kernel, stride = _window(rng, axes)
    if axes == 1:  # takes one number only
        kernel, stride = rng.randint(1, 5), rng.choice([None, rng.randint(1, 4)])
    kind = (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d)[axes - 1]
    return kind(2.0, kernel, stride, ceil_mode=rng.random() < 0.5)


def _adaptive(rng, axes):
    kinds = [(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)]
    kinds.append((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d))
    kind = rng.choice(kinds)[axes - 1]
    if axes == 1:  # has no None
        return kind(rng.randint(1, 9))
    return kind(tuple(rng.choice([None, rng.randint(1, 9)]) for _ in range(axes)))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    "make", [_convolution, _transposed, _max_pool, _avg_pool, _lp_pool, _adaptive]
)
def test_random_configurations_agree_with_torch(make, axes):
    rng = random.Random(f"{make.__name__} {axes}")
    compared = 0
    for _ in range(60):
        module = make(rng, axes)
        batch = (rng.randint(1, 2),) if rng.random() < 0.7 else ()
        shape = (*batch, 2, *(rng.randint(9, 13) for _ in range(axes)))
        guess = predicted(module, shape)
        if min(guess) < 1:  # torch refuses such a layer
            with pytest.raises(RuntimeError):
                actual(module, shape)
            continue
        assert guess == actual(module, shape), (module, shape)
        compared += 1
    assert compared >= 40


# ---------------------------------------------------------------------------- its edges


def test_a_kernel_larger_than_the_input_predicts_a_size_below_one():
    # floor((2 - 2*(3 - 1) - 1)/1 + 1) = -2
    module = nn.Conv2d(1, 1, 3, dilation=2)
    assert predicted(module, (1, 1, 2, 9)) == (1, 1, -2, 5)
    with pytest.raises(RuntimeError):
        actual(module, (1, 1, 2, 9))


def test_channels_are_kept_by_pools_and_set_by_convolutions():
    assert predicted(nn.AvgPool2d(2), (5, 7, 4, 4))[:2] == (5, 7)
    assert predicted(nn.Conv2d(7, 9, 1), (5, 7, 4, 4))[:2] == (5, 9)


@pytest.mark.parametrize("module", [nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten()])
def test_layers_that_do_not_slide_have_no_formula(module):
    assert shapes.of_module(module_record("layer", module)) is None


def test_a_hand_written_record_needs_no_defaults():
    # floor((9 - 2 - 1)/3 + 1) = 3: the stride is the kernel
    slide = shapes.of_module(ModuleRecord("", "MaxPool1d", "MaxPool1d", {"kernel_size": 3}))
    assert slide is not None
    assert slide.geometry.stride == (3,)
    assert slide.predict((1, 4, 9)) == (1, 4, 3)


@pytest.mark.parametrize("size", [1, 2, 10, 2**31 - 1])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_output_size_is_exact_for_every_size(size, stride):
    # with a kernel of 1, windows begin at 0, stride, 2*stride, ... below size
    assert shapes.output_size(size, 1, stride, 0, 1) == math.ceil(size / stride)
    assert shapes.output_size(size, 1, stride, 0, 1) == len(range(0, size, stride))


# ------------------------------------------------------------------------- in a report


class Functional(nn.Module):
    """Slides without a module: the formula reads the operations' own arguments."""

    def forward(self, data, weight):
        data = F.conv2d(data, weight, stride=(2, 1), padding=(0, 2), dilation=(1, 2))
        data = F.max_pool2d(data, 3, 2, 1, ceil_mode=True)
        data = F.conv_transpose2d(data, weight, stride=2, padding=1, output_padding=1)
        data = F.avg_pool2d(data, (2, 3), ceil_mode=True)
        return F.max_pool1d(data.flatten(2), 3, 2)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_functional_layers_are_predicted_too(device):
    data, weight = torch.zeros(1, 4, 30, 31, device=device), torch.zeros(4, 4, 3, 3, device=device)
    answer = report(trace(Functional(), (data, weight)))
    sliding = [row for row in answer.layers if row.expected_output is not None]
    assert [row.operation for row in sliding] == [
        "conv",
        "max pool",
        "conv",
        "avg pool",
        "max pool",
    ]
    assert all(row.expected_output in row.output_shapes for row in sliding)
    assert answer.mismatches == ()


class Padded(nn.Conv2d):
    """Pads by hand before it convolves, as many model files do."""

    def forward(self, data):
        return super().forward(F.pad(data, (1, 2, 3, 4)))


def test_a_layer_that_pads_for_itself_is_predicted_from_what_it_convolves():
    # 10 + 3 + 4 - 3 + 1 = 15 by 10 + 1 + 2 - 3 + 1 = 11
    answer = report(trace(Padded(3, 8, 3), (torch.empty(1, 3, 10, 10, device="meta"),)))
    assert answer.layers[0].output_shapes == ((1, 8, 15, 11),)
    assert answer.mismatches == ()


class Unpooling(nn.Module):
    """Asks a transposed convolution for one of the sizes that it can give."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 3, stride=2)

    def forward(self, data):
        return self.up(data, output_size=(10, 10))


def test_a_transposed_convolution_told_its_output_size_is_not_a_mismatch():
    # (4 - 1)*2 + 3 = 9, or 10 with the output padding that output_size=10 stands for
    answer = report(trace(Unpooling(), (torch.empty(1, 2, 4, 4, device="meta"),)))
    assert answer.layers[-1].output_shapes == ((1, 2, 10, 10),)
    assert answer.mismatches == ()


def test_a_norm_that_pools_over_channels_does_not_slide():
    module = nn.LocalResponseNorm(5).to("meta")
    answer = report(trace(module, (torch.empty(1, 8, 6, 7, device="meta"),)))
    assert answer.mismatches == ()
    assert answer.layers[0].geometry is None


def test_a_layer_that_is_cut_after_its_convolution_is_a_mismatch():
    class Cut(nn.Conv2d):
        def forward(self, data):
            return super().forward(data)[..., 1:]

    # 10 - 3 + 1 = 8, of which one column is cut away
    model = nn.Sequential(Cut(3, 8, 3))
    answer = report(trace(model, (torch.empty(1, 3, 10, 10, device="meta"),)))
    assert answer.layers[1].output_shapes == ((1, 8, 8, 7),)
    assert answer.layers[1].expected_output == (1, 8, 8, 8)
    assert answer.mismatches == ("0",)


def test_what_is_reshaped_after_its_one_convolution_is_no_mismatch():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(8, 3, 3, 3))

        def forward(self, data):
            return nn.functional.conv2d(data, self.weight).flatten(2)

    answer = report(trace(Flat().to("meta"), (torch.empty(1, 3, 10, 10, device="meta"),)))
    assert answer.layers[0].output_shapes == ((1, 8, 64),)
    assert answer.mismatches == ()


def test_a_pool_that_torch_runs_on_two_axes_is_no_mismatch():
    class Pool(nn.Module):
        def forward(self, data):
            return nn.functional.max_pool1d(data, 2)

    answer = report(trace(nn.Sequential(Pool()), (torch.empty(1, 4, 16, device="meta"),)))
    assert answer.layers[-1].output_shapes == ((1, 4, 8),)
    assert answer.mismatches == ()


# --------------------------------------------------------------------------- for people


def test_formula_shows_its_numbers():
    slide = slide_of(nn.Conv2d(3, 64, 7, stride=2, padding=3))
    text = shapes.formula(slide, (1, 3, 224, 224), 0)
    assert text == "floor((224 + 2*3 - 1*(7 - 1) - 1)/2 + 1) = 112"


def test_formula_shows_the_axis_that_was_asked_for():
    slide = slide_of(nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1)))
    # 20 - 4 - 1 + 1 = 16; (30 + 4 - 4 - 1)/2 + 1 = 15.5
    assert shapes.formula(slide, (1, 3, 20, 30), 0) == (
        "floor((20 + 2*0 - 2*(3 - 1) - 1)/1 + 1) = 16"
    )
    assert shapes.formula(slide, (1, 3, 20, 30), 1) == (
        "floor((30 + 2*2 - 1*(5 - 1) - 1)/2 + 1) = 15"
    )


def test_formula_of_a_pool_that_rounds_up_says_so():
    # (112 - 2 - 1)/2 + 1 = 55.5
    slide = slide_of(nn.MaxPool2d(3, 2, ceil_mode=True))
    text = shapes.formula(slide, (1, 64, 112, 112), 0)
    assert text == "ceil((112 + 2*0 - 1*(3 - 1) - 1)/2 + 1) = 56"


def test_formula_of_same_padding_with_an_even_kernel_shows_the_odd_sum():
    # 1*(4 - 1) = 3 pixels: one on the left, two on the right
    slide = slide_of(nn.Conv2d(3, 8, 4, padding="same"))
    assert shapes.formula(slide, (1, 3, 10, 10), 0) == "floor((10 + 3 - 1*(4 - 1) - 1)/1 + 1) = 10"


def test_formula_of_a_transposed_convolution_is_its_own():
    # (5 - 1)*2 - 2*1 + 1*(3 - 1) + 1 + 1 = 10: the floor formula would give (5 + 2 - 2 - 1)/2 + 1
    slide = slide_of(nn.ConvTranspose2d(8, 4, 3, 2, 1, 1))
    text = shapes.formula(slide, (1, 8, 5, 5), 0)
    assert text.endswith(" = 10")
    assert not text.startswith("floor((5 ")


TRUE_SUMS = {
    "convolution": (nn.Conv2d(3, 8, 3, 2, 1, 2), (1, 3, 17, 17)),
    "same": (nn.Conv2d(3, 8, 4, padding="same"), (1, 3, 17, 17)),
    "pool": (nn.AvgPool2d(3, 2), (1, 3, 18, 18)),
    "pool, ceil": (nn.AvgPool2d(3, 2, ceil_mode=True), (1, 3, 18, 18)),
    # ceil(5/3 + 1) = 3, less the window that begins in the padding: the sum must say so
    "pool, dropped": (nn.MaxPool1d(2, 3, 1, ceil_mode=True), (1, 8, 5)),
    "transposed": (nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, dilation=2), (1, 8, 5, 5)),
}


@pytest.mark.parametrize("case", TRUE_SUMS)
def test_formula_is_a_true_sum(case):
    module, shape = TRUE_SUMS[case]
    left, _, right = shapes.formula(slide_of(module), shape, 0).rpartition(" = ")
    assert int(right) == actual(module, shape)[-slide_of(module).axes]
    assert eval(left, {"floor": math.floor, "ceil": math.ceil}) == int(right)


def test_formula_of_an_adaptive_pool_does_not_fail():
    slide = slide_of(nn.AdaptiveAvgPool2d(7))
    assert "7" in shapes.formula(slide, (1, 8, 9, 9), 0)


class Lifted(nn.Module):
    """Gives its input a dimension of one channel, as torch's local response norm does."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(x.unsqueeze(1))


@pytest.mark.parametrize(
    ("module", "shape", "answer"),
    [
        (nn.LocalResponseNorm(5), (1, 8, 16, 16), True),
        (nn.LocalResponseNorm(5), (1, 8, 16), True),
        (Lifted(nn.AvgPool2d((5, 1), stride=1)), (1, 8, 16), True),
        (nn.AvgPool2d((5, 1), stride=1), (1, 1, 16, 16), False),  # a map that was given
        (Lifted(nn.AvgPool2d((2, 1))), (1, 8, 16), False),  # it halves an axis
        (Lifted(nn.AvgPool2d((3, 1), stride=1, padding=(1, 0))), (1, 8, 16), False),
        (Lifted(nn.AvgPool1d(3, stride=1)), (8, 16), False),  # there is no second axis
    ],
)
def test_a_pool_over_channels_is_told_from_one_over_positions(module, shape, answer):
    traced = trace(module, (torch.empty(shape, device="meta"),))
    assert [shapes.over_channels(traced, op) for op in traced.ops if "pool" in op.name] == [answer]


def test_a_fractional_pool_has_no_floor_formula():
    # 21 windows of 3x3 at random places, and not floor((32 - 3)/3 + 1) = 10
    traced = trace(
        nn.FractionalMaxPool2d(3, output_size=21), (torch.empty(1, 3, 32, 32, device="meta"),)
    )
    (row, *_) = report(traced).layers
    assert row.output_shapes[0] == (1, 3, 21, 21)
    assert row.expected_output is None
