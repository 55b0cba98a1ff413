"""Models of Hugging Face's transformers, never with their weights. Needs the extra `hf`.

A name is a class of a model (`ResNetForImageClassification`, with the default configuration), a
kind of model (`resnet`), a folder with a `config.json`, or a name on the hub, such as
`microsoft/resnet-50`, whose configuration is in the local cache. Nothing is downloaded, and no code
that a configuration points to is run.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import torch
import transformers
from torch import nn

from cnnscope.errors import RequestError
from cnnscope.files import is_folder, read_regular
from cnnscope.records.catalogue import About
from cnnscope.records.form import Form, Slot
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable, said

_LARGEST = 2**20  # bytes of a configuration
_SIDE = 224
_TOKENS = 128
_SAMPLES = 16_000  # a second of sound
_MODEL = re.compile(r"^(?!Auto|TF|Flax|Data)[A-Z]\w*?(Model|For[A-Z]\w+)$")
_WEIGHTS = ("use_pretrained_backbone",)  # what makes a constructor fetch weights


def names() -> list[str]:
    """Classes of models of this release, by their names alone: to import them takes long."""
    return [name for name in dir(transformers) if _MODEL.search(name)]


def current(name: str) -> str:
    """The name as it is: what it means is found when it is built."""
    return name


def versions() -> dict[str, str]:
    """Of torch and transformers."""
    return {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a model of its configuration.

    Args:
        name: see above.
        arguments: fields of the configuration, such as `num_labels`; `num_classes` is that one.

    Raises:
        RequestError: there is no such model, or its configuration would have to be downloaded.
    """
    given = dict(arguments)
    if "num_classes" in given:
        given["num_labels"] = given.pop("num_classes")
    config, model = _meant(name, given)
    for field in _WEIGHTS:
        if getattr(config, field, False):
            setattr(config, field, False)
    with mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", new=True):
        made: nn.Module = model(config)
    return made


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Fields of the configuration of a class or kind of model; none for a folder."""
    kind = _class_of_config(name)
    return inspect.signature(kind).parameters if kind is not None else {}


def default_inputs(name: str, model: nn.Module) -> Inputs:
    """What its configuration says of its inputs, by name: an image or a clip, tokens, sound."""
    del name
    takes = inspect.signature(model.forward).parameters
    config: Any = getattr(model, "config", None)
    found = {kind: spec for kind, spec in _offered(config).items() if kind in takes}
    main = getattr(model, "main_input_name", "")
    if main in found and not ({"pixel_values", "input_ids"} <= set(found)):
        decoder = [one for one in found if one.startswith("decoder")]
        found = {one: found[one] for one in (main, *decoder)}
    names = tuple(found)
    form = Form((), tuple((one, Slot()) for one in names))
    specs = tuple(TensorSpec(found[one].shape, found[one].dtype, one) for one in names)
    return Inputs(specs, form) if names else Inputs(())


def _offered(config: Any) -> dict[str, TensorSpec]:
    """Inputs that models take, by the names that transformers gives them."""
    text = getattr(config, "text_config", None) or config
    offered = {}
    if hasattr(text, "vocab_size"):
        length = min(_TOKENS, getattr(text, "max_position_embeddings", None) or _TOKENS)
        offered["input_ids"] = TensorSpec((1, length), "int64")
        if getattr(config, "is_encoder_decoder", False):
            offered["decoder_input_ids"] = offered["input_ids"]
    mels = getattr(config, "num_mel_bins", None)
    if mels:
        frames = 2 * (getattr(config, "max_source_positions", None) or 1500)
        offered["input_features"] = TensorSpec((1, mels, frames))
    offered["pixel_values"] = TensorSpec(_image(config))
    offered["input_values"] = TensorSpec((1, _SAMPLES))
    return offered


def about(name: str, shape: Shape) -> About:
    """Nothing is published in the package."""
    del name, shape
    return About(family="")


def _image(config: Any) -> Shape:
    """N, C, H, W of an image, and N, T, C, H, W of a clip."""
    config = getattr(config, "vision_config", None) or config
    side = getattr(config, "image_size", None) or _SIDE
    sides = tuple(side) if isinstance(side, (list, tuple)) else (side, side)
    channels = getattr(config, "num_channels", None) or 3
    frames = getattr(config, "num_frames", None)
    return (1, *((frames,) if frames else ()), channels, *sides)


# ------------------------------------------------------------------------- what a name means


def _meant(name: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration that a name means, and the class of the model."""
    if is_folder(name) or Path(name).name == "config.json":
        return _of_config(name, _read(_config_in(name)), given)
    if "/" in name:
        return _of_config(name, _read(_cached(name)), given)
    kind = _class_of_config(name)
    if kind is None:
        raise _unknown(name)
    config = _configured(name, kind, given)
    found = getattr(transformers, name, None)
    return config, found if hasattr(found, "config_class") else _auto(config, ())


