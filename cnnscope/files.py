"""Open files that others name, regular ones only, and write files whole or not at all."""

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

PACKAGE = str(Path(__file__).parent)  # the folder of this program's own code
_KINDS = (
    (stat.S_ISDIR, "is a folder; name a file"),
    (stat.S_ISFIFO, "is a pipe, not a file"),
    (stat.S_ISSOCK, "is a socket, not a file"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
)
MODELS = frozenset(
    (
        ".pt2", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".ptl", ".torchscript", ".safetensors",
        ".onnx",
    )
)  # fmt: skip
# Of other programs: told what they are, and what to do instead.
FOREIGN = frozenset(
    (
        ".pkl", ".pickle", ".h5", ".hdf5", ".keras", ".pb", ".tflite", ".engine", ".trt",
        ".plan", ".mlmodel", ".mlpackage", ".pdmodel", ".pdparams", ".npz", ".gguf", ".caffemodel",
        ".prototxt", ".ipynb", ".yaml", ".yml", ".json", ".toml", ".msgpack",
    )
)  # fmt: skip
_PART = 2**20
PARTIAL = ".part"  # how the name of a file ends that is being written
_BINARY = getattr(os, "O_BINARY", 0)
# Without blocking: opening a pipe waits for a writer, and some files of /proc for an event.
_FLAGS = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _flag, 0)


def why(error: BaseException) -> object:
    """What an error of a file says, without its number and the name of the file."""
    return getattr(error, "strerror", None) or error


def names_file(model: str) -> bool:
    """Return True if a model's name is that of a file that is no Python."""
    path = Path(model)
    if path.suffix.lower() in MODELS | FOREIGN:
        return True
    return "/" in model and path.suffix != ".py" and exists(path) and not is_folder(path)


def exists(path: str | Path) -> bool:
    """Return True if there is such a file or folder; False of a name that no file can have.

    A name that is too long, or behind a folder that may not be entered, is an error to pathlib.
    """
    return _mode(path) is not None


def is_file(path: str | Path) -> bool:
    """Return True of a regular file, or a link to one; False of a name that no file can have."""
    return stat.S_ISREG(_mode(path) or 0)


def is_folder(path: str | Path) -> bool:
    """Return True of a folder, or a link to one; False of a name that no folder can have."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(path: str | Path) -> int | None:
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):  # too long, not allowed, a null byte
        return None


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, or a link to one.

    A pipe, socket or device may never end, and to open it may already wait or do something: it is
    refused before it is opened, and again by its descriptor, in case it was exchanged meanwhile.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be opened, or is not a regular file; `strerror` says which.
        ValueError: `path` holds a null byte.
    """
    _check(Path(path).stat().st_mode, path)
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, most: int) -> bytes:
    """Read a whole regular file.

    Args:
        path: of the file.
        most: bytes that it may have; a sparse file of a terabyte costs its owner nothing.

    Raises:
        OSError: see `open_regular`; or it is larger than `most`, or has nothing to read yet.
        ValueError: `path` holds a null byte.
    """
    content = bytearray()
    with open_regular(path) as file:
        while part := file.read(_PART):  # not `most` at once: that much would be allocated
            content += part
            if len(content) > most:
                raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", str(path))
    if part is None:
        raise OSError(errno.EAGAIN, "has nothing to read yet", str(path))
    return bytes(content)


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file beside its place and rename it into it: a reader sees all of it, or none.

    Args:
        path: of the file.
        content: of the file.
        mode: its permissions; left out, those of any new file.

    Raises:
        OSError: it cannot be written; nothing is left of it, and what was there stays.
        ValueError: `path` holds a null byte.
    """
    own = f"{os.getpid()}-{threading.get_ident()}{PARTIAL}"
    beside = path.with_name(f".{path.name[:100]}.{own}")
    # As any new file: what the umask takes away is not known without setting it.
    allowed = 0o666 if mode is None else 0o600
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, allowed)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if mode is not None:
            beside.chmod(mode)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _check(mode: int, path: str | Path) -> None:
    for is_kind, said in _KINDS:
        if is_kind(mode):
            number = errno.EISDIR if is_kind is stat.S_ISDIR else errno.EINVAL
            raise OSError(number, said, str(path))
