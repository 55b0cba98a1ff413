"""Operators that nothing here knows: they are recorded by their names, with what the file says.

Each becomes an operation of torch's, so that whatever follows a run sees it, under a name that no
table has: what it costs and what it sees are unknown, and every report says so.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnscope.errors import RequestError
from cnnscope.models.files.onnx.graph import Input, OnnxNode
from cnnscope.models.files.onnx.values import DTYPES, Value, count, dtype_of, tensor_of
from cnnscope.models.files.permitted import META
from cnnscope.text import printable

_LEARNING = "ai.onnx.ml"
MOST = 64  # different ones in a process: torch keeps each for ever
_NUMBERS = {dtype: number for number, dtype in reversed(DTYPES.items())}


def run(node: OnnxNode, inputs: Sequence[Value], shapes: Mapping[str, Input]) -> Any:
    """Record a node that is not known; its results have the sizes that the file gives them.

    Raises:
        RequestError: the file does not give them, or it is no operator of a network.
    """
    if node.domain == _LEARNING:
        raise RequestError(
            f"{node}: operators of {_LEARNING} (trees, scalers, linear models of classical machine "
            "learning) are no layers of a network, and are not read: refused"
        )
    sizes: list[list[int]] = []
    dtypes: list[torch.dtype] = []
    for name in filter(None, node.outputs):
        said = shapes.get(name)
        shape = None if said is None else said.shape
        if said is None or shape is None or not all(isinstance(n, int) for n in shape):
            raise RequestError(
                f"{node}: {printable(node.kind, 60)} is no operator that is known here, and the "
                "file does not say what sizes its results have: export it with shapes "
                "(onnx.shape_inference.infer_shapes), or name the code"
            )
        count([int(n) for n in shape])
        sizes.append([int(n) for n in shape])
        dtypes.append(dtype_of(said.data_type))
    made = iter(recorded(node.kind, inputs, sizes, dtypes))
    return tuple(next(made) if name else None for name in node.outputs)


def recorded(
    kind: str,
    inputs: Sequence[Value],
    sizes: Sequence[Sequence[int]],
    dtypes: Sequence[torch.dtype],
) -> list[Tensor]:
    """Results of an operator that is recorded by its name alone."""
    tensors = [tensor_of(value) for value in inputs if value is not None]
    ranks, flat = [len(one) for one in sizes], [n for one in sizes for n in one]
    made: list[Tensor] = _operation(kind)(
        tensors, ranks, flat, [_NUMBERS[dtype] for dtype in dtypes]
    )
    return made


@functools.cache
def _library(namespace: str) -> Any:
    return torch.library.Library(namespace, "FRAGMENT")


@functools.cache
def _operation(kind: str) -> Any:
    """An operation of torch's by the name of an operator.

    Raises:
        RequestError: there were too many of them.
    """
    if _operation.cache_info().currsize >= MOST:
        raise RequestError(f"more than {MOST} different operators that are not known: refused")
    domain, _, op = kind.rpartition(".")
    namespace = "onnx_" + _word(domain) if domain else "onnx"
    name, library = _word(op), _library(namespace)
    library.define(f"{name}(Tensor[] inputs, int[] ranks, int[] sizes, int[] types) -> Tensor[]")
    library.impl(name, _made, "CompositeExplicitAutograd")
    return getattr(getattr(torch.ops, namespace), name).default


def _word(text: str) -> str:
    return re.sub(r"\W", "_", text, flags=re.ASCII)[:60] or "_"


def _made(
    inputs: list[Tensor], ranks: list[int], sizes: list[int], types: list[int]
) -> list[Tensor]:
    """Results of the sizes that were said."""
    del inputs
    made, at = [], 0
    for rank, number in zip(ranks, types, strict=True):
        shape = sizes[at : at + rank]
        made.append(torch.empty(shape, dtype=DTYPES[number], device=META))
        at += rank
    return made
