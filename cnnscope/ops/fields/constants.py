"""Values of integer tensors that a forward makes from nothing: indices, grids of positions.

A trace has no data, but `torch.arange(n) // 2` needs none. Only what follows from operations whose
arguments are all written down is known; None for everything else. Every step is computed in the
dtype of the trace: 49 * (1 / 49) is 1 in float32, and less in float64, which is another index.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from cnnscope.ops.operation import Op

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnscope.records.trace import OpRecord, Trace

    Array = NDArray[Any]

LARGEST = 2**20  # elements
_FLOATS = frozenset(("float16", "float32", "float64"))
_DTYPES = _FLOATS | {"int8", "int16", "int32", "int64", "uint8", "bool"}  # numpy has no bfloat16


class Constants:
    """The values of a trace's tensors, each computed when it is asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.makers: dict[int, OpRecord] | None = None
        self.known: dict[int, Array | None] = {}

    def value(self, tensor: int) -> Array | None:
        """The values of a tensor, None where they are not known."""
        if self.makers is None:
            self.makers = {t: r for r in self.trace.ops for t in r.outputs}
        wanted = [tensor]
        while wanted:  # without recursion: chains may be long
            last = wanted[-1]
            record = self.makers.get(last)
            if last in self.known or record is None:
                self.known.setdefault(last, None)
                wanted.pop()
                continue
            missing = [t for t in record.tensors if t not in self.known]
            if missing and self._worth(record):
                wanted += missing
                continue
            self.known[last] = self._computed(record)
            wanted.pop()
        return self.known[tensor]

    def _worth(self, record: OpRecord) -> bool:
        sizes = [prod(self.trace.tensors[t].shape) for t in (*record.outputs, *record.tensors)]
        return _name(record) in _RULES and max(sizes, default=0) <= LARGEST

    def _computed(self, record: OpRecord) -> Array | None:
        if not self._worth(record):
            return None
        op, dtype = Op(self.trace, record), self.trace.tensors[record.outputs[0]].dtype
        if op.get("values") and dtype in _DTYPES:
            return _listed(op).astype(dtype)
        given = self._given(record, dtype)
        if given is None or dtype not in _DTYPES:
            return None
        try:
            found: Array | None = _RULES[_name(record)](op, given)
        except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError):
            return None
        return None if found is None or tuple(found.shape) != op.out else found.astype(dtype)

    def _given(self, record: OpRecord, dtype: str) -> Given | None:
        """The operands, converted as torch does where the result is a number with a fraction."""
        given: Given = {}
        for name, value in record.inputs.items():
            ids = value if isinstance(value, tuple) else (value,)
            found = [None if t is None else self.known.get(t) for t in ids]
            arrays = [a.astype(dtype) if dtype in _FLOATS else a for a in found if a is not None]
            if len(arrays) < len(ids):
                return None
            given[name] = arrays if isinstance(value, tuple) else arrays[0]
        return given


def _name(record: OpRecord) -> str:
    base = record.name.removeprefix("aten.").partition(".")[0]
    return base[:-1] if base.endswith("_") and not base.endswith("__") else base


# ------------------------------------------------------------------------------- operations

Given = dict[str, Any]


def _listed(op: Op) -> Array:
    import numpy as np

    return np.array(op.get("values")).reshape(op.out)


def _arange(op: Op, _: Given) -> Array:
    import numpy as np

    return np.arange(op.get("start", 0), op.get("end"), op.get("step", 1))


def _filled(op: Op, value: float) -> Array:
    import numpy as np

    return np.full(op.out, value)


def _second(op: Op, given: Given) -> Any:
    value = given.get("other", op.get("other"))
    if value is None:
        raise ValueError("no operand")
    return value


def _divided(op: Op, given: Given) -> Array | None:
    import numpy as np

    mode, whole = op.get("rounding_mode"), _name(op.record) == "floor_divide"
    if mode == "floor" or whole:
        floored: Array = np.floor_divide(given["self"], _second(op, given))
        return floored
    exact: Array = given["self"] / _second(op, given)
    return np.trunc(exact) if mode == "trunc" else exact


def _sum(op: Op, given: Given, sign: int) -> Array:
    found: Array = given["self"] + sign * op.get("alpha", 1) * _second(op, given)
    return found


