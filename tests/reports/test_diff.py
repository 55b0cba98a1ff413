"""Differences of two models as data: alignment, findings and sums."""

import csv
import functools
import io
import itertools
import json
import random

import msgspec
import pytest
import torch
from command_line import run_cli, without_versions
from differences import diff
from torch import nn

import cnnscope
from cnnscope.cli.diff import _instead
from cnnscope.records.diff import DiffReport
from cnnscope.records.summary import LayerRow
from cnnscope.records.trace import Trace
from cnnscope.render import drawing, page
from cnnscope.render.tree import Options
from cnnscope.reports.summary import report


@functools.cache
def traced(name, *inputs, **options):
    return cnnscope.trace(name, inputs, **options)


@functools.cache
def compared(before, after):
    return diff(traced(before), traced(after))


def findings(answer, about):
    return [f for f in answer.findings if f.about == about]


def leaves(answer, status):
    return [row for row in answer.rows if row.status == status and row.row.leaf]


def layers(answer, status):
    """Those that do something."""
    return [row for row in leaves(answer, status) if not row.row.minor]


def changes(row):
    return {change.what: (change.before, change.after) for change in row.changes}


# -------------------------------------------------------------------------- the named cases


def test_vgg13_is_vgg11_with_two_convolutions():
    # 64*64*3*3 + 64 = 36,928 and 128*128*3*3 + 128 = 147,584: 184,512 together
    answer = compared("vgg11", "vgg13")
    added = [row for row in layers(answer, "added") if row.row.operation == "Conv2d"]
    assert [row.after.features for row in added] == [(64, 64), (128, 128)]
    assert [row.params for row in added] == [36_928, 147_584]
    assert [row.after.path for row in added] == ["features.2", "features.7"]
    first, *rest = findings(answer, "added")
    assert (first.subject, first.count, first.params) == ("Conv2d", 2, 184_512)
    # at 224 and 112 pixels: 224*224*36,864 = 112*112*147,456 = 1,849,688,064 each
    assert first.macs == 2 * 1_849_688_064
    assert [(f.subject, f.count, f.params) for f in rest] == [("ReLU", 2, 0)]
    assert answer.change["params"] == 184_512
    assert not leaves(answer, "changed")
    assert not leaves(answer, "removed")


def test_what_was_added_is_whole_convolution_and_relu():
    # of `conv relu` against `conv relu conv relu` the second pair is the new one
    added = [row.after.path for row in layers(compared("vgg11", "vgg13"), "added")]
    assert added == ["features.2", "features.3", "features.7", "features.8"]


def test_resnet34_repeats_its_blocks_more_often():
    answer = compared("resnet18", "resnet34")
    (blocks,) = findings(answer, "blocks")
    assert blocks.subject == "BasicBlock"
    assert (blocks.before, blocks.after) == ((2, 2, 2, 2), (3, 4, 6, 3))
    # 21,797,672 - 11,689,512 parameters
    (added,) = findings(answer, "added")
    assert (added.subject, added.count, added.params) == ("BasicBlock", 8, 10_108_160)
    new = [r.after.path for r in answer.rows if r.status == "added" and r.depth == 2]
    assert new == [
        "layer1.2", "layer2.2", "layer2.3", "layer3.2", "layer3.3", "layer3.4", "layer3.5",
        "layer4.2",
    ]  # fmt: skip
    assert not leaves(answer, "changed")


def test_vgg11_bn_is_vgg11_with_eight_batch_norms():
    # two for each of 64 + 128 + 2*256 + 4*512 = 2,752 channels
    answer = compared("vgg11", "vgg11_bn")
    (added,) = findings(answer, "added")
    assert (added.subject, added.count, added.params) == ("BatchNorm2d", 8, 2 * 2_752)
    assert len(leaves(answer, "added")) == 8
    assert {row.status for row in answer.rows if row.row.leaf} == {"same", "added"}


