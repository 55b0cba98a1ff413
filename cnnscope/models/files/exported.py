"""Programs that `torch.export.save` wrote: the graph runs again, on tensors without data.

`torch.export.load` is not called. It reads every weight, unpickles what the archive asks for
(sample inputs, tensor subclasses and constants, the first of them with `weights_only=False` as a
fallback), evaluates symbolic shapes as Python expressions and opens compiled libraries: a program
from a stranger could do anything. The graph itself is JSON (torch/_export/serde/schema.py), and
holds the shape of every weight. So the JSON is read, the weights stay in the file, and each
operation is run on the meta device, if `permitted.py` lists it. All of the graph is read and
checked before the first operation runs.

The modules that a program was exported from are known by the stack of every operation, so the
program is rebuilt as a tree of modules that are called as the original ones were.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cnnscope.errors import CnnscopeError, RequestError
from cnnscope.models.files import archive, permitted, rebuilt
from cnnscope.models.files.rebuilt import Made, Name, Node, Part, State, Step
from cnnscope.records.catalogue import About
from cnnscope.records.trace import Inputs, Shape, TensorSpec
from cnnscope.text import printable

SCHEMA = 8  # the major version of the JSON that this file reads
_META = permitted.META
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")

# torch/_export/serde/schema.py, ScalarType, MemoryFormat.
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_ASSERTIONS = frozenset(  # dropped: about shapes that are numbers here, and devices not used
    "aten._assert_tensor_metadata.default aten.sym_constrain_range.default "
    "aten.sym_constrain_range_for_size.default aten._assert_scalar.default "
    "aten._assert_async.msg torchvision._cuda_version.default".split()
)


class Program:
    """An exported program in a file, as a source of models."""

    def __init__(self, file: str) -> None:
        """Read the graph.

        Raises:
            RequestError: the file is no exported program, or not one that can be read here.
        """
        self.file = file
        found = archive.entries(file)
        names = [name for name in found if name.startswith("models/")]
        if len(names) != 1:
            raise RequestError(
                f"{printable(file)} holds {len(names)} programs: save each in a file"
            )
        self._model = names[0].removeprefix("models/").removesuffix(".json")
        self._found = found
        self._document: Any = self._json(names[0])
        with self._understood():
            version = self._document["schema_version"]["major"]
        if version != SCHEMA:
            raise RequestError(
                f"{printable(file)} was exported by torch {self._torch()} with version "
                f"{printable(str(version), 20)} of the format; this cnnscope reads version "
                f"{SCHEMA}: export it again with torch 2.9 or later"
            )

    def names(self) -> list[str]:
        """The file."""
        return [self.file]

    def about(self, name: str, shape: Shape) -> About:
        """Nothing is published of it."""
        del name, shape
        return About("")

    def versions(self) -> dict[str, str]:
        """Of torch here, and of the torch that exported the program."""
        return {"torch": str(torch.__version__), "torch.export": self._torch()}

    def build(self, name: str, arguments: Mapping[str, Any]) -> nn.Module:
        """The program as a tree of modules on the meta device.

        Raises:
            RequestError: arguments were given, or the program cannot be understood.
        """
        rebuilt.require_no_arguments(name, "an exported program", arguments)
        with self._understood():
            return _Builder(self._document["graph_module"], self._weights()).build()

    def default_inputs(self, name: str, model: nn.Module) -> Inputs:
        """Inputs that the program was exported with."""
        del name, model
        return Inputs(tuple(traced for traced, _ in self._inputs()))

    def notes(self) -> tuple[str, ...]:
        """Notes on the program for the report."""
        with self._understood():
            nodes = self._document["graph_module"]["graph"]["nodes"]
            trains = any(_trains(argument) for node in nodes for argument in node["inputs"])
        if trains:
            return ("it was exported in training mode: model.eval() before torch.export.export",)
        return ()

    def accept(self, inputs: Inputs) -> None:
        """Check sizes against those that the program was exported for.

        Raises:
            RequestError: a size that is fixed, or out of its range, or another dtype.
        """
        bound: dict[str, int] = {}
        for given, (traced, sizes) in zip(inputs.tensors, self._inputs(), strict=True):
            if given.dtype != traced.dtype:
                raise RequestError(
                    f"{printable(self.file)} was exported for {traced.dtype} and takes no "
                    f"{given.dtype}; leave the dtype out of --input"
                )
            for axis, (size, wanted) in enumerate(zip(given.shape, sizes, strict=True)):
                self._check(given, axis, size, wanted, bound)

    def _check(
        self, given: TensorSpec, axis: int, size: int, wanted: int | str, bound: dict[str, int]
    ) -> None:
        shown = f"{printable(self.file)} at {'x'.join(map(str, given.shape))}"
        if isinstance(wanted, int):
            if size != wanted:
                raise RequestError(
                    f"{shown}: dimension {axis} was exported as {wanted} and cannot be {size}; "
                    "export it again with this dimension in dynamic_shapes"
                )
            return
        symbol = _SYMBOL.fullmatch(wanted)
        if symbol is None:
            return  # an expression of other sizes: the program's own operations will tell
        name = symbol[1]
        if bound.setdefault(name, size) != size:
            raise RequestError(
                f"{shown}: dimension {axis} must be {bound[name]}, the size of another dimension "
                "that it was exported as equal to; give both one size"
            )
        with self._understood():
            limits = self._document["range_constraints"].get(name, {})
            low, high = limits.get("min_val"), limits.get("max_val")
            outside = (low is not None and size < low) or (high is not None and size > high)
        if outside:
            raise RequestError(
                f"{shown}: dimension {axis} was exported for sizes from {low} to "
                f"{'any' if high is None else high}; give one of these"
            )

    def _inputs(self) -> list[tuple[TensorSpec, tuple[int | str, ...]]]:
        """Of every tensor input what it was exported with, and each size: a number or a symbol."""
        found = []
        with self._understood():
            module = self._document["graph_module"]
            for spec in module["signature"]["input_specs"]:
                tensor = spec.get("user_input", {}).get("arg", {}).get("as_tensor")
                if tensor is not None:
                    meta = module["graph"]["tensor_values"][tensor["name"]]
                    sizes = tuple(map(_size, meta["sizes"]))
                    hints = tuple(map(_hint, meta["sizes"]))
                    found.append((TensorSpec(hints, _DTYPES[meta["dtype"]]), sizes))
        return found

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Whatever is missing in the graph, or of another kind, is damage."""
        try:
            yield
        except CnnscopeError:
            raise
        except Exception as error:
            text = f"its graph cannot be understood ({type(error).__name__}: {error})"
            raise archive.damaged(self.file, printable(text, 200)) from error

    def _weights(self) -> dict[str, Any]:
        """Of every weight its entry in the archive (equal for tied ones) and what it is of it."""
        configs = {}
        for folder in ("weights", "constants"):
            name = f"data/{folder}/{self._model}_{folder}_config.json"
            if name in self._found:
                for key, payload in self._json(name)["config"].items():
                    configs[key] = {**payload, "file": f"data/{folder}/{payload['path_name']}"}
        for payload in configs.values():
            entry = self._found.get(payload["file"])
            payload["nbytes"] = entry.file_size if entry and not payload["use_pickle"] else None
        return configs

    def _json(self, name: str) -> Any:
        return archive.parsed(self.file, archive.read(self.file, self._found[name]), name)

    def _torch(self) -> str:
        return printable(str(self._document.get("torch_version", "?")), 30)


