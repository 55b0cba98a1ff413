"""The operation table: what every operation costs, in one entry each.

A new operation is added here and nowhere else. An entry holds

* `family`: what the operation is (see `Family`): a convolution, a norm, a view ...
* `kind`: how the operation is treated (see `Kind`),
* `macs`: its multiply-accumulates as *named factors*, whose product is the number. The factors
  are what an explanation prints, so the number and the explanation cannot disagree.
* `steps`: element operations, one per element per arithmetic step, as named factors too.
* `how`: what the steps are, in words.
* `field`: how receptive fields pass through it, one of the rules of `ops/fields`; without
  one, they are unknown from there on.

MACs are counted for convolutions, linear layers, matrix products (attention's included) and
recurrent cells, the usage of papers since AlexNet ("multiply-adds" in Howard et al., MobileNets,
2017, section 3.1). Steps are counted per output element, with every transcendental function
(exp, tanh, erf, ...) as one step.

Formulas read shapes and attributes only. Shapes are N, C, then the spatial axes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial, wraps
from math import ceil, log2, prod

from cnnscope.ops import factorizations
from cnnscope.ops.fields import indexing, masks, rules, sequences
from cnnscope.ops.operation import Op as Op  # noqa: PLC0414  formulas know it from here
from cnnscope.records import OpRecord, Shape, Trace

Factors = Mapping[str, int | Shape]  # a shape stands for the product of its sizes


class Kind(Enum):
    """How an operation is treated."""

    PRODUCT = "product"  # multiply-accumulates
    ELEMENT = "element"  # arithmetic per element
    REARRANGE = "rearrange"  # moves, copies or selects data: no arithmetic
    CREATE = "create"  # makes data from nothing: constants, grids, empty buffers
    UNKNOWN = "unknown"  # not in the table


class Family(Enum):
    """What an operation is. Programs ask this; labels are for people."""

    CONVOLUTION = "convolution"
    DEFORMABLE_CONVOLUTION = "deformable convolution"
    LINEAR = "linear"
    QUANTISED_CONVOLUTION = "quantised convolution"  # with a weight that is packed, and no tensor
    QUANTISED_LINEAR = "quantised linear"
    MATMUL = "matrix product"
    BILINEAR = "bilinear"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    OTHER_PRODUCT = "other product"
    ADD = "add"
    MULTIPLY = "multiply"
    ELEMENTWISE = "elementwise"  # any other arithmetic, position by position
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    DROPOUT = "dropout"
    BATCH_NORM = "batch norm"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    RMS_NORM = "rms norm"
    WEIGHT_NORM = "weight norm"
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    MEAN = "mean"
    REDUCTION = "reduction"
    CUMULATIVE = "cumulative"
    RESAMPLE = "resample"  # on a regular grid: upsampling
    REGION_POOL = "region pool"  # of boxes
    VIEW = "view"
    PERMUTE = "permute"
    COPY = "copy"  # the same values at the same positions
    CONCATENATE = "concatenate"
    SLICE = "slice"
    PAD = "pad"
    ROLL = "roll"
    FLIP = "flip"
    PIXEL_SHUFFLE = "pixel shuffle"
    EMPTY = "empty"  # memory that nothing is written to
    OTHER = "other"


NORMS = frozenset(
    (
        Family.BATCH_NORM,
        Family.LAYER_NORM,
        Family.GROUP_NORM,
        Family.RMS_NORM,
        Family.WEIGHT_NORM,
    )
)
POOLS = frozenset((Family.MAX_POOL, Family.AVERAGE_POOL))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table knows about an operation."""

    label: str
    kind: Kind
    family: Family
    macs: Callable[[Op], tuple[Factors, ...]] = lambda _: ()
    steps: Callable[[Op], tuple[Factors, ...]] = lambda _: ()
    field: rules.Rule | None = None
    how: str = ""
    parts: tuple[str, ...] = ()  # names of its products, where there are several
    random: bool = False  # another call gives another result

    @property
    def computes(self) -> bool:
        """True if it does arithmetic, as far as is known."""
        return self.kind not in (Kind.REARRANGE, Kind.CREATE)

    @property
    def multiplies(self) -> bool:
        """True if it has multiply-accumulates."""
        return self.kind is Kind.PRODUCT

    @property
    def elementwise(self) -> bool:
        """True if an output depends on the inputs at its own position alone."""
        return self.field is rules.elementwise


TABLE: dict[str, Entry] = {}


def lookup(name: str) -> Entry:
    """Find the entry of an operation; one of `Kind.UNKNOWN` if there is none.

    Args:
        name: in full, "aten.add_.Tensor".
    """
    return TABLE.get(base_name(name)) or _unknown(name)


@cache
def _unknown(name: str) -> Entry:
    return Entry(base_name(name), Kind.UNKNOWN, Family.OTHER)


@cache
def base_name(name: str) -> str:
    """The name that the table uses: no aten namespace, no overload, no in-place underscore."""
    namespace, _, rest = name.partition(".")
    base = rest.partition(".")[0]
    if len(base) > 1 and base.endswith("_") and not base.endswith("__"):
        base = base[:-1]
    return base if namespace == "aten" else f"{namespace}.{base}"


def macs(trace: Trace, record: OpRecord) -> int:
    """Multiply-accumulates of one operation, 0 if the table does not know it."""
    return sum(map(product, lookup(record.name).macs(Op(trace, record))))


def element_ops(trace: Trace, record: OpRecord) -> int:
    """Element operations of one operation, 0 if the table does not know it."""
    return sum(map(product, lookup(record.name).steps(Op(trace, record))))


def product(factors: Factors) -> int:
    """Product of named factors."""
    return prod(prod(f) if isinstance(f, tuple) else f for f in factors.values())


# ------------------------------------------------------------------------- complex numbers

# Of the last of the three real convolutions that torch computes a complex one by: the places of
# the other two (aten/src/ATen/native/Convolution.cpp, `complex_convolution`).
COMPLEX_PARTS = "complex_parts"
_NO_FACTORS = frozenset("bias attn_bias attn_mask".split())  # they are added


