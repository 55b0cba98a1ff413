"""Work of a model: bytes, MACs, memory, and the roofline."""

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.records.bench import BenchSettings, Ceilings
from cnnscope.timing import loop, work
from cnnscope.timing.layers import time_layers
from cnnscope.timing.timers import HostTimer
from cnnscope.tracing.arguments import Arguments

SETTINGS, TRAINING = BenchSettings("cpu"), BenchSettings("cpu", mode="train")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x):
        return self.head(self.act(self.act(self.conv(x))).flatten(1))


@pytest.fixture(scope="module")
def small():
    return cnnscope.trace(Small(), torch.empty(1, 3, 8, 8, device="meta"))


# conv: reads 3*8*8 + 8*3*3*3 + 8 and writes 8*8*8 numbers of 4 bytes: (192 + 216 + 8 + 512) * 4
CONV = 3712
RELU = 2 * 512 * 4  # in place: reads and writes
# linear: 512 + 512*10 + 10 read, 10 written
HEAD = (512 + 5120 + 10 + 10) * 4


def test_bytes_are_what_operations_read_and_write(small):
    assert work.layer_bytes(small) == {
        ("", 1): 0,  # flatten is a view
        ("conv", 1): CONV,
        ("act", 1): RELU,
        ("act", 2): RELU,
        ("head", 1): HEAD,
    }
    assert work.work(small, SETTINGS).nbytes == CONV + 2 * RELU + HEAD


def test_work_has_macs_of_one_forward(small):
    # 8*8 positions x 8 channels x 27 + 512 x 10
    assert work.work(small, SETTINGS).macs == 8 * 8 * 8 * 27 + 5120


def test_bytes_of_fused_code_are_not_known(small):
    assert work.work(small, BenchSettings("cpu", compile="default")).nbytes is None
    assert work.work(small, BenchSettings("cpu", amp="bfloat16")).nbytes is None


def test_memory_needed_for_inference_and_for_training(small):
    weights = (216 + 8 + 5120 + 10) * 4
    # inference: input, the output of conv (relu works in place) and that of head at once
    assert work.needed_bytes(small, SETTINGS) == weights + (192 + 512 + 10) * 4
    # training: weights, gradients and momentum; the peak is more than what backward reads
    assert work.needed_bytes(small, TRAINING) == 3 * weights + (192 + 512 + 10) * 4


def test_autocast_may_halve_activations_and_a_compiler_do_without_them(small):
    weights, image, rest = (216 + 8 + 5120 + 10) * 4, 192 * 4, (512 + 10) * 4
    half = BenchSettings("cpu", amp="bfloat16")
    assert work.needed_bytes(small, half) == weights + image + rest // 2
    assert work.needed_bytes(small, BenchSettings("cpu", compile="default")) == weights + image


def test_training_keeps_what_backward_reads():
    deep = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(4)))
    trace = cnnscope.trace(deep, torch.empty(2, 16, device="meta"))
    weights = 4 * 16 * 16 * 4
    # at the peak of inference the input, one layer's input and its output are alive; for backward
    # the inputs of all four layers are kept: 4 * 2 * 16 numbers
    assert work.needed_bytes(trace, SETTINGS) == weights + 3 * 2 * 16 * 4
    assert work.needed_bytes(trace, TRAINING) == 3 * weights + 4 * 2 * 16 * 4


def test_models_that_run_in_turns_do_not_need_their_activations_at_once(small):
    deep = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(4)))
    other = cnnscope.trace(deep, torch.empty(2, 16, device="meta"))
    one_weights, other_weights = (216 + 8 + 5120 + 10) * 4, 4 * 16 * 16 * 4
    inputs = (192 + 2 * 16) * 4
    # beside its input, small holds 512 + 10 numbers at its peak, and the other one 2 * 2 * 16
    both = one_weights + other_weights + inputs + (512 + 10) * 4
    assert work.needed_together([small, other], 0, SETTINGS) == both
    assert work.needed_together([other, small], 0, SETTINGS) == both
    # built already: the weights of the first, then of both
    assert work.needed_together([small, other], 1, SETTINGS) == both - one_weights
    assert work.needed_together([small, other], 2, SETTINGS) == inputs + (512 + 10) * 4
    # gradients and momentum of both stay from turn to turn
    trained = both + 2 * (one_weights + other_weights)
    assert work.needed_together([small, other], 0, TRAINING) == trained


def test_roofline_takes_the_longer_side():
    top = Ceilings("float32", flops=1e11, bandwidth=1e10, matmul_size=1, copy_bytes=1)
    # 1e6 MACs are 2e6 FLOPs: 20 us at 1e11 per second; 1e5 bytes: 10 us
    assert work.attainable_ns(1_000_000, 100_000, top) == (pytest.approx(20_000), "compute")
    # 1e6 bytes: 100 us
    assert work.attainable_ns(1_000_000, 1_000_000, top) == (pytest.approx(100_000), "memory")


def test_every_call_of_a_layer_is_timed_on_its_own_input_and_hooks_are_gone():
    model = Small().eval()
    shapes = []
    handle = model.head.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    wanted = frozenset({("conv", 1), ("act", 1), ("act", 2), ("head", 1)})
    with torch.inference_mode():
        found = time_layers(model, Arguments((torch.rand(2, 3, 8, 8),)), wanted, HostTimer(), 0.01)
    handle.remove()
    assert set(found) == wanted
    assert set(shapes) == {(2, 512)}
    assert all(timed.median > 0 and timed.count >= loop.MIN_ROUNDS for timed in found.values())
    assert not any(m._forward_pre_hooks for m in model.modules())
