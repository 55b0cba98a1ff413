"""Scripted, compiled and exported code is inspected as it was written; control flow runs."""

import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as map_
from torch._higher_order_ops.scan import scan

import cnnscope
from cnnscope.analysis import receptive_field
from cnnscope.errors import ModelError
from cnnscope.ops import table
from cnnscope.tracing import devices

# Of a convolution of 3 -> 8 channels, 3x3 and padding 1, at 16x16: 55,296 MACs, 224 parameters
MADE = {
    "traced": "torch.jit.trace(C().eval(), torch.zeros(1, 3, 16, 16))",
    "traced without checks": "torch.jit.trace(C(), (torch.zeros(1, 3, 16, 16),), strict=False)",
    "scripted": "torch.jit.script(C())",
    "frozen": "torch.jit.freeze(torch.jit.script(C().eval()))",
    "optimised": "torch.jit.optimize_for_inference(torch.jit.script(C().eval()))",
    "a part": "nn.Sequential(torch.jit.script(nn.ReLU()), torch.jit.trace(C(), X))",
    "compiled": "torch.compile(C(), mode='reduce-overhead')",
    "compiled in place": "in_place(C())",
    "exported": "torch.export.export(C(), (torch.zeros(1, 3, 16, 16),)).module()",
    "graph": "torch.fx.symbolic_trace(C())",
    "decorated": "Decorated()",
    "several": "nn.Sequential(nn.Identity(), nn.DataParallel(torch.jit.script(C())))",
}
FILE = """
import torch
from torch import nn

X = torch.zeros(1, 3, 16, 16)

class C(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)
    def forward(self, x):
        return double(self.c(x))

@torch.jit.script
def double(x):
    return x * 2

class Decorated(C):
    @torch.compile(fullgraph=True)
    def forward(self, x):
        return double(self.c(x))

def in_place(module):
    module.compile()
    return module
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("nets") / "net.py"
    makers = (f"def m{n}():\n    return {code}\n" for n, code in enumerate(MADE.values()))
    path.write_text("\n".join((FILE, *makers)), encoding="utf-8")
    return path


@pytest.mark.parametrize("case", MADE)
def test_what_is_made_of_a_network_is_inspected_as_the_network(file, case):
    before = torch.compile.__code__, torch.jit.script(nn.ReLU())
    made = cnnscope.trace(f"{file}:m{[*MADE].index(case)}", ["3x16x16"])
    assert (made.device, made.tensors[made.outputs[0]].shape) == ("meta", (1, 8, 16, 16))
    assert sum(table.macs(made, op) for op in made.ops) == 55_296
    parameters = [made.tensors[p.tensor] for p in made.params if not p.buffer]
    assert sum(torch.Size(p.shape).numel() for p in parameters) == 224
    assert torch.compile.__code__ is before[0]
    assert isinstance(torch.jit.script(nn.ReLU()), torch.jit.ScriptModule)


@pytest.mark.parametrize("case", ["traced", "traced without checks", "a part"])
def test_a_process_that_has_compiled_something_traces_no_script_either(file, case, monkeypatch):
    for name in ("trace", "trace_module"):  # as `TorchPatcher.patch` of dynamo leaves them
        monkeypatch.setattr(torch.jit, name, torch._dynamo.disable(getattr(torch.jit, name)))
    test_what_is_made_of_a_network_is_inspected_as_the_network(file, case)


class Cond(nn.Module):
    """One branch costs 3 -> 8 channels, 3x3: 55,296 MACs; the other one 1x1: 6,144."""

    def __init__(self, pred, *, large_first=True):
        super().__init__()
        self.large, self.small = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.pred, self.large_first = pred, large_first

    def forward(self, x):
        branches = (self.large, self.small)
        return torch.cond(self.pred(x), *branches[:: 1 if self.large_first else -1], (x,))


def macs(made):
    return sum(table.macs(made, op) for op in made.ops)


@pytest.mark.parametrize("large_first", [True, False])
def test_of_a_choice_by_data_the_costlier_branch_is_counted(large_first):
    made = cnnscope.trace(Cond(lambda x: x.sum() > 0, large_first=large_first), ["3x16x16"])
    assert (made.device, macs(made)) == ("meta", 55_296)
    assert [call for call in made.calls if made.modules[call.module].path == "large"]
    assert not [call for call in made.calls if made.modules[call.module].path == "small"]
    assert [note for note in made.notes if "torch.cond" in note]


def test_a_condition_is_in_no_field():
    # the 3x3 branch sees 3 pixels; its condition, a sum, would be all of them
    report = cnnscope.summary(Cond(lambda x: x.sum() > 0), ["3x16x16"])
    totals = report.record.totals
    assert [axis.size for axis in totals.field] == [3, 3]
    assert totals.field_covers_input_at == ""
    assert "3 px of the 16 px input\n" in str(report)
    assert any("what its condition sees is in no field" in note for note in report.record.notes)


def test_a_choice_by_shape_is_made():
    made = cnnscope.trace(Cond(lambda x: x.shape[-1] > 16), ["3x16x16"])
    assert (macs(made), [note for note in made.notes if "torch.cond" in note]) == (6_144, [])


def test_choices_within_choices():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Cond(lambda x: x.mean() > 0)

        def forward(self, x):
            return torch.cond(x.sum() > 0, self.inner.small, self.inner, (x,))

    assert macs(cnnscope.trace(Nested(), ["3x16x16"])) == 55_296


def test_a_loop_whose_count_follows_from_constants_runs_so_often():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            count = torch.zeros((), dtype=torch.int64)
            step = lambda n, x: (n + 1, self.c(x))  # noqa: E731
            return torch._higher_order_ops.while_loop(lambda n, x: n < 4, step, (count, x))[1]

    made = cnnscope.trace(Loop(), ["3x16x16"])
    assert macs(made) == 4 * 3 * 27 * 256  # four steps


def test_an_exported_choice_is_followed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            return torch.cond(x.sum() > 0, self.c, lambda x: self.c(x) * 2, (x,))

    program = torch.export.export(Net(), (torch.zeros(1, 3, 16, 16),))
    made = cnnscope.trace(program.module(), ["1x3x16x16"])
    assert (macs(made), made.device) == (55_296, "meta")


def test_a_library_compiles_what_it_wants(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "a_scripting_library.py").write_text(
        "import torch\n@torch.jit.script\ndef f(x):\n    return x + 1\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    with devices.following():
        import a_scripting_library
    assert isinstance(a_scripting_library.f, torch.jit.ScriptFunction)


def test_a_scripted_module_from_python_is_refused_without_data():
    model = torch.jit.script(nn.Conv2d(3, 8, 3))
    with pytest.raises(ModelError, match="TorchScript"):
        cnnscope.trace(model, [torch.empty(1, 3, 8, 8, device="meta")])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_parameters_of_a_loaded_archive_are_no_buffers(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.jit.save(torch.jit.script(model), tmp_path / "net.pt")
    loaded = torch.jit.load(tmp_path / "net.pt")
    made = cnnscope.trace(loaded, torch.zeros(1, 3, 8, 8))
    held = [torch.Size(made.tensors[p.tensor].shape).numel() for p in made.params if not p.buffer]
    assert sum(held) == 224 + 16  # 8 * 27 + 8; a weight and a bias for each of 8 channels
    assert sum(p.buffer for p in made.params) == 3  # mean, variance, count
    assert cnnscope.summary(made).totals.params == 240


def test_the_branch_that_data_would_choose_is_no_unused_layer():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 5, padding=2)

        def forward(self, x):
            return torch.cond(x.sum() > 0, self.a, self.b, (x,))

    report = cnnscope.summary(Either(), (1, 3, 8, 8)).record
    # 3 x 8 x 25 x 64: the larger kernel is counted
    assert report.totals.macs == 38_400
    (finding,) = [f for f in report.findings if "a" in f.layers]
    assert "not used in this run" in finding.sentence
    assert "its data chose the path" in finding.sentence


def test_a_class_of_torchscript_is_compiled_as_it_is_made(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Block(torch.jit.ScriptModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.c = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())\n"
        "    @torch.jit.script_method\n"
        "    def forward(self, x):\n"
        "        return self.c(x)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.b, self.d = Block(), nn.Conv2d(8, 4, 1)\n"
        "    def forward(self, x):\n"
        "        return self.d(self.b(x))\n"
    )
    totals = cnnscope.summary(f"{tmp_path}/net.py:Net", "3x8x8").totals
    # 3*8*9 + 8 + 8*4 + 4 parameters; 64 * (3*8*9 + 8*4) multiplications
    assert (totals.params, totals.macs) == (260, 15_872)


class Structured(nn.Module):
    """A function of a 3x3 convolution's output, and a linear layer of 8 features."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 8, bias=False)
        self.function = function

    def forward(self, x):
        return self.function(self, self.conv(x)[0])


