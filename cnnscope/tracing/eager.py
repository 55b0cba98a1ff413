"""Compiled, scripted and structured code, run as it was written.

`torch.compile` and `torch.jit` return what they are given, so that a network is inspected as its
own modules and runs without data. Control flow that torch has as an operation runs in Python:
of `torch.cond` the branch that costs more where its condition depends on data, as torch's own
counter has it (`torch.utils.flop_counter`); `map` and `scan` step by step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from cnnscope.tracing.swaps import imports_a_library, swap

_PACKAGE = str(Path(__file__).parents[1])
_TORCH = str(Path(torch.__file__).parent)
# torch.jit itself, and what dynamo wraps `torch.jit.trace` in once something has been compiled
_JIT = (str(Path(_TORCH, "jit")), str(Path(_TORCH, "_dynamo", "eval_frame.py")))

# What compiles the methods of a class that is TorchScript: as it is written, and as it is made
_OF_SCRIPT_MODULES = {"script_method", "init_then_script"}

if TYPE_CHECKING:
    from cnnscope.tracing.devices import Elsewhere


def run_eagerly(undo: ExitStack, state: Elsewhere) -> None:
    """Leave code as it is written until `undo` closes."""
    from torch._higher_order_ops.while_loop import while_loop
    from torch.jit import _freeze, _state

    swap(undo, torch.compile, _compile)
    swap(undo, type(vars(_state)["_enabled"]).__bool__, _jit_is_enabled)
    for name in ("freeze", "optimize_for_inference"):
        swap(undo, getattr(_freeze, name), _unfrozen)
    flow = _Flow(state)
    operations: Any = torch.ops.higher_order
    for function in (torch.cond, type(operations.cond).__call__):
        swap(undo, function, flow.cond)
    for function in (while_loop, type(operations.while_loop).__call__):
        swap(undo, function, flow.while_loop)
    for operation, stand_in in (
        ("map_impl", flow.map), ("scan", flow.scan), ("flex_attention", flow.flex_attention)
    ):  # fmt: skip
        if hasattr(operations, operation):
            swap(undo, type(getattr(operations, operation)).__call__, stand_in)


def _compile(original: Any, model: Any = None, **kwargs: Any) -> Any:
    """`torch.compile(model)`, and `@torch.compile(...)`."""
    if imports_a_library() or torch.compiler.is_compiling():
        return original(model, **kwargs)
    return (lambda function: function) if model is None else model


def _jit_is_enabled(original: Any, enabled: Any) -> bool:
    """Whether `torch.jit.script` and `torch.jit.trace` do anything.

    They do for libraries, for torch itself, and for classes that are TorchScript (`script_method`).
    """
    at: Any = sys._getframe(1)
    names = set()
    while at is not None and at.f_code.co_filename.startswith((_PACKAGE, *_JIT, "<frozen")):
        names.add(at.f_code.co_name)
        at = at.f_back
    by_torch = at is not None and at.f_code.co_filename.startswith(_TORCH)
    if by_torch or names & _OF_SCRIPT_MODULES or imports_a_library():
        return bool(original(enabled))
    return False


def _unfrozen(original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
    """`torch.jit.freeze` of a module that was not scripted."""
    if isinstance(module, torch.jit.ScriptModule):
        return original(module, *args, **kwargs)
    return module


class _Flow:
    """Control flow in Python, outside of a compiler or an export."""

    def __init__(self, state: Elsewhere) -> None:
        self._state = state

    def cond(self, original: Any, *given: Any, **named: Any) -> Any:
        """`torch.cond`, and the operation of a graph."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return original(*given, **named)
        pred, true_fn, false_fn, operands = _arguments(
            given, named, ("pred", "true_fn", "false_fn", "operands"), ()
        )
        known = _truth(pred)
        if known is None:
            costs = [_cost(branch, operands) for branch in (true_fn, false_fn)]
            known = costs[0] >= costs[1]
            self._state.chose = True
            self._state.remark(
                "torch.cond chooses by data: of its two branches the one that costs more is "
                "counted; what its condition sees is in no field"
            )
        return (true_fn if known else false_fn)(*operands)

    def while_loop(self, original: Any, *given: Any, **named: Any) -> Any:
        """`torch.while_loop`: as many steps as its condition says, which may ask for data."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return original(*given, **named)
        cond_fn, body_fn, carried, *more = _arguments(
            given, named, ("cond_fn", "body_fn", "carried_inputs", "additional_inputs"), ()
        )
        additional = tuple(more[0])
        while bool(cond_fn(*carried, *additional)):
            carried = tuple(body_fn(*carried, *additional))
        return tuple(carried)

    def map(self, original: Any, *given: Any, **named: Any) -> Any:
        """The operation of `map`: a function of each slice along the first dimension, stacked."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return original(*given, **named)
        function, slices, more = _arguments(given, named, ("f", "xs", "pos_args"), ())
        found = [function(*each, *more) for each in _unstacked(slices)]
        leaves = [tree_flatten(one)[0] for one in found]
        return tree_unflatten(_stacked(leaves), tree_flatten(found[0])[1])

    def scan(self, original: Any, *given: Any, **named: Any) -> Any:
        """The operation of `scan`: what one step carries, the next step reads."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return original(*given, **named)
        names = ("combine_fn", "init", "xs", "additional_inputs")
        function, carried, slices, more = _arguments(given, named, names, ())
        outputs = []
        for each in _unstacked(slices):
            result = function(*carried, *each, *more)
            carried, left = result[: len(carried)], result[len(carried) :]
            outputs.append(left)
        return (*carried, *_stacked(outputs))

    def flex_attention(self, original: Any, *given: Any, **named: Any) -> Any:
        """The operation of `flex_attention`: all scores, which it computes where not compiled."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return original(*given, **named)
        from torch._higher_order_ops.flex_attention import sdpa_dense

        self._state.remark(
            "flex_attention counts the products of every pair of positions, as it computes them "
            "where it is not compiled: a block mask leaves none out"
        )
        return sdpa_dense(*_without_operation(given), **named)


def _unstacked(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The slices of tensors along their first dimension, those of one place together."""
    return zip(*(tensor.unbind(0) for tensor in tensors), strict=True)


def _stacked(results: Sequence[Sequence[Any]]) -> list[Any]:
    """Tensors of each place, stacked."""
    parts = zip(*results, strict=True)
    return [torch.stack(part) if isinstance(part[0], Tensor) else part[0] for part in parts]


def _without_operation(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments without the operation itself, whose method is called with it."""
    return given[1:] if given and isinstance(given[0], torch._ops.HigherOrderOperator) else given


def _arguments(
    given: tuple[Any, ...], named: dict[str, Any], names: tuple[str, ...], default: Any
) -> list[Any]:
    """Arguments by name, without the operation itself where its method is called."""
    given = _without_operation(given)
    return [*given, *(named.get(name, default) for name in names[len(given) :])]


def _truth(pred: Any) -> bool | None:
    """The truth of a condition, None where that takes data."""
    try:
        return bool(pred)
    except (RuntimeError, NotImplementedError):
        if isinstance(pred, Tensor) and pred.is_meta:
            return None
        raise


def _cost(branch: Callable[..., Any], operands: Any) -> tuple[int, int]:
    """Floating-point operations of a branch, and elements that it computes."""
    from cnnscope.tracing.tracer import Costs

    with Costs() as costs:
        branch(*operands)
    return costs.flops, costs.elements
