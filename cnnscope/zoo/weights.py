"""Tensors in a file of weights: their keys, shapes and memory, and not one of their values."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.files import open_regular
from cnnscope.records import StoredOther
from cnnscope.text import printable, said, visible
from cnnscope.zoo import archive

# Where training scripts keep the weights, in the order of preference.
_ROOTS = "state_dict model_state_dict model net network module weights params".split()
_HEADER_LIMIT = 100 * 2**20  # of safetensors, by its own specification
_SAFETENSORS = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1), "I16": ("int16", 2), "U16": ("uint16", 2),
    "F16": ("float16", 2), "BF16": ("bfloat16", 2), "I32": ("int32", 4), "U32": ("uint32", 4),
    "F32": ("float32", 4), "I64": ("int64", 8), "U64": ("uint64", 8), "F64": ("float64", 8),
}  # fmt: skip


class Stored(NamedTuple):
    """A tensor in a file: what of which memory it is."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    memory: Any  # equal for two names of the same elements


class Contents(NamedTuple):
    """What a file holds: the weights, the key that they lie under, and what lies beside them."""

    format: str
    root: str
    tensors: tuple[Stored, ...]
    storage_bytes: int
    others: tuple[StoredOther, ...]


def read(name: str) -> Contents:
    """Read the keys of a checkpoint.

    Raises:
        RequestError: the file is no checkpoint, is damaged, or wants code to be run.
    """
    kind = archive.recognise(name)
    if kind is archive.Kind.SAFETENSORS:
        return _safetensors(name)
    if kind is archive.Kind.EXPORTED:
        raise RequestError(f"{printable(name)} is an exported program and no checkpoint")
    try:
        return _contents(name, _load(name))
    except (RecursionError, ValueError, OverflowError) as error:
        raise archive.damaged(name, f"its content cannot be walked: {said(error)}") from error


