"""The page of `cnnscope report` as a file: its data, what protects it, what it may ask for."""

import base64
import hashlib
import html
import json
import re

import msgspec
import pytest
import torch
from command_line import OVERWRITE, run_cli
from paths import ROOT
from PIL import Image
from torch import nn

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.render.graph.png import png
from cnnscope.render.graph.restack import restack
from cnnscope.render.page_html.block import _runs
from cnnscope.render.page_html.document import document
from cnnscope.render.page_html.network import network

LENET = "classic:lenet5"
HOSTILE = (
    '</script><img src=x onerror="alert(1)">',
    "<!--<script>",
    "\u202egpj",
    "a'b\"c",
    "\u2028",
)


@pytest.fixture(scope="module")
def lenet():
    return cnnscope.report(LENET, command="cnnscope report classic:lenet5")


def parts(page):
    """Policy, style, data and script of a page."""
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    return html.unescape(policy), style, data, script


def expanded(runs):
    found = runs[:1]
    for step, count in zip(runs[1::2], runs[2::2], strict=True):
        for _ in range(count):
            found.append(found[-1] + step)
    return found


def test_data_of_the_page_are_the_numbers_of_the_summary(lenet):
    model = lenet.to_dict()["models"][0]
    report = cnnscope.summary(LENET).record
    assert model["totals"]["params"] == report.totals.params == 61_706
    assert [row["path"] for row in model["rows"]] == [row.path for row in report.layers]
    (c1,) = (row for row in model["rows"] if row["path"] == "c1")
    steps = {step[0]: step for step in (model["steps"][at] for at in c1["steps"])}
    # 28 * 28 positions, 6 filters, 1 channel, 5 * 5 weights: 117,600
    assert c1["macs"] == 117_600
    assert steps["MACs"][2] == "117,600"
    assert model["fields"][c1["field"]]["axes"][0][1] == 5
    # a 5x5 window on a 32 pixel row without padding: unit u sees pixels u to u + 4
    seen = model["maps"][c1["maps"][0]]
    assert expanded(seen["lo"]) == list(range(28))
    assert expanded(seen["hi"]) == list(range(4, 32))


def test_memory_of_the_page_has_the_peak_of_the_summary(lenet):
    model = lenet.to_dict()["models"][0]
    alive = [
        sum(size for size, born, died, _ in model["lives"] if born <= place < died)
        for place in range(len(model["operations"]))
    ]
    assert max(alive) == model["totals"]["peak_activation_bytes"]
    assert all(-1 <= row < len(model["rows"]) for *_, row in model["lives"])


@pytest.mark.parametrize("numbers", [(), (7,), (0, 0, 0), (0, 2, 4, 4, 4, 3), tuple(range(50))])
def test_runs_are_the_numbers_again(numbers):
    assert expanded(_runs(numbers)) == list(numbers)


def test_the_policy_permits_the_script_and_the_style_of_the_page_and_nothing_else(lenet):
    policy, style, _, script = parts(lenet.page())

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": digest(script),
        "style-src": digest(style),
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert set(re.findall(r"https?://[\w./]+", script + style)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/1998/Math/MathML",
        "http://www.w3.org/1999/xlink",
    }  # fmt: skip  names of languages, which nothing is loaded from


class Hostile(nn.Module):
    def __init__(self):
        super().__init__()
        for name in HOSTILE:
            self.add_module(name, nn.Conv2d(3, 3, 1))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def test_names_of_a_model_cannot_leave_the_data():
    made = cnnscope.report(Hostile(), inputs="3x8x8", command="</script> '\"")
    page = made.page()
    assert len(re.findall(r"</?script", page, re.IGNORECASE)) == 4  # two elements
    assert "<img" not in page
    assert "<!--" not in page
    assert "\u202e" not in page
    data = json.loads(parts(page)[2])
    names = [row["name"] for row in data["models"][0]["rows"][1:]]
    assert names == [HOSTILE[0], HOSTILE[1], r"\u202egpj", HOSTILE[3], r"\u2028"]


def test_a_title_is_text(lenet):
    model = lenet.contents.models[0]
    source = msgspec.structs.replace(model.summary.source, name="</title><b>")
    summary = msgspec.structs.replace(model.summary, source=source)
    contents = msgspec.structs.replace(
        lenet.contents, models=(msgspec.structs.replace(model, summary=summary),)
    )
    assert "<title>&lt;/title&gt;&lt;b&gt; \u00b7 cnnscope</title>" in document(contents)


