"""Isolate user code: send what it prints to stderr, restore the process state that it changes.

It is not a sandbox. Code that is run may do anything; this keeps what such code does in passing
(a working directory, a patched layer, a seed) from changing the next answer of this process.
"""

from __future__ import annotations

import builtins
import codecs
import contextlib
import importlib
import inspect
import io
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import Any, NoReturn

from cnnscope.files import PACKAGE
from cnnscope.text import harmless

SEED = 0  # of random numbers, wherever the user gives no other

# What runs other people's code changes flags, hooks and streams of the whole process for a while:
# one thread at a time. A forward that traces something itself stays in its thread.
alone = threading.RLock()

# ------------------------------------------------------------------------------ what it prints


class _Sink(io.RawIOBase):
    """The bytes of a stream that others may close, detach or replace; they end up in `stream`.

    What a terminal would obey, beyond the ends of lines and tabs, is written out.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, data: Any) -> int:
        text = harmless(self._decoder.decode(bytes(data)), kept="\n\r\t")
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        with contextlib.suppress(ValueError, OSError):  # the stream is closed
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        return len(data)


_lock = threading.Lock()
_ours: list[tuple[Any, Any]] = []  # stdout and stderr, once for each `aside()` that lasts
_descriptors = ExitStack()  # open while there is one of them


@contextmanager
def aside() -> Iterator[None]:
    """Send all that is printed to stderr, by streams that may be closed without harm to ours.

    Several threads may do so at once: the last to leave puts the streams back.
    """
    with _lock:
        _ours.append(_ours[0] if _ours else (sys.stdout, sys.stderr))
        if len(_ours) == 1:
            sys.stdout = sys.stderr = _sink(sys.stderr)
            _descriptors.enter_context(_descriptor_aside(*_ours[0]))
    try:
        yield
    finally:
        with _lock:
            streams = _ours.pop()
            if not _ours:
                with contextlib.suppress(Exception):  # whatever the guest left in its place
                    sys.stdout.flush()
                try:
                    _descriptors.close()
                finally:
                    sys.stdout, sys.stderr = streams


@contextmanager
def warning_once() -> Iterator[None]:
    """Show each warning once, however often a model is built and run, at the model's own line.

    Python forgets what it has shown whenever the filters change, which libraries cause.
    """
    seen: set[str] = set()
    show = warnings.showwarning

    def show_new(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        if filename.startswith(PACKAGE):  # torch was called for the model, which is further out
            filename, lineno = _caller(filename, lineno)
        text = warnings.formatwarning(message, category, filename, lineno)
        if text not in seen:
            seen.add(text)
            show(message, category, filename, lineno, *rest)

    warnings.showwarning = show_new  # type: ignore[assignment]
    try:
        yield
    finally:
        if warnings.showwarning is show_new:
            warnings.showwarning = show


def _caller(filename: str, lineno: int) -> tuple[str, int]:
    """The innermost line that is neither of this package nor of torch, else what was given."""
    from cnnscope.tracing.lines import TORCH

    ours = (PACKAGE, TORCH, warnings.__file__, "<frozen")
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else (filename, lineno)


def _sink(stream: Any) -> Any:
    if stream is None:  # it was closed before we were started
        return io.StringIO()
    return io.TextIOWrapper(io.BufferedWriter(_Sink(stream)), "utf-8", line_buffering=True)


@contextmanager
def _descriptor_aside(out: Any, err: Any) -> Iterator[None]:
    """The same for what programs that the guest starts, and libraries in C, write to stdout."""
    try:
        stdout, stderr = out.fileno(), err.fileno()
        out.flush()
        kept = os.dup(stdout)
    except (AttributeError, OSError, ValueError):  # it is no file, or closed
        yield
        return
    try:
        os.dup2(stderr, stdout)
        yield
    finally:
        os.dup2(kept, stdout)
        os.close(kept)


def raised_in(error: BaseException) -> str:
    """The file in which an exception was raised."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code.co_filename if last is not None else ""


