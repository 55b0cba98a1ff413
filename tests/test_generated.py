"""Generated networks: every number of ours against an oracle that shares nothing with it.

`pytest -m slow tests/test_generated.py` runs 20,000. A network that fails is printed as a recipe,
which `networks.build` takes, and as the module that it makes.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import hypothesis
import msgspec
import networks
import pytest
import torch
from differences import diff
from hypothesis import HealthCheck, Phase, given, settings
from live_memory import live, live_step
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import cnnscope
from cnnscope.analysis import positions, receptive_field
from cnnscope.analysis import shapes as shapes_by_formula
from cnnscope.analysis.step import peak
from cnnscope.errors import ModelError, RequestError
from cnnscope.ops import table
from cnnscope.records.summary import Field, ModelReport
from cnnscope.records.trace import Trace
from cnnscope.render import drawing
from cnnscope.render.tree import Options
from cnnscope.reports.summary import report
from cnnscope.tracing.recorder import ForwardError
from cnnscope.tracing.step import trace_step

pytestmark = pytest.mark.broad

Shapes = list[tuple[int, ...]]


# ---------------------------------------------------------------------------- a real forward


class Called(NamedTuple):
    """A call of a module, as its hooks saw it."""

    path: str
    inputs: Shapes
    outputs: Shapes


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def shapes(value: Any) -> Shapes:
    return [tuple(t.shape) for t in tensors(value)]


@contextmanager
def inference() -> Iterator[None]:
    """As models are counted: no gradients, products as products and not in a fused kernel."""
    unfused = torch.backends.mkldnn.flags(enabled=False)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), unfused:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def random_inputs(built: networks.Built) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator) for shape in built.shapes]


def called(module: nn.Module, inputs: list[Tensor]) -> list[Called]:
    """Every call of every module in a real forward, in the order in which they began."""
    paths = {part: path for path, part in module.named_modules()}
    calls: list[Called] = []
    running: list[Called] = []

    def begin(part: nn.Module, args: Any, kwargs: Any) -> None:
        running.append(Called(paths[part], shapes([args, kwargs]), []))
        calls.append(running[-1])

    def end(part: nn.Module, args: Any, output: Any) -> None:
        running.pop().outputs.extend(shapes(output))

    with inference(), hooked(module, begin, end, with_kwargs=True):
        module(*inputs)
    return calls


@contextmanager
def hooked(module: nn.Module, begin: Any, end: Any, **how: Any) -> Iterator[None]:
    """Hooks before and after every call; what computes a weight is a part of its layer."""
    parts = [m for path, m in module.named_modules() if ".parametrizations." not in f".{path}."]
    handles = [part.register_forward_pre_hook(begin, **how) for part in parts]
    handles += [part.register_forward_hook(end) for part in parts]
    yield
    for handle in handles:
        handle.remove()


# ----------------------------------------------------------------------------------- oracles


def check_shapes(built: networks.Built, trace: Trace) -> None:
    """Every module call has the shapes of a real forward."""

    def of(ids: tuple[int, ...]) -> Shapes:
        return [trace.tensors[t].shape for t in ids]

    ours = [Called(trace.modules[c.module].path, of(c.inputs), of(c.outputs)) for c in trace.calls]
    assert ours == called(built.module, random_inputs(built))


def check_parameters(built: networks.Built, answer: ModelReport) -> None:
    """Elements of distinct parameters and buffers; those that ran are in the rows."""
    totals, parameters = answer.totals, list(built.module.parameters())
    assert totals.params == sum(p.numel() for p in parameters)
    assert totals.trainable_params == sum(p.numel() for p in parameters if p.requires_grad)
    assert totals.param_bytes == sum(p.nbytes for p in parameters)
    assert totals.buffers == sum(b.numel() for b in built.module.buffers())
    assert totals.buffer_bytes == sum(b.nbytes for b in built.module.buffers())
    assert answer.layers[0].params + totals.unused_params == totals.params
    assert totals.unused_params == sum(p.numel() for p in unread(built))


def unread(built: networks.Built) -> list[nn.Parameter]:
    """Parameters that a real forward could do without."""
    module = built.module
    read: set[int] = set()

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            read.update(t.untyped_storage().data_ptr() for t in tensors([args, kwargs or {}]))
            return func(*args, **(kwargs or {}))

    with inference(), Reads():
        module(*random_inputs(built))
    return [p for p in module.parameters() if p.untyped_storage().data_ptr() not in read]


def check_macs(built: networks.Built, trace: Trace, answer: ModelReport) -> None:
    """Half of what torch's own counter counts, which leaves out functions of a matrix."""
    with inference(), FlopCounterMode(display=False, custom_mapping=_VECTORS) as counter:
        built.module(*random_inputs(built))
    alone = sum(table.macs(trace, op) for op in trace.ops if "linalg" in op.name)
    assert 2 * (answer.totals.macs - alone) == counter.get_total_flops()
    assert answer.totals.flops == 2 * answer.totals.macs


