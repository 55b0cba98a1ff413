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

from cnnscope.files import PACKAGE
from cnnscope.tracing.lines import TORCH
from cnnscope.tracing.swaps import StandIn, imports_a_library, swap

# torch.jit itself, and what dynamo wraps `torch.jit.trace` in once something has been compiled
_JIT = (str(Path(TORCH, "jit")), str(Path(TORCH, "_dynamo", "eval_frame.py")))

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
    swap(undo, torch.cond, _interpreted(flow.cond))
    swap(undo, while_loop, _interpreted(flow.while_loop))
    for name, stand_in in {
        "cond": flow.cond,
        "while_loop": flow.while_loop,
        "map_impl": flow.map,
        "scan": flow.scan,
        "flex_attention": flow.flex_attention,
    }.items():
        operation = getattr(torch.ops.higher_order, name, None)
        if operation is not None:
            swap(undo, type(operation).__call__, _interpreted(stand_in))


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
    while at is not None and at.f_code.co_filename.startswith((PACKAGE, *_JIT, "<frozen")):
        names.add(at.f_code.co_name)
        at = at.f_back
    by_torch = at is not None and at.f_code.co_filename.startswith(TORCH)
    if by_torch or names & _OF_SCRIPT_MODULES or imports_a_library():
        return bool(original(enabled))
    return False


def _unfrozen(original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
    """`torch.jit.freeze` of a module that was not scripted."""
    if isinstance(module, torch.jit.ScriptModule):
        return original(module, *args, **kwargs)
    return module


def _interpreted(stand_in: Callable[..., Any]) -> StandIn:
    """A stand-in for an operation of torch, which a compiler or an export runs itself."""

    def run(original: Any, *given: Any, **named: Any) -> Any:
        compiled = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        return (original if compiled else stand_in)(*given, **named)

    return run


class _Flow:
    """Control flow of torch's operations, run in Python."""

    def __init__(self, state: Elsewhere) -> None:
        self._state = state

    def cond(self, *given: Any, **named: Any) -> Any:
        """`torch.cond`, and the operation of a graph."""
        names = ("pred", "true_fn", "false_fn", "operands")
        pred, true_fn, false_fn, operands = _arguments(given, named, names)
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

    def while_loop(self, *given: Any, **named: Any) -> Any:
        """`torch.while_loop`: as many steps as its condition says, which may ask for data."""
        names = ("cond_fn", "body_fn", "carried_inputs", "additional_inputs")
        cond_fn, body_fn, carried, additional = _arguments(given, named, names)
        while bool(cond_fn(*carried, *additional)):
            carried = tuple(body_fn(*carried, *additional))
        return tuple(carried)

    def map(self, *given: Any, **named: Any) -> Any:
        """The operation of `map`: a function of each slice along the first dimension, stacked."""
        function, slices, more = _arguments(given, named, ("f", "xs", "pos_args"))
        found = [function(*each, *more) for each in _unstacked(slices)]
        leaves = [tree_flatten(one)[0] for one in found]
        return tree_unflatten(_stacked(leaves), tree_flatten(found[0])[1])

    def scan(self, *given: Any, **named: Any) -> Any:
        """The operation of `scan`: what one step carries, the next step reads."""
        names = ("combine_fn", "init", "xs", "additional_inputs")
        function, carried, slices, more = _arguments(given, named, names)
        outputs = []
        for each in _unstacked(slices):
            result = function(*carried, *each, *more)
            carried, left = result[: len(carried)], result[len(carried) :]
            outputs.append(left)
        return (*carried, *_stacked(outputs))

    def flex_attention(self, *given: Any, **named: Any) -> Any:
        """The operation of `flex_attention`: all scores, which it computes where not compiled."""
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


def _arguments(given: tuple[Any, ...], named: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    """Arguments by name, without the operation itself where its method is called; () by default."""
    given = _without_operation(given)
    return [*given, *(named.get(name, ()) for name in names[len(given) :])]


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
    from cnnscope.tracing.answers import Costs

    with Costs() as costs:
        branch(*operands)
    return costs.flops, costs.elements
