"""Which sizes of an input work: searched by forwards without data, held against real ones."""

import json
import re

import pytest
import sized
import torch
from command_line import run_cli
from paths import SUPPORT

from cnnscope.analysis import sizes
from cnnscope.errors import ModelError
from cnnscope.models import run, trials
from cnnscope.models.build import Built
from cnnscope.models.request import Request
from cnnscope.records.trace import Inputs, Source

FILE = str(SUPPORT / "sized.py")


def examined(name, *inputs):
    return run.examine_spec(Request.of(f"{FILE}:{name}", inputs=inputs)).sizes


def every(runs):
    return [n for low, high in runs for n in range(low, high + 1)]


def real(name, shapes):
    """Return True if a real forward runs, on the CPU with data."""
    tensors = [
        torch.zeros(s, dtype=torch.long) if name == "Words" else torch.rand(s) for s in shapes
    ]
    try:
        with torch.no_grad():
            getattr(sized, name)().eval()(*tensors)
    except (RuntimeError, ValueError, AssertionError, IndexError):
        return False
    return True


# name, inputs as typed, shapes at a size n, smallest, step and offset of the rule
CASES = [
    # 1 + 4 broadcasts to 4; 2 and 4, 3 and 4 do not; ceil(n/4)*4 = n at multiples of 4
    ("Hourglass", ["3x64x64"], lambda n: [(1, 3, n, n)], 1, 4, 0),
    ("Asserting", ["3x65x65"], lambda n: [(1, 3, n, n)], 1, 8, 1),
    ("Refusing", ["3x96x96"], lambda n: [(1, 3, n, n)], 24, 12, 0),
    ("UNet", ["3x64x64"], lambda n: [(1, 3, n, n)], 16, 16, 0),
    ("UNet", ["3x96x96"], lambda n: [(1, 3, n, n)], 16, 16, 0),
    ("Flattened", ["1x8x8"], lambda n: [(1, 1, n, n)], 7, 0, 0),
    ("Wave", ["1x1x1000"], lambda n: [(1, 1, n)], 16, 1, 0),
    ("Last", ["1x12x12x3"], lambda n: [(1, n, n, 3)], 5, 1, 0),
    ("Tokens", ["1x1x64x16"], lambda n: [(1, 1, n, 16)], None, None, 0),
    ("Words", ["1x20:int64"], lambda n: [(1, n)], 3, 1, 0),
    ("Volume", ["1x1x4x12x12"], lambda n: [(1, 1, 4, n, n)], 4, 1, 0),
    ("Pair", ["3x16x16", "3x16x16", "1"], lambda n: [(1, 3, n, n)] * 2 + [(1,)], 4, 1, 0),
    ("OnCpu", ["3x16x16"], lambda n: [(1, 3, n, n)], 3, 1, 0),
    ("Looking", ["3x24x24"], lambda n: [(1, 3, n, n)], 3, 3, 0),
    ("Caching", ["3x16x16"], lambda n: [(1, 3, n, n)], 1, 1, 0),
    ("Twisted", ["3x16x16"], lambda n: [(1, 3, n, n)], 3, 1, 0),
]


