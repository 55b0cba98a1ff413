"""`--plot` of several commands: in the terminal, in a file, and what contradicts it."""

import json
import sys

import pytest
from command_line import run_cli

import cnnscope

LENET = "classic:lenet5"


@pytest.mark.parametrize("command", ["rf", "summary", "memory"])
def test_the_chart_stands_in_place_of_the_table(command):
    done = run_cli(command, LENET, "--plot")
    assert done.code == 0
    assert done.out == f"{getattr(cnnscope, command)(LENET).plot()}\n"
    assert "└" in done.out
    assert "layer   " not in done.out


def test_a_list_is_drawn_by_two_figures():
    given = ("list", "lenet*", "--source", "classic")
    done = run_cli(*given, "--plot", "macs:params")
    assert (done.code, "Pareto front" in done.out) == (0, True)
    models = cnnscope.list_models("lenet*", sources=["classic"])
    assert done.out == f"{models.plot('macs:params')}\n"
    assert run_cli(*given, "--plot", "macs:params", "--pareto", "macs:layers").code == 2


def test_a_sweep_is_drawn_with_its_power():
    done = run_cli("sweep", LENET, "--batch-size", "1,2,4", "--plot")
    assert "as batch_size^1.00" in done.out


def test_a_chart_in_a_text_file(tmp_path):
    path = tmp_path / "x.txt"
    done = run_cli("rf", LENET, "--plot", "-o", str(path))
    assert (done.code, done.out) == (0, "")
    assert path.read_text() == run_cli("rf", LENET, "--plot").out


@pytest.mark.broad
def test_a_chart_in_a_picture_leaves_the_table_on_stdout(tmp_path):
    path = tmp_path / "x.svg"
    done = run_cli("rf", LENET, "--plot", "-o", str(path), "-f", "json")
    assert (done.code, done.err) == (0, f"cnnscope: drawn to {path}\n")
    assert json.loads(done.out)["layers"]
    assert path.read_bytes() == cnnscope.rf(LENET).plot().draw("svg")
    assert "receptive field" in path.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rf NET --plot -o x.json", "x.json: a chart is written as .svg, .pdf, .png or .txt"),
        ("rf NET -o x.svg", "add --plot"),
        ("rf NET -o x.png", "a picture shows one layer; name it"),
        ("summary NET -o x.pdf", "add --plot"),
        ("memory NET --plot x.svg", "x.svg: for a chart in a file, use --plot --output x.svg"),
        ("summary NET --plot X.PNG", "X.PNG: for a chart in a file, use --plot --output X.PNG"),
        ("rf NET c1 x.pdf --plot", "use --plot --output x.pdf"),
        ("rf NET --plot -f json", "--format json has no effect here"),
        ("rf NET --plot --csv", "--format csv has no effect here"),
        ("rf NET --plot --depth 2", "--depth has no effect here"),
        ("rf NET --plot --all", "--all has no effect here"),
        ("rf NET c1 --plot", "LAYER has no effect here"),
        ("rf NET --plot --verify", "--verify has no effect here"),
        ("rf NET --plot --effective", "--effective has no effect here"),
        ("rf NET --plot --image x.png", "--image has no effect here"),
        ("summary NET --plot --columns macs", "--columns has no effect here"),
        ("summary NET --plot --no-findings", "--findings has no effect here"),
        ("list --plot macs", "--plot 'macs': give two, as in params:acc"),
        ("list --plot macs:macs", "give two"),
        ("list --plot macs:year", "use one of params, macs, activations, field, layers, acc"),
        ("list --plot macs:acc --sort macs", "--sort has no effect here"),
    ],
)
def test_what_contradicts_a_chart_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_cli(*words.replace("NET", LENET).split())
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.split())
    assert not list(tmp_path.iterdir())


def test_a_broken_model_shows_what_ran_and_writes_no_picture(tmp_path):
    net = "nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(9, 2))"
    path = tmp_path / "x.svg"
    for command in ("summary", "rf", "memory"):
        done = run_cli(command, net, "-i", "3x8x8", "--plot", "-o", str(path))
        assert done.code == 3
        assert "Conv2d" in done.out
        assert not path.exists()


def test_matplotlib_is_imported_for_pictures_alone():
    loaded = "matplotlib" in sys.modules
    run_cli("rf", LENET, "--plot")
    assert ("matplotlib" in sys.modules) == loaded
