"""Two planted kinds of users, of whom only one was remembered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mia_core.report import cohorts
from mia_core.report.results import AuditResult
from mia_core.types import Role

N = 400
LEAKING, QUIET = "leaking", "quiet"


@pytest.fixture
def result(make_result: Callable[..., AuditResult]) -> AuditResult:
    return make_result(lead="loss")


def world(folder: Path, seed: int = 0, sign: float = 1.0) -> tuple[pl.DataFrame, np.ndarray]:
    """(users, kind of each): the kinds differ in entropy; of one of them members have a lower loss, so a higher score."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([LEAKING, QUIET], N)
    role = rng.choice([Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT], N)
    leak = 2.0 * sign * ((role == Role.AUDITED_MEMBER) & (kind == LEAKING))
    score = rng.normal(size=N) + leak
    users = pl.DataFrame(
        {
            "user": [f"u{i}" for i in range(N)],
            "role": [str(one) for one in role],
            "history_length": np.where(kind == LEAKING, 10, 50) + rng.integers(0, 5, N),
            "score.loss": score,
            "p.loss": rng.random(N),
        }
    )
    base = rng.normal(size=N)
    values = {
        ("target", "loss"): base - score,
        ("target", "entropy"): np.where(kind == LEAKING, 8.0, -8.0) + rng.normal(size=N),
        ("base", "loss"): base,
        ("base", "entropy"): np.where(kind == LEAKING, 8.0, -8.0) + rng.normal(size=N),
        # What learned from labels would give them away at once.
        ("student 0", "loss"): 100.0 * (role == Role.AUDITED_MEMBER),
        ("leaking", "loss"): 100.0 * (role == Role.AUDITED_MEMBER),
    }
    features = pl.concat(
        users.select("user", "role", model=pl.lit(m), feature=pl.lit(f), value=pl.Series(v))
        for (m, f), v in values.items()
    )
    folder.mkdir(exist_ok=True)
    features.write_parquet(folder / "features.parquet")
    return users, kind


def test_the_planted_cohorts_are_found_and_only_the_one_that_was_remembered_leaks(
    result: AuditResult, tmp_path: Path
) -> None:
    users, kind = world(tmp_path)
    formed, made = cohorts.form_cohorts(cohorts.portraits(tmp_path), 2, seed=0)
    kind_of = dict(zip(users["user"], kind, strict=True))
    by_cohort = {one.number: kind_of[one.exemplar] for one in made}
    assert set(by_cohort.values()) == {LEAKING, QUIET}
    right = [by_cohort[number] == kind_of[user] for user, number in formed.iter_rows()]
    assert np.mean(right) > 0.98
    leaks = {by_cohort[number]: leak for number, leak in cohorts.leaks_by_cohort(users, formed, result).items()}
    assert leaks[LEAKING].low > 0.8
    assert leaks[QUIET].low < 0.5 < leaks[QUIET].high
    assert sum(leak.members + leak.held_out for leak in leaks.values()) == N
    found, missed = leaks[LEAKING].found, leaks[QUIET].found
    assert found is not None
    assert missed is not None
    assert found.low > missed.high


def test_a_score_of_the_wrong_sign_is_no_leak(result: AuditResult, tmp_path: Path) -> None:
    users, kind = world(tmp_path, sign=-1.0)
    formed, made = cohorts.form_cohorts(cohorts.portraits(tmp_path), 2, seed=0)
    kind_of = dict(zip(users["user"], kind, strict=True))
    leaks = cohorts.leaks_by_cohort(users, formed, result)
    reversed_ = next(leaks[one.number] for one in made if kind_of[one.exemplar] == LEAKING)
    assert reversed_.high < 0.5


def test_nobodys_label_forms_a_cohort(tmp_path: Path) -> None:
    world(tmp_path)
    shown = cohorts.portraits(tmp_path)
    assert not any(name.startswith(("student", "leaking")) for name in shown.signals)
    rows = pl.read_parquet(tmp_path / "features.parquet")
    turned = pl.col("role").replace(
        {Role.AUDITED_MEMBER: Role.AUDITED_HELD_OUT, Role.AUDITED_HELD_OUT: Role.AUDITED_MEMBER}
    )
    rows.with_columns(turned).write_parquet(tmp_path / "features.parquet")
    first, _ = cohorts.form_cohorts(shown, 3, seed=0)
    again, _ = cohorts.form_cohorts(cohorts.portraits(tmp_path), 3, seed=0)
    assert first.equals(again)


def test_without_the_target_its_signals_take_no_part(tmp_path: Path) -> None:
    world(tmp_path)
    assert cohorts.portraits(tmp_path, by_target=False).signals == ["base · entropy", "base · loss"]


