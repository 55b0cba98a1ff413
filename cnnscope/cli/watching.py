"""`cnnscope summary net.py --watch`: the table of a file, drawn again whenever it is saved."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.cli import out
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api.reports import Report, View
    from cnnscope.api.watching import Seen, Stamp
    from cnnscope.render.page import Page, Table

_POLL = 0.05  # seconds between two looks at the files
_FILES = 4  # that are named below the table
_LINES = 4  # of the screen, for what stands below the table
_CHANGES = 4  # that are named above it
_MARK = "~"
_DERIVED = frozenset(("share", "field"))  # columns in which one layer changes all the others


class _Shown(NamedTuple):
    """What is on the screen: the last reading that came to its end, and the last of all."""

    good: Seen | None = None
    last: Seen | None = None
    said: tuple[tuple[str, str], ...] = ()
    before: Page | None = None  # of the reading before the last good one
    since: str = ""  # when the good one was read
    took: float = 0.0


def check_terminal() -> None:
    """Refuse to redraw where stdout is no terminal.

    Raises:
        RequestError: stdout is no terminal.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        raise RequestError("--watch needs a terminal; leave it out to write the summary once")


def follow(request: Any, view: View, cache: Any) -> None:
    """Draw the summary of a file, and again when it or a neighbour is saved, until Ctrl-C.

    Args:
        request: of the model, a file.
        view: which rows and columns are shown.
        cache: as for `api.summary`.

    Raises:
        RequestError: the model cannot be followed.
        KeyboardInterrupt: it is enough.
    """
    from cnnscope.api import watching

    watching.check(request)
    with _no_bytecode():
        shown, files = _Shown(), {str(Path(request.model.place).expanduser().resolve())}
        size: tuple[int, int] | None = None
        known: dict[str, Stamp] = {}
        while True:
            found = watching.stamps(files)
            if found != known:
                known = _settled(found)
                shown = _read(request, view, cache, shown)
                files |= shown.last.files if shown.last else set()
                known = {**watching.stamps(files), **known}
                size = _draw(shown, view, files)
            elif size != out.size():
                size = _draw(shown, view, files)
            time.sleep(_POLL)


def _settled(found: dict[str, Stamp]) -> dict[str, Stamp]:
    """Wait until no file is being written any more: an editor may empty it first."""
    from cnnscope.api import watching

    while True:
        time.sleep(_POLL)
        again = watching.stamps(found)
        if again == found:
            return again
        found = again


def _read(request: Any, view: View, cache: Any, shown: _Shown) -> _Shown:
    """Read the file anew; what was good stays where it cannot be read."""
    from cnnscope.api import watching

    began = time.perf_counter()
    seen = watching.read(request, cache)
    took = time.perf_counter() - began
    if seen.trace is None:
        return shown._replace(last=seen, took=took)
    good = shown.good
    said = watching.changes(good.trace, seen.trace) if good and good.trace else []
    before = _page(good.report, view) if good and good.report else None
    now = time.strftime("%H:%M:%S")
    return _Shown(seen, seen, tuple(said[:_CHANGES]), before, now, took)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Compile neighbours anew: a second save in one second would look like the first to Python."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


# -------------------------------------------------------------------------------- the screen


def _draw(shown: _Shown, view: View, files: set[str]) -> tuple[int, int]:
    """Draw all of the screen; its size."""
    _, height = size = out.size()
    sentences = _below(shown, files)
    good = shown.good
    page = None
    if good is not None and good.report is not None:
        room = height - _LINES - len(shown.said) - len(sentences)
        page = _marked(_page(good.report.view(**view).fitted(room), view), shown)
    out.screen(page, sentences, size)
    return size


def _page(report: Report[Any], view: View) -> Page:
    page: Page = (report if report.shown else report.view(**view)).page()
    return page


def _below(shown: _Shown, files: set[str]) -> list[tuple[str, str]]:
    """What is wrong now, and what is watched."""
    lines = []
    if shown.last is not None and shown.last.error:
        lines.append(("!", shown.last.error))
        if shown.since:
            lines.append(("", f"the table is that of {shown.since}, the last that could be made"))
    names = sorted({Path(name).name for name in files})
    more = f" and {len(names) - _FILES} more" if len(names) > _FILES else ""
    lines.append(
        ("watching", f"{', '.join(names[:_FILES])}{more} · {shown.took:.2f} s · Ctrl-C ends")
    )
    return lines


def _marked(page: Page, shown: _Shown) -> Page:
    """The page with what changed above its table, and a mark before rows that are others."""
    above = (*page.above, *shown.said)
    if shown.before is None or not shown.said:
        return page._replace(above=above)
    pairs = zip(page.tables, shown.before.tables, strict=False)
    tables = [_with_marks(table, before) for table, before in pairs]
    return page._replace(above=above, tables=(*tables, *page.tables[len(tables) :]))


def _changed(table: Table, before: Table) -> list[bool]:
    """Which rows of a table are not in another one, whatever part of the whole they are."""
    first, second = (
        [
            tuple(
                cell
                for cell, heading in zip(row, one.headings, strict=True)
                if heading.title not in _DERIVED and not heading.bar
            )
            for row in one.rows
        ]
        for one in (before, table)
    )
    found = [True] * len(second)
    for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
        found[block.b : block.b + block.size] = [False] * block.size
    return found


def _with_marks(table: Table, before: Table) -> Table:
    from cnnscope.render.page import DIFFERENT, Heading

    changed = _changed(table, before)
    styles = list(table.styles) or [""] * len(table.rows)
    return table._replace(
        headings=(Heading("", left=True), *table.headings),
        rows=tuple(
            (_MARK if new else "", *row) for new, row in zip(changed, table.rows, strict=True)
        ),
        styles=tuple(
            DIFFERENT if new else (style if isinstance(style, str) else ("", *style))
            for new, style in zip(changed, styles, strict=True)
        ),
        yields=tuple((column + 1, width) for column, width in table.yields),
        repeat=table.repeat + 1 if table.repeat else 0,
    )
