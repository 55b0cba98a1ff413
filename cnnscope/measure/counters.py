"""Other people's counters, each asked about a model and its inputs: torch, torchinfo, fvcore.

Shares nothing with the analysis that they referee. torchinfo and torch's own counter run on the
meta device as well; fvcore traces with torch.jit, which needs real tensors. A counter whose package
is missing or broken raises.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from cnnscope.measure.training import RealStep
from cnnscope.records.check import PRUNED, Count
from cnnscope.records.trace import Shape
from cnnscope.tracing.arguments import Arguments, arguments, form_of
from cnnscope.tracing.modules import children_of, modules_of
from cnnscope.tracing.plain import tensors_in

# Whose version tells which counter answered.
_PACKAGES = {
    "numel": "torch",
    "torchinfo": "torchinfo",
    "fvcore": "fvcore",
    "flop counter": "torch",
    "forward": "torch",
    "allocations": "torch",
    "MemTracker": "torch",
    "onnx-tool": "onnx-tool",
}


def blank(counter: str, figure: str) -> Count:
    """A count without a value.

    Args:
        counter: "numel", "torchinfo", "fvcore", "flop counter", "forward", "allocations",
            "MemTracker" or "onnx-tool".
        figure: "parameters", "MACs", "shapes", "step MACs" or "step bytes".
    """
    return Count(counter, figure, _version(_PACKAGES[counter]))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextmanager
def inference() -> Iterator[None]:
    """Without gradients (inference mode would make torch's counter count nothing), fast paths off.

    The fused path of attention is one operation, whose products no counter sees.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), quiet():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# ------------------------------------------------------------------------------- the counters


def numel(model: nn.Module) -> Count:
    """Elements of all parameters of a model on a real device."""
    elements = sum(p.numel() for p in model.parameters())
    return replace(blank("numel", "parameters"), value=elements, evidence=_again(model))


def torchinfo(model: nn.Module, inputs: Arguments) -> tuple[Count, Count]:
    """Parameters and MACs by torchinfo, on any device.

    Raises:
        CircleError: modules hold each other.
    """
    import torchinfo as package

    names = {**dict(names_of(model)), **_pruned(model)}
    with _taking_tensors(model, inputs) as tensors:
        found = package.summary(model, input_data=tensors, verbose=0)
    return (
        replace(blank("torchinfo", "parameters"), value=found.total_params, evidence=names),
        replace(blank("torchinfo", "MACs"), value=found.total_mult_adds, evidence=names),
    )


def flop_counter(model: nn.Module, inputs: Arguments) -> Count:
    """MACs by torch's `FlopCounterMode`, which counts two FLOPs for each; on any device."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        inputs.call(model)
    known = _formulas()
    on_meta = any(tensor.is_meta for tensor in tensors_in(inputs))
    real = {} if on_meta else {"on real tensors": 1}
    macs = counter.get_total_flops() // 2
    return replace(blank("flop counter", "MACs"), value=macs, evidence={**known, **real})


def _formulas() -> dict[str, int]:
    """Operations that torch's counter has a formula for, as its evidence."""
    from torch.utils.flop_counter import flop_registry

    return {str(op).removeprefix("aten."): 1 for op in flop_registry}


def step_macs(step: RealStep) -> Count:
    """MACs of the forward and backward pass of a real step, by torch's `FlopCounterMode`."""
    evidence = {**_formulas(), "on real tensors": 1}
    return replace(blank("flop counter", "step MACs"), value=step.counted(), evidence=evidence)


def step_allocations(step: RealStep) -> Count:
    """The peak of tensors in a real step, by the allocation events of torch's profiler."""
    return replace(blank("allocations", "step bytes"), value=step.live().peak)


def step_tracked(step: RealStep) -> Count:
    """The peak of tensors in a real step, by torch's `MemTracker`."""
    return replace(blank("MemTracker", "step bytes"), value=step.tracked())


def fvcore_parameters(model: nn.Module) -> Count:
    """Parameters of a model on a real device by fvcore."""
    with inference():  # it warns when it is imported
        from fvcore.nn import parameter_count

    value = int(parameter_count(model)[""])
    return replace(blank("fvcore", "parameters"), value=value, evidence=_again(model))


def fvcore_macs(model: nn.Module, inputs: Arguments) -> Count:
    """MACs by fvcore, in one forward on real tensors."""
    from fvcore.nn import FlopCountAnalysis

    formulas = _Formulas()
    with _taking_tensors(model, inputs) as tensors:
        analysis = FlopCountAnalysis(_Flat(model), tuple(tensors))
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        analysis.tracer_warnings("none")
        analysis.set_op_handle("aten::einsum", formulas.einsum, "aten::matmul", formulas.matmul)
        total = int(analysis.total())
    evidence = {name: int(n) for name, n in analysis.unsupported_ops().items()}
    return replace(blank("fvcore", "MACs"), value=total, evidence={**evidence, **formulas.excess})


