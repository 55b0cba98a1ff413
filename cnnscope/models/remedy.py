"""Remedies for a failed forward: inputs that were tried and run, and whose fault it is.

It is the input's fault where another input runs: the request is wrong then. Where nothing runs
that was tried, the model has failed, whatever it has raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from cnnscope.analysis import sizes
from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models import diagnose
from cnnscope.models.build import Built
from cnnscope.models.spelling import DTYPES, FLOATS, written
from cnnscope.models.trials import SECONDS, Trials, positions_of, smallest_inputs
from cnnscope.records.explain import SmallestInput
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.tracing.refusals import LayerError, about_dtypes
from cnnscope.tracing.tracer import ForwardError, state_of

# What code raises by itself to refuse a size.
_REFUSALS = (AssertionError, ValueError, RuntimeError)
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


class Remedy(NamedTuple):
    """A remedy as text, and whether the input is at fault."""

    text: str
    input_is_wrong: bool


def explained(failure: Failure) -> CnnscopeError:
    """The message: what the layer expects, and what would work.

    A RequestError where another input runs, or may: else a ModelError.
    """
    error = failure.error
    if isinstance(error.cause, LayerError):
        return ModelError(f"{failure.name}: {failure.line}{error}; no input fits this layer")
    if about_dtypes(error.cause) and not failure.guessed:
        return _of_dtypes(failure)
    given = shown(failure.inputs) or "no input"
    reason = diagnose.layer_reason(error) or str(error).rstrip(".")
    if isinstance(error.cause, AssertionError) and not str(error.cause):
        reason = f"{diagnose.where(error)}: {diagnose.cause(error)}"
    remedy = find(failure)
    if failure.guessed and remedy.input_is_wrong:
        return RequestError(
            f"{failure.name}: no --input was given, and {given} does not run: "
            f"{failure.line}{reason}; give --input{remedy.text.replace('; ', ': ', 1)}"
        )
    kind = RequestError if remedy.input_is_wrong else ModelError
    return kind(f"{failure.name} at {given}: {failure.line}{reason}{remedy.text}")


def _of_dtypes(failure: Failure) -> ModelError:
    """The message for dtypes that a layer does not take, and which would do."""
    given = ", ".join(f"{shown(Inputs((t,)))} {t.dtype}" for t in failure.inputs.tensors[:3])
    dtypes = (str(t.dtype).removeprefix("torch.") for t in state_of(failure.built.model))
    weights = next((dtype for dtype in dtypes if dtype in FLOATS), "float32")
    typed = (DTYPES.get(text.partition(":")[2]) for text in failure.typed)
    other = next((dtype for dtype in typed if dtype not in (None, weights)), None)
    remedy = "convert one to the dtype of the other, as x.to(weight.dtype) does"
    if other is not None:
        remedy = f"its weights are {weights}: leave :{other} out of --input"
        remedy += f", or give --dtype {other}" if other in FLOATS else ""
    return ModelError(f"{failure.name} at {given}: {failure.line}{failure.error}; {remedy}")


def find(failure: Failure) -> Remedy:
    """Look for inputs that run.

    The search ends after `trials.CALLS` module calls or `trials.SECONDS` seconds, and says so.
    """
    if not failure.inputs.tensors or not failure.inputs.tensors[0].shape:
        return Remedy("", input_is_wrong=False)
    if any(map(nn.parameter.is_lazy, state_of(failure.built.model))):  # it cannot be run twice
        return Remedy("", input_is_wrong=bool(failure.error.operation))
    return _Search(failure).remedy()


class _Search:
    """One search for a remedy."""

    def __init__(self, failure: Failure) -> None:
        self.failure, self.error = failure, failure.error
        self.trials = Trials(failure.built, SECONDS, renewable=False)
        self.shape = failure.inputs.tensors[0].shape
        self.where = positions_of(failure.built.model, failure.inputs)
        self.count = len(self.where.dims)
        self.works: tuple[int, ...] = ()  # sides that are known to

    def remedy(self) -> Remedy:
        """Other channels, other sizes, or what is usual: whichever runs."""
        with self.trials.open():
            if self.trials.runs(self.failure.inputs):  # bare forwards are of another opinion
                self.trials.be_exact()
            same = self._same_everywhere()
            search = not same or self._checks_by_itself()
            text = cure = self._channels() or (self._sizes() if search else "") or self._known()
            follows = not cure and diagnose.features(self.error) and self._features_follow()
            if search and not cure:
                text = self._cut("no size that works was found", "give one with --input")
        guess = self.failure.guessed and not same
        wrong = diagnose.features(self.error)
        if wrong is not None:
            text = f"; in_features must be {wrong[1]} for this input" + text
        return Remedy(text, input_is_wrong=bool(cure or follows or guess))

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

    def _features_follow(self) -> bool:
        """Return True if a linear layer gets other features at another size."""
        other = self.trials.error(self._square(_OTHERS[0]))
        if not isinstance(other, ForwardError):
            return False
        return diagnose.features(other) not in (None, diagnose.features(self.error))

    def _square(self, side: int) -> Inputs:
        return self._resized((side,) * self.count)

    def _resized(self, spatial: Sequence[int]) -> Inputs:
        """The inputs with other sizes along the spatial axes."""
        tensors = tuple(
            TensorSpec((*t.shape[: -len(spatial)], *spatial), t.dtype)
            if t.shape[-len(spatial) :] == self.shape[-len(spatial) :]
            else t
            for t in self.failure.inputs.tensors
        )
        return self.failure.inputs.of(tensors)

    # -- what runs

    def _channels(self) -> str:
        """Other channels, where the first layer asks for them."""
        wrong = diagnose.channels(self.error)
        at = len(self.shape) - self.count - 1
        if wrong is None or at < 0 or self.shape[at] == wrong[0]:
            return ""
        tensors = tuple(
            TensorSpec((*t.shape[:at], wrong[0], *t.shape[at + 1 :]), t.dtype)
            if t.shape == self.shape
            else t
            for t in self.failure.inputs.tensors
        )
        return self._advice(self.failure.inputs.of(tensors), "use --input {}")

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
        return "; " + text.replace("{}", advised)

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
        """That the search was cut off, where it was."""
        cut = self.trials.cut
        return f"; {what} in the {cut} that the search has: {then}" if cut else ""

    def _of_sizes(self, found: SmallestInput) -> str:
        side = found.side or 1
        square = " square" if len(found.axes) > 1 else ""
        text = f"the smallest{square} input that works is {sizes.shown(found.axes, side)}"
        if found.at_least < side and self.trials.cut:
            text = f"of the sizes that were tried, {text}"
        if found.works == ((side, side),) and diagnose.features(self.error) is not None:
            return self._advice(self._square(side), "or use --input {}").replace(";", ",", 1)
        if not found.step or found.step == 1:
            alone = found.works == ((side, side),)
            return f"; {text}" + (" (the only one of those tried)" if alone else "")
        what = "sides" if square else found.axes[0]
        near = self._near(found)
        works = f": {' and '.join(near)} work{'s' if len(near) == 1 else ''}" if near else ""
        return f"; {what} must be {sizes.pattern(found)}{works}; {text}"

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
