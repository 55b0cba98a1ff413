"""Pages of documentation, and the files that they name."""

import re

from paths import ROOT

DOCS = tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
SHOWN = ("README.md", *DOCS)  # pages whose examples are executed
PAGES = (*SHOWN, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "cnnscope/README.md")
NAMED = re.compile(r"(?<![\w/.])(?<!uses: )((?:tests|examples|cnnscope|\.ci)/[\w./-]*\w)")


def text_of(page: str) -> str:
    """The text of a page, which is named from the root of the project."""
    return (ROOT / page).read_text(encoding="utf-8")
