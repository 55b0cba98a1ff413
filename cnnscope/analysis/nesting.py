"""The same layers on other levels: which blocks to open, and pairs of networks that are equal.

A block says how code is organised: a wrapper around a network, a stem in a Sequential, stages in an
encoder. Where most layers of a block have their equals outside of its partner, it is opened, and
what is in it is aligned in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cnnscope.analysis.nodes import Forest, Node, commutes
from cnnscope.records.summary import CONTAINERS

_MOST = 0.5  # of a block's layers that stand elsewhere: it is opened
_NEARLY_ALL = 0.8  # of these that stand in one block, which is opened then
_MANY = 10_000  # pairs of blocks without equals: networks that are not alike, of which none opens
_ASIDE = frozenset(  # of a layer that may be changed and still be that layer
    "in_channels out_channels in_features out_features groups num_features normalized_shape "
    "padding".split()
)
_Soft = Counter[object]
Reads = tuple[tuple[str, ...], tuple[str, ...]]  # names of layers that are read, before and after


class Pair(NamedTuple):
    """Two nodes that belong together, or one that has no partner, and the pairs inside."""

    before: Node | None
    after: Node | None
    inside: tuple[Pair, ...] = ()


def alone(node: Node, *, removed: bool) -> Pair:
    """A node without a partner, and what is in it."""
    inside = tuple(alone(child, removed=removed) for child in node.children)
    return Pair(node, None, inside) if removed else Pair(None, node, inside)


# -------------------------------------------------------------------------------- what to open


class _Rest(NamedTuple):
    """What is left of a node without an equal in its partner, but for widths and padding."""

    place: int
    node: Node
    soft: _Soft


def to_open(
    forest: Forest,
    sides: tuple[Sequence[Node], Sequence[Node]],
    pairs: Sequence[tuple[int, int]],
    *,
    matched: bool,
) -> tuple[set[int], set[int]]:
    """Blocks of two sequences whose layers stand on another level of the other one.

    Args:
        forest: that both are of.
        sides: nodes of the first sequence, and of the second.
        pairs: places of those that belong together.
        matched: ask for blocks that have a partner as well, which are compared with what it lacks,
            and for those that hold most of what the other side lacks.

    Returns:
        Their places in each sequence.
    """
    left = _rests(forest, sides, dict(pairs), matched=matched)
    pools = [sum((rest.soft for rest in side), Counter[object]()) for side in left]
    blocks = [[rest for rest in side if not rest.node.leaf] for side in left]
    alone = [{(rest.node.row.name, rest.node.core) for rest in side} for side in left]
    if len(blocks[0]) * len(blocks[1]) > _MANY:
        return set(), set()
    having = set(dict(pairs)), {j for _, j in pairs}
    opened = [
        {
            rest.place
            for rest in blocks[side]
            if (
                _holds_most(rest, pools[1 - side], partner=rest.place in having[side])
                if matched
                else rest.place not in having[side]
                and (
                    _is_elsewhere(rest, pools[1 - side], blocks[1 - side])
                    or not alone[1 - side].isdisjoint(_in_its_place(rest.node))
                )
            )
        }
        for side in (0, 1)
    ]
    return opened[0], opened[1]


def _rests(
    forest: Forest,
    sides: tuple[Sequence[Node], Sequence[Node]],
    pairs: Mapping[int, int],
    *,
    matched: bool,
) -> tuple[list[_Rest], list[_Rest]]:
    """What has no partner on both sides, and with `matched` what has no equal in its partner."""
    ones, others = sides
    left: tuple[list[_Rest], list[_Rest]] = ([], [])
    for i, node in enumerate(ones):
        partner = others[pairs[i]] if i in pairs else None
        if partner is None:
            left[0].append(_Rest(i, node, _soft(forest, node)))
        elif matched and node.core != partner.core and not node.leaf:
            mine, other = _soft(forest, node), _soft(forest, partner)
            left[0].append(_Rest(i, node, mine - other))
            left[1].append(_Rest(pairs[i], partner, other - mine))
    taken = set(pairs.values())
    left[1].extend(
        _Rest(j, node, _soft(forest, node)) for j, node in enumerate(others) if j not in taken
    )
    return left


def _in_its_place(node: Node) -> Iterator[tuple[str, int]]:
    """What would be in the place of a container if it were each of the layers in it."""
    if node.row.operation in CONTAINERS:
        yield from ((node.row.name, child.core) for child in node.children if child.leaf)


def _is_elsewhere(rest: _Rest, pool: _Soft, theirs: Sequence[_Rest]) -> bool:
    """Return True if most of what is left of a block is on the other side, in none of `theirs`."""
    size = rest.soft.total()
    common = rest.soft & pool
    if not size or common.total() < _MOST * size:
        return False
    larger = (one for one in theirs if one.node.weight >= rest.node.weight)
    most = max(((common & one.soft).total() for one in larger), default=0)
    return most < _NEARLY_ALL * common.total()


def _holds_most(rest: _Rest, pool: _Soft, *, partner: bool) -> bool:
    """Return True if a block holds most of what the other side has no equal of.

    Or, of one with a partner, if most of what the partner lacks is on the other side.
    """
    common = (rest.soft & pool).total()
    enough = common >= _MOST * pool.total() or (partner and common >= _MOST * rest.soft.total())
    return common > 0 and enough


def _soft(forest: Forest, node: Node) -> _Soft:
    """Weight layers of a node, widths and padding aside; all layers where it has none."""
    known = forest.softs.get(node.core)
    if known is None:
        layers = node.layers()
        weighty = [layer for layer in layers if layer.role in ("convolution", "product")]
        known = forest.softs[node.core] = Counter(map(_kind, weighty or layers))
    return known


def _kind(layer: Node) -> object:
    if layer.role not in ("convolution", "product"):
        return layer.core
    own = {name: held for name, held in layer.identity.items() if name not in _ASIDE}
    return (layer.row.operation, tuple(sorted(own.items())))


# -------------------------------------------------------------------------------- the same


class Same:
    """Pairs of two blocks that compute the same, however they are nested, named and ordered."""

    def __init__(self, forest: Forest, a: Node, b: Node) -> None:
        self.a, self.b = a, b
        flows = forest.flows(a), forest.flows(b)
        waiting: dict[int, list[Node]] = {}
        for layer in b.layers():
            waiting.setdefault(flows[1][layer.index], []).append(layer)
        self.partner = {
            layer.index: _taken(waiting[flows[0][layer.index]], layer) for layer in a.layers()
        }
        self.still = [leaf for leaf in b.leaves() if leaf.still]
        self.blocks: dict[frozenset[int], list[Node]] = {}
        for block in _blocks(b):
            inside = frozenset(layer.index for layer in block.layers())
            self.blocks.setdefault(inside, []).insert(0, block)

    def pairs(self) -> Iterator[Pair]:
        """The pairs inside; blocks that only one side has are left out, not what is in them."""
        yield from self._inside(self.a)
        yield from (alone(leaf, removed=False) for leaf in self.still)

    def _inside(self, block: Node) -> Iterator[Pair]:
        for child in block.children:
            if child.leaf:
                yield self._leaf(child)
                continue
            inside = frozenset(self.partner[layer.index].index for layer in child.layers())
            found = self.blocks.get(inside) if inside else None
            if found:
                yield Pair(child, found.pop(), tuple(self._inside(child)))
            else:
                yield from self._inside(child)

    def _leaf(self, leaf: Node) -> Pair:
        if not leaf.still:
            return Pair(leaf, self.partner[leaf.index])
        for place, other in enumerate(self.still):
            if other.core == leaf.core:
                return Pair(leaf, self.still.pop(place))
        return alone(leaf, removed=True)


def _taken(waiting: list[Node], layer: Node) -> Node:
    """Take the layer of that name, else the first one."""
    if len(waiting) == 1:
        return waiting.pop()
    paths = [one.row.path for one in waiting]
    return waiting.pop(paths.index(layer.row.path) if layer.row.path in paths else 0)


def _blocks(node: Node) -> Iterator[Node]:
    """Blocks inside, outer before inner."""
    for child in node.children:
        if not child.leaf:
            yield child
            yield from _blocks(child)


def heart(node: Node) -> list[Node]:
    """The blocks that hold the whole network, from the outermost to the innermost."""
    found = [node]
    while True:
        inside = [one for one in found[-1].children if one.layers()]
        if len(inside) != 1 or inside[0].leaf:
            return found
        found.append(inside[0])


# -------------------------------------------------------------------------------- what is read


def rewired(pair: Pair) -> Iterator[tuple[int, Reads]]:
    """Equal layers that read other layers than before, by the `id` of their pair.

    Likewise the model, if it returns others, or in another order. Where a layer that is read has no
    partner, it is an addition or a removal that says it.
    """
    leaves = list(_pairs_of_layers(pair))
    partner = {one.before.index: one.after.index for one in leaves if one.before and one.after}
    known = set(partner.values())
    names = [_names(node) for node in pair[:2]]
    inside = [] if pair.before and pair.after and pair.before.core == pair.after.core else leaves
    for one in [pair, *inside]:
        before, after = one.before, one.after
        if before is None or after is None or not (one is pair or before.core == after.core):
            continue
        paired = all(at < 0 or at in partner for at in before.feeds) and all(
            at < 0 or at in known for at in after.feeds
        )
        returns = one is pair and len(before.feeds) != len(after.feeds)
        if returns or (paired and _reads_others(before, after, partner)):
            first, second = (
                tuple(named.get(at, "the input") for at in node.feeds)
                for node, named in zip((before, after), names, strict=True)
            )
            yield id(one), (first, second)


def _reads_others(before: Node, after: Node, partner: Mapping[int, int]) -> bool:
    """Return True if what a node reads is not the partners of what the other one does."""
    first, second = [partner.get(at, at) for at in before.feeds], list(after.feeds)
    return sorted(first) != sorted(second) if commutes(before) else first != second


def _names(model: Node | None) -> dict[int, str]:
    """What each layer is called in a sentence, by its index."""
    layers = model.leaves() if model else ()
    return {layer.index: layer.row.path or layer.row.name for layer in layers}


# -------------------------------------------------------------------------------- moved


def moved(pair: Pair) -> Iterator[tuple[int, tuple[str, str]]]:
    """Layers that stand at another place of their block, by the `id` of their removal and addition.

    With the layer that each stands behind, before and after: "" where it is the first one.
    """
    gone = _unpaired(pair.inside, removed=True)
    come = _unpaired(pair.inside, removed=False)
    for core in gone.keys() & come.keys():
        (first, *others), (second, *more) = gone[core], come[core]
        if not others and not more:  # else it is not known which is which
            places = first[1], second[1]
            yield from ((id(one), places) for one in (first[0], second[0]))
    for inner in pair.inside:
        if inner.before and inner.after:
            yield from moved(inner)


def _unpaired(pairs: Sequence[Pair], *, removed: bool) -> dict[int, list[tuple[Pair, str]]]:
    """Nodes without a partner by what they are, each with what it stands behind."""
    found: dict[int, list[tuple[Pair, str]]] = {}
    behind = ""
    for one in pairs:
        node, other = (one.before, one.after) if removed else (one.after, one.before)
        if node is None or node.row.minor or node.still:
            continue
        if other is None:
            found.setdefault(node.core, []).append((one, behind))
        behind = node.row.name
    return found


def _pairs_of_layers(pair: Pair) -> Iterator[Pair]:
    if pair.before and pair.after and pair.before.leaf and not pair.before.still:
        yield pair
    for inner in pair.inside:
        yield from _pairs_of_layers(inner)
