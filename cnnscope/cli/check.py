"""`cnnscope check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.errors import RequestError

_SOURCE = "torchvision"  # whose models --all checks


def check(
    model: Annotated[
        Optional[str],
        typer.Argument(
            help="A model, such as resnet18.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every model of torchvision; may be interrupted and resumed."),
    ] = False,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    seconds: Annotated[
        Optional[float],
        typer.Option("--seconds", metavar="S", help="Begin no further counter after this."),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> int:
    """Our numbers beside torchinfo, fvcore, torch, the published ones and a real forward.

    Example: cnnscope check resnet18

    Every counter runs on the spot, on random weights where it needs some: large models take
    minutes, unless --seconds ends it. A difference is explained
    if what the counter adds and leaves out, by its own rule, is the whole of it; the exit code is 1
    if one is not. The largest receptive field is measured by gradient, as by `rf --verify`.
    """
    from cnnscope.cli import out

    if everything:
        given = {"MODEL": model, "--input": input_, "--batch-size": batch_size}
        given |= {"--num-classes": num_classes, "--arg": arg, "--dtype": dtype}
        given |= {"--seconds": seconds is not None}
        options.refuse(given, "--all checks every model as it is published")
        out.check_writable(output)
        return _all(format_.value, output)
    if model is None:
        raise RequestError("check: name a model, as in: cnnscope check resnet18; or give --all")
    options.seconds(seconds)
    out.check_writable(output)

    from cnnscope.cache.requests import Request
    from cnnscope.models.spec import parse_arguments
    from cnnscope.render import check as renderer
    from cnnscope.reports import check as checking

    arguments = parse_arguments(arg or ())
    request = Request(model, tuple(input_ or ()), arguments, num_classes, batch_size, dtype)
    report = checking.check(request, seconds=seconds, tell=out.note)
    out.write_report(report, renderer, format_.value, output)
    return 1 if checking.differs(report) else 0


def _all(format_: str, output: Path | None) -> int:
    from cnnscope.cli import load, out
    from cnnscope.cli.progress import progress
    from cnnscope.render import check as renderer
    from cnnscope.reports import check as checking

    store = load.store()
    total, made = checking.check_all(_SOURCE, store)
    found: list[checking.Made] = []
    try:
        with progress("checking") as update:
            update(0, total)
            for one in made:
                found.append(one)
                update(len(found), total, one[0])
    except KeyboardInterrupt:
        if store:
            out.note(
                f"{len(found)} of {total} models are checked and kept; the same command goes on "
                "from there"
            )
        raise
    report = checking.summary(_SOURCE, found)
    out.write_report(report, renderer, format_, output)
    return 1 if any(model.unexplained or model.failed for model in report.models) else 0
