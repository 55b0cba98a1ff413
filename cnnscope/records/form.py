"""Form of a call of forward: which arguments are tensors, in which lists and dicts, by which names.

The tensors themselves are held beside it, in the order in which they are met: a form is to its
tensors what a sentence with gaps is to the words that fill them.
"""

from collections.abc import Iterator
from typing import Union

import msgspec

Scalar = bool | int | float | str | None


class Slot(msgspec.Struct, frozen=True, tag="tensor"):
    """The place of one tensor: the next one."""


class Value(msgspec.Struct, frozen=True, tag="value"):
    """An argument that is no tensor: None, a bool, a number or a string."""

    value: Scalar


class Sequence(msgspec.Struct, frozen=True, tag="sequence"):
    """A list, or a tuple; of a named tuple also its name and its fields."""

    items: tuple["Node", ...]
    is_list: bool = True
    name: str = ""
    fields: tuple[str, ...] = ()


class Table(msgspec.Struct, frozen=True, tag="dict"):
    """A dict; its keys are strings or integers."""

    entries: tuple[tuple[str | int, "Node"], ...]


class Opaque(msgspec.Struct, frozen=True, tag="object"):
    """Any other object, which cannot be made again, and how many tensors it holds."""

    kind: str
    count: int = 0


Node = Union[Slot, Value, Sequence, Table, Opaque]  # noqa: UP007  names that stand for later classes


class Form(msgspec.Struct, frozen=True):
    """Arguments of a call: those by place, then those by keyword."""

    args: tuple[Node, ...] = ()
    kwargs: tuple[tuple[str, Node], ...] = ()

    @property
    def count(self) -> int:
        """Number of tensors."""
        return sum(_count(node) for node in (*self.args, *(node for _, node in self.kwargs)))

    @property
    def complete(self) -> bool:
        """True if the call can be made again: it holds no object."""
        return not any(isinstance(node, Opaque) for _, node in self._walk())

    @property
    def by_place(self) -> bool:
        """True if every argument is a tensor given by its place: nothing has to be said of it."""
        return not self.kwargs and all(isinstance(node, Slot) for node in self.args)

    @property
    def one_list(self) -> bool:
        """True if all tensors are given in one list, as torchvision's detectors want images."""
        if len(self.args) != 1 or self.kwargs:
            return False
        only = self.args[0]
        return (
            isinstance(only, Sequence)
            and only.is_list
            and all(isinstance(item, Slot) for item in only.items)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each tensor in the call: `image`, `batch[ids]`, `[0]`; "" for a mere place."""
        return tuple(name for name, node in self._walk() if isinstance(node, Slot))

    @property
    def values(self) -> tuple[tuple[str, Scalar], ...]:
        """Name and value of each argument that is no tensor; `2` is the second place."""
        return tuple((name, node.value) for name, node in self._walk() if isinstance(node, Value))

    def _walk(self) -> Iterator[tuple[str, Node]]:
        """Every tensor, value and object, with its name; one entry for each tensor of an object."""
        for index, node in enumerate(self.args):
            if isinstance(node, Slot):
                yield "", node
            else:
                place = isinstance(node, Value) or len(self.args) + len(self.kwargs) > 1
                yield from _named(str(index + 1) if place else "", node)
        for name, node in self.kwargs:
            yield from _named(name, node)


def _count(node: Node) -> int:
    if isinstance(node, Sequence):
        return sum(map(_count, node.items))
    if isinstance(node, Table):
        return sum(_count(item) for _, item in node.entries)
    return node.count if isinstance(node, Opaque) else int(isinstance(node, Slot))


def _named(name: str, node: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            part = f".{node.fields[index]}" if node.fields else f"[{index}]"
            yield from _named(f"{name}{part}", item)
    elif isinstance(node, Table):
        for key, item in node.entries:
            yield from _named(f"{name}[{key}]", item)
    elif isinstance(node, Opaque):
        yield name, node
        for _ in range(node.count):
            yield name, Slot()
    else:
        yield name, node


def one_list(count: int) -> Form:
    """The form of a call with one list of so many tensors."""
    return Form((Sequence((Slot(),) * count),))
