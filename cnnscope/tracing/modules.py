"""The modules of a network: what they hold, and holding it as it was while the network runs."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from cnnscope.errors import ModelError
from cnnscope.text import visible


def modules_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, with its dotted path: `named_modules`, whatever a class makes of that.

    Raises:
        ModelError: a constructor that never called the one of nn.Module.
    """
    seen: set[int] = set()
    waiting = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        try:
            children = list(module._modules.items())
        except AttributeError:
            kind = visible(type(module).__name__)
            raise ModelError(
                f"{kind} never called super().__init__() of nn.Module: call it first in __init__"
            ) from None
        yield path, module
        before = f"{path}." if path else ""
        waiting += [(f"{before}{k}", child) for k, child in reversed(children) if child is not None]


def state_of(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer; a tied one once for each of its names."""
    for _, module in modules_of(model):
        for _, tensor in own_state(module):
            yield tensor


@contextmanager
def replaced(model: nn.Module, replacements: dict[int, Tensor]) -> Iterator[None]:
    """Run with other tensors in the places of parameters and buffers, and put everything back.

    Whatever a forward keeps in its module (a cache, a counter, a normalised weight) is gone
    afterwards: every attribute, and what lists and dicts among them hold, is as it was.
    """
    kept = [
        (module, dict(vars(module)), list(_containers(module)))
        for _, module in modules_of(model)
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        for module, attributes, _ in kept if replacements else ():
            for name, value in attributes.items():
                _replace_in(module, name, value, replacements)
        yield
    finally:
        for module, attributes, containers in kept:
            vars(module).clear()
            vars(module).update(attributes)
            for container, held in containers:
                if not _same(container, held):
                    container.clear()
                    (container.extend if isinstance(container, list) else container.update)(held)


def _containers(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """The lists, sets and dicts that a module holds, its hooks among them, each with a copy."""
    for value in vars(module).values():
        if isinstance(value, (dict, list, set)):
            yield value, value.copy() if value else ()


def _same(container: Any, held: Any) -> bool:
    """True if it holds the very things that it held; some containers refuse to be written to."""
    if len(container) != len(held):
        return False
    if isinstance(container, dict) and held:
        container, held = chain(*container.items()), chain(*held.items())
    return all(map(operator.is_, container, held))


def _replace_in(module: nn.Module, name: str, value: Any, replacements: dict[int, Tensor]) -> None:
    """Replace a tensor attribute, or the tensors that a list, dict or tuple holds."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, Tensor):
                value[key] = replacements.get(id(item), item)
    elif isinstance(value, list):
        value[:] = [replacements.get(id(item), item) for item in value]
    elif type(value) is tuple and any(id(item) in replacements for item in value):
        vars(module)[name] = tuple(replacements.get(id(item), item) for item in value)
    elif id(value) in replacements:
        vars(module)[name] = replacements[id(value)]


def children_of(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a module itself holds, under every name that they have in it."""
    yield from ((name, child) for name, child in module._modules.items() if child is not None)


@contextmanager
def orthogonal_without_data() -> Iterator[None]:
    """Let `torch.nn.utils.parametrizations.orthogonal` take weights that have no data.

    It asks whether a weight is orthogonal already, and makes it so; what a tensor without data
    raises then is taken for a parametrization that cannot be inverted, and its base is missing.
    """
    from torch.nn.utils import parametrizations

    asks: Any = parametrizations._is_orthogonal
    makes: Any = parametrizations._make_orthogonal

    def is_orthogonal(matrix: Tensor, eps: float | None = None) -> bool:
        return not matrix.is_meta and bool(asks(matrix, eps))

    def make_orthogonal(matrix: Tensor) -> Tensor:
        made: Tensor = torch.empty_like(matrix) if matrix.is_meta else makes(matrix)
        return made

    vars(parametrizations).update(_is_orthogonal=is_orthogonal, _make_orthogonal=make_orthogonal)
    try:
        yield
    finally:
        vars(parametrizations).update(_is_orthogonal=asks, _make_orthogonal=makes)


def own_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a module itself, not those of its children."""
    for held in (module._parameters, module._buffers):
        for name, tensor in held.items():
            if tensor is not None:
                yield name, tensor


def inner_tensors(tensor: Tensor, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors that one is made of, with their names: quantised weights of torchao, or itself.

    One that is spread over processes is a whole.
    """
    kind = type(tensor)
    plain = kind in (Tensor, nn.Parameter) or kind.__module__.startswith("torch.distributed.")
    if plain or not is_traceable_wrapper_subclass(tensor):
        yield path, tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from inner_tensors(getattr(tensor, name), f"{path}.{name}")


_INTEGERS = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}


def packed_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and biases of a quantised layer of torch, which it holds packed: without data.

    Weights have the type that they are stored in.
    """
    if not type(module).__module__.startswith("torch.ao.nn."):
        return
    with torch._C._DisableTorchDispatch():
        half = _keeps_half(module)
        for name, tensor in _unpacked(module):
            dtype = _INTEGERS.get(tensor.dtype, tensor.dtype)
            dtype = torch.float16 if half and name.startswith("weight") else dtype
            yield name, torch.empty(tensor.shape, dtype=dtype, device="meta")


def _unpacked(module: Any) -> Iterator[tuple[str, Tensor]]:
    """What a layer, or a recurrent network or cell, makes of what it holds packed."""
    if hasattr(module, "_packed_params"):
        made = {name: getattr(module, name, None) for name in ("weight", "bias")}
        held = {name: call() for name, call in made.items() if callable(call)}
    elif hasattr(module, "_all_weight_values") or hasattr(module, "_packed_weight_ih"):
        held = {**module.get_weight(), **module.get_bias()}
    else:
        held = {}
    yield from ((name, one) for name, one in held.items() if isinstance(one, Tensor))


def _keeps_half(module: Any) -> bool:
    """Return True if packed weights are kept in 16 bits, which are unpacked to 32."""
    holder = getattr(module, "_packed_params", None)
    dtype = getattr(holder, "dtype", None) or getattr(module, "weight_dtype", None)
    return (dtype or getattr(module, "dtype", None)) is torch.float16


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run with parameters that take no gradients, and with copies of the buffers."""
    replacements: dict[int, Tensor] = {}
    for _, module in modules_of(model):
        for _, tensor in own_state(module):
            if isinstance(tensor, nn.Parameter):
                stand_in: Tensor = nn.Parameter(tensor.data, requires_grad=False)
            else:
                stand_in = tensor.detach().clone()
            replacements[id(tensor)] = stand_in
    with replaced(model, replacements):
        yield
