"""From the traces of a few batches to the report of `cnnscope fit`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from math import prod

from msgspec.structs import replace

from cnnscope.analysis import measured
from cnnscope.analysis import step as analysis
from cnnscope.analysis.batches import TOP, Batches, with_update
from cnnscope.analysis.gpus import memory_of
from cnnscope.analysis.step import Course, Reserved
from cnnscope.errors import CnnscopeError, NoBlocksError, RequestError
from cnnscope.records.fit import DeviceNeed, FitReport, Fitting, KindBytes
from cnnscope.records.step import AUTO, Amp, Optimizer, Step, StepTrace
from cnnscope.reports.quantity import parse_memory

Trace = Callable[[Step, int | None], StepTrace]
Tell = Callable[..., None]  # (done, total, name)
_FIRST = 4  # batch: one that norms of a batch take
_REAL = 8  # the largest batch of real tensors
_ABOUT = 11  # traces, of a network with blocks
_MANY = 64  # samples
_FEW = 400  # operations of a step whose traces cost next to nothing
_OPTIMIZERS: tuple[Optimizer, ...] = ("momentum", "adam")
_AMPS: tuple[Amp | None, ...] = (None, "bf16")


# ----------------------------------------------------------------------------- what is asked


def memory_asked(memory: str | float | None, gpu: str | None) -> tuple[int, str | None]:
    """The bytes of the device, and its name.

    Args:
        memory: bytes, or a text such as "24GiB" or "24 gb" (powers of 1024, or of 1000).
        gpu: name of one that is known.

    Raises:
        RequestError: neither or both were given, or one cannot be.
    """
    if (memory is None) == (gpu is None):
        raise RequestError("give either --memory, as in --memory 24GiB, or --gpu, as in --gpu t4")
    if gpu is not None:
        name, nbytes = memory_of(str(gpu))
        return nbytes, name
    return parse_memory(memory, "--memory"), None


# -------------------------------------------------------------------------------- the report


def _least(taken: Reserved) -> int:
    return measured.on_gpu(taken, measured.TRAINING).whole[0]


def _most(taken: Reserved) -> int:
    return measured.on_gpu(taken, measured.TRAINING).whole[1]


class _Search:
    """The largest batches of some ways to train one network."""

    def __init__(self, trace: Trace, step: Step, memory: int, tell: Tell) -> None:
        self._trace, self._step, self._memory, self._tell = trace, step, memory, tell
        self._done = 0
        self._made: dict[tuple[Step, int | None], StepTrace] = {}
        self.notes: list[str] = []
        self.batches = Batches(lambda batch: analysis.course(self.made(step, batch)))
        self.fixed: int | None = None  # the only batch that runs

    def made(self, step: Step, batch: int | None) -> StepTrace:
        """The trace of a step; the last ones are kept."""
        if (step, batch) not in self._made:
            about = max(_ABOUT, self._done + 1)
            self._tell(self._done, about, f"a batch of {batch}" if batch else "")
            self._made[step, batch] = self._trace(step, batch)
            self._done += 1
        return self._made[step, batch]

    def begin(self) -> None:
        """Trace the first batch, and learn which batches there are.

        Raises:
            CnnscopeError: no batch trains.
        """
        if self.batches.at(_FIRST):
            if self.made(self._step, _FIRST).trace.device != "meta":
                self.batches.last = _REAL
            return
        made = self.made(self._step, None)  # raises what is wrong with any batch
        shapes = [spec.shape for spec in made.trace.input_specs if spec.shape]
        self.fixed = shapes[0][0] if shapes else 1
        self.batches.add(self.fixed, analysis.course(made))
        self._made[self._step, self.fixed] = made
        self.notes.append(
            f"its batch is fixed: {_FIRST} does not run ({self.batches.refused[_FIRST]})"
        )

    def settle(self, batches: Batches) -> None:
        """Trace a second batch, and find the smallest one where the memory ends near it.

        Of the step that was asked for that is a small one, since what is taken for the batch may be
        a number of time steps; of others it is that at which the memory is expected to end.

        Raises:
            RequestError: operations grow with what is taken for the batch.
        """
        guess = batches.estimate(self._memory, _most)
        own = batches is self.batches
        wanted = 2 * _FIRST if own else max(guess, _FIRST + 1)
        wanted = min(wanted, batches.last, batches.top)
        while not batches.at(wanted) and wanted > _FIRST + 1:
            wanted = max(wanted // 2, _FIRST + 1)
        if own:
            self._refuse_to_grow()
        if guess < 2 * _FIRST and self.batches.smallest == 1:
            self._find_smallest()
        batches.smallest = self.batches.smallest

    def _refuse_to_grow(self) -> None:
        """Refuse a network whose operations are more in a larger batch.

        Raises:
            RequestError: what is taken for the batch is none, or there is a loop over it.
        """
        known = self.batches.known
        few, many = min(known), max(known)
        less, more = known[few].end, known[many].end
        if less < more:
            raise RequestError(
                f"a step has more operations in a larger batch ({less:,} at {few}, {more:,} at "
                f"{many}), as of time steps or of a loop over samples, so that no largest batch is "
                "looked for: cnnscope memory has the step at one size"
            )

    def _find_smallest(self) -> None:
        runs = (one for one in range(1, _FIRST) if self.batches.at(one))
        self.batches.smallest = next(runs, _FIRST)

    def found(self) -> Fitting:
        """The largest batches of the step that was asked for, confirmed by traces."""
        if self.fixed is not None:
            return self._only(self._step, self.batches, self.fixed)
        self.settle(self.batches)
        safe = self.batches.largest(self._memory, _most)
        if safe < _FIRST and self.batches.smallest == 1 and not self.batches.at(1):
            self._find_smallest()
            safe = self.batches.largest(self._memory, _most)
        optimistic = max(safe, self.batches.expected(self._memory, _least))
        return self._row(self._step, self.batches, safe, optimistic)

    def beside(self, step: Step) -> Fitting:
        """The largest batches of another way to train, from traces of two batches."""
        first = self.fixed or _FIRST
        plain = self._plain(step)
        if plain == step:
            tail = None
        else:  # an optimizer does the same after every forward and at every batch
            tail = analysis.course(self.made(replace(step, amp=None, checkpoint=()), first))

        def course(batch: int) -> Course:
            found = analysis.course(self.made(plain, batch))
            return found if tail is None else with_update(found, tail)

        batches = Batches(course, self.batches.smallest, self.batches.last)
        batches.top = self.batches.top
        there = {batch for made, batch in self._made if made == plain and batch is not None}
        for batch in (first, *sorted(there - {first})):
            batches.add(batch, course(batch))
        if self.fixed is not None:
            return self._only(step, batches, first)
        if len(batches.known) == 1:
            self.settle(batches)
        few = len(self.made(plain, first).trace.ops) <= _FEW
        search = batches.largest if few else batches.expected
        safe = search(self._memory, _most)
        return self._row(step, batches, safe, max(safe, batches.expected(self._memory, _least)))

    def _plain(self, step: Step) -> Step:
        """The step whose forward and backward pass another shares: the one asked for, if it is."""
        asked = self._step
        if (asked.amp, asked.checkpoint) == (step.amp, step.checkpoint):
            return asked
        return replace(step, optimizer=_OPTIMIZERS[0])

    def _only(self, step: Step, batches: Batches, batch: int) -> Fitting:
        """The one batch that a model has."""
        taken = batches.takes(batch)
        safe, optimistic = (batch if need(taken) <= self._memory else 0 for need in (_most, _least))
        return self._row(step, batches, safe, optimistic)

    def _row(self, step: Step, batches: Batches, safe: int, optimistic: int) -> Fitting:
        macs = analysis.macs(self.made(self._plain(step), min(batches.known)))
        return Fitting(
            step.optimizer,
            step.amp,
            step.checkpoint,
            safe,
            optimistic,
            self._per_sample(batches, safe),
            macs.recomputed / macs.forward if macs.forward else 0.0,
            tuple(sorted(batches.known)),
            self.fixed is not None or batches.confirmed(safe),
        )

    def _per_sample(self, batches: Batches, safe: int) -> int:
        """Bytes that one sample more takes, over as many as segments of 20 MiB are no matter."""
        if self.fixed is not None:
            return 0
        there = max(safe, _MANY)
        less, more = (_most(batches.takes(batch)) for batch in (there, 2 * there))
        return max(0, more - less) // there

    def need(self, batch: int) -> DeviceNeed:
        """What a batch takes of the device, in the way that was asked for."""
        taken = self.batches.takes(batch)
        return DeviceNeed(batch, _least(taken), _most(taken))


def fit_report(
    trace: Trace, step: Step, memory: int, gpu: str | None, tell: Tell = lambda *_: None
) -> FitReport:
    """The largest batch that fits, and those of other ways to train.

    Args:
        trace: traces a step on a batch (None: the one of the request).
        step: the way that is asked for.
        memory: bytes of the device.
        gpu: its name.
        tell: called with what is done so far, of how much, and what is next.

    Raises:
        CnnscopeError: the model does not train.
    """
    search = _Search(trace, step, memory, tell)
    search.begin()
    found = search.found()
    rows = tuple(_rows(search, step, found))
    batches = search.batches
    shown = found.safe or search.fixed or batches.smallest
    made = search.made(step, _nearest(batches, shown))
    power = 1 << found.safe.bit_length()
    return FitReport(
        source=made.trace.source,
        inputs=made.trace.input_specs,
        device=made.trace.device,
        step=step,
        memory=memory,
        gpu=gpu,
        found=found,
        rows=rows,
        smallest=batches.smallest,
        fixed=search.fixed is not None,
        capped=found.safe >= TOP,
        at=search.need(shown),
        power=search.need(power) if search.fixed is None and power <= batches.top else None,
        kinds=tuple(KindBytes(one.kind, one.at_peak) for one in analysis.by_kind(made)),
        layers=analysis.by_layer(made),
        measured=measured.DEVICE,
        torch=measured.TORCH,
        dtype=_dtype(made),
        notes=(*made.trace.notes, *search.notes, *_notes(search, made, found)),
    )


def _nearest(batches: Batches, wanted: int) -> int:
    """The largest batch that was traced and is no larger than another; else the smallest."""
    return max((one for one in batches.known if one <= wanted), default=min(batches.known))


def _dtype(made: StepTrace) -> str:
    """The type of the first parameter with floating-point numbers."""
    trace = made.trace
    types = (trace.tensors[one.tensor].dtype for one in trace.params if not one.buffer)
    return next((one for one in types if "float" in one), "")


def _rows(search: _Search, step: Step, found: Fitting) -> Iterator[Fitting]:
    """The way to train that was asked for, and the others."""
    yield found
    failed: dict[tuple[str, ...], str] = {}
    blocks = step.checkpoint or (AUTO,)
    for amp, checkpoint, optimizer in itertools.product(_AMPS, ((), blocks), _OPTIMIZERS):
        way = replace(step, optimizer=optimizer, amp=amp, checkpoint=checkpoint)
        if way == step or checkpoint in failed:
            continue
        try:
            yield search.beside(way)
        except NoBlocksError:
            failed[checkpoint] = (
                "no block of the network repeats, so that nothing is checkpointed here; name "
                "modules, as in --checkpoint layer1,layer2"
            )
        except CnnscopeError as error:
            failed[checkpoint] = f"ways to train are left out: {error}"
    search.notes += failed.values()


def _notes(search: _Search, made: StepTrace, found: Fitting) -> Iterator[str]:
    """Sentences about the largest batch."""
    refused: Mapping[int, str] = search.batches.refused
    for batch in (found.safe + 1, found.optimistic + 1):
        if batch in refused and search.fixed is None:
            yield f"a batch of {batch:,} does not run: {refused[batch]}"
            break
    if made.trace.device != "meta":
        yield (
            "it runs on real data, so that no batch larger than "
            f"{search.batches.last} was traced: the largest is extrapolated"
        )
    batch = _nearest(search.batches, found.safe)
    largest = max((prod(one.shape) for one in made.trace.tensors), default=0)
    if found.safe and largest > TOP:
        yield (
            f"its largest tensor has {largest:,} elements there, and some kernels of CUDA index "
            f"with 32 bits: up to a batch of {TOP * batch // largest:,} none has more"
        )
