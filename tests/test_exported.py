"""Exported programs: the same answers as the model they were made from, and nothing executed."""

import io
import json
import logging
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import run_cli
from torch import nn
from torch.export import Dim

from cnnscope import api, report, run
from cnnscope.errors import RequestError
from cnnscope.zoo import archive


class Block(nn.Module):
    """Two convolutions, one activation that runs twice, a projection."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=2, groups=4, dilation=2)
        self.relu = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(8, 16, 1, stride=2)

    def forward(self, x):
        y = self.relu(self.norm(self.conv1(x)))
        return self.relu(self.conv2(y) + self.project(x))


class Net(nn.Module):
    """Convolutions, a buffer that is not saved, a constant, tied weights, an unused one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block()
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.idle = nn.Linear(7, 7)
        self.register_buffer("grid", torch.arange(4.0), persistent=False)

    def forward(self, x, extra):
        with torch.no_grad():
            x = self.block(self.stem(x))
        x = self.pool(self.up(x)).flatten(1) * self.grid + torch.tensor([1.0, 2.0, 3.0, 4.0])
        left, right = torch.split(self.second(self.first(x)), 2, dim=1)
        return {"left": left + extra, "right": right}


INPUTS = (torch.zeros(2, 3, 16, 24), torch.zeros(2, 2))
DYNAMIC = {"x": {0: Dim("batch", min=2, max=8), 2: Dim.AUTO, 3: Dim.AUTO}, "extra": {0: Dim.AUTO}}


def save(model, inputs, path, **options):
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(model, inputs, **options), path)
    finally:
        logging.disable(logging.NOTSET)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def fixed(folder):
    return save(Net().eval(), INPUTS, folder / "fixed.pt2")


@pytest.fixture(scope="module")
def dynamic(folder):
    return save(Net().eval(), INPUTS, folder / "dynamic.pt2", dynamic_shapes=DYNAMIC)


@pytest.fixture(scope="module")
def original():
    return api.summary(Net(), INPUTS)


def message(path, **options):
    with pytest.raises(RequestError) as caught:
        run.trace_spec(path, **options)
    return str(caught.value)


