"""Receptive fields against measured values, hand-written traces, papers, and brute force."""

from __future__ import annotations

import functools
import json
import random
import re

import pytest
import torch
import torchvision
from command_line import run_cli
from measured_fields import MEASURED, SYNTHETIC, Lambda, conv
from torch import nn
from torch.nn import functional as F

from cnnscope.analysis.receptive_field import fields
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.summary import AxisField, Field
from cnnscope.records.trace import OpRecord, Source, StorageRecord, TensorRecord, Trace
from cnnscope.render import facts
from cnnscope.reports.summary import report
from cnnscope.tracing.tracer import trace

torch.set_num_threads(1)  # the graphs are small


def field_of(model: nn.Module, *shape: int) -> Field:
    result = trace(model.to("meta"), (torch.empty(shape, device="meta"),))
    field = fields(result)[result.outputs[0]]
    assert field is not None
    return field


@functools.cache
def layer_fields(name: str) -> dict[str, Field]:
    result = trace_spec(Request.of(name))
    found = fields(result)
    return {result.modules[c.module].path: found[c.outputs[0]] for c in result.calls if c.outputs}


def lo_hi(axis_map) -> list[list[int]]:
    return [list(pair) for pair in zip(axis_map.lo, axis_map.hi, strict=True)]


def numbers(axes: tuple[AxisField, ...]):
    return [[a.size for a in axes], [a.stride for a in axes], [a.padding for a in axes]]


# ------------------------------------------------------------------------ measured values


@pytest.mark.parametrize("model", MEASURED["models"])
def test_fields_of_a_model_are_those_measured(model):
    found = layer_fields(model)
    for layer, expected in MEASURED["models"][model].items():
        assert numbers(found[layer].axes) == expected, layer


@pytest.mark.parametrize("name", MEASURED["synthetic_1d"])
def test_fields_of_a_graph_are_those_measured(name):
    expected = MEASURED["synthetic_1d"][name]
    model = next(m for prefix, m in SYNTHETIC.items() if name.startswith(prefix))
    field = field_of(model, 1, 1, expected["size"])
    if name.startswith("SE"):
        assert field.axes[0].size is None
        assert field.axes[0].clipped == (16, 16)
        assert field.axes[0].local_size == 1
    else:
        assert lo_hi(field.maps[0]) == expected["lo_hi"]


def seen_1d(function, size=16, **children):
    """First and last pixel of every unit, or nothing at all."""
    model = Lambda(function, **children).to("meta")
    result = trace(model, (torch.empty(1, 1, size, device="meta"),))
    field = fields(result)[result.outputs[0]]
    return None if field is None else lo_hi(field.maps[0])


EACH = [[u, u] for u in range(16)]
THREE = [[max(u - 1, 0), min(u + 1, 15)] for u in range(16)]


# one weight read twice cancels whatever it is; two weights of one shape do not
@pytest.mark.parametrize(
    ("function", "seen"),
    [
        (lambda m, x: m.a(x) - m.a(x), None),
        (lambda m, x: (m.a(x) + x) - m.a(x), EACH),
        (lambda m, x: torch.add(m.a(x), m.a(x), alpha=-1) + x, EACH),
        (lambda m, x: -m.a(x) + m.a(x) + x, EACH),
        (lambda m, x: m.a(x) * 2 - m.a(x) - m.a(x) + x, EACH),
        (lambda m, x: F.relu(m.a(x)) - F.relu(m.a(x)) + x, EACH),
        (lambda m, x: torch.rsub(m.a(x), m.a(x)) + x, EACH),
        (lambda m, x: m.a(x) * 0 + x, EACH),
        (lambda m, x: m.a(x) - m.b(x), THREE),
        (lambda m, x: m.a(x) * 2 - m.a(x), THREE),
        (lambda m, x: m.a(x) - F.relu(m.a(x)), THREE),
        (lambda m, x: m.a(x) - m.a(x + 1), THREE),
        (lambda m, x: (m.a(x) - m.a(x)) * m.b(x) + m.b(x), THREE),
    ],
)
def test_terms_that_cancel_are_not_seen(function, seen):
    assert seen_1d(function, a=conv(3, 1, 1), b=conv(3, 1, 1)) == seen


