"""Your own networks: `path/net.py:Net` and `package.module:factory`.

A file runs as `python net.py` would run it, from its own folder (its neighbours import), but not
as `__main__`; what it prints goes to stderr. It is read anew every time, and after the trace its
folder and its neighbours are forgotten, so that two folders with a `blocks.py` each do not mix.

The file itself runs on the CPU: constants that it makes have their values, and so has whatever
it imports. Only the network is built on the meta device, which is where the weights are.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.files import open_regular, read_regular
from cnnscope.models.request import ModelSpec
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable, said
from cnnscope.tracing import isolation
from cnnscope.tracing.modules import modules_of

# Sides that published networks take. A guess begins with the first; the others rise, but that
# MNIST's 28 comes after CIFAR's 32 where images have colours.
_IMAGE_SIDES = (224, 28, 32, 64, 96, 128, 256, 299, 331, 384, 480, 512, 513)
_COLOUR_SIDES = (224, 32, 28, *_IMAGE_SIDES[3:])
_COLOURS = 3
_SEED_SIDES = (1, 4, 7, 8, 16, 32)  # of what a decoder begins with
_CLIP = (16, 112, 112)
# What Lightning, timm and people call it, on the network or beside it in its file.
_OFFERED = ("example_input_array", "example_inputs", "example_input", "input_size", "input_shape")
_CONFIGS = ("default_cfg", "pretrained_cfg")  # timm's convention: a dict with an input_size
_LIBRARY_FOLDERS = frozenset(("site-packages", "dist-packages"))
_MANY = 12
_LONGEST_FILE = 64 * 2**20  # bytes of Python


class Guess(NamedTuple):
    """Inputs to try where the request has none, and what speaks for them.

    `offered` tells those that the network or its file names from those by its first layer.
    """

    inputs: Inputs
    because: str
    offered: bool = False


class Own:
    """A network of the user's: the class, factory or instance that a spec names.

    Attributes:
        title: `net.py:Net`, short enough for a heading.
        folder: where its code lies.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.folder = Path()
        self._undo = ExitStack()
        isolation.keep(self._undo, lambda file: _within(file, self.folder))
        try:
            if spec.source == "file":
                path = _existing(spec)
                self.folder = path.parent
                with self.running("could not be loaded"):
                    self._module = _load(path, self._undo)
            else:
                with self.running("could not be imported"):
                    self._module = self._imported(spec.place)
            with self.running("could not be looked into"):
                self.target, name = _choose(spec, self._module)
        except BaseException:
            self.close()
            raise
        place = spec.place if spec.source == "import" else path.name
        self.title = printable(f"{place}:{name}", 120)

    def close(self) -> None:
        """Forget the file's folder and its neighbours."""
        self._undo.close()

    def _imported(self, place: str) -> ModuleType:
        self.folder = Path.cwd()
        here = str(self.folder)
        if here not in sys.path and "" not in sys.path:
            self._undo.callback(_remove_from_path, here)
            sys.path.insert(0, here)
        if not _importable(place):
            raise RequestError(
                f"model {printable(self.spec.text)!r}: no module {printable(place)}; a file is "
                "named as path/net.py:Net"
            )
        module = importlib.import_module(place)
        self.folder = Path(getattr(module, "__file__", None) or here).parent
        return module

    # -- the protocol of a source of models

    def names(self) -> list[str]:
        """The requested name alone."""
        return [self.spec.name]

    def versions(self) -> dict[str, str]:
        """Of torch: what else counts is the user's."""
        return {"torch": str(torch.__version__)}

    def about(self, name: str, shape: Shape) -> About:  # noqa: ARG002
        """Nothing is published about it."""
        return About(family="")

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:  # noqa: ARG002
        """Call the class or factory; an instance is there already.

        Raises:
            RequestError: the arguments are not what it takes.
            ModelError: it failed, or what it makes is no module.
        """
        text = printable(self.spec.text)
        if _is_network(self.target):
            if arguments:
                given = ", ".join(arguments)
                raise RequestError(
                    f"{text} is a network already and takes no arguments ({given}): name its class"
                )
            return self._whole(self.target)
        _check_arguments(text, self.target, arguments)
        model = self.target(**arguments)
        if not _is_network(model):
            raise RequestError(f"{text} made {_a(model)}, not an nn.Module: return the network")
        return self._whole(model)

    def _whole(self, model: Any) -> nn.Module:
        """A module of which torch's own constructor has run, and of its parts as well.

        Raises:
            ModelError: it has not.
        """
        try:
            list(modules_of(model))
        except ModelError as error:
            raise ModelError(f"{printable(self.spec.text)}: {error}") from None
        return cast("nn.Module", model)

    def default_inputs(self, name: str, model: nn.Module) -> Inputs:  # noqa: ARG002
        """The first guess; no tensors where there is none."""
        guessed = self.guesses(model)
        return guessed[0].inputs if guessed else Inputs(())

    def guesses(self, model: nn.Module) -> tuple[Guess, ...]:
        """Inputs to try where none is given."""
        return guesses(model, self._module)

    # -- running other people's code

    @contextmanager
    def running(self, failed: str) -> Iterator[None]:
        """Run the user's code: prints go to stderr, and an exception becomes one sentence.

        Raises:
            ModelError: `<spec> <failed>: net.py:3: ...`.
        """
        with isolation.aside(), isolation.seeded():
            try:
                yield
            except (CnnscopeError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise ModelError(self.sentence(failed, error)) from error

    def sentence(self, failed: str, error: BaseException) -> str:
        """`net.py:Net could not be built: net.py:3: ValueError: ...`."""
        return f"{printable(self.spec.text)} {failed}: {self.reason(error)}"

    def reason(self, error: BaseException) -> str:
        """`net.py:3: ValueError: ...`: where in the user's code, and what."""
        return f"{self.line(error)}{_said(error)}"

    def line(self, error: BaseException) -> str:
        """`net.py:3: `, the innermost line of the user's code that an exception passed."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{self._shown(str(error.filename))}:{error.lineno}: "
        if isinstance(error, SyntaxError):
            return ""
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if _within(frame.filename, self.folder)
        ]
        return f"{self._shown(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""

    def _shown(self, filename: str) -> str:
        try:
            return printable(str(Path(filename).relative_to(self.folder)))
        except ValueError:
            return printable(filename)


def importable(name: str) -> bool:
    """Return True if `name` (without dots) may be a module: for a spec such as `nets:Net`."""
    return name.isidentifier() and (_importable(name) or Path(f"{name}.py").is_file())


def required_inputs(model: nn.Module) -> list[str] | None:
    """Names of what forward cannot do without; None where its signature does not tell."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional and p.default is p.empty]


# ------------------------------------------------------------------------------ loading


def _existing(spec: ModelSpec) -> Path:
    try:
        path = Path(spec.place).expanduser()
        open_regular(path).close()
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _python_files(path.parent), n=3)
        hint = f"; did you mean {', '.join(map(printable, near))}?" if near else ""
        raise RequestError(f"{printable(spec.place)}: there is no such file{hint}") from None
    except IsADirectoryError:
        raise RequestError(
            f"{printable(spec.place)}: is a folder; name a Python file in it"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, or ~nobody
        reason = getattr(error, "strerror", None) or said(error)
        raise RequestError(f"{printable(spec.place)}: {reason}") from None
    return path.resolve()


def _python_files(folder: Path) -> list[str]:
    return [p.name for p in folder.glob("*.py")] if folder.is_dir() else []


def _load(path: Path, undo: ExitStack) -> ModuleType:
    """Execute a file as a module of its own folder; `undo` takes back what that changed."""
    source = importlib.util.decode_source(read_regular(path, _LONGEST_FILE))
    code = compile(source, str(path), "exec", dont_inherit=True)
    before = set(sys.modules)
    undo.callback(_forget_neighbours, before, path.parent)
    name = _module_name(path, _relative_level(ast.parse(source)), undo)
    _insert_in_path(path.parent, undo)
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    undo.callback(sys.modules.pop, name, None)
    sys.modules[name] = module
    argv, sys.argv = sys.argv, [str(path)]
    try:
        exec(code, vars(module))  # noqa: S102  the user named it to be run
    finally:
        sys.argv = argv
    return module


def _insert_in_path(folder: Path, undo: ExitStack) -> None:
    undo.callback(_remove_from_path, str(folder))
    sys.path.insert(0, str(folder))


def _remove_from_path(folder: str) -> None:
    with contextlib.suppress(ValueError):
        sys.path.remove(folder)


def _relative_level(tree: ast.Module) -> int:
    """Count the dots of the file's widest relative import; 0 if it has none."""
    return max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)


