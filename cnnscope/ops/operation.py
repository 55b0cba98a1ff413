"""An operation as the formulas of the operation table see it."""

from typing import Any

from cnnscope.records.trace import OpRecord, Shape, Trace

_PACKED = ("packed_weight", "W_prepack", "weight")  # names of an argument
_AXES = {"1d": 1, "2d": 2, "3d": 3}


class Op:
    """An operation as a formula sees it: shapes by argument name, attributes, output shape."""

    __slots__ = ("record", "trace")

    def __init__(self, trace: Trace, record: OpRecord) -> None:
        self.trace, self.record = trace, record

    def has(self, name: str) -> bool:
        """Return True if the tensor argument was given."""
        return name in self.record.inputs

    def shape(self, name: str, position: int = 0) -> Shape:
        """Shape of a tensor argument (of its `position`-th tensor if it is a list)."""
        value = self.record.inputs[name]
        tid = value[position] if isinstance(value, tuple) else value
        return () if tid is None else self.trace.tensors[tid].shape

    def shapes(self, name: str) -> tuple[Shape, ...]:
        """Shapes of a list argument."""
        value = self.record.inputs.get(name, ())
        ids = value if isinstance(value, tuple) else (value,)
        return tuple(self.trace.tensors[i].shape for i in ids if i is not None)

    def get(self, name: str, default: Any = None) -> Any:
        """A non-tensor argument."""
        return self.record.attributes.get(name, default)

    @property
    def axes(self) -> int | None:
        """Spatial axes, where the name ("max_pool2d": 2) or the kernel says how many."""
        named = next((n for tag, n in _AXES.items() if tag in self.record.name), None)
        kernel = self.get("kernel_size")
        return len(kernel) if named is None and isinstance(kernel, tuple) else named

    @property
    def out(self) -> Shape:
        """Shape of the first output (scalar if there is none)."""
        outputs = self.record.outputs
        return self.trace.tensors[outputs[0]].shape if outputs else ()

    @property
    def results(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return tuple(self.trace.tensors[t].shape for t in self.record.outputs)

    @property
    def first(self) -> Shape:
        """Shape of the first tensor argument."""
        return self.shape(next(iter(self.record.inputs)))

    @property
    def packed(self) -> Shape:
        """Shape of the weight that a quantised operation is given packed; () if it is not known."""
        given = next((self.get(name) for name in _PACKED if self.get(name)), ())
        return given if isinstance(given, tuple) else ()

    @property
    def last(self) -> str:
        """Name of the last tensor argument."""
        return next(reversed(self.record.inputs))
