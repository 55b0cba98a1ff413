"""An ONNX file as a source of models: its nodes run one by one, on tensors without data."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cnnscope.errors import RequestError
from cnnscope.models.files import archive, permitted, rebuilt
from cnnscope.models.files.onnx import fusing, layers, names, roles, values
from cnnscope.models.files.onnx import graph as graphs
from cnnscope.models.files.onnx.graph import Graph, Input, OnnxNode, Weight
from cnnscope.models.files.onnx.names import Scope
from cnnscope.models.files.onnx.operators.table import FOLDS
from cnnscope.models.files.onnx.roles import Role
from cnnscope.models.files.onnx.running import Runner
from cnnscope.models.files.onnx.values import Constant
from cnnscope.models.files.rebuilt import Name, Node, Part, State, Step
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable

_NOT_GIVEN = 0  # a size that the file leaves open and the request has to give
_COMPUTED = re.compile(r"onnx::Conv(Transpose)?_\d+")
_MAX_FOLLOWED = 2**21  # inputs times reads: the field of every input is followed to each value
_EXTRA = "pip install 'cnnscope[onnx]'"


class Limits(permitted.Limits):
    """Limits of a run in which every result is looked at, whatever function made it."""

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and hold its result to the limits."""
        result = super().operate(func, args, kwargs)
        self._after(func, result)
        return result


class Program:
    """A graph in an ONNX file, as a source of models."""

    def __init__(self, file: str) -> None:
        """Read the graph.

        Raises:
            RequestError: the file is none, or not one that can be read here, or onnx is missing.
        """
        self.file = file
        with archive.opened(file):
            _require_onnx(file)
        self.graph = graphs.load(file)
        for one in self.graph.inputs:
            if one.shape is None:
                raise RequestError(
                    f"{printable(file)}: input {printable(one.name, 60)} has no sizes in the file, "
                    "not even how many: give it a shape (graph.input in onnx), or name the code"
                )

    def names(self) -> list[str]:
        """The file."""
        return [self.file]

    def about(self, name: str, shape: Shape) -> About:
        """Nothing is published of it."""
        del name, shape
        return About("")

    def versions(self) -> dict[str, str]:
        """Of torch here, of the operators, and of what wrote the file."""
        found = {"torch": str(torch.__version__), "ONNX opset": str(self.graph.opset)}
        return found | ({"written by": self.graph.producer} if self.graph.producer else {})

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """The graph as a tree of modules on the meta device.

        Raises:
            RequestError: arguments were given, or the graph is too large or cannot be understood.
        """
        rebuilt.require_no_arguments(name, "an ONNX graph", arguments)
        _require_short(name, self.graph)
        try:
            return _Builder(self.graph).build()
        except (ValueError, RuntimeError) as error:
            raise RequestError(
                f"{printable(name)}: its graph cannot be understood ({printable(str(error), 120)})"
            ) from error

    def default_inputs(self, name: str, model: nn.Module) -> Inputs:
        """Inputs of the graph: a batch of one, and every size that the file fixes."""
        del name, model
        return Inputs(tuple(map(_default, self.graph.inputs)))

    def notes(self) -> tuple[str, ...]:
        """Notes on the graph for the report."""
        return tuple(_notes(self.graph))

    def accept(self, inputs: Inputs) -> None:
        """Check sizes against those that the file fixes.

        Raises:
            RequestError: a size that the file leaves open and that was not given, or another than
                the file's, or another dtype.
        """
        bound: dict[str, int] = {}
        for given, wanted in zip(inputs.tensors, self.graph.inputs, strict=True):
            self._check(given, wanted, bound)

    def _check(self, given: TensorSpec, wanted: Input, bound: dict[str, int]) -> None:
        shown = f"{printable(self.file)}: input {printable(wanted.name, 60)}"
        dtype = _dtype(wanted)
        if given.dtype != dtype:
            raise RequestError(
                f"{shown} is of {dtype} and takes no {given.dtype}; leave the dtype out of --input"
            )
        shape = wanted.shape or ()
        missing = [i for i, n in enumerate(given.shape) if n == _NOT_GIVEN and shape[i] != 0]
        if missing:
            raise RequestError(self._open(shown, wanted, missing))
        for axis, (size, fixed) in enumerate(zip(given.shape, shape, strict=True)):
            other = bound.setdefault(fixed, size) if isinstance(fixed, str) and fixed else size
            if (isinstance(fixed, int) and fixed != size) or other != size:
                why = (
                    f"the file has {fixed}"
                    if isinstance(fixed, int)
                    else (f"{printable(str(fixed), 40)} is {other} elsewhere")
                )
                raise RequestError(
                    f"{shown}: dimension {axis} cannot be {size}, because {why}; export it again "
                    "with this dimension dynamic"
                )

    def _open(self, shown: str, wanted: Input, missing: Sequence[int]) -> str:
        """What to say of sizes that the file leaves open."""
        assert wanted.shape is not None  # noqa: S101
        sizes = [n if isinstance(n, int) else None for n in wanted.shape or ()]
        named = [(axis, printable(str(wanted.shape[axis]), 40)) for axis in missing]
        called = [f"{axis} ({name})" if name else str(axis) for axis, name in named]
        such = "x".join(
            str(n) if n is not None else "224" if i in missing else "1" for i, n in enumerate(sizes)
        )
        several = len(self.graph.inputs) > 1
        name = f"{_word(wanted.name)}=" if several else ""
        return (
            f"{shown}: the file leaves its dimension{'s' * (len(called) > 1)} {', '.join(called)} "
            f"open: give the size, as in --input {name}{such}"
        )


