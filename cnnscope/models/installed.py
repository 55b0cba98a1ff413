"""Versions of packages without an import, and messages for imports that fail."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from functools import cache
from types import ModuleType

from cnnscope.errors import RequestError
from cnnscope.files import PACKAGE
from cnnscope.text import printable, said

# Packages that are imported here by name, and the distributions to install again: torch and
# torchvision are built for each other.
_DISTRIBUTIONS = {
    "torch": ("torch", "torchvision"),
    "torchvision": ("torch", "torchvision"),
    "PIL": ("pillow",),
    "huggingface_hub": ("huggingface-hub",),
    "yaml": ("pyyaml",),
    **{
        name: (name,)
        for name in (
            "fvcore",
            "msgspec",
            "numpy",
            "platformdirs",
            "rich",
            "timm",
            "torchinfo",
            "transformers",
            "typer",
        )
    },
}
_EXTRAS = {
    "timm": "'cnnscope[timm]'",
    "transformers": "'cnnscope[hf]'",
    "huggingface_hub": "'cnnscope[hf]'",
}
_FLOOR = r"([A-Za-z]\w*)\s*>=\s*(\d+)\.(\d+)"


@cache
def version(package: str) -> str | None:
    """The version of an installed package, without importing it; None where there is none.

    Read from the name of its metadata's folder, and from the metadata where that does not tell.
    """
    name = package.replace("-", "_")
    found: list[str] = []
    for folder in sys.path:
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            found += [
                entry.name[len(name) + 1 : -len(".dist-info")]
                for entry in entries
                if entry.name.startswith(f"{name}-") and entry.name.endswith(".dist-info")
            ]
    if len(found) == 1:
        return found[0]
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def refuse_old() -> None:
    """Refuse libraries that are older than this program was made for.

    Raises:
        RequestError: torch or torchvision is; it says what to install.
    """
    for package in ("torch", "torchvision"):
        least = _floors().get(package)
        found = re.match(r"(\d+)\.(\d+)", version(package) or "")
        if least and found and (int(found[1]), int(found[2])) < least:
            raise RequestError(
                f"{package} {version(package)} is too old, cnnscope needs {least[0]}.{least[1]} or "
                f"later: pip install --upgrade {' '.join(_DISTRIBUTIONS[package])}"
            )


def broken(error: BaseException) -> str:
    """Diagnose an installation in which an import failed, with the command that repairs it.

    Returns:
        A sentence; "" where the exception was not raised by the import of a package that this
        program depends on.
    """
    package = _failed_import(error)
    if not package:
        return ""
    names = " ".join(_DISTRIBUTIONS[package])
    release = version(package if package == "torch" else _DISTRIBUTIONS[package][-1])
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        more = " --force-reinstall (something of it is left)" if release else ""
        return f"{package} is not installed: pip install {_EXTRAS.get(package, names)}{more}"
    named = f"{package} {printable(release)}" if release else package
    return (
        f"{named} cannot be imported, its installation is broken: {said(error)}; to repair it: "
        f"pip install --force-reinstall {names}"
    )


def _failed_import(error: BaseException) -> str:
    """The package of ours whose import an exception came from, or ""."""
    if isinstance(error, ImportError):
        named = (error.name or "").partition(".")[0]
        if named in _DISTRIBUTIONS:
            return named
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        # A folder of which the rest is gone is imported as a package without a file.
        named = error.obj.__name__.partition(".")[0]
        if named in _DISTRIBUTIONS and getattr(sys.modules.get(named), "__file__", None) is None:
            return named
    return _importing(error)


def _importing(error: BaseException) -> str:
    """The package of ours whose module was being executed, by no other code of ours."""
    package = ""
    at = error.__traceback__
    while at is not None:
        frame = at.tb_frame
        if frame.f_code.co_filename.startswith(PACKAGE):
            package = ""
        elif frame.f_code.co_name == "<module>":
            named = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            package = named if named in _DISTRIBUTIONS else package
        at = at.tb_next
    return package


@cache
def _floors() -> dict[str, tuple[int, int]]:
    """The oldest major and minor version of what this program requires, as its metadata say."""
    from importlib import metadata

    try:
        required = metadata.requires("cnnscope") or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.match(_FLOOR, one) for one in required)
    return {one[1]: (int(one[2]), int(one[3])) for one in found if one}
