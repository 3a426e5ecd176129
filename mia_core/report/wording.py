"""Results in plain sentences that say no more than was measured. They hold no names, ids or titles from anyone's data.

Sentences and tables of words are written for users; what leaves here is said in the words of the audit's unit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mia_core.attacks.contract import NO_EVIDENCE
from mia_core.evaluate.dependence import Spread
from mia_core.evaluate.discoveries import Posterior, Ratio
from mia_core.report.repeats import Repeats
from mia_core.report.results import AuditResult, CohortResult, Flag, LookupResult, Promise
from mia_core.types import USER, Metric, Role, Unit

ROLE_WORDS = {
    Role.PUBLIC: "third-party user, whose data helped to build this audit",
    Role.KNOWN_MEMBER: "known member, used to build this audit",
    Role.KNOWN_HELD_OUT: "known held-out user, used to build this audit",
    Role.AUDITED_MEMBER: "audited member",
    Role.AUDITED_HELD_OUT: "audited held-out user",
    Role.JUDGED: "judged user",
}
ROLE_NAMES = {
    Role.AUDITED_MEMBER: "audited member",
    Role.AUDITED_HELD_OUT: "audited held-out",
    Role.JUDGED: "judged",
    Role.KNOWN_MEMBER: "known member",
    Role.KNOWN_HELD_OUT: "known held-out",
    Role.PUBLIC: "public",
}
"""Every role where there is no room for more than its name, those that are judged first."""
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
PLAIN_NUMBERS = ("auc", "f1")
"""Figures that are no share of anything."""
GATE_WORDS = {
    "blind": "Blind gate: can membership be told without asking any model?",
    "placebo": "Placebo gate: does the same line find anything where nobody audited is a member?",
    "null": "Null gate: are held-out users of every kind equally likely to look like members?",
}
BOUND_WORDS = {
    "one_run": "one run, coins of all users (Steinke et al. 2023)",
    "f_dp": "one run, if the training is Gaussian-private (Mahloujifar et al. 2025)",
    "clopper_pearson": "exact limits of TPR and FPR (Jagielski et al. 2020)",
}
BOUNDS_IN_SHORT = {"one_run": "one run", "f_dp": "one run, if Gaussian", "clopper_pearson": "TPR and FPR"}
CHANCE_LEVEL = 0.05
"""Attacks whose adjusted p-value is above this are at chance."""
MANY_ATTACKS = (
    "The lead was named before the run and counts. The smallest of many p-values does not: some of them are small by "
    "chance."
)
LEVELS = ("0.001", "0.01", "0.05", "0.1")
COUNTED_WORDS = {
    "audited": "the other audited users, at the threshold fixed on known users",
    "known": "those known members, and the calibration users, who did not fix the threshold",
    "offsets": "those users scored at every offset who did not fix the threshold",
}
"""Whom the update of a prior counts, by `Flag.counted`."""
COUNTED_ASSUMES = {
    "known": (
        "This assumes that a member among the judged would score like the members you listed, and anybody else like the held-out "
        "users. If the listed members are special, such as the oldest customers, it does not hold."
    ),
    "offsets": (
        "This assumes that the history was collected like those of the audited users: same service, same time, same kind of "
        "actions, and as complete."
    ),
}
NEVER_SHOWN = (
    "The audit puts its own users' interactions into the prompt: a pasted history never stands there, and cannot look like a "
    "member's."
)
STATUS_CAVEATS = {
    "published": "This attack follows a published protocol and is shown for comparison.",
    "confounded": (
        "As published, members are served by the recommender and everybody else a list of what is popular. What is told apart "
        "are two ways of serving; it is no evidence that anybody's data was used."
    ),
    "demonstration": (
        "This attack leaks on purpose: it met the very answers it is tested on. Its figures show how results inflate; "
        "they are not evidence about anybody."
    ),
}


class Use(NamedTuple):
    """What it is to be a member of a target: the phrases that every sentence about its use of data takes from here."""

    meaning: str
    people: str
    """People were …, a list of them looks …"""
    does: str
    """Somebody's data …"""
    does_not: str
    place: str
    """Members are …, others are not …"""
    strangers: str
    """What a null world is."""


