"""ONNX files: what is read of them, what they are shown as, and what is refused."""

import functools
import itertools
import json
import random
import re
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx_graphs
import pytest
import torch
from command_line import run_cli
from onnx import TensorProto, helper
from onnx_graphs import floats, graph, ints, node, one, save, value

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models.files import permitted
from cnnscope.models.files.onnx import graph as graphs
from cnnscope.models.files.onnx import wire
from cnnscope.models.files.onnx.operators import control
from cnnscope.models.files.onnx.program import Program
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.ops import table
from cnnscope.render import facts
from cnnscope.reports import summary
from cnnscope.tracing.dispatching import DispatchMode


def traced(path, *inputs):
    return trace_spec(Request.of(path, inputs))


def macs(trace):
    return sum(table.macs(trace, op) for op in trace.ops)


def parameters(trace):
    sizes = (trace.tensors[p.tensor].shape for p in trace.params if not p.buffer)
    total = 0
    for shape in sizes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total


@pytest.fixture
def lenet(tmp_path):
    return onnx_graphs.lenet(tmp_path)


def test_a_graph_is_a_trace_like_any_other(lenet):
    trace = traced(lenet)
    # 6 * 25 + 6, 16 * 150 + 16, 256 * 120 + 120, 120 * 10 + 10
    assert parameters(trace) == 156 + 2416 + 30_840 + 1210
    # 24 * 24 positions of 6 * 25, 8 * 8 of 16 * 150, and the two linear layers
    assert macs(trace) == 24 * 24 * 150 + 8 * 8 * 2400 + 30_720 + 1200
    assert trace.tensors[trace.outputs[0]].shape == (1, 10)


def test_modules_are_those_of_the_names(lenet):
    trace = traced(lenet)
    kinds = {module.path: module.kind for module in trace.modules}
    assert kinds == {
        "": "Module", "conv1": "Conv2d", "relu": "ReLU", "pool": "MaxPool2d", "conv2": "Conv2d",
        "fc1": "Linear", "fc2": "Linear",
    }  # fmt: skip
    assert [p.path for p in trace.params if p.path.startswith("fc1")] == ["fc1.weight", "fc1.bias"]


def test_a_batch_that_the_file_leaves_open_is_one_or_what_is_given(lenet):
    assert macs(traced(lenet, "4x1x28x28")) == 4 * macs(traced(lenet))


def test_other_sizes_than_those_of_the_file_are_refused(lenet):
    with pytest.raises(RequestError, match="dimension 2 cannot be 32, because the file has 28"):
        traced(lenet, "1x32x32")


# ------------------------------------------------------------------------------- other weights


def i8(*shape):
    return np.asarray(floats(*shape) * 100).astype(np.int8)


def scale(*items):
    return np.array(items, np.float32).reshape(() if len(items) == 1 else -1)


ZERO = np.array(0, np.int8)
ZEROS = np.zeros(1, np.int8)


@pytest.fixture
def quantised(tmp_path):
    return onnx_graphs.quantised(tmp_path)


def test_integers_of_a_quantised_convolution_are_its_parameters(quantised):
    trace = traced(quantised)
    totals = summary.report(trace).totals
    # 8 * 3 * 9 of int8, 8 biases of int32, 4 * 8 * 9 of float32
    assert totals.params_by_dtype == {"float32": 288, "int8": 216, "int32": 8}
    assert totals.param_bytes == 216 + 4 * 8 + 4 * 288
    kinds = {module.path: module.kind for module in trace.modules}
    assert kinds == {"": "Module", "conv1": "Conv2d", "conv2": "Conv2d"}


def test_multiplications_of_integers_are_counted_apart(quantised):
    report = summary.report(traced(quantised))
    # 16 * 16 * 216, and 14 * 14 * 288
    assert report.totals.macs_by_dtype == {"float32": 56_448, "int8": 55_296}
    assert "56.448 k float32, 55.296 k int8" in facts.macs(report.totals)


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (one("ConvInteger", ([1, 4, 9, 9], TensorProto.UINT8), i8(6, 4, 3, 3), ZERO), 7 * 7 * 216),
        (one("MatMulInteger", ([2, 4], TensorProto.UINT8), i8(4, 5), ZERO), 40),
        (one("QLinearMatMul", ([2, 4], TensorProto.INT8), scale(0.1), ZERO, i8(4, 5),
             scale(0.1), ZERO, scale(0.1), ZERO), 40),
        (one("QLinearConv", ([1, 4, 9, 9], TensorProto.INT8), scale(0.1), ZERO, i8(6, 4, 3, 3),
             floats(6), np.zeros(6, np.int8), scale(0.1), ZERO), 7 * 7 * 216),
    ],
    ids=["conv integer", "matmul integer", "qlinear matmul", "qlinear conv"],
)  # fmt: skip
def test_operators_of_integers_multiply_integers(model, macs, tmp_path):
    totals = summary.report(traced(save(model, tmp_path))).totals
    assert (totals.macs, totals.macs_by_dtype) == (macs, {"int8": macs})


