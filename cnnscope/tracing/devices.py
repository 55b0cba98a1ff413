"""A GPU that is not needed: code that places tensors on one is followed without it.

While a model of the user's own is built and run, every device but the CPU and meta means the place
where its tensors are anyway (`Elsewhere.place`), and what torch tells of GPUs is the same on every
machine: there is none. Code that refuses to run then is told that there is one, and run again.

What takes a device or asks a tensor for its own is seen by a mode for functions of torch, and no
tensor is touched; what torch keeps in modules (`torch.cuda.synchronize`) is in `accelerators.py`.
"""

from __future__ import annotations

import dis
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cnnscope.files import PACKAGE
from cnnscope.text import said
from cnnscope.tracing import downloads
from cnnscope.tracing.lines import TORCH
from cnnscope.tracing.plain import tensors_in
from cnnscope.tracing.swaps import imports_a_library

KINDS = ("cuda", "xpu", "mps", "hpu", "ipu", "mtia", "maia", "xla", "npu", "privateuseone")
_NOT_THE_USERS = (TORCH, PACKAGE)
_SIGNS = ("cuda", "gpu", "xpu", "mps", "accelerator")  # of a check that refused
T = TypeVar("T")
_Handler = Callable[["Elsewhere", Any, tuple[Any, ...], dict[str, Any]], Any]


class Elsewhere:
    """What code has done about GPUs, and what it is told.

    Attributes:
        place: where tensors are meanwhile, "meta" or "cpu".
        told: the kind of device that there is said to be: "cuda"; "" for none.
        named: devices that tensors were to be placed on, or that were waited for.
        denied: kinds that were asked for and said not to be there.
        looked: whether a tensor was asked for its device.
        in_vain: what errors said that came again although there was said to be a GPU.
        remarks: further sentences for the report.
        chose: whether data would have decided which of two branches ran.
    """

    def __init__(self) -> None:
        self.place, self.told = "meta", ""
        self.named: dict[str, None] = {}
        self.denied: dict[str, None] = {}
        self.looked = False
        self.in_vain: set[str] = set()
        self._told_for, self._named_before = "", self.named
        self.remarks: dict[str, None] = {}
        self.chose = False

    def remark(self, sentence: str) -> None:
        """Have the report say something, once."""
        self.remarks[sentence] = None

    def is_there(self, kind: str) -> bool:
        """Answer whether there is a device of a kind."""
        if self.told == kind:
            return True
        self.denied[kind] = None
        return False

    def name(self, device: str) -> None:
        """Remember that a device was named."""
        self.named.setdefault(device)

    def holds(self, tensor: Tensor) -> bool:
        """Return True for a tensor in the place that stands for a GPU."""
        return tensor.is_meta or (self.place == "cpu" and tensor.device.type == "cpu")

    def moved(self, tensor: Tensor, **how: Any) -> Tensor:
        """The tensor in its place; one without data stays without."""
        place = tensor.device if tensor.is_meta else self.place
        return tensor.to(place, **how)

    def tell(self, error: BaseException | None) -> bool:
        """Say from now on that there is a GPU, if code has failed for want of one.

        What fails with the same words then has failed for something else: it is taken back.

        Returns:
            Whether something else is said from now on, so that the code is to be run again.
        """
        error = getattr(error, "cause", error)  # of a `ForwardError`
        kind = next(iter(self.denied), "cuda" if self.looked else "")
        if error is None or not kind or not _by_users(error):
            return False
        text = said(error)
        if self.told:
            return self._take_back() if text == self._told_for else False
        if text in self.in_vain or not (self.denied or _names_a_gpu(_text(error))):
            return False
        self.told, self._told_for, self._named_before = kind, text, dict(self.named)
        return True

    def _take_back(self) -> bool:
        self.in_vain.add(self._told_for)
        self.told, self.named = "", self._named_before
        return True

    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        notes: tuple[str, ...] = ()
        if self.told:
            notes += (
                f"without a GPU it refuses to run: it was told that there is one ({self.told})",
            )
        if self.named:
            names = ", ".join(self.named)
            notes += (f"it uses {names}: followed without it, which changes no shape and no count",)
        return (*notes, *self.remarks)


_active: list[Elsewhere] = []  # one at most: threads take turns
_wanted = False


def current() -> Elsewhere | None:
    """The state of the model that is built or run, None where nothing is followed."""
    return _active[-1] if _active else None


