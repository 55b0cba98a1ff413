"""The trace of a training step against a real one on the CPU, and its failures in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from live_memory import live_step
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cnnscope.analysis.step import peak
from cnnscope.errors import ModelError, RequestError
from cnnscope.models import borrowed
from cnnscope.models.request import Request
from cnnscope.models.run import stepping
from cnnscope.records.step import FORMS, OPTIMIZERS, Step, StepTrace
from cnnscope.tracing import step as tracing

MAKES: dict[str, Any] = {
    "sgd": lambda p, **form: torch.optim.SGD(p, lr=0.1, **form),
    "momentum": lambda p, **form: torch.optim.SGD(p, lr=0.1, momentum=0.9, **form),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
FORM = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


class Residual(nn.Module):
    """Convolutions, norms, a sum of two branches, a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.pool(x + self.body(x))
        return self.head(x.flatten(1))


class InPlace(nn.Module):
    """Activations in place, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x), inplace=True)
        return self.twice(functional.relu(self.twice(x), inplace=True)).mean((2, 3))


class Tokens(nn.Module):
    """Fused attention on tokens, a norm and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


class Tied(nn.Module):
    """One weight in two layers, and an output that nothing is learned from."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 16), nn.Linear(16, 16)
        self.up.weight = self.down.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)[:, :16]
        return self.up(torch.tanh(self.down(x))), x.detach() * 2


class Small(nn.Module):
    """A stem of eight channels, and what a function makes of its output."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function, self.stem = function, conv(3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.stem(x))


def conv(channels: int = 8, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, 8, 3, padding=1, **how)


def with_buffers(model: nn.Module, **buffers: Tensor) -> nn.Module:
    for name, buffer in buffers.items():
        model.register_buffer(name, buffer)
    return model


def frozen(model: nn.Module, *parts: str) -> nn.Module:
    """The network with parts that are not trained."""
    for path, parameter in model.named_parameters():
        if path.split(".")[0] in parts:
            parameter.requires_grad = False
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "in place": InPlace,
    "tokens": Tokens,
    "tied": Tied,
    # gradients of one tensor from four places are added up one after the other
    "four branches": lambda: Small(
        lambda s, x: x + s.a(x) + s.b(x) + s.c(x), a=conv(), b=conv(), c=conv()
    ),
    "dropout": lambda: Small(
        lambda s, x: s.head(s.drop(x.relu()).flatten(1)),
        drop=nn.Dropout(0.5), head=nn.Linear(8 * 256, 5),
    ),
    "detached": lambda: Small(lambda s, x: s.a(x.detach()) + x, a=conv()),
    "frozen stem": lambda: frozen(Small(lambda s, x: s.a(x.relu()), a=conv()), "stem"),
    "frozen head": lambda: frozen(Small(lambda s, x: s.a(x.relu()), a=conv()), "a"),
    "not read": lambda: Small(lambda _, x: x, a=conv()),
    "norms": lambda: Small(
        lambda s, x: s.b(s.a(x)), a=nn.GroupNorm(2, 8), b=nn.InstanceNorm2d(8, affine=True)
    ),
    "gate": lambda: Small(
        lambda s, x: x * torch.sigmoid(s.a(x.mean((2, 3), keepdim=True))), a=nn.Conv2d(8, 8, 1)
    ),
    "transposed": lambda: Small(
        lambda s, x: s.a(functional.silu(x)), a=nn.ConvTranspose2d(8, 4, 3, 2)
    ),
    "attention of three dimensions": lambda: Small(
        lambda _, x: functional.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3)
    ),
    "formulas that write in place": lambda: Small(
        lambda _, x: functional.mish(torch.maximum(x, x.tanh())).gather(1, x.long() * 0)
    ),
    "a batch norm of the input": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()),
    "conjugates": lambda: Small(lambda _, x: (torch.fft.fft(x).conj() * x).imag),
    "gradients of slices": lambda: Small(
        lambda s, x: torch.cat([x, s.a(torch.cat([x, s.b(x)[:, :4]], 1))], 1), a=conv(12), b=conv()
    ),
    "gru": lambda: Small(
        lambda s, x: s.a(x.mean(3).transpose(1, 2))[0],
        a=nn.GRU(8, 4, 2, batch_first=True, bidirectional=True, dropout=0.2),
    ),
    "rnn": lambda: Small(
        lambda s, x: s.a(x.mean(3).permute(2, 0, 1), x[None, :, :5, 0, 0])[1],
        a=nn.RNN(8, 5, bias=False, nonlinearity="relu"),
    ),
    # a window of 16 is a view of 17 numbers, as is one number of which there are many
    "buffers that are parts": lambda: with_buffers(
        Small(lambda s, x: torch.stft(
            x.flatten(1) * s.scale, 16, window=s.window, return_complex=True
        ).abs()),
        window=torch.hann_window(16), scale=torch.ones(1).expand(2048),
    ),
    # 64 numbers, of which two buffers have 8 each, and a matrix that is there transposed as well
    "buffers of one memory": lambda: with_buffers(
        Small(lambda s, x: ((x.mean((2, 3)) * s.a + s.b) @ s.w).tanh() @ s.t),
        **dict(zip(("a", "b"), torch.ones(64).split(8), strict=False)),
        w=(matrix := torch.ones(8, 4)), t=matrix.t(),
    ),
    "lstm with projections": lambda: Small(
        lambda s, x: s.a(x.mean(3).transpose(1, 2))[0],
        a=nn.LSTM(8, 4, batch_first=True, proj_size=3),
    ),
    # a checkpoint keeps the state of the CPU's random numbers, 5,056 bytes
    "checkpoints of its own": lambda: Small(
        lambda s, x: checkpoint(s.b, checkpoint(s.a, x, use_reentrant=False), use_reentrant=True),
        a=nn.Sequential(conv(), nn.Dropout()), b=conv(),
    ),
    "a checkpoint without random numbers": lambda: Small(
        lambda s, x: checkpoint(s.a, x, use_reentrant=False, preserve_rng_state=False), a=conv()
    ),
    "encoder": lambda: Small(
        lambda s, x: s.a(x.flatten(2).transpose(1, 2)),
        a=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ),
}  # fmt: skip


