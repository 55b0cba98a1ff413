"""What `torch.cuda` and its like answer where no GPU is needed: nothing waits, nothing is counted.

The answers that code may choose a kernel by are those of an A100 (capability 8.0, bfloat16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor

from cnnscope.tracing.devices import Elsewhere, away
from cnnscope.tracing.swaps import StandIn, imports_a_library, swap, swap_all, swap_name

_BYTES = 80 * 2**30
_CAPABILITY = (8, 0)
_TYPES = "Float Double Half BFloat16 Int Long Short Char Byte Bool".split()
# What is called for its effect on a device
_EFFECTS = (
    "set_device set_device_index set_device_idx synchronize empty_cache empty_host_cache "
    "ipc_collect init manual_seed manual_seed_all seed seed_all set_rng_state set_rng_state_all "
    "set_stream reset_peak_memory_stats reset_max_memory_allocated reset_max_memory_cached "
    "reset_accumulated_memory_stats set_per_process_memory_fraction set_sync_debug_mode"
).split()
_AMOUNTS = (
    "memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached "
    "max_memory_cached current_allocated_memory driver_allocated_memory utilization initial_seed "
    "current_device current_device_index current_device_idx"
).split()
_NVTX = ("range_push", "range_pop", "range_start", "range_end", "mark")


class Stream:
    """A queue of a device: nothing is in it."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device, self.priority = device, priority
        self.stream_id = self.cuda_stream = 0

    def __enter__(self) -> Self:
        """Become the current one, which changes nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop being the current one."""

    def wait_event(self, event: Any) -> None:
        """Wait for an event, which has happened."""

    def wait_stream(self, stream: Any) -> None:
        """Wait for another queue, which is empty."""

    def synchronize(self) -> None:
        """Wait for itself."""

    def record_event(self, event: Any = None) -> Any:
        """An event that happens at once."""
        return event or Event()

    def query(self) -> bool:
        """Return True: everything is done."""
        return True


class Event:
    """An event of a device, which happens at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.event_id = 0

    def record(self, stream: Any = None) -> None:
        """Record the event, which has happened."""

    def wait(self, stream: Any = None) -> None:
        """Make a queue wait for it."""

    def synchronize(self) -> None:
        """Wait for it."""

    def query(self) -> bool:
        """Return True: it has happened."""
        return True

    def elapsed_time(self, other: Any) -> float:  # noqa: ARG002
        """Milliseconds between two of them."""
        return 0.0


class Graph:
    """A graph of a device; what is captured runs as it is written."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.pool = lambda: (0, 0)
        self.replay = self.reset = self.capture_begin = self.capture_end = lambda *_, **__: None


