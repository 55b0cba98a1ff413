"""Control flow: branches, loops, and scans along an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from cnnscope.errors import RequestError
from cnnscope.models.files import permitted
from cnnscope.models.files.onnx.graph import Body, OnnxNode
from cnnscope.models.files.onnx.operators.table import operator
from cnnscope.models.files.onnx.values import Value, array_of, tensor_of
from cnnscope.models.files.permitted import MAX_RUN

if TYPE_CHECKING:
    from cnnscope.tracing.answers import Costs


def _body(node: OnnxNode, name: str) -> Body:
    body = node.get(name)
    if not isinstance(body, Body):
        raise RequestError(f"{node} has no graph {name}: damaged")
    return body


def _run(body: Body, given: list[Value], outer: Mapping[str, Value]) -> list[Value]:
    from cnnscope.models.files.onnx.running import run_body

    return run_body(body, given, outer)


@operator("If")
def if_(node: OnnxNode, condition: Value, *, outer: Mapping[str, Value]) -> Any:
    """One of two graphs; of a condition that is not known, the one that costs more."""
    branches = _body(node, "then_branch"), _body(node, "else_branch")
    known = array_of(condition)
    if known is not None:
        return tuple(_run(branches[0 if known.reshape(-1)[0] else 1], [], outer))
    tried = [_tried(branch, outer) for branch in branches]
    dearer = 0 if tried[0].costs >= tried[1].costs else 1
    if not _trials:
        return tuple(_run(branches[dearer], [], outer))
    flops, elements = tried[dearer].costs
    _trials[-1].flops += flops
    _trials[-1].elements += elements
    return tuple(tried[dearer].results)


class _Tried(NamedTuple):
    """A graph that ran once unseen: its floating-point operations and elements, and its results."""

    costs: tuple[int, int]
    results: list[Value]


# Those that are going on, outermost first. A branch inside of one does not run again for its
# results: graphs in each other would double the time with each level.
_trials: list[Costs] = []


def _tried(body: Body, outer: Mapping[str, Value]) -> _Tried:
    """Run a graph for what it costs, unseen by whoever records or counts."""
    from cnnscope.tracing.answers import Costs

    with permitted.limits_alone(), Costs() as costs:
        _trials.append(costs)
        try:
            results = _run(body, [], outer)
        finally:
            _trials.pop()
    return _Tried((costs.flops, costs.elements), results)


@operator("Loop")
def loop(
    node: OnnxNode, most: Value, going: Value, *carried: Value, outer: Mapping[str, Value]
) -> Any:
    """A graph that runs again and again: as often as is known, once where that is not known."""
    body, count = _body(node, "body"), _rounds(most, going)
    _require_short(node, count * max(1, len(body.nodes)))
    state, collected = list(carried), [[] for _ in node.outputs[len(carried) :]]  # type: ignore[var-annotated]
    for number in range(count):
        entered = np.array(1, np.bool_) if going is None else going
        cond, *made = _run(body, [np.array(number, np.int64), entered, *state], outer)
        state = made[: len(carried)]
        for pieces, piece in zip(collected, made[len(carried) :], strict=False):
            pieces.append(tensor_of(piece))
        known = array_of(cond)
        if known is not None and not known.reshape(-1)[0]:
            break
    stacked = [torch.stack(pieces) if pieces else torch.empty(0, device="meta")
               for pieces in collected]  # fmt: skip
    return (*state, *stacked)


def _rounds(most: Value, going: Value) -> int:
    """How often a loop runs: at most once where the file does not say."""
    starts = None if going is None else array_of(going)
    if starts is not None and not starts.reshape(-1)[0]:
        return 0
    known = None if most is None else array_of(most)
    return 1 if known is None else max(0, min(int(known.reshape(-1)[0]), 2**40))


def _require_short(node: OnnxNode, steps: int) -> None:
    if steps > MAX_RUN:
        raise RequestError(
            f"{node} runs {steps:,} operations, the limit is {MAX_RUN:,}: refused; name the code"
        )


@operator("Scan")
def scan(node: OnnxNode, *given: Value, outer: Mapping[str, Value]) -> Any:
    """A graph that runs once for each position of an axis."""
    body, scanned = _body(node, "body"), int(node.get("num_scan_inputs", 0))
    if node.version < 9 or not 0 < scanned <= len(given):
        raise RequestError(f"{node}: a scan of opset 8, or of nothing: refused")
    state, sequences = list(given[:-scanned]), [tensor_of(one) for one in given[-scanned:]]
    axes = list(node.get("scan_input_axes") or (0,) * scanned)
    backwards = list(node.get("scan_input_directions") or (0,) * scanned)
    length = sequences[0].shape[axes[0]]
    _require_short(node, length * max(1, len(body.nodes)))
    collected: list[list[Any]] = [[] for _ in node.outputs[len(state) :]]
    for place in range(length):
        at = [length - 1 - place if back else place for back in backwards]
        items = [s.select(a, i) for s, a, i in zip(sequences, axes, at, strict=True)]
        made = _run(body, [*state, *items], outer)
        for pieces, piece in zip(collected, made[len(state) :], strict=False):
            pieces.append(tensor_of(piece))
        state = made[: len(state)]
    out = list(node.get("scan_output_axes") or (0,) * len(collected))
    return (*state, *(torch.stack(p, a) for p, a in zip(collected, out, strict=True)))
