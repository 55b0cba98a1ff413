"""`cnnscope list`: every model in a line, chosen, sorted and compared."""

import csv
import io
import json
import subprocess
import sys

import pytest
from command_line import run_cli

from cnnscope.cache import requests
from cnnscope.cache.store import Store
from cnnscope.errors import ModelError
from cnnscope.records.catalogue import About, Card, Listed
from cnnscope.records.trace import TensorSpec
from cnnscope.render import catalogue as renderer
from cnnscope.render import page
from cnnscope.reports import catalogue
from cnnscope.reports.catalogue import Wanted


def card(name, params=1, macs=1, acc=None, family="net", task="classification", source="classic"):
    """A model with the figures that a test is about."""
    inputs = (TensorSpec((1, 3, 32, 32)),)
    about = About(family, task, acc)
    return Listed(source, name, Card(name, source, about, inputs, params, macs, 0, 4, (3, 3), 2))


def chosen(listed, sort="", pareto=None, **wanted):
    report = catalogue.report(listed, Wanted(**wanted), sort=sort, pareto=pareto)
    return [one.name for one in report.models]


MODELS = [
    card("small", params=10, macs=30, acc=60.0),
    card("large", params=30, macs=10, acc=80.0),
    card("unknown", params=20, macs=20, family="other"),
    card("detector", params=40, macs=40, task="detection"),
]


def test_by_family_and_then_by_size():
    assert chosen(MODELS) == ["small", "large", "unknown", "detector"]


def test_largest_first_and_what_has_no_figure_last():
    assert chosen(MODELS, sort="macs") == ["detector", "small", "unknown", "large"]
    assert chosen(MODELS, sort="acc")[:2] == ["large", "small"]
    assert set(chosen(MODELS, sort="acc")[2:]) == {"unknown", "detector"}


def test_limits_are_inclusive_and_a_missing_figure_keeps_to_none():
    assert chosen(MODELS, most={"params": 20}) == ["small", "unknown"]
    assert chosen(MODELS, least={"acc": 60.0}) == ["small", "large"]
    assert chosen(MODELS, least={"acc": 60.1}) == ["large"]
    assert chosen(MODELS, task="detection") == ["detector"]
    assert chosen(MODELS, family="other") == ["unknown"]


def test_pareto_marks_what_no_other_beats():
    # small: fewest params; large: best accuracy; worse: as large as `large` and less accurate
    models = [*MODELS, card("worse", params=30, acc=70.0), card("twin", params=10, acc=60.0)]
    report = catalogue.report(models, Wanted(), pareto=("params", "acc"))
    assert {one.name for one in report.models if one.best} == {"small", "large", "twin"}


def test_a_model_that_failed_is_a_line_with_its_reason():
    report = catalogue.report([*MODELS, Listed("timm", "broken", None, "no forward")], Wanted())
    assert report.models[-1].name == "broken"
    assert "timm:broken: no forward" in page.text(renderer.page(report)).plain
    assert chosen([Listed("timm", "broken", None, "x"), *MODELS], most={"params": 10}) == ["small"]


def test_names_are_whole_where_columns_have_to_go():
    names = ["fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn"]
    models = [card(name, 10**7, 10**9) for name in names]
    report = catalogue.report(models, Wanted(), sort="macs")
    shown = page.text(renderer.page(report), 80).plain
    assert all(f"classic:{name} " in shown for name in names)
    assert "too narrow for" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_cards_are_read_before_any_is_made(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(catalogue.card_key("classic", "b"), card("b").card)
    made = []
    monkeypatch.setattr(catalogue, "_make", lambda source, name, _: made.append(name) or card(name))
    listed = list(catalogue.cards([("classic", "a"), ("classic", "b")], store))
    assert [one.name for one in listed] == ["b", "a"]
    assert made == ["a"]


def test_one_failure_is_reported_and_not_kept(tmp_path, monkeypatch):
    def fails(*_):
        raise ModelError("it broke")

    monkeypatch.setattr(requests, "trace", fails)
    (listed,) = catalogue.cards([("classic", "a")], Store(tmp_path))
    assert listed == Listed("classic", "a", None, "it broke")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- the real zoo


@pytest.mark.broad
def test_published_accuracy_is_of_the_traced_size():
    # IMAGENET1K_V2 of resnet50 was evaluated at 224: 80.858; resnet18 has V1 alone: 69.758
    out = run_cli("list", "resnet[15]*", "--source", "torchvision", "-f", "json").out
    found = {one["name"]: one["card"] for one in json.loads(out)["models"]}
    assert set(found) == {"resnet101", "resnet152", "resnet18", "resnet50"}
    assert found["resnet50"]["about"] == {
        "family": "resnet", "task": "classification", "top1": 80.858,
    }  # fmt: skip
    assert found["resnet18"]["about"]["top1"] == 69.758
    assert found["resnet18"]["params"] == 11_689_512
    assert found["resnet18"]["weight_layers"] == 21
    assert found["resnet18"]["field"] == [435, 435]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("lenet", {"lenet1989", "lenet5", "lenet5_paper"}),
        ("LeNet5", {"lenet5", "lenet5_paper"}),
        ("lenet?", {"lenet5"}),
        ("*5", {"lenet5"}),
        ("classic:lenet5", {"lenet5", "lenet5_paper"}),
        ("t5_p", {"lenet5_paper"}),
    ],
)
def test_a_word_is_part_of_a_name_and_a_pattern_all_of_it(pattern, found):
    names = ("lenet1989", "lenet5", "lenet5_paper", "alexnet")
    assert {name for name in names if catalogue._matches(pattern, "classic", name)} == found


