"""Arguments of a constructor as they are typed: literals, expressions, and values from files."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cnnscope.errors import RequestError
from cnnscope.files import read_regular, why
from cnnscope.text import printable

_NAME = re.compile(r"[A-Za-z_]\w*")
_LARGEST = 2**18  # bytes of a file of values; YAML is read by Python, slowly
_MANY = 100_000  # values in it, each counted as often as it is referred to
_DEEP = 64
_UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


class Expression(msgspec.Struct, frozen=True):
    """What is no literal: a class, a call, or a string without its quotes."""

    text: str

    def __repr__(self) -> str:
        """As it was typed."""
        return self.text


class Loaded(msgspec.Struct, frozen=True):
    """A value that was read from a file.

    Attributes:
        text: the file as it was typed, for the report.
        value: plain data.
    """

    text: str
    value: Any

    def __repr__(self) -> str:
        """As it was typed."""
        return self.text


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Parse `name=value` pairs, and `@file.yaml` for all that a file names.

    A value is a Python literal (3, [1, 2], 'a'), `@file.yaml` or `@file.json` (`@file.yaml:model`
    is what lies under that key), or an expression, which is evaluated where the model is built.

    Raises:
        RequestError: no `=`, a name that is no identifier, a name that is given twice, a file that
            cannot be read.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        for name, value in _pairs(text):
            if name in arguments:
                raise RequestError(f"--arg {name}: given twice; give it once")
            arguments[name] = value
    return arguments


def _pairs(text: str) -> list[tuple[str, Any]]:
    if text.startswith("@"):
        loaded = _loaded(text, text)
        if not isinstance(loaded.value, dict) or not all(map(_is_name, loaded.value)):
            raise RequestError(
                f"--arg {printable(text)!r}: holds no arguments by name; give it to one, as "
                f"--arg cfg={printable(text)}"
            )
        return [(key, Loaded(f"{text}:{key}", held)) for key, held in loaded.value.items()]
    name, equals, value = text.partition("=")
    if not equals or not _is_name(name):
        raise RequestError(
            f"--arg {printable(text)!r}: expected name=value, such as width_mult=0.5"
        )
    return [(name, _value(name, value, text))]


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def _value(name: str, value: str, text: str) -> Any:
    if value.startswith("@"):
        return _loaded(value, text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            literal = ast.literal_eval(value)
        repr(literal)  # 0xff... may be a number of more digits than Python prints
    except _UNREADABLE:
        if not value.strip() or len(value) > _LARGEST or "\x00" in value:
            raise no_value(name, value) from None
        return Expression(value)
    return literal


def no_value(name: str, value: str, why: str = "it is no Python literal") -> RequestError:
    """The error for a value that means nothing, with how a string is quoted."""
    return RequestError(
        f"--arg {name}={printable(value, 60)}: {why}; a string needs its own quotes: "
        f"--arg \"{name}='{printable(value, 30)}'\""
    )


# ------------------------------------------------------------------------------------- files


def _loaded(value: str, text: str) -> Loaded:
    """`@file.yaml`, `@file.json`, `@file.toml`, each with `:key.key` behind it if wanted.

    Raises:
        RequestError: the file cannot be read, or has no such key.
    """
    found = re.fullmatch(r"@(.+?\.(?:ya?ml|json|toml))(?::([^/\\]+))?", value, re.IGNORECASE)
    if found is None:
        raise RequestError(
            f"--arg {printable(text)!r}: expected a file of values, such as @config.yaml, "
            "@config.json or @config.yaml:model"
        )
    name, path = found[1], found[2]
    try:
        data = _decoded(name, read_regular(name, _LARGEST))
        _check_size(data)
    except (OSError, *_UNREADABLE) as error:
        raise RequestError(
            f"--arg {printable(text)!r}: {printable(name)} cannot be read "
            f"({printable(' '.join(str(why(error)).split()), 200)})"
        ) from error
    return Loaded(value, _at(data, path, text) if path else data)


def _decoded(name: str, content: bytes) -> Any:
    """Plain data; nothing in a file is executed."""
    if name.lower().endswith(".json"):
        import json

        return json.loads(content)
    if name.lower().endswith(".toml"):
        import tomllib

        return tomllib.loads(content.decode())
    import yaml

    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _check_size(data: Any) -> None:
    """Refuse values that a small file makes many of, by referring to them again and again.

    Raises:
        ValueError: there are too many, or they are nested too deeply.
    """
    left = _MANY
    layer = [data]
    for _ in range(_DEEP):
        inner: list[Any] = []
        for value in layer:
            held = [*value, *value.values()] if isinstance(value, Mapping) else value
            inner += held if isinstance(held, (list, tuple, set)) else ()
            left -= 1 + len(value) // 64 if isinstance(value, (str, bytes)) else 1
            if left < len(inner):
                raise ValueError(f"it has more than {_MANY:,} values")
        layer = inner
        if not layer:
            return
    raise ValueError(f"its values are nested more than {_DEEP} deep")


def _at(data: Any, path: str, text: str) -> Any:
    """The value under a path of keys.

    Raises:
        RequestError: there is none.
    """
    for key in path.split("."):
        if not isinstance(data, Mapping) or key not in data:
            has = ", ".join(map(str, data)) if isinstance(data, Mapping) else "no keys"
            raise RequestError(
                f"--arg {printable(text)!r}: there is no {printable(key)!r} in it; it has "
                f"{printable(has, 200)}"
            )
        data = data[key]
    return data


# -------------------------------------------------------------------------------- what they are


def plain(value: Any) -> Any:
    """A value without where it came from."""
    return value.value if isinstance(value, Loaded) else value


def depends_on_code(arguments: Mapping[str, Any]) -> bool:
    """Return True if what an argument is depends on code that is not this program's."""
    return any(isinstance(value, Expression) for value in arguments.values())
