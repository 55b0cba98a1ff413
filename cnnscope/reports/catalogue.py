"""The answer to `cnnscope list`: every model that can be named, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Self

import msgspec

from cnnscope import parallel
from cnnscope.cache import libraries, requests
from cnnscope.cache.store import Store
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.request import Request
from cnnscope.records.catalogue import (
    CARD_SHAPE,
    MORE_IS_BETTER,
    About,
    Card,
    Listed,
    ListReport,
)
from cnnscope.records.trace import Trace
from cnnscope.reports.budget import parse_limits
from cnnscope.text import printable


def _field(axes: Sequence[int | None]) -> float:
    """The largest axis, in pixels; all of every axis is more than any."""
    return max((size for size in axes if size is not None), default=inf)


def _side(card: Card) -> float | None:
    """The longest side of the first input, in pixels."""
    return max(card.inputs[0].shape[2:], default=None) if card.inputs else None


# What models can be sorted and compared by, and whether less of it is better.
KEYS: dict[str, Callable[[Card], float | None]] = {
    "params": lambda card: card.params,
    "macs": lambda card: card.macs,
    "activations": lambda card: card.peak_activation_bytes,
    "field": lambda card: _field(card.field) if card.field else None,
    "layers": lambda card: card.weight_layers,
    "acc": lambda card: card.about.top1,
    "input": _side,
}
_LIMITED = {"activation": "activations", "rf": "field"}  # limits are named as those of a budget
_WILD = frozenset("*?[")
_MANY = 12  # names in a message


_WORTH_PROCESSES = 6  # fewer models take less time than other processes take to import torch


class Wanted(msgspec.Struct, frozen=True):
    """A choice of models: a part of their names or a glob, and limits that a model must keep to."""

    pattern: str = "*"
    sources: tuple[str, ...] = ()
    task: str = ""
    family: str = ""
    most: dict[str, float] = {}  # by key of KEYS
    least: dict[str, float] = {}


class Order(msgspec.Struct, frozen=True):
    """By which of KEYS models are sorted, and in which two figures the best are marked."""

    sort: str = ""
    pareto: tuple[str, str] | None = None

    @classmethod
    def of(cls, sort: str | None, pareto: str | None) -> Self:
        """Parse the options of the same names.

        Raises:
            RequestError: one names no key.
        """
        _known("--sort", sort)
        return cls(sort or "", None if pareto is None else pair("--pareto", pareto))


def pair(option: str, text: str) -> tuple[str, str]:
    """Two keys with a colon between them.

    Raises:
        RequestError: they are not two, or one of them is no key.
    """
    first, _, second = text.partition(":")
    if not second or first == second:
        raise RequestError(f"{option} {printable(text, 40)!r}: give two, as in params:acc")
    _known(option, first)
    _known(option, second)
    return first, second


def _known(option: str, key: str | None) -> None:
    if key is not None and key not in KEYS:
        raise RequestError(f"{option} {printable(key, 40)!r}: use one of {', '.join(KEYS)}")


def wanted(
    pattern: str,
    sources: Sequence[str],
    task: str,
    family: str,
    limits: Mapping[str, float | str | None],
) -> Wanted:
    """Parse what is wanted.

    Args:
        pattern: part of a name, or all of it with * and ?.
        sources: libraries; () for those that are installed with this program.
        task: such as "classification"; "" for any.
        family: such as "resnet"; "" for any.
        limits: by option, such as {"--max-params": "10M"}.

    Raises:
        RequestError: an unknown library, or a limit that is no number.
    """
    for source in sources:
        if source not in libraries.LIBRARIES:
            known = ", ".join(libraries.LIBRARIES)
            raise RequestError(f"--source {source[:40]!r}: use one of {known}")
    found = parse_limits(limits)
    most, least = (
        {_LIMITED.get(key, key): limit for name, limit in found.items()
         for key in (name.partition("_")[2],) if name.startswith(side)}
        for side in ("max_", "min_")
    )  # fmt: skip
    listed = tuple(dict.fromkeys(sources or ("torchvision", "classic")))
    return Wanted(pattern, listed, task, family, most, least)


def names(wanted: Wanted, store: Store | None) -> list[tuple[str, str]]:
    """(source, name) of every model that the pattern matches.

    Raises:
        RequestError: it matches none.
    """
    known = [(source, name) for source in wanted.sources for name in libraries.names(source, store)]
    found = [one for one in known if _matches(wanted.pattern, *one)]
    if not found:
        raise RequestError(
            f"no model of {', '.join(wanted.sources)} matches {wanted.pattern[:60]!r}; "
            "a word is part of a name, such as resnet, a pattern all of it, such as 'resnet*'"
            + _elsewhere(wanted)
        )
    return found


def _elsewhere(wanted: Wanted) -> str:
    """Say that timm has models of such names, where it was not asked."""
    from cnnscope.models import registered

    if "timm" in wanted.sources:
        return ""
    pattern = wanted.pattern.removeprefix("timm:")
    found = [one for one in registered.names("timm") if _matches(pattern, "timm", one)]
    return f"; timm has {len(found)}: --source timm lists them" if found else ""


def cards(models: Sequence[tuple[str, str]], store: Store | None) -> Iterator[Listed]:
    """Each model's line, those that are stored first; the others are made on all cores, and kept.

    An interruption loses nothing that was made.
    """
    missing = []
    for source, name in models:
        card = store and store.read(card_key(source, name), Card)
        if card:
            yield Listed(source, name, card)
        else:
            missing.append((source, name))
    root = store.root if store else None
    if len(missing) < _WORTH_PROCESSES:
        yield from (_make(source, name, root) for source, name in missing)
    else:
        items = [(*model, root) for model in missing]
        yield from _in_processes(items)


def card_key(source: str, name: str) -> dict[str, Any]:
    """The key of a card in the store."""
    return libraries.key("card", source, name=name, shape=CARD_SHAPE)


def _in_processes(items: Sequence[tuple[object, ...]]) -> Iterator[Listed]:
    from concurrent.futures.process import BrokenProcessPool

    try:
        yield from parallel.each(_make, items, parallel.cores())
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


def chosen(listed: Sequence[Listed], wanted: Wanted, order: Order) -> ListReport:
    """The report on those that are wanted.

    Raises:
        RequestError: none is; where no model is of that task or family, with those that there are.
    """
    made = report(listed, wanted, sort=order.sort, pareto=order.pareto)
    if not made.models:
        abouts = [one.card.about for one in listed if one.card]
        _none_such("--task", wanted.task, {about.task for about in abouts})
        _none_such("--family", wanted.family, {about.family for about in abouts})
        count = f"none of {len(listed)} models keeps" if len(listed) > 1 else "it does not keep"
        raise RequestError(f"{count} to these limits")
    return made


def compared(report: ListReport, axes: tuple[str, str]) -> ListReport:
    """The list with the best in two figures marked, and these figures of every model."""
    return msgspec.structs.replace(report, models=tuple(_marked(report.models, *axes)), pareto=axes)


def _none_such(option: str, wanted: str, there: set[str]) -> None:
    """Say what there is, where no model is of the task or family that was wanted."""
    if not wanted or wanted in there:
        return
    near = get_close_matches(wanted, there, 3, 0.5) or sorted(there)
    more = f" and {len(near) - _MANY} more" if len(near) > _MANY else ""
    raise RequestError(
        f"{option} {printable(wanted, 40)!r}: there is {', '.join(near[:_MANY])}{more}"
    )


def alone(record: Card) -> Iterator[ListReport]:
    """Every use of one stored record by itself, to find one that is nonsense."""
    listed = [Listed(record.source, record.name, record)]
    report(listed, Wanted(most=dict.fromkeys(KEYS, inf), least=dict.fromkeys(KEYS, 0.0)))
    for sort in ("", *KEYS):
        yield report(listed, Wanted(), sort=sort)


# ---------------------------------------------------------------------------- making them


def _make(source: str, name: str, root: Any) -> Listed:
    """Trace a model, keep its trace and its card; one that fails is a line as well."""
    from cnnscope.reports.summary import card

    store = Store(root) if root else None
    try:
        trace = requests.trace(Request.of(f"{source}:{name}"), store)
        made = card(trace, _about(trace))
    except CnnscopeError as error:
        return Listed(source, name, None, str(error))
    if store:
        store.write(card_key(source, name), made)
    return Listed(source, name, made)


def _about(trace: Trace) -> About:
    """Facts that the library states of a model of its own."""
    from cnnscope.models import find

    source = trace.source
    return find.library(source.source).about(source.name, trace.input_specs[0].shape)


# ------------------------------------------------------------------------------- choosing


def _matches(pattern: str, source: str, name: str) -> bool:
    """Return True if a pattern with * and ? is the whole name, or a word is part of it."""
    pattern = pattern.lower()
    if not _WILD.intersection(pattern):
        pattern = f"*{pattern}*"
    return fnmatchcase(name.lower(), pattern) or fnmatchcase(f"{source}:{name}".lower(), pattern)


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
    figures = {id(one): _turned(one, first, second) for one in listed}
    present = [f for f in figures.values() if f is not None]

    def beaten(mine: tuple[float, float]) -> bool:
        return any(f != mine and f[0] >= mine[0] and f[1] >= mine[1] for f in present)

    marked = []
    for one in listed:
        mine = figures[id(one)]
        best = mine is not None and not beaten(mine)
        found = _figures(one, first, second)
        marked.append(msgspec.structs.replace(one, best=best, figures=found))
    return marked


def _figures(one: Listed, first: str, second: str) -> tuple[float, float] | None:
    """Both figures; None where one is missing."""
    values = [KEYS[key](one.card) if one.card else None for key in (first, second)]
    known = [float(value) for value in values if value is not None]
    return (known[0], known[1]) if len(known) == 2 else None


def _turned(one: Listed, first: str, second: str) -> tuple[float, float] | None:
    """Both figures, turned so that more is better."""
    figures = _figures(one, first, second)
    if figures is None:
        return None
    signs = [1 if key in MORE_IS_BETTER else -1 for key in (first, second)]
    return signs[0] * figures[0], signs[1] * figures[1]
