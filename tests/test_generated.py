"""Generated networks: every number of ours against an oracle that shares nothing with it.

`pytest -m slow tests/test_generated.py` runs 20,000. A network that fails is printed as a recipe,
which `networks.build` takes, and as the module that it makes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import hypothesis
import networks
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import cnnscope
from cnnscope.records import ModelReport, Trace
from cnnscope.report import report

Shapes = list[tuple[int, ...]]


# ---------------------------------------------------------------------------- a real forward


class Called(NamedTuple):
    """A call of a module, as its hooks saw it."""

    path: str
    inputs: Shapes
    outputs: Shapes


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def shapes(value: Any) -> Shapes:
    return [tuple(t.shape) for t in tensors(value)]


@contextmanager
def inference() -> Iterator[None]:
    """As models are counted: no gradients, products as products and not in a fused kernel."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def random_inputs(built: networks.Built, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(shape, dtype=dtype) for shape in built.shapes]


def called(module: nn.Module, inputs: list[Tensor]) -> list[Called]:
    """Every call of every module in a real forward, in the order in which they began."""
    module = copy.deepcopy(module)
    paths = {part: path for path, part in module.named_modules()}
    calls: list[Called] = []
    running: list[Called] = []

    def begin(part: nn.Module, args: Any, kwargs: Any) -> None:
        running.append(Called(paths[part], shapes([args, kwargs]), []))
        calls.append(running[-1])

    def end(part: nn.Module, args: Any, output: Any) -> None:
        running.pop().outputs.extend(shapes(output))

    for part in paths:
        part.register_forward_pre_hook(begin, with_kwargs=True)
        part.register_forward_hook(end)
    with inference():
        module(*inputs)
    return calls


# ----------------------------------------------------------------------------------- oracles


def check_shapes(built: networks.Built, trace: Trace) -> None:
    """Every module call has the shapes of a real forward."""

    def of(ids: tuple[int, ...]) -> Shapes:
        return [trace.tensors[t].shape for t in ids]

    ours = [Called(trace.modules[c.module].path, of(c.inputs), of(c.outputs)) for c in trace.calls]
    assert ours == called(built.module, random_inputs(built))


def check_parameters(built: networks.Built, answer: ModelReport) -> None:
    """Elements of distinct parameters and buffers; those that ran are in the rows."""
    totals, parameters = answer.totals, list(built.module.parameters())
    assert totals.params == sum(p.numel() for p in parameters)
    assert totals.trainable_params == sum(p.numel() for p in parameters if p.requires_grad)
    assert totals.param_bytes == sum(p.nbytes for p in parameters)
    assert totals.buffers == sum(b.numel() for b in built.module.buffers())
    assert totals.buffer_bytes == sum(b.nbytes for b in built.module.buffers())
    assert answer.layers[0].params + totals.unused_params == totals.params
    assert totals.unused_params == sum(p.numel() for p in unread(built))


def unread(built: networks.Built) -> list[nn.Parameter]:
    """Parameters that a real forward could do without."""
    module = copy.deepcopy(built.module)
    read: set[int] = set()

    class Reads(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            read.update(t.untyped_storage().data_ptr() for t in tensors([args, kwargs or {}]))
            return func(*args, **(kwargs or {}))

    with inference(), Reads():
        module(*random_inputs(built))
    return [p for p in module.parameters() if p.untyped_storage().data_ptr() not in read]


def check_macs(built: networks.Built, answer: ModelReport) -> None:
    """Half of what torch's own counter counts."""
    module = copy.deepcopy(built.module)
    with inference(), FlopCounterMode(display=False) as counter:
        module(*random_inputs(built))
    assert 2 * answer.totals.macs == counter.get_total_flops()
    assert answer.totals.flops == counter.get_total_flops()


# --------------------------------------------------------------------------------- the tests


def check(recipe: networks.Recipe) -> None:
    """Hold one network against all oracles."""
    built = networks.build(recipe)
    hypothesis.note(f"{recipe}\n{built.module}\ninputs {built.shapes}")
    inputs = [torch.empty(shape, device="meta") for shape in built.shapes]
    trace = cnnscope.trace(built.module, inputs)
    answer = report(trace)
    assert not answer.unknown
    check_shapes(built, trace)
    check_parameters(built, answer)
    check_macs(built, answer)


def generated(count: int) -> settings:
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


@pytest.fixture(autouse=True)
def _quiet():
    """One thread, which small tensors are faster in; torch warns of what recipes choose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@generated(200)
@given(networks.recipes)
def test_generated_networks_are_counted_as_they_run(recipe):
    check(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_twenty_thousand_generated_networks_are_counted_as_they_run(seed):
    @hypothesis.seed(seed)
    @settings(generated(500), derandomize=False)
    @given(networks.recipes)
    def run(recipe):
        check(recipe)

    run()
