"""From what the user typed to a trace: build, run, fall back, and say why it could not be done."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models import build as zoo
from cnnscope.models import spec as specs
from cnnscope.records import Inputs, SmallestInput, TensorSpec, Trace
from cnnscope.text import said

_PACKAGE = str(Path(__file__).parents[1])

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.files.source import Guess
    from cnnscope.models.trials import Way
    from cnnscope.tracing.tracer import ForwardError


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
        model: such as "resnet18", "torchvision:resnet18", "net.py:Net" or "package.module:Net".
        inputs: such as "3x224x224" (see `models.spec.fit_inputs`); none is the model's default.
        arguments: for the constructor.
        num_classes: for the constructor, where it has it.
        batch_size: N of every input.
        dtype: floating-point type of weights and inputs.

    Raises:
        RequestError: something in the request cannot be; the message says what and the remedy.
        ModelError: the model failed to build or to run on its own default input.
    """
    return _request(model, inputs, arguments, num_classes, batch_size, dtype).trace()


def examine_spec(
    model: str,
    *,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    seconds: float | None = None,
) -> Examined:
    """Trace a named model, and try which sizes of its input it works on.

    The other arguments and errors are those of `trace_spec`.

    Args:
        model: and the others: as for `trace_spec`.
        inputs: likewise.
        arguments: likewise.
        num_classes: likewise.
        batch_size: likewise.
        dtype: likewise.
        seconds: that sizes are tried for; left out, `cnnscope.models.trials.SECONDS`.
    """
    return _request(model, inputs, arguments, num_classes, batch_size, dtype).examine(seconds)


@contextmanager
def module(
    model: str,
    *,
    inputs: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    seed: int | None = None,
) -> Iterator[Any]:
    """The `nn.Module` that `trace_spec` traces, in eval mode, to be run while this lasts.

    What it prints goes to stderr; afterwards what was loaded for it is forgotten.

    Args:
        model: and the others: as for `trace_spec`.
        inputs: likewise.
        arguments: likewise.
        num_classes: likewise.
        batch_size: likewise.
        dtype: likewise.
        seed: for weights as the constructor makes them, in memory; left out, the module is on the
            meta device and has none.

    Raises:
        RequestError: something in the request cannot be.
        ModelError: the model failed to build, or whatever was done with it.
    """
    from cnnscope.tracing import isolation

    request = _request(model, inputs, arguments, num_classes, batch_size, dtype)
    with request.found() as found, isolation.aside():
        yield request.module(found, seed)


def real_model(
    model: str,
    device: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
) -> tuple[zoo.Built, Callable[[], None]]:
    """A named model on a device, with weights as its constructor makes them; not a trace.

    Returns:
        The model, and what to call when it is not needed any more: it forgets the user's code.

    Raises:
        RequestError: something in the request cannot be.
        ModelError: the model failed to build.
    """
    return _request(model, (), arguments, num_classes, None, dtype).real(device)


