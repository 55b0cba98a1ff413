"""Memory of a CPU's kernels where the meta device's kernels differ.

The trace is made on tensors without data, and the memory that it tells of is that of the kernels
which really run on a CPU. They differ from what a dispatch mode sees on meta in three ways.

*Functions that are made of others.* Scaled dot product attention is decomposed on meta into two
matrix products around a softmax; on the CPU it mostly is one kernel, which goes through the keys in
blocks and never holds the scores of all queries and keys (Dao et al. 2022, FlashAttention). And
some functions allocate more where a mode watches than where none does: they add out of place. The
operations stay in the trace, for they are computed; their memory is that of the kernel.

*Modules that are one kernel* (`fast_paths.py`), and *where results lie* (`results.py`).

The functions are a table, `FUNCTIONS`. Which attention a CPU selects depends on shapes, strides,
dtypes, masks and dropout and on no hardware (`sdp_utils_cpp.cpp` of PyTorch), so torch is asked,
with small tensors that differ in nothing that matters.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from cnnscope.records.trace import Accuracy, OpRecord
from cnnscope.tracing import recurrent

_FLASH = 1  # of torch.nn.attention.SDPBackend: on the CPU the only one that is fused
# What a boolean mask passes through before any kernel, to be added to the scores
_MASKING = ("scalar_tensor", "where", "zeros_like", "logical_not", "masked_fill")


class Recording(Protocol):
    """Changes that a function of `FUNCTIONS` may make to the recording."""

    ops: list[OpRecord]
    lives: list[list[int]]  # per storage: bytes, born, died (-1 while alive)
    recurrent: Accuracy | None  # of what recurrent layers keep for the backward pass
    watched: bool  # True if memory is to be that where a dispatch mode watches

    def read(self, tensor: Tensor) -> int:
        """The id of the value that a tensor holds now."""

    def note_dropout(self, tensor: Tensor, *, always: bool) -> None:
        """Write down that dropout is called on a tensor, which in inference leaves no operation."""

    def storage(self, tensor: int) -> int:
        """The storage of a tensor, by its id."""

    def life(self, tensor: int) -> list[int]:
        """Bytes, birth and death of the storage of a tensor, by its id."""

    def replace(self, tensor: Tensor, other: Tensor) -> Tensor:
        """Let a new tensor stand for the value that the last operation has made."""

    def put_in_place(self, index: int) -> None:
        """Let an operation write its result over its first input."""


# ------------------------------------------------------------------ functions made of others


class Attention(NamedTuple):
    """The arguments of `scaled_dot_product_attention`: (..., L, E), (..., S, E), (..., S, Ev)."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def fused(self) -> bool:
        """True if a CPU computes it without keeping the scores, (..., L, S).

        Decided as torch's flags are at the moment (`torch.nn.attention.sdpa_kernel`). Where they
        leave only kernels that a CPU lacks, which all are fused, it is.
        """
        flags, select = torch.backends.cuda, cast("Any", torch._fused_sdp_choice)
        if not flags.flash_sdp_enabled() and not flags.math_sdp_enabled():
            return True
        small = _small([self.query, self.key, self.value, self.attn_mask])
        options = {"scale": self.scale, "enable_gqa": self.enable_gqa}
        with torch._C._DisableTorchDispatch():
            choice = select(*small, self.dropout_p, self.is_causal, **options)
        return bool(choice == _FLASH)

    def result(self) -> Tensor:
        """Make the result of the fused kernel on meta: it lies in memory as the query does."""
        with torch._C._DisableTorchDispatch():
            return torch.empty_like(self.query, requires_grad=False)

    @property
    def statistics_bytes(self) -> int:
        """Bytes of the log-sum-exp of each query's scores, which the kernel returns as well."""
        queries = math.prod(self.query.shape[:-1])
        return queries * (8 if self.query.dtype is torch.float64 else 4)

    def keeps(self, operation: str) -> bool:
        """True if a storage that an operation of the decomposition made is real all the same."""
        converted = self.attn_mask is not None and self.attn_mask.dtype is torch.bool
        return converted and operation.split(".")[1].rstrip("_") in _MASKING