def _require_onnx(file: str) -> None:
    """Refuse where the package that parses the file is missing.

    Raises:
        RequestError: it is, or it is broken.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        if error.name not in ("onnx", None):
            raise RequestError(f"{printable(file)}: onnx cannot be imported: {error}") from error
        raise RequestError(
            f"{printable(file)} is an ONNX graph, which takes the extra onnx: {_EXTRA}"
        ) from error


def _dtype(wanted: Input) -> str:
    return str(values.dtype_of(wanted.data_type)).removeprefix("torch.")


def _default(wanted: Input) -> TensorSpec:
    """An input at the sizes of the file; the first of those that it leaves open is the batch."""
    sizes = [
        n if isinstance(n, int) else 1 if axis == 0 else _NOT_GIVEN
        for axis, n in enumerate(wanted.shape or ())
    ]
    return TensorSpec(tuple(sizes), _dtype(wanted))


def argument_names(inputs: Sequence[str]) -> list[str]:
    """Names of arguments in Python for the inputs of a graph; numbers where two would be equal."""
    words = [_word(name) for name in inputs]
    return words if len(set(words)) == len(words) else [f"input_{i}" for i in range(len(words))]


def _word(name: str) -> str:
    """A name as that of an argument in Python."""
    plain = re.sub(r"\W", "_", name)[:60] or "_"
    return plain if plain.isidentifier() and plain != "self" else f"_{plain}"


def _notes(graph: Graph) -> Iterator[str]:
    halves = sum(values.count(w.shape) for w in graph.weights if w.data_type == values.FLOAT4)
    if halves:
        yield f"{halves:,} elements of its weights are floats of 4 bits, and called uint4"
    flows = Counter(node.op for node in graph.nodes if node.op in ("If", "Loop", "Scan"))
    if flows["If"]:
        yield (
            f"it has {flows['If']} If: of one whose condition is not known before it runs, the "
            "branch that costs more is counted"
        )
    if flows["Loop"]:
        yield (
            f"it has {flows['Loop']} Loop: one whose number of rounds is not known before it runs "
            "is counted for one round"
        )
    fused = sum(_is_fused(node) or _has_computed_weights(node) for node in graph.nodes)
    if fused:
        yield (
            f"the exporter has put {fused} batch norms into the convolutions before them: their "
            "parameters and statistics are gone, and these convolutions have a bias"
        )


def _is_fused(node: OnnxNode) -> bool:
    scope = node.scope or ()
    return node.op in ("Conv", "ConvTranspose") and bool(scope) and "BatchNorm" in scope[-1][2]


def _has_computed_weights(node: OnnxNode) -> bool:
    """Return True for a convolution whose weight and bias PyTorch's older exporter has computed."""
    weights = node.inputs[1:3]
    return len(weights) == 2 and all(map(_COMPUTED.fullmatch, weights))


