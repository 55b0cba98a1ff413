"""From the options of a command to a trace, through the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from cnnscope.cli import options
from cnnscope.cli.out import note

if TYPE_CHECKING:
    from cnnscope.cache import requests
    from cnnscope.cache.store import Store
    from cnnscope.records import SmallestInput, Trace


_opened: list[Store] = []


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
    from cnnscope.cache import requests

    return requests.trace(_request(model, input_, batch_size, num_classes, arg, dtype), store())


def examined(
    model: str,
    input_: Sequence[str] | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
    arg: Sequence[str] | None = None,
    dtype: str | None = None,
    seconds: float | None = None,
) -> tuple[Trace, tuple[SmallestInput, ...]]:
    """What `load` gives, and the sizes that the model works on, tried for so many seconds.

    Raises:
        RequestError: an option cannot be understood or carried out.
        ModelError: the model failed.
    """
    from cnnscope.cache import requests

    request = _request(model, input_, batch_size, num_classes, arg, dtype)
    return requests.examined(request, store(), seconds)


def _request(
    model: str,
    input_: Sequence[str] | None,
    batch_size: int | None,
    num_classes: int | None,
    arg: Sequence[str] | None,
    dtype: str | None,
) -> requests.Request:
    from cnnscope.cache import requests
    from cnnscope.models.spec import parse_arguments

    arguments = parse_arguments(arg or ())
    return requests.Request(model, tuple(input_ or ()), arguments, num_classes, batch_size, dtype)


def store() -> Store | None:
    """The user's store; None with --no-cache."""
    return None if options.cache_refused() else any_store()


def any_store() -> Store | None:
    """The user's store, which tells of damage on stderr; None for a user without a home."""
    from cnnscope.cache.store import Store, default_root

    root = default_root()
    if root is None:
        return None
    _opened.append(Store(root, note))
    return _opened[-1]


def forget() -> None:
    """Begin anew: no store has been opened."""
    _opened.clear()


def distrust() -> bool:
    """Remove what was read from stores, because what uses it failed; whether anything was read."""
    given = [one.distrust() for one in _opened]
    return any(given)


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
    from cnnscope.models.run import module
    from cnnscope.models.spec import parse_arguments

    return module(
        model,
        inputs=input_ or (),
        arguments=parse_arguments(arg or ()),
        num_classes=num_classes,
        batch_size=batch_size,
        dtype=dtype,
        seed=seed,
    )
