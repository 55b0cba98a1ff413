"""Spellings of a model: libraries', files of packages, expressions, standard input."""

import io
import json
import pickle
import sys
import textwrap
import warnings

import pytest
import torch
from command_line import run_cli

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.models.names import parse_model
from cnnscope.models.registered import canonical

NET = """
    from torch import nn

    class Net(nn.Sequential):
        def __init__(self, width=8):
            super().__init__(nn.Conv2d(3, width, 3))
"""
CONV = "nn.Conv2d(3, 8, 3)"  # 8*3*9 + 8 = 224 parameters


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file below the working folder."""
    monkeypatch.chdir(tmp_path)

    def written(name, code=NET):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")

    return written


@pytest.fixture
def typed(monkeypatch):
    """Put text into standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(textwrap.dedent(text)))


def report_of(*words):
    result = run_cli("summary", *words, "-i", "3x8x8", "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def params(*words):
    return report_of(*words)["totals"]["params"]


def error_of(*words, code=2):
    result = run_cli("summary", *words, "-i", "3x8x8")
    assert (result.code, result.out) == (code, ""), result.err
    assert "Traceback" not in result.err
    return result.err


# ---------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("torchvision.models.resnet18", "torchvision", "resnet18"),
        ("torchvision.models:resnet18", "torchvision", "resnet18"),
        ("torchvision.models.resnet:resnet18", "torchvision", "resnet18"),
        ("torchvision.models.quantization:resnet18", "import", "resnet18"),  # another model
        ("torchvision.models:ResNet", "import", "ResNet"),
        ("timm/resnet50.a1_in1k", "timm", "resnet50.a1_in1k"),
        ("hf-hub:timm/resnet50.a1_in1k", "timm", "resnet50.a1_in1k"),
        ("timm:resnet50.a1_in1k", "timm", "resnet50.a1_in1k"),
        ("microsoft/resnet-50", "", "microsoft/resnet-50"),
    ],
)
def test_a_model_of_a_library_is_known_by_each_spelling(text, source, name):
    spec = canonical(parse_model(text))
    assert (spec.source, spec.name, spec.text) == (source, name, text)


def test_one_spelling_answers_from_the_store_what_another_has_put_there(tmp_path):
    from cnnscope.cache.store import Store

    store = Store(tmp_path)
    first = cnnscope.trace("torchvision:alexnet", "64", cache=store)
    kept = store.info().entries
    second = cnnscope.trace("torchvision.models.alexnet", "64", cache=store)
    assert second.ops == first.ops
    assert store.info().entries == kept
    assert second.source.spec == "torchvision.models.alexnet"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tochvision:resnet18", "did you mean torchvision:resnet18?"),
        ("Rasnet18", "did you mean resnet18"),
        ("torchvision:resnet18(num_classes=3)", "--arg: torchvision:resnet18 --arg name=value"),
        ("resnet18(num_classes=3)", "resnet18 --arg name=value"),
    ],
)
def test_a_name_that_is_nearly_right_is_met_with_the_right_one(name, said):
    assert said in error_of(name)


# -------------------------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (CONV, "expression"),
        ("net = nn.Conv2d(3, 8, 3)", "expression"),
        ("lambda: nn.Conv2d(3, 8, 3)", "expression"),
        ("lambda:nn.Conv2d(3, 8, 3)", "expression"),
        ("net(1).py", "file"),
        ("a (1)/net.py:Net", "file"),
        ("net.py:Net(width=3)", "file"),
        ("net.py:Net('a:b')", "file"),
        ("nets.parts:Net(width=3)", "import"),
        ("nets:Net(width=3)", "nets"),
        ("model(1).pt2", ""),
        ("model(1).pth", ""),
        ("(resnet18)", ""),
    ],
)
def test_an_expression_is_told_from_the_name_of_a_file(text, source):
    assert parse_model(text).source == source


def test_the_name_of_a_file_that_exists_is_never_evaluated(write):
    write("open('made', 'w')", "x = 1")
    assert parse_model("open('made', 'w')").source == ""
    assert "no model called" in error_of("open('made', 'w')")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONV, 224),
        (f"nn.Sequential({CONV}, nn.ReLU())", 224),
        (f"torch.nn.Sequential(*[{CONV} for _ in range(1)])", 224),
        ("net = nn.Conv2d(3, 8, 3)", 224),
        ("import functools; functools.partial(nn.Conv2d, 3, 8, 3)", 224),
        (f"lambda: {CONV}", 224),
        (f"conv = {CONV}\nnn.Sequential(conv, nn.BatchNorm2d(8))", 240),
        ("[nn.Conv2d(3, 8, 3), nn.ReLU()]", 224),
        ("nn.Conv2d(3, 8, 3), nn.ReLU()", 224),
        ("OrderedDict(stem=nn.Conv2d(3, 8, 3))", 224),
        ("partial(nn.Conv2d, 3, 8, 3)", 224),
        ("net.py:KNOWN['a'](4)", 112),
        ("net.Net(4)", 112),
        ("net.py:Net(width=4)", 112),
        ("net:Net(4)", 112),
        ("net.Net", 224),
        ("net", 224),
    ],
)
def test_what_is_typed_is_run_with_torch_and_modules_in_scope(write, text, expected):
    write("net.py", NET + "\n    KNOWN = {'a': Net}\n")
    assert params(text) == expected


