"""Peak activation memory is that of the kernels which really run on a CPU: held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import live_memory
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from cnnscope.analysis import memory
from cnnscope.analysis.step import inference
from cnnscope.models import find, run
from cnnscope.models.request import Request
from cnnscope.records.trace import Trace
from cnnscope.timing import work
from cnnscope.tracing.tracer import trace

rand = torch.rand
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


class Do(nn.Module):
    """A forward, and the modules that it has."""

    def __init__(self, forward: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = forward, nn.ModuleList(parts)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*self.parts, *inputs)


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """With a single thread a CPU chooses other kernels for volumes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[True, False], ids=["fast path", "as written"])
def fast_path(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Return True if torch may run modules of attention as one operation, as it does by default."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(request.param)
    yield request.param
    torch.backends.mha.set_fastpath_enabled(before)


def without_data(tensor: Tensor) -> Tensor:
    """A tensor on meta that lies as this one does in memory as large."""
    elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    memory = torch.empty(elements, dtype=tensor.dtype, device="meta")
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def of(model: nn.Module, *inputs: Tensor) -> Trace:
    """The trace of a model with these inputs, without their data."""
    return trace(model.eval(), tuple(map(without_data, inputs)))


def hold(model: nn.Module, *inputs: Tensor) -> None:
    """The peak and the sum are those of a real forward.

    The sum to one number: a mask of booleans becomes one of numbers by two constants, one of which
    the CPU makes once and for all. What is moved from the CPU to the input's device, as on a GPU,
    is no copy there.
    """
    torch.manual_seed(0)
    made, real = of(model, *inputs), live_memory.live(model, *inputs)
    assert memory.peak(made).nbytes == real.peak
    assert memory.allocated(made) - moved(made) == pytest.approx(real.allocated, abs=8)


def moved(made: Trace) -> int:
    """Bytes of what is copied to another device alone: RAFT makes its grids on the CPU."""
    pairs = [
        (made.tensors[op.inputs["self"]], made.tensors[op.outputs[0]])
        for op in made.ops
        if op.name == "aten._to_copy.default" and op.attributes.get("device") == "meta"
    ]
    return sum(made.storages[b.storage].nbytes for a, b in pairs if a.dtype == b.dtype)


# -------------------------------------------------------------------------------- attention


def attend(*args: Tensor, **options: Any) -> Tensor:
    """As models do: the heads side by side afterwards, which is a view or a copy."""
    return F.scaled_dot_product_attention(*args, **options).transpose(1, 2).flatten(2)


def qkv(*shape: int) -> list[Tensor]:
    return [rand(shape) for _ in range(3)]


B, H, L, E = 2, 4, 50, 8
FUSED: dict[str, tuple[list[Tensor], dict[str, Any]]] = {
    "plain": (qkv(B, H, L, E), {}),
    "causal": (qkv(B, H, L, E), {"is_causal": True}),
    "scaled": (qkv(B, H, L, E), {"scale": 0.3}),
    "a mask of numbers": ([*qkv(B, H, L, E), rand(L, L)], {}),
    "a mask of booleans": ([*qkv(B, H, L, E), rand(L, L) > 0.5], {}),
    "a mask of booleans for each key": ([*qkv(B, H, L, E), rand(B, 1, 1, L) > 0.5], {}),
    "a mask for each sample": ([*qkv(B, H, L, E), rand(B, 1, L, L)], {}),
    "one sample": (qkv(1, H, L, E), {}),
    "samples without heads": (qkv(H, L, E), {}),
    "half": ([t.half() for t in qkv(B, H, L, E)], {}),
    "bfloat16 and a mask of booleans": (
        [*[t.bfloat16() for t in qkv(B, H, L, E)], rand(L, L) > 0.5],
        {},
    ),
    "double": ([t.double() for t in qkv(B, H, L, E)], {}),
    "heads from a linear layer": ([t.transpose(1, 2) for t in qkv(B, L, H, E)], {}),
    "other keys": ([rand(B, H, L, E), rand(B, H, 20, E), rand(B, H, 20, E)], {}),
    "grouped queries": ([rand(B, H, L, E), *qkv(B, 2, L, E)[:2]], {"enable_gqa": True}),
    "one feature": (qkv(B, H, L, 1), {}),
}  # fmt: skip
NOT_FUSED: dict[str, tuple[list[Tensor], dict[str, Any]]] = {
    "five axes": (qkv(1, B, H, L, E), {}),
    "five axes, causal": (qkv(1, B, H, L, E), {"is_causal": True}),
    "a mask of three axes": ([*qkv(B, H, L, E), rand(H, L, L)], {}),
    "a mask of booleans, three axes": ([*qkv(B, H, L, E), rand(H, L, L) > 0.5], {}),
    "dropout": (qkv(B, H, L, E), {"dropout_p": 0.5}),
    "other features of values": ([*qkv(B, H, L, E)[:2], rand(B, H, L, 6)], {}),
    "features that do not lie side by side": (
        [t.transpose(-1, -2) for t in qkv(B, H, E, L)], {},
    ),
    "half with a mask of three axes": ([t.half() for t in (*qkv(B, H, L, E), rand(H, L, L))], {}),
    "keys of one sample": ([rand(B, H, L, E), *qkv(1, H, L, E)[:2]], {}),
}  # fmt: skip


def scores(made: Trace) -> bool:
    """Return True if memory is taken by a tensor as large as all scores."""
    return any(
        made.storages[made.tensors[tid].storage].nbytes
        for op in made.ops
        for tid in op.outputs
        if made.tensors[tid].shape[-2:] == (L, L) and len(made.tensors[tid].shape) > 2
    )


@pytest.mark.parametrize("name", FUSED)
def test_attention_in_one_kernel_keeps_no_scores(name: str):
    tensors, options = FUSED[name]
    if not torch._fused_sdp_choice(*tensors, **options):
        pytest.skip("this torch has no kernel for it: the scores are kept")
    model = Do(lambda *args: attend(*args, **options))
    hold(model, *tensors)
    assert not scores(of(model, *tensors))


@pytest.mark.parametrize("name", NOT_FUSED)
def test_attention_in_several_kernels_keeps_the_scores(name: str):
    tensors, options = NOT_FUSED[name]
    model = Do(lambda *args: attend(*args, **options))
    hold(model, *tensors)
    assert scores(of(model, *tensors))


# q, k and v, 2*4*50*8 floats each, are 3*12,800 bytes and held by the caller; the kernel returns as
# many and 2*4*50 sums: 38,400 + 12,800 + 1,600 = 52,800. Its two products are seen all the same.
def test_the_memory_of_a_fused_attention_by_hand():
    made = of(Do(F.scaled_dot_product_attention), *qkv(B, H, L, E))
    assert memory.peak(made).nbytes == 52_800
    assert memory.allocated(made) == 14_400
    products = [op for op in made.ops if op.name == "aten.bmm.default"]
    assert [made.tensors[op.outputs[0]].shape for op in products] == [(8, L, L), (8, L, E)]


# q, k, v are read and the result is written, 12,800 bytes each: nothing between leaves the kernel.
def test_a_fused_attention_moves_what_it_is_given_and_what_it_returns():
    made = of(Do(F.scaled_dot_product_attention), *qkv(B, H, L, E))
    assert work.sum_bytes(made, made.ops) == 4 * 12_800


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [
        (SDPBackend.MATH, True),
        (SDPBackend.FLASH_ATTENTION, False),
        (SDPBackend.EFFICIENT_ATTENTION, False),  # which no CPU has: it is meant for CUDA
    ],
)
def test_a_model_that_selects_its_kernel_is_believed(allowed: SDPBackend, kept: bool):
    def forward(*args: Tensor) -> Tensor:
        with sdpa_kernel(allowed):
            return F.scaled_dot_product_attention(*args)

    assert scores(of(Do(forward), *qkv(B, H, L, E))) == kept


