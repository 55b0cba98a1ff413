"""Find where in the code of a model an exception was raised: line, expression, tensors in it."""

from __future__ import annotations

import ast
import linecache
import os
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnscope.text import printable

_OF_OTHERS = ("torch", "cnnscope")  # whose frames do not say what the model meant to do
_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_LONGEST = 80  # characters of an expression
_FUNCTIONS = (Tensor, torch, nn.functional)
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.MatMult: "matmul",
    ast.Pow: "pow",
}  # fmt: skip


class Place(NamedTuple):
    """The expression of a model's code that raised.

    Attributes:
        line: "net.py:12"; "" where it is in no file.
        expression: its source, "" where there is none.
        function: of torch that it calls ("reshape"), "" where it calls none.
        tensors: values of the names in it.
        operands: those that the function was given; () where some were computed on the way.
    """

    line: str = ""
    expression: str = ""
    function: str = ""
    tensors: tuple[tuple[str, Tensor], ...] = ()
    operands: tuple[tuple[str, Tensor], ...] = ()


def place(error: BaseException) -> Place:
    """The innermost expression outside of torch that an exception passed."""
    found = list(_of_model(error.__traceback__))
    if not found:
        return Place()
    step = found[-1]
    frame, line = step.tb_frame, step.tb_lineno
    file = frame.f_code.co_filename
    where = f"{printable(Path(file).name)}:{line}" if Path(file).suffix == ".py" else ""
    source = _source(step)
    try:
        tree = ast.parse(source.strip())
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    shown = " ".join(source.split())
    return Place(
        where,
        printable(shown, _LONGEST),
        _function(tree, frame),
        tuple(_tensors(_names(tree), frame)),
        _operands(tree, frame),
    )


def arguments(error: BaseException, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a module which raised was called with, by place and by keyword."""
    step = error.__traceback__
    found: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
    while step is not None:
        frame = step.tb_frame
        if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is module:
            found = frame.f_locals.get("args", ()), frame.f_locals.get("kwargs", {})
        step = step.tb_next
    return found


def _of_model(step: TracebackType | None) -> Iterator[TracebackType]:
    """The steps of a traceback in code that is neither torch's nor Python's own."""
    while step is not None:
        name = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        file = step.tb_frame.f_code.co_filename
        library = file.startswith(_LIBRARY) and "site-packages" not in file
        if name not in _OF_OTHERS and not library and not file.startswith("<frozen"):
            yield step
        step = step.tb_next


def _source(step: TracebackType) -> str:
    """The source of the expression that a step of a traceback stands at."""
    code = step.tb_frame.f_code
    at = next(islice(code.co_positions(), step.tb_lasti // 2, None), (None,) * 4)
    first, last, begin, end = at
    if first is None or last is None or begin is None or end is None:
        return linecache.getline(code.co_filename, step.tb_lineno).strip()
    lines = [
        linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)
    ]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    return b"".join(lines).decode(errors="replace")


def _function(tree: ast.Module, frame: FrameType) -> str:
    """The function of torch that an expression is, if it is one."""
    made = tree.body[0].value if tree.body and isinstance(tree.body[0], ast.Expr) else None
    if isinstance(made, ast.BinOp):
        return _OPERATORS.get(type(made.op), "")
    if isinstance(made, ast.Subscript) and isinstance(made.value, ast.Name):
        return "index" if isinstance(frame.f_locals.get(made.value.id), Tensor) else ""
    if not isinstance(made, ast.Call) or not isinstance(made.func, (ast.Attribute, ast.Name)):
        return ""
    if isinstance(made.func, ast.Attribute):
        name = made.func.attr
        if name.startswith("_"):
            return ""
        return name if any(callable(getattr(place, name, None)) for place in _FUNCTIONS) else ""
    name = made.func.id
    called = frame.f_locals.get(name, frame.f_globals.get(name))
    own = [getattr(place, name, None) for place in _FUNCTIONS]
    return name if called is not None and any(called is one for one in own) else ""


def _operands(tree: ast.Module, frame: FrameType) -> tuple[tuple[str, Tensor], ...]:
    """The operands of a call or an operator that are names of tensors; () where others are not."""
    made = tree.body[0].value if tree.body and isinstance(tree.body[0], ast.Expr) else None
    parts: list[ast.expr] = []
    if isinstance(made, ast.BinOp):
        parts = [made.left, made.right]
    elif isinstance(made, ast.Subscript):
        parts = [made.value]
    elif isinstance(made, ast.Call):
        receiver = [made.func.value] if isinstance(made.func, ast.Attribute) else []
        parts = [*receiver, *made.args, *(word.value for word in made.keywords)]
    computed = (ast.Call, ast.BinOp, ast.Subscript, ast.List, ast.Tuple)
    if any(isinstance(part, computed) and _names_tensor(part, frame) for part in parts):
        return ()  # an operand that was computed on the way
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return tuple(_tensors(names, frame))


def _names_tensor(tree: ast.AST, frame: FrameType) -> bool:
    return any(True for _ in _tensors(_names(tree), frame))


def _names(tree: ast.AST) -> list[str]:
    """Names in an expression, each once."""
    names = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return list(dict.fromkeys(names))


def _tensors(names: Iterable[str], frame: FrameType) -> Iterator[tuple[str, Tensor]]:
    """Names that stand for tensors, with these."""
    for name in names:
        value = frame.f_locals.get(name)
        if isinstance(value, Tensor) and type(value) in (Tensor, nn.Parameter):
            yield name, value
