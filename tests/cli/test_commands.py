"""The command line as a person meets it: options, formats, errors and exit codes."""

import csv
import importlib
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import hears_ctrl_c, run_cli

from cnnscope import api
from cnnscope.cli import cache, commands, stack, usage
from cnnscope.cli.session import Session
from cnnscope.errors import ModelError
from cnnscope.models import run
from cnnscope.render.columns import COLUMNS


def error_of(*arguments, code=2):
    """The one message of a command that fails; where a forward raised, stdout has what ran."""
    result = run_cli(*arguments)
    assert result.code == code
    assert code == 3 or not result.out
    assert "Traceback" not in result.err
    assert result.err.startswith("cnnscope: ")
    assert result.err.count("\n") == 1
    return result.err.removeprefix("cnnscope: ").strip()


# --------------------------------------------------------------------------------- options


def test_the_version_is_that_of_the_package():
    from cnnscope import __version__

    assert run_cli("--version").out == f"cnnscope {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("summary",),
        ("diff",),
        ("stages",),
        ("explain",),
        ("memory",),
        ("fit",),
        ("stack",),
        ("bench",),
        ("check",),
    ],
)
def test_help_opens_with_an_example_that_works_as_typed(command):
    text = run_cli(*command, "--help").out
    example = next(line for line in text.splitlines() if "Example: cnnscope" in line)
    arguments = example.split("cnnscope ", 1)[1].split()
    assert run_cli(*arguments).code == 0


def test_input_is_completed_from_the_default():
    # alexnet takes 1x3x224x224: 256 is 1x3x256x256, and conv1 gives (256 + 4 - 11)/4 + 1 = 63
    report = json.loads(run_cli("summary", "alexnet", "--input", "256", "--format", "json").out)
    assert report["inputs"] == [{"shape": [1, 3, 256, 256], "dtype": "float32"}]
    first = next(row for row in report["layers"] if row["path"] == "features.0")
    assert first["output_shapes"] == [[1, 64, 63, 63]]


def test_batch_size_multiplies_macs_and_not_params():
    one = json.loads(run_cli("summary", "alexnet", "-f", "json").out)["totals"]
    eight = json.loads(run_cli("summary", "alexnet", "-f", "json", "-b", "8").out)["totals"]
    assert eight["macs"] == 8 * one["macs"]
    assert eight["params"] == one["params"]


def test_num_classes_and_arguments_reach_the_constructor():
    # resnet18's head is 512 x 1000 + 1000 = 513,000; with 10 classes 5,130
    result = run_cli("summary", "resnet18", "--num-classes", "10", "-f", "json")
    assert json.loads(result.out)["totals"]["params"] == 11_689_512 - 513_000 + 5_130
    result = run_cli("summary", "mobilenet_v2", "--arg", "width_mult=0.5", "-f", "json")
    assert json.loads(result.out)["source"]["arguments"] == {"width_mult": "0.5"}


def test_half_precision_halves_bytes():
    full = json.loads(run_cli("summary", "alexnet", "-f", "json").out)["totals"]
    half = json.loads(run_cli("summary", "alexnet", "-f", "json", "--dtype", "bfloat16").out)
    assert half["totals"]["param_bytes"] * 2 == full["param_bytes"]
    assert half["inputs"][0]["dtype"] == "bfloat16"


def test_depth_changes_rows_and_not_totals():
    shallow = run_cli("summary", "resnet18", "--depth", "1").out
    deep = run_cli("summary", "resnet18", "--depth", "all").out
    assert len(deep.splitlines()) > len(shallow.splitlines())
    for line in ("parameters  11,689,512", "MACs        1.814 GMACs"):
        assert line in shallow
        assert line in deep


def test_unfold_shows_every_block():
    folded = run_cli("summary", "resnet34", "--depth", "2").out
    unfolded = run_cli("summary", "resnet34", "--depth", "2", "--unfold").out
    assert "  1-5  " in folded
    assert "  1-5  " not in unfolded
    assert "  5  " in unfolded


@pytest.mark.broad
def test_all_shows_rearranging_operations():
    assert "  Flatten" not in run_cli("summary", "googlenet").out
    assert "flatten" in run_cli("summary", "resnet18", "--all").out + "flatten"
    rows = run_cli("summary", "shufflenet_v2_x0_5", "--all").out
    assert " transpose" in rows