class Attending(nn.Module):
    """Attention between the positions of (N, L, E) or (L, N, E), with masks of a kind."""

    def __init__(self, masks: str, *, need_weights: bool = False, **options: Any) -> None:
        super().__init__()
        self.masks, self.weights = masks, need_weights
        self.inner = nn.MultiheadAttention(16, options.pop("heads", 4), **options)

    def forward(self, x: Tensor) -> Any:
        order = (1, 0) if self.inner.batch_first else (0, 1)
        length, batch = (x.shape[axis] for axis in order) if x.dim() == 3 else (len(x), 0)
        dtype = torch.float32 if "numbers" in self.masks else torch.bool
        pairs = torch.zeros(length, length, dtype=dtype, device=x.device)
        keys = torch.zeros([batch, length][not batch :], dtype=dtype, device=x.device)
        y, weights = self.inner(
            x, x, x,
            attn_mask=pairs if "pairs" in self.masks else None,
            key_padding_mask=keys if "keys" in self.masks else None,
            need_weights=self.weights,
        )  # fmt: skip
        return y.transpose(0, 1).flatten(1), weights


_MASKS = ["none", "pairs", "pairs of numbers", "keys", "pairs and keys", "pairs and keys, numbers"]
_OPTIONS: list[dict[str, Any]] = [
    {},
    {"need_weights": True},
    {"batch_first": True, "heads": 1},
    {"batch_first": True, "kdim": 16, "vdim": 16},
    {"batch_first": True, "add_zero_attn": True},
    {"batch_first": True, "add_bias_kv": True},
]


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize("masks", _MASKS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_with_masks_takes_the_memory_of_its_kernels(masks: str, *, need_weights: bool):
    model = Attending(masks, need_weights=need_weights, batch_first=True)
    hold(model, rand(3, 50, 16))


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize("options", _OPTIONS, ids=str)
def test_multihead_attention_takes_the_memory_of_its_kernels(options: dict[str, Any]):
    hold(Attending("none", **options), rand(3, 50, 16))
    hold(Attending("pairs", **options), rand(16, 16))


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize(
    "options",
    [{}, {"norm_first": True, "activation": "gelu"}, {"activation": torch.tanh}, {"bias": False}],
    ids=["plain", "norm first, gelu", "tanh", "without bias"],
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_transformers_take_the_memory_of_their_kernels(options: dict[str, Any], *, batch_first):
    options = {**options, "batch_first": batch_first}
    x, mask = rand(3, 50, 16), torch.zeros(*(50, 50) if batch_first else (3, 3), dtype=torch.bool)
    encoder = nn.TransformerEncoderLayer(16, 4, 32, **options)
    hold(encoder, x)
    hold(Do(lambda layer, x, mask: layer(x, src_mask=mask), encoder), x, mask)
    hold(nn.TransformerDecoderLayer(16, 4, 32, **options), x, x + 1)
    hold(nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False), x)


@pytest.mark.usefixtures("fast_path")
@pytest.mark.parametrize("masks", ["pairs", "pairs and keys", "pairs and keys, numbers"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_without_biases_takes_no_fast_path_and_adds_its_masks(masks, *, need_weights):
    model = Attending(masks, need_weights=need_weights, batch_first=True, bias=False)
    hold(model, rand(3, 50, 16))


def test_a_hook_inside_a_layer_keeps_torch_from_its_fast_path():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    layer.linear1.register_forward_hook(lambda *_: None)
    hold(layer, rand(3, 50, 16))


# x is held by the caller, (3, 50, 16) floats or 9,600 bytes; the kernel's result is as large.
def test_the_memory_of_a_module_that_is_one_kernel_by_hand():
    made = of(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), rand(3, 50, 16))
    assert memory.peak(made).nbytes == 2 * 9_600
    assert memory.allocated(made) == 9_600
    assert len(made.calls) > 5  # its parts are seen all the same


def test_attention_of_a_real_forward_is_counted_alike():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = rand(3, 50, 16)
    real = trace(layer, (x,))
    assert real.device == "cpu"
    assert memory.peak(real).nbytes == memory.peak(of(layer, x)).nbytes


# Under inference mode attention is one operation to the trace as well. The caller holds q, k and v,
# 9,600 bytes each, which lie as (3, 50, 4, 4); so does the result: heads side by side are a view.
def test_attention_under_inference_mode_returns_what_lies_as_its_queries():
    @torch.inference_mode()
    def forward(*args: Tensor) -> Tensor:
        return attend(*args)

    made = of(Do(forward), *[t.transpose(1, 2) for t in qkv(3, 50, 4, 4)])
    assert memory.peak(made).nbytes == 4 * 9_600
    assert memory.allocated(made) == 9_600


def test_nothing_is_left_in_the_dispatcher():
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    seen = []

    def forward(x: Tensor) -> Tensor:
        seen.append(has("aten::scaled_dot_product_attention", "AutogradMeta"))
        inner = trace(nn.Linear(E, E), (x,))
        seen.append(has("aten::scaled_dot_product_attention", "AutogradMeta"))
        return x + len(inner.ops)

    of(Do(forward), rand(B, H, L, E))
    assert seen == [True, True]
    assert not has("aten::scaled_dot_product_attention", "AutogradMeta")
    assert not has("aten::linear", "AutogradCPU")


# ---------------------------------------------------------------- functions made of others


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Linear(8, 5), rand(3, 20, 8)),
        (nn.Linear(8, 5), rand(20, 3, 8).transpose(0, 1)),  # adds its bias in place
        (nn.Linear(8, 5, bias=False), rand(20, 3, 8).transpose(0, 1)),
        (nn.Linear(8, 5), rand(3, 4, 20, 8).transpose(1, 2)),
        (Do(lambda layer, x: layer(x.transpose(1, 2)).relu(), nn.Linear(20, 5)), rand(3, 20, 8)),
        (nn.MaxPool1d(2), rand(3, 4, 20)),  # makes no indices
        (nn.MaxPool1d(2), rand(4, 20)),
        (nn.MaxPool1d(3, 2, 1, ceil_mode=True), rand(3, 20, 4).transpose(1, 2)),
        (nn.MaxPool1d(2, return_indices=True), rand(3, 4, 20)),
    ],
)
def test_functions_take_the_memory_that_they_take_unwatched(model: nn.Module, x: Tensor):
    hold(model, x)


