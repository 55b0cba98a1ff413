"""What sizes and structures mean for a network: readings in order, and the one that runs."""

from __future__ import annotations

import collections
import inspect
import types
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

import cnnscope
from cnnscope.errors import CnnscopeError, ModelError, RequestError
from cnnscope.models.borrowed import trace_sizes
from cnnscope.models.request import Request


def network(forward, **layers):
    """A module with these layers and this forward."""
    made = type("Net", (nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(made, name, layer)
    return made


def shapes(model, *texts, batch_size=None):
    """Shapes that were taken for what was typed."""
    request = Request.of("net", texts, batch_size=batch_size)
    return [spec.shape for spec in trace_sizes(request, model).input_specs]


def one(layer):
    return network(lambda self, x: self.f(x), f=layer)


CONV = nn.Conv2d(3, 4, 1)


@pytest.mark.parametrize(
    ("layer", "text", "shape"),
    [
        (nn.Conv1d(28, 4, 3), "1x28x28", (1, 28, 28)),
        (nn.Conv1d(1, 4, 3), "1x8000", (1, 1, 8000)),
        (nn.Conv1d(1, 4, 3), "8000", (1, 1, 8000)),
        (nn.Conv2d(3, 4, 3), "224", (1, 3, 224, 224)),
        (nn.Conv2d(3, 4, 3), "16x20", (1, 3, 16, 20)),
        (nn.Conv3d(3, 4, 3), "3x8x16x16", (1, 3, 8, 16, 16)),
        (nn.BatchNorm1d(3), "3x32", (1, 3, 32)),
        (nn.BatchNorm1d(32), "4x32", (4, 32)),
        (nn.BatchNorm2d(3), "3x8x8", (1, 3, 8, 8)),
        (nn.LayerNorm(16), "1x64x16", (1, 64, 16)),
        (nn.Linear(16, 4), "16", (1, 16)),
        (nn.Linear(16, 4), "1x64x16", (1, 64, 16)),
        (nn.GRU(16, 4, batch_first=True), "1x64x16", (1, 64, 16)),
        (nn.LSTM(16, 4), "64x1x16", (64, 1, 16)),
        (nn.TransformerEncoderLayer(16, 2, 8), "1x64x16", (1, 64, 16)),
        (nn.Embedding(9, 4), "16", (1, 16)),
        (nn.Embedding(9, 4), "16:int64", (1, 16)),
        (nn.Embedding(9, 4), "2x16:int64", (2, 16)),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "3x2x2", (1, 3, 2, 2)),
        (nn.AvgPool1d(2), "3x8", (1, 3, 8)),
        (nn.Conv2d(3, 4, 3, dtype=torch.complex64), "3x8x8:complex64", (1, 3, 8, 8)),
        (nn.Conv2d(3, 4, 3, dtype=torch.complex64), "8x9:complex64", (1, 3, 8, 9)),
        (nn.Conv1d(2, 4, 3, dtype=torch.complex64), "2x8:complex64", (1, 2, 8)),
        (nn.Conv3d(3, 4, 3, dtype=torch.complex64), "3x8x8x8:cfloat", (1, 3, 8, 8, 8)),
        (nn.Linear(16, 4, dtype=torch.complex128), "2x3x16:cdouble", (2, 3, 16)),
        (nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)), "3:int64", (1, 3)),
    ],
)
def test_the_number_of_axes_follows_the_first_layer(layer, text, shape):
    assert shapes(one(layer), text) == [shape]


def own_channel(self, x):
    n, t, f = x.shape
    return self.f(x.view(n, 1, t, f))


def test_sizes_are_taken_as_they_are_where_a_forward_makes_its_own_channel():
    net = network(own_channel, f=nn.Conv2d(1, 4, 3))
    assert shapes(net, "1x100x64") == shapes(net, "100x64") == [(1, 100, 64)]
    assert shapes(net, "4x100x64", batch_size=4) == [(4, 100, 64)]
    request = Request.of("net", ["1x100x64"])
    taken, why = trace_sizes(request, net).notes
    assert taken == "the input is taken as 1x100x64 float32"
    assert why.startswith("1x1x100x64 does not run")


