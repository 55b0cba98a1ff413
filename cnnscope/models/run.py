"""From a request to a trace: build, run, fall back, and say why it could not be done."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from msgspec import structs

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.files import PACKAGE
from cnnscope.models import choices, forward
from cnnscope.models.build import Built, build, build_real, build_runtime
from cnnscope.models.choices import Choice
from cnnscope.models.failures import asks_for_data, one_value, out_of_memory
from cnnscope.models.find import ONNX, Found, find
from cnnscope.models.inputs import of_dtype
from cnnscope.models.ladder import OWN, Ladder, Rung
from cnnscope.models.request import Request
from cnnscope.records.explain import SmallestInput
from cnnscope.records.step import Step, StepTrace
from cnnscope.records.trace import Inputs, TensorSpec, Trace
from cnnscope.text import said
from cnnscope.tracing.isolation import SEED

_SECONDS = 2.0  # for forwards on what may be advised
_TOLD = 3  # inputs that do not run, in notes
T = TypeVar("T")


if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.files.source import Guess
    from cnnscope.tracing.arguments import Arguments
    from cnnscope.tracing.recorder import ForwardError


class Stepping(Protocol):
    """Traces a step on a batch (None for that of the request); see `_Steps.trace`."""

    def __call__(self, step: Step, batch: int | None, *, watched: bool = False) -> StepTrace:
        """Trace a step."""


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


class Examined(NamedTuple):
    """A trace, and which sizes of the input work: squares or the one axis first, single axes."""

    trace: Trace
    sizes: tuple[SmallestInput, ...]


# ------------------------------------------------------------------------------------- the flow


def _trying(built: Built) -> Callable[[Inputs], bool]:
    """Return a function that tells whether a forward on some inputs runs, within `_SECONDS`."""
    from cnnscope.models.trials import Trials

    trials = Trials(built, _SECONDS, renewable=False)

    def runs(inputs: Inputs) -> bool:
        with trials.open():
            return not trials.late and trials.runs(inputs)

    return runs


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
    with isolation.seeded(), _quiet(network):
        return forward.traced(
            built, choice, network.request.dtype, own=network.ladder.own, why_real=why_real
        )


@contextmanager
def _quiet(network: Network) -> Iterator[None]:
    """Send what the model prints to stderr, and make an error of an exit."""
    from cnnscope.tracing import isolation

    with isolation.aside():
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            what = "called sys.exit()" if isinstance(error, SystemExit) else f"raised {said(error)}"
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
    with _quiet(network), isolation.seeded():
        return remedy.explained(failed)


# ------------------------------------------------------------------------------ a named model


def trace_spec(request: Request) -> Trace:
    """Trace a named model.

    Args:
        request: which model, how it is built and what it runs on.

    Raises:
        RequestError: something in the request cannot be; the message says what and the remedy.
        ModelError: the model failed to build or to run on its own default input.
    """
    with _found(request) as found:
        return run(_network(request, found)).trace


def trace_specs(
    requests: Sequence[Request], use: Callable[[Request, Trace], T]
) -> list[T | CnnscopeError]:
    """Trace one model in several ways, each as `trace_spec`; a library's is built once.

    Args:
        requests: which differ in inputs and arguments alone; those of equal arguments in a row.
        use: called with each trace, which is not kept.

    Returns:
        For each what `use` made of it, or why there is no trace.

    Raises:
        RequestError: there is no such model.
    """
    made: list[T | CnnscopeError] = []
    with _found(requests[0]) as found:
        for _, group in itertools.groupby(requests, key=lambda one: (one.arguments, one.dtype)):
            build: Callable[[Rung], Built] | None = None
            for request in group:
                network = _network(request, found)
                if not network.ladder.own:  # which keeps nothing from one forward to the next
                    build = build or functools.cache(network.build)
                    network = network._replace(build=build)
                try:
                    made.append(use(request, run(network).trace))
                except CnnscopeError as error:
                    made.append(error)
    return made


def examine_spec(request: Request, seconds: float | None = None) -> Examined:
    """Trace a named model, and try which sizes of its input it works on.

    Args:
        request: as for `trace_spec`.
        seconds: that sizes are tried for; left out, `cnnscope.models.trials.SECONDS`.

    Raises:
        RequestError, ModelError: as `trace_spec`.
    """
    with _found(request) as found:
        ran = run(_network(request, found))
        return Examined(ran.trace, ran.sizes(seconds))


_IN_PLACE = (
    "; the output of a module that runs again must not be changed in place: name with --checkpoint "
    "a block that holds the operation that does so as well"
)


@contextmanager
def stepping(request: Request) -> Iterator[Stepping]:
    """Yield a function that traces training steps of a named model, which is built once.

    Args:
        request: as for `trace_spec`.

    Raises:
        RequestError: as `trace_spec`; the function, where the model cannot be trained so.
        ModelError: as `trace_spec`; the function, where it fails in training mode.
    """
    with _found(request) as found:
        yield _Steps(_network(request, found)).trace


class _Steps:
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
        with isolation.seeded(), _quiet(network), built.running():
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


@contextmanager
def module(request: Request, seed: int | None = None, trace: Trace | None = None) -> Iterator[Any]:
    """The `nn.Module` that `trace_spec` traces, in eval mode, to be run while this lasts.

    What it prints goes to stderr; afterwards what was loaded for it is forgotten.

    Args:
        request: as for `trace_spec`.
        seed: for weights as the constructor makes them, in memory; left out, the module is on the
            meta device and has none.
        trace: of it, whose inputs give lazy layers their widths; left out, they have none.

    Raises:
        RequestError: something in the request cannot be.
        ModelError: the model failed to build, or whatever was done with it.
    """
    from cnnscope.tracing import devices, isolation

    with _found(request) as found, isolation.aside():
        if seed is None:  # the user's own may come with weights
            yield _settled(_built(request, found, Rung.META), trace).model.to("meta")
        else:
            built = build_real(found, request.arguments, "cpu", seed)
            with devices.at("cpu"):
                yield _settled(built, trace, seed).model


def real_model(request: Request, device: str) -> tuple[Built, Callable[[], None]]:
    """A named model on a device, with weights as its constructor makes them; not a trace.

    An ONNX file is run by onnxruntime, with the weights that it holds.

    Returns:
        The model, and what to call when it is not needed any more: it forgets the user's code.

    Raises:
        RequestError: something in the request cannot be.
        ModelError: the model failed to build.
    """
    from cnnscope.tracing import isolation

    with isolation.alone:
        found = find(request.model)
        try:
            real = build_runtime if found.source == ONNX else build_real
            built = real(found, request.arguments, device)
            return _cast(built, request.dtype), found.close
        except BaseException:
            found.close()
            raise


@contextmanager
def building(request: Request, trace: Trace) -> Iterator[Callable[[Rung], Built]]:
    """Yield `build(rung)` of a named model, to be called as often as it is needed.

    What the model prints goes to stderr; afterwards what was loaded for it is forgotten.

    Args:
        request: as for `trace_spec`.
        trace: of it, whose inputs give lazy layers their widths.

    Raises:
        RequestError, ModelError: as `trace_spec`; the function likewise.
    """
    from cnnscope.tracing import isolation

    with _found(request) as found, isolation.aside():
        yield lambda rung: _settled(_built(request, found, rung), trace)


@contextmanager
def _found(request: Request) -> Iterator[Found]:
    """Yield the model's source; what the model's code raises meanwhile becomes a ModelError.

    One thread at a time.
    """
    from cnnscope.tracing import devices, downloads, isolation

    with (
        isolation.alone,
        isolation.warning_once(),
        devices.wanted(),
        downloads.refusing(),
    ):
        found = find(request.model)
        try:
            yield found
        except (CnnscopeError, KeyboardInterrupt):
            raise
        except BaseException as error:
            failure = _failure(request, found, error)
            if failure is None:
                raise
            raise failure from error
        finally:
            found.close()


def _failure(request: Request, found: Found, error: BaseException) -> ModelError | None:
    """Make the error of a failed model; None for a fault of this program."""
    from cnnscope.tracing import isolation

    if out_of_memory(error):
        return ModelError(
            f"{request.name}: there is not enough memory for it ({said(error)}); give smaller sizes"
        )
    if found.own is None or isolation.raised_in(error).startswith(PACKAGE):
        return None
    if isinstance(error, RecursionError):
        return ModelError(
            f"{request.name}: its modules are nested without end ({found.own.reason(error)}): a "
            "module that is a child of itself, perhaps by `self.parent = parent`; keep such a "
            "reference out of the children, as in `self.parent = [parent]`"
        )
    return ModelError(found.own.sentence("could not be examined", error))


def _network(request: Request, found: Found) -> Network:
    """The model, to be traced."""
    network = Network(request, found.ladder, lambda rung: build(found, request.arguments, rung))
    own = found.own
    return network._replace(guesses=own.guesses, line=own.line) if own else network


def _built(request: Request, found: Found, rung: Rung) -> Built:
    """The model on a rung, with real weights if it is the last."""
    if rung is Rung.REAL:
        return _cast(build_real(found, request.arguments, rung.device), request.dtype)
    return _cast(build(found, request.arguments, rung), request.dtype)


def _settled(built: Built, trace: Trace | None, seed: int = SEED) -> Built:
    """The model, its lazy layers as wide as they were in a trace."""
    from cnnscope.tracing import isolation

    if trace is not None:
        with isolation.seeded(seed), built.running():
            forward.settle(built, trace.given)
    return built


def _cast(built: Built, dtype: str | None) -> Built:
    if dtype is not None:
        forward.convert(built.model, dtype)
    return built


# ---------------------------------------------------------------------------- a module in Python


def trace_module(request: Request, model: nn.Module) -> Trace:
    """Trace a module that is there already on tensors without data, with real ones if need be.

    Args:
        request: made by `Request.of_module`; without inputs they are guessed.
        model: it is left as it was.

    Raises:
        RequestError: the inputs are not what its forward takes.
        ModelError: its forward failed.
    """
    with _borrowed(request, model) as network:
        return run(network).trace


def advise(error: ForwardError, model: nn.Module, call: Arguments) -> None:
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
        with _quiet(network), isolation.seeded():
            found = remedy.explained(failed).trace
    remedied = found.broken.remedy if found is not None and found.broken else ""
    if found is not None and remedied:
        error.trace = found
        error.args = (f"{error}; {remedied}",)


@contextmanager
def stepping_module(request: Request, model: nn.Module) -> Iterator[Stepping]:
    """Yield a function that traces training steps of a module that is there already.

    Args:
        request: made by `Request.of_module`; without inputs they are guessed.
        model: it is left as it was.

    Raises:
        RequestError, ModelError: as `stepping`.
    """
    with _borrowed(request, model) as network:
        yield _Steps(network).trace


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
