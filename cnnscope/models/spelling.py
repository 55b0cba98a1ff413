"""Spelling of inputs: parse what is written for them, by a small exact grammar. No torch.

    input   = [NAME "="] value
    value   = tensor | scalar | "[" value, ... "]" | "(" value, ... ")" | "{" KEY ":" value, ... "}"
    tensor  = sizes [":" DTYPE]
    sizes   = 3x224x224 | 3,224,224 (alone) | (3, 224, 224) | [3, 224, 224] | 224 | () of a scalar
    scalar  = none | true | false | 0.5 | -1 | "text" | WORD (after NAME=, for what takes a text)

Sizes in a list or dict may have quotes, as JSON wants them: `{"ids": "16:int64"}`.

Nothing is evaluated: what is not of this grammar is refused with the place where it leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from cnnscope.errors import RequestError
from cnnscope.records import form as forms
from cnnscope.records.form import Form, Node, Slot, Table, Value
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable

_DTYPES = (
    "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool "
    "complex32 complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)
_SHORT = (
    "half float16 fp16 float16 bf16 bfloat16 float float32 fp32 float32 double float64 "
    "fp64 float64 char int8 short int16 int int32 long int64 byte uint8 "
    "chalf complex32 cfloat complex64 cdouble complex128"
).split()
# What may be written for each dtype: torch's name, and the short ones of torch and of people.
DTYPES = {name: name for name in _DTYPES.split()} | dict(
    zip(_SHORT[::2], _SHORT[1::2], strict=True)
)
FLOATS = ("float16", "bfloat16", "float32", "float64")
MAX_SIDE = 2**31 - 1
_DEEPEST = 12  # levels of lists and dicts
_IMAGE = 3  # sizes: C, H, W, which need no batch
_WORDS = {"none": None, "null": None, "true": True, "false": False}
_NAMED = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)\s*(.*)", re.DOTALL)
_BARE = re.compile(r"([^\W\d][\w-]*)\s*")
_QUOTED = re.compile(
    r"[0-9]+(?:[xX,][0-9]+)*(?::\w+)?", re.ASCII
)  # sizes, as JSON has to have them
_TIMES = re.compile(r" *[xX\xd7*] *")  # 3x224x224, 3 x 224 x 224, as papers and code write it
_DTYPE = re.compile(r":([^,\])}]*)")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<sizes>[0-9]+(?:[ ]*[xX\xd7*][ ]*[0-9]+)+(?![\w.]))
    |(?P<number>[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*)
    |(?P<string>'[^'\\]*'|"[^"\\]*")
    |(?P<mark>[\[\](){}:,])
    )""",
    re.VERBOSE,
)


class InputSpec(msgspec.Struct, frozen=True):
    """A tensor as it was asked for: its sizes, and a dtype if one was given.

    Attributes:
        sizes: as they were given.
        dtype: by torch's name.
        text: as it was written.
        plain: it may be no tensor but the number or the tuple itself: `steps=4`, `size=(7, 7)`.
    """

    sizes: Shape
    dtype: str | None
    text: str
    plain: bool = False

    @property
    def canonical(self) -> str:
        """`3x224x224:float16`, whatever it was written as."""
        return _spelled(TensorSpec(self.sizes, self.dtype or ""), with_dtype=bool(self.dtype))


class Asked(NamedTuple):
    """Inputs as they were asked for: their form, and the tensors that fill it.

    `bare` are the names of words that have no quotes, which are texts where forward takes one.
    """

    form: Form
    tensors: tuple[InputSpec, ...]
    bare: tuple[str, ...] = ()


class _Part(NamedTuple):
    """A parsed value and its tensors; `whole` is true of a mere integer, `bare` of a mere word."""

    node: Node
    tensors: tuple[InputSpec, ...] = ()
    whole: bool = False
    bare: bool = False


# ---------------------------------------------------------------------------------- what is parsed


def parse_input(text: str) -> InputSpec:
    """One tensor: `3x224x224`, `3,224,224`, `(1, 3, 224, 224)`, `224`; `:dtype` after each.

    Raises:
        RequestError: a size that is not a positive number, an unknown dtype, or no tensor.
    """
    name, part = _parsed(text)
    if name or not isinstance(part.node, Slot):
        _Reader(text).refuse("it is no size")
    return part.tensors[0]


