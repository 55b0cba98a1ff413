"""What several test files share: running the command line, and golden files."""

import contextlib
import gc
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cnnscope import cli

# Importing torch makes objects by the hundred thousand and no garbage: to look for it as often as
# Python does takes a sixth of a sweep's time. The program does the same.
gc.set_threshold(10_000, 20, 100)

OVERWRITE = bool(os.environ.get("CNNSCOPE_OVERWRITE"))


class Result(NamedTuple):
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str


def run_cli(*arguments: str) -> Result:
    """Run `cnnscope` in this process, with its output in a pipe."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(list(arguments))
    out.seek(0)
    err.seek(0)
    return Result(code, out.read(), err.read())


def hears_ctrl_c(*arguments: str) -> subprocess.Popen[bytes]:
    """Python in a process of its own, its output in pipes, to be sent a SIGINT."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a job in the background of a shell is born deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """Tests neither read nor write the user's store; among themselves they share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        yield


def without_versions(text: str) -> str:
    """Output without what differs between releases of torchvision and of other counters."""
    text = re.sub(r"torchvision \d+(\.\d+)*", "torchvision X.Y.Z", text)
    return re.sub(r"(torchinfo|fvcore) \d\.\d+\.\d+", r"\1 X.Y.Z", text)


@pytest.fixture
def golden():
    """Compare text with a file; CNNSCOPE_OVERWRITE=1 writes the file instead."""

    def compare(text: str, name: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if OVERWRITE:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare
