"""Arithmetic as text: products, sums, and what repeats in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from math import prod

from cnnscope.ops import table as ops
from cnnscope.records.explain import Step
from cnnscope.records.trace import Shape


def times(factors: Iterable[int | Shape]) -> str:
    """64*3*7*7: a shape is the product of its sizes."""
    flat = [n for f in factors for n in (f if isinstance(f, tuple) else (f,))]
    return "*".join(map(str, flat)) or "1"


def product_step(topic: str, formula: str, sizes: Shape) -> Step:
    """A step whose value is a product of sizes."""
    return Step(topic, formula, times(sizes), prod(sizes))


def total(terms: Sequence[int]) -> str:
    """3*64 + 128: terms that repeat are counted."""
    groups = [(value, len(list(same))) for value, same in groupby(t for t in terms if t)]
    return " + ".join(f"{n}*{value}" if n > 1 else str(value) for value, n in groups) or "0"


def factor_terms(factors: Sequence[ops.Factors]) -> tuple[str, str, int]:
    """Formula, arithmetic and value of a sum of products; equal products are counted.

    A batch of one goes without saying, and so does one step.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for named in factors:
        kept = {k: _whole(k, v) for k, v in named.items() if not _silent(k, v)}
        counts[" * ".join(kept) or "1", times(kept.values())] += 1
    formulas = dict.fromkeys(formula for formula, _ in counts)
    terms = counted((product, count) for (_, product), count in counts.items())
    return " + ".join(formulas), terms, sum(map(ops.product, factors))


def counted(terms: Iterable[tuple[str, int]]) -> str:
    """96*16 + 12*4*32: products with how many there are of each."""
    return " + ".join(f"{count}*{product}" if count > 1 else product for product, count in terms)


def _silent(name: str, value: int | Shape) -> bool:
    return value in (1, (1,)) and (name == "batch" or name.startswith("steps"))


def _whole(name: str, value: int | Shape) -> int | Shape:
    return unbatched(value) if isinstance(value, tuple) and "elements" in name else value


def unbatched(sizes: Shape) -> Shape:
    """Sizes without a batch of one."""
    return sizes[1:] if len(sizes) > 1 and sizes[0] == 1 else sizes
