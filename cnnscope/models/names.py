"""Parse the name of a model: a library's, a file, a module, an expression, or standard input."""

from __future__ import annotations

import ast
import os
import re
import sys
import warnings
from keyword import iskeyword
from typing import Any

import msgspec

from cnnscope.errors import RequestError
from cnnscope.files import exists, names_file
from cnnscope.text import ending, printable

EXPRESSION = "expression"
STDIN = "stdin"
_LONGEST = 1 << 20  # characters of standard input
_FILE = re.compile(r"(.*\.py)(?::([^:/\\\"']*))?", re.IGNORECASE | re.DOTALL)
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_CALLED = re.compile(r"(.*?\.py|[^\W\d][\w.]*):([^\W\d].*\(.*\))", re.IGNORECASE | re.DOTALL)
_CALL = re.compile(r"\s*[^\W\d][\w.]*\s*\(")
_REVISION = re.compile(r"((?:[^:{]|\{[^}]*\})+):(.+)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_LIBRARIES = ("torchvision", "classic", "timm", "hf")  # which a branch of that name is not
_PARSING = (SyntaxError, ValueError, MemoryError, RecursionError)


class ModelSpec(msgspec.Struct, frozen=True):
    """A model as it was asked for: `source` is "" where the user left it open.

    Attributes:
        source: a library, "file", "import", "expression" or "stdin".
        name: of the model in it; a file that holds a single network needs none.
        text: as it was typed.
        place: Python file or module that `name` is looked up in, where one was given.
        code: what is evaluated, where no name of a file or module was given.
        revision: of git that the file is of; "" for the file itself.
    """

    source: str
    name: str
    text: str
    place: str = ""
    code: str = ""
    revision: str = ""

    @property
    def file(self) -> str:
        """The file with its revision, as it was typed: `HEAD~1:net.py`."""
        return f"{self.revision}:{self.place}" if self.revision else self.place

    @property
    def shown(self) -> str:
        """The model as it was typed, for messages."""
        if self.source == STDIN:
            return "standard input"
        return (ending if self.source == "file" else printable)(self.text)


def parse_model(text: str) -> ModelSpec:
    """Parse a model's name.

    `resnet18`, `torchvision:resnet18`, `path/net.py`, `path/net.py:Net`, `package.module:Net`,
    `net.py:Net(width=8)`, `HEAD~1:net.py:Net` (the file at a revision of git),
    `nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())`, and `-` for Python on standard input. The name
    of a file that exists is never taken for an expression, nor for a revision.

    Raises:
        RequestError: nothing before or after the colon, an expression that is none, or standard
            input that is empty or cannot be read.
    """
    shown = text.strip()
    if shown == "-":
        code = _standard_input()
        plain = code.strip()
        if plain != "-" and not set("(=\n") & set(plain):
            return parse_model(plain)  # a name
        return ModelSpec(STDIN, "", shown, code=code)
    file = _FILE.fullmatch(shown)
    if file is not None and file[2] != "":
        return _of_file(file[1], file[2] or "", shown)
    if "(" in shown and not _is_file(shown):
        return _called(shown) or _expression(shown)
    _check_revision(shown)
    source, colon, name = shown.rpartition(":")
    if not name or (colon and not source):
        raise RequestError(
            f"model {printable(text)!r}: expected a name such as resnet18, torchvision:resnet18, "
            "path/net.py:Net or package.module:Net"
        )
    if _DOTTED.fullmatch(source):
        return ModelSpec("import", name, shown, place=source)
    return ModelSpec(source, name, shown)


def _of_file(place: str, name: str, text: str) -> ModelSpec:
    """A file, or one at a revision: what is before the first colon, but for those in braces.

    Raises:
        RequestError: nothing is before the colon.
    """
    if not exists(os.path.expanduser(place)):  # noqa: PTH111  of Path's, ~nobody raises
        if place.startswith(":"):
            raise RequestError(
                f"model {printable(text)!r}: before the colon stands a revision of git, as in "
                f"HEAD{printable(place)}"
            )
        found = _REVISION.fullmatch(place)
        plain = _DRIVE.match(place) or "://" in place
        if found is not None and not plain and found[1] not in _LIBRARIES:
            return ModelSpec("file", name, text, place=found[2], revision=found[1])
    return ModelSpec("file", name, text, place=place)


def _check_revision(text: str) -> None:
    """Refuse files at a revision of git that are no Python.

    Raises:
        RequestError: `main:net.onnx`, or `main:models`, a folder.
    """
    found = _REVISION.fullmatch(text)
    if found is None or exists(text) or _DRIVE.match(text) or "://" in text:
        return
    revision, place = found[1], os.path.expanduser(found[2])  # noqa: PTH111  see above
    folder = os.path.isdir(place) and not _DOTTED.fullmatch(revision)  # noqa: PTH112
    if revision in _LIBRARIES or not (names_file(place) or folder):
        return
    raise RequestError(
        f"model {printable(text)!r}: at a revision of git, name a file of Python and a network in "
        f"it, as in {printable(revision)}:net.py:Net; git show writes any other file out"
    )


def is_expression(code: str) -> bool:
    """Return True if code is one expression of Python."""
    return _parsed(code, "eval") is not None


def _is_file(text: str) -> bool:
    return names_file(text) or exists(text)


def _called(text: str) -> ModelSpec | None:
    """`net.py:Net(width=8)` and `package.module:make(3)`; None for any other text."""
    found = _CALLED.fullmatch(text)
    if found is None or iskeyword(found[1]) or not is_expression(found[2]):
        return None
    if found[1].lower().endswith(".py"):
        return _of_file(found[1], found[2], text)
    source = "import" if "." in found[1] else found[1]
    return ModelSpec(source, found[2], text, place=found[1] if "." in found[1] else "")


def _expression(text: str) -> ModelSpec:
    """An expression or lines of Python that call something.

    Raises:
        RequestError: the text begins as a call does, and is not Python.
    """
    tree = _parsed(text, "eval") or _parsed(text, "exec")
    if tree is not None and any(isinstance(node, ast.Call) for node in ast.walk(tree)):
        return ModelSpec(EXPRESSION, "", text, code=text)
    if tree is None and _CALL.match(text):
        raise RequestError(f"model {printable(text)!r}: {_mistake(text)}; see --help for names")
    return ModelSpec("", text, text)


def _parsed(text: str, mode: str) -> Any:
    """The syntax tree; None where the text is not Python."""
    try:
        with warnings.catch_warnings():  # of escapes in strings
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode=mode)
    except _PARSING:
        return None