@contextmanager
def building(
    model: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    dtype: str | None = None,
) -> Iterator[Callable[[str], zoo.Built]]:
    """How a named model is built, more than once: a function of the way.

    The ways are "meta" and "values" (see `zoo.build_found`), and "real" for weights on the CPU.
    What the model prints goes to stderr; afterwards what was loaded for it is forgotten.

    Raises:
        RequestError, ModelError: as `trace_spec`; the function likewise.
    """
    from cnnscope.tracing import isolation

    request = _request(model, (), arguments, num_classes, None, dtype)
    with request.found() as found, isolation.aside():
        yield lambda way: request.build(found, way)


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
        """Find the model, run it, and forget what was loaded for it."""
        with self.found() as found:
            return self._ran(found).trace

    def examine(self, seconds: float | None) -> Examined:
        """The same, and the sizes that it works on."""
        with self.found() as found:
            ran = self._ran(found)
            return Examined(ran.trace, ran.sizes(seconds))

    def _ran(self, found: zoo.Found) -> _Ran:
        if found.own is None:
            return self._trace(found)
        network = _Network(
            name=specs.printable(self.spec.text),
            build=lambda way: zoo.build_found(found, self.arguments, way=way),
            guesses=found.own.guesses,
            line=found.own.line,
        )
        return _OwnRun(network, self.asked, self.batch_size, self.dtype).run()

    @contextmanager
    def found(self) -> Iterator[zoo.Found]:
        """The model's source while something is done with it, and whose fault it is if that fails.

        One thread at a time.
        """
        from cnnscope.tracing import isolation

        with isolation.alone, isolation.warning_once():
            found = zoo.find(self.spec)
            try:
                yield found
            except (CnnscopeError, KeyboardInterrupt):
                raise
            except BaseException as error:
                failure = self._failure(found, error)
                if failure is None:
                    raise
                raise failure from error
            finally:
                found.close()

    def _trace(self, found: zoo.Found) -> _Ran:
        """Run on tensors without data, and again with values if the model asks for them."""
        built = self.build(found, "meta")
        inputs = self._inputs(built.inputs)
        built.accept(inputs)
        notes = built.notes + _notes(built.values, "constructor")
        way = _way("meta")
        try:
            return _Ran(_forward(built, inputs, notes), built, way, inputs)
        except CnnscopeError as error:
            if not _needs_values(error):
                raise self._explained(error, built, way, inputs) from error
        built = self.build(found, "values")
        built.values.answered.clear()
        way = _way("values", lambda: built.values)
        with built.values:
            try:
                trace = _forward(built, inputs, ())
            except CnnscopeError as error:
                failed = error
            else:
                trace = _with_notes(trace, built.notes + _notes(built.values, "forward"))
                return _Ran(trace, built, way, inputs)
        raise self._explained(failed, built, way, inputs) from failed

    def _failure(self, found: zoo.Found, error: BaseException) -> ModelError | None:
        """What has failed, where that is not this program."""
        from cnnscope.tracing import isolation

        if zoo.out_of_memory(error):
            name = specs.printable(self.spec.text)
            return ModelError(f"{name}: there is not enough memory for it ({said(error)})")
        if found.own is None or isolation.raised_in(error).startswith(_PACKAGE):
            return None
        return ModelError(found.own.sentence("could not be examined", error))

    def real(self, device: str) -> tuple[zoo.Built, Callable[[], None]]:
        """The model with weights on a device, and what forgets the code that it came from."""
        from cnnscope.tracing import isolation

        with isolation.alone:
            found = zoo.find(self.spec)
            try:
                return self._cast(zoo.build_real(found, self.arguments, device)), found.close
            except BaseException:
                found.close()
                raise

    def module(self, found: zoo.Found, seed: int | None) -> Any:
        """The module itself, with weights where a seed for them is given."""
        if seed is None:
            return self.build(found, "meta").model.to("meta")  # one's own may come with weights
        return zoo.build_real(found, self.arguments, "cpu", seed).model

    def build(self, found: zoo.Found, way: str) -> zoo.Built:
        """The model in one of the ways of `building`."""
        if way == "real":
            return self._cast(zoo.build_real(found, self.arguments, "cpu"))
        return self._cast(zoo.build_found(found, self.arguments, way=way))

    def _cast(self, built: zoo.Built) -> zoo.Built:
        if self.dtype is not None:
            import torch

            built.model.to(getattr(torch, self.dtype))
        return built

    def _inputs(self, default: Inputs) -> Inputs:
        return _of_dtype(specs.fit_inputs(self.asked, default, self.batch_size), self.dtype)

    def _explained(
        self, error: CnnscopeError, built: zoo.Built, way: Way, inputs: Inputs
    ) -> CnnscopeError:
        """The message for a forward that raised: what the layer expects, and what would work."""
        from cnnscope.models import remedy
        from cnnscope.tracing.tracer import ForwardError

        if not isinstance(error, ForwardError):
            return error
        name = specs.printable(self.spec.text)
        if isinstance(error.cause, RequestError):  # of a program in a file, which was refused
            return RequestError(f"{name}: {error.cause}")
        if not self.asked and self.batch_size is None and self.dtype is None:
            return ModelError(f"{name}: {error}")
        typed = tuple(asked.text for asked in self.asked)
        return remedy.explained(
            remedy.Failure(name, error, built, way, inputs, typed, (built.inputs,))
        )


class Examined(NamedTuple):
    """A trace, and which sizes of the input work: squares or the one axis first, single axes."""

    trace: Trace
    sizes: tuple[SmallestInput, ...]


class _Ran(NamedTuple):
    """A trace, and the model that it was made with, to be run again."""

    trace: Trace
    built: zoo.Built
    way: Way
    inputs: Inputs

    def sizes(self, seconds: float | None) -> tuple[SmallestInput, ...]:
        """Which sizes of the input work."""
        from cnnscope.models.trials import SECONDS, sizes_of
        from cnnscope.tracing import isolation

        with isolation.aside(), seeded():
            given = (self.built, self.way, self.inputs, self.trace)
            return sizes_of(*given, SECONDS if seconds is None else seconds)


