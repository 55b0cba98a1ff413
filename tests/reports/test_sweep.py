"""Costs as a function of a choice: rows are those of summaries, powers those of arithmetic."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from command_line import run_cli

import cnnscope
from cnnscope.analysis import powers
from cnnscope.cli import values
from cnnscope.errors import RequestError
from cnnscope.models import run
from cnnscope.models.build import build
from cnnscope.render import sweep
from cnnscope.reports import sweep as reports

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, kernel=(3, 3)):
        super().__init__()
        if width > 100:
            raise ValueError("too wide")
        self.first = nn.Conv2d(3, width, kernel, padding="same", bias=False)
        self.second = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        return self.second(self.first(x))
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return f"{path}:Net"


def grown(report):
    return {one.quantity: (one.by, round(one.power, 3)) for one in report.growth}


def test_rows_are_the_summaries_of_each_choice():
    report = cnnscope.sweep("alexnet", [(3, 64, 64), (3, 96, 96)], batch_sizes=[1, 3]).record
    assert report.varied == ("input", "batch size")
    assert [row.values for row in report.rows] == [
        ("3x64x64", "1"), ("3x64x64", "3"), ("3x96x96", "1"), ("3x96x96", "3"),
    ]  # fmt: skip
    for row, batch in zip(report.rows[:2], (1, 3), strict=True):
        alone = cnnscope.summary("alexnet", "3x64x64", batch_size=batch).totals
        assert (row.params, row.macs) == (alone.params, alone.macs)
        assert row.peak_activation_bytes == alone.peak_activation_bytes
        assert row.field == alone.field
    assert not report.growth  # two numbers vary


def test_powers_are_those_of_the_formulas(net):
    sides = cnnscope.sweep(net, ["3x8x8", "3x16x16", "3x32x32"]).record
    # H W (3 width 9 + width width): all of it with the square of the side
    assert grown(sides) == {
        "params": ("side", 0.0), "macs": ("side", 2.0), "peak_activation_bytes": ("side", 2.0),
    }  # fmt: skip
    assert [row.macs for row in sides.rows] == [s * s * (3 * 4 * 9 + 4 * 4) for s in (8, 16, 32)]
    heights = cnnscope.sweep(net, ["3x8x8", "3x16x8", "3x32x8"]).record
    assert grown(heights)["macs"] == ("height", 1.0)
    batches = cnnscope.sweep(net, ["3x8x8"], batch_sizes=[1, 2, 8]).record
    assert grown(batches)["macs"] == ("batch size", 1.0)


def test_growth_along_a_line_is_written_as_one():
    found = powers.line([1, 2, 5], [12, 14, 20])
    assert found is not None
    assert found == pytest.approx((10, 2, 0, 1))
    assert powers.line([1, 2, 5], [12, 18, 60]) == pytest.approx((10, 2, 0, 2))  # 10 + 2 x^2
    curve = powers.power([1, 2, 4], [1, 4, 16])
    assert curve is not None
    assert curve == pytest.approx((2, 0, 2, 2, 2, 2))
    assert powers.power([1, 2], [1, 4]) is None  # any law goes through two points
    assert powers.line([1, 2, 3], [9, 3, -3]) is None
    assert powers.line([1, 2, 3], [10, 20, 31]) is None  # near a line is not on one


@pytest.mark.parametrize(
    ("xs", "ys", "words"),
    [
        ((1, 2, 4), (7, 7, 7), "the same for all"),
        ((1, 2, 4), (3, 12, 48), "as side^2.00"),
        # 36 side^2 and a classifier of 512 k, which the power between 128 and 160 cannot see:
        # ln(925.8 / 592.7) / ln(160 / 128) = 1.998
        ((128, 160, 256), (590_336_000, 922_112_000, 2_359_808_000), "as side^2.00"),
        ((10, 100, 1000), (710_132_960, 710_501_600, 714_188_000), "710.092 M + 4.096 k x side"),
        ((8, 16, 32), (202_912, 223_648, 306_592), "196.000 k + 108 x side^2"),
        ((8, 16, 32), (127_008, 296_352, 635_040), "-42.336 k + 21.168 k x side"),
        ((100, 200, 400), (14_208, 28_608, 57_408), "-192 + 144 x side"),
        ((1, 2, 4), (1_000_000, 1_002_000, 1_003_000), "nearly the same (0.3 % apart)"),
        ((1, 2, 4), (252_700, 239_100, 241_500), "nearly the same (5.7 % apart)"),  # noise
        # ln(4.4) / ln 2 = 2.14, ln(4.2) / ln 2 = 2.07
        ((1, 2, 4), (1000, 4400, 18480), "about as side^2.10 (2.07 to 2.14 between neighbours)"),
        # x^2 + x^4: ln(20 / 2) / ln 2, ln(272 / 20) / ln 2
        (
            (1, 2, 4), (2, 20, 272), "as no one power of side: side^3.32 between the two smallest, "
            "side^3.77 between the two largest",
        ),
        # one step of a floor is no law: ln(2049 / 1814) / ln(225 / 224) = 27.35
        (
            (223, 224, 225, 226), (1_814, 1_814, 2_049, 2_049),
            "as no one power of side: side^0.00 to side^27.35 between neighbours",
        ),
    ],
)  # fmt: skip
def test_a_law_is_named_where_it_holds_between_all_neighbours(xs, ys, words):
    assert sweep.sentence(reports.law("macs", "side", xs, ys)) == words


def test_what_is_measured_has_the_unit_of_time():
    grown = reports.law("median_ns", "batch size", (1, 2, 3), (3e6, 5e6, 7e6))
    assert sweep.sentence(grown) == "1.000 ms + 2.000 ms x batch_size"


@pytest.mark.parametrize(
    ("inputs", "by", "numbers"),
    [
        ([((1, 3, 8, 8),), ((1, 3, 16, 16),)], "side", [8, 16]),
        ([((1, 3, 8, 6),), ((1, 3, 16, 12),)], "side", [8, 16]),  # in proportion
        ([((1, 3, 8, 6),), ((1, 3, 16, 6),)], "height", [8, 16]),
        ([((1, 3, 8, 6),), ((1, 3, 16, 13),)], "", []),
        ([((1, 1, 8, 8, 8),), ((1, 1, 9, 8, 8),)], "frames", [8, 9]),
        ([((1, 2, 100),), ((1, 2, 200),)], "length", [100, 200]),
        ([((1, 16, 32),), ((1, 8, 32),)], "length", [16, 8]),  # tokens before features
        ([((1, 16),), ((1, 8),)], "length", [16, 8]),
        ([((1, 3, 8, 8),), ((4, 3, 8, 8),)], "batch size", [1, 4]),
        ([((1, 3, 8, 8),), ((4, 3, 32, 8),)], "", []),
        ([((1, 3, 8, 8), (1, 1, 1, 1)), ((1, 3, 16, 16), (1, 1, 1, 1))], "side", [8, 16]),
        ([((1, 3, 8, 8), (1, 1, 4, 4)), ((1, 3, 16, 16), (1, 1, 8, 8))], "side", [8, 16]),
        ([((1, 3, 8, 8), (1, 64)), ((1, 3, 16, 16), (1, 256))], "", []),
        ([((1, 3, 8, 8),), ((1, 8, 8),)], "", []),
        ([((2, 2, 2, 2, 2, 2),), ((2, 2, 2, 2, 2, 4),)], "", []),
        ([((1, 3, 8, 8),), ((1, 3, 8, 8),)], "", []),
    ],
)
def test_the_size_that_varies_has_a_name(inputs, by, numbers):
    found = reports._size(inputs)
    assert (found[0], found[1] if by else []) == (by, numbers)


def test_what_is_said_of_many_choices_is_said_once(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(
        "import torch\nclass Two(torch.nn.Module):\n"
        "    def forward(self, x, y):\n"
        "        if x.shape[-1] < 6:\n            raise ValueError(f'{x.shape[-1]} is small')\n"
        "        return x * y\n"
    )
    done = run_cli("sweep", f"{path}:Two", "-i", "1x4x4,1x5x5,1x6x6,1x7x7", "-i", "1x1x1")
    assert done.out.count("is small") == 1
    assert "! 1x4x4, 1x1x1 and 1 more alike: " in done.out
    assert done.out.count("what is seen of input 2") <= 1
    notes = list(reports._once(["sees 3x8", "sees 3x16", "else", "sees 3x8"]))
    assert notes == ["sees 3x8 (and 1 more alike)", "else"]


def test_on_a_narrow_terminal_columns_that_have_a_name_are_told(net):
    shown = cnnscope.sweep(net, ["3x8x8", "3x9x9"]).table(width=34)
    assert "too narrow for field, of input" in shown  # and the bar, which has none


def test_a_value_that_does_not_run_is_a_row_that_says_why(net):
    result = run_cli("sweep", net, "--arg", "width=2,4,8,101", "--input", "3x8x8")
    assert result.code == 0
    assert "fails" in result.out
    assert "101: " in result.out
    assert "too wide" in result.out
    assert "width^" in result.out  # the others are fitted
    with pytest.raises(RequestError, match="too wide"):
        cnnscope.sweep(net, ["3x8x8"], arguments={"width": [101, 102]})


def test_values_of_an_argument_may_hold_commas(net):
    out = run_cli("sweep", net, "--arg", "kernel=(1, 3),(3, 3)", "-i", "3x8x8", "--json").out
    made = json.loads(out)
    assert [row["values"] for row in made["rows"]] == [["(1, 3)"], ["(3, 3)"]]
    assert [row["params"] for row in made["rows"]] == [3 * 4 * 3 + 16, 3 * 4 * 9 + 16]


def test_lines_of_csv_have_the_values_and_raw_numbers():
    result = run_cli("sweep", "alexnet", "--input", "64,30", "--csv")
    lines = list(csv.DictReader(io.StringIO(result.out)))
    assert [line["input"] for line in lines] == ["64", "30"]
    assert lines[0]["flops"] == str(2 * int(lines[0]["macs"]))
    assert lines[0]["inputs"] == "1x3x64x64 float32"
    assert "too small" in lines[1]["failed"]
    assert lines[1]["macs"] == ""


def test_a_librarys_model_is_built_once_and_read_from_the_store_afterwards(monkeypatch, tmp_path):
    from cnnscope.cache.store import Store

    store, made = Store(tmp_path), []

    def counted(*given):
        made.append(given)
        return build(*given)

    monkeypatch.setattr(run, "build", counted)
    first = cnnscope.sweep("alexnet", [64, 72, 80], cache=store).record
    assert len(made) == 1
    assert cnnscope.sweep("alexnet", [64, 72, 80], cache=store).record == first
    assert len(made) == 1
    cnnscope.sweep("alexnet", [80, 88], cache=store)
    assert len(made) == 2


@pytest.mark.broad
def test_memory_of_training_and_times_are_columns():
    report = cnnscope.sweep(
        "classic:lenet5",
        batch_sizes=[1, 2, 4],
        train=True,
        optimizer="adam",
        time=True,
        seconds=0.01,
    ).record
    alone = cnnscope.memory("classic:lenet5", batch_size=2, optimizer="adam").record
    assert report.rows[1].training_bytes == alone.tensors
    assert report.timing is not None
    assert [one.label for one in report.timing.runs] == [
        "batch size 1", "batch size 2", "batch size 4",
    ]  # fmt: skip
    assert {one.quantity for one in report.growth} >= {"training_bytes", "median_ns"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give several values of something"),
        (("-i", "64"), "give several values of something"),
        (
            ("-i", "3,224,224"),
            "commas stand between the values of a sweep; write one size as 3x224",
        ),
        (("-i", "64,,128"), "a value is empty"),
        (("-i", "64x64,64x64"), "the value 64x64 is given twice"),
        (("-i", "64,064"), "the value 64 or 064 is given twice"),
        (("-i", "64;96"), "';96' is not understood"),
        (("--dtype", "float32,float16"), "--dtype 'float32,float16': use one of"),
        (("-i", "64,128", "-i", "64,128,256"), "2 and 3 values"),
        (("-b", "0,1"), "every size from 1 up"),
        (("-b", "1,two"), "expected numbers"),
        (("--arg", "a=1,2", "--arg", "a=3"), "--arg a: given twice"),
        (("-b", "1,2", "--device", "cpu"), "--device has no effect here: it needs --time"),
        (("-b", "1,2", "--optimizer", "adam"), "--optimizer has no effect here: it needs --train"),
        (("-b", ",".join(map(str, range(1, 300)))), "200 are the most"),
    ],
)
def test_what_cannot_be_asked_for(options, message):
    result = run_cli("sweep", "classic:lenet5", *options)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,2", ["1", "2"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("'a,b',\"c\"", ["'a,b'", '"c"']),
        ("f(1, (2, 3)), 4", ["f(1, (2, 3))", "4"]),
    ],
)
def test_commas_stand_between_values(text, found):
    assert values.split(text, "--arg x") == found


def test_a_name_before_the_first_value_is_that_of_all():
    assert values.inputs(["ids=16:int64,32:int64", "mask=16"]) == [
        ["ids=16:int64", "mask=16"], ["ids=32:int64", "mask=16"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": "3x64x64"}, "give several values of something"),
        ({"inputs": 64, "batch_sizes": 4}, "give several values of something"),
        ({"inputs": ["64", 64]}, "input: the value 64 is given twice"),
        ({"inputs": ["64", torch.zeros(1, 3, 64, 64)]}, "for a named model give sizes"),
        ({"arguments": {"dropout": []}}, "dropout: the list of its values is empty"),
        ({"arguments": ["dropout"]}, "arguments: give values by name"),
        ({"batch_sizes": [1, True]}, "True: must be an integer"),
        ({"batch_sizes": "1,8"}, "'1,8': must be an integer"),
    ],
)
def test_what_cannot_be_asked_for_in_python(given, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        cnnscope.sweep("alexnet", **given)


def test_values_may_be_those_of_numpy():
    swept = cnnscope.sweep("classic:lenet5", batch_sizes=np.arange(1, 4)).record
    assert [row.values for row in swept.rows] == [("1",), ("2",), ("3",)]
    assert grown(swept)["macs"] == ("batch size", 1.0)
    asked = reports.choices("alexnet", (), {"dropout": [np.float64(0.5), 1]}, (), None, None)
    assert [one.values for one in asked.choices] == [("0.5",), ("1",)]


def test_a_module_has_no_choices():
    with pytest.raises(RequestError, match="give the name of a model"):
        cnnscope.sweep(object(), [1, 2])  # type: ignore[arg-type]
