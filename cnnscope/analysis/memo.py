"""Keep what was computed of a trace for as long as the trace lives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

from cnnscope.records.trace import Trace

T = TypeVar("T")


def per_trace(function: Callable[[Trace], T]) -> Callable[[Trace], T]:
    """Let a pure function of a trace compute once for each trace."""

    @functools.wraps(function)
    def known(trace: Trace) -> T:
        memo = trace.index.memo
        if function not in memo:
            memo[function] = function(trace)
        return cast("T", memo[function])

    return known
