"""`torch.autocast` on tensors without data, with the dtypes that it has on its device.

The dispatcher has a key for autocast on each kind of device, and tensors on meta have none of
them: autocast does nothing there. While a forward runs, the key of a device that nobody has
(`AutocastIPU`) is switched on in each region, and has kernels that cast what those of the region's
device cast: the same operations (the dispatcher tells which), before they are decomposed. The
policies are those of `ATen/autocast_mode.h`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from cnnscope.tracing.swaps import swap, swap_all, swap_name

NOTE = (
    "it runs under torch.autocast, which does nothing without its device: data types and memory "
    "are those without it"
)
_KEY = "AutocastIPU"
_DEVICES = {
    "cuda": "AutocastCUDA",
    "cpu": "AutocastCPU",
    "xpu": "AutocastXPU",
    "mps": "AutocastMPS",
}
_ASKED = ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_enabled", "set_autocast_dtype")
_LOWER = frozenset(
    "_convolution.deprecated _convolution conv1d conv2d conv3d conv1d.padding conv2d.padding "
    "conv3d.padding conv_tbc conv_transpose1d conv_transpose2d.input conv_transpose3d.input "
    "convolution cudnn_convolution cudnn_convolution_transpose prelu addmm addmv addr matmul "
    "einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot "
    "_thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
    "_scaled_dot_product_flash_attention scaled_dot_product_attention _addmm_activation "
    "_native_multi_head_attention mkldnn_rnn_layer".split()
)
_WIDEST = frozenset(
    "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add "
    "stack cat index_copy".split()
)
_OF_CPU = frozenset(("grid_sampler", "prod", "prod.dim_int"))  # which are computed in float32
_RESULT = frozenset(
    "prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm "
    "linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList".split()
)
_NORMS = frozenset(("norm.Scalar", "norm.ScalarOpt_dim"))
_NOT_CAST = frozenset(("_cudnn_rnn",))  # done by `lstm`
_BANNED = "binary_cross_entropy"
_UNSAFE = (  # as `binary_cross_entropy_banned` of ATen/autocast_mode.h says
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast: combine "
    "the sigmoid with the loss, by binary_cross_entropy_with_logits or BCEWithLogitsLoss"
)


class _Region(NamedTuple):
    """One `torch.autocast` that was entered: of which device, whether it is on, to which dtype."""

    device: str
    enabled: bool
    dtype: torch.dtype


class _Emulation:
    """Regions of autocast in this thread, and the kernels that cast in them."""

    def __init__(self, undo: ExitStack) -> None:
        self.notes: list[str] = []
        self._undo = undo
        self._regions: list[_Region] = []
        self._kernels: set[str] = set()  # devices whose operations are cast
        self._cast: dict[int, tuple[Tensor, Tensor]] = {}  # weights, until the outermost ends
        self._key: Any = getattr(torch._C.DispatchKey, _KEY)
        self._library: Any = None

    def enter(self, device: str, *, enabled: bool, dtype: torch.dtype) -> None:
        """Begin a region."""
        self._regions.append(_Region(device, enabled, dtype))
        if enabled and device in _DEVICES:
            self._prepare(device)
            note = f"it runs under torch.autocast ({device}, {str(dtype).removeprefix('torch.')}): "
            note += "data types and memory are those of that device"
        else:
            note = NOTE
        if enabled and note not in self.notes:
            self.notes.append(note)
        self._switch()

    def leave(self) -> None:
        """End the innermost region."""
        self._regions.pop()
        if not self._regions:
            self._cast.clear()
        self._switch()

    def region(self) -> _Region | None:
        """The innermost region that is on: what was last said of its device."""
        last = {one.device: one for one in self._regions}
        on = [one for one in self._regions if last[one.device] is one and one.enabled]
        return on[-1] if on else None

    def _switch(self) -> None:
        """Have the key on in a region that is, and off elsewhere, as it is by default."""
        on = self.region() is not None
        torch._C._dispatch_tls_set_dispatch_key_included(self._key, on)
        torch._C._dispatch_tls_set_dispatch_key_excluded(self._key, not on)

    def device_of(self, function: Callable[..., str], *args: Any) -> str:
        """The device that a checkpointed forward is cast for when it runs again."""
        region = self.region()
        found = function(*args)
        return region.device if region is not None and found == "meta" else found

    def end(self) -> None:
        """End all regions that a forward has left open."""
        self._regions.clear()
        self._switch()

    def _prepare(self, device: str) -> None:
        """Have kernels for the operations that a device casts."""
        if device in self._kernels:
            return
        self._kernels.add(device)
        if self._library is None:
            self._library = torch.library.Library("aten", "IMPL")
            every = torch.library.Library("_", "IMPL")
            every.fallback(torch.library.fallthrough_kernel, _KEY)
            self._undo.callback(every._destroy)
            self._undo.callback(self._library._destroy)
        for name in sorted(_cast_by(device) - _cast_by(*(self._kernels - {device}))):
            self._library.impl(name, self._kernel(name), _KEY)

    def _kernel(self, name: str) -> Callable[..., Any]:
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

        def call(*args: Any, **kwargs: Any) -> Any:
            region = self.region()
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(self._key)):
                if region is not None and name in _cast_by(region.device):
                    args, kwargs = self._as_cast(name, region, args, kwargs)
                return operation(*args, **kwargs)

        return call

    def _as_cast(
        self, name: str, region: _Region, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an operation as its policy wants them."""
        if name == _BANNED and region.device != "cpu":
            raise RuntimeError(_UNSAFE)
        computed_wide = region.device == "cpu" and name in _OF_CPU
        if name in _NOT_CAST and region.device != "cpu":
            return args, kwargs
        if (name in _RESULT or name in _NORMS) and not computed_wide:
            given = (kwargs.get("dtype"), *args)
            if _eligible(args[0]) and not any(isinstance(v, torch.dtype) for v in given):
                kwargs = {**kwargs, "dtype": torch.float32}
            return args, kwargs
        to = torch.float32
        if name in _LOWER:
            to = region.dtype
        elif name in _WIDEST and not computed_wide:
            dtypes = {v.dtype for v in tree_flatten((args, kwargs))[0] if _eligible(v)}
            to = torch.float32 if torch.float32 in dtypes else region.dtype

        def cast(value: Any) -> Any:
            return self._as(value, to) if _eligible(value) else value

        return tree_map(cast, args), tree_map(cast, kwargs)

    def _as(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor in another dtype; a weight is cast once, as torch does it."""
        kept = tensor.dtype is torch.float32 and tensor.requires_grad and tensor.is_leaf
        if not kept or tensor._is_view() or not torch.is_autocast_cache_enabled():
            return tensor.to(dtype)
        found = self._cast.get(id(tensor))
        if found is None or found[1].dtype is not dtype:
            found = self._cast[id(tensor)] = tensor, tensor.to(dtype)
        return found[1]


def _eligible(value: Any) -> bool:
    """Return True for what autocast casts: floating point, but float64."""
    return (
        isinstance(value, Tensor)
        and value.is_meta
        and value.is_floating_point()
        and value.dtype is not torch.float64
    )


_known: dict[str, frozenset[str]] = {}


def _cast_by(*devices: str) -> frozenset[str]:
    """Operations that autocast has a kernel for on some devices, as in "conv2d"."""
    for device in devices:
        if device not in _known:
            has = torch._C._dispatch_has_kernel_for_dispatch_key
            every = (n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::"))
            found = (n.removeprefix("aten::") for n in every if has(n, _DEVICES[device]))
            _known[device] = frozenset(n for n in found if "imname" not in n)  # of axes with names
    return frozenset().union(*(_known[device] for device in devices))


@contextmanager
def autocast_on_meta() -> Iterator[list[str]]:
    """Let autocast cast tensors on meta; `torch.autocast(x.device.type)` is that of the CPU.

    Yields:
        A list that has a sentence once an autocast was entered that is not switched off.
    """
    kind: Any = torch.autocast
    with ExitStack() as undo:
        undo.callback(_restore, _nesting(), [_region_of(device) for device in ("cpu", "cuda")])
        emulation = _Emulation(undo)
        undo.callback(emulation.end)

        def created(init: Any, self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
            with ExitStack() as there:
                swap(there, torch.cuda.amp.common.amp_definitely_not_available, lambda _: False)
                swap(there, torch.cuda.is_bf16_supported, lambda *_: True)
                init(self, _real(device_type), *args, **kwargs)

        def entered(enter: Any, self: Any) -> Any:
            result = enter(self)
            emulation.enter(self.device, enabled=self._enabled, dtype=self.fast_dtype)
            return result

        def left(leave: Any, self: Any, *exception: Any) -> Any:
            emulation.leave()
            return leave(self, *exception)

        swap(undo, kind.__init__, created)
        swap(undo, kind.__enter__, entered)
        swap(undo, kind.__exit__, left)
        for name in _ASKED:
            swap_name(undo, torch, name, _of_device)
        again = sys.modules.get("torch.utils.checkpoint")
        if again is not None:
            swap_all(undo, again, {"_infer_device_type": emulation.device_of})
        yield emulation.notes


def _region_of(device: str) -> _Region:
    """What torch itself has on for a device."""
    return _Region(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))


def _nesting() -> int:
    """Count the regions of torch's that have begun and not ended."""
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _restore(nesting: int, regions: list[_Region]) -> None:
    """End the regions of torch's that a forward has left open."""
    for region in regions:
        torch.set_autocast_enabled(region.device, region.enabled)
        torch.set_autocast_dtype(region.device, region.dtype)
    while _nesting() > nesting:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def _of_device(function: Callable[..., Any], *args: Any) -> Any:
    return function(*map(_real, args))


def _real(device: Any) -> Any:
    return "cpu" if device == "meta" else device
