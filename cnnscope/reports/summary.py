"""From a trace to the report of `cnnscope summary`: the analyses, joined."""

from cnnscope.analysis import (
    breaks,
    cost,
    growth,
    layers,
    memory,
    params,
    precision,
    receptive_field,
    weights,
)
from cnnscope.analysis.review import table
from cnnscope.records.catalogue import About, Card
from cnnscope.records.summary import LayerRow, ModelReport, Totals
from cnnscope.records.trace import Trace


def report(trace: Trace, *, review: bool = True) -> ModelReport:
    """Everything that `cnnscope summary` tells about a model.

    Args:
        trace: of the model.
        review: with findings; without them it takes less time.
    """
    rows = layers.with_fields(trace)
    return ModelReport(
        source=trace.source,
        inputs=trace.input_specs,
        device=trace.device,
        layers=rows,
        totals=_totals(trace, rows),
        unused=params.unused(trace),
        shared={p.path: p.aliases for p in trace.params if p.aliases and not p.buffer},
        unknown=cost.unknown_ops(trace),
        mismatches=tuple(row.path for row in rows if _disagrees(row)),
        notes=(*trace.notes, *cost.notes(trace), *receptive_field.notes(trace)),
        findings=table.findings(trace, rows) if review else (),
        unregistered={p.path: params.numel(trace, p) for p in trace.strays},
        decided_by=params.decided_by(trace),
        failed=breaks.failed(trace, rows),
    )


def card(trace: Trace, about: About) -> Card:
    """A model in one line."""
    totals = report(trace, review=False).totals
    return Card(
        name=trace.source.name,
        source=trace.source.source,
        about=about,
        inputs=trace.input_specs,
        params=totals.params,
        macs=totals.macs,
        element_ops=totals.element_ops,
        peak_activation_bytes=totals.peak_activation_bytes,
        field=tuple(axis.local_size for axis in totals.field or ()) or None,
        weight_layers=totals.conv_layers + totals.linear_layers + totals.recurrent_layers,
    )


def _totals(trace: Trace, rows: tuple[LayerRow, ...]) -> Totals:
    model = rows[0]
    every = params.total(trace)
    trainable = sum(params.numel(trace, p) for p in trace.params if p.trainable and not p.buffer)
    peak = memory.peak(trace)
    depth = weights.weight_layers(trace)
    return Totals(
        params=every,
        trainable_params=trainable,
        frozen_params=every - trainable,
        unused_params=sum(params.unused(trace).values()),
        shared_params=sum(
            params.numel(trace, p) * len(p.aliases) for p in trace.params if not p.buffer
        ),
        param_bytes=params.nbytes(trace),
        buffers=params.total(trace, buffers=True),
        buffer_bytes=params.nbytes(trace, buffers=True),
        macs=model.macs,
        flops=2 * model.macs,
        element_ops=model.element_ops,
        input_bytes=memory.input_bytes(trace),
        activation_bytes=memory.allocated(trace),
        peak_activation_bytes=peak.nbytes,
        peak_layer=peak.layer,
        field=growth.largest(rows),
        field_exceeds_input_at=growth.exceeds_input_at(rows),
        field_covers_input_at=growth.covers_input_at(rows),
        conv_layers=depth.convolutions,
        linear_layers=depth.linear,
        recurrent_layers=depth.recurrent,
        operations=len(trace.ops),
        params_by_dtype=precision.parameters(trace),
        buffers_by_dtype=precision.parameters(trace, buffers=True),
        macs_by_dtype=precision.macs(trace),
    )


def _disagrees(row: LayerRow) -> bool:
    """Return True if the floor formula gives another shape than the forward did."""
    return row.expected_output is not None and row.expected_output not in row.output_shapes
