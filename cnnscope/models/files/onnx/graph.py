"""The graph of an ONNX file: plain nodes in an order in which they can run, functions inlined."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx import names, values, wire
from cnnscope.models.files.onnx.names import Scope
from cnnscope.text import printable

DEFAULT = ("", "ai.onnx")  # names of the domain of ONNX's own operators
MAX_NODES = 50_000  # half of them are arithmetic on sizes, where an exporter leaves that in
OLDEST = 7  # version of that domain; older ones broadcast in another way
_DEEP = 32  # functions inside functions, graphs inside graphs


Around = tuple[tuple[str, str], ...]  # names and kinds of functions, outermost first


class Weight(NamedTuple):
    """A tensor that the file holds: sizes and type, and its values if they are small."""

    name: str
    shape: tuple[int, ...]
    data_type: int
    array: np.ndarray | None


class Body(NamedTuple):
    """A graph inside a node: of a loop, or of one branch."""

    inputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]
    weights: tuple[Weight, ...]

    @property
    def captured(self) -> tuple[str, ...]:
        """Values of the graphs around it that it reads."""
        made = {*self.inputs, *(weight.name for weight in self.weights)}
        found: dict[str, None] = {}
        for node in self.nodes:
            found |= dict.fromkeys(name for name in node.reads if name not in made)
            made.update(node.outputs)
        found |= dict.fromkeys(name for name in self.outputs if name not in made)
        return tuple(found)


class OnnxNode(NamedTuple):
    """A node: what it computes, from which values, and where it stands.

    `version` is that of its domain's operators. `scope` has the modules that the file says it ran
    in, None where it does not; `around` the functions that it was written in, with their names.
    """

    name: str
    op: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    scope: Scope | None = None
    around: Around = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Every value that it reads, those of graphs inside it among them."""
        bodies = (one for one in self.attributes.values() if isinstance(one, Body))
        inner = itertools.chain.from_iterable(body.captured for body in bodies)
        return tuple(dict.fromkeys(name for name in (*self.inputs, *inner) if name))

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what stands for one that was left out."""
        return self.attributes.get(name, default)

    @property
    def kind(self) -> str:
        """Its operator with its domain, where that is not ONNX's own."""
        return self.op if self.domain in DEFAULT else f"{self.domain}.{self.op}"

    def __str__(self) -> str:
        made = next(iter(self.outputs), "")
        return printable(f"{self.kind} {self.name or made}", 120)


class Input(NamedTuple):
    """An input: a size is a number, the name of one, or "" where nothing is said."""

    name: str
    shape: tuple[int | str, ...] | None
    data_type: int