TRAINED = Use(
    meaning="A member is somebody whose data trained the target.",
    people="trained on",
    does="trained the target",
    does_not="did not train the target",
    place="in the training data",
    strangers="the target was trained on strangers",
)
SHOWN = Use(
    meaning=(
        "Membership here means that the person's interactions stand among the examples in the recommender's prompt; nothing was "
        "trained on them."
    ),
    people="shown in the prompt",
    does="stand among the examples in the target's prompt",
    does_not="do not stand among the examples in the target's prompt",
    place="among the examples in the prompt",
    strangers="the prompt shows strangers alone",
)
SERVED = Use(
    meaning=(
        "Membership here means that the recommender used the person's data: lists alone cannot tell training from other use, "
        "such as looking up a history in order to serve its owner."
    ),
    people="used",
    does="were used by the recommender",
    does_not="were not used by the recommender",
    place="among the data that the recommender used",
    strangers="the recommender used strangers' data alone",
)


def use_of(result: AuditResult) -> Use:
    """What it is to be a member of the target of an audit."""
    return Use(*map(result.unit.say, _use(result)))


def _use(result: AuditResult) -> Use:
    if _target(result, "source") == "lists":
        return SERVED
    return SHOWN if _target(result, "serving") == "prompt" else TRAINED


def _other_use(result: AuditResult) -> str:
    """What membership means, where it is not what a reader takes it for."""
    use = _use(result)
    return "" if use is TRAINED else result.unit.say(use.meaning)


class Claim(NamedTuple):
    """One thing that may be said of many users at once."""

    about: str
    """people, or privacy: how private the training was at best."""
    label: str
    value: str
    sentence: str


def file_size(count: int) -> str:
    """Bytes in words, rounded to three digits or to the whole unit."""
    for unit, bytes_of_unit in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if count >= bytes_of_unit:
            units = count / bytes_of_unit
            return f"{units:,.0f} {unit}" if units >= 100 else f"{units:.3g} {unit}"
    return f"{count} bytes"


def minute(moment: str) -> str:
    """When something was made, to the minute: of a moment as it is kept (ISO 8601, UTC)."""
    return moment[:16].replace("T", " ")


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
        return result.unit.say(f"The lead attack, {title}, has no result: {reason}.")
    confidence = _confidence(result)
    pairs = f"{_hundredths(auc.value)} times in 100 ({_interval(auc, confidence)})"
    caveat = STATUS_CAVEATS.get(lead.status, "") if lead else ""
    if auc.low > 0.5:
        found = f"Given one member and one held-out user, the attack {title} tells them apart {pairs}."
        found = f"{found} {_recognised(result, confidence)}"
    elif auc.high < 0.5:
        found = (
            f"The attack {title} takes held-out users for members: given one of each, it picks the member only {pairs}. "
            "Something other than membership sets the two groups apart; look at the split before using this result."
        )
    else:
        found = (
            f"This audit did not detect membership: given one member and one held-out user, the attack {title} picks the "
            f"member {pairs}, and guessing would give 50. The largest effect compatible with the data is "
            f"{_hundredths(auc.high)} times in 100. Another attack, or more users, may still find something."
        )
    return result.unit.say(" ".join(filter(None, [found, _other_use(result), caveat])))


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
        figure = claims.best_single_feature.rpartition(", ")[2].partition(" on known ")[0]
        told.append(Claim("people", "Best single feature", figure, sentence))
    for bound in claims.privacy:
        sentence = f"Lower bound on ε, by {BOUND_WORDS[bound.method]}: {bound.sentence}"
        told.append(Claim("privacy", f"ε by {BOUNDS_IN_SHORT[bound.method]}", f"≥ {bound.epsilon:.2f}", sentence))
    if result.promise is not None:
        figure = "none" if result.promise.epsilon is None else f"ε ≤ {result.promise.epsilon:.2g}"
        told.append(Claim("privacy", "Promised by the training", figure, _promised(result.promise, result)))
    return [Claim(claim.about, *map(result.unit.say, claim[1:])) for claim in told]


