"""Entries of the operation table, and the functions that register them.

An entry holds all that is known of an operation:

* `family`: what the operation is (see `Family`): a convolution, a norm, a view ...
* `kind`: how the operation is treated (see `Kind`),
* `macs`: its multiply-accumulates as *named factors*, whose product is the number. The factors
  are what an explanation prints, so the number and the explanation cannot disagree.
* `steps`: element operations, one per element per arithmetic step, as named factors too.
* `how`: what the steps are, in words.
* `field`: how receptive fields pass through it, one of the rules of `ops/fields`; without one,
  they are unknown from there on.

Formulas read shapes and attributes only. Shapes are N, C, then the spatial axes.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache, wraps
from math import prod

import msgspec

from cnnscope.ops.fields import rules
from cnnscope.ops.operation import Op
from cnnscope.records.trace import Shape

Factors = Mapping[str, int | Shape]  # a shape stands for the product of its sizes


class Kind(Enum):
    """Treatment of an operation."""

    PRODUCT = "product"  # multiply-accumulates
    ELEMENT = "element"  # arithmetic per element
    REARRANGE = "rearrange"  # moves, copies or selects data: no arithmetic
    CREATE = "create"  # makes data from nothing: constants, grids, empty buffers
    UNKNOWN = "unknown"  # not in the table


class Family(Enum):
    """Family of an operation, for programs; labels are for people."""

    CONVOLUTION = "convolution"
    DEFORMABLE_CONVOLUTION = "deformable convolution"
    LINEAR = "linear"
    QUANTISED_CONVOLUTION = "quantised convolution"  # with a weight that is packed, and no tensor
    QUANTISED_LINEAR = "quantised linear"
    QUANTISED_RECURRENT = "quantised recurrent"
    MATMUL = "matrix product"
    BILINEAR = "bilinear"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    OTHER_PRODUCT = "other product"
    ADD = "add"
    MULTIPLY = "multiply"
    ELEMENTWISE = "elementwise"  # any other arithmetic, position by position
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    DROPOUT = "dropout"
    BATCH_NORM = "batch norm"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    RMS_NORM = "rms norm"
    WEIGHT_NORM = "weight norm"
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    MEAN = "mean"
    REDUCTION = "reduction"
    CUMULATIVE = "cumulative"
    RESAMPLE = "resample"  # on a regular grid: upsampling
    REGION_POOL = "region pool"  # of boxes
    VIEW = "view"
    PERMUTE = "permute"
    COPY = "copy"  # the same values at the same positions
    CONCATENATE = "concatenate"
    STACK = "stack"
    SLICE = "slice"
    SELECT = "select"  # one index of a dimension, which goes
    SPLIT = "split"
    SQUEEZE = "squeeze"  # dimensions of size one come or go
    LOOKUP = "lookup"  # rows at given indices
    PAD = "pad"
    ROLL = "roll"
    FLIP = "flip"
    PIXEL_SHUFFLE = "pixel shuffle"
    EMPTY = "empty"  # memory that nothing is written to
    OTHER = "other"


NORMS = frozenset(
    (
        Family.BATCH_NORM,
        Family.LAYER_NORM,
        Family.GROUP_NORM,
        Family.RMS_NORM,
        Family.WEIGHT_NORM,
    )
)
POOLS = frozenset((Family.MAX_POOL, Family.AVERAGE_POOL))


class Entry(msgspec.Struct, frozen=True):
    """An entry of the operation table."""

    label: str
    kind: Kind
    family: Family
    macs: Callable[[Op], tuple[Factors, ...]] = lambda _: ()
    steps: Callable[[Op], tuple[Factors, ...]] = lambda _: ()
    field: rules.Rule | None = None
    how: str = ""
    parts: tuple[str, ...] = ()  # names of its products, where there are several
    random: bool = False  # another call gives another result

    @property
    def computes(self) -> bool:
        """True if it does arithmetic, as far as is known."""
        return self.kind not in (Kind.REARRANGE, Kind.CREATE)

    @property
    def multiplies(self) -> bool:
        """True if it has multiply-accumulates."""
        return self.kind is Kind.PRODUCT

    @property
    def elementwise(self) -> bool:
        """True if an output depends on the inputs at its own position alone."""
        return self.field is rules.elementwise


TABLE: dict[str, Entry] = {}


def lookup(name: str) -> Entry:
    """Find the entry of an operation; one of `Kind.UNKNOWN` if there is none.

    Args:
        name: in full, "aten.add_.Tensor".
    """
    return TABLE.get(base_name(name)) or _unknown(name)


@cache
def _unknown(name: str) -> Entry:
    return Entry(base_name(name), Kind.UNKNOWN, Family.OTHER)


@cache
def base_name(name: str) -> str:
    """The name that the table uses: no aten namespace, no overload, no in-place underscore."""
    namespace, _, rest = name.partition(".")
    base = rest.partition(".")[0]
    if len(base) > 1 and base.endswith("_") and not base.endswith("__"):
        base = base[:-1]
    return base if namespace == "aten" else f"{namespace}.{base}"


def product(factors: Factors) -> int:
    """Product of named factors."""
    return prod(prod(f) if isinstance(f, tuple) else f for f in factors.values())


# ---------------------------------------------------------------------------- registration


def enter(names: str, entry: Entry) -> None:
    """Register an entry under several names.

    Raises:
        ValueError: one of them has an entry already.
    """
    for name in names.split():
        if name in TABLE:
            raise ValueError(f"{name} has two entries")
        TABLE[name] = entry


Formula = Callable[[Op], tuple[Factors, ...]]


def register_product(
    family: Family,
    label: str,
    names: str,
    steps: Formula = lambda _: (),
    field: rules.Rule | None = None,
    how: str = "",
    parts: tuple[str, ...] = (),
) -> Callable[[Formula], Formula]:
    """Register a multiply-accumulate formula."""

    def register(formula: Formula) -> Formula:
        @wraps(formula)
        def counted(op: Op) -> tuple[Factors, ...]:
            real = real_factors(op)
            return tuple({**one, **real} for one in formula(op)) if real else formula(op)

        enter(names, Entry(label, Kind.PRODUCT, family, counted, steps, field, how, parts))
        return counted

    return register


def register_steps(
    family: Family,
    label: str,
    names: str,
    field: rules.Rule | None = None,
    how: str = "",
    *,
    random: bool = False,
) -> Callable[[Formula], Formula]:
    """Register a formula of element operations."""

    def register(formula: Formula) -> Formula:
        entry = Entry(
            label, Kind.ELEMENT, family, steps=formula, field=field, how=how, random=random
        )
        enter(names, entry)
        return formula

    return register


def factors(steps: int, what: str, shape: Shape) -> tuple[Factors, ...]:
    """A fixed number of steps for each element of a shape."""
    return ({f"steps for each {what} element": steps, f"{what} elements": shape},)


def per_output(
    label: str,
    steps: int,
    names: str,
    field: rules.Rule | None = rules.elementwise,
    how: str = "",
    family: Family = Family.ELEMENTWISE,
    *,
    random: bool = False,
) -> None:
    """Register operations that take a fixed number of steps for each output element."""

    @register_steps(family, label, names, field, how, random=random)
    def _(op: Op) -> tuple[Factors, ...]:
        return factors(steps, "output", op.out)


def per_input(
    label: str,
    steps: int,
    names: str,
    field: rules.Rule | None = rules.reduction,
    how: str = "",
    family: Family = Family.REDUCTION,
) -> None:
    """Register operations that take a fixed number of steps for each input element."""

    @register_steps(family, label, names, field, how)
    def _(op: Op) -> tuple[Factors, ...]:
        return factors(steps, "input", op.first)


def each(
    kind: Kind,
    names: str,
    field: rules.Rule | None = None,
    family: Family = Family.OTHER,
    *,
    random: bool = False,
) -> None:
    """Register operations without arithmetic, each labelled with its own name."""
    for name in names.split():
        label = name.rpartition(".")[2].strip("_").replace("_", " ")
        enter(name, Entry(label, kind, family, field=field, random=random))


# ------------------------------------------------------------------------- complex numbers

# Of the last of the three real convolutions that torch computes a complex one by: the places of
# the other two (aten/src/ATen/native/Convolution.cpp, `complex_convolution`).
COMPLEX_PARTS = "complex_parts"
_NO_FACTORS = frozenset("bias attn_bias attn_mask".split())  # they are added


def real_factors(op: Op) -> Factors:
    """The real multiply-accumulates of one complex one: 4, or 2 with a real number.

    (a + bi)(c + di) = ac - bd + (ad + bc)i. torch adds numbers first and needs three products; the
    third of these convolutions stands for two, so that all three count four.
    """
    if op.get(COMPLEX_PARTS):
        return {"real products": 2}
    added = _NO_FACTORS | ({"self"} if op.has("mat1") or op.has("batch1") else set())
    dtypes = [
        op.trace.tensors[tensor].dtype
        for name, tensor in op.record.arguments()
        if name not in added
    ]
    complex_ = sum("complex" in dtype for dtype in dtypes)
    if not complex_:
        return {}
    return {"real MACs of a complex one": 4 if complex_ == len(dtypes) else 2}
