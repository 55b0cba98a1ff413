"""Arguments of a call as their form and their tensors, and made again from these."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from cnnscope.errors import RequestError
from cnnscope.records.form import Form, Node, Opaque, Sequence, Slot, Table, Value
from cnnscope.text import visible
from cnnscope.tracing.plain import tensors_in

_DEEPEST = 14  # levels of an argument in which `tensors_in` still finds tensors


class Arguments(NamedTuple):
    """Positional and keyword arguments of a forward."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = {}  # noqa: RUF012  never written to

    def call(self, function: Any) -> Any:
        """Call it with them; its lists and dicts are new ones, as a forward may change these."""
        return function(*map(_again, self.args), **_again(self.kwargs))


def _again(value: Any) -> Any:
    """The same tensors in new lists and dicts."""
    if type(value) in (list, tuple):
        return type(value)(map(_again, value))
    return {key: _again(item) for key, item in value.items()} if type(value) is dict else value


def form_of(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Form | None:
    """The form of a call, None where every argument is a tensor given by its place."""
    by_name = tuple((visible(name), _node(value)) for name, value in kwargs.items())
    form = Form(tuple(map(_node, args)), by_name)
    return None if form.by_place else form


def _node(value: Any, depth: int = 0) -> Node:
    if isinstance(value, Tensor):
        return Slot()
    if value is None or type(value) in (bool, int, float):
        return Value(value)
    if type(value) is str:
        return Value(visible(value))
    if depth < _DEEPEST:
        made = _container(value, depth + 1)
        if made is not None:
            return made
    return Opaque(visible(type(value).__name__), len(list(tensors_in(value, depth + 2))))


def _container(value: Any, depth: int) -> Node | None:
    if isinstance(value, (list, tuple)):
        items = tuple(_node(item, depth) for item in value)
        fields = getattr(value, "_fields", ())
        if fields and isinstance(value, tuple):
            return Sequence(items, is_list=False, name=type(value).__name__, fields=tuple(fields))
        return Sequence(items, is_list=isinstance(value, list))
    keyed = isinstance(value, Mapping) and not dataclasses.is_dataclass(value)
    if keyed and all(type(key) in (str, int) for key in value):
        return Table(tuple((key, _node(item, depth)) for key, item in value.items()))
    return None


def arguments(form: Form | None, tensors: Iterable[Any]) -> Arguments:
    """Fill the tensors into the form of a call.

    Args:
        form: of the call; None gives each tensor by its place.
        tensors: in the order in which the form has them.

    Raises:
        RequestError: an argument is an object that cannot be made again.
    """
    if form is None:
        return Arguments(tuple(tensors), {})
    rest = iter(tensors)
    args = tuple(_filled(node, rest) for node in form.args)
    return Arguments(args, {name: _filled(node, rest) for name, node in form.kwargs})


def _filled(node: Node, tensors: Iterator[Any]) -> Any:
    if isinstance(node, Slot):
        return next(tensors)
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Table):
        return {key: _filled(item, tensors) for key, item in node.entries}
    if isinstance(node, Sequence):
        items = [_filled(item, tensors) for item in node.items]
        if node.fields:
            made: Any = collections.namedtuple(node.name, node.fields)  # type: ignore[misc]  # noqa: PYI024
            return made(*items)
        return items if node.is_list else tuple(items)
    raise RequestError(
        f"an argument is of the class {node.kind}, which cannot be made again with other tensors: "
        "give tensors, numbers, lists and dicts of them"
    )
