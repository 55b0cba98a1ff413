"""Readings of what was typed for inputs: the calls of forward that it may mean, in order.

What was typed leaves open whether sizes have a batch, whether `4` is a tensor or the number, and
whether a dict is one argument or several by keyword. Each reading that the signature allows is
tried by a forward, in this order:

1. The call as it was typed; a dict whose keys are parameters of forward as keyword arguments
   first; several tensors as one list, and a list as several arguments, last.
2. A number or tuple as such where the parameter's annotation or default says so, else as a size.
3. Sizes by the number of axes that the first layer which slides has: as many are taken as they
   are, one less gets a batch of one, fewer are laid over the guess. Without such a layer, sizes
   are taken as they are where the first layer takes features, and a batch is added to three sizes
   where it is not known. Inputs beside the first have its batch. Then every other combination of
   sizes as they are and sizes with a batch.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace
from torch import nn

from cnnscope.errors import RequestError
from cnnscope.models import entries
from cnnscope.models.request import fit_inputs
from cnnscope.models.spelling import FLOATS, InputSpec, quoted, spelled
from cnnscope.records import form as forms
from cnnscope.records.form import Form, Node, Slot, Table, Value
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable
from cnnscope.tracing.arguments import Arguments, arguments, form_of
from cnnscope.tracing.modules import modules_of
from cnnscope.tracing.plain import tensors_in

if TYPE_CHECKING:
    from cnnscope.models.request import Request

_MOST = 16  # readings that are tried
_COMBINED = 4  # tensors whose readings are combined
_IMAGE = 3  # sizes: C, H, W
_MEASURED = (*FLOATS, "complex32", "complex64", "complex128")  # no indices, no masks
_PLANES = (1, 2)  # axes of signals and images
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SLIDING = re.compile(r"(?:Conv|Pool|Pad|Norm|Fold|Unfold)\w*?([123])d$")
_FEATURES = (
    *(nn.Linear, nn.Bilinear, nn.LayerNorm, nn.MultiheadAttention, nn.Transformer),
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.RNNBase, nn.RNNCellBase),
)
_WEIGHED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
_INDICES = (nn.Embedding, nn.EmbeddingBag)


class MisfitError(RequestError):
    """A call that the signature of a forward does not allow."""


class Reading(NamedTuple):
    """Inputs that a request may mean.

    Attributes:
        inputs: shapes, dtypes and form.
        refusal: why the likeliest reading cannot be, "" where it can.
        misfit: why forward cannot be called as it was typed, "" where it can.
    """

    inputs: Inputs
    refusal: str = ""
    misfit: str = ""


def readings(request: Request, model: nn.Module, guess: Inputs, dtype: str) -> list[Reading]:
    """The inputs that a request may mean for a network, in the order in which they are tried.

    Args:
        request: that gives inputs.
        model: the network.
        guess: its inputs by default or by a guess; no tensors where there is none.
        dtype: of its weights, and so of inputs without a dtype.

    Raises:
        RequestError: no reading fits the signature of its forward, or the batch size.
    """
    signature = Signature.of(model)
    form, tensors = signature.ordered(
        request.form or Form((Slot(),) * len(request.inputs)), request.inputs
    )
    if signature.takes(form):
        _check_words(request, signature)
    found: dict[Inputs, str] = {}
    reader = _Sizes.of(request, model, guess, dtype)
    for call in calls(request.name, form, tensors, signature):
        for inputs in reader.all(*call):
            found.setdefault(inputs, "")
    for inputs in [*reader.of_indices(found)]:
        found.setdefault(inputs, "")
    if not found:
        raise RequestError((*reader.refused, *reader.dropped)[0])
    misfit = "" if signature.takes(form) else signature.why_not(form, request.typed)
    ordered = [_cast(one, dtype, d) for d in dtypes_of(request, model, dtype) for one in found]
    tried = itertools.islice(dict.fromkeys(ordered), _MOST)
    return [Reading(inputs, reader.contradiction, misfit) for inputs in tried]


def _check_words(request: Request, signature: Signature) -> None:
    """Refuse a word without quotes for what takes no text.

    Raises:
        RequestError: there is one.
    """
    for name, node in request.form.kwargs if request.form else ():
        if name in request.bare and not signature.takes_text(name):
            typed = printable(f"{name}={spelled(node, iter(()))}")
            bare = typed.replace('"', "")
            raise RequestError(
                f"{request.name}: --input {bare}: it is no size, and nothing "
                f"says that {printable(name)} takes a text (which then needs its own quotes, as in "
                f"--input {quoted(typed)})"
            )


# -------------------------------------------------------------------------------------- signature


class Signature(NamedTuple):
    """Parameters of a forward; None where they cannot be told."""

    signature: inspect.Signature | None
    model: nn.Module | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Signature:
        """The signature of a network's forward."""
        try:
            return cls(inspect.signature(model.forward), model)
        except (TypeError, ValueError):
            return cls(None)

    @property
    def names(self) -> list[str]:
        """Names that an argument may be given by."""
        parameters = self.signature.parameters.values() if self.signature else ()
        return [p.name for p in parameters if p.kind in _BY_NAME]

    @property
    def needed(self) -> int:
        """Number of arguments that forward cannot do without."""
        parameters = self.signature.parameters.values() if self.signature else ()
        various = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return sum(p.default is p.empty and p.kind not in various for p in parameters)

    @property
    def missing_by_keyword(self) -> list[str]:
        """Names of what can only be given by keyword, and must be."""
        parameters = self.signature.parameters.values() if self.signature else ()
        return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]

    def ordered(self, form: Form, tensors: tuple[InputSpec, ...]) -> Call:
        """The call with its keywords in the order of the signature, whatever they were typed in."""
        names = self.names
        last = len(names)
        places = {name: names.index(name) if name in names else last for name, _ in form.kwargs}
        order = sorted(range(len(form.kwargs)), key=lambda i: places[form.kwargs[i][0]])
        before = Form(form.args).count
        counts = [Form((node,)).count for _, node in form.kwargs]
        starts = [before + sum(counts[:i]) for i in range(len(counts))]
        moved = [t for i in order for t in tensors[starts[i] : starts[i] + counts[i]]]
        kwargs = tuple(form.kwargs[i] for i in order)
        return Call(self.placed(Form(form.args, kwargs)), (*tensors[:before], *moved))

    def placed(self, form: Form) -> Form:
        """The call with what forward takes by place alone at its place, where it was named."""
        parameters = self.signature.parameters.values() if self.signature else ()
        by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        named = dict(form.kwargs)
        moved = list(itertools.takewhile(named.__contains__, by_place[len(form.args) :]))
        left = tuple((name, node) for name, node in form.kwargs if name not in moved)
        return Form((*form.args, *(named[name] for name in moved)), left)

    def takes(self, form: Form) -> bool:
        """Return True if a call of this form fits."""
        if self.signature is None:
            return True
        try:
            self.signature.bind(*form.args, **dict(form.kwargs))
        except TypeError:
            return False
        return True

    def why_not(self, form: Form, typed: Sequence[str]) -> str:
        """Explain why a call of this form does not fit, and what to give.

        Args:
            form: of the call.
            typed: what was written for each of its tensors.
        """
        by_keys = entries.advice(self.model, form, typed) if self.model is not None else ""
        return self._mismatch(form, by_keys and f"give {by_keys}")

    def _mismatch(self, form: Form, remedy: str) -> str:
        """Explain why a call of this form does not fit; the remedy is told where it is known."""
        assert self.signature is not None  # noqa: S101  for the type checker
        parameters = self.signature.parameters.values()
        given = dict(form.kwargs)
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        unknown = [name for name in given if name not in self.names]
        if unknown and not anything:
            takes = f"it takes {', '.join(map(printable, self.names))}"
            if not self.names:
                takes = "what it takes has no names: give --input once for each, in order"
            takes += f": {remedy}" if remedy else ""
            return f"forward takes no argument {printable(unknown[0])}; {takes}"
        by_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        twice = [p.name for p in by_place[: len(form.args)] if p.name in given]
        if twice:
            return f"{printable(twice[0])} is given twice, by its place and by its name"
        needed = [p for p in by_place[len(form.args) :] if p.default is p.empty]
        lacking = [p.name for p in needed if p.name not in given]
        by_name = [name for name in self.missing_by_keyword if name not in given]
        if by_name or (lacking and given):
            options = " ".join(f"--input {printable(name)}=SIZE" for name in (*lacking, *by_name))
            needs = ", ".join(map(printable, (*lacking, *by_name)))
            return f"forward needs {needs}: {remedy or f'add {options}'}"
        if not parameters:
            return "forward takes no arguments: leave --input out"
        required = ", ".join(printable(p.name) for p in by_place if p.default is p.empty) or "none"
        times = "once" if len(form.args) == 1 else f"{len(form.args)} times"
        remedy = remedy or "give --input once for each"
        return f"forward takes {required}; {remedy} (it was given {times})"

    def takes_text(self, name: str) -> bool:
        """Return True if the default or the annotation of a parameter is a text."""
        found = self.signature.parameters.get(name) if self.signature else None
        if found is None:
            return False
        text = found.annotation
        text = text if isinstance(text, str) else getattr(text, "__name__", "") + str(text)
        return isinstance(found.default, str) or bool(re.search(r"\bstr\b|\bLiteral\b", text))

    def prefers_plain(self, place: int | str, spec: InputSpec) -> bool:
        """Return True if a parameter takes the number or the tuple itself, and not a tensor.

        Args:
            place: of the argument: its position, or its name.
            spec: what was given.
        """
        parameters = list(self.signature.parameters.values()) if self.signature else []
        found = [p for n, p in enumerate(parameters) if place in (n, p.name)]
        if not found:
            return False
        kinds = (int,) if len(spec.sizes) == 1 and "(" not in spec.text else (tuple, list)
        if type(found[0].default) in kinds:
            return True
        annotation = found[0].annotation
        text = annotation if isinstance(annotation, str) else str(annotation)
        words = r"\bint\b" if kinds == (int,) else r"\b(tuple|list|sequence|size)\b"
        return bool(re.search(words, text, re.IGNORECASE)) and "Tensor" not in text