def _promised(promise: Promise, result: AuditResult) -> str:
    whose = "user" if promise.unit == "user" else "window of a user"
    how = (
        f"(noise multiplier {promise.noise_multiplier:.2f}, {promise.steps:,} steps, {_percent(promise.sampling_rate)} of the "
        f"{whose.partition(' ')[0]}s drawn for each)"
    )
    if promise.epsilon is None:
        return (
            f"The training promises no bound on the privacy loss {how}: clipping without noise, or noise without clipping, has "
            "none."
        )
    sentence = (
        f"The training promises ε ≤ {promise.epsilon:.2g} at δ = {promise.delta:.0e} for every {whose} {how}, by the "
        f"{promise.accountant} accountant."
    )
    bound = result.leading_bound
    if promise.unit != "user":
        return f"{sentence} Of a user, who has several windows, that promises less; it is not held against the bounds above."
    if bound is None:
        return sentence
    if result.promise_broken:
        return (
            f"{sentence} That is refuted: this audit proves ε ≥ {bound.epsilon:.2f}. The noise, the clipping or the counting of "
            "steps does not do what the promise assumes."
        )
    return f"{sentence} The audit proves ε ≥ {bound.epsilon:.2f}, which does not contradict it."


def at_chance(result: AuditResult) -> tuple[list[str], list[str]]:
    """(attacks that cannot be told from guessing, attacks that take held-out users for members), by name.

    With the comparisons of the claims, an attack is at chance where its adjusted p-value is above .05; without them,
    where its interval holds 0.5.
    """
    adjusted = {row.attack: row.adjusted_p for row in (result.claims.comparisons if result.claims else [])}
    guessing, reversed_ = [], []
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        if auc is None or auc.low is None or auc.high is None or attack.status in NO_EVIDENCE:
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
    return [result.unit.say(sentence) for sentence in told]


def explain_repeats(repeats: Repeats, result: AuditResult) -> str:
    """How far chance moves the lead's figures, by what other seeds gave; empty where there is nothing to compare."""
    if not result.valid:
        return ""
    auc, rate = repeats.spread.get("auc"), _smallest_resolved(result, result.lead)
    if auc is None:
        return ""
    gave = f"an AUC of {auc.lowest:.3f} to {auc.highest:.3f} (standard deviation {auc.standard_deviation:.3f})"
    if rate is not None and rate.metric in repeats.spread:
        found = repeats.spread[rate.metric]
        some = f", where {found.seeds} of them resolve it" if found.seeds < auc.seeds else ""
        gave += (
            f" and found {_percent(found.lowest)} to {_percent(found.highest)} of the members at "
            f"{_percent(float(rate.metric.removeprefix('tpr_at_fpr_')))} false alarms{some} (standard deviation "
            f"{100 * found.standard_deviation:.1f} percentage points)"
        )
    told = (
        f"Run with {auc.seeds} seeds, this one included, the audit gave {gave}. That is how far chance in "
        f"{chance_in(repeats)} moves these figures; the interval says how far the choice of users does."
    )
    if repeats.refused:
        failed = "1 more run failed its gates and is"
        if len(repeats.refused) > 1:
            failed = f"{len(repeats.refused)} more runs failed their gates and are"
        told += f" {failed} left out."
    return result.unit.say(told)


def no_repeats(repeats: Repeats, result: AuditResult) -> str:
    """What is not known without other seeds; empty where they are there, or where there is no figure to repeat."""
    auc = result.metric(result.lead, "auc")
    if not result.valid or auc is None or auc.value is None or "auc" in repeats.spread:
        return ""
    missing = "No other seed of this audit was run"
    if repeats.refused:
        missing = "This audit was run with other seeds, but none passed the gates"
    return result.unit.say(f"{missing}, so it is not known how far chance in {chance_in(repeats)} moves these figures.")


def chance_in(repeats: Repeats) -> str:
    """What is drawn anew under another seed."""
    return "drawing users, splitting and training" if repeats.redrawn else "splitting and training"


