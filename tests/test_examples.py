"""Every example's commands run, and show what its docstring promises."""

import json
import re
import shlex

import pytest
from command_line import run_cli
from paths import ROOT

COMMAND = re.compile(r"^    cnnscope (.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _from_the_top(monkeypatch):
    monkeypatch.chdir(ROOT)


def commands():
    files = sorted((ROOT / "examples").glob("*.py"))
    return {path.stem: COMMAND.findall(path.read_text(encoding="utf-8")) for path in files}


def answer(name, index=0):
    """The JSON report of an example's command."""
    command = commands()[name][index].replace("--depth 1", "")  # which JSON does not have
    result = run_cli(*shlex.split(command), "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def row(report, path):
    return next(r for r in report["layers"] if r["path"] == path)


def test_every_example_has_a_command():
    assert len(commands()) >= 6
    assert all(commands().values())


@pytest.mark.parametrize("command", [c for each in commands().values() for c in each])
def test_command_runs_as_it_is_written(command):
    result = run_cli(*shlex.split(command))
    assert result.code == 0, result.err
    assert result.err == ""


def test_a_1x1_convolution_sees_no_more_than_the_one_before():
    report = answer("vgg_1x1")
    fields = [row(report, f"features.0.{i}")["field"][0]["size"] for i in (0, 2, 4)]
    assert fields == [3, 5, 5]
    # 2 x 3x3 and a 1x1 at 32x32, 16 wide: the 1x1 is 16*16*32*32
    assert row(report, "features.0.4")["macs"] == 16 * 16 * 32 * 32


# At 28x28 from 192 channels. Naive: 192*(64 + 9*128 + 25*32) = 387,072 weights, at 784 places.
# Reduced: 192*64 + 192*96 + 9*96*128 + 192*16 + 25*16*32 + 192*32 = 163,328; the paper's table 1
# has 128 M operations for 3a.
def test_dimension_reduction_makes_inception_cheaper():
    assert answer("inception", 1)["totals"]["macs"] == 387_072 * 784
    assert answer("inception", 2)["totals"]["macs"] == 163_328 * 784 == 128_049_152


def test_inception_branches_see_differently():
    report = answer("inception", 2)
    sizes = [row(report, path)["field"][0]["size"] for path in ("one", "three", "five", "pool")]
    assert sizes == [1, 3, 5, 3]


# 256 * 256 and 512 * 512: the projections of the blocks that keep their shape
def test_projections_that_never_run_are_pointed_out():
    assert answer("bottleneck_resnet")["unused"] == {
        "layer1.1.projection": 65_536,
        "layer2.1.projection": 262_144,
    }
    shown = run_cli(*shlex.split(commands()["bottleneck_resnet"][0])).out
    assert "layer2.1.projection (262,144 parameters)" in shown


def test_two_inputs_are_fused():
    report = answer("two_inputs")
    assert [spec["shape"] for spec in report["inputs"]] == [[1, 3, 64, 64], [1, 1, 64, 64]]
    # 32 channels of each, at 64/2/2
    assert row(report, "fuse")["input_shapes"] == [[1, 64, 16, 16]]


# A tower of 4 * (256*256*9 + 256), classes 256*720*9 + 720, boxes 256*36*9 + 36;
# 2,360,320 - 4*256 weights at 64^2 + 32^2 + 16^2 places
def test_the_head_is_weighed_once_and_runs_on_every_level():
    report = answer("detection_head")
    assert report["totals"]["params"] == 2_360_320 + 1_659_600 + 82_980
    towers = [r for r in report["layers"] if r["path"] == "tower"]
    assert [r["macs"] for r in towers] == [4 * 256 * 256 * 9 * side**2 for side in (64, 32, 16)]
    assert [r["params"] for r in towers] == [2_360_320, 0, 0]
    assert "the example_inputs of Head" in report["notes"][0]


# Ronneberger, Fischer, Brox 2015, figure 1
def test_unet_gives_the_sizes_of_its_figure():
    report = answer("unet")
    assert report["layers"][0]["output_shapes"] == [[1, 2, 388, 388]]
    sides = [row(report, f"down.{i}")["output_shapes"][0][-1] for i in range(5)]
    assert sides == [568, 280, 136, 64, 28]
    sides = [row(report, f"join.{i}")["output_shapes"][0][-1] for i in range(4)]
    assert sides == [52, 100, 196, 388]


def test_frozen_layers_are_told_from_trained_ones():
    command = "summary examples/transfer.py --input 3x224x224 --format json"
    totals = json.loads(run_cli(*command.split()).out)["totals"]
    # the head: 512*5 + 5; all of ResNet-18 but its own head: 11,689,512 - (512*1000 + 1000)
    assert totals["trainable_params"] == 2_565
    assert totals["frozen_params"] == 11_176_512
