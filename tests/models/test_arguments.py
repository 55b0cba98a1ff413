"""Arguments of constructors as they are typed: literals, classes, expressions, files of values."""

import json
import textwrap

import pytest
from command_line import run_cli

import cnnscope
from cnnscope.cache import requests
from cnnscope.cache.store import Store
from cnnscope.errors import RequestError
from cnnscope.models.arguments import Expression, Loaded, parse_arguments
from cnnscope.models.request import Request

NETS = """
    from dataclasses import dataclass, field
    from functools import partial
    from torch import nn

    class Block(nn.Conv2d):
        pass

    class Wide(nn.Conv2d):
        def __init__(self, a, b, size):
            super().__init__(a, 2 * b, size)

    class Net(nn.Sequential):
        def __init__(self, block=Block, width=8, act=nn.ReLU, mode="same"):
            super().__init__(block(3, width, 3), act())
            self.mode = mode

    @dataclass
    class Stem:
        width: int = 8
        size: int = 3

    @dataclass
    class Settings:
        stem: Stem = field(default_factory=Stem)
        more: list[Stem] = field(default_factory=list)

    class Typed(nn.Sequential):
        def __init__(self, cfg: Settings):
            assert isinstance(cfg.stem, Stem)
            assert all(isinstance(one, Stem) for one in cfg.more)
            stems = [cfg.stem, *cfg.more]
            super().__init__(*(nn.Conv2d(3, one.width, one.size) for one in stems[:1]))

    class Attributes(nn.Sequential):
        def __init__(self, cfg):
            super().__init__(nn.Conv2d(3, cfg.model.width, cfg.model.get("size", 3)))

    class Items(nn.Sequential):
        def __init__(self, cfg):
            super().__init__(nn.Conv2d(3, cfg["model"]["width"], 3))

    class Keywords(nn.Sequential):
        def __init__(self, cfg: dict):
            super().__init__(nn.Conv2d(in_channels=3, **cfg))
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A folder with networks, which is the working folder."""
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(*words):
    result = run_cli("summary", *words, "-i", "3x8x8", "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)["totals"]["params"]


def error_of(*words, code=2):
    result = run_cli("summary", *words, "-i", "3x8x8")
    assert (result.code, result.out) == (code, ""), result.err
    return result.err


def refusal(texts):
    with pytest.raises(RequestError) as caught:
        parse_arguments(texts)
    return str(caught.value)


# ------------------------------------------------------------------------------------ literals


def test_arguments_are_python_literals():
    assert parse_arguments(
        ["width_mult=0.5", "layers=[1, 2]", "name='a=b'", "aux=True", "none=None", "n=-3", "d={}"]
    ) == {
        "width_mult": 0.5,
        "layers": [1, 2],
        "name": "a=b",
        "aux": True,
        "none": None,
        "n": -3,
        "d": {},
    }


def test_no_arguments_are_none():
    assert parse_arguments([]) == {}


@pytest.mark.parametrize("text", ["", "width", "=3", "2x=3", "a b=3", "a.b=3", "\x1b=3"])
def test_argument_without_a_name_is_refused(text):
    message = refusal([text])
    assert "--arg" in message
    assert "name=value" in message


def test_argument_given_twice_is_refused():
    assert "twice" in refusal(["a=1", "b=2", "a=3"])


@pytest.mark.parametrize("value", ["", "\x00"])
def test_argument_that_can_be_nothing_is_refused_at_once(value):
    assert "quotes" in refusal([f"mode={value}"])


@pytest.mark.parametrize("value", ["hello", "1 +", "x" * 500, "'\x1b", "(" * 999, "{[]: 1}"])
def test_argument_that_is_no_value_is_refused_with_how_to_quote_it(nets, value):
    message = error_of("nets:Net", "--arg", f"width={value}")
    assert "--arg width=" in message
    assert "width='" in message or "unhashable" in message
    assert len(message) < 400


# --------------------------------------------------------------------------------- expressions


# conv: 3*8*9 + 8 = 224, twice as wide: 3*16*9 + 16 = 448
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("block=Block", 224),
        ("block=Wide", 448),
        ("block=nets:Wide", 448),
        ("block=nets.Wide", 448),
        ("block=nets.py:Wide", 448),
        ("block=nn.Conv2d", 224),
        ("block=torch.nn:Conv2d", 224),
        ("block=partial(nn.Conv2d, bias=False)", 216),
        ("block=lambda a, b, size: nn.Conv2d(a, b, 1)", 32),
        ("act=nn.PReLU", 225),
        ("width=2 * 4", 224),
        ("mode=max", 224),  # a string by its default, whatever Python calls max
        ("mode=not-a-name", 224),
    ],
)
def test_a_class_a_call_or_a_word_is_what_the_file_means_by_it(nets, value, expected):
    assert params("nets.py:Net", "--arg", value) == expected


