"""Build a model that was found, on a rung of its ladder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models.failures import asks_for_data, out_of_memory
from cnnscope.models.find import PROGRAMS, Cautious, Found
from cnnscope.models.inputs import make_inputs, real_inputs, too_large
from cnnscope.models.ladder import Rung
from cnnscope.records.trace import Inputs, Source
from cnnscope.text import printable, said
from cnnscope.tracing.isolation import SEED
from cnnscope.tracing.stubs import light

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.tracing.arguments import Arguments
    from cnnscope.tracing.values import KnownValues


def anything(inputs: Inputs) -> None:
    """Accept any inputs: most models refuse inputs only when they run."""


class Built(NamedTuple):
    """A model that has been built, and what is known of it.

    Attributes:
        model: in eval mode.
        inputs: that it takes by default.
        source: where it comes from.
        rung: on which its forward runs.
        values: those that its constructor asked for, or that its forward may ask for.
        accept: raises RequestError for inputs that the model cannot take.
        notes: for the report.
        why_real: why its constructor had to make real weights.
        borrowed: whether the model is the caller's, and has to stay as it is.
    """

    model: nn.Module
    inputs: Inputs
    source: Source
    rung: Rung = Rung.META
    values: KnownValues | None = None
    accept: Callable[[Inputs], None] = anything
    notes: tuple[str, ...] = ()
    why_real: str = ""
    borrowed: bool = False

    def arguments(self, inputs: Inputs) -> Arguments:
        """Arguments of a forward on its rung.

        Raises:
            RequestError: more elements than a tensor can have.
        """
        if self.rung is not Rung.REAL:
            return make_inputs(inputs)
        try:
            return real_inputs(inputs)
        except RuntimeError as error:
            raise (too_large(inputs) if out_of_memory(error) else error) from None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The context of a forward on its rung: with the values that it may ask for."""
        from cnnscope.tracing import devices

        with devices.at(self.rung.device), ExitStack() as stack:
            if self.rung is Rung.VALUES and self.values is not None:
                self.values.answered.clear()
                stack.enter_context(self.values)
            yield


