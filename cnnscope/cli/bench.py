"""`cnnscope bench`."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from cnnscope.cli import options
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.records import BenchReport

_LARGEST_RUN = 256 * 2**20  # bytes of a saved run
_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%?")


class Command(TyperCommand):
    """Lets `--compile` stand without a mode, which Typer's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write the mode out where it was left out."""
        return super().parse_args(ctx, with_compile_mode(args))


def with_compile_mode(args: list[str]) -> list[str]:
    """Write `--compile` without a mode after it as `--compile=default`."""
    from cnnscope.bench.runner import COMPILE_MODES

    return [
        "--compile=default" if arg == "--compile" and after not in COMPILE_MODES else arg
        for arg, after in pairwise([*args, ""])
    ]


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models, such as resnet18, measured in turns.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ],
    device: Annotated[
        str, typer.Option("--device", metavar="cpu|cuda[:N]|mps|auto", help="Where to run.")
    ] = "auto",
    input_: options.Input = None,
    batch_size: Annotated[
        Optional[str],
        typer.Option("--batch-size", "-b", metavar="N,N,...", help="Samples per batch; several."),
    ] = None,
    num_classes: options.NumClasses = None,
    arg: options.Arg = None,
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="forward|train", help="Train: backward and step as well."),
    ] = "forward",
    dtype: options.Dtype = None,
    amp: Annotated[
        bool, typer.Option("--amp", help="Autocast, to the device's default or to --dtype.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Channels-last memory format.")
    ] = False,
    compile_: Annotated[
        Optional[str],
        typer.Option(
            "--compile", metavar="[MODE]", help="torch.compile: default, reduce-overhead, ..."
        ),
    ] = None,
    threads: Annotated[
        Optional[int],
        typer.Option("--threads", metavar="N", help="CPU threads; left out: torch's choice."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="For each model and batch.")
    ] = 5.0,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Time every layer as well, one at a time.")
    ] = False,
    save: Annotated[
        Optional[Path],
        typer.Option("--save", metavar="FILE", help="Keep the run as JSON.", show_default=False),
    ] = None,
    against: Annotated[
        Optional[Path],
        typer.Option(
            "--against", metavar="FILE", help="Compare with a saved run.", show_default=False
        ),
    ] = None,
    fail_if_slower: Annotated[
        Optional[str],
        typer.Option(
            "--fail-if-slower",
            metavar="P%",
            help="Exit with 1 if slower by more than this, and beyond doubt slower.",
        ),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> int:
    """Latency and throughput on this machine, with their spread, and what limits them.

    Example: cnnscope bench squeezenet1_1 --device cpu --seconds 1

    Weights are random. Several models are measured in turns, so that whatever the machine does
    meanwhile hits all of them.
    """
    from cnnscope.cli import out
    from cnnscope.cli.progress import Line

    limit = _limit(fail_if_slower, compared=against is not None or len(models) > 1)
    for path, option in ((output, "--output"), (save, "--save")):
        out.check_writable(path, option)
    if save is not None and output is not None and save.absolute() == output.absolute():
        raise RequestError("--save and --output are one file; name two")

    from cnnscope.bench import runner as question
    from cnnscope.models.spec import parse_arguments
    from cnnscope.render import bench as renderer

    request = question.Request(
        models=tuple(models),
        device=device,
        inputs=tuple(input_ or ()),
        batches=_batches(batch_size),
        arguments=parse_arguments(arg or ()),
        num_classes=num_classes,
        mode=mode,
        dtype=dtype,
        amp=amp,
        channels_last=channels_last,
        compile=compile_ or "",
        threads=threads,
        seconds=seconds,
        per_layer=per_layer,
    )
    question.check(request)
    saved = _saved(against)
    if saved is not None:
        question.check_saved(request, saved, str(against))
    with Line() as line:
        report = question.bench(request, line.show)
    try:
        if saved is not None:
            report = question.with_saved(report, saved, str(against))
    finally:  # what was measured is kept, even if it has nothing in common with the saved run
        if save is not None:
            out.write(renderer.to_json(report), save, "--save")
    out.write_report(report, renderer, format_.value, output)
    if report.interrupted:
        return 130
    return int(limit is not None and question.too_slow(report, limit))


def _batches(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts):
        raise RequestError(f"--batch-size {text[:20]!r}: expected numbers, as in 8 or 1,8,32")
    sizes = tuple(map(int, parts))
    if 0 in sizes or len(set(sizes)) != len(sizes):
        raise RequestError(f"--batch-size {text[:20]!r}: every size from 1 up, and once")
    return sizes


def _limit(text: str | None, *, compared: bool) -> float | None:
    """`5%` is 0.05."""
    if text is None:
        return None
    found = _PERCENT.fullmatch(text.strip())
    if not found:
        raise RequestError(f"--fail-if-slower {text[:20]!r}: expected percent, as in 5%")
    if not compared:
        raise RequestError("--fail-if-slower: slower than what? give --against, or two models")
    return float(found[1]) / 100


def _saved(path: Path | None) -> BenchReport | None:
    if path is None:
        return None
    from cnnscope.bench import compare
    from cnnscope.files import read_regular

    try:
        data = read_regular(path, _LARGEST_RUN)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"--against {path}: cannot be read ({reason})") from error
    return compare.read(data, str(path))
