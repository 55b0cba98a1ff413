"""Your own networks: `path/net.py:Net`, `package.module:factory`, an expression, standard input.

A file runs as `python net.py` would run it, from its own folder (its neighbours import), but not
as `__main__`; what it prints goes to stderr. It is read anew every time, and after the trace its
folder and its neighbours are forgotten, so that two folders with a `blocks.py` each do not mix.
How it is found and run is in `loading.py`, which of its names is meant in `choosing.py`.

The file itself runs on the CPU: constants that it makes have their values, and so has whatever
it imports. Only the network is built on the meta device, which is where the weights are.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import sys
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.files import is_file, is_folder
from cnnscope.models import described, registered, takes
from cnnscope.models.files import choosing, loading, revision, roles, scope, values
from cnnscope.models.files.choosing import is_network
from cnnscope.models.names import EXPRESSION, ModelSpec, is_expression
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable, said
from cnnscope.tracing import devices, isolation
from cnnscope.tracing.arguments import form_of
from cnnscope.tracing.modules import modules_of
from cnnscope.tracing.plain import tensors_in

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
_OTHER_FILE = re.compile(r"(.+\.py):(.+)", re.DOTALL)


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
        self.folder = self._project = Path.cwd()
        self._undo = ExitStack()
        self._last: CodeType | None = None
        self._tree: revision.Tree | None = None
        if spec.revision:
            self._tree = _extracted(spec, self._undo)
        devices.follow(self._undo)
        isolation.keep(self._undo, lambda file: loading.within(file, self._project))
        try:
            self._module = self._loaded(spec)
            with self.running("could not be looked into"):
                self.target, name = self._chosen(spec)
        except BaseException:
            self.close()
            raise
        named = self._tree is not None and self._tree.is_named(spec.revision)
        commit = f" ({self._tree.short})" if self._tree and not named else ""
        shown = self._tree.short if self._tree and named else spec.revision
        self.title = printable(_title(spec, name, shown), 120 - len(commit)) + commit

    def close(self) -> None:
        """Forget the file's folder and its neighbours."""
        self._undo.close()

    def _loaded(self, spec: ModelSpec) -> ModuleType:
        """The module that a specification names, executed."""
        if spec.source == "file":
            path = self._file(spec.place)
            self.folder, self._project = path.parent, loading.project(path)
            if self._tree is not None:
                revision.prefer(self._tree, self._undo)
            with self.running("could not be loaded"):
                return devices.retried(lambda: loading.run_file(path, self._undo, self._here))
        loading.with_working_folder()
        self._undo.callback(loading.forget, set(sys.modules), self.folder)
        if spec.source == "import":
            with self.running("could not be imported"):
                return devices.retried(lambda: self._imported(spec.place))
        with self.running("could not be evaluated"):
            return devices.retried(lambda: self._executed(spec))

    @property
    def _here(self) -> Path:
        """The working folder, at the revision if one was named."""
        return Path.cwd() if self._tree is None else self._tree.here

    def _file(self, place: str) -> Path:
        """A Python file that was named, at the revision of the model.

        Raises:
            RequestError: there is none.
        """
        if self._tree is None:
            return loading.existing(place)
        named = self._tree.file if place == self.spec.place else self._tree.of(place)
        return loading.existing(str(named)) if named else loading.existing(place)

    def _imported(self, place: str) -> ModuleType:
        if not loading.importable(place):
            raise RequestError(
                f"model {self.spec.shown!r}: no module {printable(place)}; a file is "
                "named as path/net.py:Net"
            )
        module = importlib.import_module(place)
        file = getattr(module, "__file__", None)
        self.folder = Path(file).parent if file else self.folder
        return module

    def _executed(self, spec: ModelSpec) -> ModuleType:
        """A module of the lines that were typed; what they end in makes the network."""
        name = f"<{spec.source}>"
        module = ModuleType(f"_{spec.source}")
        try:
            code = scope.compiled(spec.code.strip(), name)
            lines = not is_expression(spec.code)
            names = scope.missing(ast.parse(spec.code.strip()), vars(module), strict=not lines)
        except scope.UndefinedError as error:
            raise self._undefined(error) from None
        vars(module).update(names)
        loading.register(module.__name__, module, self._undo)
        exec(code.before, vars(module))  # noqa: S102  typed to be run
        self._last = code.last
        return module

    def _undefined(self, error: scope.UndefinedError) -> RequestError:
        """The error of an expression that uses what there is not."""
        name, text = printable(str(error)), self.spec.shown
        near = error.near or (f"nn.{name}" if hasattr(nn, str(error)) else "")
        hint = f"did you mean {near}?" if near else f"your own is named as path/net.py:{name}(...)"
        if any(str(error) in registered.names(source) for source in ("torchvision", "classic")):
            hint = f"a library's model takes its arguments by --arg: {name} --arg name=value"
        return RequestError(f"model {text!r}: nothing is called {name} here; {hint}")

    def _chosen(self, spec: ModelSpec) -> tuple[Any, str]:
        if self._last is None:
            return choosing.choose(spec, self._module)
        code, names = self._last, vars(self._module)
        return lambda: eval(code, names), ""  # noqa: S307  typed to be run

    # -- the protocol of a source of models

    def names(self) -> list[str]:
        """The requested name alone."""
        return [self.spec.name]

    def versions(self) -> dict[str, str]:
        """Of torch: what else counts is the user's."""
        commit = {"commit": self._tree.commit} if self._tree else {}
        return {"torch": str(torch.__version__), **commit}

    def about(self, name: str, shape: Shape) -> About:  # noqa: ARG002
        """Nothing is published about it."""
        return About(family="")

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:  # noqa: ARG002
        """Call the class or factory; an instance is there already.

        Raises:
            RequestError: the arguments are not what it takes.
            ModelError: it failed, or what it makes is no module.
        """
        text = self.spec.shown
        if is_network(self.target):
            if arguments:
                given = ", ".join(arguments)
                raise RequestError(
                    f"{text} is a network already and takes no arguments ({given}): name its class"
                )
            return self._whole(self.target)
        choosing.check_arguments(text, self.target, arguments, vars(self._module))
        model = self.target(**self._values(arguments))
        if self._last is not None:
            model = _as_network(model)
        if not is_network(model):
            raise RequestError(
                f"{text} made {choosing.with_article(model)}, not an nn.Module: return the network"
            )
        return self._whole(model)

    def _values(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the constructor is called with."""
        parameters = choosing.parameters_of(self.target)
        known = vars(self._module)
        found = values.evaluated(arguments, parameters, self._evaluated, known)
        return values.fitted(self.target, found)

    def _evaluated(self, text: str) -> Any:
        """The value of an expression in the scope of the file, or of another one's."""
        other = _OTHER_FILE.fullmatch(text)
        if other is None:
            return scope.evaluate(text, vars(self._module))
        path = self._file(other[1])
        file = getattr(self._module, "__file__", None) or ""
        module = self._module
        if path != Path(file).resolve():
            module = loading.run_file(path, self._undo, self._here)
        return scope.evaluate(other[2], vars(module))

    def _whole(self, model: Any) -> nn.Module:
        """A module of which torch's own constructor has run, and of its parts as well.

        Raises:
            ModelError: it has not.
        """
        try:
            list(modules_of(model))
        except ModelError as error:
            raise ModelError(f"{self.spec.shown}: {error}") from None
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
        with isolation.aside(), isolation.seeded(), devices.at("cpu"):
            try:
                yield
            except (CnnscopeError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise ModelError(self.sentence(failed, error)) from error

    def misfits(self, arguments: Mapping[str, Any]) -> str:
        """Say which arguments are not what the constructor makes of them; "" if none is."""
        try:
            held = self._values(arguments)
        except CnnscopeError:
            return ""
        typed = {name: str(value) for name, value in arguments.items()}
        return "; ".join(roles.misfits(self.target, typed, held, self._module))

    def sentence(self, failed: str, error: BaseException) -> str:
        """`net.py:Net could not be built: net.py:3: ValueError: ...`."""
        return f"{self.spec.shown} {failed}: {self.reason(error)}"

    def reason(self, error: BaseException) -> str:
        """`net.py:3: ValueError: ...`: where in the user's code, and what."""
        lost = isinstance(error, (ImportError, FileNotFoundError))
        hint = f"; {self._tree.lacks()}" if self._tree is not None and lost else ""
        return f"{self.line(error)}{_said(error)}{hint}"

    def line(self, error: BaseException) -> str:
        """`net.py:3: `, the innermost line of the user's code that an exception passed."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{self._shown(str(error.filename))}:{error.lineno}: "
        if isinstance(error, SyntaxError):
            return ""
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == "<stdin>" or loading.within(frame.filename, self._project)
        ]
        return f"{self._shown(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""

    def _shown(self, filename: str) -> str:
        for folder in (self.folder, self._project):
            with contextlib.suppress(ValueError):
                return printable(str(Path(filename).relative_to(folder)))
        return printable(filename)


def importable(name: str) -> bool:
    """Return True if `name` (without dots) may be a module: for a spec such as `nets:Net`."""
    here = (is_file(f"{name}.py"), is_folder(name))
    return name.isidentifier() and (any(here) or loading.importable(name))


def _as_network(value: Any) -> Any:
    """What an expression means: a class or function is called, layers run one after the other."""
    if callable(value) and not is_network(value):
        value = value()
    if isinstance(value, Mapping) and value and all(map(is_network, value.values())):
        return nn.Sequential(OrderedDict(value))
    if isinstance(value, (list, tuple)) and value and all(map(is_network, value)):
        return nn.Sequential(*value)
    return value


def _extracted(spec: ModelSpec, undo: ExitStack) -> revision.Tree:
    """The files of a revision; none are left where it is refused.

    Raises:
        RequestError: there is no such file in it.
    """
    try:
        return revision.extracted(spec, undo)
    except BaseException:
        undo.close()
        raise


def _title(spec: ModelSpec, name: str, revision: str) -> str:
    """`net.py:Net`, `package.module:Net`, or the expression."""
    place = Path(spec.place).name if spec.source == "file" else spec.place
    place = f"{revision}:{place}" if revision else place
    if spec.source == EXPRESSION:
        return " ".join(spec.code.split())
    return ":".join(part for part in (place or spec.shown, name) if part)


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


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        given = "" if error.code is None else printable(repr(error.code))
        return f"it called {isolation.called_to_end(error)}({given})"
    if isinstance(error, SyntaxError):  # of which `line` has said where
        return f"{printable(type(error).__name__)}: {printable(str(error.msg), 300)}"
    return said(error)


# ---------------------------------------------------------------------------- its inputs


def guesses(model: nn.Module, file: ModuleType | None = None) -> tuple[Guess, ...]:
    """Inputs to try, in order: offered by the network or its file, then by its first layer."""
    places = (model,) if file is None else (model, file)
    offered = [guess for place in places for guess in _offers(place)]
    structure = takes.structure(model)
    sure = structure is not None and structure.sure
    first = () if sure else _by_first_layer(model)
    other = takes.inputs(model) if structure is not None else ()
    because = structure.because if structure is not None else ""
    return (*offered, *_of_config(model), *first, *(Guess(one, because) for one in other))


def _of_config(model: nn.Module) -> tuple[Guess, ...]:
    """Inputs that the config of a Hugging Face model describes."""
    why = f"input that the config of {printable(type(model).__name__)} describes"
    try:
        return tuple(Guess(inputs, why, offered=True) for inputs in described.of_config(model))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a config that cannot be read describes nothing
        return ()


def _offers(place: Any) -> Iterator[Guess]:
    """Inputs that a network, or the file that it is in, names itself."""
    where = printable(type(place).__name__) if is_network(place) else "its file"
    for name in (*_OFFERED, *_CONFIGS):
        try:
            value = getattr(place, name, None)
            value = value() if inspect.isroutine(value) else value
            if name in _CONFIGS:
                value = value.get("input_size") if isinstance(value, Mapping) else None
            offered = list(_as_inputs(value))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S112  an offer that fails is none
            continue
        yield from (Guess(one, f"{name} of {where}", offered=True) for one in offered)
        turned = _channels_first(value)
        if turned:
            why = f"{name} of {where}, turned: it is height, width, channels"
            yield Guess(Inputs((_sized(turned),)), why, offered=True)


def _as_inputs(value: Any) -> Iterator[Inputs]:
    """What an offer may mean: a dict gives keywords and a tuple several arguments, as in Lightning.

    A list gives several as well, or is one argument; so may a dict be.
    """
    if _is_size(value):
        if len(value) > 1:
            yield Inputs((_sized(value),))
    elif isinstance(value, Mapping):
        if value and all(isinstance(key, str) for key in value):
            yield from _with_form((), value)
        yield from _with_form((value,), {})
    elif isinstance(value, (list, tuple)) and value:
        yield from _with_form(tuple(value), {})
        if isinstance(value, list):
            yield from _with_form((value,), {})
    elif isinstance(value, torch.Tensor):
        yield from _with_form((value,), {})


def _with_form(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Inputs]:
    """The arguments of a call without their data; nothing where there is none, or an object."""
    args, kwargs = _without_sizes((args, dict(kwargs)))
    tensors = list(tensors_in((args, kwargs)))
    form = form_of(args, kwargs)
    if not tensors or (form is not None and not form.complete):
        return
    dtypes = (str(t.dtype).removeprefix("torch.") for t in tensors)
    specs = (TensorSpec(tuple(t.shape), d) for t, d in zip(tensors, dtypes, strict=True))
    yield Inputs(tuple(specs), form)


def _without_sizes(value: Any) -> Any:
    """The same lists, tuples and dicts with a tensor for each size."""
    if _is_size(value) and value:
        spec = _sized(value)
        return torch.empty(spec.shape, device="meta")
    if type(value) in (list, tuple):
        return type(value)(map(_without_sizes, value))
    if type(value) is dict:
        return {key: _without_sizes(item) for key, item in value.items()}
    return value


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
