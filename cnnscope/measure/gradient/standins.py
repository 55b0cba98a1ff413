"""Linear stand-ins of operations, which depend on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cnnscope.measure.gradient.tape import Ref, Step, refs_of
from cnnscope.records.trace import Shape

if TYPE_CHECKING:
    from cnnscope.measure.gradient.replay import Replay

_TINY = 1e-6  # an interpolation weight below this is rounding


class Poison(NamedTuple):
    """A result that cannot be measured, with the reason."""

    reason: str


class Op:
    """A recorded operation whose arguments are the replay's tensors."""

    def __init__(self, replay: Replay, step: Step, name: str) -> None:
        self.replay, self.step, self.name = replay, step, name
        arguments = step.func._schema.arguments
        self.given = {a.name: a.default_value for a in arguments}
        self.given |= dict(zip((a.name for a in arguments), step.args, strict=False))
        self.given |= step.kwargs

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that is no tensor."""
        value = self.given.get(name)
        return default if value is None else value

    def named(self, name: str) -> Tensor | None:
        """A tensor argument."""
        value = self.given.get(name)
        return self.replay.get(value.number) if isinstance(value, Ref) else None

    def number(self, name: str) -> int:
        """The number of a tensor argument."""
        return int(self.given[name].number)

    def tensors(self) -> list[Tensor]:
        """All tensor arguments."""
        return [self.replay.get(n) for n in refs_of(self.step)]

    def tensor(self, position: int) -> Any:
        """A tensor argument by its place."""
        return self.tensors()[position]

    def dependent(self) -> list[Tensor]:
        """Tensor arguments that depend on the input."""
        return [t for t in self.tensors() if t.requires_grad]

    @property
    def shape(self) -> Shape:
        """Of the first output."""
        return self.replay.tape.shapes[self.step.outputs[0]]

    def indices_are_real(self) -> bool:
        """Return True if integers and masks among the arguments have known values."""
        replay = self.replay
        return all(
            replay.tape.floating[n] or (n not in replay.unreal and not replay.get(n).requires_grad)
            for n in refs_of(self.step)
        )

    def whole(self, number: int, dims: Sequence[int]) -> bool:
        """Return True if a sum over these dimensions of a tensor depends on the whole image."""
        if self.replay.at >= self.replay.cut.steps:
            return False  # on a larger canvas the model has never come here
        rank = len(self.replay.tape.shapes[number])
        return any(d % rank in self.grown(number) for d in dims)

    def grown(self, number: int) -> Mapping[int, int]:
        """The dimensions of a tensor that grow with the canvas."""
        return self.replay.cut.dims.get(number, {})

    def spreads_all(self, value: Tensor) -> bool:
        """Return True if a function of the whole image is given to all places that grow with it.

        A pool whose window is the whole map is one, and no sum over what grows: it is cut where
        its one unit meets the many of a map.
        """
        if self.replay.at >= self.replay.cut.steps:
            return False
        missing = len(self.shape) - value.dim()
        grown = self.grown(self.step.outputs[0])
        stretched = [d for d in grown if d < missing or value.shape[d - missing] == 1]
        return bool(stretched) and self.replay.sees_all(value)

    def constant_along(self, value: Tensor, dim: int) -> bool:
        """Return True if all places along a dimension depend on the input in the same way.

        Then a sum over them depends on no more than each of them: attention's scores of one query,
        of which the keys were cut.
        """
        size = value.shape[dim]
        found = [
            self.replay.gradient(value.select(dim, place).sum())
            for place in sorted({0, size // 2, size - 1})
        ]
        return all(torch.allclose(found[0], other, rtol=1e-9, atol=0) for other in found[1:])

    def mean(self, name: str, dims: Sequence[int], *, keepdim: bool = True) -> Tensor:
        """A mean over dimensions, cut off where it is of the whole image."""
        value, number = self.named(name), self.number(name)
        assert value is not None  # noqa: S101
        if not dims:
            return value
        result = value.mean(tuple(dims), keepdim=keepdim)
        return result.detach() if self.whole(number, dims) else result


StandIn = Callable[[Op], Any]


def identity(op: Op) -> Any:
    """Return the input; a slope, a limit or a mask that depends on the image is added."""
    first, dependent = op.tensor(0), op.dependent()
    return first if len(dependent) == 1 and dependent[0] is first else _sum(op)


def restrided(op: Op) -> Any:
    """A view by bare geometry, of a tensor that lies in memory as it did."""
    value, number = op.tensor(0), next(refs_of(op.step))
    size, start = tuple(op.get("size")), op.get("storage_offset") or 0
    if op.replay.tape.contiguous[number] and value.is_contiguous():
        return value.as_strided(size, op.get("stride"), value.storage_offset() + start)
    return value if size == tuple(value.shape) else Poison("memory is reread")


def _sum(op: Op) -> Tensor:
    """Elementwise, of every operand that depends on the input.

    They have different weights: (x - mean) / deviation must not become x - mean + mean.
    """
    operands = op.dependent()
    own = [t for t in operands if not op.spreads_all(t)]
    if not own:
        return operands[0].detach().expand(op.shape).clone()
    parts = [t.expand(op.shape) for t in own]
    if len(parts) == 1:
        return parts[0].clone()
    return torch.stack([(1 + 0.37 * place) * part for place, part in enumerate(parts)]).sum(0)


def _masked(op: Op) -> Tensor:
    """Return the values that a mask keeps, plus the mask itself."""
    first, mask = op.tensor(0), op.named("mask")
    other = op.named("value") if isinstance(op.given.get("value"), Ref) else op.named("source")
    parts = [t for t in (first, mask, other) if t is not None and t.requires_grad]
    return sum((t.expand(op.shape) for t in parts), torch.zeros((), dtype=torch.float64))


def _product(op: Op) -> Any:
    """The sum of two maps; a constant's zeros stay zeros."""
    values = op.tensors()
    if len(values) == 2 and all(t.requires_grad for t in values):
        return _sum(op)
    if len(values) == 1:
        other = op.given.get("other", op.given.get("value", 1))
        return values[0] * (1.0 if other else 0.0)
    numbers = list(refs_of(op.step))
    for value, number in zip(values, numbers, strict=True):
        if not value.requires_grad and number not in op.replay.unreal:
            return op.dependent()[0] * (value != 0)
    return _sum(op)


