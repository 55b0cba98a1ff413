"""Receptive fields measured by NaN: an oracle that knows nothing of rules, maps or layouts.

NaN in all of one row (or column) of the input reaches exactly the units that read it, through any
arithmetic that is done on it. Every row and column in turn gives the pixels of every unit.
"""

from __future__ import annotations

import copy

import torch

from cnnscope.analysis import positions, receptive_field
from cnnscope.tracing.tracer import trace

Hulls = list[tuple[int, int] | None]


def computed(model, inputs):
    """Field and positions of the model's output, from a trace without data."""
    copied = copy.deepcopy(model).to("meta")
    recorded = trace(copied, tuple(t.to("meta") for t in inputs))
    found = positions.positions(recorded)
    return receptive_field.fields(recorded)[recorded.outputs[0]], found


def measured(model, inputs, which: int, input_dim: int, dim: int) -> Hulls:
    """First and last pixel along a dimension of an input that each unit of the output sees."""
    reached = []
    for pixel in range(inputs[which].shape[input_dim]):
        poisoned = list(inputs)
        poisoned[which] = inputs[which].clone()
        poisoned[which].select(input_dim, pixel).fill_(float("nan"))
        with torch.no_grad():
            out = model(*poisoned)
        reached.append(out.isnan().movedim(dim, 0).flatten(1).any(1))
    seen = torch.stack(reached)  # pixel, unit
    hulls: Hulls = []
    for unit in range(seen.shape[1]):
        pixels = seen[:, unit].nonzero().flatten().tolist()
        hulls.append((pixels[0], pixels[-1]) if pixels else None)
    return hulls


def expected(field, axis: int) -> Hulls:
    """The same as the analysis has it: strictly, with what depends on the whole image."""
    units, whole = field.maps[axis], field.axes[axis]
    pairs = zip(units.lo, units.hi, strict=True)
    hulls: Hulls = [(lo, hi) if lo <= hi else None for lo, hi in pairs]
    if whole.size is None and whole.local_size is not None:
        return [hull and (0, whole.input_size - 1) for hull in hulls]
    return hulls
