"""The Python interface is the program: every report, every way to name a model, saved traces."""

import inspect
import json
import pickle
import re
import subprocess
import sys
import types

import msgspec
import pytest
import torch
from command_line import run_cli
from torch import nn

import cnnscope
from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.records.form import Form
from cnnscope.records.trace import Trace

LENET = "classic:lenet5"
SIDE = cnnscope.Request.of("alexnet", ["3x96x96"])


def request_of(*, dtype=None):
    return cnnscope.Request.of(LENET, dtype=dtype)


# Each report, and the command that answers the same.
REPORTS = {
    "summary": (lambda: cnnscope.summary(LENET), ("summary", LENET)),
    "rf": (lambda: cnnscope.rf(LENET), ("rf", LENET)),
    "unit": (lambda: cnnscope.rf(LENET, "c3", unit=(1, 2)), ("rf", LENET, "c3", "--unit", "1,2")),
    "verify": (lambda: cnnscope.verify_rf(LENET), ("rf", LENET, "--verify")),
    "effective": (
        lambda: cnnscope.effective(LENET, samples=2, seed=1),
        ("rf", LENET, "--effective", "--samples", "2", "--seed", "1"),
    ),
    "explain": (lambda: cnnscope.explain(LENET, "c1"), ("explain", LENET, "c1")),
    "model": (lambda: cnnscope.explain(LENET), ("explain", LENET)),
    "diff": (
        lambda: cnnscope.diff(LENET, request_of(dtype="half")),
        ("diff", LENET, "--dtype-b", "half"),
    ),
    "memory": (
        lambda: cnnscope.memory(LENET, optimizer="adam", loss="cross-entropy"),
        ("memory", LENET, "--optimizer", "adam", "--loss", "cross-entropy"),
    ),
    "forward": (lambda: cnnscope.memory(LENET, train=False), ("memory", LENET, "--inference")),
    "fit": (lambda: cnnscope.fit(LENET, memory="1GiB"), ("fit", LENET, "--memory", "1GiB")),
    "stages": (lambda: cnnscope.stages([LENET, "alexnet"]), ("stages", LENET, "alexnet")),
    "stack": (
        lambda: cnnscope.stack(5, 32, (28, 28), custom=["3x3,3x3"], bottleneck=4),
        ("stack", "-k5", "-c32", "-i28", "--custom", "3x3,3x3", "--bottleneck", "4"),
    ),
    "inception": (lambda: cnnscope.stack(inception="4a"),
                  ("stack", "--preset", "inception", "--block", "4a")),
    "list": (
        lambda: cnnscope.list_models("lenet*", sources=["classic"], sort="params", max_params=1e6),
        ("list", "lenet*", "--source", "classic", "--sort", "params", "--max-params", "1M"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """Each report, made once."""
    reports = {}
    return lambda name: reports.setdefault(name, REPORTS[name][0]())


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_says_in_python_what_its_command_prints(made, name):
    report, command = made(name), REPORTS[name][1]
    assert str(report) == repr(report) == run_cli(*command).out
    assert report.to_markdown() == run_cli(*command, "-f", "markdown").out
    assert report.to_csv() == run_cli(*command, "-f", "csv").out
    shown = run_cli(*command, "-f", "json").out
    assert report.to_json() == shown
    assert report.to_dict() == json.loads(shown)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_shows_itself_in_a_notebook_and_in_a_paper(made, name):
    html = made(name)._repr_html_()
    assert html.startswith('<div class="cnnscope">')
    assert html.count("<table>") == html.count("</table>") > 0
    assert "tabular" in made(name).to_latex()


@pytest.mark.parametrize("name", REPORTS)
def test_rows_are_a_frame_of_pandas(made, name, monkeypatch):
    frames = []
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = lambda rows, columns: frames.append((rows, columns)) or "frame"
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    assert made(name).to_pandas() == "frame"
    ((rows, columns),) = frames
    lines = made(name).to_csv().splitlines()
    assert ",".join(columns) == lines[0]
    assert len(rows) >= len(lines[1:]) > 0  # a cell may hold a line break
    assert {len(row) for row in rows} == {len(columns)}


def test_values_of_a_frame_are_numbers_and_shapes(made, monkeypatch):
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = lambda rows, columns: [
        dict(zip(columns, row, strict=True)) for row in rows
    ]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    first = made("summary").to_pandas()[1]
    # lenet5's first convolution: 6 filters of 5x5 on a 32x32 image, 28*28*6*25 = 117,600
    assert (first["path"], first["kernel_size"], first["macs"]) == ("c1", (5, 5), 117_600)


def test_without_pandas_there_is_a_remedy(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RequestError, match="pip install pandas"):
        made("summary").to_pandas()


def test_an_option_of_another_report_is_refused(made):
    assert made("stages").view(projections=True).shown == {"projections": True}
    assert made("summary").view(columns=["macs"]).to_markdown().count("| layer") == 0
    with pytest.raises(RequestError, match="columns, sort: without effect on a FieldReport"):
        made("rf").table(sort="macs", columns=["layer"])


def test_a_report_can_be_pickled(made):
    assert pickle.loads(pickle.dumps(made("summary"))) == made("summary")


def test_maps_of_effective_fields_are_numbers_up_to_one(made):
    maps = [one for one in made("effective").maps if one is not None]
    assert maps
    assert {max(max(row) for row in one) for one in maps} == {1.0}


@pytest.mark.broad
def test_times_are_a_report_that_can_be_compared_with(tmp_path):
    saved = tmp_path / "run.json"
    short = {"device": "cpu", "seconds": 0.05}
    report = cnnscope.bench(LENET, nn.Flatten(), inputs="1x1x32x32", **short)
    assert [run.label for run in report.runs] == [LENET, "Flatten"]
    saved.write_text(cnnscope.bench(LENET, **short).to_json())
    assert cnnscope.bench(LENET, against=saved, **short).comparisons
    with pytest.raises(RequestError, match="mode"):
        cnnscope.bench(LENET, mode="backwards")


# ------------------------------------------------------------------------- ways to name a model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x, scale=1):
        return self.head(self.conv(x).mean((2, 3)) * scale)


def test_a_module_of_ones_own_is_answered_by_all_that_can():
    net = Net()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    size = "3x16x16"
    # 14 * 14 * 4 * 27 of the convolution, and 4 * 2 of the head
    assert cnnscope.summary(net, size).totals.macs == 21_168 + 8
    assert cnnscope.rf(net, "conv", size, unit=(0, 2)).axes[1].unclipped == (2, 4)
    assert cnnscope.explain(net, "conv", size).layers[0].layer.path == "conv"
    assert cnnscope.explain(net, inputs=size).totals.params == 4 * 28 + 10
    checks = cnnscope.verify_rf(net, inputs=size).layers
    assert {check.verdict for check in checks} == {"equal"}
    assert cnnscope.effective(net, "conv", size, samples=2).layers
    assert not cnnscope.diff(cnnscope.trace(net, size), cnnscope.trace(net, size)).differs
    assert net.training
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


@pytest.mark.parametrize("name", ["arguments", "num_classes", "batch_size", "dtype"])
def test_what_builds_a_named_model_is_refused_for_a_module(name):
    value = {"arguments": {"a": 1}, "dtype": "float16"}.get(name, 2)
    for function in (cnnscope.trace, cnnscope.summary, cnnscope.rf, cnnscope.explain):
        with pytest.raises(RequestError, match=f"{name}: only for a named model"):
            function(Net(), inputs="3x16x16", **{name: value})


def test_what_has_no_effect_on_a_module_is_refused_and_not_ignored():
    with pytest.raises(RequestError, match="batch_sizes: only for a named model"):
        cnnscope.bench(Net(), LENET, inputs="3x16x16", batch_sizes=(1, 4), device="cpu")
    for model, layer in ((Net(), None), (Net(), "conv"), (SIDE, "features.0")):
        inputs = () if model is SIDE else "3x16x16"
        with pytest.raises(RequestError, match="seconds: only for a named model"):
            cnnscope.explain(model, layer, inputs, seconds=1)


@pytest.mark.parametrize("unit", [(99, 99), (1,), (0, 0, 0)])
def test_a_unit_that_is_not_there_is_a_wrong_request_and_no_failure_of_the_model(unit):
    with pytest.raises(RequestError, match=r"unit.*: conv has 14x14 units"):
        cnnscope.effective(Net(), "conv", "3x16x16", unit=unit, samples=1)


def test_a_module_that_cannot_be_copied_is_refused_alike_by_all_that_measure():
    class Single(Net):
        def __deepcopy__(self, memo):
            raise TypeError("there is one")

    for measure in (cnnscope.verify_rf, cnnscope.effective, cnnscope.bench):
        with pytest.raises(RequestError, match=r"Single: cannot be copied \(TypeError: there is"):
            measure(Single(), inputs="3x16x16")


def test_a_trace_and_a_request_say_everything_themselves():
    trace = cnnscope.trace(SIDE)
    assert cnnscope.summary(trace).record == cnnscope.summary(SIDE).record
    for given in ({"inputs": "64x64"}, {"dtype": "half"}, {"kwargs": {"a": 1}}):
        for model, kind in ((trace, "trace"), (SIDE, "request")):
            with pytest.raises(RequestError, match=f"the {kind} says it"):
                cnnscope.summary(model, **given)
    for measure in (cnnscope.verify_rf, cnnscope.effective, cnnscope.bench):
        with pytest.raises(RequestError, match="a trace has no module to measure"):
            measure(trace)
    with pytest.raises(RequestError, match="give its name"):
        cnnscope.check(Net(), "3x16x16")


def test_a_string_is_no_list_of_models():
    with pytest.raises(RequestError, match=r"give a list, such as \['vgg11'\]"):
        cnnscope.stages("vgg11")


def test_the_store_is_used_as_by_the_command_line_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cnnscope.summary(LENET, cache=False)
    assert not list(tmp_path.iterdir())
    cnnscope.summary(LENET)
    assert list(tmp_path.glob("trace-*"))
    monkeypatch.setattr("cnnscope.models.run.trace_spec", None)
    assert cnnscope.summary(LENET).totals.params == 61_706


def test_damage_to_the_store_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cnnscope.trace(LENET)
    for path in tmp_path.glob("trace-*"):
        path.write_bytes(b"x")
    with pytest.warns(UserWarning, match="a damaged file in the store is ignored"):
        cnnscope.trace(LENET)


# ----------------------------------------------------------------------------- saved traces


@pytest.mark.parametrize("name", ["net.trace", "net.json", "net"])
def test_a_trace_is_the_same_when_it_is_read_again(tmp_path, name):
    trace = cnnscope.trace("resnet18", "3x64x64")
    trace.save(tmp_path / name)
    loaded = cnnscope.Trace.load(str(tmp_path / name))
    assert loaded == trace
    assert str(cnnscope.summary(loaded)) == str(cnnscope.summary("resnet18", "3x64x64"))
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "model", ["alexnet", "densenet121", "vit_b_16", "googlenet", "classic:unet"]
)
def test_traces_of_all_kinds_contradict_nothing(tmp_path, model):
    cnnscope.trace(model).save(tmp_path / "one")
    assert cnnscope.Trace.load(tmp_path / "one").ops


FOREIGN = [
    b"", b"\x80\x04K\x01.", b"{}", b"[]", b'{"schema_version": 99}', b"PK\x03\x04", b"\xff" * 50,
    b'{"schema_version": 1}', b"{" * 100_000, b'{"schema_version": "1"}', "größe".encode("latin-1"),
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_file_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)  # of a longer name the end is left out
    (tmp_path / "x.trace").write_bytes(content)
    with pytest.raises(RequestError, match=r"x\.trace: (no trace|a trace of another version)"):
        cnnscope.Trace.load("x.trace")


def wrong(trace):
    """Traces of the right types that contradict themselves."""
    replace = msgspec.structs.replace
    op, call, tensor, storage = trace.ops[0], trace.calls[1], trace.tensors[0], trace.storages[0]
    yield replace(trace, modules=())
    yield replace(trace, calls=())
    yield replace(trace, outputs=(10**6,))
    yield replace(trace, inputs=(-1,))
    yield replace(trace, form=Form())
    yield replace(trace, ops=(replace(op, call=99), *trace.ops[1:]))
    yield replace(trace, ops=(replace(op, inputs={"input": 10**6}), *trace.ops[1:]))
    yield replace(trace, ops=(replace(op, inputs={}), *trace.ops[1:]))
    yield replace(trace, calls=(trace.calls[0], replace(call, parent=1), *trace.calls[2:]))
    yield replace(trace, calls=(trace.calls[0], replace(call, module=99), *trace.calls[2:]))
    yield replace(trace, tensors=(replace(tensor, shape=(-1, 2)), *trace.tensors[1:]))
    yield replace(trace, tensors=(replace(tensor, storage=99999), *trace.tensors[1:]))
    yield replace(trace, storages=(replace(storage, born=5, died=2), *trace.storages[1:]))


def test_a_trace_that_contradicts_itself_is_refused(tmp_path):
    path = tmp_path / "x.trace"
    for number, one in enumerate(wrong(cnnscope.trace(LENET))):
        one.save(path)
        with pytest.raises(RequestError, match="contradicts itself"):
            pytest.fail(f"number {number} was read: {cnnscope.Trace.load(path).source}")


def test_a_file_that_cannot_be_read_or_written_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        cnnscope.Trace.load(tmp_path / "nothing")
    with pytest.raises(RequestError, match="cannot be read"):
        cnnscope.Trace.load("/dev/zero")
    for path in (tmp_path, tmp_path / "no" / "folder", "a\0b"):
        with pytest.raises(RequestError, match="cannot be written"):
            cnnscope.trace(LENET).save(path)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- the names


def test_names_are_those_of_the_interface_and_nothing_is_imported_for_them():
    program = (
        "import sys, cnnscope\n"
        "names = dir(cnnscope)\n"
        "assert names == sorted(cnnscope.__all__), names\n"
        "before = {m for m in sys.modules if m.startswith('cnnscope.')}\n"
        "assert not before, before\n"
        "from cnnscope import *\n"
        "assert summary is cnnscope.summary and Trace is cnnscope.Trace\n"
        "assert 'torch' not in sys.modules and 'rich' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cnnscope.nothing


FUNCTIONS = [name for name in cnnscope.__all__ if inspect.isfunction(getattr(cnnscope, name))]


def test_the_functions_are_those_that_were_promised():
    promised = (
        "summary rf verify_rf effective explain memory fit diff stages stack bench check "
        "list_models trace"
    )
    assert set(promised.split()) <= set(FUNCTIONS)
    assert issubclass(cnnscope.RequestError, CnnscopeError)
    assert cnnscope.ModelError is ModelError
    assert issubclass(cnnscope.Trace, Trace)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_explicit_typed_and_documented(name):
    function = getattr(cnnscope, name)
    documented = inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD
        assert parameter.annotation is not parameter.empty
        assert f"\n    {parameter.name}: " in documented


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"batch_size": "4"}, "--batch-size '4': must be an integer"),
        ({"num_classes": 1.5}, "--num-classes 1.5: must be an integer"),
        ({"dtype": torch.float16}, "--dtype 'torch.float16': use one of float16"),
        ({"arguments": ["x"]}, "arguments: give a dict"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(option, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        cnnscope.summary("alexnet", **option)


def test_one_string_stands_for_a_sequence_of_one():
    assert cnnscope.Request.of("alexnet", "3x64x64") == cnnscope.Request.of("alexnet", ["3x64x64"])
    assert cnnscope.stack(custom="3x3").to_json() == cnnscope.stack(custom=["3x3"]).to_json()
    report = cnnscope.summary(nn.Sequential(nn.ReLU()), "3x8x8")
    assert report.view(columns="layer,macs").to_markdown() == (
        report.view(columns=["layer", "macs"]).to_markdown()
    )


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU()), cnnscope.Request.of("alexnet")])
def test_one_model_is_no_list_of_models(model):
    with pytest.raises(RequestError, match="give a list"):
        cnnscope.stages(model)
