"""Progress of long work: a bar or a line on stderr, on a terminal only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self, TextIO

from cnnscope.cli.out import watched
from cnnscope.cli.signals import before_exit
from cnnscope.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from cnnscope.timing.loop import Progress as Standing

_CLEAR, _SHOW_CURSOR = b"\r\x1b[2K", b"\x1b[?25h"
_UNKNOWN_WIDTH = 80
PATIENCE = 0.5  # seconds that a user waits without asking how long it will take

Update = Callable[..., None]  # (done, total, name of what is done)


@contextmanager
def progress(title: str, patience: float = 0) -> Iterator[Update]:
    """A bar, moved by calls of `update(done, total, name="")`; gone when all is done.

    Nothing is shown (nor imported) without a terminal, or for what is done before `patience` ends.
    The bar goes where stderr goes now: while a model runs its prints go aside, and so would a bar.
    """
    began, shown, stream = time.monotonic(), watched(), sys.stderr
    bars: list[Progress] = []

    def update(done: int, total: int, name: str = "") -> None:
        if not bars and shown and time.monotonic() - began >= patience:
            bars.append(_bar(title, stream))
        for bar in bars:
            bar.update(bar.task_ids[0], completed=done, total=total, name=name)

    try:
        with before_exit(lambda: _restore(stream, _CLEAR + _SHOW_CURSOR if bars else b"")):
            yield update
    finally:
        for bar in bars:
            bar.stop()


def _restore(stream: TextIO, written: bytes) -> None:
    os.write(stream.fileno(), written)


def _bar(title: str, stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[name]}"),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,  # it would put back, after a model's run, what it found during it
        redirect_stderr=False,
    )
    bar.add_task(title, total=None, name="")
    bar.start()
    return bar


class Line:
    """Progress of a measurement: a line on stderr, overwritten and removed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.next = clock, 0.0
        self.shown = watched()
        self._stack = ExitStack()
        self.stream = sys.stderr  # as it is now: while a model runs its prints go aside

    def __enter__(self) -> Self:
        self._stack.enter_context(before_exit(self._clear))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _clear(self) -> None:
        if self.shown:
            _restore(self.stream, _CLEAR)

    def show(self, progress: Standing) -> None:
        """Write where things stand, ten times a second at most."""
        now = self.clock()
        measuring = progress.seconds_left >= 0
        if not self.shown or (measuring and now < self.next):
            return
        self.next = now + 0.1
        text = progress.what
        if measuring:
            text += f": {progress.samples:,} samples, {progress.seconds_left:.0f} s left"
        self.stream.write(f"\r\x1b[K{printable(text, max(_width(self.stream) - 1, 4))}")
        self.stream.flush()


def _width(stream: TextIO) -> int:
    """Columns of the terminal that is written to: stdout may be another, or a file."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _UNKNOWN_WIDTH
    except (OSError, ValueError):
        return _UNKNOWN_WIDTH
