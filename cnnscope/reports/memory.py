"""From the trace of a training step, or of a forward, to the report of `cnnscope memory`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from msgspec import structs

from cnnscope.analysis import measured
from cnnscope.analysis import step as analysis
from cnnscope.analysis.frontier import best, subsets
from cnnscope.errors import RequestError
from cnnscope.records.memory import CheckpointChoice, MemoryReport
from cnnscope.records.step import AMPS, AUTO, FORMS, LOSSES, OPTIMIZERS, Step, StepTrace
from cnnscope.records.trace import Trace
from cnnscope.text import printable

_LONGEST = 1000  # characters of a pattern
_NAMED = 4  # parameters without a gradient
# Other names of losses, optimizers, forms and types.
_ALIASES = {
    "ce": "cross-entropy", "crossentropy": "cross-entropy", "xent": "cross-entropy",
    "l2": "mse", "mae": "l1", "bcewithlogits": "bce", "bce-with-logits": "bce",
    "sgd-momentum": "momentum", "adam-w": "adamw", "for-loop": "loop",
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16",
}  # fmt: skip


def _named(name: str) -> str:
    """A name as it is listed: `CrossEntropyLoss` is `cross-entropy`, `bfloat16` is `bf16`."""
    if not isinstance(name, str):
        return name
    plain = name.strip().lower().replace("_", "-").removesuffix("loss").strip("-")
    return _ALIASES.get(plain, plain)


def step_of(
    optimizer: str = "sgd",
    form: str = "foreach",
    loss: str = "sum",
    *,
    accumulate: bool = False,
    amp: str | None = None,
    checkpoint: str | Sequence[str] | None = None,
) -> Step:
    """The training step that is requested.

    Args:
        optimizer: one of `OPTIMIZERS`.
        form: one of `FORMS`.
        loss: one of `LOSSES`.
        accumulate: gradients of earlier batches are there.
        amp: one of `AMPS`; None for the types that the model has.
        checkpoint: paths and patterns of modules in a list, or in one text with commas; or "auto".

    Raises:
        RequestError: one of the names is none.
    """
    optimizer, form, loss = (_named(one) for one in (optimizer, form, loss))
    given = [
        ("optimizer", optimizer, OPTIMIZERS), ("form", form, FORMS), ("loss", loss, LOSSES),
    ]  # fmt: skip
    if amp is not None:
        amp = _named(amp)
        given.append(("amp", amp, AMPS))
    for what, name, names in given:
        if name not in names:
            raise RequestError(f"--{what} {printable(str(name))!r}: use one of {', '.join(names)}")
    return Step(
        cast("Any", optimizer),
        cast("Any", form),
        cast("Any", loss),
        accumulate,
        cast("Any", amp),
        _blocks(checkpoint),
    )


def _blocks(asked: str | Sequence[str] | None) -> tuple[str, ...]:
    """Paths and patterns of modules.

    Raises:
        RequestError: there is none among them.
    """
    if asked is None:
        return ()
    try:
        words = asked.split(",") if isinstance(asked, str) else list(asked)
        found = tuple(word.strip() for word in words if word.strip())
    except (TypeError, AttributeError):
        found = ()
    if not found or any(len(word) > _LONGEST for word in found):
        raise RequestError(
            "--checkpoint: give paths of modules, as in --checkpoint layer1,layer2, or auto"
        )
    if AUTO in found and len(found) > 1:
        raise RequestError("--checkpoint: give auto, or modules; not both")
    return found


def frontier(whole: StepTrace, trace: Callable[[Step], StepTrace]) -> tuple[CheckpointChoice, ...]:
    """Choices between no checkpoint and all blocks that repeat, each of them really traced.

    Args:
        whole: a step with all blocks checkpointed.
        trace: of the same model.

    Raises:
        RequestError, ModelError: as `trace`.
    """
    plain = trace(structs.replace(whole.step, checkpoint=()))
    parts = subsets(plain, whole.checkpointed)
    some = [trace(structs.replace(whole.step, checkpoint=part)) for part in parts]
    return (*best(map(_choice, (plain, *some))), _choice(whole))


def _choice(made: StepTrace) -> CheckpointChoice:
    return CheckpointChoice(
        made.checkpointed,
        analysis.peak(made).nbytes,
        analysis.replayed(made, workspace=False).allocated,
        analysis.macs(made).recomputed,
    )


def memory_report(
    made: StepTrace | Trace, choices: tuple[CheckpointChoice, ...] = ()
) -> MemoryReport:
    """Peaks, their owners and every operation.

    Args:
        made: of a training step, or of a forward in inference.
        choices: of modules that run again: see `frontier`.
    """
    training = isinstance(made, StepTrace)
    step = made if isinstance(made, StepTrace) else analysis.inference(made)
    trace, peak, replayed = (
        step.trace,
        analysis.peak(step),
        analysis.replayed(step, workspace=False),
    )
    kept = measured.TRAINING if training else measured.INFERENCE
    on_gpu = analysis.replayed(step) if training else replayed
    missing = tuple(f"no formula for the MACs of {name}" for name in analysis.unknown(step))
    return MemoryReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        step=step.step if training else None,
        tensors=peak.nbytes,
        allocated=replayed.allocated,
        reserved=replayed.reserved,
        gpu=measured.on_gpu(on_gpu, kept),
        peak=peak.operation,
        kinds=analysis.by_kind(step),
        layers=analysis.by_layer(step),
        macs=analysis.macs(step),
        events=analysis.events(step),
        checkpointed=step.checkpointed,
        frontier=choices,
        notes=(*trace.notes, *missing, *(_without_gradient(step) if training else ())),
        accuracy=step.accuracy,
    )


def _without_gradient(step: StepTrace) -> Iterator[str]:
    """A sentence on trainable parameters that no gradient reaches, if there are any."""
    lost = [
        one.path
        for one in step.trace.params
        if one.trainable and not one.buffer and step.gradients.keys().isdisjoint(one.names)
    ]
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        yield (
            f"no gradient reaches {', '.join(lost[:_NAMED])}{more}, which the optimizer leaves "
            "out: neither a gradient nor state of these is counted"
        )
