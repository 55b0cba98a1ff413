"""What needs no box of its own: dead ends, operations that only move data, constants, weights."""

from __future__ import annotations

from cnnscope.analysis.graph.items import Item
from cnnscope.analysis.memo import per_trace
from cnnscope.ops import table
from cnnscope.ops.fields import rules
from cnnscope.records import graph as g
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import OpRecord, Trace


@per_trace
def operands(trace: Trace) -> tuple[tuple[int, ...], ...]:
    """Tensors whose values each operation reads: `zeros_like` has only the shape of its own."""
    return tuple(map(_operands, trace.ops))


def _operands(record: OpRecord) -> tuple[int, ...]:
    entry = table.lookup(record.name)
    if entry.kind is table.Kind.CREATE and entry.field is rules.constant:
        return tuple(tensor for name, tensor in record.arguments() if name == "value")
    return record.tensors


def tidy(trace: Trace, rows: tuple[LayerRow, ...], root: Item) -> None:
    """Leave out what nothing reads and what costs nothing, and join what belongs together."""
    known = _Known(trace, rows)
    for block in list(root.blocks()):
        block.children = [item for item in block.children if not known.idle(item)]
        known.join_moves(block)
        known.join_constants(block)
        known.give_weights(block)


class _Known:
    """Who reads what, in one trace."""

    def __init__(self, trace: Trace, rows: tuple[LayerRow, ...]) -> None:
        self.trace, self.rows, self.operands = trace, rows, operands(trace)
        self.readers: dict[int, list[int]] = {}
        self.reached = set(trace.inputs)  # tensors whose values depend on an input
        for number, record in enumerate(trace.ops):
            read = self.operands[number]
            for tensor in dict.fromkeys(read):
                self.readers.setdefault(tensor, []).append(number)
            if not self.reached.isdisjoint(read):
                self.reached.update(record.outputs)
        broken = trace.broken.operation if trace.broken else None
        for tensor in (*trace.outputs, *(broken.tensors if broken else ())):
            self.readers.setdefault(tensor, []).append(-1)

    def idle(self, item: Item) -> bool:
        """Return True for an operation without cost whose result nothing reads."""
        if item.kind != g.OPERATION or not item.ops:
            return False
        record = self.trace.ops[item.ops[0]]
        entry = table.lookup(record.name)
        unread = not any(tensor in self.readers for tensor in record.outputs)
        return unread and not entry.computes and entry.kind is not table.Kind.UNKNOWN

    # -- operations that only move data

    def join_moves(self, block: Item) -> None:
        """Join each operation that only moves data to the one before that it alone reads."""
        ends: dict[int, Item] = {}  # the operation that ends an item -> that item
        kept = []
        for item in block.children:
            before = None
            if item.kind == g.OPERATION and item.ops and self._moves(item.ops[0]):
                source = self.trace.ops[item.ops[0]].tensors[0]
                if set(self.readers.get(source, ())) == {item.ops[0]}:
                    before = ends.pop(self.trace.index.maker.get(source, -1), None)
                ends[item.ops[0]] = before or item
            if before is None:
                kept.append(item)
            else:
                _absorb(before, item)
        block.children = kept

    def _moves(self, op: int) -> bool:
        record = self.trace.ops[op]
        moves = table.lookup(record.name).kind is table.Kind.REARRANGE
        return moves and len(record.tensors) == 1 and len(record.outputs) == 1

    # -- constants

    def join_constants(self, block: Item) -> None:
        """Draw operations that no input reaches, and that read each other, as one box.

        Those that read what a module of the block made are left alone: a box could otherwise be
        both before and after that module.
        """
        loose = [item for item in block.children if self._constant(item)]
        if not loose:
            return
        inside = {tensor for leaf in block.leaves() for tensor in self._made(leaf)}
        home: dict[int, Item] = {}  # tensor -> the box that makes it
        gone: set[Item] = set()
        for item in loose:
            own, asked = self._made(item), self._asked(item)
            item.kind = g.CONSTANT
            if any(t in inside and t not in home and t not in own for t in asked):
                continue
            first, *others = [*dict.fromkeys(home[t] for t in asked if t in home), item]
            for other in others:
                _absorb(first, other)
                gone.add(other)
            home.update(dict.fromkeys(self._made(first), first))
        block.children = [item for item in block.children if item not in gone]

    def _constant(self, item: Item) -> bool:
        """Return True for an operation that no input reaches."""
        if item.kind != g.OPERATION or not item.ops:
            return False
        return self.reached.isdisjoint((*self._asked(item), *self._made(item)))

    def _made(self, item: Item) -> list[int]:
        return [tensor for op in item.ops for tensor in self.trace.ops[op].outputs]

    def _asked(self, item: Item) -> list[int]:
        return [tensor for op in item.ops for tensor in self.operands[op]]

    # -- weights

    def give_weights(self, block: Item) -> None:
        """Draw a weight with the operation that alone reads it: `F.linear(x, self.weight)`."""
        users = {op: item for item in block.children for op in item.ops}
        gone: set[Item] = set()
        for item in block.children:
            if item.kind != g.PARAMETER:
                continue
            way = [item, *self._moved(item, users)]
            op = self._only_reader(way[-1])
            user = users.get(op)
            if user is None or user.kind != g.OPERATION or not self._weighs(op):
                continue
            for part in way:
                user.ops = [*part.ops, *user.ops]
                user.merged.append(part.row)
            user.main = op
            user.held.append(self.rows[item.row].name)
            gone.update(way)
        block.children = [item for item in block.children if item not in gone]

    def _moved(self, item: Item, users: dict[int, Item]) -> list[Item]:
        """The box that only moves a parameter's data, if that is all that reads it."""
        other = users.get(self._only_reader(item))
        if other is None or other.kind != g.CONSTANT or not all(map(self._moves, other.ops)):
            return []
        return [other] if set(self._asked(other)) <= {item.tensor, *self._made(other)} else []

    def _only_reader(self, item: Item) -> int:
        """The operation that alone reads what an item gives, -1 if there is not one."""
        given = [item.tensor] if item.kind == g.PARAMETER else self._made(item)[-1:]
        found = {op for tensor in given for op in self.readers.get(tensor, ())}
        return found.pop() if len(found) == 1 else -1

    def _weighs(self, op: int) -> bool:
        entry = table.lookup(self.trace.ops[op].name)
        return entry.multiplies or entry.family in table.NORMS


def _absorb(item: Item, other: Item) -> None:
    """Draw an item as part of another one."""
    item.merged += [other.row, *other.merged]
    item.ops += other.ops