@pytest.mark.broad
def test_resnext_has_other_widths_and_groups():
    answer = compared("resnet50", "resnext50_32x4d")
    both, groups, wider = findings(answer, "changed")
    # 16 blocks: conv1 and conv2 are twice as wide, conv2 has 32 groups
    assert [f.what for f in (both, groups, wider)] == ["out_channels", "groups", "out_channels"]
    assert {f.count for f in (both, groups, wider)} == {16}
    assert both.before == wider.before == (64, 128, 256, 512)
    assert both.after == wider.after == (128, 256, 512, 1024)
    assert (groups.before, groups.after) == ((1,), (32,))
    # conv2 of a block of width w: 2w*(2w/32)*9 - w*w*9 = -(63/8)*w^2 weights
    blocks = {64: 3, 128: 4, 256: 6, 512: 3}
    assert both.params == groups.params == -63 * sum(n * w * w for w, n in blocks.items()) // 8
    assert both.paths == groups.paths
    # conv1 has w filters more for what comes in: 4w channels, 64 and 2w at the first of a stage
    first = 64 * 64 + 128 * 256 + 256 * 512 + 512 * 1024
    assert wider.params == first + sum((n - 1) * w * 4 * w for w, n in blocks.items())
    row = next(r for r in answer.rows if r.row.path == "layer2.1.conv2")
    assert changes(row) == {
        "in_channels": (128, 256),
        "out_channels": (128, 256),
        "groups": (1, 32),
    }
    assert not leaves(answer, "added")
    assert not leaves(answer, "removed")


def resnet50_v1():
    """The stride in the 1x1 convolution, as He et al. 2015 (Table 1, section 3.4) have it."""
    from torchvision.models import resnet50

    model = resnet50()
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return cnnscope.trace(model, "3x224x224")


@pytest.mark.broad
def test_resnet50_has_its_stride_in_another_convolution_than_version_1():
    answer = diff(traced("resnet50"), resnet50_v1())
    (moved,) = findings(answer, "moved")
    assert (moved.what, moved.count) == ("stride", 3)
    assert (moved.before, moved.after) == (("conv2", (2, 2)), ("conv1", (2, 2)))
    assert moved.paths == ("layer2.0", "layer3.0", "layer4.0")
    assert not findings(answer, "changed")
    assert not findings(answer, "added")
    # conv1 of layer2.0, layer3.0, layer4.0 on a quarter of the pixels: 256*128*28*28 instead of
    # 256*128*56*56, 512*256*14*14 instead of 28*28, 1024*512*7*7 instead of 14*14: each 77,070,336
    # less; conv2 costs what it did
    assert answer.change["macs"] == -3 * 77_070_336
    assert answer.change["params"] == 0


def test_the_same_model_at_two_inputs_has_the_same_layers():
    answer = diff(traced("resnet18"), traced("resnet18", "3x320x320"))
    assert {row.status for row in answer.rows if row.row.leaf} == {"same", "resized"}
    assert not any(row.changes for row in answer.rows)
    assert [f.about for f in answer.findings] == ["inputs", "resized"]
    # a mean makes one pixel of either: fc is the same
    assert next(r for r in answer.rows if r.row.path == "fc").status == "same"
    # all but fc's 512,000 MACs: (320/224)^2 as many
    assert answer.change["params"] == 0
    before = traced_totals("resnet18").macs - 512_000
    assert answer.change["macs"] == before * 320**2 // 224**2 - before
    assert answer.differs


def traced_totals(name):
    return report(traced(name)).totals


def test_layers_after_a_wider_one_are_told_from_layers_that_changed():
    answer = compared("resnet50", "wide_resnet50_2")
    by_path = {}
    for row in answer.rows:
        by_path.setdefault(row.row.path, row)
    assert by_path["layer1.0.relu"].status == "resized"  # the same, on 128 channels
    assert by_path["layer1.0.conv1"].status == "changed"
    assert by_path["layer1.0.bn3"].status == "same"


def test_arguments_are_a_finding():
    answer = diff(traced("resnet18"), traced("resnet18", num_classes=10))
    (row,) = leaves(answer, "changed")
    assert row.row.path == "fc"
    assert changes(row) == {"out_features": (1000, 10)}
    # 512 * 990 weights and 990 biases less
    assert row.params == answer.change["params"] == -(512 * 990 + 990)
    assert findings(answer, "arguments")[0].after == ("num_classes=10",)


