"""Files that a stranger may send: valid ones, changed at random, and the witnesses of what happens.

Every change is made from a seed, so that a file that breaks the program can be made again. What the
program does with it is watched in a process of its own: which files it opens to write, what it
starts or connects to (Python's audit events), what lies in the working folder afterwards (libraries
written in C++ are not audited), how much memory and time it took.
"""

import contextlib
import functools
import json
import os
import pickle
import random
import resource
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision.io  # noqa: F401  registers operations that read and write files
from command_line import run_cli
from torch import nn

from cnnscope.models.files import permitted

SECONDS = 10
MEMORY = 2**30
MARK = "WRITTEN"  # how every file begins that a mutation tries to make

# ------------------------------------------------------------------------------ valid files


class Net(nn.Module):
    """Layers, views, a split, a buffer, numbers made from sizes."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(32, 4)
        self.register_buffer("scale", torch.ones(8, 1, 1))

    def forward(self, x):
        x = torch.relu_(self.norm(self.conv(x))) * self.scale
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, right.flip(2).transpose(2, 3)), 1)
        x = nn.functional.interpolate(x, scale_factor=2.0)[:, :, ::2, 1:]
        return self.head(self.pool(x).view(x.shape[0], -1)).softmax(1)


class Chooser(nn.Module):
    """Looks at its data: some values are needed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        boxes = self.conv(x).flatten()[:40].reshape(10, 4)
        grid = torch.arange(10)[:, None].expand(10, 4) * 2
        return boxes[torch.where(boxes[:, 0] > 0.1)[0]], torch.nonzero(grid > 3)


