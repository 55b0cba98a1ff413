"""`rf --verify`: computed fields beside measured ones, wrong rules caught, and the command."""

from __future__ import annotations

import json

import pytest
import torch
from command_line import run_cli
from measured_fields import Lambda
from torch import nn
from torch.nn import functional as F

import cnnscope
from cnnscope.analysis import elements
from cnnscope.analysis.receptive_field import fields
from cnnscope.deadline import Deadline
from cnnscope.measure import gradient as probe
from cnnscope.ops.fields import maps
from cnnscope.render.verify import measured
from cnnscope.reports.verify import verify
from cnnscope.tracing.tracer import trace


def verdict(model, *shape):
    model = model.to("meta")
    return verify(trace(model, (torch.empty(shape, device="meta"),)), model, every=True)


# ------------------------------------------------------------------------------- verdicts


def test_all_layers_of_a_small_network():
    model = nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), (1, 2)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ConvTranspose2d(8, 4, 3, 2, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    report = verdict(model, 1, 3, 33, 47)
    assert [(c.path, c.verdict) for c in report.layers if c.verdict != "equal"] == []
    hows = {check.how for layer in report.layers for check in layer.checks}
    assert hows == {"interior", "whole"}


def test_squeeze_and_excite_is_measured_beside_its_local_field():
    def excite(m, x):
        y = m.a(x)
        return y * torch.sigmoid(m.b(y.mean((2, 3), keepdim=True)))

    model = nn.Sequential(
        Lambda(excite, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 4, 1)),
        nn.Conv2d(4, 4, 3, padding=1),
    )
    report = verdict(model, 1, 3, 32, 32)
    last = report.layers[-1]
    assert last.verdict == "equal"
    interior = [c.measured[0] for c in last.checks if c.how == "interior"]
    assert {b - a + 1 for a, b in interior} == {5}
    assert [c.measured for c in last.checks if c.how == "whole"] == [((0, 31),)] * 2


def test_a_mean_of_a_map_whose_channels_lie_last_in_memory():
    # torch gives the strides of the map to the mean, in place
    model = Lambda(
        lambda m, x: m.b(m.a(x).contiguous(memory_format=torch.channels_last)),
        a=nn.Conv2d(3, 4, 3), b=nn.AdaptiveAvgPool2d(1),
    )  # fmt: skip
    report = verdict(model, 2, 3, 16, 16)
    assert {c.path: c.verdict for c in report.layers} == {"a": "equal", "b": "equal"}


def test_coordinate_attention_is_whole_along_one_axis_at_a_time():
    def forward(m, x):
        return m.a(x) * torch.sigmoid(x.mean(2, keepdim=True)) + x.mean(3, keepdim=True)

    report = verdict(Lambda(forward, a=nn.Conv2d(1, 1, 3, padding=1)), 1, 1, 32, 48)
    assert {c.verdict for c in report.layers} == {"equal"}


def test_a_function_of_the_size_is_measured_at_the_input_alone():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.AdaptiveAvgPool2d(7))
    report = verdict(model, 1, 1, 32, 32)
    assert [c.verdict for c in report.layers] == ["equal", "equal"]
    assert {c.how for c in report.layers[1].checks} == {"input"}


def test_resizing_to_a_size_is_true_of_this_input_only():
    # 33 to 65 units is another ratio than 34 to 67 at a larger image
    model = Lambda(
        lambda m, x: F.interpolate(m.a(x), size=x.shape[-1], mode="linear"),
        a=nn.Conv1d(1, 1, 3, 2, 1),
    )
    result = trace(model.to("meta"), (torch.empty(1, 1, 65, device="meta"),))
    (axis,) = fields(result)[result.outputs[0]].axes
    assert axis.explicit
    assert {c.verdict for c in verdict(model, 1, 1, 65).layers} == {"equal"}


def test_aligned_corners_are_true_of_this_input_only():
    model = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    report = verdict(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), model), 1, 1, 32, 32)
    assert report.layers[-1].field[0].explicit
    assert report.layers[-1].verdict == "equal"


