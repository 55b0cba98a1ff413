"""Modules that are one kernel: torch's fast paths in inference.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` run as one opaque operation, which a trace
does not follow, as their parts would be unseen. They are traced as written, and their memory is
made that of the kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnscope.tracing.kernels import Recording, next_of

PACKED = (
    "nn.TransformerEncoder packs the tokens that its padding mask leaves, unless there is a gap in "
    "them, and lays its result out anew: the memory that it needs depends on data and is not exact"
)


class FastPath(NamedTuple):
    """Apply torch's fast path to a call of a module.

    `mask_bytes` are those of the sum of its two masks, (B, H, L, L), 0 where it has not both;
    without biases nn.MultiheadAttention makes the sum, and then is no single kernel.
    """

    mask_bytes: int
    one_kernel: bool


def fast_path(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> FastPath | None:
    """Recognise a call of a module that torch's fast path runs, which is on by default.

    The conditions are those of `forward` of `nn.MultiheadAttention` and of
    `nn.TransformerEncoderLayer`, without what holds in every trace (eval mode, no gradients).
    """
    kind = _kind(module)
    if kind is None or torch.is_autocast_enabled():
        return None
    call = inspect.signature(kind.forward).bind(module, *args, **kwargs).arguments
    masks = [m for name, m in call.items() if "mask" in name and isinstance(m, Tensor)]
    layer: Any = module
    if kind is nn.MultiheadAttention:
        attention, x = layer, call["query"]
        numbers = any(mask.is_floating_point() for mask in masks)
        usual = x is call["key"] and x is call["value"] and not numbers
    else:
        attention, x = layer.self_attn, call["src"]
        hooked = any(part._forward_hooks or part._forward_pre_hooks for part in layer.modules())
        same = layer.norm1.eps == layer.norm2.eps
        usual = same and bool(layer.activation_relu_or_gelu) and not hooked
    biased = attention.in_proj_bias is not None
    if not usual or not _attends_fast(attention, x) or not (biased or layer is attention):
        return None
    batch, length, _ = x.shape
    size = batch * attention.num_heads * length * length * x.element_size()
    return FastPath(size if len(masks) > 1 else 0, biased)


def packs(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return True if torch may make a nested tensor of the tokens that a padding mask leaves.

    The conditions are those of `forward` of `nn.TransformerEncoder` that do not depend on data.
    """
    kind = nn.TransformerEncoder
    if not isinstance(module, kind) or type(module).forward is not kind.forward:
        return False
    call = inspect.signature(kind.forward).bind(module, *args, **kwargs).arguments
    given = call.get("src_key_padding_mask") is not None and call.get("mask") is None
    asked = bool(getattr(module, "use_nested_tensor", False)) and call["src"].dim() == 3
    return given and asked and not torch.is_autocast_enabled()


def _kind(module: nn.Module) -> Any:
    """The class that a module's forward is of, if it has a fast path."""
    for kind in (nn.MultiheadAttention, nn.TransformerEncoderLayer):
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return kind
    return None


def _attends_fast(attention: Any, query: Tensor) -> bool:
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    return (
        query.dim() == 3
        and attention.batch_first
        and attention.num_heads % 2 == 0
        and attention.bias_k is None
        and attention.bias_v is None
        and not attention.add_zero_attn
        and weight is not None
        and query.dtype == weight.dtype == (weight if bias is None else bias).dtype
    )


def hold_masks(seen: Recording, begin: int, mask_bytes: int) -> None:
    """Keep the sum of the masks of a call of `nn.MultiheadAttention` until the call ends.

    Args:
        seen: the recording, in which the operations of the call are the last.
        begin: the first of them.
        mask_bytes: of the sum.
    """
    seen.lives.append([mask_bytes, next_of(seen, "aten.transpose", begin), len(seen.ops)])


def in_one_kernel(seen: Recording, first: int, mask_bytes: int, output: Any) -> Any:
    """Return the module's result, with no other memory than that and its masks as numbers.

    Args:
        seen: the recording, in which its operations are the last.
        first: of the storages that it made.
        mask_bytes: of the sum of its masks.
        output: what it has returned, a tensor or a tuple of one and None or the weights.
    """
    made = seen.lives[first:]
    results = output if isinstance(output, tuple) else (output,)
    kept = [seen.replace(t, _in_order_of(t)) if t is not None else None for t in results]
    end = len(seen.ops)
    for life in (life for life in made if life[1] >= 0):
        name = seen.ops[life[1]].name.split(".")[1]
        if name not in ("zeros_like", "masked_fill_"):
            life[0] = 0
        elif life[2] == end - 1:
            life[2] = end
    seen.lives.append([mask_bytes, end - 1, end])
    return tuple(kept) if isinstance(output, tuple) else kept[0]


def _in_order_of(tensor: Tensor) -> Tensor:
    with torch._C._DisableTorchDispatch():
        return tensor.clone(memory_format=torch.contiguous_format)
