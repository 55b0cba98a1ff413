"""Lengths of a figure: in points, or with a unit."""

from __future__ import annotations

import re

from cnnscope.errors import RequestError
from cnnscope.text import printable

# Points of a printer in each unit; a pixel is that of a style sheet, 1/96 inch.
_POINTS = {"": 1.0, "pt": 1.0, "bp": 1.0, "in": 72.0, "cm": 72 / 2.54, "mm": 72 / 25.4, "px": 0.75}
LEAST, MOST = 72.0, 7200.0


def points(length: float | str, option: str = "--max-width") -> float:
    """A length in points.

    Args:
        length: a number of points, or text such as "8.5cm", "3.25in", "640px".
        option: that it is given with.

    Raises:
        RequestError: it is no length, or too small or large for a figure.
    """
    found = re.fullmatch(r"\s*([\d.]{1,9})\s*([a-z]{0,2})\s*", str(length).lower())
    try:
        value = float(found[1]) * _POINTS[found[2]] if found else 0.0
    except (KeyError, ValueError):
        value = 0.0
    if not LEAST <= value <= MOST:
        raise RequestError(
            f"{option} {printable(str(length), 20)!r}: expected a length from 1in to 100in, "
            "as in 8.5cm, 3.25in, 486pt or 640px"
        )
    return value
