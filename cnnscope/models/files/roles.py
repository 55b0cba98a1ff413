"""What a constructor does with an argument, from its source, and what may be given for it.

A block is called, widths are gone through, a configuration is read by names. Methods, base classes
and functions that an argument is handed on to are read as well. Nothing is run.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from torch import nn

from cnnscope.models.files import configs
from cnnscope.models.syntax import is_name, tree_of
from cnnscope.text import printable

_DEEPEST = 4  # functions that an argument is handed on to
_GONE_THROUGH = frozenset("enumerate zip list tuple len sum max min sorted reversed iter".split())
_DEPTHS = re.compile(r"layer|depth|block|repeat|num|stage|unit", re.IGNORECASE)
_LIBRARY = {"act": "nn.ReLU", "norm": "nn.BatchNorm2d", "pool": "nn.MaxPool2d", "conv": "nn.Conv2d"}
_FILES = 100  # beside a file, in which a class is looked for


class Role(NamedTuple):
    """What is done with an argument.

    Attributes:
        calls: each call of it, with the number of arguments and their names.
        items: how many items of it are read; 0 where it is no list.
    """

    calls: tuple[tuple[int, tuple[str, ...]], ...] = ()
    items: int = 0


def role(target: Any, name: str) -> Role:
    """What a constructor does with one of its arguments."""
    calls: list[tuple[int, tuple[str, ...]]] = []
    items = 0
    for node in _uses(target, name, 0):
        if isinstance(node, ast.Call):
            names = tuple(k.arg for k in node.keywords if k.arg)
            calls.append((sum(not isinstance(a, ast.Starred) for a in node.args), names))
        else:
            at = node.slice if isinstance(node, ast.Subscript) else None
            index = at.value if isinstance(at, ast.Constant) else None
            items = max(items, index + 1 if type(index) is int else 2)
    return Role(tuple(calls), items)


def _uses(target: Any, name: str, depth: int) -> Iterator[Any]:
    """Nodes that call an argument, go through it or read an item of it."""
    function = target.__init__ if inspect.isclass(target) else target
    tree = tree_of(function)
    if tree is None:
        return
    last = _last_indices(tree)
    for node in ast.walk(tree):
        for use in _use(node, name):
            counted = isinstance(use, ast.Subscript) and isinstance(use.slice, ast.Name)
            yield ast.Subscript(use.value, last.get(use.slice.id, use.slice)) if counted else use
        if isinstance(node, ast.Call) and depth < _DEEPEST:
            callee = _callee(target, function, node)
            parameter = _filled(callee, node, name)
            if parameter:
                yield from _uses(callee, parameter, depth + 1)


def _last_indices(tree: ast.AST) -> dict[str, ast.expr]:
    """The last value of each index that counts up to a constant: 3 of `for i in range(4)`."""
    found: dict[str, ast.expr] = {}
    for loop in ast.walk(tree):
        if not isinstance(loop, (ast.For, ast.comprehension)):
            continue
        match (loop.target, loop.iter):
            case (ast.Name(id=index), ast.Call(func=ast.Name(id="range"), args=[*_, last])):
                if isinstance(last, ast.Constant) and type(last.value) is int:
                    found[index] = ast.Constant(last.value - 1)
    return found


def _use(node: Any, name: str) -> Iterator[Any]:
    """The node, where it uses the argument itself."""
    if isinstance(node, ast.Call):
        through = isinstance(node.func, ast.Name) and node.func.id in _GONE_THROUGH
        if is_name(node.func, name):
            yield node
        elif through and any(is_name(argument, name) for argument in node.args):
            yield node.args[0]
    elif isinstance(node, ast.Subscript) and is_name(node.value, name):
        if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)):
            yield node
    elif isinstance(node, (ast.For, ast.comprehension)) and is_name(node.iter, name):
        yield node.iter
    elif isinstance(node, ast.Starred) and is_name(node.value, name):
        yield node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = (node.left, node.right)
        if any(is_name(one, name) for one in sides) and any(isinstance(s, ast.List) for s in sides):
            yield node.left


def _callee(target: Any, function: Any, call: ast.Call) -> Any:
    """What a call in a constructor runs: a method, the base's constructor, a function."""
    called = call.func
    if isinstance(called, ast.Attribute):
        if isinstance(called.value, ast.Call) and is_name(called.value.func, "super"):
            return _base(target, called.attr)
        own = isinstance(called.value, ast.Name) and inspect.isclass(target)
        return getattr(target, called.attr, None) if own else None
    named = (
        getattr(function, "__globals__", {}).get(called.id)
        if isinstance(called, ast.Name)
        else None
    )
    plain = inspect.isfunction(named) or inspect.isclass(named)
    return named if plain and not str(named.__module__).startswith("torch.nn.") else None


