from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from mia_core.report.lookup import weigh
from mia_core.report.results import (
    AttackComparison,
    AuditResult,
    Claims,
    CohortResult,
    Flag,
    LookupResult,
    PrivacyBound,
)
from mia_core.report.wording import (
    METRIC_WORDS,
    at_chance,
    claim_sentences,
    claims_of,
    cohort_limits,
    explain_chance,
    explain_cohort,
    explain_lookup,
    explain_metric,
    explain_posterior,
    explain_role,
    file_size,
    format_p,
    headline,
    no_posterior,
    use_of,
)
from mia_core.types import Gate, Metric, Role

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


def cohort(**changes: Any) -> CohortResult:
    plain = CohortResult(
        listed=30,
        repeated=0,
        scored=30,
        control_users=40,
        attacks=["loss"],
        p_value=0.001,
        effect=1.0,
        counted=30,
        share=0.6,
        share_low=0.3,
        share_high=0.9,
        control_share=0.0,
        true_positive_rate=0.7,
        false_positive_rate=0.1,
        recorded_members=20,
        differences=["length of history"],
        confidence=0.95,
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


def test_the_headline_says_how_far_the_false_alarms_may_go_beyond_these_users(
    make_result: Callable[..., AuditResult],
) -> None:
    plain = with_figures(make_result(), auc=(0.97, 0.95, 0.987), tpr_at_fpr_0_05=(0.8, 0.7, 0.88))
    limited = [dataclasses.replace(plain.metrics[1], fpr_limit=0.1301)]
    text = headline(dataclasses.replace(plain, metrics=[plain.metrics[0], *limited]))
    assert "at most 5% of the held-out users may be mistaken for members (95% upper limit 13.1%), it recognises" in text


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


@pytest.mark.parametrize("prior", [0.0, 0.001, 0.1, 1.0])
@pytest.mark.parametrize(
    "counts", [(5, 100, 1, 100), (60, 100, 0, 100), (0, 100, 0, 100), (100, 100, 100, 100), (0, 0, 0, 0)]
)
@pytest.mark.parametrize("flagged", [True, False])
def test_a_prior_is_told_as_the_readers_own(prior: float, counts: tuple[int, int, int, int], flagged: bool) -> None:
    flag = Flag(0.5, flagged, *counts)
    sentences = explain_posterior(flag, *weigh(flag, prior, 0.95), 0.95)
    assert "reader's choice" in sentences[-1]
    for sentence in sentences:
        assert not FORBIDDEN.search(sentence), sentence
    if flagged and counts == (60, 100, 0, 100):
        assert "or more" in sentences[1]


def test_without_others_to_count_on_there_is_a_reason_instead_of_a_posterior(
    make_result: Callable[..., AuditResult],
) -> None:
    result = make_result()
    flag = Flag(0.5, True, 5, 100, 1, 100)
    assert no_posterior(looked_up(flag=flag), result) == ""
    assert no_posterior(looked_up(flag=flag, role=""), result) == ""
    for changes in ({"role": Role.KNOWN_MEMBER}, {"role": Role.PUBLIC}, {"score": None}, {"flag": None}):
        assert no_posterior(looked_up(**{"flag": flag, **changes}), result)
    pasted = looked_up(role="", flag=None)
    assert "whom the attack learned from" in no_posterior(pasted, with_target(result, source="own"))
    assert "never stands there" in no_posterior(looked_up(role="", flag=flag), with_target(result, serving="prompt"))
    failed = make_result(gates=[Gate("null", False, 0.9, 0.001, 140, "", "")])
    assert "gate" in no_posterior(looked_up(flag=flag), failed)


@pytest.mark.parametrize(
    ("counted", "who", "assumed"),
    [
        ("known", "5 of 100 members of the other half", "score like the members you listed"),
        ("offsets", "Of the other half it flags 5 of 100 members and 1 of 90 held-out users", "collected like"),
    ],
)
def test_a_prior_says_whom_it_counts_and_what_that_assumes(counted: Any, who: str, assumed: str) -> None:
    flag = Flag(0.5, True, 5, 100, 1, 90, counted)
    sentences = explain_posterior(flag, *weigh(flag, 0.1, 0.95), 0.95)
    assert who in sentences[0]
    assert assumed in sentences[-2]
    assert "reader's choice" in sentences[-1]
    assert not FORBIDDEN.search(" ".join(sentences))


PROMPT, LISTS = {"serving": "prompt"}, {"source": "lists"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (PROMPT, "stand among the examples in the recommender's prompt"),
        (LISTS, "lists alone cannot tell training from"),
    ],
)
def test_what_membership_means_is_said_where_it_is_not_training(
    make_result: Callable[..., AuditResult], target: dict[str, str], said: str
) -> None:
    trained = with_figures(make_result(), auc=(0.97, 0.95, 0.99))
    result = with_target(trained, **target)
    for sentences in (
        [headline(result)],
        explain_lookup(looked_up(), result),
        cohort_limits(cohort(), result),
        [use_of(result).meaning],
    ):
        assert sum(said in sentence for sentence in sentences) == 1, sentences
    for sentences in ([headline(trained)], explain_lookup(looked_up(), trained), cohort_limits(cohort(), trained)):
        assert not any(said in sentence for sentence in sentences)