def frames(self, x):
    b, c, t, h, w = x.shape
    return self.f(x.transpose(1, 2).reshape(b * t, c, h, w))


def test_frames_of_a_2d_network_get_a_batch():
    net = network(frames, f=CONV)
    assert shapes(net, "3x4x16x16") == [(1, 3, 4, 16, 16)]
    assert shapes(net, "3x4x16x16", batch_size=2) == [(2, 3, 4, 16, 16)]


def conditioned(self, x, t, text=None):
    y = self.f(x) + t.view(-1, 1, 1, 1)
    return y if text is None else y + self.g(text).sum(1)[:, :, None, None]


def test_inputs_beside_the_first_have_its_batch():
    net = network(conditioned, f=CONV, g=nn.Linear(8, 4))
    assert shapes(net, "3x16x16", "1") == [(1, 3, 16, 16), (1,)]
    assert shapes(net, "3x16x16", "t=1", "text=7x8") == [(1, 3, 16, 16), (1,), (1, 7, 8)]
    assert shapes(net, "2x3x16x16", "2", "2x7x8") == [(2, 3, 16, 16), (2,), (2, 7, 8)]
    assert shapes(net, "2x3x16x16", "2", "7x8") == [(2, 3, 16, 16), (2,), (2, 7, 8)]


def of_dict(self, batch, scale=1.0):
    ids = self.e(batch["ids"]).mean(1)[..., None, None]
    return {**batch, "y": self.f(batch["image"]) * scale + ids}


def test_a_dict_is_one_argument_unless_its_keys_are_parameters():
    net = network(of_dict, f=CONV, e=nn.Embedding(100, 4))
    # 12 weights x 64 positions
    for given in ('{"image": 3x8x8, "ids": 16:int64}', '{"image": 3x8x8, "ids": 16}'):
        report = cnnscope.summary(net, given)
        assert report.totals.macs == 768
        assert [(s.shape, s.dtype) for s in report.inputs] == [
            ((1, 3, 8, 8), "float32"), ((1, 16), "int64"),
        ]  # fmt: skip
    assert cnnscope.summary(net, {"image": (1, 3, 8, 8), "ids": "1x16:int64"}).totals.macs == 768
    assert cnnscope.summary(
        net, kwargs={"batch": {"image": (3, 8, 8), "ids": "16:long"}, "scale": 2}
    )
    masked = network(lambda self, img, mask=None: self.f(img * mask), f=CONV)
    assert cnnscope.trace(masked, {"img": (3, 8, 8), "mask": (1, 8, 8)}).form.kwargs


def two_paths(self, x):
    assert len(x) == 2
    return self.f(x[0]).mean((2, 3, 4)), self.g(x[1]).mean((2, 3, 4))


@pytest.mark.parametrize(
    "given",
    [
        "[3x8x16x16, 3x32x16x16]", ["3x8x16x16", "3x32x16x16"], [[(3, 8, 16, 16), (3, 32, 16, 16)]],
        [(1, 3, 8, 16, 16), (1, 3, 32, 16, 16)], "((1, 3, 8, 16, 16), (1, 3, 32, 16, 16))",
    ],
)  # fmt: skip
def test_a_list_is_one_argument_where_forward_takes_one(given):
    net = network(two_paths, f=nn.Conv3d(3, 4, 1), g=nn.Conv3d(3, 2, 1))
    # 12 x 2,048 + 6 x 8,192
    assert cnnscope.summary(net, given).totals.macs == 73_728


Point = collections.namedtuple("Point", ["image", "mask"])  # noqa: PYI024


def test_named_tuples_and_nested_lists_stay_what_they_are():
    net = network(lambda self, p: self.f(p.image) * p.mask, f=CONV)
    assert cnnscope.summary(net, [Point((1, 3, 8, 8), (1, 1, 8, 8))]).totals.macs == 768
    deep = network(lambda self, x: [self.f(t) for t in x["a"][0]], f=CONV)
    assert cnnscope.summary(deep, {"a": [[(1, 3, 8, 8), (1, 3, 4, 4)]]}).totals.macs == 960


def steps(self, x, n: int = 2, size=(4, 4), flag=None):
    for _ in range(n):
        x = self.f(x)
    assert flag is None or flag is True
    return nn.functional.adaptive_avg_pool2d(x, size)


