"""Progress on stderr."""

import io
import sys

import pytest

from cnnscope.cli.progress import Line, progress
from cnnscope.timing import loop
from cnnscope.tracing import isolation


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_a_terminal(monkeypatch):
    """In the test and not in a fixture: pytest takes stderr anew between the two."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def work(update):
    for done, name in enumerate(("alexnet", "vgg11"), 1):
        update(done, 2, name)


def test_a_bar_tells_what_is_done_of_how_much(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with progress("tracing") as update:
        work(update)
    text = terminal.getvalue()
    assert "tracing" in text
    assert "2/2" in text
    assert "vgg11" in text
    assert text.endswith("\x1b[2K")  # and is gone


def test_what_is_done_soon_has_no_bar(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with progress("tracing", patience=60) as update:
        work(update)
    assert not terminal.getvalue()


def test_a_bar_in_a_pipe_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("tracing") as update:
        work(update)
    assert not sys.stderr.getvalue()


def test_a_bar_is_gone_after_an_error(monkeypatch):
    terminal = at_a_terminal(monkeypatch)

    def interrupted(update):
        update(1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), progress("tracing") as update:
        interrupted(update)
    assert "tracing" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")


def test_a_bar_that_begins_while_a_model_runs_is_drawn_and_leaves_stdout_alone(monkeypatch):
    terminal, out = at_a_terminal(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with progress("measuring") as update, isolation.aside():
        sys.stdout.write("the model's own word\n")
        work(update)
    sys.stdout.write("the report\n")
    assert out.getvalue() == "the report\n"
    assert "the model's own word" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "\\x1b" not in terminal.getvalue()  # written out, as a model's would be
    assert terminal.getvalue().endswith("\x1b[2K")


def test_a_line_is_rewritten_ten_times_a_second_and_leaves_nothing(monkeypatch):
    terminal, times = at_a_terminal(monkeypatch), iter([1.0, 1.05, 1.2])
    with Line(lambda: next(times)) as line:
        for samples in (10, 20, 30):
            line.show(loop.Progress("measuring resnet18, batch 8", samples, 3.2))
    text = terminal.getvalue()
    assert "measuring resnet18, batch 8: 10 samples, 3 s left" in text
    assert "20 samples" not in text  # half a tenth of a second later
    assert "30 samples" in text
    assert text.endswith("\r\x1b[K")
