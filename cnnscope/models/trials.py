"""Search the inputs that a built model runs on, by forwards on tensors without data.

The network itself is run at each size. A forward's cost is counted in module calls, so that the
answer is the same on every machine; seconds of a core bound it where a call takes unusually long.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.analysis import positions, sizes
from cnnscope.errors import CnnscopeError, ModelError
from cnnscope.models.build import Built
from cnnscope.models.diagnose import where_and_why
from cnnscope.models.ladder import Rung
from cnnscope.models.widths import standing_in
from cnnscope.records.explain import SizeFailure, SmallestInput
from cnnscope.records.trace import Inputs, TensorSpec, Trace
from cnnscope.text import said
from cnnscope.tracing.modules import modules_of
from cnnscope.tracing.tracer import Rehearsal, rehearsing, trace

if TYPE_CHECKING:
    from torch import nn

CALLS = 5000  # module calls that a search may take: 70 forwards of a ResNet-18
SECONDS = 4.0  # and how long it may last
_PLANE = 2  # axes
_WALL = 4.0  # seconds on the wall that count as one of a core
_FOR_SIZES = 0.9  # of the allowance at an error; the rest is for what is advised
_MORE = 0.4  # of the allowance, for each further axis
_SEQUENCE = 3  # sizes: samples, positions, features
_OVERHEAD = 5  # what a forward costs beside its module calls, in module calls
_NAMES = {
    1: ("samples",),
    2: ("height", "width"),
    3: ("frames", "height", "width"),
}


class Trials:
    """Forwards of one model, within a number of module calls and of seconds."""

    def __init__(self, built: Built, seconds: float = SECONDS, *, renewable: bool = True) -> None:
        self.built, self._renewable = built, renewable
        self._on_meta = built.rung is not Rung.REAL
        self._seconds = self.allowed = seconds
        self._calls = int(CALLS * max(seconds / SECONDS, 1))
        self._last = 0.0  # seconds of the latest forward: another one has to fit
        self._clock = time.thread_time if self._on_meta else time.monotonic
        self._begin, self._since = self._clock(), time.monotonic()
        self._forwards = 0
        self._rehearsal: Rehearsal | None = None
        self._ran: dict[Inputs, bool] = {}
        self._errors: dict[Inputs, CnnscopeError | None] = {}
        self._exact = False  # run as `trace` does: it brings constants to the meta device

    @contextmanager
    def open(self) -> Iterator[None]:
        """Prepare the model for forwards; what it prints is dropped, as it has printed it once."""
        if self._rehearsal is not None:
            yield
            return
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            rehearsing(self.built.model, on_meta=self._on_meta) as rehearsal,
        ):
            self._rehearsal = rehearsal
            try:
                yield
            finally:
                self._rehearsal = None

    def seconds(self) -> float:
        """Seconds since the start; without data, of one core: other processes do not count."""
        return self._clock() - self._begin

    def spent(self) -> float:
        """Share of the allowance that is used up."""
        calls = self._rehearsal.calls if self._rehearsal else 0
        counted = (calls + _OVERHEAD * self._forwards) / self._calls
        return max(counted, self._time_spent())

    def _time_spent(self) -> float:
        """Share of the time that is used up when the next forward has run."""
        waited = (time.monotonic() - self._since) / _WALL  # for other processes, or a forward's own
        return (max(self.seconds(), waited) + self._last) / self._seconds

    def runs(self, inputs: Inputs) -> bool:
        """Return True if a forward on these inputs runs."""
        if self._exact:
            return self.error(inputs) is None
        if inputs not in self._ran:
            self._forwards += 1
            begin = self.seconds()
            self._ran[inputs] = self._run(inputs)
            self._last = self.seconds() - begin
        return self._ran[inputs]

    def _run(self, inputs: Inputs) -> bool:
        try:
            self.built.accept(inputs)
            arguments = self.built.arguments(inputs)
            with self.built.running():
                self._opened().run(arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  whatever it raises, it does not run
            return False
        return True

    def error(self, inputs: Inputs) -> CnnscopeError | None:
        """Return the error of a forward on these inputs; None if it runs."""
        if inputs not in self._errors:
            self._forwards += 1
            self._errors[inputs] = self._traced(inputs)
        return self._errors[inputs]

    def error_with(
        self, layer: nn.Module, other: nn.Module, inputs: Inputs
    ) -> CnnscopeError | None:
        """Return the error of a forward with another module in a layer's place; None if it runs."""
        self._forwards += 1
        with standing_in(self.built.model, layer, other) as model:
            return self._traced(inputs, model)

    def _traced(self, inputs: Inputs, model: nn.Module | None = None) -> CnnscopeError | None:
        try:
            self.built.accept(inputs)
            arguments = self.built.arguments(inputs)
            with self.built.running():
                trace(model or self.built.model, *arguments, source=self.built.source)
        except CnnscopeError as error:
            return error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  SystemExit, for one
            return ModelError(f"forward raised {said(error)}")
        return None

    def renew(self, share: float) -> None:
        """Allow as much again as a share of the whole, from now on, where that may be."""
        if self._renewable:
            self._calls += int(self._calls * share)
            self._seconds = self.seconds() + self._seconds * share

    @property
    def late(self) -> bool:
        """True if another forward may not fit the time."""
        return self.seconds() + self._last >= self._seconds

    @property
    def cut(self) -> str:
        """Limit that ended a search for sizes: "3 s", "5000 calls of modules"; "" if none did."""
        if self.spent() < _FOR_SIZES:
            return ""
        by_time = self._time_spent() >= _FOR_SIZES
        return f"{self.allowed:g} s" if by_time else f"{self._calls} calls of modules"

    def be_exact(self) -> None:
        """Run every forward as `trace` runs it."""
        self._exact = True

    def _opened(self) -> Rehearsal:
        assert self._rehearsal is not None  # noqa: S101  for the type checker
        return self._rehearsal


