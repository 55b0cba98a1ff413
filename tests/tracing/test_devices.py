"""Code that uses a GPU is followed without one, and finds torch as it was afterwards."""

import sys
import textwrap
import threading
from contextlib import ExitStack

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.errors import CnnscopeError
from cnnscope.ops import table
from cnnscope.tracing import devices, swaps

# Each is the body of a constructor and of a forward around a convolution of 3 -> 8 channels, 3x3
# and padding 1, at 16x16: 8 * 27 * 256 = 55,296 MACs, 224 parameters.
CONSTRUCTORS = {
    "moved": "self.c.cuda()",
    "moved by to": "self.to('cuda:1')",
    "moved by keyword": "self.to(device=torch.device('cuda', 1))",
    "made there": "self.c = nn.Conv2d(3, 8, 3, padding=1, device='cuda')",
    "made under a device": "with torch.device('cuda'): self.c = nn.Conv2d(3, 8, 3, padding=1)",
    "default device": "torch.set_default_device('cuda'); self.t = torch.zeros(8)",
    "default type": "torch.set_default_tensor_type(torch.cuda.FloatTensor); self.t = torch.ones(2)",
    "buffer": "self.register_buffer('b', torch.ones(8, 1, 1).cuda())",
    "parallel": "self.c = nn.DataParallel(self.c, device_ids=[0, 1]).cuda()",
    "asked": "assert torch.cuda.is_available()",
    "refused": "if not torch.cuda.device_count(): raise RuntimeError('no GPU')",
    "current": "self.to(torch.cuda.current_device()); torch.cuda.set_device(1)",
    "properties": "assert torch.cuda.get_device_properties(0).major >= 7",
    "generator": "torch.rand(3, generator=torch.Generator('cuda').manual_seed(1), device='cuda')",
    "scaler": "self.scaler = torch.amp.GradScaler('cuda')",
    "xpu": "self.c.xpu()",
    "mps": "self.to('mps'); assert torch.backends.mps.is_available()",
    "accelerator": "self.to(torch.accelerator.current_accelerator())",
}
FORWARDS = {
    "noise": "return self.c(x) + torch.randn(1, 8, 16, 16).cuda()",
    "moved": "return self.c(x.cuda(non_blocking=True))",
    "by number": "return self.c(x.to(0))",
    "factories": "return self.c(x) * torch.ones(8, 1, 1, device='cuda')",
    "legacy": "return self.c(x) + torch.cuda.FloatTensor(1, 8, 1, 1).fill_(0)",
    "constant": "return self.c(x) + torch.tensor([1.0], device='cuda:1')",
    "as tensor": "return self.c(x) + torch.as_tensor([1.0], device='cuda')",
    "type": "return self.c(x).type(torch.cuda.FloatTensor)",
    "type of another": "y = self.c(x); return y + torch.arange(16).type(y.type())",
    "type in words": "return self.c(x).type('torch.cuda.FloatTensor')",
    "asserted": "assert x.is_cuda; return self.c(x)",
    "of the device": "assert x.device.type == 'cuda', 'GPU only'; return self.c(x)",
    "number": "assert x.get_device() == 0 and torch.cuda.is_available(); return self.c(x)",
    "streams": """
        s = torch.cuda.Stream()
        s.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(s):
            y = self.c(x)
        y.record_stream(s)
        torch.cuda.current_stream().wait_stream(s)
        return y
    """,
    "events": """
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        y = self.c(x)
        end.record()
        torch.cuda.synchronize()
        self.ms = start.elapsed_time(end)
        return y
    """,
    "guard": "\nwith torch.cuda.device(1), torch.cuda.device_of(x):\n    return self.c(x)",
    "memory": """
        torch.cuda.reset_peak_memory_stats()
        y = self.c(x)
        assert torch.cuda.max_memory_allocated() >= 0
        torch.cuda.empty_cache()
        return y
    """,
    "nvtx": """
        torch.cuda.nvtx.range_push("c")
        y = self.c(x)
        torch.cuda.nvtx.range_pop()
        return y
    """,
    "pinned": "return self.c(x) + torch.zeros(8, 1, 1, pin_memory=True).cuda(non_blocking=True)",
    "mps": "return self.c(x) + torch.zeros(8, 1, 1, device='mps')",
    "back": "return self.c(x.cuda()).cpu()",
    "looks at its data": "y = self.c(x.cuda()); return y if float(y.cuda().sum()) > 1e9 else y * 2",
}
INIT = "super().__init__(); self.c = nn.Conv2d(3, 8, 3, padding=1)"
CLASS = """
class {name}(nn.Module):
    def __init__(self):
        {init}
        {more}
    def forward(self, x):
{forward}
"""


def written(name, more="pass", forward="return self.c(x)"):
    body = textwrap.indent(textwrap.dedent(forward).strip("\n"), " " * 8)
    return CLASS.format(name=name, init=INIT, more=more, forward=body)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """All of the networks in one file: C0, C1, ... by constructor, F0, ... by forward."""
    path = tmp_path_factory.mktemp("nets") / "net.py"
    code = [written(f"C{n}", more=more) for n, more in enumerate(CONSTRUCTORS.values())]
    code += [written(f"F{n}", forward=forward) for n, forward in enumerate(FORWARDS.values())]
    path.write_text("import torch\nfrom torch import nn\n" + "".join(code), encoding="utf-8")
    return path