class Recurrent(nn.Module):
    """Time steps, which are unrolled."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(2, 4, 3, padding=1), nn.LSTM(4, 3, batch_first=True)

    def forward(self, x):
        return self.lstm(self.conv(x).transpose(1, 2))[0]


def programs(folder):
    """Exported programs, in a folder."""
    made = []
    image = torch.zeros(2, 3, 8, 8)
    for name, model, given, dynamic in (
        ("net", Net(), image, {0: torch.export.Dim("batch", max=64)}),
        ("fixed", Net(), image, None),
        ("chooser", Chooser(), image, None),
        ("recurrent", Recurrent(), torch.zeros(1, 2, 5), None),
    ):
        shapes = dynamic and (dynamic,)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model.eval(), (given,), dynamic_shapes=shapes)
        made.append(Path(folder) / f"{name}.pt2")
        torch.export.save(program, made[-1])
    return made


def checkpoints(folder):
    """Checkpoints of two kinds."""
    state = Net().state_dict()
    torch.save({"state_dict": state, "epoch": 3, "tied": [state["scale"]] * 2}, folder / "n.pth")
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for key, tensor in state.items():
        dtype = "I64" if tensor.dtype is torch.int64 else "F32"
        end = at + tensor.nbytes
        header[key] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    (folder / "n.safetensors").write_bytes(with_header(header, at))
    return [folder / "n.pth", folder / "n.safetensors"]


def with_header(header, size):
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


# ------------------------------------------------------------------------ changes of programs

NUMBERS = (
    0, 1, -1, 2, 3, 7, 64, 255, 2**15, 2**20, 10**8, 2**30, 2**31, 2**40, 2**62, 2**63 - 1,
    -(2**63), 2**64, 10**30, -(10**9),
)  # fmt: skip
FLOATS = (0.0, -1.5, 1e-9, 1e18, 1e308, "Infinity", "-Infinity", "NaN")
TEXT = ("", "cpu", "cuda:0", "meta", "none", "reflect", "bilinear", MARK + ".txt", "a" * 300)
FOREIGN = (
    "os.system", "builtins.eval", "builtins.exec", "torch.load", "torch.save", "_operator.call",
    "_operator.methodcaller", "_operator.attrgetter", "_operator.iconcat", "_operator.concat",
    "math.factorial", "math.comb", "torch.sym_fresh_size", "torch._export.serde.serialize.exec",
    "torch.ops.load_library", "torch.ops.higher_order.cond", "torch.ops.higher_order.while_loop",
    "torch.ops.higher_order.run_const_graph", "torch.ops.image.write_file.default",
    "torch.ops.image.read_file.default", "torch.ops.aten.from_file.default",
    "torch.ops.aten.from_file.out", "torch.ops.aten.set_.source_Storage", "torch.ops.aten.save",
    "torch.ops.aten.resize_.default", "torch.ops.aten.empty.out", "torch.ops.c10d.send.default",
    "torch.ops.aten.as_strided_.default", "torch.ops.aten.record_stream.default",
    "torch.ops.prim.device.default",
    "torch.ops.aten.__class__.__init__", "torch.ops.__class__.x.y", "torch.ops.aten.add.__call__",
)  # fmt: skip


@functools.cache
def every_schema():
    """The schemas of all registered operations, by the name that a program has for each."""
    return {
        "torch.ops.{}.{}.{}".format(
            *schema.name.split("::"), schema.overload_name or "default"
        ): schema
        for schema in torch._C._jit_get_all_schemas()
    }


def tensor(name):
    return {"as_tensor": {"name": name}}


def node(operation, outputs, **inputs):
    """An operation of a graph; outputs are tensors, or numbers where their name begins with s."""
    made = [{"as_sym_int": {"as_name": o}} if o.startswith("s") else tensor(o) for o in outputs]
    given = [{"name": name, "arg": value, "kind": 1} for name, value in inputs.items()]
    return {"target": operation, "inputs": given, "outputs": made, "metadata": {}}


def attacks(x):
    """Operations that write, reach beyond their memory, or never end, given a tensor's name."""
    aten = "torch.ops.aten."
    full = {"size": {"as_ints": [3]}, "fill_value": {"as_int": 65}, "dtype": {"as_scalar_type": 1}}
    cpu = {"device": {"as_string": "cpu"}}
    large = {"size": {"as_ints": [2**30]}}
    name = {"filename": {"as_string": MARK + ".py"}}
    doubled = [
        node("_operator.add", [f"s{i + 1}"], a=number, b=number)
        for i in range(40)
        for number in [{"as_sym_int": {"as_name": f"s{i}"}}]
    ]
    return [
        [
            node(aten + "new_full.default", ["b0"], self=tensor(x), **full, **cpu),
            node("torch.ops.image.write_file.default", ["w"], **name, data=tensor("b0")),
        ],
        [
            node(aten + "new_full.default", ["b0"], self=tensor(x), **full, **cpu),
            node(
                aten + "from_file.out", ["w"], **name, shared={"as_bool": True},
                size={"as_int": 4096}, out=tensor("b0"),
            ),
        ],
        [
            node(
                aten + "from_file.default", ["w"], **name, shared={"as_bool": True},
                size={"as_int": 64},
            ),
        ],
        [
            node(aten + "new_ones.default", ["b0"], self=tensor(x), size={"as_ints": [2]}, **cpu),
            node(
                aten + "_reshape_alias.default", ["b1"], self=tensor("b0"),
                size={"as_ints": [2**20]}, stride={"as_ints": [1]},
            ),
            node(aten + "fill_.Scalar", ["b2"], self=tensor("b1"), value={"as_float": 1.0}),
        ],
        [
            node(
                aten + "as_strided.default", ["b1"], self=tensor(x), size={"as_ints": [2**20]},
                stride={"as_ints": [2**20]}, storage_offset={"as_int": 2**30},
            ),
        ],
        [node(aten + "zeros.default", ["b1"], **large, device={"as_device": {"type": "cpu"}})],
        [node(aten + "new_zeros.default", ["b1"], self=tensor(x), **large, **cpu)],
        [
            node(aten + "new_ones.default", ["b1"], self=tensor(x), **large),
            node(aten + "nonzero.default", ["b2"], self=tensor("b1")),
        ],
        [
            node(aten + "arange.default", ["b1"], end={"as_int": 2**22}),
            node(aten + "nonzero.default", ["b2"], self=tensor("b1")),
        ],
        [
            node(aten + "new_ones.default", ["b1"], self=tensor(x), size={"as_ints": [10**7]}),
            node(aten + "unbind.int", ["b2"], self=tensor("b1")),
        ],
        [
            node(aten + "new_ones.default", ["b1"], self=tensor(x), size={"as_ints": [10**7]}),
            {
                **node(
                    aten + "split.Tensor", [], self=tensor("b1"), split_size={"as_int": 1}
                ),
                "outputs": [{"as_tensors": [{"name": "b2"}, {"name": "b3"}]}],
            },
        ],
        [node("_operator.pow", ["s0"], a={"as_int": 10}, b={"as_int": 10**9})],
        [node("_operator.lshift", ["s0"], a={"as_int": 1}, b={"as_int": 10**10})],
        [node("_operator.mul", ["s0"], a={"as_string": "ab"}, b={"as_int": 10**10})],
        [node("_operator.mul", ["s0"], a={"as_ints": [1, 2]}, b={"as_int": 10**10})],
        [node("_operator.add", ["s0"], a={"as_ints": [1] * 99}, b={"as_ints": [1]}), *doubled],
        [node("_operator.mod", ["s0"], a={"as_string": "%0999999999d"}, b={"as_int": 1})],
        [node(aten + "diff.default", ["b1"], self=tensor(x), n={"as_int": 10**9})],
        [
            node(aten + "new_ones.default", ["b1"], self=tensor(x), size={"as_ints": [10**7]}),
            node(
                aten + "repeat_interleave.Tensor", ["b3"], repeats=tensor("b1"),
            ),
        ],
    ]  # fmt: skip


