"""The Python interface: a trace, and a report that shows itself."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnnscope.errors import ModelError, RequestError
from cnnscope.models.failures import asks_for_data
from cnnscope.models.inputs import make_inputs
from cnnscope.models.request import Request, parse_input
from cnnscope.models.run import trace_module, trace_spec
from cnnscope.records import Inputs, ModelReport, TensorSpec, Trace
from cnnscope.reports.summary import report

if TYPE_CHECKING:
    from torch import nn


class Summary(ModelReport, frozen=True):
    """A `ModelReport` that shows itself: a table where it is printed, HTML in a notebook.

    The record knows nothing of how it looks; this subclass, which has no fields of its own, does.
    """

    def table(
        self,
        *,
        depth: int | None = None,
        columns: Sequence[str] | None = None,
        unfold: bool = False,
        everything: bool = False,
        sort: str | None = None,
        filter: str | None = None,  # noqa: A002  as --filter
        width: int | None = None,
    ) -> str:
        """The table as text; arguments are those of `cnnscope summary`.

        Args:
            depth: levels of the call tree, 0 for all; left out, the deepest that fits a screen.
            columns: such as ("layer", "output", "params", "macs").
            unfold: show equal blocks one by one.
            everything: show views, slices and bookkeeping as well.
            sort: list layers by "macs", "params", "element-ops" or "activation".
            filter: only layers whose path or operation matches this glob.
            width: of the terminal, in characters; left out, as wide as it needs to be.

        Raises:
            RequestError: an unknown column or sort key, or a filter that matches nothing.
        """
        with _not_drawing():
            from cnnscope.render import drawing, page
            from cnnscope.render.columns import DEFAULT
            from cnnscope.render.tree import Options

        options = Options(depth, unfold, everything, sort, filter)
        laid_out = drawing.page(self, options=options, columns=columns or DEFAULT)
        return page.text(laid_out, width).plain

    def to_dict(self) -> dict[str, Any]:
        """Return what `--format json` writes, as dicts, lists, strings and numbers."""
        import msgspec

        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return built

    def __str__(self) -> str:
        return self.table(width=_terminal_width())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For a notebook."""
        with _not_drawing():
            from cnnscope.render import drawing

        return drawing.write(self, "html")


@contextmanager
def _not_drawing() -> Iterator[None]:
    """Leave random numbers as they are: rich draws one when it is imported."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def trace(
    model: str | nn.Module,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """Record one inference forward.

    Args:
        model: a name ("resnet18", "net.py:Net") or a module of your own, which is left as it was.
        inputs: sizes, such as "3x224x224" or (1, 3, 224, 224), of tensors without data: three
            sizes are C, H, W and get a batch of one. For a module, any arguments of its forward
            as well; with tensors on the meta device no arithmetic is done, wherever the module
            is. One alone needs no list; several are given in a list. None is a default or a guess.
        kwargs: keyword arguments of a module's forward.
        options: for a name, `arguments`, `num_classes`, `batch_size` and `dtype`.

    A module that looks at its data is traced with real tensors where only sizes were given, and
    `Trace.device` and `Trace.notes` say so.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed to build or to run.
    """
    given = _as_sequence(inputs)
    if isinstance(model, str):
        _refuse_for_a_name(given, kwargs)
        return trace_spec(Request.of(model, given, **options))
    from cnnscope.tracing.tracer import ForwardError
    from cnnscope.tracing.tracer import trace as run_traced

    _check_module(model)
    if not kwargs and not options and all(isinstance(value, str) for value in given):
        return trace_module(model, given)
    try:
        return run_traced(model, tuple(map(_as_argument, given)), kwargs, **options)
    except ForwardError as error:
        if asks_for_data(error):
            raise ModelError(f"{error}; it looks at its data: give real tensors") from error
        raise


def summary(
    model: str | nn.Module,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Summary:
    """Layers, parameters, MACs and memory of a model. Takes what `trace` takes."""
    made = report(trace(model, inputs, kwargs, **options))
    return Summary(**{name: getattr(made, name) for name in made.__struct_fields__})


def _as_sequence(inputs: Any) -> Sequence[Any]:
    """One tensor, string or size stands for a sequence of one; sizes become strings."""
    if isinstance(inputs, Mapping):
        raise RequestError("inputs: give keyword arguments of forward as kwargs={...}")
    if not isinstance(inputs, (list, tuple)):
        return (inputs,)
    if _is_size(inputs):
        return (_joined(inputs),)
    return [_joined(value) if _is_size(value) else value for value in inputs]


def _is_size(value: Any) -> bool:
    """Return True if this is a size, such as (1, 3, 224, 224) or torch.Size."""
    return isinstance(value, (list, tuple)) and bool(value) and all(type(n) is int for n in value)


def _joined(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _as_argument(value: Any) -> Any:
    """A string such as "1x3x224x224" is a tensor without data (3x224x224 gets a batch of one)."""
    if not isinstance(value, str):
        return value
    asked = parse_input(value)
    sizes = asked.sizes if len(asked.sizes) != 3 else (1, *asked.sizes)
    return make_inputs(Inputs((TensorSpec(sizes, asked.dtype or "float32"),)))[0]


def _refuse_for_a_name(given: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
    if kwargs:
        raise RequestError("kwargs: only for a module of your own")
    if not all(isinstance(value, str) for value in given):
        raise RequestError('inputs: for a named model give sizes, such as "3x224x224"')


def _check_module(model: Any) -> None:
    from torch import nn

    if isinstance(model, nn.Module):
        return
    name = getattr(model, "__name__", None) or type(model).__name__
    if inspect.isclass(model) and issubclass(model, nn.Module):
        raise RequestError(f"{name} is a class: give an instance of it, such as {name}()")
    raise RequestError(f"a model is a name or an nn.Module, not {name}")


def _terminal_width() -> int | None:
    """Characters per line of the terminal that stdout is, if it is one."""
    import shutil

    isatty = getattr(sys.stdout, "isatty", None)
    return shutil.get_terminal_size().columns if isatty is not None and isatty() else None
