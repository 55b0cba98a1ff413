"""The answer to `cnnscope list`: every model that can be named, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import Any

import msgspec

from cnnscope import parallel
from cnnscope.cache import requests
from cnnscope.cache.store import Store
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.request import Request
from cnnscope.records import Card, Listed, ListReport


def _field(axes: Sequence[int | None]) -> float:
    """The largest axis, in pixels; all of every axis is more than any."""
    return max((size for size in axes if size is not None), default=inf)


# What models can be sorted and compared by, and whether less of it is better.
KEYS: dict[str, Callable[[Card], float | None]] = {
    "params": lambda card: card.params,
    "macs": lambda card: card.macs,
    "activations": lambda card: card.peak_activation_bytes,
    "field": lambda card: _field(card.field) if card.field else None,
    "layers": lambda card: card.weight_layers,
    "acc": lambda card: card.about.top1,
}
MORE_IS_BETTER = ("acc", "field")


_WORTH_PROCESSES = 6  # fewer models take less time than other processes take to import torch


class Wanted(msgspec.Struct, frozen=True):
    """A choice of models: a glob, and limits that a model must keep to."""

    pattern: str = "*"
    sources: tuple[str, ...] = ()
    task: str = ""
    family: str = ""
    most: dict[str, float] = {}  # by key of KEYS
    least: dict[str, float] = {}


def names(wanted: Wanted, store: Store | None) -> list[tuple[str, str]]:
    """(source, name) of every model that the pattern matches.

    Raises:
        RequestError: it matches none.
    """
    known = [
        (source, name)
        for source in wanted.sources
        for name in (requests.keep_names(source, store) if store else requests.ask_names(source))
    ]
    found = [one for one in known if _matches(wanted.pattern, *one)]
    if not found:
        raise RequestError(
            f"no model of {', '.join(wanted.sources)} matches {wanted.pattern[:60]!r}; "
            "a pattern is a name with * and ?, such as 'resnet*'"
        )
    return found


def cards(
    models: Sequence[tuple[str, str]], store: Store | None, *, processes: int | None = None
) -> Iterator[Listed]:
    """Each model's line, those that are stored first; the others are made on all cores, and kept.

    An interruption loses nothing that was made.
    """
    missing = []
    for source, name in models:
        card = store and store.read(requests.card_key(source, name), Card)
        if card:
            yield Listed(source, name, card)
        else:
            missing.append((source, name))
    root = store.root if store else None
    if len(missing) < _WORTH_PROCESSES:
        yield from (_make(source, name, root) for source, name in missing)
    else:
        items = [(*model, root) for model in missing]
        yield from _in_processes(items, processes or parallel.cores())


def _in_processes(items: Sequence[tuple[object, ...]], processes: int) -> Iterator[Listed]:
    from concurrent.futures.process import BrokenProcessPool

    try:
        yield from parallel.each(_make, items, processes)
    except BrokenProcessPool:
        raise RequestError(
            "list: a process was killed, perhaps for lack of memory; what was read is kept, and "
            "the same command goes on from there"
        ) from None


def report(
    listed: Sequence[Listed],
    wanted: Wanted,
    *,
    sort: str = "",
    pareto: tuple[str, str] | None = None,
) -> ListReport:
    """Those that keep to the limits, sorted; the best of them marked."""
    kept = [one for one in listed if _keeps(one, wanted)]
    if pareto:
        kept = _marked(kept, *pareto)
    if sort:
        kept = [
            msgspec.structs.replace(one, value=KEYS[sort](one.card) if one.card else None)
            for one in kept
        ]
    kept.sort(key=lambda one: _order(one, sort))
    return ListReport(tuple(kept), sort, pareto)


# ---------------------------------------------------------------------------- making them


def _make(source: str, name: str, root: Any) -> Listed:
    """Trace a model, keep its trace and its card; one that fails is a line as well."""
    from cnnscope.reports.summary import card

    store = Store(root) if root else None
    try:
        trace = requests.trace(Request.of(f"{source}:{name}"), store)
        made = card(trace, requests.about(trace))
    except CnnscopeError as error:
        return Listed(source, name, None, str(error))
    if store:
        store.write(requests.card_key(source, name), made)
    return Listed(source, name, made)


# ------------------------------------------------------------------------------- choosing


def _matches(pattern: str, source: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(f"{source}:{name}", pattern)


def _keeps(one: Listed, wanted: Wanted) -> bool:
    """Return True if a model is wanted; what has no figure keeps to no limit."""
    limits = wanted.most or wanted.least
    if one.card is None:
        return not (limits or wanted.task or wanted.family)
    about = one.card.about
    if wanted.task and about.task != wanted.task:
        return False
    if wanted.family and about.family != wanted.family:
        return False
    most = [(KEYS[key](one.card), limit) for key, limit in wanted.most.items()]
    least = [(KEYS[key](one.card), limit) for key, limit in wanted.least.items()]
    return all(v is not None and v <= limit for v, limit in most) and all(
        v is not None and v >= limit for v, limit in least
    )


def _order(one: Listed, sort: str) -> tuple[Any, ...]:
    """By family; or the largest first, and last what has no figure."""
    if one.card is None:
        return (1, 0, "", "", one.name)
    about = one.card.about
    if not sort:
        return (0, 0, one.source != "torchvision", about.task != "classification", about.task,
                about.family, one.card.params, one.name)  # fmt: skip
    return (0, 1, 0) if one.value is None else (0, 0, -one.value, one.name)


def _marked(listed: Sequence[Listed], first: str, second: str) -> list[Listed]:
    """Mark the models that no other beats: as good in both figures, and better in one."""
    figures = {id(one): _figures(one, first, second) for one in listed}
    present = [f for f in figures.values() if f is not None]

    def beaten(mine: tuple[float, float]) -> bool:
        return any(f != mine and f[0] >= mine[0] and f[1] >= mine[1] for f in present)

    marked = []
    for one in listed:
        mine = figures[id(one)]
        best = mine is not None and not beaten(mine)
        marked.append(msgspec.structs.replace(one, best=best))
    return marked


def _figures(one: Listed, first: str, second: str) -> tuple[float, float] | None:
    """Both figures, turned so that more is better; None where one is missing."""
    if one.card is None:
        return None
    values = [(KEYS[key](one.card), key in MORE_IS_BETTER) for key in (first, second)]
    turned = [v if more else -v for v, more in values if v is not None]
    return (turned[0], turned[1]) if len(turned) == 2 else None
