"""`cnnscope stages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session


@dataclass(kw_only=True, repr=False, eq=False)
class Stages(options.Written, options.Traced):
    """The architecture table that papers print, made from the models.

    Example: cnnscope stages resnet18 resnet34 resnet50

    Rows are stages by output resolution. A bracket is a block: its weight layers in order, kernel
    and output channels, and how often it is repeated. Options hold for all models.
    """

    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Models of a family, side by side.",
            autocompletion=options.complete_model,
        ),
    ]
    projections: Annotated[
        bool,
        options.ROWS(
            "--projections",
            "Show the projections of shortcuts as well, and layers that see no data.",
        ),
    ] = False

    def run(self, session: Session) -> None:
        """Write the table."""
        from cnnscope.cli import out

        out.check_writable(self.output)

        from cnnscope import api

        wanted = [self.request_for(model) for model in self.models]
        report = api.stages(wanted, cache=self.cache(session))
        report = report.view(projections=self.projections)
        self.write(report)
