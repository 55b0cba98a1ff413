"""The counters of others, run on the spot: torch, torchinfo, fvcore, and a real forward.

Each works on the same model and inputs as the trace. torchinfo and torch's own counter run on the
meta device; fvcore traces with torch.jit, which needs real tensors, and the same forward gives the
shapes of every module call. What cannot be run says why, and is no agreement.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cnnscope import parallel
from cnnscope.analysis import memory, params
from cnnscope.errors import CnnscopeError
from cnnscope.models.inputs import make_inputs, real_inputs
from cnnscope.models.ladder import Rung, asks_for_data
from cnnscope.records import Count, Inputs, Shape, Trace
from cnnscope.text import printable, said
from cnnscope.tracing.isolation import seeded

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.build import Built

PRUNED = "pruned: "  # of evidence: before the name of a weight
_BASE = 0.5 * 2**30  # bytes that a forward needs beside its tensors: kernels and their workspaces


class Subject:
    """A traced model that is built again, without weights and with."""

    def __init__(
        self, trace: Trace, build: Callable[[Rung], Built], memory_share: float = 1.0
    ) -> None:
        """What to count.

        Args:
            trace: of the model.
            build: builds the model on a rung.
            memory_share: how much of the free memory may be used.
        """
        self.trace, self.build, self.memory_share = trace, build, memory_share

    def counts(self, late: Callable[[], str] = str) -> Iterator[Count]:
        """The answers of all counters.

        Args:
            late: why no further counter is to be asked, "" while there is time.
        """
        figures = ("parameters", "MACs")
        each: tuple[tuple[list[Count], Callable[..., Iterator[Count]]], ...] = (
            ([Count("numel", "parameters", _version("torch"))], self._numel),
            (
                [Count("torchinfo", what, _version("torchinfo")) for what in figures],
                self._torchinfo,
            ),
            ([Count("fvcore", "parameters", _version("fvcore"))], self._fvcore_parameters),
            (
                [
                    Count("fvcore", "MACs", _version("fvcore")),
                    Count("forward", "shapes", _version("torch")),
                ],
                self._fvcore_and_forward,
            ),
            ([Count("flop counter", "MACs", _version("torch"))], self._flop_counter),
        )
        for asked, ask in each:
            over = late()
            yield from [replace(c, failed=over) for c in asked] if over else _asked(asked, ask)

    # -- as it was traced

    @contextmanager
    def _as_traced(self) -> Iterator[tuple[nn.Module, tuple[Any, ...]]]:
        """The model and its inputs: without data, with values, or real, as the trace was made."""
        if self.trace.device != "meta":
            with _inference():
                yield self._real.model, self._inputs(self._real)
            return
        from cnnscope.tracing.autocast import autocast_on_meta
        from cnnscope.tracing.tracer import states_on_meta

        built = self.build(self._rung)
        with built.running(), _inference(), states_on_meta(), autocast_on_meta():
            yield built.model, make_inputs(self._given(built))

    def _given(self, built: Built) -> Inputs:
        return Inputs(self.trace.input_specs, built.inputs.as_list)

    @cached_property
    def _rung(self) -> Rung:
        """The first rung without data on which its forward runs."""
        built = self.build(Rung.META)
        try:
            with _inference():
                built.model(*make_inputs(self._given(built)))
        except Exception as error:
            if asks_for_data(error):
                return Rung.VALUES
            raise
        return Rung.META

    def _on_either(self, ask: Callable[[nn.Module, tuple[Any, ...]], Any]) -> Any:
        """The answer to a question to the model as it was traced.

        Where that fails, as for a model that makes constants on the CPU, it is asked on real
        tensors.
        """
        try:
            with self._as_traced() as (model, inputs), seeded():
                return ask(model, inputs)
        except Exception:
            if self.trace.device != "meta":
                raise
        with _inference(), seeded():
            return ask(self._real.model, self._inputs(self._real))

    def _torchinfo(self, elements: Count, macs: Count) -> Iterator[Count]:
        import torchinfo

        def ask(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
            names = {**dict(_named(model)), **_pruned(model)}
            return torchinfo.summary(model, input_data=list(inputs), verbose=0), names

        found, names = self._on_either(ask)
        yield replace(elements, value=found.total_params, evidence=names)
        yield replace(macs, value=found.total_mult_adds, evidence=names)

    def _flop_counter(self, macs: Count) -> Iterator[Count]:
        """FlopCounterMode counts two FLOPs for each multiply-accumulate."""
        from torch.utils.flop_counter import FlopCounterMode, flop_registry

        from cnnscope.tracing.tracer import tensors_in

        def ask(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, bool]:
            with FlopCounterMode(display=False) as counter:
                model(*inputs)
            return counter, any(tensor.is_meta for tensor in tensors_in(inputs))

        counter, on_meta = self._on_either(ask)
        known = {str(op).removeprefix("aten."): 1 for op in flop_registry}
        real = {} if on_meta else {"on real tensors": 1}
        yield replace(macs, value=counter.get_total_flops() // 2, evidence={**known, **real})

    # -- on real tensors

    @cached_property
    def _real(self) -> Built:
        """The model with random weights.

        Raises:
            _TooLargeError: there is not enough memory.
        """
        weights = params.nbytes(self.trace) + params.nbytes(self.trace, buffers=True)
        needed = int(weights + 2 * memory.peak(self.trace).nbytes + _BASE)
        free = parallel.free_memory()
        if free is not None and needed > free * self.memory_share:
            raise _TooLargeError(needed)
        return self.build(Rung.REAL)

    def _inputs(self, built: Built) -> tuple[Any, ...]:
        """Random numbers, the same every time; zeros where integers are taken."""
        with seeded():
            return real_inputs(self._given(built))

    def _numel(self, count: Count) -> Iterator[Count]:
        model = self._real.model
        numel = sum(p.numel() for p in model.parameters())
        yield replace(count, value=numel, evidence=_again(model))

    def _fvcore_parameters(self, count: Count) -> Iterator[Count]:
        with _inference():  # it warns when it is imported
            from fvcore.nn import parameter_count

        model = self._real.model
        yield replace(count, value=int(parameter_count(model)[""]), evidence=_again(model))

    def _fvcore_and_forward(self, macs: Count, shapes: Count) -> Iterator[Count]:
        """One forward for both: it takes long. Where fvcore cannot trace it, it runs again."""
        calls = _Calls()

        def traced(macs: Count) -> Iterator[Count]:
            with calls.of(self._real.model), _inference(), seeded():
                yield self._fvcore_macs(macs)

        def ran(shapes: Count) -> Iterator[Count]:
            calls.clear()
            inputs = self._inputs(self._real)
            with calls.of(self._real.model), _inference(), seeded():
                self._real.model(*inputs)
            yield replace(shapes, calls=calls.made())

        (counted,) = _asked([macs], traced)
        yield counted
        if counted.failed or counted.needs:
            yield from _asked([shapes], ran)
        else:
            yield replace(shapes, calls=calls.made())

    def _fvcore_macs(self, count: Count) -> Count:
        from fvcore.nn import FlopCountAnalysis

        formulas = _Formulas()
        analysis = FlopCountAnalysis(_flat(self._real.model), self._inputs(self._real))
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        analysis.tracer_warnings("none")
        analysis.set_op_handle("aten::einsum", formulas.einsum, "aten::matmul", formulas.matmul)
        total = int(analysis.total())
        evidence = {name: int(n) for name, n in analysis.unsupported_ops().items()}
        return replace(count, value=total, evidence={**evidence, **formulas.excess})


class _TooLargeError(Exception):
    """A model that needs more memory than there is."""

    def __init__(self, needed: int) -> None:
        super().__init__()
        self.needed = needed


def _asked(asked: Sequence[Count], ask: Callable[..., Iterator[Count]]) -> list[Count]:
    """What a counter says, or why it says nothing.

    Args:
        asked: each figure that it has, without a value.
        ask: gives them back with their values.
    """
    try:
        return list(ask(*asked))
    except _TooLargeError as error:
        return [replace(count, needs=error.needed) for count in asked]
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it raises, it has no answer
        return [replace(count, failed=_told(error)) for count in asked]


def _flat(model: nn.Module) -> nn.Module:
    """A module that answers with a tuple of tensors, as torch.jit demands."""
    from torch import nn

    from cnnscope.tracing.tracer import tensors_in

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: Any) -> tuple[Any, ...]:
            return tuple(tensors_in(self.model(*args)))

    return Flat()


class _Formulas:
    """fvcore's formulas for products, beside how many there are: what they say too much.

    An einsum is counted by numpy, which prints four digits (known for two operands: every index
    takes part once); a matmul as if its second operand had no batch of its own.
    """

    def __init__(self) -> None:
        self.excess: Counter[str] = Counter()

    def einsum(self, inputs: Any, outputs: Any) -> Any:
        """What fvcore counts for an einsum."""
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
        """What fvcore counts for a matmul."""
        from fvcore.nn.jit_handles import get_shape, matmul_flop_jit

        counted = matmul_flop_jit(inputs, outputs)
        left, right = map(get_shape, inputs)
        if len(left) > 1 and len(right) > 1:
            batch = prod(map(max, zip_longest(left[-3::-1], right[-3::-1], fillvalue=1)))
            self.excess["matmul"] += counted - batch * left[-2] * left[-1] * right[-1]
        return counted


class _Calls:
    """The module calls of a forward, in the order in which they began."""

    def __init__(self) -> None:
        self._made: list[tuple[str, tuple[Shape, ...]]] = []
        self._running: list[int] = []

    def clear(self) -> None:
        """Forget them."""
        self._made.clear()
        self._running.clear()

    def made(self) -> tuple[tuple[str, tuple[Shape, ...]], ...]:
        """Path and output shapes of each."""
        return tuple(self._made)

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
        from cnnscope.tracing.tracer import tensors_in

        def end(_module: Any, _args: Any, output: Any) -> None:
            if not self._running:
                return
            shapes = tuple(tuple(map(int, t.shape)) for t in tensors_in(output))
            self._made[self._running.pop()] = (path, shapes)

        return end


# -------------------------------------------------------------------------------- helpers


def _named(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Every name of every module, depth first, and which of the trace's modules it names.

    Raises:
        _CircleError: a module holds one that it lies in, of which there is no list.
    """
    from cnnscope.tracing.modules import children_of, modules_of

    index = {id(module): i for i, (_, module) in enumerate(modules_of(model))}
    waiting: list[tuple[str, nn.Module, tuple[int, ...]]] = [("", model, ())]
    while waiting:
        path, module, around = waiting.pop()
        if id(module) in around:
            raise _CircleError(f"{path} holds the module that it lies in")
        yield path, index[id(module)]
        waiting += [
            (f"{path}.{name}".lstrip("."), child, (*around, id(module)))
            for name, child in reversed(list(children_of(module)))
        ]


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
    """How many elements of each pruned weight are masked (torch.nn.utils.prune)."""
    masks = {n: m for n, m in model.named_buffers() if n.endswith("_mask")}
    return {
        f"{PRUNED}{name}": int((masks[f"{name}_mask"] == 0).sum())
        for name in (n.removesuffix("_orig") for n, _ in model.named_parameters())
        if f"{name}_mask" in masks
    }


class _CircleError(Exception):
    """Modules that hold each other: torchinfo would list them for ever."""


@contextmanager
def _inference() -> Iterator[None]:
    """Without gradients (inference mode would make torch's counter count nothing), fast paths off.

    The fused path of attention is one operation, whose products no counter sees.
    """
    import logging
    import warnings

    import torch

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _told(error: BaseException) -> str:
    """Why there is no answer, in a line: what was raised first."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, CnnscopeError):
        return printable(str(error), 200)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    return said(error, 200)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""
