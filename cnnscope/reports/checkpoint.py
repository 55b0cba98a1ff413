"""The report on a file that holds weights alone: what a checkpoint says, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

from cnnscope.errors import RequestError
from cnnscope.models.files import checkpoint
from cnnscope.records.checkpoint import CheckpointReport, StoredModule, StoredTensor
from cnnscope.text import printable

# Buffers of batch and instance norms, by the names that torch gives them.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_MOST = 2**18  # modules that keys may name: more than the tensors that are read
_DEEPEST = 64  # levels that a key is split into


def checkpoint_report(name: str) -> CheckpointReport:
    """Keys, shapes, dtypes and bytes of a checkpoint, gathered by the modules in its keys.

    Nothing is computed and no code from the file is run.

    Args:
        name: path of a file that `torch.save` wrote of a state dict (alone, or under a key such as
            `state_dict`), or of a safetensors file.

    Raises:
        RequestError: the file is something else, is damaged, or wants code to be run.
    """
    contents = checkpoint.read(name)
    tensors = _named(contents.tensors)
    whole = _module("", 0, tensors, ())
    return CheckpointReport(
        file=name,
        format=contents.format,
        file_bytes=Path(name).stat().st_size,
        root=contents.root,
        modules=tuple(_modules(tensors, name)),
        tensors=tensors,
        elements=whole.elements,
        nbytes=whole.nbytes,
        statistics=sum(t.elements for t in _once(tensors) if _is_statistic(t)),
        unreferenced_bytes=max(0, contents.storage_bytes - whole.nbytes),
        others=contents.others,
    )


def _named(stored: Iterable[checkpoint.Stored]) -> tuple[StoredTensor, ...]:
    """The tensors, each with the first name of its memory."""
    first: dict[object, str] = {}
    found = []
    for tensor in stored:
        other = first.setdefault(tensor.memory, tensor.key)
        elements = prod(tensor.shape)
        same_as = "" if other == tensor.key or not elements else other
        found.append(
            StoredTensor(tensor.key, tensor.shape, tensor.dtype, elements, tensor.nbytes, same_as)
        )
    return tuple(found)


def _modules(tensors: Sequence[StoredTensor], file: str) -> list[StoredModule]:
    """A row for the whole and for every prefix of a key, each before what is below it."""
    below: dict[str, list[StoredTensor]] = {"": []}
    own: dict[str, list[StoredTensor]] = {}
    for tensor in tensors:
        parts = tensor.path.split(".", _DEEPEST)
        for n in range(len(parts)):
            below.setdefault(".".join(parts[:n]), []).append(tensor)
        if len(below) > _MOST:
            raise RequestError(
                f"{printable(file)} has keys of more than {_MOST:,} modules, too many to list"
            )
        own.setdefault(".".join(parts[:-1]), []).append(tensor)
    rows = [
        _module(path, path.count(".") + 1 if path else 0, held, own.get(path, ()))
        for path, held in below.items()
    ]
    return _as_tree(rows)


def _as_tree(rows: Sequence[StoredModule]) -> list[StoredModule]:
    """Rows in the order of a walk through the tree, whatever the order of the keys was."""
    children: dict[str, list[StoredModule]] = {}
    for row in rows[1:]:
        children.setdefault(row.path.rpartition(".")[0], []).append(row)
    walked: list[StoredModule] = []
    waiting = [rows[0]]
    while waiting:
        row = waiting.pop()
        walked.append(row)
        waiting += reversed(children.get(row.path, []))
    return walked


def _module(
    path: str, depth: int, held: Sequence[StoredTensor], own: Sequence[StoredTensor]
) -> StoredModule:
    once = _once(held)
    return StoredModule(
        path,
        depth,
        tensors=len(held),
        elements=sum(t.elements for t in once),
        nbytes=sum(t.nbytes for t in once),
        dtypes=tuple(dict.fromkeys(t.dtype for t in held)),
        own=tuple(own),
    )


def _once(held: Iterable[StoredTensor]) -> list[StoredTensor]:
    """One tensor of each memory."""
    return list({t.same_as or t.path: t for t in held}.values())


def _is_statistic(tensor: StoredTensor) -> bool:
    return tensor.path.rpartition(".")[2] in _STATISTICS
