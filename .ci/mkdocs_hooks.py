"""What MkDocs does not know: pages that include a file, and links to files outside of docs."""

import re
from pathlib import Path
from posixpath import relpath
from typing import Any

from mkdocs.exceptions import PluginError

from cnnscope.cli import pages

_ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\(([^)\s:#]+)(#[^)\s]*)?\)")
_BESIDE_THE_CODE = "cnnscope/README.md"  # which docs/architecture.md includes


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files of the repository by their address, or by the page that has them.

    Raises:
        PluginError: there is no such file.
    """
    here = Path(page.file.src_uri).parent
    text = pages.with_included(markdown)
    included = text != markdown

    def linked(link: re.Match[str]) -> str:
        target = (_ROOT / "docs" / here / link[1]).resolve()
        if included and not target.exists():
            target = (_ROOT / "cnnscope" / link[1]).resolve()
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: there is no {link[1]}")
        if target.is_relative_to(_ROOT / "docs"):
            return link[0]
        name = str(target.relative_to(_ROOT))
        if name == _BESIDE_THE_CODE and not included:
            return f"]({relpath('architecture.md', here)}{link[2] or ''})"
        return f"]({config.extra['repository']}/blob/main/{name}{link[2] or ''})"

    return _LINK.sub(linked, text)
