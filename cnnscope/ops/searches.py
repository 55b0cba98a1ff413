"""Boxes, sorting, searching and Fourier transforms."""

from math import ceil, log2, prod

from cnnscope.ops.entry import Factors, Family, per_output, register_steps
from cnnscope.ops.fields import sequences
from cnnscope.ops.operation import Op

_MERGE_SORT = "merge sort, n log2 n"


@register_steps(
    Family.REGION_POOL,
    "roi align",
    "torchvision.roi_align torchvision.ps_roi_align",
    how="multiply and add for each of four taps",
)
def roi_align(op: Op) -> tuple[Factors, ...]:
    """Four taps (multiply, add) for each sampling point of each bin (He et al. 2017, 3)."""
    ratio = op.get("sampling_ratio", 0)
    points = ratio * ratio if ratio > 0 else 4
    return ({"output elements": op.out, "steps for each sampling point": 8, "points": points},)


per_output(
    "roi pool",
    1,
    "torchvision.roi_pool torchvision.ps_roi_pool",
    None,
    family=Family.REGION_POOL,
)


@register_steps(
    Family.OTHER, "nms", "torchvision.nms", how="bounds, sides, areas and ratio, at most"
)
def non_maximum_suppression(op: Op) -> tuple[Factors, ...]:
    """At most every pair of boxes is compared: 4 bounds, 2 sides, areas, ratio (9 steps)."""
    boxes = op.shape("dets")[0]
    return ({"steps for each pair": 9, "pairs of boxes": boxes * (boxes - 1) // 2},)


@register_steps(Family.OTHER, "sort", "_unique2 unique_dim msort", how=_MERGE_SORT)
@register_steps(
    Family.OTHER, "sort", "sort argsort topk kthvalue mode", sequences.ordered, _MERGE_SORT
)
def sort(op: Op) -> tuple[Factors, ...]:
    """Comparisons of a merge sort, n log2 n."""
    size = prod(op.first)
    return ({"elements": op.first, "comparisons of each": ceil(log2(size)) if size > 1 else 0},)


@register_steps(
    Family.OTHER,
    "fourier transform",
    "_fft_r2c _fft_c2c _fft_c2r",
    sequences.transform,
    "5 n log2 n for n complex numbers, 2.5 n log2 n for real ones",
)
def fourier_transform(op: Op) -> tuple[Factors, ...]:
    """5 n log2 n real operations for n complex numbers, half of it for real ones.

    The radix-2 algorithm's count (Cooley and Tukey 1965), which benchmarks use for every n (Frigo
    and Johnson 2005, section IV). They are element operations: no product of matrices is formed.
    """
    whole = max(op.first, op.out, key=prod)  # of real numbers, the half spectrum is smaller
    length = prod(whole[d] for d in op.get("dim", ()))
    real = "c2c" not in op.record.name
    operations = ceil((2.5 if real else 5) * length * log2(max(length, 2)))
    return ({"transforms": prod(whole) // max(length, 1), "operations of each": operations},)


def _search(names: str, elements: str, table: str) -> None:
    """Register a binary search among sorted numbers: comparisons for each element."""

    @register_steps(Family.OTHER, "search", names, how="binary search, log2 n")
    def _(op: Op) -> tuple[Factors, ...]:
        size = op.shape(table)[-1] if op.shape(table) else 1
        return (
            {
                "elements": op.shape(elements) if op.has(elements) else (),
                "comparisons of each": ceil(log2(size + 1)),
            },
        )


_search("bucketize", "self", "boundaries")
_search("searchsorted", "self", "sorted_sequence")
_search("isin", "elements", "test_elements")
