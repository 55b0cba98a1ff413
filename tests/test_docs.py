"""Examples of README and docs print what is shown. CNNSCOPE_OVERWRITE=1 writes them anew."""

import ast
import datetime as dt
import doctest
import io
import re
import shlex
import shutil

import msgspec
import onnx_graphs
import pictures
import pytest
from command_line import OVERWRITE, run_cli, without_versions
from pages import NAMED, PAGES, SHOWN, text_of
from paths import DATA, ROOT
from PIL import Image

import cnnscope
from cnnscope.cli.commands import COMMANDS
from cnnscope.records.check import CheckAllReport
from cnnscope.render import check, page

pytestmark = pytest.mark.broad

ACCURACY = "docs/accuracy.md"
EXAMPLE = re.compile(r"```console\n\$ cnnscope ([^\n]*)\n(.*?)```", re.DOTALL)
LEFT_OUT = re.compile(r"^\.\.\.\n", re.MULTILINE)  # a line that stands for any number of lines
PYTHON = re.compile(r"```pycon\n(.*?)```", re.DOTALL)


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory):
    """The files that examples name, in the folder in which they run."""
    import torch
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", folder / "examples")
    torch.save(resnet18().state_dict(), folder / "resnet18.pth")
    onnx_graphs.lenet(folder)
    onnx_graphs.quantised(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def output_of(command: str) -> str:
    result = run_cli(*shlex.split(command))
    return without_versions(result.out + result.err)


def written(example: re.Match[str]) -> str:
    """An example as the program answers now; what a person shortened stays as it is."""
    if LEFT_OUT.search(example[2]):
        return example[0]
    return f"```console\n$ cnnscope {example[1]}\n{output_of(example[1])}```"


@pytest.mark.skipif(not OVERWRITE, reason="only writes")
def test_write_examples():
    for name in SHOWN:
        (ROOT / name).write_text(EXAMPLE.sub(written, text_of(name)), encoding="utf-8")


# Made by `cnnscope check --all --format json --output tests/data/check_all.json`.
CHECKED = re.compile(r"<!-- check --all -->\n(.*?)<!-- end -->", re.DOTALL)


def checked() -> CheckAllReport:
    content = (DATA / "check_all.json").read_bytes()
    return msgspec.json.decode(content, type=CheckAllReport)


def checked_section() -> str:
    """The report as Markdown, with a heading of the third level."""
    return page.markdown(check.page(checked()))


@pytest.mark.skipif(not OVERWRITE, reason="only writes")
def test_write_what_was_checked():
    section = f"<!-- check --all -->\n{checked_section()}<!-- end -->"
    text = CHECKED.sub(lambda _: section, text_of(ACCURACY))
    (ROOT / ACCURACY).write_text(text, encoding="utf-8")


def test_the_docs_have_what_was_checked():
    assert CHECKED.findall(text_of(ACCURACY)) == [checked_section()]


def test_every_model_was_checked_and_nothing_differs_without_a_reason():
    report = checked()
    assert len(report.models) == 121
    assert {tally.unexplained for tally in report.tallies} == {0}
    assert not [model.name for model in report.models if model.failed or model.unexplained]
    # every counter has judged every model
    judged: dict[str, int] = {}
    for tally in report.tallies:
        count = tally.equal + tally.explained + tally.incomparable + tally.absent
        judged[f"{tally.counter} {tally.figure}"] = count
    published = [judged.pop(f"published {figure}") for figure in ("parameters", "MACs")]
    assert set(judged.values()) == {121}
    assert min(published) >= 121  # of several weights, each different figure
    assert {tally.figure for tally in report.tallies} == {"parameters", "MACs", "shapes", "field"}


def examples():
    """Every example once: the page that has it, what is typed and what is shown."""
    found = [(page, *m) for page in SHOWN for m in EXAMPLE.findall(text_of(page))]
    return [pytest.param(*one, id=f"{one[0]}: {one[1]}") for one in found]


def test_pages_have_examples():
    assert len(examples()) >= 25


@pytest.mark.parametrize("page", [page for page in SHOWN if page.startswith("docs/tutorials/")])
def test_a_tutorial_has_predictions_examples_and_exercises(page):
    text = text_of(page)
    assert "Predict" in text or "predict" in text
    assert len(EXAMPLE.findall(text)) >= 2
    assert text.index("## Exercises") < text.index("**Solutions.**")


@pytest.mark.parametrize(("page", "command", "shown"), examples())
def test_example_prints_what_its_page_shows(page, command, shown):
    output = output_of(command)
    assert output == shown or shows(output, LEFT_OUT.split(shown))


def shows(output: str, parts: list[str]) -> bool:
    """Whether an output is these parts, with any lines left out between them."""
    return bool(re.fullmatch("(?:.*\n)*".join(map(re.escape, parts)), output))


@pytest.mark.parametrize(
    ("shown", "whether"),
    [("a\n...\n", True), ("...\nb\n...\n", True), ("...\nb\n", False), ("b\n...\n", False)],
)
def test_an_example_shows_lines_as_they_are(shown, whether):
    assert shows("a\nb\nc\n", LEFT_OUT.split(shown)) == whether


def python_examples() -> dict[str, str]:
    found = {page: "\n".join(PYTHON.findall(text_of(page))) for page in SHOWN}
    return {page: blocks for page, blocks in found.items() if blocks}


@pytest.mark.parametrize("page", python_examples())
def test_python_examples_answer_what_their_page_shows(page):
    blocks = python_examples()[page]
    examples = doctest.DocTestParser().get_doctest(blocks, {}, page, None, 0)
    told = io.StringIO()
    result = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(
        examples, out=told.write
    )
    assert result.attempted
    assert not result.failed, told.getvalue()


def test_counterparts_of_other_tools_calls_run_as_they_are_written():
    import torch
    from torch import nn

    class Net(nn.Module):
        def forward(self, *inputs, mask=None):
            return sum(one.float().mean() for one in inputs)

    names = {"cnnscope": cnnscope, "model": Net(), "x": torch.ones(1, 3, 8, 8)}
    names |= {"y": torch.ones(2), "m": torch.ones(2)}
    calls = re.findall(r"`(?:\w+ = )?(cnnscope\.\w+\([^`]+\))", text_of("docs/coming-from.md"))
    assert len(calls) >= 10
    for call in calls:
        eval(call, names)


def test_the_picture_of_a_terminal_is_what_the_program_prints():
    path = pictures.FOLDER / "terminal.svg"
    if OVERWRITE:
        path.write_text(pictures.terminal(), encoding="utf-8")
    shown = pictures.words(path.read_text(encoding="utf-8"))
    assert shown == pictures.words(pictures.terminal())
    assert len(shown) > 100
    assert "11,689,512" in shown


def test_the_chart_of_the_zoo_is_what_the_program_draws():
    path = pictures.FOLDER / "zoo.svg"
    if OVERWRITE:
        path.write_text(pictures.zoo(), encoding="utf-8")
    shown = pictures.words(path.read_text(encoding="utf-8"))
    assert shown == pictures.words(pictures.zoo())
    assert "80 models" in " ".join(shown)
    assert "regnet_y_128gf" in "".join(shown)


@pytest.mark.slow
def test_the_models_of_the_chart_are_those_of_the_zoo():
    assert output_of(pictures.ZOO_COMMAND) == pictures.ZOO.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["lenet5.svg", "field.png", pytest.param("effective.png", marks=pytest.mark.slow)],
)
def test_a_drawing_of_the_docs_is_what_its_command_draws(name, tmp_path):
    drawn = tmp_path / name
    assert run_cli(*shlex.split(pictures.DRAWN[name]), "--output", str(drawn)).code == 0
    shown = pictures.FOLDER / name
    if name.endswith(".svg"):
        assert drawn.read_text(encoding="utf-8") == shown.read_text(encoding="utf-8")
    else:
        assert pictures.apart(Image.open(drawn), Image.open(shown)) < 1


