"""Files of weights alone: what they say, what they cannot say, and nothing that they ask to run."""

import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from command_line import run_cli
from torch import nn

from cnnscope.errors import RequestError
from cnnscope.models import run
from cnnscope.models.files import checkpoint, unpickle
from cnnscope.models.request import Request
from cnnscope.render import checkpoint as render
from cnnscope.reports.checkpoint import checkpoint_report


class Net(nn.Module):
    """Two convolutions, a norm, and two linear layers with one weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head, self.tied = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.head.weight


# By hand: stem 8*3*9 + 8 = 224; body 8*8 and norm 8 + 8 + 8 + 8 + 1 = 97; heads 64 + 8 + 8 = 80.
STEM, BODY, STATISTICS, HEADS = 224, 97, 17, 80


@pytest.fixture
def state():
    return Net().state_dict()


def saved(content, path, **options):
    torch.save(content, path, **options)
    return str(path)


def refusal(path):
    with pytest.raises(RequestError) as caught:
        checkpoint_report(str(path))
    return str(caught.value)


# ----------------------------------------------------------------------------------- what it says


def test_every_key_has_its_shape_and_bytes(state, tmp_path):
    report = checkpoint_report(saved(state, tmp_path / "net.pth"))
    assert {t.path: t.shape for t in report.tensors} == {
        k: tuple(v.shape) for k, v in state.items()
    }
    (weight,) = [t for t in report.tensors if t.path == "stem.weight"]
    assert (weight.dtype, weight.elements, weight.nbytes) == ("float32", 216, 864)
    assert report.elements == STEM + BODY + HEADS
    # The batch counter has 8 bytes, everything else 4.
    assert report.nbytes == 4 * (STEM + BODY - 1 + HEADS) + 8
    assert report.statistics == STATISTICS


def test_tied_weights_are_counted_once(state, tmp_path):
    report = checkpoint_report(saved(state, tmp_path / "net.pth"))
    assert [(t.path, t.same_as) for t in report.tensors if t.same_as] == [
        ("tied.weight", "head.weight")
    ]
    rows = {m.path: m.elements for m in report.modules}
    assert rows == {
        "": STEM + BODY + HEADS, "stem": STEM, "body": BODY, "body.0": 64, "body.1": 33,
        "head": 72, "tied": 72,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrap", "root"),
    [
        (lambda s: {"state_dict": s, "epoch": 7}, "state_dict"),
        (lambda s: {"epoch": 7, "model": s, "best": torch.tensor(0.5)}, "model"),
        (lambda s: {"model": {"state_dict": s}, "epoch": 7}, "model.state_dict"),
    ],
)
def test_weights_are_found_under_the_usual_keys(state, tmp_path, wrap, root):
    report = checkpoint_report(saved(wrap(state), tmp_path / "net.ckpt"))
    assert report.root == root
    assert [t.path for t in report.tensors] == list(state)
    assert [other.value for other in report.others if other.path == "epoch"] == ["7"]


def test_what_lies_beside_the_weights_is_told_and_not_counted(state, tmp_path):
    content = {"state_dict": state, "optimizer": {"state": {0: {"step": torch.zeros(5)}}}}
    report = checkpoint_report(saved(content, tmp_path / "net.pth.tar"))
    (other,) = report.others
    assert (other.path, other.tensors, other.elements) == ("optimizer", 1, 5)
    assert report.elements == STEM + BODY + HEADS


def test_networks_under_other_keys_are_a_tree(state, tmp_path):
    content = {"generator": {"w": torch.zeros(3)}, "critic": [torch.zeros(2, 2), 3]}
    report = checkpoint_report(saved(content, tmp_path / "gan.pt"))
    assert {t.path: t.elements for t in report.tensors} == {"generator.w": 3, "critic.0": 4}
    assert [other.path for other in report.others] == ["critic.1"]


def test_memory_that_no_tensor_uses_is_told(tmp_path):
    # 10 of 100 floats are saved, and all 400 bytes with them.
    report = checkpoint_report(saved({"w": torch.zeros(100)[:10]}, tmp_path / "view.pth"))
    assert report.nbytes == 40
    assert report.unreferenced_bytes == 360


def test_keys_in_disorder_are_walked_as_a_tree(tmp_path):
    content = {"b.x": torch.zeros(1), "a.x": torch.zeros(1), "b.c.x": torch.zeros(1)}
    report = checkpoint_report(saved(content, tmp_path / "net.pth"))
    assert [m.path for m in report.modules] == ["", "b", "b.c", "a"]


@pytest.mark.broad
def test_weights_are_not_read(tmp_path):
    """A file of 256 MiB: the process grows by less than a tenth of it."""
    path = tmp_path / "big.pth"
    torch.save({"w": torch.zeros(2**26)}, path)
    script = (
        "import resource, torch\nfrom cnnscope.reports.checkpoint import checkpoint_report\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"assert checkpoint_report({str(path)!r}).nbytes == 2**28\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 26 * 1024  # in KiB


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.complex64])
def test_every_dtype_of_a_checkpoint_is_read(tmp_path, dtype):
    report = checkpoint_report(saved({"w": torch.zeros(3, dtype=dtype)}, tmp_path / "w.pth"))
    assert report.tensors[0].dtype == str(dtype).removeprefix("torch.")
    assert report.nbytes == 3 * dtype.itemsize


def safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return str(path)


def test_a_safetensors_file_is_read(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "conv.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "conv.bias": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    }
    report = checkpoint_report(safetensors(tmp_path / "net.safetensors", header, bytes(16)))
    assert [(t.path, t.shape, t.dtype, t.nbytes) for t in report.tensors] == [
        ("conv.weight", (2, 3), "float16", 12),
        ("conv.bias", (), "float32", 4),
    ]
    assert report.format == "safetensors"


@pytest.mark.parametrize(
    ("entry", "data", "words"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, bytes(8), "need 16 bytes"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}, bytes(8), "header"),
        ({"dtype": "X9", "shape": [4], "data_offsets": [0, 4]}, bytes(8), "header"),
        ({"dtype": "U8", "shape": [-4], "data_offsets": [0, -4]}, bytes(8), "header"),
        ("nothing", bytes(8), "header"),
    ],
)
def test_safetensors_that_does_not_add_up(tmp_path, entry, data, words):
    text = refusal(safetensors(tmp_path / "net.safetensors", {"w": entry}, data))
    assert "damaged" in text
    assert words in text


# -------------------------------------------------------------------------------- what it shows


def test_table_has_a_row_for_each_module_and_says_what_it_cannot_tell(state, tmp_path):
    shown = run_cli("summary", saved(state, tmp_path / "net.pth"))
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert "torch checkpoint · 12 tensors · float32 · " in lines[0]  # 2 + 1 + 5 + 2 + 2
    assert [line.split()[:2] for line in lines[3:9]] == [
        ["stem", "weight"], ["body", "97"], ["0", "weight"], ["1", "weight,"],
        ["head", "weight"], ["tied", "weight"],
    ]  # fmt: skip
    assert "one memory under several keys: tied.weight = head.weight" in shown.out
    assert "384 at most: 17 are running statistics" in shown.out  # 401 - 17
    assert "a checkpoint has weights and no forward" in shown.out


def test_a_file_without_tensors_has_no_types(tmp_path):
    path = tmp_path / "none.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    assert "safetensors · 0 tensors · 10 B\n" in run_cli("summary", str(path)).out


def test_depth_folds_the_tree(state, tmp_path):
    path = saved(state, tmp_path / "net.pth")
    shown = run_cli("summary", path, "--depth", "1").out
    assert "6 tensors" in shown  # of the body
    assert "1 of 2 levels" in shown
    everything = run_cli("summary", path, "--depth", "all").out
    assert "6 tensors" not in everything
    assert "levels" not in everything


def test_many_layers_are_folded_until_they_fit(tmp_path):
    content = {f"block{i}.layer{j}.weight": torch.zeros(1) for i in range(9) for j in range(9)}
    report = checkpoint_report(saved(content, tmp_path / "net.pth"))
    (table,) = render.page(report).tables
    assert len(table.rows) == 9
    (table,) = render.page(report, 0).tables
    assert len(table.rows) == 9 + 81


def test_csv_json_and_markdown(state, tmp_path):
    path = saved(state, tmp_path / "net.pth")
    lines = run_cli("summary", path, "--format", "csv").out.splitlines()
    assert lines[:2] == [
        "path,shape,dtype,elements,bytes,same_as",
        "stem.weight,8x3x3x3,float32,216,864,",
    ]
    assert len(lines) == 1 + len(state)
    document = json.loads(run_cli("summary", path, "--format", "json").out)
    assert document["elements"] == STEM + BODY + HEADS
    assert document["tensors"][0]["shape"] == [8, 3, 3, 3]
    assert (
        "| stem | weight 8x3x3x3; bias 8 | 224 |" in run_cli("summary", path, "-f", "markdown").out
    )


def test_keys_cannot_write_to_the_terminal(tmp_path):
    shown = run_cli("summary", saved({"\x1b[2J.w": torch.zeros(2)}, tmp_path / "net.pth")).out
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


@pytest.mark.parametrize("option", [("--input", "64"), ("--sort", "macs"), ("--dtype", "half")])
def test_options_about_a_forward_are_refused(state, tmp_path, option):
    result = run_cli("summary", saved(state, tmp_path / "net.pth"), *option)
    assert result.code == 2
    assert f"{option[0]} has no effect here: a checkpoint has weights and no forward" in result.err


def test_questions_that_need_a_forward_are_refused(state, tmp_path):
    result = run_cli("rf", saved(state, tmp_path / "net.pth"))
    assert result.code == 2
    assert "weights without a forward" in result.err
    with pytest.raises(RequestError, match="weights without a forward"):
        run.trace_spec(Request.of(str(tmp_path / "net.pth")))


# ------------------------------------------------------------------------------ what is refused


class Mischief:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_is_refused_by_its_name_and_not_run(state, tmp_path):
    marker = tmp_path / "ran"
    path = saved({"state_dict": state, "x": Mischief(str(marker))}, tmp_path / "evil.pth")
    text = refusal(path)
    assert "io.open" in text
    assert "was refused" in text
    assert not marker.exists()


def test_the_same_file_runs_code_where_it_is_trusted(state, tmp_path):
    """The twin: the file above is one that would have done it."""
    marker = tmp_path / "ran"
    path = saved({"state_dict": state, "x": Mischief(str(marker))}, tmp_path / "evil.pth")
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_environment_cannot_switch_the_refusal_off(state, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "ran"
    assert "io.open" in refusal(saved({"x": Mischief(str(marker))}, tmp_path / "evil.pth"))
    assert not marker.exists()


def test_a_whole_module_is_refused_and_its_class_named(tmp_path):
    text = refusal(saved(Net(), tmp_path / "whole.pt"))
    assert f"{Net.__module__}.Net" in text
    assert "state_dict()" in text


def test_a_file_from_before_torch_1_6_is_refused(state, tmp_path):
    path = saved(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert "before 1.6" in refusal(path)


def test_torchscript_is_refused_with_what_to_save(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(
            torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 4, 4)), tmp_path / "s.pt"
        )
    text = refusal(tmp_path / "s.pt")
    assert "TorchScript" in text
    assert "torch.export.save" in text


@pytest.mark.parametrize("kept", [100, 1000, -30])
def test_a_truncated_checkpoint_is_refused(state, tmp_path, kept):
    path = tmp_path / "cut.pth"
    saved(state, tmp_path / "net.pth")
    path.write_bytes((tmp_path / "net.pth").read_bytes()[:kept])
    assert "damaged" in refusal(path)


def test_a_newer_pickle_protocol_is_no_damage(state, tmp_path):
    torch.save(state, tmp_path / "net.pth", pickle_protocol=4)
    result = run_cli("summary", str(tmp_path / "net.pth"))
    assert result.code == 2
    assert "its pickle is of protocol 4; only 2 is read" in result.err
    assert "damaged" not in result.err


def test_a_damaged_pickle_is_refused(state, tmp_path):
    path = tmp_path / "bad.pth"
    with (
        zipfile.ZipFile(saved(state, tmp_path / "net.pth")) as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(
                entry.filename, data[: len(data) // 2] if "data.pkl" in entry.filename else data
            )
    assert "damaged" in refusal(path)


def test_compressed_entries_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    assert "compressed" in refusal(path)


def test_sizes_beyond_the_file_are_damage(state, tmp_path):
    """A tensor of 2^41 floats (8 TiB) in a file of about a kilobyte, as its pickle has it."""
    path = tmp_path / "huge.pth"
    torch.save({"w": torch.zeros(4)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                size = b"\x8a\x06" + (2**41).to_bytes(6, "little")  # LONG1, for BININT1 4
                data = data.replace(b"K\x04\x85", size + b"\x85", 1)
                assert size in data
            new.writestr(entry.filename, data)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!doctype html><html>", "not a file that torch writes"),
        (pickle.dumps({"w": 1}), "bare pickle"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, words):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    result = run_cli("summary", str(path))
    assert result.code == 2
    assert words in result.err


def test_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("photos/1.jpg", b"")
    assert "neither an exported program nor a checkpoint" in refusal(tmp_path / "photos.pt")


def test_missing_file_folder_and_no_tensors(tmp_path):
    assert "there is no such file" in refusal(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.pth")
    assert "holds no tensors" in refusal(saved({"epoch": 3}, tmp_path / "empty.pth"))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("x/serialized_exported_program.json", "torch 2.7 or older"),
        ("x/data/aotinductor/model/a.so", "AOTInductor"),
    ],
)
def test_archives_of_other_kinds(tmp_path, member, words):
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr(member, b"")
    assert words in refusal(tmp_path / "net.pt2")


# ------------------------------------------------------------------------------- hostile files


def with_pickle(path, data):
    """A checkpoint of one tensor, with another pickle in it."""
    torch.save({"w": torch.zeros(4)}, path.with_suffix(".old"))
    with zipfile.ZipFile(path.with_suffix(".old")) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            is_pickle = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, data if is_pickle else old.read(entry))
    return path


DOUBLED = b"h\x00\x86q\x00" * 60  # a pair of the last value with itself: 2**60 to hash or to walk


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02})q\x00" + DOUBLED + b"K\x01s.", "a key of its dictionaries is a tuple"),
        (b"\x80\x02ccollections\nOrderedDict\n]q\x00(h\x00K\x01ta\x85R.", "is a list"),
        (b"\x80\x02}q\x00" + DOUBLED + b".", "holds no tensors"),
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "64 deep"),
        (b"\x80\x02X\xff\xff\xff\xffw.", "cut off"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "torch.save does not write"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b".", "of protocol 4; only 2"),
        (b"\x80\x02h\x07.", "what is not there"),
        (b"\x80\x02}(K\x01u.", "a key without a value"),
        (b"\x80\x02NN.", "leaves something behind"),
        (b"\x80\x02}X\x01\x00\x00\x00kctorch\nSize\n)Rs.", "holds no tensors"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "with others"),
        (b"\x80\x02NN\x86Q.", "no storage"),
        (b"\x80\x02" + b"N" * unpickle.MAX_OPERATIONS + b".", "2,000,000 operations"),
    ],
    ids=range(14),
)
def test_pickles_that_are_made_to_hang_or_to_mislead(tmp_path, data, words):
    begin = time.process_time()
    text = refusal(with_pickle(tmp_path / "bomb.pth", data))
    assert words in text
    assert time.process_time() - begin < 10


def test_a_storage_that_is_not_in_the_file(tmp_path):
    torch.save({"w": torch.zeros(4)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "x.pth", "w") as new,
    ):
        for entry in old.infolist():
            if not entry.filename.endswith("data/0"):
                new.writestr(entry.filename, old.read(entry))
    assert "of which the file has 0" in refusal(tmp_path / "x.pth")


def test_checkpoints_of_every_kind_are_read_as_torch_reads_them(tmp_path):
    """The oracle is torch.load: the same keys, shapes and dtypes."""
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    whole = torch.rand(4, 6, dtype=torch.complex64)
    contents = [
        model.state_dict(),
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3},
        list(model.parameters()),
        nn.Parameter(torch.rand(3)),
        {"a": whole, "b": whole.t(), "c": whole[1:, ::2], "d": whole.conj()},
        {str(d): torch.zeros(2, 3).to(d) for d in (torch.uint16, torch.float8_e4m3fn, torch.bool)},
        {"meta": torch.empty(3, 4, device="meta"), "none": torch.zeros(0, 3), 3: torch.tensor(1)},
        {"size": torch.Size([1, 2]), "set": {1}, "bytes": b"x", "dtype": torch.float32,
         "device": torch.device("cpu"), "large": 2**100, None: torch.zeros(1)},
    ]  # fmt: skip
    for content in contents:
        path = saved(content, tmp_path / "any.pth")
        contained = checkpoint.read(path)
        loaded = torch.load(path, weights_only=True)
        for part in contained.root.split(".") if contained.root else ():
            loaded = loaded[part]
        found = [(t.key, t.shape, f"torch.{t.dtype}") for t in contained.tensors]
        assert found == [(k, tuple(t.shape), str(t.dtype)) for k, t in leaves(loaded)]


def leaves(value, prefix=""):
    if isinstance(value, torch.Tensor):
        yield prefix or "tensor", value
    elif isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))


def test_a_checkpoint_is_read_without_torch(state, tmp_path):
    path = saved(state, tmp_path / "net.pth")
    script = (
        "import sys\nfrom cnnscope.reports.checkpoint import checkpoint_report\n"
        f"assert checkpoint_report({path!r}).tensors\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def of(**entry):
    return {"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} | entry}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (of(shape=[10**4500]), "is not JSON"),  # more digits than Python reads
        (of(shape=[2**62] * 60), "bytes, not those of its shape"),
        (of(shape=[2**63]), "a shape that is none"),
        (of(shape=["8"]), "a shape that is none"),
        (of(shape=[8.0]), "a shape that is none"),
        (of(shape=[True] * 3), "a shape that is none"),
        (of(shape=[-8]), "a shape that is none"),
        (of(shape="8"), "a shape that is none"),
        (of(shape=[1] * 65), "a shape that is none"),
        (of(data_offsets=[0, 8, 8]), "data_offsets that are none"),
        (of(data_offsets=["0", "8"]), "data_offsets that are none"),
        (of(data_offsets=[False, 8]), "data_offsets that are none"),
        (of(data_offsets=[-8, 0]), "data_offsets that are none"),
        (of(dtype=["U8"]), "dtype"),
        (of(more=1), "or more"),
        (of(shape=[4], data_offsets=[4, 8]), "leaves 4 bytes before it"),
        (of(shape=[4], data_offsets=[0, 4]), "need 4 bytes, the file has 8"),
        (of(shape=[16], data_offsets=[0, 16]), "need 16 bytes, the file has 8"),
        (of() | {"v": of()["w"]}, "overlaps another"),
        (of() | {"v": {**of(shape=[4], data_offsets=[4, 8])["w"]}}, "overlaps another"),
        (of() | {"__metadata__": [1]}, "__metadata__"),
        (of() | {"__metadata__": {"a": 1}}, "__metadata__"),
        ([], "no object"),
        ({"w": 3}, "no dtype"),
        ({"w": None}, "no dtype"),
    ],
)
def test_safetensors_that_break_their_specification(tmp_path, header, words):
    path = tmp_path / "net.safetensors"
    if header == of(shape=[10**4500]):
        text = b'{"w":{"dtype":"U8","shape":[1' + b"0" * 4500 + b'],"data_offsets":[0,8]}}'
    else:
        text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    result = run_cli("summary", str(path))
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"w":{},"w":{}}', "w twice"),
        (b'{"w":{"dtype":"U8","dtype":"F32","shape":[],"data_offsets":[0,1]}}', "dtype twice"),
        (b'{"w":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested too deeply"),
        (b'{"w":\xff}', "is not JSON"),
        (b"{" * 50, "is not JSON"),
    ],
)
def test_safetensors_whose_header_is_no_header(tmp_path, text, words):
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert words in refusal(path)


def test_keys_that_name_more_modules_than_tensors_are_refused(tmp_path):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"a{n}." + "b." * 60 + "w": empty for n in range(4500)}).encode()
    path = tmp_path / "deep.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)  # 61 modules for each of 4,500 tensors
    result = run_cli("summary", str(path))
    assert result.code == 2
    assert "more than 262,144 modules" in result.err


def test_safetensors_header_longer_than_the_file(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    assert "declares" in refusal(path)
