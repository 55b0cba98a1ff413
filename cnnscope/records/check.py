"""The reports of `cnnscope check`: what other counters say."""

import msgspec

from cnnscope.records.rf import LayerCheck
from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import Inputs, Shape, Source, TensorSpec

PRUNED = "pruned: "  # in `Count.evidence`: before the name of a weight, its masked elements


class Published(msgspec.Struct, frozen=True):
    """Published figures of a model, for one of its weights.

    `macs` is a multiple of `resolution` (10**6 where three decimals of a giga are published),
    counted on `inputs`.
    """

    weights: str
    params: int
    macs: int
    resolution: int
    inputs: Inputs


class Count(msgspec.Struct, frozen=True):
    """A counter's number for a model, or the reason why it has none.

    Then it has `failed`, or it `needs` so many bytes of memory, which are not free.

    `counter`: "numel", "torchinfo", "fvcore", "flop counter", "published", "forward", "allocations"
    (of torch's profiler), "MemTracker" or "onnx-tool"; `version` is its version, or the weights
    that a figure is published with. `figure`: "parameters", "MACs", "shapes", or of a training step
    "step MACs" and "step bytes" (the peak of living tensors). `evidence` is what it said of its own
    count (operations that it met and has no formula for; those that it has one for; of onnx-tool
    "reason: node"). `calls` are module calls of a forward, in their order: path and shapes of the
    output.
    """

    counter: str
    figure: str
    version: str = ""
    value: int = 0
    resolution: int = 1
    evidence: dict[str, int] = {}
    calls: tuple[tuple[str, tuple[Shape, ...]], ...] = ()
    failed: str = ""
    needs: int = 0


class Reason(msgspec.Struct, frozen=True):
    """An amount that a counter adds to our number or leaves out (< 0), in `count` places.

    Of torchinfo: "biases" are added once for each output; "norms", "lookups" and "other weights"
    once for each sample; "positions": a weight counts once for each sample and not for each
    position; "transposed": a transposed convolution counts from its output; "no layer": products
    that no layer of their own runs; "own layer": a module of one's own counts its weights and not
    its products; "tied": a weight counts in each module that holds it; "containers": one that no
    forward calls counts beside what it holds; "computed weights": a normalised weight counts by
    what it is made of; "pruned": without masked elements. Of all three: "complex" products count
    as real ones, or as three of them.
    Of fvcore: "norm flops", "pools", "upsampling", "grid sampling" are added; "attention" and
    "no formula" left out; "einsum" is rounded, and "matmul" lacks a broadcast batch. Of torch: "no
    formula".
    Of onnx-tool: "operators" without products are added, whose kinds `where` names, and the "gates"
    of recurrent layers; "biases", once for each output; "zero points" as biases; "transposed": a
    transposed convolution counts from its output; "third axis": of quantised kernels it is left
    out; "matmul": so is a batch of weights; "shapes": what its own shape inference gets wrong.
    Of what is published: "input": it was counted on another (`where`); "unused": without what never
    runs; "not selected": without what runs on detections, of which there were none.
    Of a training step: "grouped": gradients of weights in groups are counted as if there were one;
    "watched": what is added up out of place where a dispatch mode watches;
    "strays": tensors that the model holds and has not registered.
    """

    about: str
    amount: int
    count: int
    where: tuple[str, ...] = ()  # the first layers or operations


class Verdict(msgspec.Struct, frozen=True):
    """A counter's number beside ours.

    `status`: "equal"; "explained" (the reasons are the whole difference); "incomparable" (it
    depends on data; `range` is what a run can give, and the number lies in it); "unexplained";
    "absent" (`note` says why, or it `needs` so many bytes of memory). Of shapes, the numbers are
    the module calls compared, `unexplained` how many differ (`note` has the first), and `left_out`
    how many depend on data. Of a receptive field ("field", by the counter "gradient") they are the
    pixels that a unit sees along the axis where it sees most; `layer` holds all that was measured.
    """

    counter: str
    version: str
    figure: str
    status: str
    theirs: int = 0
    ours: int = 0
    resolution: int = 1
    reasons: tuple[Reason, ...] = ()
    unexplained: int = 0
    range: tuple[int, int] | None = None
    left_out: int = 0
    note: str = ""
    needs: int = 0
    layer: LayerCheck | None = None


class CheckReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope check`: every counter's number beside ours."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    device: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    schema_version: int = REPORT_SCHEMA


class Tally(msgspec.Struct, frozen=True):
    """Number of models for each status of a counter's figure."""

    counter: str
    figure: str
    equal: int = 0
    explained: int = 0
    incomparable: int = 0
    unexplained: int = 0
    absent: int = 0


class Cause(msgspec.Struct, frozen=True):
    """In how many models a reason was found, and the largest share of our number that it made."""

    counter: str
    about: str
    models: int
    largest: float
    model: str  # where it was largest


class Checked(msgspec.Struct, frozen=True):
    """A model of `check --all`: counters by their verdict; `failed` says why there is none."""

    source: str
    name: str
    equal: int = 0
    explained: int = 0
    incomparable: int = 0
    unexplained: int = 0
    absent: int = 0
    failed: str = ""
    trouble: tuple[Verdict, ...] = ()  # the verdicts that are unexplained or absent


class CheckAllReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope check --all`."""

    versions: dict[str, str]
    tallies: tuple[Tally, ...]
    causes: tuple[Cause, ...]
    models: tuple[Checked, ...]
    schema_version: int = REPORT_SCHEMA