LISTED = sorted(f"torch.ops.{name}" for name in permitted.OPERATIONS)


class Mutator:
    """Change an archive or document at random."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.operations = list(every_schema())

    def number(self):
        """A number, often one at which something ends."""
        return self.chance.choice((*NUMBERS, *range(9)))

    def program(self, path, target):
        """A changed copy of an exported program."""
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
            for entry in old.infolist():
                data = old.read(entry)
                if entry.filename.endswith("models/model.json"):
                    document = json.loads(data)
                    for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
                        # what another change has broken cannot be changed
                        with contextlib.suppress(LookupError, TypeError, StopIteration):
                            self.chance.choice(_CHANGES)(self, document)
                    data = json.dumps(document).encode()
                elif entry.filename.endswith("config.json") and self.chance.random() < 0.1:
                    document = json.loads(data)
                    self.any_value(document)
                    data = json.dumps(document).encode()
                new.writestr(entry.filename, data)
        if self.chance.random() < 0.05:
            self.bytes(target, target)

    def nodes(self, document):
        return document["graph_module"]["graph"]["nodes"]

    def node(self, document):
        return self.chance.choice(self.nodes(document))

    def target(self, document):
        """Another operation with the arguments of the old one."""
        pool = FOREIGN if self.chance.random() < 0.3 else self.operations
        self.node(document)["target"] = self.chance.choice(pool)

    def overload(self, document):
        """Another overload, or the in-place or out variant."""
        chosen = self.node(document)
        stem = chosen["target"].rpartition(".")[0]
        near = [o for o in self.operations if o.rpartition(".")[0].rstrip("_") == stem.rstrip("_")]
        chosen["target"] = self.chance.choice(near or self.operations)

    def known_call(self, document):
        """Any operation, given arguments of the kinds that its schema names."""
        # as often one that is listed: those run
        pool = self.operations if self.chance.random() < 0.5 else LISTED
        target = self.chance.choice(pool)
        schema = every_schema()[target]
        values = [o for each in self.nodes(document) for o in _tensor_names(each)]
        given = {a.name: self.argument(a, values) for a in schema.arguments}
        made = node(target, [f"new{self.chance.randrange(10**6)}"], **given)
        place = self.chance.randrange(len(self.nodes(document)) + 1)
        self.nodes(document).insert(place, made)

    def argument(self, argument, values):
        """A value for an argument of a schema."""
        kind = str(getattr(argument, "real_type", argument.type))
        if kind.startswith("Optional") and self.chance.random() < 0.4:
            return {"as_none": True}
        if "Tensor" in kind:
            names = [{"name": self.chance.choice(values)} for _ in range(2)]
            return {"as_tensors": names} if "List" in kind else {"as_tensor": names[0]}
        for word, made in (
            ("Device", {"as_string": self.chance.choice(("cpu", "cuda:0", "meta"))}),
            ("ScalarType", {"as_scalar_type": self.chance.randrange(15)}),
            ("Layout", {"as_int": self.chance.randrange(8)}),
            ("MemoryFormat", {"as_memory_format": self.chance.randrange(5)}),
            ("List[float]", {"as_floats": [self.chance.choice(FLOATS) for _ in range(2)]}),
            ("List", {"as_ints": [self.number() for _ in range(self.chance.randrange(4))]}),
            ("bool", {"as_bool": self.chance.random() < 0.5}),
            ("float", {"as_float": self.chance.choice(FLOATS)}),
            ("str", {"as_string": self.chance.choice(TEXT)}),
        ):
            if word in kind:
                return made
        return {"as_int": self.number()}

    def change_argument(self, document):
        """A number, word, device or kind of one argument."""
        inputs = self.node(document)["inputs"]
        if not inputs:
            return
        chosen = self.chance.choice(inputs)
        chosen["arg"] = self.chance.choice(
            (
                {"as_int": self.number()},
                {"as_ints": [self.number() for _ in range(self.chance.randrange(5))]},
                {"as_float": self.chance.choice(FLOATS)},
                {"as_string": self.chance.choice(TEXT)},
                {"as_bool": True},
                {"as_none": True},
                {"as_scalar_type": self.chance.randrange(40)},
                {"as_device": {"type": "cpu", "index": None}},
                {"as_memory_format": self.chance.randrange(6)},
                {"as_layout": self.chance.randrange(9)},
                {"as_sym_int": {"as_int": self.number()}},
                {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}},
            )
        )

    def sizes(self, document):
        """A size inside an argument or a declared tensor."""
        numbers = []
        _numbers(document["graph_module"]["graph"], numbers)
        holder, key = self.chance.choice(numbers)
        holder[key] = self.number()

    def arguments(self, document):
        """One argument less, twice or of another name."""
        inputs = self.node(document)["inputs"]
        if inputs and self.chance.random() < 0.5:
            inputs.pop(self.chance.randrange(len(inputs)))
        else:
            names = ("out", "device", "self", "generator", "layout", "pin_memory", "dtype")
            inputs.append(
                {"name": self.chance.choice(names), "arg": {"as_string": "cpu"}, "kind": 2}
            )

    def order(self, document):
        """Operations swapped, repeated or left out."""
        nodes = self.nodes(document)
        index = self.chance.randrange(len(nodes))
        how = self.chance.randrange(3)
        if how == 0:
            nodes.append(nodes[index])
        elif how == 1:
            nodes.insert(0, nodes.pop(index))
        else:
            nodes.pop(index)

    def attack(self, document):
        """One of the attacks."""
        graph = document["graph_module"]
        x = next(
            spec["user_input"]["arg"]["as_tensor"]["name"]
            for spec in graph["signature"]["input_specs"]
            if "user_input" in spec
        )
        self.nodes(document)[0:0] = self.chance.choice(attacks(x))

    def any_value(self, document):
        """Anything in the document becomes something else, or goes."""
        places = []
        _places(document, places)
        holder, key = self.chance.choice(places)
        junk = (None, True, [], {}, "", "x", 1.5, [[]], [{}], {"as_int": 1}, "\x1b[31m", "../" * 9)
        if isinstance(holder, dict) and self.chance.random() < 0.3:
            del holder[key]
        elif self.chance.random() < 0.5:
            holder[key] = self.chance.choice(junk)
        else:
            holder[key] = self.number()

    def modules(self, document):
        """The modules around an operation: deep, odd, or of a class that is something else."""
        paths = (
            "a." * self.chance.choice((1, 50, 3000)) + "b",
            "_modules",
            "forward",
            "x\n",
            "__class__",
        )
        kinds = ("os.system", "torch.nn.modules.conv.Conv2d", "torch.nn.Module", "x" * 500)
        stack = f"k,{self.chance.choice(paths)},{self.chance.choice(kinds)}"
        self.node(document)["metadata"]["nn_module_stack"] = ";".join(
            stack for _ in range(self.chance.choice((1, 3, 2000)))
        )

    def bytes(self, path, target):
        """Some bytes of a file, changed, doubled or cut off."""
        data = bytearray(Path(path).read_bytes())
        for _ in range(self.chance.choice((1, 2, 8, 64))):
            where = (
                len(data) - 1 - self.chance.randrange(min(len(data), 3000))
                if self.chance.random() < 0.4
                else self.chance.randrange(len(data))
            )
            data[where] = self.chance.randrange(256)
        if self.chance.random() < 0.2:
            del data[self.chance.randrange(len(data)) :]
        if self.chance.random() < 0.1:
            data = bytes(self.chance.randrange(99)) + data
        Path(target).write_bytes(data)

    def pickle(self, path, target):
        """A checkpoint with another pickle in it."""
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
            for entry in old.infolist():
                data = bytearray(old.read(entry))
                if entry.filename.endswith("data.pkl"):
                    data = self.new_pickle(data)
                new.writestr(entry.filename, bytes(data))

    def new_pickle(self, data):
        """Operations changed, inserted and repeated; or one of the known bombs."""
        if self.chance.random() < 0.2:
            return self.chance.choice(BOMBS)
        for _ in range(self.chance.choice((1, 2, 4))):
            where = self.chance.randrange(2, len(data))
            piece = self.chance.choice(PIECES)
            how = self.chance.randrange(3)
            data[where : where + (how == 0)] = piece if how < 2 else data[where : where + 40]
        return data

    def header(self, path, target):
        """A safetensors file with another header."""
        data = Path(path).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        if self.chance.random() < 0.2:
            text = self.chance.choice(HEADERS)
            Path(target).write_bytes(with_header(text, 64))
            return
        for _ in range(self.chance.choice((1, 2))):
            self.any_value(header)
        Path(target).write_bytes(with_header(header, len(data) - 8 - length))


_CHANGES = (
    Mutator.target, Mutator.overload, Mutator.known_call, Mutator.known_call,
    Mutator.change_argument, Mutator.change_argument, Mutator.sizes, Mutator.sizes,
    Mutator.arguments, Mutator.order, Mutator.attack, Mutator.any_value, Mutator.modules,
)  # fmt: skip


def _tensor_names(each):
    return [o["as_tensor"]["name"] for o in each["outputs"] if "as_tensor" in o] or ["x"]


def _places(value, found):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((value, key))
        if isinstance(item, (dict, list)):
            _places(item, found)


def _numbers(value, found):
    places = []
    _places(value, places)
    found += [(holder, key) for holder, key in places if type(holder[key]) is int]


# ------------------------------------------------------------------ changes of checkpoints


def _doubled_key():
    """A key whose hash takes 2**60 steps: a pair of a pair of a pair ..."""
    return b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s."


def _calls(module, name, *arguments):
    class Call:
        def __reduce__(self):
            return getattr(__import__(module), name), arguments

    return pickle.dumps({"w": Call()}, 2)


BOMBS = (
    _doubled_key(),
    b"\x80\x02]q\x00" + b"h\x00\x86q\x00" * 60 + b".",
    b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".",
    b"\x80\x02" + b"(" * 500_000 + b"t" * 500_000 + b".",
    b"\x80\x02X\xff\xff\xff\xffw.",
    b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
    b"\x80\x02}" + b"]q\x00h\x00h\x00a" * 1000 + b".",
    _calls("os", "system", f"touch {MARK}"),
    _calls("builtins", "open", MARK, "w"),
    b"\x80\x02ccollections\nOrderedDict\n]q\x00" + b"(K\x01K\x02te" * 10 + b"\x85R.",
)
PIECES = (
    b".", b"0", b"(", b"t", b"\x86", b"R", b"b", b"Q", b"]", b"}", b"s", b"u", b"e", b"h\x00",
    b"q\x00",
    b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
    b"K\xff", b"N", b"\x88", b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"j\xff\xff\xff\xff",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"X\x04\x00\x00\x00abcd", b"G" + b"\x7f" * 8, b"\x81",
    b"r\xff\xff\xff\xff", b"i", b"o", b"\x93", b"\x97", b"\x8e", b"\x95" + b"\xff" * 8,
)  # fmt: skip
HEADERS = (
    b'{"w":{"dtype":"F32","shape":[1' + b"0" * 4400 + b'],"data_offsets":[0,4]}}',
    b'{"w":{"dtype":"F32","shape":[' + b",".join([b"9223372036854775807"] * 300)
    + b'],"data_offsets":[0,4]}}',
    b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"w":{"dtype":"U8","shape":[64],"data_offsets":[0,64]},'
    b'"w":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}',
    b"[" + b"[]," * 400_000 + b"[]]",
    b"[]", b"1", b'"x"', b"null", b"{}", b"NaN", b"",
)  # fmt: skip


# ------------------------------------------------------------------------------- witnesses


class Case(NamedTuple):
    """A mutated file, and the command that it is given to."""

    kind: str  # program, bytes, pickle or header
    seed: int

    def make(self, bases, folder):
        """The file, in a folder."""
        mutator = Mutator(f"{self.kind} {self.seed}")
        wanted = {"pickle": (".pth",), "header": (".safetensors",), "program": (".pt2",)}
        fitting = [b for b in bases if b.suffix in wanted.get(self.kind, (b.suffix,))]
        base = mutator.chance.choice(fitting)
        target = Path(folder) / f"mutated{base.suffix}"
        getattr(mutator, self.kind)(base, target)
        return target, _command(mutator.chance, target)


def _command(chance, path):
    name = str(path)
    if path.suffix != ".pt2" or chance.random() < 0.6:
        return chance.choice((("summary", name), ("summary", name, "--format", "json")))
    return chance.choice(
        (
            ("rf", name), ("explain", name), ("stages", name), ("diff", name, name),
            ("check", name), ("rf", name, "--verify"), ("bench", name), ("rf", name, "--effective"),
        )
    )  # fmt: skip


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTS = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
    "os.forkpty", "socket.connect", "socket.bind", "socket.getaddrinfo", "os.remove", "os.rename",
    "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree",
    "pty.spawn", "webbrowser.open",
)  # fmt: skip


class Witness:
    """Python's audit events, of writing and starting; hooks cannot be taken away again."""

    def __init__(self):
        self.seen = []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in "wax+" for c in mode) if isinstance(mode, str) else flags & _WRITES
            own = path in (os.devnull, "/proc/self/clear_refs")  # resets the peak of memory
            if writes and not own and not isinstance(path, int):
                self.seen.append(f"open {path!r} {mode!r}")
        elif event in _STARTS:
            self.seen.append(f"{event} {arguments!r}"[:200])