def sizes_of(
    built: Built, inputs: Inputs, traced: Trace, seconds: float = SECONDS
) -> tuple[SmallestInput, ...]:
    """The sizes of its input that a model works on which has just been traced on `inputs`.

    Args:
        built: the model.
        inputs: what it was traced on.
        traced: its trace.
        seconds: how long the search may last, about; further axes have as much again.
    """
    found = positions.positions(traced)
    if found is None:
        first = inputs.tensors[0] if inputs.tensors else TensorSpec(())
        sequence = len(first.shape) == _SEQUENCE or (len(first.shape) > 1 and "int" in first.dtype)
        if not sequence:
            return ()
        found = positions.Positions(0, (1,))
    return smallest_inputs(Trials(built, seconds), inputs, found)


class Axes(NamedTuple):
    """Dimensions that are varied together, as counted from the right, and their names."""

    dims: tuple[int, ...]
    names: tuple[str, ...]


def smallest_inputs(
    trials: Trials,
    inputs: Inputs,
    where: positions.Positions,
    *,
    seeds: Sequence[int] = (),
    known: bool = True,
) -> tuple[SmallestInput, ...]:
    """The sizes that a model works on: squares (or the one axis) first, then single axes.

    Single axes are only tried where squares do not tell all: where the input is no square, none
    works, or the smallest square can be cut along one axis and not along the other.

    Args:
        trials: of the model.
        inputs: what it was traced on, or failed on.
        where: the input whose positions are varied, and which of its dimensions they are.
        seeds: sides that are likely to work, beside those of `inputs`.
        known: whether it runs on `inputs`.
    """
    with trials.open():
        if known and not trials.runs(inputs):
            trials.be_exact()
        took = trials.seconds()
        if known and took > trials.allowed / 2:
            return (SmallestInput(None, 1, unclear=_too_slow(took, trials.allowed)),)
        searches = _Searches(trials, inputs, where, seeds, known=known)
        return tuple(searches.all())


