"""The book of values: which value each window of each storage holds, and how long storages live.

A view that is read after its storage was written is made again here, and a write through a view
is passed on to its base (see `tracer.py` for what a window is).
"""

from __future__ import annotations

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import torch
from msgspec import structs
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor

from cnnscope.records.trace import Accuracy, Dropped, OpRecord, TensorRecord

Window = tuple[Any, ...]

# Weak references to storages, by address: while one is held the address is not used again.
_expired: Callable[[int], bool] = cast("Any", torch.UntypedStorage._expired)
_free: Callable[[int], None] = cast("Any", torch.UntypedStorage._free_weak_ref)

_OLDER = (
    "the forward gives memory of its inputs or weights another size: the memory that it needs is "
    "not exact"
)
_FEW = 256  # storages that are asked one by one whether they are alive


class Storage:
    """The memory behind some tensors, and which window of it holds which value."""

    __slots__ = ("index", "nbytes", "root", "version", "views", "windows")

    def __init__(self, index: int, root: Window, nbytes: int) -> None:
        self.index = index
        self.nbytes = nbytes  # that torch gave it, whatever a real kernel keeps of them
        self.root = root  # the window that the others are views of
        self.version = 0  # counts writes
        self.windows: dict[Window, tuple[int, int]] = {}  # window -> tensor id, version
        self.views: dict[Window, tuple[Window, str, str, dict[str, Any]]] = {}


class Write(NamedTuple):
    """A window that an operation wrote: its new value, and the base's value before, if partial."""

    storage: Storage
    window: Window
    value: int
    base: int | None


class Lifetimes:
    """When storages are born and when they die, counted in operations.

    Attributes:
        lives: bytes, birth and death (-1 while alive) of each storage; before the run is -1.
        living: numbers of the storages made by the run that have not died, by address.

    Args:
        graph: whether autograd holds tensors as well, which it lets go unseen: all storages are
            asked each time then.
    """

    def __init__(self, *, graph: bool) -> None:
        self.lives: list[list[int]] = []
        self._few = math.inf if graph else _FEW
        self.living: dict[int, int] = {}
        self._buried = -1  # the last operation before which the dead were counted
        self._searched = 0  # the last operation before which every living one was asked
        self._refs: dict[int, weakref.ref[Tensor]] = {}  # to results, by a number of their own
        self._numbers = itertools.count()
        self._suspects: set[int] = set()  # addresses of storages that a result has let go of

    def follow(self, tensor: Tensor, raw: torch.UntypedStorage) -> None:
        """Suspect a storage of being dead when a tensor in it dies."""
        number, address, refs, suspects = (
            next(self._numbers), raw._cdata, self._refs, self._suspects,
        )  # fmt: skip

        def gone(_: Any) -> None:
            refs.pop(number, None)
            suspects.add(address)

        refs[number] = weakref.ref(tensor, gone)

    def bury(self, now: int) -> None:
        """Note the storages that were freed before operation `now`.

        Where many live, only those are asked of which a tensor has died, and all of them so
        seldom that it does not matter: time is linear in the operations.
        """
        if now == self._buried:
            return
        self._buried = now
        asked: Iterable[int] = [a for a in self._suspects if a in self.living]
        if len(self.living) <= self._few or now - self._searched >= len(self.living):
            asked, self._searched = self.living, now
        for address in [a for a in asked if _expired(a)]:
            self.lives[self.living.pop(address)][2] = now
        self._suspects.clear()  # a tensor that keeps one alive will make it suspect again

    def forget(self) -> None:
        """Follow no tensor any longer."""
        self._refs.clear()