def faults(case, bases, folder, work, witness):
    """Run one mutated file and list its faults in words."""
    path, command = case.make(bases, folder)
    witness.seen.clear()
    begin = resource.getrusage(resource.RUSAGE_SELF)
    result = run_cli(*command)
    end = resource.getrusage(resource.RUSAGE_SELF)
    found = [f"does: {what}" for what in witness.seen]
    found += [f"wrote {each.name}" for each in work.iterdir()]
    for each in work.iterdir():
        each.unlink()
    if result.code not in (0, 1, 2, 3) or "please report it" in result.err:
        found.append(f"exit {result.code}: {result.err[-400:]}")
    if "Traceback" in result.err + result.out or "not enough memory" in result.err:
        found.append(result.err[-400:])
    spent = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    if spent > SECONDS:
        found.append(f"took {spent:.1f} s")
    return [f"{command[0]} {path.name}: {what}" for what in found]


def watched(cases, bases, folder):
    """List the faults of some files, in a process that is killed where one hangs or grows.

    Returns:
        (case, what went wrong) for each fault.
    """
    work, report = folder / "work", folder / "report"
    work.mkdir(exist_ok=True)
    todo, found = list(cases), []
    while todo:
        report.write_text("")
        child = os.fork()
        if not child:
            _child(todo, bases, folder, work, report)
        _, status = os.waitpid(child, 0)
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        done = sum(1 for line in lines if line is not None and line[0] == "done")
        found += [(todo[index], what) for kind, index, what in lines if kind == "fault"]
        if done == len(todo):
            break
        found.append((todo[done], f"ended the process: status {status}"))
        todo = todo[done + 1 :]
    return found


