"""A model to be traced: the rungs and inputs on which its forward is tried, and why none runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models import choices, forward
from cnnscope.models.build import Built
from cnnscope.models.choices import Choice
from cnnscope.models.failures import asks_for_data
from cnnscope.models.inputs import of_dtype
from cnnscope.models.ladder import Ladder, Rung
from cnnscope.models.request import Request
from cnnscope.records.explain import SmallestInput
from cnnscope.records.trace import Inputs, Trace
from cnnscope.text import said

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.files.source import Guess
    from cnnscope.tracing.recorder import ForwardError

_SECONDS = 2.0  # for forwards on what may be advised
_TOLD = 3  # inputs that do not run, in notes


class Network(NamedTuple):
    """A model to be traced, however it was named.

    Attributes:
        request: which model, on which inputs.
        ladder: the rungs on which it may run.
        build: builds it on a rung.
        guesses: inputs that the user's own network may take.
        line: where in the user's code an exception was raised: "net.py:3: ".
    """

    request: Request
    ladder: Ladder
    build: Callable[[Rung], Built]
    guesses: Callable[[nn.Module], Sequence[Guess]] = lambda _: ()
    line: Callable[[BaseException], str] = lambda _: ""

    @property
    def name(self) -> str:
        """The model as it was typed, for messages."""
        return self.request.name

    def choices(self, built: Built) -> list[Choice]:
        """The inputs to try, in order."""
        if self.ladder.own:
            return choices.of_own(self.request, built, self.guesses, _trying(built))
        return choices.of_library(self.request, built)

    def asks_for_data(self, error: BaseException) -> bool:
        """Return True if its forward failed because tensors have no data."""
        return asks_for_data(error, own=self.ladder.own)


class Ran(NamedTuple):
    """A trace, the model that it was made with, to be run again, and its inputs."""

    trace: Trace
    built: Built
    inputs: Inputs

    def sizes(self, seconds: float | None = None) -> tuple[SmallestInput, ...]:
        """Find input sizes that work, for `seconds` (None: `models.trials.SECONDS`)."""
        from cnnscope.models.trials import SECONDS, sizes_of
        from cnnscope.tracing import isolation

        with isolation.aside(), isolation.seeded():
            allowed = SECONDS if seconds is None else seconds
            return sizes_of(self.built, self.inputs, self.trace, allowed)


# --------------------------------------------------------------------- the first that runs


def run(network: Network) -> Ran:
    """Trace a model on the first rung of its ladder that has the data which the model asks for.

    Raises:
        RequestError: the inputs are none for this model.
        ModelError: it fails on each of them.
    """
    from cnnscope.tracing.recorder import ForwardError

    built = network.build(Rung.META)
    tried = network.choices(built)
    why_real = built.why_real or (_scripted(built.model) if network.ladder.own else "")
    if why_real and built.rung is not Rung.REAL:
        built = network.build(Rung.REAL)
    while True:
        try:
            return _first_that_runs(network, built, tried, why_real)
        except ForwardError as error:  # it asks for data, and there is another rung
            why_real = why_real or f"{network.line(error.cause)}{said(error.cause, 120)}"
        built = network.build(network.ladder.below(built.rung)[0])


def _trying(built: Built) -> Callable[[Inputs], bool]:
    """Return a function that tells whether a forward on some inputs runs, within `_SECONDS`."""
    from cnnscope.models.trials import Trials

    trials = Trials(built, _SECONDS, renewable=False)

    def runs(inputs: Inputs) -> bool:
        with trials.open():
            return not trials.late and trials.runs(inputs)

    return runs


def _scripted(model: nn.Module) -> str:
    """Explain why a model of TorchScript needs data; "" for any other."""
    import torch

    from cnnscope.tracing.modules import modules_of

    scripted = any(isinstance(module, torch.jit.ScriptModule) for _, module in modules_of(model))
    return "TorchScript does not run without it" if scripted else ""


def _first_that_runs(network: Network, built: Built, tried: Sequence[Choice], why_real: str) -> Ran:
    """The trace of the first inputs that run, on one rung.

    Raises:
        ForwardError: it asks for data, which it has on another rung.
        CnnscopeError: none runs; of the first one, explained.
    """
    from cnnscope.tracing import devices
    from cnnscope.tracing.recorder import ForwardError

    failed: list[tuple[ForwardError, Inputs]] = []
    for choice in tried:
        if failed and forward.is_lazy(built.model):
            built = network.build(built.rung)  # a forward that fails may have given it shapes
        try:
            made = _forward(network, built, choice, why_real)
            other_dtype = _as_indices(choice, failed) and network.request.gives_inputs
            made = made if other_dtype else _with_failures(made, failed)
            return Ran(made, built, choice.inputs)
        except ForwardError as error:
            if devices.tell(error):
                return _first_that_runs(network, network.build(built.rung), tried, why_real)
            if network.ladder.below(built.rung) and network.asks_for_data(error):
                raise
            failed.append((error, choice.inputs))
    told, inputs = failed[0]
    if not network.request.gives_inputs:  # of guesses, the one that came farthest
        told, inputs = max(failed, key=lambda one: len(one[0].trace.calls))
    if tried[0].refusal:
        raise RequestError(f"{network.name}: {tried[0].refusal}") from told
    if tried[0].misfit and isinstance(told.cause, (TypeError, AttributeError)):
        raise RequestError(f"{network.name}: {tried[0].misfit}") from told
    raise _explained(network, told, built, inputs) from told


def _with_failures(made: Trace, failed: Sequence[tuple[ForwardError, Inputs]]) -> Trace:
    """The trace with a note on the usual inputs that were tried before and do not run."""
    from msgspec.structs import replace

    from cnnscope.models import diagnose, remedy

    told: dict[str, str] = {}  # of each reason, whatever its sizes, the first input
    for error, inputs in failed:
        reason = diagnose.reason(error)
        sentence = f"{remedy.shown(inputs) or 'no input'} does not run: {reason}"
        told.setdefault(re.sub(r"[0-9]+(?:x[0-9]+)*", "", reason), sentence)
    return replace(made, notes=(*made.notes, *[*told.values()][:_TOLD])) if told else made


def _as_indices(choice: Choice, failed: Sequence[tuple[ForwardError, Inputs]]) -> bool:
    """Return True if only the dtype had to change: indices run, and floating point did not."""
    before = {t.dtype for _, inputs in failed[:1] for t in inputs.tensors}
    return "int64" in {t.dtype for t in choice.inputs.tensors} - before


def _forward(network: Network, built: Built, choice: Choice, why_real: str) -> Trace:
    from cnnscope.tracing import isolation

    built.accept(choice.inputs)
    with isolation.seeded(), quiet(network):
        return forward.traced(
            built, choice, network.request.dtype, own=network.ladder.own, why_real=why_real
        )


# ----------------------------------------------------------------------------- none that runs


@contextmanager
def quiet(network: Network) -> Iterator[None]:
    """Send what the model prints to stderr, and make an error of an exit."""
    from cnnscope.tracing import isolation

    with isolation.aside():
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            ends = isinstance(error, SystemExit) and isolation.called_to_end(error)
            what = f"called {ends}()" if ends else f"raised {said(error)}"
            where = network.line(error)
            raise ModelError(f"{network.name}: {where}forward {what}") from error


def _explained(
    network: Network, error: ForwardError, built: Built, inputs: Inputs
) -> CnnscopeError:
    """The error of a forward that raised: its cause, and what would run."""
    from cnnscope.models import remedy
    from cnnscope.tracing import isolation

    request, own = network.request, network.ladder.own
    if isinstance(error.cause, RequestError):  # of a program in a file, which was refused
        return RequestError(f"{network.name}: {error.cause}")
    if request.as_published and not own:
        failure = ModelError(f"{network.name}: {error}")
        failure.trace = error.trace
        return failure
    known: tuple[Inputs, ...] = () if own else (built.inputs,)
    if own and request.gives_inputs:
        guesses = network.guesses(built.model)
        known = tuple(of_dtype(guess.inputs, request.dtype) for guess in guesses)
    failed = remedy.Failure(
        network.name,
        error,
        built,
        inputs,
        request.typed,
        known,
        network.line(error.cause),
        guessed=own and not request.gives_inputs,
    )
    with quiet(network), isolation.seeded():
        return remedy.explained(failed)
