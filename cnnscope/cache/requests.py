"""Traces of library models, from the store where it has them. No torch where it has.

Only what a published library builds is kept, because only that is known by name and version: a
user's own file may change between two calls, and what it imports may as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import msgspec

from cnnscope.cache.store import Store, code
from cnnscope.errors import CnnscopeError, NoBlocksError
from cnnscope.models import arguments, registered
from cnnscope.models.installed import version
from cnnscope.models.names import ModelSpec
from cnnscope.models.request import Request
from cnnscope.records.catalogue import About
from cnnscope.records.explain import SmallestInput
from cnnscope.records.step import AUTO, Step, StepTrace
from cnnscope.records.trace import TRACE_SCHEMA, Trace

T = TypeVar("T")
# Sources whose models depend on nothing but their name, arguments and installed versions, and the
# packages whose versions those are; in the order in which a bare name is looked for.
LIBRARIES = {"torchvision": "torchvision", "classic": "torch", "timm": "timm"}


def is_named(name: str) -> bool:
    """Return True if a library's files name a model so; nothing is imported."""
    from cnnscope.models import registered

    listed = registered.as_listed(name) or name
    return any(listed in registered.names(source) for source in LIBRARIES)


def examined(
    request: Request, store: Store | None, seconds: float | None = None
) -> tuple[Trace, tuple[SmallestInput, ...]]:
    """The trace that was asked for, and the sizes that the model works on.

    Args:
        request: which model, on which input.
        store: where it is read and kept.
        seconds: that sizes are tried for, anew; left out, those that are stored will do.

    Raises:
        RequestError, ModelError: it could not be made; nothing is kept then.
    """
    model = _canonical(request, store)
    source = _library(model, store) if store is not None and _keeps(request) else ""
    if source and store is not None and seconds is None:
        key = _key(source, model.name, request, "sizes")
        sizes = store.read(key, tuple[SmallestInput, ...])
        if sizes is not None:
            return trace(request, store), sizes
    from cnnscope.models import run  # and torch

    made, sizes = run.examine_spec(request, seconds)
    if store is not None:
        _keep(made, request, store, sizes)
    return made, sizes


def trace(request: Request, store: Store | None) -> Trace:
    """The trace that was asked for: read if it is there, else made and kept.

    Raises:
        RequestError, ModelError: it could not be made; nothing is kept then.
    """
    found = _stored(request, store)
    if found is not None:
        return found
    from cnnscope.models import run  # and torch

    made = run.trace_spec(request)
    if store is not None:
        _keep(made, request, store)
    return made


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
        trace = _stored(request, store)
        found.append(None if trace is None else use(trace))
    missing = [one for one, there in zip(requests, found, strict=True) if there is None]
    if missing:
        from cnnscope.models import run  # and torch

        def kept(request: Request, made: Trace) -> T:
            if store is not None:
                _keep(made, request, store)
            return use(made)

        made = iter(run.trace_specs(missing, kept))
        found = [next(made) if one is None else one for one in found]
    return [one for one in found if one is not None]


def _stored(request: Request, store: Store | None) -> Trace | None:
    """The trace in the store; None where there is none, or none may be."""
    model = _canonical(request, store)
    source = _library(model, store) if store is not None and _keeps(request) else ""
    if not source or store is None:
        return None
    found = store.read(_key(source, model.name, request), Trace)
    if found is None:
        return None
    origin = msgspec.structs.replace(found.source, spec=model.text)
    return msgspec.structs.replace(found, source=origin)


