"""`cnnscope memory`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cnnscope.cli import options, plotted
from cnnscope.cli.session import Session
from cnnscope.cli.training import Trained


@dataclass(kw_only=True, repr=False, eq=False)
class Memory(plotted.Plotted, options.Named, Trained):
    """Memory of a training step: its peak, and who owns it.

    Example: cnnscope memory alexnet --batch-size 4

    The step is forward, loss, backward pass and update in the steady state, as PyTorch runs it on
    a CPU, without data. Figures of a device follow the rules of PyTorch's caching allocator; what
    is beside them is a range, measured with float32 models on one H100.
    """

    train: Annotated[
        bool,
        options.TRAINING(
            "--train/--inference", "Run a training step, or a forward without gradients."
        ),
    ] = True

    def run(self, session: Session) -> None:
        """Write the report."""
        from cnnscope.cli import out

        self.check_chart({}, "")
        out.check_writable(self.output)
        if not self.train:
            options.refuse(self.trained(), "inference has no such step")

        from cnnscope import api

        report = api.memory(
            self.request_for(self.model),
            train=self.train,
            cache=self.cache(session),
            **self.step(),
        )
        self.show(report)
