"""The command line: parse, call one function, render, exit code. Nothing else prints."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Any

import typer

from cnnscope import __version__
from cnnscope.cli import (
    bench,
    check,
    diff,
    explain,
    list_,
    options,
    out,
    rf,
    stack,
    stages,
    summary,
)
from cnnscope.cli.cache import cache
from cnnscope.errors import CnnscopeError
from cnnscope.parallel import short_lived
from cnnscope.text import printable, said

INTERNAL = 70  # the exit code of a mistake of ours, as in sysexits.h

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

_debug = False


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
    global _debug  # noqa: PLW0603
    del version  # its callback has done it
    _debug = debug


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit: 0 good, 2 wrong request, 3 model failed, 130 Ctrl-C.

    1 is the answer "no" of what was asked, 70 a mistake of this program.
    """
    short_lived()
    if os.environ.get("_CNNSCOPE_COMPLETE") == "complete_bash":
        from cnnscope.cli import completion

        raise SystemExit(completion.with_colons(lambda: run(arguments)))
    raise SystemExit(run(arguments))


def run(arguments: list[str] | None = None) -> int:  # noqa: PLR0911  each way to end has its code
    """Run a command line; the exit code."""
    try:
        result: Any = app(arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except CnnscopeError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader has seen enough
        _silence(sys.stdout)
        return 141
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise  # completion
        return 141  # typer has caught it
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except Exception as error:  # noqa: BLE001  a person is not shown a traceback
        return _other(error)
    if result == 130:  # typer has caught Ctrl-C
        return _fail("interrupted", 130)
    return result if isinstance(result, int) else 0


def _other(error: Exception) -> int:
    """A mistake on the command line, a stdout that takes nothing, or a mistake of ours."""
    if _is_usage_error(error):
        return _misused(error)
    if isinstance(error, OSError) and error.filename is None:
        _silence(sys.stdout)
        return _fail(f"stdout cannot be written ({error.strerror or error})", 2)
    if isinstance(error, MemoryError):
        return _fail("there is not enough memory", 3)
    remedy = "" if _debug else "; cnnscope --debug shows where, please report it"
    return _fail(f"internal error: {said(error)}{remedy}", INTERNAL)


def _fail(message: str, code: int) -> int:
    if _debug and sys.exc_info()[1] is not None:
        import traceback

        traceback.print_exc()
    out.note(message)
    return code


def _misused(error: Any) -> int:
    """What the argument parser has to say, in one line; nothing asked for is a page of help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    hint = f" ({context.command_path} --help)" if context is not None else ""
    return _fail(f"{printable(message, 300).rstrip('.')}{hint}", 2)


def _is_usage_error(error: Exception) -> bool:
    """An error of the argument parser, which knows how to show itself."""
    return hasattr(error, "show") and hasattr(error, "exit_code")


def _silence(stream: Any) -> None:
    """Keep the interpreter from complaining again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
