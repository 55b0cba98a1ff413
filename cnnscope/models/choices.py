"""Choose the inputs that a model is tried on: the request's, the model's default, or guesses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET, structs

from cnnscope.errors import RequestError
from cnnscope.models import entries, spelling
from cnnscope.models import request as specs
from cnnscope.models.inputs import of_dtype
from cnnscope.models.request import Request
from cnnscope.models.spelling import FLOATS, quoted
from cnnscope.records.form import Form, Slot
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.text import printable

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.build import Built
    from cnnscope.models.files.source import Guess
    from cnnscope.models.readings import Signature

_EXAMPLES = 8  # that are tried before one is advised
_READ = 3  # readings of each

Runs = Callable[[Inputs], bool]  # whether a forward on these inputs runs


class Choice(NamedTuple):
    """Inputs to try, and what the report says of them."""

    inputs: Inputs
    note: str = ""
    refusal: str = ""  # of a likelier choice, which is the answer where nothing runs
    misfit: str = ""  # of the call as it was typed, which is the answer where another cannot be


def of_library(request: Request, built: Built) -> list[Choice]:
    """The one choice for a library's model: its default, completed by the request."""
    if request.form is None or _in_order(request.form, built):
        inputs = specs.fit_inputs(request.inputs, built.inputs, request.batch_size)
        return [Choice(of_dtype(inputs, request.dtype))]
    return _read(request, built)


def _in_order(form: Form, built: Built) -> bool:
    """Return True if a call gives what the model takes by default, in that order.

    Its tensors may be named, or all be in a list where the model takes one.
    """
    from cnnscope.models.readings import Signature

    if form.one_list and built.inputs.as_list:
        return True
    nodes = [*form.args, *(node for _, node in form.kwargs)]
    names = Signature.of(built.model).names[len(form.args) :]
    named = [name for name, _ in form.kwargs]
    takes = built.inputs.form is None and len(nodes) == len(built.inputs.tensors)
    return takes and named == names[: len(named)] and all(isinstance(n, Slot) for n in nodes)


def _read(request: Request, built: Built) -> list[Choice]:
    """What the inputs of a request may mean, in order; a note says what was taken."""
    from cnnscope.models.readings import readings

    dtype = request.dtype or _dtype_of(built.model)
    found = readings(request, built.model, built.inputs, dtype)
    first = _shown(found[0].inputs)
    shown = [_shown(one.inputs) for one in found]
    notes = [f"the input is taken as {one}" if one != first else "" for one in shown]
    return [
        Choice(of_dtype(one.inputs, request.dtype), note, one.refusal, one.misfit)
        for one, note in zip(found, notes, strict=True)
    ]


def _shown(inputs: Inputs) -> str:
    """1x3x8x8, ids 1x16 int64: how the header of a report shows inputs."""
    names = inputs.form.names if inputs.form else ("",) * len(inputs.tensors)
    specs = (
        TensorSpec(t.shape, t.dtype, n or UNSET) for t, n in zip(inputs.tensors, names, strict=True)
    )
    return ", ".join(map(str, specs)) or "no tensor"


def of_own(
    request: Request,
    built: Built,
    guesses: Callable[[nn.Module], Sequence[Guess]],
    runs: Runs,
) -> list[Choice]:
    """The inputs to try on the user's own network, in order.

    Args:
        request: for the network.
        built: the network.
        guesses: inputs that it may take.
        runs: whether a forward on some inputs runs, for what is advised.

    Raises:
        RequestError: an input is needed, and nothing tells which.
    """
    from cnnscope.models.readings import Signature, dtypes_of

    dtype = request.dtype or _dtype_of(built.model)
    if request.gives_inputs:
        return _of_request(request, built, runs)
    signature = Signature.of(built.model)
    fitting = [one for guess in guesses(built.model) if (one := _fitting(guess, signature))]
    dtypes = dtypes_of(request, built.model, dtype)
    choices = [_guessed(guess, request.batch_size, d) for d in dtypes for guess in fitting]
    if signature.takes(Form()):
        return [*choices, Choice(Inputs(()))]
    if not choices:
        _refuse_to_guess(request, built, signature, runs)
    return choices


def _of_request(request: Request, built: Built, runs: Runs) -> list[Choice]:
    """What the inputs of a request may mean for the user's own network.

    Raises:
        RequestError: they fit nothing that forward takes.
    """
    from cnnscope.models.readings import MisfitError, Signature

    try:
        choices = _read(request, built)
    except MisfitError as error:
        needed = Signature.of(built.model).needed
        such = advised(request, built, runs) if len(request.inputs) < needed else ""
        raise RequestError(f"{error}, such as {such}" if such else str(error)) from None
    _refuse_alone(request, built, choices[0].inputs, runs)
    return choices


