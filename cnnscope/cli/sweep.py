"""`cnnscope sweep`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cnnscope.cli import options, plotted, values
from cnnscope.cli.session import Session
from cnnscope.cli.timed import Timed
from cnnscope.cli.training import Trained


@dataclass(kw_only=True, repr=False, eq=False)
class Sweep(plotted.Plotted, options.Cached, options.Build, options.OfModel, Timed, Trained):
    """Costs of a model as its input, an argument or the batch grows.

    Example: cnnscope sweep resnet18 --input 128,160,192,224,256

    A row for each value, and the power by which each cost grows. Commas stand between values; those
    inside brackets belong to one value. Several options give every combination, several --input
    one size of each. A value that the model does not take is a row that says why.
    """

    input: Annotated[
        list[str] | None,
        options.MODEL(
            "--input -i SIZE,SIZE",
            "Take each of these sizes, as in --input 128,224 or --input 3x128x96,3x256x192. "
            "May be repeated for a model of several inputs.",
        ),
    ] = None
    arg: Annotated[
        list[str] | None,
        options.MODEL(
            "--arg NAME=VALUE,VALUE",
            "Build the model with each of these values of an argument, as in --arg "
            "width_mult=0.5,1.0 or --arg 'layers=[2,2],[3,3]'. May be repeated.",
        ),
    ] = None
    batch_size: Annotated[
        str | None,
        options.MODEL(
            "--batch-size -b N,N",
            "Put each of these numbers of samples into the batch, as in --batch-size 1,8,32.",
        ),
    ] = None
    train: Annotated[
        bool,
        options.TRAINING(
            "--train", "Add the memory of a training step, as cnnscope memory has it."
        ),
    ] = False

    def run(self, session: Session) -> int:
        """Write the table."""
        from cnnscope.cli import out
        from cnnscope.cli.progress import PATIENCE, Line, progress

        self.check_chart({}, "")
        out.check_writable(self.output)
        measured = self.measured()
        if not self.train:
            options.refuse(self.trained(), "it needs --train")

        from cnnscope import api

        with progress("training", PATIENCE) as update, Line() as line:
            report = api.sweep(
                self.model,
                values.inputs(self.input or ()),
                arguments=values.arguments(self.arg or ()),
                batch_sizes=values.batches(self.batch_size),
                num_classes=self.num_classes,
                dtype=self.dtype,
                train=self.train,
                **self.step(),
                **measured,
                cache=self.cache(session),
                progress=update,
                measuring=line.show,
            )
        self.show(report)
        timing = report.record.timing
        return 130 if timing is not None and timing.interrupted else 0
