"""The commands: known here by name and line of help, loaded when they are named.

Start-up does not grow with the number of commands or options. typer makes a command of a dataclass
(see `options`); values are converted here, because typer from 0.29 on imports pydantic to convert
one, which takes longer than everything else that a warm command does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, cast, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from cnnscope import __version__
from cnnscope.cli import typed
from cnnscope.cli.options import Options
from cnnscope.errors import ModelError, RequestError


class Entry(NamedTuple):
    """Module of a command, the first line of its help, and the group that it is listed in."""

    module: str
    kind: str  # the name of its dataclass, or of the dictionary of a group's commands
    help: str
    group: str = "Commands"


COMMANDS = {
    "summary": Entry(
        "summary",
        "Summary",
        "Layers, output shapes, parameters, MACs and memory of a model.",
        "Inspect a network",
    ),
    "rf": Entry(
        "rf",
        "Rf",
        "Receptive fields: how they grow, and what one unit sees.",
        "Inspect a network",
    ),
    "explain": Entry(
        "explain",
        "Explain",
        "Every number of a layer as a formula, with its values put in.",
        "Inspect a network",
    ),
    "memory": Entry(
        "memory",
        "Memory",
        "Memory of a training step: its peak, and who owns it.",
        "Inspect a network",
    ),
    "fit": Entry(
        "fit",
        "Fit",
        "The largest batch whose training step fits into a GPU's memory.",
        "Inspect a network",
    ),
    "report": Entry(
        "report",
        "Report",
        "One page that shows a network: graph, layers, costs, memory, fields.",
        "Inspect a network",
    ),
    "figure": Entry(
        "figure",
        "Figure",
        "The architecture figure of a paper, made from the model.",
        "Inspect a network",
    ),
    "diff": Entry(
        "diff",
        "Diff",
        "Differences between two models, layer by layer.",
        "Compare networks",
    ),
    "stages": Entry(
        "stages",
        "Stages",
        "The architecture table that papers print, made from the models.",
        "Compare networks",
    ),
    "stack": Entry(
        "stack",
        "Stack",
        "Cost of stacks of small kernels beside one large kernel.",
        "Compare networks",
    ),
    "sweep": Entry(
        "sweep",
        "Sweep",
        "Costs of a model as its input, an argument or the batch grows.",
        "Compare networks",
    ),
    "list": Entry(
        "list_",
        "List",
        "Every model that can be named, with its size and its cost.",
        "Compare networks",
    ),
    "bench": Entry(
        "bench",
        "Bench",
        "Latency and throughput on this machine, and what limits them.",
        "Measure",
    ),
    "check": Entry(
        "check",
        "Check",
        "Our numbers beside those of other counters and a real forward.",
        "Measure",
    ),
    "cache": Entry(
        "cache",
        "COMMANDS",
        "The store of traces, which answers repeated requests at once.",
        "Manage",
    ),
    "help": Entry(
        "help_",
        "Help",
        "Pages of the documentation in the terminal, with examples.",
        "Manage",
    ),
}


# Options that every help ends with, in this order.
_LAST = {
    name: place for place, name in enumerate("format output no_cache debug help".split(), start=1)
}


def _version(wanted: bool) -> None:
    """Print the version before anything else is parsed."""
    if wanted:
        typer.echo(f"cnnscope {__version__}")
        raise typer.Exit


@dataclass(kw_only=True, repr=False, eq=False)
class Root(Options):
    """The truth about a convolutional network before you train it.

    Example: cnnscope summary resnet18

    A model alone is summarised (cnnscope resnet18 224, cnnscope net.py:Net), and options may stand
    before it or after it. cnnscope rf --help has the options of a command, cnnscope help rf its
    page with examples, and cnnscope help lists the pages.
    """

    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False


def program() -> TyperGroup:
    """The whole command line."""
    return group("cnnscope", Root, COMMANDS, Program)


def group(
    name: str, kind: type[Options], entries: Mapping[str, Entry], cls: type[Group] | None = None
) -> TyperGroup:
    """A command that has commands, with the options of `kind` before them."""
    app = typer.Typer(
        name=name,
        cls=type("Group", (cls or Group,), {"kind": kind}),
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=cls is Program,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(kind)
    made = cast("TyperGroup", typer.main.get_command(app))  # which a callback makes of it
    for command, entry in entries.items():
        made.add_command(Lazy(command, entry))
    return made


def command(name: str, kind: type[Options]) -> TyperCommand:
    """The command of a dataclass."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=type("Command", (Command,), {"kind": kind}))(kind)
    return cast("TyperCommand", typer.main.get_command(app))


