"""Rows that lie inside each other, to a depth, equal neighbours on one line: summary and diff."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

AUTO_ROWS = 60  # without a depth, a table has at most so many rows, a terminal permitting
EACH = "each"  # name of the row of one of several equal blocks
_Line = TypeVar("_Line")


class Options(NamedTuple):
    """Options of rows; only the summary sorts and filters them."""

    depth: int | None = None  # None: as deep as `room` allows; 0: no limit
    unfold: bool = False  # equal rows one by one
    everything: bool = False  # minor rows as well
    sort: str | None = None
    filter: str | None = None
    room: int = AUTO_ROWS  # rows that fit


DEFAULT = Options()


class View(NamedTuple, Generic[_Line]):
    """The lines, and what was left out of them."""

    lines: tuple[_Line, ...]
    depth: int  # levels shown
    full_depth: int  # levels that there are
    hidden: int  # minor rows
    folded: bool
    examples: bool = False  # one block of each kind is opened below that depth


class Tree(Generic[_Line]):
    """Rows, by index, inside each other; a subclass says which are alike and what a line is."""

    def __init__(self, parents: Sequence[int], shown: Callable[[int], bool]) -> None:
        self.children: dict[int, list[int]] = {}
        for index, parent in enumerate(parents):
            if shown(index):
                self.children.setdefault(parent, []).append(index)
        self.opened: set[int] = set()  # rows that are open whatever the depth
        self._signatures: dict[int, int] = {}
        self.always: frozenset[int] = frozenset()  # rows that are open at every depth

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
        """Name a run that needs no line of its own before what is inside; "" if it needs one."""
        return ""

    def repeats(self, parent: int, run: Sequence[int]) -> bool:  # noqa: ARG002
        """Return True if the line of a run would repeat what that of its parent says."""
        return False

    def each(self, run: Sequence[int], indent: int) -> _Line:
        """The line of one of several equal blocks, whose parts follow."""
        raise NotImplementedError

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

    def fitting(self, root: int, deepest: int, room: int = AUTO_ROWS) -> tuple[list[_Line], int]:
        """The lines of the deepest level at which they are not too many, and that level."""
        best = self.lines(root, 1), 1
        for levels in range(2, deepest + 1):
            lines = self.lines(root, levels)
            if len(lines) > room:
                break
            best = lines, levels
        return best

    def _lines(self, parent: int, levels: int, indent: int, prefix: str) -> Iterator[_Line]:
        for run in self._runs(parent) if levels > 0 else ():
            inside = max(levels - 1, int(run[0] in self.opened or run[0] in self.always))
            deeper = self.replaces(parent, run)
            opened = inside > 0 and self.opens(run[0])
            if deeper:
                yield from self._lines(run[0], inside, indent, f"{prefix}{deeper}.")
                continue
            if not self.repeats(parent, run):
                yield self.line(run, indent, prefix, opened=opened)
            elif not opened:
                yield self.each(run, indent)
            if opened:
                yield from self._opened(run, inside, indent, repeats=self.repeats(parent, run))

    def _opened(
        self, run: Sequence[int], levels: int, indent: int, *, repeats: bool
    ) -> Iterator[_Line]:
        """The lines inside a run: of one of the blocks, which has a line of its own then."""
        if len(run) > 1:
            indent += 0 if repeats else 1
            yield self.each(run, indent)
        yield from self._lines(run[0], levels, indent + 1, "")

    def _runs(self, parent: int) -> Iterator[list[int]]:
        """Neighbours that share a line."""
        for _, group in groupby(self.children.get(parent, ()), key=self.key):
            run = list(group)
            if len(run) < self.shortest(run[0]):
                yield from ([index] for index in run)
            else:
                yield run
