"""A list in which what is equal stands once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class Listed:
    """Values that stand once; each is named by its place."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def place(self, key: Hashable, item: Any) -> int:
        """The place of an item, which is added if its key is new."""
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(item)
        return self._places[key]
