"""Every report in every format: what one table of reports and formats promises."""

import csv
import io
import re
from html.parser import HTMLParser
from importlib import import_module

import pytest
from differences import diff

from cnnscope.models.request import Request
from cnnscope.models.run import stepping, trace_spec
from cnnscope.records.explain import ModelExplanation
from cnnscope.records.step import Step
from cnnscope.records.summary import Geometry
from cnnscope.render import data, drawing, page
from cnnscope.render.html import html
from cnnscope.render.latex import latex
from cnnscope.render.page import Bar, Box, Heading, Page, Table
from cnnscope.reports.explain import explain_layers
from cnnscope.reports.memory import memory_report
from cnnscope.reports.rf import field_report, unit_report
from cnnscope.reports.stack import inception_report, stack_report
from cnnscope.reports.stages import stages_report
from cnnscope.reports.summary import report as summary
from tests.support.records import report_kinds

HOSTILE = "a_b&c<i>|#x"


@pytest.fixture(scope="module")
def reports():
    trace = trace_spec(Request.of("classic:lenet5"))
    with stepping(Request.of("classic:lenet5")) as trace_step:
        step = trace_step(Step(), None)
    return [
        summary(trace),
        field_report(trace),
        unit_report(trace, "c1", None),
        explain_layers(trace, "c1"),
        diff(trace, trace_spec(Request.of("classic:lenet5", num_classes=7))),
        stages_report([trace]),
        memory_report(step),
        stack_report(7, 64, (56, 56), (), None),
        inception_report("3a"),
    ]


def test_every_answer_to_a_command_has_a_file_with_a_page_and_a_sheet():
    kinds = report_kinds() | {ModelExplanation}
    assert set(drawing._FILES) == {kind.__name__ for kind in kinds}
    for name in drawing._FILES.values():
        made = import_module(f"cnnscope.render.{name}")
        assert callable(made.page)
        assert callable(made.sheet)


class Grid(HTMLParser):
    """Cells of each row, and tags that are open."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        del attrs
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_has_a_cell_for_each_column_in_every_row(reports):
    for report in reports:
        laid_out = drawing.page(report)
        grid = Grid(drawing.write(report, "html"))
        assert not grid.open
        wanted = [
            sum(not h.bar for h in table.headings)
            for table in laid_out.tables
            for _ in range(1 + len(table.rows))  # and the row of titles
        ]
        assert grid.rows == wanted


def test_latex_has_a_cell_for_each_column_in_every_row(reports):
    for report in reports:
        text = drawing.write(report, "latex")
        assert text.count("{") == text.count("}")
        outer = re.sub(r"\\begin\{tabular\}\{@.*?\\end\{tabular\}", "", text)  # inside a cell
        tables = re.findall(r"(?s)\\begin\{tabular\}\{([lrc]+)\}(.*?)\\end\{tabular\}", outer)
        assert len(tables) == len(drawing.page(report).tables)
        for sides, body in tables:
            rows = [line for line in body.splitlines() if line.endswith(r" \\")]
            assert len(rows) > 1
            assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(sides) - 1}


def test_csv_has_a_cell_for_each_column_in_every_row(reports):
    for report in reports:
        rows = list(csv.reader(io.StringIO(drawing.write(report, "csv"))))
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}


def test_names_are_escaped_in_every_drawing():
    laid_out = Page(
        HOSTILE, "", (Table((Heading(HOSTILE),), ((HOSTILE,),)),), ((HOSTILE, HOSTILE),)
    )
    assert "<i>" not in html(laid_out)
    assert html(laid_out).count("&lt;i&gt;") == 5  # name, title, cell, and both of the sentence
    assert r"a\_b\&c$<$i$>$$|$\#x" in latex(laid_out)


def test_a_bar_is_drawn_as_text_and_behind_the_number_and_left_out_elsewhere():
    headings = (Heading("share"), Heading("", left=True, bar=True))
    laid_out = Page("net", "", (Table(headings, (("50.0 %", Bar(1, 2)),)),))
    assert "50.0 % ███" in page.text(laid_out).plain  # half of six characters, a space before
    assert "50.0%,transparent 50.0%" in html(laid_out)
    assert "| share |\n| ---: |\n| 50.0 % |" in page.markdown(laid_out)
    assert r"50.0 \% \\" in latex(laid_out)


def test_boxes_are_high_in_text_and_on_one_line_where_characters_have_no_width():
    box = (Box(("3x3, 64", "3x3, 64"), 2, bracket=True),)
    laid_out = Page("net", "", (Table((Heading("net", left=True),), ((box,),)),))
    assert page.text(laid_out).plain.endswith("⎡3x3, 64⎤\n⎣3x3, 64⎦ x 2\n")
    assert r"| \[3x3, 64; 3x3, 64\] x 2 |" in page.markdown(laid_out)
    assert r"\right] \times 2$" in latex(laid_out)


def test_blocks_inside_others_are_indented_in_every_drawing():
    laid_out = Page("net", "", (Table((Heading("layer", left=True),), (("  conv",),)),))
    assert "| &nbsp;&nbsp;conv |" in page.markdown(laid_out)
    assert ">&nbsp;&nbsp;conv<" in html(laid_out)
    assert r"\quad conv \\" in latex(laid_out)


def test_a_column_of_csv_is_taken_from_the_first_part_of_a_row_that_has_it():
    sizes = Geometry(kernel_size=(3, 5), ceil_mode=True)
    rows = [({"stride": "mine"}, None, sizes), ({"shapes": ((1, 2), (3,))}, None)]
    written = data.to_csv(("kernel_size", "stride", "ceil_mode", "shapes"), rows)
    assert written == "kernel_size,stride,ceil_mode,shapes\n3x5,mine,1,\n,,,1x2;3\n"