def test_a_parameter_that_takes_a_number_is_given_one():
    net = network(steps, f=nn.Conv2d(3, 3, 1))
    assert cnnscope.summary(net, ["3x8x8", "n=5"]).totals.macs == 5 * 9 * 64
    trace = cnnscope.trace(net, ["3x8x8", "size=(2, 2)", "flag=true"])
    assert trace.tensors[trace.outputs[0]].shape == (1, 3, 2, 2)
    assert "forward was given size[0]=2, size[1]=2, flag=True as well" in trace.notes
    bare = network(lambda self, x, n: self.f(x) if n == 3 else x.nothing, f=CONV)
    assert cnnscope.summary(bare, ["3x8x8", "n=3"]).totals.macs == 768


def attention(self, x, mask):
    return self.f(x, x, x, key_padding_mask=mask)[0]


def test_masks_and_other_dtypes_are_given():
    net = network(attention, f=nn.MultiheadAttention(16, 2, batch_first=True))
    assert shapes(net, "1x8x16", "1x8:bool") == [(1, 8, 16), (1, 8)]
    pixels = network(lambda self, x: self.f(x / 255), f=CONV)
    assert shapes(pixels, "3x8x8:uint8") == [(1, 3, 8, 8)]
    assert shapes(pixels, "2x3x8x8:uint8") == [(2, 3, 8, 8)]
    classes = network(lambda self, x: self.f(one_hot(x, 3).permute(0, 3, 1, 2) * 1.0), f=CONV)
    assert shapes(classes, "2x8x8:int64") == [(2, 8, 8)]
    wave = network(lambda self, x: torch.view_as_real(x) * 2)
    assert shapes(wave, "1x8:complex64") == [(1, 8)]
    scalar = network(lambda self, x, t: self.f(x) * t, f=CONV)
    assert shapes(scalar, "3x8x8", "t=()") == [(1, 3, 8, 8), ()]


def test_variable_arguments_are_taken_by_place_and_by_name():
    net = network(lambda self, *xs, **kw: [self.f(x) for x in (*xs, *kw.values())], f=CONV)
    assert shapes(net, "3x8x8", "3x4x4", "more=3x2x2") == [(1, 3, 8, 8), (1, 3, 4, 4), (1, 3, 2, 2)]


def test_a_forward_without_arguments_runs():
    net = network(lambda self: self.f(self.z), f=nn.Linear(8, 4))
    net.z = nn.Parameter(torch.zeros(1, 8))
    assert cnnscope.summary(net).totals.macs == 32
    assert cnnscope.summary(net).inputs == ()


def by_keyword(self, x, *, t, scale=1.0):
    return self.f(x) * scale + t.view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["3x8x8"], "forward needs t: add --input t=SIZE"),
        (["x=3x8x8"], "forward needs t: add --input t=SIZE"),
        (["3x8x8", "time=1"], "forward takes no argument time; it takes x, t, scale"),
        (["3x8x8", "x=3x8x8", "t=1"], "x is given twice, by its place and by its name"),
        (["t=1"], "forward needs x: add --input x=SIZE"),
        ([], "once for each, such as --input 3x224x224 --input t=1: forward takes x, t"),
        (None, "once for each, such as --input 3x224x224 --input t=1: forward takes x, t"),
    ],
)
def test_arguments_that_do_not_fit_are_named(given, said):
    with pytest.raises(RequestError) as caught:
        cnnscope.trace(network(by_keyword, f=CONV), given)
    assert said in str(caught.value)


def test_a_parameter_that_is_given_by_place_alone_may_be_named():
    net = network(lambda self, x, /, y=None: self.f(x), f=CONV)
    assert shapes(net, "x=3x8x8", "y=none") == [(1, 3, 8, 8)]


def test_few_sizes_of_several_inputs_have_the_channels_of_the_first_layer():
    net = network(lambda self, a, b: self.f(a) - self.f(b), f=CONV)
    assert shapes(net, "8", "8") == shapes(net, "8x8", "8x8") == [(1, 3, 8, 8)] * 2


