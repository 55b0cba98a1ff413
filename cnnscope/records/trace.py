"""The trace: everything that one forward of a model did, and nothing of torch."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Literal, Self, get_args

import msgspec

from cnnscope.records.form import Form, one_list
from cnnscope.records.index import TraceIndex
from cnnscope.text import visible

TRACE_SCHEMA = 1
Accuracy = Literal["exact", "at most", "unknown"]  # of memory
Shape = tuple[int, ...]
Plain = bool | int | float | str | None
Attribute = Plain | tuple[Plain, ...]


def least_exact(found: Iterable[Accuracy]) -> Accuracy:
    """How exact a number is of which this is known; of which nothing is, it is exact."""
    return max(("exact", *found), key=get_args(Accuracy).index)


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor that has no data: its shape and its dtype ("float32").

    `name` is that of an input in the call of forward (see `Form.names`), left out where it has
    none.
    """

    shape: Shape
    dtype: str = "float32"
    name: str | msgspec.UnsetType = msgspec.UNSET

    def __str__(self) -> str:
        shown = f"{'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"
        return f"{visible(self.name)} {shown}" if self.name else shown


class Inputs(msgspec.Struct, frozen=True):
    """Arguments of a forward: its tensors, and the form that they are given in.

    A form of None gives each tensor by its place.
    """

    tensors: tuple[TensorSpec, ...]
    form: Form | None = None

    @classmethod
    def listed(cls, tensors: Sequence[TensorSpec]) -> Self:
        """All tensors in one list."""
        return cls(tuple(tensors), one_list(len(tensors)))

    @property
    def as_list(self) -> bool:
        """True if all tensors are given in one list, as torchvision's detectors want images."""
        return self.form is not None and self.form.one_list

    def of(self, tensors: Sequence[TensorSpec]) -> "Inputs":
        """The same arguments with other tensors."""
        return Inputs(tuple(tensors), self.form)


class Source(msgspec.Struct, frozen=True):
    """Source of a model: its specification, arguments, and the versions of its libraries."""

    spec: str
    source: str
    name: str
    arguments: dict[str, str] = {}  # as Python literals
    versions: dict[str, str] = {}


class ModuleRecord(msgspec.Struct, frozen=True):
    """An `nn.Module`: its dotted path ("" is the model), class, and documented hyper-parameters.

    `base` is the nearest class of `torch.nn` that it is made from ("" for a plain `Module`): a
    module whose base is its own class is the library's, and its inside is not shown.
    `registered` is False for one that ran and is no part of the model: held in a plain list or in
    a closure, or made by the forward.
    """

    path: str
    kind: str
    base: str = ""
    hyper: dict[str, Attribute] = {}
    registered: bool = True

    @property
    def library(self) -> bool:
        """True for a class of `torch.nn` itself."""
        return self.kind == self.base


class CallRecord(msgspec.Struct, frozen=True):
    """One execution of a module: a module that runs twice has two.

    `parent` is a call id or -1, `start` the id of the operation that ran next after it began.
    `line` is the source line that called it ("torchvision/models/resnet.py:92"), "" where none but
    PyTorch's own did: the last file below a folder of `sys.path`, and never a whole path.
    """

    module: int
    parent: int
    start: int = 0
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    line: str = ""


