"""The report of `cnnscope fit`: the largest batch whose training step fits into a memory."""

import msgspec

from cnnscope.records.memory import LayerMemory
from cnnscope.records.step import Amp, Kind, Optimizer, Step
from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import Source, TensorSpec


class DeviceNeed(msgspec.Struct, frozen=True):
    """Bytes of a device that a batch takes: the least and the most by measured runs."""

    batch: int
    least: int
    most: int


class Fitting(msgspec.Struct, frozen=True):
    """The largest batches of one way to train; 0 where none fits.

    `safe` fits by the most that measured runs held beside a prediction, `optimistic` by the least.
    `per_sample` are bytes of the device that one sample more takes there, `recomputed` the share
    of the forward's MACs that runs again. `traced` are the batches that were traced, of which the
    others are interpolated; `confirmed` is true where `safe` was, and `safe` + 1, which does not
    fit.
    """

    optimizer: Optimizer
    amp: Amp | None
    checkpoint: tuple[str, ...]
    safe: int
    optimistic: int
    per_sample: int
    recomputed: float
    traced: tuple[int, ...]
    confirmed: bool


class KindBytes(msgspec.Struct, frozen=True):
    """Bytes of one kind of tensors at the peak."""

    kind: Kind
    at_peak: int


class FitReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope fit`.

    `found` is the row of the step that was asked for and the first of `rows`, which has other ways
    to train behind it. `dtype` is what the model's parameters have, in which it computes without
    autocast.
    `smallest` is the smallest batch that trains, `fixed` is true where it is the only one, and
    `capped` where the largest one is that of 32-bit indices. `at` has what the largest batch takes
    (where none fits, the smallest), `power` what the next power of two would. `kinds` and `layers`
    own the peak of tensors there.
    """

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    step: Step
    memory: int
    gpu: str | None
    found: Fitting
    rows: tuple[Fitting, ...]
    smallest: int
    fixed: bool
    capped: bool
    at: DeviceNeed
    power: DeviceNeed | None
    kinds: tuple[KindBytes, ...]
    layers: tuple[LayerMemory, ...]
    measured: str
    torch: str
    dtype: str = ""
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA
