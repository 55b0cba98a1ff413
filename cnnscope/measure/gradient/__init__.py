"""Receptive fields measured by the gradient of a linear stand-in: the referee of `cnnscope rf`.

Nothing here is shared with the analysis that it referees. One forward of the model is recorded on
the meta device, operation by operation, on a canvas of the caller's choice (`tape`); it is then
replayed in float64 (`replay`) with every operation replaced by one that is linear, depends on
exactly the same inputs and cannot cancel (`standins`): convolutions and matrix products with
positive weights (rank one over channels, a box over the kernel, which needs no multiplication per
pair of channels), norms and activations by the identity, max pools by average pools, products of
two maps by their sum. Views, slices, pads, crops and nearest upsampling are torch's own kernels. A
unit sees the pixels where the gradient of its channels' sum is not zero.

A function of the whole image (a squeeze-and-excite gate, a softmax over all positions) is cut to
measure what is seen beside it: `local`. What is the whole image is found by running the model on a
larger one: it is what grows. What has no stand-in (operations that look at their data) is never
passed: everything after it is not measurable, and names it.
"""

from cnnscope.measure.gradient.replay import LATE, NOTHING, Interval, Root, measure, pace
from cnnscope.measure.gradient.tape import (
    Given,
    Growth,
    Size,
    Tape,
    Target,
    growing,
    image,
    record,
    size,
)

__all__ = [
    "LATE", "NOTHING", "Given", "Growth", "Interval", "Root", "Size", "Tape", "Target", "growing",
    "image", "measure", "pace", "record", "size",
]  # fmt: skip
