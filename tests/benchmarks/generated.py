"""Random networks by the thousand, held against the oracles of `tests/test_generated.py`.

    python tests/benchmarks/generated.py --networks 500 --seed 0

Every mismatch is printed as a recipe that `networks.build` takes, with what differed; at the end
comes the share of fields that are unknown though a NaN in the input comes through to them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
import networks
import test_generated

LONGEST = 240  # bytes of a recipe
_KINDS = sorted({*networks.LEAVES, *networks.AROUND})  # of those at the top


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a kind of block that every network has", default="",
                        choices=("", *_KINDS), metavar="KIND")  # fmt: skip
    parser.add_argument("--number", type=int, help="check this network of the seed alone")
    parser.add_argument("--memory", action="store_true", help="check peak memory too: slow")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chance, began = random.Random(asked.seed), time.monotonic()
    found: Counter[str] = Counter()
    blind = 0  # networks with a field that is unknown and can be measured
    for number in range(asked.networks):
        recipe = _recipe(chance, asked.only)
        if asked.number not in (None, number):
            continue
        before = test_generated.COUNTS["unknown"]
        try:
            test_generated.check(recipe, memory=asked.memory)
        except Exception as error:  # noqa: BLE001  whatever it is, it is a mismatch
            found[type(error).__name__] += 1
            print(f"network {number}: {_where(error)}\n  {recipe}", flush=True)
        blind += test_generated.COUNTS["unknown"] > before
    counts = test_generated.COUNTS
    fields = counts["known"] + counts["unknown"]
    print(
        f"{asked.networks} networks of seed {asked.seed} in {time.monotonic() - began:.0f} s: "
        f"{sum(found.values())} mismatches {dict(found)}; of {fields} fields that can be measured "
        f"{counts['unknown']} are unknown ({counts['unknown'] / max(fields, 1):.2%}), in {blind} "
        f"networks ({blind / asked.networks:.2%}); {dict(counts)}"
    )
    return 1 if found else 0


def _where(error: Exception) -> str:
    """The error, and the line of the tests that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "test_" in f.filename]
    line = f"line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} {line}"


def _recipe(chance: random.Random, only: str) -> networks.Recipe:
    while True:
        recipe = networks.decode(chance.randbytes(chance.randint(16, LONGEST)))
        if not only or any(block.kind == only for block in recipe.blocks):
            return recipe


if __name__ == "__main__":
    sys.exit(main())
