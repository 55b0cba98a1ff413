"""A network that is wrapped, renamed or nested otherwise is the same network."""

import copy
import functools
import random

import pytest
import torch
from differences import diff
from torch import nn

import cnnscope
from cnnscope.models.sources import classic
from cnnscope.render import drawing

QUICK = ("resnet18", "squeezenet1_1", "alexnet", "classic:lenet5")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # whose children code finds otherwise
IMAGE = torch.empty(1, 3, 224, 224, device="meta")


def built(name):
    import torchvision

    with torch.device("meta"):
        if name.startswith("classic:"):
            name = name.partition(":")[2]
            model = classic.build(name, {})
            shape = classic.default_inputs(name, model).tensors[0].shape
            return model.eval(), torch.empty(shape, device="meta")
        return torchvision.models.get_model(name).eval(), IMAGE


@functools.cache
def traced(name):
    model, image = built(name)
    return cnnscope.trace(model, (image,))


# ------------------------------------------------------------- the same network, written otherwise


class Wrapped(nn.Module):
    """A network in a module that only calls it."""

    def __init__(self, inner, name):
        super().__init__()
        self.name = name
        self.add_module(name, inner)

    def forward(self, *inputs):
        return self._modules[self.name](*inputs)


def renamed(module, old, new):
    """Give a child another name: code that says `self.old` finds it under `new`."""
    children = {new if name == old else name: child for name, child in module._modules.items()}
    module._modules.clear()
    module._modules.update(children)
    if not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        answer = property(lambda self: self._modules[new])
        module.__class__ = type(type(module).__name__, (type(module),), {old: answer})


def nested(module, names, new):
    """Put a run of children, each called once with what the last gave, into a Sequential."""
    run = nn.Sequential(*(module._modules[name] for name in names))
    children = {}
    for name, child in module._modules.items():
        if name == names[0]:
            children[new] = run
        if name not in names:
            children[name] = child
    module._modules.clear()
    module._modules.update(children)
    if isinstance(module, nn.Sequential):
        return
    answers = {name: (lambda x: x) for name in names[1:]}
    answers = {name: property(lambda self, same=same: same) for name, same in answers.items()}
    answers[names[0]] = property(lambda self: self._modules[new])
    module.__class__ = type(type(module).__name__, (type(module),), answers)


def runs(trace):
    """Paths of modules, and names of children that run one after the other, once each."""
    times = [call.module for call in trace.calls]
    for parent, record in enumerate(trace.calls):
        outer = trace.modules[record.module]
        inside = [
            c for c in trace.index.children.get(parent, ()) if len(trace.calls[c].inputs) == 1
        ]
        start = 0
        for i in range(1, len(inside) + 1):
            one, two = (trace.calls[inside[k]] if k < len(inside) else None for k in (i - 1, i))
            if (
                two is None
                or one.outputs != two.inputs
                or not _alone(trace, outer, times, one, two)
            ):
                if i - start > 1 and times.count(record.module) == 1:
                    yield outer.path, [_name(trace, outer, c) for c in inside[start:i]]
                start = i


def _alone(trace, outer, times, one, two):
    once = all(times.count(call.module) == 1 for call in (one, two))
    own = all("." not in _name(trace, outer, call) for call in (one, two))
    readers = [i for i, c in enumerate(trace.calls) if c.inputs == one.outputs]
    made = trace.index.readers.get(one.outputs[0], ())
    return once and own and len(readers) >= 1 and len(made) <= 1


def _name(trace, outer, call):
    record = trace.calls[call] if isinstance(call, int) else call
    path = trace.modules[record.module].path
    return path.removeprefix(f"{outer.path}.") if outer.path else path


def rewritten(name, seed):
    """The network in other words, and how it was written."""
    choose = random.Random(seed)
    model, image = built(name)
    model, done = copy.deepcopy(model), []
    possible = [
        (path, names)
        for path, names in runs(traced(name))
        if type(own := model.get_submodule(path)) is nn.Sequential
        or not isinstance(own, _CONTAINERS)
    ]
    if possible and choose.random() < 0.7:
        path, names = choose.choice(possible)
        begin = choose.randrange(len(names) - 1)
        names = names[begin : choose.randrange(begin + 2, len(names) + 1)]
        nested(model.get_submodule(path), names, "together")
        done.append(f"{path}: {names} in a Sequential")
    for _ in range(choose.randrange(5)):
        parents = [(p, m) for p, m in model.named_modules() if type(m) is not nn.MultiheadAttention]
        path, module = choose.choice([(p, m) for p, m in parents if m._modules])
        names = [n for n in module._modules if not n.startswith(("other", "together"))]
        old = choose.choice(names or [""])
        if not names or module._modules[old] is None:
            continue
        if type(module) is nn.Sequential or not isinstance(module, _CONTAINERS):
            renamed(module, old, f"other_{old}")
            done.append(f"{path}.{old} renamed")
    for _ in range(choose.randrange(3)):
        model = Wrapped(model, choose.choice(("backbone", "model", "net")))
        done.append("wrapped")
    return model, image, done


