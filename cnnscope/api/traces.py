"""From a model, however it is given, to its trace."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from cnnscope.errors import ModelError, RequestError
from cnnscope.models import spelling
from cnnscope.models.request import Request
from cnnscope.models.spelling import NotPlainError, items
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.records.trace import Trace as TraceRecord

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.cache.store import Store
    from cnnscope.records.comparable import Comparable
    from cnnscope.records.step import Step, StepTrace

    Model = str | os.PathLike[str] | Request | TraceRecord | nn.Module
    Cache = bool | Store  # whether the user's store is read and written; or which one is

Of = TypeVar("Of", TraceRecord, "Comparable")
_IMAGE = 3  # sizes: C, H, W, which get a batch of one


class Trace(TraceRecord, frozen=True):
    """Everything that one forward of a model did, as plain data that can be saved."""

    def save(self, path: str | Path) -> None:
        """Write the trace to a file, whole or not at all.

        Args:
            path: of the file; JSON where it ends in .json, else msgpack, which is smaller.

        Raises:
            RequestError: the file cannot be written.
        """
        import msgspec

        from cnnscope.api.saving import save

        target = Path(path)
        coder = msgspec.json if target.suffix.lower() == ".json" else msgspec.msgpack
        save(path, coder.encode(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a trace that `save` wrote. Nothing of the file is executed.

        Args:
            path: of the file.

        Raises:
            RequestError: it cannot be read, is no trace, is one of another version of cnnscope, or
                contradicts itself.
        """
        from cnnscope.api.saving import load

        return load(path, cls)

    @classmethod
    def of(cls, trace: TraceRecord) -> Self:
        """The trace as one that can be saved."""
        return cls(**{name: getattr(trace, name) for name in trace.__struct_fields__})


# ------------------------------------------------------------------------------ any model


def trace(
    model: Model,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    cache: Cache = True,
) -> Trace:
    """Record one inference forward.

    Args:
        model: what the command line takes ("resnet18", "net.py:Net", "package.module:Net(3)",
            "nn.Conv2d(3, 8, 3)"), or a module of your own, which is left as it was.
        inputs: sizes, such as "3x224x224" or (1, 3, 224, 224), of tensors without data: a sample
            of the first layer (C, H, W) gets a batch of one. Dicts and lists of them, numbers,
            None and bools are given as they are: {"image": (1, 3, 224, 224), "scale": 0.5}. For a
            module, any other arguments of its forward as well; with tensors on the meta device no
            arithmetic is done, wherever the module is. One alone needs no list; several are given
            in a list; a list that is one argument stands in a list. () is a default or a guess.
        kwargs: inputs that forward takes by keyword, each as an item of `inputs`.
        arguments: of a named model's constructor.
        num_classes: of a named model's constructor.
        batch_size: N of every input of a named model.
        dtype: of weights and inputs of a named model: "float16", "bfloat16", ...
        cache: read and keep traces of published models in the user's store, as the command line
            does; or another store.

    A lazy module is traced as a copy that has the widths of its inputs.

    A module that looks at its data is traced with real tensors where only sizes were given, and
    `Trace.device` and `Trace.notes` say so.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed to build or to run.
    """
    build = Build(arguments, num_classes, batch_size, dtype)
    return Trace.of(traced(asked(model, inputs, kwargs, build), cache))


class Build(NamedTuple):
    """Options that build a named model: see `trace`."""

    arguments: Mapping[str, Any] | None = None
    num_classes: int | None = None
    batch_size: int | None = None
    dtype: str | None = None


