from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mia_core.evaluate.intervals import tpr_interval
from mia_core.evaluate.metrics import smallest_fpr, users_needed
from mia_core.report.overlap import MOST, compared_attacks, overlap
from mia_core.report.results import AuditResult
from mia_core.report.signals import OVER_BASE, OVER_REFERENCE, shown_models, signal
from mia_core.report.thresholds import call, fixed_threshold, scores_of, threshold_at, thresholds, with_truth
from mia_core.types import Role


def test_a_threshold_counts_whoever_reaches_it() -> None:
    rng = np.random.default_rng(0)
    members, held_out = np.sort(rng.integers(0, 9, 40) + 1.0), np.sort(rng.integers(0, 9, 30) + 0.0)
    for threshold in thresholds(members, held_out):
        called = call(members, held_out, threshold, 0.95)
        hits, alarms = int((members >= threshold).sum()), int((held_out >= threshold).sum())
        assert called.recall.hits == hits
        assert called.false_alarms.value == pytest.approx(alarms / 30)
        assert called.precision.value == pytest.approx(hits / (hits + alarms))
        assert called.precision.low < called.precision.value <= called.precision.high


def test_a_stricter_threshold_never_calls_more() -> None:
    rng = np.random.default_rng(1)
    members, held_out = np.sort(rng.normal(1, 1, 500)), np.sort(rng.normal(size=500))
    choices = thresholds(members, held_out)
    assert len(choices) <= 240
    assert (np.diff(choices) < 0).all()
    called = [call(members, held_out, threshold, 0.95) for threshold in [*choices[:-1:12], choices[-1]]]
    assert called[0].precision.n == 1
    assert called[-1].precision.n == 1_000
    assert all(a.precision.n < b.precision.n for a, b in pairwise(called))


def test_nobody_above_the_threshold_has_no_precision() -> None:
    called = call(np.array([1.0]), np.array([0.0]), 2.0, 0.95)
    assert called.precision.value is None
    assert called.recall.value == 0


@pytest.mark.parametrize("level", [0.05, 0.1, 0.29])
def test_the_threshold_of_a_level_is_that_of_the_reports_tpr(level: float) -> None:
    rng = np.random.default_rng(2)
    members, held_out = rng.normal(1, 1, 80), np.sort(rng.normal(size=100))
    rate, _, _ = tpr_interval(members, held_out, np.array([level]), 50, 0.95, rng)
    limit = threshold_at(held_out, level)
    assert (members > limit).mean() == pytest.approx(rate[0])
    assert (held_out > limit).sum() == round(100 * level)


def test_the_reports_threshold_rests_on_known_users_alone(users_table: pl.DataFrame, saved: AuditResult) -> None:
    fixed = fixed_threshold(users_table, "score.distillation")
    turned = users_table.with_columns(
        pl.when(pl.col("role").str.starts_with("audited"))
        .then(-pl.col("score.distillation"))
        .otherwise("score.distillation")
        .alias("score.distillation")
    )
    assert fixed == fixed_threshold(turned, "score.distillation")
    members, held_out = scores_of(with_truth(users_table, saved), "score.distillation")
    recall = saved.metric("distillation", "recall")
    assert fixed is not None
    assert recall is not None
    assert call(members, held_out, fixed, 0.95).recall.value == pytest.approx(recall.value)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.05, 0.1])
def test_the_smallest_resolved_fpr_is_that_of_so_many_users(level: float) -> None:
    assert smallest_fpr(users_needed(level)) <= level < smallest_fpr(users_needed(level) - 1)


def planted(result: AuditResult) -> tuple[pl.DataFrame, AuditResult]:
    """100 members, 100 held-out users: loss finds the first half of the members, distillation the second and ten of loss's."""
    role = [Role.AUDITED_MEMBER] * 100 + [Role.AUDITED_HELD_OUT] * 100
    noise, place = np.random.default_rng(3).random(200), np.arange(200)
    users = pl.DataFrame(
        {
            "role": [str(one) for one in role],
            "score.loss": noise + np.where(place < 50, 5, np.where(place < 100, -2, 0)),
            "score.distillation": noise + np.where((place >= 40) & (place < 100), 5, np.where(place < 100, -2, 0)),
        }
    )
    return users, result


def test_attacks_that_find_other_members_overlap_little(saved: AuditResult) -> None:
    users, result = planted(saved)
    found = overlap(users, result, ["distillation", "loss"])
    assert found is not None
    assert found.level == 0.05
    assert dict(found.attacks.select("attack", "found").iter_rows()) == {"distillation": 60, "loss": 50}
    assert dict(found.attacks.select("attack", "alone").iter_rows()) == {"distillation": 50, "loss": 40}
    assert found.together == 100
    pair = found.pairs.filter(first="Loss", second="Distillation").row(0, named=True)
    assert pair["shared"] == 10
    assert pair["jaccard"] == pytest.approx(0.1)
    assert found.pairs.filter(first="Loss", second="Loss")["jaccard"].item() == 1


def test_too_few_held_out_users_give_no_overlap(saved: AuditResult) -> None:
    users, result = planted(saved)
    assert overlap(users.head(128), result, ["distillation", "loss"]) is None
    assert overlap(users.head(140), result, ["distillation", "loss"]).level == 0.1  # type: ignore[union-attr]
    assert overlap(users, result, ["loss"]) is None


def test_at_most_twelve_are_compared_and_the_lead_among_them(make_result: Callable[..., AuditResult]) -> None:

    plain = make_result(lead="loss")
    better = [dataclasses.replace(plain.attack("distillation"), name=f"d{i}") for i in range(20)]
    metrics = [
        dataclasses.replace(metric, attack=f"d{i}")
        for i in range(20)
        for metric in plain.metrics
        if metric.attack == "distillation"
    ]
    many = dataclasses.replace(plain, attacks=[*plain.attacks, *better], metrics=[*plain.metrics, *metrics])
    names = compared_attacks(many)
    assert len(names) == MOST
    assert "loss" in names


def test_differences_are_each_users_own(tmp_path: Path) -> None:
    rows = [
        ("a", "target", "loss", 3.0),
        ("b", "target", "loss", 5.0),
        ("a", "base", "loss", 1.0),
        ("b", "base", "loss", None),
        ("b", "soft 0", "loss", 1.0),
        ("b", "soft 1", "loss", 2.0),
        ("a", "target", "entropy", 9.0),
    ]
    table = pl.DataFrame(rows, ["user", "model", "feature", "value"], orient="row")
    table = table.with_columns(role=pl.lit("audited_member"))
    folder = tmp_path
    table.write_parquet(folder / "features.parquet")
    assert shown_models(folder) == ["target", "base", "soft 0", "soft 1", OVER_BASE, OVER_REFERENCE]
    assert signal(folder, OVER_BASE, "loss").select("user", "value").rows() == [("a", 2.0)]
    assert signal(folder, OVER_REFERENCE, "loss").select("user", "value").rows() == [("b", 3.5)]
    assert signal(folder, "target", "entropy")["value"].to_list() == [9.0]
