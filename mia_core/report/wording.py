"""Results in plain sentences that say no more than was measured. They hold no names, ids or titles from anyone's data."""

from __future__ import annotations

import math
from typing import NamedTuple

from mia_core.evaluate.discoveries import Posterior, Ratio
from mia_core.report.results import AuditResult, CohortResult, Flag, LookupResult
from mia_core.types import Metric, Role

ROLE_WORDS = {
    Role.PUBLIC: "third-party user, whose data helped to build this audit",
    Role.KNOWN_MEMBER: "known member, used to build this audit",
    Role.KNOWN_HELD_OUT: "known held-out user, used to build this audit",
    Role.AUDITED_MEMBER: "audited member",
    Role.AUDITED_HELD_OUT: "audited held-out user",
    Role.JUDGED: "judged user",
}
METRIC_WORDS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "tpr_at_fpr_0.001": "TPR at 0.1% FPR",
    "tpr_at_fpr_0.01": "TPR at 1% FPR",
    "tpr_at_fpr_0.05": "TPR at 5% FPR",
    "tpr_at_fpr_0.1": "TPR at 10% FPR",
    "precision_at_recall_0.1": "precision at 10% recall",
    "precision_at_recall_0.5": "precision at 50% recall",
    "precision_at_recall_0.9": "precision at 90% recall",
}
GATE_WORDS = {
    "blind": "Blind gate: can membership be told without asking any model?",
    "placebo": "Placebo gate: does the same line find anything where nobody audited was trained on?",
    "null": "Null gate: are held-out users of every kind equally likely to look like members?",
}
BOUND_WORDS = {
    "one_run": "one run, coins of all users (Steinke et al. 2023)",
    "f_dp": "one run, if the training is Gaussian-private (Mahloujifar et al. 2025)",
    "clopper_pearson": "exact limits of TPR and FPR (Jagielski et al. 2020)",
}
BOUNDS_IN_SHORT = {"one_run": "one run", "f_dp": "one run, if Gaussian", "clopper_pearson": "TPR and FPR"}
DEMONSTRATION = "demonstration"
CHANCE_LEVEL = 0.05
"""Attacks whose adjusted p-value is above this are at chance."""
MANY_ATTACKS = (
    "The lead was named before the run and counts. The smallest of many p-values does not: some of them are small by "
    "chance."
)
LEVELS = ("0.001", "0.01", "0.05", "0.1")
STATUS_CAVEATS = {
    "published": "This attack follows a published protocol and is shown for comparison.",
    "demonstration": (
        "This attack leaks on purpose: it met the very answers it is tested on. Its figures show how results inflate; "
        "they are not evidence about anybody."
    ),
}


class Claim(NamedTuple):
    """One thing that may be said of many users at once."""

    about: str
    """people, or privacy: how private the training was at best."""
    label: str
    value: str
    sentence: str


def headline(result: AuditResult) -> str:
    """What the audit found, by its lead attack, in a few plain sentences."""
    lead = next((attack for attack in result.attacks if attack.name == result.lead), None)
    if not result.valid:
        failed = " and ".join(f"the {gate.name} gate" for gate in result.gates if not gate.passed)
        return (
            f"This audit is not valid: {failed} failed, so none of its figures says anything about membership. What to do "
            "is said beside the gate."
        )
    auc = result.metric(result.lead, "auc")
    title = lead.title if lead else result.lead
    if auc is None or auc.value is None or auc.low is None or auc.high is None:
        reason = (lead.skipped if lead else "") or (auc.reason if auc else "") or "it was not measured"
        return f"The lead attack, {title}, has no result: {reason}."
    confidence = _confidence(result)
    pairs = f"{_hundredths(auc.value)} times in 100 ({_interval(auc, confidence)})"
    caveat = STATUS_CAVEATS.get(lead.status, "") if lead else ""
    if auc.low > 0.5:
        found = f"Given one member and one held-out user, the attack {title} tells them apart {pairs}."
        return " ".join(filter(None, [found, _recognised(result, confidence), caveat]))
    if auc.high < 0.5:
        found = (
            f"The attack {title} takes held-out users for members: given one of each, it picks the member only {pairs}. "
            "Something other than training sets the two groups apart; look at the split before using this result."
        )
        return " ".join(filter(None, [found, caveat]))
    found = (
        f"This audit did not detect membership: given one member and one held-out user, the attack {title} picks the "
        f"member {pairs}, and guessing would give 50. The largest effect compatible with the data is "
        f"{_hundredths(auc.high)} times in 100. Another attack, or more users, may still find something."
    )
    return " ".join(filter(None, [found, caveat]))


