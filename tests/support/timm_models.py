"""A sample of timm's models with torch's counts: for the slow tests and the benchmark."""

from __future__ import annotations

import random
import sys
import time
import warnings
from typing import Any, NamedTuple

from cnnscope.models import run
from cnnscope.models.build import Built, build
from cnnscope.models.find import find
from cnnscope.models.inputs import make_inputs
from cnnscope.models.request import Request, parse_model
from cnnscope.ops import table
from cnnscope.records.trace import Trace
from cnnscope.reports import summary

CONVOLUTIONAL, TRANSFORMERS, SEED = 300, 50, 2025

# timm's files whose models mix positions by attention or by linear layers in all of their stages;
# the rest are convolutional, hybrids of both included.
NOT_CONVOLUTIONAL = frozenset(
    "beit cait convit crossvit csatv2 deepseek_vit deit eva gemma4_vit hiera hieradet_sam2 "
    "mlp_mixer mvitv2 naflexvit nest pit pvt_v2 qwen3_vit sequencer swin_transformer "
    "swin_transformer_v2 swin_transformer_v2_cr tnt twins vision_transformer "
    "vision_transformer_relpos vision_transformer_sam volo xcit".split()
)


class Seen(NamedTuple):
    """Counts of one model by cnnscope and by torch; `failure` is "" where both ran."""

    name: str
    failure: str = ""
    seconds: float = 0.0
    operations: int = 0
    params: int = 0
    torch_params: int = 0
    macs: int = 0
    torch_macs: int | None = None  # None: torch has no formula for one of the operations
    unknown: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    field_unknown: str = ""  # the first operation that receptive fields are not followed through


def families() -> dict[str, list[str]]:
    """Every model of timm, by the file that it is in."""
    import timm

    found: dict[str, list[str]] = {}
    for name in sorted(timm.list_models()):
        entry: Any = timm.model_entrypoint(name)
        found.setdefault(sys.modules[entry.__module__].__name__.rpartition(".")[2], []).append(name)
    return found


def draw(population: dict[str, list[str]], count: int) -> list[str]:
    """One model of each family, and others at random until there are `count`."""
    chance = random.Random(SEED)
    chosen = {chance.choice(names) for names in population.values()}
    rest = sorted({name for names in population.values() for name in names} - chosen)
    return sorted(chosen | set(chance.sample(rest, max(0, count - len(chosen)))))[:count]


def sample() -> list[str]:
    """300 convolutional models of all families, and 50 transformers."""
    every = families()
    convolutional = {f: n for f, n in every.items() if f not in NOT_CONVOLUTIONAL}
    others = {f: n for f, n in every.items() if f in NOT_CONVOLUTIONAL}
    return draw(convolutional, CONVOLUTIONAL) + draw(others, TRANSFORMERS)


def look(name: str) -> Seen:
    """Count a model by cnnscope and by torch; a failure is returned, not raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _look(name)
        except Exception as error:  # noqa: BLE001  one failure must not hide the others
            return Seen(name, failure=f"{type(error).__name__}: {error}")


def _look(name: str) -> Seen:
    begun = time.perf_counter()
    trace = run.trace_spec(Request.of(f"timm:{name}"))
    result = summary.report(trace)
    seconds = time.perf_counter() - begun
    built = build(find(parse_model(f"timm:{name}")), {})
    lost = next((row.operation for row in result.layers if row.leaf and row.field_unknown), "")
    return Seen(
        name,
        seconds=seconds,
        operations=len(trace.ops),
        params=result.totals.params,
        torch_params=sum(p.numel() for p in built.model.parameters()),
        macs=result.totals.macs,
        torch_macs=_torch_macs(built) if _torch_has_formulas(trace) else None,
        unknown=tuple(op.name for op in result.unknown),
        mismatches=result.mismatches,
        notes=result.notes,
        field_unknown=lost,
    )


def _torch_has_formulas(trace: Trace) -> bool:
    """Return True if torch counts every operation that has multiply-accumulates."""
    import torch
    from torch.utils.flop_counter import flop_registry

    known = {str(packet) for packet in flop_registry}
    products = {
        record.name.rpartition(".")[0]
        for record in trace.ops
        if table.lookup(record.name).multiplies
    }
    assert str(torch.ops.aten.convolution) in known
    return products <= known and not any("depends on data" in note for note in trace.notes)


def _torch_macs(built: Built) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            make_inputs(built.inputs).call(built.model.requires_grad_(requires_grad=False))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops() // 2