def check(name, seed):
    model, image, done = rewritten(name, seed)
    one, other = traced(name), cnnscope.trace(model.eval(), (image,))
    for before, after in ((one, other), (other, one)):
        answer = diff(before, after)
        told = [(r.status, r.row.path, r.changes) for r in answer.rows if r.status != "same"]
        assert not answer.differs, (name, seed, done, told[:5])
        assert {f.about for f in answer.findings} <= {"nested"}
        assert {row.status for row in answer.rows if not row.row.minor} == {"same"}
        assert sum(r.row.params for r in answer.rows if r.row.leaf) == answer.after.totals.params


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", QUICK)
def test_a_network_in_other_words_is_equal(name, seed):
    check(name, 100 + seed)


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize("seed", range(200))
def test_two_hundred_networks_in_other_words_are_equal(seed):
    import torchvision
    from torchvision.models import list_models

    every = [*list_models(torchvision.models), *(f"classic:{name}" for name in classic.names())]
    every = [name for name in every if "regnet" not in name and "inception_v3" not in name]
    check(random.Random(seed).choice(every), seed)


# ----------------------------------------------------------------------- what is said of it


def said(before, after):
    return cnnscope.diff(before, after).table()


def resnet(**options):
    from torchvision.models import resnet18

    with torch.device("meta"):
        return resnet18(**options).eval()


@functools.cache
def plain():
    return cnnscope.trace(resnet(), (IMAGE,))


def of(model):
    return cnnscope.trace(model.eval(), (IMAGE,))


def test_a_wrapped_network_is_the_same_under_its_attribute():
    other = of(Wrapped(Wrapped(resnet(), "backbone"), "net"))
    assert "no difference" in said(plain(), other)
    assert "the same network, under net.backbone" in said(plain(), other)
    assert "the same network, without net.backbone around it" in said(other, plain())


def test_other_names_and_other_blocks_are_said():
    model = resnet()
    renamed(model, "conv1", "first")
    assert "with other names: conv1 -> first" in said(plain(), of(model))
    model = resnet()
    nested(model, ["conv1", "bn1", "relu"], "stem")
    assert "the same network, in other blocks" in said(plain(), of(model))


def test_one_change_in_a_wrapped_network_is_one_change():
    model = resnet()
    model.layer3[1].conv1 = nn.Conv2d(256, 256, 5, padding=2, bias=False, device="meta")
    answer = diff(plain(), of(Wrapped(model, "backbone")))
    (changed,) = answer.findings
    assert (changed.what, changed.before, changed.after) == ("kernel_size", ((3, 3),), ((5, 5),))
    assert changed.paths == ("backbone.layer3.1.conv1",)
    assert changed.params == 256 * 256 * (25 - 9)


def test_a_head_that_moved_out_of_a_backbone_is_no_change():
    class Head(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.backbone = resnet()
            self.backbone.fc = nn.Identity()
            self.head = nn.Linear(512, classes, device="meta")

        def forward(self, x):
            return self.head(self.backbone(x))

    assert not diff(plain(), of(Head(1000))).differs
    (changed,) = diff(plain(), of(Head(10))).findings
    assert (changed.what, changed.paths) == ("out_features", ("head",))


def test_blocks_that_divide_the_same_layers_elsewhere_are_opened():
    def net(cut, kernel):
        layers = [
            nn.Conv2d(4, 4 + i, 3, padding=1) if i == 0 else nn.Conv2d(3 + i, 4 + i, 3)
            for i in range(9)
        ]
        layers[4] = nn.Conv2d(7, 8, kernel, padding=kernel // 2 - 1)
        return nn.Sequential(nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:]))

    image = torch.empty(1, 4, 32, 32)
    (changed,) = diff(
        cnnscope.trace(net(6, 3), (image,)), cnnscope.trace(net(3, 5), (image,))
    ).findings
    assert (changed.what, changed.count) == ("kernel_size", 1)


