"""Run a model once and write down everything it does: the only place that watches torch.

A tensor is known by its *window*: the storage it lies in, its offset, shape, strides and dtype.
Two tensors with the same window are the same value, whatever Python objects they are, so nothing
has to be kept alive to tell them apart, and storages die when they would die without us (which is
what makes peak memory a fact and not a guess).

An in-place operation makes a new tensor id for the window that it writes. What that write means
for other windows of the same storage is written down too: the base gets a `cnnscope.write_window`
operation, and a view that is read later is made again from its base by repeating its view
operation (or by `cnnscope.window`, which holds the bare geometry, where there is none to repeat).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_map

from cnnscope.errors import ModelError
from cnnscope.records import (
    Attribute,
    CallRecord,
    ModuleRecord,
    OpRecord,
    ParamRecord,
    Source,
    StorageRecord,
    TensorRecord,
    Trace,
)
from cnnscope.text import said, visible
from cnnscope.tracing import chance, isolation, kernels, refusals
from cnnscope.tracing.autocast import autocast_on_meta
from cnnscope.tracing.modules import modules_of, own_state, replaced
from cnnscope.tracing.strays import Names
from cnnscope.tracing.stubs import light

Window = tuple[Any, ...]

# Weak references to storages, by address: while one is held the address is not used again.
_expired: Callable[[int], bool] = cast("Any", torch.UntypedStorage._expired)
_free: Callable[[int], None] = cast("Any", torch.UntypedStorage._free_weak_ref)

_FEW = 256  # storages that are asked one by one whether they are alive
_LISTED = 1024  # elements of a list of indices that a trace holds
_PLAIN = (bool, int, float, str, type(None))


class ForwardError(ModelError):
    """A forward that raised, with the module that it raised in.

    Attributes:
        path: dotted path of the innermost module that was running ("" is the model itself).
        module: that module.
        shapes: shapes of the tensors it was called with.
        cause: what was raised.
        operation: the operation that raised it ("aten.add.Tensor"), "" where it was other code.
    """

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
    on_meta = _on_meta((args, kwargs))
    _refuse(model, (args, kwargs), on_meta=on_meta)
    recorder = _Recorder(model, threading.get_ident())
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))  # where operations are others
        stack.enter_context(recorder.recording())
        args, kwargs = _aliases((args, dict(kwargs or {})))
        replacements = recorder.adopt_state(on_meta=on_meta)
        recorder.adopt_inputs((args, kwargs))
        stack.enter_context(_inference(model))
        stack.enter_context(_uncompiled())
        mixed: list[str] = []
        if on_meta:
            stack.enter_context(states_on_meta())
            mixed = stack.enter_context(autocast_on_meta())
        stack.enter_context(light())
        stack.enter_context(replaced(model, replacements))
        stack.enter_context(recorder.watching_calls())
        stack.enter_context(recorder.watching_kernels())
        generators = chance.Generators(module for _, module in modules_of(model))
        of_system = stack.enter_context(chance.system_random())
        stack.enter_context(recorder)
        try:
            result = model(*args, **kwargs)
        except Exception as error:
            raise recorder.forward_error(error) from error
        device = "meta" if on_meta else _device_of((args, kwargs), model)
        made = recorder.finish(result, source or source_of(model), device, (*notes, *mixed))
        made = _with_chance(made, (*generators.drawn(), *of_system))
    return structs.replace(made, as_list=len(args) == 1 and isinstance(args[0], list))


def _with_chance(made: Trace, drawn: tuple[str, ...]) -> Trace:
    """The trace with a note where random numbers may have decided what ran."""
    if not drawn and chance.RANDOM not in made.decided_by:
        return made
    decided = tuple(sorted({*made.decided_by, chance.RANDOM}))
    sources = ", ".join(drawn) or "torch"
    once = "run" if chance.SYSTEM in drawn else "seed"
    note = (
        f"its forward draws random numbers ({sources}) and looks at them: this is the path of one "
        f"{once}, another run may take another"
    )
    return structs.replace(made, decided_by=decided, notes=(*made.notes, note))


class Rehearsal:
    """Forwards that nobody records: whether a model runs, again and again.

    Attributes:
        calls: module calls so far, which is what forwards without data cost.
    """

    def __init__(self, model: nn.Module, replacements: dict[int, Tensor], *, on_meta: bool) -> None:
        self._model, self._replacements, self._on_meta = model, replacements, on_meta
        self.calls = 0

    def run(self, args: tuple[Any, ...]) -> None:
        """One forward; whatever it raises is raised, and the model is as it was."""
        with replaced(self._model, self._replacements), ExitStack() as stack:
            if self._on_meta:
                stack.enter_context(_Answers())
            self._model(*args)

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
        written = [
            tensor
            for name in schema.written
            for tensor in tensors_in(_argument(schema, args, kwargs, name))
        ]
        return _answer(func, schema, args, kwargs, written)


@contextmanager
def rehearsing(model: nn.Module, *, on_meta: bool) -> Iterator[Rehearsal]:
    """Run forwards as `trace` runs them, without writing anything down, in half the time.

    Args:
        model: left as it was.
        on_meta: with meta tensors for parameters and buffers.
    """
    recorder = _Recorder(model, threading.get_ident())
    with isolation.alone, ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(recorder.recording())
        replacements = recorder.adopt_state(on_meta=on_meta)
        rehearsal = Rehearsal(model, replacements, on_meta=on_meta)
        stack.enter_context(_inference(model))
        stack.enter_context(_uncompiled())
        if on_meta:
            stack.enter_context(states_on_meta())
            stack.enter_context(autocast_on_meta())
        stack.enter_context(light())
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
    normalises: bool  # a batch norm: on meta it returns statistics that real kernels leave empty
    layout: Callable[..., Any] | None = None  # what a CPU makes of results of meta's


class _Storage:
    """The memory behind some tensors, and which window of it holds which value."""

    __slots__ = ("index", "root", "version", "views", "windows")

    def __init__(self, index: int, root: Window) -> None:
        self.index = index
        self.root = root  # the window that the others are views of
        self.version = 0  # counts writes
        self.windows: dict[Window, tuple[int, int]] = {}  # window -> tensor id, version
        self.views: dict[Window, tuple[Window, str, str, dict[str, Any]]] = {}


class _Write(NamedTuple):
    """A window that an operation wrote: its new value, and the base's value before, if partial."""

    storage: _Storage
    window: Window
    value: int
    base: int | None


