"""What may be written for inputs: every form of the grammar, and messages for what is not of it."""

import collections

import msgspec
import pytest

from cnnscope.errors import RequestError
from cnnscope.models.spelling import NotPlainError, asked, parse_input, written
from cnnscope.records.form import Form, Sequence, Slot, Table, Value
from cnnscope.records.trace import Inputs, TensorSpec

S = Slot()


def sizes(*inputs, **kwargs):
    found = asked(list(inputs), kwargs)
    return [(one.sizes, one.dtype) for one in found.tensors]


def form(*inputs, **kwargs):
    return asked(list(inputs), kwargs).form


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("3,224,224", (3, 224, 224), None),
        ("3, 224 ,224,", (3, 224, 224), None),
        ("(1, 3, 224, 224)", (1, 3, 224, 224), None),
        ("[1,3,224,224]", (1, 3, 224, 224), None),
        ("(1, 3, 8, 8):half", (1, 3, 8, 8), "float16"),
        ("3,8,8:bf16", (3, 8, 8), "bfloat16"),
        ("(16,)", (16,), None),
        ("3 x 224 X 224", (3, 224, 224), None),
        ("3\u00d78\u00d78:half", (3, 8, 8), "float16"),
        ("3*8*8", (3, 8, 8), None),
        ("16:int64", (16,), "int64"),
        ("():long", (), "int64"),
    ],
)
def test_a_size_is_written_with_x_commas_or_brackets(text, shape, dtype):
    one = parse_input(text)
    assert (one.sizes, one.dtype) == (shape, dtype)
    assert sizes(f"name = {text}") == [(shape, dtype)]


def test_an_input_is_given_by_place_or_by_name():
    found = asked(["3x8x8", "timesteps=1", "mask=none", "scale=0.5", "deep=true", "mode='a'"])
    assert found.form.args == (S,)
    assert found.form.kwargs == (
        ("timesteps", S), ("mask", Value(None)), ("scale", Value(0.5)), ("deep", Value(value=True)),
        ("mode", Value("a")),
    )  # fmt: skip
    assert form("n=-2", "m=+3", "e=1e-3").kwargs == (
        ("n", Value(-2)), ("m", Value(3)), ("e", Value(0.001)),
    )  # fmt: skip


def test_a_structure_is_a_literal_with_sizes_in_it():
    assert sizes('{"image": 3x224x224, "ids": 16:int64}') == [
        ((3, 224, 224), None),
        ((16,), "int64"),
    ]
    assert form('{"image": 3x224x224, "ids": 16:int64}').args == (
        Table((("image", S), ("ids", S))),
    )
    assert form("[3x8x8, 3x16x16]").args == (Sequence((S, S)),)
    assert form("(3x8x8, none)").args == (Sequence((S, Value(None)), is_list=False),)
    assert form("{a: [3x8x8, {1: [], 'b': False}], c: (2, 3)}").args == (
        Table((
            ("a", Sequence((S, Table(((1, Sequence(())), ("b", Value(value=False))))))), ("c", S)
        )),
    )  # fmt: skip
    assert sizes("[(3, 8, 8), [3, 16, 16]:half]") == [((3, 8, 8), None), ((3, 16, 16), "float16")]
    assert form("[]").args == (Sequence(()),)
    assert form("(3x8x8)").args == (S,)
    assert form("(3x8x8,)").args == (Sequence((S,), is_list=False),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[3x8x8", "a ] is missing at its end"),
        ("(3x8x8, ", "a ) is missing at its end"),
        ('{"a": 3x8x8', "a } is missing at its end"),
        ("[3x8x8]]", "']' is not understood"),
        ("[3x8x8 3x8x8]", "a comma or ] is missing before '3x8x8]'"),
        ("[3x8x8)", "a comma or ] is missing before ')'"),
        ('{"a" 3x8x8}', "a : is missing after the key a"),
        ('{"a": 3x8x8, "a": 3x8x8}', "the key a is given twice"),
        ("{0.5: 3x8x8}", "0.5 is no key"),
        ("{[1]: 3x8x8}", "[ is no key"),
        ("image=", "it ends too early"),
        ("3x8x8, 3x8x8", "each given by an --input of their own"),
        ("3,8,x", "is not understood"),
        ("train", "train is no size"),
        ("mode=a.b", "a text needs its own quotes"),
        ("{'mode': train}", "a text needs its own quotes"),
        ("0.5", "given by its name"),
        ("-3", "given by its name"),
        ("a=b=3", "b is no size"),
        ("1=3", "'=3' is not understood"),
        ("a b=3", "a is no size"),
        ("x=3x8x8:float9", "unknown dtype 'float9'"),
        ("[3x0x8]", "every size must be between 1"),
        ("{'a': (3, 9999999999)}", "every size must be between 1"),
        ("[" * 40 + "]" * 40, "nested deeper than 12 levels"),
        ("x=٣x3", "is not understood"),
        ("[3x8x8, ３]", "is not understood"),  # noqa: RUF001
        ("__import__('os')", "is no size"),
        ("[x for x in 3]", "x is no size"),
        ("'a\\x41'", "is not understood"),
    ],
)
def test_what_is_not_of_the_grammar_is_refused_with_its_place(text, said):
    with pytest.raises(RequestError) as caught:
        asked([text])
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 420


