"""The columns of the summary: a title and a cell each, for every format that is a table."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.records.summary import Totals
from cnnscope.render import units
from cnnscope.render.view import Line
from cnnscope.text import printable


class Column(NamedTuple):
    """A column: its key for --columns, its title, its cell, and whether it is a number."""

    key: str
    title: str
    cell: Callable[[Line, Totals], str]
    number: bool = True


def _operation(line: Line, _: Totals) -> str:
    text = line.content or units.operation(line.row)
    return f"{text} x {line.times}" if line.times > 1 else text


def _output(line: Line, _: Totals) -> str:
    """Of the row in which the forward raised: what it was given."""
    row = line.row
    if not row.fails:
        return units.output(row)
    given = ", ".join(map(units.shape, row.input_shapes[:3]))
    return f"fails on {given}" if given and row.leaf else "fails"


def _macs(line: Line, _: Totals) -> str:
    return _unknown(line) or (units.si_short(line.macs) if line.macs else "")


def _flops(line: Line, _: Totals) -> str:
    return _unknown(line) or (units.si_short(2 * line.macs) if line.macs else "")


def _unknown(line: Line) -> str:
    """A row whose own cost is not known says so, and does not look free."""
    return "unknown" if line.row.unknown_ops and not line.macs else ""


def _params(line: Line, _: Totals) -> str:
    if line.params:
        return units.integer(line.params)
    return "shared" if line.row.call > 1 and line.row.macs and line.row.kind == "module" else ""


def _trainable(line: Line, _: Totals) -> str:
    """Parameters with a gradient: 0 where all of them are frozen, nothing where there are none."""
    if not line.params:
        return ""
    return units.integer(line.row.trainable_params * line.times)


def _kernel(line: Line, _: Totals) -> str:
    return units.geometry(line.row.geometry) if line.row.geometry else ""


def _features(line: Line, _: Totals) -> str:
    return f"{line.row.features[0]} -> {line.row.features[1]}" if line.row.features else ""


def _field(line: Line, _: Totals) -> str:
    """The receptive field of the last of the equal blocks on a line, as their fields grow."""
    row = line.last or line.row
    if row.field_unknown:
        return "?"
    return units.field(row.field) if row.field else ""


COLUMNS = {
    column.key: column
    for column in (
        Column("layer", "layer", lambda line, _: "  " * line.indent + line.name, number=False),
        Column("path", "path", lambda line, _: line.row.path or line.row.name, number=False),
        Column("operation", "operation", _operation, number=False),
        Column(
            "input",
            "input",
            lambda line, _: ", ".join(map(units.per_sample, line.row.input_shapes[:2])),
            number=False,
        ),
        Column("output", "output", _output, number=False),
        Column("kernel", "kernel", _kernel, number=False),
        Column("features", "features", _features, number=False),
        Column("params", "params", _params),
        Column("params-share", "% params", lambda line, t: units.percent(line.params, t.params)),
        Column("trainable", "trainable", _trainable),
        Column("macs", "MACs", _macs),
        Column("flops", "FLOPs", _flops),
        Column("share", "share", lambda line, t: units.percent(line.macs, t.macs)),
        Column("field", "field", _field),
        Column(
            "element-ops",
            "element ops",
            lambda line, _: units.si_short(line.element_ops),
        ),
        Column("activation", "activation", lambda line, _: units.nbytes(line.row.activation_bytes)),
    )
}
DEFAULT: tuple[str, ...] = ("layer", "operation", "output", "params", "macs", "share", "field")


def known(keys: Iterable[str]) -> tuple[str, ...]:
    """Keys of columns as they were typed, without spaces around them.

    `+input` and `-field` add one to the usual columns and take one away.

    Raises:
        RequestError: a key that there is no column for, or no column is left.
    """
    stripped = tuple(key.strip() for key in keys)
    for key in stripped:
        if key.lstrip("+-") not in COLUMNS:
            raise RequestError(
                f"--columns {printable(key)!r}: use any of {', '.join(COLUMNS)}; +input adds one "
                "to the usual columns, -field takes one away"
            )
    if not any(key[0] in "+-" for key in stripped):
        return stripped
    chosen = set(DEFAULT if all(key[0] in "+-" for key in stripped) else ())
    for key in stripped:
        chosen = chosen - {key[1:]} if key[0] == "-" else chosen | {key.lstrip("+")}
    if not chosen:
        raise RequestError("--columns: no column is left")
    return tuple(key for key in COLUMNS if key in chosen)
