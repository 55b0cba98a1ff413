"""Find where a named model comes from: a library, the user's own code, or a program in a file.

There is one file for each library, in `sources/`, and for each kind of file, in `files/`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from cnnscope.errors import RequestError, UnknownModelError
from cnnscope.files import names_file
from cnnscope.models import installed, registered
from cnnscope.models.files import archive
from cnnscope.models.ladder import LIBRARY, OWN, Ladder
from cnnscope.models.request import ModelSpec
from cnnscope.records.catalogue import About
from cnnscope.records.check import Published
from cnnscope.records.trace import Inputs, Shape, Source
from cnnscope.text import printable
from cnnscope.tracing.stubs import light

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.files.source import Own

# In the order in which a name without a source is looked for.
SOURCES = ("torchvision", "classic", "timm")
REQUIRED = ("torchvision", "classic")  # timm is an extra
OWN_CODE = ("file", "import")  # what a spec itself says is the user's own
PROGRAM = "torch.export"  # a program in a file: its graph runs on meta alone, whoever asks


class Library(Protocol):
    """Interface of a source of models."""

    def names(self) -> list[str]:
        """Every model that can be named."""
        ...

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """The model, without weights, on the default device."""
        ...

    def default_inputs(self, name: str, model: nn.Module) -> Inputs:
        """Inputs that the model is published for."""
        ...

    def about(self, name: str, shape: Shape) -> About:
        """Library's facts about a model whose first input has this shape (N, C, H, W)."""
        ...

    def versions(self) -> dict[str, str]:
        """The versions that the answer depends on."""
        ...


@runtime_checkable
class Cautious(Protocol):
    """Interface of a source whose models accept certain inputs only."""

    def accept(self, inputs: Inputs) -> None:
        """Raise RequestError for inputs that the model cannot take."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Notes on the model for the report."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """Interface of a source that publishes parameters and MACs of its models."""

    def published(self, name: str) -> tuple[Published, ...]:
        """Published figures of a model, for each of its weights."""
        ...


class Found(NamedTuple):
    """A specification with the library that builds its model."""

    spec: ModelSpec
    source: str
    library: Library

    @property
    def own(self) -> Own | None:
        """The user's own code, None for a model of a library."""
        return self.library if self.source in OWN_CODE else None  # type: ignore[return-value]

    @property
    def ladder(self) -> Ladder:
        """The ways in which it may be built and run."""
        if self.source != PROGRAM:
            return OWN if self.own else LIBRARY
        from cnnscope.models.files.permitted import COMPUTES

        return LIBRARY._replace(computes=COMPUTES)

    def close(self) -> None:
        """Forget the user's code, once the model is not needed any more."""
        if self.own is not None:
            self.own.close()


def find(spec: ModelSpec) -> Found:
    """Find the source of a model; load the file or module if it is the user's own.

    Raises:
        RequestError: no such source, file, module or model.
        ModelError: the user's file failed.
    """
    installed.refuse_old()
    _stand_somewhere()
    if spec.source and spec.source not in (*SOURCES, *OWN_CODE) and _is_module(spec.source):
        spec = ModelSpec("import", spec.name, spec.text, place=spec.source)
    if spec.source in OWN_CODE:
        from cnnscope.models.files.source import Own

        with light():  # it may import torchvision
            return Found(spec, spec.source, Own(spec))
    if not spec.source and names_file(spec.name):
        return Found(spec, PROGRAM, _program(spec.name))
    source, library = _named(spec)
    return Found(spec, source, library)


def _stand_somewhere() -> None:
    """Refuse a working folder that has been removed: torch's libraries end the process there.

    Raises:
        RequestError: it has.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise RequestError(
            f"the working folder cannot be found ({error.strerror}): change to another"
        ) from None


def _is_module(name: str) -> bool:
    from cnnscope.models.files.source import importable

    return importable(name)


def _program(name: str) -> Library:
    """A program in a file; weights alone have no forward."""
    if archive.is_weights(name):
        raise archive.no_forward(name)
    from cnnscope.models.files import exported

    return exported.Program(name)


def library(source: str) -> Library:
    """The module of a source.

    Raises:
        RequestError: its package is not installed, or broken.
    """
    try:
        with light():
            return cast("Library", importlib.import_module(f"cnnscope.models.sources.{source}"))
    except Exception as error:
        sentence = installed.broken(error)
        if not sentence:
            raise
        raise RequestError(sentence) from error


def published(source: Source) -> tuple[Published, ...]:
    """Return the published figures of a model, () if there are none."""
    found = library(source.source) if source.source in SOURCES else None
    return found.published(source.name) if isinstance(found, Publishing) else ()


def _named(spec: ModelSpec) -> tuple[str, Library]:
    """The library that has a model of this name, and its source."""
    if spec.source and spec.source not in SOURCES:
        raise RequestError(
            f"model {printable(spec.text)!r}: no source or module called "
            f"{printable(spec.source)!r}; there is {', '.join(SOURCES)}, and your own path/net.py "
            "or package.module:name"
        )
    known: dict[str, None] = {}  # each name once, in the order of the sources
    refused: list[RequestError] = []
    for source in (spec.source,) if spec.source else SOURCES:
        try:
            known_library = library(source)
        except RequestError as error:
            if spec.source or spec.name in registered.names(source):
                raise
            if source in REQUIRED:
                refused.append(error)
            continue  # an extra that is not installed, or the model is another library's
        names = known_library.names()
        if spec.name in names:
            if refused and source not in REQUIRED:
                raise refused[0]  # whose model of that name would have been meant
            return source, known_library
        known |= dict.fromkeys(names)
    raise refused[0] if refused else _unknown(spec, known)


def _unknown(spec: ModelSpec, known: Mapping[str, None]) -> RequestError:
    """The error of a name that is no model's, with the names that are nearest to it."""
    nearest = difflib.get_close_matches(spec.name[:80].lower(), known, n=4, cutoff=0.5)
    nearest = nearest or [name for name in known if spec.name[:80].lower() in name][:4]
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"there are {len(known)} models"
    if not nearest and set(spec.text) & set("./\\"):
        hint += "; your own is named as path/net.py:Net or package.module:Net"
    return UnknownModelError(f"no model called {printable(spec.text)!r}; {hint}")
