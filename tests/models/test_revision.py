"""Files at a revision of git: `HEAD~1:net.py:Net`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import run_cli

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.models.names import parse_model

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")

NET = """
from blocks import block
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, make=block):
        super().__init__()
        self.body = nn.Sequential(make(3, width), make(width, width))

    def forward(self, x):
        return self.body(x)
"""
PLAIN = "from torch import nn\n\ndef block(i, o):\n    return nn.Conv2d(i, o, 3)\n"
NORMED = """
from torch import nn

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3), nn.BatchNorm2d(o))
"""
PACKAGED = """
from torch import nn
from {own}parts import WIDTH

class Net(nn.Conv2d):
    def __init__(self):
        super().__init__(3, WIDTH, 1)
"""
# 3 x 3 x 3 inputs and a bias for 8 outputs, 3 x 3 x 8 and a bias for 8
FIRST = 8 * (27 + 1) + 8 * (72 + 1)
SECOND = FIRST + 2 * 2 * 8  # and two norms, a weight and a bias each
THIRD = 16 * (27 + 1) + 16 * (144 + 1) + 2 * 2 * 16


def git(*words, cwd=None):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words],
        cwd=cwd, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def commit(files, subject, cwd=None):
    for name, text in files.items():
        path = Path(cwd or ".") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git("add", "-A", cwd=cwd)
    git("commit", "-qm", subject, cwd=cwd)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two commits, and a change that is not committed."""
    folder = tmp_path_factory.mktemp("made")
    git("init", "-qb", "main", cwd=folder)
    packages = {
        "src/pkg/__init__.py": "", "src/pkg/parts.py": "WIDTH = 4",
        "src/pkg/net.py": PACKAGED.format(own="."), "use.py": PACKAGED.format(own="pkg."),
    }  # fmt: skip
    commit({"models/net.py": NET, "models/blocks.py": PLAIN, **packages}, "first", folder)
    git("tag", "v1", cwd=folder)
    commit({"models/blocks.py": NORMED, "src/pkg/parts.py": "WIDTH = 5"}, "fix: norms", folder)
    git("branch", "feature/norms", cwd=folder)
    (folder / "models/net.py").write_text(NET.replace("width=8", "width=16"), encoding="utf-8")
    (folder / "HEAD").write_text("a file of that name")
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def params(model):
    return cnnscope.summary(model, "3x32x32").record.totals.params


def refusal(model):
    result = run_cli("summary", model, "-i", "3x32x32")
    assert result.code == 2
    assert not result.out
    return result.err.strip().removeprefix(f"cnnscope: {model}: ")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("models/net.py:Net", THIRD),
        ("HEAD:models/net.py:Net", SECOND),
        ("HEAD~1:models/net.py", FIRST),
        ("v1:models/net.py:Net(width=8)", FIRST),
        ("feature/norms:models/net.py", SECOND),
        ("HEAD^{/first}:models/net.py", FIRST),
        ("HEAD@{1}:./models/net.py", FIRST),
        ("main^:models/../models/net.py", FIRST),
        ("v1:src/pkg/net.py", 4 * (3 + 1)),
        ("src/pkg/net.py", 5 * (3 + 1)),
        ("v1:use.py", 4 * (3 + 1)),  # from src/, by the package's name
        ("use.py", 5 * (3 + 1)),
    ],
)
def test_a_file_and_its_neighbours_are_those_of_the_revision(here, model, expected):
    assert params(model) == expected


def test_two_revisions_in_one_process_do_not_see_each_others_neighbours(here):
    both = cnnscope.diff(*(cnnscope.trace(f"{r}:models/net.py", "3x32x32") for r in ("v1", "HEAD")))
    assert both.record.change["params"] == SECOND - FIRST
    assert params("v1:models/net.py") == FIRST
    assert "blocks" not in sys.modules


def test_modules_of_the_working_tree_are_not_those_of_the_revision(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here / "src"))  # as an editable installation has it
    import pkg.parts

    assert params("v1:src/pkg/net.py") == params("v1:use.py") == 4 * (3 + 1)
    assert sys.modules["pkg.parts"] is pkg.parts
    assert pkg.parts.WIDTH == 5
    for name in ("pkg", "pkg.parts"):
        monkeypatch.delitem(sys.modules, name)


