"""Memory and multiply-accumulates of training steps: hand arithmetic, and torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cnnscope
from cnnscope.analysis import cuda, measured
from cnnscope.analysis import step as analysis
from cnnscope.analysis.allocator import MIB, Allocator
from cnnscope.errors import ModelError
from cnnscope.records.step import Step, StepTrace
from cnnscope.reports.memory import memory_report
from cnnscope.tracing.step import trace_step


def stepped(model: nn.Module, *shape: int, step: Step = Step()) -> StepTrace:  # noqa: B008
    return trace_step(model, (torch.empty(shape, device="meta"),), step=step)


def counted(model: nn.Module, *shape: int) -> int:
    """Half of the FLOPs of a real forward and backward pass, by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        model.train()(torch.rand(shape)).sum().backward()
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_macs_are_those_of_torchs_counter(name: str) -> None:
    model = torchvision.models.get_model(name)
    macs = analysis.macs(stepped(model, 2, 3, 64, 64))
    assert macs.forward + macs.backward == counted(model, 2, 3, 64, 64)
    assert macs.step == 0


def test_macs_of_attention_are_those_of_torchs_counter() -> None:
    model = nn.Sequential(
        nn.Linear(12, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    )
    macs = analysis.macs(stepped(model, 2, 9, 12))
    assert macs.forward + macs.backward == counted(model, 2, 9, 12)


def test_macs_of_grouped_and_transposed_convolutions() -> None:
    # batch 2, 8x8 -> 3x3 positions of a 3x3/2 kernel, 4 channels in 2 groups: 4 * 2 * 9 a position
    first = 2 * 9 * 4 * 2 * 9
    # 3x3 positions of the input, each meets 4 * 3 channels * 2x2 taps
    second = 2 * 9 * 4 * 3 * 4
    model = nn.Sequential(nn.Conv2d(4, 4, 3, 2, groups=2), nn.ConvTranspose2d(4, 3, 2, 2))
    macs = analysis.macs(stepped(model, 2, 4, 8, 8))
    assert macs.forward == first + second
    assert macs.backward == first + 2 * second  # the image needs no gradient
    model[0].requires_grad_(requires_grad=False)
    macs = analysis.macs(stepped(model, 2, 4, 8, 8))
    assert macs.backward == second  # nor does what a frozen layer gives


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_kinds_and_layers_add_up(optimizer) -> None:
    made = stepped(torchvision.models.resnet18(), 2, 3, 64, 64, step=Step(optimizer))
    report = memory_report(made)
    assert (
        sum(kind.at_peak for kind in report.kinds) == report.tensors == analysis.peak(made).nbytes
    )
    sums = [sum(values) for values in zip(*(k.timeline for k in report.kinds), strict=True)]
    assert sums == list(analysis.live(made.trace))
    assert sums[1:] == [event.live for event in report.events]
    weights = 4 * sum(p.numel() for p in torchvision.models.resnet18().parameters())
    by_kind = {kind.kind: kind for kind in report.kinds}
    assert by_kind["weight"].at_peak == weights
    assert by_kind["gradient"].most == weights
    assert sum(layer.gradients for layer in report.layers) == by_kind["gradient"].at_peak
    assert report.tensors <= report.allocated <= report.reserved


def test_saved_for_backward_by_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 32, 1))
    report = memory_report(stepped(model, 2, 3, 16, 16))
    layers = {layer.path: layer for layer in report.layers}
    # the sigmoid's result is kept by itself and by the convolution behind it: once
    assert layers["1"].saved == 4 * 2 * 8 * 16 * 16
    assert "saved" in {kind.kind for kind in report.kinds}


def test_inference_has_no_gradients() -> None:
    made = stepped(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), 2, 3, 8, 8)
    report = memory_report(made.trace)
    assert report.step is None
    assert {kind.kind for kind in report.kinds} <= {"input", "weight", "output", "temporary"}
    assert report.macs.backward == 0


# -------------------------------------------------------------------- caching allocator


def test_small_requests_share_a_segment_of_two_mebibytes() -> None:
    allocator = Allocator()
    allocator.allocate(0, 1)
    allocator.allocate(1, 513)
    assert allocator.allocated == 512 + 1024
    assert allocator.reserved == 2 * MIB
    allocator.allocate(2, MIB)  # the largest that is small; it fits behind
    assert allocator.reserved == 2 * MIB
    allocator.allocate(3, MIB)
    assert allocator.reserved == 4 * MIB


