"""Trace one training step: forward, loss, backward pass and the optimizer's update.

Autograd runs the backward pass of tensors without data in the thread that asks for it, under the
dispatch mode that records the forward, and frees what the forward saved as it goes: the lives of
storages are those of a real step.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnscope.errors import ModelError, RequestError
from cnnscope.records.step import Step, StepTrace
from cnnscope.records.trace import Accuracy, Source, least_exact
from cnnscope.text import said
from cnnscope.tracing import checkpointing, in_place
from cnnscope.tracing.arguments import Arguments
from cnnscope.tracing.backward import Backward
from cnnscope.tracing.in_place import Node
from cnnscope.tracing.plain import tensors_in
from cnnscope.tracing.recorder import Recorder
from cnnscope.tracing.storages import Storages
from cnnscope.tracing.tracer import Run, as_written, running

_FORMS: Mapping[str, Mapping[str, bool]] = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FUSED = ("_fused_sgd_", "_fused_adam_", "_fused_adamw_")


def trace_step(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    step: Step = Step(),  # noqa: B008  it is frozen
    source: Source | None = None,
    notes: tuple[str, ...] = (),
    watched: bool = False,
) -> StepTrace:
    """Record one training step of `model(*args, **kwargs)` in the steady state.

    The step is: forward in training mode, loss, backward pass, update. What the optimizer keeps
    from step to step is there when it begins, and so are the targets of the loss; gradients are
    only with `step.accumulates`, and they are alive when it ends. The learning rate is 0. As in
    `cnnscope.tracing.tracer.trace`, nothing is computed on meta, and the model is left as it was.

    Args:
        model: any module, on any device.
        args: positional arguments of forward.
        kwargs: keyword arguments of forward.
        step: the optimizer, its form and the loss.
        source: where the model came from, for the report.
        notes: sentences for the report about how the trace was made.
        watched: with the memory of a step that a dispatch mode watches, as `MemTracker` of torch
            does: gradients are added up out of place there, and so are biases.

    Raises:
        ForwardError: forward raised in training mode.
        ModelError: the backward pass raised.
        RequestError: nothing is trained, no output has a gradient, the outputs do not fit the loss,
            or the optimizer has no such form.
    """
    trainer = _Trainer(step)
    call = Arguments(args, dict(kwargs or {}))
    model = as_written(model)
    recorded = running(model, call, train=True, watched=watched, before=trainer.prepare)
    with _fused_on_meta(), recorded as run:
        return trainer.train(run, source, notes)


class _Trainer:
    """The optimizer of a step, and what it is given."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._optimizer: torch.optim.Optimizer
        self._parameters: dict[str, nn.Parameter] = {}
        self._state: dict[str, tuple[int, ...]] = {}  # tensors of each parameter's
        self._before: dict[str, int] = {}  # gradients of earlier batches
        self._scaler = _Scaler() if step.amp == "fp16" else None
        self._blocks: tuple[checkpointing.Block, ...] = ()

    def prepare(self, run: Run) -> None:
        """Make the optimizer, and what it keeps from the steps before."""
        named = run.model.named_parameters()
        self._parameters = {path: p for path, p in named if p.requires_grad}
        parameters = list(self._parameters.values())
        if not parameters:
            raise RequestError(
                "no parameter of the model is trainable, so that there is no training step: "
                "set requires_grad of one, or ask for inference"
            )
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._optimizer = _stepped(parameters, self._step)
        read, state = run.recorder.book.read, self._optimizer.state
        for path, parameter in self._parameters.items():
            self._state[path] = tuple(map(read, tensors_in(dict(state[parameter]))))
            if self._step.accumulates:
                self._before[path] = read(_gradient(parameter))
        if not self._step.accumulates:
            self._optimizer.zero_grad()
        if self._scaler is not None:
            self._scaler.prepare(read)
        self._blocks = checkpointing.wrap(run.model, self._step.checkpoint, run.recorder.book)

    def train(self, run: Run, source: Source | None, notes: tuple[str, ...]) -> StepTrace:
        """Run the step, and make the trace of it."""
        book = run.recorder.book
        with self._autocast(run):
            outputs = run.forward(source, notes)
            _refuse_late(run)
            loss_at = len(book.ops)
            run.recorder.checks = False
            loss = _Loss(self._step, outputs)
            targets = tuple(map(book.read, loss.targets))
            total: Any = loss.value()
        total = total if self._scaler is None else self._scaler.scaled(total)
        backward_at = len(book.ops)
        nodes = _run_backward(run.recorder, total)
        update_at = book.end()  # what the graph held dies here, and not at the next birth
        in_place.write_in_place(book, nodes)
        in_place.correct_formulas(book, nodes)
        trained = self._trained(book)
        if self._scaler is not None:
            self._scaler.unscale([_gradient(one) for one in trained.values()])
        self._optimizer.step()
        gradients = {path: book.read(_gradient(one)) for path, one in trained.items()}
        unsure = dict(_unsure(book, nodes))
        self._forget_own_autocast(run)
        made = run.ended(outputs, source, (*notes, *unsure, *self._unused()))
        return StepTrace(
            made, self._step, loss_at, backward_at, update_at, gradients,
            {path: self._state[path] for path in trained}, targets,
            self._scaler.state if self._scaler is not None else (),
            tuple(block.path for block in self._blocks if block.calls),
            tuple(span for block in self._blocks for span in block.again),
            tuple(nodes[number].call for number in range(backward_at, update_at)),
            least_exact((made.accuracy, *unsure.values())),
        )  # fmt: skip

    def _autocast(self, run: Run) -> AbstractContextManager[Any]:
        """Mixed precision as on CUDA, in which forward and loss run.

        Raises:
            RequestError: the model runs on real data on the CPU.
        """
        amp = self._step.amp
        if amp is None:
            return nullcontext()
        if not run.on_meta:
            raise RequestError(
                f"--amp {amp}: the model looks at its data, so that it runs on the CPU, where "
                "there is no autocast of CUDA; leave it out"
            )
        return torch.autocast("cuda", dtype=_AMP[amp])

    def _forget_own_autocast(self, run: Run) -> None:
        """Leave out that the model runs under the autocast that was asked for."""
        if self._step.amp is not None:
            own = f"(cuda, {str(_AMP[self._step.amp]).removeprefix('torch.')})"
            run.mixed[:] = [note for note in run.mixed if own not in note]

    def _unused(self) -> Iterator[str]:
        """A sentence for blocks whose forward never ran by itself."""
        unused = [block.path for block in self._blocks if not block.calls]
        if unused:
            yield f"never called, so that nothing of it runs again: {', '.join(unused[:4])}"

    def _trained(self, book: Storages) -> dict[str, nn.Parameter]:
        """The parameters that a gradient has reached; of others an optimizer keeps nothing."""
        found: dict[str, nn.Parameter] = {}
        for path, parameter in self._parameters.items():
            gradient = parameter.grad
            if gradient is not None and book.read(gradient) != self._before.get(path):
                found[path] = parameter
                continue
            parameter.grad = None
            for tensor in (*self._state[path], *filter(None, [self._before.get(path)])):
                book.life(tensor)[0] = 0
        return found


