"""The memory of a real forward or training step on the CPU, measured by torch's allocator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cnnscope.measure import allocations
from cnnscope.measure.allocations import Live
from cnnscope.measure.training import RealStep
from cnnscope.tracing.arguments import Arguments


def live(model: nn.Module, *inputs: Any) -> Live:
    """Run a model on the CPU in eval mode without gradients, and tell what was alive.

    Inputs are among it; parameters and buffers are not.
    """
    model.eval()
    with torch.no_grad():
        return allocations.live(lambda: model(*inputs), tensors(inputs))


def live_step(
    model: nn.Module,
    inputs: Any,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Any], Tensor],
    *,
    accumulates: bool = False,
) -> int:
    """The peak of tensors alive in a training step on the CPU, the second of two.

    Parameters, buffers, inputs and what the optimizer keeps are among them.
    """
    given = Arguments(tuple(inputs))
    return RealStep(model, given, optimizer, loss, accumulates=accumulates).live().peak


def tensors(value: Any) -> Iterator[Tensor]:
    """Every dense tensor in nested containers."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            yield leaf