def torchs():
    """What torch answers of devices, and the functions that do."""
    places = (torch, torch.cuda, torch.xpu, torch.mps, torch.accelerator, torch.backends.mps)
    functions = [value for place in places for value in vars(place).values() if callable(value)]
    codes = [getattr(value, "__code__", None) for value in functions]
    return functions, codes, torch.cuda.is_available(), torch.get_default_dtype()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *((f"C{n}", case) for n, case in enumerate(CONSTRUCTORS)),
        *((f"F{n}", case) for n, case in enumerate(FORWARDS)),
    ],
)
def test_code_for_a_gpu_runs_without_one(file, name, case):
    before = torchs()
    made = cnnscope.trace(f"{file}:{name}", ["3x16x16"], cache=False)
    assert torchs() == before
    on = "cpu" if case == "looks at its data" else "meta"
    assert (made.device, made.tensors[made.outputs[0]].shape) == (on, (1, 8, 16, 16))
    assert sum(table.macs(made, op) for op in made.ops) == 55_296
    parameters = [made.tensors[p.tensor] for p in made.params if not p.buffer]
    assert sum(torch.Size(p.shape).numel() for p in parameters) == 224
    said = " ".join(made.notes)
    quiet = ("scaler", "type of another", "accelerator", "guard", "nvtx")
    assert ("without it" in said or "it was told" in said) == (case not in quiet)


def test_what_refuses_to_run_without_a_gpu_is_told_that_there_is_one(tmp_path):
    path = tmp_path / "net.py"
    head = "import torch\nfrom torch import nn\nassert torch.cuda.is_available()\n"
    path.write_text(head + written("Net"), encoding="utf-8")
    made = cnnscope.trace(f"{path}:Net", ["3x16x16"])
    assert [note for note in made.notes if "(cuda)" in note]


def test_what_only_asks_is_answered_as_on_a_machine_without_a_gpu(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\n"
        + written("Net", "self.wide = 8 if torch.cuda.is_available() else 4"),
        encoding="utf-8",
    )
    made = cnnscope.trace(f"{path}:Net", ["3x16x16"])
    assert not made.notes


def test_a_check_of_something_else_is_no_check_of_a_gpu(tmp_path):
    path = tmp_path / "net.py"
    forward = "torch.cuda.is_available()\nassert x.shape[-1] % 7 == 0\nreturn self.c(x)"
    path.write_text("import torch\nfrom torch import nn\n" + written("Net", forward=forward))
    with pytest.raises(CnnscopeError, match=r"x.shape\[-1\] % 7"):
        cnnscope.trace(f"{path}:Net", ["3x16x16"])


def test_what_fails_again_with_a_gpu_has_not_failed_for_want_of_one(tmp_path):
    # a recurrent layer of torch's asks for a GPU, and so does the second network
    path = tmp_path / "net.py"
    asks = "self.wide = torch.cuda.is_available(); self.r = nn.GRU(8, 8)"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        + written("Net", asks, "n, _, _ = x.shape\nreturn self.r(x)[0]"),
        encoding="utf-8",
    )
    made = cnnscope.trace(f"{path}:Net", ["20x8"])  # 20x8 does not unpack, 1x20x8 does
    assert made.tensors[made.inputs[0]].shape == (1, 20, 8)
    assert not [note for note in made.notes if "GPU" in note or "cuda" in note]


def test_code_that_reads_the_type_of_a_device_takes_the_way_of_a_cpu(tmp_path):
    path = tmp_path / "net.py"
    forward = (
        "if x.device.type == 'cpu':\n    return self.c(x) + torch.zeros(1, device=x.device)\n"
        "return x"
    )
    path.write_text("import torch\nfrom torch import nn\n" + written("Net", forward=forward))
    made = cnnscope.trace(f"{path}:Net", ["3x16x16"])
    assert (made.device, made.tensors[made.outputs[0]].shape) == ("meta", (1, 8, 16, 16))


def test_a_module_of_ones_own_is_followed_and_left_where_it_is():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            assert x.is_cuda
            return self.c(x.cuda())

    model, before = Net(), torchs()
    for inputs in (["1x3x16x16"], [torch.zeros(1, 3, 16, 16)]):
        made = cnnscope.trace(model, inputs)
        assert made.tensors[made.outputs[0]].shape == (1, 8, 16, 16)
    assert (torchs(), model.c.weight.device.type) == (before, "cpu")


def test_other_threads_see_torch_as_it_is():
    seen = []
    with devices.following() as state:
        state.told = "cuda"
        thread = threading.Thread(target=lambda: seen.append(torch.cuda.is_available()))
        thread.start()
        thread.join()
        assert torch.cuda.is_available()
    assert seen == [torch.cuda.is_available()]


def test_a_library_that_is_imported_meanwhile_is_told_the_truth(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "a_library_for_gpus.py").write_text(
        "import torch\nHAS = torch.cuda.is_available()\nfrom torch.cuda import Stream\n"
        "def asked(): return torch.cuda.is_available()\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    truth = torch.cuda.is_available()
    with devices.following() as state:
        state.told = "" if truth else "cuda"
        import a_library_for_gpus

        assert (a_library_for_gpus.HAS, a_library_for_gpus.asked()) == (truth, not truth)
    assert a_library_for_gpus.Stream is torch.cuda.Stream
    del sys.modules["a_library_for_gpus"]


def test_a_name_that_somebody_keeps_is_the_original_afterwards():
    with devices.following():
        kept = torch.Generator
        assert isinstance(torch.default_generator, kept)
        assert kept(device="cuda").device.type == "cpu"
    assert kept(device="cpu").device.type == "cpu"
    assert torch.Generator is not kept


def test_functions_have_their_code_back_also_when_they_are_swapped_twice():
    def function(x, y=2, *, z=3):
        return x + y + z

    alias, code = function, function.__code__
    with ExitStack() as undo:
        swaps.swap(undo, function, lambda original, x: original(x) * 10)
        assert alias(1) == 60
        swaps.swap(undo, function, lambda original, x: original(x) + 1)
        assert alias(1) == 61
    assert (function(1), function(1, z=0)) == (6, 3)
    assert function.__code__ is code
