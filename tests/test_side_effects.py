"""Nothing is different after a call: not the model, not torch, not the process."""

import contextlib
import copy
import os
import random
import subprocess
import sys
import textwrap
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from command_line import run_cli
from torch import nn
from torch.nn.modules import module as module_internals

import cnnscope
from cnnscope.errors import CnnscopeError
from cnnscope.models import run
from cnnscope.models.request import Request
from cnnscope.reports.effective import effective
from cnnscope.reports.verify import verify

pytestmark = pytest.mark.broad


class Net(nn.Module):
    """Every kind of state that a forward may change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout()
        self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(requires_grad=False)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("seen", torch.zeros(1))
        self.cache = {}

    def forward(self, x):
        self.seen += 1
        self.cache["last"] = x
        x = self.frozen(self.drop(self.norm(self.conv(x))).relu_())
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0]


def a_net():
    torch.manual_seed(0)
    model = Net()
    model.norm.eval()
    model.conv.register_forward_hook(lambda *_: None)
    model.norm.register_buffer("scratch", torch.ones(2), persistent=False)
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    return model


def state(model):
    """Everything about a model, the process and torch that a look at it must not change."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    with torch.inference_mode(mode=False):
        return {
            "keys": list(model.state_dict()),
            "tensors": [
                (name, id(t), str(t.device), t.dtype, t.shape, t.stride(), t.requires_grad)
                for name, t in tensors
            ],
            "values": [t.tolist() for _, t in tensors if not t.is_meta],
            "versions": [t._version for _, t in tensors if not t.is_inference()],
            "grads": [
                None if t.grad is None else (id(t.grad), t.grad._version) for _, t in tensors
            ],
            "training": [m.training for m in model.modules()],
            "attributes": [
                {
                    name: {key: id(held) for key, held in value.items()}
                    if isinstance(value, dict)
                    else copy.copy(value)
                    if isinstance(value, set)
                    else id(value)
                    for name, value in vars(m).items()
                }
                for m in model.modules()
            ],
            **process(),
        }


def process():
    """Of the process; what torch imports for the first time may add to it."""
    hooks = {k: copy.copy(v) for k, v in vars(module_internals).items() if k.startswith("_global_")}
    cudnn = torch.backends.cudnn
    instantiator = sys.modules.get("torch.distributed.nn.jit.instantiator")  # of the compiler
    of_torch = getattr(instantiator, "INSTANTIATED_TEMPLATE_DIR_PATH", "")
    return {
        "global hooks": hooks,
        "random": torch.get_rng_state().tolist(),
        "python random": random.getstate(),
        "numpy random": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        "matmul": torch.get_float32_matmul_precision(),
        "anomaly": torch.is_anomaly_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "print options": copy.copy(torch._tensor_str.PRINT_OPTS),
        "modes": torch.utils._python_dispatch._get_current_dispatch_mode(),
        "stand-ins": [n for n, m in sys.modules.items() if type(m).__name__ == "_StandIn"],
        "warnings": [f for f in warnings.filters if not f[2].__module__.startswith("sympy")],
        "directory": os.getcwd(),  # noqa: PTH109
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("TORCH")},
        "path": [path for path in sys.path if path != of_torch],
        "argv": list(sys.argv),
        "recursion": sys.getrecursionlimit(),
        "streams": (sys.stdout, sys.stderr),
    }


