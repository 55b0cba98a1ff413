"""Run a model once and write down everything it does.

A tensor is known by its *window*: the storage it lies in, its offset, shape, strides and dtype.
Two tensors with the same window are the same value, whatever Python objects they are, so nothing
has to be kept alive to tell them apart, and storages die when they would die without us (which is
what makes peak memory a fact and not a guess).

An in-place operation makes a new tensor id for the window that it writes. What that write means
for other windows of the same storage is written down too: the base gets a `cnnscope.write_window`
operation, and a view that is read later is made again from its base by repeating its view
operation (or by `cnnscope.window`, which holds the bare geometry, where there is none to repeat).

Here is the dispatch function, and what a forward runs in. The book of values is in `storages.py`,
modules and their calls in `calls.py`, and what makes a trace of them in `finish.py`.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self, cast

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from cnnscope.errors import ModelError
from cnnscope.records.trace import Break, OpRecord, Source, Trace
from cnnscope.text import printable, said, visible
from cnnscope.tracing import (
    chance,
    devices,
    downloads,
    isolation,
    kernels,
    raised,
    recursion,
    refusals,
    training,
)
from cnnscope.tracing.arguments import Arguments, form_of
from cnnscope.tracing.at_once import made_at_once
from cnnscope.tracing.autocast import autocast_on_meta
from cnnscope.tracing.backward import Backward
from cnnscope.tracing.calls import Calls, Modules, current, recording
from cnnscope.tracing.finish import finished
from cnnscope.tracing.modules import modules_of, own_state, replaced
from cnnscope.tracing.plain import plain, tensors_in
from cnnscope.tracing.storages import Storage, Storages, Window, Write
from cnnscope.tracing.stubs import light

_LISTED = 1024  # elements of a list of indices that a trace holds


class ExitedError(ModelError):
    """A forward that called `sys.exit()`."""


class ForwardError(ModelError):
    """A forward that raised, with the module that it raised in.

    Attributes:
        path: dotted path of the innermost module that was running ("" is the model itself).
        module: that module.
        shapes: shapes of the tensors it was called with.
        cause: what was raised.
        operation: the operation that raised it ("aten.add.Tensor"), "" where it was other code.
        trace: what ran before; `Trace.broken` says where it ends.
        named: names in the expression that raised, with the shapes of their tensors.
        empty: path of the last module that returned None, None where none did.
        missing: whether the module was given None.
    """

    trace: Trace
    named: tuple[tuple[str, tuple[int, ...]], ...] = ()
    empty: str | None = None
    missing: bool = False

    def __init__(
        self,
        path: str,
        module: nn.Module,
        shapes: tuple[tuple[int, ...], ...],
        cause: Exception,
        operation: str = "",
    ) -> None:
        self.path, self.module, self.shapes, self.cause = path, module, shapes, cause
        self.operation = operation
        kind = visible(type(module).__name__)
        where = f"{path} ({kind})" if path else kind
        given = ", ".join("x".join(map(str, shape)) for shape in shapes) or "no tensors"
        super().__init__(f"forward failed in {where}, called with {given}: {said(cause)}")


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
            notes=(*notes, *self.mixed, *devices.notes(), *downloads.notes()),
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
    on_meta = _on_meta(call)
    _refuse(model, call, on_meta=on_meta)
    recorder = Recorder(model, threading.get_ident(), train=train)
    recorder.book.watched = watched
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))  # where operations are others
        stack.enter_context(recorder.recording())
        call = Arguments(*_aliases(tuple(call)))
        replacements = recorder.modules.adopt_state(on_meta=on_meta)
        recorder.modules.adopt_inputs(tuple(call))
        mixed = _settle(stack, model, on_meta=on_meta, train=train)
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
        _settle(stack, model, on_meta=True)
        stack.enter_context(replaced(model, replacements))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_Answers())
        return training.unreached(model(*args, **kwargs), weights)


def _with_chance(made: Trace, drawn: tuple[str, ...]) -> Trace:
    """The trace with the sources of random numbers that may have decided what ran."""
    if not drawn:
        return made
    decided = tuple(sorted({*made.decided_by, chance.RANDOM}))
    return structs.replace(made, decided_by=decided, drawn=drawn)


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
                stack.enter_context(_Answers())
            arguments.call(self._model)

    def count(self, *_: Any) -> None:
        """Count a module call."""
        self.calls += 1


class _Answers(TorchDispatchMode):
    """Refuses what a recorder refuses on meta, and brings to meta what that does."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        schema, kwargs = _schema(func), kwargs or {}
        return _answer(func, schema, args, kwargs, _written(schema, args, kwargs))


