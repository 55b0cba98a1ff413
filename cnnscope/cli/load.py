"""From the options of a command to a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnscope.records import Trace


def load(
    model: str,
    input_: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
    arg: Sequence[str] | None = None,
    dtype: str | None = None,
) -> Trace:
    """Trace the model that the options of the same names ask for.

    Raises:
        RequestError: an option cannot be understood or carried out.
        ModelError: the model failed.
    """
    from cnnscope.run import trace_spec
    from cnnscope.spec import parse_arguments

    return trace_spec(
        model,
        inputs=input_ or (),
        arguments=parse_arguments(arg or ()),
        num_classes=num_classes,
        batch_size=batch_size,
        dtype=dtype,
    )


def module(
    model: str,
    input_: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
    arg: Sequence[str] | None = None,
    dtype: str | None = None,
    *,
    seed: int | None = None,
) -> Any:
    """The `nn.Module` that `load` traces, on the meta device; with weights where a seed is given.

    Raises:
        RequestError: an option cannot be understood or carried out.
        ModelError: the model failed.
    """
    from cnnscope.run import build_spec
    from cnnscope.spec import parse_arguments

    return build_spec(
        model,
        inputs=input_ or (),
        arguments=parse_arguments(arg or ()),
        num_classes=num_classes,
        batch_size=batch_size,
        dtype=dtype,
        seed=seed,
    )