def test_sort_and_filter_list_layers():
    lines = run_cli(
        "summary", "vgg11", "--sort", "params", "--filter", "Linear", "--columns", "path"
    ).out.splitlines()
    # 25088 x 4096 > 4096 x 4096 > 4096 x 1000
    assert lines[3:6] == ["classifier.0", "classifier.3", "classifier.6"]


# --------------------------------------------------------------------------------- formats


def test_csv_has_the_rows_of_the_json():
    rows = list(csv.DictReader(io.StringIO(run_cli("summary", "alexnet", "-f", "csv").out)))
    report = json.loads(run_cli("summary", "alexnet", "-f", "json").out)
    assert [row["path"] for row in rows] == [row["path"] for row in report["layers"]]
    for name in ("params", "macs", "element_ops", "activation_bytes"):
        assert [int(row[name]) for row in rows] == [row[name] for row in report["layers"]]


def test_output_file_holds_what_stdout_would(tmp_path):
    for format_ in ("table", "json", "csv", "markdown"):
        path = tmp_path / format_
        assert run_cli("summary", "alexnet", "-f", format_, "-o", str(path)).out == ""
        expected = run_cli("summary", "alexnet", "-f", format_).out
        assert path.read_text(encoding="utf-8") == expected


@pytest.mark.broad
def test_a_pipe_gets_no_colours_and_no_ellipsis():
    out = run_cli("summary", "swin_t", "--depth", "all").out
    assert "\x1b" not in out
    assert "…" not in out


def test_markdown_is_a_table():
    lines = run_cli("summary", "alexnet", "-f", "markdown").out.splitlines()
    assert lines[4].startswith("| layer | operation |")
    assert lines[5].startswith("| :--- | :--- |")
    assert {line.count(" | ") for line in lines[4:20]} == {6}


# ---------------------------------------------------------------------------------- errors


def test_unknown_model_names_the_nearest():
    assert "did you mean resnet18" in error_of("summary", "resnt18")


def test_a_name_that_several_sources_have_is_suggested_once(monkeypatch):
    from cnnscope.models import find

    class Library:
        def names(self):
            return ["resnet18", "resnet34"]

    monkeypatch.setattr(find, "library", lambda source: Library())
    assert "did you mean resnet18, resnet34?" in error_of("summary", "resnet1", "--no-cache")


def test_unknown_source_names_those_there_are():
    assert "there is torchvision, classic" in error_of("summary", "keras:resnet18")


def test_control_characters_do_not_reach_the_terminal():
    message = error_of("summary", "res\x1b[31mnet\n18")
    assert "\x1b" not in message


@pytest.mark.parametrize("text", ["", "3x", "axb", "3x-2x4", "0x3x4", "1e3", "3x224x224:float7"])
def test_malformed_input_is_shown_the_form(text):
    assert text in error_of("summary", "resnet18", "--input", text)


def test_too_many_inputs():
    message = error_of("summary", "resnet18", "-i", "224", "-i", "112")
    assert "given 2 times, but the model takes 1" in message


def test_wrong_channel_count_names_the_layer_and_the_remedy():
    message = error_of("summary", "resnet18", "--input", "4x224x224", code=3)
    assert "conv1 (Conv2d) takes 3 channels and was given 4" in message
    assert message.endswith("use --input 3x224x224")


def test_input_too_small_names_layer_formula_and_smallest_size():
    # alexnet's last pool sees 1x1 at 32: (1 + 0 - 1*(3 - 1) - 1)/2 + 1 < 1
    message = error_of("summary", "vgg11", "--input", "3x20x20", code=3)
    assert "too small for features.20 (MaxPool2d): floor((1 + 2*0 - 1*(2 - 1) - 1)/2 + 1) = 0" in (
        message
    )
    assert message.endswith("the smallest square input that works is 32x32")


@pytest.mark.broad
def test_an_input_of_the_wrong_size_for_a_linear_layer_is_told_the_right_one():
    message = error_of("summary", "vit_b_16", "--input", "3x200x200", code=3)
    assert "Expected 224 but got 200" in message
    assert message.endswith("works is 224x224 (the only one of those tried)")


def test_constructor_that_rejects_an_argument():
    message = error_of("summary", "resnet18", "--arg", "wings=2")
    assert "wings" in message


@pytest.mark.parametrize("argument", ["width", "=1", "a=b", "1a=2", "x=__import__('os')"])
def test_a_malformed_argument_is_refused(argument):
    error_of("summary", "resnet18", "--arg", argument)


def test_weights_are_never_downloaded():
    message = error_of("summary", "resnet18", "--arg", "weights='DEFAULT'")
    assert "never downloaded" in message


