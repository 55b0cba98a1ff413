"""A module of the caller's, to be traced: it is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnnscope.errors import ModelError
from cnnscope.models import forward
from cnnscope.models.build import Built
from cnnscope.models.ladder import OWN, Rung
from cnnscope.models.network import Network, quiet, run
from cnnscope.models.request import Request
from cnnscope.models.steps import Stepping, Steps
from cnnscope.records.trace import Inputs, TensorSpec, Trace

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.tracing.arguments import Arguments
    from cnnscope.tracing.recorder import ForwardError


def trace_sizes(request: Request, model: nn.Module) -> Trace:
    """Trace a module on tensors without data of the given sizes, on real ones if need be.

    Args:
        request: made by `Request.of_module`; without inputs they are guessed.
        model: it is left as it was.

    Raises:
        RequestError: the inputs are not what its forward takes.
        ModelError: its forward failed.
    """
    with _borrowed(request, model) as network:
        return run(network).trace


@contextmanager
def stepping(request: Request, model: nn.Module) -> Iterator[Stepping]:
    """Yield a function that traces training steps of a module.

    Args:
        request: made by `Request.of_module`; without inputs they are guessed.
        model: it is left as it was.

    Raises:
        RequestError, ModelError: as `cnnscope.models.run.stepping`.
    """
    with _borrowed(request, model) as network:
        yield Steps(network).trace


def trace_call(model: nn.Module, call: Arguments) -> Trace:
    """Trace a module that is called with tensors of the caller's.

    Args:
        model: it is left as it was; of a lazy one a copy learns the widths.
        call: arguments of its forward; those that do not fit its signature are read as `as_meant`
            reads them.

    Raises:
        ModelError: its forward failed.
    """
    from cnnscope.models import diagnose, remedy
    from cnnscope.models.failures import asks_for_data
    from cnnscope.models.readings import as_meant
    from cnnscope.tracing import devices, isolation
    from cnnscope.tracing.modules import state_of
    from cnnscope.tracing.recorder import ForwardError
    from cnnscope.tracing.tracer import trace

    call = as_meant(model, call)

    def run_traced() -> Trace:
        return trace(_with_widths(model, call), *call)

    try:
        if devices.really_there(tuple(call), state_of(model)):
            return run_traced()
        with isolation.alone, devices.following():
            return devices.retried(run_traced)
    except ForwardError as error:
        if not asks_for_data(error):
            _advise(error, model, call)
            raise
        error.trace = remedy.told(error.trace, diagnose.reason(error))
        needs = ModelError(f"{error}; it looks at its data: give real tensors")
        needs.trace = error.trace
        raise needs from error


def _with_widths(model: nn.Module, call: Arguments) -> nn.Module:
    """The module; of a lazy one a copy that has seen the arguments."""
    from cnnscope.tracing.plain import tensors_in

    if not forward.is_lazy(model):
        return model
    on_meta = all(tensor.is_meta for tensor in tensors_in(call))
    return forward.widened(forward.lazy_copy(model, "meta" if on_meta else ""), call)


def _advise(error: ForwardError, model: nn.Module, call: Arguments) -> None:
    """Add what would run to the error of a forward that was called with tensors.

    Args:
        error: its trace gets the cause in words and the remedy.
        model: whose forward it is.
        call: arguments of it.
    """
    from cnnscope.models import diagnose, remedy
    from cnnscope.tracing import isolation
    from cnnscope.tracing.arguments import form_of
    from cnnscope.tracing.plain import tensors_in

    form = form_of(*call)
    error.trace = remedy.told(error.trace, diagnose.reason(error))
    if form is not None and not form.complete:
        return
    tensors = (
        TensorSpec(tuple(t.shape), str(t.dtype).removeprefix("torch."))
        for t in tensors_in(tuple(call))
    )
    inputs = Inputs(tuple(tensors), form)
    with _borrowed(Request.of_module(type(model).__name__, None), model) as network:
        built = network.build(Rung.META)
        known = tuple(guess.inputs for guess in network.guesses(built.model))
        failed = remedy.Failure(network.name, error, built, inputs, (), known)
        with quiet(network), isolation.seeded():
            found = remedy.explained(failed).trace
    remedied = found.broken.remedy if found is not None and found.broken else ""
    if found is not None and remedied:
        error.trace = found
        error.args = (f"{error}; {remedied}",)


@contextmanager
def _borrowed(request: Request, model: nn.Module) -> Iterator[Network]:
    """A module of the caller's, to be traced while this lasts."""
    from cnnscope.models.files.source import guesses
    from cnnscope.tracing import devices, isolation
    from cnnscope.tracing.modules import state_of
    from cnnscope.tracing.tracer import as_written, source_of

    model = as_written(model)
    source, lazy = source_of(model), forward.is_lazy(model)

    def borrow(rung: Rung) -> Built:
        if rung is Rung.REAL and any(tensor.is_meta for tensor in state_of(model)):
            raise ModelError(
                f"{source.name} looks at its data, and its weights are on the meta device: "
                "move it to the CPU"
            )
        values = OWN.known_values() if rung is Rung.VALUES else None
        held = forward.lazy_copy(model, rung.device) if lazy else model
        return Built(held, default, source, rung, values, borrowed=not lazy)

    default = next((guess.inputs for guess in guesses(model)), Inputs(()))
    with isolation.alone, isolation.warning_once(), devices.following():
        yield Network(request, OWN, borrow, guesses)
