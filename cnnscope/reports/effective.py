"""From a trace and its model to the report of `cnnscope rf --effective`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

from cnnscope import parallel
from cnnscope.analysis import growth, layers, memory, params, receptive_field
from cnnscope.errors import RequestError
from cnnscope.records.rf import EffectiveField, EffectiveReport
from cnnscope.records.summary import Field, LayerRow
from cnnscope.records.trace import Trace

THRESHOLD = 1 - 0.9545  # of the largest gradient (Luo et al. 2016, section 3)
CHOSEN = 12  # layers measured where no one is named
Progress = Callable[[int, int], None]


class Effective(NamedTuple):
    """The report, and for each of its layers the gradient of every pixel (0 to 1) or None."""

    report: EffectiveReport
    maps: tuple[Any, ...]  # nested lists over the axes


def effective(
    trace: Trace,
    model: Any,
    layer: str | None = None,
    *,
    unit: Sequence[int] | None = None,
    samples: int = 20,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Effective:
    """Measure effective receptive fields by the gradients of the model with random weights.

    Args:
        trace: of the model.
        model: the module with weights, on the CPU.
        layer: dotted path of the only layer; left out, the last one of every different field, at
            most `CHOSEN` of them.
        unit: which unit of them; the centre one if left out.
        samples: random inputs that are averaged.
        seed: of the inputs.
        progress: called with what is done and how much there is.

    Raises:
        RequestError: the model takes more than one tensor, or there is no such layer with units.
        ModelError: the model failed.
    """
    if len(trace.inputs) != 1:
        what = "more than one" if trace.inputs else "no"
        raise RequestError(f"effective receptive fields: the model takes {what} tensor")
    fields = receptive_field.fields(trace)
    rows, total = _rows(layers.with_fields(trace), layer)
    units = [_unit(trace, row, fields[row.tensor], unit) for row in rows]
    if layer is not None and isinstance(units[0], str):
        raise RequestError(f"effective receptive fields: {layer} has no centre unit: {units[0]}")
    gradients = _gradients(trace, model, units, _Sampling(samples, seed, progress))
    found = zip(rows, units, gradients, strict=True)
    report = EffectiveReport(
        source=trace.source,
        inputs=trace.input_specs,
        device="cpu",
        layers=tuple(_result(row, fields[row.tensor], one, grad) for row, one, grad in found),
        samples=samples,
        seed=seed,
        threshold=THRESHOLD,
        total=total,
    )
    maps = (None if grad is None else (grad / grad.max()).tolist() for grad in gradients)
    return Effective(report, tuple(maps))


class _Sampling(NamedTuple):
    """Random inputs that are averaged."""

    samples: int
    seed: int
    progress: Progress


def _gradients(
    trace: Trace, model: Any, units: Sequence[Any], sampling: _Sampling
) -> list[Any | None]:
    """Mean gradient of each unit by the input's pixels, None where a unit is a reason."""
    from cnnscope.measure.influence import influence

    done = count(1)
    sampling.progress(0, sampling.samples)
    found = influence(
        model,
        trace.tensors[trace.inputs[0]].shape,
        [unit for unit in units if not isinstance(unit, str)],
        samples=sampling.samples,
        seed=sampling.seed,
        form=trace.form,
        advance=lambda: sampling.progress(next(done), sampling.samples),
    )
    return [None if isinstance(unit, str) else found[unit] for unit in units]


def check_memory(trace: Trace) -> None:
    """Do not even build what cannot fit: weights, and what goes back through them.

    Raises:
        RequestError: by the trace, it is more than what is free.
    """
    weights = params.nbytes(trace) + params.nbytes(trace, buffers=True)
    running = max(memory.peak(trace).nbytes, memory.product_inputs(trace))
    needed, free = weights + running, parallel.free_memory()
    if free is not None and needed > free:
        sizes = [f"{n / 2**30:.1f} GiB" for n in (needed, free)]
        raise RequestError(
            f"effective receptive fields: {trace.source.name} needs at least {sizes[0]} by the "
            f"trace, and {sizes[1]} are free; lower --batch-size or --input"
        )


def _rows(every: Sequence[LayerRow], layer: str | None) -> tuple[list[LayerRow], int]:
    """The layers to measure, and how many have a field: modules whose units are distinguished."""
    if layer is not None:
        return [layers.find(every, layer)], 1
    watched = [row for row in every if row.kind == "module" and row.leaf and not row.minor
               and row.field and all(a.units for a in row.field)]  # fmt: skip
    if not watched:
        raise RequestError(
            "effective receptive fields: no layer of this model has units that are distinguished"
        )
    return growth.different(watched, CHOSEN), len(watched)


def _unit(trace: Trace, row: LayerRow, field: Field | None, unit: Sequence[int] | None) -> Any:
    """The unit to watch, or why there is none."""
    from cnnscope.measure.influence import Unit

    if row.kind != "module":
        return "it is an operation, and --effective measures modules: name the module around it"
    if field is None or field.unknown or any(m is None for m in field.maps):
        return "its receptive field is not known along every axis, so that no unit can be chosen"
    counts = [axis.units for axis in field.axes]
    shape = trace.tensors[row.tensor].shape
    rank = len(shape)
    last, second = range(rank - len(counts), rank), range(1, 1 + len(counts))
    dims = next((d for d in (last, second) if [shape[i] for i in d if i < rank] == counts), None)
    if dims is None:
        return (
            "a reshape has split or joined the axes of the input, so that no single unit of the "
            "output can be chosen; name a layer before the reshape"
        )
    index = [count // 2 for count in counts] if unit is None else unit
    return Unit(row.path, row.call, tuple(dims), tuple(index))


def _result(row: LayerRow, field: Field | None, unit: Any, gradient: Any) -> EffectiveField:
    axes = row.field or ()
    if isinstance(unit, str) or field is None:
        return EffectiveField(row.path, row.call, (), axes, (), reason=str(unit))
    clipped = tuple(
        (m.lo[u], m.hi[u]) for m, u in zip(field.maps, unit.place, strict=True) if m is not None
    )
    if gradient is None or not float(gradient.max()) > 0:
        return EffectiveField(
            row.path, row.call, unit.place, axes, clipped, reason="its gradient is zero"
        )
    strong = gradient > THRESHOLD * gradient.max()
    pixels = int(strong.sum())
    places = strong.nonzero()
    box = tuple(zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))
    return EffectiveField(
        row.path, row.call, unit.place, axes, clipped, pixels,
        round(pixels ** (1 / gradient.dim()), 1), box,
    )  # fmt: skip
