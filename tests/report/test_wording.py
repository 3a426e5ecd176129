from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from mia_core.report.results import AuditResult, LookupResult
from mia_core.report.wording import METRIC_WORDS, explain_lookup, explain_metric, explain_role, format_p, headline
from mia_core.types import Metric, Role

FORBIDDEN = re.compile(
    r"\bprov(e|es|ed|en)\b|proof|no leak|complian|safe\b|anonym|probability that|likelihood that|certainly|guarantee|"
    r"\bnan\b|\bNone\b|\binf\b",
    re.IGNORECASE,
)


def with_figures(result: AuditResult, **values: tuple[float, float, float] | str) -> AuditResult:
    metrics = [
        Metric("distillation", name.replace("_0_", "_0."), None, None, None, 140, value)
        if isinstance(value, str)
        else Metric("distillation", name.replace("_0_", "_0."), *value, 140)
        for name, value in values.items()
    ]
    return dataclasses.replace(result, metrics=metrics)


def with_target(result: AuditResult, **changes: Any) -> AuditResult:
    return dataclasses.replace(result, config={**result.config, "target": {**result.config["target"], **changes}})


def looked_up(**changes: Any) -> LookupResult:
    plain = LookupResult(
        subject="Ana",
        role=Role.AUDITED_MEMBER,
        attack="distillation",
        windows=3,
        matched=27,
        unmatched=[],
        score=3.0,
        p_value=0.004,
        calibration_users=499,
        share_below=0.9989,
        member_scores=[3.0],
        held_out_scores=[0.0],
    )
    return dataclasses.replace(plain, **changes)


def test_a_finding_is_told_in_plain_words_with_its_intervals(make_result: Callable[..., AuditResult]) -> None:
    result = with_figures(
        make_result(),
        auc=(0.97, 0.95, 0.987),
        tpr_at_fpr_0_01="needs 299 held-out users",
        tpr_at_fpr_0_05=(0.8, 0.7, 0.88),
    )
    text = headline(result)
    assert "Distillation tells them apart 97 times in 100 (95% interval 95–98.7)" in text
    assert "at most 5% of the held-out users" in text
    assert "recognises 80% of the members (95% interval 70–88%)" in text


def test_a_null_result_names_the_largest_effect_that_the_data_allow(make_result: Callable[..., AuditResult]) -> None:
    text = headline(with_figures(make_result(), auc=(0.52, 0.45, 0.59)))
    assert "did not detect" in text
    assert "largest effect compatible with the data is 59 times in 100" in text
    assert "tells them apart" not in text


def test_members_below_held_out_users_are_not_called_a_detection(make_result: Callable[..., AuditResult]) -> None:
    text = headline(with_figures(make_result(), auc=(0.2, 0.1, 0.3)))
    assert "look at the split" in text
    assert "tells them apart" not in text


def test_a_lead_without_a_figure_gives_its_reason(make_result: Callable[..., AuditResult]) -> None:
    assert "no member could be scored" in headline(with_figures(make_result(), auc="no member could be scored"))
    plain = make_result(metrics=[])
    skipped = dataclasses.replace(plain.attacks[1], skipped="needs the model before fine-tuning")
    assert "needs the model" in headline(dataclasses.replace(plain, attacks=[plain.attacks[0], skipped]))


def test_shares_are_never_rounded_to_all_or_none(make_result: Callable[..., AuditResult]) -> None:
    assert "99.9 times in 100 (95% interval 99.7–99.9)" in headline(
        with_figures(make_result(), auc=(0.9996, 0.997, 0.99999))
    )
    assert "100 times in 100 (95% interval 95–100)" in headline(with_figures(make_result(), auc=(1.0, 0.95, 1.0)))


def test_a_demonstration_is_never_presented_as_evidence(make_result: Callable[..., AuditResult]) -> None:
    plain = make_result()
    leaking = [dataclasses.replace(attack, status="demonstration") for attack in plain.attacks]
    assert "leaks on purpose" in headline(dataclasses.replace(plain, attacks=leaking))
    assert any("leaks on purpose" in line for line in explain_lookup(looked_up(), make_result(attacks=leaking)))


def test_a_lookup_says_how_rare_such_a_score_is_and_where_that_ends(make_result: Callable[..., AuditResult]) -> None:
    text = " ".join(explain_lookup(looked_up(), make_result()))
    assert "more member-like than on 99.8% of comparable held-out users (p = .004, n = 499 calibration users)" in text
    assert "does not establish that the data were used" in text
    assert "not the chance that this person is a member" in text
    assert "By the recorded split, this user's data trained the target." in text
    assert "smallest p-value" not in text
    smallest = looked_up(p_value=1 / 500, share_below=1.0)
    assert "than on all 499 comparable" in " ".join(explain_lookup(smallest, make_result()))
    assert "smallest p-value that 499 calibration users allow" in " ".join(explain_lookup(smallest, make_result()))


