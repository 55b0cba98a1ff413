"""From two models to the report of `cnnscope diff`: what changed, where, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from cnnscope.analysis.alignment import align
from cnnscope.analysis.findings import findings, nested
from cnnscope.analysis.nesting import Pair, Reads, moved, rewired
from cnnscope.analysis.nodes import Forest, Node, differing
from cnnscope.records.comparable import Comparable
from cnnscope.records.diff import Change, DiffReport, DiffRow, DiffSide
from cnnscope.records.summary import Totals

_UNSAID = "Module"  # the class of a block of a file that says none
_NEVER = frozenset(("operations",))  # views are some of them
# A block holds its input while it runs, so that a peak is another one in other blocks.
_NESTED = _NEVER | {"peak_activation_bytes"}


def diff(before: Comparable, after: Comparable) -> DiffReport:
    """Align two call trees, and say what the change from one to the other is and costs.

    Layers are matched by kind and hyper-parameters; names only decide between equals. The answer
    for (after, before) is the mirror image: additions are removals, and every number changes sign.
    """
    pair = _aligned(before, after)
    rows = tuple(_rows(pair, _Places(dict(rewired(pair)), dict(moved(pair))), -1, 0, []))
    change = _change(before.totals, after.totals)
    found = (*nested(pair), *findings(before, after, rows))
    uncounted = _NEVER if _nested_alike(pair) else _NESTED
    return DiffReport(
        before=_side(before),
        after=_side(after),
        differs=rows[0].status != "same" or any(change[name] for name in {*change} - uncounted),
        findings=found,
        change=change,
        rows=rows,
    )


def _aligned(before: Comparable, after: Comparable) -> Pair:
    """Always begin with the same one of two models, so that nothing depends on their order.

    Not ties of the alignment alone: what a `Forest` remembers of equal layers is what it saw first,
    and a `sub` of maps weighs more than the same `sub` of single numbers.
    """
    if _comes_first(before, after):
        return _pair(before, after)
    return _mirrored(_pair(after, before))


def _pair(first: Comparable, second: Comparable) -> Pair:
    forest = Forest()
    trees = _of_one_kind(forest, forest.tree(first.parts), forest.tree(second.parts))
    return align(forest, *trees)


def _comes_first(one: Comparable, other: Comparable) -> bool:
    """An order of models that does not depend on how they are named on the command line."""
    costs = [(m.parts[0].row.params, m.parts[0].row.macs, len(m.parts)) for m in (one, other)]
    if costs[0] != costs[1]:
        return costs[0] < costs[1]
    written = [msgspec.msgpack.encode(m.parts) for m in (one, other)]
    return written[0] <= written[1]  # equal where all is equal that an alignment depends on


def _mirrored(pair: Pair) -> Pair:
    """Before and after exchanged; what was removed stays before what was added in its place."""
    inside: list[Pair] = []
    gap: list[Pair] = []
    for inner in map(_mirrored, pair.inside):
        if inner.before is None or inner.after is None:
            gap.append(inner)
            continue
        inside += sorted(gap, key=lambda p: p.before is None)
        inside.append(inner)
        gap = []
    return Pair(pair.after, pair.before, (*inside, *sorted(gap, key=lambda p: p.before is None)))


def _nested_alike(pair: Pair) -> bool:
    return bool(pair.before and pair.after and pair.before.inner == pair.after.inner)


def _of_one_kind(forest: Forest, before: Node, after: Node) -> tuple[Node, Node]:
    """Trees of which both or neither are a single layer."""
    if before.leaf == after.leaf:
        return before, after
    first, second = (forest.inside_itself(x) if x.leaf else x for x in (before, after))
    return first, second


class _Places(NamedTuple):
    """What layers read, and where they stand, if that is another than before; by `id` of pairs."""

    reads: Mapping[int, Reads]
    places: Mapping[int, tuple[str, str]]


def _rows(
    pair: Pair, found: _Places, parent: int, depth: int, made: list[DiffRow]
) -> list[DiffRow]:
    """One row per pair, outer before inner."""
    at = len(made)
    made.append(_row(pair, found, parent, depth))
    for inner in pair.inside:
        _rows(inner, found, at, depth + 1, made)
    return made


def _row(pair: Pair, found: _Places, parent: int, depth: int) -> DiffRow:
    before, after = pair.before, pair.after
    changes = [*_changes(before, after)] if before and after else []
    reads, place = found.reads.get(id(pair)), found.places.get(id(pair))
    if reads is not None:
        changes.append(Change("reads" if parent >= 0 else "outputs", *reads))
    if place is not None:
        changes.append(Change("place", *place))
    return DiffRow(
        status="changed" if reads is not None else _status(before, after),
        depth=depth,
        parent=parent,
        before=before.row if before else None,
        after=after.row if after else None,
        changes=tuple(changes),
        params=_delta(before, after, "params"),
        macs=_delta(before, after, "macs"),
        element_ops=_delta(before, after, "element_ops"),
        activation_bytes=_delta(before, after, "activation_bytes"),
    )


def _status(before: Node | None, after: Node | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if before.full == after.full:
        return "same"
    return "resized" if before.core == after.core else "changed"


def _delta(before: Node | None, after: Node | None, name: str) -> int:
    first, second = (int(getattr(node.row, name)) if node else 0 for node in (before, after))
    return second - first


def _changes(before: Node, after: Node) -> Iterator[Change]:
    """List the differences of two layers themselves (not inside them, not in their inputs)."""
    if before.core == after.core:
        return
    kinds = before.row.operation, after.row.operation
    unsaid = _UNSAID in kinds and not before.leaf and not after.leaf
    if kinds[0] != kinds[1] and not unsaid:
        yield Change("operation", *kinds)
    names = differing(before, after)
    for name in names:
        yield Change(name, before.identity.get(name), after.identity.get(name))
    if not before.leaf or names or kinds[0] != kinds[1]:
        return
    if before.row.params == after.row.params:
        trained = (bool(node.row.trainable_params) for node in (before, after))
        yield Change("trainable", *trained)
    elif before.shares != after.shares:
        yield Change("weights", _weights(before), _weights(after))
    else:
        yield Change("params", before.row.params, after.row.params)


def _weights(node: Node) -> str:
    return f"shared with {', '.join(node.shares)}" if node.shares else "own"


def _side(model: Comparable) -> DiffSide:
    """What a report says of a model as a whole."""
    return DiffSide(**{name: getattr(model, name) for name in DiffSide.__struct_fields__})


def _change(before: Totals, after: Totals) -> dict[str, int]:
    """Every total that is a number, after less before."""
    first, second = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return {name: second[name] - n for name, n in first.items() if isinstance(n, int)}
