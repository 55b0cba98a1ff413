"""Loss functions."""

from cnnscope.ops.entry import Factors, Family, factors, register_steps
from cnnscope.ops.operation import Op


def _loss(steps: int, names: str, how: str) -> None:
    """Register a loss: steps for each input element, one more to add them up."""

    @register_steps(Family.OTHER, "loss", names, how=f"{how}; sum where it is reduced")
    def _(op: Op) -> tuple[Factors, ...]:
        return factors(steps + (op.get("reduction", 1) != 0), "input", op.first)


_loss(2, "mse_loss", "subtract, square")
_loss(5, "huber_loss smooth_l1_loss", "subtract, abs, compare, square, scale")
_loss(4, "soft_margin_loss", "multiply, exp, add, log")
_loss(6, "binary_cross_entropy", "two logarithms, two multiplications, subtract, add")
_loss(7, "binary_cross_entropy_with_logits", "max, multiply, subtract, abs, exp, log1p, add")
_loss(3, "multi_margin_loss", "subtract, add, compare")


@register_steps(
    Family.OTHER,
    "loss",
    "nll_loss_forward nll_loss2d_forward",
    how="multiply, add for each target",
)
def negative_log_likelihood(op: Op) -> tuple[Factors, ...]:
    """The weighted log-probability of each target, and their sum."""
    return factors(2, "target", op.shape("target"))


@register_steps(
    Family.OTHER,
    "loss",
    "multilabel_margin_loss_forward",
    how="subtract, add, compare for each pair of classes",
)
def multilabel_margin(op: Op) -> tuple[Factors, ...]:
    """Three steps for each pair of a class and a target."""
    return ({"steps for each pair": 3, "inputs": op.first, "targets": op.first[-1:]},)


@register_steps(
    Family.OTHER, "loss", "_ctc_loss", how="max, subtract, exp, add, log of three terms"
)
def connectionist_temporal_classification(op: Op) -> tuple[Factors, ...]:
    """Three terms in logarithms for each of 2 S + 1 labels and each time (Graves 2006, 4.1)."""
    times, *batch, _ = op.shape("log_probs")
    labels = 2 * (op.shape("targets") or (1,))[-1] + 1
    return ({"steps for each label": 9, "times": times, "batch": tuple(batch), "labels": labels},)
