"""The same work for many things, in processes of their own, and what there is to do it with."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

T = TypeVar("T")

_PATIENCE = 2.0  # seconds that a worker has for its end
_TERMINATED = 128 + signal.SIGTERM
_PR_SET_PDEATHSIG = 1


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def short_lived() -> None:
    """Let this process look for garbage less often, and not once more at its end.

    Importing torch makes objects by the hundred thousand and no garbage; to look for it all the
    same takes a third of that import's time, most of it at exit.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(_leave_garbage)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Look for no garbage meanwhile: among 100,000 new records it takes a third longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _leave_garbage() -> None:
    """Take everything for no garbage, unless Triton is there: it would list what it misses."""
    if "triton" not in sys.modules:
        gc.freeze()


def each(
    work: Callable[..., T],
    items: Sequence[tuple[object, ...]],
    processes: int,
    *,
    threads: int = 1,
    most: int | None = None,
) -> Iterator[T]:
    """`work(*item)` for each of `items`, in the order in which they are done.

    Args:
        work: a function of a module.
        items: its arguments.
        processes: how many at a time.
        threads: of torch, in each.
        most: items for each process, after which all are replaced (and their memory is free).
            `max_tasks_per_child` would do it, but hangs (python/cpython#115634).
    """
    size = processes * most if most else len(items)
    for begin in range(0, len(items), size or 1):
        yield from _batch(work, items[begin : begin + size], processes, threads)


def _batch(
    work: Callable[..., T], items: Sequence[tuple[object, ...]], processes: int, threads: int
) -> Iterator[T]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    size, spawn = min(processes, len(items)), get_context("spawn")
    others = active_children()  # of the caller, who may load data meanwhile
    with _deaf("SIGHUP"):  # as is the process that the pool starts to look after semaphores
        pool = ProcessPoolExecutor(size, spawn, initializer=_begin, initargs=(threads,))
    try:
        with _deaf("SIGHUP", "SIGINT"), _without_main():
            waiting = [pool.submit(_one, work, item) for item in items]
        for done in as_completed(waiting):
            yield done.result()
    except BaseException:  # interrupted, or the caller wants no more: what runs is not waited for
        _end([child for child in active_children() if child not in others])
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _deaf(*names: str) -> Iterator[None]:
    """Hold signals back; a process that is started meanwhile never hears them.

    A terminal sends them to all processes, and Python shows a traceback while it starts.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.Signals[name] for name in names})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep new processes from running the main script: work is a function of a module.

    A script that does not ask for its `__name__` would begin its own work again in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end(children: Sequence[BaseProcess]) -> None:
    """End processes; each has `_PATIENCE` seconds to remove what it was writing."""
    for child in children:
        child.terminate()
    latest = time.monotonic() + _PATIENCE
    for child in children:
        child.join(max(latest - time.monotonic(), 0))
        if child.is_alive():
            child.kill()


# ------------------------------------------------------------------------------ in a worker

_working = False


def _begin(threads: int) -> None:
    """Ctrl-C is the parent's, whose end is the worker's as well; and the cores are shared."""
    short_lived()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    _die_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(threads)


def _one(work: Callable[..., T], item: tuple[object, ...]) -> T:
    """One piece of work, in whose middle the worker may be ended."""
    global _working  # noqa: PLW0603
    _working = True
    try:
        return work(*item)
    except KeyboardInterrupt:
        os._exit(_TERMINATED)
    finally:
        _working = False


def _leave(*_: object) -> None:
    """Unwind, so that half a file is removed; the pool would take SystemExit for an answer."""
    if not _working:
        os._exit(_TERMINATED)
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """A parent that is killed cannot end its workers, which hold gigabytes and its stdout.

    Linux kills them (`PR_SET_PDEATHSIG`, prctl(2)); elsewhere, and if the parent was quicker, a
    thread waits for its end.
    """
    import ctypes
    from multiprocessing import connection, parent_process
    from threading import Thread

    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(_TERMINATED)

    Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


# ------------------------------------------------------------------------------ the machine


def free_memory() -> int | None:
    """Bytes that could still be allocated in memory; None where the system does not say."""
    known = [n for n in (_available(), _cgroup_free()) if n is not None]
    return min(known) if known else None


def _available(path: Path = Path("/proc/meminfo")) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_free(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a control group's limit leaves; its page cache can be given up."""
    for folder, limit, used in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            taken = int((folder / used).read_text()) - _page_cache(folder / "memory.stat")
            return int((folder / limit).read_text()) - taken
    return None


def _page_cache(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0
