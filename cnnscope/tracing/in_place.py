"""Writes and copies that kernels make otherwise where no dispatch mode watches.

Autograd, and some formulas of derivatives, write over memory that nothing else holds; where a mode
watches, they take new memory. What is recorded is corrected afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from cnnscope.records.trace import OpRecord
from cnnscope.tracing.kernels import Recording


class Node(NamedTuple):
    """What an operation of the backward pass is a part of.

    Attributes:
        name: of a node as autograd has it ("MaximumBackward0"), "" for none.
        call: that made the node, -1 for none.
        adds_up: True if its formula has ended, and what it returned is added to other gradients.
        alone: True if no other tensor lies in the memory of the operation's first operand.
    """

    name: str
    call: int
    adds_up: bool
    alone: bool


def write_in_place(seen: Recording, nodes: Mapping[int, Node]) -> None:
    """Let operations of a backward pass write where they do so if no mode watches.

    Autograd adds up the gradients of one tensor in place where nobody else holds the memory of the
    first (`can_accumulate_inplace` of PyTorch's `input_buffer.cpp`). Some formulas of derivatives
    do as well (`isTensorSubclassLike` in PyTorch's `FunctionsManual.cpp`).

    Args:
        seen: the recording, in which the backward pass is the last.
        nodes: what its operations are a part of, by their numbers.
    """
    if seen.watched:
        return
    last = _last_uses(seen)
    begin = min(nodes, default=len(seen.ops))
    makers: dict[int, str] = {}
    for index in range(begin, len(seen.ops)):
        operation = seen.ops[index]
        makers.update(dict.fromkeys(operation.outputs, _short(operation)))
        first = operation.inputs.get("self")
        if not isinstance(first, int) or index not in nodes:
            continue
        if not _writes(_short(operation), nodes[index], makers.get(first, "")):
            continue
        if last[seen.storage(first)] == index and seen.life(first)[1] >= begin:
            after = last[seen.storage(operation.outputs[0])]
            seen.put_in_place(index)
            last[seen.storage(operation.outputs[0])] = after


def correct_formulas(seen: Recording, nodes: Mapping[int, Node]) -> None:
    """Correct the lives of values that formulas of derivatives make only where a mode watches.

    The largest of all elements is compared with the input without a mask of numbers that are none;
    the derivative of a matrix's exponential fills its matrix of blocks in place; those of products
    of reflections fill gradients that are there from the beginning.
    """
    if seen.watched:
        return
    began = 0  # the formula that an operation is a part of
    for index, node in nodes.items():
        if index - 1 not in nodes or nodes[index - 1].name != node.name:
            began = index
        name, after = _short(seen.ops[index]), seen.ops[index + 1 : index + 2]
        if name == "cat" and node.name in _REFLECTIONS:
            seen.life(seen.ops[index].outputs[0])[1] = began
        masks = _OF_ALL.match(node.name) and name in ("isnan", "logical_and")
        blocks = node.name.startswith("LinalgMatrixExp") and name in ("cat", "zeros_like")
        if masks or (blocks and not (after and _short(after[0]) == "linalg_matrix_exp")):
            seen.life(seen.ops[index].outputs[0])[0] = 0


_REFLECTIONS = ("LinalgHouseholderProductBackward0", "OrmqrBackward0")


_OF_ALL = re.compile(r"(MaxBackward1|MinBackward1|(Nanm|M)edianBackward0)$")


def resolve_in_operations(seen: Recording) -> None:
    """Let copies of conjugates and negatives have no bytes that an operation makes for itself.

    Such tensors are views until an operation needs their numbers. Where a mode watches, the copy
    is an operation in front of that one; else it is the kernel's own workspace.
    """
    if seen.watched or not any(_short(operation) in _LAZY for operation in seen.ops):
        return
    last = _last_uses(seen)
    lazy: set[int] = set()
    copies: list[int] = []
    for index, operation in enumerate(seen.ops):
        name, first = _short(operation), operation.inputs.get("self")
        if name in _LAZY:
            lazy.symmetric_difference_update(() if first in lazy else operation.outputs)
        elif first in lazy and name == "clone":
            copies += operation.outputs
            continue
        elif first in lazy and seen.storage(first) == seen.storage(operation.outputs[0]):
            lazy.update(operation.outputs)
        for copy in copies:
            if last[seen.storage(copy)] == index and seen.life(copy)[2] >= 0:
                seen.life(copy)[0] = 0
        copies.clear()


_LAZY = ("_conj", "_neg_view")


def _last_uses(seen: Recording) -> dict[int, int]:
    """The last operation that reads or writes each storage."""
    return {seen.storage(t): n for n, op in enumerate(seen.ops) for t in (*op.tensors, *op.outputs)}


def _short(operation: OpRecord) -> str:
    """The name of an operation without the library and the overload."""
    return operation.name.split(".")[1]


# Operations that write into zeros, by what the formula has made these
_INTO_ZEROS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("index_put", "index_add", "scatter", "scatter_add"), ("new_zeros",)),
    "index_fill": ("zeros",),
    "put": ("zeros_like",),
    "masked_scatter": ("zeros_like",),
}


_FILLS = re.compile(r"(Maximum|Minimum|Fmax|Fmin|Clamp|ClampMin|ClampMax|Atan2)Backward\d*$")


def _writes(name: str, node: Node, maker: str) -> bool:
    """Return True if an operation writes over its first operand where no mode watches.

    Args:
        name: of the operation.
        node: that it is a part of.
        maker: the operation that made the operand.
    """
    if node.adds_up:
        return name == "add" and node.alone
    if name in _INTO_ZEROS:
        return maker in _INTO_ZEROS[name]
    if name == "masked_fill":
        return _FILLS.match(node.name) is not None
    loss = node.name.startswith("BinaryCrossEntropyWithLogits")
    return loss and (name == "sub" or (name == "mul" and maker != "neg"))