@pytest.mark.parametrize(
    ("name", "inputs", "at", "side", "step", "offset"),
    [case for case in CASES if case[0] != "Tokens"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_said_of_each_size_is_what_a_real_forward_does(
    name, inputs, at, side, step, offset
):
    found, *_ = examined(name, *inputs)
    assert (found.side, found.step, found.offset) == (side, step, offset)
    works, fails = every(found.works), every(found.fails)
    assert {*range(1, side + 1)} <= {*works, *fails}  # all below the smallest were tried
    assert found.at_least == side
    tried = [n for n in {*works, *fails} if n <= 70]
    assert len(tried) > 40
    assert [n for n in sorted(tried) if real(name, at(n))] == [n for n in works if n <= 70]


@pytest.mark.broad
def test_the_layers_that_refuse_are_named_with_their_reason():
    found, *_ = examined("UNet", "3x64x64")
    # 15 -> 7 -> 3 -> 1 -> the fourth pool finds 1
    assert (found.layer, found.reason) == ("pool", "floor((1 + 2*0 - 1*(2 - 1) - 1)/2 + 1) = 0")
    assert (found.above.size, found.above.layer) == (17, "cat")
    assert "differ in height (17 and 16)" in found.above.reason
    found, *_ = examined("Hourglass", "3x64x64")
    assert (found.above.size, found.above.layer) == (2, "add")
    found, *_ = examined("Asserting", "3x65x65")
    assert found.above.reason == "AssertionError: assert (x.shape[-1] - 1) % 8 == 0"
    (found,) = examined("Wave", "1x1x1000")
    assert (found.axes, found.layer) == (("samples",), "conv")


@pytest.mark.broad
def test_axes_are_told_apart_where_they_need_different_sizes():
    square, height, width = examined("Flat", "1x16x100")
    assert (square.side, square.step) == (16, 0)
    assert (height.axes, height.side, height.step) == (("height",), 16, 0)
    assert (width.axes, width.side, width.step) == (("width",), 5, 1)
    square, height, width = examined("Tall", "3x32x32")
    assert (square.side, height.side, width.side) == (9, 9, 3)
    square, height, width = examined("Wide", "3x8x16")
    # ceil(W/2) = H: of 8 rows 15 and 16 columns; squares of 1, as 1 = ceil(1/2)
    assert every(width.works) == [15, 16]
    assert every(height.works) == [8]
    assert every(square.works) == [1]
    square, frames = examined("Volume", "1x1x4x12x12")
    assert (frames.axes, frames.side) == (("frames",), 2)


def test_one_size_is_not_a_rule():
    assert sizes.rule(dict.fromkeys(range(1, 20), False) | {16: True, 8: True}) is None
    assert sizes.rule(dict.fromkeys(range(1, 40), False) | {16: True, 8: True}) == (17, 0, 0)
    assert sizes.rule({n: n % 8 == 0 for n in range(1, 30)}) == (1, 8, 0)
    assert sizes.rule({n: n > 4 for n in range(1, 30)}) == (5, 1, 0)
    assert sizes.rule({1: False}) is None


def test_a_rule_needs_what_lies_next_to_its_sizes():
    def works(n):  # strides of 4 and 4, rounded down: 16 to 19, 32 to 35, ...
        return n >= 16 and n // 4 % 4 == 0

    tried = {n: works(n) for n in (*range(1, 81), 240, 248, 252, 254, 255, 256, 272, 288)}
    assert sizes.rule(tried) is None  # 81 works, 16 k + 1, and was not tried
    assert sizes.rule(tried | {257: True}) is None  # nor does every size from 256 on work
    assert sizes.rule({n: n >= 16 and n % 16 == 0 for n in tried | {257: False}}) == (1, 16, 0)
    search = sizes.Search(works, lambda: 0)
    search.run([256])
    assert sizes.rule(search.tried) is None


@pytest.mark.parametrize(
    "works",
    [
        lambda n: n >= 63,
        lambda n: n % 16 == 0,
        lambda n: n < 5 or n % 4 == 0,
        lambda n: n % 8 == 1,
        lambda n: n in (7, 8),
        lambda n: n >= 64 and n % 32 == 0,
        lambda n: n >= 30 and n % 32 == 1,
        lambda n: n % 2 == 0 or n > 40,
    ],
)
@pytest.mark.parametrize("most", [25, 60, 10**6])
def test_a_search_that_ends_early_claims_nothing_that_was_not_tried(works, most):
    asked = []

    def ask(n):
        asked.append(n)
        return works(n)

    top = next(n for n in range(300, 0, -1) if works(n))
    search = sizes.Search(ask, lambda: len(asked) / most)
    search.run([top])
    assert search.tried == {n: works(n) for n in asked}
    assert len(asked) == len(set(asked))
    assert len(asked) < most + 30
    rule = sizes.rule(search.tried)
    if rule is not None:
        followed = [n for n in asked if n >= rule.start]
        assert all(works(n) == (rule.step > 0 and n % rule.step == rule.offset) for n in followed)
    if most > 1000:
        assert search.smallest == next(n for n in range(1, 301) if works(n))


# ------------------------------------------------------------------------------- as text


def error_of(command, *arguments, code=3):
    result = run_cli(command, *arguments)
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    return result.err.splitlines()[-1]


def last_lines(name, text):
    result = run_cli("explain", f"{FILE}:{name}", "--input", text)
    assert result.code == 0, result.err
    assert result.err.count("runs") == (name == "OnCpu")  # it prints once for the trace, no more
    return result.out[result.out.index("smallest") :]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("Hourglass", "3x64x64", "1x1; from 2x2 on only multiples of 4; at 2x2 add breaks: "),
        ("UNet", "3x64x64", "16x16, and only multiples of 16; at 15x15 pool breaks: floor"),
        ("Asserting", "3x65x65", "1x1, and only 8k + 1 (1, 9, 17); at 2x2 Asserting breaks: "),
        ("Wave", "1x1x1000", "16 samples and every larger size tried; at 15 conv breaks: floor"),
        (
            "Flattened",
            "1x8x8",
            "only 7x7 to 8x8; at 6x6 fc breaks: takes 16 features and was given 9",
        ),
        ("OnCpu", "3x16x16", "3x3 and every larger size tried; at 2x2 conv breaks: floor((2 + "),
        ("Twisted", "3x16x16", "3x3; from 5x5 on every size tried works; at 2x2 conv breaks"),
    ],
)
def test_explain_says_it_in_a_sentence(name, text, said):
    assert last_lines(name, text).startswith(f"smallest    {said}")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "UNet",
            "3x100x100",
            "sides must be multiples of 16: 96x96 and 112x112 work; the smallest square input "
            "that works is 16x16",
        ),
        ("UNet", "3x100x64", "sides must be multiples of 16: 96x64 and 112x64 work"),
        ("Asserting", "3x64x64", "sides must be 8k + 1 (1, 9, 17): 57x57 and 65x65 work"),
        ("Refusing", "3x50x50", "sides must be multiples of 12: 48x48 and 60x60 work"),
        (
            "Flattened",
            "1x20x20",
            "takes 16 features and was given 100; in_features must be 100 for this input, or feed "
            "1x7x7, the smallest square that works",
        ),
        ("Wave", "1x1x9", "the smallest input that works is 16 samples"),
        ("Tall", "3x2x2", "the smallest square input that works is 9x9"),
        ("Looking", "3x10x10", "sides must be multiples of 3: 9x9 and 12x12 work"),
    ],
)
def test_an_error_names_sizes_that_work(name, text, said):
    message = error_of("summary", f"{FILE}:{name}", "--input", text)
    assert said in message
    for good in re.findall(r"(\d+)x(\d+)(?= (?:and|work))", message):
        channels = text.partition("x")[0]
        assert run_cli("summary", f"{FILE}:{name}", "-i", "x".join((channels, *good))).code == 0