def test_an_expression_is_built_without_weights(write):
    report = report_of("nn.Linear(8, 2**30)")
    assert report["device"] == "meta"
    assert report["source"]["source"] == "expression"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("nn.Sequential(nn.Conv2d(3, 8, 3)", 2, "'(' was never closed"),
        ("Sequential(nn.ReLU())", 2, "did you mean nn.Sequential?"),
        ("nn.Sequentail(nn.ReLU())", 2, "did you mean nn.Sequential?"),
        ("nothing_at_all(3)", 2, "nothing is called nothing_at_all here"),
        ("str(3)", 2, "made a str, not an nn.Module"),
        ("nn.Linear(1 / 0, 3)", 3, "ZeroDivisionError"),
        ("net.py:Nett(3)", 2, "did you mean Net?"),
        ("net.py:Net(widht=3)", 3, "unexpected keyword argument 'widht'"),
        (f"{CONV} --arg a=1", 2, "no expression of Python"),
    ],
)
def test_an_expression_that_is_wrong_is_told_in_one_sentence(write, text, code, said):
    write("net.py")
    assert said in error_of(text, code=code)


# ------------------------------------------------------------------------------ standard input


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONV, 224),
        (f"\n\nnet = {CONV}\n", 224),
        (NET, 224),
        (NET + "\n    Net(4)\n", 112),
        ("from torch.nn import *\nConv2d(3, 8, 3)", 224),
    ],
)
def test_standard_input_is_an_expression_or_the_text_of_a_file(typed, text, expected):
    typed(text)
    assert params("-") == expected


def test_a_name_on_standard_input_is_that_name(write, typed):
    write("net.py")
    typed("net.py:Net\n")
    assert params("-") == 224
    typed("no_such_model")
    assert "no model called 'no_such_model'" in error_of("-")
    typed("-")
    assert "SyntaxError" in error_of("-", code=3)


def test_a_model_of_another_library_is_named_as_it_is_called_there():
    assert "no model called 'classic:VGG19'; it is torchvision:vgg19" in error_of("classic:VGG19")
    assert "it is classic:lenet5\n" in error_of("torchvision:lenet5")


def test_arguments_reach_the_network_of_standard_input_and_two_models_may_be_it(typed):
    typed(NET)
    assert params("-", "--arg", "width=4") == 112
    result = run_cli("diff", "-", "-", "-i", "3x8x8", "--arg-b", "width=4")
    assert (result.code, "224" in result.out, "112" in result.out) == (0, True, True)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 2, "is empty"),
        ("  \n ", 2, "is empty"),
        ("x" * (2**20 + 1), 2, "more than 1,048,576 characters"),
        ("x = (", 3, "<stdin>:1: SyntaxError"),
        ("x = 1\n1 / 0\ny = 2", 3, "<stdin>:2: ZeroDivisionError"),
        (NET + NET.replace("Net", "Other"), 2, "holds Net(width=8), Other(width=8): end it with"),
    ],
)
def test_standard_input_that_is_no_network_is_told(typed, text, code, said):
    typed(text)
    assert said in error_of("-", code=code)


# ------------------------------------------------------------------------- files of packages

REGISTRY = """
    KNOWN = {}

    def register(cls):
        assert cls.__name__ not in KNOWN, "registered already"
        KNOWN[cls.__name__] = cls
        return cls
"""
REGISTERED = """
    from torch import nn
    from {where} import register

    @register
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 8, 3))
"""


