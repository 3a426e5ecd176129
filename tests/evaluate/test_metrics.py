import math
import time
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from mia_core.evaluate.metrics import attack_metrics, best_threshold, roc_table, users_needed
from mia_core.types import Metric


class Settings(NamedTuple):
    resamples: int = 300
    confidence: float = 0.95


def world(members: int, held_out: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.r_[np.ones(members, bool), np.zeros(held_out, bool)]
    return rng.normal(size=members + held_out) + shift * truth, truth


def figures(scores: np.ndarray, truth: np.ndarray, threshold: float | None = 0.0) -> dict[str, Metric]:
    return {metric.metric: metric for metric in attack_metrics("loss", scores, truth, threshold, Settings(), 0)}


NAMES = [
    "auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1",
    "tpr_at_fpr_0.001", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05", "tpr_at_fpr_0.1",
    "precision_at_recall_0.1", "precision_at_recall_0.5", "precision_at_recall_0.9",
]  # fmt: skip


def test_every_figure_equals_sklearn_and_lies_in_its_interval() -> None:
    scores, truth = world(180, 120, 1.2)
    found = figures(scores, truth, 0.6)
    guessed = scores >= 0.6
    assert list(found) == NAMES
    assert found["auc"].value == pytest.approx(oracle.roc_auc_score(truth, scores))
    assert found["accuracy"].value == pytest.approx(oracle.accuracy_score(truth, guessed))
    assert found["balanced_accuracy"].value == pytest.approx(oracle.balanced_accuracy_score(truth, guessed))
    assert found["precision"].value == pytest.approx(oracle.precision_score(truth, guessed))
    assert found["recall"].value == pytest.approx(oracle.recall_score(truth, guessed))
    assert found["f1"].value == pytest.approx(oracle.f1_score(truth, guessed))
    assert found["recall"].n == 180
    assert found["precision"].n == guessed.sum()
    for metric in found.values():
        if metric.value is not None:
            assert metric.low <= metric.value <= metric.high
            assert metric.reason == ""


@pytest.mark.parametrize(("level", "needed"), [(0.1, 29), (0.05, 59), (0.01, 299), (0.001, 2995)])
def test_a_false_positive_rate_is_only_reported_where_the_users_resolve_it(level: float, needed: int) -> None:
    assert users_needed(level) == needed
    name = f"tpr_at_fpr_{level:g}"
    assert figures(*world(20, needed, 1.0))[name].value is not None
    short = figures(*world(20, needed - 1, 1.0))[name]
    assert (short.value, short.low, short.high) == (None, None, None)
    assert f"{needed:,} held-out users" in short.reason


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.lists(st.integers(0, 6), min_size=59, max_size=90))
def test_tpr_at_fpr_is_the_best_of_all_allowed_thresholds(members: list[int], held_out: list[int]) -> None:
    scores = np.array(members + held_out, float)
    truth = np.arange(len(scores)) < len(members)
    allowed = math.floor(0.05 * len(held_out) + 1e-9)
    thresholds = [*sorted(set(scores)), math.inf]
    best = max(
        np.mean(scores[truth] >= threshold)
        for threshold in thresholds
        if np.sum(scores[~truth] >= threshold) <= allowed
    )
    assert figures(scores, truth)["tpr_at_fpr_0.05"].value == pytest.approx(best)


def test_tpr_at_fpr_is_what_the_adversarial_robustness_toolbox_computes() -> None:
    from art.metrics.privacy import get_roc_for_multi_fprs

    scores, truth = world(700, 4000, 1.5)
    found = figures(scores, truth)
    levels = (0.001, 0.01, 0.05, 0.1)
    _, tprs, _ = get_roc_for_multi_fprs(scores, truth, levels)
    assert [found[f"tpr_at_fpr_{level:g}"].value for level in levels] == pytest.approx(tprs)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_the_limit_beside_a_tpr_is_the_exact_one_of_the_false_alarms_at_its_threshold(decimals: int) -> None:
    scores, truth = world(120, 400, 1.0)
    scores = scores.round(decimals)
    found = figures(scores, truth)
    for level in (0.01, 0.05, 0.1):
        # The most alarms that a threshold at one of these scores makes within the level, and their exact limit.
        counts = [int(np.sum(scores[~truth] >= threshold)) for threshold in [*scores[~truth], math.inf]]
        alarms = max(count for count in counts if count <= level * 400 + 1e-9)
        exact = stats.beta.ppf(0.95, alarms + 1, 400 - alarms)
        assert found[f"tpr_at_fpr_{level:g}"].fpr_limit == pytest.approx(exact)
    assert found["auc"].fpr_limit is found["tpr_at_fpr_0.001"].fpr_limit is found["recall"].fpr_limit is None


def test_members_above_everybody_are_all_found_and_a_wrong_sign_finds_nobody() -> None:
    scores, truth = world(60, 60, 50)
    right, wrong = figures(scores, truth), figures(-scores, truth)
    assert right["auc"].value == right["tpr_at_fpr_0.05"].value == 1
    assert right["auc"].low > 0.9
    assert wrong["auc"].value == wrong["tpr_at_fpr_0.05"].value == 0
    assert wrong["auc"].high < 0.1