def test_a_tied_weight_is_one_weight():
    a, b = conv(3, 1, 1), conv(3, 1, 1)
    b.weight, b.bias = a.weight, a.bias
    model = Lambda(lambda m, x: m.a(x) - m.b(x) + x, a=a, b=b)  # tied, not on meta: it unties
    result = trace(model, (torch.empty(1, 1, 16, device="meta"),))
    assert lo_hi(fields(result)[result.outputs[0]].maps[0]) == EACH


@pytest.mark.broad
def test_squeeze_excite_is_all_beside_its_local_field():
    axes = layer_fields("efficientnet_b0")["features"].axes
    assert [(a.size, a.local_size, a.stride, a.padding) for a in axes] == [(None, 851, 32, 425)] * 2


def test_efficientnet_without_squeeze_excite_has_the_measured_field():
    model = torchvision.models.efficientnet_b0()
    for module in model.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "SqueezeExcitation":
                setattr(module, name, nn.Identity())
    field = field_of(model.features, 1, 3, 224, 224)
    assert numbers(field.axes) == [[851, 851], [32, 32], [425, 425]]
    assert not field.global_context


# AlexNet 195, VGG-16 212 (Araujo, Norris, Sim 2019, table 2); resnet50 v1.5 427, v1 483
@pytest.mark.parametrize(
    ("model", "layer", "size"),
    [("alexnet", "features", 195), ("vgg16", "features", 212), ("resnet50", "layer4", 427)],
)
def test_fields_are_those_published(model, layer, size):
    assert {a.size for a in layer_fields(model)[layer].axes} == {size}


# ---------------------------------------------------------------------------- by hand


def by_hand(op: OpRecord, *shapes: tuple[int, ...]) -> Trace:
    return Trace(
        Source("hand", "hand", "hand"), (0,), (len(shapes) - 1,), (), (), (),
        tuple(TensorRecord(shape, "float32", i) for i, shape in enumerate(shapes)),
        tuple(StorageRecord(0, -1, 1) for _ in shapes), (op,),
    )  # fmt: skip


def test_a_convolution_written_by_hand():
    op = OpRecord(
        "aten.convolution.default",
        {"input": 0, "weight": 1},
        (2,),
        {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)},
    )
    field = fields(by_hand(op, (1, 3, 9, 9), (4, 3, 3, 2), (1, 4, 5, 7)))[2]
    assert field is not None
    # rows: u*2 - 1 + {0, 1, 2}; columns: u + {0, 2}
    assert numbers(field.axes) == [[3, 3], [2, 1], [1, 0]]
    assert field.maps[0].unclipped(0) == (-1, 1)
    assert field.maps[0].lo[0] == 0


def test_an_operation_without_a_rule_makes_everything_after_it_unknown():
    found = fields(by_hand(OpRecord("mine.op", {"x": 0}, (1,)), (1, 3, 9, 9), (1, 3, 9, 9)))
    assert found[1] == Field(unknown=True, reason="mine.op is not followed")


def test_what_sees_no_input_has_no_field():
    assert fields(by_hand(OpRecord("mine.op", {}, (1,)), (1, 3, 9, 9), (1, 3, 9, 9)))[1] is None


# ------------------------------------------------------------------------ moving dimensions


