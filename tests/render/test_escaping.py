"""Other people's text in Markdown, LaTeX, HTML and CSV: shown as it is, and nothing else."""

import csv
import io
import re

import pytest
import torch
from command_line import run_cli

import cnnscope
from cnnscope.render import data, escaping, page
from cnnscope.render.page import Heading, Page, Table

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`code`",
    "~~gone~~",
    "[a](http://x)",
    "![a](http://x)",
    "**a** __b__",
    "&lt;",
    "$x^2$",
    "a\n\n# b",
    "a\\",
    "\u2028# b",
    "\x1b[31m",
]


def _unescaped(text):
    """Escaped punctuation as GitHub-flavoured Markdown shows it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_text_as_it_is(text):
    escaped = escaping.markdown(text)
    assert "\n" not in escaped
    assert _unescaped(escaped) == escaping.one_line(text)
    bare = re.sub(r"\\.", "", escaped)  # what is not escaped
    assert not set("|<>`[]*_~$\\") & set(bare)


@pytest.mark.parametrize("text", ["# a", "- a", "+ a", "1. a", "12) a", "=== ", "  # a"])
def test_a_line_of_markdown_is_neither_heading_nor_list(text):
    escaped = escaping.markdown_block(text)
    assert _unescaped(escaped) == text
    assert "\\" in escaped


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_as_many_lines_and_cells_as_without(text):
    def made(value):
        headings = (Heading(value), Heading("b"))
        table = Table(headings, ((value.replace("\n", " "), "1"),), caption=value)
        return Page(value, value, (table,), ((value, value), ("!", value)), (("", value),))

    plain, hostile = (page.markdown(made(v)).splitlines() for v in ("x", text))
    assert len(plain) == len(hostile)
    for one, other in zip(plain, hostile, strict=True):
        assert one.count(" | ") == other.count(" | ")
    assert not [line for line in hostile[1:] if line.startswith("#")]


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b & 50 %", r"a\_b \& 50 \%"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("3x3, 512 -> 10", r"3$\times$3, 512 $\to$ 10"),
        ("[1em] a > b", r"{[}1em] a $>$ b"),
        ("*, [8, 16]", r"{*}, [8, 16]"),
        ("a\n\nb", "a  b"),
        ("\x1b", r"\textbackslash{}x1b"),
    ],
)
def test_latex_shows_text_as_it_is(text, tex):
    assert escaping.latex(text) == tex


@pytest.mark.parametrize(
    "text", ["=1+1", "@sum(a1)", "+cmd|' /C calc'!A0", "-2+3", "\n=1", "\uff1d1"]
)
def test_text_that_a_spreadsheet_would_compute_is_text(text):
    written = data.to_csv(["a", "b"], [({"a": "a", "b": text},)])
    _, row = csv.reader(io.StringIO(written, newline=""))
    assert row == ["a", f"'{text}"]


@pytest.mark.parametrize(
    ("text", "shown"), [("\tx", "\\tx"), ("\r=1", "\\r=1"), ("\x1b[", "\\x1b[")]
)
def test_control_characters_in_csv_are_written_out(text, shown):
    assert escaping.spreadsheet(text) == shown


@pytest.mark.parametrize("cell", [-1, -1.5, "-1", "+2.5", "-1e-05", "-inf", "", None, "a=b", "3x3"])
def test_numbers_and_other_text_stay_as_they_are(cell):
    assert escaping.spreadsheet(cell) == cell


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("=1+1|<b>~~x~~", nn.Conv2d(3, 4, 3))
        self.add_module("-2", nn.ReLU())

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x
"""


@pytest.mark.parametrize("command", ["summary", "rf", "stages", "explain", "diff"])
def test_names_of_layers_are_harmless_in_every_format(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "<i>.py").write_text(NET)
    arguments = [command, "<i>.py:Net", "-i", "3x8x8"]
    if command == "diff":
        arguments += ["<i>.py:Net", "--input-b", "3x9x9"]
    result = run_cli(*arguments, "-f", "markdown")
    assert result.code == 0, result.err
    assert not re.search(r"(?<!\\)<(?!br>|/?details>|/?summary>)", result.out)
    assert "~~" not in result.out
    result = run_cli(*arguments, "-f", "csv")
    assert result.code == 0, result.err
    for row in csv.reader(io.StringIO(result.out)):
        assert not [cell for cell in row if re.match(r"[=@+]|-(?!\d+(\.\d+)?$)", cell)]


def test_html_is_escaped():
    names = {}
    exec(NET, names)
    shown = cnnscope.summary(names["Net"](), torch.empty(1, 3, 8, 8))._repr_html_()
    assert "=1+1|&lt;b&gt;~~x~~" in shown
    assert "<b>~~" not in shown
