"""Parse amounts as people write them: 10M parameters, 24GiB of memory."""

from __future__ import annotations

import re

from cnnscope.errors import RequestError
from cnnscope.text import printable

_LONGEST = 30  # characters
_MOST = 2**60  # bytes
QUANTITY = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)\s{0,9}(?:([kmgtp])(i?)(b?)|b)?", re.ASCII | re.IGNORECASE
)


def parse_quantity(text: str, option: str) -> float:
    """`10M`, `1.5G`, `50MiB`, `24 gb`, `75`: powers of 1000, and with an i of 1024.

    Args:
        text: the amount; upper and lower case are the same.
        option: that it was given to, for the message.

    Raises:
        RequestError: it is no such number.
    """
    value = _value(text)
    if value is None:
        raise RequestError(f"{option} {printable(text)!r}: expected a number such as 10M or 50MiB")
    return value


def parse_memory(memory: object, option: str) -> int:
    """Bytes of a device: a whole number, or a text with a unit.

    Args:
        memory: 8_000_000_000, "24GiB", "24 gb" or "24G".
        option: that it was given to, for the message.

    Raises:
        RequestError: it is no size, has no unit, or is not between 1 byte and 1 EiB.
    """
    if isinstance(memory, float) and memory.is_integer():
        memory = int(memory)
    if isinstance(memory, bool) or not isinstance(memory, (str, int)):
        raise RequestError(f"{option}: give bytes, or a text such as 24GiB")
    shown = printable(str(memory))
    nbytes: float | None = _value(memory) if isinstance(memory, str) else memory
    if nbytes is None:
        raise RequestError(
            f"{option} {shown!r}: expected a size of memory, such as 24GiB or 8000MB"
        )
    if isinstance(memory, str) and nbytes and memory.strip()[-1] in "0123456789":
        number = shown.strip()
        raise RequestError(f"{option} {shown!r}: give a unit, as in {number}GiB (or {number}B)")
    if not 0 < round(nbytes) <= _MOST:
        raise RequestError(f"{option} {shown!r}: must be more than 0, and 1 EiB at most")
    return round(nbytes)


def _value(text: str) -> float | None:
    """The number that a text says; None where it is none."""
    found = QUANTITY.fullmatch(text.strip())
    if found is None or len(text) > _LONGEST:
        return None
    number, prefix, binary, _ = found.groups()
    scale: int = (1024 if binary else 1000) ** " kmgtp".index((prefix or " ").lower())
    return float(number) * scale
