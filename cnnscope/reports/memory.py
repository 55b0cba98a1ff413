"""From the trace of a training step, or of a forward, to the report of `cnnscope memory`."""

from __future__ import annotations

from typing import Any, cast

from cnnscope.analysis import measured
from cnnscope.analysis import step as analysis
from cnnscope.errors import RequestError
from cnnscope.records.memory import MemoryReport
from cnnscope.records.step import FORMS, LOSSES, OPTIMIZERS, Step, StepTrace
from cnnscope.records.trace import Trace
from cnnscope.text import printable


def step_of(optimizer: str, form: str, loss: str, *, accumulates: bool) -> Step:
    """The training step that is requested.

    Raises:
        RequestError: one of the names is none.
    """
    given = (
        ("optimizer", optimizer, OPTIMIZERS), ("form", form, FORMS), ("loss", loss, LOSSES),
    )  # fmt: skip
    for what, name, names in given:
        if name not in names:
            raise RequestError(f"--{what} {printable(str(name))!r}: use one of {', '.join(names)}")
    return Step(cast("Any", optimizer), cast("Any", form), cast("Any", loss), accumulates)


def memory_report(made: StepTrace | Trace) -> MemoryReport:
    """Peaks, their owners and every operation.

    Args:
        made: of a training step, or of a forward in inference.
    """
    training = isinstance(made, StepTrace)
    step = made if isinstance(made, StepTrace) else analysis.inference(made)
    trace, peak, replayed = step.trace, analysis.peak(step), analysis.replayed(step)
    missing = tuple(f"no formula for the MACs of {name}" for name in analysis.unknown(step))
    return MemoryReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        step=step.step if training else None,
        tensors=peak.nbytes,
        allocated=replayed.allocated,
        reserved=replayed.reserved,
        gpu=measured.on_gpu(replayed, measured.TRAINING if training else measured.INFERENCE),
        peak=peak.operation,
        kinds=analysis.by_kind(step),
        layers=analysis.by_layer(step),
        macs=analysis.macs(step),
        events=analysis.events(step),
        notes=(*trace.notes, *missing),
    )