def image() -> Tensor:
    return torch.rand(4, 3, 16, 16)


def summed(result: Any) -> Tensor:
    """The sum of what takes a gradient."""
    found = [t for t in (result if isinstance(result, tuple) else (result,)) if t.requires_grad]
    return sum((t.sum() for t in found[1:]), found[0].sum())


def both(model: nn.Module, step: Step, loss: Any = summed) -> tuple[int, int]:
    """The peak of a trace on tensors without data, and that of a real step."""
    made = traced(model, step)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = MAKES[step.optimizer](trained, **FORM[step.form])
    model.train()
    real = live_step(model, (image(),), optimizer, loss, accumulates=step.accumulates)
    return peak(made).nbytes, real


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_peak_is_that_of_a_real_step(name: str, optimizer: Any) -> None:
    ours, real = both(NETWORKS[name](), Step(optimizer))
    assert ours == real


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_peak_of_every_optimizer_in_every_form(optimizer: Any, form: Any) -> None:
    if (optimizer, form) == ("rmsprop", "fused"):
        with pytest.raises(RequestError, match="rmsprop has no fused form: choose foreach or loop"):
            both(Residual(), Step(optimizer, form))
        return
    ours, real = both(Residual(), Step(optimizer, form))
    assert ours == real


def test_gradients_of_earlier_batches_are_there_from_the_beginning() -> None:
    ours, real = both(Residual(), Step("adam", accumulates=True))
    assert ours == real


def test_the_targets_of_a_loss_are_inputs() -> None:
    target = torch.zeros(4, dtype=torch.int64)
    ours, real = both(
        Residual(),
        Step(loss="cross-entropy"),
        lambda result: functional.cross_entropy(result, target),
    )
    assert ours == real + 4 * 8  # four targets of int64, which the witness does not count as held


@pytest.mark.parametrize(
    ("function", "accuracy"),
    [
        (lambda _, x: x.masked_fill(x > 0, x.mean()), "at most"),
        (lambda _, x: x.cumprod(1), "unknown"),
        (lambda s, x: s.a(x.mean(3).transpose(1, 2))[0], "unknown"),
        (lambda _, x: torch.maximum(x, x.tanh()), "exact"),
    ],
)
def test_memory_that_is_not_exact_is_said_to_be_so(function: Any, accuracy: str) -> None:
    model = Small(function, a=nn.LSTM(8, 4, batch_first=True))
    if accuracy != "unknown":
        model = Small(function)
    made = traced(model, Step())
    assert made.accuracy == accuracy
    assert any("exact" in note or "at most" in note for note in made.trace.notes) == (
        accuracy != "exact"
    )
    real = live_step(model, (image(),), torch.optim.SGD(model.parameters(), lr=0.1), summed)
    assert peak(made).nbytes == real or accuracy != "exact"
    assert peak(made).nbytes >= real or accuracy == "unknown"


def test_operations_of_the_backward_pass_are_those_of_a_layer() -> None:
    made = traced(Small(lambda s, x: s.b(s.a(x).relu()), a=conv(), b=conv()), Step())
    paths = [
        made.path(number)
        for number, op in enumerate(made.trace.ops)
        if op.name == "aten.convolution_backward.default"
    ]
    assert paths == ["b", "a", "stem"]
    assert {op.call for op in made.trace.ops[made.backward :]} == {-1}


