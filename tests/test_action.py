"""The action for pull requests and the hooks: their scripts run against a repository of ours."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import without_versions

from cnnscope.render import comment

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("bash") and (ROOT / "action.yml").is_file()),
    reason="git and bash are not installed, or this is no checkout",
)

FIRST = """
from torch import nn

class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(o)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = Block(3, width, 1)
        self.body = nn.Sequential(*(Block(width, width, 2) for _ in range(3)))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))
"""
SECOND = FIRST.replace("range(3)", "range(4)")
THIRD = (
    SECOND
    + """
class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Net()

    def forward(self, x):
        return self.backbone(x)
"""
)
WHEN = "2026-01-02T03:04:05Z"  # so that commits have the same names every time
GH = """#!/usr/bin/env python3
import json, os, pathlib, sys
words, store = sys.argv[1:], pathlib.Path(os.environ["STORE"])
held = json.loads(store.read_text()) if store.exists() else {}
with open(os.environ["STORE"] + ".log", "a") as log:
    log.write(" ".join(words) + "\\n")
if "--jq" in words:
    mark = os.environ["MARK"]
    print("\\n".join(k for k, body in held.items() if body.startswith(mark)))
    sys.exit(int(os.environ.get("REFUSES", 0)))
body = next(w for w in words if w.startswith("body=@"))[6:]
place = words[words.index("--method") + 2]
key = place.rpartition("/")[2] if "PATCH" in words else str(100 + len(held))
held[key] = pathlib.Path(body).read_text()
store.write_text(json.dumps(held))
"""


def action():
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def step(name):
    return next(one for one in action()["runs"]["steps"] if one["name"] == name)


def git(*words, cwd):
    when = {"GIT_AUTHOR_DATE": WHEN, "GIT_COMMITTER_DATE": WHEN}
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words],
        cwd=cwd, env=os.environ | when, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Three revisions: a network, one with a block more, the same one with another beside it."""
    folder = tmp_path_factory.mktemp("demo")
    git("init", "-qb", "main", cwd=folder)
    for text, subject in ((FIRST, "first"), (SECOND, "a block more"), (THIRD, "wrapped")):
        (folder / "net.py").write_text(text, encoding="utf-8")
        git("add", "-A", cwd=folder)
        git("commit", "-qm", subject, cwd=folder)
    return folder


