"""Recurrent layers: one layer, in one or both directions, as torch has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, tensor_of


@operator("LSTM GRU RNN")
def recurrent(
    node: OnnxNode,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h: Value = None,
    c: Value = None,
    peephole: Value = None,
) -> Any:
    """A recurrent layer: X is L x N x I (N x L x I in layout 1), W and R have the directions first.

    Raises:
        RequestError: it has what torch's layers have not.
    """
    del lengths  # shorter sequences in a batch change no size
    _require_plain(node, peephole)
    data, first = tensor_of(x), bool(node.get("layout"))
    data = data.transpose(0, 1) if first else data
    backwards = node.get("direction", "forward") == "reverse"
    data = data.flip(0) if backwards else data
    weight, recurrence = tensor_of(w), tensor_of(r)
    directions, hidden = weight.shape[0], recurrence.shape[2]
    states = [_state(one, data, directions, hidden, first=first) for one in (h, c)]
    weights = _weights(weight, recurrence, None if b is None else tensor_of(b))
    result, *last = _run(node, data, states, weights, directions, biased=b is not None)
    result = result.flip(0) if backwards else result
    result = result.unflatten(2, (directions, hidden))
    if first:
        return (result.transpose(0, 1), *(one.transpose(0, 1) for one in last))
    return (result.transpose(1, 2), *last)


def _require_plain(node: OnnxNode, peephole: Value) -> None:
    """Refuse a layer whose arithmetic torch's has not.

    Raises:
        RequestError: peepholes.
    """
    if peephole is not None:
        raise RequestError(
            f"{node}: an LSTM with peepholes, which PyTorch has no layer for: refused"
        )


def _state(given: Value, data: Tensor, directions: int, hidden: int, *, first: bool) -> Tensor:
    """The first state: D x N x H."""
    if given is None:
        return torch.zeros((directions, data.shape[1], hidden), dtype=data.dtype, device="meta")
    return tensor_of(given).transpose(0, 1) if first else tensor_of(given)


def _weights(weight: Tensor, recurrence: Tensor, bias: Tensor | None) -> list[Tensor]:
    """As torch has them: of each direction those of the input, of the state, and the biases."""
    found: list[Tensor] = []
    for direction in range(weight.shape[0]):
        found += [weight[direction], recurrence[direction]]
        if bias is not None:
            found += bias[direction].chunk(2)
    return found


def _run(
    node: OnnxNode, data: Tensor, states: Sequence[Tensor], weights: list[Tensor], directions: int,
    *, biased: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    rest = (weights, biased, 1, 0.0, False, directions == 2, False)
    if node.op == "LSTM":
        return torch.lstm(data, tuple(states), *rest)
    relu = any(str(one).lower() == "relu" for one in node.get("activations") or ())
    plain: Any = torch.rnn_relu if relu else torch.rnn_tanh
    function: Any = torch.gru if node.op == "GRU" else plain
    made: tuple[Tensor, ...] = function(data, states[0], *rest)
    return made
