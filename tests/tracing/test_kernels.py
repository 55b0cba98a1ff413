"""What is made at once is what torch makes in many steps, and what a CPU makes."""

import itertools

import pytest
import torch

from cnnscope.tracing import kernels

FORMATS = (torch.contiguous_format, torch.channels_last)
ATEN = torch.ops.aten
# The sizes of an input, and what is called on it.
CASES = {
    "aten.upsample_linear1d.default": ((2, 3, 5), ([9], False, None)),
    "aten.upsample_bilinear2d.default": ((2, 3, 5, 7), ([6, 9], False, None, None)),
    "aten.upsample_trilinear3d.default": ((2, 3, 2, 5, 7), ([4, 6, 9], True, None, None, None)),
    "aten.upsample_bicubic2d.default": ((2, 3, 5, 7), ([6, 9], False, 1.2, 1.3)),
    "aten.grid_sampler_2d.default": ((2, 3, 5, 7), (None, 0, 0, False)),
}


def made(name, device, shape, rest, order, dtype):
    data = torch.empty(shape, device=device, dtype=dtype)
    if len(shape) == 4:
        data = data.contiguous(memory_format=order)
    if rest[0] is None:
        rest = (torch.empty(shape[0], 8, 9, 2, device=device, dtype=dtype), *rest[1:])
    return data, rest


def test_every_operation_that_is_made_at_once_has_a_case():
    assert set(CASES) == set(kernels.AT_ONCE)


@pytest.mark.parametrize("name", CASES)
def test_what_is_made_at_once_is_what_torch_makes(name):
    shape, rest = CASES[name]
    operation = getattr(ATEN, name.split(".")[1]).default
    shapes = (shape, (1, 1, *shape[2:]), (*shape[:2], *(1 for _ in shape[2:])))
    for size, order, dtype in itertools.product(shapes, FORMATS, (torch.float32, torch.bfloat16)):
        data, given = made(name, "meta", size, rest, order, dtype)
        found = kernels.AT_ONCE[name](data, *given)
        assert found is not None
        for device in ("meta", "cpu"):
            real, arguments = made(name, device, size, rest, order, dtype)
            expected = operation(real, *arguments)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            assert found.stride() == expected.stride()
    assert found.is_meta


def test_what_it_is_not_sure_of_is_left_to_torch():
    resized = kernels.AT_ONCE["aten.upsample_bicubic2d.default"]
    assert resized(torch.empty(1, 1, 4, 4), [8, 8]) is None  # it has data
    assert resized(torch.empty(1, 1, 4, 4, device="meta", dtype=torch.uint8), [8, 8]) is None
    assert resized(torch.empty(1, 0, 4, 4, device="meta"), [8, 8]) is None
    sampled = kernels.AT_ONCE["aten.grid_sampler_2d.default"]
    data = torch.empty(1, 3, 4, 4, device="meta")
    grid = torch.empty(1, 2, 2, 2, device="meta", dtype=torch.float64)
    assert sampled(data, grid, 0, 0, False) is None  # which torch refuses


BATCHES = (
    torch.empty(4, 3), torch.empty(2, 3, 5), torch.empty(2, 3, 5, 7), torch.empty(2, 1, 1, 1),
    torch.empty(2, 3, 5, 7).to(memory_format=torch.channels_last),
    torch.empty(2, 5, 7, 3).permute(0, 3, 1, 2), torch.empty(2, 3, 7, 5).transpose(2, 3),
    torch.empty(2, 3, 2, 5, 7), torch.empty(2, 3, 2, 5, 7).to(memory_format=torch.channels_last_3d),
)  # fmt: skip


def seen(results):
    return [one if one is None else (one.shape, one.dtype, one.stride()) for one in results]


def laid_out(name, arguments):
    made = kernels.NORMS[f"aten.{name}.default"](*arguments)
    assert made is not None
    return seen(kernels.RESULTS[f"aten.{name}"](arguments, made))


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
        found = laid_out("native_batch_norm", on_meta(given))
        assert found[: 3 if training else 1] == seen(made)[: 3 if training else 1]
        asked = bool(affine)  # without a weight, its gradient is never asked for
        for mask in ([True, asked, asked], [True, False, False], [False, asked, False]):
            back = [torch.ones_like(made[0]), x, given[1], *stats, *made[1:], bool(training), 1e-5]
            real = ATEN.native_batch_norm_backward(*back, mask)
            expected = [
                one if wanted else None for one, wanted in zip(seen(real), mask, strict=True)
            ]
            assert laid_out("native_batch_norm_backward", [*on_meta(back), mask]) == expected


def test_batch_norms_that_torch_refuses_are_left_to_it():
    norm = kernels.NORMS["aten.native_batch_norm.default"]
    x, three, four = (torch.empty(*shape, device="meta") for shape in ((2, 3, 4, 4), (3,), (4,)))
    rest = (0.1, 1e-5)
    assert norm(x, three, three, three, three, False, *rest) is not None
    assert norm(x, four, four, None, None, True, *rest) is None
    assert norm(x, None, None, None, None, False, *rest) is None
    assert norm(x.int(), None, None, None, None, True, *rest) is None
    assert norm(three, None, None, None, None, True, *rest) is None
    back = kernels.NORMS["aten.native_batch_norm_backward.default"]
    mask = [True, True, True]
    assert back(x, x, three, None, None, three, three, True, 1e-5, mask) is not None
    assert back(x[:1], x, three, None, None, three, three, True, 1e-5, mask) is None
    assert back(x, x, three, None, None, three, three, False, 1e-5, mask) is None


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 1, 6), (1, 2, 3, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_norms_are_those_of_a_cpu_and_of_meta(shape, dtype):
    forward, backward = ATEN.native_layer_norm, ATEN.native_layer_norm_backward
    for last, affine in itertools.product((1, len(shape) - 1), (0, 1)):
        sizes = list(shape[-last:])
        x = torch.ones(shape, dtype=dtype)
        given = [torch.ones(sizes, dtype=dtype) if affine else None for _ in range(2)]
        made = forward(x, sizes, *given, 1e-5)
        there = on_meta([x, sizes, *given, 1e-5])
        found = seen(kernels.NORMS["aten.native_layer_norm.default"](*there))
        assert found == seen(made) == seen(forward(*there))
        for mask in ([True, bool(affine), bool(affine)], [True, False, False]):
            back = [torch.ones_like(x), x, sizes, *made[1:], *given, mask]
            found = seen(kernels.NORMS["aten.native_layer_norm_backward.default"](*on_meta(back)))
            assert found == seen(backward(*on_meta(back)))
            real = zip(seen(backward(*back)), mask, strict=True)
            assert found == [one if wanted else None for one, wanted in real]


def test_layer_norms_that_are_not_sure_are_left_to_torch():
    norm = kernels.NORMS["aten.native_layer_norm.default"]
    x, six, five = (torch.empty(*shape, device="meta") for shape in ((2, 3, 6), (6,), (5,)))
    assert norm(x, [6], six, six, 1e-5) is not None
    assert norm(x, [6], five, None, 1e-5) is None
    assert norm(x, [5], five, None, 1e-5) is None
    assert norm(x.bfloat16(), [6], six, six, 1e-5) is None
    assert norm(x.transpose(0, 1), [6], six, six, 1e-5) is None
    assert norm(torch.ones(2, 6), [6], None, None, 1e-5) is None
