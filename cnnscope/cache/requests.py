"""Traces of library models, from the store where it has them. No torch where it has.

Only what a published library builds is kept, because only that is known by name and version: a
user's own file may change between two calls, and what it imports may as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec import structs, to_builtins

from cnnscope.cache import libraries
from cnnscope.cache.store import Store
from cnnscope.errors import CnnscopeError, NoBlocksError
from cnnscope.models import arguments
from cnnscope.models.names import ModelSpec
from cnnscope.models.request import Request
from cnnscope.records.explain import SmallestInput
from cnnscope.records.step import Step, StepTrace
from cnnscope.records.trace import TRACE_SCHEMA, Trace

if TYPE_CHECKING:
    from cnnscope.records.comparable import Comparable

T = TypeVar("T")
Of = TypeVar("Of", Trace, "Comparable")


def trace(request: Request, store: Store | None) -> Trace:
    """The requested trace: read from the store if it is there, else made and kept.

    Raises:
        RequestError, ModelError: it could not be made; nothing is kept then.
    """
    found = _stored(request, store)
    if found is not None:
        return found
    from cnnscope.models import run  # and torch

    made = run.trace_spec(request)
    _keep(request, store, made)
    return made


def made_of(
    request: Request, store: Store | None, what: str, kind: type[Of], make: Callable[[Trace], Of]
) -> Of:
    """What is made of the trace that was asked for: read if it is there, else made and kept.

    Args:
        request: which model, on which input.
        store: where it is read and kept, beside the trace.
        what: its name in the store.
        kind: of record that it is.
        make: a pure function of the trace.

    Raises:
        RequestError, ModelError: there is no trace, or `make` raises them; nothing is kept then.
    """
    entries = _entries(request, store)
    found = entries.read(what, kind) if entries is not None else None
    if found is not None:
        return found
    of = trace(request, store)
    made = make(of)
    entries = _entries(request, store, of)
    if entries is not None:
        entries.store.write(entries.key(what), made)
    return made


def examined(
    request: Request, store: Store | None, seconds: float | None = None
) -> tuple[Trace, tuple[SmallestInput, ...]]:
    """The requested trace, and the input sizes that the model works on.

    Args:
        request: which model, on which input.
        store: where it is read and kept.
        seconds: that sizes are tried for, anew; left out, those that are stored will do.

    Raises:
        RequestError, ModelError: it could not be made; nothing is kept then.
    """
    entries = _entries(request, store) if seconds is None else None
    sizes = entries.sizes() if entries is not None else None
    if sizes is not None:
        return trace(request, store), sizes
    from cnnscope.models import run  # and torch

    made, sizes = run.examine_spec(request, seconds)
    _keep(request, store, made, sizes)
    return made, sizes


def several(
    requests: Sequence[Request], store: Store | None, use: Callable[[Trace], T]
) -> list[T | CnnscopeError]:
    """Use the traces of one model in several ways; torch is needed for those that are not stored.

    Args:
        requests: which differ in inputs and arguments alone.
        store: where traces are read and kept.
        use: called with each trace, which does not stay in memory.

    Returns:
        For each request what `use` made of its trace, or why there is none.

    Raises:
        RequestError: there is no such model.
    """
    found: list[T | CnnscopeError | None] = []
    for request in requests:
        stored = _stored(request, store)
        found.append(None if stored is None else use(stored))
    missing = [one for one, there in zip(requests, found, strict=True) if there is None]
    if missing:
        from cnnscope.models import run  # and torch

        def kept(request: Request, made: Trace) -> T:
            _keep(request, store, made)
            return use(made)

        made = iter(run.trace_specs(missing, kept))
        found = [next(made) if one is None else one for one in found]
    return [one for one in found if one is not None]


@contextmanager
def stepping(request: Request, store: Store | None) -> Iterator[Callable[..., StepTrace]]:
    """Yield a function that traces training steps of a named model, or reads them from the store.

    Its arguments are the step, and the batch (None for the one that the request means). The model
    is built once, and not before a step has to be traced.

    Raises:
        RequestError, ModelError: the function: it could not be made; nothing is kept then.
    """
    known = _entries(request, store)
    with ExitStack() as stack:
        made: list[Callable[[Step, int | None], StepTrace]] = []

        def trace(step: Step, batch: int | None) -> StepTrace:
            found = known.step(step, batch) if known is not None else None
            if found is not None:
                return found
            if not made:
                from cnnscope.models import run  # and torch

                made.append(stack.enter_context(run.stepping(request)))
            try:
                traced = made[0](step, batch)
            except NoBlocksError as error:
                if known is not None:
                    known.keep_refusal(step, batch, error)
                raise
            entries = _entries(request, store, traced.trace)
            if entries is not None:
                entries.keep_step(traced, batch)
            return traced

        yield trace


# ------------------------------------------------------------------------- entries of the store


class _Entries(NamedTuple):
    """The entries of one request in a store.

    Attributes:
        store: that they are in.
        source: the library of the model.
        model: as its library lists it.
        request: which model, on which input.
    """

    store: Store
    source: str
    model: ModelSpec
    request: Request

    def read(self, what: str, kind: type[Of]) -> Of | None:
        """The "trace" of the forward, or what was made of it."""
        found = self.store.read(self.key(what), kind)
        return None if found is None else self._as_typed(found)

    def sizes(self) -> tuple[SmallestInput, ...] | None:
        """The sizes that the model works on."""
        return self.store.read(self.key("sizes"), tuple[SmallestInput, ...])

    def step(self, step: Step, batch: int | None) -> StepTrace | None:
        """The trace of a training step.

        Raises:
            NoBlocksError: the model has no blocks for it.
        """
        key = self._step_key(step, batch)
        found = self.store.read(key, StepTrace)
        if found is not None:
            return structs.replace(found, trace=self._as_typed(found.trace))
        refused = self.store.read({**key, "what": "refused"}, str) if step.proposes else None
        if refused is not None:
            raise NoBlocksError(refused)
        return None

    def keep(self, trace: Trace, sizes: tuple[SmallestInput, ...] | None) -> None:
        """Keep a trace, and the sizes that the model works on where they have been searched."""
        self.store.write(self.key("trace"), trace)
        if sizes is not None and not any(one.unclear for one in sizes):
            self.store.write(self.key("sizes"), sizes)
        self._keep_names()

    def keep_step(self, made: StepTrace, batch: int | None) -> None:
        """Keep the trace of a training step."""
        self.store.write(self._step_key(made.step, batch), made)
        self._keep_names()

    def keep_refusal(self, step: Step, batch: int | None, error: NoBlocksError) -> None:
        """Keep that the model has no blocks for a training step."""
        self.store.write({**self._step_key(step, batch), "what": "refused"}, str(error))

    def _keep_names(self) -> None:
        libraries.keep_names(self.source, self.store, bare=not self.request.model.source)

    def _as_typed(self, found: Of) -> Of:
        """A record whose source has the model's name as it is written in this request."""
        return structs.replace(found, source=structs.replace(found.source, spec=self.model.text))

    def _step_key(self, step: Step, batch: int | None) -> dict[str, Any]:
        asked = {key: ascii(value) for key, value in to_builtins(step).items()}
        return {**self.key("step"), "step": asked, "batch": batch}

    def key(self, what: str) -> dict[str, Any]:
        """The key of a "trace", of what is made of it, of "sizes" or of a "step".

        What was typed may be no text that can be written, hence `ascii`.
        """
        request = self.request
        return libraries.key(
            what,
            self.source,
            schema=TRACE_SCHEMA,
            name=ascii(self.model.name),
            inputs=[f"{one.sizes}:{one.dtype}:{one.plain}" for one in request.inputs],
            form=ascii((request.form, *request.bare) if request.bare else request.form),
            arguments={
                ascii(name): ascii(arguments.plain(value))
                for name, value in request.arguments.items()
            },
            batch_size=request.batch_size,
            dtype=request.dtype,
        )


def _entries(request: Request, store: Store | None, made: Trace | None = None) -> _Entries | None:
    """The entries of a request; None where nothing may be kept, or its library is not known.

    Args:
        request: which model, on which input.
        store: where they are.
        made: a trace of it, which tells the library; left out, the model's name does.
    """
    if store is None or arguments.depends_on_code(request.arguments):
        return None
    model = libraries.canonical(request.model, store)
    if made is None:
        source = libraries.of(model, store)
    else:
        source = made.source.source if made.device == "meta" else ""
    return _Entries(store, source, model, request) if source in libraries.LIBRARIES else None


def _stored(request: Request, store: Store | None) -> Trace | None:
    entries = _entries(request, store)
    return None if entries is None else entries.read("trace", Trace)


def _keep(
    request: Request,
    store: Store | None,
    made: Trace,
    sizes: tuple[SmallestInput, ...] | None = None,
) -> None:
    entries = _entries(request, store, made)
    if entries is not None:
        entries.keep(made, sizes)
