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
from command_line import run_cli
from mutations import MARK, attacks, node, tensor
from torch import nn
from torch.export import Dim

from cnnscope import api
from cnnscope.errors import RequestError
from cnnscope.models import run
from cnnscope.models.files import archive, permitted, rebuilt
from cnnscope.models.request import Request
from cnnscope.reports import summary


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
        run.trace_spec(Request.of(path, **options))
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
    """Figures of a row, without constants and casts, which only one of the two has."""
    return [
        (r.path, r.kind, r.operation, r.call, r.geometry, r.features, r.output_shapes,
         r.params, r.buffers, r.macs, r.element_ops, r.field)
        for r in rows if not r.minor
    ]  # fmt: skip


@pytest.mark.broad
@pytest.mark.parametrize("strict", [False, True])
def test_rows_are_those_of_the_original_model(original, folder, fixed, strict):
    path = save(Net().eval(), INPUTS, folder / "strict.pt2", strict=True) if strict else fixed
    result = summary.report(run.trace_spec(Request.of(path)))
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

    told = hyper(run.trace_spec(Request.of(fixed)))
    assert told == hyper(api.trace(Net(), INPUTS))
    assert len(told) == 9  # stem, five in the block, up, two linear layers


def test_totals_are_those_of_the_original_model(original, fixed):
    totals = summary.report(run.trace_spec(Request.of(fixed))).totals
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


@pytest.mark.broad
def test_a_program_of_core_operations_costs_the_same(original, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net().eval(), INPUTS).run_decompositions()
        torch.export.save(program, folder / "core.pt2")
    result = summary.report(run.trace_spec(Request.of(str(folder / "core.pt2"))))
    assert result.totals.macs == original.totals.macs
    assert result.totals.params == original.totals.params
    # Torch forgets the modules of what ran under no_grad here: the operations are left.
    assert leaf_macs(result) == leaf_macs(original)


@pytest.mark.broad
def test_torchvision_program_is_the_torchvision_model(folder):
    import torchvision

    path = save(
        torchvision.models.resnet18().eval(), (torch.zeros(1, 3, 64, 64),), folder / "r.pt2"
    )
    program = summary.report(run.trace_spec(Request.of(path)))
    named = summary.report(run.trace_spec(Request.of("resnet18", inputs=["64"])))
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
    assert "training mode" in " ".join(run.trace_spec(Request.of(path)).notes)


# ----------------------------------------------------------------------------------------- sizes


@pytest.mark.broad
def test_other_sizes_where_they_are_dynamic(dynamic):
    trace = run.trace_spec(Request.of(dynamic, inputs=["4x3x32x40", "4x2"]))
    direct = api.summary(Net(), (torch.zeros(4, 3, 32, 40), torch.zeros(4, 2)))
    assert summary.report(trace).totals.macs == direct.totals.macs


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
    assert run.trace_spec(Request.of(path)).ops
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
    run.trace_spec(Request.of(fixed))
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


@pytest.mark.broad
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


def test_a_truncated_program_is_refused(fixed, tmp_path):
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


# ------------------------------------------------------------------------------ hostile programs


@pytest.fixture(scope="module")
def small(folder):
    return save(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (torch.zeros(1, 3, 8, 8),), folder / "s.pt2"
    )


def attacked(path, target, nodes):
    """A copy of a program that begins with other operations."""
    return with_graph(
        path, target, lambda d: d["graph_module"]["graph"]["nodes"].__setitem__(slice(0, 0), nodes)
    )


ATTACKS = attacks("input")
REFUSED = [
    "image.write_file.default", "aten.from_file.out", "aten.from_file.default", "_reshape_alias",
    "beyond the memory", "units along", "units along", "units along", "nonzero", "pieces", "pieces",
    "_operator.pow", "_operator.lshift", "on a str", "on a list", "on a list", "on a str", "",
    "repeat_interleave",
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "words"), list(zip(ATTACKS, REFUSED, strict=True)))
def test_attacks_are_answered_with_one_message_and_nothing_else(
    small, tmp_path, monkeypatch, nodes, words
):
    path = attacked(small, tmp_path / "attack.pt2", nodes)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    result = run_cli("summary", path)
    assert result.code == (2 if words else 0), result.err
    assert words in result.err
    assert result.err.count("\n") == (1 if words else 0)
    assert not list(work.iterdir())
    assert MARK not in {p.name for p in tmp_path.iterdir()}


