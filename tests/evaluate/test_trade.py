"""What a change buys and costs: planted effects are found, none is found where there is none, and limits cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.evaluate.trade import Outcome, detections, leakage, usefulness

LEVEL = 0.05


def world(seed: int, gap: float, users: int = 200, quality: float = 0.5) -> Outcome:
    """Half of the users are members, whose scores are higher by `gap` standard deviations."""
    rng = np.random.default_rng(seed)
    member = np.arange(users) < users // 2
    noise = np.random.default_rng(1_000 + seed).normal(size=users)
    return Outcome(noise + gap * member, member, (rng.random(80) < quality).astype(float))


def compared(gaps: tuple[float, float]) -> dict[str, tuple]:
    before, after = ([world(seed, gap) for seed in range(3)] for gap in gaps)
    return leakage(before, after, LEVEL, resamples=400, confidence=0.95, rng=np.random.default_rng(0))


def test_a_defence_that_closes_the_leak_is_seen_to_and_one_that_does_nothing_is_not() -> None:
    nothing = compared((3.0, 3.0))
    before, after = ([world(first + seed, gap) for seed in range(3)] for first, gap in ((0, 3.0), (50, 0.0)))
    closed = leakage(before, after, LEVEL, resamples=400, confidence=0.95, rng=np.random.default_rng(0))
    for name in ("auc", "tpr", "exposed"):
        _, (change, _, high) = closed[name]
        assert high < 0, name
        assert change < -0.3, name
        assert nothing[name][1] == (0.0, 0.0, 0.0), name
    opened = compared((0.0, 3.0))
    assert opened["tpr"][1][1] > 0


def test_the_figures_are_those_of_another_library_averaged_over_seeds() -> None:
    outcomes = [world(seed, 1.0) for seed in range(3)]
    (value, low, high), _ = leakage(
        outcomes, outcomes, LEVEL, resamples=200, confidence=0.95, rng=np.random.default_rng(0)
    )["auc"]
    assert value == pytest.approx(np.mean([roc_auc_score(one.member, one.scores) for one in outcomes]))
    assert low < value < high


def test_detections_never_flag_more_held_out_users_than_the_level_allows_even_where_many_tie() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    for scores in (rng.normal(size=400), rng.integers(0, 3, size=400).astype(float), np.zeros(400)):
        flagged = detections(scores, member, LEVEL)
        assert flagged[~member].sum() <= LEVEL * 200
    assert detections(member.astype(float), member, LEVEL)[member].all()


def test_who_cannot_be_scored_is_left_out_before_and_after() -> None:
    before, after = world(0, 2.0), world(0, 2.0)
    some = np.where(np.arange(200) % 7 == 0, np.nan, after.scores)
    with_gaps = leakage(
        [before],
        [Outcome(some, after.member, after.recommended)],
        LEVEL,
        resamples=100,
        confidence=0.9,
        rng=np.random.default_rng(0),
    )
    assert with_gaps["auc"][1] == (0.0, 0.0, 0.0)
    assert not detections(some, after.member, LEVEL)[np.isnan(some)].any()


def test_the_most_exposed_are_those_who_stood_out_before() -> None:
    before = world(0, 3.0)
    hidden = before.scores.copy()
    worst = np.argsort(-np.where(before.member, before.scores, -np.inf))[:10]
    hidden[worst] = before.scores[~before.member].min()
    (value, _, _), (change, _, _) = leakage(
        [before],
        [Outcome(hidden, before.member, before.recommended)],
        LEVEL,
        resamples=100,
        confidence=0.95,
        rng=np.random.default_rng(0),
    )["exposed"]
    assert value == 0
    assert change == -1


def test_what_is_lost_in_quality_has_limits_that_hold() -> None:
    held = 0
    for trial in range(60):
        before = [world(10 * trial + seed, 0.0, quality=0.6) for seed in range(3)]
        after = [world(10_000 + 10 * trial + seed, 0.0, quality=0.5) for seed in range(3)]
        _, (_, low, high) = usefulness(before, after, resamples=300, confidence=0.95, rng=np.random.default_rng(trial))
        held += low <= -0.1 <= high
    assert held >= 52


def test_nobody_ranked_means_no_figure() -> None:
    empty = Outcome(np.zeros(4), np.array([True, True, False, False]), np.zeros(0))
    value, change = usefulness([empty], [empty], resamples=10, confidence=0.9, rng=np.random.default_rng(0))
    assert np.isnan([*value, *change]).all()
