"""The Python interface, which the command line uses as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope.errors import RequestError
from cnnscope.records import Inputs, ModelReport, TensorSpec, Trace
from cnnscope.report import report
from cnnscope.run import make_inputs, trace_spec
from cnnscope.spec import parse_input

if TYPE_CHECKING:
    from torch import nn


def trace(
    model: str | nn.Module,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """Record one inference forward.

    Args:
        model: a name ("resnet18") or a module of your own.
        inputs: for a name, strings such as "3x224x224"; for a module, the arguments of its
            forward, of which a string is a tensor without data. With tensors on the meta device no
            arithmetic is done, wherever the module is. One alone needs no list.
        kwargs: keyword arguments of a module's forward.
        options: for a name, `arguments`, `num_classes`, `batch_size` and `dtype`.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed to build or to run.
    """
    given = _as_sequence(inputs)
    if isinstance(model, str):
        return trace_spec(model, inputs=given, **options)
    from cnnscope.tracer import trace as trace_module

    return trace_module(model, tuple(map(_as_argument, given)), kwargs, **options)


def _as_sequence(inputs: Any) -> Sequence[Any]:
    """One tensor or one string stands for a sequence of one."""
    if isinstance(inputs, (list, tuple)):
        return inputs
    if isinstance(inputs, Mapping):
        raise RequestError("inputs: give keyword arguments of forward as kwargs={...}")
    return (inputs,)


def _as_argument(value: Any) -> Any:
    """A string such as "1x3x224x224" is a tensor without data (3x224x224 gets a batch of one)."""
    if not isinstance(value, str):
        return value
    asked = parse_input(value)
    sizes = asked.sizes if len(asked.sizes) != 3 else (1, *asked.sizes)
    return make_inputs(Inputs((TensorSpec(sizes, asked.dtype or "float32"),)))[0]


def summary(
    model: str | nn.Module,
    inputs: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> ModelReport:
    """Layers, parameters, MACs and memory of a model. Takes what `trace` takes."""
    return report(trace(model, inputs, kwargs, **options))
