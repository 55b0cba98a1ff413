"""Files from strangers, changed at random: no file appears, no process starts, nothing hangs.

Ten thousand by hand: CNNSCOPE_MUTATIONS=2500 pytest -m slow tests/models/test_mutations.py
(so many of each kind).
"""

import os
import sys
from pathlib import Path

import pytest
import torch
from mutations import MARK, Case, Witness, checkpoints, programs, watched

KINDS = ("program", "bytes", "pickle", "header")
MANY = int(os.environ.get("CNNSCOPE_MUTATIONS", "1000"))

pytestmark = [
    pytest.mark.broad,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are limited by /proc"),
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    return [*programs(folder), *checkpoints(folder)]


def shown(found):
    return "\n".join(f"{case}: {what}" for case, what in found[:20])


def test_a_few_mutated_files(bases, tmp_path):
    found = watched([Case(kind, seed) for kind in KINDS for seed in range(10)], bases, tmp_path)
    assert not found, shown(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutated_files(kind, bases, tmp_path):
    for begin in range(1000, 1000 + MANY, 250):
        cases = [Case(kind, seed) for seed in range(begin, min(begin + 250, 1000 + MANY))]
        found = watched(cases, bases, tmp_path)
        assert not found, shown(found)


# ------------------------------------------------------------- the witnesses see what they should


class Planted(Case):
    """A case that does what no file may."""

    def make(self, bases, folder):
        list(PLANTED.values())[self.seed]()
        return super().make(bases, folder)


def _write_aside():
    Path("aside").write_text("x")


def _write_in_c():
    torch.ops.image.write_file(MARK, torch.zeros(3, dtype=torch.uint8))


def _grow():
    bytearray(b"x") * (5 * 2**28)


def _hang():
    while True:
        pass


PLANTED = {
    "wrote aside": _write_aside,
    f"wrote {MARK}": _write_in_c,
    "grew by": _grow,
    "ended the process": _hang,
}


def test_what_a_file_may_not_do_is_seen(bases, tmp_path, monkeypatch):
    monkeypatch.setattr("mutations.SECONDS", 1)
    cases = [Planted("header", seed) for seed in range(len(PLANTED))]
    found = watched([*cases, Case("header", 1)], bases[-1:], tmp_path)
    for index, words in enumerate(PLANTED):
        assert any(case == cases[index] and words in what for case, what in found), shown(found)
    assert all(isinstance(case, Planted) for case, _ in found)


def test_audit_events_of_writing_and_starting_are_heard(tmp_path):
    child = os.fork()
    if not child:  # a hook stays for good
        witness = Witness()
        Path(__file__).read_text()
        quiet = not witness.seen
        (tmp_path / "x").write_text("x")
        os.system("true")
        os._exit(0 if quiet and len(witness.seen) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
