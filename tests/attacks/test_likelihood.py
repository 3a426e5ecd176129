from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.likelihood import (
    DcPdd,
    ItemPopularityCalibrated,
    Loss,
    Lowercase,
    MinK,
    MinKPlusPlus,
    Perplexity,
    TokenProfile,
    Zlib,
)
from mia_core.attacks.logit_attack import min_k_plus_plus
from mia_core.observe.observations import Observations

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def with_views(evidence: Evidence, **views: Observations) -> Evidence:
    """The evidence with some views exchanged."""
    return replace(evidence, views={**evidence.views, **views})


def tokens(observed: Observations, i: int) -> slice:
    return slice(observed.offsets[i], observed.offsets[i + 1])


def by_hand(evidence: Evidence, view: str, name: str) -> list[float]:
    """Mean over a user's windows of the mean over each window's tokens, in plain loops."""
    observed = evidence.views[view]
    means = []
    for user in range(len(evidence.users)):
        windows = []
        for i in np.flatnonzero(evidence.user_index == user):
            tokens = getattr(observed, name)[observed.offsets[i] : observed.offsets[i + 1]]
            windows.append(sum(float(t) for t in tokens) / len(tokens))
        means.append(sum(windows) / len(windows) if windows else float("nan"))
    return means


@pytest.mark.parametrize(
    ("attack", "field", "sign"),
    [("loss", "log_probability", 1), ("confidence", "top_probability", 1), ("entropy", "entropy", -1)],
)
def test_scores_are_plain_means_with_the_right_sign(attack: str, field: str, sign: int, world: World) -> None:
    audited, _, known = world(1.0)
    expected = sign * np.array(by_hand(audited, "target", field))
    np.testing.assert_allclose(ATTACKS[attack]().score(audited, known), expected, rtol=1e-6)