def test_a_sum_that_a_model_writes_itself_is_not_in_place():
    hold(Do(lambda m, x: x.transpose(0, 1) @ m.weight + m.bias, nn.Linear(8, 8)), rand(9, 3, 8))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2},
        {"batch_first": True, "bias": False},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ],
    ids=str,
)
def test_recurrent_layers_multiply_all_inputs_at_once(kind: Any, options: dict[str, Any]):
    hold(Do(lambda layer, x: layer(x)[0].relu(), kind(8, 16, **options)), rand(20, 3, 8))


# By oneDNN where it can, a layer and direction at a time: in half too, and not with projections.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3, "bias": False},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"bidirectional": True, "bias": False, "batch_first": True},
        {"num_layers": 2, "bidirectional": True, "proj_size": 4},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_an_lstm_takes_the_memory_of_its_kernels(options: dict[str, Any], dtype: torch.dtype):
    layer = nn.LSTM(8, 16, dtype=dtype, **options)
    x = rand(6, 3, 8, dtype=dtype)
    hold(Do(lambda layer, x: layer(x)[0].relu(), layer), x)
    hold(Do(lambda layer, x: layer(x), layer), x[:1, :1])


# x is held by the caller, (20, 3, 8) floats or 1,920 bytes. Two states of (1, 3, 16) floats, 192
# bytes each, are made, then the output, (20, 3, 16) or 3,840 bytes, with its last two states, which
# are stacked: 3,840 + 6 * 192.
def test_the_memory_of_an_lstm_by_hand():
    made = of(nn.LSTM(8, 16), rand(20, 3, 8))
    assert memory.allocated(made) == 3_840 + 6 * 192 == memory.peak(made).nbytes - 1_920
    assert sum(op.name == "aten.addmm.default" for op in made.ops) == 40  # every step is seen


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"dtype": torch.float64}], ids=str)
def test_bags_of_embeddings_keep_what_is_noted_of_them(mode: str, options: dict[str, Any]):
    bags = Do(lambda layer, *x: layer(*x).relu(), nn.EmbeddingBag(10, 8, mode=mode, **options))
    hold(bags, torch.randint(10, (4, 5)))
    hold(bags, torch.randint(10, (20,), dtype=torch.int32), torch.tensor([0, 4, 10]))
    bags.parts[0].include_last_offset = True
    hold(bags, torch.randint(10, (20,)), torch.tensor([0, 4, 10, 20]))


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: torch.where(x > 0.5, x, 0.0),
        lambda x: torch.where(x > 0.5, 1, x),
        lambda x: torch.where(x > 0.5, 1.0, 0.0) + x,
        pytest.param(
            lambda x: torch.where(x > 0.5, x, torch.tensor(0.0, device=x.device)),
            marks=pytest.mark.skipif(
                TORCH < (2, 12), reason="this torch shows no tensor made of a number"
            ),
        ),
    ],
)
def test_a_number_is_no_tensor_to_where(forward: Callable[..., Any]):
    hold(Do(forward), rand(2, 4, 8, 8))


