"""Tell what a constructor or a forward failed for: tensors without data, or too little memory."""

from __future__ import annotations

from cnnscope.errors import CnnscopeError
from cnnscope.text import said

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",  # of cuBLAS and cuDNN
)


def asks_for_data(error: BaseException, *, own: bool = False) -> bool:
    """Return True if a constructor or a forward failed because tensors have no data.

    Args:
        error: what was raised, a `ForwardError` for what a forward raised.
        own: whether the code is the user's, which may check devices.
    """
    from cnnscope.tracing.recorder import ForwardError
    from cnnscope.tracing.values import needs_data

    raised = error.cause if isinstance(error, ForwardError) else error
    if isinstance(raised, CnnscopeError) or not isinstance(raised, Exception):
        return False
    return needs_data(raised, own=own)


def one_value(error: BaseException) -> bool:
    """Return True if a norm refused to take statistics of one value per channel."""
    return "Expected more than 1 value per channel" in said(error)


def out_of_memory(error: BaseException) -> bool:
    """Return True if a device (or the machine) had no memory left for a tensor."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = said(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _NO_MEMORY)
