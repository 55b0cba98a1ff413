"""Command lines as people type them: each works, or is told what to type."""

import itertools
import json

import pytest
import typer
from command_line import run_cli

from cnnscope.cli import commands, options, typed
from cnnscope.cli.summary import Summary

NET = "classic:lenet5"


def same(typed_words, plain):
    assert run_cli(*typed_words.split()) == run_cli(*plain.split())


def message(*words):
    result = run_cli(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    return result.err.removeprefix("cnnscope: ").strip()


# ----------------------------------------------------------------------------- the command

SAME = [
    (NET, f"summary {NET}"),
    (f"{NET} -i 1x28x28", f"summary {NET} -i 1x28x28"),
    (f"-i 1x28x28 {NET}", f"summary {NET} -i 1x28x28"),
    (f"--depth 1 {NET} --no-cache", f"summary {NET} --depth 1 --no-cache"),
    (f"-f json summary {NET}", f"summary {NET} -f json"),
    (f"--no-cache rf {NET} c3", f"rf {NET} c3 --no-cache"),
    (f"--unit 3,5 rf {NET} c3", f"rf {NET} c3 --unit 3,5"),
    (f"Summary {NET}", f"summary {NET}"),
    (f"inspect {NET}", f"summary {NET}"),
    (f"compare {NET} classic:lenet1989", f"diff {NET} classic:lenet1989"),
    (f"receptive-field {NET}", f"rf {NET}"),
    ("benchmark --help", "bench --help"),
    ("Help summary", "help summary"),
    ("help compare", "help diff"),
    ("summary help", "summary --help"),
    (f"{NET} --help", "summary --help"),
    ("version", "--version"),
    # sizes are inputs
    (f"summary {NET} 28", f"summary {NET} --input 28"),
    (f"summary 28x28 {NET}", f"summary {NET} --input 28x28"),
    (f"summary {NET} 1x28x28:float32", f"summary {NET} --input 1x28x28:float32"),
    (f"diff {NET} {NET} 28", f"diff {NET} {NET} --input 28"),
    (f"summary {NET} -i 1 28 28 --depth 1", f"summary {NET} --input 1x28x28 --depth 1"),
    (f"rf {NET} c3 --input 1 1 28 28", f"rf {NET} c3 --input 1x1x28x28"),
    (f"stages {NET} 1x28x28", f"stages {NET} --input 1x28x28"),
    (f"rf {NET} 1x28x28", f"rf {NET} --input 1x28x28"),
    (f"rf {NET} c3 28", f"rf {NET} c3 --input 28"),
    # formats, and options under the names of others
    (f"summary {NET} --json", f"summary {NET} --format json"),
    (f"{NET} --csv", f"summary {NET} --format csv"),
    (f"{NET} --md", f"summary {NET} --format markdown"),
    (f"stages {NET} --tex", f"stages {NET} --format latex"),
    (f"--html {NET}", f"summary {NET} --format html"),
    (f"{NET} --json --bs 4", f"summary {NET} --format json --batch-size 4"),
    (f"{NET} --json --bs=4", f"summary {NET} --format json --batch-size 4"),
    (f"{NET} --batch_size 4 --num_classes 7", f"summary {NET} --batch-size 4 --num-classes 7"),
    (f"{NET} --input-size 28", f"summary {NET} --input 28"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "plain"), SAME, ids=[words for words, _ in SAME])
def test_what_people_type_is_what_the_command_is_called(words, plain):
    same(words, plain)
    assert run_cli(*plain.split()).code == 0


def test_a_file_needs_no_command_wherever_the_options_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = "from torch import nn\nclass Net(nn.Conv2d):\n    def __init__(self):\n"
    (tmp_path / "net.py").write_text(f"{net}        super().__init__(3, 8, 3)\n")
    plain = run_cli("summary", "net.py:Net", "--input", "3x32x32")
    assert plain.code == 0
    assert "1x3x32x32" in plain.out
    for words in ("net.py:Net -i 3x32x32", "-i 3x32x32 net.py:Net", "net.py 3x32x32"):
        assert run_cli(*words.split()).out == plain.out


def test_a_word_lists_the_models_that_contain_it():
    names = [row["name"] for row in json.loads(run_cli("list", "lenet", "--json").out)["models"]]
    assert {"googlenet", "lenet5", "lenet1989"} <= set(names)


SAID = [
    ("sumary resnet18", "no command called 'sumary'; did you mean summary, as in: cnnscope "
     "summary resnet18"),
    ("lits resnet", "did you mean list, as in: cnnscope list resnet"),
    ("comparee a b", "did you mean diff, as in: cnnscope diff a b"),
    ("help sumary", "did you mean: cnnscope help summary"),
    ("paint resnet18", "no command called 'paint'; there is summary, rf"),
    ("resnt18", "did you mean resnet18"),
    ("summary alexnet 64 64", "but the model takes 1: 1x3x224x224 float32; one input is --input "
     "64x64"),
    ("summary alexnet -i 64 96", "one input is --input 64x96"),
    ("paint", " the commands: cnnscope --help"),
    ("summary resnet18 resnet50", "cnnscope diff resnet18 resnet50; for several side by side, "
     "cnnscope stages resnet18 resnet50"),
    ("resnet18 resnet34 resnet50", "cnnscope stages resnet18 resnet34 resnet50"),
    ("summary resnet18 layer1.0", "cnnscope explain resnet18 layer1.0"),
    ("diff a b c", "several side by side: cnnscope stages a b c"),
    ("explain a b c", "cnnscope explain a 'layer1.*'"),
    ("rf a b c", "rf takes one model and one layer"),
    ("check a b", "check takes one model"),
    ("list resnet18 resnet34", "quote it, as in: cnnscope list 'resnet*'"),
    ("graph resnet18", "cnnscope summary resnet18 --depth all lists every operation"),
    ("graph resnet18", "cnnscope report resnet18 draws it on a page"),
    ("graph", "cnnscope stages MODEL is the table"),
    ("plot --json net.py", "cnnscope rf net.py LAYER --output field.png draws"),
    ("plot resnet18", "cnnscope summary resnet18 --plot draws the cost of every layer"),
    (f"{NET} --json --csv", "--json and --csv: one format at a time"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), SAID, ids=[words for words, _ in SAID])
def test_what_cannot_be_meant_is_answered_with_what_to_type(words, said):
    assert said in message(*words.split())


def test_a_line_of_advice_can_be_typed():
    advice = message("summary", NET, "classic:lenet1989")
    line = advice.split("cnnscope ")[1].partition(";")[0]
    assert run_cli(*line.split()).code == 0


def test_debug_is_heard_beside_a_model_alone():
    for words in itertools.permutations(["--debug", NET, "--input=9x"]):
        result = run_cli(*words)
        assert result.code == 2
        assert "Traceback" in result.err
    assert "Traceback" not in run_cli(NET, "--input=9x").err


def test_a_model_of_a_library_is_no_misspelt_command(monkeypatch):
    monkeypatch.setattr(typed, "is_library_model", lambda word: word == "summarynet")
    assert typed.with_command(["summarynet"], commands.COMMANDS, dict) == ["summary", "summarynet"]
    with pytest.raises(commands.RequestError):
        typed.with_command(["summarynot"], commands.COMMANDS, dict)


def test_words_after_two_dashes_are_left_as_they_are():
    known = {"--input": True, "-i": True, "--format": True}
    assert typed.with_options(["--", "224", "--json"], known) == ["--", "224", "--json"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["-i", "3x4", "a", "--all", "b"], ["a", "b"]),
        (["--input=3x4", "a"], ["a"]),
        (["-ai", "3x4", "a"], ["a"]),  # as -a -i 3x4
        (["-i3x4", "a"], ["a"]),
        (["-", "--", "-x"], ["-", "-x"]),
    ],
)
def test_values_of_options_are_no_models(words, found):
    known = {"--input": True, "-i": True, "--all": False, "-a": False}
    assert typed.positionals(words, known) == found


