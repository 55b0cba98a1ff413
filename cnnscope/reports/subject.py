"""Ask other people's counters about a model that was traced, built again for them.

Each gets the same model and inputs as the trace: without data where it can, else real ones, if
there is memory for them. A counter that cannot be run says why, and is no agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from cnnscope import parallel
from cnnscope.analysis import memory, params
from cnnscope.analysis import step as analysis
from cnnscope.deadline import Deadline
from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.measure import counters, onnx_nodes
from cnnscope.measure.counters import blank, inference, quiet
from cnnscope.measure.training import RealStep, optimizer_of
from cnnscope.models.failures import asks_for_data
from cnnscope.models.files.onnx import wire
from cnnscope.models.find import ONNX
from cnnscope.models.inputs import make_inputs, real_inputs
from cnnscope.models.ladder import Rung
from cnnscope.records.check import Count
from cnnscope.records.step import StepTrace
from cnnscope.records.trace import Trace
from cnnscope.text import printable, said
from cnnscope.tracing.arguments import Arguments
from cnnscope.tracing.autocast import autocast_on_meta
from cnnscope.tracing.isolation import seeded
from cnnscope.tracing.modes import states_on_meta

if TYPE_CHECKING:
    from cnnscope.models.build import Built

_BASE = 0.5 * 2**30  # bytes that a forward needs beside its tensors: kernels and their workspaces
_T = TypeVar("_T")
_Ask = Callable[[Any, Arguments], _T]  # about a model and its inputs


class Subject:
    """A traced model that is built again, without weights and with."""

    def __init__(
        self, trace: Trace, build: Callable[[Rung], Built], memory_share: float = 1.0
    ) -> None:
        """Take a model to be counted.

        Args:
            trace: of the model.
            build: builds the model on a rung.
            memory_share: how much of the free memory may be used.
        """
        self.trace, self.build, self.memory_share = trace, build, memory_share

    def counts(self, deadline: Deadline | None = None) -> Iterator[Count]:
        """The answers of all counters.

        Args:
            deadline: after which no further counter is asked.
        """
        each: tuple[tuple[list[Count], Callable[[], Iterable[Count]]], ...] = (
            ([blank("numel", "parameters")], lambda: [counters.numel(self._real.model)]),
            (
                [blank("torchinfo", figure) for figure in ("parameters", "MACs")],
                lambda: self._as_traced_or_real(counters.torchinfo),
            ),
            (
                [blank("fvcore", "parameters")],
                lambda: [counters.fvcore_parameters(self._real.model)],
            ),
            ([blank("fvcore", "MACs"), blank("forward", "shapes")], self._fvcore_and_forward),
            (
                [blank("flop counter", "MACs")],
                lambda: [self._as_traced_or_real(counters.flop_counter)],
            ),
            *([([blank("onnx-tool", "MACs")], self._onnx_tool)] if self._is_onnx else []),
        )
        for blanks, ask in each:
            if deadline and deadline.over:
                yield from [replace(c, failed=deadline.reason) for c in blanks]
            else:
                yield from _answers(blanks, ask)

    def _fvcore_and_forward(self) -> Iterator[Count]:
        """One forward for both: it takes long. Where fvcore cannot trace it, it runs again."""
        calls = counters.Calls()

        def traced() -> Iterator[Count]:
            with calls.of(self._real.model):
                yield self._on_real(counters.fvcore_macs)

        def ran() -> Iterator[Count]:
            calls.clear()
            with calls.of(self._real.model):
                self._on_real(lambda model, inputs: inputs.call(model))
            yield calls.shapes()

        (counted,) = _answers([blank("fvcore", "MACs")], traced)
        yield counted
        if counted.failed or counted.needs:
            yield from _answers([blank("forward", "shapes")], ran)
        else:
            yield calls.shapes()

    # -- the file that it is

    @property
    def _is_onnx(self) -> bool:
        return self.trace.source.source == ONNX

    def _onnx_tool(self) -> Iterator[Count]:
        """The answer of onnx-tool, which gets the graph alone and a process of its own.

        Raises:
            RequestError: it is not installed, or the process was killed.
        """
        if find_spec("onnx_tool") is None:
            raise RequestError("it is not installed: pip install onnx-tool")
        count = blank("onnx-tool", "MACs")
        content = wire.read(self.trace.source.name).SerializeToString()
        item = (content, [spec.shape for spec in self.trace.input_specs])
        try:
            (found,) = parallel.each(onnx_nodes.limited, [item], 1)
        except BrokenProcessPool:
            raise RequestError("its process was killed, for lack of memory or of time") from None
        if isinstance(found, str):
            yield replace(count, failed=found)
        else:
            yield replace(count, value=found[0], evidence=found[1])

    # -- the model as it was traced

    def _as_traced_or_real(self, ask: _Ask[_T]) -> _T:
        """The answer of the model as it was traced.

        Where that fails, as for a model that makes constants on the CPU, it is asked on real
        tensors.
        """
        if self.trace.device != "meta":
            return self._on_real(ask)
        with suppress(Exception), self._on_meta(self._rung) as (model, inputs):
            return ask(model, inputs)
        return self._on_real(ask)

    @contextmanager
    def _on_meta(self, rung: Rung) -> Iterator[tuple[Any, Arguments]]:
        """The model and its inputs without data, on one of the rungs that have none."""
        built = self.build(rung)
        with built.running(), inference(), states_on_meta(), autocast_on_meta():
            inputs = make_inputs(self.trace.given)
            with seeded():
                yield built.model, inputs

    @cached_property
    def _rung(self) -> Rung:
        """The first rung on which its forward does not ask for data."""
        try:
            with self._on_meta(Rung.META) as (model, inputs):
                inputs.call(model)
        except Exception as error:  # noqa: BLE001  any other is met again by who asks
            if asks_for_data(error):
                return Rung.VALUES
        return Rung.META

    # -- the model with random weights

    def _on_real(self, ask: _Ask[_T]) -> _T:
        """The answer of the model on real tensors: random inputs, the same every time.

        Raises:
            _TooLargeError: there is not enough memory.
        """
        with inference(), seeded():
            inputs = real_inputs(self.trace.given)
        with inference(), seeded(), self._real.running():
            return ask(self._real.model, inputs)

    @cached_property
    def _real(self) -> Built:
        """The model with random weights.

        Raises:
            _TooLargeError: there is not enough memory.
        """
        weights = params.nbytes(self.trace) + params.nbytes(self.trace, buffers=True)
        needed = int(weights + 2 * memory.peak(self.trace).nbytes + _BASE)
        _require_memory(needed, self.memory_share)
        return self.build(Rung.REAL)


STEP = (  # what measures a training step, and which figure
    ("flop counter", "step MACs", counters.step_macs),
    ("allocations", "step bytes", counters.step_allocations),
    ("MemTracker", "step bytes", counters.step_tracked),
)


class Trained:
    """A training step that was traced, of a model that is built again and trained for real.

    Args:
        made: the step.
        build: builds the model on a rung.
        memory_share: how much of the free memory may be used.
    """

    def __init__(
        self, made: StepTrace, build: Callable[[Rung], Built], memory_share: float = 1.0
    ) -> None:
        self.made, self.build, self.memory_share = made, build, memory_share

    def counts(self, deadline: Deadline | None = None) -> Iterator[Count]:
        """What each instrument measures.

        Args:
            deadline: after which no further one is asked.
        """
        for counter, figure, ask in STEP:
            count = blank(counter, figure)
            if deadline and deadline.over:
                yield replace(count, failed=deadline.reason)
            else:
                yield from _answers([count], lambda ask=ask: [self._asked(ask)])  # type: ignore[misc]

    def _asked(self, ask: Callable[[RealStep], Count]) -> Count:
        with quiet(), seeded(), self._built.running():
            return ask(self._real)

    @cached_property
    def _real(self) -> RealStep:
        """A step on random inputs."""
        model, inputs = self._built.model, real_inputs(self.made.trace.given)
        return RealStep(model, inputs, optimizer_of(model, self.made.step))

    @cached_property
    def _built(self) -> Built:
        """The model with random weights.

        Raises:
            _TooLargeError: there is not enough memory.
        """
        _require_memory(int(2 * analysis.peak(self.made).nbytes + _BASE), self.memory_share)
        return self.build(Rung.REAL)


def _require_memory(needed: int, share: float) -> None:
    """Check that a share of the free memory is enough.

    Raises:
        _TooLargeError: it is not.
    """
    free = parallel.free_memory()
    if free is not None and needed > free * share:
        raise _TooLargeError(needed)


class _TooLargeError(Exception):
    """A model that needs more memory than there is."""

    def __init__(self, needed: int) -> None:
        super().__init__()
        self.needed = needed


def _answers(blanks: Sequence[Count], ask: Callable[[], Iterable[Count]]) -> list[Count]:
    """Run a counter; if it fails, its figures carry the reason.

    Args:
        blanks: each figure that it has, without a value.
        ask: gives them with their values.
    """
    try:
        return list(ask())
    except _TooLargeError as error:
        return [replace(count, needs=error.needed) for count in blanks]
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it raises, it has no answer
        return [replace(count, failed=_described(error)) for count in blanks]


def _described(error: BaseException) -> str:
    """Describe in one line why a counter failed, by the first exception of the chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, CnnscopeError):
        return printable(str(error), 200)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    return said(error, 200)