REAL = (1, 3, 8, 8)
LOOKS = {
    "trace of a size": lambda model: cnnscope.trace(model, "3x8x8"),
    "trace without an input": cnnscope.trace,
    "trace on meta": lambda model: cnnscope.trace(model, torch.empty(REAL, device="meta")),
    "trace on real tensors": lambda model: cnnscope.trace(model, torch.ones(REAL)),
    "summary": lambda model: str(cnnscope.summary(model, torch.ones(REAL))),
    "a size that does not fit": lambda model: cnnscope.trace(model, "5x8x8"),
    "an image that does not fit": lambda model: cnnscope.trace(model, torch.ones(1, 5, 8, 8)),
    "too small an image": lambda model: cnnscope.trace(model, "3x2x2"),
    "verify": lambda model: verify(cnnscope.trace(model, "3x8x8"), model, "conv"),
    "effective": lambda model: effective(cnnscope.trace(model, "3x8x8"), model, "conv", samples=2),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_look_changes_nothing(look, training):
    model = a_net().train(training)
    model.norm.train(not training)
    if look == "verify":
        model = model.to("meta")
    before = state(model)
    with contextlib.suppress(CnnscopeError):
        LOOKS[look](model)
    assert state(model) == before


def test_what_the_state_holds_is_noticed():
    """Without this, a state that holds nothing would never change."""
    model = a_net()
    before = state(model)
    model(torch.ones(REAL))
    torch.rand(1)
    after = state(model)
    changed = {name for name in before if before[name] != after[name]}
    assert changed >= {"values", "versions", "random", "attributes"}


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_look_within_a_mode_sees_the_same(mode):
    model = a_net()
    expected = cnnscope.trace(model, torch.ones(REAL))
    with mode():
        before = state(model)
        made_there = Net()
        assert cnnscope.trace(model, torch.ones(REAL)) == expected
        assert (
            cnnscope.trace(made_there, torch.ones(REAL)).ops
            == cnnscope.trace(Net(), torch.ones(REAL)).ops
        )
        assert cnnscope.trace(made_there, torch.ones(REAL)).device == "cpu"
        assert cnnscope.trace(made_there, "3x8x8").device == "meta"
        before |= {"random": torch.get_rng_state().tolist()}  # the constructor has drawn weights
        assert state(model) == before


def test_a_model_of_inference_tensors_is_traced_outside_of_the_mode():
    with torch.inference_mode():
        model = Net()
    assert model.conv.weight.is_inference()
    expected = cnnscope.trace(Net(), "3x8x8")
    assert cnnscope.trace(model, "3x8x8") == expected
    assert str(cnnscope.summary(model, torch.ones(REAL))).startswith("Net   python")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_looks_agree(device):
    model, image = a_net(), torch.ones(REAL, device=device)
    assert cnnscope.trace(model, image) == cnnscope.trace(model, image)


# --------------------------------------------------------------------- forwards that meddle


def network(function):
    """A network whose forward is `function(self, x)`."""

    class Meddling(Net):
        forward = function

    torch.manual_seed(0)
    return Meddling()


def set_flags(self, x):
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(True)
    torch.set_num_threads(7)
    torch.set_printoptions(precision=1)
    torch.set_float32_matmul_precision("high")
    torch.autograd.set_detect_anomaly(mode=True)
    torch.backends.cudnn.benchmark = True
    torch.backends.mha.set_fastpath_enabled(value=True)
    return x


def draw(self, x):
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.manual_seed(7)
    return x + torch.rand_like(x)


def hook(self, x):
    module_internals.register_module_forward_hook(lambda *_: None)
    module_internals.register_module_forward_pre_hook(lambda *_: None)
    self.conv.register_forward_hook(lambda *_: None)
    self.drop.register_forward_pre_hook(lambda *_: None)
    self.register_load_state_dict_post_hook(lambda *_: None)
    return self.conv(x)


def change_process(self, x):
    os.chdir("/")
    os.environ["CNNSCOPE_OF_A_TEST"] = "1"
    sys.argv.append("more")
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)
    warnings.simplefilter("error")
    return x


def change_modules(self, x):
    self.train()
    self.norm.train()
    self.conv = nn.Identity()
    self.more = nn.Identity()
    del self.drop
    self.register_buffer("late", x)
    self.register_parameter("weight", nn.Parameter(torch.ones(1)))
    self.seen = self.seen + 1
    self.requires_grad_(requires_grad=False)
    return x


def write_weights(self, x):
    self.conv.weight.mul_(2)
    self.frozen.weight.data.clamp_(0, 0.01)
    self.norm.running_mean[1:] += 1
    nn.functional.batch_norm(
        self.conv(x), self.norm.running_mean, self.norm.running_var, training=True
    )
    return self.conv(x)


def compute_gradients(self, x):
    with torch.enable_grad():
        self.conv(x).sum().backward()
    return x


def convert(self, x):
    return self.double().conv(x.double())


MEDDLING = (
    set_flags, draw, hook, change_process, change_modules, write_weights, compute_gradients,
    convert,
)  # fmt: skip


@pytest.mark.parametrize(
    ("built_on", "device"), [("cpu", "cpu"), ("cpu", "meta"), ("meta", "meta")]
)
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("meddle", MEDDLING)
def test_what_a_forward_changes_is_put_back(meddle, raises, built_on, device):
    done = []

    def forward(self, x):
        result = meddle(self, x)
        done.append(None)
        if raises:
            raise ValueError
        return result

    model, image = network(forward).to(built_on), torch.ones(REAL, device=device)
    before = state(model)
    with pytest.raises(CnnscopeError) if raises else contextlib.nullcontext():
        cnnscope.trace(model, image)
    assert done
    assert state(model) == before


def in_place(x):
    x.mul_(0)
    x[:, 0] = 3
    x[0, 0].view(-1)[1:].fill_(7)
    return x.transpose_(1, 2).unsqueeze_(0)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_input_that_forward_writes_to_is_as_it_was(device):
    model = network(lambda self, x: in_place(x))
    image = torch.rand(1, 3, 4, 5).to(device)
    part = torch.rand(2, 3, 4, 5).to(device)[1:, :, :2]
    values = [image.clone(), part.clone()]
    geometry = [(t.shape, t.stride(), t._version, t.requires_grad) for t in (image, part)]
    first = [cnnscope.trace(model, given) for given in (image, part)]
    assert [(t.shape, t.stride(), t._version, t.requires_grad) for t in (image, part)] == geometry
    if device == "cpu":
        assert torch.equal(image, values[0])
        assert torch.equal(part, values[1])
    assert [cnnscope.trace(model, given) for given in (image, part)] == first