# ------------------------------------------------------------------------- from JSON to modules


class _Builder:
    """Makes modules of a graph."""

    def __init__(self, document: Any, weights: Mapping[str, Any]) -> None:
        self.graph, self.signature = document["graph"], document["signature"]
        self.weights = weights
        self.tree = rebuilt.Tree()
        self.tied: dict[Any, Tensor] = {}
        self.constants: dict[str, Any] = {}
        self.inlined = itertools.count()

    def build(self) -> Part:
        """The root, ready to be called with the tensors of the program's inputs."""
        nodes = _stacked(self._limited(self._nodes(self.graph, {})))
        for node in nodes:
            for _, path, kind in node.stack:
                self.tree.add(path, kind)
        root = self.tree.parts[""]
        inputs = [name for spec in self.signature["input_specs"] if (name := self._adopt(spec))]
        outputs = tuple(dict.fromkeys(self._outputs()))
        nodes = [node._replace(step=self._with_state(node.step)) for node in nodes]
        for node in nodes:
            if node.stack:
                _describe(self.tree.parts[node.stack[-1][1]], node.step)
        rebuilt.require_order(inputs, [node.step for node in nodes], outputs)
        call = self.tree.call(root, nodes, 1, tuple(inputs), outputs)
        root.exported_call = call._replace(root=True)
        return root

    def _limited(self, nodes: Iterator[Node]) -> list[Node]:
        """All operations.

        Raises:
            RequestError: there are more than of any network.
        """
        found = list(itertools.islice(nodes, rebuilt.MAX_NODES + 1))
        if len(found) > rebuilt.MAX_NODES:
            raise RequestError(
                f"the program has more than {rebuilt.MAX_NODES:,} operations: refused; "
                "give the code"
            )
        return found

    # -- modules and what they hold

    def _adopt(self, spec: Mapping[str, Any]) -> str:
        """Register an input of the graph; the name of one that the user gives, else nothing."""
        if "user_input" in spec:
            argument = spec["user_input"]["arg"]
            if "as_tensor" in argument:
                return str(argument["as_tensor"]["name"])
            raise ValueError(f"an input that is no tensor: {next(iter(argument))}")
        for kind in ("parameter", "buffer", "tensor_constant"):
            if kind in spec:
                self._adopt_state(kind, spec[kind])
                return ""
        if "constant_input" in spec:
            given = spec["constant_input"]
            self.constants[given["name"]] = _constant(next(iter(given["value"].values()), None))
            return ""
        raise ValueError(f"an input of a kind that is not known: {', '.join(spec)}")

    def _adopt_state(self, kind: str, spec: Mapping[str, Any]) -> None:
        value, path = spec["arg"]["name"], _printable(spec[f"{kind}_name"])
        outer, _, name = path.rpartition(".")
        tensor = self._tensor(path, value, parameter=kind == "parameter")
        part = self.tree.add(rebuilt.not_deep(outer), "")
        if getattr(part, name, tensor) is not tensor:  # torch 2.9 lists a tied weight twice
            raise ValueError(f"a {kind} of a name that is taken: {path}")
        if kind == "parameter":
            part.register_parameter(name, tensor)  # type: ignore[arg-type]
        elif kind == "buffer":
            part.register_buffer(name, tensor, persistent=bool(spec["persistent"]))
        else:
            setattr(part, name, tensor)
        self.constants[value] = State(part, name)

    def _tensor(self, path: str, value: str, *, parameter: bool) -> Tensor:
        """A meta tensor for a weight: the one made before, if it is tied to it."""
        stored: Mapping[str, Any] = self.weights.get(path, {})
        meta = stored.get("tensor_meta") or self.graph["tensor_values"][value]
        sizes, strides = tuple(map(_hint, meta["sizes"])), tuple(map(_hint, meta["strides"]))
        window = (_hint(meta["storage_offset"]), sizes, strides, meta["dtype"])
        key = (stored.get("file", path), window, parameter)
        if key not in self.tied:
            tensor = self._window(stored, window)
            if parameter:
                tensor = nn.Parameter(tensor, requires_grad=bool(meta["requires_grad"]))
            self.tied[key] = tensor
        return self.tied[key]

    def _window(self, stored: Mapping[str, Any], window: tuple[Any, ...]) -> Tensor:
        """A tensor in the memory of its entry of the archive, which other weights may share."""
        offset, sizes, strides, number = window
        if min((offset, *sizes, *strides)) < 0 or len(sizes) > permitted.MAX_RANK:
            raise ValueError("a weight whose sizes are none")
        dtype = getattr(torch, _DTYPES[number])
        extent = offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        needed = extent * dtype.itemsize if math.prod(sizes) else 0
        if stored.get("nbytes") is None:
            return torch.empty_strided(sizes, strides, dtype=dtype, device=_META)
        if needed > stored["nbytes"]:
            raise ValueError(f"a weight needs {needed} bytes of {stored['nbytes']} stored")
        memory = self.tied.get(stored["file"])
        if memory is None:
            memory = torch.empty(stored["nbytes"], dtype=torch.uint8, device=_META)
            self.tied[stored["file"]] = memory
        empty = torch.empty(0, dtype=dtype, device=_META)
        return empty.set_(memory.untyped_storage(), offset, sizes, strides)

    def _outputs(self) -> Iterator[str]:
        """The values that the program returns, without buffers that it changed."""
        for spec in self.signature["output_specs"]:
            found = spec.get("user_output", {}).get("arg", {})
            if "as_tensor" in found and found["as_tensor"]["name"] not in self.constants:
                yield found["as_tensor"]["name"]

    # -- the graph

    def _nodes(self, graph: Mapping[str, Any], renamed: dict[str, Any]) -> Iterator[Node]:
        """All operations in order, those of graphs inside the graph in their place."""
        for node in graph["nodes"]:
            target = node["target"]
            if target.startswith("torch.ops.higher_order."):
                yield from self._inline(target.rpartition(".")[2], node, renamed)
            elif target.removeprefix("torch.ops.") not in _ASSERTIONS:
                stack = _stack(node["metadata"].get("nn_module_stack", ""))
                yield Node(_step(target, node, renamed), stack)

    def _inline(self, kind: str, node: Any, renamed: dict[str, Any]) -> Iterator[Node]:
        """The operations of a graph that another one runs once and as it is.

        Raises:
            RequestError: whether and how often it runs is decided by data.
        """
        arguments = [argument["arg"] for argument in node["inputs"]]
        position = next((i for i, a in enumerate(arguments) if "as_graph" in a), None)
        plain = kind == "wrap_with_set_grad_enabled" or (
            kind == "wrap_with_autocast" and arguments[2] == {"as_bool": False}
        )
        if not plain or position is None:
            raise RequestError(
                f"the program has an operation that runs others ({printable(kind)}), whose cost "
                "has no single answer: export the model without control flow and autocast"
            )
        inner = arguments[position]["as_graph"]["graph"]
        names: dict[str, Any] = _Prefixed(f"{next(self.inlined)}/")
        for own, given in zip(inner["inputs"], arguments[position + 1 :], strict=True):
            names[_value(own, {}).name] = _value(given, renamed)
        for own, outer in zip(_flat(inner["outputs"]), _flat(node["outputs"]), strict=True):
            names[own] = _named(outer, renamed)
        yield from self._nodes(inner, names)

    def _with_state(self, step: Step) -> Step:
        """Values that are weights or constants are read where they are kept."""
        return step._replace(
            args=rebuilt.filled(step.args, self.constants),
            kwargs=rebuilt.filled(step.kwargs, self.constants),
        )