# ------------------------------------------------------------------------------ forms of the call


class Call(NamedTuple):
    """A form of the call, and the tensors that fill it."""

    form: Form
    tensors: tuple[InputSpec, ...]


def calls(
    name: str, form: Form, tensors: tuple[InputSpec, ...], signature: Signature
) -> Iterator[Call]:
    """The calls that were meant, in order.

    Raises:
        RequestError: forward takes none of them.
    """
    fitting = [one for one in dict.fromkeys(_forms(form, signature)) if signature.takes(one)]
    if not fitting:
        typed = [spec.canonical for spec in tensors]
        raise MisfitError(f"{name}: {signature.why_not(form, typed)}")
    for one in fitting:
        places = _places(one)
        preferred = {
            index for index, spec in enumerate(tensors)
            if spec.plain and signature.prefers_plain(places[index], spec)
        }  # fmt: skip
        yield _with_values(Call(one, tensors), preferred)
    for one in fitting:
        plain = {index for index, spec in enumerate(tensors) if spec.plain}
        if plain:
            yield _with_values(Call(one, tensors), plain)


def _forms(form: Form, signature: Signature) -> Iterator[Form]:
    """The call as it was typed, and as it may have been meant."""
    only = form.args[0] if len(form.args) == 1 and not form.kwargs else None
    named = isinstance(only, Table) and all(
        isinstance(key, str) and key.isidentifier() for key, _ in only.entries
    )
    if isinstance(only, Table) and named:
        keywords = Form((), tuple((str(key), node) for key, node in only.entries))
        known = bool(only.entries) and all(key in signature.names for key, _ in only.entries)
        yield from (keywords, form) if known else (form, keywords)
        return
    yield form
    if isinstance(only, forms.Sequence):
        yield Form(only.items)
    if form.args and form.by_place:
        yield Form((forms.Sequence(form.args),))
        yield Form((forms.Sequence(form.args, is_list=False),))