def _module_name(path: Path, level: int, undo: ExitStack) -> str:
    """The name to run a file under: its stem, as its neighbours would import it.

    A file with relative imports is part of a package, whose folder's parent is importable then. A
    stem that belongs to another module (`copy.py`) is left to that.
    """
    if level:
        root = path.parent
        parts = [path.stem]
        for _ in range(level):
            parts.insert(0, root.name)
            root = root.parent
        while (root / "__init__.py").is_file():
            parts.insert(0, root.name)
            root = root.parent
        _insert_in_path(root, undo)
        importlib.import_module(".".join(parts[:-1]))
        return ".".join(parts)
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    return f"_own_{path.stem}" if taken else path.stem


def _forget_neighbours(before: set[str], folder: Path) -> None:
    """Drop the modules that came from the file's folder; installed ones stay."""
    for name in set(sys.modules) - before:
        if _within(getattr(sys.modules[name], "__file__", None) or "", folder):
            del sys.modules[name]
    importlib.invalidate_caches()


def _within(filename: str, folder: Path) -> bool:
    """Return True for a file of the user's: in the folder, not in an environment below it."""
    try:
        parts = Path(filename).resolve().relative_to(folder).parts
    except (OSError, ValueError):
        return False
    return bool(filename) and not _LIBRARY_FOLDERS & set(parts)


