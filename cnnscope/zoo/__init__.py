"""From a model's name to an `nn.Module` without weights: one file per source of models."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.records import About, Inputs, Shape, Source
from cnnscope.spec import ModelSpec, printable
from cnnscope.zoo import archive

if TYPE_CHECKING:
    from torch import nn

# In the order in which a name without a source is looked for.
SOURCES = ("torchvision", "classic", "timm")


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

    def about(self, name: str, shape: Shape) -> About:
        """What it says of a model whose first input has this shape (N, C, H, W)."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions that the answer depends on."""
        ...


@runtime_checkable
class Cautious(Protocol):
    """What a source offers as well, whose models were made for certain inputs."""

    def accept(self, inputs: Inputs) -> None:
        """Raise RequestError for inputs that the model cannot take."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What the report should say of the model."""
        ...


class Built(NamedTuple):
    """A model on the meta device, and what is known of it."""

    model: nn.Module
    inputs: Inputs
    source: Source
    values: Any  # the KnownValues that its constructor needed, or None
    accept: Callable[[Inputs], None]  # raises RequestError for inputs that the model cannot take
    notes: tuple[str, ...]  # for the report


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
    source, found = _find(spec)
    try:
        model, values = _on_meta(found, spec, arguments, with_values=with_values)
    except CnnscopeError:
        raise
    except Exception as error:
        raise _constructor_error(spec, arguments, error) from error
    literals = {name: repr(value) for name, value in arguments.items()}
    origin = Source(spec.text, source, spec.name, literals, found.versions())
    inputs = found.default_inputs(spec.name, model)
    cautious = found if isinstance(found, Cautious) else None
    accept = cautious.accept if cautious else _anything
    notes = cautious.notes() if cautious else ()
    return Built(model.eval(), inputs, origin, values, accept, notes)


def library(source: str) -> Library:
    """The module of a source.

    Raises:
        RequestError: its package is not installed.
    """
    try:
        return cast("Library", importlib.import_module(f"cnnscope.zoo.{source}"))
    except ModuleNotFoundError as error:
        if error.name != source:
            raise
        raise RequestError(f"{source} is not installed: pip install 'cnnscope[{source}]'") from None


def _anything(inputs: Inputs) -> None:
    """Take all inputs: most models only tell when they run."""


def _in_file(name: str) -> tuple[str, Library]:
    """A program in a file; weights alone have no forward."""
    if archive.is_weights(name):
        raise archive.no_forward(name)
    from cnnscope.zoo import exported

    return "torch.export", exported.Program(name)


def _find(spec: ModelSpec) -> tuple[str, Library]:
    if not spec.source and archive.is_file(spec.name):
        return _in_file(spec.name)
    if spec.source and spec.source not in SOURCES:
        raise RequestError(
            f"model {printable(spec.text)!r}: no source called {printable(spec.source)!r}; "
            f"there is {', '.join(SOURCES)}"
        )
    known: list[str] = []
    for source in (spec.source,) if spec.source else SOURCES:
        try:
            known_library = library(source)
        except RequestError:
            if spec.source:
                raise
            continue  # an extra that is not installed
        names = known_library.names()
        if spec.name in names:
            return source, known_library
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
