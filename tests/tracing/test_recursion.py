"""A forward that fills the stack: the module that calls itself is named, not a layer inside."""

import pytest
import torch
from torch import nn

import cnnscope


class Direct(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.forward(self.conv(x))


class Part(nn.Module):
    def __init__(self, owner):
        super().__init__()
        self.owner = [owner]  # not a child

    def forward(self, x):
        return self.owner[0](x)


class Circle(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.part = nn.Conv2d(3, 3, 1), Part(self)

    def forward(self, x):
        return self.part(self.conv(x))


class Counted(nn.Module):
    """Calls itself three times, and returns."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x, left=3):
        return self.forward(self.conv(x), left - 1) if left else x


def nested(depth):
    module = nn.Conv2d(3, 3, 1)
    for _ in range(depth):
        module = nn.Sequential(module)
    return module


def message(model):
    with pytest.raises(cnnscope.ModelError) as caught:
        cnnscope.trace(model, (torch.empty(1, 3, 8, 8, device="meta"),))
    return str(caught.value)


def test_the_module_that_calls_itself_is_named():
    text = message(nn.Sequential(nn.ReLU(), Direct()))
    assert "forward failed in 1 (Direct)" in text
    assert "recursion limit" in text
    assert "forward calls itself, and never returns" in text


def test_modules_that_call_each_other_are_named():
    text = message(Circle())
    assert "forward failed in Circle" in text
    assert "forward calls itself through part" in text


def test_deep_nesting_is_no_recursion():
    text = message(nested(500))
    assert "nested deeper" in text
    assert "calls itself" not in text


def test_a_recursion_that_ends_is_traced():
    trace = cnnscope.trace(Counted(), (torch.empty(1, 3, 8, 8, device="meta"),))
    assert sum("convolution" in op.name for op in trace.ops) == 3