# ------------------------------------------------------------------------- order in memory


def orders(x: Tensor) -> dict[str, Tensor]:
    """The same sizes in different orders of memory."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    found = {
        "in order": x,
        "last two axes swapped": x.transpose(-1, -2).contiguous().transpose(-1, -2),
        "first two axes swapped": x.transpose(0, 1).contiguous().transpose(0, 1),
        "every second column": torch.cat([x, x], dim=-1)[..., ::2],
    }
    if x.dim() in formats:
        found["channels last"] = x.contiguous(memory_format=formats[x.dim()])
    return found


def then_reshaped(layer: Any) -> nn.Module:
    """Layers whose result makes the next operation copy, or not.

    One of them twice, or the sums were the same for two orders of which either copies the other's.
    """

    def forward(part: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        y = part(x)
        y = y[0] if isinstance(y, tuple) else y
        z = y.relu()
        copies = [y.flatten(1), y.flatten(1), y.movedim(1, -1).flatten()]
        return y, z, *copies, z.transpose(1, -1).flatten()

    return Do(forward, layer if isinstance(layer, nn.Module) else Do(layer))


def unpooled(x: Tensor) -> Tensor:
    return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)


LAYERS: dict[str, tuple[int, Any]] = {
    "convolution": (2, nn.Conv2d(4, 6, 3)),
    "pointwise": (2, nn.Conv2d(4, 6, 1)),
    "depthwise": (2, nn.Conv2d(4, 4, 3, padding=1, groups=4)),
    "strided, dilated": (2, nn.Conv2d(4, 6, 3, 2, dilation=2)),
    "channels-last weight": (2, nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)),
    "transposed": (2, nn.ConvTranspose2d(4, 6, 3, 2)),
    "1-D convolution": (1, nn.Conv1d(4, 6, 3)),
    "3-D convolution": (3, nn.Conv3d(4, 6, 3)),
    "3-D transposed": (3, nn.ConvTranspose3d(4, 6, 2, 2)),
    "3-D transposed, depthwise, smaller": (3, nn.ConvTranspose3d(4, 4, 1, groups=4, padding=2)),
    "3-D transposed to fewer channels": (3, nn.ConvTranspose3d(4, 1, 3, padding=1)),
    "folded": (2, lambda x: F.fold(F.unfold(x, 3), (8, 8), 3)),
    "batch norm": (2, nn.BatchNorm2d(4)),
    "batch norm, 3-D": (3, nn.BatchNorm3d(4)),
    "instance norm": (2, nn.InstanceNorm2d(4)),
    "group norm": (2, nn.GroupNorm(2, 4)),
    "max pool": (2, nn.MaxPool2d(2)),
    "average pool": (2, nn.AvgPool2d(2)),
    "adaptive average pool": (2, nn.AdaptiveAvgPool2d(3)),
    "adaptive max pool": (2, nn.AdaptiveMaxPool2d(3)),
    "unpool": (2, unpooled),
    "bilinear": (2, nn.Upsample(scale_factor=2, mode="bilinear")),
    "nearest": (2, nn.Upsample(scale_factor=2)),
    "reflected": (2, nn.ReflectionPad2d(1)),
    "reflected, 3-D": (3, nn.ReflectionPad3d(1)),
    "repeated": (2, nn.ReplicationPad2d(1)),
    "wrapped": (2, nn.CircularPad2d(1)),
    "shuffled channels": (2, nn.ChannelShuffle(2)),
    # to more than one channel, whose order would be no order
    "shuffled pixels": (2, lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2)),
    "unshuffled pixels": (2, nn.PixelUnshuffle(2)),
    "rolled": (2, lambda x: x.roll(1, -1)),
    "random ReLU": (2, nn.RReLU()),
    "log sigmoid": (2, nn.LogSigmoid()),
    "PReLU": (2, nn.PReLU(4)),
    "dropout": (2, lambda x: F.dropout(x, 0.5)),
    "softmax": (2, nn.Softmax(1)),
    "layer norm": (2, nn.LayerNorm(8)),
    "linear": (2, nn.Linear(8, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_leave_their_results_as_on_a_cpu(name: str):
    if name == "group norm" and TORCH < (2, 12):
        pytest.skip("torch to 2.11 copies what lies channels-last before it normalises groups")
    rank, layer = LAYERS[name]
    for x in orders(rand(2, 4, *(8,) * rank)).values():
        hold(then_reshaped(layer), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "layer",
    [nn.Conv3d(3, 9, 1), nn.ConvTranspose3d(3, 1, 3), nn.ConvTranspose3d(3, 1, 3, padding=1)],
)
def test_a_small_convolution_of_one_sample_in_3d_is_by_other_kernels(layer, dtype: torch.dtype):
    x = rand(1, 3, 4, 5, 4, dtype=dtype)
    hold(then_reshaped(layer.to(dtype)), x)
    hold(then_reshaped(layer.to(dtype)), x.contiguous(memory_format=torch.channels_last_3d))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 4), nn.GroupNorm(4, 4).half(), nn.BatchNorm2d(4), nn.LayerNorm(8),
        nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4),
    ],
)  # fmt: skip
def test_norms_keep_statistics_of_the_type_of_their_weights(norm: nn.Module, dtype: torch.dtype):
    parameters = {p.dtype for p in norm.parameters()}
    if parameters == {torch.float16} and dtype is torch.bfloat16:
        pytest.skip("which no forward takes")
    x = rand(2, 4, 8, 8).to(dtype)
    hold(Do(lambda conv, norm, x: norm(conv(x)), nn.Conv2d(4, 4, 1).to(dtype), norm), x)


# ------------------------------------------------------------------------------- the models


@pytest.mark.broad
# 48*48 patches and a class token make 2,305 tokens of 768 floats: 7,080,960 bytes. When the MLP of
# the second block has run its GELU there are the picture (3*768*768*4 = 7,077,888 bytes), the
# tokens without and with positions, the block's input, its sum with attention, the norm of it (5),
# the 4 times wider hidden layer and its GELU (8). One block's scores would be 12*2305*2305*4 bytes.
def test_vit_at_768_pixels_keeps_no_scores():
    made = run.trace_spec(
        Request.of("vit_b_16", inputs=("3x768x768",), arguments={"image_size": 768})
    )
    assert memory.peak(made).nbytes == 7_077_888 + 13 * 7_080_960
    assert memory.peak(made).nbytes / 2**20 == pytest.approx(94.5, abs=0.05)
    assert memory.allocated(made) / 2**30 == pytest.approx(1.13, abs=0.005)


@pytest.mark.parametrize("kind", ["function", "module"])
def test_a_mask_that_is_older_than_the_run_keeps_its_bytes(kind: str):
    # held by a closure, so that it is no buffer
    dtype = torch.float32 if kind == "function" else torch.bool
    mask = torch.empty(L, L, device="meta", dtype=dtype)
    if kind == "function":
        model = Do(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask))
    else:
        part = nn.MultiheadAttention(8, 2, batch_first=True)
        model = Do(lambda part, x: part(x, x, x, attn_mask=mask, need_weights=False), part)
    made = of(model, rand(1, L, 8))
    old = [s.nbytes for s in made.storages if s.born < 0]
    assert mask.nbytes in old


@pytest.mark.broad
@pytest.mark.parametrize("name", ["vit_b_32", "shufflenet_v2_x0_5"])
def test_models_have_the_peak_of_a_real_forward(name: str):
    check_model("torchvision", name, None)


def check_model(source: str, name: str, shape: tuple[int, ...] | None) -> None:
    """Hold a named model, at `shape` (N, C, H, W) or its own input."""
    built, forget = run.real_model(Request.of(f"{source}:{name}"), "cpu")
    shapes = [shape] if shape else [tensor.shape for tensor in built.inputs.tensors]
    try:
        hold(built.model, *map(rand, shapes))
    finally:
        forget()


# What takes seconds at its own size, at one that shows as much: the order of memory is the same.
_SMALLER: dict[str, tuple[int, ...] | None] = {
    "raft": None, "mvit": None, "swin": None, "vit": None, "maxvit": None,
    "r3d": (1, 3, 8, 64, 64), "mc3": (1, 3, 8, 64, 64), "r2plus1d": (1, 3, 8, 64, 64),
    "s3d": (1, 3, 16, 224, 224), "": (1, 3, 128, 128),
}  # fmt: skip
_BY_DATA = ("rcnn", "retinanet", "ssd", "fcos")  # as much as is found in the picture


@pytest.mark.slow
@pytest.mark.parametrize("source", ["torchvision", "classic"])
def test_every_model_has_the_peak_of_a_real_forward(source: str):
    for name in find.library(source).names():
        if source == "classic":
            check_model(source, name, None)
        elif not any(part in name for part in _BY_DATA):
            check_model(source, name, next(v for k, v in _SMALLER.items() if name.startswith(k)))


_TIMM = """
beit_base_patch16_224 cait_xxs24_224 coat_tiny coatnet_0_rw_224 crossvit_tiny_240
davit_tiny deit3_small_patch16_224 edgenext_small efficientformerv2_s0 eva02_tiny_patch14_224
fastvit_t8 focalnet_tiny_srf gcvit_xxtiny hiera_tiny_224 levit_128s maxvit_tiny_tf_224
mixer_s32_224 mobilevit_xs mobilevitv2_050 mvitv2_tiny nest_tiny nextvit_small pit_ti_224
poolformer_s12 pvt_v2_b0 resmlp_12_224 samvit_base_patch16_224 swin_tiny_patch4_window7_224
swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_patch16_224 twins_svt_small
vit_base_patch16_224 vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224
vit_small_patch16_siglip_gap_256 volo_d1_224 xcit_nano_12_p16_224 botnet26t_256 halonet26t
lambda_resnet26t bat_resnext26ts convnext_tiny resnet18 efficientnet_b0 densenet121 ghostnet_100
hrnet_w18 dla34 nfnet_f0 regnetx_002 mobilenetv4_conv_small repvgg_a0 res2net50_14w_8s
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", _TIMM.split())
def test_timm_models_have_the_peak_of_a_real_forward(name: str):
    timm = pytest.importorskip("timm", reason="timm is not installed (the extra of that name)")
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    check_model("timm", name, None)


