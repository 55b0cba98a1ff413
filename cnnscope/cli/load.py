"""From the options of a command to a trace, through the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cnnscope.cli import options
from cnnscope.cli.out import note

if TYPE_CHECKING:
    from cnnscope.records import Trace
    from cnnscope.store import Store


def load(
    model: str,
    input_: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
    arg: Sequence[str] | None = None,
    dtype: str | None = None,
) -> Trace:
    """The trace that the options of the same names ask for.

    Raises:
        RequestError: an option cannot be understood or carried out.
        ModelError: the model failed.
    """
    from cnnscope import stored
    from cnnscope.spec import parse_arguments

    arguments = parse_arguments(arg or ())
    request = stored.Request(model, tuple(input_ or ()), arguments, num_classes, batch_size, dtype)
    return stored.trace(request, store())


def store() -> Store | None:
    """The user's store; None with --no-cache."""
    return None if options.cache_refused() else any_store()


def any_store() -> Store:
    """The user's store, which tells of damage on stderr."""
    from cnnscope.store import Store, default_root

    return Store(default_root(), note)


def module(
    model: str,
    input_: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
    arg: Sequence[str] | None = None,
    dtype: str | None = None,
    *,
    seed: int | None = None,
) -> AbstractContextManager[Any]:
    """The `nn.Module` that `load` traces, on the meta device; with weights where a seed is given.

    Raises:
        RequestError: an option cannot be understood or carried out.
        ModelError: the model failed.
    """
    from cnnscope.run import module
    from cnnscope.spec import parse_arguments

    return module(
        model,
        inputs=input_ or (),
        arguments=parse_arguments(arg or ()),
        num_classes=num_classes,
        batch_size=batch_size,
        dtype=dtype,
        seed=seed,
    )
