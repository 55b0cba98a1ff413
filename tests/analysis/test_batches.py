"""The largest batch by bisection, against all batches one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from cnnscope.analysis import step as analysis
from cnnscope.analysis.batches import TOP, Batches, alike, lifted, on_line, with_update
from cnnscope.analysis.gpus import GPUS, memory_of
from cnnscope.analysis.step import Course, Reserved
from cnnscope.errors import ModelError, RequestError
from cnnscope.records.step import Step
from cnnscope.tracing.step import trace_step

MIB = 2**20


class Pairs(nn.Module):
    """All pairs of a batch: what it takes grows with the square."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(64, 4096)

    def forward(self, x: Tensor) -> Tensor:
        y = self.line(x)
        return (y.unsqueeze(0) * y.unsqueeze(1)).exp()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 3)
        ),
        (3, 128, 128),
    ),
    "a square": (Pairs, (64,)),
}


@cache
def course(name: str, batch: int, optimizer: str = "momentum", amp: str | None = None) -> Course:
    make, shape = NETWORKS[name]
    made = trace_step(
        make().to("meta"),
        (torch.empty(batch, *shape, device="meta"),),
        step=Step(optimizer, amp=amp),  # type: ignore[arg-type]
    )
    return analysis.course(made)


def segments(taken: Reserved) -> int:
    return taken.reserved


@pytest.mark.parametrize(("name", "most"), [("convolutions", 18), ("a square", 40)])
def test_the_largest_batch_is_that_of_trying_all(name: str, most: int) -> None:
    every = {n: analysis.replay(course(name, n)).reserved for n in range(1, most + 1)}
    growing = all(every[n] <= every[n + 1] for n in range(1, most))
    assert growing or name == "a square"
    for limit in sorted({every[n] for n in (1, 2, 7, 13, most - 1)}):
        batches = Batches(lambda n: course(name, n))
        assert batches.at(4)
        found = batches.largest(limit, segments)
        assert found == max(n for n in every if every[n] <= limit)
        assert batches.confirmed(found)
        assert len(batches.known) <= 12


def test_more_memory_never_gives_a_smaller_batch() -> None:
    def uneven(batch: int) -> int:  # as of segments: it goes down again behind each step
        return 100 * batch - 90 * (batch % 7)

    found = [lifted(lambda n, limit=limit: uneven(n) <= limit) for limit in range(0, 40_000, 37)]
    assert found == sorted(found)
    assert len(set(found)) > 40
    for limit in (1_000, 17_000):
        n = lifted(lambda n, limit=limit: uneven(n) <= limit)
        assert uneven(n) <= limit < uneven(n + 1)


def test_bisection_ends_where_indices_do() -> None:
    assert lifted(lambda _: True) == TOP
    assert lifted(lambda _: False) == 0
    assert lifted(lambda n: n <= 12_345) == 12_345


def test_a_batch_between_two_is_on_their_line() -> None:
    known = {n: course("convolutions", n) for n in (2, 9)}
    assert alike(known[2], known[9])
    assert on_line(known, 2, 9, 5) == course("convolutions", 5)
    assert on_line(known, 2, 9, 33) == course("convolutions", 33)


def test_an_optimizer_is_put_in_the_place_of_another() -> None:
    for amp in (None, "bf16"):
        swapped = with_update(
            course("convolutions", 3, "momentum", amp), course("convolutions", 2, "adam")
        )
        real = course("convolutions", 3, "adam", amp)
        assert analysis.replay(swapped) == analysis.replay(real)
        assert sorted(swapped.sizes) == sorted(real.sizes)


def test_a_batch_that_does_not_run_is_none() -> None:
    def even(batch: int) -> Course:
        if batch % 2:
            raise ModelError("odd")
        return course("convolutions", batch)

    limit = analysis.replay(course("convolutions", 9)).reserved
    batches = Batches(even)
    batches.at(4)
    assert batches.largest(limit, segments) == 8
    assert batches.refused == {9: "odd"}
    assert batches.confirmed(8)


def test_no_batch_above_the_largest_that_runs() -> None:
    def few(batch: int) -> Course:
        if batch > 11:
            raise ModelError("at most 11")
        return course("convolutions", batch)

    batches = Batches(few)
    batches.at(4)
    batches.at(5)
    assert batches.largest(2**40, segments) == batches.top == 11
    assert batches.confirmed(11)
    assert not batches.confirmed(9)
    assert batches.expected(2**50, segments) == 11


def test_no_batch_below_the_smallest_takes_less() -> None:
    batches = Batches(lambda n: course("convolutions", n), smallest=3)
    assert batches.at(3)
    assert batches.takes(1) == batches.takes(3)
    assert batches.largest(batches.takes(3).reserved - 1, segments) == 0


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RTX 4090", "rtx4090"), ("4090", "rtx4090"), ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("Tesla T4", "t4"), ("NVIDIA A100-SXM4-40GB", "a100-40gb"), ("a100", "a100-40gb"),
        ("A100 80GB PCIe", "a100-80gb"), ("h100", "h100-80gb"), ("H100 NVL", "h100-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"), ("3060", "rtx3060-12gb"), ("L40S", "l40s"),
    ],
)  # fmt: skip
def test_gpus_by_the_names_that_they_are_called(name: str, found: str) -> None:
    assert memory_of(name) == (found, int(GPUS[found] * 2**30))


@pytest.mark.parametrize("name", ["rtx4099", "", "list"])
def test_of_a_gpu_that_is_not_known_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(RequestError, match=f"--gpu '{name}': no such GPU is known; ") as error:
        memory_of(name)
    assert all(f"{one} ({size:g} GiB)" in str(error.value) for one, size in GPUS.items())
