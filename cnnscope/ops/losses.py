"""Loss functions."""

from cnnscope.ops.entry import Entry, Factors, Family, Kind, enter, factors
from cnnscope.ops.operation import Op


def _loss(steps: int, names: str, how: str) -> None:
    """Register a loss: steps for each input element, one more to add them up."""

    def count(op: Op) -> tuple[Factors, ...]:
        return factors(steps + (op.get("reduction", 1) != 0), "input", op.first)

    enter(
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
    return factors(2, "target", op.shape("target"))


enter(
    "nll_loss_forward nll_loss2d_forward",
    Entry(
        "loss", Kind.ELEMENT, Family.OTHER, steps=_nll_steps, how="multiply, add for each target"
    ),
)
enter(
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


enter(
    "_ctc_loss",
    Entry(
        "loss",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_ctc_steps,
        how="max, subtract, exp, add, log of three terms",
    ),
)
