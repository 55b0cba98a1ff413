"""Values for the few models that look at their data.

A detector decides by its scores how many boxes go on, and a RegNet's constructor rounds a small
tensor into a list of widths. Neither needs the weights. `KnownValues` follows, on the CPU, the
values that such code asks for, beside tensors that stay on the meta device:

* What follows from constants (grids, anchors, class labels) is computed.
* What a network layer answers is taken as zero, held as one number however large the tensor is.
* A score from the network that is compared with a threshold passes it, ties are ranked in order,
  and no box that the network placed suppresses another. So every stage is traced at its full
  capacity: a detector's boxes lie on its anchors, and as many go on as its own limits let through
  (1,000 proposals and 100 detections in a Faster R-CNN).

Nothing of the size of the weights is ever allocated, and of feature maps only those of at most
`ANSWER_LIMIT` elements.

A detector wants to be traced at full capacity; unknown code is traced as it really runs. With
`constants_only` nothing is assumed about the network: only what follows from constants has a
value, and whoever asks for another gets `UnknownValueError`.

A program in a file names its operations and their arguments itself, and what runs on the CPU has
memory. There only operations that are listed (`computes`) run on values, on few elements, and no
more of them in all than `SPENT_LIMIT`.
"""

from __future__ import annotations

import linecache
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from cnnscope.errors import RequestError
from cnnscope.text import said
from cnnscope.tracing.at_once import made_at_once
from cnnscope.tracing.dispatching import DispatchMode
from cnnscope.tracing.lines import TORCH

# The most elements that a followed value may have. RetinaNet ranks 8.2 million scores.
LIMIT = 2**23
# A network's answer with more elements than this is a feature map and not boxes or scores: what
# constants do to it (a frozen batch norm, say) is not followed.
ANSWER_LIMIT = 2**20
# Bytes of all values that are made for a program in a file, those that have died included.
SPENT_LIMIT = 2**28
_PAIRS_LIMIT = 2**25  # of boxes with boxes, and of indices with what they select from

_FACTORIES = frozenset(
    "arange linspace logspace zeros ones full eye scalar_tensor tril_indices triu_indices "
    "zeros_like ones_like full_like new_zeros new_ones new_full".split()
)
_LAYERS = frozenset(
    "convolution addmm mm bmm baddbmm native_batch_norm native_layer_norm native_group_norm "
    "roi_align max_pool2d_with_indices avg_pool2d upsample_nearest2d upsample_bilinear2d".split()
)
_THRESHOLDS = frozenset(("gt.Scalar", "ge.Scalar"))
_RANKS = frozenset(("topk", "sort", "argsort"))
_VIEWS = frozenset(("view", "_unsafe_view"))


class UnknownValueError(NotImplementedError):
    """A value was asked for that depends on weights, inputs or random numbers."""


class _Value:
    """Known value of a meta tensor, and whether it depends on the network."""

    __slots__ = ("assumed", "data")

    def __init__(self, data: Tensor, *, assumed: bool) -> None:
        self.data, self.assumed = data, assumed


