"""Weights that are not there: nothing is downloaded, and a network is built without them.

A network's structure needs no weights. What fetches them does nothing while a model is built and
run, and the reading of a file that is therefore not there gives `AbsentWeights`, which load into
any module. A file that is there is read as ever. No socket is connected to a network. Code that
fetches by other means fails; the function that was asked for weights by an argument
(`pretrained=True`) is then called without them, and the model is built again.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, Self
from urllib.parse import urlparse

import torch
from torch.nn.modules.module import _IncompatibleKeys

from cnnscope.files import PACKAGE
from cnnscope.text import printable, said
from cnnscope.tracing.swaps import swap, swap_name

_NETS = (socket.AF_INET, socket.AF_INET6)
_PROGRAMS = frozenset(("wget", "curl", "aria2c", "gdown", "git", "pip", "huggingface-cli", "hf"))
_WEIGHTS = frozenset((".bin", ".safetensors", ".pt", ".pth", ".ckpt", ".npz", ".h5", ".msgpack"))
_ASKS = re.compile(r"pretrain|download|^(encoder_|backbone_)?weights$|^load_weights$")
_REASON = "nothing is downloaded while a network is inspected"


class AbsentWeights(dict[Any, Any]):
    """The content of a file of weights that is not there: whatever is asked of it is empty."""

    def __missing__(self, key: Any) -> Self:
        return type(self)()

    def __delitem__(self, key: Any) -> None:
        """Have nothing to delete."""

    def pop(self, key: Any, *default: Any) -> Any:
        """The default, or something empty."""
        return super().pop(key, default[0] if default else type(self)())

    def copy(self) -> Self:
        """Another one."""
        return type(self)(self)


class Refused:
    """What was not fetched or found.

    Attributes:
        names: files, addresses and repositories.
        hosts: that something was to be fetched from by a connection, or programs that fetch.
        without: calls that were made without weights: "resnet50(pretrained=False)".
        error: what code failed with before it was called so.
    """

    def __init__(self, undo: ExitStack) -> None:
        self.names: dict[str, None] = {}
        self.hosts: dict[str, None] = {}
        self.without: dict[str, None] = {}
        self.error: BaseException | None = None
        self._undo = undo
        self._files: set[str] = set()  # that a download would have made

    def weights(self, name: str, file: str = "") -> AbsentWeights:
        """Note what weights are not there, and where they would be."""
        if name not in self._files:
            self.names[name] = None
        self._files.add(file)
        return AbsentWeights()

    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        notes: tuple[str, ...] = ()
        if self.without:
            notes += (
                f"it was built with {', '.join(self.without)}, because the weights that its code "
                "fetches are not on this machine; nothing is downloaded",
            )
        if self.names:
            notes += (
                "weights that its code loads are left out, which changes no shape: "
                f"{self.listed()}; nothing is downloaded",
            )
        return notes

    def advice(self) -> str:
        """What to do where a constructor fails without them; "" where something else fails."""
        if self.names:
            what = f"it computes with weights that are not there ({self.listed()})"
        elif self.hosts:
            what = f"it fetches something ({', '.join(self.hosts)})"
        else:
            return ""
        return (
            f"{what}, and nothing is downloaded: build it without them, perhaps by "
            "--arg pretrained=False"
        )

    def leave_out(self, error: BaseException) -> bool:
        """Have the innermost function that was asked for weights called without them from now on.

        Args:
            error: that code raised after something was not fetched.

        Returns:
            Whether there is one, and the model is to be built again.
        """
        if not (self.names or self.hosts):
            return False
        for frame in reversed(_frames(error)):
            for name, value in _asking(frame):
                call = f"{_called(frame)}({name}={value})"
                if call not in self.without and self._call_without(frame, name, value):
                    self.without[call] = None
                    self.error = self.error or error
                    return True
        return False

    def _call_without(self, frame: FrameType, name: str, value: Any) -> bool:
        """Exchange the functions of a frame for ones whose argument has another value."""
        code = frame.f_code
        position = dict(zip(code.co_varnames[: code.co_argcount], range(99), strict=False)).get(
            name
        )

        def called(original: Any, *args: Any, **kwargs: Any) -> Any:
            if position is not None and position < len(args):
                return original(*args[:position], value, *args[position + 1 :], **kwargs)
            return original(*args, **{**kwargs, name: value})

        functions = [
            one
            for one in gc.get_referrers(code)
            if isinstance(one, FunctionType) and one.__code__ is code
        ]
        for function in functions:
            swap(self._undo, function, called)
        return bool(functions)

    def listed(self) -> str:
        """The names, without the addresses before them."""
        return ", ".join(printable(name.rpartition("/")[2] or name, 60) for name in self.names)


_active: list[Refused] = []


def notes() -> tuple[str, ...]:
    """Sentences for the report on weights that are not there."""
    return _active[-1].notes() if _active else ()


def leave_out(error: BaseException) -> bool:
    """Return True if code has failed for want of weights, and is to be run again without them."""
    return bool(_active) and _active[-1].leave_out(error)


def advice(error: BaseException) -> str:
    """What to do where a constructor has failed; "" where it fails for another cause."""
    return _active[-1].advice() if _active and _REASON not in said(error) else ""


def cause(error: BaseException) -> BaseException:
    """What a constructor failed with at first, before it was called without weights."""
    return (_active[-1].error if _active else None) or error


def _frames(error: BaseException) -> list[FrameType]:
    """The frames of a traceback that are not ours, the outermost first."""
    frames, at = [], error.__traceback__
    while at is not None:
        if not at.tb_frame.f_code.co_filename.startswith(PACKAGE):
            frames.append(at.tb_frame)
        at = at.tb_next
    return frames


def _asking(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """Arguments of a function that ask for weights, and what they are without: False, None."""
    given = inspect.getargvalues(frame)
    code, held = frame.f_code, given.locals
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    arguments = {name: held[name] for name in named if name in held}
    more = held.get(given.keywords) if given.keywords else None
    if isinstance(more, dict):
        arguments |= more
    for name, value in arguments.items():
        if _ASKS.search(name) and (value is True or (isinstance(value, str) and value)):
            yield name, False if value is True else None


def _called(frame: FrameType) -> str:
    """The name of a function; of a constructor that of its class."""
    code = frame.f_code
    if code.co_name == "__init__" and code.co_varnames:
        return type(frame.f_locals.get(code.co_varnames[0])).__name__
    return code.co_name


@contextmanager
def refusing() -> Iterator[Refused]:
    """Fetch nothing in this thread; a second time is the first one's."""
    if _active:
        yield _active[-1]
        return
    with ExitStack() as undo:
        state = Refused(undo)
        _leave_no_folder(undo, state)
        _refuse_network(undo, state)
        _refuse_weights(undo, state)
        _refuse_libraries(undo, state)
        _active.append(state)
        undo.callback(_active.pop)
        yield state


