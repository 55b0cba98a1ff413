"""Ctrl-C, SIGTERM and SIGHUP: the command unwinds (workers, terminal, files) and exits 128 + n.

Except in the middle of an import. There is nothing to unwind then, and libraries do anything with
an exception that meets them there: torch's C++ aborts the process, others catch it and go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_AGAIN = 0.05  # seconds
_IMPORT = "<frozen importlib."  # of all frames of the import system
_received = 0
_before_exit: list[Callable[[], object]] = []


@contextmanager
def before_exit(restore: Callable[[], object]) -> Iterator[None]:
    """Call something before an exit at once: it waits for no lock, and imports nothing."""
    _before_exit.append(restore)
    try:
        yield
    finally:
        _before_exit.remove(restore)


@contextmanager
def heard(*, to_the_end: bool) -> Iterator[None]:
    """Have these signals raise KeyboardInterrupt; one that is ignored (by `nohup`) stays so.

    Args:
        to_the_end: of the process, which dies quietly of whatever comes after. Python would show
            a traceback of its own leaving.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers}
    hook = sys.unraisablehook
    heard = [n for n in numbers if before[n] in (signal.SIG_DFL, signal.default_int_handler)]
    for number in heard:
        signal.signal(number, _receive)
    sys.unraisablehook = _again(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in heard:
            signal.signal(number, signal.SIG_DFL if to_the_end else before[number])


def forget() -> None:
    """Begin anew: nothing has been received."""
    global _received  # noqa: PLW0603
    _received = 0


def received() -> int:
    """Number of the last signal that was received; 0 for none."""
    return _received


def ended_by() -> tuple[str, int]:
    """Message and exit code of a command that was interrupted."""
    number = _received or signal.SIGINT
    said = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return said, 128 + number


def _receive(number: int, frame: Any) -> None:
    """Unwind; the same signal once more, of those that mean to kill, does so at once."""
    global _received  # noqa: PLW0603
    _received = number
    if _imports(frame):
        _exit()
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def _imports(frame: Any) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False


def _exit() -> None:
    said, code = ended_by()
    for restore in _before_exit:
        with suppress(Exception):
            restore()
    with suppress(OSError):
        os.write(2, f"cnnscope: {said}\n".encode())
    os._exit(code)


def _again(then: Callable[[Any], object]) -> Callable[[Any], None]:
    """A hook that sends a signal again, a moment after a finaliser has swallowed it."""

    def hook(found: Any) -> None:
        if not issubclass(found.exc_type, KeyboardInterrupt):
            then(found)
            return
        import threading

        main = threading.main_thread().ident or 0
        number = _received or signal.SIGINT
        again = threading.Timer(_AGAIN, signal.pthread_kill, (main, number))
        again.daemon = True
        again.start()

    return hook
