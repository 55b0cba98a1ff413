"""Tensors in a file of weights: their keys, shapes and memory, and not one of their values.

Nothing of torch is needed: pickles are read by `unpickle.py`, safetensors are JSON.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.models.files import archive, unpickle
from cnnscope.records.checkpoint import StoredOther
from cnnscope.text import printable, visible

# Where training scripts keep the weights, in the order of preference.
_ROOTS = "state_dict model_state_dict model net network module weights params".split()
_HEADER_LIMIT = 100 * 2**20  # of safetensors, by its own specification
_SAFETENSORS = {  # a dtype, and the bits of an element
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8), "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F4": ("float4_e2m1fn", 4), "F6_E2M3": ("float6_e2m3", 6), "F6_E3M2": ("float6_e3m2", 6),
    "I16": ("int16", 16), "U16": ("uint16", 16), "F16": ("float16", 16), "BF16": ("bfloat16", 16),
    "I32": ("int32", 32), "U32": ("uint32", 32), "F32": ("float32", 32), "C64": ("complex64", 64),
    "I64": ("int64", 64), "U64": ("uint64", 64), "F64": ("float64", 64),
}  # fmt: skip
# Bounds of what is walked and shown, so that any file is answered in seconds.
MAX_TENSORS = 100_000
MAX_DEPTH = 64  # containers inside containers
MAX_NAMES = 2**24  # characters of all keys, each with those of the containers around it
MAX_STEPS = 4_000_000  # items of containers that are looked at, again and again where they recur


class Stored(NamedTuple):
    """A tensor in a file: what of which memory it is."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    memory: Any  # equal for two names of the same elements


class Contents(NamedTuple):
    """Contents of a file: the weights, the key that they lie under, and other entries."""

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
        raise RequestError(
            f"{printable(name)} is an exported program, no checkpoint: name it as a model"
        )
    found = archive.entries(name)
    pickled = found.get("data.pkl")
    if pickled is None or pickled.file_size > unpickle.MAX_BYTES:
        raise archive.damaged(name, "it has no pickle, or one that is too large to be read")
    try:
        content = unpickle.load(archive.read(name, pickled))
        held = {key: entry.file_size for key, entry in found.items()}
        return _Reader(name, held).contents(content)
    except unpickle.WantsCodeError as error:
        raise _wants_code(name, error.names) from error
    except unpickle.ProtocolError as error:
        raise RequestError(
            f"{printable(name)}: {error}; only {unpickle.PROTOCOL} is read, torch.save's own: save "
            "it again without pickle_protocol"
        ) from error
    except (unpickle.DamagedError, ValueError) as error:
        raise archive.damaged(name, printable(str(error), 200)) from error


def _wants_code(name: str, wanted: list[str]) -> RequestError:
    """Make the error that names the globals of a pickle; none of them was imported."""
    shown = ", ".join(wanted[:4]) + (f" and {len(wanted) - 4} more" if len(wanted) > 4 else "")
    network = any(one.startswith("torch.nn.modules.") for one in wanted)
    what = "a whole network, as torch.save(model) writes" if network else "more than weights"
    return archive.pickled(
        name, f"{printable(name)} is {what}: unpickling it would run {printable(shown, 300)}"
    )


# ----------------------------------------------------------------- which tensors are the weights


