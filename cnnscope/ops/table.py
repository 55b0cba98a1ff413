"""The operation table: what every operation is and costs, in one entry each.

The entries stand in one module per family of operations (`products.py`, `elements.py`, `norms.py`
...), each beside its formula; a new operation is added there and nowhere else. What an entry holds
is in `entry.py`.

MACs are counted for convolutions, linear layers, matrix products (attention's included) and
recurrent cells, the usage of papers since AlexNet ("multiply-adds" in Howard et al., MobileNets,
2017, section 3.1). Steps are counted per output element, with every transcendental function
(exp, tanh, erf, ...) as one step.
"""

from cnnscope.ops import (  # noqa: F401  each registers its entries
    algebra,
    elements,
    losses,
    moves,
    norms,
    products,
    searches,
    windows,
)
from cnnscope.ops.entry import (
    COMPLEX_PARTS,
    NORMS,
    POOLS,
    TABLE,
    Entry,
    Factors,
    Family,
    Kind,
    base_name,
    lookup,
    product,
    real_factors,
)
from cnnscope.ops.operation import Op
from cnnscope.records.trace import OpRecord, Trace

__all__ = [
    "COMPLEX_PARTS", "NORMS", "POOLS", "TABLE", "Entry", "Factors", "Family", "Kind", "Op",
    "base_name", "element_ops", "is_complex", "lookup", "macs", "product",
    "real_products",
]  # fmt: skip


def macs(trace: Trace, record: OpRecord) -> int:
    """Multiply-accumulates of one operation, 0 if the table does not know it."""
    return sum(map(product, lookup(record.name).macs(Op(trace, record))))


def element_ops(trace: Trace, record: OpRecord) -> int:
    """Element operations of one operation, 0 if the table does not know it."""
    return sum(map(product, lookup(record.name).steps(Op(trace, record))))


def real_products(trace: Trace, record: OpRecord) -> int:
    """Number of real products that each multiply-accumulate of an operation stands for."""
    return product(real_factors(Op(trace, record)))


def is_complex(trace: Trace, record: OpRecord) -> bool:
    """Return True if an operation multiplies complex numbers."""
    return lookup(record.name).multiplies and bool(real_factors(Op(trace, record)))
