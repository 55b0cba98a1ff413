"""Find where a named model comes from: a library, the user's own code, or a program in a file.

There is one file for each library, in `sources/`, and for each kind of file, in `files/`.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from functools import partial
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from msgspec.structs import replace

from cnnscope.errors import RequestError, UnknownModelError
from cnnscope.files import is_file, is_folder, names_file
from cnnscope.models import installed, registered
from cnnscope.models.files import archive
from cnnscope.models.ladder import LIBRARY, OWN, Ladder
from cnnscope.models.names import EXPRESSION, STDIN, ModelSpec
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
ONLY_NAMED = ("hf",)  # of which no bare name is looked for
REQUIRED = ("torchvision", "classic")  # timm is an extra
OWN_CODE = ("file", "import", EXPRESSION, STDIN)  # what a spec itself says is the user's own
PROGRAM = "torch.export"  # a program in a file: its graph runs on meta alone, whoever asks
ONNX = "onnx"  # likewise
PROGRAMS = (PROGRAM, ONNX)


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


@runtime_checkable
class Renaming(Protocol):
    """Interface of a source that knows its models by more names than it lists."""

    def current(self, name: str) -> str:
        """The name to build a model by; "" for one that is no model's.

        Raises:
            RequestError: the name is half right; it says which half is wrong.
        """
        ...


@runtime_checkable
class Signing(Protocol):
    """Interface of a source that knows what its constructors take."""

    def parameters(self, name: str) -> Mapping[str, Parameter]:
        """Parameters of a model's constructor, by name."""
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
        if self.source not in PROGRAMS:
            return OWN if self.own else LIBRARY
        from cnnscope.models.files.permitted import COMPUTES

        return LIBRARY._replace(computes=COMPUTES)

    def make(self, arguments: Mapping[str, Any]) -> nn.Module:
        """Call the constructor.

        Args:
            arguments: as they were typed.

        Raises:
            RequestError: they are not what it takes.
            Exception: whatever it raises.
        """
        if self.source not in OWN_CODE:
            from cnnscope.models.files import scope, values

            library = self.library
            takes = library.parameters(self.spec.name) if isinstance(library, Signing) else {}
            evaluate = partial(scope.evaluate, known={})
            arguments = values.evaluated(arguments, takes, evaluate, {})
        return self.library.build(self.spec.name, arguments)

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
    _require_working_folder()
    spec = _of_module(registered.canonical(spec))
    if (
        spec.source
        and spec.source not in (*SOURCES, *ONLY_NAMED, *OWN_CODE)
        and _is_module(spec.source)
    ):
        spec = ModelSpec("import", spec.name, spec.text, place=spec.source)
    if spec.source in OWN_CODE:
        from cnnscope.models.files.source import Own

        with light():  # it may import torchvision
            return Found(spec, spec.source, Own(spec))
    if not spec.source and names_file(spec.name):
        source = ONNX if archive.is_onnx(spec.name) else PROGRAM
        return Found(spec, source, _program(spec.name, source))
    if not spec.source and _is_package(spec.name) and not _listed_anywhere(spec.name):
        spec = ModelSpec("import", "", spec.text, place=spec.name)
        return find(spec)
    source, library = _named(spec)
    if isinstance(library, Renaming):
        spec = replace(spec, name=library.current(spec.name))
    return Found(spec, source, library)


def _of_module(spec: ModelSpec) -> ModelSpec:
    """`package.module.Net`, without a colon, if there is such a module, and no such model."""
    parts = spec.name.split(".")
    dotted = not spec.source and len(parts) > 1 and all(map(str.isidentifier, parts))
    if not dotted or names_file(spec.name) or parts[0] in registered.names("timm"):
        return spec
    from cnnscope.models.files import loading

    if parts[0] == "nn" and not loading.longest_module(parts[:1]):
        parts = ["torch", *parts]  # as in an expression
    place = loading.longest_module(parts[:-1])
    if not place:
        return spec
    name = ".".join(parts[place.count(".") + 1 :])
    return replace(spec, source="import", name=name, place=place)


def _require_working_folder() -> None:
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


