from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.quantile import Qmia, share_below
from mia_core.observe.observations import TOKEN_FIELDS, Observations

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def people(covariates: np.ndarray, level: np.ndarray, base: np.ndarray | None = None) -> Evidence:
    """Users with one window of one token each, whose log-probability is `level`."""
    n = len(level)
    silent = {name: np.zeros(n, np.float32) for name in TOKEN_FIELDS if name != "log_probability"}

    def seen(values: np.ndarray) -> Observations:
        return Observations(
            offsets=np.arange(n + 1),
            token=np.zeros(n, np.int32),
            hidden=np.zeros((n, 1, 1), np.float32),
            log_probability=values.astype(np.float32),
            **silent,
        )

    views = {"target": seen(level)} if base is None else {"target": seen(level), "base": seen(base)}
    return Evidence(tuple(map(str, range(n))), np.arange(n), views, signals={"covariates": covariates})


def untrained(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(covariates, level, its true standardised residual): heavy users are better and more evenly predicted."""
    covariates = rng.normal([3, -4, -5, 20], [1, 0.5, 0.8, 6], (n, 4))
    noise = rng.normal(size=n)
    level = -9 + 1.2 * covariates[:, 0] + 0.3 * covariates[:, 1] + np.exp(0.8 - 0.4 * covariates[:, 0]) * noise
    return covariates, level, noise


@pytest.mark.parametrize("known_users", [100, 1_000])
def test_qmia_is_as_often_wrong_about_heavy_users_as_about_light_ones(known_users: int) -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(20):
        covariates, level, _ = untrained(rng, known_users)
        member = np.arange(known_users) % 2 == 0
        known = Known(people(covariates, level + member), member)
        covariates, level, _ = untrained(rng, 2_000)
        audited = people(covariates, level)
        heavy = covariates[:, 0] > np.median(covariates[:, 0])
        found = []
        for name in ("qmia", "loss"):
            scores = ATTACKS[name]().score(audited, known)
            flagged = scores > np.quantile(scores, 0.9)
            found.append((flagged[heavy].mean(), flagged[~heavy].mean()))
        rates.append(found)
    qmia, loss = np.mean(rates, axis=0)
    assert abs(qmia[0] - qmia[1]) < 0.03
    assert loss[0] > 0.15
    assert loss[1] < 0.05


def test_qmia_finds_members_whom_the_raw_loss_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    covariates, level, _ = untrained(rng, 400)
    member = rng.random(400) < 0.5
    evidence = people(covariates, level + 0.8 * member)
    known, audited = Known(evidence.take(np.arange(150)), member[:150]), evidence.take(np.arange(150, 400))
    aucs = {name: roc_auc_score(member[150:], ATTACKS[name]().score(audited, known)) for name in ("qmia", "loss")}
    assert aucs["loss"] < 0.65 < 0.75 < aucs["qmia"]


def test_qmia_recovers_the_true_residual() -> None:
    rng = np.random.default_rng(2)
    covariates, level, _ = untrained(rng, 8_000)
    known = Known(people(covariates, level), np.zeros(8_000, dtype=bool))
    covariates, level, noise = untrained(rng, 500)
    found = Qmia(variance_penalty=1e-4).score(people(covariates, level), known)
    assert np.corrcoef(found, noise)[0, 1] > 0.99
    assert found.std() == pytest.approx(noise.std(), rel=0.1)


def test_qmia_uses_the_base_where_there_is_one() -> None:
    rng = np.random.default_rng(3)
    member = rng.random(400) < 0.5
    covariates, base = rng.normal(size=(400, 4)), rng.normal(-4, 1, 400)
    level = base + 0.2 * rng.normal(size=400) + 0.3 * member
    aucs = []
    for seen in (None, base):
        evidence = people(covariates, level, seen)
        known, audited = Known(evidence.take(np.arange(200)), member[:200]), evidence.take(np.arange(200, 400))
        aucs.append(roc_auc_score(member[200:], Qmia().score(audited, known)))
    assert aucs[0] < 0.65 < 0.8 < aucs[1]


def test_qmia_does_not_run_away_beyond_the_users_it_was_fitted_on() -> None:
    rng = np.random.default_rng(4)
    covariates, level, _ = untrained(rng, 60)
    known = Known(people(covariates, level), np.zeros(60, dtype=bool))
    covariates, level, _ = untrained(rng, 50)
    covariates[:, 3] = 1_000
    assert np.abs(Qmia().score(people(covariates, level), known)).max() < 1_000


@pytest.mark.parametrize("name", ["attack_p", "qmia", "rmia"])
def test_the_population_is_the_known_held_out_users_alone(name: str, world: World) -> None:
    audited, _, known = world(1.0)
    target = known.evidence.views["target"]
    of_members = np.repeat(known.member[known.evidence.user_index], np.diff(target.offsets))
    changed = replace(target, log_probability=np.where(of_members, -1, target.log_probability).astype(np.float32))
    other = Known(replace(known.evidence, views={**known.evidence.views, "target": changed}), known.member)
    attack = ATTACKS[name]()
    np.testing.assert_array_equal(attack.score(audited, known), attack.score(audited, other))


def test_attack_p_is_the_share_of_held_out_users_with_a_lower_likelihood(world: World) -> None:
    audited, _, known = world(1.0)
    loss = ATTACKS["loss"]()
    population = [s for s, m in zip(loss.score(known.evidence, known), known.member, strict=True) if not m and s == s]
    expected = [sum(other < own for other in population) / len(population) for own in loss.score(audited, known)[:-1]]
    np.testing.assert_array_equal(ATTACKS["attack_p"]().score(audited, known)[:-1], expected)


def test_attack_p_is_the_loss_in_other_units(world: World) -> None:
    audited, _, known = world(1.0)
    loss, share = (ATTACKS[name]().score(audited, known)[:-1] for name in ("loss", "attack_p"))
    assert (np.diff(share[np.argsort(loss)]) >= 0).all()


def test_share_below_counts_strictly_and_keeps_the_unscorable_apart() -> None:
    found = share_below(np.array([0.0, 1.0, 2.0, 5.0, np.nan]), np.array([2.0, 1.0, 1.0, 4.0]))
    np.testing.assert_array_equal(found, [0, 0, 0.5, 1, np.nan])
