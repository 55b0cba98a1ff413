"""Recurrent layers as a CPU runs them with gradients.

On meta, torch multiplies the input of each time step by the weights; a CPU multiplies those of all
steps at once, in each direction of each layer, and what autograd keeps is other. So the functions
of PyTorch's `RNN.cpp` are here once more, with the CPU's branches: `FullLayer`,
`FullBidirectionalLayer`, `apply_layer_stack`, and the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

State = tuple[Tensor, ...]  # of one direction: (B, H), and of an LSTM (B, H) of its cells


class Weights(NamedTuple):
    """Weights of one direction of a layer, of inputs (gates * H, I) and of the state.

    `projection` is (P, H), for an LSTM whose output is projected.
    """

    of_input: Tensor
    of_state: Tensor
    bias_of_input: Tensor | None = None
    bias_of_state: Tensor | None = None
    projection: Tensor | None = None

    def inputs(self, x: Tensor) -> Tensor:
        """The products of inputs."""
        return functional.linear(x, self.of_input, self.bias_of_input)

    def state(self, h: Tensor) -> Tensor:
        """The product of a state."""
        return functional.linear(h, self.of_state, self.bias_of_state)


Cell = Callable[[Tensor, State, Weights], State]  # of the product of an input


def _gru(product: Tensor, state: State, weights: Weights) -> State:
    (h,) = state
    given, before = product.unsafe_chunk(3, 1), weights.state(h).unsafe_chunk(3, 1)
    reset = before[0].add_(given[0]).sigmoid_()
    update = before[1].add_(given[1]).sigmoid_()
    new = given[2].add(before[2].mul_(reset)).tanh_()
    return ((h - new).mul_(update).add_(new),)


def _simple(activation: Callable[[Tensor], Tensor]) -> Cell:
    def cell(product: Tensor, state: State, weights: Weights) -> State:
        return (activation(weights.state(state[0]).add_(product)),)

    return cell


def _lstm(product: Tensor, state: State, weights: Weights) -> State:
    h, c = state
    gates = weights.state(h).add_(product).unsafe_chunk(4, 1)
    let_in, forget = gates[0].sigmoid_(), gates[1].sigmoid_()
    cells, let_out = gates[2].tanh_(), gates[3].sigmoid_()
    after = (forget * c).add_(let_in * cells)
    out = let_out * after.tanh()
    if weights.projection is not None:
        out = functional.linear(out, weights.projection)
    return out, after


CELLS: Mapping[str, Cell] = {
    "gru": _gru,
    "rnn_tanh": _simple(torch.tanh),
    "rnn_relu": _simple(torch.relu),
    "lstm": _lstm,
}


def run(
    cell: Cell,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    *,
    dropout: float,
    both_ways: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """The outputs (T, B, ways * H), or (B, T, ways * H), and the last state of each direction.

    Args:
        cell: one of `CELLS`.
        x: a sequence (T, B, I), or (B, T, I).
        states: the first ones, each (layers * ways, B, H).
        weights: of each direction of each layer.
        dropout: between layers; 0 outside of training.
        both_ways: there are two directions.
        batch_first: the batch is the first axis of the sequence.
    """
    ways = 1 + both_ways
    x = x.transpose(0, 1) if batch_first else x
    first = list(zip(*(state.unbind(0) for state in states), strict=True))
    last: list[State] = []
    for begin in range(0, len(weights), ways):
        if begin and dropout:
            x = torch.dropout(x, dropout, True)
        x = _layer(cell, x, first[begin : begin + ways], weights[begin : begin + ways], last)
    x = x.transpose(0, 1) if batch_first else x
    return x, *(torch.stack(parts, 0) for parts in zip(*last, strict=True))


def _layer(
    cell: Cell, x: Tensor, first: Sequence[State], weights: Sequence[Weights], last: list[State]
) -> Tensor:
    """The outputs of a layer; the last state of each of its directions is put behind `last`."""
    outputs = []
    for way, (state, own) in enumerate(zip(first, weights, strict=True)):
        products = own.inputs(x)
        steps: list[Tensor] = []
        for product in products.unbind(0)[:: -1 if way else 1]:
            state = cell(product, state, own)  # noqa: PLW2901
            steps.append(state[0])
        outputs.append(torch.stack(steps[::-1] if way else steps, 0))
        last.append(state)
    return torch.cat(outputs, outputs[0].dim() - 1) if len(outputs) > 1 else outputs[0]


def gathered(weights: Sequence[Any], *, biased: bool, projected: bool) -> list[Weights]:
    """The weights of each direction of each layer, from those that torch's functions are given."""
    each = 2 + 2 * biased + projected
    found = []
    for begin in range(0, len(weights), each):
        parts = list(weights[begin : begin + each])
        projection = parts.pop() if projected else None
        found.append(Weights(*parts)._replace(projection=projection))
    return found