class _Call:
    """An operation that a dispatch mode was handed, and the tensors that it reads."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)
        self.tensors = _tensors((args, kwargs))

    @property
    def on_meta(self) -> bool:
        """True if it reads or makes tensors on the meta device."""
        made = str(self.kwargs.get("device")) == "meta"
        return made or any(tensor.is_meta for tensor in self.tensors)

    @property
    def to_another_device(self) -> bool:
        """True for a copy from the meta device."""
        return self.name == "_to_copy" and str(self.kwargs.get("device", "meta")) != "meta"

    @property
    def view(self) -> bool:
        """True if its result shares memory with what it reads, and is not written."""
        aliases = (argument.alias_info for argument in self.func._schema.arguments)
        return any(alias is not None and not alias.is_write for alias in aliases)

    @property
    def random(self) -> bool:
        """True if its result depends on random numbers."""
        return torch.Tag.nondeterministic_seeded in self.func.tags

    @property
    def passes_thresholds(self) -> bool:
        """True if it compares with a number: whether a score is large enough."""
        return f"{self.name}.{self.func._overloadname}" in _THRESHOLDS

    @property
    def fill(self) -> Any:
        """The number that a factory fills its result with, None if it is not one number."""
        if self.name not in _FACTORIES:
            return None
        if "zeros" in self.name:
            return 0
        if "ones" in self.name:
            return 1
        return self.args[-1] if "full" in self.name else None

    def written(self) -> list[Tensor]:
        """The tensors that it writes to."""
        arguments = self.func._schema.arguments
        given = dict(zip([a.name for a in arguments], self.args, strict=False)) | self.kwargs
        aliases = {a.name: a.alias_info for a in arguments if a.alias_info is not None}
        return _tensors([given.get(name) for name, alias in aliases.items() if alias.is_write])

    def on(self, value: Callable[[Tensor], Tensor]) -> Any:
        """Its result on the CPU, on a value in place of each tensor."""

        def replaced(item: Any) -> Any:
            if isinstance(item, Tensor):
                return value(item)
            meta = isinstance(item, torch.device) and item.type == "meta"
            return torch.device("cpu") if meta else item

        return self.func(*tree_map(replaced, self.args), **tree_map(replaced, self.kwargs))


class _Budget:
    """Bounds on what a program in a file computes on values.

    Args:
        computes: names of the operations that may; None where all may, without bounds.
    """

    def __init__(self, computes: frozenset[str] | None) -> None:
        self.computes = computes
        self.spent = 0  # bytes

    def spend(self, *tensors: Tensor) -> bool:
        """Count the bytes of values, and return True if there are any left."""
        if self.computes is not None:
            self.spent += sum(t.numel() * t.element_size() for t in tensors)
        return self.spent <= SPENT_LIMIT

    def names(self, name: str) -> bool:
        """Return True if an operation of this name may run on values."""
        return self.computes is None or name in self.computes

    def computing(self, name: str, tensors: Sequence[Tensor]) -> bool:
        """Return True if an operation may run, given all tensors that it reads and makes."""
        if self.computes is None:
            return True
        most = max((t.numel() for t in tensors), default=0)
        return self.names(name) and most <= ANSWER_LIMIT and self.spend(*tensors)

    def answering(self, name: str, tensors: Sequence[Tensor]) -> bool:
        """Return True if an operation whose result has a size that only values tell may run."""
        if self.computes is None:
            return True
        sizes = [t.numel() for t in tensors]
        pairs = {
            "index": max(sizes[1:], default=0) * sizes[0],
            "nms": sizes[0] ** 2,
            "nonzero": sizes[0] * max(tensors[0].dim(), 1),
        }
        return pairs.get(name, _PAIRS_LIMIT) < _PAIRS_LIMIT and self.computing(name, tensors)


class _Book:
    """The known values of meta tensors."""

    def __init__(self) -> None:
        # Storages that were written with what is not known, by address. They are held by weak
        # references, without which the address of a dead one may be another's.
        self._doubtful: dict[int, StorageWeakRef] = {}
        self._values = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> _Value:
        """The value of a tensor; a network's answer, about which nothing is known, is zero."""
        if not tensor.is_meta:
            return _Value(tensor, assumed=False)
        value: _Value | None = self._values.get(tensor)
        if value is None:
            zero = torch.zeros((), dtype=tensor.dtype)
            shape = (0,) if is_lazy(tensor) else tensor.shape  # which has none yet
            return _Value(zero.expand(shape), assumed=True)
        doubtful = self._doubtful and tensor.untyped_storage()._cdata in self._doubtful
        return _Value(value.data, assumed=True) if doubtful else value

    def put(self, tensor: Tensor, data: Tensor, *, assumed: bool) -> None:
        """Note the value of a tensor: its elements, or one number expanded to its shape."""
        self._values[tensor] = _Value(data, assumed=assumed)

    def doubt(self, tensor: Tensor) -> None:
        """Let nothing be known any longer of the memory that a tensor lies in."""
        storage = tensor.untyped_storage()
        self._doubtful[storage._cdata] = StorageWeakRef(storage)


