"""`cnnscope summary`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.cli.load import load
from cnnscope.errors import RequestError


def summary(
    model: options.Model,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    depth: Annotated[
        Optional[str],
        typer.Option("--depth", "-d", metavar="N|all", help="Levels of the call tree to show."),
    ] = None,
    unfold: Annotated[bool, typer.Option("--unfold", help="Show equal blocks one by one.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Every row, rearranging operations too.")
    ] = False,
    columns: Annotated[
        Optional[str],
        typer.Option(
            "--columns",
            metavar="A,B,...",
            help="Of layer, path, operation, input, output, kernel, features, params, macs, "
            "flops, share, field, element-ops, activation.",
        ),
    ] = None,
    sort: Annotated[
        Optional[str],
        typer.Option("--sort", help="List layers by macs, params, element-ops or activation."),
    ] = None,
    filter_: Annotated[
        Optional[str],
        typer.Option("--filter", metavar="GLOB", help="Only layers of such a path or operation."),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> None:
    """Layers, output shapes, parameters, MACs and memory of a model.

    Example: cnnscope summary resnet18 --input 3x224x224

    No weights are allocated or downloaded: the model runs once on tensors without data.
    """
    from cnnscope.cli import out
    from cnnscope.render import columns as all_columns
    from cnnscope.render.view import Options

    if format_ in (options.Format.JSON, options.Format.CSV):
        given = {"--depth": depth, "--unfold": unfold, "--all": everything, "--columns": columns}
        given |= {"--sort": sort, "--filter": filter_}
        _refuse(given, f"--format {format_.value} always holds every row and column")
    elif sort is not None or filter_ is not None:
        given = {"--depth": depth, "--unfold": unfold}
        _refuse(given, "--sort and --filter list single layers")
    chosen = all_columns.choose(
        all_columns.DEFAULT if columns is None else [key.strip() for key in columns.split(",")]
    )
    chosen_rows = Options(_depth(depth), unfold, everything, sort, filter_)
    out.check_writable(output)

    from cnnscope.report import report

    trace = load(model, input_, batch_size, num_classes, arg, dtype)
    out.write_summary(report(trace), chosen_rows, chosen, format_.value, output)


def _refuse(given: Mapping[str, object], reason: str) -> None:
    """An option that would have no effect is a mistake."""
    for option, value in given.items():
        if value:
            raise RequestError(f"{option} has no effect here: {reason}")


def _depth(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "all":
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**6:
        raise RequestError(f"--depth {text[:20]!r}: expected a number from 1, or all")
    return int(text)