def notes() -> tuple[str, ...]:
    """Sentences for the report on what is followed."""
    state = current()
    return state.notes() if state is not None else ()


def chose() -> bool:
    """Return True if a branch was taken that data would have decided about."""
    state = current()
    return state is not None and state.chose


def tell(error: BaseException | None) -> bool:
    """Return True if code has failed for want of a GPU, and is to be run again as on one."""
    state = current()
    return state is not None and state.tell(error)


def retried(function: Callable[[], T]) -> T:
    """Call a function; again, if it has failed for want of a GPU."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        if not tell(error):
            raise
    return function()


@contextmanager
def wanted() -> Iterator[None]:
    """Have `follow` follow what is loaded meanwhile."""
    global _wanted  # noqa: PLW0603  of the one thread that may
    before, _wanted = _wanted, True
    try:
        yield
    finally:
        _wanted = before


def follow(undo: ExitStack) -> None:
    """Follow code until `undo` closes, where that is wanted: a real run on a device does not."""
    if _wanted:
        undo.enter_context(following())


@contextmanager
def following() -> Iterator[Elsewhere]:
    """Follow code that uses a GPU, in this thread; a second time is the first one's."""
    from cnnscope.tracing.accelerators import stand_in
    from cnnscope.tracing.eager import run_eagerly

    if _active:
        yield _active[-1]
        return
    state = Elsewhere()
    with ExitStack() as undo:
        undo.enter_context(downloads.refusing())
        run_eagerly(undo, state)
        stand_in(undo, state)
        undo.enter_context(_Moves(state))
        _active.append(state)
        undo.callback(_active.pop)
        yield state


def really_there(arguments: Any, weights: Iterable[Tensor]) -> bool:
    """Return True if some tensor lies on a device: that run is the real one."""
    return any(away(tensor.device) for tensor in (*tensors_in(arguments), *weights))


@contextmanager
def at(place: str) -> Iterator[None]:
    """Have a GPU's tensors in a place, "meta" or "cpu", if anything is followed."""
    state = current()
    if state is None:
        yield
        return
    before, state.place = state.place, place
    try:
        yield
    finally:
        state.place = before


def _by_users(error: BaseException) -> bool:
    """Return True if a line that is neither torch's nor this program's has raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and not frames[-1].filename.startswith(_NOT_THE_USERS)


def _names_a_gpu(text: str) -> bool:
    """Return True for a check of a device that is not one for the CPU."""
    return any(sign in text for sign in _SIGNS) or ("device" in text and "cpu" not in text)


def _text(error: BaseException) -> str:
    """What an error says, and the line that has raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said(error)} {linecache.getline(last.filename, last.lineno or 0)}".lower()


# ------------------------------------------------------------------------ functions of torch


class _Moves(TorchFunctionMode):
    """Puts every device's tensors in the place that stands for it."""

    def __init__(self, state: Elsewhere) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(self.state, func, args, kwargs)
        if kwargs:
            kwargs = _placed(self.state, kwargs)
        return func(*args, **kwargs)


def away(device: Any) -> str:
    """The name of a device that is neither the CPU nor meta; "" of these, and of what is none."""
    if isinstance(device, (str, torch.device)):
        name = str(device)
        return name if name.partition(":")[0] in KINDS else ""
    return f"cuda:{device}" if type(device) is int and device >= 0 else ""


