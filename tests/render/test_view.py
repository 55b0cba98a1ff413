"""Rendered reports: golden files at several widths, and the rules that hold at every width."""

import re
from functools import cache

import msgspec
import pytest
from command_line import run_cli, without_versions
from torch import nn

import cnnscope
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.summary import Geometry, ModelReport
from cnnscope.render import columns, data, drawing, page, units
from cnnscope.render.page import cut
from cnnscope.render.tree import Options
from cnnscope.render.view import view
from cnnscope.reports.summary import report
from tests.support.records import report_kinds


@cache
def reported(name):
    return report(trace_spec(Request.of(name)))


@pytest.fixture(scope="module")
def resnet18():
    return reported("resnet18")


def table(model_report, width, options=None, keys=columns.DEFAULT, **kwargs):
    laid_out = drawing.page(model_report, options=options or Options(), columns=keys)
    return without_versions(page.text(laid_out, width, **kwargs).plain)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "model", ["alexnet", "resnet18", "googlenet", "vit_b_16", "efficientnet_b0"]
)
def test_the_table_of_a_summary_is_as_it_was(model, width, golden):
    golden(table(reported(model), width), f"{model}-{width}.txt")


def test_the_markdown_of_a_summary_is_as_it_was(golden):
    golden(without_versions(run_cli("summary", "alexnet", "-f", "markdown").out), "alexnet.md")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 160])
def test_no_line_of_the_table_is_wider_than_the_terminal(resnet18, width):
    lines = table(resnet18, width, Options(depth=0)).split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= width


@cache
def buried():
    """Reports on a convolution in 200 modules, which a finding, a caption and rows name."""
    inner = nn.Conv2d(3, 8, 3)
    for _ in range(200):
        inner = nn.Sequential(inner)
    model, path = nn.Sequential(inner, nn.Conv2d(8, 8, 3)), ".".join(["0"] * 201)
    size = "3x32x32"
    made = (cnnscope.summary, cnnscope.rf, cnnscope.explain)
    reports = [function(model, inputs=size) for function in made]
    return path, [*reports, cnnscope.explain(model, path, inputs=size)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_path_of_200_names_stays_within_the_terminal_and_is_read_whole_below(width):
    path, reports = buried()
    texts = [one.table(width=width) for one in reports]
    assert max(len(line) for text in texts for line in text.splitlines()) <= width
    summary, _, _, layer = texts
    assert path in re.sub(r"\n *", "", summary)
    assert f"{path}:Conv2d" in re.sub(r"\s+", "", layer)


def test_a_word_longer_than_a_line_goes_on_in_the_next_one():
    assert page.wrap("in abcdefghijklmnopqrst, not", 10, "  ", first=2) == [
        "in", "  abcdefgh", "  ijklmnop", "  qrst,", "  not",
    ]  # fmt: skip
    assert page.wrap("abcdefghijkl", 4, " " * 12) == ["abcdefgh", " " * 12 + "ijkl"]


def test_a_wide_terminal_shows_every_cell_whole(resnet18):
    assert "…" not in table(resnet18, 160, Options(depth=0))


def test_ascii_only_is_ascii(resnet18):
    assert table(resnet18, 80, ascii_only=True).isascii()


def test_lines_of_the_first_level_add_up(resnet18):
    lines = view(resnet18, Options(depth=1)).lines
    assert sum(line.macs for line in lines) == resnet18.totals.macs
    assert sum(line.params for line in lines) == resnet18.totals.params


def test_folded_blocks_add_up_as_unfolded_ones(resnet18):
    del resnet18
    deep = reported("resnet50")
    folded = [x for x in view(deep, Options(depth=2)).lines if x.indent == 1]
    unfolded = [x for x in view(deep, Options(depth=2, unfold=True)).lines if x.indent == 1]
    assert sum(line.macs for line in folded) == sum(line.macs for line in unfolded)
    # ResNet-50 has stages of 3, 4, 6 and 3 blocks, of which the first differs
    assert [line.times for line in folded] == [1, 2, 1, 3, 1, 5, 1, 2]


def inside(lines, at):
    """Lines one level inside a line, down to the next that is not inside it."""
    rest = lines[at + 1 :]
    depth = lines[at].indent
    end = next((i for i, line in enumerate(rest) if line.indent <= depth), len(rest))
    return [line for line in rest[:end] if line.indent == depth + 1]


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16", "mobilenet_v2"])
def test_blocks_add_up_to_the_row_around_them(name):
    found = reported(name)
    for depth in (2, 3, 4, 0):
        lines = view(found, Options(depth=depth)).lines
        for at, line in enumerate(lines):
            parts = inside(lines, at)
            each = [part for part in parts if part.name == "each"]
            if each:  # all the blocks of a container, or neighbours that are equal
                times = line.times if line.times > 1 else line.params // each[0].params
                assert (line.params, line.macs) == (times * each[0].params, times * each[0].macs)
            elif parts:
                own = sum(part.params for part in parts)
                assert (own, sum(part.macs for part in parts)) == (line.params, line.macs), line


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "vit_b_16"])
def test_blocks_open_where_there_is_room_and_no_further(name):
    found = reported(name)
    counts = []
    for room in (20, 29, 40, 60):
        lines = view(found, Options(room=room)).lines
        top = view(found, Options(depth=1)).lines
        assert len(lines) <= max(room, len(top))
        counts.append(len(lines))
    assert counts == sorted(counts)