def _small(tensors: list[Tensor | None]) -> list[Tensor | None]:
    """CPU tensors of few elements, of which the same sizes are equal.

    Numbers of heads are kept, because one may have to divide another.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    sizes = {n for t in given for axis, n in enumerate(t.shape) if axis != t.dim() - 3}
    ranks = {0: 0, 1: 1} | {n: 2 + rank for rank, n in enumerate(sorted(sizes - {0, 1}))}

    def small(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        heads = tensor.dim() - 3
        shape = [n if axis == heads else ranks[n] for axis, n in enumerate(tensor.shape)]
        gap = 1 if not shape or tensor.stride(-1) == 1 else 2
        strides = [gap * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        made = torch.empty_strided(shape, strides, dtype=tensor.dtype, device="cpu")
        return made.requires_grad_(tensor.requires_grad)

    with torch._C._DisableTorchDispatch():
        return [small(tensor) for tensor in tensors]


def _attention(seen: Recording, decompose: Callable[[], Tensor], *args: Any, **kwargs: Any) -> Any:
    """Keep the mask, the result and its statistics alone, where the kernel is a fused one."""
    call = Attention(*args, **kwargs)
    fused = call.query.is_meta and call.fused
    if call.dropout_p > 0:
        seen.note_dropout(call.query, always=True)
    first, begin = len(seen.lives), len(seen.ops)
    result = decompose()
    if not fused:
        _add_in_place(seen, begin)
    elif len(seen.ops) > begin:
        replaced = seen.replace(result, call.result())
        end = len(seen.ops)
        for life in seen.lives[first:-1]:
            if life[1] < 0:  # an unregistered mask, and one that is older
                continue
            if not call.keeps(seen.ops[life[1]].name):
                life[0] = 0
            if life[2] == end - 1:  # what is alive in the kernel is alive in its last operation
                life[2] = end
        seen.lives.append([call.statistics_bytes, end - 1, end])
        return replaced
    return result


def _linear(seen: Recording, decompose: Callable[[], Tensor], *_: Any) -> Any:
    """Add the bias in place, as it is done where no mode watches."""
    begin = len(seen.ops)
    result = decompose()
    _add_in_place(seen, begin)
    return result


def _add_in_place(seen: Recording, begin: int) -> None:
    if seen.watched:
        return
    for index in range(begin, len(seen.ops)):
        if seen.ops[index].name == "aten.add.Tensor":
            seen.put_in_place(index)


def _max_pool1d(seen: Recording, decompose: Callable[[], Tensor], *args: Any, **_: Any) -> Any:
    """Make no indices, and copy an input that does not lie in order, as the CPU's own kernel."""
    begin = len(seen.ops)
    result = decompose()
    for index in range(begin, len(seen.ops)):
        operation = seen.ops[index]
        if len(operation.outputs) == 2:
            indices = seen.life(operation.outputs[1])
            indices[0] = 0 if args[0].is_contiguous() else args[0].nbytes
    return result


def _recurrent(seen: Recording, decompose: Callable[[], Any], *args: Any, **_: Any) -> Any:
    """Multiply the inputs of all time steps at once, and keep the products until a layer ends.

    A CPU does so in each direction of each layer (`FullLayer` and `FullBidirectionalLayer` in
    `RNN.cpp` of PyTorch); on meta every step multiplies its own.
    """
    begin = len(seen.ops)
    result = decompose()
    layers = _Layers(*args)
    products = layers.products(seen, begin)
    if not all(products):
        return result
    x, both_ways, starts = layers.x, layers.both_ways, layers.starts(seen, products)
    for number, (start, steps) in enumerate(zip(starts, products, strict=True)):
        if number <= both_ways and not layers.ordered:
            seen.lives.append([x.nbytes, start, start + 1])  # a copy in order
        if not both_ways:
            end = next_of(seen, "aten.stack", steps[-1])
        elif number % 2:
            end = next_of(seen, "aten.cat", steps[-1])
        else:  # until those of the way back are there
            end = starts[number + 1]
        lives = [seen.life(seen.ops[index].outputs[0]) for index in steps]
        seen.lives.append([sum(life[0] for life in lives), start, end + 1])
        for life in lives:
            life[0] = 0
    return result


