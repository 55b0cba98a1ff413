"""Read the pickle of a checkpoint as data: tensors are told, and nothing is made or called.

A pickle is a program for a small machine with a stack. `torch.load(weights_only=True)` runs it with
a list of functions that may be called, which still builds whatever the pickle asks for:
dictionaries whose keys take for ever to hash, tensors of any size, storages anywhere in the file.
Here the machine knows containers, numbers and text; a function is a name, and a tensor is what its
arguments say of it. Torch is not imported.

The operations are those that `torch.save` writes (pickle protocol 2, "pickletools" in Python's
library describes them); the functions are those that torch itself allows.
"""

from __future__ import annotations

import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MAX_BYTES = 64 * 2**20  # of a pickle; one of 5,000 tensors has half a megabyte
MAX_OPERATIONS = 2_000_000  # some 25 for each tensor
MAX_RANK = 64
MAX_KEY = 4096  # characters
PROTOCOL = 2  # of torch.save, unless it is given another

SIZES = {  # bytes of one element
    "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2,
    "float32": 4, "float64": 8, "complex32": 4, "complex64": 8, "complex128": 16, "bool": 1,
    "uint16": 2, "uint32": 4, "uint64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
    "quint8": 1, "qint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1,
    "bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1, "bits4x2": 1,
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128", "ComplexFloatStorage": "complex64",
    "QUInt8Storage": "quint8", "QInt8Storage": "qint8", "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4", "storage.UntypedStorage": "uint8",
}  # fmt: skip
_KINDS = "Double Float Half Long Int Short Char Byte Bool BFloat16".split()
_ALLOWED = frozenset(
    [
        *"collections.OrderedDict collections.Counter torch.nn.parameter.Parameter torch.Size "
        "torch.Tensor torch.device torch.serialization._get_layout _codecs.encode builtins.set "
        "builtins.bytearray builtins.complex torch._tensor._rebuild_from_type_v2 "
        "torch.per_tensor_affine torch.per_tensor_symmetric torch.per_channel_affine "
        "torch.per_channel_symmetric torch.per_channel_affine_float_qparams "
        "torch.storage.TypedStorage".split(),
        *(f"torch.{name}" for name in (*SIZES, *_STORAGES)),
        *(f"torch.{where}{kind}Tensor" for where in ("", "cuda.") for kind in _KINDS),
        *(f"torch.cuda.{kind}Storage" for kind in _KINDS),
        *(
            f"torch._utils._rebuild_{name}"
            for name in "parameter parameter_with_state qtensor tensor tensor_v2 tensor_v3 "
            "sparse_tensor meta_tensor_no_storage wrapper_subclass device_tensor_from_numpy "
            "device_tensor_from_cpu_tensor".split()
        ),
    ]
)


class DamagedError(ValueError):
    """The pickle is not one that torch writes."""