def _addition(op: Op) -> Any:
    """Itself: terms that cancel, cancel."""
    alpha = op.get("alpha", 1)
    other = op.named("other")
    base = op.tensor(0)
    if other is None:
        return base
    sign = -1 if op.name == "sub" else 1
    if op.name == "rsub":
        return other - alpha * base
    return base + sign * alpha * other


def _all_but(rank: int, *kept: int) -> list[int]:
    return [d for d in range(rank) if d not in kept]


def batch_norm(op: Op) -> Any:
    """Itself; with statistics of its own, beside all of each channel."""
    value = op.tensor(0)
    training = op.get("training") or op.get("use_input_stats") or "no_stats" in str(op.step.func)
    return value + op.mean("input", _all_but(value.dim(), 1)) if training else value


def _layer_norm(op: Op) -> Any:
    value, count = op.tensor(0), len(op.get("normalized_shape"))
    return value + op.mean("input", range(value.dim() - count, value.dim()))


def _group_norm(op: Op) -> Any:
    value = op.tensor(0)
    return value + op.mean("input", _all_but(value.dim(), 0))


def _along(op: Op) -> Any:
    """Softmax, sorting: every unit depends on all along one dimension."""
    return op.tensor(0) + op.mean("self", [op.get("dim", -1)])


def _chosen(op: Op) -> Any:
    """Some of what lies along one dimension, which is a matter of all of it."""
    dim = op.get("dim", -1)
    keepdim = bool(op.get("keepdim", op.name == "topk"))
    value = op.mean("self", [dim], keepdim=keepdim)
    return value.expand(op.shape) if keepdim else value


def _mixed(op: Op) -> Any:
    """A function of whole matrices."""
    name = next(k for k, v in op.given.items() if isinstance(v, Ref))
    seen = op.mean(name, [-2, -1])
    shapes = [op.replay.tape.shapes[n] for n in op.step.outputs]
    if any(shape[: len(op.shape) - 2] != seen.shape[:-2] for shape in shapes):
        return Poison(f"{op.step.func} has no linear stand-in")
    lead = seen.dim() - 2
    return [seen.reshape(*seen.shape[:-2], *[1] * (len(s) - lead)).expand(s) for s in shapes]


