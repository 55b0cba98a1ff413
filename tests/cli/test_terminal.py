"""Every command on a pseudo-terminal: stdout and stderr each a terminal or a file."""

import contextlib
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import NamedTuple

import pytest
from command_line import run_cli
from paths import ROOT

from cnnscope import cli

pytestmark = pytest.mark.broad

ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Shown(NamedTuple):
    """Output of a command: to each file, and to the terminal."""

    code: int
    out: str
    err: str
    terminal: str


class Screen:
    """As much of a terminal as Rich and this program use: lines, erasing, the cursor."""

    def __init__(self, text):
        self.lines, self.row, self.column, self.widest, self.cursor = [""], 0, 0, 0, True
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|[\r\n])", text):
            self._take(part)

    def _take(self, part):
        escape = ESCAPE.fullmatch(part)
        if part == "\n":
            self.row, self.column = self.row + 1, 0  # the line discipline has made \r\n of it
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif part == "\r":
            self.column = 0
        elif escape:
            self._obey(*escape.groups())
        else:
            assert "\x1b" not in part
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)
            if not self.lines[self.row].startswith("cnnscope: "):  # one line, which may be found
                self.widest = max(self.widest, self.column)

    def _obey(self, number, letter):
        if letter == "A":
            self.row = max(self.row - int(number or 1), 0)
        elif letter == "K":
            kept = self.lines[self.row][: self.column] if number in ("", "0") else ""
            self.lines[self.row] = kept
        elif number == "?25":
            self.cursor = letter == "h"
        else:
            assert letter == "m", (number, letter)

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