class Costs(_Answers):
    """Counts what runs while nobody records it.

    Attributes:
        flops: floating-point operations, as torch counts them.
        elements: of everything that was computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.elements = 0

    def __enter__(self) -> Self:
        recording.append(None)
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        recording.pop()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        from torch.utils.flop_counter import flop_registry

        result = super().__torch_dispatch__(func, types, args, kwargs)
        count = flop_registry.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        self.elements += sum(tensor.numel() for tensor in tensors_in(result))
        return result


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
        _settle(stack, model, on_meta=on_meta)
        handle = register_module_forward_pre_hook(rehearsal.count)
        stack.callback(handle.remove)
        yield rehearsal


# ----------------------------------------------------------------------------- recording


class _Schema(NamedTuple):
    """Signature of an operation: argument names, and which of them it writes to."""

    name: str
    names: tuple[str, ...]
    written: tuple[str, ...]
    lifts: bool  # what it is given was made in Python a moment ago: `torch.tensor(1.0)`
    convolves: bool  # it may be a part of a complex convolution
    normalises: bool  # a batch norm: on meta it returns statistics that real kernels leave empty
    layout: Callable[..., Any] | None = None  # what a CPU makes of results of meta's
    lists: bool = False  # it writes to lists of tensors and returns nothing


class Recorder(TorchDispatchMode):
    """Writes down operations as they run, and has the calls of modules followed."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping the dispatch method, which would import torch._dynamo."""
        return False

    def __init__(self, model: nn.Module, thread: int, *, train: bool = False) -> None:
        super().__init__()
        self.model, self.train = model, train
        self.book = Storages(graph=train)
        self.modules = Modules(model, self.book)
        self.calls = Calls(self.modules, self.book, thread)
        self.calls.fast &= not train
        self.checks = True  # what the user's code calls; torch's own backward pass is right
        self.refused: tuple[Exception | None, OpRecord | None] = None, None  # by which operation
        self.backward: Backward | None = None  # while one runs
        # what every operation needs, without a way through another object
        self._place, self._current, self._read = self.book.place, self.book.current, self.book.read
        self._note_result, self._note_op = self.book.note_result, self.book.note_op
        self._read_stray = self.modules.read_stray

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if recording[-1] is not self.calls:  # of a model that the forward has traced itself
            return func(*args, **(kwargs or {}))
        try:
            if self.backward is not None:
                return self.backward.run(self._run, func, args, kwargs or {})
            return self._run(func, args, kwargs or {})
        except Exception as error:
            if self.refused[0] is not error:  # before its operands were known
                self.refused = error, OpRecord(str(func), {}, ())
            raise

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, written down."""
        schema = _schema(func)
        inputs: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        viewable: dict[Storage, tuple[str, Window]] = {}  # what a result may be a view of
        born = len(self.book.ops) if schema.lifts else -1
        for name, value in (*zip(schema.names, args, strict=False), *kwargs.items()):
            if isinstance(value, Tensor):
                storage, window = self._place(value, born)
                inputs[name] = self._current(storage, window)
                viewable[storage] = (name, window)
                self._read_stray(value, inputs[name])
            elif isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
                inputs[name] = tuple(
                    self._read(v) if isinstance(v, Tensor) else None for v in value
                )
            else:
                attributes[name] = value if type(value) is int else plain(value)
        written = self._about_to_write(schema, args, kwargs) if schema.written else []
        if schema.convolves or schema.lifts:
            self._remark(schema, args, inputs, attributes)
        try:
            answer = _answer if self.checks else _unchecked
            result = answer(func, schema, args, kwargs, written)
        except Exception as error:
            self.refused = error, OpRecord(schema.name, inputs, (), attributes)
            raise
        writes = self._write(written) if written else []
        outputs = [write.value for write in writes]
        results = (result,) if isinstance(result, Tensor) else tuple(tensors_in(result))
        for position, tensor in enumerate(results):
            if not written or not any(tensor is other for other in written):
                part = position if len(results) > 1 else None
                outputs.append(self._note_result(tensor, schema.name, attributes, viewable, part))
        self._note_op(schema.name, inputs, tuple(outputs), attributes)
        for write in writes:
            self.book.note_base(write)
        if schema.normalises and attributes.get("training") is False:
            self._empty(outputs[1:])
        return result

    def _about_to_write(
        self, schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The tensors that an operation writes to, of which copies are kept where they are due."""
        written = _written(schema, args, kwargs)
        self.book.keep(written)
        return written

    def _remark(
        self,
        schema: _Schema,
        args: tuple[Any, ...],
        inputs: dict[str, Any],
        attributes: dict[str, Any],
    ) -> None:
        """Add to the attributes what the arguments do not say."""
        if schema.convolves and (parts := _complex_parts(self.book.ops, inputs)):
            attributes["complex_parts"] = parts
        if schema.lifts and (values := _values(args[0])):
            attributes["values"] = values

    def _write(self, written: list[Tensor]) -> list[Write]:
        """New values for what an operation has written to."""
        return [self.book.overwrite(*self._place(tensor)) for tensor in written]

    def _empty(self, values: list[int]) -> None:
        """Let values have no bytes: those that meta returns and real kernels leave empty."""
        for value in values:
            self.book.life(value)[0] = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Be the one that records, and clean up."""
        with ExitStack() as stack:
            stack.callback(self.book.release)
            stack.enter_context(self.calls.innermost())
            yield

    @contextmanager
    def watching_kernels(self) -> Iterator[None]:
        """Follow functions that are made of others, unless a recorder around this one does."""
        if len(recording) > 1:
            yield
            return
        with kernels.watching(current, train=self.train):
            yield

    def broken_off(self, error: BaseException) -> tuple[ForwardError, Break]:
        """The error of a forward that raised, placed in the module that was running, and the end.

        The operation of `Break` is what refused its operands, or the function of torch that the
        code called: some refuse before any operation begins.
        """
        refused, operation = self.refused
        operation = operation if refused is error else None
        place, failed = raised.place(error), self.calls.failed_in(error)
        cause = _cause(error).with_traceback(error.__traceback__)
        if isinstance(error, RecursionError):
            cause, failed = self._recursion(error)
            operation, place = None, raised.Place(place.line)
        call, path, module, inputs = failed or (-1, "", self.model, self.modules.inputs)
        args, kwargs = raised.arguments(error, module)
        if call >= 0 and kwargs and failed is not None:
            inputs += tuple(map(self._read, tensors_in(kwargs)))
            self.calls.give(call, inputs)
        shapes = tuple(self.book.tensors[i].shape for i in inputs)
        failure = ForwardError(path, module, shapes, cause, operation.name if operation else "")
        failure.named = tuple((visible(n), tuple(t.shape)) for n, t in place.tensors)
        failure.empty = self.calls.empty
        failure.missing = any(value is None for value in (*args, *kwargs.values()))
        if operation is None and not self.modules.is_library(module):
            operation = self._called(place)
        if operation is not None:
            operation = structs.replace(operation, call=call)
        kind, message = type(error).__name__, " ".join(_text(cause).split())
        return failure, Break(
            call, shapes, operation, visible(kind), printable(message, 1000),
            place.expression, place.line,
        )  # fmt: skip

    def _called(self, place: raised.Place) -> OpRecord | None:
        """The function of torch that code called, with the tensors that the code names."""
        if not place.function:
            return None
        inputs = {visible(name): self._read(tensor) for name, tensor in place.operands}
        return OpRecord(place.function, dict(inputs), ())

    def _recursion(
        self, error: RecursionError
    ) -> tuple[Exception, tuple[int, str, nn.Module, tuple[int, ...]]]:
        """Describe a forward that filled the stack, placed in the module that calls itself."""
        found = recursion.loop(error)
        module = found.module if found and found.module else self.model
        call, path, inputs = self.calls.first_of(module) or (-1, "", self.modules.inputs)
        why = "modules are nested deeper than that; sys.setrecursionlimit in the code raises it"
        if found is not None:
            others = (self.calls.first_of(one) for one in found.through)
            names = ", ".join(other[1] for other in others if other and other[1])
            through = f" through {names}" if names else ""
            why = f"{visible(found.name)} calls itself{through}, and never returns; give it an end"
        limit = f"the recursion limit of {isolation.recursion_limit():,} calls was reached"
        cause = RecursionError(f"{limit}: {why}").with_traceback(error.__traceback__)
        return cause, (call, path, module, inputs)


def _cause(error: BaseException) -> Exception:
    """The exception that is shown: torch's own words for what is not followed say little."""
    text = _text(error)
    if isinstance(error, SystemExit):
        return ExitedError("forward called sys.exit()")
    if "SparseTensorImpl" in text:
        return ModelError("it makes a sparse tensor, which is not followed: keep it dense")
    if "NestedTensorImpl" in text:
        return ModelError("it makes a nested tensor, which is not followed: use a padded one")
    higher = re.search(r"no rule registered for HigherOrderOperator (\w+)", text)
    if higher is not None:
        return ModelError(
            f"it runs {higher[1]}, an operation on functions that is not followed: call the "
            "function itself"
        )
    return cast("Exception", error)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its __str__ is other people's code as well
        return "its message cannot be shown"