def test_too_many_inputs_are_counted_where_they_are_no_list_either():
    with pytest.raises(RequestError, match="forward takes x; give --input once for each"):
        cnnscope.trace(one(CONV), ["3x8x8", "3x8x8"])


def test_an_input_that_is_no_tensor_is_a_wrong_request():
    for given in (["none"], [{}], "()"):
        with pytest.raises(CnnscopeError, match="--input 3x224x224 runs"):
            cnnscope.trace(one(nn.Conv2d(3, 4, 3)), given)


@pytest.mark.parametrize("batch", [4, 7])
def test_a_batch_that_contradicts_an_input_is_refused(batch):
    net = one(nn.Conv2d(3, 4, 3))
    with pytest.raises(RequestError, match=f"--batch-size {batch}: contradicts"):
        shapes(net, "2x3x8x8", batch_size=batch)
    assert shapes(net, "3x8x8", batch_size=batch) == [(batch, 3, 8, 8)]


def test_no_advice_repeats_what_was_typed():
    for text in ("1x3x9", "3,9", "(1, 9)", "7x9"):
        with pytest.raises(CnnscopeError) as caught:
            shapes(one(nn.Sequential(nn.Conv1d(4, 4, 3), nn.Linear(5, 2))), text)
        typed = Request.of("net", [text]).inputs[0].canonical
        assert f"--input {typed}" not in str(caught.value).partition("(Conv1d)")[2]


# --------------------------------------------------------------------- what a network offers


def offering(value, forward, name="example_input_array", **layers):
    net = network(forward, **layers)
    setattr(net, name, value)
    return net


IMAGE, MASK = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8)


def masked(self, img, mask=None):
    return self.f(img if mask is None else img * mask)


def only_keywords(self, *, img, mask=None, **kw):
    return masked(self, img, mask)


@pytest.mark.parametrize(
    ("value", "forward", "count"),
    [
        (IMAGE, masked, 1),
        ((IMAGE, MASK), masked, 2),
        ([IMAGE, MASK], masked, 2),
        ({"img": IMAGE, "mask": MASK}, masked, 2),
        ({"img": IMAGE, "mask": None}, only_keywords, 1),
        ([[IMAGE, MASK]], lambda self, xs: masked(self, *xs), 2),
        ([IMAGE, MASK], lambda self, xs: masked(self, *xs), 2),
        (({"img": IMAGE},), lambda self, batch: masked(self, batch["img"]), 1),
        ({"img": IMAGE}, lambda self, batch: masked(self, batch["img"]), 1),
        ({"img": (2, 3, 8, 8)}, masked, 1),
    ],
)
@pytest.mark.parametrize("name", ["example_input_array", "example_inputs"])
def test_offered_inputs_have_lightning_s_meaning(value, forward, count, name):
    report = cnnscope.summary(offering(value, forward, name, f=CONV))
    assert len(report.inputs) == count
    assert report.totals.macs == 2 * 768


def test_an_offer_that_holds_an_object_is_passed_over():
    report = cnnscope.summary(offering({"img": IMAGE, "mask": object()}, masked, f=CONV))
    assert report.inputs[0].shape == (1, 3, 224, 224)


# ------------------------------------------------------------------ what a config describes


def described(forward, main, parts=None, **fields):
    """A module with the config of a Hugging Face model."""
    net = network(forward, f=CONV, e=nn.Embedding(9, 4))
    net.config = types.SimpleNamespace(model_type="own", **fields, **(parts or {}))
    net.main_input_name = main
    return net


def image(self, pixel_values=None, mask=None):
    return self.f(pixel_values)


def translation(self, input_ids=None, decoder_input_ids=None):
    return self.e(input_ids) @ self.e(decoder_input_ids).mT


def pair(self, input_ids=None, pixel_values=None):
    return self.e(input_ids).sum(1)[..., None, None] + self.f(pixel_values)


