"""Layers timed one at a time, each on the input that it has in the forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from cnnscope.records.bench import Ceilings, LayerTime
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace
from cnnscope.timing import work
from cnnscope.timing.loop import Program, Timer, no_garbage_collection, rounds, warm_up

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.tracing.arguments import Arguments

Key = tuple[str, int]
_LEAST_SECONDS = 0.01


class Timed:
    """Times of one call of a layer."""

    def __init__(self, samples: list[int]) -> None:
        self.median, self.count = float(median(samples)), len(samples)


def time_layers(
    model: nn.Module,
    inputs: Arguments,
    wanted: frozenset[Key],
    timer: Timer,
    seconds: float,
) -> dict[Key, Timed]:
    """Run one forward, and at every leaf stop to time it by itself.

    The layer is called again and again on the input that has just reached it, so its input is in
    the caches, its kernels follow each other without a gap, and nothing runs beside it. What works
    in place is given a copy. Only one layer's tensors are held at a time.

    Args:
        model: in the mode in which it is to run; its hooks are as before afterwards.
        inputs: arguments of its forward, on its device.
        wanted: the calls to time, as (path, which call of this module).
        timer: of the device.
        seconds: for all of them together.
    """
    watch = _Watch(wanted, timer, max(seconds / max(len(wanted), 1), _LEAST_SECONDS))
    paths = {path for path, _ in wanted}
    handles = [
        module.register_forward_pre_hook(partial(watch.before, path), with_kwargs=True)
        for path, module in model.named_modules()
        if path in paths
    ]
    try:
        with no_garbage_collection():
            inputs.call(model)
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


class _Watch:
    """Times layers from the hooks that run before them; calls that this makes are not watched."""

    def __init__(self, wanted: frozenset[Key], timer: Timer, seconds: float) -> None:
        self.wanted, self.timer, self.seconds = wanted, timer, seconds
        self.found: dict[Key, Timed] = {}
        self.calls: Counter[str] = Counter()
        self.busy = False

    def before(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Time a layer that is about to run on these arguments, if it is wanted."""
        if self.busy:
            return
        self.calls[path] += 1
        key = (path, self.calls[path])
        if key in self.wanted:
            self.busy = True
            try:
                self.found[key] = _time(module, args, kwargs, self.timer, self.seconds)
            finally:
                self.busy = False


def _time(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    timer: Timer,
    seconds: float,
) -> Timed:
    if getattr(module, "inplace", False):
        args = tuple(a.clone() if hasattr(a, "clone") else a for a in args)
    program = Program("layer", lambda: module(*args, **kwargs))
    warm_up(program, timer, seconds)
    rounds([program], timer, seconds)
    return Timed([sample for samples in program.rounds for sample in samples])


def layer_times(
    trace: Trace,
    rows: Mapping[Key, LayerRow],
    found: Mapping[Key, Timed],
    ceilings: Ceilings | None,
) -> tuple[LayerTime, ...]:
    """The times beside what each layer has to do, in the order in which they run."""
    moved = work.layer_bytes(trace)
    return tuple(
        _layer_time(rows[key], found[key], moved.get(key, 0), ceilings)
        for key in rows
        if key in found
    )


def _layer_time(row: LayerRow, timed: Timed, nbytes: int, ceilings: Ceilings | None) -> LayerTime:
    attainable, bound = (0.0, "")
    if ceilings is not None and (row.macs or nbytes):
        attainable, bound = work.attainable_ns(row.macs, nbytes, ceilings)
    return LayerTime(
        path=row.path,
        call=row.call,
        operation=row.operation,
        output_shape=row.output_shapes[0] if row.output_shapes else (),
        median_ns=timed.median,
        count=timed.count,
        macs=row.macs,
        nbytes=nbytes,
        bound=bound,
        roofline=attainable / timed.median if bound else None,
    )