def test_stages_go_with_stages_and_blocks_that_halve_with_those_that_do():
    answer = diff(plain(), cnnscope.trace("resnet50"))
    pairs = {
        (r.before.path, r.after.path)
        for r in answer.rows
        if r.before and r.after and r.after.operation in ("Sequential", "Bottleneck")
    }
    blocks = {(f"layer{s}.{b}",) * 2 for s in (1, 2, 3, 4) for b in (0, 1)}
    assert blocks | {(f"layer{s}",) * 2 for s in (1, 2, 3, 4)} <= pairs
    assert {after for _, after in pairs} & {f"layer{s}.2" for s in (1, 2, 3, 4)} == set()


class Two(nn.Module):
    """Two equal convolutions: one after the other, or side by side."""

    def __init__(self, *, apart, late=False):
        super().__init__()
        self.apart, self.late = apart, late
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.c = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        if self.late:  # the same in another order
            c = self.c(x)
            return self.b(self.a(x)) + c
        a = self.a(x)
        b = self.b(x if self.apart else a)
        return b + self.c(x)


def test_what_reads_what_is_part_of_a_network():
    image = torch.empty(1, 4, 8, 8)
    row, side, late = (
        cnnscope.trace(Two(**options), (image,))
        for options in ({"apart": False}, {"apart": True}, {"apart": False, "late": True})
    )
    assert not diff(row, late).differs
    answer = diff(row, side)
    assert answer.differs
    (changed,) = answer.findings
    assert (changed.what, changed.before, changed.after) == ("reads", (("a",),), (("the input",),))


# ------------------------------------------------------------------- outputs, and layers that moved


class Heads(nn.Module):
    """Two heads of one body, whose results are returned in an order of choice."""

    def __init__(self, order=("boxes", "classes"), sizes=(4, 10)):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.boxes, self.classes = (nn.Conv2d(8, size, 1) for size in sizes)
        self.order = order

    def forward(self, x):
        x = self.body(x)
        return tuple(self._modules[name](x) for name in self.order)


class Pooled(nn.Module):
    """Three layers, and pooling after some of them."""

    def __init__(self, *after):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, size, padding=size // 2) for size in (1, 3, 5))
        self.pool = nn.MaxPool2d(2)
        self.after = after

    def forward(self, x):
        for name in ("a", "b", "c"):
            x = self._modules[name](x)
            x = self.pool(x) if name in self.after else x
        return x


def small(module):
    return cnnscope.trace(module, (torch.empty(1, 3, 16, 16, device="meta"),))


def in_words(answer):
    return [(f.about, f.what, f.before, f.after) for f in answer.findings]


@pytest.mark.parametrize("sizes", [(4, 10), (4, 4)])
def test_results_in_another_order_are_a_difference(sizes):
    names = ("boxes", "classes")
    answer = diff(small(Heads(names, sizes)), small(Heads(names[::-1], sizes)))
    assert answer.differs
    assert in_words(answer) == [("outputs", "", names, names[::-1])]
    assert {row.status for row in answer.rows[1:]} == {"same"}


def test_another_number_of_results_is_a_difference():
    answer = diff(small(Heads()), small(Heads(("boxes",))))
    assert in_words(answer)[0] == ("outputs", "", ("boxes", "classes"), ("boxes",))


def test_heads_that_run_in_another_order_keep_their_names():
    """The two have other sizes: 4 channels do not become 10."""

    class Later(Heads):
        def forward(self, x):
            return super().forward(x)[::-1]

    answer = diff(small(Heads()), small(Later(("classes", "boxes"))))
    assert not answer.differs
    assert not answer.findings


def test_a_layer_that_moved_is_one_finding():
    answer = diff(small(Pooled("a")), small(Pooled("c")))
    assert in_words(answer)[0] == ("moved", "place", ("a",), ("c",))
    assert not {"added", "removed"} & {f.about for f in answer.findings}
    mirrored = diff(small(Pooled("c")), small(Pooled("a")))
    assert in_words(mirrored)[0] == ("moved", "place", ("c",), ("a",))
    table = said(small(Pooled("a")), small(Pooled("c")))
    assert "moved       MaxPool2d (pool) from behind a to behind c" in table
    assert "moved to behind c" in table
    assert "moved from behind a" in table


def test_which_of_several_moved_is_not_guessed():
    answer = diff(small(Pooled("a", "b")), small(Pooled("c")))
    assert "moved" not in {f.about for f in answer.findings}


