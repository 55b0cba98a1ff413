"""`cnnscope cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.cache.store import Store

cache = typer.Typer(
    name="cache",
    help="The store of traces: what was asked once is answered at once.\n\n"
    "Example: cnnscope cache info",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cache.command()
def info() -> None:
    """Where the store is, how much it holds, and how much it may hold.

    Example: cnnscope cache info
    """
    from cnnscope.render import units

    found = _store().info()
    typer.echo(
        f"{found.path}\n{units.plural(found.entries, 'entry', 'entries')}, "
        f"{units.nbytes(found.nbytes)} of at most {units.nbytes(found.limit)}"
    )


@cache.command()
def clear() -> None:
    """Remove everything that is stored.

    Example: cnnscope cache clear
    """
    from cnnscope.render import units

    store = _store()
    try:
        removed = store.clear()
    except OSError as error:
        raise RequestError(f"{store.root}: cannot be cleared ({error.strerror or error})") from None
    entries = units.plural(removed.entries, "entry", "entries")
    typer.echo(f"removed {entries}, {units.nbytes(removed.nbytes)}")


@cache.command()
def path() -> None:
    """The folder of the store; CNNSCOPE_CACHE_DIR moves it.

    Example: cnnscope cache path
    """
    typer.echo(str(_store().root))


def _store() -> Store:
    """The user's store.

    Raises:
        RequestError: there is none.
    """
    from cnnscope.cli import load

    found = load.any_store()
    if found is None:
        raise RequestError(
            "there is no store, because this user has no home folder; CNNSCOPE_CACHE_DIR names one"
        )
    return found