def _real(op: Op) -> Factors:
    """The real multiply-accumulates of one complex one: 4, or 2 with a real number.

    (a + bi)(c + di) = ac - bd + (ad + bc)i. torch adds numbers first and needs three products; the
    third of these convolutions stands for two, so that all three count four.
    """
    if op.get(COMPLEX_PARTS):
        return {"real products": 2}
    added = _NO_FACTORS | ({"self"} if op.has("mat1") or op.has("batch1") else set())
    dtypes = [
        op.trace.tensors[tensor].dtype
        for name, tensor in op.record.arguments()
        if name not in added
    ]
    complex_ = sum("complex" in dtype for dtype in dtypes)
    if not complex_:
        return {}
    return {"real MACs of a complex one": 4 if complex_ == len(dtypes) else 2}


def real_products(trace: Trace, record: OpRecord) -> int:
    """How many real products each multiply-accumulate of an operation stands for."""
    return product(_real(Op(trace, record)))


def is_complex(trace: Trace, record: OpRecord) -> bool:
    """Return True if an operation multiplies complex numbers."""
    return lookup(record.name).multiplies and bool(_real(Op(trace, record)))


# ---------------------------------------------------------------------------- registration


def _enter(names: str, entry: Entry) -> None:
    for name in names.split():
        if name in TABLE:
            raise ValueError(f"{name} has two entries")
        TABLE[name] = entry


Formula = Callable[[Op], tuple[Factors, ...]]


def _product(
    family: Family,
    label: str,
    names: str,
    steps: Formula = lambda _: (),
    field: rules.Rule | None = None,
    how: str = "",
    parts: tuple[str, ...] = (),
) -> Callable[[Formula], Formula]:
    """Register a multiply-accumulate formula."""

    def register(formula: Formula) -> Formula:
        @wraps(formula)
        def counted(op: Op) -> tuple[Factors, ...]:
            real = _real(op)
            return tuple({**one, **real} for one in formula(op)) if real else formula(op)

        _enter(names, Entry(label, Kind.PRODUCT, family, counted, steps, field, how, parts))
        return counted

    return register


def _factors(steps: int, what: str, shape: Shape) -> tuple[Factors, ...]:
    return ({f"steps for each {what} element": steps, f"{what} elements": shape},)


def _per_output(
    label: str,
    steps: int,
    names: str,
    field: rules.Rule | None = rules.elementwise,
    how: str = "",
    family: Family = Family.ELEMENTWISE,
    *,
    random: bool = False,
) -> None:
    """Register operations that take a fixed number of steps for each output element."""

    def count(op: Op) -> tuple[Factors, ...]:
        return _factors(steps, "output", op.out)

    entry = Entry(label, Kind.ELEMENT, family, steps=count, field=field, how=how, random=random)
    _enter(names, entry)


_activation = partial(_per_output, family=Family.ACTIVATION)


def _per_input(
    label: str,
    steps: int,
    names: str,
    field: rules.Rule | None = rules.reduction,
    how: str = "",
    family: Family = Family.REDUCTION,
) -> None:
    """Register operations that take a fixed number of steps for each input element."""

    def count(op: Op) -> tuple[Factors, ...]:
        return _factors(steps, "input", op.first)

    _enter(names, Entry(label, Kind.ELEMENT, family, steps=count, field=field, how=how))


def _each(
    kind: Kind,
    names: str,
    field: rules.Rule | None = None,
    family: Family = Family.OTHER,
    *,
    random: bool = False,
) -> None:
    """Register operations without arithmetic, each labelled with its own name."""
    for name in names.split():
        label = name.rpartition(".")[2].strip("_").replace("_", " ")
        _enter(name, Entry(label, kind, family, field=field, random=random))


# ------------------------------------------------------------------------ matrix products


@_product(
    Family.CONVOLUTION,
    "conv",
    "convolution _convolution conv1d conv2d conv3d mkldnn_convolution",
    field=rules.convolution,
)
def convolution(op: Op) -> tuple[Factors, ...]:
    """Each output position of each output channel is a dot product over one group's window.

    A transposed convolution scatters instead: each *input* position meets the whole kernel once.
    """
    data, weight = op.shape("input"), op.shape("weight")
    spatial = len(weight) - 2
    transposed = bool(op.get("transposed", False))
    where = data if transposed else op.out
    batch = where[0] if len(where) == len(weight) else 1
    inside = ("in channels", "out channels per group")
    names = inside if transposed else ("out channels", "in channels per group")
    return (
        {
            "batch": batch,
            "input positions" if transposed else "output positions": where[-spatial:],
            names[0]: weight[0],
            names[1]: weight[1],
            "kernel": weight[2:],
        },
    )


@_product(
    Family.DEFORMABLE_CONVOLUTION,
    "deformable conv",
    "torchvision.deform_conv2d",
    field=rules.deformable,
)
def deformable_convolution(op: Op) -> tuple[Factors, ...]:
    """A convolution at sampled positions (Dai et al. 2017, section 2.1)."""
    weight, out = op.shape("weight"), op.out
    return (
        {
            "batch": out[0],
            "output positions": out[2:],
            "out channels": weight[0],
            "in channels per group": weight[1],
            "kernel": weight[2:],
        },
    )


def _quantised(kinds: str, *ends: str) -> str:
    return " ".join(f"quantized.{kind}{end}" for kind in kinds.split() for end in ("", *ends))


def packed_weight(op: Op) -> Shape:
    """Shape of the weight that a quantised operation is given packed, () where it is not told."""
    given = next((op.get(name) for name in _PACKED if op.get(name)), ())
    return given if isinstance(given, tuple) else ()


_PACKED = ("packed_weight", "W_prepack", "weight")