class _Constants(TorchFunctionMode):
    """Makes `torch.tensor(data)` in two steps, the second of which a dispatch mode can see.

    `torch.tensor(data, device="meta")` drops the data before any mode is asked.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            device = torch.device(kwargs.get("device") or torch.get_default_device())
            if device.type == "meta":
                return func(*args, **{**kwargs, "device": "cpu"}).to(device)
        return func(*args, **kwargs)


@contextmanager
def same_device() -> Iterator[None]:
    """Let `parameter.data = tensor` take a tensor from the CPU where the parameter is on meta.

    `torch.Tensor([...])` is on the CPU whatever the default device is, and what is made from it is.
    """
    if "data" in vars(torch.Tensor):  # in a constructor that builds another model
        yield
        return
    inherited: Any = torch.Tensor.data

    def set_data(tensor: Tensor, value: Tensor) -> None:
        moved = tensor.is_meta and isinstance(value, Tensor) and not value.is_meta
        inherited.__set__(tensor, value.to("meta") if moved else value)

    torch.Tensor.data = property(inherited.__get__, set_data)  # type: ignore[assignment]
    try:
        yield
    finally:
        del torch.Tensor.data


class KnownValues(DispatchMode):
    """Follow values beside meta tensors, and answer the operations that need them.

    Args:
        constants_only: take nothing for granted about what a network answers.
        computes: names of the operations that may run on values, within bounds; left out, all may.

    Attributes:
        answered: how often each operation was answered that the meta device cannot answer.
    """

    def __init__(
        self, *, constants_only: bool = False, computes: frozenset[str] | None = None
    ) -> None:
        super().__init__()
        self.constants_only = constants_only
        self.answered: Counter[str] = Counter()
        self._budget = _Budget(computes)
        self._book = _Book()
        self._constants = _Constants()

    def __enter__(self) -> Self:
        self._constants.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._constants.__exit__(*exception)

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, or answer it from known values."""
        call = _Call(func, args, kwargs)
        if not call.on_meta:
            return func(*args, **call.kwargs)
        if call.name == "_local_scalar_dense":
            self.answered["item"] += 1
            return self._asked(args[0], call.name).data.item()
        if call.name == "nms" and self._asked(args[0], call.name).assumed:
            return self._keep_all_boxes(args[0])
        if call.to_another_device:
            return self._copied(call)
        try:
            result = made_at_once(func, args, call.kwargs)
            result = func(*args, **call.kwargs) if result is None else result
        except (NotImplementedError, RuntimeError) as error:
            if not needs_data(error):
                raise
            return self._answer(call)
        self._follow(call, _tensors(result))
        if self.constants_only and func._schema.is_mutable:
            self._doubt(call)
        return result

    # -- answers

    def _asked(self, tensor: Tensor, name: str) -> _Value:
        """The value of a tensor that code wants to see.

        Raises:
            UnknownValueError: nothing may be assumed, and it does not follow from constants.
        """
        value = self._book.of(tensor)
        if value.assumed and self.constants_only:
            raise UnknownValueError(f"{name} asks for a value that depends on weights or inputs")
        return value

    def _answer(self, call: _Call) -> Any:
        """Run an operation on the known values alone, and give a meta tensor of its shape."""
        self.answered[call.name] += 1
        if not self._budget.answering(call.name, call.tensors):
            raise RequestError(
                f"the program looks at its data with {call.name}, which is not done with so many "
                "values from a file: refused; give the code instead, as path/net.py:Net"
            )
        assumed = any(self._asked(t, call.name).assumed for t in call.tensors)
        flat, spec = tree_flatten(self._computed(call))
        answers = [self._as_meta(v, assumed) if isinstance(v, Tensor) else v for v in flat]
        return spec.unflatten(answers)

    def _copied(self, call: _Call) -> Tensor:
        """A copy on a real device; what has no value stays on meta, as a look at it will tell."""
        value = self._book.of(call.args[0])
        if self.constants_only and value.assumed:
            options = {**call.kwargs, "device": torch.device("meta")}
            copy: Tensor = call.func(*call.args, **options)
            return copy
        self.answered["copy to cpu"] += 1
        return value.data.clone().to(call.kwargs.get("dtype") or call.args[0].dtype)

    def _keep_all_boxes(self, boxes: Tensor) -> Tensor:
        """No box that the network places suppresses another."""
        self.answered["nms"] += 1
        return self._as_meta(torch.arange(boxes.shape[0]), assumed=True)

    def _as_meta(self, data: Tensor, assumed: bool) -> Tensor:
        answer = torch.empty_like(data, device="meta")
        self._book.put(answer, data, assumed=assumed)
        return answer

    def _computed(self, call: _Call) -> Any:
        """Run an operation on values; equal scores of the network keep their order."""

        def value(tensor: Tensor) -> Tensor:
            known = self._book.of(tensor)
            if call.name in _RANKS and known.assumed and _all_equal(known.data):
                order = -torch.arange(tensor.numel(), dtype=torch.float32)
                return order.reshape(tensor.shape)
            return known.data

        if call.name in _VIEWS and isinstance(call.args[1], (list, tuple)):  # and no dtype
            # kernels lay a result out otherwise than the functions that its value is made of
            return value(call.args[0]).reshape(call.args[1])
        return call.on(value)

    # -- what follows from what is known

    def _follow(self, call: _Call, outputs: list[Tensor]) -> None:
        """Note the values of an operation's results, where they follow from what is known."""
        if not self._can_follow(call, outputs):
            return
        if outputs[0].numel() > ANSWER_LIMIT and call.fill is not None:
            number = torch.tensor(call.fill, dtype=outputs[0].dtype)
            self._book.put(outputs[0], number.expand(outputs[0].shape), assumed=False)
            return
        if call.view:
            self._make_writable(call.tensors[0])
        values = [self._book.of(t) for t in call.tensors]
        assumed = any(v.assumed for v in values) and call.name not in _FACTORIES
        if call.passes_thresholds and values[0].assumed and not self.constants_only:
            passes = torch.ones((), dtype=torch.bool).expand(outputs[0].shape)
            self._book.put(outputs[0], passes, assumed=True)  # as every score of the network does
        elif torch.Tag.pointwise in call.func.tags and all(_uniform(v.data) for v in values):
            self._follow_uniform(call, outputs, assumed=assumed)
        elif self._is_worth(call, values, outputs):
            self._follow_dense(call, outputs, assumed=assumed)

    def _can_follow(self, call: _Call, outputs: list[Tensor]) -> bool:
        """Return True if the results of an operation follow from what it was given."""
        if not outputs or not all(t.is_meta for t in outputs) or call.name in _LAYERS:
            return False
        if call.random or call.name.startswith("empty") or not self._budget.names(call.name):
            return False
        return bool(call.tensors) or call.name in _FACTORIES or call.name == "lift_fresh"

    def _is_worth(self, call: _Call, values: list[_Value], outputs: list[Tensor]) -> bool:
        """Return True if an operation is run on all elements; a network's large answer is not."""
        tensors = [*call.tensors, *outputs]
        if not call.view:
            large = (v for v in values if v.data.numel() > ANSWER_LIMIT)
            if any(v.assumed and _uniform(v.data) for v in large):
                return False
            if max(t.numel() for t in tensors) > LIMIT:
                return False
        return self._budget.computing(call.name, tensors)

    def _make_writable(self, base: Tensor) -> None:
        """Give a base that is one number a value of its own, before a view of it is written to.

        One that is too large for that gets a number of its own, so that no other value changes.
        """
        known = self._book.of(base)
        if not base.is_meta or not known.data.numel() or not _uniform(known.data):
            return
        if base.numel() <= ANSWER_LIMIT and self._budget.spend(base):
            own = known.data.clone()
        else:
            own = known.data.flatten()[0].clone().expand(base.shape)
        self._book.put(base, own, assumed=known.assumed)

    def _follow_uniform(self, call: _Call, outputs: list[Tensor], *, assumed: bool) -> None:
        """Compute one element: all are the same."""

        def one(tensor: Tensor) -> Tensor:
            data = self._book.of(tensor).data
            return data.flatten()[0].clone() if data.numel() else data.new_zeros(())

        for output, data in zip(outputs, _tensors(call.on(one)), strict=False):
            self._book.put(output, data.expand(output.shape), assumed=assumed)

    def _follow_dense(self, call: _Call, outputs: list[Tensor], *, assumed: bool) -> None:
        first = call.args[0] if call.args else None
        if call.func._schema.is_mutable and isinstance(first, Tensor) and first.is_meta:
            own = self._book.of(first).data
            if _uniform(own) and own.numel() > 1:  # one number for all cannot be written into
                self._book.put(first, own.clone(), assumed=assumed)
        for output, data in zip(outputs, _tensors(self._computed(call)), strict=False):
            self._book.put(output, data, assumed=assumed)

    def _doubt(self, call: _Call) -> None:
        """After a write: the whole storage is unknown, unless what was written was followed."""
        followed = not call.random and call.name not in _LAYERS
        small = max(t.numel() for t in call.tensors) <= ANSWER_LIMIT
        if followed and small and not any(self._book.of(t).assumed for t in call.tensors):
            return
        for tensor in call.written():
            self._book.doubt(tensor)


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]


