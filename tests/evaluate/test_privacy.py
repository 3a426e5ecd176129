import math

import numpy as np
import pytest
from scipy import special, stats

from mia_core.evaluate.privacy import (
    epsilon_clopper_pearson,
    epsilon_f_dp,
    epsilon_of_guesses,
    epsilon_one_run,
    gaussian_epsilon,
    mu_of_guesses,
)

BOUNDS = [epsilon_clopper_pearson, epsilon_one_run, epsilon_f_dp]


def world(n: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.5
    return rng.normal(size=n) + shift * truth, truth


def rng() -> np.random.Generator:
    return np.random.default_rng(9)


@pytest.mark.parametrize(
    ("users", "guesses", "correct", "epsilon"),
    [(1000, 100, 90, 1.63), (1000, 100, 95, 2.17), (1000, 100, 100, 3.49), (1000, 1000, 600, 0.30)],
)
def test_guesses_in_one_run_have_their_table(users: int, guesses: int, correct: int, epsilon: float) -> None:
    assert epsilon_of_guesses(correct, guesses, users, 0.0, 0.95) == pytest.approx(epsilon, abs=0.005)


def slow_surprise(epsilon: float, correct: int, guesses: int, users: int, delta: float) -> float:
    """P[at least so many right] if every guess is right with chance σ(ε), and what δ adds, written out."""
    right = 1 / (1 + math.exp(-epsilon))
    chance = [math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(guesses + 1)]
    added = max([sum(chance[correct - i : correct]) / i for i in range(1, correct + 1)], default=0.0)
    return sum(chance[correct:]) + 2 * users * delta * added


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize(("correct", "guesses"), [(20, 20), (33, 40), (28, 40)])
def test_at_the_bound_the_guesses_are_just_surprising_enough(correct: int, guesses: int, delta: float) -> None:
    epsilon = epsilon_of_guesses(correct, guesses, 200, delta, 0.95)
    assert slow_surprise(epsilon, correct, guesses, 200, delta) == pytest.approx(0.05, abs=1e-6) or epsilon == 0
    if epsilon == 0:
        assert slow_surprise(0, correct, guesses, 200, delta) >= 0.05


def test_no_bound_follows_from_no_more_than_chance() -> None:
    assert epsilon_of_guesses(50, 100, 1000, 0.0, 0.95) == 0
    assert epsilon_of_guesses(0, 0, 1000, 0.0, 0.95) == 0
    assert mu_of_guesses(50, 100, 1000, 0.95) == 0
    assert mu_of_guesses(0, 100, 1000, 0.95) == 0


def test_more_right_guesses_and_more_of_them_raise_every_bound() -> None:
    for bound in (
        lambda v, r: epsilon_of_guesses(v, r, 1000, 1e-5, 0.95),
        lambda v, r: mu_of_guesses(v, r, 1000, 0.95),
    ):
        values = [bound(correct, 100) for correct in (55, 65, 75, 85, 95, 100)]
        assert values == sorted(values)
        assert bound(450, 500) > bound(90, 100)


def test_a_larger_delta_explains_more() -> None:
    values = [epsilon_of_guesses(90, 100, 1000, delta, 0.95) for delta in (0, 1e-5, 1e-4, 1e-3)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("mu", [0.1, 0.5, 1.0, 3.0, 10.0])
def test_epsilon_of_a_gaussian_mechanism_is_what_google_dp_accounting_computes(mu: float, delta: float) -> None:
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    mechanism = GaussianPrivacyLoss(standard_deviation=1 / mu)
    assert mechanism.get_delta_for_epsilon(gaussian_epsilon(mu, delta)) == pytest.approx(delta, rel=1e-6)


def test_epsilon_of_a_gaussian_mechanism_at_its_ends() -> None:
    assert gaussian_epsilon(0, 1e-5) == 0
    assert gaussian_epsilon(1, 0) == math.inf
    assert gaussian_epsilon(0.1, 0.5) == 0
    values = [gaussian_epsilon(mu, 1e-9) for mu in (1e-3, 0.01, 0.1, 1, 10, 49)]
    assert values == sorted(values)


def slow_minimal_shares(mu: float, correct: int, guesses: int, risk: float) -> float:
    """Least share of guesses that a mechanism with this μ must make for so many to be right with chance `risk`."""
    right, wrong = risk * correct / guesses, risk * (guesses - correct) / guesses
    for i in reversed(range(correct)):
        needed = stats.norm.cdf(stats.norm.ppf(right) - mu)
        if needed > wrong:
            chance_of_exactly_i = (needed - wrong) * guesses / (guesses - i)
            right, wrong = right + chance_of_exactly_i * i / guesses, needed
    return float(right + wrong)


@pytest.mark.parametrize(("correct", "guesses"), [(90, 100), (60, 60), (140, 200)])
def test_gaussian_bound_lies_between_what_can_and_what_cannot_explain_the_guesses(correct: int, guesses: int) -> None:
    mu = mu_of_guesses(correct, guesses, guesses, 0.95)
    assert slow_minimal_shares(mu * 1.001, correct, guesses, 0.05) <= 1
    assert slow_minimal_shares(mu * 0.999, correct, guesses, 0.05) > 1


@pytest.mark.parametrize(("n", "ceiling"), [(500, 4.9), (3000, 6.7)])
def test_perfect_separation_has_its_ceiling(n: int, ceiling: float) -> None:
    truth = np.arange(2 * n) < n
    fixed = epsilon_clopper_pearson(truth * 1.0, truth, 0.0, 0.95, rng(), threshold=0.5)
    assert fixed.epsilon == pytest.approx(ceiling, abs=0.05)
    assert f"{n:,} of {n:,} members and 0 of {n:,}" in fixed.sentence
    tried = epsilon_clopper_pearson(truth * 1.0, truth, 0.0, 0.95, rng()).epsilon
    assert fixed.epsilon - 0.4 < tried < fixed.epsilon


def test_a_fixed_threshold_has_exact_limits() -> None:
    scores, truth = world(800, 1.5)
    hits, alarms = int((scores[truth] >= 2).sum()), int((scores[~truth] >= 2).sum())
    tpr = stats.beta.ppf(0.025, hits, truth.sum() - hits + 1)
    fpr = stats.beta.ppf(0.975, alarms + 1, (~truth).sum() - alarms)
    found = epsilon_clopper_pearson(scores, truth, 0.01, 0.95, rng(), threshold=2.0)
    assert found.epsilon == pytest.approx(math.log((tpr - 0.01) / fpr))


@pytest.mark.parametrize(
    ("hits", "alarms", "users", "delta", "clopper_pearson", "one_run", "f_dp"),
    [
        (60, 3, 200, 1e-5, 1.703629, 2.002617, 3.306576),
        (90, 10, 500, 1e-3, 1.389107, 0.388474, 1.691953),
        (150, 20, 300, 1e-2, 1.452452, 0.0, 1.343278),
        (20, 12, 200, 1e-5, 0.0, 0.0, 0.0),
    ],
)
def test_the_bounds_are_what_jax_privacy_computes(
    hits: int, alarms: int, users: int, delta: float, clopper_pearson: float, one_run: float, f_dp: float
) -> None:
    """Its CanaryScoreAuditor with an explicit threshold, version 2.0.0: constants, for it brings JAX along."""
    truth = np.arange(2 * users) < users
    scores = np.zeros(2 * users)
    scores[:hits] = scores[users : users + alarms] = 1
    guesses = [(hits + alarms, 0)]
    found = epsilon_clopper_pearson(scores, truth, delta, 0.95, rng(), threshold=0.5)
    assert found.epsilon == pytest.approx(clopper_pearson, abs=1e-6)
    assert epsilon_one_run(scores, truth, delta, 0.95, rng(), guesses).epsilon == pytest.approx(one_run, abs=1e-5)
    # The search for mu stops on the safe side, less than a thousandth below.
    assert epsilon_f_dp(scores, truth, delta, 0.95, rng(), guesses).epsilon == pytest.approx(f_dp - 5e-4, abs=5e-4)


@pytest.mark.parametrize("bound", BOUNDS)
def test_pure_noise_and_a_wrong_sign_have_no_bound(bound) -> None:
    found = [bound(*world(400, 0, seed), 1e-5, 0.95, rng()).epsilon > 0 for seed in range(60)]
    assert sum(found) <= 6
    scores, truth = world(400, 3)
    assert bound(-scores, truth, 1e-5, 0.95, rng()).epsilon == 0
    assert "no evidence of safety" in bound(-scores, truth, 1e-5, 0.95, rng()).sentence


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_stronger_attack_gives_a_higher_bound_below_the_truth(bound) -> None:
    found = [bound(*world(4000, mu), 1e-5, 0.95, rng()).epsilon for mu in (0.5, 1, 2)]
    assert found == sorted(found)
    assert all(0 < value < gaussian_epsilon(mu, 1e-5) for value, mu in zip(found[1:], (1, 2), strict=True))


@pytest.mark.parametrize("bound", BOUNDS)
def test_equal_scores_never_leak_the_order_of_the_file(bound) -> None:
    """Members first: a sort that keeps the file's order would guess every one of them."""
    truth = np.arange(600) < 300
    assert max(bound(np.zeros(600), truth, 0.0 if bound is not epsilon_f_dp else 1e-5, 0.95, rng()).epsilon, 0) == 0


@pytest.mark.parametrize("bound", BOUNDS)
def test_nothing_depends_on_the_scale_or_on_users_without_scores(bound) -> None:
    scores, truth = world(500, 1.5)
    before = bound(scores, truth, 1e-5, 0.95, rng())
    assert bound(np.exp(scores), truth, 1e-5, 0.95, rng()) == before
    gaps = bound(np.r_[scores, [math.nan] * 50], np.r_[truth, [True] * 50], 1e-5, 0.95, rng())
    assert gaps.epsilon == pytest.approx(before.epsilon, abs=0.1)


@pytest.mark.parametrize("bound", BOUNDS)
def test_users_of_one_kind_or_none_give_no_bound(bound) -> None:
    assert bound(np.zeros(0), np.zeros(0, bool), 1e-5, 0.95, rng()).epsilon == 0
    assert bound(np.arange(30.0), np.zeros(30, bool), 1e-5, 0.95, rng()).epsilon == 0


def test_one_run_guesses_the_ends_of_the_ranking() -> None:
    scores, truth = np.arange(1000.0), np.arange(1000) >= 500
    found = epsilon_one_run(scores, truth, 0.0, 0.95, rng(), [(70, 30)])
    assert found.epsilon == pytest.approx(3.493, abs=0.001)
    assert "100 of 100 guesses were right" in found.sentence
    several = epsilon_one_run(scores, truth, 0.0, 0.95, rng(), [(70, 30), (10, 0)])
    assert several.epsilon == pytest.approx(epsilon_of_guesses(100, 100, 1000, 0.0, 0.975))
    assert epsilon_one_run(scores, truth, 0.0, 0.95, rng(), [(900, 200)]).epsilon == 0


def test_randomised_response_is_bounded_by_its_own_epsilon() -> None:
    """Each user's score is her membership, told truthfully with chance σ(ε)."""
    generator = np.random.default_rng(4)
    truth = generator.random(4000) < 0.5
    scores = np.where(generator.random(4000) < special.expit(2.0), truth, ~truth).astype(float)
    for bound in (epsilon_clopper_pearson, epsilon_one_run):
        assert 1.0 < bound(scores, truth, 0.0, 0.95, rng()).epsilon < 2.0
