"""`cnnscope diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.cli.load import load
from cnnscope.errors import RequestError


def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A model.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ],
    after: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[B]",
            help="Another; left out: A again, with the options that end in -b.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ] = None,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    input_b: Annotated[
        Optional[list[str]],
        typer.Option("--input-b", metavar="CxHxW", help="Input of B, in place of --input."),
    ] = None,
    batch_size_b: Annotated[
        Optional[int], typer.Option("--batch-size-b", metavar="N", help="Likewise for B.")
    ] = None,
    num_classes_b: Annotated[
        Optional[int], typer.Option("--num-classes-b", metavar="N", help="Likewise for B.")
    ] = None,
    arg_b: Annotated[
        Optional[list[str]],
        typer.Option("--arg-b", metavar="NAME=VALUE", help="In place of that --arg."),
    ] = None,
    dtype_b: Annotated[Optional[str], typer.Option("--dtype-b", help="Likewise for B.")] = None,
    depth: options.Depth = None,
    unfold: Annotated[
        bool, typer.Option("--unfold", help="Show equal rows one by one, and open every block.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Operations that only move data as well.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if they differ, as git diff does.")
    ] = False,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> int:
    """What changes from one model to another: layers, cost, memory and receptive field.

    Example: cnnscope diff vgg11 vgg13

    Rows are `=` equal, `~` changed, `+` added, `-` removed. Options hold for both models; one
    that ends in -b takes its place for B.
    """
    from cnnscope.cli import out

    given = (input_b, batch_size_b, num_classes_b, arg_b, dtype_b)
    if after is None and not any(given):
        raise RequestError(
            "diff: name a second model, as in: cnnscope diff vgg11 vgg13, or what is different "
            "the second time, as in: cnnscope diff resnet18 --input-b 3x320x320"
        )
    if format_ in (options.Format.JSON, options.Format.CSV):
        shown = {"--depth": depth, "--unfold": unfold, "--all": everything}
        options.refuse(shown, f"--format {format_.value} always holds every row")
    levels = options.levels(depth)
    out.check_writable(output)

    from cnnscope.render.diff import Options, Renderer
    from cnnscope.reports.diff import diff as compare

    first = load(before, input_, batch_size, num_classes, arg, dtype)
    second = load(
        before if after is None else after,
        input_b or input_,
        batch_size if batch_size_b is None else batch_size_b,
        num_classes if num_classes_b is None else num_classes_b,
        _instead(arg or (), arg_b or ()),
        dtype_b or dtype,
    )
    report = compare(first, second)
    renderer = Renderer(Options(levels, unfold, everything))
    out.write_report(report, renderer, format_.value, output)
    return int(exit_code and report.differs)


def _instead(arguments: Sequence[str], others: Sequence[str]) -> list[str]:
    """Arguments, those that others name replaced by them."""
    named = {text.partition("=")[0] for text in others}
    return [*(text for text in arguments if text.partition("=")[0] not in named), *others]
