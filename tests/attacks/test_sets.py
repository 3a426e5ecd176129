from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.sets import RangeAttack, dataset_inference, range_score, share_used

World = Callable[..., tuple[Evidence, np.ndarray, Known]]

FEATURES = 5


def users(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """Heavy-tailed features, of which training moves the first two."""
    rows = rng.standard_t(4, size=(n, FEATURES))
    rows[:, :2] += shift
    return rows


def known_users(rng: np.random.Generator, shift: float = 1.0, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([users(rng, n, shift), users(rng, n)]), np.arange(2 * n) < n


def test_p_values_are_uniform_where_nothing_was_used() -> None:
    rng = np.random.default_rng(0)
    p_values = [dataset_inference(users(rng, 25), users(rng, 40), *known_users(rng)).p_value for _ in range(200)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.1


def test_a_collection_that_was_used_is_found() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        found = dataset_inference(users(rng, 60, 1.0), users(rng, 60), *known_users(rng))
        assert found.p_value < 0.01
        assert found.effect > 0.5
        assert (found.users, found.control_users) == (60, 60)


def test_a_collection_that_scores_lower_than_the_control_is_no_finding() -> None:
    rng = np.random.default_rng(2)
    found = dataset_inference(users(rng, 60, -1.0), users(rng, 60), *known_users(rng))
    assert found.p_value > 0.95
    assert found.effect < 0


def test_another_population_looks_like_use_and_the_docstring_says_so() -> None:
    """Nobody was trained on: the suspects merely come from users whose first features are higher."""
    rng = np.random.default_rng(3)
    shifted = users(rng, 60) + np.array([1.0, 1, 0, 0, 0])
    assert dataset_inference(shifted, users(rng, 60), *known_users(rng)).p_value < 0.01
    assert "same population" in (dataset_inference.__doc__ or "")


def test_one_absurd_user_does_not_decide() -> None:
    rng = np.random.default_rng(4)
    suspect, control, known = users(rng, 30, 1.0), users(rng, 30), known_users(rng)
    plain = dataset_inference(suspect, control, *known)
    control[0] = 1e9
    wild = dataset_inference(suspect, control, *known)
    assert wild.p_value < 0.01
    assert wild.effect == pytest.approx(plain.effect, abs=0.3)


def test_users_who_lack_a_feature_are_left_out_and_too_few_give_no_p_value() -> None:
    rng = np.random.default_rng(5)
    suspect, known = users(rng, 10, 1.0), known_users(rng)
    known[0][3] = np.nan
    suspect[2, 1] = np.nan
    assert dataset_inference(suspect, users(rng, 20), *known).users == 9
    few = dataset_inference(suspect[:1], users(rng, 20), *known)
    assert np.isnan([few.p_value, few.effect]).all()
    none = dataset_inference(suspect[:0], users(rng, 0), *known)
    assert np.isnan(none.p_value)
    assert (none.users, none.control_users) == (0, 0)


def one_score_each(rng: np.random.Generator, used: np.ndarray) -> np.ndarray:
    return rng.normal(size=len(used)) + 2.5 * used


@pytest.mark.parametrize("truth", [0.0, 0.3, 0.7, 1.0])
def test_the_share_of_a_cohort_that_was_used_is_found_and_covered(truth: float) -> None:
    rng = np.random.default_rng(int(100 * truth))
    member = np.arange(800) < 400
    errors, covered = [], []
    for _ in range(60):
        used = np.arange(600) < 600 * truth
        scores, known = one_score_each(rng, used), one_score_each(rng, member)
        found = share_used(scores, np.zeros(600, int), known, np.arange(800), member, 1.25)
        assert found.stable
        errors.append(abs(found.share[0] - truth))
        covered.append(found.lower[0] <= truth <= found.upper[0])
    assert max(errors) < 0.1
    assert np.mean(covered) >= 0.9


def test_few_known_users_make_the_interval_wider() -> None:
    rng = np.random.default_rng(0)
    scores = one_score_each(rng, np.arange(2_000) < 1_000)

    def width(known_users: int) -> float:
        member = np.arange(known_users) % 2 == 0
        known = one_score_each(np.random.default_rng(1), member)
        found = share_used(scores, np.zeros(2_000, int), known, np.arange(known_users), member, 1.25)
        return float(found.upper[0] - found.lower[0])

    assert width(40) > 2 * width(2_000)


def windows_of(rng: np.random.Generator, used: np.ndarray, person_spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of windows, (people, windows) of which are marked as used, and whose windows they are."""
    people, windows = used.shape
    scores = rng.normal(size=used.shape) + 2.5 * used + person_spread * rng.normal(size=(people, 1))
    return scores.reshape(-1), np.repeat(np.arange(people), windows)


@pytest.mark.parametrize("person_spread", [0.0, 0.7])
def test_the_share_of_a_person_s_history_is_covered_even_if_their_windows_are_alike(person_spread: float) -> None:
    rng = np.random.default_rng(3)
    member = np.arange(300) < 150
    known, known_user = windows_of(rng, np.repeat(member[:, None], 12, axis=1), person_spread)
    used = rng.random((600, 12)) < rng.choice([0.0, 0.3, 0.7, 1.0], (600, 1))
    scores, person = windows_of(rng, used, person_spread)
    found = share_used(scores, person, known, known_user, member, 1.25)
    truth = used.mean(axis=1)
    assert ((found.lower <= truth) & (truth <= found.upper)).mean() > 0.9
    assert np.corrcoef(found.share, truth)[0, 1] > 0.7


def test_windows_that_all_say_yes_are_no_certainty() -> None:
    rng = np.random.default_rng(4)
    member = np.arange(400) < 200
    found = share_used(np.full(4, 9.0), np.zeros(4, int), one_score_each(rng, member), np.arange(400), member, 1.25)
    assert found.share[0] == 1
    assert found.lower[0] < 0.9


def test_a_person_s_share_does_not_depend_on_who_else_is_asked_about() -> None:
    rng = np.random.default_rng(5)
    member = np.arange(200) < 100
    known, known_user = windows_of(rng, np.repeat(member[:, None], 5, axis=1), 0.3)
    scores, person = windows_of(rng, rng.random((50, 5)) < 0.5, 0.3)
    together = share_used(scores, person, known, known_user, member, 1.25)
    alone = share_used(scores[person == 7], np.zeros(5, int), known, known_user, member, 1.25)
    for ends in ("share", "lower", "upper"):
        assert getattr(alone, ends)[0] == pytest.approx(getattr(together, ends)[7], abs=1e-12)


def test_a_weak_indicator_is_refused() -> None:
    rng = np.random.default_rng(6)
    member = np.arange(1_000) < 500
    found = share_used(rng.normal(size=100), np.zeros(100, int), rng.normal(size=1_000), np.arange(1_000), member, 0.0)
    assert not found.stable
    assert np.isnan(found.share[0])
    assert (found.lower[0], found.upper[0]) == (0, 1)


def test_a_person_without_scores_has_no_share_but_the_widest_interval() -> None:
    rng = np.random.default_rng(7)
    member = np.arange(200) < 100
    scores = np.array([3.0, np.nan, 3.0])
    found = share_used(
        scores, np.array([0, 1, 0]), one_score_each(rng, member), np.arange(200), member, 1.25, collections=3
    )
    np.testing.assert_array_equal(np.isnan(found.share), [False, True, True])
    np.testing.assert_array_equal(found.lower[1:], 0)
    np.testing.assert_array_equal(found.upper[1:], 1)


def test_range_score_runs_from_the_mean_to_the_maximum() -> None:
    scores = np.array([[1.0, 5, 3, -7], [2, 2, 2, 2], [0, np.nan, 1, 1]])
    np.testing.assert_allclose(range_score(scores, 0)[:2], [0.5, 2])
    np.testing.assert_allclose(range_score(scores, 0.5)[:2], [4, 2])
    np.testing.assert_allclose(range_score(scores, 0.3)[:2], [3, 2])
    np.testing.assert_allclose(range_score(scores, 1)[:2], [5, 2])
    assert np.isnan(range_score(scores)[2])


def test_range_attack_is_target_minus_base_where_there_is_no_variant(world: World) -> None:
    audited, _, known = world(1.0)
    bare = replace(audited, views={name: audited.views[name] for name in ("target", "base")})
    expected = ATTACKS["target_minus_base"]().score(audited, known)
    np.testing.assert_allclose(RangeAttack().score(bare, known), expected)


def test_range_attack_finds_members_whose_exact_history_is_not_at_hand(world: World) -> None:
    """The auditor's own export is the wrong variant: what was trained on is one of the swapped histories."""
    audited, member, known = world(1.5)
    views = {**audited.views, "target": audited.views["base"], "target/history_swapped 1": audited.views["target"]}
    mistaken = replace(audited, views=views)

    def separation(scores: np.ndarray) -> float:
        return float((scores[:-1][member[:-1]].mean() - scores[:-1][~member[:-1]].mean()) / scores[:-1].std())

    exact = ATTACKS["target_minus_base"]().score(mistaken, known)
    assert np.nanmax(np.abs(exact)) == 0
    assert separation(RangeAttack().score(mistaken, known)) > 1
