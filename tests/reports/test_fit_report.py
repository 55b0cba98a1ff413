"""What `cnnscope fit` says: the largest batch, what it lacks, and sizes of memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli
from torch import Tensor, nn

import cnnscope
from cnnscope.reports.fit import memory_asked

LENET = "classic:lenet5"
MIB, GIB = 2**20, 2**30


class Normed(nn.Module):
    """Trains with two samples and more."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.norm = nn.Linear(3 * 64 * 64, 64), nn.BatchNorm1d(64)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.line(x.flatten(1)))


class OfTwo(nn.Module):
    """Takes a batch of two alone."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x.view(2, 12))


@pytest.fixture(scope="module")
def found() -> Any:
    return cnnscope.fit(LENET, memory="2GiB").record


def device(batch: int, **how: Any) -> tuple[int, int]:
    return cnnscope.memory(LENET, batch_size=batch, **how).record.device_bytes


def test_the_batch_fits_and_the_next_one_does_not(found: Any) -> None:
    for row in (found.rows[0], found.rows[-1]):
        how = {"optimizer": row.optimizer, "amp": row.amp}
        assert device(row.safe, **how)[1] <= 2 * GIB < device(row.safe + 1, **how)[1]
    row = found.rows[0]
    best = {"optimizer": row.optimizer, "amp": row.amp}
    assert device(row.optimistic, **best)[0] <= 2 * GIB < device(row.optimistic + 1, **best)[0]
    for row in found.rows:
        assert row.confirmed
        assert {row.safe, row.safe + 1} <= set(row.traced)
    assert [(row.optimizer, row.amp) for row in found.rows] == [
        ("momentum", None), ("adam", None), ("momentum", "bf16"), ("adam", "bf16"),
    ]  # fmt: skip


def test_what_the_next_power_of_two_takes(found: Any) -> None:
    power = found.power.batch
    assert power.bit_count() == 1
    assert power // 2 <= found.found.safe < power
    assert (found.power.least, found.power.most) == device(power, optimizer="momentum")
    assert (found.at.batch, found.at.most) == (
        found.found.safe, device(found.found.safe, optimizer="momentum")[1],
    )  # fmt: skip


def test_the_owners_are_those_of_the_largest_batch(found: Any) -> None:
    there = cnnscope.memory(LENET, batch_size=found.found.safe, optimizer="momentum").record
    assert found.inputs == there.inputs
    assert [(k.kind, k.at_peak) for k in found.kinds] == [(k.kind, k.at_peak) for k in there.kinds]
    assert found.layers == there.layers


def test_the_way_that_was_asked_for_is_the_first_row(found: Any) -> None:
    made = cnnscope.fit(LENET, memory="2GiB", optimizer="adam").record
    assert made.rows[0] == made.found
    key = lambda row: (row.optimizer, str(row.amp))  # noqa: E731
    assert sorted(made.rows, key=key) == sorted(found.rows, key=key)


def test_a_way_beside_the_usual_ones_is_the_first_row() -> None:
    made = cnnscope.fit(LENET, memory=GIB, optimizer="rmsprop", checkpoint="c*", amp="fp16").record
    assert made.rows[0] == made.found
    assert made.found.checkpoint == ("c*",)
    assert len(made.rows) == 9
    assert [row.checkpoint for row in made.rows[1:]] == [(), (), ("c*",), ("c*",)] * 2


def test_checkpoints_give_larger_batches() -> None:
    block = nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
    )
    kind = type("Block", (nn.Sequential,), {})
    network = nn.Sequential(nn.Conv2d(3, 16, 3), *(kind(*block) for _ in range(4)))
    rows = cnnscope.fit(network, "3x32x32", memory=GIB).record.rows
    safe = {(r.optimizer, r.amp, bool(r.checkpoint)): r.safe for r in rows}
    for optimizer in ("momentum", "adam"):
        plain, half = safe[optimizer, None, False], safe[optimizer, "bf16", False]
        again, both = safe[optimizer, None, True], safe[optimizer, "bf16", True]
        assert plain < half < both
        assert plain < again < both


def test_no_batch_fits() -> None:
    result = run_cli("fit", LENET, "--memory", "700MiB")
    assert result.code == 1
    assert "none: a batch of 1, the smallest batch that trains, takes" in result.out
    assert "and lacks 1" in result.err
    made = json.loads(run_cli("fit", LENET, "--memory", "700MiB", "--json").out)
    assert (made["found"]["safe"], made["at"]["batch"]) == (0, 1)


def test_the_answer_is_in_the_first_lines() -> None:
    head = run_cli("fit", LENET, "--memory", "2GiB").out.splitlines()[2:6]
    assert [line.partition(" ")[0] for line in head] == ["fits", "at", "next", "peak"]
    assert re.match(r"fits +a batch of [0-9,]+, which takes 1\.\d GiB to 2\.0 GiB in all", head[0])
    assert head[3].count(" % ") <= 4


def test_a_norm_of_the_batch_takes_two() -> None:
    made = cnnscope.fit(Normed(), "3x64x64", memory=840 * MIB).record
    assert (made.found.safe, made.smallest, made.at.batch) == (0, 2, 2)


def test_a_batch_that_is_fixed() -> None:
    made = cnnscope.fit(OfTwo(), "2x3x4", memory=GIB).record
    assert made.fixed
    assert {row.safe for row in made.rows} == {2}
    assert made.power is None
    assert any(note.startswith("its batch is fixed: 4 does not run") for note in made.notes)
    assert not cnnscope.fit(OfTwo(), "2x3x4", memory=MIB).record.found.safe


class Recurrent(nn.Module):
    """Takes time steps first, each of which is an operation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