VISION = {"vision_config": types.SimpleNamespace(image_size=(8, 12), num_channels=3)}


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (described(image, "pixel_values", image_size=8, num_channels=3), "pixel_values 1x3x8x8"),
        (described(image, "pixel_values"), "pixel_values 1x3x224x224"),
        (
            described(translation, "input_ids", n_positions=99_999),
            "input_ids 1x512 int64, decoder_input_ids 1x512 int64",
        ),
        (
            described(pair, "input_ids", VISION, max_position_embeddings=7),
            "input_ids 1x7 int64, pixel_values 1x3x8x12",
        ),
    ],
)
def test_the_config_of_a_hugging_face_model_describes_its_input(net, inputs):
    report = cnnscope.summary(net)
    assert ", ".join(map(str, report.inputs)).replace(" float32", "") == inputs
    assert "the config of Net describes" in report.notes[0]


# ------------------------------------------------------------------------ forwards that read keys


class Reads(nn.Module):
    """Its forward hands its batch on to a method, and puts a key in that it then reads."""

    def __init__(self):
        super().__init__()
        self.f, self.e = nn.Conv2d(3, 4, 1), nn.Embedding(9, 4)

    def forward(self, batch, scale=1.0):
        batch["seen"] = self.f(batch["image"])
        return self.words(batch) * scale + batch["seen"].mean() + batch.get("more", 0)

    def words(self, held):
        return self.e(held["ids"])


class Holds(nn.Module):
    """Its layer reads the batch, and one key of it by `get`."""

    def __init__(self):
        super().__init__()
        self.inner = Reads()

    def forward(self, x, batch, *, mask):
        return self.inner(batch) + x.mean() + batch["aux"]["m"] + batch.get("bias")


BOTH = '{"image": 3x8x8, "ids": 16:int64}'
NESTED = '{"image": 3x8x8, "ids": 16:int64, "aux": {"m": SIZE}, "bias": SIZE}'


