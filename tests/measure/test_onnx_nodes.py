"""onnx-tool beside our MACs: each of its reasons by a graph of its own, in hand arithmetic."""

import sys

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import numpy_helper
from onnx_graphs import floats, graph, lenet, node, one, save

from cnnscope import parallel
from cnnscope.deadline import Deadline
from cnnscope.errors import RequestError
from cnnscope.measure import onnx_nodes
from cnnscope.measure.counters import blank
from cnnscope.models.files.onnx import wire
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.records.trace import Source
from cnnscope.reports import referee
from cnnscope.reports.subject import Subject

pytest.importorskip("onnx_tool")


def judged(model, folder):
    """Our MACs, its reasons, and the status."""
    trace = trace_spec(Request.of(save(model, folder)))
    content = wire.read(trace.source.name).SerializeToString()
    shapes = [spec.shape for spec in trace.input_specs]
    value, evidence = onnx_nodes.counted(content, shapes)
    count = replace(blank("onnx-tool", "MACs"), value=value, evidence=evidence)
    found = referee.verdict(trace, count)
    return found.ours, {one.about: one.amount for one in found.reasons}, found.status


def i8(*shape):
    return np.asarray(floats(*shape) * 100).astype(np.int8)


U8 = (np.array(0.1, np.float32), np.array(0, np.uint8))  # a scale and a zero point
I8 = (np.array(0.1, np.float32), np.array(0, np.int8))
UINT8, INT8 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8

CASES = {  # a graph of one node: our MACs, and what onnx-tool counts beside
    # 4 x 6x6 results of 27 products, and a bias for each
    "conv": (one("Conv", [1, 3, 8, 8], floats(4, 3, 3, 3), floats(4)),
             144 * 27, {"biases": 144}),
    "grouped": (one("Conv", [1, 4, 8, 8], floats(4, 1, 3, 3), group=4), 144 * 9, {}),
    # 4 x 9x9 results of 2 x 3x3 products by its rule, 3 x 4x4 inputs of 4 x 3x3 by ours
    "transposed": (one("ConvTranspose", [1, 3, 4, 4], floats(3, 4, 3, 3), floats(4),
                       strides=[2, 2]),
                   48 * 36, {"transposed": (324 - 48) * 36, "biases": 324}),
    "transposed in groups": (
        one("ConvTranspose", [1, 4, 4, 4], floats(4, 3, 2, 2), strides=[2, 2], group=2),
        64 * 12, {"transposed": (6 * 64 - 64) * 12}),
    "gemm": (one("Gemm", [2, 5], floats(3, 5), floats(3), transB=1), 30, {"biases": 6}),
    "matmul": (one("MatMul", [2, 4, 5], floats(5, 3)), 120, {}),
    # a batch of 2 x 3 of products 4x5x6: it takes the larger of 2 and 3
    "broadcast": (one("MatMul", [2, 1, 4, 5], [1, 3, 5, 6]), 720, {"shapes": 360 - 720}),
    "einsum": (one("Einsum", [2, 3, 4], [2, 4, 5], equation="bij,bjk->bik"), 120, {}),
    "relu": (one("Relu", [2, 3]), 0, {"operators": 6}),
    # SAME in one axis more than it knows: 4 x 5x5x5 results of 3 x 3x3x3, of which it has 4x5
    "same in 3-D": (one("Conv", [1, 3, 5, 5, 5], floats(4, 3, 3, 3, 3), auto_pad="SAME_UPPER"),
                    500 * 81, {"shapes": (20 - 500) * 81}),
    # 7 steps of 2 samples: 4 x 5 rows of 3 + 5, biases 2 x 20, and 5 states of 180
    "lstm": (one("LSTM", [7, 2, 3], floats(1, 20, 3), floats(1, 20, 5), floats(1, 40),
                 outputs="y h c", hidden_size=5),
             14 * 160, {"biases": 14 * 40, "gates": 14 * 5 * 180}),
    "both ways": (one("LSTM", [7, 2, 3], floats(2, 20, 3), floats(2, 20, 5), floats(2, 40),
                      outputs="y h c", hidden_size=5, direction="bidirectional"),
                  14 * 320, {"biases": 14 * 80, "gates": 14 * 5 * 180}),
    "gru": (one("GRU", [7, 2, 3], floats(1, 15, 3), floats(1, 15, 5), floats(1, 30),
                outputs="y h", hidden_size=5),
            14 * 120, {"biases": 14 * 30, "gates": 14 * 5 * 110}),
    "quantised": (one("QLinearConv", ([1, 3, 8, 8], UINT8), *U8, i8(4, 3, 3, 3), *I8, *U8,
                      np.zeros(4, np.int32)),
                  144 * 27, {"biases": 144}),
    "integers": (one("MatMulInteger", ([2, 5], UINT8), i8(5, 3), np.array(1, np.uint8)),
                 30, {"zero points": 6}),
    "both zero points": (one("MatMulInteger", ([2, 5], UINT8), i8(5, 3), np.array(1, np.uint8),
                             np.array(0, np.int8)), 30, {}),
    "batch of weights": (one("QLinearMatMul", ([2, 5], UINT8), *U8, i8(4, 5, 3), *I8, *U8),
                         120, {"matmul": 30 - 120}),
    "convolution of integers": (one("ConvInteger", ([1, 3, 8, 8], UINT8), i8(4, 3, 3, 3)),
                                144 * 27, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_onnx_tool_adds_is_named_to_the_last_multiplication(case, tmp_path):
    model, ours, reasons = CASES[case]
    assert judged(model, tmp_path) == (ours, reasons, "explained" if reasons else "equal")


def test_another_number_is_unexplained(tmp_path):
    trace = trace_spec(Request.of(save(CASES["conv"][0], tmp_path)))
    count = replace(blank("onnx-tool", "MACs"), value=144 * 28 + 1, evidence={"biases: a": 144})
    verdict = referee.verdict(trace, count)
    assert (verdict.status, verdict.unexplained) == ("unexplained", 1)


def branch(name, op):
    return onnx.helper.make_graph(
        [node(op, "x", name)], name, [], [onnx.helper.make_empty_tensor_value_info(name)]
    )


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (graph([node("If", "c", then_branch=branch("a", "Relu"), else_branch=branch("b", "Abs"))],
               {"c": ([], onnx.TensorProto.BOOL), "x": [1, 3]}, ["y"]), "it has no rule for If"),
        (one("Mish", [1, 3], opset=22), "it has no rule for Mish"),
        (graph([node("Relu", "x", "a", name="n"), node("Relu", "a", "y", name="n")],
               {"x": [1, 3]}, ["y"]), "it takes nodes of one name for one node"),
        (one("MatMul", [5], floats(5, 3)),
         "it fails: RuntimeError: Gemm inputs must have rank >= 2"),
    ],
)  # fmt: skip
def test_a_graph_that_it_cannot_count_says_why(model, why, monkeypatch):
    monkeypatch.setattr(onnx_nodes, "_MEMORY", -1)  # this process keeps its own limits
    monkeypatch.setattr(onnx_nodes, "_SECONDS", -1)
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    assert onnx_nodes.limited(model.SerializeToString(), shapes) == why