def windows(m, x):
    """Rows in windows of four, as a batch of windows, and back."""
    n, c, h, w = x.shape
    x = m.a(x).permute(0, 2, 3, 1).reshape(n * h // 4, 4, w, c)
    return m.b(x).reshape(n, h, w, c)


def test_rows_in_windows_are_measured_one_at_a_time():
    report = verdict(
        Lambda(windows, a=nn.Conv2d(4, 4, 3, padding=1), b=nn.Linear(4, 4)), 1, 4, 32, 32
    )
    assert {c.path: c.verdict for c in report.layers} == {"a": "equal", "b": "equal"}
    (rows,) = (c for c in report.layers[-1].checks if c.axis == 0)
    assert (rows.how, rows.units) == ("input", (0, 16, 31))
    assert rows.measured == ((0, 1), (15, 17), (30, 31))


def test_a_wrong_layout_of_windows_is_caught(monkeypatch):
    place = elements._place  # every window is taken for the next one
    monkeypatch.setattr(
        elements, "_place", lambda state, axis, unit: place(state, axis, (unit + 4) % 32)
    )
    model = Lambda(windows, a=nn.Conv2d(4, 4, 3, padding=1), b=nn.Linear(4, 4))
    assert [c.verdict for c in verdict(model, 1, 4, 32, 32).layers] == ["equal", "differs"]


class Fixed(nn.Module):
    """Runs at one size only."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, (3, 1), (2, 1))

    def forward(self, x):
        assert x.shape[-2:] == (32, 32)
        return self.b(self.a(x).permute(0, 2, 3, 1).permute(0, 3, 1, 2))


class Batches(nn.Module):
    """Takes a list of images, as torchvision's detectors do, and copies them into a batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, stride=2)

    def forward(self, images):
        batch = images[0].new_full((len(images), *images[0].shape), 0)
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]].copy_(image)
        return self.conv(batch)


