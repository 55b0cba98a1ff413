"""From a model's name to an `nn.Module` without weights: one file per source of models."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.files import names_file
from cnnscope.models import installed, registered
from cnnscope.models.files import archive
from cnnscope.models.spec import ModelSpec
from cnnscope.records import About, Inputs, Published, Shape, Source
from cnnscope.text import printable, said
from cnnscope.tracing.stubs import light

if TYPE_CHECKING:
    from torch import nn

    from cnnscope.models.files.source import Own

# In the order in which a name without a source is looked for.
SOURCES = ("torchvision", "classic", "timm")
REQUIRED = ("torchvision", "classic")  # timm is an extra
# What a spec itself says is the user's own code.
OWN = ("file", "import")
PROGRAM = "torch.export"  # a program in a file: its graph runs on meta alone, whoever asks
SEED = 0  # of real weights and inputs, where there is no way without


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


@runtime_checkable
class Publishing(Protocol):
    """What a source offers as well that publishes parameters and MACs of its models."""

    def published(self, name: str) -> tuple[Published, ...]:
        """What it publishes of a model, for each of its weights."""
        ...


class Found(NamedTuple):
    """Where a model comes from."""

    spec: ModelSpec
    source: str
    library: Library

    @property
    def own(self) -> Own | None:
        """The user's own code, None for a model of a library."""
        return self.library if self.source in OWN else None  # type: ignore[return-value]

    def close(self) -> None:
        """Forget the user's code, once the model is not needed any more."""
        if self.own is not None:
            self.own.close()


class Built(NamedTuple):
    """A model on the meta device (or with real weights), and what is known of it."""

    model: nn.Module
    inputs: Inputs
    source: Source
    values: Any  # the KnownValues that its constructor needed, or None
    accept: Callable[[Inputs], None]  # raises RequestError for inputs that the model cannot take
    notes: tuple[str, ...]  # for the report
    real: str = ""  # why it has real weights


def find(spec: ModelSpec) -> Found:
    """Where the model is; a file or module of the user's is loaded.

    Raises:
        RequestError: no such source, file, module or model.
        ModelError: the user's file failed.
    """
    installed.refuse_old()
    _stand_somewhere()
    if spec.source and spec.source not in (*SOURCES, *OWN) and _is_module(spec.source):
        spec = ModelSpec("import", spec.name, spec.text, place=spec.source)
    if spec.source in OWN:
        from cnnscope.models.files.source import Own

        with light():  # it may import torchvision
            return Found(spec, spec.source, Own(spec))
    source, library = _find(spec)
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


def build(spec: ModelSpec, arguments: Mapping[str, Any], *, with_values: bool = False) -> Built:
    """Find a model and build it: see `build_found`."""
    return build_found(find(spec), arguments, way="values" if with_values else "meta")


def build_found(
    found: Found, arguments: Mapping[str, Any], *, way: str = "meta", seed: int = SEED
) -> Built:
    """Build a model, if possible without allocating its weights.

    Args:
        found: which model.
        arguments: for its constructor.
        way: "meta"; "values" to follow the values of constants from the start, for a forward that
            needs them; "real" for weights as the constructor makes them.
        seed: of real weights.

    Raises:
        RequestError: an argument that the constructor refuses.
        ModelError: the constructor failed.
    """
    spec, library = found.spec, found.library
    try:
        model, values, real = _ways(found, arguments, way, seed)
    except (CnnscopeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if out_of_memory(error):
            raise
        raise _constructor_error(found, arguments, error) from error
    literals = {name: repr(value) for name, value in arguments.items()}
    name = found.own.title if found.own else spec.name
    shown = printable(spec.text, 4096)
    origin = Source(shown, found.source, printable(name, 120), literals, library.versions())
    model.eval()  # whatever it returns
    inputs = library.default_inputs(spec.name, model)
    cautious = library if isinstance(library, Cautious) else None
    accept = cautious.accept if cautious else anything
    notes = cautious.notes() if cautious else ()
    return Built(model, inputs, origin, values, accept, notes, real)


def build_real(found: Found, arguments: Mapping[str, Any], device: str, seed: int = SEED) -> Built:
    """Build a model on a device, with weights as its constructor makes them, by a fixed seed.

    The random state of the CPU and of the device is left as it was.

    Raises:
        RequestError: as `build_found`, and where a source makes modules without weights alone.
        ModelError: the constructor failed.
        RuntimeError: the device has no memory left (see `out_of_memory`).
    """
    import torch

    if found.source == PROGRAM:
        raise _without_weights(found)
    where = torch.device(device)
    with torch.random.fork_rng([where] if where.type == "cuda" else []), where:
        torch.manual_seed(seed)  # of that device as well
        built = build_found(found, arguments, way="real", seed=seed)
    if any(t.is_meta for t in (*built.model.parameters(), *built.model.buffers())):
        raise _without_weights(found)
    return built


def _without_weights(found: Found) -> RequestError:
    return RequestError(
        f"{printable(found.spec.text)}: its weights are not read from the file, so it cannot "
        "run; name the model that it was made from"
    )


def _is_module(name: str) -> bool:
    from cnnscope.models.files.source import importable

    return importable(name)


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
    """What a source publishes of a model, () where it publishes nothing."""
    found = library(source.source) if source.source in SOURCES else None
    return found.published(source.name) if isinstance(found, Publishing) else ()


def anything(inputs: Inputs) -> None:
    """Take all inputs: most models only tell when they run."""


def _in_file(name: str) -> tuple[str, Library]:
    """A program in a file; weights alone have no forward."""
    if archive.is_weights(name):
        raise archive.no_forward(name)
    from cnnscope.models.files import exported

    return PROGRAM, exported.Program(name)


_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",  # of cuBLAS and cuDNN
)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device (or the machine) had no memory left for a tensor."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = said(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _NO_MEMORY)