def _places(form: Form) -> list[int | str]:
    """For each tensor the argument that it is in; -1 where it is not the argument itself."""
    places: list[int | str] = []
    each: list[tuple[int | str, Node]] = [*enumerate(form.args), *form.kwargs]
    for place, node in each:
        inside = Form((node,)).count
        places += [place] if isinstance(node, Slot) else [-1] * inside
    return places


def _with_values(call: Call, plain: set[int]) -> Call:
    """The call with the tensors of these numbers as plain numbers or tuples."""
    if not plain:
        return call
    numbers = itertools.count()

    def changed(node: Node) -> Node:
        if isinstance(node, forms.Sequence):
            return replace(node, items=tuple(map(changed, node.items)))
        if isinstance(node, Table):
            return Table(tuple((key, changed(item)) for key, item in node.entries))
        if isinstance(node, Slot):
            index = next(numbers)
            return _plain(call.tensors[index]) if index in plain else node
        return node

    args = tuple(map(changed, call.form.args))
    form = Form(args, tuple((name, changed(node)) for name, node in call.form.kwargs))
    return Call(form, tuple(t for n, t in enumerate(call.tensors) if n not in plain))


def _plain(spec: InputSpec) -> Node:
    if len(spec.sizes) == 1 and spec.text[:1] not in ("(", "["):
        return Value(spec.sizes[0])
    items = tuple(Value(size) for size in spec.sizes)
    return forms.Sequence(items, is_list=spec.text.startswith("["))