class Storages:
    """Storages, the values in their windows, and the operations that made them.

    Attributes:
        tensors: every value, by its id.
        ops: every operation, in order.
        dropouts: tensors that dropout is called on.
        lives: bytes, birth and death (-1 while alive) of each storage.
        call: the innermost module call that is running, -1 outside of all.
        recurrent: accuracy of what recurrent layers keep for the backward pass; None without any.
        watched: True if memory is to be that where a dispatch mode watches.
        host: storages of the host's own memory, wherever the model runs.
        doubts: sentences about memory that is not exact.

    Args:
        graph: as of `Lifetimes`.
    """

    def __init__(self, *, graph: bool = False) -> None:
        self.tensors: list[TensorRecord] = []
        self.ops: list[OpRecord] = []
        self.dropouts: list[Dropped] = []
        self.call = -1
        self.recurrent: Accuracy | None = None
        self.watched = False
        self.host: list[int] = []
        self.doubts: dict[str, Accuracy] = {}
        self._storages: dict[int, Storage] = {}
        self._kept: dict[int, tuple[Any, Any]] = {}  # storages from before the run, and copies
        self._lifetimes = Lifetimes(graph=graph)
        # what every operation needs, without a way through another object
        self.lives, self._living = self._lifetimes.lives, self._lifetimes.living
        self._follow, self._bury = self._lifetimes.follow, self._lifetimes.bury

    # -- values

    def read(self, tensor: Tensor) -> int:
        """The id of the value that `tensor` holds now; inside of vmap, that of the whole batch."""
        while is_functorch_wrapped_tensor(tensor):
            tensor = get_unwrapped(tensor)
        return self.current(*self.place(tensor))

    def number(self, tensor: Tensor) -> int:
        """The number of the storage that a tensor lies in, -1 for one that was not met."""
        storage = self._storages.get(tensor.untyped_storage()._cdata)
        return -1 if storage is None else storage.index

    def place(self, tensor: Tensor, born: int = -1) -> tuple[Storage, Window]:
        """The storage of a tensor, met for the first time if it is new, and its window there."""
        window = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        raw = tensor.untyped_storage()
        storage = self._storages.get(raw._cdata)
        if storage is None:
            storage = self._new_storage(raw, window, born)
            whole = tensor.is_contiguous() and tensor.nbytes == raw.nbytes()
            if not whole and not self._covers(storage, window):  # it is a part of a base
                size = raw.nbytes() // window[3].itemsize
                storage.root = (0, torch.Size((size,)), (1,), window[3])
            self._new_value(storage, window)
        return storage, window

    def _new_storage(self, raw: torch.UntypedStorage, window: Window, born: int) -> Storage:
        """Begin the life of a storage that the operation `born` made, -1 for one from before."""
        address = cast("int", raw._weak_ref())
        index, nbytes = len(self.lives), raw.nbytes()
        storage = self._storages[address] = Storage(index, window, nbytes)
        self.lives.append([nbytes, born, -1])
        if born >= 0:
            self._bury(born)
            self._living[address] = index
        return storage

    def _new_value(self, storage: Storage, window: Window) -> int:
        """A new id for what a window holds from now on."""
        tid = len(self.tensors)
        self.tensors.append(TensorRecord(tuple(window[1]), _dtype(window[3]), storage.index))
        storage.windows[window] = (tid, storage.version)
        return tid

    def current(self, storage: Storage, window: Window) -> int:
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
        source = self.current(storage, base)
        tid = self._new_value(storage, window)
        self.note_op(name, {argument: source}, (tid,), attributes)
        return tid

    def _covers(self, storage: Storage, window: Window) -> bool:
        """Return True if a window is all of its storage, each element once."""
        offset, shape, stride, dtype = window
        extent = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        size = math.prod(shape)
        nbytes = self.lives[storage.index][0]
        return bool(offset == 0 and extent == size and size * dtype.itemsize == nbytes)

    # -- writes

    def overwrite(self, tensor: Tensor) -> Write:
        """A new value for a tensor that was written to."""
        storage, window = self.place(tensor)
        if (raw := tensor.untyped_storage()).nbytes() > storage.nbytes:
            self._resize(storage, raw)
        covers = window == storage.root or self._covers(storage, window)
        base = None if covers else self.current(storage, storage.root)
        storage.version += 1
        if covers:
            storage.root = window
        return Write(storage, window, self._new_value(storage, window), base)

    def _resize(self, storage: Storage, raw: torch.UntypedStorage) -> None:
        """Give a storage the memory that `resize_`, or a result put into `out`, has allocated."""
        now, storage.nbytes = len(self.ops), raw.nbytes()
        self.lives[storage.index][2] = now
        storage.index = self._living[raw._cdata] = len(self.lives)
        self.lives.append([storage.nbytes, now, -1])

    def note_base(self, write: Write) -> None:
        """Write down what a write through a view did to its base."""
        if write.base is not None:
            tid = self._new_value(write.storage, write.storage.root)
            inputs = {"base": write.base, "value": write.value}
            geometry = _geometry(write.window, write.storage.root)
            self.note_op("cnnscope.write_window", inputs, (tid,), geometry)

    def keep(self, written: Iterable[Tensor]) -> None:
        """Copy what is about to be written to, if it is older than the run and has data."""
        for tensor in written:
            raw = tensor.untyped_storage()
            index = self.place(tensor)[0].index
            if self.lives[index][1] < 0 and not tensor.is_meta and index not in self._kept:
                self._kept[index] = raw, raw.clone()

    # -- operations

    def note_result(
        self,
        tensor: Tensor,
        name: str,
        attributes: dict[str, Any],
        viewable: dict[Storage, tuple[str, Window]],
        position: int | None,
    ) -> int:
        """The id of an operation's result: a new storage, or a view of one that it was given."""
        raw = tensor.untyped_storage()
        window = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        storage = self._storages.get(raw._cdata)
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

    def note_op(
        self,
        name: str,
        inputs: dict[str, Any],
        outputs: tuple[int, ...],
        attributes: dict[str, Any],
    ) -> None:
        """Write down an operation of the call that is running."""
        self.ops.append(OpRecord(name, inputs, outputs, attributes, self.call))

    def note_unmade(self, tensor: Tensor) -> None:
        """Write down a tensor of the host that no operation has made; a mode does not see it."""
        if self.watched:
            return
        storage, _ = self.place(tensor, born=len(self.ops))
        self._follow(tensor, tensor.untyped_storage())
        self.host.append(storage.index)

    def resize(self, raw: torch.UntypedStorage, resize: Callable[[], Any]) -> Any:
        """Run what gives memory another size without an operation; what is older is put back."""
        storage = self._storages.get(raw._cdata)
        if storage is None:
            return resize()
        older = self.lives[storage.index][1] < 0
        if older:
            self.doubts[_OLDER] = "unknown"
            if raw.device.type != "meta" and storage.index not in self._kept:
                with torch._C._DisableTorchDispatch():  # it is no operation of the model
                    self._kept[storage.index] = raw, raw.clone()
        result = resize()
        if raw.nbytes() != storage.nbytes and not older:
            self._resize(storage, raw)
        return result

    # -- what the kernels of a CPU make of it (`kernels.Recording`)

    def note_dropout(self, tensor: Tensor, *, always: bool) -> None:
        """Write down that dropout is called on a tensor, which in inference leaves no operation."""
        self.dropouts.append(Dropped(self.read(tensor), self.call, always=always))

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
        tid, first = operation.outputs[0], self.tensors[cast("int", operation.inputs["self"])]
        before, after = first.storage, self.tensors[tid].storage
        if (first.shape, first.dtype) != (self.tensors[tid].shape, self.tensors[tid].dtype):
            return  # it is broadcast, and has no place there
        for address in [a for a, i in self._living.items() if i == before]:
            del self._living[address]
        self.lives[before][2] = self.lives[after][2]
        self.lives[after][0] = 0
        for address, storage in self._storages.items():
            if storage.index == after:
                storage.index = before
                if address in self._living:
                    self._living[address] = before
        self.tensors[tid] = structs.replace(self.tensors[tid], storage=before)

    # -- after the run

    def end(self) -> int:
        """Note what has died by now, and return the number of operations."""
        self._bury(len(self.ops))
        return len(self.ops)

    def release(self) -> None:
        """Put back what was written to, and let go of the addresses of all storages."""
        for raw, copied in self._kept.values():
            if raw.nbytes() != copied.nbytes():  # memory of numpy cannot even be given its own size
                raw.resize_(copied.nbytes())
            raw.copy_(copied)
        self._kept.clear()
        self._lifetimes.forget()
        for address in self._storages:
            _free(address)
        self._storages.clear()


# -------------------------------------------------------------------------------- helpers


@functools.cache
def _dtype(dtype: torch.dtype) -> str:
    """Return the name of a dtype without torch's."""
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