@_product(
    Family.QUANTISED_CONVOLUTION,
    "quantised conv",
    _quantised("conv1d conv2d conv3d", "_relu", "_dynamic", "_add", "_add_relu")
    + " "
    + _quantised("conv_transpose1d conv_transpose2d conv_transpose3d", "_dynamic"),
)
def quantised_convolution(op: Op) -> tuple[Factors, ...]:
    """As `convolution`; the packed weight is (O, I / groups, kernel), or (I, O / groups, kernel).

    That of a 1-D convolution has a second axis of one.
    """
    weight, transposed = packed_weight(op), "transpose" in op.record.name
    if len(weight) < 3:
        return ()
    where = op.first if transposed else op.out
    inside = ("in channels", "out channels per group")
    names = inside if transposed else ("out channels", "in channels per group")
    return (
        {
            "batch": where[0],
            "input positions" if transposed else "output positions": where[2:],
            names[0]: weight[0],
            names[1]: weight[1],
            "kernel": weight[2:],
        },
    )


@_product(
    Family.QUANTISED_LINEAR,
    "quantised linear",
    _quantised("linear", "_relu", "_leaky_relu", "_tanh", "_dynamic", "_dynamic_fp16")
    + " quantized.linear_relu_dynamic quantized.linear_relu_dynamic_fp16",
)
def quantised_linear(op: Op) -> tuple[Factors, ...]:
    """As `linear`; the weight is packed, and its sizes are those of input and output."""
    *positions, out_features = op.out
    return (
        {
            "positions": prod(positions),
            "in features": op.first[-1],
            "out features": out_features,
        },
    )


def _matrix_product(a: Shape, b: Shape) -> tuple[Factors, ...]:
    batch = a[:-2]
    factors: Factors = {"rows": a[-2], "inner": a[-1], "columns": b[-1]}
    return ({"batch": batch, **factors} if batch else factors,)


@_product(Family.MATMUL, "matmul", "mm bmm _int_mm _scaled_mm _scaled_mm_v2", field=rules.matmul)
def matrix_product(op: Op) -> tuple[Factors, ...]:
    """(..., rows, inner) by (..., inner, columns)."""
    return _matrix_product(op.shape("self"), op.shape("mat2"))


@_product(Family.MATMUL, "matmul", "addmm", field=rules.matmul)
def added_matrix_product(op: Op) -> tuple[Factors, ...]:
    """A matrix product whose sums begin at a bias."""
    return _matrix_product(op.shape("mat1"), op.shape("mat2"))


@_product(Family.MATMUL, "matmul", "baddbmm", field=rules.matmul)
@_product(Family.MATMUL, "matmul", "addbmm")
def added_batched_product(op: Op) -> tuple[Factors, ...]:
    """A batched matrix product whose sums begin at another tensor."""
    return _matrix_product(op.shape("batch1"), op.shape("batch2"))


@_product(Family.MATMUL, "matmul", "mv addmv")
def matrix_vector_product(op: Op) -> tuple[Factors, ...]:
    """(rows, inner) by (inner)."""
    matrix = op.shape("mat") if op.has("mat") else op.shape("self")
    return ({"rows": matrix[0], "inner": matrix[1]},)


@_product(Family.MATMUL, "matmul", "_weight_int8pack_mm _weight_int4pack_mm")
def packed_matrix_product(op: Op) -> tuple[Factors, ...]:
    """A product with packed weights, whose columns are those of the result."""
    return ({"rows": op.out[0], "inner": op.first[-1], "columns": op.out[1]},)


@_product(Family.OTHER_PRODUCT, "affine grid", "affine_grid_generator")
def affine_grid(op: Op) -> tuple[Factors, ...]:
    """Every position in homogeneous coordinates times its image's matrix (Jaderberg 2015, 3.2)."""
    batch, axes, homogeneous = op.shape("theta")
    positions = op.out[1:-1]
    return (
        {"batch": batch, "positions": positions, "homogeneous": homogeneous, "coordinates": axes},
    )


@_product(Family.OTHER_PRODUCT, "matrix exponential", "linalg_matrix_exp")
def matrix_exponential(op: Op) -> tuple[Factors, ...]:
    """A Taylor polynomial of degree 18 takes 5 products (Bader, Blanes and Casas 2019, table 1).

    The squarings after it depend on the norm of the matrix and are not counted.
    """
    *batch, size, _ = op.first
    return ({"matrices": tuple(batch), "products": 5, "n^3": size**3},)


@_product(Family.OTHER_PRODUCT, "dot", "dot vdot")
def dot_product(op: Op) -> tuple[Factors, ...]:
    """One multiply-accumulate per element."""
    return ({"elements": op.shape("self")},)


@_product(Family.LINEAR, "linear", "linear mkldnn_linear", field=rules.linear_layer)
def linear(op: Op) -> tuple[Factors, ...]:
    """Every leading position of the output is a row of products with the weight."""
    out_features, in_features = op.shape("weight")[-2:]
    positions = prod(op.out) // out_features
    return ({"positions": positions, "in features": in_features, "out features": out_features},)


@_product(Family.BILINEAR, "bilinear", "_trilinear")
def trilinear(op: Op) -> tuple[Factors, ...]:
    """`nn.Bilinear`: every output is a sum over pairs of inputs (and their products)."""
    left, weight = op.shape("i1"), op.shape("i2")
    return ({"batch": left[0], "weight": weight, "products": 2},)


@_product(
    Family.ATTENTION,
    "attention",
    "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math "
    "_scaled_dot_product_attention_math_for_mps scaled_dot_product_attention",
    steps=lambda op: (
        {
            "steps for each score": 6,
            "batch, heads and queries": op.shape("query")[:-1],
            "keys": op.shape("key")[-2],
        },
    ),
    field=rules.attention,
    how="scale; softmax: max, subtract, exp, sum, divide",
    parts=("QK^T", "attention * V"),
)
def attention(op: Op) -> tuple[Factors, ...]:
    """Scores QK^T and their product with V (Vaswani et al. 2017, section 3.2.1)."""
    query, key, value = op.shape("query"), op.shape("key"), op.shape("value")
    common: Factors = {"batch and heads": query[:-2], "queries": query[-2], "keys": key[-2]}
    return ({**common, "query features": query[-1]}, {**common, "value features": value[-1]})