def _way(name: str, values: Callable[[], Any] = contextlib.nullcontext) -> Way:
    """How forwards are run: on "meta", with "values", or for "real"."""
    from cnnscope.models.trials import Way

    return Way(real_inputs if name == "real" else make_inputs, values, on_meta=name != "real")


class _Network(NamedTuple):
    """The user's own network, however it was named."""

    name: str
    build: Callable[[str], zoo.Built]  # on "meta", with "values", or "real"
    guesses: Callable[[nn.Module], Sequence[Guess]]  # inputs to try where none was asked for
    line: Callable[[BaseException], str]  # "net.py:3: ", where in the user's code


class _Choice(NamedTuple):
    """Inputs to try, and what the report says of them."""

    inputs: Inputs
    note: str = ""


class _OwnRun:
    """One request for the user's own network: nothing of it is known beforehand.

    It may look at its data, and then the truth needs data. What follows from constants alone is
    known without weights; for anything else it runs for real, on the CPU, and the report says so.
    """

    def __init__(
        self,
        network: _Network,
        asked: tuple[specs.InputSpec, ...],
        batch_size: int | None = None,
        dtype: str | None = None,
    ) -> None:
        self.network, self.asked, self.batch_size, self.dtype = network, asked, batch_size, dtype
        self.reason = ""  # why it has to run for real

    def run(self) -> _Ran:
        """On tensors without data; if it asks for data, with constants known; else for real."""
        built = self.network.build("meta")
        choices = self._choices(built)
        self.reason = built.real or _scripted(built.model)
        if not self.reason:
            for way in ("meta", "values"):
                try:
                    return self._try_each(built, way, choices)
                except CnnscopeError as error:
                    if not _asks_for_data(error):
                        raise
                    self.reason = self.reason or self._why(error)
                built = self.network.build("values" if way == "meta" else "real")
        elif not built.real:
            built = self.network.build("real")
        return self._try_each(built, "real", choices)

    # -- what to run it on

    def _choices(self, built: zoo.Built) -> list[_Choice]:
        """The inputs to try, in order."""
        dtype = self.dtype or _dtype_of(built.model)
        if self.asked:
            taken = all(t.dtype in specs.FLOATS for t in built.inputs.tensors)
            asked = [
                specs.InputSpec(a.sizes, a.dtype or (dtype if taken else None), a.text)
                for a in self.asked
            ]
            fitted = specs.fit_open(asked, built.inputs, self.batch_size)
            return [_Choice(_of_dtype(inputs, self.dtype)) for inputs in fitted]
        choices = []
        for guess in self.network.guesses(built.model):
            inputs = specs.fit_inputs((), guess.inputs, self.batch_size)
            shown = ", ".join("x".join(map(str, t.shape)) for t in inputs.tensors)
            what = f"the {guess.because}" if guess.offered else f"a guess ({guess.because})"
            note = f"no --input was given: {shown} is {what}"
            choices.append(_Choice(_of_dtype(inputs, dtype), note))
        required = _required(built.model)
        if not choices and required != []:
            takes = f": forward takes {', '.join(required)}" if required else ""
            times = " once for each" if len(required or ()) > 1 else ""
            raise RequestError(
                f"{self.network.name}: give --input{times}, such as --input 3x224x224{takes}"
            )
        return choices or [_Choice(Inputs(()))]

    def _try_each(self, built: zoo.Built, way: str, choices: Sequence[_Choice]) -> _Ran:
        """The trace of the first choice that runs.

        Raises:
            ForwardError: it asks for data.
            CnnscopeError: no choice runs; of the first one, explained.
        """
        from cnnscope.tracing.tracer import ForwardError

        failed: list[tuple[ForwardError, _Choice]] = []
        for choice in choices:
            if failed and _is_lazy(built.model):
                built = self.network.build(way)  # a forward that fails may have given it shapes
            try:
                trace = self._forward(built, way, choice)
            except ForwardError as error:
                if way != "real" and _asks_for_data(error):
                    raise
                failed.append((error, choice))
            else:
                return _Ran(trace, built, self._as_run(built, way), choice.inputs)
        if not failed:
            raise ModelError(f"{self.network.name}: there is nothing to run it on")
        first, choice = failed[0]
        raise self._explained(first, built, way, choice.inputs) from first

    def _as_run(self, built: zoo.Built, way: str) -> Way:
        return _way(way, lambda: following(built)) if way == "values" else _way(way)

    def _forward(self, built: zoo.Built, way: str, choice: _Choice) -> Trace:
        inputs, model = choice.inputs, built.model
        _check_count(self.network.name, model, inputs)
        notes = [choice.note] if choice.note else []
        if way == "meta":
            notes += _notes(built.values, "constructor")
        with seeded(), self._quiet():
            values = following(built) if way == "values" else None
            arguments = real_inputs(inputs) if way == "real" else make_inputs(inputs)
            with values or contextlib.nullcontext():
                if _is_lazy(model) and built.inputs is not _UNTOUCHED:
                    _run_once(model, make_inputs(_of_dtype(inputs, "float32"), _device(way)))
                if self.dtype is not None:
                    _convert(model, self.dtype)
                trace = _trace(model, arguments, built)
        if values is not None:
            notes += _notes(values, "own forward")
        if way == "real":
            notes.append(
                "ran on real tensors, with random weights and inputs of a fixed seed, because it "
                f"looks at its data ({self.reason}); with other data it may come out otherwise"
            )
            trace = _decided_by_data(trace)
        return _with_notes(trace, tuple(notes))

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """The user's prints go to stderr; an exit is a failure."""
        from cnnscope.tracing import isolation

        with isolation.aside():
            try:
                yield
            except (Exception, KeyboardInterrupt):
                raise
            except BaseException as error:
                what = f"raised {said(error)}"
                if isinstance(error, SystemExit):
                    what = "called sys.exit()"
                where = self.network.line(error)
                raise ModelError(f"{self.network.name}: {where}forward {what}") from error

    # -- why it failed

    def _why(self, error: CnnscopeError) -> str:
        cause = getattr(error, "cause", error)
        return f"{self.network.line(cause)}{said(cause, 120)}"

    def _explained(
        self, error: ForwardError, built: zoo.Built, way: str, inputs: Inputs
    ) -> CnnscopeError:
        """Whose fault it is: the input's where another one runs, else the network's."""
        from cnnscope.models import remedy

        known = tuple(
            _of_dtype(guess.inputs, self.dtype) for guess in self.network.guesses(built.model)
        )
        failure = remedy.Failure(
            self.network.name,
            error,
            built,
            self._as_run(built, way),
            inputs,
            tuple(asked.text for asked in self.asked),
            known if self.asked else (),
            self.network.line(error.cause),
            guessed=not self.asked,
        )
        with self._quiet(), seeded():
            return remedy.explained(failure)