def _clamp(op: Op, given: Given) -> Array:
    import numpy as np

    low, high = (given.get(name, op.get(name)) for name in ("min", "max"))  # numbers or tensors
    clipped: Array = np.clip(given["self"], low, high)
    return clipped


def _reshaped(op: Op, given: Given) -> Array:
    found: Array = given["self"].reshape(op.out)
    return found


def _expanded(op: Op, given: Given) -> Array:
    import numpy as np

    return np.broadcast_to(given["self"], op.out)


def _sliced(op: Op, given: Given) -> Array:
    value, dim = given["self"], op.get("dim", 0)
    start = op.get("start") or 0
    start = max(start + value.shape[dim], 0) if start < 0 else start
    step = op.get("step", 1) or 1
    where = [slice(None)] * value.ndim
    where[dim] = slice(start, start + op.out[dim] * step, step)
    found: Array = value[tuple(where)]
    return found


def _permuted(op: Op, given: Given) -> Array:
    import numpy as np

    value = given["self"]
    if _name(op.record) == "permute":
        return np.transpose(value, op.get("dims"))
    if _name(op.record) == "t":
        return np.transpose(value)
    return np.swapaxes(value, op.get("dim0"), op.get("dim1"))


def _joined(op: Op, given: Given) -> Array:
    import numpy as np

    join = np.stack if _name(op.record) == "stack" else np.concatenate
    return join(given["tensors"], axis=op.get("dim", 0))


def _flipped(op: Op, given: Given) -> Array:
    import numpy as np

    return np.flip(given["self"], op.get("dims"))


def _rolled(op: Op, given: Given) -> Array:
    import numpy as np

    return np.roll(given["self"], op.get("shifts"), op.get("dims") or None)


def _tiled(op: Op, given: Given) -> Array:
    import numpy as np

    return np.tile(given["self"], op.get("repeats"))


def _compared(op: Op, given: Given) -> Array:
    import numpy as np

    names = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal",
             "gt": "greater", "ge": "greater_equal"}  # fmt: skip
    found: Array = getattr(np, names[_name(op.record)])(given["self"], _second(op, given))
    return found


def _remainder(op: Op, given: Given) -> Array:
    import numpy as np

    found: Array = np.mod(given["self"], _second(op, given))
    return found


def _negated(_: Op, given: Given) -> Array | None:
    import numpy as np

    mask = given["self"]
    return np.logical_not(mask) if mask.dtype == bool else None


def _both(op: Op, given: Given) -> Array | None:
    import numpy as np

    a, b = given["self"], _second(op, given)
    if a.dtype != bool or b.dtype != bool:
        return None
    join = np.logical_and if _name(op.record).endswith("and") else np.logical_or
    found: Array = join(a, b)
    return found


_Rule = Callable[[Op, Given], "Array | None"]
_RULES: dict[str, _Rule] = {
    "arange": _arange,
    "zeros": lambda op, _: _filled(op, 0),
    "ones": lambda op, _: _filled(op, 1),
    "full": lambda op, _: _filled(op, op.get("fill_value")),
    "scalar_tensor": lambda op, _: _filled(op, op.get("s")),
    "zeros_like": lambda op, _: _filled(op, 0),
    "ones_like": lambda op, _: _filled(op, 1),
    "add": lambda op, given: _sum(op, given, 1),
    "sub": lambda op, given: _sum(op, given, -1),
    "rsub": lambda op, given: -_sum(op, given, -1) if op.get("alpha", 1) == 1 else None,
    "mul": lambda op, given: given["self"] * _second(op, given),
    "div": _divided,
    "floor_divide": _divided,
    "remainder": _remainder,
    **dict.fromkeys(("logical_not", "bitwise_not"), _negated),
    **dict.fromkeys(("logical_and", "bitwise_and", "logical_or", "bitwise_or"), _both),
    "neg": lambda _, given: -given["self"],
    "clamp": _clamp,
    "floor": lambda _, given: given["self"] // 1,
    "_to_copy": lambda _, given: given["self"],
    "slice": _sliced,
    "permute": _permuted,
    "transpose": _permuted,
    "t": _permuted,
    "cat": _joined,
    "stack": _joined,
    "flip": _flipped,
    "roll": _rolled,
    "repeat": _tiled,
    "expand": _expanded,
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compared),
    **dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "clone",
         "contiguous", "alias", "detach", "lift_fresh"), _reshaped,
    ),
}  # fmt: skip
