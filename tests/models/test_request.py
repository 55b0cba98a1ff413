"""Specifications as users type them: accepted forms, and messages with the remedy."""

import pytest

from cnnscope.errors import RequestError
from cnnscope.models.request import (
    Request,
    fit_inputs,
    parse_model,
)
from cnnscope.models.spelling import DTYPES, parse_input
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.text import printable


def refusal(function, *arguments):
    """The message with which a request is refused."""
    with pytest.raises(RequestError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message.isprintable()
    return message


# ------------------------------------------------------------------------------------- model


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("resnet18", "", "resnet18"),
        ("torchvision:resnet18", "torchvision", "resnet18"),
        ("  resnet18 ", "", "resnet18"),
    ],
)
def test_model_is_a_name_with_or_without_its_source(text, source, name):
    model = parse_model(text)
    assert (model.source, model.name, model.text) == (source, name, text.strip())


@pytest.mark.parametrize("text", ["", "  ", ":", ":resnet18", "torchvision:"])
def test_model_without_a_name_or_source_is_refused(text):
    message = refusal(parse_model, text)
    assert repr(text) in message
    assert "torchvision:resnet18" in message


# ------------------------------------------------------------------------------------- input


@pytest.mark.parametrize(
    ("text", "sizes", "dtype"),
    [
        ("224", (224,), None),
        ("224x192", (224, 192), None),
        ("3x224x224", (3, 224, 224), None),
        ("1x3x224x224", (1, 3, 224, 224), None),
        ("1x3x16x112x112", (1, 3, 16, 112, 112), None),
        ("3X224X224", (3, 224, 224), None),
        (" 3x224x224 ", (3, 224, 224), None),
        ("1x16:int64", (1, 16), "int64"),
        ("3x224x224:half", (3, 224, 224), "float16"),
        ("2147483647", (2147483647,), None),
    ],
)
def test_input_is_sizes_joined_by_x_and_a_dtype(text, sizes, dtype):
    asked = parse_input(text)
    assert (asked.sizes, asked.dtype, asked.text) == (sizes, dtype, text.strip())


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_dtype_is_accepted(name):
    assert parse_input(f"3:{name}").dtype == DTYPES[name]


MALFORMED = [
    "",
    " ",
    "x",
    "3x",
    "x3",
    "3xx4",
    "3x-2x4",
    "1e3",
    "3.5",
    "3x4,5",
    "²x3",
    "٣x3",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_sizes_are_refused_with_the_forms_that_are_not(text):
    message = refusal(parse_input, text)
    assert repr(text) in message
    assert "3x224x224" in message


@pytest.mark.parametrize("text", ["0", "3x0x4", "99999999999", "2147483648", "9" * 5000])
def test_sizes_out_of_range_are_refused_with_the_range(text):
    message = refusal(parse_input, text)
    assert text[:20] in message
    assert "between 1 and 2147483647" in message
    assert len(message) < 200


@pytest.mark.parametrize(
    "dtype", ["float8", "FLOAT32x", "torch.float32", " float32", "float32:int8"]
)
def test_unknown_dtype_is_refused_with_the_known_ones(dtype):
    message = refusal(parse_input, f"3x224x224:{dtype}")
    assert repr(f"3x224x224:{dtype}") in message
    assert "use one of bfloat16, bool, complex128" in message
    assert all(name in message for name in DTYPES.values())


def test_colon_without_a_dtype_is_refused():
    assert "3x224x224:" in refusal(parse_input, "3x224x224:")


@pytest.mark.parametrize(
    "text", ["3x\x1b[31m", "3x4:\x07", "3\nx4", "3x4\u202e", "3x\udcff", "3x4:\u2028float32"]
)
def test_control_characters_do_not_reach_the_terminal(text):
    message = refusal(parse_input, text)
    assert "\\" in message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31m", "\\x1b[31m"),
        ("tab\there", "tab\\there"),
        ("é × 3", "é × 3"),  # noqa: RUF001
        ("a" * 80, "a" * 80),
        ("a" * 81, "a" * 77 + "..."),
    ],
)
def test_printable_escapes_and_shortens(text, shown):
    assert printable(text) == shown


# --------------------------------------------------------------------------------- fitting

IMAGE = Inputs((TensorSpec((1, 3, 224, 224)),))
VIDEO = Inputs((TensorSpec((1, 3, 16, 112, 112)),))
PAIR = Inputs((TensorSpec((1, 3, 224, 224)), TensorSpec((1, 3, 224, 224))))
TOKENS = Inputs((TensorSpec((1, 16), "int64"),))
BOXED = Inputs.listed((TensorSpec((3, 300, 400)),) * 2)


def fitted(default, *texts, batch_size=None):
    found = fit_inputs([parse_input(text) for text in texts], default, batch_size)
    assert found.as_list == default.as_list
    return [tensor.shape for tensor in found.tensors]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("192", (1, 3, 192, 192)),
        ("160x192", (1, 3, 160, 192)),
        ("1x160x192", (1, 1, 160, 192)),
        ("4x2x160x192", (4, 2, 160, 192)),
    ],
)
def test_sizes_are_matched_from_the_right(text, shape):
    assert fitted(IMAGE, text) == [shape]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("64", (1, 3, 16, 64, 64)),
        ("64x48", (1, 3, 16, 64, 48)),
        ("8x64x48", (1, 3, 8, 64, 48)),
        ("1x8x64x48", (1, 1, 8, 64, 48)),
        ("2x1x8x64x48", (2, 1, 8, 64, 48)),
    ],
)
def test_clips_have_one_axis_more(text, shape):
    assert fitted(VIDEO, text) == [shape]


