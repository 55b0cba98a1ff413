"""What to give to a forward that reads an argument by keys: a dict with the sizes that it takes."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope.models import spelling
from cnnscope.models.keys import NAMED, Tree, keys_of, text_of
from cnnscope.records import form as forms
from cnnscope.records.form import Form, Node, Table

if TYPE_CHECKING:
    from torch import nn

_UNKNOWN = "SIZE"


def advice(model: nn.Module, form: Form, texts: Sequence[str]) -> str:
    """What to give to a forward that reads an argument by keys: `--input '{"image": 3x8x8}'`.

    Args:
        model: the network.
        form: of what was given; its values are kept, and stand where they are likeliest meant.
        texts: what was typed for each of its tensors.

    Returns:
        "" where no argument is read by keys, or all that is read was given so.
    """
    keys = keys_of(model)
    if not keys:
        return ""
    left = iter(texts)
    args = [_tree(node, left) for node in form.args]
    kwargs = {name: _tree(node, left) for name, node in form.kwargs}
    before = _options(args, kwargs)
    known = inspect.signature(model.forward).parameters
    parameters = [one for one in known.values() if one.kind in (*NAMED, one.POSITIONAL_ONLY)]
    names, typed = [one.name for one in parameters], [*kwargs]
    given = dict(zip(names, args, strict=False)) | {n: kwargs.pop(n) for n in names if n in kwargs}
    for name, inner in keys.items():
        held = given.get(name)
        under = {**(held if isinstance(held, dict) else {}), **kwargs}
        size_of = functools.partial(_size, model)
        given[name] = _filled(inner, under, [*_loose(held), *args[len(names) :]], (name,), size_of)
    for one in parameters:
        if one.default is one.empty:
            given.setdefault(one.name, _UNKNOWN)
    by_place = (p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.name not in typed)
    placed = list(itertools.takewhile(given.__contains__, by_place))
    by_name = {name: given[name] for name in names if name in given and name not in placed}
    after = _options([given[name] for name in placed], by_name)
    return "" if after == before else after


def _tree(node: Node, texts: Iterator[str]) -> Any:
    """What was given, with what was typed for its tensors."""
    if isinstance(node, Table):
        return {str(key): _tree(item, texts) for key, item in node.entries}
    if isinstance(node, forms.Sequence):
        items = [_tree(item, texts) for item in node.items]
        return items if node.is_list else tuple(items)
    return spelling.spelled(node, texts)


def _loose(held: Any) -> list[Any]:
    """What was given without keys."""
    if held is None or isinstance(held, dict):
        return []
    return [*held] if isinstance(held, (list, tuple)) else [held]


def _filled(
    keys: Tree,
    known: Mapping[str, Any],
    loose: list[Any],
    path: tuple[str, ...],
    size_of: Callable[[tuple[str, ...]], str],
) -> Tree:
    """What is read, with what is known of it; what was given without a key in order of reading."""
    made: Tree = {}
    for key, inner in keys.items():
        held = known.get(key)
        if inner and (held is None or isinstance(held, dict)):
            made[key] = _filled(inner, held or {}, loose, (*path, key), size_of)
        elif held is not None:
            made[key] = held
        else:
            made[key] = loose.pop(0) if loose else size_of((*path, key))
    return made | {key: held for key, held in known.items() if key not in made}


def _size(model: nn.Module, path: tuple[str, ...]) -> str:
    """What may be written for an entry of a dict, where the layer that reads it is known."""
    from cnnscope.models import takes  # and torch

    return takes.size_of(model, path) or _UNKNOWN


def _options(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    texts = [*map(text_of, args), *(f"{name}={text_of(held)}" for name, held in kwargs.items())]
    return " ".join(f"--input {spelling.quoted(text)}" for text in texts)
