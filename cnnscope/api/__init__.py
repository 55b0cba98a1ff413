"""The Python interface: everything that the command line does, as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnscope.api import verdicts as verdicts
from cnnscope.api.commands import bench as bench
from cnnscope.api.commands import check as check
from cnnscope.api.commands import check_all as check_all
from cnnscope.api.commands import checkpoint as checkpoint
from cnnscope.api.commands import diff as diff
from cnnscope.api.commands import effective as effective
from cnnscope.api.commands import explain as explain
from cnnscope.api.commands import figure as figure
from cnnscope.api.commands import fit as fit
from cnnscope.api.commands import list_models as list_models
from cnnscope.api.commands import memory as memory
from cnnscope.api.commands import report as report
from cnnscope.api.commands import rf as rf
from cnnscope.api.commands import stack as stack
from cnnscope.api.commands import stages as stages
from cnnscope.api.commands import summary as summary
from cnnscope.api.commands import sweep as sweep
from cnnscope.api.commands import verify_rf as verify_rf
from cnnscope.api.reports import Report as Report
from cnnscope.api.reports import View as View
from cnnscope.api.traces import Trace as Trace
from cnnscope.api.traces import trace as trace
from cnnscope.errors import CnnscopeError as CnnscopeError
from cnnscope.errors import ModelError as ModelError
from cnnscope.errors import RequestError as RequestError
from cnnscope.models.request import Request as Request

if TYPE_CHECKING:
    from cnnscope.api.document import Document as Document
    from cnnscope.api.picture import Figure as Figure


def __getattr__(name: str) -> type:
    """Import on first use what two commands alone return (PEP 562)."""
    if name == "Document":
        from cnnscope.api.document import Document

        return Document
    if name == "Figure":
        from cnnscope.api.picture import Figure

        return Figure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
