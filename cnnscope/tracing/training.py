"""What a forward in inference mode does not show of training: gradients, dropouts, branches.

The trace is one forward without gradients, in eval mode. Whether a gradient reaches a parameter is
asked of autograd itself, by a second forward on meta that builds the graph and is not recorded;
only where the first one gives reason to doubt, so that an ordinary network runs once.
"""

from __future__ import annotations

import dis
import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnscope.records.trace import OpRecord, ParamRecord, TensorRecord, Trace
from cnnscope.text import visible
from cnnscope.tracing.modules import modules_of, own_state
from cnnscope.tracing.plain import tensors_in

_TRAIN = nn.Module.train
_NOT_FORWARD = frozenset(("__init__", "train", "eval", "extra_repr", "__repr__"))
# Their derivative is zero everywhere: a gradient arrives, and nothing is learned from it.
_FLAT = re.compile(
    r"(Round|Floor|Ceil|Trunc|Sign|Sgn|Heaviside|Bernoulli|Poisson|Zero|FloorDivide)Backward\d*$"
)
_FLAT_OPS = frozenset(
    "round floor ceil trunc sign sgn heaviside bernoulli poisson zero ones_like zeros_like "
    "full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty".split()
)


class Doubt:
    """Whether a forward has entered a mode without gradients.

    Attributes:
        entered: set by `watching`.
    """

    def __init__(self) -> None:
        self.entered = False


@contextmanager
def watching() -> Iterator[Doubt]:
    """Notice `torch.no_grad`, `torch.inference_mode` and `torch.set_grad_enabled(False)`.

    The trace runs without gradients itself, so that torch's flag does not tell.
    """
    doubt, thread = Doubt(), threading.get_ident()
    modes: Any = torch.autograd.grad_mode
    places = [(modes.no_grad, "__enter__"), (modes.inference_mode, "__enter__"),
              (modes.set_grad_enabled, "__init__")]  # fmt: skip
    before = [vars(kind)[name] for kind, name in places]

    def noticed(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread and not any(args) and not any(kwargs.values()):
                doubt.entered = True
            return original(self, *args, **kwargs)

        return call

    try:
        for (kind, name), original in zip(places, before, strict=True):
            setattr(kind, name, noticed(original))
        yield doubt
    finally:
        for (kind, name), original in zip(places, before, strict=True):
            setattr(kind, name, original)


def doubtful(made: Trace) -> bool:
    """Return True if a gradient may not reach a parameter that some operation reads.

    A value that is detached lies in the same memory as before, so that a trace cannot tell which
    of the two an operation reads: what is detached at all is a reason to ask.
    """
    if any(record.name.startswith("aten.detach") for record in made.ops):
        return True
    reached = _reaching(made.ops, made.tensors, made.outputs)
    return any(_learns(p) and p.tensor not in reached for p in made.params)


def _learns(param: ParamRecord) -> bool:
    return param.trainable and param.used and not param.buffer


def _reaching(
    ops: Iterable[OpRecord], tensors: tuple[TensorRecord, ...], outputs: Iterable[int]
) -> set[int]:
    """Numbers that can be differentiated, and on which an output depends by such numbers."""

    def differentiable(tensor: int) -> bool:
        return "float" in tensors[tensor].dtype or "complex" in tensors[tensor].dtype

    found = set(filter(differentiable, outputs))
    for record in reversed(list(ops)):
        name = record.name.partition(".")[2].partition(".")[0].rstrip("_")
        if name not in _FLAT_OPS and not found.isdisjoint(record.outputs):
            found.update(filter(differentiable, record.tensors))
    return found


def unreached(result: Any, weights: Mapping[int, str]) -> tuple[str, ...]:
    """Parameters that no gradient reaches from what a forward has returned.

    None where it is not known: a function of the user's own that keeps another one for its
    backward, as reentrant checkpoints do, may reach whatever that one holds.

    Args:
        result: of a forward with gradients.
        weights: names of the parameters that could learn, by id.
    """
    outputs = list(tensors_in(result))
    reached = {id(tensor) for tensor in outputs}
    waiting = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen: set[Any] = set(waiting)  # the nodes themselves, so that their ids stay their own
    while waiting:
        node: Any = waiting.pop()
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        if _runs_again(node):
            return ()
        if _FLAT.match(node.name()):
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return tuple(name for key, name in weights.items() if key not in reached)


def _runs_again(node: Any) -> bool:
    """Return True for a `torch.autograd.Function` that holds a function or module."""
    held = list(getattr(node, "__dict__", {}).values())
    held += [item for value in held if isinstance(value, (list, tuple)) for item in value]
    return any(map(callable, held))


def weights_of(model: nn.Module, replacements: Mapping[int, Tensor]) -> dict[int, str]:
    """First names of the parameters that could learn, by the id of what the forward runs with."""
    found: dict[int, str] = {}
    for path, module in modules_of(model):
        for name, tensor in own_state(module):
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                runs = replacements.get(id(tensor), tensor)
                found.setdefault(id(runs), visible(f"{path}.{name}" if path else name))
    return found


# ---------------------------------------------------------------------- branches


def branching(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules whose code takes another path in training: `if self.training`.

    Handing `self.training` on, as to `F.dropout`, is no other path. Layers of torch.nn are left
    out: what they do in training is known.
    """
    return tuple(
        visible(path) for path, module in modules_of(model) if _branches(cast("Any", type(module)))
    )


def own_train(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules with a `train()` of their own, which may keep norms in eval mode."""
    return tuple(
        visible(path) for path, module in modules_of(model) if type(module).train is not _TRAIN
    )


@functools.cache
def _branches(kind: type) -> bool:
    own = (base for base in kind.__mro__ if not base.__module__.startswith("torch.nn.modules"))
    return any(
        _asks(code)
        for base in own
        for name, value in vars(base).items()
        if name not in _NOT_FORWARD and (code := _code(value)) is not None
    )


def _code(value: Any) -> CodeType | None:
    """The code of a method, of one that is decorated too."""
    value = getattr(value, "__func__", value)
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    code = getattr(value, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _asks(code: CodeType) -> bool:
    """Return True if code reads an attribute `training` for more than handing it on."""
    if "training" not in code.co_names:
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "NOP")]
    for step, after, then in zip(steps, [*steps[1:], None], [*steps[2:], None, None], strict=False):
        if step.opname == "LOAD_ATTR" and step.argval == "training" and after is not None:
            handed = after.opname.startswith(("LOAD_", "KW_NAMES", "PRECALL", "CALL", "BUILD_"))
            compared = then is not None and then.opname in ("COMPARE_OP", "IS_OP")
            if not handed or compared:
                return True
    return False


# ---------------------------------------------------------------------- outputs


def missing(result: Any) -> tuple[str, ...]:
    """Places of what a forward has returned that are None: "" is all of it, "1" the second."""
    if result is None:
        return ("",)
    if isinstance(result, Mapping):
        return tuple(visible(str(key)) for key, value in result.items() if value is None)
    if isinstance(result, (list, tuple)):
        return tuple(str(place) for place, value in enumerate(result) if value is None)
    return ()