# ------------------------------------------------------------------------ from nodes to modules


class _Builder:
    """Makes modules of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tree = rebuilt.Tree(graph.root)
        self.held = {weight.name: weight for weight in self._weights()}
        self.nodes = fusing.linear_layers(graph.nodes, self.held, graph.outputs)
        self.uses = roles.uses_of(self.nodes)
        self.by_torch = graph.producer.startswith("pytorch")
        self.roles = {
            name: roles.role_of(weight, self.uses, by_torch=self.by_torch)
            for name, weight in self.held.items() if weight.data_type != values.STRING
        }  # fmt: skip
        self.constants: dict[str, Any] = {}
        self.late: dict[str, OnnxNode] = {}  # nodes that read weights alone, by what they make

    def _weights(self) -> Iterator[Weight]:
        """The tensors of the file, and those that nodes hold."""
        yield from self.graph.weights
        for node in self.graph.nodes:
            held = node.get("value", node.get("sparse_value")) if node.op == "Constant" else None
            if isinstance(held, Weight):
                yield held._replace(name=node.outputs[0])

    def build(self) -> Part:
        """The root, ready to be called with the inputs of the graph."""
        held = {name for name in self.held if name not in self.graph.weight_names}
        nodes = [node for node in self.nodes if not held.intersection(node.outputs)]
        nodes = self._late(nodes)
        scopes = self._called_again(nodes, [self._scope(node) for node in nodes])
        for scope in scopes:
            for _, path, kind in scope:
                self.tree.add(path, kind)
        where = {name: scope for node, scope in zip(nodes, scopes, strict=True)
                 for name in reversed(node.inputs)}  # fmt: skip
        for name, weight in self.held.items():
            self._adopt(name, weight, where.get(name, ()))
        steps = [Node(self._step(node), scope) for node, scope in zip(nodes, scopes, strict=True)]
        self._describe(nodes, scopes)
        return self._root(steps)

    def _late(self, nodes: Sequence[OnnxNode]) -> list[OnnxNode]:
        """Nodes that read weights alone come right before what reads them, as a part of it."""
        known = set(self.held)
        rest: list[OnnxNode] = []
        for node in nodes:
            if node.reads and all(name in known for name in node.reads) and len(node.outputs) == 1:
                known.add(node.outputs[0])
                self.late[node.outputs[0]] = node
            else:
                rest.append(node)
        made: dict[int, OnnxNode] = {}

        def emit(node: OnnxNode) -> None:
            waiting = [node]
            while waiting:
                one = waiting[-1]
                before = [self.late[n] for n in one.reads if n in self.late]
                lacking = [n for n in before if id(n) not in made]
                if lacking:
                    waiting += lacking[::-1]
                    continue
                made[id(waiting.pop())] = one

        for node in rest:
            emit(node)
        for node in self.late.values():
            emit(node)
        return list(made.values())

    def _root(self, steps: Sequence[Node]) -> Part:
        root = self.tree.parts[""]
        inputs = tuple(one.name for one in self.graph.inputs)
        outputs = tuple(dict.fromkeys(n for n in self.graph.outputs if n not in self.constants))
        rebuilt.require_order(inputs, [node.step for node in steps], outputs)
        call = self.tree.call(root, steps, 0, inputs, outputs)
        root.exported_call = call._replace(root=True)
        root.exported_limits = Limits
        root.__class__ = _called_by_name(type(root), argument_names(inputs))
        return root

    # -- where a node stands

    def _scope(self, node: OnnxNode) -> Scope:
        """The modules around a node, as the file names them or as its weights do."""
        owner = self._owner(node)
        if node.scope is not None:
            return self._unfused(node, owner)
        if node.outputs[0] in self.late and (uses := self.uses.get(node.outputs[0])):
            return self._scope(uses[0].node)
        around = names.scope_of([name for name, _ in node.around])
        path = names.of_name(node.name)
        if not path and owner and not around:
            path = tuple(owner.split("."))
        elif not path and self._weighs(node):
            path = (names.plain(node.name or node.outputs[0]),)
        return around + tuple(
            (key, ".".join([*(name for name, _ in node.around), one]), kind)
            for key, one, kind in names.scope_of(path)
        )

    def _called_again(self, nodes: Sequence[OnnxNode], scopes: Sequence[Scope]) -> list[Scope]:
        """Scopes in which `relu_1` is the second call of `relu`, as PyTorch's older exporter says.

        What has weights of its own is another module.
        """
        paths = {path for scope in scopes for _, path, _ in scope}
        own = {
            path for node, scope in zip(nodes, scopes, strict=True) if any(
                self.roles.get(name) is Role.PARAMETER for name in node.inputs
            ) for _, path, _ in scope
        }  # fmt: skip
        again = {
            path: base[1] for path in paths - own
            if (base := re.fullmatch(r"(.*[^.\d_])_\d+", path)) and base[1] in paths
        }  # fmt: skip
        return [
            tuple((key, again.get(path, path), kind) for key, path, kind in scope)
            if node.scope is None else scope
            for node, scope in zip(nodes, scopes, strict=True)
        ]  # fmt: skip

    def _unfused(self, node: OnnxNode, owner: str) -> Scope:
        """The exporter names a convolution that took in a batch norm by the batch norm."""
        scope = node.scope or ()
        if not owner or not _is_fused(node) or owner == scope[-1][1]:
            return scope
        path = owner.split(".")
        known = {one[1]: one for one in scope}
        return tuple(known.get(one[1], one) for one in names.scope_of(path))

    def _owner(self, node: OnnxNode) -> str:
        """The module that the name of a node's first weight names, "" for none."""
        for place, name in enumerate(node.inputs):
            weight = self._source(name)
            weighs = place in roles.WEIGHTED.get(node.kind, {}) and weight in self.held
            if weighs and "." in weight and names.is_path(weight):
                return weight.rpartition(".")[0]
        return ""

    def _source(self, name: str) -> str:
        """The weight that a value is another form of; itself for any other."""
        while (node := self.late.get(name)) is not None and roles.moves(node):
            name = node.inputs[0]
        return name

    def _weighs(self, node: OnnxNode) -> bool:
        return any(
            self.roles.get(self._source(name)) is Role.PARAMETER
            and place in roles.WEIGHTED.get(node.kind, {})
            for place, name in enumerate(node.inputs)
        )

    # -- what modules hold

    def _adopt(self, name: str, weight: Weight, scope: Scope) -> None:
        """Keep a tensor of the file in a module, or as a value that is known."""
        role = self.roles.get(name, Role.CONSTANT)
        if role is Role.CONSTANT and (weight.array is not None or name not in self.roles):
            self.constants[name] = None if weight.array is None else Constant(weight.array)
            return
        dtype = values.dtype_of(weight.data_type)
        values.count(weight.shape)
        tensor = torch.empty(weight.shape, dtype=dtype, device=permitted.META)
        part, key = self._place(name, scope)
        if role is Role.PARAMETER:
            trains = dtype.is_floating_point or dtype.is_complex
            part.register_parameter(key, nn.Parameter(tensor, requires_grad=trains))
        else:
            part.register_buffer(key, tensor)
        state = State(part, key)
        known = weight.array if role is Role.BUFFER else None
        self.constants[name] = Constant(known, state) if known is not None else state

    def _place(self, name: str, scope: Scope) -> tuple[Part, str]:
        """The module that a tensor belongs to, and its name there."""
        if "." in name and names.is_path(name):
            path, _, key = name.rpartition(".")
            key = key.removesuffix("_quantized")  # as onnxruntime calls what it has quantised
        else:
            path = scope[-1][1] if scope else ""
            key = roles.name_of(name, self.uses) if path else ""
            key = key or names.plain(name).replace(".", "_")
        part = self.tree.add(rebuilt.not_deep(path), "")
        taken, number = key, 0
        while hasattr(part, key):
            number += 1
            key = f"{taken}_{number}"
        return part, key

    def _describe(self, nodes: Sequence[OnnxNode], scopes: Sequence[Scope]) -> None:
        """Give layers their class and hyper-parameters."""
        late = {id(node) for node in self.late.values()}
        inside: dict[str, list[OnnxNode]] = {}
        for node, scope in zip(nodes, scopes, strict=True):
            if scope and id(node) not in late:
                inside.setdefault(scope[-1][1], []).append(node)
        for path, found in inside.items():
            part, node = self.tree.parts[path], found[0]
            shape = self._shape(node)
            calls = {(one.kind, tuple(self._read_weights(one))) for one in found}
            if type(part) is Part and not part._modules:
                plain = len(calls) == 1 and (shape is None or self._weighs(node))
                kind = layers.class_of(node, shape) if plain else ""
                rebuilt.give_kind(part, kind or layers.activation_of(found, self.constants))
            for one in found:
                layers.describe(part, one, self._shape(one), self.constants)
        for part in self.tree.parts.values():
            if type(part) is Part:
                rebuilt.give_kind(part, "onnx.Module")

    def _read_weights(self, node: OnnxNode) -> list[str]:
        places = roles.WEIGHTED.get(node.kind, {})
        return [self._source(name) for i, name in enumerate(node.inputs) if i in places]

    def _shape(self, node: OnnxNode) -> tuple[int, ...] | None:
        held = (self.held.get(name) for name in self._read_weights(node))
        return next((weight.shape for weight in held if weight is not None), None)

    def _step(self, node: OnnxNode) -> Step:
        """A node as something to run: values of the file are filled in."""
        runner = Runner(node, self.graph.shapes)
        read = [*node.inputs, *(node.reads if runner.flows else ())]
        args = [(self.constants[n] if n in self.constants else Name(n)) if n else None
                for n in read]  # fmt: skip
        return Step(runner, args, {}, tuple(name or None for name in node.outputs))