@pytest.mark.broad
def test_a_larger_growth_is_not_an_addition():
    answer = compared("densenet121", "densenet169")
    (blocks,) = findings(answer, "blocks")
    assert (blocks.before, blocks.after) == ((6, 12, 24, 16), (6, 12, 32, 32))
    (changed,) = findings(answer, "changed")
    # transition3 halves 512 + ... : 256 + 24*32 = 1024 -> 256 + 32*32 = 1280 channels, halved
    assert (changed.what, changed.before, changed.after) == ("out_channels", (512,), (640,))


def test_another_kind_of_block_is_a_change_of_kind():
    answer = compared("resnet34", "resnet50")
    kinds = [f for f in findings(answer, "changed") if f.what == "operation"]
    assert [(f.before, f.after, f.count) for f in kinds] == [(("BasicBlock",), ("Bottleneck",), 16)]


def test_models_of_other_families_are_removed_and_added_whole():
    answer = compared("resnet18", "vgg11")
    top = [(r.status, r.row.name) for r in answer.rows if r.depth == 1 and not r.row.minor]
    assert ("removed", "layer1") in top
    assert ("added", "features") in top
    assert ("changed", "avgpool") in top
    laid_out = drawing.page(answer)
    assert len(laid_out.tables[0].rows) < 20
    assert len(laid_out.above) < 14


@pytest.mark.broad
def test_heads_that_never_run_are_rows():
    # 3,188,968 + 3,191,016 in GoogLeNet's auxiliary heads
    answer = diff(traced("googlenet"), cnnscope.trace("googlenet", arguments={"aux_logits": False}))
    removed = [(r.row.path, r.params) for r in leaves(answer, "removed")]
    assert removed == [("aux1", -3_188_968), ("aux2", -3_191_016)]
    assert answer.change["params"] == -6_379_984
    assert answer.change["macs"] == 0


# ------------------------------------------------------------------------ small networks


def network(*children, size="1x4x8x8"):
    from torch import nn

    return cnnscope.trace(nn.Sequential(*children), size)


def test_what_changed_is_named():
    from torch import nn

    before = network(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
    after = network(nn.Conv2d(4, 4, 5, padding=2, groups=2), nn.SiLU(), nn.Dropout(0.2))
    rows = [r for r in diff(before, after).rows if r.row.leaf]
    assert [changes(r) for r in rows] == [
        {"kernel_size": ((3, 3), (5, 5)), "padding": ((1, 1), (2, 2)), "groups": (1, 2)},
        {"operation": ("ReLU", "SiLU")},
        {"p": (0.5, 0.2)},
    ]
    # 4*4*3*3 -> 4*2*5*5 weights, on 8*8 pixels
    assert (rows[0].params, rows[0].macs) == (200 - 144, (200 - 144) * 64)


def test_a_larger_dilation_moves_and_not_a_smaller_one():
    from torch import nn

    def net(*dilations):
        block = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=d, dilation=d) for d in dilations))
        return cnnscope.trace(nn.Sequential(block), "1x4x32x32")

    (moved,) = findings(diff(net(12, 2), net(2, 12)), "moved")
    assert (moved.before, moved.after) == (("0", (12, 12)), ("1", (12, 12)))


def test_no_cost_is_due_to_the_settings_of_a_norm():
    from torch import nn

    before = network(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    after = network(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8, eps=1e-3, momentum=0.01))
    found = {f.what: f.params for f in findings(diff(before, after), "changed")}
    assert found == {"out_channels": (8 - 4) * 4 + 8 - 4, "eps": 0, "momentum": 0}


def test_the_sizes_that_a_function_normalises_are_those_of_its_data():
    from torch import nn

    class Norm(nn.Module):
        def __init__(self, axes):
            super().__init__()
            self.axes = axes

        def forward(self, x):
            return nn.functional.layer_norm(x, x.shape[-self.axes :]).relu()

    def traced_at(axes, size):
        return cnnscope.trace(Norm(axes), f"1x4x{size}x{size}")

    assert {row.status for row in diff(traced_at(1, 8), traced_at(1, 16)).rows} == {"resized"}
    assert leaves(diff(traced_at(1, 8), traced_at(2, 8)), "changed")