def test_two_models_are_aligned_as_diff_aligns_them():
    data = cnnscope.report("vgg11", "vgg13").to_dict()
    diff = data["diff"]
    added = [row for row in diff["rows"] if row["status"] == "added" and "params" in row]
    # 64 * 64 * 9 + 64 and 128 * 128 * 9 + 128: the second convolutions of two stages
    assert [row["params"] for row in added] == [36_928, 147_584]
    assert [row["pair"][0] for row in added] == [-1, -1]
    rows = data["models"][1]["rows"]
    assert [rows[row["pair"][1]]["params"] for row in added] == [36_928, 147_584]
    assert ["parameters", "132,863,336", "133,047,848", "+184,512", "+0.1 %"] in diff["totals"]


def test_a_training_step_has_its_phases_and_kinds():
    step = cnnscope.report(LENET, train={"optimizer": "adam"}).to_dict()["models"][0]["training"]
    assert [name for name, _ in step["phases"]] == ["forward", "backward", "step"]
    assert sum(count for _, count in step["phases"]) == len(step["events"])
    kinds = {kind: expanded(runs) for kind, _, _, runs in step["kinds"]}
    # Adam keeps two moments of each of 61,706 parameters of 4 bytes, and the steps
    assert kinds["optimizer state"][0] >= 2 * 4 * 61_706
    assert max(map(sum, zip(*kinds.values(), strict=True))) == step["tensors"]


@pytest.mark.broad
def test_times_of_a_saved_run_are_those_of_the_rows(tmp_path):
    path = tmp_path / "run.json"
    run = cnnscope.bench(LENET, device="cpu", seconds=0.05, per_layer=True)
    path.write_text(run.to_json())
    rows = cnnscope.report(LENET, bench=path).to_dict()["models"][0]["rows"]
    times = {one.path: one.median_ns for one in run.record.runs[0].layers}
    assert {row["path"]: row["time"] for row in rows if row["path"] in times} == pytest.approx(
        times, abs=1
    )
    assert rows[0]["time"] == pytest.approx(sum(times.values()), abs=1)
    with pytest.raises(RequestError, match=r"no times of the layers of alexnet .*--per-layer"):
        cnnscope.report("alexnet", bench=path)


def test_pages_of_known_models_are_small(lenet):
    program = len(lenet.page()) - len(parts(lenet.page())[2])
    assert program < 150_000
    assert len(cnnscope.report("resnet50").page()) < 400_000


def test_a_page_is_a_file_and_a_frame_that_cannot_reach_the_notebook(lenet, tmp_path):
    lenet.save(tmp_path / "net.html")
    assert (tmp_path / "net.html").read_text() == lenet.page()
    frame = lenet._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts" ')
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == lenet.page()
    assert str(lenet).startswith(f"page of {LENET.partition(':')[2]}, ")


def test_the_command_writes_the_page_and_says_so(tmp_path):
    path = tmp_path / "net.html"
    result = run_cli("report", LENET, "--batch-size", "2", "--output", str(path))
    assert (result.code, result.out) == (0, "")
    assert re.search(r"net\.html: \d+ kB, one file", result.err)
    data = json.loads(parts(path.read_text())[2])
    assert data["command"] == f"cnnscope report {LENET} --batch-size 2"
    assert data["models"][0]["inputs"] == [[2, 1, 32, 32]]
    lines = [row.get("line", "") for row in data["models"][0]["rows"]]
    assert lines[0] == ""
    assert lines[1].startswith("cnnscope/models/sources/classic/lenet.py:")
    assert run_cli("report", LENET, "-o", "-").out.startswith("<!doctype html>")


def test_the_graph_alone_is_a_picture(tmp_path):
    drawn = ("--depth", "all", "--heat", "macs")
    for name in ("net.svg", "net.png"):
        assert run_cli("report", LENET, "--output", str(tmp_path / name), *drawn).code == 0
    written = (tmp_path / "net.svg").read_text()
    assert written.startswith("<svg ")
    assert written == cnnscope.report(LENET).svg(depth=0, heat="macs")
    with Image.open(tmp_path / "net.png") as picture:
        wide, high = picture.size
        colours = {colour for _, colour in picture.getcolors(1 << 20)}
    # two pixels for each of the drawing's, on white, with the darkest colour of the heat
    size = re.search(r'width="(\d+)" height="(\d+)"', written).groups()
    assert (wide, high) == (2 * int(size[0]), 2 * int(size[1]))
    assert {(255, 255, 255), (102, 37, 6)} <= colours


