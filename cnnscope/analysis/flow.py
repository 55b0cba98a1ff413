"""Which layer reads which: the dataflow between the rows of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cnnscope.ops import table
from cnnscope.ops.table import Family
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Attribute, Trace

# The same values in the same order, whatever shape they have.
_SAME = frozenset((Family.VIEW, Family.SQUEEZE, Family.COPY))
_PARAMETERS = ("parameter", "unused")


class Flow:
    """Finds the row that made each tensor; the inputs of the model are -1, -2, ...

    Attributes:
        still: single layers that give what they read, in another shape perhaps.
    """

    def __init__(
        self,
        trace: Trace,
        rows: Sequence[LayerRow],
        identities: Sequence[Mapping[str, Attribute]],
    ) -> None:
        """Prepare to follow tensors.

        Args:
            trace: of the model.
            rows: all of its rows.
            identities: hyper-parameters of each row.
        """
        self._trace, self._rows = trace, rows
        self._leaves = [at for at, row in enumerate(rows) if row.leaf]
        self._ops = {at: self._ops_of(rows[at]) for at in self._leaves}
        self.still = {at for at in self._leaves if self._is_still(at, identities[at])}
        self._made: dict[int, tuple[int, ...]] = {
            tensor: (-1 - number,) for number, tensor in enumerate(trace.inputs)
        }
        params = {param.path: param.tensor for param in trace.params}
        for at in self._leaves:
            if rows[at].kind in _PARAMETERS and rows[at].path in params:
                self._made[params[rows[at].path]] = (at,)

    def feeds(self) -> dict[int, tuple[int, ...]]:
        """What each single layer reads, and the model returns; in the order of the operations."""
        owner = {op: at for at in self._leaves for op in self._ops[at]}
        for index, record in enumerate(self._trace.ops):
            at = owner.get(index)
            given: tuple[int, ...] = () if at is None else (at,)
            if at is None or at in self.still:
                given = tuple(dict.fromkeys(self._read(record.tensors)))
            for tensor in record.outputs:
                self._made.setdefault(tensor, given)
        found = {at: tuple(self._feeds(at)) for at in self._leaves if at not in self.still}
        model = {} if self._rows[0].leaf else {0: tuple(self._read(self._trace.outputs))}
        return found | model

    def _ops_of(self, row: LayerRow) -> list[int]:
        """Operations of a row."""
        index = self._trace.index
        if row.kind == "module":
            return index.all_ops.get(index.calls[row.path, row.call], [])
        if row.kind == "operation" and row.tensor >= 0:
            return [index.maker[row.tensor]]
        return []

    def _is_still(self, at: int, identity: Mapping[str, Attribute]) -> bool:
        """Return True if what a layer reads is what it gives, in another shape perhaps."""
        row = self._rows[at]
        if not row.minor or identity.get("p") is not None:
            return False
        families = [table.lookup(self._trace.ops[op].name).family for op in self._ops[at]]
        known = bool(families) or row.kind == "module"
        return known and all(family in _SAME for family in families) and not row.params

    def _feeds(self, at: int) -> Iterator[int]:
        """What the operations of a layer read and did not make themselves."""
        ops = [self._trace.ops[op] for op in self._ops[at]]
        inside = {tensor for record in ops for tensor in record.outputs}
        for record in ops:
            outside = (tensor for tensor in record.tensors if tensor not in inside)
            yield from (given for given in self._read(outside) if given != at)

    def _read(self, tensors: Iterable[int]) -> Iterator[int]:
        for tensor in tensors:
            yield from self._made.get(tensor, ())