def windows_of_heads(m, x):
    """Windows of 4 x 4 positions: of 16 x 16 there are as many as rows, and as positions in one."""
    x = m.patches(x)
    h, w = (n // 4 for n in x.shape[-2:])
    x = x.view(1, 1, 2, h, 4, w, 4).permute(0, 3, 5, 1, 4, 6, 2).reshape(h * w, 1, 16, 2)
    return m.last(F.relu(x))  # windows, head, positions, channels


def test_as_many_windows_as_an_axis_has_units_are_no_axis():
    patches = nn.Conv2d(3, 2, 4, stride=4)
    report = verdict(Lambda(windows_of_heads, patches=patches, last=nn.Linear(2, 2)), 1, 3, 64, 64)
    assert {row.verdict for row in report.layers} == {"equal"}


class Shifted(nn.Module):
    """Cosine attention in windows of 4 x 4 positions shifted by slices, as exporters write Swin V2.

    It runs at one size only: of 8 rows of positions. As many are the channels of a head.
    """

    def __init__(self):
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        assert x.shape[-2:] == (32, 32)
        x = self.patches(x).permute(0, 2, 3, 1)
        for dim in (1, 2):
            x = torch.cat([x.narrow(dim, 2, 6), x.narrow(dim, 0, 2)], dim)
        x = x.reshape(2, 4, 2, 4, 16).transpose(1, 2).reshape(4, 16, 16)
        q, k, v = self.qkv(x).reshape(4, 16, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
        x = (scores @ v).transpose(1, 2).reshape(2, 2, 4, 4, 16).transpose(1, 2)
        return self.last(x.reshape(1, 8, 8, 16).permute(0, 3, 1, 2))


def test_windows_of_a_model_of_one_size_are_measured_where_they_are():
    report = verdict(Shifted(), 1, 3, 32, 32)
    assert {row.verdict for row in report.layers} == {"equal"}
    (divided, *_) = (row for row in report.layers if row.path.startswith("div"))
    (rows, _) = divided.checks
    # windows begin at position 2, after 8 pixels; behind position 7 comes 0
    assert (rows.units, rows.measured) == ((0, 4, 7), ((8, 11), (24, 27), (4, 7)))
    # a window of four positions, and one of two at the end beside two at the beginning
    assert [check.measured for check in report.layers[-1].checks] == [
        ((8, 23), (0, 31), (0, 31))
    ] * 2


def test_images_in_a_list_are_measured():
    model = Batches()
    made = trace(model, ([torch.empty((3, 12, 16), device="meta")],))
    assert made.given.as_list
    report = verify(made, model.to("meta"), "conv")
    (row,) = report.layers
    assert row.verdict == "equal"
    assert [check.how for check in row.checks] == ["interior", "interior"]


class Conditioned(nn.Module):
    """An image, and beside it a vector (in either order) that has no positions."""

    def __init__(self, labels):
        super().__init__()
        self.labels = labels
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.table, self.mix = nn.Embedding(10, 8), nn.Linear(1, 8)

    def forward(self, *inputs):
        t, x = inputs if self.labels else inputs[::-1]
        style = self.table(t) if self.labels else self.mix(t[:, None])
        return self.b(self.a(x)), style


@pytest.mark.parametrize("labels", [True, False])
def test_only_inputs_with_positions_grow_with_the_canvas(labels):
    model = Conditioned(labels).to("meta")
    t = torch.empty(2, device="meta", dtype=torch.long if labels else torch.float32)
    x = torch.empty(2, 3, 24, 36, device="meta")
    made = trace(model, (t, x) if labels else (x, t))
    (row,) = verify(made, model, "b").layers
    assert row.verdict == "equal"
    assert [check.how for check in row.checks] == ["interior", "interior"]
    assert [b - a + 1 for check in row.checks for a, b in check.measured[:1]] == [5, 5]


def test_a_map_divided_by_its_own_statistics_keeps_its_local_field():
    model = Lambda(
        lambda m, x: m.a(x / x.flatten(1).std(1)[:, None, None, None]),
        a=nn.Conv2d(1, 8, 3, padding=1),
    )
    report = verdict(model, 1, 1, 32, 32)
    assert {c.verdict for c in report.layers} == {"equal"}
    interior = [c for c in report.layers[-1].checks if c.how == "interior"]
    assert {b - a + 1 for c in interior for a, b in c.measured} == {3}


def test_a_map_less_its_mean_by_its_deviation_sees_all():
    def standardised(m, x):
        x = m.a(x)
        return (x - x.mean((2, 3), keepdim=True)) / x.var((2, 3), keepdim=True).sqrt()

    report = verdict(Lambda(standardised, a=nn.Conv2d(1, 2, 3, padding=1)), 1, 1, 16, 16)
    assert {c.verdict for c in report.layers} == {"equal"}


def test_a_linear_layer_on_the_last_position_sees_what_that_sees():
    # 7x7 of stride 4, then eight positions in one: 7 + 7*4 = 35 pixels, of which 32 are there
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.AvgPool2d(8), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    report = verdict(model, 1, 3, 32, 32)
    assert {c.verdict for c in report.layers} == {"equal"}
    assert [check.measured for check in report.layers[-1].checks] == [((0, 31),)] * 2


class Axial(nn.Module):
    """Attention over the columns of every row, written in one of three ways."""

    def __init__(self, way):
        super().__init__()
        self.way, self.a = way, nn.Conv2d(3, 8, 3, padding=1)
        self.m = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        y = self.a(x)
        n, c, h, w = y.shape
        z = y.permute(0, 2, 3, 1).reshape(n * h, w, c)
        if self.way == "module":
            z = self.m(z, z, z)[0]
        elif self.way == "fused":
            z = F.scaled_dot_product_attention(z, z, z)
        else:
            z = (z @ z.mT).softmax(-1) @ z
        return z.view(n, h, w, c).permute(0, 3, 1, 2)


@pytest.mark.parametrize("way", ["module", "fused", "by hand"])
def test_a_query_of_axial_attention_sees_itself_and_all_columns(way):
    last = verdict(Axial(way), 1, 3, 48, 48).layers[-1]
    assert last.verdict == "equal"
    assert {b - a + 1 for c in last.checks if c.how == "interior" for a, b in c.measured} == {3}
    assert [(c.axis, c.measured) for c in last.checks if c.how == "whole"] == [(1, ((0, 47),))]


def test_a_model_of_one_size_is_measured_at_that_size():
    # 32 channels, 32 rows and 32 columns: which is which is told by what moves
    report = verdict(Fixed(), 1, 3, 32, 32)
    assert {c.verdict for c in report.layers} == {"equal"}
    assert {check.how for c in report.layers for check in c.checks} == {"input"}


def test_a_wrong_rule_is_caught(monkeypatch):
    window = maps.window
    monkeypatch.setattr(maps, "window", lambda k, s, p, d=1: window(k + (k == 5), s, p, d))
    report = verdict(nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 5)), 1, 1, 40)
    assert [c.verdict for c in report.layers] == ["equal", "differs"]
    (check,) = report.layers[1].checks
    sizes = [{b - a + 1 for a, b in pairs} for pairs in (check.computed, check.measured)]
    assert sizes == [{8}, {7}]