def _recurrent_steps(op: Op) -> tuple[Factors, ...]:
    """Bias and gates of each unit and time step: 22 for an LSTM (4 gates), 16 for a GRU (3)."""
    gates = op.shape("weight1")[0] // op.shape("weight1")[1]
    return _factors({4: 22, 3: 16}.get(gates, 2), "output", op.out)


@_product(
    Family.RECURRENT,
    "recurrent layer",
    "mkldnn_rnn_layer",
    steps=_recurrent_steps,
    field=sequences.recurrent,
    how="bias and gates of each unit",
    parts=("input to gates", "hidden to gates"),
)
def fused_recurrent_layer(op: Op) -> tuple[Factors, ...]:
    """One layer of a recurrent network: both products of every gate, at every time step.

    weight0 is (gates x hidden, input), weight1 is (gates x hidden, hidden).
    """
    positions = op.shape("input")[:-1]
    return (
        {"time steps and batch": positions, "input weights": op.shape("weight0")},
        {"time steps and batch": positions, "hidden weights": op.shape("weight1")},
    )


@_product(Family.RECURRENT, "recurrent network", "_cudnn_rnn miopen_rnn")
def fused_recurrent_network(op: Op) -> tuple[Factors, ...]:
    """All layers and directions at once: every weight matrix meets every time step."""
    positions = op.shape("input")[:-1]
    matrices = sum(prod(shape) for shape in op.shapes("weight") if len(shape) == 2)
    return ({"time steps and batch": positions, "weights of all layers": matrices},)


# ----------------------------------------------------------------------- element operations

# One step: the result is one arithmetic or comparing instruction per element.
_activation("relu", 1, "relu threshold clamp_min clamp_max", how="max(x, 0): one comparison")
_per_output("add", 1, "add", family=Family.ADD)
_per_output("sub", 1, "sub rsub")
_per_output("mul", 1, "mul", family=Family.MULTIPLY)
_per_output("div", 1, "div true_divide floor_divide")
for _name in (
    "neg abs sign ceil floor round trunc frac reciprocal sqrt square exp exp2 expm1 log log2 log10 "
    "log1p sin cos tan asin acos atan atan2 sinh cosh tanh erf erfc erfinv pow float_power "
    "remainder fmod maximum minimum fmax fmin eq ne lt le gt ge logical_and logical_or logical_xor "
    "logical_not __lshift__ __rshift__ bitwise_and bitwise_or bitwise_xor bitwise_not isnan isinf "
    "isfinite lerp hypot sgn angle acosh asinh atanh copysign "
    "deg2rad rad2deg digamma lgamma frexp gcd lcm heaviside i0 igamma igammac isneginf isposinf "
    "ldexp mvlgamma nextafter polygamma signbit sinc bitwise_left_shift bitwise_right_shift xlogy "
    "special_xlog1py special_entr special_erfcx special_i0e special_i1 special_i1e "
    "special_log_ndtr special_ndtri special_ndtr special_zeta special_airy_ai special_bessel_j0 "
    "special_bessel_j1 special_bessel_y0 special_bessel_y1 special_modified_bessel_i0 "
    "special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1 "
    "special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1 "
    "special_spherical_bessel_j0"
).split():
    _per_output(_name.replace("_", " "), 1, _name)
_per_output("native dropout", 1, "native_dropout", family=Family.DROPOUT, random=True)
_per_output("where", 1, "where", masks.where)
_per_output("masked fill", 1, "masked_fill", masks.masked_fill)
_cumulative = partial(_per_output, field=rules.cumulative, family=Family.CUMULATIVE)
_cumulative("cumsum", 1, "cumsum")
_cumulative("cumprod", 1, "cumprod")
_cumulative("cumulative maximum", 1, "cummax cummin")
_cumulative("cumulative logsumexp", 3, "logcumsumexp")
_per_output("logaddexp", 5, "logaddexp logaddexp2", how="max, subtract, exp, log1p, add")
_per_output("logit", 3, "logit", how="subtract, divide, log")
_per_output(
    "quantise",
    5,
    "quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic",
    how="divide, round, add, two comparisons",
)
_per_output("dequantise", 2, "dequantize", how="subtract, multiply")
_per_output(
    "fake quantise",
    7,
    "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams "
    "_fake_quantize_learnable_per_tensor_affine _fake_quantize_learnable_per_channel_affine "
    "_fused_moving_avg_obs_fq_helper fused_moving_avg_obs_fake_quant",
    how="divide, round, add, two comparisons, subtract, multiply",
)
_activation("clamp", 2, "clamp hardtanh", how="two comparisons")
_activation("relu6", 2, "relu6")
_activation("leaky relu", 2, "leaky_relu", how="compare, multiply")
_activation("rrelu", 2, "rrelu_with_noise", how="compare, multiply", random=True)
_activation("prelu", 2, "prelu _prelu_kernel", how="compare, multiply")
_per_output("rsqrt", 2, "rsqrt", how="sqrt, reciprocal")
_per_output("multiply-add", 2, "addcmul")
_per_output("divide-add", 2, "addcdiv")
_activation("sigmoid", 4, "sigmoid", how="negate, exp, add, reciprocal")
_activation("log sigmoid", 4, "log_sigmoid_forward", how="negate, exp, add, log")
_activation("silu", 5, "silu", how="sigmoid, multiply")
_activation("gelu", 5, "gelu", how="divide, erf, add, multiply, halve")
_activation("hard sigmoid", 4, "hardsigmoid", how="add, two comparisons, divide")
_activation("hard swish", 5, "hardswish", how="hard sigmoid, multiply")
_activation("elu", 4, "elu celu", how="compare, exp, subtract, multiply")
_activation("softplus", 3, "softplus", how="exp, add, log")
_activation("mish", 5, "mish", how="softplus, tanh, multiply")
_activation("hard shrink", 2, "hardshrink softshrink")
_activation("glu", 5, "glu", rules.halved, how="sigmoid of one half, multiply")
_per_output("polar", 4, "polar", how="sine, cosine, two multiplications")
_per_output(
    "softmax",
    5,
    "_softmax _safe_softmax softmax",
    rules.along,
    how="max, subtract, exp, sum, divide",
    family=Family.SOFTMAX,
)
_per_output(
    "log softmax",
    5,
    "_log_softmax log_softmax",
    rules.along,
    how="max, subtract, exp, sum, subtract",
    family=Family.ACTIVATION,
)
_enter(
    "_cdist_forward _euclidean_dist _pdist_forward",
    Entry(
        "distance",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: (
            {"steps for each feature": 3, "pairs": op.out, "features": op.first[-1]},
        ),
        how="subtract, raise, sum",
    ),
)
_per_output(
    "weight norm",
    3,
    "_weight_norm_interface _weight_norm",
    None,
    how="square, sum, scale",
    family=Family.WEIGHT_NORM,
)
_per_output("nan to num", 1, "nan_to_num")

