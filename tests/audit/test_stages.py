"""Whom each model of an audit is trained on, and what is counted over whom. Nothing is trained here: it is noted who would be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core import pipeline
from mia_core.attacks.evidence import Evidence
from mia_core.audit import stages
from mia_core.audit.gathering import gather
from mia_core.audit.questions import Questions
from mia_core.audit.stages import Run
from mia_core.data.prompts import Samples, audit_samples
from mia_core.experiment import Runtime
from mia_core.pipeline import divide, start
from mia_core.storage.store import Store
from mia_core.types import Role, Silent
from tests.attacks.conftest import observations
from tests.test_pipeline import tiny

SHADOWS = 4
EVERYBODY = (Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT, Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT)
Noted = dict[str, set[str]]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Run]:
    """Opens an audit; keyword arguments change its settings."""

    def make(**changes: Any) -> Run:
        attacks = {"names": ["loss"], "lead": "loss", "shadows": SHADOWS}
        return start(tiny(attacks=attacks, **changes), Store(tmp_path), Silent(), Runtime(), announce=False)

    return make


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """Users whose windows train each model, by its purpose; no window may hold anything that is not its user's."""
    noted: Noted = defaultdict(set)

    def note(
        run: Run, model: Any, samples: Samples, loss: Any, training: Any, key: str, purpose: str, *privacy: Any
    ) -> None:
        noted[purpose.partition(" phase")[0]] |= {samples.users[i] for i in samples.user_index}
        for i, window in zip(samples.user_index, samples.windows, strict=True):
            assert set(window) <= set(run.events[samples.users[i]])

    monkeypatch.setattr(Run, "_fit", note)
    return noted


def test_the_target_is_trained_on_members_and_its_base_on_third_parties(
    opened: Callable[..., Run], trained_on: Noted
) -> None:
    run = opened()
    _ = run.target
    assert trained_on == {
        "base": {*run.split.users(Role.PUBLIC)},
        "target": {*run.split.users(Role.KNOWN_MEMBER, Role.AUDITED_MEMBER)},
    }


def test_the_target_of_the_null_world_met_third_parties_only(opened: Callable[..., Run], trained_on: Noted) -> None:
    run = opened(target={"world": "null"})
    _ = run.target
    assert trained_on["target"] < {*run.split.users(Role.PUBLIC)}


def test_references_without_labels_meet_third_parties_only(opened: Callable[..., Run], trained_on: Noted) -> None:
    run = opened()
    _ = run.soft_reference(0), run.trajectory, run.self_prompted
    for purpose in ("soft 0", "trajectory", "self-prompted"):
        assert trained_on[purpose] == {*run.split.users(Role.PUBLIC)}, purpose


def test_the_self_prompted_copy_learns_what_the_target_says_not_what_is_true(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Samples] = []
    monkeypatch.setattr(Run, "_fit", lambda run, model, samples, *rest: told.append(samples))
    monkeypatch.setattr(stages, "drawn_answers", lambda model, prompts, *rest: [["said"]] * len(prompts))
    _ = opened().self_prompted
    assert set(told[-1].answers) == {"said"}


def test_a_student_meets_the_known_users_of_all_folds_but_its_own(
    opened: Callable[..., Run], trained_on: Noted
) -> None:
    run = opened(distillation={"folds": 3})
    known = run.split.users(Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT)
    for k in range(3):
        run.student(k)
        assert trained_on[f"student {k}"] == {user for user in known if run.fold[user] != k}
        members = [run.split.roles[user] == Role.KNOWN_MEMBER for user in known if run.fold[user] == k]
        # A fold of one kind would tell its student, and so its users' scores, who is a member.
        assert abs(sum(members) - len(members) / 2) <= 1
        assert abs(len(members) - len(known) / 3) <= 2


def test_each_known_user_is_looked_at_through_the_student_that_never_met_them(
    opened: Callable[..., Run], trained_on: Noted
) -> None:
    run = opened()
    samples = run.samples
    tokens = np.arange(len(samples) + 1), np.zeros(len(samples), np.int32)
    plain = observations(np.random.default_rng(0), np.zeros(len(samples.users)), samples.user_index, tokens)
    students = [replace(plain, log_probability=np.full(len(samples), -1.0 - k)) for k in range(2)]
    for k in range(2):
        run.student(k)
    evidence = Evidence(samples.users, samples.user_index, {}, {"student": students})
    known, audited, _ = divide(run, evidence, np.array([run.split.roles[u] for u in run.scored], dtype=object))
    seen_by = known.evidence.user_mean(-known.evidence.views["student"].log_probability - 1)
    for user, k in zip(known.evidence.users, seen_by, strict=True):
        assert user not in trained_on[f"student {k:g}"]
        assert user in trained_on[f"student {1 - k:g}"]
    assert {run.split.roles[user] for user in known.evidence.users} == {Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT}
    assert {run.split.roles[user] for user in audited.users} == {Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT}
    labels = [run.split.roles[user] == Role.KNOWN_MEMBER for user in known.evidence.users]
    np.testing.assert_array_equal(known.member, labels)


def test_the_leaking_demonstration_meets_everybody_who_is_scored(opened: Callable[..., Run], trained_on: Noted) -> None:
    run = opened()
    run.leaking_student()
    assert trained_on["leaking"] == {*run.split.users(*EVERYBODY)}


