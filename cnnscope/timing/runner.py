"""From what was asked to a `BenchReport`: build, warm up, measure in turns, say what limits it.

The one question that needs the real model on the real device. What is known without one is
read from the trace, before anything is allocated.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from cnnscope.analysis import layers as analysis
from cnnscope.deadline import checked
from cnnscope.errors import RequestError
from cnnscope.models.files import archive
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.models.spelling import DTYPES, FLOATS
from cnnscope.records.bench import (
    COMPILE_MODES,
    BenchReport,
    BenchRun,
    BenchSettings,
    Ceilings,
    Launch,
    LayerTime,
)
from cnnscope.records.trace import Trace
from cnnscope.text import printable
from cnnscope.timing import compare, devices, layers, loop, machine, room, stats, warnings, work
from cnnscope.timing.loop import Progress, Report
from cnnscope.timing.timers import CudaTimer, HostTimer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cnnscope.timing.programs import Prepared, RealModel

MODES = ("forward", "train")
_COMPILED = 256  # torch's own limit of all recompilations of one function


@dataclass(frozen=True)
class Network:
    """A network that no specification names: its trace, and what makes it, with weights."""

    name: str
    trace: Trace
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class Plan:
    """A plan of measurements. `batches` is empty for the batch of the input."""

    models: tuple[Request | Network, ...]
    device: str = "auto"
    batches: tuple[int, ...] = ()
    mode: str = "forward"
    dtype: str | None = None
    amp: bool = False
    channels_last: bool = False
    compile: str | None = None
    threads: int | None = None
    seconds: float = 5.0
    per_layer: bool = False
    ceilings: bool = True  # measure the machine's as well
    smaller: str = "--batch-size, --input or --dtype"  # what to lower where memory runs out


def check(plan: Plan) -> None:
    """Refuse what cannot be, before torch is imported.

    Raises:
        RequestError: an option has a value that it cannot have, or would have no effect.
    """
    devices.check(plan.device)
    if plan.mode not in MODES:
        raise RequestError(f"--mode {printable(plan.mode)!r}: use forward or train")
    if plan.dtype is not None and DTYPES.get(plan.dtype) not in FLOATS:
        raise RequestError(f"--dtype {printable(plan.dtype)!r}: use one of {', '.join(FLOATS)}")
    if plan.amp and DTYPES.get(plan.dtype or "") in ("float32", "float64"):
        raise RequestError("--amp: casts to float16 or bfloat16; leave --dtype out, or name one")
    if plan.compile is not None and plan.compile not in COMPILE_MODES:
        raise RequestError(
            f"--compile {printable(plan.compile)!r}: use one of {', '.join(COMPILE_MODES)}"
        )
    if plan.threads is not None and not 0 < plan.threads <= 1024:
        raise RequestError(f"--threads {plan.threads}: must be between 1 and 1024")
    checked(plan.seconds)
    if plan.per_layer:
        _check_per_layer(plan)
    _check_graphs(plan)


def _check_per_layer(plan: Plan) -> None:
    for given, option, reason in (
        (bool(plan.compile), "--compile", "a compiler fuses the layers"),
        (plan.mode == "train", "--mode train", "backward does not run layer by layer"),
        (plan.amp, "--amp", "casts between layers belong to none of them"),
    ):
        if given:
            raise RequestError(f"--per-layer with {option}: {reason}; leave one of them out")


def _check_graphs(plan: Plan) -> None:
    """Refuse what an ONNX file has not, which onnxruntime runs as it is."""
    graphs = (
        one.name for one in plan.models
        if isinstance(one, Request) and not one.model.source and archive.is_onnx(one.model.name)
    )  # fmt: skip
    name = next(graphs, "")
    for given, option in (
        (plan.mode == "train", "--mode train"),
        (bool(plan.compile), "--compile"),
        (plan.amp, "--amp"),
        (plan.dtype is not None, "--dtype"),
        (plan.channels_last, "--channels-last"),
        (plan.per_layer, "--per-layer"),
    ):
        if name and given:
            raise RequestError(
                f"{printable(name)} with {option}: onnxruntime runs the file as it is; leave "
                f"{option} out, or name the code that it was exported from"
            )


def bench(plan: Plan, report: Report = lambda _: None) -> BenchReport:
    """Measure, and keep what was measured if memory runs out or the user interrupts.

    Args:
        plan: what is wanted; see `check`.
        report: called now and then, outside of what is timed, with where things stand.

    Raises:
        RequestError: it cannot be carried out on this machine.
        ModelError: a model failed.
        KeyboardInterrupt: before there was anything to keep.
    """
    check(plan)
    with _threads(plan.threads):
        return _Bench(plan, report).report()


def with_saved(report: BenchReport, saved: BenchReport, name: str) -> BenchReport:
    """The report, compared with one that was saved.

    Raises:
        RequestError: the two have nothing in common.
    """
    found = compare.against(report, saved, name)
    compared = {c.run for c in found}
    notes = [
        f"{run.label} at batch {run.batch} is not in {printable(name)}: it is not compared with it"
        for index, run in enumerate(report.runs)
        if index not in compared
    ]
    return replace(
        report,
        comparisons=(*report.comparisons, *found),
        notes=(*report.notes, *notes),
    )


def check_saved(plan: Plan, saved: BenchReport, name: str) -> None:
    """Refuse a saved run with which nothing will be in common, before anything is measured.

    Raises:
        RequestError: nothing will be.
    """
    compare.expect(_labels(plan.models), plan.batches, saved, name)


def too_slow(report: BenchReport, limit: float) -> bool:
    """Return True if a comparison is slower beyond doubt, by more than `limit` (0.05)."""
    return compare.too_slow(report.comparisons, limit)


class _Bench:
    """One plan, carried out."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan, self.tell = plan, report
        self.device = devices.resolve(plan.device)
        self.settings = _settings(plan, self.device)
        devices.check_dtype(self.device, self.settings.amp or self.settings.dtype)
        self.timer = _timer(self.device)
        self.environment = machine.environment(self.device)
        self.labels = _labels(plan.models)
        self.models: list[RealModel] = []
        self.ceilings: Ceilings | None = None
        self.runs: list[BenchRun] = []
        self.notes: list[str] = []
        self.interrupted = False

    def report(self) -> BenchReport:
        try:
            with _current(self.device), _compiling(self.settings):
                self._sweep()
        except KeyboardInterrupt:
            if not self.runs:
                raise
            self.interrupted = True
        finally:
            for model in reversed(self.models):
                model.close()
        return BenchReport(
            runs=tuple(warnings.of_ceilings(run, self.ceilings) for run in self.runs),
            comparisons=compare.interleaved(self.runs) if len(self.labels) > 1 else (),
            environment=self.environment,
            ceilings=self.ceilings,
            interrupted=self.interrupted,
            notes=tuple(dict.fromkeys(self.notes)),  # each batch size may have the same
        )

    # -- the sweep

    def _sweep(self) -> None:
        from cnnscope.timing.programs import OutOfMemory

        for batch in self.plan.batches or (None,):
            before = len(self.runs)
            at = f"batch {batch}: " if batch is not None else ""
            try:
                self._batch(batch)
            except OutOfMemory as error:
                if not self.runs:
                    raise RequestError(f"{at}{error}; use a smaller {self.plan.smaller}") from error
                what = f"stopped at batch {batch}"
                if len(self.runs) > before:
                    what = f"{at}what follows the rounds is left out"
                self.notes.append(f"{what}: {error}")
                return
            if self.interrupted:
                return

    def _batch(self, batch: int | None) -> None:
        """Measure all models at one batch size, in turns."""
        self._say(f"tracing {', '.join(self.labels)}", batch)
        traces = [self._trace(index, batch) for index in range(len(self.labels))]
        for model in self.models:
            model.release()
        room.check_fit(self.device, self.settings, self.labels, traces, len(self.models))
        self._build()
        prepared = []
        for label, model, trace in zip(self.labels, self.models, traces, strict=True):
            self._say(f"warming up {label}", batch)
            model.release()
            prepared.append(model.program(label, trace, self.timer, self.plan.seconds))
        programs = [p.program for p in prepared]
        room.check_growth(self.device, prepared, self.plan.seconds)
        interrupted = False
        waiting = _Waiting(self.settings.threads)
        try:
            self._measure(programs, batch)
        except KeyboardInterrupt:
            if not all(p.rounds for p in programs):
                raise
            interrupted = True
        waited = waiting.share()
        for index, trace in enumerate(traces):
            self._add(index, trace, prepared[index], waited)
        if not interrupted:
            self._measure_ceilings(len(traces))
            self._look_closer(traces, prepared)
        self.interrupted = interrupted

    def _measure(self, programs: list[loop.Program], batch: int | None) -> None:
        from cnnscope.timing.programs import translated

        at = f", batch {batch}" if batch is not None else ""

        def tell(progress: Progress) -> None:
            self.tell(progress._replace(what=f"measuring {progress.what}{at}"))

        with translated(", ".join(self.labels), self.settings), self.models[0].grad_mode():
            loop.measure(programs, self.timer, self.plan.seconds, tell)

    def _add(self, index: int, trace: Trace, prepared: Prepared, waited: float | None) -> None:
        """Turn what was measured into a record."""
        program, watched = prepared.program, prepared.watched
        run = BenchRun(
            label=self.labels[index],
            source=trace.source,
            inputs=trace.input_specs,
            batch=_batch_of(trace),
            settings=self.settings,
            first_call_ns=program.first_ns,
            warmup_ns=program.warmup_ns,
            warmup_calls=program.warmup_calls,
            samples_ns=tuple(map(tuple, program.rounds)),
            walls_ns=tuple(program.walls),
            statistics=stats.describe([ns for samples in program.rounds for ns in samples]),
            work=work.work(trace, self.settings),
            memory=prepared.memory,
            waited=waited,
            computed=watched.macs if watched is not None and watched.whole else None,
            kept=watched.kept if watched is not None else 0,
        )
        self.runs.append(warnings.of_run(run, self.environment))

    def _measure_ceilings(self, count: int) -> None:
        """Measure the machine's ceilings, after the first runs: what it allocates is not theirs.

        Where one of the last `count` runs is above them they are measured again, and the higher
        are kept.
        """
        if self.ceilings is not None or not self.plan.ceilings:
            return
        self._say("measuring this machine's ceilings", None)
        self.ceilings = found = self._ceilings()
        runs = [run for run in self.runs[-count:] if not work.is_other(run)]
        if found is not None and any(work.above(run, found) for run in runs):
            again = self._ceilings()
            self.ceilings = found if again is None else work.higher(found, again)

    def _ceilings(self) -> Ceilings | None:
        try:
            return machine.ceilings(self.device, self.settings.amp or self.settings.dtype)
        except (RuntimeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:120]
            self.notes.append(f"the machine's ceilings could not be measured ({reason})")
            return None

    def _look_closer(self, traces: Sequence[Trace], prepared: Sequence[Prepared]) -> None:
        """Measure launches on CUDA, and single layers if requested, after the rounds."""
        first = len(self.runs) - len(traces)
        for index, (trace, one) in enumerate(zip(traces, prepared, strict=True)):
            with self.models[index].grad_mode(), self._translated(index):
                if not self.environment.gpu_clocks:
                    clocks = machine.gpu_clocks(self.device, one.program.step)
                    self.environment = replace(self.environment, gpu_clocks=clocks)
                launch = self._launch(index, one.program.step)
                timed = self._layers(index, trace, one) if self.plan.per_layer else ()
            run = replace(self.runs[first + index], launch=launch, layers=timed)
            self.runs[first + index] = warnings.of_run(run, self.environment)

    def _launch(self, index: int, step: loop.Step) -> Launch | None:
        found: Launch | None = self.timer.launch(step)
        if found is None and self.device.type == "cuda":
            self.notes.append(
                f"{self.labels[index]}: whether it is launch-bound is not known, as the host waits "
                "for the device within an iteration: for a number that it reads, or as it has "
                "more to launch than the device's queue holds (about a thousand kernels)"
            )
        return found

    def _translated(self, index: int) -> AbstractContextManager[None]:
        from cnnscope.timing.programs import translated

        return translated(self.plan.models[index].name, self.settings)

    def _layers(self, index: int, trace: Trace, prepared: Prepared) -> tuple[LayerTime, ...]:
        model = self.models[index]
        self._say(f"timing the layers of {self.labels[index]}", None)
        rows = work.leaves(analysis.rows(trace))
        wanted = frozenset(rows)
        found = layers.time_layers(
            model.model, prepared.inputs, wanted, self.timer, self.plan.seconds
        )
        return layers.layer_times(trace, rows, found, self.ceilings)

    # -- what it needs

    def _trace(self, index: int, batch: int | None) -> Trace:
        model = self.plan.models[index]
        if isinstance(model, Network):
            return model.trace
        return trace_spec(replace(model, batch_size=batch, dtype=self._dtype))

    @property
    def _dtype(self) -> str | None:
        """Of weights and inputs, where it is not what models have anyway."""
        return None if self.settings.dtype == "float32" else self.settings.dtype

    def _build(self) -> None:
        from cnnscope.timing.programs import RealModel

        for index in range(len(self.models), len(self.labels)):
            model = self.plan.models[index]
            self._say(f"building {self.labels[index]} on {self.device}", None)
            if isinstance(model, Request):
                model = replace(model, dtype=self._dtype)
            self.models.append(RealModel(model, self.settings, self.device))
            runtime = getattr(self.models[-1].model, "runtime", "")
            if runtime:
                self.notes.append(f"{self.labels[index]} is run by {runtime}")

    def _say(self, what: str, batch: int | None) -> None:
        self.tell(Progress(what if batch is None else f"{what}, batch {batch}", 0, -1))