_UNTOUCHED = Inputs(())  # of a module that is the caller's and must not be changed


def trace_module(model: nn.Module, inputs: Sequence[str] = ()) -> Trace:
    """Trace a module that is there already on tensors without data, with real ones if need be.

    Args:
        model: it is left as it was.
        inputs: sizes, such as "3x224x224"; none is a guess.

    Raises:
        RequestError: the inputs are not what its forward takes.
        ModelError: its forward failed.
    """
    from cnnscope.models.files.source import guesses
    from cnnscope.tracing import isolation
    from cnnscope.tracing.tracer import as_written, source_of, state_of

    model = as_written(model)
    source = source_of(model)

    def build(way: str) -> zoo.Built:
        if way == "real" and any(tensor.is_meta for tensor in state_of(model)):
            raise ModelError(
                f"{source.name} looks at its data, and its weights are on the meta device: "
                "move it to the CPU"
            )
        return zoo.Built(model, _UNTOUCHED, source, None, zoo.anything, ())

    network = _Network(source.name, build, guesses, lambda _: "")
    with isolation.alone, isolation.warning_once():
        return _OwnRun(network, tuple(map(specs.parse_input, inputs))).run().trace


def following(built: zoo.Built) -> Any:
    """The values that the constructor was given, or new ones."""
    from cnnscope.tracing.values import KnownValues

    values = built.values or KnownValues(constants_only=True)
    values.answered.clear()
    return values


def _trace(model: nn.Module, arguments: tuple[Any, ...], built: zoo.Built) -> Trace:
    from cnnscope.tracing.tracer import trace

    return trace(model, arguments, source=built.source)


