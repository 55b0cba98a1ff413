"""Freeze what was recorded of a run into a trace."""

from __future__ import annotations

import inspect
from typing import Any

from cnnscope.records.trace import ParamRecord, Source, StorageRecord, Trace, least_exact
from cnnscope.tracing import chance, in_place, training
from cnnscope.tracing.calls import Calls, Modules
from cnnscope.tracing.plain import tensors_in
from cnnscope.tracing.storages import Storages


def finished(
    modules: Modules,
    calls: Calls,
    result: Any,
    *,
    source: Source,
    device: str,
    notes: tuple[str, ...],
) -> Trace:
    """The trace of a forward that has returned `result`."""
    book = calls.book
    outputs = tuple(map(book.read, tensors_in(result)))
    end = book.end()
    in_place.resolve_in_operations(book)
    storages = _storages(book, end)
    called = calls.records()
    given = (*outputs, *(tensor for call in called for tensor in call.outputs))
    bools = {i for i, tensor in enumerate(book.tensors) if tensor.dtype == "bool"}
    return Trace(
        source=source,
        inputs=modules.inputs,
        outputs=outputs,
        modules=tuple(modules.records),
        calls=called,
        params=_params(modules, book, outputs),
        tensors=tuple(book.tensors),
        storages=storages,
        ops=tuple(book.ops),
        device=device,
        notes=(*notes, *_missing(calls, result), *book.doubts),
        strays=tuple(modules.strays.values()),
        decided_by=chance.decided_by(book.ops, modules.inputs, given, bools),
        within=tuple(calls.within),
        dropouts=tuple(book.dropouts),
        nothing=training.missing(result),
        late=modules.storages_of_late(),
        host=tuple(book.host),
        accuracy=least_exact(book.doubts.values()),
    )


def _storages(book: Storages, end: int) -> tuple[StorageRecord, ...]:
    """Every storage; one that lives on dies at the end."""
    return tuple(
        StorageRecord(nbytes, born, end if died < 0 else died) for nbytes, born, died in book.lives
    )


def _params(modules: Modules, book: Storages, outputs: tuple[int, ...]) -> tuple[ParamRecord, ...]:
    """Parameters and buffers, with whether anything has read them."""
    read = _storages_read(book, outputs)
    return tuple(
        _with_use(
            param,
            used=param.tensor in modules.packed or book.tensors[param.tensor].storage in read,
        )
        for param in modules.params
    )


def _with_use(param: ParamRecord, *, used: bool) -> ParamRecord:
    return ParamRecord(
        param.path, param.tensor, param.aliases, param.trainable, param.buffer, used=used
    )


def _storages_read(book: Storages, outputs: tuple[int, ...]) -> set[int]:
    """The storages that an operation has read from, or that the model returns.

    A view reads nothing: an operation on it may have raised, and the model caught that.
    """
    tensors = book.tensors
    found = {tensors[tid].storage for tid in outputs}
    for op in book.ops:
        written = op.name.split(".")[1].endswith("_") if "." in op.name else False
        made = set() if written else {tensors[tid].storage for tid in op.outputs}
        found.update({tensors[t].storage for t in op.tensors} - made)
    return found


def _missing(calls: Calls, result: Any) -> tuple[str, ...]:
    """Sentences about what is not in the trace; a generator that was returned is closed."""
    missing = tuple(
        f"{path} ran in another thread, where it is not followed: it is missing above"
        for path in calls.elsewhere
    )
    if inspect.isgenerator(result) or inspect.iscoroutine(result):
        result.close()
        what = type(result).__name__
        missing += (f"forward returned a {what}: nothing ran of what it would have done",)
    return missing
