"""`cnnscope list`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.cache.store import Store
    from cnnscope.records import Listed
    from cnnscope.reports.catalogue import Wanted

_LIMITED = {"activation": "activations", "rf": "field"}  # limits are named as those of a budget
_MANY = 12  # names in a message


@dataclass(frozen=True, kw_only=True)
class List(options.Written, options.Cached):
    """Every model that can be named, with its size and its cost.

    Example: cnnscope list 'resnet*' --sort macs

    Parameters, MACs, memory, receptive field and published accuracy. The first run traces what it
    lists, on all cores, and keeps it; afterwards it is instant.
    """

    pattern: Annotated[
        str, typer.Argument(help="Names to show, with * and ?.", show_default=False)
    ] = "*"
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="Of torchvision, classic, timm. Repeatable. Left out: torchvision and classic.",
        ),
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            help="Largest first, by params, macs, activations, field, layers or acc.",
        ),
    ] = None
    task: Annotated[
        str, typer.Option("--task", help="Such as classification, detection, segmentation, video.")
    ] = ""
    family: Annotated[str, typer.Option("--family", help="Such as resnet.")] = ""
    max_params: Annotated[
        str | None, typer.Option("--max-params", metavar="N", help="Such as 10M.")
    ] = None
    min_params: Annotated[str | None, typer.Option("--min-params", metavar="N")] = None
    max_macs: Annotated[
        str | None, typer.Option("--max-macs", metavar="N", help="Such as 1.5G.")
    ] = None
    max_activation: Annotated[
        str | None,
        typer.Option("--max-activation", metavar="BYTES", help="Of the peak, such as 50MiB."),
    ] = None
    min_rf: Annotated[
        str | None, typer.Option("--min-rf", metavar="N", help="Of the field, in pixels.")
    ] = None
    min_acc: Annotated[
        str | None, typer.Option("--min-acc", metavar="PERCENT", help="Published top-1.")
    ] = None
    pareto: Annotated[
        str | None,
        typer.Option(
            "--pareto", metavar="A:B", help="Mark what no other model beats, as in params:acc."
        ),
    ] = None

    def run(self, session: Session) -> None:
        """List."""
        from cnnscope.cli import out
        from cnnscope.reports import catalogue

        _known("--sort", self.sort)
        options.pattern(self.pattern, "PATTERN")
        wanted = catalogue.Wanted(
            self.pattern,
            _sources(self.source),
            self.task,
            self.family,
            _limits(
                {
                    "--max-params": self.max_params,
                    "--max-macs": self.max_macs,
                    "--max-activation": self.max_activation,
                }
            ),
            _limits(
                {
                    "--min-params": self.min_params,
                    "--min-rf": self.min_rf,
                    "--min-acc": self.min_acc,
                }
            ),
        )
        axes = _pareto(self.pareto)
        out.check_writable(self.output)
        session.use = partial(_use, wanted)
        listed = _listed(wanted, self.store(session))
        report = catalogue.report(listed, wanted, sort=self.sort or "", pareto=axes)
        if not report.models:
            _none_such("--task", self.task, {one.card.about.task for one in listed if one.card})
            _none_such(
                "--family", self.family, {one.card.about.family for one in listed if one.card}
            )
            count = f"none of {len(listed)} models keeps" if len(listed) > 1 else "it does not keep"
            raise RequestError(f"{count} to these limits")
        out.write_report(report, self.format.value, self.output)


def _listed(wanted: Wanted, store: Store | None) -> list[Listed]:
    """All lines, with a progress bar where they have to be made."""
    from cnnscope.cli.progress import PATIENCE, progress
    from cnnscope.reports import catalogue

    models = catalogue.names(wanted, store)
    listed = []
    with progress("tracing", PATIENCE) as update:
        for one in catalogue.cards(models, store):
            listed.append(one)
            update(len(listed), len(models), one.name)
    return listed


def _use(wanted: Wanted, record: object) -> None:
    """Do with one stored record what is done with all of them, to find one that is nonsense."""
    from cnnscope.cli import out
    from cnnscope.records import Card, Listed
    from cnnscope.reports import catalogue

    if isinstance(record, Card):
        alone = [Listed(record.source, record.name, record)]
        catalogue.report(alone, wanted)
        for sort in ("", *catalogue.KEYS):
            out.rendered(catalogue.report(alone, catalogue.Wanted(), sort=sort))


def _limits(given: Mapping[str, str | None]) -> dict[str, float]:
    """Limits that were given, by what they limit."""
    from cnnscope.reports.budget import parse_limits

    found = {key.split("_", 1)[1]: limit for key, limit in parse_limits(given).items()}
    return {_LIMITED.get(key, key): limit for key, limit in found.items()}


def _sources(given: list[str] | None) -> tuple[str, ...]:
    from cnnscope.cache.requests import LIBRARIES

    for source in given or ():
        if source not in LIBRARIES:
            raise RequestError(f"--source {source[:40]!r}: use one of {', '.join(LIBRARIES)}")
    return tuple(dict.fromkeys(given or ("torchvision", "classic")))


def _pareto(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, _, second = text.partition(":")
    if not second or first == second:
        raise RequestError(f"--pareto {text[:40]!r}: give two, as in params:acc")
    _known("--pareto", first)
    _known("--pareto", second)
    return first, second


def _none_such(option: str, wanted: str, there: set[str]) -> None:
    """Say what there is, where no model is of the task or family that was wanted."""
    from difflib import get_close_matches

    from cnnscope.text import printable

    if not wanted or wanted in there:
        return
    near = get_close_matches(wanted, there, 3, 0.5) or sorted(there)
    more = f" and {len(near) - _MANY} more" if len(near) > _MANY else ""
    raise RequestError(
        f"{option} {printable(wanted, 40)!r}: there is {', '.join(near[:_MANY])}{more}"
    )


def _known(option: str, key: str | None) -> None:
    from cnnscope.reports.catalogue import KEYS

    if key is not None and key not in KEYS:
        raise RequestError(f"{option} {key[:40]!r}: use one of {', '.join(KEYS)}")
