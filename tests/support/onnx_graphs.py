"""Small ONNX graphs for tests, and what onnx's own reference evaluator makes of them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
         np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8,
         np.dtype(np.int32): TensorProto.INT32, np.dtype(np.bool_): TensorProto.BOOL}  # fmt: skip


def floats(*shape):
    """Numbers between 0 and 1, the same each time."""
    return np.asarray(np.random.default_rng(0).random(shape, np.float32))


def ints(*items):
    return np.array(items, np.int64)


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def graph(nodes, inputs, outputs, weights=None, opset=21, functions=(), domains=(), **more):
    """A model.

    Args:
        nodes: made by `node`.
        inputs: name to sizes, or to (sizes, type).
        outputs: names.
        weights: name to array.
        opset: of ONNX's own operators.
    """
    given = [
        value(name, *(said if isinstance(said, tuple) else (said,)))
        for name, said in inputs.items()
    ]
    made = helper.make_graph(
        nodes, "g", given, [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(made, opset_imports=opsets, functions=functions, ir_version=10, **more)


def node(op, inputs, outputs="y", **attributes):
    """A node; names are written with spaces between them, `-` for one that is left out."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, **attributes)


def save(model, folder, name="net.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return str(path)


def one(op, *given, opset=21, outputs="y", extra=(), domain="", **attributes):
    """A model of one node: an array is a weight, a list the sizes of an input, None left out."""
    names, inputs, weights = [], {}, {}
    for number, item in enumerate(given):
        names.append("-" if item is None else f"i{number}")
        if isinstance(item, np.ndarray):
            weights[f"i{number}"] = item
        elif item is not None:
            inputs[f"i{number}"] = item
    made = node(op, " ".join(names), outputs, domain=domain, **attributes)
    every = [name for name in outputs.split() if name != "-"]
    return graph([made], inputs, every, weights, opset, domains=(domain,) if domain else ())


def reference(model):
    """Sizes and types of the outputs, as onnx's reference evaluator has them."""
    from onnx.reference import ReferenceEvaluator

    given = {}
    for info in model.graph.input:
        tensor = info.type.tensor_type
        shape = [dim.dim_value or 1 for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        given[info.name] = (floats(*shape) * 4).astype(dtype)
    made = ReferenceEvaluator(model).run(None, given)
    return [(tuple(array.shape), str(array.dtype)) for array in made]


def every_value(model):
    """The same model, with all values as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return copy
