"""Recognise files of weights and programs by their content. No torch, nothing unpickled.

Everything that torch writes today is a zip archive whose entries are not compressed: weights lie
in it as they lie in memory. So an entry that is compressed, or entries that are larger than the
file, were not written by torch, and are refused before anything is read from them.

Readers of zip archives find the table of contents in different ways, and a file can be made that
is one archive to this one and another to the next. Torch puts nothing before, between or behind:
the table ends where its end record begins, and that record ends the file. Anything else is refused.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.files import FOREIGN, names_file, open_regular, why
from cnnscope.text import printable

MAX_ENTRIES = 200_000  # of an archive: one for each weight
MAX_JSON = 64 * 2**20  # bytes of a graph; that of a network with 5,000 operations has 6 MiB
MAX_VALUES = 3_000_000  # in a JSON document, each of which takes up to 100 bytes
_NEEDS_CODE = (
    "give the code (path/net.py:Net) or an exported program (torch.export.save, a .pt2 file)"
)
_PICKLES = (".pkl", ".pickle")
_WRAP = "write these lines to a file, wrap.py, and name wrap.py:net"
# What files of other programs are, by their ending, and what to do next.
_FOREIGN = {
    "Keras or TensorFlow model": (".h5 .hdf5 .keras .pb .tflite", "cnnscope reads PyTorch alone"),
    "compiled engine (TensorRT)": (".engine .trt .plan", "name the PyTorch code it was made from"),
    "Core ML model": (".mlmodel .mlpackage", "name the PyTorch code that it was converted from"),
    "PaddlePaddle model": (".pdmodel .pdparams", "cnnscope reads PyTorch alone"),
    "Caffe model": (".caffemodel .prototxt", "cnnscope reads PyTorch alone"),
    "archive of arrays": (".npz", f"weights alone have no forward: {_NEEDS_CODE}"),
    "file of weights for llama.cpp": (".gguf", "name its class, as hf:LlamaForCausalLM"),
    "notebook": (".ipynb", "save the network in a file (%%writefile net.py) and name net.py:Net, "
                 "or use Python in it: import cnnscope; cnnscope.summary(model, '3x224x224')"),
    "file of values": (".yaml .yml .json .toml .msgpack", "an argument takes it, as in net.py:Net "
                       "--arg cfg=@{name}; a saved trace is opened in Python, "
                       "cnnscope.summary(cnnscope.Trace.load({name!r}))"),
}  # fmt: skip


class Kind(Enum):
    """Kind of a file."""

    EXPORTED = "exported program"
    CHECKPOINT = "checkpoint"
    SAFETENSORS = "safetensors"


def is_weights(name: str) -> bool:
    """Return True if a model's name is that of a file that holds weights alone.

    Raises:
        RequestError: it is that of a file, and the file cannot be read.
    """
    return names_file(name) and not is_onnx(name) and recognise(name) is not Kind.EXPORTED


def is_onnx(name: str) -> bool:
    """Return True if a model's name is that of a file of an ONNX graph, by its ending."""
    return names_file(name) and Path(name).suffix.lower() == ".onnx"


def recognise(name: str) -> Kind:
    """Recognise the kind of a file by its content.

    Raises:
        RequestError: there is no such file, or nothing can be told from it: it says why.
    """
    path = Path(name)
    with opened(name) as file:
        start = file.read(64)
    packed = start.startswith(b"PK") and path.suffix.lower() in _PICKLES  # by torch.save
    if path.suffix.lower() in FOREIGN and not packed:
        raise _foreign(name, path.suffix.lower())
    if start.startswith(b"PK"):
        return _in_zip(name)
    if path.suffix.lower() == ".safetensors" or start[8:10] == b'{"':
        return Kind.SAFETENSORS
    raise _unknown(name, start)


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A regular file, open for reading.

    Raises:
        RequestError: there is no such file, or it is something else, or cannot be read.
    """
    try:
        with open_regular(name) as file:
            yield file
    except FileNotFoundError:
        raise RequestError(f"{printable(name)}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise RequestError(f"{printable(name)}: {why(error)}") from error


def entries(name: str) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive by their name, without the folder that all of them lie in.

    Raises:
        RequestError: the archive is damaged, or not one that torch wrote.
    """
    with opened(name) as file:
        every = _listed(name, file)
        size = os.fstat(file.fileno()).st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in every):
        raise RequestError(
            f"{printable(name)}: its entries are compressed, which torch never does with weights; "
            "refused, since they may unpack to any size; save it again with torch.save"
        )
    declared = sum(entry.file_size for entry in every)
    if declared > size:
        raise damaged(name, f"its entries declare {declared:,} bytes in a file of {size:,}")
    if any(entry.file_size != entry.compress_size or entry.flag_bits & 1 for entry in every):
        raise damaged(name, "an entry is encrypted, or of two sizes")
    found = {_inner(entry): entry for entry in every}
    if len(found) < len(every):
        raise damaged(name, "two of its entries have one name")
    return found


