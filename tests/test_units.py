"""Audits of sessions call a session a session: no shown sentence speaks of users or people where sessions are judged."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from mia_core.command_line.show_audits import show_audits, show_cohort, show_lookup, show_report
from mia_core.data.synthetic import generate
from mia_core.errors import DataError, NotFound
from mia_core.pipeline import run_audit
from mia_core.report.lookup import lookup_user, weigh
from mia_core.report.repeats import find_repeats
from mia_core.report.results import AuditResult, Claims, Flag, PrivacyBound, read_table
from mia_core.report.studies import POINT_FIGURES, metric_title
from mia_core.report.wording import (
    METRIC_WORDS,
    claim_sentences,
    cohort_limits,
    explain_chance,
    explain_cohort,
    explain_lookup,
    explain_metric,
    explain_posterior,
    explain_role,
    headline,
    no_posterior,
    use_of,
)
from mia_core.storage.store import Store
from mia_core.studies.cohort import cohort_document, judge_cohort
from mia_core.types import SESSION, USER, Metric, Role
from tests.report.test_wording import cohort, looked_up, with_figures, with_target
from tests.test_pipeline import TINY, tiny

OF_USERS = re.compile(r"\b(users?|persons?|people|who|whom)\b", re.IGNORECASE)
ONE_PERSON = "A session is no person: those of one person may stand on both sides of the split"
"""The one place where a person is meant."""


def of_users(text: str) -> list[str]:
    """What speaks of users, with a few words around it."""
    text = " ".join(text.split()).replace(ONE_PERSON, "")
    return [text[max(0, found.start() - 40) : found.end() + 40] for found in OF_USERS.finditer(text)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def of_sessions(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    """A whole audit, placebo and all, of a file of clicks."""
    path = tmp_path_factory.mktemp("data") / "clicks.csv"
    made = generate(tiny().data.synthetic, 0).frame
    made.select(session=pl.col("user").str.slice(5), item="item", timestamp="timestamp").write_csv(path)
    names = ["loss", "ensemble", "biased_mia"]
    experiment = tiny(
        data={"source": "file", "path": str(path)},
        attacks={"names": names, "lead": "loss"},
        evaluation={**TINY["evaluation"], "placebo": True},
    )
    return run_audit(experiment, shared)


def test_an_audit_of_sessions_speaks_of_sessions_from_gates_to_notes(of_sessions: AuditResult) -> None:
    result = of_sessions
    assert result.unit is SESSION
    told = [headline(result), *claim_sentences(result), *explain_chance(result), *result.notes]
    told += [text for gate in result.gates for text in (gate.sentence, gate.way_out)]
    told += [text for attack in result.attacks for text in (attack.summary, attack.skipped)]
    told += [metric.reason for metric in result.metrics]
    told += [explain_metric(metric, 0.95, result.unit) for metric in result.metrics]
    assert [found for text in told for found in of_users(text)] == []
    text = " ".join(told)
    for said in ("held-out sessions", "epsilon for the inclusion of one session", "no audited session is a member"):
        assert said in text
    assert sum(ONE_PERSON in note for note in result.notes) == 1
    assert any("did not run" in note for note in result.notes)


def test_the_command_line_speaks_of_sessions(of_sessions: AuditResult, shared: Store) -> None:
    screen = Console(file=io.StringIO(), record=True, width=400)
    result, repeats = of_sessions, find_repeats(shared, of_sessions)
    show_report(screen, result, repeats)
    show_audits(screen, [result], {})
    users = read_table(shared.find(result.key) or Path(), "users")
    for role in (Role.AUDITED_MEMBER, Role.KNOWN_HELD_OUT, Role.PUBLIC):
        session = users.filter(pl.col("role") == role)["user"][0]
        show_lookup(screen, lookup_user(shared, result.key, session), result, prior=0.1, every=True)
    audited = users.filter(pl.col("role") == Role.AUDITED_MEMBER)["user"].to_list()
    show_cohort(screen, judge_cohort(shared, result.key, audited[:20]), result)
    shown = screen.export_text()
    assert of_users(shown) == []
    assert "p, like sessions" in shown
    document = cohort_document(judge_cohort(shared, result.key, audited[:20]), result)
    assert of_users(" ".join([document["membership"], *document["sentences"], *document["limits"]])) == []


def test_ids_are_nobodys_words_to_change(of_sessions: AuditResult, shared: Store) -> None:
    with pytest.raises(NotFound, match="session 'people' is not part of this audit") as unknown:
        lookup_user(shared, of_sessions.key, "people")
    assert of_users(str(unknown.value).replace("'people'", "")) == []
    with pytest.raises(DataError, match="the first is 'user 1'") as listed:
        judge_cohort(shared, of_sessions.key, ["user 1"] * 6)
    assert of_users(str(listed.value).replace("'user 1'", "")) == []


def sentences(result: AuditResult) -> Iterator[str]:
    """Every sentence that wording has for an audit like this, whatever it found."""
    figures = [(0.97, 0.95, 0.99), (0.5, 0.4, 0.6), (0.2, 0.1, 0.3), "no member could be scored"]
    flags = [Flag(0.5, True, *counts) for counts in ((5, 100, 1, 100), (60, 100, 0, 100), (0, 9, 0, 9))]
    flags += [Flag(0.5, False, 5, 100, 1, 90, counted) for counted in ("known", "offsets")]
    targets: list[dict[str, Any]] = [
        {},
        {"source": "own"},
        {"source": "lists"},
        {"serving": "prompt"},
        {"world": "null"},
    ]
    for auc, target in itertools.product(figures, targets):
        for status in ("honest", "published", "confounded", "demonstration"):
            attacks = [dataclasses.replace(attack, status=status) for attack in result.attacks]
            audit = with_target(with_figures(dataclasses.replace(result, attacks=attacks), auc=auc), **target)
            yield headline(audit)
            yield from explain_chance(audit)
        yield use_of(audit).meaning
        for role, flag in itertools.product([*Role, ""], (flags[0], None)):
            found = looked_up(role=role, flag=flag, stratum_p_value=0.02)
            yield explain_role(role, audit)
            yield no_posterior(found, audit)
            yield from explain_lookup(found, audit)
        for p_value, share in itertools.product((0.5, 0.001, None), (0.6, None)):
            asked = cohort(p_value=p_value, share=share)
            yield from (*explain_cohort(asked, audit), *cohort_limits(asked, audit))
    for flag in flags:
        yield from explain_posterior(flag, *weigh(flag, 0.1, 0.95), 0.95, result.unit)
    yield from (explain_metric(Metric("loss", name, 0.5, 0.4, 0.6, 9), 0.95, result.unit) for name in METRIC_WORDS)
    yield from (metric_title(name, result.unit) for name in POINT_FIGURES)
    bounds = [PrivacyBound(name, 1.2, 1e-5, "At least 1.2.") for name in ("one_run", "f_dp", "clopper_pearson")]
    for named in (1, 2):
        claims = Claims(0.05, named, named, "Few.", 0.2, 1.5, bounds, [], "x, AUC 0.9 on known users")
        yield from claim_sentences(dataclasses.replace(result, claims=claims))


def test_no_sentence_on_sessions_speaks_of_users(make_result: Callable[..., AuditResult]) -> None:
    plain = make_result()
    told = set(sentences(dataclasses.replace(plain, data={**plain.data, "unit": "session"})))
    assert len(told) > 100
    assert [found for sentence in told for found in of_users(sentence)] == []
    # Audits of before there were sessions judge users, in the words of always.
    assert plain.unit is USER
    before = {sentence for sentence in sentences(plain) if of_users(sentence)}
    assert len(before) > 80
    assert {SESSION.say(sentence) for sentence in before} <= told


def test_a_unit_changes_whole_words_and_keeps_capitals() -> None:
    said = SESSION.say("Users of the same people: a user's windows, somebody whose list. Whoever asks the username?")
    assert said == (
        "Sessions of the same stream of sessions: a session's windows, a session whose list. Whoever asks the username?"
    )
    assert USER.say(said) == said
