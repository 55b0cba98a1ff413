"""A recorded forward replayed in float64 with linear stand-ins, and gradients through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnnscope.measure.gradient.standins import (
    AS_IT_IS,
    STAND_INS,
    Op,
    Poison,
    batch_norm,
    identity,
    restrided,
)
from cnnscope.measure.gradient.tape import (
    Growth,
    Ref,
    Step,
    Tape,
    Target,
    in_place,
    name_of,
    refs_of,
    size,
)

Interval = tuple[int, int]  # first and last pixel; last < first for nothing
NOTHING: Interval = (0, -1)
LATE = "the time was over"  # why there is no result


Place = Mapping[int, Sequence[int]]  # indices along some dimensions; all along the others


class Root(NamedTuple):
    """Units of a target to measure: some along one dimension of it, or all of it (None).

    Where the positions of a unit lie in several dimensions, or beside those of other axes, `places`
    says for each of the `units` where it is.
    """

    target: Target
    dim: int | None
    units: tuple[int, ...]
    places: tuple[Place, ...] = ()


MOST_FROM_FILES = 2**27  # elements of all tensors of a replay, 8 bytes each


def pace() -> float:
    """Seconds that this machine takes to read, change and write one element of a tensor."""
    block = torch.zeros(1 << 18, dtype=torch.float64)
    block + block  # the first is slow
    began = time.perf_counter()
    for _ in range(8):
        block + block
    return (time.perf_counter() - began) / 8 / block.numel()


def measure(
    tape: Tape,
    roots: Sequence[Root],
    cut: Growth | None = None,
    advance: Callable[[], None] = lambda: None,
    deadline: float = inf,
) -> dict[Target, list[list[Interval]] | str]:
    """Measure the receptive field of units: for each one interval per axis of the input.

    Args:
        tape: the forward on its canvas.
        roots: which units of which targets.
        cut: what grows with the canvas: a sum over that is a function of the whole image and is
            left out; nothing is left out without it.
        advance: called after each target.
        deadline: when to stop, by `time.monotonic`.

    Returns:
        The intervals, or why there are none: `LATE` where there was no time left.
    """
    if tape.computes is not None and size(tape).elements > MOST_FROM_FILES:
        reason = "too large to be measured in a program from a file"
        return {root.target: reason for root in roots}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small: more threads wait for each other
    try:
        return Replay(tape, cut, deadline).run(roots, advance)
    finally:
        torch.set_num_threads(threads)


class Replay:
    """The recorded forward with linear stand-ins, in float64."""

    def __init__(self, tape: Tape, cut: Growth | None, deadline: float = inf) -> None:
        self.tape, self.cut, self.deadline = tape, cut or Growth({}, 0), deadline
        self.at = 0  # the number of the operation that is replaced
        self.values: dict[int, Any] = {}
        self.unreal: set[int] = set()  # of these only the shape is known, and not the numbers
        self.leaves = {
            number: torch.zeros(given.shape, dtype=torch.float64, requires_grad=True)
            for number, given in tape.inputs.items()
            if given.axes and given.watched
        }
        self.values |= {number: leaf.clone() for number, leaf in self.leaves.items()}
        self.last_use = {n: i for i, s in enumerate(tape.steps) for n in (*refs_of(s), *s.outputs)}
        self.weights: dict[tuple[int, str, int], Tensor] = {}
        self.shared = _shared(tape)

    # -- the forward

    def run(
        self, roots: Sequence[Root], advance: Callable[[], None]
    ) -> dict[Target, list[list[Interval]] | str]:
        """Forward once, then back from every unit that is asked."""
        sums: dict[Target, list[Tensor] | str] = {}
        wanted: dict[int, list[tuple[int, Root]]] = {}
        for root in roots:
            if root.target not in self.tape.targets:
                failure = self.tape.failure or "it did not run on this canvas"
                sums[root.target] = f"not reached: {failure}"
                continue
            tensor, after = self.tape.targets[root.target]
            wanted.setdefault(after, []).append((tensor, root))
            self.last_use[tensor] = max(self.last_use.get(tensor, 0), after)
        self._forward(wanted, sums)
        self.values.clear()
        result: dict[Target, list[list[Interval]] | str] = {}
        for root in roots:
            result[root.target] = self._back(sums.get(root.target, LATE))
            advance()
        return result

    @property
    def late(self) -> bool:
        """True if there is no time left."""
        return time.monotonic() > self.deadline

    def _forward(
        self,
        wanted: Mapping[int, Sequence[tuple[int, Root]]],
        sums: dict[Target, list[Tensor] | str],
    ) -> None:
        """All operations up to the last target; what is asked of each when it is made."""
        end = max(wanted, default=0)
        with torch.enable_grad():
            for done in range(end + 1):
                for tensor, root in wanted.get(done, ()):
                    sums[root.target] = self._sums(tensor, root)
                if self.late:
                    return
                if done < end:
                    self._step(done)

    def _back(self, sums: list[Tensor] | str) -> list[list[Interval]] | str:
        """Return the receptive field of each unit."""
        if isinstance(sums, str):
            return sums
        seen = []
        for total in sums:
            if self.late:
                return LATE
            seen.append(_seen(total, self.leaves, self.tape))
        return seen

    def _sums(self, number: int, root: Root) -> list[Tensor] | str:
        """For each unit the sum of its channels, weighted so that they cannot cancel."""
        value = self.get(number)
        if isinstance(value, Poison):
            return value.reason
        if root.places:
            return [_weighted(_at(value, place)) for place in root.places]
        if root.dim is None:
            return [_weighted(value)]
        return [_weighted(value.select(root.dim, unit)) for unit in root.units]

    def get(self, number: int) -> Any:
        """A tensor's value; a parameter's is made up."""
        if number in self.values:
            return self.values[number]
        if number in self.tape.strays:
            return Poison("a tensor was taken from another one's memory (.data)")
        known = self.tape.known.get(number)
        if known is not None:
            return known.double() if known.is_floating_point() else known
        self.unreal.add(number)
        return self._made_up(number)

    def _made_up(self, number: int) -> Tensor:
        """Ones (zeros where they are no numbers) that take no memory."""
        floating = self.tape.floating[number]
        one = torch.ones((), dtype=torch.float64) if floating else torch.zeros((), dtype=torch.long)
        return one.expand(self.tape.shapes[number])

    def _step(self, index: int) -> None:
        self.at, step = index, self.tape.steps[index]
        refs = list(refs_of(step))
        given = [self.get(n) for n in refs]
        poison = next((v for v in given if isinstance(v, Poison)), None)
        if poison is not None:
            results: Sequence[Any] = [poison] * len(step.outputs)
        elif any(0 in self.tape.shapes[n] for n in step.outputs):
            results = [Poison("it is empty")] * len(step.outputs)
        elif any(v.requires_grad for v in given):
            results = self._guarded(step)
        else:
            results = self._constants(step, refs)
        for number, value in zip(step.outputs, results, strict=False):
            self.values[number] = value
        for number in {*refs, *step.outputs}:
            if self.last_use[number] <= index:
                self.values.pop(number, None)

    def _constants(self, step: Step, refs: Sequence[int]) -> list[Any]:
        """Compute results that do not depend on the input, where their values are known."""
        unreal = any(n in self.unreal for n in refs)
        if not unreal and self._may_run(step):
            try:
                return self.native(step)
            except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
                pass
        self.unreal.update(step.outputs)
        return [self._made_up(n) for n in step.outputs]

    def _may_run(self, step: Step) -> bool:
        """Return True if an operation may run with values: a file's author chose its arguments."""
        computes, name = self.tape.computes, name_of(step)
        return computes is None or name in computes or name in AS_IT_IS

    def native(self, step: Step) -> list[Any]:
        """The operation itself, in float64 on the CPU."""
        kwargs = {k: self._filled(v) for k, v in step.kwargs.items()}
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        if name_of(step) == "_reshape_alias":  # reads memory as it is, which lies otherwise here
            return [self._filled(step.args[0]).reshape(self.tape.shapes[step.outputs[0]])]
        result = step.func(*self._filled(step.args), **kwargs)
        results = result if isinstance(result, (tuple, list)) else [result]
        if isinstance(result, (tuple, list)) and step.outputs[0] in self.shared:
            results = [_alone(r) for r in results]
        return [r.double() if r.is_floating_point() and r.dtype != torch.float64 else r
                for r in results if isinstance(r, Tensor)]  # fmt: skip

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.get(value.number)
        if isinstance(value, (list, tuple)):
            return [self._filled(v) for v in value]
        return value

    def _guarded(self, step: Step) -> list[Any]:
        """A stand-in; where a file's author chose the arguments, one that fails tells nothing."""
        if self.tape.computes is None:
            return self._stand_in(step)
        try:
            return self._stand_in(step)
        except Exception as error:  # noqa: BLE001  meta kernels let arguments pass that others refuse
            reason = f"{step.func} cannot be repeated ({type(error).__name__})"
            return [Poison(reason)] * len(step.outputs)

    def _stand_in(self, step: Step) -> list[Any]:
        name = name_of(step)
        op = Op(self, step, name)
        if name.startswith("new_") or name.endswith("_like"):
            return self.native(step)  # of the input's shape only
        if name in AS_IT_IS and op.indices_are_real():
            return self._native_step(op)
        rule = STAND_INS.get(name)
        if rule is None or not step.outputs:
            return [Poison(f"{step.func} has no linear stand-in")] * len(step.outputs)
        made = rule(op)
        lost = made if isinstance(made, Poison) else self._lost_in_views(step)
        if lost is not None:
            return [lost] * len(step.outputs)
        values = list(made) if isinstance(made, (list, tuple)) else [made]
        values[0] = self._put(op, values[0])
        if any(tuple(v.shape) != self.tape.shapes[n]
               for v, n in zip(values, step.outputs, strict=False)):  # fmt: skip
            return [Poison(f"the stand-in of {step.func} has another shape")] * len(step.outputs)
        # what was cut off is no constant: its numbers mean nothing
        self.unreal.update(n for v, n in zip(values, step.outputs, strict=False)
                           if not v.requires_grad)  # fmt: skip
        rest = [Poison(f"{step.func} gives numbers that depend on data")] * len(step.outputs)
        return [*values, *rest[len(values) :]]

    def _put(self, op: Op, value: Tensor) -> Tensor:
        """A result where the operation leaves it: in the tensor that it writes to, or in a new one.

        A stand-in may give back what it was given.
        """
        target: Tensor = op.tensor(0)
        if in_place(op.step) and op.name == "as_strided":
            return value  # it writes nothing: the tensor lies otherwise, and is a view of itself
        if in_place(op.step) and _repeats(target):
            return torch.empty(target.shape, dtype=target.dtype).copy_(value)
        if in_place(op.step):
            if value is not target:
                target.copy_(value)
            return target
        shares = op.step.outputs[0] in self.shared and any(value is v for v in op.tensors())
        return value.clone() if shares else value

    def _lost_in_views(self, step: Step) -> Poison | None:
        """Give up a made-up constant that is written to where views of it are read later."""
        number = next(refs_of(step), -1)
        if not in_place(step) or not _repeats(self.get(number)):
            return None
        memory = self.tape.memory[number]
        alive = (n for n in self.values if self.last_use[n] > self.at)
        views = [n for n in alive if n != number and self.tape.memory[n] == memory]
        lost = Poison(f"{step.func} writes to a view of a constant")
        self.values |= dict.fromkeys(views, lost)
        return lost if views else None

    def _native_step(self, op: Op) -> list[Any]:
        if op.name in ("view", "_unsafe_view", "reshape", "_reshape_alias"):
            return [op.tensor(0).reshape(self.tape.shapes[op.step.outputs[0]])]
        return self.native(op.step)

    def gradient(self, total: Tensor) -> Tensor:
        """Gradient of a number by every pixel of all inputs, as a share of the largest."""
        leaves = list(self.leaves.values())
        found = torch.autograd.grad(
            total, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        flat = torch.cat([g.flatten() for g in found])
        return flat / flat.abs().amax().clamp(min=1e-300)

    def sees_all(self, value: Tensor) -> bool:
        """Return True if a tensor depends on the input from end to end where that is cut."""
        cut = {
            given.axes.index(dim): given.shape[dim]
            for number, given in self.tape.inputs.items()
            for dim in self.cut.dims.get(number, {})
            if dim in given.axes and given.watched
        }
        seen = _seen(value.sum(), self.leaves, self.tape)
        return bool(cut) and all(seen[axis] == (0, size - 1) for axis, size in cut.items())

    def weight(self, key: int, role: str, size: int) -> Tensor:
        """Positive numbers around one, the same for the same parameter."""
        found = self.weights.get((key, role, size))
        if found is None:
            generator = torch.Generator().manual_seed(hash((key, role == "in", size)) % 2**31)
            found = 0.5 + torch.rand(size, dtype=torch.float64, generator=generator)
            self.weights[key, role, size] = found
        return found


def _seen(total: Tensor, leaves: Mapping[int, Tensor], tape: Tape) -> list[Interval]:
    """Return the interval of non-zero gradient per axis of the input, union over inputs."""
    seen = [NOTHING] * tape.axes
    if not total.requires_grad:
        return seen
    gradients = torch.autograd.grad(
        total, list(leaves.values()), retain_graph=True, allow_unused=True
    )
    for number, gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            continue
        there = gradient != 0
        for axis, dim in enumerate(tape.inputs[number].axes):
            others = [d for d in range(there.dim()) if d != dim]
            places = torch.nonzero(there.any(others) if others else there).flatten()
            if len(places):
                seen[axis] = _hull(seen[axis], (int(places[0]), int(places[-1])))
    return seen


def _hull(a: Interval, b: Interval) -> Interval:
    return b if a == NOTHING else (min(a[0], b[0]), max(a[1], b[1]))


def _repeats(value: Tensor) -> bool:
    """Return True if elements of a tensor lie in one place, as those of a made-up constant do."""
    return any(n > 1 and not step for n, step in zip(value.shape, value.stride(), strict=True))


def _at(value: Tensor, place: Place) -> Tensor:
    for dim, indices in place.items():
        value = value.index_select(dim, torch.tensor(indices))
    return value


def _weighted(value: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(value.numel())
    weights = 0.5 + torch.rand(value.shape, dtype=torch.float64, generator=generator)
    return (value * weights).sum()


def _alone(view: Tensor) -> Tensor:
    """The same view by itself: autograd refuses writes to one of several views made at once."""
    base = view._base
    return view if base is None else base.as_strided(
        view.shape, view.stride(), view.storage_offset())  # fmt: skip


def _shared(tape: Tape) -> frozenset[int]:
    """Tensors whose memory is written to, their own or what an identity would share it with."""
    group = {address: {address} for address in tape.memory}
    writes: set[int] = set()
    for step in tape.steps:
        first = next(refs_of(step), None)
        if first is None:
            continue
        if STAND_INS.get(name_of(step)) not in (identity, batch_norm, restrided):
            writes |= {tape.memory[first]} if in_place(step) else set()
            continue
        for number in step.outputs[:1]:
            a, b = group[tape.memory[first]], group[tape.memory[number]]
            if a is not b:
                a |= b
                group.update(dict.fromkeys(b, a))
    return frozenset(n for n, at in enumerate(tape.memory) if writes & group[at])
