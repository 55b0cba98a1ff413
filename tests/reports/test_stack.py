"""Stacks of small kernels: against the papers, and against the same layers traced by torch."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
import torch
from command_line import run_cli

from cnnscope.errors import RequestError
from cnnscope.models.sources.classic.inception_table import BLOCKS
from cnnscope.records.bench import Interval, Ratio
from cnnscope.render import drawing
from cnnscope.render import page as pages
from cnnscope.render import stack as render
from cnnscope.reports.stack import (
    bottlenecks,
    candidates,
    draw,
    draw_branches,
    inception,
    inception_report,
    parse,
    stack_report,
)
from cnnscope.reports.summary import report
from cnnscope.timing import machine, stacks
from cnnscope.tracing.tracer import trace


def rows(kernel=7, channels=64, size=(56, 56), **options):
    return {row.layers: row for row in stack_report(kernel, channels, size, **options).rows}


TOTALS = ("params", "macs", "flops", "element_ops", "activation_bytes", "peak_activation_bytes",
          "conv_layers", "field", "operations")  # fmt: skip


def assert_same(drawn, traced):
    drawn, traced = report(drawn), report(traced)
    for name in TOTALS:
        assert getattr(drawn.totals, name) == getattr(traced.totals, name), name
    assert drawn.mismatches == traced.mismatches == ()
    for a, b in zip(drawn.layers[1:], [r for r in traced.layers[1:] if not r.minor], strict=True):
        assert (a.operation, a.output_shapes, a.macs, a.params, a.element_ops, a.field) == (
            b.operation, b.output_shapes, b.macs, b.params, b.element_ops, b.field,
        )  # fmt: skip


STACKS = [
    *(text for kernel in (3, 5, 7, 15) for _, text in candidates(kernel)),
    *(text for _, text in bottlenecks(7, 4)),
    "3x3,3x3/2,1x1",
    "max3x3/2,5x5d2@2C,avg2x2/2,1x3/1x2@6",
    "3x3g2p0,dw3x3@3C,1x1@C/8,2x2/2",
]


@pytest.mark.parametrize("text", dict.fromkeys(STACKS))
def test_a_drawn_stack_is_what_tracing_the_same_layers_gives(text):
    real = trace(stacks.module(text, 8).to("meta"), (torch.empty(1, 8, 20, 23, device="meta"),))
    assert_same(draw(text, (1, 8, 20, 23)), real)


@pytest.mark.parametrize("naive", [True, False])
def test_a_drawn_inception_block_is_what_tracing_it_gives(naive):
    texts = inception("3a", naive=naive)
    real = trace(
        stacks.module(" | ".join(texts), 192).to("meta"),
        (torch.empty(1, 192, 28, 28, device="meta"),),
    )
    drawn = report(draw_branches(texts, (1, 192, 28, 28)))
    for name in TOTALS:
        assert getattr(drawn.totals, name) == getattr(report(real).totals, name), name


# ------------------------------------------------------------------------------ the papers


def test_three_3x3_see_7x7_with_27_weights_against_49():
    # Simonyan and Zisserman 2014, section 2.3: 3 (3^2 C^2) = 27 C^2 against 7^2 C^2 = 49 C^2
    found = rows()
    threes, one = found["3x3,3x3,3x3"], found["7x7"]
    assert [a.size for a in threes.field] == [a.size for a in one.field] == [7, 7]
    assert (threes.square, one.square) == (27, 49)
    assert (threes.weights, one.weights) == (27 * 64**2, 49 * 64**2)
    assert (threes.macs, one.macs) == (27 * 64**2 * 56**2, 49 * 64**2 * 56**2)
    assert (threes.nonlinearities, one.nonlinearities) == (3, 1)
    assert threes.activation_bytes == 3 * one.activation_bytes == 3 * 4 * 64 * 56**2


def test_two_3x3_see_5x5_and_the_page_says_so():
    found = stack_report(7, 64, (56, 56), ["3x3,3x3"])
    asked = found.rows[-1]
    assert [a.size for a in asked.field] == [5, 5]
    assert asked.square == 18
    text = pages.text(render.page(found)).plain
    # 18 of 25 is 28 % fewer; 27 of 49 is 44.9 % fewer
    assert "3x3,3x3 sees 5x5, not 7x7: its 18 C^2 weights" in text
    assert "against 25 C^2 of one 5x5 (28.0 % fewer)" in text
    assert "three 3x3 see 7x7 with 27 C^2 weights against 49 C^2: 44.9 % fewer" in text


def test_units_of_the_other_ways():
    found = rows(bottleneck=4)
    assert found["5x5,3x3"].square == 34
    assert found["7x1,1x7"].square == 14
    assert (found["dw7x7,1x1"].square, found["dw7x7,1x1"].linear) == (1, 49)
    # C*C/4 + 49 C^2/16 + C/4*C
    assert found["1x1@C/4,7x7,1x1@C"].square == 0.25 + 49 / 16 + 0.25
    # 49 positions, of which a dilated 3x3 reads 9; dilations 1 and 2 leave no holes
    assert found["3x3d3"].read == (3, 3)
    assert found["3x3d1,3x3d2"].read == (7, 7)


@pytest.mark.parametrize("kernel", range(3, 32, 2))
def test_every_candidate_sees_as_much_as_the_one_kernel(kernel):
    found = stack_report(kernel, 8, (8, 8), bottleneck=2).rows
    assert len({row.layers for row in found}) == len(found)
    for row in found:
        assert [a.size for a in row.field] == [kernel, kernel], row.name
        assert row.output == (1, 8, 8, 8)
        assert row.weights == row.square * 64 + row.linear * 8


@pytest.mark.parametrize("block", BLOCKS)
def test_inception_blocks_feed_each_other(block):
    names = list(BLOCKS)
    reduced = inception_report(block).rows[1]
    following = names[names.index(block) + 1 :][:1]
    for name in following:
        assert BLOCKS[name][0] == reduced.output[1]


def test_inception_3a_by_hand():
    found = inception_report("3a")
    naive, reduced = found.rows
    # 192*64 + 192*128*9 + 192*32*25 against 192*64 + 192*96 + 96*128*9 + 192*16 + 16*32*25 + 192*32
    assert naive.weights == 12_288 + 221_184 + 153_600
    assert reduced.weights == 12_288 + 18_432 + 110_592 + 3_072 + 12_800 + 6_144
    assert reduced.macs == reduced.weights * 28**2
    assert (naive.output[1], reduced.output[1]) == (64 + 128 + 32 + 192, 256)
    # the paper's Table 1 says 159K parameters and 128M operations for 3a
    assert reduced.weights // 1024 == 159
    assert round(reduced.macs / 1e6) == 128
    assert [b[1] for b in found.branches] == [12_288, 221_184, 153_600, 0]


# ------------------------------------------------------------------------------- the grammar


def test_a_stack_is_read_by_its_grammar():
    first, second, third, fourth = parse("3x5/2d2,dw7@2C,max3x3/1x2p0,1@C/4", 8)
    assert first.geometry.kernel_size == (3, 5)
    assert (first.geometry.stride, first.geometry.dilation) == ((2, 2), (2, 2))
    assert first.geometry.padding == (2, 4)  # 2*(3 - 1)/2, 2*(5 - 1)/2
    assert (second.form, second.channels, second.geometry.groups) == ("conv", 16, 8)
    assert (third.form, third.geometry.stride, third.geometry.padding) == ("max", (1, 2), (0, 0))
    assert fourth.channels == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3y3", "is no layer"),
        ("", "is no layer"),
        ("3x3,,1x1", "is no layer"),
        ("3x3/2/2", "has / twice"),
        ("0x3", "size of 0"),
        ("3x3/0", "size of 0"),
        ("3x3g3", "into 3 groups"),
        ("3x3g0", "into 0 groups"),
        ("dw3x3g2", "takes no groups"),
        ("max3x3@4", "is a pool"),
        ("max2x2p2", "more than half"),
        ("1x1@C/3", "no whole part of 8"),
        ("1x1@0", "no whole part of 8"),
        ("1x1@C/0", "no whole part of 8"),
        ("31x31p0", "too small"),
    ],
)
def test_a_stack_that_cannot_be_says_why(text, reason):
    with pytest.raises(RequestError, match=reason):
        stack_report(7, 8, (9, 9), [text])


@pytest.mark.parametrize("kernel", [-3, 0, 1, 2, 4, 103])
def test_kernels_that_nothing_is_stacked_for(kernel):
    with pytest.raises(RequestError, match="odd size"):
        stack_report(kernel, 8, (9, 9))


# ---------------------------------------------------------------------------- command line


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["7", "13", "inception"])
def test_the_page_of_a_comparison_is_as_it_was(name, width, golden):
    if name == "inception":
        found = inception_report("3a")
    else:
        found = stack_report(int(name), 64, (56, 56), ["3x3,3x3", "3x3,3x3/2,1x1"], 4)
    text = pages.text(render.page(found), width).plain
    assert max(map(len, text.splitlines())) <= width
    golden(text, f"stack-{name}-{width}.txt")


def test_formats_hold_the_same_numbers():
    data = json.loads(run_cli("stack", "-f", "json").out)["rows"]
    lines = list(csv.DictReader(io.StringIO(run_cli("stack", "-f", "csv").out)))
    assert [row["weights"] for row in data] == [int(line["weights"]) for line in lines]
    assert "| three 3x3 | 7x7 | 27 C^2 | 110,592 |" in run_cli("stack", "-f", "markdown").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--channels", "0"),
        ("--kernel", "8"),
        ("--bottleneck", "3"),
        ("--block", "3a"),
        ("--preset", "inception", "--kernel", "7"),
        ("--preset", "inception", "--block", "6a"),
        ("--input", "3x56x56"),
        ("--input", "x"),
        ("--input", "9999"),
        ("--custom", "three 3x3"),
        ("--device", "cpu"),
        ("--seconds", "1"),
        ("--time", "--device", "tpu"),
        ("--time", "--seconds", "0"),
        ("--time", "--custom", "31x31p0", "--input", "9"),
    ],
)
def test_a_request_that_cannot_be_is_one_message(arguments):
    result = run_cli("stack", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("cnnscope: ")
    assert result.err.count("\n") == 1


# ------------------------------------------------------------------------------------ times

TIMED = ("stack", "--time", "--seconds", "0.05", "--kernel", "5", "--channels", "4", "--input", "8")


@pytest.fixture(scope="module")
def measured():
    """A run of what `TIMED` asks for, and one stack more."""
    report = stack_report(5, 4, (8, 8), ["3x3/2,1x1@2C"])
    return stacks.timed(report, "cpu", 0.05)


@pytest.mark.parametrize(
    "counted",
    [stack_report(7, 8, (20, 23), ["max3x3/2,3x3", "3x3g2,dw3x3@2C"], 4), inception_report("4a")],
    ids=["kernel", "inception"],
)
def test_what_is_timed_has_the_macs_of_the_table(counted):
    for row in counted.rows:
        built = stacks.module(row.layers, counted.channels).to("meta")
        real = report(trace(built, (torch.empty(counted.input.shape, device="meta"),)))
        assert real.totals.macs == row.macs
        assert real.totals.params == row.weights
        assert real.layers[0].output_shapes == (row.output,)


@pytest.mark.broad
def test_every_stack_is_timed_in_turns_and_held_against_the_first(measured):
    timing = measured.timing
    assert [run.label for run in timing.runs] == [row.name for row in measured.rows]
    assert [run.work.macs for run in timing.runs] == [row.macs for row in measured.rows]
    assert all(run.inputs == (measured.input,) for run in timing.runs)
    assert all(run.statistics.median_ns > 0 for run in timing.runs)
    assert {c.base for c in timing.comparisons} == {"one 5x5"}
    assert [c.run for c in timing.comparisons] == list(range(1, len(measured.rows)))
    assert all(c.interleaved for c in timing.comparisons)
    assert timing.runs[0].settings.dtype == "float32"


@pytest.mark.broad
def test_more_layers_of_the_same_take_longer():
    # 20 layers do 20 times the work of the last one; nothing on any machine hides a factor of 20
    found = stacks.timed(stack_report(41, 4, (8, 8), ["3x3"]), "cpu", 0.05)
    named = {run.label: run.statistics.median_ns for run in found.timing.runs}
    assert named["20 3x3"] > 2 * named["3x3"]


def test_signals_neither_vanish_nor_grow_in_deep_stacks():
    # a hundred layers with torch's own weights would leave numbers that are subnormal
    torch.manual_seed(0)
    with torch.inference_mode():
        out = stacks.module(",".join(["dw3x3", "1x1"] * 50), 32)(torch.rand(1, 32, 16, 16))
    assert 1e-20 < out.abs().max() < 1e20


@pytest.mark.broad
def test_a_difference_that_cannot_be_seen_is_no_figure(measured):
    def shown(verdict, ratio):
        comparison = msgspec.structs.replace(
            measured.timing.comparisons[0],
            ratio=Ratio(ratio, Interval(ratio - 0.01, ratio + 0.01, 0.95), 0.01, verdict),
        )
        timing = msgspec.structs.replace(measured.timing, comparisons=(comparison,))
        text = pages.text(render.page(msgspec.structs.replace(measured, timing=timing))).plain
        return next(line for line in text.splitlines() if line.startswith("two 3x3"))

    assert shown("slower", 1.5).endswith("x 1.500, slower    1.490-1.510")
    assert shown("no difference visible", 1.002).endswith("no difference    0.992-1.012")
    assert shown("too few samples", 1.5).endswith("too few samples")


def test_warnings_are_in_the_words_of_bench(measured):
    run = measured.timing.runs[0]
    quiet = msgspec.structs.replace(run.statistics, drift=0.062)
    run = msgspec.structs.replace(run, statistics=quiet, warnings=("drift", "threads"))
    timing = msgspec.structs.replace(measured.timing, runs=(run, *measured.timing.runs[1:]))
    text = pages.text(render.page(msgspec.structs.replace(measured, timing=timing))).plain
    assert "! one 5x5 is unstable: its second half is +6.2 % beside the first" in text
    assert "long and unsteady; set OMP_NUM_THREADS" in text


@pytest.mark.parametrize("width", [80, 120])
def test_times_fit_a_terminal(measured, width):
    text = pages.text(render.page(measured), width).plain
    assert max(map(len, text.splitlines())) <= width
    assert "to 5x5" in text
    heading = next(line for line in text.splitlines() if "to 5x5" in line)
    assert "time" in heading
    assert heading.count("95 % interval") == 2
    assert "too narrow" not in text


def test_formats_hold_the_medians(measured):
    timing = measured.timing
    data = json.loads(drawing.write(measured, "json"))["timing"]
    medians = [run.statistics.median_ns for run in timing.runs]
    assert [run["statistics"]["median_ns"] for run in data["runs"]] == medians
    lines = list(csv.DictReader(io.StringIO(drawing.write(measured, "csv"))))
    assert [float(line["median_ns"]) for line in lines] == medians
    assert [line["verdict"] for line in lines] == [
        "", *(c.ratio.verdict for c in timing.comparisons)
    ]  # fmt: skip
    assert "| time | 95 % interval | to 5x5 |" in pages.markdown(render.page(measured))


@pytest.mark.broad
def test_the_command_times_an_inception_block():
    result = run_cli("stack", "--time", "--seconds", "0.05", "--preset", "inception",
                     "--block", "5a")  # fmt: skip
    assert result.code == 0, result.err
    assert "to naive" in result.out
    assert "inference mode on cpu, float32, random weights" in result.out


@pytest.mark.broad
def test_the_command_writes_what_was_measured_as_csv():
    result = run_cli(*TIMED, "--format", "csv")
    assert result.code == 0, result.err
    lines = list(csv.DictReader(io.StringIO(result.out)))
    assert all(float(line["median_ns"]) > 0 and line["device"] == "cpu" for line in lines)


def test_what_memory_cannot_hold_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda _: 1000)
    result = run_cli(*TIMED)
    assert result.code == 2
    assert "cpu has 0.0 GiB free; use a smaller --channels or --input" in result.err


def test_an_interrupted_run_shows_what_there_is_and_says_so(measured):
    timing = msgspec.structs.replace(measured.timing, interrupted=True)
    text = pages.text(render.page(msgspec.structs.replace(measured, timing=timing))).plain
    assert "! interrupted: this is what had been measured" in text
