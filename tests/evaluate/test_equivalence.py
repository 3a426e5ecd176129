"""Verdicts on forgetting in simulated worlds whose truth is known."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from mia_core.evaluate.equivalence import Judgement, contrast, exchange_test, judge, unevenness

Models = Callable[..., np.ndarray]
LEVEL, NOISE = 0.06, 0.2
"""Standard deviations between trainings: of a model as a whole, and of single scores."""


def worlds(count: int, seeds: int = 5, n: int = 20, level: float = LEVEL) -> Iterator[tuple[Models, np.ndarray]]:
    """For each world: what makes models whose scores are shifted, and how much of each user is remembered."""
    for number in range(count):
        rng = np.random.default_rng(number)
        users = rng.normal(0, 0.8, n)
        memory = np.maximum(0.05, rng.normal(1.0, 0.4, n))

        def models(
            shift: float | np.ndarray = 0.0, rng: np.random.Generator = rng, users: np.ndarray = users
        ) -> np.ndarray:
            wobble = rng.normal(0, level, (seeds, 1)) + rng.normal(0, NOISE, (seeds, len(users)))
            found: np.ndarray = users + shift + wobble
            return found

        yield models, memory


def judged(unlearned: np.ndarray, retrained: np.ndarray, original: np.ndarray, alpha: float = 0.05) -> Judgement:
    return judge(unlearned, retrained, original, margin=0.2, alpha=alpha, rng=np.random.default_rng(0))


def verdicts(left: Callable[[np.ndarray], np.ndarray], count: int = 60, **shape: float) -> Counter[str]:
    """Verdicts where so much of the memory is left."""
    return Counter(
        judged(models(left(memory)), models(), models(memory)).verdict
        for models, memory in worlds(count, **shape)  # type: ignore[arg-type]
    )


def at_most(rate: float, runs: int) -> int:
    """So many failures of so many runs are surpassed once in a thousand times if the rate is as promised."""
    return int(stats.binom.isf(0.001, runs, rate))


@pytest.mark.parametrize("n", [3, 20, 200])
def test_doing_nothing_is_called_out(n: int) -> None:
    for models, memory in worlds(40, n=n):
        original = models(memory)
        found = judged(original, models(), original)
        assert found.verdict == "not forgotten"
        # Of three users one may well be remembered far more than the others.
        assert n == 3 or not found.uneven
        assert found.left == pytest.approx(1)
        assert found.p_exchange < 0.01


def test_training_anew_with_other_seeds_passes() -> None:
    found = verdicts(lambda memory: 0 * memory, count=100, n=40)
    assert found["forgotten"] >= 90
    assert found["not forgotten"] + found["over-forgotten"] <= at_most(0.05, 100)


@pytest.mark.parametrize("level", [0.0, 0.06, 0.5])
def test_what_is_like_training_anew_is_seldom_called_not_forgotten(level: float) -> None:
    # With many users a test that took them for independent would see every training's own level as a difference.
    found = verdicts(lambda memory: 0 * memory, count=150, n=150, level=level)
    assert found["not forgotten"] <= at_most(0.05, 150)
    assert found["over-forgotten"] <= at_most(0.05, 150)


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (0.6, "not forgotten"),
        (-0.6, "over-forgotten"),
        (-5.0, "over-forgotten"),
        (0.02, "forgotten"),
    ],
)
def test_what_is_left_decides(left: float, verdict: str) -> None:
    assert verdicts(lambda memory: left * memory, count=40, n=40)[verdict] >= 36


def test_at_the_margin_forgotten_is_said_at_most_as_often_as_allowed() -> None:
    assert verdicts(lambda memory: np.full_like(memory, 0.2 * memory.mean()), 300)["forgotten"] <= at_most(0.05, 300)


def test_users_who_stand_out_on_both_sides_are_not_averaged_away() -> None:
    for models, memory in worlds(30):
        sides = np.where(np.arange(len(memory)) % 2, 0.8, -0.8)
        found = judged(models(sides), models(), models(memory))
        assert found.verdict == "not forgotten"
        assert found.uneven
        assert found.spread == pytest.approx(0.8, rel=0.4)


def test_the_interval_covers_the_share_that_is_left() -> None:
    covered = []
    for models, memory in worlds(200, n=60):
        found = judged(models(0.5 * memory), models(), models(memory))
        assert found.left_low is not None
        assert found.left_high is not None
        assert found.left_low < (found.left or 0) < found.left_high
        covered.append(found.left_low <= 0.5 <= found.left_high)
    assert len(covered) - sum(covered) <= at_most(0.1, len(covered))


def test_the_interval_lies_inside_the_margin_where_it_is_called_forgotten_and_only_there() -> None:
    for models, memory in worlds(80, n=12):
        found = judged(models(0.12 * memory), models(), models(memory))
        if not found.uneven and found.left_low is not None and found.left_high is not None:
            inside = found.left_low > -0.2 and found.left_high < 0.2
            assert inside == (found.verdict == "forgotten")


def test_too_little_to_tell_is_undecided_and_says_what_would_decide() -> None:
    told = 0
    for models, memory in worlds(30, n=8, level=0.15):
        found = judged(models(0.1), models(), models(memory))
        if found.verdict != "undecided" or found.seeds_needed is None:
            continue
        told += 1
        assert found.seeds_needed > 5
    assert told >= 5
    decided = Counter(
        judged(models(0.0), models(), models(memory)).verdict
        for models, memory in worlds(20, seeds=30, n=8, level=0.15)
    )
    assert decided["undecided"] <= 4


def test_without_memory_there_is_nothing_to_forget() -> None:
    found = [judged(models(), models(), models()) for models, _ in worlds(60)]
    assert sum(one.left is None for one in found) >= 45
    assert not any(one.verdict == "forgotten" and one.left is None for one in found)
    assert sum(one.verdict == "forgotten" for one in found) <= at_most(0.05, 60)


def test_one_person_is_judged_by_the_trainings_alone() -> None:
    found = Counter()
    for models, memory in worlds(60, seeds=8, n=1, level=0.05):
        original = models(memory + 1)
        found["nothing", judged(original, models(), original).verdict] += 1
        found["anew", judged(models(), models(), original).verdict] += 1
    assert found["nothing", "not forgotten"] >= 58
    assert found["anew", "not forgotten"] <= at_most(0.05, 60)
    assert found["anew", "forgotten"] >= 20


def test_exchanged_labels_are_tried_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.7):
        first, second = rng.normal(size=(3, 4)) + shift, rng.normal(size=(4, 4))
        everybody = np.concatenate([first, second])

        def apart(chosen: tuple[int, ...], rows: np.ndarray = everybody) -> float:
            one, other = rows[list(chosen)], rows[[i for i in range(7) if i not in chosen]]

            def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
                return float(np.mean([np.linalg.norm(x - y) for x in a for y in b]))

            return 2 * mean_distance(one, other) - mean_distance(one, one) - mean_distance(other, other)

        every = [apart(chosen) for chosen in itertools.combinations(range(7), 3)]
        expected = np.mean([value >= apart((0, 1, 2)) - 1e-9 for value in every])
        assert exchange_test(first, second, rng) == pytest.approx(expected)


def test_exchanged_labels_of_many_models_are_drawn() -> None:
    rng = np.random.default_rng(1)
    alike = [exchange_test(rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng) for _ in range(40)]
    assert stats.kstest(alike, "uniform").pvalue > 0.001
    assert exchange_test(rng.normal(size=(9, 3)), rng.normal(size=(9, 3)) + 2, rng) < 0.001


def test_the_error_of_a_difference_counts_users_and_trainings() -> None:
    z = []
    for models, memory in worlds(400, n=30, level=0.2):
        found = contrast(models(memory), models())
        z.append(abs(found.value - 1.0) <= found.reach(0.95))
    # Both variances hold the chance of single scores, so that it covers a little more often than it says.
    assert 0.93 <= np.mean(z) <= 0.995


def test_unevenness_is_what_exceeds_chance() -> None:
    none = [unevenness(models(), models()) for models, _ in worlds(50, n=50)]
    some = [unevenness(models(memory), models()) for models, memory in worlds(50, n=50)]
    assert np.median(none) < 0.06
    assert np.mean(some) == pytest.approx(0.38, abs=0.05)
