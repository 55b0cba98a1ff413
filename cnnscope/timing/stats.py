"""Robust statistics of times, with confidence intervals that allow for autocorrelation.

Times of one program on one machine are neither normal nor independent: a neighbour that wakes up
slows twenty iterations in a row. So everything here is made of medians, and every interval is a
circular block bootstrap (Künsch 1989; Politis and Romano 1992), which draws whole stretches of
successive samples, or what that tends to where they are very many. Of few samples that all lie in
one spell of the machine no method can tell; so a difference is claimed only beyond a noise floor,
which the run itself raises where it is unsteady.
All functions are pure; times are nanoseconds, ratios plain numbers; random draws are seeded, so
that one set of samples always gives one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any

from cnnscope.records.bench import BenchStatistics, Histogram, Interval, Ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 1000  # enough for a 95 % interval (Efron and Tibshirani 1993, section 13.3)
BINS = 16
LEAST_SAMPLES = 6
NOISE_FLOOR = 0.01  # no smaller difference is claimed; criterion.rs has the same noise_threshold
UNSTABLE_DRIFT = 0.05
UNSTABLE_OUTLIERS = 0.05
_SEED = 20240229
_CHUNK = 2_000_000  # samples drawn at once, to bound memory
_MANY = 20_000  # samples from which on theory says what drawing would


def describe(samples: Sequence[int]) -> BenchStatistics:
    """The distribution of times.

    Quartiles and percentiles interpolate linearly between order statistics (Hyndman and Fan 1996,
    type 7). A percentile that too few samples support is None: see `supported`.
    """
    import numpy as np

    x = np.asarray(samples, dtype=np.float64)
    q1, median, q3 = (float(v) for v in np.quantile(x, (0.25, 0.5, 0.75)))
    block = block_length(x > median)
    return BenchStatistics(
        count=len(x),
        median_ns=median,
        interval=median_interval(x, block),
        mean_ns=float(x.mean()),
        min_ns=int(x.min()),
        max_ns=int(x.max()),
        q1_ns=q1,
        q3_ns=q3,
        p90_ns=_percentile(x, 0.90),
        p95_ns=_percentile(x, 0.95),
        p99_ns=_percentile(x, 0.99),
        drift=drift(x),
        outliers=outliers(x, q1, q3),
        block_length=block,
        histogram=histogram(x, q1, q3),
    )


def supported(count: int, quantile: float) -> bool:
    """Return True if `count` samples support an upper quantile.

    They do if a two-sided 95 % interval for it can be made of order statistics at all, whatever
    the distribution: the largest sample must lie above the quantile with probability 97.5 %, that
    is quantile ** count <= 0.025 (David and Nagaraja, Order Statistics, 2003, section 7.1). It
    takes 36 samples for p90, 72 for p95, 368 for p99.
    """
    return quantile**count <= (1 - CONFIDENCE) / 2


def _percentile(x: Floats, quantile: float) -> float | None:
    import numpy as np

    return float(np.quantile(x, quantile)) if supported(len(x), quantile) else None


def drift(x: Sequence[float] | Floats) -> float:
    """Median of the second half over that of the first, minus one."""
    import numpy as np

    half = len(x) // 2
    return float(np.median(x[-half:]) / np.median(x[:half]) - 1) if half else 0.0


def outliers(x: Sequence[float] | Floats, q1: float, q3: float) -> int:
    """Count the samples "far out": more than 3 IQR above the upper quartile (Tukey 1977, 2D).

    Where a coarse clock leaves no IQR, one percent of the quartile stands for it.
    """
    import numpy as np

    return int((np.asarray(x) > _fence(q1, q3)).sum())


def _fence(q1: float, q3: float) -> float:
    return q3 + 3 * max(q3 - q1, 0.01 * q3)


def block_length(above: Any) -> int:
    """Choose the block length of the bootstrap by the autocorrelation of the samples.

    What makes the median of a stationary series uncertain is the autocorrelation of "lies above
    the median" (Sen 1968). Twice its integrated time, summed while pairs of autocorrelations stay
    positive (Geyer 1992, section 3.3); at least the cube root of n, the rate that is best for a
    bootstrapped variance (Künsch 1989; Hall, Horowitz and Jing 1995), and few enough that 5
    blocks fit.

    Args:
        above: one boolean per sample.
    """
    import numpy as np

    n: int = len(above)
    sign = np.asarray(above, dtype=np.float64)
    sign -= sign.mean()
    variance = float(sign @ sign)
    time = 1.0
    if variance > 0:
        size = 1 << (2 * n - 1).bit_length()
        spectrum = np.fft.rfft(sign, size)
        rho = np.fft.irfft(spectrum * spectrum.conj(), size)[:n] / variance
        pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
        ends = np.flatnonzero(pairs <= 0)
        time = max(1.0, 2 * float(pairs[: ends[0] if len(ends) else None].sum()) - 1)
    wanted = max(2 * time, float(n) ** (1 / 3))
    return max(1, min(round(float(wanted)), n // 5))


def median_interval(x: Sequence[float] | Floats, block: int) -> Interval | None:
    """Percentile interval of the median (Efron 1979) over blocks, of the logarithms of times.

    None for fewer than 6 samples: even from the smallest to the largest they hold the median with
    a probability of only 1 - 2 * 0.5**n < 95 % (David and Nagaraja 2003, section 7.1).
    """
    import numpy as np

    if len(x) < LEAST_SAMPLES:
        return None
    logs = np.log(np.maximum(np.asarray(x, dtype=np.float64), 1))
    found = _resampled_medians(logs, block, np.random.default_rng(_SEED))
    between = _interval(found, float(np.median(logs)))
    return Interval(exp(between.low), exp(between.high), CONFIDENCE)


def _resampled_medians(x: Floats, block: int, random: np.random.Generator) -> Floats:
    """Medians of series as long as `x`, put together from blocks of it; its end meets its begin.

    They are spread about the median of `x` by sqrt(n / (n - block)) more than they come out: with
    n / block independent draws the variance is too small by that, as it is with n for n - 1.

    Of very many samples none are drawn: the share of them below the true median is normal about a
    half, with the variance that its means over blocks show, and the medians are the quantiles of
    `x` at such shares (Sen 1968; Bahadur 1966).
    """
    import numpy as np

    n = len(x)
    if n > _MANY:
        below = (x <= np.median(x))[: n - n % block].reshape(-1, block).mean(axis=1)
        shares = 0.5 + random.normal(size=RESAMPLES) * below.std(ddof=1) / sqrt(len(below))
        many: Floats = np.quantile(x, np.clip(shares, 0, 1))
        return many
    blocks = -(-n // block)
    medians: list[Floats] = []
    step = max(1, _CHUNK // n)
    for begin in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - begin)
        starts = random.integers(0, n, size=(rows, blocks, 1))
        index = ((starts + np.arange(block)) % n).reshape(rows, -1)[:, :n]
        medians.append(np.median(x[index], axis=1))
    centre = np.median(x)
    spread: Floats = centre + (np.concatenate(medians) - centre) * sqrt(n / max(n - block, 1))
    return spread


def _interval(medians: Floats, centre: float) -> Interval:
    """The middle 95 % of resampled medians, and at least the median itself."""
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return Interval(min(float(low), centre), max(float(high), centre), CONFIDENCE)


# ------------------------------------------------------------------------------ comparisons


def compare_rounds(base: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> Ratio:
    """Ratio of the times of `other` and `base`, measured in turns in the same rounds.

    Each round gives one ratio of medians; a slow spell of the machine hits both of its sides. The
    answer is the median of these ratios, and its interval draws blocks of rounds.

    Args:
        base: samples in ns, a sequence for each round.
        other: the same rounds of the other one.
    """
    import numpy as np

    logs = np.array(
        [
            log(float(np.median(b)) / float(np.median(a)))
            for a, b in zip(base, other, strict=False)
            if a and b
        ]
    )
    centre = float(np.median(logs))
    block = block_length(logs > centre)
    found = _resampled_medians(logs, block, np.random.default_rng(_SEED))
    floor = max(NOISE_FLOOR, _self_difference(base), _self_difference(other))
    return _ratio(centre, found, floor, len(logs))


def compare_runs(base: Sequence[int], other: Sequence[int]) -> Ratio:
    """Ratio of the times of `other` and `base`, measured at different times.

    Nothing pairs the samples, so each side is resampled alone, and the drift between the halves
    of either run, which is what time did to it, widens the noise floor.
    """
    import numpy as np

    random = np.random.default_rng(_SEED)
    centres, medians, drifts = [], [], []
    for samples in (base, other):
        x = np.log(np.asarray(samples, dtype=np.float64))
        centres.append(float(np.median(x)))
        medians.append(_resampled_medians(x, block_length(x > centres[-1]), random))
        drifts.append(abs(log(1 + drift(samples))))
    floor = max(NOISE_FLOOR, *drifts)
    count = min(len(base), len(other))
    return _ratio(centres[1] - centres[0], medians[1] - medians[0], floor, count)


def _self_difference(rounds: Sequence[Sequence[int]]) -> float:
    """By how much (as a logarithm) a program seems to differ from itself, round against round."""
    import numpy as np

    medians = [log(float(np.median(r))) for r in rounds if r]
    pairs = [b - a for a, b in zip(medians[::2], medians[1::2], strict=False)]
    return abs(float(np.median(pairs))) if pairs else 0.0


def _ratio(centre: float, logs: Floats, floor: float, count: int) -> Ratio:
    between = _interval(logs, centre)
    verdict = "no difference visible"
    if count < LEAST_SAMPLES:
        verdict = "too few samples"
    elif between.low > floor:
        verdict = "slower"
    elif between.high < -floor:
        verdict = "faster"
    interval = Interval(exp(between.low), exp(between.high), CONFIDENCE)
    return Ratio(exp(centre), interval, exp(floor) - 1, verdict)


def histogram(x: Sequence[float] | Floats, q1: float, q3: float) -> Histogram:
    """From the fastest sample to the far-out fence, or to the slowest if that comes first."""
    import numpy as np

    values = np.asarray(x, dtype=np.float64)
    low = float(values.min())
    high = max(min(float(values.max()), _fence(q1, q3)), low + 1)
    counts, _ = np.histogram(np.minimum(values, high), bins=BINS, range=(low, high))
    return Histogram(low, high, tuple(int(c) for c in counts))
