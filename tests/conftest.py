"""Fixtures of all tests: a store of their own, and golden files."""

import gc
import os
import signal

import pytest
from command_line import OVERWRITE
from paths import GOLDEN

# Importing torch makes objects by the hundred thousand and no garbage: to look for it as often as
# Python does takes a sixth of a sweep's time. The program does the same.
gc.set_threshold(10_000, 20, 100)

# Workers of pytest-xdist (`-n 2`) share the cores; torch would start a thread for each in each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job in the background of a shell is born deaf to Ctrl-C, which tests send to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """Tests neither read nor write the user's store; among themselves they share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(autouse=True)
def _searches_end_by_calls(request, monkeypatch):
    """A search for sizes that work ends after so many calls; on a busy machine after seconds.

    What it finds until then, and so what is said, would be another thing there. Tests of the
    seconds are marked `timed`.
    """
    if not request.node.get_closest_marker("timed"):
        from cnnscope.models.trials import Trials

        monkeypatch.setattr(Trials, "seconds", lambda _: 0.0)
        monkeypatch.setattr(Trials, "_time_spent", lambda _: 0.0)


@pytest.fixture
def golden():
    """Compare text with a file; CNNSCOPE_OVERWRITE=1 writes the file instead."""

    def compare(text: str, name: str) -> None:
        path = GOLDEN / name
        if OVERWRITE:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file to a process: what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the fast lane: the first case of each test that is not slow, of the zoo, or broad.

    Tests that are marked `fast` by hand have all of their cases in it.
    """
    found = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in found or any(map(item.get_closest_marker, ("slow", "zoo", "broad", "browser"))):
            continue
        found.add(test)
        item.add_marker("fast")