def _fourier(op: Op) -> Any:
    """A transform: everything along its dimensions."""
    return op.mean("self", list(op.get("dim"))).expand(op.shape)


def _rotated(op: Op) -> Any:
    """A product of neighbours along one dimension: all of it."""
    dim = op.get("dim", -1)
    parts = [op.mean(n, [dim]) for n in ("self", "other") if op.named(n).requires_grad]  # type: ignore[union-attr]
    return sum(parts, torch.zeros((), dtype=torch.float64)).expand(op.shape)


def _looked_up(op: Op) -> Any:
    """A row of numbers for each index."""
    indices = op.named("indices")
    if indices is None or not indices.requires_grad:
        return Poison(f"{op.step.func} has no linear stand-in")
    return indices.unsqueeze(-1).expand(op.shape)


def _as_real(op: Op) -> Any:
    return op.tensor(0).unsqueeze(-1).expand(op.shape)


def _as_complex(op: Op) -> Any:
    return op.tensor(0).mean(-1)


def _sampled(op: Op) -> Any:
    """Bilinear or nearest samples at places that are constants."""
    grid = op.number("grid")
    if op.named("grid").requires_grad or grid in op.replay.unreal:  # type: ignore[union-attr]
        return Poison(f"{op.step.func} reads where the data says")
    return op.replay.native(op.step)


def _reduction(op: Op) -> Any:
    if "other" in op.given:
        return _sum(op)
    value = op.tensor(0)
    dims = op.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    dims = dims if dims is not None and dims != [] else range(value.dim())
    name = next(k for k, v in op.given.items() if isinstance(v, Ref))
    return op.mean(name, list(dims), keepdim=bool(op.get("keepdim")))


def _cumulative(op: Op) -> Any:
    return op.tensor(0).cumsum(op.get("dim"))


def _moments(op: Op) -> Any:
    """Two statistics of the same elements."""
    seen = _reduction(op)
    return [seen, seen.clone()]


def _glu(op: Op) -> Any:
    a, b = op.tensor(0).chunk(2, op.get("dim", -1))
    return a + b


def _convolution(op: Op) -> Any:
    """A box over the taps of the input; of weights and bias, what is computed from the input."""
    value, transposed = op.named("input"), bool(op.get("transposed", False))
    out = torch.zeros((), dtype=torch.float64)
    if value is not None and value.requires_grad:
        out = _box(op, value, transposed=transposed)
    return _with_weights(op, out, transposed=transposed)


def _with_weights(op: Op, out: Tensor, *, transposed: bool = False) -> Tensor:
    """Add a kernel that is computed from the input: every output sees all of its filter."""
    weight, bias = op.named("weight"), op.named("bias")
    places = (1,) * (len(op.shape) - 2)
    if weight is not None and weight.requires_grad:
        dims = range(weight.dim()) if transposed else range(1, weight.dim())
        seen = op.mean("weight", list(dims), keepdim=False)
        out = out + (seen if transposed else seen.view(-1, *places))
    if bias is not None and bias.requires_grad:
        out = out + bias.view(-1, *places)
    return out.expand(op.shape).contiguous() if tuple(out.shape) != op.shape else out


def _box(op: Op, value: Tensor, *, transposed: bool = False) -> Tensor:
    """Positive weights v[o] * u[i] / fan_in: a weighted mean over channels, a box, and a spread."""
    weight = op.number("weight")
    shape = op.replay.tape.shapes[weight]
    axes, groups = len(shape) - 2, op.get("groups", 1)
    n, channels = value.shape[:2]
    fan = channels // groups
    u = op.replay.weight(weight, "in", channels).view(groups, 1, fan) / fan
    mean = (u @ value.reshape(n, groups, fan, -1)).view(n * groups, 1, *value.shape[2:])
    box = torch.full((1, 1, *shape[2:]), 1 / prod(shape[2:]), dtype=torch.float64)
    where = [op.get(k, d) for k, d in (("stride", 1), ("padding", 0), ("dilation", 1))]
    more = op.get("output_padding", [0] * axes)
    out = torch.ops.aten.convolution(mean, box, None, *where, transposed, more, 1)
    outputs = shape[1] * groups if transposed else shape[0]
    spread = out.view(n, groups, 1, *out.shape[2:]).expand(
        n, groups, outputs // groups, *out.shape[2:]
    )
    v = op.replay.weight(weight, "out", outputs).view(1, groups, -1, *(1,) * axes)
    made: Tensor = (spread * v).view(n, outputs, *out.shape[2:])
    return made


