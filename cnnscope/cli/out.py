"""Write output to a terminal, a pipe or a file."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnscope.errors import RequestError
from cnnscope.files import MODELS, why, write_whole
from cnnscope.text import harmless, printable

_DESCRIPTOR = r"/dev/(?P<name>std(in|out|err))|/(dev|proc/self)/fd/(?P<number>\d{1,9})"
_LONGEST = 1000  # characters of a message
_READABLE = 120  # columns of prose and of the widest examples
_SIGNS, _BRAILLE = "·▌█…", "⣿●"  # if stdout can write these, all like them
_OF_MODELS = MODELS | {".py", ".ipynb"}
_NAME = "cnnscope"  # of the program, before what it says

if TYPE_CHECKING:
    from rich.text import Text

    from cnnscope.api import Report
    from cnnscope.api.plots import Plot


def write_report(report: Report[Any], format_: str, path: Path | None) -> None:
    """Write a report to a file or to stdout.

    Args:
        report: any answer to a command.
        format_: "table", "json", "csv", "markdown", "latex" or "html".
        path: of the file; None for stdout.
    """
    if format_ != "table" or path is not None:
        written = report.write(format_)
        if format_ == "html":
            from cnnscope.render.html import document

            written = document(written, report.page().name)
        write(written, path)
        return
    from cnnscope.render.page import text

    def render(width: int | None, height: int | None, plain: bool) -> Text:
        shown = report if height is None else report.fitted(height)
        return text(shown.page(), width, ascii_only=plain)

    _print(render)


def write_chart(plot: Plot, path: Path | None) -> None:
    """Draw a chart with characters, on stdout or into a file.

    Args:
        plot: the chart.
        path: of the file; None for stdout.
    """
    if path is not None:
        write(plot.text().plain, path)
        return

    def render(width: int | None, height: int | None, plain: bool) -> Text:
        drawn: Text = plot.text(width, height, ascii_only=plain)
        return drawn

    _print(render, _BRAILLE)


def use(record: object) -> None:
    """Write a stored record in every format; a damaged one raises."""
    from cnnscope.api import verdicts

    for report in verdicts.alone(record):
        for name in ("table", "markdown", "latex", "csv", "json", "html"):
            report.write(name)


def write(text: str, path: Path | None, option: str = "--output") -> None:
    """Write text to a file, or to stdout.

    Raises:
        RequestError: the file cannot be written.
    """
    if path is None:
        _to_stdout(text)
        return
    write_bytes(harmless(text).encode("utf-8", "backslashreplace"), path, option)


def check_writable(path: Path | None, option: str = "--output") -> None:
    """Check that a file can be written, before the work is done.

    Raises:
        RequestError: the file's folder is missing, or it is a folder itself, or may not be written,
            or it holds a model.
    """
    if path is None:
        return
    try:
        folder, parent = path.is_dir(), path.parent.is_dir()
        allowed = os.access(path if path.exists() else path.parent, os.W_OK)
        ending = path.resolve().suffix.lower() if path.exists() else ""
    except (OSError, ValueError) as error:  # a name that is too long, or has a null byte
        raise _unwritable(path, error, option) from error
    shown = printable(str(path))
    if folder:
        raise RequestError(f"{option} {shown}: is a folder; name a file")
    if ending in _OF_MODELS:
        raise RequestError(
            f"{option} {shown}: is a file of a model, and would be lost; name another"
        )
    if not parent:
        raise RequestError(
            f"{option} {shown}: there is no folder {printable(str(path.parent))}; make it first"
        )
    if not allowed:
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)), option)


def write_bytes(content: bytes, path: Path, option: str = "--output") -> None:
    """Write a file, whole or not at all.

    It is written beside its place and renamed into it, where that leaves everything else as it is
    (see `_replaceable`): a disk that is full, or an interruption, costs nothing that was there.

    Raises:
        RequestError: the file cannot be written.
    """
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
            return
        target = path.resolve()  # what a link points to; the link stays
        before = target.stat() if target.exists() else None
        if before is not None and not _replaceable(target, before):
            target.write_bytes(content)
        else:
            write_whole(target, content, None if before is None else stat.S_IMODE(before.st_mode))
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # RuntimeError: links that lead in a circle
        raise _unwritable(path, error, option) from error


def _descriptor(path: Path) -> int | None:
    """The open file that /dev/stdout, /dev/fd/3 or a link to one of them means.

    To open it by that name would begin at its start again, and to rename would replace it.
    """
    for _ in range(40):  # links, as many as Linux follows
        found = re.fullmatch(_DESCRIPTOR, str(path.absolute()))
        if found:
            name = found["name"] or found["number"]
            return int({"stdin": "0", "stdout": "1", "stderr": "2"}.get(name, name))
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _replaceable(path: Path, before: os.stat_result) -> bool:
    """Return True if a new file can replace the old one without a trace but its content.

    Not for devices, pipes, files with several names or of another user, or where no file can be
    made beside it.
    """
    return (
        stat.S_ISREG(before.st_mode)
        and before.st_nlink == 1
        and (not hasattr(os, "getuid") or before.st_uid == os.getuid())
        and os.access(path, os.W_OK)  # else opening it says what is wrong
        and os.access(path.parent, os.W_OK)
    )


def note(text: str, *, failed: bool = False) -> None:
    """A sentence on stderr, beside the report.

    Args:
        text: the sentence.
        failed: it says why there is no report; its first word is red where there are colours.
    """
    if sys.stderr is not None:
        line = _wrapped(_encodable(f"{_NAME}: {printable(text, _LONGEST)}", sys.stderr))
        if failed and _has_colours():
            line = line.replace(f"{_NAME}:", f"\x1b[1;31m{_NAME}:\x1b[0m", 1)
        with suppress(OSError, ValueError):  # stderr is closed
            sys.stderr.write(f"{line}\n")


def _has_colours() -> bool:
    """Return True if stderr is a terminal that shows colours, and they are not turned off."""
    return watched() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lines(code: Sequence[str]) -> None:
    """Lines of Python on stderr, below the sentence that says what to do with them."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # stderr is closed
            for line in code:
                sys.stderr.write(_encodable(f"    {printable(line, _LONGEST)}\n", sys.stderr))


