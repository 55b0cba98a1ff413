"""A sample of timm's models (or all of them: `--all`) against torch's own counts, with times.

PYTHONPATH=tests/support python tests/benchmarks/timm_zoo.py [--all] [--from N] [--to N]
"""

import argparse
from collections import Counter

import timm_models


def main() -> None:
    """Print what disagrees as it is found, then the totals and the slowest."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--to", dest="last", type=int)
    options = parser.parse_args()
    every = [name for names in timm_models.families().values() for name in names]
    names = (every if options.all else timm_models.sample())[options.first : options.last]
    seen = []
    for name in names:
        one = timm_models.look(name)
        seen.append(one)
        differs = one.torch_macs not in (None, one.macs) or one.params != one.torch_params
        if one.failure or one.unknown or one.mismatches or differs:
            print(one, flush=True)
    counted = [one for one in seen if one.torch_macs is not None]
    print(f"{len(seen)} models, {sum(bool(one.failure) for one in seen)} failures")
    print(f"parameters equal: {sum(one.params == one.torch_params for one in seen)}")
    print(f"MACs equal: {sum(one.macs == one.torch_macs for one in counted)} of {len(counted)}")
    print(f"values had to be followed: {sum(bool(one.notes) for one in seen)}")
    lost = Counter(one.field_unknown for one in seen if one.field_unknown)
    print(f"fields not followed to the end: {sum(lost.values())}, first lost in {dict(lost)}")
    for one in sorted(seen, key=lambda one: -one.seconds)[:12]:
        print(f"{one.seconds:8.2f} s {one.operations:7d} operations  {one.name}")


if __name__ == "__main__":
    main()
