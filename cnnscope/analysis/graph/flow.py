"""Data flow between the boxes of a graph: the ports of each, and the edges inside each block."""

from __future__ import annotations

from collections.abc import Iterator

from cnnscope.analysis.graph.items import Item
from cnnscope.analysis.graph.tidy import operands
from cnnscope.records import graph as g
from cnnscope.records.trace import Trace

Ports = dict[Item, dict[int, int]]  # of each item: the port of a tensor


def connect(trace: Trace, root: Item) -> None:
    """Find ports and edges of all items; layers that pass on what they get stand in its way."""
    reads, gives = _ports(trace, root)
    for block in list(root.blocks()):
        _Block(trace, block, reads, gives).connect()
    for item, ports in reads.items():
        item.ins, item.outs = list(ports), list(gives[item])


# ------------------------------------------------------------------------------------- ports


def _ports(trace: Trace, root: Item) -> tuple[Ports, Ports]:
    """Tensors that cross the border of each item, in the order in which they are read."""
    makers = _makers(trace, root)
    ways = dict(_ways(root, ()))
    reads: Ports = {item: {} for item in ways}
    gives: Ports = {item: {} for item in ways}
    for reader in root.leaves():
        for tensor in _asked(trace, reader):
            maker = makers.get(tensor)
            if maker is None or maker is reader:
                continue
            up, down = ways[maker], ways[reader]
            apart = next(n for n, (a, b) in enumerate(zip(up, down, strict=False)) if a is not b)
            for ports, items in ((gives, up[apart:]), (reads, down[apart:])):
                for item in items:
                    ports[item].setdefault(tensor, len(ports[item]))
    return reads, gives


def _ways(item: Item, around: tuple[Item, ...]) -> Iterator[tuple[Item, tuple[Item, ...]]]:
    """Every item with those around it, from the outermost one, and itself."""
    way = (*around, item)
    yield item, way
    for child in item.children:
        yield from _ways(child, way)


def _makers(trace: Trace, root: Item) -> dict[int, Item]:
    """The leaf that makes each tensor."""
    found: dict[int, Item] = {}
    for leaf in root.leaves():
        if leaf.kind in (g.INPUT, g.PARAMETER):
            found[leaf.tensor] = leaf
        for op in leaf.ops:
            found.update(dict.fromkeys(trace.ops[op].outputs, leaf))
    return found


def _asked(trace: Trace, leaf: Item) -> Iterator[int]:
    """Tensors that a leaf reads, in order; it may have made them itself."""
    yield from leaf.asks
    if leaf.kind == g.OUTPUT:
        yield leaf.tensor
    for op in leaf.ops:
        yield from operands(trace)[op]


# ------------------------------------------------------------------------------------- edges


class _Block:
    """The edges between the children of one block."""

    def __init__(self, trace: Trace, block: Item, reads: Ports, gives: Ports) -> None:
        self.trace, self.block, self.reads, self.gives = trace, block, reads, gives
        self.makers = {t: child for child in block.children for t in gives[child]}
        self.relays: dict[int, list[tuple[int, Item]]] = {}  # of a tensor: place and item

    def connect(self) -> None:
        """Set the edges of the block; layers that do nothing and lead nowhere are left out."""
        kept = []
        for place, child in enumerate(self.block.children):
            works = child.kind != g.LAYER or child.ops or child.asks
            if works or self._passes_on(place, child):
                kept.append((place, child))
        for place, child in kept:
            for tensor, port in self.reads[child].items():
                self._edge(tensor, place, child, port)
        for tensor, port in self.gives[self.block].items():
            self._edge(tensor, len(self.block.children), None, port)
        self.block.children = [child for _, child in kept]

    def _edge(self, tensor: int, place: int, target: Item | None, into: int) -> None:
        source = self._source(tensor, place)
        ports = self.reads[self.block] if source is None else self.gives[source]
        if tensor in ports:
            self.block.edges.append((source, ports[tensor], target, into))

    def _source(self, tensor: int, place: int) -> Item | None:
        """The child that a reader at a place has a tensor from, None for the border."""
        relays = [item for at, item in self.relays.get(tensor, ()) if at < place]
        return relays[-1] if relays else self.makers.get(tensor)

    def _passes_on(self, place: int, child: Item) -> bool:
        """Return True for a layer that gives what it gets to one reader: dropout in inference.

        With several readers nothing tells which of them have it from the layer. An `Identity` is
        there to do nothing.
        """
        call = self.trace.calls[child.call]
        through = [tensor for tensor in call.outputs if tensor in call.inputs]
        if len(through) != 1 or self.trace.modules[call.module].kind == "Identity":
            return False
        tensor = through[0]
        readers = sum(tensor in self.reads[later] for later in self.block.children[place + 1 :])
        if readers + (tensor in self.gives[self.block]) != 1:
            return False
        if tensor not in self.makers and tensor not in self.reads[self.block]:
            return False
        self.reads[child], self.gives[child] = {tensor: 0}, {tensor: 0}
        self.relays.setdefault(tensor, []).append((place, child))
        return True
