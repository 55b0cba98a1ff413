"""Rows of a model as a tree whose nodes are comparable between two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from cnnscope.analysis import flow, params
from cnnscope.ops import table
from cnnscope.records.summary import LayerRow, ModelReport
from cnnscope.records.trace import Attribute, OpRecord, Trace

# Of no consequence for what is computed: peak memory tells them apart.
_NO_EFFECT = {"inplace", "memory_efficient"}
# Where one number stands for all spatial axes.
_ONE_FOR_ALL = {"kernel_size", "stride", "padding", "dilation", "output_size", "output_padding"}
# Attributes of operations that follow from the sizes of their inputs.
_OF_THE_DATA = {"N", "C", "HxW", "k", "device", "dtype", "layout", "pin_memory", "bias"}
# What is left of an operation that only moves data, without sizes and positions.
_OF_A_MOVE = {"dim", "dims", "dim0", "dim1", "shifts", "step"}
_COMMUTE = frozenset(("add", "mul", "maximum", "minimum"))  # whose operands have no order
_POOLING = table.POOLS | {table.Family.MEAN}

LAYER, MOVE, BLOCK = 20, 2, 10  # what a row weighs where it is added or removed


class Node:
    """A row and the rows inside it.

    `identity` is what the layer itself is, whatever it is fed: its hyper-parameters by name.
    `core` is equal for nodes that compute the same: a layer by what it is, a block by the layers
    inside and what each of them reads, however they are named, nested and ordered. `full` is equal
    if their maps, dtypes and costs are the same as well, `inner` if nesting and names inside are
    too, `uid` if its own name is. All are small integers, comparable within one `Forest`.

    `feeds` are the layers, or the numbers of the model's inputs, that a layer reads, and of a model
    those that it returns. A `still` layer only writes the same values in another shape.
    """

    __slots__ = (
        "_layers", "children", "core", "feeds", "full", "identity", "index", "inner", "leaf",
        "name", "role", "row", "still", "uid", "weight",
    )  # fmt: skip

    def __init__(
        self, index: int, row: LayerRow, identity: Mapping[str, Attribute], role: str
    ) -> None:
        self.index, self.row, self.identity, self.role = index, row, identity, role
        self.children: list[Node] = []
        self.leaf = row.leaf  # a single layer
        self.name = "" if row.name.isdigit() else row.name  # a position is no name
        self.core = self.full = self.inner = self.uid = self.weight = -1
        self.feeds: tuple[Node | int, ...] = ()
        self.still = False
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


class Forest:
    """Trees whose fingerprints are comparable."""

    def __init__(self) -> None:
        self._ids: dict[object, int] = {}
        self.profiles: dict[int, Counter[int]] = {}  # of a core: the cores of its layers
        self.softs: dict[int, Counter[object]] = {}  # likewise, widths and padding aside
        self.layers: dict[int, Node] = {}  # of a leaf's core: one of those layers

    def tree(self, trace: Trace, report: ModelReport) -> Node:
        """The model as nodes; parameters that nothing read stand at its end."""
        rows = (*report.layers, *_unused(trace, report.unused))
        known = _Identities(trace)
        nodes = [Node(i, row, *known.of(row)) for i, row in enumerate(rows)]
        for node in nodes[1:]:
            if node.row.operation != "Identity":  # it is there to do nothing
                nodes[node.row.parent].children.append(node)
        flow.connect(trace, nodes)
        for node in reversed(nodes):
            dtype = trace.tensors[node.row.tensor].dtype if node.row.tensor >= 0 else ""
            if node.row.leaf:
                self._of_layer(node, dtype)
            else:
                self._of_block(node)
            children = tuple(c.uid for c in node.children)
            node.inner = self._id(("inner", node.full, children))
            node.uid = self._id(("uid", node.inner, node.name))
        return nodes[0]

    def inside_itself(self, layer: Node) -> Node:
        """A model of a single layer as a block of that layer alone."""
        block = Node(layer.index, replace(layer.row, leaf=False), {}, "block")
        block.children = [layer]
        self._of_block(block)
        block.inner = self._id(("inner", block.full, (layer.uid,)))
        block.uid = self._id(("uid", block.inner, block.name))
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
        of the block are all alike.
        """
        found: dict[int, int] = {}
        for layer in block.layers():
            reads = [
                given if isinstance(given, int) else found.get(given.index, -1)
                for given in layer.feeds
            ]
            reads = sorted(reads) if commutes(layer) else reads
            found[layer.index] = self._id(("flow", layer.core, tuple(reads)))
        return found

    def _of_layer(self, node: Node, dtype: str) -> None:
        """Fingerprints of a single layer."""
        row = node.row
        kind = (row.kind, row.operation)
        if node.role == "activation" and not node.identity:
            kind = ("activation", row.operation.lower())  # ReLU is relu
        own = (kind, tuple(sorted(node.identity.items())))
        node.core = self._id(("core", own, row.params, row.trainable_params))
        costs = (row.params, row.macs, row.element_ops, row.buffers, row.activation_bytes)
        node.full = self._id(("full", node.core, row.input_shapes, row.output_shapes, dtype, costs))
        node.weight = MOVE if row.minor else LAYER
        self.layers.setdefault(node.core, node)

    def _of_block(self, node: Node) -> None:
        """Fingerprints of a block, whose class has no say: it is what is in it."""
        layers = node.layers()
        flows = tuple(sorted(self.flows(node).values()))
        node.core = self._id(("block", tuple(sorted(node.identity.items())), flows))
        node.full = self._id(("blocks", node.core, tuple(sorted(layer.full for layer in layers))))
        node.weight = BLOCK + sum(child.weight for child in node.children)

    def _id(self, key: object) -> int:
        return self._ids.setdefault(key, len(self._ids))


