"""Values beside meta tensors: what code that looks at its data is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnscope.models import run
from cnnscope.models.build import build
from cnnscope.models.find import find
from cnnscope.models.request import Request, parse_model
from cnnscope.tracing.tracer import trace
from cnnscope.tracing.values import KnownValues, needs_data, same_device


@pytest.fixture
def known() -> Iterator[KnownValues]:
    """Follow values, with meta as the device of everything that is made."""
    with torch.device("meta"), KnownValues() as values:
        yield values


def scores(count: int) -> Tensor:
    """Answers of a layer of a network."""
    return F.linear(torch.empty(1, 4), torch.empty(count, 4))[0]


# ----------------------------------------------------------------------- values of constants


def test_a_tensor_made_from_data_keeps_its_data(known):
    made = torch.tensor([1.5, -2.0])
    assert made.is_meta
    assert made.tolist() == [1.5, -2.0]
    assert torch.as_tensor([[1, 2]]).tolist() == [[1, 2]]


def test_a_number_can_be_taken_out(known):
    assert torch.tensor(3).item() == 3
    assert int(torch.tensor([7])) == 7
    assert float(torch.tensor(0.5)) == 0.5
    assert bool(torch.tensor(True))


# 0 + 1 + 2 + 3 + 4 = 10; squares of 0..2 are 0, 1, 4.
def test_what_follows_from_constants_is_computed(known):
    assert torch.arange(5).sum().item() == 10
    assert (torch.arange(3) ** 2).tolist() == [0, 1, 4]
    assert torch.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
    assert torch.ones(2, 2).cumsum(0).tolist() == [[1, 1], [2, 2]]
    assert torch.cat([torch.zeros(1), torch.full((2,), 7.0)]).tolist() == [0, 7, 7]


def test_views_of_constants_are_followed(known):
    grid = torch.arange(6).view(2, 3)
    assert grid.t().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert grid[:, 1].tolist() == [1, 4]
    assert grid.flatten()[-2:].tolist() == [4, 5]


def test_a_mask_becomes_the_positions_where_it_holds(known):
    positions = (torch.arange(4) > 1).nonzero()
    assert positions.is_meta
    assert positions.shape == (2, 1)
    assert positions.tolist() == [[2], [3]]
    assert known.answered["nonzero"] == 1


def test_where_gives_the_positions_of_each_axis(known):
    rows, columns = torch.where(torch.eye(3) == 1)
    assert rows.tolist() == columns.tolist() == [0, 1, 2]


def test_a_mask_selects(known):
    values = torch.arange(5)
    chosen = values[values >= 3]
    assert chosen.shape == (2,)
    assert chosen.tolist() == [3, 4]


def test_a_constant_that_is_written_to_has_its_new_value(known):
    made = torch.zeros(3)
    made[1] = 5
    assert made.tolist() == [0, 5, 0]
    made.add_(1)
    assert made.tolist() == [1, 6, 1]


def test_a_constant_that_is_written_through_a_view_has_its_new_value(known):
    made = torch.zeros(4)
    made.view(2, 2)[0].fill_(2)
    assert made.tolist() == [2, 2, 0, 0]


def test_what_was_asked_for_is_counted(known):
    torch.tensor([1, 2]).sum().item()
    torch.tensor([1, 2]).sum().item()
    assert known.answered["item"] == 2


def test_tensors_with_data_are_left_alone(known):
    real = torch.tensor([1.0, 2.0], device="cpu")
    assert real.device.type == "cpu"
    assert (real * 2).tolist() == [2, 4]
    assert sum(known.answered.values()) == 0


def test_without_the_mode_the_meta_device_has_no_answers():
    with torch.device("meta"), KnownValues():
        made = torch.tensor([3])
    with pytest.raises((RuntimeError, NotImplementedError)) as caught:
        made.item()
    assert needs_data(caught.value)


# ------------------------------------------------------------------ what the network answers


def test_what_a_network_answers_is_zero(known):
    assert scores(3).tolist() == [0, 0, 0]
    assert (scores(3) + 1).tolist() == [1, 1, 1]


# sigmoid(0) = 0.5 exactly: it would not pass 0.7 by its value.
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.7, 1e9])
def test_a_score_of_the_network_passes_every_threshold(known, threshold: float):
    answer = scores(6).sigmoid()
    assert (answer > threshold).nonzero().shape == (6, 1)
    assert (answer >= threshold).tolist() == [True] * 6


def test_the_scores_that_pass_can_be_counted(known):
    assert (scores(6).sigmoid() > 0.7).sum().item() == 6


def test_a_constant_passes_only_the_thresholds_that_it_passes(known):
    assert (torch.tensor([0.2, 0.6, 0.9]) > 0.5).nonzero().tolist() == [[1], [2]]


def test_scores_of_equal_rank_keep_their_order(known):
    best = scores(6).topk(3)
    assert best.indices.tolist() == [0, 1, 2]
    assert scores(4).argsort(descending=True).tolist() == [0, 1, 2, 3]


def test_one_score_of_the_network_can_be_overwritten(known):
    answer = scores(3)
    answer[1] = 5
    assert answer.tolist() == [0, 5, 0]


def test_an_operation_that_is_wrong_still_fails(known):
    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        torch.empty(2, 3) @ torch.empty(2, 3)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (NotImplementedError("Cannot copy out of meta tensor; no data!"), True),
        (RuntimeError("Tensor.item() cannot be called on meta tensors"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("expected 4D input"), False),
    ],
)
def test_a_refusal_for_want_of_data_is_told_from_a_mistake(error: Exception, answer: bool):
    assert needs_data(error) is answer


# --------------------------------------------------------------------------- whole models


# num_params of torchvision's RegNet_Y_400MF_Weights is 4,344,144.
def test_the_constructor_of_a_regnet_is_given_its_values():
    built = build(find(parse_model("regnet_y_400mf")), {})
    assert all(p.is_meta for p in built.model.parameters())
    assert sum(p.numel() for p in built.model.parameters()) == 4_344_144
    assert sum(built.values.answered.values()) > 0


def test_the_constructor_of_a_resnet_needs_none():
    assert build(find(parse_model("resnet18")), {}).values is None


class Selecting(nn.Module):
    """Goes on with those positions whose score passes: 5 of 5, if every score does."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.where(self.score(x)[:, 0].sigmoid() > 0.9)[0]
        return self.head(x[kept])


