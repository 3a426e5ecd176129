from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mia_core.attacks.calibrated import (
    ErrorZone,
    HardTokens,
    HistoryAblation,
    LikelihoodRatio,
    MinKPlusPlusMinusBase,
    SelfPrompted,
    SoftDifference,
    TargetMinusBase,
)
from mia_core.attacks.contract import Attack
from mia_core.attacks.evidence import Evidence, Known
from mia_core.observe.observations import TOKEN_FIELDS, Observations

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def answers(observed: Observations, name: str = "log_probability") -> list[list[float]]:
    """The values of each sample's tokens, as lists."""
    return [part.tolist() for part in np.split(getattr(observed, name), observed.offsets[1:-1])]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("attack", "models"),
    [
        (TargetMinusBase(), ["base"]),
        (MinKPlusPlusMinusBase(), ["base"]),
        (HardTokens(), ["base"]),
        (ErrorZone(), ["base"]),
        (SoftDifference(), ["soft 0"]),
        (HistoryAblation(), ["base"]),
        (SelfPrompted(), ["self_prompted"]),
    ],
    ids=repr,
)
def test_a_reference_that_answers_like_the_target_leaves_nothing(
    attack: Attack, models: list[str], world: World
) -> None:
    audited, _, known = world(2.0)
    views = dict(audited.views)
    for name, view in audited.views.items():
        model, _, variant = name.partition("/")
        for reference in models if model == "target" else []:
            views[f"{reference}/{variant}" if variant else reference] = view
    scores = attack.score(replace(audited, views=views), known)
    np.testing.assert_allclose(scores[:-1], 0, atol=1e-9)


def test_the_loss_ratio_compares_losses_by_their_factor(world: World) -> None:
    audited, _, known = world(1.0)
    base = audited.views["base"]
    for factor in (0.25, 1.0, 3.0):
        target = replace(base, log_probability=factor * base.log_probability)
        evidence = replace(audited, views={"target": target, "base": base})
        scores = LikelihoodRatio().score(evidence, known)[:-1]
        np.testing.assert_allclose(scores, -factor, rtol=0.01)


def test_the_loss_ratio_stays_finite_where_the_base_is_certain(world: World) -> None:
    audited, _, known = world(1.0)
    base = audited.views["base"]
    certain = replace(base, log_probability=np.zeros_like(base.log_probability))
    scores = LikelihoodRatio().score(replace(audited, views={"target": certain, "base": certain}), known)
    np.testing.assert_array_equal(scores[:-1], -1)


def one_user(target: list[list[float]], rank: list[list[int]], base: list[list[float]]) -> Evidence:
    """A user with these log-probabilities and ranks, one inner list per window."""
    offsets = np.concatenate([[0], np.cumsum([len(window) for window in target])])

    def observed(log_probability: list[list[float]]) -> Observations:
        flat = np.concatenate(log_probability).astype(np.float32)
        unused = ("token", *(name for name in TOKEN_FIELDS if name not in {"log_probability", "rank"}))
        rest = dict.fromkeys(unused, np.ones_like(flat))
        ranks = np.concatenate(rank).astype(np.int32)
        return Observations(
            offsets=offsets, log_probability=flat, rank=ranks, hidden=np.zeros((len(target), 1, 1)), **rest
        )

    return Evidence(("u",), np.zeros(len(target), np.int64), {"target": observed(target), "base": observed(base)})


def zone(target: list[list[float]], rank: list[list[int]], base: list[list[float]]) -> float:
    evidence = one_user(target, rank, base)
    return float(ErrorZone().score(evidence, Known(evidence, np.array([True])))[0])


