"""One forward of a model on tensors without data, written down operation by operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnscope.records.form import Form
from cnnscope.records.trace import Shape
from cnnscope.tracing import isolation
from cnnscope.tracing.arguments import arguments
from cnnscope.tracing.modules import modules_of, untouched


class Target(NamedTuple):
    """The output of a module call, or of the `nth` operation called `op` in it."""

    path: str
    call: int = 1
    op: str = ""
    nth: int = 0


class Given(NamedTuple):
    """An input: which of its dimensions are the image's axes, in their order; none of a vector.

    What is seen of it is measured if it is `watched`.
    """

    shape: Shape
    axes: tuple[int, ...] = ()
    dtype: str = "float32"
    watched: bool = True


def image(shape: Shape, axes: int | None = None) -> Given:
    """An image: its last dimensions are axes, all but batch and channels if it is not said."""
    count = len(shape) - 2 if axes is None else axes
    return Given(shape, tuple(range(len(shape) - count, len(shape))))


class Ref(NamedTuple):
    """A tensor of the recording, by number."""

    number: int


class Step(NamedTuple):
    """One operation; tensors in its arguments are `Ref`s."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]


class Tape(NamedTuple):
    """A recorded forward: tensors are numbered in the order in which they were met."""

    steps: list[Step]
    shapes: list[Shape]
    floating: list[bool]  # real or complex numbers, not indices or masks
    contiguous: list[bool]  # whether a tensor is all of its memory, in order
    memory: list[int]  # tensors of one number lie in the same memory
    inputs: dict[int, Given]
    known: dict[int, Tensor]  # constants with values
    strays: frozenset[int]  # memory of an operation's result, reached without an operation
    targets: dict[Target, tuple[int, int]]  # tensor, and the number of steps that had run
    failure: str  # what ended the forward early, or nothing
    # of a program from a file: the operations that may run with values; None where all may
    computes: frozenset[str] | None = None

    @property
    def axes(self) -> int:
        """Number of axes of the image."""
        return max(len(given.axes) for given in self.inputs.values() if given.watched)


def record(model: nn.Module, inputs: Sequence[Given], *, form: Form | None = None) -> Tape:
    """Run a model on the meta device and write down its operations.

    Args:
        model: with its weights on the meta device; it is left as it was, but in eval mode.
        inputs: what it is called with.
        form: in which they are given; None gives each by its place.
    """
    with isolation.alone, isolation.same_random(), untouched(model):
        recorder = _Recorder(model)
        tensors = [
            torch.empty(one.shape, device="meta", dtype=getattr(torch, one.dtype)) for one in inputs
        ]
        numbers = [recorder.number(x) for x in tensors]
        failure = ""
        model.eval()
        with torch.no_grad(), recorder.watching(), recorder:
            try:
                arguments(form, tensors).call(model)
            except Exception as error:  # noqa: BLE001  whatever ended it, the rest was not run
                failure = " ".join(str(error).split())[:160] or type(error).__name__
        return recorder.tape(dict(zip(numbers, inputs, strict=True)), failure)


