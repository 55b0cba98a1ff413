"""The report of `cnnscope bench`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cnnscope.records.bench import (
    BenchReport,
    BenchRun,
    BenchStatistics,
    Comparison,
    Environment,
    Launch,
    LayerTime,
    Ratio,
)
from cnnscope.render import units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import BAD, GOOD, Heading, Page, Table, dear
from cnnscope.text import visible

_LATENCY = (
    Heading("model", left=True, least=16),
    Heading("batch"),
    Heading("median"),
    Heading("95 % interval", drop=1),
    Heading("IQR", drop=3),
    Heading("min", drop=4),
    Heading("p90", drop=6),
    Heading("p95", drop=7),
    Heading("p99", drop=8),
    Heading("wall", drop=5),
    Heading("images/s"),
    Heading("samples", drop=2),
    Heading("fast to slow", left=True, drop=9),
)
_COMPARED = (
    Heading("compared", left=True, least=16),
    Heading("batch", drop=3),
    Heading("with", left=True, least=16, keep="start", drop=1),  # a file's name comes first
    Heading("time"),
    Heading("95 % interval", drop=2),
    Heading("noise floor", drop=4),
    Heading("verdict", left=True),
)
_LIMITS = (
    Heading("model", left=True, least=16),
    Heading("batch"),
    Heading("MACs"),
    Heading("arithmetic"),
    Heading("of ceiling"),
    Heading("bytes moved", drop=2),
    Heading("traffic"),
    Heading("of ceiling"),
    Heading("memory", left=True, drop=1),
)
_LAYERS = (
    Heading("layer", left=True, least=20),
    Heading("operation", left=True, least=8, keep="start", drop=4),
    Heading("output", left=True, drop=5),
    Heading("time"),
    Heading("share"),
    Heading("MACs"),
    Heading("bytes", drop=2),
    Heading("FLOP/byte", drop=3),
    Heading("of roofline"),
    Heading("bound", left=True, drop=1),
)
_VERDICTS = {"faster": GOOD, "slower": BAD}
_SHOWN = 20  # layers; CSV and JSON have all of them
_WITHHELD = "-"  # the figure of a layer that is faster than the roofline


def page(report: BenchReport) -> Page:
    """The report as a page."""
    tables = [Table(_LATENCY, tuple(map(_latency_cells, report.runs))).filled()]
    if report.comparisons:
        styles = tuple(_VERDICTS.get(c.ratio.verdict, "") for c in report.comparisons)
        tables.append(Table(_COMPARED, tuple(_compared(report)), styles))
    tables.append(_limits(report))
    tables += [_layers(run) for run in report.runs if run.layers]
    names = list(dict.fromkeys(run.label for run in report.runs))
    return Page(", ".join(names), _header(report), tuple(tables), tuple(_sentences(report)))


def _header(report: BenchReport) -> str:
    run = report.runs[0]
    settings, where = run.settings, report.environment
    device = f"{settings.device} ({where.gpu or where.cpu})"
    if settings.device == "cpu":
        device += f", {units.plural(settings.threads, 'thread')}"
    numbers = f"autocast to {settings.amp}" if settings.amp else settings.dtype
    inputs = _inputs(report)
    given = list(dict.fromkeys(t.dtype for r in report.runs for t in r.inputs))
    if not settings.amp and given not in ([], [numbers]):  # integers to a float32 model, say
        inputs = f"{inputs} {' and '.join(given)}".strip()
        numbers = f"weights {numbers}"
    parts = [f"input {inputs}"] if inputs else []
    parts += [numbers, settings.mode]
    parts += ["channels last"] if settings.channels_last else []
    parts += [f"compiled ({settings.compile})"] if settings.compile else []
    return " · ".join([device, *parts, f"torch {torch_version(report)}"])


def torch_version(report: BenchReport) -> str:
    """2.15.0, without what it was built with."""
    return report.environment.torch.partition("+")[0]


def _inputs(report: BenchReport) -> str:
    """1x3x224x224, or Nx3x224x224 where only the batch differs; nothing where more does."""
    shapes = {tuple(spec.shape for spec in run.inputs) for run in report.runs}
    if len(shapes) == 1:
        each = (f"{visible(s.name or '')} {units.shape(s.shape)}" for s in report.runs[0].inputs)
        return ", ".join(dict.fromkeys(text.strip() for text in each))
    batched = all(len(r.inputs) == 1 and r.inputs[0].shape[:1] == (r.batch,) for r in report.runs)
    samples = {shape[1:] for (shape, *_) in shapes}
    return f"Nx{units.shape(samples.pop())}" if batched and len(samples) == 1 else ""


# --------------------------------------------------------------------------------- tables


def _latency_cells(run: BenchRun) -> tuple[str, ...]:
    s = run.statistics
    return (
        run.label,
        units.integer(run.batch),
        *median_cells(s),
        units.duration(s.q3_ns - s.q1_ns),
        units.duration(s.min_ns),
        *(units.duration(p) if p is not None else "" for p in (s.p90_ns, s.p95_ns, s.p99_ns)),
        units.duration(wall) if (wall := wall_ns(run)) else "",
        units.number(images_per_second(run)),
        units.integer(s.count),
        units.sparkline(s.histogram.counts),
    )


def _compared(report: BenchReport) -> Iterator[tuple[str, ...]]:
    for c in report.comparisons:
        r = c.ratio
        yield (
            c.other,
            units.integer(report.runs[c.run].batch),
            c.base,
            f"x {units.ratio(r.ratio)}",
            ratio_interval(r),
            units.share(r.noise_floor),
            r.verdict,
        )


def ratio_interval(r: Ratio) -> str:
    """0.540-0.562; nothing where there are too few samples for one."""
    if r.verdict == "too few samples":
        return ""
    return f"{units.ratio(r.interval.low)}-{units.ratio(r.interval.high)}"


def median_cells(s: BenchStatistics) -> tuple[str, str]:
    """The median, and its interval where there is one."""
    interval = units.durations(s.interval.low, s.interval.high) if s.interval else ""
    return units.duration(s.median_ns), interval


def _limits(report: BenchReport) -> Table:
    return Table(_LIMITS, tuple(_limit_cells(run, report) for run in report.runs))


def _limit_cells(run: BenchRun, report: BenchReport) -> tuple[str, ...]:
    flops, bandwidth, top = flops_per_second(run), bytes_per_second(run), report.ceilings
    return (
        run.label,
        units.integer(run.batch),
        units.si_short(run.work.macs),
        units.rate(flops, "FLOP/s") if flops else "",
        _of(flops, top.flops if top else None),
        units.nbytes(run.work.nbytes) if run.work.nbytes is not None else "",
        units.rate(bandwidth, "B/s") if bandwidth else "",
        _of(bandwidth, top.bandwidth if top else None),
        _memory(run),
    )


def _of(rate: float | None, ceiling: float | None) -> str:
    """A share of a ceiling; nothing above it, where one of the two is wrong."""
    return units.share(rate / ceiling) if rate and ceiling and rate <= ceiling else ""


def _memory(run: BenchRun) -> str:
    m = run.memory
    if m.allocated is not None:
        return f"{units.nbytes(m.allocated)} allocated, {units.nbytes(m.reserved or 0)} reserved"
    if m.resident is None or m.resident_before is None:
        return ""
    new = units.nbytes(max(m.resident - m.resident_before, 0))
    return f"{units.nbytes(m.resident)} resident, {new} new"


def _layers(run: BenchRun) -> Table:
    total = sum(layer.median_ns for layer in run.layers)
    caption = f"{run.label}, batch {run.batch}: layers measured one at a time, the slowest first"
    slowest = sorted(run.layers, key=lambda layer: -layer.median_ns)
    rows = [_layer_cells(layer, total) for layer in slowest[:_SHOWN]]
    rest = slowest[_SHOWN:]
    if rest:
        took = sum(layer.median_ns for layer in rest)
        name = f"{units.integer(len(rest))} more"
        rows.append((name, "", "", units.duration(took), units.share(took / total), *[""] * 5))
    styles = [dear(layer.median_ns, total) for layer in slowest[:_SHOWN]] + [""] * bool(rest)
    return Table(_LAYERS, tuple(rows), tuple(styles), caption=caption)


def _layer_cells(layer: LayerTime, total: float) -> tuple[str, ...]:
    return (
        units.called(layer),
        layer.operation,
        units.per_sample(layer.output_shape),
        units.duration(layer.median_ns),
        units.share(layer.median_ns / total),
        units.si_short(layer.macs) if layer.macs else "",
        units.nbytes(layer.nbytes),
        units.number(2 * layer.macs / layer.nbytes) if layer.macs and layer.nbytes else "",
        _of_roofline(layer),
        layer.bound,
    )


def _of_roofline(layer: LayerTime) -> str:
    """A share of the roofline; `-` above it."""
    if layer.roofline is None:
        return ""
    return _WITHHELD if layer.roofline > 1 else units.share(layer.roofline)


# ------------------------------------------------------------------------------- sentences


def _sentences(report: BenchReport) -> list[tuple[str, str]]:
    lines = [("!", "interrupted: this is what had been measured")] if report.interrupted else []
    lines += [("!", warning) for run in report.runs for warning in warnings(run, report, REMEDIES)]
    lines += [("!", text) for run in report.runs for text in _untrue(run, report)]
    lines += [("!", text) for text in _hidden(report.comparisons)]
    lines += [("first call", ", ".join(_first_call(run, report) for run in report.runs))]
    lines += [("layers", _sum_of_layers(run, report)) for run in report.runs if run.layers]
    lines += [("of roofline", text) for text in _withheld(report)]
    lines += [("ceilings", text) for text in _ceilings(report)]
    lines += [("launches", _launches(run, run.launch)) for run in report.runs if run.launch]
    lines += [("machine", machine(report.environment, report.runs[0]))]
    lines += [("differs", text) for text in _differences(report.comparisons)]
    if report.runs[0].settings.mode == "train":
        lines.append(("note", "MACs and bytes are the forward's; backward is not counted"))
    return lines + [("note", note) for note in report.notes]


def _hidden(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Notes on intervals that show a difference within the noise floor."""
    for c in comparisons:
        r = c.ratio
        apart = not r.interval.low <= 1 <= r.interval.high
        if apart and r.verdict == "no difference visible":
            yield (
                f"{c.other} with {c.base}: differences of less than "
                f"{units.share(r.noise_floor)}, the noise floor, cannot be told from noise here"
            )


