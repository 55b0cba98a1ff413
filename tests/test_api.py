"""The Python interface on modules of one's own: what it takes, and that nothing is left behind."""

import json
from html.parser import HTMLParser

import pytest
import torch
from command_line import run_cli
from torch import nn
from torch.nn import functional as F
from torchvision.models import detection

import cnnscope
from cnnscope.errors import ModelError, RequestError
from cnnscope.records.summary import ModelReport


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device="meta")


def names(trace):
    return [op.name for op in trace.ops]


def test_trace_and_summary_stay_functions_after_use():
    cnnscope.trace("alexnet")
    assert cnnscope.trace("alexnet").source.name == "alexnet"
    assert cnnscope.summary("alexnet").source.name == "alexnet"


# 64 - 3 + 1 = 62; 62 * 62 * 4 * 3 * 9 = 415,152
@pytest.mark.parametrize("given", ["3x64x64", "1x3x64x64", ["3x64x64"], meta(1, 3, 64, 64)])
def test_one_input_needs_no_list_and_may_be_a_size(given):
    assert cnnscope.summary(nn.Conv2d(3, 4, 3), given).totals.macs == 415_152


def test_one_size_stands_for_the_input_of_a_named_model():
    assert cnnscope.summary("alexnet", "3x224x224").totals.params == 61_100_840


def test_a_dict_of_inputs_by_the_names_of_parameters_gives_them_by_name():
    assert cnnscope.trace(nn.ReLU(), {"input": meta(1)}).input_specs[0].name == "input"


def test_torchscript_on_meta_is_refused_and_touches_nothing():
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Conv1d(4, 4, 1)))
    with pytest.raises(ModelError, match="1 is TorchScript"):
        cnnscope.summary(model, meta(1, 4, 4))
    assert not model[0].weight.is_meta


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.cache = None
        self.seen = []

    def forward(self, x):
        if self.cache is None:
            self.cache = torch.arange(8.0, device=x.device)
        self.seen.append(x)
        return x + self.cache


def test_what_a_forward_keeps_in_its_module_is_gone_afterwards():
    model = Caching()
    cnnscope.trace(model, meta(2, 8))
    assert model.cache is None
    assert model.seen == []
    assert model(torch.zeros(2, 8)).tolist() == [list(range(8))] * 2


def test_a_normalised_weight_is_left_on_its_device():
    model = nn.utils.weight_norm(nn.Linear(4, 4))
    assert cnnscope.summary(model, meta(2, 4)).totals.linear_layers == 1
    assert not model.weight.is_meta


@pytest.mark.broad
def test_a_real_detector_still_runs_after_a_trace_that_failed():
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    model.eval()
    with pytest.raises(ModelError):
        cnnscope.summary(model, [[meta(3, 320, 320)]])
    assert len(model([torch.rand(3, 320, 320)])) == 1


@pytest.mark.parametrize("container", [lambda w: (w,), lambda w: [w], lambda w: {0: w}])
def test_weights_that_a_module_keeps_elsewhere_as_well_are_read_as_its_own(container):
    class Keeper(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 5, bias=False)
            self.kept = container(self.layer.weight)

        def forward(self, x):
            return x @ self.kept[0].T

    model = Keeper()
    assert cnnscope.summary(model, meta(2, 4)).unused == {}
    assert model.kept[0] is model.layer.weight


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 512))

    def forward(self, x):
        return F.relu(F.linear(F.relu(x), self.weight))


def test_a_layer_with_a_single_output_is_not_minor():
    rows = cnnscope.summary(Head(), meta(1, 512)).layers
    # 1 x 512 by 512 x 1
    assert [(row.macs, row.minor) for row in rows if row.operation == "linear"] == [(512, False)]


class TiedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 200, bias=False)
        self.emb = nn.Embedding(200, 8)
        self.head.weight = self.emb.weight

    def forward(self, index):
        return F.linear(self.emb(index), self.emb.weight)


def test_a_tied_weight_belongs_to_the_module_that_ran():
    report = cnnscope.summary(TiedHead(), meta(1, 3, dtype=torch.long))
    assert {row.path: row.params for row in report.layers if row.params} == {"": 1600, "emb": 1600}


def test_parts_of_one_input_do_not_depend_on_each_other():
    class Both(nn.Module):
        def forward(self, a, b):
            return a * 2 + b

    whole = meta(4, 6)
    trace = cnnscope.trace(Both(), (whole[:, :2], whole[:, 2:4]))
    assert names(trace) == ["aten.mul.Tensor", "aten.add.Tensor"]
    assert set(trace.inputs).isdisjoint(out for op in trace.ops for out in op.outputs)


def test_a_write_through_bytes_is_partial():
    class Bytes(nn.Module):
        def forward(self, x):
            y = x * 1
            y.view(torch.int8)[:4].add_(1)  # one of four floats
            return y

    assert "cnnscope.write_window" in names(cnnscope.trace(Bytes(), meta(4)))


def test_the_device_is_that_of_the_input():
    class Number(nn.Module):
        def forward(self, x):
            return float(x.shape[0])

    assert cnnscope.trace(Number(), torch.zeros(3)).device == "cpu"
    assert cnnscope.trace(Number(), meta(3)).device == "meta"


