"""Refusals, before anything is measured, of what would not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnscope.records.bench import BenchSettings
from cnnscope.records.trace import Trace
from cnnscope.timing import machine, work

if TYPE_CHECKING:
    import torch

    from cnnscope.timing.programs import Prepared


def check_fit(
    device: torch.device,
    settings: BenchSettings,
    labels: Sequence[str],
    traces: Sequence[Trace],
    built: int,
) -> None:
    """Refuse models that cannot fit, by their traces.

    Args:
        device: where they are to run.
        settings: of the run.
        labels: names of the models.
        traces: of the models.
        built: how many, from the first on, have their weights in memory already.

    Raises:
        OutOfMemory: by the traces, it is more than what is free.
    """
    from cnnscope.timing.programs import OutOfMemory

    free = machine.free_memory(device)
    needed = work.needed_together(traces, built, settings)
    if free is not None and needed > free:
        need = "needs" if len(traces) == 1 else "need"
        raise OutOfMemory(
            f"{', '.join(labels)} {need} at least {_gib(needed)} by the trace, "
            f"and {device} has {_gib(free)} free"
        )


def check_growth(device: torch.device, prepared: Sequence[Prepared], seconds: float) -> None:
    """Refuse a model that would fill the memory by what each of its calls keeps.

    Args:
        device: where it runs.
        prepared: models that are warmed up.
        seconds: for which each is to run.

    Raises:
        OutOfMemory: by what each call keeps and how many calls there will be.
    """
    from cnnscope.timing.programs import OutOfMemory

    free = machine.free_memory(device)
    for one in prepared:
        kept = one.watched.kept if one.watched is not None else 0
        calls = seconds * 1e9 / max(one.program.per_call, 1)
        if kept and free is not None and kept * calls > free / 2:
            raise OutOfMemory(
                f"{one.program.name} keeps {kept / 2**10:,.0f} KiB with every call: "
                f"{calls:,.0f} calls in {seconds:g} s would need "
                f"{_gib(int(kept * calls))} of the {_gib(free)} that are free; give fewer seconds"
            )


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"
