"""Arguments of a forward from their sizes: tensors without data, or filled with random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnscope.errors import RequestError
from cnnscope.models.failures import out_of_memory
from cnnscope.models.spelling import FLOATS
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from cnnscope.tracing.arguments import Arguments


def make_inputs(inputs: Inputs, device: str = "meta") -> Arguments:
    """Arguments for forward, uninitialised.

    Args:
        inputs: shapes and dtypes.
        device: of the tensors.

    Raises:
        RequestError: more elements than a tensor can have.
        RuntimeError: the device has no memory left (see `models.failures`).
    """
    from cnnscope.tracing.arguments import arguments

    return arguments(inputs.form, _made(inputs, device))


def _made(inputs: Inputs, device: str) -> list[Tensor]:
    import torch

    try:
        return [
            torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
            for spec in inputs.tensors
        ]
    except (RuntimeError, OverflowError, TypeError) as error:
        if out_of_memory(error):
            raise
        raise too_large(inputs) from None


def too_large(inputs: Inputs) -> RequestError:
    """The error for inputs of more elements than a tensor, or the memory, can have."""
    shown = ", ".join(map(str, inputs.tensors))
    return RequestError(f"input {printable(shown)}: too large to be a tensor; give smaller sizes")


def real_inputs(inputs: Inputs, device: str = "cpu") -> Arguments:
    """Arguments for forward: floating point uniform in [0, 1), integers 0, bools true.

    Zero is an index into anything.

    Args:
        inputs: shapes and dtypes.
        device: of the tensors.

    Raises:
        RequestError: more elements than a tensor can have.
        RuntimeError: the device has no memory left (see `models.failures`).
    """
    from cnnscope.tracing.arguments import arguments

    return arguments(inputs.form, map(_filled, _made(inputs, device)))


def _filled(tensor: Tensor) -> Tensor:
    import torch

    if tensor.is_floating_point() and tensor.element_size() > 1:
        return tensor.uniform_()
    if tensor.is_floating_point() or tensor.is_complex():  # kernels may not fill these
        return torch.rand(tensor.shape, device=tensor.device).to(tensor.dtype)
    return tensor.fill_(1 if tensor.dtype is torch.bool else 0)


def of_dtype(inputs: Inputs, dtype: str | None) -> Inputs:
    """The inputs with another dtype where they are floating point; None leaves them as they are."""
    if dtype is None:
        return inputs
    return inputs.of(
        [TensorSpec(t.shape, dtype if t.dtype in FLOATS else t.dtype) for t in inputs.tensors]
    )
