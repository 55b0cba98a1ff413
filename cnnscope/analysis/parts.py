"""What the rows of a model are compared by: identities, roles, and what each of them reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnscope.analysis import params
from cnnscope.analysis.flow import Flow
from cnnscope.ops import table
from cnnscope.records.comparable import Part
from cnnscope.records.summary import LayerRow, ModelReport
from cnnscope.records.trace import Attribute, OpRecord, Trace

# Of no consequence for what is computed: peak memory tells them apart.
_NO_EFFECT = {"inplace", "memory_efficient"}
# Where one number stands for all spatial axes.
_ONE_FOR_ALL = {"kernel_size", "stride", "padding", "dilation", "output_size", "output_padding"}
# Attributes of operations that follow from the sizes of their inputs.
_OF_THE_DATA = {"N", "C", "HxW", "k", "device", "dtype", "layout", "pin_memory", "bias"}
# What is left of an operation that only moves data, without sizes and positions.
_OF_A_MOVE = {"dim", "dims", "dim0", "dim1", "shifts", "step"}
_POOLING = table.POOLS | {table.Family.MEAN}


def parts(trace: Trace, report: ModelReport) -> tuple[Part, ...]:
    """The rows of a report on a trace, and behind them those of parameters that nothing read."""
    rows = (*report.layers, *_unused(trace, report.unused))
    known = [_known(trace, row) for row in rows]
    flow = Flow(trace, rows, [identity for identity, _ in known])
    feeds, shares = flow.feeds(), _shares(rows, report.shared)
    return tuple(
        Part(
            row,
            *known[at],
            dtype=trace.tensors[row.tensor].dtype if row.tensor >= 0 else "",
            feeds=feeds.get(at, ()),
            still=at in flow.still,
            shares=shares.get(at, ()),
        )
        for at, row in enumerate(rows)
    )


def _shares(
    rows: Sequence[LayerRow], shared: Mapping[str, Sequence[str]]
) -> dict[int, tuple[str, ...]]:
    """Weights of a row that one before it counts, by their names there; of a call, its layer."""
    layers = {row.path: at for at, row in reversed([*enumerate(rows)]) if row.leaf}
    found: dict[int, tuple[str, ...]] = {
        at: (row.path,) for at, row in enumerate(rows) if row.leaf and row.call > 1
    }
    for name, others in shared.items():
        places = {_layer_of(one, layers): one for one in (name, *others)}
        counted = min(places.keys() - {-1}, default=-1)
        for at in places.keys() - {-1, counted}:
            found[at] = (*found.get(at, ()), places[counted])
    return found


def _layer_of(weight: str, layers: Mapping[str, int]) -> int:
    """The row of a weight or of the layer that has it, -1 if there is none."""
    path = weight
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return layers.get(path, -1)


def _known(trace: Trace, row: LayerRow) -> tuple[dict[str, Attribute], str]:
    """Identity and role of a row, apart from its input."""
    if row.kind == "module":
        return _of_module(trace, row)
    if row.kind == "operation" and row.tensor >= 0:
        record = trace.ops[trace.index.maker[row.tensor]]
        return _attributes(record), _role(row, [record])
    if row.kind == "operation":
        return {}, "other"
    return {"shape": row.output_shapes[0] if row.output_shapes else ()}, row.kind


def _of_module(trace: Trace, row: LayerRow) -> tuple[dict[str, Attribute], str]:
    call = trace.index.calls[row.path, row.call]
    module = trace.modules[trace.calls[call].module]
    own = [trace.ops[i] for i in trace.index.own_ops.get(call, ())]
    role = _role(row, own)
    if not row.leaf and not module.library:
        return {}, role  # a block is what is in it
    hyper = {name: v for name, v in module.hyper.items() if name not in _NO_EFFECT}
    for name in _ONE_FOR_ALL & hyper.keys():
        size = hyper[name]
        if isinstance(size, int) and row.output_shapes:
            hyper[name] = (size,) * max(len(row.output_shapes[0]) - 2, 1)
    if not module.library:
        hyper["operations"] = ", ".join(map(_described, own))
    return hyper, role


def _unused(trace: Trace, unused: Mapping[str, int]) -> list[LayerRow]:
    """Rows for parameters that belong to no other row, so that the rows add up to the whole."""
    chosen = params.decided_by(trace)
    idle = [p for p in trace.params if not p.used and not p.buffer and p.trainable]
    return [
        LayerRow(
            path=path,
            name=path,
            depth=1,
            kind="unused",
            operation="not used in this run" if chosen else "never used",
            parent=0,
            params=count,
            trainable_params=sum(
                params.numel(trace, p) for p in idle if f"{p.path}.".startswith(f"{path}.")
            ),
        )
        for path, count in unused.items()
    ]


def _attributes(record: OpRecord) -> dict[str, Attribute]:
    """The attributes that do not follow from the sizes of what the operation reads."""
    entry = table.lookup(record.name)
    resizes = entry.family is table.Family.RESAMPLE
    found = {
        name: value
        for name, value in record.attributes.items()
        if (name not in _OF_THE_DATA if entry.computes else name in _OF_A_MOVE)
        and not (resizes and name == "output_size")
    }
    normalised = found.pop("normalized_shape", None)  # over how many axes; their sizes are the data
    return {**found, "axes": len(normalised)} if isinstance(normalised, tuple) else found


def _described(record: OpRecord) -> str:
    """An operation with its attributes: "mul(other=0.5)"."""
    given = ", ".join(f"{name}={value}" for name, value in sorted(_attributes(record).items()))
    return table.lookup(record.name).label + f"({given})" * bool(given)


def _role(row: LayerRow, own: Sequence[OpRecord]) -> str:
    """Role of a leaf: leaves of one role may take each other's place."""
    if not row.leaf:
        return "block"
    entries = [table.lookup(record.name) for record in own]
    if any(entry.multiplies for entry in entries):
        return "convolution" if row.geometry else "product"
    arithmetic = [entry for entry in entries if entry.kind is table.Kind.ELEMENT]
    families = {entry.family for entry in arithmetic}
    if row.geometry or families & _POOLING:
        return "pool"
    if families & table.NORMS:
        return "norm"
    if row.minor or not arithmetic:
        return "idle"
    same = len(row.input_shapes) == 1 and row.input_shapes == row.output_shapes
    labels = sorted({entry.label for entry in arithmetic})
    return "activation" if same and not row.params else f"operation {labels}"
