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


def lenet(folder, name="digits.onnx"):
    """LeNet-5 for 28x28 pixels, with the names that PyTorch's older exporter gives."""
    nodes = [
        node("Conv", "image conv1.weight conv1.bias", "a", name="/conv1/Conv"),
        node("Relu", "a", "b", name="/relu/Relu"),
        node("MaxPool", "b", "c", name="/pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "c conv2.weight conv2.bias", "d", name="/conv2/Conv"),
        node("Relu", "d", "e", name="/relu_1/Relu"),
        node("MaxPool", "e", "f", name="/pool_1/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "f", "g", name="/Flatten"),
        node("Gemm", "g fc1.weight fc1.bias", "h", name="/fc1/Gemm", transB=1),
        node("Relu", "h", "i", name="/relu_2/Relu"),
        node("Gemm", "i fc2.weight fc2.bias", "scores", name="/fc2/Gemm", transB=1),
    ]
    sizes = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 256), "fc2": (10, 120)}
    weights = {f"{layer}.weight": floats(*shape) for layer, shape in sizes.items()}
    weights |= {f"{layer}.bias": floats(shape[0]) for layer, shape in sizes.items()}
    return save(graph(nodes, {"image": ["N", 1, 28, 28]}, ["scores"], weights), folder, name)


def quantised(folder, name="int8.onnx"):
    """A convolution of int8 between quantisers, as deployment tools write it, and one after it."""

    def i8(*shape):
        return np.asarray(floats(*shape) * 100).astype(np.int8)

    nodes = [
        node("DequantizeLinear", "w scales zeros", "wd", axis=0),
        node("DequantizeLinear", "b scales -", "bd", axis=0),
        node("QuantizeLinear", "image scale zero", "xq"),
        node("DequantizeLinear", "xq scale zero", "xd"),
        node("Conv", "xd wd bd", "c", name="conv1", pads=[1, 1, 1, 1]),
        node("Conv", "c w2", "maps", name="conv2"),
    ]
    weights = {
        "scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8), "w": i8(8, 3, 3, 3),
        "scales": floats(8), "zeros": np.zeros(8, np.int8), "b": np.zeros(8, np.int32),
        "w2": floats(4, 8, 3, 3),
    }  # fmt: skip
    return save(graph(nodes, {"image": [1, 3, 16, 16]}, ["maps"], weights), folder, name)
