"""Ends and marks of axes."""

import pytest

from cnnscope.render.plot.chart import Axis, Level, Panel, Series
from cnnscope.render.plot.scales import extents, place, ticks

X, Y = Axis("x"), Axis("y")


def panel(points, x=X, y=Y, **more):
    return Panel(x, y, (Series("", tuple(points)),), **more)


def labels(axis, extent, most=5):
    return [label for _, label in ticks(axis, extent, most)]


@pytest.mark.parametrize(
    ("axis", "extent", "expected"),
    [
        (Axis("", "count"), (0, 2.4e9), ["0", "0.5 G", "1.0 G", "1.5 G", "2.0 G"]),
        (Axis("", "bytes"), (0, 5 * 2**20), ["0", "1 MiB", "2 MiB", "3 MiB", "4 MiB", "5 MiB"]),
        (Axis("", "time"), (1e6, 4.1e6), ["1 ms", "2 ms", "3 ms", "4 ms"]),
        (Axis("", "whole"), (0.5, 3.5), ["1", "2", "3"]),
        (Axis("", "number"), (60, 80), ["60", "65", "70", "75", "80"]),
        (Axis("", "count", log=True), (1e6, 1e9), ["1 M", "10 M", "100 M", "1 G"]),
        (
            Axis("", "bytes", log=True),
            (2**10, 2**14),
            ["1 KiB", "2 KiB", "4 KiB", "8 KiB", "16 KiB"],
        ),
        (Axis("", log=True, at=(8, 16, 99)), (7, 20), ["8", "16"]),
        (Axis("", names=("a", "b")), (-0.5, 1.5), ["a", "b"]),
    ],
)
def test_marks_are_round_in_the_unit_of_the_axis(axis, extent, expected):
    assert labels(axis, extent) == expected


@pytest.mark.parametrize("unit", ["number", "count", "bytes", "time"])
@pytest.mark.parametrize("log", [False, True])
def test_marks_rise_lie_between_the_ends_and_have_texts_of_their_own(unit, log):
    for low in (1.0, 3.7, 950.0, 1e6, 7.7e11):
        for ratio in (1.001, 1.3, 9.0, 500.0, 1e6):
            for most in (2, 4, 7, 12):
                extent = low, low * ratio
                marks = ticks(Axis("", unit, log=log), extent, most)
                values = [value for value, _ in marks]
                assert values == sorted(values)
                assert all(low * (1 - 1e-6) <= v <= low * ratio * (1 + 1e-6) for v in values)
                # two at least, where round numbers are that near: of 1 to 9 by 5 there is one
                assert len({label for _, label in marks}) == len(marks) <= max(most + 1, 4)
                assert len(marks) > 1 or (
                    unit == "bytes" and low * (ratio - 1) < 2
                )  # bytes are whole


def test_ends_hold_every_point_and_every_line_to_compare_with():
    (left, right), (bottom, top) = extents(panel([(1, 5), (9, 7)], levels=(Level(20, ""),)))
    assert left < 1
    assert right > 9
    assert bottom < 5
    assert top > 20
    assert extents(panel([(1, 5)], y=Axis("", zero=True)))[1][0] == 0
    for axis in (Axis(""), Axis("", log=True)):
        low, high = extents(panel([(3, 3)], axis, axis))[0]
        assert low < 3 < high  # a single value


def test_distances_on_an_axis_of_ratios_are_ratios():
    axis = Axis("", log=True)
    assert place(axis, (1, 100), 10) == pytest.approx(0.5)
    assert place(Axis(""), (0, 100), 10) == pytest.approx(0.1)


def test_an_axis_has_two_marks_at_least():
    # a step of 223 k is rounded up to 500 k, which is beyond the end
    shown = [text for _, text in ticks(Axis("MACs", "count"), (0.0, 445_200.0), 2)]
    assert shown == ["0", "200 k", "400 k"]
    assert len(ticks(Axis("layers", "whole"), (0.5, 1.5), 2)) == 1  # there is no other whole number
