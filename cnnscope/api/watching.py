"""Summarise a file again and again while it is edited, and know which files it is made of."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.api.commands import diff, summary
from cnnscope.api.reports import Report
from cnnscope.api.traces import traced
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.request import Request
from cnnscope.records.summary import ModelReport
from cnnscope.records.trace import Trace

if TYPE_CHECKING:
    from cnnscope.api.traces import Cache

Stamp = tuple[int, int, int]  # time, size and number of a file: (0, 0, 0) for one that is not there


class Seen(NamedTuple):
    """One reading of a file.

    Attributes:
        report: the summary; None where it failed.
        trace: what the summary is of.
        error: why it failed, in a sentence.
        files: Python files of the user's that were read, as far as it came.
    """

    report: Report[ModelReport] | None
    trace: Trace | None
    error: str
    files: frozenset[str]


def check(request: Request) -> None:
    """Refuse what cannot be followed.

    Raises:
        RequestError: the model is no file, or one at a revision, which never changes.
    """
    if request.model.source != "file":
        raise RequestError(
            f"--watch follows a file: {request.name} is none; name it as path/net.py:Net"
        )
    if request.model.revision:
        raise RequestError(
            f"--watch: a file at a revision never changes; leave {request.model.revision}: out"
        )


def read(request: Request, cache: Cache) -> Seen:
    """Summarise the model once; an error is part of the answer.

    Args:
        request: which model.
        cache: as for `summary`.
    """
    from cnnscope.models.files import loading

    with loading.recorded() as files:
        try:
            trace = traced(request, cache)
            return Seen(summary(trace), trace, "", frozenset(files))
        except CnnscopeError as error:
            return Seen(None, None, str(error), frozenset(files | _named(error)))


def changes(before: Trace, after: Trace) -> list[tuple[str, str]]:
    """What changed between two readings, as titled sentences; none where nothing did."""
    report = diff(before, after)
    return [] if not report.record.differs else list(report.page().above)


def stamps(files: Iterable[str]) -> dict[str, Stamp]:
    """What tells a file that was saved from the one before."""
    return {file: _stamp(file) for file in files}


def _stamp(file: str) -> Stamp:
    try:
        found = os.stat(file)  # noqa: PTH116  asked twenty times a second
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _named(error: BaseException) -> set[str]:
    """Files that are no Python, which an error and its causes name."""
    found: set[str] = set()
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, SyntaxError) and at.filename and Path(at.filename).is_file():
            found.add(str(at.filename))
        at = at.__cause__ or at.__context__
    return found
