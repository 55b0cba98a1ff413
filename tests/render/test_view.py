"""Rendered reports: golden files at several widths, and the rules that hold at every width."""

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


@pytest.fixture(scope="module")
def resnet18():
    return report(trace_spec(Request.of("resnet18")))


def table(model_report, width, options=None, keys=columns.DEFAULT, **kwargs):
    laid_out = drawing.page(model_report, options=options or Options(), columns=keys)
    return without_versions(page.text(laid_out, width, **kwargs).plain)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "model", ["alexnet", "resnet18", "googlenet", "vit_b_16", "efficientnet_b0"]
)
def test_table(model, width, golden):
    golden(table(report(trace_spec(Request.of(model))), width), f"{model}-{width}.txt")


def test_markdown(golden):
    golden(without_versions(run_cli("summary", "alexnet", "-f", "markdown").out), "alexnet.md")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 160])
def test_no_line_of_the_table_is_wider_than_the_terminal(resnet18, width):
    lines = table(resnet18, width, Options(depth=0)).split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= width


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
    deep = report(trace_spec(Request.of("resnet50")))
    folded = [x for x in view(deep, Options(depth=2)).lines if x.indent == 1]
    unfolded = [x for x in view(deep, Options(depth=2, unfold=True)).lines if x.indent == 1]
    assert sum(line.macs for line in folded) == sum(line.macs for line in unfolded)
    # ResNet-50 has stages of 3, 4, 6 and 3 blocks, of which the first differs
    assert [line.times for line in folded] == [1, 2, 1, 3, 1, 5, 1, 2]


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
def test_si(value, text):
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
def test_geometry(geometry, text):
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
