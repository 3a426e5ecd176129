import math
import time

import numpy as np
import pytest
import scipy.sparse
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

from mia_core.evaluate import gates
from mia_core.evaluate.calibration import mondrian_p_values, p_values, strata
from mia_core.evaluate.gates import Gate, blind_gate, null_gate, placebo_gate


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def histories(n: int, rng: np.random.Generator, catalogue: int = 600) -> scipy.sparse.csr_array:
    """(n, catalogue) whose items popularity decides."""
    popularity = 1 / np.arange(1, catalogue + 1)
    return scipy.sparse.csr_array(rng.random((n, catalogue)) < 4 * popularity / popularity.sum())


def world(n: int, seed: int) -> tuple[np.ndarray, scipy.sparse.csr_array, np.ndarray, np.random.Generator]:
    """Covariates (length, popularity, months since the last event, mean rating), items, membership."""
    rng = generator(seed)
    covariates = np.column_stack(
        [rng.normal(3, 1, n), rng.normal(size=n), rng.exponential(3, n), rng.integers(1, 6, n)]
    )
    return covariates, histories(n, rng), rng.random(n) < 0.5, rng


def explained(gate: Gate) -> bool:
    return bool(gate.sentence.endswith(".") and gate.way_out.endswith(".") and "nan" not in gate.sentence)


def test_the_gates_together_refuse_a_sound_audit_at_most_once_in_a_hundred() -> None:
    assert pytest.approx(0.01) == gates.BLIND_LEVEL + gates.PLACEBO_LEVEL + gates.NULL_LEVEL


def test_blind_gate_passes_clean_splits() -> None:
    outcomes = [blind_gate(*world(200, seed)) for seed in range(15)]
    assert sum(not gate.passed for gate in outcomes) <= 1
    assert all(explained(gate) for gate in outcomes)


def test_the_sequential_test_keeps_its_level_whatever_the_classifier_learns() -> None:
    """Few users and a classifier that overfits; labels by fair coins."""
    p = []
    for seed in range(400):
        rng = generator(seed)
        features, truth = rng.normal(size=(120, 3)), rng.random(120) < 0.5
        p.append(gates._sequential_test(KNeighborsClassifier(3), features, truth, rng.permutation(120))[1])
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.085
    assert np.mean(np.array(p) <= 0.01) <= 0.03
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_blind_gate_catches_members_two_months_more_recent() -> None:
    caught = 0
    for seed in range(10):
        covariates, items, truth, rng = world(300, seed)
        covariates[:, 2] -= 2 * truth
        gate = blind_gate(covariates, items, truth, rng)
        caught += not gate.passed
    assert caught >= 9
    assert "covariate" in gate.sentence
    assert "random" in gate.way_out


def test_a_covariate_that_tells_members_is_called_by_its_name() -> None:
    covariates, items, truth, rng = world(30, 0)
    covariates[:, 2] = truth
    named = blind_gate(covariates, items, truth, rng, ["length", "popularity", "months since", "mean rating"])
    assert "months since alone" in named.sentence


def test_blind_gate_catches_what_only_covariates_together_show() -> None:
    covariates, items, _, rng = world(600, 1)
    truth = (covariates[:, 0] > 3) ^ (covariates[:, 1] > 0) ^ (rng.random(600) < 0.1)
    gate = blind_gate(covariates, items, truth, rng)
    assert not gate.passed
    assert "all covariates together" in gate.sentence


def test_blind_gate_catches_different_items() -> None:
    covariates, _, truth, rng = world(300, 2)
    items = [
        {f"item {k}" for k in rng.choice(400, 20)} | ({f"new {k}" for k in rng.choice(30, 2)} if member else set())
        for member in truth
    ]
    gate = blind_gate(covariates, items, truth, rng)
    assert not gate.passed
    assert "by the items" in gate.sentence


def test_copies_of_a_history_that_share_one_coin_do_not_fail_a_sound_split() -> None:
    covariates, items, truth, rng = world(100, 3)
    copies = np.repeat(np.arange(100), 4)
    gate = blind_gate(covariates[copies], items[copies], truth[copies], rng)
    assert gate.passed
    assert gate.n <= 100


def test_blind_gate_bears_missing_values_and_very_few_users() -> None:
    covariates, items, truth, rng = world(60, 4)
    covariates[::3, 1] = math.nan
    assert blind_gate(covariates, items, truth, rng).passed
    few = blind_gate(covariates[:4], items[:4], truth[:4], rng)
    assert few.passed
    assert few.p_value == 1
    assert blind_gate(np.ones((40, 2)), [set() for _ in range(40)], truth[:40], rng).p_value == 1


def test_blind_gate_judges_a_thousand_users_in_seconds() -> None:
    start = time.perf_counter()
    blind_gate(*world(1000, 5))
    assert time.perf_counter() - start < 3


def attacks(truth: np.ndarray, rng: np.random.Generator, shift: float = 0.0) -> dict[str, np.ndarray]:
    shared = rng.normal(size=len(truth))
    quiet = {f"attack {k}": shared + rng.normal(size=len(truth)) for k in range(12)}
    return quiet | {"suspect": rng.normal(size=len(truth)) + shift * truth}