def build(
    found: Found, arguments: Mapping[str, Any], rung: Rung = Rung.META, seed: int = SEED
) -> Built:
    """Build a model on a rung, or on the next one on which its constructor has the data it needs.

    Args:
        found: which model.
        arguments: for its constructor.
        rung: on which its forward is to run; only a constructor that needs real weights moves it.
        seed: of random numbers.

    Raises:
        RequestError: an argument that the constructor refuses.
        ModelError: the constructor failed.
    """
    spec, library = found.spec, found.library
    try:
        made = _made(found, arguments, rung, seed)
    except (CnnscopeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if out_of_memory(error):
            raise
        raise _constructor_error(found, arguments, error) from error
    evaluated(made.model)
    cautious = library if isinstance(library, Cautious) else None
    return Built(
        made.model,
        library.default_inputs(spec.name, made.model),
        _source(found, arguments),
        made.rung if made.rung is Rung.REAL else rung,
        made.values,
        cautious.accept if cautious else anything,
        cautious.notes() if cautious else (),
        made.why_real,
    )


def evaluated(model: nn.Module) -> nn.Module:
    """Put a model in eval mode, whatever its `eval` returns; an exported one has no other."""
    from cnnscope.tracing.modules import modules_of

    try:
        model.eval()
    except NotImplementedError:
        pass
    except (TypeError, AttributeError):  # `self.children = None`, say, hides what `eval` calls
        for _, module in modules_of(model):
            module.training = False
    return model


def build_real(found: Found, arguments: Mapping[str, Any], device: str, seed: int = SEED) -> Built:
    """Build a model on a device, with weights as its constructor makes them, by a fixed seed.

    The random state of the CPU and of the device is left as it was.

    Raises:
        RequestError: as `build`, and where a source makes modules without weights alone.
        ModelError: the constructor failed.
        RuntimeError: the device has no memory left (see `models.failures`).
    """
    import torch

    from cnnscope.tracing import isolation
    from cnnscope.tracing.modules import state_of

    if found.source in PROGRAMS:
        raise _without_weights(found)
    where = torch.device(device)
    with isolation.seeded_on(where, seed), where:
        built = build(found, arguments, Rung.REAL, seed)
    if any(tensor.is_meta for tensor in state_of(built.model)):
        raise _without_weights(found)
    return built


def build_runtime(found: Found, arguments: Mapping[str, Any], device: str) -> Built:
    """An ONNX file as onnxruntime runs it, on a device and with its weights.

    Raises:
        RequestError: it cannot be, or onnxruntime is not installed.
    """
    from cnnscope.models.files.onnx.runtime import Session

    built = build(found, arguments)
    return built._replace(model=evaluated(Session(found.library, device)))  # type: ignore[arg-type]


def _without_weights(found: Found) -> RequestError:
    return RequestError(
        f"{printable(found.spec.text)}: its weights are not read from the file, so it cannot "
        "run; name the model that it was made from"
    )


class _Made(NamedTuple):
    """A built model, the rung that it was built on, and why not on an earlier one."""

    model: nn.Module
    rung: Rung
    values: KnownValues | None
    why_real: str = ""


def _made(
    found: Found, arguments: Mapping[str, Any], rung: Rung, seed: int, why_real: str = ""
) -> _Made:
    """Call the constructor on a rung, or on the next one that has the data it asks for."""
    from cnnscope.tracing import devices, downloads, isolation
    from cnnscope.tracing.modules import orthogonal_without_data

    own, below = found.own, found.ladder.below(rung)
    try:
        with (
            found.ladder.building(rung) as values,
            _quiet(),
            isolation.seeded(seed),
            isolation.same_modes(),
            orthogonal_without_data(),
        ):
            model = found.make(arguments)
        return _Made(model, rung, values, why_real if rung is Rung.REAL else "")
    except Exception as error:
        if devices.tell(error) or downloads.leave_out(error):
            return _made(found, arguments, rung, seed, why_real)
        if not below or not asks_for_data(error, own=own is not None):
            raise
        why_real = why_real or (own.reason(error) if own else "")
    return _made(found, arguments, below[0], seed, why_real)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about initialisation, which does not happen here; prints go to stderr."""
    from cnnscope.tracing import isolation

    with warnings.catch_warnings(), isolation.aside(), light():
        warnings.simplefilter("ignore")
        yield


def _source(found: Found, arguments: Mapping[str, Any]) -> Source:
    """Describe the source of a model for the report."""
    literals = {name: repr(value) for name, value in arguments.items()}
    name = found.own.title if found.own else found.spec.name
    shown = printable(found.spec.text, 4096)
    return Source(shown, found.source, printable(name, 120), literals, found.library.versions())


def _constructor_error(
    found: Found, arguments: Mapping[str, Any], error: BaseException
) -> CnnscopeError:
    """Make the error of a constructor: of its arguments, unless it fails without them too."""
    from cnnscope.tracing import downloads

    error = downloads.cause(error)
    given = printable(", ".join(f"{name}={value!r}" for name, value in arguments.items()), 200)
    how = f"could not be built with {given}" if given else "could not be built"
    blamed = bool(arguments) and not _fails_without_arguments(found, error)
    kind = RequestError if blamed else ModelError
    advice = downloads.advice(error)
    if not advice and blamed and found.own is not None:
        advice = found.own.misfits(arguments)
    hint = f"; {advice}" if advice else ""
    if found.own is not None:
        return kind(found.own.sentence(how, error) + hint)
    return kind(f"{printable(found.spec.text)} {how}: {said(error)}{hint}")


def _fails_without_arguments(found: Found, error: BaseException) -> bool:
    """Return True if the constructor raises the same without any arguments."""
    try:
        _made(found, {}, Rung.META, SEED)
    except KeyboardInterrupt:
        raise
    except BaseException as other:  # noqa: BLE001  whatever it raises
        return said(other) == said(error)
    return False
