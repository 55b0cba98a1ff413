"""The commands, and the options that stand before them."""

from __future__ import annotations

from typing import Annotated

import typer

from cnnscope import __version__
from cnnscope.cli import (
    bench,
    check,
    diff,
    explain,
    list_,
    options,
    rf,
    stack,
    stages,
    summary,
)
from cnnscope.cli.cache import cache

app = typer.Typer(
    name="cnnscope",
    help="The truth about a convolutional network before you train it.\n\n"
    "Example: cnnscope summary resnet18",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(options.cached(summary.summary))
app.command()(options.cached(rf.rf))
app.command()(options.cached(explain.explain))
app.command()(options.cached(diff.diff))
app.command()(options.cached(stages.stages))
app.command()(stack.stack)
app.command(cls=bench.Command)(bench.bench)
app.command()(options.cached(check.check))
app.command("list")(options.cached(list_.list_))
app.add_typer(cache)

debugging = False


def _version(wanted: bool) -> None:
    """Print the version before anything else is parsed."""
    if wanted:
        typer.echo(f"cnnscope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    global debugging  # noqa: PLW0603
    del version  # its callback has done it
    debugging = debug