class Graph(NamedTuple):
    """A whole graph."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    weights: tuple[Weight, ...]
    shapes: Mapping[str, Input]  # what the file says of values
    producer: str
    opset: int
    root: str  # the class of the whole model

    @property
    def weight_names(self) -> frozenset[str]:
        """Names of its tensors, those of constant nodes left out."""
        return frozenset(weight.name for weight in self.weights)


def load(name: str) -> Graph:
    """The graph of a file.

    Raises:
        RequestError: it is none, it is damaged, or it is one that cannot be read here.
    """
    model = wire.read(name)
    if not model.graph.node and not model.graph.input:
        raise wire.damaged(name, "it has no graph")
    try:
        return _Reader(name, model).graph()
    except RequestError as error:
        raise RequestError(f"{printable(name)}: {error}") from error


class _Reader:
    """Makes plain nodes of a model."""

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self.versions: dict[str, int] = {one.domain: one.version for one in model.opset_import}
        own = max(self.versions.get(domain, 0) for domain in DEFAULT)
        self.versions |= dict.fromkeys(DEFAULT, own)
        self.functions = {(one.domain, one.name, one.overload): one for one in model.functions}
        self.inlined = itertools.count()
        self.counted = 0

    def graph(self) -> Graph:
        """The graph itself."""
        graph, version = self.model.graph, self.versions[""]
        if version < OLDEST:
            raise RequestError(
                f"its operators are those of opset {version}; this cnnscope reads {OLDEST} and "
                "later: convert it by onnx.version_converter, or export it again"
            )
        weights = self._weights(graph)
        held = {weight.name for weight in weights}
        given = [one for one in graph.input if one.name not in held]
        for one in given:
            _require_numbers(one)
        inputs = tuple(map(_input, given))
        known = {*held, *(one.name for one in inputs)}
        nodes = _ordered(list(self._nodes(graph.node, _same, (), 0)), known)
        outputs = tuple(one.name for one in graph.output)
        _require_made(outputs, known, nodes)
        shapes = {one.name: _input(one) for one in (*graph.value_info, *graph.output)}
        made_by = f"{self.model.producer_name} {self.model.producer_version}".strip()
        return Graph(
            inputs, outputs, nodes, weights, shapes, printable(made_by, 40), version, self._root()
        )

    def _root(self) -> str:
        """The class of the whole model."""
        found = (names.root_class(_entries(node)) for node in self.model.graph.node)
        return next(filter(None, found), "")

    # -- nodes

    def _nodes(
        self,
        nodes: Any,
        renamed: Callable[[str], str],
        around: Around,
        depth: int,
        given: Mapping[str, Any] | None = None,
    ) -> Iterator[OnnxNode]:
        """Nodes in order, those of the model's own functions in the place of their calls."""
        for node in nodes:
            function = self.functions.get((node.domain, node.op_type, node.overload))
            made = self._node(node, renamed, around, depth, given)
            if function is None:
                yield made
            else:
                yield from self._inline(function, made, depth + 1)

    def _node(
        self,
        node: Any,
        renamed: Callable[[str], str],
        around: Around,
        depth: int,
        given: Mapping[str, Any] | None,
    ) -> OnnxNode:
        self.counted += 1
        if self.counted > MAX_NODES:
            raise RequestError(f"it has more than {MAX_NODES:,} nodes: refused; name the code")
        attributes = {}
        for one in node.attribute:
            if not one.ref_attr_name:
                attributes[one.name] = self._attribute(one, renamed, depth)
            elif given and one.ref_attr_name in given:
                attributes[one.name] = given[one.ref_attr_name]
        return OnnxNode(
            node.name, node.op_type, node.domain, self.versions.get(node.domain, 0),
            tuple(map(renamed, node.input)), tuple(map(renamed, node.output)), attributes,
            names.of_metadata(_entries(node)), around,
        )  # fmt: skip

    def _inline(self, function: Any, call: OnnxNode, depth: int) -> Iterator[OnnxNode]:
        """The nodes of a function of the model, for one call of it.

        Raises:
            RequestError: functions that call each other without end.
        """
        if depth > _DEEP:
            raise RequestError(f"functions that call each other more than {_DEEP} deep: refused")
        outer = dict(zip(function.input, call.inputs, strict=False))
        outer |= dict.fromkeys(function.input[len(call.inputs) :], "")
        outer |= {a: b for a, b in zip(function.output, call.outputs, strict=False) if b}
        prefix = f"{call.name or call.op}/{next(self.inlined)}/"
        given = {one.name: self._attribute(one, _same, depth) for one in function.attribute_proto}
        kind = f"{call.domain}.{call.op}"
        around = (*call.around, (names.plain(call.name or call.op), kind))
        yield from self._nodes(
            function.node,
            lambda name: outer.get(name, prefix + name) if name else "",
            around, depth, given | dict(call.attributes),
        )  # fmt: skip

    # -- attributes and tensors

    def _attribute(self, one: Any, renamed: Callable[[str], str], depth: int) -> Any:
        """The value of an attribute; of a kind that no operator here has, None."""
        kinds: dict[int, Callable[[], Any]] = {
            1: lambda: _number(one.f),
            2: lambda: one.i,
            3: lambda: one.s.decode("utf-8", "replace"),
            4: lambda: self._weight(one.t),
            5: lambda: self._body(one.g, renamed, depth + 1),
            6: lambda: tuple(map(_number, one.floats)),
            7: lambda: tuple(one.ints),
            8: lambda: tuple(text.decode("utf-8", "replace") for text in one.strings),
            11: lambda: self._sparse(one.sparse_tensor),
        }
        return kinds.get(one.type, lambda: None)()

    def _body(self, graph: Any, renamed: Callable[[str], str], depth: int) -> Body:
        if depth > _DEEP:
            raise RequestError(f"graphs that lie more than {_DEEP} deep in each other: refused")
        weights = tuple(one._replace(name=renamed(one.name)) for one in self._weights(graph))
        return Body(
            tuple(renamed(one.name) for one in graph.input),
            tuple(self._nodes(graph.node, renamed, (), depth)),
            tuple(renamed(one.name) for one in graph.output),
            weights,
        )

    def _weights(self, graph: Any) -> tuple[Weight, ...]:
        sparse = map(self._sparse, graph.sparse_initializer)
        return (*map(self._weight, graph.initializer), *sparse)

    def _weight(self, tensor: Any) -> Weight:
        """A tensor of the file."""
        shape = tuple(tensor.dims)
        if tensor.data_type != values.STRING:
            values.dtype_of(tensor.data_type)
        if tensor.data_location == 1 or tensor.external_data:
            _require_inside(tensor)
            return Weight(tensor.name, shape, tensor.data_type, None)
        return Weight(tensor.name, shape, tensor.data_type, _array(tensor, values.count(shape)))

    def _sparse(self, sparse: Any) -> Weight:
        """A tensor of which the file holds what is not zero: it counts as a whole one."""
        shape = tuple(sparse.dims)
        values.count(shape)
        return Weight(sparse.values.name, shape, sparse.values.data_type, None)


def _number(single: float) -> float:
    """A number of 32 bits as people write it: 1e-05, and not 9.999999747e-06."""
    return float(str(np.float32(single)))


def _same(name: str) -> str:
    return name


def _entries(node: Any) -> dict[str, str]:
    return {one.key: one.value for one in node.metadata_props}


