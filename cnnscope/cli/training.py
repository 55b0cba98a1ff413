"""Options of commands that train a network for one step.

Annotations are evaluated here, as in `options`.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from cnnscope.cli import options


@dataclass(kw_only=True, repr=False, eq=False, init=False)
class Trained(options.Options):
    """A command on a training step."""

    optimizer: Annotated[
        str | None,
        options.TRAINING(
            "--optimizer NAME",
            "Train with sgd, momentum, adam, adamw or rmsprop, as in --optimizer adam. "
            "Left out, sgd.",
        ),
    ] = None
    form: Annotated[
        str | None,
        options.TRAINING(
            "--form FORM",
            "Let the optimizer update in a loop, in lists (foreach) or in one kernel (fused), "
            "as in --form fused. Left out, foreach.",
        ),
    ] = None
    loss: Annotated[
        str | None,
        options.TRAINING(
            "--loss LOSS",
            "Take sum, mean, mse, l1, bce or cross-entropy of the outputs, as in "
            "--loss cross-entropy. Left out, sum.",
        ),
    ] = None
    accumulate: Annotated[
        bool, options.TRAINING("--accumulate", "Add to gradients of earlier batches.")
    ] = False
    amp: Annotated[
        str | None,
        options.TRAINING(
            "--amp DTYPE",
            "Compute in bf16 or fp16 where torch.autocast does on CUDA, as in --amp bf16; "
            "fp16 with a scaled loss.",
        ),
    ] = None
    checkpoint: Annotated[
        str | None,
        options.TRAINING(
            "--checkpoint BLOCKS",
            "Run the forward of these modules again in the backward pass, as "
            "torch.utils.checkpoint does: paths and patterns, as in --checkpoint 'layer*', or "
            "auto for the blocks that repeat.",
        ),
    ] = None

    def trained(self) -> dict[str, object]:
        """These options by name, for `refuse`."""
        return {
            "--optimizer": self.optimizer, "--form": self.form, "--loss": self.loss,
            "--accumulate": self.accumulate, "--amp": self.amp, "--checkpoint": self.checkpoint,
        }  # fmt: skip

    def step(self) -> dict[str, Any]:
        """The step as arguments of `cnnscope.memory`."""
        return options.chosen(
            optimizer=self.optimizer,
            form=self.form,
            loss=self.loss,
            accumulate=self.accumulate,
            amp=self.amp,
            checkpoint=self.checkpoint,
        )