def test_in_place_is_no_difference_of_the_layer():
    from torch import nn

    answer = diff(network(nn.ReLU()), network(nn.ReLU(inplace=True)))
    assert {row.status for row in answer.rows} == {"same"}


def test_a_frozen_layer_is_told():
    from torch import nn

    frozen = nn.Conv2d(4, 4, 1)
    frozen.requires_grad_(False)
    (row,) = leaves(diff(network(nn.Conv2d(4, 4, 1)), network(frozen)), "changed")
    assert changes(row) == {"trainable": (True, False)}


def test_a_channel_shuffle_that_is_missing_is_a_difference():
    from torch import nn

    shuffled = diff(network(nn.Conv2d(4, 4, 1), nn.ChannelShuffle(2)), network(nn.Conv2d(4, 4, 1)))
    assert shuffled.differs
    assert [r.row.operation for r in leaves(shuffled, "removed")] == ["ChannelShuffle"]


def test_an_insertion_in_front_does_not_shift_the_rest():
    from torch import nn

    stack = [nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU()]
    answer = diff(network(*stack), network(nn.BatchNorm2d(4), *stack))
    assert [(r.status, r.row.name) for r in answer.rows[1:]] == [
        ("added", "0"), ("same", "1"), ("same", "2"), ("same", "3"), ("same", "4"),
    ]  # fmt: skip


def test_a_scalar_in_a_function_is_part_of_the_layer():
    from torch import nn

    class Scaled(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.factor = by

        def forward(self, x):
            return x * self.factor

    half, same = network(Scaled(0.5)), network(Scaled(0.5))
    assert not diff(half, same).differs
    (row,) = leaves(diff(half, network(Scaled(0.25))), "changed")
    assert changes(row) == {"operations": ("mul(other=0.5)", "mul(other=0.25)")}


class Convolutions(nn.Module):
    """Three of one kind; `tied` gives the last two one weight, `order` is that of the run."""

    def __init__(self, order=(0, 1, 2), *, tied=False):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.order = order
        if tied:
            self.convs[2].weight = self.convs[1].weight

    def forward(self, x):
        for i in self.order:
            x = self.convs[i](x)
        return x


@pytest.mark.parametrize(
    ("other", "path", "held", "params"),
    [  # of 4*4*3*3 = 144 weights and 4 biases
        ({"tied": True}, "convs.2", "shared with convs.1.weight", -144),
        ({"tied": True, "order": (0, 2, 1)}, "convs.1", "shared with convs.2.weight", -144),
        ({"order": (0, 1, 1)}, "convs.1", "shared with convs.1", -148),
    ],
)
def test_weights_that_another_layer_counts_are_shared_with_it(other, path, held, params):
    image = torch.empty(1, 4, 8, 8)
    first, second = (cnnscope.trace(Convolutions(**how), (image,)) for how in ({}, other))
    answer = diff(first, second)
    (row,) = leaves(answer, "changed")
    assert (row.row.path, row.params) == (path, params)
    assert changes(row) == {"weights": ("own", held)}
    check_mirror(answer, diff(second, first))
    (said,) = findings(answer, "changed")
    assert (said.what, said.before, said.after) == ("weights", ("own",), (held,))


class Activated(nn.Module):
    """A function between two convolutions, or a module of the same behind both."""

    def __init__(self, *, behind):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5)
        self.act = nn.ReLU() if behind else None

    def forward(self, x):
        x = self.first(x)
        return self.act(self.second(x)) if self.act else self.second(x.relu())


def test_a_function_that_became_a_module_elsewhere_moved_once():
    image = torch.empty(1, 4, 16, 16)
    first, second = (cnnscope.trace(Activated(behind=b), (image,)) for b in (False, True))
    (moved,) = findings(diff(first, second), "moved")
    assert (moved.subject, moved.count, moved.paths) == ("ReLU", 1, ("act",))
    assert (moved.before, moved.after) == (("first",), ("second",))


