"""Whose backward pass runs: the module call, and the node of autograd's graph, of each operation.

Autograd numbers its nodes in the order in which the forward makes them, and each thread counts for
itself; so a node is of the call that was the innermost when its number was given. Hooks of the
nodes tell where the formula of one ends, and what follows adds up gradients of tensors that were
read several times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, cast

import torch
from torch import Tensor

from cnnscope.tracing.in_place import Node
from cnnscope.tracing.storages import Storages

_ACCUMULATES = "torch::autograd::AccumulateGrad"


class Backward:
    """Follows a backward pass.

    Attributes:
        nodes: of the operations of the backward pass, by number.

    Args:
        book: that the operations are written in.
        turns: the number of the next node when a call began to be the innermost, and that call.
    """

    def __init__(self, book: Storages, turns: Sequence[tuple[int, int]]) -> None:
        self.nodes: dict[int, Node] = {}
        self._book = book
        self._turns = turns
        self._hooked: set[int] = set()  # numbers of nodes
        self._ended = False  # the formula of a node
        self._call = -1  # of the node that ran last

    def watch(self, loss: Tensor) -> None:
        """Have every node of the graph behind a number tell when its formula begins and ends."""
        todo: list[Any] = [loss.grad_fn]
        seen: set[Any] = set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
            if node.name() != _ACCUMULATES:  # a hook would have it copy what it is given
                node.register_prehook(self._begin)
                node.register_hook(self._end)
                self._hooked.add(node._sequence_nr())

    def _begin(self, _: Any) -> None:
        self._ended = False

    def _end(self, *_: Any) -> None:
        self._ended = True

    def run(self, run: Callable[..., Any], func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation, and write down what it is a part of."""
        begin = len(self._book.ops)
        alone = bool(args) and isinstance(args[0], Tensor) and _is_alone(args[0])
        node = self._node(cast("Any", torch._C)._current_autograd_node(), alone=alone)
        try:
            return run(func, args, kwargs)
        finally:
            self.nodes.update((number, node) for number in range(begin, len(self._book.ops)))

    def _call_of(self, node: Any) -> int:
        """The call whose node this is; a gradient is stored for the node that computed it."""
        if node.name() != _ACCUMULATES:
            place = bisect_right(self._turns, node._sequence_nr(), key=itemgetter(0)) - 1
            self._call = self._turns[place][1] if place >= 0 else -1
        return self._call

    def _node(self, node: Any, *, alone: bool) -> Node:
        if node is None:
            return Node("", -1, adds_up=False, alone=alone)
        name = str(node.name())
        unknown = name == _ACCUMULATES or node._sequence_nr() not in self._hooked
        return Node(name, self._call_of(node), adds_up=unknown or self._ended, alone=alone)


def _is_alone(tensor: Tensor) -> bool:
    """Return True if no other tensor holds its memory; the second who does is the storage here."""
    storage = tensor.untyped_storage()
    count: int = cast("Any", torch._C)._storage_Use_Count(storage._cdata)
    return count == 2
