"""Autocast on tensors without data has the dtypes of its device.

The oracle for CUDA is torch's own C++ under fake tensors, which claim to be on a GPU; for the CPU
it is a real forward.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import cnnscope
from cnnscope.tracing.autocast import autocast_on_meta

# Of x (2x4x8x8), v (8x8) and w (4x4x3x3), all float32, and h, x in half precision
CALLS = {
    "conv2d": lambda x, v, w, h: F.conv2d(x, w),
    "conv of mixed": lambda x, v, w, h: F.conv2d(h, w),
    "conv_transpose2d": lambda x, v, w, h: F.conv_transpose2d(x, w),
    "linear": lambda x, v, w, h: F.linear(v, v),
    "matmul": lambda x, v, w, h: x @ x,
    "einsum": lambda x, v, w, h: torch.einsum("bchw,bcwk->bchk", x, x),
    "addmm": lambda x, v, w, h: torch.addmm(v, v, v),
    "bmm": lambda x, v, w, h: torch.bmm(w.flatten(2), w.flatten(2).transpose(1, 2)),
    "attention": lambda x, v, w, h: F.scaled_dot_product_attention(x, x, x),
    "prelu": lambda x, v, w, h: F.prelu(h, w.sum((1, 2, 3))),
    "double": lambda x, v, w, h: x.double() @ x.double(),
    "integers": lambda x, v, w, h: x.int() + 1,
    "relu": lambda x, v, w, h: h.relu(),
    "add": lambda x, v, w, h: h + x,
    "softmax": lambda x, v, w, h: h.softmax(1),
    "softmax to a type": lambda x, v, w, h: x.softmax(1, torch.float16),
    "log_softmax": lambda x, v, w, h: F.log_softmax(h, 1),
    "sum": lambda x, v, w, h: h.sum(),
    "sum of axes": lambda x, v, w, h: h.sum((2, 3)),
    "mean": lambda x, v, w, h: h.mean((2, 3)),
    "cumsum": lambda x, v, w, h: h.cumsum(1),
    "prod": lambda x, v, w, h: h.prod(1),
    "norm": lambda x, v, w, h: torch.linalg.vector_norm(h),
    "layer_norm": lambda x, v, w, h: F.layer_norm(h, (8,)),
    "group_norm": lambda x, v, w, h: F.group_norm(h, 2),
    "exp": lambda x, v, w, h: h.exp(),
    "pow": lambda x, v, w, h: h**2,
    "rsqrt": lambda x, v, w, h: h.rsqrt(),
    "gelu": lambda x, v, w, h: F.gelu(h),
    "pool": lambda x, v, w, h: F.avg_pool2d(h, 2),
    "pool of three axes": lambda x, v, w, h: F.avg_pool3d(h, 2),
    "interpolate": lambda x, v, w, h: F.interpolate(h, scale_factor=2, mode="bilinear"),
    "nearest": lambda x, v, w, h: F.interpolate(h, scale_factor=2),
    "cat": lambda x, v, w, h: torch.cat([h, x]),
    "stack": lambda x, v, w, h: torch.stack([h, h]),
    "addcmul": lambda x, v, w, h: torch.addcmul(h, x, x),
    "grid": lambda x, v, w, h: F.grid_sample(h, h.view(2, 16, 8, 2), align_corners=False),
    "bilinear": lambda x, v, w, h: F.bilinear(v, v, x.flatten(0, 1)),
    "cross entropy": lambda x, v, w, h: F.mse_loss(h, x),
    "pad": lambda x, v, w, h: F.pad(h, (1, 1, 1, 1), mode="reflect"),
    "similarity": lambda x, v, w, h: F.cosine_similarity(h, h),
    "fft": lambda x, v, w, h: torch.fft.rfft2(x).real,
}


def given(device, dtype):
    x = torch.empty(2, 4, 8, 8, device=device)
    w = torch.empty(4, 4, 3, 3, device=device)
    return x, torch.empty(8, 8, device=device), w, x.to(dtype)


def on_gpu(call, dtype):
    """The dtype that C++ gives, on fake tensors of a GPU."""
    real, mode = given("meta", dtype), FakeTensorMode()
    try:
        made = [FakeTensor(mode, value, torch.device("cuda:0")) for value in real]
    except RuntimeError as error:  # fake tensors of torch 2.9 ask a driver
        pytest.skip(str(error))
    with mode, torch.autocast("cuda", dtype=dtype):
        return call(*made).dtype


@pytest.fixture
def pretended(monkeypatch):
    """Let torch.autocast believe in a GPU, which fake tensors do not need."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "grid"])  # it asks a driver
def test_dtypes_under_autocast_are_those_of_a_gpu(name, dtype, pretended):
    expected = on_gpu(CALLS[name], dtype)
    with autocast_on_meta(), torch.autocast("cuda", dtype=dtype):
        assert CALLS[name](*given("meta", dtype)).dtype is expected


@pytest.mark.parametrize("name", CALLS)
def test_dtypes_under_autocast_are_those_of_a_cpu(name):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = CALLS[name](*given("cpu", torch.bfloat16)).dtype
    with autocast_on_meta(), torch.autocast("meta", dtype=torch.bfloat16):
        assert CALLS[name](*given("meta", torch.bfloat16)).dtype is expected


def nesting():
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def test_regions_nest_and_end():
    x = torch.empty(2, 2, device="meta")
    with autocast_on_meta() as notes:
        with torch.autocast("cuda"):
            assert (x @ x).dtype is torch.float16
            with torch.autocast("cuda", enabled=False):
                assert (x @ x).dtype is torch.float32
            with torch.autocast("cpu", enabled=False):
                assert (x @ x).dtype is torch.float16
            with torch.autocast("cuda", torch.bfloat16):
                assert (x @ x).dtype is torch.bfloat16
        assert (x @ x).dtype is torch.float32
        assert len(notes) == 2
        torch.autocast("cuda").__enter__()  # and never left
    assert (x @ x).dtype is torch.float32
    assert not torch.is_autocast_enabled()
    assert nesting() == 0


def test_a_region_that_a_forward_leaves_open_ends_with_it():
    class Open(nn.Module):
        def forward(self, x):
            torch.autocast("cuda").__enter__()
            return x @ x

    made = cnnscope.trace(Open(), ["1x4x4"])
    assert made.tensors[made.outputs[0]].dtype == "float16"
    assert not torch.is_autocast_enabled()
    assert nesting() == 0


def test_a_weight_is_cast_once_as_on_the_device():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                return self.c(x) + self.c(x)

    made = cnnscope.trace(Net(), ["1x3x16x16"])
    output = made.tensors[made.outputs[0]]
    assert (output.dtype, torch.Size(output.shape).numel() * 2) == ("bfloat16", 4096)
    casts = [op for op in made.ops if op.name.startswith("aten._to_copy")]
    assert len(casts) == 4  # the input twice, weight and bias once
    assert [note for note in made.notes if "torch.autocast (cuda, bfloat16)" in note]


def test_torch_is_as_it_was():
    before = torch.autocast.__init__.__code__, torch.is_autocast_enabled, torch.get_autocast_dtype
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    with autocast_on_meta(), torch.autocast("cuda"):
        assert has("aten::conv2d", "AutocastIPU")
    after = torch.autocast.__init__.__code__, torch.is_autocast_enabled, torch.get_autocast_dtype
    assert after == before
    assert not has("aten::conv2d", "AutocastIPU")
