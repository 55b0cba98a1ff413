"""A trace refuses exactly what a real CPU forward refuses."""

import re

import pytest
import torch
import torch.nn.functional as F
import torchvision
from command_line import run_cli
from random_calls import Draw
from torch import nn

from cnnscope import api
from cnnscope.errors import ModelError
from cnnscope.tracing import refusals
from cnnscope.tracing.recorder import ForwardError
from cnnscope.tracing.tracer import trace
from cnnscope.tracing.values import needs_data

X = (1, 4, 8, 8)


def rand(*sizes, dtype=torch.float32):
    return torch.rand(sizes).to(dtype)


class Call(nn.Module):
    """A function of an input and of parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value, value.is_floating_point()))

    def forward(self, x):
        return self.function(self, x)


def index(x, *sizes):
    return torch.zeros(sizes, dtype=torch.long, device=x.device)


# Sizes, dtypes and arguments, as people report them; most of them are refused by a real forward.
CALLS = {
    "conv bias": (lambda s, x: F.conv2d(x, s.w, s.b), {"w": rand(8, 4, 3, 3), "b": rand(7)}),
    "transposed conv bias": (
        lambda s, x: F.conv_transpose2d(x, s.w, s.b),
        {"w": rand(4, 8, 3, 3), "b": rand(7)},
    ),
    "conv groups of input": (lambda s, x: F.conv2d(x, s.w, groups=3), {"w": rand(9, 2, 3, 3)}),
    "conv groups of output": (lambda s, x: F.conv2d(x, s.w, groups=2), {"w": rand(9, 2, 3, 3)}),
    "conv stride 0": (lambda s, x: F.conv2d(x, s.w, stride=0), {"w": rand(8, 4, 3, 3)}),
    "conv padding -1": (lambda s, x: F.conv2d(x, s.w, padding=-1), {"w": rand(8, 4, 3, 3)}),
    "conv dilation 0": (lambda s, x: F.conv2d(x, s.w, dilation=0), {"w": rand(8, 4, 3, 3)}),
    "conv of float64": (lambda s, x: F.conv2d(x.double(), s.w), {"w": rand(8, 4, 3, 3)}),
    "conv of integers": (lambda s, x: F.conv2d(x.long(), s.w), {"w": rand(8, 4, 3, 3)}),
    "conv of bytes": (lambda s, x: F.conv2d(x.byte(), s.w), {"w": rand(8, 4, 3, 3)}),
    "conv of all integers": (lambda _, x: F.conv2d(x.long(), x.long()), {}),
    "conv of all bools": (lambda _, x: F.conv2d(x.bool(), x.bool()), {}),
    "conv1d float64": (
        lambda s, x: F.conv1d(x[0], s.w),
        {"w": rand(2, 8, 3, dtype=torch.float64)},
    ),
    "conv3d half": (
        lambda s, x: F.conv3d(x[None], s.w),
        {"w": rand(2, 1, 3, 3, 3, dtype=torch.half)},
    ),
    "transposed conv half": (
        lambda s, x: F.conv_transpose2d(x, s.w),
        {"w": rand(4, 2, 3, 3, dtype=torch.half)},
    ),
    "transposed conv output padding of three axes": (
        lambda s, x: F.conv_transpose2d(x, s.w, stride=2, output_padding=(1, 1, 1)),
        {"w": rand(4, 8, 3, 3)},
    ),
    "transposed conv output padding": (
        lambda s, x: F.conv_transpose2d(x, s.w, output_padding=1),
        {"w": rand(4, 8, 3, 3)},
    ),
    "linear bias": (lambda s, x: F.linear(x, s.w, s.b), {"w": rand(5, 8), "b": rand(7)}),
    "linear half": (lambda s, x: F.linear(x, s.w), {"w": rand(5, 8, dtype=torch.half)}),
    "linear of integers": (
        lambda s, x: F.linear(x.long(), s.w, s.b),
        {"w": rand(5, 8), "b": rand(5)},
    ),
    "linear of all integers": (lambda _, x: F.linear(x.long(), x[0, 0].long()), {}),
    "matmul half": (lambda s, x: x.matmul(s.w), {"w": rand(8, 8, dtype=torch.half)}),
    "matmul sizes": (lambda s, x: x.matmul(s.w), {"w": rand(7, 8)}),
    "bmm float64": (lambda s, x: torch.bmm(x[0], s.w), {"w": rand(4, 8, 8, dtype=torch.float64)}),
    "einsum float64": (
        lambda s, x: torch.einsum("bchw,wk->bchk", x, s.w),
        {"w": rand(8, 3, dtype=torch.float64)},
    ),
    "addmm float64": (
        lambda s, x: torch.addmm(s.b, x[0, 0], x[0, 0]),
        {"b": rand(8, dtype=torch.float64)},
    ),
    "attention float64": (
        lambda s, x: F.scaled_dot_product_attention(x, s.w, s.w),
        {"w": rand(1, 4, 8, 8, dtype=torch.float64)},
    ),
    "bilinear sizes": (lambda s, x: F.bilinear(x, x, s.w), {"w": rand(3, 8, 7)}),
    "bilinear float64": (
        lambda s, x: F.bilinear(x, x, s.w),
        {"w": rand(3, 8, 8, dtype=torch.float64)},
    ),
    "batch norm weight": (
        lambda s, x: F.batch_norm(x, None, None, s.w, None, True),
        {"w": rand(5)},
    ),
    "group norm weight": (lambda s, x: F.group_norm(x, 2, s.w), {"w": rand(5)}),
    "group norm groups": (lambda _, x: F.group_norm(x, 3), {}),
    "layer norm shape": (lambda _, x: F.layer_norm(x, (7,)), {}),
    "layer norm float64": (
        lambda s, x: F.layer_norm(x, (8,), s.w),
        {"w": rand(8, dtype=torch.float64)},
    ),
    "layer norm of bfloat16 with float32 weights": (
        lambda s, x: F.layer_norm(x.bfloat16(), (8,), s.w, s.w),
        {"w": rand(8)},
    ),
    "batch norm of half with float32 statistics": (
        lambda s, x: F.batch_norm(x.half(), s.w, s.w, s.w, s.w),
        {"w": rand(4)},
    ),
    "instance norm of a pixel": (lambda _, x: F.instance_norm(x[:, :, :1, :1]), {}),
    "prelu": (lambda s, x: F.prelu(x, s.w), {"w": rand(3)}),
    "max pool padding": (lambda _, x: F.max_pool2d(x, 2, 2, 2), {}),
    "avg pool padding": (lambda _, x: F.avg_pool2d(x, 2, 2, 2), {}),
    "avg pool of integers": (lambda _, x: F.avg_pool2d(x.long(), 2), {}),
    "adaptive pool of integers": (lambda _, x: F.adaptive_avg_pool2d(x.long(), 2), {}),
    "adaptive pool of a map": (lambda _, x: F.adaptive_avg_pool2d(x[0, 0], 1), {}),
    "max pool of complex": (lambda _, x: F.max_pool2d(torch.complex(x, x), 2), {}),
    "unpool indices": (lambda _, x: F.max_unpool2d(x, index(x, 1, 4, 7, 7), 2), {}),
    "softmax over no dimension": (lambda _, x: F.softmax(x, 4), {}),
    "log softmax over no dimension": (lambda _, x: F.log_softmax(x, -5), {}),
    "sort over no dimension": (lambda _, x: x.sort(4)[0], {}),
    "softmax of integers": (lambda _, x: F.softmax(x.long(), 1), {}),
    "gelu of integers": (lambda _, x: F.gelu(x.long()), {}),
    "silu of bytes": (lambda _, x: F.silu(x.to(torch.uint8)), {}),
    "relu of integers": (lambda _, x: F.relu(x.long()), {}),
    "relu of complex": (lambda _, x: torch.relu(torch.complex(x, x)), {}),
    "sigmoid of integers": (lambda _, x: torch.sigmoid(x.long()), {}),
    "mean of integers": (lambda _, x: x.long().mean(1), {}),
    "add of mixed": (lambda s, x: x.half() + s.w + x.long(), {"w": rand(8, dtype=torch.float64)}),
    "integers in place": (lambda _, x: x.long().add_(x), {}),
    "integer division in place": (lambda _, x: x.long().div_(2), {}),
    "integer division": (lambda _, x: x.long() // (1 + x.long()), {}),
    "expand in place": (lambda _, x: x[:, :1].expand(1, 4, 8, 8).add_(1), {}),
    "expand filled": (lambda _, x: x[:, :1].expand(1, 4, 8, 8).zero_(), {}),
    "cat ranks": (lambda _, x: torch.cat([x, x[0]], 1), {}),
    "cat sizes": (lambda _, x: torch.cat([x, x[..., :7]], 1), {}),
    "cat of mixed": (lambda _, x: torch.cat([x, x.long()], 1), {}),
    "copy": (lambda _, x: x.clone().copy_(x[..., :7]), {}),
    "view": (lambda _, x: x.view(1, 5, -1), {}),
    "index of floats": (lambda s, x: x.index_select(1, s.i), {"i": torch.zeros(2)}),
    "index of a matrix": (lambda _, x: x.index_select(1, index(x, 2, 2)), {}),
    "embedding of floats": (lambda s, x: F.embedding(x, s.w), {"w": rand(5, 3)}),
    "embedding of int32": (lambda s, x: F.embedding(x.int(), s.w), {"w": rand(5, 3)}),
    "gather": (lambda _, x: x.gather(1, index(x, 1, 9, 9, 8)), {}),
    "scatter": (lambda _, x: x.scatter(1, torch.zeros_like(x).long(), x.double()), {}),
    "index add": (lambda _, x: x.index_add(1, index(x, 3), x), {}),
    "index put": (lambda _, x: x.index_put((None, index(x, 3)), x), {}),
    "embedding bag": (lambda s, x: F.embedding_bag(index(x, 3), s.w), {"w": rand(5, 3)}),
    "mask of bytes": (lambda _, x: torch.where(x.to(torch.uint8), x, -x), {}),
    "grid batch": (
        lambda s, x: F.grid_sample(x, s.g, align_corners=False),
        {"g": rand(2, 8, 8, 2)},
    ),
    "grid float64": (
        lambda s, x: F.grid_sample(x, s.g, align_corners=False),
        {"g": rand(1, 8, 8, 2, dtype=torch.float64)},
    ),
    "pixel shuffle": (lambda _, x: F.pixel_shuffle(x, 3), {}),
    "glu": (lambda _, x: F.glu(x[:, :3], 1), {}),
    "fold": (lambda _, x: F.fold(x.flatten(2), (9, 9), 3), {}),
    "unfold": (lambda _, x: F.unfold(x, 9), {}),
    "circular pad": (lambda _, x: F.pad(x, (9, 9, 0, 0), "circular"), {}),
    "reflection pad": (lambda _, x: F.pad(x, (8, 8, 0, 0), "reflect"), {}),
    "resize to nothing": (lambda _, x: F.interpolate(x, scale_factor=0.1), {}),
    "resize cubically to nothing": (
        lambda _, x: F.interpolate(x, scale_factor=0.1, mode="bicubic"),
        {},
    ),
    "resize by size and scale": (lambda _, x: F.interpolate(x, 3, scale_factor=2), {}),
    "resize of integers": (
        lambda _, x: F.interpolate(x.long(), scale_factor=2, mode="bilinear"),
        {},
    ),
    "resize of bytes": (
        lambda _, x: F.interpolate(x.to(torch.uint8), scale_factor=2, mode="bilinear"),
        {},
    ),
    "cross entropy of floats": (
        lambda _, x: F.cross_entropy(x, torch.zeros(1, 8, 8, device=x.device)),
        {},
    ),
    "cross entropy of bytes": (
        lambda _, x: F.cross_entropy(x, index(x, 1, 8, 8).to(torch.uint8)),
        {},
    ),
    "cross entropy sizes": (lambda _, x: F.nll_loss(x, index(x, 1, 8, 7)), {}),
    "deformable offsets": (
        lambda s, x: torchvision.ops.deform_conv2d(x, s.o, s.w, padding=1),
        {"w": rand(8, 4, 3, 3), "o": rand(1, 17, 8, 8)},
    ),
    "deformable map": (
        lambda s, x: torchvision.ops.deform_conv2d(x, s.o, s.w, padding=1),
        {"w": rand(8, 4, 3, 3), "o": rand(1, 18, 7, 7)},
    ),
    "deformable channels": (
        lambda s, x: torchvision.ops.deform_conv2d(x, s.o, s.w, padding=1),
        {"w": rand(8, 3, 3, 3), "o": rand(1, 18, 8, 8)},
    ),
    "roi dtype": (
        lambda s, x: torchvision.ops.roi_align(x, s.b, 3),
        {"b": rand(2, 5, dtype=torch.float64)},
    ),
    "roi boxes": (lambda s, x: torchvision.ops.roi_align(x, s.b, 3), {"b": rand(5, 4)}),
}


def refused(function):
    try:
        with torch.no_grad():
            return None if function() is not None else ""
    except Exception as error:  # noqa: BLE001  whatever it raises, it does not run
        return error


@pytest.mark.parametrize("name", CALLS)
def test_meta_refuses_what_a_real_forward_refuses(name):
    model = Call(*CALLS[name][:1], **CALLS[name][1]).eval()
    real = refused(lambda: model(torch.rand(X)))
    ours = refused(lambda: trace(model, (torch.empty(X, device="meta"),)))
    assert (real is None) == (ours is None), (real, ours)


def test_transforms_of_half_are_cudas_alone_and_of_bfloat16_nobodys():
    x = torch.empty(X, device="meta")
    for name in ("fft", "rfft2"):
        transform = getattr(torch.fft, name)
        half = trace(Call(lambda _, x, f=transform: f(x.half()).abs()), (x,))
        assert half.tensors[half.outputs[0]].dtype == "float16"
        with pytest.raises(ForwardError, match=r"(?i)bfloat16"):
            trace(Call(lambda _, x, f=transform: f(x.bfloat16()).abs()), (x,))


@pytest.mark.parametrize("batch", [1, 64], ids=["small", "large"])  # the large one is not repeated
def test_dtypes_are_refused_at_any_size(batch, monkeypatch):
    monkeypatch.setattr(refusals, "_verdicts", {})  # those of other tests, of other sizes
    layers = (
        nn.Conv2d(64, 64, 3, groups=32, bias=False),
        nn.ConvTranspose2d(64, 64, 4, 2, groups=2, bias=False),
        nn.LayerNorm(56),
        nn.Linear(56, 384, bias=False),
        nn.PReLU(64),
        nn.Softmax(1),
        nn.MaxPool2d(13, padding=6),
    )
    x = torch.empty(batch, 64, 56, 56, device="meta")
    for layer in layers:
        trace(layer, (x,))
        if not isinstance(layer, nn.MaxPool2d):
            trace(layer.half(), (x.half(),))
        dtype = torch.complex64 if not list(layer.parameters()) else torch.float64
        with pytest.raises(ForwardError):
            trace(layer, (x.to(dtype),))


def test_a_call_that_no_dtype_runs_decides_nothing_for_others(monkeypatch):
    monkeypatch.setattr(refusals, "_verdicts", {})
    monkeypatch.setattr(refusals, "_SIZES", {})
    x = torch.empty(2, 3, 4, dtype=torch.complex64, device="meta")
    trace(nn.Softmax(5), (x,))  # its dimension is wrong, in whatever dtype
    with pytest.raises(ForwardError):
        trace(nn.Softmax(2), (x,))


def test_kernels_that_only_the_cpu_lacks_are_not_missed():
    half = torch.empty(1, 4, 8, 8, dtype=torch.half, device="meta")
    with pytest.raises(RuntimeError, match="Half"):
        torch.cdist(torch.rand(3, 4).half(), torch.rand(3, 4).half())
    trace(Call(lambda _, x: torch.cdist(x, x)), (half,))


def autocast_there(*args, **options):
    """A forward under torch.autocast for the device that the input is on."""

    def forward(x):
        with torch.autocast(x.device.type, *args, **options):
            return x @ x

    return forward


@pytest.mark.parametrize(
    ("forward", "notes"),
    [
        (autocast_there(), 1),
        (autocast_there(dtype=torch.bfloat16), 1),
        (autocast_there(enabled=False), 0),
        (autocast_there(torch.float16, False), 0),
        (lambda x: x.to(torch.get_autocast_dtype(x.device.type)), 0),
        (lambda x: x + torch.is_autocast_enabled(x.device.type), 0),
    ],
)
def test_autocast_for_the_device_of_the_input_asks_for_no_data(forward, notes: int):
    class Model(nn.Module):
        def forward(self, x):
            return forward(x)

    before = torch.autocast.__init__, torch.autocast.__enter__, torch.get_autocast_dtype
    made = api.trace(Model(), ["4x4"])
    assert (made.device, len(made.notes)) == ("meta", notes)
    assert all("torch.autocast" in note for note in made.notes)
    assert (torch.autocast.__init__, torch.autocast.__enter__, torch.get_autocast_dtype) == before


def test_autocast_changes_dtypes_and_is_believed():
    layer = nn.Conv2d(3, 8, 3, bias=False)

    def forward(_, x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    model = Call(forward)
    model.layer = layer
    assert forward(None, torch.rand(1, 3, 8, 8).bfloat16()).shape == (1, 8, 6, 6)
    trace(model, (torch.empty(1, 3, 8, 8, dtype=torch.bfloat16, device="meta"),))


def test_the_random_state_of_the_forward_is_its_own():
    def forward(_, x):
        x = F.scaled_dot_product_attention(x, x, x) + torch.rand_like(x)
        return x[:, :, : int(torch.randint(1, 8, (), device="cpu"))]

    x = torch.empty(X, device="meta")
    shapes = set()
    for _ in range(3):
        torch.manual_seed(3)
        made = trace(Call(forward), (x,))
        shapes.add(made.tensors[made.outputs[0]].shape)
    torch.manual_seed(3)
    assert shapes == {(1, 4, int(torch.randint(1, 8, ())), 8)}


NETWORKS = """
from torch import nn
class Mixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3, bias=False).half())
class Half(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU())
        self.half()