class Given(NamedTuple):
    """A module that is there already, and arguments of its forward."""

    module: nn.Module
    inputs: Any
    kwargs: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The name of its class."""
        return type(self.module).__name__


def asked(
    model: Model,
    inputs: Any,
    kwargs: Mapping[str, Any] | None,
    build: Build,
    layer: str | None = None,
) -> Request | TraceRecord | Given:
    """Understand the arguments of a function of the interface.

    Args:
        model: a name, a request, a trace or a module.
        inputs: see `trace`.
        kwargs: see `trace`.
        build: how a named model is built.
        layer: dotted path of a layer.

    Raises:
        RequestError: an argument that has no effect on such a model, or that cannot be.
    """
    if not isinstance(layer, (str, type(None))):
        raise RequestError(
            f'layer: give a dotted path, such as "layer2.0", not {type(layer).__name__}; inputs '
            "are given as inputs=..."
        )
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if isinstance(model, (Request, TraceRecord)):
        kind = "request" if isinstance(model, Request) else "trace"
        _refuse(f"the {kind} says it", build, inputs=_gives(inputs), kwargs=bool(kwargs))
        return model
    if isinstance(model, str):
        try:
            return Request.of(model, inputs, *build, kwargs)
        except NotPlainError:
            raise no_sizes() from None
    _check_module(model)
    _refuse("only for a named model; a module of your own is traced as it is", build)
    return Given(model, inputs, kwargs)


@contextmanager
def reporting() -> Iterator[None]:
    """Give the error of a forward that raises in it a report of what ran."""
    try:
        yield
    except ModelError as error:
        if error.trace is not None and error.report is None:
            from cnnscope.api.reports import Report
            from cnnscope.reports.summary import report

            error.trace = Trace.of(error.trace)
            error.report = Report(report(error.trace))
        raise


def traced(model: Request | TraceRecord | Given, cache: Cache) -> TraceRecord:
    """Trace the requested model, or read its trace from the store.

    Raises:
        RequestError: it cannot be carried out.
        ModelError: the model failed; it has a report of what ran before its forward raised.
    """
    if isinstance(model, TraceRecord):
        return model
    with reporting():
        return _traced(model, cache)


def made_of(
    model: Request | TraceRecord | Given,
    what: str,
    kind: type[Of],
    make: Callable[[TraceRecord], Of],
    cache: Cache,
) -> Of:
    """What is made of the trace of the requested model, or read from the store: see `requests`.

    Raises:
        RequestError: it cannot be carried out.
        ModelError: the model failed.
    """
    if not isinstance(model, Request):
        return make(traced(model, cache))
    from cnnscope.cache import requests

    with reporting():
        return requests.made_of(model, store(cache), what, kind, make)


@contextmanager
def stepping(
    model: Request | TraceRecord | Given, cache: Cache
) -> Iterator[Callable[[Step, int | None], StepTrace]]:
    """Yield a function that traces training steps of the requested model.

    Its arguments are the step, and the batch (None for the one that the request means).

    Raises:
        RequestError: it cannot be carried out; a trace alone has no module to train.
        ModelError: the model failed.
    """
    if isinstance(model, TraceRecord):
        raise no_module()
    with reporting():
        if isinstance(model, Request):
            from cnnscope.cache import requests

            with requests.stepping(model, store(cache)) as trace:
                yield trace
            return
        from cnnscope.models import borrowed

        try:
            request = Request.of_module(model.name, model.inputs, model.kwargs)
        except NotPlainError:
            raise RequestError(
                'inputs: for a training step give sizes, such as "3x224x224"'
            ) from None
        with borrowed.stepping(request, model.module) as trace:
            yield trace


def stepped(model: Request | TraceRecord | Given, step: Step, cache: Cache) -> StepTrace:
    """Trace a training step of the requested model, or read its trace from the store.

    Raises:
        RequestError, ModelError: as `stepping`.
    """
    with stepping(model, cache) as trace:
        return trace(step, None)


def ended(trace: TraceRecord, layer: str | None = None) -> TraceRecord:
    """A trace whose forward returned; or one in which a layer came to its end before it raised.

    Args:
        trace: of a model.
        layer: dotted path, or a glob; left out, the forward has to have returned.

    Raises:
        ModelError: the forward raised before that.
    """
    if trace.broken is None:
        return trace
    from fnmatch import fnmatchcase

    from cnnscope.analysis.layers import rows

    if layer is not None:
        named = [row for row in rows(trace) if fnmatchcase(row.path, layer)]
        there = any(fnmatchcase(module.path, layer) for module in trace.modules)
        if all(row.output_shapes and not row.fails for row in named) and (named or not there):
            return trace
    what = f"{layer} had not come to its end" if layer else "the trace has no end"
    error = ModelError(f"{what}: {trace.broken.cause or trace.broken.message}")
    error.trace = trace
    raise error


def _traced(model: Request | Given, cache: Cache) -> TraceRecord:
    if isinstance(model, Request):
        from cnnscope.cache import requests

        return requests.trace(model, store(cache))
    from cnnscope.models import borrowed
    from cnnscope.tracing.arguments import Arguments

    module, given, kwargs = model
    with contextlib.suppress(NotPlainError):
        return borrowed.trace_sizes(Request.of_module(model.name, given, kwargs), module)
    args = tuple(map(_as_argument, items(given)))
    named = {name: _nested(value) for name, value in (kwargs or {}).items()}
    return borrowed.trace_call(module, Arguments(args, named))


def store(cache: Cache) -> Store | None:
    """The store that `cache` stands for: the user's for True, none for False."""
    return open_store() if cache is True else cache or None