class _Prefixed(dict[str, Any]):
    """Values of a graph inside a graph: those of its own get a prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, name: str) -> Name:
        return Name(self.prefix + name)


def _stack(text: str) -> tuple[tuple[str, str, str], ...]:
    """key,path,class;key,path,class from the outermost module to the innermost."""
    found: list[tuple[str, str, str]] = []
    for item in text.split(";") if text else ():
        key, _, rest = item.partition(",")
        path, _, kind = rest.rpartition(",")
        plain = _path(path.partition("@")[0])
        if plain is None or len(found) > rebuilt.MAX_DEPTH:
            break  # what is inside is told as the outer module's own
        rebuilt.not_deep(plain)
        if not found or plain != found[-1][1]:
            found.append((key, plain, kind if rebuilt.CLASS.fullmatch(kind) else ""))
    return tuple(found)


def _path(text: str) -> str | None:
    """The dotted path of a module; strict export before torch 2.10 wrote an expression for it."""
    if item := re.fullmatch(r"getattr\((.*), '([^']*)'\)", text):
        outer = _path(item[1])
        return outer if outer is None else f"{outer}.{item[2]}".lstrip(".")
    text = re.sub(r"^L\['\w+'\]\.?", "", text)
    return text if text.isprintable() and not re.search(r"[\[\](),;]", text) else None


def _stacked(nodes: list[Node]) -> list[Node]:
    """Operations without a stack (sizes that are read) lie where both neighbours are."""
    following: list[tuple[Any, ...]] = []
    after: tuple[Any, ...] = ()
    for node in reversed(nodes):
        after = node.stack or after
        following.append(after)
    before: tuple[Any, ...] = ()
    for index, (node, after) in enumerate(zip(nodes, reversed(following), strict=True)):
        if not node.stack:
            nodes[index] = node._replace(stack=_common(before, after))
        before = nodes[index].stack
    return nodes


def _common(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    pairs = zip(one, other, strict=False)
    return tuple(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _describe(part: Part, step: Step) -> None:
    """Give a layer of torch.nn the hyper-parameters that an operation or its weight tells."""
    if not type(part).__module__.startswith(rebuilt.LAYERS):
        return
    wanted = inspect.signature(type(part).__init__).parameters
    rebuilt.note(part, wanted, _arguments(step))
    rebuilt.note(part, wanted, _from_weights(part, step, wanted))
    if "in_channels" in wanted or "in_features" in wanted:
        part.register_parameter("bias", part._parameters.get("bias"))


def _arguments(step: Step) -> dict[str, Any]:
    """The numbers and words that an operation was given, or takes where it was given none."""
    if not isinstance(step.function, torch._ops.OpOverload):
        return {}
    name = step.function._schema.name
    found: dict[str, Any] = {"inplace": name.endswith("_"), "return_indices": "indices" in name}
    for argument in step.function._schema.arguments:
        value = step.kwargs.get(argument.name, argument.default_value)
        items = value if isinstance(value, list) else [value]
        if items and all(isinstance(item, (bool, int, float, str)) for item in items):
            found[argument.name] = tuple(value) if isinstance(value, list) else value
    return found


def _from_weights(part: Part, step: Step, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a layer as its weight has them, under the names that its class has for them."""
    found: dict[str, Any] = {
        "affine": "weight" in part._parameters,
        "elementwise_affine": "weight" in part._parameters,
        "track_running_stats": "running_mean" in part._buffers,
    }
    read = step.kwargs.get("weight")  # a tied one may be known under its other name alone
    state = getattr(read.module, read.name) if isinstance(read, State) else None
    if state is None:
        state = part._parameters.get("weight", part._buffers.get("running_mean"))
    if state is None:
        return found
    first, second = state.shape[0], state.shape[1] if state.dim() > 1 else 0
    found |= dict.fromkeys(("num_features", "num_channels", "num_embeddings"), first)
    found |= {"out_features": first, "in_features": second, "embedding_dim": second}
    if "in_channels" in wanted and "groups" in vars(part):
        wide = second * vars(part)["groups"]
        transposed = "Transpose" in type(part).__name__
        found["in_channels"], found["out_channels"] = (first, wide) if transposed else (wide, first)
        found |= {"kernel_size": tuple(state.shape[2:]), "padding_mode": "zeros"}
    return found


