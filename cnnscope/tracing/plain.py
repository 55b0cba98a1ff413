"""Python's objects as plain data: arguments, the tensors in them, modules without weights."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnscope.records.trace import Attribute, ModuleRecord, Plain
from cnnscope.text import visible

_PLAIN = (bool, int, float, str, type(None))


def tensors_in(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, dicts, dataclasses and small plain objects."""
    if isinstance(value, Tensor):
        yield value
    elif depth <= 16:
        items, deeper = _items(value)
        for item in items:
            yield from tensors_in(item, depth + deeper)


def _items(value: Any) -> tuple[Iterable[Any], int]:
    """Items of a container, and the number of levels of the search that it takes."""
    if isinstance(value, (list, tuple)):
        return value, 1
    if isinstance(value, (*_PLAIN, bytes, type, nn.Module)):
        return (), 1
    if isinstance(value, Mapping):
        return value.values(), 1
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)], 1
    return getattr(value, "__dict__", {}).values(), 8


def any_on_meta(arguments: Any) -> bool:
    """Return True if any tensor in arguments is on the meta device."""
    return any(tensor.is_meta for tensor in tensors_in(arguments))


def plain(value: Any) -> Attribute:
    """An argument as plain data: what JSON has no number for is its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain_item(item) for item in value)
    if isinstance(value, torch.ScriptObject):
        return _packed(value)
    return visible(str(value).removeprefix("torch."))


def _plain_item(item: Any) -> Plain:
    """An item of a sequence as plain data."""
    if isinstance(item, (int, bool)) and type(item) in (int, bool):
        return item
    return _kind_of_cell(item) if isinstance(item, torch.ScriptObject) else visible(str(item))


def _kind_of_cell(value: Any) -> str:
    """The kind of weights that a recurrent layer holds packed: "quantized_fp16", for one."""
    try:
        with torch._C._DisableTorchDispatch():
            return str(value.__getstate__()[0][0])
    except (AttributeError, RuntimeError, TypeError, IndexError):
        return "an object of TorchScript"


def _plain_tuple(values: list[Any] | tuple[Any, ...]) -> Attribute:
    """A sequence as plain data, item by item."""
    return tuple(item if item is None else plain(item) for item in values)  # type: ignore[misc]


def _packed(value: Any) -> Attribute:
    """The shape of the weight that a quantised layer holds packed; a name for any other object."""
    try:
        with torch._C._DisableTorchDispatch():
            return tuple(value.unpack()[0].shape)
    except (AttributeError, RuntimeError, TypeError):
        return "an object of TorchScript"


def _is_convolution(value: Any) -> bool:
    return bool(value._has_method("transpose"))


_GEOMETRY = {  # methods of a packed convolution, by the names of arguments
    **{name: name for name in ("stride", "padding", "dilation", "groups", "output_padding")},
    "transposed": "transpose",
}


def packed_geometry(arguments: Iterable[Any]) -> dict[str, Attribute]:
    """Geometry of a convolution that one of the arguments holds, packed with its weight."""
    found: dict[str, Attribute] = {}
    for value in arguments:
        if isinstance(value, torch.ScriptObject) and _is_convolution(value):
            with torch._C._DisableTorchDispatch():
                found |= {n: plain(getattr(value, method)()) for n, method in _GEOMETRY.items()}
    return found


def module_record(path: str, module: nn.Module) -> ModuleRecord:
    """A module's class and documented hyper-parameters, without its weights."""
    kind: Any = type(module)
    hyper = _hyper(module)
    made = dict(module._modules.items()).get("parametrizations")  # TorchScript's has no get
    if isinstance(made, nn.ModuleDict) and kind.__name__ == f"Parametrized{kind.__base__.__name__}":
        kind = kind.__base__  # the class is made for the one module
        by = {name: [type(m).__name__ for m in each.children()] for name, each in made.items()}
        named = (f"{name} by {', '.join(kinds)}" for name, kinds in by.items())
        hyper["parametrized"] = visible("; ".join(named))
    return ModuleRecord(visible(path), visible(kind.__name__), _base(kind), hyper)


def _base(kind: Any) -> str:
    """Return the name of the nearest class of torch.nn, "" where there is none."""
    ancestor = _library_ancestor(kind)
    return ancestor.__name__ if ancestor else ""


def _hyper(module: nn.Module) -> dict[str, Any]:
    """The constructor's arguments, read back from the attributes of the same name."""
    hyper: dict[str, Attribute] = {}
    attributes, tensors = vars(module), module._parameters
    kind: Any = type(module)
    for name in _constructor_names(kind):
        if name in tensors:
            hyper[name] = tensors[name] is not None
        elif name in attributes:
            value = attributes[name]
            flat = value if isinstance(value, (list, tuple)) else (value,)
            if all(isinstance(item, _PLAIN) for item in flat):
                hyper[name] = _plain_tuple(value) if flat is value else plain(value)
    return hyper


@functools.cache
def _constructor_names(kind: Any) -> tuple[str, ...]:
    """Names of the constructor's arguments, with those that it hands on to a class of torch.nn."""
    try:
        parameters = list(inspect.signature(kind.__init__).parameters.values())
    except (TypeError, ValueError):
        return ()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = tuple(p.name for p in parameters if p.name != "self" and p.kind not in variadic)
    inherited: Any = _library_ancestor(kind)
    if inherited is kind:  # recurrent layers hand all that they are given to their base
        passes = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        inherited = kind.__base__ if passes and kind.__base__ is not nn.Module else None
    if inherited is None:
        return own
    return tuple(dict.fromkeys((*own, *_constructor_names(inherited))))


@functools.cache
def _library_ancestor(kind: Any) -> type[nn.Module] | None:
    """The nearest class of torch.nn that a module is made from, None for a plain Module."""
    libraries = (base for base in kind.__mro__ if base.__module__.startswith("torch.nn.modules"))
    nearest = next(libraries, nn.Module)
    return None if nearest is nn.Module else nearest