class _Scaler:
    """What `torch.amp.GradScaler` does in a step, with the tensors that it keeps.

    Attributes:
        state: tensors that are there from step to step: the scale, and since when it has not grown.
    """

    def __init__(self) -> None:
        self.state: tuple[int, ...] = ()
        self._scale = torch.empty((), device="meta")
        self._growth = torch.empty((), dtype=torch.int32, device="meta")

    def prepare(self, read: Callable[[Tensor], int]) -> None:
        """Be older than the step."""
        self.state = read(self._scale), read(self._growth)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss, scaled up."""
        return loss * self._scale

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide gradients in place, and find whether one is infinite."""
        found = torch.full((), 0.0, device="meta")
        inverse = self._scale.double().reciprocal().float()
        if gradients:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, inverse)
        torch._amp_update_scale_(self._scale, self._growth, found, 2.0, 0.5, 2000)


def _refuse_late(run: Run) -> None:
    """Refuse a forward that registers parameters: a step without data has none to train.

    Raises:
        ModelError: it does.
    """
    late = [path for path, one in run.recorder.modules.late.items() if one.requires_grad]
    if late:
        raise ModelError(
            f"its forward registers {late[0]}, which an optimizer made before it does not train: "
            "make it in the constructor, or use a lazy module (nn.LazyLinear)"
        )


def _run_backward(recorder: Recorder, loss: Tensor) -> Mapping[int, Node]:
    """Run a backward pass, and return the nodes of its operations by their numbers.

    Raises:
        ModelError: it raised.
    """
    recorder.backward = Backward(recorder.book, recorder.calls.turns)
    recorder.backward.watch(loss)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        if "SparseTensorImpl" in str(error):
            raise ModelError(
                "its backward pass makes sparse gradients, which are not followed: leave out "
                "sparse=True"
            ) from error
        raise ModelError(f"its backward pass failed: {said(error)}") from error
    nodes, recorder.backward = recorder.backward.nodes, None
    return nodes


def _unsure(book: Storages, nodes: Mapping[int, Node]) -> Iterator[tuple[str, Accuracy]]:
    """Sentences about memory that is not exact."""
    if book.recurrent == "exact":
        yield (
            "recurrent layers are those of a CPU: on a GPU cuDNN keeps a reserve for the backward "
            "pass, which the figures of a device leave out",
            "exact",
        )
    if book.recurrent == "unknown":
        yield (
            "LSTMs in float32 and recurrent layers over packed sequences are recorded as their "
            "single time steps; kernels of a CPU or GPU keep other tensors for the backward pass, "
            "so that the memory of a training step is not exact",
            "unknown",
        )
    found = {(node.name, book.ops[number].name) for number, node in nodes.items()}
    for name in sorted({_BY_DATA[one] for one in found if one in _BY_DATA}):
        yield (
            f"what the backward pass of {name} runs depends on data, so that the memory of a "
            "training step is not exact",
            "unknown",
        )
    if _SELECTS in found:
        yield (
            "the backward pass of masked_fill with a number that is trained needs less memory for "
            "some data: the memory of a training step is at most the one given",
            "at most",
        )


