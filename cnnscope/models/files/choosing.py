"""Choose the class, factory or instance that a specification names in a module."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from cnnscope.errors import RequestError
from cnnscope.files import is_file, is_folder
from cnnscope.models.files import configs, roles, scope
from cnnscope.models.names import ModelSpec
from cnnscope.text import printable

_MANY = 12
_SHOWN = 3  # files of a folder that are named
_FILES = 200  # that are read
_LARGEST = 1 << 20  # bytes of each
_SHORT = 48  # characters of a class's parameters in a list of classes
_CONFIGS = frozenset("cfg config conf configs opt opts args hparams params settings".split())
_GUARD = 'if __name__ == "__main__"'


def choose(spec: ModelSpec, module: ModuleType) -> tuple[Any, str]:
    """The class, factory or instance that was named, or the only one there is, and its name.

    Raises:
        RequestError: there is none of that name, or several where none was named.
    """
    shown = printable(spec.file) or spec.shown
    name = spec.name or _only(shown, module)
    if "(" in name:
        return _called(shown, name, module), name
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise RequestError(f"{shown} has no {printable(name)!r}{_instead(module, name)}")
    if not is_network(found) and not callable(found):
        raise RequestError(
            f"{shown}: {printable(name)} is {with_article(found)}, not a network, its class or a "
            f"function that makes it{_instead(module, '')}"
        )
    return found, name


def _called(shown: str, name: str, module: ModuleType) -> Callable[[], Any]:
    """What makes the network of `Net(width=8)`."""
    try:
        tree = ast.parse(name, mode="eval")
        names = {**vars(module), **scope.missing(tree, vars(module))}
        code = compile(tree, "<expression>", "eval", dont_inherit=True)
    except scope.UndefinedError as error:
        missing = printable(str(error))
        raise RequestError(f"{shown} has no {missing!r}{_instead(module, str(error))}") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise RequestError(f"{shown}: {printable(name)!r} is no expression of Python") from error
    return lambda: eval(code, names)  # noqa: S307  typed to be run


def _only(shown: str, module: ModuleType) -> str:
    """The name of the one network that a module holds."""
    classes = _classes(module)
    public = [name for name in classes if not name.startswith("_")]
    for names in (public or classes, _instances(module)):
        if len(names) == 1:
            return names[0]
        if names:
            listed = _listed([_with_parameters(getattr(module, name), name) for name in names])
            which = f"say which, as in {shown}:{names[-1]}"
            if not hasattr(module, "__file__"):  # of lines that were typed
                which = f"end it with the one that is meant, as in {names[-1]}()"
            forwards = [_forward(getattr(module, name), name) for name in names]
            takes = _listed([text for text in forwards if text])
            takes = f"; forward takes {takes}" if takes else ""
            raise RequestError(f"{shown} holds {listed}: {which}{takes}")
    inside = in_folder(Path(next(iter(getattr(module, "__path__", ())), "")))
    if inside:
        raise RequestError(f"{shown} holds no nn.Module itself; {inside}")
    raise RequestError(f"{shown} holds no nn.Module{_instead(module, '')}")


def in_folder(folder: Path) -> str:
    """Say which networks the files of a folder define, and how one is named; "" for none.

    The files are read, and not run: a network is a class whose base has Module in its name.
    """
    if not folder.name or not is_folder(folder):
        return ""
    files = itertools.islice(_python(folder), _FILES)
    found = [(file, name) for file in files for name in _named(file)]
    if not found:
        return ""
    file, name = found[-1]
    there = {one.name: [n for f, n in found if f == one] for one, _ in found}
    listed = [f"{_listed(names)} in {printable(one)}" for one, names in there.items()]
    with suppress(ValueError):
        file = file.relative_to(Path.cwd())
    more = f" and {len(listed) - _SHOWN} more files" if len(listed) > _SHOWN else ""
    such = f"name one as {printable(str(file))}:{printable(name)}"
    return f"it has {', '.join(listed[:_SHOWN])}{more}: {such}"


def _python(folder: Path) -> Iterator[Path]:
    """Python files in a folder, in order, without those of environments and hidden folders."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f[0] != "." and f != "site-packages")
        yield from (Path(here, file) for file in sorted(files) if file.endswith(".py"))


