"""`cnnscope check --train`: training steps beside torch's profiler, MemTracker and counter.

`pytest -m slow tests/reports/test_check_training.py` runs real steps of 42 models of torchvision
and 16 classic ones, at batch 2.
"""

from __future__ import annotations

import json

import pytest
import torch
from command_line import run_cli
from msgspec.structs import replace
from torch import Tensor, nn

from cnnscope.analysis import step as analysis
from cnnscope.measure import counters
from cnnscope.measure.counters import blank
from cnnscope.measure.training import RealStep, optimizer_of
from cnnscope.models import run
from cnnscope.models.build import Built
from cnnscope.models.inputs import real_inputs
from cnnscope.models.ladder import Rung
from cnnscope.models.request import Request
from cnnscope.records.check import Verdict
from cnnscope.records.step import Step, StepTrace
from cnnscope.reports import check, referee
from cnnscope.reports.subject import Trained
from cnnscope.tracing.step import trace_step

SIZES = {  # pixels of each side
    **dict.fromkeys(
        "convnext_tiny densenet121 efficientnet_b0 efficientnet_b1 efficientnet_b2 fcn_resnet50 "
        "efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 "
        "mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_x_800mf regnet_x_1_6gf "
        "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf resnet18 resnet34 resnet50 resnext50_32x4d "
        "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 "
        "squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn lraspp_mobilenet_v3_large "
        "deeplabv3_mobilenet_v3_large".split(),
        32,
    ),
    "alexnet": 64,
    "googlenet": 64,
    "inception_v3": 299,  # its auxiliary head takes no less
    "maxvit_t": 224,
    "vit_b_16": 224,
    "vit_b_32": 224,
}
CLASSIC = (
    "lenet1989 lenet5 lenet5_paper network_in_network all_cnn_c vgg_1x1_cifar vgg11_bn_cifar "
    "resnet18_cifar resnet20_cifar10 resnext29_8x64d densenet40_12 googlenet_paper xception "
    "mobilenet_v1 darknet19 se_resnet50"
).split()
TRACKED = "lenet5 mobilenet_v2 resnet18 resnet50 shufflenet_v2_x0_5 squeezenet1_1 swin_t".split()


def request(name: str) -> Request:
    size = SIZES.get(name)
    inputs = () if size is None else (f"3x{size}x{size}",)
    source = "classic" if name in CLASSIC else "torchvision"
    return Request.of(f"{source}:{name}", *inputs, batch_size=2)


def traced(name: str) -> StepTrace:
    """A step without data."""
    with run.stepping(request(name)) as trace:
        return trace(Step(), None)


def hold(verdicts: list[Verdict]) -> None:
    """Bytes and MACs are those of a real step; a dispatch mode's are, by what it changes."""
    macs, allocations, tracked = verdicts
    assert macs.status in ("equal", "explained"), macs
    assert (allocations.status, allocations.theirs) == ("equal", allocations.ours), allocations
    assert tracked.status in ("equal", "explained"), tracked
    assert {reason.about for reason in tracked.reasons} <= {"watched"}


def test_a_training_step_is_that_of_a_real_one() -> None:
    hold(check.trained(request("lenet5"), Step("adam")))


def judged(make, *shape: int, step: Step = Step()) -> list[Verdict]:  # noqa: B008
    """Verdicts on a model that a function makes."""
    given = torch.empty(shape, device="meta")
    made, watched = (trace_step(make(), (given,), step=step, watched=w) for w in (False, True))
    peak = analysis.peak(watched).nbytes
    source, inputs = made.trace.source, made.trace.given
    trained = Trained(made, lambda rung: Built(make(), inputs, source, rung))
    return [referee.of_step(made, peak, count) for count in trained.counts()]


class Branches(nn.Module):
    """One map that three layers read, whose gradients are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x, *parts = self.parts[0](x), *self.parts[1:]
        return sum(part(x) for part in parts)


def test_what_a_dispatch_mode_has_added_out_of_place_is_a_reason() -> None:
    verdicts = judged(Branches, 2, 3, 32, 32)
    hold(verdicts)
    # A gradient of 2 x 3 x 32 x 32 floats, to which another is added in place where none watches;
    # the peak without it is later by the gradients of a layer, 3 x 3 x 9 + 3.
    expected = 4 * 6 * 1024 - 4 * 84
    assert [(one.about, one.amount) for one in verdicts[2].reasons] == [("watched", expected)]


@pytest.mark.parametrize("product", [torch.mul, torch.matmul])
def test_a_tensor_that_is_not_registered_is_a_reason(product) -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.table = nn.Linear(4, 4), [torch.ones(4, 4)]

        def forward(self, x: Tensor) -> Tensor:
            return product(self.line(x), self.table[0])

    _, allocations, _ = judged(Held, 4, 4)
    assert allocations.status == "explained"
    assert [(one.about, one.amount) for one in allocations.reasons] == [("strays", -4 * 16)]


def test_another_number_is_unexplained() -> None:
    made = trace_step(nn.Linear(4, 4), (torch.empty(2, 4, device="meta"),))
    # the step: 2 x 4 inputs, 20 weights and as many gradients; at the peak 8 numbers of output, the
    # loss, and what its derivative makes
    ours = analysis.peak(made).nbytes
    other = referee.of_step(made, ours, replace(blank("MemTracker", "step bytes"), value=ours + 8))
    assert (other.status, other.unexplained) == ("unexplained", 8)


def test_memory_that_is_not_exact_is_not_compared() -> None:
    class Running(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).cumprod(1)

    _, allocations, tracked = judged(lambda: Running(8, 8), 2, 8)
    assert allocations.status == tracked.status == "absent"


def test_what_cannot_be_trained_is_not_run() -> None:
    verdicts = check.trained(Request.of("squeezenet1_1", "3x8x8"), Step())
    assert {one.status for one in verdicts} == {"absent"}


def test_the_command_has_a_row_for_each() -> None:
    result = run_cli("check", "lenet5", "--train", "--seconds", "0.001", "--format", "json")
    rows = json.loads(result.out)["verdicts"]
    assert [(one["counter"], one["figure"]) for one in rows[-3:]] == [
        ("flop counter", "step MACs"), ("allocations", "step bytes"), ("MemTracker", "step bytes"),
    ]  # fmt: skip


def test_an_optimizer_is_of_a_training_step() -> None:
    result = run_cli("check", "lenet5", "--optimizer", "adam")
    assert (result.code, "--train" in result.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SIZES, *CLASSIC])
def test_the_training_step_of_a_model_is_that_of_a_real_one(name: str) -> None:
    """Bytes of living tensors, and multiply-accumulates of forward and backward pass."""
    made = traced(name)
    with run.building(request(name), made.trace) as build:
        built = build(Rung.REAL)
        step = RealStep(
            built.model, real_inputs(made.trace.given), optimizer_of(built.model, made.step)
        )
        assert made.accuracy == "exact"
        assert step.live().peak == analysis.peak(made).nbytes
        macs = referee.of_step(made, 0, counters.step_macs(step))
    assert macs.status in ("equal", "explained"), macs
    assert {reason.about for reason in macs.reasons} <= {"grouped"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKED)
def test_the_training_step_of_a_model_is_what_a_dispatch_mode_sees(name: str) -> None:
    hold(check.trained(request(name), Step()))
