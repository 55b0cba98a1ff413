"""`cnnscope rf`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.cli.load import load
from cnnscope.errors import RequestError


def rf(
    model: options.Model,
    layer: Annotated[
        Optional[str],
        typer.Argument(help="One layer, such as layer4.0.conv1.", show_default=False),
    ] = None,
    unit: Annotated[
        Optional[str],
        typer.Option(
            "--unit",
            metavar="Y,X",
            help="Which unit of the layer's output, counted from 0; left out: the centre one.",
        ),
    ] = None,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> None:
    """Receptive fields: how they grow, where they outgrow the input, what one unit sees.

    Example: cnnscope rf resnet18 layer2.0 --unit 3,5

    Sizes are in input pixels and unclipped: what an interior unit of an arbitrarily large image
    sees. `min` is the field of the shortest path; a layer is unproductive when that covers the
    input before the layer has run.
    """
    from cnnscope.cli import out

    chosen = _unit(unit, layer)
    out.check_writable(output)

    from cnnscope.render import field
    from cnnscope.rf import field_report, unit_report

    trace = load(model, input_, batch_size, num_classes, arg, dtype)
    report = field_report(trace) if layer is None else unit_report(trace, layer, chosen)
    out.write_report(report, field, format_.value, output)


def _unit(text: str | None, layer: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if layer is None:
        raise RequestError("--unit: name a layer as well, as in: cnnscope rf resnet18 layer2.0")
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise RequestError(f"--unit {text[:20]!r}: expected numbers, as in 3,5")
    return tuple(map(int, parts))