class _Reader:
    """Walks what a pickle describes."""

    def __init__(self, name: str, held: Mapping[str, int]) -> None:
        self.name, self.held = name, held
        self.steps = 0
        self.characters = 0
        self.filled: dict[int, bool] = {}  # by the identity of a container: it holds tensors

    def contents(self, content: Any) -> Contents:
        """The weights in what was loaded, and a word on everything else."""
        root, weights, beside = self._root(content)
        others = [self._other(key, value) for key, value in beside.items()]
        tensors: list[Stored] = []
        storages: dict[str, int] = {}
        for key, leaf in self._leaves(weights):
            if isinstance(leaf, unpickle.Window):
                tensors.append(self._stored(key, leaf, storages))
            else:
                others.append(self._other(f"{root}.{key}".strip("."), leaf))
            if len(tensors) + len(others) > MAX_TENSORS:
                raise ValueError(f"it has more than {MAX_TENSORS:,} entries")
        if not tensors:
            raise RequestError(f"{printable(self.name)} holds no tensors: save a state_dict()")
        every = sum(storages.values())
        return Contents("torch checkpoint", root, tuple(tensors), every, tuple(others))

    def _root(self, content: Any) -> tuple[str, Any, dict[str, Any]]:
        """The key of the weights, the weights, and what lies beside them on the way there."""
        path: list[str] = []
        beside: dict[str, Any] = {}
        seen: set[int] = set()
        while isinstance(content, Mapping) and id(content) not in seen:
            seen.add(id(content))
            found = next((key for key in _ROOTS if self._has_tensors(content.get(key))), None)
            if found is None:
                break
            prefix = "".join(f"{part}." for part in path)
            for key, value in content.items():
                if key != found:
                    beside[self._key(prefix, key)] = value
            path.append(found)
            content = content[found]
        return ".".join(path), content, beside

    def _key(self, prefix: str, key: Any) -> str:
        """A dotted key; keys inside keys may add up to more than the file."""
        found = prefix + visible(str(key))
        self.characters += len(found)
        if self.characters > MAX_NAMES:
            raise ValueError(f"its keys have more than {MAX_NAMES:,} characters")
        return found

    def _leaves(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Everything in nested containers that is none, with its dotted key.

        Each container is opened once, and one after the other, however deep they lie.
        """
        if not _is_container(value):
            yield "tensor", value
            return
        seen = {id(value)}
        open_ones = [("", _items(value))]
        while open_ones:
            prefix, items = open_ones[-1]
            key, item = next(items, (None, open_ones))
            if item is open_ones:
                open_ones.pop()
                continue
            self._step()
            name = self._key(prefix, key)
            if not _is_container(item):
                yield name, item
            elif id(item) not in seen:
                seen.add(id(item))
                open_ones.append((f"{name}.", _items(item)))
                if len(open_ones) > MAX_DEPTH:
                    raise ValueError(f"its containers lie more than {MAX_DEPTH} deep")

    def _tensors(self, value: Any) -> Iterator[unpickle.Window]:
        """The tensors in nested containers."""
        waiting, seen = [value], {id(value)}
        while waiting:
            self._step()
            item = waiting.pop()
            if isinstance(item, unpickle.Window):
                yield item
            elif _is_container(item):
                inner = [each for _, each in _items(item) if id(each) not in seen]
                waiting += inner
                seen.update(map(id, inner))
                self._step(len(item))

    def _step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise ValueError("its containers hold each other so often that they have no end")

    def _has_tensors(self, value: Any) -> bool:
        if not _is_container(value):
            return False
        if id(value) not in self.filled:
            self.filled[id(value)] = next(self._tensors(value), None) is not None
        return self.filled[id(value)]

    def _other(self, key: str, value: Any) -> StoredOther:
        """Summarise an entry beside the weights."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return StoredOther(key, _literal(value))
        tensors = list(self._tensors(value))
        elements = sum(math.prod(tensor.shape) for tensor in tensors)
        return StoredOther(key, visible(_kind(value)), len(tensors), elements)

    def _stored(self, key: str, tensor: unpickle.Window, storages: dict[str, int]) -> Stored:
        """Describe a tensor, and add its storage to those of the weights."""
        if tensor.layout:
            raise RequestError(
                f"{printable(self.name)}: {printable(key)} is a {tensor.layout} tensor: "
                "save it dense"
            )
        elements, itemsize = math.prod(tensor.shape), unpickle.SIZES[tensor.dtype]
        nbytes = elements * itemsize
        storage = tensor.storage
        if storage is None:  # saved from the meta device: not in the file
            return Stored(key, tensor.shape, tensor.dtype, nbytes, ("meta", key))
        size = storage.elements * unpickle.SIZES[storage.dtype]
        file = self.held.get(f"data/{storage.key}", 0)
        if size > file:
            held = f"{_digits(size)} bytes, of which the file has {file:,}"
            raise ValueError(f"{printable(key)} lies in a memory of {held}")
        last = tensor.offset + sum(
            (n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True)
        )
        if elements and (last + 1) * itemsize > size:
            raise ValueError(f"{printable(key)} reaches beyond its memory")
        storages[storage.key] = max(size, storages.get(storage.key, 0))
        memory = (storage.key, tensor.offset, tensor.shape, tensor.stride, tensor.dtype)
        return Stored(key, tensor.shape, tensor.dtype, nbytes, memory)


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list)) or type(value) is tuple  # not a `Window`


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else enumerate(value)


