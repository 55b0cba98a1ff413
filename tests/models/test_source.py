"""Networks in files of one's own: how they are found, loaded, built and run."""

import json
import os
import pickle
import re
import sys
import textwrap
import warnings

import pytest
import torch
from command_line import run_cli
from imports import imported_by

import cnnscope
from cnnscope.errors import ModelError, RequestError
from cnnscope.models.request import parse_model
from cnnscope.tracing.values import KnownValues, UnknownValueError

NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=8, num_classes=10):
            super().__init__()
            self.conv = nn.Conv2d(3, width, 3)
            self.head = nn.Linear(width, num_classes)

        def forward(self, x):
            return self.head(self.conv(x).mean((2, 3)))
"""


@pytest.fixture
def write(tmp_path):
    """Write a file of Python; its path as text."""

    def written(code, name="net.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return str(path)

    return written


@pytest.fixture
def net(write):
    return write(NET)


def module(forward, *layers, signature="x"):
    """A file with one network, `M`, of these layers (as code) and this body of forward."""
    init = "\n".join(f"        self.{line}" for line in layers) or "        pass"
    return (
        "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
        "class M(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"{init}\n    def forward(self, {signature}):\n        {forward}\n"
    )


def error_of(*arguments, code=2):
    """The message; where a forward raised (3), what ran before is on stdout."""
    result = run_cli("summary", *arguments)
    assert result.code == code, result.err
    assert code == 3 or not result.out
    assert "Traceback" not in result.err
    *_, last = result.err.splitlines()
    assert last.startswith("cnnscope: ")
    return last.removeprefix("cnnscope: ")


def report_of(*arguments):
    result = run_cli("summary", *arguments, "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


# ------------------------------------------------------------------------------- naming


@pytest.mark.parametrize(
    ("text", "source", "name", "place"),
    [
        ("net.py", "file", "", "net.py"),
        ("path/net.py:Net", "file", "Net", "path/net.py"),
        ("C:\\nets\\net.py:Net", "file", "Net", "C:\\nets\\net.py"),
        ("C:\\nets\\net.py", "file", "", "C:\\nets\\net.py"),
        ("a/b c/my net.py:Outer.Inner", "file", "Outer.Inner", "a/b c/my net.py"),
        ("~/NET.PY:Net", "file", "Net", "~/NET.PY"),
        ("package.module:factory", "import", "factory", "package.module"),
        ("nets:Net", "nets", "Net", ""),  # a source or a module: the zoo knows
    ],
)
def test_files_and_modules_are_told_from_sources(text, source, name, place):
    assert parse_model(text) == (spec := parse_model(f" {text} "))
    assert (spec.source, spec.name, spec.place) == (source, name, place)


# conv 3*8*3*3 + 8 = 224, head 8*10 + 10 = 90
def test_a_file_with_one_network_needs_no_name(net):
    report = report_of(net, "-i", "3x32x32")
    assert report["totals"]["params"] == 314
    assert report["source"]["name"] == "net.py:Net"


# width 4, 2 classes: 3*4*9 + 4 = 112, 4*2 + 2 = 10
def test_arguments_classes_batch_and_dtype_reach_it(net):
    report = report_of(
        f"{net}:Net", "--arg", "width=4", "--num-classes", "2", "-b", "5", "--dtype", "bfloat16"
    )
    assert report["totals"]["params"] == 122
    assert report["inputs"] == [{"shape": [5, 3, 224, 224], "dtype": "bfloat16"}]


@pytest.mark.parametrize("name", ["make", "made", "Net", "Nets.small"])
def test_class_factory_and_instance_are_all_networks(write, name):
    path = write(
        NET + "\n    def make(width=8): return Net(width)\n    made = Net()\n"
        "    class Nets:\n        @staticmethod\n        def small(): return Net()\n"
    )
    assert report_of(f"{path}:{name}", "-i", "32")["totals"]["params"] == 314


def test_a_missing_name_lists_what_there_is(write):
    path = write("from torch import nn\nclass A(nn.Module): pass\nclass B(nn.Module): pass\n")
    assert "holds A, B: say which, as in" in error_of(path)


def test_several_networks_are_listed_with_what_each_forward_takes(write):
    path = write(
        "from torch import nn\nclass A(nn.Module):\n    def forward(self, x, mask=None): return x\n"
        "class B(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
        "    def forward(self, batch, **more): return batch\nclass C(nn.Module): pass\n"
    )
    message = error_of(path)
    assert "holds A, B(width), C: say which" in message
    assert message.rstrip().endswith("; forward takes A(x, mask=None), B(batch)")


def test_imported_and_hidden_classes_are_not_counted(write):
    path = write("from torch.nn import *\nclass _Part(Module): pass\n" + textwrap.dedent(NET))
    assert report_of(path)["source"]["name"] == "net.py:Net"


def test_a_wrong_name_lists_what_there_is(net):
    assert "has no 'Nett'; did you mean Net?" in error_of(f"{net}:Nett")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 3", "x is an int, not a network"),
        ("def x(): return 1, 2", "made a tuple, not an nn.Module"),
        ("def x(): return None", "made None, not an nn.Module"),
    ],
)
def test_what_is_no_network_is_told(write, code, said):
    assert said in error_of(f"{write(code)}:x")


def test_a_file_without_networks_lists_its_functions(write):
    assert "holds no nn.Module; there are functions, build" in error_of(write("def build(): ..."))


def test_a_missing_file_names_one_like_it(net, tmp_path):
    assert "no such file; did you mean net.py?" in error_of(str(tmp_path / "nett.py"))
    assert "no such file" in error_of(str(tmp_path / "no" / "net.py"))
    (tmp_path / "folder.py").mkdir()
    assert "is a folder" in error_of(str(tmp_path / "folder.py"))


def test_paths_with_spaces_colons_and_a_home(write, monkeypatch, tmp_path):
    path = write(NET, "odd: place/my net.py")
    assert report_of(f"{path}:Net")["source"]["name"] == "my net.py:Net"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert report_of("~/odd: place/my net.py")["totals"]["params"] == 314


def test_an_import_path_is_found_from_the_working_folder(write, monkeypatch, tmp_path):
    write(NET, "ownpackage/nets.py")
    write(NET, "ownmodule.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    before = list(sys.path)
    assert report_of("ownpackage.nets:Net")["source"]["source"] == "import"
    assert report_of("ownmodule:Net")["totals"]["params"] == 314
    assert sys.path == before
    assert "no module ownpackage.none" in error_of("ownpackage.none:Net")


# ------------------------------------------------------------------------------ loading


def test_it_runs_from_its_own_folder_and_is_forgotten(write, monkeypatch):
    write("WIDTH = 5", "one/settings_of_it.py")
    write("WIDTH = 7", "two/settings_of_it.py")
    code = "import settings_of_it\n" + textwrap.dedent(NET).replace("=8", "=settings_of_it.WIDTH")
    before = list(sys.path)
    # 3*w*9 + w + w*10 + 10 = 38 w + 10
    for folder, width in (("one", 5), ("two", 7)):
        path = write(code, f"{folder}/net.py")
        assert report_of(path)["totals"]["params"] == 38 * width + 10
    assert sys.path == before
    assert not {"net", "settings_of_it"} & set(sys.modules)


def test_a_neighbour_that_forward_imports_is_found(write):
    write("def act(x): return x.relu()", "late.py")
    path = write(module("from late import act; return act(x)"))
    assert report_of(path, "-i", "3x8x8")["totals"]["element_ops"] == 3 * 8 * 8


def test_a_file_of_a_package_may_import_relatively(write):
    write("", "pack/__init__.py")
    write("WIDTH = 6", "pack/parts.py")
    code = "from .parts import WIDTH\n" + textwrap.dedent(NET).replace("=8", "=WIDTH")
    assert report_of(write(code, "pack/net.py"))["totals"]["params"] == 38 * 6 + 10


def test_it_is_a_module_under_its_own_name_and_not_main(write):
    path = write(
        "from __future__ import annotations\nimport pickle, sys\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Config:\n    width: int = 8\n"
        "assert pickle.loads(pickle.dumps(Config(3))) == Config(3)\n"
        "assert sys.argv == [__file__]\n"
        "if __name__ == '__main__':\n    raise SystemExit('main ran')\n" + textwrap.dedent(NET)
    )
    assert report_of(path)["totals"]["params"] == 314


def test_a_file_that_is_named_like_a_library_takes_nothing_from_it(write):
    pickled = pickle
    assert report_of(write(NET, "pickle.py"))["totals"]["params"] == 314
    assert sys.modules["pickle"] is pickled


def test_what_it_prints_does_not_reach_stdout(write):
    code = "print('loading')\n" + module("print('running'); return x", "n = print('building')")
    result = run_cli("summary", write(code), "-i", "3x8x8", "--format", "json")
    assert json.loads(result.out)["totals"]["params"] == 0
    assert {"loading", "building", "running"} <= set(result.err.splitlines())


def test_a_default_dtype_that_it_sets_is_set_back(write):
    path = write("import torch\ntorch.set_default_dtype(torch.float64)\n" + textwrap.dedent(NET))
    assert report_of(path)["totals"]["param_bytes"] == 314 * 8
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch\nnot a = b", "net.py:2: SyntaxError: cannot assign"),
        ("\n1 / 0", "net.py:2: ZeroDivisionError: division by zero"),
        ("import no_such_library", "net.py:1: ModuleNotFoundError"),
        ("import sys\n\nsys.exit(5)", "net.py:3: it called sys.exit(5)"),
        ("import os\n\nos._exit(5)", "net.py:3: it called os._exit(5)"),
        (module("__import__('os')._exit(0)"), "net.py:9: forward called os._exit()"),
        (module("return x", "n = 1 / 0"), "could not be built: net.py:7: ZeroDivisionError"),
        (module("return self.forward(x)"), "RecursionError"),
        (module("return y"), "net.py:9: forward failed in M"),
        (module("raise SystemExit"), "net.py:9: forward called sys.exit()"),
    ],
)
def test_code_that_fails_is_a_failed_model_at_its_line(write, code, said):
    leave = os._exit
    message = error_of(write(code), "-i", "3x8x8", code=3)
    assert said in message
    assert os._exit is leave


@pytest.mark.broad
def test_torchvision_is_not_imported_for_a_file_of_ones_own(net):
    program = f"import cnnscope; cnnscope.summary({net!r})"
    assert "torch" in imported_by(program)
    assert not {"torchvision", "torch._dynamo"} & set(imported_by(program))


@pytest.mark.slow
def test_a_file_that_imports_torchvision_is_detected_by_that_check(write):
    path = write("import torchvision\n" + textwrap.dedent(NET))
    assert "torchvision" in imported_by(f"import cnnscope; cnnscope.summary({path!r})")


# ---------------------------------------------------------------------------- arguments


def test_arguments_that_it_needs_are_named_with_how_to_give_them(write):
    path = write(NET.replace("width=8, num_classes=10", "width, num_classes, *, deep=False"))
    assert error_of(path).endswith(
        "needs width, num_classes: give --arg width=... --arg num_classes=..."
    )


def test_arguments_that_it_does_not_take_are_named_with_those_it_does(net):
    assert error_of(net, "--arg", "wings=2").endswith("wings; it takes width, num_classes")


def test_an_instance_takes_no_arguments(write):
    path = write(NET + "\n    made = Net()\n")
    assert "is a network already" in error_of(f"{path}:made", "--arg", "width=3")


# -------------------------------------------------------------------------------- inputs


def test_an_input_is_guessed_from_the_first_layer_and_said(net):
    report = report_of(net)
    assert report["inputs"][0]["shape"] == [1, 3, 224, 224]
    assert report["notes"] == [
        "no --input was given: 1x3x224x224 is a guess (conv takes 3 channels)"
    ]


# LeNet's head is for 28x28: (28 - 5 + 1)^2 * 2 = 1152
def test_the_smallest_image_that_runs_is_guessed_where_the_first_does_not(write):
    layers = ("c = nn.Conv2d(1, 2, 5)", "f = nn.Linear(1152, 10)")
    path = write(module("return self.f(self.c(x).flatten(1))", *layers))
    assert report_of(path)["inputs"][0]["shape"] == [1, 1, 28, 28]
    assert error_of(path, "-i", "30", code=3).endswith(
        "and was given 1352; in_features must be 1352 for this input, or feed 1x28x28 (the only "
        "one of those tried)"
    )


@pytest.mark.parametrize(
    ("offer", "shapes"),
    [
        ("example_input = torch.empty(2, 3, 40, 48)", [[2, 3, 40, 48]]),
        ("input_size = (3, 40, 48)", [[1, 3, 40, 48]]),
        ("default_cfg = {'input_size': (3, 96, 96)}", [[1, 3, 96, 96]]),
        ("def example_inputs(): return torch.empty(1, 3, 50, 50)", [[1, 3, 50, 50]]),
        ("input_size = 40", [[1, 3, 224, 224]]),  # a size of what? not a shape
    ],
)
def test_an_input_that_the_file_offers_is_taken(write, offer, shapes):
    path = write(f"import torch\n{offer}\n" + textwrap.dedent(NET))
    assert [spec["shape"] for spec in report_of(path)["inputs"]] == shapes


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("64", [1, 3, 64, 64]),
        ("64x48", [1, 3, 64, 48]),
        ("3x64x48", [1, 3, 64, 48]),
        ("2x3x64x48", [2, 3, 64, 48]),
    ],
)
def test_an_input_is_completed_from_the_first_layer(net, text, shape):
    assert report_of(net, "-i", text)["inputs"][0]["shape"] == shape


@pytest.mark.parametrize(
    ("layer", "text", "shape"),
    [
        ("f = nn.Linear(12, 3)", "12", [1, 12]),
        ("f = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))", "3x2x2", [1, 3, 2, 2]),
        ("f = nn.Conv1d(4, 2, 3)", "4x20", [1, 4, 20]),
        ("f = nn.Conv3d(1, 2, 3)", "8", [1, 1, 16, 8, 8]),
        ("f = nn.LSTM(12, 3)", "1x5x12", [1, 5, 12]),  # C, H, W it is not
        ("f = nn.Embedding(10, 3)", "1x5:int64", [1, 5]),
    ],
)
def test_inputs_of_other_ranks(write, layer, text, shape):
    path = write(module("return self.f(x)", layer))
    assert report_of(path, "-i", text)["inputs"][0]["shape"] == shape


TWO = module(
    "return self.a(left) + self.b(right)",
    "a = nn.Conv2d(3, 4, 3)",
    "b = nn.Conv2d(1, 4, 3)",
    signature="left, right",
)


def test_several_inputs_are_each_given(write):
    path = write(TWO)
    report = report_of(path, "-i", "3x9x9", "-i", "1x9x9", "-b", "2")
    assert [spec["shape"] for spec in report["inputs"]] == [[2, 3, 9, 9], [2, 1, 9, 9]]
    assert "give --input once for each, such as" in error_of(path)
    assert "forward takes left, right" in error_of(path, "-i", "3x9x9")
    assert "contradicts" in error_of(path, "-i", "1x3x9x9", "-i", "1x1x9x9", "-b", "2")


def test_keywords_that_forward_needs_are_given_by_name():
    class Masked(torch.nn.Module):
        def forward(self, x, *, mask):
            return x * mask

    with pytest.raises(RequestError, match="forward needs mask: add --input mask=SIZE"):
        cnnscope.trace(Masked(), "3x8x8")
    meta = torch.empty(1, 3, 8, 8, device="meta")
    assert cnnscope.trace(Masked(), "3x8x8", {"mask": meta}).device == "meta"


def test_a_network_without_inputs_runs(write):
    path = write(
        module("return self.w * 2", "w = nn.Parameter(torch.zeros(3))", signature="*, a=1")
    )
    assert "no input" in run_cli("summary", path).out


def test_an_input_that_does_not_fit_is_told_with_a_remedy(net):
    message = error_of(net, "-i", "4x32x32", code=3)
    assert "net.py:" in message
    assert message.endswith(
        "conv (Conv2d) takes 3 channels and was given 4; in_channels must be 4 for this input, or "
        "use --input 3x32x32"
    )
    small = error_of(net, "-i", "2", code=3)
    assert small.endswith("the smallest square input that works is 3x3")


def test_layers_that_do_not_fit_each_other_are_the_networks_fault(write):
    layers = ("a = nn.Conv2d(3, 8, 3)", "b = nn.Conv2d(9, 8, 3)")
    path = write(module("return self.b(self.a(x))", *layers))
    assert "b (Conv2d) takes 9 channels and was given 8" in error_of(path, code=3)


def test_no_idea_of_an_input_asks_for_one(write):
    path = write(module("return self.f(tokens)", "f = nn.Embedding(9, 3)", signature="tokens"))
    assert "give --input, such as --input 16:int64: forward takes tokens" in error_of(path)


# ------------------------------------------------------------------- models that look at data


CONV = "c = nn.Conv2d(3, 4, 3)"


@pytest.mark.parametrize(
    "code",
    [
        module("y = self.c(x); return y * 2 if y.mean().item() > 0 else y", CONV),
        module("return self.c(x) * float(x.sum().numpy())", CONV),
        module("return self.c(x)[x[:, :1, 2:, 2:].expand(1, 4, 6, 6) > 0.5]", CONV),
        module("return self.c(x)", CONV, "n = self.c.weight.detach().numpy().sum()"),
        module("return self.c(x)", CONV, "n = self.c.weight.sum().item()"),
        module("return self.c(x)", CONV, "n = self.c.weight.tolist()"),
        module("return self.c(x) if x.tolist() else x", CONV),
        module("return self.c(x)", "t = torch.zeros(1).uniform_(2, 9).item()", CONV),
        module("assert str(x.device) == 'cpu'; return self.c(x)", CONV),
    ],
)
def test_what_depends_on_weights_or_images_runs_for_real_and_says_why(write, code):
    state = torch.get_rng_state()
    report = report_of(write(code), "-i", "3x8x8")
    assert report["device"] == "cpu"
    assert report["totals"]["macs"] == 4 * 27 * 36  # 4 filters of 3*3*3 at 6x6 places
    (note,) = report["notes"]
    assert note.startswith("ran on real tensors")
    assert "net.py:" in note
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "code",
    [
        module("return self.c(x)[:, : int(torch.arange(3, device=x.device).sum())]", CONV),
        module("return self.c(x)", CONV, "n = [int(v) for v in torch.linspace(1, 9, 3)]"),
        module("return self.c(x)", CONV, "n = torch.zeros(2).add_(1).tolist()"),
    ],
)
def test_what_follows_from_constants_needs_no_weights(write, code):
    report = report_of(write(code), "-i", "3x8x8")
    assert report["device"] == "meta"
    assert "had values" in report["notes"][0]


@pytest.mark.parametrize(
    "code",
    [
        module("return self.c((x - self.mean) / self.mean)", CONV, "mean = torch.ones(3, 1, 1)"),
        module("return self.c(x) + torch.arange(6.)", CONV),
        module("return self.c(x.to('cpu'))", CONV, "to('cpu')"),
        "import torch\nMEAN = torch.ones(3, 1, 1)\n" + module("return self.c(x - MEAN)", CONV),
        module("return torch.cat([self.c(x), torch.zeros(1, 4, 6, 6)])", CONV),
        module("return self.c(x)", "c = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))"),
        module("return self.c(x)", "c = nn.LazyConv2d(4, 3)", "b = nn.BatchNorm2d(4)"),
    ],
)
def test_constants_on_the_cpu_and_lazy_layers_need_no_weights_either(write, code):
    report = report_of(write(code), "-i", "3x8x8")
    assert report["device"] == "meta"
    assert report["totals"]["macs"] == 4 * 27 * 36


def test_lazy_layers_get_the_dtype_and_the_input_that_runs(write):
    layers = ("a = nn.LazyConv2d(4, 3)", "b = nn.LazyBatchNorm2d()", "f = nn.LazyLinear(5)")
    path = write(module("return self.f(self.b(self.a(x)).flatten(1))", *layers))
    report = report_of(path, "-i", "3x8x8", "--dtype", "float16")
    # 3*4*9 + 4 = 112, 2*4 = 8, 4*6*6*5 + 5 = 725; two bytes each
    assert report["totals"]["param_bytes"] == 2 * (112 + 8 + 725)


def test_lazy_layers_are_measured_with_the_widths_of_the_trace(write, capsys):
    layers = ("a = nn.LazyConv2d(4, 3)", "b = nn.LazyConv2d(2, 5, bias=False)")
    path = str(write(module("return self.b(self.a(x))", *layers)))
    report = cnnscope.verify_rf(path, inputs="3x20x20", cache=False)
    assert [row.verdict for row in report.layers] == ["equal", "equal"]
    found = [
        cnnscope.effective(path, "b", inputs="3x20x20", samples=2, seed=3).maps for _ in range(2)
    ]
    assert found[0] == found[1]
    verdicts = cnnscope.check(path, "3x20x20").verdicts
    # 3*4*9 + 4 = 112, 4*2*25 = 200
    assert {one.theirs for one in verdicts if one.figure == "parameters"} == {112 + 200}
    assert capsys.readouterr().err == ""


def test_torchscript_of_a_file_runs_for_real(write, tmp_path):
    saved = str(tmp_path / "net.ts")
    torch.jit.script(torch.nn.Conv2d(3, 4, 3)).save(saved)
    path = write(f"import torch\nnet = torch.jit.load({saved!r})\n")
    report = report_of(f"{path}:net", "-i", "3x8x8")
    assert (report["device"], report["totals"]["macs"]) == ("cpu", 4 * 27 * 36)


@pytest.fixture
def constants():
    with torch.device("meta"), KnownValues(constants_only=True) as values:
        yield values


@pytest.mark.parametrize(
    "value",
    [
        lambda: torch.rand(1),
        lambda: torch.zeros(1).uniform_(),
        lambda: torch.nn.Linear(1, 1).weight,
        lambda: torch.nn.functional.linear(torch.ones(1, 1), torch.ones(1, 1)),
        lambda: torch.empty(1) * 2,
        lambda: torch.zeros(4).copy_(torch.rand(4))[0],
    ],
)
def test_nothing_is_assumed_of_what_does_not_follow_from_constants(constants, value):
    with pytest.raises(UnknownValueError):
        value().item()


def test_a_constant_that_is_written_through_a_view_is_not_known_any_more(constants):
    base = torch.zeros(4, 2)
    base[1].uniform_()
    with pytest.raises(UnknownValueError):
        base.sum().item()
    other = torch.zeros(4, 2)
    other[1] = 3
    assert other.sum().item() == 6


# ------------------------------------------------------------------------------ from Python


def test_a_module_that_looks_at_its_data_is_traced_for_real():
    class Looks(torch.nn.Module):
        def forward(self, x):
            return x * 2 if x.sum().item() > -1 else x

    trace = cnnscope.trace(Looks(), "3x8x8")
    assert trace.device == "cpu"
    assert "ran on real tensors" in trace.notes[0]
    with pytest.raises(ModelError, match="give real tensors"):
        cnnscope.trace(Looks(), torch.empty(1, 3, 8, 8, device="meta"))


def test_a_class_is_told_from_a_module():
    with pytest.raises(RequestError, match=r"Identity is a class: .* Identity\(\)"):
        cnnscope.summary(torch.nn.Identity, "3x8x8")
    with pytest.raises(RequestError, match="not dict"):
        cnnscope.summary({}, "3x8x8")


def test_a_sparse_input_is_one_message():
    with pytest.raises(ModelError, match="input 1 is a sparse_coo tensor"):
        cnnscope.summary(torch.nn.Identity(), torch.eye(3).to_sparse())


@pytest.mark.broad
def test_a_compiled_module_is_the_one_it_was_made_from():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    report = cnnscope.summary(torch.compile(model), "3x8x8")
    assert [row.path for row in report.layers] == ["", "0"]


# ------------------------------------------------------------------------- whose fault it is


@pytest.mark.parametrize(
    "raised",
    [
        "RuntimeError('no')",
        "AttributeError('no')",
        "ValueError('no')",
        "AssertionError('no')",
        "KeyError('no')",
        "NotImplementedError('no')",
        "type('Own', (Exception,), {})('no')",
    ],
)
@pytest.mark.parametrize("given", [("-i", "3x8x8"), ()])
def test_whatever_a_forward_raises_at_every_input_is_the_models_failure(write, raised, given):
    path = write(module(f"raise {raised}", CONV))
    message = error_of(path, *given, code=3)
    assert "no" in message
    assert "real" not in message


def test_a_forward_that_is_missing_does_not_look_at_data(write):
    path = write("from torch import nn\nclass M(nn.Module):\n    pass\n")
    assert "missing the required" in error_of(path, "-i", "3x8x8", code=3)


# of 3x8x8: 8*6*6 = 288 features, of 3x4x4 8*2*2 = 32
def test_the_input_is_to_blame_where_another_one_runs(write):
    path = write(
        module(
            "return self.f(self.c(x).flatten(1))", "c = nn.Conv2d(3, 8, 3)", "f = nn.Linear(32, 9)"
        )
    )
    assert error_of(path, "-i", "3x8x8", code=3).endswith(
        "f (Linear) takes 32 features and was given 288; in_features must be 288 for this input, "
        "or feed 3x4x4 (the only one of those tried)"
    )
    refuses = module("assert x.shape[-1] >= 20, 'too small'; return self.c(x)", CONV)
    message = error_of(write(refuses), "-i", "3x8x8", code=3)
    assert "AssertionError: too small" in message
    assert message.endswith("; the smallest square input that works is 20x20")


def test_a_network_that_never_fits_is_told_what_differs(write):
    never = module("return torch.cat([x, x[..., 1:]], 1)", CONV)
    message = error_of(write(never), "-i", "3x8x8", code=3)
    assert message.endswith(
        "cat of 1x3x8x8 from input and 1x3x8x7 from slice of input along channels: they differ in "
        "width (8 and 7)"
    )
    # 4 * 998 * 698 features: no square has as many, but they follow the size
    large = module("return self.f(self.c(x).flatten(1))", CONV, "f = nn.Linear(2_786_416, 2)")
    assert error_of(write(large), "-i", "3x8x8", code=3).endswith("must be 144 for this input")


def test_an_assertion_about_shapes_builds_no_weights(write):
    path = write(
        module(
            "assert x.shape[-1] % 8 == 1; return self.c(x)", CONV, "big = nn.Linear(10**6, 10**6)"
        )
    )  # 4 TB, which no machine has
    assert "sides must be 8k + 1" in error_of(path, "-i", "3x64x64", code=3)
    assert report_of(path, "-i", "3x65x65")["device"] == "meta"


@pytest.mark.parametrize(
    ("code", "shape", "note"),
    [
        # of an offer that is height, width, channels
        (module("return self.c(x)", CONV, "input_size = (40, 48, 3)"), [1, 3, 40, 48], "turned"),
        # an offer that does not run is passed over
        (module("return self.c(x)", CONV, "input_size = (7, 40, 48)"), [1, 3, 224, 224], "guess"),
        # 3*2*2 = 12 channels come from a picture of three
        (
            module("return self.c(F.pixel_unshuffle(x, 2))", "c = nn.Conv2d(12, 4, 3)"),
            [1, 3, 224, 224],
            "images have 3",
        ),
        # 28 and 32 both leave one place after three strides and a pool of 4
        (
            module(
                "return self.f(F.avg_pool2d(self.c(x), 24).flatten(1))",
                CONV,
                "f = nn.Linear(4, 2)",
            ),
            [1, 3, 32, 32],
            "guess",
        ),
        (
            module(
                "return self.f(F.avg_pool2d(self.c(x), 24).flatten(1))",
                "c = nn.Conv2d(1, 4, 3)",
                "f = nn.Linear(4, 2)",
            ),
            [1, 1, 28, 28],
            "guess",
        ),
    ],
)
def test_a_guess_goes_on_until_one_runs(write, code, shape, note):
    report = report_of(write(code))
    assert report["inputs"][0]["shape"] == shape
    assert note in report["notes"][0]


def test_data_of_a_parameter_may_come_from_the_cpu(write):
    layers = (
        "c = nn.Conv2d(3, 3, 1)",
        "c.weight.data = torch.eye(3).view(3, 3, 1, 1)",
        "c.bias.data = -255 * torch.Tensor([0.4, 0.4, 0.4]) / torch.Tensor([1.0, 1.0, 1.0])",
    )
    report = report_of(write(module("return self.c(x)", *layers)), "-i", "3x48x48")
    # 3*3 + 3 parameters; 3 * 3 * 48 * 48 multiplications
    assert (report["device"], report["totals"]["params"]) == ("meta", 12)
    assert report["totals"]["macs"] == 20736
    assert "data" not in vars(torch.Tensor)


def test_a_warning_is_shown_once_however_often_it_runs(write):
    code = "import warnings; warnings.warn('think again'); return self.c(x) * float(x.sum())"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert report_of(write(module(code, CONV)), "-i", "3x8x8")["device"] == "cpu"
    assert [str(w.message) for w in shown if "again" in str(w.message)] == ["think again"]


def test_a_constructor_that_fails_whatever_it_is_given_is_the_models_failure(write):
    path = write("""
        from torch import nn

        class Never(nn.Module):
            def __init__(self, n=1):
                raise RuntimeError("never")

        class Even(nn.Module):
            def __init__(self, n=2):
                super().__init__()
                if n % 2:
                    raise RuntimeError("n must be even")
        """)
    assert "never" in error_of(f"{path}:Never", "-i", "3x8x8", "--arg", "n=3", code=3)
    assert "n must be even" in error_of(f"{path}:Even", "-i", "3x8x8", "--arg", "n=3")


def test_attributes_may_have_the_names_of_methods_of_a_module(write):
    path = write("""
        from torch import nn
        class Params(nn.Module):
            def __init__(self):
                super().__init__()
                self.parameters, self.children, self.c = 5, None, nn.Conv2d(3, 4, 3)
            def forward(self, x):
                return self.c(x)
        """)
    report = json.loads(run_cli("summary", path, "-i", "3x100x100", "-f", "json").out)
    # 3*4*9 + 4 parameters; 27 * 4 * 98 * 98 multiplications
    assert (report["totals"]["params"], report["totals"]["macs"]) == (112, 1_037_232)


def test_a_layer_that_is_the_whole_model_has_a_name(write):
    path = write("from torch import nn\nclass Half(nn.Conv2d):\n    pass\nnet = Half(3, 4, 1)\n")
    text = run_cli("explain", f"{path}:net", "-i", "3x8x8").out
    assert re.search(r"^Half +8\*8\*4\*3\*1\*1 = 768 ", text, re.MULTILINE)
    fields = run_cli("rf", f"{path}:net", "-i", "3x8x8").out
    assert re.search(r"^Half +4x8x8 +1 ", fields, re.MULTILINE)  # of a 1x1 kernel
    again = """
        from torch import nn
        class Again(nn.Module):
            def __init__(self):
                super().__init__()
                self.c = nn.Conv2d(4, 4, 3)
            def forward(self, x, n=2):
                return x if n == 0 else self(self.c(x), n - 1)
        """
    assert "c #2   4*4*4*4*3*3 = 2,304" in run_cli("explain", write(again), "-i", "4x8x8").out


def test_a_package_that_lacks_a_module_says_which(write, tmp_path, monkeypatch):
    write("import not_installed_here", "broken_package/__init__.py")
    write("from torch import nn\nNet = nn.ReLU", "broken_package/small.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="No module named 'not_installed_here'") as caught:
        cnnscope.trace("broken_package.small:Net", ["3x8x8"])
    assert "broken_package/__init__.py:1" in str(caught.value)
    for name in ("broken_package_2.small:Net", "json.small:Net"):
        with pytest.raises(RequestError, match="no module"):
            cnnscope.trace(name, ["3x8x8"])
