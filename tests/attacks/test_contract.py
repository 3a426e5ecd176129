"""What every attack must keep. A new attack is tested here by its line in `ATTACKS`, with nothing else done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS, GROUPS, configured
from mia_core.attacks.contract import (
    CONFOUNDED,
    DEMONSTRATION,
    HONEST,
    PUBLISHED,
    Attack,
    is_transductive,
    out_of_fold_scores,
)
from mia_core.attacks.evidence import Evidence, Known
from mia_core.observe.views import LISTS, REFERENCES, VARIANTS, parse_view

World = Callable[..., tuple[Evidence, np.ndarray, Known]]
Planted = Callable[[str], World]
Scored = Callable[..., np.ndarray]

QUICK = {
    "autoencoder_epochs": 5,
    "classifier_epochs": 10,
    "joint_epochs": 10,
    "latent": 8,
    "encoder": 8,
    "decoder": 8,
    "batch": 64,
}
"""DL-MIA's own settings take minutes."""
SETTINGS = {"dl_mia": QUICK, "dl_mia_published": QUICK}


TAKES_LONG = ("dl_mia_published",)
"""Beside it stands the same attack under the other protocol."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in TAKES_LONG else name for name in ATTACKS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str) -> Attack:
    return configured(name, SETTINGS.get(name, {}))


@pytest.fixture(scope="module")
def planted(world: World, shop_world: World) -> Planted:
    """The kind of world that an attack looks at."""
    return lambda name: shop_world if name in GROUPS["recommenders"].attacks else world


@pytest.fixture(scope="module")
def scored(planted: Planted) -> Scored:
    """Scores of an attack in a world, which is named as by `world`; several tests look at the same ones."""

    @cache
    def score(name: str, strength: float, **sizes: int) -> np.ndarray:
        audited, _, known = planted(name)(strength, **sizes)
        scores = made(name).score(audited, known)
        scores.setflags(write=False)
        return scores

    return score


def test_it_is_frozen_and_says_what_it_is(name: str) -> None:
    attack = ATTACKS[name]
    assert dataclasses.is_dataclass(attack)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack().title = "x"  # type: ignore[misc]
    for text in (attack.title, attack.summary, attack.access, attack.passes, attack.source, attack.__doc__):
        assert (text or "").strip()
    assert attack.access in {"labels only", "logits", "white box"}
    assert attack.status in {HONEST, PUBLISHED, CONFOUNDED, DEMONSTRATION}
    for need in {need.rstrip("?") for need in attack.needs} - {*LISTS, "gradient", "inquiry", "shadow_world"}:
        model, variant, _ = parse_view(need)
        assert model in {"target", *REFERENCES}
        assert variant in {"", *VARIANTS}


def test_members_score_higher_in_a_planted_world(name: str, planted: Planted, scored: Scored) -> None:
    _, member, _ = planted(name)(2.0)
    scores = scored(name, 2.0)
    scorable = ~np.isnan(scores)
    assert roc_auc_score(member[scorable], scores[scorable]) > 0.75


def test_it_finds_nothing_where_nothing_was_trained(name: str, planted: Planted, scored: Scored) -> None:
    # One large world: three small ones would be no more certain, and cost an attack that learns three fits.
    _, member, _ = planted(name)(0.0, audited=360, known=160)
    scores = scored(name, 0.0, audited=360, known=160)
    scorable = ~np.isnan(scores)
    auc = roc_auc_score(member[scorable], scores[scorable])
    # A confounded protocol finds who was served by which recommender, training or no training.
    assert auc > 0.62 if ATTACKS[name].status == CONFOUNDED else 0.38 < auc < 0.62


def test_a_user_without_windows_is_not_scored(name: str, scored: Scored) -> None:
    scores = scored(name, 2.0)
    assert np.isnan(scores[-1])
    assert np.isfinite(scores[:-1]).all()


def test_order_and_company_do_not_matter(name: str, planted: Planted, scored: Scored) -> None:
    audited, _, known = planted(name)(2.0)
    attack = made(name)
    if is_transductive(attack):
        pytest.skip("it says of itself that it is trained on all audited users, without their labels")
    together = scored(name, 2.0)
    order = np.random.default_rng(1).permutation(len(together))
    np.testing.assert_allclose(attack.score(audited.take(order), known), together[order], atol=1e-6)
    alone = attack.score(audited.take(np.array([5])), known)
    np.testing.assert_allclose(alone, together[[5]], atol=1e-6)


def test_the_same_evidence_gives_the_same_scores(name: str, planted: Planted, scored: Scored) -> None:
    audited, _, known = planted(name)(2.0)
    np.testing.assert_array_equal(made(name).score(audited, known), scored(name, 2.0))


def test_audited_labels_cannot_reach_a_score(name: str, planted: Planted, scored: Scored) -> None:
    audited, _, known = planted(name)(2.0)
    fields = {field.name for field in dataclasses.fields(audited)}
    assert not fields & {"member", "label", "labels", "role", "roles"}
    shuffled = Known(known.evidence, np.random.default_rng(0).permutation(known.member))
    attack = made(name)
    same = np.array_equal(scored(name, 2.0), attack.score(audited, shuffled), equal_nan=True)
    assert same == (not attack.learned)


def test_out_of_fold_scores_do_not_know_the_label_they_are_compared_with(name: str, planted: Planted) -> None:
    attack = made(name)
    _, _, known = planted(name)(0.0, audited=20, known=160)
    found_in_noise = roc_auc_score(known.member, out_of_fold_scores(attack, known, folds=2))
    assert attack.status == CONFOUNDED or found_in_noise < 0.65
    _, _, known = planted(name)(2.0)
    assert roc_auc_score(known.member, out_of_fold_scores(attack, known, folds=2)) > 0.7


def test_nobody_is_scored_by_an_attack_that_was_fitted_on_them(world: World) -> None:
    class ByHeart:
        """Knows the labels of those it was fitted on, and nothing else."""

        learned: ClassVar[bool] = True

        def score(self, audited: Evidence, known: Known) -> np.ndarray:
            assert len({*audited.users, *known.evidence.users}) == 80
            labels = dict(zip(known.evidence.users, known.member, strict=True))
            return np.array([float(labels.get(user, 0.5)) for user in audited.users])

    _, _, known = world(1.0)
    np.testing.assert_array_equal(out_of_fold_scores(ByHeart(), known), 0.5)  # type: ignore[arg-type]