def test_large_requests_take_twenty_mebibytes_or_their_own_size() -> None:
    allocator = Allocator()
    allocator.allocate(0, MIB + 1)  # 20 MiB, from which it is split
    assert allocator.allocated == MIB + 512
    assert allocator.reserved == 20 * MIB
    allocator.allocate(1, 11 * MIB)  # fits behind it
    assert allocator.reserved == 20 * MIB
    allocator.allocate(2, 11 * MIB)  # rounded up to 2 MiB; the rest of 1 MiB is not split off
    assert allocator.reserved == 32 * MIB
    assert allocator.allocated == MIB + 512 + 11 * MIB + 12 * MIB


def test_freed_neighbours_are_joined_and_kept() -> None:
    allocator = Allocator()
    for key in range(3):
        allocator.allocate(key, 6 * MIB)
    assert allocator.reserved == 20 * MIB
    for key in (0, 2, 1):
        allocator.free(key)
    assert allocator.allocated == 0
    allocator.allocate(3, 19 * MIB)
    assert allocator.reserved == 20 * MIB
    assert allocator.peak == 20 * MIB  # what is left of 1 MiB stays in the block


def test_the_smallest_block_that_fits_is_taken() -> None:
    allocator = Allocator()
    allocator.allocate(0, 40 * MIB)
    allocator.allocate(1, 14 * MIB)
    allocator.free(0)
    allocator.free(1)
    allocator.allocate(2, 12 * MIB)  # from the block of 14
    allocator.allocate(3, 40 * MIB)
    assert allocator.reserved == 54 * MIB


# ------------------------------------------------------------------------------------ on a GPU
# Peaks of requested bytes on an H100 (torch 2.11, float32, 224x224), by
# tests/benchmarks/cuda_memory.py: what libraries keep comes on top of the tensors, and at these
# peaks no kernel has workspace.


@pytest.mark.parametrize(
    ("name", "batch", "optimizer", "requested"),
    [
        ("mobilenet_v2", 32, "momentum", 2_620_027_528),
        ("alexnet", 8, "adam", 1_294_991_136),
    ],
)
def test_a_step_on_a_gpu_has_these_tensors(name: str, batch: int, optimizer, requested) -> None:
    model = torchvision.models.get_model(name).to("meta")
    made = stepped(model, batch, 3, 224, 224, step=Step(optimizer=optimizer, loss="mean"))
    output = batch * 1000 * 4  # which the measured loop lets go of
    expected = analysis.peak(made).nbytes - output + measured.TRAINING.kept
    assert expected == pytest.approx(requested, abs=128)  # the loss


def test_a_step_in_mixed_precision_on_a_gpu_has_these_tensors() -> None:
    """AdamW and torch.autocast to bfloat16."""
    with torch.device("meta"):
        model = torchvision.models.alexnet()
    made = stepped(model, 16, 3, 224, 224, step=Step("adamw", loss="mean", amp="bf16"))
    expected = analysis.peak(made).nbytes - 16 * 1000 * 2 + measured.TRAINING.kept
    assert expected == pytest.approx(1_299_808_032, abs=128)


@pytest.mark.parametrize(
    ("name", "amp", "optimizer", "allocated"),
    [
        ("resnet18", "fp16", "momentum", 412_866_048),
        ("mobilenet_v2", "bf16", "adamw", 790_267_904),  # the largest deviation of 13 steps
        ("vgg11", "bf16", "adamw", 2_885_700_096),
    ],
)
def test_blocks_of_a_step_in_mixed_precision(name: str, amp, optimizer, allocated: int) -> None:
    """The peak of blocks of the allocator on the same H100, at batch 16."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    made = stepped(model, 16, 3, 224, 224, step=Step(optimizer, loss="mean", amp=amp))
    expected = analysis.replayed(made).allocated + measured.TRAINING.kept
    assert expected == pytest.approx(allocated, rel=0.03)


def test_half_a_batch_norm_computes_in_half() -> None:
    """A convolution and what follows it in bfloat16, the norm's statistics in float32."""
    made = stepped(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), 2, 3, 10, 10,
        step=Step(amp="bf16"),
    )  # fmt: skip
    saved = sum(
        storage.nbytes
        for kind, storage in zip(made.kinds(), made.trace.storages, strict=True)
        if kind == "saved"
    )
    # the image, the weight and the bias in two bytes; the convolution's result; mean and deviation
    # of each channel in four. What the relu gives is the output.
    assert saved == 2 * (2 * 3 * 100 + 8 * 27) + 2 * 2 * 8 * 64 + 2 * 8 * 4