def test_the_heading_has_the_revision_and_its_commit(here):
    result = run_cli("diff", "v1:models/net.py", "models/net.py", "-i", "3x32x32")
    short = git("rev-parse", "--short=7", "v1")
    assert result.out.startswith(f"v1:net.py:Net ({short}) -> net.py:Net ")
    source = cnnscope.trace("v1:models/net.py", "3x32x32").source
    assert source.versions["commit"] == git("rev-parse", "v1")


def test_a_path_is_relative_to_the_working_folder(here, monkeypatch):
    monkeypatch.chdir("models")
    assert params("v1:net.py") == params(f"v1:{here}/models/net.py") == FIRST
    assert params("v1:../use.py") == 16
    assert "did you mean net.py or" in refusal("v1:models/net.py")
    monkeypatch.chdir(here.parent)  # the repository is the one that the file lies in
    assert params(f"v1:{here.name}/models/net.py") == FIRST


def test_other_commands_take_a_revision(here):
    for command in ("stages", "rf", "explain"):
        result = run_cli(command, "v1:models/net.py", "-i", "3x32x32")
        assert result.code == 0, result.err
        assert "v1:net.py:Net (" in result.out


def test_an_argument_in_a_file_is_of_the_revision_as_well(here):
    words = ("v1:models/net.py", "-i", "3x32x32", "--arg", "make=models/blocks.py:block")
    result = run_cli("summary", *words)
    assert f"parameters  {FIRST} " in result.out, result.err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("HEAD~9:use.py", "no revision HEAD~9: the history of HEAD ends before it"),
        ("mian:use.py", "no revision mian; did you mean main?"),
        ("norms:use.py", "no revision norms; did you mean feature/norms?"),
        ("HEAD:usee.py", "there is no file usee.py at HEAD; did you mean use.py"),
        ("v1:net.py", "there is no file net.py at v1; did you mean models/net.py or src/pkg/net"),
        ("@{u}:use.py", "no upstream configured for branch 'main'"),
        ("stash@{0}:use.py", "no revision stash@{0}"),
        ("v1..main:use.py", "v1..main is a range; name one revision, such as main or HEAD~1"),
        ("HEAD:models:use.py", "there is no file models:use.py at HEAD"),
        ("HEAD:models/x.py", "there is no file models/x.py at HEAD"),
        ("hf:use.py", "there is no such file"),
        ("C:/use.py", "there is no such file"),
        ("HEAD\0:use.py", "git cannot be asked"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(here, model, said):
    assert said in refusal(model)


def test_a_name_with_a_colon_is_a_file_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "HEAD:net.py"
    assert parse_model(name).revision == "HEAD"
    Path(name).write_text("from torch import nn\nclass N(nn.Conv2d):\n    pass\n")
    assert parse_model(name).revision == ""
    for text in ("C:\\net.py:Net", "https://host/net.py", "timm:net.py"):
        assert parse_model(text).revision == ""
    with pytest.raises(RequestError, match=r"as in HEAD:net\.py"):
        parse_model(":net.py")
    assert parse_model("HEAD^{/fix: it}:net.py:Net").revision == "HEAD^{/fix: it}"
    with pytest.raises(RequestError, match="does not begin with a dash"):
        cnnscope.trace("--output=x:net.py", "3x8x8")
    assert not Path("x").exists()


def test_repositories_that_cannot_be_read_are_told_with_a_remedy(here, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert f"git config --global --add safe.directory {here}" in refusal("HEAD:use.py")
    monkeypatch.chdir(tmp_path)
    assert "is in no git repository" in refusal("HEAD:use.py")
    git("init", "-q")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    assert "the repository has no commit yet" in refusal("HEAD:use.py")
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in refusal("HEAD:use.py")


def test_a_shallow_clone_is_told_what_to_fetch(made, tmp_path, monkeypatch):
    git("clone", "-q", "--depth=1", f"file://{made}", "clone", cwd=tmp_path)
    monkeypatch.chdir(tmp_path / "clone")
    assert params("HEAD:models/net.py") == SECOND
    assert "the clone is shallow; git fetch --unshallow" in refusal("HEAD~1:models/net.py")
    assert "git fetch --depth=1 origin other" in refusal("origin/other:models/net.py")


def test_the_repository_is_read_and_nothing_of_it_runs(tmp_path, monkeypatch):
    """Hooks, filters and attributes of a repository that a stranger made, and what it links to."""
    monkeypatch.chdir(tmp_path)
    git("init", "-qb", "main")
    Path("out.py").symlink_to("/etc/passwd")
    Path("same.py").symlink_to("net.py")
    attributes = "*.py filter=bad export-ignore"
    commit({"net.py": NET, "blocks.py": PLAIN, ".gitattributes": attributes}, "a")
    commit({"blocks.py": NORMED}, "b")
    for name in ("smudge", "clean", "process"):
        git("config", f"filter.bad.{name}", "touch ran")
    git("config", "core.fsmonitor", "touch ran")
    for hook in ("post-checkout", "post-index-change"):
        Path(".git/hooks", hook).write_text("#!/bin/sh\ntouch ran\n")
        Path(".git/hooks", hook).chmod(0o755)
    before = {str(p): p.stat().st_mtime_ns for p in Path(".git").rglob("*")}
    assert params("HEAD~1:same.py") == FIRST
    assert "out.py is a link that leads out of the repository" in refusal("HEAD:out.py")
    assert not Path("ran").exists()
    assert {str(p): p.stat().st_mtime_ns for p in Path(".git").rglob("*")} == before


def test_a_tree_that_leads_out_of_its_folder_is_written_inside_of_it(tmp_path, monkeypatch):
    from contextlib import ExitStack

    from cnnscope.models.files import revision

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    git("init", "-qb", "main")
    commit({"net.py": NET, "in/x.py": PLAIN}, "a")
    inner, blob = (bytes.fromhex(git("rev-parse", f"HEAD:{p}")) for p in ("in", "net.py"))
    Path("tree").write_bytes(
        b"40000 ..\0" + inner + b"40000 .GIT\0" + inner + b"100644 net.py\0" + blob
    )
    tree = git("hash-object", "-wt", "tree", "--literally", "tree")
    made = git("commit-tree", "-m", "crafted", tree)
    assert "../x.py" in git("ls-tree", "-r", "--name-only", made)
    with ExitStack() as undo:
        found = revision.extracted(parse_model(f"{made}:net.py"), undo)
        names = sorted(p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*"))
        assert not (tmp_path / "x.py").exists()
    assert names == [".git", "net.py"]


def test_nothing_stays_of_a_revision(here, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path, modules = list(sys.path), set(sys.modules)
    params("v1:models/net.py")
    for model in ("v1:models/net.py:No", "v1:no.py", "no:use.py"):
        with pytest.raises(RequestError):
            params(model)
    assert not list(tmp_path.iterdir())
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if name in ("net", "blocks")}


def test_what_is_not_tracked_is_not_at_a_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-qb", "main")
    commit({"net.py": NET}, "a")
    Path("blocks.py").write_text(PLAIN)
    result = run_cli("summary", "HEAD:net.py", "-i", "3x8x8")
    assert result.code == 3
    assert "No module named 'blocks'; what git does not track" in result.err
    assert params("net.py") == FIRST


def test_a_submodule_is_read_at_the_commit_that_the_revision_names(tmp_path, monkeypatch):
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder in (inner, outer):
        folder.mkdir()
        git("init", "-qb", "main", cwd=folder)
    monkeypatch.chdir(inner)
    commit({"blocks.py": PLAIN}, "a")
    monkeypatch.chdir(outer)
    allowed = ("-c", "protocol.file.allow=always")
    git(*allowed, "submodule", "add", "-q", f"file://{inner}", "inner")
    commit({"net.py": NET.replace("from blocks", "from inner.blocks")}, "a")
    monkeypatch.chdir(inner)
    commit({"blocks.py": NORMED}, "b")
    monkeypatch.chdir(outer)
    git(*allowed, "submodule", "update", "-q", "--remote")
    git("commit", "-qam", "b")
    assert (params("HEAD~1:net.py"), params("HEAD:net.py")) == (FIRST, SECOND)
    git("submodule", "deinit", "-q", "-f", "inner")
    result = run_cli("summary", "HEAD:net.py", "-i", "3x8x8")
    assert "No module named 'inner'; inner is a submodule that is not" in result.err
