"""`cnnscope cache`."""

from __future__ import annotations

import typer

from cnnscope.errors import RequestError

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
    from cnnscope.cli import load
    from cnnscope.render import units

    found = load.any_store().info()
    typer.echo(
        f"{found.path}\n{units.plural(found.entries, 'entry', 'entries')}, "
        f"{units.nbytes(found.nbytes)} of at most {units.nbytes(found.limit)}"
    )


@cache.command()
def clear() -> None:
    """Remove everything that is stored.

    Example: cnnscope cache clear
    """
    from cnnscope.cli import load
    from cnnscope.render import units

    store = load.any_store()
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
    from cnnscope.cli import load

    typer.echo(str(load.any_store().root))
