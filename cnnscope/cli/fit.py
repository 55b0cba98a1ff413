"""`cnnscope fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.cli.training import Trained


@dataclass(kw_only=True, repr=False, eq=False)
class Fit(options.Written, options.Cached, options.Build, options.OfModel, Trained):
    """The largest batch whose training step fits into a GPU's memory.

    Example: cnnscope fit alexnet --memory 8GiB

    A few batches are traced without data, others follow from these, and the answer is traced
    again. What is beside the tensors (workspace, fragments, the CUDA context) is a range that was
    measured with models of torchvision on one H100: the batch fits by its upper end. Where not
    even the smallest batch fits, the exit code is 1.
    """

    memory: Annotated[
        str | None,
        options.LIMITS(
            "--memory -m SIZE",
            "Fit into this memory, as in --memory 24GiB (powers of 1024) or --memory 24GB (of "
            "1000).",
        ),
    ] = None
    gpu: Annotated[
        str | None,
        options.LIMITS(
            "--gpu NAME",
            "Fit into the memory of this GPU, as in --gpu rtx4090; --gpu list names them.",
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        options.TRAINING(
            "--optimizer NAME",
            "Train with sgd, momentum, adam, adamw or rmsprop, as in --optimizer adam. "
            "Left out, momentum.",
        ),
    ] = None

    def run(self, session: Session) -> int:
        """Write the report."""
        from cnnscope import api
        from cnnscope.cli import out
        from cnnscope.cli.progress import progress

        out.check_writable(self.output)
        with progress("tracing") as update:
            report = api.fit(
                self.request(self.model),
                memory=self.memory,
                gpu=self.gpu,
                cache=self.cache(session),
                progress=update,
                **self.step(),
            )
        self.write(report)
        lacking = api.verdicts.does_not_fit(report)
        if lacking:
            out.note(lacking)
        return 1 if lacking else 0