def _class_of_config(name: str) -> Any:
    """The class of the configuration that a class or kind of model has; None for none."""
    found: Any = getattr(transformers, name, None) if name.isidentifier() else None
    if inspect.isclass(found) and issubclass(found, transformers.PretrainedConfig):
        return found
    config = getattr(found, "config_class", None)
    if inspect.isclass(found) and config is not None:
        return config
    if name not in transformers.CONFIG_MAPPING:
        return None
    return transformers.CONFIG_MAPPING[name]


def _configured(name: str, kind: Any, given: Mapping[str, Any]) -> Any:
    try:
        return kind(**given)
    except Exception as error:
        raise RequestError(
            f"hf:{printable(name)}: {kind.__name__} cannot be made ({said(error)})"
        ) from error


def _of_config(name: str, fields: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration in a file, and the model that it is of.

    Raises:
        RequestError: it is of a kind that this release does not have, or of code of its own.
    """
    kind = fields.get("model_type") if isinstance(fields, dict) else None
    if kind not in transformers.CONFIG_MAPPING:
        own = "its code is not run: name it as path/net.py:Net"
        reason = own if isinstance(fields, dict) and "auto_map" in fields else "name a class"
        raise RequestError(
            f"hf:{printable(name)}: its configuration has model_type {printable(str(kind))!r}, "
            f"which transformers {transformers.__version__} does not know; {reason}"
        )
    config = _configured(name, transformers.CONFIG_MAPPING[kind], {**fields, **given})
    return config, _auto(config, fields.get("architectures") or ())


def _auto(config: Any, architectures: Any) -> Any:
    """The class of a model: the one that a configuration names, else the bare model."""
    for name in architectures:
        found = getattr(transformers, str(name), None)
        if inspect.isclass(found) and getattr(found, "config_class", None) is not None:
            return found
    mapping = importlib.import_module("transformers.models.auto.modeling_auto").MODEL_MAPPING
    found = mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _config_in(name: str) -> Path:
    path = Path(name)
    return path / "config.json" if is_folder(path) else path


def _cached(name: str) -> Path:
    """The configuration of a name on the hub, in the local cache.

    Raises:
        RequestError: it is not there; with what to do.
    """
    repository, _, revision = name.partition("@")
    try:
        found = huggingface_hub.try_to_load_from_cache(
            repository, "config.json", revision=revision or None
        )
    except Exception as error:
        raise RequestError(f"hf:{printable(name)}: no name on the hub ({said(error)})") from error
    if isinstance(found, str):
        return Path(found)
    kinds = difflib.get_close_matches(_kind_in(repository), transformers.CONFIG_MAPPING, n=1)
    instead = f", or use hf:{kinds[0]}, the default configuration of that kind" if kinds else ""
    raise RequestError(
        f"hf:{printable(name)}: its configuration is not in the local cache, and nothing is "
        f"downloaded; fetch it once (hf download {printable(repository)} config.json), give a "
        f"folder that has it (hf:path/to/folder){instead}"
    )


def _kind_in(repository: str) -> str:
    return repository.rpartition("/")[2].partition("-")[0].lower()


def _read(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or said(error)
        raise RequestError(f"{printable(str(path))}: cannot be read ({reason})") from error


def _unknown(name: str) -> RequestError:
    """The error of a name that nothing has, with those that are nearest."""
    known = {one.lower(): one for one in (*names(), *transformers.CONFIG_MAPPING)}
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = "name a class (hf:ResNetForImageClassification), or a folder with a config.json"
    if near:
        hint = f"did you mean {', '.join(f'hf:{known[one]}' for one in near)}?"
    release = transformers.__version__
    return RequestError(f"hf:{printable(name)}: transformers {release} has no such model; {hint}")
