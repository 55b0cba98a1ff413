"""The real model on the real device: built once, and called with inputs made beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models import run
from cnnscope.models.failures import one_value, out_of_memory
from cnnscope.models.inputs import real_inputs
from cnnscope.models.request import Request
from cnnscope.records.bench import BenchMemory, BenchSettings
from cnnscope.records.trace import Inputs, Trace
from cnnscope.text import printable, said
from cnnscope.timing import machine
from cnnscope.timing.loop import Program, Step, Timer, first_call, warm_up
from cnnscope.tracing import isolation
from cnnscope.tracing.arguments import Arguments

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cnnscope.timing.runner import Network
    from cnnscope.timing.watch import Watched

MOMENTUM = 0.9
_NO_COMPILER = ("InvalidCxxCompiler", "Failed to find C compiler")


class OutOfMemory(Exception):  # noqa: N818  not a mistake of anybody's
    """A batch does not fit; the message says whose and why."""


class RealModel:
    """A model with weights on a device, prepared as the settings say."""

    def __init__(
        self,
        source: Request | Network,
        settings: BenchSettings,
        device: torch.device,
    ) -> None:
        import torch

        self.name, self.settings, self.device = source.name, settings, device
        before = self._held()
        self.model: nn.Module
        self.close: Callable[[], None]
        with translated(self.name, settings):
            if isinstance(source, Request):
                built, self.close = run.real_model(source, str(device))
                self.model, wants_targets = built.model, built.inputs.as_list
            else:
                self.model, wants_targets = source.build().to(device), False
                self.close = lambda: None
            if settings.mode == "train" and wants_targets:
                raise RequestError(
                    f"{self.name}: training needs targets, which are not made up here; "
                    "to measure the forward alone, give --mode forward"
                )
            if settings.channels_last:
                _to_channels_last(self.model)
            self.model.train(settings.mode == "train")
            self.called: Any = self.model
            if settings.compile:
                self.called = torch.compile(self.model, mode=settings.compile, dynamic=False)
        self.weights = self._held() - before

    def program(self, name: str, trace: Trace, timer: Timer, seconds: float) -> Prepared:
        """Inputs for a trace's batch, the first call, and the warm-up.

        Raises:
            OutOfMemory: it does not fit.
            RequestError: the device or the mode does not suit the model.
            ModelError: the model failed.
        """
        before = self._held()
        with translated(self.name, self.settings):
            inputs = self._inputs(trace)
            program = Program(name, self._step(inputs))
            with self.grad_mode():
                first_call(program, timer)
                warm_up(program, timer, seconds)
                memory = self._memory(before)
                watched = self._watched(program)
        return Prepared(program, inputs, memory, watched)

    def _watched(self, program: Program) -> Watched | None:
        """Watch a call; None where torch does not see it, or a dispatch mode disturbs it."""
        from cnnscope.timing.watch import watch

        if self.settings.compile or getattr(self.model, "runtime", ""):
            return None
        try:
            return watch(program.step)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            return None

    def grad_mode(self) -> Any:
        """No gradients in a forward pass; they are the point of a training step."""
        import torch

        return nullcontext() if self.settings.mode == "train" else torch.inference_mode()

    def release(self) -> None:
        """Give back what the last batch left: gradients, and memory that the allocator keeps."""
        import torch

        self.model.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # -- what is called

    def _inputs(self, trace: Trace) -> Arguments:
        with isolation.seeded_on(self.device):
            return random_inputs(
                trace.given,
                self.device,
                channels_last=self.settings.channels_last,
            )

    def _step(self, inputs: Arguments) -> Step:
        if self.settings.mode == "train":
            return self._training_step(inputs)
        called = self.called
        if not self.settings.amp:
            return lambda: inputs.call(called)
        autocast = self._autocast()

        def forward() -> object:
            with autocast():
                return inputs.call(called)

        return forward

    def _training_step(self, inputs: Arguments) -> Step:
        """Forward, backward, and a step of SGD with momentum and learning rate 0.

        The loss is the mean of every output. A learning rate of 0 costs what any other does and
        leaves the weights as they are, so that the thousandth step computes what the first did.
        """
        import torch

        called, autocast, name = self.called, self._autocast(), printable(self.name)
        if not any(p.requires_grad for p in self.model.parameters()):
            raise ModelError(
                f"{name}: no parameters to train; to measure the forward, give --mode forward"
            )
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, momentum=MOMENTUM)
        scaler = None
        if self.settings.amp == "float16":
            scaler = torch.amp.GradScaler(self.device.type)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast():
                loss = _loss(inputs.call(called), name)
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()

        return step

    def _autocast(self) -> Callable[[], Any]:
        """Entered anew by every call, as in use: it casts the weights each time."""
        import torch

        if not self.settings.amp:
            return nullcontext
        kind, dtype = self.device.type, getattr(torch, self.settings.amp)
        return lambda: torch.autocast(kind, dtype=dtype)

    # -- memory

    def _held(self) -> int:
        """Bytes that are held now; from here on, the most is looked for anew."""
        import torch

        if self.device.type != "cuda":
            return machine.resident(reset=True)
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def _memory(self, before: int) -> BenchMemory:
        import torch

        if self.device.type == "cuda":
            return BenchMemory(
                allocated=torch.cuda.max_memory_allocated(self.device) - before + self.weights,
                reserved=torch.cuda.max_memory_reserved(self.device),
            )
        # as if it were alone: without what other models that were built meanwhile hold
        return BenchMemory(resident=machine.resident(), resident_before=before - self.weights)


class Prepared:
    """A program that is warm, with what it is called with and the memory that it took."""

    def __init__(
        self,
        program: Program,
        inputs: Arguments,
        memory: BenchMemory,
        watched: Watched | None,
    ) -> None:
        self.program, self.inputs, self.memory, self.watched = program, inputs, memory, watched


def random_inputs(
    inputs: Inputs, device: torch.device, *, channels_last: bool = False
) -> Arguments:
    """The tensors of `models.inputs.real_inputs` on a device, in the layout of the weights."""
    from torch.utils._pytree import tree_map

    made = real_inputs(inputs, str(device))
    if not channels_last:
        return made
    return Arguments(*tree_map(_laid_out, tuple(made)))


def _laid_out(tensor: Any) -> Any:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return tensor
    layout = _LAYOUTS.get(tensor.dim()) if tensor.is_floating_point() else None
    return tensor.contiguous(memory_format=getattr(torch, layout)) if layout else tensor


_LAYOUTS = {4: "channels_last", 5: "channels_last_3d"}


def _to_channels_last(model: nn.Module) -> None:
    """Weights of 2-D and of 3-D convolutions, each in its own layout."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            layout = _LAYOUTS.get(parameter.dim())
            if layout is not None:
                chosen = getattr(torch, layout)
                parameter.data = parameter.data.contiguous(memory_format=chosen)


