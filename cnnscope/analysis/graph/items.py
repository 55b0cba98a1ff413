"""The call tree of a trace as boxes of a graph: what is drawn, before how it is joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace


@dataclass(eq=False, slots=True)
class Item:
    """A box in the making.

    `ops` are the operations of a leaf, `main` the one that it is named after, `held` the
    parameters that it has (paths). `tensor` is that of a parameter, an input or an output. `ins`
    and `outs` are its ports: the tensor of each. `side` is the model that it is of, where there are
    two. An edge names its ends (None is the border) and
    their ports.
    """

    kind: str
    row: int = -1
    call: int = -1
    tensor: int = -1
    ops: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    children: list[Item] = field(default_factory=list)
    parent: Item | None = None
    ins: list[int] = field(default_factory=list)
    outs: list[int] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    asks: tuple[int, ...] = ()  # what it reads beside its operations
    main: int = -1
    side: int = 0
    held: list[str] = field(default_factory=list)

    @property
    def group(self) -> bool:
        """True for a box around neighbours that repeat together, which no module is."""
        return self.kind == g.BLOCK and self.call < 0 and self.parent is not None

    def adopt(self, child: Item) -> None:
        """Take a child in, as the last one."""
        child.parent = self
        self.children.append(child)

    def leaves(self) -> Iterator[Item]:
        """What has no children inside, in order; itself if it has none."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()

    def blocks(self) -> Iterator[Item]:
        """What has children, the inner ones first."""
        for child in self.children:
            yield from child.blocks()
        if self.children:
            yield self


Edge = tuple[Item | None, int, Item | None, int]


class Tree:
    """Makes the items of a trace."""

    def __init__(self, trace: Trace, rows: Sequence[LayerRow]) -> None:
        self.trace, self.rows, self.index = trace, rows, trace.index
        self.of_call: dict[tuple[str, int], int] = {}
        self.of_op: dict[int, int] = {}
        self.parameters: dict[int, list[int]] = {}
        self.broken: dict[int, int] = {}
        for number, row in enumerate(rows):
            if row.kind == "module":
                self.of_call[row.path, row.call] = number
            elif row.kind == "parameter":
                self.parameters.setdefault(row.parent, []).append(number)
            elif row.fails:
                self.broken[row.parent] = number
            else:
                self.of_op[self.index.maker.get(row.tensor, -1)] = number
        self.failing = self._failing()
        self.tensors = {param.path: param.tensor for param in trace.params}

    def root(self) -> Item:
        """The model, with its inputs first and its outputs last."""
        outer = self.index.children.get(-1, [])
        root = Item(g.BLOCK, row=0 if self.rows else -1, call=outer[0] if len(outer) == 1 else -1)
        for tensor in dict.fromkeys(self.trace.inputs):
            root.adopt(Item(g.INPUT, tensor=tensor))
        if root.call >= 0 and not self._is_leaf(root.call):
            self._fill(root, root.call)
            for op in self.index.own_ops.get(-1, ()):
                root.adopt(self._operation(op))
            root.children.sort(key=self._begin)
        else:
            self._fill(root, -1)
        for tensor in self.trace.outputs:
            root.adopt(Item(g.OUTPUT, tensor=tensor))
        return root

    def _failing(self) -> list[int]:
        """The call in which the forward raised, and those around it."""
        call = self.trace.broken.call if self.trace.broken else -1
        found = []
        while call >= 0:
            found.append(call)
            call = self.trace.calls[call].parent
        return found

    def _begin(self, item: Item) -> int:
        """The first operation that runs in it or after it began."""
        if item.ops:
            return item.ops[0]
        return self.trace.calls[item.call].start if item.call >= 0 else -1

    def _fill(self, item: Item, call: int) -> None:
        """Add what is inside of a call, -1 for what is outside of all."""
        for row in self.parameters.get(item.row, ()) if call >= 0 else ():
            param = self.tensors.get(self.rows[row].path, -1)
            item.adopt(Item(g.PARAMETER, row=row, tensor=param))
        for is_op, number in self.index.events(call):
            if is_op:
                item.adopt(self._operation(number))
            else:
                item.adopt(self._call(number))
        broken = self.trace.broken
        if call >= 0 and item.row in self.broken and broken and broken.operation:
            asks = broken.operation.tensors
            item.adopt(Item(g.OPERATION, row=self.broken[item.row], asks=asks))

    def _operation(self, number: int) -> Item:
        return Item(g.OPERATION, row=self.of_op.get(number, -1), ops=[number])

    def _call(self, call: int) -> Item:
        item = Item(g.BLOCK, row=self.of_call.get(self.index.keys[call], -1), call=call)
        inside = self.index.all_ops.get(call, [])
        fails = call in self.failing
        if self._is_leaf(call) or not (inside or fails):
            item.kind, item.ops = g.LAYER, list(inside)
            item.asks = self.trace.calls[call].inputs if fails else ()
        else:
            self._fill(item, call)
        return item

    def _is_leaf(self, call: int) -> bool:
        row = self.of_call.get(self.index.keys[call], -1)
        return row < 0 or self.rows[row].leaf
