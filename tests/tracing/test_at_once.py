"""What is made at once is what torch makes in many steps, and what a CPU makes."""

import itertools

import pytest
import torch

from cnnscope.tracing import results
from cnnscope.tracing.at_once import AT_ONCE

ATEN = torch.ops.aten
FORMATS = (torch.contiguous_format, torch.channels_last)
SIZES = ((2, 6, 5, 7), (1, 6, 1, 1), (1, 1, 5, 7), (2, 6, 1, 7), (1, 1, 1, 1))
# What is called beside the tensor of each operation that takes numbers.
NUMBERS = {
    "aten.clamp.default": (0.0, None),
    "aten.gelu.default": ("none",),
    "aten.pow.Tensor_Scalar": (2,),
    "aten.leaky_relu.default": (0.1,),
    "aten.leaky_relu_.default": (0.1,),
}
BOTH = [name for name in AT_ONCE if name.endswith(".Tensor")]
OTHERS = {
    "aten.native_batch_norm.default",
    "aten.native_batch_norm_backward.default",
    "aten.native_layer_norm_backward.default",
    "aten.native_layer_norm.default",
    "aten.native_group_norm.default",
    "aten.addmm.default",
    "aten.upsample_linear1d.default",
    "aten.upsample_bilinear2d.default",
    "aten.upsample_trilinear3d.default",
    "aten.upsample_bicubic2d.default",
    "aten.grid_sampler_2d.default",
}
WITH_TENSORS = {
    "aten.grid_sampler_2d.default",
    "aten.addmm.default",
    "aten.native_batch_norm_backward.default",
    "aten.native_layer_norm_backward.default",
}
EACH = [name for name in AT_ONCE if name not in OTHERS and name not in BOTH]


def operation(name):
    _, base, overload = name.split(".")
    return getattr(getattr(ATEN, base), overload)


def laid_out(size, device, dtype=torch.float32):
    """A tensor of a size in every order of memory that has no gap."""
    data = torch.ones(size, device=device, dtype=dtype)
    yield data
    if len(size) == 4:
        yield data.contiguous(memory_format=torch.channels_last)
        yield torch.ones([size[i] for i in (1, 3, 0, 2)], device=device, dtype=dtype).permute(
            2, 0, 3, 1
        )
    yield data.mT


def runs(name, arguments):
    """The operation itself; arguments of a schema that are named there are given by name."""
    call = operation(name)
    named = [a.name for a in call._schema.arguments if a.kwarg_only]
    first = len(call._schema.arguments) - len(named)
    return call(*arguments[:first], **dict(zip(named, arguments[first:], strict=False)))


def looks(made):
    tensors = made if isinstance(made, tuple) else (made,)
    return [(tuple(t.shape), t.dtype, t.stride()) for t in tensors]


def in_doubt(data):
    """Return True if an axis of one element lies where it would not in a tensor in order."""
    return 1 in data.shape and data.stride() != torch.empty(data.shape).stride()


def assert_is_torchs(name, arguments):
    """Hold a result to torch's, on meta and (the first tensor) on the CPU."""
    on_meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    for given, kept in zip(arguments, on_meta, strict=True):
        assert not isinstance(given, torch.Tensor) or given.stride() == kept.stride()
    found = AT_ONCE[name](*on_meta)
    if found is None and in_doubt(arguments[0]):
        return
    assert found is not None
    assert looks(found) == looks(runs(name, on_meta))
    assert looks(found)[:1] == looks(runs(name, arguments))[:1]
    assert all(t.is_meta for t in (found if isinstance(found, tuple) else (found,)))
    assert not isinstance(found, torch.Tensor) or (found is on_meta[0]) == ("_." in name)


@pytest.mark.parametrize("name", EACH)
def test_functions_of_each_element(name):
    for size in SIZES:
        for data in laid_out(size, "cpu"):
            assert_is_torchs(name, (data, *NUMBERS.get(name, ())))
    for dtype in (torch.bfloat16, torch.float64):
        assert_is_torchs(name, (torch.ones(3, dtype=dtype), *NUMBERS.get(name, ())))


@pytest.mark.parametrize("name", BOTH)
def test_functions_of_two_tensors(name):
    for size in SIZES:
        for data, other in zip(laid_out(size, "cpu"), laid_out(size, "cpu"), strict=True):
            assert_is_torchs(name, (data, other))
            assert_is_torchs(name, (data, 2))
            assert_is_torchs(name, (data, 0.5))
    assert_is_torchs(name, (torch.ones(()), torch.ones(())))