# ----------------------------------------------------------------------------- what it changes


@contextmanager
def same_random() -> Iterator[None]:
    """Restore the state of random numbers (torch, random, numpy) afterwards."""
    import torch

    numpy = sys.modules.get("numpy.random")
    with ExitStack() as stack:
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        stack.callback(random.setstate, random.getstate())
        if numpy is not None:
            stack.callback(numpy.set_state, numpy.get_state())
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            stack.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        yield


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Seed random numbers (torch, random, numpy), and restore their state afterwards."""
    import torch

    numpy = importlib.import_module("numpy.random") if "numpy" in sys.modules else None
    with same_random():
        if numpy is not None:
            numpy.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        yield


@contextmanager
def seeded_on(device: Any, seed: int = SEED) -> Iterator[None]:
    """Random numbers of torch alone, of a fixed seed on the CPU and on a `torch.device`."""
    import torch

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


_WATCHED = 4  # calls of Python for one of a module that is watched: one more than for others
_limits: list[int] = []  # that there was, while there is a higher one


@contextmanager
def deeper(levels: int) -> Iterator[None]:
    """Let calls nest deeper: what runs within the limit of calls runs while it is watched, too.

    Args:
        levels: of modules inside each other. What calls itself without end is to end as ever.
    """
    _limits.append(sys.getrecursionlimit())
    runs = levels * (_WATCHED - 1) <= _limits[-1]
    sys.setrecursionlimit(_limits[-1] + (_WATCHED * levels if runs else 0))
    try:
        yield
    finally:
        sys.setrecursionlimit(_limits.pop())


def recursion_limit() -> int:
    """The limit of calls that there is where nothing is watched."""
    return _limits[0] if _limits else sys.getrecursionlimit()


@contextmanager
def same_modes() -> Iterator[None]:
    """Restore the modes of torch afterwards: user code may set a default device."""
    before = _modes()
    try:
        yield
    finally:
        _restore_flag(_modes, _set_modes, before)


def keep(undo: ExitStack, of_guest: Callable[[str], bool]) -> None:
    """Have `undo` restore, when it is closed, what user code may change of this process.

    Args:
        undo: closed when the guest is not needed any more.
        of_guest: whether a file is the guest's. What a library patches when it is imported stays,
            because it will not be imported again.
    """
    keep_process(undo)
    undo.callback(_restore_list, sys.path, list(sys.path))
    for place in _patchable():
        undo.callback(_unpatch, place, dict(vars(place)), of_guest)


def keep_process(undo: ExitStack) -> None:
    """Have `undo` restore what a forward may change: folder, environment, flags, global hooks."""
    from torch.nn.modules import module

    _keep_alive(undo)
    _keep_directory(undo)
    undo.callback(_restore_environment, dict(os.environ))
    undo.callback(_restore_list, sys.argv, list(sys.argv))
    undo.enter_context(warnings.catch_warnings())
    for read, write in _flags():
        undo.callback(_restore_flag, read, write, read())
    for name, held in vars(module).items():
        if name.startswith("_global_") and isinstance(held, dict):
            undo.callback(_restore_dict, held, dict(held))


class EndedError(SystemExit):
    """`os._exit()` in code that is to leave this process alive."""


def _keep_alive(undo: ExitStack) -> None:
    """Make an exception of `os._exit()`, which ends a process without a word.

    A process that the code has forked ends by it, and so does this one where cnnscope calls it, or
    whoever has kept the function for longer.
    """
    leave, processes = os._exit, {os.getpid()}

    def leaves(status: int) -> NoReturn:
        by = sys._getframe(1).f_code.co_filename
        if os.getpid() not in processes or by.startswith(PACKAGE):
            leave(status)
        raise EndedError(status)

    undo.callback(setattr, os, "_exit", leave)
    undo.callback(processes.clear)
    os._exit = leaves


def called_to_end(error: SystemExit) -> str:
    """The name of the function that code called to end the process."""
    return "os._exit" if isinstance(error, EndedError) else "sys.exit"


def _flags() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Reader and setter of each flag of Python and of torch."""
    import torch

    cudnn, mha = torch.backends.cudnn, torch.backends.mha
    yield sys.getrecursionlimit, sys.setrecursionlimit
    yield torch.get_default_dtype, torch.set_default_dtype
    yield _modes, _set_modes
    yield torch.is_grad_enabled, torch.set_grad_enabled
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    yield mha.get_fastpath_enabled, mha.set_fastpath_enabled
    yield torch.is_anomaly_enabled, torch.set_anomaly_enabled
    yield _matmul_precision, torch.set_float32_matmul_precision
    for place, name in (
        (cudnn, "enabled"),
        (cudnn, "benchmark"),
        (cudnn, "deterministic"),
        (torch._tensor_str, "PRINT_OPTS"),  # print options are one object
    ):
        yield partial(_copied, place, name), partial(setattr, place, name)


