"""Remedies for a failed forward: inputs that were tried and run, and layers that would fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs
from torch import nn

from cnnscope.analysis import sizes
from cnnscope.errors import ModelError
from cnnscope.models import diagnose, entries, keys, refused, takes, widths
from cnnscope.models.build import Built
from cnnscope.models.spelling import DTYPES, FLOATS, written
from cnnscope.models.trials import SECONDS, Trials, positions_of, smallest_inputs
from cnnscope.records.explain import SmallestInput
from cnnscope.records.form import Form, Slot, Table
from cnnscope.records.trace import Inputs, TensorSpec, Trace
from cnnscope.text import printable
from cnnscope.tracing.modules import state_of
from cnnscope.tracing.recorder import ForwardError
from cnnscope.tracing.refusals import LayerError, about_dtypes

# What code raises by itself to refuse a size.
_REFUSALS = (AssertionError, ValueError, RuntimeError)
# What a look-up by a key raises: of a dict without it, and of tensors, lists and None.
_LACKING = (KeyError, IndexError, TypeError, AttributeError)
_OTHERS = (64, 33, 224)  # sides at which a complaint that is not about sizes is the same


class Failure(NamedTuple):
    """A forward that failed, and what is known of the model.

    `typed` is what the user wrote for the inputs, `guessed` says that the user gave none,
    `known` are inputs that are likely to run, `line` is where in the user's code it failed
    ("net.py:3: ").
    """

    name: str
    error: ForwardError
    built: Built
    inputs: Inputs
    typed: tuple[str, ...] = ()
    known: tuple[Inputs, ...] = ()
    line: str = ""
    guessed: bool = False


class Explained(NamedTuple):
    """Why a forward failed, in words, and what would run: "" where nothing is known that does."""

    cause: str
    remedy: str = ""
    about_input: bool = False  # other inputs run, or fail for another reason


def explained(failure: Failure) -> ModelError:
    """The error of a forward that raised: what the layer expects, and what would work.

    Its trace has what ran, the cause and the remedy.
    """
    found = _explained(failure)
    given = shown(failure.inputs) or "no input"
    if about_dtypes(failure.error.cause):
        given = ", ".join(f"{shown(Inputs((t,)))} {t.dtype}" for t in failure.inputs.tensors[:3])
    where = f"{failure.name} at {given}"
    if failure.guessed and found.about_input:
        where = f"{failure.name}: no --input was given, and {given} does not run"
    remedy = found.remedy
    if failure.guessed and found.about_input and not remedy:
        remedy = "give the --input that it is made for"
    error = ModelError(f"{where}: {failure.line}{found.cause}" + (f"; {remedy}" if remedy else ""))
    error.trace = told(failure.error.trace, found.cause, remedy, failure.line)
    return error


def told(trace: Trace, cause: str, remedy: str = "", line: str = "") -> Trace:
    """What ran before a forward raised, with the cause in words, the remedy and the line.

    Args:
        trace: up to the break.
        cause: in words.
        remedy: "" where none is known.
        line: of the model's code; left out, the one that was recorded.
    """
    broken = trace.broken
    if broken is None:
        return trace
    line = line.rstrip(": ") or broken.line
    broken = structs.replace(broken, line=line, cause=cause, remedy=remedy)
    return structs.replace(trace, broken=broken)


def _explained(failure: Failure) -> Explained:
    error = failure.error
    if isinstance(error.cause, LayerError):
        return Explained(str(error), "no input fits this layer")
    if about_dtypes(error.cause) and not failure.guessed:
        cause, remedy = refused.uncastable(error.trace)
        if cause:
            return Explained(cause, remedy)
        return Explained(str(error), _of_dtypes(failure))
    by_keys = _of_keys(failure)
    if by_keys is not None:
        return by_keys
    return find(failure)._replace(cause=diagnose.reason(error))


def _of_keys(failure: Failure) -> Explained | None:
    """The remedy for an argument that is read by keys which it lacks; None for other failures."""
    error, broken = failure.error, failure.error.trace.broken
    if not isinstance(error.cause, _LACKING) or broken is None:
        return None
    if not keys.looked_up(failure.built.model, broken.expression, error.cause):
        return None
    form = failure.inputs.form or Form((Slot(),) * len(failure.inputs.tensors))
    typed = failure.typed
    if len(typed) != len(failure.inputs.tensors):
        typed = tuple(written(Inputs((tensor,))) for tensor in failure.inputs.tensors)
    if failure.guessed:
        form, typed = Form(), ()
    found = entries.advice(failure.built.model, form, typed)
    if not found:
        return None
    what = diagnose.reason(error)
    if not any(isinstance(node, Table) for node in (*form.args, *dict(form.kwargs).values())):
        what = f"{printable(broken.expression)} looks up a key, and what was given is no dict"
    return Explained(what, f"give {found}", about_input=True)


def _of_dtypes(failure: Failure) -> str:
    """The remedy for dtypes that a layer does not take."""
    if re.search(r"\bind(ex|ices)\b", str(failure.error.cause)):
        return _of_indices(failure)
    dtypes = [str(t.dtype).removeprefix("torch.") for t in state_of(failure.built.model)]
    weights = next((dtype for dtype in dtypes if dtype in FLOATS), "float32")
    typed = (DTYPES.get(text.partition(":")[2]) for text in failure.typed)
    message = str(failure.error.cause).lower()
    other = next((d for d in typed if d and d != weights and _is_named(d, message)), None)
    if other is None and not failure.typed and _of_input(failure, weights):
        return f"its weights are {weights}: give the input as x.to(torch.{weights})"
    if other is None:
        return _converted(refused.one_dtype(failure.error.trace))
    why = f"its weights are {weights}: " if dtypes else ""
    remedy = f"{why}leave :{other} out of --input"
    return remedy + (f", or give --dtype {other}" if other in FLOATS else "")


def _of_input(failure: Failure, weights: str) -> bool:
    """Return True if the layer that failed was called with an input of another dtype."""
    called = failure.error.shapes
    return any(t.dtype != weights and t.shape in called for t in failure.inputs.tensors)


def _of_indices(failure: Failure) -> str:
    """The remedy for indices that are no integers: of the input where it is looked up itself."""
    trace = failure.error.trace
    broken = trace.broken.operation if trace.broken else None
    given = broken is not None and any(t in trace.inputs for t in broken.tensors)
    if not failure.typed or not given:
        return "indices are integers, as x.long() makes them"
    trials = Trials(failure.built, SECONDS, renewable=False)
    with trials.open():
        for inputs in takes.inputs(failure.built.model):
            if not trials.late and trials.runs(inputs):
                return f"indices are integers: --input {written(inputs)} runs"
    return "indices are integers: add :int64 to the --input that is looked up"


def _converted(dtype: str) -> str:
    """The remedy for operands of one dtype, or of several."""
    if not dtype:
        return "convert one to the dtype of the other, as x.to(weight.dtype) does"
    if dtype in ("float32", "float64"):
        return "convert it first, as x.long() or x.bool() does"
    return "convert it first, as x.float() does"


def _is_named(dtype: str, message: str) -> bool:
    """Return True if a message of PyTorch names a dtype, by its name or by that of its C++ type.

    Of dtypes whose type has no name of its own it is taken to.
    """
    types = {"int64": "long", "int16": "short", "float64": "double", "float16": "half"}
    return dtype not in types or dtype in message or types[dtype] in message


def find(failure: Failure) -> Explained:
    """Look for inputs that run, and for layers that would take what they were given.

    The search ends after `trials.CALLS` module calls or `trials.SECONDS` seconds, and says so.
    """
    if not failure.inputs.tensors or not failure.inputs.tensors[0].shape:
        return _of_known(failure)
    if any(map(nn.parameter.is_lazy, state_of(failure.built.model))):  # it cannot be run twice
        return Explained("")
    return _Search(failure).remedy()


def _of_known(failure: Failure) -> Explained:
    """The first of the usual inputs that runs, for a request without a tensor of any size."""
    trials = Trials(failure.built, SECONDS, renewable=False)
    with trials.open():
        for inputs in failure.known:
            if not trials.late and trials.runs(inputs):
                return Explained("", f"--input {written(inputs)} runs", about_input=True)
    return Explained("")


class _Search:
    """One search for a remedy."""

    def __init__(self, failure: Failure) -> None:
        self.failure, self.error = failure, failure.error
        self.trials = Trials(failure.built, SECONDS, renewable=False)
        self.shape = failure.inputs.tensors[0].shape
        self.where = positions_of(failure.built.model, failure.inputs)
        self.count = len(self.where.dims)
        self.works: tuple[int, ...] = ()  # sides that are known to

    def remedy(self) -> Explained:
        """What runs instead: other channels, other sizes, or the usual inputs."""
        with self.trials.open():
            if self.trials.runs(self.failure.inputs):  # it runs where nothing is recorded
                self.trials.be_exact()
            turned = self._turned()
            if turned:
                return Explained("", turned, about_input=True)
            same = self._same_everywhere()
            search = not same or self._checks_by_itself()
            fits = self._fits()
            cure = self._channels() or (self._sizes() if search else "") or self._known()
            text = cure
            if search and not cure and not fits:
                text = self._cut("no size that works was found", "give one with --input")
        about_input = bool(cure) or not same
        between = ", or " if text.startswith(("feed ", "use ")) else "; "
        return Explained("", between.join(filter(None, (fits, text))), about_input)

    # -- what the layer would have to be

    def _fits(self) -> str:
        """Say what would let the layer or operation that failed take what it was given."""
        broken = self.error.trace.broken
        like = diagnose.alike(self.error)
        if like:
            return f"did you mean {like}?"
        wrong = diagnose.width(self.error)
        if wrong is not None:
            return self._refitted(wrong)
        if broken is None or broken.operation is None or not broken.operation.tensors:
            return ""
        trace, operation = self.error.trace, broken.operation
        return refused.held(trace, operation) or refused.projected(trace, operation)

    def _refitted(self, wrong: widths.Width) -> str:
        """The width that the layer must have, once a forward with such a layer has passed it."""
        error = self.error
        other = widths.refitted(error.module, error.path, wrong)
        if other is None or self.trials.late:
            return ""
        after = self.trials.error_with(error.module, other, self.failure.inputs)
        given = "x".join(map(str, wrong.given)) if isinstance(wrong.given, tuple) else wrong.given
        text = f"{wrong.argument} must be {given} for this input"
        if after is None:
            return text
        if not isinstance(after, ForwardError) or after.trace.broken is None:
            return ""
        calls = len(error.trace.calls)
        if (len(after.trace.calls), after.path != error.path) <= (calls, False):
            return ""  # it has not passed the layer
        where, why = diagnose.where_and_why(after)
        return f"{text} (then {where} fails: {why})"

    # -- whether it is about the input at all

    def _same_everywhere(self) -> bool:
        """Return True if other sizes fail for the same reason."""
        said = diagnose.where_and_why(self.error)
        for side in _OTHERS:
            if self.trials.late:
                return False
            if self.trials.runs(self._square(side)):  # which costs less than to learn why not
                self.works = (side,)
                return False
            error = self.trials.error(self._square(side))
            if error is None or diagnose.where_and_why(error) != said:
                return False
        return True

    def _checks_by_itself(self) -> bool:
        """Return True if it may be a check of the model's own, which is the same at every size."""
        cause = self.error.cause
        recursion = isinstance(cause, RecursionError)
        return isinstance(cause, _REFUSALS) and not self.error.operation and not recursion

    def _square(self, side: int) -> Inputs:
        return self._resized((side,) * self.count)

    def _resized(self, spatial: Sequence[int], inputs: Inputs | None = None) -> Inputs:
        """The inputs with other sizes along the spatial axes."""
        inputs = inputs or self.failure.inputs
        tensors = tuple(
            TensorSpec((*t.shape[: -len(spatial)], *spatial), t.dtype)
            if t.shape[-len(spatial) :] == self.shape[-len(spatial) :]
            else t
            for t in inputs.tensors
        )
        return inputs.of(tensors)

    # -- what runs

    def _channels(self) -> str:
        """Other channels, where the first layer asks for them."""
        wrong = diagnose.width(self.error)
        at = len(self.shape) - self.count - 1
        if wrong is None or wrong.argument != "in_channels" or at < 0:
            return ""
        if self.shape[at] == wrong.takes:
            return ""
        tensors = tuple(
            TensorSpec((*t.shape[:at], wrong.takes, *t.shape[at + 1 :]), t.dtype)
            if t.shape == self.shape
            else t
            for t in self.failure.inputs.tensors
        )
        inputs = self.failure.inputs.of(tensors)
        return self._advice(inputs, "use --input {}") or self._with_channels(inputs)

    def _turned(self) -> str:
        """The same sizes with the channels first, where they were given last."""
        wrong = diagnose.width(self.error)
        at = len(self.shape) - self.count - 1
        if wrong is None or wrong.argument != "in_channels" or at < 0:
            return ""
        if self.shape[-1] != wrong.takes or self.error.trace.ops:
            return ""
        tensors = (
            TensorSpec((*t.shape[:at], t.shape[-1], *t.shape[at:-1]), t.dtype)
            if len(t.shape) == len(self.shape)
            else t
            for t in self.failure.inputs.tensors
        )
        inputs = self.failure.inputs.of(tuple(tensors))
        return self._advice(inputs, "PyTorch has channels first: use --input {}")

    def _with_channels(self, inputs: Inputs) -> str:
        """Other sizes of inputs that have the right channels, where it is the first layer's."""
        if self.failure.error.trace.ops:
            return ""
        found = smallest_inputs(self.trials, inputs, self.where, known=False)
        side = found[0].side if found else None
        if side is None:
            return ""
        fitting = self._resized((side,) * self.count, inputs)
        return self._advice(fitting, "use --input {}")

    def _known(self) -> str:
        """The model's default, or what is usual for it."""
        for inputs in self.failure.known:
            text = self._advice(inputs, "--input {} runs")
            if text:
                return text
        return ""

    def _advice(self, inputs: Inputs, text: str) -> str:
        """`text` with the sizes of inputs, if they run; nothing that was typed is advised."""
        if inputs == self.failure.inputs or not inputs.tensors:
            return ""
        given = {tensor.dtype for tensor in self.failure.inputs.tensors}
        advised = written(inputs, dtypes=not {t.dtype for t in inputs.tensors} <= given)
        if advised in self.failure.typed or self.trials.late or not self.trials.runs(inputs):
            return ""
        return text.replace("{}", advised)

    def _sizes(self) -> str:
        """Other sizes of the same input."""
        seeds = [*self.works] or [
            tensors[0].shape[-1]
            for tensors in (known.tensors for known in self.failure.known)
            if tensors and tensors[0].shape
        ]
        found = smallest_inputs(
            self.trials, self.failure.inputs, self.where, seeds=seeds, known=False
        )
        if not found or found[0].side is None:
            return ""
        return self._of_sizes(found[0])

    def _cut(self, what: str, then: str) -> str:
        """Say that the search was cut off, and what to do then; "" where it was not."""
        cut = self.trials.cut
        return f"{what} in the {cut} that the search has: {then}" if cut else ""

    def _of_sizes(self, found: SmallestInput) -> str:
        side = found.side or 1
        square = " square" if len(found.axes) > 1 else ""
        text = f"the smallest{square} input that works is {sizes.shown(found.axes, side)}"
        if found.at_least < side and self.trials.cut:
            text = f"of the sizes that were tried, {text}"
        alone = " (the only one of those tried)" if found.works == ((side, side),) else ""
        if (not found.step or found.step == 1) and diagnose.width(self.error) is not None:
            feed = self._advice(self._square(side), "feed {}")
            return feed and f"{feed}{alone or ', the smallest square that works'}"
        if not found.step or found.step == 1:
            return f"{text}{alone}"
        what = "sides" if square else found.axes[0]
        near = self._near(found)
        works = f": {' and '.join(near)} work{'s' if len(near) == 1 else ''}" if near else ""
        return f"{what} must be {sizes.pattern(found)}{works}; {text}"

    def _near(self, found: SmallestInput) -> list[str]:
        """The sizes by the rule on both sides of what was given, if they run."""
        step = found.step or 1
        given = self.shape[-len(found.axes) :]
        low = [max(n - (n - found.offset) % step, found.side or 1) for n in given]
        high = [n + (found.offset - n) % step for n in given]
        return [
            "x".join(map(str, spatial))
            for spatial in dict.fromkeys((tuple(low), tuple(high)))
            if spatial != given
            and not self.trials.late
            and self.trials.runs(self._resized(spatial))
        ]


def shown(inputs: Inputs) -> str:
    """1x3x224x224, 1x10: the first three."""
    return ", ".join("x".join(map(str, t.shape)) for t in inputs.tensors[:3])
