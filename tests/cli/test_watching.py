"""`cnnscope summary net.py --watch`."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest
from command_line import run_cli

from cnnscope.api import watching
from cnnscope.cli import watching as screen
from cnnscope.models.request import Request
from cnnscope.render.page import Heading, Table

NET = """
from torch import nn
from parts import block

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = block(3, 8)
        self.second = block(8, 8)

    def forward(self, x):
        return self.second(self.first(x))
"""
PARTS = "from torch import nn\n\ndef block(i, o):\n    return nn.Conv2d(i, o, 3, padding=1)\n"


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "parts.py").write_text(PARTS)
    return tmp_path / "net.py"


def read(path):
    return watching.read(Request.of(str(path), "3x16x16"), cache=False)


def test_a_reading_has_the_files_that_the_network_is_made_of(net):
    seen = read(net)
    # 8 * (27 + 1) + 8 * (72 + 1)
    assert seen.report.totals.params == 808
    assert seen.files == {str(net), str(net.with_name("parts.py"))}


def test_a_file_that_does_not_parse_is_a_reading_with_an_error(net):
    net.with_name("parts.py").write_text("def (")
    seen = read(net)
    assert (seen.report, seen.trace) == (None, None)
    assert "parts.py:1: SyntaxError" in seen.error
    assert seen.files == {str(net), str(net.with_name("parts.py"))}
    net.unlink()
    assert "there is no such file" in read(net).error


def test_changes_are_said_and_a_comment_is_none(net):
    first = read(net)
    net.write_text(f"{NET}# a comment\n")
    assert watching.changes(first.trace, read(net).trace) == []
    net.with_name("parts.py").write_text(PARTS.replace("3, padding=1", "5, padding=2"))
    ((title, said),) = watching.changes(first.trace, read(net).trace)
    assert title == "changed"
    assert said.startswith("kernel 3x3 -> 5x5 in 2 Conv2d (first, second)")


def test_two_saves_in_one_second_are_two(net, monkeypatch):
    """Python takes compiled code for that of a file of the same second and size."""
    parts = net.with_name("parts.py")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with screen._no_bytecode():
        for kernel, params in (("3, padding=1", 808), ("5, padding=2", 8 * 76 + 8 * 201)) * 2:
            parts.write_text(PARTS.replace("3, padding=1", kernel))
            os.utime(parts, (1e9, 1e9))
            assert read(net).report.totals.params == params
    assert not sys.dont_write_bytecode


def test_rows_are_marked_by_what_they_are_and_not_by_their_share():
    headings = (Heading("layer"), Heading("MACs"), Heading("share"), Heading("field"))
    before = Table(headings, (("a", "1", "50 %", "3"), ("b", "1", "50 %", "5")), yields=((2, 0),))
    after = Table(headings, (("a", "9", "90 %", "7"), ("b", "1", "10 %", "9"), ("c", "1", "", "")))
    marked = screen._with_marks(after._replace(yields=((2, 0),)), before)
    assert [row[0] for row in marked.rows] == ["~", "", "~"]
    assert marked.headings[1:] == headings
    assert marked.yields == ((3, 0),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet18",), "--watch needs a terminal"),
        (("net.py", "--output", "x.txt"), "--watch needs a terminal"),
    ],
)
def test_without_a_terminal_it_is_refused(words, said):
    result = run_cli("summary", *words, "--watch")
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet18",), "--watch follows a file: resnet18 is none"),
        (("HEAD:net.py",), "a file at a revision never changes"),
        (("net.py", "--output", "x.txt"), "--output has no effect here"),
        (("net.py", "--max-params", "5M"), "--max-params has no effect here"),
    ],
)
def test_what_cannot_be_watched_is_refused(monkeypatch, words, said):
    monkeypatch.setattr(screen, "check_terminal", lambda: None)
    result = run_cli("summary", *words, "--watch")
    assert result.code == 2
    assert said in result.err


class Watch:
    """A watch on a terminal of its own."""

    def __init__(self, folder):
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.chdir(folder)
            command = [sys.executable, "-m", "cnnscope", "summary", "net.py", "-i", "3x16x16"]
            os.execve(sys.executable, [*command, "--watch"], os.environ | {"TERM": "xterm"})
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def until(self, pattern):
        """The last screen, once it has a text."""
        shown, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([self.file], [], [], 0.05)[0]:
                shown += os.read(self.file, 65536)
            last = re.sub(rb"\x1b\[[0-9;]*m", b"", shown.rpartition(b"\x1b[2J")[2]).decode(
                "utf-8", "ignore"
            )
            if "Ctrl-C ends" in last and re.search(pattern, last):
                return last
        raise AssertionError(shown.decode())

    def end(self):
        os.kill(self.pid, signal.SIGINT)
        with contextlib.suppress(OSError):
            while os.read(self.file, 65536):
                pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.broad
def test_a_save_is_drawn_and_marked_and_an_error_keeps_the_table(net):
    watch = Watch(net.parent)
    assert "watching    net.py, parts.py" in watch.until("808")
    Path(f"{net}.new").write_text(NET.replace("block(8, 8)", "block(8, 4)"))
    Path(f"{net}.new").replace(net)  # as many editors save
    shown = watch.until("changed .*output channels 8 -> 4 in Conv2d")
    # 4 * (72 + 1) = 292
    assert re.search(r"^~ +second +Conv2d 3x3, p1 +4x16x16 +292 ", shown, re.MULTILINE)
    assert re.search(r"^ +first +Conv2d", shown, re.MULTILINE)
    net.write_text("def (")
    shown = watch.until("SyntaxError")
    assert "second" in shown
    assert "the last that could be made" in shown
    net.with_name("parts.py").write_text(PARTS.replace("3, padding=1", "5, padding=2"))
    net.write_text(NET)
    shown = watch.until("kernel 3x3 -> 5x5")
    assert "SyntaxError" not in shown
    assert watch.end() == 130