# ------------------------------------------------------------------------------ properties

FEW = ("alexnet", "vgg11", "resnet18", "mobilenet_v2", "densenet121", "googlenet", "vit_b_16")
PAIRS = tuple(itertools.pairwise(FEW))


def is_empty(answer):
    return (
        not answer.differs
        and not answer.findings
        and not any(answer.change.values())
        and {row.status for row in answer.rows} == {"same"}
    )


def mirrored(row):
    """Changes that make the row of the other direction."""
    status = {"added": "removed", "removed": "added"}.get(row.status, row.status)
    swapped = sorted((c.what, repr(c.after), repr(c.before)) for c in row.changes)
    return (status, where(row.after), where(row.before), swapped, -row.params, -row.macs)


def straight(row):
    own = sorted((c.what, repr(c.before), repr(c.after)) for c in row.changes)
    return (row.status, where(row.before), where(row.after), own, row.params, row.macs)


def where(row: LayerRow | None):
    return (row.path, row.call, row.kind) if row else ()


def check_mirror(forth, back):
    assert sorted(map(straight, forth.rows), key=repr) == sorted(map(mirrored, back.rows), key=repr)
    assert forth.change == {name: -n for name, n in back.change.items()}
    assert forth.differs == back.differs


def check_sums(answer, before, after, *, ordered=True):
    """Every layer of either model is in the diff once, and they add up to the totals.

    In their order, unless parts that are the same are nested otherwise. Blocks that stand on one
    level only are left out, and Identity, which is there to do nothing.
    """
    first, second = report(before), report(after)
    for name in ("params", "macs", "element_ops"):
        difference = getattr(second.totals, name) - getattr(first.totals, name)
        assert answer.change[name] == difference
        assert sum(getattr(row, name) for row in answer.rows if row.row.leaf) == difference
    for side, known in (("before", first), ("after", second)):
        rows = [getattr(row, side) for row in answer.rows]
        named = [row for row in rows if row is not None and row.kind != "unused"]
        every = [row for row in known.layers if row.operation != "Identity"]
        leaves = [[r for r in every_row if r.leaf] for every_row in (named, every)]
        if not ordered:
            assert sorted(leaves[0], key=repr) == sorted(leaves[1], key=repr)
            continue
        assert leaves[0] == leaves[1]
        left = iter(every)
        assert all(row in left for row in named)  # in their order


@pytest.mark.parametrize("name", FEW)
def test_nothing_differs_from_itself(name):
    assert is_empty(diff(traced(name), traced(name)))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_other_direction_is_the_mirror_image(before, after):
    check_mirror(compared(before, after), compared(after, before))


class Subtracting(nn.Module):
    """Convolutions, then subtractions of maps and of single numbers, which weigh little."""

    def __init__(self, kernels, maps, numbers):
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(4, 4, k, padding=k // 2) for k in kernels))
        self.maps, self.numbers = maps, numbers

    def forward(self, x):
        x = self.convs(x)
        for _ in range(self.maps):
            x = x - x
        number = x.mean()
        for _ in range(self.numbers):
            number = number - number
        return x * number


class Otherwise(Subtracting):
    """The same in a class of another name."""


def subtracting(*blocks):
    """A network of blocks: class, kernels, subtractions of maps, subtractions of numbers."""
    with torch.device("meta"):
        model = nn.Sequential(*(kind(*given) for kind, *given in blocks))
    return cnnscope.trace(model, (torch.empty(1, 4, 8, 8, device="meta"),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(Otherwise, [1], 0, 4)], [(Subtracting, [1, 1], 1, 0)]),
        ([(Subtracting, [1, 3, 3], 1, 8)], [(Otherwise, [1, 1], 1, 0)]),
        ([(Otherwise, [1, 3], 1, 0)], [(Otherwise, [1], 8, 8)]),
    ],
)
def test_equal_layers_of_other_weight_are_mirrored_too(before, after):
    # what a block costs was estimated by the `sub` that was met last in the model named first
    first, second = subtracting(*before), subtracting(*after)
    check_mirror(diff(first, second), diff(second, first))