class _Recorder(TorchDispatchMode):
    """Numbers tensors by identity: all are kept, which costs nothing on the meta device."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.computes = getattr(model, "exported_computes", None)
        self.paths = {module: path for path, module in modules_of(model)}
        self.state = {id(t) for t in (*model.parameters(), *model.buffers())}
        self.kept: list[Tensor] = []
        self.numbers: dict[int, int] = {}
        self.steps: list[Step] = []
        self.made: set[int] = set()  # storages of results
        self.strays: set[int] = set()
        self.targets: dict[Target, tuple[int, int]] = {}
        self.calls: Counter[str] = Counter()
        self.stack: list[tuple[str, int, Counter[str]]] = []

    def number(self, tensor: Tensor, *, result: bool = False) -> int:
        known = self.numbers.get(id(tensor))
        if known is not None:
            return known
        number = self.numbers[id(tensor)] = len(self.kept)
        self.kept.append(tensor)
        storage = tensor.untyped_storage()._cdata
        if result:
            self.made.add(storage)
        elif storage in self.made and id(tensor) not in self.state:
            self.strays.add(number)
        return number

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _mapped(args, lambda t: Ref(self.number(t)))
        named = _mapped(kwargs, lambda t: Ref(self.number(t)))
        try:
            result = func(*args, **kwargs)
        except RuntimeError:  # a constant on the CPU beside tensors without data
            result = func(*_mapped(args, _on_meta), **_mapped(kwargs, _on_meta))
        results = result if isinstance(result, (tuple, list)) else (result,)
        outputs = tuple(self.number(t, result=True) for t in results if isinstance(t, Tensor))
        self.steps.append(Step(func, given, named, outputs))
        if self.stack and outputs:
            path, call, seen = self.stack[-1]
            name = str(func)
            self.targets[Target(path, call, name, seen[name])] = (outputs[0], len(self.steps))
            seen[name] += 1
        return result

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self.paths:
                stack.callback(module.register_forward_pre_hook(self._enter).remove)
                hook = module.register_forward_hook(self._leave, always_call=True)
                stack.callback(hook.remove)
            yield

    def _enter(self, module: nn.Module, _: Any) -> None:
        path = self.paths[module]
        self.calls[path] += 1
        self.stack.append((path, self.calls[path], Counter()))

    def _leave(self, _: nn.Module, __: Any, result: Any) -> None:
        path, call, _seen = self.stack.pop()
        tensor = next(_tensors(result), None)
        if tensor is not None:
            self.targets[Target(path, call)] = (self.number(tensor), len(self.steps))

    def tape(self, inputs: dict[int, Given], failure: str) -> Tape:
        return Tape(
            self.steps,
            [tuple(t.shape) for t in self.kept],
            [t.is_floating_point() or t.is_complex() for t in self.kept],
            [t.is_contiguous() and t.nbytes == t.untyped_storage().nbytes() for t in self.kept],
            [t.untyped_storage()._cdata for t in self.kept],
            inputs,
            {n: t.detach() for n, t in enumerate(self.kept) if t.device.type != "meta"},
            frozenset(self.strays),
            self.targets,
            failure,
            self.computes,
        )


def _on_meta(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def _mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Arguments with their tensors replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)) and not isinstance(value, Ref):
        return type(value)(_mapped(v, function) for v in value)
    if isinstance(value, dict):
        return {k: _mapped(v, function) for k, v in value.items()}
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)


# ---------------------------------------------------------------------- reading a recording


def name_of(step: Step) -> str:
    """The operation's name without its namespace and the underscore of writing in place."""
    name = str(step.func._schema.name).partition("::")[2]
    return name.rstrip("_") if in_place(step) else name


def in_place(step: Step) -> bool:
    """Return True if an operation writes to its first tensor."""
    name = step.func._schema.name
    return name.endswith("_") and not name.endswith("__")


def refs_of(step: Step) -> Iterator[int]:
    """The numbers of the tensors that an operation is given."""
    for value in (*step.args, *step.kwargs.values()):
        for item in value if type(value) in (list, tuple) else (value,):
            if isinstance(item, Ref):
                yield item.number


class Growth(NamedTuple):
    """Dimensions of each tensor that grow with the canvas, and by how much.

    The model may do something else on a larger canvas: `steps` operations were the same, and
    tensors that none of them met are left out.
    """

    dims: Mapping[int, Mapping[int, int]]
    steps: int


def growing(tape: Tape, larger: Tape) -> Growth:
    """Compare a recording with one on a larger canvas."""
    same = 0
    for a, b in zip(tape.steps, larger.steps, strict=False):
        if a.func is not b.func or a.outputs != b.outputs or [*refs_of(a)] != [*refs_of(b)]:
            break
        same += 1
    known = {n for step in tape.steps[:same] for n in (*refs_of(step), *step.outputs)}
    shapes = ((n, tape.shapes[n], larger.shapes[n]) for n in {*tape.inputs, *known})
    return Growth({n: _increases(small, large) for n, small, large in shapes}, same)


def _increases(small: Shape, large: Shape) -> dict[int, int]:
    pairs = enumerate(zip(small, large, strict=True))
    return {d: b - a for d, (a, b) in pairs if a != b}


class Size(NamedTuple):
    """Elements that a replay of a recording makes and keeps."""

    elements: int  # of all tensors that operations make
    peak: int  # of those that are needed at once


def size(tape: Tape) -> Size:
    """Count the elements that a replay of a recording makes, and those that it keeps at once."""
    given = {tape.memory[n] for n in (*tape.inputs, *tape.known)}
    lives: dict[int, tuple[int, int, int]] = {}  # of each memory: birth, last use, elements
    for index, step in enumerate(tape.steps):
        for number in step.outputs:  # the first that lies in a memory is all of it
            born = index, index, prod(tape.shapes[number])
            lives.setdefault(tape.memory[number], born)
        for number in (*refs_of(step), *step.outputs):
            if tape.memory[number] in lives:
                born_at, _, elements = lives[tape.memory[number]]
                lives[tape.memory[number]] = born_at, index, elements
    changes = [0] * (len(tape.steps) + 1)
    made = [life for memory, life in lives.items() if memory not in given]
    for born_at, died, elements in made:
        changes[born_at] += elements
        changes[died + 1] -= elements
    return Size(sum(n for _, _, n in made), max(accumulate(changes), default=0))