@contextmanager
def stepping(request: Request, store: Store | None) -> Iterator[Callable[..., StepTrace]]:
    """Yield a function that traces training steps of a named model, or reads them from the store.

    Its arguments are the step, and the batch (None for the one that the request means). The model
    is built once, and not before a step has to be traced.

    Raises:
        RequestError, ModelError: the function: it could not be made; nothing is kept then.
    """
    model = _canonical(request, store)
    source = _library(model, store) if store is not None and _keeps(request) else ""
    with ExitStack() as stack:
        made: list[Callable[[Step, int | None], StepTrace]] = []

        def trace(step: Step, batch: int | None) -> StepTrace:
            if source and store is not None:
                found = _kept_step(_step_key(source, model.name, request, step, batch), store)
                if found is not None:
                    origin = msgspec.structs.replace(found.trace.source, spec=model.text)
                    there = msgspec.structs.replace(found.trace, source=origin)
                    return msgspec.structs.replace(found, trace=there)
            if not made:
                from cnnscope.models import run  # and torch

                made.append(stack.enter_context(run.stepping(request)))
            try:
                traced = made[0](step, batch)
            except NoBlocksError as error:
                if source and store is not None:
                    key = _step_key(source, model.name, request, step, batch)
                    store.write({**key, "what": "refused"}, str(error))
                raise
            of = traced.trace
            if store is not None and of.source.source in LIBRARIES and of.device == "meta":
                _keep_step(traced, request, batch, store)
            return traced

        yield trace


def _kept_step(key: dict[str, Any], store: Store) -> StepTrace | None:
    """A step in the store.

    Raises:
        NoBlocksError: the model has no blocks for it.
    """
    found = store.read(key, StepTrace)
    if found is None and AUTO in key["step"]["checkpoint"]:
        refused = store.read({**key, "what": "refused"}, str)
        if refused is not None:
            raise NoBlocksError(refused)
    return found


def _keep_step(made: StepTrace, request: Request, batch: int | None, store: Store) -> None:
    """Keep a step of a library's model."""
    source = made.trace.source.source
    if _keeps(request):
        name = _canonical(request, store).name
        store.write(_step_key(source, name, request, made.step, batch), made)
        keep_names(source, store)
        if not request.model.source:
            _keep_listed(source, store)


def _step_key(
    source: str, name: str, request: Request, step: Step, batch: int | None
) -> dict[str, Any]:
    """The key of a step."""
    asked = {key: ascii(value) for key, value in msgspec.to_builtins(step).items()}
    return {**_key(source, name, request, "step"), "step": asked, "batch": batch}


def _keep(
    made: Trace, request: Request, store: Store, sizes: tuple[SmallestInput, ...] | None = None
) -> None:
    """Keep a trace of a library's model, and the sizes that it works on."""
    source = made.source.source
    if source in LIBRARIES and made.device == "meta" and _keeps(request):
        name = _canonical(request, store).name
        store.write(_key(source, name, request), made)
        if sizes is not None and not any(one.unclear for one in sizes):
            store.write(_key(source, name, request, "sizes"), sizes)
        keep_names(source, store)
        if not request.model.source:
            _keep_listed(source, store)


def _keeps(request: Request) -> bool:
    """Return True if what the model is follows from the request and the library's version."""
    return not arguments.depends_on_code(request.arguments)


def names(source: str, store: Store) -> tuple[str, ...] | None:
    """Every name that a library offers, or None if that is not known without importing it."""
    return store.read(_names_key(source), tuple[str, ...])


def keep_names(source: str, store: Store) -> tuple[str, ...]:
    """Ask a library for its names (importing it) unless they are known already; the names."""
    known = names(source, store)
    if known is None:
        known = ask_names(source)
        store.write(_names_key(source), known)
    return known


def _canonical(request: Request, store: Store | None) -> ModelSpec:
    """The model as its library lists it; names that are stored are not read in its files."""
    return registered.canonical(request.model, lambda source: listed(source, store))


def listed(source: str, store: Store | None) -> tuple[str, ...]:
    """Every name that a library offers, from the store or its files; () where neither tells.

    Nothing is imported: that takes seconds.
    """
    if store is not None:
        known = names(source, store)
        known = store.read(_listed_key(source), tuple[str, ...]) if known is None else known
        if known is not None:
            return known
    return tuple(registered.names(source))


