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