def test_one_size_is_one_size_where_there_is_no_picture():
    assert fitted(TOKENS, "32") == [(1, 32)]
    assert fitted(TOKENS, "4x32") == [(4, 32)]


def test_nothing_asked_is_the_default():
    assert fit_inputs([], IMAGE, None) == IMAGE


def test_dtype_is_kept_unless_another_is_asked_for():
    assert fit_inputs([parse_input("32")], TOKENS, None).tensors[0].dtype == "int64"
    assert fit_inputs([parse_input("32:int32")], TOKENS, None).tensors[0].dtype == "int32"


def test_too_many_sizes_are_refused_with_what_the_model_takes():
    message = refusal(fitted, IMAGE, "1x1x3x224x224")
    assert "1x1x3x224x224" in message
    assert "5 dimensions" in message
    assert "takes 4: 1x3x224x224" in message


def test_list_model_takes_pictures_without_a_batch():
    assert fitted(BOXED, "64x48") == [(3, 64, 48), (3, 64, 48)]
    assert "takes 3: 3x300x400" in refusal(fitted, BOXED, "1x3x64x48")


def test_list_model_takes_as_many_pictures_as_are_given():
    assert fitted(BOXED, "64", "3x50x60", "70") == [(3, 64, 64), (3, 50, 60), (3, 70, 70)]


def test_one_input_stands_for_all_of_several():
    assert fitted(PAIR, "64x48") == [(1, 3, 64, 48), (1, 3, 64, 48)]


def test_several_inputs_are_given_in_order():
    assert fitted(PAIR, "64", "32x16") == [(1, 3, 64, 64), (1, 3, 32, 16)]


def test_wrong_number_of_inputs_is_refused_with_the_right_one():
    message = refusal(fitted, PAIR, "64", "64", "64")
    assert "3 times" in message
    assert "takes 2" in message
    assert "1x3x224x224 float32" in message
    assert "takes 1" in refusal(fitted, IMAGE, "64", "64")


def test_batch_size_replaces_the_first_axis_of_every_input():
    assert fitted(PAIR, "64", "32", batch_size=5) == [(5, 3, 64, 64), (5, 3, 32, 32)]
    assert fitted(IMAGE, batch_size=2) == [(2, 3, 224, 224)]


def test_batch_size_of_a_list_model_is_the_number_of_pictures():
    one = Inputs.listed([TensorSpec((3, 300, 400))])
    assert fitted(one, "64", batch_size=3) == [(3, 64, 64)] * 3


def test_batch_size_that_contradicts_the_pictures_given_is_not_ignored():
    one = Inputs.listed([TensorSpec((3, 300, 400))])
    assert fitted(one, "64", "80", batch_size=2) == [(3, 64, 64), (3, 80, 80)]
    assert "--batch-size 3" in refusal(fit_inputs, [parse_input("64"), parse_input("80")], one, 3)


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_below_one_is_refused(size):
    message = refusal(lambda: Request.of("net.py:Net", "3x8x8", batch_size=size))
    assert message == f"--batch-size {size}: must be at least 1"


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        *(("half", "float16"), ("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")),
        *(("long", "int64"), ("short", "int16"), ("complex64", "complex64"), ("int8", "int8")),
        *(("cdouble", "complex128"), ("uint16", "uint16")),
    ],
)
def test_every_name_of_a_dtype_is_understood(text, dtype):
    assert parse_input(f"1x8x8:{text}").dtype == dtype


def test_dtypes_are_those_of_torch():
    import torch

    assert all(isinstance(getattr(torch, name), torch.dtype) for name in set(DTYPES.values()))
    shorts = {name for name in DTYPES if hasattr(torch, name)}
    assert all(str(getattr(torch, name)) == f"torch.{DTYPES[name]}" for name in shorts)


# ------------------------------------------------------------------------- the whole request


def test_a_request_is_parsed_once_and_holds_what_it_means():
    request = Request.of(" torchvision:resnet18 ", ["3x64x64:half"], {"width": 2}, 10, 4, "bf16")
    assert (request.model.source, request.model.name) == ("torchvision", "resnet18")
    assert request.name == "torchvision:resnet18"
    assert [(one.sizes, one.dtype) for one in request.inputs] == [((3, 64, 64), "float16")]
    assert request.arguments == {"width": 2, "num_classes": 10}
    assert (request.batch_size, request.dtype) == (4, "bfloat16")


def test_a_request_of_a_name_alone_runs_as_it_is_published():
    assert Request.of("resnet18", (), {"num_classes": 5}).as_published
    for given in ({"inputs": ["64"]}, {"batch_size": 2}, {"dtype": "half"}):
        assert not Request.of("resnet18", **given).as_published


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_classes": 0}, "--num-classes 0: must be at least 1"),
        ({"num_classes": 3, "arguments": {"num_classes": 3}}, "give one of them"),
        ({"dtype": "int8"}, "--dtype 'int8': use one of float16, bfloat16, float32, float64"),
        ({"inputs": ["3x"]}, "input '3x'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_torch_is_needed(given, said):
    assert said in refusal(lambda: Request.of("resnet18", **given))


def test_of_a_long_path_the_end_is_shown():
    path = f"{'folder/' * 20}net.py:Net"
    shown = Request.of(path).name
    assert len(shown) == 80
    assert shown.startswith("...")
    assert shown.endswith("folder/net.py:Net")
    assert Request.of("folder/net.py:Net").name == "folder/net.py:Net"
