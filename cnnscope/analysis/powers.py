"""How a quantity grows: as a power, y = c * x^p, or along y = a + b * x^n."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

_FEWEST = 3  # points: both laws go through any two
_EXPONENTS = (1, 2, 3)  # of a length, an area, a volume
_EXACT = 1e-6  # of what y varies, that a line may miss: rounding, as costs are whole numbers


class Power(NamedTuple):
    """A fitted power, the largest |y / fitted - 1|, and powers between neighbours.

    These are the one between the two smallest x, between the two largest, the lowest and highest.
    """

    power: float
    deviation: float
    first: float
    last: float
    lowest: float
    highest: float


class Line(NamedTuple):
    """A line through all points over x^exponent, and the largest |y / fitted - 1|."""

    offset: float
    slope: float
    deviation: float
    exponent: int


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
    between = [
        (v1 - v0) / (u1 - u0) for (u0, u1), (v0, v1) in zip(pairwise(us), pairwise(vs), strict=True)
    ]
    deviation = max(abs(exp(one) - 1) for one in away)
    return Power(slope, deviation, between[0], between[-1], min(between), max(between))


def line(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """The line over x, x^2 or x^3 that all points lie on.

    Args:
        xs: increasing.
        ys: the same number.

    Returns:
        None for fewer than three points, and where one of them does not lie on such a line, or
        none is above 0.
    """
    if len(xs) < _FEWEST:
        return None
    for exponent in _EXPONENTS:
        us = [x**exponent for x in xs]
        offset, slope = _straight(us, ys)
        fitted = [offset + slope * u for u in us]
        misses = max(abs(y - f) for y, f in zip(ys, fitted, strict=True))
        if min(fitted) > 0 and misses <= _EXACT * (max(ys) - min(ys)):
            deviation = max(abs(y / f - 1) for y, f in zip(ys, fitted, strict=True))
            return Line(offset, slope, deviation, exponent)
    return None


def _straight(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Offset and slope."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    return mean_y - slope * mean_x, slope
