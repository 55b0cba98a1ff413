"""Linear layers that an exporter wrote as a product and a sum: one node again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnscope.models.files.onnx.graph import OnnxNode, Weight
from cnnscope.models.files.onnx.roles import uses_of


def linear_layers(
    nodes: Sequence[OnnxNode], held: Mapping[str, Weight], outputs: Sequence[str]
) -> list[OnnxNode]:
    """Put the sum of a bias into the product before it, as a third input.

    Args:
        nodes: of a graph, in order.
        held: the tensors of the file, by name.
        outputs: of the graph, which have to be made.
    """
    uses = uses_of(nodes)
    read = {name for node in nodes for name in node.reads[len(node.inputs) :]} | set(outputs)
    products = {node.outputs[0]: node for node in nodes if _is_linear(node, held)}
    same = {  # one of several equal tensors, of which the exporter keeps the first
        node.outputs[0]: held[node.inputs[0]]
        for node in nodes
        if node.op == "Identity" and node.inputs[:1] and node.inputs[0] in held
    }
    known = {**held, **same}
    gone: set[int] = set()
    made: list[OnnxNode] = []
    for node in nodes:
        sums = node.op == "Add" and node.kind == "Add" and len(node.inputs) == 2
        for product, bias in (node.inputs, node.inputs[::-1]) if sums else ():
            before = products.get(product)
            if before is None or product in read or len(uses[product]) > 1:
                continue
            weight = held[before.inputs[1]]
            if bias in known and known[bias].shape == weight.shape[1:]:
                gone.add(id(before))
                joined = before._replace(inputs=(*before.inputs, bias), outputs=node.outputs)
                made.append(joined)
                break
        else:
            made.append(node)
    return [node for node in made if id(node) not in gone]


def _is_linear(node: OnnxNode, held: Mapping[str, Weight]) -> bool:
    weight = held.get(node.inputs[1]) if node.kind == "MatMul" and len(node.inputs) == 2 else None
    return weight is not None and len(weight.shape) == 2
