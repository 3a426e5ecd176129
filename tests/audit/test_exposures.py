"""Recommenders of items, audited whole: what they show, to whom, and what may be concluded from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core.audit.exposures import Exposures
from mia_core.audit.stages import Run
from mia_core.evaluate.calibration import FEWEST
from mia_core.experiment import Runtime, parse_experiment
from mia_core.pipeline import run_audit, start
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store
from mia_core.studies.lookup import lookup_history
from mia_core.types import Role, Silent

LISTS = [
    "biased_mia",
    "biased_mia_published",
    "list_popularity",
    "list_popularity_own_vectors",
    "list_popularity_published",
]


def classic(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"synthetic": {"users": 260, "items": 120, "mean_history": 25}},
        "split": {"public_share": 0.4},
        "target": {"source": "recommender"},
        "attacks": {"names": LISTS, "lead": "biased_mia"},
        "evaluation": {"placebo": False, "ranked_users": 30, "resamples": 200},
        **changes,
        "recommender": {"factors": 16, "length": 15, **changes.get("recommender", {})},
    }


def sequential(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"synthetic": {"users": 260, "items": 80, "mean_history": 10}},
        "base": {"family": "sasrec", "width": 32, "layers": 2, "pretraining": {"epochs": 4, "learning_rate": 3e-3}},
        "target": {"start": "scratch", "training": {"epochs": 40, "learning_rate": 3e-3}, **changes.pop("target", {})},
        "recommender": {"length": 15},
        "attacks": {"names": ["loss", "target_minus_base", "biased_mia", "lira_offline"], "lead": "target_minus_base"},
        "evaluation": {"placebo": False, "ranked_users": 10, "resamples": 200, "map_users": 60},
        **changes,
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def audited(document: dict[str, Any], store: Store) -> AuditResult:
    return run_audit(parse_experiment(document), store)


def opened(document: dict[str, Any], store: Store) -> Run:
    return start(parse_experiment(document), store, Silent(), Runtime(), announce=False)


def auc(result: AuditResult, attack: str) -> tuple[float, float, float]:
    found = result.metric(attack, "auc")
    assert found is not None
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.value, found.high


def users_of(result: AuditResult, store: Store) -> pl.DataFrame:
    folder = store.find(result.key)
    assert folder is not None
    return read_table(folder, "users")


@pytest.mark.parametrize("kind", ["latent_factor", "item_based", "neural", "popularity"])
def test_who_is_served_differently_is_found_and_is_no_evidence(kind: str, shared: Store) -> None:
    result = audited(classic(recommender={"kind": kind, "epochs": 5}), shared)
    assert auc(result, "list_popularity_published")[1] > 0.95 or kind == "popularity"
    # The auditor's own world says what a member looks like: who was served by a recommender, not who was not.
    assert auc(result, "biased_mia_published")[1] > 0.7 or kind == "popularity"
    low, _, high = auc(result, "list_popularity")
    assert low < 0.5 < high
    assert result.claims is not None
    # What tells two ways of serving apart is not among the attacks of which the best is weighed.
    assert {row.attack for row in result.claims.comparisons} == {"biased_mia", "list_popularity"}
    assert {q.recommender for q in result.quality} == {"target", "popularity"}


def test_everybody_has_lists_without_their_own_items(shared: Store) -> None:
    run = opened(classic(), shared)
    exposures = Exposures(run)
    served = exposures.lists("lists", run.samples, exposures.target)
    had = exposures.histories(run.samples).toarray() > 0
    assert served.shape == (len(run.samples), 15)
    assert not had[np.arange(len(served))[:, None], served].any()
    # In the published protocol those who are no members all get one list.
    popular = exposures.lists("lists/popular", run.samples, exposures.target)
    members = np.isin([run.samples.users[i] for i in run.samples.user_index], exposures.target.members)
    assert len(np.unique(popular[~members], axis=0)) == 1
    assert len(np.unique(popular[members], axis=0)) > 10
    # A list depends on nobody else who is served.
    np.testing.assert_array_equal(exposures.lists("lists", run.samples.take([7]), exposures.target)[0], served[7])


def test_the_shadow_world_is_made_of_third_parties_alone(shared: Store) -> None:
    run = opened(classic(), shared)
    exposures = Exposures(run)
    world = exposures.shadow
    public = set(run.split.users(Role.PUBLIC))
    assert {*world.members, *world.held_out} < public
    assert not {*world.members} & {*world.held_out}
    assert abs(len(world.members) - len(world.held_out)) <= 1
    vectors = exposures.item_vectors
    rest = public - {*world.members, *world.held_out}
    there = np.asarray(exposures.histories(run.windows(sorted(rest))).sum(axis=0)).ravel() > 0
    assert (vectors.any(axis=1) == there).all()


def test_randomised_lists_hide_nothing_from_one_line(shared: Store) -> None:
    plain, randomised = (opened(classic(recommender={"candidates": count}), shared) for count in (0, 60))
    lists = [Exposures(run).lists("lists/popular", run.samples, Exposures(run).target) for run in (plain, randomised)]
    members = np.isin([plain.samples.users[i] for i in plain.samples.user_index], Exposures(plain).target.members)
    assert len(np.unique(lists[1][~members], axis=0)) > 20
    result = audited(classic(recommender={"candidates": 60}), shared)
    low, _, high = auc(result, "list_popularity")
    assert low < 0.5 < high


def test_a_pasted_history_is_judged_whole_and_belongs_to_nobody(shared: Store) -> None:
    document = classic(
        data={"synthetic": {"users": 700, "items": 120, "mean_history": 25}},
        attacks={"names": ["list_popularity", "list_popularity_own_vectors"], "lead": "list_popularity"},
    )
    result = audited(document, shared)
    run = opened(document, shared)
    user = run.split.users(Role.AUDITED_HELD_OUT)[0]
    history = [event.title for event in run.events[user]]
    found = lookup_history(result.key, history, shared, Silent(), Runtime())
    row = users_of(result, shared).filter(pl.col("user") == user)
    assert found.score == pytest.approx(row["score.list_popularity"][0], abs=1e-6)
    assert found.p_value is not None
    # Like is compared with like.
    assert FEWEST <= found.calibration_users < len(run.split.users(Role.AUDITED_HELD_OUT))
    by_length = lookup_history(result.key, history[-3:], shared, Silent(), Runtime())
    assert by_length.calibration_users >= FEWEST
    short = lookup_history(result.key, history[:1], shared, Silent(), Runtime())
    assert short.p_value is None
    assert "takes 2" in (short.reason or "")


@pytest.mark.slow
def test_a_sequence_recommender_that_memorised_is_found_out(shared: Store) -> None:
    result = audited(sequential(), shared)
    assert auc(result, "loss")[0] > 0.7
    assert auc(result, "lira_offline")[0] > 0.7
    folder = shared.find(result.key)
    assert folder is not None
    places = read_table(folder, "map")
    assert set(places["drawn_from"]) == {"outputs", "correlation", "hidden"}
    assert set(places["role"]) == {"audited member", "audited held-out"} or places["role"].n_unique() == 2
    finished = places.filter(pl.col("epoch").is_null())
    assert finished.group_by("drawn_from", "method").len()["len"].to_list() == 6 * [60]


def test_copies_train_and_are_never_scored(shared: Store) -> None:
    plain, copied = opened(sequential(), shared), opened(sequential(target={"copies": 2}), shared)
    assert copied.samples.users == plain.samples.users
    assert copied.samples.answers == plain.samples.answers
    assert copied.target.key != plain.target.key


def test_p_values_may_compare_like_with_like(shared: Store) -> None:
    document = classic(evaluation={"placebo": False, "ranked_users": 0, "resamples": 200, "compared_with": "like"})
    users = users_of(audited(document, shared), shared)
    assert users["p.biased_mia"].equals(users["p_stratum.biased_mia"], null_equal=True)
    whole = users_of(
        audited({**document, "evaluation": {**document["evaluation"], "compared_with": "all"}}, shared), shared
    )
    assert whole["p_stratum.biased_mia"].equals(users["p_stratum.biased_mia"], null_equal=True)
    assert not whole["p.biased_mia"].equals(users["p.biased_mia"], null_equal=True)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"target": {"source": "recommender"}, "prompt": {"style": "next_item"}}, "reads items, not words"),
        ({"base": {"family": "sasrec"}, "target": {"tuning": "lora"}}, "target.tuning"),
        ({"base": {"family": "xlnet", "source": "hub"}}, "base.source"),
        ({"prompt": {"style": "whole_history"}}, "does not read"),
        ({"target": {"copies": 2}}, "sequence recommenders"),
        ({"recommender": {"candidates": 5}}, "at least as many"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_way_out(document: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        parse_experiment(document)
