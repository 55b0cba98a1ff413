"""Results of earlier requests, kept on disk.

An entry is a record under a key that holds everything the answer depends on. Its file has a header
(magic, checksum and size of the content), the key, and the compressed content. Whatever is not
exactly that is not an entry: it is ignored, and replaced when the answer has been made again.
Files are written beside their place and renamed into it, so that a reader sees a whole entry or
none, however many processes write and whenever they are killed.

Compression costs about as much when reading as it saves (half a millisecond for densenet201) and
makes entries eight times smaller, so that the whole zoo of torchvision takes 4 MB.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from cnnscope.files import PACKAGE, PARTIAL, open_regular, write_whole
from cnnscope.parallel import no_collection

T = TypeVar("T")

LIMIT = 256 * 2**20  # bytes; the least recently used entries beyond it are evicted
MAX_ENTRY = 2**30  # bytes that an entry may have when it is decompressed
_MAGIC = b"cnnscope\x01"
_HEADER = len(_MAGIC) + 4 + 8 + 4  # magic, checksum, decompressed size, length of the key
_SUFFIX = ".entry"
_ABANDONED = 3600  # seconds after which a file that was never renamed is no process's any more
_FRESH = 600  # seconds within which an entry's time of use is not written again


class Info(NamedTuple):
    """State of the store: number of entries, their bytes, and the limit of bytes."""

    path: Path
    entries: int
    nbytes: int
    limit: int


class Store:
    """A folder of entries. A folder that cannot be read or written costs only the speed."""

    def __init__(
        self, root: Path, warn: Callable[[str], None] = lambda _: None, limit: int = LIMIT
    ) -> None:
        self.root, self.warn, self.limit = root, warn, limit
        self._given: dict[Path, object] = {}  # what was read

    def read(self, key: Mapping[str, Any], kind: type[T]) -> T | None:
        """The record under a key, or None; a damaged file is reported, removed and counts as none.

        Whatever decoding raises, memory that is not enough included, is damage: a file that cannot
        be read must not cost more than the time to make its content again.
        """
        path = self._path(key)
        try:
            value = _decode(_content(path), key, kind)
        except PermissionError:  # another user's
            return None
        except FileNotFoundError:  # another process may have written it since
            if path.is_symlink():
                self._remove(path, "a damaged")
            return None
        except Exception:  # noqa: BLE001  a file may hold anything
            if os.path.lexists(path):
                self._remove(path, "a damaged")
            return None
        self._given[path] = value
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _FRESH:
                os.utime(path)
        return value

    def write(self, key: Mapping[str, Any], value: object) -> None:
        """Keep a record; where the disk refuses it, nothing is raised."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _encode(key, value), 0o600)
            self._evict()

    def info(self) -> Info:
        """State of the store."""
        sizes = [entry.stat().st_size for entry in self._files(_SUFFIX)]
        return Info(self.root, len(sizes), sum(sizes), self.limit)

    def clear(self) -> Info:
        """Remove all entries, and nothing else; what was there.

        Raises:
            OSError: an entry cannot be removed.
        """
        before = self.info()
        for path in (*self._files(_SUFFIX), *self._files(PARTIAL)):
            path.unlink(missing_ok=True)
        return before

    def distrust(self, use: Callable[[Any], object] | None = None) -> bool:
        """Remove the entries read so far, because what used them failed; True if there were any.

        An entry may be whole, of the right type, and nonsense.

        Args:
            use: does with one record what failed with all of them. Where it fails with some, these
                alone are removed.
        """
        given, self._given = self._given, {}
        bad = [path for path, record in given.items() if use is not None and _fails(use, record)]
        for path in bad or given:
            self._remove(path, "an unusable")
        return bool(given)

    # -- files

    def _remove(self, path: Path, how: str) -> None:
        """Remove an entry, or what lies in its place; a folder that is not empty stays."""
        self.warn(f"{how} file in the store is ignored, and replaced: {path}")
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def _path(self, key: Mapping[str, Any]) -> Path:
        """A readable file name; no name of a model leads out of the folder."""
        readable = "-".join(str(key.get(part, "")) for part in ("what", "source", "name"))
        safe = re.sub(r"[^A-Za-z0-9_]+", "-", readable)[:80].strip("-")
        return self.root / f"{safe}-{zlib.crc32(_bytes(key)):08x}{_SUFFIX}"

    def _files(self, suffix: str) -> Iterator[Path]:
        with contextlib.suppress(OSError), os.scandir(self.root) as found:
            for entry in found:
                if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)

    def _evict(self) -> None:
        """Remove the least recently used entries beyond the limit, and what killed writers left."""
        now = time.time()
        for path in self._files(PARTIAL):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
        entries = []
        for path in self._files(_SUFFIX):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.limit
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                excess -= size


def _fails(use: Callable[[Any], object], record: object) -> bool:
    try:
        use(record)
    except Exception:  # noqa: BLE001  a nonsensical record may raise anything
        return True
    return False


# ------------------------------------------------------------------------------ what is in it


def _content(path: Path) -> bytes:
    """A file's content; of a file that does not begin as an entry does, no more than that."""
    with open_regular(path) as file:
        start = file.read(len(_MAGIC))
        if start != _MAGIC:
            raise ValueError("not an entry")
        if os.fstat(file.fileno()).st_size > LIMIT:
            raise ValueError("larger than all entries may be together")
        return start + file.read()


def _bytes(key: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(key, order="deterministic")


def _header(content: bytes | memoryview, size: int, key: bytes) -> bytes:
    numbers = ((zlib.crc32(content, zlib.crc32(key)), 4), (size, 8), (len(key), 4))
    return _MAGIC + b"".join(number.to_bytes(length, "big") for number, length in numbers) + key


def _encode(key: Mapping[str, Any], value: object) -> bytes:
    raw = msgspec.msgpack.encode(value)
    content = zlib.compress(raw, 1)
    return _header(content, len(raw), _bytes(key)) + content


def _decode(file: bytes, key: Mapping[str, Any], kind: type[T]) -> T:
    """The record in a file.

    Raises:
        ValueError: it is not an entry for this key.
    """
    expected = _bytes(key)
    size = int.from_bytes(file[_HEADER - 12 : _HEADER - 4], "big")
    content = memoryview(file)[_HEADER + len(expected) :]
    if size > MAX_ENTRY or not file.startswith(_header(content, size, expected)):
        raise ValueError("not an entry for this key")
    raw = zlib.decompressobj().decompress(content, size)
    with no_collection():
        return msgspec.msgpack.decode(raw, type=kind)


# -------------------------------------------------------------------- what an answer depends on


def default_root() -> Path | None:
    """Return the folder of the store: `CNNSCOPE_CACHE_DIR`, or the user's cache folder.

    None for a user without a home (as containers have): a folder called "~" would be made in the
    working folder otherwise.
    """
    named = os.environ.get("CNNSCOPE_CACHE_DIR")
    try:
        if named:
            return Path(named).expanduser()
        from platformdirs import user_cache_path

        found = user_cache_path("cnnscope", appauthor=False)
    except (RuntimeError, KeyError):
        return None
    return None if str(found).startswith("~") else found


@cache
def code() -> str:
    """A digest of this program's own files: other code may give another answer."""
    files = sorted(_sources(PACKAGE, len(PACKAGE)))
    return f"{zlib.crc32(''.join(files).encode()):08x}"


def _sources(folder: str, root: int) -> Iterator[str]:
    """Name, size and time of every file of Python; four times as fast as `Path.rglob`."""
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _sources(entry.path, root)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.path[root:]} {status.st_size} {status.st_mtime_ns}\n"
