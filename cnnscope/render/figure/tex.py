r"""A scene as a standalone LaTeX file that draws with TikZ.

It compiles with pdflatex, xelatex and lualatex, needs no fonts but LaTeX's own, and can be
included with `\input` (package `standalone`) or as the PDF that it makes. Text that LaTeX's font
sets wider than it was measured is made as much smaller.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from cnnscope.render import escaping
from cnnscope.render.figure.fonts import SERIF
from cnnscope.render.figure.scene import Item, Point, Polyline, Scene, Text

_HEAD = r"""% {title}
% Made by cnnscope figure. Compile with pdflatex.
\documentclass[tikz,border=1pt]{{standalone}}
\usepackage{{fix-cm}}
\usepackage{{graphicx}}
{colours}\newsavebox\figurebox
% A text no wider than its first argument in points: {{width}}{{size}}{{text}}
\newcommand\fitted[3]{{%
  \sbox\figurebox{{\fontsize{{#2}}{{#2}}\selectfont #3}}%
  \ifdim\wd\figurebox>#1bp\resizebox{{#1bp}}{{\height}}{{\usebox\figurebox}}%
  \else\usebox\figurebox\fi}}
\begin{{document}}
{family}\begin{{tikzpicture}}[x=1bp,y=-1bp,line join=round,
  every node/.style={{inner sep=0pt,outer sep=0pt}}]
"""
_TAIL = "\\end{tikzpicture}\n\\end{document}\n"
_ANCHORS = {"start": "base west", "middle": "base", "end": "base east"}
_SIGNS = {
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{BULLET}": r"$\bullet$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{LATIN SMALL LETTER SHARP S}": r"\ss{}",
    '"': "''",
}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r ",
    "\u0327": "c ", "\u030c": "v ",
}  # fmt: skip


def tex(scene: Scene, title: str) -> str:
    """Draw a scene with TikZ.

    Args:
        scene: what is drawn.
        title: said in the first line.
    """
    return "".join(_parts(scene, title))


def _parts(scene: Scene, title: str) -> Iterator[str]:
    colours = dict.fromkeys(_colours(scene))
    names = {colour: f"figure{number}" for number, colour in enumerate(colours)}
    defined = "".join(
        f"\\definecolor{{{name}}}{{HTML}}{{{colour[1:].upper()}}}\n"
        for colour, name in names.items()
    )
    family = "" if scene.font.name == SERIF else "\\sffamily\n"
    shown = escaped(title)
    yield _HEAD.format(title=shown, colours=defined, family=family)
    yield f"\\path[use as bounding box] (0,0) rectangle ({scene.width:.2f},{scene.height:.2f});\n"
    for item in scene.items:
        yield _drawn(item, names, scene)
    yield _TAIL


def _colours(scene: Scene) -> Iterator[str]:
    for item in scene.items:
        if isinstance(item, Text):
            yield item.colour
            continue
        yield from filter(None, (item.line, "" if isinstance(item, Polyline) else item.fill))


def _drawn(item: Item, names: dict[str, str], scene: Scene) -> str:
    if isinstance(item, Text):
        return _text(item, names, scene)
    options = []
    if not isinstance(item, Polyline) and item.fill:
        options.append(f"fill={names[item.fill]}")
    if item.line:
        options += [f"draw={names[item.line]}", f"line width={_number(item.width)}bp"]
        options += ["dash pattern=on 2bp off 1.5bp"] if item.dash else []
    way = " -- ".join(map(_point, item.points))
    end = "" if isinstance(item, Polyline) else " -- cycle"
    return f"\\path[{','.join(options)}] {way}{end};\n"


def _point(point: Point) -> str:
    return f"({_number(point[0])},{_number(point[1])})"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: Text, names: dict[str, str], scene: Scene) -> str:
    wide = text.room or scene.font.width(text.text, text.size, bold=text.bold) * 1.04
    said = escaped(text.text)
    said = f"\\bfseries {said}" if text.bold else said
    options = [f"anchor={_ANCHORS[text.anchor]}", f"text={names[text.colour]}"]
    options += ["rotate=90"] if text.turned else []
    return (
        f"\\node[{','.join(options)}] at {_point((text.x, text.y))} "
        f"{{\\fitted{{{_number(wide)}}}{{{_number(text.size)}}}{{{said}}}}};\n"
    )


def escaped(text: str) -> str:
    """Text in which nothing is a command, with what LaTeX's own fonts can set."""
    return "".join(map(_letter, re.findall(r"(?s)->|.", escaping.one_line(text))))


def _letter(letter: str) -> str:
    if letter in _SIGNS:
        return _SIGNS[letter]
    if letter.isascii():
        return escaping.latex(letter)
    base, *marks = tuple(unicodedata.normalize("NFD", letter))
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    return f"U+{ord(letter):04X}"