@pytest.mark.parametrize("target", [PROMPT, LISTS, {**PROMPT, "world": "null"}])
def test_nobody_is_said_to_be_trained_on_where_nothing_shows_a_training(
    make_result: Callable[..., AuditResult], target: dict[str, str]
) -> None:
    told = []
    for auc in ((0.97, 0.95, 0.99), (0.5, 0.4, 0.6), (0.2, 0.1, 0.3)):
        result = with_target(with_figures(make_result(), auc=auc), **target)
        told.append(headline(result))
        for role in [*Role, ""]:
            told += [explain_role(role, result), *explain_lookup(looked_up(role=role), result)]
        for p_value in (0.5, 0.001, None):
            told += [*explain_cohort(cohort(p_value=p_value), result), *cohort_limits(cohort(p_value=p_value), result)]
    meaning = use_of(result).meaning
    for sentence in told:
        assert not re.search("train", sentence.replace(meaning, "")), sentence


def test_a_pasted_history_never_stands_in_a_prompt_and_the_lookup_says_so(
    make_result: Callable[..., AuditResult],
) -> None:
    served = with_target(make_result(), serving="prompt")
    assert any("never stands there" in line for line in explain_lookup(looked_up(role=""), served))
    assert not any("never stands there" in line for line in explain_lookup(looked_up(), served))


def test_a_recommender_that_the_audit_trained_is_not_brought_along(make_result: Callable[..., AuditResult]) -> None:
    text = " ".join(explain_lookup(looked_up(), with_target(make_result(), source="recommender")))
    assert "By the recorded split, this user's data trained the target." in text


def test_the_p_value_within_like_users_stands_beside_the_plain_one(make_result: Callable[..., AuditResult]) -> None:
    text = " ".join(explain_lookup(looked_up(stratum_p_value=0.02), make_result()))
    assert "about as long and as popular, p = .02" in text


def test_attacks_at_chance_are_counted_by_the_adjusted_p_value(make_result: Callable[..., AuditResult]) -> None:
    plain = make_result()
    assert at_chance(plain) == (["loss"], [])
    rows = [AttackComparison("loss", 0.01, None, None, None), AttackComparison("distillation", 0.2, None, None, None)]
    claims = Claims(0.05, 0, 0, "Nobody can be named.", None, None, [], rows, "")
    assert at_chance(make_result(claims=claims)) == (["distillation"], [])
    below = [Metric("loss", "auc", 0.2, 0.1, 0.3, 140), *(m for m in plain.metrics if m.attack == "distillation")]
    assert at_chance(make_result(metrics=below)) == ([], ["loss"])
    assert any("take" in line and "Loss" in line for line in explain_chance(make_result(metrics=below)))


def test_the_best_of_attacks_that_share_a_p_value_is_the_one_with_the_higher_auc(
    make_result: Callable[..., AuditResult],
) -> None:
    rows = [AttackComparison(name, 0.0005, None, None, None) for name in ("loss", "distillation")]
    claims = Claims(
        0.05, 1, 1, "Few.", 0.2, 1.5, [PrivacyBound("one_run", 1.2, 1e-5, "At least 1.2.")], rows, "x, AUC 0.9"
    )
    told = claims_of(make_result(claims=claims))
    assert [claim.value for claim in told] == ["1 user", "p = .0005", "1.5", "AUC 0.9", "≥ 1.20"]
    assert "(Distillation)" in told[1].sentence
    assert [claim.sentence for claim in told] == claim_sentences(make_result(claims=claims))


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
    limited = explain_metric(Metric("loss", "tpr_at_fpr_0.01", 0.42, 0.3, 0.5, 600, fpr_limit=0.02083))
    assert limited == f"{text} Of further users like the held-out ones it may mistake up to 2.1% (95% upper limit)."
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


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (700, "700 bytes"),
        (1_536, "1.5 kB"),
        (2**20 - 1, "1,024 kB"),
        (3 * 2**30, "3 GB"),
        (2**47, "131,072 GB"),
    ],
)
def test_sizes_are_said_in_the_unit_that_fits(count: int, said: str) -> None:
    assert file_size(count) == said
