from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.contract import Attack
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.perturbed import (
    ConRecall,
    HistorySwapSensitivity,
    Neighbourhood,
    NeighbourhoodMinusBase,
    NoisyNeighbours,
    Recall,
    TemplateSensitivity,
)
from mia_core.observe.observations import Observations

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


def likelihood(evidence: Evidence, view: str) -> list[float]:
    """Mean log-probability of each sample, in plain loops."""
    observed = evidence.views[view]
    return [float(np.mean(part)) for part in np.split(observed.log_probability, observed.offsets[1:-1])]


def shifted(view: Observations, by: float) -> Observations:
    return replace(view, log_probability=view.log_probability + np.float32(by))


def altered(evidence: Evidence, change: Callable[[str, Observations], Observations]) -> Evidence:
    """The evidence with every view changed by its name."""
    return replace(evidence, views={name: change(name, view) for name, view in evidence.views.items()})


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        (Neighbourhood(), "target/answer_swapped"),
        (TemplateSensitivity(), "target/template"),
        (HistorySwapSensitivity(), "target/history_swapped"),
    ],
    ids=repr,
)
def test_a_drop_is_the_likelihood_minus_its_mean_over_the_alterations(attack: Attack, kind: str, world: World) -> None:
    audited, _, known = world(1.0)
    copies = [likelihood(audited, name) for name in audited.views if name.startswith(kind)]
    drops = np.array(likelihood(audited, "target")) - np.mean(copies, axis=0)
    expected = [drops[audited.user_index == user].mean() for user in range(len(audited.users) - 1)]
    np.testing.assert_allclose(attack.score(audited, known)[:-1], expected, rtol=1e-5, atol=1e-6)
    # An easier text raises a sample and its alterations alike.
    easier = altered(audited, lambda name, view: shifted(view, 0.5))
    np.testing.assert_allclose(attack.score(easier, known), attack.score(audited, known), atol=1e-5)


def test_the_base_takes_away_how_easily_a_title_is_spelled(world: World) -> None:
    audited, _, known = world(1.0)
    before = NeighbourhoodMinusBase().score(audited, known)
    swapped_are_harder = altered(audited, lambda name, view: shifted(view, -2.0 if "answer_swapped" in name else 0.0))
    np.testing.assert_allclose(NeighbourhoodMinusBase().score(swapped_are_harder, known), before, atol=1e-5)
    assert (Neighbourhood().score(swapped_are_harder, known) - Neighbourhood().score(audited, known))[0] > 1.9
    likelier = altered(audited, lambda name, view: shifted(view, 0.3 if name == "target" else 0.0))
    np.testing.assert_allclose(NeighbourhoodMinusBase().score(likelier, known), before + 0.3, atol=1e-5)


def test_recall_is_one_where_the_context_changes_nothing_and_rises_with_the_disturbance(world: World) -> None:
    audited, _, known = world(1.0)

    def after(by: float) -> np.ndarray:
        context = shifted(audited.views["target"], by)
        views = {**audited.views, "target/after_held_out": context}
        return Recall().score(replace(audited, views=views), known)[:-1]

    np.testing.assert_array_equal(after(0.0), 1)
    assert (after(-1.0) > after(-0.5)).all()
    assert (after(-0.5) > 1).all()


def test_recall_is_finite_for_answers_that_are_certain(world: World) -> None:
    audited, _, known = world(1.0)
    certain = altered(audited, lambda name, view: replace(view, log_probability=0 * view.log_probability))
    np.testing.assert_array_equal(Recall().score(certain, known)[:-1], 1)


def test_con_recall_is_the_contrast_of_two_contexts(world: World) -> None:
    audited, _, _ = world(1.0)
    attack = ConRecall(gammas=(0.2, 0.9))
    alone = np.array(likelihood(audited, "target"))
    held_out = np.array(likelihood(audited, "target/after_held_out"))
    members = np.array(likelihood(audited, "target/after_members"))
    for gamma, found in zip(attack.gammas, attack.candidates(audited).T, strict=True):
        # The floor under the losses is a hundredth of a nat.
        np.testing.assert_allclose(found, (held_out - gamma * members) / alone, rtol=0.03, atol=0.03)


def test_con_recall_chooses_gamma_on_the_known_users_alone(world: World) -> None:
    audited, member, known = world(1.5)
    scores = ConRecall().score(audited, known)[:-1]
    alone = {
        gamma: roc_auc_score(known.member, ConRecall(gammas=(gamma,)).score(known.evidence, known))
        for gamma in ConRecall().gammas
    }
    best = max(alone, key=lambda gamma: alone[gamma])
    np.testing.assert_allclose(scores, ConRecall(gammas=(best,)).score(audited, known)[:-1])
    assert roc_auc_score(member[:-1], scores) > 0.9


def test_noisy_neighbours_choose_the_level_that_separates_known_users(world: World) -> None:
    audited, member, known = world(2.0)

    def second_level_tells_nothing(evidence: Evidence) -> Evidence:
        loudest = {f"target/noisy {k}": evidence.views["target"] for k in (2, 3)}
        return replace(evidence, views={**evidence.views, **loudest})

    quiet = second_level_tells_nothing(audited)
    scores = NoisyNeighbours().score(quiet, Known(second_level_tells_nothing(known.evidence), known.member))[:-1]
    assert roc_auc_score(member[:-1], scores) > 0.9
    first, second = NoisyNeighbours().candidates(quiet).T
    np.testing.assert_array_equal(second, 0)
    copies = [likelihood(audited, f"target/noisy {k}") for k in range(2)]
    np.testing.assert_allclose(first, np.array(likelihood(audited, "target")) - np.mean(copies, axis=0), atol=1e-5)
