"""Fixtures of all tests: a store of their own, and golden files."""

import gc

import pytest
from command_line import OVERWRITE
from paths import GOLDEN

# Importing torch makes objects by the hundred thousand and no garbage: to look for it as often as
# Python does takes a sixth of a sweep's time. The program does the same.
gc.set_threshold(10_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """Tests neither read nor write the user's store; among themselves they share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        yield


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the fast lane: the first case of each test that is not slow, of the zoo, or broad.

    Tests that are marked `fast` by hand have all of their cases in it.
    """
    found = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in found or any(map(item.get_closest_marker, ("slow", "zoo", "broad"))):
            continue
        found.add(test)
        item.add_marker("fast")
