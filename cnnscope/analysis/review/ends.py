"""Findings about what a network returns, and what stands directly before it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import prod
from operator import mul

from cnnscope.analysis.review import words
from cnnscope.analysis.review.net import Net, Remark
from cnnscope.ops.table import Family

_PRODUCTS = frozenset((Family.MATMUL, Family.LINEAR))


def no_output(net: Net) -> Remark | None:
    """A forward that returns nothing."""
    if "" not in net.trace.nothing or not net.ops:
        return None
    return Remark("forward returns None: its `return` is missing")


def none_output(net: Net) -> Remark | None:
    """A forward that returns None among other things."""
    places = [place for place in net.trace.nothing if place]
    if not places:
        return None
    named = [f"output {int(p) + 1}" if p.isdecimal() else f"output {p!r}" for p in places]
    return Remark(f"{words.names(named)} of forward {'is' if len(named) == 1 else 'are'} None")


def relu_output(net: Net) -> Remark | None:
    """An output that is the ReLU of a linear layer: logits of which one sign is lost."""
    for _, place in _made(net):
        given = net.ops[place].tensors[0]
        if net.name(place) in ("relu", "relu6") or _is_relu6(net, place):
            origin = net.maker(given)
            if len(net.shape(given)) == 2 and _is_linear(net, origin, given):
                layer = net.layer(place)
                return Remark(
                    f"the output passes a ReLU ({layer}) right behind {net.layer(origin)}: as "
                    "logits, all that is negative is cut to 0 and has no gradient",
                    (layer,),
                    place,
                )
    return None


def _is_relu6(net: Net, place: int) -> bool:
    given = net.ops[place].attributes
    return net.name(place) == "hardtanh" and given.get("min_val") == 0


def _is_linear(net: Net, place: int, result: int) -> bool:
    """Return True if a value is the sum of a product with a weight and its bias."""
    if place < 0:
        return False
    if net.name(place) == "add":  # of a bias, by hand
        products = [t for t in net.seen(place) if net.maker(t) in net.weighted]
        return len(products) == 1 == len(net.seen(place))
    return place in net.weighted and net.family(place) in _PRODUCTS and bool(net.shape(result))


def softmax_axis(net: Net) -> Remark | None:
    """An output that is a softmax over the batch, or over an axis of one: not what was meant."""
    for _, place in _softmaxes(net):
        shape, dim = net.shape(net.ops[place].outputs[0]), _dim(net, place)
        layer = net.layer(place)
        if len(shape) == 2 and dim == 0:
            said = (
                f"the output is a softmax over the samples of a batch ({layer}, dim=0): use dim=1"
            )
            return Remark(said, (layer,), place)
        if shape and shape[dim] == 1:
            said = f"the output is a softmax over one element ({layer}): it is always 1"
            return Remark(said, (layer,), place)
    return None


def softmax_output(net: Net) -> Remark | None:
    """An output of class probabilities, where losses take logits."""
    if net.asks_training(""):
        return None
    for tensor, place in _softmaxes(net):
        if tensor not in net.back(net.trace.outputs[0]) or _attends(net, place):
            continue
        shape, dim = net.shape(net.ops[place].outputs[0]), _dim(net, place)
        classes = (dim == 1 or 1 < dim == len(shape) - 1 < 3) and shape[dim] > 1
        if classes and net.ops[place].tensors[0] not in net.outputs:
            layer = net.layer(place)
            return Remark(
                f"the output is a softmax ({layer}): nn.CrossEntropyLoss takes logits and would "
                "apply another one; leave it out, or train with NLLLoss on its logarithm",
                (layer,),
                place,
            )
    return None


def _softmaxes(net: Net) -> Iterator[tuple[int, int]]:
    return ((t, p) for t, p in _made(net) if net.family(p) is Family.SOFTMAX)


def _attends(net: Net, place: int) -> bool:
    """Return True for a softmax of scores: products of two values that both depend on an input."""
    *_, origin = net.back(net.ops[place].tensors[0])
    made = net.maker(origin)
    return made >= 0 and net.family(made) is Family.MATMUL and len(net.seen(made)) > 1


def _dim(net: Net, place: int) -> int:
    """The dimension of a softmax, counted from the left."""
    record = net.ops[place]
    dim, rank = record.attributes.get("dim", -1), len(net.shape(record.outputs[0]))
    return int(dim) % max(rank, 1) if isinstance(dim, int) else 0


def mixed_samples(net: Net) -> Remark | None:
    """A map that is flattened by a width that is not its own: pieces of samples become samples.

    Where the rows end between two axes (tokens, pixels, windows or frames as samples), or the
    output has the batch again, it is meant.
    """
    batch = next((net.shape(t)[0] for t in net.trace.inputs if net.shape(t)), 0)
    for place, record in enumerate(net.ops):
        if net.family(place) is not Family.VIEW or not _cuts(net, place, batch):
            continue
        (rows, width), reached = net.shape(record.outputs[0]), _reached(net, place)
        reads = (w for w in net.weighted.values() if w.data in reached and not w.kernel)
        layer = next((w.place for w in reads if net.shape(w.data) == (rows, width)), -1)
        returned = [net.shape(t)[:1] for t in net.trace.outputs if t in reached]
        if layer >= 0 and (rows,) in returned and (batch,) not in returned:
            shape = net.shape(record.tensors[0])
            return Remark(
                f"the batch of {batch} becomes {words.count(rows, 'row')} where "
                f"{words.sizes(shape)} is flattened for {net.layer(layer)}: a sample has "
                f"{prod(shape[1:]):,} elements, and it takes {width:,}; flatten(1) would tell",
                (net.layer(layer),),
                place,
            )
    return None


def _cuts(net: Net, place: int, batch: int) -> bool:
    """Return True for a view of a map as rows that do not begin where a slice of an axis does."""
    shape, made = (net.shape(t) for t in (net.ops[place].tensors[0], net.ops[place].outputs[0]))
    if len(shape) < 3 or len(made) != 2 or shape[0] != batch or made[0] == batch:
        return False
    slices = set(accumulate(reversed(shape), mul))
    return made[1] > shape[-1] and made[1] not in slices and made[1] % prod(shape[1:]) != 0


def _reached(net: Net, place: int) -> set[int]:
    """The result of an operation, and all values that depend on it."""
    found = set(net.ops[place].outputs)
    for record in net.ops[place + 1 :]:
        if not found.isdisjoint(record.tensors):
            found.update(record.outputs)
    return found


def final_dropout(net: Net) -> Remark | None:
    """Dropout behind the last layer: what the loss reads is zeroed at random."""
    calls = {drop.tensor: drop.call for drop in net.trace.dropouts if not drop.always}
    for tensor in net.trace.outputs:
        found = next((t for t in net.back(tensor) if t in calls and net.maker(t) >= 0), None)
        origin = -1 if found is None else net.maker(found)
        if found is None or len(net.shape(found)) == 3:  # of tokens: a block, and no classes
            continue
        if origin in net.weighted or _is_linear(net, origin, found):
            layer = _path(net, calls[found])
            where = f"dropout ({layer})" if layer else "dropout"
            return Remark(
                f"{where} is the last thing before the output, behind {net.layer(origin)}: in "
                "training it zeroes a part of what the loss reads",
                (layer,) if layer else (),
                origin,
            )
    return None


def dropout_before_norm(net: Net) -> Remark | None:
    """Dropout directly before a batch norm, whose statistics in inference are then others."""
    found: dict[str, int] = {}
    for drop in net.trace.dropouts:
        reader = net.only_reader(drop.tensor)
        if not drop.always and reader >= 0 and net.family(reader) is Family.BATCH_NORM:
            found.setdefault(net.layer(reader), reader)
    if not found:
        return None
    layers = tuple(found)
    return Remark(
        f"dropout directly before batch norm ({words.names(layers)}): the variance that is "
        "learned in training is not that of inference (Li et al. 2019)",
        layers,
        min(found.values()),
    )


def _path(net: Net, call: int) -> str:
    """Path of a call that is a layer of dropout itself, "" for a function in another module."""
    if call < 0:
        return ""
    module = net.trace.modules[net.trace.calls[call].module]
    return module.path if "Dropout" in module.base else ""


def _made(net: Net) -> Iterator[tuple[int, int]]:
    """Each output, without reshapes behind it, and the operation that made it."""
    for tensor in net.trace.outputs:
        *_, origin = net.back(tensor)
        place = net.maker(origin)
        if place >= 0 and net.ops[place].tensors:
            yield origin, place
