"""Groups of arguments and options that several commands share, each written once.

A command is a dataclass: its fields, those of the groups that it inherits from included, are its
arguments and options, its docstring is its help, and `run` carries it out. No method is generated
but the `__init__` of a command, as each costs start-up. Annotations are evaluated here (no `from
__future__ import annotations`): a field that is inherited is read in another module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnscope.cli.session import Session
from cnnscope.errors import ModelError, RequestError
from cnnscope.text import printable

if TYPE_CHECKING:
    from cnnscope.api import Report
    from cnnscope.api.traces import Cache
    from cnnscope.models.request import Request

_LONGEST_PATTERN = 1000


class Format(str, Enum):
    """Output formats of a report."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"


ENDINGS = {
    ".txt": Format.TABLE, ".text": Format.TABLE, ".json": Format.JSON, ".csv": Format.CSV,
    ".md": Format.MARKDOWN, ".markdown": Format.MARKDOWN, ".tex": Format.LATEX,
    ".html": Format.HTML, ".htm": Format.HTML,
}  # fmt: skip


def complete_model(incomplete: str) -> list[str]:
    """Models that begin so, as far as they are known without importing their library."""
    from cnnscope.cli import completion

    return completion.models(incomplete)


def _complete_values(incomplete: str) -> list[str]:
    """Files that `--arg cfg=@` may name."""
    from cnnscope.cli import completion

    return completion.values(incomplete)


def _debug(ctx: typer.Context, wanted: bool) -> bool:
    """Show tracebacks from now on, wherever among the words of a command line this stands."""
    ctx.obj.debug |= wanted
    return wanted


class Panel:
    """A group of options in the help; called, it declares an option of the group."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __call__(self, spelling: str, help: str, **more: Any) -> Any:  # noqa: A002  as in typer
        """Declare an option.

        Args:
            spelling: its names and its value, "--input -i SIZE"; a flag has no value.
            help: what it does.
            **more: other arguments of `typer.Option`.
        """
        names = [word for word in spelling.split() if word.startswith("-")]
        metavar = "".join(word for word in spelling.split() if not word.startswith("-")) or None
        return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=self.title, **more)


MODEL, ROWS, LIMITS = Panel("Model"), Panel("Rows and columns"), Panel("Limits")
TRAINING, MEASUREMENT, OUTPUT = Panel("Training"), Panel("Measurement"), Panel("Output")

Depth = Annotated[
    str | None,
    ROWS(
        "--depth -d N|all",
        "Show N levels of the call tree, or all, as in --depth 3. Left out, as many as fit.",
    ),
]

LimitedOptimizer = Annotated[
    str | None,
    LIMITS(
        "--optimizer NAME",
        "Train with sgd, momentum, adam, adamw or rmsprop for --max-train-memory, as in "
        "--optimizer adam. Left out, sgd.",
    ),
]


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Options:
    """Options of every command."""

    debug: Annotated[
        bool,
        OUTPUT(
            "--debug", "Show tracebacks, for a report of an error.", is_eager=True, callback=_debug
        ),
    ] = False

    @staticmethod
    def bare() -> Mapping[str, Sequence[str]]:
        """Values of options that may stand without one; the first is what they mean then."""
        return {}

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse more words than there are arguments, with what to type instead.

        Raises:
            RequestError: the message; where none is raised, the parser has one.
        """

    def run(self, session: Session) -> int | None:
        """Carry the command out; the exit code, None for 0.

        Raises:
            CnnscopeError: it cannot be carried out.
        """
        raise NotImplementedError

    def failed(self, error: ModelError) -> None:
        """Write what is known of a model that failed."""


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Cached(Options):
    """A command that answers from the store."""

    no_cache: Annotated[bool, OUTPUT("--no-cache", "Neither read nor write stored traces.")] = False

    def cache(self, session: Session) -> "Cache":
        """The user's store; False with --no-cache, and for a user without a home."""
        return False if self.no_cache else session.store() or False