def _find(spec: ModelSpec) -> tuple[str, Library]:
    if not spec.source and names_file(spec.name):
        return _in_file(spec.name)
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
    return RequestError(f"no model called {printable(spec.text)!r}; {hint}")


def _ways(
    found: Found, arguments: Mapping[str, Any], way: str, seed: int
) -> tuple[nn.Module, Any, str]:
    """Build on meta; with values for a constructor that looks at them; else with real weights.

    Returns:
        The model, the values that its constructor was told or None, and why it has weights.
    """
    import torch

    from cnnscope.tracing import isolation
    from cnnscope.tracing.modules import orthogonal_without_data
    from cnnscope.tracing.values import KnownValues, same_device

    def made() -> nn.Module:
        with _quiet(), isolation.seeded(seed), isolation.same_modes(), orthogonal_without_data():
            return found.library.build(found.spec.name, arguments)

    refused: Exception | None = None
    if way == "meta":
        try:
            with torch.device("meta"), same_device():
                return made(), None, ""
        except Exception as error:
            if not _asks_for_data(found, error):
                raise
            refused = error
    if way != "real":
        values = KnownValues(constants_only=found.own is not None, computes=_computes(found))
        try:
            with torch.device("meta"), values, same_device():
                return made(), values, ""
        except Exception as error:
            if found.own is None or not _asks_for_data(found, error):
                raise
            refused = refused or error
    return made(), None, found.own.reason(refused) if found.own and refused else "asked"


def _computes(found: Found) -> frozenset[str] | None:
    """Which operations may run on values: all that a library or the user's own code names."""
    if found.source != PROGRAM:
        return None
    from cnnscope.models.files.permitted import COMPUTES

    return COMPUTES


def _asks_for_data(found: Found, error: Exception) -> bool:
    """Whether a constructor failed because tensors have no data ("Cannot copy out of meta...")."""
    from cnnscope.tracing.values import needs_data

    if found.own is None:
        return isinstance(error, NotImplementedError)
    return not isinstance(error, CnnscopeError) and needs_data(error, own=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Constructors warn about initialisation, which does not happen here; prints go to stderr."""
    from cnnscope.tracing import isolation

    with warnings.catch_warnings(), isolation.aside(), light():
        warnings.simplefilter("ignore")
        yield


def _constructor_error(
    found: Found, arguments: Mapping[str, Any], error: BaseException
) -> CnnscopeError:
    """What a constructor raised: the arguments are to blame, unless it fails without them too."""
    given = printable(", ".join(f"{name}={value!r}" for name, value in arguments.items()), 200)
    how = f"could not be built with {given}" if given else "could not be built"
    blamed = bool(arguments) and not _fails_without_arguments(found, error)
    kind = RequestError if blamed else ModelError
    if found.own is not None:
        return kind(found.own.sentence(how, error))
    return kind(f"{printable(found.spec.text)} {how}: {said(error)}")


def _fails_without_arguments(found: Found, error: BaseException) -> bool:
    """Whether the constructor raises the same without any arguments."""
    try:
        _ways(found, {}, "meta", SEED)
    except KeyboardInterrupt:
        raise
    except BaseException as other:  # noqa: BLE001  whatever it raises
        return said(other) == said(error)
    return False
