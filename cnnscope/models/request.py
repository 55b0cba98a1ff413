"""Parse a request: which model, its inputs, arguments and dtype. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from cnnscope.errors import RequestError
from cnnscope.models.names import ModelSpec, parse_model
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable

_DTYPES = (
    "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
    "complex32 complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)
_SHORT = (
    "half float16 fp16 float16 bf16 bfloat16 float float32 fp32 float32 double float64 "
    "fp64 float64 char int8 short int16 int int32 long int64 byte uint8 "
    "chalf complex32 cfloat complex64 cdouble complex128"
).split()
# What may be written for each dtype: torch's name, and the short ones of torch and of people.
DTYPES = {name: name for name in _DTYPES.split()} | dict(
    zip(_SHORT[::2], _SHORT[1::2], strict=True)
)
FLOATS = ("float16", "bfloat16", "float32", "float64")
MAX_SIDE = 2**31 - 1


class InputSpec(msgspec.Struct, frozen=True):
    """An input as it was asked for: the trailing sizes, and a dtype if one was given."""

    sizes: Shape
    dtype: str | None
    text: str


class Request(msgspec.Struct, frozen=True):
    """A model, how it is built, and what it runs on: parsed, and carried whole from here on.

    Attributes:
        model: which one.
        inputs: sizes and dtypes, () for those that the model was published for.
        arguments: of its constructor; `num_classes` is one of them.
        batch_size: N of every input.
        dtype: of weights and inputs that are floating point, by torch's name.
    """

    model: ModelSpec
    inputs: tuple[InputSpec, ...] = ()
    arguments: Mapping[str, Any] = {}
    batch_size: int | None = None
    dtype: str | None = None

    @classmethod
    def of(
        cls,
        model: str,
        inputs: Sequence[str] = (),
        arguments: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
    ) -> Self:
        """Parse a request.

        Args:
            model: "resnet18", "torchvision:resnet18", "net.py:Net" or "package.module:Net".
            inputs: sizes of each input, such as "3x224x224"; none is the model's default.
            arguments: of the model's constructor.
            num_classes: of the model's constructor.
            batch_size: N of every input.
            dtype: "float16", "bfloat16", "float32" or "float64".

        Raises:
            RequestError: one of them cannot be; the message says what and the remedy.
        """
        if not isinstance(arguments, Mapping | None):
            raise RequestError('arguments: give a dict of them, such as {"width_mult": 0.5}')
        keywords = dict(arguments or {})
        _check_whole("--batch-size", batch_size)
        _check_whole("--num-classes", num_classes)
        if num_classes is not None:
            if "num_classes" in keywords:
                raise RequestError("--num-classes and --arg num_classes: give one of them")
            if num_classes < 1:
                raise RequestError(f"--num-classes {num_classes}: must be at least 1")
            keywords["num_classes"] = num_classes
        if dtype is not None and DTYPES.get(str(dtype)) not in FLOATS:
            raise RequestError(f"--dtype {printable(str(dtype))!r}: use one of {', '.join(FLOATS)}")
        parsed = tuple(map(parse_input, several(inputs)))
        return cls(parse_model(model), parsed, keywords, batch_size, dtype and DTYPES[dtype])

    @classmethod
    def of_module(cls, name: str, inputs: Sequence[str]) -> Self:
        """The request for a module that is there already.

        Args:
            name: of its class.
            inputs: sizes of each input.

        Raises:
            RequestError: an input cannot be.
        """
        return cls(ModelSpec("module", name, name), tuple(map(parse_input, inputs)))

    @property
    def name(self) -> str:
        """The model as it was typed, for messages."""
        return self.model.shown

    @property
    def as_published(self) -> bool:
        """True if the model runs on its default input."""
        return not self.inputs and self.batch_size is None and self.dtype is None


def several(given: str | Sequence[str]) -> Sequence[str]:
    """One string stands for a sequence of one."""
    return (given,) if isinstance(given, str) else given


def _check_whole(option: str, given: object) -> None:
    """Refuse what Python gave for a number and is none.

    Raises:
        RequestError: it is neither an integer nor None.
    """
    if given is not None and not isinstance(given, int):
        raise RequestError(f"{option} {printable(repr(given))}: must be an integer")


def parse_input(text: str) -> InputSpec:
    """`3x224x224`, `224x224`, `224`, `1x3x224x224`, each with `:dtype` if wanted.

    Raises:
        RequestError: a size that is not a positive number, or an unknown dtype.
    """
    sizes_text, colon, dtype_text = text.strip().partition(":")
    dtype = None
    if colon:
        dtype = DTYPES.get(dtype_text)
        if dtype is None:
            raise RequestError(
                f"input {printable(text)!r}: unknown dtype {printable(dtype_text)!r}; "
                f"use one of {', '.join(sorted(set(DTYPES.values())))}"
            )
    parts = sizes_text.lower().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise RequestError(
            f"input {printable(text)!r}: expected sizes joined by x, such as 3x224x224, 224x224 "
            "or 1x3x224x224 (and :float16 after them for a dtype)"
        )
    if any(len(part) > 10 or not 0 < int(part) <= MAX_SIDE for part in parts):
        raise RequestError(
            f"input {printable(text)!r}: every size must be between 1 and {MAX_SIDE}"
        )
    return InputSpec(tuple(map(int, parts)), dtype, text.strip())


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
        raise RequestError(
            f"--input was given {len(asked)} times, but the model takes {len(tensors)}: "
            f"{', '.join(map(str, tensors))}"
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


def fit_open(
    asked: Sequence[InputSpec], guess: Inputs, batch_size: int | None
) -> tuple[Inputs, ...]:
    """The inputs to try, in order, for a network whose inputs are unknown.

    One input of no more sizes than the guess is laid over it, as `fit_inputs` does. Any other is
    taken as it is, save that three sizes are C, H, W, with a batch of one; if there is no guess,
    three sizes may be all there are as well.

    Raises:
        RequestError: a batch size that contradicts an input.
    """
    one = asked[0].sizes if len(asked) == 1 else ()
    if len(guess.tensors) == 1 and one and len(one) <= len(guess.tensors[0].shape):
        return (fit_inputs(asked, guess, batch_size),)
    whole = tuple(TensorSpec(a.sizes, a.dtype or "float32") for a in asked)
    each = tuple(TensorSpec((1, *t.shape), t.dtype) if len(t.shape) == 3 else t for t in whole)
    if batch_size is not None:
        for spec, tensor in zip(asked, each, strict=True):
            if len(spec.sizes) != 3 and tensor.shape[0] != batch_size:
                raise RequestError(
                    f"--batch-size {batch_size}: contradicts the batch of --input {spec.text}; "
                    "leave one out"
                )
        each = _batched(each, batch_size, as_list=False)
    if guess.tensors or batch_size is not None or each == whole:
        return (Inputs(each),)
    return (Inputs(each), Inputs(whole))


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
    if batch_size < 1:
        raise RequestError(f"--batch-size {batch_size}: must be at least 1")
    if as_list:
        if len(tensors) not in (1, batch_size):
            raise RequestError(
                f"--batch-size {batch_size}: contradicts the {len(tensors)} inputs given; "
                "leave it out"
            )
        return tensors * batch_size if len(tensors) == 1 else tensors
    return tuple(TensorSpec((batch_size, *t.shape[1:]), t.dtype) for t in tensors)
