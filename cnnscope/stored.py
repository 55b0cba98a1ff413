"""Traces of library models, from the store where it has them. No torch where it has.

Only what a published library builds is kept, because only that is known by name and version: a
user's own file may change between two calls, and what it imports may as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cnnscope import spec as specs
from cnnscope.records import TRACE_SCHEMA, About, Trace
from cnnscope.store import Store, code, version

# Sources whose models depend on nothing but their name, arguments and installed versions, and the
# packages whose versions those are; in the order in which a bare name is looked for.
LIBRARIES = {"torchvision": "torchvision", "classic": "torch", "timm": "timm"}


class Request(msgspec.Struct, frozen=True):
    """All that was asked for: what `cnnscope.run.trace_spec` takes."""

    model: str
    inputs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = {}
    num_classes: int | None = None
    batch_size: int | None = None
    dtype: str | None = None

    def trace(self) -> Trace:
        """Build and run the model.

        Raises:
            RequestError, ModelError: see `cnnscope.run.trace_spec`.
        """
        from cnnscope.run import trace_spec

        return trace_spec(
            self.model,
            inputs=self.inputs,
            arguments=self.arguments,
            num_classes=self.num_classes,
            batch_size=self.batch_size,
            dtype=self.dtype,
        )


def trace(request: Request, store: Store | None) -> Trace:
    """The trace that was asked for: read if it is there, else made and kept.

    Raises:
        RequestError, ModelError: it could not be made; nothing is kept then.
    """
    if store is None:
        return request.trace()
    spec = specs.parse_model(request.model)
    source = _library(spec, store)
    if source:
        found = store.read(_key(source, spec.name, request), Trace)
        if found is not None:
            origin = msgspec.structs.replace(found.source, spec=spec.text)
            return msgspec.structs.replace(found, source=origin)
    made = request.trace()
    if made.source.source in LIBRARIES and made.device == "meta":
        store.write(_key(made.source.source, made.source.name, request), made)
        keep_names(made.source.source, store)
    return made


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


def complete(beginning: str, store: Store) -> list[str]:
    """Names that begin so: `resn`, `torchvision:resn`. No library is imported to know them.

    Those of timm, which has more files than are read in no time, only if it is named.
    """
    from cnnscope.zoo import registered

    source, colon, start = beginning.rpartition(":")
    found: list[str] = []
    for one, package in LIBRARIES.items():
        if source not in ("", one) or version(package) is None:
            continue
        listed = names(one, store)
        if listed is None and (source or one != "timm"):
            listed = tuple(registered.names(one))
        found += [f"{source}{colon}{name}" for name in listed or () if name.startswith(start)]
        if start and not source and one.startswith(start):
            found += [f"{one}:{name}" for name in listed or ("",)]
    return list(dict.fromkeys(found))


def ask_names(source: str) -> tuple[str, ...]:
    """The names that a library offers, from the library itself."""
    from cnnscope import zoo

    return tuple(zoo.library(source).names())


def about(trace: Trace) -> About:
    """What the library says of a model of its own."""
    from cnnscope import zoo

    source = trace.source
    return zoo.library(source.source).about(source.name, trace.input_specs[0].shape)


def card_key(source: str, name: str) -> dict[str, Any]:
    """The key of a model's line in the list."""
    return {"what": "card", "source": source, "name": name, **_versions(source)}


def _library(spec: specs.ModelSpec, store: Store) -> str:
    """The library that a name means; "" if it is none's, or if that cannot be known yet."""
    if spec.source:
        return spec.source if spec.source in LIBRARIES else ""
    for source, package in LIBRARIES.items():
        if version(package) is None:
            continue
        known = names(source, store)
        if known is None:
            return ""
        if spec.name in known:
            return source
    return ""


def _names_key(source: str) -> dict[str, Any]:
    return {"what": "names", "source": source, **_versions(source)}


def _key(source: str, name: str, request: Request) -> dict[str, Any]:
    """The key of a trace; what was typed may be no text that can be written, hence `ascii`."""
    return {
        "what": "trace",
        "schema": TRACE_SCHEMA,
        "source": source,
        "name": ascii(name),
        "inputs": ascii(request.inputs),
        "arguments": {ascii(name): ascii(value) for name, value in request.arguments.items()},
        "num_classes": request.num_classes,
        "batch_size": request.batch_size,
        "dtype": ascii(request.dtype),
        **_versions(source),
    }


def _versions(source: str) -> dict[str, str | None]:
    """Versions of all that an answer is made with, this program's own code included."""
    return {"code": code(), "torch": version("torch"), "library": version(LIBRARIES[source])}
