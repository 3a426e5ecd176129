import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mia_core.evaluate.calibration import FEWEST, conservative_p_value, mondrian_p_values, p_values, share_below, strata


def judged(scores: list[float], calibration: list[float], index: list[int] | None = None, seed: int = 0) -> np.ndarray:
    places = None if index is None else np.array(index)
    return p_values(np.array(scores), np.array(calibration), places, np.random.default_rng(seed))


def test_the_smallest_p_value_is_one_in_n_plus_one() -> None:
    assert judged([9.0, -9.0], list(range(9))).tolist() == [0.1, 1.0]


def test_higher_scores_have_lower_p_values() -> None:
    values = judged([1.5, 5.5, 8.5], list(range(9)))
    assert values[0] > values[1] > values[2]


def test_a_calibration_user_is_judged_against_the_others() -> None:
    calibration = [0.0, 1.0, 2.0, 3.0]
    assert judged(calibration, calibration, [0, 1, 2, 3]).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_users_without_a_score_get_none_and_do_not_count() -> None:
    values = judged([math.nan, 3.0], [1.0, math.nan, 2.0], [1, -1])
    assert math.isnan(values[0])
    assert values[1] == pytest.approx(1 / 3)


def test_nobody_to_compare_with_is_no_p_value() -> None:
    assert np.isnan(judged([1.0], [])).all()
    assert np.isnan(judged([1.0], [1.0], [0])).all()
    assert math.isnan(conservative_p_value(1.0, np.array([math.nan])))
    assert math.isnan(share_below(1.0, np.array([])))


@pytest.mark.parametrize("decimals", [0, 6])
def test_p_values_of_held_out_users_are_uniform(decimals: int) -> None:
    """One new held-out user per simulated world, so that the p-values are independent; many ties when rounded."""
    rng = np.random.default_rng(3)
    n = 40
    worlds = rng.normal(size=(1500, n + 1)).round(decimals)
    values = np.array([p_values(world[:1], world[1:], None, rng)[0] for world in worlds])
    counts = np.bincount((values * (n + 1)).round().astype(int) - 1, minlength=n + 1)
    assert stats.chisquare(counts).pvalue > 0.001
    assert stats.kstest(values - rng.random(1500) / (n + 1), "uniform").pvalue > 0.001


def test_ties_are_broken_at_random_by_the_given_generator() -> None:
    tied = judged([1.0] * 4000, [1.0] * 9)
    assert set(tied.round(6)) == {round(k / 10, 6) for k in range(1, 11)}
    assert tied.mean() == pytest.approx(0.55, abs=0.02)
    assert (tied == judged([1.0] * 4000, [1.0] * 9)).all()


