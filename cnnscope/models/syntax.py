"""Syntax trees of the user's functions, which are read and never run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

_TREES: WeakKeyDictionary[CodeType, ast.AST | None] = WeakKeyDictionary()  # one call asks often


def tree_of(function: Callable[..., Any]) -> ast.AST | None:
    """Return the syntax tree of a function, of a class that of its constructor.

    None where its source is not there. The tree is shared: do not change it.
    """
    made = function.__init__ if inspect.isclass(function) else function
    try:
        code = inspect.unwrap(made).__code__
    except (AttributeError, ValueError):
        return None
    if code not in _TREES:
        _TREES[code] = _parsed(made)
    return _TREES[code]


def _parsed(function: Callable[..., Any]) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):
        return None


def is_name(node: ast.AST, name: str) -> bool:
    """Return True for a variable of this name."""
    return isinstance(node, ast.Name) and node.id == name
