from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.sequence import SequenceMlp, sequence_features
from mia_core.models.classifiers import perceptron_log_odds, train_stopped_perceptrons

World = Callable[..., tuple[Evidence, np.ndarray, Known]]

QUICK = {"hidden": (16, 4), "networks": 4, "epochs": 300, "patience": 15, "batch": 32, "learning_rate": 5e-3}


def ring(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane, and which lie on a ring: no line tells them apart."""
    points = np.random.default_rng(seed).normal(size=(rows, 2))
    return points, abs(np.linalg.norm(points, axis=1) - 1.2) < 0.5


def test_features_are_those_of_a_slow_loop(world: World) -> None:
    audited, _, _ = world(1.0)
    observed = audited.views["target"]
    features = sequence_features(observed)
    for i in (0, 7, len(observed) - 1):
        tokens = range(observed.offsets[i], observed.offsets[i + 1])
        columns = [
            [float(observed.log_probability[t]) for t in tokens],
            [float(np.log(1 + observed.rank[t])) for t in tokens],
            [float(observed.entropy[t]) for t in tokens],
            [float(observed.top_probability[t]) for t in tokens],
            [float(observed.top_ten[t]) for t in tokens],
            [float(observed.margin[t]) for t in tokens],
        ]
        expected = [pool(column) for pool in (np.mean, min, max, lambda column: column[-1]) for column in columns]
        np.testing.assert_allclose(features[i], expected, rtol=1e-6)


def test_which_items_they_were_is_not_looked_at(world: World) -> None:
    audited, _, known = world(1.0)
    target = audited.views["target"]
    other = replace(target, token=(target.token + 7) % 40, top_token=(target.top_token + 7) % 40)
    renamed = replace(audited, views={**audited.views, "target": other})
    np.testing.assert_array_equal(SequenceMlp().score(renamed, known), SequenceMlp().score(audited, known))


def test_it_works_where_the_target_is_all_there_is(world: World) -> None:
    audited, member, known = world(2.0)

    def bare(evidence: Evidence) -> Evidence:
        return replace(
            evidence,
            views={"target": evidence.views["target"]},
            cross_fitted={},
            shadow_in=None,
            signals={},
            lists={},
            background=None,
        )

    scores = SequenceMlp().score(bare(audited), Known(bare(known.evidence), known.member))
    np.testing.assert_array_equal(scores, SequenceMlp().score(audited, known))
    assert roc_auc_score(member[:-1], scores[:-1]) > 0.9


def test_one_extreme_position_does_not_decide(world: World) -> None:
    audited, _, known = world(1.0)
    wild = audited.views["target"].log_probability.copy()
    wild[0] = -1e6
    hurt = replace(audited, views={**audited.views, "target": replace(audited.views["target"], log_probability=wild)})
    calm, shaken = (SequenceMlp().score(evidence, known) for evidence in (audited, hurt))
    assert abs(shaken[0]) < 50
    np.testing.assert_allclose(shaken[1:], calm[1:])


def test_perceptrons_learn_what_no_line_tells() -> None:
    ensemble = train_stopped_perceptrons(*ring(600, 0), **QUICK)  # type: ignore[arg-type]
    points, inside = ring(400, 1)
    assert roc_auc_score(inside, perceptron_log_odds(ensemble, points)) > 0.95


def test_they_stop_before_they_know_noise_by_heart() -> None:
    rng = np.random.default_rng(0)
    points, lots = rng.normal(size=(80, 20)), rng.random(80) < 0.5
    # Without early stopping so many epochs learn every label.
    stopped = train_stopped_perceptrons(points, lots, **{**QUICK, "batch": 8, "patience": 10})  # type: ignore[arg-type]
    endless = {**QUICK, "batch": 8, "networks": 1, "patience": 300}
    learned = train_stopped_perceptrons(points, lots, **endless)  # type: ignore[arg-type]
    # One network has nobody else to stop by.
    assert roc_auc_score(lots, perceptron_log_odds(learned, points)) == 1
    assert np.abs(perceptron_log_odds(stopped, points)).mean() < 1


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_very_few_rows_are_enough_to_train_on(rows: int) -> None:
    points = np.linspace(-1, 1, rows)[:, None]
    ensemble = train_stopped_perceptrons(points, points[:, 0] > 0, **{**QUICK, "networks": 5})  # type: ignore[arg-type]
    assert np.isfinite(perceptron_log_odds(ensemble, points)).all()


def test_training_is_the_same_each_time_and_leaves_others_alone() -> None:
    threads, before = torch.get_num_threads(), torch.random.get_rng_state()
    one, same = (train_stopped_perceptrons(*ring(60, 0), **QUICK) for _ in range(2))  # type: ignore[arg-type]
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_a_thousand_known_users_take_seconds(world: World) -> None:
    audited, _, known = world(1.0, known=1_000)
    start = time.process_time()
    SequenceMlp().score(audited, known)
    assert time.process_time() - start < 10