def _uniform(data: Tensor) -> bool:
    """Return True if one number stands for all elements."""
    return data.numel() <= 1 or not any(data.stride())


def _all_equal(data: Tensor) -> bool:
    return _uniform(data) or bool((data == data.flatten()[0]).all())


def needs_data(error: Exception, *, own: bool = False) -> bool:
    """Return True if the meta device refused because the answer depends on data.

    Code of one's own (`own`) may also have checked a device. An assertion about shapes, and what
    code raises by itself, ask for no data.
    """
    text = said(error, 4000)
    signs: tuple[str, ...] = (
        "meta tensor", "Meta tensor", "meta device", "unbacked", "FakeTensor", "no fake impl",
    )  # fmt: skip
    if own:
        signs += ("device", "numpy", "unallocated storage")
    if any(sign in text for sign in signs):
        return True
    if isinstance(error, AssertionError):
        return own and any(sign in _line(error) for sign in _DEVICE_SIGNS)
    if not isinstance(error, NotImplementedError):
        return False
    return isinstance(error, UnknownValueError) or (
        any(sign in text.lower() for sign in _DATA_SIGNS) and not _by_itself(error)
    )


_DATA_SIGNS = ("meta", "fake", "data pointer", "data-dependent", "data dependent")
_DEVICE_SIGNS = ("device", "cuda", "cpu", "is_meta", "data_ptr", "storage")


def _by_itself(error: Exception) -> bool:
    """Return True if code that is not torch's has raised an error with a statement of its own."""
    frames = traceback.extract_tb(error.__traceback__)
    torchs = not frames or frames[-1].filename.startswith(TORCH)
    missing = "is missing the required" in str(error)  # a forward
    return missing or (not torchs and _line(error).startswith("raise"))


def _line(error: Exception) -> str:
    """The line (or lines) of code that an exception was raised in."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    last = frames[-1]
    first = last.lineno or 0
    ends = max(last.end_lineno or first, first)
    lines = [linecache.getline(last.filename, n).strip() for n in range(first, ends + 1)]
    return " ".join(lines)
