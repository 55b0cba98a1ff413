"""The Python interface, which the command line uses as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope.records import ModelReport, Trace
from cnnscope.report import report
from cnnscope.run import trace_spec

if TYPE_CHECKING:
    from torch import nn


def trace(
    model: str | nn.Module,
    inputs: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trace:
    """Record one inference forward.

    Args:
        model: a name ("resnet18") or a module of your own.
        inputs: for a name, strings such as "3x224x224"; for a module, the arguments of its
            forward. With tensors on the meta device no arithmetic is done, wherever the module is.
        kwargs: keyword arguments of a module's forward.
        options: for a name, `arguments`, `num_classes`, `batch_size` and `dtype`.

    Raises:
        RequestError: the request cannot be carried out.
        ModelError: the model failed to build or to run.
    """
    if isinstance(model, str):
        return trace_spec(model, inputs=inputs, **options)
    from cnnscope.tracer import trace as trace_module

    return trace_module(model, tuple(inputs), kwargs, **options)


def summary(
    model: str | nn.Module,
    inputs: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> ModelReport:
    """Layers, parameters, MACs and memory of a model. Takes what `trace` takes."""
    return report(trace(model, inputs, kwargs, **options))
