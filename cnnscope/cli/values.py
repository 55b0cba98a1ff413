"""Several values in one option: `128,160,192`, `[16, 32],[32, 64]`, `ids=16:int64,32:int64`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cnnscope.errors import RequestError
from cnnscope.text import printable

_PART = re.compile(r"""'[^']*'|"[^"]*"|[\[({]|[\])}]|,|[^'"\[\](){},]+|.""", re.DOTALL)
_LONGEST = 10_000


def split(text: str, option: str) -> list[str]:
    """Values between commas; those inside brackets and quotes belong to one value.

    Args:
        text: what was typed.
        option: for messages.

    Raises:
        RequestError: a value is empty.
    """
    parts, depth = [""], 0
    for found in _PART.finditer(text[:_LONGEST]):
        word = found[0]
        depth += (word in "[({") - (word in "])}") if len(word) == 1 else 0
        if word == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += word
    values = [part.strip() for part in parts]
    if not all(values) or len(text) > _LONGEST:
        raise RequestError(
            f"{option} {printable(text, 60)!r}: a value is empty; give them with commas between, "
            "as in 128,160,192"
        )
    return values


def _of_input(text: str) -> list[str]:
    """Values of one input: a name before the first one is that of all.

    Raises:
        RequestError: a value is empty, or the text is a size that is written with commas.
    """
    values = split(text, "--input")
    name, equals, first = values[0].partition("=")
    if equals and name.strip().isidentifier():
        return [f"{name}={value}" for value in (first, *values[1:])]
    if len(values) > len(set(values)) and all(value.isdigit() for value in values):
        raise RequestError(
            f"--input {printable(text, 60)}: commas stand between the values of a sweep; write one "
            f"size as {printable('x'.join(values), 60)}"
        )
    return values


def inputs(texts: Sequence[str]) -> list[Any]:
    """Values of the input: those of several inputs side by side.

    Raises:
        RequestError: they have not equally many values.
    """
    every = [_of_input(text) for text in texts]
    count = max(map(len, every), default=0)
    if any(len(one) not in (1, count) for one in every):
        shown = " and ".join(str(len(one)) for one in every)
        raise RequestError(f"--input: {shown} values; give each input equally many, or one")
    rows = zip(*(one * (count if len(one) == 1 else 1) for one in every), strict=True)
    return [row[0] if len(row) == 1 else list(row) for row in rows]


def arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Values of each argument of the constructor; a list even of one.

    Raises:
        RequestError: one of them is no name=value.
    """
    from cnnscope.models.arguments import parse_arguments

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        words = [f"{name}={one}" for one in split(rest, f"--arg {name}")] if equals else [text]
        values: dict[str, Any] = {}
        for key, value in (pair for word in words for pair in parse_arguments([word]).items()):
            values.setdefault(key, []).append(value)
        if again := sorted(set(values) & set(found)):
            raise RequestError(f"--arg {again[0]}: given twice; give it once, with commas between")
        found |= values
    return found


def batches(text: str | None) -> tuple[int, ...]:
    """1, 8 and 32 of "1,8,32"; () where none was given.

    Raises:
        RequestError: one of them is no number from 1, or is given twice.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts):
        raise RequestError(f"--batch-size {text[:20]!r}: expected numbers, as in 8 or 1,8,32")
    sizes = tuple(map(int, parts))
    if 0 in sizes or len(set(sizes)) != len(sizes):
        raise RequestError(f"--batch-size {text[:20]!r}: every size from 1 up, and once")
    return sizes
