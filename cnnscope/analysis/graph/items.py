"""The call tree of a trace as boxes of a graph: what is drawn, before how it is joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cnnscope.ops import table
from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace


@dataclass(eq=False, slots=True)
class Item:
    """A box in the making.

    `ops` are the operations of a leaf. `tensor` is that of a parameter, an input or an output.
    `reads` and `gives` are its ports: tensors, in order. An edge names its ends (None is the
    border) and their ports.
    """

    kind: str
    row: int = -1
    call: int = -1
    tensor: int = -1
    ops: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    children: list[Item] = field(default_factory=list)
    parent: Item | None = None
    reads: dict[int, int] = field(default_factory=dict)
    gives: dict[int, int] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    asks: tuple[int, ...] = ()  # what it reads beside its operations

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
        if self._is_leaf(call) or not inside:
            item.kind, item.ops = g.LAYER, list(inside)
        else:
            self._fill(item, call)
        return item

    def _is_leaf(self, call: int) -> bool:
        row = self.of_call.get(self.index.keys[call], -1)
        return row < 0 or self.rows[row].leaf


# ------------------------------------------------------------------ what needs no box of its own


def tidy(trace: Trace, root: Item) -> None:
    """Leave out what nothing reads and what costs nothing, join operations that only move data."""
    readers = _readers(trace)
    for block in list(root.blocks()):
        block.children = [item for item in block.children if not _idle(trace, item, readers)]
        _join_moves(trace, block, readers)
        _join_constants(trace, block)


def _readers(trace: Trace) -> dict[int, list[int]]:
    """Operations that read each tensor; -1 for an output of the model or a call that broke off."""
    found = {tensor: list(ops) for tensor, ops in trace.index.readers.items()}
    asked = trace.broken.operation.tensors if trace.broken and trace.broken.operation else ()
    for tensor in (*trace.outputs, *asked):
        found.setdefault(tensor, []).append(-1)
    return found


def _idle(trace: Trace, item: Item, readers: dict[int, list[int]]) -> bool:
    """Return True for an operation without cost whose result nothing reads."""
    if item.kind != g.OPERATION or not item.ops:
        return False
    record = trace.ops[item.ops[0]]
    entry = table.lookup(record.name)
    unread = not any(tensor in readers for tensor in record.outputs)
    return unread and not entry.computes and entry.kind is not table.Kind.UNKNOWN


def _join_moves(trace: Trace, block: Item, readers: dict[int, list[int]]) -> None:
    """Join each operation that only moves data to the one before, if nothing else reads that."""
    ends: dict[int, Item] = {}  # the operation that ends an item -> that item
    kept = []
    for item in block.children:
        before = None
        if item.kind == g.OPERATION and item.ops and _moves(trace, item.ops[0]):
            record = trace.ops[item.ops[0]]
            source = record.tensors[0]
            maker = trace.index.maker.get(source, -1)
            if set(readers[source]) == {item.ops[0]}:
                before = ends.pop(maker, None)
            ends[item.ops[0]] = before or item
        if before is None:
            kept.append(item)
        else:
            before.ops += item.ops
            before.merged.append(item.row)
    block.children = kept


def _moves(trace: Trace, op: int) -> bool:
    record = trace.ops[op]
    moves = table.lookup(record.name).kind is table.Kind.REARRANGE
    return moves and len(record.tensors) == 1 and len(record.outputs) == 1


def _join_constants(trace: Trace, block: Item) -> None:
    """Draw operations that no input reaches, and that read each other, as one box.

    Those that read what a module of the block made are left alone: a box could otherwise be both
    before and after that module.
    """
    inside = {t for leaf in block.leaves() for op in leaf.ops for t in trace.ops[op].outputs}
    home: dict[int, Item] = {}  # tensor -> the box that makes it
    gone: set[Item] = set()
    for item in block.children:
        if item.kind != g.OPERATION or not item.ops:
            continue
        asked = [t for op in item.ops for t in trace.ops[op].tensors]
        if not trace.index.from_input.isdisjoint((*asked, *_made(trace, item))):
            continue
        item.kind = g.CONSTANT
        own = set(_made(trace, item))
        if any(t in inside and t not in home and t not in own for t in asked):
            continue
        first, *others = [*dict.fromkeys(home[t] for t in asked if t in home), item]
        for other in others:
            _absorb(first, other)
            gone.add(other)
        home.update(dict.fromkeys(_made(trace, first), first))
    block.children = [item for item in block.children if item not in gone]


def _made(trace: Trace, item: Item) -> list[int]:
    return [tensor for op in item.ops for tensor in trace.ops[op].outputs]


def _absorb(item: Item, other: Item) -> None:
    """Draw an item as part of another one."""
    item.merged += [other.row, *other.merged]
    item.ops += other.ops
