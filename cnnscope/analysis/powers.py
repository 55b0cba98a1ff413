"""How a quantity grows: as a power, y = c * x^p, or along a line, y = a + b * x."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

_FEWEST = 3  # points: both laws go through any two


class Power(NamedTuple):
    """A fitted power, the largest |y / fitted - 1|, and the power at both ends."""

    power: float
    deviation: float
    first: float
    last: float


class Line(NamedTuple):
    """A fitted line, and the largest |y / fitted - 1|."""

    offset: float
    slope: float
    deviation: float


def power(xs: Sequence[float], ys: Sequence[float]) -> Power | None:
    """Least squares of log y over log x.

    Args:
        xs: increasing.
        ys: the same number.

    Returns:
        None for fewer than three points, or if one of them is not positive.
    """
    if len(xs) < _FEWEST or min(*xs, *ys) <= 0:
        return None
    us, vs = [log(x) for x in xs], [log(y) for y in ys]
    offset, slope = _straight(us, vs)
    away = [v - offset - slope * u for u, v in zip(us, vs, strict=True)]
    first, last = ((vs[i + 1] - vs[i]) / (us[i + 1] - us[i]) for i in (0, -2))
    return Power(slope, max(abs(exp(one) - 1) for one in away), first, last)


def line(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """Least squares of y over x.

    Args:
        xs: increasing.
        ys: the same number, positive.

    Returns:
        None for fewer than three points, or where the line is not positive at one of them.
    """
    if len(xs) < _FEWEST:
        return None
    offset, slope = _straight(xs, ys)
    fitted = [offset + slope * x for x in xs]
    if min(fitted) <= 0:
        return None
    return Line(offset, slope, max(abs(y / f - 1) for y, f in zip(ys, fitted, strict=True)))


def _straight(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Offset and slope."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    return mean_y - slope * mean_x, slope