def test_every_option_that_is_rewritten_exists():
    made = commands.command("summary", Summary)
    known = commands.valued(made.get_params(typer.Context(made)))
    assert set(typed._SYNONYMS.values()) <= set(known)
    assert set(typed._FORMATS.values()) == {one.value for one in options.Format}
    assert set(typed.ALIASES.values()) <= set(commands.COMMANDS)
    assert not set(typed.ALIASES) & set(commands.COMMANDS)


# -------------------------------------------------------------------------------- formats

BEGINS = {
    "net.json": "{\n", "net.csv": "path,", "net.md": "### ", "NET.MD": "### ",
    "net.tex": "% needs", "net.html": "<!doctype html>", "net.txt": "lenet5 ", "net": "lenet5 ",
}  # fmt: skip


@pytest.mark.parametrize("name", BEGINS)
def test_the_format_follows_the_ending(name, tmp_path):
    path = tmp_path / name
    assert run_cli("summary", NET, "-o", str(path)) == (0, "", "")
    assert path.read_text(encoding="utf-8").startswith(BEGINS[name])


def test_a_format_that_is_named_wins_over_the_ending(tmp_path):
    path = tmp_path / "net.json"
    assert run_cli("summary", NET, "-f", "csv", "-o", str(path)) == (0, "", "")
    assert path.read_text(encoding="utf-8").startswith("path,")