def test_pure_noise_is_not_called_a_detection() -> None:
    wrong = sum(not (m := figures(*world(100, 100, 0, seed))["auc"]).low <= 0.5 <= m.high for seed in range(100))
    assert wrong <= 12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_nothing_depends_on_the_scale_of_the_scores(seed: int) -> None:
    scores, truth = world(30, 60, 1.0, seed)
    scores = scores.round(1)
    before, after = figures(scores, truth, 0.5), figures(np.exp(scores), truth, math.exp(0.5))
    assert before == after
    assert roc_table(scores, truth, 200, 0.95, 0).equals(roc_table(scores**3, truth, 200, 0.95, 0))


def test_users_without_a_score_are_left_out_of_every_figure() -> None:
    scores, truth = world(50, 70, 1.0)
    gaps, more = np.r_[scores, [math.nan] * 9], np.r_[truth, [True] * 9]
    assert figures(gaps, more) == figures(scores, truth)
    assert figures(gaps, more)["auc"].n == 120


@pytest.mark.parametrize(
    ("members", "held_out", "words"),
    [(0, 40, "no member"), (40, 0, "no held-out user"), (0, 0, "no member and no held")],
)
def test_users_of_one_kind_give_reasons_instead_of_figures(members: int, held_out: int, words: str) -> None:
    scores, truth = world(members, held_out, 1.0)
    found = figures(scores, truth)
    assert list(found) == NAMES
    assert all(metric.value is None and metric.reason.startswith(words) for metric in found.values())
    assert roc_table(scores, truth, 200, 0.95, 0).is_empty()
    assert best_threshold(scores, truth) is None


def test_without_a_threshold_or_a_flagged_user_the_reason_is_given() -> None:
    scores, truth = world(40, 40, 1.0)
    without = figures(scores, truth, None)
    assert without["auc"].value is not None
    assert all(without[name].value is None and "threshold" in without[name].reason for name in NAMES[1:6])
    nobody = figures(scores, truth, 100.0)
    assert nobody["precision"].value is None
    assert nobody["recall"].value == nobody["f1"].value == 0
    assert nobody["f1"].high > 0


@given(
    st.lists(st.tuples(st.floats(-5, 5, width=16), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({truth for _, truth in rows}) == 2
    )
)
def test_best_threshold_is_the_best_there_is(rows: list[tuple[float, bool]]) -> None:
    scores, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    chosen = oracle.balanced_accuracy_score(truth, scores >= best_threshold(scores, truth))
    tried = [oracle.balanced_accuracy_score(truth, scores >= value) for value in [*scores, 100.0]]
    assert chosen == pytest.approx(max(tried))


def test_best_threshold_lies_midway_between_the_two_kinds() -> None:
    assert best_threshold(np.array([1.0, 2.0, 4.0, 5.0, math.nan]), np.array([0, 0, 1, 1, 1], bool)) == 3
    neighbours = np.array([1.0, np.nextafter(1.0, 2)])
    assert ((neighbours >= best_threshold(neighbours, np.array([False, True]))) == [False, True]).all()


def test_roc_table_agrees_with_sklearn_and_never_falls() -> None:
    scores, truth = world(40, 60, 1.0)
    scores = scores.round(1)
    table = roc_table(scores, truth, 300, 0.95, 0)
    fpr, tpr, _ = oracle.roc_curve(truth, scores, drop_intermediate=False)
    upper = {round(x, 9): max(tpr[np.isclose(fpr, x)]) for x in fpr}
    assert {round(x, 9): y for x, y in table.select("fpr", "tpr").iter_rows()} == pytest.approx(upper)
    assert table["tpr"].is_sorted()
    assert table.row(-1) == (1, 1, 1, 1, 60)
    assert ((table["low"] <= table["tpr"]) & (table["tpr"] <= table["high"])).all()


def test_a_long_roc_table_is_thinned_but_keeps_its_low_end() -> None:
    table = roc_table(*world(4000, 4000, 2.0), resamples=200, confidence=0.95, seed=0, points=200)
    assert table.height <= 200
    assert table["false_positives"].to_list()[:41] == list(range(41))
    assert table["fpr"].diff().drop_nulls().max() <= 0.03
    assert table.row(-1, named=True)["fpr"] == 1


def test_tied_scores_are_one_point() -> None:
    table = roc_table(np.ones(30), np.arange(30) < 10, 200, 0.95, 0)
    assert table.select("fpr", "tpr", "false_positives").rows() == [(0, 0, 0), (1, 1, 20)]


def test_ten_attacks_on_four_thousand_users_take_seconds() -> None:
    scores, truth = world(2000, 2000, 1.0)
    start = time.perf_counter()
    for _ in range(10):
        attack_metrics("loss", scores, truth, 0.5, Settings(resamples=1000), 0)
        roc_table(scores, truth, 1000, 0.95, 0)
    assert time.perf_counter() - start < 8
