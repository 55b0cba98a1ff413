"""Arithmetic per element: functions, activations and reductions."""

from functools import partial

from cnnscope.ops.entry import Factors, Family, factors, per_input, per_output, register_steps
from cnnscope.ops.fields import indexing, masks, rules
from cnnscope.ops.operation import Op

_activation = partial(per_output, family=Family.ACTIVATION)

# One step: the result is one arithmetic or comparing instruction per element.
_activation(
    "relu",
    1,
    "relu threshold clamp_min clamp_max quantized.threshold",
    how="max(x, 0): one comparison",
)
per_output("add", 1, "add quantized.add quantized.add_scalar", family=Family.ADD)
per_output("add, relu", 2, "quantized.add_relu quantized.add_scalar_relu", family=Family.ADD)
per_output("sub", 1, "sub rsub")
per_output("mul", 1, "mul quantized.mul quantized.mul_scalar", family=Family.MULTIPLY)
per_output("mul, relu", 2, "quantized.mul_relu quantized.mul_scalar_relu", family=Family.MULTIPLY)
per_output("div", 1, "div true_divide floor_divide")
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
    per_output(_name.replace("_", " "), 1, _name)
per_output("native dropout", 1, "native_dropout", family=Family.DROPOUT, random=True)
per_output("where", 1, "where", masks.where)
per_output("masked fill", 1, "masked_fill", masks.masked_fill)
_cumulative = partial(per_output, field=rules.cumulative, family=Family.CUMULATIVE)
_cumulative("cumsum", 1, "cumsum")
_cumulative("cumprod", 1, "cumprod")
_cumulative("cumulative maximum", 1, "cummax cummin")
_cumulative("cumulative logsumexp", 3, "logcumsumexp")
per_output("logaddexp", 5, "logaddexp logaddexp2", how="max, subtract, exp, log1p, add")
per_output("logit", 3, "logit", how="subtract, divide, log")
per_output(
    "quantise",
    5,
    "quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic "
    "quantized_decomposed.quantize_per_tensor quantized_decomposed.quantize_per_channel "
    "quantized_decomposed.quantize_per_token quantized_decomposed.quantize_per_channel_group "
    "torchao.quantize_affine",
    how="divide, round, add, two comparisons",
)
per_output(
    "dequantise",
    2,
    "dequantize quantized_decomposed.dequantize_per_tensor "
    "quantized_decomposed.dequantize_per_channel quantized_decomposed.dequantize_per_token "
    "quantized_decomposed.dequantize_per_channel_group torchao.dequantize_affine",
    how="subtract, multiply",
)
per_input(  # a scale and a zero point follow
    "range",
    2,
    " ".join(
        f"quantized_decomposed.choose_qparams{kind}"
        for kind in ("", "_symmetric", "_per_token", "_per_token_asymmetric")
    )
    + " quantized_decomposed._choose_qparams_per_token_asymmetric_impl "
    "torchao.choose_qparams_affine",
    field=rules.calibrated,
    how="minimum, maximum",
)
per_output(
    "fake quantise",
    7,
    "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask "
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams "
    "_fake_quantize_learnable_per_tensor_affine _fake_quantize_learnable_per_channel_affine "
    "quantized_decomposed.fake_quant_per_channel",
    how="divide, round, add, two comparisons, subtract, multiply",
)
per_input(  # its first results are the ranges that it has seen
    "fake quantise",
    7,
    "_fused_moving_avg_obs_fq_helper fused_moving_avg_obs_fake_quant",
    rules.fake_quantised,
    how="divide, round, add, two comparisons, subtract, multiply",
    family=Family.ELEMENTWISE,
)
_activation("clamp", 2, "clamp hardtanh quantized.clamp", how="two comparisons")
_activation("relu6", 2, "relu6 quantized.relu6")
_activation("leaky relu", 2, "leaky_relu quantized.leaky_relu", how="compare, multiply")
_activation("rrelu", 2, "rrelu_with_noise", how="compare, multiply", random=True)
_activation("prelu", 2, "prelu _prelu_kernel quantized.prelu", how="compare, multiply")
per_output("rsqrt", 2, "rsqrt", how="sqrt, reciprocal")
per_output("multiply-add", 2, "addcmul")
per_output("divide-add", 2, "addcdiv")
_activation("sigmoid", 4, "sigmoid quantized.sigmoid", how="negate, exp, add, reciprocal")
_activation("log sigmoid", 4, "log_sigmoid_forward", how="negate, exp, add, log")
_activation("silu", 5, "silu", how="sigmoid, multiply")
_activation("gelu", 5, "gelu", how="divide, erf, add, multiply, halve")
_activation("hard sigmoid", 4, "hardsigmoid", how="add, two comparisons, divide")
_activation("hard swish", 5, "hardswish quantized.hardswish", how="hard sigmoid, multiply")
_activation(
    "elu", 4, "elu celu quantized.elu quantized.celu", how="compare, exp, subtract, multiply"
)
_activation("softplus", 3, "softplus", how="exp, add, log")
_activation("mish", 5, "mish", how="softplus, tanh, multiply")
_activation("hard shrink", 2, "hardshrink softshrink")
_activation("glu", 5, "glu", rules.halved, how="sigmoid of one half, multiply")
per_output("polar", 4, "polar", how="sine, cosine, two multiplications")
per_output(
    "softmax",
    5,
    "_softmax _safe_softmax softmax quantized.softmax",
    rules.along,
    how="max, subtract, exp, sum, divide",
    family=Family.SOFTMAX,
)
per_output(
    "log softmax",
    5,
    "_log_softmax log_softmax",
    rules.along,
    how="max, subtract, exp, sum, subtract",
    family=Family.ACTIVATION,
)


