"""Models of transformers, by class, kind, folder and cached name; nothing is downloaded."""

import json
import sys
import textwrap

import pytest
from command_line import run_cli

STANDIN = """
    from torch import nn

    __version__ = "9.8.7"

    class PretrainedConfig:
        model_type = ""

        def __init__(self, num_labels=2, **others):
            self.num_labels = num_labels
            vars(self).update(others)

    class PlainConfig(PretrainedConfig):
        model_type = "plain"

        def __init__(self, width=8, mode="same", image_size=32, num_channels=3, **others):
            super().__init__(**others)
            self.width, self.mode = width, mode
            self.image_size, self.num_channels = image_size, num_channels
            self.use_pretrained_backbone = True

    class PlainModel(nn.Module):
        config_class = PlainConfig
        main_input_name = "pixel_values"

        def __init__(self, config):
            assert not config.use_pretrained_backbone
            super().__init__()
            self.config = config
            self.conv = nn.Conv2d(config.num_channels, config.width, 3)

        def forward(self, pixel_values=None, labels=None):
            return {"last_hidden_state": self.conv(pixel_values)}

    class PlainForImageClassification(PlainModel):
        def __init__(self, config):
            super().__init__(config)
            self.head = nn.Linear(config.width, config.num_labels)

        def forward(self, pixel_values=None, labels=None):
            return {"logits": self.head(self.conv(pixel_values).mean((2, 3)))}

    class Both(PlainModel):
        main_input_name = "input_ids"

        def __init__(self, config):
            super().__init__(config)
            self.words = nn.Embedding(config.vocab_size, 4)

        def forward(self, input_ids=None, pixel_values=None):
            return self.words(input_ids).sum() + self.conv(pixel_values).sum()

    CONFIG_MAPPING = {"plain": PlainConfig}
"""
AUTO = """
    from transformers import PlainConfig, PlainModel
    MODEL_MAPPING = {PlainConfig: PlainModel}
"""
HUB = """
    import os
    class constants:
        HF_HUB_OFFLINE = False
    def try_to_load_from_cache(repository, file, revision=None):
        path = os.path.join(os.environ["HF_HOME"], repository, file)
        return path if os.path.exists(path) else None
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder, with a transformers of three models to be imported."""
    files = {
        "transformers/__init__.py": STANDIN,
        "transformers/models/__init__.py": "",
        "transformers/models/auto/__init__.py": "",
        "transformers/models/auto/modeling_auto.py": AUTO,
        "huggingface_hub/__init__.py": HUB,
    }
    for name, code in files.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
    ours = ("transformers", "huggingface_hub", "cnnscope.models.sources.hf")
    for name in list(sys.modules):
        if name in ours or name.startswith(("transformers.", "huggingface_hub.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in list(sys.modules):
        if name in ours or name.startswith(("transformers.", "huggingface_hub.")):
            del sys.modules[name]


def configure(path, **fields):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(fields))


def report_of(*words):
    result = run_cli("summary", *words, "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def error_of(*words):
    result = run_cli("summary", *words)
    assert (result.code, result.out) == (2, ""), result.err
    return result.err


# conv 3*8*9 + 8 = 224, head 8*2 + 2 = 18
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hf:PlainForImageClassification"], 242),
        (["hf:PlainForImageClassification", "--num-classes", "5"], 224 + 45),
        (["hf:PlainForImageClassification", "--arg", "width=4"], 112 + 10),
        (["hf:PlainModel", "--arg", "mode=other"], 224),
        (["hf:plain"], 224),
        (["hf:PlainConfig"], 224),
    ],
)
def test_a_class_or_kind_has_its_default_configuration_and_fields_as_arguments(
    folder, words, expected
):
    report = report_of(*words)
    assert report["totals"]["params"] == expected
    assert report["inputs"] == [
        {"shape": [1, 3, 32, 32], "dtype": "float32", "name": "pixel_values"}
    ]


def test_a_folder_and_a_name_in_the_cache_give_the_configuration_in_them(folder):
    fields = {
        "architectures": ["PlainForImageClassification"], "model_type": "plain",
        "width": 4, "num_labels": 3, "image_size": 16,
    }  # fmt: skip
    configure(folder / "mine", **fields)
    configure(folder / "cache" / "owner" / "name", **fields | {"width": 2})
    # 3*4*9 + 4 + 4*3 + 3, 3*2*9 + 2 + 2*3 + 3
    assert report_of("hf:mine")["totals"]["params"] == 127
    assert report_of("hf:mine/config.json")["inputs"][0]["shape"] == [1, 3, 16, 16]
    assert report_of("hf:owner/name")["totals"]["params"] == 65
    (folder / "mine" / "config.json").write_text(json.dumps(fields | {"width": 8}))
    assert report_of("hf:mine")["totals"]["params"] == 224 + 27  # read anew


def test_a_model_of_words_and_pictures_is_given_both(folder):
    report = report_of("hf:Both", "--arg", "vocab_size=10", "--arg", "max_position_embeddings=7")
    assert [(one["name"], one["shape"]) for one in report["inputs"]] == [
        ("input_ids", [1, 7]),
        ("pixel_values", [1, 3, 32, 32]),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/plain-small", "not in the local cache, and nothing is downloaded"),
        ("owner/plain-small", "hf download owner/plain-small config.json"),
        ("owner/plain-small", "or use hf:plain"),
        ("PlainForImageClasification", "did you mean hf:PlainForImageClassification"),
        ("nothing", "name a class"),
        ("broken", "cannot be read"),
        ("other", "model_type 'other'"),
        ("coded", "its code is not run"),
        ("empty", "No such file"),
    ],
)
def test_what_cannot_be_had_without_the_network_says_what_to_do(folder, name, said):
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    (folder / "empty").mkdir()
    configure(folder / "other", model_type="other")
    configure(folder / "coded", model_type="mine", auto_map={"AutoModel": "code.Net"})
    assert said in error_of(f"hf:{name}")


def test_a_bare_name_of_the_hub_is_met_with_its_source():
    assert "hf:microsoft/resnet-50" in error_of("microsoft/resnet-50")


@pytest.mark.parametrize("missing", ["transformers", "huggingface_hub"])
def test_without_what_the_extra_has_it_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "cnnscope.models.sources.hf", raising=False)
    assert "pip install 'cnnscope[hf]'" in error_of("hf:ResNetModel")


@pytest.mark.broad
def test_the_real_library_gives_published_networks():
    pytest.importorskip("transformers", reason="transformers is not installed (the extra hf)")
    # ResNet-50 with two classes: 25,557,032 - 2048*998 - 998
    report = report_of("hf:ResNetForImageClassification")
    assert report["totals"]["params"] == 25_557_032 - 2_044_902