def test_a_word_without_quotes_may_be_a_text():
    found = asked(["mode=bi-linear", "other='a'", "mask=None"])
    assert found.form.kwargs == (
        ("mode", Value("bi-linear")), ("other", Value("a")), ("mask", Value(None)),
    )  # fmt: skip
    assert found.bare == ("mode",)


def test_sizes_in_a_structure_may_have_quotes_as_in_json():
    quoted = asked(['{"image": "3x8x8", "ids": "16:int64", "more": ["3,8,8"], "a": "3x"}'])
    plain = asked(['{"image": 3x8x8, "ids": 16:int64, "more": [(3,8,8)], "a": "3x"}'])
    assert quoted.form == plain.form
    assert [(t.sizes, t.dtype) for t in quoted.tensors] == [
        (t.sizes, t.dtype) for t in plain.tensors
    ]
    assert form("mode='3x3'").kwargs == (("mode", Value("3x3")),)
    with pytest.raises(RequestError, match="unknown dtype 'int65'"):
        asked(['{"ids": "16:int65"}'])


def test_a_name_is_given_once():
    with pytest.raises(RequestError, match="--input x: given twice"):
        asked(["x=3x8x8", "x=3x8x8"])
    with pytest.raises(RequestError, match="x: given twice"):
        asked(["x=3x8x8"], {"x": (3, 8, 8)})


Pair = collections.namedtuple("Pair", ["a", "b"])  # noqa: PYI024


def test_python_s_own_lists_and_dicts_mean_the_same():
    assert asked({"image": (1, 3, 224, 224)}) == asked(['{"image": (1, 3, 224, 224)}'])._replace(
        tensors=asked({"image": (1, 3, 224, 224)}).tensors
    )
    assert form([(3, 8, 8), "3x16x16:half"]).args == (Sequence((S, S)),)
    assert asked((3, 8, 8)).form.args == (S,)
    assert asked([(3, 8, 8), (3, 8, 8)]).form.args == (S, S)
    assert form(Pair((3, 8, 8), None)).args == (
        Sequence((S, Value(None)), is_list=False, name="Pair", fields=("a", "b")),
    )
    assert form(x=(3, 8, 8), mode="train", n=4, on=True).kwargs == (
        ("x", S), ("mode", Value("train")), ("n", Value(4)), ("on", Value(value=True)),
    )  # fmt: skip
    with pytest.raises(NotPlainError):
        asked([{"a": object()}])
    with pytest.raises(RequestError, match="between 1"):
        asked([(0, 3)])


def test_an_endless_list_is_refused():
    nested = []
    nested.append(nested)
    with pytest.raises(RequestError, match="nested deeper"):
        asked([nested])


@pytest.mark.parametrize(
    "texts",
    [
        ["3x224x224"], ["1x64x16"], ["image=1x3x8x8", "ids=1x16:int64"],
        ['{"image": 1x3x8x8, "more": [1x16:int64, none, 0.5, +3, true]}'], ["x=()", "y=(2x2, 3,)"],
    ],
)  # fmt: skip
def test_what_is_advised_is_understood_again(texts):
    found = asked(texts)
    specs = tuple(TensorSpec(t.sizes, t.dtype or "float32") for t in found.tensors)
    form = None if found.form.by_place else found.form
    advised = written(Inputs(specs, form)).split(" --input ")
    again = asked([text.strip("'") for text in advised])
    assert (again.form, [t.sizes for t in again.tensors]) == (found.form, [s.shape for s in specs])


def test_a_request_with_structures_has_a_key_of_its_own():
    assert msgspec.json.encode(form("a=none")) != msgspec.json.encode(form("a=false"))
    assert Form((Value(1),)) != form("x=true")
