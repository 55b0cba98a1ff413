"""One operation forward: the states of its outputs from those of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnscope.ops import table
from cnnscope.ops.fields import channels, layout, rules
from cnnscope.ops.fields.layout import State

if TYPE_CHECKING:
    from cnnscope.records.trace import OpRecord, Shape, Trace


def step(trace: Trace, record: OpRecord, states: list[rules.Seen], memo: dict[Any, Any]) -> None:
    """Set the receptive-field states of an operation's outputs; of no elements, it is None.

    Args:
        trace: of the model.
        record: the operation.
        states: of every tensor, by id; those of the outputs are set.
        memo: what earlier steps remember; empty at the first.
    """
    seeing = [tensor for tensor in record.tensors if states[tensor] is not None]
    empty = [0 in trace.tensors[tensor].shape for tensor in record.outputs]
    if not seeing or all(empty):
        return
    entry = table.lookup(record.name)
    if entry.elementwise and len(seeing) == 1 and len(record.outputs) == 1:
        out = record.outputs[0]
        if trace.tensors[out].shape == trace.tensors[seeing[0]].shape:  # the most frequent case
            states[out] = states[seeing[0]]
            channels.passed(memo, seeing[0], out)
            return
    unknown = next((s for t in seeing if isinstance(s := states[t], rules.Unknown)), None)
    result: rules.Result = unknown or rules.UNKNOWN
    if entry.field is not None and (unknown is None or entry.kind is table.Kind.CREATE):
        view = rules.View(trace, record, states, memo)
        result = channels.tracked(view, entry.field, entry.field(view))
    results = result if isinstance(result, list) else [result] * len(record.outputs)
    for tensor, state, nothing in zip(record.outputs, results, empty, strict=False):
        if nothing:
            states[tensor] = None
        elif isinstance(state, State) and not _fits(state, trace.tensors[tensor].shape, memo):
            states[tensor] = _unknown(record)
        else:
            states[tensor] = _unknown(record) if state is rules.UNKNOWN else state


def _unknown(record: OpRecord) -> rules.Unknown:
    """State of what is computed from this operation: unknown, with its name."""
    entry = table.lookup(record.name)
    unknown = entry.kind is table.Kind.UNKNOWN
    return rules.Unknown(record.name if unknown else entry.label)


def _fits(state: State, shape: Shape, memo: dict[Any, Any]) -> bool:
    """Return True if a state can describe a tensor of this shape; answers are remembered."""
    key = (id(state), shape)
    if key not in memo:
        memo[key] = layout.fits(state, shape), state  # kept, so that its id stays its own
    return bool(memo[key][0])
