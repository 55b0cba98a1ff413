"""`cnnscope summary`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.cli.load import load

if TYPE_CHECKING:
    from cnnscope.records import ModelReport


def summary(
    model: options.Model,
    input_: options.Input = None,
    batch_size: options.BatchSize = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    dtype: options.Dtype = None,
    depth: options.Depth = None,
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
    max_params: Annotated[
        Optional[str],
        typer.Option("--max-params", metavar="N", help="Exit 1 beyond it; such as 5M."),
    ] = None,
    max_macs: Annotated[
        Optional[str],
        typer.Option("--max-macs", metavar="N", help="Exit 1 beyond it; such as 1.5G."),
    ] = None,
    max_activation: Annotated[
        Optional[str],
        typer.Option(
            "--max-activation", metavar="BYTES", help="Exit 1 if the peak is more; as 50MiB."
        ),
    ] = None,
    min_rf: Annotated[
        Optional[str],
        typer.Option("--min-rf", metavar="N", help="Exit 1 if the field is less, in pixels."),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> int:
    """Layers, output shapes, parameters, MACs and memory of a model.

    Example: cnnscope summary resnet18 --input 3x224x224

    A checkpoint (model.pth) is listed by key: it has no shapes but those of its weights.

    No weights are allocated or downloaded: the model runs once on tensors without data. With
    limits (--max-params 5M --max-macs 1G --max-activation 50MiB --min-rf 200) the exit code is 1
    when the model does not keep them.
    """
    from cnnscope.cli import out
    from cnnscope.models.spec import parse_limits
    from cnnscope.render import columns as all_columns
    from cnnscope.render.view import Options

    if _is_weights(model):
        useless: dict[str, object] = {"--input": input_, "--batch-size": batch_size}
        useless |= {"--num-classes": num_classes, "--arg": arg, "--dtype": dtype}
        useless |= {"--unfold": unfold, "--all": everything, "--columns": columns}
        useless |= {"--sort": sort, "--filter": filter_, "--max-params": max_params}
        useless |= {"--max-macs": max_macs, "--max-activation": max_activation, "--min-rf": min_rf}
        options.refuse(useless, "a checkpoint has weights and no forward")
        return _weights(model, options.levels(depth), format_.value, output)
    if format_ in (options.Format.JSON, options.Format.CSV):
        given = {"--depth": depth, "--unfold": unfold, "--all": everything, "--columns": columns}
        given |= {"--sort": sort, "--filter": filter_}
        options.refuse(given, f"--format {format_.value} always holds every row and column")
    elif sort is not None or filter_ is not None:
        given = {"--depth": depth, "--unfold": unfold}
        options.refuse(given, "--sort and --filter list single layers")
    chosen = all_columns.choose(
        all_columns.DEFAULT if columns is None else [key.strip() for key in columns.split(",")]
    )
    pattern = options.pattern(filter_, "--filter")
    chosen_rows = Options(options.levels(depth), unfold, everything, sort, pattern)
    limits = parse_limits(
        max_params=max_params, max_macs=max_macs, max_activation=max_activation, min_rf=min_rf
    )
    out.check_writable(output)

    from cnnscope.reports.summary import report

    trace = load(model, input_, batch_size, num_classes, arg, dtype)
    made = report(trace)
    out.write_summary(made, chosen_rows, chosen, format_.value, output)
    return _over_budget(made, limits) if limits else 0


def _is_weights(model: str) -> bool:
    """Whether a file holds weights alone; the readers of files are imported for a file alone."""
    from cnnscope.files import names_file

    if not names_file(model):
        return False
    from cnnscope.models.files import archive

    return archive.is_weights(model)


def _weights(file: str, levels: int | None, format_: str, output: Path | None) -> int:
    """The summary of a file that holds weights alone."""
    from cnnscope.cli import out
    from cnnscope.render import checkpoint
    from cnnscope.reports.checkpoint import checkpoint_report

    out.check_writable(output)
    out.write_report(checkpoint_report(file), checkpoint.Renderer(levels), format_, output)
    return 0


def _over_budget(report: ModelReport, limits: Mapping[str, float]) -> int:
    """1 and a line on stderr for each limit that is not kept, else 0."""
    from cnnscope.cli import out
    from cnnscope.render import facts
    from cnnscope.reports.budget import broken

    found = broken(report, limits)
    for excess in found:
        out.note(facts.excess(excess))
    return 1 if found else 0