def test_a_wrong_context_is_caught(monkeypatch):
    monkeypatch.setattr(maps.Axis, "all_seen", lambda _: (0, 5))
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.AdaptiveAvgPool1d(1))
    assert [c.verdict for c in verdict(model, 1, 1, 40).layers] == ["equal", "differs"]


# ------------------------------------------------------------------------- time and memory


def test_what_there_was_no_time_for_is_said():
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 5)).to("meta")
    made = trace(model, (torch.empty(1, 1, 40, device="meta"),))
    report = verify(made, model, deadline=Deadline(1e-9))
    assert {(c.verdict, c.reason) for c in report.layers} == {
        ("not measured", "the limit of 1e-09 seconds was reached; give more")
    }


def test_what_takes_long_is_announced_beforehand(monkeypatch):
    monkeypatch.setattr("cnnscope.measure.gradient.pace", lambda: 1.0)  # seconds for every element
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 5)).to("meta")
    made = trace(model, (torch.empty(1, 1, 40, device="meta"),))
    said = []
    assert verify(made, model, tell=said.append).layers[0].verdict == "equal"
    assert len(said) == 1
    assert said[0].startswith("measuring 2 fields takes about ")
    assert said[0].endswith("a limit of seconds stops earlier")


def test_a_canvas_that_does_not_fit_into_memory_is_not_tried(monkeypatch):
    monkeypatch.setattr("cnnscope.parallel.free_memory", lambda: 100)
    report = verdict(nn.Conv1d(1, 1, 3), 1, 1, 40)
    assert [c.verdict for c in report.layers] == ["not measured"]
    assert "needs about 0.0 GiB, and 0.0 GiB are free" in report.layers[0].reason


def test_a_replay_s_size_is_what_is_made_and_what_is_alive_at_once():
    # 8 pixels, a view of them, 2*6 units of a convolution, written over: 12 made, 12 at once
    model = Lambda(lambda m, x: F.relu_(m.a(x.view(1, 1, 8))), a=nn.Conv1d(1, 2, 3)).to("meta")
    assert probe.size(probe.record(model, [probe.image((1, 1, 8))])) == (12, 12)


# ----------------------------------------------------------------------- the command line


def test_verify_says_that_all_is_equal(monkeypatch):
    monkeypatch.setattr("cnnscope.measure.gradient.pace", lambda: 0.0)  # nothing takes long
    result = run_cli("rf", "alexnet", "--verify")
    assert result.code == 0
    assert "measured fields equal the computed ones" in result.out
    assert "195" in result.out
    assert result.err == ""


def test_verify_fails_where_something_differs(monkeypatch):
    window = maps.window
    monkeypatch.setattr(maps, "window", lambda k, s, p, d=1: window(k + (k == 11), s, p, d))
    result = run_cli("rf", "alexnet", "features.0", "--verify")
    assert result.code == 1
    assert "0 of 1 measured fields" in result.out
    assert "computed [" in result.out


