"""Widths of layers: what a layer of torch.nn takes, and the same layer for what it was given."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from cnnscope.records.trace import ModuleRecord, Shape
from cnnscope.tracing.modules import modules_of
from cnnscope.tracing.plain import module_record

# The argument that is a layer's width, and the dimension of its input that has to be as wide.
_WIDTHS = {
    "Linear": ("in_features", -1),
    "BatchNorm1d": ("num_features", 1),
    "BatchNorm2d": ("num_features", 1),
    "BatchNorm3d": ("num_features", 1),
    "SyncBatchNorm": ("num_features", 1),
    "InstanceNorm1d": ("num_features", 1),
    "InstanceNorm2d": ("num_features", 1),
    "InstanceNorm3d": ("num_features", 1),
    "GroupNorm": ("num_channels", 1),
    "PReLU": ("num_parameters", 1),
    "RNN": ("input_size", -1),
    "LSTM": ("input_size", -1),
    "GRU": ("input_size", -1),
    "RNNCell": ("input_size", -1),
    "LSTMCell": ("input_size", -1),
    "GRUCell": ("input_size", -1),
    "MultiheadAttention": ("embed_dim", -1),
    "Bilinear": ("in1_features", -1),
}
_FOLLOW = ("kdim", "vdim")  # as wide as the embedding, where nothing else is said
_SLIDES = re.compile(r"(?:Conv|ConvTranspose|(?:Adaptive)?(?:Max|Avg)Pool|InstanceNorm)([123])d")
_BATCH_NORMS = {"BatchNorm1d": (2, 3), "BatchNorm2d": (4,), "BatchNorm3d": (5,)}
_AXES = {1: "C x L", 2: "C x H x W", 3: "C x D x H x W"}


class Width(NamedTuple):
    """A layer's width, and another that it was given.

    Attributes:
        argument: of the constructor: "in_features".
        takes: what the layer was made for.
        given: what its input has; sizes of several dimensions for a layer norm.
    """

    argument: str
    takes: Any
    given: Any

    @property
    def noun(self) -> str:
        """What is counted: "channels", "features"."""
        features = ("in_features", "in1_features", "input_size", "embed_dim", "normalized_shape")
        noun = "feature" if self.argument in features else "channel"
        return noun if self.takes in (1, (1,)) else f"{noun}s"


def width(record: ModuleRecord, shape: Shape) -> Width | None:
    """The width of a layer where its input has another; None where it has not, or there is none."""
    if record.base in ("LayerNorm", "RMSNorm"):
        takes: Any = record.hyper.get("normalized_shape")
        takes = takes if isinstance(takes, tuple) else (takes,)
        given: Any = shape[-len(takes) :]
        argument = "normalized_shape"
    elif slides := re.fullmatch(r"(?:Conv|ConvTranspose)([123])d", record.base):
        axes = int(slides[1])
        argument, takes = "in_channels", record.hyper.get("in_channels")
        given = shape[-axes - 1] if len(shape) > axes else None
    else:
        argument, dimension = _WIDTHS.get(record.base, ("", 0))
        takes = record.hyper.get(argument)
        inside = -len(shape) <= dimension < len(shape)
        given = shape[dimension] if argument and inside else None
    one_slope = record.base == "PReLU" and takes == 1  # for however many channels
    known = takes is not None and given is not None and takes != given and not one_slope
    return Width(argument, takes, given) if known else None


def rank(record: ModuleRecord, shape: Shape) -> str:
    """The sizes that a layer takes, where its input has more or fewer: "N x C x H x W"."""
    slides = _SLIDES.fullmatch(record.base)
    if record.base in _BATCH_NORMS:
        ranks, axes = _BATCH_NORMS[record.base], int(record.base[-2])
        wanted = f"N x {_AXES[axes]}" + (" or N x C" if axes == 1 else "")
    elif slides:
        axes = int(slides[1])
        ranks, wanted = (axes + 1, axes + 2), f"N x {_AXES[axes]} or {_AXES[axes]}"
    else:
        return ""
    return wanted if len(shape) not in ranks else ""


def refitted(module: nn.Module, path: str, other: Width) -> nn.Module | None:
    """The same layer for the width that it was given, on its device.

    None where its class, its arguments or its hooks do not allow it.
    """
    record = module_record(path, module)
    plain = not (module._forward_hooks or module._forward_pre_hooks)
    if not record.library or not plain or "parametrized" in record.hyper:
        return None
    arguments = _accepted(type(module), record.hyper)
    follows = [name for name in _FOLLOW if arguments.get(name) == other.takes]
    arguments |= dict.fromkeys([*follows, other.argument], other.given)
    weight = next(module.parameters(), None)
    if weight is not None and not weight.is_meta and weight.numel() > _LARGEST:
        return None
    kind: Any = type(module)
    try:
        with torch.device("meta" if weight is None else weight.device):
            made: nn.Module = kind(**arguments)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, AssertionError):
        return None
    return made.eval() if weight is None else made.to(weight.dtype).eval()


_LARGEST = 10**7  # elements of a real weight that is made anew


def _accepted(kind: Any, hyper: dict[str, Any]) -> dict[str, Any]:
    """The hyper-parameters that the constructor takes."""
    parameters = inspect.signature(kind).parameters.values()
    named = {p.name for p in parameters}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # a recurrent layer
        return {name: value for name, value in hyper.items() if name != "mode" and value}
    return {name: value for name, value in hyper.items() if name in named}


@contextmanager
def standing_in(model: nn.Module, layer: nn.Module, other: nn.Module) -> Iterator[nn.Module]:
    """Yield the model with another module wherever a layer is; as it was afterwards."""
    if layer is model:
        yield other
        return
    places = [
        (parent._modules, name)
        for _, parent in modules_of(model)
        for name, child in parent._modules.items()
        if child is layer
    ]
    try:
        for children, name in places:
            children[name] = other
        yield model
    finally:
        for children, name in places:
            children[name] = layer
