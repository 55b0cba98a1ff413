"""The stacks of `cnnscope stack` as modules of `torch.nn`, and the time that each of them takes."""

from __future__ import annotations

from functools import partial

import torch
from msgspec.structs import replace
from torch import nn

from cnnscope.records.stack import StackReport
from cnnscope.reports.stack import parse, row_trace, side_by_side
from cnnscope.timing import runner
from cnnscope.timing.loop import Progress, Report


class Branches(nn.Module):
    """Stacks side by side, their outputs concatenated along the channels."""

    def __init__(self, branches: list[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, the sum of the branches' channels, H', W')."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def module(layers: str, channels: int) -> nn.Module:
    """The layers of a `StackRow` on `channels` channels, with random weights.

    Weights keep the size of what passes through a ReLU (He et al. 2015, section 2.2): torch's own
    shrink it, and in a hundred layers to numbers so small that processors are slow with them.

    Raises:
        RequestError: the layers cannot be read.
    """
    branches = [_sequential(text, channels) for text in side_by_side(layers)]
    built = branches[0] if len(branches) == 1 else Branches(branches)
    for part in built.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return built


def _sequential(text: str, channels: int) -> nn.Sequential:
    made: list[nn.Module] = []
    given = channels
    for layer in parse(text, channels):
        g = layer.geometry
        sizes = (g.kernel_size, g.stride, g.padding)
        if layer.form == "conv":
            made.append(
                nn.Conv2d(given, layer.channels, *sizes, g.dilation, g.groups, bias=False)  # type: ignore[arg-type]
            )
            made.append(nn.ReLU(inplace=True))
        else:
            kind = nn.MaxPool2d if layer.form == "max" else nn.AvgPool2d
            made.append(kind(*sizes))  # type: ignore[arg-type]
        given = layer.channels
    return nn.Sequential(*made)


def timed(
    report: StackReport, device: str, seconds: float, tell: Report = lambda _: None
) -> StackReport:
    """The report with a time for every row, all measured in turns on the input of the table.

    Args:
        report: what was counted.
        device: as `cnnscope bench` has it.
        seconds: for each stack.
        tell: called now and then with where things stand.

    Raises:
        RequestError: the device is not there, or its memory does not suffice.
        KeyboardInterrupt: before there was anything to keep.
    """
    shape = report.input.shape
    networks = tuple(
        runner.Network(row.name, row_trace(row, shape), partial(module, row.layers, shape[1]))
        for row in report.rows
    )
    plan = runner.Plan(
        networks,
        device=device,
        seconds=seconds,
        ceilings=False,
        smaller="--channels or --input" if report.kernel is not None else "--block",
    )

    def brief(progress: Progress) -> None:
        measuring = progress.seconds_left >= 0
        tell(progress._replace(what=f"measuring {len(networks)} stacks") if measuring else progress)

    found = runner.bench(plan, brief)
    runs = tuple(replace(run, samples_ns=()) for run in found.runs)
    return replace(report, timing=replace(found, runs=runs))