def spread_in_short(metric: str, spread: Spread) -> str:
    """A figure between seeds, short enough to stand below it."""
    plain = metric in PLAIN_NUMBERS
    shown = ".3f" if plain else ".0%"
    deviation = f"{spread.standard_deviation:.3f}" if plain else f"{100 * spread.standard_deviation:.1f} points"
    limits = f"{spread.lowest:{shown}}–{spread.highest:{shown}}"
    return f"{spread.seeds} seeds {limits}, standard deviation {deviation}"


def explain_role(role: str, result: AuditResult) -> str:
    """What one user is for in this audit; an empty role is a pasted history's."""
    say, use = result.unit.say, use_of(result)
    if not role:
        return say("a pasted history, no user of this audit")
    known = Role(role)
    if known is Role.JUDGED:
        return say(f"judged user: nobody here knows whether these data {use.does}")
    if known.member is None or _target(result, "world") == "null":
        return say(ROLE_WORDS[known])
    return say(f"{ROLE_WORDS[known]}: {'' if known.member else 'not '}{use.place}")


def explain_metric(metric: Metric, confidence: float = 0.95, unit: Unit = USER) -> str:
    """One figure in one plain sentence, with its interval, or why there is none."""
    return unit.say(_explain_metric(metric, confidence))


def _explain_metric(metric: Metric, confidence: float) -> str:
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
        allowed = f"Where at most {level} of the held-out users may be mistaken for members"
        found = f"{allowed}, it recognises {percent} of the members."
        if metric.fpr_limit is None:
            return found
        limit = f"{percent_at_most(metric.fpr_limit)} ({100 * confidence:g}% upper limit)"
        return f"{found} Of further users like the held-out ones it may mistake up to {limit}."
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
    role = Role(lookup.role) if lookup.role else None
    status = next((attack.status for attack in result.attacks if attack.name == lookup.attack), "")
    sentences = [_recorded(role, result), lookup.reason[:1].upper() + lookup.reason[1:]]
    if lookup.p_value is not None:
        sentences += _evidence(lookup, result.brought)
    if lookup.score is not None:
        sentences += [STATUS_CAVEATS.get(status, ""), *_strength(lookup, result)]
    if lookup.share_used is not None:
        share, low, high = (_percent(part) for part in lookup.share_used)
        sentences.append(
            f"Of this user's {lookup.windows} windows of interactions an estimated {share} were used ({low} to {high}). With so "
            "few windows this is rough; it assumes that used windows look like those of known members."
        )
    if lookup.p_value is not None:
        sentences += _limits(role, result)
    return [result.unit.say(sentence) for sentence in sentences if sentence]


def explain_posterior(flag: Flag, ratio: Ratio, found: Posterior, confidence: float, unit: Unit = USER) -> list[str]:
    """What the attack's verdict makes of the prior that the reader chose."""
    flagged = "flagged" if flag.flagged else "not flagged"
    prior, limits = _percent(found.prior), f"{100 * confidence:g}% limits"
    told = [_counted(flag)]
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
    told += [COUNTED_ASSUMES[flag.counted]] if flag.counted in COUNTED_ASSUMES else []
    told.append(
        f"The {prior} are the reader's choice: no audit can supply them, and the limits do not cover a wrong choice. Everything "
        "else known of this person belongs into the prior."
    )
    return [unit.say(sentence) for sentence in told]


def no_posterior(lookup: LookupResult, result: AuditResult) -> str:
    """Why a prior cannot be brought up to date by this evidence; empty where it can."""
    return result.unit.say(_no_posterior(lookup, result))


def _no_posterior(lookup: LookupResult, result: AuditResult) -> str:
    if not result.valid:
        return "No prior can be brought up to date: a gate of this audit failed."
    if lookup.role and (Role(lookup.role).known or Role(lookup.role) is Role.PUBLIC):
        return "No prior is needed: the audit was built with this user, whose part in it is on record."
    if lookup.score is None:
        return "No prior can be brought up to date: there is no score."
    if not lookup.role and _use(result) is SHOWN:
        return f"No prior can be brought up to date. {NEVER_SHOWN}"
    if not lookup.role and result.brought:
        return (
            "No prior can be brought up to date by a pasted history here: the only members anybody knows are those whom the "
            "attack learned from. Scored like the history, at every offset, they would show what it learned of them."
        )
    if lookup.flag is None:
        return "No prior can be brought up to date: too few members or held-out users have a score to count on."
    return ""


