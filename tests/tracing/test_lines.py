"""The source line that called a module, as a reader of the code finds it."""

import torch
from torch import nn

import cnnscope

NET = """\
from torch import nn
from parts import Part

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.part = Part()

    def forward(self, x):
        x = self.stem(x)
        return self.part(
            x)
"""
PARTS = """\
from torch import nn

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(x) + self.conv(x)
"""


def lines(trace):
    return [(trace.modules[call.module].path, call.line) for call in trace.calls]


def test_the_line_is_the_innermost_that_is_not_torchs(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "parts.py").write_text(PARTS)
    assert lines(cnnscope.trace(f"{tmp_path / 'net.py'}:Net", "3x8x8")) == [
        ("", ""),
        ("stem", "net.py:11"),
        ("stem.0", "net.py:11"),  # which Sequential does not say
        ("stem.1", "net.py:11"),
        ("part", "net.py:12"),
        ("part.conv", "parts.py:9"),
        ("part.conv", "parts.py:9"),
    ]


def test_lines_of_libraries_are_below_the_folder_they_are_imported_from():
    trace = cnnscope.trace("alexnet", "3x64x64")
    assert all(line.startswith("torchvision/models/alexnet.py:") for _, line in lines(trace)[1:])
    trace = cnnscope.trace("classic:lenet5")
    assert lines(trace)[1][1].startswith("cnnscope/models/sources/classic/lenet.py:")


def test_what_only_torch_calls_has_no_line():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    assert {line for _, line in lines(cnnscope.trace(model, torch.zeros(1, 3)))} == {""}
