"""Models of torchvision and timm, exported by PyTorch, beside their traces before the export.

`pytest -m slow tests/models/test_onnx_zoo.py`: an hour on one core. Equal have to be MACs, sizes of
outputs, the largest receptive field and where it outgrows the input; parameters less those of batch
norms that the exporter has put into convolutions (which get a bias), those that never run, and what
it has folded. A model that PyTorch cannot export is skipped with the exporter's reason.
"""

import re
import warnings

import pytest
import torch
from torch import nn

from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.reports import summary

pytestmark = [pytest.mark.slow, pytest.mark.zoo]

# Tables of relative positions that are looked up at fixed places: the exporter keeps the results.
FOLDED = re.compile(r"maxvit|swin")
FIXED = re.compile(r"alexnet|vgg|squeezenet|vit_|swin|maxvit")  # 224 pixels, or a divisor of 6
TIMM = (
    "resnet26 resnetv2_50 efficientnet_lite0 mobilenetv3_small_075 ghostnet_100 regnety_002 "
    "convnext_atto convnextv2_atto repvgg_a0 darknet53 cspresnet50 dla34 hrnet_w18_small "
    "res2net50_14w_8s seresnet18 skresnet18 rexnet_100 poolformer_s12 mobileone_s0 "
    "edgenext_xx_small vit_tiny_patch16_224 deit_tiny_patch16_224 mixer_s32_224 fastvit_t8"
).split()


def classifiers():
    import torchvision.models as zoo

    return zoo.list_models(module=zoo)


def segmenters():
    import torchvision.models as zoo

    return zoo.list_models(module=zoo.segmentation)


def videos():
    import torchvision.models as zoo

    return zoo.list_models(module=zoo.video)


def size_of(name):
    if name in videos():
        frames = 16 if name.startswith(("mvit", "s3d")) else 8
        side = 224 if name.startswith(("mvit", "swin3d", "s3d")) else 112
        return (1, 3, frames, side, side)
    if name in segmenters():
        return (1, 3, 96, 96)
    if name.startswith("inception"):
        return (1, 3, 128, 128)
    return (1, 3, 224, 224) if FIXED.match(name) else (1, 3, 64, 64)


def with_numbers(model):
    """A network whose tensors all differ: the exporter keeps one of several equal ones."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1)
    return model.eval()


def exported(model, size, path):
    with warnings.catch_warnings(), torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        # the fused attention of inference has no ONNX operator
        patch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
        try:
            torch.onnx.export(model, (torch.rand(size),), path, dynamo=False)
        except Exception as error:  # noqa: BLE001  whatever the exporter raises
            pytest.skip(f"{type(error).__name__}: {str(error)[:120]}")


def explained(model, before, after):
    """Parameters of a network that its graph may have."""
    made = summary.report(before, review=False).totals
    kept = {param.path for param in after.params}
    used = {before.modules[call.module].path for call in before.calls}
    count = made.params - made.unused_params
    for path, module in model.named_modules():
        if path not in used:
            continue
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{path}.weight" not in kept:
            count -= 2 * module.num_features * module.affine
        if isinstance(module, nn.modules.conv._ConvNd) and module.bias is None:
            count += module.out_channels * (f"{path}.bias" in kept)
    return count


def compare(name, source, model, size, path):
    exported(model, size, path)
    before = trace_spec(Request.of(f"{source}:{name}", ("x".join(map(str, size)),)))
    after = trace_spec(Request.of(path))
    ours, theirs = (summary.report(one, review=False) for one in (before, after))
    assert theirs.totals.macs == ours.totals.macs
    assert theirs.unknown == ()
    shapes = [[one.tensors[t].shape for t in one.outputs] for one in (before, after)]
    assert shapes[0][: len(shapes[1])] == shapes[1]
    if not name.startswith("swin"):  # whose rolls are slices side by side in the graph
        assert theirs.totals.field == ours.totals.field
        assert theirs.totals.field_exceeds_input_at == ours.totals.field_exceeds_input_at
    if not FOLDED.match(name):
        assert theirs.totals.params == explained(model, before, after)


@pytest.mark.parametrize("name", [*classifiers(), *segmenters(), *videos()])
def test_models_of_torchvision_are_what_they_were(name, tmp_path):
    import torchvision.models as zoo

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name in segmenters():
        options = {"weights": None, "weights_backbone": None}
        options |= {} if name.startswith("lraspp") else {"aux_loss": True}  # as it is listed
    model = with_numbers(zoo.get_model(name, **options))
    compare(name, "torchvision", model, size_of(name), str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm_are_what_they_were(name, tmp_path):
    timm = pytest.importorskip("timm")
    model = with_numbers(timm.create_model(name))
    size = (1, *model.default_cfg["input_size"])
    compare(name, "timm", model, size, str(tmp_path / "net.onnx"))
