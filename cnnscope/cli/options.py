"""Arguments and options that several commands share, each written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from math import inf
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from cnnscope.errors import RequestError

_no_cache = False
_LONGEST_PATTERN = 1000


class Format(str, Enum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def complete_model(incomplete: str) -> list[str]:
    """Models that begin so, as far as they are known without importing their library."""
    from cnnscope.cli import completion

    return completion.models(incomplete)


Model = Annotated[
    str,
    typer.Argument(
        help="A model (resnet18, timm:resnetv2_50) or a file (net.py:Net, program.pt2).",
        show_default=False,
        autocompletion=complete_model,
    ),
]
Input = Annotated[
    Optional[list[str]],
    typer.Option(
        "--input",
        "-i",
        metavar="CxHxW",
        help="Input size: 3x224x224, 224x224, 224 or with a batch 1x3x224x224; :dtype after "
        "it. Repeat for several inputs. Left out: what the model was published for.",
    ),
]
BatchSize = Annotated[
    Optional[int], typer.Option("--batch-size", "-b", metavar="N", help="Samples per batch.")
]
NumClasses = Annotated[
    Optional[int], typer.Option("--num-classes", metavar="N", help="Classes of the model.")
]
Arg = Annotated[
    Optional[list[str]],
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="Argument for the model's constructor, a Python literal. Repeatable.",
    ),
]
Dtype = Annotated[
    Optional[str],
    typer.Option("--dtype", help="Type of weights and input: float16, bfloat16, ..."),
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to write it.")]
Output = Annotated[
    Optional[Path],
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to a file.",
        show_default=False,
        parser=Path,  # typer's own asks the disk, and trips over names that no disk has
    ),
]
Depth = Annotated[
    Optional[str],
    typer.Option("--depth", "-d", metavar="N|all", help="Levels of the call tree to show."),
]


def cached(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command that answers from the store the option not to: --no-cache."""
    option = typer.Option("--no-cache", help="Neither read nor write stored traces.")
    kind = Annotated[bool, option]

    @functools.wraps(command)
    def run(*args: Any, no_cache: bool, **kwargs: Any) -> int | None:
        global _no_cache  # noqa: PLW0603
        _no_cache = no_cache
        return command(*args, **kwargs)

    hints = {**get_type_hints(command, include_extras=True), "no_cache": kind}
    given = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
    ]
    added = inspect.Parameter(
        "no_cache", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind
    )
    run.__signature__ = inspect.Signature([*given, added])  # type: ignore[attr-defined]
    run.__annotations__ = hints
    return run


def cache_refused() -> bool:
    """Whether the command that runs was told --no-cache."""
    return _no_cache


def refuse(given: Mapping[str, object], reason: str) -> None:
    """Refuse options that would have no effect.

    Args:
        given: value of each option by its name; None, False and an empty list were left out.
        reason: why the options have no effect, as the end of a sentence.

    Raises:
        RequestError: one of them was given.
    """
    for option, value in given.items():
        if value is not None and value is not False and value != []:
            raise RequestError(f"{option} has no effect here: {reason}")


def pattern(text: str | None, option: str) -> str | None:
    """A pattern with * and ?, which is compiled: not one of a megabyte.

    Raises:
        RequestError: it is longer than any name.
    """
    if text is not None and len(text) > _LONGEST_PATTERN:
        raise RequestError(f"{option}: a pattern has at most {_LONGEST_PATTERN} characters")
    return text


def seconds(given: float | None) -> None:
    """A number of seconds that something may take.

    Raises:
        RequestError: it is not a positive number.
    """
    if given is not None and not 0 < given < inf:
        raise RequestError(f"--seconds {given:g}: must be above 0")


def levels(depth: str | None) -> int | None:
    """The number after --depth; 0 is all of them.

    Raises:
        RequestError: it is neither a number from 1 nor "all".
    """
    if depth is None:
        return None
    if depth == "all":
        return 0
    if not (depth.isascii() and depth.isdigit() and len(depth) < 7 and int(depth)):
        raise RequestError(f"--depth {depth[:20]!r}: expected a number from 1, or all")
    return int(depth)
