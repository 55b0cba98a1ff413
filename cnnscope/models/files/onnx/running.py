"""Run the nodes of a graph, one by one, on tensors without data and on arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.files import permitted
from cnnscope.models.files.onnx import operators, unknown  # noqa: F401  registers them
from cnnscope.models.files.onnx.graph import Body, Input, OnnxNode, Weight
from cnnscope.models.files.onnx.operators.folding import TooLargeError
from cnnscope.models.files.onnx.operators.table import FOLDS, OPERATORS
from cnnscope.models.files.onnx.values import Value, array_of
from cnnscope.text import said
from cnnscope.tracing.values import needs_data

# What a node whose attributes or inputs are of another kind than its operator's raises.
_DAMAGE = (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError,
           ZeroDivisionError, AssertionError)  # fmt: skip


class Runner:
    """Runs a node: a function of the values that it reads, which gives what it makes."""

    def __init__(self, node: OnnxNode, shapes: Mapping[str, Input]) -> None:
        self.node = node
        self.shapes = {name: shapes[name] for name in node.outputs if name in shapes}
        self.flows = any(isinstance(one, Body) for one in node.attributes.values())

    def __call__(self, *given: Value) -> Any:
        """Compute the outputs.

        Args:
            *given: the inputs in their order, None for one that was left out; then the values of
                `node.reads`, for graphs inside the node.

        Raises:
            RequestError: the node is not as its operator has to be.
            RuntimeError: torch cannot compute it; the message names the node.
        """
        node = self.node
        try:
            made = self._computed(list(given))
        except CnnscopeError:
            raise
        except RuntimeError as error:
            if type(error) is not RuntimeError or needs_data(error):
                raise
            raise RuntimeError(f"{node}: {error}") from error
        except _DAMAGE as error:
            raise RequestError(
                f"{node}: its inputs or attributes are not those of its operator "
                f"({said(error, 120)})"
            ) from error
        results = tuple(made) if type(made) in (tuple, list) else (made,)
        results += (None,) * (len(node.outputs) - len(results))
        wanted = results[: len(node.outputs)]
        return wanted[0] if len(wanted) == 1 else wanted

    def _computed(self, given: list[Value]) -> Any:
        node = self.node
        inputs = given[: len(node.inputs)]
        while inputs and inputs[-1] is None:
            inputs.pop()
        if self.flows:
            outer = dict(zip(node.reads, given[len(node.inputs) :], strict=True))
            inputs += [None] * (2 - len(inputs)) if node.op == "Loop" else []
            return self._operator()(node, *inputs, outer=outer)
        folded = self._folded(inputs)
        if folded is not None:
            return folded
        if node.kind not in OPERATORS:
            return unknown.run(node, inputs, self.shapes)
        made = OPERATORS[node.kind](node, *inputs)
        return tuple(made) if type(made) is not tuple and _is_several(made) else made

    def _operator(self) -> Any:
        if self.node.kind not in OPERATORS:
            raise RequestError(f"{self.node} runs a graph in a way that is not known: refused")
        return OPERATORS[self.node.kind]

    def _folded(self, inputs: Sequence[Value]) -> Any:
        """The result of a node whose inputs are known, None where it is not computed here."""
        node = self.node
        if node.kind not in FOLDS or not inputs:
            return None
        arrays = [None if value is None else array_of(value) for value in inputs]
        if any(a is None and v is not None for a, v in zip(arrays, inputs, strict=True)):
            return None
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return FOLDS[node.kind](node, *arrays)
        except TooLargeError:
            return None


def _is_several(made: Any) -> bool:
    """Return True for the named tuples that torch returns."""
    return isinstance(made, tuple) and all(isinstance(one, Tensor) for one in made)


def run_body(body: Body, given: Sequence[Value], outer: Mapping[str, Value]) -> list[Value]:
    """Run a graph that lies in a node.

    Args:
        body: the graph.
        given: its inputs.
        outer: values of the graphs around it.

    Raises:
        RequestError, RuntimeError: as `Runner`.
    """
    for limits in permitted.running():
        limits.spend(len(body.nodes) + 1)
    known: dict[str, Value] = dict(outer)
    known |= {weight.name: _held(weight) for weight in body.weights}
    known |= dict(zip(body.inputs, given, strict=False))
    for node in body.nodes:
        runner = Runner(node, {})
        values = [known.get(name) if name else None for name in node.inputs]
        if runner.flows:
            values += [known.get(name) for name in node.reads]
        made = runner(*values)
        results = made if len(node.outputs) > 1 else (made,)
        known |= dict(zip(node.outputs, results, strict=True))
    return [known.get(name) for name in body.outputs]


def _held(weight: Weight) -> Value:
    """A tensor that lies in a graph inside a node: its values, or one without data."""
    import torch

    from cnnscope.models.files.onnx.values import dtype_of
    from cnnscope.models.files.permitted import META

    if weight.array is not None:
        return weight.array
    return torch.empty(weight.shape, dtype=dtype_of(weight.data_type), device=META)
