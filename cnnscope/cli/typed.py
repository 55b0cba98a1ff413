"""Command lines as people type them: a model alone, words and options of other tools, sizes.

They are rewritten to the one spelling that the commands have; where none fits, the message says
what to type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile

from cnnscope.errors import RequestError
from cnnscope.text import printable

DEFAULT = "summary"  # the command of a model alone
_FIRST = ("--debug",)  # of the program and of every command
_PROGRAM = frozenset("--version --help -h --install-completion --show-completion".split())

# Words of other tools, and the command that answers them.
ALIASES = dict.fromkeys("show inspect info describe flops params macs".split(), "summary")
ALIASES |= {"compare": "diff"}
ALIASES |= dict.fromkeys("benchmark profile time speed latency".split(), "bench")
ALIASES |= dict.fromkeys("models ls search".split(), "list")
ALIASES |= {"receptive-field": "rf", "field": "rf", "table": "stages", "verify": "check"}

_LONG = [word for word in ALIASES if len(word) > 6]  # which may be misspelt and still be known

# Words for what no command does, and what comes nearest to it.
_PICTURE = (
    "cnnscope rf {model} LAYER --output field.png draws a receptive field; "
    "cnnscope figure {model} --output net.svg draws the architecture; "
    "cnnscope stages {model} is the table of it; "
    "cnnscope report {model} is a page for a browser"
)
_GRAPH = (
    "cnnscope report {model} draws it on a page for a browser (--output graph.svg: the graph "
    "alone); "
    "cnnscope summary {model} --depth all lists every operation in the order in which it runs; "
    "cnnscope stages {model} is the table of the architecture"
)
_CHART = (
    "cnnscope summary {model} --plot draws the cost of every layer, cnnscope rf {model} --plot the "
    "growth of the receptive field (--output chart.svg: into a file)"
)
POINTERS = dict.fromkeys("draw visualize visualise".split(), _PICTURE)
POINTERS |= dict.fromkeys("plot chart".split(), f"{_CHART}; {_PICTURE}")
POINTERS["graph"] = _GRAPH

_FORMATS = {
    "--table": "table", "--json": "json", "--csv": "csv", "--md": "markdown",
    "--markdown": "markdown", "--tex": "latex", "--latex": "latex", "--html": "html",
}  # fmt: skip
_SYNONYMS = {
    "--bs": "--batch-size", "-bs": "--batch-size", "--batch": "--batch-size",
    "--batchsize": "--batch-size", "--size": "--input", "--shape": "--input",
    "--input-size": "--input", "--input-shape": "--input", "--img-size": "--input",
    "--image-size": "--input", "--classes": "--num-classes", "--out": "--output",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z][A-Za-z_-]*")
_SIZES = re.compile(r"[(\[]?\s*\d+(\s*[x,]\s*\d+)*\s*,?\s*[)\]]?(:\w+)?", re.IGNORECASE)
_APART = (3, 4)  # sizes that are written apart: 3 224 224, 1 3 224 224
_SHAPE = re.compile(r"[x,]\s*\d+\s*[x,]", re.IGNORECASE)  # no name of a layer


# ----------------------------------------------------------------------------- the command


def with_command(
    words: Sequence[str], commands: Collection[str], options: Callable[[], Mapping[str, bool]]
) -> list[str]:
    """The words of the program, a command first: `net.py:Net -i 32` is `summary net.py:Net -i 32`.

    Args:
        words: what was typed.
        commands: names of the commands.
        options: every option of the default command, and whether it takes a value.

    Raises:
        RequestError: the first word is nearly a command, or is what no command does.
    """
    debug = list(takewhile(_FIRST.__contains__, words))
    rest = list(words[len(debug) :])
    if not rest or rest[0] in _PROGRAM or rest[0] == "--":
        return list(words)
    if rest[0] == "version":
        return ["--version"]
    if _command(rest[0], commands):
        return [*debug, _command(rest[0], commands), *_help(rest[1:])]
    return [*debug, *_without_command(rest, commands, options())]


def _without_command(
    words: Sequence[str], commands: Collection[str], options: Mapping[str, bool]
) -> list[str]:
    """The words, of which the first is no command: a model, or options before one or the other.

    Raises:
        RequestError: see `with_command`.
    """
    if not words[0].startswith("-") or words[0] == "-":
        _refuse(words, commands, alone=len(positionals(words, options)) == 1)
        return [DEFAULT, *words]
    for place in _positions(words, options):
        if named := _command(words[place], commands):
            return [named, *words[:place], *words[place + 1 :]]
    return [DEFAULT, *words]


def _command(word: str, commands: Collection[str]) -> str:
    """The command that a word means, "" for none."""
    word = word.lower()
    return word if word in commands else ALIASES.get(word, "")


def _help(words: list[str]) -> list[str]:
    """`summary help` asks for help."""
    return ["--help"] if words == ["help"] else words


def _refuse(words: Sequence[str], commands: Collection[str], *, alone: bool) -> None:
    """Refuse a first word that is meant for a command and is none.

    Args:
        words: what was typed.
        commands: names of the commands.
        alone: no other word is there but options; a model, most likely.

    Raises:
        RequestError: it is; with what to type.
    """
    import shlex  # for a message

    word, after = words[0].lower(), [shlex.quote(word) for word in words[1:]]
    if word in POINTERS:
        model = next((one for one in after if not one.startswith("-")), "MODEL")
        said = POINTERS[word].format(model=printable(model))
        raise RequestError(f"there is no command {word}: {said}")
    if not _WORD.fullmatch(word):
        return
    near = get_close_matches(word, [*commands, *_LONG], n=1, cutoff=0.7)
    if not near and alone:
        return  # the error of a model that is not known names the nearest
    if not is_library_model(words[0]):
        named = ALIASES.get(near[0], near[0]) if near else ""
        line = printable(" ".join(["cnnscope", named, *after]), 200)
        hint = f"did you mean {named}, as in: {line}" if near else f"there is {', '.join(commands)}"
        raise RequestError(f"no command called {printable(words[0])!r}; {hint}")


def is_library_model(word: str) -> bool:
    """Return True if a library has a model of this name; no library is imported."""
    from cnnscope.cache import libraries

    return libraries.is_named(word)


def is_model(word: str) -> bool:
    """Return True if a word names a model of a library, a file or a module."""
    file = word.lower().endswith((".py", ".pt2", ".pt", ".pth", ".onnx", ".safetensors"))
    return ":" in word or file or is_library_model(word)


# ----------------------------------------------------------------------------- its options


def with_options(
    words: Sequence[str], options: Mapping[str, bool], *, layers: bool = False
) -> list[str]:
    """The words of a command, each option as the command spells it, sizes as inputs.

    Args:
        words: what was typed after the command.
        options: every option of the command, and whether it takes a value.
        layers: the second word may be the name of a layer, which may be a number.

    Raises:
        RequestError: two formats.
    """
    end = words.index("--") if "--" in words else len(words)
    spelt = list(_spelt(words[:end], options))
    if "--input" not in options:
        return [*spelt, *words[end:]]
    return [*_with_inputs(list(_joined(spelt)), options, layers=layers), *words[end:]]


def _with_inputs(
    words: Sequence[str], options: Mapping[str, bool], *, layers: bool
) -> Iterator[str]:
    """The words, with sizes alone as inputs where they were typed: inputs are counted in order."""
    sizes = [
        i
        for place, i in enumerate(_positions(words, options))
        if _SIZES.fullmatch(words[i]) and (not layers or place != 1 or _SHAPE.search(words[i]))
    ]
    inputs = dict(zip(sizes, _whole([words[i] for i in sizes]), strict=False))
    for i, word in enumerate(words):
        if i in inputs:
            yield from ("--input", inputs[i])
        elif i not in sizes:
            yield word


def _joined(words: Sequence[str]) -> Iterator[str]:
    """`--input 3 224 224` is `--input 3x224x224`."""
    left = list(words)
    while left:
        word, left = left[0], left[1:]
        yield word
        run = list(takewhile(str.isdigit, left))
        if word in ("--input", "-i") and len(run) in _APART:
            yield "x".join(run)
            left = left[len(run) :]


def _whole(sizes: list[str]) -> list[str]:
    """Sizes as inputs: `3 224 224` is `3x224x224`."""
    apart = len(sizes) in _APART and all(size.isdigit() for size in sizes)
    return ["x".join(sizes)] if apart else sizes


def positionals(words: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """The words that are neither options nor their values."""
    end = words.index("--") if "--" in words else len(words)
    return [words[i] for i in _positions(words[:end], options)] + list(words[end + 1 :])


def _spelt(words: Sequence[str], options: Mapping[str, bool]) -> Iterator[str]:
    formats: dict[str, str] = {}
    left = list(reversed(words))
    while left:
        word = left.pop()
        name, equals, value = word.partition("=")
        if name in _FORMATS and name not in options and "--format" in options:
            formats[_FORMATS[name]] = name
            if not equals and left and _ends_as(left[-1], name):  # --json report.json
                equals, value = "=", left.pop()
            yield f"--format={_FORMATS[name]}"
            yield from (["--output", value] if equals else ())
        else:
            yield f"{_spelling(name, options)}{equals}{value}"
    if len(formats) > 1:
        raise RequestError(f"{' and '.join(formats.values())}: one format at a time")


def _ends_as(word: str, option: str) -> bool:
    """`report.json` after `--json` is where to write it."""
    return not word.startswith("-") and word.lower().endswith(f".{option[2:]}")


def _spelling(name: str, options: Mapping[str, bool]) -> str:
    """An option as the command has it: `--num_classes` and `--classes` are `--num-classes`."""
    if name in options or not name.startswith("-"):
        return name
    dashed = name.replace("_", "-")
    spelt = _SYNONYMS.get(dashed, dashed)
    return spelt if spelt in options else name


def _positions(words: Sequence[str], options: Mapping[str, bool]) -> Iterator[int]:
    """Where the words stand that are neither options nor their values."""
    after = False
    for i, word in enumerate(words):
        if after:
            after = False
        elif word.startswith("-") and word != "-":
            after = _takes_next(word, options)
        else:
            yield i


def _takes_next(word: str, options: Mapping[str, bool]) -> bool:
    """Return True if the word after an option is its value; `-ad 3` is `-a -d 3`."""
    if word.startswith("--") or word in options:
        name = _spelling(word, options)
        return options.get(name, False)
    for i, letter in enumerate(word[1:], start=2):
        takes = options.get(f"-{letter}")
        if takes or takes is None:
            return bool(takes) and i == len(word)
    return False
