"""Write down operations as they run, and where a forward that raised came to its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from msgspec import structs
from torch import Tensor, nn

from cnnscope.errors import ModelError
from cnnscope.records.trace import Break, OpRecord, Trace
from cnnscope.text import printable, said, visible
from cnnscope.tracing import isolation, kernels, raised, recursion, unseen
from cnnscope.tracing.answers import Schema, answer, schema_of, unchecked, written_by
from cnnscope.tracing.backward import Backward
from cnnscope.tracing.calls import Calls, Modules, current, recording
from cnnscope.tracing.dispatching import DispatchMode
from cnnscope.tracing.plain import packed_geometry, plain, tensors_in
from cnnscope.tracing.storages import Storage, Storages, Window, Write

_LISTED = 1024  # elements of a list of indices that a trace holds


class ExitedError(ModelError):
    """A forward that called `sys.exit()`."""


class ForwardError(ModelError):
    """A forward that raised, with the module that it raised in.

    Attributes:
        path: dotted path of the innermost module that was running ("" is the model itself).
        module: that module.
        shapes: shapes of the tensors it was called with.
        cause: what was raised.
        operation: the operation that raised it ("aten.add.Tensor"), "" where it was other code.
        trace: what ran before; `Trace.broken` says where it ends.
        named: names in the expression that raised, with the shapes of their tensors.
        empty: path of the last module that returned None, None where none did.
        missing: whether the module was given None.
    """

    trace: Trace
    named: tuple[tuple[str, tuple[int, ...]], ...] = ()
    empty: str | None = None
    missing: bool = False

    def __init__(
        self,
        path: str,
        module: nn.Module,
        shapes: tuple[tuple[int, ...], ...],
        cause: Exception,
        operation: str = "",
    ) -> None:
        self.path, self.module, self.shapes, self.cause = path, module, shapes, cause
        self.operation = operation
        kind = visible(type(module).__name__)
        where = f"{path} ({kind})" if path else kind
        given = ", ".join("x".join(map(str, shape)) for shape in shapes) or "no tensors"
        super().__init__(f"forward failed in {where}, called with {given}: {said(cause)}")


class Recorder(DispatchMode):
    """Writes down operations as they run, and has the calls of modules followed."""

    def __init__(self, model: nn.Module, thread: int, *, train: bool = False) -> None:
        super().__init__()
        self.model, self.train = model, train
        self.book = Storages(graph=train)
        self.modules = Modules(model, self.book)
        self.calls = Calls(self.modules, self.book, thread)
        self.calls.fast &= not train
        self.checks = True  # what the user's code calls; torch's own backward pass is right
        self.refused: tuple[Exception | None, OpRecord | None] = None, None  # by which operation
        self.backward: Backward | None = None  # while one runs
        # what every operation needs, without a way through another object
        self._place, self._current, self._read = self.book.place, self.book.current, self.book.read
        self._note_result, self._note_op = self.book.note_result, self.book.note_op
        self._read_stray = self.modules.read_stray

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, and write it down."""
        if recording[-1] is not self.calls:  # of a model that the forward has traced itself
            return func(*args, **kwargs)
        try:
            if self.backward is not None:
                return self.backward.run(self._run, func, args, kwargs)
            return self._run(func, args, kwargs)
        except Exception as error:
            if self.refused[0] is not error:  # before its operands were known
                self.refused = error, OpRecord(str(func), {}, ())
            raise

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, written down."""
        schema = schema_of(func)
        inputs: dict[str, Any] = {}
        attributes: dict[str, Any] = {}
        viewable: dict[Storage, tuple[str, Window]] = {}  # what a result may be a view of
        born = len(self.book.ops) if schema.lifts else -1
        for name, value in (*zip(schema.names, args, strict=False), *kwargs.items()):
            if isinstance(value, Tensor):
                storage, window = self._place(value, born)
                inputs[name] = self._current(storage, window)
                viewable[storage] = (name, window)
                self._read_stray(value, inputs[name])
            elif isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
                inputs[name] = tuple(
                    self._read(v) if isinstance(v, Tensor) else None for v in value
                )
            else:
                attributes[name] = value if type(value) is int else plain(value)
        written = self._about_to_write(schema, args, kwargs) if schema.written else []
        if schema.convolves or schema.lifts or schema.packs:
            self._remark(schema, args, inputs, attributes)
        try:
            run = answer if self.checks else unchecked
            result = run(func, schema, args, kwargs, written)
        except Exception as error:
            self.refused = error, OpRecord(schema.name, inputs, (), attributes)
            raise
        writes = self._write(written) if written else []
        outputs = [write.value for write in writes]
        results = (result,) if isinstance(result, Tensor) else tuple(tensors_in(result))
        for position, tensor in enumerate(results):
            if not written or not any(tensor is other for other in written):
                part = position if len(results) > 1 else None
                outputs.append(self._note_result(tensor, schema.name, attributes, viewable, part))
        self._note_op(schema.name, inputs, tuple(outputs), attributes)
        for write in writes:
            self.book.note_base(write)
        if schema.normalises and attributes.get("training") is False:
            self._empty(outputs[1:])
        return result

    def _about_to_write(
        self, schema: Schema, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The tensors that an operation writes to, of which copies are kept where they are due."""
        written = written_by(schema, args, kwargs)
        self.book.keep(written)
        return written

    def _remark(
        self,
        schema: Schema,
        args: tuple[Any, ...],
        inputs: dict[str, Any],
        attributes: dict[str, Any],
    ) -> None:
        """Add to the attributes what the arguments do not say."""
        if schema.convolves and (parts := _complex_parts(self.book.ops, inputs)):
            attributes["complex_parts"] = parts
        if schema.lifts and (values := _values(args[0])):
            attributes["values"] = values
        if schema.packs:
            attributes |= packed_geometry(args)

    def _write(self, written: list[Tensor]) -> list[Write]:
        """New values for what an operation has written to."""
        return [self.book.overwrite(tensor) for tensor in written]

    def _empty(self, values: list[int]) -> None:
        """Let values have no bytes: those that meta returns and real kernels leave empty."""
        for value in values:
            self.book.life(value)[0] = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Make this the recorder of the thread, and clean up afterwards."""
        with ExitStack() as stack:
            stack.callback(self.book.release)
            stack.enter_context(self.calls.innermost())
            yield

    @contextmanager
    def watching_kernels(self) -> Iterator[None]:
        """Follow functions that are made of others, and memory that no operation makes.

        A recorder around this one does so already, if there is one.
        """
        if len(recording) > 1:
            yield
            return
        with kernels.watching(current, train=self.train), unseen.watching(current):
            yield

    def broken_off(self, error: BaseException) -> tuple[ForwardError, Break]:
        """The error of a forward that raised, placed in the module that was running, and the end.

        The operation of `Break` is what refused its operands, or the function of torch that the
        code called: some refuse before any operation begins.
        """
        refused, operation = self.refused
        operation = operation if refused is error else None
        place, failed = raised.place(error), self.calls.failed_in(error)
        cause = _cause(error).with_traceback(error.__traceback__)
        if isinstance(error, RecursionError):
            cause, failed = self._recursion(error)
            operation, place = None, raised.Place(place.line)
        call, path, module, inputs = failed or (-1, "", self.model, self.modules.inputs)
        args, kwargs = raised.arguments(error, module)
        if call >= 0 and kwargs and failed is not None:
            inputs += tuple(map(self._read, tensors_in(kwargs)))
            self.calls.give(call, inputs)
        shapes = tuple(self.book.tensors[i].shape for i in inputs)
        failure = ForwardError(path, module, shapes, cause, operation.name if operation else "")
        failure.named = tuple((visible(n), tuple(t.shape)) for n, t in place.tensors)
        failure.empty = self.calls.empty
        failure.missing = any(value is None for value in (*args, *kwargs.values()))
        if operation is None and not self.modules.is_library(module):
            operation = self._called(place)
        if operation is not None:
            operation = structs.replace(operation, call=call)
        kind, message = type(error).__name__, " ".join(_text(cause).split())
        return failure, Break(
            call, shapes, operation, visible(kind), printable(message, 1000),
            place.expression, place.line,
        )  # fmt: skip

    def _called(self, place: raised.Place) -> OpRecord | None:
        """The function of torch that code called, with the tensors that the code names."""
        if not place.function:
            return None
        inputs = {visible(name): self._read(tensor) for name, tensor in place.operands}
        return OpRecord(place.function, dict(inputs), ())

    def _recursion(
        self, error: RecursionError
    ) -> tuple[Exception, tuple[int, str, nn.Module, tuple[int, ...]]]:
        """Describe a forward that filled the stack, placed in the module that calls itself."""
        found = recursion.loop(error)
        module = found.module if found and found.module else self.model
        call, path, inputs = self.calls.first_of(module) or (-1, "", self.modules.inputs)
        why = "modules are nested deeper than that; sys.setrecursionlimit in the code raises it"
        if found is not None:
            others = (self.calls.first_of(one) for one in found.through)
            names = ", ".join(other[1] for other in others if other and other[1])
            through = f" through {names}" if names else ""
            why = f"{visible(found.name)} calls itself{through}, and never returns; give it an end"
        limit = f"the recursion limit of {isolation.recursion_limit():,} calls was reached"
        cause = RecursionError(f"{limit}: {why}").with_traceback(error.__traceback__)
        return cause, (call, path, module, inputs)


def _values(tensor: Any) -> tuple[int, ...]:
    """The elements of a list of whole numbers that has just become a tensor, () of any other."""
    if type(tensor) is not Tensor or tensor.device.type != "cpu" or tensor.dim() != 1:
        return ()
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)
    return tuple(map(int, tensor.tolist())) if whole and len(tensor) <= _LISTED else ()


def _complex_parts(ops: list[OpRecord], inputs: dict[str, Any]) -> tuple[int, ...]:
    """The other two of the three convolutions that a complex one is computed by, at its last.

    Its weight is the sum of the weights of the other two, which are a complex one's parts.

    Returns:
        Their numbers, () where it is no such convolution.
    """
    recent = {op.outputs[0]: op for op in ops[-24:] if op.outputs}
    added = recent.get(inputs.get("weight", -1))
    if added is None or added.name != "aten.add.Tensor":
        return ()
    parts = [
        len(ops) - n
        for n, op in enumerate(reversed(ops[-24:]), 1)
        if op.name == "aten.convolution.default"
        and op.inputs["weight"] in (added.inputs.get("self"), added.inputs.get("other"))
    ]
    halves = [recent.get(t) for t in added.inputs.values() if isinstance(t, int)]
    wholes = [recent.get(cast("Any", half.inputs.get("self"))) for half in halves if half]
    names = {op.name for op in wholes if op is not None}
    viewed = len(parts) == 2 and names == {"aten.view_as_real.default"}
    return tuple(sorted(parts)) if viewed else ()


# ------------------------------------------------------------------------- a forward that raised


def _cause(error: BaseException) -> Exception:
    """The exception that is shown: torch's own words for what is not followed say little."""
    text = _text(error)
    if isinstance(error, SystemExit):
        return ExitedError(f"forward called {isolation.called_to_end(error)}()")
    if "SparseTensorImpl" in text:
        return ModelError("it makes a sparse tensor, which is not followed: keep it dense")
    if "NestedTensorImpl" in text:
        return ModelError("it makes a nested tensor, which is not followed: use a padded one")
    higher = re.search(r"no rule registered for HigherOrderOperator (\w+)", text)
    if higher is not None:
        return ModelError(
            f"it runs {higher[1]}, an operation on functions that is not followed: call the "
            "function itself"
        )
    return cast("Exception", error)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its __str__ is other people's code as well
        return "its message cannot be shown"