@pytest.mark.parametrize("where", [".registry", "house.registry"])
@pytest.mark.parametrize("name", ["house/net.py", "house/net.py:Net", "house:Net", "house.net:Net"])
def test_a_file_of_a_package_is_run_once_whichever_way_it_is_named(write, where, name):
    write("house/__init__.py", "from .net import Net")
    write("house/registry.py", REGISTRY)
    write("house/net.py", REGISTERED.format(where=where))
    before = set(sys.modules)
    assert params(name) == params(name) == 224
    assert not [one for one in set(sys.modules) - before if one.startswith("house")]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (".", "src/house/deep/net.py"),
        ("src/house", "deep/net.py"),
        ("src/house/deep", "net.py"),
        ("elsewhere", "../src/house/deep/net.py"),
    ],
)
@pytest.mark.parametrize("line", ["from ..parts import WIDTH", "from house.parts import WIDTH"])
def test_a_package_is_found_from_every_folder(write, monkeypatch, tmp_path, folder, name, line):
    write("setup.py", "")
    write("elsewhere/file.txt", "")
    write("src/house/__init__.py", "")
    write("src/house/parts.py", "WIDTH = 4")
    write("src/house/deep/__init__.py", "")
    write("src/house/deep/net.py", f"{line}\n" + textwrap.dedent(NET).replace("=8", "=WIDTH"))
    monkeypatch.chdir(tmp_path / folder)
    assert params(name) == 112


@pytest.mark.parametrize("marker", ["pyproject.toml", ".git/HEAD", "requirements.txt", ""])
def test_folders_without_init_are_found_from_the_root_of_the_project(write, marker):
    if marker:
        write(marker, "")
    write("models/net.py", "from utils.parts import WIDTH\nfrom models.more import conv\n"
          + textwrap.dedent(NET).replace("=8", "=WIDTH"))  # fmt: skip
    write("models/more.py", "conv = 1")
    write("utils/parts.py", "WIDTH = 4")
    assert params("models/net.py") == 112


def test_a_package_without_init_is_forgotten_whole(write):
    write("deep/core/parts.py", "WIDTH = 4")
    write(
        "deep/a/b/net.py",
        "from ...core.parts import WIDTH\n" + textwrap.dedent(NET).replace("=8", "=WIDTH"),
    )
    for name in ("deep/a/b/net.py", "deep.a.b.net:Net", "deep/a/b/net.py:Net", "deep.a.b.net.Net"):
        assert params(name) == 112
    assert not [name for name in sys.modules if name.startswith("deep")]


def test_a_module_that_is_named_like_its_package_does_not_hide_it(write):
    write("house/house.py", "from house.parts import WIDTH\n" + textwrap.dedent(NET))
    write("house/parts.py", "WIDTH = 4")
    write("setup.py", "")
    assert params("house/house.py") == 224


def test_a_changed_neighbour_of_a_package_is_read_anew(write):
    write("house/__init__.py", "")
    for width, expected in ((4, 112), (8, 224)):
        write("house/parts.py", f"WIDTH = {width}{' ' * width}")
        write("house/net.py", "from .parts import WIDTH\n" + textwrap.dedent(NET).replace(
            "=8", "=WIDTH"))  # fmt: skip
        assert params("house/net.py") == params("house.net:Net") == expected


def test_a_package_that_fails_says_where_and_a_circle_of_imports_as_well(write):
    write("broken/__init__.py", "\nimport not_installed_here")
    write("broken/net.py")
    message = error_of("broken.net:Net", code=3)
    assert "broken/__init__.py:2: ModuleNotFoundError: No module named 'not_installed" in message
    assert params("broken/net.py") == 224  # which needs nothing of its package
    write("ring/__init__.py", "from .a import A")
    write("ring/a.py", "from .b import B\nA = 1")
    write("ring/b.py", "from .a import A\nB = 1")
    assert "b.py:1: ImportError: cannot import name 'A'" in error_of("ring/a.py", code=3)


# ---------------------------------------------------------------------------- what to do next


def test_several_networks_are_listed_with_what_each_takes(write):
    write("net.py", NET + NET.replace("Net(", "Other(").replace("width=8", "width, *, deep=True"))
    message = error_of("net.py")
    assert "holds Net(width=8), Other(width, deep=True): say which" in message


@pytest.mark.parametrize("name", ["net.py:Net", "net.py"])
def test_a_network_under_the_guard_of_scripts_is_said_to_be_there(write, name):
    guarded = 'import torch\nif __name__ == "__main__":\n' + textwrap.indent(
        textwrap.dedent(NET), "    "
    )
    write("net.py", guarded)
    message = error_of(name)
    assert 'Net is defined under `if __name__ == "__main__":` (line 6)' in message
    assert "move it to the top level" in message


def test_a_network_inside_a_function_is_said_to_be_there(write):
    write("net.py", "def make():\n" + textwrap.indent(textwrap.dedent(NET), "    "))
    assert "Net is defined inside make() (line 5)" in error_of("net.py:Net")


def test_names_of_another_case_and_folders_are_met_with_what_there_is(write):
    write("house/__init__.py", "from . import net")
    write("house/net.py")
    assert "did you mean Net?" in error_of("house/net.py:NET")
    assert "did you mean Net?" in error_of("house.net.nett")
    assert "did you mean net?" in error_of("house.nett.Net")
    assert "is a folder: name a Python file, such as house/__init__.py" in error_of("house/")
    assert "did you mean house/net.py?" in error_of("house/net.p")


