"""Pictures of the documentation, which the program itself makes.

`python tests/support/pictures.py` makes them anew, that of the page where Playwright is installed
and a Chromium is. Tests hold them against the program (`tests/test_docs.py`, of figures
`tests/render/test_figure.py`, of the page `tests/render/test_page_browser.py`).
"""

from __future__ import annotations

import csv
import html
import importlib.util
import io
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from command_line import run_cli, without_versions
from paths import DATA, ROOT

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = ROOT / "docs/pictures"
ZOO = DATA / "zoo.csv"  # what ZOO_COMMAND writes; the picture of it takes no trace
ZOO_COMMAND = "list --task classification --format csv"
PAGE_SIZE = (1440, 1000)
SHOWN = "cnnscope resnet18 224"  # on the picture of the terminal
DRAWN = {
    "field.png": "rf resnet18 layer2.0 --unit 3,14",
    "effective.png": "rf resnet18 layer3.0 --effective",
    "lenet5.svg": "figure classic:lenet5 --style lenet",
}
_WIDTH, _HEIGHT = 92, 36
# As rich's, without its fonts, which it would take from elsewhere.
_FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<title>cnnscope in a terminal</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono",
  monospace; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def terminal() -> str:
    """A terminal in which the program has been run, as SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=_WIDTH, file=io.StringIO(), highlight=False)
    console.print(Text(f"$ {SHOWN}", style="bold"))
    console.print(Text.from_ansi(without_versions(_printed()).replace(" X.Y.Z", "")))
    svg = console.export_svg(title=" ", code_format=_FORMAT, unique_id="terminal")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _printed() -> str:
    """What the program prints on a terminal with colours."""
    size = {"COLUMNS": str(_WIDTH), "LINES": str(_HEIGHT)}
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with mock.patch.dict(os.environ, size | colours):
        os.environ.pop("NO_COLOR", None)
        return run_cli(*shlex.split(SHOWN)[1:]).out


def zoo() -> str:
    """The chart of accuracy against MACs of the models in `ZOO`, as SVG."""
    from cnnscope.api import plots
    from cnnscope.records.catalogue import About, Card, Listed, ListReport

    models = []
    with ZOO.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            about = About(row["family"], row["task"], float(row["top1"]) if row["top1"] else None)
            costs = (int(row[one]) for one in ("params", "macs", "element_ops"))
            card = Card(row["name"], row["source"], about, (), *costs, 0, None, 0)
            models.append(Listed(row["source"], row["name"], card))
    return plots.of(ListReport(tuple(models), ""), "macs:acc").draw("svg").decode()


def page(browser: Any, file: Path) -> bytes:
    """A page of `cnnscope report` with a layer chosen, as PNG.

    Args:
        browser: of Playwright.
        file: the page of resnet18.
    """
    from browser import Opened

    opened = Opened(browser, file, size=PAGE_SIZE)
    box = opened.page.locator("#graph [role=treeitem][aria-label^='conv2, Conv2d']").first
    box.click()
    opened.page.evaluate("window.scrollTo(0, 0)")
    opened.page.mouse.move(2, 2)
    opened.page.wait_for_timeout(300)
    shown: bytes = opened.page.screenshot()
    opened.close()
    return shown


def apart(one: Image, other: Image) -> float:
    """How far apart two pictures of one size are, whatever fonts they are drawn in.

    The mean difference of grey values, of 255, between pictures of 1/16 of the size.
    """
    from PIL import ImageChops, ImageStat

    assert one.size == other.size
    small = [each.convert("L").reduce(16) for each in (one, other)]
    return ImageStat.Stat(ImageChops.difference(*small)).mean[0]


def words(svg: str) -> list[str]:
    """What a picture of a terminal says, without places and colours."""
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    return html.unescape("".join(texts)).split()


def main() -> None:
    """Make every picture."""
    (FOLDER / "terminal.svg").write_text(terminal(), encoding="utf-8")
    for name, command in DRAWN.items():
        result = run_cli(*shlex.split(command), "--output", str(FOLDER / name))
        assert result.code == 0, result.err
    ZOO.write_text(run_cli(*shlex.split(ZOO_COMMAND)).out, encoding="utf-8", newline="")
    (FOLDER / "zoo.svg").write_text(zoo(), encoding="utf-8")
    if importlib.util.find_spec("playwright"):
        with tempfile.TemporaryDirectory() as folder:
            _draw_page(Path(folder) / "resnet18.html")


def _draw_page(file: Path) -> None:
    from browser import chromium

    result = run_cli("report", "resnet18", "--output", str(file))
    assert result.code == 0, result.err
    with chromium() as browser:
        (FOLDER / "report.png").write_bytes(page(browser, file))


if __name__ == "__main__":
    main()