def test_min_k_lies_between_the_worst_token_and_the_loss(world: World) -> None:
    audited, _, known = world(1.0)
    target = audited.views["target"]
    np.testing.assert_allclose(MinK(share=1).score(audited, known), Loss().score(audited, known))
    worst = [target.log_probability[tokens(target, i)].min() for i in range(len(target))]
    np.testing.assert_allclose(MinK(share=0.01).sample_scores(audited), worst)
    for i, found in enumerate(MinK(share=0.5).sample_scores(audited)):
        ordered = sorted(target.log_probability[tokens(target, i)].tolist())[
            : max(1, len(target.token[tokens(target, i)]) // 2)
        ]
        assert found == pytest.approx(sum(ordered) / len(ordered))


def test_min_k_plus_plus_as_an_attack_is_the_mean_over_windows(world: World) -> None:
    audited, _, known = world(1.0)
    expected = audited.user_mean(min_k_plus_plus(audited.views["target"], 0.4))
    np.testing.assert_array_equal(MinKPlusPlus(share=0.4).score(audited, known), expected)


def test_perplexity_ranks_single_answers_as_the_loss_does(world: World) -> None:
    audited, _, _ = world(1.0)
    loss, perplexity = Loss().sample_scores(audited), Perplexity().sample_scores(audited)
    np.testing.assert_array_equal(np.argsort(loss), np.argsort(perplexity))
    assert (perplexity <= -1).all()


def test_a_longer_text_is_forgiven_a_larger_loss(world: World) -> None:
    audited, _, known = world(1.0)
    wordy = replace(audited, signals={**audited.signals, "zlib_bytes": 2 * audited.signals["zlib_bytes"]})
    np.testing.assert_allclose(Zlib().score(wordy, known), Zlib().score(audited, known) / 2)


def test_lower_case_tells_nothing_where_there_is_no_case(world: World) -> None:
    audited, _, known = world(2.0)
    caseless = with_views(audited, **{"target/lowercase": audited.views["target"]})
    np.testing.assert_array_equal(Lowercase().score(caseless, known)[:-1], -1)


def test_dc_pdd_counts_each_token_once_and_caps_it(world: World) -> None:
    audited, _, _ = world(2.0)
    target = audited.views["target"]
    repeating = with_views(audited, target=replace(target, token=target.token % 3))
    target = repeating.views["target"]
    assert audited.background is not None
    attack = DcPdd(caps=(0.01, 0.3))
    found = attack.candidates(repeating)
    for i in range(len(target)):
        terms: dict[int, float] = {}
        for token, log_p in zip(
            target.token[tokens(target, i)], target.log_probability[tokens(target, i)], strict=True
        ):
            terms.setdefault(int(token), math.exp(log_p) * math.log(1 / audited.background.token_share[token]))
        for cap, value in zip(attack.caps, found[i], strict=True):
            assert value == pytest.approx(sum(min(cap, term) for term in terms.values()) / len(terms), rel=1e-5)


def test_known_users_choose_a_cap_under_which_members_differ(world: World) -> None:
    audited, member, known = world(2.0)
    # Nearly every token of the planted titles lies above the published cap.
    published = DcPdd(caps=(0.01,)).score(audited, known)[:-1]
    chosen = DcPdd().score(audited, known)[:-1]
    assert roc_auc_score(member[:-1], published) < 0.6
    assert roc_auc_score(member[:-1], chosen) > 0.95
    # A cap that all tokens of members reach would make them equal.
    assert len(np.unique(chosen[member[:-1]])) == member[:-1].sum()


def test_at_the_same_likelihood_the_rarer_item_scores_higher(world: World) -> None:
    audited, _, _ = world(1.0)
    assert audited.background is not None
    target = audited.views["target"]
    counts = np.concatenate([[0, 1, 500], np.arange(2, len(audited.background.item_share) - 1)])
    users = 1_000
    background = replace(audited.background, item_share=counts / users)
    even = replace(target, log_probability=np.full_like(target.log_probability, -1.0))
    lengths = np.diff(target.offsets)
    for item, count in enumerate(counts[:3]):
        evidence = replace(
            with_views(audited, target=even),
            signals={**audited.signals, "answer_item": np.full(len(lengths), item)},
            background=background,
        )
        share = (count + 1) / (counts.sum() + len(counts))
        np.testing.assert_allclose(
            ItemPopularityCalibrated().sample_scores(evidence), np.exp(-lengths) * math.log(1 / share), rtol=1e-5
        )


def test_items_that_no_public_user_has_are_equally_rare(world: World) -> None:
    audited, _, known = world(1.0)
    assert audited.background is not None
    nobody = replace(audited.background, item_share=np.zeros_like(audited.background.item_share))
    assert np.isfinite(ItemPopularityCalibrated().score(replace(audited, background=nobody), known)[:-1]).all()


def test_token_profile_finds_a_signal_that_sits_in_the_last_token_alone(world: World) -> None:
    audited, member, known = world(0.0)

    def last_token_raised(evidence: Evidence, member: np.ndarray) -> Evidence:
        target = evidence.views["target"]
        raised = target.log_probability.copy()
        raised[target.offsets[1:] - 1] += 2 * member[evidence.user_index]
        # The other tokens make up for it: the sum of the answer tells nothing.
        raised[target.offsets[:-1]] -= 2 * member[evidence.user_index]
        return with_views(evidence, target=replace(target, log_probability=raised))

    audited = last_token_raised(audited, member)
    known = Known(last_token_raised(known.evidence, known.member), known.member)
    for attack, low, high in ((TokenProfile(), 0.95, 1.0), (Loss(), 0.3, 0.7)):
        scores = attack.score(audited, known)[:-1]
        assert low <= roc_auc_score(member[:-1], scores) <= high


def test_token_profile_reads_each_position_and_fills_those_that_are_missing(world: World) -> None:
    audited, _, known = world(1.0)
    target = audited.views["target"]
    profile = TokenProfile().profile(audited)
    for user in range(len(audited.users) - 1):
        at: list[list[float]] = [[], [], [], []]
        for i in np.flatnonzero(audited.user_index == user):
            answer = target.log_probability[tokens(target, i)].tolist()
            at[0].append(answer[0])
            at[1].extend(answer[1:2])
            at[2].extend([answer[len(answer) // 2]] if len(answer) > 3 else [])
            at[3].extend(answer[-1:] if len(answer) > 2 else [])
        expected = np.array([sum(values) / len(values) if values else np.nan for values in at])
        np.testing.assert_allclose(profile[user], expected, rtol=1e-6)
    ids = replace(target.take(np.arange(len(target))), offsets=np.arange(len(target) + 1))
    one_token = with_views(audited, target=ids)
    assert np.isfinite(TokenProfile().score(one_token, known)[:-1]).all()