class Lazy(TyperCommand):
    """A command that is loaded when it is run, or when its own options are asked for."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self.entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Read a command line as the command itself."""
        return self.load().make_context(info_name, args, parent, **extra)

    @cache  # noqa: B019  as long as the program lasts
    def load(self) -> TyperCommand | TyperGroup:
        """The command itself."""
        module = importlib.import_module(f"cnnscope.cli.{self.entry.module}")
        kind = getattr(module, self.entry.kind)
        name = self.name or ""
        return group(name, module.Group, kind) if isinstance(kind, dict) else command(name, kind)


class Group(TyperGroup):
    """A group whose options are the fields of a dataclass."""

    kind: ClassVar[type[Options]]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: commands in their groups, and then the options."""
        from cnnscope.cli import usage

        groups: dict[str, list[usage.Row]] = {}
        for name in self.list_commands(ctx):
            entry = cast("Lazy", self.get_command(ctx, name)).entry
            groups.setdefault(entry.group, []).append(usage.Row(name, "", entry.help))
        groups["Program"] = [usage.row(one) for one in self.get_params(ctx)]
        formatter.write(usage.drawn(_usage(self, ctx), _text(self, ctx), groups))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, with values as the fields have them."""
        return _converted(super().get_params(ctx), self.kind)


class Program(Group):
    """The program: a model without a command is summarised, and options may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the command out that the words mean."""
        first = args[:1]
        try:
            args = typed.with_command(args, COMMANDS, partial(self._options, ctx))
            ctx.obj.guessed = args[:1] == [typed.DEFAULT] and args[1:2] == first
        except RequestError:
            if not ctx.resilient_parsing:  # while a line is completed
                raise
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Commands and options that begin so, and models where there is none."""
        found = super().shell_complete(ctx, incomplete)
        if found:
            return found
        model = next(one for one in self._params(ctx) if one.name == "model")
        return cast("list[Any]", model.shell_complete(ctx, incomplete))

    def _options(self, ctx: Any) -> Mapping[str, bool]:
        return valued(self._params(ctx))

    def _params(self, ctx: Any) -> list[Any]:
        """Arguments and options of the command that a model alone means."""
        return cast("Lazy", self.get_command(ctx, typed.DEFAULT)).load().get_params(ctx)


class Command(TyperCommand):
    """A command whose arguments and options are the fields of a dataclass."""

    kind: ClassVar[type[Options]]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, options in their groups."""
        from cnnscope.cli import usage

        groups: dict[str, list[usage.Row]] = {}
        for one in self.get_params(ctx):
            argument = one.param_type_name == "argument"
            title = "Arguments" if argument else one.rich_help_panel or "Output"
            groups.setdefault(title, []).append(usage.row(one))
        formatter.write(usage.drawn(_usage(self, ctx), _text(self, ctx), groups))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, with values as the fields have them."""
        return _converted(super().get_params(ctx), self.kind)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write options as they are called here, and the value that one stands without."""
        params = self.get_params(ctx)
        options = valued(params)
        arguments = [one for one in params if one.param_type_name == "argument"]
        layers = any(one.name == "layer" for one in arguments)
        try:
            args = typed.with_options(args, options, layers=layers)
            words = typed.positionals(args, options)
            if len(words) > len(arguments) and all(one.nargs == 1 for one in arguments):
                self.kind.surplus(words)
        except RequestError:
            if not ctx.resilient_parsing:
                raise
        return super().parse_args(ctx, with_values(args, self.kind.bare()))

    def invoke(self, ctx: Any) -> int | None:
        """Carry the command out; its exit code."""
        command = self.kind(**ctx.params)
        try:
            return command.run(ctx.obj)
        except ModelError as error:
            command.failed(error)
            raise


