"""One function for each command: from a model to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnscope.api.reports import Report
from cnnscope.api.traces import (
    Build,
    Given,
    asked,
    built,
    copied,
    ended,
    made_of,
    no_module,
    no_sizes,
    reporting,
    stepped,
    stepping,
    store,
    traced,
)
from cnnscope.deadline import Deadline, checked
from cnnscope.errors import ModelError, RequestError
from cnnscope.models.request import Request, several
from cnnscope.models.spelling import NotPlainError, parse_input
from cnnscope.records.rf import EffectiveReport as EffectiveRecord
from cnnscope.records.rf import FieldReport, UnitReport, VerifyReport
from cnnscope.records.trace import Trace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cnnscope.api.document import Document
    from cnnscope.api.picture import Figure
    from cnnscope.api.traces import Cache, Model
    from cnnscope.records.bench import BenchReport
    from cnnscope.records.catalogue import ListReport
    from cnnscope.records.check import CheckAllReport, CheckReport
    from cnnscope.records.checkpoint import CheckpointReport
    from cnnscope.records.comparable import Comparable
    from cnnscope.records.diff import DiffReport
    from cnnscope.records.explain import ExplainReport, ModelExplanation
    from cnnscope.records.fit import FitReport
    from cnnscope.records.memory import MemoryReport
    from cnnscope.records.stack import StackReport
    from cnnscope.records.stages import StagesReport
    from cnnscope.records.summary import ModelReport
    from cnnscope.records.sweep import SweepReport
    from cnnscope.timing.loop import Progress as Standing
    from cnnscope.timing.runner import Network

Progress = Callable[..., None]  # (done, total, name="")
Tell = Callable[[str], None]
_KEPT = 256 * 2**20  # bytes of a saved run


def _unheard(*_: object) -> None:
    """Ignore progress where the caller gave no callback."""


# ------------------------------------------------------------------------------- inspect


def summary(
    model: Model,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Report[ModelReport]:
    """Layers, output shapes, parameters, MACs, memory and receptive fields of a model.

    Args:
        model: a name ("resnet18", "net.py:Net"), a module of your own, a `Request` or a `Trace`.
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`.
        kwargs: inputs that forward takes by keyword.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model: "float16", "bfloat16", ...
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed to build or to run; where its forward raised, `report` is a
            report of what ran before, and `trace` what it is made of.
    """
    from cnnscope.reports.summary import report

    build = Build(arguments, num_classes, batch_size, dtype)
    return Report(report(traced(asked(model, inputs, kwargs, build), cache)))


def checkpoint(path: str | Path) -> Report[CheckpointReport]:
    """List the weights in a checkpoint file by key; nothing in it is executed.

    Args:
        path: of a file that `torch.save` wrote of a state dict, or of a safetensors file.

    Raises:
        RequestError: it cannot be read, or is no such file.
    """
    from cnnscope.reports.checkpoint import checkpoint_report

    return Report(checkpoint_report(str(path)))


def rf(
    model: Model,
    layer: str | None = None,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    unit: Sequence[int] | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Report[FieldReport] | Report[UnitReport]:
    """Receptive fields of all layers, or which pixels one unit of a layer sees.

    Args:
        model: a name, a module of your own, a `Request` or a `Trace`.
        layer: dotted path of one layer, such as "layer2.0"; left out, all.
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`.
        kwargs: inputs that forward takes by keyword.
        unit: place in the layer's output, counted from 0 (row, column); the centre one if left out.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: the request cannot be carried out; there is no such layer or unit.
        ModelError: the model failed.
    """
    from cnnscope.reports.rf import field_report, unit_report

    if layer is None and unit is not None:
        raise RequestError("unit: name a layer as well")
    build = Build(arguments, num_classes, batch_size, dtype)
    trace = ended(traced(asked(model, inputs, kwargs, build, layer), cache), layer)
    if layer is None:
        return Report(field_report(trace))
    return Report(unit_report(trace, layer, unit))


def verify_rf(
    model: Model,
    layer: str | None = None,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    every: bool = False,
    seconds: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
    progress: Progress = _unheard,
    tell: Tell = _unheard,
) -> Report[VerifyReport]:
    """Computed receptive fields beside those measured by gradient.

    Args:
        model: a name, a `Request`, or a module of your own, of which a copy is measured.
        layer: dotted path of the only layer; left out, the last one of every different field.
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`.
        kwargs: inputs that forward takes by keyword.
        every: measure each layer that has a field.
        seconds: after which nothing more is measured; left out, no limit.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.
        progress: called with what is done and how much there is.
        tell: called beforehand with a sentence about what may take long.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed.
    """
    from cnnscope.reports.verify import verify

    checked(seconds)
    build = Build(arguments, num_classes, batch_size, dtype)
    wanted = asked(model, inputs, kwargs, build, layer)
    trace = ended(traced(wanted, cache))
    with built(wanted, trace) as module:
        return Report(
            verify(
                trace, module, layer, every=every, deadline=Deadline(seconds),
                progress=progress, tell=tell,
            )
        )  # fmt: skip


class EffectiveReport(Report[EffectiveRecord], frozen=True):
    """Effective receptive fields, and what they were measured from.

    Attributes:
        maps: for each layer, the mean gradient of the unit by the input's pixels as nested lists
            over the axes, 1 at most; None where a layer has no such unit.
        unit: what the unit of the only layer sees; None where several layers were measured.
    """

    maps: tuple[Any, ...] = ()
    unit: UnitReport | None = None


def effective(
    model: Model,
    layer: str | None = None,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    unit: Sequence[int] | None = None,
    samples: int = 20,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
    progress: Progress = _unheard,
) -> EffectiveReport:
    """Effective receptive fields: where the gradient of a unit really is (Luo et al. 2016).

    Args:
        model: a name or `Request`, which gets random weights, or a module of your own, which keeps
            its weights (a copy of it is measured, on the CPU).
        layer: dotted path of the only layer; left out, the last one of every different field.
        inputs: sizes, such as "3x224x224", and dicts and lists of them: see `trace`.
        kwargs: inputs that forward takes by keyword.
        unit: place in the layer's output, counted from 0; the centre one if left out.
        samples: random inputs that are averaged.
        seed: of random weights and inputs.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of the trace of a named model; gradients are measured in float32.
        cache: read and keep traces of published models; or in which store.
        progress: called with what is done and how much there is.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed.
    """
    from cnnscope.reports import effective as measured
    from cnnscope.reports.rf import unit_report

    build = Build(arguments, num_classes, batch_size, dtype)
    wanted = asked(model, inputs, kwargs, build, layer)
    trace = ended(traced(wanted, cache))
    seen = None if layer is None else unit_report(trace, layer, unit)
    with _with_weights(wanted, trace, seed) as module:
        found = measured.effective(
            trace, module, layer, unit=unit, samples=samples, seed=seed, progress=progress
        )
    return EffectiveReport(found.report, maps=found.maps, unit=seen)


def _with_weights(
    wanted: Request | Trace | Given, trace: Trace, seed: int
) -> AbstractContextManager[Any]:
    """The module whose gradients are measured, with weights, on the CPU."""
    from msgspec.structs import replace

    from cnnscope.reports.effective import check_memory

    check_memory(trace)
    real = replace(wanted, dtype=None) if isinstance(wanted, Request) else wanted
    return built(real, trace, seed)


def explain(
    model: Model,
    layer: str | None = None,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    seconds: float | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Report[ExplainReport] | Report[ModelExplanation]:
    """Derive each number of a layer; without a layer, the model in words and numbers.

    Args:
        model: a name, a module of your own, a `Request` or a `Trace`.
        layer: dotted path, or a glob such as "features.*".
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`.
        kwargs: inputs that forward takes by keyword.
        seconds: that sizes of the input of a named model are tried for; without a layer alone.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: the request cannot be carried out, or no layer is called so.
        ModelError: the model failed.
    """
    from cnnscope.reports.explain import explain_layers, explain_model
    from cnnscope.reports.summary import report

    build = Build(arguments, num_classes, batch_size, dtype)
    wanted = asked(model, inputs, kwargs, build, layer)
    if seconds is not None and (layer is not None or not isinstance(wanted, Request)):
        raise RequestError("seconds: only for a named model, and without a layer")
    if layer is not None:
        return Report(explain_layers(ended(traced(wanted, cache), layer), layer))
    if isinstance(wanted, Request):
        from cnnscope.cache import requests

        with reporting():
            trace, sizes = requests.examined(wanted, store(cache), checked(seconds))
    else:
        trace, sizes = ended(traced(wanted, cache)), ()
    return Report(explain_model(trace, report(trace).totals, sizes))


def memory(
    model: Model,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    train: bool = True,
    optimizer: str = "sgd",
    form: str = "foreach",
    loss: str = "sum",
    accumulate: bool = False,
    amp: str | None = None,
    checkpoint: str | Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Report[MemoryReport]:
    """Memory of a training step: its peak, and which kinds of tensors and layers own it.

    Args:
        model: a name, a module of your own or a `Request`; for inference a `Trace` as well.
        inputs: sizes, such as "3x224x224", and dicts and lists of them: see `trace`.
        kwargs: inputs that forward takes by keyword.
        train: a training step; False for a forward without gradients.
        optimizer: "sgd", "momentum", "adam", "adamw" or "rmsprop".
        form: "loop", "foreach" or "fused": how the optimizer goes over the parameters.
        loss: "sum", "mean", "mse", "l1", "bce" or "cross-entropy" of the outputs.
        accumulate: gradients of earlier batches are there when the step begins.
        amp: "bf16" or "fp16": what `torch.autocast` computes in on CUDA.
        checkpoint: modules whose forward runs again in the backward pass, by paths and patterns,
            in a list or with commas; or "auto" for the blocks that repeat, beside which the report
            has a few choices of them.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: the request cannot be carried out, or the model cannot be trained so.
        ModelError: the model failed.
    """
    from cnnscope.reports.memory import frontier, memory_report, step_of

    step = step_of(optimizer, form, loss, accumulate=accumulate, amp=amp, checkpoint=checkpoint)
    build = Build(arguments, num_classes, batch_size, dtype)
    wanted = asked(model, inputs, kwargs, build)
    if not train:
        if step != step_of():
            raise RequestError(
                "train=False: inference has no optimizer, form, loss, accumulate, amp or checkpoint"
            )
        return Report(memory_report(ended(traced(wanted, cache))))
    with stepping(wanted, cache) as trace:
        made = trace(step, None)
        choices = frontier(made, lambda one: trace(one, None)) if step.proposes else ()
        return Report(memory_report(made, choices))


def fit(
    model: Model,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    memory: str | float | None = None,
    gpu: str | None = None,
    optimizer: str = "momentum",
    form: str = "foreach",
    loss: str = "sum",
    accumulate: bool = False,
    amp: str | None = None,
    checkpoint: str | Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
    progress: Progress = _unheard,
) -> Report[FitReport]:
    """Find the largest batch whose training step fits into a GPU's memory, in several ways.

    Args:
        model: a name, a module of your own or a `Request`.
        inputs: sizes, such as "3x224x224", and dicts and lists of them: see `trace`. Their batch
            is of no account.
        kwargs: inputs that forward takes by keyword.
        memory: bytes of the device, or a text such as "24GiB".
        gpu: name of a device in place of its memory, such as "rtx4090".
        optimizer: "sgd", "momentum", "adam", "adamw" or "rmsprop".
        form: "loop", "foreach" or "fused": how the optimizer goes over the parameters.
        loss: "sum", "mean", "mse", "l1", "bce" or "cross-entropy" of the outputs.
        accumulate: gradients of earlier batches are there when the step begins.
        amp: "bf16" or "fp16": what `torch.autocast` computes in on CUDA.
        checkpoint: modules whose forward runs again in the backward pass: see `memory`.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.
        progress: called with what is done, how much there is, and what is next.

    Raises:
        RequestError: the request cannot be carried out, or the model cannot be trained so.
        ModelError: the model failed.
    """
    from cnnscope.reports.fit import fit_report, memory_asked
    from cnnscope.reports.memory import step_of

    step = step_of(optimizer, form, loss, accumulate=accumulate, amp=amp, checkpoint=checkpoint)
    nbytes, name = memory_asked(memory, gpu)
    wanted = asked(model, inputs, kwargs, Build(arguments, num_classes, None, dtype))
    with stepping(wanted, cache) as trace:
        return Report(fit_report(trace, step, nbytes, name, progress))


def report(
    model: Model,
    other: Model | None = None,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    train: bool | Mapping[str, Any] = False,
    effective: bool = False,
    bench: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
    command: str = "",
    progress: Progress = _unheard,
) -> Document:
    """One page that shows a network: graph, layers, costs, memory and receptive fields.

    Args:
        model: a name, a module of your own, a `Request` or a `Trace`; the page of a trace that
            ends where the forward raised says why, and has what ran before.
        other: likewise, to compare with; inputs and what builds a model are those of `model`,
            unless it is a `Request` or a `Trace`.
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`.
        kwargs: inputs that forward takes by keyword.
        train: trace a training step as well, and show its memory; with arguments of `memory`, such
            as {"optimizer": "adam"}.
        effective: measure effective receptive fields as well, as `effective` does.
        bench: a file that `cnnscope bench --per-layer --save` wrote, for the times of layers.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.
        command: line that makes the page again, which it shows.
        progress: called with what is measured of fields, and how much there is.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: a model failed.
    """
    from msgspec.structs import replace

    from cnnscope import __version__
    from cnnscope.api.document import Document
    from cnnscope.reports import effective as measured
    from cnnscope.reports.memory import memory_report, step_of
    from cnnscope.reports.page import contents

    build = Build(arguments, num_classes, batch_size, dtype)
    step = step_of(**(train if isinstance(train, Mapping) else {}))
    wanted = [asked(model, inputs, kwargs, build)]
    if other is not None:
        says = isinstance(other, (Request, Trace))
        wanted.append(asked(other, *((), None, Build()) if says else (inputs, kwargs, build)))
    shown = isinstance(model, Trace) and other is None  # even if it is of a forward that raised
    traces = [traced(one, cache) if shown else ended(traced(one, cache)) for one in wanted]
    steps = (
        [memory_report(stepped(one, step, cache)) for one in wanted] if train is not False else []
    )
    saved = None if bench is None else _saved(Path(bench), "--bench")
    times = [] if saved is None or bench is None else [_times(saved, t, bench) for t in traces]
    fields = []
    for one, trace in zip(wanted, traces, strict=True) if effective else ():
        with _with_weights(one, trace, 0) as module:
            fields.append(measured.effective(trace, module, progress=progress))
    made = contents(traces, steps, times, fields)
    return Document(replace(made, command=command, program=__version__))


def figure(
    models: Model | Sequence[Model],
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    style: str | None = None,
    max_width: float | str = "6.75in",
    max_height: float | str = "9in",
    font: str = "sans",
    unfold: bool = False,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Figure:
    """The architecture figure of a paper, made from the trace.

    Args:
        models: a name, a module of your own, a `Request` or a `Trace`; or a list of them, which
            are drawn together.
        inputs: sizes, such as "3x224x224", dicts and lists of them, and what else forward takes:
            see `trace`; of every model that is no `Request` or `Trace`.
        kwargs: inputs that forward takes by keyword.
        style: "lenet" (stacked sheets), "blocks" (boxes in perspective), "graph" (operations with
            shortcuts) or "unet" (an encoder-decoder as a U); left out, the one that suits.
        max_width: greatest width, in points (1/72 inch) or with a unit: "8.5cm", "3.25in".
        max_height: greatest height, likewise; where it is too little, what repeats is drawn once,
            then blocks as a whole, then everything smaller.
        font: "sans", "serif", a family that this machine has, or a font file.
        unfold: draw every repetition, also where one drawn once with its number would do.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: the request cannot be carried out; the style cannot show such a network.
        ModelError: a model failed.
    """
    from cnnscope.api.picture import Figure
    from cnnscope.render.figure import font as named
    from cnnscope.render.figure.units import points
    from cnnscope.reports.figure import contents

    width, height = points(max_width), points(max_height, "--max-height")
    named(font)
    given: Sequence[Any] = models if isinstance(models, (list, tuple)) else [models]
    if not given:
        raise RequestError("models: name at least one")
    build = Build(arguments, num_classes, batch_size, dtype)
    traces = []
    for one in given:
        says = isinstance(one, (Request, Trace))
        wanted = asked(one, *((), None, Build()) if says else (inputs, kwargs, build))
        traces.append(ended(traced(wanted, cache)))
    made = Figure(contents(traces, style, unfold=unfold), width, height, font)
    made.drawn()
    return made


# ------------------------------------------------------------------------------- compare


def diff(before: Model, after: Model, *, cache: Cache = True) -> Report[DiffReport]:
    """Compare two models: layers, cost, memory and receptive field.

    Args:
        before: a name, a module of your own, a `Request` or a `Trace`.
        after: likewise; two requests of one model differ in input or arguments.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: a request cannot be carried out.
        ModelError: a model failed.
    """
    from cnnscope.reports.diff import diff as compare

    return Report(compare(_side("A", before, cache), _side("B", after, cache)))


def stages(models: Sequence[Model], *, cache: Cache = True) -> Report[StagesReport]:
    """The architecture table that papers print, made from the models.

    Args:
        models: of a family, side by side: names, modules of your own, requests or traces.
        cache: read and keep traces of published models; or in which store.

    Raises:
        RequestError: a request cannot be carried out.
        ModelError: a model failed.
    """
    from cnnscope.reports.stages import stages_report

    if isinstance(models, (str, Request, Trace)) or hasattr(models, "forward"):
        one = models if isinstance(models, str) else "resnet18"
        raise RequestError(f"models: give a list, such as [{one!r}]")
    return Report(stages_report([_alone(model, cache) for model in models]))


def stack(
    kernel: int = 7,
    channels: int = 64,
    size: tuple[int, int] | str = (56, 56),
    *,
    custom: Sequence[str] = (),
    bottleneck: int | None = None,
    inception: str | None = None,
    time: bool = False,
    device: str = "cpu",
    seconds: float = 1.0,
    progress: Callable[[Standing], None] = _unheard,
) -> Report[StackReport]:
    """Compare stacks of small kernels with one large kernel of the same receptive field.

    Args:
        kernel: of the one convolution that all is compared with; odd.
        channels: in and out.
        size: height and width of the input, or a text such as "56x56".
        custom: more stacks, such as "3x3,3x3/2,1x1@2C"; `cnnscope stack --help` has the grammar.
        bottleneck: how many times fewer channels a 1x1 - 3x3 - 1x1 has inside; None for none.
        inception: a block of GoogLeNet ("3a" to "5b") to compare with its naive form instead.
        time: measure each on this machine as well, in turns.
        device: where to measure: "cpu", "cuda", "cuda:1", "mps" or "auto".
        seconds: for each stack that is timed.
        progress: called now and then with where the measurement stands.

    Raises:
        RequestError: a stack that cannot be, or a device that is not there.
    """
    from cnnscope.reports.stack import inception_report, stack_report

    if time:
        from cnnscope.timing import runner

        runner.check(runner.Plan((), device=device, seconds=seconds))
    if inception is not None:
        report = inception_report(inception)
    else:
        shape = _size(size) if isinstance(size, str) else size
        report = stack_report(kernel, channels, shape, several(custom), bottleneck)
    if time:
        from cnnscope.timing import stacks  # it needs torch

        report = stacks.timed(report, device, seconds, progress)
    return Report(report)


def sweep(
    model: str,
    inputs: Sequence[Any] = (),
    *,
    arguments: Mapping[str, Any] | None = None,
    batch_sizes: Sequence[int] = (),
    num_classes: int | None = None,
    dtype: str | None = None,
    train: bool = False,
    optimizer: str = "sgd",
    form: str = "foreach",
    loss: str = "sum",
    accumulate: bool = False,
    amp: str | None = None,
    checkpoint: str | Sequence[str] | None = None,
    time: bool = False,
    device: str = "cpu",
    seconds: float = 1.0,
    cache: Cache = True,
    progress: Progress = _unheard,
    measuring: Callable[[Standing], None] = _unheard,
) -> Report[SweepReport]:
    """Costs of a model as a function of its input's size, an argument or the batch size.

    Several of these give every combination. Where one number varies, the powers are fitted by
    which costs grow with it.

    Args:
        model: a name ("resnet18", "net.py:Net").
        inputs: values of the input, one after the other: each what `inputs` of `trace` is, such as
            "3x224x224" or (3, 224, 224); () for the model's own.
        arguments: of the constructor; a list has the values of one, such as
            {"width_mult": [0.5, 1.0]}.
        batch_sizes: values of the batch size.
        num_classes: of the constructor, for all.
        dtype: of weights and inputs, for all.
        train: add the memory of a training step (see `memory`, which has the arguments below).
        optimizer: of that step.
        form: of that optimizer.
        loss: of that step.
        accumulate: gradients of earlier batches are there.
        amp: what autocast computes in.
        checkpoint: modules whose forward runs again.
        time: measure a forward on this machine as well, all in turns.
        device: that is measured on.
        seconds: that each is measured for.
        cache: read and keep traces of published models; or in which store.
        progress: called with how many training steps are done, and how many there are.
        measuring: called now and then with where the measurement stands.

    Raises:
        RequestError: nothing varies, or a value cannot be.
        ModelError: the model runs with none of the values; otherwise its row says why.
    """
    from cnnscope.cache import requests
    from cnnscope.reports import sweep as made

    if not isinstance(model, str):
        raise RequestError('sweep: give the name of a model, such as "resnet18" or "net.py:Net"')
    try:
        wanted = made.choices(model, inputs, arguments or {}, batch_sizes, num_classes, dtype)
    except NotPlainError:
        raise no_sizes() from None
    asked_for = [choice.request for choice in wanted.choices]
    found = requests.several(asked_for, store(cache), made.costs)
    report = made.report(wanted, found)
    if train:
        from cnnscope.reports.memory import step_of

        step = step_of(optimizer, form, loss, accumulate=accumulate, amp=amp, checkpoint=checkpoint)
        trace = partial(stepped, cache=cache)
        report = made.trained(wanted, report, step, trace, progress)
    if not time:
        return Report(report)
    ran = [one for one, row in zip(asked_for, report.rows, strict=True) if not row.failed]
    timing = bench(*ran, device=device, seconds=seconds, progress=measuring).record
    return Report(made.timed(wanted, report, timing))


# ------------------------------------------------------------------------------- measure


def bench(
    *models: Model,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    batch_sizes: Sequence[int] = (),
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    device: str = "auto",
    mode: str = "forward",
    dtype: str | None = None,
    amp: bool = False,
    channels_last: bool = False,
    compile: bool | str = False,  # noqa: A002  as --compile
    threads: int | None = None,
    seconds: float = 5.0,
    per_layer: bool = False,
    against: str | Path | None = None,
    progress: Callable[[Standing], None] = _unheard,
    measured: Callable[[Report[BenchReport]], None] = _unheard,
) -> Report[BenchReport]:
    """Latency and throughput on this machine, with their spread, and what limits them.

    Args:
        models: names, requests, or modules of your own, of which copies are measured; in turns.
        inputs: sizes, such as "3x224x224", for all of them: see `trace`.
        kwargs: inputs by keyword, for all of them.
        batch_sizes: of named models, one after the other; () for the batch of the input.
        arguments: of the constructor of named models.
        num_classes: of the constructor of named models.
        device: "cpu", "cuda", "cuda:1", "mps" or "auto".
        mode: "forward", or "train" for backward and step as well.
        dtype: of weights and inputs, or of autocast with `amp`.
        amp: autocast.
        channels_last: use the channels-last memory format.
        compile: use torch.compile, True or one of its modes.
        threads: of the CPU; left out, torch's choice.
        seconds: for each model and batch size.
        per_layer: time every layer as well, one at a time.
        against: a file that `to_json` of another run was written to, to compare with.
        progress: called now and then with where the measurement stands.
        measured: called with the report as soon as it is made, even if nothing of it compares.

    Raises:
        RequestError: it cannot be carried out on this machine.
        ModelError: a model failed.
        KeyboardInterrupt: before there was anything to keep.
    """
    from cnnscope.timing import runner

    build = Build(arguments, num_classes)
    plan = runner.Plan(
        models=tuple(_measurable(asked(model, inputs, kwargs, build)) for model in models),
        device=device,
        batches=tuple(batch_sizes),
        mode=mode,
        dtype=dtype,
        amp=amp,
        channels_last=channels_last,
        compile=compile if isinstance(compile, str) else "default" if compile else None,
        threads=threads,
        seconds=seconds,
        per_layer=per_layer,
    )
    if not plan.models:
        raise RequestError("bench: name a model")
    if plan.batches and any(isinstance(one, runner.Network) for one in plan.models):
        raise RequestError("batch_sizes: only for a named model; a module's batch is its inputs'")
    runner.check(plan)
    saved = None if against is None else _saved(Path(against))
    if saved is not None:
        runner.check_saved(plan, saved, str(against))
    with reporting():
        report = runner.bench(plan, progress)
    try:
        if saved is not None:
            report = runner.with_saved(report, saved, str(against))
    finally:
        measured(Report(report))
    return Report(report)


def check(
    model: str | Request,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    train: bool = False,
    optimizer: str | None = None,
    seconds: float | None = None,
    tell: Tell = _unheard,
) -> Report[CheckReport]:
    """The figures beside those of other counters, published ones and a real forward.

    Args:
        model: a name or a `Request`.
        inputs: sizes, such as "3x224x224", and dicts and lists of them: see `trace`.
        kwargs: inputs that forward takes by keyword.
        arguments: of the model's constructor.
        num_classes: of the model's constructor.
        batch_size: N of every input.
        dtype: of weights and inputs.
        train: check a training step too, in a real one on the CPU: its peak of living tensors by
            torch's profiler and its MemTracker, its MACs by FlopCounterMode.
        optimizer: of that step, see `memory`; None for "sgd".
        seconds: after which no further counter is begun.
        tell: called beforehand with a sentence about what may take long.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed.
    """
    from cnnscope.reports.check import check as judge
    from cnnscope.reports.memory import step_of

    wanted = asked(model, inputs, kwargs, Build(arguments, num_classes, batch_size, dtype))
    if not isinstance(wanted, Request):
        raise RequestError("check: builds the model several times: give its name")
    if optimizer is not None and not train:
        raise RequestError("--optimizer: is of a training step, which --train checks")
    step = step_of(optimizer or "sgd") if train else None
    with reporting():
        return Report(judge(wanted, seconds=checked(seconds), tell=tell, step=step))


def check_all(
    source: str = "torchvision", *, cache: Cache = True, progress: Progress = _unheard
) -> Report[CheckAllReport]:
    """Check every model of a library; what was checked is kept, so that it may be interrupted.

    Args:
        source: the library.
        cache: read and keep reports; or in which store.
        progress: called with what is done, how much there is, and the name of the model.

    Raises:
        RequestError: a process was killed.
    """
    from cnnscope.reports import check as checking

    total, made = checking.check_all(source, store(cache))
    found: list[checking.Made] = []
    progress(0, total)
    for one in made:
        found.append(one)
        progress(len(found), total, one[0])
    return Report(checking.summary(source, found))


# -------------------------------------------------------------------------------- manage


def list_models(
    pattern: str = "*",
    *,
    sources: Sequence[str] = (),
    task: str = "",
    family: str = "",
    max_params: float | str | None = None,
    min_params: float | str | None = None,
    max_macs: float | str | None = None,
    max_activation: float | str | None = None,
    min_rf: float | str | None = None,
    min_acc: float | str | None = None,
    sort: str | None = None,
    pareto: str | None = None,
    cache: Cache = True,
    progress: Progress = _unheard,
) -> Report[ListReport]:
    """Every model that can be named: parameters, MACs, memory, field, published accuracy.

    Args:
        pattern: part of a name, or all of it with * and ?.
        sources: libraries, of "torchvision", "classic" and "timm"; left out, the first two.
        task: such as "classification", "detection", "segmentation", "video".
        family: such as "resnet".
        max_params: the most parameters, such as 10e6 or "10M".
        min_params: the fewest parameters.
        max_macs: the most MACs, such as "1.5G".
        max_activation: the most bytes at the peak of activations, such as "50MiB".
        min_rf: the smallest receptive field of the output, in pixels.
        min_acc: the lowest published top-1 accuracy, in percent.
        sort: largest first, by "params", "macs", "activations", "field", "layers" or "acc".
        pareto: mark what no other model beats, as in "params:acc".
        cache: read and keep what is listed; or in which store.
        progress: called with what is done, how much there is, and the name of the model.

    Raises:
        RequestError: an argument cannot be, or no model is like that.
    """
    from cnnscope.reports import catalogue

    wanted = catalogue.wanted(
        pattern,
        several(sources),
        task,
        family,
        {
            "--max-params": max_params,
            "--max-macs": max_macs,
            "--max-activation": max_activation,
            "--min-params": min_params,
            "--min-rf": min_rf,
            "--min-acc": min_acc,
        },
    )
    order = catalogue.Order.of(sort, pareto)
    kept = store(cache)
    models = catalogue.names(wanted, kept)
    listed = []
    progress(0, len(models))
    for one in catalogue.cards(models, kept):
        listed.append(one)
        progress(len(listed), len(models), one.name)
    return Report(catalogue.chosen(listed, wanted, order))


# ------------------------------------------------------------------------------- helpers


def _size(text: str) -> tuple[int, int]:
    """Height and width of "56x56" or "56"."""
    from cnnscope.text import printable

    parsed = parse_input(text)
    if len(parsed.sizes) > 2 or parsed.dtype is not None:
        raise RequestError(f"--input {printable(text)!r}: give HxW; channels come from --channels")
    return parsed.sizes[0], parsed.sizes[-1]


def _side(name: str, model: Model, cache: Cache) -> Comparable:
    """One side of a comparison, which an error of its forward names."""
    from cnnscope.records.comparable import Comparable

    try:
        wanted = asked(model, (), None, Build())
        return made_of(wanted, "comparable", Comparable, _comparable, cache)
    except ModelError as error:
        error.args = (f"{name}: {error}",)
        raise


def _comparable(trace: Trace) -> Comparable:
    from cnnscope.reports.comparable import comparable  # and the operation table

    return comparable(ended(trace))


def _alone(model: Model, cache: Cache) -> Trace:
    """The trace of a model on its own input."""
    return ended(traced(asked(model, (), None, Build()), cache))


def _measurable(model: Request | Trace | Given) -> Request | Network:
    """A model as `bench` builds it."""
    from cnnscope.timing.runner import Network

    if isinstance(model, Request):
        return model
    if isinstance(model, Trace):
        raise no_module()
    trace = traced(model, False)
    return Network(model.name, trace, lambda: copied(model, trace))


def _saved(path: Path, option: str = "--against") -> BenchReport:
    """A run that was saved.

    Raises:
        RequestError: the file cannot be read, or is none.
    """
    from cnnscope.files import read_regular, why
    from cnnscope.timing import compare

    try:
        data = read_regular(path, _KEPT)
    except (OSError, ValueError) as error:
        raise RequestError(f"{option} {path}: cannot be read ({why(error)})") from error
    return compare.read(data, str(path), option)


def _times(saved: BenchReport, trace: Trace, path: str | Path) -> dict[tuple[str, int], float]:
    """Times of the layers of a model in a run that was saved, by path and call.

    Raises:
        RequestError: none were measured on this input.
    """
    for run in saved.runs:
        if run.layers and run.source.name == trace.source.name and run.inputs == trace.input_specs:
            return {(one.path, one.call): one.median_ns for one in run.layers}
    raise RequestError(
        f"--bench {path}: has no times of the layers of {trace.source.name} on this input; measure "
        f"them: cnnscope bench {trace.source.spec} --per-layer --save {path}"
    )
