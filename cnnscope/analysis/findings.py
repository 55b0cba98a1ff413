"""The main differences between two models, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from cnnscope.analysis import nesting
from cnnscope.analysis.nesting import Pair
from cnnscope.analysis.nodes import Node
from cnnscope.records.diff import CONSEQUENCES, Change, DiffRow, DiffSide, Finding
from cnnscope.records.summary import CONTAINERS, LayerRow
from cnnscope.records.trace import Attribute

_MOVABLE = ("stride", "dilation")  # what designs shift from one layer of a block to another
_SHAPES = frozenset(("Flatten", "Unflatten"))
_JOINS = frozenset(("cat", "stack"))  # which move data alone, and say what a network is
_NAMES = 4  # that are other ones, in a finding
_FREE = ("eps", "momentum", "p")  # of norms and dropouts: no cost follows from them


def findings(before: DiffSide, after: DiffSide, rows: Sequence[DiffRow]) -> tuple[Finding, ...]:
    """The differences, the outermost first; nothing for models that are the same."""
    children = _children(rows)
    moved = list(_moved(rows, children))
    return (
        *_asked(before, after),
        *_outputs(rows[0]),
        *_blocks(rows, children),
        *(finding for finding, _ in moved),
        *_placed(rows),
        *sorted(
            _changed(rows, {index for _, indices in moved for index in indices}), key=_by_weight
        ),
        *_alone(rows, "added"),
        *_alone(rows, "removed"),
        *_resized(rows),
    )


def nested(pair: Pair) -> Iterator[Finding]:
    """Networks that are equal, and are wrapped, nested or named differently."""
    before, after = pair.before, pair.after
    if before is None or after is None or before.core != after.core or before.uid == after.uid:
        return
    hearts = [nesting.heart(node) for node in (before, after)]
    depths = [len(heart) for heart in hearts]
    paths = tuple(heart[-1].row.path for heart in hearts)
    if depths[0] != depths[1]:
        yield Finding("nested", what="under", paths=paths)
    elif _blocks_of(before) != _blocks_of(after):
        yield Finding("nested", what="otherwise", paths=paths)
    else:
        names = list(_renamed(pair))
        if names:
            firsts, seconds = tuple(x[:_NAMES] for x in zip(*names, strict=True))
            yield Finding("nested", what="names", before=firsts, after=seconds, count=len(names))


def _blocks_of(node: Node) -> list[int]:
    """How many layers are in each child, all the way down: how a network is nested."""
    inside = [len(child.layers()) for child in node.children if child.layers()]
    below = [n for child in node.children if not child.leaf for n in _blocks_of(child)]
    return [len(inside), *inside, *below]


def _renamed(pair: Pair) -> Iterator[tuple[str, str]]:
    """Nodes that have other names than their partners: the outermost ones."""
    for inner in pair.inside:
        before, after = inner.before, inner.after
        if before is None or after is None or not before.layers():
            continue
        if before.name != after.name:
            yield before.row.path, after.row.path
        else:
            yield from _renamed(inner)


def _children(rows: Sequence[DiffRow]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        children[row.parent].append(index)
    return children


def _asked(before: DiffSide, after: DiffSide) -> Iterator[Finding]:
    """Inputs and arguments that the two were asked for with."""
    first, second = (tuple(map(str, side.inputs)) for side in (before, after))
    if first != second:
        yield Finding("inputs", before=first, after=second)
    first, second = (
        tuple(f"{k}={v}" for k, v in sorted(side.source.arguments.items()))
        for side in (before, after)
    )
    if first != second:
        yield Finding("arguments", before=first, after=second)


def _outputs(model: DiffRow) -> Iterator[Finding]:
    """What the models return, where that is not the same."""
    for change in model.changes:
        if change.what == "outputs":
            before, after = (
                side if isinstance(side, tuple) else () for side in (change.before, change.after)
            )
            yield Finding("outputs", before=before, after=after)


# ------------------------------------------------------------------------------------ blocks


def _blocks(rows: Sequence[DiffRow], children: dict[int, list[int]]) -> Iterator[Finding]:
    """2, 2, 2, 2 -> 3, 4, 6, 3: how often the stages of one module repeat their blocks."""
    for index, row in enumerate(rows):
        if row.status != "changed" or row.row.leaf or _repeated(rows, children, index):
            continue
        found = {i: _repeats(rows, children, i) for i in children[index]}
        stages = {i: pair for i, pair in found.items() if pair}
        before = [(kind, n) for (kind, n), _ in stages.values() if n]
        after = [(kind, n) for _, (kind, n) in stages.values() if n]
        counts = [n for _, n in before], [n for _, n in after]
        if counts[0] != counts[1] and all(counts) and max(map(max, counts)) > 1:
            only = rows[next(iter(stages))] if len(stages) == 1 else row
            yield Finding(
                "blocks",
                subject=_kinds(before, after),
                before=tuple(counts[0]),
                after=tuple(counts[1]),
                paths=(only.row.path,),
                params=sum(rows[i].params for i in stages),
                macs=sum(rows[i].macs for i in stages),
            )


def _repeated(rows: Sequence[DiffRow], children: dict[int, list[int]], index: int) -> bool:
    """Return True if a row is inside a block that stands there several times, or is one itself."""
    while index > 0:
        parent, kind = rows[index].parent, rows[index].row.operation
        alike = sum(rows[i].row.operation == kind for i in children[parent])
        if alike > 1 and kind not in CONTAINERS:
            return True
        index = parent
    return False


def _kinds(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> str:
    first, second = (" and ".join(dict.fromkeys(k for k, _ in side)) for side in (before, after))
    return first if first == second else f"{first} -> {second}"


_Blocks = tuple[str, int]  # their kind, and how many


def _repeats(
    rows: Sequence[DiffRow], children: dict[int, list[int]], index: int
) -> tuple[_Blocks, _Blocks] | None:
    """Blocks of which a stage consists, before and after; None unless it is of one kind."""
    inside = [rows[i] for i in children[index]]
    before = _only_blocks([row.before for row in inside if row.before])
    after = _only_blocks([row.after for row in inside if row.after])
    return (before, after) if before and after and inside else None


def _only_blocks(inside: Sequence[LayerRow]) -> _Blocks | None:
    """Blocks that are alone and of one kind; None beside other weights, ("", 0) of no stage."""
    kinds = Counter(row.operation for row in inside if not row.leaf)
    bare = any(row.leaf and row.params for row in inside)
    if not inside:
        return "", 0
    return None if bare or len(kinds) != 1 or set(kinds) & CONTAINERS else kinds.most_common(1)[0]


# ------------------------------------------------------------------------------------ layers


def _moved(
    rows: Sequence[DiffRow], children: dict[int, list[int]]
) -> Iterator[tuple[Finding, list[int]]]:
    """A stride that one layer of a block lost and another gained; and the rows that it is about."""
    found: dict[tuple[str, str, str, Attribute], list[tuple[int, int, int]]] = defaultdict(list)
    for index in range(len(rows)):
        for what in _MOVABLE:
            touched = [
                (i, c)
                for i in children[index]
                for c in rows[i].changes
                if c.what == what and rows[i].row.leaf
            ]
            if len(touched) != 2:
                continue
            (i, first), (j, second) = touched
            if (first.before, first.after) == (second.after, second.before):
                source, target = (i, j) if _more(first) else (j, i)
                value = first.before if _more(first) else first.after
                key = (what, rows[source].row.name, rows[target].row.name, value)
                found[key].append((index, source, target))
    for (what, source_name, target_name, value), places in found.items():
        yield (
            Finding(
                "moved",
                subject=rows[places[0][1]].row.operation,
                what=what,
                before=(source_name, value),
                after=(target_name, value),
                count=len(places),
                paths=tuple(rows[index].row.path for index, _, _ in places),
                macs=sum(rows[i].macs for _, *pair in places for i in pair),
            ),
            [i for _, *pair in places for i in pair],
        )


def _placed(rows: Sequence[DiffRow]) -> Iterator[Finding]:
    """Layers that stand at another place of their block, by kind and places."""
    placed = [(row, change) for row in rows for change in row.changes if change.what == "place"]
    kinds = {(r.parent, change): r.row.operation for r, change in placed if r.status == "added"}
    found: dict[tuple[str, Change], list[DiffRow]] = defaultdict(list)
    for row, change in placed:
        found[kinds[row.parent, change], change].append(row)  # relu there may be ReLU here
    for (kind, change), places in found.items():
        here = [row for row in places if row.status == "added"]
        yield Finding(
            "moved",
            subject=kind,
            what="place",
            before=(change.before,),
            after=(change.after,),
            count=len(here),
            paths=tuple(row.row.path for row in here),
            macs=sum(row.macs for row in places),
        )


def _more(change: Change) -> bool:
    """Return True if a layer had more of it before than after."""
    return _numbers(change.before) > _numbers(change.after)


def _numbers(value: Attribute) -> tuple[float, ...]:
    """The numbers of a hyper-parameter, one for each axis; `()` if it is no number."""
    each = value if isinstance(value, tuple) else (value,)
    return tuple(n for n in each if isinstance(n, (int, float)))


def _changed(rows: Sequence[DiffRow], moved: set[int]) -> Iterator[Finding]:
    """Changed hyper-parameters by kind of layer, with their new values.

    Layers of which more than that changed are distinguished, so that each has its cost in findings
    about the same layers only.
    """
    found: dict[tuple[object, ...], list[tuple[DiffRow, Change]]] = defaultdict(list)
    for index, row in enumerate(rows[1:], start=1):  # the models' own classes are in the heading
        if _hidden(row) or row.status in ("added", "removed"):
            continue
        own = [c for c in row.changes if not (index in moved and c.what in _MOVABLE)]
        together = tuple(c.what for c in own if _matters(row, c))
        for change in own:
            kind: tuple[object, ...] = (row.row.operation, change.what, row.row.leaf, together)
            if change.what == "operation":
                kind = ("", "operation", None, (change.before, change.after))
            found[kind].append((row, change))
    of_layers = {what for _, what, leaf, _ in found if leaf is True}
    causes = {what for what in of_layers if what not in CONSEQUENCES}
    for (kind_, what, leaf, _), places in found.items():
        follows = what in CONSEQUENCES and causes
        repeats = leaf is False and what in (*of_layers, *_MOVABLE)  # a block names it as well
        if not (follows or repeats or all(_depthwise(row, change) for row, change in places)):
            yield _of_changes(str(kind_), str(what), places)


def _matters(row: DiffRow, change: Change) -> bool:
    """Return True if a change is one of those that a layer's cost is due to."""
    return change.what not in (*CONSEQUENCES, *_FREE) and not _depthwise(row, change)