@pytest.mark.slow
def test_random_blocks_of_equal_layers_are_mirrored():
    choose = random.Random(1)

    def blocks():
        for _ in range(choose.randint(1, 2)):
            kernels = [choose.choice((1, 3, 5)) for _ in range(choose.randint(1, 3))]
            numbers = [choose.choice((0, 0, 1, 4, 8)) for _ in range(2)]
            yield choose.choice((Subtracting, Otherwise)), kernels, *numbers

    for _ in range(150):
        first, second = subtracting(*blocks()), subtracting(*blocks())
        check_mirror(diff(first, second), diff(second, first))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_rows_add_up_to_the_difference_of_the_summaries(before, after):
    check_sums(compared(before, after), traced(before), traced(after))


@functools.cache
def stored(name):
    """A trace of the zoo, kept small."""
    return msgspec.msgpack.encode(cnnscope.trace(name))


def whole_zoo():
    from torchvision.models import list_models

    return list_models()


@pytest.mark.slow
@pytest.mark.zoo
def test_nothing_in_the_zoo_differs_from_itself():
    decode = msgspec.msgpack.Decoder(Trace).decode
    wrong = []
    for name in whole_zoo():
        one, other = decode(stored(name)), decode(stored(name))
        if not is_empty(diff(one, other)):
            wrong.append(name)
    assert wrong == []


@pytest.mark.slow
@pytest.mark.zoo
def test_two_hundred_pairs_of_the_zoo_add_up_and_mirror():
    decode = msgspec.msgpack.Decoder(Trace).decode
    choose = random.Random(5)
    names = whole_zoo()
    for _ in range(200):
        before, after = (decode(stored(name)) for name in choose.sample(names, 2))
        answer = diff(before, after)
        check_sums(answer, before, after, ordered=False)
        check_mirror(answer, diff(after, before))


# ---------------------------------------------------------------------------- command line


def test_exit_code_tells_whether_they_differ():
    assert run_cli("diff", "vgg11", "vgg13").code == 0
    assert run_cli("diff", "vgg11", "vgg13", "--exit-code").code == 1
    assert run_cli("diff", "vgg11", "vgg11", "--exit-code").code == 0
    assert run_cli("diff", "vgg11", "--batch-size-b", "2", "--exit-code").code == 1


@pytest.mark.parametrize(
    ("budgets", "over"),
    [  # parameters grow by 0.14 %, MACs by 48.6 %, the peak by 13.9 % (22.0 to 25.1 MiB)
        (("--max-params", "+0.2%", "--max-macs", "+49%"), []),
        (("--max-params", "+0%", "--max-macs", "+49%"), ["max_params"]),
        (("--max-params", "+0.1%", "--max-macs", "+48%"), ["max_params", "max_macs"]),
        (("--max-params", "+184512"), []),
        (("--max-params", "+184511"), ["max_params"]),
        (("--max-params", "-10%"), ["max_params"]),
        (("--max-params", "133047848"), []),
        (("--max-params", "133M"), ["max_params"]),
        (("--max-params", "+1%,+100k"), ["max_params"]),
        (("--max-activation", "+4MiB"), []),
        (("--max-activation", "+3MiB", "--exit-code"), ["max_activation"]),
    ],
)
def test_budgets_on_the_change(budgets, over):
    result = run_cli("diff", "vgg11", "vgg13", *budgets, "-f", "json")
    assert [one["limit_name"] for one in json.loads(result.out)["over"]] == over
    assert result.code == bool(over)
    assert all(f"--{name.replace('_', '-')}" in result.err for name in over)
    assert bool(result.err) == bool(over)


def test_a_budget_that_shrinks_is_kept_by_a_smaller_model():
    assert run_cli("diff", "vgg13", "vgg11", "--max-macs", "-30%", "--exit-code").code == 0
    result = run_cli("diff", "vgg13", "vgg11", "--max-macs", "-40%", "--depth", "1")
    assert result.code == 1
    # 11.308 G * 0.6
    assert "MACs: 11.308 G -> 7.609 G (-32.7 %), more than --max-macs -40% allows (6.785 G)" in (
        result.out
    )


