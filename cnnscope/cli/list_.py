"""`cnnscope list`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options, plotted
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError


@dataclass(kw_only=True, repr=False, eq=False)
class List(plotted.Charted, options.Cached):
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
            help="List the models of torchvision, classic or timm, as in --source timm. May be "
            "repeated; left out, torchvision and classic.",
            rich_help_panel="Which models",
        ),
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            help="List the largest first, by params, macs, activations, field, layers, acc or "
            "input, as in --sort macs.",
            rich_help_panel="Rows and columns",
        ),
    ] = None
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="TASK",
            help="List models for a task, such as classification, detection, segmentation or "
            "video, as in --task video.",
            rich_help_panel="Which models",
        ),
    ] = ""
    family: Annotated[
        str,
        typer.Option(
            "--family",
            metavar="FAMILY",
            help="List the models of a family, as in --family resnet.",
            rich_help_panel="Which models",
        ),
    ] = ""
    max_params: Annotated[
        str | None,
        typer.Option(
            "--max-params",
            metavar="N",
            help="List models with at most N parameters, as in --max-params 10M.",
            rich_help_panel="Limits",
        ),
    ] = None
    min_params: Annotated[
        str | None,
        typer.Option(
            "--min-params",
            metavar="N",
            help="List models with at least N parameters, as in --min-params 1M.",
            rich_help_panel="Limits",
        ),
    ] = None
    max_macs: Annotated[
        str | None,
        typer.Option(
            "--max-macs",
            metavar="N",
            help="List models with at most N MACs, as in --max-macs 1.5G.",
            rich_help_panel="Limits",
        ),
    ] = None
    max_activation: Annotated[
        str | None,
        typer.Option(
            "--max-activation",
            metavar="BYTES",
            help="List models whose activations need at most this much memory, as in "
            "--max-activation 50MiB.",
            rich_help_panel="Limits",
        ),
    ] = None
    min_rf: Annotated[
        str | None,
        typer.Option(
            "--min-rf",
            metavar="N",
            help="List models that see at least N pixels, as in --min-rf 200.",
            rich_help_panel="Limits",
        ),
    ] = None
    min_acc: Annotated[
        str | None,
        typer.Option(
            "--min-acc",
            metavar="PERCENT",
            help="List models whose published top-1 accuracy is at least this, in percent, as "
            "in --min-acc 75.",
            rich_help_panel="Limits",
        ),
    ] = None
    pareto: Annotated[
        str | None,
        typer.Option(
            "--pareto",
            metavar="A:B",
            help="Mark the models that no other beats in both figures, as in --pareto params:acc.",
            rich_help_panel="Rows and columns",
        ),
    ] = None

    plot: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="A:B",
            help="Draw one figure of --sort against another, with the front of the best, as in "
            "--plot macs:acc, in place of the table; with --output zoo.svg, .pdf or .png into "
            "that file, and the table as well.",
            rich_help_panel="Output",
        ),
    ] = None

    def wants_chart(self) -> bool:
        """Return True if --plot was given."""
        return self.plot is not None

    def axes(self) -> str | None:
        """The two figures of --plot."""
        return self.plot

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse several patterns, which a shell may have expanded from one."""
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
        given = {"--sort": self.sort, "--pareto": self.pareto}
        self.check_chart(given, "--plot draws models by its own two figures")
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
        self.show(report)