def as_meant(model: nn.Module, given: Arguments) -> Arguments:
    """Arguments of a forward that fit its signature: a dict as keywords, several as one list.

    Args:
        model: whose forward it is.
        given: arguments with tensors; they stay what they are where they fit, or nothing does.
    """
    form = form_of(*given) or Form((Slot(),) * len(given.args))
    signature = Signature.of(model)
    fitting = next((one for one in _forms(form, signature) if signature.takes(one)), form)
    if fitting == form or not form.complete:
        return given
    return arguments(fitting, tensors_in(tuple(given)))


# ------------------------------------------------------------------------------------------ sizes


def dtypes_of(request: Request, model: nn.Module, dtype: str) -> list[str]:
    """The dtypes of inputs that are tried in turn: complex ones too where weights are complex.

    They come first where the first layer of PyTorch has them: it takes no real numbers. What the
    request asks for is the only one.
    """
    modules = [module for _, module in modules_of(model)]
    weights = (m._parameters.get("weight") for m in modules if isinstance(m, _WEIGHED))
    first = next((w for w in weights if w is not None), None)
    every = (p for module in modules for p in module._parameters.values() if p is not None)
    numbers = [p for p in every if p.is_complex()]
    if request.dtype or not numbers or any(spec.dtype in FLOATS for spec in request.inputs):
        return [dtype]
    other = str(numbers[0].dtype).removeprefix("torch.")
    return [other, dtype] if first is not None and first.is_complex() else [dtype, other]


def _cast(inputs: Inputs, dtype: str, other: str) -> Inputs:
    """The inputs with another dtype for one of them."""
    specs = (TensorSpec(t.shape, other if t.dtype == dtype else t.dtype) for t in inputs.tensors)
    return inputs if other == dtype else inputs.of(list(specs))


