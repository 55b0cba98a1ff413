"""`cnnscope bench`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnscope.cli import options, plotted, values
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api import Report
    from cnnscope.records.bench import BenchReport

_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%?")


@dataclass(kw_only=True, repr=False, eq=False)
class Bench(plotted.Plotted, options.Build):
    """Latency and throughput on this machine, and what limits them.

    Example: cnnscope bench squeezenet1_1 --device cpu --seconds 1

    Each time is shown with its confidence interval. Weights are random. Several models are
    measured in turns, so that whatever the machine does meanwhile hits all of them.
    """

    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Models, such as resnet18, measured in turns.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ]
    device: Annotated[
        str,
        options.MEASUREMENT(
            "--device cpu|cuda[:N]|mps|auto",
            "Run on cpu, cuda, cuda:1, mps, or what auto finds, as in --device cpu.",
        ),
    ] = "auto"
    batch_size: Annotated[
        str | None,
        options.MODEL(
            "--batch-size -b N,N",
            "Put N samples into the batch; several sizes are measured one by one, as in "
            "--batch-size 1,8,32.",
        ),
    ] = None
    mode: Annotated[
        str,
        options.MEASUREMENT(
            "--mode forward|train",
            "Time a forward pass, or a training step with backward and update, as in --mode train.",
        ),
    ] = "forward"
    amp: Annotated[
        bool,
        options.MEASUREMENT("--amp", "Run under autocast, to the device's default or to --dtype."),
    ] = False
    channels_last: Annotated[
        bool,
        options.MEASUREMENT("--channels-last", "Keep tensors in the channels-last memory format."),
    ] = False
    compile: Annotated[
        str | None,
        options.MEASUREMENT(
            "--compile [MODE]",
            "Compile the model first; a mode may follow, as in --compile reduce-overhead.",
        ),
    ] = None
    threads: Annotated[
        int | None,
        options.MEASUREMENT(
            "--threads N", "Use N threads of the CPU, as in --threads 1. Left out, torch chooses."
        ),
    ] = None
    seconds: Annotated[
        float,
        options.MEASUREMENT(
            "--seconds S", "Measure each model and batch for S seconds, as in --seconds 30."
        ),
    ] = 5.0
    per_layer: Annotated[
        bool, options.MEASUREMENT("--per-layer", "Time every layer as well, one at a time.")
    ] = False
    save: Annotated[
        Path | None,
        options.OUTPUT(
            "--save FILE", "Keep the run in a file, as in --save run.json.", show_default=False
        ),
    ] = None
    against: Annotated[
        Path | None,
        options.LIMITS(
            "--against FILE",
            "Compare with a run that was kept, as in --against run.json.",
            show_default=False,
        ),
    ] = None
    fail_if_slower: Annotated[
        str | None,
        options.LIMITS(
            "--fail-if-slower P%",
            "Exit with 1 if a model is slower by more than this, beyond doubt, as in "
            "--fail-if-slower 5%.",
        ),
    ] = None

    @staticmethod
    def bare() -> Mapping[str, Sequence[str]]:
        """Modes of `--compile`, which may stand without one."""
        from cnnscope.records.bench import COMPILE_MODES

        return {"--compile": COMPILE_MODES}

    def run(self, session: Session) -> int:
        """Measure."""
        from cnnscope.cli import out
        from cnnscope.cli.progress import Line

        compared = self.against is not None or len(self.models) > 1
        limit = _limit(self.fail_if_slower, compared=compared)
        self.check_chart({}, "")
        self._check_files()

        from cnnscope import api

        def keep(report: Report[BenchReport]) -> None:
            """Save the run, even if it has nothing in common with the run it is compared with."""
            if self.save is not None:
                out.write(report.to_json(), self.save, "--save")

        with Line() as line:
            report = api.bench(
                *map(self.request, self.models),
                batch_sizes=values.batches(self.batch_size),
                device=self.device,
                mode=self.mode,
                dtype=self.dtype,
                amp=self.amp,
                channels_last=self.channels_last,
                compile=False if self.compile is None else self.compile,
                threads=self.threads,
                seconds=self.seconds,
                per_layer=self.per_layer,
                against=self.against,
                progress=line.show,
                measured=keep,
            )
        self.show(report)
        if report.record.interrupted:
            return 130
        return int(limit is not None and api.verdicts.too_slow(report, limit))

    def _check_files(self) -> None:
        """Refuse files that cannot be written, before anything is measured.

        Raises:
            RequestError: one of them cannot be, or they are the same.
        """
        from cnnscope.cli import out

        for path, option in ((self.output, "--output"), (self.save, "--save")):
            out.check_writable(path, option)
        if self.save == Path("-"):
            raise RequestError("--save -: name a file; --format json writes the run to stdout")
        if self.save and self.output and self.save.absolute() == self.output.absolute():
            raise RequestError("--save and --output are one file; name two")


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