@register_steps(
    Family.OTHER,
    "distance",
    "_cdist_forward _euclidean_dist _pdist_forward",
    how="subtract, raise, sum",
)
def pairwise_distance(op: Op) -> tuple[Factors, ...]:
    """Three steps for each feature of each pair."""
    return ({"steps for each feature": 3, "pairs": op.out, "features": op.first[-1]},)


per_output(
    "weight norm",
    3,
    "_weight_norm_interface _weight_norm",
    None,
    how="square, sum, scale",
    family=Family.WEIGHT_NORM,
)
per_output("nan to num", 1, "nan_to_num")

# Reductions: one step per element that goes in.
for _name in (
    "sum prod amax amin max min argmax argmin any all logsumexp aminmax median count_nonzero"
).split():
    per_input(_name, 1, _name)
for _name in "_is_all_true _is_any_true nansum nanmedian".split():
    per_input(_name.strip("_").replace("_", " "), 1, _name)
per_input("mean", 1, "mean", family=Family.MEAN)
per_input("count", 1, "bincount unique_consecutive hash_tensor", None, "one addition each")
per_input(
    "histogram",
    4,
    "histc histogram _histogramdd_from_bin_cts _histogramdd_from_bin_tensors",
    None,
    "subtract, multiply, round, count",
)
per_input("distance", 3, "dist", None, "subtract, raise, sum")
per_input("renorm", 3, "renorm embedding_renorm", None, "square, sum, scale")
per_output("cross product", 3, "linalg_cross", None, "two multiplications, subtract")
per_output("addr", 2, "addr", None, how="multiply, add")


@register_steps(Family.OTHER, "scatter add", "scatter_add index_add scatter_reduce index_reduce")
def scatter_add(op: Op) -> tuple[Factors, ...]:
    """One addition for each element that is scattered."""
    return factors(1, "added", op.shape(op.last))


@register_steps(Family.OTHER, "embedding bag", "_embedding_bag _embedding_bag_forward_only")
def embedding_bag(op: Op) -> tuple[Factors, ...]:
    """One addition for each feature of each row that is looked up."""
    return ({"indices": op.shape("indices"), "features": op.shape("weight")[-1]},)


@register_steps(
    Family.OTHER,
    "quantised embedding bag",
    "quantized.embedding_bag_byte quantized.embedding_bag_4bit quantized.embedding_bag_2bit",
    how="add, scale and offset of each row",
)
def quantised_embedding_bag(op: Op) -> tuple[Factors, ...]:
    """Each feature of each row that is looked up is scaled, moved and added."""
    return ({"steps for each element": 3, "indices": op.shape("indices"), "features": op.out[-1]},)


per_output(
    "quantised embedding",
    2,
    "quantized.embedding_byte quantized.embedding_4bit",
    indexing.packed_embedding,
    how="scale and offset of each row",
    family=Family.LOOKUP,
)
per_input("variance", 3, "var std var_mean std_mean", how="subtract mean, square, sum")
per_input("norm", 2, "linalg_vector_norm norm", how="square, sum")


per_output("segment reduce", 1, "segment_reduce", None, "one addition for each element")

per_output("lstm cell", 13, "_thnn_fused_lstm_cell", None, "gates of each unit")
per_output("gru cell", 12, "_thnn_fused_gru_cell", None, "gates of each unit")
