"""Rows that lie inside each other, to a depth, equal neighbours on one line: summary and diff."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

AUTO_ROWS = 60  # without a depth, the deepest level whose table has at most so many rows
_Line = TypeVar("_Line")


class Options(NamedTuple):
    """Options of rows; only the summary sorts and filters them."""

    depth: int | None = None  # None: chosen by AUTO_ROWS; 0: no limit
    unfold: bool = False  # equal rows one by one
    everything: bool = False  # minor rows as well
    sort: str | None = None
    filter: str | None = None


DEFAULT = Options()


class View(NamedTuple, Generic[_Line]):
    """The lines, and what was left out of them."""

    lines: tuple[_Line, ...]
    depth: int  # levels shown
    full_depth: int  # levels that there are
    hidden: int  # minor rows
    folded: bool


class Tree(Generic[_Line]):
    """Rows, by index, inside each other; a subclass says which are alike and what a line is."""

    def __init__(self, parents: Sequence[int], shown: Callable[[int], bool]) -> None:
        self.children: dict[int, list[int]] = {}
        for index, parent in enumerate(parents):
            if shown(index):
                self.children.setdefault(parent, []).append(index)
        self._signatures: dict[int, int] = {}

    def key(self, index: int) -> Hashable:
        """Equal for neighbours that share a line."""
        raise NotImplementedError

    def look(self, index: int) -> Hashable:
        """All that makes a row equal to another, but what lies inside it."""
        raise NotImplementedError

    def line(self, run: Sequence[int], indent: int, prefix: str, *, opened: bool) -> _Line:
        """The line of neighbours; `opened` if what lies inside them follows."""
        raise NotImplementedError

    def name_inside(self, index: int) -> str:  # noqa: ARG002  for subclasses
        """Name of a row, where blocks are equal only with the same names inside."""
        return ""

    def opens(self, index: int) -> bool:
        """Return True if a row may be opened."""
        return index in self.children

    def shortest(self, index: int) -> int:  # noqa: ARG002
        """Number of equal neighbours that share a line."""
        return 1

    def replaces(self, parent: int, run: Sequence[int]) -> str:  # noqa: ARG002
        """A prefix for the lines inside a run that needs no line of its own, "" if it does."""
        return ""

    def inside(self, run: Sequence[int]) -> str:  # noqa: ARG002
        """A prefix for the lines inside a run that has a line."""
        return ""

    def signature(self, index: int) -> int:
        """Equal for rows that are alike all the way down."""
        known = self._signatures.get(index)
        if known is None:
            inner = ((self.name_inside(i), self.signature(i)) for i in self.children.get(index, ()))
            known = self._signatures[index] = hash((self.look(index), tuple(inner)))
        return known

    def lines(self, root: int, levels: int) -> list[_Line]:
        """Rows inside a row, to a depth."""
        return list(self._lines(root, levels, 0, ""))

    def fitting(self, root: int, deepest: int) -> tuple[list[_Line], int]:
        """The lines of the deepest level at which they are not too many, and that level."""
        best = self.lines(root, 1), 1
        for levels in range(2, deepest + 1):
            lines = self.lines(root, levels)
            if len(lines) > AUTO_ROWS:
                break
            best = lines, levels
        return best

    def _lines(self, parent: int, levels: int, indent: int, prefix: str) -> Iterator[_Line]:
        for run in self._runs(parent) if levels > 0 else ():
            deeper = self.replaces(parent, run)
            if deeper:
                yield from self._lines(run[0], levels - 1, indent, f"{prefix}{deeper}.")
                continue
            opened = levels > 1 and self.opens(run[0])
            yield self.line(run, indent, prefix, opened=opened)
            if opened:
                yield from self._lines(run[0], levels - 1, indent + 1, self.inside(run))

    def _runs(self, parent: int) -> Iterator[list[int]]:
        """Neighbours that share a line."""
        for _, group in groupby(self.children.get(parent, ()), key=self.key):
            run = list(group)
            if len(run) < self.shortest(run[0]):
                yield from ([index] for index in run)
            else:
                yield run
