"""An ONNX file in `bench`: onnxruntime runs it, in turns with the other models."""

import onnx_graphs
import pytest
from command_line import run_cli

from cnnscope.models.request import Request
from cnnscope.timing.runner import Plan, bench

pytest.importorskip("onnxruntime")


@pytest.fixture
def lenet(tmp_path):
    return onnx_graphs.lenet(tmp_path)


def test_a_file_is_timed_beside_the_network(lenet):
    network = Request.of("nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU())", ("1x28x28",))
    models = (Request.of(lenet), network)
    report = bench(Plan(models, device="cpu", seconds=0.05, ceilings=False))
    assert [len(run.samples_ns) > 0 for run in report.runs] == [True, True]
    assert len(report.comparisons) == 1
    assert any(" is run by onnxruntime" in note for note in report.notes), report.notes
    assert "other-work" not in report.runs[0].warnings


@pytest.mark.parametrize("option", ["--amp", "--channels-last", "--per-layer", "--mode=train"])
def test_what_a_file_has_not_is_refused(lenet, option):
    result = run_cli("bench", lenet, option)
    assert result.code == 2
    assert "onnxruntime runs the file as it is" in result.err


def test_outputs_are_those_of_the_graph(lenet):
    import torch

    from cnnscope.models.files.onnx.program import Program
    from cnnscope.models.files.onnx.runtime import Session

    session = Session(Program(lenet), "cpu")
    (made,) = session(image=torch.zeros(2, 1, 28, 28))
    assert made.shape == (2, 10)


@pytest.mark.parametrize("threads", [1, 2])
def test_onnxruntime_has_as_many_threads_as_torch_and_they_sleep_between_calls(lenet, threads):
    import torch

    from cnnscope.models.files.onnx.program import Program
    from cnnscope.models.files.onnx.runtime import Session

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        options = Session(Program(lenet), "cpu").session.get_session_options()
    finally:
        torch.set_num_threads(before)
    assert options.intra_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