class WantsCodeError(ValueError):
    """The pickle asks for functions that do more than build weights.

    Attributes:
        names: of what it asked for.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class ProtocolError(ValueError):
    """The pickle is whole, and of a newer protocol than torch writes by itself."""


class Global(NamedTuple):
    """A function or class, by its name."""

    name: str


class Storage(NamedTuple):
    """A memory of the file."""

    key: str
    dtype: str
    elements: int


class Window(NamedTuple):
    """A tensor: what it is of which memory. `layout` names what is more than strides."""

    storage: Storage | None
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    layout: str = ""


class Other(NamedTuple):
    """Something that is no tensor, container or number: its class, and what it was made with."""

    kind: str
    content: Any


def load(data: bytes) -> Any:
    """Read a pickle as data: dicts, lists, tuples, numbers, text, `Window` and `Other`.

    Raises:
        WantsCodeError: it names functions beyond those of weights; it says all of them.
        DamagedError: it is cut off, not a pickle of torch's, or has more in it than is read.
        ProtocolError: it was saved with a pickle_protocol of 4 or more.
    """
    if len(data) > MAX_BYTES:
        raise DamagedError(f"its pickle has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    wanted = {arg for code, arg in _operations(data) if code == b"c"} - _ALLOWED
    if wanted:
        # the user's own first
        raise WantsCodeError(sorted(wanted, key=lambda name: (name.startswith("torch."), name)))
    return _Machine().run(data)


# ------------------------------------------------------------------------------ the operations

_FIXED = {  # code: the struct of its argument
    b"J": "<i", b"K": "<B", b"M": "<H", b"G": ">d", b"h": "<B", b"j": "<I", b"q": "<B",
    b"r": "<I", b"\x80": "<B",
}  # fmt: skip
_COUNTED = {b"X": "<I", b"U": "<B", b"\x8a": "<B"}  # code: the struct of its argument's length
_BARE = frozenset(bytes([code]) for code in b".N\x88\x89)]}\x8f(t\x85\x86\x87aeusR\x81bQ")


def _operations(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """Every operation with its argument, up to the last."""
    at = protocol = 0
    for _ in range(MAX_OPERATIONS):
        code = data[at : at + 1]
        at += 1
        argument: Any = None
        if code in _FIXED:
            (argument,) = _unpacked(_FIXED[code], data, at)
            at += struct.calcsize(_FIXED[code])
            protocol = argument if code == b"\x80" else protocol
        elif code in _COUNTED:
            (length,) = _unpacked(_COUNTED[code], data, at)
            at += struct.calcsize(_COUNTED[code])
            argument = data[at : at + length]
            if len(argument) < length:
                raise DamagedError("its pickle is cut off")
            at += length
        elif code == b"c":
            argument, at = _global(data, at)
        elif code not in _BARE:
            raise _foreign(code, protocol)
        yield code, argument
        if code == b".":
            return
    raise DamagedError(f"its pickle has more than {MAX_OPERATIONS:,} operations")


def _foreign(code: bytes, protocol: int) -> ValueError:
    """Make the error for an operation that is not read."""
    if not code:
        return DamagedError("its pickle is cut off")
    if protocol > PROTOCOL:
        return ProtocolError(f"its pickle is of protocol {protocol}")
    return DamagedError(f"its pickle has operation {code!r}, which torch.save does not write")


def _unpacked(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise DamagedError("its pickle is cut off") from None


def _global(data: bytes, at: int) -> tuple[str, int]:
    """A name from two lines, under the name that Python 3 has for it."""
    middle = data.find(b"\n", at, at + 1024)
    end = data.find(b"\n", middle + 1, middle + 1024)
    if middle < 0 or end < 0:
        raise DamagedError("its pickle has a name without an end")
    module, name = _text(data[at:middle]), _text(data[middle + 1 : end])
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    else:
        module = IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}", end + 1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


# --------------------------------------------------------------------------------- the machine


class _Machine:
    """Carries out the operations of a pickle on plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left = MAX_OPERATIONS  # elements that are copied, beside those of operations

    def run(self, data: bytes) -> Any:
        """The value that is left at the end."""
        for code, argument in _operations(data):
            if code == b".":
                break
            try:
                _DO[code](self, argument)
            except (IndexError, KeyError):
                raise DamagedError("its pickle takes what is not there") from None
        if len(self.stack) != 1 or self.marks:
            raise DamagedError("its pickle leaves something behind")
        return self.stack[0]

    def push(self, value: Any) -> None:
        """Lay a value on the stack."""
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        """Begin a new stack above this one."""
        self.marks.append(self.stack)
        self.stack = []

    def group(self, count: int) -> None:
        """Make a tuple of the last values."""
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def append(self, items: list[Any]) -> None:
        """Put items into the list below."""
        if type(self.stack[-1]) is not list:
            raise DamagedError("its pickle appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, flat: list[Any]) -> None:
        """Put keys and values into the dictionary below."""
        if len(flat) % 2:
            raise DamagedError("its pickle has a key without a value")
        _fill(self.stack[-1], zip(flat[::2], flat[1::2], strict=True))

    def remember(self, index: int) -> None:
        """Keep the topmost value under a number."""
        self.memo[index] = self.stack[-1]

    def reduce(self, _: Any) -> None:
        """Call a function, in name only."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        self.push(self._called(function, arguments))

    def build(self, _: Any) -> None:
        """Give an object its state: of weights, that is their memory (torch before 0.4)."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, Other) and made.kind.endswith("Tensor") and isinstance(state, tuple):
            self.stack[-1] = _window(*state[:4])

    def storage(self, _: Any) -> None:
        """A memory, by the tuple that names it."""
        given = self.stack.pop()
        if not isinstance(given, tuple) or len(given) != 5 or given[0] != "storage":
            raise DamagedError("its pickle refers to something that is no storage")
        _, kind, key, _, elements = given
        name = kind.name.removeprefix("torch.").removeprefix("cuda.") if _is_global(kind) else ""
        if name not in _STORAGES or type(key) is not str or not _is_size(elements):
            raise DamagedError("its pickle refers to a storage of no kind")
        self.push(Storage(key, _STORAGES[name], elements))

    def _called(self, function: Any, arguments: Any) -> Any:
        if not _is_global(function) or not isinstance(arguments, tuple):
            raise DamagedError("its pickle calls what is no function")
        if function.name in ("collections.OrderedDict", "collections.Counter"):
            return self._mapping(arguments)
        try:
            if function.name == "torch._tensor._rebuild_from_type_v2":
                return self._called(arguments[0], arguments[2])
            if function.name in _REBUILD:
                return _REBUILD[function.name](*arguments)
        except TypeError:  # too few arguments or too many
            raise DamagedError(f"its pickle calls {function.name} with others") from None
        if function.name == "torch.Size" and arguments and isinstance(arguments[0], tuple):
            return arguments[0]
        return Other(function.name, arguments)

    def _mapping(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        """A dictionary from none, from another, or from a list of pairs."""
        if not arguments:
            return {}
        given = arguments[0]
        pairs = list(given.items()) if isinstance(given, dict) else given
        if not isinstance(pairs, (list, tuple)) or any(
            not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in pairs
        ):
            raise DamagedError("its pickle makes a dictionary from what are no pairs")
        self.left -= len(pairs)
        if self.left < 0:
            raise DamagedError("its pickle copies without end")
        return _fill({}, ((pair[0], pair[1]) for pair in pairs))


def _fill(mapping: Any, pairs: Any) -> dict[Any, Any]:
    """Put pairs into a dictionary; only what is hashed in no time may be a key."""
    if type(mapping) is not dict:
        raise DamagedError("its pickle sets an item of what is no dictionary")
    for key, value in pairs:
        if type(key) not in (str, int, float, bool, type(None)):
            raise DamagedError(
                f"a key of its dictionaries is a {type(key).__name__}; keys are text or numbers"
            )
        if type(key) is str and len(key) > MAX_KEY:
            raise DamagedError(f"a key of its dictionaries has {len(key):,} characters")
        mapping[key] = value
    return mapping


# --------------------------------------------------------------------------------- tensors


def _is_global(value: Any) -> bool:
    return isinstance(value, Global)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _dtype(value: Any) -> str:
    name = value.name.removeprefix("torch.") if _is_global(value) else ""
    if name not in SIZES:
        raise DamagedError("its pickle has a dtype that is none")
    return name


def _window(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Window:
    """A tensor in a memory (torch._utils._rebuild_tensor and its later versions)."""
    if not isinstance(storage, Storage):
        raise DamagedError("its pickle has a tensor without a storage")
    return _checked(Window(storage, storage.dtype, offset, shape, stride))


def _window_of_dtype(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Window:
    """Of a dtype that has no storage class: the third of the rest, after gradient and hooks."""
    if len(rest) < 3:
        raise DamagedError("its pickle has a tensor without a dtype")
    return _window(storage, offset, shape, stride)._replace(dtype=_dtype(rest[2]))


def _window_without(dtype: Any, shape: Any, stride: Any, *_: Any) -> Window:
    """A tensor of the meta device, whose memory was not saved."""
    return _checked(Window(None, _dtype(dtype), 0, shape, stride))


def _checked(window: Window) -> Window:
    numbers = (window.shape, window.stride)
    if not all(isinstance(n, tuple) and len(n) <= MAX_RANK for n in numbers):
        raise DamagedError("its pickle has a tensor whose sizes are none")
    sizes = (window.offset, *window.shape, *window.stride)
    if not all(map(_is_size, sizes)) or len(window.shape) != len(window.stride):
        raise DamagedError("its pickle has a tensor whose sizes are none")
    return window


def _quantised(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Window:
    return _window(storage, offset, shape, stride)._replace(layout="quantized")


def _sparse(*_: Any) -> Window:
    return Window(None, "float32", 0, (), (), layout="sparse")


def _of_device(data: Any, dtype: Any, *_: Any) -> Any:
    """A tensor of a device that was saved as one of the CPU."""
    return data._replace(dtype=_dtype(dtype)) if isinstance(data, Window) else data


def _first(data: Any, *_: Any) -> Any:
    return data


_REBUILD: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _window,
    "torch._utils._rebuild_tensor_v2": _window,
    "torch._utils._rebuild_tensor_v3": _window_of_dtype,
    "torch._utils._rebuild_meta_tensor_no_storage": _window_without,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _of_device,
}

_DO: dict[bytes, Callable[[_Machine, Any], None]] = {
    b"\x80": lambda _, __: None,
    b"N": lambda m, _: m.push(None),
    b"\x88": lambda m, _: m.push(True),
    b"\x89": lambda m, _: m.push(False),
    b")": lambda m, _: m.push(()),
    b"]": lambda m, _: m.push([]),
    b"}": lambda m, _: m.push({}),
    b"\x8f": lambda m, _: m.push(Other("set", ())),
    b"J": _Machine.push,
    b"K": _Machine.push,
    b"M": _Machine.push,
    b"G": _Machine.push,
    b"X": lambda m, text: m.push(text.decode("utf-8", "surrogatepass")),
    b"U": lambda m, text: m.push(_text(text)),
    b"\x8a": lambda m, number: m.push(int.from_bytes(number, "little", signed=True)),
    b"c": lambda m, name: m.push(Global(name)),
    b"(": _Machine.mark,
    b"t": lambda m, _: m.push(tuple(m.marked())),
    b"\x85": lambda m, _: m.group(1),
    b"\x86": lambda m, _: m.group(2),
    b"\x87": lambda m, _: m.group(3),
    b"a": lambda m, _: m.append([m.stack.pop()]),
    b"e": lambda m, _: m.append(m.marked()),
    b"s": lambda m, _: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    b"u": lambda m, _: m.set_items(m.marked()),
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"b": _Machine.build,
    b"Q": _Machine.storage,
    b"h": lambda m, index: m.push(m.memo[index]),
    b"j": lambda m, index: m.push(m.memo[index]),
    b"q": _Machine.remember,
    b"r": _Machine.remember,
}
