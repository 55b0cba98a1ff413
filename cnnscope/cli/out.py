"""Where output goes: a terminal, a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cnnscope.errors import RequestError
from cnnscope.text import harmless, printable

_LONGEST = 1000  # characters of a message

if TYPE_CHECKING:
    from rich.text import Text

    from cnnscope.records import ModelReport
    from cnnscope.render.columns import Column
    from cnnscope.render.page import Page
    from cnnscope.render.view import Options


def write_summary(
    report: ModelReport,
    options: Options,
    columns: Sequence[Column],
    format_: str,
    path: Path | None,
) -> None:
    """Render a report and write it to a file or to stdout."""
    from cnnscope.render import data, markdown, terminal
    from cnnscope.render.view import view

    if format_ == "json":
        write(data.to_json(report), path)
    elif format_ == "csv":
        write(data.to_csv(report), path)
    elif format_ == "markdown":
        write(markdown.summary(report, view(report, options), columns), path)
    elif path is not None:
        write(terminal.summary(report, view(report, options), columns).plain, path)
    else:
        shown = view(report, options)
        _print(
            lambda width, plain: terminal.summary(
                report, shown, columns, width=width, ascii_only=plain
            )
        )


class Renderer(Protocol):
    """A module of `render/` that lays a report out as a page, and writes its raw numbers."""

    def page(self, report: Any, /) -> Page:
        """What a person reads, as text or Markdown."""
        ...

    def to_csv(self, report: Any, /) -> str:
        """Raw numbers, one line per row."""
        ...

    def to_json(self, report: Any, /) -> str:
        """The whole report."""
        ...


def write_report(report: Any, renderer: Renderer, format_: str, path: Path | None) -> None:
    """Render a report and write it to a file or to stdout."""
    from cnnscope.render import page

    if format_ == "json":
        write(renderer.to_json(report), path)
    elif format_ == "csv":
        write(renderer.to_csv(report), path)
    elif format_ == "markdown":
        write(page.markdown(renderer.page(report)), path)
    elif path is not None:
        write(page.text(renderer.page(report)).plain, path)
    else:
        laid_out = renderer.page(report)
        _print(lambda width, plain: page.text(laid_out, width, ascii_only=plain))


def write(text: str, path: Path | None, option: str = "--output") -> None:
    """Write text to a file, or to stdout.

    Raises:
        RequestError: the file cannot be written.
    """
    if path is None:
        _to_stdout(text)
        return
    try:
        path.write_text(harmless(text), encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, option) from error


def check_writable(path: Path | None, option: str = "--output") -> None:
    """Fail before the work and not after it.

    Raises:
        RequestError: the file's folder is missing, or it is a folder itself.
    """
    if path is None:
        return
    try:
        folder, parent = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # a name that is too long
        raise _unwritable(path, error, option) from error
    shown = printable(str(path))
    if folder:
        raise RequestError(f"{option} {shown}: is a folder; name a file")
    if not parent:
        raise RequestError(f"{option} {shown}: there is no folder {printable(str(path.parent))}")


def write_bytes(content: bytes, path: Path) -> None:
    """Write a picture to a file.

    Raises:
        RequestError: the file cannot be written.
    """
    try:
        path.write_bytes(content)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, "--output") from error


def note(text: str) -> None:
    """A sentence on stderr, beside the report."""
    if sys.stderr is not None:
        line = _encodable(printable(text, _LONGEST), sys.stderr)
        with suppress(OSError, ValueError):  # nobody listens
            sys.stderr.write(f"cnnscope: {line}\n")


def watched() -> bool:
    """Whether a person sees what is written on stderr while it is written."""
    return sys.stderr is not None and sys.stderr.isatty()


def _print(render: Callable[[int | None, bool], Text]) -> None:
    """Text on stdout: as wide as the terminal, or as wide as it needs to be."""
    from rich.console import Console

    if sys.stdout is None:
        return
    console = Console(highlight=False, soft_wrap=True)
    text = render(console.width if console.is_terminal else None, not _can_encode("·▌█…"))
    if console.is_terminal and harmless(text.plain) == text.plain:
        console.print(text, end="")
    else:
        _to_stdout(text.plain)


def _can_encode(text: str) -> bool:
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
    reason = getattr(error, "strerror", None) or error
    return RequestError(f"{option} {printable(str(path))}: cannot be written ({reason})")