def each_channel(net, y):
    return map_(net.linear, y)


def sums(_, y):
    def step(carried, channel):
        carried = carried + channel
        return carried, carried.clone()

    return scan(step, torch.zeros_like(y[0]), y)[1]


def batched(net, y):
    return torch.vmap(net.linear)(y)


@pytest.mark.parametrize("function", [each_channel, batched])
def test_a_function_of_each_slice_is_followed(function):
    made = cnnscope.trace(Structured(function), ["1x3x8x8"])
    # 3 * 3 * 3 * 4 * 8 * 8 of the convolution, and 8 * 8 * 8 of each of 4 channels
    assert (made.device, macs(made)) == ("meta", 6_912 + 4 * 512)
    assert [t.shape for t in (made.tensors[i] for i in made.outputs)] == [(4, 8, 8)]
    (field,) = (receptive_field.fields(made)[i] for i in made.outputs)
    assert [axis.size for axis in field.axes] == [3, None]  # of a row, all columns


def test_a_scan_is_followed_step_by_step():
    made = cnnscope.trace(Structured(sums), ["1x3x8x8"])
    assert (made.device, macs(made)) == ("meta", 6_912)
    assert sum(op.name == "aten.add.Tensor" for op in made.ops) == 4  # one for each channel
    assert [made.tensors[i].shape for i in made.outputs] == [(4, 8, 8)]


def test_an_operation_on_functions_that_is_not_followed_is_named():
    net = Structured(lambda m, y: torch.ops.higher_order.strict_mode(lambda z: (z,), (y,))[0])
    with pytest.raises(ModelError, match="it runs strict_mode, an operation on functions"):
        cnnscope.trace(net, ["1x3x8x8"])