def _require_short(name: str, graph: Graph) -> None:
    """Refuse a graph that would reach the limit of a run, before it runs.

    Raises:
        RequestError: it has too many nodes that are no arithmetic on sizes, or too many inputs.
    """
    steps = sum(node.kind not in FOLDS for node in graph.nodes)
    followed = len(graph.inputs) * sum(len(node.inputs) for node in graph.nodes)
    if followed > _MAX_FOLLOWED:
        raise RequestError(
            f"{printable(name)}: its graph has {len(graph.inputs):,} inputs, of each of which the "
            "receptive field would be followed: refused; name the code"
        )
    if steps > permitted.MAX_RUN:
        raise RequestError(
            f"{printable(name)}: its graph has {steps:,} operations, the limit is "
            f"{permitted.MAX_RUN:,}: refused; name the code"
        )


def _called_by_name(kind: type[Part], inputs: Sequence[str]) -> type[Part]:
    """A class whose forward has the names of the graph's inputs."""

    def forward(self: Part, *given: Any, **named: Any) -> Any:
        bound = signature.bind(self, *given, **named)
        return Part.forward(self, *bound.args[1:])

    one = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, one) for name in ("self", *inputs)])
    forward.__signature__ = signature  # type: ignore[attr-defined]
    members = {"forward": forward, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)