def _run_once(model: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Let lazy layers find out their widths."""
    import torch

    with torch.no_grad(), contextlib.suppress(Exception):
        model(*arguments)  # if it fails, the trace says why


def _device(way: str) -> str:
    return "cpu" if way == "real" else "meta"


def _convert(model: nn.Module, dtype: str) -> None:
    import torch

    model.to(getattr(torch, dtype))


def _dtype_of(model: nn.Module) -> str:
    """The floating-point type of its first weight."""
    from cnnscope.tracing.tracer import state_of

    dtypes = (str(tensor.dtype).removeprefix("torch.") for tensor in state_of(model))
    return next((dtype for dtype in dtypes if dtype in specs.FLOATS), "float32")


def _is_lazy(model: nn.Module) -> bool:
    from torch.nn.parameter import is_lazy

    from cnnscope.tracing.tracer import state_of

    return any(map(is_lazy, state_of(model)))


def _scripted(model: nn.Module) -> str:
    import torch

    from cnnscope.tracing.modules import modules_of

    scripted = any(isinstance(module, torch.jit.ScriptModule) for _, module in modules_of(model))
    return "TorchScript does not run without it" if scripted else ""


def _required(model: nn.Module) -> list[str] | None:
    from cnnscope.models.files.source import required_inputs

    return required_inputs(model)


def _check_count(name: str, model: nn.Module, inputs: Inputs) -> None:
    """Whether forward takes so many inputs.

    Raises:
        RequestError: it does not.
    """
    import inspect

    required = _required(model)
    needed = _needed_keywords(model)
    if needed:
        raise RequestError(
            f"{name}: forward needs {', '.join(map(specs.printable, needed))} by keyword, which "
            "only cnnscope.summary(model, inputs, kwargs) in Python can give"
        )
    try:
        inspect.signature(model.forward).bind(*inputs.tensors)
    except ValueError:
        return
    except TypeError:
        takes = ", ".join(map(specs.printable, required or ())) or "none"
        count = len(inputs.tensors)
        raise RequestError(
            f"{name}: forward takes {takes}; give --input once for each (it was given "
            f"{'once' if count == 1 else f'{count} times'})"
        ) from None


def _needed_keywords(model: nn.Module) -> list[str]:
    import inspect

    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


@contextmanager
def seeded() -> Iterator[None]:
    """Random numbers of a fixed seed, and the state as it was afterwards."""
    from cnnscope.tracing import isolation

    with isolation.seeded(zoo.SEED):
        yield


def real_inputs(inputs: Inputs) -> tuple[Any, ...]:
    """Tensors with data: uniform in [0, 1), zero for integers (an index into anything), or true."""
    import torch

    def filled(tensor: Any) -> Any:
        if tensor.is_floating_point() and tensor.element_size() > 1:
            return tensor.uniform_()
        if tensor.is_floating_point() or tensor.is_complex():  # kernels may not fill these
            return torch.rand(tensor.shape).to(tensor.dtype)
        return tensor.fill_(1 if tensor.dtype is torch.bool else 0)

    made = make_inputs(inputs, "cpu")
    if inputs.as_list:
        return ([filled(tensor) for tensor in made[0]],)
    return tuple(map(filled, made))


def _of_dtype(inputs: Inputs, dtype: str | None) -> Inputs:
    """Floating-point inputs of another type."""
    if dtype is None:
        return inputs
    tensors = tuple(
        TensorSpec(t.shape, dtype if t.dtype in specs.FLOATS else t.dtype) for t in inputs.tensors
    )
    return Inputs(tensors, inputs.as_list)


def _asks_for_data(error: CnnscopeError) -> bool:
    from cnnscope.tracing.tracer import ForwardError
    from cnnscope.tracing.values import needs_data

    return isinstance(error, ForwardError) and needs_data(error.cause, own=True)


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
    from cnnscope.tracing.tracer import trace

    return trace(built.model, make_inputs(inputs), source=built.source, notes=notes)


def _needs_values(error: CnnscopeError) -> bool:
    from cnnscope.tracing.tracer import ForwardError
    from cnnscope.tracing.values import needs_data

    return isinstance(error, ForwardError) and needs_data(error.cause)


def _with_notes(trace: Trace, notes: tuple[str, ...]) -> Trace:
    import msgspec

    return msgspec.structs.replace(trace, notes=trace.notes + notes)


def _decided_by_data(trace: Trace) -> Trace:
    import msgspec

    return msgspec.structs.replace(trace, decided_by=tuple(sorted({*trace.decided_by, "data"})))


def _notes(values: Any, who: str) -> tuple[str, ...]:
    """What a model was told that looked at its values."""
    if values is None:
        return ()
    answered: Counter[str] = values.answered
    if not answered:  # it was looked at without an operation, as `tolist` does
        return ()
    asked = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in answered.most_common())
    if who == "constructor":
        return (f"its constructor computes with small tensors ({asked}): those had values",)
    if who == "own forward":
        return (f"its forward computes with small constants ({asked}): those had values",)
    return (
        f"its forward depends on data ({asked}): that part ran on small tensors with values, "
        "network outputs taken as 0 and every score as passing, so detections are counted at the "
        "model's own limits",
    )