@pytest.mark.parametrize(
    ("model", "given", "advised"),
    [
        (Reads, ["3x8x8"], '--input \'{"image": 3x8x8, "ids": 16:int64}\''),
        (Reads, ["batch=3x8x8"], '--input \'batch={"image": 3x8x8, "ids": 16:int64}\''),
        (Reads, ["image=3x8x8", "ids=16:int64"], f"--input '{BOTH}'"),
        (
            Reads,
            ["ids=16:int64", "image=3x8x8", "scale=2.0"],
            f"--input '{BOTH}' --input scale=2.0",
        ),
        (Reads, ["{'image': 3x8x8}"], '--input \'{"image": 3x8x8, "ids": 16:int64}\''),
        (Reads, ["[3x8x8, 16:int64]"], f"--input '{BOTH}'"),
        (Reads, [{"ids": "16:int64"}], '--input \'{"image": 3x224x224, "ids": 16:int64}\''),
        (Holds, ["3x8x8", "3x8x8", "mask=none"], f"3x8x8 --input '{NESTED}' --input mask=none"),
        (Holds, ["8", "mask=none"], '"ids": 16:int64, "aux": {"m": SIZE}, "bias": SIZE}\''),
        (
            Holds,
            ["8", "{'image': 3x8x8, 'ids': 2:int64, 'aux': {'m': 4}}", "mask=none"],
            '\'{"image": 3x8x8, "ids": 2:int64, "aux": {"m": 4}, "bias": SIZE}\'',
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_forward_that_reads_keys_is_given_a_dict_of_them(model, given, advised):
    with pytest.raises(CnnscopeError) as caught:
        cnnscope.trace(model(), given)
    assert advised in str(caught.value)


def test_what_the_keys_are_advised_for_runs():
    assert cnnscope.summary(Reads(), [BOTH]).totals.macs == 3 * 4 * 8 * 8
    with pytest.raises(CnnscopeError, match="takes 3 channels and was given 4"):
        cnnscope.trace(Reads(), ['{"image": 4x8x8}'])


def test_a_warning_of_torch_names_the_line_of_the_model():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(CnnscopeError):
            cnnscope.trace(Reads(), ["3x8x8"])  # an index by a text, which torch warns of
    line = inspect.getsourcelines(Reads.forward)[1] + 1
    assert [(one.filename, one.lineno) for one in shown] == [(__file__, line)]


def moded(self, x, mode="a", other=None, kind: str | None = None):
    return self.f(x) if "b" in (mode, other, kind) else x


@pytest.mark.parametrize("given", ["mode=b", "kind=b", "mode='b'", "other='b'"])
def test_a_word_is_a_text_where_forward_takes_one(given):
    net = network(moded, f=CONV)
    assert cnnscope.summary(net, ["3x8x8", given]).totals.macs == 3 * 4 * 8 * 8
    assert cnnscope.summary(net, ["3x8x8", "mode=c"]).totals.macs == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("other=b", "other=b: it is no size, and nothing says that other takes a text"),
        ("x=b", "--input 'x=\"b\"'"),
        ("mood=b", "forward takes no argument mood; it takes x, mode, other, kind"),
    ],
)
def test_a_word_is_refused_where_nothing_takes_a_text(given, said):
    with pytest.raises(RequestError) as caught:
        cnnscope.trace(network(moded, f=CONV), [given] if "x" in given else ["3x8x8", given])
    assert said in str(caught.value)


class OfComplex(nn.Module):
    """A convolution of complex weights, or a complex filter between a transform and its inverse."""

    def __init__(self, layer):
        super().__init__()
        self.filter = None if layer else nn.Parameter(torch.ones(3, 8, 5, dtype=torch.complex64))
        self.conv = nn.Conv2d(3, 2, 3, dtype=torch.complex64 if layer else torch.float32)

    def forward(self, x):
        if self.filter is not None:
            x = torch.fft.irfft2(torch.fft.rfft2(self.conv(x).new_ones(1, 3, 8, 8)) * self.filter)
        return self.conv(x)


@pytest.mark.parametrize(
    ("layer", "given", "dtype"),
    [
        (True, ["3x8x8"], "complex64"),
        (True, ["3x8x8:complex128"], None),  # the weights are complex64
        (True, ["3x8x8:float32"], None),
        (False, ["3x8x8"], "float32"),  # complex weights that no layer of PyTorch reads first
    ],
)
def test_complex_weights_are_given_complex_inputs(layer, given, dtype):
    if dtype is None:
        with pytest.raises(ModelError, match="complex"):
            cnnscope.summary(OfComplex(layer), given)
        return
    report = cnnscope.summary(OfComplex(layer), given).record
    assert [spec.dtype for spec in report.inputs] == [dtype]
    assert not [note for note in report.notes if "does not run" in note]


# --------------------------------------------------------------- lists, dicts, and what reads them


def zipped(self, xs):
    return [layer(x) for layer, x in zip(self.convs, xs, strict=False)]


def counted(self, xs):
    return [layer(xs[i]) for i, layer in enumerate(self.convs)]


def handed_on(self, xs):
    return self.inner(xs)


def unzipped(self, *xs):
    return [layer(x) for x, layer in zip(xs, self.convs, strict=False)]


def remade(self, xs):
    xs = [xs, xs * 2]
    return [layer(x) for layer, x in zip(self.convs, xs, strict=False)]


def looked_up(self, batch):
    return {name: layer(batch[name]) for name, layer in self.heads.items()}


def unpacked(self, pair):
    image, words = pair
    return self.f(image).mean(), self.e(words)


def two_layers():
    return nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(1, 8, 5))])


LISTS = [network(zipped, convs=two_layers()), network(counted, convs=two_layers())]
LISTS += [network(handed_on, inner=LISTS[0]), network(unzipped, convs=two_layers())]


@pytest.mark.parametrize("net", LISTS)
def test_a_list_that_goes_along_with_layers_has_an_item_for_each(net):
    report = cnnscope.summary(net)
    assert [spec.shape[1:] for spec in report.inputs] == [(3, 224, 224), (1, 224, 224)]
    # 222 x 222 x 8 x 27 + 220 x 220 x 8 x 25: both layers run, and neither is called unused
    assert report.totals.macs == 222**2 * 8 * 27 + 220**2 * 8 * 25
    assert not any("used" in finding.sentence for finding in report.findings)


@pytest.mark.parametrize("net", LISTS[:3])
def test_one_tensor_is_refused_for_a_list_with_what_runs(net):
    with pytest.raises(RequestError) as caught:
        cnnscope.trace(net, "3x32x32")
    assert "xs as a list with a tensor for each of the 2 layers of convs" in str(caught.value)
    advised = str(caught.value).rpartition("--input '")[2].rstrip("'")
    assert advised == "[3x224x224, 1x224x224]"
    assert len(cnnscope.trace(net, advised).input_specs) == 2