def test_a_field_that_is_not_known_is_no_difference(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "class Warp(nn.Module):\n"
        "    def forward(self, x):\n"
        "        grid = x.expand(1, 2, 7, 7).movedim(1, -1)  # where it leads depends on the data\n"
        "        return nn.functional.grid_sample(x, grid, align_corners=False)\n"
        "net = nn.Sequential(nn.Conv2d(1, 1, 3), Warp())\n"
    )
    result = run_cli("rf", f"{file}:net", "1", "--input", "1x9x9", "--verify")
    assert result.code == 0
    assert "nothing to measure: no field is known" in result.out


@pytest.mark.broad
def test_a_known_field_that_cannot_be_measured_is_no_difference():
    # behind the class token the patches lie beside it in one dimension: no image of another size
    result = run_cli("rf", "vit_b_16", "encoder.layers.encoder_layer_0.ln_1", "--verify")
    assert result.code == 0
    assert "not measured" in result.out
    assert "a reshape has split or joined the positions" in result.out


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("target", [{"scale_factor": 0.5}, {"size": 16}, {"scale_factor": 2}])
def test_antialiased_resizing_is_measured_along_both_axes(mode, target):
    def resize(_, x):
        return F.interpolate(x, mode=mode, antialias=True, **target)

    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Lambda(resize))
    (row,) = (one for one in verdict(model, 1, 1, 32, 32).layers if one.path == "1")
    assert row.verdict == "equal"


@pytest.mark.parametrize("format_", ["table", "json", "csv", "markdown"])
def test_a_network_without_positions_has_nothing_to_measure(format_, tmp_path):
    path = tmp_path / "net.py"
    path.write_text("from torch import nn\nnet = nn.Sequential(nn.Linear(4, 2), nn.ReLU())\n")
    result = run_cli("rf", f"{path}:net", "-i", "1x4", "--verify", "-f", format_)
    assert result.code == 0
    assert ("nothing to measure" in result.out) == (format_ in ("table", "markdown"))


@pytest.mark.parametrize("format_", ["json", "csv", "markdown"])
def test_every_format_has_what_was_verified(format_):
    result = run_cli("rf", "alexnet", "features.3", "--verify", "--format", format_)
    assert result.code == 0
    assert "features.3" in result.out
    if format_ == "json":
        (layer,) = json.loads(result.out)["layers"]
        assert layer["verdict"] == "equal"
        # conv 11/4, pool 3/2, conv 5: 11 + 2*4 + 4*8 = 51 pixels
        first, last = layer["checks"][0]["measured"][0]
        assert last - first + 1 == 51


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--verify", "--effective"), "one at a time"),
        (("--all", "--effective"), "not with --effective"),
        (("features.0", "--all"), "not with a layer"),
        (("features.0", "--verify", "--all"), "not with a layer"),
        (("--seconds", "3"), "only with --verify"),
        (("--verify", "--seconds", "0"), "above 0"),
        (("--samples", "3"), "only with --effective"),
        (("--effective", "--samples", "0"), "at least 1"),
        (("features.0", "--verify", "--unit", "1,1"), "several units"),
        (("features.0", "--verify", "-o", "x.png"), "no picture"),
        (("features.0", "--image", "x.jpg"), "--output out.png"),
        (("-o", "x.png"), "name it"),
        (("classifier.6", "--effective"), "its receptive field is not known along every axis"),
        (("features.0", "--image", "/no/such.jpg", "-o", "x.png"), "No such file"),
        (("features.0", "-o", "/no/such/x.png"), "no folder"),
        (("nothing", "--verify"), "no layer"),
    ],
)
def test_rf_refuses_what_it_cannot_measure_or_draw(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cli("rf", "alexnet", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Net", "net"])
def test_a_network_of_one_s_own_is_verified_with_weights_or_without(name, tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 2))\n"
        "net = Net()\n",
        encoding="utf-8",
    )
    result = run_cli("rf", f"{path}:{name}", "--input", "3x32x32", "--verify")
    assert result.code == 0
    assert "2 of 2 measured fields" in result.out


