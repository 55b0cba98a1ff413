"""Statistics of times: intervals, drift, outliers, and verdicts of comparisons."""

import numpy as np
import pytest

from cnnscope.errors import RequestError
from cnnscope.timing import compare, stats


def noise(size, phi, spread, seed):
    """Autocorrelated noise (AR(1) with factor phi): a machine that is slow for a while."""
    random = np.random.default_rng(seed)
    shocks = random.normal(0, spread * np.sqrt(1 - phi**2), size)
    values = [random.normal(0, spread)]
    for shock in shocks[1:]:
        values.append(phi * values[-1] + shock)
    return np.array(values)


# ------------------------------------------------------------------------------ statistics


def test_median_and_quartiles_interpolate_between_samples():
    # of 1..10, type 7: position 9 * q, so q1 = 3.25, median 5.5, q3 = 7.75
    s = stats.describe(range(10, 0, -1))
    assert (s.count, s.median_ns, s.q1_ns, s.q3_ns) == (10, 5.5, 3.25, 7.75)
    assert (s.min_ns, s.max_ns, s.mean_ns) == (1, 10, 5.5)


@pytest.mark.parametrize(("quantile", "least"), [(0.90, 36), (0.95, 72), (0.99, 368)])
def test_percentiles_need_samples(quantile, least):
    # ln(0.025)/ln(0.9) = 35.01, ln(0.025)/ln(0.95) = 71.9, ln(0.025)/ln(0.99) = 367.04
    assert stats.supported(least, quantile)
    assert not stats.supported(least - 1, quantile)


def test_p99_is_left_out_where_samples_are_few():
    assert stats.describe(range(1, 368)).p99_ns is None
    # of 1..368: position 367 * 0.99 = 363.33, the values begin at 1
    assert stats.describe(range(1, 369)).p99_ns == pytest.approx(364.33)


@pytest.mark.broad
def test_interval_of_the_median_holds_the_median_nineteen_times_in_twenty():
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        interval = stats.describe(random.exponential(1e6, 50).astype(int) + 1_000_000).interval
        inside += interval.low <= 1_000_000 + 1e6 * np.log(2) <= interval.high
    assert inside >= 180


def test_autocorrelated_samples_have_wider_intervals_than_independent_ones():
    slow = 1e7 * np.exp(noise(400, 0.95, 0.05, seed=1))
    shuffled = np.random.default_rng(2).permutation(slow)
    one, other = (stats.describe(x.astype(int)).interval for x in (slow, shuffled))
    assert one.high - one.low > 1.5 * (other.high - other.low)


def test_blocks_are_as_long_as_the_memory_of_the_samples():
    # AR(1) with factor 0.9: the integrated time of the values is (1 + 0.9)/(1 - 0.9) = 19
    free, bound = noise(1000, 0, 1, seed=4), noise(1000, 0.9, 1, seed=4)
    assert stats.block_length(free > 0) == 10  # the cube root of 1000
    assert 15 <= stats.block_length(bound > 0) <= 60


def test_too_few_samples_have_no_interval():
    # 5 samples hold the median between them with probability 1 - 2/32 = 93.75 %
    assert stats.describe([5, 4, 3, 2, 1]).interval is None
    assert stats.describe([6, 5, 4, 3, 2, 1]).interval is not None
    assert stats.describe([7]).median_ns == 7


@pytest.mark.broad
@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_very_many_samples_have_the_interval_that_drawing_gives(monkeypatch, phi):
    samples = (1e5 * np.exp(noise(30_000, phi, 0.1, seed=6))).astype(int)
    block = stats.block_length(samples > np.median(samples))
    told = stats.median_interval(samples, block)
    monkeypatch.setattr(stats, "_MANY", len(samples))
    drawn = stats.median_interval(samples, block)
    assert told.high - told.low == pytest.approx(drawn.high - drawn.low, rel=0.15)
    assert told.low == pytest.approx(drawn.low, rel=0.001)
    assert told.high == pytest.approx(drawn.high, rel=0.001)


def test_an_interval_of_times_is_never_below_zero():
    # nine fast samples, and six that stalled in one spell
    interval = stats.describe([10] * 5 + [10_000] * 6 + [10] * 4).interval
    assert 0 < interval.low <= 10.001
    assert interval.high >= 9.999


def test_drift_is_the_second_half_over_the_first():
    assert stats.drift([100, 100, 100, 110, 110, 110]) == pytest.approx(0.1)
    assert stats.drift([100]) == 0