def _too_slow(took: float, allowed: float) -> str:
    """Explain why no size was tried, and how long a search of some 20 forwards would take."""
    more = max(-(-int(20 * took) // 10) * 10, 10)
    return (
        f"a forward takes {took:.1f} s, and the search for sizes has {allowed:g} s; give it "
        f"more seconds, such as {more}"
    )


class _Searches:
    """The searches along the axes of one input."""

    def __init__(
        self,
        trials: Trials,
        inputs: Inputs,
        where: positions.Positions,
        seeds: Sequence[int],
        *,
        known: bool,
    ) -> None:
        self.trials, self.inputs, self.seeds, self.known = trials, inputs, tuple(seeds), known
        self.first = inputs.tensors[where.input].shape
        dims = where.dims[-max(_NAMES) :]
        self.axes = [Axes((d,), (n,)) for d, n in zip(dims, _NAMES[len(dims)], strict=True)]

    def all(self) -> Iterator[SmallestInput]:
        """Squares or the one axis, then single axes where these need other sizes."""
        whole = self._together(self.axes)
        yield whole
        differ = self.known and self._differ(self.axes[-_PLANE:], whole)
        for one in self.axes if differ else self.axes[:-_PLANE]:
            self.trials.renew(_MORE)
            yield self.search(one, (self.first[one.dims[0]],))

    def _together(self, axes: Sequence[Axes]) -> SmallestInput:
        """Sizes of height and width together, or of the one axis there is."""
        dims = tuple(dim for one in axes[-_PLANE:] for dim in one.dims)
        names = tuple(name for one in axes[-_PLANE:] for name in one.names)
        return self.search(Axes(dims, names), self.square_seeds(dims))

    def _nothing_else(self, found: SmallestInput) -> bool:
        """Return True if no size works but the one that was traced."""
        return found.side is None or found.works == ((found.side, found.side),)

    def _differ(self, together: Sequence[Axes], whole: SmallestInput) -> bool:
        """Return True if axes have to be searched one by one."""
        if len(together) < _PLANE:
            return False
        if self._nothing_else(whole):
            return len({self.first[one.dims[0]] for one in together}) > 1
        side, less = whole.side or 1, whole.step or 1
        if side <= less:
            return False
        dims = [one.dims[0] for one in together]
        cut = [{d: side - less if d == shorter else side for d in dims} for shorter in dims]
        return len({self.trials.runs(self.at(wanted)) for wanted in cut}) > 1

    def square_seeds(self, dims: Sequence[int]) -> tuple[int, ...]:
        """Sides to begin with: that of the input first."""
        sides = tuple(dict.fromkeys(self.first[dim] for dim in dims))
        if self.known:
            return (*sides, *self.seeds)
        near = [n * k for k in (32, 16, 8) for s in sides for n in (s // k, s // k + 1) if n]
        return (*self.seeds, *near, *(n + 1 for n in near))

    def at(self, wanted: dict[int, int]) -> Inputs:
        """The inputs with other sizes; inputs whose size follows the first one's follow it."""
        tensors = [self._scaled(t, wanted) for t in self.inputs.tensors]
        return self.inputs.of(tensors)

    def _scaled(self, tensor: TensorSpec, wanted: dict[int, int]) -> TensorSpec:
        """Another size along each dimension on which a tensor is as large as the first."""
        shape = list(tensor.shape)
        for dim, size in wanted.items():
            if len(shape) == len(self.first) and shape[dim] == self.first[dim]:
                shape[dim] = size
        return TensorSpec(tuple(shape), tensor.dtype)

    def search(self, axes: Axes, seeds: Sequence[int]) -> SmallestInput:
        """Try sizes along some axes, the others as they are."""

        def at(size: int) -> Inputs:
            return self.at(dict.fromkeys(axes.dims, size))

        found = self._searched(axes, seeds, at)
        if found.side is not None and self._wrong(found, at):
            self.trials.be_exact()
            self.trials.renew(1)
            found = self._searched(axes, seeds, at)
        return self._explained(found, at) if self.known else found

    def _searched(
        self, axes: Axes, seeds: Sequence[int], at: Callable[[int], Inputs]
    ) -> SmallestInput:
        share = 1 if self.known else _FOR_SIZES
        search = sizes.Search(
            lambda size: self.trials.runs(at(size)),
            lambda: self.trials.spent() / share,
            thorough=self.known,
        )
        search.run(seeds)
        return _described(search, axes)

    def _wrong(self, found: SmallestInput, at: Callable[[int], Inputs]) -> bool:
        """Return True if the tracer disagrees with a bare forward."""
        if self.trials.late and not self.known:
            return False  # that the search was cut is said
        side = found.side or 1
        if self.trials.error(at(side)) is not None:
            return True
        failed = any(low < side <= high + 1 for low, high in found.fails)  # side - 1
        return failed and self.trials.error(at(side - 1)) is None

    def _explained(self, found: SmallestInput, at: Callable[[int], Inputs]) -> SmallestInput:
        """With the layers that break just below the smallest size, and first above it."""
        from msgspec.structs import replace

        if found.side is None:
            return found
        layer, reason = self._why(at, found.side - 1) if found.side > 1 else ("", "")
        above = found.above
        if above is not None:
            above = SizeFailure(above.size, *self._why(at, above.size))
        return replace(found, layer=layer, reason=reason, above=above)

    def _why(self, at: Callable[[int], Inputs], size: int) -> tuple[str, str]:
        error = self.trials.error(at(size))
        return where_and_why(error) if error is not None else ("", "")


def _described(search: sizes.Search, axes: Axes) -> SmallestInput:
    """Make the record of a search."""
    tried, side = search.tried, search.smallest
    rule = sizes.rule(tried)
    failing = [n for n, works in tried.items() if not works and side is not None and n > side]
    at_least = next(n for n in range(1, max(tried) + 2) if tried.get(n) is not False)
    return SmallestInput(
        side,
        at_least,
        axes=axes.names,
        start=rule.start if rule else 1,
        step=rule.step if rule else None,
        offset=rule.offset if rule else 0,
        above=SizeFailure(min(failing), "", "") if failing else None,
        works=sizes.runs(n for n, works in tried.items() if works),
        fails=sizes.runs(n for n, works in tried.items() if not works),
    )


def positions_of(model: nn.Module, inputs: Inputs) -> positions.Positions:
    """The dimensions that a model which did not run slides over: the last ones.

    How many they are is told by its first convolution, else by the rank.
    """
    free = len(inputs.tensors[0].shape) - (0 if inputs.as_list else 1)
    kernels = (getattr(layer, "kernel_size", None) for _, layer in modules_of(model))
    count = next((len(kernel) for kernel in kernels if isinstance(kernel, tuple)), free - 1)
    count = max(1, min(count, free, max(_NAMES)))
    rank = len(inputs.tensors[0].shape)
    return positions.Positions(0, tuple(range(rank - count, rank)))
