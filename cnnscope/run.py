"""From what the user typed to a trace: build, run, fall back, and say why it could not be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnscope import spec as specs
from cnnscope import zoo
from cnnscope.analyses import shapes
from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.records import Inputs, ModuleRecord, Shape, TensorSpec, Trace

if TYPE_CHECKING:
    from cnnscope.tracer import ForwardError


def trace_spec(
    model: str,
    *,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
) -> Trace:
    """Trace a named model.

    Args:
        model: such as "resnet18" or "torchvision:resnet18".
        inputs: such as "3x224x224" (see `cnnscope.spec.fit_inputs`); none is the model's default.
        arguments: for the constructor.
        num_classes: for the constructor, where it has it.
        batch_size: N of every input.
        dtype: floating-point type of weights and inputs.

    Raises:
        RequestError: something in the request cannot be; the message says what and the remedy.
        ModelError: the model failed to build or to run on its own default input.
    """
    return _request(model, inputs, arguments, num_classes, batch_size, dtype).trace()


def build_spec(
    model: str,
    *,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    seed: int | None = None,
) -> Any:
    """The `nn.Module` that `trace_spec` traces, in eval mode.

    Args:
        model: and the others: as for `trace_spec`.
        inputs: likewise.
        arguments: likewise.
        num_classes: likewise.
        batch_size: likewise.
        dtype: likewise.
        seed: for weights as the constructor initialises them, in memory; left out, the module is
            on the meta device and has none.

    Raises:
        RequestError: something in the request cannot be.
        ModelError: the model failed to build.
    """
    request = _request(model, inputs, arguments, num_classes, batch_size, dtype)
    return request.module(seed)


def _request(
    model: str,
    inputs: Sequence[str],
    arguments: Mapping[str, Any] | None,
    num_classes: int | None,
    batch_size: int | None,
    dtype: str | None,
) -> _Run:
    wanted = specs.parse_model(model)
    asked = tuple(map(specs.parse_input, inputs))
    keywords = dict(arguments or {})
    if num_classes is not None:
        if "num_classes" in keywords:
            raise RequestError("--num-classes and --arg num_classes: give one of them")
        if num_classes < 1:
            raise RequestError(f"--num-classes {num_classes}: must be at least 1")
        keywords["num_classes"] = num_classes
    if dtype is not None and specs.DTYPES.get(dtype) not in specs.FLOATS:
        raise RequestError(
            f"--dtype {specs.printable(dtype)!r}: use one of {', '.join(specs.FLOATS)}"
        )
    return _Run(wanted, asked, keywords, batch_size, dtype and specs.DTYPES[dtype])


class _Run:
    """One request, carried out."""

    def __init__(
        self,
        spec: specs.ModelSpec,
        asked: tuple[specs.InputSpec, ...],
        arguments: dict[str, Any],
        batch_size: int | None,
        dtype: str | None,
    ) -> None:
        self.spec, self.asked, self.arguments = spec, asked, arguments
        self.batch_size, self.dtype = batch_size, dtype

    def trace(self) -> Trace:
        """Run on tensors without data, and again with values if the model asks for them."""
        built = self._build(with_values=False)
        inputs = self._inputs(built.inputs)
        notes = _notes(built.values, "constructor")
        try:
            return _forward(built, inputs, notes)
        except CnnscopeError as error:
            if not _needs_values(error):
                raise self._explained(error, built, inputs) from error
        built = self._build(with_values=True)
        built.values.answered.clear()
        with built.values:
            try:
                trace = _forward(built, inputs, ())
            except CnnscopeError as error:
                raise self._explained(error, built, inputs) from error
        return _with_notes(trace, _notes(built.values, "forward"))

    def module(self, seed: int | None) -> Any:
        """The module itself, with weights where a seed for them is given."""
        if seed is None:
            return self._build(with_values=False).model
        return zoo.initialised(self.spec, self.arguments, seed)

    def _build(self, *, with_values: bool) -> zoo.Built:
        built = zoo.build(self.spec, self.arguments, with_values=with_values)
        if self.dtype is not None:
            import torch

            built.model.to(getattr(torch, self.dtype))
        return built

    def _inputs(self, default: Inputs) -> Inputs:
        fitted = specs.fit_inputs(self.asked, default, self.batch_size)
        if self.dtype is None:
            return fitted
        tensors = tuple(
            TensorSpec(t.shape, self.dtype if t.dtype in specs.FLOATS else t.dtype)
            for t in fitted.tensors
        )
        return Inputs(tensors, fitted.as_list)

    # -- why it failed

    def _explained(self, error: CnnscopeError, built: zoo.Built, inputs: Inputs) -> CnnscopeError:
        """The message for a forward that raised: what the layer expects, and what would work."""
        from cnnscope.tracer import ForwardError

        if not isinstance(error, ForwardError):
            return error
        name = specs.printable(self.spec.text)
        if not self.asked and self.batch_size is None and self.dtype is None:
            return ModelError(f"{name}: {error}")
        given = ", ".join("x".join(map(str, t.shape)) for t in inputs.tensors[:3])
        reason = _layer_reason(error) or str(error)
        remedy = self._remedy(error, built, inputs)
        return RequestError(f"{name} at {given}: {reason}{remedy}")

    def _remedy(self, error: ForwardError, built: zoo.Built, inputs: Inputs) -> str:
        default = built.inputs
        shown = "x".join(map(str, default.tensors[0].shape[-3:]))
        channels = _channels(error)
        if (
            channels is not None
            and inputs.tensors[0].shape[-3:-2] != default.tensors[0].shape[-3:-2]
        ):
            return f"; use --input {shown}"
        side = self._smallest_side(built, inputs)
        if side is None:
            return f"; its default is --input {shown}"
        return f"; the smallest square input that works is {side}x{side}"

    def _smallest_side(self, built: zoo.Built, inputs: Inputs) -> int | None:
        """The smallest square input that the model runs on, above the size that failed."""
        if len(inputs.tensors[0].shape) < 3:
            return None

        def works(side: int) -> bool:
            tensors = tuple(
                TensorSpec((*t.shape[:-2], side, side), t.dtype) for t in inputs.tensors
            )
            return _runs(built, Inputs(tensors, inputs.as_list))

        low = min(inputs.tensors[0].shape[-2:])
        high = max(built.inputs.tensors[0].shape[-2:])
        if low >= high:
            return None
        if works(low):
            return None  # it is not the size
        if not works(high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if works(middle) else (middle, high)
        return high


def make_inputs(inputs: Inputs, device: str = "meta") -> tuple[Any, ...]:
    """Arguments for forward: tensors without data.

    Raises:
        RequestError: more elements than a tensor can have.
    """
    import torch

    try:
        made = [
            torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
            for spec in inputs.tensors
        ]
    except (RuntimeError, OverflowError, TypeError):
        shown = ", ".join(map(str, inputs.tensors))
        raise RequestError(f"input {specs.printable(shown)}: too large to be a tensor") from None
    return (made,) if inputs.as_list else tuple(made)


def _forward(built: zoo.Built, inputs: Inputs, notes: tuple[str, ...]) -> Trace:
    from cnnscope.tracer import trace

    return trace(built.model, make_inputs(inputs), source=built.source, notes=notes)


def _runs(built: zoo.Built, inputs: Inputs) -> bool:
    import torch

    try:
        with torch.no_grad():
            built.model(*make_inputs(inputs))
    except Exception:  # noqa: BLE001  whatever it raises, it does not run
        return False
    return True


def _needs_values(error: CnnscopeError) -> bool:
    from cnnscope.tracer import ForwardError
    from cnnscope.values import needs_data

    return isinstance(error, ForwardError) and needs_data(error.cause)


def _with_notes(trace: Trace, notes: tuple[str, ...]) -> Trace:
    import msgspec

    return msgspec.structs.replace(trace, notes=trace.notes + notes)


def _notes(values: Any, who: str) -> tuple[str, ...]:
    """What a model was told that looked at its values."""
    if values is None:
        return ()
    answered: Counter[str] = values.answered
    asked = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in answered.most_common())
    if who == "constructor":
        return (f"its constructor computes with small tensors ({asked}): those had values",)
    return (
        f"its forward depends on data ({asked}): that part ran on small tensors with values, "
        "network outputs taken as 0 and every score as passing, so detections are counted at the "
        "model's own limits",
    )


# ------------------------------------------------------------------- what a layer expected


def _record(error: ForwardError) -> ModuleRecord:
    from cnnscope.tracer import module_record

    return module_record(error.path, error.module)


def _channels(error: ForwardError) -> tuple[int, int] | None:
    """(expected, given) channels, where a convolution was given the wrong number."""
    slide = shapes.of_module(_record(error))
    expected = getattr(error.module, "in_channels", None)
    if slide is None or expected is None or not error.shapes:
        return None
    shape = error.shapes[0]
    given = shape[-slide.axes - 1] if len(shape) > slide.axes else None
    return (expected, given) if given is not None and given != expected else None


def _layer_reason(error: ForwardError) -> str | None:
    """Why the layer refused, in its own terms: channels, window, features."""
    record = _record(error)
    where = f"{error.path} ({record.kind})"
    channels = _channels(error)
    if channels is not None:
        return f"{where} takes {channels[0]} channels and was given {channels[1]}"
    slide = shapes.of_module(record)
    if slide is not None and error.shapes and len(error.shapes[0]) > slide.axes:
        return _window_reason(where, slide, error.shapes[0])
    if record.base == "Linear" and error.shapes:
        expected, given = record.hyper.get("in_features"), error.shapes[0][-1]
        if expected != given:
            return f"{where} takes {expected} features and was given {given}"
    return None


def _window_reason(where: str, slide: shapes.Slide, shape: Shape) -> str | None:
    """The first axis on which the window does not fit, with its formula."""
    if slide.form not in ("convolution", "pool"):
        return None
    predicted = slide.predict(shape)[-slide.axes :]
    for axis, size in enumerate(predicted):
        if size < 1:
            return f"the input is too small for {where}: {shapes.formula(slide, shape, axis)}"
    return None
