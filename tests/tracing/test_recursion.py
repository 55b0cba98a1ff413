"""A forward that fills the stack: the module that calls itself is named, not a layer inside."""

import sys

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


@pytest.mark.broad
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
    text = message(nested(2000))
    assert "nested deeper" in text
    assert "calls itself" not in text


def test_a_recursion_that_ends_is_traced():
    trace = cnnscope.trace(Counted(), (torch.empty(1, 3, 8, 8, device="meta"),))
    assert sum("convolution" in op.name for op in trace.ops) == 3


def test_what_a_plain_forward_nests_is_traced():
    model, before = nested(250), sys.getrecursionlimit()
    made = cnnscope.trace(model, ["1x3x8x8"])
    assert (len(made.calls), sys.getrecursionlimit()) == (251, before)


def test_commands_take_two_hundred_levels(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\ndef net():\n    module = nn.Conv2d(3, 4, 3, padding=1)\n"
        "    for _ in range(200):\n        module = nn.Sequential(module)\n    return module\n"
    )
    spec = f"{path}:net"
    assert cnnscope.summary(spec, "3x8x8").record.totals.params == 112  # 4*27 + 4
    assert str(cnnscope.rf(spec, inputs="3x8x8"))
