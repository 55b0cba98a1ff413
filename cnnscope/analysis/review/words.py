"""Lists of names and numbers as the sentences of findings write them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

_NAMES = 3  # that are written out


def names(paths: Sequence[str], most: int = _NAMES) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(paths[:most])
    return f"{shown} and {len(paths) - most} more" if len(paths) > most else shown


def together(texts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`, `12,345 parameters`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def these(number: int, noun: str) -> str:
    """`a layer`, `3 layers`: the beginning of a sentence about so many."""
    return f"{number:,} {noun}s" if number > 1 else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def sizes(shape: Iterable[int]) -> str:
    """`13x13`."""
    return "x".join(map(str, shape))


def ranges(numbers: Sequence[int]) -> str:
    """`0-4,6`: ascending numbers, those in a row as one range."""
    texts = []
    for _, row in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        same = [number for _, number in row]
        texts.append(f"{same[0]}-{same[-1]}" if len(same) > 1 else str(same[0]))
    return ",".join(texts)


def siblings(counts: Mapping[str, int]) -> dict[str, int]:
    """Paths that differ in one number and hold as much, together: `experts.0-63.l`, their sum."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for path, size in counts.items():
        parts = path.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdecimal()), len(parts))
        key = (".".join(parts[:at]), ".".join(parts[at + 1 :]), size)
        found.setdefault(key, []).append(parts[at] if at < len(parts) else "")
    folded = {}
    for (before, after, size), numbers in found.items():
        middle = ranges(sorted(map(int, numbers))) if numbers[0] else ""
        folded[".".join(filter(None, (before, middle, after)))] = size * len(numbers)
    return folded