def shuffle(_, x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def channels_last(m, x):
    return m.b(m.a(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def windows(_, x):
    n, c, h, w = x.shape
    x = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    x = x + torch.softmax(x @ x.transpose(1, 2), -1) @ x
    x = x.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(n, c, h, w)


def test_channel_shuffle_moves_no_positions():
    assert numbers(field_of(Lambda(shuffle), 1, 4, 8, 8).axes) == [[1, 1], [1, 1], [0, 0]]


def test_channels_last_blocks_are_followed():
    model = Lambda(channels_last, a=nn.Linear(4, 4), b=nn.Conv2d(4, 4, 7, padding=3))
    assert numbers(field_of(model, 1, 4, 16, 16).axes) == [[7, 7], [1, 1], [3, 3]]


def test_attention_inside_windows_sees_the_window():
    field = field_of(nn.Sequential(nn.Conv2d(4, 4, 1), Lambda(windows)), 1, 4, 12, 8)
    for units in field.maps:
        assert lo_hi(units)[:5] == [[0, 3]] * 4 + [[4, 7]]


def test_flattened_and_unflattened_again():
    model = Lambda(lambda m, x: m.a(x).flatten(2).unflatten(2, (8, 8)), a=nn.Conv2d(1, 1, 3))
    assert numbers(field_of(model, 1, 1, 10, 10).axes) == [[3, 3], [1, 1], [0, 0]]


def test_flatten_and_linear_sees_all():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(64, 2))
    assert [a.size for a in field_of(model, 1, 1, 10, 10).axes] == [None, None]


def test_a_crop_moves_the_field():
    field = field_of(Lambda(lambda m, x: m.a(x)[:, :, 2:, ::2], a=nn.Conv2d(1, 1, 3)), 1, 1, 9, 9)
    assert numbers(field.axes) == [[3, 3], [1, 2], [-2, 0]]


def test_a_crop_has_its_stride_where_one_unit_is_left():
    # one unit of 3 pixels, of which every second is taken: of a larger image, 3 /2
    field = field_of(Lambda(lambda m, x: m.a(x)[:, :, ::2], a=conv(3)), 1, 1, 3)
    assert numbers(field.axes) == [[3], [2], [0]]


def test_roll_is_a_shift_but_where_it_wraps():
    field = field_of(Lambda(lambda m, x: m.a(x).roll(1, 2), a=nn.Conv2d(1, 1, 1)), 1, 1, 4, 4)
    assert (field.axes[0].size, field.axes[0].stride, field.axes[0].padding) == (1, 1, 1)
    assert lo_hi(field.maps[0]) == [[3, 3], [0, 0], [1, 1], [2, 2]]
    half = field_of(Lambda(lambda m, x: m.a(x).roll(2, 2), a=nn.Conv2d(1, 1, 1)), 1, 1, 4, 4)
    assert half.axes[0].explicit  # as many units wrap as are moved


def test_one_and_three_axes():
    assert len(field_of(conv(3), 1, 1, 9).axes) == 1
    assert [a.size for a in field_of(nn.Conv3d(1, 1, (1, 3, 5)), 1, 1, 9, 9, 9).axes] == [1, 3, 5]


def test_group_norm_is_a_function_of_the_whole_image():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4))
    assert [(a.size, a.local_size) for a in field_of(model, 1, 4, 9, 9).axes] == [(None, 3)] * 2


def test_a_kernel_that_only_meets_padding_sees_nothing():
    """Taps at -2 and 2 of a map of one position."""
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 1, (2, 1), padding=(2, 0), dilation=4)
    )
    result = trace(model.to("meta"), (torch.empty(1, 1, 6, 6, device="meta"),))
    assert fields(result)[result.outputs[0]] is None


def test_a_rim_of_zeros_sees_nothing_along_the_other_axis():
    """Of a map of one row in a frame of zeros, the first row alone is joined with a row of x."""

    def joined(_, x):
        return x + F.pad(x, (1, 1, 1, 1))[:, :, :1, : x.shape[3]]

    units = field_of(nn.Sequential(nn.Conv2d(1, 1, 1), Lambda(joined)), 1, 1, 1, 4).maps[1]
    assert lo_hi(units) == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_pieces_are_laid_end_to_end_by_their_positions():
    """Sums of two pixels: a position is two units of the axis."""

    def repeated(_, x):
        sums = x.unflatten(2, (2, 2)).sum(3)
        return torch.cat([sums, sums[..., :1]], 2)

    model = nn.Sequential(Lambda(repeated), nn.Conv1d(1, 1, 1))
    assert lo_hi(field_of(model, 1, 1, 4).maps[0]) == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize(("make", "sizes"), [(nn.Conv1d, (9,)), (nn.Conv2d, (9, 8))])
def test_a_norm_over_channels_in_front_makes_channels_no_axis(make, sizes):
    """A local response norm is a pool over (channels, rows) or (channels, rows, columns)."""
    model = nn.Sequential(nn.LocalResponseNorm(3), make(4, 4, 3))
    assert [axis.size for axis in field_of(model, 1, 4, *sizes).axes] == [3] * len(sizes)


