from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.token_sequence import TokenSequence, token_statistics
from mia_core.models.classifiers import token_logits, train_token_networks

World = Callable[..., tuple[Evidence, np.ndarray, Known]]

TRAINING = {"networks": 2, "width": 8, "steps": 60, "batch": 64, "weight_decay": 0.1}


def rising_or_falling(windows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences of the same values, sorted one way or the other: only the order of the tokens tells them apart."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 12, windows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rising = rng.random(windows) < 0.5
    sequences = [np.sort(rng.normal(size=n))[:: 1 if up else -1] for n, up in zip(lengths, rising, strict=True)]
    return np.concatenate(sequences)[:, None], offsets, rising


def test_the_order_of_tokens_is_seen() -> None:
    tokens, offsets, rising = rising_or_falling(400, seed=0)
    networks = train_token_networks(tokens, offsets, rising, np.ones(400), **TRAINING)  # type: ignore[arg-type]
    tokens, offsets, rising = rising_or_falling(200, seed=1)
    assert roc_auc_score(rising, token_logits(networks, tokens, offsets)) > 0.95


def test_a_window_s_logit_does_not_depend_on_its_batch() -> None:
    tokens, offsets, rising = rising_or_falling(100, seed=0)
    networks = train_token_networks(tokens, offsets, rising, np.ones(100), **TRAINING)  # type: ignore[arg-type]
    together = token_logits(networks, tokens, offsets)
    for batch in (1, 7):
        np.testing.assert_allclose(token_logits(networks, tokens, offsets, batch), together, atol=1e-12)
    mine = tokens[offsets[30] : offsets[31]]
    alone = token_logits(networks, mine, np.array([0, len(mine)]))
    np.testing.assert_allclose(alone, together[[30]], atol=1e-12)
    assert token_logits(networks, tokens[:0], offsets[:1]).shape == (0,)


def test_a_heavier_window_counts_like_several() -> None:
    """Two opposite labels for the same window: the weight decides which is believed."""
    tokens, offsets = np.tile(np.array([[1.0], [-0.5]]), (40, 1)), np.arange(0, 81, 2)
    label = np.arange(40) % 2 == 0
    weight = np.where(label, 1.8, 0.2)
    networks = train_token_networks(tokens, offsets, label, weight, **TRAINING)  # type: ignore[arg-type]
    assert (token_logits(networks, tokens, offsets) > 0).all()
    networks = train_token_networks(tokens, offsets, ~label, weight, **TRAINING)  # type: ignore[arg-type]
    assert (token_logits(networks, tokens, offsets) < 0).all()


def test_training_leaves_the_random_numbers_and_threads_of_others_alone() -> None:
    tokens, offsets, rising = rising_or_falling(50, seed=0)
    threads, before = torch.get_num_threads(), torch.random.get_rng_state()
    train_token_networks(tokens, offsets, rising, np.ones(50), **TRAINING)  # type: ignore[arg-type]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_statistics_are_those_of_the_target_and_its_difference_from_the_base(world: World) -> None:
    audited, _, _ = world(1.0)
    statistics = token_statistics(audited)
    target, base = audited.views["target"], audited.views["base"]
    for t in (0, 5, len(target.token) - 1):
        own = [target.log_probability[t], target.entropy[t], np.log(1 + target.rank[t]), target.top_probability[t]]
        other = [base.log_probability[t], base.entropy[t], np.log(1 + base.rank[t]), base.top_probability[t]]
        np.testing.assert_allclose(statistics[t, :4], own, rtol=1e-5)
        np.testing.assert_allclose(statistics[t, 4:], np.subtract(own, other), atol=1e-5)


def test_one_extreme_token_does_not_decide(world: World) -> None:
    audited, _, known = world(1.0)
    wild = audited.views["target"].log_probability.copy()
    wild[0] = -1e6
    hurt = replace(audited, views={**audited.views, "target": replace(audited.views["target"], log_probability=wild)})
    calm, shaken = (TokenSequence(networks=1).score(evidence, known) for evidence in (audited, hurt))
    assert np.isfinite(shaken[:-1]).all()
    np.testing.assert_allclose(shaken[1:], calm[1:])


def test_five_hundred_windows_train_in_five_seconds(world: World) -> None:
    audited, _, known = world(1.0, known=168)
    assert len(known.evidence.user_index) > 500
    start = time.process_time()
    TokenSequence().score(audited, known)
    assert time.process_time() - start < 5
