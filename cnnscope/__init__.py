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

    from cnnscope.api import CnnscopeError as CnnscopeError
    from cnnscope.api import Document as Document
    from cnnscope.api import Figure as Figure
    from cnnscope.api import ModelError as ModelError
    from cnnscope.api import Report as Report
    from cnnscope.api import Request as Request
    from cnnscope.api import RequestError as RequestError
    from cnnscope.api import Trace as Trace
    from cnnscope.api import bench as bench
    from cnnscope.api import check as check
    from cnnscope.api import check_all as check_all
    from cnnscope.api import checkpoint as checkpoint
    from cnnscope.api import diff as diff
    from cnnscope.api import effective as effective
    from cnnscope.api import explain as explain
    from cnnscope.api import figure as figure
    from cnnscope.api import fit as fit
    from cnnscope.api import list_models as list_models
    from cnnscope.api import memory as memory
    from cnnscope.api import report as report
    from cnnscope.api import rf as rf
    from cnnscope.api import stack as stack
    from cnnscope.api import stages as stages
    from cnnscope.api import summary as summary
    from cnnscope.api import sweep as sweep
    from cnnscope.api import trace as trace
    from cnnscope.api import verify_rf as verify_rf

__version__ = "0.2.0"
__all__ = [
    "CnnscopeError",
    "Document",
    "Figure",
    "ModelError",
    "Report",
    "Request",
    "RequestError",
    "Trace",
    "__version__",
    "bench",
    "check",
    "check_all",
    "checkpoint",
    "diff",
    "effective",
    "explain",
    "figure",
    "fit",
    "list_models",
    "memory",
    "report",
    "rf",
    "stack",
    "stages",
    "summary",
    "sweep",
    "trace",
    "verify_rf",
]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): `import cnnscope` alone costs nothing."""
    if name in __all__:
        from cnnscope import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
