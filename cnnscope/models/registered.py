"""The names of a library's models, read in its files: to import it takes seconds.

For suggestions, for which library a bare name is looked for in, and for the other spellings of a
name. What is not where torchvision and timm write it is not found.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from cnnscope.files import names_file, read_regular
from cnnscope.models.names import ModelSpec

_LARGEST = 16 * 2**20  # bytes of a file that is looked into

# Sources that a name of timm's on the Hugging Face Hub may be written with, as in `timm/resnet50`.
_HUBS = ("", "timm", "hf", "hf-hub", "hf_hub", "timm:hf-hub", "timm:hf_hub")
_MODULES = {"torchvision.models.": "torchvision", "timm.models.": "timm", "timm.": "timm"}

# `@register_model()` or `@register_model(name="...")`, as a line of its own somewhere above a def.
_BUILDER = re.compile(
    r"""^@register_model(?:\((?:name=["'](\w+)["'])?\))?$.*?^def (\w+)""", re.MULTILINE | re.DOTALL
)


def names(source: str) -> list[str]:
    """Names of a library's models, sorted; none where they cannot be read."""
    if source == "classic":
        from cnnscope.models.sources import classic

        return sorted(classic.names())
    try:
        package = importlib.util.find_spec(source)
        if package is None or package.origin is None:
            return []
        files = Path(package.origin).parent.joinpath("models").rglob("*.py")
        found = [one for file in files for one in _BUILDER.findall(_text(file))]
    except (OSError, ValueError):
        return []
    return sorted({name or function for name, function in found})


def canonical(spec: ModelSpec) -> ModelSpec:
    """A library's model by its source and name, however it is spelled; any other as it is.

    `torchvision.models.resnet18`, `torchvision.models:resnet18`, `timm/resnet50.a1_in1k` and
    `hf-hub:timm/resnet50.a1_in1k`.
    """
    if spec.source in _HUBS and spec.name.startswith("timm/") and not names_file(spec.name):
        return replace(spec, source="timm", name=spec.name.removeprefix("timm/"))
    path = f"{spec.place}.{spec.name}" if spec.source == "import" else spec.name
    if spec.source not in ("", "import"):
        return spec
    for module, source in _MODULES.items():
        name = path.rpartition(".")[2]
        if path.startswith(module) and ".quantization." not in path and name in names(source):
            return replace(spec, source=source, name=name, place="")
    return spec


def offers(known: Collection[str], source: str, name: str) -> bool:
    """Return True if a library has a model of a name; timm's may have a tag behind a dot.

    Args:
        known: names of its models.
        source: the library.
        name: of the model.
    """
    return name in known or (source == "timm" and name.partition(".")[0] in known)


def _text(file: Path) -> str:
    return read_regular(file, _LARGEST).decode()