def _counted(flag: Flag) -> str:
    """The verdict, where its threshold comes from, and how often it falls on others."""
    verdict = f"the attack {'flags' if flag.flagged else 'does not flag'} this person"
    hits, alarms = f"{flag.hits:,} of {flag.members:,}", f"{flag.alarms:,} of {flag.held_out:,}"
    if flag.counted == "known":
        return (
            f"At a threshold fixed on known held-out users and a random half of the known members, {verdict}. It flags {hits} "
            "members of the other half, each scored by attacks that were not fitted on them, and "
            f"{alarms} held-out users, who were kept for calibration."
        )
    if flag.counted == "offsets":
        return (
            f"At a threshold fixed on a random half of the users who were scored like this history, at every offset, {verdict}. "
            f"Of the other half it flags {hits} members and {alarms} held-out users."
        )
    return (
        f"At its threshold, fixed on known users, {verdict}. Of the others it flags {hits} audited members and {alarms} held-out "
        "users."
    )


def explain_cohort(found: CohortResult, result: AuditResult) -> list[str]:
    """What can be said of a list of users together; the first sentence is the answer."""
    if not result.valid:
        failed = " and ".join(f"the {gate.name} gate" for gate in result.gates if not gate.passed)
        return [f"This audit is not valid: {failed} failed, so nothing can be said of this list either."]
    use = use_of(result)
    told = [_collection(found, use)]
    lead = next((attack.title for attack in result.attacks if attack.name == result.lead), result.lead)
    if found.share is not None:
        told.append(
            f"By the attack {lead}, an estimated {_percent(found.share)} of the list was {use.people} "
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
            f"The same estimate on the {found.control_users:,} control users, none of whom was {use.people}, gives "
            f"{_percent(found.control_share)}; the nearer to 0, the better it can be trusted."
        )
    if found.recorded_members is not None:
        told.append(
            f"By the audit's own record {found.recorded_members:,} of the {found.listed:,} listed users "
            f"({_percent(found.recorded_members / found.listed)}) are members."
        )
    return [result.unit.say(sentence) for sentence in told]


def cohort_limits(found: CohortResult, result: AuditResult) -> list[str]:
    """What an answer about a list does not establish, and what it rests on."""
    people = use_of(result).people
    told = []
    if found.differences:
        told.append(
            f"The list and the control users differ in {' and '.join(found.differences)}. A difference in scores may come "
            "from that instead of from membership: take a list of like users, or read the answer as no evidence."
        )
    told += [
        "The answer rests on the control users being drawn from the same people in the same way. Users of another period, "
        f"source or country score differently without having been {people}, and the test cannot see that.",
        "The list must have been drawn up without looking at this audit's scores: one that was picked by score looks "
        f"{people}, whoever is on it.",
        f"It speaks of the list as a whole. It does not say which of its users were {people}, nor how their data came there.",
        *filter(None, [_other_use(result)]),
    ]
    if found.p_value is not None and found.p_value > CHANCE_LEVEL:
        told.append(
            "A large p-value does not establish that the list was left out: few users or a weak attack look the same."
        )
    return [result.unit.say(sentence) for sentence in told]


def _collection(found: CohortResult, use: Use) -> str:
    if found.p_value is None or found.effect is None:
        return f"Whether this list was {use.people} cannot be tested: too few of its users or of the control users have scores."
    p = "p < .0001" if found.p_value < 1e-4 else f"p = {format_p(found.p_value)}"
    size = f"{abs(found.effect):.1f} standard deviations {'higher' if found.effect >= 0 else 'lower'} than"
    if abs(found.effect) < 0.05:
        size = "about the same as"
    attacks = f"{len(found.attacks)} attack{'s' if len(found.attacks) > 1 else ''} together"
    compared = f"on {attacks}, its {found.scored:,} users score {size} {found.control_users:,} control users ({p})."
    if found.p_value <= CHANCE_LEVEL:
        return f"Taken together, this list looks {use.people}: {compared}"
    return f"Nothing shows that this list was {use.people}: {compared}"