class ParamRecord(msgspec.Struct, frozen=True):
    """A parameter or buffer. `tensor` is the id under which operations read it.

    Names that share one storage (tied weights) are one record with `aliases`. `used` tells
    whether any operation read it.
    """

    path: str
    tensor: int
    aliases: tuple[str, ...] = ()
    trainable: bool = True
    buffer: bool = False
    used: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Its path, and those of others that share it."""
        return self.path, *self.aliases


class StorageRecord(msgspec.Struct, frozen=True):
    """Memory behind one or more tensors, alive from operation `born` until before `died`.

    Operation ids; `born` is -1 for what was there before the run, `died` the number of
    operations for what outlived it.
    """

    nbytes: int
    born: int
    died: int


class TensorRecord(msgspec.Struct, frozen=True):
    """A value, in static single assignment: an in-place operation makes a new one."""

    shape: Shape
    dtype: str
    storage: int


class OpRecord(msgspec.Struct, frozen=True):
    """One operation: its name ("aten.add_.Tensor"), the call that it ran in (or -1).

    `inputs` maps argument names to tensor ids (or tuples of them, None where one was left out),
    `attributes` the other arguments.
    """

    name: str
    inputs: dict[str, int | tuple[int | None, ...]]
    outputs: tuple[int, ...]
    attributes: dict[str, Attribute] = {}
    call: int = -1

    def arguments(self) -> Iterator[tuple[str, int]]:
        """Name of the argument and id of each tensor that is read, lists taken apart."""
        for name, value in self.inputs.items():
            for tensor in value if isinstance(value, tuple) else (value,):
                if tensor is not None:
                    yield name, tensor

    @property
    def tensors(self) -> tuple[int, ...]:
        """Ids of the tensors that are read, in the order of the arguments."""
        found: list[int] = []
        for value in self.inputs.values():
            if isinstance(value, tuple):
                found += [tensor for tensor in value if tensor is not None]
            else:
                found.append(value)
        return tuple(found)


class Dropped(msgspec.Struct, frozen=True):
    """A tensor that dropout is called on, by which call (or -1).

    `always` says that it drops in inference as well.
    """

    tensor: int
    call: int = -1
    always: bool = False


class Break(msgspec.Struct, frozen=True):
    """Where and why a forward raised: its trace ends there.

    `call` is the id of the innermost call that was running, -1 outside of all. `operation` is what
    refused its operands; None where Python code raised. `expression` is the source of the call in
    the user's code that raised ("x.reshape(1, 5)"), `line` where it is ("net.py:12"). `error` is
    the type of the exception, `message` what it says. `cause` says that in words, and `remedy`
    what would run; "" where it is not known.
    """

    call: int
    shapes: tuple[Shape, ...] = ()
    operation: OpRecord | None = None
    error: str = ""
    message: str = ""
    expression: str = ""
    line: str = ""
    cause: str = ""
    remedy: str = ""


class Trace(msgspec.Struct, frozen=True, dict=True):
    """Everything that one forward of a model did, and nothing of torch.

    `form` is how forward was given its inputs; None for each by its place.
    `strays` are weights that were read and are no parameters of the model. `decided_by` has "data"
    and "random" where Python has looked at either, so that another run may take another path.
    `within` are the calls of parametrizations, whose operations and parameters are those of the
    layer around them (`parent`); their `start` is the number of `calls` that began before.
    `drawn` are the generators of random numbers that Python drew from, `dropouts` the tensors that
    dropout is called on, `unreached` the trainable parameters that were read and that no gradient
    of an output reaches (`no_grad`: the forward has switched gradients off). `asks_training` are
    the modules whose code takes another path in training, `own_train` those with a `train()` of
    their own, `nothing` the places of what forward returned that are None ("" is all of it), `late`
    the storages of parameters and buffers that the forward itself has registered, `host` those in
    the host's memory wherever the model runs (the state of a CPU's random numbers). `accuracy` is
    that of the memory; where it is not exact, a note says why.
    `broken` says where the forward raised, None for one that returned: of a broken one, calls that
    had not ended have no outputs, and parameters are those of the whole model.
    """

    source: Source
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    modules: tuple[ModuleRecord, ...]
    calls: tuple[CallRecord, ...]
    params: tuple[ParamRecord, ...]
    tensors: tuple[TensorRecord, ...]
    storages: tuple[StorageRecord, ...]
    ops: tuple[OpRecord, ...]
    device: str = "meta"
    notes: tuple[str, ...] = ()
    form: Form | None = None
    strays: tuple[ParamRecord, ...] = ()
    decided_by: tuple[str, ...] = ()
    within: tuple[CallRecord, ...] = ()
    drawn: tuple[str, ...] = ()
    dropouts: tuple[Dropped, ...] = ()
    unreached: tuple[str, ...] = ()
    no_grad: bool = False
    asks_training: tuple[str, ...] = ()
    own_train: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()
    late: tuple[int, ...] = ()
    host: tuple[int, ...] = ()
    accuracy: Accuracy = "exact"
    broken: Break | None = None
    schema_version: int = TRACE_SCHEMA

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """Shape and dtype of every input, with the name that it has in the call of forward."""
        form = None if self.form is None or self.form.one_list else self.form
        names = itertools.chain(form.names if form else (), itertools.repeat(""))
        records = (self.tensors[number] for number in self.inputs)
        return tuple(
            TensorSpec(one.shape, one.dtype, name or msgspec.UNSET)
            for one, name in zip(records, names, strict=False)
        )

    @property
    def given(self) -> Inputs:
        """The arguments of its forward, to be made again."""
        specs = (TensorSpec(one.shape, one.dtype) for one in self.input_specs)
        return Inputs(tuple(specs), self.form)

    @cached_property
    def index(self) -> TraceIndex:
        """Lookups over calls and operations; no part of what is saved."""
        return TraceIndex(self.modules, self.calls, self.ops, self.inputs)
