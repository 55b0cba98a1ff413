"""The models of timm (PyTorch Image Models), never with their weights. Needs the extra `timm`."""

from __future__ import annotations

import difflib
import inspect
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from cnnscope.errors import RequestError
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable

# What would fetch weights, and what would make a model that does not classify one image.
_WEIGHTS = ("pretrained", "pretrained_cfg", "checkpoint_path", "cache_dir")


def names() -> list[str]:
    """Every architecture that timm registers."""
    return list(timm.list_models())


def current(name: str) -> str:
    """The name of an architecture, with a tag or not; of a deprecated name, the one in its place.

    Raises:
        RequestError: the architecture has no such tag.
    """
    deprecated = timm.models.get_deprecated_models()
    name = deprecated.get(name) or name
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        return ""
    tags = [one.partition(".")[2] for one in timm.models.get_arch_pretrained_cfgs(architecture)]
    if tag in ("", *tags) or (architecture in deprecated and not tag):
        return name
    near = difflib.get_close_matches(tag, tags, n=4, cutoff=0.3) or sorted(filter(None, tags))[:8]
    has = f"; it has {', '.join(near)}" if near else " and no other"
    raise RequestError(f"timm:{printable(name)}: {architecture} has no tag {printable(tag)!r}{has}")


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """What its builder names, beside what it hands on."""
    return inspect.signature(timm.model_entrypoint(name)).parameters


def versions() -> dict[str, str]:
    """Of torch and timm."""
    return {"torch": str(torch.__version__), "timm": str(timm.__version__)}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """`timm.create_model(name, pretrained=False)`, which downloads nothing.

    A tag (`resnet50.a1_in1k`) chooses the configuration: its input size and number of classes.

    Raises:
        RequestError: an argument that is about weights.
    """
    for argument in _WEIGHTS:
        if arguments.get(argument):
            raise RequestError(
                f"--arg {argument}: weights are never downloaded or loaded, and no number here "
                "depends on them; leave it out"
            )
    _take_back(name.partition(".")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = timm.create_model(name, **{**arguments, "pretrained": False})
    sizes = _input_size(model, arguments)
    model.pretrained_cfg = {**_config(model), "input_size": sizes}  # type: ignore[assignment]
    return model


def default_inputs(name: str, model: nn.Module) -> Inputs:
    """One image of the size in the model's `pretrained_cfg`, or that it was built for."""
    del name
    return Inputs((TensorSpec((1, *_config(model)["input_size"])),))


def about(name: str, shape: Shape) -> About:
    """The file that it is in; timm's accuracies are not in the package."""
    del shape
    entry: Any = timm.model_entrypoint(name)
    return About(entry.__module__.rpartition(".")[2])


def _take_back(architecture: str) -> None:
    """Register timm's own builder again, where a user's file has registered one in its place."""
    builders = timm.models._registry._model_entrypoints
    held = builders.get(architecture)
    if held is None or held.__module__.startswith("timm."):
        return
    for name, module in list(sys.modules.items()):
        own: Any = getattr(module, architecture, None) if name.startswith("timm.models.") else None
        if getattr(own, "__module__", "") == name:
            builders[architecture] = own


def _config(model: nn.Module) -> dict[str, Any]:
    return dict(getattr(model, "pretrained_cfg", None) or {"input_size": (3, 224, 224)})


def _input_size(model: nn.Module, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """Channels, height and width: those of the configuration, but for what was asked of timm."""
    channels, height, width = _config(model).get("input_size") or (3, 224, 224)
    side = arguments.get("img_size", (height, width))
    height, width = side if isinstance(side, (tuple, list)) else (side, side)
    return int(arguments.get("in_chans", channels)), int(height), int(width)
