"""Formulas of multiply-accumulates: convolutions, matrix products, attention, recurrent layers."""

from math import prod

from cnnscope.ops.entry import Factors, Family, factors, register_product
from cnnscope.ops.fields import rules, sequences
from cnnscope.ops.operation import Op
from cnnscope.records.trace import Attribute, Shape


@register_product(
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
    return _windows(weight, batch, where[-spatial:], transposed=transposed)


def _windows(
    weight: Shape, batch: int, positions: Shape, *, transposed: bool = False
) -> tuple[Factors, ...]:
    """Each position meets a kernel (O, I / groups, ...), transposed (I, O / groups, ...)."""
    inside = ("in channels", "out channels per group")
    names = inside if transposed else ("out channels", "in channels per group")
    return (
        {
            "batch": batch,
            "input positions" if transposed else "output positions": positions,
            names[0]: weight[0],
            names[1]: weight[1],
            "kernel": weight[2:],
        },
    )


@register_product(
    Family.DEFORMABLE_CONVOLUTION,
    "deformable conv",
    "torchvision.deform_conv2d",
    field=rules.deformable,
)
def deformable_convolution(op: Op) -> tuple[Factors, ...]:
    """A convolution at sampled positions (Dai et al. 2017, section 2.1)."""
    return _windows(op.shape("weight"), op.out[0], op.out[2:])


@register_product(
    Family.DEFORMABLE_CONVOLUTION,
    "deformable conv backward",
    "torchvision._deform_conv2d_backward",
    parts=("gradient of the sampled values", "gradient of the weight"),
)
def deformable_backward(op: Op) -> tuple[Factors, ...]:
    """As many products as the forward for each of two gradients, whichever is asked for."""
    above = op.shape("grad")
    return _windows(op.shape("weight"), above[0], above[2:]) * 2


def _quantised(kinds: str, *ends: str) -> str:
    return " ".join(f"quantized.{kind}{end}" for kind in kinds.split() for end in ("", *ends))


@register_product(
    Family.QUANTISED_CONVOLUTION,
    "quantised conv",
    _quantised("conv1d conv2d conv3d", "_relu", "_dynamic", "_add", "_add_relu")
    + " "
    + _quantised("conv_transpose1d conv_transpose2d conv_transpose3d", "_dynamic"),
    field=rules.packed_convolution,
)
def quantised_convolution(op: Op) -> tuple[Factors, ...]:
    """As `convolution`; the packed weight is (O, I / groups, kernel), or (I, O / groups, kernel).

    That of a 1-D convolution has a second axis of one.
    """
    weight, transposed = op.packed, "transpose" in op.record.name
    if len(weight) < 3:
        return ()
    where = op.first if transposed else op.out
    return _windows(weight, where[0], where[2:], transposed=transposed)


@register_product(
    Family.QUANTISED_LINEAR,
    "quantised linear",
    _quantised("linear", "_relu", "_leaky_relu", "_tanh", "_dynamic", "_dynamic_fp16")
    + " quantized.linear_relu_dynamic quantized.linear_relu_dynamic_fp16"
    + " quantized.linear_with_input_q_dq_qweight_dq_output_fp32"
    + " quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32",
    field=rules.packed_linear,
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


@register_product(
    Family.MATMUL, "matmul", "mm bmm _int_mm _scaled_mm _scaled_mm_v2", field=rules.matmul
)
def matrix_product(op: Op) -> tuple[Factors, ...]:
    """(..., rows, inner) by (..., inner, columns)."""
    return _matrix_product(op.shape("self"), op.shape("mat2"))


@register_product(Family.MATMUL, "matmul", "quantized.matmul")
def quantised_matrix_product(op: Op) -> tuple[Factors, ...]:
    """(..., rows, inner) by (..., inner, columns), of integers."""
    return _matrix_product(op.first, op.shape("qb"))


@register_product(Family.MATMUL, "matmul", "addmm", field=rules.matmul)
def added_matrix_product(op: Op) -> tuple[Factors, ...]:
    """A matrix product whose sums begin at a bias."""
    return _matrix_product(op.shape("mat1"), op.shape("mat2"))


@register_product(Family.MATMUL, "matmul", "baddbmm", field=rules.matmul)
@register_product(Family.MATMUL, "matmul", "addbmm")
def added_batched_product(op: Op) -> tuple[Factors, ...]:
    """A batched matrix product whose sums begin at another tensor."""
    return _matrix_product(op.shape("batch1"), op.shape("batch2"))


@register_product(Family.MATMUL, "matmul", "mv addmv")
def matrix_vector_product(op: Op) -> tuple[Factors, ...]:
    """(rows, inner) by (inner)."""
    matrix = op.shape("mat") if op.has("mat") else op.shape("self")
    return ({"rows": matrix[0], "inner": matrix[1]},)


@register_product(Family.MATMUL, "matmul", "_weight_int8pack_mm _weight_int4pack_mm")
def packed_matrix_product(op: Op) -> tuple[Factors, ...]:
    """A product with packed weights, whose columns are those of the result."""
    return ({"rows": op.out[0], "inner": op.first[-1], "columns": op.out[1]},)


@register_product(Family.OTHER_PRODUCT, "affine grid", "affine_grid_generator")
def affine_grid(op: Op) -> tuple[Factors, ...]:
    """Every position in homogeneous coordinates times its image's matrix (Jaderberg 2015, 3.2)."""
    batch, axes, homogeneous = op.shape("theta")
    positions = op.out[1:-1]
    return (
        {"batch": batch, "positions": positions, "homogeneous": homogeneous, "coordinates": axes},
    )


@register_product(Family.OTHER_PRODUCT, "matrix exponential", "linalg_matrix_exp")
def matrix_exponential(op: Op) -> tuple[Factors, ...]:
    """A Taylor polynomial of degree 18 takes 5 products (Bader, Blanes and Casas 2019, table 1).

    The squarings after it depend on the norm of the matrix and are not counted.
    """
    *batch, size, _ = op.first
    return ({"matrices": tuple(batch), "products": 5, "n^3": size**3},)


@register_product(Family.OTHER_PRODUCT, "dot", "dot vdot")
def dot_product(op: Op) -> tuple[Factors, ...]:
    """One multiply-accumulate per element."""
    return ({"elements": op.shape("self")},)


@register_product(Family.LINEAR, "linear", "linear mkldnn_linear", field=rules.linear_layer)
def linear(op: Op) -> tuple[Factors, ...]:
    """Every leading position of the output is a row of products with the weight."""
    out_features, in_features = op.shape("weight")[-2:]
    positions = prod(op.out) // out_features
    return ({"positions": positions, "in features": in_features, "out features": out_features},)


@register_product(Family.BILINEAR, "bilinear", "_trilinear")
def trilinear(op: Op) -> tuple[Factors, ...]:
    """`nn.Bilinear`: every output is a sum over pairs of inputs (and their products).

    Its gradients are the same operation with other dimensions left out (`expand`) and summed.
    """
    operands = [_expanded(op.shape(f"i{n}"), op.get(f"expand{n}")) for n in (1, 2, 3)]
    batch, *rest = (max(sizes) for sizes in zip(*operands, strict=True))
    return ({"batch": batch, "weight": tuple(rest), "products": 2},)


def _expanded(shape: Shape, dims: Attribute) -> Shape:
    """A shape with dimensions of size one at some places."""
    sizes = list(shape)
    for dim in dims if isinstance(dims, tuple) else ():
        sizes.insert(int(dim or 0), 1)
    return tuple(sizes)


@register_product(
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


@register_product(
    Family.ATTENTION,
    "attention backward",
    "_scaled_dot_product_flash_attention_backward _scaled_dot_product_efficient_attention_backward "
    "_scaled_dot_product_cudnn_attention_backward "
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    parts=("QK^T again", "dO V^T", "P^T dO", "dS K", "dS^T Q"),
)
def attention_backward(op: Op) -> tuple[Factors, ...]:
    """The scores once more, and the gradients of V, of the scores, of Q and of K.

    Dao et al. 2022, FlashAttention, algorithm 4.
    """
    query, key, value = op.shape("query"), op.shape("key"), op.shape("value")
    common: Factors = {"batch and heads": query[:-2], "queries": query[-2], "keys": key[-2]}
    scores = {**common, "query features": query[-1]}
    values = {**common, "value features": value[-1]}
    return scores, values, values, scores, scores


@register_product(
    Family.CONVOLUTION,
    "conv backward",
    "convolution_backward",
    parts=("gradient of the input", "gradient of the weight"),
)
def convolution_backward(op: Op) -> tuple[Factors, ...]:
    """As many products as the forward for each gradient that is asked for, input and weight.

    Each pair of an output position and a tap of the kernel is met once in all three.
    """
    data, weight, above = op.shape("input"), op.shape("weight"), op.shape("grad_output")
    spatial = len(weight) - 2
    transposed = bool(op.get("transposed", False))
    where = data if transposed else above
    batch = where[0] if len(where) == len(weight) else 1
    once = _windows(weight, batch, where[-spatial:], transposed=transposed)
    return once * sum(map(bool, op.get("output_mask", (True, True))[:2]))


def _recurrent_steps(op: Op) -> tuple[Factors, ...]:
    """Bias and gates of each unit and time step: 22 for an LSTM (4 gates), 16 for a GRU (3)."""
    gates = op.shape("weight1")[0] // op.shape("weight1")[1]
    return factors({4: 22, 3: 16}.get(gates, 2), "output", op.out)


@register_product(
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


@register_product(Family.RECURRENT, "recurrent network", "_cudnn_rnn miopen_rnn")
def fused_recurrent_network(op: Op) -> tuple[Factors, ...]:
    """All layers and directions at once: every weight matrix meets every time step."""
    positions = op.shape("input")[:-1]
    matrices = sum(prod(shape) for shape in op.shapes("weight") if len(shape) == 2)
    return ({"time steps and batch": positions, "weights of all layers": matrices},)


def _packed_gates(op: Op) -> int:
    """Gates of each unit: 4 of an LSTM, 3 of a GRU, 1 of a plain cell."""
    return 4 if "lstm" in op.record.name else 3 if "gru" in op.record.name else 1


def _packed_units(op: Op) -> tuple[Factors, ...]:
    """Steps of the gates, as of layers that are not quantised."""
    steps = {4: 22, 3: 16}.get(_packed_gates(op), 2)
    layers, _, hidden = op.shape("hx")
    units = prod(op.first[:-1]) * layers * hidden
    return ({"steps for each unit": steps, "units of all time steps and layers": units},)


@register_product(
    Family.QUANTISED_RECURRENT,
    "quantised recurrent network",
    "quantized_lstm quantized_gru",
    steps=_packed_units,
    field=sequences.packed_network,
    how="bias and gates of each unit",
    parts=("input to gates", "hidden to gates"),
)
def quantised_recurrent_network(op: Op) -> tuple[Factors, ...]:
    """All layers and directions at once; the weights are packed: sizes are those of the states.

    The first state is (layers x directions, batch, hidden); a layer reads what the one below made.
    """
    states, _, hidden = op.shape("hx")
    directions = 2 if op.get("bidirectional") else 1
    layers = states // directions
    common: Factors = {
        "time steps and batch": op.first[:-1],
        "directions": directions,
        "gates x hidden": _packed_gates(op) * hidden,
    }
    read = op.first[-1] + (layers - 1) * directions * hidden
    return {**common, "inputs of all layers": read}, {**common, "hidden, layers": (hidden, layers)}


@register_product(
    Family.QUANTISED_RECURRENT,
    "quantised recurrent cell",
    "quantized.quantized_lstm_cell_dynamic quantized.quantized_gru_cell_dynamic "
    "quantized.quantized_rnn_tanh_cell_dynamic quantized.quantized_rnn_relu_cell_dynamic",
    field=sequences.packed_cell,
    parts=("input to gates", "hidden to gates"),
)
def quantised_recurrent_cell(op: Op) -> tuple[Factors, ...]:
    """One time step; packed weights are (gates x hidden, input) and (gates x hidden, hidden)."""
    batch = op.first[:-1]
    return tuple({"batch": batch, name: op.get(name, ())} for name in ("w_ih", "w_hh"))