def _wrapped(line: str) -> str:
    """A sentence in lines that fit the terminal, if stderr is one; a longer word stays whole."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns if watched() else 0
    except (OSError, ValueError):  # it has no size
        width = 0
    if not 0 < width < len(line):
        return line
    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def watched() -> bool:
    """Return True if stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def _print(render: Callable[[int | None, int | None, bool], Text], drawn: str = "") -> None:
    """Text on stdout: as wide and high as the terminal, or as wide as it needs to be.

    Args:
        render: draws it for a number of columns and lines, and with ASCII alone or not.
        drawn: characters that it needs beside the usual ones.
    """
    from rich.console import Console

    if sys.stdout is None:
        return
    console = Console(highlight=False, soft_wrap=True)
    width, height = console.size if console.is_terminal else (None, None)
    text = render(width, height, not can_encode(_SIGNS + drawn))
    if console.is_terminal and harmless(text.plain) == text.plain:
        console.print(text, end="")
    else:
        _to_stdout(text.plain)


def size() -> tuple[int, int]:
    """Columns and lines of the terminal; asked for many times a second, so not of Rich."""
    from shutil import get_terminal_size

    return get_terminal_size()


def screen(page: Any, below: Sequence[tuple[str, str]], size: tuple[int, int]) -> None:
    """Draw a page and sentences below it on an empty screen, in one write.

    Args:
        page: of a report, whose end is left out where both do not fit; None for none.
        below: titled sentences.
        size: columns and lines of the terminal.
    """
    from rich.console import Console

    from cnnscope.render.page import Page, text

    plain = not can_encode(_SIGNS)
    width, height = size
    console = Console(highlight=False, soft_wrap=True)
    parts = []
    for one in (page, Page("", "", (), tuple(below))):
        with console.capture() as captured:
            if one is not None:
                drawn = text(one, width, ascii_only=plain)
                console.print(
                    drawn if harmless(drawn.plain) == drawn.plain else drawn.plain, end=""
                )
        parts.append(captured.get().rstrip("\n").split("\n"))
    room = max(height - len(parts[1]) - 1, 0)  # the cursor has a line of its own
    sys.stdout.write("\x1b[H\x1b[2J" + "\n".join((*parts[0][:room], *parts[1])) + "\n")
    sys.stdout.flush()


def markdown(page: str, shown: str = "") -> None:
    """Markdown on stdout: laid out on a terminal, elsewhere as it is.

    Args:
        page: the text.
        shown: the text for a terminal, where it is another one.
    """
    if sys.stdout is None:
        return
    if not sys.stdout.isatty():
        _to_stdout(page)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    width = min(console.width, _READABLE)
    laid_out = Markdown(shown or page, code_theme="ansi_dark", hyperlinks=False)
    with console.capture() as captured:
        console.print(laid_out, width=width)
    sys.stdout.write(_encodable(captured.get(), sys.stdout))


def can_encode(text: str) -> bool:
    """Return True if stdout has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _to_stdout(text: str) -> None:
    if sys.stdout is not None:  # it is None where it was closed before we were started
        sys.stdout.write(_encodable(harmless(text), sys.stdout))


def _encodable(text: str, stream: Any) -> str:
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding, "replace")


def _unwritable(path: Path, error: Exception, option: str = "--output") -> RequestError:
    return RequestError(
        f"{option} {printable(str(path))}: cannot be written ({why(error)}); name another file"
    )
