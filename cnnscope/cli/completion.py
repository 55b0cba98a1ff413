"""Shell completion of model names, without importing a library."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from cnnscope.files import read_regular

_FILES = (".py", ".pt2", ".onnx")  # what a model can be in
_VALUES = (".yaml", ".yml", ".json", ".toml")  # what values of arguments can be in
_PLAIN = re.compile(r"[\w./][\w./:+@%,-]*")
_LARGEST = 1 << 20  # bytes of a file that is looked into


def models(beginning: str) -> list[str]:
    """Models that begin so: names, files, and what a file defines.

    Only what no shell evaluates: zsh runs `$(...)` in what it is offered.
    """
    return [one for one in _models(beginning) if _PLAIN.fullmatch(one)]


def _models(beginning: str) -> list[str]:
    from cnnscope.cache import libraries
    from cnnscope.cli.session import Session

    path, colon, name = beginning.rpartition(":")
    if colon and path.endswith(".py"):
        return [f"{path}:{found}" for found in _defined(path) if found.startswith(name)]
    if colon and path.replace(".", "_").isidentifier():
        module = path.replace(".", "/")
        inside = [*_defined(f"{module}.py"), *_defined(f"{module}/__init__.py")]
        if inside:
            return [f"{path}:{found}" for found in inside if found.startswith(name)]
    named = libraries.complete(beginning, Session().store())
    files = [] if colon else _files(beginning)
    if not named and not any(file.endswith(_FILES) for file in files):
        return []  # the shell does folders better
    if len(files) == 1 and not named and files[0].endswith(".py"):
        files += [f"{files[0]}:{found}" for found in _defined(files[0])]
    return named + files


def values(beginning: str) -> list[str]:
    """Files of values for `--arg`, behind the @ of `@net.yaml` or `cfg=@net.yaml`."""
    name, at, path = beginning.partition("@")
    if not at or (name and not name.endswith("=")):
        return []
    found = (f"{name}@{file}" for file in _files(path, _VALUES))
    return [one for one in found if re.fullmatch(r"(\w+=)?@" + _PLAIN.pattern, one)]


def _files(beginning: str, endings: tuple[str, ...] = _FILES) -> list[str]:
    """Files that end so and folders, as they would be typed."""
    folder, slash, start = beginning.rpartition("/")
    found = []
    with contextlib.suppress(OSError, ValueError):
        for one in Path(folder + slash or ".").iterdir():
            if one.name.startswith(start) and (start or not one.name.startswith(".")):
                if one.is_dir():
                    found.append(f"{folder}{slash}{one.name}/")
                elif one.name.endswith(endings):
                    found.append(f"{folder}{slash}{one.name}")
    return sorted(found)


def _defined(path: str) -> list[str]:
    """Classes and functions of a file that are not private; none of a file that is not Python."""
    try:
        body = ast.parse(read_regular(path, _LARGEST)).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = [one.name for one in body if isinstance(one, (ast.ClassDef, ast.FunctionDef))]
    if path.endswith("__init__.py"):  # of a package, what it imports from its own modules too
        inner = [one for one in body if isinstance(one, ast.ImportFrom) and one.level]
        named += [held.asname or held.name for one in inner for held in one.names]
    return [name for name in named if not name.startswith("_")]


def with_colons(complete: Callable[[], int]) -> int:
    """Complete for bash, which takes `torchvision:res` for three words and completes the last.

    Only where `:` is among its COMP_WORDBREAKS; elsewhere nothing has to be done.
    """
    typed_words, place = os.environ.get("COMP_WORDS"), os.environ.get("COMP_CWORD", "")
    if typed_words is None or not re.fullmatch(r"[0-9]{1,9}", place):
        return 1  # no message: what is printed is taken for an answer
    words, cursor = typed_words.split("\n"), int(place)
    if cursor >= len(words):  # not as the script that typer installs says it
        return complete()
    joined: list[str] = []
    for before, word in zip(["", *words], words[: cursor + 1], strict=False):
        if joined and ":" in {before, word}:
            joined[-1] += word
        else:
            joined.append(word)
    typed = joined[-1]
    cut = typed.rpartition(":")[0] + ":" if typed != words[cursor] else ""
    os.environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(len(joined) - 1))
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            return complete()
    finally:
        for line in told.getvalue().splitlines():
            sys.stdout.write(line.removeprefix(cut) + "\n")