def percent_at_most(value: float) -> str:
    """An upper limit as people print it: "2.1%", never smaller than it is."""
    return f"{math.ceil(1_000 * value - 1e-6) / 10:g}%"


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
    use = use_of(result)
    if _target(result, "world") == "null":
        return (
            f"This audit is a null world: {use.strangers}, so nobody audited is {use.place} and every small p-value is a false "
            "alarm."
        )
    source = "the lists you gave" if result.brought else "the recorded split"
    return f"By {source}, this user's data {use.does if role.member else use.does_not}."


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


def _limits(role: Role | None, result: AuditResult) -> list[str]:
    exchangeable = (
        "The p-value holds only if this person is exchangeable with the held-out users you listed: drawn from the same "
        "people, in the same way, at the same time. The audit cannot check that."
        if result.brought
        else NEVER_SHOWN
        if role is None and _use(result) is SHOWN
        else "A pasted history is comparable only if it was collected like the audited ones: same service, same time, "
        "same kind of actions."
        if role is None
        else ""
    )
    return [
        exchangeable,
        _other_use(result),
        "This is evidence about the model's behaviour. It does not establish that the data were used, nor how they came "
        "there, and it is not the chance that this person is a member: that also depends on how many people are.",
        "Whoever looks up many people must expect one in twenty of those whose data were not used to have p = .05 or less.",
    ]


def _recognised(result: AuditResult, confidence: float) -> str:
    rate = _smallest_resolved(result, result.lead)
    if rate is None or rate.value is None:
        return "There are too few held-out users to say how many members it recognises at 10% false positives or fewer."
    level = _percent(float(rate.metric.removeprefix("tpr_at_fpr_")))
    limit = ""
    if rate.fpr_limit is not None:
        limit = f" ({100 * confidence:g}% upper limit {percent_at_most(rate.fpr_limit)})"
    return (
        f"Where at most {level} of the held-out users may be mistaken for members{limit}, it recognises "
        f"{_percent(rate.value)} of the members ({_interval(rate, confidence, '%')})."
    )


def _smallest_resolved(result: AuditResult, attack: str) -> Metric | None:
    rates = (result.metric(attack, f"tpr_at_fpr_{level}") for level in LEVELS)
    return next((rate for rate in rates if rate is not None and rate.value is not None), None)


def _auc(result: AuditResult, attack: str) -> float:
    auc = result.metric(attack, "auc")
    return 0.0 if auc is None or auc.value is None else auc.value


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


EVIDENCE_OF_INTERACTIONS = {
    "popularity": "by how popular the item is",
    "history": "by where it stands with a member who is served by their history",
    "own vector": "by where it stands with a member who is served by their trained vector",
}


def interaction_sentences(result: AuditResult) -> list[str]:
    """What is known of single interactions; none where it was not asked."""
    level = f"{100 * float(result.config['evaluation']['confidence']):g}%"
    return [
        "Of one item of a member that training used and one that it did not, the used one is told "
        f"{EVIDENCE_OF_INTERACTIONS[found.evidence]} {100 * found.auc:.0f} times in 100 ({level} interval "
        f"{100 * found.low:.0f}–{100 * found.high:.0f}, {found.users:,} members); guessing would give 50."
        for found in result.interactions
    ]


def erased_sentence(persons: int) -> str:
    """What must be read with a result after somebody was erased."""
    who = "One person was" if persons == 1 else f"{persons} persons were"
    return (
        f"{who} erased after this was computed. The figures stand as computed, with them; they are in no table any more, and the "
        "data and models are gone."
    )


def erased_mark(persons: int) -> str:
    """What stands behind a result's name after somebody was erased: the one with them may have the same name."""
    return f" ({'one person' if persons == 1 else f'{persons} persons'} erased since)" if persons else ""


PSEUDONYMISED = (
    "Users go by pseudonyms here, which only the key in the home folder can trace back; a lookup takes the real id. What each of "
    "them had, and the data and models, are gone, so that no history can be looked up and nothing be left out."
)
"""What must be read with an audit whose ids gave way to pseudonyms."""
