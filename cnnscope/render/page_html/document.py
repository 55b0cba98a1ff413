"""One HTML file around a block of JSON: nothing in it asks for anything from anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from cnnscope.records.page import PageContents
from cnnscope.render.escaping import html
from cnnscope.render.page_html.block import block

# Characters that could end the element, or begin a comment in it; and two that end a line.
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def document(contents: PageContents) -> str:
    """The whole file.

    Args:
        contents: of one model, or of two that are compared.
    """
    script, style = _asset("page.js"), _asset("page.css")
    title = " and ".join(model.summary.source.name for model in contents.models)
    data = block(contents).decode().translate(_ESCAPED)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, style)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="generator" content="cnnscope">\n'
        f"<title>{html(title)} · cnnscope</title>\n<style>{style}</style></head>\n"
        '<body><div id="page"><noscript>This page draws itself with JavaScript, which is turned '
        "off here.</noscript></div>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _policy(script: str, style: str) -> str:
    """A policy that permits this script, this style, and pictures of the page's own."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def frame(page: str, height: int) -> str:
    """A page in a frame of a notebook, whose own content it cannot reach.

    Args:
        page: the whole file.
        height: of the frame, in CSS pixels.
    """
    from html import escape

    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{escape(page)}" title="cnnscope" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )
