"""The ladder of fallbacks: which rungs there are, what is built on them, and what asks for data."""

import pytest
import torch

from cnnscope.errors import RequestError
from cnnscope.models.build import build
from cnnscope.models.failures import asks_for_data
from cnnscope.models.find import find
from cnnscope.models.ladder import LIBRARY, OWN, Rung
from cnnscope.models.request import parse_model


def test_each_rung_is_followed_by_those_with_more_data():
    assert OWN.below(Rung.META) == (Rung.VALUES, Rung.REAL)
    assert OWN.below(Rung.REAL) == LIBRARY.below(Rung.REAL) == ()
    assert LIBRARY.below(Rung.VALUES) == ()  # a detector has no need of its weights
    assert [rung.device for rung in OWN.rungs] == ["meta", "meta", "cpu"]


def raised(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


@torch.library.custom_op("cnnscope_tests::without_meta", mutates_args=())
def without_meta(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@pytest.mark.parametrize(
    ("function", "library", "own"),
    [
        (lambda: torch.empty(1, device="meta").item(), True, True),
        (lambda: torch.empty(1, device="meta").tolist(), True, True),
        (lambda: torch.empty(2, device="meta").nonzero(), True, True),
        (lambda: without_meta(torch.empty(2, device="meta")), True, True),
        (lambda: torch.empty(2, 3) @ torch.empty(2, 3), False, False),
        (lambda: int("none"), False, False),
        (lambda: torch.device("nothing"), False, True),  # code of one's own may check devices
    ],
)
def test_what_asks_for_data(function, library, own):
    error = raised(function)
    assert (asks_for_data(error), asks_for_data(error, own=True)) == (library, own)


def test_a_refusal_asks_for_no_data_whatever_it_says():
    assert not asks_for_data(RequestError("meta tensor"), own=True)


CONSTRUCTORS = {
    "plain": ("1", Rung.META, False),
    "constant": ("int(torch.arange(3).sum())", Rung.META, True),
    "random": ("int(torch.rand(3).sum().item()) + 1", Rung.REAL, False),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_goes_down_as_far_as_it_has_to(tmp_path, name):
    code, rung, with_values = CONSTRUCTORS[name]
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n        self.c = torch.nn.Conv2d(3, {code}, 3)\n"
    )
    found = find(parse_model(f"{path}:Net"))
    built = build(found, {})
    found.close()
    assert (built.rung, built.values is not None) == (rung, with_values)
    assert ("net.py:5" in built.why_real) == (rung is Rung.REAL)
    assert built.model.c.weight.device.type == rung.device