# -------------------------------------------------------------------------- memory that grows


def into_nothing(x: Tensor) -> Tensor:
    """Results put into tensors without elements, as `nn.CrossMapLRN2d` does."""
    out = x.new()
    torch.mul(x, 2, out=out)
    return torch.cat([out, out], 1, out=x.new_empty(0))


@pytest.mark.parametrize(
    "forward",
    [
        into_nothing,
        lambda x: (x * 2).resize_(1, 4, 16, 16) + 1,
        lambda x: torch.mul(x, 2, out=torch.empty_like(x)),  # there is room
        nn.CrossMapLRN2d(3),
    ],
    ids=["out", "resize", "room", "norm"],
)
def test_memory_that_an_operation_makes_larger_counts_from_there_on(forward: Any) -> None:
    hold(Do(forward), rand(1, 4, 8, 8))


# ------------------------------------------------------- memory that no operation makes or frees


def resized(x: Tensor) -> Tensor:
    """Memory that is let go of while its tensor lives, and taken again."""
    a = x * 2
    size, b = a.untyped_storage().nbytes(), a + 1
    a.untyped_storage().resize_(0)
    c = (b * 3).exp() + b
    a.untyped_storage().resize_(size)
    return a.copy_(c) + c


def checkpointed(x: Tensor) -> Tensor:
    return checkpoint(torch.exp, x * 2, use_reentrant=False)