# Reductions: one step per element that goes in.
for _name in (
    "sum prod amax amin max min argmax argmin any all logsumexp aminmax median count_nonzero"
).split():
    _per_input(_name, 1, _name)
for _name in "_is_all_true _is_any_true nansum nanmedian".split():
    _per_input(_name.strip("_").replace("_", " "), 1, _name)
_per_input("mean", 1, "mean", family=Family.MEAN)
_per_input("count", 1, "bincount unique_consecutive hash_tensor", None, "one addition each")
_per_input(
    "histogram",
    4,
    "histc histogram _histogramdd_from_bin_cts _histogramdd_from_bin_tensors",
    None,
    "subtract, multiply, round, count",
)
_per_input("distance", 3, "dist", None, "subtract, raise, sum")
_per_input("renorm", 3, "renorm embedding_renorm", None, "square, sum, scale")
_per_output("cross product", 3, "linalg_cross", None, "two multiplications, subtract")
_per_output("addr", 2, "addr", None, how="multiply, add")
_enter(
    "scatter_add index_add scatter_reduce index_reduce",
    Entry(
        "scatter add",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: _factors(1, "added", op.shape(op.last)),
    ),
)
_enter(
    "_embedding_bag _embedding_bag_forward_only",
    Entry(
        "embedding bag",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: ({"indices": op.shape("indices"), "features": op.shape("weight")[-1]},),
    ),
)
_per_input("variance", 3, "var std var_mean std_mean", how="subtract mean, square, sum")
_per_input("norm", 2, "linalg_vector_norm norm", how="square, sum")


_NORM = "mean; variance: subtract, square, sum; scale; weight and bias where there are any"


def _norm_steps(op: Op) -> tuple[Factors, ...]:
    """Mean (1), variance (3: subtract, square, sum), scale (1); weight and bias one each."""
    return _factors(5 + op.has("weight") + op.has("bias"), "input", op.shape("input"))


def _batch_norm_steps(op: Op) -> tuple[Factors, ...]:
    """With constant statistics y = a x + b, two steps; else as any other norm."""
    return _norm_steps(op) if op.get("training", False) else _factors(2, "output", op.out)


_enter(
    "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit "
    "_batch_norm_no_update _batch_norm_with_update cudnn_batch_norm batch_norm",
    Entry(
        "batch norm",
        Kind.ELEMENT,
        Family.BATCH_NORM,
        steps=_batch_norm_steps,
        field=rules.batch_norm,
        how="y = a*x + b; a and b are constants but where it takes statistics of its own",
    ),
)
_enter(
    "native_layer_norm layer_norm",
    Entry(
        "norm",
        Kind.ELEMENT,
        Family.LAYER_NORM,
        steps=_norm_steps,
        field=rules.layer_norm,
        how=_NORM,
    ),
)
_enter(
    "native_group_norm group_norm",
    Entry(
        "norm",
        Kind.ELEMENT,
        Family.GROUP_NORM,
        steps=_norm_steps,
        field=rules.group_norm,
        how=_NORM,
    ),
)
_per_output(
    "rms norm",
    4,
    "_fused_rms_norm rms_norm",
    rules.layer_norm,
    how="square, sum, scale, weight",
    family=Family.RMS_NORM,
)


def _window(op: Op) -> Shape:
    kernel = op.get("kernel_size", ())
    axes = op.axes or 2
    return tuple(kernel) if len(kernel) == axes else tuple(kernel) * axes


_WINDOW = "one comparison or addition for each element of each window"


def _pool_steps(op: Op) -> tuple[Factors, ...]:
    """One comparison or addition per element of each window."""
    return ({"output elements": op.out, "window": _window(op)},)


def _pool(family: Family, label: str, names: str, field: rules.Rule | None = rules.pool) -> None:
    """Register pools whose windows all have one size."""
    entry = Entry(label, Kind.ELEMENT, family, steps=_pool_steps, field=field, how=_WINDOW)
    _enter(names, entry)


_pool(
    Family.MAX_POOL,
    "max pool",
    "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d "
    "mkldnn_max_pool2d mkldnn_max_pool3d",
)
_pool(Family.MAX_POOL, "max pool", "fractional_max_pool2d fractional_max_pool3d", None)
_pool(Family.AVERAGE_POOL, "avg pool", "avg_pool1d avg_pool2d avg_pool3d")
_per_input(
    "adaptive avg pool",
    1,
    "_adaptive_avg_pool2d _adaptive_avg_pool3d",
    rules.adaptive_pool,
    family=Family.AVERAGE_POOL,
)
_per_input(
    "adaptive max pool",
    1,
    "adaptive_max_pool2d adaptive_max_pool3d",
    rules.adaptive_pool,
    family=Family.MAX_POOL,
)