class _Layers(NamedTuple):
    """The arguments of `lstm`, `gru` and their like: a sequence (T, B, I), or (B, T, I)."""

    x: Tensor
    states: Any
    weights: Sequence[Tensor]
    has_biases: bool
    number: int
    dropout: float
    train: bool
    both_ways: bool
    batch_first: bool

    @property
    def of_inputs(self) -> Sequence[Tensor]:
        """Input weights of each direction of each layer, (gates * H, I)."""
        return self.weights[:: len(self.weights) // (self.number * (1 + self.both_ways))]

    @property
    def ordered(self) -> bool:
        """True if the sequence lies in memory as the kernels read it, one time step after another.

        Otherwise it is copied.
        """
        with torch._C._DisableTorchDispatch():
            return (self.x.transpose(0, 1) if self.batch_first else self.x).is_contiguous()

    @property
    def projects(self) -> bool:
        """True if an LSTM projects its outputs."""
        return bool(self.weights[1].shape[1] * 4 != self.weights[0].shape[0])

    @property
    def by_onednn(self) -> bool:
        """True if oneDNN runs an LSTM."""
        fast = self.x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        usual = fast and not self.projects and bool(self.x.numel())
        return usual and bool(torch._C._get_mkldnn_enabled())

    def products(self, seen: Recording, begin: int) -> list[list[int]]:
        """The products with the inputs, from operation `begin` on, by direction of each layer."""
        if not self.x.is_meta or len(seen.ops) == begin:
            return [[]]
        return [_products(seen, begin, weight) for weight in self.of_inputs]

    def starts(self, seen: Recording, products: list[list[int]]) -> list[int]:
        """A view in front of the first product of each direction, with the inputs or the state."""
        apart = len(self.weights) // len(products)
        starts: list[int] = []
        for made, weight in zip(products, self.weights[1::apart], strict=True):
            after = starts[-1] + 1 if starts else 0
            of_state = next((i for i in _products(seen, after, weight)), made[0])
            starts.append(min(made[0], of_state) - 1)
        return starts


def _lstm(seen: Recording, decompose: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
    """Keep what each direction of each layer returns, where oneDNN runs it as one kernel.

    It does so in single and half precision and without projections (`use_mkldnn` and `mkldnn_rnn`
    of PyTorch); elsewhere an LSTM is computed as the other recurrent layers are.
    """
    layers = _Layers(*args)
    if not layers.by_onednn:
        return _recurrent(seen, decompose, *args, **kwargs)
    first, begin = len(seen.lives), len(seen.ops)
    result = decompose()
    products = layers.products(seen, begin)
    if not all(products):
        return result
    kept = [seen.life(seen.read(tensor)) for tensor in result]
    for life in seen.lives[first:]:
        if life[1] >= 0 and not any(life is one for one in kept):
            life[0] = 0
    seen.lives += _lives_by_onednn(seen, layers, products)
    return result


def _lives_by_onednn(
    seen: Recording, layers: _Layers, products: list[list[int]]
) -> Iterator[list[int]]:
    """Bytes, birth and death of what such an LSTM makes, without what it returns."""
    x, end, ways = layers.x, len(seen.ops), 1 + layers.both_ways
    width = layers.weights[1].shape[1]
    steps, batch = (x.shape[axis] for axis in ((1, 0) if layers.batch_first else (0, 1)))
    size = batch * width * x.element_size()  # of a state
    ends = [next_of(seen, "aten.stack", made[-1]) for made in products]
    joined = [next_of(seen, "aten.cat", at) + 1 for at in ends[1::2]] if ways == 2 else []
    if not layers.ordered:
        yield [x.nbytes, products[0][0], end]
    for number, at in enumerate(ends):
        if not layers.has_biases:  # zeros in their place, as large as the weights
            weights = layers.weights[2 * number : 2 * number + 2]
            yield [sum(weight.nbytes for weight in weights), at, at + 1]
        yield [2 * size, at, end]
        until = ends[number + ways] + 1 if number + ways < len(ends) else end
        if ways == 2 or until < end:
            yield [steps * size, at, until]
    for begin, until in itertools.pairwise(joined):
        yield [2 * steps * size, begin - 1, until]


def _products(seen: Recording, begin: int, weight: Tensor) -> list[int]:
    """The operations, from one on, that multiply by a weight."""
    storage = seen.storage(seen.read(weight))
    return [
        index
        for index in range(begin, len(seen.ops))
        if seen.ops[index].name.startswith(("aten.addmm", "aten.mm"))
        and seen.storage(cast("int", seen.ops[index].inputs["mat2"])) == storage
    ]


def next_of(seen: Recording, name: str, index: int) -> int:
    """The first operation of a name after one, or the last of all."""
    after = range(index, len(seen.ops))
    return next((i for i in after if seen.ops[i].name.startswith(name)), len(seen.ops) - 1)


def _where(seen: Recording, decompose: Callable[[], Tensor], *_: Any, **__: Any) -> Tensor:
    """Hold no number as a tensor: the kernel is given it as a number."""
    begin = len(seen.ops)
    result = decompose()
    for operation in () if seen.watched else seen.ops[begin:]:
        if operation.name.startswith("aten.scalar_tensor"):
            seen.life(operation.outputs[0])[0] = 0
    return result


def _attention_with_gradients(
    seen: Recording, decompose: Callable[[], Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Run the CPU's fused kernel itself, which keeps the result and its statistics for later."""
    call = Attention(*args, **kwargs)
    if not call.query.is_meta or not call.fused:
        return _linear(seen, decompose)
    mask = call.attn_mask
    if mask is not None and mask.dtype is torch.bool:
        mask = torch.where(mask, 0.0, -math.inf).to(call.query.dtype)
    fused: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    given = call.query, call.key, call.value
    flat = call.query.dim() == 3  # a view of four dimensions, which alone meta's kernels take
    if flat:
        given = cast("Any", tuple(tensor.unsqueeze(0) for tensor in given))
        mask = mask.unsqueeze(0) if mask is not None and mask.dim() == 3 else mask
    options = {"attn_mask": mask, "scale": call.scale}
    result = fused(*given, call.dropout_p, call.is_causal, **options)[0]
    return result.squeeze(0) if flat else result


def _in_one_operation(seen: Recording, decompose: Callable[[], Tensor], *_: Any) -> Tensor:
    """Keep the result alone of what CPU and CUDA have a kernel for, and meta has none."""
    first = len(seen.lives)
    result = decompose()
    kept = seen.life(seen.read(result))
    for life in seen.lives[first:]:
        if life is not kept:
            life[0] = 0
    return result


def _max_pool1d_with_gradients(
    seen: Recording, decompose: Callable[[], Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Make indices only where a gradient is wanted."""
    if seen.watched or (args[0].requires_grad and torch.is_grad_enabled()):
        return decompose()
    return _max_pool1d(seen, decompose, *args, **kwargs)


def _recurrent_with_gradients(
    cell: str, seen: Recording, decompose: Callable[[], Any], *args: Any, **_: Any
) -> Any:
    """Run a recurrent layer as a CPU does, where its kernels are those of PyTorch itself."""
    layers = _Layers(*args)
    if not layers.x.is_meta:
        return decompose()
    if cell == "lstm" and layers.by_onednn:
        seen.recurrent = "unknown"
        return decompose()
    seen.recurrent = seen.recurrent or "exact"
    weights = recurrent.gathered(
        layers.weights, biased=layers.has_biases, projected=cell == "lstm" and layers.projects
    )
    states = layers.states if cell == "lstm" else [layers.states]
    return recurrent.run(
        recurrent.CELLS[cell],
        layers.x,
        states,
        weights,
        dropout=layers.dropout if layers.train else 0,
        both_ways=layers.both_ways,
        batch_first=layers.batch_first,
    )


def _packed_with_gradients(seen: Recording, decompose: Callable[[], Any], *_: Any) -> Any:
    """Note a recurrent layer over a packed sequence, of which a CPU keeps other tensors."""
    seen.recurrent = "unknown"
    return decompose()


def _dropout(
    seen: Recording,
    decompose: Callable[[], Tensor],
    data: Tensor,
    p: float,
    train: bool,
) -> Tensor:
    """Write down where dropout stands; in inference it is no operation."""
    if p > 0:
        seen.note_dropout(data, always=train)
    return decompose()


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "dropout": _dropout,
    "dropout_": _dropout,
    "feature_dropout": _dropout,
    "feature_dropout_": _dropout,
    "alpha_dropout": _dropout,
    "alpha_dropout_": _dropout,
    "feature_alpha_dropout": _dropout,
    "feature_alpha_dropout_": _dropout,
    "where.Scalar": _where,
    "where.ScalarOther": _where,
    "where.ScalarSelf": _where,
    "lstm.input": _lstm,
    "gru.input": _recurrent,
    "rnn_tanh.input": _recurrent,
    "rnn_relu.input": _recurrent,
    "scaled_dot_product_attention": _attention,
    "linear": _linear,
    "max_pool1d": _max_pool1d,
}


# The same where gradients are wanted: memory that autograd keeps is real only if the tensors are
WITH_GRADIENTS: Mapping[str, Callable[..., Any]] = {
    **{name: FUNCTIONS[name] for name in ("where.Scalar", "where.ScalarOther", "where.ScalarSelf")},
    "max_pool1d": _max_pool1d_with_gradients,
    "mish_backward": _in_one_operation,
    "scaled_dot_product_attention": _attention_with_gradients,
    "linear": _linear,
    **{
        f"{cell}.input": functools.partial(_recurrent_with_gradients, cell)
        for cell in recurrent.CELLS
    },
    **{f"{cell}.data": _packed_with_gradients for cell in recurrent.CELLS},
}


@contextmanager
def watching(current: Callable[[], Recording | None], *, train: bool = False) -> Iterator[None]:
    """Watch the calls of `FUNCTIONS` with tensors on the meta device or the CPU.

    A dispatch mode does not see them: they are decomposed before. While this lasts, a kernel of the
    dispatcher's stands in the place of the decomposition, and runs it.

    Args:
        current: who records in this thread, if anybody does.
        train: of `WITH_GRADIENTS` instead.
    """
    library = torch.library.Library("aten", "IMPL")
    try:
        for name, function in (WITH_GRADIENTS if train else FUNCTIONS).items():
            for key in ("AutogradMeta", "AutogradCPU"):
                library.impl(name, _watched(name, function, current), key)
        yield
    finally:
        library._destroy()


def _watched(
    name: str, function: Callable[..., Any], current: Callable[[], Recording | None]
) -> Callable[..., Any]:
    packet, _, of = name.partition(".")
    overload = getattr(getattr(torch.ops.aten, packet), of or "default")
    # not `decompose`, which prefers a decomposition in Python where torch's compiler has one
    composed = functools.partial(overload._op_dk, torch._C.DispatchKey.CompositeImplicitAutograd)

    def call(*args: Any, **kwargs: Any) -> Any:
        seen = current()
        if seen is None:
            return composed(*args, **kwargs)
        return function(seen, lambda: composed(*args, **kwargs), *args, **kwargs)

    return call