def claim_sentences(result: AuditResult) -> list[str]:
    """What may be said of many users at once, a sentence or two each."""
    return [claim.sentence for claim in claims_of(result)]


def claims_of(result: AuditResult) -> list[Claim]:
    """The same, each with a label and the one figure to look at first."""
    claims = result.claims
    if claims is None or not result.valid:
        return []
    rate = _percent(claims.discovery_rate)
    found = ""
    if claims.named_correctly is not None and claims.named:
        found = f" Of these, {claims.named_correctly:,} are members."
    named = (
        f"At a false discovery rate of {rate}, {claims.named:,} users can be named as members: on average at most {rate} of such "
        f"a list are wrong.{found} {claims.resolution}"
    )
    told = [
        Claim(
            "people", "Can be named as members", f"{claims.named:,} {'user' if claims.named == 1 else 'users'}", named
        )
    ]
    honest = [row for row in claims.comparisons if row.adjusted_p is not None]
    if honest:
        # Many attacks may share the smallest p-value that can be had.
        best = min(honest, key=lambda row: (row.adjusted_p or 0.0, -_auc(result, row.attack)))
        title = next(attack.title for attack in result.attacks if attack.name == best.attack)
        p = format_p(best.adjusted_p or 0.0)
        sentence = (
            f"The best of {len(honest)} attacks on these users ({title}) would do as well by chance with p = {p}, all of "
            "them taken into account."
        )
        told.append(Claim("people", "Best attack, by chance", f"p = {p}", sentence))
    if claims.effective_windows is not None and claims.correlation is not None:
        sentence = (
            f"Windows of one user resemble one another (correlation {claims.correlation:.2f}): a user's windows are worth "
            f"{claims.effective_windows:.1f} independent ones. Every interval here counts users, not windows."
        )
        told.append(Claim("people", "A user's windows are worth", f"{claims.effective_windows:.1f}", sentence))
    if claims.best_single_feature:
        sentence = f"Best single feature of the ensemble: {claims.best_single_feature}."
        figure = claims.best_single_feature.rpartition(", ")[2].removesuffix(" on known users")
        told.append(Claim("people", "Best single feature", figure, sentence))
    for bound in claims.privacy:
        sentence = f"Lower bound on ε, by {BOUND_WORDS[bound.method]}: {bound.sentence}"
        told.append(Claim("privacy", f"ε by {BOUNDS_IN_SHORT[bound.method]}", f"≥ {bound.epsilon:.2f}", sentence))
    return told


def at_chance(result: AuditResult) -> tuple[list[str], list[str]]:
    """(attacks that cannot be told from guessing, attacks that take held-out users for members), by name.

    With the comparisons of the claims, an attack is at chance where its adjusted p-value is above .05; without them,
    where its interval holds 0.5.
    """
    adjusted = {row.attack: row.adjusted_p for row in (result.claims.comparisons if result.claims else [])}
    guessing, reversed_ = [], []
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        if auc is None or auc.low is None or auc.high is None or attack.status == DEMONSTRATION:
            continue
        p = adjusted.get(attack.name)
        if auc.high < 0.5:
            reversed_.append(attack.name)
        elif p > CHANCE_LEVEL if p is not None else auc.low <= 0.5:
            guessing.append(attack.name)
    return guessing, reversed_


def explain_chance(result: AuditResult) -> list[str]:
    """Which attacks found nothing, in words; empty where all of them found something."""
    titles = {attack.name: attack.title for attack in result.attacks}
    guessing, reversed_ = at_chance(result)
    told = []
    if guessing:
        found = "1 attack is" if len(guessing) == 1 else f"{len(guessing)} attacks are"
        told.append(f"{found} at chance: {'; '.join(titles[name] for name in guessing)}.")
    if reversed_:
        found = "1 attack takes" if len(reversed_) == 1 else f"{len(reversed_)} attacks take"
        listed = "; ".join(titles[name] for name in reversed_)
        told.append(f"{found} held-out users for members, interval and all below 0.5: {listed}.")
    return told


def explain_role(role: str, result: AuditResult) -> str:
    """What one user is for in this audit; an empty role is a pasted history's."""
    if not role:
        return "a pasted history, no user of this audit"
    known = Role(role)
    if known is Role.JUDGED:
        return "judged user: nobody here knows whether these data trained the target"
    if known.member is None or _target(result, "world") == "null":
        return ROLE_WORDS[known]
    return f"{ROLE_WORDS[known]}: {'in' if known.member else 'not in'} the training data"