# Operations of formulas of derivatives that look at data, where other data let others run
_BY_DATA = {
    ("CumprodBackward0", "aten.cumprod.default"): "cumprod",
    ("ProdBackward0", "aten.cumprod.default"): "prod",
    ("ProdBackward1", "aten.cumprod.default"): "prod",
}
_SELECTS = ("MaskedFillBackward1", "aten.where.self")


def _stepped(parameters: list[nn.Parameter], step: Step) -> torch.optim.Optimizer:
    """The optimizer of a step, after one that has left the parameters as they were.

    Raises:
        RequestError: it has no such form, or does not take such parameters.
    """
    try:
        made = _OPTIMIZERS[step.optimizer](parameters, lr=0.0, **_FORMS[step.form])
        made.step()
    except TypeError as error:
        raise RequestError(
            f"{step.optimizer} has no {step.form} form: choose foreach or loop"
        ) from error
    except RuntimeError as error:
        raise RequestError(
            f"{step.optimizer} in its {step.form} form does not take these parameters: "
            f"{said(error)}"
        ) from error
    return made


@contextmanager
def _fused_on_meta() -> Iterator[None]:
    """Let fused optimizers take tensors without data, of which they compute nothing."""
    optimizers: Any = sys.modules["torch.optim.optimizer"]
    supported = optimizers._get_fused_kernels_supported_devices
    library: Any = cast("Any", torch.library.Library)("aten", "IMPL")
    try:
        for name in _FUSED:
            has = torch._C._dispatch_has_kernel_for_dispatch_key
            if not has(f"aten::{name}", "Meta"):
                library.impl(name, lambda *_, **__: None, "Meta")
        optimizers._get_fused_kernels_supported_devices = lambda: [*supported(), "meta"]
        yield
    finally:
        optimizers._get_fused_kernels_supported_devices = supported
        library._destroy()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return cast("Tensor", parameter.grad)


# ------------------------------------------------------------------------------------- losses


class _Loss:
    """A number that depends on the outputs.

    Attributes:
        targets: what the outputs are compared with; they are older than the step.

    Raises:
        RequestError: no output takes a gradient, or the outputs do not fit the loss.
    """

    def __init__(self, step: Step, outputs: Any) -> None:
        kind = self._kind = step.loss
        self._outputs = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
        if not self._outputs:
            raise RequestError(
                "no output depends on a parameter that is trained, so that there is no gradient: "
                "is it detached, or computed under torch.no_grad()?"
            )
        if kind == "cross-entropy":
            self._outputs = _logits(self._outputs)
        if kind not in ("sum", "mean"):
            _refuse_complex(kind, self._outputs)
        with torch._C._DisableTorchDispatch():
            self.targets = [
                target
                for one in self._outputs
                for target in _targets(kind, one, mixed=step.amp is not None)
            ]

    def value(self) -> Tensor:
        """The loss of each output, added up."""
        reduce = _LOSSES[self._kind]
        pairs = zip(self._outputs, self.targets or self._outputs, strict=True)
        try:
            return functools.reduce(torch.add, itertools.starmap(reduce, pairs))
        except RuntimeError as error:
            raise RequestError(
                f"the loss {self._kind} does not fit the outputs: {said(error)}; choose sum"
            ) from error


def _logits(outputs: list[Tensor]) -> list[Tensor]:
    """The first output (N, classes, ...), and auxiliary ones of as many dimensions and classes.

    Raises:
        RequestError: it has no axis of classes.
    """
    first = outputs[0]
    if first.dim() < 2:
        shape = "x".join(map(str, first.shape)) or "one number"
        raise RequestError(
            f"cross-entropy takes outputs of N x classes; the output is {shape}: choose mse"
        )
    return [one for one in outputs if (one.dim(), one.shape[1]) == (first.dim(), first.shape[1])]


def _refuse_complex(kind: str, outputs: list[Tensor]) -> None:
    if any(tensor.is_complex() for tensor in outputs):
        raise RequestError(f"the loss {kind} does not fit an output of complex numbers: choose sum")


def _targets(kind: str, output: Tensor, *, mixed: bool) -> list[Tensor]:
    """What an output is compared with: one class for each position, or a tensor of its size.

    Those of mixed precision come as they are loaded, in float32.
    """
    if kind in ("sum", "mean"):
        return []
    if kind == "cross-entropy":
        shape = (output.shape[0], *output.shape[2:])
        return [torch.zeros(shape, dtype=torch.int64, device=output.device)]
    dtype = torch.float32 if mixed else output.dtype
    return [torch.zeros(output.shape, dtype=dtype, device=output.device)]


def _real(output: Tensor) -> Tensor:
    """Real numbers: of complex ones the real and the imaginary parts."""
    return torch.view_as_real(output) if output.is_complex() else output


_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda output, _: _real(output).sum(),
    "mean": lambda output, _: _real(output).mean(),
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "bce": functional.binary_cross_entropy_with_logits,
    "cross-entropy": functional.cross_entropy,
}