def test_refused_operations_are_refused_before_any_runs(small, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(permitted.Limits, "run", lambda *given: ran.append(given))
    path = attacked(small, tmp_path / "attack.pt2", ATTACKS[0])
    assert "image.write_file" in message(path)
    assert not ran


def test_no_listed_operation_writes_elsewhere():
    """No `out` argument, no storage, no file; and each is one that this torch has."""
    for name in permitted.OPERATIONS:
        operation = permitted.function(f"torch.ops.{name}")
        assert name.partition(".")[0] in ("aten", "torchvision")
        for argument in operation._schema.arguments:
            assert not argument.is_out, name
            assert argument.name != "filename", name
            assert "Storage" not in str(argument.type), name
        assert operation._schema.name not in ("aten::set_", "aten::resize_", "aten::from_file")


def test_values_are_computed_by_listed_operations_alone():
    listed = {name.split(".")[1].rstrip("_") for name in permitted.OPERATIONS}
    made_of_them = {"_unsafe_view", "lift_fresh"}  # what listed ones are made of
    assert {name.rstrip("_") for name in permitted.COMPUTES} - listed <= made_of_them
    for name in ("rand", "bernoulli", "normal", "as_strided", "roi_align", "repeat_interleave"):
        assert name not in permitted.COMPUTES


@pytest.mark.parametrize("name", ["as_device", "as_string"])
def test_devices_of_a_program_are_not_used(small, tmp_path, name):
    device = {"type": "cpu", "index": None} if name == "as_device" else "cpu"
    nodes = [
        node("torch.ops.aten.new_ones.default", ["b0"], self=tensor("input"),
             size={"as_ints": [3]}, device={name: device}),
        node("torch.ops.aten.to.device", ["b1"], self=tensor("input"), device={name: device},
             dtype={"as_scalar_type": 7}),
    ]  # fmt: skip
    trace = run.trace_spec(Request.of(attacked(small, tmp_path / "devices.pt2", nodes)))
    assert trace.device == "meta"
    assert not trace.notes


def test_a_program_without_weights_does_not_run_on_real_tensors(folder):
    path = save(
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (torch.zeros(1, 3, 8, 8),), folder / "bare.pt2"
    )
    result = run_cli("bench", path)
    assert result.code == 2
    assert "weights are not read from the file" in result.err
    with (
        run.module(Request.of(path)) as model,
        pytest.raises(RequestError, match="without data alone"),
    ):
        model(torch.zeros(1, 3, 8, 8))


def test_time_steps_are_bounded(folder):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(2, 2)

        def forward(self, x):
            return self.lstm(x)[0]

    path = save(Steps(), (torch.zeros(20, 1, 2),), folder / "steps.pt2")
    assert run.trace_spec(Request.of(path)).ops

    def longer(document):
        for value in document["graph_module"]["graph"]["tensor_values"].values():
            value["sizes"] = [
                {"as_int": 10**9} if s == {"as_int": 20} else s for s in value["sizes"]
            ]

    text = message(with_graph(path, folder / "long.pt2", longer))
    assert "too large for a file" in text or "too large to be" in text


@pytest.mark.broad
def test_axes_below_the_longest_count_as_well(small, tmp_path):
    """A receptive field is kept for each unit: 2049 maps of 4095 x 4095 have over 2^24."""
    aten = "torch.ops.aten."
    size = {"output_size": {"as_ints": [4095, 4095]}, "scale_factors": {"as_none": True}}
    nodes = [
        node(aten + "upsample_nearest2d.vec", ["b0"], input=tensor("input"), **size),
        *(node(aten + "relu.default", [f"b{n + 1}"], self=tensor(f"b{n}")) for n in range(2049)),
    ]
    path = attacked(small, tmp_path / "attack.pt2", nodes)
    assert "units along" in message(path)


def test_a_window_as_long_as_its_padding_is_bounded(small, tmp_path):
    """A pool over 2^40 pixels, all but 8 of them padding, has 9 units."""
    window = {"kernel_size": [2**40, 1], "stride": [1, 1], "padding": [2**39, 0]}
    given = {name: {"as_ints": numbers} for name, numbers in window.items()}
    pool = node("torch.ops.aten.avg_pool2d.default", ["b0"], self=tensor("input"), **given)
    assert "units along" in message(attacked(small, tmp_path / "attack.pt2", [pool]))


def test_each_tensor_that_is_joined_counts_as_an_operation(small, tmp_path):
    many = {"as_tensors": [{"name": "input"}] * permitted.MAX_RUN}
    cat = node("torch.ops.aten.cat.default", ["b0"], tensors=many)
    assert "operations; the limit is" in message(attacked(small, tmp_path / "attack.pt2", [cat]))


def test_many_operations_are_refused(small, tmp_path):
    nodes = [
        node("torch.ops.aten.relu.default", [f"r{i}"], self=tensor("input"))
        for i in range(rebuilt.MAX_NODES)
    ]
    assert "more than 10,000 operations" in message(attacked(small, tmp_path / "m.pt2", nodes))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("torch.ops.aten.relu.default", ["r"], self=tensor("later"))], "before it is made"),
        ([node("torch.ops.aten.relu.default", ["input"], self=tensor("input"))], "made twice"),
        ([node("torch.ops.aten.relu.default", ["r"], other=tensor("input"))], "no argument other"),
        ([node("torch.ops.aten.zeros.default", ["r"], size={"as_ints": [2]},
               dtype={"as_int": 12})], "takes a ScalarType"),
        ([node("torch.ops.aten.zeros.default", ["r"], size={"as_ints": [2**64]})], "no size"),
        ([node("torch.ops.aten.zeros.default", ["r"], size={"as_ints": [True]})], "no size"),
    ],
)  # fmt: skip
def test_graph_that_is_not_one(small, tmp_path, nodes, words):
    text = message(attacked(small, tmp_path / "odd.pt2", nodes))
    assert "damaged" in text
    assert words in text