_recording: list[_Recorder] = []  # more than one where a forward traces another model


class _Recorder(TorchDispatchMode):
    """Writes down operations and module calls as they run."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping the dispatch method, which would import torch._dynamo."""
        return False

    def __init__(self, model: nn.Module, thread: int) -> None:
        super().__init__()
        self.model = model
        self.thread = thread
        self.modules: list[ModuleRecord] = []
        self.module_ids: dict[int, int] = {}
        self.strays: list[nn.Module] = []  # modules not registered, kept so that ids stay unique
        self.stray_weights: dict[int, ParamRecord] = {}  # read and not registered, by storage
        self.registered: set[int] = set()  # storages of parameters, buffers and inputs
        self.hidden: set[int] = set()  # modules that only make a weight of the one around them
        self.hooked: dict[int, Any] = {}  # handles of the last hook of modules with hooks
        self.calls: list[tuple[int, int, int, tuple[int, ...]]] = []
        self.call_outputs: dict[int, tuple[int, ...]] = {}
        self.stack: list[tuple[int, nn.Module, int]] = []  # calls; storages that were before
        # whether the model may take torch's fast path when it is not traced
        enabled: bool = torch.backends.mha.get_fastpath_enabled()
        self.fast: bool = _recording[-1].fast if _recording else enabled
        self.within: list[CallRecord] = []  # calls of what is hidden
        self.open_within: list[int] = []  # those that have not ended
        self.elsewhere: dict[str, None] = {}  # paths of what ran in another thread
        self.passing: BaseException | None = None  # an exception on its way out
        self.failed: tuple[int, nn.Module] | None = None  # where it began
        self.refused: tuple[Exception | None, str] = (None, "")  # by an operation, and which
        self.params: list[ParamRecord] = []
        self.inputs: tuple[int, ...] = ()
        self.tensors: list[TensorRecord] = []
        self.ops: list[OpRecord] = []
        self.storages: dict[int, _Storage] = {}
        self.lives: list[list[int]] = []  # per storage: nbytes, born, died (-1 while alive)
        self.living: dict[int, int] = {}  # address -> storage index
        self.buried = -1  # the last operation before which the dead were counted
        self.searched = 0  # the last operation before which every living one was asked
        self.refs: dict[int, weakref.ref[Tensor]] = {}  # to results, by a number of their own
        self.suspects: set[int] = set()  # addresses of storages that a result has let go of
        self.kept: dict[int, tuple[Any, Any]] = {}  # storages from before the run, and copies

    # -- before the run

    def adopt_state(self, *, on_meta: bool) -> dict[int, Tensor]:
        """Register modules, parameters and buffers.

        Returns:
            What the forward is to run with instead, by id of the original: meta tensors for a run
            on meta, and copies of buffers, which a forward may write to.
        """
        found: dict[Any, list[tuple[str, Tensor]]] = {}
        weighty: list[str] = []  # where what lies below makes the weights of a layer of torch.nn
        for path, module in modules_of(self.model):
            record = self.modules[self._register(path, module)]
            if record.library and "parametrizations" in module._modules:
                weighty.append(f"{path}.parametrizations.".lstrip("."))
            if path.startswith(tuple(weighty)):
                self.hidden.add(id(module))
            for name, tensor in own_state(module):
                full = visible(f"{path}.{name}" if path else name)
                found.setdefault(_identity(tensor), []).append((full, tensor))
        replacements: dict[int, Tensor] = {}
        for group in found.values():
            weights = [one for one in group if isinstance(one[1], nn.Parameter)]
            run_with = _stand_in((weights or group)[0][1], on_meta=on_meta, buffer=not weights)
            for _, original in group:
                if original is not run_with:
                    replacements[id(original)] = run_with
            buffers = [one for one in group if not isinstance(one[1], nn.Parameter)]
            for held in filter(None, (weights, buffers)):
                self._adopt(held, self.read(run_with), buffer=held is buffers)
        self.registered.update(self.tensors[p.tensor].storage for p in self.params)
        return replacements

    def _adopt(self, names: list[tuple[str, Tensor]], tensor: int, *, buffer: bool) -> None:
        """Write down one parameter, or one buffer, with all its names."""
        record = ParamRecord(
            names[0][0],
            tensor,
            aliases=tuple(name for name, _ in names[1:]),
            trainable=any(t.requires_grad for _, t in names),
            buffer=buffer,
        )
        self.params.append(record)

    def adopt_inputs(self, arguments: Any) -> None:
        """Register the tensors that forward is called with."""
        self.inputs = tuple(self.read(tensor) for tensor in tensors_in(arguments))
        self.registered.update(self.tensors[t].storage for t in self.inputs)

    def _register(self, path: str, module: nn.Module) -> int:
        self.module_ids[id(module)] = len(self.modules)
        self.modules.append(module_record(path, module))
        return len(self.modules) - 1

    @functools.cached_property
    def names(self) -> Names:
        """Paths of what the model holds without registering it."""
        return Names(modules_of(self.model))

    def _register_stray(self, parent: int, module: nn.Module) -> int:
        """A module that is not registered, or was made by the forward, with its weights."""
        outer = self.modules[self.calls[parent][0]].path if parent >= 0 else ""
        path = self.names.of(module) or f"{outer}.{type(module).__name__}".lstrip(".")
        taken = {record.path for record in self.modules}
        names = itertools.chain((path,), (f"{path}_{n}" for n in itertools.count(1)))
        path = next(name for name in names if name not in taken)
        index = self._register(path, module)
        self.modules[index] = structs.replace(self.modules[index], registered=False)
        self.strays.append(module)
        for name, tensor in own_state(module):
            if isinstance(tensor, nn.Parameter):
                self._note_stray(f"{path}.{name}", tensor, self.read(tensor))
        return index

    def _note_stray(self, path: str, tensor: Tensor, tid: int) -> None:
        storage = self.tensors[tid].storage
        if storage not in self.registered:
            record = ParamRecord(visible(path), tid, trainable=tensor.requires_grad)
            self.stray_weights.setdefault(storage, record)

    # -- values

    def read(self, tensor: Tensor) -> int:
        """The id of the value that `tensor` holds now."""
        return self._current(*self._place(tensor))

    def _place(self, tensor: Tensor, born: int = -1) -> tuple[_Storage, Window]:
        window = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        raw = tensor.untyped_storage()
        storage = self.storages.get(raw._cdata)
        if storage is None:
            storage = self._new_storage(raw, window, born)
            whole = tensor.is_contiguous() and tensor.nbytes == raw.nbytes()
            if not whole and not self._covers(storage, window):  # it is a part of a base
                size = raw.nbytes() // window[3].itemsize
                storage.root = (0, torch.Size((size,)), (1,), window[3])
            self._new_value(storage, window)
        return storage, window

    def _new_storage(self, raw: torch.UntypedStorage, window: Window, born: int) -> _Storage:
        address = cast("int", raw._weak_ref())
        index = len(self.lives)
        storage = self.storages[address] = _Storage(index, window)
        self.lives.append([raw.nbytes(), born, -1])
        if born >= 0:
            self._bury(born)
            self.living[address] = index
        return storage

    def _new_value(self, storage: _Storage, window: Window) -> int:
        tid = len(self.tensors)
        self.tensors.append(TensorRecord(tuple(window[1]), _dtype(window[3]), storage.index))
        storage.windows[window] = (tid, storage.version)
        return tid

    def _current(self, storage: _Storage, window: Window) -> int:
        """The id of a window's value, made again from its base if the storage was written."""
        entry = storage.windows.get(window)
        if entry is not None and entry[1] == storage.version:
            return entry[0]
        view = storage.views.get(window)
        if view is None and storage.version == 0 and self.lives[storage.index][1] < 0:
            return self._new_value(storage, window)  # a part of something from before the run
        if view is not None and window != storage.root:
            base, name, argument, attributes = view
        else:
            base, name, argument = storage.root, "cnnscope.window", "base"
            attributes = _geometry(window, storage.root)
        source = self._current(storage, base)
        tid = self._new_value(storage, window)
        self._note_op(name, {argument: source}, (tid,), attributes)
        return tid

    def _covers(self, storage: _Storage, window: Window) -> bool:
        """Return True if a window is all of its storage, each element once."""
        offset, shape, stride, dtype = window
        extent = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        size = math.prod(shape)
        nbytes = self.lives[storage.index][0]
        return bool(offset == 0 and extent == size and size * dtype.itemsize == nbytes)

    def _overwrite(self, storage: _Storage, window: Window) -> _Write:
        """A new value for a window that was written to."""
        covers = window == storage.root or self._covers(storage, window)
        base = None if covers else self._current(storage, storage.root)
        storage.version += 1
        if covers:
            storage.root = window
        return _Write(storage, window, self._new_value(storage, window), base)

    def _note_base(self, write: _Write) -> None:
        """Write down what a write through a view did to its base."""
        if write.base is not None:
            tid = self._new_value(write.storage, write.storage.root)
            inputs = {"base": write.base, "value": write.value}
            geometry = _geometry(write.window, write.storage.root)
            self._note_op("cnnscope.write_window", inputs, (tid,), geometry)

    def _keep(self, written: Iterable[Tensor]) -> None:
        """Copy what is about to be written to, if it is older than the run and has data."""
        for tensor in written:
            raw = tensor.untyped_storage()
            index = self._place(tensor)[0].index
            if self.lives[index][1] < 0 and not tensor.is_meta and index not in self.kept:
                self.kept[index] = raw, raw.clone()

    # -- operations

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if _recording[-1] is not self:  # of a model that the forward has traced itself
            return func(*args, **(kwargs or {}))
        try:
            return self._run(func, args, kwargs or {})
        except Exception as error:
            self.refused = error, str(func)
            raise

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, written down."""
        schema = _schema(func)
        inputs: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        viewable: dict[_Storage, tuple[str, Window]] = {}  # what a result may be a view of
        born = len(self.ops) if schema.lifts else -1
        for name, value in (*zip(schema.names, args, strict=False), *kwargs.items()):
            if isinstance(value, Tensor):
                storage, window = self._place(value, born)
                inputs[name] = self._current(storage, window)
                viewable[storage] = (name, window)
                self._read_stray(value, inputs[name])
            elif isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
                inputs[name] = tuple(self.read(v) if isinstance(v, Tensor) else None for v in value)
            else:
                attributes[name] = value if type(value) is int else _plain(value)
        written = [
            tensor
            for name in schema.written
            for tensor in tensors_in(_argument(schema, args, kwargs, name))
        ]
        self._keep(written)
        self._note_complex(schema, inputs, attributes)
        if schema.lifts and (values := _values(args[0])):
            attributes["values"] = values
        result = _answer(func, schema, args, kwargs, written)
        outputs: list[int] = []
        writes = [self._overwrite(*self._place(tensor)) for tensor in written]
        outputs += [write.value for write in writes]
        results = (result,) if isinstance(result, Tensor) else tuple(tensors_in(result))
        for position, tensor in enumerate(results):
            if not written or not any(tensor is other for other in written):
                part = position if len(results) > 1 else None
                outputs.append(self._note_result(tensor, schema.name, attributes, viewable, part))
        self._note_op(schema.name, inputs, tuple(outputs), attributes)
        for write in writes:
            self._note_base(write)
        if schema.normalises and attributes.get("training") is False:
            for tid in outputs[1:]:
                self.lives[self.tensors[tid].storage][0] = 0
        return result

    def _read_stray(self, tensor: Tensor, tid: int) -> None:
        """Remember a weight that is older than the run and no parameter of the model.

        A tensor that takes no gradient is a constant, and none that an optimizer could miss.
        """
        storage = self.tensors[tid].storage
        if self.lives[storage][1] >= 0 or storage in self.registered:
            return
        if isinstance(tensor, nn.Parameter) or tensor.requires_grad:
            self._note_stray(self.names.of(tensor) or "a tensor", tensor, tid)

    def _note_complex(
        self, schema: _Schema, inputs: dict[str, Any], attributes: dict[str, Any]
    ) -> None:
        """Mark the last of the three convolutions that a complex one is computed by.

        Its weight is the sum of the weights of the other two, which are a complex one's parts.
        """
        if schema.name != "aten.convolution.default":
            return
        recent = {op.outputs[0]: op for op in self.ops[-24:] if op.outputs}
        added = recent.get(inputs.get("weight", -1))
        if added is None or added.name != "aten.add.Tensor":
            return
        parts = [
            len(self.ops) - n
            for n, op in enumerate(reversed(self.ops[-24:]), 1)
            if op.name == "aten.convolution.default"
            and op.inputs["weight"] in (added.inputs.get("self"), added.inputs.get("other"))
        ]
        halves = [recent.get(t) for t in added.inputs.values() if isinstance(t, int)]
        wholes = [recent.get(cast("Any", half.inputs.get("self"))) for half in halves if half]
        names = {op.name for op in wholes if op is not None}
        if len(parts) == 2 and names == {"aten.view_as_real.default"}:
            attributes["complex_parts"] = tuple(sorted(parts))

    def _note_result(
        self,
        tensor: Tensor,
        name: str,
        attributes: dict[str, Any],
        viewable: dict[_Storage, tuple[str, Window]],
        position: int | None,
    ) -> int:
        """The id of an operation's result: a new storage, or a view of one that it was given."""
        raw = tensor.untyped_storage()
        window = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        storage = self.storages.get(raw._cdata)
        if storage is None:
            storage = self._new_storage(raw, window, born=len(self.ops))
            self._follow(tensor, raw)
        elif storage in viewable:
            self._follow(tensor, raw)
            argument, base = viewable[storage]
            if window not in storage.views and window not in (base, storage.root):
                part = attributes if position is None else {**attributes, "output": position}
                storage.views[window] = (base, name, argument, part)
        return self._new_value(storage, window)

    def _note_op(
        self,
        name: str,
        inputs: dict[str, Any],
        outputs: tuple[int, ...],
        attributes: dict[str, Any],
    ) -> None:
        call = self.stack[-1][0] if self.stack else -1
        self.ops.append(OpRecord(name, inputs, outputs, attributes, call))

    # -- memory of the kernels that a CPU runs in place of meta's

    @contextmanager
    def watching_kernels(self) -> Iterator[None]:
        """Follow functions that are made of others, unless a recorder around this one does."""
        if len(_recording) > 1:
            yield
            return
        with kernels.watching(_current):
            yield

    def storage(self, tensor: int) -> int:
        """The storage of a tensor, by its id."""
        return self.tensors[tensor].storage

    def life(self, tensor: int) -> list[int]:
        """Bytes, birth and death of the storage of a tensor, by its id."""
        return self.lives[self.storage(tensor)]

    def replace(self, tensor: Tensor, other: Tensor) -> Tensor:
        """Let a new tensor stand for the value that the last operation has made."""
        tid = self.read(tensor)
        raw = other.untyped_storage()
        window = (other.storage_offset(), other.shape, other.stride(), other.dtype)
        storage = self._new_storage(raw, window, born=len(self.ops) - 1)
        storage.windows[window] = (tid, 0)
        self.tensors[tid] = structs.replace(self.tensors[tid], storage=storage.index)
        self._follow(other, raw)
        return other

    def put_in_place(self, index: int) -> None:
        """Let an operation write its result over its first input: they are one storage.

        Either must have been the only one to lie in its own.
        """
        operation = self.ops[index]
        before = self.tensors[cast("int", operation.inputs["self"])].storage
        tid = operation.outputs[0]
        after = self.tensors[tid].storage
        if self.lives[before][0] != self.lives[after][0]:
            return  # it is broadcast, and has no place there
        for address in [a for a, i in self.living.items() if i == before]:
            del self.living[address]
        self.lives[before][2] = self.lives[after][2]
        self.lives[after][0] = 0
        for address, storage in self.storages.items():
            if storage.index == after:
                storage.index = before
                if address in self.living:
                    self.living[address] = before
        self.tensors[tid] = structs.replace(self.tensors[tid], storage=before)

    def _follow(self, tensor: Tensor, raw: torch.UntypedStorage) -> None:
        """Suspect a storage of being dead when a tensor in it dies."""
        number, address, refs, suspects = len(self.tensors), raw._cdata, self.refs, self.suspects

        def gone(_: Any) -> None:
            refs.pop(number, None)
            suspects.add(address)

        refs[number] = weakref.ref(tensor, gone)

    def _bury(self, now: int) -> None:
        """Note the storages that were freed before operation `now`.

        Where many live, only those are asked of which a tensor has died, and all of them so
        seldom that it does not matter: time is linear in the operations.
        """
        if now == self.buried:
            return
        self.buried = now
        asked: Iterable[int] = [a for a in self.suspects if a in self.living]
        if len(self.living) <= _FEW or now - self.searched >= len(self.living):
            asked, self.searched = self.living, now
        for address in [a for a in asked if _expired(a)]:
            self.lives[self.living.pop(address)][2] = now
        self.suspects.clear()  # a tensor that keeps one alive will make it suspect again

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Be the one that records, and clean up."""
        _recording.append(self)
        try:
            yield
        finally:
            _recording.pop()
            self._release()

    def _release(self) -> None:
        """Put back what was written to, and let go of the addresses of all storages."""
        for raw, copied in self.kept.values():
            if raw.nbytes() != copied.nbytes():  # memory of numpy cannot even be given its own size
                raw.resize_(copied.nbytes())
            raw.copy_(copied)
        self.kept.clear()
        self.refs.clear()
        for address in self.storages:
            _free(address)
        self.storages.clear()

    # -- module calls

    @contextmanager
    def watching_calls(self) -> Iterator[None]:
        """Follow module calls by torch's global hooks: the model itself is not touched."""
        handles = (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, with_kwargs=True, always_call=True),
        )
        try:
            yield
        finally:
            for handle in (*handles, *self.hooked.values()):
                handle.remove()
                _global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch forgets to

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self.thread:
            self._note_elsewhere(module)
            return
        if _recording[-1] is not self:
            return
        if id(module) in self.hidden:
            self._enter_hidden(module)
            return
        parent = self.stack[-1][0] if self.stack else -1
        index = self.module_ids.get(id(module))
        if index is None:
            index = self._register_stray(parent, module)
        if module._forward_hooks and id(module) not in self.hooked:
            self.hooked[id(module)] = module.register_forward_hook(
                self._leave_hooked, with_kwargs=True, always_call=True
            )
        inputs = tuple(map(self.read, tensors_in(args)))
        self.calls.append((index, parent, len(self.ops), inputs))
        self.stack.append((len(self.calls) - 1, module, len(self.lives)))

    def _enter_hidden(self, module: nn.Module) -> None:
        """A call that only makes a weight of the layer around it, whose operations its are."""
        parent = self.stack[-1][0] if self.stack else -1
        self.open_within.append(len(self.within))
        self.within.append(CallRecord(self.module_ids[id(module)], parent, len(self.calls)))

    def _leave_hidden(self, output: Any) -> None:
        index = self.open_within.pop()
        outputs = tuple(map(self.read, tensors_in(output)))
        self.within[index] = structs.replace(self.within[index], outputs=outputs)

    def _note_elsewhere(self, module: nn.Module) -> None:
        """Remember a part of this model that runs in a thread that nobody watches."""
        index = self.module_ids.get(id(module))
        if index is not None and _get_current_dispatch_mode() is None:
            self.elsewhere[self.modules[index].path or "the model"] = None

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> Any:
        """After a call: what hooks of the module's own make of the output is awaited.

        Returns:
            What the call is to return instead, None if what it did.
        """
        replaced = self._in_one_kernel(module, args, *rest) if len(rest) > 1 else None
        if replaced is not None:
            rest = rest[0], replaced
        if len(rest) == 1 or id(module) not in self.hooked:
            self._leave_hooked(module, args, *rest)
        return replaced

    def _in_one_kernel(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """The output of a module that torch runs as one operation, None where it does not."""
        if threading.get_ident() != self.thread or _recording[-1] is not self:
            return None
        if not self.fast or not self.stack or self.stack[-1][1] is not module:
            return None
        call, _, first = self.stack[-1]
        path, begin = kernels.fast_path(module, args, kwargs), self.calls[call][2]
        if path is None or len(self.ops) == begin:
            return None
        if not path.one_kernel:
            kernels.hold_masks(self, begin, path.mask_bytes)
            return None
        return kernels.in_one_kernel(self, first, path.mask_bytes, output)

    def _leave_hooked(self, module: nn.Module, args: Any, *rest: Any) -> None:  # noqa: ARG002
        """After a call: `rest` is (kwargs, output), or one None where an exception passes."""
        if threading.get_ident() != self.thread or _recording[-1] is not self:
            return
        if id(module) in self.hidden and self.open_within:
            self._leave_hidden(rest[-1])
            return
        if not self.stack or self.stack[-1][1] is not module:
            return  # it never began: the stack overflowed in `_enter`
        call, *_ = self.stack.pop()
        if len(rest) == 1:
            error = sys.exc_info()[1]
            if error is not self.passing:  # the innermost call that it passes
                self.passing, self.failed = error, (call, module)
            return
        kwargs, output = rest
        if kwargs:
            index, parent, start, inputs = self.calls[call]
            inputs += tuple(map(self.read, tensors_in(kwargs)))
            self.calls[call] = (index, parent, start, inputs)
        self.call_outputs[call] = tuple(map(self.read, tensors_in(output)))

    def forward_error(self, error: Exception) -> ForwardError:
        """The error of a forward that raised, placed in the module that was running."""
        cause = error
        if "SparseTensorImpl" in str(error):
            cause = ModelError("it makes a sparse tensor, which is not followed")
        if "NestedTensorImpl" in str(error):
            cause = ModelError("it makes a nested tensor, which is not followed")
        refused, name = self.refused
        operation = name if refused is error else ""
        if self.failed is None or error is not self.passing:
            return ForwardError("", self.model, self._shapes(self.inputs), cause, operation)
        call, module = self.failed
        index, *_, inputs = self.calls[call]
        path = self.modules[index].path
        return ForwardError(path, module, self._shapes(inputs), cause, operation)

    def _shapes(self, ids: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(self.tensors[i].shape for i in ids)

    # -- after the run

    def finish(self, result: Any, source: Source, device: str, notes: tuple[str, ...]) -> Trace:
        """Freeze what was recorded."""
        outputs = tuple(self.read(tensor) for tensor in tensors_in(result))
        self._bury(len(self.ops))
        end = len(self.ops)
        missing = tuple(
            f"{path} ran in another thread, where it is not followed: it is missing above"
            for path in self.elsewhere
        )
        if inspect.isgenerator(result) or inspect.iscoroutine(result):
            result.close()
            what = type(result).__name__
            missing += (f"forward returned a {what}: nothing ran of what it would have done",)
        read = self._storages_read(outputs)
        return Trace(
            source=source,
            inputs=self.inputs,
            outputs=outputs,
            modules=tuple(self.modules),
            calls=tuple(
                CallRecord(module, parent, start, inputs, self.call_outputs.get(index, ()))
                for index, (module, parent, start, inputs) in enumerate(self.calls)
            ),
            params=tuple(
                _with_use(param, used=self.tensors[param.tensor].storage in read)
                for param in self.params
            ),
            tensors=tuple(self.tensors),
            storages=tuple(
                StorageRecord(nbytes, born, end if died < 0 else died)
                for nbytes, born, died in self.lives
            ),
            ops=tuple(self.ops),
            device=device,
            notes=notes + missing + self._unregistered(),
            strays=tuple(self.stray_weights.values()),
            decided_by=self._decided_by(outputs),
            within=tuple(self.within),
        )

    def _storages_read(self, outputs: tuple[int, ...]) -> set[int]:
        """The storages that an operation has read from, or that the model returns.

        A view reads nothing: an operation on it may have raised, and the model caught that.
        """
        found = {self.tensors[tid].storage for tid in outputs}
        for op in self.ops:
            written = op.name.split(".")[1].endswith("_") if "." in op.name else False
            made = set() if written else {self.tensors[tid].storage for tid in op.outputs}
            found.update({self.tensors[t].storage for t in op.tensors} - made)
        return found

    def _decided_by(self, outputs: tuple[int, ...]) -> tuple[str, ...]:
        bools = {i for i, tensor in enumerate(self.tensors) if tensor.dtype == "bool"}
        given = (*outputs, *(t for made in self.call_outputs.values() for t in made))
        return chance.decided_by(self.ops, self.inputs, given, bools)

    def _unregistered(self) -> tuple[str, ...]:
        """The sentence about what ran and is not registered."""
        held: dict[str, int] = {}
        for weight in self.stray_weights.values():
            module = next((m for m in self.modules if _holds(m, weight.path)), None)
            where = f"{module.path} ({module.kind})" if module else weight.path
            size = math.prod(self.tensors[weight.tensor].shape)
            held[where] = held.get(where, 0) + size
        if not held:
            return ()
        each = ", ".join(f"{where} {size:,}" for where, size in held.items())
        return (
            f"weights that run and are not registered, with their elements: {each}: they are "
            "missing from the model's parameters, from its optimizer and its state_dict",
        )


# -------------------------------------------------------------------------------- helpers


def _current() -> _Recorder | None:
    """Return the recorder of this thread, unless it is busy with an operation."""
    if not _recording or _get_current_dispatch_mode() is None:
        return None
    return _recording[-1] if threading.get_ident() == _recording[-1].thread else None


def _holds(module: ModuleRecord, weight: str) -> bool:
    return not module.registered and weight.rpartition(".")[0] == module.path


def as_written(model: nn.Module) -> nn.Module:
    """The module that was compiled: a wrapper says nothing about a network."""
    return getattr(model, "_orig_mod", model) if _is_compiled(model) else model


def _is_compiled(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torch._dynamo")


def module_record(path: str, module: nn.Module) -> ModuleRecord:
    """A module's class and documented hyper-parameters, without its weights."""
    kind: Any = type(module)
    hyper = _hyper(module)
    made = dict(module._modules.items()).get("parametrizations")  # TorchScript's has no get
    if isinstance(made, nn.ModuleDict) and kind.__name__ == f"Parametrized{kind.__base__.__name__}":
        kind = kind.__base__  # the class is made for the one module
        by = {name: [type(m).__name__ for m in each.children()] for name, each in made.items()}
        named = (f"{name} by {', '.join(kinds)}" for name, kinds in by.items())
        hyper["parametrized"] = visible("; ".join(named))
    return ModuleRecord(visible(path), visible(kind.__name__), _base(kind), hyper)


def state_of(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer; a tied one once for each of its names."""
    for _, module in modules_of(model):
        for _, tensor in own_state(module):
            yield tensor


def tensors_in(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, dicts, dataclasses and small plain objects."""
    if isinstance(value, Tensor):
        yield value
    elif depth <= 16:
        items, deeper = _items(value)
        for item in items:
            yield from tensors_in(item, depth + deeper)


def _items(value: Any) -> tuple[Iterable[Any], int]:
    """Items of a container, and the number of levels of the search that it takes."""
    if isinstance(value, (list, tuple)):
        return value, 1
    if isinstance(value, (*_PLAIN, bytes, type, nn.Module)):
        return (), 1
    if isinstance(value, Mapping):
        return value.values(), 1
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)], 1
    return getattr(value, "__dict__", {}).values(), 8


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, fused fast paths off; everything as it was afterwards."""
    modes = [(module, module.training) for _, module in modules_of(model)]
    with isolation.same_random(), ExitStack() as undo:
        isolation.keep_process(undo)
        for module, training in modes:
            undo.callback(setattr, module, "training", training)
            module.training = False
        _unvalidated(undo)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            yield


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


def _stand_in(tensor: Tensor, *, on_meta: bool, buffer: bool) -> Tensor:
    """Make the tensor that the forward runs with in place of a parameter or buffer.

    It is another tensor even where it lies in the same memory: a forward may give it a gradient,
    another dtype, another shape.
    """
    if on_meta and not tensor.is_meta:
        return _like(tensor, tensor.detach().to("meta"))
    if buffer and not tensor.is_meta:
        return tensor.detach().clone()
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_inference():
        return tensor
    return _like(tensor, tensor.data)


def _like(original: Tensor, tensor: Tensor) -> Tensor:
    if isinstance(original, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=original.requires_grad)
    return tensor


def _identity(tensor: Tensor) -> Any:
    """Key that the names of one tied weight share."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()


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
    try:
        result = func(*refusals.without_bytes(schema.name, schema.names, args), **kwargs)
    except RuntimeError:  # or NotImplementedError, its child
        result = _on_one_device(func, schema, args, kwargs)
    refusals.check_dtypes(func, args, kwargs, result)
    if written:
        refusals.check_overlap(func, written, args, kwargs)
    if schema.layout is not None and _on_meta(result):
        given = [_argument(schema, args, kwargs, name) for name in schema.names]
        return schema.layout(given, result)
    return result


def _on_one_device(
    func: Any, schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """An operation that has just failed, once more with everything on the meta device.

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


def _with_use(param: ParamRecord, *, used: bool) -> ParamRecord:
    return ParamRecord(
        param.path, param.tensor, param.aliases, param.trainable, param.buffer, used=used
    )


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
        return _Schema(str(func), names, (), lifts=False, normalises=False)
    written = tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)
    name = str(func)
    names = tuple(a.name for a in arguments)
    lifts, normalises = "lift_fresh" in name, "native_batch_norm" in name
    base, _, overload = name.rpartition(".")
    layout = None if "out" in overload else kernels.RESULTS.get(base)
    return _Schema(name, names, written, lifts, normalises, layout)


def _argument(schema: _Schema, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    if name in kwargs:
        return kwargs[name]
    position = schema.names.index(name)
    return args[position] if position < len(args) else None


def _plain(value: Any) -> Attribute:
    """An argument as plain data: what JSON has no number for is its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(item if type(item) in (int, bool) else visible(str(item)) for item in value)
    if isinstance(value, torch.ScriptObject):
        return _packed(value)
    return visible(str(value).removeprefix("torch."))


def _packed(value: Any) -> Attribute:
    """The shape of the weight that a quantised layer holds packed; a name for any other object."""
    try:
        with torch._C._DisableTorchDispatch():
            return tuple(value.unpack()[0].shape)
    except (AttributeError, RuntimeError, TypeError):
        return "an object of TorchScript"


@functools.cache
def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _geometry(window: Window, base: Window) -> dict[str, Any]:
    """Place of a window in its storage; `permuted` if its base does not lie there in order."""
    offset, shape, stride, _ = window
    geometry = {"offset": int(offset), "shape": tuple(shape), "stride": tuple(stride)}
    size = math.prod(base[1])
    for length, step in zip(base[1], base[2], strict=True):
        size //= max(length, 1)
        if length > 1 and step != size:
            return {**geometry, "permuted": True, "base_stride": tuple(base[2])}
    return geometry


def _plain_tuple(values: list[Any] | tuple[Any, ...]) -> Attribute:
    return tuple(item if item is None else _plain(item) for item in values)  # type: ignore[misc]


@functools.cache
def _constructor_names(kind: Any) -> tuple[str, ...]:
    try:
        parameters = list(inspect.signature(kind.__init__).parameters.values())
    except (TypeError, ValueError):
        return ()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = tuple(p.name for p in parameters if p.name != "self" and p.kind not in variadic)
    inherited: Any = _library_ancestor(kind)
    if inherited is kind:  # recurrent layers hand all that they are given to their base
        passes = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        inherited = kind.__base__ if passes and kind.__base__ is not nn.Module else None
    if inherited is None:
        return own
    return tuple(dict.fromkeys((*own, *_constructor_names(inherited))))


@functools.cache
def _library_ancestor(kind: Any) -> type[nn.Module] | None:
    """The nearest class of torch.nn that a module is made from, None for a plain Module."""
    libraries = (base for base in kind.__mro__ if base.__module__.startswith("torch.nn.modules"))
    nearest = next(libraries, nn.Module)
    return None if nearest is nn.Module else nearest


def _base(kind: Any) -> str:
    ancestor = _library_ancestor(kind)
    return ancestor.__name__ if ancestor else ""


def _hyper(module: nn.Module) -> dict[str, Any]:
    """The constructor's arguments, read back from the attributes of the same name."""
    hyper: dict[str, Attribute] = {}
    attributes, tensors = vars(module), module._parameters
    kind: Any = type(module)
    for name in _constructor_names(kind):
        if name in tensors:
            hyper[name] = tensors[name] is not None
        elif name in attributes:
            value = attributes[name]
            flat = value if isinstance(value, (list, tuple)) else (value,)
            if all(isinstance(item, _PLAIN) for item in flat):
                hyper[name] = _plain_tuple(value) if flat is value else _plain(value)
    return hyper
