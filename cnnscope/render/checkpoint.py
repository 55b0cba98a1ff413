"""The report on a file that holds weights alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cnnscope.records.checkpoint import CheckpointReport, StoredModule, StoredOther, StoredTensor
from cnnscope.render import units
from cnnscope.render.data import Sheet
from cnnscope.render.page import Heading, Page, Table, dear
from cnnscope.text import printable

_SCREEN = 40  # rows that fit on a screen or nearly so
_HEADINGS = (
    Heading("layer", left=True, least=12),
    Heading("holds", left=True, least=16, keep="start", drop=3),
    Heading("elements"),
    Heading("share", drop=1),
    Heading("memory", drop=2),
)
_TYPE = Heading("type", left=True, drop=4)
_TENSOR = ("path", "shape", "dtype", "elements", "bytes", "same_as")
_CANNOT_TELL = (
    "a checkpoint has weights and no forward: output shapes, MACs, activations and receptive "
    "fields need the code (path/net.py:Net) or an exported program (.pt2)"
)


def page(report: CheckpointReport, levels: int | None = None) -> Page:
    """The modules that the keys name, as a tree down to a depth.

    Args:
        report: of the file.
        levels: of the tree; None is what fits a screen, 0 every level.
    """
    depth = _depth(report, levels)
    rows = [row for row in report.modules[1:] if row.depth <= depth]
    every = _dtypes(report)
    headings = _HEADINGS if len(every) == 1 else (*_HEADINGS, _TYPE)
    whole = report.modules[0]
    cells = [_tensor_cells(tensor, whole) for tensor in whole.own]
    cells += [_module_cells(row, whole, folded=row.depth == depth) for row in rows]
    counted: list[StoredModule | StoredTensor] = [*whole.own, *rows]
    styles = [("", "", *[dear(one.elements, whole.elements)] * 2, "", "") for one in counted]
    table = Table(
        headings,
        tuple(row[: len(headings)] for row in cells),
        tuple(style[: len(headings)] for style in styles),
    )
    return Page(printable(report.file), _header(report, every), (table,), _sentences(report, depth))


def sheet(report: CheckpointReport) -> Sheet:
    """One line per key; `same_as` names the first key of the same memory."""
    return _TENSOR, (({"bytes": tensor.nbytes}, tensor) for tensor in report.tensors)


def _dtypes(report: CheckpointReport) -> tuple[str, ...]:
    """Types of the tensors, batch counters left aside: there are several kinds, or there is one."""
    found = (t.dtype for t in report.tensors if t.shape or "float" in t.dtype)
    return tuple(dict.fromkeys(found)) or report.modules[0].dtypes


def _header(report: CheckpointReport, dtypes: Sequence[str]) -> str:
    parts = [report.format, units.plural(len(report.tensors), "tensor")]
    if dtypes:
        parts.append(", ".join(dtypes))
    if report.root:
        parts.insert(1, f"under {printable(report.root)!r}")
    return " · ".join((*parts, units.nbytes(report.file_bytes)))


def _depth(report: CheckpointReport, asked: int | None) -> int:
    """The deepest level of which all rows are shown."""
    deepest = max(row.depth for row in report.modules)
    if asked is not None:
        return min(asked, deepest) or deepest
    fitting = [
        depth
        for depth in range(1, deepest + 1)
        if sum(row.depth <= depth for row in report.modules) <= _SCREEN
    ]
    return max(fitting, default=min(1, deepest))


def _module_cells(row: StoredModule, whole: StoredModule, *, folded: bool) -> tuple[str, ...]:
    name = "  " * (row.depth - 1) + printable(row.path.rpartition(".")[2])
    inside = row.tensors - len(row.own)
    parts = [_held(row.own)] if row.own else []
    if inside and folded:
        parts.append(units.plural(inside, "tensor") + (" below" if row.own else ""))
    return _cells(name, "; ".join(parts), row, whole, row.dtypes)


def _tensor_cells(tensor: StoredTensor, whole: StoredModule) -> tuple[str, ...]:
    return _cells(printable(tensor.path), units.shape(tensor.shape), tensor, whole, (tensor.dtype,))


def _cells(
    name: str,
    holds: str,
    counted: StoredModule | StoredTensor,
    whole: StoredModule,
    dtypes: Sequence[str],
) -> tuple[str, ...]:
    return (
        name,
        holds,
        units.integer(counted.elements),
        units.percent(counted.elements, whole.elements),
        units.nbytes(counted.nbytes),
        ", ".join(dtypes),
    )


def _held(tensors: Iterable[StoredTensor]) -> str:
    """The tensors of a module, those of one shape together: weight 64x3x7x7, or weight, bias 64."""
    groups: list[tuple[list[str], str]] = []
    for tensor in tensors:
        name, shape = printable(tensor.path.rpartition(".")[2]), units.shape(tensor.shape)
        if groups and groups[-1][1] == shape:
            groups[-1][0].append(name)
        else:
            groups.append(([name], shape))
    return "; ".join(f"{', '.join(names)} {shape}" for names, shape in groups)


def _sentences(report: CheckpointReport, depth: int) -> tuple[tuple[str, str], ...]:
    total = f"{units.integer(report.elements)} ({units.nbytes(report.nbytes)})"
    lines = [("elements", total)]
    if report.statistics:
        rest = units.integer(report.elements - report.statistics)
        lines.append(
            (
                "parameters",
                f"{rest} at most: {units.integer(report.statistics)} are running statistics by "
                "their names; other buffers look like parameters",
            )
        )
    else:
        lines.append(("parameters", "at most as many: buffers look like parameters here"))
    beside = [f"{printable(other.path)} ({_word(other)})" for other in report.others]
    if beside:
        more = f" and {len(beside) - 6} more" if len(beside) > 6 else ""
        lines.append(("beside them", ", ".join(beside[:6]) + more))
    lines += [("!", text) for text in _findings(report)]
    deepest = max(row.depth for row in report.modules)
    if depth < deepest:
        lines.append(("shown", f"{depth} of {deepest} levels (--depth all)"))
    return tuple(lines)


def _word(other: StoredOther) -> str:
    if not other.tensors:
        return other.value
    tensors = units.plural(other.tensors, "tensor")
    return f"{tensors}, {units.plural(other.elements, 'element')}"


def _findings(report: CheckpointReport) -> list[str]:
    tied = [t for t in report.tensors if t.same_as]
    found = [
        f"one memory under several keys: {printable(t.path)} = {printable(t.same_as)}"
        for t in tied[:6]
    ]
    if len(tied) > 6:
        found.append(f"and {units.plural(len(tied) - 6, 'key')} more that name memory of another")
    if report.unreferenced_bytes:
        found.append(
            f"{units.nbytes(report.unreferenced_bytes)} are stored and in no tensor: views of "
            "larger memory were saved (tensor.clone() before saving leaves it out)"
        )
    return [*found, _CANNOT_TELL]