def _first_of_batch(run: BenchRun, report: BenchReport) -> bool:
    """Return True if what holds for all models of a batch is to be said here."""
    return run is next(r for r in report.runs if r.batch == run.batch)


def _at(run: BenchRun, report: BenchReport) -> str:
    return f"batch {run.batch}: " if len({r.batch for r in report.runs}) > 1 else ""


def _named(run: BenchRun, report: BenchReport) -> str:
    several = len({r.batch for r in report.runs}) > 1
    return f"{run.label} at batch {run.batch}" if several else run.label


REMEDIES = {
    "launch-bound": "use a larger batch or --compile reduce-overhead",
    "threads": "use --threads {cores}",
}


def warnings(run: BenchRun, report: BenchReport, remedies: Mapping[str, str]) -> Iterator[str]:
    """Warnings of a run in words; remedies are the command's options."""
    s, name = run.statistics, _named(run, report)
    threads = units.plural(run.settings.threads, "thread")
    if "threads" in run.warnings and run is report.runs[0]:
        e = report.environment
        yield (
            f"{threads} on {_cores(e)}: threads that wait for a core make times long and unsteady; "
            f"{remedies['threads'].format(cores=max(int(e.capacity), 1))}"
        )
    if "busy" in run.warnings and run.waited is not None and _first_of_batch(run, report):
        yield (
            f"{_at(run, report)}the machine is busy: {threads} waited for a core "
            f"{units.share(run.waited)} of the time, and times are longer for it"
        )
    if "drift" in run.warnings:
        yield (
            f"{name} is unstable: its second half is {units.change(s.drift)} beside the first; "
            "measure longer, on a quieter machine"
        )
    if "outliers" in run.warnings:
        yield (
            f"{name} is unstable: {units.integer(s.outliers)} of {units.integer(s.count)} samples "
            f"{'is' if s.outliers == 1 else 'are'} far slower than the rest; something else is "
            "running"
        )
    if "launch-bound" in run.warnings and run.launch:
        yield (
            f"{name} is launch-bound: enqueueing takes {units.duration(run.launch.enqueue_ns)}, "
            f"the device needs {units.duration(run.launch.device_ns)}; {remedies['launch-bound']}"
        )