def explain_metric(metric: Metric, confidence: float = 0.95) -> str:
    """One figure in one plain sentence, with its interval, or why there is none."""
    if metric.value is None or metric.low is None or metric.high is None:
        return f"{METRIC_WORDS.get(metric.metric, metric.metric)} is not resolvable here: {metric.reason}."
    percent = f"{_percent(metric.value)} ({_interval(metric, confidence, '%')})"
    if metric.metric == "auc":
        times = f"{_hundredths(metric.value)} times in 100 ({_interval(metric, confidence)})"
        return f"Given one member and one held-out user, the attack ranks the member higher {times}; guessing gives 50."
    if metric.metric.startswith("precision_at_recall_"):
        recall = _percent(float(metric.metric.removeprefix("precision_at_recall_")))
        return (
            f"In the shortest list that holds {recall} of the members, {percent} of those listed are members; where members "
            "are rarer than here, fewer are."
        )
    if metric.metric.startswith("tpr_at_fpr_"):
        level = _percent(float(metric.metric.removeprefix("tpr_at_fpr_")))
        return f"Where at most {level} of the held-out users may be mistaken for members, it recognises {percent} of the members."
    sentences = {
        "accuracy": f"Its verdict is right for {percent} of the users.",
        "balanced_accuracy": f"Its verdict is right for {percent}, both groups weighing the same; guessing gives 50%.",
        "precision": f"Of the users it calls members, {percent} are; where members are rarer than here, fewer are.",
        "recall": f"It calls {percent} of the members members.",
        "f1": f"F1, the harmonic mean of precision and recall, is {percent}.",
    }
    return sentences.get(metric.metric, f"{metric.metric}: {percent}.")


def explain_lookup(lookup: LookupResult, result: AuditResult) -> list[str]:
    """What the evidence about one person means, and what it does not establish, a sentence or two each."""
    own = _brought_along(result)
    role = Role(lookup.role) if lookup.role else None
    status = next((attack.status for attack in result.attacks if attack.name == lookup.attack), "")
    sentences = [_recorded(role, result), lookup.reason[:1].upper() + lookup.reason[1:]]
    if lookup.p_value is not None:
        sentences += _evidence(lookup, own)
    if lookup.score is not None:
        sentences += [STATUS_CAVEATS.get(status, ""), *_strength(lookup, result)]
    if lookup.p_value is not None:
        sentences += _limits(role, own)
    return [sentence for sentence in sentences if sentence]


def explain_posterior(flag: Flag, ratio: Ratio, found: Posterior, confidence: float) -> list[str]:
    """What the attack's verdict makes of the prior that the reader chose."""
    verdict = "flags" if flag.flagged else "does not flag"
    flagged = "flagged" if flag.flagged else "not flagged"
    prior, limits = _percent(found.prior), f"{100 * confidence:g}% limits"
    told = [
        f"At its threshold, fixed on known users, the attack {verdict} this person. Of the others it flags {flag.hits:,} of "
        f"{flag.members:,} audited members and {flag.alarms:,} of {flag.held_out:,} held-out users."
    ]
    if math.isnan(ratio.value):
        told.append("Nobody else was treated so, and nothing can be learned from it: the prior stays as it was.")
    elif ratio.value == math.inf:
        told.append(
            f"No held-out user was {flagged}, so the data set no upper limit: to be {flagged} is at least {ratio.low:.2g} times "
            f"as common among members ({limits}). If {prior} of such users are members before the audit, this one is with a "
            f"chance of {_percent(found.low)} or more."
        )
    else:
        top = "no upper limit" if ratio.high == math.inf else f"{ratio.high:.2g}"
        told.append(
            f"To be {flagged} is {ratio.value:.2g} times as common among members as among held-out users ({limits} "
            f"{ratio.low:.2g} to {top}). If {prior} of such users are members before the audit, this one is with a chance of "
            f"{_percent(found.value)} ({limits} {_percent(found.low)} to {_percent(found.high)})."
        )
    told.append(
        f"The {prior} are the reader's choice: no audit can supply them, and the limits do not cover a wrong choice. Everything "
        "else known of this person belongs into the prior."
    )
    return told


def no_posterior(lookup: LookupResult, result: AuditResult) -> str:
    """Why a prior cannot be brought up to date by this evidence; empty where it can."""
    if not result.valid:
        return "No prior can be brought up to date: a gate of this audit failed."
    if not lookup.role:
        return (
            "No prior can be brought up to date by a pasted history: it is scored at every offset, and the attack's threshold "
            "was fixed for users who are scored in one way."
        )
    if Role(lookup.role).known or Role(lookup.role) is Role.PUBLIC:
        return "No prior is needed: the audit was built with this user, whose part in it is on record."
    if lookup.score is None:
        return "No prior can be brought up to date: there is no score."
    if lookup.flag is None:
        return (
            "No prior can be brought up to date: that takes users whose membership is known beside those whom the threshold was "
            "fixed on, and for a target that was brought along there are none."
        )
    return ""


