"""The modules that a node ran in, as an exporter wrote them down.

PyTorch's exporter keeps the names and classes of the modules in the metadata of each node. Its
older exporter, and many others, write a path into a node's name: `/layer1/layer1.0/conv1/Conv` is
the convolution of `layer1.0.conv1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cnnscope.models.files.rebuilt import CLASS, MAX_DEPTH

Scope = tuple[tuple[str, str, str], ...]  # (key of the call, path, class), outermost first

_NAMES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
_LONGEST = 120  # characters of a name
_NOT_NAMED = re.compile(r"[^\w\-:@]+")


def of_metadata(metadata: Mapping[str, str]) -> Scope | None:
    """The modules that the metadata of a node name, None where it has none."""
    if _NAMES not in metadata:
        return None
    paths = _QUOTED.findall(metadata[_NAMES])[:-1]
    classes = _QUOTED.findall(metadata.get(_CLASSES, ""))[: len(paths)]
    classes += [""] * (len(paths) - len(classes))
    found: list[tuple[str, str, str]] = []
    for path, kind in zip(paths, classes, strict=True):
        plain = path.partition("@")[0]
        if not plain:
            continue
        if not is_path(plain):
            break
        if not found or plain != found[-1][1]:
            found.append((plain, plain, class_name(kind)))
    return tuple(found)


def root_class(metadata: Mapping[str, str]) -> str:
    """The class of the whole model, "" where it is not known."""
    paths = _QUOTED.findall(metadata.get(_NAMES, ""))
    classes = _QUOTED.findall(metadata.get(_CLASSES, ""))
    return class_name(classes[0]) if paths[:1] == [""] and classes else ""


def class_name(text: str) -> str:
    """The name of a class, "" for what is none."""
    return text if CLASS.fullmatch(text) and "." in text else ""


def of_name(name: str) -> tuple[str, ...]:
    """The modules in a node's name, each by its name in the one around it; () where it has none.

    `/layer1/layer1.0/conv1/Conv` ran in ("layer1", "0", "conv1"). A list of modules is not called
    itself: `/block/convs.0/Conv` ran in ("block", "convs.0").
    """
    *scopes, _ = name.removeprefix("/").split("/")
    path: list[str] = []
    before = ""
    for scope in scopes:
        inner = scope.removeprefix(before + ".") if before else scope
        path += filter(None, [".".join(plain(part) for part in inner.split(".") if part)])
        before = scope
    return tuple(path) if ".".join(path).count(".") < MAX_DEPTH - 1 else ()


def plain(name: str) -> str:
    """A name as one part of a path."""
    return _NOT_NAMED.sub("_", name)[:_LONGEST].strip("_") or "_"


def is_path(text: str) -> bool:
    """Return True for the dotted path of a module or parameter, as PyTorch has them."""
    parts = text.split(".")
    return len(parts) < MAX_DEPTH and all(re.fullmatch(r"\w{1,120}", part) for part in parts)


def scope_of(path: Sequence[str]) -> Scope:
    """A scope of a path whose classes are not known."""
    paths = (".".join(path[: end + 1]) for end in range(len(path)))
    return tuple((one, one, "") for one in paths)
