"""Receptive fields measured by the gradient of a linear stand-in: the referee of `cnnscope rf`.

Nothing here is shared with the analysis that it referees. One forward of the model is recorded on
the meta device, operation by operation, on a canvas of the caller's choice; it is then replayed in
float64 with every operation replaced by one that is linear, depends on exactly the same inputs and
cannot cancel: convolutions and matrix products with positive weights (rank one over channels, a
box over the kernel, which needs no multiplication per pair of channels), norms and activations by
the identity, max pools by average pools, products of two maps by their sum. Views, slices, pads,
crops and nearest upsampling are torch's own kernels. A unit sees the pixels where the gradient of
its channels' sum is not zero.

A function of the whole image (a squeeze-and-excite gate, a softmax over all positions) is cut to
measure what is seen beside it: `local`. What is the whole image is found by running the model on a
larger one: it is what grows. What has no stand-in (operations that look at their data) is never
passed: everything after it is not measurable, and names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from cnnscope import guest
from cnnscope.modules import untouched
from cnnscope.records import Shape

Interval = tuple[int, int]  # first and last pixel; last < first for nothing
NOTHING: Interval = (0, -1)
_TINY = 1e-6  # an interpolation weight below this is rounding


class Target(NamedTuple):
    """The output of a module call, or of the `nth` operation called `op` in it."""

    path: str
    call: int = 1
    op: str = ""
    nth: int = 0


# -------------------------------------------------------------------------------- recording


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
    floating: list[bool]
    inputs: tuple[int, ...]
    axes: int  # of the inputs: their last dimensions
    known: dict[int, Tensor]  # constants with values
    strays: frozenset[int]  # memory of an operation's result, reached without an operation
    written: frozenset[int]  # results that may not share memory with what they were made from
    targets: dict[Target, tuple[int, int]]  # tensor, and the number of steps that had run
    failure: str  # what ended the forward early, or nothing


def record(
    model: nn.Module, shapes: Sequence[Shape], *, axes: int | None = None, as_list: bool = False
) -> Tape:
    """Run a model on the meta device and write down its operations.

    Args:
        model: with its weights on the meta device; it is left as it was.
        shapes: of its inputs.
        axes: how many of their last dimensions are axes; all but batch and channels if left out.
        as_list: whether they are given in a list.
    """
    with guest.alone, guest.same_random(), untouched(model):
        return _record(model, shapes, axes, as_list=as_list)


def _record(model: nn.Module, shapes: Sequence[Shape], axes: int | None, *, as_list: bool) -> Tape:
    recorder = _Recorder(model)
    inputs = tuple(torch.empty(shape, device="meta") for shape in shapes)
    numbers = tuple(recorder.number(x) for x in inputs)
    failure = ""
    model.eval()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder.watching())
        stack.enter_context(recorder)
        try:
            model(list(inputs)) if as_list else model(*inputs)
        except Exception as error:  # noqa: BLE001  whatever ended it, the rest was not run
            failure = " ".join(str(error).split())[:160] or type(error).__name__
    return recorder.tape(numbers, len(shapes[0]) - 2 if axes is None else axes, failure)


class _Recorder(TorchDispatchMode):
    """Numbers tensors by identity: all are kept, which costs nothing on the meta device."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.paths = {module: path for path, module in model.named_modules()}
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
        result = func(*args, **kwargs)
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

    def tape(self, inputs: tuple[int, ...], axes: int, failure: str) -> Tape:
        return Tape(
            self.steps,
            [tuple(t.shape) for t in self.kept],
            [t.is_floating_point() for t in self.kept],
            inputs,
            axes,
            {n: t.detach() for n, t in enumerate(self.kept) if t.device.type != "meta"},
            frozenset(self.strays),
            self._written(),
            self.targets,
            failure,
        )

    def _written(self) -> frozenset[int]:
        """Tensors whose memory is written to, their own or what an identity would share it with."""
        memory = [t.untyped_storage()._cdata for t in self.kept]
        group = {address: {address} for address in memory}
        writes: set[int] = set()
        for step in self.steps:
            name = _name(step)
            first = next(_refs(step), None)
            if first is None:
                continue
            if _STAND_INS.get(name) not in (_identity, _batch_norm, _restrided):
                writes |= {memory[first]} if _in_place(step) else set()
                continue
            for number in step.outputs[:1]:
                a, b = group[memory[first]], group[memory[number]]
                if a is not b:
                    a |= b
                    group.update(dict.fromkeys(b, a))
        return frozenset(n for n, at in enumerate(memory) if writes & group[at])