@pytest.fixture
def run(demo, tmp_path):
    """Run a step in the repository, with programs of ours in PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "cnnscope").write_text(f'#!/bin/sh\nexec {sys.executable} -m cnnscope "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    output, summary = tmp_path / "output", tmp_path / "summary"

    def ran(name, **inputs):
        given = dict.fromkeys(step(name)["env"], "") | {"NAME": "cnnscope"} | inputs
        more = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path),
            "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary),
            "STORE": str(tmp_path / "comments"), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-c", step(name)["run"]],
            cwd=demo, env=os.environ | given | more, capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = output.read_text().splitlines() if output.exists() else []
        return done, dict(line.split("=", 1) for line in lines)

    return ran


# ------------------------------------------------------------------------------- its form


def test_no_input_is_put_into_a_script():
    for one in action()["runs"]["steps"]:
        assert "${{" not in one["run"], one["name"]
        assert one["shell"] == "bash"
    used = json.dumps([one.get("env", {}) for one in action()["runs"]["steps"]])
    used += json.dumps(action()["runs"]["steps"])
    assert all(f"inputs.{name}" in used for name in action()["inputs"])


def test_scripts_are_shell():
    for one in action()["runs"]["steps"]:
        done = subprocess.run(
            ["bash", "-n"], input=one["run"], text=True, capture_output=True, check=False
        )
        assert not done.returncode, done.stderr
        if shutil.which("shellcheck"):
            done = subprocess.run(
                ["shellcheck", "--shell=bash", "-"],
                input=one["run"], text=True, capture_output=True, check=False,
            )  # fmt: skip
            assert not done.stdout


def test_the_workflow_of_the_docs_gives_inputs_that_there_are():
    text = (ROOT / "docs/pull-requests.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(re.search(r"```yaml\n(name: network.*?)```", text, re.DOTALL)[1])
    (used,) = [s for s in workflow["jobs"]["diff"]["steps"] if "cnnscope" in s["uses"]]
    assert set(used["with"]) <= set(action()["inputs"])
    assert workflow["permissions"]["pull-requests"] == "write"


def test_the_longest_comment_of_one_network_is_not_cut_again():
    (cut,) = re.findall(r"limit=\$\(\((\d+) /", step("Compare")["run"])
    assert comment.LIMIT <= int(cut) < 65_536


def test_hooks_are_commands():
    from cnnscope.cli.commands import COMMANDS

    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks] == ["cnnscope-diff", "cnnscope-summary"]
    assert all(hook["entry"].split()[1] in COMMANDS for hook in hooks)


# ------------------------------------------------------------------------------- what it does


@pytest.mark.broad
def test_the_comment_of_a_pull_request(run, demo, golden):
    """One block more than the budget allows."""
    base = git("rev-parse", "HEAD~2", cwd=demo)
    words = {"MODEL": "  net.py:Net\n", "INPUT": "3x32x32", "MAX_PARAMS": "+5%"}
    done, outputs = run("Compare", BASE=base, **words)
    assert done.returncode == 0, done.stderr
    # 16 * 16 * 9 weights and a norm of 16 are 2,336 of 432 + 32 + 3 * 2,336 + 170 = 7,642: 30.6 %
    assert "7,642 -> 9,978 (+30.6 %)" in done.stderr
    assert outputs["verdict"] == "over"
    golden(without_versions(Path(outputs["report"]).read_text(encoding="utf-8")), "comment.md")

    comment = {"REPORT": outputs["report"], "REPOSITORY": "o/r", "NUMBER": "7"}
    for _ in range(2):  # the second time it is found, and updated
        assert run("Comment", **comment)[0].returncode == 0
    store = Path(outputs["report"]).parents[1] / "comments"
    (body,) = json.loads(store.read_text()).values()
    assert body == Path(outputs["report"]).read_text()
    log = Path(f"{store}.log").read_text().splitlines()
    assert "--method POST repos/o/r/issues/7/comments" in log[1]
    assert "--method PATCH repos/o/r/issues/comments/100" in log[3]
    refused, _ = run("Comment", REFUSES="1", **comment)
    assert refused.returncode == 0
    assert "::warning::no comment" in refused.stdout


@pytest.mark.broad
def test_what_cannot_be_compared_fails_and_says_why(run):
    done, outputs = run("Compare", MODEL="net.py:Nope\ngone.py:Net", BASE="HEAD~1")
    assert done.returncode == 0
    assert outputs["verdict"] == "failed"
    report = Path(outputs["report"]).read_text()
    assert "A network could not be compared:" in report
    assert "net.py has no 'Nope'" in report
    assert "There is no such file in this revision:\n\n    gone.py\n" in report


@pytest.mark.broad
def test_a_network_that_the_base_has_not_is_new(run):
    """The file is at the base, and the class is not; its second call would link issue 2."""
    done, outputs = run("Compare", MODEL="net.py:Wrapped", BASE="HEAD~1", INPUT="3x32x32")
    assert outputs["verdict"] == "kept", done.stderr
    report = Path(outputs["report"]).read_text()
    assert report.splitlines()[1].endswith("(new in this pull request)")
    assert not re.search(r"[@#!]\w", report.partition("-->")[2])


@pytest.mark.parametrize("base", ["", "--upload-pack=touch ran", "-x"])
def test_a_base_that_is_none_is_refused(run, demo, base):
    done, outputs = run("Compare", MODEL="net.py:Net", BASE=base)
    assert done.returncode == 2
    assert "::error::input base" in done.stdout
    assert not outputs
    assert not (demo / "ran").exists()


def test_text_of_inputs_is_never_run(run, demo):
    evil = "$(touch ran); `touch ran` \" ' \\ && touch ran #"
    done, _ = run("Compare", MODEL=f"{evil}.py:Net", BASE="HEAD", INPUT=evil, NAME=evil)
    assert done.returncode == 0
    assert not (demo / "ran").exists()


@pytest.mark.parametrize(("verdict", "code"), [("kept", 0), ("over", 1), ("failed", 2)])
def test_the_verdict_is_the_exit_code(run, verdict, code):
    assert run("Verdict", VERDICT=verdict)[0].returncode == code