def test_a_word_that_names_nothing_is_a_string_where_nothing_says_what_is_wanted(nets):
    (nets / "words.py").write_text(
        "from torch import nn\nWIDTHS = {'net-b0': 8, '3a': 4, 'VGG16': 8}\nclass VGG: pass\n"
        "def make(name): return nn.Conv2d(3, WIDTHS[name], 3)\n"
    )
    assert params("words.py:make", "--arg", "name=net-b0") == 224
    assert params("words.py:make", "--arg", "name=3a") == 112
    assert params("words.py:make", "--arg", "name=VGG16") == 224
    assert "KeyError: 'b0'" in error_of("words.py:make", "--arg", "name=b0")


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("null", None)])
def test_truth_and_nothing_may_be_written_as_yaml_does(nets, word, value):
    (nets / "words.py").write_text(
        f"from torch import nn\ndef make(deep=1):\n    assert deep is {value}\n"
        "    return nn.Conv2d(3, 8, 3)\n"
    )
    assert params("words.py:make", "--arg", f"deep={word}") == 224


def test_another_file_is_run_for_a_class_of_it(nets):
    (nets / "other.py").write_text("from torch import nn\nclass Big(nn.Conv2d): pass\n")
    assert params("nets.py:Net", "--arg", "block=other.py:Big") == 224


def test_a_misspelt_class_is_named_with_the_nearest(nets):
    message = error_of("nets.py:Net", "--arg", "block=Blok")
    assert "nothing is called Blok here (Block is)" in message
    assert "block='Blok'" in message


def test_an_expression_that_raises_is_a_wrong_request(nets):
    assert "--arg width=1/0: ZeroDivisionError" in error_of("nets.py:Net", "--arg", "width=1/0")


def test_a_library_takes_classes_of_torch_and_words_where_it_has_words():
    # without the weights and biases of 8 norms: (64*5 + 128*5 + 256*5 + 512*5) * 2 = 9,600
    assert params("resnet18", "--arg", "norm_layer=nn.Identity") == 11_689_512 - 9_600
    message = error_of("resnet18", "--arg", "replace=narrow")
    assert "unexpected keyword argument 'replace'" in message


# --------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "model:\n  width: 4\n"),
        ("c.yml", "{model: {width: 4}}"),
        ("c.json", '{"model": {"width": 4}}'),
        ("c.toml", "[model]\nwidth = 4\n"),
    ],
)
@pytest.mark.parametrize("model", ["Attributes", "Items"])
def test_a_file_of_values_is_an_object_with_attributes_and_items(nets, model, name, text):
    (nets / name).write_text(text)
    assert params(f"nets.py:{model}", "--arg", f"cfg=@{name}") == 112  # 3*4*9 + 4


def test_a_dictionary_is_such_an_object_too_on_the_command_line_and_in_python(nets):
    assert params("nets.py:Attributes", "--arg", "cfg={'model': {'width': 4}}") == 112
    report = cnnscope.summary(
        "nets.py:Attributes", "3x8x8", arguments={"cfg": {"model": {"width": 4}}}
    )
    assert report.totals.params == 112


def test_a_key_of_a_file_is_named_behind_a_colon_and_all_keys_without_a_name(nets):
    (nets / "c.yaml").write_text("a:\n  b:\n    out_channels: 4\n    kernel_size: 1\n")
    assert params("nets.py:Keywords", "--arg", "cfg=@c.yaml:a.b") == 16
    assert "there is no 'x' in it; it has b" in error_of("nets.py:Net", "--arg", "cfg=@c.yaml:a.x")
    (nets / "all.json").write_text('{"width": 4, "mode": "wide"}')
    assert params("nets.py:Net", "--arg", "@all.json") == 112


# 3*4*25 + 4 = 304; defaults 224
def test_a_dataclass_is_made_with_those_inside_it(nets):
    (nets / "c.yaml").write_text("stem: {width: 4, size: 5}\nmore: [{width: 2}]\n")
    assert params("nets.py:Typed", "--arg", "cfg=@c.yaml") == 304
    assert params("nets.py:Typed", "--arg", "cfg=Settings()") == 224
    (nets / "c.yaml").write_text("stem: {widht: 4}\n")
    message = error_of("nets.py:Typed", "--arg", "cfg=@c.yaml")
    assert "cfg.stem: Stem has no field 'widht'; did you mean width?" in message


def test_a_key_that_is_missing_is_named_with_those_there_are(nets):
    (nets / "c.yaml").write_text("model: {depth: 4}\n")
    message = error_of("nets.py:Attributes", "--arg", "cfg=@c.yaml")
    assert "the configuration has no 'width'; it has depth" in message


def test_what_a_constructor_reads_is_said_where_it_is_missing(nets):
    assert "give --arg cfg=@config.yaml (with model)" in error_of("nets.py:Attributes")
    assert 'give --arg "cfg=Settings()" for its defaults' in error_of("nets.py:Typed")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "a: [", "cannot be read"),
        ("c.yaml", "a: !!python/object/apply:os.getcwd []", "cannot be read"),
        ("c.json", "{", "cannot be read"),
        ("c.json", "[" * 5000, "cannot be read"),
        ("c.yaml", "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)), "more than 100,000 values"),
        ("c.yaml", "a: &a [*a]", "nested more than"),
        ("c.yaml", "x" * 300_000, "larger than"),
        ("c.txt", "", "expected a file of values"),
        ("none/c.yaml", None, "No such file"),
    ],
)  # fmt: skip
def test_a_file_of_values_is_data_and_bounded(nets, name, text, said):
    if text is not None:
        (nets / name).write_text(text)
    assert said in refusal([f"cfg=@{name}"])