def test_a_picture_that_is_too_large_has_a_remedy():
    with pytest.raises(RequestError, match=r"too large to draw: .*--format svg"):
        png('<svg width="100000" height="100000"></svg>')
    with pytest.raises(ValueError, match="X in a path"):
        png('<svg width="9" height="9"><path d="M0 0X3"/></svg>')


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a", "b", "c"), "cnnscope stages a b c"),
        ((LENET, "--optimizer", "adam"), "--train"),
        ((LENET, "-o", "-", "--open"), "name a file"),
        ((LENET, "-o", "-", "-f", "png"), "name a file"),
        ((LENET, "--heat", "macs"), "about a picture"),
        ((LENET, "-o", "x.svg", "--heat", "luck"), "use one of macs"),
        ((LENET, "-o", "/nowhere/x.html"), "there is no folder"),
        ((LENET, "-o", "x.pdf"), "a browser prints a page to PDF"),
        ((LENET, "-o", "x.json"), "a page ends in .html"),
    ],
)
def test_a_wrong_request_has_a_remedy(words, said):
    result = run_cli("report", *words)
    assert result.code == 2
    assert said in result.err


# -------------------------------------------------------------------- coordinates in the browser

GOLDEN = ROOT / "page" / "test" / "restack.json"


class Branches(nn.Module):
    """Two equal blocks with a skip and two branches, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.right = nn.Conv2d(8, 4, 5, padding=2)

    def forward(self, x):
        return x + torch.cat([self.left(x), self.right(x)], 1)


def _size(node, opened):
    return 40.0 + 8 * len(node.label), 24.0 if opened else 42.0 if node.costs.macs else 26.0


def _drawn(graph, states):
    made = restack(graph, states, _size)
    return {
        "states": sorted(states.items()),
        "drawing": {
            "size": [made.width, made.height],
            "boxes": [list(box) for box in made.boxes],
            "lines": [[one.block, one.edge, one.points] for one in made.lines],
        },
    }


def test_coordinates_that_the_script_is_held_to_are_those_of_python():
    graph = cnnscope.report(Branches(), inputs="3x8x8").contents.graph
    nodes = range(len(graph.nodes))
    opened = {n: 1 for n in nodes if graph.nodes[n].children}
    unfolded = dict.fromkeys(opened, 2)
    drawings = [_drawn(graph, states) for states in ({0: 1}, opened, unfolded)]
    golden = json.dumps({"graph": network(graph), "drawings": drawings}, separators=(",", ":"))
    if OVERWRITE:
        GOLDEN.write_text(golden + "\n")
    assert json.loads(GOLDEN.read_text()) == json.loads(golden)


def test_a_page_has_effective_fields_where_they_are_measured():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Conv2d(8, 8, 5, stride=2), nn.Conv2d(8, 8, 31))
    page = cnnscope.report(net, inputs="3x90x90", effective=True).to_dict()["models"][0]
    measured = cnnscope.effective(net, inputs="3x90x90").record
    assert page["effective"]["samples"] == measured.samples == 20
    rows = {page["rows"][one["row"]]["path"]: one for one in page["effective"]["layers"]}
    assert [*rows] == ["0", "1", "2"]
    for own in measured.layers:
        one = rows[own.path]
        assert (one["size"], one["pixels"]) == (own.size, own.pixels)
        assert tuple(map(tuple, one["box"])) == own.box
    # fields of 5, 9 and 9 + 30 * 2 = 69 px; a cell for each pixel, at most 48
    sizes = {path: (len(one["heat"]), len(one["heat"][0])) for path, one in rows.items()}
    assert sizes == {"0": (5, 5), "1": (9, 9), "2": (48, 48)}
    heat = "".join(rows["2"]["heat"])
    assert heat.count("_") >= 1  # 63, the largest
    # a corner is seen through one path of each kernel, the middle through very many
    assert heat[0] in "0123456789"


def test_the_page_of_a_model_that_breaks_has_what_ran_and_why_it_broke(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(100, 10)\n\n"
        "    def forward(self, x):\n        return self.fc(self.conv(x).flatten(1))\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run_cli("report", "net.py:Net", "--input", "3x8x8", "-o", "net.html")
    assert result.code == 3
    assert "up to the break at fc" in result.out
    _, _, data, _ = parts((tmp_path / "net.html").read_text())
    model = json.loads(data)["models"][0]
    # 8 channels of 6x6 = 288
    assert dict(model["failed"])["cause"] == "fc (Linear) takes 100 features and was given 288"
    assert [node["name"] for node in json.loads(data)["graph"]["nodes"] if node.get("fails")] == [
        "fc"
    ]
    both = run_cli("report", "net.py:Net", LENET, "--input", "3x8x8", "-o", "two.html")
    assert both.code == 3
    assert "no page is written" in both.err
    assert "up to the break at fc" in both.out
    assert not (tmp_path / "two.html").exists()


def test_what_only_a_page_has_is_refused_for_a_picture(tmp_path):
    for option in (["--effective"], ["--train"], ["--bench", "run.json"]):
        result = run_cli("report", LENET, *option, "-o", str(tmp_path / "net.svg"))
        assert (result.code, option[0] in result.err) == (2, True)
