"""`cnnscope stages`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.load import load


class Format(str, Enum):
    """How the table is written: as other reports, and for a paper."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"


def stages(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models of a family, side by side.",
            autocompletion=options.complete_model,
        ),
    ],
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    projections: Annotated[
        bool,
        typer.Option(
            "--projections",
            help="Show the projections of shortcuts as well, and layers that see no data.",
        ),
    ] = False,
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="How to write it.")
    ] = Format.TABLE,
    output: options.Output = None,
) -> None:
    """The architecture table that papers print, made from the models.

    Example: cnnscope stages resnet18 resnet34 resnet50

    Rows are stages by output resolution. A bracket is a block: its weight layers in order, kernel
    and output channels, and how often it is repeated. Options hold for all models.
    """
    from cnnscope.cli import out

    out.check_writable(output)

    from cnnscope.render import stages as render
    from cnnscope.reports.stages import stages_report

    traces = [load(model, input_, batch_size, num_classes, arg, dtype) for model in models]
    report = stages_report(traces)
    renderer = render.Renderer(projections, inline=format_ is Format.MARKDOWN)
    if format_ is Format.LATEX:
        out.write(renderer.to_latex(report), output)
    else:
        out.write_report(report, renderer, format_.value, output)