@contextmanager
def _taking_tensors(model: nn.Module, inputs: Arguments) -> Iterator[list[torch.Tensor]]:
    """Have a model take its tensors one by one, which is all that some counters can give it.

    Yields:
        The tensors.
    """
    tensors, form = list(tensors_in(tuple(inputs))), form_of(*inputs)
    if form is None:
        yield tensors
        return
    forward = model.forward
    own = "forward" in vars(model)
    vars(model)["forward"] = lambda *given: arguments(form, given).call(forward)
    try:
        yield tensors
    finally:
        if own:
            vars(model)["forward"] = forward
        else:
            del vars(model)["forward"]


class _Flat(nn.Module):
    """A module that answers with a tuple of tensors, as torch.jit demands."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any) -> tuple[Any, ...]:
        return tuple(tensors_in(self.model(*args)))


class _Formulas:
    """fvcore's formulas for products, beside how many there are: what they say too much.

    An einsum is counted by numpy, which prints four digits (known for two operands: every index
    takes part once); a matmul as if its second operand had no batch of its own.
    """

    def __init__(self) -> None:
        self.excess: Counter[str] = Counter()

    def einsum(self, inputs: Any, outputs: Any) -> Any:
        """Count an einsum as fvcore does."""
        from fvcore.nn.jit_handles import einsum_flop_jit, get_shape

        counted = einsum_flop_jit(inputs, outputs)
        terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
        shapes = [get_shape(value) for value in inputs[1].node().inputs()]
        if len(terms) == len(shapes) == 2 and "." not in "".join(terms):
            sizes = {
                index: size
                for term, shape in zip(terms, shapes, strict=True)
                for index, size in zip(term, shape, strict=True)
            }
            self.excess["einsum"] += int(counted - prod(sizes.values()))
        return counted

    def matmul(self, inputs: Any, outputs: Any) -> Any:
        """Count a matmul as fvcore does."""
        from fvcore.nn.jit_handles import get_shape, matmul_flop_jit

        counted = matmul_flop_jit(inputs, outputs)
        left, right = map(get_shape, inputs)
        if len(left) > 1 and len(right) > 1:
            batch = prod(map(max, zip_longest(left[-3::-1], right[-3::-1], fillvalue=1)))
            self.excess["matmul"] += counted - batch * left[-2] * left[-1] * right[-1]
        return counted


class Calls:
    """The module calls of a forward, in the order in which they began."""

    def __init__(self) -> None:
        self._made: list[tuple[str, tuple[Shape, ...]]] = []
        self._running: list[int] = []

    def clear(self) -> None:
        """Forget them."""
        self._made.clear()
        self._running.clear()

    def shapes(self) -> Count:
        """Path and output shapes of each."""
        return replace(blank("forward", "shapes"), calls=tuple(self._made))

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[None]:
        """Watch a model."""
        handles = []
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(path)))
            handles.append(module.register_forward_hook(self._leave(path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            if path and not self._running:  # torch.jit looks at parametrized weights beforehand
                return
            self._running.append(len(self._made))
            self._made.append((path, ()))

        return begin

    def _leave(self, path: str) -> Callable[..., None]:
        def end(_module: Any, _args: Any, output: Any) -> None:
            if not self._running:
                return
            shapes = tuple(tuple(map(int, t.shape)) for t in tensors_in(output))
            self._made[self._running.pop()] = (path, shapes)

        return end


# ----------------------------------------------------------------------------- their evidence


def names_of(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Every name of every module, depth first, and which of the trace's modules it names.

    Raises:
        CircleError: a module holds one that it lies in, of which there is no list.
    """
    index = {id(module): i for i, (_, module) in enumerate(modules_of(model))}
    waiting: list[tuple[str, nn.Module, tuple[int, ...]]] = [("", model, ())]
    while waiting:
        path, module, around = waiting.pop()
        if id(module) in around:
            raise CircleError(f"{path} holds the module that it lies in")
        yield path, index[id(module)]
        waiting += [
            (f"{path}.{name}".lstrip("."), child, (*around, id(module)))
            for name, child in reversed(list(children_of(module)))
        ]


class CircleError(Exception):
    """Modules that hold each other: torchinfo would list them for ever."""


def _again(model: nn.Module) -> dict[str, int]:
    """The parameters that are the memory of another: objects of their own, to count them by."""
    seen: set[object] = set()
    found: dict[str, int] = {}
    for name, param in model.named_parameters():
        window = (param.data_ptr(), param.shape, param.stride())
        if window in seen and param.numel():
            found[name] = 1
        seen.add(window)
    return found


def _pruned(model: nn.Module) -> dict[str, int]:
    """Count the masked elements of each pruned weight (torch.nn.utils.prune)."""
    masks = {n: m for n, m in model.named_buffers() if n.endswith("_mask")}
    return {
        f"{PRUNED}{name}": int((masks[f"{name}_mask"] == 0).sum())
        for name in (n.removesuffix("_orig") for n, _ in model.named_parameters())
        if f"{name}_mask" in masks
    }