@pytest.mark.parametrize(
    ("name", "requested"), [("squeezenet1_1", 88_180_896), ("vit_b_16", 448_629_664)]
)
def test_a_forward_on_a_gpu_has_these_tensors(name: str, requested: int) -> None:
    report = cnnscope.memory(name, "3x224x224", batch_size=8, train=False).record
    assert report.tensors + measured.INFERENCE.kept == requested


def test_the_range_of_a_gpu() -> None:
    found = measured.on_gpu(
        analysis.Reserved(1000, 2000), measured.Beside(100, (-0.1, 0.2), (0.0, 0.5))
    )
    assert found.allocated == (1000, 1300)  # 1000 + 100 - 100; 1000 + 100 + 200
    assert found.reserved == (2100, 3100)  # 2000 + 100 + 0; 2000 + 100 + 1000


def test_the_measured_peak_of_a_step_is_in_its_range() -> None:
    """resnet18 at batch 8 with momentum had 393,626,624 bytes in blocks, 465,567,744 in all."""
    report = cnnscope.memory("resnet18", batch_size=8, optimizer="momentum", loss="mean").record
    for (least, most), found in (
        (report.gpu.allocated, 393_626_624),
        (report.gpu.reserved, 465_567_744),
    ):
        assert least <= found <= most


def changed(model: nn.Module, *shape: int) -> list[tuple[int, int]]:
    """Bytes by the trace and on CUDA, where these differ."""
    trace = stepped(model, *shape).trace
    before, after = trace.storages, cuda.storages(trace)
    found = [(a.nbytes, b.nbytes) for a, b in zip(before, after, strict=False)]
    return [*(pair for pair in found if pair[0] != pair[1]), *added(model, *shape)]


def added(model: nn.Module, *shape: int) -> list[tuple[int, int]]:
    """Bytes of what CUDA makes beside, and none by the trace."""
    trace = stepped(model, *shape).trace
    return [(0, storage.nbytes) for storage in cuda.storages(trace)[len(trace.storages) :]]


def test_a_mask_of_dropout_has_one_byte_an_element_on_cuda() -> None:
    """An H100 ran native_dropout_backward with masks of bool in alexnet, vgg11, mobilenet_v2."""
    model = nn.Sequential(nn.Linear(8, 100), nn.Dropout(), nn.Linear(100, 10), nn.Dropout())
    assert changed(model, 4, 8) == [(4 * 100 * 4, 4 * 100), (4 * 10 * 4, 4 * 10)]


@pytest.mark.parametrize("layer", [nn.Dropout2d(), nn.AlphaDropout(), nn.Dropout(0.0), nn.RReLU()])
def test_masks_that_are_the_same_on_cuda(layer: nn.Module) -> None:
    assert changed(nn.Sequential(nn.Conv2d(3, 4, 1), layer), 2, 3, 5, 5) == []