def _untrue(run: BenchRun, report: BenchReport) -> Iterator[str]:
    """Reasons why figures of a run are withheld, and work of its calls beside the traced one."""
    name = _named(run, report)
    if "other-work" in run.warnings and run.computed is not None:
        yield (
            f"{name}: calls do not do the traced work: one was seen to compute "
            f"{units.si_short(run.computed) if run.computed else 'none'} of its "
            f"{units.si_short(run.work.macs)} MACs (it remembers its answers, or returns early); "
            "its times are those of what is left, and FLOP/s and traffic are withheld"
        )
    if "grows" in run.warnings:
        yield f"{name} grows: every call makes {units.nbytes(run.kept)} that the model keeps"
    if "above-arithmetic" in run.warnings:
        yield (
            f"{name}: its share of the ceiling of arithmetic is withheld: it is faster than the "
            "matrix product, which was measured twice; another kernel is better than that one, or "
            "the machine was busy meanwhile"
        )
    if "above-traffic" in run.warnings:
        yield (
            f"{name}: its share of the ceiling of traffic is withheld: it moves more bytes than "
            "the copy, which is larger than the caches; what it reads lies in them"
        )


def _first_call(run: BenchRun, report: BenchReport) -> str:
    text = f"{_named(run, report)} {units.duration(run.first_call_ns)}"
    return f"{text} (then {units.plural(run.warmup_calls, 'call')} of warm-up)"