def dilation0(): return nn.Conv2d(3, 8, 3, dilation=0)
def padding(): return nn.Sequential(nn.Conv2d(3, 8, 3, padding=-1), nn.ReLU())
def stride0(): return nn.Conv2d(3, 8, 3, stride=0)
def kernel0(): return nn.Conv2d(3, 8, 0)
def channels0(): return nn.Conv2d(3, 0, 3)
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETWORKS)
    return path


@pytest.mark.parametrize("name", ["dilation0", "padding", "stride0", "kernel0", "channels0"])
@pytest.mark.parametrize("command", ["summary", "check"])
def test_a_layer_that_no_input_fits_is_the_models_fault(networks, name, command):
    scope = {}
    exec(NETWORKS, scope)
    with pytest.raises(RuntimeError):
        scope[name]()(torch.rand(1, 3, 8, 8))
    result = run_cli(command, f"{networks}:{name}", "--input", "3x8x8")
    assert result.code == 3
    assert "(Conv2d)" in result.err or "in Conv2d" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", ["summary", "check", "rf"])
def test_mixed_dtypes_name_the_layer_and_both_dtypes(networks, command):
    result = run_cli(command, f"{networks}:Mixed", "--input", "3x8x8")
    assert result.code == 3
    assert "forward failed in 1 (Conv2d)" in result.err
    assert "input float32, weight float16" in result.err


