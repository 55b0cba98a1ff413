"""Refuse what a real kernel refuses and a meta kernel lets pass.

A meta kernel computes the shape and dtype of a result. It leaves out checks that only the kernels
of a device make: that a half-precision input meets float32 weights, that a softmax is asked of
integers, that a bias has one element per channel. Two checks stand in for these:

* **Sizes**: `check_sizes`, the rules of `_SIZES`, one function for each operation whose meta kernel
  accepts sizes or static arguments that the CPU *and* the CUDA kernel refuse.
* **Dtypes**: `check_dtypes` repeats the operation on the CPU, once for each combination of
  operation, dtypes, ranks and flags, on tiny tensors of the same dtypes. It refuses only where
  that call fails *and* the same call with other dtypes does not, so that the dtypes are the cause
  and not the sizes or values of the stand-in.

What the CPU alone refuses is not refused: a kernel that is "not implemented for 'Half'" there
exists on CUDA. What the CPU accepts is accepted (integer convolutions, for instance). Under
`torch.autocast` nothing is refused: it changes dtypes on its device, which a run on meta does not
see. Values are never looked at: an index beyond its table is found by no run without data.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from cnnscope.text import operation


class SizeError(RuntimeError):
    """Sizes or static arguments that a real kernel refuses."""


class LayerError(SizeError):
    """A layer that no input fits: its own arguments, weight and bias contradict each other."""


class DtypeError(RuntimeError):
    """Dtypes that a real kernel refuses."""


_OF_DTYPES = re.compile(
    r"scalar type|[Ss]hould be the same|\bdtypes?\b|data type|^Promotion of "
    r"|Type promoti|can't be cast"
)
# How RNN, LSTM and GRU refuse theirs; the second is that of torch 2.9.
_OF_RECURRENT = ("RNN input dtype", "input must have the type")


def about_dtypes(error: BaseException) -> bool:
    """Return True if a forward was refused for its dtypes: here, by a meta kernel or a layer."""
    if isinstance(error, ValueError):
        return str(error).startswith(_OF_RECURRENT)
    if not isinstance(error, RuntimeError) or isinstance(error, SizeError):
        return False
    return isinstance(error, DtypeError) or _OF_DTYPES.search(str(error)) is not None


# ---------------------------------------------------------------------------------- sizes

Given = dict[str, Any]  # the arguments of an operation by name


def check_sizes(name: str, names: Sequence[str], args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse sizes and static arguments that a meta kernel accepts and a real one does not.

    Args:
        name: of the operation, with its overload, such as "aten.convolution.default".
        names: of its arguments, in order.
        args: its positional arguments; tensors are looked at for their shapes alone.
        kwargs: its keyword arguments.

    Raises:
        SizeError: what is wrong, with the sizes.
        LayerError: the same, where no input would fit.
    """
    rules = _SIZES.get(name)
    if rules is None:
        return
    given = _given(names, args, kwargs)
    for kind, rule in zip((LayerError, SizeError), rules, strict=True):
        trouble = rule(given) if rule is not None else ""
        if trouble:
            raise kind(f"{_function(name, given)}: {trouble}")


def _given(names: Iterable[str], args: Any, kwargs: dict[str, Any]) -> Given:
    return dict(zip(names, args, strict=False)) | kwargs