def _base(target: Any, method: str) -> Any:
    for base in target.__mro__[1:] if inspect.isclass(target) else ():
        if method in vars(base) and base is not nn.Module:
            return base if method == "__init__" else vars(base)[method]
    return None


def _filled(callee: Any, call: ast.Call, name: str) -> str:
    """The parameter that a call fills with an argument; "" for none."""
    function = callee.__init__ if inspect.isclass(callee) else callee
    if not inspect.isfunction(function):
        return ""
    names = [*inspect.signature(function).parameters]
    bound = inspect.isclass(callee) or isinstance(call.func, ast.Attribute)
    names = names[1:] if bound else names
    by_place = (n for n, argument in zip(names, call.args, strict=False) if is_name(argument, name))
    by_name = (k.arg for k in call.keywords if k.arg in names and is_name(k.value, name))
    return next((one for one in (*by_place, *by_name) if one), "")


# ------------------------------------------------------------------------------- what to give


def example(target: Any, name: str, known: Mapping[str, Any]) -> str:
    """What may be given for an argument: `Bottleneck`, `[2,2,2,2]`; "" where nothing tells.

    Args:
        target: the class or factory.
        name: of the argument.
        known: names of its file.
    """
    used = role(target, name)
    if used.calls:
        return next(iter(classes(target, name, known)), "")
    return _list(target, name, used.items) if used.items else ""


def _list(target: Any, name: str, count: int) -> str:
    """A list of as many items as are read, the default where there is one; "" of other items."""
    parameters = inspect.signature(target).parameters
    default = parameters[name].default if name in parameters else None
    if isinstance(default, (list, tuple)) and default:
        return repr(list(default)).replace(" ", "")
    inner = get_args(configs.annotations_of(target).get(name))
    if not set(inner) <= {int, float, Ellipsis}:
        return ""
    items = [2] * count if _DEPTHS.search(name) else [16 * 2**n for n in range(count)]
    return f"[{','.join(map(str, items))}]"


def classes(target: Any, name: str, known: Mapping[str, Any]) -> list[str]:
    """Names of classes that an argument may be: those of its annotation, else those that fit."""
    annotated = [one.__name__ for one in _in(configs.annotations_of(target).get(name))]
    found = [one for one in annotated if one in known]
    calls = role(target, name).calls
    if not found and calls:
        own = getattr(target, "__module__", "")
        networks = (
            (label, value)
            for label, value in known.items()
            if inspect.isclass(value) and issubclass(value, nn.Module) and not _kin(value, target)
        )
        fitting = (
            (n, v) for n, v in networks if v.__module__ == own and all(map(_takes(v), calls))
        )
        found = [label for label, value in fitting if not _takes_blocks(value)]
    usual = next((value for key, value in _LIBRARY.items() if key in name.lower()), "")
    return found or ([usual] if usual and calls else [])


def _takes_blocks(value: type) -> bool:
    """Return True for a whole network, which needs blocks or widths itself."""
    parameters = inspect.signature(value).parameters.values()
    needed = (p.name for p in parameters if p.default is p.empty)
    return any(one.calls or one.items for one in (role(value, name) for name in needed))


