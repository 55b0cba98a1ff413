"""The table of findings: a new one is a function of the network, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnscope.analysis.review import chains, chance, ends, parameters, pixels
from cnnscope.analysis.review.net import Net, Remark
from cnnscope.records.findings import Finding, FindingKind, Severity
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace

Check = Callable[[Net], Remark | None]

CHECKS: dict[FindingKind, tuple[Severity, Check]] = {
    FindingKind.UNREGISTERED: (Severity.ERROR, parameters.unregistered),
    FindingKind.NO_OUTPUT: (Severity.ERROR, ends.no_output),
    FindingKind.NO_GRADIENT: (Severity.ERROR, parameters.no_gradient),
    FindingKind.UNUSED: (Severity.ERROR, parameters.unused),
    FindingKind.ALWAYS_DROPOUT: (Severity.ERROR, chance.always_dropout),
    FindingKind.SOFTMAX_AXIS: (Severity.ERROR, ends.softmax_axis),
    FindingKind.MIXED_SAMPLES: (Severity.ERROR, ends.mixed_samples),
    FindingKind.RELU_OUTPUT: (Severity.WARNING, ends.relu_output),
    FindingKind.FINAL_DROPOUT: (Severity.WARNING, ends.final_dropout),
    FindingKind.SKIPPED: (Severity.WARNING, pixels.skipped),
    FindingKind.LINEAR_PAIR: (Severity.WARNING, chains.linear_pair),
    FindingKind.IDLE_ACTIVATION: (Severity.WARNING, chains.idle_activation),
    FindingKind.UNMIXED_GROUPS: (Severity.WARNING, chains.unmixed_groups),
    FindingKind.BOTTLENECK: (Severity.WARNING, chains.bottleneck),
    FindingKind.FLOORED: (Severity.NOTE, pixels.floored),
    FindingKind.IDLE_TAPS: (Severity.NOTE, pixels.idle_taps),
    FindingKind.UNPRODUCTIVE: (Severity.NOTE, pixels.unproductive),
    FindingKind.CANCELLED_BIAS: (Severity.NOTE, parameters.cancelled_bias),
    FindingKind.DROPOUT_BEFORE_NORM: (Severity.NOTE, ends.dropout_before_norm),
    FindingKind.SOFTMAX_OUTPUT: (Severity.NOTE, ends.softmax_output),
    FindingKind.TRAINING_ONLY: (Severity.NOTE, parameters.training_only),
    FindingKind.NOT_ROUTED: (Severity.NOTE, parameters.not_routed),
    FindingKind.NONE_OUTPUT: (Severity.NOTE, ends.none_output),
    FindingKind.RANDOM: (Severity.NOTE, chance.random),
    FindingKind.TIED: (Severity.NOTE, parameters.tied),
    FindingKind.NOT_REACHED: (Severity.NOTE, parameters.not_reached),
}
# What holds of a forward that raised: the others are about what comes after.
_OF_BROKEN = (FindingKind.UNREGISTERED, FindingKind.TIED, FindingKind.NOT_REACHED)
_ORDER = list(Severity)


def findings(trace: Trace, rows: Sequence[LayerRow]) -> tuple[Finding, ...]:
    """What a reviewer would say of a network: by severity, then by place.

    Args:
        trace: of the model.
        rows: of its summary, in execution order.
    """
    net = Net(trace, rows)
    kinds = CHECKS if trace.broken is None else _OF_BROKEN
    found = [(kind, *CHECKS[kind]) for kind in kinds]
    said = [(kind, level, remark) for kind, level, check in found if (remark := check(net))]
    said.sort(key=lambda one: (_ORDER.index(one[1]), one[2].place))
    return tuple(
        Finding(
            kind,
            level,
            remark.sentence,
            remark.layers,
            _explained(net, remark) if trace.broken is None else "",
        )
        for kind, level, remark in said
    )


def _explained(net: Net, remark: Remark) -> str:
    """The first layer that there is a row of, or the nearest module around one."""
    return next(filter(None, map(net.explained, remark.layers)), "")
