"""What repeats in a figure: equal steps in a row, and equal parts of several steps."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from cnnscope.ops.table import Family
from cnnscope.records import figure as f

_LONGEST = 40  # steps that repeat together
_INNER = 3  # runs that begin in each longer one


class _Run(NamedTuple):
    """So many equal parts of so many steps each, from a step on."""

    first: int
    length: int
    times: int


def merged(flow: f.Flow) -> f.Flow:
    """Equal steps in a row, each of which reads the one before, as one with `times`."""
    return _fold(flow, longest=1)


def folded(flow: f.Flow) -> f.Flow:
    """Equal parts in a row as the first of them, whose steps have a `group`; twins as one."""
    return _fold(_without_twins(flow), longest=_LONGEST)


def _without_twins(flow: f.Flow) -> f.Flow:
    """Equal layers that read the same maps and are read by the same steps as one."""
    wires = _Wires(flow)
    found: dict[Hashable, list[int]] = {}
    for n, step in enumerate(flow.steps):
        reads = frozenset(wires.into.get(n, ())), frozenset(wires.out_of[n])
        alone = step.kind != f.LAYER or n in flow.ends
        sized = step.family != Family.RESAMPLE.value  # a detector's masks have sizes of their own
        own = _key(step if sized else replace(step, positions=()))
        found.setdefault((n,) if alone else (own, reads), []).append(n)
    home = {n: twins[0] for twins in found.values() for n in twins[1:]}
    kept = [n for n in range(len(flow.steps)) if n not in home]
    at = {n: number for number, n in enumerate(kept)}
    where = {n: at[home.get(n, n)] for n in range(len(flow.steps))}
    parallel = {twins[0]: len(twins) for twins in found.values()}
    return replace(
        flow,
        steps=tuple(replace(flow.steps[n], parallel=parallel[n]) for n in kept),
        edges=tuple(_edges(flow, where)),
        ends=tuple(sorted({where[n] for n in flow.ends})),
    )


def _fold(flow: f.Flow, longest: int) -> f.Flow:
    runs = _runs(flow, longest)
    home: dict[int, int] = {}
    of: dict[int, tuple[int, _Run]] = {}
    for number, run in enumerate(runs):
        for place in range(run.first, run.first + run.length * run.times):
            home[place] = run.first + (place - run.first) % run.length
            of[home[place]] = number, run
    kept = [n for n in range(len(flow.steps)) if home.get(n, n) == n]
    at = {n: number for number, n in enumerate(kept)}
    where = {n: at[home.get(n, n)] for n in range(len(flow.steps))}
    return replace(
        flow,
        steps=tuple(_step(flow.steps[n], of.get(n)) for n in kept),
        edges=tuple(_edges(flow, where)),
        ends=tuple(sorted({where[n] for n in flow.ends})),
    )


def _step(step: f.Step, of: tuple[int, _Run] | None) -> f.Step:
    """A step that stands for others: alone, or as one of a part."""
    if of is None:
        return step
    number, run = of
    if run.length == 1:
        return replace(step, times=run.times)
    return replace(step, group=number, repeats=run.times)


def _edges(flow: f.Flow, where: Mapping[int, int]) -> list[f.FlowEdge]:
    """Edges between the steps that are kept; the first of equal ones."""
    found: dict[tuple[int, int], f.FlowEdge] = {}
    for edge in flow.edges:
        ends = where[edge.source], where[edge.target]
        if ends[0] < ends[1]:
            found.setdefault(ends, replace(edge, source=ends[0], target=ends[1]))
    return sorted(found.values(), key=lambda edge: (edge.target, edge.source))


def _runs(flow: f.Flow, longest: int) -> list[_Run]:
    """Runs that do not overlap, first those that cover most."""
    grows = {edge.target for edge in flow.edges if edge.grows}
    numbers: dict[Hashable, int] = {}
    keys = [
        numbers.setdefault((_key(step), n in grows), len(numbers))
        for n, step in enumerate(flow.steps)
    ]
    wires = _Wires(flow)
    lengths = range(1, min(longest, len(keys) // 2) + 1)
    candidates = [run for length in lengths for run in _repeated(keys, length)]
    candidates.sort(key=lambda run: _worth(flow, run), reverse=True)
    found: list[_Run] = []
    taken = [False] * len(keys)
    for run in candidates:
        end = run.first + run.length * run.times
        if not any(taken[run.first : end]) and wires.allow(run):
            found.append(run)
            taken[run.first : end] = [True] * (end - run.first)
    return sorted(found)


def _worth(flow: f.Flow, run: _Run) -> tuple[int, int, int, int]:
    """Steps that a run covers; of equal ones, first those whose parts are modules, then short ones.

    A part may begin in the middle of one block and end in the next: it repeats as often.
    """
    part = flow.steps[run.first : run.first + run.length]
    shared = 0
    for names in zip(*(step.path.split(".") for step in part), strict=False):
        if len(set(names)) > 1:
            break
        shared += 1
    return run.length * run.times, shared, -run.length, -run.first


def _key(step: f.Step) -> Hashable:
    """Equal for steps that are drawn alike."""
    layer = step.layer
    own = (layer.kind, layer.geometry, layer.role) if layer is not None else ()
    inside = tuple((x.kind, x.geometry, x.out_channels) for x in step.inside)
    channels = None if step.kind == f.JOIN else step.channels  # a dense block's grow
    size = channels, step.positions, step.parallel
    return step.kind, step.family, size, step.label, own, inside


def _repeated(keys: Sequence[int], length: int) -> Iterator[_Run]:
    """Runs of parts of one length, in time linear in the number of steps.

    Of runs that begin in the middle of a longer one only the longest few are: all would be as many
    as the steps of a network of thousands of equal blocks.
    """
    alike = [0] * (len(keys) + 1)  # steps from each on that are equal to those a part later
    for at in range(len(keys) - length - 1, -1, -1):
        alike[at] = alike[at + 1] + 1 if keys[at] == keys[at + length] else 0
    for at, equal in enumerate(alike):
        longer = at - _INNER * length
        if equal >= length and (longer < 0 or alike[longer] < equal + _INNER * length):
            yield _Run(at, length, equal // length + 1)


class _Wires:
    """Whether parts of a run are wired alike, and read and are read as one."""

    def __init__(self, flow: f.Flow) -> None:
        self.flow = flow
        self.into: dict[int, set[int]] = {}
        self.out_of: dict[int, set[int]] = {n: set() for n in range(len(flow.steps))}
        for edge in flow.edges:
            self.into.setdefault(edge.target, set()).add(edge.source)
            self.out_of[edge.source].add(edge.target)

    def allow(self, run: _Run) -> bool:
        """Return True if nothing is lost when the first part stands for all."""
        kinds = [step.kind for step in self.flow.steps[run.first : run.first + run.length]]
        if f.INPUT in kinds or (f.JOIN in kinds) != (run.length > 1):
            return False  # several steps without a join are a part of a branch
        parts = [range(run.first + k * run.length, run.first + (k + 1) * run.length)
                 for k in range(run.times)]  # fmt: skip
        wired = {self._within(part) for part in parts}
        chained = all(self._reads(b, a) for a, b in pairwise(parts))
        return len(wired) == 1 and chained and self._enters(parts) and self._leaves(parts)

    def _within(self, part: range) -> frozenset[tuple[int, int]]:
        return frozenset(
            (source - part.start, target - part.start)
            for target in part
            for source in self.into.get(target, ())
            if source in part
        )

    def _reads(self, part: range, before: range) -> bool:
        return any(s in before for t in part for s in self.into.get(t, ()))

    def _enters(self, parts: Sequence[range]) -> bool:
        """Return True if no later part reads what the first does not read."""
        first = parts[0]
        for part in parts[1:]:
            for target in part:
                outside = {s for s in self.into.get(target, ()) if s < first.start}
                if not outside <= self.into.get(target - part.start + first.start, set()):
                    return False
        return True

    def _leaves(self, parts: Sequence[range]) -> bool:
        """Return True if what reads an earlier part reads the last one as well."""
        last = parts[-1]
        for part in parts[:-1]:
            for source in part:
                beyond = {t for t in self.out_of[source] if t >= last.stop}
                if not beyond <= self.out_of[source - part.start + last.start]:
                    return False
                if source in self.flow.ends:
                    return False
        return True
