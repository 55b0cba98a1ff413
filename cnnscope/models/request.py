"""Parse a request: which model, its inputs, arguments and dtype. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from cnnscope.errors import RequestError
from cnnscope.models import spelling
from cnnscope.models.names import ModelSpec, parse_model
from cnnscope.models.spelling import DTYPES, FLOATS, InputSpec
from cnnscope.records.form import Form
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.text import printable


class Request(msgspec.Struct, frozen=True):
    """A model, how it is built, and what it runs on: parsed, and carried whole from here on.

    Attributes:
        model: which one.
        inputs: sizes and dtypes of tensors, () for those that the model was published for.
        form: in which they are given; None for each by its place.
        bare: names of words without quotes, which are texts where forward takes one.
        arguments: of its constructor; `num_classes` is one of them.
        batch_size: N of every input.
        dtype: of weights and inputs that are floating point, by torch's name.
    """

    model: ModelSpec
    inputs: tuple[InputSpec, ...] = ()
    form: Form | None = None
    arguments: Mapping[str, Any] = {}
    batch_size: int | None = None
    dtype: str | None = None
    bare: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: str,
        inputs: Any = (),
        arguments: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Parse a request.

        Args:
            model: "resnet18", "torchvision:resnet18", "net.py:Net" or "package.module:Net".
            inputs: sizes of each input, such as "3x224x224" or (1, 3, 224, 224), or lists and
                dicts of them (see `models.spelling`); none is the model's default.
            arguments: of the model's constructor.
            num_classes: of the model's constructor.
            batch_size: N of every input.
            dtype: "float16", "bfloat16", "float32" or "float64".
            kwargs: inputs that forward takes by keyword.

        Raises:
            RequestError: one of them cannot be; the message says what and the remedy.
            NotPlainError: an input is a tensor or another object.
        """
        if not isinstance(arguments, Mapping | None):
            raise RequestError('arguments: give a dict of them, such as {"width_mult": 0.5}')
        keywords = dict(arguments or {})
        _check_whole("--batch-size", batch_size)
        _check_whole("--num-classes", num_classes)
        if num_classes is not None:
            if "num_classes" in keywords:
                raise RequestError("--num-classes and --arg num_classes: give one of them")
            keywords["num_classes"] = num_classes
        if dtype is not None and DTYPES.get(str(dtype)) not in FLOATS:
            raise RequestError(f"--dtype {printable(str(dtype))!r}: use one of {', '.join(FLOATS)}")
        form, tensors, bare = spelling.asked(inputs, kwargs)
        shape = None if form.by_place else form
        spec = parse_model(model)
        return cls(spec, tensors, shape, keywords, batch_size, dtype and DTYPES[dtype], bare)

    @classmethod
    def of_module(cls, name: str, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Self:
        """The request for a module that is there already.

        Args:
            name: of its class.
            inputs: as for `of`.
            kwargs: as for `of`.

        Raises:
            RequestError: an input cannot be.
            NotPlainError: an input is a tensor or another object.
        """
        form, tensors, bare = spelling.asked(inputs, kwargs)
        shape = None if form.by_place else form
        return cls(ModelSpec("module", name, name), tensors, shape, bare=bare)

    @property
    def name(self) -> str:
        """The model as it was typed, for messages."""
        return self.model.shown

    @property
    def as_published(self) -> bool:
        """True if the model runs on its default input."""
        return not self.gives_inputs and self.batch_size is None and self.dtype is None

    @property
    def typed(self) -> tuple[str, ...]:
        """What was written for each tensor: `3x224x224:float16`."""
        return tuple(one.canonical for one in self.inputs)

    @property
    def gives_inputs(self) -> bool:
        """True if it says what forward is called with."""
        return bool(self.inputs) or self.form is not None


def several(given: str | Sequence[str]) -> Sequence[str]:
    """One string stands for a sequence of one."""
    return (given,) if isinstance(given, str) else given


def _check_whole(option: str, given: object) -> None:
    """Refuse what is given for a number of samples or classes and is none.

    Raises:
        RequestError: it is neither a positive integer nor None.
    """
    if given is None:
        return
    if isinstance(given, bool) or not isinstance(given, int):
        raise RequestError(f"{option} {printable(repr(given))}: must be an integer")
    if given < 1:
        raise RequestError(f"{option} {given}: must be at least 1")


def fit_inputs(asked: Sequence[InputSpec], default: Inputs, batch_size: int | None) -> Inputs:
    """The inputs to run with: the requested ones, completed from what the model takes by default.

    Sizes are matched from the right: `224` and `224x224` are spatial, `3x224x224` has channels, a
    full rank has the batch as well. One input for a model that takes several of one kind stands
    for all of them.

    Raises:
        RequestError: more inputs or more dimensions than the model takes.
    """
    tensors = default.tensors
    if default.as_list and len(asked) > 1:
        tensors = tensors[:1] * len(asked)
    if len(asked) not in (0, 1, len(tensors)):
        single = all(len(one.sizes) == 1 for one in asked) and len(tensors) == 1
        sizes = "x".join(str(one.sizes[0]) for one in asked) if single else ""
        raise RequestError(
            f"--input was given {len(asked)} times, but the model takes {len(tensors)}: "
            f"{', '.join(map(str, tensors))}" + (f"; one input is --input {sizes}" if sizes else "")
        )
    if asked:
        each = asked if len(asked) == len(tensors) else [asked[0]] * len(tensors)
        leading = 1 if default.as_list else 2
        tensors = tuple(_fit(a, t, leading) for a, t in zip(each, tensors, strict=True))
        if batch_size is not None and not default.as_list:
            _refuse_two_batch_sizes(asked, default, batch_size)
    if batch_size is not None:
        tensors = _batched(tensors, batch_size, as_list=default.as_list)
    return Inputs.listed(tensors) if default.as_list else default.of(tensors)


def _fit(asked: InputSpec, default: TensorSpec, leading: int) -> TensorSpec:
    """`asked` laid over the end of `default`; one size alone stands for H and W.

    `leading` dimensions of the default (batch, channels) are not spatial.
    """
    sizes, shape = asked.sizes, default.shape
    if len(sizes) == 1:
        sizes = sizes * max(1, min(2, len(shape) - leading))
    if len(sizes) > len(shape):
        raise RequestError(
            f"input {printable(asked.text)!r} has {len(sizes)} dimensions, but the model takes "
            f"{len(shape)}: {'x'.join(map(str, shape))}"
        )
    kept = shape[: len(shape) - len(sizes)]
    return TensorSpec(kept + sizes, asked.dtype or default.dtype)


def _refuse_two_batch_sizes(asked: Sequence[InputSpec], default: Inputs, batch_size: int) -> None:
    for spec in asked:
        full = len(spec.sizes) == len(default.tensors[0].shape)
        if full and spec.sizes[0] != batch_size:
            raise RequestError(
                f"--batch-size {batch_size}: contradicts the batch of --input {spec.text}; "
                "leave one out"
            )


def _batched(
    tensors: tuple[TensorSpec, ...], batch_size: int, *, as_list: bool
) -> tuple[TensorSpec, ...]:
    if as_list:
        if len(tensors) not in (1, batch_size):
            raise RequestError(
                f"--batch-size {batch_size}: contradicts the {len(tensors)} inputs given; "
                "leave it out"
            )
        return tensors * batch_size if len(tensors) == 1 else tensors
    return tuple(TensorSpec((batch_size, *t.shape[1:]), t.dtype) for t in tensors)
