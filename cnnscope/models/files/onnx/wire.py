"""Read the protobuf of an ONNX file without the weights that lie in it.

A file is mapped, and walked as the wire format says (protobuf.dev/programming-guides/encoding):
what has to be known of a message is a tag and a length. The values of large tensors, stack traces
and documentation are stepped over, so that a file of any size is read in the time that its graph
takes. What is left is parsed by `onnx`. Every field is counted before that, because a small
message takes much more memory parsed than in the file.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, NamedTuple

from cnnscope.errors import RequestError
from cnnscope.models.files import archive
from cnnscope.text import printable

MAX_BYTES = 64 * 2**20  # of a graph without its weights; that of 5,000 nodes has some 3 MiB
MAX_FIELDS = 1_500_000  # of all messages; a network with 5,000 nodes has some 400,000
SMALL = 2**12  # bytes of values that are kept: shapes, axes, scales, bounds
_MAX_FILE = 2**46  # bytes; a sparse file costs its owner nothing
_DEEP = 32  # graphs inside graphs
_LONGEST = 10  # bytes of a number

# Fields of onnx.proto that are walked into, by their number: the message that each one holds.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "Opset", 14: "Entry", 25: "Function"},
    "Graph": {
        1: "Node", 5: "Tensor", 11: "Value", 12: "Value", 13: "Value", 14: "Quantised",
        15: "Sparse", 16: "Entry",
    },
    "Function": {7: "Node", 9: "Opset", 11: "Attribute", 12: "Value", 14: "Entry"},
    "Node": {5: "Attribute", 9: "Entry"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 14: "Type", 15: "Type", 22: "Sparse",
        23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {3: "Segment", 13: "Entry", 16: "Entry"},
    "Value": {2: "Type", 4: "Entry"},
    "Type": {1: "TensorType", 4: "Sequence", 5: "Map", 8: "TensorType", 9: "Sequence"},
    "TensorType": {2: "Shape"},
    "Sequence": {1: "Type"},
    "Map": {2: "Type"},
    "Shape": {1: "Dimension"},
    "Quantised": {2: "Entry"},
}  # fmt: skip
# Fields that hold the values of a tensor, and those that are for people alone.
_VALUES: dict[str, frozenset[int]] = {
    "Tensor": frozenset((4, 5, 6, 7, 9, 10, 11)),
    "Attribute": frozenset((4, 7, 8, 9)),
}
_PROSE: dict[str, frozenset[int]] = {
    "Model": frozenset((6, 20)),  # and what training does
    "Graph": frozenset((10,)),
    "Node": frozenset((6,)),
    "Function": frozenset((8,)),
    "Tensor": frozenset((12,)),
    "Value": frozenset((3,)),
    "Attribute": frozenset((13,)),
}
# Fields that are text: names.
_TEXTS: dict[str, frozenset[int]] = {
    "Model": frozenset((2, 3, 4)),
    "Graph": frozenset((2,)),
    "Node": frozenset((1, 2, 3, 4, 7, 8)),
    "Function": frozenset((1, 4, 5, 6, 10, 13)),
    "Attribute": frozenset((1, 21)),
    "Tensor": frozenset((8,)),
    "Value": frozenset((1,)),
    "Dimension": frozenset((2, 3)),
    "Opset": frozenset((1,)),
    "Entry": frozenset((1, 2)),
}
_NEEDED = (b"pkg.torch.onnx.name_scopes", b"pkg.torch.onnx.class_hierarchy", b"pkg.onnxscript")


class Field(NamedTuple):
    """A field of a message: its number and type, where it begins, its value, where it ends."""

    number: int
    kind: int
    begin: int
    value: int
    end: int


def read(name: str) -> Any:
    """Parse the graph of an ONNX file, without the values of large tensors.

    Args:
        name: of the file.

    Returns:
        An `onnx.ModelProto` whose tensors of more than `SMALL` bytes have no values.

    Raises:
        RequestError: it is no such file, it is damaged, or it is too large.
    """
    from onnx import ModelProto

    with archive.opened(name) as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size < _MAX_FILE:
            raise damaged(name, "it is empty" if not size else "it has no size of a file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            stripped = _Walker(name, content).stripped()
    try:
        return ModelProto.FromString(stripped)
    except Exception as error:
        raise damaged(name, f"protobuf cannot read it ({type(error).__name__})") from error


def damaged(name: str, why: str) -> RequestError:
    """The refusal of a file that is no whole ONNX graph."""
    return RequestError(
        f"{printable(name)} is no ONNX graph, or damaged: {printable(why, 200)}; export or copy it "
        "again"
    )


class _Walker:
    """Copies a message without what is not needed of it."""

    def __init__(self, name: str, content: mmap.mmap) -> None:
        self.name, self.content = name, content
        self.fields = 0
        self.size = 0

    def stripped(self) -> bytes:
        """The whole model."""
        return bytes(self._message("Model", 0, len(self.content), 0))

    def _message(self, kind: str, begin: int, end: int, depth: int) -> bytearray:
        """A message of the file, from its first byte to its last, without what is left out."""
        if depth > _DEEP:
            raise damaged(self.name, f"messages that lie more than {_DEEP} deep in each other")
        inside, made = _INSIDE.get(kind, {}), bytearray()
        left_out, texts = _PROSE.get(kind, frozenset()), _TEXTS.get(kind, frozenset())
        values = _VALUES.get(kind, frozenset())
        while begin < end:
            field = self._field(begin, end)
            begin = field.end
            number, length = field.number, field.end - field.value
            if number in left_out or (number in values and length > SMALL):
                continue
            if field.kind == 2 and number in inside:
                made += self._inner(inside[number], field, depth)
            else:
                made += self._plain(field, text=number in texts)
        return made

    def _inner(self, kind: str, field: Field, depth: int) -> bytes:
        """A message inside a message, with its tag and its new length."""
        if kind == "Entry" and not self._is_needed(field):
            return b""
        before = self.size
        inner = self._message(kind, field.value, field.end, depth + 1)
        head = _number(field.number << 3 | 2) + _number(len(inner))
        self._take(max(0, len(head) + len(inner) - (self.size - before)))
        return head + inner

    def _is_needed(self, field: Field) -> bool:
        """Return True for metadata that tells where a node stands, or where values are."""
        text = self.content[field.value : min(field.end, field.value + 64)]
        long = field.end - field.value > SMALL
        return not long and (b"pkg.torch" not in text or any(word in text for word in _NEEDED))

    def _plain(self, field: Field, *, text: bool) -> bytes:
        """A field as it is; protobuf would hand on a name of other bytes than text.

        Raises:
            RequestError: it is such a name.
        """
        self._take(field.end - field.begin)
        if text:
            try:
                self.content[field.value : field.end].decode()
            except UnicodeDecodeError:
                raise damaged(self.name, f"a name at byte {field.begin:,} is no text") from None
        return self.content[field.begin : field.end]

    def _take(self, nbytes: int) -> None:
        """Count bytes that are kept.

        Raises:
            RequestError: there are more than of any network.
        """
        self.size += nbytes
        if self.size > MAX_BYTES:
            raise RequestError(
                f"{printable(self.name)}: its graph has more than {MAX_BYTES >> 20} MiB without "
                "the weights: refused; name the code that it was exported from"
            )

    def _field(self, begin: int, end: int) -> Field:
        """The field that begins at a byte.

        Raises:
            RequestError: there is none, or it reaches beyond its message.
        """
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise RequestError(
                f"{printable(self.name)}: its graph has more than {MAX_FIELDS:,} fields: refused; "
                "name the code that it was exported from"
            )
        tag, after = self._varint(begin, end)
        number, kind = tag >> 3, tag & 7
        value = after
        if kind == 0:
            after = self._varint(after, end)[1]
        elif kind == 1:
            after += 8
        elif kind == 2:
            length, value = self._varint(after, end)
            after = value + length
        elif kind == 5:
            after += 4
        else:
            raise damaged(self.name, f"a field of no kind at byte {begin:,}")
        if after > end or not number:
            raise damaged(self.name, f"byte {begin:,} has a field that its message has no room for")
        return Field(number, kind, begin, value, after)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """A number of seven bits to a byte, and where it ends."""
        content, value = self.content, 0
        if at < end and content[at] < 128:  # most are one byte
            return content[at], at + 1
        for shift in range(0, 7 * _LONGEST, 7):
            if at >= end:
                break
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise damaged(self.name, f"it ends, or is no number, at byte {at:,}")


def _number(value: int) -> bytes:
    """A number as the wire format has it."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