def test_a_portrait_holds_the_differences_and_leaves_out_whom_a_value_is_missing_of(tmp_path: Path) -> None:
    world(tmp_path)
    rows = pl.read_parquet(tmp_path / "features.parquet")
    gone = (pl.col("user") == "u5") & (pl.col("model") == "base") & (pl.col("feature") == "loss")
    rows.with_columns(value=pl.when(gone).then(None).otherwise("value")).write_parquet(tmp_path / "features.parquet")
    shown = cohorts.portraits(tmp_path)
    assert shown.left_out == 1
    assert "u5" not in shown.users
    at = {name: i for i, name in enumerate(shown.signals)}
    for user in ("u0", "u7"):
        row = shown.values[shown.users.index(user)]
        assert row[at["target − base · loss"]] == pytest.approx(row[at["target · loss"]] - row[at["base · loss"]])


def test_a_group_with_few_members_says_that_it_cannot_tell(result: AuditResult, tmp_path: Path) -> None:
    users, _ = world(tmp_path)
    few = users.filter(pl.col("role") == Role.AUDITED_MEMBER)["user"][: cohorts.FEWEST - 1]
    apart = users.select(
        "user", cohort=pl.when(pl.col("user").is_in(few.implode())).then(1).otherwise(2).cast(pl.Int64)
    )
    leaks = cohorts.leaks_by_cohort(users, apart, result)
    assert leaks[1].auc is None
    assert leaks[1].share.low > cohorts.share_of_members(users, result)
    assert leaks[2].auc is not None


def test_bins_hold_everybody_once_and_show_where_the_leak_is(result: AuditResult, tmp_path: Path) -> None:
    users, _ = world(tmp_path)
    bins = cohorts.leaks_by_value(users, "history_length", result)
    assert 2 <= len(bins) <= cohorts.BINS
    assert sum(one.leak.members + one.leak.held_out for one in bins) == N
    assert all(one.highest < after.lowest for one, after in pairwise(bins))
    short, long = bins[0].leak, bins[-1].leak
    assert short.low > 0.6
    assert long.low < 0.5 < long.high


def test_equal_values_are_never_separated(result: AuditResult, tmp_path: Path) -> None:
    users, _ = world(tmp_path)
    two = users.with_columns(history_length=pl.when(pl.col("history_length") > 30).then(50).otherwise(10))
    assert [(one.lowest, one.highest) for one in cohorts.leaks_by_value(two, "history_length", result)] == [
        (10, 10),
        (50, 50),
    ]
    assert cohorts.leaks_by_value(users.head(30), "history_length", result) == []


def test_intervals_of_several_groups_hold_together(result: AuditResult, tmp_path: Path) -> None:
    users, _ = world(tmp_path)
    alone = cohorts.leaks_by_cohort(users, users.select("user", cohort=pl.lit(1, pl.Int64)), result)[1]
    elsewhere = pl.DataFrame({"user": [f"x{i}" for i in range(9)], "cohort": range(2, 11)})
    among_ten = cohorts.leaks_by_cohort(
        users, pl.concat([users.select("user", cohort=pl.lit(1, pl.Int64)), elsewhere]), result
    )[1]
    assert among_ten.auc == alone.auc
    assert among_ten.low < alone.low
    assert among_ten.high > alone.high


def test_the_most_exposed_are_members_with_the_highest_scores(result: AuditResult, tmp_path: Path) -> None:
    users, _ = world(tmp_path)
    top = cohorts.most_exposed(users, result, 5)
    members = sorted(users.filter(pl.col("role") == Role.AUDITED_MEMBER)["score.loss"], reverse=True)
    assert top["score"].to_list() == members[:5]


def test_of_a_brought_target_the_known_users_are_compared(
    make_result: Callable[..., AuditResult], tmp_path: Path
) -> None:
    plain = make_result(lead="loss")
    config = {**plain.config, "target": {**plain.config["target"], "source": "own"}}
    users, _ = world(tmp_path)
    everybody = users.select("user", cohort=pl.lit(1, pl.Int64))
    brought = dataclasses.replace(plain, config=config)
    assert cohorts.leaks_by_cohort(users, everybody, brought)[1].members == 0
    known = users.with_columns(pl.col("role").str.replace("audited", "known"))
    assert cohorts.leaks_by_cohort(known, everybody, brought)[1].auc is not None


def test_last_times_are_each_users_latest(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": ["a", "a", "b", "c"], "timestamp": [3, 9, 4, None]})
    rows.write_parquet(tmp_path / "interactions.parquet")
    assert dict(cohorts.last_times(tmp_path).iter_rows()) == {"a": 9, "b": 4}
