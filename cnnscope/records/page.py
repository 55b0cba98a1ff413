"""Contents of the page of `cnnscope report`: all that it shows of one model, or of two."""

import msgspec

from cnnscope.records.diff import DiffReport
from cnnscope.records.explain import Step
from cnnscope.records.graph import Graph
from cnnscope.records.memory import MemoryReport
from cnnscope.records.summary import ModelReport, UnitMap


class Life(msgspec.Struct, frozen=True):
    """Memory that a forward holds: its bytes, when it is alive, and the row that made it.

    Alive from operation `born` until before `died`, as in `StorageRecord`; `row` is -1 for memory
    older than the forward (inputs and weights).
    """

    nbytes: int
    born: int
    died: int
    row: int = -1


class Ran(msgspec.Struct, frozen=True):
    """An operation of the forward: the function of PyTorch, and the row that shows it or -1."""

    name: str
    row: int


class MeasuredField(msgspec.Struct, frozen=True):
    """The effective receptive field of the centre unit of a row's layer.

    `pixels`, `size` and `box` are those of `EffectiveField`. `heat` is the mean absolute gradient
    over the pixels that the unit can see (`clipped`), averaged in cells: a row for each line of
    cells, 0 to 63 of the largest; () where the input has more than two axes.
    """

    row: int
    unit: tuple[int, ...]
    clipped: tuple[tuple[int, int], ...]
    pixels: int
    size: float
    box: tuple[tuple[int, int], ...]
    heat: tuple[tuple[int, ...], ...] = ()


class MeasuredFields(msgspec.Struct, frozen=True):
    """Effective receptive fields of a model: of layers, by so many random inputs."""

    layers: tuple[MeasuredField, ...]
    samples: int
    seed: int
    threshold: float


class PageModel(msgspec.Struct, frozen=True):
    """One model: its summary, and what the page tells of each row of it.

    `steps` and `maps` have an entry for every row of the summary: the formulas of its numbers, and
    for every axis of the input which pixels each unit sees (None where positions are not
    distinguished). `training` is the memory of a training step, where one was traced. `times` has
    the nanoseconds that the layers of every row took one at a time; () where none were measured.
    `lines` has for every row the source line that called it, "" where there is none. `effective`
    has effective receptive fields, where they were measured.
    """

    summary: ModelReport
    steps: tuple[tuple[Step, ...], ...]
    maps: tuple[tuple[UnitMap | None, ...], ...]
    operations: tuple[Ran, ...]
    lives: tuple[Life, ...]
    training: MemoryReport | None = None
    times: tuple[float, ...] = ()
    lines: tuple[str, ...] = ()
    effective: MeasuredFields | None = None


class PageContents(msgspec.Struct, frozen=True):
    """One model, or two with their differences, and how the page was made.

    `command` is the line that makes it again, `program` the version of cnnscope.
    """

    models: tuple[PageModel, ...]
    graph: Graph | None = None
    diff: DiffReport | None = None
    command: str = ""
    program: str = ""