def explain_cohort(found: CohortResult, result: AuditResult) -> list[str]:
    """What can be said of a list of users together; the first sentence is the answer."""
    if not result.valid:
        failed = " and ".join(f"the {gate.name} gate" for gate in result.gates if not gate.passed)
        return [f"This audit is not valid: {failed} failed, so nothing can be said of this list either."]
    told = [_collection(found)]
    lead = next((attack.title for attack in result.attacks if attack.name == result.lead), result.lead)
    if found.share is not None:
        told.append(
            f"By the attack {lead}, an estimated {_percent(found.share)} of the list was trained on "
            f"({100 * found.confidence:g}% interval {_hundredths(found.share_low)}–{_percent(found.share_high)}, "
            f"{found.counted:,} users)."
        )
        told.append(
            f"The estimate corrects for the attack's mistakes: it flags {_percent(found.true_positive_rate or 0.0)} of the known "
            f"members and {_percent(found.false_positive_rate or 0.0)} of the known held-out users."
        )
    else:
        told.append(
            f"No share is given: the attack {lead} tells known members and known held-out users too poorly apart to count with."
        )
    if found.control_share is not None:
        told.append(
            f"The same estimate on the {found.control_users:,} control users, none of whom was trained on, gives "
            f"{_percent(found.control_share)}; the nearer to 0, the better it can be trusted."
        )
    if found.recorded_members is not None:
        told.append(
            f"By the audit's own record {found.recorded_members:,} of the {found.listed:,} listed users "
            f"({_percent(found.recorded_members / found.listed)}) are members."
        )
    return told


def cohort_limits(found: CohortResult) -> list[str]:
    """What an answer about a list does not establish, and what it rests on."""
    told = []
    if found.differences:
        told.append(
            f"The list and the control users differ in {' and '.join(found.differences)}. A difference in scores may come "
            "from that instead of from training: take a list of like users, or read the answer as no evidence."
        )
    told += [
        "The answer rests on the control users being drawn from the same people in the same way. Users of another period, "
        "source or country score differently with no training behind it, and the test cannot see that.",
        "The list must have been drawn up without looking at this audit's scores: one that was picked by score looks "
        "trained on, whoever is on it.",
        "It speaks of the list as a whole. It does not say which of its users were trained on, nor how their data came there.",
    ]
    if found.p_value is not None and found.p_value > CHANCE_LEVEL:
        told.append(
            "A large p-value does not establish that the list was left out: few users or a weak attack look the same."
        )
    return told


def _collection(found: CohortResult) -> str:
    if found.p_value is None or found.effect is None:
        return "Whether this list was trained on cannot be tested: too few of its users or of the control users have scores."
    p = "p < .0001" if found.p_value < 1e-4 else f"p = {format_p(found.p_value)}"
    size = f"{abs(found.effect):.1f} standard deviations {'higher' if found.effect >= 0 else 'lower'} than"
    if abs(found.effect) < 0.05:
        size = "about the same as"
    attacks = f"{len(found.attacks)} attack{'s' if len(found.attacks) > 1 else ''} together"
    compared = f"on {attacks}, its {found.scored:,} users score {size} {found.control_users:,} control users ({p})."
    if found.p_value <= CHANCE_LEVEL:
        return f"Taken together, this list looks trained on: {compared}"
    return f"Nothing shows that this list was trained on: {compared}"


def format_p(value: float) -> str:
    """A p-value as people print it: ".002", never smaller than it is."""
    if value > 0.999:
        return "1"
    digits = 3 if value >= 0.001 else -math.floor(math.log10(value))
    return f"{math.ceil(value * 10**digits - 1e-6) / 10**digits:.{digits}f}".removeprefix("0")


def _evidence(lookup: LookupResult, own: bool) -> list[str]:
    assert lookup.p_value is not None  # noqa: S101 - asked for only where there is one
    n, share = lookup.calibration_users, lookup.share_below or 0.0
    compared = f"all {n:,}" if share == 1 else _percent(math.floor(share * 1_000) / 1_000) + " of"
    ground = "" if own else "Under the recorded random split, "
    found = (
        f"{ground}the model's behaviour on this history is more member-like than on {compared} comparable held-out "
        f"users (p = {format_p(lookup.p_value)}, n = {n:,} calibration users)."
    )
    expected = max(1, math.ceil(lookup.p_value * 1_000 - 1e-3))
    if expected < 1_000:
        meaning = (
            f"Of 1,000 such users whose data were not used, about {expected:,} would look at least this member-like."
        )
    else:
        meaning = "Every user whose data were not used would look at least this member-like."
    smallest = ""
    if lookup.p_value * (n + 1) < 1.5:
        smallest = (
            f"This is the smallest p-value that {n:,} calibration users allow; more of them could give a smaller one."
        )
    alike = ""
    if lookup.stratum_p_value is not None:
        alike = (
            "Compared only with held-out users whose histories are about as long and as popular, "
            f"p = {format_p(lookup.stratum_p_value)}."
        )
    return [found[0].upper() + found[1:], meaning, alike, smallest]