@pytest.mark.parametrize(("transposed", "shape"), [(0, (4, 5)), (1, (5, 4))])
def test_a_quantised_product_has_a_scale_for_each_column(transposed, shape, tmp_path):
    given = [scale(0.1), ZERO, i8(*shape), floats(5), np.zeros(5, np.int8), None, scale(0.1), ZERO]
    model = one("QGemm", ([2, 4], TensorProto.INT8), *given, domain="com.microsoft",
                transB=transposed)  # fmt: skip
    totals = summary.report(traced(save(model, tmp_path))).totals
    assert (totals.macs_by_dtype, totals.params_by_dtype) == ({"int8": 40}, {"int8": 20})


def test_names_of_onnxruntimes_quantiser_are_those_of_the_layer(tmp_path):
    nodes = [
        node("DequantizeLinear", "fc.weight_quantized s", "w"),
        node("DequantizeLinear", "fc.bias_quantized s", "b"),
        node("Gemm", "x w b", "y", name="/fc/Gemm", transB=1),
    ]
    weights = {"fc.weight_quantized": i8(5, 4), "fc.bias_quantized": np.ones(5, np.int32)}
    model = graph(nodes, {"x": [2, 4]}, ["y"], {**weights, "s": scale(0.1)})
    trace = traced(save(model, tmp_path))
    assert [p.path for p in trace.params if not p.buffer] == ["fc.weight", "fc.bias"]
    hyper = {m.path: m.hyper for m in trace.modules}["fc"]
    assert hyper == {"in_features": 4, "out_features": 5, "bias": True}


def test_ranges_that_are_measured_in_the_run_leave_receptive_fields_as_they_were(tmp_path):
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("ConvInteger", "q w z", "c"),
        node("Cast", "c", "f", to=1),
        node("Mul", "f s", "y"),
    ]
    model = graph(nodes, {"x": [1, 4, 9, 9]}, ["y"], {"w": i8(6, 4, 3, 3)})
    row = summary.report(traced(save(model, tmp_path))).layers[-1]
    assert [axis.size for axis in row.field] == [3, 3]


@pytest.mark.parametrize(
    ("kind", "dtype", "nbytes"),
    [(TensorProto.INT4, "int4", 10), (TensorProto.UINT4, "uint4", 10)],
)
def test_elements_of_4_bits_have_half_a_byte_each(kind, dtype, nbytes, tmp_path):
    nodes = [
        node("QuantizeLinear", "x s -", "q", output_dtype=TensorProto.INT8),
        node("DequantizeLinear", "q s", "xd"),
        node("DequantizeLinear", "w s", "wd"),
        node("MatMul", "xd wd", "y"),
    ]
    model = graph(nodes, {"x": [2, 4]}, ["y"], {"s": scale(0.1)})
    model.graph.initializer.append(helper.make_tensor("w", kind, [4, 5], [1] * 20))
    totals = summary.report(traced(save(model, tmp_path))).totals
    assert (totals.params_by_dtype, totals.param_bytes) == ({dtype: 20}, nbytes)
    assert totals.macs_by_dtype == {"int8": 40}


def test_weights_of_an_operator_that_is_not_known_are_parameters(tmp_path):
    # 20 rows of 4 gates: of 6 inputs and of 5 states; the file stores them turned
    given = [np.zeros((1, 6, 20), np.int8), np.zeros((1, 5, 20), np.int8), floats(1, 40)]
    rest = [
        None,
        None,
        None,
        None,
        floats(1),
        np.zeros(1, np.int8),
        floats(1),
        np.zeros(1, np.int8),
    ]
    model = one("DynamicQuantizeLSTM", [7, 2, 6], *given, *rest, outputs="y", hidden_size=5,
                domain="com.microsoft")  # fmt: skip
    del model.graph.output[:]
    model.graph.output.append(onnx_graphs.value("y", [7, 1, 2, 5]))
    report = summary.report(traced(save(model, tmp_path)))
    assert report.totals.params_by_dtype == {"int8": 220, "float32": 40}
    assert [one.name for one in report.unknown] == [
        "onnx_com_microsoft.DynamicQuantizeLSTM.default"
    ]


