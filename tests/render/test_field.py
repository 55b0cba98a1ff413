"""The table of `cnnscope rf`: the tree of the summary, with fields in it."""

import pytest
from command_line import run_cli
from torch import nn

import cnnscope
from cnnscope.render import drawing, page
from cnnscope.render.tree import Options


@pytest.fixture(scope="module")
def densenet121():
    return cnnscope.rf("densenet121")


def test_rows_of_a_deep_network_are_folded_and_differ_at_80_columns(densenet121):
    text = densenet121.fitted(40).table(width=80)
    rows = text.split("\n\n")[1].splitlines()[1:]
    assert len(text.splitlines()) < 40
    assert "…" not in text
    names = [row.split()[0] for row in rows]
    assert names[:8] == [
        "features", "conv0", "norm0", "relu0", "pool0", "denseblock1", "denselayer1", "denselayer2",
    ]  # fmt: skip
    # pool0 sees 7 + 2 * 2 = 11; each dense layer has one 3x3 at stride 4: 2 * 4 pixels more
    assert [row.split()[2] for row in rows[4:8]] == ["11", "59", "19", "27"]
    assert "--depth 4" in text


def test_every_layer_is_listed_on_request(densenet121):
    shown = densenet121.view(depth=0, unfold=True).page().tables[0].rows
    leaves = len(densenet121.record.layers)
    assert len(shown) == leaves + len(densenet121.record.blocks) - 1  # without the model itself
    out = run_cli("rf", "densenet121", "--all").out
    assert out.split("\n\n")[1].count("\n") == len(shown)


def test_equal_blocks_share_a_line_whose_field_is_that_of_the_last():
    net = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()) for _ in range(4))
    )
    found = cnnscope.rf(net, inputs=(1, 2, 32, 32))
    (line, *_) = found.page(depth=1).tables[0].rows
    # 1 + 4 * (3 - 1) = 9
    assert (line[0], line[2]) == ("0-3", "9")
    opened = found.page(depth=2).tables[0].rows
    assert [row[0].strip() for row in opened] == ["0-3", "each", "0", "1"]
    assert [row[2] for row in opened] == ["9", "3", "3", "3"]


def test_a_closed_block_says_how_many_of_its_layers_find_nothing_new():
    # 8x8 is seen by the shortest path after 4 convolutions of 3: 3, 5, 7, 9; two more follow
    convs = (nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(6))
    net = nn.Sequential(nn.Sequential(*convs), nn.Sigmoid())
    found = cnnscope.rf(net, inputs=(1, 1, 8, 8))
    assert len(found.record.unproductive) == 2
    table = drawing.page(found.record, options=Options(depth=1)).tables[0]
    assert [row[-1] for row in table.rows] == ["2 unproductive", ""]
    deep = drawing.page(found.record, options=Options(depth=2)).tables[0]
    assert [row[-1] for row in deep.rows] == ["", *[""] * 4, *["unproductive"] * 2, ""]
    assert [page.DIFFERENT in style for style in deep.styles] == [True] * 8  # of the last column
    assert [style[1] for style in deep.styles] == ["", *[""] * 4, *[page.DIFFERENT] * 2, ""]


def test_blocks_are_in_the_json_and_each_row_names_the_one_around_it(densenet121):
    record = densenet121.record
    for row in (*record.layers, *record.blocks[1:]):
        outer = record.blocks[row.parent]
        assert row.path.startswith(outer.path)
        assert row.depth == outer.depth + 1
    assert record.blocks[0].parent == -1


@pytest.mark.parametrize(
    "words",
    [
        ("--depth", "1", "--verify"),
        ("c3", "--unfold"),
        ("--depth", "1", "-f", "csv"),
        ("--depth", "x"),
    ],
)
def test_options_of_the_table_are_refused_where_there_is_none(words):
    result = run_cli("rf", "classic:lenet5", *words)
    assert (result.code, result.out) == (2, "")
    assert words[0 if words[0].startswith("--") else 1] in result.err


class Outputs(nn.Module):
    """A map, and a number of all of it that is computed before, or after, another layer."""

    def __init__(self, first):
        super().__init__()
        self.a, self.b, self.first = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), first

    def forward(self, x):
        y = self.a(x)
        if self.first:
            return y.mean(), self.b(y)
        return self.b(y), y.mean()


def test_all_of_the_input_is_seen_from_a_layer_on_only_if_every_later_one_sees_it():
    before, after = (cnnscope.rf(Outputs(first), inputs=(1, 3, 9, 9)) for first in (True, False))
    assert (before.record.covers_input_at, after.record.covers_input_at) == ("", "mean")
    assert "all of the input, at mean, and not in every layer after it" in str(before)
    assert "all of the input, from mean on" in str(after)
    assert "all of it from" not in str(cnnscope.summary(Outputs(True), inputs=(1, 3, 9, 9)))


def test_units_in_the_middle_see_all_of_the_input_before_those_at_its_borders():
    # 5 pixels: the unit in the middle sees 5 of them after two convolutions, a corner 3
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(2)))
    assert "all of the input in the middle, at 1 first" in str(
        cnnscope.rf(net, inputs=(1, 1, 5, 5))
    )
    assert "no unit sees all of it" in str(cnnscope.rf(net, inputs=(1, 1, 9, 9)))


def test_borders_that_wrap_around_are_not_the_middle():
    # a unit in the middle sees 3 of 9 pixels; the first one the last pixel as well
    net = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    shown = str(cnnscope.rf(net, inputs=(1, 1, 9, 9)))
    assert "all of the input only at borders that wrap around, at the model first" in shown