def _load(name: str) -> Any:
    """Unpickle with torch's restricted unpickler, with the weights left in the file.

    `weights_only=True` builds tensors and plain containers and runs nothing else; with `mmap=True`
    a tensor is a window of the file, no byte of which is read before somebody looks at it. (The
    meta device would do without the window, but before torch 2.10 it loses which weights are tied.)
    """
    import torch

    archive.entries(name)  # refuses what is damaged or compressed
    try:
        return torch.load(name, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _wants_code(name, error) from error
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise archive.damaged(name, f"{type(error).__name__}: {printable(text, 200)}") from error


def _wants_code(name: str, error: Exception) -> RequestError:
    """Which globals the pickle asked for; none of them was imported."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        every = set(get_unsafe_globals_in_checkpoint(name))
        wanted = sorted(every, key=lambda g: (g.startswith("torch."), g))  # the user's own first
    except Exception:  # noqa: BLE001  the scan gives up where the pickle is damaged
        wanted = re.findall(r"GLOBAL (\S+)", str(error))[:1]
    if not wanted:
        text = re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))
        return archive.damaged(name, printable(text.rpartition("WeightsUnpickler error: ")[2], 200))
    shown = ", ".join(wanted[:4]) + (f" and {len(wanted) - 4} more" if len(wanted) > 4 else "")
    return RequestError(
        f"{printable(name)} is more than weights: unpickling it would run {printable(shown, 300)}, "
        "and was refused. Save the weights alone, torch.save(model.state_dict(), file), "
        "or give the code: path/net.py:Net"
    )


# ----------------------------------------------------------------- which tensors are the weights


def _contents(name: str, content: Any) -> Contents:
    """The weights in what was loaded, and a word on everything else."""
    root, weights, beside = _root(content)
    others = [_other(key, value) for key, value in beside.items()]
    tensors: list[Stored] = []
    storages: dict[Any, int] = {}
    for key, leaf in _leaves(weights, set()):
        if _is_tensor(leaf):
            stored, storage, nbytes = _stored(name, key, leaf)
            tensors.append(stored)
            storages[storage] = nbytes
        else:
            others.append(_other(f"{root}.{key}".strip("."), leaf))
    if not tensors:
        raise RequestError(f"{printable(name)} holds no tensors")
    held, size = sum(storages.values()), Path(name).stat().st_size
    if held > size:
        raise archive.damaged(name, f"its tensors need {held:,} bytes, the file has {size:,}")
    return Contents("torch checkpoint", root, tuple(tensors), held, tuple(others))


def _root(content: Any) -> tuple[str, Any, dict[str, Any]]:
    """The key of the weights, the weights, and what lies beside them on the way there."""
    path: list[str] = []
    beside: dict[str, Any] = {}
    seen: set[int] = set()
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        found = next((key for key in _ROOTS if _has_tensors(content.get(key))), None)
        if found is None:
            break
        prefix = "".join(f"{part}." for part in path)
        others = ((visible(str(key)), value) for key, value in content.items() if key != found)
        beside |= {f"{prefix}{key}": value for key, value in others}
        path.append(found)
        content = content[found]
    return ".".join(path), content, beside


def _leaves(value: Any, seen: set[int], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in nested containers that is none, each container once, with its dotted key."""
    if not isinstance(value, (Mapping, list, tuple)):
        yield prefix or "tensor", value
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        part = visible(str(key))
        yield from _leaves(item, seen, f"{prefix}.{part}" if prefix else part)


def _stored(name: str, key: str, tensor: Any) -> tuple[Stored, Any, int]:
    """What is known of a tensor, its storage, and the bytes of that."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    shape, nbytes = tuple(tensor.shape), tensor.numel() * tensor.element_size()
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise RequestError(f"{printable(name)}: {printable(key)} is a {tensor.layout} tensor")
    storage, stride, offset = tensor.untyped_storage(), tensor.stride(), tensor.storage_offset()
    last = offset + sum((n - 1) * abs(s) for n, s in zip(shape, stride, strict=True))
    if tensor.numel() and (last + 1) * tensor.element_size() > storage.nbytes():
        raise archive.damaged(name, f"{printable(key)} reaches beyond its memory")
    memory = (storage._cdata, offset, shape, stride, dtype)
    held = 0 if tensor.is_meta else storage.nbytes()  # saved from the meta device: not in the file
    return Stored(key, shape, dtype, nbytes, memory), storage._cdata, held


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple)) and any(
        _is_tensor(leaf) for _, leaf in _leaves(value, set())
    )


def _other(key: str, value: Any) -> StoredOther:
    """What lies beside the weights, in short."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return StoredOther(key, _literal(value))
    tensors = [leaf for _, leaf in _leaves(value, set()) if _is_tensor(leaf)]
    elements = sum(tensor.numel() for tensor in tensors)
    return StoredOther(key, visible(type(value).__name__), len(tensors), elements)


def _literal(value: Any) -> str:
    return printable(repr(value[:100] if isinstance(value, str) else value), 40)


# --------------------------------------------------------------------------------- safetensors


def _safetensors(name: str) -> Contents:
    """The header of a safetensors file: a length, then JSON, then the bytes of the tensors."""
    path = Path(name)
    size = path.stat().st_size
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise archive.damaged(name, f"its header declares {length:,} bytes of {size:,}")
        text = file.read(length)
    try:
        header = json.loads(text)
        beside = header.pop("__metadata__", {}).items()
        others = tuple(StoredOther(visible(key), _literal(value)) for key, value in beside)
        tensors = tuple(_in_header(key, entry) for key, entry in header.items())
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError,
            RecursionError) as error:  # fmt: skip
        raise archive.damaged(name, "its header is not that of a safetensors file") from error
    held = sum({tensor.memory: tensor.nbytes for tensor in tensors}.values())
    if held > size - 8 - length:
        raise archive.damaged(name, f"its tensors need {held:,} bytes, the file has {size:,}")
    return Contents("safetensors", "", tensors, held, others)


def _in_header(key: str, entry: Mapping[str, Any]) -> Stored:
    dtype, itemsize = _SAFETENSORS[entry["dtype"]]
    shape = tuple(int(n) for n in entry["shape"])
    begin, end = entry["data_offsets"]
    if end - begin != math.prod(shape) * itemsize or begin < 0 or min(shape, default=0) < 0:
        raise ValueError(key)
    return Stored(visible(key), shape, dtype, end - begin, (begin, end))
