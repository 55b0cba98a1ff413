"""cnnscope: the truth about a convolutional network before you train it.

>>> import cnnscope
>>> report = cnnscope.summary("resnet18")
>>> report.totals.params
11689512
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes longer than all that is done here
if TYPE_CHECKING:
    from typing import Any

    from cnnscope.api import summary as summary
    from cnnscope.api import trace as trace

__version__ = "0.2.0"
__all__ = ["__version__", "summary", "trace"]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): `import cnnscope` alone costs nothing."""
    if name in ("summary", "trace"):
        from cnnscope import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