@pytest.mark.parametrize("text", ["5%", "+x", "", "+", "%", "+5%%", "++5%", "+5%,", "1e3"])
def test_what_is_no_budget_is_said(text):
    result = run_cli("diff", "vgg11", "vgg13", "--max-params", text)
    assert result.code == 2
    assert f"--max-params {text!r}" in result.err


@pytest.mark.broad
def test_a_budget_on_training_memory_measures_a_step_of_both():
    words = ("classic:lenet5", "--batch-size-b", "4096", "--max-train-memory", "+0%")
    answer = json.loads(run_cli("diff", *words, "-f", "json").out)
    before, after = answer["training"]
    assert before < after
    assert [one["limit_name"] for one in answer["over"]] == ["max_train_memory"]
    assert "· training memory" in run_cli("diff", *words, "--md").out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "key", "before", "after"),
    [
        (("--input-b", "256"), "inputs", [1, 3, 224, 224], [1, 3, 256, 256]),
        (("--input", "256", "--input-b", "192"), "inputs", [1, 3, 256, 256], [1, 3, 192, 192]),
        (("--batch-size", "2", "--num-classes-b", "7"), "inputs", [2, 3, 224, 224], None),
        (("-b", "2", "--batch-size-b", "3"), "inputs", [2, 3, 224, 224], [3, 3, 224, 224]),
    ],
)
def test_options_hold_for_both_unless_the_second_has_its_own(arguments, key, before, after):
    answer = json.loads(run_cli("diff", "alexnet", *arguments, "-f", "json").out)
    assert answer["before"][key][0]["shape"] == before
    assert answer["after"][key][0]["shape"] == (after or before)


@pytest.mark.broad
def test_arguments_of_the_second_model_alone():
    command = ("diff", "mobilenet_v2", "--arg-b", "width_mult=0.5", "--dtype-b", "float16")
    answer = json.loads(run_cli(*command, "-f", "json").out)
    assert answer["before"]["source"]["arguments"] == {}
    assert answer["after"]["source"]["arguments"] == {"width_mult": "0.5"}
    assert answer["after"]["inputs"][0]["dtype"] == "float16"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet18",), "name a second model"),
        (("resnet18", "resnt34"), "did you mean resnet34"),
        (("vgg11", "vgg13", "-f", "json", "--unfold"), "--unfold has no effect"),
        (("vgg11", "vgg13", "--depth", "x"), "--depth"),
        (("vgg11", "--input-b", "3x"), "3x"),
        (("vgg11", "--num-classes-b", "0"), "--num-classes 0"),
        (("vgg11", "--dtype-b", ""), "--dtype ''"),
        (("vgg11", ""), "model ''"),
    ],
)
def test_mistakes_are_one_message(arguments, said):
    result = run_cli("diff", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert said in result.err
    assert result.err.count("\n") == 1


def test_json_can_be_read_back():
    answer = compared("vgg11", "vgg13")
    decoded = msgspec.json.decode(drawing.write(answer, "json").encode(), type=DiffReport)
    assert decoded.rows == answer.rows
    assert decoded.change == answer.change


def test_csv_has_a_line_for_every_row():
    answer = compared("vgg11", "vgg13")
    lines = list(csv.DictReader(io.StringIO(drawing.write(answer, "csv"))))
    assert [line["status"] for line in lines] == [row.status for row in answer.rows]
    leaf_lines = [line for line in lines if line["leaf"] == "1"]
    assert sum(int(line["params_change"]) for line in leaf_lines) == 184_512


# ------------------------------------------------------------------------------- rendering

GOLDEN = (
    ("vgg11", "vgg13"), ("resnet18", "resnet34"), ("resnet50", "resnext50_32x4d"),
    ("resnet18", "vgg11"),
)  # fmt: skip


def drawn(answer, width, **options):
    laid_out = drawing.page(answer, options=Options(**options))
    return without_versions(page.text(laid_out, width).plain)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("before", "after"), GOLDEN)
