"""One argument that holds many: dictionaries as what a constructor wants of them.

A constructor reads `cfg.width` or `cfg["width"]`, or says in an annotation which class it wants.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from cnnscope.errors import RequestError
from cnnscope.models.syntax import tree_of
from cnnscope.text import printable

_MANY = 12


class Config(dict[str, Any]):
    """A dictionary whose keys are attributes as well, however deep it is nested."""

    def __init__(self, held: Mapping[Any, Any] | None = None, **more: Any) -> None:
        super().__init__({k: nested(v) for k, v in {**(held or {}), **more}.items()})

    def __getattr__(self, name: str) -> Any:
        """The value under a key; of a key with a hyphen as well."""
        if not name.startswith("__"):
            for key in (name, name.replace("_", "-")):
                if key in self:
                    return self[key]
        has = f"it has {_listed(self)}" if self else "it is empty"
        raise AttributeError(f"the configuration has no {name!r}; {has}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)

    def __missing__(self, key: Any) -> Any:
        has = f"it has {_listed(self)}" if self else "it is empty"
        raise KeyError(f"the configuration has no {key!r}; {has}")

    def __deepcopy__(self, memo: dict[int, Any]) -> Config:
        import copy

        return Config({key: copy.deepcopy(value, memo) for key, value in self.items()})


def nested(value: Any) -> Any:
    """Plain data with dictionaries whose keys are attributes."""
    if type(value) is dict:
        return Config(value)
    if type(value) in (list, tuple):
        return type(value)(map(nested, value))
    return value


def fitted(value: Any, annotation: Any, name: str) -> Any:
    """A dictionary as the class that an annotation asks for; any other value as it is.

    Args:
        value: of the argument.
        annotation: of the parameter, evaluated where it can be.
        name: of the argument, for messages.

    Raises:
        RequestError: a key that the class has no field for.
    """
    if type(value) is not dict:
        return value
    wanted = next(filter(inspect.isclass, _alternatives(annotation)), None)
    if wanted is None or wanted is dict or not callable(wanted):
        return Config(value)
    if dataclasses.is_dataclass(wanted):
        return _as_dataclass(wanted, value, name)
    if issubclass(wanted, Mapping) or wanted.__name__.endswith(("DictConfig", "ConfigDict")):
        return wanted(value)  # type: ignore[call-arg]
    return wanted(**nested(value)) if _takes(wanted, value) else Config(value)


def _as_dataclass(wanted: Any, value: Mapping[str, Any], name: str) -> Any:
    """An instance of a dataclass, and of those nested in it."""
    fields = {field.name: field for field in dataclasses.fields(wanted) if field.init}
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {_listed(fields)}"
            raise RequestError(
                f"--arg {name}: {wanted.__name__} has no field {printable(str(key))!r}; {hint}"
            )
    hints = annotations_of(wanted)
    return wanted(
        **{key: _field(held, hints.get(key), f"{name}.{key}") for key, held in value.items()}
    )


def _field(value: Any, annotation: Any, name: str) -> Any:
    """A field's value, with what its annotation says of what it holds."""
    if type(value) is dict and get_origin(annotation) is dict:
        inner = get_args(annotation)[-1]
        return Config({key: fitted(held, inner, f"{name}.{key}") for key, held in value.items()})
    if isinstance(value, list):
        parts = _alternatives(annotation)
        origins = [one for one in parts if get_origin(one) in (list, tuple)]
        inner = next((arg for one in origins for arg in get_args(one)), None)
        made = [fitted(held, inner, f"{name}.{n}") for n, held in enumerate(value)]
        is_tuple = any(
            get_origin(one) is tuple or one is tuple for one in _alternatives(annotation)
        )
        return tuple(made) if is_tuple else made
    return fitted(value, annotation, name)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The parts of a union, else the annotation alone."""
    if get_origin(annotation) in (typing.Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def _takes(wanted: type, value: Mapping[str, Any]) -> bool:
    """Return True if a class takes these keys as keyword arguments."""
    if wanted.__module__ == "builtins" or not all(isinstance(key, str) for key in value):
        return False
    try:
        inspect.signature(wanted).bind(**value)
    except (TypeError, ValueError):
        return False
    return True


def annotations_of(target: Any) -> dict[str, Any]:
    """Annotations of a class's fields, or of what a constructor or function takes."""
    plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    place = target.__init__ if plain_class else target
    try:
        return typing.get_type_hints(place)
    except Exception:  # noqa: BLE001  names that are there for type checkers alone
        return dict(getattr(place, "__annotations__", {}))


def with_defaults(annotation: Any) -> str:
    """The name of a dataclass that needs no values; "" for anything else."""
    for wanted in filter(dataclasses.is_dataclass, _alternatives(annotation)):
        fields = [one for one in dataclasses.fields(wanted) if one.init]
        missing = dataclasses.MISSING
        if all(one.default is not missing or one.default_factory is not missing for one in fields):
            return getattr(wanted, "__name__", "")
    return ""


# -------------------------------------------------------------------- what a constructor reads


def reads(target: Callable[..., Any], name: str) -> list[str]:
    """The keys or attributes of an argument that a constructor reads; [] if it reads none.

    `cfg.width`, `cfg["width"]`, `cfg.get("width")` in its source.
    """
    tree = tree_of(target)
    return [] if tree is None else list(dict.fromkeys(_read(tree, name)))


_METHODS = ("get", "items", "keys", "values", "pop", "copy", "update", "setdefault")


def _read(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=base), attr=attribute) if base == name:
                if attribute not in _METHODS:
                    yield attribute
            case ast.Subscript(value=ast.Name(id=base), slice=ast.Constant(value=str(key))) if (
                base == name
            ):
                yield key
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=base), attr="get" | "pop"),
                args=[ast.Constant(value=str(key)), *_],
            ) if base == name:
                yield key


def _listed(names: Mapping[str, Any]) -> str:
    shown = [printable(str(name), 30) for name in names][:_MANY]
    return ", ".join(shown) + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