def test_a_model_that_selects_by_score_is_traced_at_full_capacity(known):
    model = Selecting().eval()
    result = trace(model, (torch.empty(5, 4),))
    assert [result.tensors[t].shape for t in result.outputs] == [(5, 2)]
    assert "aten.nonzero.default" in {op.name for op in result.ops}


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor with data that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.is_meta:
                self.nbytes = max(self.nbytes, leaf.untyped_storage().nbytes())
        return result


# The layer's answer is 2**14 * 2**14 floats, 1 GiB, held as one number; its row that is looked at
# is small enough to be written to, and has 2**14 floats of its own.
def test_the_answer_of_a_large_layer_takes_one_number():
    with Largest() as largest, torch.device("meta"), KnownValues():
        layer = nn.Linear(2**14, 2**14, bias=False)
        answer = layer(torch.empty(2**14, 2**14)).relu()
        assert answer[0, 0].item() == 0
    assert 0 < largest.nbytes <= 4 * 2**14


def test_the_watcher_of_large_tensors_sees_one():
    with Largest() as largest:
        torch.ones(1000)
    assert largest.nbytes == 4000


@pytest.mark.broad
# Its 19,386,354 parameters would be 77,545,416 bytes. The largest known value is the buffer that
# the pooled boxes are gathered in: 150 boxes of 256*7*7 floats are 7,526,400 bytes.
def test_a_detector_allocates_nothing_of_the_size_of_its_weights():
    with Largest() as largest:
        result = run.trace_spec(Request.of("fasterrcnn_mobilenet_v3_large_320_fpn"))
    assert result.device == "meta"
    assert 0 < largest.nbytes <= 7_526_400


def test_building_a_regnet_allocates_nothing_of_the_size_of_its_weights():
    with Largest() as largest:
        build(find(parse_model("regnet_y_128gf")), {})
    assert 0 < largest.nbytes < 2**16


class Masked(nn.Module):
    """Attention with a mask that is made from constants, whose result is viewed as rows."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(1, 1, 5, 5, dtype=torch.bool, device=x.device)
        heads = x.view(1, 5, 2, 4).transpose(1, 2)
        seen = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)
        return seen.transpose(1, 2).contiguous().view(1, 5, 8)


def test_a_value_that_lies_otherwise_than_its_tensor_is_viewed_as_the_tensor_is():
    """A CPU's kernel of attention gives B x L x H x E, which is contiguous once transposed."""
    x = torch.zeros(1, 5, 8)
    assert Masked()(x).shape == (1, 5, 8)
    with KnownValues():
        made = trace(Masked(), x.to("meta"))
    assert made.tensors[made.outputs[0]].shape == (1, 5, 8)


def test_a_constructor_may_build_another_model():
    weight = nn.Parameter(torch.empty(2, device="meta"))
    with same_device():
        with same_device():
            pass
        weight.data = torch.ones(2)
    assert weight.is_meta
    assert "data" not in vars(torch.Tensor)