def _named(file: Path) -> list[str]:
    """Classes of networks in a file, by its source."""
    try:
        text = file.read_bytes() if is_file(file) and file.stat().st_size < _LARGEST else b""
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    networks = {
        node.name for node in classes if any("Module" in ast.unparse(base) for base in node.bases)
    }
    return [
        node.name for node in classes
        if node.name in networks or any(ast.unparse(base) in networks for base in node.bases)
    ]  # fmt: skip


def _forward(value: Any, name: str) -> str:
    """`Net(x, mask)`: what a network's forward takes; "" where that is not known."""
    if value.forward is nn.Module.forward or is_network(value):
        return ""
    try:
        parameters = [*inspect.signature(value.forward).parameters.values()][1:]
    except (TypeError, ValueError):
        return ""
    return _taking(name, parameters)


def _with_parameters(value: Any, name: str) -> str:
    """`Net(classes, width=8)`; the name alone of what takes nothing, or anything."""
    try:
        parameters = [*inspect.signature(value).parameters.values()]
    except (TypeError, ValueError):
        return name
    return name if is_network(value) else _taking(name, parameters) or name


def _taking(name: str, parameters: list[inspect.Parameter]) -> str:
    """A call by the names that it takes, as many as are short; "" where none has a name."""
    named = (one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
    text = ", ".join(map(_parameter, named))
    if len(text) > _SHORT:
        text = f"{text[:_SHORT].rpartition(', ')[0]}, ...".removeprefix(", ")
    return f"{name}({text})" if text else ""


def _parameter(one: inspect.Parameter) -> str:
    if one.default is one.empty:
        return one.name
    default = one.default
    plain = isinstance(default, (int, float, str, bool, type(None)))
    text = printable(repr(default), 20) if plain else getattr(default, "__name__", "...")
    return f"{one.name}={text}"


def _classes(module: ModuleType) -> list[str]:
    """Classes of networks that are defined in a module and not imported into it."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and _is_of(value, module)
        and value.__name__ == name
    ]


def _is_of(value: Any, module: ModuleType) -> bool:
    """Return True for what a module defines; of a package, what its modules do."""
    inside = hasattr(module, "__path__") and value.__module__.startswith(f"{module.__name__}.")
    return bool(inside or value.__module__ == module.__name__)


def _instances(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if is_network(value)]


def is_network(value: Any) -> bool:
    """Return True for an nn.Module, whatever its `__class__` is."""
    return issubclass(type(value), nn.Module)


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and _is_of(value, module) and not name.startswith("_")
    ]


def _instead(module: ModuleType, name: str) -> str:
    """Suggest the names that could have been meant."""
    hidden = _hidden(module, name.partition("(")[0].partition(".")[0])
    if hidden:
        return f"; {hidden}"
    networks = [*_classes(module), *_instances(module)]
    functions = _functions(module)
    others = [name for name, value in vars(module).items() if _may_be_meant(value)]
    near = nearest(name.partition(".")[0], [*others, *functions, *networks]) if name else []
    parts = [f"did you mean {near[0]}?"] if near else []
    if networks:
        parts.append(f"there is {_listed(networks)}")
    elif functions:
        parts.append(f"there are functions, {_listed(functions)}")
    return "; " + " ".join(parts) if parts else ""


def _may_be_meant(value: Any) -> bool:
    is_class = isinstance(value, type) and issubclass(value, nn.Module)
    return is_class or isinstance(value, ModuleType)


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Names like one that is unknown, whatever their case."""
    lowered = {one.lower(): one for one in known}
    return [lowered[one] for one in difflib.get_close_matches(name.lower(), lowered, n=count)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(map(printable, names[:_MANY])) + more


def with_article(value: Any) -> str:
    """`a tuple`, `an int`, `None`: the kind of a value, for a message."""
    name = printable(type(value).__name__) or "nameless object"
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


# ------------------------------------------------------- what is there only as a script runs it


def _hidden(module: ModuleType, name: str) -> str:
    """Say where a name is defined that an import does not define; "" where nothing tells.

    Args:
        module: that lacks it.
        name: of a class, function or variable; "" for any class.
    """
    for where, node in _buried(module):
        found = _defines(node)
        if found and (found == name or (not name and isinstance(node, ast.ClassDef))):
            return (
                f"{printable(found)} is defined {where} (line {node.lineno}), and not when the "
                "file is imported: move it to the top level"
            )
    return ""


def _buried(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Statements under the guard of scripts, or in a function, and where that is."""
    file = getattr(module, "__file__", None)
    try:
        tree = ast.parse(Path(file).read_bytes()) if file else ast.Module([], [])
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        if isinstance(node, ast.If) and _is_guard(node.test):
            yield from ((f"under `{_GUARD}:`", inner) for inner in node.body)
        elif isinstance(node, ast.FunctionDef):
            yield from ((f"inside {node.name}()", inner) for inner in node.body)


def _is_guard(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and "__name__" in ast.dump(test)


def _defines(node: Any) -> str:
    """The name that a statement defines, "" if it defines none."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


# ---------------------------------------------------------------------------------- arguments


def check_arguments(
    text: str, target: Callable[..., Any], arguments: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    """Fail for what a constructor does not take, or lacks, before it runs.

    Args:
        text: the model as it was typed.
        target: the class or factory.
        arguments: by name.
        known: names of its file, for what may be given.

    Raises:
        RequestError: it takes no such argument, or needs another; with what to write.
    """
    named = [p for p in parameters_of(target).values() if p.kind is not p.VAR_POSITIONAL]
    anything = any(p.kind is p.VAR_KEYWORD for p in named)
    named = [p for p in named if p.kind is not p.VAR_KEYWORD]
    taken = {p.name for p in named}
    unknown = [name for name in arguments if name not in taken]
    if unknown and not anything and (taken or _has_signature(target)):
        takes = f"it takes {_listed([p.name for p in named])}" if named else "it takes none"
        raise RequestError(f"{text} takes no argument {', '.join(unknown)}; {takes}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        known = {**known, **getattr(target, "__globals__", {})}
        how = " ".join(_how(target, name, known) for name in missing[:_MANY])
        how += roles.alternatives(target, missing, known)
        error = RequestError(f"{text} needs {_listed(missing)}: give {how}")
        raise error.with_lines(_wrapper(target, missing))


def _wrapper(target: Any, missing: Sequence[str]) -> tuple[str, ...]:
    """A file that makes the network, for arguments that are objects; () for plain ones."""
    name, module = getattr(target, "__name__", ""), getattr(target, "__module__", "")
    objects = [one for one in missing if one in _CONFIGS or configs.reads(target, one)]
    objects = [one for one in objects if not roles.role(target, one).calls]
    if not name.isidentifier() or not objects:
        return ()
    given = ", ".join(f"{one}=..." for one in missing)
    return (
        "# or, in a file beside it: wrap.py, named as wrap.py:net",
        f"from {module.removeprefix('_own_')} import {name}",
        "def net():",
        f"    return {name}({given})",
    )


def parameters_of(target: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters of a class or function by name; none where its signature does not tell."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _has_signature(target: Any) -> bool:
    try:
        inspect.signature(target)
    except (TypeError, ValueError):
        return False
    return True


def _how(target: Callable[..., Any], name: str, known: Mapping[str, Any]) -> str:
    """`--arg width=...`, or how to give what the constructor reads many values from."""
    such = roles.example(target, name, known)
    if such:
        return f"--arg {name}={such}"
    keys = configs.reads(target, name)
    ready = configs.with_defaults(configs.annotations_of(target).get(name))
    if ready:
        return f'--arg "{name}={ready}()" for its defaults, or --arg {name}=@config.yaml'
    if keys or name.lower() in _CONFIGS:
        return f"--arg {name}=@config.yaml" + (f" (with {_listed(keys)})" if keys else "")
    return f"--arg {name}=..."
