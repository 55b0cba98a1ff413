"""The site that MkDocs makes of `docs/` (`pip install '.[docs]'`): strict, and on its own."""

import re

import pytest
import yaml
from pages import DOCS, text_of
from paths import ROOT

import cnnscope

pytestmark = pytest.mark.broad

REQUESTED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site; a warning is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def test_the_site_is_built_of_every_page(site):
    for page in DOCS:
        name = page.removeprefix("docs/").removesuffix(".md")
        assert (site / ("" if name == "index" else name) / "index.html").is_file(), page
    assert "The trace" in (site / "architecture/index.html").read_text(encoding="utf-8")


def test_the_site_requests_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        assert not REQUESTED.search(path.read_text(encoding="utf-8")), path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text()), path
    assert REQUESTED.search('<script async src="https://example.org/a.js">')


def test_links_to_files_beside_docs_go_to_the_repository(site):
    text = (site / "your-model/index.html").read_text(encoding="utf-8")
    assert 'href="https://github.com/cnnscope/cnnscope/blob/main/examples/unet.py"' in text


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: cnnscope\.(?!api\b)(\w+)$", text_of("docs/api.md"), re.MULTILINE)
    assert sorted(["__version__", *named]) == sorted(cnnscope.__all__)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_dump(yaml.safe_load(text)["nav"])
    listed = re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(page.removeprefix("docs/") for page in DOCS)
