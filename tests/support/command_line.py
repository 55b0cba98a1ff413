"""Run the command line in this process, or in one of its own that Ctrl-C interrupts."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from typing import NamedTuple

from cnnscope import cli

OVERWRITE = bool(os.environ.get("CNNSCOPE_OVERWRITE"))


class Result(NamedTuple):
    """Exit code and output of a command line."""

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
    """Start Python in a process of its own that a SIGINT interrupts, with its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a job in the background of a shell is born deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def without_versions(text: str) -> str:
    """Replace the versions of torchvision and of other counters in an output."""
    text = re.sub(r"torchvision \d+(\.\d+)*", "torchvision X.Y.Z", text)
    return re.sub(r"(torchinfo|fvcore) \d\.\d+\.\d+", r"\1 X.Y.Z", text)
