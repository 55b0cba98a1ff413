"""`cnnscope explain`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.cli.load import examined, load


def explain(
    model: options.Model,
    layer: Annotated[
        Optional[str],
        typer.Argument(
            help="A layer such as features.4, or several: 'features.*'.", show_default=False
        ),
    ] = None,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    seconds: Annotated[
        Optional[float],
        typer.Option(
            "--seconds", metavar="S", help="Without a layer: try input sizes for S seconds.  [4]"
        ),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> None:
    """How each number of a layer comes about, with its numbers put in.

    Example: cnnscope explain vgg11 features.3

    Output size, parameters, MACs, receptive field, memory. A block is the sum of what it holds.
    Without a layer, the model in words and numbers: where its parameters and MACs are, where its
    resolution drops, and the sizes of input that work.
    """
    from cnnscope.cli import out

    options.pattern(layer, "LAYER")
    options.seconds(seconds)
    if layer is not None:
        options.refuse({"--seconds": seconds is not None}, "sizes are tried without a layer")
    out.check_writable(output)

    from cnnscope.analysis import receptive_field
    from cnnscope.render import explain as render
    from cnnscope.reports.explain import explain_layers, explain_model
    from cnnscope.reports.summary import report

    if layer is None:
        trace, sizes = examined(model, input_, batch_size, num_classes, arg, dtype, seconds)
        fields = receptive_field.fields(trace)
        found = explain_model(trace, report(trace, fields).totals, sizes, fields)
        out.write_report(found, render, format_.value, output)
    else:
        trace = load(model, input_, batch_size, num_classes, arg, dtype)
        out.write_report(explain_layers(trace, layer), render, format_.value, output)