class _Strip(torch.nn.Module):
    """Sees 3 pixels along H, and all of W."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).mean(3)


@pytest.mark.parametrize("ask", [cnnscope.rf, cnnscope.verify_rf])
def test_an_axis_without_a_number_is_none_and_a_note_says_so(ask):
    text = ask(_Strip(), inputs=(torch.empty(1, 3, 16, 16, device="meta"),)).table()
    assert "1 x none" in text  # the padding along H, and that along W
    assert "\nnone        an axis along which there is no single number" in text


# ------------------------------------------------------- axes that differ in what they see


class Columns(nn.Module):
    """A 3x3 convolution, and an LSTM or a mean along the columns of each row."""

    def __init__(self, recurrent):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.d = nn.LSTM(4, 5, batch_first=True) if recurrent else None

    def forward(self, x):
        y = self.a(x)
        if self.d is None:
            return y.mean(3)
        rows = y.permute(0, 2, 3, 1)  # N H W C: a sequence of columns for each row
        return self.d(rows.reshape(-1, *rows.shape[2:]))[0]


@pytest.mark.parametrize(
    ("recurrent", "layer", "text", "context"),
    [
        # rows see 3 of the convolution; column w of 24 sees columns 0 to w + 1: 2 to 24
        (True, "d", "3x2-24 of 24", ""),
        (False, "mean", "3x24 px", "along W it depends on every position"),
    ],
)
def test_an_axis_that_is_whole_beside_one_that_is_not(recurrent, layer, text, context):
    model, inputs = Columns(recurrent), (1, 3, 24, 24)
    report = verify(trace(model.to("meta"), (torch.empty(inputs, device="meta"),)), model, layer)
    (check,) = report.layers
    assert (check.verdict, measured(check)) == ("equal", text)
    unit = cnnscope.rf(model, layer, inputs=inputs)
    assert dict(unit.page().below).get("context", "") == context
    assert not unit.record.global_context


@pytest.mark.parametrize("pool", [F.avg_pool2d, F.max_pool2d])
def test_a_gate_from_a_pool_as_large_as_the_map_is_a_function_of_the_whole_image(pool):
    def gated(net, x):
        y = net.a(x)
        return net.b(y * pool(y, y.shape[-2:]).sigmoid())

    model = Lambda(gated, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 4, 3, padding=1))
    report = verdict(model, 1, 3, 32, 32)
    # the pool, of a single unit: 3 + (32 - 1); behind the gate 3 + 2, beside everything
    fields = {c.path: (c.field[0].size, c.field[0].local_size) for c in report.layers}
    assert (fields["a"], fields["mul"], fields["b"]) == ((3, 3), (None, 3), (None, 5))
    assert {c.verdict for c in report.layers} == {"equal"}
    shown = cnnscope.summary(model, inputs=(1, 3, 32, 32)).record.totals
    assert [axis.local_size for axis in shown.field] == [34, 34]


def test_a_layer_of_one_unit_outgrows_the_input_only_where_no_other_does():
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)]
    end = nn.Sequential(*layers[:2], nn.AvgPool2d(8))  # 3, 5, and 5 + 7 = 12 of 8 pixels
    assert cnnscope.rf(end, inputs=(1, 3, 8, 8)).record.exceeds_input_at == "2"
    gate = Lambda(lambda m, x: m.net(x * F.avg_pool2d(x, 8)), net=nn.Sequential(*layers))
    # a pool of 8, no more than the input, and 3, 5, 7, 9 of the convolutions
    assert cnnscope.rf(gate, inputs=(1, 3, 8, 8)).record.exceeds_input_at == "net.3"
    wide = Lambda(lambda m, x: m.net(x * F.avg_pool2d(m.first(x), 8)),
                  first=nn.Conv2d(3, 3, 3, padding=1), net=nn.Sequential(*layers))  # fmt: skip
    # the gate's pool sees 3 + 7 = 10
    assert cnnscope.rf(wide, inputs=(1, 3, 8, 8)).record.exceeds_input_at == "net.3"
