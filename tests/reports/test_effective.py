"""`rf --effective`: effective receptive fields, against a sum by hand and the theoretical ones."""

from __future__ import annotations

import json

import torch
from command_line import run_cli
from torch import nn

from cnnscope.measure.influence import Unit, influence
from cnnscope.reports.effective import THRESHOLD


def test_effective_field_of_boxes_is_the_binomial():
    # ten boxes of 3 pixels: trinomial coefficients; those above 4.55 % of the largest (8953):
    # 1, 10, 55, 210 are below 407.4, then 615, 1452, 2850, 4740, 6765, 8350, 8953: 13 of 21 pixels
    model = nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1, bias=False) for _ in range(10)])
    for layer in model:
        nn.init.ones_(layer.weight)
    unit = Unit("9", 1, (2,), (20,))
    gradient = influence(model, (1, 1, 41), [unit], samples=2, seed=0)[unit]
    assert gradient[10:21].tolist() == [1, 10, 55, 210, 615, 1452, 2850, 4740, 6765, 8350, 8953]
    assert int((gradient > THRESHOLD * gradient.max()).sum()) == 13


def test_effective_fields_lie_within_the_theoretical_ones_and_can_be_had_again():
    arguments = ("rf", "squeezenet1_1", "features.4", "--effective", "--samples", "2", "-f", "json")
    first, again = run_cli(*arguments), run_cli(*arguments)
    other = run_cli(*arguments, "--seed", "1")
    assert first == again
    assert first.out != other.out
    (layer,) = json.loads(first.out)["layers"]
    for (a, b), (lo, hi) in zip(layer["box"], layer["clipped"], strict=True):
        assert lo <= a <= b <= hi
    assert 1 <= layer["size"] <= layer["field"][0]["local_size"]


def test_effective_leaves_torch_s_random_state_alone():
    before = torch.get_rng_state()
    run_cli("rf", "squeezenet1_1", "features.0", "--effective", "--samples", "1")
    assert torch.equal(torch.get_rng_state(), before)


def test_effective_asks_for_memory_beforehand(monkeypatch):
    # 61,100,840 weights of 4 bytes are 0.23 GiB
    monkeypatch.setattr("cnnscope.parallel.free_memory", lambda: 2**27)
    result = run_cli("rf", "alexnet", "features.0", "--effective")
    assert (result.code, result.out) == (2, "")
    assert "alexnet needs at least 0.2 GiB by the trace, and 0.1 GiB are free" in result.err


def test_effective_table_grows_layer_by_layer():
    result = run_cli("rf", "alexnet", "--effective", "--samples", "1")
    assert result.code == 0
    assert "features.1 " in result.out
    assert "4.55 %" in result.out
