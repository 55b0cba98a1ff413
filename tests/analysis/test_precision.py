"""Parameters and multiply-accumulates by number type, of quantised networks of PyTorch."""

import warnings

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.analysis import cost, params, precision
from cnnscope.analysis.weights import weight_layers
from cnnscope.reports import summary


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


class Block(nn.Module):
    """Each convolution that torch quantises: strides, groups, an added tensor, transposed."""

    def __init__(self):
        super().__init__()
        self.quantise = torch.ao.quantization.QuantStub()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.add = torch.ao.nn.quantized.FloatFunctional()
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.dequantise = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        x = torch.relu(self.stem(self.quantise(x)))
        return self.dequantise(self.up(self.add.add(x, self.deep(x))))


class Branches(nn.Module):
    """Convolutions that read parts of one map, beside each other."""

    def __init__(self):
        super().__init__()
        self.quantise = torch.ao.quantization.QuantStub()
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.join = torch.ao.nn.quantized.FloatFunctional()
        self.dequantise = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        a, b = self.quantise(x).chunk(2, 1)
        return self.dequantise(self.join.cat([self.left(a), self.right(b)], 1))


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.quantise = torch.ao.quantization.QuantStub()
        self.conv = nn.Conv1d(3, 8, 5, stride=3, padding=1)
        self.dequantise = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        return self.dequantise(self.conv(self.quantise(x)))


def converted(net, x):
    from torch.ao import quantization

    per_tensor = quantization.default_qconfig  # transposed convolutions take no other
    net.eval().qconfig = per_tensor
    prepared = quantization.prepare(net)
    prepared(x)
    return quantization.convert(prepared)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Block, (1, 3, 32, 32)), (Branches, (1, 8, 9, 9)), (Line, (1, 3, 32))],
)
def test_a_packed_convolution_has_the_field_and_macs_of_the_one_that_it_was(make, shape):
    x = torch.rand(shape)
    before, after = cnnscope.trace(make(), x), cnnscope.trace(converted(make(), x), x)
    weighty = [
        {row.path: row.field for row in summary.report(trace).layers if row.macs and row.leaf}
        for trace in (before, after)
    ]
    assert weighty[0] == weighty[1]
    assert weighty[0]
    assert None not in weighty[0].values()
    assert precision.macs(after) == {"int8": precision.macs(before)["float32"]}


def test_a_network_that_is_prepared_for_training_is_the_one_that_it_was():
    from torch.ao import quantization

    net = Net().train()
    net.qconfig = quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare_qat(net).eval()
    traces = [cnnscope.trace(one, torch.rand(1, 3, 8, 8)) for one in (Net().eval(), prepared)]
    before, after = (
        [row.field for row in summary.report(trace).layers if row.macs and row.leaf]
        for trace in traces
    )
    assert before == after
    assert [precision.macs(trace) for trace in traces] == [{"float32": 7816}] * 2


class Reader(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.read = kind(4, 6, batch_first=True, **more)

    def forward(self, x):
        return self.read(x)[0]


@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("dtype", "stored", "multiplied"), [
    (torch.qint8, "int8", "int8"), (torch.float16, "float16", "float32"),
])  # fmt: skip
def test_a_quantised_recurrent_network_counts_as_the_one_that_it_was(
    kind, more, dtype, stored, multiplied
):
    x = torch.rand(2, 5, 4)
    net = Reader(kind, **more).eval()
    before = cnnscope.trace(net, x)
    after = cnnscope.trace(torch.ao.quantization.quantize_dynamic(net, {kind}, dtype=dtype), x)
    weights = sum(w.numel() for name, w in net.named_parameters() if "weight" in name)
    biases = sum(w.numel() for name, w in net.named_parameters() if "bias" in name)
    assert precision.parameters(after) == {stored: weights, "float32": biases}
    assert precision.macs(after) == {multiplied: precision.macs(before)["float32"]}
    assert weight_layers(after) == weight_layers(before)


def test_a_quantised_cell_counts_as_the_one_that_it_was():
    # 2 samples of 4 gates x 6 units, each of 4 inputs and 6 states
    cell = torch.ao.nn.quantized.dynamic.LSTMCell(4, 6)
    trace = cnnscope.trace(cell, torch.rand(2, 4))
    assert precision.macs(trace) == {"int8": 2 * 24 * 10}
    assert precision.parameters(trace) == {"int8": 240, "float32": 48}


def test_tables_of_4_bits_have_half_a_byte_for_each_element():
    from torch.ao import quantization

    net = nn.Sequential(nn.EmbeddingBag(100, 16, mode="sum")).eval()
    net[0].qconfig = quantization.float_qparams_weight_only_qconfig_4bit
    net = quantization.convert(quantization.prepare(net))
    trace = cnnscope.trace(net, torch.zeros(2, 5, dtype=torch.int64))
    assert (params.total(trace), params.nbytes(trace)) == (1600, 800)
    assert not cost.unknown_ops(trace)


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


class WeightOnly(nn.Module):
    """A linear layer whose weight is a buffer of integers, as exported quantised programs have."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.zeros(8, 4, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(8, 1))

    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale)


def test_a_buffer_of_integers_is_the_weight_of_a_layer():
    report = cnnscope.summary(WeightOnly(), torch.rand(2, 4))
    assert report.totals.linear_layers == 1
    assert report.totals.buffers_by_dtype == {"int8": 32, "float32": 8}
    assert "buffers 40 (64 B, 32 int8, 8 float32)" in str(report)


class Packed(torch.Tensor):
    """A weight that is kept as integers and scales, as quantisation libraries wrap it."""

    @staticmethod
    def __new__(cls, data, scale):
        made = torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype)
        made.data_of, made.scale_of = data, scale
        return made

    def __tensor_flatten__(self):
        return ["data_of", "scale_of"], None

    @classmethod
    def __tensor_unflatten__(cls, inner, _, size, stride):
        del size, stride
        return cls(inner["data_of"], inner["scale_of"])

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            x, packed, bias = (*args, None)[:3]
            return func(x, packed.data_of.to(x.dtype) * packed.scale_of, bias)
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return cls(args[0].data_of, args[0].scale_of)
        raise NotImplementedError(func)


def test_a_weight_that_wraps_integers_is_counted_as_these():
    net = nn.Linear(4, 8)
    packed = Packed(torch.zeros(8, 4, dtype=torch.int8), torch.ones(8, 1))
    net.weight = nn.Parameter(packed, requires_grad=False)
    trace = cnnscope.trace(net, torch.rand(2, 4))
    assert precision.parameters(trace) == {"int8": 32, "float32": 8}
    assert precision.parameters(trace, buffers=True) == {"float32": 8}
    assert [p.path for p in trace.params] == ["weight.data_of", "weight.scale_of", "bias"]
    assert (weight_layers(trace).linear, all(p.used for p in trace.params)) == (1, True)