def test_the_store_tells_values_of_files_apart_and_keeps_nothing_that_depends_on_code(tmp_path):
    store = Store(tmp_path)

    def key(value):
        return requests._entries(Request.of("torchvision:x", (), {"a": value}), store).key("trace")

    assert key(Loaded("@a.yaml", 1)) != key(Loaded("@a.yaml", 2))
    assert key(Loaded("@a.yaml", 1)) == key(1)
    own = Request.of("torchvision:x", (), {"a": Expression("nn.ReLU")})
    assert requests._entries(own, store) is None


ROLES = """
    import torch
    from torch import nn

    class Plain(nn.Module):
        def __init__(self, i, o, stride=1):
            super().__init__()
            self.f = nn.Conv2d(i, o, 3, stride, 1)

        def forward(self, x):
            return self.f(x)

    class Neck(Plain):
        pass

    class Head(nn.Linear):
        def __init__(self, cfg):
            super().__init__(cfg.width, 2)

    class Net(nn.Module):
        def __init__(self, block, widths, act=nn.ReLU, gate=torch.relu):
            super().__init__()
            sizes = [3] + list(widths)
            self.body = nn.Sequential(*[block(a, b, 2) for a, b in zip(sizes, sizes[1:])])
            self.act, self.gate = act(), gate

        def forward(self, x):
            return self.gate(self.act(self.body(x)))

    class Staged(nn.Module):
        def __init__(self, block, depths):
            super().__init__()
            self.stages = nn.Sequential(*[self._stage(block, depths[i]) for i in range(3)])

        def _stage(self, made, depth):
            return nn.Sequential(*[made(3, 3) for _ in range(depth)])

        def forward(self, x):
            return self.stages(x)

    class Child(Staged):
        def __init__(self, block, depths):
            super().__init__(block, depths)
"""


@pytest.fixture
def roles(nets):
    (nets / "roles.py").write_text(textwrap.dedent(ROLES))
    (nets / "blocks.py").write_text("from torch import nn\nclass Big(nn.Conv2d):\n    pass\n")
    return nets


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("roles.py:Net", "block=Plain --arg widths=[16,32] (block may be Plain, Neck)"),
        ("roles.py:Staged", "block=Plain --arg depths=[2,2,2] (block may be Plain, Neck)"),
        ("roles.py:Child", "block=Plain --arg depths=[2,2,2] (block may be Plain, Neck)"),
        ("roles.py:Head", "give --arg cfg=@config.yaml (with width)"),
        (
            "torchvision.models.resnet:ResNet",
            "block=BasicBlock --arg layers=[2,2,2,2] (block may be BasicBlock, Bottleneck)",
        ),
    ],
)
def test_what_a_constructor_needs_is_advised_by_what_it_does_with_it(roles, model, said):
    message = error_of(model)
    assert message.rstrip().splitlines()[0].endswith(said)
    if "block=" in said:
        words = said.partition(" (")[0].replace("block", "--arg block", 1).split()
        assert run_cli("summary", model, *words, "-i", "3x32x32").code == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["block=Plain", "widths=16"], "widths is read as a list: give --arg widths=[16,32]"),
        (["block=3", "widths=[4]"], "such as --arg block=Plain (or Neck)"),
        (["block=Big", "widths=[4]"], "is defined in blocks.py: give --arg block=blocks.py:Big"),
        (["block=Plain", "widths=[4]", "act=gelu"], "did you mean --arg act=nn.GELU?"),
        (["block=Plain", "widths=[4]", "act=leaky_relu"], "did you mean --arg act=nn.LeakyReLU?"),
        (["block=Plain", "widths=[4]", "gate=gelu"], "did you mean --arg gate=F.gelu?"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_one_that_may(roles, given, said):
    message = error_of("roles.py:Net", *(word for one in given for word in ("--arg", one)))
    assert message.rstrip().endswith(said)


def test_a_class_where_an_object_is_read_is_called(roles):
    (roles / "cfg.py").write_text(
        "from torch import nn\nclass Cfg:\n    def __init__(self):\n        self.width = 4\n"
        "class Head(nn.Linear):\n    def __init__(self, cfg):\n"
        "        super().__init__(cfg.width, 2)\n"
    )
    message = error_of("cfg.py:Head", "--arg", "cfg=Cfg")
    assert message.rstrip().endswith('cfg is read as an object: give --arg "cfg=Cfg()"')
    assert run_cli("summary", "cfg.py:Head", "--arg", "cfg=Cfg()").code == 0
    assert "cfg is read by names (width): give --arg cfg=@" in error_of(
        "cfg.py:Head", "--arg", "cfg=4"
    )
