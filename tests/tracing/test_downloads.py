"""Nothing is downloaded: what asks for weights is built without them."""

import os
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request

import pytest
import torch
from torch import nn

import cnnscope
from cnnscope.errors import ModelError
from cnnscope.tracing import downloads

URL = "https://weights.invalid/net-12345678.pth"  # a name that is reserved for no host
# Bodies of a constructor around a convolution of 3 -> 8 channels, 3x3: 224 parameters
CONSTRUCTORS = {
    "url": f"self.load_state_dict(torch.hub.load_state_dict_from_url('{URL}'))",
    "imported": f"self.load_state_dict(fetch('{URL}', progress=False), strict=True)",
    "model_zoo": f"self.load_state_dict(torch.utils.model_zoo.load_url('{URL}'))",
    "missing file": "self.load_state_dict(torch.load('nothere.pth', map_location='cuda'))",
    "nested": f"self.load_state_dict(fetch('{URL}')['model']['state_dict'])",
    "prefix": f"""
        found = fetch('{URL}')
        found = {{k.removeprefix('module.'): v for k, v in found.items()}}
        self.load_state_dict(found)
    """,
    "filtered": f"""
        own = self.state_dict()
        own.update({{k: v for k, v in fetch('{URL}').items() if v.shape == own[k].shape}})
        self.load_state_dict(own)
    """,
    "popped": f"""
        found = fetch('{URL}')
        found.pop('fc.weight')
        del found['fc.bias']
        self.load_state_dict(found, strict=False)
    """,
    "keys": f"missing, extra = self.load_state_dict(fetch('{URL}'), strict=False)",
    "to a file": f"""
        torch.hub.download_url_to_file('{URL}', 'net.pth')
        self.load_state_dict(torch.load('net.pth'))
    """,
    "retrieved": f"""
        file, _ = urllib.request.urlretrieve('{URL}', 'net.pth')
        self.load_state_dict(torch.load(file))
    """,
    "torchvision": """
        from torchvision.models import squeezenet1_1
        squeezenet1_1(weights='DEFAULT')
    """,
}
HEAD = """
import urllib.request
import torch, torch.utils.model_zoo
from torch import nn
from torch.hub import load_state_dict_from_url as fetch
"""


def network(folder, more, forward="return self.c(x)"):
    path = folder / "net.py"
    more = textwrap.indent(textwrap.dedent(more).strip("\n"), " " * 8)
    path.write_text(
        f"{HEAD}\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.c = nn.Conv2d(3, 8, 3)\n{more}\n"
        f"    def forward(self, x):\n        {forward}\n"
    )
    return f"{path}:Net"