# a product with a vector, which torch's counter leaves out: two for each of the matrix's elements
_VECTORS = {
    torch.ops.aten.mv: lambda matrix, *_, **__: 2 * math.prod(matrix),
    torch.ops.aten.dot: lambda vector, *_, **__: 2 * math.prod(vector),
    torch.ops.aten.vdot: lambda vector, *_, **__: 2 * math.prod(vector),
}


def check_memory(built: networks.Built, answer: ModelReport) -> None:
    """The peak is what a real forward keeps alive at once."""
    inputs = random_inputs(built)
    assert answer.totals.input_bytes == sum(t.nbytes for t in inputs)
    real = report(cnnscope.trace(built.module, random_inputs(built)))
    assert real.totals.macs == answer.totals.macs
    assert [r.output_shapes for r in real.layers if r.kind == "module"] == [
        r.output_shapes for r in answer.layers if r.kind == "module"
    ]
    if not any(isinstance(part, nn.LSTM) for part in built.module.modules()):
        # which oneDNN runs as one kernel
        on_cpu = live(built.module, *inputs).peak
        assert answer.totals.peak_activation_bytes == on_cpu
        assert real.totals.peak_activation_bytes == on_cpu


def check_floor_formula(trace: Trace, answer: ModelReport) -> None:
    """Every layer that slides has the shape that its hyper-parameters give, and says why."""
    assert not answer.mismatches
    for row in answer.layers:
        slides = row.kind == "module" and row.operation.startswith(_SLIDING)
        assert row.expected_output is not None or not slides, row.path
    for call in trace.calls:
        slide = shapes_by_formula.of_module(trace.modules[call.module])
        if slide is None or slide.form == "transposed":
            continue
        before, after = (trace.tensors[ids[0]].shape for ids in (call.inputs, call.outputs))
        for axis, size in enumerate(after[2:]):
            text = shapes_by_formula.formula(slide, before, axis)
            sum_, equals, result = text.partition(" = ")
            assert equals
            assert int(result) == size
            if slide.form != "adaptive":
                assert eval(sum_, {"floor": math.floor, "ceil": math.ceil}) == size


_SLIDING = ("Conv", "MaxPool", "AvgPool", "LPPool", "Adaptive")