def _placed(state: Elsewhere, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a factory, in the place of the device that they name."""
    name = away(kwargs.get("device"))
    if name:
        state.name(name)
        kwargs = {**kwargs, "device": state.place}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    return kwargs


def _to(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`tensor.to(device)`: also an int is one."""
    name = away(args[1]) if len(args) > 1 else ""
    if not name:
        return func(*args, **_placed(state, kwargs))
    state.name(name)
    return func(args[0], args[0].device if args[0].is_meta else state.place, *args[2:], **kwargs)


def _cuda(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`tensor.cuda()`, `tensor.xpu(1)`."""
    device = kwargs.get("device", args[1] if len(args) > 1 else None)
    index = device if type(device) is int else torch.device(device).index if device else None
    state.name(func.__name__ if index is None else f"{func.__name__}:{index}")
    how = {"memory_format": kwargs["memory_format"]} if "memory_format" in kwargs else {}
    return state.moved(args[0], **how)


def _data(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`torch.tensor(data, device=)` in two steps, the second of which a dispatch mode can see."""
    name = away(kwargs.get("device"))
    if not name:
        return func(*args, **_placed(state, kwargs))
    state.name(name)
    kwargs = {k: v for k, v in kwargs.items() if k not in {"device", "pin_memory"}}
    given = args[-1] if func is torch.Tensor.new_tensor else args[0]
    if isinstance(given, Tensor) and given.is_meta:
        return func(*args, **kwargs, device=given.device)
    return state.moved(func(*args, **kwargs, device="cpu"))


def _type(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x.type()` names no meta device, and `x.type(y.type())` takes what it names."""
    tensor = args[0]
    kind = kwargs.get("dtype", args[1] if len(args) > 1 else None)
    if isinstance(kind, torch.dtype) or not (state.holds(tensor) or away(_backend(kind))):
        return func(*args, **kwargs)
    if kind is None:
        name = torch.empty(0, dtype=tensor.dtype, device="cpu").type()
        return name.replace("torch.", f"torch.{state.told}.") if state.told else name
    dtype = getattr(getattr(torch, str(_type_name(kind)).rpartition(".")[2], None), "dtype", None)
    if dtype is None:
        return func(*args, **kwargs)
    if away(_backend(kind)):
        state.name(_backend(kind))
        tensor = state.moved(tensor)
    return tensor.to(dtype)


def _type_name(kind: Any) -> str:
    """`torch.cuda.FloatTensor`."""
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"


def _backend(kind: Any) -> str:
    """The middle of "torch.cuda.FloatTensor", "" where there is none."""
    parts = _type_name(kind).split(".") if kind is not None else []
    return parts[1] if len(parts) == 3 else ""


def _is(kind: str) -> _Handler:
    """`x.is_cuda`."""

    def answer(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not state.holds(args[0]) or imports_a_library():
            return func(*args, **kwargs)
        if not state.told and _is_torchs(sys._getframe(2)):
            return False  # recurrent layers ask, and refuse nothing for it
        return state.is_there(kind)

    return answer


def _is_torchs(frame: Any) -> bool:
    """Return True if the code that a frame runs is torch's own."""
    return bool(frame.f_code.co_filename.startswith(_NOT_THE_USERS))


def _device(state: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x.device`, and `x.get_device()`, its number."""
    state.looked = True
    if not state.told and args[0].is_meta and _asks_for_type(sys._getframe(2)):
        return torch.device("cpu")  # whose type it has where there is no GPU; only that is read
    if not state.told or not state.holds(args[0]):
        return func(*args, **kwargs)
    return 0 if func is torch.Tensor.get_device else torch.device(state.told, 0)


def _asks_for_type(frame: Any) -> bool:
    """Return True if code that is not torch's reads nothing of a device but `x.device.type`."""
    return not _is_torchs(frame) and _reads_type(frame.f_code, frame.f_lasti)


@cache
def _reads_type(code: Any, place: int) -> bool:
    """Return True if the instruction after one at a place reads an attribute `type`."""
    later = (one for one in dis.get_instructions(code) if one.offset > place)
    after = next((one for one in later if one.opname != "CACHE"), None)
    return after is not None and after.opname == "LOAD_ATTR" and after.argval == "type"


def _numbered(_: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`torch.device(1)` is the second GPU."""
    name = away(args[0]) if args and type(args[0]) is int else ""
    return func(name) if name else func(*args, **kwargs)


def _itself(_: Elsewhere, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x.pin_memory()`."""
    del func, kwargs
    return args[0]


def _handlers() -> Iterator[tuple[Any, _Handler]]:
    kind: Any = torch.Tensor
    yield kind.to, _to
    for name in ("cuda", "xpu", "ipu", "hpu", "mtia"):
        if hasattr(kind, name):
            yield getattr(kind, name), _cuda
    for make in (torch.tensor, torch.as_tensor, torch.asarray, kind.new_tensor):
        yield make, _data
    yield kind.type, _type
    for name in ("cuda", "xpu", "mps"):
        yield getattr(kind, f"is_{name}").__get__, _is(name)
    yield kind.device.__get__, _device
    yield kind.get_device, _device
    yield torch.device, _numbered
    yield kind.pin_memory, _itself


_HANDLERS: dict[Any, _Handler] = dict(_handlers())
