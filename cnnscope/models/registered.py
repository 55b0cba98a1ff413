"""The names of a library's models, read in its files: to import it takes seconds.

For suggestions, for which library a bare name is looked for in, and for the other spellings of a
name. What is not where torchvision and timm write it is not found.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from cnnscope.files import exists, names_file, read_regular
from cnnscope.models.names import ModelSpec

# Names with capitals or separators: how papers and people write them.
_OTHERWISE = re.compile(r"[A-Z -]|_[^_]*$")
_WORDS = re.compile(r"[A-Za-z][\w -]*", re.ASCII)
_SEPARATORS = re.compile(r"[-_ ]")
Known = Callable[[str], Collection[str]]  # the names of a library's models
_LARGEST = 16 * 2**20  # bytes of a file that is looked into

# Sources that a name of timm's on the Hugging Face Hub may be written with, as in `timm/resnet50`.
_HUBS = ("", "timm", "hf", "hf-hub", "hf_hub", "timm:hf-hub", "timm:hf_hub")
_MODULES = {"torchvision.models.": "torchvision", "timm.models.": "timm", "timm.": "timm"}

# `@register_model()` or `@register_model(name="...")`, as a line of its own somewhere above a def.
_BUILDER = re.compile(
    r"""^@register_model(?:\((?:name=["'](\w+)["'])?\))?$.*?^def (\w+)""", re.MULTILINE | re.DOTALL
)
# A line of timm's tables of weights: `    'resnet50.a1_in1k': _cfg(`.
_TAGGED = r"""^ {4}['"]([A-Za-z]\w*\.[\w.]+)['"]:"""
_TASKS = "auto/modeling_auto.py"  # the file of transformers that maps kinds of models to classes
_CLASS = r"""["']((?!Auto)[A-Z]\w*?(?:Model|For[A-Z]\w+))["']"""


def names(source: str) -> list[str]:
    """Names of a library's models, sorted; none where they cannot be read."""
    return list(_names(source))


@cache
def _names(source: str) -> tuple[str, ...]:
    if source == "classic":
        from cnnscope.models.sources import classic

        return tuple(sorted(classic.names()))
    found = (one for text in _texts(source) for one in _BUILDER.findall(text))
    return tuple(sorted({name or function for name, function in found}))


def tags() -> list[str]:
    """Models of timm with the tag of published weights, as in `resnet50.a1_in1k`, sorted."""
    found = {one for text in _texts("timm") for one in re.findall(_TAGGED, text, re.MULTILINE)}
    known = set(names("timm"))
    return sorted(one for one in found if one.partition(".")[0] in known)


def of_hub() -> list[str]:
    """Classes of transformers that `hf:` takes, as far as its table of tasks has them; sorted."""
    found = (re.findall(_CLASS, text) for text in _texts("transformers", _TASKS))
    return sorted(set().union(*found))


def canonical(spec: ModelSpec, known: Known = names) -> ModelSpec:
    """A library's model by its source and name, however it is spelled; any other as it is.

    `torchvision.models.resnet18`, `torchvision.models:resnet18`, `timm/resnet50.a1_in1k`,
    `hf-hub:timm/resnet50.a1_in1k`, and `ResNet18` or `resnet-18`, where nothing else is called so.

    Args:
        spec: as it was parsed.
        known: gives the names of a library's models; left out, those in its files.
    """
    if spec.source in _HUBS and spec.name.startswith("timm/") and not names_file(spec.name):
        return replace(spec, source="timm", name=spec.name.removeprefix("timm/"))
    path = f"{spec.place}.{spec.name}" if spec.source == "import" else spec.name
    if spec.source not in ("", "import"):
        return replace(spec, name=_as_listed((spec.source,), spec.name, known) or spec.name)
    for module, source in _MODULES.items():
        name = path.rpartition(".")[2]
        if path.startswith(module) and ".quantization." not in path and name in known(source):
            return replace(spec, source=source, name=name, place="")
    listed = "" if spec.source else as_listed(spec.name, known)
    return replace(spec, name=listed) if listed else spec


def as_listed(name: str, known: Known = names) -> str:
    """The name of a library's model that is written otherwise: `ResNet18`, `resnet-18`.

    "" of what is written as it is listed, of any other name, and of what may be the user's own.
    """
    if not _OTHERWISE.search(name) or exists(name) or exists(f"{name}.py"):
        return ""
    return _as_listed(("torchvision", "classic"), name, known)


def _as_listed(sources: Collection[str], name: str, known: Known) -> str:
    if not _OTHERWISE.search(name) or not _WORDS.fullmatch(name):
        return ""
    plain = _SEPARATORS.sub("", name).lower()
    for source in sources:
        there = known(source) if source in ("torchvision", "classic", "timm") else ()
        found = [one for one in there if one.replace("_", "") == plain]
        if found and name not in there:
            return found[0]
    return ""


def offers(known: Collection[str], source: str, name: str) -> bool:
    """Return True if a library has a model of a name; timm's may have a tag behind a dot.

    Args:
        known: names of its models.
        source: the library.
        name: of the model.
    """
    return name in known or (source == "timm" and name.partition(".")[0] in known)


def _texts(library: str, pattern: str = "**/*.py") -> list[str]:
    """The files in which a library has its models; none where they cannot be read."""
    try:
        package = importlib.util.find_spec(library)
        if package is None or package.origin is None:
            return []
        files = Path(package.origin).parent.joinpath("models").glob(pattern)
        return [read_regular(file, _LARGEST).decode() for file in files]
    except (OSError, ValueError):
        return []