class _Sizes(NamedTuple):
    """What sizes may mean for one network.

    Attributes:
        rank: of a batch for the first layer that slides; 0 where none does.
        channels: that this layer takes; 0 where it takes any number.
        features: the first layer takes features, and so any number of axes.
        indices: some layer looks indices up.
    """

    guess: Inputs
    batch_size: int | None
    dtype: str
    rank: int
    channels: int
    features: bool
    indices: bool
    refused: list[str]  # the likeliest reading
    dropped: list[str]  # any other

    @classmethod
    def of(cls, request: Request, model: nn.Module, guess: Inputs, dtype: str) -> _Sizes:
        rank, channels, features = _axes(model)
        indices = any(isinstance(layer, _INDICES) for _, layer in modules_of(model))
        batch = request.batch_size
        return cls(guess, batch, dtype, rank, channels, features, indices, [], [])

    @property
    def contradiction(self) -> str:
        """Why the likeliest reading cannot be, "" where it can."""
        return self.refused[0] if self.refused else ""

    def all(self, form: Form, tensors: Sequence[InputSpec]) -> Iterator[Inputs]:
        """The inputs of one call, in order."""
        names = form.names
        typed = [self._with_dtype(spec, n, names) for n, spec in enumerate(tensors)]
        given = None if form.by_place else form
        yield from self._laid_over(form, typed)
        for number, batched in enumerate(_combinations(self._natural(typed))):
            refusal = self._contradicting(typed, batched)
            if refusal:
                (self.dropped if number else self.refused).append(refusal)
                continue
            specs = zip(typed, self._batches(typed, batched), strict=True)
            yield Inputs(tuple(TensorSpec(s, t.dtype or self.dtype) for t, s in specs), given)

    def of_indices(self, tried: Mapping[Inputs, str]) -> Iterator[Inputs]:
        """The readings again with indices for tensors whose dtype was not said."""
        if not self.indices:
            return
        for inputs in tried:
            for number, spec in enumerate(inputs.tensors):
                if spec.dtype == self.dtype:
                    others = list(inputs.tensors)
                    others[number] = TensorSpec(spec.shape, "int64")
                    yield inputs.of(others)

    def _with_dtype(self, spec: InputSpec, number: int, names: Sequence[str]) -> InputSpec:
        """A tensor with the dtype that it is given, that the network offers, or of its weights.

        What is offered under a name counts for that name, else for the same place.
        """
        offered = self.guess.tensors
        known = self.guess.form.names if self.guess.form else ("",) * len(offered)
        at = number if len(offered) == len(names) else len(offered)
        if names[number] and names[number] in known:
            at = known.index(names[number])
        elif any(known) and any(names):
            at = len(offered)
        other = offered[at].dtype if at < len(offered) else ""
        dtype = spec.dtype or (other if other and other not in FLOATS else self.dtype)
        return InputSpec(spec.sizes, dtype, spec.text)

    def _laid_over(self, form: Form, typed: Sequence[InputSpec]) -> Iterator[Inputs]:
        """Few sizes laid over the end of the guess, or of the channels of the first layer."""
        spatial = self.rank - 2
        fewest = all(spec.dtype in _MEASURED and len(spec.sizes) in (1, spatial) for spec in typed)
        if typed and self.channels and not self.indices and spatial in _PLANES and fewest:
            batch = (self.batch_size or 1, self.channels)
            shapes = ((s.sizes * spatial)[:spatial] for s in typed)
            specs = zip(typed, shapes, strict=True)
            tensors = tuple(TensorSpec((*batch, *n), t.dtype or self.dtype) for t, n in specs)
            if len(self.guess.tensors) != 1 or len(typed) > 1:
                yield Inputs(tensors, None if form.by_place else form)
        if len(typed) != 1 or typed[0].dtype not in _MEASURED:
            return
        guessed = self.guess.tensors[0].shape if len(self.guess.tensors) == 1 else ()
        if not typed[0].sizes or len(typed[0].sizes) > len(guessed):
            return
        try:
            laid = Inputs((TensorSpec(guessed, typed[0].dtype or self.dtype),))
            fitted = fit_inputs(typed, laid, self.batch_size)
        except RequestError as error:
            self.refused.append(str(error))
            return
        yield Inputs(fitted.tensors, None if form.by_place else form)

    # -- which sizes get a batch

    def _natural(self, typed: Sequence[InputSpec]) -> tuple[bool, ...]:
        """For each tensor whether a batch is added to it in the likeliest reading."""
        if not typed:
            return ()
        measured = [n for n, spec in enumerate(typed) if spec.dtype in _MEASURED]
        fitting = [n for n in measured if self.rank - len(typed[n].sizes) in (0, 1)]
        main = next(iter(fitting or measured), 0)
        first = self._completed(typed[main])
        batch = self.batch_size or (1 if first or not typed[main].sizes else typed[main].sizes[0])
        return tuple(
            first if n == main else self._beside(spec, typed[main], batch, completed=first)
            for n, spec in enumerate(typed)
        )

    def _completed(self, spec: InputSpec) -> bool:
        """Return True if the main input is a sample, to which a batch is added."""
        count = len(spec.sizes)
        if spec.dtype not in _MEASURED and (count == 1 or self.indices):
            return count == 1
        if self.rank:
            return count == self.rank - 1
        return count == 1 if self.features or self.indices else count == _IMAGE

    def _beside(self, spec: InputSpec, main: InputSpec, batch: int, *, completed: bool) -> bool:
        """Return True if an input beside the main one is a sample, to which a batch is added."""
        count = len(spec.sizes)
        if count == len(main.sizes):
            return completed
        if not count or (self.rank and count == self.rank) or spec.sizes[0] == batch:
            return False
        if completed:
            return True
        sample = self.rank - 1 if self.rank else 0 if self.features else _IMAGE
        return count == sample

    def _contradicting(self, typed: Sequence[InputSpec], batched: Sequence[bool]) -> str:
        """Explain that the batch of one reading is not the one that was asked for."""
        for spec, added in zip(typed, batched, strict=True):
            if self.batch_size is not None and not added and spec.sizes[:1] != (self.batch_size,):
                return (
                    f"--batch-size {self.batch_size}: contradicts the batch of --input "
                    f"{printable(spec.text)}; leave one out"
                )
        return ""

    def _batches(self, typed: Sequence[InputSpec], batched: Sequence[bool]) -> tuple[Shape, ...]:
        """The shapes of one reading."""
        each = list(zip(typed, batched, strict=True))
        own = next((spec.sizes[0] for spec, added in each if not added and spec.sizes), 1)
        batch = self.batch_size or own
        return tuple((batch, *spec.sizes) if added else spec.sizes for spec, added in each)


