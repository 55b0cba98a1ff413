"""Tables of operators, by their names: what they are on tensors, and on arrays that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Operator = Callable[..., Any]  # of a node and its inputs
F = TypeVar("F", bound=Operator)

OPERATORS: dict[str, Operator] = {}  # on tensors
FOLDS: dict[str, Operator] = {}  # on arrays


def operator(names: str) -> Callable[[F], F]:
    """Register what operators compute.

    Args:
        names: of operators, each with its domain where that is not ONNX's own.
    """

    def register(function: F) -> F:
        for name in names.split():
            assert name not in OPERATORS, name  # noqa: S101
            OPERATORS[name] = function
        return function

    return register


def folded(names: str) -> Callable[[F], F]:
    """Register how operators are computed on arrays of few elements."""

    def register(function: F) -> F:
        for name in names.split():
            FOLDS[name] = function
        return function

    return register
