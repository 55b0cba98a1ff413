"""From what was typed to a device that is there and can compute in the dtype asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cnnscope.errors import RequestError
from cnnscope.text import printable

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def check(text: str) -> None:
    """Fail before torch is imported.

    Raises:
        RequestError: it is no device that is known here.
    """
    if not _DEVICE.fullmatch(text):
        raise RequestError(f"--device {printable(text)!r}: use cpu, cuda, cuda:1, mps or auto")


def resolve(text: str) -> torch.device:
    """The device; `auto` is the first CUDA device, else MPS, else the CPU.

    Raises:
        RequestError: unknown, or not on this machine.
    """
    import torch

    check(text)
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
        if text == "cpu" and torch.backends.mps.is_available():
            text = "mps"
    device = torch.device(text)
    if device.type == "cuda":
        _require_cuda(text, device.index or 0)
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        built = "with" if torch.backends.mps.is_built() else "without"
        raise RequestError(
            f"--device mps: torch {torch.__version__} was built {built} MPS and finds no Metal "
            "device; use --device cpu"
        )
    return device


def _require_cuda(text: str, index: int) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index < count:
        return
    built = torch.version.cuda or torch.version.hip
    with_what = f"with CUDA {built}" if built else "without CUDA"
    if count:
        names = ", ".join(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count))
        raise RequestError(f"--device {text}: there is {names}")
    reason = _why_no_cuda() if built else "a CPU build cannot use a GPU"
    raise RequestError(
        f"--device {text}: torch {torch.__version__} was built {with_what}, and found no GPU "
        f"({reason}); use --device cpu"
    )


def _why_no_cuda() -> str:
    """The first sentence of what the driver answers."""
    import torch

    cuda: Any = torch.cuda
    try:
        cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")[:120]
    return "CUDA_VISIBLE_DEVICES hides all of them, or there is none"


def check_dtype(device: torch.device, dtype: str) -> None:
    """Run a small convolution and a small product in the dtype.

    Raises:
        RequestError: the device cannot.
    """
    import torch

    chosen = getattr(torch, dtype)
    try:
        with torch.inference_mode():
            x = torch.zeros(1, 8, 8, 8, dtype=chosen, device=device)
            torch.nn.functional.conv2d(x, torch.zeros(8, 8, 3, 3, dtype=chosen, device=device))
            torch.mm(x[0, 0], x[0, 0]).sum().item()
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RequestError(
            f"--dtype {dtype}: not supported on {device} ({reason}); use --dtype float32"
        ) from error
    if device.type == "cuda" and dtype == "bfloat16":
        with torch.cuda.device(device):  # it asks the current one
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if not native:
            name = torch.cuda.get_device_name(device)
            raise RequestError(
                f"--dtype bfloat16: {name} has no bfloat16 arithmetic; use --dtype float16"
            )