def test_weights_alone_that_are_integers_are_multiplied_as_numbers(tmp_path):
    nodes = [node("DequantizeLinear", "w s", "wd"), node("MatMul", "x wd", "y")]
    model = graph(nodes, {"x": [2, 4]}, ["y"], {"w": i8(4, 5), "s": scale(0.1)})
    totals = summary.report(traced(save(model, tmp_path))).totals
    assert (totals.params_by_dtype, totals.macs_by_dtype) == ({"int8": 20}, {"float32": 40})


# ---------------------------------------------------------------------------- what is not there


def test_an_operator_that_nobody_knows_is_listed(tmp_path):
    model = one("Frobnicate", [1, 3], domain="com.acme")
    model.graph.output[0].CopyFrom(value("y", [1, 7]))
    report = summary.report(traced(save(model, tmp_path)))
    assert [(one.name, one.count) for one in report.unknown] == [
        ("onnx_com_acme.Frobnicate.default", 1)
    ]


def test_an_operator_whose_results_have_no_sizes_is_refused(tmp_path):
    path = save(one("Frobnicate", [1, 3], domain="com.acme"), tmp_path)
    with pytest.raises(RequestError, match=r"com\.acme\.Frobnicate is no operator .*infer_shapes"):
        traced(path)


def test_boxes_that_suppress_each_other_are_bounded(tmp_path):
    model = one("NonMaxSuppression", [1, 50, 4], [1, 2, 50], np.array([20]))
    report = summary.report(trace := traced(save(model, tmp_path)))
    # two classes of at most 20 boxes
    assert trace.tensors[trace.outputs[0]].shape == (40, 3)
    assert [one.name for one in report.unknown] == ["onnx.NonMaxSuppression.default"]


def test_of_two_branches_the_dearer_one_is_counted_and_said(tmp_path):
    dear = helper.make_graph([node("MatMul", "x w", "z")], "a", [], [value("z", [1, 4])])
    cheap = helper.make_graph([node("Relu", "x", "z")], "b", [], [value("z", [1, 4])])
    inputs = {"x": [1, 4], "c": ([], TensorProto.BOOL)}
    for then, otherwise in ((dear, cheap), (cheap, dear)):
        chooses = node("If", "c", "z", then_branch=then, else_branch=otherwise)
        trace = traced(save(graph([chooses], inputs, ["z"], {"w": floats(4, 4)}), tmp_path))
        assert macs(trace) == 16
        assert "the branch that costs more is counted" in trace.notes[0]


class Seen(DispatchMode):
    """What a counter of another library sees."""

    def __init__(self):
        super().__init__()
        self.names = []

    def operate(self, func, args, kwargs):
        self.names.append(str(func))
        return func(*args, **kwargs)


def test_a_branch_in_a_branch_is_tried_once_and_unseen(tmp_path):
    """Each level would double the time, and a counter of another library would see every trial."""
    inside = helper.make_graph([node("MatMul", "x w", "z")], "a", [], [value("z", [1, 4])])
    plain = helper.make_graph([node("Relu", "x", "z")], "b", [], [value("z", [1, 4])])
    for level in range(7):
        chooses = node("If", "c", "z", then_branch=inside, else_branch=plain)
        inside = helper.make_graph([chooses], f"c{level}", [], [value("z", [1, 4])])
    inputs = {"x": [1, 4], "c": ([], TensorProto.BOOL)}
    path = save(graph([chooses], inputs, ["z"], {"w": floats(4, 4)}), tmp_path)
    program = Program(path).build(path, {})
    with Seen() as seen:
        program(torch.empty(1, 4, device="meta"), torch.empty((), dtype=torch.bool, device="meta"))
    assert [name for name in seen.names if name in ("aten.mm.default", "aten.relu.default")] == [
        "aten.mm.default"
    ]
    # 7 branches, each tried at its level and in those around it, with its Relu: not 3**7 of them
    assert program.exported_run.operations < 200