def _loss(output: Any, name: str) -> Any:
    """The sum of the means of all outputs that have a gradient."""
    from cnnscope.tracing.plain import tensors_in

    means = [t.float().mean() for t in tensors_in(output) if t.requires_grad]
    if not means:
        raise ModelError(
            f"{name}: no output has a gradient, there is nothing to train; to measure the "
            "forward, give --mode forward"
        )
    return sum(means[1:], means[0])


@contextmanager
def translated(spec: str, settings: BenchSettings) -> Iterator[None]:
    """Errors of torch and of the model as one message; what the model prints goes to stderr."""
    name = printable(spec)
    try:
        with isolation.aside():
            yield
    except (CnnscopeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        text = said(error)
        if out_of_memory(error):
            raise OutOfMemory(f"{name}: {settings.device} ran out of memory") from error
        if "not implemented for" in text:
            used = settings.amp or settings.dtype
            raise RequestError(
                f"{name}: {used} is not supported on {settings.device} ({text}); "
                "use --dtype float32"
            ) from error
        if one_value(error):
            raise RequestError(
                f"{name}: a batch norm cannot train on one value per channel; use --batch-size 2"
            ) from error
        if settings.compile and any(part in text for part in _NO_COMPILER):
            raise RequestError(
                f"--compile {settings.compile}: torch.compile finds no C++ compiler that works; "
                "install g++ or name one in CXX (on CUDA CC as well), or leave --compile out"
            ) from error
        if settings.compile and "working triton" in text:
            raise RequestError(
                f"--compile {settings.compile}: torch.compile needs Triton on "
                f"{settings.device}, and finds none that works; install it, or leave --compile out"
            ) from error
        compiled = f" compiled ({settings.compile})" if settings.compile else ""
        raise ModelError(f"{name}{compiled} failed on {settings.device}: {text}") from error
