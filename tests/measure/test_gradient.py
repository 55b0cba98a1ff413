"""Receptive fields measured by gradient, against brute force, published values and NaN."""

from __future__ import annotations

import pytest
import torch
from measured_fields import MEASURED, SYNTHETIC, Lambda
from torch import nn
from torch.nn import functional as F

from cnnscope.measure import gradient as probe
from cnnscope.measure.gradient import Root, Target
from cnnscope.models import run
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.reports.verify import verify

WHOLE = Target("")


def sees(model, *shape, units=None, dim=2):
    """Intervals that units of a model's output see along the first axis, by the referee alone."""
    tape = probe.record(model.to("meta"), [probe.image(shape)])
    size = tape.shapes[tape.targets[WHOLE][0]][dim]
    root = Root(WHOLE, dim, tuple(range(size)) if units is None else units)
    found = probe.measure(tape, [root])[WHOLE]
    return found if isinstance(found, str) else [list(unit[0]) for unit in found]


# ------------------------------------------------------------- the referee and other oracles


class Filled(nn.Module):
    """The input, added in place to what its weight makes of the weight's own rows."""

    def __init__(self, *, beside):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8, 8))
        self.beside = beside

    def forward(self, x):
        made = self.weight @ self.weight
        rows = made[:]
        made.add_(x[0, 0])
        return rows if self.beside else made


def test_a_result_written_to_a_constant_is_measured_unless_a_view_has_it_too():
    own = sees(Filled(beside=False), 1, 1, 8, 8, dim=0)
    assert own == [[unit, unit] for unit in range(8)]
    assert "writes to a view of a constant" in sees(Filled(beside=True), 1, 1, 8, 8, dim=0)


@pytest.mark.parametrize("name", MEASURED["synthetic_1d"])
def test_the_referee_measures_what_brute_force_did(name):
    expected = MEASURED["synthetic_1d"][name]
    model = next(m for prefix, m in SYNTHETIC.items() if name.startswith(prefix))
    assert sees(model, 1, 1, expected["size"]) == expected["lo_hi"]


@pytest.mark.parametrize("model", ["alexnet", "vgg11", "resnet18", "squeezenet1_0"])
def test_the_referee_measures_the_published_models(model):
    trace_ = trace_spec(Request.of(model))
    for layer, (size, stride, padding) in MEASURED["models"][model].items():
        with run.module(Request.of(model)) as module:
            (row,) = verify(trace_, module, layer).layers
        assert row.verdict == "equal", (layer, row)
        for check in row.checks:
            unit, (first, last) = check.units[0], check.measured[0]
            assert last - first + 1 == size[check.axis]
            assert check.measured[1][0] - first == stride[check.axis]
            assert unit * stride[check.axis] - first == padding[check.axis]


@pytest.mark.slow
@pytest.mark.parametrize("model", MEASURED["models"])
def test_every_published_stage_is_measured_equal(model):
    trace_ = trace_spec(Request.of(model))
    for layer in MEASURED["models"][model]:
        with run.module(Request.of(model)) as module:
            (row,) = verify(trace_, module, layer).layers
        assert row.verdict == "equal", (layer, row)


def nan_interval(model, layer, unit, size, axis=2):
    """Interval that one unit sees, by NaN in one half of the input, and bisection.

    The largest t for which NaN in pixels t and after reaches the unit is its last pixel; the least
    t for which NaN up to and with t reaches it is its first.
    """
    caught = {}
    hook = model.get_submodule(layer).register_forward_hook(
        lambda _, __, out: caught.__setitem__("out", out)
    )

    def reached(lost):
        x = torch.zeros(1, 3, *size)
        x.narrow(axis, lost.start, len(lost)).fill_(float("nan"))
        with torch.no_grad():
            model(x)
        return bool(caught["out"].select(axis, unit).isnan().any())

    def bisect(low, high, true_at_low):
        while high - low > 1:
            middle = (low + high) // 2
            if true_at_low(middle):
                low = middle
            else:
                high = middle
        return low

    length = size[axis - 2]
    last = bisect(0, length, lambda t: reached(range(t, length)))
    first = length - 1 - bisect(0, length, lambda t: reached(range(length - t)))
    hook.remove()
    return first, last


