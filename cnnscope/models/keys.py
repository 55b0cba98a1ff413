"""Keys by which a forward reads its arguments.

They are found in its source, where `batch["image"]` and `batch.get("ids")` say them, also where a
batch is handed on to a layer or a method. Nothing is run.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope.models import spelling
from cnnscope.models.syntax import tree_of
from cnnscope.text import printable

if TYPE_CHECKING:
    from torch import nn

_READS = ("get", "pop")
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

# What a dict holds: a dict under a key, or what is written for it; "" where nothing is known.
Tree = dict[str, Any]


def keys_of(model: nn.Module) -> dict[str, Tree]:
    """The keys by which a forward reads each parameter that it reads so, in order.

    Returns:
        For each parameter a dict with "" under its keys, a dict where what is there is read alike.
    """
    found: dict[str, Tree] = {}
    for name, *path in _paths(model, model.forward, {}):
        at = found.setdefault(name, {})
        for key in path:
            at = at.setdefault(key, {})
    return found


def _paths(
    owner: Any, function: Callable[..., Any], known: dict[tuple[int, Any], list[tuple[str, ...]]]
) -> list[tuple[str, ...]]:
    """Each reading in a function: its parameter, and the keys from the outermost one on.

    Args:
        owner: the module that it is a method of.
        function: bound to its module.
        known: what was found so far, for functions and their modules.
    """
    place = (id(owner), getattr(function, "__func__", function))
    if place in known:
        return known[place]
    known[place] = []  # of one that calls itself
    tree, parameters = tree_of(function), parameters_of(function)
    nodes = [*ast.walk(tree)] if tree is not None else []
    made = {path: end for node in nodes for path, end in _stored(node, parameters)}
    found: list[tuple[int, int, tuple[str, ...]]] = []
    for node in nodes:
        if not isinstance(node, (ast.Call, ast.Subscript)):
            continue
        at = (node.end_lineno or 0, node.end_col_offset or 0)
        if isinstance(node, ast.Call):
            found.extend((*at, path) for path in _handed(owner, node, parameters, known))
        path = _path(node, parameters)
        if path and node.lineno <= made.get(path, node.lineno):
            found.append((*at, path))
    known[place] = [path for *_, path in sorted(found, key=lambda one: one[:2])]
    return known[place]


def children(held: Any) -> dict[str, Any]:
    """Modules in a module by name, TorchScript's as well; none of what is no module."""
    found = getattr(held, "_modules", None)
    return {} if found is None else dict(found.items())


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters, without *args and **kwargs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (*NAMED, p.POSITIONAL_ONLY)]


def _path(node: ast.AST, parameters: Sequence[str]) -> tuple[str, ...]:
    """`("batch", "image")` of `batch["image"]` and of `batch.get("image")`; () of what is none."""
    if isinstance(node, ast.Name):
        return (node.id,) if node.id in parameters else ()
    key: ast.AST | None = None
    inner: ast.AST | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        key, inner = node.slice, node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        alone = node.func.attr in _READS and len(node.args) == 1  # another has a default
        key, inner = (node.args[0], node.func.value) if alone else (None, None)
    if inner is None or not isinstance(key, ast.Constant) or not isinstance(key.value, str):
        return ()
    path = _path(inner, parameters)
    return (*path, key.value) if path else ()


def _stored(node: ast.AST, parameters: Sequence[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """What a statement puts under a key, and its last line: what is read below is no input."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Subscript):
                read = ast.Subscript(part.value, part.slice, ast.Load())
                path = _path(read, parameters)
                if path:
                    yield path, node.end_lineno  # type: ignore[attr-defined]


def _handed(
    owner: Any,
    call: ast.Call,
    parameters: Sequence[str],
    known: dict[tuple[int, Any], list[tuple[str, ...]]],
) -> Iterator[tuple[str, ...]]:
    """What a layer or method reads of a parameter that it is given: `self.encoder(batch)`."""
    function, given = call.func, [_path(arg, parameters) for arg in call.args]
    named = {k.arg: _path(k.value, parameters) for k in call.keywords if k.arg}
    if not any(given) and not any(named.values()):
        return
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return
    layer = children(owner).get(function.attr)
    method: Any = getattr(type(owner), function.attr, None)
    if function.value.id in parameters or (layer is None and not inspect.isfunction(method)):
        return
    callee = layer.forward if layer is not None else method.__get__(owner)
    places = dict(zip(parameters_of(callee), given, strict=False)) | named
    for name, *path in _paths(owner if layer is None else layer, callee, known):
        if places.get(name):
            yield (*places[name], *path)


def text_of(held: Any) -> str:
    """Return what is written for texts in lists and dicts."""
    if isinstance(held, (list, tuple)):
        return spelling.in_brackets(map(text_of, held), as_list=isinstance(held, list))
    if isinstance(held, dict):
        return spelling.in_braces((printable(key), text_of(item)) for key, item in held.items())
    return str(held)


def looked_up(model: nn.Module, text: str, error: BaseException) -> bool:
    """Return True if an exception is that of a look-up by a key in what forward was given.

    Args:
        model: the network.
        text: the expression that raised, `batch["image"]`.
        error: what it raised.
    """
    known = set(_flat(keys_of(model)))
    if isinstance(error, KeyError):
        return any(str(one) in known for one in error.args)
    if "NoneType" in str(error):  # of batch.get("mask") where it is missing
        return bool(known)
    try:
        node: Any = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return False
    if isinstance(node, ast.Attribute):
        return bool(known) and node.attr in _READS
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        key = node.args[0] if node.func.attr in _READS and node.args else None
    else:
        key = node.slice if isinstance(node, ast.Subscript) else None
    return isinstance(key, ast.Constant) and key.value in known


def _flat(keys: Mapping[str, Tree], depth: int = 0) -> Iterator[str]:
    for key, inner in keys.items():
        if depth:
            yield key
        yield from _flat(inner, depth + 1)