def _fitting(guess: Guess, signature: Signature) -> Guess | None:
    """A guess that forward can be called with: by keyword where it takes its one input so."""
    inputs = guess.inputs
    form = inputs.form or Form((Slot(),) * len(inputs.tensors))
    if signature.takes(form):
        return guess
    needed = signature.missing_by_keyword
    by_name = Form((), tuple((name, Slot()) for name in needed))
    if inputs.form is None and len(needed) == len(inputs.tensors) == 1 and signature.takes(by_name):
        return guess._replace(inputs=Inputs(inputs.tensors, by_name))
    return None


def _dtype_of(model: nn.Module) -> str:
    """The floating-point type of its first weight."""
    from cnnscope.tracing.modules import state_of

    dtypes = (str(tensor.dtype).removeprefix("torch.") for tensor in state_of(model))
    return next((dtype for dtype in dtypes if dtype in FLOATS), "float32")


def _guessed(guess: Guess, batch_size: int | None, dtype: str) -> Choice:
    """A guess as inputs, with the note that it is one."""
    inputs = specs.fit_inputs((), guess.inputs, batch_size)
    shown = ", ".join("x".join(map(str, t.shape)) for t in inputs.tensors)
    what = f"the {guess.because}" if guess.offered else f"a guess ({guess.because})"
    return Choice(of_dtype(inputs, dtype), f"no --input was given: {shown} is {what}")


def _refuse_to_guess(request: Request, built: Built, signature: Signature, runs: Runs) -> None:
    """Refuse a network that takes inputs of which nothing is known.

    Raises:
        RequestError: in any case.
    """
    from cnnscope.models.files.source import required_inputs

    name, model = request.name, built.model
    required = required_inputs(model) or []
    by_name = [f"--input {printable(each)}=SIZE" for each in signature.missing_by_keyword]
    takes = ", ".join(map(printable, (*required, *signature.missing_by_keyword)))
    what = f": forward takes {takes}" if takes else ""
    such = advised(request, built, runs)
    by_keys = "" if such else entries.advice(model, Form(), ())
    if by_keys:
        raise RequestError(f"{name}: give {by_keys}{what}")
    if by_name and not such:
        sizes = ["--input SIZE"] * len(required)
        raise RequestError(f"{name}: give {' '.join((*sizes, *by_name))}{what}")
    times = " once for each" if len(required) + len(by_name) > 1 else ""
    such = such or " ".join(["--input 3x224x224"] * max(len(required), 1))
    raise RequestError(f"{name}: give --input{times}, such as {such}{what}")


def advised(request: Request, built: Built, runs: Runs) -> str:
    """`--input 3x224x224 --input 16:int64`: what runs; "" where no such thing was found.

    Args:
        request: for the network; its inputs do not count.
        built: the network.
        runs: whether a forward on some inputs runs.
    """
    from cnnscope.models import takes

    for texts in itertools.islice(takes.examples(built.model), _EXAMPLES):
        if _runs(request, built, runs, texts):
            return " ".join(f"--input {quoted(text)}" for text in texts)
    return ""


def _runs(request: Request, built: Built, runs: Runs, texts: Sequence[str]) -> bool:
    """Return True if a forward runs on what would be taken for these texts."""
    asked = spelling.asked(list(texts))
    form = None if asked.form.by_place else asked.form
    typed = structs.replace(request, inputs=asked.tensors, form=form, bare=asked.bare)
    try:
        read = _read(typed, built)
    except RequestError:
        return False
    return any(runs(choice.inputs) for choice in read[:_READ])


def _refuse_alone(request: Request, built: Built, inputs: Inputs, runs: Runs) -> None:
    """Refuse one tensor for a list that forward goes through beside its layers.

    Its batch would be taken for the list, and layers without a sample would seem not to be used.

    Raises:
        RequestError: it is one, and its batch is not as long.
    """
    from cnnscope.models import takes

    nodes = (inputs.form or Form((Slot(),) * len(inputs.tensors))).args
    if len(nodes) != 1 or not isinstance(nodes[0], Slot) or len(inputs.tensors) != 1:
        return
    one = next(iter(takes.taken(built.model)), None)
    if one is None or not one.beside or one.starred:
        return
    if not one.keys and inputs.tensors[0].shape[:1] == (len(one.layers),):
        return
    what = "dict with an entry" if one.keys else "list with a tensor"
    such = advised(request, built, runs) or f"--input '[{', '.join(['SIZE'] * len(one.layers))}]'"
    raise RequestError(
        f"{request.name}: forward takes {printable(one.name)} as a {what} for each of the "
        f"{len(one.layers)} layers of {one.beside}: give {such}"
    )
