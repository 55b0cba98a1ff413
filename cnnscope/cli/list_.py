"""`cnnscope list`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options, plotted
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

_CHOICE = options.Panel("Which models")


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
        _CHOICE(
            "--source LIBRARY",
            "List the models of torchvision, classic or timm, as in --source timm. May be "
            "repeated; left out, torchvision and classic.",
        ),
    ] = None
    sort: Annotated[
        str | None,
        options.ROWS(
            "--sort COLUMN",
            "List the largest first, by params, macs, activations, field, layers, acc or "
            "input, as in --sort macs.",
        ),
    ] = None
    task: Annotated[
        str,
        _CHOICE(
            "--task TASK",
            "List models for a task, such as classification, detection, segmentation or "
            "video, as in --task video.",
        ),
    ] = ""
    family: Annotated[
        str, _CHOICE("--family FAMILY", "List the models of a family, as in --family resnet.")
    ] = ""
    max_params: Annotated[
        str | None,
        options.LIMITS(
            "--max-params N", "List models with at most N parameters, as in --max-params 10M."
        ),
    ] = None
    min_params: Annotated[
        str | None,
        options.LIMITS(
            "--min-params N", "List models with at least N parameters, as in --min-params 1M."
        ),
    ] = None
    max_macs: Annotated[
        str | None,
        options.LIMITS("--max-macs N", "List models with at most N MACs, as in --max-macs 1.5G."),
    ] = None
    max_activation: Annotated[
        str | None,
        options.LIMITS(
            "--max-activation BYTES",
            "List models whose activations need at most this much memory, as in "
            "--max-activation 50MiB.",
        ),
    ] = None
    min_rf: Annotated[
        str | None,
        options.LIMITS("--min-rf N", "List models that see at least N pixels, as in --min-rf 200."),
    ] = None
    min_acc: Annotated[
        str | None,
        options.LIMITS(
            "--min-acc PERCENT",
            "List models whose published top-1 accuracy is at least this, in percent, as "
            "in --min-acc 75.",
        ),
    ] = None
    pareto: Annotated[
        str | None,
        options.ROWS(
            "--pareto A:B",
            "Mark the models that no other beats in both figures, as in --pareto params:acc.",
        ),
    ] = None

    plot: Annotated[
        str | None,
        options.OUTPUT(
            "--plot A:B",
            "Draw one figure of --sort against another, with the front of the best, as in "
            "--plot macs:acc, in place of the table; with --output zoo.svg, .pdf or .png into "
            "that file, and the table as well.",
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