def test_the_table_of_a_diff_is_as_it_was(before, after, width, golden):
    golden(drawn(compared(before, after), width), f"diff-{before}-{after}-{width}.txt")


def test_the_markdown_of_a_diff_is_as_it_was(golden):
    out = run_cli("diff", "vgg11", "vgg13", "-f", "markdown").out
    golden(without_versions(out), "diff-vgg11-vgg13.md")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    for before, after in GOLDEN:
        lines = drawn(compared(before, after), width, depth=0).splitlines()
        assert max(map(len, lines)) <= width


def test_rows_that_stand_for_several_add_up():
    # `0-1` and what is added, of layer1 to layer4, and the rest: the whole of resnet34's change
    answer = compared("resnet18", "resnet34")
    cells = drawing.page(answer, options=Options(depth=1)).tables[0].rows
    assert sum(int(c[4].replace(",", "")) for c in cells if c[0] != "=") == 10_108_160


def test_unfolding_shows_every_layer():
    answer = compared("vgg11", "vgg13")
    folded = drawing.page(answer, options=Options(depth=0)).tables[0].rows
    unfolded = drawing.page(answer, options=Options(depth=0, unfold=True)).tables[0].rows
    shown = [r for r in answer.rows[1:] if not (r.row.minor and r.row.kind != "module")]
    assert len(folded) < len(unfolded) == len(shown)


def test_colours_follow_the_status():
    table = drawing.page(compared("alexnet", "vgg11")).tables[0]
    marks = {row[0]: style for row, style in zip(table.rows, table.styles, strict=True)}
    assert (marks["+"], marks["-"], marks["~"]) == ("green", "red", "yellow")


def test_no_difference_is_said():
    laid_out = drawing.page(compared("vgg11", "vgg11"))
    assert laid_out.above[0][1].startswith("no difference")


def test_resnet50_of_the_paper_has_its_stride_elsewhere_and_nothing_else():
    """Identity modules, ReLU as a function and a block's own notes are no differences."""
    report = json.loads(run_cli("diff", "resnet50", "classic:resnet50_v1", "-f", "json").out)
    assert [finding["about"] for finding in report["findings"]] == ["moved", "resized"]
    assert {row["status"] for row in report["rows"]} == {"same", "resized", "changed"}
    changed = {row["before"]["path"] for row in report["rows"] if row["status"] == "changed"}
    assert {path for path in changed if "conv" in path} == {
        f"layer{stage}.0.conv{n}" for stage in (2, 3, 4) for n in (1, 2)
    }


def test_one_size_for_all_axes_is_the_size_of_each():
    from torch import nn

    def net(size):
        return cnnscope.trace(nn.Sequential(nn.MaxPool2d(size), nn.Conv2d(3, 4, size)), "1x3x8x8")

    assert not diff(net(2), net((2, 2))).differs
    assert diff(net(2), net((2, 1))).differs


def test_an_argument_of_b_takes_the_place_of_the_one_that_it_names():
    given, other = ["width=2", "name='a=b'", "depth=3"], ["name='c'", "last=1"]
    assert _instead(given, other) == ["width=2", "depth=3", "name='c'", "last=1"]


@pytest.mark.parametrize("kinds", [(nn.GRU, nn.LSTM), (nn.LSTM, nn.GRU), (nn.RNN, nn.GRU)])
def test_another_kind_of_recurrent_layer_is_one_change(kinds):
    before, after = (
        cnnscope.trace(kind(8, 16), (torch.empty(5, 1, 8, device="meta"),)) for kind in kinds
    )
    (change,) = cnnscope.diff(before, after).record.rows[0].changes
    assert change.what == "operation"


def test_a_field_that_changes_along_one_axis_names_the_axis():
    x = torch.empty(1, 3, 16, 16, device="meta")
    first, second = (cnnscope.trace(nn.Conv2d(3, 4, k), (x,)) for k in ((3, 7), (3, 3)))
    assert "H unchanged, W -4 px" in cnnscope.diff(first, second).table()  # 7 -> 3
