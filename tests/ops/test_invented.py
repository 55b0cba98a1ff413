"""Operations that nobody has heard of: one entry in the table, and everything knows them."""

import json

import pytest
import torch
from torch import Tensor, nn

from cnnscope.analysis import cost
from cnnscope.ops import entry, table
from cnnscope.ops.entry import Entry, Family, Kind
from cnnscope.ops.fields import rules
from cnnscope.reports.explain import explain_layers
from cnnscope.reports.stages import stages_report
from cnnscope.reports.summary import report
from cnnscope.tracing.tracer import trace


@torch.library.custom_op("invented::blur", mutates_args=())
def blur(x: Tensor, kernel_size: list[int]) -> Tensor:
    return nn.functional.avg_pool2d(x, kernel_size, stride=kernel_size)


@blur.register_fake
def _(x, kernel_size):
    return nn.functional.avg_pool2d(x, kernel_size, stride=kernel_size)


@torch.library.custom_op("invented::pairs", mutates_args=())
def pairs(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("nchw,ndhw->ncd", x, y)


@pairs.register_fake
def _(x, y):
    return x.new_empty(x.shape[0], x.shape[1], y.shape[1])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = torch.ops.invented.blur(self.conv(x), [2, 2])
        return torch.ops.invented.pairs(x, self.head(x))


def blurred(op):
    return ({"output elements": op.out, "window": op.get("kernel_size")},)


def paired(op):
    (batch, rows, *positions), columns = op.shape("x"), op.shape("y")[1]
    return ({"batch": batch, "rows": rows, "columns": columns, "positions": tuple(positions)},)


@pytest.fixture
def entered():
    """The two entries that a stranger would add, for the length of a test."""
    how = "one addition for each element"
    pool = Entry(
        "blur", Kind.ELEMENT, Family.AVERAGE_POOL, steps=blurred, field=rules.pool, how=how
    )
    entry.enter("invented.blur", pool)
    entry.register_product(Family.OTHER_PRODUCT, "pairs", "invented.pairs")(paired)
    yield
    del table.TABLE["invented.blur"], table.TABLE["invented.pairs"]


@pytest.fixture
def traced():
    return trace(Net(), (torch.empty(1, 3, 34, 34, device="meta"),))


def test_an_operation_without_an_entry_is_named_and_costs_nothing(traced):
    assert {one.name for one in cost.unknown_ops(traced)} == {
        "invented.blur.default",
        "invented.pairs.default",
    }


def test_one_entry_is_enough_for_costs_and_shapes(traced, entered):
    found = report(traced)
    rows = {row.name: row for row in found.layers}
    assert cost.unknown_ops(traced) == ()
    # 32x32 after the convolution, 16x16 after the blur, 2x2 elements in each of 8*16*16 windows
    assert rows["blur"].element_ops == 8 * 16 * 16 * 4
    assert rows["blur"].expected_output == rows["blur"].output_shapes[0] == (1, 8, 16, 16)
    assert rows["blur"].geometry.kernel_size == (2, 2)
    # each of 8 channels with each of 4, at 16*16 positions
    assert rows["pairs"].macs == 8 * 4 * 16 * 16
    assert found.totals.macs == 27 * 8 * 32 * 32 + 8 * 4 * 16 * 16 + 8 * 4 * 16 * 16


def test_one_entry_is_enough_for_receptive_fields(traced, entered):
    rows = {row.name: row for row in report(traced).layers}
    # 3 + (2 - 1)*1 = 4, a unit every 2 pixels
    assert [(a.size, a.stride) for a in rows["blur"].field] == [(4, 2)] * 2
    assert rows["pairs"].field is None
    assert rows["pairs"].field_unknown  # it has no rule


def test_one_entry_is_enough_for_explanations(traced, entered):
    steps = {s.topic: s for s in explain_layers(traced, "pairs").layers[0].steps}
    assert steps["MACs"].formula == "rows * columns * positions"
    assert steps["MACs"].arithmetic == "8*4*16*16"
    blur_steps = {s.topic: s for s in explain_layers(traced, "blur").layers[0].steps}
    assert blur_steps["element ops"].note == "one addition for each element"
    assert blur_steps["receptive field"].arithmetic == "3 + 1*(2 - 1)*1"


def test_one_entry_is_enough_for_tables_of_stages_and_json(traced, entered):
    (model,) = stages_report([traced]).models
    kinds = [p.kind for s in model.stages for item in s.items for p in item.parts]
    assert kinds == ["conv", "average pool", "conv"]
    assert "pairs" in json.dumps([row.operation for row in report(traced).layers])