# -------------------------------------------------------------------------------- helpers


def as_written(model: nn.Module) -> nn.Module:
    """The module that was compiled: a wrapper says nothing about a network."""
    return getattr(model, "_orig_mod", model) if _is_compiled(model) else model


def _is_compiled(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torch._dynamo")


def state_of(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer; a tied one once for each of its names."""
    for _, module in modules_of(model):
        for _, tensor in own_state(module):
            yield tensor


def _settle(stack: ExitStack, model: nn.Module, *, on_meta: bool, train: bool = False) -> list[str]:
    """Enter the modes that every forward runs in.

    Returns:
        Where these are added: sentences about autocast on meta.
    """
    mixed: list[str] = []
    stack.enter_context(_mode(model, train=train))
    stack.enter_context(_uncompiled())
    stack.enter_context(devices.at("meta" if on_meta else "cpu"))
    if on_meta:
        stack.enter_context(states_on_meta())
        mixed = stack.enter_context(autocast_on_meta())
    stack.enter_context(light())
    return mixed


@contextmanager
def _mode(model: nn.Module, *, train: bool) -> Iterator[None]:
    """Eval mode without gradients or training mode with them; everything as it was afterwards.

    Fused fast paths are off. Training mode is what `model.train()` makes of the model: a part with
    a `train()` of its own may stay in eval mode.
    """
    modes = [(module, module.training) for _, module in modules_of(model)]
    with isolation.same_random(), ExitStack() as undo:
        isolation.keep_process(undo)
        undo.enter_context(isolation.deeper(_depth(model)))
        for module, before in modes:
            undo.callback(setattr, module, "training", before)
            module.training = False
        if train:
            model.train()
        _unvalidated(undo)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.set_grad_enabled(train):
            yield


def _depth(model: nn.Module) -> int:
    """Levels of modules inside each other."""
    return max(path.count(".") + 1 for path, _ in modules_of(model))


def _unvalidated(undo: ExitStack) -> None:
    """Let distributions take their parameters as valid, which they do not check without data."""
    module = sys.modules.get("torch.distributions.distribution")
    if module is not None:
        kind = module.Distribution
        undo.callback(kind.set_default_validate_args, kind._validate_args)
        kind.set_default_validate_args(value=False)


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


def _on_meta(arguments: Any) -> bool:
    return any(tensor.is_meta for tensor in tensors_in(arguments))


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


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled modules as they were written; nothing is compiled where dynamo is not loaded."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


_RECURRENT = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)


@contextmanager
def states_on_meta() -> Iterator[None]:
    """Let recurrent layers take a state that the forward makes on the CPU.

    torch compares the devices before any operation that could be seen.
    """
    functions = vars(torch._VF)
    before = {name: functions[name] for name in _RECURRENT if name in functions}

    def moved(function: Callable[..., Any], *args: Any) -> Any:
        def there(value: Any) -> Any:
            state = isinstance(value, Tensor) and value.is_floating_point()  # and no batch sizes
            return value.to("meta") if state else value

        return function(*(tree_map(there, args) if _on_meta(args) else args))

    for name in _RECURRENT:
        functions[name] = functools.partial(moved, getattr(torch._VF, name))
    try:
        yield
    finally:
        for name in _RECURRENT:
            functions.pop(name)
        functions.update(before)


def _answer(
    func: Any, schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]
) -> Any:
    """Run an operation; on meta refuse what a real kernel refuses, and lay it out as a CPU's."""
    refusals.check_sizes(schema.name, schema.names, args, kwargs)
    given = refusals.without_bytes(schema.name, schema.names, args)
    result = _on_any_device(func, schema, args, kwargs, given)
    refusals.check_dtypes(func, args, kwargs, result)
    if written:
        refusals.check_overlap(func, written, args, kwargs)
    return _laid_out(schema, args, kwargs, result)


def _unchecked(
    func: Any, schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any], written: list[Tensor]
) -> Any:
    """Run an operation of autograd or of an optimizer, which is given what it takes.

    What the forward has saved of a plain CPU tensor lies on the CPU still.
    """
    if written and schema.lists and all(tensor.is_meta for tensor in written):
        return None  # nothing is written to memory without data
    result = _on_any_device(func, schema, args, kwargs, args)
    return _laid_out(schema, args, kwargs, result)


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What an operation returns, on meta without the many operations of which some are."""
    made = made_at_once(func, args, kwargs)
    return func(*args, **kwargs) if made is None else made


def _laid_out(schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """The result of an operation as a CPU makes it, where meta's differs."""
    if schema.layout is None or not _on_meta(result):
        return result
    return schema.layout([_argument(schema, args, kwargs, name) for name in schema.names], result)


def _on_any_device(
    func: Any,
    schema: _Schema,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    given: Sequence[Any],
) -> Any:
    """Run an operation whose operands may be meta and CPU tensors; a result of both is on meta.

    A product of matrices lies where its last operand does.
    """
    try:
        result = _computed(func, given, kwargs)
    except RuntimeError:  # or NotImplementedError, its child
        return _on_one_device(func, schema, args, kwargs)
    away = isinstance(result, Tensor) and not result.is_meta and not schema.written
    if away and len({one.is_meta for one in args if isinstance(one, Tensor)}) > 1:
        return _on_one_device(func, schema, args, kwargs)
    return result


def _on_one_device(
    func: Any, schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """An operation once more, with everything on the meta device, as it has failed otherwise.

    A model may hold plain CPU tensors beside its buffers, make constants without a device, or
    move its input to the device of its choice: none of it changes a shape.

    Raises:
        Exception: what it has failed with, where that is no remedy.
    """
    away = str(kwargs.get("device") or "meta") != "meta"
    moving = schema.name.startswith("aten._to_copy") and away
    mixed = any(not t.is_meta for t in tensors_in((args, kwargs)))
    written = tensors_in([_argument(schema, args, kwargs, name) for name in schema.written])
    remedy = (moving or mixed) and all(t.is_meta for t in written)
    if not remedy or not _on_meta((args, kwargs)):
        raise  # noqa: PLE0704  in the except clause of the caller
    meta = torch.device("meta")
    kwargs = {**kwargs, "device": meta} if moving else kwargs
    there = tree_map(lambda v: v.to(meta) if isinstance(v, Tensor) else v, (args, kwargs))
    return func(*there[0], **there[1])


def source_of(model: nn.Module) -> Source:
    """A module that came from nowhere but a Python program."""
    name = visible(type(model).__name__)
    return Source(spec=name, source="python", name=name, versions={"torch": str(torch.__version__)})


def _values(tensor: Any) -> tuple[int, ...]:
    """The elements of a list of whole numbers that has just become a tensor, () of any other."""
    if type(tensor) is not Tensor or tensor.device.type != "cpu" or tensor.dim() != 1:
        return ()
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)
    return tuple(map(int, tensor.tolist())) if whole and len(tensor) <= _LISTED else ()


@functools.cache
def _schema(func: Any) -> _Schema:
    arguments = getattr(getattr(func, "_schema", None), "arguments", None)
    if arguments is None:  # higher-order operators have no schema
        names = tuple(f"arg{i}" for i in range(32))
        return _Schema(str(func), names, (), lifts=False, convolves=False, normalises=False)
    written = tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)
    name = str(func)
    names = tuple(a.name for a in arguments)
    lifts, normalises = "lift_fresh" in name, "native_batch_norm" in name
    convolves = name == "aten.convolution.default"
    base, _, overload = name.rpartition(".")
    layout = None if "out" in overload else kernels.RESULTS.get(base)
    lists = name.startswith("aten._foreach_") and not func._schema.returns
    return _Schema(name, names, written, lifts, convolves, normalises, layout, lists)


