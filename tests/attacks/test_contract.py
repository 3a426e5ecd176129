"""What every attack must keep. A new attack is tested here by its line in `ATTACKS`, with nothing else done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.contract import DEMONSTRATION, HONEST, PUBLISHED, out_of_fold_scores
from mia_core.attacks.evidence import Evidence, Known
from mia_core.observe.views import LISTS, REFERENCES, VARIANTS, parse_view

World = Callable[..., tuple[Evidence, np.ndarray, Known]]


@pytest.fixture(params=ATTACKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_is_frozen_and_says_what_it_is(name: str) -> None:
    attack = ATTACKS[name]
    assert dataclasses.is_dataclass(attack)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack().title = "x"  # type: ignore[misc]
    for text in (attack.title, attack.summary, attack.access, attack.passes, attack.source, attack.__doc__):
        assert (text or "").strip()
    assert attack.access in {"labels only", "logits", "white box"}
    assert attack.status in {HONEST, PUBLISHED, DEMONSTRATION}
    for need in (need.rstrip("?") for need in attack.needs):
        model, variant, _ = parse_view(need) if need not in {*LISTS, "gradient", "inquiry"} else ("target", "", 0)
        assert model in {"target", *REFERENCES}
        assert variant in {"", *VARIANTS}


def test_members_score_higher_in_a_planted_world(name: str, world: World) -> None:
    audited, member, known = world(2.0)
    scores = ATTACKS[name]().score(audited, known)
    scored = ~np.isnan(scores)
    assert roc_auc_score(member[scored], scores[scored]) > 0.75


def test_it_finds_nothing_where_nothing_was_trained(name: str, world: World) -> None:
    aucs = []
    for seed in range(3):
        audited, member, known = world(0.0, seed=seed)
        scores = ATTACKS[name]().score(audited, known)
        scored = ~np.isnan(scores)
        aucs.append(roc_auc_score(member[scored], scores[scored]))
    assert 0.38 < np.mean(aucs) < 0.62


def test_a_user_without_windows_is_not_scored(name: str, world: World) -> None:
    audited, _, known = world(1.0)
    scores = ATTACKS[name]().score(audited, known)
    assert np.isnan(scores[-1])
    assert np.isfinite(scores[:-1]).all()


def test_order_and_company_do_not_matter(name: str, world: World) -> None:
    audited, _, known = world(1.0)
    attack = ATTACKS[name]()
    together = attack.score(audited, known)
    order = np.random.default_rng(1).permutation(len(together))
    np.testing.assert_allclose(attack.score(audited.take(order), known), together[order], atol=1e-6)
    alone = attack.score(audited.take(np.array([5])), known)
    np.testing.assert_allclose(alone, together[[5]], atol=1e-6)


def test_the_same_evidence_gives_the_same_scores(name: str, world: World) -> None:
    audited, _, known = world(1.0)
    np.testing.assert_array_equal(ATTACKS[name]().score(audited, known), ATTACKS[name]().score(audited, known))


def test_audited_labels_cannot_reach_a_score(name: str, world: World) -> None:
    audited, _, known = world(1.0)
    fields = {field.name for field in dataclasses.fields(audited)}
    assert not fields & {"member", "label", "labels", "role", "roles"}
    shuffled = Known(known.evidence, np.random.default_rng(0).permutation(known.member))
    attack = ATTACKS[name]()
    same = np.array_equal(attack.score(audited, known), attack.score(audited, shuffled), equal_nan=True)
    assert same == (not attack.learned)


def test_out_of_fold_scores_do_not_know_the_label_they_are_compared_with(name: str, world: World) -> None:
    attack = ATTACKS[name]()
    aucs = []
    for seed in range(3):
        _, _, known = world(0.0, seed=seed, audited=20)
        scores = out_of_fold_scores(attack, known)
        aucs.append(roc_auc_score(known.member, scores))
    assert np.mean(aucs) < 0.65
    _, _, known = world(2.0, audited=20)
    assert roc_auc_score(known.member, out_of_fold_scores(attack, known)) > 0.7