def _deformable(op: Op) -> Any:
    """The regular grid, which offsets of nothing leave, and what offsets and masks see."""
    value = op.named("input")
    assert value is not None  # noqa: S101
    pairs = {name: [op.get(f"{name}_{a}") for a in "hw"] for name in ("stride", "dilation")}
    op.given |= {**pairs, "padding": [op.get("pad_h"), op.get("pad_w")]}
    out = torch.zeros((), dtype=torch.float64)
    if value.requires_grad:
        out = _box(op, value)
    for name in ("offset", "mask"):
        steers = op.named(name)
        if steers is not None and steers.requires_grad:
            out = out + steers.mean(1, keepdim=True)
    return _with_weights(op, out)


def _pool(op: Op) -> Any:
    """Every pixel of the window alike."""
    value = op.tensor(0)
    axes = 3 if "3d" in op.name else 1 if "1d" in op.name else 2
    kernel, padding, dilation = (
        _each(op.get(k, d), axes) for k, d in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
    )
    stride = _each(op.get("stride") or kernel, axes)
    flat = value.reshape(-1, 1, *value.shape[-axes:])
    widths: list[int] = []
    for axis in reversed(range(axes)):
        needed = (op.shape[-axes:][axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1)
        size = flat.shape[2 + axis]
        widths += [padding[axis], needed + 1 - size - padding[axis]]
    box = torch.full((1, 1, *kernel), 0.9 / prod(kernel), dtype=torch.float64)
    padded = F.pad(flat, widths)
    none = [0] * axes
    out = torch.ops.aten.convolution(padded, box, None, stride, none, dilation, False, none, 1)
    return out.reshape(op.shape)


def _each(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def _adaptive_pool(op: Op) -> Any:
    value, axes = op.tensor(0), 3 if "3d" in op.name else 2
    pool = F.adaptive_avg_pool3d if axes == 3 else F.adaptive_avg_pool2d
    out = pool(value, op.get("output_size"))
    single = [d for d in range(value.dim() - axes, value.dim()) if out.shape[d] == 1]
    return out.detach() if op.whole(op.number("self"), single) else out


def _interpolation(op: Op) -> Any:
    """Each axis by its matrix of weights, found by the operation itself, rounding left out."""
    value = op.tensor(0)
    axes = 3 if "trilinear" in op.name else 1 if "linear1d" in op.name else 2
    for axis in range(axes):
        dim = value.dim() - axes + axis
        matrix = _matrix(op, axis, axes)
        value = torch.tensordot(value, matrix, ([dim], [0])).movedim(-1, dim)
    return value.contiguous()


def _matrix(op: Op, axis: int, axes: int) -> Tensor:
    """[in, out] weights along one axis, positive where they are not zero.

    The other axes are as short as can be: of two units, because torch's antialiased kernels do not
    resize an axis beside one of a single unit. All of their units are alike.
    """
    size, units = op.tensor(0).shape[-axes:][axis], op.shape[-axes:][axis]
    shape = [size if a == axis else 1 for a in range(axes)]
    repeats = [1 if a == axis else 2 for a in range(axes)]
    eye = torch.eye(size, dtype=torch.float64).view(size, 1, *shape).repeat(1, 1, *repeats)
    given = dict(op.given)
    given[next(iter(given))] = eye
    given["output_size"] = [units if a == axis else 2 for a in range(axes)]
    out = op.step.func(**given)
    weights = out.movedim(axis - axes, -1)[:, 0].reshape(size, -1, units)[:, 0].abs()
    return torch.where(weights > _TINY, weights, 0)


def _matmul(op: Op) -> Any:
    """Of two maps the sums over the inner dimension, each spread over the other's."""
    names = [n for n in op.given if n in ("self", "mat1", "mat2", "batch1", "batch2", "vec",
                                          "input", "weight", "vec2")]  # fmt: skip
    bias = "self" if {"mat1", "batch1"} & set(names) else "bias"
    a, b = [n for n in names if n != bias][:2]
    out = torch.zeros(op.shape, dtype=torch.float64)
    if op.name == "linear" or op.named(a).dim() < 2 or op.named(b).dim() < 2:  # type: ignore[union-attr]
        if op.named(b).requires_grad or op.named(a).dim() < 2:  # type: ignore[union-attr]
            return Poison(f"{op.name} of two maps")
        return _contracted(op, a, b, -1, op.shape[-1])
    if op.named(a).requires_grad:  # type: ignore[union-attr]
        out = out + _contracted(op, a, b, -1, op.shape[-1])
    if op.named(b).requires_grad:  # type: ignore[union-attr]
        keys = _contracted(op, b, a, -2, op.shape[-2])
        # where both have positions, as queries and keys do, the left one's are kept: what all the
        # others are is a function of the whole image
        out = out + (keys.detach() if _queried(op, a, b) else keys)
    added = op.named(bias)
    return out + added if added is not None and added.requires_grad else out


def _queried(op: Op, a: str, b: str) -> bool:
    """Return True if rows of the left and columns of the right matrix both are positions."""
    left, right = op.named(a), op.named(b)
    if left is None or right is None or not left.requires_grad:
        return False
    return op.whole(op.number(a), [left.dim() - 2]) and op.whole(op.number(b), [right.dim() - 1])


def _contracted(op: Op, name: str, other: str, dim: int, spread: int) -> Tensor:
    """A weighted mean over one dimension, spread over the other operand's."""
    value, number, key = op.named(name), op.number(name), op.number(other)
    assert value is not None  # noqa: S101
    size = value.shape[dim]
    u = op.replay.weight(key, "in", size) / size
    mean = torch.tensordot(value, u, ([value.dim() + dim], [0])).unsqueeze(dim)
    other_too = op.named(other).requires_grad  # type: ignore[union-attr]
    if op.whole(number, [dim]) and not (other_too and op.constant_along(value, dim)):
        mean = mean.detach()
    v = op.replay.weight(key, "out", spread).view(-1, *(1,) * (-1 - dim))
    spread_out: Tensor = mean * v
    return spread_out


def _attention(op: Op) -> Any:
    """softmax(q k') v: every query sees itself, and all keys and values."""
    query, key, value = op.named("query"), op.named("key"), op.named("value")
    assert query is not None and key is not None and value is not None  # noqa: S101, PT018
    out = query.mean(-1, keepdim=True).expand(op.shape)
    for name in ("key", "value"):
        out = out + op.mean(name, [-2, -1] if name == "key" else [-2])
    return out


def _split(names: str) -> list[str]:
    return names.split()


AS_IT_IS = frozenset(
    _split(
        "view _unsafe_view reshape _reshape_alias permute transpose t expand repeat squeeze "
        "unsqueeze slice narrow select split split_with_sizes unsafe_split chunk unbind cat stack "
        "clone contiguous alias lift_fresh copy constant_pad_nd reflection_pad1d reflection_pad2d "
        "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d roll flip "
        "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im unfold "
        "tril triu index index_select gather upsample_nearest1d upsample_nearest2d "
        "upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
        "_upsample_nearest_exact3d rot90 diagonal neg movedim slice_scatter select_scatter zero "
        "fill masked_fill index_put index_add index_copy index_fill scatter scatter_add take put "
        "diagonal_scatter diag_embed"
    )
)

STAND_INS: dict[str, StandIn] = {
    **dict.fromkeys(
        _split(
            "relu relu6 hardtanh clamp clamp_min clamp_max leaky_relu prelu _prelu_kernel silu "
            "gelu "
            "hardswish hardsigmoid sigmoid tanh elu celu mish softplus log_sigmoid_forward "
            "hardshrink softshrink threshold rrelu_with_noise abs exp log log2 log10 log1p sqrt "
            "rsqrt square erf sin cos sign reciprocal nan_to_num native_dropout dropout "
            "_to_copy detach ceil floor round "
            "quantize_per_tensor quantize_per_channel dequantize_per_tensor dequantize_per_channel"
        ),
        identity,
    ),
    **dict.fromkeys(
        _split(
            "asin acos atan sinh cosh tan asinh acosh atanh exp2 expm1 erfc erfinv lgamma digamma "
            "sinc trunc frac logit special_i0 i0 sgn angle conj _conj _conj_physical bernoulli "
            "logical_not isnan isinf isfinite signbit bitwise_not real imag positive"
        ),
        identity,
    ),
    **dict.fromkeys(
        _split(
            "gt lt ge le eq ne logical_and logical_or logical_xor bitwise_and bitwise_or "
            "bitwise_xor complex polar xlogy logaddexp logaddexp2 heaviside copysign nextafter "
            "pow float_power true_divide"
        ),
        _sum,
    ),
    **dict.fromkeys(_split("masked_fill masked_scatter"), _masked),
    **dict.fromkeys(_split("sort"), _along),
    **dict.fromkeys(_split("topk kthvalue median nanmedian mode"), _chosen),
    **dict.fromkeys(_split("var_mean std_mean aminmax"), _moments),
    **dict.fromkeys(_split("_fft_r2c _fft_c2c _fft_c2r"), _fourier),
    **dict.fromkeys(
        _split(
            "linalg_inv_ex linalg_matrix_exp linalg_cholesky_ex _linalg_det _linalg_slogdet "
            "_linalg_svd linalg_qr _linalg_eigh linalg_eig linalg_pinv linalg_lu_factor_ex "
            "affine_grid_generator"
        ),
        _mixed,
    ),
    **dict.fromkeys(_split("linalg_cross cross"), _rotated),
    **dict.fromkeys(_split("grid_sampler_2d grid_sampler_3d"), _sampled),
    "embedding": _looked_up,
    "view_as_real": _as_real,
    "view_as_complex": _as_complex,
    "deform_conv2d": _deformable,
    **dict.fromkeys(
        _split("maximum minimum fmax fmin where lerp addcmul addcdiv hypot atan2 fmod remainder"),
        _sum,
    ),
    **dict.fromkeys(_split("mul div floor_divide"), _product),
    **dict.fromkeys(_split("add sub rsub"), _addition),
    **dict.fromkeys(
        _split(
            "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit "
            "_batch_norm_no_update cudnn_batch_norm batch_norm"
        ),
        batch_norm,
    ),
    **dict.fromkeys(_split("native_layer_norm layer_norm _fused_rms_norm rms_norm"), _layer_norm),
    **dict.fromkeys(_split("native_group_norm group_norm"), _group_norm),
    **dict.fromkeys(
        _split("_softmax _safe_softmax softmax _log_softmax log_softmax"), _along
    ),
    **dict.fromkeys(
        _split(
            "mean sum nansum amax amin max min prod logsumexp var std linalg_vector_norm norm any "
            "all"
        ),
        _reduction,
    ),
    **dict.fromkeys(_split("convolution _convolution convolution_overrideable"), _convolution),
    **dict.fromkeys(
        _split(
            "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d "
            "avg_pool1d avg_pool2d avg_pool3d"
        ),
        _pool,
    ),
    **dict.fromkeys(
        _split(
            "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"
        ),
        _adaptive_pool,
    ),
    **dict.fromkeys(
        _split(
            "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
            "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
        ),
        _interpolation,
    ),
    **dict.fromkeys(_split("mm bmm addmm baddbmm mv addmv linear"), _matmul),
    **dict.fromkeys(
        _split(
            "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
            "_scaled_dot_product_attention_math _scaled_dot_product_flash_attention "
            "_scaled_dot_product_efficient_attention "
            "_scaled_dot_product_fused_attention_overrideable"
        ),
        _attention,
    ),
    "as_strided": restrided,
    **dict.fromkeys(_split("cumsum cumprod logcumsumexp cummax cummin"), _cumulative),
    "glu": _glu,
}  # fmt: skip