def test_placebo_gate_passes_where_nobody_is_a_member() -> None:
    refused = 0
    for seed in range(60):
        rng = generator(seed)
        truth = rng.random(100) < 0.5
        gate = placebo_gate(attacks(truth, rng), truth, rng.normal(size=100) + 2 * truth, rng)
        refused += not gate.passed
        assert explained(gate)
        assert "could have failed" in gate.sentence
    assert refused <= 1


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_placebo_gate_names_the_attack_that_finds_what_is_not_there(shift: float) -> None:
    rng = generator(1)
    truth = rng.random(200) < 0.5
    gate = placebo_gate(attacks(truth, rng, shift), truth, rng.normal(size=200) + 2 * truth, rng)
    assert not gate.passed
    assert "suspect" in gate.sentence
    assert (gate.statistic > 0.5) == (shift > 0)
    assert "audited users" in gate.way_out


def test_placebo_gate_says_when_it_could_not_have_failed() -> None:
    rng = generator(2)
    truth = rng.random(200) < 0.5
    mute = placebo_gate(attacks(truth, rng), truth, rng.normal(size=200) - truth, rng)
    assert not mute.passed
    assert "could not have failed" in mute.sentence
    assert "demonstration" in mute.way_out
    absent = placebo_gate(attacks(truth, rng), truth, None, rng)
    assert absent.passed
    assert "not shown" in absent.sentence


def test_placebo_gate_bears_users_without_scores_and_refuses_to_test_nothing() -> None:
    rng = generator(3)
    truth = rng.random(200) < 0.5
    scores = attacks(truth, rng)
    scores["suspect"][:30] = math.nan
    leaking = rng.normal(size=200) + 2 * truth
    leaking[:30] = math.nan
    scores["empty"] = np.full(200, math.nan)
    assert placebo_gate(scores, truth, leaking, rng).passed
    for nothing in ({}, {"empty": scores["empty"]}):
        gate = placebo_gate(nothing, truth, leaking, rng)
        assert not gate.passed
        assert "nothing was tested" in gate.sentence


def null_world(n: int, slope: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held-out users' p-values among themselves; longer histories score higher by `slope` per standard deviation."""
    rng = generator(seed)
    log_length = rng.normal(3, 1, n)
    scores = rng.normal(size=n) + slope * (log_length - 3)
    return p_values(scores, scores, np.arange(n), rng), np.exp(log_length).round(), rng.random(n)


@pytest.mark.parametrize("n", [80, 300])
def test_null_gate_passes_where_scores_do_not_depend_on_the_history(n: int) -> None:
    outcomes = [null_gate(*null_world(n, 0.0, seed), generator(seed)) for seed in range(15)]
    assert sum(not gate.passed for gate in outcomes) <= 1
    assert all(explained(gate) for gate in outcomes)


def test_null_gate_catches_long_histories_that_look_like_members() -> None:
    assert sum(null_gate(*null_world(400, 1.0, seed), generator(seed)).passed for seed in range(8)) <= 1
    gate = null_gate(*null_world(400, 1.0, 0), generator(0))
    assert "histories of" in gate.sentence
    assert "compared_with" in gate.way_out


def test_null_gate_catches_a_few_extreme_users_of_one_kind() -> None:
    """The distribution is nearly uniform, but every p-value below 5% belongs to unpopular tastes."""
    rng = generator(4)
    n = 400
    popularity = rng.random(n)
    p = rng.permutation(np.arange(1, n + 1) / n)
    rare, others = np.flatnonzero(popularity < 0.3), np.flatnonzero(popularity >= 0.3)
    low = np.flatnonzero(p <= 0.05)
    for i, j in zip(np.intersect1d(low, others), np.setdiff1d(rare, low), strict=False):
        p[i], p[j] = p[j], p[i]
    gate = null_gate(p, rng.integers(5, 50, n), popularity, rng)
    assert not gate.passed


def test_mondrian_p_values_pass_the_null_gate() -> None:
    rng = generator(5)
    n = 400
    length, popularity = rng.geometric(0.05, n), rng.random(n)
    scores = rng.normal(size=n) + 2 * np.log(length)
    assert not null_gate(p_values(scores, scores, np.arange(n), rng), length, popularity, rng).passed
    stratum = strata(length, popularity)
    within = mondrian_p_values(scores, scores, stratum, stratum, np.arange(n), rng)
    assert null_gate(within, length, popularity, rng).passed


def test_null_gate_says_when_it_could_not_have_failed() -> None:
    gate = null_gate(*null_world(30, 3.0, 0), generator(0))
    assert gate.passed
    assert "could not fail" in gate.sentence
    p, _, _ = null_world(300, 0.0, 0)
    alike = null_gate(p, np.full(300, 20), np.full(300, 0.1), generator(0))
    assert "could not fail" in alike.sentence
    assert null_gate(np.full(9, math.nan), np.ones(9), np.ones(9), generator(0)).n == 0
