"""The report of `cnnscope list`: a card per model."""

from zlib import crc32

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import TensorSpec

MORE_IS_BETTER = ("acc", "field")  # of the figures that models are compared by


class About(msgspec.Struct, frozen=True):
    """A library's facts about a model: its family, its task, the published top-1 accuracy.

    The accuracy is in percent, of the best weights published for the input size that the model is
    traced at; None where there are none.
    """

    family: str
    task: str = "classification"
    top1: float | None = None


class Card(msgspec.Struct, frozen=True):
    """A model in one line. `field` is the largest, one per axis, None for all of an axis."""

    name: str
    source: str
    about: About
    inputs: tuple[TensorSpec, ...]
    params: int
    macs: int
    element_ops: int
    peak_activation_bytes: int
    field: tuple[int | None, ...] | None
    weight_layers: int


# Changes when a field of a stored card does, so that no entry of another shape is read as one.
CARD_SHAPE = f"{crc32(ascii([c.__annotations__ for c in (Card, About, TensorSpec)]).encode()):08x}"


class Listed(msgspec.Struct, frozen=True):
    """A model in the list; `best` where no other is at least as good in both, one better.

    `card` is None where the model could not be traced, and `failed` says why. `figures` are the two
    of `ListReport.pareto`, None where one is missing.
    """

    source: str
    name: str
    card: Card | None
    failed: str = ""
    best: bool = False
    value: float | None = None  # that the list is sorted by; None where it has none
    figures: tuple[float, float] | None = None


class ListReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope list`."""

    models: tuple[Listed, ...]
    sort: str  # "" for by family
    pareto: tuple[str, str] | None = None
    schema_version: int = REPORT_SCHEMA
