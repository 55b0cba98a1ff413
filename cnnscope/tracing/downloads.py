"""Weights that are not there: nothing is downloaded, and a network is built without them.

A network's structure needs no weights. What fetches them does nothing while a model is built and
run, and the reading of a file that is therefore not there gives `AbsentWeights`, which load into
any module. A file that is there is read as ever. No socket is connected to a network.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlparse

import torch
from torch.nn.modules.module import _IncompatibleKeys

from cnnscope.text import printable
from cnnscope.tracing.swaps import swap, swap_name

_NETS = (socket.AF_INET, socket.AF_INET6)
_PROGRAMS = frozenset(("wget", "curl", "aria2c", "gdown", "git", "pip", "huggingface-cli", "hf"))
_WEIGHTS = frozenset((".bin", ".safetensors", ".pt", ".pth", ".ckpt", ".npz", ".h5", ".msgpack"))
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
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._files: set[str] = set()  # that a download would have made

    def weights(self, name: str, file: str = "") -> AbsentWeights:
        """Note what weights are not there, and where they would be."""
        if name not in self._files:
            self.names[name] = None
        self._files.add(file)
        return AbsentWeights()

    def notes(self) -> tuple[str, ...]:
        """A sentence for the report."""
        if not self.names:
            return ()
        return (
            f"weights that its code loads are left out, which changes no shape: {self.listed()}; "
            "nothing is downloaded",
        )

    def advice(self) -> str:
        """What to do where a constructor fails without them."""
        return (
            f"it computes with weights that are not there ({self.listed()}), and nothing is "
            "downloaded: build it without them, perhaps by --arg pretrained=False"
        )

    def listed(self) -> str:
        """The names, without the addresses before them."""
        return ", ".join(printable(name.rpartition("/")[2] or name, 60) for name in self.names)


_active: list[Refused] = []


def refused() -> Refused | None:
    """What has not been fetched for the model that is built or run, None outside of all."""
    return _active[-1] if _active else None


def notes() -> tuple[str, ...]:
    """Sentences for the report on weights that are not there."""
    return _active[-1].notes() if _active else ()


@contextmanager
def refusing() -> Iterator[Refused]:
    """Fetch nothing in this thread; a second time is the first one's."""
    if _active:
        yield _active[-1]
        return
    state = Refused()
    with ExitStack() as undo:
        _refuse_network(undo)
        _refuse_weights(undo, state)
        _refuse_libraries(undo, state)
        _active.append(state)
        undo.callback(_active.pop)
        yield state


# ------------------------------------------------------------------------------- the network


def _refuse_network(undo: ExitStack) -> None:
    """Connect to nothing but what is on this machine."""

    def connect(original: Any, self: Any, address: Any) -> Any:
        if self.family in _NETS:
            raise ConnectionRefusedError(f"{_REASON} ({address[0]})")
        return original(self, address)

    def looked_up(_: Any, host: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        raise socket.gaierror(socket.EAI_NONAME, f"{_REASON} ({host})")

    def started(original: Any, self: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        _check_program(args)
        original(self, args, *rest, **kwargs)

    def system(original: Any, command: Any) -> Any:
        _check_program(command)
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


def _check_program(command: Any) -> None:
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