def open_store(warn: Callable[[str], None] | None = None) -> Store | None:
    """The user's store; None for a user without a home.

    Args:
        warn: called with a sentence about damage; left out, Python's warnings are.
    """
    from cnnscope.cache.store import Store, default_root

    root = default_root()
    return None if root is None else Store(root, warn or _warn)


def _warn(sentence: str) -> None:
    import warnings

    warnings.warn(sentence, stacklevel=2)


@contextmanager
def built(
    model: Request | TraceRecord | Given, trace: TraceRecord, seed: int | None = None
) -> Iterator[Any]:
    """The `nn.Module` behind a trace, to be run while this lasts; the caller's own is copied.

    Args:
        model: the request, trace or module.
        trace: of it, whose inputs give lazy layers their widths.
        seed: for weights of a named model, on the CPU; left out, the module is on the meta device.
            A module of the caller's keeps its own weights.

    Raises:
        RequestError: a trace alone has no module, or the module cannot be copied.
        ModelError: the model failed to build, or whatever was done with it.
    """
    if isinstance(model, TraceRecord):
        raise no_module()
    if isinstance(model, Request):
        from cnnscope.models import run

        with run.module(model, seed, trace) as module:
            yield module
        return
    from cnnscope.models.build import evaluated
    from cnnscope.tracing import devices, isolation

    place = "meta" if seed is None else "cpu"
    with isolation.alone, devices.following(), devices.at(place):
        yield evaluated(copied(model, trace, place).to(place))


def no_sizes() -> RequestError:
    """The error of tensors for a model that has a name."""
    return RequestError(
        'inputs: for a named model give sizes, such as "3x224x224", and lists and dicts of them'
    )


def no_module() -> RequestError:
    """The refusal to run a trace."""
    return RequestError("a trace has no module to measure: give the model that it was made of")


def copied(given: Given, trace: TraceRecord, place: str = "cpu") -> nn.Module:
    """A copy of the caller's module.

    Args:
        given: the module.
        trace: of it, whose inputs give lazy layers their widths.
        place: "cpu" or "meta", where a copy that is lazy learns them, and is.

    Raises:
        RequestError: the module cannot be copied.
    """
    import copy

    from cnnscope.models import forward
    from cnnscope.models.inputs import make_inputs, of_dtype

    try:
        made = copy.deepcopy(given.module)
    except Exception as error:
        raise forward.not_copied(given.name, error) from error
    if not forward.is_lazy(made):
        return made
    arguments = make_inputs(of_dtype(trace.given, "float32"), place)
    return forward.widened(forward.lazy_copy(made, place), arguments)


def _refuse(reason: str, build: Build | None = None, **given: bool) -> None:
    """Refuse arguments that have no effect.

    Raises:
        RequestError: one of them was given.
    """
    built = build._asdict() if build else {}
    for name, value in (given | {key: one is not None for key, one in built.items()}).items():
        if value:
            raise RequestError(f"{name}: {reason}")


def _gives(inputs: Any) -> bool:
    """Return True if inputs are given."""
    return bool(inputs) if isinstance(inputs, (list, tuple)) else inputs is not None


def _as_argument(value: Any) -> Any:
    """Sizes beside tensors are tensors without data; three sizes get a batch of one."""
    if isinstance(value, (list, tuple, dict)):
        try:
            form, tensors, _ = spelling.asked([value])
        except NotPlainError:
            return _mapped(value)
    elif isinstance(value, str):
        form, tensors, _ = spelling.asked(value)
    else:
        return value
    if not form.args:
        raise RequestError(f"input {str(value)!a}: beside tensors, give what has a name in kwargs")
    from cnnscope.models.inputs import make_inputs

    sizes = (one.sizes if len(one.sizes) != _IMAGE else (1, *one.sizes) for one in tensors)
    specs = (TensorSpec(s, t.dtype or "float32") for s, t in zip(sizes, tensors, strict=True))
    return make_inputs(Inputs(tuple(specs), form)).args[0]


def _mapped(value: Any) -> Any:
    """A container that holds tensors, with what else it holds as arguments."""
    if type(value) is dict:
        return {key: _nested(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_nested, value))
    return value


def _nested(value: Any) -> Any:
    """An item of a container: text and numbers stay what they are."""
    return value if isinstance(value, str) else _as_argument(value)


def _check_module(model: Any) -> None:
    from torch import nn

    if isinstance(model, nn.Module):
        return
    name = getattr(model, "__name__", None) or type(model).__name__
    if inspect.isclass(model) and issubclass(model, nn.Module):
        raise RequestError(f"{name} is a class: give an instance of it, such as {name}()")
    raise RequestError(f"a model is a name or an nn.Module, not {name}")