class _Identities:
    """Identity of each row, apart from its input."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def of(self, row: LayerRow) -> tuple[dict[str, Attribute], str]:
        """Identity and role of a row."""
        if row.kind == "module":
            return self._module(row)
        if row.kind == "operation" and row.tensor >= 0:
            record = self.trace.ops[self.trace.index.maker[row.tensor]]
            return _attributes(record), _role(row, [record])
        if row.kind == "operation":
            return {}, "other"
        return {"shape": row.output_shapes[0] if row.output_shapes else ()}, row.kind

    def _module(self, row: LayerRow) -> tuple[dict[str, Attribute], str]:
        call = self.trace.index.calls[row.path, row.call]
        module = self.trace.modules[self.trace.calls[call].module]
        hyper = {name: v for name, v in module.hyper.items() if name not in _NO_EFFECT}
        for name in _ONE_FOR_ALL & hyper.keys():
            size = hyper[name]
            if isinstance(size, int) and row.output_shapes:
                hyper[name] = (size,) * max(len(row.output_shapes[0]) - 2, 1)
        own = [self.trace.ops[i] for i in self.trace.index.own_ops.get(call, ())]
        if not row.leaf and not module.library:
            hyper = {}  # a block is what is in it
        if row.leaf and not module.library:
            hyper["operations"] = ", ".join(map(_described, own))
        return hyper, _role(row, own)


def _unused(trace: Trace, unused: Mapping[str, int]) -> list[LayerRow]:
    """Rows for parameters that belong to no other row, so that the rows add up to the whole."""
    chosen = params.decided_by(trace)
    idle = [p for p in trace.params if not p.used and not p.buffer and p.trainable]
    return [
        LayerRow(
            path=path,
            name=path,
            depth=1,
            kind="unused",
            operation="not used in this run" if chosen else "never used",
            parent=0,
            params=count,
            trainable_params=sum(
                params.numel(trace, p) for p in idle if f"{p.path}.".startswith(f"{path}.")
            ),
        )
        for path, count in unused.items()
    ]


def _attributes(record: OpRecord) -> dict[str, Attribute]:
    """The attributes that do not follow from the sizes of what the operation reads."""
    entry = table.lookup(record.name)
    resizes = entry.family is table.Family.RESAMPLE
    found = {
        name: value
        for name, value in record.attributes.items()
        if (name not in _OF_THE_DATA if entry.computes else name in _OF_A_MOVE)
        and not (resizes and name == "output_size")
    }
    normalised = found.pop("normalized_shape", None)  # over how many axes; their sizes are the data
    return {**found, "axes": len(normalised)} if isinstance(normalised, tuple) else found


def _described(record: OpRecord) -> str:
    """An operation with its attributes: "mul(other=0.5)"."""
    given = ", ".join(f"{name}={value}" for name, value in sorted(_attributes(record).items()))
    return table.lookup(record.name).label + f"({given})" * bool(given)


def _role(row: LayerRow, own: list[OpRecord]) -> str:
    """Role of a leaf: leaves of one role may take each other's place."""
    if not row.leaf:
        return "block"
    entries = [table.lookup(record.name) for record in own]
    if any(entry.multiplies for entry in entries):
        return "convolution" if row.geometry else "product"
    arithmetic = [entry for entry in entries if entry.kind is table.Kind.ELEMENT]
    families = {entry.family for entry in arithmetic}
    if row.geometry or families & _POOLING:
        return "pool"
    if families & table.NORMS:
        return "norm"
    if row.minor or not arithmetic:
        return "idle"
    same = len(row.input_shapes) == 1 and row.input_shapes == row.output_shapes
    labels = sorted({entry.label for entry in arithmetic})
    return "activation" if same and not row.params else f"operation {labels}"


def comes_first(one: Node, other: Node) -> bool:
    """An order of models that does not depend on how they are named on the command line."""
    costs = [(n.row.params, n.row.macs, n.weight) for n in (one, other)]
    return costs[0] < costs[1] or (costs[0] == costs[1] and _written(one) <= _written(other))


def _written(node: Node) -> list[str]:
    """A tree as text: everything that its alignment depends on."""
    row = node.row
    own = f"{row.operation} {row.name} {row.output_shapes} {sorted(node.identity.items())}"
    return [own, *(line for child in node.children for line in _written(child)), "end"]
