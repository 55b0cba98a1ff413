"""The U of an encoder-decoder with skips (Ronneberger, Fischer, Brox 2015), found in its steps.

The longest path is the trunk. Its resolution falls and rises again, and the rising half joins maps
of the falling half that have about its own resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log2, prod

from cnnscope.ops.table import Family
from cnnscope.records import figure as f

_STEP = 0.4  # of a halving: convolutions without padding take off less
_JOINS = (Family.CONCATENATE.value, Family.ADD.value)


class NoUshapeError(ValueError):
    """A network is no encoder-decoder with skips; the message says why, as half a sentence."""


def ushape(flow: f.Flow) -> f.Ushape:
    """Trunk, levels and skips of an encoder-decoder.

    Args:
        flow: with blocks drawn whole.

    Raises:
        NoUshapeError: it is none, or has paths that a U does not show.
    """
    if not flow.ends:
        raise NoUshapeError("it gives back nothing that depends on its input")
    wires = _Wires(flow)
    trunk = wires.trunk()
    levels = _levels([flow.steps[n] for n in trunk])
    bottom = levels.index(max(levels))
    if levels[-1] >= levels[bottom] or not bottom:
        raise NoUshapeError("its resolution never grows again behind its smallest map")
    if any(a > b for a, b in pairwise(levels[: bottom + 1])):
        raise NoUshapeError("its resolution falls and rises more than once")
    if any(a < b for a, b in pairwise(levels[bottom:])):
        raise NoUshapeError("its resolution falls and rises more than once")
    skips = wires.skips(trunk, bottom)
    if not skips:
        raise NoUshapeError("no map of its encoder is joined with one of its decoder")
    return f.Ushape(trunk, levels, bottom, skips)


def _levels(steps: Sequence[f.Step]) -> tuple[int, ...]:
    """Times that the resolution was halved, of each step; a single position is the lowest."""
    sides = [prod(s.positions) ** (1 / len(s.positions)) if s.positions else 1.0 for s in steps]
    falls, level = [0], 0
    for before, side in pairwise(sides):
        moved = log2(before / side)
        if abs(moved) > _STEP:
            level += round(moved) or (1 if moved > 0 else -1)
        falls.append(level)
    used = sorted(set(falls))
    return tuple(used.index(one) for one in falls)


class _Wires:
    def __init__(self, flow: f.Flow) -> None:
        self.flow = flow
        self.into: dict[int, list[f.FlowEdge]] = {}
        for edge in flow.edges:
            self.into.setdefault(edge.target, []).append(edge)

    def trunk(self) -> tuple[int, ...]:
        """The longest path to the last output; not through what a map is multiplied with."""
        best: dict[int, tuple[int, int]] = {}
        for number, step in enumerate(self.flow.steps):
            before = [(best[e.source][0], e.source) for e in self.into.get(number, ())]
            gated = step.family == Family.MULTIPLY.value  # a gate is computed of the map
            length, source = (min if gated else max)(before, default=(0, -1))
            best[number] = length + 1, source
        at = max(self.flow.ends, key=lambda n: (best[n][0], n))
        path = []
        while at >= 0:
            path.append(at)
            at = best[at][1]
        return tuple(path[::-1])

    def skips(self, trunk: Sequence[int], bottom: int) -> tuple[f.Skip, ...]:
        """Paths beside the trunk, each from the encoder to a join in the decoder.

        Raises:
            NoUshapeError: a path beside the trunk is none.
        """
        place = {n: at for at, n in enumerate(trunk)}
        found, seen = [], set(trunk)
        for at, number in enumerate(trunk):
            for edge in self.into.get(number, ()):
                if at and edge.source == trunk[at - 1]:
                    continue
                skip, way = self._skip(edge, place, at)
                seen |= way
                if skip is None:
                    continue
                step = self.flow.steps[number]
                if place[skip.source] > bottom or at < bottom or step.family not in _JOINS:
                    raise NoUshapeError(f"{_named(step)} joins paths that are no skips of a U")
                found.append(skip)
        left = [n for n in range(len(self.flow.steps)) if n not in seen]
        if left and found:
            raise NoUshapeError(f"{_named(self.flow.steps[left[0]])} is on a path beside the U")
        if len({skip.target for skip in found}) < len(found):
            raise NoUshapeError(
                "several maps of its encoder are joined at one place of its decoder"
            )
        return tuple(found)

    def _skip(
        self, edge: f.FlowEdge, place: Mapping[int, int], at: int
    ) -> tuple[f.Skip | None, set[int]]:
        """The skip that ends in an edge, and the steps on its way; None from the step before."""
        way: set[int] = set()
        starts: set[int] = set()
        waiting = [edge.source]
        while waiting:
            number = waiting.pop()
            if number in place:
                starts.add(number)
            elif number not in way:
                way.add(number)
                waiting += [e.source for e in self.into.get(number, ())]
        gates = {n for n in starts if place[n] == at - 1 or place[n] >= at}
        begins = starts - gates
        steps = [self.flow.steps[n] for n in way]
        if len(begins) > 1:
            raise NoUshapeError(
                f"{_named(self.flow.steps[edge.target])} joins several maps at once"
            )
        if not begins:
            return None, way
        source = begins.pop()
        layers = sum(step.kind != f.JOIN for step in steps)
        cropped = not way and edge.positions != self.flow.steps[source].positions
        gated = any(step.family == Family.MULTIPLY.value for step in steps) and bool(gates)
        return f.Skip(source, edge.target, gated, layers, cropped), way


def _named(step: f.Step) -> str:
    return step.path or step.label or step.family