def test_time_steps_are_no_batch() -> None:
    with pytest.raises(cnnscope.RequestError, match="as of time steps or of a loop over samples"):
        cnnscope.fit(Recurrent(), "5x2x8", memory="1GiB")


def test_batches_end_where_indices_do() -> None:
    made = cnnscope.fit(nn.Linear(4, 4), "4", memory=2**60).record
    assert made.capped
    assert made.found.safe == 2**31 - 1
    # 4 outputs a sample: (2^31 - 1) // 4 samples
    assert any("up to a batch of 536,870,911 none has more" in note for note in made.notes)


def test_the_batch_of_an_input_is_of_no_account() -> None:
    one, eight = (
        cnnscope.fit(LENET, f"{n}x1x32x32", memory="1GiB", cache=False).record for n in (1, 8)
    )
    assert one.found == eight.found


@pytest.mark.parametrize(
    ("memory", "found"),
    [
        ("24GiB", 24 * GIB), ("24 gb", 24_000_000_000), ("24G", 24_000_000_000),
        ("1TB", 10**12), ("0.5 MiB", MIB // 2), ("100B", 100), (4096, 4096), (8e9, 8 * 10**9),
    ],
)  # fmt: skip
def test_sizes_of_memory(memory: str | float, found: int) -> None:
    assert memory_asked(memory, None) == (found, None)


@pytest.mark.parametrize(
    ("memory", "gpu", "message"),
    [
        ("24", None, "give a unit, as in 24GiB"),
        ("0", None, "must be more than 0"),
        (0, None, "must be more than 0"),
        (-1, None, "must be more than 0"),
        ("-1", None, "expected a size of memory"),
        ("much", None, "expected a size of memory"),
        ("9" * 40 + "GB", None, "expected a size of memory"),
        ("2000PB", None, "1 EiB at most"),
        (float("nan"), None, "give bytes, or a text such as 24GiB"),
        (1.5, None, "give bytes, or a text such as 24GiB"),
        (None, None, "give either --memory"),
        ("1GiB", "t4", "give either --memory"),
    ],
)
def test_what_is_no_memory(memory: Any, gpu: str | None, message: str) -> None:
    with pytest.raises(cnnscope.RequestError, match=message):
        memory_asked(memory, gpu)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --memory"),
        (("--gpu", "rtx9"), "--gpu 'rtx9': no such GPU is known; give its memory"),
        (("--gpu", "list"), "t4 (14.56 GiB), rtxa4000 (15.61 GiB)"),
        (("-m", "1GiB", "--checkpoint", "c9"), "--checkpoint 'c9': no such module; did you mean"),
        (("-m", "1GiB", "--optimizer", "lion"), "--optimizer 'lion': use one of"),
    ],
)
def test_what_cannot_be_asked_for(options: tuple[str, ...], message: str) -> None:
    result = run_cli("fit", LENET, *options)
    assert result.code == 2
    assert message in result.err


def test_a_step_is_read_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnscope.cache.store import Store
    from cnnscope.models import run

    store = Store(tmp_path)
    first = cnnscope.fit(LENET, memory="1GiB", cache=store).record
    one = cnnscope.memory(LENET, optimizer="adam", cache=store).record
    monkeypatch.setattr(run, "stepping", None)  # nothing is traced any more
    assert cnnscope.fit(LENET, memory="1GiB", cache=store).record == first
    assert cnnscope.memory(LENET, optimizer="adam", cache=store).record == one
    with pytest.raises(TypeError):
        cnnscope.memory(LENET, optimizer="sgd", cache=store)
