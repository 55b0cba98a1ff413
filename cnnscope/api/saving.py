"""Write a file whose name the caller gave."""

from __future__ import annotations

from pathlib import Path

from cnnscope.errors import RequestError
from cnnscope.files import write_whole
from cnnscope.text import printable


def save(path: str | Path, content: bytes) -> None:
    """Write a whole file.

    Args:
        path: of the file.
        content: of the file.

    Raises:
        RequestError: it cannot be written; what was there stays.
    """
    try:
        write_whole(Path(path), content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{printable(str(path))}: cannot be written ({reason})") from error