class Poisoned(TorchDispatchMode):
    """Interpolates by what has a weight: a product of NaN and zero would be NaN as well."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "upsample" in func.name() and ("linear" in func.name() or "cubic" in func.name()):
            seen = args[0].isnan().double()
            weight = func(seen * (0.5 + torch.rand_like(seen)), *args[1:], **(kwargs or {}))
            result = func(args[0].nan_to_num(), *args[1:], **(kwargs or {}))
            result[weight.abs() > 1e-9] = torch.nan
        return result


def poisoned(built: networks.Built, axis: int, pixel: int | None) -> list[Tensor | None]:
    """Where the first output of every module call is NaN if the input is at `pixel` of `axis`.

    It is the first image, of several: fields are about one of them. None stands for no pixel: a
    maximum over padding alone is infinite, and soon NaN by itself.
    """
    module, inputs = built.module, random_inputs(built)
    image = next(tensor for tensor in inputs if tensor.dim() > 2)
    sizes = image.shape[2:]
    if pixel is not None:
        image.select(2 + axis, pixel).fill_(torch.nan)
    places: list[Tensor | None] = []
    running: list[int] = []

    def begin(part: nn.Module, args: Any) -> None:
        running.append(len(places))
        places.append(None)

    def end(part: nn.Module, args: Any, output: Any) -> None:
        at, first = running.pop(), next(tensors(output))
        if isinstance(part, _IN_PLACES) and first.dim() == 2 + len(sizes):
            places[at] = first.isnan()

    plain = torch.backends.nnpack.flags(enabled=False)  # it transforms tiles, where NaN spreads
    with inference(), plain, hooked(module, begin, end), Poisoned():
        module(*inputs)
    return places


_IN_PLACES = (  # their outputs are N, C and the axes in order
    networks.Do, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm,
    nn.Upsample, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd,
)  # fmt: skip

COUNTS: Counter[str] = Counter()


def check_fields(built: networks.Built, trace: Trace) -> None:
    """NaN at one place of the input comes out where units see it, and nowhere else."""
    fields = receptive_field.fields(trace)
    sizes = next(shape for shape in built.shapes if len(shape) > 2)[2:]
    seen = [fields[call.outputs[0]] if call.outputs else None for call in trace.calls]
    if any(place is not None and place.any() for place in poisoned(built, 0, None)):
        COUNTS["not finite"] += 1
        return
    reached = poisoned(built, 0, 0)
    for field, place in zip(seen, reached, strict=True):
        if place is not None and field is not None:
            COUNTS["unknown" if field.unknown else "known"] += 1
    if all(field is None or field.unknown for field in seen):
        return
    found = positions.positions(trace)
    if found is None or found.dims != tuple(range(2, 2 + len(sizes))):
        COUNTS["elsewhere"] += 1  # they are about channels, over which a layer slides first
        return
    exact = not drops_channels(trace) and not masks(trace) and not pads_one_position(trace)
    for axis, size in enumerate(sizes):
        for pixel in {0, size // 3, size - 1}:
            places = reached if (axis, pixel) == (0, 0) else poisoned(built, axis, pixel)
            for call, field, place in zip(trace.calls, seen, places, strict=True):
                if place is not None:
                    path = trace.modules[call.module].path
                    what = f"{path}: axis {axis}, pixel {pixel}"
                    check_field(field, place, axis, pixel, what, exact=exact)


def drops_channels(trace: Trace) -> bool:
    """Return True if some channels are left out or written, and get the field of the others."""
    picks = ("slice", "select", "index", "narrow", "split", "chunk", "write_window", "gather")
    return any(
        op.name.split(".")[1].startswith(picks)
        and (op.attributes.get("dim", 0) == 1 or "dim" not in op.attributes)
        for op in trace.ops
    )


def masks(trace: Trace) -> bool:
    """Return True if some elements are written over or sorted; no trace knows which."""
    return any(op.name.split(".")[1] in _MASKS for op in trace.ops)


_MASKS = ("where", "masked_fill", "masked_fill_", "index_fill", "index_fill_", "sort")


def pads_one_position(trace: Trace) -> bool:
    """Return True if units beside a single position, which is not followed, may see nothing."""
    return any(
        1 in trace.tensors[t].shape[2:]
        for op in trace.ops
        if any(op.attributes.get("padding") or ()) or op.attributes.get("transposed")
        for t in op.inputs.values()
        if isinstance(t, int)
    )


def check_field(
    field: Field | None, place: Tensor, axis: int, pixel: int, what: str, *, exact: bool
) -> None:
    """One output: `place` is where it is NaN. Not less than is claimed, if `exact`."""
    if field is None:
        assert not place.any(), what
        return
    if field.unknown or len(field.axes) != place.dim() - 2:
        return
    ours, units = field.axes[axis], field.maps[axis]
    reached = place.movedim(2 + axis, 0).flatten(1).any(1)
    end = pixel in (0, ours.input_size - 1)
    if units is None:
        if ours.clipped[0] == 0:
            assert not reached.any(), what
        elif exact and ours.clipped[0] == ours.input_size and end:
            assert reached.any(), what
        return
    if len(units.lo) != len(reached):
        COUNTS["elsewhere"] += 1
        return
    blind = any(m and all(b < a for a, b in zip(m.lo, m.hi, strict=True)) for m in field.maps)
    exact = exact and not blind  # where one axis sees nothing, neither does another
    whole = ours.size is None and ours.clipped[0] == ours.input_size
    assert not (exact and whole and end) or reached.any(), f"{what} is seen by nobody"
    for unit, (lo, hi) in enumerate(zip(units.lo, units.hi, strict=True)):
        if reached[unit]:
            assert lo <= pixel <= hi or ours.size is None, f"{what}: unit {unit} sees more"
        elif exact and lo <= hi:
            assert pixel not in (lo, hi), f"{what}: unit {unit} does not see [{lo}, {hi}]"


def check_reports(trace: Trace, again: Trace, answer: ModelReport) -> None:
    """A second trace is the same, a diff with itself is empty, and everything is shown."""
    assert msgspec.json.encode(trace) == msgspec.json.encode(again)
    change = diff(trace, again)
    assert not change.differs
    assert {row.status for row in change.rows} == {"same"}
    assert msgspec.json.decode(drawing.write(answer, "json"), type=ModelReport) == answer
    options = Options(everything=True, unfold=True, depth=0)
    assert drawing.write(answer, "table", options=options)


def check_step(recipe: networks.Recipe) -> None:
    """The peak of a training step is that of a real one, or a note says why it is not.

    A network that has nothing to train, or that cannot be trained, is left out.
    """
    built = networks.build(recipe)
    inputs = tuple(torch.empty(shape, device="meta") for shape in built.shapes)
    try:
        made = trace_step(built.module, inputs)
    except (ModelError, RequestError):
        COUNTS["not trained"] += 1
        return
    optimizer = torch.optim.SGD([p for p in built.module.parameters() if p.requires_grad], lr=0.1)
    on_cpu = live_step(built.module.train(), random_inputs(built), optimizer, summed)
    ours = peak(made).nbytes
    if any("not exact" in note for note in made.trace.notes):
        return
    if any("at most" in note for note in made.trace.notes):
        assert ours >= on_cpu
    else:
        assert ours == on_cpu


def summed(result: Any) -> Tensor:
    """The sum of all outputs that take a gradient; of complex ones that of both parts."""
    parts = [t for t in tensors(result) if t.requires_grad]
    real = [torch.view_as_real(t) if t.is_complex() else t for t in parts]
    return sum((t.sum() for t in real[1:]), real[0].sum())


# --------------------------------------------------------------------------------- the tests


def check(recipe: networks.Recipe, *, memory: bool = True) -> None:
    """Hold one network against all oracles, or all but that of memory, which is slow."""
    built = networks.build(recipe)
    inputs = [torch.empty(shape, device="meta") for shape in built.shapes]
    try:
        trace, again = (cnnscope.trace(built.module, inputs) for _ in range(2))
    except ForwardError:
        assert refused_without_data(built.module, inputs)
        COUNTS["refused without data"] += 1
        return
    answer = report(trace)
    assert all("linalg" in op.name for op in answer.unknown), answer.unknown
    check_shapes(built, trace)
    check_parameters(built, answer)
    check_macs(built, trace, answer)
    if memory:
        check_memory(built, answer)
    check_floor_formula(trace, answer)
    check_fields(built, trace)
    check_reports(trace, again, answer)


def refused_without_data(module: nn.Module, inputs: list[Tensor]) -> bool:
    """Return True if torch itself refuses on meta tensors, which it may lay out otherwise."""
    try:
        copy.deepcopy(module).to("meta")(*inputs)
    except RuntimeError as error:
        return "view size is not compatible" in str(error)
    return False


def generated(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


@pytest.fixture(autouse=True)
def _quiet():
    """One thread, which small tensors are faster in; torch warns of what recipes choose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@generated(90)
@given(networks.recipes)
def test_generated_networks_are_counted_as_they_run(recipe):
    told(recipe)


def told(recipe: networks.Recipe) -> None:
    """A check whose failure shows the network."""
    built = networks.build(recipe)
    hypothesis.note(f"{recipe}\n{built.module}\ninputs {built.shapes}")
    check(recipe)


@generated(20)
@given(networks.recipes)
def test_generated_networks_are_trained_in_the_memory_that_is_said(recipe):
    check_step(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_four_thousand_generated_networks_are_trained_in_the_memory_that_is_said(seed):
    @hypothesis.seed(seed)
    @settings(generated(500), derandomize=False)
    @given(networks.recipes)
    def each(recipe):
        built = networks.build(recipe)
        hypothesis.note(f"{recipe}\n{built.module}\ninputs {built.shapes}")
        check_step(recipe)

    each()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_twenty_thousand_generated_networks_are_counted_as_they_run(seed):
    @hypothesis.seed(seed)
    @settings(generated(500), derandomize=False)
    @given(networks.recipes)
    def each(recipe):
        told(recipe)

    each()
