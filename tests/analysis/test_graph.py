"""The graph of a network: boxes, data flow, repeats."""

import pytest

from cnnscope.analysis import layers
from cnnscope.analysis.graph import graph
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec


@pytest.fixture(scope="module")
def resnet():
    trace = trace_spec(Request.of("resnet18"))
    return graph(trace, layers.rows(trace))


def test_equal_blocks_in_a_row_are_one_box(resnet):
    repeat = next(node for node in resnet.nodes if node.kind == "repeat")
    assert repeat.paths == ("layer1.0", "layer1.1")
    assert repeat.costs.params == 2 * 2 * (64 * 64 * 9 + 2 * 64)  # two blocks of two convolutions


def test_a_residual_block_has_an_add_that_joins_two_flows(resnet):
    block = next(node for node in resnet.nodes if node.path == "layer2.0")
    adds = [n for n in block.children if resnet.nodes[n].family == "add"]
    assert len(adds) == 1
    sources = {edge.source for edge in block.edges if edge.target == adds[0]}
    assert {resnet.nodes[n].name for n in sources} == {"bn2", "downsample"}
