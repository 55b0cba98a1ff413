"""What `cnnscope diff` needs of one model: small, plain, and kept beside the trace."""

import msgspec

from cnnscope.records.diff import DiffSide
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Attribute


class Part(msgspec.Struct, frozen=True):
    """A row of a model, and what it is compared by.

    `identity` is what the layer itself is, whatever it is fed: its hyper-parameters by name.
    Leaves of one `role` may take each other's place. `feeds` are the rows that a layer reads, and
    of the model those that it returns: -1 is its first input, -2 the second. A `still` layer only
    writes the same values in another shape. `dtype` is that of the first output. `shares` are the
    weights of rows before it, which count them, that are its own as well.
    """

    row: LayerRow
    identity: dict[str, Attribute]
    role: str
    dtype: str = ""
    feeds: tuple[int, ...] = ()
    still: bool = False
    shares: tuple[str, ...] = ()


class Comparable(DiffSide, frozen=True, kw_only=True):
    """A model that is ready to be compared; parameters that nothing read stand at its end."""

    parts: tuple[Part, ...]
