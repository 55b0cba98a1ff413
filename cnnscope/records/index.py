"""Lookups over a trace: who made a tensor and who reads it, what ran inside a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnscope.records.trace import CallRecord, ModuleRecord, OpRecord

CallKey = tuple[str, int]  # path of a module, and the number of its call, from 1


class TraceIndex:
    """Lookups over the calls and operations of a trace, each built on first use.

    Calls, operations and tensors are named by their places in the trace; -1 is "no call".
    """

    def __init__(
        self,
        modules: Sequence[ModuleRecord],
        calls: Sequence[CallRecord],
        ops: Sequence[OpRecord],
        inputs: Sequence[int],
    ) -> None:
        self._modules, self._calls, self._ops, self._inputs = modules, calls, ops, inputs
        self.memo: dict[object, object] = {}  # what analyses keep, by their function

    @cached_property
    def children(self) -> dict[int, list[int]]:
        """Calls that each call made; the outermost are those of -1."""
        found: dict[int, list[int]] = {}
        for index, call in enumerate(self._calls):
            found.setdefault(call.parent, []).append(index)
        return found

    @cached_property
    def own_ops(self) -> dict[int, list[int]]:
        """Operations that each call ran itself, not those of the calls inside it."""
        found: dict[int, list[int]] = {}
        for index, record in enumerate(self._ops):
            found.setdefault(record.call, []).append(index)
        return found

    @cached_property
    def all_ops(self) -> dict[int, list[int]]:
        """Operations of each call and of the calls inside it, in order."""
        found: dict[int, list[int]] = {}
        for index, record in enumerate(self._ops):
            call = record.call
            while call >= 0:
                found.setdefault(call, []).append(index)
                call = self._calls[call].parent
        return found

    @cached_property
    def maker(self) -> dict[int, int]:
        """The operation that made each tensor; inputs and parameters have none."""
        return {t: index for index, record in enumerate(self._ops) for t in record.outputs}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """The operations that read each tensor, in order."""
        found: dict[int, list[int]] = {}
        for index, record in enumerate(self._ops):
            for tensor in dict.fromkeys(record.tensors):
                found.setdefault(tensor, []).append(index)
        return found

    @cached_property
    def from_input(self) -> frozenset[int]:
        """The tensors that depend on an input."""
        found = set(self._inputs)
        for record in self._ops:
            if not found.isdisjoint(record.tensors):
                found.update(record.outputs)
        return frozenset(found)

    @cached_property
    def keys(self) -> tuple[CallKey, ...]:
        """Path and number of every call."""
        times: Counter[int] = Counter()
        found = []
        for call in self._calls:
            times[call.module] += 1
            found.append((self._modules[call.module].path, times[call.module]))
        return tuple(found)

    @cached_property
    def calls(self) -> dict[CallKey, int]:
        """The call of each path and number."""
        return {key: index for index, key in enumerate(self.keys)}

    def events(self, call: int) -> list[tuple[bool, int]]:
        """Events of a call, in order: (False, a call inside it) or (True, an operation)."""
        inside = [(self._calls[c].start, 0, c) for c in self.children.get(call, ())]
        inside += [(op, 1, op) for op in self.own_ops.get(call, ())]
        return [(bool(is_op), item) for _, is_op, item in sorted(inside)]

    def module(self, record: OpRecord) -> ModuleRecord | None:
        """The module that ran an operation, None if it ran outside of the model."""
        return self._modules[self._calls[record.call].module] if record.call >= 0 else None

    def path(self, record: OpRecord) -> str:
        """Dotted path of the module that ran an operation, "" outside of the model."""
        module = self.module(record)
        return module.path if module is not None else ""
