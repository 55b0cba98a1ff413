"""The report of `cnnscope diff`: two models aligned."""

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA, LayerRow, Totals, UnknownOp
from cnnscope.records.trace import Attribute, Source, TensorSpec

# Follows from what is said of the layer before: reported only where nothing else is.
CONSEQUENCES = (
    "in_channels", "in_features", "num_features", "num_channels", "padding", "normalized_shape",
    "kdim", "vdim",
)  # fmt: skip


class Change(msgspec.Struct, frozen=True):
    """One hyper-parameter (or "operation", "params") that two layers do not share.

    "weights" is "own", or "shared with" the weights of another layer, which counts them.
    "reads" has the layers that equal layers read, where these are others, "outputs" (of the models)
    those that they return. "place" has the neighbours that a layer stands behind ("" for none)
    which is removed here and added there.
    """

    what: str
    before: Attribute
    after: Attribute


class DiffRow(msgspec.Struct, frozen=True):
    """Two rows that belong together, or one without a partner.

    `status`: "same"; "resized" (the same layer on other data: other map sizes, channels, batch or
    dtype); "changed" (the layer itself, or one inside it); "added"; "removed". Costs are
    differences, after less before, and include everything inside the row.
    """

    status: str
    depth: int
    parent: int  # index of the enclosing row, -1 for the models themselves
    before: LayerRow | None
    after: LayerRow | None
    changes: tuple[Change, ...] = ()
    params: int = 0
    macs: int = 0
    element_ops: int = 0
    activation_bytes: int = 0

    @property
    def row(self) -> LayerRow:
        """The row that stands for both: the later one if there is one."""
        row = self.after or self.before
        if row is None:
            raise ValueError("a row of neither model")
        return row


class Finding(msgspec.Struct, frozen=True):
    """A difference in words; `about` tells which fields have a meaning.

    "blocks": `subject` repeats `before` and `after` (counts, container by container).
    "added", "removed": `count` layers of kind `subject` at `paths`, which hold `params`.
    "changed": `what` of `count` layers of kind `subject`, from `before` to `after` (one value for
    each distinct change, in order of appearance).
    "moved": `what` went from layer `before` to layer `after` inside the blocks of `paths`; of
    "place", the layers of `paths` stood behind layer `before`, and stand behind `after`.
    "resized": `count` layers that are the same, on other data.
    "nested": the networks are equal, and their blocks are not: `what` is "under" (`paths` are the
    modules that the network is, "" for the model), "otherwise", or "names" (`before`, `after`).
    "inputs", "arguments": the models were asked for differently.
    "outputs": the layers whose results the models return, in order.
    """

    about: str
    subject: str = ""
    what: str = ""
    before: tuple[Attribute, ...] = ()
    after: tuple[Attribute, ...] = ()
    count: int = 0
    paths: tuple[str, ...] = ()
    params: int = 0
    macs: int = 0


class DiffSide(msgspec.Struct, frozen=True):
    """One of the two models."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    totals: Totals
    unknown: tuple[UnknownOp, ...] = ()
    notes: tuple[str, ...] = ()


class Overrun(msgspec.Struct, frozen=True):
    """A budget on the change that is not kept.

    `limit_name` is "max_params", "max_macs", "max_activation" or "max_train_memory", `limit` the
    budget as it was written ("+5%"), `allowed` the most that the second model may have. `before`
    and `after` are elements, MACs or bytes; `after` is None where it is not known. `where` is the
    layer with the largest increase, `share` that increase.
    """

    limit_name: str
    limit: str
    allowed: float
    before: int
    after: int | None
    where: str = ""
    share: int = 0


class DiffReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope diff`. `change` has every total that is a number, after - before.

    `training` are the bytes that a device may hold in a training step of each, where they were
    asked for; `over` are the budgets on the change that are not kept.
    """

    before: DiffSide
    after: DiffSide
    differs: bool
    findings: tuple[Finding, ...]
    change: dict[str, int]
    rows: tuple[DiffRow, ...]
    training: tuple[int, int] | None = None
    over: tuple[Overrun, ...] = ()
    schema_version: int = REPORT_SCHEMA
