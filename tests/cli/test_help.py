"""`cnnscope help`: pages of the documentation in the terminal."""

import re

from command_line import run_cli
from pages import DOCS
from paths import ROOT

from cnnscope.cli import pages
from cnnscope.cli.commands import COMMANDS


def test_every_command_has_a_page_that_begins_with_its_name():
    for name in set(COMMANDS) - {"help"}:
        assert pages.text(name).startswith(f"# {name}: "), name
        assert f"cnnscope help {name}" in " ".join(run_cli(name, "--help").out.split())


def test_help_alone_lists_every_page_once():
    shown = run_cli("help").out
    listed = re.findall(r"^- `([\w-]+)`: \S.*$", shown, re.MULTILINE)
    stems = [page.rpartition("/")[2].removesuffix(".md") for page in DOCS]
    assert sorted([*listed, "index", "api"]) == sorted(stems)
    assert len(set(stems)) == len(stems)  # a topic is one page
    assert re.findall(r"^## (\w+)$", shown, re.MULTILINE) == ["Commands", "Subjects", "Tutorials"]


def test_a_page_in_a_pipe_is_its_markdown():
    page = (ROOT / "docs/rf.md").read_text(encoding="utf-8")
    for words in ("rf",), ("RF",), ("docs/rf.md",), ("receptive-field",):
        assert run_cli("help", *words) == (0, page, "")


def test_the_architecture_is_the_page_beside_the_code():
    shown = run_cli("help", "architecture").out
    code = (ROOT / "cnnscope/README.md").read_text(encoding="utf-8")
    assert code.partition("# The architecture\n")[2].strip() in shown
    assert "<!-- include" not in shown


def test_a_page_that_is_not_there_is_refused_with_what_may_be_meant():
    result = run_cli("help", "sumary")
    assert result.code == 2
    assert "no page 'sumary'; did you mean: cnnscope help summary? cnnscope help li" in result.err
    assert (
        "no page '../pyproject'; cnnscope help lists the pages"
        in run_cli("help", "../pyproject").err
    )


def test_help_takes_one_topic():
    result = run_cli("help", "cache", "info")
    assert result.code == 2
    assert "one topic at a time, as in cnnscope help cache" in result.err


def test_links_become_commands_on_a_terminal():
    text = "see [numbers](numbers.md#memory), ![a](b.svg)[an example](../examples/unet.py)\n"
    shown = "see numbers (`cnnscope help numbers`), an example\n"
    assert pages.for_terminal(text, 80) == shown
    assert pages.for_terminal("[1](https://example.org)", 80) == "[1](https://example.org)"
    code = "```\n[numbers](numbers.md)\n```\n"
    assert pages.for_terminal(code, 80) == code


def test_a_table_that_is_wider_than_the_terminal_is_cut_and_a_command_is_not():
    page = f"```console\n$ cnnscope {'x' * 90}\n{'y' * 78}\n{'z' * 79}\n```\n"
    shown = pages.for_terminal(page, 80)
    assert shown == page.replace("z" * 79, "z" * 77 + "…")


def test_a_package_without_pages_says_so(monkeypatch):
    monkeypatch.setattr(pages, "topics", dict)
    assert "are not installed; cnnscope --help lists" in run_cli("help", "rf").err
    assert "More, with examples" not in run_cli("rf", "--help").out
