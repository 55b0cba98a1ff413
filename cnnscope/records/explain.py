"""The reports of `cnnscope explain`: formulas with numbers put in."""

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA, LayerRow, Totals
from cnnscope.records.trace import Source, TensorSpec

Run = tuple[int, int]  # the first and last of consecutive numbers


class Step(msgspec.Struct, frozen=True):
    """One step of an explanation.

    `formula` is in words, `arithmetic` has the numbers put in and equals `value`: integers,
    + - * / and parentheses, floor, ceil and max. Where there is nothing to calculate, `note`
    says why.
    """

    topic: str
    formula: str = ""
    arithmetic: str = ""
    value: int | float | None = None
    note: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """Formulas of the numbers of one row of the summary."""

    layer: LayerRow
    steps: tuple[Step, ...]


class ExplainReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope explain MODEL LAYER`."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    layers: tuple[Explanation, ...]
    schema_version: int = REPORT_SCHEMA


class KindShare(msgspec.Struct, frozen=True):
    """Totals of all layers of one kind (Conv2d, Linear, ...)."""

    operation: str
    layers: int
    params: int
    macs: int


class ResolutionChange(msgspec.Struct, frozen=True):
    """A change of resolution: sizes along each axis; () for no positions at all."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    layers: tuple[LayerRow, ...]


class SizeFailure(msgspec.Struct, frozen=True):
    """A size at which a forward raised: the layer (or operation) that refused it, and why."""

    size: int
    layer: str
    reason: str


class SmallestInput(msgspec.Struct, frozen=True):
    """Input sizes that work, by a forward at each of the sizes in `works` and `fails`.

    `axes` are varied together (("height", "width"): squares) or alone (("samples",)), other
    dimensions are kept. `side` is the smallest size tried that works, None where none does; every
    size below `at_least` was tried and fails. `layer` and `reason` are what breaks at `side` - 1,
    `above` is the first size tried above `side` that fails.

    From `start` on, all sizes tried follow a rule: n works if n = `offset` (mod `step`). A step of
    1 is every size, 0 is none; None where no rule was found. `works` and `fails` hold the first
    and last of consecutive sizes. `unclear` says why nothing was tried.
    """

    side: int | None
    at_least: int
    layer: str = ""
    reason: str = ""
    unclear: str = ""
    axes: tuple[str, ...] = ("height", "width")
    start: int = 1
    step: int | None = None
    offset: int = 0
    above: SizeFailure | None = None
    works: tuple[Run, ...] = ()
    fails: tuple[Run, ...] = ()


class ModelExplanation(msgspec.Struct, frozen=True):
    """The answer to `cnnscope explain MODEL`: a model in words and numbers.

    `params` and `macs` explain the layers that have most of them, with the step that says how.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    totals: Totals
    kinds: tuple[KindShare, ...]
    params: tuple[Explanation, ...]
    macs: tuple[Explanation, ...]
    resolution: tuple[ResolutionChange, ...]
    smallest: SmallestInput | None
    along: tuple[SmallestInput, ...] = ()  # single axes, where they need different sizes
    notes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()  # `smallest` and `along` in words
    schema_version: int = REPORT_SCHEMA