def test_an_attack_that_cannot_tell_anybody_apart_says_little_about_anybody(
    make_result: Callable[..., AuditResult],
) -> None:
    guessing = with_figures(make_result(), auc=(0.52, 0.45, 0.59))
    assert any("says little about anybody" in line for line in explain_lookup(looked_up(), guessing))
    assert not any("says little" in line for line in explain_lookup(looked_up(), make_result()))


def test_without_a_p_value_the_reason_is_told(make_result: Callable[..., AuditResult]) -> None:
    for missing in ({"p_value": None}, {"p_value": None, "score": None}):
        lines = explain_lookup(looked_up(reason="cannot be scored", **missing), make_result())
        assert "Cannot be scored" in lines
        assert not any("p =" in line for line in lines)


def test_with_a_target_of_ones_own_the_lists_speak_and_exchangeability_is_asked_for(
    make_result: Callable[..., AuditResult],
) -> None:
    own = with_target(make_result(), source="own")
    judged = " ".join(explain_lookup(looked_up(role=Role.JUDGED), own))
    assert "exchangeable" in judged
    assert "random split" not in judged
    assert "By the lists you gave" in " ".join(explain_lookup(looked_up(role=Role.AUDITED_HELD_OUT), own))


def test_in_a_null_world_nobody_is_said_to_have_trained_the_target(make_result: Callable[..., AuditResult]) -> None:
    null = with_target(make_result(), world="null")
    text = " ".join(explain_lookup(looked_up(), null))
    assert "trained on strangers" in text
    assert "this user's data trained" not in text
    assert "in the training data" not in explain_role(Role.AUDITED_MEMBER, null)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0024, ".003"), (0.05, ".050"), (1.0, "1"), (0.0004, ".0004"), (0.00031, ".0004"), (0.5, ".500")],
)
def test_a_p_value_is_never_shown_smaller_than_it_is(value: float, shown: str) -> None:
    assert format_p(value) == shown


def test_a_figure_is_explained_or_its_absence_is() -> None:
    text = explain_metric(Metric("loss", "tpr_at_fpr_0.01", 0.42, 0.3, 0.5, 600))
    assert "at most 1% of the held-out users" in text
    assert "42% (95% interval 30–50%)" in text
    missing = explain_metric(Metric("loss", "tpr_at_fpr_0.001", None, None, None, 40, "it needs 2,995 held-out users"))
    assert "not resolvable" in missing
    assert "2,995" in missing


def test_no_sentence_claims_more_than_was_measured_or_shows_anybodys_data(
    make_result: Callable[..., AuditResult],
) -> None:
    plain = make_result()
    figures = [(0.97, 0.95, 0.99), (0.5, 0.4, 0.6), (0.2, 0.1, 0.3), (1.0, 0.96, 1.0), "no member could be scored"]
    rates = [(0.8, 0.7, 0.9), (0.0, 0.0, 0.1), (1.0, 0.9, 1.0), "it needs 59 held-out users"]
    sentences = [explain_metric(metric) for metric in plain.metrics]
    sentences += [explain_metric(Metric("loss", name, 0.5, 0.4, 0.6, 9)) for name in METRIC_WORDS]
    for auc, rate, status in itertools.product(figures, rates, ["honest", "published", "demonstration"]):
        attacks = [dataclasses.replace(attack, status=status) for attack in plain.attacks]
        result = dataclasses.replace(with_figures(plain, auc=auc, tpr_at_fpr_0_05=rate), attacks=attacks, name="SECRET")
        for audit in (result, with_target(result, source="own"), with_target(result, world="null")):
            sentences.append(headline(audit))
            for role, p_value, share in itertools.product([*Role, ""], [None, 1.0, 0.001], [None, 0.0, 1.0]):
                lookup = looked_up(
                    role=role, p_value=p_value, share_below=share, subject="SECRET", unmatched=["SECRET"]
                )
                sentences += explain_lookup(lookup, audit)
                sentences.append(explain_role(role, audit))
    assert len(set(sentences)) > 50
    for sentence in set(sentences):
        assert sentence
        assert not FORBIDDEN.search(sentence), sentence
        assert "SECRET" not in sentence
        assert "  " not in sentence