def test_a_terminal_of_40_lines_shows_the_convolutions_and_adds_of_a_residual_block(resnet18):
    whole = cnnscope.summary("resnet18").fitted(40)
    text = whole.table(width=80)
    assert len(text.splitlines()) < 40  # and the next prompt
    shown = view(resnet18, Options(room=29)).lines
    # layer1 holds two equal blocks: its line, one of them, and the 7 rows of it
    first = next(i for i, line in enumerate(shown) if line.name == "each")
    assert [line.name for line in inside(shown, first)] == [
        "conv1", "bn1", "relu", "conv2", "bn2", "add", "relu #2",
    ]  # fmt: skip


def test_one_block_of_each_kind_is_opened(resnet18):
    shown = view(resnet18, Options(room=60))
    # layer1 is without a projection, layer2.0 the first with one; the others are like these
    assert shown.examples
    opened = [line.row.path for at, line in enumerate(shown.lines) if inside(shown.lines, at)]
    assert [path for path in opened if path.count(".") == 1] == ["layer1.0", "layer2.0"]


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 120])
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "r3d_18", "efficientnet_b0"])
def test_a_kernel_is_never_cut_and_the_share_stays(name, width):
    found = reported(name)
    text = table(found, width)
    rows = text.split("\n\n")[1].splitlines()
    assert "share" in rows[0].split() or width < 70
    kernels = {
        units.geometry(line.row.geometry)
        for line in view(found, Options()).lines
        if line.row.geometry
    }
    together = " ".join(" ".join(rows).split())
    if "operation" in rows[0]:
        assert {part for kernel in kernels for part in kernel.split()} <= set(together.split())
    assert max(map(len, rows)) <= width


def test_columns_are_added_to_the_usual_ones_and_taken_away():
    usual = columns.DEFAULT
    assert columns.known(["+input"]) == (*usual[:2], "input", *usual[2:])
    assert columns.known(["-field", " +trainable"]) == (*usual[:4], "trainable", *usual[4:-1])
    assert columns.known(["layer", "+macs"]) == ("layer", "macs")
    for wrong in (["+colour"], ["-"], ["+"], [""], [f"-{key}" for key in usual]):
        with pytest.raises(cnnscope.RequestError, match="--columns"):
            columns.known(wrong)


