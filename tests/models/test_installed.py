"""Installations that are broken: what is wrong, and what to type."""

import os
import subprocess
import sys
import textwrap

import pytest
from command_line import run_cli
from paths import ROOT

from cnnscope.errors import RequestError
from cnnscope.models import installed

REINSTALL = "pip install --force-reinstall torch torchvision"


def run(path, *arguments):
    """The program in a process that finds the packages of a folder first."""
    return subprocess.run(
        [sys.executable, "-m", "cnnscope", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
        timeout=600,
    )


def package(folder, name, code):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(textwrap.dedent(code))


BROKEN_TORCH = {
    "a missing library": "import ctypes; ctypes.CDLL('libtorch_gone.so')",
    "a missing dependency": "import package_that_is_gone",
    "half of it": "from torch import _C",
    "another exception": "raise RuntimeError('NCCL')",
}


@pytest.mark.parametrize("how", BROKEN_TORCH)
def test_a_broken_torch_is_said_to_be_broken(tmp_path, how):
    package(tmp_path, "torch", BROKEN_TORCH[how])
    result = run(tmp_path, "summary", "classic:lenet5", "--no-cache")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("cnnscope: torch")
    assert result.stderr.endswith(f"to repair it: {REINSTALL}\n")
    assert "stdout" not in result.stderr


def test_a_dependency_that_is_missing_is_named(tmp_path):
    code = "import {}"
    for name in ("typer", "msgspec"):
        package(tmp_path, name, code.format("dependency_that_is_gone"))
        result = run(tmp_path, "summary", "resnet18")
        assert result.returncode == 2
        assert f"cnnscope: {name}" in result.stderr
        assert f"pip install --force-reinstall {name}\n" in result.stderr
        (tmp_path / name / "__init__.py").unlink()
        (tmp_path / name).rmdir()


def imported(code, name="torchvision"):
    """The exception of importing a package that consists of this code."""
    module = type(sys)(name)
    try:
        exec(compile(textwrap.dedent(code), f"{name}/__init__.py", "exec"), module.__dict__)
    except Exception as error:  # noqa: BLE001
        return error
    return None


@pytest.mark.parametrize(
    ("name", "code", "said", "remedy"),
    [
        ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')",
         "RuntimeError: operator torchvision::nms does not exist", REINSTALL),
        ("torchvision", "import sys; sys.no_such_extension",
         "AttributeError: module 'sys' has no attribute", REINSTALL),
        ("timm", "from torch.nn import NoSuchLayer",
         "cannot import name 'NoSuchLayer'", REINSTALL),
        ("timm", "1/0", "ZeroDivisionError", "pip install --force-reinstall timm"),
        ("PIL", "1/0", "ZeroDivisionError", "pip install --force-reinstall pillow"),
    ],
)  # fmt: skip
def test_what_an_import_raises_is_told_with_the_remedy(name, code, said, remedy):
    sentence = installed.broken(imported(code, name))
    assert said in sentence
    assert sentence.endswith(f"to repair it: {remedy}")


def test_a_folder_of_which_the_rest_is_gone_is_broken(monkeypatch):
    """Python imports it, as a package without a file."""
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    for code in ("import torch\ntorch.Tensor", "from torch import no_such_part"):
        with pytest.raises((AttributeError, ImportError)) as raised:
            exec(code, {})
        assert installed.broken(raised.value).endswith(REINSTALL)


def test_a_package_that_is_not_there_is_not_broken(monkeypatch):
    monkeypatch.setattr(installed, "version", lambda _: None)
    error = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    assert installed.broken(error) == "numpy is not installed: pip install numpy"
    monkeypatch.setattr(installed, "version", lambda _: "2.0")  # half removed
    assert "pip install numpy --force-reinstall" in installed.broken(error)


def test_exceptions_of_our_own_are_no_installation(monkeypatch):
    try:
        installed.version(3)
    except AttributeError as error:
        assert installed.broken(error) == ""  # noqa: PT017
    assert installed.broken(OSError(28, "No space left on device")) == ""
    assert installed.broken(ImportError("x", name="cnnscope.none")) == ""


@pytest.fixture
def no_torchvision(monkeypatch):
    """A torchvision that was built for another torch."""
    from cnnscope.models import find

    error = imported("raise RuntimeError('operator torchvision::nms does not exist')")
    import_module = find.importlib.import_module

    def broken(name, *more):
        if name == "cnnscope.models.sources.torchvision":
            raise error
        return import_module(name, *more)

    monkeypatch.setattr(find.importlib, "import_module", broken)


def test_a_broken_torchvision_is_told_for_its_models(no_torchvision):
    for model in ("resnet18", "torchvision:resnet18", "no_such_model"):
        result = run_cli("summary", model, "--no-cache")
        assert (result.code, result.out) == (2, "")
        assert "torchvision::nms does not exist" in result.err
        assert result.err.endswith(f"{REINSTALL}\n")


def test_models_of_others_do_without_torchvision(no_torchvision):
    assert run_cli("summary", "lenet5", "--no-cache").code == 0


def test_a_broken_installation_costs_no_stored_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    run_cli("summary", "classic:lenet5")
    before = sorted(tmp_path.iterdir())
    error = imported("1/0", "rich")

    def broken(*_, **__):
        raise error

    monkeypatch.setattr("cnnscope.cli.out.write_report", broken)
    assert "rich" in run_cli("summary", "classic:lenet5").err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("found", "old"), [("2.8.0+cpu", True), ("2.9.0", False), ("3.0", False)])
def test_libraries_that_are_too_old_are_refused(monkeypatch, found, old):
    monkeypatch.setattr(installed, "_floors", lambda: {"torch": (2, 9)})
    monkeypatch.setattr(installed, "version", lambda _: found)
    if not old:
        installed.refuse_old()
        return
    with pytest.raises(RequestError, match=r"needs 2\.9 or later: pip install --upgrade torch"):
        installed.refuse_old()


def test_floors_are_those_of_the_metadata(monkeypatch):
    from importlib import metadata

    required = [
        "torch>=2.9",
        "torchvision>=0.24",
        "typer<0.29,>=0.15",
        "timm>=1.0; extra == 'timm'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    installed._floors.cache_clear()
    try:
        assert installed._floors()["torch"] == (2, 9)
        assert installed._floors()["torchvision"] == (0, 24)
    finally:
        installed._floors.cache_clear()
