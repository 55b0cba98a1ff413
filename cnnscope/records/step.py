"""A training step: the request, and the trace of it."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, get_args

import msgspec

from cnnscope.records.trace import Accuracy, Trace

Optimizer = Literal["sgd", "momentum", "adam", "adamw", "rmsprop"]
Form = Literal["loop", "foreach", "fused"]
Loss = Literal["sum", "mean", "mse", "l1", "bce", "cross-entropy"]
Amp = Literal["bf16", "fp16"]
Phase = Literal["forward", "backward", "step"]
Kind = Literal[
    "input", "weight", "buffer", "optimizer state", "gradient", "saved", "output", "temporary"
]

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
FORMS: tuple[str, ...] = get_args(Form)
LOSSES: tuple[str, ...] = get_args(Loss)
AMPS: tuple[str, ...] = get_args(Amp)
AUTO = "auto"  # in place of paths: the blocks that repeat
KINDS: tuple[Kind, ...] = get_args(Kind)


class Step(msgspec.Struct, frozen=True):
    """A training step, as it is requested.

    `form` is how the optimizer goes over the parameters: one after another, in lists, or in one
    kernel. With `accumulates`, gradients of earlier batches are there when the step begins. `amp`
    is the type that `torch.autocast` computes in on CUDA; float16 has its loss scaled. `checkpoint`
    names the modules whose forward runs again in the backward pass, by paths and patterns, or
    "auto" for the blocks that repeat.
    """

    optimizer: Optimizer = "sgd"
    form: Form = "foreach"
    loss: Loss = "sum"
    accumulates: bool = False
    amp: Amp | None = None
    checkpoint: tuple[str, ...] = ()

    @property
    def proposes(self) -> bool:
        """True if the blocks that repeat are checkpointed."""
        return self.checkpoint == (AUTO,)


class StepTrace(msgspec.Struct, frozen=True, dict=True):
    """The trace of one training step in the steady state, and where its parts are.

    Operations before `loss` are the model's forward, those before `backward` the loss, from
    `update` on the optimizer's; between these is the backward pass. `gradients` has the tensor that
    each parameter's gradient is, by the path of the parameter; `state` the tensors that the
    optimizer keeps of each from step to step, `targets` those that the loss compares outputs with,
    `scaler` those that scale it. `checkpointed` are the modules that run again, and `again`
    what they ran then: operations from one number up to another. `derivatives` has for each
    operation of the backward pass the call that it is the derivative of, or -1. `accuracy` is that
    of the memory: "at most" where some data need less, "unknown" where kernels keep other tensors.
    """

    trace: Trace
    step: Step
    loss: int
    backward: int
    update: int
    gradients: dict[str, int]
    state: dict[str, tuple[int, ...]]
    targets: tuple[int, ...] = ()
    scaler: tuple[int, ...] = ()
    checkpointed: tuple[str, ...] = ()
    again: tuple[tuple[int, int], ...] = ()
    derivatives: tuple[int, ...] = ()
    accuracy: Accuracy = "exact"

    def path(self, operation: int) -> str:
        """The path of the module whose forward or backward pass has run an operation."""
        trace, place = self.trace, operation - self.backward
        call = trace.ops[operation].call
        if call < 0 and 0 <= place < len(self.derivatives):
            call = self.derivatives[place]
        return trace.modules[trace.calls[call].module].path if call >= 0 else ""

    def phase(self, operation: int) -> Phase:
        """The phase that an operation belongs to, by its number; the loss is of the forward."""
        if operation < self.backward:
            return "forward"
        return "backward" if operation < self.update else "step"

    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each storage.

        "saved" is what the forward made and was alive when the backward pass began, "output" that
        which the caller holds until the end (results, the loss), "temporary" all else that the
        step made.
        """
        return self._kinds

    @cached_property
    def _kinds(self) -> tuple[Kind, ...]:
        trace = self.trace
        named = dict(self._named())
        found: list[Kind] = []
        for number, storage in enumerate(trace.storages):
            if number in named:
                found.append(named[number])
            elif storage.born < 0:
                found.append("input")
            elif storage.born < self.backward < storage.died:
                found.append("saved" if storage.died < len(trace.ops) else "output")
            else:
                found.append("temporary")
        return tuple(found)

    def _named(self) -> Iterator[tuple[int, Kind]]:
        """Storages whose kind is known by what lies in them; of one storage, the last counts."""
        trace, tensors = self.trace, self.trace.tensors
        yield from ((tensors[t].storage, "gradient") for t in self.gradients.values())
        kept = itertools.chain(*self.state.values(), self.scaler)
        yield from ((tensors[t].storage, "optimizer state") for t in kept)
        for param in (*trace.params, *trace.strays):
            yield tensors[param.tensor].storage, "buffer" if param.buffer else "weight"
        yield from ((tensors[t].storage, "input") for t in (*trace.inputs, *self.targets))