@pytest.mark.parametrize("name", BOTH)
def test_two_tensors_that_differ_are_left_to_torch(name):
    data = torch.empty(2, 3, 4, 5, device="meta")
    for other in (
        torch.empty(2, 3, 1, 1, device="meta"),
        torch.empty(2, 3, 4, 5, device="meta", dtype=torch.float64),
        torch.empty(2, 3, 4, 5, device="meta").contiguous(memory_format=torch.channels_last),
        torch.empty(2, 3, 4, 5),
        2j,
    ):
        assert AT_ONCE[name](data, other) is None


def test_a_group_norm_is_made_as_torch_makes_it():
    for own in (torch.ones(6), None):
        given = (torch.ones(2, 6, 5, 7), own, own, 2, 6, 35, 3, 1e-5)
        assert_is_torchs("aten.native_group_norm.default", given)


def test_a_product_with_a_bias_is_made_as_torch_makes_it():
    given = (torch.ones(7), torch.ones(4, 3), torch.ones(7, 3).t(), 1, 1)
    assert_is_torchs("aten.addmm.default", given)
    bias, left, right = (torch.empty(s, device="meta") for s in ((7,), (4, 3), (5, 7)))
    assert AT_ONCE["aten.addmm.default"](bias, left, right) is None  # which torch refuses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "size", "rest"),
    [
        ("upsample_linear1d", (2, 3, 5), ([9], False, None)),
        ("upsample_bilinear2d", (2, 3, 5, 7), ([6, 9], False, None, None)),
        ("upsample_trilinear3d", (2, 3, 2, 5, 7), ([4, 6, 9], True, None, None, None)),
        ("upsample_bicubic2d", (2, 3, 5, 7), ([6, 9], False, 1.2, 1.3)),
        ("grid_sampler_2d", (2, 3, 5, 7), (0, 0, False)),
    ],
)
def test_a_resampled_map_is_made_as_torch_makes_it(name, size, rest, dtype):
    for shape in (size, (1, 1, *size[2:]), (*size[:2], *(1 for _ in size[2:]))):
        for order in FORMATS:
            data = torch.ones(shape, dtype=dtype)
            data = data.contiguous(memory_format=order) if data.dim() == 4 else data
            grid = (torch.ones(shape[0], 8, 9, 2, dtype=dtype),) if "grid" in name else ()
            assert_is_torchs(f"aten.{name}.default", (data, *grid, *rest))


def test_what_it_is_not_sure_of_is_left_to_torch():
    for name in (*EACH, *BOTH, *OTHERS - WITH_TENSORS):
        one, *rest = ([8, 8] if "upsample" in name else [4] if "layer" in name else 2, *[None] * 6)
        for data in (
            torch.ones(1, 3, 4, 4),  # it has data
            torch.empty(1, 3, 4, 4, device="meta", dtype=torch.int64),
            torch.empty(1, 0, 4, 4, device="meta"),
        ):
            assert AT_ONCE[name](data, one, *rest) is None, name
    gaps = torch.empty(2, 3, 4, 8, device="meta")[..., ::2]
    shared = torch.empty(2, 1, 4, 8, device="meta").expand(2, 3, 4, 8)
    for name in EACH:
        for data in (gaps, shared):
            assert AT_ONCE[name](data, *NUMBERS.get(name, ())) is None, name
    assert AT_ONCE["aten.clamp.default"](gaps.contiguous(), None, None) is None  # torch refuses
    assert AT_ONCE["aten.gelu.default"](gaps.contiguous(), "none at all") is None
    data = torch.empty(1, 3, 4, 4, device="meta")
    grid = torch.empty(1, 2, 2, 2, device="meta", dtype=torch.float64)
    assert AT_ONCE["aten.grid_sampler_2d.default"](data, grid, 0, 0, False) is None
    wrong = torch.empty(4, device="meta")
    rest = (wrong, wrong, False, 0.1, 1e-5)
    assert AT_ONCE["aten.native_batch_norm.default"](data, None, None, *rest) is None
    assert AT_ONCE["aten.native_group_norm.default"](data, None, None, 1, 3, 16, 2) is None


BATCHES = (
    torch.empty(4, 3), torch.empty(2, 3, 5), torch.empty(2, 3, 5, 7), torch.empty(2, 1, 1, 1),
    torch.empty(2, 3, 5, 7).to(memory_format=torch.channels_last),
    torch.empty(2, 5, 7, 3).permute(0, 3, 1, 2), torch.empty(2, 3, 7, 5).transpose(2, 3),
    torch.empty(2, 3, 2, 5, 7), torch.empty(2, 3, 2, 5, 7).to(memory_format=torch.channels_last_3d),
)  # fmt: skip


def seen(results):
    return [one if one is None else (one.shape, one.dtype, one.stride()) for one in results]