def test_a_network_of_a_package_needs_no_name_where_it_is_the_only_one(write):
    write("house/__init__.py", "from .net import Net")
    write("house/net.py")
    assert params("house") == 224


def test_a_request_of_a_spelling_that_cannot_be_parsed_is_refused():
    with pytest.raises(RequestError, match="never closed"):
        cnnscope.summary("nn.Sequential(")


# ------------------------------------------------------------------- files of other programs


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net.onnx", "is no ONNX graph, or damaged"),
        ("net.h5", "cnnscope reads PyTorch alone"),
        ("net.engine", "is a compiled engine"),
        ("net.ipynb", "%%writefile net.py"),
        ("net.yaml", "--arg cfg=@net.yaml"),
        ("trace.json", "cnnscope.Trace.load('trace.json')"),
        ("missing.onnx", "there is no such file"),
    ],
)
def test_a_file_of_another_program_is_told_what_to_do_next(write, name, said):
    if not name.startswith("missing"):
        write(name, "x")
    assert said in error_of(name)


def wrapper_in(message, tmp_path):
    """The lines of Python below a message, as a file."""
    lines = [line[4:] for line in message.splitlines() if line.startswith("    ")]
    (tmp_path / "wrap.py").write_text("\n".join(lines) + "\n")
    return "wrap.py:net"


@pytest.mark.parametrize("name", ["whole.pt", "whole.pkl", "plain.pkl"])
def test_a_network_that_was_pickled_is_never_loaded_and_the_lines_that_would_do_it_work(
    write, tmp_path, name
):
    write("file.txt", "")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    if name.startswith("plain"):
        (tmp_path / name).write_bytes(pickle.dumps(network))
    else:
        torch.save(network, name)
    message = error_of(name)
    assert "was refused" in message
    assert params(wrapper_in(message, tmp_path)) == 224
    with pytest.raises(RequestError) as caught:
        cnnscope.summary(name)
    assert "def net():" in caught.value.__notes__[0]


def test_a_scripted_network_is_told_what_to_give_instead(write, tmp_path):
    write("file.txt", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save("net.pt")
    assert "before it was scripted" in error_of("net.pt")


def test_a_constructor_that_wants_an_object_is_given_the_lines_of_a_wrapper(write, tmp_path):
    write("net.py", """
        from torch import nn
        class Net(nn.Sequential):
            def __init__(self, cfg):
                super().__init__(nn.Conv2d(3, cfg.width, 3))
    """)  # fmt: skip
    message = error_of("net.py")
    assert "--arg cfg=@config.yaml (with width)" in message
    name = wrapper_in(message, tmp_path)
    wrap = (tmp_path / "wrap.py").read_text()
    filled = wrap.replace("cfg=...", "cfg=type('C', (), {'width': 8})")
    (tmp_path / "wrap.py").write_text(filled)
    assert params(name) == 224


@pytest.mark.parametrize(
    ("typed", "listed"),
    [
        ("ResNet18", "resnet18"),
        ("ResNet-18", "resnet18"),
        ("MobileNetV2", "mobilenet_v2"),
        ("torchvision:AlexNet", "alexnet"),
        ("LeNet5", "lenet5"),
    ],
)
def test_names_are_known_however_papers_write_them(typed, listed):
    from cnnscope.cache import libraries
    from cnnscope.models import registered
    from cnnscope.models.names import parse_model

    assert registered.canonical(parse_model(typed)).name == listed
    assert libraries.is_named(typed.rpartition(":")[2])


def test_a_file_of_the_users_is_not_taken_for_a_librarys_model(tmp_path, monkeypatch):
    from cnnscope.models import registered

    (tmp_path / "AlexNet.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert not registered.as_listed("AlexNet")
    assert registered.as_listed("GoogLeNet") == "googlenet"


def test_a_folder_is_answered_with_the_networks_in_it(tmp_path, monkeypatch):
    package = tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text("from torch import nn\nclass Small(nn.Module):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    for typed in ("nets", "nets/", str(package)):
        message = error_of(typed)
        assert "it has Small in small.py: name one as nets/small.py:Small" in message


@pytest.mark.parametrize(
    "name", ["main:net.onnx", "HEAD~1:a/net.pt2", "main:runs.json", "main:made"]
)
def test_at_a_revision_a_model_is_a_file_of_python(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    with pytest.raises(RequestError, match="at a revision of git, name a file of Python"):
        parse_model(name)
    for other in ("package.part:made", "timm:made", "torchvision:resnet18"):
        assert not parse_model(other).revision
