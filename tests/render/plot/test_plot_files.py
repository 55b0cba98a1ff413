"""Charts drawn with matplotlib."""

import io
import itertools
import math
import re
import sys

import pytest
from PIL import Image

from cnnscope.api.plots import Plot
from cnnscope.errors import RequestError
from cnnscope.render.plot import files
from cnnscope.render.plot.chart import Axis, Band, Chart, Level, Panel, Series

BAD = "a$x_1$ $\\frac{ <b>&amp; \x1b[31m --> \ud800"
SHOWN = r"a$x_1$ $\frac{ &lt;b&gt;&amp;amp; \x1b[31m --&gt; \ud800"


def hostile():
    panel = Panel(
        Axis(BAD, names=(BAD, "$")),
        Axis(BAD),
        (Series(BAD, ((0, 1.0), (1, 2.0)), "line", labels=(BAD, "b")),),
        (Level(1.5, BAD),),
        (Band(-0.5, 1.5, BAD),),
        BAD,
    )
    return Chart(BAD, BAD, (panel,))


@pytest.mark.broad
def test_names_of_strangers_are_text_and_a_chart_is_always_the_same_file():
    import matplotlib as mpl

    loaded = "matplotlib.pyplot" in sys.modules  # by another test, if at all

    def settings():  # without the one that imports pyplot when it is read
        return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}

    size = mpl.rcParams["font.size"]
    mpl.rcParams["font.size"] = 31  # a setting of the user, which stays
    before = settings()
    try:
        drawn = Plot(hostile()).draw("svg")
        assert settings() == before
    finally:
        mpl.rcParams["font.size"] = size
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    assert drawn == Plot(hostile()).draw("svg")
    text = drawn.decode()
    assert SHOWN[:20] in text
    assert "<b>" not in text
    assert "\x1b" not in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)  # no date


def zoo(count=60):
    """Points in a crowd, as models are."""
    points = tuple((10 ** (6 + n % 17 / 5), 50 + n * 7 % 31) for n in range(count))
    names = tuple(f"model_{n}_with_a_name" for n in range(count))
    front = Series("front", points[:6], "steps", names[:6], first=True)
    panel = Panel(
        Axis("MACs", "count", log=True), Axis("top-1"),
        (front, Series("others", points[6:], labels=names[6:])),
    )  # fmt: skip
    return Chart("zoo", "", (panel,))


@pytest.mark.slow
def test_names_beside_points_do_not_overlap():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from cnnscope.render.plot import files

    with files._settings():
        figure = files._figure(zoo())
        renderer = FigureCanvasAgg(figure).get_renderer()
        axes = figure.axes[0]
        boxes = [one.get_window_extent(renderer) for one in axes.texts]
        inside = axes.get_window_extent(renderer)
    assert len(boxes) > 10
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 for b in boxes)


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["svg", "pdf", "png"])
def test_every_kind_of_series_is_drawn_in_every_format(format_):
    from test_plot_terminal import CHARTS

    begins = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[format_]
    for chart in CHARTS.values():
        drawn = Plot(chart).draw(format_)
        assert drawn.startswith(begins)
        assert drawn == Plot(chart).draw(format_)
        if format_ == "png":
            assert Image.open(io.BytesIO(drawn)).width in (1300, 1800)


def test_without_matplotlib_the_extra_is_named_before_any_work(tmp_path, monkeypatch):
    from command_line import run_cli

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run_cli("rf", "no-such-model", "--plot", "-o", str(tmp_path / "x.svg"))
    assert done.code == 2
    assert "pip install 'cnnscope[plot]'" in done.err
    with pytest.raises(RequestError, match=r"pip install 'cnnscope\[plot\]'"):
        Plot(hostile()).save(tmp_path / "x.png")
    Plot(zoo()).save(tmp_path / "x.txt")
    assert "● front" in (tmp_path / "x.txt").read_text()
    assert "<pre>" in Plot(zoo())._repr_html_()


def test_a_matplotlib_that_fails_is_told_before_any_work(tmp_path, monkeypatch):
    from command_line import run_cli

    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('no libfoo.so')")
    for name in [one for one in sys.modules if one.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    done = run_cli("rf", "no-such-model", "--plot", "-o", str(tmp_path / "x.svg"))
    assert done.code == 2
    assert "cannot be imported (no libfoo.so): pip install" in done.err


def test_a_long_legend_has_room_of_its_own():
    names = [f"number {n} of many, whose name is long" for n in range(6)]
    many = Panel(Axis("x"), Axis("y"), tuple(Series(name, ((0, 0.0),)) for name in names))
    few = many._replace(series=many.series[:1])
    key = files._key(many, 3.0)
    # 3 inches are 45 letters, 37 without the symbol: one column, each name of 36 in a line
    assert key == (1, 37, pytest.approx(0.17 * 5))
    assert files._key(few, 3.0) == (1, 37, 0)
    assert files._key(many, 2.0) == (1, 22, pytest.approx(0.17 * 11))  # each in two lines
    assert files._key(many, 6.0) == (2, 82, pytest.approx(0.17 * 2))  # 90 // (36 + 8)
    areas = many._replace(series=tuple(one._replace(kind="area") for one in many.series))
    assert files._key(areas, 3.0).height == 0


def test_texts_of_marks_do_not_cover_each_other():
    axis, extent = Axis("width", log=True), (1.0, 64.0)
    marks = [(float(n), str(n)) for n in range(1, 65)]
    # 3 inches are 0.5 for each doubling; two digits and what is between are 3 * 0.075 = 0.225
    shown = [int(label) for _, label in files._apart(axis, extent, marks, 3.0, slanted=False)]
    assert shown[:4] == [1, 2, 3, 4]
    places = [math.log2(n) * 0.5 for n in shown]
    assert all(b - a >= 0.15 for a, b in itertools.pairwise(places))
    assert all(b - a >= 0.225 for a, b in itertools.pairwise(places[-4:]))
    assert min(shown[-4:]) >= 10
    names = Axis("", names=tuple(f"3x{n}x{n}" for n in range(24)))
    given = [(float(n), name) for n, name in enumerate(names.names)]
    slanted = list(files._apart(names, (-0.5, 23.5), given, 3.6, slanted=True))
    assert slanted == given[::2]  # 0.15 inches each, of which a slanted one takes 0.28


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(RequestError, match="drawn as one of svg, pdf, png"):
        Plot(zoo()).draw("gif")
    with pytest.raises(RequestError, match=r"x\.gif: a chart is written as \.svg"):
        Plot(zoo()).save(tmp_path / "x.gif")


def test_no_two_series_look_alike():
    looks = [files._look(number) for number in range(64)]
    assert len(set(looks)) == 64
    assert len({one.marker for one in looks[:8]}) == len({one.hatch for one in looks[:8]}) == 8
