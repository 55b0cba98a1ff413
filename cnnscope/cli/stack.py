"""`cnnscope stack`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from cnnscope.cli import options
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.records import StackReport


class Preset(str, Enum):
    """Comparisons that are not about one kernel size."""

    INCEPTION = "inception"


def stack(
    kernel: Annotated[
        Optional[int],
        typer.Option("--kernel", "-k", metavar="N", help="The large kernel, odd. Left out: 7."),
    ] = None,
    channels: Annotated[
        Optional[int],
        typer.Option("--channels", "-c", metavar="C", help="In and out. Left out: 64."),
    ] = None,
    input_: Annotated[
        Optional[str],
        typer.Option("--input", "-i", metavar="HxW", help="Input size. Left out: 56x56."),
    ] = None,
    custom: Annotated[
        Optional[list[str]],
        typer.Option(
            "--custom", metavar="LAYERS", help="One more stack, as described above. Repeatable."
        ),
    ] = None,
    bottleneck: Annotated[
        Optional[int],
        typer.Option(
            "--bottleneck", metavar="N", help="Also 1x1 - 3x3 - 1x1 with C/N channels inside."
        ),
    ] = None,
    preset: Annotated[
        Optional[Preset], typer.Option("--preset", help="Another comparison instead.")
    ] = None,
    block: Annotated[
        Optional[str],
        typer.Option("--block", metavar="3a..5b", help="Inception block. Left out: 3a."),
    ] = None,
    time: Annotated[
        bool, typer.Option("--time", help="Measure each on this machine as well, in turns.")
    ] = False,
    device: Annotated[
        Optional[str],
        typer.Option(
            "--device", metavar="cpu|cuda[:N]|mps|auto", help="Where to measure. Left out: cpu."
        ),
    ] = None,
    seconds: Annotated[
        Optional[float],
        typer.Option("--seconds", metavar="S", help="For each stack that is timed. Left out: 1."),
    ] = None,
    format_: options.FormatOption = options.Format.TABLE,
    output: options.Output = None,
) -> int:
    """What stacks of small kernels cost against one large kernel that sees as much.

    Example: cnnscope stack --kernel 7 --channels 64 --input 56x56

    LAYERS are joined by commas: [max|avg|dw]K[xK], and behind it, where wanted, /S for stride,
    dD dilation, gG groups, pP padding (left out: what keeps the size at stride 1), @N channels
    (128, C, 2C, C/4; left out: as many as come in). dw is depthwise, max and avg are pools.
    Such as 3x3,3x3/2,1x1@2C or dw7x7,1x1 or 3x3d2g32. No biases; a ReLU behind each convolution.

    --time runs forwards in inference mode, in float32 with random weights, on the input counted.
    """
    from cnnscope.cli import out
    from cnnscope.render import stack as render
    from cnnscope.reports.stack import inception_report, stack_report

    out.check_writable(output)
    if not time:
        options.refuse({"--device": device, "--seconds": seconds}, "it needs --time")
    on, budget = "cpu" if device is None else device, 1.0 if seconds is None else seconds
    if time:
        _check_timing(on, budget)
    if preset is None:
        options.refuse({"--block": block}, "it needs --preset inception")
        size = _size("56x56" if input_ is None else input_)
        wide = 64 if channels is None else channels
        report = stack_report(7 if kernel is None else kernel, wide, size, custom or (), bottleneck)
    else:
        given: dict[str, object] = {"--kernel": kernel, "--channels": channels, "--input": input_}
        given |= {"--custom": custom, "--bottleneck": bottleneck}
        options.refuse(given, "--preset inception has the sizes of GoogLeNet's blocks (--block)")
        report = inception_report("3a" if block is None else block)
    if time:
        report = _timed(report, on, budget)
    out.write_report(report, render, format_.value, output)
    return 130 if report.timing is not None and report.timing.interrupted else 0


def _check_timing(device: str, seconds: float) -> None:
    """Refuse what cannot be, before anything is counted."""
    from cnnscope.bench import runner

    runner.check(runner.Request((), device=device, seconds=seconds))


def _timed(report: StackReport, device: str, seconds: float) -> StackReport:
    from cnnscope.bench import stacks
    from cnnscope.cli.progress import Line

    with Line() as line:
        return stacks.timed(report, device, seconds, line.show)


def _size(text: str) -> tuple[int, int]:
    from cnnscope.models.spec import parse_input, printable

    spec = parse_input(text)
    if len(spec.sizes) > 2 or spec.dtype is not None:
        raise RequestError(f"--input {printable(text)!r}: give HxW; channels come from --channels")
    return spec.sizes[0], spec.sizes[-1]