def asked(inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Asked:
    """Inputs of a forward, in order and by name.

    Args:
        inputs: a text, a size, or what is made of them: lists, dicts, numbers, None. A tuple or
            list at the top, unless it is a size, has one item for each argument.
        kwargs: arguments by keyword.

    Raises:
        RequestError: something in it cannot be.
        NotPlainError: it holds tensors or other objects.
    """
    args: list[_Part] = []
    named: dict[str, _Part] = {}
    for item in items(inputs):
        name, part = _parsed(item) if isinstance(item, str) else ("", _of_python(item, 0))
        if name:
            _name(named, name, part)
        else:
            args.append(part)
    for name, value in (kwargs or {}).items():
        _name(named, name, _of_python(value, 1))
    form = Form(tuple(a.node for a in args), tuple((n, p.node) for n, p in named.items()))
    tensors = (spec for part in (*args, *named.values()) for spec in part.tensors)
    return Asked(form, tuple(tensors), tuple(name for name, part in named.items() if part.bare))


def _name(named: dict[str, _Part], name: str, part: _Part) -> None:
    if name in named:
        raise RequestError(f"--input {printable(name)}: given twice; give it once")
    named[name] = part


def items(inputs: Any) -> Sequence[Any]:
    """One input stands for a sequence of one; None for no input."""
    if inputs is None:
        return ()
    many = isinstance(inputs, (list, tuple)) and not _is_size(inputs)
    return inputs if many and not hasattr(inputs, "_fields") else (inputs,)


# ------------------------------------------------------------------------------- Python's objects


class NotPlainError(Exception):
    """Inputs hold a tensor, or another object that no text describes."""


def _is_size(value: Any) -> bool:
    """Return True if this is a size, such as (1, 3, 224, 224) or torch.Size."""
    return isinstance(value, (list, tuple)) and bool(value) and all(type(n) is int for n in value)


def _of_python(value: Any, depth: int) -> _Part:
    """A value of Python's: sizes are tensors, and texts that spell one."""
    if isinstance(value, str):
        return _parsed(value)[1] if re.match(r"\s*[0-9(\[{]", value) else _Part(Value(value))
    if _is_size(value):
        spec = _Reader("x".join(map(str, value))).tensor(value, plain=depth > 0)
        return _Part(Slot(), (spec,))
    if type(value) is int and depth == 0:
        return _Part(Slot(), (_Reader(str(value)).tensor((value,), plain=True),))
    if value is None or type(value) in (bool, int, float):
        return _Part(Value(value))
    if depth > _DEEPEST:
        raise RequestError(f"inputs: nested deeper than {_DEEPEST} levels")
    if isinstance(value, (list, tuple)):
        return _sequence_of(value, [_of_python(item, depth + 1) for item in value])
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        parts = {key: _of_python(item, depth + 1) for key, item in value.items()}
        return _table(parts)
    raise NotPlainError


def _sequence_of(value: Any, parts: Sequence[_Part]) -> _Part:
    nodes, tensors = _joined(parts)
    fields = tuple(getattr(value, "_fields", ()))
    name = type(value).__name__ if fields else ""
    is_list = isinstance(value, list)
    return _Part(forms.Sequence(nodes, is_list=is_list, name=name, fields=fields), tensors)


def _table(parts: Mapping[Any, _Part]) -> _Part:
    nodes, tensors = _joined(parts.values())
    return _Part(Table(tuple(zip(parts, nodes, strict=True))), tensors)


def _joined(parts: Iterable[_Part]) -> tuple[tuple[Node, ...], tuple[InputSpec, ...]]:
    parts = list(parts)
    return tuple(p.node for p in parts), tuple(spec for p in parts for spec in p.tensors)


# ------------------------------------------------------------------------------------------ texts


def _parsed(text: str) -> tuple[str, _Part]:
    """Name ("" for none) and value of one input.

    Raises:
        RequestError: it is none.
    """
    named = _NAMED.fullmatch(text)
    word = _BARE.fullmatch(named[2]) if named else None
    if named and word and word[1].lower() not in _WORDS:
        return named[1], _Part(Value(word[1]), bare=True)
    reader = _Reader(text, named.start(2) if named else 0)
    part = reader.alone()
    if not named and isinstance(part.node, Value) and type(part.node.value) in (int, float):
        reader.refuse("a number that is no tensor is given by its name, as in scale=0.5")
    return (named[1] if named else ""), part


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str, start: int = 0) -> None:
        self.text, self.at, self.depth = text, start, 0

    def refuse(self, why: str) -> NoReturn:
        """Say what is wrong with the text.

        Raises:
            RequestError: in any case.
        """
        raise RequestError(
            f"input {printable(self.text)!r}: {why}; expected sizes, such as 3x224x224, 224x224 or "
            "1x3x224x224 (and :float16 after them for a dtype), a list or dict of these, name=SIZE"
        )

    # -- tokens

    def peek(self) -> tuple[str, str]:
        """Kind and text of the next word; ("", "") at the end."""
        found = _TOKEN.match(self.text, self.at)
        return (found.lastgroup or "", found[found.lastgroup or 0]) if found else ("", "")

    def take(self) -> tuple[str, str]:
        """Read the next word."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            self.refuse(self._stop())
        self.at = found.end()
        return found.lastgroup or "", found[found.lastgroup or 0]

    def _stop(self) -> str:
        rest = self.text[self.at :].strip()
        if not rest:
            return "it ends too early" if self.text.strip() else "it is empty"
        return f"{printable(rest, 20)!r} is not understood"

    def end(self) -> None:
        """Check that nothing follows."""
        if self.text[self.at :].strip():
            kind, word = self.peek()
            if word == "," and kind == "mark":
                self.refuse("several inputs are each given by an --input of their own")
            self.refuse(self._stop())

    # -- the grammar

    def alone(self) -> _Part:
        """All of the text."""
        begin = self.at
        part = self.value()
        if part.whole and self.peek()[1] == ",":
            self.at = begin
            part = self._commas()
        self.end()
        return part

    def _commas(self) -> _Part:
        """`3,224,224`: integers with commas between them, and a dtype."""
        begin, sizes = self.at, []
        while True:
            kind, word = self.peek()
            if kind != "number" or not word.isdigit():
                break
            self.take()
            sizes.append(int(word[:12]))
            if self.peek()[1] != ",":
                break
            self.take()
        return self._tensor(sizes, begin, plain=False)

    def value(self) -> _Part:
        """A tensor, a scalar, a list, a tuple or a dict."""
        begin = self.at
        kind, word = self.take()
        if kind == "sizes":
            return self._tensor([int(n[:12]) for n in _TIMES.split(word)], begin, plain=False)
        if kind == "number":
            return self._number(word, begin)
        if kind == "string":
            inside = self.depth > 0 and _QUOTED.fullmatch(word[1:-1])
            return _Reader(word[1:-1]).alone() if inside else _Part(Value(word[1:-1]))
        if kind == "word":
            if word.lower() not in _WORDS:
                self.refuse(f"{printable(word, 30)} is no size (a text needs its own quotes)")
            return _Part(Value(_WORDS[word.lower()]))
        if word not in "[({":
            self.refuse(f"{word!r} is not expected there")
        self.depth += 1
        if self.depth > _DEEPEST:
            self.refuse(f"it is nested deeper than {_DEEPEST} levels")
        part = self._dict() if word == "{" else self._sequence(word, begin)
        self.depth -= 1
        return part

    def _number(self, word: str, begin: int) -> _Part:
        if not word.isdigit():
            whole = word.lstrip("+-").isdigit()
            return _Part(Value(int(word[:20]) if whole else float(word)))
        part = self._tensor([int(word[:12])], begin, plain=True)
        return part._replace(whole=part.tensors[0].dtype is None)

    def _sequence(self, opening: str, begin: int) -> _Part:
        closing = "]" if opening == "[" else ")"
        parts: list[_Part] = []
        comma = False
        while self.peek()[1] != closing:
            self._inside(closing)
            parts.append(self.value())
            comma = self.peek()[1] == ","
            if comma:
                self.take()
            elif self.peek()[1] != closing:
                self._inside(closing)
                self.refuse(f"a comma or {closing} is missing before {self._rest()}")
        self.take()
        if (parts or opening == "(") and all(part.whole for part in parts):
            return self._tensor([part.tensors[0].sizes[0] for part in parts], begin, plain=True)
        if opening == "(" and len(parts) == 1 and not comma:
            return parts[0]
        nodes, tensors = _joined(parts)
        return _Part(forms.Sequence(nodes, is_list=opening == "["), tensors)

    def _dict(self) -> _Part:
        parts: dict[str | int, _Part] = {}
        while self.peek()[1] != "}":
            self._inside("}")
            key = self._key()
            if key in parts:
                self.refuse(f"the key {printable(str(key), 30)} is given twice")
            if self.peek()[1] != ":":
                self.refuse(f"a : is missing after the key {printable(str(key), 30)}")
            self.take()
            parts[key] = self.value()
            if self.peek()[1] == ",":
                self.take()
            elif self.peek()[1] != "}":
                self._inside("}")
                self.refuse(f"a comma or }} is missing before {self._rest()}")
        self.take()
        return _table(parts)

    def _key(self) -> str | int:
        kind, word = self.take()
        if kind == "string":
            return word[1:-1]
        if kind == "word":
            return word
        if kind == "number" and word.isdigit() and len(word) < 10:
            return int(word)
        return self.refuse(f"{printable(word, 30)} is no key: use a name, such as 'image'")

    def _inside(self, closing: str) -> None:
        """Check that the text goes on."""
        if not self.text[self.at :].strip():
            self.refuse(f"a {closing} is missing at its end")

    def _rest(self) -> str:
        return repr(printable(self.text[self.at :].strip(), 20))

    # -- tensors

    def _tensor(self, sizes: Sequence[int], begin: int, *, plain: bool) -> _Part:
        """A tensor whose sizes have been read, with the dtype that may follow."""
        dtype = None
        found = _DTYPE.match(self.text, self.at)
        if found is not None:
            dtype = DTYPES.get(found[1])
            if dtype is None:
                raise RequestError(
                    f"input {printable(self.text)!r}: unknown dtype {printable(found[1])!r}; "
                    f"use one of {', '.join(sorted(set(DTYPES.values())))}"
                )
            self.at = found.end()
        text = self.text[begin : self.at].strip()
        return _Part(Slot(), (self.tensor(sizes, dtype, text, plain=plain and dtype is None),))

    def tensor(
        self, sizes: Sequence[int], dtype: str | None = None, text: str = "", *, plain: bool
    ) -> InputSpec:
        """A tensor of sizes that a tensor can have.

        Raises:
            RequestError: it cannot.
        """
        if not all(0 < size <= MAX_SIDE for size in sizes):
            raise RequestError(
                f"input {printable(self.text)!r}: every size must be between 1 and {MAX_SIDE}"
            )
        return InputSpec(tuple(sizes), dtype, text or self.text, plain)


# -------------------------------------------------------------------------------- what is written


def written(inputs: Inputs, *, dtypes: bool = False) -> str:
    """What to write after --input for these inputs: `3x224x224`, `image=3x8x8 --input ids=1x16`.

    Args:
        inputs: a batch of images is written without its first size, which is not needed.
        dtypes: write those of floating-point tensors as well.
    """
    by_place = inputs.form is None or inputs.as_list
    form = Form((Slot(),) * len(inputs.tensors)) if by_place or not inputs.form else inputs.form
    whole = inputs.form is not None
    left = iter([_of_tensor(spec, dtypes=dtypes, batched=whole) for spec in inputs.tensors])
    texts = [spelled(node, left) for node in form.args]
    texts += [f"{name}={spelled(node, left)}" for name, node in form.kwargs]
    return " --input ".join(map(quoted, texts))


def quoted(text: str) -> str:
    """A word of a command line, in quotes where the shell needs them."""
    safe = re.fullmatch(r"[\w:=.,-]+", text, re.ASCII)
    return text if safe else "'" + text.replace("'", '"') + "'"


def _of_tensor(spec: TensorSpec, *, dtypes: bool, batched: bool) -> str:
    shape = spec.shape if batched or len(spec.shape) <= _IMAGE else spec.shape[1:]
    return _spelled(TensorSpec(shape, spec.dtype), with_dtype=dtypes or spec.dtype not in FLOATS)


def in_braces(entries: Iterable[tuple[str, str]]) -> str:
    """A dict, of keys and of what was written for their values."""
    return "{" + ", ".join(f'"{key}": {text}' for key, text in entries) + "}"


def in_brackets(items: Iterable[str], *, as_list: bool) -> str:
    """A list or a tuple, of what was written for its items."""
    text = ", ".join(items)
    return f"[{text}]" if as_list else f"({text},)"


def spelled(node: Node, tensors: Iterator[str]) -> str:
    """What to write for an argument.

    Args:
        node: the argument.
        tensors: what to write for each tensor in it; as many are taken as it holds.
    """
    if isinstance(node, Slot):
        return next(tensors)
    if isinstance(node, Value):
        shown = {None: "none", True: "true", False: "false"}
        if node.value is None or isinstance(node.value, bool):
            return shown[node.value]
        signed = isinstance(node.value, int) and node.value >= 0
        return f"+{node.value}" if signed else repr(node.value).replace("'", '"')
    if isinstance(node, Table):
        return in_braces((str(key), spelled(item, tensors)) for key, item in node.entries)
    if isinstance(node, forms.Sequence):
        return in_brackets((spelled(item, tensors) for item in node.items), as_list=node.is_list)
    return node.kind


def _spelled(spec: TensorSpec, *, with_dtype: bool) -> str:
    return ("x".join(map(str, spec.shape)) or "()") + (f":{spec.dtype}" if with_dtype else "")
