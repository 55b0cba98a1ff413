"""The report of `cnnscope memory`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cnnscope.records.memory import CheckpointChoice, KindMemory, LayerMemory, MemoryReport
from cnnscope.records.step import Step
from cnnscope.render import facts, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import Heading, Page, Table, dear

_CHART = 32  # characters of the time line
_LAYERS = 12  # of the dearest that are shown
_NAMES = 8  # of modules that run again
_OWNERS = 4  # kinds that own the most of the peak
OPTIMIZERS = {
    "sgd": "SGD", "momentum": "SGD with momentum", "adam": "Adam", "adamw": "AdamW",
    "rmsprop": "RMSprop",
}  # fmt: skip
_KINDS = (
    Heading("kind", left=True),
    *map(Heading, ("at the peak", "share")),
    Heading("highest", drop=2),  # before the time line, which needs a terminal of 80 columns
    Heading("over the step", left=True, drop=1),
)
_CHOICES = (
    Heading("blocks", left=True),
    *map(Heading, ("peak of tensors", "less", "MACs again", "more")),
    Heading("--checkpoint", left=True, least=12, keep="start", drop=1),
)
KINDS = {"saved": "saved for backward"}  # others have their own name
_COLUMNS = ("weights", "gradients", "state", "saved", "other")


def page(report: MemoryReport) -> Page:
    """The kinds of tensors at the peak and over time, and the layers that own the most."""
    return Page(
        report.source.name,
        f"{facts.header(report)} · {asked(report.step, len(report.checkpointed))}",
        (_kinds(report), _layers(report), *_frontier(report)),
        tuple(_below(report)),
        tuple(_above(report)),
        omitted=_omitted(report),
    )


def asked(step: Step | None, checkpointed: int = 0) -> str:
    """Training with Adam (foreach), loss sum; inference."""
    if step is None:
        return "inference"
    name = OPTIMIZERS[step.optimizer]
    parts = [f"training with {name} ({step.form})", f"loss {step.loss}"]
    if step.amp:
        parts.append(f"autocast to {step.amp}")
    if checkpointed:
        parts.append(f"{units.plural(checkpointed, 'module')} checkpointed")
    elif step.checkpoint:
        parts.append(f"{', '.join(step.checkpoint)} checkpointed")
    if step.accumulates:
        parts.append("gradients accumulated")
    return ", ".join(parts)


def _kinds(report: MemoryReport) -> Table:
    rows = [_kind(kind, report.tensors) for kind in report.kinds]
    rows.append(("all", units.nbytes(report.tensors), "", units.nbytes(report.tensors), ""))
    if report.step is not None:
        phases = _sampled([event.phase[0] for event in report.events])
        rows.append(("phase", "", "", "", "".join(phases)))
    styles = [dear(kind.at_peak, report.tensors) for kind in report.kinds]
    gaps = frozenset([len(report.kinds)])
    return Table(_KINDS, tuple(rows), (*styles, "bold", "dim")[: len(rows)], gaps=gaps)


def _kind(kind: KindMemory, peak: int) -> tuple[str, ...]:
    highest = _buckets(kind.timeline)
    return (
        KINDS.get(kind.kind, kind.kind),
        units.nbytes(kind.at_peak),
        units.percent(kind.at_peak, peak),
        units.nbytes(kind.most),
        units.sparkline(highest),
    )


def _buckets(timeline: Sequence[int]) -> list[int]:
    """The most of each of some equal parts of the time."""
    ends = _ends(len(timeline))
    return [max(timeline[a:b]) for a, b in zip((0, *ends), ends, strict=False)]


def _sampled(letters: Sequence[str]) -> list[str]:
    """The last of each of these parts."""
    return [letters[end - 1] for end in _ends(len(letters))]


def _ends(length: int) -> tuple[int, ...]:
    parts = min(_CHART, length)
    return tuple(length * (part + 1) // parts for part in range(parts))


def _layers(report: MemoryReport) -> Table:
    shown = report.layers[:_LAYERS]
    columns = [name for name in _COLUMNS if any(getattr(layer, name) for layer in shown)]
    headings = (
        Heading("layer", left=True, least=16, keep="end"),
        Heading("at the peak"),
        *(Heading(name, drop=5 - place) for place, name in enumerate(columns)),
    )
    rows = tuple(_layer(layer, columns) for layer in shown)
    styles = tuple(dear(layer.total, report.tensors) for layer in shown)
    return Table(headings, rows, styles, caption="layers that own the most at the peak")


def _layer(layer: LayerMemory, columns: Sequence[str]) -> tuple[str, ...]:
    parts = (getattr(layer, name) for name in columns)
    return (
        layer.path or "the model",
        units.nbytes(layer.total),
        *(units.nbytes(part) if part else "" for part in parts),
    )


def _frontier(report: MemoryReport) -> Iterator[Table]:
    """Choices of blocks that run again: what each saves, and what it costs."""
    if not report.frontier:
        return
    macs, blocks = report.macs, len(report.checkpointed)
    once = macs.forward + macs.backward + macs.step - macs.recomputed
    rows = tuple(_choice(one, report.frontier[0].tensors, once, blocks) for one in report.frontier)
    caption = "checkpointing: memory against what runs again"
    yield Table(_CHOICES, rows, caption=caption)


def _choice(one: CheckpointChoice, plain: int, once: int, blocks: int) -> tuple[str, ...]:
    wrapped = f"{len(one.modules)} of {blocks}" if one.modules else "none"
    return (
        wrapped,
        units.nbytes(one.tensors),
        units.percent(plain - one.tensors, plain),
        units.si(one.recomputed) if one.recomputed else "",
        units.percent(one.recomputed, once),
        _some(one.modules, ","),
    )


def _some(modules: Sequence[str], between: str) -> str:
    """The first modules, and how many more there are."""
    more = len(modules) - _NAMES
    return between.join(modules[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _above(report: MemoryReport) -> Iterator[tuple[str, str]]:
    """The answer: how much, when, and who owns it."""
    those = owners((kind.kind, kind.at_peak) for kind in report.kinds)
    yield "peak", f"{_tensors(report)} of tensors, {_where(report)}: {those}"
    yield (
        "on a GPU",
        f"{_between(report.gpu.whole)} in all, with workspace of kernels, what the allocator "
        "keeps free and the CUDA context",
    )


def owners(kinds: Iterable[tuple[str, int]]) -> str:
    """Which kinds own the peak: 88.3 % saved for backward, 6.6 % optimizer state."""
    most = sorted(kinds, key=lambda kind: -kind[1])
    whole = sum(nbytes for _, nbytes in most)
    return ", ".join(
        f"{units.percent(nbytes, whole)} {KINDS.get(kind, kind)}"
        for kind, nbytes in most[:_OWNERS]
        if 1000 * nbytes > whole
    )


def _below(report: MemoryReport) -> Iterator[tuple[str, str]]:
    gpu = report.gpu
    yield "tensors", f"{_tensors(report)}: all that are alive at once, as on a CPU"
    yield (
        "allocated",
        f"{units.nbytes(report.allocated)} in blocks of PyTorch's caching allocator, "
        f"{_between(gpu.allocated)} with workspace of kernels: torch.cuda.max_memory_allocated()",
    )
    yield (
        "device",
        f"{_between(gpu.whole)}: the allocator's segments, {units.nbytes(report.reserved)} without "
        f"workspace and {_between(gpu.reserved)} with it (torch.cuda.max_memory_reserved()), and "
        f"the CUDA context ({units.nbytes(gpu.context)})",
    )
    yield "measured", f"workspace, segments and context: float32 models on {_gpu(report)}"
    yield "MACs", _macs(report)
    if report.checkpointed:
        names = _some(report.checkpointed, ", ")
        yield "runs again", f"{names}: what their forward keeps is made anew when it is read"
    letters = "f forward, b backward, s step of the optimizer; " if report.step else ""
    yield "read as", f"{letters}the bars of a kind are relative to its highest"
    yield from (("!", note) for note in report.notes)


def _tensors(report: MemoryReport) -> str:
    """832.5 MiB; at most 832.5 MiB; 832.5 MiB (as recorded, not exact)."""
    nbytes = units.nbytes(report.tensors)
    unknown = f"{nbytes} (as recorded, not exact)"
    return {"exact": nbytes, "at most": f"at most {nbytes}", "unknown": unknown}[report.accuracy]


def _between(bounds: tuple[int, int]) -> str:
    """900.7 MiB to 950.2 MiB, or the one number that both are."""
    texts = dict.fromkeys(map(units.nbytes, bounds))
    return " to ".join(texts)


def _gpu(report: MemoryReport) -> str:
    return f"one {report.gpu.device}, torch {report.gpu.torch}"


def _where(report: MemoryReport) -> str:
    """In the backward pass at aten.convolution_backward of layer4."""
    if report.peak < 0:
        return "before the first operation"
    event = report.events[report.peak]
    place = f" of {event.path}" if event.path else ""
    operation = ".".join(event.operation.split(".")[:2])  # without the name of its overload
    phase = {"forward": "forward", "backward": "backward pass", "step": "optimizer's step"}
    return f"in the {phase[event.phase]} at {operation}{place}"


def _macs(report: MemoryReport) -> str:
    """Forward and backward, and how many times the forward that is."""
    macs = report.macs
    text = f"forward {units.si(macs.forward)}"
    if report.step is None:
        return text
    every = macs.forward + macs.backward + macs.step
    times = (
        f", {units.ratio(every / macs.forward)} times the forward in all" if macs.forward else ""
    )
    again = f" ({units.si(macs.recomputed)} of it forwards again)" if macs.recomputed else ""
    return f"{text}, backward {units.si(macs.backward)}{again}{times}"


def _omitted(report: MemoryReport) -> str:
    more = len(report.layers) - _LAYERS
    return f"{units.plural(more, 'layer')} with less (--format csv)" if more > 0 else ""


# ----------------------------------------------------------------------------------- CSV

_CSV = ("path", "total", *_COLUMNS)


def sheet(report: MemoryReport) -> Sheet:
    """One line for each layer that owns something at the peak."""
    return _CSV, (_line(layer) for layer in report.layers)


def _line(layer: LayerMemory) -> Row:
    return (layer, {"total": layer.total})