def test_outliers_lie_three_interquartile_ranges_above():
    # q1 100, q3 104, IQR 4: the fence is 116
    assert stats.outliers([100, 101, 104, 116, 117, 500], 100, 104) == 2
    # without an IQR, 3 times one percent: 103
    assert stats.outliers([100, 100, 102, 104], 100, 100) == 1


def test_histogram_counts_every_sample_once():
    samples = [100] * 10 + [101] * 5 + [107] * 5 + [10_000]
    h = stats.describe(samples).histogram
    assert sum(h.counts) == len(samples)
    assert len(h.counts) == stats.BINS
    assert h.counts[-1] == 1  # far out, and in the last bin nevertheless
    assert h.low_ns == 100


def test_the_same_samples_give_the_same_answer():
    samples = [int(v) for v in np.random.default_rng(5).integers(100, 200, 300)]
    assert stats.describe(samples) == stats.describe(samples)


def rounds_of(logs, own, size, seed):
    """Samples of a program in rounds, of which each has a machine as slow as `logs` says."""
    random = np.random.default_rng(seed)
    return [(1e7 * np.exp(x + random.normal(0, own, size))).astype(int).tolist() for x in logs]


def verdicts(factor, turns=60, spells=0.1):
    found = []
    for seed in range(turns):
        machine_state = noise(60, 0.9, spells, seed)
        base = rounds_of(machine_state[::2], 0.02, 4, 2 * seed)
        other = rounds_of(machine_state[1::2] + np.log(factor), 0.02, 4, 2 * seed + 1)
        found.append(stats.compare_rounds(base, other).verdict)
    return found


def test_a_program_does_not_differ_from_itself_on_an_unsteady_machine():
    # at least 95 in 100: of 60, at most 3 may be wrong
    assert verdicts(1.0).count("no difference visible") >= 57


def test_a_tenth_more_is_seen_on_an_unsteady_machine():
    # at least 90 in 100: of 60, at least 54
    assert verdicts(1.1).count("slower") >= 54
    assert verdicts(1 / 1.1).count("faster") >= 54


def test_ratio_and_interval_of_rounds():
    # each round's ratio is exactly 1.25, whatever the machine did
    base = [[100 * n, 100 * n] for n in range(1, 21)]
    other = [[125 * n, 125 * n] for n in range(1, 21)]
    r = stats.compare_rounds(base, other)
    assert r.ratio == pytest.approx(1.25)
    assert (r.interval.low, r.interval.high) == (pytest.approx(1.25), pytest.approx(1.25))


def test_less_than_the_noise_floor_is_no_difference():
    base = [[10_000]] * 20
    assert stats.compare_rounds(base, [[10_050]] * 20).verdict == "no difference visible"
    assert stats.compare_rounds(base, [[10_200]] * 20).verdict == "slower"
    assert stats.compare_rounds(base, [[9_800]] * 20).verdict == "faster"


def test_a_program_that_differs_from_itself_raises_the_noise_floor():
    # every second round of the base takes a fifth longer than the one before it
    base = [[100_000], [120_000]] * 10
    other = [[115_000], [138_000]] * 10
    r = stats.compare_rounds(base, other)
    assert r.noise_floor == pytest.approx(0.2)
    assert r.verdict == "no difference visible"


def test_few_rounds_have_no_verdict():
    assert stats.compare_rounds([[10]] * 5, [[20]] * 5).verdict == "too few samples"


def test_runs_of_different_times_are_compared_by_their_medians():
    base = [1000 + i % 7 for i in range(100)]
    assert stats.compare_runs(base, base).verdict == "no difference visible"
    r = stats.compare_runs(base, [2 * v for v in base])
    assert (r.verdict, r.ratio) == ("slower", pytest.approx(2))


def test_drift_within_a_saved_run_raises_the_noise_floor():
    # the second half of the base is a quarter slower than the first
    drifting = [1000] * 50 + [1250] * 50
    r = stats.compare_runs(drifting, [1300] * 100)
    assert r.noise_floor == pytest.approx(0.25)
    assert r.verdict == "no difference visible"


# ------------------------------------------------------------------------------ comparisons


def test_a_file_that_is_no_run_is_refused():
    for data in (b"", b"[]", b"{}", b'{"runs": 3}', b"\xff"):
        with pytest.raises(RequestError, match="not a run that"):
            compare.read(data, "x.json")
