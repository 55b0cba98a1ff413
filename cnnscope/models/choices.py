"""Choose the inputs that a model is tried on: the request's, the model's default, or guesses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.models import request as specs
from cnnscope.models.inputs import of_dtype
from cnnscope.models.request import Request
from cnnscope.records.trace import Inputs
from cnnscope.text import printable

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.build import Built
    from cnnscope.models.files.source import Guess


class Choice(NamedTuple):
    """Inputs to try, and what the report says of them."""

    inputs: Inputs
    note: str = ""


def of_library(request: Request, built: Built) -> list[Choice]:
    """The one choice for a library's model: its default, completed by the request."""
    inputs = specs.fit_inputs(request.inputs, built.inputs, request.batch_size)
    return [Choice(of_dtype(inputs, request.dtype))]


def of_own(
    request: Request, built: Built, guesses: Callable[[nn.Module], Sequence[Guess]]
) -> list[Choice]:
    """The inputs to try on the user's own network, in order.

    Args:
        request: for the network.
        built: the network.
        guesses: inputs that it may take.

    Raises:
        RequestError: an input is needed, and nothing tells which.
    """
    dtype = request.dtype or _dtype_of(built.model)
    if request.inputs:
        taken = all(t.dtype in specs.FLOATS for t in built.inputs.tensors)
        typed = [
            specs.InputSpec(a.sizes, a.dtype or (dtype if taken else None), a.text)
            for a in request.inputs
        ]
        fitted = specs.fit_open(typed, built.inputs, request.batch_size)
        return [Choice(of_dtype(inputs, request.dtype)) for inputs in fitted]
    choices = [_guessed(guess, request.batch_size, dtype) for guess in guesses(built.model)]
    if not choices:
        _refuse_to_guess(request.name, built.model)
    return choices or [Choice(Inputs(()))]


def _dtype_of(model: nn.Module) -> str:
    """The floating-point type of its first weight."""
    from cnnscope.tracing.tracer import state_of

    dtypes = (str(tensor.dtype).removeprefix("torch.") for tensor in state_of(model))
    return next((dtype for dtype in dtypes if dtype in specs.FLOATS), "float32")


def _guessed(guess: Guess, batch_size: int | None, dtype: str) -> Choice:
    """A guess as inputs, with the note that it is one."""
    inputs = specs.fit_inputs((), guess.inputs, batch_size)
    shown = ", ".join("x".join(map(str, t.shape)) for t in inputs.tensors)
    what = f"the {guess.because}" if guess.offered else f"a guess ({guess.because})"
    return Choice(of_dtype(inputs, dtype), f"no --input was given: {shown} is {what}")


def _refuse_to_guess(name: str, model: nn.Module) -> None:
    """Refuse a network that takes inputs of which nothing is known.

    Raises:
        RequestError: its forward needs inputs, or may.
    """
    from cnnscope.models.files.source import required_inputs

    required = required_inputs(model)
    if required == []:
        return
    takes = f": forward takes {', '.join(required)}" if required else ""
    times = " once for each" if len(required or ()) > 1 else ""
    raise RequestError(f"{name}: give --input{times}, such as --input 3x224x224{takes}")


def check_count(name: str, model: nn.Module, inputs: Inputs) -> None:
    """Check that forward takes so many inputs.

    Raises:
        RequestError: it does not.
    """
    from cnnscope.models.files.source import required_inputs

    needed = _needed_keywords(model)
    if needed:
        raise RequestError(
            f"{name}: forward needs {', '.join(map(printable, needed))} by keyword, which "
            "only cnnscope.summary(model, inputs, kwargs) in Python can give"
        )
    try:
        inspect.signature(model.forward).bind(*inputs.tensors)
    except ValueError:
        return
    except TypeError:
        takes = ", ".join(map(printable, required_inputs(model) or ())) or "none"
        count = len(inputs.tensors)
        raise RequestError(
            f"{name}: forward takes {takes}; give --input once for each (it was given "
            f"{'once' if count == 1 else f'{count} times'})"
        ) from None


def _needed_keywords(model: nn.Module) -> list[str]:
    """Names of the arguments that forward takes by keyword only and cannot do without."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