def _importable(place: str) -> bool:
    """Return True if there is such a module; this imports the packages that it is in.

    Raises:
        ModuleNotFoundError: one of these packages lacks another module.
    """
    try:
        return importlib.util.find_spec(place) is not None
    except ModuleNotFoundError as error:
        if f"{place}.".startswith(f"{error.name}."):
            return False
        raise
    except ValueError:  # a module that was made by hand has no spec
        return place in sys.modules


# ----------------------------------------------------------------------------- choosing


def _choose(spec: ModelSpec, module: ModuleType) -> tuple[Any, str]:
    """The class, factory or instance that was named, or the only one there is."""
    shown = printable(spec.place)
    name = spec.name or _only(shown, module)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise RequestError(f"{shown} has no {printable(name)!r}{_instead(module, name)}")
    if not _is_network(found) and not callable(found):
        raise RequestError(
            f"{shown}: {printable(name)} is {_a(found)}, not a network, its class or a function "
            f"that makes it{_instead(module, '')}"
        )
    return found, name


def _only(shown: str, module: ModuleType) -> str:
    """The name of the one network that a file holds."""
    classes = _classes(module)
    public = [name for name in classes if not name.startswith("_")]
    for names in (public or classes, _instances(module)):
        if len(names) == 1:
            return names[0]
        if names:
            example = f"{shown}:{names[-1]}"
            raise RequestError(f"{shown} holds {_listed(names)}: say which, as in {example}")
    raise RequestError(f"{shown} holds no nn.Module{_instead(module, '')}")