def test_an_input_of_another_dtype_than_the_weights_is_told_the_remedy(networks):
    result = run_cli("summary", "resnet18", "--input", "3x64x64:half")
    assert result.code == 3
    assert "resnet18 at 1x3x64x64 float16: forward failed in conv1 (Conv2d)" in result.err
    assert "leave :float16 out of --input, or give --dtype float16" in result.err
    assert run_cli("summary", "resnet18", "--input", "3x64x64", "--dtype", "half").code == 0
    result = run_cli("summary", "resnet18", "--input", "3x64x64:int64")
    assert result.code == 3
    assert "its weights are float32: leave :int64 out of --input\n" in result.err
    assert run_cli("summary", f"{networks}:Half", "--input", "3x8x8").code == 0
    assert run_cli("summary", f"{networks}:Half", "--input", "3x8x8:float32").code == 3


def test_a_recurrent_layer_is_told_the_remedy_for_its_dtype_as_others_are():
    for kind in ("LSTM", "GRU", "RNN"):
        result = run_cli("summary", f"nn.{kind}(16, 4)", "--input", "10x16:int64")
        assert result.code == 3
        assert "its weights are float32: leave :int64 out of --input\n" in result.err
    result = run_cli("summary", "nn.PReLU()", "--input", "1x4:int64")  # one slope, any channels
    assert "leave :int64 out of --input" in result.err
    assert "takes 1 channel" not in result.err
    result = run_cli("summary", "nn.Softmax(1)", "--input", "4x4:int64")  # has no weights
    assert "; leave :int64 out of --input\n" in result.err


