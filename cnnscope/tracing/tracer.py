"""Run a model once and write down everything it does.

A tensor is known by its *window*: the storage it lies in, its offset, shape, strides and dtype.
Two tensors with the same window are the same value, whatever Python objects they are, so nothing
has to be kept alive to tell them apart, and storages die when they would die without us (which is
what makes peak memory a fact and not a guess).

An in-place operation makes a new tensor id for the window that it writes. What that write means
for other windows of the same storage is written down too: the base gets a `cnnscope.write_window`
operation, and a view that is read later is made again from its base by repeating its view
operation (or by `cnnscope.window`, which holds the bare geometry, where there is none to repeat).

Operations are written down by `recorder.py`, as `answers.py` runs them, in the modes of `modes.py`.
The book of values is in `storages.py`, modules and their calls in `calls.py`, and what makes a
trace of them in `finish.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_map

from cnnscope.errors import ModelError
from cnnscope.records.trace import Source, Trace
from cnnscope.text import visible
from cnnscope.tracing import chance, devices, downloads, isolation, training
from cnnscope.tracing.answers import Answers
from cnnscope.tracing.arguments import Arguments, form_of
from cnnscope.tracing.finish import finished
from cnnscope.tracing.modes import settle
from cnnscope.tracing.modules import modules_of, own_state, replaced, state_of
from cnnscope.tracing.plain import any_on_meta, tensors_in
from cnnscope.tracing.recorder import Recorder


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    source: Source | None = None,
    notes: tuple[str, ...] = (),
) -> Trace:
    """Record one inference forward of `model(*args, **kwargs)`.

    Runs in eval mode without gradients. When the inputs are on the meta device, parameters and
    buffers are replaced by meta tensors for the length of the call, so no arithmetic is done. The
    model with all its attributes and hooks, the arguments, torch's flags and the random state are
    left as they were. Threads take turns: hooks and flags are those of the whole process.

    Args:
        model: any module, on any device.
        args: positional arguments of forward; tensors may lie in lists, tuples, dicts,
            dataclasses.
        kwargs: keyword arguments of forward.
        source: where the model came from, for the report.
        notes: sentences for the report about how the trace was made.

    Raises:
        ForwardError: forward raised; it names the module that was running.
    """
    model = as_written(model)
    with running(model, Arguments(args, dict(kwargs or {}))) as run:
        made = run.ended(run.forward(source, notes), source, notes)
    return _with_gradients(made, model, *run.call, run.doubt)


class Run(NamedTuple):
    """A forward that is being recorded.

    Attributes:
        model: the module, with the tensors that it runs on in place of its own.
        call: its arguments, tensors of the run's own.
        recorder: what writes operations down.
        on_meta: whether the tensors have no data.
        mixed: sentences about autocast.
        drawn: names the sources of random numbers so far.
        doubt: whether gradients may be lost.
    """

    model: nn.Module
    call: Arguments
    recorder: Recorder
    on_meta: bool
    mixed: list[str]
    drawn: Callable[[], tuple[str, ...]]
    doubt: training.Doubt

    def forward(self, source: Source | None, notes: tuple[str, ...]) -> Any:
        """Run the forward.

        Raises:
            ForwardError: it raised; the error has the trace of what ran before.
        """
        try:
            return self.call.call(self.model)
        except (Exception, SystemExit) as error:
            failure, broken = self.recorder.broken_off(error)
            failure.trace = structs.replace(self.ended(None, source, notes), broken=broken)
            raise failure from error

    def ended(self, result: Any, source: Source | None, notes: tuple[str, ...]) -> Trace:
        """Make the trace of what was recorded; `result` is what the forward has returned."""
        model, recorder = self.model, self.recorder
        made = finished(
            recorder.modules,
            recorder.calls,
            result,
            source=source or source_of(model),
            device="meta" if self.on_meta else _device_of(self.call, model),
            notes=(
                *notes,
                *self.mixed,
                *recorder.modules.about_late(),
                *devices.notes(),
                *downloads.notes(),
            ),
        )
        asks, own = training.branching(model), training.own_train(model)
        made = structs.replace(made, form=form_of(*self.call), asks_training=asks, own_train=own)
        if devices.chose():
            made = structs.replace(made, decided_by=tuple(sorted({*made.decided_by, chance.DATA})))
        return _with_chance(made, self.drawn())


@contextmanager
def running(
    model: nn.Module,
    call: Arguments,
    *,
    train: bool = False,
    watched: bool = False,
    before: Callable[[Run], None] = lambda _: None,
) -> Iterator[Run]:
    """Record what is done with a model while this lasts, and leave everything as it was.

    Args:
        model: any module.
        call: the arguments of its forward.
        train: in training mode with gradients, in place of eval mode without.
        watched: with the memory that a step takes where a dispatch mode watches.
        before: called once the model has the tensors that it runs on, unrecorded.

    Raises:
        ModelError: the model or the arguments hold what cannot be followed.
    """
    on_meta = any_on_meta(call)
    _refuse(model, call, on_meta=on_meta)
    recorder = Recorder(model, threading.get_ident(), train=train)
    recorder.book.watched = watched
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))  # where operations are others
        stack.enter_context(recorder.recording())
        call = Arguments(*_aliases(tuple(call)))
        replacements = recorder.modules.adopt_state(on_meta=on_meta)
        recorder.modules.adopt_inputs(tuple(call))
        mixed = settle(stack, model, on_meta=on_meta, train=train)
        stack.enter_context(replaced(model, replacements))
        stack.enter_context(recorder.calls.watching())
        stack.enter_context(recorder.watching_kernels())
        generators = chance.Generators(module for _, module in modules_of(model))
        of_system = stack.enter_context(chance.system_random())
        doubt = stack.enter_context(training.watching())

        def drawn() -> tuple[str, ...]:
            return *generators.drawn(), *of_system

        run = Run(model, call, recorder, on_meta, mixed, drawn, doubt)
        before(run)
        stack.enter_context(recorder)
        yield run


def _with_gradients(
    made: Trace,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    doubt: training.Doubt,
) -> Trace:
    """The trace with the parameters that no gradient reaches, where there may be any.

    Nothing is said where another run may take another path, nor where the forward refuses to run
    with gradients.
    """
    settled = made.device == "meta" and not made.decided_by
    if not settled or not (doubt.entered or training.doubtful(made)):
        return made
    try:
        lost = set(_unreached(model, args, kwargs))
    except Exception:  # noqa: BLE001  it is the user's code, and has run once already
        return made
    used = tuple(
        p.path for p in made.params if p.used and not lost.isdisjoint((p.path, *p.aliases))
    )
    return structs.replace(made, unreached=used, no_grad=doubt.entered)


def _unreached(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    """The parameters that no gradient of an output reaches, by a forward that builds a graph."""
    recorder = Recorder(model, threading.get_ident())
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(recorder.recording())
        replacements = recorder.modules.adopt_state(on_meta=True)
        weights = training.weights_of(model, replacements)
        settle(stack, model, on_meta=True)
        stack.enter_context(replaced(model, replacements))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(Answers())
        return training.unreached(model(*args, **kwargs), weights)


def _with_chance(made: Trace, drawn: tuple[str, ...]) -> Trace:
    """The trace with the sources of random numbers that may have decided what ran."""
    if not drawn:
        return made
    decided = tuple(sorted({*made.decided_by, chance.RANDOM}))
    return structs.replace(made, decided_by=decided, drawn=drawn)


# ------------------------------------------------------------------- forwards without a recording


class Rehearsal:
    """Forwards without a recording: whether a model runs, again and again.

    Attributes:
        calls: module calls so far, which is what forwards without data cost.
    """

    def __init__(self, model: nn.Module, replacements: dict[int, Tensor], *, on_meta: bool) -> None:
        self._model, self._replacements, self._on_meta = model, replacements, on_meta
        self.calls = 0

    def run(self, arguments: Arguments) -> None:
        """One forward; whatever it raises is raised, and the model is as it was."""
        with replaced(self._model, self._replacements), ExitStack() as stack:
            if self._on_meta:
                stack.enter_context(Answers())
            arguments.call(self._model)

    def count(self, *_: Any) -> None:
        """Count a module call."""
        self.calls += 1


@contextmanager
def rehearsing(model: nn.Module, *, on_meta: bool) -> Iterator[Rehearsal]:
    """Run forwards as `trace` runs them, without writing anything down, in half the time.

    Args:
        model: left as it was.
        on_meta: with meta tensors for parameters and buffers.
    """
    recorder = Recorder(model, threading.get_ident())
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(recorder.recording())
        replacements = recorder.modules.adopt_state(on_meta=on_meta)
        rehearsal = Rehearsal(model, replacements, on_meta=on_meta)
        settle(stack, model, on_meta=on_meta)
        handle = register_module_forward_pre_hook(rehearsal.count)
        stack.callback(handle.remove)
        yield rehearsal


# -------------------------------------------------------------------------------- helpers


def as_written(model: nn.Module) -> nn.Module:
    """The module that was compiled: a wrapper says nothing about a network."""
    return getattr(model, "_orig_mod", model) if _is_compiled(model) else model


def _is_compiled(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torch._dynamo")


def _aliases(arguments: Any) -> Any:
    """The arguments with other tensors on the same memory: a forward may change their shape."""
    made: dict[int, Any] = {}

    def alias(value: Any) -> Any:
        return made.setdefault(id(value), _alias(value)) if type(value) is Tensor else value

    return tree_map(alias, arguments)


def _alias(tensor: Tensor) -> Tensor:
    if tensor.is_inference():  # and can be written to in inference mode only
        return tensor.clone()
    return tensor.data.requires_grad_(tensor.requires_grad)


def _device_of(arguments: Any, model: nn.Module) -> str:
    tensors = (*tensors_in(arguments), *state_of(model))
    return next((tensor.device.type for tensor in tensors), "cpu")


def _refuse(model: nn.Module, arguments: Any, *, on_meta: bool) -> None:
    """Say at once what cannot be followed."""
    for path, module in modules_of(model):
        where = f"{visible(path) or 'the model'} ({visible(type(module).__name__)})"
        if on_meta and isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{path or 'the model'} is TorchScript, which does not run on tensors without "
                "data: use the module that it was made from, or pass real tensors"
            )
        for name, tensor in own_state(module):
            if nn.parameter.is_lazy(tensor):
                raise ModelError(
                    f"{where} is lazy and has no {name} yet: call the model once on a real input"
                )
            if not _has_storage(tensor):
                raise ModelError(
                    f"{where}: {name} is {_layout(tensor)}, which is not followed: hold it dense"
                )
    for index, tensor in enumerate(tensors_in(arguments)):
        if not _has_storage(tensor):
            raise ModelError(
                f"input {index + 1} is {_layout(tensor)}, which is not followed: "
                "give a dense tensor of its shape"
            )


def _has_storage(tensor: Tensor) -> bool:
    """Return True if a tensor is memory and strides: not so a sparse one."""
    return tensor.layout is torch.strided


def _layout(tensor: Tensor) -> str:
    return f"a {str(tensor.layout).removeprefix('torch.')} tensor"


def source_of(model: nn.Module) -> Source:
    """A module that came from nowhere but a Python program."""
    name = visible(type(model).__name__)
    return Source(spec=name, source="python", name=name, versions={"torch": str(torch.__version__)})
