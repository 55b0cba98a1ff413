"""Normalisations: batch, layer, group and RMS norms."""

from cnnscope.ops.entry import Factors, Family, factors, per_output, register_steps
from cnnscope.ops.fields import rules
from cnnscope.ops.operation import Op

_QUANTISED_BATCH_NORMS = " ".join(
    f"quantized.batch_norm{axes}{end}" for axes in ("", "1d", "2d", "3d") for end in ("", "_relu")
)
_NORM = "mean; variance: subtract, square, sum; scale; weight and bias where there are any"


@register_steps(
    Family.LAYER_NORM,
    "norm",
    "native_layer_norm layer_norm quantized.layer_norm",
    rules.layer_norm,
    _NORM,
)
@register_steps(
    Family.GROUP_NORM,
    "norm",
    "native_group_norm group_norm quantized.group_norm",
    rules.group_norm,
    _NORM,
)
@register_steps(Family.BATCH_NORM, "norm", "quantized.instance_norm", rules.instance_norm, _NORM)
def norm(op: Op) -> tuple[Factors, ...]:
    """Mean (1), variance (3: subtract, square, sum), scale (1); weight and bias one each."""
    return factors(5 + op.has("weight") + op.has("bias"), "input", op.shape("input"))


@register_steps(
    Family.BATCH_NORM,
    "batch norm",
    "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit "
    "_batch_norm_no_update _batch_norm_with_update cudnn_batch_norm batch_norm "
    f"quantized_batch_norm {_QUANTISED_BATCH_NORMS}",
    rules.batch_norm,
    "y = a*x + b; a and b are constants but where it takes statistics of its own",
)
def batch_norm(op: Op) -> tuple[Factors, ...]:
    """With constant statistics y = a x + b, two steps; else as any other norm."""
    return norm(op) if op.get("training", False) else factors(2, "output", op.out)


per_output(
    "rms norm",
    4,
    "_fused_rms_norm rms_norm",
    rules.layer_norm,
    how="square, sum, scale, weight",
    family=Family.RMS_NORM,
)
