"""`cnnscope help`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from shutil import get_terminal_size
from typing import Annotated

import typer

from cnnscope.cli import out, pages, typed
from cnnscope.cli.options import Options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError
from cnnscope.text import printable


def _complete(incomplete: str) -> list[str]:
    """Topics that begin so."""
    return [topic for topic in pages.topics() if topic.startswith(incomplete)]


@dataclass(kw_only=True, repr=False, eq=False)
class Help(Options):
    """Pages of the documentation in the terminal, with examples.

    Example: cnnscope help rf

    Every command has a page, and so have subjects (numbers, your-model) and tutorials. Without a
    topic they are listed. A terminal shows a page laid out, a pipe or file gets its Markdown.
    """

    topic: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC", help="The name of a page; left out, all are listed.",
            show_default=False, autocompletion=_complete,
        )
    ] = ""  # fmt: skip

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a second topic.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            f"help: one topic at a time, as in cnnscope help {printable(words[0])}; "
            "cnnscope COMMAND --help lists options"
        )

    def run(self, session: Session) -> None:
        """Print the page, or the list of pages.

        Raises:
            RequestError: there is no such page.
        """
        if not pages.topics():
            raise RequestError(
                "help: the pages of the documentation are not installed; "
                "cnnscope --help lists the commands"
            )
        if not self.topic:
            out.markdown(_listed())
            return
        page = pages.text(_named(self.topic))
        out.markdown(page, pages.for_terminal(page, get_terminal_size().columns))


def _named(word: str) -> str:
    """The topic that a word means.

    Raises:
        RequestError: there is none.
    """
    name = word.lower().replace("_", "-").removesuffix(".md").rpartition("/")[2]
    name = typed.ALIASES.get(name, name)
    if name in pages.topics():
        return name
    near = get_close_matches(name, pages.topics(), n=1)
    raise RequestError(
        f"help: there is no page '{printable(word)}'; "
        + (f"did you mean: cnnscope help {near[0]}? " if near else "")
        + "cnnscope help lists the pages"
    )


def _listed() -> str:
    """All pages, as Markdown: commands, subjects, tutorials."""
    from cnnscope.cli.commands import COMMANDS

    found = pages.topics()
    tutorials = [name for name, path in found.items() if path.parent.name == "tutorials"]
    groups = {
        "Commands": [name for name in COMMANDS if name in found],
        "Subjects": [name for name in found if name not in (*COMMANDS, *tutorials)],
        "Tutorials": tutorials,
    }
    parts = (f"## {name}\n\n{_rows(topics)}" for name, topics in groups.items() if topics)
    return "\n".join(("`cnnscope help TOPIC` shows a page; begin with `get-started`.\n", *parts))


def _rows(topics: Iterable[str]) -> str:
    return "".join(f"- `{one}`: {pages.title(one)}\n" for one in topics)