def test_json_has_the_same_numbers():
    result = run_cli("explain", f"{FILE}:UNet", "--input", "3x64x64", "-f", "json")
    found = json.loads(result.out)["smallest"]
    assert (found["side"], found["step"], found["offset"]) == (16, 16, 0)
    assert [16, 16] in found["works"]
    assert found["above"]["size"] == 17


# ----------------------------------------------------------------------------- the zoo


# side, layer that breaks below: alexnet's last pool is given 2x2 at 62; four poolings of
# densenet's leave nothing of 28; each of vgg's five halves, 31 comes to 0; a vision
# transformer has one size
TRANSFORMER = "torchvision.models.vision_transformer:VisionTransformer"
ZOO = {
    "alexnet": (63, "features.12", 1),
    "vgg11": (32, "features.20", 1),
    "squeezenet1_1": (17, "features.8", 1),
    TRANSFORMER: (224, "VisionTransformer", 0),
    "resnet18": (1, "", 1),
}


# of 2 x 2 patches and one layer
ARGUMENTS = {
    TRANSFORMER: (
        "image_size=224", "patch_size=112", "num_layers=1", "num_heads=2", "hidden_dim=8",
        "mlp_dim=8",
    )
}  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_explain_errors_and_json_give_one_number(name):
    side, layer, step = ZOO[name]
    words = (name, *(word for each in ARGUMENTS.get(name, ()) for word in ("--arg", each)))
    found = json.loads(run_cli("explain", *words, "-f", "json").out)["smallest"]
    assert (found["side"], found["layer"], found["step"]) == (side, layer, step)
    line = run_cli("explain", *words).out.rpartition("smallest  ")[2].strip()
    assert line.startswith(f"{'only ' if step == 0 else ''}{side}x{side}")
    if side > 1:
        message = error_of("summary", *words, "--input", f"{side - 1}x{side - 1}")
        assert f"the smallest square input that works is {side}x{side}" in message


