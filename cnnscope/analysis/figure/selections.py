"""Groups of operations that decode or select results, as the search for boxes: one join each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from cnnscope.ops import table
from cnnscope.ops.table import Family

NMS, OTHER = "box selection (nms)", "selection"  # labels
WRITES, ARITHMETIC = "writes", "arithmetic"
_LEAST, _MANY = 3, 6  # operations that are drawn as one, and those that only compute
_KINDS = 3  # of operations that only compute
_SELECTS = ("index", "index_put", "index_fill", "gather", "masked_select", "topk", "where")
_NMS, _WRITE = "torchvision.nms", "cnnscope.write_window"
_MAPS = (Family.CONCATENATE.value, Family.ADD.value)  # which make a map that a figure shows
Edges = Iterable[tuple[int, int]]


def selections(
    joins: Mapping[int, str], families: Mapping[int, str], edges: Edges
) -> dict[str, list[list[int]]]:
    """Groups of joins that decode or select, by the label of what stands for them.

    Members of a group are connected and have equally many layers before them on the longest path,
    so that no path leaves a group and enters it again. A concatenation or an addition that reads no
    member is none: it makes the map that is selected from.

    Args:
        joins: name of the operation of each join, by its number.
        families: of all steps, in the order in which they ran.
        edges: between them.
    """
    before: dict[int, list[int]] = {}
    for source, target in edges:
        before.setdefault(target, []).append(source)
    depth = _depths(families, joins.keys(), before)
    found: dict[str, list[list[int]]] = {}
    for group in _connected(joins, before, lambda a, b: depth[a] == depth[b]):
        inner = _without_maps(group, families, before)
        label = _label(len(inner), {table.base_name(joins[n]) for n in inner})
        if label:
            found.setdefault(label, []).append(inner)
    return found


def _label(size: int, names: AbstractSet[str]) -> str:
    """What stands for so many operations; "" where they are drawn one by one."""
    if size >= _LEAST and _NMS in names:
        return NMS
    if size >= _LEAST and not names.isdisjoint(_SELECTS):
        return OTHER
    if size >= _MANY and _WRITE in names:
        return WRITES
    return ARITHMETIC if size >= _MANY and len(names) >= _KINDS else ""


def _depths(
    steps: Iterable[int], joins: AbstractSet[int], before: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Layers on the longest path to each step."""
    found: dict[int, int] = {}
    for step in steps:
        above = max((found[source] for source in before.get(step, ())), default=0)
        found[step] = above + (step not in joins)
    return found


def _connected(
    joins: Iterable[int], before: Mapping[int, Sequence[int]], alike: Callable[[int, int], bool]
) -> list[list[int]]:
    """Joins that are connected by edges between joins that are alike."""
    group: dict[int, list[int]] = {}
    for join in joins:
        mine = group[join] = [join]
        for source in before.get(join, ()):
            other = group.get(source)
            if other is not None and other is not mine and alike(source, join):
                mine, other = (other, mine) if len(other) > len(mine) else (mine, other)
                mine += other
                group.update(dict.fromkeys(other, mine))
    return [sorted(one) for one in {id(one): one for one in group.values()}.values()]


def _without_maps(
    group: Sequence[int], families: Mapping[int, str], before: Mapping[int, Sequence[int]]
) -> list[int]:
    """The group without the maps that it selects from."""
    inner: set[int] = set()
    for step in group:
        if families[step] not in _MAPS or inner & set(before.get(step, ())):
            inner.add(step)
    return sorted(inner)
