"""Escape text for Markdown, LaTeX, HTML and spreadsheets: names come from other people's files."""

from __future__ import annotations

import re

from cnnscope.text import harmless, visible

_MARKDOWN = r"[\\|*_<>`\[\]~$]|&(?=#?\w+;)"
_MARKDOWN_BLOCK = r"^(\s*)(?:([#+=-])|(\d{1,9})([.)]))"  # a heading, a list, a rule
_LATEX = {
    "\\": r"\textbackslash{}",
    "|": "$|$",
    "<": "$<$",
    ">": "$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "->": r"$\to$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_LATEX_ARGUMENT = r"^(\s*)([\[*])"  # of the end of the row before
_LATEX_PART = r"(?s)->|."
# What begins a formula: OWASP, "CSV Injection"; the wide forms are taken for the narrow ones.
_FORMULA = tuple("=+-@\n\uff1d\uff0b\uff0d\uff20")
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)"


def one_line(text: str) -> str:
    """Text on one line, with its control characters written out."""
    return visible(" ".join(text.splitlines()))


def markdown(text: str) -> str:
    """Text in a line or a cell of GitHub-flavoured Markdown in which nothing is markup."""
    return re.sub(_MARKDOWN, r"\\\g<0>", one_line(text))


def markdown_block(text: str) -> str:
    """Text that begins a line of Markdown, and neither a heading nor a list."""
    return re.sub(_MARKDOWN_BLOCK, r"\1\3\\\2\4", markdown(text))


def latex(text: str) -> str:
    """Text in which nothing is a command, and 3x3 has a times sign."""
    escaped = re.sub(_LATEX_PART, lambda part: _LATEX.get(part[0], part[0]), one_line(text))
    escaped = re.sub(_LATEX_ARGUMENT, r"\1{\2}", escaped)
    return re.sub(r"(?<=\d)x(?=\d)", r"$\\times$", escaped)


def html(text: str) -> str:
    """Text or the value of an attribute in which nothing is markup."""
    from html import escape  # with a table of 2,231 entities, for the one format

    return escape(one_line(text))


def spreadsheet(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula: text gets an apostrophe, numbers stay."""
    if not isinstance(cell, str):
        return cell
    shown = harmless(cell)  # a carriage return ends the row for some readers
    formula = shown.startswith(_FORMULA) and not re.fullmatch(_NUMBER, shown)
    return f"'{shown}" if formula else shown
