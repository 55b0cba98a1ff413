"""One run of a command line: what click's context carries to every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnscope.cli.out import note

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cnnscope.cache.store import Store


class Session:
    """One run: whether tracebacks are shown, and the store that was opened.

    Attributes:
        debug: whether tracebacks are shown.
        guessed: the first word was taken for a model, because it is no command.
        use: where a command reads many records, what it does with each of them.
    """

    def __init__(self) -> None:
        self.debug = False
        self.guessed = False
        self.use: Callable[[Any], object] | None = None
        self._opened: Store | None = None

    def store(self) -> Store | None:
        """The user's store, which tells of damage on stderr; None for a user without a home."""
        from cnnscope.api.traces import open_store

        self._opened = open_store(note)
        return self._opened

    def distrust(self) -> bool:
        """Remove what was read from the store, because what uses it failed; whether there was."""
        return self._opened is not None and self._opened.distrust(self.use)
