"""onnx-tool's count of an ONNX graph, and what it adds to each node (onnx_tool 1.0.1, node.py).

onnx-tool counts instructions: activations, norms and pools have "MACs" as products have. It
computes with arrays as large as a file says while it looks for shapes, so that it is asked in a
process of its own with little memory and time, about a graph without weights and without files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

from cnnscope.text import printable, said

Shape = Sequence[int]
Excess = dict[str, int]  # amounts beyond the products of a node, by reason

_MEMORY = 4 * 2**30  # bytes of the process that it is asked in
_SECONDS = 60  # of CPU time
# What it does not count: operators that move values alone (onnx_tool, `NoMacsOps`).
_HIDDEN = frozenset(
    "Identity Constant Shape Squeeze Unsqueeze Reshape ConstantOfShape Cast Pad Concat Slice "
    "Gather".split()
)
# Instructions of an LSTM's and a GRU's gates for each element of the hidden state of one direction:
# exp 32, tanh 32 + 2 + 4. LSTM: 3 sigmoids, 2 tanh, 4 sums, 4 of blending; GRU: 2, 1, 3, 5.
_GATES = {"LSTM": 3 * 32 + 2 * 38 + 4 + 4, "GRU": 2 * 32 + 38 + 3 + 5}


class UncountedError(Exception):
    """A graph that onnx-tool has no count of."""


def limited(content: bytes, sizes: Sequence[Shape]) -> tuple[int, Excess] | str:
    """`counted`, or why not, in a process that gets little memory and time from here on."""
    with suppress(ImportError):  # no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    try:
        return counted(content, sizes)
    except MemoryError:
        return f"it takes more than {_MEMORY >> 30} GiB to find the shapes"
    except UncountedError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it stumbles over
        return f"it fails: {said(error, 120)}"


def counted(content: bytes, sizes: Sequence[Shape]) -> tuple[int, Excess]:
    """MACs by onnx-tool, and which of them are no products of a network, by reason and place.

    Args:
        content: an `onnx.ModelProto` whose large tensors have no values.
        sizes: of its inputs, in their order.

    Returns:
        The number, and amounts by "reason: place".

    Raises:
        UncountedError: it has no rule for an operator, or counts less than the whole graph.
    """
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx_tool

        model = onnx.ModelProto.FromString(content)
        _without_values(model.graph, sizes)
        _require_rules(model.graph)
        shapes = _shapes(model)
        graph = onnx_tool.Model(model, {"verbose": False}).graph
        graph.graph_reorder_nodes()
        graph.shape_infer(None)
        graph.profile(exclude_ops=_HIDDEN)
    return int(sum(graph.macs)), _excess_of(graph, shapes)


# -------------------------------------------------------------------------- the graph it is given


def _without_values(graph: Any, sizes: Sequence[Shape]) -> None:
    """Make inputs of tensors that have no values (or of a type that numpy has not), and set sizes.

    onnx-tool would make an array of each, and look for zeros in it.
    """
    from onnx import helper

    held = {one.name: one for one in graph.initializer}
    for node in graph.node:
        tensor = node.attribute[0].t if node.op_type == "Constant" and node.attribute else None
        if tensor is not None and tensor.dims and not _has_values(tensor):
            held[node.output[0]] = tensor
    moved = {name for name, one in held.items() if not _has_values(one)}
    kept = [one for one in graph.initializer if one.name not in moved]
    nodes = [node for node in graph.node if not moved.intersection(node.output)]
    inputs = [one for one in graph.input if one.name not in held]
    for one, shape in zip(inputs, sizes, strict=False):
        kind = one.type.tensor_type.elem_type
        one.CopyFrom(helper.make_tensor_value_info(one.name, kind, list(shape)))
    weights = [
        helper.make_tensor_value_info(name, one.data_type, list(one.dims))
        for name, one in held.items()
        if name in moved
    ]
    for field, made in (
        (graph.initializer, kept),
        (graph.node, nodes),
        (graph.input, inputs + weights),
    ):
        copies = [type(one).FromString(one.SerializeToString()) for one in made]
        del field[:]
        field.extend(copies)


def _has_values(tensor: Any) -> bool:
    """Return True for a tensor whose values onnx-tool reads from the graph itself."""
    from onnx_tool.tensor import onnxdtype2npdtype

    known = onnxdtype2npdtype(tensor.data_type) is not None and not tensor.external_data
    fields = ("raw_data", "float_data", "int32_data", "int64_data", "double_data")
    return known and any(len(getattr(tensor, field)) for field in fields)


def _require_rules(graph: Any) -> None:
    """Refuse what onnx-tool would stumble over, or pass over in silence.

    Raises:
        UncountedError: of an operator, or of nodes that it would take for one.
    """
    from onnx_tool.node import NODE_REGISTRY

    kinds = dict.fromkeys(node.op_type for node in graph.node)
    if unknown := [kind for kind in kinds if f"{kind}Node" not in NODE_REGISTRY]:
        raise UncountedError(f"it has no rule for {printable(', '.join(unknown[:4]))}")
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        raise UncountedError("it does not look into graphs inside nodes")
    names = [node.name for node in graph.node if node.name]
    if len(set(names)) < len(names):
        raise UncountedError("it takes nodes of one name for one node")


def _shapes(model: Any) -> dict[str, list[int]]:
    """Sizes of values by ONNX's own shape inference, where it knows them."""
    from onnx import shape_inference

    with suppress(Exception):
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        found = {}
        for one in (*graph.input, *graph.value_info, *graph.output):
            dims = one.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims) and dims:
                found[one.name] = [dim.dim_value for dim in dims]
        found |= {one.name: list(one.dims) for one in graph.initializer if one.dims}
        return found
    return {}


