"""Memory against recomputation: which of a network's blocks to checkpoint first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cnnscope.ops import table
from cnnscope.records.memory import CheckpointChoice
from cnnscope.records.step import StepTrace

_PARTS = 4  # of the blocks, of which one to all are wrapped


def subsets(plain: StepTrace, blocks: Sequence[str]) -> list[tuple[str, ...]]:
    """Quarters of the blocks, in the order of the network: those that save most for a MAC first.

    Each is in the next one; all blocks are not among them.

    Args:
        plain: a step without checkpoints.
        blocks: paths of modules, none of which lies in another.
    """
    saved, again = _of_blocks(plain, blocks)
    order = sorted(blocks, key=lambda path: -saved[path] / max(again[path], 1))
    sizes = {round(len(blocks) * part / _PARTS) for part in range(1, _PARTS)} - {0, len(blocks)}
    return [tuple(sorted(order[:size], key=blocks.index)) for size in sorted(sizes)]


def _of_blocks(plain: StepTrace, blocks: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Bytes that the forward of each block keeps for the backward pass, and its MACs."""
    trace = plain.trace
    owners = [_owner(plain.path(number), blocks) for number in range(plain.backward)]
    saved: Counter[str] = Counter()
    again: Counter[str] = Counter()
    for kind, storage in zip(plain.kinds(), trace.storages, strict=True):
        if kind == "saved":
            saved[owners[storage.born]] += storage.nbytes
    for owner, record in zip(owners, trace.ops, strict=False):
        again[owner] += table.macs(trace, record)
    return saved, again


def _owner(path: str, blocks: Iterable[str]) -> str:
    """The block that a module is, or lies in; "" for none."""
    return next((one for one in blocks if f"{path}.".startswith(f"{one}.")), "")


def best(choices: Iterable[CheckpointChoice]) -> tuple[CheckpointChoice, ...]:
    """The choices of which no other takes less memory without more MACs, by their MACs."""
    kept: list[CheckpointChoice] = []
    for one in sorted(choices, key=lambda one: (one.recomputed, one.tensors)):
        if not kept or one.tensors < kept[-1].tensors:
            kept.append(one)
    return tuple(kept)