# ------------------------------------------------------------------------------- the network


def _leave_no_folder(undo: ExitStack, state: Refused) -> None:
    """Take away folders that were made for what was not fetched then, and are empty."""
    made: list[str] = []

    def mkdir(original: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        original(path, *args, **kwargs)
        if isinstance(path, (str, os.PathLike)):
            made.append(str(Path(path).absolute()))

    def take_away() -> None:
        for path in reversed(made if state.names or state.hosts else ()):
            with suppress(OSError):  # there is something in it
                Path(path).rmdir()

    undo.callback(take_away)
    swap_name(undo, os, "mkdir", mkdir)


def _refuse_network(undo: ExitStack, state: Refused) -> None:
    """Connect to nothing but what is on this machine."""

    def connect(original: Any, self: Any, address: Any) -> Any:
        if self.family in _NETS:
            state.hosts[printable(str(address[0]), 60)] = None
            raise ConnectionRefusedError(f"{_REASON} ({address[0]})")
        return original(self, address)

    def looked_up(_: Any, host: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        state.hosts[printable(str(host), 60)] = None
        raise socket.gaierror(socket.EAI_NONAME, f"{_REASON} ({host})")

    def started(original: Any, self: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        _check_program(args, state)
        original(self, args, *rest, **kwargs)

    def system(original: Any, command: Any) -> Any:
        _check_program(command, state)
        return original(command)

    swap_name(undo, os, "system", system)
    for name in ("connect", "connect_ex"):
        _define(undo, socket.socket, name, connect)
    swap(undo, socket.getaddrinfo, looked_up)
    swap(undo, subprocess.Popen.__init__, started)


def _define(undo: ExitStack, kind: Any, name: str, stand_in: Callable[..., Any]) -> None:
    """Give a class a method that it inherits from one made in C."""
    inherited = getattr(kind, name)
    setattr(kind, name, lambda self, *args: stand_in(inherited, self, *args))
    undo.callback(delattr, kind, name)


def _check_program(command: Any, state: Refused) -> None:
    """Refuse a program that fetches something.

    Raises:
        FileNotFoundError: it does.
    """
    words = command.split() if isinstance(command, str) else command
    first = str(words[0]) if isinstance(words, (list, tuple)) and words else str(words or "")
    name = Path(first).name
    fetches = name in _PROGRAMS and shutil.which(first) is not None
    if name == "git":
        fetches = bool({"clone", "fetch", "pull"} & set(map(str, words)))
    if fetches:
        state.hosts[name] = None
        raise FileNotFoundError(f"{name}: {_REASON}")


# ------------------------------------------------------------------------------- torch's own


def _refuse_weights(undo: ExitStack, state: Refused) -> None:
    """Have torch fetch no weights, and load those that are not there."""
    from torch import hub, nn

    stand_ins = _OfTorch(state)
    swap(undo, hub.load_state_dict_from_url, stand_ins.from_url)
    swap(undo, hub.download_url_to_file, stand_ins.to_file)
    swap(undo, vars(hub)["_get_cache_or_reload"], _repository)
    swap(undo, urllib.request.urlretrieve, stand_ins.retrieved)
    swap(undo, torch.load, stand_ins.load)
    swap(undo, nn.Module.load_state_dict, stand_ins.load_into)


class _OfTorch:
    """Stand-ins for functions of torch and of the standard library."""

    def __init__(self, state: Refused) -> None:
        self._state = state

    def from_url(
        self, original: Any, url: str, model_dir: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`torch.hub.load_state_dict_from_url`: a file that was fetched before is read."""
        folder = Path(model_dir) if model_dir else Path(torch.hub.get_dir(), "checkpoints")
        file = kwargs.get("file_name") or Path(urlparse(url).path).name
        if (folder / file).exists():
            return original(url, model_dir, *args, **kwargs)
        return self._state.weights(url)

    def to_file(self, _: Any, url: str, dst: Any, *args: Any, **kwargs: Any) -> None:
        """`torch.hub.download_url_to_file`."""
        del args, kwargs
        self._state.weights(url, os.fspath(dst))

    def retrieved(self, _: Any, url: str, filename: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`urllib.request.urlretrieve`."""
        del args, kwargs
        file = os.fspath(filename or Path(urlparse(url).path).name)
        self._state.weights(url, file)
        return file, None

    def load(
        self, original: Any, f: Any, map_location: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """`torch.load`, to the CPU."""
        if isinstance(f, (str, os.PathLike)) and not Path(f).exists():
            return self._state.weights(os.fspath(f))
        return original(f, _on_cpu(map_location), *args, **kwargs)

    def load_into(
        self, original: Any, module: Any, state_dict: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """`Module.load_state_dict`: what is not there may be missing."""
        if not self._state.names:
            return original(module, state_dict, *args, **kwargs)
        if isinstance(state_dict, Mapping) and not state_dict:
            return _IncompatibleKeys([], [])
        return original(module, state_dict, strict=False, assign=kwargs.get("assign", False))


def _on_cpu(map_location: Any) -> Any:
    """Where to load to, without a GPU."""
    from cnnscope.tracing.devices import away

    elsewhere = isinstance(map_location, (str, torch.device)) and away(map_location)
    return "cpu" if map_location is None or elsewhere else map_location


def _repository(_: Any, github: str, *args: Any, **kwargs: Any) -> str:
    """The folder of a repository that torch.hub has fetched before.

    Raises:
        FileNotFoundError: it has not.
    """
    del args, kwargs
    name, _, ref = github.partition(":")
    prefix = name.replace("/", "_")
    for branch in (ref,) if ref else ("main", "master"):
        folder = Path(torch.hub.get_dir(), f"{prefix}_{branch.replace('/', '_')}")
        if folder.is_dir():
            return str(folder)
    raise FileNotFoundError(
        f"the torch.hub repository {github} is not on this machine, and {_REASON}: call "
        f"torch.hub.load({github!r}, ...) in Python once, or name the file that defines the model"
    )


# ------------------------------------------------------------------------------- libraries


def _refuse_libraries(undo: ExitStack, state: Refused) -> None:
    """The same for libraries, also for those that are imported meanwhile."""
    stand_ins = _OfLibraries(state)
    wanted: dict[str, tuple[str, Callable[..., Any]]] = {
        "huggingface_hub.file_download": ("hf_hub_download", stand_ins.of_hub),
        "huggingface_hub._snapshot_download": ("snapshot_download", stand_ins.snapshot),
        "safetensors.torch": ("load_file", stand_ins.load_file),
        "timm.models._builder": ("load_pretrained", stand_ins.of_timm),
        "gdown.download": ("download", stand_ins.of_drive),
    }

    def changed(module: Any) -> None:
        name, stand_in = wanted[module.__name__]
        function: Any = getattr(module, name, None)
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if function is not None:
            swap(undo, function, stand_in)

    for name in wanted.keys() & sys.modules.keys():
        changed(sys.modules[name])
    finder = _Later(changed, frozenset(wanted))
    sys.meta_path.insert(0, finder)
    undo.callback(_forget, finder)


def _forget(finder: Any) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


class _OfLibraries:
    """Stand-ins for functions of packages that fetch weights."""

    def __init__(self, state: Refused) -> None:
        self._state = state

    def of_hub(self, original: Any, repo_id: str, filename: str, *args: Any, **kwargs: Any) -> str:
        """`hf_hub_download`: what was fetched before, else a path at which nothing is."""
        try:
            found: str = original(repo_id, filename, *args, **kwargs | {"local_files_only": True})
        except Exception as error:
            if Path(filename).suffix not in _WEIGHTS:
                raise _not_here(f"{repo_id}/{filename}") from error
        else:
            return found
        place = f"not-downloaded/{repo_id}/{filename}"
        self._state.weights(repo_id, place)
        return place

    def snapshot(self, original: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """`snapshot_download`: what was fetched before."""
        try:
            return original(repo_id, *args, **kwargs | {"local_files_only": True})
        except Exception as error:
            raise _not_here(repo_id) from error

    def load_file(
        self, original: Any, filename: Any, device: Any = "cpu", *args: Any, **kwargs: Any
    ) -> Any:
        """`safetensors.torch.load_file`."""
        if not Path(filename).exists():
            return self._state.weights(os.fspath(filename))
        return original(filename, _on_cpu(device), *args, **kwargs)

    def of_timm(
        self, _: Any, model: Any, pretrained_cfg: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """`load_pretrained` of timm, which adapts weights to other channels and classes."""
        del args, kwargs
        given = pretrained_cfg or getattr(model, "pretrained_cfg", None) or {}
        given = given if isinstance(given, Mapping) else vars(given)
        names = (given.get("architecture"), given.get("tag"))
        self._state.weights("timm " + ".".join(filter(None, names)))

    def of_drive(self, _: Any, url: Any = None, output: Any = None, **kwargs: Any) -> Any:
        """`gdown.download`."""
        self._state.weights(str(url or kwargs.get("id")), os.fspath(output or ""))
        return output


def _not_here(what: str) -> FileNotFoundError:
    return FileNotFoundError(f"{what} is not on this machine, and {_REASON}")


class _Later:
    """Changes modules when they have been imported."""

    def __init__(self, change: Callable[[Any], None], names: frozenset[str]) -> None:
        self._change, self._names = change, names
        self._looking = False

    def find_spec(self, name: str, *_: Any) -> Any:
        """Where the others find a module, with a loader that changes it afterwards."""
        if name not in self._names or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._change)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads as another loader does."""

    def __init__(self, loader: Any, change: Callable[[Any], None]) -> None:
        self._loader, self._change = loader, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: Any) -> None:
        """Execute it, and change what it has."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._change(module)
