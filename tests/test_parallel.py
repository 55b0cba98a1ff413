"""Work in processes of its own: all of it is done, and none of it outlives its caller."""

import multiprocessing
import os
import sys
import time

import pytest

from cnnscope import parallel


def square(number):
    return number * number, os.getpid()


def wait(seconds):
    time.sleep(seconds)
    return seconds


def threads():
    return os.environ["OMP_NUM_THREADS"]


def test_each_item_is_worked_on_once_in_other_processes():
    done = list(parallel.each(square, [(n,) for n in range(6)], 2))
    assert sorted(result for result, _ in done) == [n * n for n in range(6)]
    assert os.getpid() not in {pid for _, pid in done}


@pytest.mark.broad
def test_processes_are_replaced_after_so_many_items():
    done = list(parallel.each(square, [(n,) for n in range(4)], 1, most=2))
    assert len({pid for _, pid in done}) == 2


def test_threads_are_told_to_torch():
    assert list(parallel.each(threads, [()], 1, threads=3)) == ["3"]


@pytest.mark.broad
def test_what_runs_is_not_waited_for_when_nobody_asks_for_more():
    began = time.monotonic()
    working = parallel.each(wait, [(0,), (600,), (600,)], 2)
    assert next(working) == 0
    working.close()
    while multiprocessing.active_children() and time.monotonic() - began < 60:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


@pytest.mark.broad
def test_processes_of_the_caller_go_on_where_work_is_given_up():
    own = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    own.start()
    try:
        working = parallel.each(wait, [(0,), (600,)], 2)
        next(working)
        working.close()
        own.join(0.5)
        assert own.is_alive()
    finally:
        own.kill()
        own.join()


def test_an_exception_of_the_work_is_raised():
    with pytest.raises(TypeError):
        list(parallel.each(square, [("a",)], 1))


@pytest.mark.parametrize("triton", [True, False])
def test_garbage_is_looked_for_at_exit_where_triton_would_list_it(monkeypatch, triton):
    frozen = []
    monkeypatch.setattr(parallel.gc, "freeze", lambda: frozen.append(True))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    if triton:
        monkeypatch.setitem(sys.modules, "triton", object())
    parallel._leave_garbage()
    assert bool(frozen) is not triton
