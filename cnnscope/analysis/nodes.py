"""Rows of a model as a tree whose nodes are comparable between two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from cnnscope.records.comparable import Part

_COMMUTE = frozenset(("add", "mul", "maximum", "minimum"))  # whose operands have no order

LAYER, MOVE, BLOCK = 20, 2, 10  # what a row weighs where it is added or removed


class Node:
    """A row and the rows inside it.

    Of `Part` it has `row`, `identity`, `role`, `feeds`, `still` and `shares`; `index` is its place.
    `core` is equal for nodes that compute the same: a layer by what it is, a block by the layers
    inside and what each of them reads, however they are named, nested and ordered. `full` is equal
    if their maps, dtypes and costs are the same as well, `inner` if nesting and names inside are
    too, `uid` if its own name is. All are small integers, comparable within one `Forest`.
    """

    __slots__ = (
        "_layers", "children", "core", "feeds", "full", "identity", "index", "inner", "leaf",
        "name", "role", "row", "shares", "still", "uid", "weight",
    )  # fmt: skip

    def __init__(self, index: int, part: Part) -> None:
        self.index, self.row, self.identity, self.role = index, part.row, part.identity, part.role
        self.feeds, self.still, self.shares = part.feeds, part.still, part.shares
        self.children: list[Node] = []
        self.leaf = self.row.leaf  # a single layer
        self.name = "" if self.row.name.isdigit() else self.row.name  # a position is no name
        self.core = self.full = self.inner = self.uid = self.weight = -1
        self._layers: list[Node] | None = None

    def leaves(self) -> Iterable[Node]:
        """The layers inside, in execution order."""
        if self.leaf:
            yield self
        for child in self.children:
            yield from child.leaves()

    def layers(self) -> list[Node]:
        """The layers inside that are not still, in order of execution, once the tree is whole."""
        if self._layers is None:
            self._layers = [self] if self.leaf and not self.still else []
            for child in self.children:
                self._layers += child.layers()
        return self._layers


def commutes(node: Node) -> bool:
    """Return True for an operation whose operands have no order."""
    return node.row.operation in _COMMUTE


def differing(a: Node, b: Node) -> list[str]:
    """The names under which two layers have different hyper-parameters.

    Of blocks, and of layers of two kinds, those that both have are compared. The `mode` of a GRU
    or LSTM is its kind once more.
    """
    kinds = a.row.operation, b.row.operation
    if kinds[0] != kinds[1] or not a.leaf:
        names = [name for name in a.identity if name in b.identity]
        again = a.identity.get("mode") == kinds[0] or b.identity.get("mode") == kinds[1]
        names = [name for name in names if not (again and name == "mode")]
    else:
        names = list(dict.fromkeys((*a.identity, *b.identity)))
    return [name for name in names if a.identity.get(name) != b.identity.get(name)]


def _told(node: Node) -> tuple[tuple[str, object], ...]:
    """Hyper-parameters that are set: one of None is none, as in `differing`."""
    return tuple(sorted((name, kept) for name, kept in node.identity.items() if kept is not None))


class Forest:
    """Trees whose fingerprints are comparable."""

    def __init__(self) -> None:
        self._ids: dict[object, int] = {}
        self.profiles: dict[int, Counter[int]] = {}  # of a core: the cores of its layers
        self.softs: dict[int, Counter[object]] = {}  # likewise, widths and padding aside
        self.layers: dict[int, Node] = {}  # of a leaf's core: one of those layers

    def tree(self, parts: Sequence[Part]) -> Node:
        """A model as nodes."""
        nodes = [Node(at, part) for at, part in enumerate(parts)]
        for node in nodes[1:]:
            if node.row.operation != "Identity":  # it is there to do nothing
                nodes[node.row.parent].children.append(node)
        for node in reversed(nodes):
            if node.leaf:
                self._of_layer(node, parts[node.index].dtype)
            else:
                self._of_block(node)
            self._of_tree(node)
        return nodes[0]

    def inside_itself(self, layer: Node) -> Node:
        """A model of a single layer as a block of that layer alone."""
        block = Node(layer.index, Part(replace(layer.row, leaf=False), {}, "block"))
        block.children = [layer]
        self._of_block(block)
        self._of_tree(block)
        layer.row = replace(layer.row, depth=1)
        return block

    def profile(self, node: Node) -> Counter[int]:
        """Number of each layer inside."""
        known = self.profiles.get(node.core)
        if known is None:
            known = self.profiles[node.core] = Counter(leaf.core for leaf in node.leaves())
        return known

    def flows(self, block: Node) -> dict[int, int]:
        """What each layer of a block computes, by its index: equal for the same of the same.

        A layer is told by what it is and by what the layers compute that it reads; those outside
        of the block are all alike (-1), and no input of the model is (from -2 on).
        """
        found: dict[int, int] = {}
        for layer in block.layers():
            reads = [found.get(at, -1) if at >= 0 else at - 1 for at in layer.feeds]
            if commutes(layer):
                reads.sort()
            found[layer.index] = self._id(("flow", layer.core, tuple(reads)))
        return found

    def _of_layer(self, node: Node, dtype: str) -> None:
        """Fingerprints of a single layer."""
        row = node.row
        kind = (row.kind, row.operation)
        if node.role == "activation" and not node.identity:
            kind = ("activation", row.operation.lower())  # ReLU is relu
        own = (kind, _told(node))
        node.core = self._id(("core", own, row.params, row.trainable_params))
        costs = (row.params, row.macs, row.element_ops, row.buffers, row.activation_bytes)
        node.full = self._id(("full", node.core, row.input_shapes, row.output_shapes, dtype, costs))
        node.weight = MOVE if row.minor else LAYER
        self.layers.setdefault(node.core, node)

    def _of_block(self, node: Node) -> None:
        """Fingerprints of a block, whose class has no say: it is what is in it."""
        layers = node.layers()
        flows = tuple(sorted(self.flows(node).values()))
        node.core = self._id(("block", _told(node), flows))
        node.full = self._id(("blocks", node.core, tuple(sorted(layer.full for layer in layers))))
        node.weight = BLOCK + sum(child.weight for child in node.children)

    def _of_tree(self, node: Node) -> None:
        """Fingerprints with nesting and names inside, and with its own name."""
        children = tuple(child.uid for child in node.children)
        node.inner = self._id(("inner", node.full, children))
        node.uid = self._id(("uid", node.inner, node.name))

    def _id(self, key: object) -> int:
        return self._ids.setdefault(key, len(self._ids))