def files(folder):
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A home of its own, and a list of the addresses that sockets were asked for."""
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: asked.append(given) or [])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return asked


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_a_network_is_built_without_weights_that_are_not_there(case, tmp_path, no_network, capfd):
    spec = network(tmp_path, CONSTRUCTORS[case])
    before = files(tmp_path)
    made = cnnscope.trace(spec, ["3x16x16"])
    assert (made.device, made.tensors[made.outputs[0]].shape) == ("meta", (1, 8, 14, 14))
    assert sum(torch.Size(made.tensors[p.tensor].shape).numel() for p in made.params) == 224
    (note,) = (note for note in made.notes if "nothing is downloaded" in note)
    named = {"missing file": "nothere.pth", "torchvision": "squeezenet1_1"}
    assert named.get(case, "net-12345678.pth") in note
    assert (no_network, files(tmp_path)) == ([], before)
    assert "ownloading" not in "".join(capfd.readouterr())


def test_timm_is_built_without_weights(tmp_path, no_network):
    pytest.importorskip("timm")
    spec = network(
        tmp_path,
        "import timm\nself.b = timm.create_model('resnet18', pretrained=True, num_classes=5)",
        "return self.b(x)",
    )
    made = cnnscope.trace(spec, ["3x32x32"])
    assert any("timm resnet18" in note for note in made.notes)
    assert (made.tensors[made.outputs[0]].shape, no_network) == ((1, 5), [])


def test_weights_of_the_hub_of_hugging_face_are_left_out(tmp_path, no_network):
    pytest.importorskip("huggingface_hub")
    spec = network(
        tmp_path,
        """
        from huggingface_hub import hf_hub_download
        from safetensors.torch import load_file
        self.load_state_dict(load_file(hf_hub_download('some/net', 'model.safetensors')))
        """,
    )
    made = cnnscope.trace(spec, ["3x16x16"])
    assert any(": net; nothing is downloaded" in note for note in made.notes)
    assert not no_network


def test_a_file_that_is_there_is_read_as_ever(tmp_path, no_network):
    torch.save(nn.Conv2d(3, 8, 3).state_dict(), tmp_path / "there.pth")
    path = str(tmp_path / "there.pth")
    spec = network(tmp_path, f"self.c.load_state_dict(torch.load({path!r}, weights_only=True))")
    assert not cnnscope.trace(spec, ["3x16x16"]).notes
    torch.save({"weight": torch.ones(1)}, tmp_path / "there.pth")
    with pytest.raises(ModelError, match="Missing key"):
        cnnscope.trace(spec, ["3x16x16"])


def test_code_that_computes_with_weights_is_told_what_to_do(tmp_path, no_network):
    spec = network(tmp_path, f"self.c.weight.data = fetch('{URL}')['weight'].mean(1)")
    with pytest.raises(ModelError, match=r"net.py:11: .*net-12345678.pth.*pretrained=False"):
        cnnscope.trace(spec, ["3x16x16"])


@pytest.mark.parametrize(
    "more",
    [
        "import urllib.request\nurllib.request.urlopen('https://weights.invalid/')",
        "import http.client\nhttp.client.HTTPSConnection('weights.invalid').request('GET', '/')",
        "import socket\nsocket.socket().connect(('127.0.0.1', 9))",
        "import subprocess\nsubprocess.run(['git', 'clone', 'https://weights.invalid/a'])",
        "import os\nos.system('git clone https://weights.invalid/a')",
        "torch.hub.load('some/repository', 'net')",
    ],
)
def test_nothing_is_connected_to(more, tmp_path, no_network):
    spec = network(tmp_path, more)
    with pytest.raises(ModelError, match="nothing is downloaded"):
        cnnscope.trace(spec, ["3x16x16"])
    assert not no_network


def test_a_repository_that_was_fetched_before_is_used(tmp_path, no_network):
    folder = tmp_path / "torch" / "hub" / "some_repository_main"
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(
        "from torch import nn\ndef net(**_): return nn.Conv2d(3, 5, 1)\n"
    )
    spec = network(
        tmp_path,
        "self.b = torch.hub.load('some/repository', 'net', trust_repo=True)",
        "return self.b(x)",
    )
    made = cnnscope.trace(spec, ["3x16x16"])
    assert (made.tensors[made.outputs[0]].shape, no_network) == ((1, 5, 16, 16), [])


def test_everything_is_as_it_was():
    from torch import hub

    functions = (
        *(torch.load, hub.load_state_dict_from_url, hub.download_url_to_file),
        *(nn.Module.load_state_dict, urllib.request.urlretrieve, subprocess.Popen.__init__),
    )
    before = [function.__code__ for function in functions]
    system, finders, connects = os.system, list(sys.meta_path), vars(socket.socket).get("connect")
    with downloads.refusing():
        assert torch.load("nothere.pth")["anything"] == {}
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(URL)
    assert [function.__code__ for function in functions] == before
    assert (os.system, list(sys.meta_path)) == (system, finders)
    assert vars(socket.socket).get("connect") is connects
    with pytest.raises(FileNotFoundError):
        torch.load("nothere.pth")


# Constructors whose weights are fetched by means of their own, and the note of what was called
FETCHED = {
    "by a helper": ("self.c = helper(3, pretrained=True)", "helper(pretrained=False)"),
    "by position": ("self.c = helper(3, True)", "helper(pretrained=False)"),
    "by words": ("self.c = helper(3, pretrained='imagenet')", "helper(pretrained=None)"),
    "among others": ("self.c = passes(pretrained=True)", "passes(pretrained=False)"),
    "by a method": ("self.load(load_weights=True)", "load(load_weights=False)"),
}
HELPERS = """
import os, zipfile
def fetched(url):
    os.makedirs('made/for/it', exist_ok=True)
    return urllib.request.urlopen(url)
def helper(width, pretrained=False):
    model = nn.Conv2d(width, 8, 3)
    if pretrained:
        model.load_state_dict(fetched('https://weights.invalid/a.zip'))
    return model
def passes(**kwargs):
    if kwargs.get('pretrained'):
        with zipfile.ZipFile(urllib.request.urlretrieve('https://weights.invalid/a.zip')[0]) as z:
            z.extractall('.')
    return nn.Conv2d(3, 8, 3)
"""
LOAD = """
    def load(self, load_weights):
        if load_weights:
            fetched('https://weights.invalid/a')
"""


@pytest.mark.parametrize("case", FETCHED)
def test_what_fetches_by_its_own_means_is_called_without(case, tmp_path, no_network, monkeypatch):
    more, called = FETCHED[case]
    spec = network(tmp_path, more)
    path = tmp_path / "net.py"
    path.write_text(with_helpers(path))
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    made = cnnscope.trace(spec, ["3x16x16"], cache=False)
    assert made.tensors[made.outputs[0]].shape == (1, 8, 14, 14)
    assert any(f"built with {called}" in note for note in made.notes)
    assert (no_network, files(tmp_path)) == ([], before)


def with_helpers(path):
    return path.read_text().replace("\nclass Net", f"{HELPERS}\nclass Net") + LOAD


def test_what_fails_without_its_weights_too_says_what_it_failed_with(tmp_path, no_network):
    more = """
        def made(pretrained=True):
            if pretrained: urllib.request.urlopen('https://weights.invalid/a')
            raise ValueError('only with weights')
        made()
    """
    with pytest.raises(ModelError, match=r"net.py:\d+: URLError.*nothing is downloaded"):
        cnnscope.trace(network(tmp_path, more), ["3x16x16"])
    more = "for _ in range(2): urllib.request.urlopen('https://weights.invalid/' + 'a' * 300)"
    with pytest.raises(ModelError, match="nothing is downloaded"):
        cnnscope.trace(network(tmp_path, more), ["3x16x16"])
    assert not no_network