def arranged(name, arguments):
    made = AT_ONCE[f"aten.{name}.default"](*arguments)
    assert made is not None
    return seen(results.RESULTS[f"aten.{name}"](arguments, made))


def on_meta(arguments):
    return [one.to("meta") if isinstance(one, torch.Tensor) else one for one in arguments]


@pytest.mark.parametrize("place", range(len(BATCHES)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batch_norms_are_laid_out_as_those_of_a_cpu(place, dtype):
    x = BATCHES[place].to(dtype)
    assert x.stride() == BATCHES[place].stride()
    for kept, affine, training in itertools.product((None, dtype, torch.float32), (0, 1), (0, 1)):
        if not (kept or training) or (dtype, kept) == (torch.float64, torch.float32):
            continue  # which a CPU refuses
        stats = [torch.ones(x.shape[1], dtype=kept) if kept else None for _ in range(2)]
        given = [torch.ones(x.shape[1], dtype=kept or dtype) if affine else None for _ in range(2)]
        given = [x, *given, *stats, bool(training), 0.1, 1e-5]
        made = ATEN.native_batch_norm(*given)
        found = arranged("native_batch_norm", on_meta(given))
        assert found[: 3 if training else 1] == seen(made)[: 3 if training else 1]
        asked = bool(affine)  # without a weight, its gradient is never asked for
        for mask in ([True, asked, asked], [True, False, False], [False, asked, False]):
            back = [torch.ones_like(made[0]), x, given[1], *stats, *made[1:], bool(training), 1e-5]
            real = ATEN.native_batch_norm_backward(*back, mask)
            expected = [
                one if wanted else None for one, wanted in zip(seen(real), mask, strict=True)
            ]
            assert arranged("native_batch_norm_backward", [*on_meta(back), mask]) == expected


def test_batch_norms_that_torch_refuses_are_left_to_it():
    norm = AT_ONCE["aten.native_batch_norm.default"]
    x, three, four = (torch.empty(*shape, device="meta") for shape in ((2, 3, 4, 4), (3,), (4,)))
    rest = (0.1, 1e-5)
    assert norm(x, three, three, three, three, False, *rest) is not None
    assert norm(x, four, four, None, None, True, *rest) is None
    assert norm(x, None, None, None, None, False, *rest) is None
    assert norm(x.int(), None, None, None, None, True, *rest) is None
    assert norm(three, None, None, None, None, True, *rest) is None
    back = AT_ONCE["aten.native_batch_norm_backward.default"]
    mask = [True, True, True]
    assert back(x, x, three, None, None, three, three, True, 1e-5, mask) is not None
    assert back(x[:1], x, three, None, None, three, three, True, 1e-5, mask) is None
    assert back(x, x, three, None, None, three, three, False, 1e-5, mask) is None


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 1, 6), (1, 2, 3, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_norms_are_those_of_a_cpu_and_of_meta(shape, dtype):
    forward, backward = ATEN.native_layer_norm, ATEN.native_layer_norm_backward
    for last, affine, turned in itertools.product((1, len(shape) - 1), (0, 1), (0, 1)):
        sizes = list(shape[-last:])
        x = torch.ones(shape, dtype=dtype)
        x = torch.ones(shape[::-1], dtype=dtype).permute(*range(len(shape))[::-1]) if turned else x
        given = [torch.ones(sizes, dtype=dtype) if affine else None for _ in range(2)]
        made = forward(x, sizes, *given, 1e-5)
        there = on_meta([x, sizes, *given, 1e-5])
        found = seen(AT_ONCE["aten.native_layer_norm.default"](*there))
        assert found == seen(made) == seen(forward(*there))
        if turned:
            continue  # torch's own kernels differ in the order of the gradient
        for mask in ([True, bool(affine), bool(affine)], [True, False, False]):
            back = [torch.ones_like(x), x, sizes, *made[1:], *given, mask]
            found = seen(AT_ONCE["aten.native_layer_norm_backward.default"](*on_meta(back)))
            assert found == seen(backward(*on_meta(back)))
            real = zip(seen(backward(*back)), mask, strict=True)
            assert found == [one if wanted else None for one, wanted in real]


def test_layer_norms_that_are_not_sure_are_left_to_torch():
    norm = AT_ONCE["aten.native_layer_norm.default"]
    x, six, five = (torch.empty(*shape, device="meta") for shape in ((2, 3, 6), (6,), (5,)))
    assert norm(x, [6], six, six, 1e-5) is not None
    assert norm(x, [6], five, None, 1e-5) is None
    assert norm(x, [5], five, None, 1e-5) is None
    assert norm(x.bfloat16(), [6], six, six, 1e-5) is None
    assert norm(torch.ones(2, 6), [6], None, None, 1e-5) is None