def _alone(view: Tensor) -> Tensor:
    """The same view by itself: autograd lets nobody write into one of several that were made."""
    base = view._base
    return view if base is None else base.as_strided(
        view.shape, view.stride(), view.storage_offset())  # fmt: skip


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


def growing(tape: Tape, larger: Tape) -> dict[int, dict[int, int]]:
    """The dimensions of every tensor that grow with the canvas, and by how much.

    A model may do something else on a larger canvas: tensors from there on are left out.
    """
    same = 0
    for a, b in zip(tape.steps, larger.steps, strict=False):
        if a.func is not b.func or a.outputs != b.outputs or [*_refs(a)] != [*_refs(b)]:
            break
        same += 1
    known = {n for step in tape.steps[:same] for n in (*_refs(step), *step.outputs)}
    return {n: _increases(tape.shapes[n], larger.shapes[n]) for n in {*tape.inputs, *known}}


def _increases(small: Shape, large: Shape) -> dict[int, int]:
    pairs = enumerate(zip(small, large, strict=True))
    return {d: b - a for d, (a, b) in pairs if a != b}


# -------------------------------------------------------------------------------- measuring


class Root(NamedTuple):
    """What is asked of one target: the units along one dimension of it, or all of it (None)."""

    target: Target
    dim: int | None
    units: tuple[int, ...]


