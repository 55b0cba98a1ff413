"""Terms that cancel whatever the weights are: `conv(x) - conv(x)` sees nothing of x.

Values are numbered: the same operation on the same values with the same attributes (weights are
values too, tied ones the same) gives the same value. Sums, differences, negations and products
with a number are kept as linear forms over those, and a term whose coefficient is zero is
gone. This is exact for terms that are identical; it does no algebra beyond that.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from cnnscope.ops import table
from cnnscope.records.trace import OpRecord, Trace

Form = dict[int, Fraction]  # numbered value -> coefficient

_ONE = Fraction(1)
_SUMS = {"add": 1, "sub": -1, "rsub": -1}
_COPIES = {"clone", "detach", "alias", "contiguous", "lift_fresh"}


def cancelled(trace: Trace) -> dict[int, tuple[int, ...]]:
    """For each tensor in which terms cancel, tensors of its shape that it is a combination of."""
    if not any(map(_takes_away, trace.ops)):
        return {}
    numbering = _Numbering(trace)
    for record in trace.ops:
        numbering.read(record)
    return numbering.found


def _takes_away(record: OpRecord) -> bool:
    name = table.base_name(record.name)
    if name in ("sub", "rsub", "neg"):
        return True
    if not record.attributes or name not in ("add", "mul", "div"):
        return False
    numbers = (record.attributes.get("alpha", 1), record.attributes.get("other", 1))
    return any(isinstance(n, (int, float)) and n <= 0 for n in numbers)


class _Numbering:
    """One pass over the operations."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.forms: dict[int, Form] = {}  # of tensors
        self.numbers: dict[Any, int] = {}
        self.tensors: list[int] = []  # a tensor for each number
        self.found: dict[int, tuple[int, ...]] = {}

    def read(self, record: OpRecord) -> None:
        form = self._linear(record)
        if form is None:
            self._opaque(record)
            return
        terms = {n for t in record.inputs.values() if isinstance(t, int) for n in self._form(t)}
        self.forms[record.outputs[0]] = form
        if len(form) < len(terms):
            self.found[record.outputs[0]] = tuple(self.tensors[n] for n in form)

    def _linear(self, record: OpRecord) -> Form | None:
        """The form of a sum, a multiple or a copy, None for anything else."""
        name, inputs, attributes = table.base_name(record.name), record.inputs, record.attributes
        out = self.trace.tensors[record.outputs[0]].shape if record.outputs else None
        main, other = inputs.get("self"), inputs.get("other")
        if not isinstance(main, int) or self.trace.tensors[main].shape != out:
            return None
        if name in _COPIES:
            return self._form(main)
        if name == "neg":
            return _scaled(self._form(main), Fraction(-1))
        if name in _SUMS and isinstance(other, int) and self.trace.tensors[other].shape == out:
            factor = _SUMS[name] * _number(attributes.get("alpha", 1))
            a, b = (main, other) if name != "rsub" else (other, main)
            return _plus(self._form(a), _scaled(self._form(b), factor))
        if name in ("mul", "div") and "other" in attributes and "rounding_mode" not in attributes:
            factor = _number(attributes["other"])
            return _scaled(self._form(main), 1 / factor if name == "div" and factor else factor)
        return None

    def _form(self, tensor: int) -> Form:
        if tensor not in self.forms:
            self.forms[tensor] = {self._numbered(("tensor", tensor), tensor): _ONE}
        return self.forms[tensor]

    def _opaque(self, record: OpRecord) -> None:
        """Another operation: the value has a number of its own, unless it was computed before."""
        name = table.base_name(record.name)
        entry = table.lookup(record.name)
        if entry.field is None or entry.kind is table.Kind.CREATE or entry.random:
            return  # its outputs are values of their own
        given = tuple((n, self._value(v)) for n, v in sorted(record.inputs.items()))
        key = (name, given, tuple(sorted(record.attributes.items())))
        for position, tensor in enumerate(record.outputs):
            number = self._numbered((key, position), tensor)
            self.forms[tensor] = {number: _ONE}

    def _value(self, tensors: int | tuple[int | None, ...]) -> Any:
        if isinstance(tensors, tuple):
            return tuple(None if t is None else self._value(t) for t in tensors)
        form = self._form(tensors)
        if len(form) == 1:
            ((number, factor),) = form.items()
            if factor == 1:  # nearly all of them; a fraction takes long to hash
                return number
        return tuple(sorted(form.items()))

    def _numbered(self, key: Any, tensor: int) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.tensors)
            self.tensors.append(tensor)
        return self.numbers[key]


def _plus(a: Form, b: Form) -> Form:
    total = {n: a.get(n, Fraction(0)) + b.get(n, Fraction(0)) for n in {**a, **b}}
    return {n: factor for n, factor in total.items() if factor}


def _scaled(form: Form, factor: Fraction) -> Form:
    return {n: c * factor for n, c in form.items()} if factor else {}


def _number(value: Any) -> Fraction:
    """The exact value of a number; 1 for an infinity, so that nothing cancels because of it."""
    try:
        return Fraction(value)
    except (TypeError, ValueError, OverflowError):
        return Fraction(1)
