"""`cnnscope cache`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from cnnscope.cli.commands import Entry
from cnnscope.cli.options import Options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.cache.store import Store

COMMANDS = {
    "info": Entry("cache", "Info", "Folder, size and limit of the store."),
    "clear": Entry("cache", "Clear", "Remove everything that is stored."),
    "path": Entry("cache", "Folder", "The folder of the store; CNNSCOPE_CACHE_DIR moves it."),
}


@dataclass(kw_only=True, repr=False, eq=False)
class Group(Options):
    """The store of traces, which answers repeated requests at once.

    Example: cnnscope cache info
    """


@dataclass(kw_only=True, repr=False, eq=False)
class Info(Options):
    """Folder, size and limit of the store.

    Example: cnnscope cache info
    """

    def run(self, session: Session) -> None:
        """Print it."""
        from cnnscope.render import units

        found = _store(session).info()
        typer.echo(
            f"{found.path}\n{units.plural(found.entries, 'entry', 'entries')}, "
            f"{units.nbytes(found.nbytes)} of at most {units.nbytes(found.limit)}"
        )


@dataclass(kw_only=True, repr=False, eq=False)
class Clear(Options):
    """Remove everything that is stored.

    Example: cnnscope cache clear
    """

    def run(self, session: Session) -> None:
        """Remove it, and print what was there."""
        from cnnscope.render import units

        store = _store(session)
        try:
            removed = store.clear()
        except OSError as error:
            reason = error.strerror or error
            raise RequestError(
                f"{store.root}: cannot be cleared ({reason}); remove the folder"
            ) from None
        entries = units.plural(removed.entries, "entry", "entries")
        typer.echo(f"removed {entries}, {units.nbytes(removed.nbytes)}")


@dataclass(kw_only=True, repr=False, eq=False)
class Folder(Options):
    """The folder of the store; CNNSCOPE_CACHE_DIR moves it.

    Example: cnnscope cache path
    """

    def run(self, session: Session) -> None:
        """Print it."""
        typer.echo(str(_store(session).root))


def _store(session: Session) -> Store:
    """The user's store.

    Raises:
        RequestError: there is none.
    """
    found = session.store()
    if found is None:
        raise RequestError(
            "there is no store, because this user has no home folder; CNNSCOPE_CACHE_DIR names one"
        )
    return found