def _depthwise(row: DiffRow, change: Change) -> bool:
    """Return True if groups follow the channels, before and after."""
    pairs = ((row.before, change.before), (row.after, change.after))
    return change.what == "groups" and all(
        side is not None and side.features is not None and side.features[0] == groups
        for side, groups in pairs
    )


def _of_changes(kind: str, what: str, places: list[tuple[DiffRow, Change]]) -> Finding:
    distinct = list(dict.fromkeys((c.before, c.after) for _, c in places))
    free = what in _FREE
    return Finding(
        "changed",
        subject=kind,
        what=what,
        before=tuple(before for before, _ in distinct),
        after=tuple(after for _, after in distinct),
        count=len(places),
        paths=tuple(row.row.path for row, _ in places),
        params=0 if free else sum(row.params for row, _ in places),
        macs=0 if free else sum(row.macs for row, _ in places),
    )


def _alone(rows: Sequence[DiffRow], status: str) -> Iterator[Finding]:
    """Blocks and layers without a partner, by kind: those with most parameters and MACs first."""
    found: dict[tuple[str, bool], list[DiffRow]] = defaultdict(list)
    for row in rows:
        placed = any(change.what == "place" for change in row.changes)
        if row.status == status and not placed and _said(row, rows) and not _hidden(row):
            found[row.row.operation, row.row.leaf].append(row)
    every = [
        Finding(
            status,
            subject=kind,
            what="" if leaf else "block",
            count=len(places),
            paths=tuple(row.row.path for row in places),
            params=sum(row.params for row in places),
            macs=sum(row.macs for row in places),
        )
        for (kind, leaf), places in found.items()
    ]
    yield from sorted(every, key=_by_weight)


def _by_weight(finding: Finding) -> tuple[int, int]:
    return -abs(finding.params), -abs(finding.macs)


def _said(row: DiffRow, rows: Sequence[DiffRow]) -> bool:
    """True if a row without a partner is named, not the block around it, nor what is inside."""
    if row.row.operation in CONTAINERS and not row.row.leaf:
        return False
    outer = rows[row.parent]
    while outer.status == row.status and outer.row.operation in CONTAINERS:
        outer = rows[outer.parent]
    return outer.status != row.status


def _hidden(row: DiffRow) -> bool:
    """Return True for what only moves data, or writes it in another shape."""
    moves = row.row.kind != "module" or row.row.operation in _SHAPES
    return row.row.minor and moves and row.row.operation not in _JOINS


def _resized(rows: Sequence[DiffRow]) -> Iterator[Finding]:
    """Layers that are unchanged and run on inputs of another size."""
    places = [row for row in rows if row.status == "resized" and row.row.leaf and not row.row.minor]
    if places:
        yield Finding(
            "resized",
            count=len(places),
            paths=tuple(row.row.path for row in places),
            macs=sum(row.macs for row in places),
        )