def _classes(module: ModuleType) -> list[str]:
    """Classes of networks that are defined in a module and not imported into it."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
        and value.__name__ == name
    ]


def _instances(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _is_network(value)]


def _is_network(value: Any) -> bool:
    """Return True for an nn.Module, whatever its `__class__` is."""
    return issubclass(type(value), nn.Module)


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


def _instead(module: ModuleType, name: str) -> str:
    """Suggest the names that could have been meant."""
    networks = [*_classes(module), *_instances(module)]
    functions = _functions(module)
    near = difflib.get_close_matches(name, [*networks, *functions], n=1) if name else []
    parts = [f"did you mean {near[0]}?"] if near else []
    if networks:
        parts.append(f"there is {_listed(networks)}")
    elif functions:
        parts.append(f"there are functions, {_listed(functions)}")
    return "; " + " ".join(parts) if parts else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(map(printable, names[:_MANY])) + more


def _check_arguments(text: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Fail for what a constructor does not take, or lacks, before it runs."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    anything = any(p.kind is p.VAR_KEYWORD for p in named)
    named = [p for p in named if p.kind is not p.VAR_KEYWORD]
    known = {p.name for p in named}
    unknown = [name for name in arguments if name not in known]
    if unknown and not anything:
        takes = f"it takes {_listed([p.name for p in named])}" if named else "it takes none"
        raise RequestError(f"{text} takes no argument {', '.join(unknown)}; {takes}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        how = " ".join(f"--arg {name}=..." for name in missing[:_MANY])
        raise RequestError(f"{text} needs {_listed(missing)}: give {how}")


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else printable(repr(error.code))})"
    if isinstance(error, SyntaxError):  # of which `line` has said where
        return f"{printable(type(error).__name__)}: {printable(str(error.msg), 300)}"
    return said(error)


def _a(value: Any) -> str:
    name = printable(type(value).__name__) or "nameless object"
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


# ---------------------------------------------------------------------------- its inputs


def guesses(model: nn.Module, file: ModuleType | None = None) -> tuple[Guess, ...]:
    """Inputs to try, in order: offered by the network or its file, then by its first layer."""
    places = (model,) if file is None else (model, file)
    offered = [guess for place in places for guess in _offers(place)]
    required = required_inputs(model)
    if required is not None and len(required) > 1:
        return tuple(guess for guess in offered if len(guess.inputs.tensors) > 1)
    return (*offered, *_by_first_layer(model))


def _offers(place: Any) -> Iterator[Guess]:
    """Inputs that a network, or the file that it is in, names itself."""
    where = printable(type(place).__name__) if _is_network(place) else "its file"
    for name in (*_OFFERED, *_CONFIGS):
        try:
            value = getattr(place, name, None)
            value = value() if inspect.isroutine(value) else value
            if name in _CONFIGS:
                value = value.get("input_size") if isinstance(value, Mapping) else None
            tensors = _as_specs(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S112  an offer that fails is none
            continue
        if tensors:
            yield Guess(Inputs(tensors), f"{name} of {where}", offered=True)
        turned = _channels_first(value)
        if turned:
            why = f"{name} of {where}, turned: it is height, width, channels"
            yield Guess(Inputs((_sized(turned),)), why, offered=True)


def _as_specs(value: Any) -> tuple[TensorSpec, ...]:
    """A tensor, a size, or several of them; nothing for what is neither."""
    if isinstance(value, torch.Tensor):
        return (TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch.")),)
    if _is_size(value):
        return (_sized(value),) if len(value) > 1 else ()
    if isinstance(value, (list, tuple)):
        each = [_as_specs(item) for item in value]
        return tuple(spec for specs in each for spec in specs) if all(each) else ()
    return ()


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(n) is int and n > 0 for n in value)


def _channels_first(value: Any) -> Shape:
    """C, H, W of a size of three that looks like height, width and channels; () of any other."""
    if not _is_size(value) or len(value) != _COLOURS:
        return ()
    height, width, channels = value
    return (channels, height, width) if channels <= _COLOURS < min(height, width) else ()


def _sized(size: Sequence[int]) -> TensorSpec:
    """A size of three is C, H, W and gets a batch of one."""
    return TensorSpec((1, *size) if len(size) == 3 else tuple(size))


def _by_first_layer(model: nn.Module) -> Iterator[Guess]:
    """Inputs that fit the first layer with a fixed width; none unless pictures or vectors."""
    for path, layer in modules_of(model):
        if isinstance(layer, nn.modules.conv._ConvNd):
            channels = layer.in_channels or 3  # a lazy one takes any
            word = "channel" if channels == 1 else "channels"
            because = f"{path or 'it'} takes {channels} {word}"
            for sizes in _sizes(layer):
                yield Guess(Inputs((TensorSpec((1, channels, *sizes)),)), because)
            for other in {_COLOURS, 1} - {channels}:  # what comes before it may make channels
                why = f"{because}, which do not fit; images have {other}"
                for sizes in _sizes(layer):
                    yield Guess(Inputs((TensorSpec((1, other, *sizes)),)), why)
            return
        if isinstance(layer, nn.Linear):
            if layer.in_features:
                inputs = Inputs((TensorSpec((1, layer.in_features)),))
                yield Guess(inputs, f"{path or 'it'} takes {layer.in_features} features")
            return
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag, nn.RNNBase)):
            return


def _sizes(layer: nn.Module) -> Iterator[tuple[int, ...]]:
    if isinstance(layer, nn.ConvTranspose2d):
        yield from ((side, side) for side in _SEED_SIDES)
    elif isinstance(layer, nn.Conv2d):
        usual = _IMAGE_SIDES if layer.in_channels == 1 else _COLOUR_SIDES
        yield from ((side, side) for side in usual)
    elif isinstance(layer, nn.Conv3d):
        yield _CLIP
