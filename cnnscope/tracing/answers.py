"""What an operation returns, and whether a real kernel would refuse it.

All modes that run operations in place of torch run them here: the recorder, forwards without a
recording, and counters of costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from cnnscope.tracing import refusals, results
from cnnscope.tracing.at_once import made_at_once
from cnnscope.tracing.calls import recording
from cnnscope.tracing.dispatching import DispatchMode
from cnnscope.tracing.plain import any_on_meta, tensors_in


class Schema(NamedTuple):
    """Signature of an operation: argument names, and which of them it writes to."""

    name: str
    names: tuple[str, ...]
    written: tuple[str, ...]
    lifts: bool  # what it is given was made in Python a moment ago: `torch.tensor(1.0)`
    convolves: bool  # it may be a part of a complex convolution
    normalises: bool  # a batch norm: on meta it returns statistics that real kernels leave empty
    layout: Callable[..., Any] | None = None  # what a CPU makes of results of meta's
    lists: bool = False  # it writes to lists of tensors and returns nothing
    packs: bool = False  # a convolution whose weight and geometry are an object of TorchScript


@functools.cache
def schema_of(func: Any) -> Schema:
    """The signature of an operation, as the recorder needs it."""
    arguments = getattr(getattr(func, "_schema", None), "arguments", None)
    if arguments is None:  # higher-order operators have no schema
        names = tuple(f"arg{i}" for i in range(32))
        return Schema(str(func), names, (), lifts=False, convolves=False, normalises=False)
    written = tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)
    name = str(func)
    names = tuple(a.name for a in arguments)
    lifts, normalises = "lift_fresh" in name, "native_batch_norm" in name
    convolves = name == "aten.convolution.default"
    base, _, overload = name.rpartition(".")
    layout = None if "out" in overload else results.RESULTS.get(base)
    lists = name.startswith("aten._foreach_") and not func._schema.returns
    packs = name.startswith("quantized.conv")
    return Schema(name, names, written, lifts, convolves, normalises, layout, lists, packs)


def written_by(schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes to."""
    given = (_argument(schema, args, kwargs, name) for name in schema.written)
    return [tensor for value in given for tensor in tensors_in(value)]


def _argument(schema: Schema, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    if name in kwargs:
        return kwargs[name]
    position = schema.names.index(name)
    return args[position] if position < len(args) else None


# ----------------------------------------------------------------------------------- results


def answer(
    func: Any, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]
) -> Any:
    """Run an operation; on meta refuse what a real kernel refuses, and lay it out as a CPU's."""
    refusals.check_sizes(schema.name, schema.names, args, kwargs)
    given = refusals.without_bytes(schema.name, schema.names, args)
    result = _on_any_device(func, schema, args, kwargs, given)
    refusals.check_dtypes(func, args, kwargs, result)
    if written:
        refusals.check_overlap(func, written, args, kwargs)
    return _laid_out(schema, args, kwargs, result)


def unchecked(
    func: Any, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]
) -> Any:
    """Run an operation of autograd or of an optimizer, which is given what it takes.

    What the forward has saved of a plain CPU tensor lies on the CPU still.
    """
    if written and schema.lists and all(tensor.is_meta for tensor in written):
        return None  # nothing is written to memory without data
    result = _on_any_device(func, schema, args, kwargs, args)
    return _laid_out(schema, args, kwargs, result)


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What an operation returns, on meta without the many operations of which some are."""
    made = made_at_once(func, args, kwargs)
    return func(*args, **kwargs) if made is None else made


def _laid_out(schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """The result of an operation as a CPU makes it, where meta's differs."""
    if schema.layout is None or not any_on_meta(result):
        return result
    return schema.layout([_argument(schema, args, kwargs, name) for name in schema.names], result)


def _on_any_device(
    func: Any,
    schema: Schema,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    given: Sequence[Any],
) -> Any:
    """Run an operation whose operands may be meta and CPU tensors; a result of both is on meta.

    A product of matrices lies where its last operand does.
    """
    try:
        result = _computed(func, given, kwargs)
    except RuntimeError:  # or NotImplementedError, its child
        return _on_one_device(func, schema, args, kwargs)
    away = isinstance(result, Tensor) and not result.is_meta and not schema.written
    if away and len({one.is_meta for one in args if isinstance(one, Tensor)}) > 1:
        return _on_one_device(func, schema, args, kwargs)
    return result


def _on_one_device(func: Any, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation once more, with everything on the meta device, as it has failed otherwise.

    A model may hold plain CPU tensors beside its buffers, make constants without a device, or
    move its input to the device of its choice: none of it changes a shape.

    Raises:
        Exception: what it has failed with, where that is no remedy.
    """
    away = str(kwargs.get("device") or "meta") != "meta"
    moving = schema.name.startswith("aten._to_copy") and away
    mixed = any(not t.is_meta for t in tensors_in((args, kwargs)))
    written = tensors_in([_argument(schema, args, kwargs, name) for name in schema.written])
    remedy = (moving or mixed) and all(t.is_meta for t in written)
    if not remedy or not any_on_meta((args, kwargs)):
        raise  # noqa: PLE0704  in the except clause of the caller
    meta = torch.device("meta")
    kwargs = {**kwargs, "device": meta} if moving else kwargs
    there = tree_map(lambda v: v.to(meta) if isinstance(v, Tensor) else v, (args, kwargs))
    return func(*there[0], **there[1])


# ------------------------------------------------------------------------------- dispatch modes


class Answers(DispatchMode):
    """Refuses what a recorder refuses on meta, and brings to meta what that does."""

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation as a recorder does."""
        schema = schema_of(func)
        return answer(func, schema, args, kwargs, written_by(schema, args, kwargs))


class Costs(Answers):
    """Counts what runs, and has nothing recorded meanwhile.

    Attributes:
        flops: floating-point operations, as torch counts them.
        elements: of everything that was computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.elements = 0

    def __enter__(self) -> Self:
        recording.append(None)
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        recording.pop()

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and count it."""
        from torch.utils.flop_counter import flop_registry

        result = super().operate(func, args, kwargs)
        count = flop_registry.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=result)
        self.elements += sum(tensor.numel() for tensor in tensors_in(result))
        return result