def test_json_has_bounds(small, tmp_path):
    def change(data):
        return lambda n, d: data if n.endswith("model.json") else d

    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    assert "nested too deeply" in message(rewritten(small, tmp_path / "a.pt2", change(deep)))
    wide = b"[" + b"[]," * archive.MAX_VALUES + b"[]]"
    assert "values; at most" in message(rewritten(small, tmp_path / "b.pt2", change(wide)))
    twice = b'{"graph_module": 1, "graph_module": 2}'
    assert "graph_module twice" in message(rewritten(small, tmp_path / "c.pt2", change(twice)))


# --------------------------------------------------------------------------------- zip archives


def end_record(data):
    return data.rindex(b"PK\x05\x06")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: b"prefix" + d,
        lambda d: d + b"behind",
        lambda d: d[: end_record(d)] + b"between" + d[end_record(d) :],
        lambda d: d[:-2] + b"\x04\x00abcd",  # a comment
        lambda d: d[: end_record(d)] + d[end_record(d) :].replace(b"PK\x05\x06", b"PK\x05\x07"),
        lambda d: d[:-10] + (5).to_bytes(4, "little") + d[-6:],  # the size of the table
        lambda d: d + d[end_record(d) :],  # a second end record
    ],
)
def test_archives_that_readers_may_read_in_different_ways(small, tmp_path, change):
    path = tmp_path / "odd.pt2"
    path.write_bytes(change(Path(small).read_bytes()))
    assert "damaged" in message(str(path)) or "not a file that torch writes" in message(str(path))


def test_an_end_record_of_64_bits_that_says_something_else(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(4)}, path)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x06\x06")
    if at < 0:  # this torch writes none for small files
        pytest.skip("no end record of 64 bits")
    run_cli("summary", str(path))
    data[at + 48] ^= 1  # the offset of the table
    path.write_bytes(data)
    assert "end records disagree" in run_cli("summary", str(path)).err


def test_two_entries_of_one_name(small, tmp_path):
    path = tmp_path / "twice.pt2"
    with zipfile.ZipFile(small) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
            if entry.filename.endswith("model.json"):
                new.writestr("other/" + entry.filename.partition("/")[2], b"{}")
    assert "one name" in message(str(path))
