"""Which rows of a report are shown, and how: depth, folding of repeated blocks, order, filter."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import groupby
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records import LayerRow, ModelReport
from cnnscope.text import printable

AUTO_ROWS = 60  # without --depth, the deepest level whose table has at most so many rows


class Options(NamedTuple):
    """How a person wants the rows."""

    depth: int | None = None  # None: chosen by AUTO_ROWS; 0: no limit
    unfold: bool = False
    everything: bool = False  # minor rows as well, at every depth, unfolded
    sort: str | None = None
    filter: str | None = None


DEFAULT = Options()


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


class View(NamedTuple):
    """The lines, and what was left out of them."""

    lines: tuple[Line, ...]
    depth: int  # levels shown
    full_depth: int  # levels that there are
    hidden: int  # minor rows
    folded: bool


SORT_KEYS = {
    "macs": "macs",
    "params": "params",
    "element-ops": "element_ops",
    "activation": "activation_bytes",
}


def view(report: ModelReport, options: Options) -> View:
    """Choose and fold the rows of a report.

    Raises:
        RequestError: an unknown sort key, or a filter that nothing matches.
    """
    tree = _Tree(report.layers, show_all=options.everything)
    if options.sort is not None or options.filter is not None:
        return tree.flat(options)
    fold = not (options.unfold or options.everything)
    depth = options.depth
    if options.everything and depth is None:
        depth = 0
    if depth is None:
        depth = tree.auto_depth(fold=fold)
    return tree.nested(depth or tree.depth, fold=fold)


class _Tree:
    """The rows by parent."""

    def __init__(self, rows: tuple[LayerRow, ...], *, show_all: bool) -> None:
        self.rows = rows
        self.hidden = 0 if show_all else sum(row.minor for row in rows)
        self.children: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            if show_all or not row.minor:
                self.children.setdefault(row.parent, []).append(index)
        self.depth = max((row.depth for row in rows if show_all or not row.minor), default=0)
        self._signatures: dict[int, int] = {}

    def flat(self, options: Options) -> View:
        """Leaves alone, filtered and sorted."""
        leaves = [
            row
            for index, row in enumerate(self.rows)
            if index not in self.children and (options.everything or not row.minor)
        ]
        if options.filter is not None:
            pattern = options.filter
            candidates = [*leaves] if options.everything else [r for r in self.rows if r.depth]
            chosen = [row for row in candidates if _matches(row, pattern)]
            leaf_matches = [row for row in leaves if _matches(row, pattern)]
            leaves = leaf_matches or chosen
            if not leaves:
                raise RequestError(
                    f"--filter {printable(pattern)!r}: no layer has such a path or operation; "
                    "try 'layer1.*' or 'Conv*'"
                )
        if options.sort is not None:
            if options.sort not in SORT_KEYS:
                raise RequestError(
                    f"--sort {printable(options.sort)!r}: use one of {', '.join(SORT_KEYS)}"
                )
            attribute = SORT_KEYS[options.sort]
            leaves = sorted(leaves, key=lambda row: -getattr(row, attribute))
        lines = tuple(_line(row, 0, _named(row, row.path or row.name)) for row in leaves)
        return View(lines, self.depth, self.depth, 0, folded=False)

    def nested(self, depth: int, *, fold: bool) -> View:
        """The tree to a depth, equal neighbours folded."""
        lines: list[Line] = []
        top = self.children.get(-1, [])
        for root in top:
            self._add(root, depth, lines, fold=fold, indent=0)
        if fold and len(lines) > AUTO_ROWS:
            lines = _gathered(lines)
        if not lines:  # a model that is a single layer
            lines = [_line(self.rows[r], 0, self.rows[r].operation) for r in top]
        folded = len(lines) < self._count(top, depth)
        return View(tuple(lines), min(depth, self.depth), self.depth, self.hidden, folded)

    def _count(self, parents: list[int], depth: int) -> int:
        """How many lines there are without folding."""
        if depth < 1:
            return 0
        children = [c for p in parents for c in self.children.get(p, ())]
        return len(children) + (self._count(children, depth - 1) if children else 0)

    def auto_depth(self, *, fold: bool) -> int:
        """The deepest level whose table is not too long."""
        best = 1
        for depth in range(1, self.depth + 1):
            if len(self.nested(depth, fold=fold).lines) > AUTO_ROWS:
                break
            best = depth
        return best

    def _add(
        self,
        parent: int,
        depth: int,
        lines: list[Line],
        *,
        fold: bool,
        indent: int,
        prefix: str = "",
    ) -> None:
        """Add the lines inside a row; `prefix` is the block inside it that has no line itself."""
        if depth < 1:
            return
        children = self.children.get(parent, [])
        position = 0
        while position < len(children):
            first = children[position]
            run = self._run(children, position) if fold else 1
            row = self.rows[first]
            inside = self._said_above(parent, first, run)
            if inside:
                deeper = f"{prefix}{inside}."
                self._add(first, depth - 1, lines, fold=fold, indent=indent, prefix=deeper)
                return
            name = _named(row, row.name)
            if run > 1:
                name = _range(row, self.rows[children[position + run - 1]])
            line = _line(row, indent, prefix + name, run, self._content(first))
            lines.append(line._replace(last=self.rows[children[position + run - 1]]))
            self._add(first, depth - 1, lines, fold=fold, indent=indent + 1)
            position += run

    def _said_above(self, parent: int, first: int, run: int) -> str:
        """The name of a block whose own line would repeat its parent's, "" if it would not.

        All the equal blocks of a container are `*`; a block that is all that its parent does
        keeps its name.
        """
        children = self.children[parent]
        if first not in self.children or run != len(children):
            return ""
        if run > 1:
            return "*" if self._content(parent) else ""
        mine, outer = self.rows[first], self.rows[parent]
        same = (mine.macs, mine.params) == (outer.macs, outer.params) and outer.depth > 0
        return mine.name if same and mine.call == 1 else ""

    def _run(self, children: list[int], position: int) -> int:
        """How many equal neighbours follow each other: blocks, or at least three operations."""
        first = children[position]
        block = first in self.children
        if not block and self.rows[first].kind != "operation":
            return 1
        same = 1
        for other in children[position + 1 :]:
            if self._signature(other) != self._signature(first):
                break
            same += 1
        return same if block or same > 2 else 1

    def _signature(self, index: int) -> int:
        """Equal for blocks that look and cost the same, all the way down."""
        known = self._signatures.get(index)
        if known is None:
            row = self.rows[index]
            inside = tuple(
                (self.rows[c].name, self._signature(c)) for c in self.children.get(index, ())
            )
            facts = (row.operation, row.geometry, row.features, row.output_shapes, row.kind)
            costs = (row.params, row.trainable_params, row.macs, row.element_ops, row.unknown_ops)
            known = self._signatures[index] = hash((facts, costs, inside))
        return known

    def _content(self, index: int) -> str:
        """`BasicBlock x 2` for a Sequential of two."""
        children = self.children.get(index, [])
        kinds = {self.rows[c].operation for c in children}
        container = self.rows[index].operation in ("Sequential", "ModuleList")
        if container and len(kinds) == 1 and len(children) > 1:
            return f"{kinds.pop()} x {len(children)}"
        return ""


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
    return line.row.kind == "operation" and not line.macs and not line.row.unknown_ops


def _line(row: LayerRow, indent: int, name: str, times: int = 1, content: str = "") -> Line:
    macs, params, element_ops = row.macs * times, row.params * times, row.element_ops * times
    return Line(row, indent, name, times, macs, params, element_ops, content)


def _named(row: LayerRow, name: str) -> str:
    """The second run of a module says so."""
    return f"{name} #{row.call}" if row.call > 1 else name


def _range(first: LayerRow, last: LayerRow) -> str:
    """`1-5`, what the names have in common written once; `body #2-4` for one module's runs."""
    if first.name == last.name:
        return f"{first.name} #{first.call}-{last.call}"
    head, _, _ = first.name.rpartition(".")
    prefix = f"{head}." if head and last.name.startswith(f"{head}.") else ""
    return f"{first.name}-{last.name.removeprefix(prefix)}"


def _matches(row: LayerRow, pattern: str) -> bool:
    return fnmatchcase(row.path, pattern) or fnmatchcase(row.operation.lower(), pattern.lower())