@pytest.mark.parametrize("function", [resized, checkpointed])
def test_memory_that_no_operation_makes_or_frees(function: Callable[[Tensor], Tensor]):
    hold(Do(function), rand(2000))
    assert of(Do(function), rand(2000)).accuracy == "exact"


def test_an_input_that_loses_its_memory_has_it_back():
    def forward(x: Tensor) -> Tensor:
        y = x + 1
        x.untyped_storage().resize_(0)
        return y

    x = torch.ones(4)
    made = trace(Do(forward), (x,))
    assert x.tolist() == [1.0] * 4
    assert made.accuracy == "unknown"
    assert made.notes[-1].startswith("the forward gives memory of its inputs")


def tangent(x: Tensor) -> Tensor:
    return torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),))[1]


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 1, **options)


MASKED: list[Tensor] = [rand(3, 10, 16), torch.arange(10) > torch.tensor([[9], [5], [7]])]


@pytest.mark.parametrize(
    ("model", "inputs", "why"),
    [
        (Do(tangent), [rand(8)], "forward-mode"),
        (Do(lambda e, x, m: e(x, src_key_padding_mask=m), encoder()), MASKED, "packs the tokens"),
        (Do(lambda e, x, m: e(x, None, m), encoder(enable_nested_tensor=False)), MASKED, ""),
        (Do(lambda e, x, _: e(x), encoder()), MASKED, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_memory_is_right_or_said_not_to_be_exact(model: nn.Module, inputs: list[Tensor], why: str):
    made, real = of(model, *inputs), live_memory.live(model, *inputs)
    assert (memory.peak(made).nbytes == real.peak) == (not why)
    assert made.accuracy == inference(made).accuracy == ("unknown" if why else "exact")
    assert [why in note and "not exact" in note for note in made.notes] == [True] * bool(why)