# Interpolation: a multiplication and an addition for each tap.
_upsample = partial(_per_output, family=Family.RESAMPLE)
_upsample("upsample linear", 4, "upsample_linear1d", rules.linear)
_upsample("upsample bilinear", 8, "upsample_bilinear2d", rules.linear)
_upsample("upsample bilinear", 8, "_upsample_bilinear2d_aa", rules.antialiased)
_upsample("upsample trilinear", 16, "upsample_trilinear3d", rules.linear)
_upsample("upsample bicubic", 32, "upsample_bicubic2d", rules.cubic)
_upsample("upsample bicubic", 32, "_upsample_bicubic2d_aa", rules.antialiased_cubic)
_per_output("grid sample", 8, "grid_sampler_2d cudnn_grid_sampler", None)
_per_output("grid sample", 16, "grid_sampler_3d", None)
_each(
    Kind.REARRANGE,
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d",
    rules.nearest,
    Family.RESAMPLE,
)
_each(
    Kind.REARRANGE,
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d",
    rules.nearest_exact,
    Family.RESAMPLE,
)


def _roi_steps(op: Op) -> tuple[Factors, ...]:
    """Four taps (multiply, add) for each sampling point of each bin (He et al. 2017, 3)."""
    ratio = op.get("sampling_ratio", 0)
    points = ratio * ratio if ratio > 0 else 4
    return ({"output elements": op.out, "steps for each sampling point": 8, "points": points},)


_enter(
    "torchvision.roi_align torchvision.ps_roi_align",
    Entry(
        "roi align",
        Kind.ELEMENT,
        Family.REGION_POOL,
        steps=_roi_steps,
        how="multiply and add for each of four taps",
    ),
)
_per_output(
    "roi pool",
    1,
    "torchvision.roi_pool torchvision.ps_roi_pool",
    None,
    family=Family.REGION_POOL,
)


