"""Inputs that the config of a Hugging Face model describes: images, tokens, sound, spectrograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope.models.readings import Signature
from cnnscope.records.form import Form, Slot
from cnnscope.records.trace import Inputs, Shape, TensorSpec

if TYPE_CHECKING:
    from torch import nn

_PARTS = ("", "vision_config", "text_config", "audio_config", "encoder")
_SIDE = 224  # pixels, where the config names none
_COLOURS = 3
_TOKENS = 512  # at most: contexts of recent language models are no typical input
_SECOND = 16_000  # samples of sound
_DECODER = "decoder_input_ids"


def of_config(model: nn.Module) -> Iterator[Inputs]:
    """What a model may be given by its config, its main input alone first.

    Args:
        model: any module; nothing is yielded for one without such a config.
    """
    main = getattr(model, "main_input_name", None)
    config = getattr(model, "config", None)
    if not isinstance(main, str) or not isinstance(getattr(config, "model_type", None), str):
        return
    names = Signature.of(model).names
    specs = {name: spec for name, spec in _specs(config).items() if name in names}
    if main not in specs:
        return
    others = [name for name in specs if name not in (main, _DECODER)]
    decoder = [_DECODER] if _DECODER in specs else []
    for chosen in ([main], [main, *decoder], [main, *others], [main, *others, *decoder]):
        form = Form((), tuple((name, Slot()) for name in chosen))
        yield Inputs(tuple(specs[name] for name in chosen), form)


def _specs(config: Any) -> dict[str, TensorSpec]:
    """Every input that a config describes, by the name that forward has for it."""
    tokens = min(_whole(config, "max_position_embeddings", "n_positions") or _TOKENS, _TOKENS)
    made = min(_whole(config, "max_target_positions") or tokens, tokens)
    bins = _whole(config, "num_mel_bins")
    frames = _whole(config, "max_length", "max_source_positions") or 1024
    spectrogram = (1, bins, 2 * frames) if _whole(config, "max_source_positions") else None
    sound = (1, frames, bins) if bins else (1, _SECOND)
    return {
        "input_ids": TensorSpec((1, tokens), "int64"),
        "pixel_values": TensorSpec(_image(config)),
        "input_values": TensorSpec(sound),
        "input_features": TensorSpec(spectrogram or sound),
        _DECODER: TensorSpec((1, made), "int64"),
    }


def _image(config: Any) -> Shape:
    """N, C, H, W of an image, or N, T, C, H, W of a clip."""
    size = _field(config, "image_size")
    height, width = _SIDE, _SIDE
    if isinstance(size, int):
        height = width = size
    elif isinstance(size, Sequence) and len(size) > 1:
        height, width = size[-2:]
    channels = _whole(config, "num_channels") or _COLOURS
    clip = _whole(config, "num_frames")
    return (1, *((clip,) if clip else ()), channels, height, width)


def _whole(config: Any, *names: str) -> int:
    """The first of these fields that is a positive integer, 0 where none is."""
    found = (_field(config, name) for name in names)
    return next((value for value in found if type(value) is int and value > 0), 0)


def _field(config: Any, name: str) -> Any:
    """A field of a config or of the config of one of its parts; None where there is none."""
    parts = (getattr(config, part, None) if part else config for part in _PARTS)
    values = (getattr(part, name, None) for part in parts)
    return next((value for value in values if value is not None), None)
