"""Lazy modules that were made in Python: followed with the widths that the inputs give."""

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.api.traces import Given, copied

# 1x3x8x8 -> conv 3x3, 3 -> 8: 8 * 27 + 8 = 224 parameters, 8x6x6; linear 288 -> 10: 2,890.
PARAMETERS = 224 + 2_890


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def state(model):
    return [(type(layer), layer.training, len(layer._forward_pre_hooks)) for layer in model], [
        nn.parameter.is_lazy(p) for p in model.parameters()
    ]


@pytest.fixture
def model():
    """Lazy before and lazy after."""
    made = lazy()
    before = state(made)
    yield made
    assert state(made) == before
    assert made(torch.ones(2, 3, 5, 5)).shape == (2, 10)  # and still takes any width


def numel(made):
    return sum(torch.Size(made.tensors[p.tensor].shape).numel() for p in made.params)


@pytest.mark.parametrize(
    "inputs", [(1, 3, 8, 8), "3x8x8", torch.zeros(1, 3, 8, 8), [torch.ones(1, 3, 8, 8).to("meta")]]
)
def test_a_lazy_module_has_the_widths_of_its_inputs(model, inputs):
    made = cnnscope.trace(model, inputs)
    assert (numel(made), made.tensors[made.outputs[0]].shape) == (PARAMETERS, (1, 10))
    real = isinstance(inputs, torch.Tensor)
    assert made.device == ("cpu" if real else "meta")


def test_every_function_takes_a_lazy_module(model):
    size = (1, 3, 8, 8)
    assert cnnscope.summary(model, size).totals.params == PARAMETERS
    assert cnnscope.rf(model, inputs=size).layers
    assert cnnscope.explain(model, "0", inputs=size)
    verified = cnnscope.verify_rf(model, inputs=size)
    assert verified.layers
    assert cnnscope.effective(model, "0", inputs=size).maps
    a, b = (cnnscope.trace(one, size) for one in (model, lazy()))
    assert cnnscope.diff(a, b)
    copy = copied(Given(model, size, None), a)  # which `bench` measures
    assert copy(torch.ones(1, 3, 8, 8)).shape == (1, 10)


def test_weights_that_are_there_stay_the_callers():
    held = nn.Conv2d(3, 4, 1)
    model = nn.Sequential(
        held, nn.LazyBatchNorm2d(), nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(2)
    )
    weight = held.weight.detach().clone()
    for inputs in ((1, 3, 8, 8), torch.ones(1, 3, 8, 8)):
        made = cnnscope.trace(model, inputs)
        # 3 * 4 + 4; 4 + 4; 4 * 72 + 8; 288 * 2 + 2; the running mean, variance and count of 4
        assert numel(made) == 16 + 8 + 296 + 578 + 9
        assert model.training
        assert model[0] is held
        assert held.weight.device.type == "cpu"
        assert torch.equal(held.weight, weight)
        assert nn.parameter.is_lazy(model[2].weight)


def test_a_lazy_module_that_looks_at_its_data_runs_on_real_tensors():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.LazyConv2d(8, 3)

        def forward(self, x):
            y = self.c(x)
            return y * 2 if float(y.sum()) > 1e9 else y

    model = Net()
    made = cnnscope.trace(model, "3x8x8")
    assert (made.device, numel(made)) == ("cpu", 224)
    assert nn.parameter.is_lazy(model.c.weight)
