"""The modes that every forward runs in: eval or training, on meta or the CPU, nothing compiled."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cnnscope.tracing import devices, isolation
from cnnscope.tracing.autocast import autocast_on_meta
from cnnscope.tracing.modules import modules_of
from cnnscope.tracing.plain import any_on_meta
from cnnscope.tracing.stubs import imported, light


def settle(stack: ExitStack, model: nn.Module, *, on_meta: bool, train: bool = False) -> list[str]:
    """Enter the modes that every forward runs in.

    Returns:
        Where these are added: sentences about autocast on meta.
    """
    mixed: list[str] = []
    stack.enter_context(_mode(model, train=train))
    stack.enter_context(_uncompiled())
    stack.enter_context(devices.at("meta" if on_meta else "cpu"))
    if on_meta:
        stack.enter_context(states_on_meta())
        mixed = stack.enter_context(autocast_on_meta())
    stack.enter_context(light())
    return mixed


@contextmanager
def _mode(model: nn.Module, *, train: bool) -> Iterator[None]:
    """Eval mode without gradients or training mode with them; everything as it was afterwards.

    Fused fast paths are off. Training mode is what `model.train()` makes of the model: a part with
    a `train()` of its own may stay in eval mode.
    """
    modes = [(module, module.training) for _, module in modules_of(model)]
    with isolation.same_random(), ExitStack() as undo:
        isolation.keep_process(undo)
        undo.enter_context(isolation.deeper(_depth(model)))
        for module, before in modes:
            undo.callback(setattr, module, "training", before)
            module.training = False
        if train:
            model.train()
        _unvalidated(undo)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.set_grad_enabled(train):
            yield


def _depth(model: nn.Module) -> int:
    """Levels of modules inside each other."""
    return max(path.count(".") + 1 for path, _ in modules_of(model))


def _unvalidated(undo: ExitStack) -> None:
    """Let distributions take their parameters as valid, which they do not check without data."""
    module = sys.modules.get("torch.distributions.distribution")
    if module is not None:
        kind = module.Distribution
        undo.callback(kind.set_default_validate_args, kind._validate_args)
        kind.set_default_validate_args(value=False)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled modules as they were written; nothing is compiled where dynamo is not loaded."""
    if imported("torch._dynamo") is None:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


# ------------------------------------------------------------------------- recurrent layers

_RECURRENT = (
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)


@contextmanager
def states_on_meta() -> Iterator[None]:
    """Let recurrent layers take a state that the forward makes on the CPU.

    torch compares the devices before any operation that could be seen.
    """
    functions = vars(torch._VF)
    before = {name: functions[name] for name in _RECURRENT if name in functions}

    def moved(function: Callable[..., Any], *args: Any) -> Any:
        def there(value: Any) -> Any:
            state = isinstance(value, Tensor) and value.is_floating_point()  # and no batch sizes
            return value.to("meta") if state else value

        return function(*(tree_map(there, args) if any_on_meta(args) else args))

    for name in _RECURRENT:
        functions[name] = functools.partial(moved, getattr(torch._VF, name))
    try:
        yield
    finally:
        for name in _RECURRENT:
            functions.pop(name)
        functions.update(before)