def _matmul_precision() -> str:
    """The value that `set_float32_matmul_precision` set, or the nearest to its default."""
    import torch

    try:
        with warnings.catch_warnings():  # torch 2.9 calls it an old setting
            warnings.simplefilter("ignore")
            return torch.get_float32_matmul_precision()
    except RuntimeError:  # set for one backend, by newer names
        return "highest"


def _copied(place: Any, name: str) -> Any:
    return copy(getattr(place, name))


def _patchable() -> list[Any]:
    """Places that users patch: torch's namespaces and the classes of its layers."""
    import torch
    from torch import nn

    layers = [value for value in vars(nn).values() if isinstance(value, type)]
    return [torch, torch.Tensor, nn, nn.functional, nn.init, builtins, *layers]


def _unpatch(place: Any, before: dict[str, Any], of_guest: Callable[[str], bool]) -> None:
    for name, value in list(vars(place).items()):
        known = name in before
        if known and before[name] is value:
            continue
        whose = _file(value)
        if of_guest(whose) if whose else known and not inspect.ismodule(value):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(place, name, before[name]) if known else delattr(place, name)
    for name in before.keys() - vars(place).keys():
        with contextlib.suppress(AttributeError, TypeError):
            setattr(place, name, before[name])


def _file(value: Any) -> str:
    """The file in which a function or class was written, "" where there is none."""
    value = getattr(value, "__func__", value)  # of a class method
    value = getattr(value, "fget", value)  # of a property
    code = getattr(value, "__code__", None)
    if code is not None:
        return str(code.co_filename)
    if isinstance(value, type):
        return getattr(sys.modules.get(value.__module__), "__file__", None) or ""
    return ""


def _keep_directory(undo: ExitStack) -> None:
    with contextlib.suppress(OSError):  # there may be none any more
        undo.callback(_change_directory, os.getcwd())  # noqa: PTH109


def _change_directory(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(folder)


def _restore_environment(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


def _restore_list(held: list[str], before: list[str]) -> None:
    held[:] = before


def _restore_dict(held: dict[Any, Any], before: dict[Any, Any]) -> None:
    held.clear()
    held.update(before)


def _modes() -> Any:
    """The modes that functions of torch run in; the default device is one of them."""
    import torch

    size = torch._C._len_torch_function_stack()
    stack = [torch._C._get_function_stack_at(i) for i in range(size)]
    place = torch._GLOBAL_DEVICE_CONTEXT
    return tuple(stack), getattr(place, "device_context", None)


def _set_modes(before: Any) -> None:
    import torch

    stack, context = before
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in stack:
        torch._C._push_on_torch_function_stack(mode)
    place = torch._GLOBAL_DEVICE_CONTEXT
    if context is not None:
        place.device_context = context
    elif hasattr(place, "device_context"):  # torch 2.9 takes one of None for one of a device
        del place.device_context


def _restore_flag(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    if read() != before:
        write(before)
