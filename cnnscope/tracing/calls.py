"""The modules of a model and their calls, followed by torch's hooks without touching the model."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_forward_hooks_with_kwargs,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _get_current_dispatch_mode

from cnnscope.records.trace import CallRecord, ModuleRecord, ParamRecord
from cnnscope.text import visible
from cnnscope.tracing import fast_paths
from cnnscope.tracing.lines import Lines
from cnnscope.tracing.modules import inner_tensors, modules_of, own_state, packed_state
from cnnscope.tracing.plain import module_record, tensors_in
from cnnscope.tracing.storages import Storages
from cnnscope.tracing.strays import Names

# More than one where a forward traces another model; None while nothing is to be written down
recording: list[Calls | None] = []

_ENOUGH = "_StopRecomputationError"  # by which a checkpoint ends a forward that it repeats
_SHOWN = 8  # names in a sentence
# The number of autograd's next node in this thread
_next_node: Callable[[], int] = cast("Any", torch.autograd)._get_sequence_nr


class Modules:
    """The modules, weights and inputs of a run, and what runs without being registered.

    Attributes:
        records: modules, in the order that they were met.
        ids: their numbers, by id of the module.
        hidden: ids of modules that only make a weight of the one around them.
        params: parameters and buffers.
        inputs: the values that forward is called with.
        strays: weights that are read and not registered, by storage.
        packed: values of weights that quantised layers of torch hold packed, and read unseen.
    """

    def __init__(self, model: nn.Module, book: Storages) -> None:
        self.records: list[ModuleRecord] = []
        self.ids: dict[int, int] = {}
        self.hidden: set[int] = set()
        self.params: list[ParamRecord] = []
        self.inputs: tuple[int, ...] = ()
        self.strays: dict[int, ParamRecord] = {}
        self.packed: dict[int, Tensor] = {}
        self._model = model
        self._names: set[str] = set()  # of parameters and buffers
        self._made: list[nn.Module] = []  # modules not registered, kept so that ids stay unique
        self._registered: set[int] = set()  # storages of parameters, buffers and inputs
        self._read, self._tensors, self._lives = book.read, book.tensors, book.lives
        self._number = book.number

    def adopt_state(self, *, on_meta: bool) -> dict[int, Tensor]:
        """Register modules, parameters and buffers.

        Returns:
            What the forward is to run with instead, by id of the original: meta tensors for a run
            on meta, and copies of buffers, which a forward may write to.
        """
        found: dict[Any, list[tuple[str, Tensor]]] = {}
        scripted: set[int] = set()  # ids of parameters of TorchScript, which are plain tensors
        weighty: list[str] = []  # where what lies below makes the weights of a layer of torch.nn
        for path, module in modules_of(self._model):
            record = self.records[self._register(path, module)]
            if record.library and "parametrizations" in module._modules:
                weighty.append(f"{path}.parametrizations.".lstrip("."))
            if path.startswith(tuple(weighty)):
                self.hidden.add(id(module))
            for name, tensor in own_state(module):
                full = visible(f"{path}.{name}" if path else name)
                self._names.add(full)
                if isinstance(module, torch.jit.ScriptModule) and name in module._parameters:
                    scripted.add(id(tensor))
                found.setdefault(_identity(tensor), []).append((full, tensor))
            self._adopt_packed(path, module)
        replacements: dict[int, Tensor] = {}
        # By the memory of the originals
        stand_ins: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        shared = Counter(storage for storage, *_ in found)
        for (storage, *_), group in found.items():
            weights = [one for one in group if isinstance(one[1], nn.Parameter)]
            given, alone = (weights or group)[0][1], shared[storage] == 1
            run_with = _stand_in(given, on_meta=on_meta, buffer=not weights, alone=alone)
            weights = weights or [one for one in group if id(one[1]) in scripted]
            for _, original in group:
                if original is not run_with:
                    replacements[id(original)] = run_with
            kept = {name for name, _ in weights}
            buffers = [one for one in group if one[0] not in kept]
            for held in filter(None, (weights, buffers)):
                self._adopt_parts(held, run_with, buffer=held is buffers)
            stand_ins[given.untyped_storage().nbytes(), storage].append(run_with)
        self._share(stand_ins)
        self._registered.update(self._tensors[p.tensor].storage for p in self.params)
        return replacements

    def _share(self, stand_ins: Mapping[tuple[int, int], Iterable[Tensor]]) -> None:
        """Give copies of views of one memory its bytes, each its own as far as they go.

        Args:
            stand_ins: the copies, by the bytes and the address of the memory of the originals.
        """
        for (left, _), views in stand_ins.items():
            plain = (one for one in views if type(one) in (Tensor, nn.Parameter))
            numbers = dict.fromkeys(map(self._number, plain))
            if len(numbers) < 2:
                continue
            for number in numbers:
                life = self._lives[number]
                life[0] = min(life[0], left)
                left -= life[0]  # noqa: PLW2901
            self._lives[next(iter(numbers))][0] += left

    @functools.cached_property
    def late(self) -> dict[str, Tensor]:
        """Parameters and buffers that the forward has registered, by path: asked when it ended."""
        return {
            full: tensor
            for path, module in modules_of(self._model)
            for name, tensor in own_state(module)
            if (full := visible(f"{path}.{name}" if path else name)) not in self._names
            and not is_lazy(tensor)
        }

    def storages_of_late(self) -> tuple[int, ...]:
        """The storages of what the forward has registered."""
        return tuple(sorted({self._number(tensor) for tensor in self.late.values()} - {-1}))

    def about_late(self) -> tuple[str, ...]:
        """A sentence about what the forward has registered, if there is anything."""
        late = self.late
        if not late:
            return ()
        some = [f"{path} ({tensor.numel():,})" for path, tensor in late.items()]
        more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
        weights = any(isinstance(tensor, nn.Parameter) for tensor in late.values())
        lost = "; an optimizer made before leaves these parameters out" if weights else ""
        return (
            f"its forward registers {', '.join(some[:_SHOWN])}{more}: not there before it has run "
            f"once, and not counted as parameters or buffers{lost}",
        )

    def _adopt_parts(
        self, names: list[tuple[str, Tensor]], run_with: Tensor, *, buffer: bool
    ) -> None:
        """Write down a parameter or buffer; of one that wraps others the largest, and scales."""
        parts = dict(inner_tensors(run_with))
        weight = max(parts, key=lambda name: parts[name].numel())
        for inside, tensor in parts.items():
            named = [(name + inside, one) for name, one in names]
            self._adopt(named, self._read(tensor), buffer=buffer or inside != weight)

    def _adopt_packed(self, path: str, module: nn.Module) -> None:
        """Write down the weights that a layer of `torch.ao.nn` holds in an object of its own."""
        for name, tensor in packed_state(module):
            number = self._read(tensor)
            self.packed[number] = tensor  # kept, as the layer keeps it
            full = visible(f"{path}.{name}" if path else name)
            self._adopt([(full, tensor)], number, buffer=False)

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
        self.inputs = tuple(self._read(tensor) for tensor in tensors_in(arguments))
        self._registered.update(self._tensors[t].storage for t in self.inputs)

    def _register(self, path: str, module: nn.Module) -> int:
        """Write down one module, and return its number."""
        self.ids[id(module)] = len(self.records)
        self.records.append(module_record(path, module))
        return len(self.records) - 1

    def is_library(self, module: nn.Module) -> bool:
        """Return True for a module whose class is one of torch.nn."""
        index = self.ids.get(id(module))
        return index is not None and self.records[index].library

    @functools.cached_property
    def names(self) -> Names:
        """Paths of what the model holds without registering it."""
        return Names(modules_of(self._model))

    def register_stray(self, parent: int, module: nn.Module) -> int:
        """Register what is not a part of the model, or was made by the forward, with its weights.

        Args:
            parent: the module that calls it, -1 for none.
            module: kept alive, so that its id stays its own.
        """
        outer = self.records[parent].path if parent >= 0 else ""
        path = self.names.of(module) or f"{outer}.{type(module).__name__}".lstrip(".")
        taken = {record.path for record in self.records}
        names = itertools.chain((path,), (f"{path}_{n}" for n in itertools.count(1)))
        path = next(name for name in names if name not in taken)
        index = self._register(path, module)
        self.records[index] = structs.replace(self.records[index], registered=False)
        self._made.append(module)
        for name, tensor in own_state(module):
            if isinstance(tensor, nn.Parameter):
                self._note_stray(f"{path}.{name}", tensor, self._read(tensor))
        return index

    def _note_stray(self, path: str, tensor: Tensor, tid: int) -> None:
        """Write down a weight under the first path that it is met by."""
        storage = self._tensors[tid].storage
        if storage not in self._registered:
            record = ParamRecord(visible(path), tid, trainable=tensor.requires_grad)
            self.strays.setdefault(storage, record)

    def read_stray(self, tensor: Tensor, tid: int) -> None:
        """Remember a weight that is older than the run and no parameter of the model.

        A tensor that takes no gradient is a constant, and none that an optimizer could miss.
        """
        storage = self._tensors[tid].storage
        if self._lives[storage][1] >= 0 or storage in self._registered:
            return
        if isinstance(tensor, nn.Parameter) or tensor.requires_grad:
            self._note_stray(self.names.of(tensor) or "a tensor", tensor, tid)


class Calls:
    """The calls of a model's modules in one thread.

    Attributes:
        thread: the one that is followed.
        book: what the operations of the calls are written in.
        fast: whether the model may take torch's fast path when it is not traced.
        within: calls of what is hidden.
        elsewhere: paths of what ran in another thread.
        empty: path of the last module that returned None; None where none did.
        turns: the number of autograd's next node when a call became the innermost, and that call.
    """

    def __init__(self, modules: Modules, book: Storages, thread: int) -> None:
        self.thread, self.book = thread, book
        enabled: bool = torch.backends.mha.get_fastpath_enabled()
        outer = recording[-1] if recording else None
        self.fast: bool = outer.fast if outer else enabled
        self.within: list[CallRecord] = []
        self.elsewhere: dict[str, None] = {}
        self._modules, self._read = modules, book.read
        self._calls: list[tuple[int, int, int, tuple[int, ...]]] = []
        self._calling, self._lines = Lines().calling, list[str]()  # a line for each call
        self._outputs: dict[int, tuple[int, ...]] = {}
        self._stack: list[tuple[int, nn.Module, int]] = []  # calls; storages that were before
        self._hooked: dict[int, Any] = {}  # handles of the last hook of modules with hooks
        self._open_within: list[int] = []  # hidden ones that have not ended
        self.empty: str | None = None
        self.turns: list[tuple[int, int]] = []
        self._passing: BaseException | None = None  # an exception on its way out
        self._failed: tuple[int, nn.Module] | None = None  # where it began

    @contextmanager
    def innermost(self) -> Iterator[None]:
        """Make these the calls that are followed, until another trace begins within this one."""
        recording.append(self)
        try:
            yield
        finally:
            recording.pop()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow module calls by torch's global hooks: the model itself is not touched."""
        handles = (
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, with_kwargs=True, always_call=True),
        )
        try:
            yield
        finally:
            for handle in (*handles, *self._hooked.values()):
                handle.remove()
                _global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch forgets to

    def _enter(self, module: nn.Module, args: Any) -> None:
        """Before a call."""
        if threading.get_ident() != self.thread:
            self._note_elsewhere(module)
            return
        if recording[-1] is not self:
            return
        if id(module) in self._modules.hidden:
            self._enter_hidden(module)
            return
        parent = self.book.call
        index = self._modules.ids.get(id(module))
        if index is None:
            caller = self._calls[parent][0] if parent >= 0 else -1
            index = self._modules.register_stray(caller, module)
        if module._forward_hooks and id(module) not in self._hooked:
            self._hooked[id(module)] = module.register_forward_hook(
                self._leave_hooked, with_kwargs=True, always_call=True
            )
        inputs = tuple(map(self._read, tensors_in(args)))
        self._calls.append((index, parent, len(self.book.ops), inputs))
        self._lines.append(self._calling(sys._getframe(1)))
        call = len(self._calls) - 1
        self._stack.append((call, module, len(self.book.lives)))
        self._turn_to(call)

    def _turn_to(self, call: int) -> None:
        """Let a call be the innermost."""
        self.book.call = call
        self.turns.append((_next_node(), call))

    def _enter_hidden(self, module: nn.Module) -> None:
        """A call that only makes a weight of the layer around it, whose operations its are."""
        parent = self.book.call
        self._open_within.append(len(self.within))
        self.within.append(CallRecord(self._modules.ids[id(module)], parent, len(self._calls)))

    def _leave_hidden(self, output: Any) -> None:
        """After a call of what only makes a weight."""
        index = self._open_within.pop()
        outputs = tuple(map(self._read, tensors_in(output)))
        self.within[index] = structs.replace(self.within[index], outputs=outputs)

    def _note_elsewhere(self, module: nn.Module) -> None:
        """Remember a part of this model that runs in a thread without hooks."""
        index = self._modules.ids.get(id(module))
        if index is not None and _get_current_dispatch_mode() is None:
            self.elsewhere[self._modules.records[index].path or "the model"] = None

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> Any:
        """After a call: what hooks of the module's own make of the output is awaited.

        Returns:
            What the call is to return instead, None if what it did.
        """
        replaced = self._in_one_kernel(module, args, *rest) if len(rest) > 1 else None
        if replaced is not None:
            rest = rest[0], replaced
        if len(rest) == 1 or id(module) not in self._hooked:
            self._leave_hooked(module, args, *rest)
        return replaced

    def _in_one_kernel(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """The output of a module that torch runs as one operation, None where it does not."""
        if threading.get_ident() != self.thread or recording[-1] is not self:
            return None
        if not self.fast or not self._stack or self._stack[-1][1] is not module:
            return None
        if fast_paths.packs(module, args, kwargs):
            self.book.doubts[fast_paths.PACKED] = "unknown"
        call, _, first = self._stack[-1]
        path, begin = fast_paths.fast_path(module, args, kwargs), self._calls[call][2]
        if path is None or len(self.book.ops) == begin:
            return None
        if not path.one_kernel:
            fast_paths.hold_masks(self.book, begin, path.mask_bytes)
            return None
        return fast_paths.in_one_kernel(self.book, first, path.mask_bytes, output)

    def _leave_hooked(self, module: nn.Module, args: Any, *rest: Any) -> None:  # noqa: ARG002
        """After a call: `rest` is (kwargs, output), or one None where an exception passes."""
        if threading.get_ident() != self.thread or recording[-1] is not self:
            return
        if id(module) in self._modules.hidden and self._open_within:
            self._leave_hidden(rest[-1])
            return
        if not self._stack or self._stack[-1][1] is not module:
            return  # it never began: the stack overflowed in `_enter`
        call, *_ = self._stack.pop()
        self._turn_to(self._calls[call][1])
        if len(rest) == 1:
            error = sys.exc_info()[1]
            if type(error).__name__ == _ENOUGH:  # to hold it would keep all that it has passed
                return
            if error is not self._passing:  # the innermost call that it passes
                self._passing, self._failed = error, (call, module)
            return
        kwargs, output = rest
        if output is None:
            self.empty = self._modules.records[self._calls[call][0]].path
        if kwargs:
            self.give(call, self._calls[call][3] + tuple(map(self._read, tensors_in(kwargs))))
        self._outputs[call] = tuple(map(self._read, tensors_in(output)))

    def failed_in(self, error: BaseException) -> tuple[int, str, nn.Module, tuple[int, ...]] | None:
        """Id, path, module and inputs of the call that raised, None where it was outside of all."""
        if self._failed is None or error is not self._passing:
            return None
        call, module = self._failed
        index, *_, inputs = self._calls[call]
        return call, self._modules.records[index].path, module, inputs

    def give(self, call: int, inputs: tuple[int, ...]) -> None:
        """Write down other inputs of a call."""
        index, parent, start, _ = self._calls[call]
        self._calls[call] = (index, parent, start, inputs)

    def first_of(self, module: nn.Module) -> tuple[int, str, tuple[int, ...]] | None:
        """Id, path and inputs of the first call of a module, None where it was not called."""
        index = self._modules.ids.get(id(module), -1)
        for call, (called, _, _, inputs) in enumerate(self._calls):
            if called == index:
                return call, self._modules.records[index].path, inputs
        return None

    def records(self) -> tuple[CallRecord, ...]:
        """All calls, in the order that they began."""
        return tuple(
            CallRecord(module, parent, start, inputs, self._outputs.get(index, ()), line)
            for index, ((module, parent, start, inputs), line) in enumerate(
                zip(self._calls, self._lines, strict=True)
            )
        )


# -------------------------------------------------------------------------------- helpers


def current() -> Storages | None:
    """Return the book of what is recorded in this thread, unless it is busy with an operation."""
    if not recording or _get_current_dispatch_mode() is None:
        return None
    calls = recording[-1]
    return calls.book if calls and threading.get_ident() == calls.thread else None


def _stand_in(tensor: Tensor, *, on_meta: bool, buffer: bool, alone: bool) -> Tensor:
    """Make the tensor that the forward runs with in place of a parameter or buffer.

    It is another tensor even where it lies in the same memory: a forward may give it a gradient,
    another dtype, another shape.

    Args:
        tensor: the parameter or buffer.
        on_meta: whether the forward runs on meta.
        buffer: whether it may write to the tensor.
        alone: whether no other one lies in the memory.
    """
    if on_meta and alone and _is_part(tensor):
        return _like(tensor, _part_on_meta(tensor))
    if on_meta and not tensor.is_meta:
        return _like(tensor, tensor.detach().to("meta"))
    if buffer and not tensor.is_meta:
        return tensor.detach().clone()
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_inference():
        return tensor
    return _like(tensor, tensor.data)


def _is_part(tensor: Tensor) -> bool:
    """Return True for a view of other memory: `torch.hann_window(n)` lies in n + 1 elements."""
    plain = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta
    changed = tensor.is_quantized or tensor.is_conj() or tensor.is_neg()
    return plain and not changed and tensor.untyped_storage().nbytes() not in (0, tensor.nbytes)


def _part_on_meta(tensor: Tensor) -> Tensor:
    """Make a view of as much memory on meta, where `to` makes a tensor of its own size."""
    size = tensor.untyped_storage().nbytes() // tensor.itemsize
    whole = tensor.detach().as_strided((size,), (1,), 0).to("meta")
    return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _like(original: Tensor, tensor: Tensor) -> Tensor:
    """Make a tensor a parameter where the original is one."""
    if isinstance(original, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=original.requires_grad)
    return tensor


def _identity(tensor: Tensor) -> Any:
    """Key that the names of one tied weight share."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()