def test_the_cost_of_more_blocks_is_that_of_their_stage():
    """A block has 8 * 8 * 3 * 3 + 8 = 584 parameters; the head's are those of no block."""

    class Block(nn.Sequential):
        pass

    def network(blocks, classes):
        stage = nn.Sequential(*(Block(nn.Conv2d(8, 8, 3, padding=1)) for _ in range(blocks)))
        return nn.Sequential(nn.Conv2d(3, 8, 1), stage, nn.Conv2d(8, classes, 1))

    found = diff(small(network(2, 10)), small(network(3, 20))).findings
    first = next(f for f in found if f.about == "blocks")
    assert (first.before, first.after, first.params) == ((2,), (3,), 584)
    assert first.paths == ("1",)


def test_blocks_in_a_row_go_with_those_in_stages():
    """As in EfficientNet: 5 blocks in a list, or in two stages with padding written otherwise."""

    class Block(nn.Module):
        def __init__(self, kind, padding, act):
            super().__init__()
            self.convs = nn.Sequential(nn.Conv2d(8, 8, 3, padding=padding), nn.BatchNorm2d(8))
            self.act, self.kind = act(), kind

        def forward(self, x):
            return self.act(self.convs(x))

    class Row(Block):
        pass

    def row():
        return nn.Sequential(*(Row("row", "same", nn.SiLU) for _ in range(5)))

    def stages():
        first, second = (
            nn.Sequential(*(Block("stage", 1, nn.ReLU) for _ in range(n))) for n in (2, 3)
        )
        return nn.Sequential(first, second)

    answer = diff(
        small(nn.Sequential(nn.Conv2d(3, 8, 1), row())),
        small(nn.Sequential(nn.Conv2d(3, 8, 1), stages())),
    )
    pairs = [
        (row.before.path, row.after.path)
        for row in answer.rows
        if row.before and row.after and row.after.operation == "Block"
    ]
    assert pairs == [
        ("1.0", "1.0.0"),
        ("1.1", "1.0.1"),
        ("1.2", "1.1.0"),
        ("1.3", "1.1.1"),
        ("1.4", "1.1.2"),
    ]


class Gate(nn.Module):
    """Scale channels by what the whole image says of them."""

    def __init__(self, width):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1)

    def forward(self, x):
        return x * self.expand(self.reduce(x.mean((2, 3), keepdim=True))).sigmoid()


class Unit(nn.Module):
    def __init__(self, join=torch.add):
        super().__init__()
        self.conv, self.norm, self.join = nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4), join

    def forward(self, x):
        y = self.norm(self.conv(x))
        return torch.cat((x, y), 1)[:, :4] if self.join is torch.cat else x + y


def staged():
    return nn.ModuleDict({f"stage{n}": nn.Sequential(Unit(), Unit()) for n in (1, 2)})


class Staged(nn.Module):
    def __init__(self, change=lambda stages: None):
        super().__init__()
        self.stages = staged()
        change(self.stages)

    def forward(self, x):
        for stage in self.stages.values():
            x = stage(x)
        return x


def four(module):
    return cnnscope.trace(module, (torch.empty(1, 4, 8, 8, device="meta"),))


def sentences(answer):
    return [text for _, text in drawing.page(answer).above]


def test_a_stage_with_another_block_in_it_has_not_gone():
    answer = diff(four(Staged()), four(Staged(lambda s: s["stage2"].append(Gate(4)))))
    assert [f.about for f in answer.findings] == ["added"]
    # 4*2 + 2 + 2*4 + 4 = 22
    assert "1 Gate (stages.stage2.2): +22 parameters" in sentences(answer)[0]


def test_a_layer_that_is_put_in_a_sequential_with_another_is_the_same_layer():
    def change(stages):
        for unit in (*stages["stage1"], *stages["stage2"]):
            unit.norm = nn.Sequential(unit.norm, Gate(4))

    answer = diff(four(Staged()), four(Staged(change)))
    (added,) = [f for f in answer.findings if f.about in ("added", "removed")]
    assert (added.about, added.subject, added.count) == ("added", "Gate", 4)


def test_few_layers_without_cost_are_named_and_joins_are_among_them():
    def change(stages):
        stages["stage1"][1] = Unit(torch.cat)

    said = sentences(diff(four(Staged()), four(Staged(change))))
    assert "1 cat (stages.stage1.1.cat)" in said[0]
    assert "1 add (stages.stage1.1.add)" in said[1]


def test_of_very_many_layers_in_a_row_each_is_compared_with_its_own():
    with torch.device("meta"):
        one, other = (
            nn.Sequential(*(nn.Conv2d(4, 4, k, padding="same") for _ in range(460))) for k in (3, 5)
        )
    answer = diff(four(one), four(other))
    (changed,) = answer.findings
    # 460 * 460 is more than 200,000 cells
    assert (changed.what, changed.count) == ("kernel_size", 460)
