"""Arguments of a constructor, from what was typed to what it is called with."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.arguments import Expression, no_value, plain
from cnnscope.models.files import configs, scope
from cnnscope.text import printable, said

Parameters = Mapping[str, inspect.Parameter]
_NO_CODE = re.compile(r"(?![^\W\d][\w.]*$)[\w./+-]*[^\W\d][\w./+-]*")  # efficientnet-b0, 3x3
_SAID = {"true": True, "false": False, "none": None, "null": None}  # as YAML and shells have it
_TEXT = re.compile(r"\bstr\b|Literal")
_MISSPELT = 0.8  # likeness to a name that is known, from which on a word is that name misspelt
_NO_PYTHON = (SyntaxError, ValueError, MemoryError, RecursionError)


def evaluated(
    arguments: Mapping[str, Any],
    parameters: Parameters,
    evaluate: Callable[[str], Any],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """The values of arguments.

    What is no literal is a string if the parameter is one, by its annotation or default; else it
    is evaluated. One word that names nothing is a string as well where the parameter says nothing
    of what it takes, unless it is like a name that is known.

    Args:
        arguments: as they were typed.
        parameters: of the constructor, by name; empty where its signature does not tell.
        evaluate: an expression.
        known: names that could have been meant, for messages.

    Raises:
        RequestError: a value that is neither.
    """
    return {
        name: _value(name, value.text, parameters.get(name), evaluate, known)
        if isinstance(value, Expression)
        else plain(value)
        for name, value in arguments.items()
    }


def _value(
    name: str,
    text: str,
    parameter: inspect.Parameter | None,
    evaluate: Callable[[str], Any],
    known: Mapping[str, Any],
) -> Any:
    may, must = _is_text(text, parameter)
    if must:
        return text
    try:
        return evaluate(text)
    except scope.UndefinedError as error:
        if may:
            return text
        return _undefined(name, text, parameter, error, known)
    except _NO_PYTHON:
        if may:
            return text
        raise no_value(name, text) from None
    except (CnnscopeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RequestError(f"--arg {name}={printable(text, 60)}: {said(error)}") from error


def _undefined(
    name: str,
    text: str,
    parameter: inspect.Parameter | None,
    error: scope.UndefinedError,
    known: Mapping[str, Any],
) -> Any:
    """What a text means that uses a name which is none: true, null, or one word.

    Raises:
        RequestError: nothing; with the name that may have been meant.
    """
    if text.lower() in _SAID:
        return _SAID[text.lower()]
    like = difflib.get_close_matches(text, known, cutoff=_MISSPELT)
    if _is_word(text, parameter) and not like:
        return text
    layer = _of_torch(text, parameter)
    if layer and not error.near:
        raise RequestError(
            f"--arg {name}={printable(text, 60)}: nothing is called {printable(text, 40)} here; "
            f"did you mean --arg {name}={layer}?"
        ) from None
    near = error.near or next(iter(difflib.get_close_matches(str(error), map(str, known))), "")
    hint = f" ({near} is)" if near else ""
    why = f"nothing is called {printable(str(error), 40)} here{hint}"
    raise no_value(name, text, why) from None


def _of_torch(text: str, parameter: inspect.Parameter | None) -> str:
    """`nn.GELU` for gelu, where an argument is a class or function by default; "" for none."""
    default = None if parameter is None else parameter.default
    if not callable(default) or default is inspect.Parameter.empty:
        return ""
    places: list[tuple[str, Any]] = [("nn", nn), ("F", nn.functional)]
    for short, place in places if inspect.isclass(default) else places[::-1]:
        named = {one.lower(): one for one in vars(place) if not one.startswith("_")}
        found = named.get(text.lower()) or named.get(text.lower().replace("_", ""))
        if found and callable(getattr(place, found)):
            return f"{short}.{found}"
    return ""


def _is_word(text: str, parameter: inspect.Parameter | None) -> bool:
    """Return True for one word given to a parameter of which nothing says what it takes."""
    empty = inspect.Parameter.empty
    unsaid = parameter is None or (
        parameter.annotation is empty and parameter.default in (empty, None)
    )
    return unsaid and text.isidentifier()


def _is_text(text: str, parameter: inspect.Parameter | None) -> tuple[bool, bool]:
    """Whether a parameter may be a string, and whether it can be nothing else."""
    if parameter is None or parameter.default is parameter.annotation:  # neither is given
        return _NO_CODE.fullmatch(text) is not None, False
    annotation = parameter.annotation
    shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    default = isinstance(parameter.default, str)
    if annotation is parameter.empty:
        return default, default
    alone = re.fullmatch(r"(typing\.)?(Optional\[)?(str|Literal\[.*\])\]?( *\| *None)?", shown)
    return bool(default or _TEXT.search(shown)), alone is not None


def fitted(target: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of which dictionaries are what the constructor wants.

    Raises:
        RequestError: a key that a dataclass has no field for.
    """
    if not any(type(value) in (dict, list) for value in arguments.values()):
        return dict(arguments)
    wanted = configs.annotations_of(target)
    return {
        name: configs.fitted(value, wanted.get(name), name)
        if type(value) is dict
        else configs.nested(value)
        for name, value in arguments.items()
    }