class Drawing(nn.Linear):
    """A linear layer that looks at the state of the CPU's random numbers."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), torch.get_rng_state()


def test_the_state_of_a_cpus_random_numbers_is_not_on_cuda() -> None:
    assert changed(Drawing(4, 4), 2, 4) == [(torch.get_rng_state().nbytes, 0)]
    # as a dispatch mode sees it there is no such tensor
    watched = trace_step(Drawing(4, 4), (torch.empty(2, 4, device="meta"),), watched=True)
    assert watched.trace.host == ()


class Attends(nn.Module):
    """Attention whose queries lie as B x H x L x E, or as B x L x H x E."""

    def __init__(self, *, heads_first: bool) -> None:
        super().__init__()
        self.project, self.heads_first = nn.Linear(8, 8), heads_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(x).unflatten(-1, (2, 4)).transpose(1, 2)
        x = x.contiguous() if self.heads_first else x
        y = nn.functional.scaled_dot_product_attention(x, x, x)
        return y.transpose(1, 2).reshape(3, 40, 8)


def test_attention_on_cuda_has_blocks_of_32_queries() -> None:
    """3 images x 2 heads of 40 queries, so 64; an H100 had 224 for the 197 of vit_b_16."""
    assert changed(Attends(heads_first=False), 3, 40, 8) == [(4 * 3 * 2 * 40, 4 * 3 * 2 * 64)]


def test_attention_on_cuda_lies_in_order_of_queries() -> None:
    """Where a CPU has to copy the result, CUDA has not."""
    copy = (4 * 3 * 40 * 8, 0)
    assert copy in changed(Attends(heads_first=True), 3, 40, 8)


def test_a_module_of_attention_copies_its_result_on_cuda() -> None:
    """It asks for L x B x H x E: 9,682,944 bytes for 16 x 197 x 768, as an H100 had."""
    module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    assert added(module, 3, 40, 8) == [(0, 4 * 3 * 40 * 8)]


@pytest.mark.parametrize(
    ("rows", "columns", "nbytes"),
    [
        # 4 bytes x outputs x 50 parts (of 16 values for each of 4 threads) x 32 threads x 4 numbers
        (3152, 3072, 4 * 3072 * 50 * 32 * 4),
        (3152, 768, 4 * 768 * 50 * 32 * 4),
        (3152, 2304, 4 * 2304 * 50 * 32 * 4),
        (8, 1000, 0),
    ],
)
def test_the_parts_of_a_sum_on_cuda(rows: int, columns: int, nbytes: int) -> None:
    """An H100 took 79,692,288, 19,661,312 and 58,982,912 ; up to 1 MiB is not split off."""
    made = stepped(nn.Linear(4, columns), rows, 4)
    found = dict(cuda.workspaces(made.trace))
    sums = [n for n, op in enumerate(made.trace.ops) if op.name == "aten.sum.dim_IntList"]
    assert [found[number] for number in sums] == [nbytes]


def test_convolutions_on_cuda_copy_what_they_read_to_channels_last() -> None:
    """An H100 took 25,838,080 in the forward of 64 to 64 channels at 56x56: input and weight."""
    model = nn.Sequential(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, padding=1, bias=False))
    made = stepped(model, 32, 64, 56, 56)
    x, weight = 4 * 32 * 64 * 56 * 56, 4 * 64 * 64 * 9
    assert [nbytes for _, nbytes in cuda.workspaces(made.trace)] == [
        0,
        x + weight,
        2 * x + weight,
        0,
    ]
    assert x + weight + 512 == 25_838_080


def test_gradients_of_a_bilinear_layer_are_as_many_products_as_its_forward() -> None:
    # batch 2, 3 outputs, 4 * 5 pairs, two products each; the inputs need no gradient
    products = 2 * 3 * 20 * 2
    left, right = (torch.empty(2, n, device="meta") for n in (4, 5))
    macs = analysis.macs(trace_step(nn.Bilinear(4, 5, 3), (left, right)))
    assert (macs.forward, macs.backward) == (products, products)


def test_gradients_of_a_deformable_convolution_are_counted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deformable = torchvision.ops.DeformConv2d(3, 8, 3, padding=1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.deformable(x, x.new_zeros(1, 18, 4, 4))

    macs = analysis.macs(stepped(Net(), 1, 3, 4, 4))
    # 16 positions, 8 channels, 3 * 9 taps; the kernel samples again for the weight's gradient
    assert (macs.forward, macs.backward) == (16 * 8 * 27, 2 * 16 * 8 * 27)


@torch.library.custom_op("cnnscope_tests::scaled", mutates_args=())
def scaled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


scaled.register_fake(torch.empty_like)
scaled.register_autograd(lambda _, above: above * 2)


def test_an_operation_of_ones_own_may_multiply_which_the_report_says() -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scaled(super().forward(x))

    notes = memory_report(stepped(Net(3, 4), 1, 3)).notes
    assert notes == ("no formula for the MACs of cnnscope_tests.scaled.default",)
    assert not memory_report(stepped(nn.Linear(3, 4), 1, 3)).notes


def test_parameters_that_a_forward_registers_are_not_trained_and_refused() -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.head = nn.Linear(4, 2)
            return self.head(super().forward(x))

    with pytest.raises(ModelError, match=r"registers head\.weight, which an optimizer made before"):
        stepped(Net(3, 4), 1, 3)