def test_a_loop_of_a_known_length_runs_as_often(tmp_path):
    body = helper.make_graph(
        [node("MatMul", "v w", "n"), node("Identity", "c", "d")], "b",
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", [1, 4])],
        [value("d", [], TensorProto.BOOL), value("n", [1, 4])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)
    weights = {"m": np.array(5), "w": floats(4, 4)}
    assert macs(traced(save(graph([loop], {"x": [1, 4]}, ["y"], weights), tmp_path))) == 5 * 16


def test_a_function_of_the_model_is_a_module(tmp_path):
    inside = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Sigmoid", ["t"], ["b"])]
    function = helper.make_function(
        "own", "Gate", ["a"], ["b"], inside, [helper.make_opsetid("", 21)]
    )
    call = helper.make_node("Gate", ["x"], ["y"], name="gate1", domain="own")
    model = graph([call], {"x": [1, 4]}, ["y"], functions=[function], domains=["own"])
    trace = traced(save(model, tmp_path))
    assert [op.name for op in trace.ops] == ["aten.relu.default", "aten.sigmoid.default"]
    assert [module.path for module in trace.modules] == ["", "gate1"]


def test_a_size_below_zero_is_left_open(tmp_path):
    path = save(one("Conv", [-1, 3, 8, 8], floats(4, 3, 3, 3)), tmp_path)
    assert traced(path).input_specs[0].shape == (1, 3, 8, 8)
    assert traced(path, "5x3x8x8").input_specs[0].shape == (5, 3, 8, 8)


def test_sizes_that_the_file_leaves_open_have_to_be_given(tmp_path):
    model = one("Conv", ["N", 3, "height", "width"], floats(4, 3, 3, 3))
    path = save(model, tmp_path)
    with pytest.raises(RequestError, match=r"dimensions 2 \(height\), 3 \(width\) open"):
        traced(path)
    assert traced(path, "8x8").input_specs[0].shape == (1, 3, 8, 8)
    assert traced(path, "i0=2x3x8x9").input_specs[0].shape == (2, 3, 8, 9)


# ----------------------------------------------------------------------------- files of strangers


def entry(number, content):
    """A field of protobuf that holds a message."""
    return bytes([number << 3 | 2]) + length(len(content)) + content


def length(size):
    made = bytearray()
    while size > 127:
        made.append(size & 127 | 128)
        size >>= 7
    return bytes([*made, size])


def external(place):
    model = one("Conv", [1, 3, 8, 8], floats(4, 3, 3, 3))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    said = tensor.external_data.add()
    said.key, said.value = "location", place
    return model


def sized(*dims):
    model = one("Conv", [1, 3, 8, 8], floats(4, 3, 3, 3))
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].dims[:] = dims
    return model


def relus(*pairs, outputs="y"):
    nodes = [node("Relu", before, after) for before, after in pairs]
    return graph(nodes, {"x": [1]}, [outputs])


def doubling():
    """Functions that each call the next one twice."""
    names = [f"F{i}" for i in range(30)]
    opsets = [helper.make_opsetid("d", 1), helper.make_opsetid("", 21)]
    made = [
        helper.make_function("d", name, ["x"], ["y"], [
            helper.make_node(after, ["x"], ["z"], domain="d"),
            helper.make_node(after, ["z"], ["y"], domain="d"),
        ], opsets)
        for name, after in itertools.pairwise(names)
    ]  # fmt: skip
    call = helper.make_node("F0", ["x"], ["y"], domain="d")
    return graph([call], {"x": [1]}, ["y"], functions=made, domains=["d"])


def counting(rounds):
    """Two loops in each other that only count: nothing that torch would see."""
    numbers, truth = ([], TensorProto.INT64), ([], TensorProto.BOOL)
    add = [node("Identity", "c2", "d2"), node("Add", "v2 step", "n2")]
    inner = helper.make_graph(
        add, "b2", [value("i2", *numbers), value("c2", *truth), value("v2", *numbers)],
        [value("d2", *truth), value("n2", *numbers)],
    )  # fmt: skip
    outer = helper.make_graph(
        [node("Identity", "c", "d"), node("Loop", "m - v", "n", body=inner)], "b",
        [value("i", *numbers), value("c", *truth), value("v", *numbers)],
        [value("d", *truth), value("n", *numbers)],
    )  # fmt: skip
    weights = {"m": np.array(rounds), "step": np.array(1), "zero": np.array(0)}
    return graph([node("Loop", "m - zero", "y", body=outer)], {"x": [1]}, ["y"], weights)


