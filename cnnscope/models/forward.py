"""Trace one forward on the rung that a model was built for, and say how the trace was made."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from cnnscope.errors import RequestError
from cnnscope.models.inputs import make_inputs, of_dtype
from cnnscope.models.ladder import Rung
from cnnscope.records.form import Form
from cnnscope.records.trace import Inputs, Trace
from cnnscope.text import printable, said

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.build import Built
    from cnnscope.models.choices import Choice
    from cnnscope.tracing.arguments import Arguments


def traced(built: Built, choice: Choice, dtype: str | None, *, own: bool, why_real: str) -> Trace:
    """Trace one forward.

    Args:
        built: the model; its lazy layers get their widths, and it gets the dtype.
        choice: the inputs.
        dtype: of weights; None leaves them as they are.
        own: whether it is the user's own network.
        why_real: why it runs on real tensors, if it does.

    Raises:
        ForwardError: forward raised.
        RequestError: the inputs are none for this model.
    """
    from cnnscope.tracing.tracer import trace

    arguments = built.arguments(choice.inputs)
    with built.running():
        if not built.borrowed:
            settle(built, choice.inputs)
        if dtype is not None:
            convert(built.model, dtype)
        made = trace(built.model, *arguments, source=built.source)
    form = choice.inputs.form or Form()
    values = ", ".join(f"{_argument(name)}={value!r}" for name, value in form.values)
    also = (f"forward was given {printable(values, 200)} as well",) if values else ()
    notes = (choice.note, *also) if choice.note else also
    return _described(made, built, (*notes, *built.notes), own=own, why_real=why_real)


def _argument(name: str) -> str:
    """`mask`, `argument 2`."""
    return f"argument {name}" if name.isdecimal() else name


def is_lazy(model: nn.Module) -> bool:
    """Return True if some layer learns its width from its first input."""
    from torch.nn.parameter import is_lazy as lazy

    from cnnscope.tracing.modules import state_of

    return any(map(lazy, state_of(model)))


def settle(built: Built, inputs: Inputs) -> None:
    """Let lazy layers find out their widths, if there are any."""
    import torch

    if not is_lazy(built.model):
        return
    arguments = make_inputs(of_dtype(inputs, "float32"), built.rung.device)
    with torch.no_grad(), contextlib.suppress(Exception):
        arguments.call(built.model)  # if it fails, the trace says why


def lazy_copy(model: nn.Module, place: str = "") -> nn.Module:
    """Copy a lazy module of the caller's, which stays lazy, in eval mode.

    Args:
        model: some layer of it learns its width from its first input.
        place: "cpu" or "meta", where the copy is to lie; left out, where the module does.
            Parameters that are there already are shared with it.

    Raises:
        RequestError: the module cannot be copied.
    """
    import copy

    from cnnscope.models.build import evaluated
    from cnnscope.tracing.modules import state_of

    memo = {id(tensor): _placed(tensor, place) for tensor in state_of(model)}
    try:
        made = copy.deepcopy(model, memo)
    except Exception as error:
        raise not_copied(type(model).__name__, error) from error
    return evaluated(made)


def _placed(tensor: Any, place: str) -> Any:
    """A parameter or buffer in a place; a parameter that lies there already is itself."""
    from torch import nn
    from torch.nn.parameter import is_lazy as lazy

    at = place or tensor.device
    if lazy(tensor):
        kind: Any = type(tensor)
        return kind(tensor.requires_grad, at, tensor.data.dtype)
    if not isinstance(tensor, nn.Parameter):
        return tensor.detach().to(at, copy=True)
    if not place or tensor.device.type == place:
        return tensor
    return nn.Parameter(tensor.detach().to(at), tensor.requires_grad)


def not_copied(name: str, error: BaseException) -> RequestError:
    """The refusal of a module that cannot be copied."""
    return RequestError(
        f"{name}: cannot be copied ({said(error)}); name a file that makes it, as path/net.py:Net"
    )


def widened(model: nn.Module, arguments: Arguments) -> nn.Module:
    """Let the lazy layers of a model that no caller holds learn their widths from a call."""
    import torch

    from cnnscope.tracing import isolation

    with torch.no_grad(), isolation.seeded(), contextlib.suppress(Exception):
        arguments.call(model)  # if it fails, the trace says why
    return model


def convert(model: nn.Module, dtype: str) -> None:
    """Give a model another floating-point dtype, such as "float16"."""
    import torch

    model.to(getattr(torch, dtype))


# ------------------------------------------------------------------------- what the report says


def _described(
    made: Trace, built: Built, notes: tuple[str, ...], *, own: bool, why_real: str
) -> Trace:
    """The trace with notes on how it was made, and with what decided which operations ran."""
    from msgspec.structs import replace

    decided_by = made.decided_by
    if built.rung is Rung.REAL:
        decided_by = tuple(sorted({*decided_by, "data"}))
        notes += (
            "ran on real tensors, with random weights and inputs of a fixed seed, because it "
            f"looks at its data ({why_real}); with other data it may come out otherwise",
        )
    elif built.rung is Rung.VALUES:
        notes += _of_forward(built.values, own=own)
    else:
        notes += _of_constructor(built.values)
    return replace(made, notes=made.notes + notes, decided_by=decided_by)


def _of_constructor(values: Any) -> tuple[str, ...]:
    """Note on the values that a constructor read."""
    asked = _asked(values)
    if not asked:
        return ()
    return (f"its constructor computes with small tensors ({asked}): those had values",)


def _of_forward(values: Any, *, own: bool) -> tuple[str, ...]:
    """Note on the values that a forward read."""
    asked = _asked(values)
    if not asked:
        return ()
    if own:
        return (f"its forward computes with small constants ({asked}): those had values",)
    return (
        f"its forward depends on data ({asked}): that part ran on small tensors with values, "
        "network outputs taken as 0 and every score as passing, so detections are counted at the "
        "model's own limits",
    )


def _asked(values: Any) -> str:
    """The operations that were answered with values: "item x3, nonzero"."""
    answered: Counter[str] = values.answered if values is not None else Counter()
    return ", ".join(f"{name} x{n}" if n > 1 else name for name, n in answered.most_common())
