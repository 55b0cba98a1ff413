"""Evaluate what the user typed: expressions of Python, with what they name in scope.

This runs code, as `python -c` does: only what was typed for it comes here, never what a file of
weights, a saved trace or a configuration holds.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import importlib
import importlib.util
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from cnnscope.files import exists

# Short names that people type, and the modules that they mean; any other module by its own name.
SHORT = {
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "np": "numpy",
    "models": "torchvision.models",
}
_OFTEN = {"OrderedDict": "collections", "partial": "functools"}  # names without their module
_PLACE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*|.+\.py):(.+)", re.DOTALL)


class UndefinedError(NameError):
    """A name that is neither in the code nor that of a module, nor in the module that it is of.

    Attributes:
        near: one that may have been meant, with its module.
    """

    def __init__(self, name: str, near: str = "") -> None:
        super().__init__(name)
        self.near = near


class Code(NamedTuple):
    """Lines of Python: those that run once, and the expression that they end in."""

    before: CodeType
    last: CodeType | None


def compiled(code: str, name: str) -> Code:
    """Compile lines of Python.

    Args:
        code: the lines.
        name: of the file, for messages.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: they are no Python.
    """
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    before = compile(tree, name, "exec", dont_inherit=True)
    if not isinstance(last, ast.Expr):
        return Code(before, None)
    return Code(before, compile(ast.Expression(last.value), name, "eval", dont_inherit=True))


def evaluate(text: str, known: Mapping[str, Any]) -> Any:
    """The value of an expression, or of one in a module: `package.module:Name`.

    Args:
        text: of the expression.
        known: names that it may use.

    Raises:
        UndefinedError: it uses another name.
        SyntaxError, ValueError, RecursionError, MemoryError: it is no expression.
        Exception: whatever it raises.
    """
    place = _PLACE.fullmatch(text)
    if place is not None and not place[1].endswith(".py"):
        if not _is_module(place[1]):
            raise UndefinedError(place[1])
        return evaluate(place[2].strip(), vars(importlib.import_module(place[1])))
    tree = ast.parse(text.strip(), mode="eval")
    names = {**known, **missing(tree, known)}
    return eval(compile(tree, "<expression>", "eval", dont_inherit=True), names)  # noqa: S307


def missing(tree: ast.AST, known: Mapping[str, Any], *, strict: bool = True) -> dict[str, Any]:
    """Import the modules that code names without importing them.

    Args:
        tree: of the code.
        known: names that it may use.
        strict: whether a name that is no module's is an error; a file may define it while it runs.

    Raises:
        UndefinedError: a name that is none.
    """
    bound = set(_bound(tree))
    found: dict[str, Any] = {}
    for chain in _chains(tree):
        root = chain[0]
        if root in known or root in bound or hasattr(builtins, root):
            continue
        name = _module(root)
        if name is not None:
            found[root] = _imported(name, chain)
        elif root in _OFTEN:
            found[root] = getattr(importlib.import_module(_OFTEN[root]), root)
        elif strict:
            raise UndefinedError(root)
    return found


def _imported(name: str, chain: list[str]) -> ModuleType:
    """Import a module, and those inside it that a dotted name goes through.

    Raises:
        UndefinedError: a module has nothing of such a name.
    """
    module = inner = importlib.import_module(name)
    for part in chain[1:]:
        if not isinstance(inner, ModuleType):
            break
        if not hasattr(inner, part):
            if not _is_module(f"{inner.__name__}.{part}"):
                raise _undefined(inner, part, chain)
            importlib.import_module(f"{inner.__name__}.{part}")
        inner = getattr(inner, part)
    return module


def _undefined(module: ModuleType, part: str, chain: list[str]) -> UndefinedError:
    before = chain[: chain.index(part)]
    lowered = {one.lower(): one for one in dir(module)}
    near = difflib.get_close_matches(part.lower(), lowered, n=1)
    hint = ".".join([*before, lowered[near[0]]]) if near else ""
    return UndefinedError(".".join([*before, part]), hint)


def _module(name: str) -> str | None:
    """The module that a name means: the user's own, a short name, or an installed one."""
    short = SHORT.get(name)
    if short is not None and not (exists(name) or exists(f"{name}.py")):
        return short
    return name if _is_module(name) else None


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return name in sys.modules


def _bound(tree: ast.AST) -> Iterator[str]:
    """Names that code gives a value itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _chains(tree: ast.AST) -> Iterator[list[str]]:
    """Names that are read, each with the attributes behind it: ["torch", "nn", "Conv2d"]."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, (ast.Name, ast.Attribute)):
            continue
        parts: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if isinstance(at, ast.Name) and isinstance(at.ctx, ast.Load):
            yield [at.id, *reversed(parts)]