def summed(count):
    names = [f"x{i}" for i in range(count)]
    return graph([node("Sum", " ".join(names))], {name: [1] for name in names}, ["y"])


def listed():
    model = graph([node("ConcatFromSequence", "xs", axis=0)], {}, ["y"])
    model.graph.input.append(
        helper.make_tensor_sequence_value_info("xs", TensorProto.FLOAT, [1, 3])
    )
    return model


HOSTILE = {
    "outside": (external("../../etc/passwd"), "no file beside the graph: refused, and not opened"),
    "absolute": (external("/etc/passwd"), "refused, and not opened"),
    "of Windows": (external("C:\\w.bin"), "refused, and not opened"),
    "nowhere": (external(""), "refused, and not opened"),
    "overflow": (sized(2**40, 2**40, 3, 3), "more than 281,474,976,710,656 elements"),
    "negative": (sized(-1, 3, 3, 3), "a tensor of size -1"),
    "cycle": (relus(("b", "y"), ("y", "b")), "the graph has a cycle"),
    "undefined": (relus(("q", "y")), "reads q, which nothing makes"),
    "unmade": (relus(("x", "y"), outputs="z"), "output z is made by nothing"),
    "twice": (relus(("x", "y"), ("x", "y")), "value y is made twice"),
    "huge": (one("Expand", [1], ints(2**40, 2**40)), "overflow"),
    "long": (one("ConstantOfShape", ints(2**40)), "too large for a file from elsewhere"),
    "text": (one("Identity", ([1], TensorProto.STRING)), "input i0 is a tensor of texts"),
    "list": (listed(), "input xs is a list of tensors"),
    "learning": (one("Scaler", [1, 4], domain="ai.onnx.ml"), "no layers of a network"),
    "reshape": (one("Reshape", [1, 6], ints(4, 4)), "Reshape y: shape .* is invalid"),
    "unknown sizes": (one("Reshape", [1, 6], ([40], TensorProto.INT64)), "40 sizes or axes"),
    "pieces": (one("SplitToSequence", [1, 2000], axis=1), "2,000 pieces of one tensor: refused"),
    "inputs": (summed(1500), "has 1,500 inputs"),
    "old": (one("Relu", [1], opset=6), "those of opset 6"),
    "attribute": (one("Conv", [1, 3, 8, 8], floats(4, 3, 3, 3), strides="ab"),
                  "its inputs or attributes are not those of its operator"),
    "missing": (one("Conv", [1, 3, 8, 8]), "its inputs or attributes are not those"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_graph_that_cannot_be_is_refused_with_one_message(name, tmp_path):
    model, said = HOSTILE[name]
    with pytest.raises((RequestError, ModelError), match=said):
        traced(save(model, tmp_path))


@pytest.mark.parametrize("name", ["many", "doubling"])
def test_more_nodes_than_any_network_has_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_NODES", 100)
    chain = relus(*((f"x{i or ''}", f"x{i + 1}") for i in range(101)), outputs="x1")
    with pytest.raises(RequestError, match="more than 100 nodes"):
        traced(save(chain if name == "many" else doubling(), tmp_path))


def test_loops_that_only_count_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(permitted, "MAX_RUN", 1000)
    monkeypatch.setattr(control, "MAX_RUN", 1000)
    with pytest.raises(RequestError, match="loops and branches run more than 1,000 operations"):
        traced(save(counting(40), tmp_path))


def test_a_graph_that_is_too_long_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(permitted, "MAX_RUN", 2)
    path = save(relus(("x", "a"), ("a", "b"), ("b", "y")), tmp_path)
    with pytest.raises(RequestError, match="its graph has 3 operations, the limit is 2"):
        traced(path)


RAW = {
    "empty": (b"", "it is empty"),
    "text": (b"hello, world", "damaged"),
    "zeros": (bytes(64), "damaged"),
    "deep": (functools.reduce(lambda x, _: entry(1, entry(5, entry(6, x))), range(40), b""),
             "more than 32 deep"),
    "name": (entry(1, entry(4, b"\xff\xfe")), "is no text"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_graph_are_refused(name, tmp_path):
    content, said = RAW[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(entry(7, content) if name in ("deep", "name") else content)
    with pytest.raises(RequestError, match=said):
        traced(str(path))


def test_a_small_file_of_many_fields_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 1000)
    path = tmp_path / "net.onnx"
    path.write_bytes(entry(7, entry(1, b"") * 2000))
    with pytest.raises(RequestError, match="more than 1,000 fields"):
        traced(str(path))


def test_a_file_that_was_cut_off_is_damaged_wherever_it_ends(lenet):
    whole = Path(lenet).read_bytes()
    for end in range(0, len(whole), len(whole) // 40):
        Path(lenet).write_bytes(whole[:end])
        with pytest.raises(RequestError, match="is no ONNX graph, or damaged"):
            traced(lenet)


def test_weights_are_stepped_over(tmp_path):
    """A sparse file of a gigabyte is read at once: nothing of the weight is."""
    shape = (16_384, 16_384)
    model = graph([node("MatMul", "x w", "y")], {"x": [1, 16_384]}, ["y"])
    body = model.graph.SerializeToString()
    weight = TensorProto(name="w", dims=shape, data_type=TensorProto.FLOAT).SerializeToString()
    size = 4 * shape[0] * shape[1]
    values = bytes([9 << 3 | 2]) + length(size)
    tensor = bytes([5 << 3 | 2]) + length(len(weight) + len(values) + size) + weight + values
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.ClearField("graph")
    head = model.SerializeToString()
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.write(head + bytes([7 << 3 | 2]) + length(len(body) + len(tensor) + size) + body)
        file.write(tensor)
        file.truncate(file.tell() + size)
    before = time.process_time()
    trace = traced(str(path))
    assert time.process_time() - before < 5
    assert parameters(trace) == macs(trace) == 16_384**2


def test_without_the_package_the_extra_is_named(lenet, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RequestError, match=r"extra onnx: pip install 'cnnscope\[onnx\]'"):
        traced(lenet)


# ------------------------------------------------------------------------- as before the export


def test_a_product_and_a_sum_of_a_bias_are_a_linear_layer(tmp_path):
    nodes = [
        node("MatMul", "x w", "p", name="/fc/MatMul"),
        node("Add", "b p", "y", name="/fc/Add"),
    ]
    weights = {"w": floats(4, 5), "b": floats(5)}
    trace = traced(save(graph(nodes, {"x": [1, 7, 4]}, ["y"], weights), tmp_path))
    assert [(m.path, m.kind) for m in trace.modules] == [("", "Module"), ("fc", "Linear")]
    assert {p.path for p in trace.params} == {"fc.weight", "fc.bias"}
    assert macs(trace) == 7 * 20


def test_a_product_that_is_read_twice_stays_a_product(tmp_path):
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "q"), node("Mul", "p q", "y")]
    weights = {"w": floats(4, 5), "b": floats(5)}
    trace = traced(save(graph(nodes, {"x": [2, 4]}, ["y"], weights), tmp_path))
    assert [table.lookup(op.name).family.value for op in trace.ops][-2:] == ["add", "multiply"]


def test_a_second_call_is_a_call_of_the_same_module(tmp_path):
    nodes = [
        node("Relu", "x", "a", name="/block/relu/Relu"),
        node("Conv", "a block.conv.weight", "b", name="/block/conv/Conv"),
        node("Relu", "b", "y", name="/block/relu_1/Relu"),
    ]
    model = graph(nodes, {"x": [1, 3, 8, 8]}, ["y"], {"block.conv.weight": floats(3, 3, 1, 1)})
    trace = traced(save(model, tmp_path))
    kinds = {module.path: module.kind for module in trace.modules}
    assert kinds == {
        "": "Module", "block": "Module", "block.relu": "ReLU", "block.conv": "Conv2d"
    }  # fmt: skip
    called = [trace.modules[call.module].path for call in trace.calls]
    assert called.count("block.relu") == 2


def block(folder):
    """A block as PyTorch's older exporter writes it: batch norms folded, a SiLU in two nodes."""
    nodes = [
        node("Conv", "x onnx::Conv_11 onnx::Conv_12", "a", name="/convs.0/conv/Conv"),
        node("Sigmoid", "a", "s", name="/convs.0/act/Sigmoid"),
        node("Mul", "a s", "b", name="/convs.0/act/Mul"),
        node("Sigmoid", "b", "t", name="/convs.0/act_1/Sigmoid"),
        node("Mul", "b t", "c", name="/convs.0/act_1/Mul"),
        node("Resize", "c - factors", "y", name="/up/Resize", mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ]  # fmt: skip
    weights = {"onnx::Conv_11": floats(4, 3, 1, 1), "onnx::Conv_12": floats(4),
               "factors": np.array([1, 1, 2, 2], np.float32)}  # fmt: skip
    return save(graph(nodes, {"x": [1, 3, 8, 8]}, ["y"], weights), folder)


def test_an_exported_block_is_what_it_was(tmp_path):
    code = """
        from torch import nn

        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.act = nn.Conv2d(3, 4, 1, bias=False), nn.SiLU()
                self.bn = nn.BatchNorm2d(4)

            def forward(self, x):
                return self.act(self.act(self.bn(self.conv(x))))

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.convs = nn.ModuleList([Block()])
                self.up = nn.Upsample(scale_factor=2)

            def forward(self, x):
                return self.up(self.convs[0](x))
    """
    (tmp_path / "net.py").write_text(textwrap.dedent(code))
    trace = traced(path := block(tmp_path))
    called = {trace.modules[call.module].path for call in trace.calls}
    assert called == {"", "convs.0", "convs.0.conv", "convs.0.act", "up"}
    assert not any(param.buffer for param in trace.params)
    assert "has put 1 batch norms into the convolutions" in trace.notes[0]
    before = f"{tmp_path / 'net.py'}:Net"
    result = run_cli("diff", before, path, "-i", "3x8x8", "--format", "json", "--no-cache")
    changes = [
        (row["after"]["path"], change["what"])
        for row in json.loads(result.out)["rows"] if row["after"]
        for change in row["changes"]
    ]  # fmt: skip
    # the batch norm is gone: the convolution has a bias, and the SiLU reads it
    assert sorted(changes) == [("convs.0.act", "reads"), ("convs.0.conv", "bias")]


def test_a_product_that_is_no_activation_has_no_class(tmp_path):
    nodes = [node("Sigmoid", "x", "s", name="/gate/Sigmoid"),
             node("Mul", "z s", "y", name="/gate/Mul")]  # fmt: skip
    trace = traced(save(graph(nodes, {"x": [1, 4], "z": [1, 4]}, ["y"]), tmp_path))
    assert {m.path: m.kind for m in trace.modules} == {"": "Module", "gate": "Module"}


def test_numbers_of_attributes_are_those_that_were_written(tmp_path):
    model = one("BatchNormalization", [1, 4, 5, 5], *[floats(4)] * 4, epsilon=1e-5, momentum=0.9)
    trace = traced(save(model, tmp_path))
    hyper = next(module.hyper for module in trace.modules if module.kind == "BatchNorm2d")
    assert (hyper["eps"], hyper["momentum"]) == (1e-5, 0.1)


def test_modules_and_classes_are_those_of_the_metadata(tmp_path):
    conv = node("Conv", "x conv1.weight", "y", name="node_conv2d")
    for key, text in (
        ("pkg.torch.onnx.name_scopes", "['', 'stem', 'stem.conv1', 'conv2d']"),
        ("pkg.torch.onnx.class_hierarchy",
         "['net.Net', 'net.Stem', 'torch.nn.modules.conv.Conv2d', 'aten.conv2d.default']"),
        ("pkg.torch.onnx.stack_trace", "a line\n" * 2000),
    ):  # fmt: skip
        said = conv.metadata_props.add()
        said.key, said.value = key, text
    weights = {"conv1.weight": floats(4, 3, 3, 3)}
    trace = traced(save(graph([conv], {"x": [1, 3, 8, 8]}, ["y"], weights), tmp_path))
    kinds = {module.path: module.kind for module in trace.modules}
    assert {kinds[""], kinds["stem"], kinds["stem.conv1"]} == {"Net", "Stem", "Conv2d"}


@pytest.mark.parametrize("name", ["forward", "training", "_modules", "exported_call", "add_module"])
def test_a_module_may_have_the_name_of_an_attribute(name, tmp_path):
    product = node("MatMul", f"x {name}.weight", "y", name=f"/{name}/MatMul")
    model = graph([product], {"x": [1, 3]}, ["y"], {f"{name}.weight": floats(3, 3)})
    trace = traced(save(model, tmp_path))
    assert [p.path for p in trace.params] == [f"{name}_.weight"]


def test_inputs_are_given_by_their_names(tmp_path):
    inputs = {"image": ["N", 3, "h", "w"], "mask.1": ["N", 1, "h", "w"]}
    nodes = [node("Conv", "image w", "a"), node("Add", "a mask.1", "y")]
    path = save(graph(nodes, inputs, ["y"], {"w": floats(4, 3, 1, 1)}), tmp_path)
    shapes = [spec.shape for spec in traced(path, "mask_1=1x8x8", "image=3x8x8").input_specs]
    assert shapes == [(1, 3, 8, 8), (1, 1, 8, 8)]
    with pytest.raises(RequestError, match="no argument img; it takes image, mask_1"):
        traced(path, "img=3x8x8", "mask_1=1x8x8")
    with pytest.raises(RequestError, match="dimension 0 cannot be 3, because N is 2 elsewhere"):
        traced(path, "2x3x8x8", "3x1x8x8")


def test_statistics_of_a_batch_norm_are_buffers(tmp_path):
    model = one("BatchNormalization", [1, 4, 5, 5], *[floats(4)] * 4)
    trace = traced(save(model, tmp_path))
    assert [p.buffer for p in trace.params] == [False, False, True, True]


def test_a_batch_norm_trains_whose_statistics_are_stored_with_its_weights(tmp_path):
    # of an untrained network: scale and variance are ones, bias and mean are zeros
    norm = node("BatchNormalization", "x ones zeros zeros ones", "y")
    weights = {"ones": floats(4), "zeros": floats(4)}
    path = save(graph([norm], {"x": [1, 4, 5, 5]}, ["y"], weights), tmp_path)
    assert run_cli("memory", path).code == 0


@pytest.mark.parametrize("command", ["rf", "explain", "stages", "diff", "check", "report"])
def test_every_command_takes_a_file(lenet, command, tmp_path):
    also = {
        "diff": [lenet],
        "explain": ["conv1"],
        "report": ["--output", str(tmp_path / "page.html")],
    }
    result = run_cli(command, lenet, *also.get(command, ()), "--no-cache")
    assert result.code == 0, result.err


MIDDLES = {
    "same lower": node("Conv", "a m", "b", auto_pad="SAME_LOWER", strides=[2, 2]),
    "pads behind": node("MaxPool", "a", "b", kernel_shape=[2, 2], strides=[2, 2],
                        pads=[0, 0, 1, 1]),
    "asymmetric": node("Resize", "a - f", "b", mode="linear",
                       coordinate_transformation_mode="asymmetric"),
    "backwards": node("Slice", "a last first axis last", "b"),
    "quantised": node("QuantizeLinear", "a s z", "b"),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_receptive_fields_are_those_of_gradients(name, tmp_path):
    nodes = [node("Conv", "x w", "a"), MIDDLES[name], node("Conv", "b w2", "y")]
    if name == "quantised":
        nodes[2:] = [node("DequantizeLinear", "b s z", "c"), node("Conv", "c w2", "y")]
    weights = {
        "w": floats(3, 3, 3, 3), "w2": floats(2, 3, 3, 3), "m": floats(3, 3, 4, 4),
        "f": np.array([1, 1, 2, 2], np.float32), "first": ints(-100), "last": ints(-1),
        "axis": ints(3), "s": np.array(0.1, np.float32), "z": np.array(0, np.int8),
    }  # fmt: skip
    path = save(graph(nodes, {"x": [1, 3, 16, 16]}, ["y"], weights), tmp_path)
    result = run_cli("rf", path, "--verify", "--no-cache")
    assert result.code == 0
    assert re.search(r"(\d+) of \1 measured fields equal the computed ones", result.out)
    assert "not measured" not in result.out


def changed(content, chance):
    """A file with a few bytes changed at random."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] = chance.choice(
            (0, 1, 127, 128, chance.randrange(256))
        )
    return bytes(content)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_changed_files_are_read_or_refused(seed, lenet):
    whole = wire.read(lenet).SerializeToString()
    chance = random.Random(seed)
    refused = 0
    for _ in range(40 if not seed else 4000):
        Path(lenet).write_bytes(changed(whole, chance))
        try:
            traced(lenet)
        except CnnscopeError:
            refused += 1
    assert refused > 10