def test_phases_and_kinds() -> None:
    # 3 -> 8 channels of 3x3 with a bias: 8 * 27 + 8 = 224 numbers of four bytes
    made = traced(Small(lambda _, x: x.relu(), a=conv()), Step("adam"))
    sums: Counter[str] = Counter()
    for kind, storage in zip(made.kinds(), made.trace.storages, strict=True):
        sums[kind] += storage.nbytes
    assert sums["weight"] == 4 * (224 + 584)
    assert sums["gradient"] == 4 * 224
    assert sums["optimizer state"] == 2 * 4 * 224 + 2 * 4  # and the number of steps of each
    assert sums["input"] == 4 * 4 * 3 * 256
    assert sums["saved"] == 0  # the relu's result is the output
    assert sums["output"] == 4 * 4 * 8 * 256 + 4  # and the loss
    names = [made.trace.ops[i].name for i in range(len(made.trace.ops))]
    phases = [made.phase(i) for i in range(len(names))]
    assert phases == sorted(phases, key=["forward", "backward", "step"].index)
    assert phases[names.index("aten.convolution.default")] == "forward"
    assert phases[names.index("aten.convolution_backward.default")] == "backward"
    assert phases[-1] == "step"


def test_what_is_before_the_first_trained_parameter_is_not_saved() -> None:
    def saved(model: nn.Module) -> int:
        made = traced(model, Step())
        pairs = zip(made.kinds(), made.trace.storages, strict=True)
        return sum(storage.nbytes for kind, storage in pairs if kind == "saved")

    def network() -> nn.Module:
        return Small(lambda s, x: s.b(s.a(x.exp()).exp()), a=conv(), b=conv())

    one_map = 4 * 4 * 8 * 256
    assert saved(network()) == 2 * one_map
    assert saved(frozen(network(), "stem", "a")) == one_map  # what b reads


def test_a_model_with_data_is_left_as_it_was() -> None:
    model = Residual().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for optimizer in OPTIMIZERS:
        tracing.trace_step(model, (image(),), step=Step(optimizer))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def traced(model: nn.Module, step: Step) -> StepTrace:
    return tracing.trace_step(model, (torch.empty(4, 3, 16, 16, device="meta"),), step=step)


class Named(nn.Module):
    """A linear layer, and what a function makes of its output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function, self.line = function, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.function(self.line(x))


def overwritten(x: Tensor) -> Tensor:
    return x.exp().add_(1)


FAILURES: dict[str, tuple[nn.Module, str, type[Exception], str]] = {
    "nothing trained": (
        frozen(Named(torch.relu), "line"), "sum", RequestError, "no parameter .* is trainable",
    ),
    "detached": (Named(Tensor.detach), "sum", RequestError, "no output depends on a parameter"),
    "integers": (Named(lambda x: x.argmax(1)), "sum", RequestError, "no output depends"),
    "no classes": (
        Named(lambda x: x[:, 0]), "cross-entropy", RequestError, "N x classes; the output is 1:",
    ),
    "complex": (Named(torch.fft.fft), "mse", RequestError, "does not fit an output of complex"),
    "sparse": (
        nn.Embedding(10, 4, sparse=True), "sum", ModelError, "sparse gradients, which are not",
    ),
    "overwritten": (Named(overwritten), "sum", ModelError, "its backward pass failed: .*inplace"),
    "one value": (
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "sum", ModelError,
        "runs in inference and fails in training: .*more than 1 value.*; give a batch of 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_trained_is_one_message(name: str) -> None:
    model, loss, error, message = FAILURES[name]
    request = Request.of_module(type(model).__name__, "1x4")
    with (
        pytest.raises(error, match=f"(?s){type(model).__name__}: .*{message}") as raised,
        borrowed.stepping(request, model) as trace,
    ):
        trace(Step(loss=loss), None)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_what_cuda_refuses_to_cast_is_refused() -> None:
    """As `binary_cross_entropy_banned` of ATen/autocast_mode.h does under autocast of CUDA."""
    network = Small(lambda _, x: functional.binary_cross_entropy(x.sigmoid(), torch.zeros_like(x)))
    assert traced(network, Step()).update
    with pytest.raises(ModelError, match="unsafe to autocast"):
        traced(network, Step(amp="bf16"))


def test_a_named_model() -> None:
    with stepping(Request.of("resnet18", batch_size=4)) as trace:
        made = trace(Step(), None)
    assert peak(made).nbytes == 172_733_288  # as torch's profiler measured of a step on a CPU
    assert made.trace.source.name == "resnet18"
    assert len(made.gradients) == 62