# ------------------------------------------------------------------------ from JSON to operations


def _step(target: str, node: Mapping[str, Any], renamed: dict[str, Any]) -> Step:
    """One operation with its arguments, checked.

    Raises:
        RequestError: it is not one that a program may use.
        ValueError: its arguments are not of its kind.
    """
    function = permitted.function(target)
    outputs = tuple(_made(argument, renamed) for argument in node["outputs"])
    given = [(argument["name"], _value(argument["arg"], renamed)) for argument in node["inputs"]]
    if not isinstance(function, torch._ops.OpOverload):
        return Step(function, [value for _, value in given], {}, outputs)
    if len(dict(given)) < len(given):
        raise ValueError(f"{target} is given an argument twice")
    return Step(function, [], permitted.arguments(function, dict(given)), outputs)


def _trains(argument: Mapping[str, Any]) -> bool:
    """Return True for the argument that makes a batch norm or dropout train."""
    return argument["name"] in ("training", "train") and argument["arg"] == {"as_bool": True}


def _value(argument: Mapping[str, Any], renamed: dict[str, Any]) -> Any:
    """Read an argument of an operation: a constant, a `Name`, or a list of those."""
    ((tag, held),) = argument.items()
    if tag in ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
        return _single(held, renamed)
    if tag in (
        "as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_bools", "as_sym_floats"
    ):  # fmt: skip
        return [_single(item, renamed) for item in held]
    if tag == "as_nested_tensors":
        return [[_single(item, renamed) for item in items] for items in held]
    if tag in _PLAIN:
        return _PLAIN[tag](held)
    raise ValueError(f"an argument of a kind that is not known: {tag}")