def _timer(device: torch.device) -> Any:
    import torch

    if device.type == "cuda":
        return CudaTimer(cast("Any", torch.cuda))
    return HostTimer(torch.mps.synchronize if device.type == "mps" else None)


def _current(device: torch.device) -> AbstractContextManager[None]:
    """Make a CUDA device the current one: events and synchronisation are its own."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _settings(plan: Plan, device: torch.device) -> BenchSettings:
    import torch

    dtype = DTYPES[plan.dtype] if plan.dtype else "float32"
    amp = ""
    if plan.amp:
        default = str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")
        amp, dtype = (dtype if plan.dtype else default), "float32"
    return BenchSettings(
        device=str(device),
        mode=plan.mode,
        dtype=dtype,
        amp=amp,
        channels_last=plan.channels_last,
        compile=plan.compile or "",
        threads=torch.get_num_threads(),
        seconds=plan.seconds,
    )


def _labels(models: Sequence[Request | Network]) -> list[str]:
    """The models' names; the second of the same name is `name #2`."""
    seen: Counter[str] = Counter()
    labels = []
    for model in models:
        name = model.name
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return labels


def _batch_of(trace: Trace) -> int:
    """Images in one iteration."""
    specs = trace.input_specs
    return len(specs) if trace.given.as_list else (specs[0].shape or (1,))[0] if specs else 1


class _Waiting:
    """Share of the time since its creation in which threads waited for a core."""

    def __init__(self, threads: int) -> None:
        self.threads, self.before = threads, machine.waited_ns()
        self.begin = time.perf_counter_ns()

    def share(self) -> float | None:
        """Of the time of all threads; None where the system does not say."""
        spent, now = time.perf_counter_ns() - self.begin, machine.waited_ns()
        if self.before is None or now is None:
            return None
        return max(now - self.before, 0) / (self.threads * max(spent, 1))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads within an operation, and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _compiling(settings: BenchSettings) -> Iterator[None]:
    """Every batch and model is compiled; torch would run what comes after the eighth as it is."""
    if not settings.compile:
        yield
        return
    from torch._dynamo import config

    with config.patch(recompile_limit=max(config.recompile_limit, _COMPILED)):
        yield