def test_containers_of_inputs_are_as_they_were():
    def forward(self, images, *, targets):
        images[0].zero_()
        images.append(images[0])
        targets["boxes"] = images.pop(0)
        return targets["boxes"] + 1

    images, targets = [torch.ones(1, 2)], {"labels": torch.ones(1)}
    cnnscope.trace(network(forward), (images,), kwargs={"targets": targets})
    assert [t.tolist() for t in images] == [[[1, 1]]]
    assert list(targets) == ["labels"]


def test_a_plain_tensor_that_a_module_holds_is_as_it_was():
    model = network(lambda self, x: x + self.steps.add_(1))
    model.steps = torch.zeros(1)
    cnnscope.trace(model, torch.ones(1))
    assert model.steps.tolist() == [0]


# ------------------------------------------------------------------------------- own files

OWN = """
    import os, random, sys, warnings
    import torch
    from torch import nn
    print("loading")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(7)
    random.seed(3)
    sys.path.append("/nowhere")
    sys.argv.append("more")
    os.environ["CNNSCOPE_OF_A_TEST"] = "1"
    warnings.simplefilter("ignore")
    nn.Conv2d.forward = nn.Conv2d.forward
    os.chdir("/")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            torch.set_default_device("cpu")
            torch.manual_seed(3)

        def forward(self, x):
            os.chdir("/")
            print("running")
            torch.backends.cudnn.benchmark = True
            nn.Conv2d.extra_repr = lambda self: ""
            sys.stdout = None
            return self.conv(x)

    def fails():
        os.chdir("/")
        raise ValueError
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(textwrap.dedent(OWN))
    monkeypatch.chdir(tmp_path)
    return "net.py"


@pytest.mark.parametrize(
    "arguments",
    [
        ("summary", "{}:Net"),
        ("summary", "{}:fails"),
        ("summary", "{}:None"),
        ("rf", "{}:Net", "--verify"),
        ("rf", "{}:Net", "--effective", "--samples", "1"),
        ("check", "{}:Net"),
        ("diff", "{}:Net", "resnet18"),
    ],
)
def test_a_file_of_ones_own_changes_nothing(own, arguments):
    modules = set(sys.modules)
    layers = dict(vars(nn.Conv2d))
    before = process()
    result = run_cli(*(part.format(own) for part in arguments), "-i", "3x16x16")
    assert result.code in (0, 1, 2, 3)
    assert "running" not in result.out
    assert process() == before
    assert vars(nn.Conv2d) == layers
    assert not {name for name in set(sys.modules) - modules if name.startswith(("net", "_own"))}


# ---------------------------------------------------------------------------------- threads


def test_calls_from_several_threads_do_not_mix(own):
    """Four threads, four kinds of call; each sees what it sees alone, and all is as before."""
    calls = [
        partial(cnnscope.trace, a_net(), torch.ones(REAL)),
        partial(cnnscope.trace, a_net(), "3x9x9"),
        partial(cnnscope.trace, network(draw), torch.ones(REAL)),
        partial(run.trace_spec, Request.of("net.py:Net", ["3x16x16"])),
    ]
    models = [call.args[0] for call in calls[:3]]
    expected = [call() for call in calls]
    before = [state(model) for model in models]
    results = [[] for _ in calls]

    def work(index):
        results[index] += [calls[index]() for _ in range(4)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[trace] * 4 for trace in expected]
    assert [state(model) for model in models] == before


def test_one_model_in_several_threads():
    model = a_net()
    expected, before, results = cnnscope.trace(model, "3x8x8"), state(model), []

    def work():
        results.append(cnnscope.trace(model, "3x8x8"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert state(model) == before


def test_a_forward_that_traces_another_network_is_not_in_its_own_way():
    inner = a_net()
    model = network(lambda self, x: self.conv(x) + len(cnnscope.trace(inner, "3x8x8").calls))
    kinds = [m.kind for m in cnnscope.trace(model, torch.ones(REAL)).modules]
    assert kinds.count("Conv2d") == 2  # conv and frozen: none of the inner network's


def test_memory_of_numpy_is_put_back():
    array = np.ones((1, 1, 4, 4), np.float32)

    class Changes(nn.Module):
        def forward(self, x):
            return nn.functional.relu(x.sub_(2), inplace=True)

    cnnscope.trace(Changes(), torch.from_numpy(array))
    assert (array == 1).all()


def test_a_container_that_refuses_to_be_written_to_is_left_alone():
    class Frozen(dict):
        def update(self, *_):
            raise TypeError("frozen")

        clear = update

    model = nn.Sequential(nn.ReLU())
    model.config = Frozen(a=1)
    cnnscope.trace(model, torch.empty(1, 3, device="meta"))
    assert model.config == {"a": 1}


def test_numpy_draws_the_same_numbers_each_time(tmp_path):
    net = tmp_path / "net.py"
    net.write_text(
        "import numpy as np\nfrom torch import nn\nclass Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, int(np.random.randint(1, 10**6)), 1))\n"
    )
    look = f"cnnscope.summary(r'{net}:Net', '3x8x8').totals.params"
    code = f"import cnnscope, numpy; assert {look} == {look}"
    subprocess.run([sys.executable, "-c", code], check=True)