def _sum_of_layers(run: BenchRun, report: BenchReport) -> str:
    total, whole = sum(x.median_ns for x in run.layers), run.statistics.median_ns
    return (
        f"{_named(run, report)}: {units.plural(len(run.layers), 'call')} of layers add up to "
        f"{units.duration(total)}, the whole model takes {units.duration(whole)} "
        f"({units.share(total / whole)}): by itself, a layer finds its input in the caches, "
        "and what runs between layers is left out"
    )


def _withheld(report: BenchReport) -> Iterator[str]:
    """Why layers have no share of the roofline, once for all runs."""
    top = report.ceilings
    above = sum((x.roofline or 0) > 1 for run in report.runs for x in run.layers)
    if above and top is not None:
        size = f"{top.matmul_size}x{top.matmul_size}"
        yield (
            f"{_WITHHELD} for {units.plural(above, 'call')} of layers above 100 %: the roofline "
            f"was measured on one size alone, a {size} matrix product and a copy that is larger "
            "than the caches; a layer of another size, or one whose data lie in the caches, may "
            "be faster"
        )


def _ceilings(report: BenchReport) -> Iterator[str]:
    top = report.ceilings
    if top is None:
        return
    size = f"{top.matmul_size}x{top.matmul_size}"
    precision = f" in {top.fp32}" if top.fp32 else ""
    yield (
        f"a {size} {top.dtype} matrix product{precision} reached "
        f"{units.rate(top.flops, 'FLOP/s')}, a copy of {units.nbytes(top.copy_bytes)} "
        f"{units.rate(top.bandwidth, 'B/s')}, both in this run"
    )


def _launches(run: BenchRun, launch: Launch) -> str:
    return (
        f"{run.label}, batch {run.batch}: {units.duration(launch.enqueue_ns)} to enqueue, "
        f"{units.duration(launch.device_ns)} on the device"
    )


