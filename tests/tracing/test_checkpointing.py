"""Activation checkpointing against torch's own in a real step, and which modules are blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from live_memory import live_step
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cnnscope.analysis.step import macs, peak
from cnnscope.errors import RequestError
from cnnscope.records.step import Step, StepTrace
from cnnscope.tracing.checkpointing import repeated
from cnnscope.tracing.step import trace_step


class Block(nn.Module):
    """A residual block with a batch norm, and activations in place."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(torch.relu_(self.norm(self.a(x))))


class Network(nn.Module):
    """A stem, three blocks in two stages, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stage1 = nn.Sequential(Block(), Block())
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), Block())
        self.head = nn.Linear(8 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage2(self.stage1(self.stem(x))).flatten(1))


class Again(nn.Module):
    """What a user writes to checkpoint a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False)


def traced(model: nn.Module, *asked: str, amp: Any = None, channels: int = 3) -> StepTrace:
    x = torch.empty(4, channels, 16, 16, device="meta")
    return trace_step(model, (x,), step=Step("momentum", amp=amp, checkpoint=asked))


def with_again(model: nn.Module, *paths: str) -> nn.Module:
    for path in paths:
        outer, _, name = path.rpartition(".")
        setattr(model.get_submodule(outer), name, Again(model.get_submodule(path)))
    return model


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        (("auto",), ("stage1.0", "stage1.1")),
        (("stage1",), ("stage1",)),
        (("stage*",), ("stage1", "stage2")),
        (("stage2.1", "stage1.0"), ("stage2.1", "stage1.0")),
        (("stage?.?",), ("stage1.0", "stage1.1", "stage2.0", "stage2.1")),
    ],
)
def test_the_peak_is_that_of_a_real_step(asked: tuple[str, ...], paths: tuple[str, ...]) -> None:
    made = traced(Network(), *asked)
    assert sorted(made.checkpointed) == sorted(paths)
    real = with_again(Network(), *paths).train()
    optimizer = torch.optim.SGD(real.parameters(), lr=0.1, momentum=0.9)
    inputs = (torch.rand(4, 3, 16, 16),)
    assert peak(made).nbytes == live_step(real, inputs, optimizer, lambda result: result.sum())


def test_what_runs_again_is_counted_in_the_backward_pass() -> None:
    plain, again = (macs(traced(Network(), *asked)) for asked in ((), ("stage1.1",)))
    # What the second convolution of a block makes is not needed again: torch stops before it. The
    # first: 4 images x 256 positions x 8 x 8 channels x 9 taps
    once = 4 * 256 * 8 * 8 * 9
    assert plain.recomputed == 0
    assert again.recomputed == once
    assert again.backward == plain.backward + once
    assert again.forward == plain.forward


def test_operations_that_run_again_belong_to_the_layers_that_ran_them() -> None:
    made = traced(Network(), "stage1.0")
    late = {
        made.trace.index.path(op)
        for number, op in enumerate(made.trace.ops)
        if made.phase(number) == "backward" and op.call >= 0
    }
    assert late == {"stage1.0", "stage1.0.a", "stage1.0.norm", "stage1.0.b"}


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_block_runs_again_in_mixed_precision(amp: Any) -> None:
    made = traced(Network(), "stage1.0", amp=amp)
    half = {"bf16": "bfloat16", "fp16": "float16"}[amp]
    again = [
        made.trace.tensors[op.outputs[0]].dtype
        for number, op in enumerate(made.trace.ops)
        if made.phase(number) == "backward" and op.name == "aten.convolution.default"
    ]
    assert again == [half]
    assert made.trace.notes == ()  # what was asked for is not said


def test_the_model_is_left_as_it_was() -> None:
    model = Network()
    before = [dict(vars(module)) for module in model.modules()]
    traced(model, "auto")
    with pytest.raises(RequestError):
        traced(model, "stage3")
    assert [dict(vars(module)) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("stage3",), r"--checkpoint 'stage3': no such module; did you mean stage"),
        (("stage1", "nope*"), r"--checkpoint 'nope\*': no such module"),
    ],
)
def test_a_module_that_is_not_there(asked: tuple[str, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        traced(Network(), *asked)


def test_a_network_without_blocks_has_none_to_repeat() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    with pytest.raises(RequestError, match="no block of the network repeats; name modules"):
        traced(plain, "auto")


class Listed(nn.Module):
    """Blocks in a list, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(3), Block(3)])
        self.unused = Block(3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_parts_of_a_list_are_blocks() -> None:
    assert traced(Listed(), "blocks").checkpointed == ("blocks.0", "blocks.1")


def test_a_block_that_is_not_called_is_said() -> None:
    made = traced(Listed(), "blocks.1", "unused")
    assert made.checkpointed == ("blocks.1",)
    assert "never called, so that nothing of it runs again: unused" in made.trace.notes


class Joined(nn.Module):
    """A layer on all features before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 1)

    def forward(self, found: list[Tensor]) -> Tensor:
        return self.conv(torch.cat(found, 1))


class Dense(nn.Module):
    """Two layers that add their output to a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Joined(3), Joined(7)])

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(found))
        return torch.cat(found, 1)


def test_a_list_of_features_may_grow_after_the_call() -> None:
    assert traced(Dense(), "auto").checkpointed == ("layers.0", "layers.1")


def test_blocks_are_the_outermost_neighbours_of_one_class() -> None:
    network = nn.Sequential(nn.Sequential(Block(), Block()), Block(), nn.ReLU(), nn.ReLU())
    assert [path for path, _ in repeated(network)] == ["0.0", "0.1"]