def _single(held: Any, renamed: dict[str, Any]) -> Any:
    """A value by its name, or a number where a size is fixed, or nothing."""
    if "name" in held:
        return _named(held["name"], renamed)
    ((tag, inner),) = held.items()
    if tag == "as_tensor":
        return _named(inner["name"], renamed)
    if tag == "as_name":
        return _named(inner, renamed)
    return None if tag == "as_none" else _constant(inner)


def _constant(value: Any) -> Any:
    """A number, a word or nothing.

    Raises:
        ValueError: it is something else, or an integer of more than 64 bits.
    """
    if type(value) is int:
        return _int(value)
    if value is None or type(value) in (bool, float, str):
        return value
    raise ValueError(f"a constant that is a {type(value).__name__}")


def _named(name: str, renamed: dict[str, Any]) -> Any:
    if type(name) is not str:
        raise ValueError(f"a name that is a {type(name).__name__}")
    if isinstance(renamed, _Prefixed):
        return renamed[name]
    return renamed.get(name, Name(name))


def _int(value: Any) -> int:
    """A size as torch has it.

    Raises:
        ValueError: it is no integer, or one of more than 64 bits.
    """
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(f"no size: {str(value)[:40]}")
    return value


def _float(held: Any) -> float:
    return float(held)  # "Infinity" is a string


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_int": _int,
    "as_bool": bool,
    "as_string": str,
    "as_float": _float,
    "as_ints": lambda held: [*map(_int, held)],
    "as_bools": list,
    "as_strings": list,
    "as_int_lists": lambda held: [[*map(_int, items)] for items in held],
    "as_floats": lambda held: [*map(_float, held)],
    "as_float_lists": lambda held: [[*map(_float, items)] for items in held],
    "as_complex": lambda held: complex(held["real"], held["imag"]),
    "as_scalar_type": lambda held: getattr(torch, _DTYPES[held]),
    "as_memory_format": lambda held: _MEMORY_FORMATS[held],
    "as_layout": lambda _: torch.strided,
    "as_device": lambda _: _META,
}


def _made(argument: Mapping[str, Any], renamed: dict[str, Any]) -> Made:
    """The names that results get."""
    value = _value(argument, renamed)
    if isinstance(value, Name):
        return value.name
    return tuple(item.name for item in value) if isinstance(value, list) else None


def _flat(outputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The names of all outputs of a graph, or of an operation."""
    for argument in outputs:
        made = _made(argument, {})
        yield from (made,) if isinstance(made, str) else made or ()


def _size(size: Mapping[str, Any]) -> int | str:
    """A fixed size, or the expression of one that is not."""
    return _int(size["as_int"]) if "as_int" in size else str(size["as_expr"]["expr_str"])


def _hint(size: Mapping[str, Any]) -> int:
    """A size as it was when the program was exported."""
    return _int(size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"])


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"a name that is none: {text}")
    return text