@pytest.mark.broad
def test_a_graph_that_makes_huge_arrays_is_ended(tmp_path):
    nodes = [
        node("ConstantOfShape", "sizes", "big", value=numpy_helper.from_array(np.ones(1))),
        node("ReduceMax", "big", "most", keepdims=0),
        node("Cast", "most", "many", to=7),
        node("Expand", "x many", "y"),
    ]
    sizes = np.array([2**20, 2**20], np.int64)
    made = graph(nodes, {"x": [1]}, ["y"], {"sizes": sizes}, opset=17)
    (found,) = parallel.each(onnx_nodes.limited, [(made.SerializeToString(), [[1]])], 1)
    assert found == "it takes more than 4 GiB to find the shapes"


@pytest.mark.broad
def test_check_asks_it_about_a_file(tmp_path):
    def unbuilt(_):
        raise RequestError("not needed")

    trace = trace_spec(Request.of(lenet(tmp_path)))
    *_, count = Subject(trace, unbuilt).counts()
    verdict = referee.verdict(trace, count)
    # biases: 6*24*24 + 16*8*8 + 120 + 10; operators: relu 3456 + 1024 + 120, pools 4 * (864 + 256)
    assert (verdict.status, verdict.ours, verdict.theirs) == ("explained", 271_920, 285_610)
    operators, biases = verdict.reasons
    assert (operators.about, operators.amount, operators.where) == (
        "operators", 9_080, ("Relu", "MaxPool")
    )  # fmt: skip
    assert (biases.about, biases.amount, biases.count) == ("biases", 4_610, 4)


def test_where_it_is_not_installed_the_figure_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx_tool", None)
    subject = Subject(trace_spec(Request.of(lenet(tmp_path))), lambda _: None)
    *_, count = subject.counts()
    assert count.failed == "it is not installed: pip install onnx-tool"


def test_other_sources_are_not_asked_about():
    source = Source("net", "python", "net")
    trace = replace(trace_spec(Request.of("classic:lenet5")), source=source)
    subject = Subject(trace, lambda _: None)
    over = Deadline(-1)
    assert "onnx-tool" not in {count.counter for count in subject.counts(over)}
