"""Findings about random numbers."""

from __future__ import annotations

from cnnscope.analysis.review import words
from cnnscope.analysis.review.net import Net, Remark
from cnnscope.ops import table
from cnnscope.records.trace import Trace

_SYSTEM = "the operating system's"  # which has no seed


def always_dropout(net: Net) -> Remark | None:
    """Dropout that does not ask whether the network is trained."""
    calls = [drop.call for drop in net.trace.dropouts if drop.always]
    modules = (net.trace.modules[net.trace.calls[c].module] for c in calls if c >= 0)
    layers = tuple(dict.fromkeys(m.path or net.rows[0].operation for m in modules))
    if not layers:
        return None
    return Remark(
        f"dropout is active in inference too, in {words.names(layers)}: F.dropout needs "
        "training=self.training, attention dropout_p=0 then, nn.Dropout must be registered",
        layers,
        min(net.trace.calls[c].start for c in calls if c >= 0),
    )


def random(net: Net) -> Remark | None:
    """Random numbers in inference: in what is computed, or in the choice of what runs."""
    if path := random_path(net.trace):
        return Remark(path)
    dropped = {drop.call for drop in net.trace.dropouts if drop.always}
    late = set(net.trace.late)  # what the first forward draws is what others find
    draws = [
        place
        for place, record in enumerate(net.ops)
        if table.lookup(record.name).random
        and not net.needed.isdisjoint(record.outputs)
        and record.call not in dropped
        and late.isdisjoint(net.trace.tensors[i].storage for i in record.outputs)
    ]
    if not draws:
        return None
    layers = net.layers(draws)
    return Remark(
        f"the output depends on random numbers in inference too, drawn by {words.names(layers)}: "
        "two runs on one input differ",
        layers,
        draws[0],
    )


def random_path(trace: Trace) -> str:
    """The sentence about random numbers that chose what ran, "" where none did."""
    if "random" not in trace.decided_by:
        return ""
    once = "run" if _SYSTEM in trace.drawn else "seed"
    sources = ", ".join(trace.drawn) or "torch"
    return (
        f"its forward draws random numbers ({sources}) and looks at them: this is the path of one "
        f"{once}, another run may take another"
    )