def test_tokens_are_not_blamed_for_the_dtypes_of_a_layer_behind_their_embedding():
    model = "nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8).double())"
    result = run_cli("summary", model, "--input", "1x5:int64")
    assert result.code == 3
    assert "leave :int64 out" not in result.err
    assert "convert one to the dtype of the other" in result.err


def test_the_python_interface_refuses_as_well():
    with pytest.raises(ForwardError, match="input float64, weight float32"):
        api.summary(nn.Conv2d(3, 8, 3, bias=False), torch.rand(1, 3, 8, 8).double().to("meta"))


def test_distributions_and_packed_sequences_stay_on_meta():
    def forward(_, x):
        mean, deviation = x.chunk(2, 1)
        normal = torch.distributions.Normal(mean, deviation.exp())
        return normal.rsample() + normal.log_prob(mean)

    before = torch.distributions.Distribution._validate_args
    found = api.summary(Call(forward), "4x8x8")
    assert found.device == "meta"
    assert found.unknown == ()
    assert torch.distributions.Distribution._validate_args is before


def test_nested_and_sparse_tensors_are_named():
    def nested(_, x):
        return torch.nested.nested_tensor([x[0], x[0]]) + 1

    with pytest.raises(ForwardError, match="it makes a nested tensor, which is not followed"):
        trace(Call(nested), (torch.empty(X, device="meta"),))
    model = nn.Linear(3, 3)
    model.register_buffer("adjacency", torch.eye(3).to_sparse())
    with pytest.raises(ModelError, match=r"adjacency is a sparse_coo tensor.*hold it dense"):
        trace(model, (torch.empty(3, 3, device="meta"),))


