"""The report of `cnnscope stack`."""

from __future__ import annotations

from math import prod

from cnnscope.records.bench import Ratio
from cnnscope.records.stack import StackReport, StackRow
from cnnscope.render import bench, units
from cnnscope.render.data import Row, Sheet
from cnnscope.render.page import DIFFERENT, Heading, Page, Table

_VGG = "(Simonyan and Zisserman 2014, section 2.3)"
_COUNTED = (
    "weights without biases, a ReLU behind every convolution; dw is depthwise; memory is that of "
    "all activations as float32"
)
_ROWS: tuple[Heading, ...] = (
    Heading("stack", left=True, least=18, keep="start"),
    Heading("sees", left=True),
    Heading("weights in C"),
    Heading("weights"),
    Heading("MACs"),
    Heading("memory", drop=2),
    Heading("ReLUs", drop=1),
)
_INCEPTION = (
    Heading("module", left=True),
    Heading("output", left=True),
    *map(Heading, ("weights", "MACs", "memory", "ReLUs", "of naive")),
)
_BRANCHES = (
    Heading("branch", left=True),
    *map(Heading, ("weights, naive", "reduced", "MACs, naive", "reduced")),
)


def page(report: StackReport) -> Page:
    """The report as a page."""
    return _inception(report) if report.kernel is None else _stacks(report)


# ---------------------------------------------------------------------------------- stacks


def _stacks(report: StackReport) -> Page:
    first = report.rows[0]
    differ = any(row.macs * first.weights != row.weights * first.macs for row in report.rows)
    differ = differ or report.timing is not None  # times are held against MACs
    headings: tuple[Heading, ...] = (*_ROWS, Heading(f"of {first.layers}"))
    if differ:
        headings = (*headings, Heading("of its MACs", drop=3))
    rows = tuple(_cells(row, first, differ=differ) for row in report.rows)
    styles = tuple(DIFFERENT if _short(row, first) else "" for row in report.rows)
    table = _with_times(Table(headings, rows, ("bold", *styles[1:])), report, first.layers)
    return Page(
        f"stacks that see {first.layers}",
        f"C = {report.channels} channels · input {report.input}",
        (table,),
        tuple(_sentences(report)),
    )


def _cells(row: StackRow, first: StackRow, *, differ: bool) -> tuple[str, ...]:
    cells = (
        row.name,
        units.seen(row.field),
        units.channel_units(row.square, row.linear),
        *_costs(row),
        units.percent(row.weights, first.weights),
    )
    return (*cells, units.percent(row.macs, first.macs)) if differ else cells


def _costs(row: StackRow) -> tuple[str, ...]:
    return (
        units.integer(row.weights),
        units.si_short(row.macs),
        units.nbytes(row.activation_bytes),
        str(row.nonlinearities),
    )


def _sentences(report: StackReport) -> list[tuple[str, str]]:
    first, threes = report.rows[0], report.rows[1]
    lines = []
    if threes.layers.replace("3x3", "").strip(",") == "":
        lines.append(("depth", f"{_compared(threes, first)} {_VGG}"))
    lines += [("holes", text) for row in report.rows if (text := _holes(row))]
    lines += [("!", _reaches(row, report)) for row in report.rows[1:] if _short(row, first)]
    return [*lines, ("counted", _COUNTED), *_timing(report)]


def _compared(row: StackRow, first: StackRow) -> str:
    """Three 3x3 see 7x7 with 27 C^2 against 49 C^2: 44.9 % fewer."""
    ours = units.channel_units(row.square, row.linear)
    theirs = units.channel_units(first.square, first.linear)
    fewer = units.percent(first.weights - row.weights, first.weights)
    return (
        f"{row.name} see {units.seen(first.field)} with {ours} weights against {theirs}: "
        f"{fewer} fewer, and {row.nonlinearities} nonlinearities instead of {first.nonlinearities}"
    )


def _holes(row: StackRow) -> str:
    sizes = [a.local_size or 0 for a in row.field]
    if row.read is None or prod(row.read) == prod(sizes):
        return ""
    return f"{row.name} reads {prod(row.read)} of the {prod(sizes)} pixels that it spans"


def _short(row: StackRow, first: StackRow) -> bool:
    """Return True if it sees another size."""
    return [a.local_size for a in row.field] != [a.local_size for a in first.field]


def _reaches(row: StackRow, report: StackReport) -> str:
    """3x3,3x3 sees 5x5, not 7x7; one 5x5 of the same channels has 25 C^2 weights, this 18 C^2."""
    first = report.rows[0]
    sizes = [a.local_size or 0 for a in row.field]
    single = prod(sizes) * report.channels * row.output[1]
    shown = "x".join(map(str, sizes))
    theirs = units.channel_units(single / report.channels**2, 0)
    ours = units.channel_units(row.square, row.linear) or "0"
    less = units.percent(single - row.weights, single) if single > row.weights else ""
    sentence = f"{row.name} sees {shown}, not {first.layers}: its {ours} weights are to be held "
    return sentence + f"against {theirs} of one {shown}" + (f" ({less} fewer)" if less else "")