def _text(command: Any, ctx: Any) -> str:
    """The help of a command, and how to read its page."""
    from cnnscope.cli import pages

    while ctx.parent and ctx.parent.parent:  # `cnnscope cache info` is on the page of cache
        ctx = ctx.parent
    topic = ctx.info_name if ctx.parent else ""
    more = f"\n\nMore, with examples: cnnscope help {topic}" if topic in pages.topics() else ""
    return f"{command.help}{more}"


def _usage(command: Any, ctx: Any) -> str:
    """A command with what is written after it, as in `cnnscope rf [OPTIONS] MODEL [LAYER]`."""
    arguments = [one for one in command.get_params(ctx) if one.param_type_name == "argument"]
    words = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments]
    words += [f"[{one.metavar} ...]" for one in arguments if one.nargs == -1]
    words = words or ["COMMAND [ARGUMENTS]"] * isinstance(command, TyperGroup)
    return " ".join([ctx.command_path, "[OPTIONS]", *words])


def valued(params: Sequence[Any]) -> dict[str, bool]:
    """Every option, by each of its names, and whether it takes a value."""
    options = (one for one in params if one.param_type_name == "option")
    return {name: not one.is_flag for one in options for name in (*one.opts, *one.secondary_opts)}


def with_values(args: list[str], bare: Mapping[str, Sequence[str]]) -> list[str]:
    """`--compile` and no mode after it is `--compile=default`."""
    end = args.index("--") if "--" in args else len(args)
    return [
        f"{arg}={bare[arg][0]}" if arg in bare and after not in bare[arg] else arg
        for arg, after in pairwise([*args[:end], ""])
    ] + args[end:]


# -------------------------------------------------------------------------- values of options


def _converted(params: list[Any], kind: Any) -> list[Any]:
    """Arguments and options, converted here; those that say how to write and to run are last."""
    for param in params:
        if "process_value" not in vars(param):
            value = _kinds(kind).get(param.name, bool)
            param.process_value = partial(_processed, param, value, param.process_value)
    return sorted(params, key=lambda param: _LAST.get(param.name, 0))


@cache
def _kinds(kind: Any) -> dict[str, type]:
    """The type of one value of each field: that of `list[str] | None` is str."""

    def one(hint: Any) -> Any:
        found = next(part for part in get_args(hint) or (hint,) if part is not type(None))
        return get_args(found)[0] if get_args(found) else found

    return {name: one(hint) for name, hint in get_type_hints(kind).items()}


def _processed(
    param: Any, kind: type, process: Callable[[Any, Any], Any], ctx: Any, value: Any
) -> Any:
    """Convert a value as `param.process_value(ctx, value)` does, with the same errors.

    Args:
        param: an argument or option of typer.
        kind: the type of one value.
        process: the method itself, for flags, and for what is missing.
        ctx: click's context.
        value: what was typed, or the default.
    """
    several = isinstance(value, (list, tuple))
    missing = value is None or (several and not value)
    if missing and not param.required:
        return None
    if missing or kind is bool:
        return process(ctx, value)
    try:
        value = [_value(one, kind) for one in value] if several else _value(value, kind)
    except ValueError as error:
        raise typer.BadParameter(str(error), ctx=ctx, param=param) from None
    return value if param.callback is None else param.callback(ctx, param, value)


def _value(text: Any, kind: Any) -> Any:
    """One value of an option.

    Raises:
        ValueError: it is none; a sentence for the user.
    """
    if isinstance(text, kind):
        return text
    if issubclass(kind, Enum):
        values = [one.value for one in kind]
        if text not in values:
            raise ValueError(f"{text!r} is not one of {', '.join(map(repr, values))}.")
        return kind(text)
    if kind is Path:
        return Path(text)
    try:
        return kind(text)
    except ValueError:
        word = {int: "integer"}.get(kind, kind.__name__)
        raise ValueError(f"{text!r} is not a valid {word}.") from None