def measure(
    tape: Tape,
    roots: Sequence[Root],
    cut: Mapping[int, Container[int]] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[Target, list[list[Interval]] | str]:
    """What the units of each target see: for each unit one interval per axis of the input.

    Args:
        tape: the forward on its canvas.
        roots: which units of which targets.
        cut: dimensions of each tensor (see `growing`) over which a sum is a function of the whole
            image and is left out; nothing is left out without it.
        advance: called after each target.

    Returns:
        The intervals, or why there are none.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small: more threads wait for each other
    try:
        return _Replay(tape, cut or {}).run(roots, advance)
    finally:
        torch.set_num_threads(threads)


class _Poison(NamedTuple):
    reason: str


class _Replay:
    """The recorded forward with linear stand-ins, in float64."""

    def __init__(self, tape: Tape, cut: Mapping[int, Container[int]]) -> None:
        self.tape, self.cut = tape, cut
        self.values: dict[int, Any] = {}
        self.unreal: set[int] = set()  # constants of which only the shape is known
        self.leaves = [
            torch.zeros(tape.shapes[n], dtype=torch.float64, requires_grad=True)
            for n in tape.inputs
        ]
        for number, leaf in zip(tape.inputs, self.leaves, strict=True):
            self.values[number] = leaf.clone()
        self.last_use = {n: i for i, s in enumerate(tape.steps) for n in (*_refs(s), *s.outputs)}
        self.weights: dict[tuple[int, str, int], Tensor] = {}

    # -- the forward

    def run(
        self, roots: Sequence[Root], advance: Callable[[], None]
    ) -> dict[Target, list[list[Interval]] | str]:
        wanted: dict[int, list[tuple[int, Root]]] = {}
        sums: dict[Target, list[Tensor] | str] = {}
        for root in roots:
            if root.target not in self.tape.targets:
                failure = self.tape.failure or "it did not run on this canvas"
                sums[root.target] = f"not reached: {failure}"
                continue
            tensor, after = self.tape.targets[root.target]
            wanted.setdefault(after, []).append((tensor, root))
        end = max(wanted, default=0)
        with torch.enable_grad():
            for done in range(end + 1):
                for tensor, root in wanted.get(done, ()):
                    sums[root.target] = self._sums(tensor, root)
                if done < end:
                    self._step(done)
        self.values.clear()
        result: dict[Target, list[list[Interval]] | str] = {}
        for root in roots:
            found = sums[root.target]
            if isinstance(found, str):
                result[root.target] = found
            else:
                result[root.target] = [self._seen(total) for total in found]
            advance()
        return result

    def _sums(self, number: int, root: Root) -> list[Tensor] | str:
        """For each unit the sum of its channels, weighted so that they cannot cancel."""
        value = self._get(number)
        if isinstance(value, _Poison):
            return value.reason
        if root.dim is None:
            return [_weighted(value)]
        return [_weighted(value.select(root.dim, unit)) for unit in root.units]

    def _seen(self, total: Tensor) -> list[Interval]:
        """Where the gradient is not zero, per axis of the input, union over inputs."""
        axes = self.tape.axes
        if not total.requires_grad:
            return [NOTHING] * axes
        gradients = torch.autograd.grad(total, self.leaves, retain_graph=True, allow_unused=True)
        seen = [NOTHING] * axes
        for gradient in gradients:
            if gradient is None:
                continue
            there = gradient != 0
            for axis in range(axes):
                others = [d for d in range(there.dim()) if d != there.dim() - axes + axis]
                places = torch.nonzero(there.any(others) if others else there).flatten()
                if len(places):
                    ends = int(places[0]), int(places[-1])
                    old = seen[axis]
                    seen[axis] = ends if old == NOTHING else (
                        min(old[0], ends[0]), max(old[1], ends[1]))  # fmt: skip
        return seen

    def _get(self, number: int) -> Any:
        """A tensor's value; a parameter's is made up."""
        if number in self.values:
            return self.values[number]
        if number in self.tape.strays:
            return _Poison("a tensor was taken from another one's memory (.data)")
        known = self.tape.known.get(number)
        if known is not None:
            return known.double() if known.is_floating_point() else known
        self.unreal.add(number)
        return self._made_up(number)

    def _made_up(self, number: int) -> Tensor:
        """Ones (zeros where they are no numbers) that take no memory."""
        floating = self.tape.floating[number]
        one = torch.ones((), dtype=torch.float64) if floating else torch.zeros((), dtype=torch.long)
        return one.expand(self.tape.shapes[number])

    def _step(self, index: int) -> None:
        step = self.tape.steps[index]
        refs = list(_refs(step))
        given = [self._get(n) for n in refs]
        poison = next((v for v in given if isinstance(v, _Poison)), None)
        if poison is not None:
            results: Sequence[Any] = [poison] * len(step.outputs)
        elif any(0 in self.tape.shapes[n] for n in step.outputs):
            results = [_Poison("it is empty")] * len(step.outputs)
        elif any(v.requires_grad for v in given):
            results = self._stand_in(step)
        else:
            results = self._constants(step, refs)
        for number, value in zip(step.outputs, results, strict=False):
            self.values[number] = value
        for number in {*refs, *step.outputs}:
            if self.last_use[number] == index and number not in self._wanted:
                self.values.pop(number, None)

    @property
    def _wanted(self) -> set[int]:
        if not hasattr(self, "_kept"):
            self._kept = {tensor for tensor, _ in self.tape.targets.values()}
        return self._kept

    def _constants(self, step: Step, refs: Sequence[int]) -> list[Any]:
        """What does not depend on the input: computed where its values are known."""
        unreal = any(n in self.unreal for n in refs)
        if not unreal:
            try:
                return self._native(step)
            except (RuntimeError, NotImplementedError, TypeError, ValueError):
                pass
        self.unreal.update(step.outputs)
        return [self._made_up(n) for n in step.outputs]

    def _native(self, step: Step) -> list[Any]:
        """The operation itself, in float64 on the CPU."""
        kwargs = {k: self._filled(v) for k, v in step.kwargs.items()}
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        result = step.func(*self._filled(step.args), **kwargs)
        results = result if isinstance(result, (tuple, list)) else [result]
        if isinstance(result, (tuple, list)) and step.outputs[0] in self.tape.written:
            results = [_alone(r) for r in results]
        return [r.double() if r.is_floating_point() and r.dtype != torch.float64 else r
                for r in results if isinstance(r, Tensor)]  # fmt: skip

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._get(value.number)
        if isinstance(value, (list, tuple)):
            return [self._filled(v) for v in value]
        return value

    def _stand_in(self, step: Step) -> list[Any]:
        name, in_place = _name(step), _in_place(step)
        op = _Op(self, step, name)
        if name.startswith("new_") or name.endswith("_like"):
            return self._native(step)  # of the input's shape only
        if name in _AS_IT_IS and op.indices_are_real():
            return self._native_step(op)
        rule = _STAND_INS.get(name)
        out = step.outputs[0] if step.outputs else -1
        if rule is None or out < 0 or not self.tape.floating[out]:
            return [_Poison(f"{step.func} has no linear stand-in")] * len(step.outputs)
        value = rule(op)
        if isinstance(value, _Poison):
            return [value] * len(step.outputs)
        if in_place:
            target = op.tensor(0)
            value = target if value is target else target.copy_(value)
        elif out in self.tape.written and any(value is v for v in op.tensors()):
            value = value.clone()
        if tuple(value.shape) != self.tape.shapes[out]:
            return [_Poison(f"the stand-in of {step.func} has another shape")] * len(step.outputs)
        rest = [_Poison(f"{step.func} gives numbers that depend on data")] * len(step.outputs)
        return [value, *rest[1:]]

    def _native_step(self, op: _Op) -> list[Any]:
        if op.name in ("view", "_unsafe_view", "reshape", "_reshape_alias"):
            return [op.tensor(0).reshape(self.tape.shapes[op.step.outputs[0]])]
        return self._native(op.step)

    def weight(self, key: int, role: str, size: int) -> Tensor:
        """Positive numbers around one, the same for the same parameter."""
        found = self.weights.get((key, role, size))
        if found is None:
            generator = torch.Generator().manual_seed(hash((key, role == "in", size)) % 2**31)
            found = 0.5 + torch.rand(size, dtype=torch.float64, generator=generator)
            self.weights[key, role, size] = found
        return found


def _name(step: Step) -> str:
    """The operation's name without its namespace and the underscore of writing in place."""
    name = str(step.func._schema.name).partition("::")[2]
    return name.rstrip("_") if _in_place(step) else name


def _in_place(step: Step) -> bool:
    name = step.func._schema.name
    return name.endswith("_") and not name.endswith("__")


def _refs(step: Step) -> Iterator[int]:
    for value in (*step.args, *step.kwargs.values()):
        for item in value if isinstance(value, (list, tuple)) and not _is_ref(value) else (value,):
            if _is_ref(item):
                yield item.number


def _is_ref(value: Any) -> bool:
    return isinstance(value, Ref)


def _weighted(value: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(value.numel())
    weights = 0.5 + torch.rand(value.shape, dtype=torch.float64, generator=generator)
    return (value * weights).sum()


# -------------------------------------------------------------------------------- stand-ins


class _Op:
    """A recorded operation whose arguments are the replay's tensors."""

    def __init__(self, replay: _Replay, step: Step, name: str) -> None:
        self.replay, self.step, self.name = replay, step, name
        arguments = step.func._schema.arguments
        self.given = {a.name: a.default_value for a in arguments}
        self.given |= dict(zip((a.name for a in arguments), step.args, strict=False))
        self.given |= step.kwargs

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that is no tensor."""
        value = self.given.get(name)
        return default if value is None else value

    def named(self, name: str) -> Tensor | None:
        """A tensor argument."""
        value = self.given.get(name)
        return self.replay._get(value.number) if isinstance(value, Ref) else None

    def number(self, name: str) -> int:
        """The number of a tensor argument."""
        return int(self.given[name].number)

    def tensors(self) -> list[Tensor]:
        """All tensor arguments."""
        return [self.replay._get(n) for n in _refs(self.step)]

    def tensor(self, position: int) -> Any:
        """A tensor argument by its place."""
        return self.tensors()[position]

    def dependent(self) -> list[Tensor]:
        """Tensor arguments that depend on the input."""
        return [t for t in self.tensors() if t.requires_grad]

    @property
    def shape(self) -> Shape:
        """Of the first output."""
        return self.replay.tape.shapes[self.step.outputs[0]]

    def indices_are_real(self) -> bool:
        """Whether integers and masks among the arguments have known values."""
        replay = self.replay
        return all(
            replay.tape.floating[n] or (n not in replay.unreal and not replay._get(n).requires_grad)
            for n in _refs(self.step)
        )

    def whole(self, number: int, dims: Sequence[int]) -> bool:
        """Whether a sum over these dimensions of a tensor is a function of the whole image."""
        rank = len(self.replay.tape.shapes[number])
        grown = self.replay.cut.get(number, ())
        return any(d % rank in grown for d in dims)

    def mean(self, name: str, dims: Sequence[int], *, keepdim: bool = True) -> Tensor:
        """A mean over dimensions, cut off where it is of the whole image."""
        value, number = self.named(name), self.number(name)
        assert value is not None  # noqa: S101
        if not dims:
            return value
        result = value.mean(tuple(dims), keepdim=keepdim)
        return result.detach() if self.whole(number, dims) else result


StandIn = Callable[[_Op], Any]


def _identity(op: _Op) -> Any:
    return op.tensor(0)


def _restrided(op: _Op) -> Any:
    """The same elements in another order of memory."""
    value = op.tensor(0)
    return value if tuple(op.get("size")) == tuple(value.shape) else _Poison("memory is reread")


def _sum(op: _Op) -> Tensor:
    """Elementwise, of every operand that depends on the input."""
    parts = [t.expand(op.shape) for t in op.dependent()]
    return parts[0].clone() if len(parts) == 1 else torch.stack(parts).sum(0)


def _product(op: _Op) -> Any:
    """The sum of two maps; a constant's zeros stay zeros."""
    values = op.tensors()
    if len(values) == 2 and all(t.requires_grad for t in values):
        return _sum(op)
    if len(values) == 1:
        other = op.given.get("other", op.given.get("value", 1))
        return values[0] * (1.0 if other else 0.0)
    numbers = list(_refs(op.step))
    for value, number in zip(values, numbers, strict=True):
        if not value.requires_grad and number not in op.replay.unreal:
            return op.dependent()[0] * (value != 0)
    return _sum(op)


def _addition(op: _Op) -> Any:
    """Itself: terms that cancel, cancel."""
    alpha = op.get("alpha", 1)
    other = op.named("other")
    base = op.tensor(0)
    if other is None:
        return base
    sign = -1 if op.name == "sub" else 1
    if op.name == "rsub":
        return other - alpha * base
    return base + sign * alpha * other


def _all_but(rank: int, *kept: int) -> list[int]:
    return [d for d in range(rank) if d not in kept]


def _batch_norm(op: _Op) -> Any:
    value = op.tensor(0)
    training = op.get("training") or op.get("use_input_stats") or "no_stats" in str(op.step.func)
    return value + op.mean("input", _all_but(value.dim(), 1)) if training else value


def _layer_norm(op: _Op) -> Any:
    value, count = op.tensor(0), len(op.get("normalized_shape"))
    return value + op.mean("input", range(value.dim() - count, value.dim()))


def _group_norm(op: _Op) -> Any:
    value = op.tensor(0)
    return value + op.mean("input", _all_but(value.dim(), 0))


def _softmax(op: _Op) -> Any:
    return op.tensor(0) + op.mean("self", [op.get("dim")])


def _reduction(op: _Op) -> Any:
    if "other" in op.given:
        return _sum(op)
    value = op.tensor(0)
    dims = op.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    dims = dims if dims is not None and dims != [] else range(value.dim())
    name = next(k for k, v in op.given.items() if _is_ref(v))
    return op.mean(name, list(dims), keepdim=bool(op.get("keepdim")))


def _cumulative(op: _Op) -> Any:
    return op.tensor(0).cumsum(op.get("dim"))


def _glu(op: _Op) -> Any:
    a, b = op.tensor(0).chunk(2, op.get("dim", -1))
    return a + b


def _convolution(op: _Op) -> Any:
    """Positive weights v[o] * u[i] / fan_in: a weighted mean over channels, a box, and a spread."""
    value, weight = op.named("input"), op.number("weight")
    shape = op.replay.tape.shapes[weight]
    if value is None or op.named("weight").requires_grad:  # type: ignore[union-attr]
        return _Poison(f"aten.{op.name} with weights computed from the input")
    axes, groups, transposed = len(shape) - 2, op.get("groups", 1), op.get("transposed", False)
    n, channels = value.shape[:2]
    fan = channels // groups
    u = op.replay.weight(weight, "in", channels).view(groups, 1, fan) / fan
    mean = (u @ value.reshape(n, groups, fan, -1)).view(n * groups, 1, *value.shape[2:])
    box = torch.full((1, 1, *shape[2:]), 1 / prod(shape[2:]), dtype=torch.float64)
    where = [op.get(k, d) for k, d in (("stride", 1), ("padding", 0), ("dilation", 1))]
    more = op.get("output_padding", [0] * axes)
    out = torch.ops.aten.convolution(mean, box, None, *where, transposed, more, 1)
    outputs = shape[1] * groups if transposed else shape[0]
    spread = out.view(n, groups, 1, *out.shape[2:]).expand(
        n, groups, outputs // groups, *out.shape[2:]
    )
    v = op.replay.weight(weight, "out", outputs).view(1, groups, -1, *(1,) * axes)
    return (spread * v).view(n, outputs, *out.shape[2:])


def _pool(op: _Op) -> Any:
    """Every pixel of the window alike."""
    value = op.tensor(0)
    axes = 3 if "3d" in op.name else 1 if "1d" in op.name else 2
    kernel, padding, dilation = (
        _each(op.get(k, d), axes) for k, d in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
    )
    stride = _each(op.get("stride") or kernel, axes)
    flat = value.reshape(-1, 1, *value.shape[-axes:])
    widths: list[int] = []
    for axis in reversed(range(axes)):
        needed = (op.shape[-axes:][axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1)
        size = flat.shape[2 + axis]
        widths += [padding[axis], needed + 1 - size - padding[axis]]
    box = torch.full((1, 1, *kernel), 0.9 / prod(kernel), dtype=torch.float64)
    padded = F.pad(flat, widths)
    none = [0] * axes
    out = torch.ops.aten.convolution(padded, box, None, stride, none, dilation, False, none, 1)
    return out.reshape(op.shape)


def _each(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def _adaptive_pool(op: _Op) -> Any:
    value, axes = op.tensor(0), 3 if "3d" in op.name else 2
    pool = F.adaptive_avg_pool3d if axes == 3 else F.adaptive_avg_pool2d
    out = pool(value, op.get("output_size"))
    single = [d for d in range(value.dim() - axes, value.dim()) if out.shape[d] == 1]
    return out.detach() if op.whole(op.number("self"), single) else out


def _interpolation(op: _Op) -> Any:
    """Each axis by its matrix of weights, found by the operation itself, rounding left out."""
    value = op.tensor(0)
    axes = 3 if "trilinear" in op.name else 1 if "linear1d" in op.name else 2
    for axis in range(axes):
        dim = value.dim() - axes + axis
        matrix = _matrix(op, axis, axes)
        value = torch.tensordot(value, matrix, ([dim], [0])).movedim(-1, dim)
    return value.contiguous()


def _matrix(op: _Op, axis: int, axes: int) -> Tensor:
    """[in, out] weights along one axis, positive where they are not zero."""
    size, units = op.tensor(0).shape[-axes:][axis], op.shape[-axes:][axis]
    only = [1] * axes  # the other axes as short as can be
    only[axis] = size
    given = dict(op.given)
    given[next(iter(given))] = torch.eye(size, dtype=torch.float64).view(size, 1, *only)
    given["output_size"] = [units if a == axis else 1 for a in range(axes)]
    out = op.step.func(**given)
    weights = out.view(size, units).abs()
    return torch.where(weights > _TINY, weights, 0)


def _matmul(op: _Op) -> Any:
    """Of two maps the sums over the inner dimension, each spread over the other's."""
    names = [n for n in op.given if n in ("self", "mat1", "mat2", "batch1", "batch2", "vec",
                                          "input", "weight", "vec2")]  # fmt: skip
    bias = "self" if {"mat1", "batch1"} & set(names) else "bias"
    a, b = [n for n in names if n != bias][:2]
    out = torch.zeros(op.shape, dtype=torch.float64)
    if op.name == "linear" or op.named(a).dim() < 2 or op.named(b).dim() < 2:  # type: ignore[union-attr]
        if op.named(b).requires_grad or op.named(a).dim() < 2:  # type: ignore[union-attr]
            return _Poison(f"aten.{op.name} of two maps")
        return _contracted(op, a, b, -1, op.shape[-1])
    if op.named(a).requires_grad:  # type: ignore[union-attr]
        out = out + _contracted(op, a, b, -1, op.shape[-1])
    if op.named(b).requires_grad:  # type: ignore[union-attr]
        out = out + _contracted(op, b, a, -2, op.shape[-2])
    added = op.named(bias)
    return out + added if added is not None and added.requires_grad else out


def _contracted(op: _Op, name: str, other: str, dim: int, spread: int) -> Tensor:
    """A weighted mean over one dimension, spread over the other operand's."""
    value, number, key = op.named(name), op.number(name), op.number(other)
    assert value is not None  # noqa: S101
    size = value.shape[dim]
    u = op.replay.weight(key, "in", size) / size
    mean = torch.tensordot(value, u, ([value.dim() + dim], [0])).unsqueeze(dim)
    mean = mean.detach() if op.whole(number, [dim]) else mean
    v = op.replay.weight(key, "out", spread).view(-1, *(1,) * (-1 - dim))
    spread_out: Tensor = mean * v
    return spread_out


def _attention(op: _Op) -> Any:
    """softmax(q k') v: every query sees itself, and all keys and values."""
    query, key, value = op.named("query"), op.named("key"), op.named("value")
    assert query is not None and key is not None and value is not None  # noqa: S101, PT018
    out = query.mean(-1, keepdim=True).expand(op.shape)
    for name in ("key", "value"):
        out = out + op.mean(name, [-2, -1] if name == "key" else [-2])
    return out


def _split(names: str) -> list[str]:
    return names.split()


_AS_IT_IS = frozenset(
    _split(
        "view _unsafe_view reshape _reshape_alias permute transpose t expand repeat squeeze "
        "unsqueeze slice narrow select split split_with_sizes unsafe_split chunk unbind cat stack "
        "clone contiguous alias lift_fresh copy constant_pad_nd reflection_pad1d reflection_pad2d "
        "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d roll flip "
        "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im unfold "
        "tril triu index index_select gather upsample_nearest1d upsample_nearest2d "
        "upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
        "_upsample_nearest_exact3d rot90 diagonal neg movedim slice_scatter select_scatter zero "
        "fill masked_fill index_put"
    )
)

_STAND_INS: dict[str, StandIn] = {
    **dict.fromkeys(
        _split(
            "relu relu6 hardtanh clamp clamp_min clamp_max leaky_relu prelu _prelu_kernel silu "
            "gelu "
            "hardswish hardsigmoid sigmoid tanh elu celu mish softplus log_sigmoid_forward "
            "hardshrink softshrink threshold rrelu_with_noise abs exp log log2 log10 log1p sqrt "
            "rsqrt square erf sin cos sign pow reciprocal nan_to_num native_dropout dropout "
            "_to_copy detach ceil floor round"
        ),
        _identity,
    ),
    **dict.fromkeys(
        _split("maximum minimum fmax fmin where lerp addcmul addcdiv hypot atan2 fmod remainder"),
        _sum,
    ),
    **dict.fromkeys(_split("mul div floor_divide"), _product),
    **dict.fromkeys(_split("add sub rsub"), _addition),
    **dict.fromkeys(
        _split(
            "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit "
            "_batch_norm_no_update cudnn_batch_norm batch_norm"
        ),
        _batch_norm,
    ),
    **dict.fromkeys(_split("native_layer_norm layer_norm _fused_rms_norm rms_norm"), _layer_norm),
    **dict.fromkeys(_split("native_group_norm group_norm"), _group_norm),
    **dict.fromkeys(
        _split("_softmax _safe_softmax softmax _log_softmax log_softmax"), _softmax
    ),
    **dict.fromkeys(
        _split("mean sum amax amin max min prod logsumexp var std linalg_vector_norm norm"),
        _reduction,
    ),
    **dict.fromkeys(_split("convolution _convolution convolution_overrideable"), _convolution),
    **dict.fromkeys(
        _split(
            "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d "
            "avg_pool1d avg_pool2d avg_pool3d"
        ),
        _pool,
    ),
    **dict.fromkeys(
        _split(
            "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"
        ),
        _adaptive_pool,
    ),
    **dict.fromkeys(
        _split(
            "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
            "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
        ),
        _interpolation,
    ),
    **dict.fromkeys(_split("mm bmm addmm baddbmm mv addmv linear"), _matmul),
    **dict.fromkeys(
        _split(
            "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
            "_scaled_dot_product_attention_math _scaled_dot_product_flash_attention "
            "_scaled_dot_product_efficient_attention "
            "_scaled_dot_product_fused_attention_overrideable"
        ),
        _attention,
    ),
    "as_strided": _restrided,
    "cumsum": _cumulative,
    "glu": _glu,
}  # fmt: skip