def test_a_tensor_of_as_many_samples_may_be_taken_apart():
    net = network(zipped, convs=nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 5)]))
    assert shapes(net, "2x3x32x32") == [(2, 3, 32, 32)]
    ran = cnnscope.summary(net, torch.zeros(1, 3, 8, 8))
    assert [finding.sentence.partition(";")[0] for finding in ran.findings] == [
        "not used in this run: convs.1 (608 parameters)"  # 8 x 3 x 5 x 5 + 8
    ]


def test_a_list_that_forward_makes_itself_is_no_input():
    net = network(remade, convs=nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 5)]))
    assert shapes(net, "3x32x32") == [(1, 3, 32, 32)]
    assert [spec.shape for spec in cnnscope.trace(net).input_specs] == [(1, 3, 224, 224)]


def test_a_dict_of_heads_and_a_pair_are_guessed():
    heads = nn.ModuleDict({"tab": nn.Linear(4, 8), "image": nn.Conv2d(3, 8, 3)})
    net = network(looked_up, heads=heads)
    assert [spec.shape for spec in cnnscope.trace(net).input_specs] == [(1, 4), (1, 3, 224, 224)]
    with pytest.raises(RequestError, match="batch as a dict with an entry for each of the 2 lay"):
        cnnscope.trace(net, "3x8x8")
    pair = network(unpacked, f=CONV, e=nn.Embedding(9, 4))
    assert [spec.dtype for spec in cnnscope.trace(pair).input_specs] == ["float32", "int64"]


@pytest.mark.parametrize(
    ("layers", "advised"),
    [
        ({"f": nn.Conv2d(3, 4, 1), "g": nn.Conv2d(1, 4, 1)}, "3x224x224 --input 1x224x224"),
        ({"f": nn.Conv1d(2, 4, 3), "g": nn.GRU(5, 4)}, "2x1000 --input 1x16x5"),
        ({"f": nn.Linear(7, 4), "g": nn.Embedding(9, 4)}, "1x7 --input 16:int64"),
        (
            {"f": nn.Sequential(nn.Identity(), nn.LayerNorm(6)), "g": nn.BatchNorm2d(5)},
            "1x16x6 --input 5x224x224",
        ),
    ],
)
def test_what_is_advised_for_each_input_is_what_its_layer_takes(layers, advised):
    net = network(lambda self, a, b: (self.f(a), self.g(b)), **layers)
    with pytest.raises(RequestError) as caught:
        cnnscope.trace(net)
    assert f"such as --input {advised}: forward takes a, b" in str(caught.value)
    with pytest.raises(RequestError, match=r"it was given once.*, such as --input"):
        cnnscope.trace(net, advised.partition(" ")[0])
    assert len(cnnscope.trace(net, advised.split(" --input ")).input_specs) == 2


def test_inputs_by_name_stand_in_the_order_of_the_signature():
    net = network(
        lambda self, a, b: self.f(a).mean((2, 3)) + self.g(b).mean((2, 3)),
        f=CONV,
        g=nn.Conv2d(1, 4, 1),
    )
    specs = cnnscope.trace(net, ["b=1x8x8", "a=3x9x9"]).input_specs
    assert [(spec.name, spec.shape) for spec in specs] == [("a", (1, 3, 9, 9)), ("b", (1, 1, 8, 8))]
    notes = cnnscope.summary(net, ["b=1x8x8", "a=3x9x9"]).notes
    assert "receptive fields are those of a (1x3x9x9); what is seen of b (1x1x8x8) is" in notes[-1]
    mixed = ["b={'y': 1x8x8, 'z': [2x3, 2x4]}", "c=none", "a=3x9x9"]
    kept = network(lambda self, a, b, c: self.f(a) + b["y"].mean() + b["z"][1].mean(), f=CONV)
    assert shapes(kept, *mixed) == [(1, 3, 9, 9), (1, 1, 8, 8), (1, 2, 3), (1, 2, 4)]


def test_tokens_without_a_dtype_leave_no_note_of_failures():
    report = cnnscope.summary(one(nn.Embedding(9, 4)), "16")
    assert report.notes == ("the input is taken as 1x16 int64",)
