"""How far long work has come: a bar or a line on stderr, at a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from cnnscope.cli.out import watched
from cnnscope.text import printable

if TYPE_CHECKING:
    from cnnscope.bench.loop import Progress

_PATIENCE = 0.5  # seconds before there is anything to show


@contextmanager
def progress(title: str, total: int, *, at_once: bool = False) -> Iterator[Callable[[str], None]]:
    """Call what is yielded with the name of each step that is done.

    Nothing is shown (nor imported) for work that is done at once, and where nobody looks. Where the
    first step takes long, the bar may be there `at_once`.
    """
    began = time.monotonic()
    shown: list[Callable[[str], None]] = []
    stop: list[Callable[[], None]] = []
    done = 0

    def show() -> None:
        if not shown and watched():
            update, end = _bar(title, total, done)
            shown.append(update)
            stop.append(end)

    def step(name: str) -> None:
        nonlocal done
        if time.monotonic() - began > _PATIENCE:
            show()
        done += 1
        for update in shown:
            update(name)

    try:
        if at_once:
            show()
        yield step
    finally:
        for end in stop:
            end()


def _bar(title: str, total: int, done: int) -> tuple[Callable[[str], None], Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[name]}"),
        console=Console(file=sys.stderr),
        transient=True,
    )
    task = bar.add_task(title, total=total, completed=done, name="")
    bar.start()
    return lambda name: bar.update(task, advance=1, name=name), bar.stop


class Line:
    """How a measurement stands: a line on stderr, overwritten and removed; at a terminal only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.next = clock, 0.0
        self.shown = watched()
        self.stream = sys.stderr  # as it is now: while a model runs its prints go aside

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def show(self, progress: Progress) -> None:
        """Write where things stand, ten times a second at most."""
        now = self.clock()
        measuring = progress.seconds_left >= 0
        if not self.shown or (measuring and now < self.next):
            return
        self.next = now + 0.1
        text = progress.what
        if measuring:
            text += f": {progress.samples:,} samples, {progress.seconds_left:.0f} s left"
        self.stream.write(f"\r\x1b[K{printable(text, _width() - 1)}")
        self.stream.flush()


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