def noted_coins(run: Run, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """Evidence of everybody scored and of a stranger, with nothing asked of any model."""
    monkeypatch.setattr(Questions, "observe", lambda questions, view, samples: None)
    samples = replace(run.samples, users=(*run.samples.users, "stranger"))
    return gather(run, samples, ["shadows"], announce=False)


def test_the_evidence_says_which_shadow_models_met_whom(
    opened: Callable[..., Run], trained_on: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened()
    evidence = noted_coins(run, monkeypatch)
    assert evidence.shadow_in is not None
    for k in range(SHADOWS):
        run.shadow(k)
        met = {user for user, inside in zip(evidence.users, evidence.shadow_in[:, k], strict=True) if inside}
        assert trained_on[f"shadow {k}"] == met
    assert not evidence.shadow_in[-1].any()


def test_shadow_models_that_are_trained_together_meet_those_whom_the_evidence_names(
    opened: Callable[..., Run], trained_on: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists: list[Any] = []
    monkeypatch.setattr(stages, "fit_stacked", lambda stack, encoded, *rest, **more: lists.extend(encoded))
    run = opened(target={"tuning": "lora"})
    evidence = noted_coins(run, monkeypatch)
    assert evidence.shadow_in is not None
    run.shadow(0)
    assert run.base is not None
    encoded = run.base.load().encode(run.samples.prompts, run.samples.answers)
    assert len(lists) == SHADOWS
    for k in range(SHADOWS):
        inside = evidence.shadow_in[evidence.user_index, k]
        assert lists[k] == [sample for sample, met in zip(encoded, inside, strict=True) if met]


def test_coins_of_shadow_models_are_fair_to_everybody_and_know_nothing_of_membership(
    opened: Callable[..., Run],
) -> None:
    run = opened()
    coins = run.shadow_coins()
    assert (coins.sum(axis=1) == SHADOWS / 2).all()
    member = np.array([bool(run.split.roles[user].member) for user in run.scored])
    for k in range(SHADOWS):
        # Four standard deviations of a fair draw without replacement.
        assert abs(coins[member, k].mean() - 0.5) < 4 * 0.5 / np.sqrt(2 * member.sum())
    # Each pair of complements is drawn anew.
    assert 0.25 < (coins[:, 0] == coins[:, 2]).mean() < 0.75


def test_what_is_counted_is_counted_over_third_parties_alone(
    opened: Callable[..., Run], trained_on: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    make_tokenizer = stages.train_tokenizer
    monkeypatch.setattr(
        stages, "train_tokenizer", lambda titles, *rest: read.extend(titles) or make_tokenizer(titles, *rest)
    )
    run = opened()
    public = run.split.users(Role.PUBLIC)
    for item in run.catalogue.items:
        having = sum(any(event.item == item for event in run.events[user]) for user in public)
        assert run.popularity.get(item, 0.0) == pytest.approx(having / len(public))
        assert run.catalogue.counts[run.catalogue.position[item]] == having
    background = noted_coins(run, monkeypatch).background
    assert background is not None
    assert sorted(read) == sorted(event.title for user in public for event in run.events[user])
    assert run.base is not None
    samples = run.windows(public)
    answers = [sample.answer for sample in run.base.load().encode(samples.prompts, samples.answers)]
    counts = np.bincount(np.concatenate(answers), minlength=len(background.token_share))
    np.testing.assert_allclose(background.token_share, (counts + 1) / (counts + 1).sum())


def test_what_counts_as_liked_is_settled_by_third_parties(opened: Callable[..., Run]) -> None:
    run = opened(prompt={"style": "like_dislike", "history": 4})
    public = pl.col("user").is_in(run.split.users(Role.PUBLIC))
    ratings = pl.when(public).then(4.0).otherwise(1.0).alias("rating")
    run.interactions = replace(run.interactions, table=run.interactions.frame.with_columns(ratings))
    assert run.writer.liked_from == 4


def test_examples_before_a_question_are_of_known_users(opened: Callable[..., Run]) -> None:
    """Of audited users nobody may say who is a member, not even by showing them."""
    run = opened()
    for kind, role in (("member", Role.KNOWN_MEMBER), ("held_out", Role.KNOWN_HELD_OUT)):
        shown = {shot.user for shot in run.asking.shots[kind]}
        assert shown
        assert {run.split.roles[user] for user in shown} == {role}


def test_recommendations_are_measured_on_people_whom_the_target_never_met(
    opened: Callable[..., Run], trained_on: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    make_task = pipeline.ranking_task
    monkeypatch.setattr(pipeline, "ranking_task", lambda users, *rest: asked.append(users) or make_task(users, *rest))
    run = opened()
    assert pipeline._quality(run)
    assert asked[0]
    assert not {*asked[0]} & trained_on["target"]


def test_a_kept_answer_is_the_answer_to_the_same_question(opened: Callable[..., Run], trained_on: Noted) -> None:
    """The same users with other windows, as after a lookup, are asked anew."""
    run = opened()
    users = run.scored[:4]
    earlier = {user: events[:-2] for user, events in run.events.items()}
    asked = [run.windows(users), audit_samples(users, earlier, run.writer, 2)]
    kept = [Questions(run).observe("base", samples) for samples in asked]
    anew = [Questions(run, keep=False).observe("base", samples) for samples in asked]
    for before, after in zip(kept, anew, strict=True):
        np.testing.assert_array_equal(before.token, after.token)
