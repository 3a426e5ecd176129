"""A list of users taken together, on the planted audit of tests/conftest.py: "distillation" works, "loss" is guessing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from mia_core.errors import DataError, NotFound
from mia_core.report.results import AuditResult
from mia_core.report.wording import cohort_limits, explain_cohort
from mia_core.storage.store import Store
from mia_core.studies.cohort import cohort_document, judge_cohort
from mia_core.types import Gate, Role


def of_role(users: pl.DataFrame, role: Role, count: int, skip: int = 10) -> list[str]:
    return users.filter(pl.col("role") == role)["user"].to_list()[skip : skip + count]


@pytest.mark.parametrize("held_out", [0, 10, 30, 40])
def test_the_share_of_a_mixed_list_is_recovered(
    store: Store, saved: AuditResult, users_table: pl.DataFrame, held_out: int
) -> None:
    mixed = of_role(users_table, Role.AUDITED_MEMBER, 40 - held_out)
    mixed += of_role(users_table, Role.AUDITED_HELD_OUT, held_out)
    found = judge_cohort(store, saved.key, mixed)
    truth = 1 - held_out / 40
    assert found.recorded_members == 40 - held_out
    assert found.share == pytest.approx(truth, abs=0.1)
    assert found.share_low <= truth <= found.share_high
    assert found.control_share == pytest.approx(0, abs=0.1)
    assert found.control_users == 70 - held_out
    assert found.p_value is not None
    assert (found.p_value < 0.01) == (held_out < 40)


def test_lists_of_held_out_users_are_seldom_called_trained_on(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    held_out = users_table.filter(pl.col("role") == Role.AUDITED_HELD_OUT)["user"].to_list()
    rng = np.random.default_rng(0)
    found = [judge_cohort(store, saved.key, rng.permutation(held_out)[:25].tolist()) for _ in range(60)]
    p_values = np.array([each.p_value for each in found])
    assert (p_values <= 0.05).mean() <= 0.15
    assert 0.3 < p_values.mean() < 0.7


def test_order_and_repetition_do_not_matter(store: Store, saved: AuditResult, users_table: pl.DataFrame) -> None:
    listed = of_role(users_table, Role.AUDITED_MEMBER, 10) + of_role(users_table, Role.AUDITED_HELD_OUT, 10)
    found = judge_cohort(store, saved.key, listed)
    again = judge_cohort(store, saved.key, [*reversed(listed), *listed[:3]])
    assert again.repeated == 3
    assert dataclasses.replace(again, repeated=0) == found


@pytest.mark.parametrize("role", [Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT, Role.PUBLIC])
def test_users_who_helped_to_build_the_audit_are_refused(
    store: Store, saved: AuditResult, users_table: pl.DataFrame, role: Role
) -> None:
    listed = of_role(users_table, Role.AUDITED_MEMBER, 20) + of_role(users_table, role, 2, skip=0)
    with pytest.raises(DataError, match="2 of 22 listed users helped to build this audit"):
        judge_cohort(store, saved.key, listed)


def test_unknown_ids_short_lists_and_lists_that_leave_no_control_are_refused(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    members = of_role(users_table, Role.AUDITED_MEMBER, 20)
    with pytest.raises(DataError, match="1 of 21 ids are not part of this audit, the first is 'nobody'"):
        judge_cohort(store, saved.key, [*members, "nobody"])
    with pytest.raises(DataError, match="holds 2 users"):
        judge_cohort(store, saved.key, members[:2] * 5)
    with pytest.raises(DataError, match="10 are needed"):
        judge_cohort(store, saved.key, of_role(users_table, Role.AUDITED_HELD_OUT, 65, skip=0))
    with pytest.raises(NotFound):
        judge_cohort(store, "f" * 64, members)


def test_an_attack_that_guesses_gives_no_share(
    store: Store,
    users_table: pl.DataFrame,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    result = save_audit(make_result(lead="loss"))
    found = judge_cohort(store, result.key, of_role(users_table, Role.AUDITED_MEMBER, 20))
    if found.share is None:
        assert any("No share is given" in sentence for sentence in explain_cohort(found, result))
    assert (found.share_low, found.share_high) == (0.0, 1.0) or found.share_high - found.share_low > 0.3


def test_only_honest_attacks_are_put_together(
    store: Store,
    users_table: pl.DataFrame,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    plain = make_result(lead="loss")
    attacks = [plain.attacks[0], dataclasses.replace(plain.attacks[1], status="demonstration")]
    result = save_audit(dataclasses.replace(plain, attacks=attacks))
    found = judge_cohort(store, result.key, of_role(users_table, Role.AUDITED_MEMBER, 30))
    assert found.attacks == ["loss"]
    assert found.p_value is not None
    assert found.p_value > 0.001


def test_a_list_unlike_the_controls_is_said_to_be_so(
    store: Store, saved: AuditResult, users_table: pl.DataFrame
) -> None:
    members = users_table.filter(pl.col("role") == Role.AUDITED_MEMBER).sort("history_length")
    longest = judge_cohort(store, saved.key, members["user"].to_list()[-20:])
    assert longest.differences == ["length of history"]
    assert "length of history" in cohort_limits(longest, saved)[0]
    assert judge_cohort(store, saved.key, of_role(users_table, Role.AUDITED_MEMBER, 30)).differences == []


def test_what_is_said_holds_no_ids_and_no_proof(store: Store, saved: AuditResult, users_table: pl.DataFrame) -> None:
    for role in (Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT):
        listed = of_role(users_table, role, 30)
        found = judge_cohort(store, saved.key, listed)
        text = json.dumps(cohort_document(found, saved), allow_nan=False)
        assert not any(user in text for user in listed)
        assert not any(word in text for word in ("prove", "proof", "certain", "NaN"))
        assert "does not say which of its users" in text


def test_an_audit_that_fails_a_gate_says_nothing_of_a_list(
    store: Store,
    users_table: pl.DataFrame,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    result = save_audit(make_result(gates=[Gate("blind", False, 0.9, 0.001, 140, "Told apart.", "Split anew.")]))
    found = judge_cohort(store, result.key, of_role(users_table, Role.AUDITED_MEMBER, 30))
    (sentence,) = explain_cohort(found, result)
    assert "blind gate failed" in sentence
