"""Libraries of published models: their names, from the store or their files, and their versions.

No library is imported, which takes seconds, but by `ask_names`.
"""

from __future__ import annotations

import itertools
from typing import Any

from cnnscope.cache.store import Store, code
from cnnscope.models import registered
from cnnscope.models.installed import version
from cnnscope.models.names import ModelSpec

# Sources whose models depend on nothing but their name, arguments and installed versions, and the
# packages whose versions those are; in the order in which a bare name is looked for.
LIBRARIES = {"torchvision": "torchvision", "classic": "torch", "timm": "timm"}


def key(what: str, source: str, **request: Any) -> dict[str, Any]:
    """The key of an entry of the store.

    Args:
        what: the kind of its record.
        source: the library.
        **request: what else the record depends on, beside the versions of all that it is made
            with, this program's own code included.
    """
    versions = {"code": code(), "torch": version("torch"), "library": version(LIBRARIES[source])}
    return {"what": what, "source": source, **request, **versions}


def is_named(name: str) -> bool:
    """Return True if a library's files name a model so."""
    listed = registered.as_listed(name) or name
    return any(listed in registered.names(source) for source in LIBRARIES)


def canonical(spec: ModelSpec, store: Store | None) -> ModelSpec:
    """The model as its library lists it; names that are stored are not read in its files."""
    return registered.canonical(spec, lambda source: listed(source, store))


def of(spec: ModelSpec, store: Store) -> str:
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


def listed(source: str, store: Store | None) -> tuple[str, ...]:
    """Every name that a library offers; () where neither the store nor its files tell."""
    if store is not None:
        known = _stored(source, store)
        known = store.read(key("listed", source), tuple[str, ...]) if known is None else known
        if known is not None:
            return known
    return tuple(registered.names(source))


def names(source: str, store: Store | None) -> tuple[str, ...]:
    """Every name that a library offers: stored ones, or those that it has once it is imported."""
    known = _stored(source, store)
    if known is None:
        known = ask_names(source)
        if store is not None:
            store.write(key("names", source), known)
    return known


def keep_names(source: str, store: Store, *, bare: bool) -> None:
    """Keep the names of a library that has just been used.

    Args:
        source: the library.
        store: where they are kept.
        bare: also those of the libraries in which a bare name is looked for before this one, as
            they decide whether it means a model of this one.
    """
    names(source, store)
    earlier = itertools.takewhile(lambda one: one != source, LIBRARIES) if bare else ()
    for one in earlier:
        if version(LIBRARIES[one]) is not None and _stored(one, store) is None:
            store.write(key("listed", one), listed(one, store))


def ask_names(source: str) -> tuple[str, ...]:
    """The names that a library offers, from the library itself, which is imported."""
    from cnnscope.models import find

    return tuple(find.library(source).names())


def complete(beginning: str, store: Store | None) -> list[str]:
    """Names that begin so: `resn`, `torchvision:resn`.

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
            known = _stored(one, store)
        found += [f"{source}{colon}{name}" for name in known or () if name.startswith(start)]
        if start and not source and one.startswith(start):
            found += [f"{one}:{name}" for name in known or ("",)]
    return list(dict.fromkeys(found))


def _offered(source: str, start: str, store: Store | None) -> tuple[str, ...]:
    """Names of a library's models; behind a dot, those with a tag, which are timm's."""
    if source == "timm" and "." in start:
        return tuple(registered.tags())
    return listed(source, store)


def _stored(source: str, store: Store | None) -> tuple[str, ...] | None:
    """The names that a library itself has told; None where they are not stored."""
    return None if store is None else store.read(key("names", source), tuple[str, ...])