def test_frozen_parameters_are_not_among_the_trainable_ones():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    net[0].requires_grad_(requires_grad=False)
    found = cnnscope.summary(net, (2, 3)).record
    keys = ("layer", "params", "params-share", "trainable")
    laid_out = drawing.page(found, options=Options(), columns=keys)
    # 3*4 + 4 = 16 and 4*5 + 5 = 25 of 41: 39.0 % and 61.0 %
    assert laid_out.tables[0].rows == (
        ("0", "16", "39.0 %", "0"), ("1", "", "", ""), ("2", "25", "61.0 %", "25"),
    )  # fmt: skip


def test_colours_mean_the_same_in_every_table(resnet18):
    laid_out = drawing.page(resnet18, options=Options(depth=0), columns=("layer", "macs"))
    shown = view(resnet18, Options(depth=0)).lines
    for line, (_, style) in zip(shown, laid_out.tables[0].styles, strict=True):
        dear = line.row.leaf and line.macs >= 0.05 * resnet18.totals.macs
        assert style == (page.DEAR if dear else "")


def test_json_can_be_read_back(resnet18):
    decoded = msgspec.json.decode(data.to_json(resnet18).encode(), type=ModelReport)
    assert decoded == resnet18


def test_every_report_tells_the_version_of_its_schema():
    reports = report_kinds()
    assert ModelReport in reports
    assert [r.__name__ for r in reports if "schema_version" not in r.__struct_fields__] == []


def test_schema_beside_the_package_is_that_of_the_records():
    from pathlib import Path

    path = Path(data.__file__).parent.parent / "summary.schema.json"
    assert path.read_bytes() == data.schema()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.000 k"), (1_814_073_344, "1.814 G")],
)
def test_a_count_has_a_prefix_and_three_digits(value, text):
    assert units.si(value) == text


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (Geometry((7, 7), (2, 2), (3, 3), (1, 1)), "7x7/2, p3"),
        (Geometry((1, 1), (1, 1), (0, 0), (1, 1)), "1x1"),
        (Geometry((3, 3), (1, 1), (1, 1), (1, 1), 32), "3x3, p1, g32"),
        (Geometry((1, 7), (1, 1), (0, 3), (1, 1)), "1x7, p0x3"),
        (Geometry((3, 3), (1, 1), "same", (2, 2)), "3x3, same, d2"),
        (Geometry((2, 2), (2, 2), (0, 0), (1, 1), ceil_mode=True), "2x2/2, ceil"),
    ],
)
def test_a_geometry_is_written_as_far_as_it_says_something(geometry, text):
    assert units.geometry(geometry) == text


def test_bars_are_eighths():
    assert units.bar(1, 2, 4) == "██"
    assert units.bar(1, 16, 2) == "▏"
    assert units.bar(0, 16, 2) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(999_949_999, "999.9 M"), (999_960_000, "1.0 G"), (10**15, "1.00 P")]
)
def test_si_in_a_column_rounds_up_to_the_next_prefix(value, text):
    assert units.si_short(value) == text


def test_bytes_round_up_to_the_next_unit():
    assert units.nbytes(1024 * 1024 - 1) == "1.0 MiB"


def test_a_narrow_terminal_says_which_columns_it_left_out(resnet18):
    assert "too narrow for operation, output, share" in " ".join(table(resnet18, 40).split())
    assert "too narrow" not in table(resnet18, 100)


def test_the_total_field_names_the_axis_that_is_seen_whole():
    # LayerNorm(9) divides each row of 9 pixels by its own deviation: all of W, and 3 rows of H
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.LayerNorm(9))
    text = str(cnnscope.summary(net, "1x12x9"))
    assert "field       3 px of the 12x9 px input beside everything along W" in text


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (50, "features.denseblock1.denselayer12.conv1"),
        (38, "f….denseblock1.denselayer12.conv1"),
        (30, "f….d…1.denselayer12.conv1"),
        (20, "f….d…1.d…12.conv1"),
        (12, "….d…12.conv1"),
    ],
)
def test_paths_are_shortened_so_that_siblings_differ(width, shown):
    text = cut("features.denseblock1.denselayer12.conv1", width, keep="end")
    assert (text, len(text) <= width) == (shown, True)
