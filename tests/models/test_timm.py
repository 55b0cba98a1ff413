"""timm's models: how they are named and built, and (slow) 350 of them against torch's counts."""

import subprocess
import sys

import pytest
import timm_models
from command_line import run_cli

from cnnscope.errors import RequestError
from cnnscope.models import registered, run
from cnnscope.models.build import build
from cnnscope.models.find import find
from cnnscope.models.inputs import make_inputs
from cnnscope.models.request import Request, parse_model
from cnnscope.records.trace import TensorSpec

pytestmark = pytest.mark.broad


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm is not installed (the extra of that name)")


def built(name, **arguments):
    return build(find(parse_model(f"timm:{name}")), arguments)


def test_named_model_with_the_input_of_its_configuration(timm):
    trace = run.trace_spec(Request.of("timm:inception_v4"))
    assert trace.input_specs == (TensorSpec((1, 3, 299, 299)),)
    assert trace.source.versions["timm"] == timm.__version__


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("resnet18", {"in_chans": 1}, (1, 1, 224, 224)),
        ("vit_tiny_patch16_224", {"img_size": 160}, (1, 3, 160, 160)),
        ("vit_tiny_patch16_224", {"img_size": (160, 96)}, (1, 3, 160, 96)),
    ],
)
def test_default_input_follows_the_constructor(timm, name, arguments, shape):
    one = built(name, **arguments)
    assert one.inputs.tensors == (TensorSpec(shape),)
    make_inputs(one.inputs).call(one.model)


def test_fixed_input_size_is_named_where_another_is_asked_for(timm):
    result = run_cli("summary", "timm:vit_tiny_patch16_224", "--input", "160")
    assert result.code == 3
    assert (
        "doesn't match model (224); the smallest square input that works is 224x224" in result.err
    )


def test_a_tag_chooses_the_configuration_and_a_deprecated_name_the_model_in_its_place(timm):
    plain, tagged = built("resnet50"), built("resnet50.a1_in1k")
    assert [p.shape for p in tagged.model.parameters()] == [
        p.shape for p in plain.model.parameters()
    ]
    assert tagged.source.name == "resnet50.a1_in1k"
    config = timm.models.get_pretrained_cfg("eva02_tiny_patch14_336.mim_in22k_ft_in1k")
    one = built("eva02_tiny_patch14_336.mim_in22k_ft_in1k")
    assert one.inputs.tensors == (TensorSpec((1, *config.input_size)),)
    assert built("xception").source.name.startswith("legacy_xception")
    assert find(parse_model("timm/resnet18.a1_in1k")).source == "timm"


def test_an_unknown_tag_is_met_with_those_there_are(timm):
    result = run_cli("summary", "timm:resnet50.a1_in1kk")
    assert result.code == 2
    assert "resnet50 has no tag 'a1_in1kk'; it has a1_in1k" in result.err


def test_a_file_that_registers_a_name_of_timm_does_not_take_it(timm, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom timm.models import register_model\n"
        "@register_model\ndef resnet18(pretrained=False, **kwargs): return nn.Conv2d(3, 8, 3)\n"
    )
    result = run_cli("diff", f"{tmp_path}/net.py:resnet18", "timm:resnet18", "-i", "3x64x64")
    assert result.code == 0, result.err
    assert "11,689,512" in result.out


def test_bare_name_is_found_where_torchvision_has_none(timm):
    assert run.trace_spec(Request.of("resnetv2_50")).source.source == "timm"
    assert run.trace_spec(Request.of("resnet18")).source.source == "torchvision"


@pytest.mark.parametrize("argument", ["pretrained", "checkpoint_path", "pretrained_cfg"])
def test_weights_are_refused(timm, argument):
    with pytest.raises(RequestError, match="never downloaded"):
        built("resnet18", **{argument: "anything"})


def test_pretrained_false_may_be_said(timm):
    assert built("resnet18", pretrained=False).model is not None


@pytest.fixture
def without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "cnnscope.models.sources.timm", raising=False)
    monkeypatch.setattr(registered, "_names", registered._names.__wrapped__)


@pytest.mark.usefixtures("without_timm")
def test_without_the_extra_the_message_says_how_to_get_it():
    result = run_cli("summary", "timm:resnet18")
    assert result.code == 2
    assert "timm is not installed: pip install 'cnnscope[timm]'" in result.err


@pytest.mark.usefixtures("without_timm")
def test_without_the_extra_bare_names_are_those_of_torchvision():
    result = run_cli("summary", "resnetv2_50")
    assert "no model called 'resnetv2_50'; did you mean" in result.err
    assert run.trace_spec(Request.of("resnet18")).source.source == "torchvision"


def test_torchvision_names_do_not_import_timm(timm):
    script = (
        "import sys\nfrom cnnscope.models import request, run\n"
        "run.trace_spec(request.Request.of({0!r}))\n"
        "print('timm' in sys.modules, 'torchvision' in sys.modules)"
    )

    def imported(name):
        command = [sys.executable, "-c", script.format(name)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert imported("squeezenet1_1") == ["False", "True"]
    assert imported("timm:test_resnet")[0] == "True"  # the twin


# ---------------------------------------------------------------------------------- the sample


@pytest.fixture(scope="module")
def seen():
    pytest.importorskip("timm", reason="timm is not installed (the extra of that name)")
    return [timm_models.look(name) for name in timm_models.sample()]


def test_sample_has_every_family(timm):
    every = timm_models.families()
    drawn = set(timm_models.sample())
    assert len(drawn) == timm_models.CONVOLUTIONAL + timm_models.TRANSFORMERS
    assert {family for family, names in every.items() if not drawn & set(names)} == set()


@pytest.mark.slow
def test_every_model_of_the_sample_is_traced(seen):
    assert {one.name: one.failure for one in seen if one.failure} == {}


@pytest.mark.slow
def test_parameters_are_those_that_torch_counts(seen):
    assert {one.name for one in seen if one.params != one.torch_params} == set()
    assert min(one.params for one in seen) > 0


@pytest.mark.slow
def test_macs_are_half_of_what_torch_counts_as_flops(seen):
    counted = [one for one in seen if one.torch_macs is not None]
    assert {one.name for one in counted if one.macs != one.torch_macs} == set()
    assert len(counted) > 300


@pytest.mark.slow
def test_every_operation_has_a_formula_and_every_shape_agrees(seen):
    assert {one.name: one.unknown for one in seen if one.unknown} == {}
    assert {one.name: one.mismatches for one in seen if one.mismatches} == {}
