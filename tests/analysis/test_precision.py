"""Parameters and multiply-accumulates by number type, of quantised networks of PyTorch."""

import warnings

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.analysis import precision


@pytest.fixture(autouse=True)
def _quietly():
    engines = torch.backends.quantized.supported_engines
    if not {"fbgemm", "qnnpack"} & set(engines):
        pytest.skip("this torch has no quantised kernels")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm" if "fbgemm" in engines else "qnnpack"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.backends.quantized.engine = before


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quantise = torch.ao.quantization.QuantStub()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 5)
        self.dequantise = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        x = self.conv(self.quantise(x))
        return self.dequantise(self.fc(x.mean((2, 3))))


def static():
    from torch.ao import quantization

    net = Net().eval()
    net.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(net)
    prepared(torch.rand(1, 3, 8, 8))
    return quantization.convert(prepared)


def test_packed_weights_are_parameters_of_their_type():
    trace = cnnscope.trace(static(), torch.rand(1, 3, 8, 8))
    # 8 * 27 + 5 * 8 weights, 8 + 5 biases
    assert precision.parameters(trace) == {"int8": 256, "float32": 13}
    assert [p.path for p in trace.params if not p.buffer] == [
        "conv.weight", "conv.bias", "fc.weight", "fc.bias"
    ]  # fmt: skip
    assert all(p.used for p in trace.params if not p.buffer)


def test_products_of_packed_weights_are_of_integers():
    trace = cnnscope.trace(static(), torch.rand(1, 3, 8, 8))
    # 6 * 6 * 216, and 40
    assert precision.macs(trace) == {"int8": 7776 + 40}


def test_weights_that_are_quantised_alone_are_counted_too():
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 8)), {nn.Linear})
    trace = cnnscope.trace(net, torch.rand(1, 4))
    assert precision.parameters(trace) == {"int8": 32, "float32": 8}


def test_other_networks_have_one_type():
    trace = cnnscope.trace(nn.Conv2d(3, 8, 3), torch.rand(1, 3, 8, 8))
    assert precision.macs(trace) == {"float32": 36 * 216}
    assert precision.parameters(trace) == {"float32": 224}


def test_mixed_precision_is_told():
    class Mixed(nn.Module):
        def forward(self, x):
            return x @ x + (x.half() @ x.half()).float()

    assert precision.macs(cnnscope.trace(Mixed(), torch.rand(4, 4))) == {
        "float32": 64, "float16": 64
    }  # fmt: skip
