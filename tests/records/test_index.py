"""Lookups over a trace: what made a tensor, what reads it, what ran inside a call."""

import msgspec
import pytest
import torch
from torch import nn

from cnnscope.records.trace import Trace
from cnnscope.tracing.tracer import trace


class Twice(nn.Module):
    """Runs one convolution twice, and adds what went in."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.cat([self.body(self.body(x)), x]) * self.scale


@pytest.fixture(scope="module")
def traced():
    return trace(Twice(), (torch.empty(1, 3, 8, 8, device="meta"),))


def test_calls_have_a_path_and_a_number(traced):
    keys = (("", 1), ("body", 1), ("body.0", 1), ("body.1", 1),
            ("body", 2), ("body.0", 2), ("body.1", 2))  # fmt: skip
    assert traced.index.keys == keys
    assert traced.index.calls == {key: call for call, key in enumerate(keys)}
    assert traced.index.children == {-1: [0], 0: [1, 4], 1: [2, 3], 4: [5, 6]}


def test_operations_lie_in_calls_in_order(traced):
    # convolution, relu, convolution, relu, cat, mul
    assert traced.index.own_ops == {2: [0], 3: [1], 5: [2], 6: [3], 0: [4, 5]}
    assert traced.index.all_ops[0] == [0, 1, 2, 3, 4, 5]
    assert traced.index.all_ops[4] == [2, 3]
    assert traced.index.events(0) == [(False, 1), (False, 4), (True, 4), (True, 5)]
    assert traced.index.path(traced.ops[3]) == "body.1"


def test_tensors_have_a_maker_and_readers(traced):
    (x,) = traced.inputs
    first, cat, mul = traced.ops[0], traced.ops[4], traced.ops[5]
    weight = next(p.tensor for p in traced.params if p.path == "body.0.weight")
    scale = next(p.tensor for p in traced.params if p.path == "scale")
    assert traced.index.maker[cat.outputs[0]] == 4
    assert x not in traced.index.maker
    assert traced.index.readers[x] == [0, 4]
    assert traced.index.readers[weight] == [0, 2]
    assert cat.tensors == (traced.ops[3].outputs[0], x)
    assert [name for name, _ in cat.arguments()] == ["tensors", "tensors"]
    assert mul.tensors == (cat.outputs[0], scale)
    assert first.outputs[0] in traced.index.from_input
    assert scale not in traced.index.from_input


def test_the_index_is_built_once_and_not_saved(traced):
    assert traced.index is traced.index
    saved = msgspec.json.encode(traced)
    assert "index" not in msgspec.json.decode(saved)
    again = msgspec.json.decode(saved, type=Trace)
    assert again == traced
    assert again.index.keys == traced.index.keys