def _written(schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes to."""
    given = (_argument(schema, args, kwargs, name) for name in schema.written)
    return [tensor for value in given for tensor in tensors_in(value)]


def _complex_parts(ops: list[OpRecord], inputs: dict[str, Any]) -> tuple[int, ...]:
    """The other two of the three convolutions that a complex one is computed by, at its last.

    Its weight is the sum of the weights of the other two, which are a complex one's parts.

    Returns:
        Their numbers, () where it is no such convolution.
    """
    recent = {op.outputs[0]: op for op in ops[-24:] if op.outputs}
    added = recent.get(inputs.get("weight", -1))
    if added is None or added.name != "aten.add.Tensor":
        return ()
    parts = [
        len(ops) - n
        for n, op in enumerate(reversed(ops[-24:]), 1)
        if op.name == "aten.convolution.default"
        and op.inputs["weight"] in (added.inputs.get("self"), added.inputs.get("other"))
    ]
    halves = [recent.get(t) for t in added.inputs.values() if isinstance(t, int)]
    wholes = [recent.get(cast("Any", half.inputs.get("self"))) for half in halves if half]
    names = {op.name for op in wholes if op is not None}
    viewed = len(parts) == 2 and names == {"aten.view_as_real.default"}
    return tuple(sorted(parts)) if viewed else ()


def _argument(schema: _Schema, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    if name in kwargs:
        return kwargs[name]
    position = schema.names.index(name)
    return args[position] if position < len(args) else None