# ----------------------------------------------------------------------------------- times

_TIMES = (Heading("time"), Heading("95 % interval"))
_REMEDIES = {
    "launch-bound": "use larger --channels or a larger --input",
    "threads": "set OMP_NUM_THREADS",
}


def _with_times(table: Table, report: StackReport, first: str) -> Table:
    """The table with what was measured, in a second part where a terminal is narrow."""
    timing = report.timing
    if timing is None:
        return table
    ratios = {c.run: c.ratio for c in timing.comparisons}
    rows = tuple(
        (*row, *bench.median_cells(run.statistics), *_ratio_cells(ratios.get(index)))
        for index, (row, run) in enumerate(zip(table.rows, timing.runs, strict=True))
    )
    compared = (Heading(f"to {first}"), Heading("95 % interval"))
    return table._replace(
        headings=(*table.headings, *_TIMES, *compared), rows=tuple(rows), repeat=1
    )


def _ratio_cells(ratio: Ratio | None) -> tuple[str, str]:
    """A ratio such as x 0.551, faster, and its interval; the first stack has none."""
    if ratio is None:
        return "", ""
    said = {"no difference visible": "no difference", "too few samples": "too few samples"}
    shown = said.get(ratio.verdict, f"x {units.ratio(ratio.ratio)}, {ratio.verdict}")
    return shown, bench.ratio_interval(ratio)


def _timing(report: StackReport) -> list[tuple[str, str]]:
    timing = report.timing
    if timing is None:
        return []
    first = timing.runs[0]
    lines = [("!", "interrupted: this is what had been measured")] if timing.interrupted else []
    lines += [("!", text) for run in timing.runs for text in bench.warnings(run, timing, _REMEDIES)]
    how = (
        f"median forward in inference mode on {first.settings.device}, {first.settings.dtype}, "
        f"random weights, torch {bench.torch_version(timing)}; in turns, "
        f"{units.decimal(first.settings.seconds)} s for each; no difference: none beyond the noise "
        "of this run"
    )
    return [*lines, ("timed", how), ("machine", bench.machine(timing.environment, first))]


# ------------------------------------------------------------------------------- Inception


def _inception(report: StackReport) -> Page:
    first = report.rows[0]
    rows = tuple(
        (
            row.name,
            units.per_sample(row.output),
            *_costs(row),
            units.percent(row.weights, first.weights),
        )
        for row in report.rows
    )
    branches = tuple(
        (name, *map(units.integer, (before, after)), *map(units.si_short, (macs, macs_after)))
        for name, before, after, macs, macs_after in report.branches
    )
    naive, reduced = report.rows
    grows = f"the naive module gives {naive.output[1]} channels for {report.channels}"
    below = [
        *((row.name, row.layers) for row in report.rows),
        ("depth", f"{grows}, as its pool keeps them all; the reduced one {reduced.output[1]}"),
        ("counted", _COUNTED),
        *_timing(report),
        ("source", "Szegedy et al. 2015, Table 1 and Figure 2"),
    ]
    header = f"GoogLeNet's {report.block} · input {report.input}"
    tables = (_with_times(Table(_INCEPTION, rows), report, "naive"), Table(_BRANCHES, branches))
    return Page("Inception, naive and reduced", header, tables, tuple(below))


# ----------------------------------------------------------------------------------- data


_CSV = (
    "name", "layers", "weights", "square", "linear", "macs", "flops", "element_ops",
    "activation_bytes", "peak_activation_bytes", "nonlinearities", "output", "field", "stride",
    "read",
)  # fmt: skip
_RATIO = ("ratio", "ratio_low", "ratio_high", "noise_floor", "verdict")


def sheet(report: StackReport) -> Sheet:
    """One line per stack, raw numbers."""
    times = ("device", *bench.STATISTICS, *_RATIO, "warnings") if report.timing else ()
    return (*_CSV, *times), (_raw(report, index) for index in range(len(report.rows)))


def _raw(report: StackReport, index: int) -> Row:
    row, timing = report.rows[index], report.timing
    computed: dict[str, object] = {
        "output": units.shape(row.output),
        "field": "x".join(str(a.local_size) for a in row.field),
        "stride": "x".join(str(a.stride) for a in row.field),
        "read": "" if row.read is None else prod(row.read),
    }
    if timing is None:
        return (computed, row)
    run = timing.runs[index]
    computed["warnings"] = " ".join(run.warnings)
    for r in (c.ratio for c in timing.comparisons if c.run == index):
        computed |= {"ratio_low": r.interval.low, "ratio_high": r.interval.high}
        computed |= {"ratio": r.ratio, "noise_floor": r.noise_floor, "verdict": r.verdict}
    return (computed, row, run.settings, *bench.statistics(run.statistics))
