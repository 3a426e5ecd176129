"""Figures of published attacks beside those of the same attacks where everybody is served alike."""

from __future__ import annotations

import json
from collections.abc import Callable

import polars as pl
import pytest

from mia_core.pipeline import summarise
from mia_core.report.export import metrics_document
from mia_core.report.protocols import both_ways, explain_both_ways
from mia_core.report.results import AuditResult
from mia_core.types import Metric

Make = Callable[..., AuditResult]
Auc = tuple[float, float, float]


@pytest.fixture
def served(make_result: Make) -> Callable[..., AuditResult]:
    """An audit in which attacks have these AUCs, each with its interval; None: it could not be worked out."""

    def make(**aucs: Auc | None) -> AuditResult:
        metrics = [Metric(name, "auc", *(auc or (None, None, None)), 100) for name, auc in aucs.items()]
        return make_result(attacks=[summarise(name) for name in aucs], metrics=metrics)

    return make


def test_each_attack_has_one_row_and_the_rule_comes_first(served: Callable[..., AuditResult]) -> None:
    result = served(
        biased_mia=(0.55, 0.5, 0.6),
        biased_mia_published=(0.9, 0.85, 0.94),
        shadow_free_published=(0.97, 0.95, 0.99),
        reference_recommendation=(0.6, 0.5, 0.7),
        list_popularity=(0.5, 0.45, 0.55),
        list_popularity_published=(0.92, 0.9, 0.95),
    )
    rows = both_ways(result)
    assert [row.title for row in rows] == ["Popularity of the list", "Shadow-free", "Biased-MIA"]
    assert [row.is_rule for row in rows] == [True, False, False]
    # It was not run with one recommender for everybody.
    assert rows[1].one_recommender is None
    assert rows[2].one_recommender == result.metric("biased_mia", "auc")
    assert rows[2].published == result.metric("biased_mia_published", "auc")
    assert {row.own_vectors for row in rows} == {None}


def test_members_served_by_their_own_vectors_stand_in_the_same_row(served: Callable[..., AuditResult]) -> None:
    own = {"shadow_free_own_vectors": (0.7, 0.6, 0.8), "list_popularity_own_vectors": (0.6, 0.5, 0.7)}
    result = served(**own, shadow_free=(0.5, 0.4, 0.6), shadow_free_published=(0.9, 0.8, 0.95))
    rule, attack = both_ways(result)
    assert (rule.title, rule.one_recommender, rule.published) == ("Popularity of the list", None, None)
    assert rule.own_vectors == result.metric("list_popularity_own_vectors", "auc")
    assert (attack.title, attack.own_vectors) == ("Shadow-free", result.metric("shadow_free_own_vectors", "auc"))
    # The rule did not run as published.
    assert attack.explained is None
    assert "not known how much" in " ".join(explain_both_ways([rule, attack]))


@pytest.mark.parametrize(("highest", "explained"), [(0.89, False), (0.9, True), (0.99, True)])
def test_the_rule_explains_what_its_interval_reaches(
    highest: float, explained: bool, served: Callable[..., AuditResult]
) -> None:
    result = served(biased_mia_published=(0.9, 0.8, 0.95), list_popularity_published=(0.88, 0.7, highest))
    rule, attack = both_ways(result)
    assert (rule.explained, attack.explained) == (None, explained)
    told = " ".join(explain_both_ways([rule, attack]))
    assert "88 times in 100" in told
    assert ("explains the published figure of: Biased-MIA." in told) == explained
    assert ("more than the rule is found by: Biased-MIA." in told) != explained
    # Nothing ran with one recommender for everybody, so nothing is said of it.
    assert "one recommender" not in told.lower()


@pytest.mark.parametrize(("low", "found"), [(0.49, False), (0.51, True)])
def test_what_is_left_with_one_recommender_is_said(low: float, found: bool, served: Callable[..., AuditResult]) -> None:
    honest = (0.56, low, 0.63)
    result = served(
        biased_mia=honest, biased_mia_published=(0.9, 0.8, 0.95), list_popularity_published=(0.9, 0.8, 0.95)
    )
    (sentence,) = [text for text in explain_both_ways(both_ways(result)) if text.startswith("With one recommender")]
    assert ("Biased-MIA" in sentence) == found
    assert ("guessing" in sentence) != found


def test_without_the_rule_nothing_is_explained(served: Callable[..., AuditResult]) -> None:
    rows = both_ways(served(biased_mia_published=(0.9, 0.8, 0.95), list_popularity_published=None))
    assert [(row.attack, row.explained) for row in rows] == [("biased_mia", None)]
    assert "not known how much" in " ".join(explain_both_ways(rows))


def test_an_audit_without_published_protocols_has_no_such_rows(saved: AuditResult) -> None:
    assert both_ways(saved) == []
    assert explain_both_ways([]) == []


def test_the_exported_document_has_the_rows(served: Callable[..., AuditResult], users_table: pl.DataFrame) -> None:
    result = served(
        biased_mia=(0.55, 0.5, 0.6),
        biased_mia_published=(0.9, 0.85, 0.94),
        list_popularity_published=(0.92, 0.9, 0.95),
    )
    rule, attack = json.loads(json.dumps(metrics_document(result, users_table)))["served_both_ways"]
    assert (rule["attack"], rule["one_recommender"], rule["published"]["value"]) == ("list_popularity", None, 0.92)
    assert (attack["attack"], attack["one_recommender"]["low"], attack["explained"]) == ("biased_mia", 0.5, True)
