"""From a model's name to an `nn.Module` without weights: one file per source of models."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.records import Inputs, Source
from cnnscope.spec import ModelSpec, printable

if TYPE_CHECKING:
    from torch import nn

# In the order in which a name without a source is looked for.
SOURCES = ("torchvision",)


class Library(Protocol):
    """What the module of a source offers."""

    def names(self) -> list[str]:
        """Every model that can be named."""
        ...

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """The model, without weights, on the default device."""
        ...

    def default_inputs(self, name: str, model: nn.Module) -> Inputs:
        """What the model is published for."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions that the answer depends on."""
        ...


class Built(NamedTuple):
    """A model on the meta device, and what is known of it."""

    model: nn.Module
    inputs: Inputs
    source: Source
    values: Any  # the KnownValues that its constructor needed, or None


def build(spec: ModelSpec, arguments: Mapping[str, Any], *, with_values: bool = False) -> Built:
    """Build a model without allocating its weights.

    Args:
        spec: which model.
        arguments: for its constructor.
        with_values: follow the values of constants from the start, for a forward that needs them.

    Raises:
        RequestError: no such source or model, or an argument that the constructor refuses.
        ModelError: the constructor failed.
    """
    source, library = _find(spec)
    try:
        model, values = _on_meta(library, spec, arguments, with_values=with_values)
    except CnnscopeError:
        raise
    except Exception as error:
        raise _constructor_error(spec, arguments, error) from error
    literals = {name: repr(value) for name, value in arguments.items()}
    origin = Source(spec.text, source, spec.name, literals, library.versions())
    return Built(model.eval(), library.default_inputs(spec.name, model), origin, values)


def initialised(spec: ModelSpec, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """The model with weights as its constructor initialises them, on the CPU, in eval mode.

    Args:
        spec: which model; it was built before, so that it can be is known.
        arguments: for its constructor.
        seed: of the random numbers; the state of torch's own is left as it was.

    Raises:
        RequestError: no such source or model.
    """
    import torch

    _, library = _find(spec)
    with torch.random.fork_rng(devices=()), _quiet():
        torch.manual_seed(seed)
        return library.build(spec.name, arguments).eval()


def _find(spec: ModelSpec) -> tuple[str, Library]:
    if spec.source and spec.source not in SOURCES:
        raise RequestError(
            f"model {printable(spec.text)!r}: no source called {printable(spec.source)!r}; "
            f"there is {', '.join(SOURCES)}"
        )
    known: list[str] = []
    for source in (spec.source,) if spec.source else SOURCES:
        library = cast("Library", importlib.import_module(f"cnnscope.zoo.{source}"))
        names = library.names()
        if spec.name in names:
            return source, library
        known += names
    nearest = difflib.get_close_matches(spec.name[:80].lower(), known, n=4, cutoff=0.5)
    nearest = nearest or [name for name in known if spec.name.lower() in name][:4]
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {len(known)} models"
    raise RequestError(f"no model called {printable(spec.text)!r}; {hint}")


def _on_meta(
    library: Library, spec: ModelSpec, arguments: Mapping[str, Any], *, with_values: bool
) -> tuple[nn.Module, Any]:
    """Build on the meta device; a constructor that looks at values is given them."""
    import torch

    from cnnscope.values import KnownValues

    random_state = torch.get_rng_state()
    try:
        if not with_values:
            try:
                with torch.device("meta"), _quiet():
                    return library.build(spec.name, arguments), None
            except NotImplementedError:  # "Cannot copy out of meta tensor; no data!"
                pass
        values = KnownValues()
        with torch.device("meta"), values, _quiet():
            return library.build(spec.name, arguments), values
    finally:
        torch.set_rng_state(random_state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Constructors warn about initialisation, which does not happen here."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _constructor_error(
    spec: ModelSpec, arguments: Mapping[str, Any], error: Exception
) -> CnnscopeError:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    name = printable(spec.text)
    if arguments:
        return RequestError(f"{name} could not be built with {printable(given, 200)}: {text}")
    return ModelError(f"{name} could not be built: {type(error).__name__}: {text}")
