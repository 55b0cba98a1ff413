"""Other counters, where the packages that they come in do not work."""

import json
import sys

import pytest
from command_line import run_cli

BROKEN = {
    "a missing dependency": "import package_that_is_gone",
    "a missing library": "import ctypes; ctypes.CDLL('libgone.so')",
    "half of it": "from . import part_that_is_gone",
    "another exception": "raise RuntimeError('built for another torch')",
    "no such function": "",
    "not even Python": "def (",
    "an exit": "raise SystemExit(0)",
}
COUNTERS = {"torchinfo": {"torchinfo"}, "fvcore": {"fvcore"}, "both": {"torchinfo", "fvcore"}}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Put packages before the installed ones; they are imported anew."""

    def broken(names, code):
        for name in [m for m in sys.modules if m.partition(".")[0] in names]:
            monkeypatch.delitem(sys.modules, name)
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    yield broken
    for name in [m for m in sys.modules if m.partition(".")[0] in COUNTERS["both"]]:
        del sys.modules[name]


def verdicts(*arguments):
    result = run_cli("check", "classic:lenet5", "--no-cache", "--format", "json", *arguments)
    assert result.code == 0, result.err
    return json.loads(result.out)["verdicts"]


@pytest.mark.parametrize(
    ("names", "code"),
    [("both", code) for code in BROKEN] + [(name, "another exception") for name in COUNTERS],
)
def test_a_broken_counter_is_told_and_the_others_count(broken, names, code):
    broken(COUNTERS[names], BROKEN[code])
    found = verdicts()
    for verdict in found:
        failed = verdict["counter"] in COUNTERS[names]
        assert (verdict["status"] == "absent") is failed, verdict
        assert bool(verdict["note"]) is failed
    counters = {verdict["counter"] for verdict in found}
    assert {"numel", "flop counter", "forward"} | COUNTERS[names] <= counters


def test_no_other_command_imports_the_counters(broken):
    broken(COUNTERS["both"], BROKEN["another exception"])
    for command in ("summary", "rf", "explain", "stages"):
        assert run_cli(command, "classic:lenet5", "--no-cache").code == 0
