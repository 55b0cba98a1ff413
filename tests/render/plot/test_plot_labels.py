"""Names of points: none covers another one."""

import itertools
import random

import pytest

from cnnscope.render.plot.labels import Box, Grid, Named, along, placed, within

ROOM = Box(0, 0, 100, 60)
GRID = Grid(ROOM, (1, 1))


def cloud(count, seed, first=0):
    draw = random.Random(seed)
    return [
        Named(draw.uniform(0, 100), draw.uniform(0, 60), draw.uniform(3, 20), 2, i < first)
        for i in range(count)
    ]


@pytest.mark.parametrize("grid", [GRID, GRID._replace(whole=True), GRID._replace(reach=(1, 3, 9))])
def test_names_never_cover_each_other_and_stay_inside(grid):
    for seed in range(20):
        names = cloud(80, seed, first=seed % 12)
        boxes = [box for box in placed(names, grid) if box is not None]
        assert len(boxes) > 10
        assert all(box.within(ROOM) for box in boxes)
        assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))


def test_a_name_has_the_size_of_its_text_and_is_near_its_point():
    names = cloud(30, 1)
    for one, box in zip(names, placed(names, GRID), strict=True):
        if box is not None:
            assert round(box.right - box.left, 9) == round(one.width, 9)
            assert box.left - 4 <= one.x <= box.right + 4
            assert box.bottom - 6 <= one.y <= box.top + 6


def test_what_matters_is_named_before_what_came_earlier():
    crowd = [Named(2, 30, 90, 2), Named(2, 30, 90, 2, first=True)]
    low = GRID._replace(room=Box(0, 28, 100, 32))  # room for one line, at the right
    assert [box is not None for box in placed(crowd, low)] == [False, True]


def test_symbols_are_covered_only_by_names_that_have_to_be_there():
    wall = [Box(0, 0, 100, 60)]
    plain, must = Named(50, 30, 10, 2), Named(50, 30, 10, 2, first=True)
    assert placed([plain], GRID, wall) == [None]
    assert placed([must], GRID, wall)[0] is not None


def test_only_so_many_have_names_that_need_none():
    names = [Named(5, y, 10, 1) for y in range(2, 58, 3)]
    assert sum(box is not None for box in placed(names, GRID._replace(most=4))) == 4


def test_names_beside_each_other_are_apart():
    low = Grid(Box(0, 28, 100, 32), (1, 1))  # one line
    names = [Named(10, 30, 20, 2), Named(32, 30, 20, 2)]
    joined, apart = placed(names, low), placed(names, low._replace(apart=3))
    assert joined[0].right == 31
    assert joined[1].left == 33
    assert (apart[0], apart[1].left) == (joined[0], 34)  # the next place


def test_a_line_is_covered_from_end_to_end():
    boxes = list(along([(0, 0), (10, 5)], 2))
    assert (boxes[0], boxes[-1]) == (Box(0, 0, 2, 2), Box(10, 5, 12, 7))
    assert all(a.right >= b.left and a.top >= b.bottom for a, b in itertools.pairwise(boxes))
    level = list(along([(0, 0), (10, 5)], 2, level=True))
    assert level == [Box(0, 0, 10, 2), Box(10, 0, 12, 7)]


@pytest.mark.parametrize(
    ("name", "room", "shown"),
    [
        ("layer1", 6, "layer1"),
        ("inception3a", 5, "…on3a"),
        ("classifier", 5, "clas…"),
        ("classifier", 2, ""),
    ],
)
def test_a_name_that_is_cut_keeps_what_tells_it_from_its_neighbours(name, room, shown):
    assert within(name, room) == shown