def test_inputs_of_any_dtype_run_and_are_shown():
    found = api.trace(nn.Conv2d(1, 4, 3, dtype=torch.complex64), "1x8x8:complex64")
    assert [str(spec) for spec in found.input_specs] == ["1x1x8x8 complex64"]


# What a real forward refuses for the values, or what the CPU alone lacks, is not refused on meta.
ACCEPTED = re.compile(rf"(?<!Dimension )out of (range|bounds)|{refusals._CPU_ALONE.pattern}")


def judged(seed):
    """Errors of a real forward and of a trace of a random call; None where they agree."""
    function, tensors = Draw(seed).call()
    real = refused(lambda: function(*[None if t is None else t.clone() for t in tensors]))
    given = tuple(None if t is None else t.to("meta") for t in tensors)
    ours = refused(lambda: trace(Several(function), given))
    accepted = real is not None and ACCEPTED.search(str(real))
    asks = ours is not None and needs_data(getattr(ours, "cause", ours))
    return None if accepted or asks or (real is None) == (ours is None) else (seed, real, ours)


class Several(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.broad
def test_random_calls_are_refused_as_by_a_real_forward():
    assert [found for found in map(judged, range(300)) if found] == []


@pytest.mark.slow
def test_many_random_calls_are_refused_as_by_a_real_forward():
    assert [found for found in map(judged, range(300, 10_000)) if found] == []
