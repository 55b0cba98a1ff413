"""The report on a file of weights."""

import msgspec

from cnnscope.records.summary import REPORT_SCHEMA
from cnnscope.records.trace import Shape


class StoredTensor(msgspec.Struct, frozen=True):
    """A tensor in a checkpoint, under its key. `same_as` is the first key of the same memory."""

    path: str
    shape: Shape
    dtype: str
    elements: int
    nbytes: int
    same_as: str = ""


class StoredModule(msgspec.Struct, frozen=True):
    """All tensors below one prefix of a checkpoint's keys, those of one memory counted once."""

    path: str  # "" is the whole
    depth: int
    tensors: int
    elements: int
    nbytes: int
    dtypes: tuple[str, ...]
    own: tuple[StoredTensor, ...] = ()  # directly in it, not in a module below


class StoredOther(msgspec.Struct, frozen=True):
    """An entry beside the weights: a plain value, or a number of tensors."""

    path: str
    value: str  # a literal, or the name of a class
    tensors: int = 0
    elements: int = 0


class CheckpointReport(msgspec.Struct, frozen=True):
    """The answer to `cnnscope summary` for a file that holds weights alone.

    `root` is the key under which the weights lie ("" where they are the whole file), `others`
    what lies beside them. `statistics` are elements whose key ends as batch norm's running
    statistics do: the only ones that a checkpoint gives away as buffers.
    """

    file: str
    format: str  # "torch checkpoint" or "safetensors"
    file_bytes: int
    root: str
    modules: tuple[StoredModule, ...]
    tensors: tuple[StoredTensor, ...]
    elements: int
    nbytes: int
    statistics: int
    unreferenced_bytes: int = 0  # stored, but in no tensor
    others: tuple[StoredOther, ...] = ()
    schema_version: int = REPORT_SCHEMA