def _kin(value: type, target: Any) -> bool:
    """Return True for a class, its bases and the classes made of it."""
    return inspect.isclass(target) and (issubclass(value, target) or issubclass(target, value))


def _in(annotation: Any) -> Iterator[type]:
    """Classes of modules in `type[Union[BasicBlock, Bottleneck]]`."""
    if inspect.isclass(annotation) and issubclass(annotation, nn.Module):
        if annotation is not nn.Module:
            yield annotation
        return
    for part in get_args(annotation):
        yield from _in(part)


def _takes(value: Any) -> Callable[[tuple[int, tuple[str, ...]]], bool]:
    def takes(call: tuple[int, tuple[str, ...]]) -> bool:
        count, names = call
        try:
            inspect.signature(value).bind(*range(count), **dict.fromkeys(names))
        except (TypeError, ValueError):
            return False
        return True

    return takes


# ----------------------------------------------------------------------- what was given instead


def misfits(
    target: Any, typed: Mapping[str, str], values: Mapping[str, Any], module: ModuleType
) -> list[str]:
    """Say which arguments are not what a constructor that failed makes of them, and what to give.

    Args:
        target: the class or factory.
        typed: what was written for each argument.
        values: what it was called with.
        module: that it is defined in.
    """
    said = (_misfit(target, name, typed.get(name, ""), v, module) for name, v in values.items())
    return [one for one in said if one]


def _misfit(target: Any, name: str, text: str, value: Any, module: ModuleType) -> str:
    used = role(target, name)
    if used.calls and not callable(value):
        return _no_class(target, name, text, module)
    if used.items and not used.calls and not hasattr(value, "__iter__"):
        such = _list(target, name, used.items)
        return f"{name} is read as a list" + (f": give --arg {name}={such}" if such else "")
    keys = [] if used.calls or used.items else configs.reads(target, name)
    if keys and inspect.isclass(value):
        return f'{name} is read as an object: give --arg "{name}={printable(text)}()"'
    if keys and isinstance(value, (str, int, float)):
        with_keys = ", ".join(map(printable, keys[:12]))
        return f"{name} is read by names ({with_keys}): give --arg {name}=@config.yaml"
    return ""


def _no_class(target: Any, name: str, text: str, module: ModuleType) -> str:
    """What to give for an argument that is called, where no class or function was given."""
    elsewhere = defined_beside(module, text)
    known = classes(target, name, vars(module))
    near = difflib.get_close_matches(text, known, n=1)
    if elsewhere and not near:
        return f"{printable(text)} is defined in {elsewhere}: give --arg {name}={elsewhere}:{text}"
    such = (near or known)[:4]
    options = f", such as --arg {name}={such[0]}" if such else ""
    also = f" (or {', '.join(such[1:])})" if such[1:] else ""
    return f"{name} is called: give a class or function{options}{also}"


def defined_beside(module: ModuleType, name: str) -> str:
    """The file beside a module that defines a class or function of this name; "" for none."""
    file = getattr(module, "__file__", None)
    if not file or not name.isidentifier():
        return ""
    defined = re.compile(rf"^(?:class|def) {name}\b", re.MULTILINE)
    for path in sorted(Path(file).parent.glob("*.py"))[:_FILES]:
        if path != Path(file) and path.is_file() and path.stat().st_size < 1 << 20:
            text = path.read_text(encoding="utf-8", errors="replace")
            if defined.search(text):
                return _from_here(path)
    return ""


def _from_here(path: Path) -> str:
    """The path of a file, from the working folder where it lies in it."""
    try:
        return printable(str(path.resolve().relative_to(Path.cwd().resolve())))
    except ValueError:
        return printable(str(path))


def alternatives(target: Any, names: Sequence[str], known: Mapping[str, Any]) -> str:
    """` (block may be Basic, Bottleneck)`, for arguments that may be several classes."""
    each = ((name, classes(target, name, known)[:12]) for name in names)
    parts = [f"{name} may be {', '.join(map(printable, held))}" for name, held in each if held[1:]]
    return f" ({'; '.join(parts)})" if parts else ""
