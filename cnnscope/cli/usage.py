"""Draw `--help`: options and commands in groups, as panels on a terminal, elsewhere as plain text.

It needs of an argument or option what every typer has: names, metavar, help, default and panel.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cnnscope.cli import out

_JOINED = "\xa0"  # a space that is no place to break a line
_WIDEST = 100  # columns; longer lines are hard to read
_NARROWEST = 40
_NAMES = 26  # columns for names, above which a description begins in the next line
# Of commands, and of arguments and options, in the order in which they stand.
GROUPS = (
    "Inspect a network", "Compare networks", "Measure", "Manage", "Commands",
    "Arguments", "Model", "Which models", "Figure", "Stacks", "Rows and columns", "Limits",
    "Training", "Measurement", "Output", "Program",
)  # fmt: skip


class Row(NamedTuple):
    """A command, argument or option: its name, its value, and what it does."""

    name: str
    value: str
    help: str


Groups = dict[str, list[Row]]


def drawn(usage: str, text: str, groups: Groups) -> str:
    """The whole help, with colours and boxes if stdout is a terminal that has them.

    Args:
        usage: of the command, in one line.
        text: paragraphs about the command, the first of which is its title.
        groups: rows by the title of their group.
    """
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = max(min(shutil.get_terminal_size((80, 24)).columns, _WIDEST), _NARROWEST)
    lines = [("Usage: ", "bold"), (f"{usage}\n\n", "")]
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        joined = " ".join(paragraph.split())
        style = "green" if joined.startswith("Example:") else ""
        lines.append((textwrap.indent(_filled(joined, width - 2), "  ") + "\n\n", style))
    boxed = terminal and out.can_encode("╭─╮│╰╯")
    draw = _panel if boxed else _section
    for title in sorted(groups, key=GROUPS.index):
        option = _is_option(groups[title][0])
        alike = [one for rows in groups.values() for one in rows if _is_option(one) == option]
        lines += draw(title, groups[title], width, min(max(map(len, map(_left, alike))), _NAMES))
    return _coloured(lines).rstrip("\n") if boxed else "".join(part for part, _ in lines).rstrip()


def row(param: Any) -> Row:
    """An argument or option of typer as a row."""
    value = "" if param.param_type_name == "argument" or param.is_flag else f" {param.metavar}"
    names = param.opts if param.param_type_name == "option" else [param.metavar or param.name]
    names = [*sorted(names, key=len), *param.secondary_opts]
    return Row(", ".join(names), value, _described(param))


def _described(param: Any) -> str:
    """What a parameter does, and the value that it has if it is left out."""
    text = " ".join((param.help or "").split())
    default = getattr(param.default, "value", param.default)
    flag = getattr(param, "is_flag", False)
    if flag or not param.show_default or default in (None, "") or callable(default):
        return text
    return f"{text}  [default: {default}]"


def _is_option(one: Row) -> bool:
    return one.name.startswith("-")


def _left(one: Row) -> str:
    return one.name + one.value


def _filled(text: str, width: int) -> str:
    """Text in lines; an option and the value of an example stay together."""
    whole = re.sub(r"(?<=as in )(--\S+) ", f"\\1{_JOINED}", text)
    lines = textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False)
    return lines.replace(_JOINED, " ")


def _panel(title: str, rows: Sequence[Row], width: int, names: int) -> Iterable[tuple[str, str]]:
    """Rows in a box."""
    yield "╭─ ", "dim"
    yield title, "bold"
    yield f" {'─' * (width - len(title) - 5)}╮\n", "dim"
    for one in rows:
        for parts in _lines(one, width - 4, names):
            used = sum(len(part) for part, _ in parts)
            yield "│ ", "dim"
            yield from parts
            yield " " * (width - 4 - used), ""
            yield " │\n", "dim"
    yield f"╰{'─' * (width - 2)}╯\n", "dim"


def _section(title: str, rows: Sequence[Row], width: int, names: int) -> Iterable[tuple[str, str]]:
    """Rows under a title."""
    yield f"{title}:\n", "bold"
    for one in rows:
        for parts in _lines(one, width - 2, names):
            yield f"  {''.join(part for part, _ in parts)}\n", ""
    yield "\n", ""


def _lines(one: Row, width: int, names: int) -> Iterable[list[tuple[str, str]]]:
    """A row in lines: its names, and beside them what it does."""
    left = [(one.name, "bold cyan"), (one.value, "yellow")]
    used = len(_left(one))
    indent = names + 2
    described = _filled(one.help, width - indent).split("\n")
    if used > names:
        yield left
        left, used = [], 0
    for line in described:
        yield [*left, (" " * (indent - used), ""), (line, "")]
        left, used = [], 0


def _coloured(parts: Iterable[tuple[str, str]]) -> str:
    """Text with the escapes of the colours that the terminal has."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    text = Text(no_wrap=True, overflow="ignore")
    for part, style in parts:
        text.append(part, style)
    with console.capture() as captured:
        console.print(text, end="")
    return captured.get()
