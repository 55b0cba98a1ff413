"""Choose the rows of a report: depth, folding of repeated blocks, order, filter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records.summary import LayerRow, ModelReport
from cnnscope.render import units
from cnnscope.render.tree import EACH, Options, Tree, View
from cnnscope.text import printable


class Line(NamedTuple):
    """A row as it is shown: `times` equal blocks, of which `last` is the last one's row."""

    row: LayerRow
    indent: int
    name: str
    times: int = 1
    macs: int = 0
    params: int = 0
    element_ops: int = 0
    content: str = ""  # what the line stands for, where that is not the row's operation
    last: LayerRow | None = None
    run: tuple[int, ...] = ()  # places of its rows among those of the report


SORT_KEYS = {
    "macs": "macs",
    "params": "params",
    "element-ops": "element_ops",
    "activation": "activation_bytes",
}


def view(report: ModelReport, options: Options) -> View[Line]:
    """Choose and fold the rows of a report.

    Raises:
        RequestError: an unknown sort key, or a filter that nothing matches.
    """
    rows = Rows(report.layers, options)
    if options.sort is None and options.filter is None:
        return rows.nested()
    return rows.listed()


class Rows(Tree[Line]):
    """The rows of the summary, and of any table whose rows are layers."""

    def __init__(self, rows: Sequence[LayerRow], options: Options) -> None:
        everything = options.everything
        super().__init__([r.parent for r in rows], lambda i: everything or not rows[i].minor)
        self.rows, self.options = rows, options
        self._kinds: dict[int, int] = {}
        self.fold = not (options.unfold or everything)
        self.always = _around([row.parent for row in rows], [row.fails for row in rows])
        self.depth = max((row.depth for row in rows if everything or not row.minor), default=0)

    def listed(self) -> View[Line]:
        """Leaves alone, filtered and sorted."""
        everything, key = self.options.everything, self.options.sort
        leaves = [
            row
            for index, row in enumerate(self.rows)
            if index not in self.children and (everything or not row.minor)
        ]
        if self.options.filter is not None:
            inner = leaves if everything else [row for row in self.rows if row.depth]
            leaves = _matching(leaves, inner, self.options.filter)
        if key is not None:
            if key not in SORT_KEYS:
                raise RequestError(f"--sort {printable(key)!r}: use one of {', '.join(SORT_KEYS)}")
            leaves = sorted(leaves, key=lambda row: -getattr(row, SORT_KEYS[key]))
        lines = tuple(_line(row, 0, units.called(row, row.path or row.name)) for row in leaves)
        return View(lines, self.depth, self.depth, 0, folded=False)

    def nested(self) -> View[Line]:
        """The tree to a depth, equal neighbours folded."""
        depth = 0 if self.options.everything else None
        depth = depth if self.options.depth is None else self.options.depth
        if depth is None:
            lines, depth = self.fitting(-1, self.depth, self.options.room)
            lines = self._with_examples(lines, depth)
        else:
            depth = depth or self.depth
            lines = self.lines(-1, depth)
        folded = len(lines) < self._count(self.children.get(-1, []), depth)
        hidden = 0 if self.options.everything else sum(row.minor for row in self.rows)
        shown = min(depth, self.depth)
        return View(tuple(lines), shown, self.depth, hidden, folded, bool(self.opened))

    def _with_examples(self, lines: list[Line], depth: int) -> list[Line]:
        """Open a block of each kind that is closed, whole or one level, where there is room."""
        tried: set[int] = set()
        while True:
            shown = {self._kind(i) for i in self.opened}
            closed = [i for i in self._closed(lines) if i not in tried]
            index = next((i for i in closed if self._kind(i) not in shown), None)
            if index is None:
                return lines
            tried.add(index)
            if len(lines) + len([*self._runs(index)]) > self.options.room:
                continue
            for inside in ({index, *self._inside(index)}, {index}):
                self.opened |= inside
                wider = self.lines(-1, depth)
                if len(wider) <= self.options.room:
                    lines = wider
                    break
                self.opened -= inside

    def _closed(self, lines: Sequence[Line]) -> list[int]:
        """Blocks of which no part is shown, the dearest first."""
        following = [*(line.indent for line in lines[1:]), 0][: len(lines)]  # none of no lines
        closed = [
            line
            for line, after in zip(lines, following, strict=True)
            if line.run[:1] and line.run[0] in self.children and after <= line.indent
        ]
        return [line.run[0] for line in sorted(closed, key=lambda line: -line.macs)]

    def _inside(self, index: int) -> list[int]:
        """All blocks inside a block."""
        inner = [i for i in self.children.get(index, ()) if i in self.children]
        return inner + [deep for i in inner for deep in self._inside(i)]

    def _kind(self, index: int) -> Hashable:
        """Equal for blocks that are made of the same parts, whatever their sizes are."""
        known = self._kinds.get(index)
        if known is None:
            inner = ((self.rows[i].name, self._kind(i)) for i in self.children.get(index, ()))
            known = self._kinds[index] = hash((self.rows[index].operation, *inner))
        return known

    def _count(self, parents: Sequence[int], depth: int) -> int:
        """Number of lines without folding."""
        children = [c for p in parents for c in self.children.get(p, ())] if depth > 0 else []
        return len(children) + (self._count(children, depth - 1) if children else 0)

    def lines(self, root: int, levels: int) -> list[Line]:
        """The lines inside the models at the root; a model that is one layer is a line itself."""
        top = self.children.get(root, [])
        lines = [line for model in top for line in super(Rows, self).lines(model, levels)]
        if self.fold and len(lines) > self.options.room:
            lines = _gathered(lines)
        return lines or [_line(self.rows[r], 0, self.rows[r].operation) for r in top]

    def key(self, index: int) -> Hashable:
        """Equal for blocks, and for operations, that look and cost the same."""
        folds = index in self.children or self.rows[index].kind == "operation"
        return ("", self.signature(index)) if self.fold and folds else index

    def look(self, index: int) -> Hashable:
        """Describe a row and its costs."""
        row = self.rows[index]
        facts = (row.operation, row.geometry, row.features, row.output_shapes, row.kind, row.fails)
        costs = (row.params, row.trainable_params, row.macs, row.element_ops, row.unknown_ops)
        return facts, costs

    def name_inside(self, index: int) -> str:
        """Blocks are equal where their parts have equal names."""
        return self.rows[index].name

    def shortest(self, index: int) -> int:
        """Blocks, or at least three operations."""
        return 1 if index in self.children else 3

    def replaces(self, parent: int, run: Sequence[int]) -> str:
        """The name of a block that is all that its parent does, "" for any other."""
        if run[0] not in self.children or len(self.children[parent]) != 1:
            return ""
        mine, outer = self.rows[run[0]], self.rows[parent]
        same = (mine.macs, mine.params) == (outer.macs, outer.params) and outer.depth > 0
        return mine.name if same and mine.call == 1 else ""

    def repeats(self, parent: int, run: Sequence[int]) -> bool:
        """Return True for all the equal blocks of a container, of which it says how many."""
        everything = 1 < len(run) == len(self.children[parent]) and run[0] in self.children
        return everything and self.rows[parent].depth > 0 and bool(self._content(parent))

    def each(self, run: Sequence[int], indent: int) -> Line:
        """The line of one of several equal blocks."""
        row = self.rows[run[0]]
        return _line(row, indent, EACH, 1, self._content(run[0]))._replace(run=(run[0],))

    def line(self, run: Sequence[int], indent: int, prefix: str, *, opened: bool) -> Line:
        """The line of a block, or of equal ones."""
        del opened
        row, last = self.rows[run[0]], self.rows[run[-1]]
        name = _range(row, last) if len(run) > 1 else units.called(row, row.name)
        made = _line(row, indent, prefix + name, len(run), self._content(run[0]))
        return made._replace(last=last, run=tuple(run))

    def _content(self, index: int) -> str:
        """`BasicBlock x 2` for a Sequential of two."""
        children = self.children.get(index, [])
        kinds = {self.rows[c].operation for c in children}
        container = self.rows[index].operation in ("Sequential", "ModuleList")
        if container and len(kinds) == 1 and len(children) > 1:
            return f"{kinds.pop()} x {len(children)}"
        return ""


