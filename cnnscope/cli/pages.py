"""Pages of the documentation: they ship inside the package, and stand beside it in a checkout."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "docs", _PACKAGE.parent / "docs")  # of a wheel, of a checkout
_ELSEWHERE = ("index", "api")  # the front of the site, and what is made of docstrings for it
_INCLUDED = re.compile(r"^<!-- include cnnscope/README\.md -->$", re.MULTILINE)
_CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]*)\)")


@cache
def topics() -> dict[str, Path]:
    """Pages by the name that `cnnscope help` knows them by; none where none were installed."""
    folder = next((one for one in _PLACES if (one / "get-started.md").is_file()), None)
    found = sorted(folder.rglob("*.md")) if folder else []
    return {path.stem: path for path in found if path.stem not in _ELSEWHERE}


def title(topic: str) -> str:
    """The first heading of a page, without the name of its command."""
    with topics()[topic].open(encoding="utf-8") as file:
        return file.readline().strip().removeprefix("# ").removeprefix(f"{topic}: ")


def text(topic: str) -> str:
    """A page as Markdown, with what it includes."""
    return with_included(topics()[topic].read_text(encoding="utf-8"))


def with_included(page: str) -> str:
    """A page with the architecture, which stands beside the code, below its own title."""
    if not _INCLUDED.search(page):
        return page
    beside_the_code = (_PACKAGE / "README.md").read_text(encoding="utf-8")
    return _INCLUDED.sub(lambda _: beside_the_code.partition("\n\n")[2].strip(), page)


def for_terminal(markdown: str, width: int) -> str:
    """Replace links that a terminal cannot follow, and cut examples that are wider than it.

    A link to another page becomes the command that shows that page. What an example prints is a
    table: a line of it that went on in the next one could not be read.

    Args:
        markdown: the page.
        width: of the terminal, in columns.
    """
    parts = _CODE.split(markdown)
    return "".join(
        _cut(part, width) if n % 2 else _LINK.sub(_linked, part) for n, part in enumerate(parts)
    )


def _cut(code: str, width: int) -> str:
    """A block of code; of a console, what is printed is cut, and what is typed is not."""
    if not code.startswith("```console"):
        return code
    room = width - 2  # Rich's margins
    return "\n".join(
        line if line.startswith("$ ") or len(line) <= room else f"{line[: room - 1]}…"
        for line in code.split("\n")
    )


def _linked(link: re.Match[str]) -> str:
    picture, words, target = link.groups()
    page = Path(target.partition("#")[0])
    if picture:
        return ""
    if target.startswith("https:"):
        return link[0]
    known = page.suffix == ".md" and page.stem in topics()
    return f"{words} (`cnnscope help {page.stem}`)" if known else words