# ------------------------------------------------------------------------- what it shows


@pytest.mark.parametrize("size", [(3, 64, 64), [1, 3, 64, 64], torch.Size((1, 3, 64, 64))])
def test_a_size_may_be_numbers_as_in_torchinfo_and_torchsummary(size):
    assert cnnscope.summary(nn.Conv2d(3, 4, 3), size).totals.macs == 415_152


def test_several_sizes_are_a_list():
    class Both(nn.Module):
        def forward(self, a, b):
            return a + b

    trace = cnnscope.trace(Both(), [(1, 3, 8, 8), (3, 8, 8)])
    assert [spec.shape for spec in trace.input_specs] == [(1, 3, 8, 8)] * 2


def test_no_input_is_a_guess_that_the_report_tells():
    report = cnnscope.summary(nn.Conv2d(5, 4, 3))
    assert report.inputs[0].shape == (1, 5, 224, 224)
    assert "is a guess" in report.notes[0]


def test_printing_a_report_shows_what_the_command_line_shows():
    report = cnnscope.summary("alexnet")
    assert str(report) == repr(report) == run_cli("summary", "alexnet").out
    shown = run_cli("summary", "alexnet", "--depth", "1", "--columns", "layer,macs").out
    assert report.table(depth=1, columns=["layer", "macs"]) == shown


def test_a_report_in_a_terminal_fits_it(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, str(cnnscope.summary("alexnet")).splitlines())) <= 60


def test_a_report_holds_the_plain_record_and_a_dict_of_it_is_the_json():
    report = cnnscope.summary("alexnet")
    assert isinstance(report.record, ModelReport)
    assert report.layers is report.record.layers
    assert report == cnnscope.summary("alexnet")
    assert {"record", "layers", "to_dict"} <= set(dir(report))
    with pytest.raises(AttributeError):
        _ = report.no_such_field
    assert report.to_dict() == json.loads(run_cli("summary", "alexnet", "-f", "json").out)


class Table(HTMLParser):
    """Cells of the rows, and tags that were not closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_a_notebook_gets_the_same_rows_as_html():
    report = cnnscope.summary("alexnet")
    parsed = Table(report._repr_html_())
    assert parsed.open == []
    table = [line.split() for line in str(report).split("\n\n")[1].splitlines()]
    assert [row[0].strip() for row in parsed.rows] == [cells[0] for cells in table]
    macs = [row[4] for row in parsed.rows[1:]]
    assert macs[1] == "70.3 M"  # 64 * 3*11*11 * 55*55 = 70,276,800


def test_html_holds_nothing_that_a_model_is_called():
    kind = type("<script>&", (nn.Identity,), {})
    text = cnnscope.summary(nn.Sequential(kind(), nn.Conv2d(3, 4, 3)), "3x8x8")._repr_html_()
    assert "<script" not in text


@pytest.mark.parametrize("command", ["rf", "verify_rf", "effective", "explain"])
@pytest.mark.parametrize("layer", [meta(1, 4, 8, 8), (1, 4, 8, 8), 3, nn.ReLU()])
def test_an_input_in_the_place_of_the_layer_is_refused(command, layer):
    with pytest.raises(RequestError, match=r"^layer: give a dotted path.* inputs=\.\.\.$"):
        getattr(cnnscope, command)(nn.Conv2d(4, 4, 3), layer)


class Rows(nn.Module):
    """A convolution, and an LSTM along the rows of its result."""

    def __init__(self, **options):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.lstm = nn.LSTM(16, 4, **options)

    def forward(self, x):
        order = (0, 2, 1, 3) if self.lstm.batch_first else (2, 0, 1, 3)
        return self.lstm(self.conv(x).permute(order).flatten(2))[0]


# Row 4 follows from rows 0 to 4 of the convolution, whose kernel of 3 sees rows 0 to 5.
@pytest.mark.parametrize("options", [{"batch_first": True}, {}])
def test_an_lstm_that_ran_on_real_tensors_sees_all_rows_before(options):
    model, x = Rows(**options).eval(), torch.rand(1, 1, 8, 8, requires_grad=True)
    model(x).movedim(0 if not options else 1, 0)[4].sum().backward()
    assert x.grad.abs().sum(3).nonzero()[:, 2].tolist() == [*range(6)]
    found = cnnscope.rf(model, "lstm", x.detach())
    assert [axis.clipped for axis in found.axes] == [(0, 5), (0, 7)]
    checked = cnnscope.verify_rf(model, inputs=(x.detach(),))
    assert [layer.verdict for layer in checked.layers] == ["equal", "equal"]


def test_a_path_names_a_file(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Conv2d):\n    def __init__(self):\n"
        "        super().__init__(3, 8, 3)\n"
    )
    assert cnnscope.summary(tmp_path / "net.py", "3x8x8").totals.params == 3 * 8 * 9 + 8
    assert str(cnnscope.rf(tmp_path / "net.py", inputs="3x8x8")).startswith("net.py:Net")