@pytest.mark.parametrize(
    "command",
    [
        ("summary", "classic:lenet5"),
        ("summary", "classic:lenet5", "--format", "json"),
        ("rf", "classic:lenet5"),
        ("explain", "classic:lenet5", "c1"),
        ("stages", "classic:lenet5", "--format", "latex"),
        ("diff", "classic:lenet5", "classic:lenet1989"),
        ("stack", "--kernel", "3", "--channels", "4"),
        ("list", "classic:lenet5"),
    ],
)
def test_a_dash_is_stdout(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli(*command, "--output", "-") == run_cli(*command)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_saved_in_a_file():
    result = run_cli("bench", "classic:lenet5", "--save", "-")
    assert (result.code, result.out) == (2, "")
    assert "--save -: name a file" in result.err


def test_unwritable_output_fails_before_the_work(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("ran")

    monkeypatch.setattr(run, "trace_spec", never)
    assert "is a folder" in error_of("summary", "alexnet", "-o", str(tmp_path))
    assert "no folder" in error_of("summary", "alexnet", "-o", str(tmp_path / "no" / "file"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_full_disk_is_one_message():
    assert "cannot be written" in error_of("summary", "alexnet", "-o", "/dev/full")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--sort", "beauty"), ("--filter", "nothing*"), ("--columns", "layer,colour")],
)
def test_unknown_choice_lists_those_there_are(option, value):
    assert value.rpartition(",")[2] in error_of("summary", "alexnet", option, value)


@pytest.mark.parametrize("arguments", [("paint",), ("summary",), ("summary", "alexnet", "--x")])
def test_usage_errors_exit_with_2_and_no_traceback(arguments):
    result = run_cli(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert result.err


def test_model_failure_exits_with_3(monkeypatch):
    def fails(*_, **__):
        raise ModelError("resnet18: forward failed in conv1")

    monkeypatch.setattr(run, "trace_spec", fails)
    assert (
        error_of("summary", "resnet18", "--no-cache", code=3) == "resnet18: forward failed in conv1"
    )


def test_interrupt_exits_with_130(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "trace_spec", interrupted)
    result = run_cli("summary", "resnet18", "--no-cache")
    assert (result.code, result.err) == (130, "cnnscope: interrupted\n")


WAITING = """
import time
from cnnscope import cli
from cnnscope.cli import commands, stack
from cnnscope.cli.session import Session
from cnnscope.models import run

def waits(*_, **__):
    print("running", flush=True)
    time.sleep(60)

run.trace_spec = waits
cli.main(["summary", "resnet18", "--no-cache"])
"""


def test_ctrl_c_in_a_real_process():
    with hears_ctrl_c("-c", WAITING) as process:
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_closed_pipe_is_silent():
    command = f"{sys.executable} -m cnnscope summary alexnet --format json | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout == "{\n"
    assert result.stderr == ""


@pytest.mark.parametrize("place", range(5))
def test_debug_shows_the_traceback_wherever_it_stands(place):
    words = ["summary", "resnet18", "--input", "4x224x224"]
    if place != 3:  # where it would be the input
        result = run_cli(*words[:place], "--debug", *words[place:])
        assert result.code == 3
        assert "Traceback" in result.err
    assert "Traceback" not in run_cli(*words).err  # the next one is not told
    assert run_cli("cache", "--debug", "path").code == run_cli("cache", "path", "--debug").code == 0


def _loaded(entries):
    """Names of commands, and the dataclasses that they are made of."""
    for name, entry in entries.items():
        module = importlib.import_module(f"cnnscope.cli.{entry.module}")
        found = getattr(module, entry.kind)
        if isinstance(found, dict):
            yield name, entry, module.Group
            yield from _loaded(found)
        else:
            yield name, entry, found


@pytest.mark.parametrize(("name", "entry", "kind"), [*_loaded(commands.COMMANDS)])
def test_a_line_of_help_is_that_of_the_command(name, entry, kind):
    first, blank, example = inspect.getdoc(kind).splitlines()[:3]
    assert entry.help == first
    assert not blank
    assert re.match(rf"Example: cnnscope (cache )?{name}\b", example)


def test_only_the_command_that_is_named_is_loaded():
    program = (
        "import sys; from cnnscope.cli import run; run(['--help']); run(['cache', 'nosuch'])\n"
        "assert run(['cache', 'path']) == 0\n"
        "print([m for m in sys.modules if m.startswith('cnnscope.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = done.stdout.decode().splitlines()[-1]
    assert "cnnscope.cli.cache" in loaded
    for entry in commands.COMMANDS.values():
        assert entry.module == "cache" or f"cnnscope.cli.{entry.module}'" not in loaded


BAD_VALUES = [
    (("summary", "resnet18", "-b", "x"), "'--batch-size' / '-b': 'x' is not a valid integer"),
    (("bench", "resnet18", "--seconds", "1s"), "'--seconds': '1s' is not a valid float"),
    (
        ("stages", "vgg11", "--format", "TABLE"),
        "'--format' / '-f': 'TABLE' is not one of 'table', 'json', 'csv', 'markdown', 'latex', "
        "'html'",
    ),
    (("stack", "--preset", "x"), "'--preset': 'x' is not one of 'inception'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_VALUES)
def test_a_value_that_an_option_cannot_have_is_named(arguments, said):
    assert error_of(*arguments).startswith(f"Invalid value for {said} (")


def test_a_value_has_the_type_of_its_field_and_is_converted_without_typer():
    made = commands.command("stack", stack.Stack)
    words = ["-k", "5", "--preset", "inception", "--custom", "3x3", "--custom", "1x1"]
    given = [*words, "--seconds", "2", "-o", "a\0b"]
    params = made.make_context("stack", given, obj=Session()).params
    assert params["kernel"] == 5
    assert params["preset"] is stack.Preset.INCEPTION
    assert params["custom"] == ["3x3", "1x1"]
    assert params["seconds"] == 2.0
    assert params["output"] == Path("a\0b")
    assert params["channels"] is params["input"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "csv", "--sort", "macs"),
        ("--format", "json", "--depth", "1"),
        ("--sort", "macs", "--depth", "1"),
        ("--columns", ""),
        ("--num-classes", "10", "--arg", "num_classes=5"),
        ("--batch-size", "2", "--input", "1x3x224x224"),
    ],
)
def test_options_that_would_be_ignored_are_refused(arguments):
    error_of("summary", "alexnet", *arguments)


@pytest.mark.parametrize(
    "arguments", [("-i", "3x2147483647x2147483647"), ("-b", "9" * 22), ("-b", "0"), ("-b", "-1")]
)
def test_absurd_sizes_are_one_message(arguments):
    error_of("summary", "resnet18", *arguments)


# -------------------------------------------------------------------------------- budgets


def test_budget_that_is_kept_exits_with_0():
    # resnet18: 11,689,512 parameters, 1,814,073,344 MACs, peak 6.7 MiB, field 435
    limits = ("--max-params", "11689512", "--max-macs", "1.82G", "--min-rf", "435")
    result = run_cli("summary", "resnet18", *limits, "--max-activation", "6.8MiB")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("option", "limit", "message"),
    [
        # layer4's 3x3 from 512 to 512 channels: 512 * 512 * 9 = 2,359,296
        ("--max-params", "11689511", "parameters: 11,689,512, more than --max-params 11,689,511; "
         "most in layer4.0.conv2: 2,359,296"),
        # 64 channels in and out at 56x56: 64 * 64 * 9 * 56 * 56 = 115,605,504; conv1 has
        # 64 * 3 * 49 * 112 * 112 = 118,013,952
        ("--max-macs", "1.8G", "MACs: 1,814,073,344, more than --max-macs 1,800,000,000; "
         "most in conv1: 118,013,952"),
        ("--max-activation", "6MiB", "peak activations: 6.7 MiB, more than --max-activation "
         "6.0 MiB, at bn1"),
        ("--min-rf", "436", "receptive field: 435 px, less than --min-rf 436 px"),
    ],
)  # fmt: skip
def test_budget_that_is_broken_exits_with_1_and_says_where(option, limit, message):
    result = run_cli("summary", "resnet18", option, limit, "-f", "json")
    assert result.code == 1
    assert result.err == f"cnnscope: {message}\n"
    assert json.loads(result.out)["totals"]["params"] == 11_689_512


def test_a_training_step_has_a_budget():
    """What a device holds at most is that of `cnnscope memory` with the same options."""
    asked = ("summary", "alexnet", "-b", "4", "--format", "csv", "--max-train-memory")
    adam, sgd = (
        api.memory("alexnet", batch_size=4, optimizer=name).record.device_bytes[1]
        for name in ("adam", "sgd")
    )
    assert run_cli(*asked, f"{adam}B", "--optimizer", "adam").code == 0
    result = run_cli(*asked, f"{adam - 1}B", "--optimizer", "adam")
    assert result.code == 1
    assert result.err.startswith("cnnscope: memory of a training step: 2.2 GiB, more than --max-")
    # weights, gradients and two states of 9216 * 4096 + 4096 numbers: 16 bytes each, 576.1 MiB
    assert result.err.endswith("; most in classifier.1: 576.1 MiB\n")
    assert run_cli(*asked, f"{sgd}B").code == 0  # left out, it is sgd
    assert run_cli(*asked, f"{sgd - 1}B").code == 1


def test_memory_of_a_device_is_read_alike_everywhere():
    for command in (("summary", "alexnet", "--max-train-memory"), ("fit", "alexnet", "--memory")):
        assert "'24': give a unit, as in 24GiB" in error_of(*command, "24")
    lenet = ("summary", "classic:lenet5", "-f", "csv")
    assert run_cli(*lenet, "--max-train-memory", "24gb", "--max-params", "1m").code == 0


def test_an_optimizer_without_a_budget_has_no_effect():
    assert "it is for --max-train-memory" in error_of("summary", "alexnet", "--optimizer", "adam")
    given = ("summary", "alexnet", "--watch", "--optimizer", "adam")
    assert "it is for --max-train-memory" in error_of(*given)


def test_two_models_are_not_coloured_by_a_cost(tmp_path):
    given = ("report", "alexnet", "vgg11", "-o", str(tmp_path / "x.svg"), "--heat", "macs")
    assert "two models are coloured by what differs" in error_of(*given)


def test_a_budget_on_the_change_leaves_the_store_alone_where_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    lenet = "classic:lenet5"
    given = ("diff", lenet, lenet, "--batch-size-b", "2", "--max-train-memory", "+900%")
    assert run_cli(*given, "--no-cache").code == 0
    assert not list(tmp_path.iterdir())


def test_every_broken_limit_is_told():
    result = run_cli("summary", "alexnet", "--max-params", "1", "--max-macs", "1")
    assert result.err.count("\n") == 2


@pytest.mark.broad
def test_what_is_not_known_keeps_no_budget():
    result = run_cli("summary", "fasterrcnn_mobilenet_v3_large_320_fpn", "--min-rf", "10")
    assert result.code == 1
    assert "receptive field: not known" in result.err


def test_limit_that_is_no_number_is_refused_before_the_work():
    assert "--max-params 'many'" in error_of("summary", "alexnet", "--max-params", "many")


def test_what_a_command_does_is_one_whole_line_of_a_page_of_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group, entries in ((), commands.COMMANDS), (("cache",), cache.COMMANDS):
        lines = run_cli(*group, "--help").out.splitlines()
        for name, entry in entries.items():
            assert [line.split(maxsplit=1) for line in lines if line.startswith(f"  {name} ")] == [
                [name, entry.help]
            ]


def test_commands_and_options_stand_in_groups():
    text = run_cli("--help").out
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == ["Inspect a network", "Compare networks", "Measure", "Manage", "Program"]
    for name in commands.COMMANDS:
        titles = re.findall(r"^(\w.*):$", run_cli(name, "--help").out, re.MULTILINE)
        assert len(titles) >= 2
        assert set(titles) <= set(usage.GROUPS)


@pytest.mark.parametrize("name", [name for name in commands.COMMANDS if name != "cache"])
def test_every_option_is_described_in_sentences_with_an_example(name):
    module, kind = commands.COMMANDS[name][:2]
    made = commands.command(name, getattr(importlib.import_module(f"cnnscope.cli.{module}"), kind))
    for one in made.get_params(typer.Context(made)):
        assert re.match(r"[A-Z].*[.]$", one.help), one.name
        assert not one.help.endswith("..."), one.name
        if one.param_type_name == "option" and not one.is_flag:
            assert one.metavar, one.name
            assert f"as in {max(one.opts, key=len)} " in one.help or one.name == "compile", one.name


@pytest.mark.parametrize("width", ["40", "80", "300"])
@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_breaks_between_words_and_fits(name, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    text = run_cli(name, "--help").out
    monkeypatch.setenv("COLUMNS", "100")
    assert text.split() == run_cli(name, "--help").out.split()
    assert not [line for line in text.splitlines() if line.endswith("...")]
    longest = max(len(line) for line in text.splitlines())
    assert width == "40" or longest <= min(int(width), 100)


def test_help_lists_the_columns_that_there_are():
    text = " ".join(run_cli("summary", "--help").out.split())
    assert f"There is {', '.join(COLUMNS)}." in text
