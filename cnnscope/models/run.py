"""Trace a named model, or build it to be run: its source is found, and forgotten afterwards."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from cnnscope.errors import CnnscopeError, ModelError
from cnnscope.files import PACKAGE
from cnnscope.models import forward
from cnnscope.models.build import Built, build, build_real, build_runtime
from cnnscope.models.failures import out_of_memory
from cnnscope.models.find import ONNX, Found, find
from cnnscope.models.ladder import Rung
from cnnscope.models.network import Network, run
from cnnscope.models.request import Request
from cnnscope.models.steps import Stepping, Steps
from cnnscope.records.explain import SmallestInput
from cnnscope.records.trace import Trace
from cnnscope.text import said
from cnnscope.tracing.isolation import SEED

T = TypeVar("T")


class Examined(NamedTuple):
    """A trace, and which sizes of the input work: squares or the one axis first, single axes."""

    trace: Trace
    sizes: tuple[SmallestInput, ...]


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
        yield Steps(_network(request, found)).trace


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