def _nms_steps(op: Op) -> tuple[Factors, ...]:
    """At most every pair of boxes is compared: 4 bounds, 2 sides, areas, ratio (9 steps)."""
    boxes = op.shape("dets")[0]
    return ({"steps for each pair": 9, "pairs of boxes": boxes * (boxes - 1) // 2},)


def _sort_steps(op: Op) -> tuple[Factors, ...]:
    """Comparisons of a merge sort, n log2 n."""
    size = prod(op.first)
    return ({"elements": op.first, "comparisons of each": ceil(log2(size)) if size > 1 else 0},)


_enter(
    "torchvision.nms",
    Entry(
        "nms",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_nms_steps,
        how="bounds, sides, areas and ratio, at most",
    ),
)
_enter(
    "_unique2 unique_dim",
    Entry("sort", Kind.ELEMENT, Family.OTHER, steps=_sort_steps, how="merge sort, n log2 n"),
)
_enter(
    "sort argsort topk kthvalue mode",
    Entry(
        "sort",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_sort_steps,
        field=sequences.ordered,
        how="merge sort, n log2 n",
    ),
)
_enter(
    "msort",
    Entry("sort", Kind.ELEMENT, Family.OTHER, steps=_sort_steps, how="merge sort, n log2 n"),
)


def _transform_steps(op: Op) -> tuple[Factors, ...]:
    """5 n log2 n real operations for n complex numbers, half of it for real ones.

    The radix-2 algorithm's count (Cooley and Tukey 1965), which benchmarks use for every n (Frigo
    and Johnson 2005, section IV). They are element operations: no product of matrices is formed.
    """
    whole = max(op.first, op.out, key=prod)  # of real numbers, the half spectrum is smaller
    length = prod(whole[d] for d in op.get("dim", ()))
    real = "c2c" not in op.record.name
    operations = ceil((2.5 if real else 5) * length * log2(max(length, 2)))
    return ({"transforms": prod(whole) // max(length, 1), "operations of each": operations},)


_enter(
    "_fft_r2c _fft_c2c _fft_c2r",
    Entry(
        "fourier transform",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_transform_steps,
        field=sequences.transform,
        how="5 n log2 n for n complex numbers, 2.5 n log2 n for real ones",
    ),
)


def _searches(elements: str, table: str) -> Formula:
    """Comparisons of a binary search among sorted numbers for each element."""

    def count(op: Op) -> tuple[Factors, ...]:
        size = op.shape(table)[-1] if op.shape(table) else 1
        return (
            {
                "elements": op.shape(elements) if op.has(elements) else (),
                "comparisons of each": ceil(log2(size + 1)),
            },
        )

    return count


for _names, _formula in (
    ("bucketize", _searches("self", "boundaries")),
    ("searchsorted", _searches("self", "sorted_sequence")),
    ("isin", _searches("elements", "test_elements")),
):
    _enter(
        _names,
        Entry("search", Kind.ELEMENT, Family.OTHER, steps=_formula, how="binary search, log2 n"),
    )

# ------------------------------------------------------------------------- losses


def _loss(steps: int, names: str, how: str) -> None:
    """Register a loss: steps for each input element, one more to add them up."""

    def count(op: Op) -> tuple[Factors, ...]:
        return _factors(steps + (op.get("reduction", 1) != 0), "input", op.first)

    _enter(
        names,
        Entry(
            "loss", Kind.ELEMENT, Family.OTHER, steps=count, how=f"{how}; sum where it is reduced"
        ),
    )


_loss(2, "mse_loss", "subtract, square")
_loss(5, "huber_loss smooth_l1_loss", "subtract, abs, compare, square, scale")
_loss(4, "soft_margin_loss", "multiply, exp, add, log")
_loss(6, "binary_cross_entropy", "two logarithms, two multiplications, subtract, add")
_loss(7, "binary_cross_entropy_with_logits", "max, multiply, subtract, abs, exp, log1p, add")
_loss(3, "multi_margin_loss", "subtract, add, compare")


def _nll_steps(op: Op) -> tuple[Factors, ...]:
    """The weighted log-probability of each target, and their sum."""
    return _factors(2, "target", op.shape("target"))


_enter(
    "nll_loss_forward nll_loss2d_forward",
    Entry(
        "loss", Kind.ELEMENT, Family.OTHER, steps=_nll_steps, how="multiply, add for each target"
    ),
)
_enter(
    "multilabel_margin_loss_forward",
    Entry(
        "loss",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: (
            {"steps for each pair": 3, "inputs": op.first, "targets": op.first[-1:]},
        ),
        how="subtract, add, compare for each pair of classes",
    ),
)


def _ctc_steps(op: Op) -> tuple[Factors, ...]:
    """Three terms in logarithms for each of 2 S + 1 labels and each time (Graves 2006, 4.1)."""
    times, *batch, _ = op.shape("log_probs")
    labels = 2 * (op.shape("targets") or (1,))[-1] + 1
    return ({"steps for each label": 9, "times": times, "batch": tuple(batch), "labels": labels},)


_enter(
    "_ctc_loss",
    Entry(
        "loss",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_ctc_steps,
        how="max, subtract, exp, add, log of three terms",
    ),
)

# ----------------------------------------------------------------- dense linear algebra


def _decomposition(label: str, names: str, flops: Callable[[Op, int, int], int], how: str) -> None:
    """Register a decomposition by its operations for a matrix of (rows, columns).

    They are element operations and not MACs: MACs are of products of matrices alone.
    """

    def count(op: Op) -> tuple[Factors, ...]:
        *batch, rows, columns = op.first
        return ({"matrices": tuple(batch), "operations of each": flops(op, rows, columns)},)

    _enter(names, Entry(label, Kind.ELEMENT, Family.OTHER, steps=count, how=how))


def _read(op: Op, *positions: int) -> bool:
    """Return True if outputs are read: under a trace, torch asks for vectors that nobody wants."""
    wanted = [op.record.outputs[position] for position in positions]
    return any(t in op.trace.index.readers or t in op.trace.outputs for t in wanted)


def _right(op: Op, name: str) -> int:
    """How many right-hand sides a system has: a vector of them is one."""
    shape, matrix = op.shape(name), op.first
    return shape[-1] if len(shape) >= len(matrix) else 1


_decomposition(
    "LU",
    "linalg_lu linalg_lu_factor_ex _linalg_det _linalg_slogdet",
    lambda _, m, n: factorizations.lu(m, n),
    "2/3 n^3",
)
_decomposition(
    "Cholesky",
    "linalg_cholesky_ex linalg_ldl_factor_ex",
    lambda _, m, __: factorizations.cholesky(m),
    "n^3/3",
)
_decomposition(
    "inverse", "linalg_inv_ex", lambda _, m, __: factorizations.inverse(m), "LU, 2 n^3 in all"
)
_decomposition(
    "inverse",
    "cholesky_inverse",
    lambda _, m, __: 2 * factorizations.cholesky(m),
    "2/3 n^3",
)
_decomposition(
    "solve",
    "_linalg_solve_ex",
    lambda op, m, _: factorizations.lu(m, m) + 2 * factorizations.triangular(m, _right(op, "B")),
    "LU 2/3 n^3, and 2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "linalg_lu_solve linalg_ldl_solve",
    lambda op, m, _: 2 * factorizations.triangular(m, _right(op, "B")),
    "2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "cholesky_solve",
    lambda _, m, n: 2 * factorizations.triangular(m, n),
    "2 n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "linalg_solve_triangular",
    lambda op, m, _: factorizations.triangular(m, _right(op, "B")),
    "n^2 for each right-hand side",
)
_decomposition(
    "solve",
    "triangular_solve",
    lambda _, m, n: factorizations.triangular(m, n),
    "n^2 for each right-hand side",
)
_decomposition(
    "QR",
    "linalg_qr",
    lambda op, m, n: factorizations.qr(m, n, explicit=op.get("mode", "reduced") != "r"),
    "2 n^2 (m - n/3), and as many for Q",
)
_decomposition(
    "QR", "geqrf", lambda _, m, n: factorizations.qr(m, n, explicit=False), "2 n^2 (m - n/3)"
)
_decomposition(
    "QR",
    "linalg_householder_product",
    lambda _, m, n: factorizations.qr(m, n, explicit=False),
    "2 n^2 (m - n/3)",
)
_enter(
    "ormqr",
    Entry(
        "QR",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: (
            {
                "matrices": op.out[:-2],
                "operations of each": factorizations.apply_reflections(
                    op.out[-2], op.out[-1], op.shape("input2")[-1]
                ),
            },
        ),
        how="4 m n k - 2 n k^2",
    ),
)
_decomposition(
    "SVD",
    "_linalg_svd",
    lambda op, m, n: factorizations.svd(m, n, vectors=_read(op, 0, 2)),
    "14 m n^2 + 8 n^3; 4 m n^2 - 4/3 n^3 for values alone",
)
_decomposition(
    "pseudo-inverse",
    "linalg_pinv",
    lambda _, m, n: factorizations.svd(m, n, vectors=True) + 2 * m * n * min(m, n),
    "SVD, and a product",
)
_decomposition(
    "least squares",
    "linalg_lstsq",
    lambda op, m, n: (
        factorizations.qr(m, n, explicit=False)
        + factorizations.apply_reflections(max(m, n), _right(op, "B"), min(m, n))
        + factorizations.triangular(min(m, n), _right(op, "B"))
    ),
    "QR, its product with the right-hand sides, and a triangular solve",
)
_decomposition(
    "eigenvalues",
    "_linalg_eigh",
    lambda op, m, _: factorizations.symmetric_eigenvalues(m, vectors=_read(op, 1)),
    "9 n^3; 4/3 n^3 for values alone",
)
_decomposition(
    "eigenvalues",
    "linalg_eig",
    lambda _, m, __: factorizations.eigenvalues(m, vectors=True),
    "25 n^3",
)
_decomposition(
    "eigenvalues",
    "linalg_eigvals _linalg_eigvals",
    lambda _, m, __: factorizations.eigenvalues(m, vectors=False),
    "10 n^3",
)
_enter(
    "trace",
    Entry(
        "trace",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: ({"diagonal": min(op.first)},),
        how="one addition for each element of the diagonal",
    ),
)
_enter(
    " ".join(
        f"special_{family}_polynomial_{letter}"
        for family, letters in (
            ("chebyshev", "tuvw"),
            ("shifted_chebyshev", "tuvw"),
        )
        for letter in letters
    )
    + " special_hermite_polynomial_h special_hermite_polynomial_he "
    "special_laguerre_polynomial_l special_legendre_polynomial_p",
    Entry(
        "polynomial",
        Kind.ELEMENT,
        Family.OTHER,
        steps=lambda op: _factors(1, "output", op.out),
        how="one function of each element",
    ),
)
_per_output("segment reduce", 1, "segment_reduce", None, "one addition for each element")

_per_output("lstm cell", 13, "_thnn_fused_lstm_cell", None, "gates of each unit")
_per_output("gru cell", 12, "_thnn_fused_gru_cell", None, "gates of each unit")

# ----------------------------------------------------------------- no arithmetic: rearranging

for _family, _names, _rule in (
    (
        Family.VIEW,
        "view _unsafe_view reshape _reshape_alias flatten unflatten view_copy",
        rules.view,
    ),
    (Family.PERMUTE, "permute permute_copy", rules.permute),
    (Family.OTHER, "transpose t transpose_copy t_copy", rules.transpose),
    (Family.OTHER, "expand expand_as expand_copy", rules.expand),
    (Family.OTHER, "repeat", rules.repeat),
    (Family.OTHER, "squeeze squeeze_copy", rules.squeeze),
    (Family.OTHER, "unsqueeze unsqueeze_copy", rules.unsqueeze),
    (Family.SLICE, "slice slice_copy", rules.slice_),
    (Family.SLICE, "narrow narrow_copy", rules.narrow),
    (Family.OTHER, "select select_copy", rules.select),
    (
        Family.OTHER,
        "split split_with_sizes unsafe_split chunk unsafe_chunk split_copy split_with_sizes_copy",
        rules.split,
    ),
    (Family.OTHER, "unbind unbind_copy", rules.unbind),
    (Family.CONCATENATE, "cat concat", rules.concatenate),
    (Family.OTHER, "stack", rules.stack),
    (
        Family.COPY,
        "clone _to_copy contiguous alias detach lift_fresh lift_fresh_copy tril triu resolve_conj "
        "resolve_neg alias_copy detach_copy",
        rules.same,
    ),
    (Family.OTHER, "complex real imag _conj _conj_physical conj_physical", rules.elementwise),
    (Family.OTHER, "view_as_real", rules.view_as_real),
    (Family.OTHER, "view_as_complex", rules.view_as_complex),
    (Family.OTHER, "copy", rules.copied),
    (Family.OTHER, "as_strided", rules.restrided),
    (Family.PAD, "constant_pad_nd", rules.pad),
    (
        Family.PAD,
        "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d _pad_circular",
        rules.border,
    ),
    (Family.ROLL, "roll", rules.roll),
    (Family.FLIP, "flip", rules.flip),
    (Family.PIXEL_SHUFFLE, "pixel_shuffle", rules.pixel_shuffle),
    (Family.OTHER, "pixel_unshuffle", rules.pixel_unshuffle),
    (Family.OTHER, "channel_shuffle native_channel_shuffle", rules.channel_shuffle),
    (Family.OTHER, "index _unsafe_index", indexing.index),
    (Family.OTHER, "index_select", indexing.index_select),
    (Family.OTHER, "gather", indexing.gather),
    (Family.OTHER, "index_put _index_put_impl", indexing.index_put),
    (Family.OTHER, "slice_scatter", indexing.slice_scatter),
    (Family.OTHER, "select_scatter", indexing.select_scatter),
    (Family.OTHER, "max_unpool2d max_unpool3d", indexing.unpooled),
    (Family.OTHER, "rot90", rules.rotated),
    (Family.OTHER, "im2col", indexing.unfold_windows),
    (Family.OTHER, "col2im", indexing.fold_windows),
    (Family.OTHER, "unfold unfold_copy", indexing.unfold_dim),
    (Family.OTHER, "cnnscope.window", indexing.window_of),
    (Family.OTHER, "cnnscope.write_window", indexing.write_window),
):
    _each(Kind.REARRANGE, _names, _rule, _family)
_each(
    Kind.REARRANGE,
    "dropout alpha_dropout feature_dropout",
    rules.same,
    Family.DROPOUT,
    random=True,
)
_each(  # without a rule: where their results come from is not followed
    Kind.REARRANGE,
    "numpy_T mT adjoint movedim as_strided_scatter diagonal hstack vstack pad tile "
    "repeat_interleave "
    "take take_along_dim embedding masked_select nonzero nonzero_numpy "
    "scatter index_copy index_fill "
    "masked_scatter diag diag_embed as_strided_copy diagonal_copy diagonal_scatter block_diag "
    "put nonzero_static lu_unpack resize_as _chunk_cat _unsafe_masked_index "
    "_unsafe_masked_index_put_accumulate _linalg_check_errors _assert_async "
    "_functional_assert_async _assert_tensor_metadata _pack_padded_sequence _to_sparse _to_dense "
    "to_mkldnn argwhere int_repr "
    "_local_scalar_dense item is_nonzero equal resize set "
    "profiler._record_function_enter_new profiler._record_function_exit",
)
_each(
    Kind.CREATE,
    "zeros zeros_like new_zeros ones ones_like new_ones full full_like new_full fill zero arange "
    "linspace logspace eye scalar_tensor tensor tril_indices triu_indices",
    rules.constant,
)
_each(
    Kind.CREATE,
    "empty empty_strided empty_like new_empty new_empty_strided",
    rules.constant,
    Family.EMPTY,
)
_each(Kind.CREATE, "empty_permuted", family=Family.EMPTY)
_each(
    Kind.CREATE,
    "rand randn rand_like randn_like randint randperm uniform",
    rules.constant,
    random=True,
)
_each(
    Kind.CREATE,
    "normal bernoulli cauchy exponential geometric log_normal random poisson binomial "
    "_standard_gamma _sample_dirichlet multinomial randint_like",
    random=True,
)
_each(Kind.CREATE, "meshgrid one_hot _histogramdd_bin_edges")
