from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from mia_core.errors import NotFound
from mia_core.report.lookup import find_audit, flag_at_every_offset, lookup_user, weigh
from mia_core.report.results import AuditResult, Flag
from mia_core.storage.store import Store
from mia_core.types import Role


def users_of(table: pl.DataFrame, role: Role) -> list[str]:
    return table.filter(pl.col("role") == role)["user"].to_list()


def test_an_audited_member_gets_score_p_value_and_place_among_held_out_users(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    found = lookup_user(store, saved.key, "00123")
    held_out = users_table.filter(pl.col("role") == Role.AUDITED_HELD_OUT)["score.distillation"]
    assert (found.role, found.attack, found.windows, found.reason) == (Role.AUDITED_MEMBER, "distillation", 3, "")
    assert found.p_value is not None
    assert found.p_value < 0.1
    assert found.calibration_users == len(found.held_out_scores) == 70
    assert found.share_below == (held_out < found.score).mean()
    # Neither the user nor the member without a score.
    assert len(found.member_scores) == 68


def test_a_calibration_user_is_compared_with_the_others(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    rows = users_table.filter(pl.col("role") == Role.AUDITED_HELD_OUT).sort("score.distillation")
    highest = lookup_user(store, saved.key, rows["user"][-1])
    assert highest.calibration_users == 69
    assert highest.share_below == 1
    assert highest.p_value == pytest.approx(1 / 70)
    assert highest.score not in highest.held_out_scores


@pytest.mark.parametrize("role", [Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT])
def test_a_known_user_gets_a_score_but_no_p_value_and_is_told_why(
    store: Store, saved: AuditResult, users_table: pl.DataFrame, role: Role
) -> None:
    found = lookup_user(store, saved.key, users_of(users_table, role)[0])
    assert found.score is not None
    assert found.p_value is None
    assert "used to build the audit" in found.reason


def test_a_public_user_gets_neither_and_is_told_why(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    found = lookup_user(store, saved.key, users_of(users_table, Role.PUBLIC)[0])
    assert (found.score, found.p_value) == (None, None)
    assert "used to build the audit" in found.reason


def test_a_user_who_could_not_be_scored_is_told_so(store: Store, saved: AuditResult) -> None:
    found = lookup_user(store, saved.key, "m 7")
    assert (found.score, found.p_value, found.share_below) == (None, None, None)
    assert "cannot be scored" in found.reason


def test_another_attack_can_be_asked_for(store: Store, saved: AuditResult) -> None:
    found = lookup_user(store, saved.key, "00123", "loss")
    assert found.attack == "loss"
    assert found.score != lookup_user(store, saved.key, "00123").score
    with pytest.raises(NotFound, match="loss, distillation"):
        lookup_user(store, saved.key, "00123", "lss")


def test_an_attack_that_did_not_run_says_why(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:
    plain = make_result()
    skipped = dataclasses.replace(plain.attacks[0], name="shadow_classifier", skipped="needs a base")
    save_audit(dataclasses.replace(plain, attacks=[*plain.attacks, skipped]))
    found = lookup_user(store, plain.key, "00123", "shadow_classifier")
    assert found.score is None
    assert "needs a base" in found.reason


@pytest.mark.parametrize("stranger", ["123", " 00123", "Nobody", "zoë 🎬", ""])
def test_ids_are_matched_exactly_and_nobody_elses_id_is_shown(
    store: Store, saved: AuditResult, users_table: pl.DataFrame, stranger: str
) -> None:
    with pytest.raises(NotFound, match="matched exactly") as caught:
        lookup_user(store, saved.key, stranger)
    assert not any(user in str(caught.value).replace(repr(stranger), "") for user in users_table["user"])


def test_with_a_target_of_ones_own_the_listed_members_are_the_comparison(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:
    plain = make_result()
    own = {**plain.config, "target": {**plain.config["target"], "source": "own"}}
    save_audit(dataclasses.replace(plain, config=own))
    assert len(lookup_user(store, plain.key, "00123").member_scores) == 30


def test_an_audit_is_found_by_key_prefix_name_or_as_the_latest(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:
    with pytest.raises(NotFound, match="no finished audit"):
        find_audit(store, "latest")
    first = save_audit(make_result(key="ab12" + "0" * 60, name="Films"))
    second = save_audit(make_result(key="ab13" + "0" * 60, name="Films"))
    third = save_audit(make_result(key="ffff" + "0" * 60, name="ab12"))
    assert find_audit(store, first.key).key == first.key
    assert find_audit(store, "ab12").key == first.key
    assert find_audit(store, "AB13").key == second.key
    assert find_audit(store, "films").key == second.key
    assert find_audit(store, "latest").key == third.key


def test_a_point_of_a_study_is_found_by_key_and_name_but_is_the_latest_only_where_nothing_else_is(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    point = save_audit(make_result(key="ab13" + "0" * 60, name="Epochs: epochs 3"), "point")
    assert find_audit(store, "latest").key == point.key
    audit = save_audit(make_result(name="Films"))
    save_audit(make_result(key="ab14" + "0" * 60, name="Epochs: epochs 6"), "point")
    assert find_audit(store, "latest").key == audit.key
    assert find_audit(store, "ab13").key == find_audit(store, "epochs: EPOCHS 3").key == point.key


def test_an_unclear_or_unknown_audit_is_an_error_that_helps(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:
    save_audit(make_result(key="abcd1" + "0" * 59))
    save_audit(make_result(key="abcd2" + "0" * 59))
    with pytest.raises(NotFound, match="2 keys begin"):
        find_audit(store, "abcd")
    for text in ("abc", "nothing", ""):
        with pytest.raises(NotFound, match="'list --all' shows"):
            find_audit(store, text)
    with pytest.raises(NotFound):
        lookup_user(store, "f" * 64, "00123")


def test_the_flag_counts_the_others_at_the_threshold_of_the_report(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    flag = lookup_user(store, saved.key, "00123").flag
    assert flag is not None
    assert flag.flagged
    recall = saved.metric("distillation", "recall")
    assert recall is not None
    assert (flag.members, flag.held_out) == (68, 70)
    # The person looked up is a flagged member, whom the others' counts leave out.
    assert flag.hits + 1 == round((recall.value or 0) * recall.n)
    alarms = users_table.filter(pl.col("role") == Role.AUDITED_HELD_OUT, pl.col("score.distillation") >= flag.threshold)
    assert flag.alarms == alarms.height


@pytest.mark.parametrize("role", [Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT, Role.PUBLIC])
def test_whoever_helped_to_build_the_audit_is_not_flagged(
    store: Store, saved: AuditResult, users_table: pl.DataFrame, role: Role
) -> None:
    assert lookup_user(store, saved.key, users_of(users_table, role)[0]).flag is None


@pytest.mark.parametrize("source", ["own", "lists"])
def test_for_a_target_that_was_brought_along_half_of_the_known_members_count(
    store: Store,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
    users_table: pl.DataFrame,
    source: str,
) -> None:
    plain = make_result()
    save_audit(
        dataclasses.replace(plain, config={**plain.config, "target": {**plain.config["target"], "source": source}})
    )
    held_out = users_of(users_table, Role.AUDITED_HELD_OUT)
    judged = users_of(users_table, Role.AUDITED_MEMBER)[0]
    flag = lookup_user(store, plain.key, judged).flag
    assert flag is not None
    # Half of 30 known members; everybody who calibrates.
    assert (flag.counted, flag.members, flag.held_out) == ("known", 15, 70)
    assert flag.flagged
    assert flag.hits >= 12
    assert flag.alarms <= 5
    # Whoever calibrates is not counted against themselves.
    assert lookup_user(store, plain.key, held_out[0]).flag.held_out == 69  # type: ignore[union-attr]
    assert lookup_user(store, plain.key, users_of(users_table, Role.KNOWN_MEMBER)[0]).flag is None


def test_the_users_who_fix_the_threshold_of_a_pasted_history_are_not_counted() -> None:
    rng = np.random.default_rng(0)
    flags = []
    for seed in range(300):
        # An attack that finds nothing: a threshold counted on those who fixed it would look better than chance.
        members, others = rng.normal(size=20), rng.normal(size=21)
        flag = flag_at_every_offset(5.0, members, others, seed)
        assert flag is not None
        assert (flag.counted, flag.flagged, flag.members, flag.held_out) == ("offsets", True, 10, 11)
        flags.append(flag.hits / flag.members - flag.alarms / flag.held_out)
    assert abs(np.mean(flags)) < 3 * np.std(flags) / np.sqrt(len(flags))
    for few in (np.zeros(0), np.ones(1)):
        assert flag_at_every_offset(5.0, few, rng.normal(size=20), 0) is None
    assert flag_at_every_offset(float("nan"), rng.normal(size=20), rng.normal(size=20), 0) is None


def test_a_prior_follows_bayes_for_the_flagged_and_for_the_others() -> None:
    flag = Flag(0.0, True, 5, 100, 1, 100)
    ratio, after = weigh(flag, 0.01, 0.95)
    assert ratio.value == pytest.approx(5)
    # 5 of 100 members and 1 of 99 others: of 104 flagged in 10,000 people, 5 are members.
    assert after.value == pytest.approx(5 / (5 + 99))
    assert after.low < after.value < after.high
    ratio, after = weigh(dataclasses.replace(flag, flagged=False), 0.01, 0.95)
    assert ratio.value == pytest.approx(95 / 99)
    assert after.value < 0.01


def test_every_attack_has_its_say(store: Store, saved: AuditResult) -> None:
    found = lookup_user(store, saved.key, "00123")
    assert [row.attack for row in found.evidence] == ["loss", "distillation"]
    assert found.evidence[1].score == found.score
    assert found.evidence[1].p_value == found.p_value
    assert found.evidence[0].score == lookup_user(store, saved.key, "00123", "loss").score