@contextlib.contextmanager
def terminal(width):
    """A pseudo-terminal of so many columns: its end for programs, and what arrives at the other."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    arrived = []

    def read():
        with contextlib.suppress(OSError):  # closed
            while part := os.read(master, 65536):
                arrived.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield slave, arrived
    finally:
        os.close(slave)
        reader.join(20)
        os.close(master)


def show(arguments, folder, width, out, err):
    """Run a command with each of stdout and stderr at "tty" or in a "file"."""
    paths = {1: folder / "out", 2: folder / "err"}
    kept = {number: os.dup(number) for number in paths}
    streams = sys.stdout, sys.stderr
    with terminal(width) as (slave, arrived):
        try:
            for number, kind in ((1, out), (2, err)):
                if kind == "tty":
                    os.dup2(slave, number)
                else:
                    file = os.open(paths[number], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.dup2(file, number)
                    os.close(file)
            sys.stdout, sys.stderr = (
                io.TextIOWrapper(io.FileIO(n, "w", closefd=False), "utf-8", write_through=True)
                for n in (1, 2)
            )
            code = cli.run(list(arguments))
        finally:
            sys.stdout, sys.stderr = streams
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)
    texts = [p.read_text() if p.exists() else "" for p in paths.values()]
    return Shown(code, *texts, b"".join(arrived).decode())


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("cnnscope.cli.progress.PATIENCE", 0)


NET = "classic:lenet5"
COMMANDS = {
    "summary": (0, "summary", NET),
    "rf": (0, "rf", NET),
    "rf layer": (0, "rf", NET, "c3"),
    "explain": (0, "explain", NET),
    "diff": (0, "diff", NET, "classic:lenet1989"),
    "stages": (0, "stages", NET, "classic:lenet1989"),
    "stack": (0, "stack"),
    "list": (0, "list", "lenet*", "--source", "classic"),
    "cache": (0, "cache", "info"),
    "--version": (0, "--version"),
    "an error": (2, "summary", NET, "--input", "3x"),
    "a usage error": (2, "summary", "--no-such-option"),
}
SLOW = {
    "rf --verify": (0, "rf", NET, "--verify", "--all"),
    "rf --effective": (0, "rf", NET, "--effective", "--samples", "2"),
    "bench": (0, "bench", NET, "--device", "cpu", "--seconds", "0.02"),
    "check": (0, "check", NET),
}
KINDS = [("tty", "tty"), ("tty", "file"), ("file", "tty"), ("file", "file")]


@pytest.fixture(scope="module")
def piped():
    """Output of each command into pipes."""
    return {name: run_cli(*arguments) for name, (_, *arguments) in COMMANDS.items()}


def holds(shown, code, width, out, err):
    """Check what holds for every command and destination; return the last screen."""
    assert shown.code == code
    assert "\x1b" not in shown.out + shown.err
    screen = Screen(shown.terminal)
    assert screen.widest <= width
    assert screen.cursor
    if err == "file":
        assert (shown.err != "") == (code != 0)  # no progress
    if out == "file" and err == "tty" and code == 0:
        assert screen.text == ""  # whatever was shown is gone
    if out == "file" and code == 0:
        assert shown.out.strip()
    return screen


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", COMMANDS)
def test_output_goes_where_it_belongs(name, kinds, width, piped, tmp_path):
    code, *arguments = COMMANDS[name]
    shown = show(arguments, tmp_path, width, *kinds)
    screen = holds(shown, code, width, *kinds)
    if kinds[0] == "file":
        assert shown.out == piped[name].out
    elif piped[name].out:
        first = piped[name].out.split()[0]
        assert first in screen.text
    if kinds[1] == "file":
        assert shown.err == piped[name].err


@pytest.mark.parametrize(("kinds", "width"), list(zip(KINDS, [80, 120, 80, 120], strict=True)))
@pytest.mark.parametrize("name", SLOW)
def test_progress_is_seen_at_a_terminal_only_and_is_gone_at_the_end(
    name, kinds, width, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "cnnscope.timing.runner._Bench._ceilings", lambda _: None
    )  # they take a second
    code, *arguments = SLOW[name]
    shown = show(arguments, tmp_path, width, *kinds)
    screen = holds(shown, code, width, *kinds)
    if kinds == ("file", "tty") and name != "check":
        assert shown.terminal
    if kinds[0] == "tty":
        assert "lenet5" in screen.text
    assert "lenet5" in (shown.out or screen.text)


def test_help_fits_the_terminal(tmp_path):
    for command in ("", "summary", "rf", "bench", "cache"):
        shown = show([*command.split(), "--help"], tmp_path, 80, "tty", "tty")
        assert holds(shown, 0, 80, "tty", "tty").text


def test_help_is_in_panels_with_colours_on_a_terminal_alone(tmp_path, monkeypatch):
    shown = show(["--help"], tmp_path, 80, "tty", "tty")
    lines = Screen(shown.terminal).text.splitlines()
    assert [line[3:].partition(" ─")[0] for line in lines if line.startswith("╭")] == [
        "Inspect a network", "Compare networks", "Measure", "Manage", "Program",
    ]  # fmt: skip
    assert {len(line) for line in lines if line and line[0] in "╭│╰"} == {80}
    assert re.search(r"\x1b\[1;36msummary", shown.terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = show(["--help"], tmp_path, 80, "tty", "tty")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.terminal)
    assert Screen(plain.terminal).text.splitlines() == lines
    assert "╭" not in show(["--help"], tmp_path, 80, "file", "tty").out


def test_a_page_of_the_documentation_is_laid_out_for_the_terminal(tmp_path):
    shown = show(["help", "numbers"], tmp_path, 80, "tty", "tty")
    text = holds(shown, 0, 80, "tty", "tty").text
    assert "# What the numbers mean" not in text
    assert "| MACs |" not in text
    assert "What the numbers mean" in [line.strip("┃ ") for line in text.splitlines()[:3]]


@pytest.mark.parametrize("columns", ["0", "1", "-5", "abc", "99999999999"])
def test_a_number_of_columns_that_makes_no_sense_is_no_failure(columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert show(["summary", NET], tmp_path, 80, "tty", "tty").code == 0


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_none(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    shown = show(["summary", NET], tmp_path, 80, "tty", "file")
    assert (shown.code, shown.err) == (0, "")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.terminal)


def test_colour_that_is_forced_does_not_get_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    target = tmp_path / "report.txt"
    assert show(["summary", NET, "-o", str(target)], tmp_path, 80, "file", "file").code == 0
    assert "\x1b" not in target.read_text()


# ------------------------------------------------------------------------------- Ctrl-C

WAITING = """
import sys, time
from cnnscope.models import run
from cnnscope.cli import main
from cnnscope.cli.progress import Line, progress

def waits(*_, **__):
    {how}

sys.argv = ["cnnscope", "summary", "resnet18", "--no-cache"]
run.trace_spec = waits
main()
"""
IMPORTING = "import importlib; sys.path.insert(0, {folder!r}); importlib.import_module('slow')"
PHASES = {
    "a bar": "\n    with progress('working') as update:\n        update(1, 2); time.sleep(60)",
    "a bar, in an import": "\n    with progress('working') as update:\n        update(1, 2); "
    + IMPORTING,
    "a line": "\n    with Line() as line:\n        line.stream.write('measuring'); "
    "line.stream.flush(); time.sleep(60)",
    "silence": "sys.stderr.write('.'); sys.stderr.flush(); time.sleep(60)",
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_leaves_the_terminal_as_it_was(phase, tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    code = WAITING.format(how=PHASES[phase].format(folder=str(tmp_path)))
    with terminal(80) as (slave, arrived):
        before = termios.tcgetattr(slave)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        until = time.monotonic() + 300
        while not b"".join(arrived).strip() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
        assert termios.tcgetattr(slave) == before
    text = b"".join(arrived).decode()
    screen = Screen(text)
    assert "Traceback" not in text
    assert screen.cursor
    assert screen.text.lstrip(".") == "cnnscope: interrupted"