def stand_in(undo: ExitStack, state: Elsewhere) -> None:
    """Have the functions of torch's modules of devices answer for a state until `undo` closes."""
    for kind, place in (("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.mps)):
        swap_all(undo, place, _of_kind(state, kind))
    _stand_in_cuda(undo, state)
    _stand_in_torch(undo, state)


# What functions of a module answer on any machine
_ANSWERS: Mapping[str, Callable[[], Any]] = {
    "current_stream": Stream,
    "default_stream": Stream,
    "get_arch_list": list,
    "get_device_capability": lambda: _CAPABILITY,
    "get_device_name": lambda: "GPU",
    "get_device_properties": lambda: _properties(),  # noqa: PLW0108  it stands below
    "get_rng_state": torch.get_rng_state,
    "get_rng_state_all": lambda: [torch.get_rng_state()],
    "is_current_stream_capturing": lambda: False,
    "can_device_access_peer": lambda: False,
    "mem_get_info": lambda: (_BYTES, _BYTES),
    "get_memory_info": lambda: (_BYTES, _BYTES),
    "memory_stats": dict,
    "memory_summary": str,
    "recommended_max_memory": lambda: _BYTES,
    **dict.fromkeys(_EFFECTS, lambda: None),
    **dict.fromkeys(_AMOUNTS, lambda: 0),
}


def _of_kind(state: Elsewhere, kind: str) -> dict[str, StandIn]:
    """The stand-ins of one module: by name of the function."""

    def used(answer: Callable[[], Any]) -> StandIn:
        def call(_: Any, *args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            state.name(state.told if kind == "accelerator" and state.told else kind)
            return answer()

        return call

    def present(original: Any, *args: Any, **kwargs: Any) -> bool:
        if imports_a_library():
            return bool(original(*args, **kwargs))
        return state.is_there(state.told or "cuda" if kind == "accelerator" else kind)

    def stream(_: Any, given: Any = None) -> Any:
        state.name(kind)
        return nullcontext(given)

    return {
        **{name: used(answer) for name, answer in _ANSWERS.items()},
        "is_available": present,
        "device_count": lambda *given, **named: int(present(*given, **named)),
        "is_initialized": lambda _: state.told == kind,
        "is_bf16_supported": lambda *_, **__: True,
        "is_tf32_supported": lambda *_, **__: True,
        "stream": stream,
        "make_graphed_callables": lambda _, functions, *args, **kwargs: functions,  # noqa: ARG005
    }


def _properties() -> SimpleNamespace:
    major, minor = _CAPABILITY
    return SimpleNamespace(
        name="GPU",
        major=major,
        minor=minor,
        total_memory=_BYTES,
        multi_processor_count=108,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        L2_cache_size=40 * 2**20,
        is_integrated=0,
        is_multi_gpu_board=0,
        gcnArchName="",
    )


def _stand_in_cuda(undo: ExitStack, state: Elsewhere) -> None:
    """What CUDA alone has, and the classes that both have."""
    for place in (torch.cuda, torch.xpu):
        for name, other in (("Stream", Stream), ("Event", Event), ("ExternalStream", Stream)):
            if hasattr(place, name):
                swap(undo, getattr(place, name).__new__, _made(other))
        for name in ("device", "_DeviceGuard"):
            guard = getattr(place, name, None)
            if guard is not None:
                swap(undo, guard.__enter__, lambda _, self: self)
                swap(undo, guard.__exit__, lambda *_: False)
    swap_all(undo, torch.cuda.nvtx, dict.fromkeys(_NVTX, lambda *_, **__: 0))
    swap(undo, torch.cuda.CUDAGraph.__new__, _made(Graph))
    quiet = dict.fromkeys(("__init__", "__enter__", "__exit__"), lambda *_, **__: None)
    swap_all(undo, torch.cuda.graph, quiet)
    swap_all(undo, torch.mps.event.Event, _methods_of(Event) | {"__del__": lambda *_: None})
    swap(undo, torch.backends.cudnn.is_acceptable, lambda *_: False)
    for name in _TYPES:
        plain = getattr(torch, f"{name}Tensor")
        swap_name(undo, torch.cuda, f"{name}Tensor", partial(_legacy, state, plain))


def _stand_in_torch(undo: ExitStack, state: Elsewhere) -> None:
    """What torch itself has for all kinds of devices."""
    accelerator = _of_kind(state, "accelerator") | {
        "current_accelerator": lambda *_, **__: torch.device(state.told) if state.told else None
    }
    swap_all(undo, torch.accelerator, accelerator)
    mps = {"is_available": _of_kind(state, "mps")["is_available"]}
    swap_all(undo, torch.backends.mps, mps | {"is_built": lambda _: state.told == "mps"})
    swap(undo, torch.set_default_device, lambda *given: _default_device(state, *given))
    swap(undo, torch.set_default_tensor_type, lambda *given: _default_type(state, *given))
    # a DataParallel without devices calls its module
    swap(undo, vars(torch._utils)["_get_available_device_type"], lambda _: None)
    for storage in (torch.UntypedStorage, torch.TypedStorage):
        cuda: Any = storage.cuda
        swap(undo, cuda, lambda _, self, *args, **kwargs: self)  # noqa: ARG005
    record_stream = "record_stream"  # which refuses another stream before a mode is asked
    setattr(torch.Tensor, record_stream, lambda self, stream: None)  # noqa: ARG005
    undo.callback(delattr, torch.Tensor, record_stream)
    swap_name(undo, torch, "Generator", _generator)
    swap_name(undo, torch, "Stream", lambda _, *given, **named: Stream(*given, **named))
    swap_name(undo, torch, "Event", lambda _, *given, **named: Event(*given, **named))


def _default_device(state: Elsewhere, original: Any, device: Any) -> None:
    """A default device that is elsewhere is the default that there is."""
    if away(device):
        state.name(away(device))
        return
    original(device)


def _default_type(state: Elsewhere, original: Any, kind: Any) -> None:
    """`torch.set_default_tensor_type(torch.cuda.FloatTensor)` sets the dtype alone."""
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    if name.startswith("torch.cuda."):
        state.name("cuda")
        kind = getattr(torch, name.rpartition(".")[2])
    original(kind)


def _legacy(state: Elsewhere, plain: Any, original: Any, *given: Any, **_: Any) -> Tensor:
    """`torch.cuda.FloatTensor(...)`, of the CPU's type."""
    del original
    state.name("cuda")
    return state.moved(plain(*given))


def _generator(original: Any, device: Any = "cpu") -> Any:
    """`torch.Generator(device="cuda")`: numbers are drawn on the CPU, or not at all."""
    return original("cpu" if away(device) or str(device) == "meta" else device)


def _made(kind: Callable[..., Any]) -> StandIn:
    """The stand-in of a `__new__`: makes another class."""
    return lambda _, cls, *given, **named: kind(*given, **named)  # noqa: ARG005


def _methods_of(kind: type) -> dict[str, StandIn]:
    """Stand-ins for the methods of a class, of the same names."""
    methods = {name: value for name, value in vars(kind).items() if callable(value)}
    return {name: partial(_called, method) for name, method in methods.items()}


def _called(method: Callable[..., Any], original: Any, *given: Any, **named: Any) -> Any:
    del original
    return method(*given, **named)
