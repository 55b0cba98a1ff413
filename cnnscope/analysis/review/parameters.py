"""Findings about parameters: what is not registered, not used, not learned, or not needed."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from cnnscope.analysis import params
from cnnscope.analysis.review import words
from cnnscope.analysis.review.net import Net, Remark, Weighted
from cnnscope.ops.table import Family
from cnnscope.records.trace import ModuleRecord, Trace

# What in a trace keeps a gradient back, in words.
_CAUSES = {
    "detach": "detach() or .data",
    "argmax": "argmax",
    "argmin": "argmin",
    "round": "rounding",
    "floor": "rounding",
    "ceil": "rounding",
    "trunc": "rounding",
    "sign": "sign()",
    "bernoulli": "a random draw",
}
# What chose the path of a run, in words.
_CHOSE = {"data": "its data", "random": "random numbers", "batch": "the length of its batch"}
_BATCH_NORMS = {f"{kind}Norm{axes}d" for kind in ("Batch", "Instance") for axes in (1, 2, 3)}
_BATCH_NORMS.add("SyncBatchNorm")


def unregistered(net: Net) -> Remark | None:
    """Weights that run and are no parameters of the model, as in a plain Python list."""
    sentence = unregistered_weights(net.trace)
    layers = tuple(where.partition(" ")[0] for where in _strays(net.trace))
    return (
        Remark(f"{sentence}; hold them in nn.ModuleList or nn.Parameter", layers)
        if sentence
        else None
    )


def unregistered_weights(trace: Trace) -> str:
    """The sentence about what runs and is not registered, "" where there is nothing."""
    listed = [f"{where} {size:,}" for where, size in _strays(trace).items()]
    if not listed:
        return ""
    return (
        f"weights that run and are not registered, with their elements: {words.names(listed, 8)}: "
        "they are missing from the model's parameters, from its optimizer and its state_dict"
    )


def _strays(trace: Trace) -> dict[str, int]:
    """Elements of the weights that are not registered, by module (with its class) or by weight.

    Those that the forward registers are not among them.
    """
    held: dict[str, int] = {}
    late = set(trace.late)
    for weight in trace.strays:
        if trace.tensors[weight.tensor].storage in late:
            continue
        module = next((m for m in trace.modules if _holds(m, weight.path)), None)
        where = f"{module.path} ({module.kind})" if module else weight.path
        held[where] = held.get(where, 0) + params.numel(trace, weight)
    return held


def _holds(module: ModuleRecord, weight: str) -> bool:
    """Return True for the unregistered module that a weight is named after."""
    return not module.registered and weight.rpartition(".")[0] == module.path


def unused(net: Net) -> Remark | None:
    """Parameters that no operation read, where every run takes the same path."""
    if params.decided_by(net.trace):
        return None
    found = {p: n for p, n in params.unused(net.trace).items() if not net.asks_training(p)}
    return _unused(found, "defined but never used: {}")


def training_only(net: Net) -> Remark | None:
    """Parameters that no operation read in eval mode, where the code asks for the mode."""
    if params.decided_by(net.trace):
        return None
    found = {p: n for p, n in params.unused(net.trace).items() if net.asks_training(p)}
    asks = "the code asks if self.training, and may use them then"
    return _unused(found, f"not used in inference: {{}}; {asks}")


def not_routed(net: Net) -> Remark | None:
    """Parameters that this run did not read, where data or random numbers choose the path."""
    if not params.decided_by(net.trace):
        return None
    causes = " and ".join(_CHOSE.get(cause, cause) for cause in params.decided_by(net.trace))
    found = params.unused(net.trace)
    return _unused(found, f"not used in this run: {{}}; {causes} chose the path, and another run "
                          "may use them")  # fmt: skip


def not_reached(net: Net) -> Remark | None:
    """Parameters that a forward had not come to when it raised."""
    if net.trace.broken is None:
        return None
    return _unused(params.unused(net.trace), "not reached before the forward raised: {}")


def _unused(found: dict[str, int], sentence: str) -> Remark | None:
    if not found:
        return None
    listed = [
        f"{path} ({words.count(n, 'parameter')})" for path, n in words.siblings(found).items()
    ]
    return Remark(sentence.format(words.names(listed)), tuple(found))


def no_gradient(net: Net) -> Remark | None:
    """Trainable parameters that are read, and that no gradient of an output reaches."""
    trace = net.trace
    if "" in trace.nothing:
        return None  # without an output there is no gradient at all
    lost = {p.path: p for p in trace.params if p.path in set(trace.unreached)}
    lost = {path: p for path, p in lost.items() if not net.asks_training(path)}
    if not lost:
        return None
    size = sum(params.numel(trace, p) for p in lost.values())
    why = _why(net, {p.tensor for p in lost.values()})
    return Remark(
        f"no gradient reaches {words.count(size, 'parameter')} of {_owners(list(lost))}: {why}",
        tuple(lost),
    )


def _owners(paths: list[str]) -> str:
    """`a, b and 3 more`: the modules that hold some parameters."""
    return words.names(list(dict.fromkeys(p.rpartition(".")[0] or p for p in paths)))


def _why(net: Net, lost: set[int]) -> str:
    """What keeps the gradient back: the operations at which what was computed stops being known."""
    reached, causes = set(lost), dict[str, None]()
    for place, record in enumerate(net.ops):
        if reached.isdisjoint(record.tensors):
            continue
        reached.update(record.outputs)
        if cause := _cause(net, place):
            causes[cause] = None
    if net.trace.no_grad:
        causes["torch.no_grad()"] = None
    if not causes and reached.isdisjoint(net.outputs):
        return "no output depends on what they compute"
    return f"what they compute passes {' and '.join(causes)}" if causes else "it is held back"


def _cause(net: Net, place: int) -> str:
    record, name = net.ops[place], net.name(place)
    if name in _CAUSES:
        return _CAUSES[name]
    dtypes = {net.trace.tensors[t].dtype for t in record.outputs[:1]}
    whole = not any("float" in d or "complex" in d for d in dtypes)
    given = any("float" in net.trace.tensors[t].dtype for t in record.tensors)
    if not (whole and given and record.outputs):
        return ""
    return f"a cast to {next(iter(dtypes))}" if name == "_to_copy" else "a comparison or index"


def tied(net: Net) -> Remark | None:
    """Weights that have several names."""
    shared = {p.path: p.aliases for p in net.trace.params if p.aliases and not p.buffer}
    if not shared:
        return None
    listed = [f"{path} = {', '.join(aliases)}" for path, aliases in shared.items()]
    return Remark(f"one weight under several names: {words.names(listed)}", tuple(shared))


# ------------------------------------------------------------------------ biases without effect


def cancelled_bias(net: Net) -> Remark | None:
    """Biases that a norm directly behind takes away again with the mean of their channel."""
    found = [one for one in net.weighted.values() if one.bias >= 0 and _cancelled(net, one)]
    if not found:
        return None
    layers = net.layers(one.place for one in found)
    size = sum(prod(net.shape(bias)) for bias in dict.fromkeys(one.bias for one in found))
    which = "the bias of" if len(layers) == 1 else f"the biases of {len(layers)} layers"
    return Remark(
        f"{which} {words.names(layers)} {'has' if len(layers) == 1 else 'have'} no effect in "
        "training: the norm behind subtracts each channel's mean; bias=False saves "
        f"{words.count(size, 'parameter')}",
        layers,
        found[0].place,
    )


def _cancelled(net: Net, one: Weighted) -> bool:
    """Return True if nothing but such a norm reads the result, the channels in dimension 1."""
    tensor, dim = one.result, 1 if one.kernel else len(net.shape(one.result)) - 1
    if len(net.shape(tensor)) != len(one.kernel) + 2 and one.kernel:
        return False  # without a batch
    for place, given, at in _moved(net, tensor, dim, one.outputs):
        if _norms_channels(net, place) and at == 1 and given not in net.dropped:
            return not _hidden_by_training(net, one.place, place)
    return False


def _moved(net: Net, tensor: int, dim: int, channels: int) -> Iterator[tuple[int, int, int]]:
    """The readers of a value one after the other, with where they find its channels.

    Channels are followed through permutes, views that leave the last dimension alone, and max
    pools, behind which a constant is still a constant.
    """
    while (place := net.only_reader(tensor)) >= 0:
        yield place, tensor, dim
        if len(net.ops[place].outputs) == 0:
            return
        out = net.ops[place].outputs[0]
        moved = _channel_dim(net, place, dim, channels)
        if moved < 0 or tensor in net.dropped or len(net.ops[place].tensors) != 1:
            return
        tensor, dim = out, moved


def _channel_dim(net: Net, place: int, dim: int, channels: int) -> int:
    """Where an operation puts the channels of dimension `dim`, -1 where that is not followed."""
    record, name = net.ops[place], net.name(place)
    rank = len(net.shape(record.tensors[0]))
    shape = net.shape(record.outputs[0])
    if name in ("transpose", "t"):
        dims = [record.attributes.get(d, i) for i, d in enumerate(("dim0", "dim1"))]
        first, second = (int(d) % rank for d in dims if isinstance(d, int))
        return {first: second, second: first}.get(dim, dim)
    if name == "permute":
        order = record.attributes.get("dims", ())
        return [int(d) % rank for d in order].index(dim) if isinstance(order, tuple) else -1  # type: ignore[arg-type]
    family = net.family(place)
    if family is Family.VIEW:
        return len(shape) - 1 if dim == rank - 1 and shape[-1:] == (channels,) else -1
    whole = family is Family.COPY and net.trace.tensors[record.outputs[0]].dtype == (
        net.trace.tensors[record.tensors[0]].dtype
    )
    return dim if whole or (family is Family.MAX_POOL and len(shape) == rank and dim == 1) else -1


def _norms_channels(net: Net, place: int) -> bool:
    """Return True if an operation subtracts the mean of each channel by itself."""
    module, record = net.module(place), net.ops[place]
    if module is not None and module.base in _BATCH_NORMS:
        return net.name(place) in ("native_batch_norm", "view", "reshape", "repeat")
    if net.family(place) is Family.BATCH_NORM:
        return record.attributes.get("training") is True
    return net.family(place) is Family.GROUP_NORM and (
        record.attributes.get("group") == record.attributes.get("C")
    )


def _hidden_by_training(net: Net, first: int, second: int) -> bool:
    """Return True if the code between two layers may do something else in training."""
    calls = {net.ops[p].call for p in (first, second)}
    parents = {net.trace.calls[call].parent for call in calls if call >= 0}
    paths = {net.trace.modules[net.trace.calls[p].module].path for p in parents if p >= 0}
    inside = net.layer(second)
    frozen = any(not path or f"{inside}.".startswith(f"{path}.") for path in net.trace.own_train)
    return frozen or not paths.isdisjoint(net.trace.asks_training)
