"""The names of a library's models, read in its files: to import it takes seconds.

For suggestions, and for which library a bare name is looked for in. What is not where torchvision
and timm write it is not found.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from cnnscope.files import read_regular

_LARGEST = 16 * 2**20  # bytes of a file that is looked into

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


def _text(file: Path) -> str:
    return read_regular(file, _LARGEST).decode()