def _around(parents: Sequence[int], fails: Sequence[bool]) -> frozenset[int]:
    """Rows around the one in which a forward raised."""
    found = set[int]()
    index = parents[fails.index(True)] if True in fails else -1
    while index >= 0:
        found.add(index)
        index = parents[index]
    return frozenset(found)


def _gathered(lines: list[Line]) -> list[Line]:
    """Runs of three or more operations without MACs as one line each."""
    gathered: list[Line] = []
    for _, group in groupby(lines, key=lambda line: (line.indent, _is_small(line))):
        run = list(group)
        if len(run) < 3 or not _is_small(run[0]):
            gathered += run
            continue
        first, last = run[0], run[-1]
        gathered.append(
            last._replace(
                name=f"{first.name} ... {last.name}",
                times=1,
                element_ops=sum(line.element_ops for line in run),
                content=f"{sum(line.times for line in run)} element operations",
            )
        )
    return gathered


def _is_small(line: Line) -> bool:
    row = line.row
    return row.kind == "operation" and not (line.macs or row.unknown_ops or row.fails)


def _line(row: LayerRow, indent: int, name: str, times: int = 1, content: str = "") -> Line:
    macs, params, element_ops = row.macs * times, row.params * times, row.element_ops * times
    return Line(row, indent, name, times, macs, params, element_ops, content)


def _range(first: LayerRow, last: LayerRow) -> str:
    """`1-5`, what the names have in common written once; `body #2-4` for one module's runs."""
    if first.name == last.name:
        return f"{first.name} #{first.call}-{last.call}"
    head, _, _ = first.name.rpartition(".")
    prefix = f"{head}." if head and last.name.startswith(f"{head}.") else ""
    return f"{first.name}-{last.name.removeprefix(prefix)}"


def _matching(leaves: list[LayerRow], inner: Sequence[LayerRow], pattern: str) -> list[LayerRow]:
    """The leaves, or else the blocks, that a glob matches by their path or operation."""

    def matches(row: LayerRow) -> bool:
        operation = row.operation.lower()
        return fnmatchcase(row.path, pattern) or fnmatchcase(operation, pattern.lower())

    found = list(filter(matches, leaves)) or list(filter(matches, inner))
    if not found:
        raise RequestError(
            f"--filter {printable(pattern)!r}: no layer has such a path or operation; "
            "try 'layer1.*' or 'Conv*'"
        )
    return found