def _keep_listed(source: str, store: Store) -> None:
    """Keep the names of libraries in which a bare name is looked for before this one.

    Whether the name means a model of this one depends on them.
    """
    for earlier in itertools.takewhile(lambda one: one != source, LIBRARIES):
        if version(LIBRARIES[earlier]) is not None and names(earlier, store) is None:
            store.write(_listed_key(earlier), listed(earlier, store))


def complete(beginning: str, store: Store | None) -> list[str]:
    """Names that begin so: `resn`, `torchvision:resn`. No library is imported to know them.

    Those of timm, which has more files than are read in no time, only if it is named.
    """
    for prefix, one in (("torchvision.models.", "torchvision"), ("timm/", "timm")):
        if beginning.startswith(prefix) and version(LIBRARIES[one]) is not None:
            spelled = (f"{prefix}{name}" for name in _offered(one, beginning[len(prefix) :], store))
            return [name for name in spelled if name.startswith(beginning)]
    source, colon, start = beginning.rpartition(":")
    if source == "hf":
        return [f"hf:{name}" for name in registered.of_hub() if name.startswith(start)]
    found: list[str] = []
    for one, package in LIBRARIES.items():
        if source not in ("", one) or version(package) is None:
            continue
        known: tuple[str, ...] | None
        if source or one != "timm":
            known = _offered(one, start if source else "", store)
        else:
            known = names(one, store) if store is not None else None
        found += [f"{source}{colon}{name}" for name in known or () if name.startswith(start)]
        if start and not source and one.startswith(start):
            found += [f"{one}:{name}" for name in known or ("",)]
    return list(dict.fromkeys(found))


def _offered(source: str, start: str, store: Store | None) -> tuple[str, ...]:
    """Names of a library's models; behind a dot, those with a tag, which are timm's."""
    if source == "timm" and "." in start:
        return tuple(registered.tags())
    return listed(source, store)


def ask_names(source: str) -> tuple[str, ...]:
    """The names that a library offers, from the library itself."""
    from cnnscope.models import find

    return tuple(find.library(source).names())


def about(trace: Trace) -> About:
    """Facts that the library states of a model of its own."""
    from cnnscope.models import find

    source = trace.source
    return find.library(source.source).about(source.name, trace.input_specs[0].shape)


def card_key(source: str, name: str) -> dict[str, Any]:
    """The key of a model's line in the list."""
    return {"what": "card", "source": source, "name": name, **_versions(source)}


def _library(spec: ModelSpec, store: Store) -> str:
    """The library that a name means; "" if it is none's, or if that cannot be known yet."""
    if spec.source:
        return spec.source if spec.source in LIBRARIES else ""
    for source, package in LIBRARIES.items():
        if version(package) is None:
            continue
        known = listed(source, store)
        if registered.offers(known, source, spec.name):
            return source
        if not known:
            return ""
    return ""


def _names_key(source: str) -> dict[str, Any]:
    return {"what": "names", "source": source, **_versions(source)}


def _listed_key(source: str) -> dict[str, Any]:
    return {"what": "listed", "source": source, **_versions(source)}


def _key(source: str, name: str, request: Request, what: str = "trace") -> dict[str, Any]:
    """The key of a trace, or of "sizes".

    What was typed may be no text that can be written, hence `ascii`.
    """
    return {
        "what": what,
        "schema": TRACE_SCHEMA,
        "source": source,
        "name": ascii(name),
        "inputs": [f"{one.sizes}:{one.dtype}:{one.plain}" for one in request.inputs],
        "form": ascii((request.form, *request.bare) if request.bare else request.form),
        "arguments": {
            ascii(name): ascii(arguments.plain(value)) for name, value in request.arguments.items()
        },
        "batch_size": request.batch_size,
        "dtype": request.dtype,
        **_versions(source),
    }


def _versions(source: str) -> dict[str, str | None]:
    """Versions of all that an answer is made with, this program's own code included."""
    return {"code": code(), "torch": version("torch"), "library": version(LIBRARIES[source])}
