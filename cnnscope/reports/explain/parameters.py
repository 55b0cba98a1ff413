"""Parameters and buffers of a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod

from cnnscope.records.explain import Step
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import ParamRecord, Shape
from cnnscope.reports.explain.view import Part, View
from cnnscope.reports.explain.writing import counted, times


def steps(view: View, row: LayerRow, part: Part) -> Iterable[Step]:
    """Parameters and buffers of a layer, those that nothing reads, and those with several names."""
    owned = view.owned.get(part.call, [])
    named = view.named.get(row.path, []) if part.call >= 0 else []
    weights, buffers = ([p for p in owned if p.buffer == kind] for kind in (False, True))
    if weights:
        yield _sizes_step(view, "parameters", weights, row)
    elif row.call > 1 and any(not p.buffer for p in named):
        yield Step("parameters", value=0, arithmetic="0", note="counted where it was called first")
    if buffers:
        yield _sizes_step(view, "buffers", buffers, row)
    if row.call == 1:
        yield from _unread(named)
    for param in weights:
        if param.aliases:
            yield Step("tied", note=f"{param.path} is also {', '.join(param.aliases)}")


def _unread(named: Iterable[ParamRecord]) -> Iterable[Step]:
    """Parameters and buffers of a module that no operation read."""
    idle = [p.path.rpartition(".")[2] for p in named if not p.used]
    if idle:
        yield Step("not read", note=f"{', '.join(idle)}: counted in no layer")


def _sizes_step(view: View, topic: str, held: Sequence[ParamRecord], row: LayerRow) -> Step:
    """64*3*7*7 + 64, or 2*64 for two of one shape."""
    named = [
        (p.path.removeprefix(f"{row.path}."), view.trace.tensors[p.tensor].shape) for p in held
    ]
    counts = Counter(sizes for _, sizes in named)
    terms = counted((times(sizes), count) for sizes, count in counts.items())
    formula = " + ".join(_described(view, row, name, sizes) for name, sizes in named)
    return Step(topic, formula, terms, sum(prod(sizes) for _, sizes in named))


def _described(view: View, row: LayerRow, name: str, sizes: Shape) -> str:
    """Names of the sizes of a weight, as torch.nn documents them."""
    call = view.trace.index.calls.get((row.path, row.call))
    if call is None or name != "weight" or len(sizes) < 2:
        return name
    base = view.trace.modules[view.trace.calls[call].module].base
    if base.startswith("ConvTranspose"):
        return "in channels * out channels per group * kernel"
    if base.startswith("Conv"):
        return "out channels * in channels per group * kernel"
    return "out features * in features" if base == "Linear" else name