# ------------------------------------------------------------------------------ what it counts


def _excess_of(graph: Any, shapes: Mapping[str, Shape]) -> Excess:
    """What it adds to products, node by node; an operator that has none is all its own."""
    found: Excess = {}

    def add(key: str, amount: int) -> None:
        if amount:
            found[key] = found.get(key, 0) + amount

    for name, node in graph.nodemap.items():
        if node.op_type in _HIDDEN:
            continue
        rule = _PRODUCTS.get(node.op_type)
        if rule is None:
            add(f"operators: {node.op_type}", int(node.macs[0]))
            continue
        true = [_true(graph, shapes, given) for given in (node.input, node.output)]
        if true != [[graph.tensormap[n].get_shape() for n in g] for g in (node.input, node.output)]:
            add(f"shapes: {name}", int(node.macs[0]) - _again(graph, node, true))
        for about, amount in rule(node, *true):
            add(f"{about}: {name}", amount)
    return found


def _true(graph: Any, shapes: Mapping[str, Shape], names: Sequence[str]) -> list[list[int]]:
    return [list(shapes.get(name, graph.tensormap[name].get_shape())) for name in names]


def _again(graph: Any, node: Any, shapes: Sequence[Sequence[Shape]]) -> int:
    """Its count of a node whose values have the sizes that ONNX says."""
    from onnx_tool.tensor import create_tensor

    kind = graph.tensormap[node.output[0]].dtype
    given, made = ([create_tensor("", 1, list(one), kind) for one in each] for each in shapes)
    return int(node.profile(given, made)[0])


Rule = Callable[[Any, Sequence[Shape], Sequence[Shape]], Iterator[tuple[str, int]]]


def _biased(place: int) -> Rule:
    """A bias (the input at a place) is one more for each element of the result."""

    def rule(_: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
        if len(given) > place:
            yield "biases", prod(made[0])

    return rule


def _of_integers(place: int) -> Rule:
    """The third axis of a kernel of integers (the input at a place) is left out."""

    def rule(_: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
        weight = given[place]
        yield "third axis", prod(made[0]) * (prod(weight[1:4]) - prod(weight[1:]))

    return rule


def _both(*rules: Rule) -> Rule:
    """What several rules say."""

    def rule(node: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
        for one in rules:
            yield from one(node, given, made)

    return rule


def _transposed(_: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
    """Each element of the result is multiplied, and by the channels of the result."""
    each = prod(given[1][1:])
    yield "transposed", (prod(made[0]) - prod(given[0])) * each
    yield from _biased(2)(_, given, made)


def _integers(_: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
    """The zero point of the first operand is taken for a bias, where the second has none."""
    if len(given) == 3:
        yield "zero points", prod(made[0])


def _quantised(_: Any, given: Sequence[Shape], made: Sequence[Shape]) -> Iterator[tuple[str, int]]:
    """A batch of weights is left out."""
    yield "matmul", prod(given[0]) * given[3][-1] - prod(made[0]) * given[0][-1]


def _recurrent(node: Any, given: Sequence[Shape], _: Sequence[Shape]) -> Iterator[tuple[str, int]]:
    """Gates are counted for one direction, biases for all."""
    steps = given[0][0] * given[0][1]
    yield "biases", prod(given[3]) * steps if given[3] else 0
    yield "gates", steps * given[2][-1] * _GATES[node.op_type]


def _plain(*_: Any) -> Iterator[tuple[str, int]]:
    return iter(())


_PRODUCTS: dict[str, Rule] = {  # operators with products, and what it adds to these
    "Conv": _biased(2),
    "ConvTranspose": _transposed,
    "Gemm": _biased(2),
    "MatMul": _plain,
    "Einsum": _plain,
    "QLinearConv": _both(_biased(8), _of_integers(3)),
    "ConvInteger": _of_integers(1),
    "MatMulInteger": _integers,
    "QLinearMatMul": _quantised,
    "LSTM": _recurrent,
    "GRU": _recurrent,
}
