"""The models of torchvision, as its builders make them, minus the downloads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torchvision
from torch import nn
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models._api import WeightsEnum

from cnnscope.errors import RequestError
from cnnscope.records.catalogue import About
from cnnscope.records.check import Published
from cnnscope.records.trace import Inputs, Shape, TensorSpec

_CLIP_LENGTH = 16  # frames, where the weights do not say
_FLOW_SIZE = (520, 960)  # RAFT's evaluation size on Sintel, padded to a multiple of 8
_FALLBACK_SIZE = 224


def names() -> list[str]:
    """Every model that torchvision registers."""
    return list(list_models())


def versions() -> dict[str, str]:
    """Of torch and torchvision."""
    return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the builder with `weights=None`, and nothing to load for its backbone.

    A segmentation model gets its auxiliary head, as the published ones have.
    """
    builder = get_model_builder(name)
    keywords = {"weights": None, **_published_arguments(builder), **arguments}
    _refuse_weights(arguments)
    with _nothing_to_load():
        model: nn.Module = builder(**keywords)
    return model


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """What its builder takes."""
    return inspect.signature(get_model_builder(name)).parameters


def default_inputs(name: str, model: nn.Module) -> Inputs:
    """The crop of the published weights; clips, pairs or lists of images where those are taken."""
    family = get_model_builder(name).__module__.removeprefix("torchvision.models.")
    kind = family.partition(".")[0]
    if kind == "optical_flow":
        return Inputs((TensorSpec((1, 3, *_FLOW_SIZE)),) * 2)
    if kind == "detection":
        return Inputs.listed([TensorSpec((3, *_detection_size(model)))])
    size = _image_size(name, model)
    if kind == "video":
        return Inputs((TensorSpec((1, 3, _clip_length(name), *size)),))
    return Inputs((TensorSpec((1, 3, *size)),))


def about(name: str, shape: Shape) -> About:
    """Family (the file that defines it), task (the folder), and published accuracy.

    Weights for another input size, and weights of the quantized form, say nothing of this model.
    """
    folder, _, family = get_model_builder(name).__module__.rpartition(".")
    task = folder.removeprefix("torchvision.models").strip(".") or "classification"
    found = [
        metrics["acc@1"]
        for weights in get_model_weights(name)
        for metrics in weights.meta["_metrics"].values()
        if "acc@1" in metrics and "backend" not in weights.meta and _crop(weights) == shape[-2:]
    ]
    return About(family, task.replace("_", " "), max(found, default=None))


def published(name: str) -> tuple[Published, ...]:
    """Parameters and MACs of each of a model's weights (`num_params` and `_ops`, in billions).

    They were counted on one image of 512x512, a clip of 16 of them or a pair, after the weights'
    own transforms (`get_ops` in torchvision's test/common_extended_utils.py).
    """
    return tuple(
        Published(
            weights.name,
            int(weights.meta["num_params"]),
            round(weights.meta["_ops"] * 1000) * 10**6,
            10**6,
            _counted_on(name, weights),
        )
        for weights in get_model_weights(name)
    )


def _counted_on(name: str, weights: WeightsEnum) -> Inputs:
    """Inputs that a model's published MACs were counted on."""
    kind = get_model_builder(name).__module__.removeprefix("torchvision.models.").partition(".")[0]
    transform = weights.transforms()
    if kind == "detection":
        return Inputs.listed([TensorSpec(tuple(transform(torch.zeros(3, 512, 512)).shape))])
    clip = (16,) if kind == "video" else ()
    image = torch.zeros(1, *clip, 3, 512, 512)
    seen = transform(image, image) if kind == "optical_flow" else (transform(image),)
    return Inputs(tuple(TensorSpec(tuple(tensor.shape)) for tensor in seen))


def _crop(weights: WeightsEnum) -> Shape:
    """The height and width that published weights were evaluated at."""
    size = list(getattr(weights.transforms(), "crop_size", ()))
    return (int(size[0]), int(size[-1])) if size else ()


def _published_arguments(builder: Callable[..., nn.Module]) -> dict[str, Any]:
    """Arguments of the published weights, where the builder's default differs."""
    if builder.__name__ == "ssdlite320_mobilenet_v3_large":
        return {"weights_backbone": None}  # its last block is narrower without them
    return {"aux_loss": True} if "aux_loss" in inspect.signature(builder).parameters else {}


def _clip_length(name: str) -> int:
    """Frames per clip with which the published accuracy was measured, told in the weights' docs."""
    docs = get_model_weights(name).DEFAULT.meta.get("_docs", "")
    found = re.search(r"clip_len=(\d+)", docs)
    return int(found[1]) if found else _CLIP_LENGTH


def _refuse_weights(arguments: Mapping[str, Any]) -> None:
    for name in ("weights", "weights_backbone", "pretrained", "pretrained_backbone"):
        if arguments.get(name):
            raise RequestError(
                f"--arg {name}: weights are never downloaded, and no number here depends on them; "
                "leave it out"
            )


@contextmanager
def _nothing_to_load() -> Iterator[None]:
    """Let builders name a backbone's weights (it makes them freeze batch norms) and load none."""
    with (
        mock.patch.object(WeightsEnum, "get_state_dict", return_value={}),
        mock.patch.object(nn.Module, "load_state_dict"),
    ):
        yield


def _detection_size(model: nn.Module) -> tuple[int, int]:
    """The size that a detector's own transform would resize to: no resampling is needed then."""
    transform: Any = model.transform
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return int(height), int(width)
    return (int(transform.min_size[-1]),) * 2


def _image_size(name: str, model: nn.Module) -> tuple[int, int]:
    """The size that the model is built for, else the crop of its published weights."""
    fixed = getattr(model, "image_size", None)
    if isinstance(fixed, int):
        return fixed, fixed
    transforms = get_model_weights(name).DEFAULT.transforms()
    for attribute in ("crop_size", "resize_size"):
        size = list(getattr(transforms, attribute, None) or ())
        if size:
            return int(size[0]), int(size[-1])
    return _FALLBACK_SIZE, _FALLBACK_SIZE