def _is_package(name: str) -> bool:
    """Return True for a package or module of the working folder that is named without a colon."""
    here = (Path(name) / "__init__.py", Path(f"{name}.py"))
    return name.isidentifier() and any(map(is_file, here))


def _listed_anywhere(name: str) -> bool:
    return any(name in registered.names(source) for source in SOURCES)


def _is_module(name: str) -> bool:
    from cnnscope.models.files.source import importable

    return importable(name)


def _program(name: str, source: str) -> Library:
    """A program in a file; weights alone have no forward."""
    if source == ONNX:
        from cnnscope.models.files.onnx import program

        return program.Program(name)
    if archive.is_weights(name):
        from cnnscope.models.files import checkpoint

        checkpoint.read(name)  # a network that was saved whole has another remedy
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
    sources = (*SOURCES, *ONLY_NAMED)
    if spec.source and spec.source not in sources:
        near = difflib.get_close_matches(spec.source, sources, n=1)
        hint = f"did you mean {near[0]}:{printable(spec.name)}? There" if near else "there"
        raise RequestError(
            f"model {printable(spec.text)!r}: no source or module called "
            f"{printable(spec.source)!r}; {hint} is {', '.join(sources)}, and your own "
            "path/net.py, package.module:name or REVISION:path/net.py of git"
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
        if spec.name in names or _has_other_name(known_library, spec.name):
            if refused and source not in REQUIRED:
                raise refused[0]  # whose model of that name would have been meant
            return source, known_library
        known |= dict.fromkeys(names)
    raise refused[0] if refused else _unknown(spec, known)


def _has_other_name(known: Library, name: str) -> bool:
    return isinstance(known, Renaming) and bool(known.current(name))


def _elsewhere(source: str, name: str) -> list[str]:
    """A model that a library has not, as it is called in the libraries that have it."""
    others = [other for other in SOURCES if source and other != source]
    return [f"{other}:{name}" for other in others if name in registered.names(other)]


def _unknown(spec: ModelSpec, known: Mapping[str, None]) -> RequestError:
    """The error of a name that is no model's, with the names that are nearest to it."""
    typed = spec.name.partition("(")[0][:80]
    folder = _of_folder(spec)
    if folder:
        return RequestError(folder)
    plain = typed.lower()
    nearest = [name for name in (plain, re.sub(r"[-_ ]", "", plain)) if name in known][:1]
    elsewhere = [] if nearest else _elsewhere(spec.source, plain)
    nearest = nearest or elsewhere or difflib.get_close_matches(plain, known, n=4, cutoff=0.5)
    nearest = nearest or [name for name in known if plain in name][:4]
    if "(" in spec.name and typed in known:
        hint = f"give its arguments by --arg: {spec.source}:{typed} --arg name=value"
    else:
        hint = (
            f"did you mean {', '.join(nearest)}?" if nearest else f"there are {len(known)} models"
        )
    if elsewhere:
        hint = f"it is {' or '.join(elsewhere)}"
    if not spec.source and spec.name.count("/") == 1:
        hint = f"a name on the Hugging Face Hub is hf:{printable(spec.name)}"
    elif not nearest and set(spec.text) & set("./\\"):
        hint += "; your own is named as path/net.py:Net or package.module:Net"
    return UnknownModelError(f"no model called {printable(spec.text)!r}; {hint}")


def _of_folder(spec: ModelSpec) -> str:
    """What to say of a path: a folder, or a file that is not there; "" of any other name."""
    text = printable(spec.text)
    try:
        path = Path(spec.text)
        if is_folder(path):
            from cnnscope.models.files import choosing

            inside = choosing.in_folder(path)
            if inside:
                return f"{text} is a folder; {inside}"
            files = sorted(one.name for one in path.glob("*.py"))[:6]
            such = printable(str(path / files[0])) if files else "path/net.py:Net"
            return f"{text} is a folder: name a Python file, such as {such}"
        beside = [one.name for one in path.parent.iterdir()] if len(path.parts) > 1 else []
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(path.name, beside, n=1)
    where = printable(str(path.with_name(near[0]))) if near else ""
    return f"{text}: there is no such file; did you mean {where}?" if near else ""
