"""Normalisations: batch, layer, group and RMS norms."""

from cnnscope.ops.entry import Entry, Factors, Family, Kind, enter, factors, per_output
from cnnscope.ops.fields import rules
from cnnscope.ops.operation import Op

_NORM = "mean; variance: subtract, square, sum; scale; weight and bias where there are any"


def _norm_steps(op: Op) -> tuple[Factors, ...]:
    """Mean (1), variance (3: subtract, square, sum), scale (1); weight and bias one each."""
    return factors(5 + op.has("weight") + op.has("bias"), "input", op.shape("input"))


def _batch_norm_steps(op: Op) -> tuple[Factors, ...]:
    """With constant statistics y = a x + b, two steps; else as any other norm."""
    return _norm_steps(op) if op.get("training", False) else factors(2, "output", op.out)


enter(
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
enter(
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
enter(
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
per_output(
    "rms norm",
    4,
    "_fused_rms_norm rms_norm",
    rules.layer_norm,
    how="square, sum, scale, weight",
    family=Family.RMS_NORM,
)
