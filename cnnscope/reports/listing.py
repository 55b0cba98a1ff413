"""The layers that torchinfo 1.8.0 lists of a model, and the parameters that it counts in them.

A module is listed when it is called, at the depth of its *last* name, and again (as recursive) for
each further call; containers that no forward calls are put before what they hold, unless they
stand there (torchinfo.py, `apply_hooks`, `add_missing_container_layers`). A layer without modules
inside counts its parameters; any other counts what is left of its own without those listed below
it, never less than nothing (model_statistics.py, `leftover_params`). What is recursive counts
nothing. So a weight under several names, or a container listed twice, counts more than once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnnscope.analysis import params
from cnnscope.records.trace import CallRecord, Trace


@dataclass(eq=False)
class Name:
    """A module under one of its names in the tree of modules."""

    path: str
    module: int
    depth: int
    outer: Name | None


@dataclass(eq=False)
class Line:
    """A module that is listed."""

    name: Name
    numel: int
    leaf: bool
    recursive: bool
    below: list[Line] = field(default_factory=list)
    _left: int | None = None

    def left(self) -> int:
        """Its parameters without those of what is listed below it."""
        if self._left is None:
            inside = (line for line in self.below if not line.recursive)
            self._left = self.numel - sum(x.numel if x.leaf else x.left() for x in inside)
        return self._left

    @property
    def counted(self) -> int:
        """Parameters that it adds to the total."""
        return 0 if self.recursive else self.numel if self.leaf else max(self.left(), 0)


def lines(trace: Trace, names: Mapping[str, int]) -> list[Line]:
    """Everything that torchinfo lists, in order.

    Args:
        trace: of the model.
        names: every name of every module, depth first, and which of `trace.modules` it names.
    """
    return _Listing(trace, names or _own_names(trace)).lines()


def in_order(trace: Trace) -> Iterator[CallRecord]:
    """All calls in the order in which they began, those that make a weight among them."""
    within = list(trace.within)
    for index, call in enumerate(trace.calls):
        while within and within[0].start <= index:
            yield within.pop(0)
        yield call
    yield from within


def _own_names(trace: Trace) -> dict[str, int]:
    """Each module under the first of its names."""
    return {m.path: i for i, m in enumerate(trace.modules) if m.registered}


class _Listing:
    def __init__(self, trace: Trace, names: Mapping[str, int]) -> None:
        self.trace = trace
        self.last: dict[int, Name] = {}  # each module under the last of its names
        self.inside: dict[int, set[int]] = {}  # modules in each module, itself among them
        by_path: dict[str, Name] = {}
        for path, module in names.items():
            around = path.rpartition(".")[0]
            outer = by_path.get(around) if path else None
            made = Name(path, module, outer.depth + 1 if outer else 0, outer)
            by_path[path] = self.last[module] = made
            at: Name | None = made
            while at is not None:
                self.inside.setdefault(at.module, set()).add(module)
                at = at.outer
        self.numels = self._numels()

    def _numels(self) -> dict[int, int]:
        """Parameters in each module, each once."""
        index = {m.path: i for i, m in enumerate(self.trace.modules) if m.registered}
        held: list[tuple[set[int], int]] = []
        for param in self.trace.params:
            if not param.buffer:
                paths = (name.rpartition(".")[0] for name in param.names)
                owners = {index[path] for path in paths if path in index}
                held.append((owners, params.numel(self.trace, param)))
        return {
            module: sum(size for owners, size in held if owners & inside)
            for module, inside in self.inside.items()
        }

    def lines(self) -> list[Line]:
        listed: list[Line] = []
        seen: set[int] = set()
        for module in (call.module for call in in_order(self.trace)):
            if module not in self.last:
                continue
            listed.append(self._line(self.last[module], seen))
            seen.add(module)
        listed = self._with_containers(listed, seen)
        _nest(listed)
        return listed

    def _line(self, name: Name, seen: set[int]) -> Line:
        module = name.module
        leaf = len(self.inside[module]) == 1
        return Line(name, self.numels[module], leaf, recursive=module in seen)

    def _with_containers(self, listed: Sequence[Line], seen: set[int]) -> list[Line]:
        """The lines, and before each the containers around it that do not stand there."""
        made: list[Line] = []
        inserted: dict[int, Line] = {}  # by the name (an object): torchinfo inserts one of each
        current: dict[int, int] = {}
        for line in listed:
            around: dict[int, Name] = {}
            outer = line.name.outer
            while outer is not None and outer.depth > 0:
                around[outer.depth] = outer
                outer = outer.outer
            for depth in range(1, line.name.depth):
                name = around[depth]
                before = made[-1] if made else None
                stands = before is not None and inserted.get(id(name)) is before
                if current.get(depth) != name.module and not stands:
                    known = inserted.setdefault(id(name), self._line(name, set()))
                    known.recursive = name.module in seen
                    made.append(known)
                    seen.add(name.module)
                    current[depth] = name.module
            current[line.name.depth] = line.name.module
            for depth in [d for d in current if d > line.name.depth]:
                current.pop(depth)
            made.append(line)
        return made


def _nest(listed: Sequence[Line]) -> None:
    """Give each line those below it: the deeper ones that follow."""
    open_: list[Line] = []
    for line in listed:
        line.below = []
    for line in listed:
        while open_ and open_[-1].name.depth >= line.name.depth:
            open_.pop()
        for outer in open_:
            outer.below.append(line)
        open_.append(line)
