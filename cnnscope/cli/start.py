"""From the process to a command and back: signals, exit codes, one message for all that goes wrong.

Nothing is imported here before the handlers of signals stand.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in `typing`, which has not been imported
if TYPE_CHECKING:
    from typing import Any

    from cnnscope.cli.session import Session

INTERNAL = 70  # the exit code of a mistake of ours, as in sysexits.h


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit.

    0 good, 1 the answer is "no", 2 wrong request, 3 constructor or forward raised, 70 a mistake of
    this program; 128 + n where signal n ended it, so 130 for Ctrl-C.
    """
    try:
        from cnnscope.cli import signals

        with signals.heard(to_the_end=arguments is None):
            code = _main(arguments)
    except KeyboardInterrupt:  # before the handlers stand, or again while the first is reported
        os._exit(130)
    if arguments is None:
        _close_stdout()
    raise SystemExit(code)


def _close_stdout() -> None:
    """Send to stderr what a model's code prints while the process ends: stdout has the report."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(2, 1)
    except (OSError, ValueError):  # one of them is closed
        return


def _main(arguments: list[str] | None) -> int:
    from cnnscope.parallel import short_lived

    short_lived()
    if os.environ.get("_CNNSCOPE_COMPLETE") == "complete_bash":
        from cnnscope.cli import completion

        return completion.with_colons(lambda: run(arguments))
    return run(arguments)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit code."""
    from cnnscope.cli import signals

    signals.forget()
    session = None
    try:
        from cnnscope.cli.session import Session

        session = Session()
        code = _twice(arguments, session)
    except KeyboardInterrupt:
        return _interrupted(session)
    except Exception as error:  # noqa: BLE001  users are not shown a traceback
        # Libraries turn an interrupt of their import into whatever they like.
        return _interrupted(session) if signals.received() else _failed(error, session)
    return _interrupted(session) if code == 130 else code  # of a command that kept what it had


def _twice(arguments: list[str] | None, session: Session) -> int:
    """Run, and once more without the entries read from the store where one of them was to blame."""
    from cnnscope.cli import signals
    from cnnscope.tracing import isolation

    try:
        with isolation.warning_once():
            return _run(arguments, session)
    except Exception as error:
        if signals.received() or not _unexpected(error) or not session.distrust():
            raise
        return _run(arguments, session)


def _run(arguments: list[str] | None, session: Session) -> int:
    from typer import Abort

    from cnnscope.cli.commands import program

    try:
        result: Any = program()(arguments, standalone_mode=False, obj=session)
        if sys.stdout is not None:
            sys.stdout.flush()
    except Abort as error:
        raise (error.__cause__ or KeyboardInterrupt) from None
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise  # completion
        return 141  # typer has caught it
    return result if isinstance(result, int) else 0


def _unexpected(error: Exception) -> bool:
    """Return True for an exception that is a fault of this program."""
    from cnnscope.errors import CnnscopeError
    from cnnscope.models import installed

    if installed.broken(error):
        return False
    known = isinstance(error, (CnnscopeError, BrokenPipeError)) or _of_parser(error)
    return not known and not (isinstance(error, OSError) and error.filename is None)


def _of_parser(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(error, "exit_code")


def _interrupted(session: Session | None) -> int:
    from cnnscope.cli import signals

    return _fail(*signals.ended_by(), session)


def _failed(error: Exception, session: Session | None) -> int:
    """Print why a command line failed: the model, the request or this program; the exit code."""
    from cnnscope.errors import CnnscopeError, UnknownModelError

    if isinstance(error, CnnscopeError):
        guessed = isinstance(error, UnknownModelError) and session is not None and session.guessed
        end = "" if str(error).endswith("?") else ";"
        hint = f"{end} the commands: cnnscope --help" if guessed else ""
        code = _fail(f"{error}{hint}", error.exit_code, session)
        return _advised(error.lines, code)
    if isinstance(error, BrokenPipeError):  # the reader has seen enough
        _silence(sys.stdout)
        return 141
    if _of_parser(error):
        return _misused(error, session)
    return _fail(*_unforeseen(error), session)


def _advised(lines: tuple[str, ...], code: int) -> int:
    """Print lines of Python that the user may write; the exit code."""
    if lines:
        from cnnscope.cli import out

        out.lines(lines)
    return code


def _unforeseen(error: Exception) -> tuple[str, int]:
    """Message and exit code for an exception that is none of this package's."""
    from cnnscope.models import installed
    from cnnscope.text import said

    sentence = installed.broken(error)
    if sentence:
        return sentence, 2
    if isinstance(error, OSError) and error.filename is None:
        _silence(sys.stdout)
        return f"stdout cannot be written ({error.strerror or error})", 2
    if isinstance(error, MemoryError):
        return "there is not enough memory", 3
    return f"internal error: {said(error)}", INTERNAL


def _fail(message: str, code: int, session: Session | None) -> int:
    from cnnscope.cli import out

    debug = session is not None and session.debug
    if debug and sys.exc_info()[1] is not None:
        import traceback

        traceback.print_exc()
    elif code == INTERNAL:
        message += "; cnnscope --debug shows where, please report it"
    out.note(message, failed=code != 130)
    return code


def _misused(error: Any, session: Session | None) -> int:
    """Print the argument parser's error in one line, or the help if there are no arguments."""
    from cnnscope.text import printable

    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if type(error).__name__ == "MissingParameter" and context is not None:
        message = f"{message.rstrip('.')}{_example(context.command.help)}"
    hint = f" ({context.command_path} --help)" if context is not None else ""
    return _fail(f"{printable(message, 300).rstrip('.')}{hint}", 2, session)


def _example(text: str | None) -> str:
    """The example in the help of a command, for a message."""
    for line in (text or "").splitlines():
        before, _, example = line.partition("Example: ")
        if example and not before.strip():
            return f", as in: {example}"
    return ""


def _silence(stream: Any) -> None:
    """Redirect a broken stream to the null device, which the interpreter flushes at exit."""
    import contextlib

    with contextlib.suppress(OSError, ValueError, AttributeError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