def test_an_ending_that_says_nothing_is_told(tmp_path):
    path = tmp_path / "net.foo"
    result = run_cli("summary", NET, "-o", str(path))
    assert result.code == 0
    assert "written as a table, because no format ends in .foo: .txt" in result.err
    assert path.read_text(encoding="utf-8") == run_cli("summary", NET).out


@pytest.mark.parametrize("words", [("--json", "{}"), ("--json={}",)])
def test_a_file_may_stand_after_the_format(words, tmp_path):
    path = tmp_path / "net.json"
    result = run_cli("summary", NET, *(word.format(path) for word in words))
    assert result == (0, "", "")
    assert json.loads(path.read_text(encoding="utf-8"))["source"]["name"] == "lenet5"


def test_a_page_in_a_file_says_how_it_is_encoded():
    text = run_cli("summary", NET, "--html").out
    assert '<meta charset="utf-8">' in text
    assert "<title>lenet5</title>" in text
    assert text.count("<table>") == text.count("</table>") == 1


@pytest.mark.parametrize("words", ["alexnet 3 64 64", "summary alexnet 1 3 64 64", "AlexNet 64"])
def test_sizes_that_stand_apart_are_one_input(words):
    result = run_cli(*words.split(), "--json")
    assert json.loads(result.out)["inputs"][0]["shape"] == [1, 3, 64, 64]


@pytest.mark.parametrize(
    "command", ["memory", "rf", "check", "stages", "explain", "summary", "bench"]
)
def test_every_command_shows_what_ran_before_a_forward_raised(command, tmp_path):
    (tmp_path / "broken.py").write_text(
        "from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(9, 2))\n"
    )
    result = run_cli(command, str(tmp_path / "broken.py"), "-i", "3x4x4", "--json")
    assert result.code == 3
    report = json.loads(result.out)
    assert report["failed"]["path"] == "2"
    assert [row["path"] for row in report["layers"] if row["leaf"]][:1] == ["0"]
    # 4 channels of 2 x 2 are 16 features
    assert "in_features must be 16 for this input" in result.err


def test_losses_have_the_names_that_people_give_them():
    from cnnscope.reports.memory import step_of

    names = ("ce", "CrossEntropyLoss", "cross_entropy", "MSE", "L1Loss", "BCEWithLogitsLoss")
    assert [step_of(loss=name).loss for name in names] == [
        *("cross-entropy", "cross-entropy", "cross-entropy", "mse", "l1", "bce")
    ]
    assert step_of("AdamW", "Foreach").optimizer == "adamw"
