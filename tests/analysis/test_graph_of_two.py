"""One graph of two models: what is equal, changed, added and removed, and where it was."""

import torch
from differences import diff
from graphs import overlapping, through_boxes
from torch import nn

import cnnscope
from cnnscope.analysis import layers
from cnnscope.analysis.graph import graph_of_two
from cnnscope.render.graph import View, svg
from cnnscope.render.graph.boxes import size
from cnnscope.render.graph.restack import restack
from cnnscope.render.graph.svg import states


def of(before, after, *shape):
    shape = shape or (1, 3, 8, 8)
    traces = [cnnscope.trace(m, torch.empty(shape, device="meta")) for m in (before, after)]
    rows = [layers.rows(trace) for trace in traces]
    return graph_of_two(tuple(traces), tuple(rows), diff(*traces).rows)


def statuses(made):
    return {(node.name, node.counterpart.status) for node in made.nodes if not node.children}


def network(*middle, channels=4):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU()),
        *middle,
        nn.Sequential(nn.Conv2d(channels, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def test_of_two_equal_models_everything_is_the_same():
    made = of(network(), network())
    assert {status for _, status in statuses(made)} == {"same"}
    assert made.opened == (0,)


def test_an_added_layer_is_the_only_one_that_is_added():
    made = of(network(), network(nn.Conv2d(4, 4, 5, padding=2)))
    added = [node.label for node in made.nodes if node.counterpart.status == "added"]
    assert added == ["Conv2d 5x5"]


def test_a_removed_layer_stands_where_it_was_with_its_edges():
    made = of(network(nn.Conv2d(4, 4, 5, padding=2)), network())
    (removed,) = [n for n, node in enumerate(made.nodes) if node.counterpart.status == "removed"]
    root = made.nodes[0]
    order = [made.nodes[n].name for n in root.children]
    assert made.nodes[removed].parent == 0
    assert order == ["input", "0", "1", "1", "output"]  # first block, what was 1, what is 1 now
    assert root.children.index(removed) == 2
    sources = {made.nodes[e.source].label for e in root.edges if e.target == removed}
    targets = {made.nodes[e.target].label for e in root.edges if e.source == removed}
    assert sources == targets == {"Sequential"}
    # its rows are those of the first model: 4 x 4 x 25 + 4
    assert made.nodes[removed].costs.params == 404


def test_a_changed_layer_says_what_it_was():
    made = of(network(), network(channels=6))
    conv = next(node for node in made.nodes if node.path == "0.0")
    assert conv.counterpart.status == "changed"
    assert [(c.what, c.before, c.after) for c in conv.counterpart.changes] == [
        ("out_channels", 4, 6)
    ]
    assert conv.counterpart.outputs == ((1, 4, 8, 8),)
    assert conv.counterpart.costs.params == 4 * 3 * 9 + 4
    opened = {made.nodes[n].path for n in made.opened}
    assert {"", "0"} <= opened  # a difference is seen at once


def test_equal_blocks_are_folded_only_if_what_they_were_is_equal():
    def blocks(*kernels):
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(3, 3, k, padding=k // 2), nn.ReLU()) for k in kernels)
        )

    made = of(blocks(3, 5, 3, 3), blocks(3, 3, 3, 3))
    repeats = [(node.paths, node.counterpart.status) for node in made.nodes if node.repeat > 1]
    assert (("2", "3"), "same") in repeats
    assert not any("1" in paths for paths, _ in repeats)


def test_a_block_that_gives_way_to_a_layer_that_does_nothing_is_removed():
    def network(shortcut):
        return nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), shortcut), nn.ReLU()
        )

    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    made = of(network(block), network(nn.Identity()))
    removed = {n.label for n in made.nodes if n.counterpart.status == "removed"}
    assert {"Conv2d 3x3", "BatchNorm2d"} <= removed


def test_operations_of_both_models_are_gathered_apart():
    class Many(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.function = function

        def forward(self, x):
            x = self.first(x)
            for n in range(40):
                x = self.function(x) * (n + 2) if n % 3 else x + n + 1
            return self.last(x)

    made = of(Many(torch.exp), Many(torch.cos))
    for node in made.nodes:
        inside = {made.nodes[n].counterpart.status for n in node.children}
        if node.kind == "block" and node.row < 0:
            assert "removed" not in inside or inside == {"removed"}


def test_models_that_share_nothing_are_drawn_beside_each_other():
    made = of(network(), nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Sigmoid()))
    for view in (View(), View(depth=0)):
        drawing = restack(made, states(made, view), size)
        assert not overlapping(drawing, made)
        assert not through_boxes(drawing)
    assert {"added", "removed"} <= {status for _, status in statuses(made)}


def test_the_picture_of_two_has_marks_and_both_totals():
    text = svg(of(network(), network(channels=6)))
    assert "~ Conv2d 3x3" in text
    assert "out 4 -&gt; 6" in text
    # 4 x 28 + 8 x 5 = 152 parameters, and 6 x 28 + 8 x 7 = 224
    assert "152 -&gt; 224 parameters" in text


def test_a_block_without_a_row_of_its_own_shows_what_differs_in_it():
    """Blocks that stand on one level only are left out of a diff, and not what is in them."""

    def net(*, nested, kernel=3, norm=False):
        layers = [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
        layers += [nn.BatchNorm2d(4)] if norm else []
        layers += [nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.ReLU(), nn.Conv2d(4, 5, 3)]
        inner = nn.Sequential(nn.Sequential(*layers[:3]), *layers[3:])
        return cnnscope.trace(inner if nested else nn.Sequential(*layers), (image,))

    def compared(*traces):
        rows = tuple(layers.rows(trace) for trace in traces)
        nodes = graph_of_two(traces, rows, diff(*traces).rows).nodes
        return [
            (n.label, n.counterpart.status) for n in nodes if n.label not in ("float32", "ReLU")
        ]

    image = torch.empty(1, 4, 8, 8)
    found = compared(net(nested=False), net(nested=True, kernel=5))
    assert found[1] == ("Sequential", "changed")
    assert ("Conv2d 5x5", "changed") in found
    for after in (False, True):
        found = compared(net(nested=not after, norm=True), net(nested=after))
        assert found.count(("BatchNorm2d", "removed")) == 1
