"""Influence of each pixel on a unit: input gradients of the model with random weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnscope.errors import ModelError
from cnnscope.records.form import Form
from cnnscope.records.trace import Shape
from cnnscope.tracing import isolation
from cnnscope.tracing.arguments import arguments
from cnnscope.tracing.modules import untouched


class Unit(NamedTuple):
    """One unit of the output of a module call: its place along each of the dimensions `dims`."""

    path: str
    call: int
    dims: tuple[int, ...]
    place: tuple[int, ...]


def influence(
    model: nn.Module,
    shape: Shape,
    wanted: Sequence[Unit],
    *,
    samples: int,
    seed: int,
    form: Form | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[Unit, Tensor | None]:
    """The mean over random inputs of each unit's absolute input gradient.

    Inputs are standard normal. A unit is the sum of its channels; the absolute gradient is summed
    over the channels of the input (Luo et al., "Understanding the Effective Receptive Field in
    Deep Convolutional Neural Networks", 2016, section 3).

    Args:
        model: with weights, on the CPU; it is left as it was.
        shape: of its one input (N, C, then the spatial axes).
        wanted: the units.
        samples: how many inputs are averaged.
        seed: of the inputs.
        form: of the call; None gives the input by its place.
        advance: called after each input.

    Returns:
        For each unit a tensor over the spatial axes; None where no gradient came back.

    Raises:
        ModelError: the model failed.
    """
    with isolation.alone, isolation.seeded(seed), untouched(model):
        return _influence(_Watcher(model, wanted, form), shape, samples, seed, advance)


def _influence(
    watcher: _Watcher,
    shape: Shape,
    samples: int,
    seed: int,
    advance: Callable[[], None],
) -> dict[Unit, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    sums: dict[Unit, Tensor | None] = dict.fromkeys(watcher.units)
    for _ in range(samples):
        x = torch.randn(shape, generator=generator).requires_grad_()
        for unit, total in watcher.run(x):
            (gradient,) = torch.autograd.grad(total, x, retain_graph=True, allow_unused=True)
            if gradient is not None:
                seen = gradient.abs().sum((0, 1))
                before = sums[unit]
                sums[unit] = seen if before is None else before + seen
        advance()
    return {u: None if total is None else total / samples for u, total in sums.items()}


class _Watcher:
    """Catches units as their modules return them, before anything is written over them."""

    def __init__(self, model: nn.Module, wanted: Sequence[Unit], form: Form | None) -> None:
        self.model, self.units, self.form = model, tuple(wanted), form
        self.wanted: dict[tuple[str, int], list[Unit]] = {}
        for unit in wanted:
            self.wanted.setdefault((unit.path, unit.call), []).append(unit)
        self.paths = {module: path for path, module in model.named_modules()}

    def run(self, x: Tensor) -> list[tuple[Unit, Tensor]]:
        calls: Counter[str] = Counter()
        found: list[tuple[Unit, Tensor]] = []

        def leave(module: nn.Module, _: Any, result: Any) -> None:
            path = self.paths[module]
            calls[path] += 1
            tensor = _first(result)
            if tensor is not None and tensor.requires_grad:
                here = self.wanted.get((path, calls[path]), ())
                found.extend((unit, _at(tensor, unit)) for unit in here)

        named = {path for path, _ in self.wanted}
        with ExitStack() as stack:
            for module, path in self.paths.items():
                if path in named:
                    stack.callback(module.register_forward_hook(leave).remove)
            try:
                with torch.enable_grad():
                    # a copy: some models write to their input
                    arguments(self.form, [x * 1]).call(self.model)
            except Exception as error:
                text = " ".join(str(error).split())[:200]
                raise ModelError(
                    f"forward failed on random inputs: {text}; leave --effective out"
                ) from error
        return found


def _at(tensor: Tensor, unit: Unit) -> Tensor:
    index: list[Any] = [slice(None)] * tensor.dim()
    for dim, position in zip(unit.dims, unit.place, strict=True):
        index[dim] = position
    return tensor[tuple(index)].sum()


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(items, str) and hasattr(items, "__iter__"):
        return next((t for item in items if (t := _first(item)) is not None), None)
    return None