def rewritten(path, target, change):
    """A copy of an archive in which `change(name, data)` gives the data of each entry, or None."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return str(target)


def with_graph(path, target, change):
    """A copy of a program whose JSON `change` has edited."""

    def edit(name, data):
        if not name.endswith("models/model.json"):
            return data
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return rewritten(path, target, edit)


# ---------------------------------------------------------------------------- the same answers


def facts(rows):
    """What a row says of a layer; constants and casts, which only one of the two has, left out."""
    return [
        (r.path, r.kind, r.operation, r.call, r.geometry, r.features, r.output_shapes,
         r.params, r.buffers, r.macs, r.element_ops, r.field)
        for r in rows if not r.minor
    ]  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
def test_rows_are_those_of_the_original_model(original, folder, fixed, strict):
    path = save(Net().eval(), INPUTS, folder / "strict.pt2", strict=True) if strict else fixed
    result = report.report(run.trace_spec(path))
    assert facts(result.layers) == facts(original.layers)
    assert result.mismatches == ()
    assert result.unknown == ()


def test_hyper_parameters_are_those_of_the_constructors(fixed):
    kinds = ("Conv2d", "ConvTranspose2d", "BatchNorm2d", "ReLU", "Linear")

    def hyper(trace):
        called = {call.module for call in trace.calls}
        return {
            m.path: m.hyper for i, m in enumerate(trace.modules) if i in called and m.kind in kinds
        }

    told = hyper(run.trace_spec(fixed))
    assert told == hyper(api.trace(Net(), INPUTS))
    assert len(told) == 9  # stem, five in the block, up, two linear layers


def test_totals_are_those_of_the_original_model(original, fixed):
    totals = report.report(run.trace_spec(fixed)).totals
    # What the original run on the CPU made beside its layers: the constant of four floats.
    assert totals.params == original.totals.params
    # By hand: stem 8*3*9 + 8, block 16*8*9, norm 2*16, 16*4*9 + 16, 16*8 + 16, up 16*4*4 + 4,
    # two linear layers with one weight 16 + 4 + 4, idle 49 + 7.
    assert totals.params == 224 + 1152 + 32 + 592 + 144 + 260 + 24 + 56
    assert totals.unused_params == 56
    assert totals.shared_params == 16
    assert totals.buffers == original.totals.buffers == 16 + 16 + 1 + 4
    assert totals.macs == original.totals.macs
    assert (totals.conv_layers, totals.linear_layers) == (5, 1)


def leaf_macs(result):
    return [row.macs for row in result.layers if row.leaf and row.macs]


def test_a_program_of_core_operations_costs_the_same(original, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net().eval(), INPUTS).run_decompositions()
        torch.export.save(program, folder / "core.pt2")
    result = report.report(run.trace_spec(str(folder / "core.pt2")))
    assert result.totals.macs == original.totals.macs
    assert result.totals.params == original.totals.params
    # Torch forgets the modules of what ran under no_grad here: the operations are left.
    assert leaf_macs(result) == leaf_macs(original)


def test_torchvision_program_is_the_torchvision_model(folder):
    import torchvision

    path = save(
        torchvision.models.resnet18().eval(), (torch.zeros(1, 3, 64, 64),), folder / "r.pt2"
    )
    program = report.report(run.trace_spec(path))
    named = report.report(run.trace_spec("resnet18", inputs=["64"]))
    assert facts(program.layers) == facts(named.layers)
    assert program.totals == named.totals


def test_header_names_the_torch_that_exported(fixed):
    shown = run_cli("summary", fixed).out.splitlines()[0]
    assert f"torch.export {torch.__version__.partition('+')[0]}" in shown
    assert "input 2x3x16x24 float32, 2x2 float32" in shown


def test_receptive_fields_of_a_program(fixed):
    # stem 3; conv1 3 + 2*1 = 5 at stride 2; conv2 (kernel 3, dilation 2) 5 + 4*2 = 13.
    result = run_cli("rf", fixed, "--format", "csv").out
    assert "block.conv2,1,0,13,13," in result


def test_training_mode_is_pointed_out(folder):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    path = save(model.train(), INPUTS[:1], folder / "train.pt2")
    assert "training mode" in " ".join(run.trace_spec(path).notes)


# ----------------------------------------------------------------------------------------- sizes


def test_other_sizes_where_they_are_dynamic(dynamic):
    trace = run.trace_spec(dynamic, inputs=["4x3x32x40", "4x2"])
    direct = api.summary(Net(), (torch.zeros(4, 3, 32, 40), torch.zeros(4, 2)))
    assert report.report(trace).totals.macs == direct.totals.macs


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (["4x3x32x40", "5x2"], "dimension 0 must be 4"),
        (["9x3x32x40", "9x2"], "dimension 0 was exported for sizes from 2 to 8"),
        (["4x1x32x40", "4x2"], "dimension 1 was exported as 3 and cannot be 1"),
    ],
)
def test_sizes_that_a_dynamic_program_refuses(dynamic, sizes, words):
    assert words in message(dynamic, inputs=sizes)


def test_fixed_size_says_how_to_free_it(fixed):
    text = message(fixed, inputs=["2x3x32x32", "2x2"])
    assert "dimension 2 was exported as 16 and cannot be 32" in text
    assert "dynamic_shapes" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float16"}, "exported for float32"),
        ({"num_classes": 3}, "num_classes cannot be set"),
        ({"arguments": {"width": 3}}, "width cannot be set"),
    ],
)
def test_what_cannot_be_changed_any_more(fixed, options, words):
    assert words in message(fixed, **options)


# ---------------------------------------------------------------------------- nothing is executed


class Mischief:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def with_mischief(path, target, marker):
    buffer = io.BytesIO()
    torch.save(((Mischief(str(marker)),), {}), buffer, pickle_module=pickle)

    def change(name, data):
        return buffer.getvalue() if "sample_inputs" in name else data

    return rewritten(path, target, change)


def test_pickled_inputs_of_a_program_are_not_unpickled(fixed, tmp_path):
    marker = tmp_path / "ran"
    path = with_mischief(fixed, tmp_path / "evil.pt2", marker)
    assert run.trace_spec(path).ops
    assert not marker.exists()


def test_torch_would_have_unpickled_them(fixed, tmp_path):
    """The twin: the file above does run code where it is loaded with torch."""
    marker = tmp_path / "ran"
    path = with_mischief(fixed, tmp_path / "evil.pt2", marker)
    logging.disable(logging.CRITICAL)
    try:
        torch.export.load(path)
    except Exception:  # noqa: BLE001  it may fail after the damage is done
        pass
    finally:
        logging.disable(logging.NOTSET)
    assert marker.exists()


def test_weights_are_not_read(fixed, monkeypatch):
    opened = []
    read = archive.read
    monkeypatch.setattr(archive, "read", lambda n, e: opened.append(e.filename) or read(n, e))
    run.trace_spec(fixed)
    assert {name.rpartition(".")[2] for name in opened} == {"json"}
    assert len(opened) == 3  # the graph, and where weights and constants lie


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",  # maps, and makes, a file
        "torch.load",
        "os.system",
        "_operator.methodcaller",
        "torch.ops.aten.no_such_operation.default",
        "torch.ops.aten.relu",
        "builtins.eval",
    ],
)
def test_only_operations_on_tensors_are_reachable(fixed, tmp_path, target):
    def change(document):
        node = document["graph_module"]["graph"]["nodes"][0]
        node["target"] = target

    text = message(with_graph(fixed, tmp_path / "odd.pt2", change))
    assert target in text
    assert "not among the operations that a file may use" in text


# ------------------------------------------------------------------------------- what is no program


def test_control_flow_has_no_single_answer(folder):
    class Choice(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    path = save(Choice(), INPUTS[:1], folder / "choice.pt2")
    assert "cond" in message(path)


def test_other_version_of_the_format_names_both(fixed, tmp_path):
    def change(document):
        document["schema_version"] = {"major": 9, "minor": 1}
        document["torch_version"] = "3.1.4"

    text = message(with_graph(fixed, tmp_path / "new.pt2", change))
    assert "torch 3.1.4" in text
    assert "version 9" in text
    assert "reads version 8" in text


def test_truncated_program(fixed, tmp_path):
    path = tmp_path / "cut.pt2"
    path.write_bytes(Path(fixed).read_bytes()[:5000])
    assert "damaged" in message(str(path))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("graph_module"),
        lambda d: d["graph_module"]["graph"].pop("nodes"),
        lambda d: d["graph_module"]["graph"]["nodes"][-1]["inputs"][0].update(arg={"odd": 1}),
        lambda d: d["graph_module"]["signature"]["input_specs"][0].clear(),
        lambda d: d["graph_module"]["signature"]["input_specs"].append({"user_input": 3}),
        lambda d: d["graph_module"]["graph"]["tensor_values"]["x"].update(sizes="large"),
        lambda d: d["graph_module"]["graph"]["tensor_values"]["x"].update(dtype=99),
        lambda d: d.update(schema_version=None),
        lambda d: d["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
            parameter_name="\x1b[31mred"
        ),
    ],
)
def test_graph_that_is_not_understood(fixed, tmp_path, change):
    text = message(with_graph(fixed, tmp_path / "odd.pt2", change))
    assert "damaged" in text
    assert "\x1b" not in text


def test_weight_larger_than_what_is_stored(fixed, tmp_path):
    path = rewritten(
        fixed, tmp_path / "short.pt2", lambda n, d: d[:4] if n.endswith("/weight_0") else d
    )
    assert "needs" in message(path)


def test_graph_that_is_no_json(fixed, tmp_path):
    path = rewritten(
        fixed, tmp_path / "odd.pt2", lambda n, d: b"{" if n.endswith("model.json") else d
    )
    assert "is not JSON" in message(path)