@given(st.integers(0, 5), st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_a_single_lookup_is_never_more_daring(score: int, calibration: list[int], seed: int) -> None:
    careful = conservative_p_value(score, np.array(calibration))
    assert careful >= judged([score], calibration, seed=seed)[0] - 1e-12
    ranks_above = sum(other >= score for other in calibration)
    assert careful * (len(calibration) + 1) == pytest.approx(1 + ranks_above)


def test_share_below_counts_strictly_lower_scores() -> None:
    assert share_below(2.0, np.array([1.0, 2.0, 3.0, 0.0, math.nan])) == 0.5


def test_mondrian_p_values_count_the_users_of_the_same_stratum_only() -> None:
    """The oracle walks through the calibration users one by one; no two scores are equal."""
    rng = np.random.default_rng(1)
    calibration, kind = rng.normal(size=90), rng.integers(0, 3, 90)
    scores, judged_kind = rng.normal(size=20), rng.integers(0, 3, 20)
    found = mondrian_p_values(scores, calibration, judged_kind, kind, None, rng)
    for p, score, mine in zip(found, scores, judged_kind, strict=True):
        same = [other for other, its in zip(calibration, kind, strict=True) if its == mine]
        assert p == pytest.approx((1 + sum(other > score for other in same)) / (len(same) + 1))


@pytest.mark.parametrize("decimals", [1, 12])
def test_p_values_are_those_of_crepes_overall_and_within_strata(decimals: int) -> None:
    """Strangeness is the score; a lookup counts ties as crepes does without smoothing, an audit between its two ends."""
    from crepes import ConformalClassifier

    rng = np.random.default_rng(8)
    calibration, kind = rng.normal(size=150).round(decimals), rng.integers(0, 3, 150)
    scores, judged_kind = rng.normal(1, 1, 40).round(decimals), rng.integers(0, 3, 40)
    for bins, judged_bins in ((np.zeros(150, int), np.zeros(40, int)), (kind, judged_kind)):
        oracle = ConformalClassifier().fit(calibration, bins=bins)
        highest = oracle.predict_p(scores[:, None], bins=judged_bins, smoothing=False)[:, 0]
        lookups = [
            conservative_p_value(score, calibration[bins == mine])
            for score, mine in zip(scores, judged_bins, strict=True)
        ]
        assert lookups == pytest.approx(highest)
        found = mondrian_p_values(scores, calibration, judged_bins, bins, None, rng)
        just_above = oracle.predict_p(scores[:, None] + 1e-9, bins=judged_bins, smoothing=False)[:, 0]
        assert (found <= highest + 1e-12).all()
        assert (found >= just_above - 1e-12).all()
        if decimals == 12:
            assert found == pytest.approx(highest)


def test_one_stratum_is_no_stratum() -> None:
    rng = np.random.default_rng(2)
    scores, index = rng.normal(size=50), np.arange(50)
    everywhere = mondrian_p_values(
        scores, scores, np.zeros(50, int), np.zeros(50, int), index, np.random.default_rng(0)
    )
    assert (everywhere == p_values(scores, scores, index, np.random.default_rng(0))).all()


def test_calibration_users_of_each_stratum_are_judged_among_themselves() -> None:
    """Scores depend on the stratum alone, nearly; each stratum gets every p-value once all the same."""
    rng = np.random.default_rng(3)
    kind = np.repeat([0, 1], 30)
    scores = 100 * kind + rng.normal(size=60)
    found = mondrian_p_values(scores, scores, kind, kind, np.arange(60), rng)
    for stratum in (0, 1):
        assert np.sort(found[kind == stratum]) == pytest.approx(np.arange(1, 31) / 30)
    assert p_values(scores, scores, np.arange(60), rng)[kind == 1].max() <= 0.5


def test_a_thin_stratum_is_compared_with_everybody() -> None:
    rng = np.random.default_rng(4)
    kind = np.r_[np.zeros(60, int), np.ones(FEWEST - 1, int)]
    calibration = rng.normal(size=len(kind))
    judged_kind = np.array([1, 1, 0, 7])
    scores = np.array([0.3, math.nan, 0.3, 0.3])
    found = mondrian_p_values(scores, calibration, judged_kind, kind, None, rng)
    assert found[0] == found[3] == p_values(scores[:1], calibration, None, rng)[0]
    assert math.isnan(found[1])
    assert found[2] == p_values(scores[:1], calibration[:60], None, rng)[0]
    gaps = np.where(np.arange(len(kind)) < 45, math.nan, calibration)
    assert mondrian_p_values(scores[2:3], gaps, kind[:1], kind, None, rng) == p_values(scores[2:3], gaps, None, rng)
    assert np.isnan(mondrian_p_values(scores, np.array([]), judged_kind, np.array([], int), None, rng)).all()


def test_mondrian_p_values_of_held_out_users_are_uniform_within_every_stratum() -> None:
    rng = np.random.default_rng(5)
    kind = np.repeat([0, 1], 40)
    values: list[list[float]] = [[], []]
    for _ in range(800):
        calibration, new = rng.normal(size=80) * (1 + 3 * kind), rng.normal(size=2) * np.array([1, 4])
        for stratum, p in enumerate(mondrian_p_values(new, calibration, np.array([0, 1]), kind, None, rng)):
            values[stratum].append(p)
    for stratum in (0, 1):
        assert stats.kstest(np.array(values[stratum]) - rng.random(800) / 41, "uniform").pvalue > 0.001


def test_strata_are_terciles_of_popularity_within_terciles_of_length() -> None:
    rng = np.random.default_rng(6)
    length, popularity = rng.random(900), rng.random(900)
    found = strata(length, popularity)
    assert np.bincount(found).tolist() == [100] * 9
    for third in range(3):
        assert length[found // 3 == third].max() <= length[found // 3 > third].min(initial=2)
        of_length = found // 3 == third
        assert popularity[of_length & (found % 3 == 0)].max() < popularity[of_length & (found % 3 == 1)].min()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=120), st.integers(1, 4))
def test_strata_are_never_thin_and_equal_users_share_one(users: list[tuple[int, int]], bins: int) -> None:
    length, popularity = np.array([a for a, _ in users], float), np.array([b for _, b in users], float)
    found = strata(length, popularity, bins)
    assert found.shape == length.shape
    if users:
        sizes = np.bincount(found)
        assert sizes.min() >= min(FEWEST, len(users))
        assert len(sizes) <= bins * bins
    for pair in set(users):
        assert len({stratum for stratum, user in zip(found, users, strict=True) if user == pair}) == 1


def test_strata_hold_enough_calibration_users_where_only_these_count() -> None:
    rng = np.random.default_rng(7)
    length, popularity, calibrating = rng.random(300), rng.random(300), rng.random(300) < 0.4
    assert np.bincount(strata(length, popularity)[calibrating]).min() < FEWEST
    found = strata(length, popularity, calibrating=calibrating)
    assert np.bincount(found[calibrating]).min() >= FEWEST
    assert found.max() >= 2
