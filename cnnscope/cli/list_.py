"""`cnnscope list`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError


@dataclass(kw_only=True, repr=False, eq=False)
class List(options.Written, options.Cached):
    """Every model that can be named, with its size and its cost.

    Example: cnnscope list resnet --sort macs

    Parameters, MACs, memory, receptive field and published accuracy. The first run traces what it
    lists, on all cores, and keeps it; afterwards it is instant.
    """

    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="Part of a name, such as resnet, or all of it with * and ?, such as 'resnet*'.",
            show_default=False,
        ),
    ] = "*"
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="LIBRARY",
            help="Models of torchvision, classic or timm. Repeatable. Left out: torchvision and "
            "classic.",
        ),
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="List the largest first, by params, macs, activations, field, layers or acc.",
        ),
    ] = None
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="TASK",
            help="Models for a task: classification, detection, segmentation, video ...",
        ),
    ] = ""
    family: Annotated[
        str, typer.Option("--family", metavar="FAMILY", help="Models of a family, such as resnet.")
    ] = ""
    max_params: Annotated[
        str | None,
        typer.Option(
            "--max-params", metavar="N", help="Models with at most N parameters, such as 10M."
        ),
    ] = None
    min_params: Annotated[
        str | None,
        typer.Option(
            "--min-params", metavar="N", help="Models with at least N parameters, such as 1M."
        ),
    ] = None
    max_macs: Annotated[
        str | None,
        typer.Option("--max-macs", metavar="N", help="Models with at most N MACs, such as 1.5G."),
    ] = None
    max_activation: Annotated[
        str | None,
        typer.Option(
            "--max-activation",
            metavar="BYTES",
            help="Models with at most this peak activation memory, such as 50MiB.",
        ),
    ] = None
    min_rf: Annotated[
        str | None,
        typer.Option(
            "--min-rf",
            metavar="N",
            help="Models whose receptive field is at least N pixels, such as 200.",
        ),
    ] = None
    min_acc: Annotated[
        str | None,
        typer.Option(
            "--min-acc",
            metavar="PERCENT",
            help="Models whose published top-1 accuracy is at least this, such as 75.",
        ),
    ] = None
    pareto: Annotated[
        str | None,
        typer.Option(
            "--pareto", metavar="A:B", help="Mark what no other model beats, as in params:acc."
        ),
    ] = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Say that a shell may have made several of one."""
        raise RequestError(
            f"list takes one pattern, and was given {len(words)} words: quote it, as in: cnnscope "
            "list 'resnet*'"
        )

    def run(self, session: Session) -> None:
        """Write the list."""
        from cnnscope import api
        from cnnscope.cli import out
        from cnnscope.cli.progress import PATIENCE, progress

        options.pattern(self.pattern, "PATTERN")
        out.check_writable(self.output)
        session.use = out.use
        with progress("tracing", PATIENCE) as update:
            report = api.list_models(
                self.pattern,
                sources=self.source or (),
                task=self.task,
                family=self.family,
                max_params=self.max_params,
                min_params=self.min_params,
                max_macs=self.max_macs,
                max_activation=self.max_activation,
                min_rf=self.min_rf,
                min_acc=self.min_acc,
                sort=self.sort,
                pareto=self.pareto,
                cache=self.cache(session),
                progress=update,
            )
        self.write(report)
