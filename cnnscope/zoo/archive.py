"""What a file of weights or of a program is, told from its content. No torch, nothing unpickled.

Everything that torch writes today is a zip archive whose entries are not compressed: weights lie
in it as they lie in memory. So an entry that is compressed, or entries that are larger than the
file, were not written by torch, and are refused before anything is read from them.
"""

from __future__ import annotations

import zipfile
import zlib
from enum import Enum
from pathlib import Path

from cnnscope.errors import RequestError
from cnnscope.files import open_regular
from cnnscope.spec import printable

EXTENSIONS = frozenset(
    (".pt2", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".ptl", ".torchscript", ".safetensors")
)
_NEEDS_CODE = (
    "give the code (path/net.py:Net) or an exported program (torch.export.save, a .pt2 file)"
)


class Kind(Enum):
    """What a file holds."""

    EXPORTED = "exported program"
    CHECKPOINT = "checkpoint"
    SAFETENSORS = "safetensors"


def is_file(name: str) -> bool:
    """Whether a model's name is that of a file that this module knows: by extension, or path."""
    if Path(name).suffix.lower() in EXTENSIONS:
        return True
    try:
        path = Path(name)
        return "/" in name and path.suffix != ".py" and path.exists() and not path.is_dir()
    except OSError:  # a name that is too long
        return False


def is_weights(name: str) -> bool:
    """Whether a model's name is that of a file that holds weights alone.

    Raises:
        RequestError: it is that of a file, and the file cannot be read.
    """
    return is_file(name) and recognise(name) is not Kind.EXPORTED


def recognise(name: str) -> Kind:
    """What a file holds.

    Raises:
        RequestError: there is no such file, or nothing can be told from it: it says why.
    """
    path = Path(name)
    try:
        with open_regular(path) as file:
            start = file.read(64)
    except FileNotFoundError:
        raise RequestError(f"{printable(name)}: there is no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{printable(name)}: {reason}") from error
    if start.startswith(b"PK"):
        return _in_zip(name)
    if path.suffix.lower() == ".safetensors" or start[8:10] == b'{"':
        return Kind.SAFETENSORS
    raise _unknown(name, start)


def entries(name: str) -> dict[str, zipfile.ZipInfo]:
    """The entries of an archive by their name, without the folder that all of them lie in.

    Raises:
        RequestError: the archive is damaged, or not one that torch wrote.
    """
    every = _listed(name)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in every):
        raise RequestError(
            f"{printable(name)}: its entries are compressed, which torch never does with weights; "
            "refused, since they may unpack to any size"
        )
    size, declared = Path(name).stat().st_size, sum(entry.file_size for entry in every)
    if declared > size:
        raise damaged(name, f"its entries declare {declared:,} bytes in a file of {size:,}")
    return {_inner(entry): entry for entry in every}


def _listed(name: str) -> list[zipfile.ZipInfo]:
    try:
        with open_regular(name) as file, zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(name, "its table of contents cannot be read (cut off?)") from error


def _inner(entry: zipfile.ZipInfo) -> str:
    return entry.filename.partition("/")[2]


def read(name: str, entry: zipfile.ZipInfo) -> bytes:
    """One entry of an archive.

    Raises:
        RequestError: its checksum is wrong.
    """
    try:
        with open_regular(name) as file, zipfile.ZipFile(file) as archive:
            return archive.read(entry)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, zlib.error) as error:
        raise damaged(name, f"{printable(entry.filename)} cannot be read: {error}") from error


def damaged(name: str, reason: str) -> RequestError:
    """The error of a file that is not whole."""
    return RequestError(f"{printable(name)} is damaged: {reason}")


def no_forward(name: str) -> RequestError:
    """The error of a question that weights alone cannot answer."""
    return RequestError(
        f"{printable(name)} is a checkpoint: weights without a forward. cnnscope summary lists "
        f"them; for anything else {_NEEDS_CODE}"
    )


def _in_zip(name: str) -> Kind:
    found = {_inner(entry) for entry in _listed(name)}
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
            f"{printable(name)} is a TorchScript archive (torch.jit.save), which does not run on "
            f"tensors without data: {_NEEDS_CODE}"
        )
    if "data.pkl" in found:
        return Kind.CHECKPOINT
    raise RequestError(
        f"{printable(name)} is a zip archive, but neither an exported program nor a checkpoint"
    )


def _unknown(name: str, start: bytes) -> RequestError:
    """Why a file that is no archive is not read, from how it begins."""
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
        reason = "is not a file that torch writes: no exported program, no checkpoint"
    return RequestError(f"{printable(name)} {reason}")
