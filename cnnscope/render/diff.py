"""The report of `cnnscope diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

from cnnscope.records.diff import CONSEQUENCES, Change, DiffReport, DiffRow, Finding, Overrun
from cnnscope.records.summary import CONTAINERS, LayerRow, Totals
from cnnscope.records.trace import Attribute
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, DIFFERENT, GOOD, Heading, Page, Table
from cnnscope.render.tree import DEFAULT, EACH, Options, Tree, View
from cnnscope.text import operation

_SHOWN = 4  # distinct changes in one cell or sentence
_SENTENCES = 12  # of the findings
_FEW = 2  # layers that are all named

_MARKS = {"same": "=", "resized": "=", "changed": "~", "added": "+", "removed": "-"}
_STYLES = {"same": "dim", "resized": "", "changed": DIFFERENT, "added": GOOD, "removed": BAD}
_SHORT = {
    "kernel_size": "kernel", "in_channels": "in", "out_channels": "out", "in_features": "in",
    "out_features": "out", "num_features": "features", "normalized_shape": "features",
    "embed_dim": "width", "num_heads": "heads", "params": "parameters",
}  # fmt: skip
_ONE = ("stride", "padding", "dilation")
_LONG = {"out_channels": "output channels", "out_features": "output features"}

_BUDGETS = {  # what a budget is about, and how its numbers are written
    "max_params": ("parameters", units.integer),
    "max_macs": ("MACs", units.si),
    "max_activation": ("peak activations", units.nbytes),
    "max_train_memory": ("training memory", units.nbytes),
}

_ROWS = (
    Heading("", left=True),
    Heading("layer", left=True, least=18),
    Heading("operation", left=True, least=19, wrap=True),
    Heading("change", left=True, least=14, wrap=True),
    Heading("params"),
    Heading("MACs"),
)


def page(report: DiffReport, options: Options = DEFAULT) -> Page:
    """Findings in words, the aligned rows, and the totals side by side."""
    view = _Rows(report.rows, options).view()
    table = Table(_ROWS, tuple(c for _, c in view.lines), tuple(style for style, _ in view.lines))
    return Page(
        f"{report.before.source.name} -> {report.after.source.name}",
        _header(report),
        ((table,) if view.lines else ()) + (_totals(report),),
        tuple(_below(report, view)),
        (*_sides(report), *_over(report), *_sentences(report)),
    )


def markdown(report: DiffReport, laid_out: Page) -> str:
    """The difference for a comment on a pull request."""
    from cnnscope.render import comment

    return comment.markdown(report, laid_out)


def overrun(over: Overrun) -> str:
    """Parameters: 11.69 M -> 21.80 M (+86.5 %), more than --max-params +5% allows."""
    what, written = _BUDGETS[over.limit_name]
    option = f"--{over.limit_name.replace('_', '-')} {over.limit}"
    if over.after is None:
        return f"{what}: not known, so that {option} cannot be held"
    change = units.relative(over.before, over.after) or "unchanged"
    text = f"{what}: {written(over.before)} -> {written(over.after)} ({change}), more than {option}"
    most = f"; the most in {over.where}: {units.signed(over.share, written)}" if over.where else ""
    return f"{text} allows ({written(max(int(over.allowed), 0))}){most}"


def _over(report: DiffReport) -> list[tuple[str, str]]:
    return [("over" if i == 0 else "", overrun(one)) for i, one in enumerate(report.over)]


# -------------------------------------------------------------------------------- headings


def _header(report: DiffReport) -> str:
    """Header of what both models share; empty where their requests differ."""
    header = facts.header(report.before)
    return header if header == facts.header(report.after) else ""


def _sides(report: DiffReport) -> list[tuple[str, str]]:
    if _header(report):
        return []
    sides = (("before", report.before), ("after", report.after))
    return [(title, f"{side.source.name}, {facts.header(side)}") for title, side in sides]


# -------------------------------------------------------------------------------- findings


def _sentences(report: DiffReport) -> list[tuple[str, str]]:
    """The findings, one sentence each; a title stands before the first of its kind."""
    if not report.differs:
        layers = sum(row.row.leaf and not row.row.minor for row in report.rows)
        said = [("same", f"no difference: {units.plural(layers, 'layer')}, all equal")]
        return said + [("", _nested(f)) for f in report.findings if f.about == "nested"]
    said = list(_said(report))
    if len(said) > _SENTENCES:
        more = f"and {units.plural(len(said) - _SENTENCES, 'kind')} of change more, in the table"
        said = [*said[:_SENTENCES], ("...", more)]
    titles = [title for title, _ in said]
    return [
        (title if i == 0 or titles[i - 1] != title else "", sentence)
        for i, (title, sentence) in enumerate(said)
    ]


def _said(report: DiffReport) -> Iterator[tuple[str, str]]:
    by_path = {
        (row.status, row.row.path): row.row for row in report.rows if row.status[-2:] == "ed"
    }
    structural = {"outputs", "blocks", "moved", "changed", "added", "removed"}
    only_data = not any(f.about in structural for f in report.findings)
    for about, group in groupby(report.findings, key=lambda f: f.about):
        found = list(group)
        if about in ("added", "removed"):
            yield from ((about, text) for text in _alone(found, by_path))
        elif about == "resized" and (only_data or _asked_otherwise(report)):
            yield "same layers", _resized(found[0])
        elif about == "changed":
            yield from ((about, _changed(same)) for same in _of_the_same(found))
        elif about in _SAY:
            yield from ((about, _SAY[about](finding)) for finding in found)


def _asked_otherwise(report: DiffReport) -> bool:
    return any(f.about == "inputs" for f in report.findings)


def _blocks(f: Finding) -> str:
    where = f" in {f.paths[0]}" if f.paths[0] else ""
    return f"{f.subject} {_joined(f.before)} -> {_joined(f.after)}{where}{_cost(f)}"


def _moved(f: Finding) -> str:
    if f.what == "place":
        return f"{_place(f)}{_cost(f)}"
    (source, value), (target, _) = f.before, f.after
    return f"{f.what} {_value(value, f.what)} from {source} to {target} in {_paths(f)}{_cost(f)}"


def _place(f: Finding) -> str:
    """MaxPool2d (p) from behind a to behind c."""
    places = " to ".join(map(_behind, (*f.before, *f.after)))
    kind = f"{f.count} {f.subject}" if f.count > 1 else f.subject
    return f"{kind} ({_paths(f)}) from {places}"


def _moved_there(change: Change, status: str) -> str:
    """Moved to behind c, of the row that is removed; moved from behind a, of the one added."""
    other = change.after if status == "removed" else change.before
    return f"moved {'to' if status == 'removed' else 'from'} {_behind(other)}"


def _behind(name: Attribute) -> str:
    return f"behind {name}" if name else "the beginning"


def _outputs(f: Finding) -> str:
    """Mask, edge -> edge, mask: the layers whose results are returned."""
    before, after = (_some(list(map(_value, side))) or "none" for side in (f.before, f.after))
    return f"{before} -> {after}"


def _of_the_same(found: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Changes of the same layers together: they have one cost."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for f in found:
        groups.setdefault(f.paths, []).append(f)
    return iter(groups.values())


def _changed(same: Sequence[Finding]) -> str:
    """Groups 1 -> 32; output channels 64 -> 128 in 16 Conv2d (...), with the cost of those."""
    f = max(same, key=lambda f: (abs(f.params), abs(f.macs)))
    names = [
        f"{_LONG.get(f.what, _SHORT.get(f.what, f.what.replace('_', ' ')))} {_pairs(f)}"
        for f in same
        if f.what != "operation"
    ]
    kinds = [_pairs(f) for f in same if f.what == "operation"]
    if kinds:
        places = f" in {f.count} places" if f.count > 1 else ""
        return f"{'; '.join((*kinds, *names))}{places} ({_paths(f)}){_cost(f)}"
    count = f"{f.count} {f.subject}" if f.count > 1 else f.subject
    return f"{'; '.join(names)} in {count} ({_paths(f)}){_cost(f)}"


def _pairs(f: Finding) -> str:
    """64 -> 128, 128 -> 256."""
    pairs = zip(f.before, f.after, strict=True)
    return _some([f"{_value(a, f.what)} -> {_value(b, f.what)}" for a, b in pairs])


def _resized(f: Finding) -> str:
    return f"{units.plural(f.count, 'layer')} on other maps, channels or dtypes{_cost(f)}"


def _alone(found: Sequence[Finding], rows: dict[tuple[str, str], LayerRow]) -> Iterator[str]:
    """Describe a row and its costs; kinds that cost nothing share one sentence."""
    for f in found:
        if f.params or f.macs:
            kinds = Counter(
                _details(rows[f.about, path], named=f.count <= _FEW) for path in f.paths
            )
            texts = [f"{n} x {text}" if n > 1 else text for text, n in kinds.items() if text]
            shown = _some(texts, "; ") or _paths(f)
            yield f"{f.count} {f.subject} ({shown}){_cost(f)}"
    free = [_free(f) for f in found if not f.params and not f.macs]
    if free:
        yield _some(free)


def _free(f: Finding) -> str:
    """1 add (layer1.add); 16 ReLU."""
    return f"{f.count} {f.subject}" + (f" ({_paths(f)})" if f.count <= _FEW else "")


def _nested(f: Finding) -> str:
    """The same network, under backbone."""
    if f.what == "names":
        pairs = [f"{a} -> {b}" for a, b in zip(f.before, f.after, strict=True)]
        more = f" and {f.count - len(pairs)} more" if f.count > len(pairs) else ""
        return f"the same network, with other names: {', '.join(pairs)}{more}"
    if f.what == "otherwise":
        return "the same network, in other blocks"
    before, after = f.paths
    if not before:
        return f"the same network, under {after}"
    return f"the same network, without {before} around it" + (f", under {after}" if after else "")


_SAY = {  # the heading says the others
    "outputs": _outputs, "blocks": _blocks, "moved": _moved, "nested": _nested,
}  # fmt: skip


def _details(row: LayerRow, *, named: bool) -> str:
    """conv1: 3x3, p1, 64 -> 64: what a layer is, without its kind."""
    text = operation_of(row).removeprefix(row.operation).strip(" ,") if row.leaf else ""
    return f"{row.path}: {text}" if text and named else text


def _cost(f: Finding) -> str:
    parts = [f"{units.signed(f.params)} parameters"] if f.params else []
    if f.macs:
        parts.append(f"{'-' if f.macs < 0 else '+'}{facts.with_unit(abs(f.macs), 'MACs')}")
    return f": {', '.join(parts)}" if parts else ""


def _paths(f: Finding) -> str:
    distinct = list(dict.fromkeys(path or "the model" for path in f.paths))
    if len(distinct) <= _SHOWN:
        return ", ".join(distinct)
    return f"{distinct[0]} to {distinct[-1]}"


def _joined(values: Sequence[Attribute]) -> str:
    return ", ".join(map(_value, values))


def _some(texts: Sequence[str], between: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = len(texts) - _SHOWN
    return between.join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _value(value: object, what: str = "") -> str:
    """A hyper-parameter; a stride of 2x2 is 2, a kernel of 3x3 is not 3."""
    if isinstance(value, tuple):
        texts = list(map(_value, value)) or ["none"]
        return units.same(texts) if what in _ONE else "x".join(texts)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return units.integer(value)
    return str(value) if value is not None else "none"


# ------------------------------------------------------------------------------------ rows


_Drawn = tuple[str, tuple[str, ...]]  # a style and cells


class _Rows(Tree[_Drawn]):
    """The rows of the table: which are shown, folded and opened."""

    def __init__(self, rows: Sequence[DiffRow], options: Options) -> None:
        super().__init__(
            [r.parent for r in rows], lambda i: options.everything or not _bare(rows[i])
        )
        self.rows, self.options = rows, options
        self.flat = rows[0].status == "resized"  # only data differs: every row has its own line

    def view(self) -> View[_Drawn]:
        """The lines, as deep as was asked for or as fits."""
        full = max((r.depth for r in self.rows if not r.row.minor), default=0)
        if self.options.depth is None:
            lines, depth = self.fitting(0, full, self.options.room)
            depth = next(d for d in range(1, depth + 1) if len(self.lines(0, d)) == len(lines))
        else:
            depth = self.options.depth or full
            lines = self.lines(0, depth)
        hidden = 0
        if not self.options.everything:
            hidden = sum(_bare(row) and row.status != "same" for row in self.rows)
        return View(tuple(lines), depth, full, hidden, folded=not self.options.unfold)

    def opens(self, index: int) -> bool:
        """Equal blocks and those without a partner stay closed."""
        status = self.rows[index].status
        changed = status == "changed" or (status == "resized" and self.flat)
        return index in self.children and (self.options.unfold or changed)

    def key(self, index: int) -> Hashable:
        """Equal for blocks that differ from their partners in the same way."""
        row = self.rows[index]
        if self.options.unfold:
            return index
        alone = row.status in ("added", "removed") and not row.row.leaf
        if alone and row.row.operation not in CONTAINERS:
            return row.status, row.row.operation, row.changes
        if row.status == "same" or (row.status == "resized" and not self.flat):
            return row.status
        return index if row.row.leaf else ("", self.signature(index))

    def look(self, index: int) -> Hashable:
        """Describe both partners and their differences."""
        row = self.rows[index]
        sides = [side for side in (row.before, row.after) if side]
        shapes = tuple(side.output_shapes for side in sides)
        what = (row.status, row.changes, row.params, row.macs, row.row.leaf)
        return what, tuple(map(operation_of, sides)), shapes

    def each(self, run: Sequence[int], indent: int) -> _Drawn:
        """The line of one of several equal blocks."""
        style, cells = self.line(run[:1], indent, "", opened=True)
        return style, (cells[0], "  " * indent + EACH, *cells[2:])

    def line(self, run: Sequence[int], indent: int, prefix: str, *, opened: bool) -> _Drawn:
        """Marks, names, what it is, what differs, and what that costs."""
        rows = [self.rows[i] for i in run]
        status = rows[0].status
        params, macs = sum(r.params for r in rows), sum(r.macs for r in rows)
        if status == "same":
            params, macs = sum(r.row.params for r in rows), sum(r.row.macs for r in rows)
            costs = units.integer(params) if params else "", units.si_short(macs) if macs else ""
        else:
            costs = units.signed(params), units.signed(macs, units.si_short)
        cells = (
            _MARKS[status],
            "  " * indent + prefix + self._names(run),
            self._contents(run[0]) if len(run) == 1 and not opened else _what(rows),
            self._change(run, opened=opened),
            *costs,
        )
        return _STYLES[status], cells

    def _names(self, run: Sequence[int]) -> str:
        """1-3, or 1-3 -> 2-4 where the partners have other names."""
        rows = [self.rows[i] for i in run]
        outer = self.rows[rows[0].parent]
        before = [_called(row.before, outer.before) for row in rows if row.before]
        after = [_called(row.after, outer.after) for row in rows if row.after]
        texts = [_range(side) for side in (before, after) if side]
        return texts[0] if len(set(texts)) == 1 else " -> ".join(texts)

    def _contents(self, index: int) -> str:
        """Of a container that stays closed, what it is made of."""
        row = self.rows[index]
        inside = [self.rows[i] for i in self.children.get(index, ())]
        if row.row.operation in CONTAINERS and inside and row.status in ("added", "removed"):
            return _what(inside)
        return operation_of(row.row)

    def _change(self, run: Sequence[int], *, opened: bool) -> str:
        """Differences of the layer itself, or inside a block that stays closed."""
        row = self.rows[run[0]]
        if row.status == "resized":
            return _map(row) if len(run) == 1 or self.flat else "other maps or channels"
        if row.status in ("added", "removed"):
            return next((_moved_there(c, row.status) for c in row.changes), "")
        if row.status != "changed":
            return ""
        own = ", ".join(map(said_of, row.changes))
        inside = "" if opened or row.row.leaf else self._inside(run[0])
        return "; ".join(text for text in (own, inside) if text)

    def _inside(self, index: int) -> str:
        """The changes of the layers inside a block, the most frequent first."""
        changes: Counter[Change] = Counter()
        alone: Counter[str] = Counter()
        for row in self._leaves(index):
            changes.update(row.changes)
            alone[row.status] += 1
        every = [change for change, _ in changes.most_common()]
        causes = [change for change in every if change.what not in CONSEQUENCES]
        texts = list(dict.fromkeys(map(said_of, causes or every)))
        counts = [f"{alone[s]} {s}" for s in ("added", "removed") if alone[s]]
        shown = _some(texts)
        return ", ".join([*counts, shown] if shown else counts)

    def _leaves(self, index: int) -> Iterator[DiffRow]:
        for inner in self.children.get(index, ()):
            if self.rows[inner].row.leaf:
                yield self.rows[inner]
            yield from self._leaves(inner)


def _bare(row: DiffRow) -> bool:
    """Return True if a row is an operation that only moves data."""
    return row.row.minor and row.row.kind != "module"


def _range(names: Sequence[str]) -> str:
    first, last = names[0], names[-1]
    if first == last:
        return first
    digits = all(name.replace(" ", "").isdigit() for name in (first, last))
    return f"{first}-{last}" if digits else f"{first} ... {last}"


def _called(row: LayerRow, outer: LayerRow | None) -> str:
    """The name of a row, with those of blocks around it that have no row of their own."""
    name = row.name
    if outer is not None and row.depth > outer.depth + 1:
        name = row.path.removeprefix(f"{outer.path}." if outer.path else "")
    return units.called(row, name)


def _what(rows: Sequence[DiffRow]) -> str:
    """The operation; of several, what they are made of."""
    if len(rows) == 1:
        return operation_of(rows[0].row)
    kinds = Counter(row.row.operation for row in rows)
    return _some([f"{n} {kind}" if n > 1 else kind for kind, n in kinds.items()])


def operation_of(row: LayerRow) -> str:
    """Conv2d 3x3, p1, 64 -> 128: the channels too, for they are what a diff is about."""
    text = units.operation(row)
    if row.geometry is not None and row.features is not None:
        text += f", {row.features[0]} -> {row.features[1]}"
    return text


def said_of(change: Change) -> str:
    """Kernel 3x3 -> 5x5: a hyper-parameter that two layers do not share."""
    text = f"{_value(change.before, change.what)} -> {_value(change.after, change.what)}"
    if change.what == "operation":
        return text
    return f"{_SHORT.get(change.what, change.what.replace('_', ' '))} {text}"


def _map(row: DiffRow) -> str:
    """The same layer, other data: its output, or what it reads, or only the dtype."""
    before, after = row.before, row.after
    if before is None or after is None:
        return ""
    for name in ("output_shapes", "input_shapes"):
        pair = [getattr(side, name) for side in (before, after)]
        if pair[0] != pair[1] and all(pair):
            return f"map {units.per_sample(pair[0][0])} -> {units.per_sample(pair[1][0])}"
    return "other dtype" if before.activation_bytes != after.activation_bytes else "other data"


# ---------------------------------------------------------------------------------- totals


def _totals(report: DiffReport) -> Table:
    """Side by side, with absolute and relative change."""
    before, after = report.before, report.after
    names = before.source.name, after.source.name
    titles = names if names[0] != names[1] else ("before", "after")
    headings = (
        Heading("total", left=True),
        *(Heading(title, least=8) for title in titles),
        Heading("change"),
        Heading("relative"),
    )
    a, b = before.totals, after.totals
    memory = _compared("their memory", a.param_bytes, b.param_bytes, units.nbytes)
    rows = (
        _compared("parameters", a.params, b.params, units.integer),
        *([memory] if a.param_bytes * b.params != b.param_bytes * a.params else ()),
        _compared("MACs", a.macs, b.macs, units.si),
        _compared("element ops", a.element_ops, b.element_ops, units.si),
        _compared(
            "peak activations", a.peak_activation_bytes, b.peak_activation_bytes, units.nbytes
        ),
        _compared("all activations", a.activation_bytes, b.activation_bytes, units.nbytes),
        *_training(report),
        _compared("weight layers", _weight_layers(a), _weight_layers(b), units.integer),
        _field(a, b),
    )
    styles = (("", "", "", DIFFERENT, DIFFERENT),) * len(rows)
    return Table(headings, rows, styles)


def _training(report: DiffReport) -> list[tuple[str, ...]]:
    """Memory of a training step, where it was asked for."""
    if report.training is None:
        return []
    return [_compared("training memory", *report.training, units.nbytes)]


def _compared(title: str, before: int, after: int, written: units.Writer) -> tuple[str, ...]:
    change = units.signed(after - before, written) or "="
    return title, written(before), written(after), change, units.relative(before, after)


def _weight_layers(totals: Totals) -> int:
    return totals.conv_layers + totals.linear_layers + totals.recurrent_layers


def _field(a: Totals, b: Totals) -> tuple[str, ...]:
    """The largest receptive field of positions, in pixels."""
    texts = [units.field(t.field) if t.field else "none" for t in (a, b)]
    sizes = [[axis.local_size for axis in t.field or ()] for t in (a, b)]
    change = "=" if texts[0] == texts[1] else ""
    if len(sizes[0]) == len(sizes[1]) and sizes[0] != sizes[1]:
        change = _wider(*sizes)
    x, y = (set(s) for s in sizes)
    one = len(x) == len(y) == 1 and None not in x | y
    return (
        "receptive field",
        *texts,
        change,
        units.relative(sizes[0][0] or 0, sizes[1][0] or 0) if one else "",
    )


def _wider(before: Sequence[int | None], after: Sequence[int | None]) -> str:
    """+464 px, or by axis: H unchanged, W -4 px; W all -> 9 px where one of them sees all of it."""
    each = [_along(x, y) for x, y in zip(before, after, strict=True)]
    if len(set(each)) == 1:
        return each[0]
    names = units.axis_names(len(each))
    return ", ".join(f"{name} {text}" for name, text in zip(names, each, strict=True))


def _along(before: int | None, after: int | None) -> str:
    if before == after:
        return "unchanged"
    if before is None or after is None:
        return " -> ".join("all" if size is None else f"{size} px" for size in (before, after))
    return f"{units.signed(after - before)} px"


def _below(report: DiffReport, view: View[_Drawn]) -> Iterator[tuple[str, str]]:
    for side in (report.before, report.after):
        for op in side.unknown:
            yield (
                "!",
                f"{side.source.name}: no formula for {operation(op.name)} (x{op.count}): "
                "its cost is missing",
            )
    notes = dict.fromkeys(note for side in (report.before, report.after) for note in side.notes)
    yield from (("!", note) for note in notes)
    if shown := facts.shown(view, "change"):
        yield "shown", shown


# ------------------------------------------------------------------------------------- CSV

_CSV_SIDES = ("path", "call", "operation", "output_shapes", "params", "macs")
_CSV_COSTS = ("params", "macs", "element_ops", "activation_bytes")


def sheet(report: DiffReport) -> Sheet:
    """One line per pair of rows, blocks and what is inside them alike (see `depth`).

    Costs are differences, after less before.
    """
    sides = [f"{side}_{name}" for side in ("before", "after") for name in _CSV_SIDES]
    changes = [f"{name}_change" for name in _CSV_COSTS]
    columns = ("status", "depth", "kind", "leaf", "minor", *sides, "changes", *changes)
    return columns, map(_raw, report.rows)


def _raw(row: DiffRow) -> Row:
    computed: dict[str, object] = {f"{name}_change": getattr(row, name) for name in _CSV_COSTS}
    for side, own in (("before", row.before), ("after", row.after)):
        if own is not None:
            computed |= {f"{side}_{name}": getattr(own, name) for name in _CSV_SIDES}
    computed["changes"] = "; ".join(
        f"{c.what}: {_plain(c.before)} -> {_plain(c.after)}" for c in row.changes
    )
    return (computed, row, row.row)


def _plain(value: Attribute) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
