"""What `cnnscope memory` says, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
from command_line import run_cli
from torch import Tensor, nn

import cnnscope
from cnnscope.render import memory as drawing
from cnnscope.render import units
from cnnscope.render.latex import latex
from cnnscope.render.page import text

LENET = "classic:lenet5"


def test_the_report_of_a_step() -> None:
    made = json.loads(run_cli("memory", LENET, "-b", "4", "--optimizer", "adam", "--json").out)
    assert made["step"] == {
        "optimizer": "adam", "form": "foreach", "loss": "sum", "accumulates": False,
        "amp": None, "checkpoint": [],
    }  # fmt: skip
    assert made["inputs"][0]["shape"][0] == 4
    assert {event["phase"] for event in made["events"]} == {"forward", "backward", "step"}
    assert max(event["live"] for event in made["events"]) == made["tensors"]
    assert made["events"][made["peak"]]["live"] == made["tensors"]


def test_the_answer_is_in_the_first_lines() -> None:
    record = cnnscope.memory(LENET, optimizer="adam").record
    lines = text(drawing.page(record), None).plain.splitlines()
    assert lines[2].startswith(f"peak        {units.nbytes(record.tensors)} of tensors, in the ")
    low, high = map(units.nbytes, record.device_bytes)
    assert lines[3].startswith(f"on a GPU    {low} to {high} in all")
    # of 8 kinds at most 4 are named, and none with less than a thousandth
    shares = [float(share) for share in re.findall("([0-9.]+) %", lines[2])]
    assert shares == sorted(shares, reverse=True)
    assert 50 < sum(shares) <= 100.1


def test_a_terminal_of_80_columns_has_room_for_the_time_line() -> None:
    record = cnnscope.memory(LENET, optimizer="adam").record
    shown = text(drawing.page(record), 80).plain
    assert "over the step" in shown
    assert "too narrow for highest" in shown


def test_a_terminal_without_room_for_the_time_line_has_no_row_of_phases() -> None:
    page = drawing.page(cnnscope.memory(LENET).record)
    assert "\nphase" in text(page, 80).plain
    assert "\nphase" not in text(page, 50).plain


def test_latex_has_no_row_of_phases_without_the_time_line() -> None:
    lines = latex(drawing.page(cnnscope.memory(LENET).record)).splitlines()
    assert any(line.startswith("all & ") for line in lines)
    assert not any(line.startswith("phase") for line in lines)


def test_a_larger_batch_saves_more_and_has_the_same_weights() -> None:
    one, four = (cnnscope.memory(LENET, batch_size=size).record for size in (1, 4))
    small, large = ({kind.kind: kind.most for kind in r.kinds} for r in (one, four))
    assert large["saved"] > small["saved"]
    assert large["input"] == 4 * small["input"]
    assert large["weight"] == small["weight"] == large["gradient"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--optimizer", "lion"), "--optimizer 'lion': use one of sgd, momentum, adam"),
        (("--loss", "hinge"), "--loss 'hinge': use one of sum, mean"),
        (("--amp", "fp8"), "--amp 'fp8': use one of bf16, fp16"),
        (("--checkpoint", " , "), "--checkpoint: give paths of modules"),
        (("--checkpoint", "auto,c1"), "--checkpoint: give auto, or modules; not both"),
        (("--checkpoint", "c9"), "--checkpoint 'c9': no such module; did you mean c"),
        (("--inference", "--amp", "bf16"), "--amp has no effect here"),
        (("--form", "fast"), "--form 'fast': use one of loop, foreach, fused"),
        (("--inference", "--loss", "mse"), "--loss has no effect here"),
        (("--optimizer", "rmsprop", "--form", "fused"), "rmsprop has no fused form"),
    ],
)
def test_what_cannot_be_asked_for(options: tuple[str, ...], message: str) -> None:
    result = run_cli("memory", LENET, *options)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize("how", [{"amp": "bf16"}, {"checkpoint": "c1"}, {"optimizer": "adam"}])
def test_inference_has_nothing_of_a_step(how: dict[str, str]) -> None:
    with pytest.raises(cnnscope.RequestError, match="train=False: inference has no optimizer"):
        cnnscope.memory(LENET, train=False, **how)  # type: ignore[arg-type]


def test_types_have_their_long_names_too() -> None:
    steps = [cnnscope.memory(LENET, amp=name).record.step for name in ("bfloat16", "Half")]
    assert [step and step.amp for step in steps] == ["bf16", "fp16"]


def test_a_checkpoint_before_an_operation_in_place_has_its_remedy() -> None:
    changed = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Linear(4, 4))
    network = nn.Sequential(changed)
    with pytest.raises(cnnscope.ModelError, match=r"name with --checkpoint a block that holds"):
        cnnscope.memory(network, "4", checkpoint="0.1,0.2")
    plain = nn.Sequential(changed[0], changed[3])
    assert cnnscope.memory(plain, "4", checkpoint="0").record.checkpointed == ("0",)


class Detached(nn.Module):
    """One of two branches has no gradient; one weight has two names, one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.c.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.c(self.a(x)) + self.b(x).detach())


