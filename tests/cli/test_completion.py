"""Completions for bash, zsh and fish, asked for as the scripts that typer installs do."""

import os
import re
import sys

import pytest
from imports import imported_by

from cnnscope import cli
from cnnscope.models import registered
from cnnscope.models.find import library

NET = "class Net: pass\ndef make(): pass\ndef _private(): pass\n"


@pytest.fixture
def complete(monkeypatch, tmp_path, capsys):
    """Completions of the last word of a line."""
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "argv", ["cnnscope"])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # not `python -m pytest`
    monkeypatch.setattr("cnnscope.parallel.short_lived", lambda: None)
    monkeypatch.chdir(tmp_path)

    def told(shell, *words):
        monkeypatch.setenv("_CNNSCOPE_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", "\n".join(("cnnscope", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(("cnnscope", *words)))
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        with pytest.raises(SystemExit):
            cli.main([])
        return capsys.readouterr().out.strip()

    return told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_options_their_values_and_models_are_completed(complete, shell):
    assert "summary" in complete(shell, "summ")
    assert "--num-classes" in complete(shell, "summary", "resnet18", "--num-c")
    assert "markdown" in complete(shell, "summary", "--format", "mark")
    assert "resnet152" in complete(shell, "summary", "resnet15")
    assert "lenet1989" in complete(shell, "diff", "alexnet", "lenet")


def test_each_shell_is_told_in_its_own_form(complete):
    zsh = r"""_arguments '*: :(("torchvision\\:resnet152"))'"""
    assert complete("zsh", "rf", "torchvision:resnet15") == zsh
    assert complete("fish", "rf", "torchvision:resnet15") == "torchvision:resnet152"
    assert complete("bash", "rf", "torchvision:resnet15") == "torchvision:resnet152"


def test_bash_that_cuts_words_at_colons_is_told_what_follows_them(complete):
    assert complete("bash", "rf", "torchvision", ":", "resnet15") == "resnet152"
    assert "lenet5" in complete("bash", "rf", "classic", ":").split()
    diff = ("diff", "classic", ":", "lenet5", "classic", ":", "lenet19")
    assert complete("bash", *diff) == "lenet1989"
    assert complete("bash", "diff", "classic", ":", "lenet5", "lenet19") == "lenet1989"


def test_the_name_of_a_library_is_completed_with_its_models(complete):
    told = complete("bash", "summary", "class").split()
    assert "classic:lenet5" in told
    assert all(name.startswith("classic:") for name in told)


def test_other_spellings_of_models_and_names_in_packages_are_completed(complete, tmp_path):
    assert complete("fish", "rf", "torchvision.models.resnet15") == "torchvision.models.resnet152"
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("from .parts import Net, other\nimport os\n")
    (tmp_path / "nets" / "parts.py").write_text(NET)
    assert complete("fish", "rf", "nets:").split() == ["nets:Net", "nets:other"]
    assert complete("fish", "rf", "nets.parts:m") == "nets.parts:make"


def test_tags_of_timm_are_completed_behind_a_dot(complete):
    pytest.importorskip("timm")
    told = complete("fish", "rf", "timm:resnet18.").split()
    assert {"timm:resnet18.a1_in1k", "timm:resnet18.tv_in1k"} <= set(told)
    assert all(name.startswith("timm:resnet18.") for name in told)
    assert complete("fish", "rf", "timm/resnet18.tv") == "timm/resnet18.tv_in1k"
    assert complete("bash", "rf", "timm", ":", "resnet18.tv") == "resnet18.tv_in1k"
    assert "timm:resnet18d" in complete("fish", "rf", "timm:resnet18").split()
    assert complete("fish", "rf", "timm:no_such_net.") == ""


def test_every_tag_that_is_read_in_the_files_of_timm_is_one():
    pytest.importorskip("timm")
    from timm.models import _registry

    published = {name for name in _registry._model_pretrained_cfgs if "." in name}
    read = set(registered.tags())
    assert read - published == set()
    assert len(read) > 0.9 * len(published)


def test_classes_of_transformers_are_completed_without_its_import(complete, tmp_path, monkeypatch):
    auto = tmp_path / "transformers" / "models" / "auto"
    auto.mkdir(parents=True)
    (tmp_path / "transformers" / "__init__.py").write_text("raise ImportError")
    (auto / "modeling_auto.py").write_text(
        """MAPPING = OrderedDict([("r", "ResNetModel"), ("x", ("FunnelModel", "NoEncoder"))])\n"""
        """OTHER = {"r": "ResNetForImageClassification", "_": "AutoModel"}\n"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    assert complete("fish", "rf", "hf:Res").split() == [
        "hf:ResNetForImageClassification", "hf:ResNetModel",
    ]  # fmt: skip
    assert complete("bash", "rf", "hf", ":", "Fun") == "FunnelModel"
    assert complete("fish", "rf", "hf:Auto") == ""


def test_files_of_values_are_completed(complete, tmp_path):
    for name in ("net.yaml", "net.json", "net.py", "$(id).yaml"):
        (tmp_path / name).write_text("")
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "deep.toml").write_text("")
    line = ("summary", "resnet18", "--arg")
    assert complete("fish", *line, "cfg=@ne").split() == [
        "cfg=@nested/", "cfg=@net.json", "cfg=@net.yaml",
    ]  # fmt: skip
    assert complete("fish", *line, "@nested/") == "@nested/deep.toml"
    assert complete("fish", *line, "@$") == ""
    assert complete("fish", *line, "width=n") == ""


def test_files_and_what_they_define_are_completed(complete, tmp_path):
    (tmp_path / "resnet_own.py").write_text("")
    (tmp_path / "own.py").write_text(NET)
    (tmp_path / "broken.py").write_text("class (")
    (tmp_path / "folder").mkdir()
    assert complete("bash", "summary", "ow").split() == ["own.py", "own.py:Net", "own.py:make"]
    assert complete("bash", "summary", "own.py", ":", "N") == "Net"
    assert complete("fish", "summary", "own.py:").split() == ["own.py:Net", "own.py:make"]
    assert complete("bash", "summary", "broken.py", ":") == ""
    assert complete("bash", "summary", "nowhere.py", ":") == ""
    told = complete("bash", "summary", "res").split()
    assert {"resnet18", "resnet_own.py"} <= set(told)
    assert complete("zsh", "summary", "fol") == "_files"


def test_a_line_that_no_script_sends_is_no_traceback(complete, monkeypatch):
    assert "summary" in complete("bash", "")
    monkeypatch.setattr(os.environ, "update", None)  # not reached
    monkeypatch.setenv("_CNNSCOPE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "cnnscope summ")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        cli.main([])


@pytest.mark.parametrize("place", ["abc", "-5", "1.5", "", "9" * 40, "\u0661", None])
@pytest.mark.parametrize("words", ["cnnscope su", None])
def test_a_cursor_that_is_nowhere_is_told_nothing(complete, monkeypatch, capsys, place, words):
    monkeypatch.setenv("_CNNSCOPE_COMPLETE", "complete_bash")
    for name, value in (("COMP_WORDS", words), ("COMP_CWORD", place)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.main([])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


EVALUATED = ["$(id).py", "`id`.py", "a b.py", "a;b.py", "'q'.py", '"q".py', "a\nb.py", "(x).py",
             "=ls.py", "-rf.py", "a\\b.py", "${x}.py", "a|b.py", "<x.py", "*x.py", "~x.py", "!x.py",
             "\u202ex.py"]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_shell_is_offered_what_it_would_evaluate(complete, tmp_path, shell):
    for name in (*EVALUATED, "plain-1.2_b.py", "größe.py"):
        (tmp_path / name).write_text("class Net: ...")
    offered = set()
    for start in ("", *{name[0] for name in EVALUATED}, "plain", "gr", "a"):
        offered |= set(re.findall(r"\S*\.py\b", complete(shell, "summary", start)))
    assert {name for name in offered if name.strip('"') in EVALUATED} == set()
    assert "plain-1.2_b.py" in {name.strip('(")') for name in offered}


def test_names_in_files_that_a_shell_would_evaluate_are_not_offered(complete, tmp_path):
    (tmp_path / "$(id).py").write_text("class Net: ...")
    from cnnscope.cli import completion

    assert completion.models("$(id).py:N") == []


@pytest.mark.parametrize("source", ["torchvision", "classic"])
def test_names_are_read_in_the_files_of_a_library_as_it_tells_them(source):
    assert registered.names(source) == sorted(library(source).names())


def test_names_of_a_library_that_is_not_there_are_none():
    assert registered.names("no_such_library") == []


def test_completion_imports_no_torch(tmp_path):
    program = (
        "import pathlib; from cnnscope.cache.libraries import complete\n"
        "        from cnnscope.cache.store import Store\n"
        f"        store = Store(pathlib.Path({str(tmp_path)!r}))\n"
        "        assert complete('torchvision:resnet15', store) == ['torchvision:resnet152']\n"
        "        assert 'lenet5' in complete('lenet', store)"
    )
    assert imported_by(program) == []