def _mistake(text: str) -> str:
    """Say why a text is no Python."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError as error:
        return f"no expression of Python ({printable(str(error.msg))})"
    except _PARSING:
        pass
    return "no expression that Python can read"


# ------------------------------------------------------------------------------ standard input

_last: tuple[Any, str] = (None, "")  # a stream that was read, and what it held


def _standard_input() -> str:
    """Read standard input, once: two models of one request may both be `-`.

    Raises:
        RequestError: it is closed, empty, no text, or longer than a network's code can be.
    """
    global _last  # noqa: PLW0603  a stream is read once in a process
    if _last[0] is sys.stdin and sys.stdin is not None:
        return _last[1]
    try:
        if sys.stdin is None:
            raise RequestError("model '-': standard input is closed; pipe a network into it")
        text = sys.stdin.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        raise RequestError(f"model '-': standard input cannot be read ({error})") from error
    if not text.strip():
        raise RequestError(
            "model '-': standard input is empty; pipe a network into it, as in "
            "echo 'nn.Conv2d(3, 8, 3)' | cnnscope summary -"
        )
    if len(text) > _LONGEST:
        raise RequestError(
            f"model '-': standard input has more than {_LONGEST:,} characters; name the file "
            "instead, as path/net.py:Net"
        )
    _last = (sys.stdin, text)
    return text
