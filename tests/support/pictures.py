"""Pictures of the documentation, which the program itself makes.

`python tests/support/pictures.py` makes them anew; CNNSCOPE_OVERWRITE=1 pytest tests/test_docs.py
makes that of the terminal, which a test holds against the program.
"""

from __future__ import annotations

import html
import io
import os
import re
import shlex
from unittest import mock

from command_line import run_cli, without_versions
from paths import ROOT

FOLDER = ROOT / "docs/pictures"
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


if __name__ == "__main__":
    main()