def _array(tensor: Any, elements: int) -> np.ndarray | None:
    """The values of a tensor, None where it is not small or has none.

    Raises:
        RequestError: it has not as many as its sizes say.
    """
    from onnx import numpy_helper

    if elements > values.MAX_KNOWN or tensor.data_type == values.STRING:
        return None
    if not elements:
        dtype = values.numpy_dtype(values.dtype_of(tensor.data_type))
        return np.zeros(tuple(tensor.dims), dtype)
    fields = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    if not any(map(len, map(tensor.__getattribute__, fields))):
        return None  # left in the file
    try:
        found = np.asarray(numpy_helper.to_array(tensor)).reshape(tuple(tensor.dims))
    except Exception as error:
        raise RequestError(
            f"tensor {printable(tensor.name)}: its values are not those of its sizes "
            f"({type(error).__name__})"
        ) from error
    dtype = values.numpy_dtype(values.dtype_of(tensor.data_type))
    return found if found.dtype == dtype else found.astype(dtype)


def _require_inside(tensor: Any) -> None:
    """Refuse weights in a file outside of the graph's folder, which nothing opens anyway.

    Raises:
        RequestError: they are, or there is no place for them.
    """
    values.count(tuple(tensor.dims))
    entries = {one.key: one.value for one in tensor.external_data}
    place = entries.get("location", "")
    leaves = any(
        path.is_absolute() or path.drive or ".." in path.parts
        for path in (PurePosixPath(place), PureWindowsPath(place))
    )
    if not place or leaves or not place.isprintable():
        raise RequestError(
            f"tensor {printable(tensor.name, 80)} has its values in {printable(place, 80)!r}, "
            "which is no file beside the graph: refused, and not opened"
        )


_NOT_TENSORS = {
    "sequence_type": "a list of tensors", "optional_type": "an optional value",
    "map_type": "a map", "sparse_tensor_type": "a sparse tensor",
}  # fmt: skip


def _require_numbers(info: Any) -> None:
    """Refuse an input that is no tensor of numbers.

    Raises:
        RequestError: it is none.
    """
    kind = _NOT_TENSORS.get(info.type.WhichOneof("value") or "", "")
    if info.type.tensor_type.elem_type == values.STRING:
        kind = "a tensor of texts"
    if kind:
        raise RequestError(
            f"input {printable(info.name, 60)} is {kind}; inputs have to be tensors of numbers: "
            "export the network without what makes these of it, or name the code"
        )
    values.dtype_of(info.type.tensor_type.elem_type)


def _input(info: Any) -> Input:
    """What the file says of a value; a size below 0 is open, as it is for onnxruntime."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return Input(info.name, None, tensor.elem_type)
    sizes = (
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param
        for dim in tensor.shape.dim
    )
    return Input(info.name, tuple(sizes), tensor.elem_type)


# -- order


def _ordered(nodes: list[OnnxNode], known: set[str]) -> tuple[OnnxNode, ...]:
    """Nodes in an order in which each reads what others have made.

    Raises:
        RequestError: there is none: a cycle, or a value that nothing makes.
    """
    made, found, waiting = set(known), [], nodes
    _require_single(nodes, known)
    readers: dict[str, list[int]] = {}
    missing: list[int] = []
    for number, node in enumerate(waiting):
        lacking = [name for name in node.reads if name not in made]
        missing.append(len(lacking))
        for name in lacking:
            readers.setdefault(name, []).append(number)
    ready = [number for number, lacks in enumerate(missing) if not lacks]
    heapq.heapify(ready)
    while ready:
        node = waiting[heapq.heappop(ready)]
        found.append(node)
        for name in node.outputs:
            for number in readers.get(name, ()):
                missing[number] -= 1
                if not missing[number]:
                    heapq.heappush(ready, number)
    if len(found) < len(nodes):
        _refuse_cycle(nodes, found, made)
    return tuple(found)


def _require_single(nodes: Sequence[OnnxNode], known: set[str]) -> None:
    """Every value is made once.

    Raises:
        RequestError: one is not.
    """
    made = set(known)
    for node in nodes:
        for name in node.outputs:
            if name and name in made:
                raise RequestError(f"value {printable(name, 80)} is made twice: damaged")
            made.add(name)


def _refuse_cycle(nodes: Sequence[OnnxNode], ran: Sequence[OnnxNode], known: set[str]) -> None:
    """Say why some nodes cannot run."""
    made = {name for node in nodes for name in node.outputs} | known
    done = {*known, *(name for node in ran for name in node.outputs)}
    for node in nodes:
        for name in node.reads:
            if name not in made:
                raise RequestError(
                    f"{node} reads {printable(name, 80)}, which nothing makes: damaged"
                )
    stuck = next(node for node in nodes if any(name not in done for name in node.reads))
    raise RequestError(f"{stuck} reads what is computed from it: the graph has a cycle; refused")


def _require_made(outputs: Sequence[str], known: set[str], nodes: Sequence[OnnxNode]) -> None:
    made = {*known, *(name for node in nodes for name in node.outputs)}
    for name in outputs:
        if name not in made:
            raise RequestError(f"output {printable(name, 80)} is made by nothing: damaged")