def _names(func: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _window(given: Given) -> str:
    """A window that slides: strides and dilations are positive, padding is not negative."""
    for name, least in (("kernel_size", 1), ("stride", 1), ("dilation", 1), ("padding", 0)):
        value = given.get(name) or ()
        values = value if isinstance(value, (list, tuple)) else (value,)
        if any(type(item) is int and item < least for item in values):
            what = "must not be negative" if least == 0 else "must be positive"
            return f"{name} {what}, but is {tuple(values)}"
    return ""


def _convolution_layer(given: Given) -> str:
    """Weight, bias and groups of `check_shape_forward` of ATen/native/Convolution.cpp."""
    weight, bias, groups = given["weight"], given.get("bias"), given["groups"]
    if groups < 1:
        return f"groups must be positive, but is {groups}"
    axes = weight.dim() - 2
    if any(len(given[name]) not in (1, axes) for name in ("stride", "padding", "dilation")):
        return f"weight {_shape(weight)} has {axes} axes, and stride {tuple(given['stride'])} not"
    if 0 in weight.shape:
        return f"the weight is empty ({_shape(weight)}): no channels, or a kernel of size 0"
    if weight.shape[0] % groups:
        return f"weight {_shape(weight)} does not divide into {groups} groups"
    out = weight.shape[1] * groups if given["transposed"] else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (out,):
        return f"a bias for {out} channels has {out} elements, but is {_shape(bias)}"
    added = _output_padding(given, axes) if given["transposed"] else ""
    if given["transposed"] and weight[0, 0].numel() == 1:
        given = {**given, "dilation": 1}  # of a single tap, which kernels do not look at
    return added or _window(given)


def _output_padding(given: Given, axes: int) -> str:
    """`slow_conv_transpose2d_shape_check` of ATen/native, which meta kernels of torch 2.9 lack."""
    if len(given["output_padding"]) not in (1, axes):
        return f"output_padding {tuple(given['output_padding'])} has not {axes} axes"
    added, stride, dilation = (
        _per_axis(given[name], axes) for name in ("output_padding", "stride", "dilation")
    )
    if any(a >= s and a >= d for a, s, d in zip(added, stride, dilation, strict=True)):
        return f"output padding {added} must be smaller than stride {stride} or dilation {dilation}"
    return ""


def _per_axis(value: Sequence[int], axes: int) -> tuple[int, ...]:
    return tuple(value) * axes if len(value) == 1 else tuple(value)


def _fitting(given: Given) -> str:
    """Describe a kernel larger than its padded input, which torch 2.9 accepts on meta; else ""."""
    sizes, kernel = tuple(given["input"].shape[2:]), tuple(given["weight"].shape[2:])
    padding, dilation = (_per_axis(given[name], len(kernel)) for name in ("padding", "dilation"))
    padded = tuple(n + 2 * p for n, p in zip(sizes, padding, strict=True))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if any(n < span for n, span in zip(padded, spans, strict=True)):
        return f"a kernel that spans {spans} is larger than the padded input {padded}"
    return ""


def _convolution(given: Given) -> str:
    """Channels of the input and its size, which not all meta kernels check."""
    data, weight, groups = given["input"], given["weight"], given["groups"]
    taken = weight.shape[0] if given["transposed"] else weight.shape[1] * groups
    if data.dim() == weight.dim() and data.shape[1] != taken:
        channels = f"{taken} channel{'' if taken == 1 else 's'}"
        return f"expects {channels}, and the input {_shape(data)} has {data.shape[1]}"
    fits = given["transposed"] or data.dim() != weight.dim()
    return "" if fits else _fitting(given)


def _deformable(given: Given) -> str:
    """`deform_conv2d_forward_kernel` of torchvision: a regular convolution's sizes, and offsets."""
    data, weight, offset = given["input"], given["weight"], given["offset"]
    groups = given["groups"]
    if data.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return f"weight {_shape(weight)} in {groups} groups does not fit input {_shape(data)}"
    if data.shape[1] % given["offset_groups"]:
        return f"{data.shape[1]} channels do not divide into {given['offset_groups']} offset groups"
    steps = [(given[f"{name}_h"], given[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
    sides = tuple(
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, pad, dilation in zip(
            data.shape[2:], weight.shape[2:], *steps, strict=True
        )
    )
    maps = {"offset": (offset, 2)} | ({"mask": (given["mask"], 1)} if given["use_mask"] else {})
    for name, (tensor, each) in maps.items():
        channels = each * given["offset_groups"] * math.prod(weight.shape[2:])
        expected = (data.shape[0], channels, *sides)
        if tuple(tensor.shape) != expected:
            return f"{name} is {_shape(tensor)}, and must be {'x'.join(map(str, expected))}"
    bias = given["bias"]
    if bias.numel() != weight.shape[0]:
        return f"a bias for {weight.shape[0]} channels has as many elements, but {_shape(bias)}"
    return ""


def _nll_loss2d(given: Given) -> str:
    """A class for each position of each image."""
    data, target = given["self"], given["target"]
    expected = (data.shape[0], *data.shape[2:])
    if tuple(target.shape) != expected:
        return f"target is {_shape(target)} for input {_shape(data)}: one class for each position"
    return ""


def _grid(given: Given) -> str:
    """`check_grid_sampler_common` of ATen/native/GridSampler.h: batch, coordinates, pixels."""
    data, grid = given["input"], given["grid"]
    axes = data.dim() - 2
    if data.dim() != grid.dim() or data.shape[0] != grid.shape[0]:
        return f"a grid of {_shape(grid)} is not one for each image of {_shape(data)}"
    if grid.shape[-1] != axes:
        return f"a grid's last size is {axes}, one coordinate for each axis: it is {_shape(grid)}"
    return f"the input has no pixels: {_shape(data)}" if 0 in data.shape[2:] else ""


def _index_add(given: Given) -> str:
    """The source has the destination's sizes but along `dim`, where it has the index's."""
    data, source, index = given["self"], given["source"], given["index"]
    if not data.dim() or data.dim() != source.dim():
        return ""
    dim = given["dim"] % data.dim()
    expected = (*data.shape[:dim], index.numel(), *data.shape[dim + 1 :])
    if tuple(source.shape) != expected:
        return f"source is {_shape(source)}, and must be {'x'.join(map(str, expected))}"
    return ""


def _index_select(given: Given) -> str:
    """Positions are a vector, of a dimension that there is."""
    index = given["index"]
    return f"index is {_shape(index)}, not a vector" if index.dim() > 1 else _dimension(given)


def _index_put(given: Given) -> str:
    """Describe a write that does not broadcast to what the indices select; "" for any other."""
    data, indices, values = given["self"], given["indices"], given["values"]
    dtypes = {index.dtype for index in indices if index is not None}
    if not dtypes <= {torch.int64, torch.int32, torch.bool, torch.uint8}:
        return "indices must be of int64, int32, bool or uint8"
    if dtypes & {torch.bool, torch.uint8}:
        return _masks(data, indices)  # how many they select is a matter of values
    try:
        selected = torch.ops.aten.index.Tensor(data, indices).shape
    except IndexError as error:
        return str(error)
    except RuntimeError:
        return ""
    padded = (1,) * (len(selected) - values.dim()) + tuple(values.shape)
    fits = len(padded) == len(selected)
    if fits and all(a in (1, b) for a, b in zip(padded, selected, strict=True)):
        return ""
    return f"values {_shape(values)} do not broadcast to {'x'.join(map(str, selected))}"


def _masks(data: Tensor, indices: Sequence[Tensor | None]) -> str:
    """A mask has the sizes of the dimensions that it selects from."""
    dim = 0
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            dim += 1
            continue
        if tuple(index.shape) != tuple(data.shape[dim : dim + index.dim()]):
            return f"mask {_shape(index)} does not fit {_shape(data)} from dimension {dim} on"
        dim += index.dim()
    return ""


def _resized(given: Given) -> str:
    """An image of at least one pixel."""
    size = given.get("output_size") or (1,)
    return "" if min(size) > 0 else f"the output would be {'x'.join(map(str, size))}"


def _dimension(given: Given) -> str:
    """The dimension is one of the tensor's, which has at least one for this purpose."""
    rank = max(given["self"].dim(), 1)
    dim = given.get("dim", -1)
    return "" if -rank <= dim < rank else f"dimension {dim} of {_shape(given['self'])}"


def _multinomial(given: Given) -> str:
    """Without replacement, no more samples than categories."""
    samples, categories = given["num_samples"], given["self"].shape[-1]
    if samples < 1:
        return f"cannot draw {samples} samples"
    if samples > categories and not given.get("replacement"):
        return f"cannot draw {samples} of {categories} categories without replacement"
    return ""


def _bucketize(given: Given) -> str:
    """Boundaries are a vector."""
    boundaries = given["boundaries"]
    return "" if boundaries.dim() == 1 else f"boundaries are {_shape(boundaries)}, not a vector"


def _restrided(given: Given) -> str:
    """A geometry that stays in its memory: `checkInBoundsForStorage` of ATen/native/Resize.h."""
    tensor, size, stride = given["self"], given["size"], given["stride"]
    offset = given.get("storage_offset")
    first = tensor.storage_offset() if offset is None else offset
    last = first + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
    elements = tensor.untyped_storage().nbytes() // tensor.dtype.itemsize
    if 0 not in size and last >= elements:
        return f"reads element {last} of a memory of {elements}"
    return ""


Check = Callable[[Given], str] | None  # what is wrong, "" if nothing

_RESIZES = [
    f"aten.{name}.default"
    for name in (
        "upsample_bilinear2d upsample_nearest2d upsample_bicubic2d _upsample_bicubic2d_aa "
        "_upsample_bilinear2d_aa upsample_linear1d "
        "upsample_trilinear3d upsample_nearest1d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d"
    ).split()
]

_ALONG = [
    f"aten.{name}"
    for name in "_log_softmax.default _softmax.default sort.default sort.stable".split()
]

# For each operation what is wrong whatever the input, and what is wrong for this one.
_SIZES: dict[str, tuple[Check, Check]] = {
    "aten.as_strided.default": (None, _restrided),
    "aten.bucketize.Tensor": (None, _bucketize),
    "aten.convolution.default": (_convolution_layer, _convolution),
    "aten.grid_sampler_2d.default": (None, _grid),
    "aten.grid_sampler_3d.default": (None, _grid),
    "aten.index_add.default": (None, _index_add),
    "aten.index_add_.default": (None, _index_add),
    "aten.index_put.default": (None, _index_put),
    "aten.index_put_.default": (None, _index_put),
    "aten.index_select.default": (None, _index_select),
    "aten.multinomial.default": (None, _multinomial),
    "aten.nll_loss2d_forward.default": (None, _nll_loss2d),
    "torchvision.deform_conv2d.default": (None, _deformable),
    **dict.fromkeys(_RESIZES, (None, _resized)),
    **dict.fromkeys(_ALONG, (None, _dimension)),
}

# --------------------------------------------------------------------------------- dtypes

# Kernels take bytes here; their meta kernels do not.
_BYTES = {
    "aten.index.Tensor": ("indices", torch.bool),
    "aten.where.self": ("condition", torch.bool),
    "aten.nll_loss_forward.default": ("target", torch.int64),
    "aten.nll_loss2d_forward.default": ("target", torch.int64),
}


def without_bytes(name: str, names: Sequence[str], args: Any) -> Any:
    """The positional arguments with a uint8 mask or target as what the meta kernel takes for it.

    Args:
        name: of the operation, with its overload.
        names: of its arguments, in order.
        args: its positional arguments.
    """
    argument, dtype = _BYTES.get(name, ("", None))
    if dtype is None:
        return args

    def converted(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype is torch.uint8:
            return value.to(dtype)
        return list(map(converted, value)) if isinstance(value, (list, tuple)) else value

    return tuple(
        converted(value) if key == argument else value
        for key, value in zip(names, args, strict=False)
    )


_SMALL = 4096  # elements of a call that is repeated as it is
_LARGEST = 2**22  # elements of any call that is repeated
_SIDE = 8  # what larger sizes are reduced to
_EVERY = 4  # tensors whose dtypes are exchanged in all combinations
# Kernels that the CPU lacks and CUDA has.
_CPU_ALONE = re.compile(
    r"not implemented for '(Half|BFloat16|ComplexHalf|Float8\w*)'|Unsupported dtype Half|mkldnn|"
    r"MKL FFT doesn't support tensors of type: (Half|ComplexHalf)|oneDNN|Could not run|"
    r"not compiled|not available"
)
# What a kernel says of operands whose dtypes differ: the list of them says it better.
_ONE_DTYPE = re.compile(r"should be the same|same d(ata)?type|same datatype|MKLDNN")
_WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}

_verdicts: dict[Any, str] = {}  # what is wrong with a combination, "" if nothing


def check_dtypes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    """Refuse dtypes that a meta kernel accepts and a real one does not.

    Args:
        func: the operation, which has just run on meta.
        args: its positional arguments.
        kwargs: its keyword arguments.
        result: what it returned.

    Raises:
        DtypeError: what the real kernel said, and the dtypes.
    """
    if not _checked(func):
        return
    key = _key(func, args, kwargs)
    known = _verdicts.get(key)
    if known is None:
        known = _verdict(func, args, kwargs, result)
        if known is None:  # its numbers may be the cause, and they are not in the key
            return
        _verdicts[key] = known
    if known and not _autocast():
        raise DtypeError(known)


def check_overlap(func: Any, written: Sequence[Tensor], args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse to write to a tensor of which several elements share one place, as kernels do.

    Args:
        func: the operation, which has just run on meta.
        written: the tensors that it writes to.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        SizeError: the kernel refuses that.
    """
    shared = {id(t): _repeated(t) for t in written if any(_repeated(t))}
    if not shared or not _checked(func) or func.namespace != "aten":
        return
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
    with _unnoticed(func):
        for call in _stand_ins(func, args, kwargs, tensors) if all(map(_dense, tensors)) else ():
            if call.refusal(call.dtypes) is not None:
                continue
            call.repeated = [shared.get(id(t), ()) for t in tensors]
            refused = call.refusal(call.dtypes)
            if refused is not None:
                break
        else:
            return
    name = operation(str(func))
    raise SizeError(f"{name} writes to a tensor whose elements share memory, as expand makes them")


def _repeated(tensor: Tensor) -> tuple[bool, ...]:
    """Dimensions along which every element lies in one place."""
    return tuple(
        step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _key(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Key of a verdict: operation, dtypes, ranks, flags and kinds of numbers."""
    key: list[Any] = [func, *map(_part, args)]
    for name, value in kwargs.items():
        key += (name, _part(value))
    return tuple(key)


def _part(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.dtype, value.dim(), value.is_meta, value.numel() == 0
    kind = type(value)
    if kind is int or kind is float:
        return kind
    if isinstance(value, (list, tuple)):
        wide = any(type(item) is int and item > 1 for item in value)  # a dilated convolution
        return (wide, *dict.fromkeys(map(_part, value)))
    return kind if isinstance(value, torch.ScriptObject) else value  # which cannot be compared


def _autocast() -> bool:
    """True if `torch.autocast` surrounds the call: below it, only its nesting is to be seen."""
    nesting = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return nesting > 1


def _verdict(func: Any, args: Any, kwargs: Any, result: Any) -> str | None:
    """Describe the fault in the dtypes of a call; "" if there is none, None if no stand-in runs."""
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
    results = [v for v in tree_flatten(result)[0] if isinstance(v, Tensor)]
    if not any(tensor.is_meta for tensor in (*tensors, *results)):
        return ""  # the kernel itself has run
    if func.namespace == "torchvision":
        return _torchvision(func, args, kwargs)
    if not tensors or not all(map(_dense, tensors)):
        return ""
    with _unnoticed(func):
        for call in _stand_ins(func, args, kwargs, (*tensors, *results)):
            refused = call.refusal(call.dtypes)
            if refused is not None and _CPU_ALONE.search(refused):
                refused = call.refusal([_WIDER.get(dtype, dtype) for dtype in call.dtypes])
            if refused is None:
                return ""
            if call.runs_with_others():
                return _sentence(func, args, kwargs, refused)
    return None


@contextlib.contextmanager
def _unnoticed(func: Any) -> Iterator[None]:
    """Outside of all modes, without a trace in the random state."""
    random = torch.Tag.nondeterministic_seeded in func.tags
    with (
        _disable_current_modes(),
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=(), enabled=random),
        contextlib.suppress(Exception),
    ):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _checked(func: Any) -> bool:
    """True if the dtypes of an operation are checked: not those of views and of the user's own."""
    schema = getattr(func, "_schema", None)
    if schema is None or func.namespace not in ("aten", "torchvision"):
        return False
    return all(a.alias_info is None or a.alias_info.is_write for a in schema.arguments)


def _dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


class _Call:
    """An operation on tiny tensors of given shapes, whose dtypes are exchanged."""

    def __init__(
        self, func: Any, args: Any, kwargs: Any, shapes: Sequence[tuple[int, ...]]
    ) -> None:
        self.func, self.shapes = func, shapes
        self.flat, self.tree = tree_flatten((args, kwargs))
        self.dtypes = [v.dtype for v in self.flat if isinstance(v, Tensor)]
        self.repeated: list[tuple[bool, ...]] = [()] * len(self.dtypes)

    def arguments(self, dtypes: Sequence[torch.dtype], device: str) -> Any:
        """The arguments, with tensors of these dtypes."""
        parts = zip(self.shapes, dtypes, self.repeated, strict=True)
        flat = [_filled(*next(parts), device) if isinstance(v, Tensor) else v for v in self.flat]
        return self.tree.unflatten(flat)

    def refusal(self, dtypes: Sequence[torch.dtype]) -> str | None:
        """Return the error of the CPU kernel for these dtypes; None if it runs."""
        args, kwargs = self.arguments(dtypes, "cpu")
        try:
            self.func(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  whatever it raises, it does not run
            said = str(error).partition("\n")[0] or type(error).__name__
            return None if said == "ZeroDivisionError" else said  # of integers that are zero here
        return None

    def runs_with_others(self) -> bool:
        """Return True if the CPU kernel runs on the same shapes in other dtypes."""
        kinds = (torch.float32, torch.int64, torch.bool)
        if len(self.dtypes) <= _EVERY:
            combinations: Any = itertools.product(kinds, repeat=len(self.dtypes))
        else:
            combinations = ([torch.float32] * len(self.dtypes), _as_floats(self.dtypes))
        return any(self.refusal(dtypes) is None for dtypes in combinations)

    def fits(self) -> bool:
        """Return True if it has a size that can be repeated, and the meta kernel accepts it."""
        try:
            args, kwargs = self.arguments(self.dtypes, "meta")
            results = tree_flatten(self.func(*args, **kwargs))[0]
        except Exception:  # noqa: BLE001  whatever it raises, it does not run
            return False
        made = sum(v.numel() for v in results if isinstance(v, Tensor))
        return made + sum(map(math.prod, self.shapes)) <= _LARGEST


def _as_floats(dtypes: Sequence[torch.dtype]) -> list[torch.dtype]:
    return [torch.float32 if d.is_floating_point or d.is_complex else d for d in dtypes]


def _filled(
    shape: tuple[int, ...], dtype: torch.dtype, repeated: tuple[bool, ...], device: str
) -> Tensor:
    """Ones, but zeros for integers: an index into anything."""
    number = float(dtype.is_floating_point or dtype.is_complex)
    if not any(repeated):
        return torch.full(shape, number, dtype=dtype, device=device)
    base = [1 if same else size for size, same in zip(shape, repeated, strict=True)]
    return torch.full(base, number, dtype=dtype, device=device).expand(shape)


def _stand_ins(func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> Iterator[_Call]:
    """The call on smaller tensors, in several ways, the surest that is cheap first."""
    args, kwargs = tree_map(_on_cpu, (args, kwargs))
    given = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
    shapes = [tuple(v.shape) for v in given]
    if sum(v.numel() for v in tensors) <= _SMALL:
        yield _Call(func, tree_map(_bounded, args), tree_map(_bounded, kwargs), shapes)
        return
    reduced = _reduced_convolution if "conv" in str(func) else _reduced_call
    small = reduced(func, args, kwargs, shapes)
    for call in (small, _Call(func, args, kwargs, shapes)):
        if call.fits():
            yield call


def _bounded(value: Any) -> Any:
    """No number of steps, terms or bins that would take long: kernels loop over some of them."""
    return min(value, _SMALL) if type(value) is int else value


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _reduced_call(func: Any, args: Any, kwargs: Any, shapes: Sequence[tuple[int, ...]]) -> _Call:
    """The call with every size above `_SIDE` reduced to it: equal ones stay equal.

    Padding is reduced to half of that, the most that a pool of that size takes.
    """

    def reduced(name: str, value: Any) -> Any:
        most = _SIDE // 2 if "pad" in name else _SIDE
        return tree_map(lambda item: min(item, most) if type(item) is int else item, value)

    given = _given(_names(func), args, kwargs)
    given = {name: reduced(name, value) for name, value in given.items()}
    return _Call(func, (), given, [reduced("", shape) for shape in shapes])


def _reduced_convolution(
    func: Any, args: Any, kwargs: Any, shapes: Sequence[tuple[int, ...]]
) -> _Call:
    """The convolution of one channel, with a kernel of 1 or 2 and dilation 1 or 2."""
    given = _given(_names(func), args, kwargs)
    for name, value in given.items():
        most, least = (0, 0) if "pad" in name else (2 if name == "dilation" else 1, 1)
        if type(value) is int:
            given[name] = min(max(value, least), most)
        elif isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            given[name] = [min(max(item, least), most) for item in value]
    data, weight, *others = shapes
    kernel = tuple(min(size, 2) for size in weight[2:])
    small = [(1,) * (len(data) - len(kernel)) + (4,) * len(kernel), (1, 1, *kernel)]
    return _Call(func, (), given, [*small, *[(1,) * len(shape) for shape in others]])


def _torchvision(func: Any, args: Any, kwargs: Any) -> str:
    """Kernels of torchvision dispatch on the first operand and expect its dtype of the others.

    They are not repeated: an error in one of them prints a stack to stderr.
    """
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, Tensor)]
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or any(not dtype.is_floating_point for dtype in dtypes):
        return _sentence(func, args, kwargs, "operands are floating-point and of one dtype")
    return ""


def _sentence(func: Any, args: Any, kwargs: Any, refused: str) -> str:
    """Describe the arguments of an operation, and the error of its kernel."""
    given = _given(_names(func), args, kwargs)
    parts = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')}"
        for name, value in given.items()
        for tensor in tree_flatten(value)[0]
        if isinstance(tensor, Tensor)
    ]
    name, dtypes = _function(str(func), given), {part.split()[-1] for part in parts}
    if len(dtypes) > 1 and _ONE_DTYPE.search(refused):
        return f"{name} takes one dtype for all, not {', '.join(parts)}"
    return f"{name} does not take {', '.join(parts)} ({refused})"


def _function(name: str, given: Given) -> str:
    """Name the function of PyTorch that an operation belongs to: conv_transpose2d."""
    if name != "aten.convolution.default":
        return operation(name)
    return f"conv{'_transpose' if given.get('transposed') else ''}{len(given['stride'])}d"
