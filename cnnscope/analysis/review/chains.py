"""Findings about layers in a row: those that add nothing to each other, and narrow places."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from cnnscope.analysis.review import words
from cnnscope.analysis.review.net import Net, Remark, Weighted
from cnnscope.ops import table
from cnnscope.ops.table import Family

_NARROW = 8  # times fewer channels than before are a bottleneck
_SPATIAL = frozenset(
    (Family.BATCH_NORM, Family.MAX_POOL, Family.AVERAGE_POOL, Family.COPY, Family.DROPOUT)
)
_MOVES = frozenset(
    (
        Family.COPY,
        Family.VIEW,
        Family.PERMUTE,
        Family.SLICE,
        Family.SELECT,
        Family.SPLIT,
        Family.CONCATENATE,
        Family.STACK,
        Family.SQUEEZE,
        Family.MAX_POOL,
        Family.AVERAGE_POOL,
        Family.MEAN,
        Family.ADD,
        Family.MULTIPLY,
    )
)
_NOT_NEGATIVE = frozenset("relu sigmoid hardsigmoid abs square exp softplus".split())


# ---------------------------------------------------------------------------- two linear layers


def linear_pair(net: Net) -> Remark | None:
    """Two convolutions or linear layers with nothing between, that are one linear map together."""
    pairs = list(_pairs(net))
    if not pairs:
        return None
    listed = [f"{net.layer(a)} -> {net.layer(b)}" for a, b in pairs]
    which = "two layers follow" if len(pairs) == 1 else f"{len(pairs)} pairs of layers follow"
    return Remark(
        f"{which} each other with no activation between: {words.names(listed)}; together they are "
        "one linear map",
        net.layers(p for pair in pairs for p in pair),
        pairs[0][0],
    )


def _pairs(net: Net) -> Iterator[tuple[int, int]]:
    """Pairs that are no factorisation: not of low rank, not depthwise, not one axis each."""
    for first in net.weighted.values():
        through = (
            frozenset((Family.COPY,)) if first.kernel else frozenset((Family.COPY, Family.VIEW))
        )
        tensor = net.forward(_with_bias(net, first), through)
        second = net.weighted.get(net.only_reader(tensor))
        if second is None or second.data != tensor or tensor in net.dropped:
            continue
        alike = bool(first.kernel) == bool(second.kernel) and first.outputs == second.inputs
        plain = {first.groups, second.groups} == {1} and not (first.transposed or second.transposed)
        full = first.outputs >= min(first.inputs, second.outputs)
        if alike and plain and full and not _one_axis_each(first, second):
            yield first.place, second.place


def _with_bias(net: Net, one: Weighted) -> int:
    """The result of a layer, with a bias that another operation adds."""
    tensor = one.result
    while (place := net.only_reader(tensor)) >= 0 and net.name(place) in ("view", "add"):
        others = [t for t in net.ops[place].tensors if t != tensor]
        biased = net.name(place) == "add" and len(others) == 1 and others[0] in net.parameters
        if not biased and (others or net.name(place) == "add"):
            break
        if not biased and net.shape(net.ops[place].outputs[0])[-1:] != net.shape(tensor)[-1:]:
            break
        if one.kernel and not biased:
            break
        tensor = net.ops[place].outputs[0]
    return tensor


def _one_axis_each(first: Weighted, second: Weighted) -> bool:
    """Return True if two kernels lie along different axes, as 1x7 and 7x1."""
    pairs = list(zip(first.kernel, second.kernel, strict=False))
    return any(a > 1 == b for a, b in pairs) and any(a == 1 < b for a, b in pairs)


# ------------------------------------------------------------------------------------ groups


def unmixed_groups(net: Net) -> Remark | None:
    """Grouped convolutions in a row whose groups never exchange anything."""
    pairs = [(one.place, two) for one in net.weighted.values() if (two := _unmixed(net, one)) >= 0]
    if not pairs:
        return None
    listed = [f"{net.layer(a)} -> {net.layer(b)}" for a, b in pairs]
    return Remark(
        f"grouped convolutions in a row, without a shuffle or a 1x1 convolution between, never mix "
        f"their groups: {words.names(listed)}",
        net.layers(p for pair in pairs for p in pair),
        pairs[0][0],
    )


def _unmixed(net: Net, first: Weighted) -> int:
    """The next convolution over the same groups, -1 where there is none that is so by mistake."""
    if first.groups < 2 or first.transposed:
        return -1
    tensor = first.result
    while (place := net.only_reader(tensor)) >= 0:
        second = net.weighted.get(place)
        if second is not None:
            if second.transposed or second.groups < 2 or second.data != tensor:
                return -1
            if _depthwise(first) or not _depthwise(second):
                return place if _same_groups(first, second) else -1
        elif not _channelwise(net, place):
            return -1
        tensor = net.ops[place].outputs[0]
    return -1


def _depthwise(one: Weighted) -> bool:
    return one.groups == one.inputs


def _same_groups(first: Weighted, second: Weighted) -> bool:
    """Return True if two grouped convolutions leave groups apart, and are no factorised kernel.

    Depthwise ones may be: 1x7 and 7x1, or a small kernel and a dilated one (Guo et al. 2022).
    """
    if _depthwise(first) or _depthwise(second):
        both = _depthwise(first) and _depthwise(second)
        return both and first.kernel == second.kernel
    return gcd(first.groups, second.groups) > 1


def _channelwise(net: Net, place: int) -> bool:
    """Return True if an operation leaves every channel by itself."""
    record, entry = net.ops[place], table.lookup(net.ops[place].name)
    one = len(net.seen(place)) == 1 and len(record.outputs) > 0
    same = one and net.shape(record.outputs[0])[:2] == net.shape(net.seen(place)[0])[:2]
    return same and (entry.family in _SPATIAL or entry.elementwise)


# -------------------------------------------------------------------------------- activations


def idle_activation(net: Net) -> Remark | None:
    """A ReLU of what is not negative anyway."""
    positive = _not_negative(net)
    found = [
        place
        for place, record in enumerate(net.ops)
        if net.name(place) in ("relu", "leaky_relu") and record.tensors[0] in positive
    ]
    if not found:
        return None
    layers = net.layers(found)
    which = words.these(len(layers), "activation")
    verb = "does" if len(layers) == 1 else "do"
    return Remark(
        f"{which} {verb} nothing, for what comes in is never negative: {words.names(layers)}",
        layers,
        found[0],
    )


def _not_negative(net: Net) -> set[int]:
    """Values no element of which is negative, whatever weights and inputs are."""
    found: set[int] = set()
    for place, record in enumerate(net.ops):
        if not record.outputs:
            continue
        family, name = net.family(place), net.name(place)
        made = name in _NOT_NEGATIVE or family is Family.SOFTMAX
        bounded = name == "hardtanh" and record.attributes.get("min_val") == 0
        kept = family in _MOVES and bool(record.tensors) and found.issuperset(record.tensors)
        if made or bounded or (kept and _no_numbers(net, place)):
            found.update(record.outputs)
    return found


def _no_numbers(net: Net, place: int) -> bool:
    """Return True if an operation adds or multiplies nothing negative beside its operands."""
    given = net.ops[place].attributes
    numbers = (given.get("other", 1), given.get("alpha", 1))
    return all(isinstance(n, (int, float)) and n >= 0 for n in numbers)


# ------------------------------------------------------------------------------ narrow places


def bottleneck(net: Net) -> Remark | None:
    """A layer through which everything passes, and which has far fewer channels than before."""
    found = [(one, net.weighted[after]) for one, after in _narrow(net)]
    if not found:
        return None
    listed = [f"{net.layer(one.place)} ({one.inputs} -> {one.outputs} -> {after.outputs})"
              for one, after in found]  # fmt: skip
    return Remark(
        f"everything passes through few channels: {words.names(listed)}",
        net.layers(one.place for one, _ in found),
        found[0][0].place,
    )


def _narrow(net: Net) -> Iterator[tuple[Weighted, int]]:
    """Layers that are 8 times narrower than their input, on the only path, and what follows."""
    places = sorted(net.weighted)
    narrow = [net.weighted[p] for p in places
              if net.weighted[p].inputs >= _NARROW * net.weighted[p].outputs]  # fmt: skip
    only = _only_paths(net) if narrow else frozenset()
    for one in narrow:
        after = next((p for p in places if p > one.place), None)
        if one.place not in only or after is None or one.transposed:
            continue
        second = net.weighted[after]
        wider = second.inputs == one.outputs and second.outputs >= 2 * one.outputs
        if wider and not second.transposed and not _flattened(net, one):
            yield one, after


def _flattened(net: Net, one: Weighted) -> bool:
    """Return True if the features of a linear layer are positions too."""
    tensors = list(net.back(one.data))
    return not one.kernel and any(
        len(net.shape(t)) > 2 and max(net.shape(t)[2:]) > 1 for t in tensors
    )


def _only_paths(net: Net) -> frozenset[int]:
    """Operations through which all that an output knows of the inputs has passed."""
    live = net.index.from_input & net.needed
    last = {t: max(net.index.readers.get(t, [-1])) for t in live}
    last.update((t, len(net.ops)) for t in net.outputs if t in live)
    furthest = max((last[t] for t in net.trace.inputs if t in live), default=-1)
    found = set()
    for place, record in enumerate(net.ops):
        made = [t for t in record.outputs if t in live]
        if made and furthest <= place:
            found.add(place)
        furthest = max([furthest, *(last[t] for t in made)])
    return frozenset(found)
