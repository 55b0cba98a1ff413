"""Boxes, sorting, searching and Fourier transforms."""

from math import ceil, log2, prod

from cnnscope.ops.entry import Entry, Factors, Family, Formula, Kind, enter, per_output
from cnnscope.ops.fields import sequences
from cnnscope.ops.operation import Op


def _roi_steps(op: Op) -> tuple[Factors, ...]:
    """Four taps (multiply, add) for each sampling point of each bin (He et al. 2017, 3)."""
    ratio = op.get("sampling_ratio", 0)
    points = ratio * ratio if ratio > 0 else 4
    return ({"output elements": op.out, "steps for each sampling point": 8, "points": points},)


enter(
    "torchvision.roi_align torchvision.ps_roi_align",
    Entry(
        "roi align",
        Kind.ELEMENT,
        Family.REGION_POOL,
        steps=_roi_steps,
        how="multiply and add for each of four taps",
    ),
)
per_output(
    "roi pool",
    1,
    "torchvision.roi_pool torchvision.ps_roi_pool",
    None,
    family=Family.REGION_POOL,
)


def _nms_steps(op: Op) -> tuple[Factors, ...]:
    """At most every pair of boxes is compared: 4 bounds, 2 sides, areas, ratio (9 steps)."""
    boxes = op.shape("dets")[0]
    return ({"steps for each pair": 9, "pairs of boxes": boxes * (boxes - 1) // 2},)


def _sort_steps(op: Op) -> tuple[Factors, ...]:
    """Comparisons of a merge sort, n log2 n."""
    size = prod(op.first)
    return ({"elements": op.first, "comparisons of each": ceil(log2(size)) if size > 1 else 0},)


enter(
    "torchvision.nms",
    Entry(
        "nms",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_nms_steps,
        how="bounds, sides, areas and ratio, at most",
    ),
)
enter(
    "_unique2 unique_dim",
    Entry("sort", Kind.ELEMENT, Family.OTHER, steps=_sort_steps, how="merge sort, n log2 n"),
)
enter(
    "sort argsort topk kthvalue mode",
    Entry(
        "sort",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_sort_steps,
        field=sequences.ordered,
        how="merge sort, n log2 n",
    ),
)
enter(
    "msort",
    Entry("sort", Kind.ELEMENT, Family.OTHER, steps=_sort_steps, how="merge sort, n log2 n"),
)


def _transform_steps(op: Op) -> tuple[Factors, ...]:
    """5 n log2 n real operations for n complex numbers, half of it for real ones.

    The radix-2 algorithm's count (Cooley and Tukey 1965), which benchmarks use for every n (Frigo
    and Johnson 2005, section IV). They are element operations: no product of matrices is formed.
    """
    whole = max(op.first, op.out, key=prod)  # of real numbers, the half spectrum is smaller
    length = prod(whole[d] for d in op.get("dim", ()))
    real = "c2c" not in op.record.name
    operations = ceil((2.5 if real else 5) * length * log2(max(length, 2)))
    return ({"transforms": prod(whole) // max(length, 1), "operations of each": operations},)


enter(
    "_fft_r2c _fft_c2c _fft_c2r",
    Entry(
        "fourier transform",
        Kind.ELEMENT,
        Family.OTHER,
        steps=_transform_steps,
        field=sequences.transform,
        how="5 n log2 n for n complex numbers, 2.5 n log2 n for real ones",
    ),
)


def _searches(elements: str, table: str) -> Formula:
    """Comparisons of a binary search among sorted numbers for each element."""

    def count(op: Op) -> tuple[Factors, ...]:
        size = op.shape(table)[-1] if op.shape(table) else 1
        return (
            {
                "elements": op.shape(elements) if op.has(elements) else (),
                "comparisons of each": ceil(log2(size + 1)),
            },
        )

    return count


for _names, _formula in (
    ("bucketize", _searches("self", "boundaries")),
    ("searchsorted", _searches("self", "sorted_sequence")),
    ("isin", _searches("elements", "test_elements")),
):
    enter(
        _names,
        Entry("search", Kind.ELEMENT, Family.OTHER, steps=_formula, how="binary search, log2 n"),
    )