def machine(e: Environment, run: BenchRun) -> str:
    """The machine of a run, and its state."""
    parts = [e.cpu, _cores(e), f"{units.plural(run.settings.threads, 'thread')}"]
    if e.load is not None:
        parts.append(f"load {units.tenths(e.load)} before")
    if run.settings.device.startswith("cuda"):
        clocks = [e.gpu_clocks[k] for k in ("clocks.sm", "clocks.max.sm") if k in e.gpu_clocks]
        parts.append(e.gpu + (f" (driver {e.driver})" if e.driver else ""))
        parts += [f"clock {' of '.join(clocks)}"] if clocks else []
        parts += [f"CUDA {e.torch_cuda}, cudnn {e.cudnn}"]
        parts += [f"float32 products in {e.matmul_fp32}, convolutions in {e.conv_fp32}"]
        parts += ["cudnn.benchmark on" if e.cudnn_benchmark else "cudnn.benchmark off"]
    return ", ".join(parts)


def _cores(e: Environment) -> str:
    text = units.plural(e.cores, "core")
    if e.cores != e.machine_cores:
        text = f"{e.cores} of {units.plural(e.machine_cores, 'core')}"
    return text + (
        f" (limited to {units.decimal(e.quota)} of their time)" if e.quota is not None else ""
    )


def _differences(comparisons: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys("; ".join(c.differences) for c in comparisons if c.differences))


# --------------------------------------------------------------------------------- figures


def images_per_second(run: BenchRun) -> float:
    """Of the median iteration."""
    return 1e9 * run.batch / max(run.statistics.median_ns, 1)


def flops_per_second(run: BenchRun) -> float | None:
    """2 x MACs of the forward over the median; not for training, whose backward is not counted."""
    if run.settings.mode != "forward" or not run.work.macs or "other-work" in run.warnings:
        return None
    return 2e9 * run.work.macs / max(run.statistics.median_ns, 1)


def bytes_per_second(run: BenchRun) -> float | None:
    """Bytes that the forward's operations read and write, per second of the median."""
    if run.settings.mode != "forward" or not run.work.nbytes or "other-work" in run.warnings:
        return None
    return 1e9 * run.work.nbytes / max(run.statistics.median_ns, 1)


def wall_ns(run: BenchRun) -> float | None:
    """Wall clock of an iteration where the samples are something else."""
    return sum(run.walls_ns) / run.statistics.count if any(run.walls_ns) else None


# ------------------------------------------------------------------------------------ data


STATISTICS = (
    "count median_ns interval_low_ns interval_high_ns mean_ns min_ns max_ns q1_ns q3_ns p90_ns "
    "p95_ns p99_ns drift outliers"
).split()
_CSV = (
    *("model", "batch", "device", "mode", "dtype", "amp", "channels_last", "compile", "threads"),
    *STATISTICS,
    *("wall_ns", "first_call_ns", "images_per_second", "macs", "bytes", "flops_per_second"),
    *("bytes_per_second", "allocated", "reserved", "resident", "enqueue_ns", "device_ns"),
    "warnings",
)


def sheet(report: BenchReport) -> Sheet:
    """One line per run, raw numbers; with `--per-layer` one line per call of a layer instead."""
    if not any(run.layers for run in report.runs):
        return _CSV, map(_run, report.runs)
    columns = ("model", "batch", *LayerTime.__struct_fields__)
    rows = (({"model": r.label, "batch": r.batch}, x) for r in report.runs for x in r.layers)
    return columns, rows


def _run(run: BenchRun) -> Row:
    computed: dict[str, object] = {
        "model": run.label,
        "bytes": run.work.nbytes,
        "wall_ns": wall_ns(run),
        "images_per_second": images_per_second(run),
        "flops_per_second": flops_per_second(run),
        "bytes_per_second": bytes_per_second(run),
        "warnings": " ".join(run.warnings),
    }
    own = (run.settings, run.work, run.memory, run.launch)
    return (computed, run, *statistics(run.statistics), *own)


def statistics(s: BenchStatistics) -> Row:
    """Runs, layers and others with the values of `STATISTICS`."""
    low, high = (s.interval.low, s.interval.high) if s.interval else (None, None)
    return ({"interval_low_ns": low, "interval_high_ns": high}, s)