def test_csv_has_the_same_figures():
    out = run_cli("list", "torchvision:resnet18", "--source", "torchvision", "-f", "csv").out
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["params"], row["input"], row["field"]) == ("11689512", "1x3x224x224", "435x435")


def test_second_list_imports_no_torch():
    run_cli("list", "alexnet", "--source", "torchvision")
    script = (
        "import sys; from cnnscope import cli;"
        "assert cli.run(['list', 'alexnet', '--source', 'torchvision']) == 0;"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"alexnet" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing*",), "no model of torchvision"),
        (("--sort", "beauty"), "--sort 'beauty': use one of params"),
        (("--pareto", "params"), "give two, as in params:acc"),
        (("--pareto", "params:params"), "give two, as in params:acc"),
        (("--pareto", "params:beauty"), "--pareto 'beauty'"),
        (("--max-params", "ten"), "--max-params 'ten': expected a number"),
        (("--max-params", "-3"), "--max-params '-3': expected a number"),
        (("--source", "hub"), "--source 'hub': use one of torchvision"),
        (("alexnet", "--max-params", "1k"), "it does not keep to these limits"),
        (("alexnet", "--max-activation", "1k"), "it does not keep to these limits"),
        (("alexnet", "--min-rf", "one"), "--min-rf 'one': expected a number"),
        (("alexnet", "--task", "ranking"), "--task 'ranking': there is classification"),
        (("alexnet", "--family", "alxnet"), "--family 'alxnet': there is alexnet"),
    ],
)
def test_a_wrong_request_is_one_message(arguments, message):
    source = () if "--source" in arguments else ("--source", "torchvision")
    result = run_cli("list", *arguments, *source)
    assert result.code == 2
    assert result.out == ""
    assert message in result.err
    assert result.err.count("\n") == 1


def test_interrupted_filling_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    real = catalogue._make
    left = [2]

    def make(source, name, root):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(source, name, root)

    monkeypatch.setattr(catalogue, "_make", make)
    monkeypatch.setattr(
        catalogue.parallel, "each", lambda _, items, __: (make(*item) for item in items)
    )
    command = ("list", "squeezenet*", "--source", "torchvision")
    both = run_cli(*command)
    assert both.code == 0
    (tmp_path / "x").write_text("")
    left[0] = 1
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path / "again"))
    assert run_cli(*command).code == 130
    left[0] = 1  # one of the two is there already
    assert run_cli(*command).out == both.out
    assert left[0] == 0


def test_a_column_that_no_model_fills_is_left_out():
    def headings(*listed):
        (table,) = renderer.page(catalogue.report(listed, Wanted(), sort="", pareto=None)).tables
        return [heading.title for heading in table.headings]

    assert headings(*MODELS)[-1] == "top-1"
    assert headings(MODELS[-1])[-1] == "input"


def test_a_card_of_another_shape_is_neither_read_nor_called_damaged(tmp_path, monkeypatch):
    said = []
    store = Store(tmp_path, said.append)
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "CARD_SHAPE", "another")
        store.write(catalogue.card_key("classic", "a"), {"a field": "of another version"})
    assert store.read(catalogue.card_key("classic", "a"), Card) is None
    assert not said