def _kind(value: Any) -> str:
    if isinstance(value, unpickle.Other):  # bytes are written as text and an encoding
        return value.kind.rpartition(".")[2].replace("encode", "bytes")
    if isinstance(value, unpickle.Global):
        return value.name
    return "Tensor" if isinstance(value, unpickle.Window) else type(value).__name__


def _literal(value: Any) -> str:
    return printable(repr(value[:100] if isinstance(value, str) else value), 40)


def _digits(number: int) -> str:
    """A number that a file declares; Python refuses to write thousands of digits."""
    return f"{number:,}" if number < 2**64 else f"more than {2**64:,}"


# --------------------------------------------------------------------------------- safetensors


def _safetensors(name: str) -> Contents:
    """The header of a safetensors file: a length, then JSON, then the bytes of the tensors."""
    with archive.opened(name) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise archive.damaged(name, f"its header declares {length:,} bytes of {size:,}")
        text = file.read(length)
    header = archive.parsed(name, text, "its header")
    try:
        others = _metadata(header)
        tensors = tuple(_in_header(key, entry) for key, entry in header.items())
        _require_whole(tensors, size - 8 - length)
    except ValueError as error:
        reason = f"its header is not that of a safetensors file: {printable(str(error), 200)}"
        raise archive.damaged(name, reason) from error
    return Contents("safetensors", "", tensors, size - 8 - length, others)


def _metadata(header: Any) -> tuple[StoredOther, ...]:
    """Take the entries beside the tensors out of the header."""
    if not isinstance(header, dict):
        raise ValueError("it is no object")  # noqa: TRY004  a fault of the file
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it has {len(header):,} tensors; at most {MAX_TENSORS:,} are read")
    beside = header.pop("__metadata__", {})
    if not isinstance(beside, dict) or not all(isinstance(v, str) for v in beside.values()):
        raise ValueError("__metadata__ is not text by names")
    return tuple(StoredOther(visible(key[:200]), _literal(value)) for key, value in beside.items())


def _in_header(key: str, entry: Any) -> Stored:
    """One tensor.

    Raises:
        ValueError: what it says of itself does not add up.
    """
    shown = printable(key, 60)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown} has no dtype, shape and data_offsets, or more")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _SAFETENSORS:
        raise ValueError(f"{shown} has a dtype that is not known")
    dtype, bits = _SAFETENSORS[entry["dtype"]]
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or len(shape) > unpickle.MAX_RANK:
        raise ValueError(f"{shown} has a shape that is none")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{shown} has data_offsets that are none")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise ValueError(
            f"{shown} has {_digits(max(0, end - begin))} bytes, not those of its shape"
        )
    if len(key) > unpickle.MAX_KEY:
        raise ValueError(f"a key has {len(key):,} characters")
    return Stored(visible(key), tuple(shape), dtype, end - begin, (begin, end))


def _are_sizes(values: Any) -> bool:
    """Return True for integers proper: neither text, nor 1.0, nor true."""
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def _require_whole(tensors: tuple[Stored, ...], size: int) -> None:
    """The tensors lie one behind the other, from the first byte to the last.

    Raises:
        ValueError: two overlap, something lies between them, or the file ends elsewhere.
    """
    at = 0
    for tensor in sorted(tensors, key=lambda t: t.memory):
        begin, end = tensor.memory
        if begin != at:
            what = "overlaps another" if begin < at else f"leaves {begin - at:,} bytes before it"
            raise ValueError(f"{printable(tensor.key, 60)} {what}")
        at = end
    if at != size:
        raise ValueError(f"its tensors need {at:,} bytes, the file has {size:,} for them")