def _combinations(natural: tuple[bool, ...]) -> Iterator[tuple[bool, ...]]:
    """The likeliest reading, all as they are, all with a batch, then every other."""
    count = len(natural)
    first = (natural, (False,) * count, (True,) * count)
    others = itertools.product((False, True), repeat=count) if count <= _COMBINED else ()
    yield from dict.fromkeys((*first, *others))


def _axes(model: nn.Module) -> tuple[int, int, bool]:
    """Axes of a batch and channels of the first layer that slides; whether features come first."""
    features: bool | None = None
    for _, layer in modules_of(model):
        if isinstance(layer, nn.Flatten) and features is None:
            features = False
        if isinstance(layer, _FEATURES) and features is None:
            features = True
        rank = _rank(layer)
        if rank:
            return rank, getattr(layer, "in_channels", 0) or 0, bool(features)
    return 0, 0, bool(features)


def _rank(layer: nn.Module) -> int:
    """Axes of a batch for a layer that slides, 0 for any other."""
    library: Callable[[Any], bool] = lambda kind: kind.__module__.startswith("torch.nn.modules")  # noqa: E731
    kind = next((base for base in type(layer).__mro__ if library(base)), None)
    if kind is None or kind.__name__ in ("BatchNorm1d", "LazyBatchNorm1d"):  # also of N x C
        return 0
    found = _SLIDING.search(kind.__name__)
    return int(found[1]) + 2 if found else 0
