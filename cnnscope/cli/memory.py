"""`cnnscope memory`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session


@dataclass(kw_only=True, repr=False, eq=False)
class Memory(options.Written, options.Named):
    """Memory of a training step: its peak, and who owns it.

    Example: cnnscope memory alexnet --batch-size 4

    The step is forward, loss, backward pass and update in the steady state, as PyTorch runs it on
    a CPU, without data. Figures of a device follow the rules of PyTorch's caching allocator; what
    is beside them is a range, measured with float32 models on one H100.
    """

    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            help="Train with sgd, momentum, adam, adamw or rmsprop, as in --optimizer adam. "
            "Left out, sgd.",
            rich_help_panel="Training",
        ),
    ] = None
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            metavar="FORM",
            help="Let the optimizer update in a loop, in lists (foreach) or in one kernel (fused), "
            "as in --form fused. Left out, foreach.",
            rich_help_panel="Training",
        ),
    ] = None
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="LOSS",
            help="Take sum, mean, mse, l1, bce or cross-entropy of the outputs, as in "
            "--loss cross-entropy. Left out, sum.",
            rich_help_panel="Training",
        ),
    ] = None
    accumulate: Annotated[
        bool,
        typer.Option(
            "--accumulate",
            help="Add to gradients of earlier batches.",
            rich_help_panel="Training",
        ),
    ] = False
    train: Annotated[
        bool,
        typer.Option(
            "--train/--inference",
            help="Run a training step, or a forward without gradients.",
            rich_help_panel="Training",
        ),
    ] = True

    def run(self, session: Session) -> None:
        """Write the report."""
        from cnnscope.cli import out

        out.check_writable(self.output)
        asked = {
            "--optimizer": self.optimizer, "--form": self.form, "--loss": self.loss,
            "--accumulate": self.accumulate,
        }  # fmt: skip
        if not self.train:
            options.refuse(asked, "inference has no such step")

        from cnnscope import api

        report = api.memory(
            self.request_for(self.model),
            train=self.train,
            optimizer=self.optimizer or "sgd",
            form=self.form or "foreach",
            loss=self.loss or "sum",
            accumulate=self.accumulate,
            cache=self.cache(session),
        )
        self.write(report)