def classifiers():
    from torchvision.models import get_model_builder

    from cnnscope.models.sources import torchvision

    at = "torchvision.models."
    return [
        name
        for name in torchvision.names()
        if get_model_builder(name).__module__.removeprefix(at).count(".") == 0
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", classifiers())
def test_explain_and_errors_agree_on_every_classifier(name):
    found = run.examine_spec(Request.of(name)).sizes[0]
    assert run.trace_spec(Request.of(name, inputs=[f"{found.side}x{found.side}"]))
    if found.side > 1:
        with pytest.raises(ModelError) as caught:
            run.trace_spec(Request.of(name, inputs=[f"{found.side - 1}x{found.side - 1}"]))
        assert f"input that works is {found.side}x{found.side}" in str(caught.value)


@pytest.mark.broad
def test_a_search_is_kept_with_the_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    first = run_cli("explain", "torchvision:squeezenet1_1")
    assert first.code == 0

    def refuse(*_, **__):
        raise ModelError("it was to be read")

    monkeypatch.setattr(run, "examine_spec", refuse)
    monkeypatch.setattr(run, "trace_spec", refuse)
    assert run_cli("explain", "torchvision:squeezenet1_1").out == first.out


@pytest.mark.broad
@pytest.mark.timed
def test_a_search_at_an_error_that_was_cut_says_so(monkeypatch, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from torch import nn\n"
        "class Slow(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, x):\n"
        "        begin = time.thread_time()\n"
        "        while time.thread_time() - begin < 0.02:\n"
        "            pass\n"
        "        assert x.shape[-1] == 2000, f'{x.shape[-1]} is not 2000'\n"
        "        return self.conv(x)\n"
    )
    monkeypatch.setattr("cnnscope.models.remedy.SECONDS", 0.3)
    given = ("summary", f"{tmp_path / 'slow.py'}:Slow", "--input", "3x30x30")
    message = error_of(*given, code=3)
    assert "no size that works was found in the 0.3 s that the search has" in message
    monkeypatch.setattr("cnnscope.models.trials.SECONDS", 0.03)  # a forward takes 0.02
    (found,) = run.examine_spec(Request.of(given[1], inputs=["3x2000x2000"])).sizes
    assert found.unclear.endswith(
        "the search for sizes has 0.03 s; give it more seconds, such as 10"
    )
    (found,) = run.examine_spec(Request.of(given[1], inputs=["3x2000x2000"]), seconds=0.2).sizes
    assert not found.unclear


@pytest.mark.timed
def test_a_search_that_had_to_wait_ends_by_its_seconds_and_not_by_its_calls(monkeypatch):
    built = Built(torch.nn.Conv2d(3, 4, 3), Inputs(()), Source("net", "python", "net"))
    search = trials.Trials(built, 3.0)
    assert search.cut == ""
    monkeypatch.setattr(trials, "_WALL", 1e-9)  # whatever has passed was waited for
    assert search.cut == "3 s"
