"""Pools and resampling."""

from functools import partial

from cnnscope.ops.entry import (
    Factors,
    Family,
    Kind,
    each,
    per_input,
    per_output,
    register_steps,
)
from cnnscope.ops.fields import rules
from cnnscope.ops.operation import Op
from cnnscope.records.trace import Shape


def _window(op: Op) -> Shape:
    kernel = op.get("kernel_size", ())
    axes = op.axes or 2
    return tuple(kernel) if len(kernel) == axes else tuple(kernel) * axes


_WINDOW = "one comparison or addition for each element of each window"


@register_steps(
    Family.MAX_POOL,
    "max pool",
    "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d "
    "mkldnn_max_pool2d mkldnn_max_pool3d quantized.max_pool1d quantized.max_pool2d "
    "quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d",
    rules.pool,
    _WINDOW,
)
@register_steps(
    Family.MAX_POOL, "max pool", "fractional_max_pool2d fractional_max_pool3d", how=_WINDOW
)
@register_steps(
    Family.AVERAGE_POOL, "avg pool", "avg_pool1d avg_pool2d avg_pool3d", rules.pool, _WINDOW
)
def pool(op: Op) -> tuple[Factors, ...]:
    """One comparison or addition per element of each window; all windows have one size."""
    return ({"output elements": op.out, "window": _window(op)},)


per_input(
    "adaptive avg pool",
    1,
    "_adaptive_avg_pool2d _adaptive_avg_pool3d",
    rules.adaptive_pool,
    family=Family.AVERAGE_POOL,
)
per_input(
    "adaptive max pool",
    1,
    "adaptive_max_pool2d adaptive_max_pool3d",
    rules.adaptive_pool,
    family=Family.MAX_POOL,
)

# Interpolation: a multiplication and an addition for each tap.
_upsample = partial(per_output, family=Family.RESAMPLE)
_upsample("upsample linear", 4, "upsample_linear1d", rules.linear)
_upsample("upsample bilinear", 8, "upsample_bilinear2d", rules.linear)
_upsample("upsample bilinear", 8, "_upsample_bilinear2d_aa", rules.antialiased)
_upsample("upsample trilinear", 16, "upsample_trilinear3d", rules.linear)
_upsample("upsample bicubic", 32, "upsample_bicubic2d", rules.cubic)
_upsample("upsample bicubic", 32, "_upsample_bicubic2d_aa", rules.antialiased_cubic)
per_output("grid sample", 8, "grid_sampler_2d cudnn_grid_sampler", None)
per_output("grid sample", 16, "grid_sampler_3d", None)
each(
    Kind.REARRANGE,
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d",
    rules.nearest,
    Family.RESAMPLE,
)
each(
    Kind.REARRANGE,
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d",
    rules.nearest_exact,
    Family.RESAMPLE,
)
