"""Write files that the caller names, and read saved traces, which may be anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from cnnscope.errors import RequestError
from cnnscope.files import read_regular, why, write_whole
from cnnscope.records.trace import TRACE_SCHEMA, Trace
from cnnscope.text import printable, said

T = TypeVar("T", bound=Trace)
_LARGEST = 2**30  # bytes of a saved trace


def save(path: str | Path, content: bytes) -> None:
    """Write a whole file.

    Args:
        path: of the file.
        content: of the file.

    Raises:
        RequestError: it cannot be written; what was there stays.
    """
    try:
        write_whole(Path(path), content)
    except (OSError, ValueError) as error:
        raise RequestError(f"{printable(str(path))}: cannot be written ({why(error)})") from error


def load(path: str | Path, kind: type[T]) -> T:
    """Read a trace that was saved, as an instance of `kind`.

    Raises:
        RequestError: it cannot be read, or is no trace that an analysis could read.
    """
    name = printable(str(path))
    try:
        content = read_regular(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise RequestError(f"{name}: cannot be read ({why(error)})") from error
    return _decoded(kind, content, name)


def _decoded(kind: type[T], content: bytes, name: str) -> T:
    """The trace in a file's content.

    Raises:
        RequestError: it is none that an analysis could read.
    """
    from cnnscope.reports.summary import report

    class Version(msgspec.Struct):
        schema_version: int

    coder = msgspec.json if content.lstrip()[:1] == b"{" else msgspec.msgpack
    try:
        version = coder.decode(content, type=Version).schema_version
        if version != TRACE_SCHEMA:
            raise RequestError(
                f"{name}: a trace of another version of cnnscope (schema {version}, not "
                f"{TRACE_SCHEMA}); trace the model anew"
            )
        found: T = coder.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"{name}: no trace that Trace.save wrote ({said(error)}); give one"
        ) from error
    if wrong := next(_contradictions(found), ""):
        raise RequestError(f"{name}: the trace contradicts itself ({wrong}); trace the model anew")
    try:
        report(found)  # what the analyses cannot read is no trace, whatever its types are
    except Exception as error:
        raise RequestError(
            f"{name}: the trace contradicts itself ({said(error)}); trace the model anew"
        ) from error
    return found


def _contradictions(trace: Trace) -> Iterator[str]:
    """References of a trace to something that is not there, or that comes later."""
    tensors, calls, ops = (range(len(one)) for one in (trace.tensors, trace.calls, trace.ops))
    if not trace.modules or not calls or trace.calls[0].parent != -1:
        yield "there is no model, or no call of it"
    read = [*trace.inputs, *trace.outputs, *(one.tensor for one in (*trace.params, *trace.strays))]
    for one in (*trace.calls, *trace.within):
        read += (*one.inputs, *one.outputs)
    for op in trace.ops:
        read += (*op.tensors, *op.outputs)
    if not all(tensor in tensors for tensor in read):
        yield "a tensor that is not there"
    if any(one.module not in range(len(trace.modules)) for one in (*trace.calls, *trace.within)):
        yield "a call of a module that is not there"
    if any(not -1 <= call.parent < index for index, call in enumerate(trace.calls)):
        yield "a call by one that began later"
    if any(one.call not in calls and one.call != -1 for one in trace.ops) or any(
        one.parent not in calls and one.parent != -1 for one in trace.within
    ):
        yield "an operation of a call that is not there"
    storages = [*(one.storage for one in trace.tensors), *trace.host]
    if any(one not in range(len(trace.storages)) for one in storages) or any(
        not -1 <= one.born <= one.died <= len(ops) or one.nbytes < 0 for one in trace.storages
    ):
        yield "a storage that is not there, or ends before it begins"
    form = trace.form
    amiss = form is not None and form.count != len(trace.inputs)
    if amiss or any(size < 0 for one in trace.tensors for size in one.shape):
        yield "a negative size, or inputs that its call does not have"
