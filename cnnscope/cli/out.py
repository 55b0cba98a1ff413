"""Where output goes: a terminal, a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.records import FieldReport, ModelReport, UnitReport
    from cnnscope.render.columns import Column
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
        _show(report, options, columns)


def write_field(report: FieldReport | UnitReport, format_: str, path: Path | None) -> None:
    """Render a report of receptive fields and write it to a file or to stdout."""
    from cnnscope.render import field

    if format_ == "table":
        write(field.text(report, _width() if path is None else None), path)
    else:
        formats = {"json": field.to_json, "csv": field.to_csv, "markdown": field.markdown}
        write(formats[format_](report), path)


def _width() -> int | None:
    """Columns of the terminal; None for a pipe, which has no end."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else None


def write(text: str, path: Path | None) -> None:
    """Write text to a file, or to stdout.

    Raises:
        RequestError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(_encodable(text))
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def check_writable(path: Path | None) -> None:
    """Fail before the work and not after it.

    Raises:
        RequestError: the file's folder is missing, or it is a folder itself.
    """
    if path is None:
        return
    if path.is_dir():
        raise RequestError(f"--output {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise RequestError(f"--output {path}: there is no folder {path.parent}")


def _show(report: ModelReport, options: Options, columns: Sequence[Column]) -> None:
    """The table on stdout: as wide as the terminal, or as wide as it needs to be."""
    from rich.console import Console

    from cnnscope.render import terminal
    from cnnscope.render.view import view

    shown = view(report, options)
    plain = not _can_encode("·▌█…")
    console = Console(highlight=False, soft_wrap=True)
    width = console.width if console.is_terminal else None
    text = terminal.summary(report, shown, columns, width=width, ascii_only=plain)
    if console.is_terminal:
        console.print(text, end="")
    else:
        sys.stdout.write(_encodable(text.plain))


def _can_encode(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding, "replace")


def _unwritable(path: Path, error: OSError) -> RequestError:
    return RequestError(f"--output {path}: cannot be written ({error.strerror or error})")
