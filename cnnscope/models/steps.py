"""Training steps of one model, on the inputs that its forward runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from cnnscope.errors import ModelError, RequestError
from cnnscope.models.failures import one_value
from cnnscope.models.network import Network, Ran, quiet, run
from cnnscope.records.step import Step, StepTrace
from cnnscope.records.trace import Inputs, TensorSpec

if TYPE_CHECKING:
    from cnnscope.tracing.recorder import ForwardError

_IN_PLACE = (
    "; the output of a module that runs again must not be changed in place: name with --checkpoint "
    "a block that holds the operation that does so as well"
)


class Stepping(Protocol):
    """Traces a step on a batch (None for that of the request); see `Steps.trace`."""

    def __call__(self, step: Step, batch: int | None, *, watched: bool = False) -> StepTrace:
        """Trace a step."""


class Steps:
    """Training steps of one model, on one input in batches of several sizes."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._ran: Ran | None = None

    def trace(self, step: Step, batch: int | None, *, watched: bool = False) -> StepTrace:
        """Trace a step on a batch; None for the one that the request means.

        Args:
            step: the optimizer, its form and the loss.
            batch: N of the inputs.
            watched: see `cnnscope.tracing.step.trace_step`.

        Raises:
            RequestError, ModelError: as the function of `stepping`.
        """
        if self._ran is None:
            self._ran = run(self._network)
        ran = self._ran
        if batch is not None:
            inputs = _in_batch(ran.inputs, batch)
            ran.built.accept(inputs)
            ran = ran._replace(inputs=inputs)
        return _step(self._network, ran, step, watched=watched)


def _in_batch(inputs: Inputs, batch: int) -> Inputs:
    """The inputs with another batch: the first size, of all tensors that share it."""
    given = [t.shape[0] for t in inputs.tensors if t.shape]
    if not given:
        return inputs
    return inputs.of(
        [
            TensorSpec((batch, *t.shape[1:]), t.dtype) if t.shape[:1] == (given[0],) else t
            for t in inputs.tensors
        ]
    )


def _step(network: Network, ran: Ran, step: Step, *, watched: bool) -> StepTrace:
    """A training step on the inputs of a forward that ran."""
    from cnnscope.tracing import isolation
    from cnnscope.tracing.recorder import ForwardError
    from cnnscope.tracing.step import trace_step as traced

    built, trace = ran.built, ran.trace
    arguments = built.arguments(ran.inputs)
    try:
        with isolation.seeded(), quiet(network), built.running():
            made = traced(
                built.model,
                *arguments,
                step=step,
                source=trace.source,
                notes=trace.notes,
                watched=watched,
            )
        notes = tuple(dict.fromkeys(made.trace.notes))  # both runs have said some
        return structs.replace(made, trace=structs.replace(made.trace, notes=notes))
    except ForwardError as error:
        reason = f"it runs in inference and fails in training: {error}"
        raise ModelError(f"{network.name}: {reason}{_advice(error)}") from error
    except (RequestError, ModelError) as error:
        remedy = _IN_PLACE if step.checkpoint and "inplace operation" in str(error) else ""
        raise type(error)(f"{network.name}: {error}{remedy}") from error


def _advice(error: ForwardError) -> str:
    """The remedy for a forward that fails in training alone; "" where none is known."""
    if one_value(error.cause):
        return "; give a batch of 2 or more, as the norm takes its statistics from it"
    if "target" in str(error.cause).lower():
        return "; wrap it in a module whose forward makes the targets that it takes in training"
    return ""