def test_parameters_that_no_gradient_reaches_are_named() -> None:
    (note,) = cnnscope.memory(Detached(), "4").record.notes
    assert note.startswith("no gradient reaches b.weight, which the optimizer leaves out")
    assert not cnnscope.memory(Detached(), "4", train=False).record.notes


class Targeted(nn.Module):
    """Takes targets in training, as detectors of torchvision do."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 2)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        assert not self.training or targets is not None, "targets should not be none"
        return self.line(x) if targets is None else self.line(x) - targets


def test_of_a_model_that_takes_targets_in_training_the_remedy_is_said() -> None:
    with pytest.raises(cnnscope.ModelError, match="wrap it in a module whose forward makes the ta"):
        cnnscope.memory(Targeted(), "4")
    assert cnnscope.memory(Targeted(), ["4", "2"]).record.tensors


def test_a_trace_alone_is_not_trained() -> None:
    trace = cnnscope.trace(LENET)
    with pytest.raises(cnnscope.RequestError, match="a trace has no module"):
        cnnscope.memory(trace)
    assert cnnscope.memory(trace, train=False).step is None


def test_mixed_precision_and_checkpoints_are_said() -> None:
    result = run_cli("memory", LENET, "--amp", "bf16", "--checkpoint", "c1,f*")
    assert result.code == 0
    head = result.out.splitlines()[0]
    assert "autocast to bf16" in head
    assert "2 modules checkpointed" in head
    assert "\nruns again  c1, f6: what their forward keeps" in result.out


class Block(nn.Module):
    """A convolution of 8 channels and two activations, which both keep their results."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).sigmoid().tanh()


def test_blocks_that_save_most_for_a_mac_are_checkpointed_first() -> None:
    # 16x16 positions of 8 x 8 channels, 25, 9, 9 and 1 taps
    macs = [256 * 64 * taps for taps in (25, 9, 9, 1)]
    model = nn.Sequential(Block(5), Block(3), Block(3), Block(1))
    report = cnnscope.memory(model, "8x16x16", checkpoint="auto").record
    none, *some, every = report.frontier
    assert (none.modules, none.recomputed) == ((), 0)
    assert (every.modules, every.recomputed) == (("0", "1", "2", "3"), sum(macs))
    assert every.tensors == report.tensors
    sizes = {("3",): macs[3], ("1", "3"): macs[1] + macs[3], ("1", "2", "3"): sum(macs[1:])}
    assert some
    assert all(choice.recomputed == sizes[choice.modules] for choice in some)
    falling = [none.tensors, *(choice.tensors for choice in some)]
    assert falling == sorted(set(falling), reverse=True)
    for choice in some:
        alone = cnnscope.memory(model, "8x16x16", checkpoint=choice.modules).record
        assert alone.tensors == choice.tensors


def test_the_choices_are_a_table() -> None:
    model = nn.Sequential(*(Block(3) for _ in range(10)))
    report = cnnscope.memory(model, "8x16x16", checkpoint="auto").record
    shown = text(drawing.page(report), None).plain
    (row,) = [line for line in shown.splitlines() if line.startswith("10 of 10")]
    saved = report.frontier[0].tensors - report.tensors
    assert units.percent(saved, report.frontier[0].tensors) in row
    assert row.endswith("0,1,2,3,4,5,6,7 and 2 more")
    assert "memory against" not in text(drawing.page(cnnscope.memory(LENET).record), None).plain