def test_the_readme_is_a_front_page():
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_pages_name_exist(page):
    path, text = ROOT / page, text_of(page)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
    for target in NAMED.findall(text):
        assert (ROOT / target).exists(), target


def paragraphs(text: str) -> list[str]:
    """Prose of a page: no code, heading, table, list, picture, docstring or generated part."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", CHECKED.sub("", text), flags=re.DOTALL | re.MULTILINE)
    stripped = [block.strip("\n") for block in prose.split("\n\n")]
    return [one for one in stripped if one and not re.match(r"[#|!<]|[-*] |\d\. |    |:::", one)]


@pytest.mark.parametrize("page", PAGES)
def test_a_paragraph_is_whole(page):
    for paragraph in paragraphs(text_of(page)):
        assert re.search(r"[.:!?)]\**$", paragraph), paragraph


def test_a_torn_paragraph_is_seen():
    assert paragraphs("# A\n\n```\nx\n```\n\nin a terminal it fits, 80 columns or\n") == [
        "in a terminal it fits, 80 columns or"
    ]


def test_the_newest_section_of_the_changelog_is_this_version_with_its_date():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", text, re.MULTILINE)[0]
    assert version == cnnscope.__version__
    dt.date.fromisoformat(date)
    assert "\n## Unreleased" not in text


def test_the_architecture_names_every_folder_and_module_at_the_root():
    text = (ROOT / "cnnscope/README.md").read_text(encoding="utf-8")
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([\w./]+)`", " ".join(first)))
    folders = {f"{path.parent.name}/" for path in (ROOT / "cnnscope").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "cnnscope").glob("*.py")}
    assert named == folders | modules - {"__init__.py", "__main__.py"}


def test_the_way_of_a_call_is_of_functions_that_exist():
    text = (ROOT / "cnnscope/README.md").read_text(encoding="utf-8")
    way = text.partition("The way of `cnnscope resnet18`")[2].partition("\n\nWhat follows")[0]
    named = re.findall(r"`(\w+/[\w/]+)\.(\w+)`", way)
    assert len(named) > 15
    for module, name in named:
        body = ast.parse((ROOT / f"cnnscope/{module}.py").read_text(encoding="utf-8")).body
        assert name in {getattr(node, "name", "") for node in body}, f"{module}.{name}"


@pytest.mark.parametrize("page", ["cnnscope/README.md", "CONTRIBUTING.md"])
def test_modules_that_the_architecture_names_exist(page):
    folders = ("cnnscope", "tests", "page/src", "page/test", ".ci")
    paths = (path for name in folders for path in (ROOT / name).rglob("*.*"))
    known = {f"/{path.relative_to(ROOT)}" for path in paths}
    named = re.findall(r"`((?:[\w.-]+/)*\w+\.(?:py|ts|json|sh))`", text_of(page))
    for name in set(named) - {"torch/_export/serde/schema.py"}:
        assert any(path.endswith(f"/{name}") for path in known), name
    assert len(named) > 20


def test_options_on_pages_exist():
    named = {option for page in SHOWN for option in re.findall(r"(--[a-z][a-z-]+)", text_of(page))}
    known = run_cli("--help").out + "".join(run_cli(name, "--help").out for name in COMMANDS)
    typed = {"--bs", "--num", "--json", "--csv", "--md", "--html"}
    curl = {"--fail", "--request", "--header", "--data-urlencode"}
    assert {option for option in named - typed - curl if option not in known} == set()