@pytest.mark.broad
@pytest.mark.parametrize(
    ("name", "layer", "size", "unit"),
    [
        ("alexnet", "features.5", (160, 96), 5),
        ("resnet18", "layer2", (224, 64), 14),
        ("mobilenet_v2", "features.6", (224, 64), 14),
        ("googlenet", "inception3b", (192, 64), 12),
    ],
)
def test_the_referee_agrees_with_nan_through_the_unmodified_model(name, layer, size, unit):
    with run.module(Request.of(name)) as without_weights:
        tape = probe.record(without_weights, [probe.image((1, 3, *size))])
    found = probe.measure(tape, [Root(Target(layer), 2, (unit,))])[Target(layer)]
    with run.module(Request.of(name), seed=0) as model:
        assert found[0][0] == nan_interval(model, layer, unit, size)


# ------------------------------------------------------------------ stand-ins that are pitfalls


def test_max_pools_do_not_pick_one_corner():
    assert sees(nn.MaxPool1d(3, 2, 1, 1), 1, 1, 8) == [[0, 1], [1, 3], [3, 5], [5, 7]]


def test_dilated_and_ceiled_max_pools_have_their_taps():
    # unit u reads 2u - 1 and 2u + 2 of 7 pixels; unit 3 (ceil_mode) pixel 5 alone
    pool = nn.MaxPool1d(2, 2, 1, dilation=3, ceil_mode=True)
    assert sees(pool, 1, 1, 7) == [[2, 2], [1, 4], [3, 6], [5, 5]]


def test_activations_do_not_saturate():
    model = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.ReLU6(), nn.Hardsigmoid())
    assert sees(model, 1, 1, 4) == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_signs_over_channels_do_not_cancel():
    model = Lambda(lambda m, x: m.a(torch.cat([x, -x], 1)), a=nn.Conv1d(2, 1, 3, padding=1))
    assert sees(model, 1, 1, 4) == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_different_weights_do_not_cancel():
    model = Lambda(lambda m, x: m.a(x) - m.b(x), a=nn.Conv1d(1, 1, 3), b=nn.Conv1d(1, 1, 3))
    assert sees(model, 1, 1, 5) == [[0, 2], [1, 3], [2, 4]]


def test_halves_of_one_convolution_do_not_cancel():
    def halves(m, x):
        a, b = m.a(x).chunk(2, 1)
        return a - b

    assert sees(Lambda(halves, a=nn.Conv1d(1, 2, 3)), 1, 1, 5) == [[0, 2], [1, 3], [2, 4]]


def test_writing_in_place_changes_no_other_tensor():
    def forward(m, x):
        a = F.relu(x)  # shares memory with its input, if the stand-in is careless
        a += m.a(x)
        return x * 1

    model = Lambda(forward, a=nn.Conv1d(1, 1, 3, padding=1))
    assert sees(model, 1, 1, 3) == [[0, 0], [1, 1], [2, 2]]


def test_filling_a_buffer_piece_by_piece():
    def forward(m, x):
        out = torch.zeros(1, 2, 6, device=x.device)
        out[:, :1] = m.a(x)
        out[:, 1:, 1:] = x[:, :, :-1]
        return out

    model = Lambda(forward, a=nn.Conv1d(1, 1, 1))
    assert sees(model, 1, 1, 6) == [[0, 0], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda _, x: x.gather(2, x.argsort(2)), "aten.sort"),
        (lambda _, x: x[:, :, x[0, 0].argmax().view(1)], "aten.argmax"),
        (lambda _, x: F.grid_sample(x[None], x.view(1, 1, 2, 2), align_corners=False), "grid"),
    ],
)
def test_what_depends_on_data_is_not_measured(function, reason):
    front = nn.Sequential(nn.Conv1d(1, 1, 3), Lambda(function))
    found = sees(front, 1, 1, 6)
    assert isinstance(found, str)
    assert reason in found


def test_a_constant_grid_reads_where_it_says():
    # the middle of four units is between the second and the third, which see pixels 1 to 4
    grid = torch.zeros(1, 1, 1, 2)
    model = Lambda(lambda _, x: F.grid_sample(x[None], grid, align_corners=False)[0])
    assert sees(nn.Sequential(nn.Conv1d(1, 1, 3), model), 1, 1, 6) == [[1, 4]]
