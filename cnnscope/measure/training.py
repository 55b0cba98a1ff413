"""Real training steps on the CPU, and what other instruments say of them.

The step measured is the second of two, so that what the optimizer keeps is there. Shares nothing
with the trace of a step, which it referees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnscope.measure.allocations import Live, live
from cnnscope.records.step import Step
from cnnscope.tracing.arguments import Arguments
from cnnscope.tracing.plain import tensors_in

_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
_RATE = 1e-4  # of learning: weights stay near those that the constructor draws


def summed(outputs: Any) -> Tensor:
    """The sum of all outputs that take a gradient; of complex ones that of both parts."""
    parts = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
    real = [torch.view_as_real(one) if one.is_complex() else one for one in parts]
    return functools.reduce(torch.add, [one.sum() for one in real])


def optimizer_of(model: nn.Module, step: Step) -> torch.optim.Optimizer:
    """The optimizer of a step, of the parameters that are trained."""
    trained = [one for one in model.parameters() if one.requires_grad]
    form = {"fused": True} if step.form == "fused" else {"foreach": step.form == "foreach"}
    return _OPTIMIZERS[step.optimizer](trained, lr=_RATE, **form)


class RealStep:
    """A training step of a model on the CPU, which has run once.

    Args:
        model: it is trained.
        inputs: of its forward.
        optimizer: of its parameters.
        loss: of its outputs.
        accumulates: gradients of the step before are there.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Arguments,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Any], Tensor] = summed,
        *,
        accumulates: bool = False,
    ) -> None:
        self._model, self._inputs, self._loss = model.train(), inputs, loss
        self._optimizer, self._accumulates = optimizer, accumulates
        self._run()

    def _begin(self) -> None:
        """Let go of the gradients of the step before."""
        if not self._accumulates:
            self._optimizer.zero_grad()

    def _run(self) -> tuple[Any, Tensor]:
        """Run a step, and return what its caller holds until the end."""
        outputs = self._inputs.call(self._model)
        number = self._loss(outputs)
        number.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return outputs, number

    def live(self) -> Live:
        """Bytes by allocation events of torch's profiler; what is older than the step counts."""
        self._begin()
        held = [*self._model.parameters(), *self._model.buffers(), *tensors_in(self._inputs)]
        held += tensors_in([dict(state) for state in self._optimizer.state.values()])
        held += [one.grad for one in self._model.parameters() if one.grad is not None]
        return live(self._run, held)

    def tracked(self) -> int:
        """The peak of torch's `MemTracker`, in bytes.

        It is a dispatch mode with weak references to storages.

        Raises:
            ImportError: this torch is without `torch.distributed`.
        """
        from torch.distributed._tools.mem_tracker import MemTracker

        self._begin()
        tracker: Any = MemTracker()
        tracker.track_external(self._model, self._optimizer, *tensors_in(self._inputs))
        with tracker:
            self._run()
        snapshot = tracker.get_tracker_snapshot("peak")
        return int(snapshot[torch.device("cpu")]["Total"])

    def counted(self) -> int:
        """Half of the FLOPs of forward and backward pass, by torch's `FlopCounterMode`."""
        from torch.utils.flop_counter import FlopCounterMode

        self._begin()
        with FlopCounterMode(display=False) as counter:
            self._run()
        return int(counter.get_total_flops()) // 2