def _recorded(role: Role | None, result: AuditResult) -> str:
    if role is None or role.member is None:
        return ""
    if _target(result, "world") == "null":
        return (
            "This audit is a null world: the target was trained on strangers, so nobody audited is in its training data "
            "and every small p-value is a false alarm."
        )
    source = "the lists you gave" if _brought_along(result) else "the recorded split"
    return f"By {source}, this user's data {'trained' if role.member else 'did not train'} the target."


def _strength(lookup: LookupResult, result: AuditResult) -> list[str]:
    """How much the attack can tell at all: without that, neither a small nor a large p-value can be read."""
    auc = result.metric(lookup.attack, "auc")
    if auc is None or auc.low is None or auc.high is None:
        return ["How well this attack tells members from held-out users could not be measured in this audit."]
    if auc.low <= 0.5:
        return [
            "In this audit the attack did not tell members from held-out users, so its score says little about anybody."
        ]
    rate = _smallest_resolved(result, lookup.attack)
    if rate is None or rate.value is None or rate.value == 1:
        return []
    level = _percent(float(rate.metric.removeprefix("tpr_at_fpr_")))
    missed = _percent(1 - rate.value)
    return [
        f"At {level} false positives this attack misses {missed} of the members, so an unremarkable result does not mean "
        "that the data were not used."
    ]


def _limits(role: Role | None, own: bool) -> list[str]:
    exchangeable = (
        "The p-value holds only if this person is exchangeable with the held-out users you listed: drawn from the same "
        "people, in the same way, at the same time. The audit cannot check that."
        if own
        else "A pasted history is comparable only if it was collected like the audited ones: same service, same time, "
        "same kind of actions."
        if role is None
        else ""
    )
    return [
        exchangeable,
        "This is evidence about the model's behaviour. It does not establish that the data were used, nor how they came "
        "there, and it is not the chance that this person is a member: that also depends on how many people are.",
        "Whoever looks up many people must expect one in twenty of those whose data were not used to have p = .05 or less.",
    ]


def _recognised(result: AuditResult, confidence: float) -> str:
    rate = _smallest_resolved(result, result.lead)
    if rate is None or rate.value is None:
        return "There are too few held-out users to say how many members it recognises at 10% false positives or fewer."
    level = _percent(float(rate.metric.removeprefix("tpr_at_fpr_")))
    return (
        f"Where at most {level} of the held-out users may be mistaken for members, it recognises {_percent(rate.value)} "
        f"of the members ({_interval(rate, confidence, '%')})."
    )


def _smallest_resolved(result: AuditResult, attack: str) -> Metric | None:
    rates = (result.metric(attack, f"tpr_at_fpr_{level}") for level in LEVELS)
    return next((rate for rate in rates if rate is not None and rate.value is not None), None)


def _auc(result: AuditResult, attack: str) -> float:
    auc = result.metric(attack, "auc")
    return 0.0 if auc is None or auc.value is None else auc.value


def _brought_along(result: AuditResult) -> bool:
    """Whether nobody here trained the target, so that lists alone say who is a member."""
    return _target(result, "source") not in ("", "fine-tune")


def _target(result: AuditResult, setting: str) -> str:
    return str(result.config.get("target", {}).get(setting, ""))


def _confidence(result: AuditResult) -> float:
    return float(result.config.get("evaluation", {}).get("confidence", 0.95))


def _interval(metric: Metric, confidence: float, unit: str = "") -> str:
    low, high = metric.low or 0.0, metric.high or 0.0
    return f"{100 * confidence:g}% interval {_hundredths(low)}–{_hundredths(high)}{unit}"


def _percent(value: float) -> str:
    return _hundredths(value) + "%"


def _hundredths(value: float) -> str:
    """A share as a number of 100; only what is exactly none or all is shown as 0 or 100."""
    number = 100 * value
    if 1.5 <= number <= 98.5 or number in (0, 100):
        return f"{number:.0f}"
    return f"{min(99.9, max(0.1, number)):.1f}".removesuffix(".0")
