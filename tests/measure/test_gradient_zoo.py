"""The final feature map of every torchvision classification CNN, measured by gradient."""

import pytest
import torchvision
from torchvision.models import list_models

from cnnscope.analysis import layers
from cnnscope.analysis.receptive_field import fields
from cnnscope.models import run
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.ops import table
from cnnscope.reports.verify import verify

CLASSIFIERS = list_models(module=torchvision.models)
CHEAP = [  # one or more of each kind of block, the quickest
    "alexnet", "vgg11_bn", "squeezenet1_1", "resnet18", "resnet50", "googlenet", "mnasnet0_5",
    "shufflenet_v2_x0_5", "regnet_y_400mf",
]  # fmt: skip


def is_convolutional(trace):
    """Return True if nothing attends over positions."""
    return not any("softmax" in table.base_name(r.name) or "attention" in r.name for r in trace.ops)


def final_map(trace):
    """The last layer whose units are told apart, in front of the pool to a fixed size."""
    rows = layers.rows(trace, fields(trace))
    kept = [r for r in rows if r.kind == "module" and r.leaf and r.field
            and len(r.output_shapes[0]) == 4]  # fmt: skip
    maps = [r for r in kept if all(a.units > 1 for a in r.field) and "Adaptive" not in r.operation]
    return maps[-1]


def check(name):
    """Equal at interior units of a canvas larger than the field, on both axes; its local size."""
    trace = trace_spec(Request.of(name))
    if not is_convolutional(trace):
        return None
    layer = final_map(trace)
    with run.module(Request.of(name)) as module:
        report = verify(trace, module, layer.path)
    (row,) = report.layers
    assert row.verdict == "equal", (name, layer.path, row)
    assert [c.axis for c in row.checks if c.how == "interior"] == [0, 1], (name, row)
    if any(a.size is None for a in layer.field):
        assert [c.axis for c in row.checks if c.how == "whole"] == [0, 1], (name, row)
    return [a.local_size for a in layer.field]


@pytest.mark.zoo
@pytest.mark.parametrize("name", CHEAP)
def test_final_map_is_what_the_gradient_sees(name):
    assert check(name)


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if n not in CHEAP])
def test_final_map_of_every_other_classifier_is_what_the_gradient_sees(name):
    sizes = check(name)
    if sizes is None:
        pytest.skip("attends over positions: no convolutional network")