def _child(cases, bases, folder, work, report):
    """Watch one case after the other; never returns."""
    code = 1
    try:
        sys.dont_write_bytecode = True
        torch.set_num_threads(1)
        os.chdir(work)
        for base in {base.suffix: base for base in bases}.values():  # imports what they need
            run_cli("summary", str(base))
        with report.open("a", buffering=1) as log:
            witness = Witness()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for index, case in enumerate(cases):
                _limit()
                for what in faults(case, bases, folder, work, witness):
                    log.write(json.dumps(("fault", index, what)) + "\n")
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                if (peak - before) * 1024 > MEMORY:
                    log.write(json.dumps(("fault", index, f"grew by {peak - before:,} KiB")) + "\n")
                    before = peak
                log.write(json.dumps(("done", index, "")) + "\n")
        code = 0
    except BaseException as error:  # noqa: BLE001
        sys.__stderr__.write(f"{error!r}\n")
    finally:
        os._exit(code)


def _limit():
    """Twice the seconds from now on, and twice the memory: what is beyond is killed."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(now.ru_utime + now.ru_stime) + 2 * SECONDS
    _lower(resource.RLIMIT_CPU, seconds)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + 2 * MEMORY
    _lower(resource.RLIMIT_AS, limit)


def _lower(what, limit):
    """Set a limit, no higher than it may be set."""
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, hard))
