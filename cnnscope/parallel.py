"""The same work for many things, in processes of their own, and what there is to do it with."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def short_lived() -> None:
    """Let this process look for garbage less often, and not once more at its end.

    Importing torch makes objects by the hundred thousand and no garbage; to look for it all the
    same takes a third of that import's time, most of it at exit.
    """
    gc.set_threshold(10_000, 20, 100)
    atexit.register(_leave_garbage)


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

    pool = ProcessPoolExecutor(
        min(processes, len(items)), get_context("spawn"), initializer=_begin, initargs=(threads,)
    )
    try:
        waiting = [pool.submit(work, *item) for item in items]
        for done in as_completed(waiting):
            yield done.result()
    except BaseException:  # interrupted, or nobody asks for more: what runs is not waited for
        for child in active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(threads: int) -> None:
    """Ctrl-C is the parent's; and the cores are shared."""
    import signal

    short_lived()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def free_memory() -> int | None:
    """Bytes that could still be allocated in memory; None where nobody tells."""
    known = [n for n in (_available(), _cgroup_free()) if n is not None]
    return min(known) if known else None


def _available(path: Path = Path("/proc/meminfo")) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return None


def _cgroup_free(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a control group's limit leaves; the page cache in it can be given up."""
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