def _listed(name: str, file: BinaryIO) -> list[zipfile.ZipInfo]:
    _require_one_table(name, file)
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise damaged(name, "its table of contents cannot be read (cut off?)") from error


class _End(NamedTuple):
    """Position of the table of contents, by an end record."""

    entries: int
    size: int
    offset: int


_RECORD = struct.Struct("<4sHHHHIIH")  # APPNOTE.TXT 4.3.16
_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
_RECORD_64 = struct.Struct("<4sQHHIIQQQQ")  # 4.3.14


def _require_one_table(name: str, file: BinaryIO) -> None:
    """Every reader finds the same table of contents, and one of a length that can be read.

    Raises:
        RequestError: the end record does not end the file, or the table does not end at it.
    """
    size = os.fstat(file.fileno()).st_size
    tail_size = min(size, _RECORD.size + _LOCATOR.size + _RECORD_64.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    if len(tail) < _RECORD.size or not tail[-_RECORD.size :].startswith(b"PK\x05\x06"):
        raise damaged(name, "its table of contents cannot be read (cut off, or data behind it?)")
    _, disk, first, here, entries, length, offset, comment = _RECORD.unpack(tail[-_RECORD.size :])
    end = _End(entries, length, offset)
    begin = size - _RECORD.size
    if disk or first or comment or here != entries:
        raise damaged(name, "its end record is not one that torch writes")
    if tail[-_RECORD.size - _LOCATOR.size :].startswith(b"PK\x06\x07"):
        begin -= _LOCATOR.size + _RECORD_64.size
        end = _large_end(name, tail, end, begin)
    if end.offset + end.size != begin:
        raise damaged(name, "its table of contents does not end where its end record begins")
    if end.entries > MAX_ENTRIES or end.size > MAX_JSON:
        raise RequestError(
            f"{printable(name)}: {end.entries:,} entries are too many; give the code"
        )


def _large_end(name: str, tail: bytes, end: _End, begin: int) -> _End:
    """The end record of 64 bits, which says what the other one says where that has room for it."""
    if len(tail) < _RECORD.size + _LOCATOR.size + _RECORD_64.size:
        raise damaged(name, "its end record of 64 bits is not there")
    _, disk, at, disks = _LOCATOR.unpack(tail[_RECORD_64.size : -_RECORD.size])
    mark, length, _, _, here, first, some, entries, size, offset = _RECORD_64.unpack(
        tail[: _RECORD_64.size]
    )
    found = _End(entries, size, offset)
    limits = _End(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    differs = any(a not in (b, most) for a, b, most in zip(end, found, limits, strict=True))
    alone = not (disk or here or first) and disks <= 1 and some == entries
    placed = mark == b"PK\x06\x06" and at == begin and length == _RECORD_64.size - 12
    if differs or not alone or not placed:
        raise damaged(name, "its two end records disagree")
    return found


def _inner(entry: zipfile.ZipInfo) -> str:
    return entry.filename.partition("/")[2]


def read(name: str, entry: zipfile.ZipInfo) -> bytes:
    """One entry of an archive.

    Raises:
        RequestError: its checksum is wrong.
    """
    try:
        with opened(name) as file, zipfile.ZipFile(file) as archive:
            return archive.read(entry)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError,
            zlib.error, struct.error) as error:  # fmt: skip
        text = printable(str(error), 200)
        raise damaged(name, f"{printable(entry.filename)} cannot be read: {text}") from error


def parsed(name: str, data: bytes, what: str) -> Any:
    """JSON in a file, as large as can be read in no time.

    Raises:
        RequestError: it is not JSON, says a thing twice, or has more in it than is read.
    """
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if len(data) > MAX_JSON or values > MAX_VALUES:
        raise RequestError(
            f"{printable(name)}: {printable(what)} has {len(data):,} bytes and some {values:,} "
            f"values; at most {MAX_JSON:,} and {MAX_VALUES:,} are read: "
            "give the code, as path/net.py:Net"
        )
    try:
        return json.loads(data, object_pairs_hook=_once)
    except RecursionError as error:
        raise damaged(name, f"{printable(what)} is nested too deeply") from error
    except ValueError as error:
        raise damaged(
            name, f"{printable(what)} is not JSON: {printable(str(error), 80)}"
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        ValueError: two of its values have one name, of which readers take one or the other.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{printable(twice, 40)} twice")
    return found


def damaged(name: str, reason: str) -> RequestError:
    """The error of a file that is not whole."""
    return RequestError(f"{printable(name)} is damaged: {reason}; fetch or save it again")


def no_forward(name: str) -> RequestError:
    """The error of a question that weights alone cannot answer."""
    return RequestError(
        f"{printable(name)} is a checkpoint: weights without a forward. cnnscope summary lists "
        f"them; for anything else {_NEEDS_CODE}"
    )


def _in_zip(name: str) -> Kind:
    with opened(name) as file:
        found = {_inner(entry) for entry in _listed(name, file)}
    if any(entry.startswith("models/") for entry in found):
        return Kind.EXPORTED
    if "serialized_exported_program.json" in found:
        raise RequestError(
            f"{printable(name)} was exported by torch 2.7 or older, in a form that torch has given "
            "up: export the model again with torch 2.9 or later"
        )
    if any(entry.startswith("data/aotinductor/") for entry in found):
        raise RequestError(
            f"{printable(name)} is a compiled package (AOTInductor): machine code without a graph; "
            "use the exported program that it was compiled from"
        )
    if "constants.pkl" in found or any(entry.startswith("code/") for entry in found):
        raise RequestError(
            f"{printable(name)} is a TorchScript archive (torch.jit.save): compiled code, which "
            f"does not run on tensors without data, and is not loaded; {_NEEDS_CODE}, made of the "
            "module before it was scripted"
        )
    if "data.pkl" in found:
        return Kind.CHECKPOINT
    raise RequestError(
        f"{printable(name)} is a zip archive, but neither an exported program nor a checkpoint: "
        "name one, or the code, as path/net.py:Net"
    )


def _foreign(name: str, suffix: str) -> RequestError:
    """The error for a file of another program, by its ending."""
    shown = printable(name)
    if suffix in _PICKLES:
        load = ("import pickle", "def net():", f"    return pickle.load(open({name!r}, 'rb'))")
        what = f"{shown} is a pickle: loading it would run code"
        return pickled(name, what).with_lines(load)
    for kind, (endings, remedy) in _FOREIGN.items():
        if suffix in endings.split():
            article = "an" if kind[0] in "AO" or kind.startswith("archive") else "a"
            return RequestError(f"{shown} is {article} {kind}: {remedy.format(name=shown)}")
    return _unknown(name, b"?")


def pickled(name: str, what: str) -> RequestError:
    """The error for a network that was saved whole: how to run its code, if one means to.

    Args:
        name: of the file.
        what: it is.
    """
    message = (
        f"{what}, and was refused. Save the weights alone (torch.save(model.state_dict(), "
        f"file)), give the code (path/net.py:Net), or, if you trust the file, {_WRAP}"
    )
    lines = (
        "import torch",
        "def net():",
        f"    return torch.load({name!r}, weights_only=False)",
    )
    return RequestError(message).with_lines(lines)


def _unknown(name: str, start: bytes) -> RequestError:
    """Make the error for a file that is no archive, by its first bytes."""
    if not start:
        reason = "is empty"
    elif start.startswith(b"version https://git-lfs"):
        reason = "is a Git LFS pointer: git lfs pull fetches the file"
    elif start[:1] == b"\x80":
        reason = (
            "is a bare pickle, as torch wrote before 1.6: it cannot be read without loading all "
            "of it. To convert it: torch.save(torch.load(old, weights_only=True), new)"
        )
    else:
        reason = (
            "is not a file that torch writes: no exported program, no checkpoint; name one, or the "
            "code, as path/net.py:Net"
        )
    return RequestError(f"{printable(name)} {reason}")
