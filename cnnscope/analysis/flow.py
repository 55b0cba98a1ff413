"""Which layer reads which: the dataflow between the rows of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cnnscope.ops import table
from cnnscope.ops.table import Family
from cnnscope.records.trace import Trace

if TYPE_CHECKING:
    from cnnscope.analysis.nodes import Node

# The same values in the same order, whatever shape they have.
_SAME = frozenset((Family.VIEW, Family.SQUEEZE, Family.COPY))
_PARAMETERS = ("parameter", "unused")


def connect(trace: Trace, nodes: Sequence[Node]) -> None:
    """Give each single layer what it reads, the model what it returns; mark `still` layers.

    Args:
        trace: of the model.
        nodes: of all of its rows, in their order.
    """
    Flow(trace, nodes).connect()


class Flow:
    """Finds the layer that made each tensor."""

    def __init__(self, trace: Trace, nodes: Sequence[Node]) -> None:
        self.trace = trace
        self.model = nodes[0] if not nodes[0].row.leaf else None
        self.leaves = [node for node in nodes if node.row.leaf]
        self.ops = {node.index: self._ops(node) for node in self.leaves}
        self.owner = {op: node for node in self.leaves for op in self.ops[node.index]}
        params = {param.path: param.tensor for param in trace.params}
        self.made: dict[int, tuple[Node | int, ...]] = {
            tensor: (number,) for number, tensor in enumerate(trace.inputs)
        }
        for node in self.leaves:
            if node.row.kind in _PARAMETERS and node.row.path in params:
                self.made[params[node.row.path]] = (node,)

    def connect(self) -> None:
        """See the function of that name; in the order of the operations, so that none recurses."""
        for node in self.leaves:
            node.still = self._is_still(node)
        for index, record in enumerate(self.trace.ops):
            owner = self.owner.get(index)
            given: tuple[Node | int, ...] = () if owner is None else (owner,)
            if owner is None or owner.still:
                given = tuple(dict.fromkeys(self._read(record.tensors)))
            for tensor in record.outputs:
                self.made.setdefault(tensor, given)
        for node in self.leaves:
            if not node.still:
                node.feeds = tuple(self._feeds(node))
        if self.model is not None:
            self.model.feeds = tuple(self._read(self.trace.outputs))

    def _ops(self, node: Node) -> list[int]:
        """Operations of a row."""
        row, index = node.row, self.trace.index
        if row.kind == "module":
            return index.all_ops.get(index.calls[row.path, row.call], [])
        if row.kind == "operation" and row.tensor >= 0:
            return [index.maker[row.tensor]]
        return []

    def _is_still(self, node: Node) -> bool:
        """Return True if what a layer reads is what it gives, in another shape perhaps."""
        if not node.row.minor or node.identity.get("p") is not None:
            return False
        families = [table.lookup(self.trace.ops[op].name).family for op in self.ops[node.index]]
        known = bool(families) or node.row.kind == "module"
        return known and all(family in _SAME for family in families) and not node.row.params

    def _feeds(self, node: Node) -> Iterator[Node | int]:
        """What the operations of a layer read and did not make themselves."""
        inside = {tensor for op in self.ops[node.index] for tensor in self.trace.ops[op].outputs}
        for op in self.ops[node.index]:
            outside = (t for t in self.trace.ops[op].tensors if t not in inside)
            yield from (given for given in self._read(outside) if given is not node)

    def _read(self, tensors: Sequence[int] | Iterator[int]) -> Iterator[Node | int]:
        for tensor in tensors:
            yield from self.made.get(tensor, ())
