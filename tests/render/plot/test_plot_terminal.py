"""Charts drawn with characters."""

import itertools
import re

import pytest
from rich.cells import cell_len

import cnnscope
from cnnscope.render.plot.chart import Axis, Band, Chart, Level, Panel, Series
from cnnscope.render.plot.terminal import draw

SLOPE = Panel(
    Axis("layer", "whole", ends=(0.5, 6.5)),
    Axis("size", "whole", zero=True),
    (
        Series("grows", ((1, 1.0), (2, 4.0), (4, 9.0), (6, 16.0)), "line"),
        Series("stays", ((1, 2.0), (6, 2.0))),
    ),
    (Level(12, "input 12"),),
    (Band(0.5, 3.5, "features"), Band(3.5, 6.5, "head")),
)
BARS = Panel(
    Axis("", names=("a", "b", "c")),
    Axis("cost", "count", zero=True),
    (Series("", ((0, 1e6), (1, 0.0), (2, 4e6)), "bars"),),
)
AREAS = Panel(
    Axis("operation", "whole", ends=(0, 3)),
    Axis("bytes", "bytes", zero=True),
    (
        Series("weight", tuple((n, 1024.0) for n in range(4)), "area"),
        Series("saved", ((0, 0.0), (1, 512.0), (2, 1024.0), (3, 0.0)), "area"),
    ),
)
NAMES = Panel(
    Axis("MACs", "count", log=True),
    Axis("top-1", ends=(50, 90)),
    (
        Series("front", ((1e6, 60.0), (1e9, 80.0)), "steps", ("small", "large"), first=True),
        Series("others", ((1e8, 62.0),), labels=("worse",)),
    ),
)
CHARTS = {
    "slope": Chart("net", "input 12", (SLOPE,), (("note", "it grows"), ("!", "take care"))),
    "bars": Chart("net", "", (BARS, BARS), columns=2),
    "areas": Chart("net", "", (AREAS,)),
    "names": Chart("zoo", "", (NAMES,)),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_in_80_columns(name, golden):
    golden(draw(CHARTS[name], 80, 24).plain, f"plot-{name}-80.txt")


@pytest.mark.parametrize("name", CHARTS)
def test_without_more_than_ascii(name, golden):
    shown = draw(CHARTS[name], 60, 20, ascii_only=True).plain
    assert shown.isascii()
    golden(shown, f"plot-{name}-ascii.txt")


@pytest.mark.parametrize("width", [30, 41, 80, 100, 120, 200])
def test_no_line_is_wider_or_higher_than_the_terminal(width):
    reports = [cnnscope.rf("alexnet"), cnnscope.summary("alexnet"), cnnscope.memory("alexnet")]
    for one in (*CHARTS.values(), *(report.plot().chart for report in reports)):
        lines = draw(one, width, 24).plain.splitlines()
        assert max(map(cell_len, lines)) <= width
        assert not any(line != line.rstrip() for line in lines)


def test_series_are_told_apart_without_colours():
    shown = draw(CHARTS["areas"], 80, 24).plain
    assert "█ weight   ▒ saved" in shown
    assert shown.count("█") > 2
    assert shown.count("▒") > 2
    assert "● grows   ▲ stays" in draw(CHARTS["slope"], 80, 24).plain


def test_names_of_strangers_are_text():
    bad = "a\x1b[31m\n\x07名前$x_1$[bold]"
    panel = Panel(
        Axis(bad, names=(bad, bad)),
        Axis(bad),
        (Series(bad, ((0, 1.0), (1, 2.0)), labels=(bad, bad)),),
        (Level(1.5, bad),),
        (Band(-0.5, 1.5, bad),),
        bad,
    )
    shown = draw(Chart("net", "", (panel,)), 80, 24).plain
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "名前$x_1$[bold]" in shown
    assert max(map(cell_len, shown.splitlines())) <= 80


def test_whatever_is_not_nothing_can_be_seen():
    panel = Panel(Axis("x"), Axis("y", zero=True), (Series("", ((0, 1e9), (1, 1.0)), "bars"),))
    assert "▁" in draw(Chart("net", "", (panel,)), 80, 24).plain


def test_many_series_have_symbols_of_their_own_and_long_names_go_on_in_the_next_line():
    series = tuple(Series(f"number {n} {'of many ' * 12}", ((n, 1.0), (n, 2.0))) for n in range(20))
    panel = Panel(Axis("x"), Axis("y"), series)
    shown = draw(Chart("net", "", (panel, panel), columns=2), 110, 60).plain
    assert max(map(cell_len, shown.splitlines())) <= 110
    assert len(set(re.findall(r"(\S) number", shown))) == 20


def test_every_point_that_has_a_name_has_its_symbol_on_a_narrow_terminal():
    front = tuple((n, n * n) for n in range(12))
    panel = Panel(Axis("x"), Axis("y"), (Series("front", front, "steps", ("",) * 11 + ("b",)),))
    canvas = draw(Chart("net", "", (panel,)), 40, 40).plain.partition("└")[0]
    assert canvas.count("●") == 12
    assert draw(Chart("net", "", (panel,)), 40, 40).plain.count("●") == 13  # and in the legend


def test_names_do_not_stand_on_the_roofline():
    roof = Series("roof", ((0, 0.0), (10, 10.0)), "line", faint=True)
    dots = Series("layers", ((4, 4.2), (6, 5.8)), labels=("below", "above"))
    shown = draw(Chart("net", "", (Panel(Axis("x"), Axis("y"), (dots, roof)),)), 60, 24).plain
    bare = draw(Chart("net", "", (Panel(Axis("x"), Axis("y"), (roof,)),)), 60, 24).plain
    for name, line in itertools.product(("below", "above"), shown.splitlines()):
        if name in line:
            place, row = line.index(name), shown.splitlines().index(line)
            assert not bare.splitlines()[row][place : place + len(name)].strip()