def _file(path: Path | None) -> Path | None:
    """The file that was named, None for stdout."""
    return None if path == Path("-") else path


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Written(Options):
    """A command that writes a report."""

    format: Annotated[
        Format | None,
        OUTPUT(
            "--format -f FORMAT",
            "Write a table, json, csv, markdown, latex or html, as in --format json. Left "
            "out, the ending of --output decides, and else it is a table. --json, --csv, "
            "--md and --html are short for it.",
        ),
    ] = None
    output: Annotated[
        Path | None,
        OUTPUT(
            "--output -o FILE",
            "Write to this file, as in --output net.md; its ending (.json, .csv, .md, "
            ".tex, .html, .txt) chooses the format, and - is stdout.",
            show_default=False,
            callback=_file,
        ),
    ] = None

    answered = False  # a report has been written

    @property
    def written(self) -> Format:
        """The format: what was asked for, or what the file's ending says."""
        ending = self.output.suffix.lower() if self.output is not None else ""
        return self.format or ENDINGS.get(ending, Format.TABLE)

    def failed(self, error: ModelError) -> None:
        """Write what ran before a forward raised, as the summary does."""
        if error.report is None or self.answered:
            return
        ending = self.output.suffix.lower() if self.output is not None else ""
        self.write(error.report, drawn=bool(ending) and ending not in ENDINGS)

    def write(self, report: "Report[Any]", *, drawn: bool = False) -> None:
        """Write the report to --output, or to stdout.

        Args:
            report: the answer to the command.
            drawn: --output is a picture, which has been drawn; the report goes to stdout.
        """
        from cnnscope.cli import out

        self.answered = True
        path = None if drawn else self.output
        out.write_report(report, self.written.value, path)
        ending = path.suffix if path is not None and self.format is None else ""
        if path is not None and ending and ending.lower() not in ENDINGS and path.is_file():
            out.note(
                f"{printable(str(path))}: written as a table, because no format ends in "
                f"{printable(ending)}: {' '.join(ENDINGS)} do, and --format names one"
            )


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Build(Options):
    """Options that build a model and choose its inputs."""

    input: Annotated[
        list[str] | None,
        MODEL(
            "--input -i SIZE",
            "Give the input, as in --input 3x224x224: sizes as 224x224, 224, 1x3x224x224 or "
            "'(1, 3, 224, 224)', and :dtype after them; by name as ids=16:int64, mask=none, "
            'scale=0.5, mode=train; a list or dict as \'{"image": 3x8x8, "ids": 16:int64}\', in '
            "which sizes may have quotes. May be repeated; left out, it is what the model was "
            "published for.",
        ),
    ] = None
    num_classes: Annotated[
        int | None,
        MODEL("--num-classes N", "Build the model with N classes, as in --num-classes 10."),
    ] = None
    arg: Annotated[
        list[str] | None,
        MODEL(
            "--arg NAME=VALUE",
            "Give the model's constructor an argument, as in --arg width=0.5: a Python "
            "literal, a class or expression (block=Bottleneck), or the values of a file "
            "(cfg=@config.yaml). May be repeated.",
            autocompletion=_complete_values,
        ),
    ] = None
    dtype: Annotated[
        str | None,
        MODEL("--dtype DTYPE", "Take this type for weights and input, as in --dtype bfloat16."),
    ] = None

    def request(self, model: str, batch_size: int | None = None) -> "Request":
        """The request for a model with these options.

        Raises:
            RequestError: --arg is no name=value.
        """
        from cnnscope.models.arguments import parse_arguments
        from cnnscope.models.request import Request

        return Request.of(
            model,
            tuple(self.input or ()),
            parse_arguments(self.arg or ()),
            self.num_classes,
            batch_size,
            self.dtype,
        )


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Batched(Build):
    """The same, in batches of one size."""

    batch_size: Annotated[
        int | None,
        MODEL("--batch-size -b N", "Put N samples into the batch, as in --batch-size 32."),
    ] = None

    def request_for(self, model: str) -> "Request":
        """The request for a model in such batches.

        Raises:
            RequestError: an option cannot be understood.
        """
        return self.request(model, self.batch_size)

    def given(self) -> dict[str, object]:
        """These options by name, for `refuse`."""
        return {
            "--input": self.input,
            "--batch-size": self.batch_size,
            "--num-classes": self.num_classes,
            "--arg": self.arg,
            "--dtype": self.dtype,
        }


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Traced(Cached, Batched):
    """A command that traces models."""


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class OfModel(Options):
    """A command that is given one model."""

    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model (resnet18, timm:resnetv2_50), a file or module (net.py:Net, "
            "package.module:Net, program.pt2, net.onnx), an expression ('nn.Conv2d(3, 8, 3)'), or "
            "- for Python on standard input.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ]


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Named(Traced, OfModel):
    """A command on one model."""


def quoted(word: str) -> str:
    """A word as it would be typed, for a message."""
    import shlex

    return printable(shlex.quote(word))


def file_name(models: Sequence[str]) -> str:
    """A name for a file of these models: letters, digits and what is harmless between them."""
    import re

    names = (re.sub(r"[^\w.-]+", "_", word.replace(".py:", "_")).strip("._-") for word in models)
    return "-".join(name[-60:] for name in names)[-200:].lstrip("._-") or "model"


def chosen(**values: Any) -> dict[str, Any]:
    """The options that were given: the others have the defaults of the Python interface."""
    return {name: value for name, value in values.items() if value is not None}


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
    """Bound the length of a pattern with * and ?, which has to be compiled.

    Raises:
        RequestError: it is longer than any name.
    """
    if text is not None and len(text) > _LONGEST_PATTERN:
        raise RequestError(f"{option}: a pattern has at most {_LONGEST_PATTERN} characters")
    return text


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
