"""A call as its form and its tensors: what is taken apart is put together again."""

import collections
import dataclasses

import msgspec
import pytest
import torch

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.records.form import Form, Sequence, Slot, Table, Value
from cnnscope.records.trace import TensorSpec
from cnnscope.tracing.arguments import arguments, form_of
from cnnscope.tracing.plain import tensors_in

Pair = collections.namedtuple("Pair", ["image", "mask"])  # noqa: PYI024
X, Y = torch.zeros(1), torch.zeros(2)


def test_tensors_by_place_have_no_form():
    assert form_of((X, Y), {}) is None
    assert tuple(arguments(None, [X, Y])) == ((X, Y), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "names"),
    [
        (([X, Y],), {}, ("[0]", "[1]")),
        (({"image": X, "more": [Y]},), {}, ("[image]", "[more][0]")),
        ((X, {"a": Y}), {}, ("", "2[a]")),
        ((X,), {"mask": None, "t": Y}, ("", "t")),
        ((Pair(X, Y),), {}, (".image", ".mask")),
        ((X, (Y, 3, "mode", True)), {}, ("", "2[0]")),
        ((), {}, ()),
        (([], {}, ()), {}, ()),
        (({3: X},), {"xs": [[Y], {}]}, ("1[3]", "xs[0][0]")),
    ],
)
def test_a_call_is_made_again_with_the_tensors_in_their_places(args, kwargs, names):
    form = form_of(args, kwargs) or Form()
    tensors = list(tensors_in((args, kwargs)))
    again = arguments(form, tensors)
    assert str((again.args, again.kwargs)) == str((args, kwargs))
    assert all(map(lambda a, b: a is b, tensors_in(tuple(again)), tensors))
    assert (form.names, form.count) == (names, len(tensors))
    assert msgspec.json.decode(msgspec.json.encode(form), type=Form) == form


def test_values_are_named_by_keyword_or_place():
    form = Form((Slot(), Value(None)), (("opts", Table((("scale", Value(0.5)),))),))
    assert form.values == (("2", None), ("opts[scale]", 0.5))


def test_one_list_of_tensors_is_told_from_any_other_form():
    assert Form((Sequence((Slot(), Slot())),)).one_list
    assert not Form((Sequence((Slot(),), is_list=False),)).one_list
    assert not Form((Sequence((Slot(), Value(1))),)).one_list


def test_an_object_is_counted_and_not_made_again():
    @dataclasses.dataclass
    class Batch:
        image: torch.Tensor
        mask: torch.Tensor

    form = form_of((Batch(X, Y), X), {})
    assert form is not None
    assert (form.names, form.count) == (("1", "1", ""), 3)
    with pytest.raises(RequestError, match="of the class Batch"):
        arguments(form, [X, Y, X])


class Changing(torch.nn.Module):
    """Takes its image out of the batch, and leaves its answer in it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 1)

    def forward(self, batch):
        batch["feature"] = self.conv(batch.pop("image"))
        return batch


def test_a_forward_that_changes_its_dict_is_called_with_the_same_again():
    trace = cnnscope.trace(Changing(), {"image": (1, 3, 8, 8)})
    assert trace.form == Form((Table((("image", Slot()),)),))
    given = {"image": torch.zeros(1, 3, 8, 8)}
    assert cnnscope.trace(Changing(), given).form == trace.form
    assert list(given) == ["image"]
    again = arguments(trace.form, [X.expand(1, 3, 8, 8)])
    assert [list(again.call(Changing())) for _ in range(2)] == [["feature"]] * 2


def test_a_name_from_a_file_writes_nothing_on_a_terminal():
    assert str(TensorSpec((3,), name="\x1b[31m")) == "\\x1b[31m 3 float32"