def test_the_error_zone_is_a_log_ratio_over_the_wrong_tokens(world: World) -> None:
    audited, _, known = world(1.0)
    target, base = answers(audited.views["target"]), answers(audited.views["base"])
    rank = answers(audited.views["target"], "rank")
    for user, found in enumerate(ErrorZone().score(audited, known)[:-1]):
        raised = lowered = 0.0
        windows = np.flatnonzero(audited.user_index == user)
        for i in windows:
            wrong = [k for k in range(len(rank[i])) if rank[i][k] > 0] or range(len(rank[i]))
            for k in wrong:
                change = target[i][k] - base[i][k]
                raised, lowered = (raised + change, lowered) if change > 0 else (raised, lowered - change)
        expected = math.log((raised / len(windows) + 0.01) / (lowered / len(windows) + 0.01))
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_error_zone_ranks_the_strongest_members_first() -> None:
    everything_raised = zone([[-1.0, -1.0]], [[3, 3]], [[-4.0, -4.0]])
    mostly_raised = zone([[-1.0, -5.0]], [[3, 3]], [[-4.0, -4.0]])
    untouched = zone([[-4.0, -4.0]], [[3, 3]], [[-4.0, -4.0]])
    everything_lowered = zone([[-6.0, -6.0]], [[3, 3]], [[-4.0, -4.0]])
    assert everything_raised > mostly_raised > untouched == 0 > everything_lowered


def test_the_error_zone_does_not_punish_an_answer_without_errors() -> None:
    by_heart = zone([[-0.1, -0.1]], [[0, 0]], [[-4.0, -4.0]])
    learned = zone([[-3.0, -3.0]], [[2, 2]], [[-4.0, -4.0]])
    assert by_heart > learned
    # A right token beside a wrong one lies outside the zone.
    assert zone([[-0.1, -5.0]], [[0, 4]], [[-4.0, -4.0]]) < 0
    # A title that the base knew as well says nothing either way.
    assert zone([[-0.1, -0.1]], [[0, 0]], [[-0.1, -0.1]]) == 0


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_hard_tokens_are_those_that_the_base_finds_hardest(share: float, world: World) -> None:
    audited, _, _ = world(1.0)
    target, base = answers(audited.views["target"]), answers(audited.views["base"])
    for own, other, found in zip(target, base, HardTokens(share).sample_scores(audited), strict=True):
        pairs = sorted(zip(other, own, strict=True))[: max(1, int(share * len(own)))]
        gain = mean([math.exp(own) - math.exp(other) for other, own in pairs])
        assert found == pytest.approx(gain, rel=1e-5, abs=1e-8)


def test_history_ablation_ignores_what_a_history_tells_every_model(world: World) -> None:
    audited, _, known = world(1.0)
    before = HistoryAblation().score(audited, known)

    def helped(view: Observations) -> Observations:
        return replace(view, log_probability=view.log_probability + np.float32(0.7))

    told = {name: helped(audited.views[name]) for name in ("target", "base")}
    after = HistoryAblation().score(replace(audited, views={**audited.views, **told}), known)
    np.testing.assert_allclose(after, before, atol=1e-5)
    only_target = replace(audited, views={**audited.views, "target": told["target"]})
    np.testing.assert_allclose(HistoryAblation().score(only_target, known), before + 0.7, atol=1e-5)


def test_self_prompted_compares_falls_in_probability(world: World) -> None:
    audited, _, _ = world(2.0)

    def fall(model: str, i: int) -> float:
        asked, altered = audited.views[model], audited.replicates(f"{model}/history_swapped")
        return math.exp(mean(answers(asked)[i])) - mean([math.exp(mean(answers(view)[i])) for view in altered])

    found = SelfPrompted().sample_scores(audited)
    for i in range(0, len(found), 17):
        assert found[i] == pytest.approx(fall("target", i) - fall("self_prompted", i), rel=1e-4, abs=1e-7)


def test_soft_references_are_averaged(world: World) -> None:
    audited, _, known = world(1.0)
    one, other = audited.views["soft 0"], audited.views["base"]

    def against(*references: Observations) -> np.ndarray:
        views = {f"soft {k}": view for k, view in enumerate(references)}
        return SoftDifference().score(replace(audited, views={"target": audited.views["target"], **views}), known)

    np.testing.assert_allclose(against(one, other), (against(one) + against(other)) / 2)


def test_target_minus_base_is_zero_for_an_untrained_target(world: World) -> None:
    audited, _, known = world(1.0)
    same = Evidence(audited.users, audited.user_index, {"target": audited.views["base"], "base": audited.views["base"]})
    scores = TargetMinusBase().score(same, known)
    np.testing.assert_array_equal(scores[:-1], 0)