def test_a_write_through_a_transposed_view_is_not_read_in_the_wrong_order():
    def turned(_, x):
        y = x.clone()
        y.transpose(1, 2).add_(1.0)
        return y

    assert field_of(Lambda(turned), 1, 2, 4, 4).unknown


# --------------------------------------------------------------------- against brute force


class Graph:
    """A random graph: a list of steps, run in torch with positive weights."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.axes = self.random.choice((1, 2))
        self.steps = [self.step() for _ in range(self.random.randint(1, 5))]

    def per_axis(self, *choices: int) -> tuple[int, ...]:
        return tuple(self.random.choice(choices) for _ in range(self.axes))

    def step(self):
        kinds = (
            "conv", "conv", "conv", "pool", "transposed", "nearest", "linear", "crop", "pad",
            "residual", "concat", "excite", "adaptive", "join", "unet", "cubic",
        )  # fmt: skip
        kind = self.random.choice(kinds)
        kernel = self.per_axis(1, 2, 3, 4, 5)
        return {
            "kind": kind,
            "kernel": kernel,
            "stride": self.per_axis(1, 1, 2, 3),
            "padding": tuple(self.random.randint(0, k // 2) for k in kernel),
            "dilation": self.per_axis(1, 1, 2, 3),
            "widths": [self.random.randint(0, 2) for _ in range(2 * self.axes)],
            "factor": self.random.choice((2, 3)),
            "start": self.per_axis(0, 1, 2),
            "step": self.per_axis(1, 1, 2),
            "other": self.per_axis(1, 3),
            "size": self.per_axis(1, 2, 3, 4, 5),
        }

    def __call__(self, _, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = self.run(step, x)
        return x

    def conv(self, x, kernel, **how):
        function = (F.conv1d, F.conv2d)[self.axes - 1]
        return function(x, torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device), **how)

    def cut(self, x, other):
        """As long as the shorter of the two, along each axis."""
        sizes = map(min, x.shape[2:], other.shape[2:])
        return x[(slice(None), slice(None), *(slice(0, n) for n in sizes))]

    def run(self, s, x):  # noqa: C901, PLR0911, PLR0912  one line for each kind of step
        kind = s["kind"]
        if kind == "conv":
            how = {name: s[name] for name in ("stride", "padding", "dilation")}
            return self.conv(x, s["kernel"], **how)
        if kind == "pool":
            pool = (F.avg_pool1d, F.avg_pool2d)[self.axes - 1]
            return pool(x, s["kernel"], s["stride"], s["padding"], ceil_mode=s["factor"] == 2)
        if kind == "transposed":
            function = (F.conv_transpose1d, F.conv_transpose2d)[self.axes - 1]
            weight = torch.ones(1, 1, *s["kernel"], dtype=x.dtype, device=x.device)
            return function(
                x, weight, stride=s["stride"], padding=s["padding"], dilation=s["dilation"]
            )
        if kind == "nearest":
            return F.interpolate(x, scale_factor=s["factor"], mode="nearest")
        if kind == "linear":
            mode = ("linear", "bilinear")[self.axes - 1]
            return F.interpolate(
                x, scale_factor=s["factor"], mode=mode, align_corners=s["start"][0] == 1
            )
        if kind == "crop":
            for axis in range(self.axes):
                cut = [slice(None)] * (2 + axis) + [slice(s["start"][axis], None, s["step"][axis])]
                x = x[tuple(cut)]
            return x
        if kind == "pad":
            return F.pad(x, s["widths"])
        if kind == "residual":
            kernel = tuple(2 * (k // 2) + 1 for k in s["kernel"])
            other = self.conv(x, s["other"], padding=tuple(k // 2 for k in s["other"]))
            return self.conv(x, kernel, padding=tuple(k // 2 for k in kernel)) + other
        if kind == "concat":
            same = self.conv(x, s["other"], padding=tuple(k // 2 for k in s["other"]))
            return torch.cat([x, same], 1).sum(1, keepdim=True)
        if kind == "join":  # paths of different kernels and paddings, cut to the shorter
            padding = tuple(k // 2 for k in s["other"])
            a = self.conv(x, s["kernel"], stride=s["stride"], padding=s["padding"])
            b = self.conv(x, s["other"], stride=s["stride"], padding=padding)
            return self.cut(a, b) + self.cut(b, a)
        if kind == "unet":
            pool = (F.avg_pool1d, F.avg_pool2d)[self.axes - 1]
            low = self.conv(pool(x, 2, ceil_mode=True), s["other"],
                            padding=tuple(k // 2 for k in s["other"]))  # fmt: skip
            up = F.interpolate(low, scale_factor=2, mode="nearest")
            return torch.cat([self.cut(x, up), self.cut(up, x)], 1).sum(1, keepdim=True)
        if kind == "cubic":
            if self.axes == 1:
                return x
            return F.interpolate(x, scale_factor=s["factor"], mode="bicubic")
        if kind == "excite":
            # the linear surrogate: a sigmoid saturates, and a product hides what is zero in x
            return x + x.mean(tuple(range(2, x.dim())), keepdim=True)
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[self.axes - 1]
        return pool(x, s["size"][0] if self.axes == 1 else s["size"])


def brute_force(function, size: tuple[int, ...]) -> list[list[list[int]]]:
    """First and last input index of every unit, per axis, by the Jacobian in float64."""
    x = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    out = function(None, x)
    seen: list[dict[int, list[int]]] = [{} for _ in size]
    for index in torch.cartesian_prod(*[torch.arange(n) for n in out.shape[2:]]).reshape(
        -1, len(size)
    ):
        (gradient,) = torch.autograd.grad(
            out[(0, 0, *index.tolist())], x, retain_graph=True, allow_unused=True
        )
        where = torch.nonzero(gradient[0, 0]) if gradient is not None else torch.empty(0, len(size))
        for axis in range(len(size)):
            unit = seen[axis].setdefault(int(index[axis]), [10**6, -1])
            if len(where):
                unit[0] = min(unit[0], int(where[:, axis].min()))
                unit[1] = max(unit[1], int(where[:, axis].max()))
    return [[p if p[1] >= 0 else [0, -1] for _, p in sorted(units.items())] for units in seen]


def check(seed: int) -> bool:
    """Compare one random graph; False where torch itself refuses it."""
    graph = Graph(seed)
    size = (17,) if graph.axes == 1 else (11, 9)
    torch.manual_seed(seed)
    try:
        shape = graph(None, torch.zeros(1, 1, *size)).shape
    except RuntimeError:
        return False
    if 0 in shape or shape[2:].numel() > (400 if graph.axes == 1 else 1500):
        return False
    front = nn.Sequential((nn.Conv1d, nn.Conv2d)[graph.axes - 1](1, 1, 1), Lambda(graph))
    field = field_of(front, 1, 1, *size)
    assert not field.unknown, seed
    measured = brute_force(graph, size)
    if any(m and all(hi < lo for lo, hi in zip(m.lo, m.hi, strict=True)) for m in field.maps):
        # where one axis sees nothing at all, neither does the other
        assert all(pair == [0, -1] for pairs in measured for pair in pairs), seed
        return True
    for axis, units, expected in zip(field.axes, field.maps, measured, strict=True):
        if axis.size is None:
            for unit, (first, last) in enumerate(expected):  # a unit of padding sees nothing
                whole = last - first + 1
                assert axis.clipped[0] <= whole <= axis.clipped[1] or whole == 0, (seed, unit)
            continue
        assert units is not None
        if axis.units == len(expected):
            assert expected == lo_hi(units), (seed, graph.steps)
        else:
            assert len(expected) == 1, (seed, graph.steps)
            assert lo_hi(units)[:1] == expected, (seed, graph.steps)
    return True


def interior(seed: int) -> bool:
    """Compare what is claimed of an unboundedly large image with units inside a large canvas.

    False where nothing is claimed, or the canvas would be too large.
    """
    graph = Graph(seed)
    if any(s["kind"] in ("excite", "adaptive") for s in graph.steps):
        return False  # a gradient does not tell local from whole; bins are others on other canvases
    size = (17,) if graph.axes == 1 else (11, 9)
    front = nn.Sequential((nn.Conv1d, nn.Conv2d)[graph.axes - 1](1, 1, 1), Lambda(graph))
    try:
        if 0 in graph(None, torch.zeros(1, 1, *size)).shape:
            return False
    except RuntimeError:
        return False
    field = field_of(front, 1, 1, *size)
    claimed = [m for m in field.maps if m is not None and m.first]
    if len(claimed) < graph.axes or any(b < a for m in claimed for a, b in zip(m.first, m.last)):  # noqa: B905
        return False
    for axis, units in enumerate(claimed):
        count = len(units.first) + 2
        room = (count + 4) * (-(-units.step // len(units.first)) + 1) + 2 * units.step + 40
        length = max(units.last) - min(units.first) + 2 * room
        if length > 1200:
            return False
        canvas = list(size)
        canvas[axis] = length
        x = torch.rand(1, 1, *canvas, dtype=torch.float64, requires_grad=True)
        out = graph(None, x)
        middle = next(u for u in range(10**6) if sum(units.unclipped(u)) >= length)
        for unit in range(middle, middle + count):
            total = out.select(2 + axis, unit).sum()
            (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
            places = torch.nonzero(gradient.abs().movedim(2 + axis, 0).flatten(1).sum(1) > 1e-14)
            found = (int(places.min()), int(places.max()))
            assert found == units.unclipped(unit), (seed, axis, unit, graph.steps)
    return True


@pytest.mark.broad
@pytest.mark.parametrize("start", range(0, 200, 50))
def test_random_graphs_agree_with_the_jacobian(start):
    assert sum(check(seed) for seed in range(start, start + 50)) > 20


@pytest.mark.broad
@pytest.mark.parametrize("start", [0, 50])
def test_random_graphs_see_on_a_large_canvas_what_was_computed_on_a_small_one(start):
    assert sum(interior(seed) for seed in range(start, start + 50)) > 10


@pytest.mark.slow
def test_thousands_of_random_graphs_agree_with_the_jacobian():
    checked, seed = 0, 1000
    while checked < 2000:
        checked += check(seed)
        seed += 1


@pytest.mark.slow
def test_thousands_of_random_graphs_see_on_a_large_canvas_what_was_computed():
    checked, seed = 0, 1000
    while checked < 2000:
        checked += interior(seed)
        seed += 1


# ------------------------------------------------------------------------ the command line


def test_rf_table_shows_the_growth():
    lines = [line.split() for line in run_cli("rf", "alexnet").out.splitlines()]
    at = lines.index(next(line for line in lines if line[:1] == ["features"]))
    assert ["12", "256x6x6", "195", "195", "32", "66", "31", "129-194"] in lines[at:]


def test_rf_unit_is_a_rectangle():
    # layer2.0 of resnet18: size 67, stride 8, padding 33: [3*8 - 33, 3*8 - 33 + 66]
    report = json.loads(run_cli("rf", "resnet18", "layer2.0", "--unit", "3,5", "-f", "json").out)
    assert report["axes"][0]["unclipped"] == [-9, 57]
    assert report["axes"][0]["clipped"] == [0, 57]
    assert report["axes"][1]["unclipped"] == [7, 73]


@pytest.mark.parametrize("format_", ["json", "csv", "markdown", "table"])
@pytest.mark.parametrize("layer", [[], ["features.3"]])
def test_every_format_has_the_fields(format_, layer):
    result = run_cli("rf", "alexnet", *layer, "--format", format_)
    assert result.code == 0
    # a table has it as 3 below features, with its output and field: 19 + 4 * 8
    whole = layer or format_ in ("json", "csv")
    assert re.search(r"features\.3" if whole else r"\W3\W+192x27x27\W+51\b", result.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layr2.0",), "did you mean layer2.0"),
        (("layer2.0", "--unit", "3,99"), "28x28"),
        (("layer2.0", "--unit", "3"), "2 indices"),
        (("layer2.0", "--unit", "a,b"), "3,5"),
        (("--unit", "3,5"), "name a layer"),
    ],
)
def test_rf_refuses_what_cannot_be(arguments, message):
    result = run_cli("rf", "resnet18", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_small_inputs_have_unproductive_layers():
    report = json.loads(run_cli("rf", "vgg16", "--input", "32", "-f", "json").out)
    # conv4_1 reads 44 px (conv3_3 40, pool3 44) of 32 px: its kernel finds nothing new
    assert report["unproductive"][0] == "features.14"
    assert json.loads(run_cli("rf", "resnet50", "-f", "json").out)["unproductive"] == []


def test_totals_do_not_claim_a_field_that_was_lost_on_the_way():
    class Mirrored(nn.Module):  # a unit sees its own place and that across the diagonal
        def forward(self, x):
            return (x.flatten(2) + x.mT.flatten(2)).view(x.shape)

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Mirrored(), nn.Conv2d(4, 4, 3))
    given = report(trace(model, (torch.empty(1, 3, 16, 16, device="meta"),)))
    line = dict(facts.totals(given))["field"]
    assert line.startswith("not followed through 1")


# ------------------------------------------------------------- what the generated networks met


def overwritten(m, x):
    y = m.a(x)
    y[..., :1] = 0
    return y


@pytest.mark.parametrize("size", [1, 2])
def test_what_is_written_over_sees_nothing(size):
    model = Lambda(overwritten, a=nn.Conv1d(1, 1, 1)).to("meta")
    result = trace(model, (torch.empty(1, 1, size, device="meta"),))
    found = fields(result)[result.outputs[0]]
    # of one position nothing is left; of two the second sees itself
    assert (found is None) == (size == 1)
    assert found is None or found.maps[0].hi == (-1, 1)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.cat([m.a(x)[:, :, :0].flatten(2), m.a(x).flatten(2)], 2).view(1, 1, 8),
        lambda m, x: m.a(x)[:, :, 8:].sum() + m.a(x),
        lambda m, x: (m.a(x), m.a(x)[:, :, :0].transpose(1, 2).reshape(0, 1))[0],
    ],
)
def test_what_has_no_elements_sees_nothing(forward):
    field = field_of(Lambda(forward, a=conv(3, 1, 1)), 1, 1, 8)
    assert numbers(field.axes) == [[3], [1], [1]]
    assert not field.global_context


def test_an_empty_piece_is_no_piece():
    model = Lambda(lambda m, x: torch.cat([(y := m.a(x))[..., 2:], y[..., :2]], -1),
                   a=nn.Conv1d(1, 1, 1))  # fmt: skip
    assert field_of(model, 1, 1, 2).maps[0].lo == (0, 1)


def test_patches_beside_a_constant_keep_their_places():
    # patches of 2 along 3 columns: unit u sees columns u and u + 1, in whichever channel
    def forward(_, x):
        y = F.unfold(x, 2).view(x.shape[0], -1, 1, x.shape[3] - 1)
        return torch.cat([y, torch.ones_like(y[:, :1])], 1)

    _, columns = field_of(Lambda(forward), 1, 3, 2, 3).maps
    assert (columns.lo, columns.hi) == ((0, 1), (1, 2))


def patches_of(x):
    """2x2 patches of 4x4 pixels, as `b (h w) (p q) c` of an 8x8 image."""
    return x.view(1, 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1)


@pytest.mark.parametrize(
    ("forward", "size", "stride"),
    [
        (patches_of, 1, 1),  # a pixel is a pixel, wherever it is moved
        (lambda x: patches_of(x).flatten(1, 2), 1, 1),
        (lambda x: patches_of(x).reshape(1, 4, 48), 4, 4),  # pixels are features of a patch
        (lambda x: F.unfold(x, 3, padding=1), 3, 1),  # taps are channels of a position
        (lambda x: F.unfold(x[:, :1], 3, padding=1), 3, 1),
    ],
)
def test_places_of_patches_and_windows_are_positions_and_what_lies_in_them_is_not(
    forward, size, stride
):
    axes = field_of(Lambda(lambda _, x: forward(x)), 1, 3, 8, 8).axes
    assert [(axis.size, axis.stride) for axis in axes] == [(size, stride)] * 2
