"""ONNX files: what is read of them, what they are shown as, and what is refused."""

import pytest
from onnx_graphs import floats, graph, node, save

from cnnscope.errors import RequestError
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.ops import table


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
    """Two convolutions, a pool and two linear layers, named as PyTorch's older exporter does."""
    nodes = [
        node("Conv", "x features.0.weight features.0.bias", "a", name="/features/features.0/Conv"),
        node("Relu", "a", "b", name="/features/features.1/Relu"),
        node("MaxPool", "b", "c", kernel_shape=[2, 2], strides=[2, 2],
             name="/features/features.2/MaxPool"),
        node("Flatten", "c", "d", name="/Flatten"),
        node("Gemm", "d fc.weight fc.bias", "y", transB=1, name="/fc/Gemm"),
    ]  # fmt: skip
    weights = {
        "features.0.weight": floats(6, 1, 5, 5), "features.0.bias": floats(6),
        "fc.weight": floats(10, 864), "fc.bias": floats(10),
    }  # fmt: skip
    return save(graph(nodes, {"x": ["N", 1, 28, 28]}, ["y"], weights), tmp_path)


def test_a_graph_is_a_trace_like_any_other(lenet):
    trace = traced(lenet)
    # 6 * 25 + 6 and 864 * 10 + 10
    assert parameters(trace) == 156 + 8650
    # 24 * 24 positions of 6 * 25, and 864 * 10
    assert macs(trace) == 24 * 24 * 150 + 8640
    assert trace.tensors[trace.outputs[0]].shape == (1, 10)


def test_modules_are_those_of_the_names(lenet):
    trace = traced(lenet)
    paths = {module.path: module.kind for module in trace.modules}
    assert list(paths) == ["", "features", "features.0", "features.1", "features.2", "fc"]
    assert (paths["features.0"], paths["fc"]) == ("Conv2d", "Linear")
    assert {p.path for p in trace.params} == {
        "features.0.weight", "features.0.bias", "fc.weight", "fc.bias"
    }  # fmt: skip


def test_a_batch_that_the_file_leaves_open_is_one_or_what_is_given(lenet):
    assert macs(traced(lenet, "4x1x28x28")) == 4 * macs(traced(lenet))


def test_other_sizes_than_those_of_the_file_are_refused(lenet):
    with pytest.raises(RequestError, match="dimension 2 cannot be 32, because the file has 28"):
        traced(lenet, "1x32x32")
